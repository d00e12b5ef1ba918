//! The cache: delivered instances stay until the disk wants room, oldest first. Never one with a job left.
//! The synced batch deletes the record first, then the file goes; a crash between leaves a file whose state letter
//! says delivered, which the next start removes.
use super::commitment::gone;
use super::core::Core;
use super::db::Cf;
use super::forget::Family;
use super::keys;
use super::ledger::{Fact, FactKind};
use super::model::CommitError;
use super::moved;
use super::payload::{Mark, path_of};
use super::record::{InstanceRecord, SeenEntry, SeenRecord};
use super::txn::{Effect, Txn};
use crate::base::names::InstanceId;

/// Instances that leave in one batch.
pub(super) const EVICT_BATCH: usize = 64;

/// How the deliveries of an instance in the cache have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Delivered,
    /// A person discarded one of them that no other has made.
    Discarded,
}

impl End {
    /// The label of its gauge.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Discarded => "discarded",
        }
    }

    /// As an entry of the cache says it. Those of older versions say nothing, and count as delivered until they leave.
    pub(super) fn of(entry: &[u8]) -> Self {
        match entry {
            [DISCARDED] => Self::Discarded,
            _ => Self::Delivered,
        }
    }
}

const DISCARDED: u8 = 1;

/// An instance without jobs enters the cache.
pub(super) fn enter(txn: &mut Txn<'_>, record: &InstanceRecord) {
    let instance = &record.instance;
    let (entry, end) = match record.is_discarded() {
        true => (vec![DISCARDED], End::Discarded),
        false => (Vec::new(), End::Delivered),
    };
    txn.put(Cf::Cached, keys::cached(instance.arrival, instance.id), entry);
    txn.effects.push(Effect::Cached(1, end));
}

fn end_of(txn: &Txn<'_>, key: &[u8]) -> Result<End, CommitError> {
    let entry = txn.get(Cf::Cached, key)?;
    Ok(End::of(&entry.unwrap_or_default()))
}

/// Takes the oldest delivered instances out of the index. Answers whose files may go now.
pub(super) fn evict(txn: &mut Txn<'_>, max: usize) -> Result<Vec<InstanceId>, CommitError> {
    let mut gone = Vec::new();
    for key in txn.keys(Cf::Cached, &[], max)? {
        let Some(id) = keys::cached_of(&key) else {
            txn.delete(Cf::Cached, key);
            continue;
        };
        if !txn.keys(Cf::Ref, &id.0, 1)?.is_empty() {
            // It has a job again (released by a person): no longer cache.
            let end = end_of(txn, &key)?;
            txn.delete(Cf::Cached, key);
            txn.effects.push(Effect::Cached(-1, end));
            txn.effects.push(Effect::Pending(1));
            continue;
        }
        if !is_settled(txn, id)? {
            continue;
        }
        remove(txn, id)?;
        txn.delete(Cf::Cached, key);
        txn.fact(Fact::new(FactKind::Evicted).instance(id));
        gone.push(id);
    }
    Ok(gone)
}

/// Whether a start would know the file for an evicted one, should the record be gone and the file not: by what the index
/// remembers of its UID. What a person discarded is forgotten there, so that a resend is taken in; its letter must say it then,
/// and a letter is a hint until it is flushed. So it must when the delivery of another copy is open: the content is known by that one
/// from now on. `false`: it cannot be flushed, and the instance stays.
fn is_settled(txn: &mut Txn<'_>, id: InstanceId) -> Result<bool, CommitError> {
    let Some(record) = txn.instance(id)? else {
        return Ok(true);
    };
    let instance = &record.instance;
    let mut seen = txn.seen(&instance.sop_instance)?;
    let same = |entry: &&mut SeenEntry| entry.instance == id && entry.digest == instance.digest;
    let entry = seen.entries.iter_mut().find(same);
    let other = match &entry {
        Some(entry) => moved::open_copy(txn, entry)?,
        None => None,
    };
    let remembered = entry.is_some() && other.is_none();
    let core = &txn.book.core;
    let flush = || core.store.flush_letter(&core.config.path, &Mark::delivered(&record));
    let settled = remembered || flush().is_ok();
    if !settled {
        core.metrics
            .gate_errors_total
            .with_label_values(&["state_letter"])
            .inc();
    } else if let (Some(entry), Some(other)) = (entry, other) {
        entry.instance = other;
        txn.put_seen(&instance.sop_instance, &seen);
    }
    Ok(settled)
}

/// Takes an instance without jobs out of the index.
pub(super) fn remove(txn: &mut Txn<'_>, id: InstanceId) -> Result<(), CommitError> {
    let record = txn.instance(id)?;
    txn.delete(Cf::Instance, id.0);
    super::damaged::unmark(txn, id)?;
    match record {
        Some(record) => {
            if record.delivered {
                gone::remember(txn, &record);
            }
            let key = keys::cached(record.instance.arrival, id);
            let end = end_of(txn, &key)?;
            txn.delete(Cf::Cached, key);
            if let Some(study) = &record.instance.study {
                txn.delete(Cf::Study, keys::study(study, id));
            }
            let change = if record.delivered {
                Effect::Cached(-1, end)
            } else {
                Effect::Pending(-1)
            };
            txn.effects.push(change);
        }
        None => txn.effects.push(Effect::Cached(-1, End::Delivered)),
    }
    Ok(())
}

/// Removes the files of what `evict` took out. A file that stays is removed at the next start.
pub(super) fn unlink(core: &Core, gone: &[InstanceId]) {
    for id in gone {
        if std::fs::remove_file(path_of(&core.config.path, *id)).is_err() {
            core.metrics.gate_errors_total.with_label_values(&["unlink"]).inc();
        }
        core.metrics.evicted_total.inc();
    }
}

/// Oldest orphans first, when the disk is low: they were never acknowledged.
pub(super) fn prune_orphans(core: &Core, max: usize) -> std::io::Result<usize> {
    let mut names: Vec<_> = std::fs::read_dir(core.config.path.join("orphans"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    names.sort();
    names.truncate(max);
    for name in &names {
        std::fs::remove_file(name)?;
    }
    Ok(names.len())
}

/// What is known of repeats: entries that are older than the window, once their instance has left and no copy of it is to be delivered.
pub(super) const REPEATS: Family = Family {
    cf: Cf::Seen,
    prefix: &[],
    is_old: |_, raw, before| {
        SeenRecord::decode(raw).map_or(true, |seen| seen.entries.iter().any(|entry| entry.at < before))
    },
    forget: forget_repeats,
};

fn forget_repeats(txn: &mut Txn<'_>, key: Vec<u8>, raw: Vec<u8>) -> Result<(), CommitError> {
    let window = txn.book.core.config.repeat_window.0;
    let now = txn.book.core.retention.now(txn.now);
    let Ok(mut seen) = SeenRecord::decode(&raw) else {
        txn.quarantine(Cf::Seen, &key, raw);
        return Ok(());
    };
    let before = seen.entries.len();
    let mut kept = Vec::with_capacity(before);
    for entry in seen.entries {
        let is_here = txn.get(Cf::Instance, &entry.instance.0)?.is_some();
        if now.since(entry.at) < window || is_here || moved::open_copy(txn, &entry)?.is_some() {
            kept.push(entry);
        }
    }
    seen.entries = kept;
    if seen.entries.is_empty() {
        txn.delete(Cf::Seen, key);
    } else if seen.entries.len() < before {
        txn.put(Cf::Seen, key, seen.encode());
    }
    Ok(())
}
