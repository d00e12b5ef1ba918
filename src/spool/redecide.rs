//! A held job, decided anew by the rules of today: after a person's order (`control/decide.rs`), and after a rebuild.
use super::Spool;
use super::admit::{add_job, displace, undecided};
use super::commitment::gone;
use super::db::Cf;
use super::keys;
use super::leaving;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, HoldKind, Instance, JobKey, NewJob};
use super::moved::{self, rename};
use super::operator::{ends_with_reroute, reserve};
use super::query::find;
use super::record::{InstanceRecord, SeenRecord};
use super::settle::retire;
use super::txn::Txn;
use super::wait;
use crate::base::names::JobId;

/// Why nothing comes of what the rules name.
const TURNED_AWAY: &str = "a person discarded it for the destinations that the rules name, or rerouted it away from them; reroute it, or discard it";

impl Spool {
    /// Replaces a held job by what the rules of today decide. Deliveries that the same content has already (open or
    /// confirmed, of this instance or of a repeated send) are left out; when a repeated send has them all, the job ends, and
    /// the payload becomes cache. What a person discarded for a destination, or rerouted away from it, is left out too. An empty
    /// list leaves one undecided job, and so does one of which a person's word leaves nothing. Answers the new jobs.
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
        self.decided(job, Decision::by_rules(jobs, rule_epoch, who)).await
    }

    /// As `redecide`, of a job without destination and for the destination that a person has chosen: `jobs` are what the rules make
    /// for that one. What was meant for the image, wherever it goes, holds it there too; and there it stays, whatever is decided later.
    ///
    /// # Errors
    /// As `redecide`.
    pub async fn reroute_undecided(
        &self,
        job: JobId,
        jobs: Vec<NewJob>,
        rule_epoch: u64,
        who: &str,
    ) -> Result<Vec<JobId>, CommitError> {
        let decision = Decision {
            is_reroute: true,
            ..Decision::by_rules(jobs, rule_epoch, who)
        };
        self.decided(job, decision).await
    }

    async fn decided(&self, job: JobId, decision: Decision) -> Result<Vec<JobId>, CommitError> {
        let core = self.core.clone();
        let found = self.read(move |db| find(&core, db, job)).await;
        let key = found.map_err(|_| CommitError::GateLatched)?.ok_or(CommitError::Gone)?;
        self.submit(move |txn| redecide(txn, key, decision)).await
    }
}

/// What takes the place of a held job.
pub(super) struct Decision {
    pub jobs: Vec<NewJob>,
    pub rule_epoch: u64,
    pub who: String,
    /// A person named the destination, not the rules.
    pub is_reroute: bool,
}

/// Why a new job is not made.
enum Served {
    /// This instance goes, or went, there.
    Itself,
    /// The same content does, by another instance.
    Repeated,
    /// A person did not want it there.
    TurnedAway,
}

impl Decision {
    pub(super) fn by_rules(jobs: Vec<NewJob>, rule_epoch: u64, who: &str) -> Self {
        Self {
            jobs,
            rule_epoch,
            who: who.to_owned(),
            is_reroute: false,
        }
    }
}

pub(super) fn redecide(txn: &mut Txn<'_>, key: JobKey, decision: Decision) -> Result<Vec<JobId>, CommitError> {
    let Decision {
        jobs,
        rule_epoch,
        who,
        is_reroute,
    } = decision;
    reserve(txn, key).map_err(|()| CommitError::Gone)?;
    let job = txn.job(key)?.ok_or(CommitError::Gone)?;
    let Some((_, hold)) = job.hold.clone() else {
        return Err(CommitError::Gone);
    };
    let before = Some(hold).filter(|_| is_reroute);
    let stays = before
        .clone()
        .filter(|hold| !ends_with_reroute(hold.kind, key.dest == keys::UNDECIDED));
    let mut record = txn.instance(job.instance)?.ok_or(CommitError::Damaged)?;
    displace(txn, key, &job);
    txn.delete(Cf::Job, keys::job(key));
    txn.delete(Cf::Ref, keys::reference(job.instance, key));
    let fact = Fact::new(FactKind::Redecided).instance(job.instance);
    let fact = fact.job(key.job, txn.name(key.dest));
    txn.fact(fact.who(&who));
    let seen = txn.seen(&record.instance.sop_instance)?;
    let (mut added, mut repeated, mut turned_away) = (Vec::new(), false, false);
    let none_named = jobs.is_empty();
    for new in jobs {
        let mut new = wait::shared_out(new, txn);
        let dest = txn.number(new.destination.as_ref());
        let served_by = wait::served_by(dest, &new, txn);
        match served(txn, (&record, &seen), (&served_by, is_reroute), key)? {
            Some(Served::Itself) => {}
            Some(Served::Repeated) => repeated = true,
            Some(Served::TurnedAway) if !is_reroute => turned_away = true,
            Some(Served::TurnedAway) | None => {
                let taken = leaving::taken(txn, (&record.instance, &seen), dest, &new.plan)?;
                new.hold = stays.clone().or(new.hold.take());
                new.hold = leaving::with(taken, new.hold.take());
                let job = add_job(txn, job.instance, dest, new);
                added.push(JobKey { dest, job });
            }
        }
    }
    // Nothing left to do is an end only when the other deliveries exist; otherwise the instance would be lost.
    let others = !txn.keys(Cf::Ref, &job.instance.0, 1)?.is_empty();
    let served = others || repeated || record.done.iter().any(|done| done.status.is_some());
    if added.is_empty() && (none_named || !served || is_reroute || turned_away) {
        let text = if turned_away {
            TURNED_AWAY
        } else {
            "no destination was named"
        };
        let mut new = undecided(HoldKind::NoDestination, text, txn);
        // What is not sent twice stays as it is, for a person to discard.
        new.hold = before.or(new.hold.take());
        let dest = keys::UNDECIDED;
        let job = add_job(txn, job.instance, dest, new);
        added.push(JobKey { dest, job });
    }
    record.instance.rule_epoch = rule_epoch;
    txn.put_instance(&record);
    rename(txn, &record.instance.sop_instance, key, &added)?;
    if is_reroute {
        for to in added.iter().filter(|to| to.dest != keys::UNDECIDED) {
            moved::chosen(txn, &record.instance, key.dest, *to)?;
        }
    }
    if added.is_empty() && !others {
        txn.fact(Fact::new(FactKind::Repeated).instance(job.instance).who(&who));
        retire(txn, &mut record);
        gone::remember_discarded(txn, &record);
        txn.put_instance(&record);
    }
    Ok(added.into_iter().map(|key| key.job).collect())
}

/// Whether one of the destinations that would serve a new job has the content, or is not to have it. Where the job `key` itself
/// stands, a person has it, whatever he had said before. Where a person named the destination, whatever stands there is enough, as
/// for any reroute (`operator::has_content`); to the rules only what ends at one of `served_by`.
fn served(
    txn: &Txn<'_>,
    (record, seen): (&InstanceRecord, &SeenRecord),
    (served_by, is_reroute): (&[u32], bool),
    key: JobKey,
) -> Result<Option<Served>, CommitError> {
    let same = seen.entries.iter().find(|entry| entry.digest == record.instance.digest);
    if let Some(entry) = same {
        let has_it = match is_reroute {
            true => served_by.iter().any(|dest| entry.serves(*dest, key)),
            false => moved::is_served(txn, entry, &record.instance, (served_by, key))?,
        };
        if has_it {
            return Ok(Some(Served::Repeated));
        }
    }
    let ended = |confirmed: bool, dest: u32| {
        let mut done = record.done.iter();
        done.any(|done| done.dest == dest && done.status.is_some() == confirmed)
    };
    if served_by.iter().any(|dest| ended(true, *dest)) || has_any_job(txn, &record.instance, served_by, is_reroute)? {
        return Ok(Some(Served::Itself));
    }
    let decided = served_by
        .iter()
        .filter(|dest| **dest != keys::UNDECIDED && **dest != key.dest);
    let unwanted = |dest: &u32| ended(false, *dest) || same.is_some_and(|entry| entry.is_turned_away(*dest));
    Ok(decided
        .copied()
        .any(|dest| unwanted(&dest))
        .then_some(Served::TurnedAway))
}

/// Whether the instance has a job for one of `dests`: for a person's choice any, for the rules one that ends there.
fn has_any_job(txn: &Txn<'_>, instance: &Instance, dests: &[u32], is_reroute: bool) -> Result<bool, CommitError> {
    let references = txn.keys(Cf::Ref, &instance.id.0, usize::MAX)?;
    for (_, key) in references.iter().filter_map(|raw| keys::reference_of(raw)) {
        if dests.contains(&key.dest) && (is_reroute || !moved::may_go_elsewhere(txn, key, instance, dests)?) {
            return Ok(true);
        }
    }
    Ok(false)
}
