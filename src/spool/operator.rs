//! What a person may do with the queue. Each verb is persisted and on the ledger with who, when and why, in batches so
//! small that commits are never stalled. A job that a worker has in hand is left alone.
use super::Spool;
use super::admit::{displace, forget, place, queued};
use super::commitment::{Pledge, gone};
use super::db::Cf;
use super::keys;
use super::leaving;
use super::ledger::{self, Fact, FactKind};
use super::model::{CommitError, HoldKind, HoldReason, JobKey, ReadError};
use super::moved;
use super::query::{Filter, Row, walk};
use super::record::{InstanceRecord, JobRecord};
use super::settle::end;
use super::txn::{Effect, SUSPENDED, Txn, decode_number, encode_number, meta_key};
use super::witness;
use crate::base::clock::Wall;
use crate::base::fault::{Plant, planted};
use crate::base::names::{DestinationId, InstanceId, JobId};

/// Jobs in one batch of a verb.
const BATCH: usize = 1_000;

/// Lines of the ledger that are looked at for the one of a suspension: it is the first, unless the clock was put back.
const LOOKED_MAX: usize = 1_000;

/// What to do with jobs.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Queued jobs wait for a person.
    Hold,
    /// Held jobs with a destination are queued again, due now, their attempts forgotten.
    Release,
    /// Queued jobs are due now; those held because the destination refused are released.
    Retry,
    /// To another destination, due now, and free of what the former one's answers had held it for. What holds it on purpose goes
    /// with it. Jobs of a content that has a job there already, or was delivered there, stay.
    Reroute(DestinationId),
    /// Ends the job without delivery. The only way out of the spool but confirmation.
    Discard,
}

/// How many jobs a verb met, and how many of them it changed (the others were in flight or not in a state for it).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Acted {
    pub matched: u64,
    pub changed: u64,
    /// Of `changed`: moved by a reroute, and held all the same.
    pub held: u64,
}

/// Who asked, and why: for the ledger.
#[derive(Clone)]
pub(super) struct Order {
    pub verb: Verb,
    pub who: String,
    pub reason: String,
}

impl Spool {
    /// Does a verb to all matching jobs, or only counts them. Dropped half-way, the batches so far stay done.
    ///
    /// # Errors
    /// `Gone`: a discard without a reason. Otherwise the index cannot be read or written; what was done stays done.
    pub async fn act(
        &self,
        filter: Filter,
        verb: Verb,
        who: &str,
        reason: &str,
        dry_run: bool,
    ) -> Result<Acted, CommitError> {
        if verb == Verb::Discard && !dry_run && reason.trim().is_empty() {
            return Err(CommitError::Gone);
        }
        let order = Order {
            verb,
            who: who.to_owned(),
            reason: reason.to_owned(),
        };
        let mut acted = Acted::default();
        let mut after: Option<String> = None;
        // What is added while the verb runs (a reroute's own new jobs) is not met again.
        let newest = self.next_job().await?;
        loop {
            let (rows, last) = self.page(filter.clone(), after, newest).await?;
            acted.matched += rows.len() as u64;
            if !dry_run && !rows.is_empty() {
                let order = order.clone();
                let done = self.submit(move |txn| batch(txn, &rows, &order)).await?;
                acted.changed += done.changed;
                acted.held += done.held;
            }
            match last {
                Some(cursor) => after = Some(cursor),
                None => break,
            }
        }
        if !dry_run {
            let word = order.verb.word();
            self.core.metrics.queue_verbs_total.with_label_values(&[word]).inc();
        }
        Ok(acted)
    }

    /// The number that the next job gets.
    ///
    /// # Errors
    /// The index takes nothing.
    pub async fn next_job(&self) -> Result<u64, CommitError> {
        self.submit(|txn| Ok(txn.book.next_job)).await
    }

    /// The next jobs to act on; the cursor is `None` when there are no more.
    async fn page(
        &self,
        filter: Filter,
        after: Option<String>,
        newest: u64,
    ) -> Result<(Vec<JobKey>, Option<String>), CommitError> {
        let core = self.core.clone();
        let page = self.read(move |db| {
            let (mut keys, mut last) = (Vec::new(), None);
            walk(&core, db, &filter, after.as_deref(), |row: Row| {
                if row.job.0 < newest {
                    keys.push(row.key);
                }
                last = Some(row.cursor);
                keys.len() < BATCH
            })?;
            let more = keys.len() == BATCH;
            Ok((keys, last.filter(|_| more)))
        });
        page.await.map_err(|error| match error {
            ReadError::Deadline => CommitError::Deadline,
            ReadError::Gone
            | ReadError::Missing
            | ReadError::Corrupt
            | ReadError::Unreadable(_)
            | ReadError::Io
            | ReadError::GateLatched => CommitError::GateLatched,
        })
    }

    /// Stops claims for a destination until `resume`; persisted.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn suspend(&self, destination: &DestinationId, who: &str, reason: &str) -> Result<(), CommitError> {
        self.set_suspended(destination, who, reason, true).await
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn resume(&self, destination: &DestinationId, who: &str, reason: &str) -> Result<(), CommitError> {
        self.set_suspended(destination, who, reason, false).await
    }

    /// The line of the ledger by which a destination was suspended: since when, by whom and why. `None`: it is not suspended, or the ledger
    /// tells no more of it.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn suspension(&self, destination: &DestinationId) -> Result<Option<Fact>, ReadError> {
        let destination = destination.clone();
        self.read(move |db| {
            let Some(raw) = db.get(Cf::Meta, &meta_key(SUSPENDED, destination.as_str()))? else {
                return Ok(None);
            };
            // It was written down in the batch of its line, which may bear a later time when the clock was put back.
            let since = Wall(decode_number(&raw).unwrap_or(0));
            let (mut found, mut looked) = (None, 0);
            db.scan(Cf::Ledger, &keys::ledger(since, 0), &[], |_, value| {
                looked += 1;
                found = ledger::decode(value)
                    .ok()
                    .map(|(_, fact)| fact)
                    .filter(|fact| fact.kind == FactKind::Suspended && fact.destination.as_ref() == Some(&destination));
                found.is_none() && looked < LOOKED_MAX
            })?;
            Ok(found)
        })
        .await
    }

    /// Whether a destination is suspended.
    #[must_use]
    pub fn is_suspended(&self, destination: &DestinationId) -> bool {
        self.core.lanes.get(destination).is_some_and(|lane| lane.suspended())
    }

    /// Writes on the ledger that rules were put in force: which, and who ordered it.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn rules_changed(&self, who: &str, text: &str) -> Result<(), CommitError> {
        let (who, text) = (who.to_owned(), text.to_owned());
        self.submit(move |txn| {
            txn.fact(Fact::new(FactKind::Rules).who(&who).text(text));
            Ok(())
        })
        .await
    }

    /// Puts on the ledger that an instance was converted for a destination.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn converted(
        &self,
        instance: InstanceId,
        (job, to): (JobId, &DestinationId),
        text: String,
    ) -> Result<(), CommitError> {
        let to = to.clone();
        self.submit(move |txn| {
            let fact = Fact::new(FactKind::Converted).instance(instance).job(job, Some(to));
            txn.fact(fact.text(text));
            Ok(())
        })
        .await
    }

    async fn set_suspended(&self, to: &DestinationId, who: &str, reason: &str, on: bool) -> Result<(), CommitError> {
        let (to, who, reason) = (to.clone(), who.to_owned(), reason.to_owned());
        let verb = if on { "suspend" } else { "resume" };
        self.core.metrics.queue_verbs_total.with_label_values(&[verb]).inc();
        self.submit(move |txn| {
            set_suspended(txn, &to, (&who, &reason), on);
            Ok(())
        })
        .await
    }
}

impl Verb {
    /// The word of the metric and the ledger.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Reroute(_) => "reroute",
            Self::Discard => "discard",
        }
    }
}

/// Suspends or resumes a destination, in the batch and on the ledger.
pub(super) fn set_suspended(txn: &mut Txn<'_>, to: &DestinationId, (who, reason): (&str, &str), on: bool) {
    let number = txn.number(Some(to));
    let key = meta_key(SUSPENDED, to.as_str());
    let destination = to.clone();
    txn.effects.push(Effect::Order(match on {
        true => witness::Order::Suspended {
            destination,
            since: txn.now.0,
        },
        false => witness::Order::Resumed { destination },
    }));
    if !on {
        txn.delete(Cf::Meta, key);
    } else if !planted(Plant::ForgetSuspension) {
        let since = encode_number(txn.now.0);
        txn.put(Cf::Meta, key, since);
    }
    txn.effects
        .extend(txn.lane(number).map(|lane| Effect::Suspended(lane, on)));
    let mut fact = Fact::new(if on { FactKind::Suspended } else { FactKind::Resumed });
    fact.destination = Some(to.clone());
    txn.fact(fact.who(who).text(reason));
}

/// Does a verb to these jobs; answers `matched` too.
pub(super) fn batch(txn: &mut Txn<'_>, keys: &[JobKey], order: &Order) -> Result<Acted, CommitError> {
    let mut acted = Acted {
        matched: keys.len() as u64,
        ..Acted::default()
    };
    for key in keys {
        let deed = one(txn, *key, order)?;
        acted.changed += u64::from(deed != Deed::Left);
        acted.held += u64::from(deed == Deed::MovedHeld);
    }
    Ok(acted)
}

/// What a verb did to a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Left,
    Changed,
    /// Rerouted, and held there.
    MovedHeld,
}

/// Keeps a job from the workers until the batch is durable; `Err` when one has it now.
pub(super) fn reserve(txn: &mut Txn<'_>, key: JobKey) -> Result<(), ()> {
    let Some(lane) = txn.lane(key.dest) else {
        return Ok(());
    };
    if let Some(guard) = lane.reserve(key.job) {
        txn.effects.push(Effect::Return(guard));
        return Ok(());
    }
    // Two verbs in one batch: what the first one holds is as good.
    let ours = |effect: &Effect| matches!(effect, Effect::Return(guard) if !guard.is_worker() && guard.key() == key);
    if txn.effects.iter().any(ours) { Ok(()) } else { Err(()) }
}

/// One job.
fn one(txn: &mut Txn<'_>, key: JobKey, order: &Order) -> Result<Deed, CommitError> {
    if reserve(txn, key).is_err() {
        return Ok(Deed::Left);
    }
    let Some(mut job) = txn.job(key)? else {
        return Ok(Deed::Left);
    };
    let undecided = key.dest == keys::UNDECIDED;
    let kind = job.hold.as_ref().map(|(_, reason)| reason.kind);
    let fact = |kind, name| {
        let fact = Fact::new(kind).instance(job.instance).job(key.job, name);
        fact.who(&order.who).text(order.reason.clone())
    };
    let name = txn.name(key.dest);
    match &order.verb {
        // What its destination has already cannot be held back.
        Verb::Hold if kind.is_none() && job.pledge.sent.is_none() => {
            txn.fact(fact(FactKind::Held, name));
            displace(txn, key, &job);
            job.hold = Some((txn.now, HoldReason::new(HoldKind::Operator, order.reason.clone())));
            place(txn, key, &job);
        }
        Verb::Release if kind.is_some() && !undecided => {
            txn.fact(fact(FactKind::Released, name));
            leaving::let_go(txn, key, &job)?;
            requeue(txn, key, job);
        }
        Verb::Retry
            if kind.is_none()
                || matches!(
                    kind,
                    Some(HoldKind::Refused | HoldKind::Parked | HoldKind::NotCommitted)
                ) =>
        {
            txn.fact(fact(FactKind::Released, name));
            requeue(txn, key, job);
        }
        Verb::Reroute(to) => {
            let fact = fact(FactKind::Rerouted, Some(to.clone()));
            return reroute(txn, key, job, fact);
        }
        Verb::Discard => {
            txn.fact(fact(FactKind::Discarded, name));
            displace(txn, key, &job);
            end(txn, key, &job, None)?;
            if let Some(record) = txn.instance(job.instance)?
                && forget(txn, &record.instance, key)?
                && record.delivered
            {
                gone::remember(txn, &record);
            }
        }
        Verb::Hold | Verb::Release | Verb::Retry => return Ok(Deed::Left),
    }
    Ok(Deed::Changed)
}

fn requeue(txn: &mut Txn<'_>, key: JobKey, mut job: JobRecord) {
    displace(txn, key, &job);
    if job.hold.take().is_some() {
        job.attempts = 0;
    }
    job.pledge = Pledge::default();
    // Who lets a job go wants it to go now.
    job.due = txn.now;
    job.quiet = None;
    place(txn, key, &job);
}

fn reroute(txn: &mut Txn<'_>, key: JobKey, mut job: JobRecord, fact: Fact) -> Result<Deed, CommitError> {
    let dest = txn.number(fact.destination.as_ref());
    let record = txn.instance(job.instance)?;
    if has_job(txn, job.instance, dest)? || has_content(txn, record.as_ref(), dest, key)? {
        return Ok(Deed::Left);
    }
    txn.fact(fact);
    displace(txn, key, &job);
    txn.delete(Cf::Job, keys::job(key));
    txn.delete(Cf::Ref, keys::reference(job.instance, key));
    let to = JobKey {
        dest,
        job: txn.new_job(),
    };
    txn.put(Cf::Ref, keys::reference(job.instance, to), Vec::new());
    let undecided = key.dest == keys::UNDECIDED;
    job.hold = job
        .hold
        .filter(|(_, reason)| !ends_with_reroute(reason.kind, undecided));
    job.pledge = Pledge::default();
    job.attempts = 0;
    job.due = txn.now;
    job.outcome.clear();
    // A person has chosen: neither the study nor another destination has a say any more.
    (job.quiet, job.failover) = (None, None);
    queued(txn, job.instance, to);
    let told = leaving::hold_taken(txn, to, &mut job)?;
    if let Some((_, reason)) = job.hold.as_ref().filter(|_| !told) {
        let fact = Fact::new(FactKind::Held).instance(job.instance);
        let fact = fact.job(to.job, txn.name(dest));
        txn.fact(fact.text(format!("{}: {}", reason.kind.word(), reason.text)));
    }
    place(txn, to, &job);
    if let Some(record) = record {
        moved::rerouted(txn, &record.instance, key, to)?;
    }
    Ok(if job.hold.is_some() {
        Deed::MovedHeld
    } else {
        Deed::Changed
    })
}

/// Whether a reroute ends a hold: its destination's answer, or that no destination was decided on (`undecided`). All else was
/// meant for the image, wherever it goes.
pub(super) fn ends_with_reroute(kind: HoldKind, undecided: bool) -> bool {
    match kind {
        HoldKind::Refused | HoldKind::Parked | HoldKind::NotCommitted | HoldKind::Conversion => true,
        HoldKind::Error | HoldKind::Budget | HoldKind::NoDestination | HoldKind::Edit | HoldKind::Recovered => {
            undecided
        }
        HoldKind::Rule
        | HoldKind::Conflict
        | HoldKind::Corrupt
        | HoldKind::Operator
        | HoldKind::Doubtful
        | HoldKind::Incomplete => false,
    }
}

/// Whether a destination has confirmed an instance, or gets the same content by another job than `but`.
pub(super) fn has_content(
    txn: &mut Txn<'_>,
    record: Option<&InstanceRecord>,
    dest: u32,
    but: JobKey,
) -> Result<bool, CommitError> {
    let Some(InstanceRecord { instance, done, .. }) = record else {
        return Ok(false);
    };
    let confirmed = done.iter().any(|done| done.dest == dest && done.status.is_some());
    let seen = txn.seen(&instance.sop_instance)?;
    let mut same = seen.entries.iter().filter(|entry| entry.digest == instance.digest);
    Ok(confirmed || same.any(|entry| entry.serves(dest, but)))
}

pub(super) fn has_job(txn: &Txn<'_>, instance: InstanceId, dest: u32) -> Result<bool, CommitError> {
    let prefix = [&instance.0[..], &dest.to_be_bytes()].concat();
    Ok(!txn.keys(Cf::Ref, &prefix, 1)?.is_empty())
}
