//! What a start or a rebuild does with one instance whose record or payload is gone: taken in again, or held, visibly. Called in
//! a batch; reads no file.
use super::admit::{add_job, displace, place, remember, undecided};
use super::cache;
use super::commitment::{self, Pledge};
use super::damaged;
use super::db::Cf;
use super::former::{Kept, Known};
use super::keys;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, HoldKind, HoldReason, JobKey, NewJob};
use super::moved;
use super::payload::FileState;
use super::record::{Done, InstanceRecord};
use super::settle::lost_payload;
use super::txn::{Effect, Txn};
use crate::base::names::{InstanceId, JobId};

/// Takes an instance in again that the index has lost: with the jobs that are `known`, or else with one undecided job, held as
/// it was or for the rules to decide anew. Another content under a UID that is known waits for a person. Answers the kind of the hold.
pub(super) fn adopt(
    txn: &mut Txn<'_>,
    record: &InstanceRecord,
    known: &Known,
) -> Result<Option<HoldKind>, CommitError> {
    let record = with_done(txn, record, known);
    let instance = &record.instance;
    txn.put_instance(&record);
    if let Some(study) = &instance.study {
        txn.put(Cf::Study, keys::study(study, instance.id), Vec::new());
    }
    txn.effects.push(Effect::Pending(1));
    txn.fact(Fact::new(FactKind::Recovered).instance(instance.id));
    let mut seen = txn.seen(&instance.sop_instance)?;
    let other = seen
        .entries
        .first()
        .is_some_and(|first| first.digest != instance.digest);
    let jobs = match (known.kept.is_empty(), other) {
        (false, _) => known.kept.clone(),
        (true, true) => {
            let text = "found again: same SOP Instance UID with other content";
            vec![fresh(undecided(HoldKind::Conflict, text, txn))]
        }
        (true, false) => {
            let (kind, text) = (HoldKind::Recovered, "found again without a record; to be decided anew");
            let mut job = undecided(kind, text, txn);
            if let Some(hold) = &known.hold {
                job.hold = Some(hold.clone());
            }
            vec![fresh(job)]
        }
    };
    let hold = |kept: &Kept| kept.job.hold.as_ref().map(|reason| reason.kind);
    let held = jobs.iter().find_map(hold);
    let (mut added, mut numbers) = (went(&record), Vec::new());
    for kept in jobs {
        let awaits = kept.awaits();
        let Kept { job, number, pledge } = kept;
        let dest = txn.number(job.destination.as_ref());
        let corrupt = job.hold.as_ref().filter(|hold| hold.kind == HoldKind::Corrupt).cloned();
        let id = add_job(txn, instance.id, dest, job);
        numbers.push((number, id));
        if awaits {
            commitment::go_on(txn, JobKey { dest, job: id }, pledge)?;
        }
        match corrupt {
            // A resend must be taken in.
            Some(hold) => damaged::mark(txn, instance.id, &hold.text)?,
            None => added.push((dest, id)),
        }
    }
    added.extend(moved::carried(txn, &known.away, &numbers));
    remember(txn, &mut seen, &record, added)?;
    txn.put_seen(&instance.sop_instance, &seen);
    Ok(held)
}

fn fresh(job: NewJob) -> Kept {
    Kept {
        job,
        number: JobId(0),
        pledge: Pledge::default(),
    }
}

/// An instance without jobs, as the cache holds it. A resend of it has nothing to do where it went; anywhere, when that is not known.
/// What a person discarded is delivered then, as it was before. Answers whether it is such a one.
pub(super) fn as_cache(
    txn: &mut Txn<'_>,
    record: &InstanceRecord,
    (known, state): (&Known, FileState),
) -> Result<bool, CommitError> {
    let mut record = with_done(txn, record, known);
    record.delivered = true;
    if state == FileState::Discarded && !record.is_discarded() {
        // Which delivery, nobody knows any more.
        record.done.push(Done {
            dest: keys::UNDECIDED,
            job: JobId(0),
            at: txn.now,
            status: None,
        });
    }
    let instance = &record.instance;
    if let Some(study) = &instance.study {
        txn.put(Cf::Study, keys::study(study, instance.id), Vec::new());
    }
    cache::enter(txn, &record);
    let discarded = record.is_discarded();
    let text = match discarded {
        true => "a person had discarded a delivery of it",
        false => "delivered",
    };
    txn.fact(Fact::new(FactKind::Recovered).instance(instance.id).text(text));
    txn.put_instance(&record);
    let mut went = match record.done.is_empty() {
        // Another copy of it stands for what was delivered.
        true if known.delivered && known.is_traced => Vec::new(),
        true => vec![moved::somewhere(&record.instance)],
        false => went(&record),
    };
    // Discarded by a person, and by nobody confirmed: a resend is delivered, as it was before.
    if !went.is_empty() {
        went.extend(moved::carried(txn, &known.away, &[]));
        let mut seen = txn.seen(&instance.sop_instance)?;
        remember(txn, &mut seen, &record, went)?;
        txn.put_seen(&instance.sop_instance, &seen);
    }
    Ok(discarded)
}

/// The record with what is known of its deliveries.
pub(super) fn with_done(txn: &mut Txn<'_>, record: &InstanceRecord, known: &Known) -> InstanceRecord {
    let mut record = record.clone();
    for (name, done) in &known.done {
        let dest = txn.number(name.as_ref());
        record.done.push(Done { dest, ..done.clone() });
    }
    record
}

/// The deliveries that were confirmed.
pub(super) fn went(record: &InstanceRecord) -> Vec<(u32, JobId)> {
    let confirmed = record.done.iter().filter(|done| done.status.is_some());
    confirmed.map(|done| (done.dest, done.job)).collect()
}

/// The payload file of a record is gone: its jobs are held, visibly; a delivered one leaves the index. Answers whether this is
/// news of an instance that was not delivered.
pub(super) fn payload_missing(txn: &mut Txn<'_>, id: InstanceId) -> Result<bool, CommitError> {
    let references = txn.keys(Cf::Ref, &id.0, usize::MAX)?;
    if references.is_empty() {
        cache::remove(txn, id)?;
        let fact = Fact::new(FactKind::Quarantined).instance(id);
        txn.fact(fact.text("payload: the file is missing"));
        return Ok(false);
    }
    let known = damaged::is_marked(txn, id)?;
    for reference in references {
        if let Some((_, key)) = keys::reference_of(&reference) {
            hold_corrupt(txn, key, "the payload file is missing")?;
        }
    }
    Ok(!known)
}

/// Holds a job whose payload is not what arrived. A hold that only a person may end stays what it is.
pub(super) fn hold_corrupt(txn: &mut Txn<'_>, key: JobKey, text: &str) -> Result<(), CommitError> {
    let Some(mut job) = txn.job(key)? else {
        return Ok(());
    };
    let kind = job.hold.as_ref().map(|(_, reason)| reason.kind);
    if !kind.is_some_and(|kind| kind == HoldKind::Corrupt || kind.is_on_purpose()) {
        displace(txn, key, &job);
        job.hold = Some((txn.now, HoldReason::new(HoldKind::Corrupt, text)));
        place(txn, key, &job);
        let name = txn.name(key.dest);
        txn.fact(
            Fact::new(FactKind::Held)
                .instance(job.instance)
                .job(key.job, name)
                .text(format!("corrupt: {text}")),
        );
    }
    lost_payload(txn, key, &job, text)
}
