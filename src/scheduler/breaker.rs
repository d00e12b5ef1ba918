//! The breaker of a lane: after a failure to reach the destination nothing is claimed until a probe succeeds.
//! Pure but for tokio's clock; the lane runs the probes.
use crate::sender::DownKind;
use std::time::Duration;
use tokio::time::Instant;

/// Closed, open until the next probe, or half-open while a probe runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// The longest pause between two probes.
    longest: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed,
    Open { probe: Instant },
    HalfOpen,
}

impl Breaker {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            longest,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(super) fn is_probing(&self) -> bool {
        self.state == State::HalfOpen
    }

    /// When the next probe is due; `None` while closed or probing.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { probe } => Some(probe),
            State::Closed | State::HalfOpen => None,
        }
    }

    /// The destination was not reached. Several sessions fail together when it goes: while open, only the
    /// probe's own failure moves the next probe.
    pub(super) fn failed(&mut self, kind: DownKind, roll: f64) {
        if matches!(self.state, State::Open { .. }) {
            return;
        }
        let pause = match kind {
            DownKind::RejectedPermanent => SLOW,
            DownKind::Resolve
            | DownKind::Connect
            | DownKind::Tls
            | DownKind::RejectedTransient
            | DownKind::Association
            | DownKind::Storage
            | DownKind::Lost => {
                let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
                doubled.min(self.longest)
            }
        };
        self.failures = self.failures.saturating_add(1);
        // Jitter only shortens, so that the cap stands.
        let probe = Instant::now() + pause.mul_f64(1.0 - JITTER * roll);
        self.state = State::Open { probe };
    }

    /// A probe runs now.
    pub(super) fn probing(&mut self) {
        self.state = State::HalfOpen;
    }

    /// A person or an event asks to probe at once.
    pub(super) fn hurry(&mut self) {
        if matches!(self.state, State::Open { .. }) {
            self.state = State::Open { probe: Instant::now() };
        }
    }

    pub(super) fn recovered(&mut self) {
        self.state = State::Closed;
    }

    /// The destination answered about an instance: the next outage starts with quick probes again. A probe's success is not enough,
    /// or a destination that answers C-ECHO and then breaks every session would be hammered.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }
}

const FIRST: Duration = Duration::from_secs(1);
/// For a permanent rejection: a person has to change a configuration.
const SLOW: Duration = Duration::from_secs(60);
const JITTER: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(breaker: &Breaker) -> Duration {
        breaker.probe_at().unwrap() - Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn probes_back_off_to_their_cap_and_an_answer_resets_them() {
        let mut breaker = Breaker::new(Duration::from_secs(30));
        assert!(breaker.is_closed());
        let mut pauses = Vec::new();
        breaker.failed(DownKind::Connect, 0.0);
        for _ in 0..7 {
            pauses.push(pause(&breaker).as_secs());
            tokio::time::sleep_until(breaker.probe_at().unwrap()).await;
            breaker.probing();
            assert!(!breaker.is_closed());
            breaker.failed(DownKind::Connect, 0.0);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        breaker.probing();
        breaker.recovered();
        assert!(breaker.is_closed());
        breaker.failed(DownKind::Lost, 0.0);
        assert_eq!(pause(&breaker).as_secs(), 30, "a probe alone does not reset the pause");
        breaker.recovered();
        breaker.answered();
        breaker.failed(DownKind::Lost, 0.0);
        assert_eq!(pause(&breaker).as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_at_once_are_one() {
        let mut breaker = Breaker::new(Duration::from_secs(30));
        for _ in 0..10 {
            breaker.failed(DownKind::Lost, 0.0);
        }
        assert_eq!(pause(&breaker).as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_rejection_is_asked_again_slowly() {
        let mut breaker = Breaker::new(Duration::from_secs(30));
        breaker.failed(DownKind::RejectedPermanent, 0.0);
        assert_eq!(pause(&breaker).as_secs(), 60);
        breaker.hurry();
        assert_eq!(pause(&breaker), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_never_exceeds_the_cap() {
        for roll in [0.0, 0.5, 1.0] {
            let mut breaker = Breaker::new(Duration::from_secs(60));
            for _ in 0..20 {
                breaker.probing();
                breaker.failed(DownKind::Connect, roll);
            }
            assert!(pause(&breaker) <= Duration::from_secs(60) && pause(&breaker) >= Duration::from_secs(44));
        }
    }
}
