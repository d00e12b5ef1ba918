//! What a panic costs: one association, rule or delivery where it is caught on purpose, the process everywhere else. Each is a
//! planted fault.
use crate::harness::peers::send;
use crate::harness::rig::{DRAIN, Rig};
use crate::harness::{Archive, Object, SOON, Setup, Station, objects};

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;

fn planted(plant: &str, rules: &str) -> (Station, Archive) {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let mut setup = setup.rules(rules);
    setup.plant(plant);
    (setup.archive("vna", archive.port, "tries = 2").start(), archive)
}

/// The log names the place, and nothing of what a panic's text might hold.
#[track_caller]
fn logged(station: &Station, words: &str) {
    let log = station.log();
    let line = log.lines().find(|line| line.contains(words));
    let line = line.unwrap_or_else(|| panic!("`{words}` is not in the log:\n{}", station.log_tail()));
    assert!(line.contains("src/base/fault.rs:"), "{line}");
    let texts = log.lines().filter(|line| line.contains("panicked at")).count();
    assert_eq!(texts, 0, "the panic's own text stays out of the log");
}

const GIVEN_UP: &str = "a panic: the work that it happened in is given up";
const ENDS: &str = "a panic: the box ends";

#[test]
fn a_panic_in_one_association_ends_that_association_only() {
    let (mut station, archive) = planted("panic-echo", TO_VNA);
    for _ in 0..3 {
        let to = format!("127.0.0.1:{}", station.setup.dicom);
        let echo = Station::bare(&[
            "send",
            "--to",
            &to,
            "--called",
            "WAYSTATION",
            "--calling",
            "CT1",
            "--echo",
        ]);
        assert_ne!(echo.code, Some(0), "{echo:?}");
    }
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(3);
    assert!(station.running());
    assert_eq!(station.metric("panics_total", &[]), 3.0);
    station.wait_metric("associations_open", &[], |open| open == 0.0);
    logged(&station, GIVEN_UP);
}

#[test]
fn a_rule_whose_host_function_panics_holds_the_instance_only() {
    let rules =
        r#"fn route(image, from) { if image.Modality == "MR" { image.items("OtherPatientIDsSequence"); } to("vna"); }"#;
    let (mut station, archive) = planted("panic-rule", rules);
    let good = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &[Object::new(objects::MR)]);
    send(station.setup.dicom, station.setup.path(), &good);
    archive.wait_stored(2);
    station.wait_drained(SOON);
    archive.holds_exactly(&good);
    assert!(station.running());
    let held = station.jobs(&["--state", "held"]);
    assert_eq!(held.len(), 1, "{held:?}");
    logged(&station, GIVEN_UP);
}

#[test]
fn an_instance_whose_delivery_panics_is_held_in_the_end_and_its_lane_goes_on() {
    let (mut station, archive) = planted("panic-delivery", TO_VNA);
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    station.wait_metric("jobs_held", &[], |held| held == 2.0);
    assert!(station.running() && archive.stored().is_empty());
    logged(&station, GIVEN_UP);
}

/// A box with such a fault ends, and a good one goes on with what it had acknowledged.
fn ends(plant: &str) {
    let mut rig = Rig::new(5, None, |setup| setup);
    rig.archive.stop();
    rig.station.start();
    rig.load(Some(4));
    rig.end_load();
    rig.crash();
    rig.archive.start();
    rig.station.setup.plant(plant);
    rig.station.launch();
    rig.load(None);
    let ended = rig.station.wait_ended();
    assert!(!ended.success(), "{ended}");
    logged(&rig.station, ENDS);
    rig.note_crash();
    rig.station.setup.plant("");
    rig.station.start();
    rig.end_load();
    rig.station.wait_drained(DRAIN);
    rig.verdict().expect("nothing is lost");
}

#[test]
fn a_lane_that_panics_ends_the_process_and_its_next_life_delivers() {
    ends("panic-lane");
}

#[test]
fn a_commit_thread_that_panics_ends_the_process_and_its_next_life_delivers() {
    ends("panic-commit");
}
