//! The wish as a table, and a line that answers as the wish says.
use super::*;

fn seen(backlog: usize, open: usize, alone_ms: u64, per_second: f64) -> Seen {
    Seen {
        backlog,
        open,
        alone: Duration::from_millis(alone_ms),
        per_second,
    }
}

#[test]
fn the_wish_follows_backlog_round_trip_and_throughput() {
    let table = [
        ("nothing known yet", seen(1000, 0, 0, 0.0), 16, 2),
        ("nothing to do", seen(0, 2, 50, 40.0), 16, 1),
        ("one job needs one", seen(1, 2, 50, 40.0), 16, 1),
        (
            "each further one brings its share: twice as many",
            seen(1000, 2, 50, 40.0),
            16,
            4,
        ),
        ("and again", seen(1000, 8, 50, 150.0), 64, 16),
        ("within the site's limit", seen(1000, 8, 50, 150.0), 10, 10),
        (
            "CT over 100 Mbit/s and 50 ms: the line is full",
            seen(2000, 8, 92, 23.8),
            64,
            6,
        ),
        ("the same with twice as many open", seen(2000, 16, 92, 23.8), 64, 6),
        (
            "5 KB over 100 Mbit/s and 50 ms",
            seen(20_000, 256, 50, 2440.0),
            256,
            185,
        ),
        (
            "5 KB over 20 Mbit/s and 150 ms",
            seen(20_000, 256, 150, 488.0),
            256,
            112,
        ),
        ("a slow archive that takes one at a time", seen(500, 8, 200, 5.0), 64, 4),
        ("a small backlog is not spread thin", seen(6, 8, 50, 150.0), 64, 3),
        ("a site that allows one", seen(1000, 1, 50, 20.0), 1, 1),
    ];
    for (what, seen, most, expected) in table {
        assert_eq!(wanted(seen, most), expected, "{what}");
    }
}

#[test]
fn an_association_gets_its_share() {
    for ((backlog, wanted), expected) in [((1000, 4), 8), ((16, 8), 2), ((3, 2), 2), ((0, 2), 1), ((1, 0), 1)] {
        assert_eq!(share(backlog, wanted, 8), expected, "{backlog} {wanted}");
    }
}

fn one(length: u64, took: Duration) -> Answered {
    Answered {
        length,
        took,
        window: 1,
        together: 1,
    }
}

/// A line that answers `capacity` instances in a second at most, and none before `alone`; each association has `together` in
/// flight. Answers the wish at the end, when it last changed, and the share of the line that was used after ten seconds.
fn settles_at(capacity: f64, alone_ms: u64, together: usize, most: usize, span: Duration) -> (usize, Duration, f64) {
    let start = Instant::now();
    let (mut flow, mut now) = (Flow::new(start), start);
    let alone = Duration::from_millis(alone_ms);
    let (mut settled, mut used) = (now, (0.0, 0.0));
    while now < start + span {
        let open = flow.wanted(usize::MAX, most);
        let flying = as_f64(open * together);
        let rate = (flying / alone.as_secs_f64()).min(capacity);
        let took = Duration::from_secs_f64(flying / rate);
        now += Duration::from_secs_f64(1.0 / rate);
        if now > start + Duration::from_secs(10) {
            used = (used.0 + 1.0, used.1 + capacity / rate);
        }
        let answer = Answered {
            together,
            window: 16,
            ..one(5_000, took)
        };
        flow.answered(answer, (open, most), now);
        if flow.wanted(usize::MAX, most) != open {
            settled = now;
        }
    }
    (flow.wanted(usize::MAX, most), settled - start, used.0 / used.1)
}

#[test]
fn it_fills_a_line_within_seconds_and_stays() {
    let table = [
        (2500.0, 50, 1, 256, 180..=195),
        (24.0, 92, 1, 64, 4..=7),
        (500.0, 150, 1, 64, 64..=64),
        (10_000.0, 3, 1, 16, 16..=16),
        // With a window of 16 of which so many are used: what counts is what is in flight.
        (2500.0, 50, 16, 256, 11..=13),
        (2500.0, 50, 9, 256, 20..=22),
        (2500.0, 50, 2, 256, 92..=97),
    ];
    for (capacity, alone, together, most, expected) in table {
        let (wanted, took, used) = settles_at(capacity, alone, together, most, Duration::from_secs(60));
        assert!(expected.contains(&wanted), "{capacity} {alone} {together}: {wanted}");
        assert!(took < Duration::from_secs(6), "{capacity} {alone} {together}: {took:?}");
        let most_used = (as_f64(most * together) / (alone as f64 / 1000.0) / capacity).min(1.0);
        assert!(
            used > 0.99 * most_used,
            "{capacity} {alone} {together}: {used} of the line"
        );
    }
}

/// Two at work over a line that is theirs, four times.
fn answering(now: Instant, took: Duration) -> Flow {
    let mut flow = Flow::new(now);
    for at in 1..=8_u32 {
        flow.answered(one(5_000, took), (2, 16), now + took * at);
    }
    flow
}

#[test]
fn without_an_answer_there_is_room_for_one_more_each_while() {
    let (start, took) = (Instant::now(), Duration::from_millis(20));
    let flow = answering(start, took);
    let (now, wanted) = (start + took * 8, flow.wanted(100, 16));
    let at = |seconds: u64| flow.room(100, 16, false, now + Duration::from_secs(seconds));
    assert_eq!(
        [at(0), at(4), at(5), at(11), at(3_600)],
        [wanted, wanted, wanted + 1, wanted + 2, 16]
    );
    assert_eq!(
        flow.room(100, 16, true, now),
        wanted + 1,
        "what is urgent waits for nobody"
    );
    // The answer of the one more ends the silence, and not what was silent.
    let (mut flow, later) = (flow, now + Duration::from_secs(5));
    flow.answered(one(5_000, took), (3, 16), later);
    assert_eq!(flow.room(100, 16, false, later), flow.wanted(100, 16) + 1);
    flow.begins(later);
    assert_eq!(flow.room(100, 16, false, later), flow.wanted(100, 16));
    // What takes a minute is not late after five seconds, once that is known: the first silence has called for one more.
    let slow = answering(start, Duration::from_secs(60));
    let now = start + Duration::from_secs(480);
    let wanted = slow.wanted(100, 16);
    let at = |seconds: u64| slow.room(100, 16, false, now + Duration::from_secs(seconds));
    assert_eq!([at(100), at(180), at(360)], [wanted + 1, wanted + 1, wanted + 2]);
}

#[test]
fn what_a_destination_grants_is_learned_and_asked_again() {
    let (start, took) = (Instant::now(), Duration::from_millis(20));
    let mut flow = answering(start, took);
    let mut now = start + took * 8;
    let room = |flow: &Flow, now| flow.room(100, 16, false, now);
    assert!(flow.is_answering(now) && room(&flow, now) >= 4);
    // Three more are under way, and all are refused while two work: the last refusal tells.
    for others in [4, 3, 2] {
        flow.refused_beyond(others, now);
    }
    assert_eq!(room(&flow, now), 2);
    now += GRANTED_FOR;
    assert_eq!(room(&flow, now), 3, "it may have had other guests");
    flow.answered(one(5_000, took), (3, 16), now);
    assert_eq!(room(&flow, now), 3);
    now += GRANTED_FOR;
    flow.answered(one(5_000, took), (3, 16), now);
    // Whatever so few answers say of the line.
    flow.wanted = 16;
    assert_eq!(room(&flow, now), 4);
    flow.refused_beyond(1, now);
    flow.forget(now);
    assert!(!flow.is_answering(now));
    assert_eq!(room(&flow, now), 1, "what it grants outlives a failed probe");
    flow.forget(now + GRANTED_FOR);
    assert_eq!(room(&flow, now + GRANTED_FOR), START, "and no long outage");
}

#[test]
fn hours_of_a_full_line_do_not_inflate_it() {
    let (wanted, ..) = settles_at(24.0, 92, 1, 64, Duration::from_secs(3 * 3_600));
    assert!((4..=8).contains(&wanted), "{wanted}");
}

#[test]
fn long_objects_among_short_ones_do_not_look_like_a_slow_line() {
    let start = Instant::now();
    let (mut flow, mut now) = (Flow::new(start), start);
    // Two associations that never wait for each other: each takes what its length takes.
    for round in 0..200 {
        let (length, took) = if round % 2 == 0 {
            (5_000, 50)
        } else {
            (50_000_000, 4_000)
        };
        now += Duration::from_millis(took / 2);
        flow.answered(one(length, Duration::from_millis(took)), (2, 16), now);
    }
    assert_eq!(flow.wanted(usize::MAX, 16), 4);
}
