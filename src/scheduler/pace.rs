//! The pace of a lane: a destination that says that it is out of resources (A7xx) gets a pause, the whole lane at once,
//! and after it one instance at a time until it answers otherwise. Pure: the time comes in.
use std::time::{Duration, Instant};

/// How fast a lane may go now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Congestions since the last other answer.
    level: u32,
    until: Option<Instant>,
    /// The first pause.
    first: Duration,
}

/// What the pace allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    Nothing,
    /// One instance, on one session.
    One,
    All,
}

impl Pace {
    /// Pauses begin with `first`, but never with more than a second.
    pub fn new(first: Duration) -> Self {
        Self {
            level: 0,
            until: None,
            first: first.min(FIRST_MAX),
        }
    }

    pub fn allows(&self, now: Instant) -> Allowed {
        match self.until {
            Some(until) if now < until => Allowed::Nothing,
            _ if self.level > 0 => Allowed::One,
            _ => Allowed::All,
        }
    }

    /// When the pause ends; `None` without one.
    pub fn pause_ends(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// The destination is congested. Answers to instances that were under way when the pause began do not lengthen it.
    pub fn congested(&mut self, roll: f64, now: Instant) {
        if self.allows(now) == Allowed::Nothing {
            return;
        }
        let pause = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.level.min(16)))
            .min(LONGEST);
        self.level = self.level.saturating_add(1);
        self.until = Some(now + pause.mul_f64(1.0 - JITTER * roll));
    }

    /// The destination answered about an instance, and not that it is congested.
    pub fn answered(&mut self, now: Instant) {
        // What was under way when the pause began says nothing about now.
        if self.allows(now) != Allowed::Nothing {
            *self = Self::new(self.first);
        }
    }

    /// A person asks to try now.
    pub fn hurry(&mut self) {
        self.until = None;
    }
}

const FIRST_MAX: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const JITTER: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_to_a_minute_and_then_one_instance_goes() {
        let mut now = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(5));
        assert_eq!(pace.allows(now), Allowed::All);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.congested(0.0, now);
            assert_eq!(pace.allows(now), Allowed::Nothing);
            let end = pace.pause_ends(now).unwrap();
            pauses.push((end - now).as_secs());
            now = end;
            assert_eq!(pace.allows(now), Allowed::One);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.answered(now);
        assert_eq!(pace.allows(now), Allowed::All);
    }

    #[test]
    fn answers_from_before_the_pause_change_nothing() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(5));
        pace.congested(0.0, now);
        let end = pace.pause_ends(now);
        pace.congested(0.0, now);
        pace.answered(now);
        assert_eq!(pace.pause_ends(now), end);
        assert_eq!(pace.allows(now), Allowed::Nothing);
    }

    proptest! {
        /// A pause is never longer than its cap, never grows while it lasts, and an answer after it ends the slowness.
        #[test]
        fn a_pause_is_bounded_and_ends(actions in prop::collection::vec((0..3_u8, 0..90_000_u64, 0.0..=1.0), 1..60)) {
            let (mut pace, mut now) = (Pace::new(Duration::from_secs(5)), Instant::now());
            for (action, ms, roll) in actions {
                let (before, end) = (pace.allows(now), pace.pause_ends(now));
                match action {
                    0 => pace.congested(roll, now),
                    1 => pace.answered(now),
                    _ => now += Duration::from_millis(ms),
                }
                if action < 2 && before == Allowed::Nothing {
                    prop_assert_eq!((pace.allows(now), pace.pause_ends(now)), (before, end));
                } else if action == 1 {
                    prop_assert_eq!(pace.allows(now), Allowed::All);
                } else if action == 0 {
                    prop_assert_eq!(pace.allows(now), Allowed::Nothing);
                }
                if let Some(end) = pace.pause_ends(now) {
                    prop_assert!(end <= now + LONGEST);
                }
            }
        }
    }
}
