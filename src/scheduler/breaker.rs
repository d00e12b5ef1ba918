//! The breaker of a lane: after a failure to reach the destination nothing is claimed until a probe succeeds.
//! Pure: the time comes in, and the lane runs the probes.
use crate::sender::DownKind;
use std::time::{Duration, Instant};

/// Closed, open until the next probe, or half-open while a probe runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Breaker {
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
    pub fn new(longest: Duration) -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            longest,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub fn is_probing(&self) -> bool {
        self.state == State::HalfOpen
    }

    /// When the next probe is due; `None` while closed or probing.
    pub fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { probe } => Some(probe),
            State::Closed | State::HalfOpen => None,
        }
    }

    /// The destination was not reached. Several sessions fail together when it goes: while open, only the
    /// probe's own failure moves the next probe.
    pub fn failed(&mut self, kind: DownKind, roll: f64, now: Instant) {
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
        let probe = now + pause.mul_f64(1.0 - JITTER * roll);
        self.state = State::Open { probe };
    }

    /// A probe runs now.
    pub fn probing(&mut self) {
        self.state = State::HalfOpen;
    }

    /// A person or an event asks to probe at once.
    pub fn hurry(&mut self, now: Instant) {
        if matches!(self.state, State::Open { .. }) {
            self.state = State::Open { probe: now };
        }
    }

    pub fn recovered(&mut self) {
        self.state = State::Closed;
    }

    /// The destination answered about an instance: the next outage starts with quick probes again. A probe's success is not enough,
    /// or a destination that answers C-ECHO and then breaks every session would be hammered.
    pub fn answered(&mut self) {
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
    use proptest::prelude::*;

    fn pause(breaker: &Breaker, now: Instant) -> Duration {
        breaker.probe_at().unwrap() - now
    }

    #[test]
    fn probes_back_off_to_their_cap_and_an_answer_resets_them() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(Duration::from_secs(30));
        assert!(breaker.is_closed());
        let mut pauses = Vec::new();
        breaker.failed(DownKind::Connect, 0.0, now);
        for _ in 0..7 {
            pauses.push(pause(&breaker, now).as_secs());
            now = breaker.probe_at().unwrap();
            breaker.probing();
            assert!(!breaker.is_closed());
            breaker.failed(DownKind::Connect, 0.0, now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        breaker.probing();
        breaker.recovered();
        assert!(breaker.is_closed());
        breaker.failed(DownKind::Lost, 0.0, now);
        assert_eq!(
            pause(&breaker, now).as_secs(),
            30,
            "a probe alone does not reset the pause"
        );
        breaker.recovered();
        breaker.answered();
        breaker.failed(DownKind::Lost, 0.0, now);
        assert_eq!(pause(&breaker, now).as_secs(), 1);
    }

    #[test]
    fn many_failures_at_once_are_one() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Duration::from_secs(30));
        for _ in 0..10 {
            breaker.failed(DownKind::Lost, 0.0, now);
        }
        assert_eq!(pause(&breaker, now).as_secs(), 1);
    }

    #[test]
    fn a_permanent_rejection_is_asked_again_slowly() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Duration::from_secs(30));
        breaker.failed(DownKind::RejectedPermanent, 0.0, now);
        assert_eq!(pause(&breaker, now).as_secs(), 60);
        breaker.hurry(now);
        assert_eq!(pause(&breaker, now), Duration::ZERO);
    }

    #[test]
    fn jitter_never_exceeds_the_cap() {
        let now = Instant::now();
        for roll in [0.0, 0.5, 1.0] {
            let mut breaker = Breaker::new(Duration::from_secs(60));
            for _ in 0..20 {
                breaker.probing();
                breaker.failed(DownKind::Connect, roll, now);
            }
            let pause = pause(&breaker, now);
            assert!(pause <= Duration::from_secs(60) && pause >= Duration::from_secs(44));
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Action {
        Fail {
            kind: usize,
            roll: f64,
        },
        Answer,
        Hurry,
        Pass {
            ms: u64,
        },
        /// The probe that is due runs, and ends so.
        Probe {
            found: bool,
            roll: f64,
        },
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..2_usize, 0.0..=1.0).prop_map(|(kind, roll)| Action::Fail { kind, roll }),
            Just(Action::Answer),
            Just(Action::Hurry),
            (0..90_000_u64).prop_map(|ms| Action::Pass { ms }),
            (any::<bool>(), 0.0..=1.0).prop_map(|(found, roll)| Action::Probe { found, roll }),
        ]
    }

    proptest! {
        /// Whatever happens to it, an open breaker has a probe within its cap, and only a probe closes it.
        #[test]
        fn an_open_breaker_always_has_a_probe_ahead(actions in prop::collection::vec(action(), 1..80)) {
            let kinds = [DownKind::Connect, DownKind::RejectedPermanent];
            let (mut breaker, mut now) = (Breaker::new(Duration::from_secs(30)), Instant::now());
            for action in actions {
                let was_closed = breaker.is_closed();
                match action {
                    Action::Fail { kind, roll } => {
                        let before = breaker.probe_at();
                        breaker.failed(kinds[kind], roll, now);
                        prop_assert!(!breaker.is_closed());
                        prop_assert!(before.is_none() || before == breaker.probe_at(), "a failure moved the probe");
                    }
                    Action::Answer => breaker.answered(),
                    Action::Hurry => breaker.hurry(now),
                    Action::Pass { ms } => now += Duration::from_millis(ms),
                    Action::Probe { found, roll } => {
                        let Some(at) = breaker.probe_at() else { continue };
                        now = now.max(at);
                        breaker.probing();
                        prop_assert!(breaker.is_probing() && breaker.probe_at().is_none());
                        if found { breaker.recovered() } else { breaker.failed(DownKind::Connect, roll, now) }
                        prop_assert_eq!(breaker.is_closed(), found);
                        continue;
                    }
                }
                let failed = matches!(action, Action::Fail { .. });
                prop_assert_eq!(breaker.is_closed(), was_closed && !failed);
                if let Some(at) = breaker.probe_at() {
                    prop_assert!(at <= now + SLOW, "a probe further ahead than the cap");
                }
            }
        }
    }
}
