//! The lane's machine under random reports, claims and time: what must hold whatever happens.
use super::*;
use crate::base::names::Uid;
use crate::sender::{DownKind, Duplicate, Retry};
use proptest::prelude::*;

const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    /// A round of steps; so many jobs are there to claim.
    Look {
        waiting: usize,
    },
    /// The n-th worker that is at work ends its batch.
    End {
        nth: usize,
        session: bool,
    },
    /// The n-th worker that is at work has an association.
    Opened {
        nth: usize,
    },
    Answered,
    Took {
        ms: u64,
    },
    Congested,
    Down {
        permanent: bool,
    },
    /// The probe under way ends.
    Probe {
        found: bool,
    },
    Park {
        class: usize,
    },
    Local,
    Hurry,
    Pass {
        ms: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..20_usize).prop_map(|waiting| Action::Look { waiting }),
        4 => (0..WORKERS, any::<bool>()).prop_map(|(nth, session)| Action::End { nth, session }),
        3 => (0..WORKERS).prop_map(|nth| Action::Opened { nth }),
        2 => Just(Action::Answered),
        2 => (0..10_000_u64).prop_map(|ms| Action::Took { ms }),
        1 => Just(Action::Congested),
        1 => any::<bool>().prop_map(|permanent| Action::Down { permanent }),
        3 => any::<bool>().prop_map(|found| Action::Probe { found }),
        1 => (0..3_usize).prop_map(|class| Action::Park { class }),
        1 => Just(Action::Local),
        1 => Just(Action::Hurry),
        4 => (0..100_000_u64).prop_map(|ms| Action::Pass { ms }),
    ]
}

fn pair(class: usize) -> Pair {
    let uid = |text: &str| Uid::parse(text).unwrap();
    (uid(&format!("1.2.{class}")), uid("1.2.840.10008.1.2"))
}

fn machine() -> Machine {
    let patience = Patience {
        workers: WORKERS,
        batch: 0,
        idle: Duration::from_secs(10),
        retry: Retry::default(),
        tries: 3,
        duplicate: Duplicate::Hold,
        probe: Duration::from_secs(30),
        stuck: Duration::from_secs(120),
        park_recheck: Duration::from_secs(600),
        window: 1,
    };
    Machine::new(&patience, StdRng::seed_from_u64(1))
}

/// What the test itself knows of the lane.
#[derive(Default)]
struct Seen {
    busy: [bool; WORKERS],
    /// At work since before the destination was congested.
    old: [bool; WORKERS],
    /// A failure was reported, and no probe has succeeded since.
    down: bool,
    probing: bool,
    resting: Option<Instant>,
    congested: bool,
    parked: [Option<Instant>; 3],
}

/// A round of steps as `lane.rs` makes it.
fn round(machine: &mut Machine, seen: &mut Seen, mut waiting: usize, now: Instant) {
    machine.look(waiting, waiting % 5 == 1);
    for _ in 0..=WORKERS + 2 {
        match machine.step(now) {
            Step::Wait => return,
            Step::Probe => {
                assert!(seen.down && !seen.probing, "a probe without need");
                seen.probing = true;
            }
            Step::End { worker, .. } => {
                assert!(seen.down && !seen.busy[worker], "an association ended without need");
                seen.busy[worker] = true;
            }
            Step::Claim { worker, limit } => {
                assert!(!seen.down, "claimed while the destination is down");
                assert!(!seen.busy[worker], "claimed for a worker that is at work");
                let busy = seen.busy.iter().filter(|busy| **busy).count();
                assert!(
                    seen.congested || busy < machine.room(now),
                    "more associations than there is room for"
                );
                assert!(seen.resting.is_none_or(|until| now >= until), "claimed while resting");
                assert!((1..=4 * CLAIM_MAX).contains(&limit));
                if seen.congested {
                    assert!(limit == 1 && seen.busy == seen.old, "not one at a time");
                }
                let taken = limit.min(waiting);
                waiting -= taken;
                let pairs: Vec<Pair> = (0..taken).map(|n| pair(n % 3)).collect();
                match machine.claimed(worker, &pairs, now) {
                    None => assert_eq!(taken, 0),
                    Some(order) => {
                        seen.busy[worker] = true;
                        check_order(&order, &pairs, seen, now);
                    }
                }
            }
        }
    }
    panic!("a round without end");
}

fn check_order(order: &Order, pairs: &[Pair], seen: &mut Seen, now: Instant) {
    assert_eq!(order.parked.len(), pairs.len());
    for (n, parked) in order.parked.iter().enumerate() {
        let since = &mut seen.parked[n % 3];
        let still = since.is_some_and(|at| now < at + Duration::from_secs(600));
        assert_eq!(parked.is_some(), still, "parked for no reason, or sent although parked");
        if !still {
            *since = None;
            assert!(order.pairs.contains(&pairs[n]), "a job whose pair is not proposed");
        }
    }
}

fn took(machine: &mut Machine, ms: u64, now: Instant) {
    let window = usize::from(ms.is_multiple_of(2)) * 3 + 1;
    let answer = Answered {
        length: 5_000,
        took: Duration::from_millis(ms),
        window,
        together: (ms % 4) as usize % window + 1,
    };
    machine.take(Report::Took(answer), now);
    assert!((1..=WORKERS).contains(&machine.wanted()));
}

fn failed(machine: &mut Machine, seen: &mut Seen, down: Down, now: Instant) {
    // A failure while a probe runs belongs to the same outage; the probe's own answer comes yet.
    let is_limit = machine.is_limit(&down, now);
    let sessions = machine.sessions();
    assert!(!is_limit || sessions > 1 && !seen.down, "one more than nothing");
    let reaction = machine.take(Report::Down(down), now);
    assert_eq!(reaction.halt, !is_limit, "who works goes on working");
    if is_limit {
        assert!(machine.room(now) < sessions, "asked for again at once");
        return;
    }
    seen.down = true;
    seen.probing = false;
}

fn apply(machine: &mut Machine, seen: &mut Seen, action: &Action, now: Instant) {
    let down = |permanent: bool| match permanent {
        true => Down::new(DownKind::RejectedPermanent, "no"),
        false => Down::new(DownKind::Connect, "no"),
    };
    match action {
        Action::Look { waiting } => round(machine, seen, *waiting, now),
        Action::End { nth, session } => {
            let busy: Vec<usize> = (0..WORKERS).filter(|worker| seen.busy[*worker]).collect();
            if let Some(worker) = busy.get(*nth).copied() {
                (seen.busy[worker], seen.old[worker]) = (false, false);
                machine.take(
                    Report::Idle {
                        worker,
                        session: *session,
                    },
                    now,
                );
            }
        }
        Action::Opened { nth } => {
            if let Some(worker) = (0..WORKERS).filter(|worker| seen.busy[*worker]).nth(*nth) {
                machine.take(Report::Opened { worker }, now);
            }
        }
        Action::Answered => {
            let paused = machine.pace.allows(now) == Allowed::Nothing;
            seen.congested &= paused;
            machine.take(Report::Answered, now);
        }
        Action::Took { ms } => took(machine, *ms, now),
        Action::Congested => {
            seen.congested = true;
            seen.old = seen.busy;
            let reaction = machine.take(Report::Congested, now);
            assert!(reaction.halt && !reaction.suspend);
            assert!(machine.pace.allows(now) == Allowed::Nothing);
        }
        Action::Down { permanent } => failed(machine, seen, down(*permanent), now),
        Action::Probe { found } => {
            if !std::mem::take(&mut seen.probing) {
                return;
            }
            seen.down = !found;
            let answer = if *found { Ok(()) } else { Err(down(false)) };
            machine.take(Report::Probe(answer), now);
        }
        Action::Park { class } => {
            seen.parked[*class] = Some(now);
            let reason = "no".to_owned();
            machine.take(
                Report::Refused {
                    pair: pair(*class),
                    reason,
                },
                now,
            );
        }
        Action::Local => {
            seen.resting = Some(now + LOCAL_REST);
            machine.take(Report::Local, now);
        }
        Action::Hurry => {
            seen.resting = None;
            seen.parked = [None; 3];
            machine.hurry(now);
        }
        Action::Pass { .. } => {}
    }
}

/// A worker that has begun, and has no association yet.
fn begins(machine: &mut Machine, now: Instant) -> Option<usize> {
    machine.look(100, false);
    match machine.step(now) {
        Step::Claim { worker, limit } => {
            machine.claimed(worker, &vec![pair(1); limit], now);
            Some(worker)
        }
        _ => None,
    }
}

/// A worker that has begun, and has an association.
fn claims(machine: &mut Machine, now: Instant) -> Option<usize> {
    let worker = begins(machine, now)?;
    machine.take(Report::Opened { worker }, now);
    Some(worker)
}

fn idle(machine: &mut Machine, worker: usize, session: bool, now: Instant) {
    machine.take(Report::Idle { worker, session }, now);
}

fn rejected() -> Report {
    Report::Down(Down::new(DownKind::RejectedTransient, "local limit exceeded"))
}

#[test]
fn what_was_under_way_when_a_destination_was_congested_keeps_nobody_waiting() {
    let (mut machine, now) = (machine(), Instant::now());
    let (long, short) = (claims(&mut machine, now).unwrap(), claims(&mut machine, now).unwrap());
    machine.take(Report::Congested, now);
    idle(&mut machine, short, true, now);
    assert_eq!(claims(&mut machine, now), None, "the pause");
    let now = now + Duration::from_secs(2);
    // The long one is at work still: one goes all the same, and one alone.
    assert_eq!(claims(&mut machine, now), Some(short));
    assert_eq!(claims(&mut machine, now), None);
    machine.take(Report::Answered, now);
    idle(&mut machine, short, true, now);
    idle(&mut machine, long, true, now);
    assert!(claims(&mut machine, now).is_some() && claims(&mut machine, now).is_some());
}

#[test]
fn one_association_too_many_is_no_outage() {
    let (mut machine, now) = (machine(), Instant::now());
    let (works, refused) = (claims(&mut machine, now).unwrap(), begins(&mut machine, now).unwrap());
    took(&mut machine, 40, now);
    let reaction = machine.take(rejected(), now);
    assert!(!reaction.halt && machine.is_closed() && reaction.note.is_some());
    idle(&mut machine, refused, false, now);
    assert_eq!(claims(&mut machine, now), None, "it grants one");
    idle(&mut machine, works, true, now);
    assert_eq!(claims(&mut machine, now), Some(works));
    // Alone, the same answer is an outage.
    assert!(machine.take(rejected(), now).halt);
    assert!(!machine.is_closed());
}

#[test]
fn a_lane_begins_with_one_association_and_an_association_that_stands_makes_a_refusal_a_limit() {
    for kind in [
        DownKind::RejectedTransient,
        DownKind::RejectedPermanent,
        DownKind::Association,
    ] {
        let (mut machine, now) = (machine(), Instant::now());
        let first = begins(&mut machine, now).unwrap();
        assert_eq!(begins(&mut machine, now), None, "the first does not stand yet");
        machine.take(Report::Opened { worker: first }, now);
        let second = begins(&mut machine, now).unwrap();
        // Nothing was answered about any instance yet.
        let reaction = machine.take(Report::Down(Down::new(kind, "no")), now);
        assert!(!reaction.halt && machine.is_closed(), "{kind}");
        idle(&mut machine, second, false, now);
        assert_eq!(begins(&mut machine, now), None, "{kind}: it grants one");
        assert_eq!(
            begins(&mut machine, now + Duration::from_secs(30)),
            Some(second),
            "and is asked again"
        );
    }
    // What cannot be a limit is none.
    let (mut machine, now) = (machine(), Instant::now());
    claims(&mut machine, now).unwrap();
    machine.take(Report::Down(Down::new(DownKind::Connect, "no")), now);
    assert!(!machine.is_closed());
}

#[test]
fn while_the_first_association_is_long_in_coming_one_more_is_tried() {
    let (mut machine, now) = (machine(), Instant::now());
    begins(&mut machine, now).unwrap();
    assert_eq!(begins(&mut machine, now + Duration::from_secs(4)), None);
    assert!(machine.next_look(None, now) <= now + width::SILENCE);
    assert!(begins(&mut machine, now + Duration::from_secs(5)).is_some());
}

/// A restarted archive that rejects: the lane believes of two associations that they stand, and learns otherwise from each.
#[test]
fn associations_that_are_dead_in_truth_are_no_proof_that_the_destination_is_there() {
    let (mut machine, now) = (machine(), Instant::now());
    let (first, second) = (claims(&mut machine, now).unwrap(), claims(&mut machine, now).unwrap());
    idle(&mut machine, first, true, now);
    idle(&mut machine, second, true, now);
    let later = now + Duration::from_secs(120);
    for is_limit in [true, false] {
        let worker = begins(&mut machine, later).unwrap();
        assert_eq!(machine.take(rejected(), later).halt, !is_limit);
        idle(&mut machine, worker, false, later);
    }
    assert!(!machine.is_closed());
}

#[test]
fn an_outage_ends_the_associations_of_idle_workers_and_a_failed_probe_forgets_no_limit() {
    let (mut machine, now) = (machine(), Instant::now());
    let (first, second) = (claims(&mut machine, now).unwrap(), claims(&mut machine, now).unwrap());
    machine.take(rejected(), now);
    idle(&mut machine, second, true, now);
    machine.take(Report::Down(Down::new(DownKind::Lost, "closed")), now);
    let ended = |machine: &mut Machine| match machine.step(now) {
        Step::End { worker, .. } => Some(worker),
        _ => None,
    };
    assert_eq!(ended(&mut machine), Some(second));
    assert_eq!(ended(&mut machine), None, "the other is at work yet");
    idle(&mut machine, first, true, now);
    assert_eq!(ended(&mut machine), Some(first));
    idle(&mut machine, first, false, now);
    idle(&mut machine, second, false, now);
    assert_eq!(machine.sessions(), 0);
    let now = now + Duration::from_secs(1);
    assert_eq!(machine.step(now), Step::Probe);
    machine.take(Report::Probe(Err(Down::new(DownKind::Connect, "no"))), now);
    let now = now + Duration::from_secs(2);
    assert_eq!(machine.step(now), Step::Probe);
    machine.take(Report::Probe(Ok(())), now);
    claims(&mut machine, now).unwrap();
    assert_eq!(begins(&mut machine, now), None, "it grants one, as far as is known");
}

proptest! {
    #[test]
    fn whatever_happens_a_lane_keeps_its_promises(actions in prop::collection::vec(action(), 1..120)) {
        let (mut machine, mut seen, mut now) = (machine(), Seen::default(), Instant::now());
        for action in &actions {
            if let Action::Pass { ms } = action {
                now += Duration::from_millis(*ms);
            }
            apply(&mut machine, &mut seen, action, now);
            prop_assert_eq!(machine.is_closed(), !seen.down);
            let next = machine.next_look(None, now);
            prop_assert!(next > now && next <= now + LOOK_MAX, "a lane that sleeps for ever, or never");
        }
        // Healed, it works again within the longest pause there is.
        for worker in 0..WORKERS {
            machine.take(Report::Idle { worker, session: false }, now);
        }
        seen = Seen { down: seen.down, probing: seen.probing, ..Seen::default() };
        for _ in 0..8 {
            machine.look(20, false);
            match machine.step(now) {
                Step::Claim { .. } => return Ok(()),
                Step::Probe => {
                    machine.take(Report::Probe(Ok(())), now);
                }
                Step::End { .. } => prop_assert!(false, "there is none to end"),
                Step::Wait if seen.probing => {
                    seen.probing = false;
                    machine.take(Report::Probe(Ok(())), now);
                }
                Step::Wait => now = machine.next_look(None, now),
            }
        }
        prop_assert!(false, "it never claims again");
    }
}
