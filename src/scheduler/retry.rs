//! What follows from an outcome for the job: delivered, again later, or held for a person. Pure; the table of
//! failures.md section 6 as far as it concerns the instance. What follows for the lane stands in `machine.rs`.
use crate::base::fault::{Plant, planted};
use crate::sender::{Duplicate, Outcome, Patience, Retry};
use crate::spool::HoldKind;
use std::time::Duration;

/// What becomes of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Confirm {
        status: u16,
        note: String,
    },
    Retry {
        after: Duration,
        /// Whether it counts against the instance.
        counted: bool,
        outcome: String,
    },
    Hold {
        kind: HoldKind,
        text: String,
    },
    /// The destination was not reached: the job stays as it is, and costs nothing.
    Return,
}

/// What the lane knows that the outcome does not say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Circumstances {
    /// Attempts that count, before this one.
    pub attempts: u32,
    /// For an interruption: the destination answered a C-ECHO directly afterwards, and the line is not to blame, so the instance is.
    pub answers: bool,
    /// 0.0 to 1.0, for the jitter.
    pub roll: f64,
}

/// The verdict on one outcome.
pub fn verdict(outcome: &Outcome, about: Circumstances, patience: &Patience) -> Verdict {
    match outcome {
        Outcome::Confirmed { status: 0 } => confirm(0, String::new()),
        Outcome::Confirmed { status } => confirm(*status, format!("warning {status:04X}H")),
        Outcome::Duplicate => match patience.duplicate {
            Duplicate::Stored => confirm(DUPLICATE, "the destination has it already".to_owned()),
            Duplicate::Hold => hold(
                HoldKind::Refused,
                "the destination has this SOP instance already (0111H)",
            ),
        },
        Outcome::Congested { status } => Verdict::Retry {
            after: delay(&patience.retry, 0, about.roll),
            counted: false,
            outcome: format!("congested, status {status:04X}H"),
        },
        Outcome::Unauthorised => Verdict::Retry {
            after: aside(&patience.retry, about.roll),
            counted: false,
            outcome: "not authorised (0124H)".to_owned(),
        },
        Outcome::Refused { why } => count(&format!("refused: {why}"), about, patience),
        Outcome::Interrupted(_) if planted(Plant::SettleEarly) => confirm(0, String::new()),
        Outcome::Interrupted(interruption) if planted(Plant::CountOutage) => count(&interruption.what, about, patience),
        Outcome::Interrupted(interruption) if interruption.fresh && about.answers => {
            count(&format!("interrupted: {}", interruption.what), about, patience)
        }
        Outcome::Interrupted(interruption) => Verdict::Retry {
            after: aside(&patience.retry, about.roll),
            counted: false,
            outcome: format!("interrupted: {}", interruption.what),
        },
        // The lane puts class and syntax into the text, which the outcome does not carry.
        Outcome::NoContext { result } => hold(HoldKind::Parked, &refusal(*result)),
        Outcome::Corrupt { what } => hold(HoldKind::Corrupt, what),
        Outcome::Edit { what } => hold(HoldKind::Edit, what),
        Outcome::Unconvertible { what } => hold(HoldKind::Conversion, what),
        Outcome::Unready { what } => Verdict::Retry {
            after: unready(&patience.retry, about.roll),
            counted: false,
            outcome: what.clone(),
        },
        Outcome::Down(_) => Verdict::Return,
    }
}

/// How long to wait before attempt number `attempts + 1`: exponential, capped, varied downwards and upwards by the jitter.
pub fn delay(retry: &Retry, attempts: u32, roll: f64) -> Duration {
    let doubled = retry.first.0.saturating_mul(2_u32.saturating_pow(attempts.min(30)));
    let varied = doubled
        .min(retry.max.0)
        .mul_f64(1.0 + retry.jitter * (2.0 * roll - 1.0));
    varied.min(retry.max.0)
}

/// The wait of a retry that does not count: short, but never none, so that what is due already goes first.
fn aside(retry: &Retry, roll: f64) -> Duration {
    delay(retry, 0, roll).min(ASIDE_MAX)
}

/// The wait until this box is asked again for what it could not do: as long as `retry.max` at most.
fn unready(retry: &Retry, roll: f64) -> Duration {
    UNREADY.min(retry.max.0).mul_f64(1.0 - retry.jitter * roll / 2.0)
}

/// The wait until the disk is asked again for a payload that it did not give in time, for so many times: as long as `retry.max` at most.
pub fn hung(retry: &Retry, times: u32, roll: f64) -> Duration {
    let doubled = HUNG.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1).min(30)));
    let varied = doubled
        .min(retry.max.0)
        .mul_f64(1.0 + retry.jitter * (2.0 * roll - 1.0));
    varied.min(retry.max.0)
}

/// A failure of the instance itself.
fn count(outcome: &str, about: Circumstances, patience: &Patience) -> Verdict {
    let failures = about.attempts.saturating_add(1);
    if failures >= patience.tries {
        return hold(
            HoldKind::Refused,
            &format!("{outcome} (try {failures} of {})", patience.tries),
        );
    }
    Verdict::Retry {
        after: delay(&patience.retry, about.attempts, about.roll),
        counted: true,
        outcome: outcome.to_owned(),
    }
}

fn confirm(status: u16, note: String) -> Verdict {
    Verdict::Confirm { status, note }
}

fn hold(kind: HoldKind, text: &str) -> Verdict {
    Verdict::Hold {
        kind,
        text: text.to_owned(),
    }
}

/// PS3.8 table 9-18.
pub fn refusal(result: u8) -> String {
    let words = match result {
        1 => "user rejection",
        3 => "abstract syntax not supported",
        4 => "transfer syntax not supported",
        _ => "no reason given",
    };
    format!("the destination does not accept its presentation context: {words}")
}

const DUPLICATE: u16 = 0x0111;
const ASIDE_MAX: Duration = Duration::from_secs(1);
/// A full disk or a machine out of processes is no matter of seconds, and thousands of jobs may wait for it.
const UNREADY: Duration = Duration::from_secs(300);

/// A read that hangs hangs for long, and each ties up a thread.
const HUNG: Duration = Duration::from_secs(60);
/// So many times in a row, and it is held.
pub const HUNG_MAX: u32 = 5;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::units::Span;
    use crate::sender::{Down, DownKind, Interruption};
    use proptest::prelude::*;

    pub(in crate::scheduler) fn patience(duplicate: Duplicate) -> Patience {
        Patience {
            workers: 1,
            batch: 0,
            idle: Duration::from_secs(10),
            retry: Retry::default(),
            tries: 3,
            duplicate,
            probe: Duration::from_secs(30),
            stuck: Duration::from_secs(120),
            park_recheck: Duration::from_secs(3600),
            window: 1,
        }
    }

    fn about(attempts: u32, answers: bool) -> Circumstances {
        Circumstances {
            attempts,
            answers,
            roll: 0.5,
        }
    }

    fn judged(outcome: &Outcome, attempts: u32) -> Verdict {
        verdict(outcome, about(attempts, true), &patience(Duplicate::Hold))
    }

    #[test]
    fn only_what_an_answer_says_of_the_instance_counts_against_it() {
        let counted = |outcome: &Outcome, answers| match verdict(outcome, about(0, answers), &patience(Duplicate::Hold))
        {
            Verdict::Retry { counted, .. } => Some(counted),
            Verdict::Return => Some(false),
            Verdict::Confirm { .. } | Verdict::Hold { .. } => None,
        };
        let refused = Outcome::Refused { why: "A900H".into() };
        let broken = Outcome::interrupted("closed");
        let stale = Outcome::Interrupted(crate::sender::Interruption {
            what: "closed".into(),
            fresh: false,
            stuck: false,
            line: false,
        });
        let down = Outcome::Down(Down::new(DownKind::Connect, "refused"));
        assert_eq!(counted(&refused, true), Some(true));
        assert_eq!(counted(&Outcome::Congested { status: 0xA700 }, true), Some(false));
        assert_eq!(counted(&Outcome::Unauthorised, true), Some(false));
        assert_eq!(counted(&broken, true), Some(true));
        assert_eq!(counted(&broken, false), Some(false), "an outage consumes no attempts");
        assert_eq!(counted(&stale, true), Some(false));
        assert_eq!(counted(&down, false), Some(false));
    }

    #[test]
    fn a_retry_that_does_not_count_lets_others_pass() {
        let outcomes = [
            (Outcome::interrupted("closed"), false),
            (Outcome::Unauthorised, true),
            (Outcome::Congested { status: 0xA700 }, true),
        ];
        for (outcome, answers) in outcomes {
            let Verdict::Retry { after, counted, .. } =
                verdict(&outcome, about(0, answers), &patience(Duplicate::Hold))
            else {
                panic!("not tried again")
            };
            assert!(!counted && after >= Duration::from_secs(1), "{outcome:?}: {after:?}");
        }
    }

    #[test]
    fn after_its_tries_an_instance_is_held_with_the_status_word() {
        let refused = Outcome::Refused {
            why: "status C001H".into(),
        };
        assert!(matches!(judged(&refused, 1), Verdict::Retry { counted: true, .. }));
        let Verdict::Hold { kind, text } = judged(&refused, 2) else {
            panic!("not held")
        };
        assert_eq!(kind, HoldKind::Refused);
        assert!(text.contains("C001H"), "{text}");
        let Verdict::Hold { kind, text } = judged(&Outcome::interrupted("the peer aborted"), 2) else {
            panic!("not held")
        };
        assert_eq!(kind, HoldKind::Refused);
        assert!(text.contains("aborted"), "{text}");
    }

    #[test]
    fn congestion_never_leads_to_a_hold() {
        assert!(matches!(
            judged(&Outcome::Congested { status: 0xA700 }, 1_000),
            Verdict::Retry { counted: false, .. }
        ));
    }

    #[test]
    fn what_this_box_cannot_do_now_costs_nothing_and_is_not_asked_every_second() {
        let Verdict::Retry { after, counted, .. } = judged(&Outcome::Unready { what: "x".into() }, 1_000) else {
            panic!("it is tried again");
        };
        assert!(!counted && after >= Duration::from_secs(150), "{after:?}");
    }

    #[test]
    fn a_duplicate_is_delivered_only_if_policy_says_so() {
        assert!(matches!(judged(&Outcome::Duplicate, 0), Verdict::Hold { .. }));
        assert!(matches!(
            verdict(&Outcome::Duplicate, about(0, true), &patience(Duplicate::Stored)),
            Verdict::Confirm { status: 0x0111, .. }
        ));
    }

    #[test]
    fn faults_of_ours_and_refused_contexts_are_held_at_once() {
        for (outcome, expected) in [
            (Outcome::Corrupt { what: "x".into() }, HoldKind::Corrupt),
            (Outcome::Edit { what: "x".into() }, HoldKind::Edit),
            (Outcome::NoContext { result: 3 }, HoldKind::Parked),
        ] {
            assert!(matches!(judged(&outcome, 0), Verdict::Hold { kind, .. } if kind == expected));
        }
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<u16>().prop_map(Outcome::from_status),
            (any::<bool>(), any::<bool>()).prop_map(|(fresh, stuck)| Outcome::Interrupted(Interruption {
                what: "closed".into(),
                fresh,
                stuck,
                line: stuck,
            })),
            (1..5_u8).prop_map(|result| Outcome::NoContext { result }),
            Just(Outcome::Corrupt { what: "x".into() }),
            Just(Outcome::Edit { what: "x".into() }),
            Just(Outcome::Unready { what: "x".into() }),
            Just(Outcome::Down(Down::new(DownKind::Connect, "refused"))),
        ]
    }

    proptest! {
        /// Only an answer confirms; only counted failures, and never more than the tries, hold as refused; every retry waits
        /// within its bounds.
        #[test]
        fn a_verdict_keeps_its_bounds(outcome in outcome(), attempts in 0..10_u32, answers: bool, roll in 0.0..=1.0) {
            let patience = patience(Duplicate::Hold);
            let about = Circumstances { attempts, answers, roll };
            match verdict(&outcome, about, &patience) {
                Verdict::Confirm { status, .. } => prop_assert_eq!(outcome, Outcome::Confirmed { status }),
                Verdict::Retry { after, counted, .. } => {
                    prop_assert!(after >= Duration::from_millis(500) && after <= patience.retry.max.0, "{:?}", after);
                    prop_assert!(!counted || attempts + 1 < patience.tries);
                }
                Verdict::Hold { kind: HoldKind::Refused, .. } => {
                    prop_assert!(attempts + 1 >= patience.tries || outcome == Outcome::Duplicate);
                }
                Verdict::Hold { kind, .. } => {
                    prop_assert!(matches!(kind, HoldKind::Parked | HoldKind::Corrupt | HoldKind::Edit));
                }
                Verdict::Return => prop_assert!(matches!(outcome, Outcome::Down(_))),
            }
        }
    }

    #[test]
    fn delays_double_to_their_cap_and_stay_within_the_jitter() {
        let retry = Retry {
            first: Span::secs(5),
            max: Span::secs(600),
            jitter: 0.2,
        };
        let seconds: Vec<u64> = (0..9).map(|n| delay(&retry, n, 0.5).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(delay(&retry, 0, 0.0), Duration::from_secs(4));
        assert_eq!(delay(&retry, 0, 1.0), Duration::from_secs(6));
        assert_eq!(delay(&retry, u32::MAX, 1.0), Duration::from_secs(600));
    }
}
