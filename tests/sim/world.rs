//! The simulated world: virtual time, the modalities, the disk with its payload files, the network with its archives, and one
//! process after the other that runs the box's own decisions: `scheduler::pure` and `spool::bench`.
use crate::lane::Lane;
use crate::net::Peer;
use crate::oracle::Oracle;
use crate::plan::Plan;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use waystation::base::clock::{Clock, Wall};
use waystation::base::names::{AeTitle, DestinationId, InstanceId, JobId, SourceId, Uid};
use waystation::scheduler::pure::Report;
use waystation::sender::{Down, Outcome};
use waystation::spool::bench::{Ask, Bench, Disk, Done, File};
use waystation::spool::{Instance, Lease, Priority};
use waystation::telemetry::metrics::Metrics;

pub const MILLI: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
/// 2026-11-22 in UTC.
pub const BEGIN: Wall = Wall(1_795_305_600 * SECOND);

/// One content under one SOP Instance UID, for some archives.
#[derive(Clone, Debug)]
pub struct Thing {
    pub uid: u32,
    pub class: u8,
    /// One bit for each destination.
    pub to: u8,
    pub priority: Priority,
    pub route: Route,
    /// The modality sends it once more after its acknowledgement.
    pub again: bool,
}

/// What the rules say of a thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    Sent,
    /// To its destinations, but a person is to look first.
    Held,
    /// No destination was named.
    Undecided,
}

/// A payload file. What `letter` and `whole` say is in the page cache; the others, what the disk has for sure.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    pub thing: u32,
    pub letter: u8,
    pub whole: bool,
    pub flushed: bool,
    pub flushed_letter: u8,
    pub damaged: bool,
}

/// Whom an answer of the commit thread is for.
pub enum For {
    Modality {
        thing: u32,
        id: InstanceId,
    },
    Worker {
        dest: usize,
        worker: usize,
        job: JobId,
        thing: u32,
        confirmed: bool,
        report: Option<Report>,
    },
    Suspension {
        dest: usize,
        on: bool,
        by_lane: bool,
    },
    Operator(String),
    Keeper,
}

pub enum Event {
    Send(u32),
    /// A modality's own timer: no acknowledgement came.
    Sealed {
        life: u64,
        thing: u32,
        id: InstanceId,
    },
    Commit {
        life: u64,
    },
    Answer {
        life: u64,
        done: Vec<(For, Done)>,
    },
    Look {
        life: u64,
        dest: usize,
        stamp: u64,
    },
    Outcome {
        life: u64,
        dest: usize,
        worker: usize,
        outcome: Outcome,
    },
    Examined {
        life: u64,
        dest: usize,
        worker: usize,
        answer: Result<(), Down>,
    },
    Probed {
        life: u64,
        dest: usize,
        answer: Result<(), Down>,
    },
    IdleOut {
        life: u64,
        dest: usize,
        worker: usize,
        stamp: u64,
    },
    Keep {
        life: u64,
    },
    Weather(usize),
    Operate,
    Jump,
    Spoil,
    Crash,
    Start,
}

/// The running box.
pub struct Process {
    pub bench: Bench,
    pub lanes: Vec<Lane>,
    pub asks: Vec<(Ask, For)>,
    pub committing: bool,
    /// The keeper has been asked to look.
    pub keeping: bool,
}

pub struct World {
    pub plan: Plan,
    pub rng: StdRng,
    /// Microseconds of the monotonic clock.
    pub now: u64,
    base: Instant,
    pub clock: Clock,
    wall_at: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub steps: u64,
    pub disk: Disk,
    pub files: BTreeMap<InstanceId, Payload>,
    pub things: Vec<Thing>,
    pub names: Vec<DestinationId>,
    pub peers: Vec<Peer>,
    /// Connections that were tried, for each archive.
    pub reached: Vec<u64>,
    pub life: u64,
    pub process: Option<Process>,
    pub oracle: Oracle,
    pub healed: bool,
    pub metrics: Metrics,
    pub trace: bool,
    pub violation: Option<String>,
    texts: Texts,
}

/// Names that are parsed once.
struct Texts {
    source: SourceId,
    ae: AeTitle,
    classes: Vec<Uid>,
    syntax: Uid,
}

pub fn class_uid(class: u8) -> String {
    format!("1.2.840.10008.5.1.4.1.1.{}", class + 2)
}

fn uid(text: &str) -> Uid {
    Uid::parse(text).expect("a UID of the simulator's own")
}

impl World {
    pub fn new(seed: u64, plan: Plan, metrics: Metrics, trace: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let things = plan.things(&mut rng);
        let names: Vec<DestinationId> = (0..plan.peers)
            .map(|n| DestinationId::parse(&format!("d{n}")).expect("a name of the simulator's own"))
            .collect();
        let peers = (0..plan.peers).map(|n| Peer::new(n, &plan, &mut rng)).collect();
        let mut world = Self {
            now: 0,
            base: Instant::now(),
            clock: Clock::manual(BEGIN),
            wall_at: 0,
            events: BTreeMap::new(),
            sequence: 0,
            steps: 0,
            disk: waystation::spool::bench::disk(),
            files: BTreeMap::new(),
            oracle: Oracle::new(things.len(), plan.peers),
            things,
            names,
            reached: vec![0; plan.peers],
            peers,
            life: 0,
            process: None,
            healed: false,
            metrics,
            trace,
            violation: None,
            texts: Texts {
                source: SourceId::parse("ct").expect("a name"),
                ae: AeTitle::parse("CT").expect("a title"),
                classes: (0..3).map(|class| uid(&class_uid(class))).collect(),
                syntax: uid("1.2.840.10008.1.2.1"),
            },
            rng,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.start();
        if self.plan.sending == 0 {
            self.oracle.sent_all = true;
        } else if !self.things.is_empty() {
            self.at(0, Event::Send(0));
        }
        for dest in 0..self.peers.len() {
            let first = self.plan.first_weather(dest, &mut self.rng);
            if first < u64::MAX {
                self.at(first, Event::Weather(dest));
            }
        }
        for time in self.plan.crashes(&mut self.rng) {
            self.at(time, Event::Crash);
        }
        for time in self.plan.verbs(&mut self.rng) {
            self.at(time, Event::Operate);
        }
        for time in self.plan.jumps(&mut self.rng) {
            self.at(time, Event::Jump);
        }
        for time in self.plan.spoils(&mut self.rng) {
            self.at(time, Event::Spoil);
        }
    }

    /// Something happens at this time, or now if it is past.
    pub fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time.max(self.now), self.sequence), event);
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// A line of the trace; made only when somebody reads it.
    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            let (seconds, micros) = (self.now / SECOND, self.now % SECOND);
            println!("{seconds:>8}.{micros:06} {}", text());
        }
    }

    /// A promise is broken. The first one counts.
    pub fn broken(&mut self, text: String) {
        self.say(|| format!("BROKEN {text}"));
        self.violation.get_or_insert(text);
    }

    /// The monotonic clock as the machines want it.
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    /// Chance, one in so many.
    pub fn one_in(&mut self, many: u32) -> bool {
        many > 0 && self.rng.random_range(0..many) == 0
    }

    /// Moves both clocks to a time.
    fn pass(&mut self, time: u64) {
        self.now = time;
        self.clock.advance(Duration::from_micros(time - self.wall_at));
        self.wall_at = time;
    }

    /// The wall clock jumps, the other does not.
    pub fn jump(&mut self) {
        let span = [2 * HOUR, 10 * HOUR, 365 * 24 * HOUR, 3_650 * 24 * HOUR][self.rng.random_range(0..4)];
        let wall = self.clock.now();
        let back = self.rng.random_bool(0.5);
        let to = if back {
            Wall(wall.0.saturating_sub(span))
        } else {
            Wall(wall.0 + span)
        };
        self.say(|| format!("the wall clock jumps to {}", to.iso()));
        self.oracle.jumped = true;
        // A process reads its clock anew at every look, so a new clock is a jumped one.
        if let Clock::Manual(at) = &self.clock {
            at.store(to.0, std::sync::atomic::Ordering::Relaxed);
        }
        self.oracle.disturbed(self.now);
        self.look_all();
    }

    /// Runs until nothing is left to do, a time, or a broken promise.
    pub fn run_until(&mut self, time: u64) {
        while self.violation.is_none() {
            match self.events.first_key_value() {
                Some(((at, _), _)) if *at <= time => {}
                _ => break,
            }
            let Some(((at, _), event)) = self.events.pop_first() else {
                break;
            };
            self.pass(at);
            self.steps += 1;
            self.happen(event);
            self.heed_wakes();
            if self.steps > self.plan.steps_max {
                self.broken(format!("more than {} steps: a storm", self.plan.steps_max));
            }
        }
        if self.violation.is_none() && self.now < time {
            self.pass(time);
        }
    }

    fn happen(&mut self, event: Event) {
        let life = self.life;
        match event {
            Event::Send(thing) => self.send(thing),
            Event::Sealed { life: of, thing, id } if of == life => self.sealed(thing, id),
            Event::Commit { life: of } if of == life => self.commit(),
            Event::Answer { life: of, done } if of == life => self.answer(done),
            Event::Look { life: of, dest, stamp } if of == life => self.timed_look(dest, stamp),
            Event::Outcome {
                life: of,
                dest,
                worker,
                outcome,
            } if of == life => self.outcome(dest, worker, outcome),
            Event::Examined {
                life: of,
                dest,
                worker,
                answer,
            } if of == life => self.examined(dest, worker, answer),
            Event::Probed { life: of, dest, answer } if of == life => self.probed(dest, answer),
            Event::IdleOut {
                life: of,
                dest,
                worker,
                stamp,
            } if of == life => self.idle_out(dest, worker, stamp),
            Event::Keep { life: of } if of == life => self.keep(),
            Event::Weather(dest) => self.weather(dest),
            Event::Operate if !self.healed => self.operate(),
            Event::Jump if !self.healed => self.jump(),
            Event::Spoil if !self.healed => self.spoil(),
            Event::Crash if !self.healed => self.crash(),
            Event::Start => self.start(),
            // Of an earlier process, or of the time of faults.
            _ => {}
        }
    }

    /// What the box is told of a thing.
    pub fn instance(&self, id: InstanceId, thing: u32) -> Instance {
        let about = &self.things[thing as usize];
        let mut digest = [7; 32];
        digest[..4].copy_from_slice(&thing.to_be_bytes());
        Instance {
            id,
            source: self.texts.source.clone(),
            calling_ae: self.texts.ae.clone(),
            called_ae: self.texts.ae.clone(),
            sop_class: self.texts.classes[usize::from(about.class)].clone(),
            sop_instance: uid(&format!("1.2.826.{}", about.uid)),
            // Every second four belong to one study, and keep together.
            study: (thing % 8 < 4).then(|| uid(&format!("1.2.827.{}", thing / 8))),
            transfer_syntax: self.texts.syntax.clone(),
            arrival: Wall(id.0[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))),
            length: 1_000,
            digest,
            rule_epoch: 1,
        }
    }

    /// The files as a start finds them.
    pub fn listing(&self) -> BTreeMap<InstanceId, File> {
        let file = |(id, payload): (&InstanceId, &Payload)| {
            let instance = || Box::new(self.instance(*id, payload.thing));
            let found = match (payload.whole, payload.letter) {
                (false, b'E') => File::Empty,
                (false, _) => File::Partial,
                (true, _) if payload.damaged => File::Partial,
                (true, b'C') => File::Committed(instance()),
                (true, b'D') => File::Delivered(instance()),
                (true, _) => File::Sealed(instance()),
            };
            (*id, found)
        };
        self.files.iter().map(file).collect()
    }

    /// Which thing a lease delivers, as its record says.
    pub fn thing_of(lease: &Lease) -> u32 {
        let digest = &lease.instance.digest;
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }
}
