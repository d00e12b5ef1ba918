//! The spool's keeper: one thread that looks at the disk every second, makes room, sweeps what is forgotten, asks for a
//! reopening when the gate latched, and writes the state letters that the committer hands it.
use super::cache;
use super::commit::{Request, submit_blocking};
use super::config::Config;
use super::core::Core;
use super::db::Cf;
use super::due::Lane;
use super::forget::Family;
use super::keys;
use super::model::JobKey;
use super::payload::Mark;
use super::record::{InstanceRecord, JobRecord};
use super::retention::Pace;
use super::{alias, commitment, leaving, prune, study};
use crate::base::clock::Wall;
use crate::base::names::JobId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::WeakSender;

/// How often the disk is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the slower chores are done.
const CHORES: Duration = Duration::from_secs(5);
/// How often old lines of the ledger are looked for, and refusals are written on it.
const PRUNES: Duration = Duration::from_secs(60);
/// State letters waiting.
pub(super) const MARKS: usize = 4_096;
/// Held jobs that are passed over in search of the oldest queued one.
const HELD_PASSED: usize = 256;
/// Eviction batches between two looks at the disk.
const EVICTIONS: usize = 16;

/// A family, and how long after its last use an entry is remembered.
struct Memory {
    family: &'static Family,
    span: fn(&Config) -> Duration,
}

const MEMORIES: [Memory; 5] = [
    Memory {
        family: &cache::REPEATS,
        span: |config| config.repeat_window.0,
    },
    Memory {
        family: &study::FAMILY,
        span: |config| config.study_memory.0,
    },
    Memory {
        family: &alias::FAMILY,
        span: |config| config.map_memory.0,
    },
    Memory {
        family: &leaving::FAMILY,
        span: |config| config.map_memory.0,
    },
    Memory {
        family: &commitment::FAMILY,
        // As long as a UID is known, so is what became of what came under it.
        span: |config| config.commitment_memory.0.max(config.repeat_window.0),
    },
];

pub(super) struct Keeper {
    core: Arc<Core>,
    queue: WeakSender<Request>,
    /// Where the next sweep of each of `MEMORIES` begins.
    swept: [Vec<u8>; MEMORIES.len()],
    /// Per destination, the first job key that may still be there: jobs leave at the front.
    oldest: BTreeMap<u32, Vec<u8>>,
    pace: Pace,
}

impl Keeper {
    pub(super) fn new(core: Arc<Core>, queue: WeakSender<Request>) -> Self {
        Self {
            core,
            queue,
            swept: Default::default(),
            oldest: BTreeMap::new(),
            pace: Pace::new(),
        }
    }

    /// Runs until the commit thread has ended.
    pub(super) fn run(mut self, marks: &Receiver<Mark>) {
        let (mut tick, mut chores) = (Instant::now(), Instant::now());
        let mut prunes = Instant::now() + PRUNES;
        loop {
            match marks.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(mark) => {
                    if mark.write(&self.core.config.path).is_err() {
                        self.core
                            .metrics
                            .gate_errors_total
                            .with_label_values(&["state_letter"])
                            .inc();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() < tick {
                continue;
            }
            tick = Instant::now() + TICK;
            self.tick();
            if Instant::now() >= chores {
                chores = Instant::now() + CHORES;
                self.go_on();
                self.sweep();
                self.ages();
            }
            if Instant::now() >= prunes {
                prunes = Instant::now() + PRUNES;
                self.tell_refused();
                self.prune();
            }
        }
    }

    fn tell_refused(&self) {
        let facts = self.core.tally.take();
        if facts.is_empty() {
            return;
        }
        let again = facts.clone();
        let told = submit_blocking(&self.queue, move |txn| {
            facts.into_iter().for_each(|fact| txn.fact(fact));
            Ok(())
        });
        if !matches!(told, Some(Ok(()))) {
            self.core.tally.put_back(again);
        }
    }

    /// Old lines of the ledger. A pruning that is cut goes on, from its new beginning, when the next is due.
    fn prune(&self) {
        let now = self.core.retention.now(self.core.clock.now());
        let Some(upto) = prune::due(&self.core, now) else {
            return;
        };
        let announced = submit_blocking(&self.queue, move |txn| {
            prune::announce(txn, &upto);
            Ok(())
        });
        let mut more = matches!(announced, Some(Ok(())));
        while more {
            let batch = submit_blocking(&self.queue, move |txn| prune::batch(txn, &upto));
            more = matches!(batch, Some(Ok(true)));
        }
    }

    fn tick(&self) {
        if self.core.disk.look().is_err() {
            self.core.gate.latch("statvfs");
        }
        if !self.core.gate.is_open() {
            if let Some(queue) = self.queue.upgrade() {
                // A full queue is being worked on: the next tick asks again.
                drop(queue.try_send(Request::Heal));
            }
            return;
        }
        if self.core.disk.low() && cache::prune_orphans(&self.core, cache::EVICT_BATCH).is_err() {
            self.core.metrics.gate_errors_total.with_label_values(&["unlink"]).inc();
        }
        for _ in 0..EVICTIONS {
            if !self.core.disk.wants_room() || !self.evict() {
                return;
            }
            if self.core.disk.look().is_err() {
                return;
            }
        }
    }

    /// One batch; false when there was nothing to evict.
    fn evict(&self) -> bool {
        match submit_blocking(&self.queue, |txn| cache::evict(txn, cache::EVICT_BATCH)) {
            Some(Ok(gone)) => {
                cache::unlink(&self.core, &gone);
                !gone.is_empty()
            }
            Some(Err(_)) | None => false,
        }
    }

    /// The time of retention. When it cannot be written down, it is caught up with after the next start.
    fn go_on(&mut self) {
        if let Some((key, record)) = self.pace.go_on(&self.core) {
            let _ = submit_blocking(&self.queue, move |txn| {
                txn.put(Cf::Meta, key, record);
                Ok(())
            });
        }
    }

    /// One stretch of each family. A sweep that did not happen is done when its turn comes again.
    fn sweep(&mut self) {
        let now = self.core.retention.now(self.core.clock.now());
        for (Memory { family, span }, next) in MEMORIES.iter().zip(&mut self.swept) {
            let span = u64::try_from(span(&self.core.config).as_micros()).unwrap_or(u64::MAX);
            let before = Wall(now.0.saturating_sub(span));
            let (found, behind) = family.old(&self.core, next, before);
            *next = behind;
            if !found.is_empty() {
                let _ = submit_blocking(&self.queue, move |txn| family.sweep(txn, found, before));
            }
        }
    }

    fn ages(&mut self) {
        for lane in self.core.lanes.all() {
            let now = self.core.clock.now();
            let arrival = self.oldest_arrival(&lane);
            let age = arrival.map_or(0.0, |arrival| now.since(arrival).as_secs_f64());
            self.core
                .metrics
                .oldest_job_age_seconds
                .with_label_values(&[lane.name.as_str()])
                .set(age);
        }
    }

    fn oldest_arrival(&mut self, lane: &Lane) -> Option<Wall> {
        let db = self.core.db().ok()?;
        let first = keys::job(JobKey {
            dest: lane.number,
            job: JobId(0),
        })
        .to_vec();
        let from = self.oldest.get(&lane.number).unwrap_or(&first).clone();
        let end = keys::behind(&lane.number.to_be_bytes());
        let (mut live, mut waiting, mut passed) = (None, None, 0);
        let scan = db.scan(Cf::Job, &from, &end, |key, value| {
            live.get_or_insert_with(|| key.to_vec());
            passed += 1;
            match JobRecord::decode(value) {
                Ok(job) if job.hold.is_none() && job.pledge.sent.is_none() => {
                    waiting = Some(job);
                    false
                }
                _ => passed < HELD_PASSED,
            }
        });
        scan.ok()?;
        self.oldest.insert(lane.number, live.unwrap_or(from));
        let raw = db.get(Cf::Instance, &waiting.as_ref()?.instance.0).ok()??;
        Some(InstanceRecord::decode(&raw).ok()?.instance.arrival)
    }
}
