//! A worker of a lane: takes leases in batches, delivers one instance after the other over its own session, and settles
//! each before it sends the next, so that a crash can repeat no more than the one instance in flight. Where the destination has
//! negotiated asynchronous operations, as many are in flight as it allows, and a crash can repeat those.
use super::bridge::{self, Reader};
use super::decide::{self, Exam};
use super::machine::{Report, Streak};
use super::retry::Circumstances;
use super::width::Answered;
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::{DestinationId, JobId};
use crate::base::panics::{Panicked, contained};
use crate::sender::{Courier, Ended, Interruption, Job, Link, Outcome, Pair, Patience};
use crate::spool::{CommitError, Fact, FactKind, HoldKind, Lease, ReadError, Settlement, Spool};
use crate::telemetry::metrics::Metrics;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
    /// Instances that are yet to go alone.
    singly: AtomicUsize,
    streak: Mutex<Streak>,
    /// How often in a row the disk did not give a job's payload in time.
    hung: Mutex<BTreeMap<JobId, u32>>,
}

/// Work for one worker; without items, its association is to be ended.
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

/// A job that is being sent, or waits for its answer.
struct Flying {
    lease: Lease,
    job: Job,
    /// When its payload was asked for, and when its sending began.
    begun: Instant,
    started: Instant,
    _flight: Flight,
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
            singly: AtomicUsize::new(0),
            streak: Mutex::default(),
            hung: Mutex::default(),
        }
    }

    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hung(&self) -> MutexGuard<'_, BTreeMap<JobId, u32>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk did not give the payload of this job in time. Answers how often in a row.
    fn hung_again(&self, job: JobId) -> u32 {
        let mut hung = self.hung();
        if hung.len() >= HUNG_KEPT && !hung.contains_key(&job) {
            // The oldest: most likely it is gone.
            hung.pop_first();
        }
        let times = hung.entry(job).or_default();
        *times += 1;
        *times
    }

    /// A session broke, and one of so many instances may have been the reason: for a while each goes alone, so that it is found.
    fn one_at_a_time(&self, suspects: usize) {
        self.singly.store((2 * suspects).max(SINGLY_MIN), Ordering::Relaxed);
    }

    /// Instances that a session may have in flight now.
    fn most(&self) -> usize {
        match self.singly.load(Ordering::Relaxed) {
            0 => self.patience.window,
            _ => 1,
        }
    }

    /// Another instance goes.
    fn goes(&self) {
        let less = |left: usize| left.checked_sub(1);
        // `Err` when none has to go alone.
        let _none = self.singly.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn must_stop(&self) -> bool {
        self.halt.load(Ordering::Relaxed) || self.drain.is_stopping()
    }
}

impl Worker {
    pub(super) fn new(number: usize, shared: Arc<Shared>, reports: mpsc::Sender<Report>, rng: StdRng) -> Self {
        Self {
            number,
            courier: courier(number, &shared, &reports),
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
        let mut items = VecDeque::from(batch.items);
        let mut flying: Vec<Flying> = Vec::new();
        let (mut goes_on, mut is_first) = (true, true);
        loop {
            let next = items.front().filter(|_| goes_on && !self.shared.must_stop());
            // What became urgent meanwhile goes first: the rest is given back, and claimed again in its order. The first is sent
            // in any case, or two workers could hand the same jobs to and fro.
            let now = self.shared.clock.now();
            let next = next.filter(|item| is_first || !item.lease.is_overtaken(now));
            let room = next.is_some_and(|item| {
                item.parked.is_some() || self.courier.has_room(&bridge::job(&item.lease), self.shared.most())
            });
            if room && let Some(item) = items.pop_front() {
                is_first = false;
                if item.lease.instance.length >= LONG {
                    // It may take minutes, and others can take what was claimed with it.
                    items.clear();
                }
                goes_on = match item.parked {
                    Some(text) => self.settle(item.lease, decide::hold(HoldKind::Parked, text)).await,
                    None => self.begin(item.lease, &batch.pairs, &mut flying).await,
                };
                continue;
            }
            if flying.is_empty() {
                return;
            }
            let ended = contained(self.courier.answers()).await;
            let ended = ended.unwrap_or_else(|Panicked| self.stumbled(None, &flying));
            goes_on &= self.conclude(ended, &mut flying).await;
        }
    }

    /// Sends one job. What ended by that is settled. Answers whether the next may go.
    async fn begin(&mut self, lease: Lease, pairs: &[Pair], flying: &mut Vec<Flying>) -> bool {
        let shared = self.shared.clone();
        let begun = Instant::now();
        let payload = match shared.spool.payload(&lease.instance.id).await {
            Ok(payload) => payload,
            Err(error) => return self.unread(lease, error).await,
        };
        shared.hung().remove(&lease.job);
        let job = bridge::job(&lease);
        shared.goes();
        let flight = Flight::begin(&shared);
        flying.push(Flying {
            lease,
            job: job.clone(),
            begun,
            started: Instant::now(),
            _flight: flight,
        });
        let ended = contained(self.courier.begin(&job, Reader(payload), pairs)).await;
        let ended = ended.unwrap_or_else(|Panicked| self.stumbled(Some(job.id), flying));
        self.conclude(ended, flying).await
    }

    /// Its payload could not be opened. Answers whether the next job may go.
    async fn unread(&mut self, lease: Lease, error: ReadError) -> bool {
        let shared = self.shared.clone();
        let (destination, instance) = (&shared.name, lease.instance.id);
        if let Some(settlement) = decide::unreadable(error) {
            return self.settle(lease, settlement).await;
        }
        if error != ReadError::Deadline {
            tracing::error!(%destination, %error, "the spool cannot be read; the lane rests");
            self.tell(Report::Local).await;
            return false;
        }
        let times = shared.hung_again(lease.job);
        tracing::error!(%destination, %instance, times, "the disk did not give a payload in time; it is put aside, the others go on");
        let settlement = decide::hung(times, &shared.patience, self.rng.random(), shared.clock.now());
        if matches!(settlement, Settlement::Hold { .. }) {
            // Released by a person, it gets as many tries again.
            shared.hung().remove(&lease.job);
        }
        self.tell(Report::Unready(HUNG.to_owned())).await;
        self.settle(lease, settlement).await
    }

    /// Our own code has panicked, and the session went with it. It counts against the instance that was being sent: one that our
    /// code stumbles over must be held in the end, and not stop its lane for ever.
    fn stumbled(&mut self, over: Option<JobId>, flying: &[Flying]) -> Vec<Ended> {
        let shared = &self.shared;
        self.courier = courier(self.number, shared, &self.reports);
        let guilty = over.or_else(|| flying.first().map(|flying| flying.job.id));
        let of = |flying: &Flying| {
            let interruption = Interruption {
                what: "the delivery stopped unexpectedly".to_owned(),
                fresh: guilty == Some(flying.job.id),
                stuck: false,
                line: false,
            };
            Ended::new(flying.job.id, Outcome::Interrupted(interruption))
        };
        flying.iter().map(of).collect()
    }

    fn measure(&self, lease: &Lease, outcome: &Outcome, started: Instant) {
        let (metrics, name) = (&self.shared.metrics, self.shared.name.as_str());
        metrics
            .deliveries_total
            .with_label_values(&[name, outcome.word()])
            .inc();
        let (id, now) = (&lease.instance.id, self.shared.clock.now());
        metrics.delivery(name, started.elapsed().as_secs_f64(), id, now);
        match outcome {
            Outcome::Confirmed { .. } => {
                metrics.lag(name, now.since(lease.instance.arrival).as_secs_f64(), id, now);
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

    /// Settles what has ended, all in one batch where there are several. Answers whether the next job may go.
    async fn conclude(&mut self, ended: Vec<Ended>, flying: &mut Vec<Flying>) -> bool {
        let is_suspect = |ended: &&Ended| matches!(ended.outcome, Outcome::Interrupted(_));
        let suspects = ended.iter().filter(is_suspect).count();
        if suspects > 1 {
            self.shared.one_at_a_time(suspects);
        }
        let (mut settling, mut reports) = (JoinSet::new(), Vec::new());
        let (mut recorded, mut goes_on) = (true, true);
        for Ended { job, outcome, left } in ended {
            let together = flying.len();
            let Some(at) = flying.iter().position(|flying| flying.job.id == job) else {
                continue;
            };
            let Flying {
                mut lease,
                job,
                begun,
                started,
                ..
            } = flying.remove(at);
            self.measure(&lease, &outcome, started);
            let length = lease.instance.length;
            let (settlement, report) = self.judge(&lease, &job, &outcome).await;
            goes_on &= decide::goes_on(report.as_ref());
            reports.push((report, begun, length, together));
            // Without one, dropping the lease gives the job back as it was.
            if let Some(settlement) = settlement {
                let settlement = decide::with_way(settlement, &job, left.as_ref());
                lease.sent_as = left.map(|left| left.sop_instance);
                let spool = self.shared.spool.clone();
                settling.spawn(async move { spool.settle(lease, settlement).await });
            }
        }
        while let Some(settled) = settling.join_next().await {
            // A settling that was lost leaves its job due again: as bad as one that was refused.
            recorded &= self.recorded(settled.unwrap_or(Err(CommitError::Deadline))).await;
        }
        for (report, begun, length, together) in reports {
            let Some(report) = report else { continue };
            let answered = matches!(report, Report::Answered);
            self.tell(report).await;
            if answered {
                let (took, window) = (begun.elapsed(), self.courier.window());
                let answer = Answered {
                    length,
                    took,
                    window,
                    together,
                };
                self.tell(Report::Took(answer)).await;
            }
        }
        recorded && goes_on
    }

    /// How a job ends in the spool (`None`: it goes back as it was), and what the lane is to know.
    async fn judge(&mut self, lease: &Lease, job: &Job, outcome: &Outcome) -> (Option<Settlement>, Option<Report>) {
        let pair = (job.sop_class.clone(), job.transfer_syntax.clone());
        let (answers, report) = self.examine(job, &pair, outcome).await;
        let about = Circumstances {
            attempts: lease.attempts,
            answers,
            roll: self.rng.random(),
        };
        let now = self.shared.clock.now();
        let settlement = decide::ending(outcome, about, &self.shared.patience, &pair, now);
        if let (None, Outcome::Interrupted(interruption)) = (&settlement, outcome) {
            let fact = Fact::new(FactKind::Attempted).instance(lease.instance.id);
            let fact = fact.job(lease.job, Some(self.shared.name.clone()));
            tell(self.shared.clone(), fact.text(interruption.what.clone())).await;
        }
        if let Outcome::Edit { what } = outcome {
            // Names elements and lengths, never a value.
            tracing::warn!(destination = %self.shared.name, instance = %lease.instance.id, reason = what, "an instance cannot be edited as its rules say; it is held");
        }
        (settlement, report)
    }

    /// What an outcome means for the lane; and for an interruption, whether the destination answers now.
    async fn examine(&mut self, job: &Job, pair: &Pair, outcome: &Outcome) -> (bool, Option<Report>) {
        let exam = decide::examine(pair, outcome, &mut self.shared.streak());
        match (exam, outcome) {
            (Exam::Known { answers, report }, _) => (answers, report),
            (Exam::Ask, Outcome::Interrupted(interruption)) if !self.shared.drain.is_stopping() => {
                let answer = tokio::select! {
                    answer = self.shared.link.probe(std::slice::from_ref(pair)) => answer,
                    () = self.shared.drain.stopping() => return (false, None),
                };
                decide::asked(job.id, interruption, answer, &mut self.shared.streak())
            }
            (Exam::Ask, _) => (false, None),
        }
    }

    /// Answers whether the next job may go: not when the spool cannot record.
    async fn settle(&mut self, lease: Lease, settlement: Settlement) -> bool {
        let settled = self.shared.spool.settle(lease, settlement).await;
        self.recorded(settled).await
    }

    async fn recorded(&mut self, settled: Result<(), CommitError>) -> bool {
        let recorded = decide::recorded(settled);
        if let (false, Err(error)) = (recorded, settled) {
            tracing::error!(destination = %self.shared.name, %error, "a delivery could not be recorded");
            self.tell(Report::Local).await;
        }
        recorded
    }
}

/// A way to the destination that tells the lane of each association.
fn courier(worker: usize, shared: &Shared, reports: &mpsc::Sender<Report>) -> Courier {
    let reports = reports.clone();
    // Where so many reports wait that there is no room, the destination answers, and the lane need not be told.
    let opened = move || drop(reports.try_send(Report::Opened { worker }));
    Courier::new(shared.link.clone(), &shared.patience, shared.drain.token()).telling(opened)
}

/// A delivery that broke off costs the job no attempt, and is a fact of its custody all the same.
async fn tell(shared: Arc<Shared>, fact: Fact) {
    if let Err(error) = shared.spool.note(vec![fact]).await {
        tracing::warn!(destination = %shared.name, %error, "a delivery that broke off is not on the ledger");
    }
}

/// Counts an instance as under way while it lives (the gauge, which counts leases, is the spool's).
struct Flight(Arc<Shared>);

impl Flight {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The last trouble of a lane that cannot read an instance.
const HUNG: &str = "an image could not be read: the disk did not answer in time";
/// Jobs of which it is remembered.
const HUNG_KEPT: usize = 1_024;
/// Of such an instance nobody knows when it will be through.
const LONG: u64 = 4 << 20;
/// After a session broke with several instances in flight, at least so many go one at a time.
const SINGLY_MIN: usize = 32;
