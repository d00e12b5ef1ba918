//! The index that a rebuild replaces, as far as it can still be read: what a person or a rule held back must not leave
//! because the index was made anew, and what was delivered must not go twice. Each block of it carries a checksum, so that
//! what can be read is what was written, however much cannot. Changes nothing but a lost `CURRENT`; called by `rebuild.rs`.
use super::alias::Mapped;
use super::commitment::{self, Pledge, gone};
use super::db::{Cf, Db, DbError};
use super::due::LATEST;
use super::keys;
use super::leaving::Leaves;
use super::model::{CommitError, HoldKind, HoldReason, Instance, JobKey, NewJob, Priority};
use super::moved::{self, Away};
use super::record::{Alternative, Done, Failover, InstanceRecord, JobRecord, SeenEntry, SeenRecord};
use super::retention;
use super::study::StudySeen;
use super::txn::{DESTINATION, NEXT_JOB, SUSPENDED, Txn, aside, decode_number};
use super::wait::{Group, GroupKind};
use super::witness::Standing;
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId};
use std::collections::BTreeMap;
use std::path::Path;

/// The old index, open.
pub(super) struct Former {
    db: Db,
    names: BTreeMap<u32, DestinationId>,
}

/// What is known of one instance beside its file.
#[derive(Default)]
pub(super) struct Known {
    /// Its record was there and could be read.
    pub told: bool,
    /// No job was open any more.
    pub delivered: bool,
    /// All its open jobs, as they were.
    pub kept: Vec<Kept>,
    /// Its content is known, and not as one of which nobody knows where it went: without a job and a delivery it ended as a repeat.
    pub is_traced: bool,
    /// Where it went, by name: numbers are given anew. Without one it had no destination.
    pub done: Vec<(Option<DestinationId>, Done)>,
    /// What a person rerouted it away from, and, under the job number 0, where copies of it that have left were delivered.
    pub away: Vec<Away>,
    /// Why it is held when no job is kept; `None`: the rules decide anew by themselves.
    pub hold: Option<HoldReason>,
}

/// An open job, as it was.
#[derive(Clone)]
pub(super) struct Kept {
    pub job: NewJob,
    /// The number that it had.
    pub number: JobId,
    /// How far its destination had committed to keep it.
    pub pledge: Pledge,
}

impl Kept {
    /// Whether it was sent, and waits for its destination's commitment.
    pub(super) fn awaits(&self) -> bool {
        self.pledge.sent.is_some() && self.job.hold.is_none()
    }
}

impl Known {
    /// Adds what persons had ordered. `orders` is `None` when nobody knows that: then `unknown` is the hold of an instance that
    /// the old index does not know either.
    pub(super) fn with_orders(
        mut self,
        id: InstanceId,
        orders: Option<&Standing>,
        unknown: Option<HoldReason>,
    ) -> Self {
        match orders {
            None if !self.told => {
                for Kept { job, .. } in &mut self.kept {
                    if job.hold.as_ref().is_some_and(|hold| hold.kind == HoldKind::Recovered) && unknown.is_some() {
                        job.hold.clone_from(&unknown);
                    }
                }
                self.hold = unknown;
            }
            None => {}
            Some(orders) => {
                if let Some(hold) = orders.held.get(&id).cloned() {
                    let kind = hold.kind;
                    let already = |kept: &Kept| kept.job.hold.as_ref().is_some_and(|hold| hold.kind == kind);
                    if !self.kept.iter().any(already) {
                        self.kept.iter_mut().for_each(|kept| kept.job.hold = Some(hold.clone()));
                        self.hold = Some(hold);
                    }
                }
            }
        }
        self
    }
}

/// A key and its record.
pub(super) type Memory = (Vec<u8>, Vec<u8>);

/// A content whose payload has left the cache, or the spool: the raw key of its SOP Instance UID, where it went, and the entry.
pub(super) struct Evicted {
    pub key: Vec<u8>,
    pub entry: SeenEntry,
    pub destinations: Vec<DestinationId>,
    pub away: Vec<Away>,
}

impl Evicted {
    /// Notes it under its UID in the new index.
    pub(super) fn record(self, txn: &mut Txn<'_>) -> Result<(), CommitError> {
        let mut seen = match txn.get(Cf::Seen, &self.key)? {
            Some(raw) => SeenRecord::decode(&raw).unwrap_or_default(),
            None => SeenRecord::default(),
        };
        let mut jobs: Vec<(u32, JobId)> = match self.destinations.is_empty() {
            true => vec![(keys::ANYWHERE, JobId(0))],
            false => self
                .destinations
                .iter()
                .map(|name| (txn.number(Some(name)), JobId(0)))
                .collect(),
        };
        jobs.extend(moved::carried(txn, &self.away, &[]));
        seen.entries.push(SeenEntry { jobs, ..self.entry });
        txn.put(Cf::Seen, self.key, seen.encode());
        Ok(())
    }
}

impl Former {
    pub(super) fn open(path: &Path) -> Result<Self, DbError> {
        // A `CURRENT` that is mended in vain changes nothing: the open says what is wrong.
        drop(mend_current(path));
        let db = Db::open_remains(path)?;
        let mut names = BTreeMap::new();
        db.scan(Cf::Meta, DESTINATION, &keys::behind(DESTINATION), |key, value| {
            let number = decode_number(value).ok().and_then(|n| u32::try_from(n).ok());
            if let (Some(name), Some(number)) = (name_of(key, DESTINATION), number) {
                names.insert(number, name);
            }
            true
        })?;
        Ok(Self { db, names })
    }

    /// For what is carried over as it is.
    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// The first job number that it has not given out; job numbers on the old ledger are never used again.
    pub(super) fn next_job(&self) -> Result<u64, DbError> {
        let raw = self.db.get(Cf::Meta, NEXT_JOB)?;
        Ok(raw.and_then(|raw| decode_number(&raw).ok()).unwrap_or(1))
    }

    /// The suspended destinations, with the record of each suspension.
    pub(super) fn suspended(&self) -> Result<Vec<(DestinationId, Vec<u8>)>, DbError> {
        let mut found = Vec::new();
        self.db
            .scan(Cf::Meta, SUSPENDED, &keys::behind(SUSPENDED), |key, value| {
                found.extend(name_of(key, SUSPENDED).map(|name| (name, value.to_vec())));
                true
            })?;
        Ok(found)
    }

    /// The record of an instance, where it can be read.
    pub(super) fn instance(&self, id: InstanceId) -> Option<InstanceRecord> {
        let raw = self.db.get(Cf::Instance, &id.0).ok().flatten()?;
        InstanceRecord::decode(&raw).ok()
    }

    /// What it tells of an instance. A record that cannot be read tells nothing.
    pub(super) fn known(&self, id: InstanceId, now: Wall) -> Result<Known, DbError> {
        let mut known = Known::default();
        let record = self.db.get(Cf::Instance, &id.0)?;
        if let Some(Ok(record)) = record.map(|raw| InstanceRecord::decode(&raw)) {
            let named = |done: Done| match done.dest {
                keys::UNDECIDED => Some((None, done)),
                dest => Some((Some(self.names.get(&dest)?.clone()), done)),
            };
            known.told = true;
            known.delivered = record.delivered;
            known.done = record.done.into_iter().filter_map(named).collect();
            let seen = self.db.get(Cf::Seen, &keys::seen(&record.instance.sop_instance))?;
            let seen = seen.and_then(|raw| SeenRecord::decode(&raw).ok()).unwrap_or_default();
            let instance = &record.instance;
            let mut same = seen.entries.iter().filter(|entry| entry.digest == instance.digest);
            if let Some(entry) = same.next() {
                let (open, own) = (self.open_jobs(entry)?, self.jobs_of(id)?);
                let of_another = |job| open.contains(&job) && !own.iter().any(|key| key.job == job);
                known.is_traced = !entry.deliveries().any(|(dest, _)| *dest == keys::ANYWHERE);
                known.away = self.away(entry, of_another);
                known.away.extend(self.made_by_copies(instance, entry)?);
            }
        }
        for key in self.jobs_of(id)? {
            let raw = self.db.get(Cf::Job, &keys::job(key))?;
            let job = raw.and_then(|raw| JobRecord::decode(&raw).ok());
            // One that cannot be read leaves the instance to be decided anew, beside the jobs that are known.
            known.told &= job.is_some();
            let pledge = job.as_ref().map(|job| job.pledge.clone()).unwrap_or_default();
            let job = self.again(key.dest, job, now);
            known.kept.push(Kept {
                job,
                number: key.job,
                pledge,
            });
        }
        known.delivered &= known.kept.is_empty();
        Ok(known)
    }

    /// The notes of a content, but for those of jobs that `skip`: they go with the copy whose job it is, which has a new number.
    fn away(&self, entry: &SeenEntry, skip: impl Fn(JobId) -> bool) -> Vec<Away> {
        let named = |(dest, job): &(u32, JobId)| Some((self.names.get(dest)?.clone(), *job));
        let notes = entry.notes().filter(|(_, noted)| !skip(moved::noted(*noted)));
        notes.filter_map(named).collect()
    }

    /// Where copies of a content that have left were delivered: what is remembered of them says so, and a resend was a repeat of it.
    fn made_by_copies(&self, instance: &Instance, entry: &SeenEntry) -> Result<Vec<Away>, DbError> {
        let mut made = gone::made_by_copies(&self.db, &instance.sop_instance, &instance.digest)?;
        let knows = |name: &DestinationId| entry.deliveries().any(|(dest, _)| self.names.get(dest) == Some(name));
        made.retain(knows);
        Ok(made.into_iter().map(|name| (name, JobId(0))).collect())
    }

    /// The open jobs of an instance, by their references.
    fn jobs_of(&self, id: InstanceId) -> Result<Vec<JobKey>, DbError> {
        let mut open = Vec::new();
        self.db.scan(Cf::Ref, &id.0, &keys::behind(&id.0), |key, _| {
            open.extend(keys::reference_of(key).map(|(_, job)| job));
            true
        })?;
        Ok(open)
    }

    /// The numbers of the open jobs of a content, of whichever copy. Those of a damaged one, which comes last, stand by their
    /// references alone.
    fn open_jobs(&self, entry: &SeenEntry) -> Result<Vec<JobId>, DbError> {
        let mut open: Vec<JobId> = self.jobs_of(entry.instance)?.into_iter().map(|key| key.job).collect();
        for (dest, job) in entry.deliveries() {
            if self.is_open(*dest, *job)? {
                open.push(*job);
            }
        }
        Ok(open)
    }

    fn is_open(&self, dest: u32, job: JobId) -> Result<bool, DbError> {
        Ok(self.db.get(Cf::Job, &keys::job(JobKey { dest, job }))?.is_some())
    }

    /// A job as it was. What cannot be read, or has lost its destination, is for the rules or a person to decide.
    fn again(&self, dest: u32, job: Option<JobRecord>, now: Wall) -> NewJob {
        let destination = self.names.get(&dest).cloned();
        let Some(job) = job else {
            return NewJob {
                destination: None,
                priority: Priority::Routine,
                plan: Vec::new(),
                due: now,
                hold: Some(HoldReason::new(
                    HoldKind::Recovered,
                    "its job could not be read; to be decided anew",
                )),
                quiet: None,
                group: None,
            };
        };
        let hold = job.hold.map(|(_, reason)| reason);
        let hold = match destination {
            Some(_) => hold,
            None => hold.or(Some(HoldReason::new(
                HoldKind::Recovered,
                "its destination could not be read; to be decided anew",
            ))),
        };
        NewJob {
            destination,
            priority: job.priority,
            plan: job.plan,
            due: job.due.min(now.plus(LATEST)),
            hold,
            quiet: job.quiet,
            group: job.failover.map(|failover| self.group(failover)),
        }
    }

    /// Calls `each` with the records of all instances that were not delivered, as far as they can be read.
    pub(super) fn pending(&self, mut each: impl FnMut(InstanceRecord)) -> Result<(), DbError> {
        self.db.scan(Cf::Instance, &[], &[], |_, value| {
            if let Ok(record) = InstanceRecord::decode(value)
                && !record.delivered
            {
                each(record);
            }
            true
        })
    }

    fn group(&self, failover: Failover) -> Group {
        let named = |other: Alternative| Some((self.names.get(&other.dest)?.clone(), other.plan));
        Group {
            kind: GroupKind::Failover { after: failover.after },
            others: failover.rest.into_iter().filter_map(named).collect(),
        }
    }

    /// The next records of studies and entries of the alias map, as they are, out of at most `max`, and where to go on.
    pub(super) fn memory(
        &self,
        (cf, from): (Cf, &[u8]),
        max: usize,
    ) -> Result<(Vec<Memory>, Option<Vec<u8>>), DbError> {
        let (mut found, mut next, mut looked) = (Vec::new(), None, 0);
        self.db.scan(cf, from, &[], |key, value| {
            if looked == max {
                next = Some(key.to_vec());
                return false;
            }
            looked += 1;
            let sound = match cf {
                Cf::Study => keys::is_study(key) && StudySeen::decode(value).is_ok(),
                Cf::Meta if keys::is_alias(key) => value.is_empty() || Mapped::decode(value).is_ok(),
                Cf::Meta if key.starts_with(keys::LEAVES) => Leaves::decode(value).is_ok(),
                Cf::Meta => commitment::outlives(key, value) || retention::is_sound(key, value),
                _ => false,
            };
            if sound {
                found.push((key.to_vec(), value.to_vec()));
            }
            true
        })?;
        Ok((found, next))
    }

    /// The next contents from `from` on whose payload has left the cache, out of at most `max` records, and where to go on;
    /// `None` at the end.
    pub(super) fn evicted(&self, from: &[u8], max: usize) -> Result<(Vec<Evicted>, Option<Vec<u8>>), DbError> {
        let (mut records, mut next) = (Vec::new(), None);
        self.db.scan(Cf::Seen, from, &[], |key, value| {
            if records.len() == max {
                next = Some(key.to_vec());
                return false;
            }
            records.push((key.to_vec(), SeenRecord::decode(value).unwrap_or_default()));
            true
        })?;
        let mut found = Vec::new();
        for (key, seen) in records {
            for mut entry in seen.entries {
                let id = entry.instance.0;
                // With a record it never left; in quarantine it may not have left.
                if self.db.get(Cf::Instance, &id)?.is_some()
                    || self.db.get(Cf::Quarantine, &aside(Cf::Instance, &id))?.is_some()
                {
                    continue;
                }
                let open = self.open_jobs(&entry)?;
                let away = self.away(&entry, |job| open.contains(&job));
                // What is open is that of an older copy, and goes on with it.
                entry.jobs.retain(|(_, job)| !open.contains(job));
                // Without jobs it went nowhere: its payload was damaged, and a person discarded it. A resend is delivered.
                if entry.deliveries().next().is_none() {
                    continue;
                }
                let name = |(dest, _): &(u32, _)| self.names.get(dest).cloned();
                found.push(Evicted {
                    key: key.clone(),
                    destinations: entry.deliveries().filter_map(name).collect(),
                    away,
                    entry,
                });
            }
        }
        Ok((found, next))
    }
}

fn name_of(key: &[u8], prefix: &[u8]) -> Option<DestinationId> {
    let name = std::str::from_utf8(key.get(prefix.len()..)?).ok()?;
    DestinationId::parse(name).ok()
}

/// `CURRENT` names the manifest in force. Gone or damaged, it is made again when only one manifest is there to be meant; the
/// damaged one stays beside it.
fn mend_current(index: &Path) -> std::io::Result<()> {
    let current = index.join("CURRENT");
    let named = std::fs::read_to_string(&current).unwrap_or_default();
    if named.ends_with('\n') && named.starts_with("MANIFEST-") && index.join(named.trim_end()).is_file() {
        return Ok(());
    }
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(index)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("MANIFEST-") {
            manifests.push(name);
        }
    }
    let [only] = manifests.as_slice() else {
        return Ok(());
    };
    if current.exists() {
        std::fs::rename(&current, index.join("CURRENT.damaged"))?;
    }
    std::fs::write(current, format!("{only}\n"))
}
