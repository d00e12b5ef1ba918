//! The spool without its threads and its directory, for the simulator: the same claims, transitions, batches, reopenings and
//! the same start, over `memory.rs`, one call at a time. In builds with planted faults only; called by `tests/sim` alone.
use super::admit::admit;
use super::adopt;
pub use super::bench_files::File;
use super::bench_files::{found, record};
use super::cache;
use super::commit::{Committer, Work, apply, pending};
use super::core::Core;
use super::db::{Cf, Db, DbError, Store};
use super::due::{self, Lane};
use super::former::Known;
use super::keys;
use super::memory::Memory;
pub use super::memory::WriteFault;
use super::model::{CommitError, Committed, HoldKind, Instance, JobKey, NewJob, OpenReport, Priority};
use super::operator::{self, Order, Verb};
use super::payload::Mark;
use super::record::{InstanceRecord, JobRecord};
use super::recover::{self, Fate};
use super::settle::settle;
use super::txn::{Book, Txn};
use super::{Commit, Config, Lease, Settlement, count, fsck, group, mend, pick, study, wait};
use crate::base::clock::{Clock, Wall};
use crate::base::names::{DestinationId, InstanceId, JobId};
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

/// The simulated disk under the index.
pub type Disk = Arc<Memory>;

/// An empty disk.
#[must_use]
pub fn disk() -> Disk {
    Memory::new()
}

/// What a start made of the files.
#[derive(Default)]
pub struct Opened {
    pub report: OpenReport,
    pub removed: Vec<InstanceId>,
    pub set_aside: Vec<InstanceId>,
}

/// One request for the commit thread.
pub enum Ask {
    Admit(Box<Instance>, Commit),
    Settle(Lease, Settlement),
    Act(Vec<JobId>, Verb),
    Suspend(DestinationId, bool),
    Redecide(JobId, Vec<NewJob>),
    /// Makes room: so many delivered instances leave.
    Evict(usize),
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Admitted(Result<Committed, CommitError>),
    Settled(Result<(), CommitError>),
    Acted(Result<u64, CommitError>),
    Suspended(Result<(), CommitError>),
    Redecided(Result<Vec<JobId>, CommitError>),
    Evicted(Result<Vec<InstanceId>, CommitError>),
}

/// A job whose confirmation was remembered, at the claim that recorded it or tried to.
pub struct Recorded {
    pub job: JobId,
    pub instance: InstanceId,
    pub durable: bool,
}

/// A job as the index has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobView {
    pub job: JobId,
    /// `None`: undecided.
    pub destination: Option<DestinationId>,
    pub instance: InstanceId,
    pub priority: Priority,
    pub due: Wall,
    pub attempts: u32,
    pub hold: Option<HoldKind>,
    pub leased: bool,
    /// The study that it keeps together with, when it is small and queued.
    pub group: Option<[u8; 8]>,
}

/// A spool that a simulated process has open.
pub struct Bench {
    core: Arc<Core>,
    committer: Committer,
    marks: Receiver<Mark>,
    disk: Disk,
}

type Waiting = Box<dyn FnOnce() -> Done>;

impl Bench {
    /// Opens, as `Spool::open` does, over these files.
    ///
    /// # Errors
    /// The index cannot be opened or read.
    pub fn open(
        disk: &Disk,
        files: &BTreeMap<InstanceId, File>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<(Self, Opened), String> {
        let mut core = Core::new(config(), clock, metrics);
        core.store = Store::Memory(disk.clone());
        let core = Arc::new(core);
        let text = |error: DbError| error.to_string();
        let db = core.store.open(&core.config.path).map_err(text)?;
        recover::lanes(&core, &db).map_err(text)?;
        let mut opened = Opened {
            report: count::count(&core, &db).map_err(text)?,
            ..Opened::default()
        };
        let mut book = Book::load(core.clone(), &db).map_err(text)?;
        reconcile(&core, &db, &mut book, files, &mut opened)?;
        core.set_db(db);
        let (marks_in, marks) = sync_channel(super::keeper::MARKS);
        let committer = Committer::new(core.clone(), book, marks_in);
        let disk = disk.clone();
        let bench = Self {
            core,
            committer,
            marks,
            disk,
        };
        Ok((bench, opened))
    }

    /// One batch, as the commit thread makes it. The answers are what the requesters would be told after the sync.
    pub fn commit(&mut self, asks: Vec<Ask>) -> Vec<Done> {
        let mut batch: Vec<Box<dyn Work>> = Vec::with_capacity(asks.len());
        let mut waiting: Vec<Waiting> = Vec::with_capacity(asks.len());
        for ask in asks {
            let (work, answer) = self.request(ask);
            batch.push(work);
            waiting.push(answer);
        }
        self.committer.commit(batch);
        waiting.into_iter().map(|answer| answer()).collect()
    }

    fn request(&self, ask: Ask) -> (Box<dyn Work>, Waiting) {
        match ask {
            Ask::Admit(instance, commit) => asked(Done::Admitted, move |txn| {
                // Nobody decides by what was seen of a study here, so nothing overtakes a decision.
                admit(txn, &record(&instance), commit)?.map_err(|_| CommitError::Gone)
            }),
            Ask::Settle(lease, settlement) => settled(lease, settlement),
            Ask::Act(jobs, verb) => {
                let keys = self.keys(&jobs);
                let order = Order {
                    verb,
                    who: "operator".to_owned(),
                    reason: "simulated".to_owned(),
                };
                asked(Done::Acted, move |txn| Ok(operator::batch(txn, &keys, &order)?.changed))
            }
            Ask::Suspend(to, on) => asked(Done::Suspended, move |txn| {
                operator::set_suspended(txn, &to, ("operator", "simulated"), on);
                Ok(())
            }),
            Ask::Redecide(job, jobs) => {
                let key = self.keys(&[job]).first().copied();
                asked(Done::Redecided, move |txn| {
                    let decision = super::redecide::Decision::by_rules(jobs, 2, "operator");
                    super::redecide::redecide(txn, key.ok_or(CommitError::Gone)?, decision)
                })
            }
            Ask::Evict(max) => asked(Done::Evicted, move |txn| cache::evict(txn, max)),
        }
    }

    /// As `Spool::claim_for`: the leases, and the jobs whose remembered confirmation is recorded now.
    pub fn claim(&mut self, destination: &DestinationId, max: usize, worker: usize) -> (Vec<Lease>, Vec<Recorded>) {
        let Some(lane) = self.core.lanes.get(destination) else {
            return Default::default();
        };
        let core = self.core.clone();
        let claimed = self.read(|db| due::claim(&core, db, &lane, (max, Some(worker))));
        let due::Claimed {
            leases,
            dangling,
            unripe,
        } = claimed.unwrap_or_default();
        if !unripe.is_empty() {
            let (work, _) = pending(move |txn: &mut Txn<'_>| wait::put_off(txn, unripe));
            self.committer.commit(vec![work]);
        }
        if !dangling.is_empty() {
            let (work, _) = pending(move |txn: &mut Txn<'_>| mend::mend_dangling(txn, dangling));
            self.committer.commit(vec![work]);
        }
        let (mut open, mut recorded) = (Vec::with_capacity(leases.len()), Vec::new());
        for lease in leases {
            let Some((status, note, _)) = lane.unrecorded(lease.job) else {
                open.push(lease);
                continue;
            };
            let (job, instance) = (lease.job, lease.instance.id);
            let done = self.commit(vec![Ask::Settle(lease, Settlement::Confirmed { status, note })]);
            recorded.push(Recorded {
                job,
                instance,
                durable: done == [Done::Settled(Ok(()))],
            });
        }
        (open, recorded)
    }

    /// As `Spool::puts_off`.
    pub fn puts_off(&self, destination: &DestinationId, longest: Duration) {
        self.lane(destination).puts_off(longest);
    }

    /// As `Spool::backlog` and `Spool::has_urgent`.
    #[must_use]
    pub fn backlog(&self, destination: &DestinationId) -> (usize, bool) {
        let urgent = self.lane(destination).has_urgent(self.core.clock.now());
        (count::backlog(&self.core, destination), urgent)
    }

    /// Whether rules have put a job of the destination off.
    #[must_use]
    pub fn waits(&self, destination: &DestinationId) -> bool {
        self.lane(destination).has_waits()
    }

    fn lane(&self, destination: &DestinationId) -> Arc<Lane> {
        let lanes = &self.core.lanes;
        let lane = lanes.get(destination);
        lane.unwrap_or_else(|| lanes.insert(destination, None))
    }

    /// Which workers have small objects of which studies in hand.
    #[must_use]
    pub fn in_hand(&self, destination: &DestinationId) -> BTreeMap<[u8; 8], usize> {
        self.lane(destination).lock().hands.all()
    }

    /// As `Spool::next_due`.
    #[must_use]
    pub fn next_due(&self, destination: &DestinationId) -> Option<Wall> {
        let lane = self.core.lanes.get(destination)?;
        let now = self.core.clock.now();
        self.read(|db| pick::next_due(db, &lane, now)).flatten()
    }

    #[must_use]
    pub fn is_suspended(&self, destination: &DestinationId) -> bool {
        self.core.lanes.get(destination).is_some_and(|lane| lane.suspended())
    }

    /// Whether somebody waiting by `Spool::wake` would have been woken since the last call.
    pub fn woken(&mut self, destination: &DestinationId) -> bool {
        let lane = self.lane(destination);
        let notified = std::pin::pin!(lane.wake.notified());
        notified.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A payload could not be written or flushed.
    pub fn payload_failed(&mut self) {
        self.core.gate.latch("payload_write");
    }

    /// The keeper's look: a latched gate is asked to heal.
    pub fn keep(&mut self) {
        if !self.is_open() && !self.is_failed() {
            self.committer.heal();
        }
    }

    /// Whether anything is taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.core.gate.is_open()
    }

    /// Whether the process must end.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.core.gate.is_failed()
    }

    /// The instances whose files get the letter `delivered`, since the last call.
    pub fn delivered(&mut self) -> Vec<InstanceId> {
        let ids = self.marks.try_iter().filter_map(|mark| match mark {
            Mark::Delivered(id, ..) => Some(id),
            Mark::Committed(..) => None,
        });
        ids.collect()
    }

    /// All jobs. Costs a scan of the queue.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        let core = &self.core;
        let jobs = self.look(|db| {
            let mut jobs = Vec::new();
            db.scan(Cf::Job, &[], &[], |key, value| {
                if let (Some(key), Ok(job)) = (keys::job_of(key), JobRecord::decode(value)) {
                    jobs.push((key, view(core, key, &job), job));
                }
                true
            })?;
            for (key, view, job) in &mut jobs {
                let due = db.get(Cf::Due, &keys::due(*key, job.priority, job.due))?;
                view.group = due.and_then(|value| group::read(&value));
            }
            let jobs = jobs.into_iter().map(|(_, view, _)| view).collect();
            Ok(jobs)
        });
        jobs.unwrap_or_default()
    }

    /// The deliveries of an instance that a destination confirmed, when the index has the instance.
    #[must_use]
    pub fn confirmed(&self, id: InstanceId) -> Option<Vec<DestinationId>> {
        let record = self.look(|db| db.get(Cf::Instance, &id.0))??;
        let record = InstanceRecord::decode(&record).ok()?;
        let confirmed = record.done.iter().filter(|done| done.status.is_some());
        let names = confirmed.filter_map(|done| self.core.lanes.by_number(done.dest));
        Some(names.map(|lane| lane.name.clone()).collect())
    }

    /// Everything that does not hold together: `spool fsck`'s look at the records, and the gauges against them.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let checked = self.look(|db| {
            let mut problems = fsck::index(db)?.problems;
            let mut queued: BTreeMap<(u32, Priority), i64> = BTreeMap::new();
            db.scan(Cf::Due, &[], &[], |key, _| {
                if let Some((key, priority, _)) = keys::due_of(key) {
                    *queued.entry((key.dest, priority)).or_default() += 1;
                }
                true
            })?;
            for lane in self.core.lanes.all() {
                for priority in Priority::ALL {
                    let said = count::queued(&self.core, &lane.name, priority).get();
                    let there = queued.get(&(lane.number, priority)).copied().unwrap_or(0);
                    if said != there {
                        let (name, word) = (&lane.name, priority.word());
                        problems.push(format!("gauge of {name} {word}: {said} said, {there} queued"));
                    }
                }
            }
            Ok(problems)
        });
        checked.unwrap_or_default()
    }

    fn keys(&self, jobs: &[JobId]) -> Vec<JobKey> {
        let found = self.look(|db| {
            let mut found = Vec::new();
            db.scan(Cf::Job, &[], &[], |key, _| {
                found.extend(keys::job_of(key).filter(|key| jobs.contains(&key.job)));
                true
            })?;
            Ok(found)
        });
        found.unwrap_or_default()
    }

    /// A look from outside, which meets no fault.
    fn look<T>(&self, work: impl FnOnce(&Db) -> Result<T, DbError>) -> Option<T> {
        self.disk.unfailing(|| self.read(work))
    }

    /// As `Spool::read`.
    fn read<T>(&self, work: impl FnOnce(&Db) -> Result<T, DbError>) -> Option<T> {
        let db = self.core.db().ok()?;
        let read = work(&db);
        if read.is_err() {
            self.core.gate.latch("index_read");
        }
        read.ok()
    }
}

/// As `Spool::settle`.
fn settled(lease: Lease, settlement: Settlement) -> (Box<dyn Work>, Waiting) {
    let (guard, job) = (lease.guard, lease.job);
    let lane = guard.lane();
    if let Settlement::Confirmed { status, note } = &settlement {
        lane.confirmed(job, (*status, note.clone(), None));
    }
    let (work, answer) = asked(Done::Settled, move |txn| match settle(txn, guard, settlement, None)? {
        true => Ok(()),
        false => Err(CommitError::Gone),
    });
    let wait = move || {
        let done = answer();
        if matches!(done, Done::Settled(Ok(()) | Err(CommitError::Gone))) {
            lane.recorded(job);
        }
        done
    };
    (work, Box::new(wait))
}

/// A request in the commit thread's own form, and how to read its answer when the batch has ended.
fn asked<T, F>(done: fn(Result<T, CommitError>) -> Done, work: F) -> (Box<dyn Work>, Waiting)
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send + 'static,
{
    let (work, answer): (_, oneshot::Receiver<Result<T, CommitError>>) = pending(work);
    let mut answer = answer;
    let wait = move || done(answer.try_recv().unwrap_or(Err(CommitError::GateLatched)));
    (work, Box::new(wait))
}

fn view(core: &Core, key: JobKey, job: &JobRecord) -> JobView {
    let lane = core.lanes.by_number(key.dest);
    JobView {
        job: key.job,
        destination: lane.as_ref().map(|lane| lane.name.clone()),
        instance: job.instance,
        priority: job.priority,
        due: job.due,
        attempts: job.attempts,
        hold: job.hold.as_ref().map(|(_, reason)| reason.kind),
        leased: lane.is_some_and(|lane| lane.is_leased(key.job)),
        group: None,
    }
}

/// Files and records held against each other, as at every start.
fn reconcile(
    core: &Arc<Core>,
    db: &Db,
    book: &mut Book,
    files: &BTreeMap<InstanceId, File>,
    opened: &mut Opened,
) -> Result<(), String> {
    let ids: Vec<InstanceId> = files.keys().copied().collect();
    let compared = recover::compare(&ids, db).map_err(|error| error.to_string())?;
    let (strays, missing) = (compared.strays, compared.missing);
    let mut adopted = Vec::new();
    for id in strays {
        // Strays are files of the list.
        match recover::fate(found(&files[&id]), db, &mut opened.report).map_err(|error| error.to_string())? {
            Fate::Remove => opened.removed.push(id),
            Fate::SetAside | Fate::Quarantine => opened.set_aside.push(id),
            Fate::Adopt(record) => adopted.push(*record),
        }
    }
    recover::in_order(&mut adopted);
    let mut change = |work: &mut dyn FnMut(&mut Txn<'_>) -> Result<bool, CommitError>| {
        let mut txn = Txn::new(db, book);
        let value = work(&mut txn).map_err(|error| error.to_string())?;
        let (changes, effects) = txn.finish();
        db.write(changes.into_iter()).map_err(|error| error.to_string())?;
        apply(core, effects, None);
        Ok::<bool, String>(value)
    };
    for id in missing {
        if change(&mut |txn| adopt::payload_missing(txn, id))? {
            opened.report.missing.push(id);
        }
    }
    let mut fresh = study::Fresh::default();
    for record in adopted {
        change(&mut |txn| {
            study::found(txn, &record, &mut fresh)?;
            adopt::adopt(txn, &record, &Known::default()).map(|_| true)
        })?;
        opened.report.adopted.push(record.instance.id);
    }
    Ok(())
}

/// The defaults; the directory is only looked at for its free space.
fn config() -> Config {
    use crate::base::units::{Share, Size};
    Config {
        path: std::env::temp_dir(),
        low_water: Share::Bytes(1),
        critical: Size(1),
        ballast: Size(0),
        cache_high_water: Share::Bytes(1),
        ..Config::default()
    }
}
