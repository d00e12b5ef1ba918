//! `kill -9` at random moments under load: nothing acknowledged is missing, nothing is cut, duplicates only as I4 allows.
//!
//! The oracle (`tests/peers/oracle.py`) knows what the senders were told and what arrived, and nothing of the box. The planted
//! faults prove that it would see a loss. The soak of the same name (`make soak-kill`) is the long run.
use crate::harness::rig::{DRAIN, Rig};
use rand::Rng;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

/// Kills and starts again, so many times, while four modalities send. Some lives end before the box is ready.
fn run(rig: &mut Rig, rounds: usize) {
    rig.station.start();
    rig.load(None);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(50..400)));
        rig.crash();
        if rig.generator.random_bool(0.2) {
            rig.station.launch();
        } else {
            rig.station.start();
        }
    }
    rig.station.wait_ready();
    rig.end_load();
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn kill_9_in_200_rounds_loses_nothing_cuts_nothing_and_doubles_only_what_was_in_flight() {
    let mut rig = Rig::new(20_261_121, None, |setup| setup);
    let began = Instant::now();
    run(&mut rig, ROUNDS);
    let rounds = began.elapsed();
    let said = rig.verdict().unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{ROUNDS} rounds in {rounds:?}: {said}");
    let report = rig.report();
    assert_eq!(count(&report, "crashes"), ROUNDS as u64);
    assert!(
        count(&report, "acknowledged") > 3 * ROUNDS as u64,
        "under load: {report}"
    );
    // No refusal was needed either.
    assert_eq!(report["answers"], json!({}), "{report}");
    rig.station.terminate();
    let fsck = rig.station.cli(&["spool", "fsck", "--deep"]).ok();
    println!("{}", fsck.out);
}

/// The control: a box with a planted fault must be found out by the same oracle.
#[track_caller]
fn planted(plant: &str, rounds: usize) -> Value {
    let mut rig = Rig::new(7, Some(plant), |setup| setup);
    run(&mut rig, rounds);
    rig.station.wait_drained(3 * DRAIN);
    let report = rig.report();
    assert!(count(&report, "acknowledged") > 0, "{report}");
    report
}

fn missing(report: &Value) -> usize {
    report["missing_at_archive"].as_array().expect("a list").len()
}

#[test]
fn a_box_that_skips_its_commits_is_found_out() {
    let report = planted("skip-commit", 3);
    assert_eq!(missing(&report) as u64, count(&report, "acknowledged"), "{report}");
}

#[test]
fn a_box_that_acknowledges_before_it_commits_is_found_out() {
    let report = planted("ack-before-commit", 30);
    assert!(missing(&report) > 0, "{report}");
}

#[test]
fn a_box_that_takes_a_refusal_for_a_confirmation_is_found_out() {
    let mut rig = Rig::new(11, Some("ignore-status"), |setup| setup);
    rig.archive.behave(json!({"mode": "status", "status": 0xC000}));
    run(&mut rig, 2);
    rig.station.wait_drained(3 * DRAIN);
    let report = rig.report();
    assert_eq!(
        rig.station.metric("jobs_held", &[]),
        0.0,
        "the box believes that all is well"
    );
    assert!(missing(&report) > 0, "{report}");
}
