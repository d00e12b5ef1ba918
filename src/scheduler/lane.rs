//! A lane: one destination's queue and its workers. This task drives the state machine that decides (`machine.rs`): it claims
//! from the spool and hands leases to workers; workers settle them and report.
//!
//! It never waits for another lane, and no job is kept in memory but the few that are leased.
use super::LaneStatus;
use super::machine::{Machine, Order, Report, Step, UNAUTHORISED};
use super::worker::{Batch, Item, Shared, Worker};
use crate::base::fault::{Plant, panic_if};
use crate::pki::Role;
use crate::sender::{Down, DownKind, Pair};
use crate::spool::Lease;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

pub(super) struct Lane {
    shared: Arc<Shared>,
    machine: Machine,
    workers: Vec<mpsc::Sender<Batch>>,
    reports: mpsc::Receiver<Report>,
    reports_in: mpsc::Sender<Report>,
    status: watch::Sender<LaneStatus>,
    poke: Arc<Notify>,
    told: Told,
}

/// What the log has said of the present outage, so that each of its causes stands there once.
#[derive(Default)]
struct Told(BTreeSet<(DownKind, Option<&'static str>, String)>);

impl Told {
    /// Whether this cause is to be said. `begins`: with it an outage begins.
    fn is_new(&mut self, down: &Down, begins: bool) -> bool {
        if begins {
            self.0.clear();
        }
        self.0.len() < TOLD_MAX && self.0.insert((down.kind, down.cause, down.reason.clone()))
    }
}

impl Lane {
    /// Starts the workers; `run` starts the lane itself.
    pub(super) fn new(
        shared: Arc<Shared>,
        mut machine: Machine,
        status: watch::Sender<LaneStatus>,
        poke: Arc<Notify>,
    ) -> Self {
        let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
        let workers = (0..shared.patience.workers)
            .map(|number| {
                let (batches, inbox) = mpsc::channel(1);
                let worker = Worker::new(number, shared.clone(), reports_in.clone(), machine.chance());
                shared.drain.spawn("delivery", worker.run(inbox));
                batches
            })
            .collect();
        Self {
            shared,
            machine,
            workers,
            reports,
            reports_in,
            status,
            poke,
            told: Told::default(),
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
                Some(report) = self.reports.recv() => self.take_all(report).await,
                () = poke.notified() => {
                    self.machine.hurry(now());
                    self.show();
                }
                () = wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
        shared.halt.store(true, Ordering::Relaxed);
    }

    /// Hands leases to idle workers, as far as the machine allows; starts a probe that is due.
    async fn dispatch(&mut self) {
        let (spool, name) = (&self.shared.spool, &self.shared.name);
        self.machine.look(spool.backlog(name), spool.has_urgent(name));
        while !self.shared.drain.is_stopping() {
            match self.machine.step(now()) {
                Step::Wait => break,
                Step::Probe => self.start_probe(),
                Step::End { worker, generation } => self.end(worker, generation),
                Step::Claim { worker, limit } => {
                    self.shared.halt.store(false, Ordering::Relaxed);
                    let leases = self
                        .shared
                        .spool
                        .claim_for(&self.shared.name, limit, Some(worker))
                        .await;
                    let pairs: Vec<Pair> = leases.iter().map(pair_of).collect();
                    if let Some(order) = self.machine.claimed(worker, &pairs, now()) {
                        self.hand_over(worker, order, leases);
                    }
                }
            }
        }
    }

    fn hand_over(&mut self, worker: usize, order: Order, leases: Vec<Lease>) {
        panic_if(Plant::PanicLane);
        let items = leases.into_iter().zip(order.parked);
        let batch = Batch {
            generation: order.generation,
            pairs: order.pairs,
            items: items.map(|(lease, parked)| Item { lease, parked }).collect(),
        };
        // The worker was idle, so its place is free. One that has ended (the box stops) gives its leases back here; the machine
        // takes it for busy, or the same leases would be claimed for it again and again.
        drop(self.workers[worker].try_send(batch));
        self.show();
    }

    /// A batch without work, of another generation than the worker's association.
    fn end(&self, worker: usize, generation: u64) {
        let batch = Batch {
            generation,
            pairs: Vec::new(),
            items: Vec::new(),
        };
        // As above: its place is free, or the box stops.
        drop(self.workers[worker].try_send(batch));
    }

    /// This report and those that wait behind it: a look at the queue for each would cost more than it finds.
    async fn take_all(&mut self, first: Report) {
        self.take(first).await;
        for _ in 1..REPORTS_MAX {
            match self.reports.try_recv() {
                Ok(report) => self.take(report).await,
                Err(_) => return,
            }
        }
    }

    async fn take(&mut self, report: Report) {
        self.log(&report);
        let reaction = self.machine.take(report, now());
        if reaction.halt {
            self.shared.halt.store(true, Ordering::Relaxed);
        }
        if let Some(note) = reaction.note {
            if reaction.parked {
                tracing::warn!(destination = %self.shared.name, reason = note, "a presentation context is parked");
            }
            self.note(note);
        }
        if reaction.suspend {
            self.suspend().await;
        }
        self.show();
    }

    /// What people are told of a report; the machine has not taken it in yet.
    fn log(&mut self, report: &Report) {
        let name = &self.shared.name;
        match report {
            Report::Down(down) if self.machine.is_limit(down, now()) => {
                tracing::info!(destination = %name, reason = down.reason, "the destination takes no further association");
            }
            Report::Down(down) | Report::Probe(Err(down)) => self.log_down(down),
            Report::Probe(Ok(())) => tracing::info!(destination = %name, "the destination answers again"),
            Report::Idle { .. }
            | Report::Opened { .. }
            | Report::Answered
            | Report::Took(_)
            | Report::Congested
            | Report::Unauthorised
            | Report::Refused { .. }
            | Report::Unready(_)
            | Report::Local => {}
        }
    }

    fn log_down(&mut self, down: &Down) {
        let name = self.shared.name.as_str();
        let failures = &self.shared.metrics.lane_failures_total;
        failures.with_label_values(&[name, down.kind.word()]).inc();
        if let (DownKind::Tls, Some(cause)) = (down.kind, down.cause) {
            let labels = [Role::Destination.word(), name, cause];
            self.shared.metrics.tls_failures_total.with_label_values(&labels).inc();
        }
        if self.told.is_new(down, self.machine.is_closed()) {
            let (kind, peer) = (down.kind.word(), self.shared.link.place());
            tracing::warn!(destination = %name, kind, cause = down.cause, peer, reason = down.reason, "the destination cannot be reached");
        }
    }

    fn start_probe(&self) {
        let (link, reports) = (self.shared.link.clone(), self.reports_in.clone());
        let (stopping, shared) = (self.shared.drain.token(), self.shared.clone());
        let probe = async move {
            let waiting = waiting(&shared).await;
            link.probe(&waiting).await
        };
        self.shared.drain.spawn("probe", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                // A lane that is gone needs no report.
                answer = probe => drop(reports.send(Report::Probe(answer)).await),
            }
        });
    }

    /// 0124: nothing is sent until a person resumes the destination.
    async fn suspend(&mut self) {
        let shared = &self.shared;
        match shared.spool.suspend(&shared.name, "lane", UNAUTHORISED).await {
            Ok(()) => tracing::error!(destination = %shared.name, "the destination does not authorise us; suspended"),
            Err(error) => {
                // Not recorded: the next answer tries again, after a rest.
                tracing::error!(destination = %shared.name, %error, "the destination does not authorise us");
                self.machine.rest(now());
            }
        }
    }

    /// When to look again without being woken.
    async fn next_look(&self) -> Instant {
        let due = match self.machine.is_drained() {
            true => self.shared.spool.next_due(&self.shared.name).await,
            false => None,
        };
        let wait = due.map(|due| due.since(self.shared.clock.now()));
        Instant::from_std(self.machine.next_look(wait, now()))
    }

    /// The gauges that follow the lane's own state.
    fn show(&self) {
        let (metrics, name) = (&self.shared.metrics, self.shared.name.as_str());
        metrics
            .lane_open
            .with_label_values(&[name])
            .set(i64::from(self.machine.is_closed()));
        let parked = i64::try_from(self.machine.parked().len()).unwrap_or(i64::MAX);
        metrics.contexts_parked.with_label_values(&[name]).set(parked);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let wanted = &metrics.lane_associations_wanted;
        wanted.with_label_values(&[name]).set(count(self.machine.wanted()));
        let open = &metrics.lane_associations_open;
        open.with_label_values(&[name]).set(count(self.machine.sessions()));
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
        let bytes = self.shared.link.ceiling().and_then(|bits| i64::try_from(bits / 8).ok());
        let ceiling = &self.shared.metrics.lane_ceiling;
        ceiling
            .with_label_values(&[self.shared.name.as_str()])
            .set(bytes.unwrap_or(0));
        self.status.send_modify(|status| {
            status.state = self.machine.state(now());
            status.sessions = self.machine.sessions();
            status.wanted = self.machine.wanted();
            status.in_flight = self.shared.in_flight.load(Ordering::Relaxed);
            status.parked = self.machine.parked().cloned().collect();
        });
    }
}

/// Classes and syntaxes of what waits, the first of it: a destination may answer to nothing else. Looked at and given back.
async fn waiting(shared: &Shared) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    for lease in shared.spool.claim(&shared.name, WAITING_MAX).await {
        let pair = pair_of(&lease);
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}

/// Tokio's clock, which tests pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn pair_of(lease: &Lease) -> Pair {
    (lease.instance.sop_class.clone(), lease.instance.transfer_syntax.clone())
}

/// Reports that may wait for the lane, and that it takes at once.
const REPORTS_MAX: usize = 512;
/// Jobs whose classes and syntaxes a probe proposes.
const WAITING_MAX: usize = 64;
/// Causes of one outage that the log names.
const TOLD_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_of_an_outage_is_said_once_and_again_in_the_next() {
        let down = |cause, reason: &str| Down {
            kind: DownKind::Tls,
            cause: Some(cause),
            reason: reason.to_owned(),
        };
        let (expired, unknown) = (
            down("expired", "its validity is over"),
            down("unknown_ca", "not signed"),
        );
        let mut told = Told::default();
        assert!(told.is_new(&expired, true));
        assert!(!told.is_new(&expired, false));
        assert!(told.is_new(&unknown, false));
        assert!(!told.is_new(&expired, false), "back and forth fills no log");
        let other = |number: usize| told.is_new(&down("expired", &number.to_string()), false);
        assert_eq!((0..100).map(other).filter(|said| *said).count(), TOLD_MAX - 2);
        assert!(told.is_new(&expired, true), "the next outage");
    }
}
