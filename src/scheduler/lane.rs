//! A lane: one destination's queue and its workers. This task owns the breaker, the pace and what is parked; it claims
//! from the spool and hands leases to workers; workers settle them and report.
//!
//! It claims only while the breaker is closed and the pace allows, so an outage costs no job an attempt; it never waits
//! for another lane, and no job is kept in memory but the few that are leased.
use super::breaker::Breaker;
use super::pace::{Allowed, Pace};
use super::parked::Contexts;
use super::worker::{Batch, Item, Report, Shared, Worker};
use super::{LaneState, LaneStatus};
use crate::base::fault::{Plant, panic_if};
use crate::sender::{Down, Pair};
use crate::spool::Lease;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Jobs that a worker gets at once. Few, so that an urgent arrival waits for few; enough to know the next ones' contexts.
pub(super) const CLAIM_MAX: usize = 8;

pub(super) struct Lane {
    shared: Arc<Shared>,
    breaker: Breaker,
    pace: Pace,
    contexts: Contexts,
    workers: Vec<Slot>,
    reports: mpsc::Receiver<Report>,
    reports_in: mpsc::Sender<Report>,
    status: watch::Sender<LaneStatus>,
    poke: Arc<Notify>,
    rng: StdRng,
    generation: u64,
    /// Nothing before this after trouble of our own.
    rest_until: Option<Instant>,
    /// The last claim found nothing.
    drained: bool,
}

/// A worker as its lane sees it.
struct Slot {
    batches: mpsc::Sender<Batch>,
    busy: bool,
    session: bool,
}

impl Lane {
    /// Starts the workers; `run` starts the lane itself.
    pub(super) fn new(shared: Arc<Shared>, status: watch::Sender<LaneStatus>, poke: Arc<Notify>, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
        let workers = (0..shared.patience.workers)
            .map(|number| {
                let (batches, inbox) = mpsc::channel(1);
                let own = StdRng::seed_from_u64(rng.random());
                let worker = Worker::new(number, shared.clone(), reports_in.clone(), own);
                shared.drain.spawn("delivery", worker.run(inbox));
                Slot {
                    batches,
                    busy: false,
                    session: false,
                }
            })
            .collect();
        Self {
            breaker: Breaker::new(shared.patience.probe),
            pace: Pace::new(shared.patience.retry.first.0),
            contexts: Contexts::new(shared.patience.park_recheck),
            workers,
            reports,
            reports_in,
            status,
            poke,
            rng,
            generation: 0,
            rest_until: None,
            drained: false,
            shared,
        }
    }

    /// Runs until the drain stops. Workers finish what they have in flight and end by themselves.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let wake = shared.spool.wake(&shared.name);
        let poke = self.poke.clone();
        self.show();
        loop {
            self.dispatch().await;
            self.publish();
            let next = self.next_look().await;
            tokio::select! {
                biased;
                () = shared.drain.stopping() => break,
                // The lane holds a sender itself, so the channel never ends.
                Some(report) = self.reports.recv() => self.take(report).await,
                () = poke.notified() => self.hurry(),
                () = wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
        shared.halt.store(true, Ordering::Relaxed);
    }

    /// Hands leases to idle workers, as far as breaker and pace allow; starts a probe that is due.
    async fn dispatch(&mut self) {
        self.drained = false;
        if self.breaker.probe_at().is_some_and(|at| at <= Instant::now()) {
            self.start_probe();
        }
        let rests = self.rest_until.is_some_and(|until| Instant::now() < until);
        while self.breaker.is_closed() && !rests && !self.shared.drain.is_stopping() {
            let limit = match self.pace.allows() {
                Allowed::Nothing => break,
                Allowed::One if self.workers.iter().any(|slot| slot.busy) => break,
                Allowed::One => 1,
                Allowed::All => CLAIM_MAX,
            };
            let Some(worker) = self.idle_worker() else { break };
            self.shared.halt.store(false, Ordering::Relaxed);
            let leases = self.shared.spool.claim(&self.shared.name, limit).await;
            if leases.is_empty() {
                self.drained = true;
                break;
            }
            self.hand_over(worker, leases);
        }
    }

    /// An idle worker, one with an open session first.
    fn idle_worker(&self) -> Option<usize> {
        let idle = |session: bool| {
            self.workers
                .iter()
                .position(|slot| !slot.busy && slot.session == session)
        };
        idle(true).or_else(|| idle(false))
    }

    fn hand_over(&mut self, worker: usize, leases: Vec<Lease>) {
        panic_if(Plant::PanicLane);
        let mut items = Vec::with_capacity(leases.len());
        for lease in leases {
            let pair = pair_of(&lease);
            let (parked, forgotten) = self.contexts.refused(&pair);
            if forgotten {
                // A session that was told the refusal would repeat it from memory.
                self.generation += 1;
                self.show();
            }
            items.push(Item { lease, parked });
        }
        let needed = items.iter().filter(|item| item.parked.is_none());
        let pairs = self.contexts.propose(needed.map(|item| pair_of(&item.lease)));
        let batch = Batch {
            generation: self.generation,
            pairs,
            items,
        };
        let slot = &mut self.workers[worker];
        // The slot was idle, so its place is free. A worker that has ended (the box stops) gives its leases back here; its slot
        // stays busy, or the same leases would be claimed for it again and again.
        slot.busy = true;
        drop(slot.batches.try_send(batch));
    }

    async fn take(&mut self, report: Report) {
        match report {
            Report::Idle { worker, session } => {
                let slot = &mut self.workers[worker];
                slot.busy = false;
                slot.session = session;
            }
            Report::Answered => {
                self.breaker.answered();
                self.pace.answered();
            }
            Report::Congested => {
                let roll = self.rng.random();
                self.pace.congested(roll);
                self.note("congested".to_owned());
                self.halt();
            }
            Report::Down(down) => self.down(&down),
            Report::Probe(Ok(())) => {
                self.breaker.recovered();
                tracing::info!(destination = %self.shared.name, "the destination answers again");
                self.show();
            }
            Report::Probe(Err(down)) => self.down(&down),
            Report::Unauthorised => self.suspend().await,
            Report::Refused { pair, reason } => {
                self.note(reason.clone());
                if self.contexts.park(pair, reason.clone()) {
                    tracing::warn!(destination = %self.shared.name, reason, "a presentation context is parked");
                }
                self.show();
            }
            Report::Local => self.rest_until = Some(Instant::now() + LOCAL_REST),
        }
    }

    fn down(&mut self, down: &Down) {
        let name = self.shared.name.as_str();
        let failures = &self.shared.metrics.lane_failures_total;
        failures.with_label_values(&[name, down.kind.word()]).inc();
        if self.breaker.is_closed() {
            tracing::warn!(destination = %name, kind = down.kind.word(), reason = down.reason, "the destination cannot be reached");
        }
        let roll = self.rng.random();
        self.breaker.failed(down.kind, roll);
        // What a session of before the outage still says is not to be trusted.
        self.generation += 1;
        self.note(down.to_string());
        self.halt();
        self.show();
    }

    fn start_probe(&mut self) {
        self.breaker.probing();
        let (link, reports) = (self.shared.link.clone(), self.reports_in.clone());
        let stopping = self.shared.drain.token();
        self.shared.drain.spawn("probe", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                // A lane that is gone needs no report.
                answer = link.probe() => drop(reports.send(Report::Probe(answer)).await),
            }
        });
    }

    /// 0124: nothing is sent until a person resumes the destination.
    async fn suspend(&mut self) {
        self.halt();
        self.note(UNAUTHORISED.to_owned());
        let shared = &self.shared;
        match shared.spool.suspend(&shared.name, "lane", UNAUTHORISED).await {
            Ok(()) => tracing::error!(destination = %shared.name, "the destination does not authorise us; suspended"),
            Err(error) => {
                // Not recorded: the next answer tries again, after a rest.
                tracing::error!(destination = %shared.name, %error, "the destination does not authorise us");
                self.rest_until = Some(Instant::now() + LOCAL_REST);
            }
        }
    }

    /// A person has changed something: probe, and ask for parked contexts again.
    fn hurry(&mut self) {
        self.breaker.hurry();
        self.pace.hurry();
        self.rest_until = None;
        if self.contexts.clear() {
            self.generation += 1;
        }
        self.show();
    }

    fn halt(&self) {
        self.shared.halt.store(true, Ordering::Relaxed);
    }

    /// When to look again without being woken.
    async fn next_look(&self) -> Instant {
        let now = Instant::now();
        let mut next = now + LOOK_MAX;
        let turns = [self.breaker.probe_at(), self.pace.pause_ends(), self.rest_until];
        for at in turns.into_iter().flatten().filter(|at| *at > now) {
            next = next.min(at);
        }
        if self.drained
            && let Some(due) = self.shared.spool.next_due(&self.shared.name).await
        {
            // A job that is due although nothing was claimed is leased or suspended: its end wakes the lane.
            let wait = due.since(self.shared.clock.now());
            next = next.min(now + wait.max(LOOK_MIN));
        }
        next
    }

    /// The gauges that follow the lane's own state.
    fn show(&self) {
        let (metrics, name) = (&self.shared.metrics, self.shared.name.as_str());
        metrics
            .lane_open
            .with_label_values(&[name])
            .set(i64::from(self.breaker.is_closed()));
        let parked = i64::try_from(self.contexts.parked().len()).unwrap_or(i64::MAX);
        metrics.contexts_parked.with_label_values(&[name]).set(parked);
    }

    /// Notes the last trouble for people.
    fn note(&self, reason: String) {
        let at = self.shared.clock.now();
        self.status.send_modify(|status| {
            status.last_failure = Some(reason);
            status.last_failure_at = Some(at.iso());
        });
    }

    fn publish(&self) {
        let state = match (self.breaker.is_closed(), self.breaker.is_probing(), self.pace.allows()) {
            (false, false, _) => LaneState::Down,
            (false, true, _) => LaneState::Probing,
            (true, _, Allowed::All) => LaneState::Up,
            (true, _, Allowed::Nothing | Allowed::One) => LaneState::Slowed,
        };
        let sessions = self.workers.iter().filter(|slot| slot.session || slot.busy).count();
        self.status.send_modify(|status| {
            status.state = state;
            status.sessions = sessions;
            status.in_flight = self.shared.in_flight.load(Ordering::Relaxed);
            status.parked = self.contexts.parked().cloned().collect();
        });
    }
}

fn pair_of(lease: &Lease) -> Pair {
    (lease.instance.sop_class.clone(), lease.instance.transfer_syntax.clone())
}

const UNAUTHORISED: &str = "the destination answered not authorised (0124H)";
/// Reports that may wait for the lane.
const REPORTS_MAX: usize = 64;
/// Pause after the spool could not read or record.
const LOCAL_REST: Duration = Duration::from_secs(2);
/// A lane looks at its queue at least this often, whatever the clocks say.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// And not more often than this without being woken.
const LOOK_MIN: Duration = Duration::from_millis(20);
