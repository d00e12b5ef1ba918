//! Under which SOP Instance UID what leaves: two instances of this box never leave for one destination under one UID unnoticed. An
//! archive keeps one object per UID, so the second would take the first one's place, and its commitment would speak for both.
//!
//! What leaves as it came is known by `seen`. What a plan renames is written down here, by destination and the UID as it leaves,
//! with the UID as it came; and by the UID as it came, so that nobody takes it for one that leaves unchanged. Forgotten
//! `map_memory` after the last job that was made of it. The spool knows no plan: it is told how to read one (`reads_plans`).
use super::codec::{Damaged, Reader, Writer};
use super::db::Cf;
use super::forget::Family;
use super::keys;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, HoldKind, HoldReason, Instance, JobKey};
use super::record::{JobRecord, SeenEntry, SeenRecord};
use super::txn::Txn;
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, Uid};

/// The SOP Instance UID that a plan writes; `None` when it writes none.
pub type PlanReader = fn(&[u8]) -> Option<Uid>;

const TAKEN: &str = "it would leave under the SOP Instance UID that another instance has at this destination";

/// One entry: the hash of the UID as it came, and when a job was last made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leaves {
    came_as: [u8; 16],
    last: Wall,
}

impl Leaves {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.came_as);
        w.u64(self.last.0);
        w.finish()
    }

    pub(super) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let entry = Self {
            came_as: r.array()?,
            last: Wall(r.u64()?),
        };
        r.end()?;
        Ok(entry)
    }
}

/// A job of an instance is made for a destination: writes down under which UID it leaves. Answers how it must be held, when
/// another instance has that UID there. `seen`: what came under its own UID.
pub(super) fn taken(
    txn: &mut Txn<'_>,
    (instance, seen): (&Instance, &SeenRecord),
    dest: u32,
    plan: &[u8],
) -> Result<Option<HoldReason>, CommitError> {
    let Some(name) = txn.name(dest) else {
        return Ok(None);
    };
    if another_goes(txn, seen, &instance.digest, dest)? {
        return Ok(Some(other_content()));
    }
    let own = &instance.sop_instance;
    let written = txn.book.core.written_uid(plan).filter(|uid| uid != own);
    let key = keys::leaves_as(&name, written.as_ref().unwrap_or(own));
    let came_as = keys::seen(own);
    let taken = match (txn.record(Cf::Meta, &key, Leaves::decode)?, &written) {
        (Some(other), _) => other.came_as != came_as,
        (None, Some(uid)) => {
            let renamed = txn.get(Cf::Meta, &keys::left_from(&name, uid))?.is_some();
            !renamed && txn.seen(uid)?.entries.iter().any(|entry| entry.goes_to(dest))
        }
        (None, None) => false,
    };
    if taken {
        return Ok(Some(HoldReason::new(HoldKind::Conflict, TAKEN)));
    }
    write_down(txn, (&name, dest), (own, written.as_ref()), seen)?;
    Ok(None)
}

/// Notes under which UID one leaves. One that leaves by either name has both: nobody may take its own for free because it is renamed, too.
fn write_down(
    txn: &mut Txn<'_>,
    (name, dest): (&DestinationId, u32),
    (own, written): (&Uid, Option<&Uid>),
    seen: &SeenRecord,
) -> Result<(), CommitError> {
    let renamed = txn.get(Cf::Meta, &keys::left_from(name, own))?.is_some();
    let by_its_own = match written {
        Some(_) => !renamed && leaves_as_it_came(txn, (own, seen), dest)?,
        None => renamed,
    };
    if !by_its_own && written.is_none() {
        return Ok(());
    }
    let (came_as, last) = (keys::seen(own), txn.now);
    let entry = Leaves { came_as, last }.encode();
    if by_its_own {
        txn.put(Cf::Meta, keys::leaves_as(name, own), entry.clone());
    }
    if let Some(uid) = written {
        txn.put(Cf::Meta, keys::left_from(name, own), entry.clone());
        txn.put(Cf::Meta, keys::leaves_as(name, uid), entry);
    }
    Ok(())
}

/// Whether a UID that was never renamed has left for a destination, or is about to. What is held is looked at when it is let go.
fn leaves_as_it_came(txn: &mut Txn<'_>, (own, seen): (&Uid, &SeenRecord), dest: u32) -> Result<bool, CommitError> {
    for (to, job) in seen.entries.iter().flat_map(SeenEntry::deliveries) {
        if *to != dest && *to != keys::ANYWHERE {
            continue;
        }
        let leaves = match txn.job(JobKey { dest: *to, job: *job })? {
            None => true,
            Some(job) if job.hold.is_some() => false,
            Some(job) => txn.book.core.written_uid(&job.plan).is_none_or(|uid| uid == *own),
        };
        if leaves {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A person lets a held job go, whatever has its UID there already: from now on this one has it, too. What is held as `conflict` was not
/// written down when its job was made.
pub(super) fn let_go(txn: &mut Txn<'_>, key: JobKey, job: &JobRecord) -> Result<(), CommitError> {
    let (Some(name), Some(record)) = (txn.name(key.dest), txn.instance(job.instance)?) else {
        return Ok(());
    };
    let own = &record.instance.sop_instance;
    let written = txn.book.core.written_uid(&job.plan).filter(|uid| uid != own);
    let seen = txn.seen(own)?;
    write_down(txn, (&name, key.dest), (own, written.as_ref()), &seen)
}

/// As `taken`, for a job that is about to be placed with this destination; what holds it already is told too. Answers whether it
/// is held for this.
pub(super) fn hold_taken(txn: &mut Txn<'_>, key: JobKey, job: &mut JobRecord) -> Result<bool, CommitError> {
    let Some(record) = txn.instance(job.instance)? else {
        return Ok(false);
    };
    let seen = txn.seen(&record.instance.sop_instance)?;
    let Some(taken) = taken(txn, (&record.instance, &seen), key.dest, &job.plan)? else {
        return Ok(false);
    };
    let (since, before) = job.hold.take().unzip();
    job.hold = with(Some(taken), before).map(|reason| (since.unwrap_or(txn.now), reason));
    if let Some((_, reason)) = &job.hold {
        let fact = Fact::new(FactKind::Held).instance(job.instance);
        let fact = fact.job(key.job, txn.name(key.dest));
        txn.fact(fact.text(format!("{}: {}", reason.kind.word(), reason.text)));
    }
    Ok(true)
}

/// The reason that another content of the UID goes to the destination.
pub(super) fn other_content() -> HoldReason {
    HoldReason::new(HoldKind::Conflict, "same SOP Instance UID with other content")
}

/// Whether a hold says that its job is the second content of a UID, alone or, by `with`, besides.
fn is_second(hold: &HoldReason) -> bool {
    let besides = || hold.text.ends_with(&besides(&other_content()));
    hold.kind == HoldKind::Conflict || (keeps_its_kind(hold.kind) && besides())
}

/// What must not go as it is, is decided anew.
fn keeps_its_kind(kind: HoldKind) -> bool {
    matches!(kind, HoldKind::Incomplete | HoldKind::Edit)
}

fn besides(second: &HoldReason) -> String {
    format!("; held besides as {}: {}", second.kind.word(), second.text)
}

/// Whether another content of a UID went to a destination, or may. One that waits as `conflict` is itself the second.
fn another_goes(txn: &mut Txn<'_>, seen: &SeenRecord, own: &[u8; 32], dest: u32) -> Result<bool, CommitError> {
    for entry in seen.entries.iter().filter(|entry| entry.digest != *own) {
        for (to, job) in entry.deliveries() {
            if *to != dest && *to != keys::ANYWHERE {
                continue;
            }
            let job = txn.job(JobKey { dest: *to, job: *job })?;
            if !job.and_then(|job| job.hold).is_some_and(|(_, hold)| is_second(&hold)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Both reasons in one: a person who lets it go must know what a rule had wanted. What must not go as it is keeps its kind: it is
/// decided anew, and then looked at again.
pub(super) fn with(taken: Option<HoldReason>, other: Option<HoldReason>) -> Option<HoldReason> {
    match (taken, other) {
        (Some(taken), Some(other)) if other.kind == taken.kind || other.text.contains(&taken.text) => Some(other),
        (Some(taken), Some(other)) => {
            let (first, second) = match keeps_its_kind(other.kind) {
                true => (other, taken),
                false => (taken, other),
            };
            Some(HoldReason::new(
                first.kind,
                format!("{}{}", first.text, besides(&second)),
            ))
        }
        (taken, other) => taken.or(other),
    }
}

/// Entries by either UID.
pub(super) const FAMILY: Family = Family {
    cf: Cf::Meta,
    prefix: keys::LEAVES,
    is_old: |_, raw, before| Leaves::decode(raw).map_or(true, |entry| entry.last < before),
    forget: |txn, key, raw| {
        match Leaves::decode(&raw) {
            Ok(_) => txn.delete(Cf::Meta, key),
            Err(Damaged) => txn.quarantine(Cf::Meta, &key, raw),
        }
        Ok(())
    },
};

impl super::Spool {
    /// Tells how the SOP Instance UID that a plan writes is read. Said once, before anything is taken; without it the spool knows only
    /// the UIDs that instances come with.
    pub fn reads_plans(&self, reader: PlanReader) {
        self.core.read_plans_by(reader);
    }
}
