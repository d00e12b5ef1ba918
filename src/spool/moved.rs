//! Which destinations a person rerouted a content away from. It stands among the jobs of the content in `seen`, so that neither a
//! resend, nor one that heals a damaged payload, nor a new decision sends it there after all.
//!
//! Such a note is the number of the job that goes on, with the destination that it went to before. Its highest bit tells it from
//! a job of that destination: numbers count up from one. An older version takes it for a job that has ended. A rebuild that can read
//! the old index carries the notes over, with the numbers that it gives anew.
use super::Spool;
use super::db::Cf;
use super::keys;
use super::model::{CommitError, HoldKind, Instance, JobKey, ReadError};
use super::record::{InstanceRecord, JobRecord, SeenEntry, SeenRecord};
use super::txn::Txn;
use crate::base::names::{DestinationId, InstanceId, JobId, Uid};
use std::sync::Arc;

/// A note as a rebuild carries it over: the destination that was rerouted from, by name, and what stands beside it. With a number that is
/// no note's: a delivery that was made.
pub(super) type Away = (DestinationId, JobId);

/// A note, not a job.
const NOTE: u64 = 1 << 63;
/// A note whose job a person discarded: a resend is delivered again, a new decision still makes nothing of it.
const GIVEN_UP: u64 = 1 << 62;

fn note(job: JobId) -> JobId {
    JobId(job.0 | NOTE)
}

/// The number of the job that a note names.
pub(super) fn noted(note: JobId) -> JobId {
    JobId(note.0 & !(NOTE | GIVEN_UP))
}

impl SeenEntry {
    /// The jobs of this content, open or ended, without the notes.
    pub(super) fn deliveries(&self) -> impl Iterator<Item = &(u32, JobId)> {
        self.jobs.iter().filter(|(_, job)| job.0 & NOTE == 0)
    }

    /// The notes alone.
    pub(super) fn notes(&self) -> impl Iterator<Item = &(u32, JobId)> {
        self.jobs.iter().filter(|(_, job)| job.0 & NOTE != 0)
    }

    /// Whether this content goes, or went, to a destination by another job than `but`. `ANYWHERE` is no proof here: what
    /// was acknowledged is rather delivered twice than not at all.
    pub(super) fn serves(&self, dest: u32, but: JobKey) -> bool {
        let other = |(to, job): &(u32, JobId)| *to == dest && (*to, *job) != (but.dest, but.job);
        self.deliveries().any(other)
    }

    /// Whether it goes, or may have gone, to a destination.
    pub(super) fn goes_to(&self, dest: u32) -> bool {
        self.deliveries().any(|(to, _)| *to == dest || *to == keys::ANYWHERE)
    }

    /// Whether a person rerouted it away from a destination.
    pub(super) fn is_turned_away(&self, dest: u32) -> bool {
        self.jobs.iter().any(|(from, job)| job.0 & NOTE != 0 && *from == dest)
    }

    /// The destinations that a job was rerouted away from.
    pub(super) fn turned_away_by(&self, job: JobId) -> Vec<u32> {
        let of_job = self.jobs.iter().filter(|(_, known)| *known == note(job));
        of_job.map(|(from, _)| *from).collect()
    }

    /// `job` goes on where a person sent it: it is not to go to these.
    pub(super) fn turn_away(&mut self, away: &[u32], job: JobKey) {
        for dest in away.iter().copied().filter(|dest| *dest != job.dest) {
            let known = (dest, note(job.job));
            if !self.jobs.contains(&known) {
                self.jobs.push(known);
            }
        }
    }

    /// A job goes on under other keys, and its notes with each of them. Without any, the notes stay.
    fn goes_on(&mut self, from: JobKey, to: &[JobKey]) {
        if self.jobs.contains(&(from.dest, from.job)) {
            self.jobs.extend(to.iter().map(|key| (key.dest, key.job)));
        }
        self.jobs.retain(|known| *known != (from.dest, from.job));
        if to.is_empty() {
            return;
        }
        let away = self.turned_away_by(from.job);
        self.jobs.retain(|(_, known)| *known != note(from.job));
        for key in to {
            self.turn_away(&away, *key);
        }
    }

    /// A job ends here because another instance takes it over, with where it was rerouted from.
    pub(super) fn hand_over(&mut self, key: JobKey) {
        self.jobs
            .retain(|known| *known != (key.dest, key.job) && known.1 != note(key.job));
    }

    /// A person discarded a job.
    pub(super) fn give_up(&mut self, key: JobKey) {
        self.jobs.retain(|known| *known != (key.dest, key.job));
        for (_, job) in &mut self.jobs {
            if *job == note(key.job) {
                job.0 |= GIVEN_UP;
            }
        }
    }
}

/// Whether a repeated send of this content has nothing to do for any of `served_by`, the destinations that would serve one job of it:
/// one of them has it, gets it, or is not to have it, on a person's word. An open delivery counts where it cannot go elsewhere.
pub(super) fn is_repeat(
    txn: &Txn<'_>,
    entry: &SeenEntry,
    instance: &Instance,
    served_by: &[u32],
) -> Result<bool, CommitError> {
    for (to, job) in entry.jobs.iter().filter(|(_, job)| job.0 & GIVEN_UP == 0) {
        let key = JobKey { dest: *to, job: *job };
        let counts = match *to {
            // Nobody knows where it went: where those rules sent what that sender sends.
            keys::ANYWHERE if job.0 != 0 => (*to, *job) == somewhere(instance),
            // As an older version noted it, and of a copy that had left: as the newest copy came.
            keys::ANYWHERE => copy(txn, entry.instance)?
                .is_some_and(|copy| is_of_sender(&copy, instance) && copy.rule_epoch == instance.rule_epoch),
            // A person chose for an image without destination: for what that sender sends, not for what another one's rules fail on.
            keys::UNDECIDED if job.0 & NOTE != 0 => {
                served_by.contains(&keys::UNDECIDED) && is_of_one_sender(txn, entry, instance)?
            }
            dest => served_by.contains(&dest) && !may_go_elsewhere(txn, key, instance, served_by)?,
        };
        if counts {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A delivery of which nobody knows where it went, with a number by which what the same sender sends, and the same rules decide, is known.
pub(super) fn somewhere(instance: &Instance) -> (u32, JobId) {
    let mut hasher = blake3::Hasher::new();
    for name in [
        instance.source.as_str(),
        instance.calling_ae.as_str(),
        instance.called_ae.as_str(),
    ] {
        hasher.update(name.as_bytes()).update(&[0]);
    }
    hasher.update(&instance.rule_epoch.to_be_bytes());
    let hash = hasher.finalize();
    let number = hash.as_bytes()[..8]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    (keys::ANYWHERE, JobId(number & !(NOTE | GIVEN_UP) | 1))
}

/// As `is_repeat`, for a new decision on a job of `instance`: whether another job than that one serves. Neither `ANYWHERE` nor a person's
/// word is a delivery.
pub(super) fn is_served(
    txn: &Txn<'_>,
    entry: &SeenEntry,
    instance: &Instance,
    (served_by, but): (&[u32], JobKey),
) -> Result<bool, CommitError> {
    for (to, job) in entry.deliveries() {
        let key = JobKey { dest: *to, job: *job };
        if served_by.contains(to) && key != but && !may_go_elsewhere(txn, key, instance, served_by)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a delivery is open and may end at none of `served_by`: by a fail-over to others, or because another sender's rules decide
/// on it anew. What one sender sends again is decided as it was.
pub(super) fn may_go_elsewhere(
    txn: &Txn<'_>,
    key: JobKey,
    instance: &Instance,
    served_by: &[u32],
) -> Result<bool, CommitError> {
    let Some(raw) = txn.get(Cf::Job, &keys::job(key))? else {
        return Ok(false);
    };
    let Ok(job) = JobRecord::decode(&raw) else {
        return Ok(true);
    };
    let mut others = job.failover.iter().flat_map(|failover| &failover.rest);
    if others.any(|other| !served_by.contains(&other.dest)) {
        return Ok(true);
    }
    let anew = |kind| matches!(kind, HoldKind::Rule | HoldKind::Incomplete | HoldKind::Edit);
    if key.dest != keys::UNDECIDED && !job.hold.is_some_and(|(_, hold)| anew(hold.kind)) {
        return Ok(false);
    }
    Ok(!copy(txn, job.instance)?.is_some_and(|copy| is_of_sender(&copy, instance)))
}

/// Whether no copy of a content is known to be of another sender than `instance`.
fn is_of_one_sender(txn: &Txn<'_>, entry: &SeenEntry, instance: &Instance) -> Result<bool, CommitError> {
    let began = entry.source == instance.source && entry.called_ae == instance.called_ae;
    Ok(began && copy(txn, entry.instance)?.is_none_or(|copy| is_of_sender(&copy, instance)))
}

fn copy(txn: &Txn<'_>, id: InstanceId) -> Result<Option<Instance>, CommitError> {
    let raw = txn.get(Cf::Instance, &id.0)?;
    let record = raw.and_then(|raw| InstanceRecord::decode(&raw).ok());
    Ok(record.map(|record| record.instance))
}

/// Whether two copies came from one sender, by the names that rules see.
pub(super) fn is_of_sender(one: &Instance, other: &Instance) -> bool {
    one.source == other.source && one.calling_ae == other.calling_ae && one.called_ae == other.called_ae
}

/// A copy of a content whose delivery is still open, whichever copy came last. Of a job that cannot be read: the last one.
pub(super) fn open_copy(txn: &Txn<'_>, entry: &SeenEntry) -> Result<Option<InstanceId>, CommitError> {
    for (dest, job) in entry.deliveries() {
        let key = JobKey { dest: *dest, job: *job };
        if let Some(raw) = txn.get(Cf::Job, &keys::job(key))? {
            return Ok(Some(JobRecord::decode(&raw).map_or(entry.instance, |job| job.instance)));
        }
    }
    Ok(None)
}

/// The notes of a former index in the numbers of this one. `jobs` are former and present number of each job that goes on; a note of
/// another one stands for itself, for no job number is given twice.
pub(super) fn carried(txn: &mut Txn<'_>, away: &[Away], jobs: &[(JobId, JobId)]) -> Vec<(u32, JobId)> {
    let mut carried = Vec::new();
    for (from, noted) in away {
        let goes_on = jobs.iter().find(|(former, _)| note(*former) == *noted);
        let noted = goes_on.map_or(*noted, |(_, present)| note(*present));
        carried.push((txn.number(Some(from)), noted));
    }
    carried
}

/// A job goes on under other keys.
pub(super) fn rename(txn: &mut Txn<'_>, sop_instance: &Uid, from: JobKey, to: &[JobKey]) -> Result<(), CommitError> {
    let mut seen = txn.seen(sop_instance)?;
    for entry in &mut seen.entries {
        entry.goes_on(from, to);
    }
    txn.put_seen(sop_instance, &seen);
    Ok(())
}

/// A person sends a job elsewhere: neither a resend nor a new decision brings it back to where it went before.
pub(super) fn rerouted(txn: &mut Txn<'_>, instance: &Instance, from: JobKey, to: JobKey) -> Result<(), CommitError> {
    rename(txn, &instance.sop_instance, from, &[to])?;
    chosen(txn, instance, from.dest, to)
}

/// A person chose the destination of a job: no new decision brings it back to where it stood before, if only without destination.
pub(super) fn chosen(txn: &mut Txn<'_>, instance: &Instance, from: u32, to: JobKey) -> Result<(), CommitError> {
    let mut seen = txn.seen(&instance.sop_instance)?;
    // By its content: a job that was held for a damaged payload does not stand here.
    for entry in seen.entries.iter_mut().filter(|entry| entry.digest == instance.digest) {
        // Where it goes now, it was wanted last.
        entry.jobs.retain(|(dest, job)| job.0 & NOTE == 0 || *dest != to.dest);
        entry.turn_away(&[from], to);
    }
    txn.put_seen(&instance.sop_instance, &seen);
    Ok(())
}

impl Spool {
    /// Whether a person has rerouted a job to the destination that it has.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn was_rerouted(&self, job: JobId, instance: Arc<Instance>) -> Result<bool, ReadError> {
        self.read(move |db| {
            let raw = db.get(Cf::Seen, &keys::seen(&instance.sop_instance))?;
            let seen = raw.and_then(|raw| SeenRecord::decode(&raw).ok()).unwrap_or_default();
            Ok(seen.entries.iter().any(|entry| !entry.turned_away_by(job).is_empty()))
        })
        .await
    }
}
