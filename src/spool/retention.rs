//! The time that retention goes by. What is kept for a span (lines of the ledger, the map of what rules renamed, what is known of studies,
//! repeats and commitments, the reports of the reconciliation) is gone for good when the span is over; so no single reading of the
//! wall clock decides that. A clock that is years ahead for two minutes would take all of it.
//!
//! Retention has a time of its own, which the index remembers. It follows the wall clock, at most `FORWARD` times as fast as the box
//! has run, and nothing is ever deleted by a time ahead of the wall clock's. So a clock that is ahead for two minutes takes what
//! would have gone two minutes later, and after a year out of use the box keeps things until its time has caught up. Back it goes
//! faster, which deletes nothing. It stands still while the clock is known not to be right.
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::ledger::Head;
use super::txn::{decode_number, encode_number};
use crate::base::clock::{Wall, built};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where it is remembered, in `meta`.
const KEY: &[u8] = b"retention";
/// How fast it catches up with the wall clock: two days in a day.
const FORWARD: u32 = 2;
/// How fast it goes back: three years in a day.
const BACK: u32 = 1_000;
/// How far it may move before that is written down. What was not, it catches up with after a start.
const WRITTEN_EVERY: Duration = Duration::from_secs(300);
/// Behind the wall clock by more than this, it is said.
const SAID_FROM: Duration = Duration::from_secs(3 * 86_400);

/// The time itself. Nothing is old by it until it was begun.
#[derive(Default)]
pub(super) struct Retention(AtomicU64);

impl Retention {
    /// Takes it up where the index has it; the first time, where the ledger ends.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(super) fn begin(&self, db: &Db, ledger: Head, wall: Wall) -> Result<(), DbError> {
        let kept = remembered(db)?;
        let first = if ledger.seq == 0 { wall } else { ledger.at.min(wall) };
        self.set(kept.unwrap_or(first).max(built()));
        Ok(())
    }

    /// Now, for retention: never ahead of the wall clock.
    pub(super) fn now(&self, wall: Wall) -> Wall {
        wall.min(self.at())
    }

    fn at(&self) -> Wall {
        Wall(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: Wall) {
        self.0.store(at.0, Ordering::Relaxed);
    }

    /// It has been looked at `passed` ago, and the wall clock says `wall`.
    fn go_on(&self, wall: Wall, passed: Duration) {
        if wall >= built() {
            self.set(moved(self.at(), wall, passed));
        }
    }
}

fn remembered(db: &Db) -> Result<Option<Wall>, DbError> {
    let raw = db.get(Cf::Meta, KEY)?;
    Ok(raw.and_then(|raw| decode_number(&raw).ok()).map(Wall))
}

fn moved(at: Wall, wall: Wall, passed: Duration) -> Wall {
    if wall >= at {
        return at.plus(passed.saturating_mul(FORWARD)).min(wall);
    }
    let back = u64::try_from(passed.saturating_mul(BACK).as_micros()).unwrap_or(u64::MAX);
    Wall(at.0.saturating_sub(back)).max(wall)
}

/// Whether it is the record of this time, which a rebuild carries over.
pub(super) fn is_sound(key: &[u8], value: &[u8]) -> bool {
    key == KEY && decode_number(value).is_ok()
}

/// How it goes on. The keeper's.
pub(super) struct Pace {
    looked: Instant,
    written: Wall,
    lags: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            looked: Instant::now(),
            written: Wall(0),
            lags: false,
        }
    }

    /// Moves it by what has passed since the last call. Answers what is to be written down, when it is time.
    pub(super) fn go_on(&mut self, core: &Core) -> Option<(&'static [u8], Vec<u8>)> {
        let (passed, wall) = (self.looked.elapsed(), core.clock.now());
        self.looked = Instant::now();
        if !core.metrics.is_clock_doubted() {
            core.retention.go_on(wall, passed);
        }
        let at = core.retention.at();
        self.say(wall.since(at));
        let far = self.written.since(at).max(at.since(self.written));
        if far < WRITTEN_EVERY {
            return None;
        }
        self.written = at;
        Some((KEY, encode_number(at.0)))
    }

    fn say(&mut self, behind: Duration) {
        let lags = behind > SAID_FROM;
        if lags && !self.lags {
            tracing::warn!(
                days = behind.as_secs() / 86_400,
                "by its clock, more time has gone by than this box has run for: it was off, or its clock is or was wrong. What is \
                 kept for a time (ledger.keep, reconcile.keep, spool.*_memory) is kept that much longer, which gets less by a \
                 day with each day"
            );
        } else if self.lags && !lags {
            tracing::info!("what is kept for a time is kept as long as configured again");
        }
        self.lags = lags;
    }
}

impl super::Spool {
    /// Now, for whoever deletes what is old: it follows the wall clock no faster than two days in a day, and is never ahead of it.
    #[must_use]
    pub fn retention_now(&self) -> Wall {
        self.core.retention.now(self.core.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: u32) -> Wall {
        built().plus(DAY * days)
    }

    fn from(start: Wall) -> Retention {
        let retention = Retention::default();
        retention.set(start);
        retention
    }

    #[test]
    fn a_clock_that_is_years_ahead_for_two_minutes_takes_two_minutes() {
        let retention = from(at(10));
        let (wrong, minutes) = (at(10 + 3 * 365), Duration::from_secs(120));
        retention.go_on(wrong, minutes);
        assert_eq!(retention.now(wrong), at(10).plus(minutes * 2));
        // Right again, it is ahead of nothing.
        let right = at(10).plus(minutes);
        assert_eq!(retention.now(right), right);
        retention.go_on(right, minutes);
        assert_eq!(retention.at(), right);
    }

    #[test]
    fn it_goes_with_a_right_clock_and_catches_up_after_the_box_was_off() {
        let retention = from(at(0));
        for hour in 1..=24 {
            let wall = at(0).plus(DAY / 24 * hour);
            retention.go_on(wall, DAY / 24);
            assert_eq!(retention.now(wall), wall);
        }
        for day in 31..60 {
            retention.go_on(at(day), DAY);
            assert_eq!(retention.now(at(day)), at(1 + 2 * (day - 30)), "30 days it was off");
        }
        retention.go_on(at(60), DAY);
        assert_eq!(retention.now(at(60)), at(60));
    }

    #[test]
    fn what_a_clock_that_was_ahead_for_long_has_moved_it_by_does_not_stay() {
        let retention = from(at(3 * 365));
        assert_eq!(
            retention.now(at(5)),
            at(5),
            "set right, nothing is deleted by the wrong time"
        );
        retention.go_on(at(5), DAY * 2);
        assert_eq!(retention.at(), at(5));
        // A minute behind makes up for itself as well, and a time before the program was tells nothing.
        retention.go_on(at(4), Duration::from_secs(1));
        assert!(retention.at() > at(4) && retention.at() < at(5));
        let before = retention.at();
        retention.go_on(Wall(0), DAY);
        assert_eq!((retention.at(), retention.now(Wall(0))), (before, Wall(0)));
    }

    #[test]
    fn nothing_is_old_before_it_was_begun() {
        assert_eq!(Retention::default().now(at(9)), Wall(0));
    }
}
