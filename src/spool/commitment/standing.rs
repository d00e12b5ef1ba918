//! What this box can promise of one instance, at one of two levels. Pure reading of the index; never says more than is proved:
//! where it does not know, the answer is a failure, for a modality deletes on this word. What a promise rests on, beyond the
//! index, it names: `judging.rs` reads that.
use super::gone::{Gone, How, counting};
use super::{Level, Named};
use crate::base::names::{InstanceId, Uid};
use crate::spool::damaged;
use crate::spool::db::{Cf, Db, DbError};
use crate::spool::keys;
use crate::spool::model::{Instance, JobKey};
use crate::spool::record::{InstanceRecord, JobRecord, SeenEntry, SeenRecord};
use std::collections::HashMap;

/// Failure Reason (0008,1197), PS3.3 C.14.1.1.
pub(super) const PROCESSING_FAILURE: u16 = 0x0110;
pub(super) const NO_SUCH_INSTANCE: u16 = 0x0112;
pub(super) const RESOURCE_LIMITATION: u16 = 0x0213;
const CLASS_CONFLICT: u16 = 0x0119;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Promised.
    Committed,
    /// Here, and not yet where it must be.
    Pending,
    /// Never seen, or long forgotten.
    Absent,
    Failed(u16),
}

/// One copy of a content that was stored under the UID, and is still here.
struct Content<'a> {
    record: InstanceRecord,
    entry: &'a SeenEntry,
}

/// What came under a UID.
#[derive(Default)]
struct Came<'a> {
    /// Of each content the newest copy, and all others that have a delivery open.
    here: Vec<Content<'a>>,
    /// The newest copies that are not here any more.
    left: Vec<InstanceId>,
    /// A delivery is open of which nobody can read whose it is.
    unread: Option<InstanceId>,
}

/// What can be said of an instance now.
pub(super) struct Basis {
    pub standing: Standing,
    /// Our id of it.
    pub id: Option<InstanceId>,
    /// Of a promise: whose payloads must be sound for it, for nobody else is known to have them.
    pub rests_on: Vec<InstanceId>,
}

impl Basis {
    fn of_index(standing: Standing, id: Option<InstanceId>) -> Self {
        Self {
            standing,
            id,
            rests_on: Vec::new(),
        }
    }
}

/// What can be said of an instance now, by the index. `marked`: whose payload is damaged, by UID.
pub(super) fn standing(
    db: &Db,
    level: Level,
    named: &Named,
    marked: &HashMap<Uid, Vec<Instance>>,
) -> Result<Basis, DbError> {
    let seen = db.get(Cf::Seen, &keys::seen(&named.instance))?;
    let seen = seen.and_then(|raw| SeenRecord::decode(&raw).ok()).unwrap_or_default();
    let Came {
        mut here,
        mut left,
        unread,
    } = came(db, &seen, marked.get(&named.instance).map_or(&[], Vec::as_slice))?;
    if unread.is_some() {
        return Ok(Basis::of_index(Standing::Failed(PROCESSING_FAILURE), unread));
    }
    let mut gone = Vec::new();
    let prefix = keys::gone_prefix(&named.instance);
    db.scan(Cf::Meta, &prefix, &keys::behind(&prefix), |key, value| {
        if let Ok(one) = Gone::decode(value) {
            gone.push(one);
            left.retain(|id| !key.ends_with(&id.0));
        }
        true
    })?;
    if let Some(id) = left.first() {
        // It came, and nothing says what became of it.
        let forgotten = here.is_empty() && gone.is_empty() && db.get(Cf::Instance, &id.0)?.is_none();
        let reason = if forgotten {
            NO_SUCH_INSTANCE
        } else {
            PROCESSING_FAILURE
        };
        return Ok(Basis::of_index(Standing::Failed(reason), Some(*id)));
    }
    let mut gone = counting(db, &seen, gone)?;
    let id = here.first().map(|content| content.record.instance.id);
    if here.is_empty() && gone.is_empty() {
        return Ok(Basis::of_index(Standing::Absent, None));
    }
    here.retain(|content| content.record.instance.sop_class == named.class);
    gone.retain(|gone| gone.class == named.class);
    if here.is_empty() && gone.is_empty() {
        return Ok(Basis::of_index(Standing::Failed(CLASS_CONFLICT), id));
    }
    if here.is_empty() && gone.iter().all(|gone| gone.how == How::Dropped) {
        // As if it had never come: it may be sent again.
        return Ok(Basis::of_index(Standing::Absent, None));
    }
    let mut basis = Basis::of_index(of_gone(level, &gone), id);
    for content in &here {
        let (elsewhere, damaged) = (
            end_to_end(db, content)?,
            damaged::mark_of(db, content.record.instance.id)?,
        );
        let found = match level {
            // What cannot be delivered is not waited for.
            _ if damaged => Standing::Failed(PROCESSING_FAILURE),
            Level::EndToEnd => elsewhere,
            Level::Edge => at_edge(content),
        };
        // What every destination has is safe, whatever becomes of the file here.
        if level == Level::Edge && elsewhere != Standing::Committed {
            basis.rests_on.push(content.record.instance.id);
        }
        basis.standing = worse(basis.standing, found);
    }
    Ok(basis)
}

/// The copies of all contents of a UID. One copy may have left while the delivery of an older one, from another source or by older
/// rules, is still open. The deliveries of a damaged one are not known by its content any more, so that a resend makes them.
fn came<'a>(db: &Db, seen: &'a SeenRecord, damaged: &[Instance]) -> Result<Came<'a>, DbError> {
    let mut came = Came::default();
    for entry in &seen.entries {
        let mut copies = vec![entry.instance];
        for (dest, job) in entry.deliveries() {
            let key = JobKey { dest: *dest, job: *job };
            let Some(raw) = db.get(Cf::Job, &keys::job(key))? else {
                continue;
            };
            match JobRecord::decode(&raw) {
                Ok(job) if !copies.contains(&job.instance) => copies.push(job.instance),
                Ok(_) => {}
                Err(_) => came.unread = Some(entry.instance),
            }
        }
        let same = damaged.iter().filter(|instance| instance.digest == entry.digest);
        for instance in same {
            if !copies.contains(&instance.id) {
                copies.push(instance.id);
            }
        }
        for id in copies {
            let raw = db.get(Cf::Instance, &id.0)?;
            match raw.and_then(|raw| InstanceRecord::decode(&raw).ok()) {
                Some(record) => came.here.push(Content { record, entry }),
                None if id == entry.instance => came.left.push(id),
                None => came.unread = Some(id),
            }
        }
    }
    Ok(came)
}

fn worse(a: Standing, b: Standing) -> Standing {
    let rank = |standing: &Standing| match standing {
        Standing::Committed => 0,
        Standing::Pending => 1,
        Standing::Absent => 2,
        Standing::Failed(_) => 3,
    };
    if rank(&a) >= rank(&b) { a } else { b }
}

fn of_gone(level: Level, gone: &[Gone]) -> Standing {
    let any = |how| gone.iter().any(|gone| gone.how == how);
    match level {
        _ if gone.is_empty() => Standing::Committed,
        _ if any(How::Discarded) || any(How::Dropped) => Standing::Failed(PROCESSING_FAILURE),
        _ if any(How::Delivered) => Standing::Committed,
        Level::Edge => Standing::Committed,
        // A rebuild that had lost the old index does not know where it went.
        Level::EndToEnd => Standing::Failed(PROCESSING_FAILURE),
    }
}

/// Here, and not on its way out unread. Whether the payload is whole is for the caller to see.
fn at_edge(content: &Content<'_>) -> Standing {
    if content.record.delivered && discarded(content) {
        return Standing::Failed(PROCESSING_FAILURE);
    }
    Standing::Committed
}

/// Every destination that it was routed to has it, on its word.
fn end_to_end(db: &Db, content: &Content<'_>) -> Result<Standing, DbError> {
    let mut open = false;
    let id = content.record.instance.id.0;
    db.scan(Cf::Ref, &id, &keys::behind(&id), |_, _| {
        open = true;
        false
    })?;
    let mut unknown = false;
    for (dest, job) in content.entry.deliveries() {
        unknown |= *dest == keys::ANYWHERE;
        let key = JobKey { dest: *dest, job: *job };
        open |= db.get(Cf::Job, &keys::job(key))?.is_some();
    }
    Ok(match () {
        () if open => Standing::Pending,
        () if unknown || discarded(content) => Standing::Failed(PROCESSING_FAILURE),
        () => Standing::Committed,
    })
}

/// A person has discarded a delivery of it that no other has replaced.
fn discarded(content: &Content<'_>) -> bool {
    let replaced = |dest: u32| content.entry.deliveries().any(|(to, _)| *to == dest);
    let mut done = content.record.done.iter();
    done.any(|end| end.status.is_none() && !replaced(end.dest))
}
