//! Weeks of a modality's life in milliseconds: what is learned, what holidays and outages do to it, and what counts as silence.
use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// Monday 2026-01-05, 00:00 UTC.
const MONDAY: i64 = 1_767_571_200;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// On weekdays from 8 to 17.
fn office(second: i64) -> bool {
    let (day, hour) = ((second - MONDAY).rem_euclid(WEEK) / DAY, second.rem_euclid(DAY) / HOUR);
    day < 5 && (8..17).contains(&hour)
}

/// Lives through `weeks`; `sends` says whether an instance comes in an hour.
fn live(weeks: i64, sends: impl Fn(i64) -> bool) -> Habits {
    let mut habits = Habits::default();
    let mut last = BTreeMap::from([("ct1".to_owned(), 0.0)]);
    for minute in 0..weeks * WEEK / 60 {
        let now = MONDAY + minute * 60;
        if now % HOUR == 30 * 60 && sends(now) {
            last.insert("ct1".to_owned(), now as f64);
        }
        habits.look(at(now), Duration::from_secs(60), &last, &TimeZone::UTC);
    }
    habits
}

fn expected_hours(habits: &Habits) -> Vec<i64> {
    let week = MONDAY + 52 * WEEK;
    (0..168)
        .filter(|hour| habits.sources["ct1"].expects(&at(week + hour * HOUR).to_zoned(TimeZone::UTC), 4))
        .collect()
}

fn office_hours() -> Vec<i64> {
    (0..168).filter(|hour| office(MONDAY + hour * HOUR)).collect()
}

#[test]
fn nothing_is_expected_before_enough_weeks_were_watched() {
    assert_eq!(expected_hours(&live(3, office)), Vec::<i64>::new());
    assert_eq!(expected_hours(&live(5, office)), office_hours());
}

#[test]
fn holidays_unlearn_nothing_and_a_machine_that_is_gone_is_forgotten() {
    let holidays = live(12, |now| office(now) && !(9..11).contains(&((now - MONDAY) / WEEK)));
    assert_eq!(expected_hours(&holidays), office_hours());
    let gone = live(12, |now| office(now) && (now - MONDAY) / WEEK < 8);
    assert_eq!(expected_hours(&gone), Vec::<i64>::new());
}

#[test]
fn an_hour_that_sends_now_and_then_is_not_expected() {
    let sometimes = live(8, |now| office(now) && (now / HOUR) % 5 < 3);
    let found = expected_hours(&sometimes);
    assert!(found.len() < 12, "{found:?}");
}

#[test]
fn silence_is_counted_in_expected_hours_only() {
    let habits = live(6, office);
    let expected = Expected::Learned(&habits.sources["ct1"], 4);
    let week = MONDAY + 6 * WEEK;
    let friday = week + 4 * DAY + 16 * HOUR + 1800;
    let table = [
        ("Friday evening", friday, friday + 3 * HOUR, 30),
        ("over the weekend", friday, week + 7 * DAY + 7 * HOUR, 30),
        ("Monday, an hour late", friday, week + 7 * DAY + 9 * HOUR, 90),
        ("at noon", week + 12 * HOUR, week + 14 * HOUR, 120),
        ("never more than a week back", MONDAY - WEEK, week + 7 * DAY, 5 * 9 * 60),
    ];
    for (what, since, now, minutes) in table {
        let silent = silent_for(&expected, at(since), at(now), &TimeZone::UTC, &[]);
        assert_eq!(silent.as_secs() / 60, minutes, "{what}");
    }
    let off = ["2026-02-16".to_owned()];
    let day = week + 8 * HOUR;
    assert_eq!(
        silent_for(&expected, at(day), at(day + 5 * HOUR), &TimeZone::UTC, &off),
        Duration::ZERO
    );
}

#[test]
fn an_hour_that_the_box_slept_through_is_not_learned() {
    let mut habits = Habits::default();
    let last = BTreeMap::from([("ct1".to_owned(), MONDAY as f64)]);
    for minute in 0..30 {
        habits.look(at(MONDAY + minute * 60), Duration::from_secs(60), &last, &TimeZone::UTC);
    }
    // Down from 00:30 to 02:10.
    let ended = habits.look(
        at(MONDAY + 2 * HOUR + 600),
        Duration::from_secs(60),
        &last,
        &TimeZone::UTC,
    );
    assert!(!ended && habits.sources.is_empty());
}

#[test]
fn windows_are_read_and_hold_what_they_say() {
    let window = Window::try_from("Fri-Mon 22:00-24:00".to_owned()).unwrap();
    let zoned = |second: i64| at(second).to_zoned(TimeZone::UTC);
    assert!(window.holds(&zoned(MONDAY + 23 * HOUR)));
    assert!(!window.holds(&zoned(MONDAY + 21 * HOUR)));
    assert!(!window.holds(&zoned(MONDAY + DAY + 23 * HOUR)), "Tuesday");
    for wrong in [
        "",
        "Mon",
        "Mon 8-9",
        "Mon 10:00-09:00",
        "Mo 08:00-09:00",
        "Mon 25:00-26:00",
    ] {
        assert!(Window::try_from(wrong.to_owned()).is_err(), "{wrong}");
    }
    let windows = [Window::try_from("Mon,Tue 08:00-12:30".to_owned()).unwrap()];
    let silent = silent_for(
        &Expected::Windows(&windows),
        at(MONDAY),
        at(MONDAY + DAY),
        &TimeZone::UTC,
        &[],
    );
    assert_eq!(silent, Duration::from_secs(4 * 3600 + 1800));
}
