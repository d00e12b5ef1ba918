//! Whose the spool and the state are: what a wrong owner, root's own hand and a second box do to them. As root, as the suite runs.
use crate::harness::objects::CT;
use crate::harness::peers::{path, send};
use crate::harness::{Object, SOON, Setup, Station, objects, wait_until};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

const TO_VNA: &str = "fn route(image, from) { to(\"vna\"); }";
const NOBODY: u32 = 65_534;
/// Root without the right to pass over owner and mode, as the box's own user has none.
const POWERLESS: [&str; 3] = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

fn give(place: &Path, user: u32, mode: u32) {
    chown(place, Some(user), Some(user)).expect("root may");
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode)).expect("root may");
}

fn give_all(folder: &Path, user: u32) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let place = entry.expect("readable").path();
        if place.is_dir() {
            give_all(&place, user);
        }
        chown(&place, Some(user), Some(user)).expect("root may");
    }
    chown(folder, Some(user), Some(user)).expect("root may");
}

fn ended_with(station: &mut Station, words: &str) {
    station.launch();
    assert!(!station.wait_ended().success());
    let log = station.log_tail();
    assert!(log.contains(words), "{words}: {log}");
}

#[test]
fn an_index_that_may_not_be_opened_is_left_as_it_is_however_often_the_box_starts() {
    let mut setup = Setup::new().rules(TO_VNA).folder("vna");
    setup.wrapper = POWERLESS.map(str::to_owned).to_vec();
    let mut station = setup.start();
    station
        .cli(&["queue", "suspend", "vna", "--reason", "the archive is serviced"])
        .ok();
    send(station.setup.dicom, station.setup.path(), &Object::many(CT, 3));
    wait_until("all wait", SOON, || station.jobs(&[]).len() == 3);
    station.terminate();
    let facts = station.cli(&["ledger", "verify", "--json"]).ok().json();
    let index = station.setup.spool_path().join("index");
    for (place, right) in [(index.clone(), 0o755), (index.join("CURRENT"), 0o644)] {
        give(&place, NOBODY, if place.is_dir() { 0o700 } else { 0o600 });
        for _ in 0..3 {
            ended_with(&mut station, "give the spool back to the box's user");
        }
        give(&place, 0, right);
    }
    station.start();
    assert_eq!(station.jobs(&[]).len(), 3, "as they were");
    assert_eq!(station.metric("destination_suspended", &[("destination", "vna")]), 1.0);
    let now = station.cli(&["ledger", "verify", "--json"]).ok().json();
    assert!(now["lines"].as_u64() >= facts["lines"].as_u64(), "{facts} {now}");
    assert!(
        station
            .cli(&["spool", "salvage"])
            .ok()
            .out
            .contains("nothing to report")
    );
}

#[test]
fn what_root_does_to_a_spool_by_hand_stays_its_owners() {
    let mut station = Setup::new().rules(TO_VNA).folder("vna").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(CT, 2));
    wait_until("both", SOON, || station.folder("vna").len() == 2);
    station.terminate();
    let spool = station.setup.spool_path();
    give_all(&spool, NOBODY);
    // Its owner must come to it.
    std::fs::set_permissions(station.setup.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    for verb in ["rebuild", "migrate", "rebuild"] {
        let ran = station.cli(&["spool", verb]).ok();
        assert!(verb != "rebuild" || ran.out.contains("2 already delivered"), "{ran:?}");
        for file in objects::files_in(&spool) {
            let owner = std::fs::metadata(&file).expect("there").uid();
            assert_eq!(owner, NOBODY, "{}", path(&file));
        }
    }
    ended_with(&mut station, "belongs to the user with the number 65534");
    give_all(&spool, 0);
    station.start();
}

#[test]
fn a_second_box_on_one_state_ends_and_the_first_is_heard_as_before() {
    let mut first = Setup::new().rules(TO_VNA).folder("vna").start();
    let second = Setup::new().rules(TO_VNA).folder("vna");
    let state = path(first.setup.path());
    let mut second = second.environment("WAYSTATION_NODE__STATE", &state).idle();
    ended_with(&mut second, "in use by another process");
    first.cli(&["lanes"]).ok();
    // Its spool begun elsewhere by a slip, while this one waits.
    first.terminate();
    ended_with(&mut second, "with all that waits in it");
    first.start();
    first.cli(&["lanes"]).ok();
}

#[test]
fn a_lock_file_of_another_user_stops_no_start() {
    let mut setup = Setup::new().rules(TO_VNA).folder("vna");
    setup.wrapper = POWERLESS.map(str::to_owned).to_vec();
    let mut station = setup.start();
    station.terminate();
    let lock = station.setup.path().join("lock");
    give(&lock, NOBODY, 0o644);
    station.start();
    station.terminate();
    give(&lock, NOBODY, 0o600);
    ended_with(&mut station, "must be the box's user's");
}

#[test]
fn a_start_that_root_is_refused_leaves_nothing_behind() {
    let mut station = Setup::new().rules(TO_VNA).folder("vna").idle();
    let (state, spool) = (station.setup.path().to_owned(), station.setup.spool_path());
    let lock = state.join("lock");
    chown(&state, Some(NOBODY), Some(NOBODY)).expect("root may");
    ended_with(&mut station, "there is no spool yet");
    assert!(!lock.exists() && !spool.exists());
    chown(&state, Some(0), Some(0)).expect("root may");
    station.start();
    station.terminate();
    std::fs::remove_file(&lock).expect("the box is off");
    give_all(&spool, NOBODY);
    ended_with(&mut station, "belongs to the user with the number 65534");
    assert!(!lock.exists());
}

#[test]
fn a_spool_that_is_closed_to_who_asks_is_not_called_something_else() {
    let mut setup = Setup::new().rules(TO_VNA).folder("vna");
    setup.wrapper = POWERLESS.map(str::to_owned).to_vec();
    let mut station = setup.start();
    station.terminate();
    give(&station.setup.spool_path(), NOBODY, 0o700);
    ended_with(&mut station, "run this as that user, as in `sudo -u '#65534'");
    assert!(!station.log_tail().contains("neither empty nor a spool"));
    // And so what lies in it is not taken for gone either.
    assert!(!station.log_tail().contains("has had one there"));
}
