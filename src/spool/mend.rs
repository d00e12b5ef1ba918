//! Queue entries that a claim stumbled over: their job or instance record is gone or damaged. What the rest of the
//! spool still tells is put right; what it does not is parked, visibly. Nothing is deleted.
use super::admit::{add_job, undecided};
use super::adopt::hold_corrupt;
use super::core::Core;
use super::db::Cf;
use super::inspect::{Found, inspect};
use super::keys;
use super::model::{CommitError, HoldKind, JobKey};
use super::txn::{Effect, Txn};
use crate::base::names::InstanceId;

/// Due keys whose job or instance could not be read: put right what the rest of the spool tells, park the others.
pub(super) fn mend_dangling(txn: &mut Txn<'_>, dangling: Vec<Vec<u8>>) -> Result<(), CommitError> {
    for due_key in dangling {
        let Some((key, priority, due)) = keys::due_of(&due_key) else {
            txn.delete(Cf::Due, due_key);
            continue;
        };
        if txn.get(Cf::Due, &due_key)?.is_none() {
            continue;
        }
        let raw = txn.get(Cf::Job, &keys::job(key))?;
        match txn.job(key)? {
            Some(job) if job.hold.is_none() && job.due == due && job.priority == priority => {
                if txn.instance(job.instance)?.is_none() && !restore(txn, job.instance)? {
                    hold_corrupt(txn, key, "its instance record could not be read")?;
                }
            }
            found => {
                txn.delete(Cf::Due, due_key);
                txn.effects
                    .extend(txn.lane(key.dest).map(|lane| Effect::Unqueued(lane, priority)));
                if found.is_none() {
                    salvage(txn, key, raw.as_deref())?;
                }
            }
        }
    }
    Ok(())
}

/// Makes an instance record again from the private record of its payload file.
fn restore(txn: &mut Txn<'_>, id: InstanceId) -> Result<bool, CommitError> {
    let core: &Core = &txn.book.core;
    match inspect(&core.config.path, id, false) {
        Ok(Found::Whole(record, _)) => {
            txn.put_instance(&record);
            Ok(true)
        }
        Ok(_) | Err(_) => Ok(false),
    }
}

/// A job record that cannot be read, but whose first field agrees with a reference: its instance is decided anew.
pub(super) fn salvage(txn: &mut Txn<'_>, key: JobKey, raw: Option<&[u8]>) -> Result<(), CommitError> {
    let id = raw.and_then(|raw| raw.get(1..17)?.try_into().ok()).map(InstanceId);
    let Some(id) = id else {
        return Ok(());
    };
    let reference = keys::reference(id, key);
    if txn.get(Cf::Ref, &reference)?.is_some() {
        txn.delete(Cf::Ref, reference);
        let new = undecided(
            HoldKind::Recovered,
            "its job could not be read; to be decided anew",
            txn,
        );
        add_job(txn, id, keys::UNDECIDED, new);
    }
    Ok(())
}
