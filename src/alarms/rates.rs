//! Observed rates: how fast a destination takes what waits for it, and how fast the disk fills. Pure; time comes in.
//!
//! A destination's pace is measured only while something waited all along (otherwise it would show how much came, not how much
//! it can take) and it could be reached, and is kept over outages and restarts: the time to drain of a destination that is down counts
//! from when it answers.
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A sum and the time that it took, both fading: their quotient is a rate that follows.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Fading {
    amount: f64,
    seconds: f64,
}

impl Fading {
    fn add(&mut self, amount: f64, seconds: f64, memory: f64) {
        let kept = (-seconds / memory).exp();
        self.amount = self.amount * kept + amount;
        self.seconds = self.seconds * kept + seconds;
    }

    /// `None` until enough was seen to say anything.
    fn rate(self, least_s: f64) -> Option<f64> {
        (self.seconds >= least_s).then(|| self.amount / self.seconds)
    }

    /// As if nothing had come before what was seen, when that is less than `least_s`.
    fn rate_over(self, least_s: f64) -> f64 {
        self.amount / self.seconds.max(least_s)
    }
}

/// How long a destination's pace and its arrivals are remembered.
const PACE_MEMORY_S: f64 = 300.0;
const ARRIVALS_MEMORY_S: f64 = 900.0;
/// Before these were seen nothing is said.
const PACE_LEAST_S: f64 = 2.0;
/// What came in less than this is a burst and no stream.
const ARRIVALS_LEAST_S: f64 = 600.0;
/// The growth's two memories: the slower of both counts, so that a busy quarter of an hour is not taken for the day.
const ROOM_FAST_S: f64 = 900.0;
const ROOM_SLOW_S: f64 = 3.0 * 3600.0;
/// Before so many looks nothing is said of it: 20 s at the usual interval.
const ROOM_LEAST_LOOKS: u32 = 4;
/// What others write in less than this is a burst and no trend.
const OTHERS_LEAST_S: f64 = 600.0;
/// Below this it may be the index's own, which grows and shrinks.
const OTHERS_LEAST_BYTES: f64 = 67_108_864.0;
/// Further away than this is never.
const NEVER_S: f64 = 365.0 * 86_400.0;

/// What one destination takes, and what comes for it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lane {
    pace: Fading,
    arrivals: Fading,
    /// The most that it took in a second of any look: it can do that at least.
    floor: f64,
    #[serde(skip)]
    before: Option<(f64, f64)>,
    /// How long it has been at work since it last confirmed something: a delivery may take many looks.
    #[serde(skip)]
    at_work: f64,
}

impl Lane {
    /// A look: jobs confirmed so far (a counter since start), jobs that are due or being sent now, and whether the destination takes
    /// any: it is neither down nor suspended.
    pub fn look(&mut self, step: Duration, confirmed: f64, (waiting, takes): (f64, bool)) {
        let seconds = step.as_secs_f64();
        if let Some((confirmed_before, waiting_before)) = self.before
            && seconds > 0.0
        {
            let done = (confirmed - confirmed_before).max(0.0);
            let backlog = waiting_before > 0.0 && waiting > 0.0;
            self.at_work = if backlog { self.at_work + seconds } else { 0.0 };
            if backlog && done > 0.0 {
                self.pace.add(done, self.at_work, PACE_MEMORY_S);
                self.at_work = 0.0;
            }
            if !takes {
                // An outage is not slowness.
                self.at_work = 0.0;
            }
            self.floor = self.floor.max(done / seconds);
            let came = (waiting - waiting_before + done).max(0.0);
            self.arrivals.add(came, seconds, ARRIVALS_MEMORY_S);
        }
        self.before = Some((confirmed, waiting));
    }

    /// Seconds until what waits is delivered, from when the destination takes it: infinite when more comes, `None` when its pace
    /// was never seen.
    #[must_use]
    pub fn drain_seconds(&self, waiting: f64) -> Option<f64> {
        if waiting <= 0.0 {
            return Some(0.0);
        }
        let net = match self.pace.rate(PACE_LEAST_S) {
            Some(pace) => pace - self.arrivals.rate_over(ARRIVALS_LEAST_S),
            // Never seen at its limit: it took everything that came, at this pace at least.
            None if self.floor > 0.0 => self.floor,
            None => return None,
        };
        Some(bounded(waiting, net))
    }
}

/// The disk at a look, and what the box has put there and taken away since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stock {
    /// Undelivered instances.
    pub pending: f64,
    /// Bytes free above the low-water mark.
    pub free: f64,
    /// Bytes received.
    pub received: f64,
    /// Delivered instances that have left.
    pub evicted: f64,
    /// The mean bytes of an instance.
    pub mean_bytes: f64,
}

/// What the disk cannot let go: instances that are not delivered, and what others write on it. What is delivered may leave when room is
/// needed, so the free space alone says nothing: it shrinks for weeks while the cache fills, and nothing is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    pending: Trend,
    others: Trend,
    before: Option<Stock>,
    looks: u32,
    /// Seconds.
    watched: f64,
}

/// Bytes a second by two memories.
#[derive(Clone, Copy, Debug, Default)]
struct Trend {
    fast: Fading,
    slow: Fading,
}

impl Trend {
    fn add(&mut self, bytes: f64, seconds: f64) {
        self.fast.add(bytes, seconds, ROOM_FAST_S);
        self.slow.add(bytes, seconds, ROOM_SLOW_S);
    }

    /// The slower of both.
    fn rate(&self) -> f64 {
        let rate = |memory: Fading| memory.rate(0.0).unwrap_or(0.0);
        rate(self.fast).min(rate(self.slow))
    }
}

impl Growth {
    /// A look.
    pub fn look(&mut self, step: Duration, now: Stock) {
        let seconds = step.as_secs_f64();
        if let Some(before) = self.before
            && seconds > 0.0
        {
            self.pending
                .add((now.pending - before.pending) * now.mean_bytes, seconds);
            let own = now.received - before.received - (now.evicted - before.evicted) * now.mean_bytes;
            self.others.add(before.free - now.free - own, seconds);
            self.looks = self.looks.saturating_add(1);
            self.watched += seconds;
        }
        self.before = Some(now);
    }

    /// Seconds until `room` bytes are used up; infinite while nothing grows.
    #[must_use]
    pub fn full_seconds(&self, room: f64) -> f64 {
        if self.looks < ROOM_LEAST_LOOKS {
            return f64::INFINITY;
        }
        let mut rate = self.pending.rate();
        // What others take away again is theirs to take back.
        if self.watched >= OTHERS_LEAST_S && self.others.fast.amount >= OTHERS_LEAST_BYTES {
            rate += self.others.rate().max(0.0);
        }
        if rate > 0.0 { bounded(room, rate) } else { f64::INFINITY }
    }
}

fn bounded(amount: f64, rate: f64) -> f64 {
    let seconds = if rate > 0.0 { amount / rate } else { f64::INFINITY };
    if seconds > NEVER_S { f64::INFINITY } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(5);

    #[test]
    fn the_pace_is_that_of_a_backlog_and_outlives_an_outage() {
        let mut lane = Lane::default();
        assert_eq!(lane.drain_seconds(100.0), None, "never seen");
        // Ten a second from a backlog of a thousand; then nothing to do; then a thousand wait before a dead destination.
        for tick in 0..20 {
            lane.look(TICK, f64::from(tick) * 50.0, (1_000.0 - f64::from(tick) * 50.0, true));
        }
        for _ in 0..2_000 {
            lane.look(TICK, 950.0, (0.0, true));
        }
        lane.look(TICK, 950.0, (1_000.0, true));
        for _ in 0..2_000 {
            lane.look(TICK, 950.0, (1_000.0, false));
        }
        let drain = lane.drain_seconds(1_000.0).unwrap();
        assert!((drain - 100.0).abs() < 5.0, "{drain}");
        assert_eq!(lane.drain_seconds(0.0), Some(0.0));
        // It answers again: what it was down for does not count as work.
        lane.look(TICK, 1_000.0, (950.0, true));
        let drain = lane.drain_seconds(1_000.0).unwrap();
        assert!((drain - 100.0).abs() < 5.0, "{drain}");
    }

    #[test]
    fn a_delivery_that_takes_longer_than_a_look_counts_with_all_its_time() {
        let mut lane = Lane::default();
        // One each fifteen seconds, which is each third look.
        for look in 0..40 {
            let done = f64::from(look / 3);
            lane.look(TICK, done, (20.0 - done, true));
            if let Some(drain) = lane.drain_seconds(20.0).filter(|_| look >= 3) {
                assert!((drain - 300.0).abs() < 5.0, "{look}: {drain}");
            }
        }
        let left = lane.drain_seconds(7.0).unwrap();
        assert!((left - 105.0).abs() < 2.0, "{left}");
    }

    #[test]
    fn a_destination_never_seen_at_its_limit_does_what_it_did_at_most() {
        let mut lane = Lane::default();
        lane.look(TICK, 0.0, (0.0, true));
        lane.look(TICK, 20.0, (0.0, true));
        lane.look(TICK, 20.0, (100.0, true));
        assert_eq!(lane.drain_seconds(100.0), Some(25.0));
    }

    #[test]
    fn more_arrivals_than_it_takes_never_drain() {
        let mut lane = Lane::default();
        for tick in 0..200 {
            lane.look(TICK, f64::from(tick) * 10.0, (100.0 + f64::from(tick) * 5.0, true));
        }
        assert_eq!(lane.drain_seconds(600.0), Some(f64::INFINITY));
    }

    #[test]
    fn a_burst_is_no_stream() {
        let mut lane = Lane::default();
        lane.look(TICK, 0.0, (0.0, true));
        // Twenty come at once, and are taken one each fifteen seconds.
        for look in 0..12 {
            let done = f64::from(look / 3);
            lane.look(TICK, done, (20.0 - done, true));
        }
        let drain = lane.drain_seconds(17.0).unwrap();
        assert!((255.0..600.0).contains(&drain), "{drain}");
    }

    /// So many undelivered instances of half a megabyte, and nothing else on a disk.
    fn stock(pending: f64) -> Stock {
        Stock {
            pending,
            free: 1e12 - pending * 5e5,
            received: pending * 5e5,
            evicted: 0.0,
            mean_bytes: 5e5,
        }
    }

    #[test]
    fn the_disk_fills_at_the_slower_of_two_rates() {
        let (mut growth, mut pending, room) = (Growth::default(), 0.0, 1e12);
        for _ in 0..3 * 720 {
            pending += 10.0;
            growth.look(TICK, stock(pending));
        }
        // Two a second of half a megabyte.
        let steady = growth.full_seconds(room);
        assert!((steady - 1e6).abs() < 1e4, "{steady}");
        // A burst of five minutes at a hundred times the rate changes the slow view little.
        for _ in 0..60 {
            pending += 1_000.0;
            growth.look(TICK, stock(pending));
        }
        let burst = growth.full_seconds(room);
        assert!(burst > 1.5e5 && burst < 1e6, "{burst}");
        // It drains: never full.
        for _ in 0..4 * 720 {
            pending -= 10.0;
            growth.look(TICK, stock(pending));
        }
        assert_eq!(growth.full_seconds(room), f64::INFINITY);
    }

    #[test]
    fn what_others_write_on_the_disk_is_told_before_it_is_full() {
        let (mut growth, mut free) = (Growth::default(), 1e12);
        for look in 0..720 {
            free -= 5e7;
            growth.look(TICK, Stock { free, ..stock(0.0) });
            if look < 120 {
                assert_eq!(growth.full_seconds(free), f64::INFINITY, "a burst is no trend");
            }
        }
        // Ten megabytes a second.
        let left = growth.full_seconds(free);
        assert!((left / (free / 1e7) - 1.0).abs() < 0.01, "{left}");
        // The box gives away its cache for them: the free space stays.
        let mut evicted = 0.0;
        for _ in 0..720 {
            evicted += 100.0;
            let now = Stock {
                free,
                evicted,
                ..stock(0.0)
            };
            growth.look(TICK, now);
        }
        let left = growth.full_seconds(free);
        assert!((left / (free / 1e7) - 1.0).abs() < 0.01, "{left}");
    }

    #[test]
    fn a_cache_that_fills_and_is_given_away_and_an_index_that_grows_do_not_fill_the_disk() {
        let (mut growth, mut received, mut evicted) = (Growth::default(), 0.0, 0.0);
        for look in 0..2_000 {
            // Two a second, delivered at once; from some time on as many leave. The index breathes.
            received += 5e6;
            if look > 1_000 {
                evicted += 10.0;
            }
            let now = Stock {
                pending: 0.0,
                free: 1e12 - received + evicted * 5e5 - f64::from(look % 12) * 5e6,
                received,
                evicted,
                mean_bytes: 5e5,
            };
            growth.look(TICK, now);
            assert_eq!(growth.full_seconds(1e10), f64::INFINITY, "{look}");
        }
    }

    #[test]
    fn an_unwatched_disk_says_nothing() {
        let mut growth = Growth::default();
        growth.look(TICK, stock(0.0));
        growth.look(TICK, stock(50.0));
        assert_eq!(growth.full_seconds(100.0), f64::INFINITY);
    }
}
