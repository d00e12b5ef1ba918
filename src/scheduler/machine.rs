//! A lane's decisions as a state machine: pure. Time, reports and chance come in, steps and reactions come out; no task, no
//! disk and no network here. `lane.rs` drives it in the box, `tests/sim` drives the same machine in virtual time.
//!
//! It claims only while the breaker is closed and the pace allows, so an outage costs no job an attempt.
use super::LaneState;
use super::breaker::Breaker;
use super::pace::{Allowed, Pace};
use super::parked::Contexts;
use super::width::{self, Answered, Flow};
use crate::base::fault::{Plant, planted};
use crate::base::names::JobId;
use crate::sender::{Down, DownKind, Pair, Patience};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Jobs that a worker gets at once, unless its session takes several at a time. Enough to know the next ones' contexts.
pub const CLAIM_MAX: usize = 8;

/// One lane's memory, all of it rebuilt from nothing at a start.
pub struct Machine {
    breaker: Breaker,
    pace: Pace,
    contexts: Contexts,
    slots: Vec<Slot>,
    rng: StdRng,
    generation: u64,
    /// Nothing before this after trouble of our own.
    rest_until: Option<Instant>,
    /// The last claim found nothing.
    drained: bool,
    /// How many associations the line takes, as far as its answers tell.
    flow: Flow,
    /// Jobs in the queue at the last look, and whether one of them is urgent and in nobody's hands.
    backlog: usize,
    urgent: bool,
}

/// A worker as its lane sees it.
#[derive(Clone, Copy, Default)]
struct Slot {
    busy: bool,
    /// An association stands, as far as the lane was told: established, whether or not anything was answered on it yet.
    session: bool,
    /// At work since before the destination was congested: it is not the one instance that may go after that.
    old: bool,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask the destination whether it is there; the machine takes it that the question is under way.
    Probe,
    /// This idle worker's association is of before the outage: it is to be ended, for it may hold the only place that the destination
    /// grants. Its worker reports that it is idle then.
    End { worker: usize, generation: u64 },
    /// Claim up to `limit` jobs for this idle worker, and say by `claimed` what came of it.
    Claim { worker: usize, limit: usize },
    /// Nothing until `next_look`, a report or a wake-up.
    Wait,
}

/// How a worker is to treat what was claimed for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Sessions from an earlier generation are not used any more.
    pub generation: u64,
    /// What a new association proposes.
    pub pairs: Vec<Pair>,
    /// For each job, in order: why its presentation context is parked, if it is.
    pub parked: Vec<Option<String>>,
}

/// What a worker tells its lane.
#[derive(Debug)]
pub enum Report {
    /// The batch is over (or the session was released); whether a session is open.
    Idle {
        worker: usize,
        session: bool,
    },
    /// A worker that is at work has an association.
    Opened {
        worker: usize,
    },
    /// The destination answered about an instance.
    Answered,
    /// How long that took, and in which company.
    Took(Answered),
    Congested,
    Down(Down),
    Unauthorised,
    Refused {
        pair: Pair,
        reason: String,
    },
    /// An instance could not be made ready for the destination now, in words for people. Others may go.
    Unready(String),
    /// The spool could not read or settle: our own trouble.
    Local,
    /// The probe of the lane has ended.
    Probe(Result<(), Down>),
}

/// What follows from a report for the driver.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reaction {
    /// The last trouble in words, for people.
    pub note: Option<String>,
    /// Workers give back what they have not begun.
    pub halt: bool,
    /// The destination is to be suspended, durably, until a person resumes it.
    pub suspend: bool,
    /// A presentation context was parked that was not before.
    pub parked: bool,
}

impl Machine {
    /// A lane of `patience.workers` idle workers. The same seed gives the same jitter.
    #[must_use]
    pub fn new(patience: &Patience, rng: StdRng) -> Self {
        Self {
            breaker: Breaker::new(patience.probe),
            pace: Pace::new(patience.retry.first.0),
            contexts: Contexts::new(patience.park_recheck),
            slots: vec![Slot::default(); patience.workers],
            rng,
            generation: 0,
            rest_until: None,
            drained: false,
            flow: Flow::new(Instant::now()),
            backlog: 0,
            urgent: false,
        }
    }

    /// Chance for one worker, seeded from the lane's own.
    #[must_use]
    pub fn chance(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.rng.random())
    }

    /// A round of steps begins, with so many jobs in the queue, those under way included; `urgent`: one that goes before everything
    /// else waits.
    pub fn look(&mut self, backlog: usize, urgent: bool) {
        self.drained = false;
        (self.backlog, self.urgent) = (backlog, urgent);
    }

    /// Associations that the lane wants at work now.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.flow.wanted(self.backlog, self.slots.len())
    }

    /// Associations that may be at work now. As long as none stands, one alone is opened (and one more for each while in which nobody
    /// answers): of two that are asked for at once a destination that grants one may refuse either, and say nothing of itself by it.
    fn room(&self, now: Instant) -> usize {
        let room = self.flow.room(self.backlog, self.slots.len(), self.urgent, now);
        if self.standing() > 0 || self.flow.is_answering(now) {
            return room;
        }
        room.min(1 + self.flow.silences(now))
    }

    /// Whether a failure is about one association more than the destination grants: another one stands, or others are at work and it
    /// answers them. Then it is there, and nothing of theirs is to be given up. One that stands and is dead in truth is found out by
    /// its own failure.
    #[must_use]
    pub fn is_limit(&self, down: &Down, now: Instant) -> bool {
        let kinds = [
            DownKind::RejectedTransient,
            DownKind::RejectedPermanent,
            DownKind::Association,
        ];
        let answers = self.busy() > 1 && self.flow.is_answering(now);
        kinds.contains(&down.kind) && self.breaker.is_closed() && (answers || self.another_stands())
    }

    /// Whether an association stands beside the one that failed. That one's worker opens its first; or it had one, which is gone and
    /// of which the lane was not told yet.
    fn another_stands(&self) -> bool {
        let opening = self.slots.iter().any(|slot| slot.busy && !slot.session);
        self.standing() > usize::from(!opening)
    }

    fn standing(&self) -> usize {
        self.slots.iter().filter(|slot| slot.session).count()
    }

    fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.busy).count()
    }

    /// The next step of the round. To be asked again until it says `Wait`.
    pub fn step(&mut self, now: Instant) -> Step {
        if self.breaker.probe_at().is_some_and(|at| at <= now) {
            self.breaker.probing();
            return Step::Probe;
        }
        let closed = self.breaker.is_closed() || planted(Plant::IgnoreBreaker);
        if !closed && let Some(worker) = self.slots.iter().position(|slot| !slot.busy && slot.session) {
            (self.slots[worker].busy, self.slots[worker].session) = (true, false);
            let generation = self.generation;
            return Step::End { worker, generation };
        }
        if !closed || self.drained || self.rest_until.is_some_and(|until| now < until) {
            return Step::Wait;
        }
        let limit = match self.pace.allows(now) {
            Allowed::Nothing => return Step::Wait,
            // What was under way when the destination was congested may take for hours yet.
            Allowed::One if self.slots.iter().any(|slot| slot.busy && !slot.old) => return Step::Wait,
            Allowed::One => 1,
            Allowed::All if self.busy() >= self.room(now) => return Step::Wait,
            Allowed::All => width::share(self.backlog, self.wanted(), self.flow.batch(CLAIM_MAX)),
        };
        match self.idle() {
            Some(worker) => Step::Claim { worker, limit },
            None => Step::Wait,
        }
    }

    /// An idle worker, one with an open session first.
    fn idle(&self) -> Option<usize> {
        let idle = |session: bool| self.slots.iter().position(|slot| !slot.busy && slot.session == session);
        idle(true).or_else(|| idle(false))
    }

    /// What was claimed for a worker: the pair of each job, in order. `None`: nothing, and so nothing to hand over.
    pub fn claimed(&mut self, worker: usize, pairs: &[Pair], now: Instant) -> Option<Order> {
        if pairs.is_empty() {
            self.drained = true;
            return None;
        }
        let mut parked = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (reason, forgotten) = self.contexts.refused(pair, now);
            // A session that was told the refusal would repeat it from memory.
            self.generation += u64::from(forgotten);
            parked.push(reason);
        }
        let needed = pairs.iter().zip(&parked).filter(|(_, parked)| parked.is_none());
        let proposed = self.contexts.propose(needed.map(|(pair, _)| pair.clone()));
        if self.busy() == 0 {
            self.flow.begins(now);
        }
        self.slots[worker].busy = true;
        Some(Order {
            generation: self.generation,
            pairs: proposed,
            parked,
        })
    }

    /// Takes a report in.
    pub fn take(&mut self, report: Report, now: Instant) -> Reaction {
        let mut reaction = Reaction::default();
        match report {
            Report::Idle { worker, session } => {
                self.slots[worker] = Slot {
                    session,
                    ..Slot::default()
                }
            }
            // Only of one at work: what is heard late of a batch that is over says nothing.
            Report::Opened { worker } => self.slots[worker].session |= self.slots[worker].busy,
            Report::Answered => {
                self.breaker.answered();
                self.pace.answered(now);
            }
            Report::Took(answer) => {
                let sessions = (self.busy(), self.slots.len());
                self.flow.answered(answer, sessions, now);
            }
            Report::Congested => {
                let roll = self.rng.random();
                self.pace.congested(roll, now);
                self.slots.iter_mut().for_each(|slot| slot.old = slot.busy);
                reaction.note = Some("congested".to_owned());
                reaction.halt = true;
            }
            Report::Down(down) if self.is_limit(&down, now) => {
                self.flow.refused_beyond(self.sessions() - 1, now);
                reaction.note = Some(format!("no further association: {down}"));
            }
            Report::Down(down) | Report::Probe(Err(down)) => {
                let roll = self.rng.random();
                if self.breaker.is_closed() {
                    self.flow.forget(now);
                }
                self.breaker.failed(down.kind, roll, now);
                // What a session of before the outage still says is not to be trusted.
                self.generation += 1;
                reaction.note = Some(down.to_string());
                reaction.halt = true;
            }
            Report::Probe(Ok(())) => self.breaker.recovered(),
            Report::Unauthorised => {
                reaction.note = Some(UNAUTHORISED.to_owned());
                reaction.halt = true;
                reaction.suspend = true;
            }
            Report::Refused { pair, reason } => {
                reaction.note = Some(reason.clone());
                reaction.parked = self.contexts.park(pair, reason, now);
            }
            Report::Unready(what) => reaction.note = Some(what),
            Report::Local => {
                reaction.note = Some(LOCAL.to_owned());
                self.rest(now);
            }
        }
        reaction
    }

    /// The spool could not record: nothing for a while.
    pub fn rest(&mut self, now: Instant) {
        self.rest_until = Some(now + LOCAL_REST);
    }

    /// A person has changed something: probe, and ask for parked contexts again.
    pub fn hurry(&mut self, now: Instant) {
        self.breaker.hurry(now);
        self.pace.hurry();
        self.rest_until = None;
        self.generation += u64::from(self.contexts.clear());
    }

    /// Whether the time of the next job matters: the last claim found nothing.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// When to look again without being woken; `wait` is how long the next job has yet to wait, when there is one.
    #[must_use]
    pub fn next_look(&self, wait: Option<Duration>, now: Instant) -> Instant {
        let mut next = now + LOOK_MAX;
        // Nobody may answer for long, and what waits then gets an association more.
        let silence = (self.busy() > 0 && !self.drained).then(|| now + width::SILENCE);
        let turns = [
            self.breaker.probe_at(),
            self.pace.pause_ends(now),
            self.rest_until,
            silence,
        ];
        for at in turns.into_iter().flatten().filter(|at| *at > now) {
            next = next.min(at);
        }
        // A job that is due although nothing was claimed is leased or suspended: its end wakes the lane.
        wait.map_or(next, |wait| next.min(now + wait.max(LOOK_MIN)))
    }

    #[must_use]
    pub fn state(&self, now: Instant) -> LaneState {
        match (
            self.breaker.is_closed(),
            self.breaker.is_probing(),
            self.pace.allows(now),
        ) {
            (false, false, _) => LaneState::Down,
            (false, true, _) => LaneState::Probing,
            (true, _, Allowed::All) => LaneState::Up,
            (true, _, Allowed::Nothing | Allowed::One) => LaneState::Slowed,
        }
    }

    /// Whether the destination is taken to be there.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.breaker.is_closed()
    }

    /// Workers that are at work or have a session open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.slots.iter().filter(|slot| slot.session || slot.busy).count()
    }

    /// The pairs that the destination refuses.
    pub fn parked(&self) -> impl ExactSizeIterator<Item = &Pair> {
        self.contexts.parked()
    }
}

/// Instances over which sessions broke, one after the other, without an answer between: then the destination may be sick, and
/// gets a pause before it is tried again. All workers of a lane share one.
///
/// A line that breaks under what is long says nothing of any instance, though the destination answers a C-ECHO in between and takes
/// what is short: only many answers in a row say that it is well.
pub struct Streak {
    /// Without an answer between.
    broke: BTreeSet<JobId>,
    /// Without a word of the peer, and without `WELL` answers in a row between.
    lately: BTreeSet<JobId>,
    /// In a row.
    answers: usize,
    /// Breaks that counted against no instance since the line was well.
    spared: usize,
    spares: usize,
}

/// What a broken session says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broke {
    /// The destination may be sick.
    pub is_sick: bool,
    /// The line is to blame, and not the instance.
    pub is_line: bool,
}

impl Default for Streak {
    fn default() -> Self {
        Self::sparing(SPARES)
    }
}

impl Streak {
    /// Calls at most `spares` breaks the line's until it is well. Then they count: instances that a destination cannot bear, and beside
    /// which nothing else comes, would otherwise never be held.
    #[must_use]
    pub fn sparing(spares: usize) -> Self {
        Self {
            broke: BTreeSet::new(),
            lately: BTreeSet::new(),
            answers: 0,
            spared: 0,
            spares,
        }
    }

    /// Notes that a session broke over this job; `line`: without a word of the peer.
    pub fn broke(&mut self, job: JobId, line: bool) -> Broke {
        self.answers = 0;
        let note = |jobs: &mut BTreeSet<JobId>| {
            if jobs.len() < SICK {
                jobs.insert(job);
            }
            jobs.len() >= SICK
        };
        let is_sick = note(&mut self.broke);
        let is_line = line && note(&mut self.lately) && self.spared < self.spares;
        self.spared += usize::from(is_line);
        Broke { is_sick, is_line }
    }

    pub fn answered(&mut self) {
        self.broke.clear();
        self.answers += 1;
        if self.answers >= WELL {
            self.lately.clear();
            self.spared = 0;
        }
    }
}

/// What a lane is suspended with.
pub const UNAUTHORISED: &str = "the destination answered not authorised (0124H)";
/// Distinct instances over which sessions broke, without an answer between, that make a destination sick.
const SICK: usize = 3;
/// Answers in a row that make a line well.
const WELL: usize = 10;
/// With the longest pause of a lane, 30 s, a night.
const SPARES: usize = 960;
/// The last trouble of a lane that rests for its spool.
const LOCAL: &str = "the spool could not be read or written: the log says why";
/// Pause after the spool could not read or record.
const LOCAL_REST: Duration = Duration::from_secs(2);
/// A lane looks at its queue at least this often, whatever the clocks say.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// And not more often than this without being woken.
const LOOK_MIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
