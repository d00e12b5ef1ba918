//! What a commit does to the index: is this instance new, a repeat, or another content under a known UID; and its jobs.
//! Run by whoever has the committer, one at a time, so that two concurrent sends of one UID see each other.
use super::commitment::{self, Pledge};
use super::damaged::{self, Healed};
use super::db::Cf;
use super::due::LATEST;
use super::group;
use super::keys;
use super::ledger::{Arrival, Detail, Fact, FactKind, Planned};
use super::model::{Commit, CommitError, Committed, HoldKind, HoldReason, Instance, JobKey, NewJob, Priority, Repeat};
use super::payload::path_of;
use super::record::{InstanceRecord, JobRecord, SEEN_LOOK, SEEN_MAX, SeenEntry, SeenRecord};
use super::study::StudySeen;
use super::trace::{self, Trait};
use super::txn::{Effect, Txn, WAITS, meta_key};
use super::witness::{self, Order};
use super::{alias, leaving, moved, study, wait};
use crate::base::fault::{Plant, planted};
use crate::base::names::{InstanceId, JobId, Uid};

/// Decides and records. `record.instance` already carries study and rule epoch.
/// `Err` with what the study has come to be, when the decision believed otherwise: nothing is recorded then.
pub(super) fn admit(
    txn: &mut Txn<'_>,
    record: &InstanceRecord,
    commit: Commit,
) -> Result<Result<Committed, StudySeen>, CommitError> {
    let instance = &record.instance;
    let mut seen = txn.seen(&instance.sop_instance)?;
    let same = seen.entries.iter().position(|entry| entry.digest == instance.digest);
    let conflict = same.is_none() && !seen.entries.is_empty();
    let mut jobs = distinct(commit.jobs, txn);
    let mut healed = None;
    if let Some(index) = same {
        let entry = &mut seen.entries[index];
        if commit.repeat == Repeat::Acknowledge {
            jobs = not_repeated(txn, jobs, (entry, instance))?;
        }
        // A decision that was overtaken is made anew, and must have changed nothing.
        if (!jobs.is_empty() || damaged::is_any_marked(txn, entry)?)
            && let Some(seen) = study::overtaken(txn, instance.study.as_ref(), &commit.note)?
        {
            return Ok(Err(seen));
        }
        healed = damaged::heal(txn, (entry, instance), &mut jobs)?;
        if jobs.is_empty() {
            let first = entry.instance;
            let arrival = Detail::Arrival(Arrival::of(record, Vec::new()));
            txn.fact(Fact::new(FactKind::Repeated).instance(first).detail(arrival));
            return Ok(Ok(Committed::Repeat(first)));
        }
    }
    if same.is_none()
        && let Some(seen) = study::overtaken(txn, instance.study.as_ref(), &commit.note)?
    {
        return Ok(Err(seen));
    }
    if let Some(first) = seen
        .entries
        .first()
        .filter(|_| conflict && planted(Plant::OverwriteDuplicate))
    {
        return overwrite(txn, record, first.instance).map(Ok);
    }
    match &healed {
        None => txn.put_instance(record),
        // What it replaces may have been delivered elsewhere.
        Some(Healed { done, .. }) => txn.put_instance(&InstanceRecord {
            done: done.clone(),
            ..record.clone()
        }),
    }
    if let Some(study) = &instance.study {
        txn.put(Cf::Study, keys::study(study, instance.id), Vec::new());
    }
    study::came(txn, record, &commit.note.values, seen.entries.is_empty())?;
    alias::record(txn, &instance.source, instance.rule_epoch, &commit.aliases)?;
    txn.effects.push(Effect::Pending(1));
    let added = enter(txn, record, jobs, &seen, (conflict, &commit.traits))?;
    let rerouted = healed.map_or(Vec::new(), |healed| healed.rerouted);
    let away: Vec<_> = rerouted
        .into_iter()
        .filter_map(|(dest, away)| {
            let (_, job) = added.iter().find(|(to, _)| *to == dest)?;
            Some((JobKey { dest, job: *job }, away))
        })
        .collect();
    remember(txn, &mut seen, record, added)?;
    for entry in seen.entries.iter_mut().filter(|entry| entry.digest == instance.digest) {
        away.iter().for_each(|(job, away)| entry.turn_away(away, *job));
    }
    txn.put_seen(&instance.sop_instance, &seen);
    Ok(Ok(if conflict {
        Committed::Conflict(instance.id)
    } else {
        Committed::Stored(instance.id)
    }))
}

/// Of the jobs of a repeated send those that have something to do.
fn not_repeated(
    txn: &mut Txn<'_>,
    jobs: Vec<(u32, NewJob)>,
    (entry, instance): (&SeenEntry, &Instance),
) -> Result<Vec<(u32, NewJob)>, CommitError> {
    let mut left = Vec::new();
    for (dest, job) in jobs {
        let served_by = wait::served_by(dest, &job, txn);
        if !moved::is_repeat(txn, entry, instance, &served_by)? {
            left.push((dest, job));
        }
    }
    Ok(left)
}

/// The arrival on the ledger, with all that was decided, and then its jobs.
fn enter(
    txn: &mut Txn<'_>,
    record: &InstanceRecord,
    jobs: Vec<(u32, NewJob)>,
    seen: &SeenRecord,
    (conflict, traits): (bool, &[Trait]),
) -> Result<Vec<(u32, JobId)>, CommitError> {
    let instance = &record.instance;
    let (mut keyed, mut planned) = (Vec::new(), Vec::new());
    for (dest, mut job) in jobs {
        let taken = leaving::taken(txn, (instance, seen), dest, &job.plan)?;
        let taken = if conflict {
            Some(leaving::other_content())
        } else {
            taken
        };
        job.hold = leaving::with(taken, job.hold.take());
        let key = JobKey {
            dest,
            job: txn.new_job(),
        };
        planned.push(Planned {
            job: key.job.0,
            to: txn.name(dest),
            held: job.hold.is_some() || dest == keys::UNDECIDED,
        });
        keyed.push((key, job));
    }
    let kind = if conflict { FactKind::Conflict } else { FactKind::Stored };
    let fact = Fact::new(kind).instance(instance.id).text(instance.source.as_str());
    let note = trace::record(txn, instance.id, traits)?;
    txn.fact_with(fact.detail(Detail::Arrival(Arrival::of(record, planned))), note);
    let mut added = Vec::with_capacity(keyed.len());
    for (key, job) in keyed {
        put_new(txn, instance.id, key, job);
        added.push((key.dest, key.job));
    }
    Ok(added)
}

/// The planted fault: what a spool that names its files by UID would do.
fn overwrite(txn: &mut Txn<'_>, record: &InstanceRecord, first: InstanceId) -> Result<Committed, CommitError> {
    let root = &txn.book.core.config.path;
    let moved = std::fs::rename(path_of(root, record.instance.id), path_of(root, first));
    moved.map_err(|_| CommitError::Damaged)?;
    let mut record = record.clone();
    record.instance.id = first;
    txn.put_instance(&record);
    Ok(Committed::Repeat(first))
}

/// One job for each destination, the first said; an undecided one when nothing was decided. A group that a destination said by
/// itself, or of another group, is a member of has its one copy already.
fn distinct(jobs: Vec<NewJob>, txn: &mut Txn<'_>) -> Vec<(u32, NewJob)> {
    let mut out: Vec<(u32, NewJob)> = Vec::new();
    let (plain, grouped): (Vec<NewJob>, Vec<NewJob>) = jobs.into_iter().partition(|job| job.group.is_none());
    for job in plain.into_iter().chain(grouped) {
        let job = wait::shared_out(job, txn);
        let dest = txn.number(job.destination.as_ref());
        let served = wait::served_by(dest, &job, txn);
        if !out.iter().any(|(known, _)| served.contains(known)) {
            out.push((dest, job));
        }
    }
    if out.is_empty() {
        out.push((
            keys::UNDECIDED,
            undecided(HoldKind::NoDestination, "no destination was named", txn),
        ));
    }
    out
}

pub(super) fn undecided(kind: HoldKind, text: &str, txn: &Txn<'_>) -> NewJob {
    NewJob {
        destination: None,
        priority: Priority::Routine,
        plan: Vec::new(),
        due: txn.now,
        hold: Some(HoldReason::new(kind, text)),
        quiet: None,
        group: None,
    }
}

/// Writes one job beyond those of an arrival, queued or held, with its reference and its fact.
pub(super) fn add_job(txn: &mut Txn<'_>, instance: InstanceId, dest: u32, new: NewJob) -> JobId {
    let key = JobKey {
        dest,
        job: txn.new_job(),
    };
    if !put_new(txn, instance, key, new) {
        queued(txn, instance, key);
    }
    key.job
}

/// The fact of a job that was not of its instance's arrival.
pub(super) fn queued(txn: &mut Txn<'_>, instance: InstanceId, key: JobKey) {
    let fact = Fact::new(FactKind::Queued).instance(instance);
    let fact = fact.job(key.job, txn.name(key.dest));
    txn.fact(fact);
}

/// Answers whether it is held, which has a fact of its own.
fn put_new(txn: &mut Txn<'_>, instance: InstanceId, key: JobKey, new: NewJob) -> bool {
    let dest = key.dest;
    let due = wait::first_due(&new, txn.now);
    let mut hold = new.hold;
    if dest == keys::UNDECIDED && hold.is_none() {
        hold = Some(HoldReason::new(HoldKind::NoDestination, "no destination was named"));
    }
    let job = JobRecord {
        instance,
        priority: new.priority,
        due,
        attempts: 0,
        enqueued: txn.now,
        outcome: String::new(),
        hold: hold.map(|reason| (txn.now, reason)),
        plan: new.plan,
        quiet: new.quiet,
        failover: wait::failover(new.group, dest, txn),
        pledge: Pledge::default(),
    };
    txn.put(Cf::Ref, keys::reference(instance, key), Vec::new());
    if let Some((_, reason)) = &job.hold {
        let fact = Fact::new(FactKind::Held)
            .instance(instance)
            .job(key.job, txn.name(dest));
        let text = format!("{}: {}", reason.kind.word(), reason.text);
        txn.fact(fact.text(text));
    }
    place(txn, key, &job);
    job.hold.is_some()
}

/// Writes a job's record and its one entry: in `hold` when held, in `due` when not.
pub(super) fn place(txn: &mut Txn<'_>, key: JobKey, job: &JobRecord) {
    match (&job.hold, txn.lane(key.dest)) {
        (Some((since, reason)), lane) => {
            txn.put(Cf::Hold, keys::hold(key, *since), vec![reason.kind as u8]);
            let name = lane.map(|lane| lane.name.clone());
            txn.effects.push(Effect::Held(name, reason.kind));
            if witness::is_listed(reason.kind) {
                let order = Order::held(job.instance, key.job, reason);
                txn.effects.push(Effect::Order(order));
            }
        }
        (None, Some(lane)) if job.pledge.sent.is_some() => commitment::place(txn, key, &job.pledge, lane),
        (None, Some(_)) if planted(Plant::LoseDue) && key.job.0.is_multiple_of(3) => {}
        (None, Some(lane)) => {
            let group = group_of(txn, job);
            txn.put(Cf::Due, keys::due(key, job.priority, job.due), group);
            // Retries have an outcome, and their lane's bound; what is due later than a day is of a wrong clock.
            let later = txn.now < job.due && job.due <= txn.now.plus(LATEST);
            if job.quiet.is_some() || (job.outcome.is_empty() && later) {
                txn.put(Cf::Meta, meta_key(WAITS, lane.name.as_str()), Vec::new());
                txn.effects.push(Effect::Waits(lane.clone()));
            }
            if let Some(failover) = &job.failover {
                txn.put(Cf::Meta, keys::failover(key, failover.after), Vec::new());
            }
            txn.effects.push(Effect::Queued(lane, job.priority, job.due));
        }
        (None, None) => unreachable!("an undecided job is always held"),
    }
    txn.put_job(key, job);
}

/// What stands beside the due time: the group that a small object belongs to. One that cannot be read belongs to none.
fn group_of(txn: &Txn<'_>, job: &JobRecord) -> Vec<u8> {
    let raw = txn.get(Cf::Instance, &job.instance.0).ok().flatten();
    let record = raw.and_then(|raw| InstanceRecord::decode(&raw).ok());
    record
        .and_then(|record| group::of(&record))
        .map_or_else(Vec::new, |group| group.to_vec())
}

/// Takes a job's one entry away; its record stays as it is.
pub(super) fn displace(txn: &mut Txn<'_>, key: JobKey, job: &JobRecord) {
    match (&job.hold, txn.lane(key.dest)) {
        (Some((since, reason)), lane) => {
            txn.delete(Cf::Hold, keys::hold(key, *since));
            let name = lane.map(|lane| lane.name.clone());
            txn.effects.push(Effect::Unheld(name, reason.kind));
            if witness::is_listed(reason.kind) {
                txn.effects.push(Effect::Order(Order::Over { job: key.job.0 }));
            }
        }
        (None, Some(lane)) if job.pledge.sent.is_some() => commitment::displace(txn, key, &job.pledge, lane),
        (None, Some(lane)) => {
            txn.delete(Cf::Due, keys::due(key, job.priority, job.due));
            if let Some(failover) = &job.failover {
                txn.delete(Cf::Meta, keys::failover(key, failover.after));
            }
            txn.effects.push(Effect::Unqueued(lane, job.priority));
        }
        // A job without hold and without lane cannot be written; a damaged index may still hold one.
        (None, None) => {}
    }
}

/// Notes in `seen` that this content goes there too.
pub(super) fn remember(
    txn: &mut Txn<'_>,
    seen: &mut SeenRecord,
    record: &InstanceRecord,
    added: Vec<(u32, JobId)>,
) -> Result<(), CommitError> {
    let instance = &record.instance;
    match seen.entries.iter_mut().find(|entry| entry.digest == instance.digest) {
        Some(entry) => {
            entry.instance = instance.id;
            entry.jobs.extend(added);
        }
        None => seen.entries.push(SeenEntry {
            digest: instance.digest,
            instance: instance.id,
            source: instance.source.clone(),
            called_ae: instance.called_ae.clone(),
            at: instance.arrival,
            jobs: added,
        }),
    }
    let many = seen.entries.len().saturating_sub(SEEN_MAX);
    if many == 0 {
        return Ok(());
    }
    let mut done = Vec::new();
    for (at, entry) in seen.entries.iter().take(SEEN_LOOK).enumerate() {
        if entry.instance != instance.id && is_done_with(txn, &instance.sop_instance, entry)? {
            done.push(at);
        }
    }
    // One stays: by it every other content knows that the UID is taken.
    done.pop();
    for at in done.into_iter().take(many).rev() {
        seen.entries.remove(at);
    }
    Ok(())
}

/// Whether a content may be forgotten among many of its UID: it is where it must be, or how it left is remembered by itself. Of any
/// other, a commitment would be promised without it.
fn is_done_with(txn: &mut Txn<'_>, sop_instance: &Uid, entry: &SeenEntry) -> Result<bool, CommitError> {
    let id = entry.instance;
    if moved::open_copy(txn, entry)?.is_some() {
        return Ok(false);
    }
    match txn.instance(id)? {
        Some(record) => Ok(record.delivered
            && !record.is_discarded()
            && !entry.deliveries().any(|(dest, _)| *dest == keys::ANYWHERE)
            && txn.keys(Cf::Ref, &id.0, 1)?.is_empty()
            && !damaged::is_marked(txn, id)?),
        None => Ok(txn.get(Cf::Meta, &keys::gone(sop_instance, id))?.is_some()),
    }
}

/// A job that a person discarded is forgotten here: a resend is delivered again. Answers whether its content is forgotten with it,
/// because it goes and went nowhere else.
pub(super) fn forget(txn: &mut Txn<'_>, instance: &Instance, key: JobKey) -> Result<bool, CommitError> {
    let mut seen = txn.seen(&instance.sop_instance)?;
    for entry in &mut seen.entries {
        entry.give_up(key);
    }
    let known = seen.entries.len();
    // Another content without jobs is one whose payload is damaged: a resend must find it.
    seen.entries
        .retain(|entry| entry.deliveries().next().is_some() || entry.digest != instance.digest);
    txn.put_seen(&instance.sop_instance, &seen);
    Ok(seen.entries.len() < known)
}
