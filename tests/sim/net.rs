//! The network and the archives at its end: what each attempt meets, how long it takes, whether the archive has the instance
//! afterwards, and whether its answer arrived. The two differ, and that is the point.
use crate::plan::Plan;
use crate::world::{Event, MILLI, SECOND, World};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::Duration;
use waystation::base::units::Span;
use waystation::sender::{Down, DownKind, Duplicate, Interruption, Outcome, Patience, Retry};

/// What an archive, or the way to it, is like for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weather {
    Up,
    /// Answers, but takes seconds for each.
    Slow,
    /// Nobody listens.
    Refuses,
    /// Packets vanish: ten seconds to a time-out.
    BlackHole,
    RejectsForNow,
    RejectsForGood,
    /// The connection ends before the archive has the instance.
    ResetsBefore,
    /// The archive has it, and its answer is lost.
    ResetsAfter,
    /// It takes everything, and answers nothing.
    Silent,
    /// A700.
    Congested,
    /// 0124.
    Unauthorised,
    /// Any status word.
    Moody,
}

const WEATHERS: [Weather; 12] = [
    Weather::Up,
    Weather::Slow,
    Weather::Refuses,
    Weather::BlackHole,
    Weather::RejectsForNow,
    Weather::RejectsForGood,
    Weather::ResetsBefore,
    Weather::ResetsAfter,
    Weather::Silent,
    Weather::Congested,
    Weather::Unauthorised,
    Weather::Moody,
];

/// Why an archive never takes a certain thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poison {
    /// C001.
    Refused,
    /// It ends the session over it.
    Breaks,
}

pub struct Peer {
    pub weather: Weather,
    /// Classes whose presentation context it refuses, one bit each.
    pub refuses: u8,
    pub patience: Patience,
    /// Associations at once; it rejects one more for now.
    pub grants: usize,
    pub poison_in: u32,
    salt: u64,
}

/// What an attempt comes to.
pub struct Attempt {
    pub takes: u64,
    pub outcome: Outcome,
    /// The archive has the whole instance.
    pub stored: bool,
    /// The session can be used again.
    pub session: bool,
}

impl Peer {
    pub fn new(number: usize, plan: &Plan, rng: &mut StdRng) -> Self {
        let faulty = plan.checks && !(plan.steady && number == 0);
        Self {
            weather: Weather::Up,
            refuses: if faulty && rng.random_bool(0.15) {
                1 << rng.random_range(0..3)
            } else {
                0
            },
            patience: Patience {
                workers: plan.workers,
                batch: [0, 0, 5][rng.random_range(0..3)],
                idle: Duration::from_secs(10),
                retry: Retry {
                    first: Span::secs(5),
                    max: Span::secs(600),
                    jitter: 0.2,
                },
                tries: rng.random_range(2..=5),
                duplicate: if rng.random_bool(0.5) {
                    Duplicate::Stored
                } else {
                    Duplicate::Hold
                },
                probe: Duration::from_secs(30),
                stuck: Duration::from_secs(120),
                park_recheck: Duration::from_secs(600),
                window: 1,
            },
            grants: usize::MAX,
            poison_in: if faulty { plan.poison } else { 0 },
            salt: rng.random(),
        }
    }

    /// What is wrong with a thing for this archive, for ever.
    pub fn poison(&self, thing: u32) -> Option<Poison> {
        let roll = (u64::from(thing) + 1).wrapping_mul(self.salt | 1) >> 33;
        match self.poison_in {
            0 => None,
            many if roll.is_multiple_of(u64::from(many)) => Some(if roll & 1024 == 0 {
                Poison::Refused
            } else {
                Poison::Breaks
            }),
            _ => None,
        }
    }

    /// Whether it can be reached, how long that takes, and why not.
    pub fn reach(&self, rng: &mut StdRng) -> (u64, Result<(), Down>) {
        let quick = rng.random_range(MILLI..30 * MILLI);
        let down = |kind| Err(Down::new(kind, "simulated"));
        match self.weather {
            Weather::Refuses => (quick, down(DownKind::Connect)),
            Weather::BlackHole => (10 * SECOND, down(DownKind::Connect)),
            Weather::RejectsForNow => (quick, down(DownKind::RejectedTransient)),
            Weather::RejectsForGood => (quick, down(DownKind::RejectedPermanent)),
            Weather::Slow => (rng.random_range(SECOND..8 * SECOND), Ok(())),
            Weather::Up
            | Weather::ResetsBefore
            | Weather::ResetsAfter
            | Weather::Silent
            | Weather::Congested
            | Weather::Unauthorised
            | Weather::Moody => (quick, Ok(())),
        }
    }

    /// One association more than it grants.
    pub fn full() -> Down {
        Down::new(DownKind::RejectedTransient, "local limit exceeded")
    }

    /// A C-ECHO.
    pub fn probe(&self, rng: &mut StdRng) -> (u64, Result<(), Down>) {
        match self.weather {
            Weather::Silent => (60 * SECOND, Err(Down::new(DownKind::Association, "no answer"))),
            _ => self.reach(rng),
        }
    }

    /// One instance. `session`: one is open; `warm`: it has answered just now.
    pub fn attempt(&self, thing: u32, class: u8, session: bool, warm: bool, rng: &mut StdRng) -> Attempt {
        let (mut takes, reached) = self.reach(rng);
        let attempt = |takes, outcome, stored, session| Attempt {
            takes,
            outcome,
            stored,
            session,
        };
        let broken = |takes, stored, fresh| {
            let interruption = Interruption {
                what: "closed".to_owned(),
                fresh,
                stuck: false,
                line: true,
            };
            attempt(takes, Outcome::Interrupted(interruption), stored, false)
        };
        if let Err(down) = reached {
            // An open session is dead, and says so only when it is used.
            return if session {
                broken(takes, false, warm)
            } else {
                attempt(takes, Outcome::Down(down), false, false)
            };
        }
        takes += rng.random_range(MILLI..40 * MILLI);
        if self.refuses & (1 << class) != 0 {
            return attempt(takes, Outcome::NoContext { result: 3 }, false, true);
        }
        let answered = |status, stored| attempt(takes, Outcome::from_status(status), stored, true);
        let fresh = warm || !session;
        match (self.poison(thing), self.weather) {
            (_, Weather::ResetsBefore) | (Some(Poison::Breaks), _) => broken(takes, false, fresh),
            (_, Weather::ResetsAfter) => broken(takes, true, fresh),
            (_, Weather::Silent) => broken(60 * SECOND, true, fresh),
            (_, Weather::Congested) => answered(0xA700 + rng.random_range(0..4), false),
            (_, Weather::Unauthorised) => answered(0x0124, false),
            (Some(Poison::Refused), _) => answered(0xC001, false),
            (None, Weather::Moody) => {
                let status = [0, 0, 0xB000, 0x0111, 0xA900, 0xC123, rng.random()][rng.random_range(0..7)];
                // Stored is what it says that it has stored, and nothing else.
                answered(
                    status,
                    matches!(status, 0 | 1 | 0x0107 | 0x0116 | 0x0111 | 0xB000..=0xBFFF),
                )
            }
            (None, _) => answered(0, true),
        }
    }
}

impl World {
    /// The weather changes.
    pub fn weather(&mut self, dest: usize) {
        if self.healed {
            return;
        }
        let weather = if self.rng.random_bool(0.4) {
            Weather::Up
        } else {
            WEATHERS[self.rng.random_range(0..WEATHERS.len())]
        };
        self.say(|| format!("d{dest}: {weather:?}"));
        self.peers[dest].weather = weather;
        self.oracle.weathers[dest].push(weather);
        let span = self.rng.random_range(1..2 * self.plan.weather_span);
        self.after(span, Event::Weather(dest));
    }
}
