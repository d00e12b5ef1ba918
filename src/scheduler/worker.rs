//! A worker of a lane: takes leases in batches, delivers one instance after the other over its own session, and settles
//! each before it sends the next, so that a crash can repeat no more than the one instance in flight.
use super::bridge::{self, Reader};
use super::decide::{self, Exam};
use super::machine::{Report, Streak};
use super::retry::Circumstances;
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::DestinationId;
use crate::base::panics::{Panicked, contained};
use crate::sender::{Courier, Job, Link, Outcome, Pair, Patience};
use crate::spool::{Fact, FactKind, HoldKind, Lease, Settlement, Spool};
use crate::telemetry::metrics::Metrics;
use rand::Rng;
use rand::rngs::StdRng;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    streak: Mutex<Streak>,
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

    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
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
                Some(text) => self.settle(item.lease, decide::hold(HoldKind::Parked, text)).await,
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
            Err(error) => {
                if let Some(settlement) = decide::unreadable(error) {
                    return self.settle(lease, settlement).await;
                }
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
        let pair = (job.sop_class.clone(), job.transfer_syntax.clone());
        let (answers, report) = self.examine(job, &pair, &outcome).await;
        let about = Circumstances {
            attempts: lease.attempts,
            answers,
            roll: self.rng.random(),
        };
        let now = self.shared.clock.now();
        let settled = match decide::ending(&outcome, about, &self.shared.patience, &pair, now) {
            // Dropping the lease gives the job back as it was.
            None => {
                if let Outcome::Interrupted(interruption) = &outcome {
                    let fact = Fact::new(FactKind::Attempted).instance(lease.instance.id);
                    let fact = fact.job(lease.job, Some(self.shared.name.clone()));
                    tell(self.shared.clone(), fact.text(interruption.what.clone())).await;
                }
                true
            }
            Some(settlement) => {
                let mut lease = lease;
                lease.sent_as = self.courier.sent_as();
                self.settle(lease, settlement).await
            }
        };
        let lane_goes_on = decide::goes_on(report.as_ref());
        if let Some(report) = report {
            self.tell(report).await;
        }
        settled && lane_goes_on
    }

    /// What an outcome means for the lane; and for an interruption, whether the destination answers now.
    async fn examine(&mut self, job: &Job, pair: &Pair, outcome: &Outcome) -> (bool, Option<Report>) {
        let exam = decide::examine(pair, outcome, &mut self.shared.streak());
        match (exam, outcome) {
            (Exam::Known { answers, report }, _) => (answers, report),
            (Exam::Ask, Outcome::Interrupted(interruption)) if !self.shared.drain.is_stopping() => {
                let answer = tokio::select! {
                    answer = self.shared.link.probe() => answer,
                    () = self.shared.drain.stopping() => return (false, None),
                };
                decide::asked(job.id, &interruption.what, answer, &mut self.shared.streak())
            }
            (Exam::Ask, _) => (false, None),
        }
    }

    /// Answers whether the next job may go: not when the spool cannot record.
    async fn settle(&mut self, lease: Lease, settlement: Settlement) -> bool {
        let settled = self.shared.spool.settle(lease, settlement).await;
        let recorded = decide::recorded(settled);
        if let (false, Err(error)) = (recorded, settled) {
            tracing::error!(destination = %self.shared.name, %error, "a delivery could not be recorded");
            self.tell(Report::Local).await;
        }
        recorded
    }
}

/// A delivery that broke off costs the job no attempt, and is a fact of its custody all the same.
async fn tell(shared: Arc<Shared>, fact: Fact) {
    if let Err(error) = shared.spool.note(vec![fact]).await {
        tracing::warn!(destination = %shared.name, %error, "a delivery that broke off is not on the ledger");
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
