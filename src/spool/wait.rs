//! When a queued job may go, and where instead: waits until a study has become quiet, and groups of destinations.
//!
//! A job that waits for its study is due when the study would be quiet if nothing more came. When that time has come the claim
//! looks at the study's record: if instances have come since, the job is put off again. So an arrival rewrites no other job,
//! and a job is rewritten once for each such wait, not once for each instance.
use super::admit::{displace, place};
use super::db::{Cf, Db, DbError};
use super::due::{Guard, LATEST};
use super::keys;
use super::model::{CommitError, NewJob};
use super::record::{Alternative, Failover, JobRecord};
use super::study::StudyRecord;
use super::txn::{Effect, Txn};
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, Uid};
use std::time::Duration;

/// A job waits until its study has had no new instance for `span`, but never longer than `at_most`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quiet {
    pub span: Duration,
    pub at_most: Duration,
}

/// Destinations of which one gets the instance. The job names the first; these follow in their order, each with its plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub kind: GroupKind,
    pub others: Vec<(DestinationId, Vec<u8>)>,
}

/// How a group chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupKind {
    /// The next one takes over a job that is not delivered when its destination has been down or suspended for `after`.
    Failover { after: Duration },
    /// The first that is not suspended when the job is made; the first of all when every one is.
    ShareOut,
}

/// When a job that waits for its study may go, if not `now`: the time to look again. A clock that went back behind what was
/// recorded says nothing about waiting, so the job goes.
pub(super) fn ripe_at(quiet: Quiet, last: Wall, enqueued: Wall, now: Wall) -> Option<Wall> {
    if last > now || enqueued > now {
        return None;
    }
    let at = last.plus(quiet.span).min(enqueued.plus(quiet.at_most));
    (at > now).then_some(at)
}

/// As `ripe_at`, by the study's record. A study that is not known, or has been forgotten, is quiet.
pub(super) fn unripe(db: &Db, job: &JobRecord, study: Option<&Uid>, now: Wall) -> Result<Option<Wall>, DbError> {
    let (Some(quiet), Some(study)) = (job.quiet, study) else {
        return Ok(None);
    };
    let raw = db.get(Cf::Study, &keys::study_prefix(study))?;
    let record = raw.and_then(|raw| StudyRecord::decode(&raw).ok());
    Ok(record.and_then(|record| ripe_at(quiet, record.last, job.enqueued, now)))
}

/// Jobs whose study is not quiet yet wait on. Their guards keep them from every other hand until this is durable.
pub(super) fn put_off(txn: &mut Txn<'_>, unripe: Vec<(Guard, Wall)>) -> Result<(), CommitError> {
    for (guard, due) in unripe {
        let key = guard.key();
        txn.effects.push(Effect::Return(guard));
        let Some(mut job) = txn.job(key)? else {
            continue;
        };
        if job.hold.is_none() && job.quiet.is_some() {
            displace(txn, key, &job);
            job.due = due.min(txn.now.plus(LATEST));
            place(txn, key, &job);
        }
    }
    Ok(())
}

/// A new job's first due time. What is due more than a day ahead was decided by another clock, and the claim takes it for due.
pub(super) fn first_due(new: &NewJob, now: Wall) -> Wall {
    let quiet = new
        .quiet
        .map_or(Wall(0), |quiet| now.plus(quiet.span.min(quiet.at_most)));
    new.due.max(quiet)
}

/// The job that a share-out makes: for the first of its destinations that is not suspended.
pub(super) fn shared_out(mut job: NewJob, txn: &Txn<'_>) -> NewJob {
    let suspended = |name: &DestinationId| txn.book.core.lanes.get(name).is_some_and(|lane| lane.suspended());
    let Some(Group {
        kind: GroupKind::ShareOut,
        others,
    }) = &mut job.group
    else {
        return job;
    };
    if job.destination.as_ref().is_some_and(suspended)
        && let Some(at) = others.iter().position(|(name, _)| !suspended(name))
    {
        let (name, plan) = &mut others[at];
        if let Some(first) = &mut job.destination {
            std::mem::swap(first, name);
        }
        std::mem::swap(&mut job.plan, plan);
    }
    job
}

/// The numbers of all destinations that would serve this job: its own, and the others of its group.
pub(super) fn served_by(dest: u32, job: &NewJob, txn: &mut Txn<'_>) -> Vec<u32> {
    let others = job.group.iter().flat_map(|group| &group.others);
    let mut numbers = vec![dest];
    for (name, _) in others {
        numbers.push(txn.number(Some(name)));
    }
    numbers
}

/// What a job's record keeps of its group: who takes over, in order. A share-out has chosen already.
pub(super) fn failover(group: Option<Group>, dest: u32, txn: &mut Txn<'_>) -> Option<Failover> {
    let Group {
        kind: GroupKind::Failover { after },
        others,
    } = group?
    else {
        return None;
    };
    let mut rest: Vec<Alternative> = Vec::new();
    for (name, plan) in others.into_iter().take(OTHERS_MAX) {
        let number = txn.number(Some(&name));
        if number != dest && !rest.iter().any(|known| known.dest == number) {
            rest.push(Alternative { dest: number, plan });
        }
    }
    (!rest.is_empty()).then_some(Failover { after, rest })
}

/// The group of a job's record, for a job that takes its place.
pub(super) fn group(failover: Failover, txn: &Txn<'_>) -> Group {
    let others = failover.rest.into_iter();
    Group {
        kind: GroupKind::Failover { after: failover.after },
        others: others
            .filter_map(|other| Some((txn.name(other.dest)?, other.plan)))
            .collect(),
    }
}

/// Destinations that may take over from one job.
const OTHERS_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_is_quiet_after_its_span_or_at_the_latest() {
        let quiet = Quiet {
            span: Duration::from_secs(600),
            at_most: Duration::from_secs(3_600),
        };
        let at = |seconds: u64| Wall(seconds * 1_000_000);
        let table = [
            // Last instance, queued, now: look again at.
            (0, 0, 599, Some(600)),
            (0, 0, 600, None),
            (500, 0, 600, Some(1_100)),
            (3_500, 0, 3_500, Some(3_600)),
            (3_500, 0, 3_600, None),
            // The clock went back by years.
            (90_000, 0, 600, None),
            (0, 90_000, 600, None),
        ];
        for (last, enqueued, now, wanted) in table {
            let found = ripe_at(quiet, at(last), at(enqueued), at(now));
            assert_eq!(found, wanted.map(at), "{last} {enqueued} {now}");
        }
    }
}
