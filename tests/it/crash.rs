//! `kill -9` at random moments under load: nothing acknowledged is missing, nothing is cut, duplicates only as I4 allows.
//!
//! The oracle (`tests/peers/oracle.py`) knows what the senders were told and what arrived, and nothing of the box. The planted
//! faults prove that it would see a loss.
use crate::harness::{Archive, Setup, Station, tools};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

const ROUNDS: usize = 200;
/// Of the box towards the archive.
const ASSOCIATIONS: usize = 2;

struct Soak {
    station: Station,
    archive: Archive,
    generator: StdRng,
    crashes: File,
}

impl Soak {
    fn new(seed: u64, plant: Option<&str>) -> Self {
        let setup = Setup::new();
        let archive = Archive::up(&setup.folder_of("vna-peer"));
        let rules = r#"fn route(image, from) { to("vna"); to("keep"); }"#;
        let more = format!("associations = {ASSOCIATIONS}");
        let mut setup = setup
            .rules(rules)
            .archive("vna", archive.port, &more)
            .folder("keep")
            .log("level = \"warn\"");
        if let Some(plant) = plant {
            setup = setup.environment("WAYSTATION_PLANT", plant);
        }
        let crashes = File::create(setup.folder_of("crashes")).expect("writable");
        Self {
            station: setup.start(),
            archive,
            generator: StdRng::seed_from_u64(seed),
            crashes,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.station.setup.folder_of(name)
    }

    /// Kills and starts again, so many times, while four modalities send. Some lives end before the box is ready.
    fn run(&mut self, rounds: usize) {
        let port = self.station.setup.dicom.to_string();
        let seed = self.generator.random_range(0..1_000_000).to_string();
        let arguments = [
            port.into(),
            "WAYSTATION".into(),
            self.path("sent.jsonl"),
            "4".into(),
            seed.into(),
        ];
        let mut load = tools::python_serving("load.py", &arguments);
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(self.generator.random_range(50..400)));
            self.station.kill();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .expect("after 1970");
            writeln!(self.crashes, "{:.6}", now.as_secs_f64()).expect("writable");
            if self.generator.random_bool(0.2) {
                self.station.launch();
            } else {
                self.station.start();
            }
        }
        self.station.wait_ready();
        // The senders end when their standard input does.
        drop(load.0.stdin.take());
        let start = Instant::now();
        while load.running() {
            assert!(start.elapsed() < Duration::from_secs(60), "the senders do not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn report(&self) -> Value {
        let sent = self.path("sent.jsonl");
        let associations = ASSOCIATIONS.to_string();
        let arguments = [
            sent,
            self.path("keep"),
            self.archive.journal_path(),
            self.path("crashes"),
            associations.into(),
        ];
        tools::python_json("oracle.py", &arguments)
    }
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn kill_9_in_200_rounds_loses_nothing_cuts_nothing_and_doubles_only_what_was_in_flight() {
    let mut soak = Soak::new(20_261_121, None);
    let began = Instant::now();
    soak.run(ROUNDS);
    let rounds = began.elapsed();
    soak.station.wait_drained(Duration::from_secs(60));
    let report = soak.report();
    println!("{ROUNDS} rounds in {rounds:?}: {report}");
    assert_eq!(count(&report, "crashes"), ROUNDS as u64);
    assert!(
        count(&report, "acknowledged") > 3 * ROUNDS as u64,
        "under load: {report}"
    );
    for name in [
        "missing_at_archive",
        "missing_in_folder",
        "damaged_at_archive",
        "damaged_in_folder",
        "unexcused",
    ] {
        assert_eq!(report[name], serde_json::json!([]), "{name}: {report}");
    }
    assert_eq!(report["over_the_bound"], serde_json::json!({}), "{report}");
    // Nobody had to look after anything, and no refusal was needed either.
    assert_eq!(soak.station.metric("jobs_held", &[]), 0.0);
    assert_eq!(report["answers"], serde_json::json!({}), "{report}");
    soak.station.terminate();
    let fsck = soak.station.cli(&["spool", "fsck", "--deep"]).ok();
    println!("{}", fsck.out);
}

/// The control: a box with a planted fault must be found out by the same oracle.
#[track_caller]
fn planted(plant: &str, rounds: usize) -> Value {
    assert!(has_plants(), "built without the planted faults: run `make test`");
    let mut soak = Soak::new(7, Some(plant));
    soak.run(rounds);
    soak.station.wait_drained(Duration::from_secs(60));
    let report = soak.report();
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
    assert!(has_plants(), "built without the planted faults: run `make test`");
    let mut soak = Soak::new(11, Some("ignore-status"));
    soak.archive
        .behave(serde_json::json!({"mode": "status", "status": 0xC000}));
    soak.run(2);
    soak.station.wait_drained(Duration::from_secs(60));
    let report = soak.report();
    assert_eq!(
        soak.station.metric("jobs_held", &[]),
        0.0,
        "the box believes that all is well"
    );
    assert!(missing(&report) > 0, "{report}");
}

/// Whether the box under test has planted faults to switch on.
fn has_plants() -> bool {
    cfg!(feature = "planted")
}
