//! A worker of a lane: takes leases in batches, delivers one instance after the other over its own session, and settles
//! each before it sends the next, so that a crash can repeat no more than the one instance in flight.
use super::bridge::{self, Reader};
use super::parked;
use super::retry::{self, Circumstances, Verdict};
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::{DestinationId, JobId};
use crate::base::panics::{Panicked, contained};
use crate::sender::{Courier, Down, DownKind, Job, Link, Outcome, Pair, Patience};
use crate::spool::{CommitError, HoldKind, HoldReason, Lease, ReadError, Settlement, Spool};
use crate::telemetry::metrics::Metrics;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What all workers of a lane and the lane share.
pub(super) struct Shared {
    pub spool: Spool,
    pub name: DestinationId,
    pub link: Link,
    pub patience: Patience,
    pub clock: Clock,
    pub metrics: Metrics,
    pub drain: Drain,
    /// Set by the lane: give back what has not begun.
    pub halt: AtomicBool,
    pub in_flight: AtomicUsize,
    streak: Mutex<BTreeSet<JobId>>,
}

/// Work for one worker.
pub(super) struct Batch {
    /// Sessions from an earlier generation are not used any more.
    pub generation: u64,
    pub pairs: Vec<Pair>,
    pub items: Vec<Item>,
}

/// One leased job, or one to be held because its pair is parked.
pub(super) struct Item {
    pub lease: Lease,
    pub parked: Option<String>,
}

/// What a worker tells its lane.
#[derive(Debug)]
pub(super) enum Report {
    /// The batch is over (or the session was released); whether a session is open.
    Idle {
        worker: usize,
        session: bool,
    },
    /// The destination answered about an instance.
    Answered,
    Congested,
    Down(Down),
    Unauthorised,
    Refused {
        pair: Pair,
        reason: String,
    },
    /// The spool could not read or settle: our own trouble.
    Local,
    /// The probe of the lane has ended.
    Probe(Result<(), Down>),
}

pub(super) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    reports: mpsc::Sender<Report>,
    courier: Courier,
    generation: u64,
    rng: StdRng,
}

impl Shared {
    pub(super) fn new(
        (spool, link): (Spool, Link),
        (name, patience): (DestinationId, Patience),
        clock: Clock,
        metrics: Metrics,
        drain: Drain,
    ) -> Self {
        Self {
            spool,
            name,
            link,
            patience,
            clock,
            metrics,
            drain,
            halt: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            streak: Mutex::default(),
        }
    }

    /// Notes that a session broke over this job. Answers whether several instances in a row had that fate without an
    /// answer between them: then the destination may be sick, and gets a pause before it is tried again.
    fn broke(&self, job: JobId) -> bool {
        let mut streak = self.streak.lock().unwrap_or_else(PoisonError::into_inner);
        if streak.len() < SICK {
            streak.insert(job);
        }
        streak.len() >= SICK
    }

    fn answered(&self) {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn must_stop(&self) -> bool {
        self.halt.load(Ordering::Relaxed) || self.drain.is_stopping()
    }
}

impl Worker {
    pub(super) fn new(number: usize, shared: Arc<Shared>, reports: mpsc::Sender<Report>, rng: StdRng) -> Self {
        Self {
            number,
            courier: Courier::new(shared.link.clone(), &shared.patience, shared.drain.token()),
            shared,
            reports,
            generation: 0,
            rng,
        }
    }

    /// Runs until the drain stops or the lane is gone; the instance in flight is finished first.
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        let shared = self.shared.clone();
        loop {
            let open = self.courier.is_open();
            let batch = tokio::select! {
                biased;
                () = shared.drain.stopping() => break,
                batch = batches.recv() => batch,
                () = tokio::time::sleep(shared.patience.idle), if open => {
                    self.courier.release().await;
                    self.tell(Report::Idle { worker: self.number, session: false }).await;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            self.work(batch).await;
            let session = self.courier.is_open();
            self.tell(Report::Idle {
                worker: self.number,
                session,
            })
            .await;
        }
        self.courier.release().await;
    }

    /// A lane that is gone needs no reports.
    async fn tell(&mut self, report: Report) {
        drop(self.reports.send(report).await);
    }

    /// Leases that are not reached go back to the spool by being dropped.
    async fn work(&mut self, batch: Batch) {
        if self.generation != batch.generation {
            self.courier.abort().await;
            self.generation = batch.generation;
        }
        for item in batch.items {
            if self.shared.must_stop() {
                return;
            }
            let go_on = match item.parked {
                Some(text) => self.settle(item.lease, hold(HoldKind::Parked, text)).await,
                None => self.deliver(item.lease, &batch.pairs).await,
            };
            if !go_on {
                return;
            }
        }
    }

    /// Delivers and settles one job. Answers whether the next may go.
    async fn deliver(&mut self, lease: Lease, pairs: &[Pair]) -> bool {
        let shared = self.shared.clone();
        let payload = match shared.spool.payload(&lease.instance.id).await {
            Ok(payload) => payload,
            // One instance that cannot be read must not stop its lane: a person sees it, the others flow.
            Err(error @ (ReadError::Gone | ReadError::Missing | ReadError::Corrupt | ReadError::Unreadable(_))) => {
                return self.settle(lease, hold(HoldKind::Corrupt, error.to_string())).await;
            }
            Err(error @ (ReadError::Io | ReadError::Deadline | ReadError::GateLatched)) => {
                tracing::error!(destination = %shared.name, %error, "the spool cannot be read; the lane rests");
                self.tell(Report::Local).await;
                return false;
            }
        };
        let job = bridge::job(&lease);
        let started = Instant::now();
        let outcome = {
            let _flight = Flight::begin(&shared);
            match contained(self.courier.deliver(&job, Reader(payload), pairs)).await {
                Ok(outcome) => outcome,
                // It counts against the instance: one that our own code stumbles over must be held in the end, and not stop
                // its lane for ever. The session went with the panic.
                Err(Panicked) => {
                    self.courier = Courier::new(shared.link.clone(), &shared.patience, shared.drain.token());
                    Outcome::interrupted("the delivery stopped unexpectedly")
                }
            }
        };
        self.measure(&lease, &outcome, started);
        self.conclude(lease, &job, outcome).await
    }

    fn measure(&self, lease: &Lease, outcome: &Outcome, started: Instant) {
        let (metrics, name) = (&self.shared.metrics, self.shared.name.as_str());
        metrics
            .deliveries_total
            .with_label_values(&[name, outcome.word()])
            .inc();
        metrics
            .delivery_seconds
            .with_label_values(&[name])
            .observe(started.elapsed().as_secs_f64());
        match outcome {
            Outcome::Confirmed { .. } => {
                let lag = self.shared.clock.now().since(lease.instance.arrival);
                metrics
                    .lag_seconds
                    .with_label_values(&[name])
                    .observe(lag.as_secs_f64());
                metrics
                    .delivered_bytes_total
                    .with_label_values(&[name])
                    .inc_by(lease.instance.length);
            }
            Outcome::Interrupted(interruption) if interruption.stuck => {
                metrics.watchdog_total.with_label_values(&[name]).inc();
            }
            _ => {}
        }
    }

    async fn conclude(&mut self, lease: Lease, job: &Job, outcome: Outcome) -> bool {
        let (answers, report) = self.examine(job, &outcome).await;
        let about = Circumstances {
            attempts: lease.attempts,
            answers,
            roll: self.rng.random(),
        };
        let settled = match retry::verdict(&outcome, about, &self.shared.patience) {
            // Dropping the lease gives the job back as it was.
            Verdict::Return => true,
            Verdict::Confirm { status, note } => self.settle(lease, Settlement::Confirmed { status, note }).await,
            Verdict::Retry {
                after,
                counted,
                outcome,
            } => {
                let due = self.shared.clock.now().plus(after);
                self.settle(lease, Settlement::Retry { due, outcome, counted }).await
            }
            Verdict::Hold { kind, text } => {
                let text = match kind {
                    HoldKind::Parked => format!("{}: {text}", parked::describe(&pair(job))),
                    _ => text,
                };
                self.settle(lease, hold(kind, text)).await
            }
        };
        let lane_goes_on = !matches!(report, Some(Report::Congested | Report::Down(_) | Report::Unauthorised));
        if let Some(report) = report {
            self.tell(report).await;
        }
        settled && lane_goes_on
    }

    /// What an outcome means for the lane; and for an interruption, whether the destination answers now.
    async fn examine(&mut self, job: &Job, outcome: &Outcome) -> (bool, Option<Report>) {
        match outcome {
            Outcome::Confirmed { .. } | Outcome::Duplicate | Outcome::Refused { .. } => {
                self.shared.answered();
                (true, Some(Report::Answered))
            }
            Outcome::Congested { .. } => (true, Some(Report::Congested)),
            Outcome::Unauthorised => (true, Some(Report::Unauthorised)),
            Outcome::Down(down) => (false, Some(Report::Down(down.clone()))),
            Outcome::NoContext { result } => {
                let pair = pair(job);
                let reason = format!("{}: {}", parked::describe(&pair), retry::refusal(*result));
                (true, Some(Report::Refused { pair, reason }))
            }
            Outcome::Corrupt { .. } | Outcome::Edit { .. } => (true, None),
            Outcome::Interrupted(interruption) => {
                if !interruption.fresh || self.shared.drain.is_stopping() {
                    return (false, None);
                }
                // Was it the instance or the destination? Ask the destination.
                let answer = tokio::select! {
                    answer = self.shared.link.probe() => answer,
                    () = self.shared.drain.stopping() => return (false, None),
                };
                match answer {
                    Err(down) => {
                        let reason = format!("{}, then {down}", interruption.what);
                        (false, Some(Report::Down(Down::new(DownKind::Lost, reason))))
                    }
                    // It counts all the same: the destination answers, and several instances that it cannot bear would
                    // otherwise never be held, and stand before the others for ever.
                    Ok(()) if self.shared.broke(job.id) => {
                        let reason = format!("sessions break again and again: {}", interruption.what);
                        (true, Some(Report::Down(Down::new(DownKind::Lost, reason))))
                    }
                    Ok(()) => (true, None),
                }
            }
        }
    }

    /// Answers whether the next job may go: not when the spool cannot record.
    async fn settle(&mut self, lease: Lease, settlement: Settlement) -> bool {
        match self.shared.spool.settle(lease, settlement).await {
            Ok(()) => true,
            // A person was faster (discarded, rerouted), or the record went to quarantine: counted there.
            Err(CommitError::Gone | CommitError::Damaged) => true,
            Err(error @ (CommitError::GateLatched | CommitError::DiskFull | CommitError::Deadline)) => {
                tracing::error!(destination = %self.shared.name, %error, "a delivery could not be recorded");
                self.tell(Report::Local).await;
                false
            }
        }
    }
}

fn pair(job: &Job) -> Pair {
    (job.sop_class.clone(), job.transfer_syntax.clone())
}

fn hold(kind: HoldKind, text: String) -> Settlement {
    Settlement::Hold {
        reason: HoldReason { kind, text },
    }
}

/// Counts an instance as under way while it lives (the gauge, which counts leases, is the spool's).
struct Flight<'a>(&'a Shared);

impl<'a> Flight<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Distinct instances over which sessions broke, without an answer between, that make a destination sick.
const SICK: usize = 3;
