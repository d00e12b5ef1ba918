//! Lanes and workers in virtual time: what `lane.rs` and `worker.rs` of the scheduler do with tasks is done here with events,
//! and every decision is asked of the same machine.
use crate::net::Peer;
use crate::world::{Event, For, Process, SECOND, World};
use rand::Rng;
use std::collections::VecDeque;
use waystation::base::names::JobId;
use waystation::scheduler::pure::{self, Answered, Circumstances, Exam, Machine, Report, Step, Streak};
use waystation::sender::{Down, Duplicate, Outcome, Pair};
use waystation::spool::bench::Ask;
use waystation::spool::{HoldKind, Lease, ReadError};

pub struct Lane {
    pub machine: Machine,
    streak: Streak,
    workers: Vec<Worker>,
    halt: bool,
    /// The next timed look.
    looks_at: u64,
    stamp: u64,
    /// What this lane was last told of its destination, for the oracle.
    pub down: bool,
}

#[derive(Default)]
struct Worker {
    items: VecDeque<(Lease, Option<String>)>,
    /// None of them has gone yet.
    is_first: bool,
    current: Option<Current>,
    generation: u64,
    session: bool,
    sent: u32,
    answered_at: u64,
    /// When the instance under way, or the last one, began, and its length.
    began: (u64, u64),
    stamp: u64,
}

/// The instance under way.
struct Current {
    lease: Lease,
    thing: u32,
    pair: Pair,
    /// The session is good afterwards.
    session: bool,
    /// The archive has said that it has it.
    said: bool,
    /// What came back, while the destination is asked whether it is there.
    outcome: Option<Outcome>,
}

impl Lane {
    pub fn new(machine: Machine, workers: usize) -> Self {
        Self {
            machine,
            // A night of virtual time for each seed would say no more.
            streak: Streak::sparing(20),
            workers: (0..workers).map(|_| Worker::default()).collect(),
            halt: false,
            looks_at: 0,
            stamp: 0,
            down: false,
        }
    }

    /// Associations, as the archive counts them.
    fn standing(&self) -> usize {
        let at_work = |worker: &Worker| worker.current.as_ref().is_some_and(|current| current.session);
        let stands = |worker: &&Worker| worker.session || at_work(worker);
        self.workers.iter().filter(stands).count()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| worker.current.is_none() && worker.items.is_empty())
    }
}

fn pair_of(lease: &Lease) -> Pair {
    (lease.instance.sop_class.clone(), lease.instance.transfer_syntax.clone())
}

impl World {
    pub fn look_all(&mut self) {
        for dest in 0..self.peers.len() {
            self.look(dest);
        }
    }

    pub fn timed_look(&mut self, dest: usize, stamp: u64) {
        let current = self
            .process
            .as_ref()
            .is_some_and(|process| process.lanes[dest].stamp == stamp);
        if current {
            self.look(dest);
        }
    }

    /// A round of the lane: steps until there are none, then the time of the next round.
    pub fn look(&mut self, dest: usize) {
        self.with(|world, process| {
            let (backlog, urgent) = process.bench.backlog(&world.names[dest]);
            process.lanes[dest].machine.look(backlog, urgent);
            let now = world.instant();
            loop {
                match process.lanes[dest].machine.step(now) {
                    Step::Wait => break,
                    Step::Probe => world.probe(dest, process.lanes[dest].standing()),
                    Step::End { worker, generation } => world.end(process, dest, worker, generation),
                    Step::Claim { worker, limit } => world.claim(process, dest, worker, limit),
                }
            }
            let machine = &process.lanes[dest].machine;
            let due = if machine.is_drained() {
                process.bench.next_due(&world.names[dest])
            } else {
                None
            };
            let wait = due.map(|due| due.since(world.clock.now()));
            let next = machine.next_look(wait, now).saturating_duration_since(now);
            // Never a little too early: the pauses have nanoseconds.
            let at = world.now + u64::try_from(next.as_micros()).unwrap_or(u64::MAX) + 1;
            let lane = &mut process.lanes[dest];
            if lane.looks_at <= world.now || at < lane.looks_at {
                lane.looks_at = at;
                lane.stamp += 1;
                let (life, stamp) = (world.life, lane.stamp);
                world.at(at, Event::Look { life, dest, stamp });
            }
        });
    }

    /// The association of an idle worker is ended.
    fn end(&mut self, process: &mut Process, dest: usize, worker: usize, generation: u64) {
        let slot = &mut process.lanes[dest].workers[worker];
        (slot.generation, slot.session) = (generation, false);
        self.idle(process, dest, worker);
    }

    fn probe(&mut self, dest: usize, standing: usize) {
        self.reached[dest] += 1;
        let (takes, mut answer) = self.peers[dest].probe(&mut self.rng);
        if standing >= self.peers[dest].grants {
            answer = Err(Peer::full());
        }
        let life = self.life;
        self.after(takes, Event::Probed { life, dest, answer });
    }

    pub fn probed(&mut self, dest: usize, answer: Result<(), Down>) {
        self.say(|| format!("d{dest}: probe {answer:?}"));
        self.with(|world, process| world.report(process, dest, Report::Probe(answer)));
        self.look(dest);
    }

    fn claim(&mut self, process: &mut Process, dest: usize, worker: usize, limit: usize) {
        if process.lanes[dest].down {
            self.broken(format!("d{dest}: claimed while the destination is down"));
        }
        let expected = self.expected(process, dest, limit, worker);
        process.lanes[dest].halt = false;
        let (leases, recorded) = process.bench.claim(&self.names[dest], limit, worker);
        self.check_claim(process, dest, expected, &leases, &recorded);
        let pairs: Vec<Pair> = leases.iter().map(pair_of).collect();
        let now = self.instant();
        let lane = &mut process.lanes[dest];
        let Some(order) = lane.machine.claimed(worker, &pairs, now) else {
            return;
        };
        self.say(|| {
            let jobs: Vec<JobId> = leases.iter().map(|lease| lease.job).collect();
            format!("d{dest}.{worker}: claims {jobs:?}")
        });
        let slot = &mut lane.workers[worker];
        if slot.generation != order.generation {
            (slot.generation, slot.session) = (order.generation, false);
        }
        slot.stamp += 1;
        slot.items = leases.into_iter().zip(order.parked).collect();
        slot.is_first = true;
        self.next(process, dest, worker);
    }

    /// The worker's next item; without one, or halted, it is idle.
    fn next(&mut self, process: &mut Process, dest: usize, worker: usize) {
        let now = self.clock.now();
        let lane = &mut process.lanes[dest];
        let slot = &mut lane.workers[worker];
        if lane.halt {
            slot.items.clear();
        }
        // What became urgent meanwhile goes first, as in `worker.rs`; the first of a batch goes in any case.
        if !slot.is_first && slot.items.front().is_some_and(|(lease, _)| lease.is_overtaken(now)) {
            slot.items.clear();
        }
        slot.is_first = false;
        let Some((lease, parked)) = slot.items.pop_front() else {
            return self.idle(process, dest, worker);
        };
        let thing = Self::thing_of(&lease);
        if let Some(text) = parked {
            let settlement = pure::hold(HoldKind::Parked, text);
            return self.settle(process, (dest, worker), lease, settlement, None);
        }
        let payload = self.files.get(&lease.instance.id).copied();
        let Some(payload) = payload.filter(|payload| payload.whole) else {
            self.broken(format!("{} of {} has no payload", lease.job, lease.instance.id));
            if let Some(settlement) = pure::unreadable(ReadError::Missing) {
                self.settle(process, (dest, worker), lease, settlement, None);
            }
            return;
        };
        self.sends(dest, thing, &lease, &payload);
        let slot = &mut process.lanes[dest].workers[worker];
        let batch = self.peers[dest].patience.batch;
        if batch > 0 && slot.sent >= batch {
            slot.session = false;
        }
        let warm = slot.session && self.now < slot.answered_at + SECOND;
        self.reached[dest] += u64::from(!slot.session);
        let class = self.things[thing as usize].class;
        let (is_open, standing) = (slot.session, process.lanes[dest].standing());
        let mut attempt = self.peers[dest].attempt(thing, class, is_open, warm, &mut self.rng);
        if !is_open && standing >= self.peers[dest].grants {
            (attempt.outcome, attempt.stored, attempt.session) = (Outcome::Down(Peer::full()), false, false);
        }
        if payload.damaged && !matches!(attempt.outcome, Outcome::Down(_)) {
            // The checksum is known before the last fragment leaves.
            (attempt.outcome, attempt.stored, attempt.session) =
                (Outcome::Corrupt { what: "damaged".into() }, false, false);
        }
        if attempt.stored {
            self.oracle.stored.insert((thing, dest as u8));
        }
        let slot = &mut process.lanes[dest].workers[worker];
        slot.began = (self.now, lease.instance.length);
        slot.current = Some(Current {
            pair: pair_of(&lease),
            lease,
            thing,
            session: attempt.session,
            said: attempt.stored && attempt.session,
            outcome: None,
        });
        let is_new = !is_open && !matches!(attempt.outcome, Outcome::Down(_));
        let (life, outcome) = (self.life, attempt.outcome);
        self.after(
            attempt.takes,
            Event::Outcome {
                life,
                dest,
                worker,
                outcome,
            },
        );
        if is_new {
            self.report(process, dest, Report::Opened { worker });
        }
    }

    fn idle(&mut self, process: &mut Process, dest: usize, worker: usize) {
        let slot = &mut process.lanes[dest].workers[worker];
        let session = slot.session;
        slot.stamp += 1;
        if session {
            let (life, stamp) = (self.life, slot.stamp);
            let idle = self.peers[dest].patience.idle.as_micros() as u64;
            self.after(
                idle,
                Event::IdleOut {
                    life,
                    dest,
                    worker,
                    stamp,
                },
            );
        }
        self.report(process, dest, Report::Idle { worker, session });
    }

    pub fn idle_out(&mut self, dest: usize, worker: usize, stamp: u64) {
        self.with(|world, process| {
            let slot = &mut process.lanes[dest].workers[worker];
            if slot.stamp == stamp {
                slot.session = false;
                world.report(process, dest, Report::Idle { worker, session: false });
            }
        });
    }

    pub fn outcome(&mut self, dest: usize, worker: usize, outcome: Outcome) {
        self.with(|world, process| {
            let lane = &mut process.lanes[dest];
            let slot = &mut lane.workers[worker];
            let Some(current) = &mut slot.current else { return };
            slot.sent = if slot.session { slot.sent + 1 } else { 1 };
            (slot.session, slot.answered_at) = (current.session, world.now);
            if current.said {
                let leg = (current.thing, dest as u8);
                world.oracle.answered.insert(leg);
                // A duplicate that is to be held is no confirmation: when the disk refuses the hold, the archive is asked once more.
                let held = world.peers[dest].patience.duplicate == Duplicate::Hold;
                if !(held && matches!(outcome, Outcome::Duplicate)) {
                    world.oracle.yes.insert(leg);
                }
            }
            let (thing, job) = (current.thing, current.lease.job);
            world.say(|| format!("d{dest}.{worker}: {job} thing {thing}: {outcome:?}"));
            match pure::examine(&current.pair, &outcome, &mut lane.streak) {
                Exam::Known { answers, report } => world.conclude(process, (dest, worker), &outcome, answers, report),
                Exam::Ask => {
                    current.outcome = Some(outcome);
                    let (takes, answer) = world.peers[dest].probe(&mut world.rng);
                    let life = world.life;
                    world.after(
                        takes,
                        Event::Examined {
                            life,
                            dest,
                            worker,
                            answer,
                        },
                    );
                }
            }
        });
    }

    pub fn examined(&mut self, dest: usize, worker: usize, answer: Result<(), Down>) {
        self.with(|world, process| {
            let lane = &mut process.lanes[dest];
            let Some(current) = &mut lane.workers[worker].current else {
                return;
            };
            let (job, Some(outcome)) = (current.lease.job, current.outcome.take()) else {
                return;
            };
            let Outcome::Interrupted(interruption) = &outcome else {
                return;
            };
            let (answers, report) = pure::asked(job, interruption, answer, &mut lane.streak);
            world.conclude(process, (dest, worker), &outcome, answers, report);
        });
    }

    fn conclude(
        &mut self,
        process: &mut Process,
        (dest, worker): (usize, usize),
        outcome: &Outcome,
        answers: bool,
        report: Option<Report>,
    ) {
        let Some(current) = process.lanes[dest].workers[worker].current.take() else {
            return;
        };
        let lease = current.lease;
        self.oracle.blames(lease.job, outcome, answers);
        let about = Circumstances {
            attempts: lease.attempts,
            answers,
            roll: self.rng.random(),
        };
        let (patience, now) = (&self.peers[dest].patience, self.clock.now());
        match pure::ending(outcome, about, patience, &current.pair, now) {
            Some(settlement) => self.settle(process, (dest, worker), lease, settlement, report),
            None => {
                drop(lease);
                self.go_on(process, dest, worker, true, report);
            }
        }
    }

    fn settle(
        &mut self,
        process: &mut Process,
        (dest, worker): (usize, usize),
        lease: Lease,
        settlement: waystation::spool::Settlement,
        report: Option<Report>,
    ) {
        let (job, thing) = (lease.job, Self::thing_of(&lease));
        let confirmed = matches!(settlement, waystation::spool::Settlement::Confirmed { .. });
        self.say(|| format!("d{dest}.{worker}: {job} thing {thing}: {settlement:?}"));
        let whom = For::Worker {
            dest,
            worker,
            job,
            thing,
            confirmed,
            report,
        };
        self.ask_in(process, Ask::Settle(lease, settlement), whom);
    }

    /// After a job: what the lane is to know, and the next one or none.
    pub fn go_on(&mut self, process: &mut Process, dest: usize, worker: usize, recorded: bool, report: Option<Report>) {
        if !recorded {
            self.report(process, dest, Report::Local);
        }
        let goes_on = recorded && pure::goes_on(report.as_ref());
        if let Some(report) = report {
            let answered = matches!(report, Report::Answered);
            self.report(process, dest, report);
            let (began, length) = process.lanes[dest].workers[worker].began;
            if answered {
                let took = std::time::Duration::from_micros(self.now - began);
                let answer = Answered {
                    length,
                    took,
                    window: 1,
                    together: 1,
                };
                self.report(process, dest, Report::Took(answer));
            }
        }
        if !goes_on {
            process.lanes[dest].workers[worker].items.clear();
        }
        self.next(process, dest, worker);
    }

    fn report(&mut self, process: &mut Process, dest: usize, report: Report) {
        let now = self.instant();
        let lane = &mut process.lanes[dest];
        match &report {
            // One association too many: those that work go on.
            Report::Down(down) if lane.machine.is_limit(down, now) => {}
            Report::Down(_) | Report::Probe(Err(_)) => lane.down = true,
            Report::Probe(Ok(())) => lane.down = false,
            _ => {}
        }
        let reaction = lane.machine.take(report, now);
        lane.halt |= reaction.halt;
        // A lane looks after each report.
        if lane.looks_at != self.now {
            lane.looks_at = self.now;
            lane.stamp += 1;
            let (life, stamp) = (self.life, lane.stamp);
            self.after(0, Event::Look { life, dest, stamp });
        }
        if reaction.suspend {
            let name = self.names[dest].clone();
            let whom = For::Suspension {
                dest,
                on: true,
                by_lane: true,
            };
            self.oracle.suspended[dest] = None;
            self.ask_in(process, Ask::Suspend(name, true), whom);
        }
    }
}
