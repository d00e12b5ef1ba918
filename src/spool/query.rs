//! Looking into the queue: filters, listings in pages, counts. Reads a snapshot; never stalls a commit.
use super::Spool;
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::job_state::JobState;
use super::keys;
use super::ledger::{Fact, FactKind, of_instance};
use super::model::{HoldKind, HoldReason, Instance, JobKey, Priority, ReadError};
use super::record::{InstanceRecord, JobRecord, SeenRecord};
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId, SourceId, Uid};
use std::sync::Arc;
use std::time::Duration;

/// Which jobs are meant: all that match every field that is set. Without `state`, all that have not ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Filter {
    pub destination: Option<DestinationId>,
    /// Only jobs without a destination.
    pub undecided: bool,
    /// Only jobs that have a destination.
    pub decided: bool,
    pub state: Option<JobState>,
    pub source: Option<SourceId>,
    pub kind: Option<HoldKind>,
    /// Only jobs that are not held for one of these.
    pub except: Vec<HoldKind>,
    /// Job ids; empty for any.
    pub jobs: Vec<u64>,
    /// Our instance id, as 32 hexadecimal digits.
    pub instance: Option<String>,
    pub sop_instance: Option<Uid>,
    pub study: Option<Uid>,
    /// Waiting since before now minus this.
    pub older_than: Option<Duration>,
    /// Only jobs with a smaller number: those that were there when something began.
    pub made_before: Option<u64>,
}

/// One job, as a listing shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// For `after`, to get the next page.
    pub cursor: String,
    pub job: JobId,
    pub destination: Option<DestinationId>,
    pub state: JobState,
    pub priority: Priority,
    /// Of a job that has ended: as often as the ledger still tells.
    pub attempts: u32,
    pub enqueued: Wall,
    /// Of a job that has ended: when that was.
    pub due: Wall,
    /// What the destination said last, or the status word of the end.
    pub outcome: String,
    pub hold: Option<HoldReason>,
    pub held_since: Option<Wall>,
    /// Why a person discarded it, while the ledger has the line.
    pub discarded: Option<String>,
    pub plan: Vec<u8>,
    /// `None` when its record could not be read.
    pub instance: Option<Arc<Instance>>,
    pub(super) key: JobKey,
}

impl Filter {
    /// Whether the fields that speak of the instance all hold for this one.
    pub(super) fn is_about(&self, instance: &Instance) -> bool {
        self.source.as_ref().is_none_or(|wanted| *wanted == instance.source)
            && self
                .sop_instance
                .as_ref()
                .is_none_or(|wanted| *wanted == instance.sop_instance)
            && self
                .study
                .as_ref()
                .is_none_or(|wanted| instance.study.as_ref() == Some(wanted))
            && self
                .instance
                .as_ref()
                .is_none_or(|wanted| *wanted == instance.id.to_string())
    }
}

impl Spool {
    /// One page of jobs. `after` is the cursor of the last row of the page before.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn list(&self, filter: Filter, after: Option<String>, limit: usize) -> Result<Vec<Row>, ReadError> {
        let core = self.core.clone();
        self.read(move |db| {
            let mut rows = Vec::new();
            if limit > 0 {
                walk(&core, db, &filter, after.as_deref(), |row| {
                    rows.push(row);
                    rows.len() < limit
                })?;
            }
            rows.iter_mut().try_for_each(|row| row.recall(db))?;
            Ok(rows)
        })
        .await
    }

    /// One job that has not ended.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn show(&self, job: JobId) -> Result<Option<Row>, ReadError> {
        let filter = Filter {
            jobs: vec![job.0],
            ..Filter::default()
        };
        Ok(self.list(filter, None, 1).await?.pop())
    }

    /// Those of these jobs that have ended, while their instances are in the spool. Looks through all instances.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn ended(&self, jobs: Vec<u64>) -> Result<Vec<Row>, ReadError> {
        let mut found = Vec::new();
        for state in [JobState::Delivered, JobState::Discarded] {
            let filter = Filter {
                jobs: jobs.clone(),
                state: Some(state),
                ..Filter::default()
            };
            found.extend(self.list(filter, None, jobs.len()).await?);
        }
        Ok(found)
    }

    /// How many jobs match.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn count(&self, filter: Filter) -> Result<u64, ReadError> {
        let core = self.core.clone();
        self.read(move |db| {
            let mut count = 0;
            walk(&core, db, &filter, None, |_| {
                count += 1;
                true
            })?;
            Ok(count)
        })
        .await
    }

    /// Jobs held without a destination, of one kind.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn undecided(&self, kind: HoldKind, limit: usize) -> Result<Vec<(JobId, Arc<Instance>)>, ReadError> {
        let filter = Filter {
            undecided: true,
            kind: Some(kind),
            ..Filter::default()
        };
        let rows = self.list(filter, None, limit).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((row.job, row.instance?)))
            .collect())
    }
}

/// Calls `each` for the matching jobs until it answers false.
pub(super) fn walk(
    core: &Core,
    db: &Db,
    filter: &Filter,
    after: Option<&str>,
    mut each: impl FnMut(Row) -> bool,
) -> Result<(), DbError> {
    let walk = Walk {
        core,
        db,
        filter,
        now: core.clock.now(),
    };
    let from = after.and_then(unhex).map(|mut key| {
        key.push(0);
        key
    });
    if let Some(state @ (JobState::Delivered | JobState::Discarded)) = filter.state {
        return walk.ended(state, from.unwrap_or_default(), &mut each);
    }
    if let Some(mut narrow) = walk.narrow()? {
        narrow.sort_unstable();
        narrow.dedup();
        for key in narrow {
            let raw = keys::job(key).to_vec();
            if from.as_ref().is_none_or(|from| raw >= *from)
                && let Some(row) = walk.row(raw, key)?
                && !each(row)
            {
                return Ok(());
            }
        }
        return Ok(());
    }
    walk.all(from, &mut each)
}

struct Walk<'a> {
    core: &'a Core,
    db: &'a Db,
    filter: &'a Filter,
    now: Wall,
}

impl Walk<'_> {
    /// The jobs that a narrow field names, without a scan; `None` without such a field.
    fn narrow(&self) -> Result<Option<Vec<JobKey>>, DbError> {
        let filter = self.filter;
        let mut found = Vec::new();
        if !filter.jobs.is_empty() {
            for job in &filter.jobs {
                found.extend(find(self.core, self.db, JobId(*job))?);
            }
        } else if let Some(text) = &filter.instance {
            if let Ok(id) = InstanceId::parse(text) {
                self.of_instance(id, &mut found)?;
            }
        } else if let Some(uid) = &filter.sop_instance {
            let seen = self.db.get(Cf::Seen, &keys::seen(uid))?;
            let seen = seen.and_then(|raw| SeenRecord::decode(&raw).ok()).unwrap_or_default();
            let jobs = seen.entries.iter().flat_map(|entry| entry.deliveries());
            found.extend(jobs.map(|(dest, job)| JobKey { dest: *dest, job: *job }));
            // A job that was held for a damaged payload is no repeat any more: only a look at all jobs finds it.
            if found.is_empty() {
                return Ok(None);
            }
        } else if let Some(uid) = &filter.study {
            let prefix = keys::study_prefix(uid);
            let mut ids = Vec::new();
            self.db.scan(Cf::Study, &prefix, &keys::behind(&prefix), |key, _| {
                ids.extend(keys::instance_of(&key[16..]));
                true
            })?;
            for id in ids {
                self.of_instance(id, &mut found)?;
            }
        } else {
            return Ok(None);
        }
        Ok(Some(found))
    }

    fn of_instance(&self, id: InstanceId, found: &mut Vec<JobKey>) -> Result<(), DbError> {
        self.db.scan(Cf::Ref, &id.0, &keys::behind(&id.0), |key, _| {
            found.extend(keys::reference_of(key).map(|(_, job)| job));
            true
        })
    }

    /// Over `hold` when only held jobs are meant, else over `job`; both are ordered by destination.
    fn all(&self, from: Option<Vec<u8>>, each: &mut dyn FnMut(Row) -> bool) -> Result<(), DbError> {
        let held = self.filter.state == Some(JobState::Held) || self.filter.kind.is_some();
        let cf = if held { Cf::Hold } else { Cf::Job };
        let (start, end) = match self.range() {
            Some(range) => range,
            None => return Ok(()),
        };
        let (mut error, from) = (None, from.unwrap_or_default().max(start));
        self.db.scan(cf, &from, &end, |raw, _| {
            let key = if held {
                keys::hold_of(raw).map(|(key, _)| key)
            } else {
                keys::job_of(raw)
            };
            let row = key.map_or(Ok(None), |key| self.row(raw.to_vec(), key));
            match row {
                Ok(Some(row)) => each(row),
                Ok(None) => true,
                Err(failed) => {
                    error = Some(failed);
                    false
                }
            }
        })?;
        error.map_or(Ok(()), Err)
    }

    /// The part of the keys that the destination names; `None` when no such destination is known.
    fn range(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let number = match (&self.filter.destination, self.filter.undecided) {
            (_, true) => keys::UNDECIDED,
            (Some(name), false) => self.core.lanes.get(name)?.number,
            (None, false) => return Some((Vec::new(), Vec::new())),
        };
        let prefix = number.to_be_bytes();
        Some((prefix.to_vec(), keys::behind(&prefix)))
    }

    fn row(&self, cursor: Vec<u8>, key: JobKey) -> Result<Option<Row>, DbError> {
        let Some(raw) = self.db.get(Cf::Job, &keys::job(key))? else {
            return Ok(None);
        };
        let Ok(job) = JobRecord::decode(&raw) else {
            return Ok(None);
        };
        let lane = self.core.lanes.by_number(key.dest);
        let state = match (&job.hold, &lane) {
            (Some(_), _) => JobState::Held,
            (None, _) if job.pledge.sent.is_some() => JobState::Awaiting,
            (None, Some(lane)) if lane.is_leased(key.job) => JobState::Inflight,
            (None, _) => JobState::Queued,
        };
        let filter = self.filter;
        let kind = job.hold.as_ref().map(|(_, reason)| reason.kind);
        let destination = lane.map(|lane| lane.name.clone());
        let wanted = filter.state.is_none_or(|wanted| wanted == state)
            && (filter.kind.is_none() || filter.kind == kind)
            && !kind.is_some_and(|kind| filter.except.contains(&kind))
            && (!filter.undecided || key.dest == keys::UNDECIDED)
            && (!filter.decided || key.dest != keys::UNDECIDED)
            && (filter.destination.is_none() || filter.destination == destination)
            && filter.made_before.is_none_or(|before| key.job.0 < before)
            && filter.older_than.is_none_or(|age| self.now.since(job.enqueued) >= age);
        if !wanted {
            return Ok(None);
        }
        let raw = self.db.get(Cf::Instance, &job.instance.0)?;
        let instance = raw
            .and_then(|raw| InstanceRecord::decode(&raw).ok())
            .map(|record| record.instance);
        if !self.about(instance.as_ref()) {
            return Ok(None);
        }
        let (held_since, hold) = job.hold.unzip();
        Ok(Some(Row {
            cursor: hex(&cursor),
            job: key.job,
            destination,
            state,
            priority: job.priority,
            attempts: job.attempts,
            enqueued: job.enqueued,
            due: job.due,
            outcome: job.outcome,
            hold,
            held_since,
            discarded: None,
            plan: job.plan,
            instance: instance.map(Arc::new),
            key,
        }))
    }

    /// The fields that speak of the instance. An unreadable one matches only a filter without them.
    fn about(&self, instance: Option<&Instance>) -> bool {
        let filter = self.filter;
        let Some(instance) = instance else {
            return filter.source.is_none() && filter.sop_instance.is_none() && filter.study.is_none();
        };
        filter.is_about(instance)
    }

    /// Ended jobs, out of the instance records. A page may be longer by the jobs of one instance.
    fn ended(&self, state: JobState, from: Vec<u8>, each: &mut dyn FnMut(Row) -> bool) -> Result<(), DbError> {
        self.db.scan(Cf::Instance, &from, &[], |raw, value| {
            let Ok(record) = InstanceRecord::decode(value) else {
                return true;
            };
            if !self.about(Some(&record.instance)) {
                return true;
            }
            let mut more = true;
            let instance = Arc::new(record.instance);
            for done in record.done {
                let destination = self.core.lanes.by_number(done.dest).map(|lane| lane.name.clone());
                let wanted = JobState::of_end(done.status) == state
                    && (self.filter.destination.is_none() || self.filter.destination == destination)
                    && (self.filter.jobs.is_empty() || self.filter.jobs.contains(&done.job.0))
                    && self
                        .filter
                        .older_than
                        .is_none_or(|age| self.now.since(instance.arrival) >= age)
                    && (!self.filter.undecided || done.dest == keys::UNDECIDED)
                    && (!self.filter.decided || done.dest != keys::UNDECIDED)
                    && self.filter.kind.is_none();
                if wanted {
                    more &= each(Row {
                        cursor: hex(raw),
                        job: done.job,
                        destination,
                        state,
                        priority: Priority::Routine,
                        attempts: 0,
                        enqueued: instance.arrival,
                        due: done.at,
                        outcome: done.status.map_or("discarded".into(), |status| format!("{status:04X}")),
                        hold: None,
                        held_since: None,
                        discarded: None,
                        plan: Vec::new(),
                        instance: Some(instance.clone()),
                        key: JobKey {
                            dest: done.dest,
                            job: done.job,
                        },
                    });
                }
            }
            more
        })
    }
}

impl Row {
    /// Adds what only the ledger tells of a job that has ended: how often it was tried, and why a person discarded it.
    fn recall(&mut self, db: &Db) -> Result<(), DbError> {
        let Some(instance) = self.instance.as_ref().filter(|_| self.state.is_over()) else {
            return Ok(());
        };
        let facts = of_instance(db, instance.id)?.into_iter();
        let own: Vec<Fact> = facts.filter(|fact| fact.job == Some(self.job.0)).collect();
        let tried = own.iter().filter(|fact| fact.is_attempt()).count();
        self.attempts = u32::try_from(tried).unwrap_or(u32::MAX);
        let mut discarded = own.into_iter().rev().filter(|fact| fact.kind == FactKind::Discarded);
        self.discarded = discarded.next().map(|fact| fact.text);
        Ok(())
    }
}

/// A job's key from its id: one look for each destination.
pub(super) fn find(core: &Core, db: &Db, job: JobId) -> Result<Option<JobKey>, DbError> {
    let numbers = core.lanes.all().into_iter().map(|lane| lane.number);
    for dest in std::iter::once(keys::UNDECIDED).chain(numbers) {
        let key = JobKey { dest, job };
        if db.get(Cf::Job, &keys::job(key))?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (text.is_ascii() && text.len().is_multiple_of(2) && text.len() <= 128).then_some(())?;
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}
