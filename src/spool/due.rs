//! Lanes as the spool sees them: the jobs of a destination, and which are leased. In which order they go says `pick.rs`.
//! Leases live in memory: a crash means due again.
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::group::Hands;
use super::keys;
use super::model::{Instance, JobKey, Priority};
use super::pick::{Candidate, pick};
use super::record::{InstanceRecord, JobRecord};
use super::wait;
use crate::base::clock::Wall;
use crate::base::fault::{Plant, planted};
use crate::base::names::{DestinationId, JobId, Uid};
use crate::telemetry::metrics::IntGauge;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// One job, handed to a lane's worker. Dropped without `settle`, the job is due again.
pub struct Lease {
    pub job: JobId,
    pub destination: DestinationId,
    pub priority: Priority,
    /// Answers of the destination about this very instance so far.
    pub attempts: u32,
    pub enqueued: Wall,
    pub instance: Arc<Instance>,
    pub plan: Bytes,
    /// The class that it counted as when it was claimed.
    class: u8,
    /// The SOP Instance UID that it left with, said by the worker when the edits changed it.
    pub sent_as: Option<Uid>,
    pub(super) guard: Guard,
}

impl Lease {
    /// Whether a job of a higher class waits that nobody has claimed: this one, if not begun, is better given back.
    #[must_use]
    pub fn is_overtaken(&self, now: Wall) -> bool {
        self.guard.lane.presses_above(self.class, now)
    }
}

/// One destination.
pub(super) struct Lane {
    pub name: DestinationId,
    pub number: u32,
    pub wake: Arc<Notify>,
    /// Its number stands in the index, or in the batch at hand.
    pub booked: AtomicBool,
    /// Microseconds that a retry of this lane can have been put off by.
    longest: AtomicU64,
    /// Rules have put a job off, which may be for longer: only a due time that is a day ahead is of another clock then.
    waits: AtomicBool,
    /// The highest class that waits unclaimed, as far as is known; `NOTHING` for none.
    pub pressing: AtomicU8,
    /// By class, when the next of its jobs is due that was not yet at the last look, in microseconds; it presses from then on.
    pub soonest: [AtomicU64; 4],
    /// A confirmed job waits for its destination's commitment.
    commits: AtomicBool,
    state: Mutex<State>,
    in_flight: IntGauge,
}

/// A confirmation that the index has not recorded: status word, remark, and the UID that it left with.
pub(super) type Confirmed = (u16, String, Option<Uid>);

pub(super) struct State {
    pub leased: HashSet<JobId>,
    /// Studies of which a worker has small objects in hand.
    pub hands: Hands,
    pub suspended: bool,
    /// What the destination confirmed and the index has not recorded yet: never to be sent again in this life.
    confirmed: BTreeMap<JobId, Confirmed>,
    /// Per class: no live key lies below. Spares a scan the tombstones of what was delivered. With the job, for many may be due at one
    /// moment: a person resumed them, or an archive came back.
    pub cursors: [(Wall, JobId); 4],
}

/// Keeps a job out of every other hand while it lives.
pub(super) struct Guard {
    lane: Arc<Lane>,
    job: JobId,
    /// Counts as in flight (a worker's), or not (an operator's verb at work).
    worker: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        {
            let mut state = self.lane.lock();
            state.leased.remove(&self.job);
            state.hands.give_back(self.job);
        }
        if self.worker {
            self.lane.in_flight.dec();
        }
        self.lane.wake.notify_one();
    }
}

impl Guard {
    pub(super) fn key(&self) -> JobKey {
        JobKey {
            dest: self.lane.number,
            job: self.job,
        }
    }

    pub(super) fn lane(&self) -> Arc<Lane> {
        self.lane.clone()
    }

    pub(super) fn is_worker(&self) -> bool {
        self.worker
    }
}

impl Lane {
    /// State stays right when a holder panicked: every change below is a single step.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job out of the lane's reach for an operator's verb; `None` while a worker has it.
    pub(super) fn reserve(self: &Arc<Self>, job: JobId) -> Option<Guard> {
        let free = self.lock().leased.insert(job);
        free.then(|| Guard {
            lane: self.clone(),
            job,
            worker: false,
        })
    }

    /// Remembers a confirmation until it is recorded. Bounded: jobs that a person ended meanwhile are forgotten with the oldest.
    pub(super) fn confirmed(&self, job: JobId, confirmed: Confirmed) {
        if planted(Plant::ForgetConfirmed) {
            return;
        }
        let mut state = self.lock();
        if state.confirmed.len() >= CONFIRMED_MAX {
            state.confirmed.pop_first();
        }
        state.confirmed.insert(job, confirmed);
    }

    pub(super) fn recorded(&self, job: JobId) {
        self.lock().confirmed.remove(&job);
    }

    /// The confirmation of a job that the index still holds as open.
    pub(super) fn unrecorded(&self, job: JobId) -> Option<Confirmed> {
        self.lock().confirmed.get(&job).cloned()
    }

    /// Jobs that workers, or a person's verb, have in hand.
    pub(super) fn in_flight(&self) -> usize {
        self.lock().leased.len()
    }

    pub(super) fn is_leased(&self, job: JobId) -> bool {
        self.lock().leased.contains(&job)
    }

    pub(super) fn suspended(&self) -> bool {
        self.lock().suspended
    }

    pub(super) fn suspend(&self, suspended: bool) {
        self.lock().suspended = suspended;
        self.wake.notify_one();
    }

    /// A job became durable: the cursor must not be past it.
    pub(super) fn queued(&self, priority: Priority, due: Wall, now: Wall) {
        let mut state = self.lock();
        if due <= now {
            self.pressing.fetch_min(priority as u8, Ordering::Relaxed);
        } else {
            self.soonest[priority as usize].fetch_min(due.0, Ordering::Relaxed);
        }
        let cursor = &mut state.cursors[priority as usize];
        *cursor = (*cursor).min((due, JobId(0)));
        drop(state);
        self.wake.notify_one();
    }

    /// Whether a job of a class above this one waits that nobody has claimed, as far as is known.
    pub(super) fn presses_above(&self, class: u8, now: Wall) -> bool {
        let is_due = |soonest: &AtomicU64| soonest.load(Ordering::Relaxed) <= now.0;
        self.pressing.load(Ordering::Relaxed) < class || self.soonest.iter().take(class.into()).any(is_due)
    }

    /// Whether a `stat` job that is due waits unclaimed.
    pub(super) fn has_urgent(&self, now: Wall) -> bool {
        !self.suspended() && self.presses_above(Priority::Stat as u8 + 1, now)
    }

    /// The longest pause that this lane's retries have. Whatever is due later than that was written by another clock.
    pub(super) fn puts_off(&self, longest: Duration) {
        if !planted(Plant::WaitForClock) {
            self.longest.store(micros(longest.min(LATEST)), Ordering::Relaxed);
        }
    }

    /// From now on, and after each start, a job may wait as long as rules can say.
    pub(super) fn waits(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// Whether what it takes is delivered for good only when it has committed to keep it.
    pub(super) fn commits(&self) -> bool {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn set_commits(&self, commits: bool) {
        self.commits.store(commits, Ordering::Relaxed);
    }

    pub(super) fn has_waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn longest(&self) -> Duration {
        if self.has_waits() {
            return LATEST;
        }
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }

    /// After a reopening nothing is known about the keys.
    pub(super) fn forget_cursors(&self) {
        self.lock().cursors = NOWHERE;
    }
}

/// All lanes, by name and by number.
#[derive(Default)]
pub(super) struct Lanes(RwLock<Table>);

#[derive(Default)]
struct Table {
    names: BTreeMap<DestinationId, Arc<Lane>>,
    numbers: BTreeMap<u32, Arc<Lane>>,
    in_flight: Option<crate::telemetry::metrics::IntGaugeVec>,
}

impl Lanes {
    pub(super) fn new(in_flight: crate::telemetry::metrics::IntGaugeVec) -> Self {
        Self(RwLock::new(Table {
            in_flight: Some(in_flight),
            ..Table::default()
        }))
    }

    pub(super) fn get(&self, name: &DestinationId) -> Option<Arc<Lane>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.names.get(name).cloned()
    }

    pub(super) fn by_number(&self, number: u32) -> Option<Arc<Lane>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.numbers.get(&number).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Lane>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.numbers.values().cloned().collect()
    }

    /// The lane of a name, made when it is new. The second value: its number is yet to be written.
    pub(super) fn ensure(&self, name: &DestinationId) -> (Arc<Lane>, bool) {
        let lane = self.get(name).unwrap_or_else(|| self.insert(name, None));
        let fresh = !lane.booked.swap(true, Ordering::Relaxed);
        (lane, fresh)
    }

    /// Makes a lane, with the number that the index gave it or the next free one.
    pub(super) fn insert(&self, name: &DestinationId, number: Option<u32>) -> Arc<Lane> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = table.names.get(name) {
            return lane.clone();
        }
        let next = table.numbers.last_key_value().map_or(1, |(last, _)| last + 1);
        let in_flight = match &table.in_flight {
            Some(gauges) => gauges.with_label_values(&[name.as_str()]),
            // Only a gauge with a name is refused, and this one has one.
            None => IntGauge::new("in_flight", "jobs in flight").expect("a well-formed gauge"),
        };
        let lane = Arc::new(Lane {
            name: name.clone(),
            number: number.unwrap_or(next),
            wake: Arc::new(Notify::new()),
            booked: AtomicBool::new(number.is_some()),
            longest: AtomicU64::new(micros(LATEST)),
            waits: AtomicBool::new(false),
            pressing: AtomicU8::new(NOTHING),
            // Nothing is known of them yet: the first look tells.
            soonest: Default::default(),
            commits: AtomicBool::new(false),
            state: Mutex::new(State {
                leased: HashSet::new(),
                hands: Hands::default(),
                suspended: false,
                confirmed: BTreeMap::new(),
                cursors: NOWHERE,
            }),
            in_flight,
        });
        table.names.insert(name.clone(), lane.clone());
        table.numbers.insert(lane.number, lane.clone());
        lane
    }
}

/// What a claim found.
#[derive(Default)]
pub(super) struct Claimed {
    pub leases: Vec<Lease>,
    /// Due keys whose job record is gone or damaged.
    pub dangling: Vec<Vec<u8>>,
    /// Jobs whose study is not quiet yet, with the time to look again.
    pub unripe: Vec<(Guard, Wall)>,
}

/// Jobs that one claim looks at and finds waiting for their study.
const UNRIPE_MAX: usize = 512;

/// Leases up to `max` jobs of a lane, in order. Costs a seek for each class and a step for each job, not for the queue.
/// Blocking.
pub(super) fn claim(
    core: &Arc<Core>,
    db: &Db,
    lane: &Arc<Lane>,
    (max, worker): (usize, Option<usize>),
) -> Result<Claimed, DbError> {
    let mut claimed = Claimed::default();
    let mut waiting = None;
    // What waits for its study must not hide what is due behind it.
    while waiting != Some(claimed.unripe.len()) && claimed.leases.len() < max && claimed.unripe.len() < UNRIPE_MAX {
        waiting = Some(claimed.unripe.len());
        let wanted = max - claimed.leases.len();
        take(core, db, lane, (wanted, worker), &mut claimed)?;
    }
    Ok(claimed)
}

/// One round of a claim.
fn take(
    core: &Arc<Core>,
    db: &Db,
    lane: &Arc<Lane>,
    wanted: (usize, Option<usize>),
    claimed: &mut Claimed,
) -> Result<(), DbError> {
    let now = core.clock.now();
    let picked = pick(core, db, lane, wanted, now)?;
    // All guards first: whatever fails below gives every picked job back.
    let guarded: Vec<_> = picked
        .into_iter()
        .map(|pick| (worker(lane, pick.key.job), pick))
        .collect();
    for (guard, pick) in guarded {
        let Candidate {
            class,
            key,
            priority,
            due,
            ..
        } = pick;
        let job = db.get(Cf::Job, &keys::job(key))?.map(|raw| JobRecord::decode(&raw));
        let Some(Ok(job)) = job else {
            claimed.dangling.push(keys::due(key, priority, due).to_vec());
            continue;
        };
        let instance = db
            .get(Cf::Instance, &job.instance.0)?
            .map(|raw| InstanceRecord::decode(&raw));
        let Some(Ok(instance)) = instance else {
            claimed.dangling.push(keys::due(key, priority, due).to_vec());
            continue;
        };
        if let Some(later) = wait::unripe(db, &job, instance.instance.study.as_ref(), now)? {
            claimed.unripe.push((guard, later));
            continue;
        }
        claimed.leases.push(Lease {
            job: key.job,
            destination: lane.name.clone(),
            priority,
            attempts: job.attempts,
            enqueued: job.enqueued,
            instance: Arc::new(instance.instance),
            plan: Bytes::from(job.plan),
            class,
            sent_as: None,
            guard,
        });
    }
    Ok(())
}

fn worker(lane: &Arc<Lane>, job: JobId) -> Guard {
    lane.in_flight.inc();
    Guard {
        lane: lane.clone(),
        job,
        worker: true,
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Nothing is known about the keys.
const NOWHERE: [(Wall, JobId); 4] = [(Wall(0), JobId(0)); 4];
/// No class presses.
pub(super) const NOTHING: u8 = u8::MAX;
/// Confirmations waiting for their record; each was in flight when the disk failed.
const CONFIRMED_MAX: usize = 4_096;
/// Nothing is put off for longer than this: `settle` and `wait` see to it.
pub(super) const LATEST: Duration = Duration::from_secs(24 * 3600);
