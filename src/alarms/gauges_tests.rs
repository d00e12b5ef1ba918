//! Whose silence is judged, and when it cannot be.
use super::super::config;
use super::*;
use crate::base::units::Span;

const HOUR: f64 = 3_600.0;
/// A Monday, 12:00 UTC.
const NOON: f64 = 1_798_459_200.0;

fn wall(seconds: f64) -> Wall {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Wall((seconds * 1_000_000.0) as u64)
}

/// A box that watches since some time, with habits of a source that sends in every hour of the week and did last at some time.
fn habits(source: &str, last: f64) -> Habits {
    let week = vec![serde_json::json!({"w": 12, "s": 4095}); 168];
    serde_json::from_value(serde_json::json!({"sources": {source: week}, "last": {source: last}})).unwrap()
}

fn gauges(began: f64, sources: &[&str]) -> Gauges {
    let sources = sources.iter().map(|name| (*name).to_owned()).collect();
    Gauges::new(ClockWatch::new(Wall(0), None), wall(began), sources)
}

fn heard(began: f64, last: f64, now: f64, config: &Config) -> Heard {
    #[allow(clippy::cast_possible_truncation)]
    let now = Timestamp::from_second(now as i64).unwrap();
    gauges(began, &["ct1"]).heard("ct1", now, &habits("ct1", last), (config, &TimeZone::UTC))
}

#[test]
fn a_source_that_was_silent_before_a_restart_is_not_called_well_by_it() {
    let config = Config::default();
    let silent = |hours: u64| Heard::Silent(Duration::from_secs(hours * 3_600));
    // Watched all the time.
    assert_eq!(heard(NOON - 9.0 * HOUR, NOON - 3.0 * HOUR, NOON, &config), silent(3));
    assert_eq!(heard(NOON - 9.0 * HOUR, NOON - HOUR, NOON, &config), Heard::Well);
    // Started an hour ago: it is not known yet, until it sends or the box has watched for long enough.
    assert_eq!(heard(NOON - HOUR, NOON - 3.0 * HOUR, NOON, &config), Heard::Unknown);
    assert_eq!(heard(NOON - HOUR, NOON - 0.5 * HOUR, NOON, &config), Heard::Well);
    assert_eq!(heard(NOON - HOUR, NOON - 3.0 * HOUR, NOON + HOUR, &config), silent(2));
    // It had not been silent for long enough before.
    assert_eq!(heard(NOON - HOUR, NOON - 1.5 * HOUR, NOON, &config), Heard::Well);
    // One that is never missed any more is well.
    let exception = config::Silence {
        source: "ct1".to_owned().try_into().unwrap(),
        hours: Vec::new(),
        after: Some(Span::secs(60)),
    };
    let exempt = Config {
        silence: vec![exception],
        ..Config::default()
    };
    assert_eq!(heard(NOON - HOUR, NOON - 3.0 * HOUR, NOON, &exempt), Heard::Well);
}

#[test]
fn a_source_that_is_not_configured_any_more_is_not_missed() {
    let at = Moment {
        wall: wall(NOON),
        passed: Duration::from_secs(9 * 3_600),
        step: Duration::from_secs(5),
    };
    #[allow(clippy::cast_possible_truncation)]
    let now = Timestamp::from_second(NOON as i64).unwrap();
    let (config, metrics) = (Config::default(), Metrics::new());
    for (configured, silent) in [("ct1", 1), ("ct-new", 0)] {
        let mut gauges = gauges(NOON - 9.0 * HOUR, &[configured]);
        let habits = habits("ct1", NOON - 3.0 * HOUR);
        let mut known = BTreeSet::from(["ct1".to_owned()]);
        let found = gauges.silence(at, now, (&habits, &mut known), (&config, &TimeZone::UTC), &metrics);
        assert_eq!((found.silent.len(), found.unheard.len()), (silent, 0), "{configured}");
        assert_eq!(known.len(), silent, "{configured}");
    }
}

#[test]
fn a_source_that_was_silent_before_a_restart_stays_so_in_the_metrics_until_it_is_judged() {
    let (config, metrics) = (Config::default(), Metrics::new());
    let shown = || metrics.alarms.source_silent.with_label_values(&["ct1"]).get();
    let mut known = BTreeSet::new();
    // A box that began some hours before noon and looks at noon, at a source that sent some hours before noon.
    let mut look = |began: f64, sent: f64| {
        let mut gauges = gauges(NOON - began * HOUR, &["ct1"]);
        let at = Moment {
            wall: wall(NOON),
            passed: Duration::from_secs(1),
            step: Duration::from_secs(5),
        };
        #[allow(clippy::cast_possible_truncation)]
        let now = Timestamp::from_second(NOON as i64).unwrap();
        let habits = habits("ct1", NOON - sent * HOUR);
        gauges.silence(at, now, (&habits, &mut known), (&config, &TimeZone::UTC), &metrics);
    };
    look(1.0, 3.0);
    assert_eq!(shown(), 0, "it was not known to be silent, and is not judged yet");
    look(9.0, 3.0);
    assert_eq!(shown(), 1, "judged");
    look(0.0, 3.0);
    assert_eq!(shown(), 1, "started anew, and nothing has come");
    look(1.0, 0.5);
    assert_eq!(shown(), 0, "it has sent");
}

/// One look at the lane of `vna`, with so many jobs queued of which some are not due: what is told, and what the metrics show.
fn drain(memory: &mut Memory, metrics: &Metrics, (confirmed, queued, put_off): (u64, i64, u64)) -> (Option<f64>, bool) {
    let counted = metrics.deliveries_total.with_label_values(&["vna", "confirmed"]);
    counted.inc_by(confirmed - counted.get());
    metrics.jobs_queued.with_label_values(&["vna", "routine"]).set(queued);
    metrics.lane_open.with_label_values(&["vna"]).set(1);
    let sight = Sight {
        lanes: BTreeMap::from([("vna".to_owned(), None)]),
        put_off: BTreeMap::from([("vna".to_owned(), put_off)]),
        ..Sight::default()
    };
    let at = Moment {
        wall: wall(NOON),
        passed: Duration::from_secs(60),
        step: Duration::from_secs(5),
    };
    let found = drains(at, &metrics.samples(), &sight, memory, metrics);
    (
        found["vna"],
        metrics.text().contains("waystation_destination_drain_seconds{"),
    )
}

#[test]
fn nothing_is_said_of_a_backlog_whose_destination_was_never_seen_at_work() {
    let (mut memory, metrics) = (Memory::default(), Metrics::new());
    assert_eq!(
        drain(&mut memory, &metrics, (0, 0, 0)),
        (Some(0.0), true),
        "nothing waits"
    );
    assert_eq!(drain(&mut memory, &metrics, (0, 20, 0)), (None, false));
    assert_eq!(
        drain(&mut memory, &metrics, (0, 0, 0)),
        (Some(0.0), true),
        "it was discarded"
    );
}

#[test]
fn what_is_not_due_yet_is_no_backlog_and_did_not_arrive() {
    let (mut memory, metrics) = (Memory::default(), Metrics::new());
    for look in 0..60_u32 {
        // Each look six images that go at three in the morning, and one that goes at once.
        let later = 6 * look;
        let told = drain(&mut memory, &metrics, (look.into(), later.into(), later.into()));
        assert_eq!(told, (Some(0.0), true), "{look}");
    }
    // The archive hangs for a moment: three images wait for it, at a pace of one each look.
    let told = drain(&mut memory, &metrics, (59, 363, 360));
    assert_eq!(told, (Some(15.0), true));
}

#[test]
fn a_disk_that_somebody_else_fills_is_told_until_images_are_refused() {
    let (mut memory, metrics) = (Memory::default(), Metrics::new());
    let mut gauges = gauges(NOON, &[]);
    let mut room = |free: Option<f64>| {
        let sight = Sight {
            room_bytes: free,
            ..Sight::default()
        };
        let at = Moment {
            wall: wall(NOON),
            passed: Duration::from_secs(60),
            step: Duration::from_secs(150),
        };
        let told = gauges.room(at, &metrics.samples(), &sight, &mut memory, &metrics);
        (told, metrics.alarms.spool_full_seconds.get())
    };
    assert_eq!(room(None), (f64::INFINITY, f64::INFINITY), "the disk does not answer");
    for look in 0..8_u32 {
        let free = 2e9 - f64::from(look) * 1e8;
        let (told, shown) = room(Some(free));
        assert_eq!(told.to_bits(), shown.to_bits());
        // Ten minutes were watched.
        match look >= 4 {
            true => assert!((told - free * 150.0 / 1e8).abs() < 1.0, "{look}: {told}"),
            false => assert_eq!(told, f64::INFINITY, "{look}: a burst is no trend"),
        }
    }
    metrics.spool_low_water.set(1);
    assert_eq!(room(Some(0.0)), (0.0, 0.0), "images are refused now");
}
