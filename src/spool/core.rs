//! What all parts of an open spool share. Threads hold it; it holds no thread and no sender, so it ends with them.
use super::commitment::judging;
use super::config::Config;
use super::db::{Db, Store};
use super::direct::Buffers;
use super::disk::Disk;
use super::due::Lanes;
use super::gate::{Gate, is_full, is_passing};
use super::leaving::PlanReader;
use super::model::{ArriveError, CommitError};
use super::payload::DISK_DEADLINE;
use super::pool::Pool;
use super::retention::Retention;
use super::scrub::Desk;
use super::stalled::Stalled;
use super::sums::Sums;
use super::tally::Tally;
use super::trace;
use super::witness::Witness;
use crate::base::clock::Clock;
use crate::base::names::Uid;
use crate::telemetry::metrics::Metrics;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

pub(super) struct Core {
    pub config: Config,
    pub clock: Clock,
    pub metrics: Metrics,
    pub lanes: Lanes,
    pub pool: Pool,
    pub buffers: Arc<Buffers>,
    pub sums: Sums,
    pub stalled: Stalled,
    pub gate: Gate,
    pub disk: Disk,
    pub store: Store,
    pub witness: Witness,
    pub scrub: Desk,
    pub tally: Tally,
    pub retention: Retention,
    /// Places for the reading of what is about to be promised.
    pub verifying: Semaphore,
    trace_key: OnceLock<trace::Key>,
    plan_reader: OnceLock<PlanReader>,
    /// When an instance last began to arrive, in milliseconds since this was made.
    arrived_ms: AtomicU64,
    made: Instant,
    /// `None` while it is being reopened.
    db: RwLock<Option<Arc<Db>>>,
}

impl Core {
    pub(super) fn new(config: Config, clock: Clock, metrics: Metrics) -> Self {
        Self {
            lanes: Lanes::new(metrics.jobs_in_flight.clone()),
            pool: Pool::new(&config.path),
            buffers: Arc::default(),
            sums: Sums::default(),
            stalled: Stalled::new(metrics.clone()),
            gate: Gate::new(metrics.clone()),
            disk: Disk::new(&config, metrics.clone()),
            store: Store::Disk,
            witness: Witness::new(&config.path, metrics.clone()),
            scrub: Desk::default(),
            tally: Tally::default(),
            retention: Retention::default(),
            verifying: Semaphore::new(judging::READS),
            trace_key: OnceLock::new(),
            plan_reader: OnceLock::new(),
            arrived_ms: AtomicU64::new(0),
            made: Instant::now(),
            db: RwLock::new(None),
            config,
            clock,
            metrics,
        }
    }

    /// The secret of the trace index; of zeros until it was read.
    pub(super) fn trace_key(&self) -> trace::Key {
        self.trace_key.get().copied().unwrap_or_default()
    }

    /// The SOP Instance UID that a plan writes, when anybody has said how that is read.
    pub(super) fn written_uid(&self, plan: &[u8]) -> Option<Uid> {
        self.plan_reader.get().and_then(|reader| reader(plan))
    }

    pub(super) fn read_plans_by(&self, reader: PlanReader) {
        // The first word counts: all are the same.
        let _ = self.plan_reader.set(reader);
    }

    /// Reads the secret of the trace index, or makes one.
    pub(super) fn read_trace_key(&self) -> io::Result<()> {
        let key = trace::Key::of(&self.config.path)?;
        // Read once, before anything asks for it.
        let _ = self.trace_key.set(key);
        Ok(())
    }

    /// The index, for a short while: a reopening waits until all of these are gone.
    pub(super) fn db(&self) -> Result<Arc<Db>, CommitError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        db.clone().ok_or(CommitError::GateLatched)
    }

    pub(super) fn set_db(&self, db: Db) -> Arc<Db> {
        let db = Arc::new(db);
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(db.clone());
        db
    }

    /// Closes the index when nobody reads it any more; false when somebody still does after `bound`.
    pub(super) fn close_db(&self, bound: Duration) -> bool {
        let Some(mut db) = self.db.write().unwrap_or_else(PoisonError::into_inner).take() else {
            return true;
        };
        let until = Instant::now() + bound;
        loop {
            match Arc::try_unwrap(db) {
                Ok(_) => return true,
                Err(shared) if Instant::now() >= until => {
                    drop(shared);
                    return false;
                }
                Err(shared) => {
                    db = shared;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// Whether an instance began to arrive within the last `span`.
    pub(super) fn arrived_within(&self, span: Duration) -> bool {
        let last = Duration::from_millis(self.arrived_ms.load(Ordering::Relaxed));
        !last.is_zero() && self.made.elapsed().saturating_sub(last) < span
    }

    pub(super) fn note_arrival(&self) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.arrived_ms.store(now.max(1), Ordering::Relaxed);
    }

    /// Whether an instance may start to arrive.
    pub(super) fn may_arrive(&self) -> Result<(), ArriveError> {
        if !self.gate.is_open() {
            return Err(ArriveError::GateLatched);
        }
        if self.disk.low() {
            return Err(ArriveError::LowWater);
        }
        Ok(())
    }

    /// Whether one that arrives may go on: only the critical mark stops it.
    pub(super) fn may_grow(&self) -> Result<(), ArriveError> {
        if !self.gate.is_open() {
            return Err(ArriveError::GateLatched);
        }
        if self.disk.critical() {
            return Err(ArriveError::LowWater);
        }
        Ok(())
    }

    /// Waits for a blocking write, within the disk's deadline. A full disk refuses, and so does a limit on the length of files; any
    /// other error latches the gate.
    pub(super) async fn on_disk<T, E>(
        &self,
        work: impl Future<Output = Result<io::Result<T>, E>>,
        kind: &'static str,
    ) -> Result<T, ArriveError> {
        match tokio::time::timeout(DISK_DEADLINE, work).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) if is_full(&error) => {
                self.disk.met_full();
                Err(ArriveError::LowWater)
            }
            Ok(Ok(Err(error))) if is_passing(&error) => Err(ArriveError::Busy),
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::FileTooLarge => {
                let errors = &self.metrics.gate_errors_total;
                errors.with_label_values(&["payload_too_long"]).inc();
                let error = ArriveError::TooLong;
                tracing::error!(%error, "an image is refused: start the box with a higher limit (`LimitFSIZE` of its unit)");
                Err(error)
            }
            Ok(Ok(Err(_)) | Err(_)) => {
                self.gate.latch(kind);
                Err(ArriveError::Io)
            }
            Err(_) => {
                self.gate.latch("deadline");
                Err(ArriveError::Busy)
            }
        }
    }
}
