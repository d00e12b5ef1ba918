//! What a person may do with the queue. Each verb is persisted and on the ledger with who, when and why, in batches so
//! small that commits are never stalled. A job that a worker has in hand is left alone.
use super::Spool;
use super::admit::{add_job, displace, forget, place, queued, rename, undecided};
use super::commitment::{Pledge, gone};
use super::db::Cf;
use super::keys;
use super::leaving;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, HoldKind, HoldReason, JobKey, NewJob, ReadError};
use super::query::{Filter, Row, find, walk};
use super::record::JobRecord;
use super::settle::{end, retire};
use super::txn::{Effect, SUSPENDED, Txn, encode_number, meta_key};
use super::wait;
use super::witness;
use crate::base::fault::{Plant, planted};
use crate::base::names::{DestinationId, InstanceId, JobId};

/// Jobs in one batch of a verb.
const BATCH: usize = 1_000;

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
    /// To another destination, due now. Jobs whose instance has a job there already stay.
    Reroute(DestinationId),
    /// Ends the job without delivery. The only way out of the spool but confirmation.
    Discard,
}

/// How many jobs a verb met, and how many of them it changed (the others were in flight or not in a state for it).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Acted {
    pub matched: u64,
    pub changed: u64,
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
                acted.changed += self.submit(move |txn| batch(txn, &rows, &order)).await?;
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

    /// Replaces a held job by what the rules of today decide. Deliveries that the same content has already (open or
    /// confirmed, of this instance or of a repeated send) are left out; when a repeated send has them all, the job ends, and
    /// the payload becomes cache. An empty list leaves one undecided job. Answers the new jobs.
    ///
    /// # Errors
    /// `Gone`: there is no such job, or it is not held.
    pub async fn redecide(
        &self,
        job: JobId,
        jobs: Vec<NewJob>,
        rule_epoch: u64,
        who: &str,
    ) -> Result<Vec<JobId>, CommitError> {
        let core = self.core.clone();
        let found = self.read(move |db| find(&core, db, job)).await;
        let key = found.map_err(|_| CommitError::GateLatched)?.ok_or(CommitError::Gone)?;
        let who = who.to_owned();
        self.submit(move |txn| redecide(txn, key, jobs, rule_epoch, &who)).await
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

pub(super) fn batch(txn: &mut Txn<'_>, keys: &[JobKey], order: &Order) -> Result<u64, CommitError> {
    let mut changed = 0;
    for key in keys {
        changed += u64::from(one(txn, *key, order)?);
    }
    Ok(changed)
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

/// One job. `false`: left as it was.
fn one(txn: &mut Txn<'_>, key: JobKey, order: &Order) -> Result<bool, CommitError> {
    if reserve(txn, key).is_err() {
        return Ok(false);
    }
    let Some(mut job) = txn.job(key)? else {
        return Ok(false);
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
        Verb::Hold | Verb::Release | Verb::Retry => return Ok(false),
    }
    Ok(true)
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

fn reroute(txn: &mut Txn<'_>, key: JobKey, mut job: JobRecord, fact: Fact) -> Result<bool, CommitError> {
    let dest = txn.number(fact.destination.as_ref());
    if has_job(txn, job.instance, dest)? {
        return Ok(false);
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
    job.hold = None;
    job.pledge = Pledge::default();
    job.attempts = 0;
    job.due = txn.now;
    job.outcome.clear();
    // A person has chosen: neither the study nor another destination has a say any more.
    (job.quiet, job.failover) = (None, None);
    queued(txn, job.instance, to);
    leaving::hold_taken(txn, to, &mut job)?;
    place(txn, to, &job);
    if let Some(record) = txn.instance(job.instance)? {
        rename(txn, &record.instance.sop_instance, key, &[to])?;
    }
    Ok(true)
}

pub(super) fn has_job(txn: &Txn<'_>, instance: InstanceId, dest: u32) -> Result<bool, CommitError> {
    let prefix = [&instance.0[..], &dest.to_be_bytes()].concat();
    Ok(!txn.keys(Cf::Ref, &prefix, 1)?.is_empty())
}

fn has_any_job(txn: &Txn<'_>, instance: InstanceId, dests: &[u32]) -> Result<bool, CommitError> {
    for dest in dests {
        if has_job(txn, instance, *dest)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn redecide(
    txn: &mut Txn<'_>,
    key: JobKey,
    jobs: Vec<NewJob>,
    rule_epoch: u64,
    who: &str,
) -> Result<Vec<JobId>, CommitError> {
    reserve(txn, key).map_err(|()| CommitError::Gone)?;
    let job = txn.job(key)?.ok_or(CommitError::Gone)?;
    if job.hold.is_none() {
        return Err(CommitError::Gone);
    }
    let mut record = txn.instance(job.instance)?.ok_or(CommitError::Damaged)?;
    displace(txn, key, &job);
    txn.delete(Cf::Job, keys::job(key));
    txn.delete(Cf::Ref, keys::reference(job.instance, key));
    let name = txn.name(key.dest);
    txn.fact(
        Fact::new(FactKind::Redecided)
            .instance(job.instance)
            .job(key.job, name)
            .who(who),
    );
    let seen = txn.seen(&record.instance.sop_instance)?;
    let same = seen.entries.iter().find(|entry| entry.digest == record.instance.digest);
    let (mut added, mut repeated) = (Vec::new(), false);
    let none_named = jobs.is_empty();
    for new in jobs {
        let new = wait::shared_out(new, txn);
        let dest = txn.number(new.destination.as_ref());
        let served_by = wait::served_by(dest, &new, txn);
        if same.is_some_and(|entry| served_by.iter().any(|dest| entry.serves(*dest, key))) {
            repeated = true;
            continue;
        }
        let confirmed = record
            .done
            .iter()
            .any(|done| served_by.contains(&done.dest) && done.status.is_some());
        if !confirmed && !has_any_job(txn, job.instance, &served_by)? {
            let mut new = new;
            let taken = leaving::taken(txn, &record.instance.sop_instance, dest, &new.plan)?;
            new.hold = leaving::with(taken, new.hold.take());
            let id = add_job(txn, job.instance, dest, new);
            added.push(JobKey { dest, job: id });
        }
    }
    // Nothing left to do is an end only when the other deliveries exist; otherwise the instance would be lost.
    let others = !txn.keys(Cf::Ref, &job.instance.0, 1)?.is_empty();
    let served = others || repeated || record.done.iter().any(|done| done.status.is_some());
    if added.is_empty() && (none_named || !served) {
        let new = undecided(HoldKind::NoDestination, "no destination was named", txn);
        let id = add_job(txn, job.instance, keys::UNDECIDED, new);
        added.push(JobKey {
            dest: keys::UNDECIDED,
            job: id,
        });
    }
    record.instance.rule_epoch = rule_epoch;
    txn.put_instance(&record);
    rename(txn, &record.instance.sop_instance, key, &added)?;
    if added.is_empty() && !others {
        txn.fact(Fact::new(FactKind::Repeated).instance(job.instance).who(who));
        retire(txn, &mut record);
        txn.put_instance(&record);
    }
    Ok(added.into_iter().map(|key| key.job).collect())
}
