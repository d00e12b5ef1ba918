//! The pace of a lane: a destination that says that it is out of resources (A7xx) gets a pause, the whole lane at once,
//! and after it one instance at a time until it answers otherwise. Pure but for tokio's clock.
use std::time::Duration;
use tokio::time::Instant;

/// How fast a lane may go now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Pace {
    /// Congestions since the last other answer.
    level: u32,
    until: Option<Instant>,
    /// The first pause.
    first: Duration,
}

/// What the pace allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    Nothing,
    /// One instance, on one session.
    One,
    All,
}

impl Pace {
    /// Pauses begin with `first`, but never with more than a second.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            level: 0,
            until: None,
            first: first.min(FIRST_MAX),
        }
    }

    pub(super) fn allows(&self) -> Allowed {
        match self.until {
            Some(until) if Instant::now() < until => Allowed::Nothing,
            _ if self.level > 0 => Allowed::One,
            _ => Allowed::All,
        }
    }

    /// When the pause ends; `None` without one.
    pub(super) fn pause_ends(&self) -> Option<Instant> {
        self.until.filter(|until| Instant::now() < *until)
    }

    /// The destination is congested. Answers to instances that were under way when the pause began do not lengthen it.
    pub(super) fn congested(&mut self, roll: f64) {
        if self.allows() == Allowed::Nothing {
            return;
        }
        let pause = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.level.min(16)))
            .min(LONGEST);
        self.level = self.level.saturating_add(1);
        self.until = Some(Instant::now() + pause.mul_f64(1.0 - JITTER * roll));
    }

    /// The destination answered about an instance, and not that it is congested.
    pub(super) fn answered(&mut self) {
        // What was under way when the pause began says nothing about now.
        if self.allows() != Allowed::Nothing {
            *self = Self::new(self.first);
        }
    }

    /// A person asks to try now.
    pub(super) fn hurry(&mut self) {
        self.until = None;
    }
}

const FIRST_MAX: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const JITTER: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_to_a_minute_and_then_one_instance_goes() {
        let mut pace = Pace::new(Duration::from_secs(5));
        assert_eq!(pace.allows(), Allowed::All);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.congested(0.0);
            assert_eq!(pace.allows(), Allowed::Nothing);
            let end = pace.pause_ends().unwrap();
            pauses.push((end - Instant::now()).as_secs());
            tokio::time::sleep_until(end).await;
            assert_eq!(pace.allows(), Allowed::One);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.answered();
        assert_eq!(pace.allows(), Allowed::All);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_from_before_the_pause_change_nothing() {
        let mut pace = Pace::new(Duration::from_secs(5));
        pace.congested(0.0);
        let end = pace.pause_ends();
        pace.congested(0.0);
        pace.answered();
        assert_eq!(pace.pause_ends(), end);
        assert_eq!(pace.allows(), Allowed::Nothing);
    }
}
