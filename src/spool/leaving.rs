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
use super::model::{CommitError, HoldKind, HoldReason, JobKey};
use super::record::JobRecord;
use super::txn::Txn;
use crate::base::clock::Wall;
use crate::base::names::Uid;

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

/// A job of the instance `own` is made for a destination: writes down under which UID it leaves. Answers how it must be held, when
/// another instance has that UID there.
pub(super) fn taken(txn: &mut Txn<'_>, own: &Uid, dest: u32, plan: &[u8]) -> Result<Option<HoldReason>, CommitError> {
    let Some(name) = txn.name(dest) else {
        return Ok(None);
    };
    let written = txn.book.core.written_uid(plan).filter(|uid| uid != own);
    let key = keys::leaves_as(&name, written.as_ref().unwrap_or(own));
    let (came_as, last) = (keys::seen(own), txn.now);
    let taken = match (txn.record(Cf::Meta, &key, Leaves::decode)?, &written) {
        (Some(other), _) => other.came_as != came_as,
        (None, Some(uid)) => {
            let renamed = txn.get(Cf::Meta, &keys::left_from(&name, uid))?.is_some();
            !renamed && txn.seen(uid)?.entries.iter().any(|entry| entry.knows(dest))
        }
        (None, None) => false,
    };
    if taken {
        return Ok(Some(HoldReason::new(HoldKind::Conflict, TAKEN)));
    }
    if written.is_some() {
        let entry = Leaves { came_as, last }.encode();
        txn.put(Cf::Meta, keys::left_from(&name, own), entry.clone());
        txn.put(Cf::Meta, key, entry);
    }
    Ok(None)
}

/// As `taken`, for a job that is about to be placed with this destination; what held it before is told too.
pub(super) fn hold_taken(txn: &mut Txn<'_>, key: JobKey, job: &mut JobRecord) -> Result<(), CommitError> {
    let Some(record) = txn.instance(job.instance)? else {
        return Ok(());
    };
    if let Some(reason) = taken(txn, &record.instance.sop_instance, key.dest, &job.plan)? {
        let fact = Fact::new(FactKind::Held).instance(job.instance);
        let fact = fact.job(key.job, txn.name(key.dest));
        txn.fact(fact.text(format!("{}: {}", reason.kind.word(), reason.text)));
        job.hold = Some((txn.now, reason));
    }
    Ok(())
}

/// Both reasons in one: a person who lets it go must know what a rule had wanted.
pub(super) fn with(taken: Option<HoldReason>, other: Option<HoldReason>) -> Option<HoldReason> {
    match (taken, other) {
        (Some(taken), Some(other)) => {
            let text = format!("{}; held besides as {}: {}", taken.text, other.kind.word(), other.text);
            Some(HoldReason::new(taken.kind, text))
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
