//! What a run is made of: how many things and archives, which faults and how often. Drawn from the seed.
use crate::world::{HOUR, MILLI, MINUTE, Route, SECOND, Thing};
use rand::Rng;
use rand::rngs::StdRng;
use waystation::spool::Priority;

/// Faults as "one in so many": 0 for never.
#[derive(Clone, Debug)]
pub struct Plan {
    pub things: usize,
    pub peers: usize,
    /// The time of faults.
    pub span: u64,
    /// Time between two arrivals, at most.
    pub sending: u64,
    pub weather: bool,
    /// Mean time of one weather.
    pub weather_span: u64,
    pub crashes: usize,
    pub verbs: usize,
    pub jumps: usize,
    pub spoils: usize,
    /// Index batches that fail.
    pub index_faults: u32,
    /// Payload writes and flushes that fail.
    pub payload_faults: u32,
    /// Acknowledgements that the modality never sees.
    pub lost_acks: u32,
    pub poison: u32,
    /// Every claim's order is checked against all jobs.
    pub checks: bool,
    /// The first archive never has a fault: nothing may delay it.
    pub steady: bool,
    pub workers: usize,
    pub steps_max: u64,
    /// Bits of the destinations of every thing; 0: drawn.
    pub to: u8,
}

impl Plan {
    /// A small world with everything that can go wrong in it.
    pub fn drawn(rng: &mut StdRng) -> Self {
        let some = |rng: &mut StdRng, most: usize| {
            if rng.random_bool(0.3) {
                0
            } else {
                rng.random_range(0..=most)
            }
        };
        let rate = |rng: &mut StdRng, often: u32| {
            if rng.random_bool(0.4) {
                0
            } else {
                rng.random_range(often..often * 6)
            }
        };
        Self {
            things: rng.random_range(4..40),
            peers: rng.random_range(1..=3),
            span: rng.random_range(5 * MINUTE..90 * MINUTE),
            sending: [20 * MILLI, SECOND, 30 * SECOND, 3 * MINUTE][rng.random_range(0..4)],
            weather: rng.random_bool(0.9),
            weather_span: [5 * SECOND, MINUTE, 10 * MINUTE][rng.random_range(0..3)],
            crashes: some(rng, 6),
            verbs: some(rng, 16),
            jumps: if rng.random_bool(0.1) { 1 } else { 0 },
            spoils: if rng.random_bool(0.2) { 2 } else { 0 },
            index_faults: rate(rng, 8),
            payload_faults: rate(rng, 8),
            lost_acks: rate(rng, 6),
            poison: rate(rng, 4),
            checks: true,
            steady: rng.random_bool(0.5),
            workers: rng.random_range(1..=3),
            steps_max: 200_000,
            to: 0,
        }
    }

    /// Nothing goes wrong but what the scenario adds.
    pub fn quiet(things: usize, peers: usize) -> Self {
        Self {
            things,
            peers,
            span: HOUR,
            sending: SECOND,
            weather: false,
            weather_span: MINUTE,
            crashes: 0,
            verbs: 0,
            jumps: 0,
            spoils: 0,
            index_faults: 0,
            payload_faults: 0,
            lost_acks: 0,
            poison: 0,
            checks: false,
            steady: false,
            workers: 2,
            steps_max: u64::MAX,
            to: (1 << peers) - 1,
        }
    }

    pub fn things(&self, rng: &mut StdRng) -> Vec<Thing> {
        let all = (1_u8 << self.peers) - 1;
        let mut things = Vec::with_capacity(self.things);
        for n in 0..self.things as u32 {
            // Another content under a UID that was sent before.
            let conflict = self.checks && n > 0 && rng.random_range(0..12) == 0;
            things.push(Thing {
                uid: if conflict { rng.random_range(0..n) } else { n },
                class: rng.random_range(0..3),
                to: if self.to > 0 {
                    self.to
                } else {
                    rng.random_range(1..=all)
                },
                priority: Priority::ALL[[0, 1, 2, 2, 2, 3][rng.random_range(0..6)]],
                route: match rng.random_range(0..20) {
                    0 if self.checks => Route::Held,
                    1 if self.checks => Route::Undecided,
                    _ => Route::Sent,
                },
                again: self.checks && rng.random_range(0..6) == 0,
            });
        }
        things
    }

    pub fn first_weather(&self, dest: usize, rng: &mut StdRng) -> u64 {
        match self.weather && !(self.steady && dest == 0) {
            true => rng.random_range(0..2 * self.weather_span),
            false => u64::MAX,
        }
    }

    pub fn crashes(&self, rng: &mut StdRng) -> Vec<u64> {
        times(self.crashes, self.span, rng)
    }

    pub fn verbs(&self, rng: &mut StdRng) -> Vec<u64> {
        times(self.verbs, self.span, rng)
    }

    pub fn jumps(&self, rng: &mut StdRng) -> Vec<u64> {
        times(self.jumps, self.span, rng)
    }

    pub fn spoils(&self, rng: &mut StdRng) -> Vec<u64> {
        times(self.spoils, self.span, rng)
    }
}

/// Half of them while most is going on: at the beginning.
fn times(count: usize, span: u64, rng: &mut StdRng) -> Vec<u64> {
    let early = |rng: &mut StdRng| rng.random_range(0..span / 16);
    (0..count)
        .map(|_| {
            if rng.random_bool(0.5) {
                early(rng)
            } else {
                rng.random_range(0..span)
            }
        })
        .collect()
}
