//! The life of the box: it starts over what the disk has, takes instances in, commits, and ends, in order or not.
use crate::lane::Lane;
use crate::world::{Event, For, MILLI, MINUTE, Payload, Process, Route, SECOND, World};
use rand::Rng;
use waystation::base::names::{DestinationId, InstanceId};
use waystation::scheduler::pure::{self, Machine};
use waystation::spool::bench::{Ask, Bench, Done, WriteFault};
use waystation::spool::{Commit, CommitError, Committed, HoldKind, HoldReason, NewJob, Repeat, StudyNote};

impl World {
    /// Does something with the running box, if there is one; a spool that failed ends it.
    pub fn with(&mut self, work: impl FnOnce(&mut Self, &mut Process)) {
        let Some(mut process) = self.process.take() else { return };
        work(self, &mut process);
        if process.bench.is_failed() {
            self.say(|| "the spool has failed: the process ends, and is started again".to_owned());
            drop(process);
            self.ended(None);
            self.after(2 * SECOND, Event::Start);
            return;
        }
        if !process.bench.is_open() && !std::mem::replace(&mut process.keeping, true) {
            let life = self.life;
            self.after(SECOND, Event::Keep { life });
        }
        self.process = Some(process);
    }

    pub fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let dead = !self.healed && self.plan.index_faults > 0 && self.one_in(4);
        self.disk.set_dead(dead);
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        match Bench::open(&self.disk, &self.listing(), clock, metrics) {
            Err(text) => {
                self.say(|| format!("it does not start: {text}"));
                self.after(SECOND, Event::Start);
            }
            Ok((bench, opened)) => {
                self.say(|| format!("start {}: {:?}", self.life, opened.report));
                for id in opened.removed.iter().chain(&opened.set_aside) {
                    self.files.remove(id);
                }
                for (name, peer) in self.names.iter().zip(&self.peers) {
                    bench.puts_off(name, peer.patience.retry.max.0);
                }
                let machine = |world: &mut Self, dest: usize| {
                    let rng = rand::SeedableRng::seed_from_u64(world.rng.random());
                    Machine::new(&world.peers[dest].patience, rng)
                };
                let lanes = (0..self.peers.len())
                    .map(|dest| Lane::new(machine(self, dest), self.plan.workers))
                    .collect();
                let process = Process {
                    bench,
                    lanes,
                    asks: Vec::new(),
                    committing: false,
                    keeping: false,
                };
                self.oracle.disturbed(self.now);
                self.check_start(&process, &opened);
                self.process = Some(process);
                self.look_all();
            }
        }
    }

    /// The process is gone. With `power`, so is what the disk was not told to keep.
    pub fn ended(&mut self, power: Option<f64>) {
        self.process = None;
        self.life += 1;
        self.disk.ended(power);
        self.oracle.yes.clear();
        self.oracle.disturbed(self.now);
        if power.is_none() {
            return;
        }
        for payload in self.files.values_mut() {
            if payload.whole && !payload.flushed {
                payload.whole = false;
            }
            if payload.letter != payload.flushed_letter && self.rng.random_bool(0.5) {
                payload.letter = payload.flushed_letter;
            }
            payload.flushed_letter = payload.letter;
        }
    }

    /// SIGKILL or a power cut, often in the middle of a batch.
    pub fn crash(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let power = self.rng.random_bool(0.5).then(|| self.rng.random());
        self.say(|| format!("CRASH, power {power:?}, {} requests wait", process.asks.len()));
        if !process.asks.is_empty() && self.rng.random_bool(0.7) {
            let survives = self.rng.random_bool(0.5);
            self.disk.fault(WriteFault::Unflushed { survives });
            let asks = std::mem::take(&mut process.asks);
            // Nobody is told what became of it.
            process.bench.commit(asks.into_iter().map(|(ask, _)| ask).collect());
            self.flushed_letters();
        }
        drop(process);
        self.ended(power);
        let down = self.rng.random_range(SECOND..MINUTE);
        self.after(down, Event::Start);
    }

    /// A disk that gives wrong bytes, or none.
    pub fn spoil(&mut self) {
        if self.rng.random_bool(0.5) {
            self.say(|| "reads of the index fail".to_owned());
            self.disk.fail_reads(self.rng.random_range(1..4));
        } else if !self.files.is_empty() {
            let nth = self.rng.random_range(0..self.files.len());
            if let Some((id, payload)) = self.files.iter_mut().nth(nth) {
                payload.damaged = true;
                let (id, thing) = (*id, payload.thing);
                self.oracle.damaged.insert(thing);
                self.say(|| format!("payload {id} of thing {thing} is damaged"));
            }
        }
    }

    /// A modality sends a thing, or looks whether it has to.
    pub fn send(&mut self, thing: u32) {
        let at = thing as usize;
        if !std::mem::replace(&mut self.oracle.begun[at], true) {
            let next = thing + 1;
            if (next as usize) < self.things.len() {
                let pause = self.rng.random_range(0..self.plan.sending.max(1));
                self.after(pause, Event::Send(next));
            } else {
                self.oracle.sent_all = true;
            }
        }
        if self.oracle.knows[at] {
            if !std::mem::take(&mut self.things[at].again) {
                return;
            }
            self.say(|| format!("thing {thing} is sent once more"));
        }
        let patience = self.rng.random_range(40 * SECOND..80 * SECOND);
        self.after(patience, Event::Send(thing));
        let open = self.process.as_ref().is_some_and(|process| process.bench.is_open());
        if !open {
            return;
        }
        let faulty = !self.healed && self.plan.payload_faults > 0;
        if faulty && self.one_in(self.plan.payload_faults) {
            let flush = self.rng.random_bool(0.5);
            self.say(|| {
                format!(
                    "thing {thing}: its payload cannot be {}",
                    if flush { "flushed" } else { "written" }
                )
            });
            if flush {
                self.with(|_, process| process.bench.payload_failed());
            }
            return;
        }
        let id = InstanceId::new(self.clock.now().0, self.rng.random());
        let payload = Payload {
            thing,
            letter: b'P',
            whole: false,
            flushed: false,
            flushed_letter: b'P',
            damaged: false,
        };
        self.files.insert(id, payload);
        self.oracle.ids.insert(id, thing);
        let (life, takes) = (self.life, self.rng.random_range(MILLI..200 * MILLI));
        self.after(takes, Event::Sealed { life, thing, id });
    }

    /// The payload is flushed: now the index.
    pub fn sealed(&mut self, thing: u32, id: InstanceId) {
        let Some(payload) = self.files.get_mut(&id) else { return };
        *payload = Payload {
            letter: b'S',
            whole: true,
            flushed: true,
            flushed_letter: b'S',
            ..*payload
        };
        let jobs = match self.things[thing as usize].route {
            Route::Undecided => Vec::new(),
            Route::Sent => self.decided(thing, None),
            Route::Held => self.decided(thing, Some(HoldReason::new(HoldKind::Rule, "look"))),
        };
        let commit = Commit {
            study: None,
            rule_epoch: 1,
            jobs,
            repeat: Repeat::Acknowledge,
            note: StudyNote::default(),
            aliases: Vec::new(),
            traits: Vec::new(),
        };
        let instance = Box::new(self.instance(id, thing));
        self.ask(Ask::Admit(instance, commit), For::Modality { thing, id });
    }

    /// A job for each destination, as the rules would decide.
    pub fn decided(&self, thing: u32, hold: Option<HoldReason>) -> Vec<NewJob> {
        let about = &self.things[thing as usize];
        let to = self.names.iter().enumerate().filter(|(n, _)| about.to & (1 << n) != 0);
        let job = |(_, name): (usize, &DestinationId)| NewJob {
            destination: Some(name.clone()),
            priority: about.priority,
            plan: Vec::new(),
            due: self.clock.now(),
            hold: hold.clone(),
            quiet: None,
            group: None,
        };
        to.map(job).collect()
    }

    /// Hands something to the commit thread.
    pub fn ask(&mut self, ask: Ask, whom: For) {
        self.with(|world, process| world.ask_in(process, ask, whom));
    }

    pub fn ask_in(&mut self, process: &mut Process, ask: Ask, whom: For) {
        process.asks.push((ask, whom));
        if !process.committing {
            process.committing = true;
            let (life, gathers) = (self.life, self.rng.random_range(10..2 * MILLI));
            self.after(gathers, Event::Commit { life });
        }
    }

    pub fn commit(&mut self) {
        if !self.healed && self.one_in(self.plan.index_faults) {
            let fault = match self.rng.random_range(0..3) {
                0 => WriteFault::Refused,
                1 => WriteFault::Unflushed { survives: false },
                _ => WriteFault::Unflushed { survives: true },
            };
            self.say(|| format!("the index will meet {fault:?}"));
            self.disk.fault(fault);
        }
        self.with(|world, process| {
            let (asks, whom): (Vec<Ask>, Vec<For>) = std::mem::take(&mut process.asks).into_iter().unzip();
            let ran = process.bench.is_open();
            let done = process.bench.commit(asks);
            let done: Vec<(For, Done)> = whom.into_iter().zip(done).collect();
            for (whom, done) in &done {
                world.durable(whom, done, ran);
            }
            world.flushed_letters();
            for id in process.bench.delivered() {
                if let Some(payload) = world.files.get_mut(&id) {
                    payload.letter = b'D';
                }
            }
            let (life, mut flush) = (world.life, world.rng.random_range(MILLI / 2..20 * MILLI));
            let mut done = done;
            if !world.healed && world.one_in(world.plan.index_faults) {
                // The flush takes longer than anybody waits: it is done, and nobody is told.
                world.say(|| "the disk takes half a minute".to_owned());
                flush = 30 * SECOND;
                world.oracle.disturbed(world.now + flush);
                done = done.into_iter().map(|(whom, done)| (whom, late(done))).collect();
            }
            world.after(flush, Event::Answer { life, done });
        });
    }

    /// What became of files whatever became of the batch: letters that the disk has for sure, files put aside.
    fn flushed_letters(&mut self) {
        for id in self.disk.aside() {
            self.files.remove(&id);
        }
        for id in self.disk.letters() {
            if let Some(payload) = self.files.get_mut(&id) {
                (payload.letter, payload.flushed_letter) = (b'D', b'D');
            }
        }
    }

    /// What the oracle and the files learn when the batch is on the disk, before anybody is answered.
    fn durable(&mut self, whom: &For, done: &Done, ran: bool) {
        match (whom, done) {
            (For::Modality { id, .. }, Done::Admitted(Ok(Committed::Stored(_) | Committed::Conflict(_)))) => {
                if let Some(payload) = self.files.get_mut(id) {
                    payload.letter = b'C';
                }
            }
            (For::Modality { id, .. }, Done::Admitted(Ok(Committed::Repeat(_)))) => drop(self.files.remove(id)),
            // A request that ran keeps its file, whatever became of the batch.
            (For::Modality { id, .. }, Done::Admitted(Err(_))) if !ran => drop(self.files.remove(id)),
            (
                For::Worker {
                    dest,
                    thing,
                    confirmed: true,
                    ..
                },
                Done::Settled(Ok(())),
            ) => {
                self.confirmed(*dest, *thing);
            }
            (For::Suspension { dest, on, .. }, Done::Suspended(result)) => {
                self.oracle.suspended[*dest] = result.ok().map(|()| *on);
            }
            _ => {}
        }
    }

    pub fn answer(&mut self, done: Vec<(For, Done)>) {
        self.with(|world, process| {
            process.committing = false;
            if !process.asks.is_empty() {
                process.committing = true;
                let life = world.life;
                world.after(0, Event::Commit { life });
            }
            for (whom, done) in done {
                world.answered(process, whom, done);
            }
        });
    }

    fn answered(&mut self, process: &mut Process, whom: For, done: Done) {
        match (whom, done) {
            (For::Modality { thing, id }, Done::Admitted(result)) => self.acknowledge(thing, id, result),
            (
                For::Worker {
                    dest,
                    worker,
                    job,
                    report,
                    ..
                },
                Done::Settled(result),
            ) => {
                let recorded = pure::recorded(result);
                self.say(|| format!("d{dest}.{worker}: {job} settled: {result:?}"));
                self.go_on(process, dest, worker, recorded, report);
            }
            (For::Suspension { dest, on, by_lane }, Done::Suspended(result)) => {
                self.say(|| format!("d{dest}: suspended {on}: {result:?}"));
                if by_lane && result.is_err() {
                    let now = self.instant();
                    process.lanes[dest].machine.rest(now);
                }
            }
            (For::Keeper, Done::Evicted(Ok(gone))) => {
                self.say(|| format!("evicted {gone:?}"));
                for id in gone {
                    self.files.remove(&id);
                }
            }
            (For::Operator(what), done) => self.say(|| format!("operator: {what}: {done:?}")),
            (_, _) => {}
        }
    }

    fn acknowledge(&mut self, thing: u32, id: InstanceId, result: Result<Committed, CommitError>) {
        self.say(|| format!("thing {thing} as {id}: {result:?}"));
        if result.is_err() {
            return;
        }
        self.oracle.acknowledged(thing, self.now);
        let lost = !self.healed && self.one_in(self.plan.lost_acks);
        if lost {
            self.say(|| format!("thing {thing}: the acknowledgement is lost"));
        } else {
            self.oracle.knows[thing as usize] = true;
        }
    }

    pub fn keep(&mut self) {
        self.with(|_, process| {
            process.keeping = false;
            process.bench.keep();
        });
        self.look_all();
    }

    /// Lanes whose wake-up call came look at once.
    pub fn heed_wakes(&mut self) {
        for dest in 0..self.peers.len() {
            let name = &self.names[dest];
            if self.process.as_mut().is_some_and(|process| process.bench.woken(name)) {
                self.look(dest);
            }
        }
    }
}

/// What a requester is told who has waited too long.
fn late(done: Done) -> Done {
    let late = CommitError::Deadline;
    match done {
        Done::Admitted(_) => Done::Admitted(Err(late)),
        Done::Settled(_) => Done::Settled(Err(late)),
        Done::Acted(_) => Done::Acted(Err(late)),
        Done::Suspended(_) => Done::Suspended(Err(late)),
        Done::Redecided(_) => Done::Redecided(Err(late)),
        Done::Evicted(_) => Done::Evicted(Err(late)),
    }
}
