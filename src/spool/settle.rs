//! How a lease ends in the index: confirmed, to be tried again, or held. One synced batch each, with its fact.
use super::admit::{displace, place};
use super::cache;
use super::commitment::{self, gone};
use super::damaged;
use super::db::Cf;
use super::due::{Guard, LATEST};
use super::keys;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, HoldKind, JobKey, Settlement};
use super::payload::Mark;
use super::record::{Done, InstanceRecord, JobRecord};
use super::txn::{Effect, Txn};
use crate::base::fault::{Plant, planted};
use crate::base::names::Uid;

/// Records a settlement. `false`: the job was not there any more.
/// `sent_as`: the SOP Instance UID that it left with, when that is not its own.
pub(super) fn settle(
    txn: &mut Txn<'_>,
    guard: Guard,
    settlement: Settlement,
    sent_as: Option<Uid>,
) -> Result<bool, CommitError> {
    let mut key = guard.key();
    if planted(Plant::SettleWrong) && matches!(settlement, Settlement::Confirmed { .. }) {
        key = another(txn, key)?;
    }
    let (name, commits) = (guard.lane().name.clone(), guard.lane().commits());
    // The job is free again only when the batch is durable (and also when it fails).
    txn.effects.push(Effect::Return(guard));
    let Some(mut job) = txn.job(key)? else {
        return Ok(false);
    };
    displace(txn, key, &job);
    let fact = |kind| Fact::new(kind).instance(job.instance).job(key.job, Some(name));
    match settlement {
        Settlement::Confirmed { status, note } if commits => {
            txn.fact(fact(FactKind::Sent).text(format!("{status:04X} {note}").trim_end()));
            job.outcome = format!("{status:04X}");
            commitment::sent(txn, &mut job, status, sent_as)?;
            place(txn, key, &job);
        }
        Settlement::Confirmed { status, note } => {
            txn.fact(fact(FactKind::Confirmed).text(format!("{status:04X} {note}").trim_end()));
            end(txn, key, &job, Some(status))?;
        }
        Settlement::Retry { due, outcome, counted } => {
            // What costs the job nothing may go on for days: the same again is no news.
            if counted || job.outcome != outcome {
                txn.fact(fact(FactKind::Retry).text(outcome.clone()));
            }
            job.due = due.min(txn.now.plus(LATEST));
            job.outcome = outcome;
            // It was quiet when it went: what comes now is another matter.
            job.quiet = None;
            job.attempts = job.attempts.saturating_add(u32::from(counted));
            place(txn, key, &job);
        }
        Settlement::Hold { .. } if planted(Plant::DropHold) => end(txn, key, &job, None)?,
        Settlement::Hold { reason } => {
            txn.fact(fact(FactKind::Held).text(format!("{}: {}", reason.kind.word(), reason.text)));
            job.outcome.clone_from(&reason.text);
            let corrupt = (reason.kind == HoldKind::Corrupt).then(|| reason.text.clone());
            job.hold = Some((txn.now, reason));
            place(txn, key, &job);
            if let Some(text) = corrupt {
                lost_payload(txn, key, &job, &text)?;
            }
        }
    }
    Ok(true)
}

/// The planted fault: another job of the same destination, when there is one.
fn another(txn: &Txn<'_>, own: JobKey) -> Result<JobKey, CommitError> {
    let due = txn.keys(Cf::Due, &own.dest.to_be_bytes(), 64)?;
    let mut others = due.iter().filter_map(|raw| keys::due_of(raw)).map(|(key, ..)| key);
    Ok(others.rfind(|key| *key != own).unwrap_or(own))
}

/// The payload is not what arrived: a resend of the same content must be taken in again, not answered as a repeat, and takes
/// its place (`damaged.rs`).
pub(super) fn lost_payload(txn: &mut Txn<'_>, key: JobKey, job: &JobRecord, text: &str) -> Result<(), CommitError> {
    if let Some(record) = txn.instance(job.instance)? {
        damaged::forget_job(txn, &record.instance.sop_instance, key)?;
    }
    damaged::mark(txn, job.instance, text)
}

/// A job ends for good. With the last one its instance becomes cache. `status` is `None` when a person discarded it.
pub(super) fn end(txn: &mut Txn<'_>, key: JobKey, job: &JobRecord, status: Option<u16>) -> Result<(), CommitError> {
    txn.delete(Cf::Job, keys::job(key));
    drop_reference(txn, key, job, status)
}

fn drop_reference(txn: &mut Txn<'_>, key: JobKey, job: &JobRecord, status: Option<u16>) -> Result<(), CommitError> {
    txn.delete(Cf::Ref, keys::reference(job.instance, key));
    let Some(mut record) = txn.instance(job.instance)? else {
        return Ok(());
    };
    record.done.push(Done {
        dest: key.dest,
        job: key.job,
        at: txn.now,
        status,
    });
    if status.is_some() {
        // It was read and verified on its way.
        damaged::unmark(txn, job.instance)?;
    }
    let last = txn.keys(Cf::Ref, &job.instance.0, 1)?.is_empty();
    if last && damaged::is_marked(txn, job.instance)? {
        gone::remember_discarded(txn, &record);
        return damaged::leave(txn, job.instance);
    }
    if last {
        retire(txn, &mut record);
        gone::remember_discarded(txn, &record);
    }
    txn.put_instance(&record);
    Ok(())
}

/// An instance without jobs becomes cache. The caller writes its record.
pub(super) fn retire(txn: &mut Txn<'_>, record: &mut InstanceRecord) {
    if record.delivered {
        return;
    }
    record.delivered = true;
    cache::enter(txn, record);
    txn.effects.push(Effect::Pending(-1));
    txn.effects.push(Effect::Mark(Mark::delivered(record)));
}
