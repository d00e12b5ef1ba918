//! Instances whose payload is not what arrived: marked in the index as long as they have jobs, counted in
//! `waystation_spool_damaged`, named by `waystation spool scrub`. The damaged file stays for a person to look at.
//!
//! A resend of the same bytes heals: the new payload takes over all jobs of the damaged one, with what persons and rules
//! held back, and the damaged file goes to `quarantine/`. A payload that is whole again, because a person has put it back, heals too. Called by admit, settle, recover, the scrub and `commitment/judging.rs`.
use super::admit::{displace, place, remember};
use super::adopt::hold_corrupt;
use super::cache;
use super::codec::{unwrap_body, wrap};
use super::commitment::gone;
use super::db::{Cf, Db, DbError};
use super::keys;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, HoldKind, HoldReason, Instance, JobKey, NewJob, ReadError};
use super::moved;
use super::operator::reserve;
use super::record::{Done, InstanceRecord, JobRecord, SeenEntry};
use super::settle::retire;
use super::txn::{Effect, Txn};
use super::wait;
use crate::base::names::{InstanceId, JobId, SourceId, Uid};
use crate::telemetry::metrics::Metrics;
use std::collections::HashMap;

pub(super) const DAMAGED: &[u8] = b"damaged/";
/// The same by content: several copies of one may be damaged.
const BY_CONTENT: &[u8] = b"damaged-content/";

/// A damaged instance, for a person: what to have sent again, and by whom.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct DamagedInstance {
    pub instance: String,
    pub why: String,
    #[serde(default)]
    pub sop_instance: Option<String>,
    #[serde(default)]
    pub study: Option<String>,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub arrival: Option<String>,
}

fn key_of(id: InstanceId) -> Vec<u8> {
    [DAMAGED, &id.0].concat()
}

fn by_content(instance: &Instance) -> Vec<u8> {
    [BY_CONTENT, &instance.digest, &instance.id.0].concat()
}

/// The damaged copies of a content, the one that stands for it first.
fn copies(txn: &Txn<'_>, entry: &SeenEntry) -> Result<Vec<InstanceId>, CommitError> {
    let mut ids = vec![entry.instance];
    for key in txn.keys(Cf::Meta, &[BY_CONTENT, &entry.digest].concat(), usize::MAX)? {
        let id = keys::instance_of(&key[BY_CONTENT.len() + entry.digest.len()..]);
        ids.extend(id.filter(|id| *id != entry.instance));
    }
    let mut marked = Vec::new();
    for id in ids {
        if is_marked(txn, id)? {
            marked.push(id);
        }
    }
    Ok(marked)
}

/// Whether a resend of this content would heal anything.
pub(super) fn is_any_marked(txn: &Txn<'_>, entry: &SeenEntry) -> Result<bool, CommitError> {
    Ok(!copies(txn, entry)?.is_empty())
}

/// Marks an instance; the first reason stays. It stands for its content from now on.
pub(super) fn mark(txn: &mut Txn<'_>, id: InstanceId, why: &str) -> Result<(), CommitError> {
    if is_marked(txn, id)? {
        return Ok(());
    }
    if let Some(InstanceRecord { instance, .. }) = txn.instance(id)? {
        let mut seen = txn.seen(&instance.sop_instance)?;
        let mut same = seen.entries.iter_mut();
        if let Some(entry) = same.find(|entry| entry.digest == instance.digest && entry.instance != id) {
            entry.instance = id;
            txn.put_seen(&instance.sop_instance, &seen);
        }
        txn.put(Cf::Meta, by_content(&instance), Vec::new());
    }
    txn.put(Cf::Meta, key_of(id), wrap(why.as_bytes()));
    txn.effects.push(Effect::Damaged(1));
    Ok(())
}

pub(super) fn is_marked(txn: &Txn<'_>, id: InstanceId) -> Result<bool, CommitError> {
    Ok(txn.get(Cf::Meta, &key_of(id))?.is_some())
}

/// As `is_marked`, outside a batch.
pub(super) fn mark_of(db: &Db, id: InstanceId) -> Result<bool, DbError> {
    Ok(db.get(Cf::Meta, &key_of(id))?.is_some())
}

pub(super) fn unmark(txn: &mut Txn<'_>, id: InstanceId) -> Result<(), CommitError> {
    if is_marked(txn, id)? {
        txn.delete(Cf::Meta, key_of(id));
        // What is left of one without a record is passed over: it is not marked.
        if let Some(record) = txn.instance(id)? {
            txn.delete(Cf::Meta, by_content(&record.instance));
        }
        txn.effects.push(Effect::Damaged(-1));
    }
    Ok(())
}

/// A resend is no repeat of this job any more. Unlike `admit::forget`, the content itself stays known: that is how a resend
/// finds what it heals.
pub(super) fn forget_job(txn: &mut Txn<'_>, sop_instance: &Uid, key: JobKey) -> Result<(), CommitError> {
    let mut seen = txn.seen(sop_instance)?;
    for entry in &mut seen.entries {
        entry.jobs.retain(|known| *known != (key.dest, key.job));
    }
    txn.put_seen(sop_instance, &seen);
    Ok(())
}

/// Takes an instance without jobs out of the index; its file goes to `quarantine/`.
pub(super) fn leave(txn: &mut Txn<'_>, id: InstanceId) -> Result<(), CommitError> {
    cache::remove(txn, id)?;
    txn.effects.push(Effect::Aside(id));
    Ok(())
}

/// Says of an instance that was quarantined whose it is.
pub(super) fn tell(metrics: &Metrics, instance: InstanceId, source: &SourceId) {
    metrics.quarantined_total.with_label_values(&["payload"]).inc();
    tracing::error!(%instance, %source, "a payload is not what arrived: send it again from its modality");
}

/// What the scrub, or the look before a promise, found of an instance that is still there: its open jobs are held, a cached one leaves. False: it is gone.
pub(super) fn quarantine(txn: &mut Txn<'_>, id: InstanceId, why: &str) -> Result<bool, CommitError> {
    if txn.instance(id)?.is_none() {
        return Ok(false);
    }
    let references = txn.keys(Cf::Ref, &id.0, usize::MAX)?;
    let fact = Fact::new(FactKind::Quarantined).instance(id);
    txn.fact(fact.text(format!("payload: {why}")));
    if references.is_empty() {
        leave(txn, id)?;
        return Ok(true);
    }
    for (_, key) in references.iter().filter_map(|raw| keys::reference_of(raw)) {
        // A worker that has it in hand verifies it itself, before its last byte leaves.
        if reserve(txn, key).is_ok() {
            hold_corrupt(txn, key, why)?;
        }
    }
    mark(txn, id, why)?;
    Ok(true)
}

/// What is known of the damaged instances whose place a resend takes.
#[derive(Default)]
pub(super) struct Healed {
    /// Where it had been delivered to.
    pub done: Vec<Done>,
    /// By destination of its open jobs: where a person rerouted them away from.
    pub rerouted: Vec<(u32, Vec<u32>)>,
}

/// A resend of the content `entry` came, as `instance`. The jobs of its copies whose payload is damaged move to `jobs`, and those leave; what the
/// rules make for where a person rerouted one of them away from goes. Where the sender is another one, a job that stands for what his
/// rules make takes its place, and any other stays beside it. `None`: nothing to heal.
pub(super) fn heal(
    txn: &mut Txn<'_>,
    (entry, instance): (&mut SeenEntry, &Instance),
    jobs: &mut Vec<(u32, NewJob)>,
) -> Result<Option<Healed>, CommitError> {
    let mut all: Option<Healed> = None;
    for id in copies(txn, entry)? {
        if let Some(mut healed) = heal_one(txn, id, (entry, instance), jobs)? {
            let all = all.get_or_insert_default();
            all.done.append(&mut healed.done);
            all.rerouted.append(&mut healed.rerouted);
        }
    }
    Ok(all)
}

/// Heals one copy. `None`: a worker has a job of it in hand, and sees by itself what it reads.
fn heal_one(
    txn: &mut Txn<'_>,
    old: InstanceId,
    (entry, instance): (&mut SeenEntry, &Instance),
    jobs: &mut Vec<(u32, NewJob)>,
) -> Result<Option<Healed>, CommitError> {
    let references = txn.keys(Cf::Ref, &old.0, usize::MAX)?;
    let open: Vec<_> = references.iter().filter_map(|raw| keys::reference_of(raw)).collect();
    for (_, key) in &open {
        if reserve(txn, *key).is_err() {
            return Ok(None);
        }
    }
    let mut rerouted = Vec::new();
    for (_, key) in &open {
        let away = entry.turned_away_by(key.job);
        jobs.retain(|(dest, _)| !away.contains(dest));
        rerouted.push((key.dest, away));
    }
    let record = txn.instance(old)?;
    let is_sender = |record: &InstanceRecord| moved::is_of_sender(&record.instance, instance);
    let is_his = record.as_ref().is_some_and(is_sender);
    let came = jobs.len();
    for (_, key) in open {
        let Some(job) = txn.job(key)? else { continue };
        let made = jobs[..came].iter().position(|(dest, _)| *dest == key.dest);
        let stands_for_it = match made {
            Some(at) if !is_his => {
                let served_by = wait::served_by(key.dest, &jobs[at].1, txn);
                !moved::may_go_elsewhere(txn, key, instance, &served_by)?
            }
            Some(_) | None => false,
        };
        displace(txn, key, &job);
        txn.delete(Cf::Job, keys::job(key));
        txn.delete(Cf::Ref, keys::reference(old, key));
        let held = job.hold.as_ref().map(|(_, reason)| reason.clone());
        let hold: Option<HoldReason> = held.filter(|reason| reason.kind.is_on_purpose());
        match made {
            Some(at) if is_his => jobs[at].1.hold = hold.or(jobs[at].1.hold.take()),
            _ if key.dest == keys::UNDECIDED && hold.is_none() => {
                entry.jobs.retain(|known| *known != (key.dest, key.job));
                continue;
            }
            Some(at) if stands_for_it => jobs[at].1 = as_it_was(txn, key, job, hold),
            Some(_) | None => jobs.push((key.dest, as_it_was(txn, key, job, hold))),
        }
        entry.hand_over(key);
    }
    let done = record.map_or(Vec::new(), |record| record.done);
    leave(txn, old)?;
    txn.fact(Fact::new(FactKind::Healed).instance(old));
    Ok(Some(Healed { done, rerouted }))
}

/// A job of a damaged instance, for the one that takes its place.
fn as_it_was(txn: &Txn<'_>, key: JobKey, job: JobRecord, hold: Option<HoldReason>) -> NewJob {
    NewJob {
        destination: txn.name(key.dest),
        priority: job.priority,
        plan: job.plan,
        due: txn.now,
        hold,
        quiet: job.quiet,
        group: job.failover.map(|failover| wait::group(failover, txn)),
    }
}

/// The payload of an instance that was damaged is what arrived again: `digest` is that of the file. What the box had held for it goes,
/// or ends where another instance has brought the same content meanwhile; what a person or a rule holds, stays. Answers whether it did anything.
pub(super) fn whole_again(txn: &mut Txn<'_>, id: InstanceId, digest: [u8; 32]) -> Result<bool, CommitError> {
    let Some(mut record) = txn.instance(id)?.filter(|record| record.instance.digest == digest) else {
        return Ok(false);
    };
    if !is_marked(txn, id)? {
        return Ok(false);
    }
    let references = txn.keys(Cf::Ref, &id.0, usize::MAX)?;
    let open: Vec<_> = references.iter().filter_map(|raw| keys::reference_of(raw)).collect();
    for (_, key) in &open {
        if reserve(txn, *key).is_err() {
            return Ok(false);
        }
    }
    let uid = record.instance.sop_instance.clone();
    let mut seen = txn.seen(&uid)?;
    let mut left = Vec::new();
    for (_, key) in open {
        let Some(job) = txn.job(key)? else { continue };
        let served = match seen.entries.iter().find(|entry| entry.digest == digest) {
            Some(entry) if key.dest != keys::UNDECIDED => {
                moved::is_served(txn, entry, &record.instance, (&[key.dest], key))?
            }
            Some(_) | None => false,
        };
        if is_corrupt(&job) && served {
            displace(txn, key, &job);
            txn.delete(Cf::Job, keys::job(key));
            txn.delete(Cf::Ref, keys::reference(id, key));
            continue;
        }
        left.push((key.dest, key.job));
        if is_corrupt(&job) {
            let_go(txn, key, job);
        }
    }
    unmark(txn, id)?;
    txn.fact(Fact::new(FactKind::Healed).instance(id).text(WHOLE_AGAIN));
    if left.is_empty() {
        txn.fact(Fact::new(FactKind::Repeated).instance(id));
        retire(txn, &mut record);
        gone::remember_discarded(txn, &record);
        txn.put_instance(&record);
        return Ok(true);
    }
    // A resend is a repeat of them again.
    let known = |job: &(u32, JobId)| seen.entries.iter().any(|entry| entry.jobs.contains(job));
    left.retain(|job| !known(job));
    remember(txn, &mut seen, &record, left)?;
    txn.put_seen(&uid, &seen);
    Ok(true)
}

const WHOLE_AGAIN: &str = "its payload is whole again";

fn is_corrupt(job: &JobRecord) -> bool {
    job.hold
        .as_ref()
        .is_some_and(|(_, reason)| reason.kind == HoldKind::Corrupt)
}

fn let_go(txn: &mut Txn<'_>, key: JobKey, mut job: JobRecord) {
    displace(txn, key, &job);
    let anew = || HoldReason::new(HoldKind::Recovered, "its payload is whole again; to be decided anew");
    job.hold = (key.dest == keys::UNDECIDED).then(|| (txn.now, anew()));
    job.due = txn.now;
    if let Some(sent) = &mut job.pledge.sent {
        // The request that had asked for it may be over.
        sent.asked = None;
    }
    place(txn, key, &job);
    let fact = Fact::new(FactKind::Released).instance(job.instance);
    txn.fact(fact.job(key.job, txn.name(key.dest)).text(WHOLE_AGAIN));
}

/// The ids of all that are marked.
pub(super) fn all(db: &Db) -> Result<Vec<InstanceId>, DbError> {
    let mut found = Vec::new();
    db.scan(Cf::Meta, DAMAGED, &keys::behind(DAMAGED), |key, _| {
        found.extend(keys::instance_of(&key[DAMAGED.len()..]));
        true
    })?;
    Ok(found)
}

/// All that are marked, by the SOP Instance UID that they came with.
pub(super) fn by_uid(db: &Db) -> Result<HashMap<Uid, Vec<Instance>>, DbError> {
    let mut found: HashMap<Uid, Vec<Instance>> = HashMap::new();
    for id in all(db)? {
        let raw = db.get(Cf::Instance, &id.0)?;
        if let Some(Ok(InstanceRecord { instance, .. })) = raw.map(|raw| InstanceRecord::decode(&raw)) {
            found.entry(instance.sop_instance.clone()).or_default().push(instance);
        }
    }
    Ok(found)
}

/// How many are marked.
pub(super) fn count(db: &Db) -> Result<i64, DbError> {
    let mut count = 0;
    db.scan(Cf::Meta, DAMAGED, &keys::behind(DAMAGED), |_, _| {
        count += 1;
        true
    })?;
    Ok(count)
}

impl super::Spool {
    /// The damaged instances that still have jobs, oldest first.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn damaged(&self, limit: usize) -> Result<Vec<DamagedInstance>, ReadError> {
        self.read(move |db| {
            let mut found = Vec::new();
            db.scan(Cf::Meta, DAMAGED, &keys::behind(DAMAGED), |key, value| {
                let id = keys::instance_of(&key[DAMAGED.len()..]);
                let why = unwrap_body(value).map_or(String::new(), |body| String::from_utf8_lossy(body).into_owned());
                found.extend(id.map(|id| (id, why)));
                found.len() < limit
            })?;
            found.into_iter().map(|(id, why)| described(db, id, why)).collect()
        })
        .await
    }
}

fn described(db: &Db, id: InstanceId, why: String) -> Result<DamagedInstance, DbError> {
    let raw = db.get(Cf::Instance, &id.0)?;
    let record = raw.and_then(|raw| InstanceRecord::decode(&raw).ok());
    let instance = record.map(|record| record.instance);
    Ok(DamagedInstance {
        instance: id.to_string(),
        why,
        sop_instance: instance.as_ref().map(|instance| instance.sop_instance.to_string()),
        study: instance
            .as_ref()
            .and_then(|instance| instance.study.as_ref().map(ToString::to_string)),
        source: instance.as_ref().map(|instance| instance.source.to_string()),
        arrival: instance.as_ref().map(|instance| instance.arrival.iso()),
    })
}
