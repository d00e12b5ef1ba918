//! The spool's offline tools on real spools, and what a box does with a damaged one: nothing is lost silently.
use crate::harness::peers::{path, send};
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
use std::path::{Path, PathBuf};

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;

/// A stopped box with four instances delivered and five not.
fn half_delivered() -> (Station, Archive, Vec<Object>, Vec<Object>) {
    let setup = Setup::new();
    let mut archive = Archive::up(&setup.folder_of("vna-peer"));
    let mut station = setup.rules(TO_VNA).archive("vna", archive.port, "").start();
    let delivered = Object::many(objects::CT, 4);
    send(station.setup.dicom, station.setup.path(), &delivered);
    archive.wait_stored(4);
    station.wait_drained(SOON);
    archive.stop();
    let waiting = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &waiting);
    assert!(station.terminate().success());
    (station, archive, delivered, waiting)
}

/// The payload file that holds an object's bytes.
fn payload(station: &Station, object: &Object) -> PathBuf {
    let data = object.data();
    let holds = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes.ends_with(&data));
    let files = objects::files_in(&station.setup.spool_path().join("payload"));
    files
        .into_iter()
        .find(holds)
        .expect("a payload file with the object's bytes at its end")
}

fn flip_a_bit(file: &Path) {
    let mut bytes = std::fs::read(file).expect("readable");
    let last = bytes.len() - 100;
    bytes[last] ^= 0x10;
    std::fs::write(file, bytes).expect("writable");
}

#[test]
fn fsck_finds_a_sound_spool_sound_and_a_flipped_bit() {
    let (station, _archive, _, waiting) = half_delivered();
    station.cli(&["spool", "fsck"]).ok();
    let sound = station.cli(&["spool", "fsck", "--deep"]).ok();
    assert!(sound.out.contains("9 instances"), "{}", sound.out);
    flip_a_bit(&payload(&station, &waiting[2]));
    let damaged = station.cli(&["spool", "fsck", "--deep"]);
    assert_ne!(damaged.code, Some(0), "{damaged:?}");
}

#[test]
fn a_lost_index_is_salvaged_by_itself_and_what_was_held_waits() {
    let (mut station, mut archive, delivered, waiting) = half_delivered();
    station.start();
    station
        .cli(&[
            "queue",
            "hold",
            "--sop",
            &waiting[4].sop,
            "--reason",
            "wrong table position",
        ])
        .ok();
    assert!(station.terminate().success());
    std::fs::remove_dir_all(station.setup.spool_path().join("index")).expect("the index");
    archive.start();
    station.start();
    archive.wait_stored(8);
    wait_until("only the held one is left", SOON, || station.jobs(&[]).len() == 1);
    archive.holds_exactly(&[&delivered[..], &waiting[..4]].concat());
    let held = station.jobs(&["--state", "held"]);
    assert_eq!(held[0]["sop_instance"].as_str(), Some(waiting[4].sop.as_str()));
    assert_eq!(held[0]["reason"].as_str(), Some("wrong table position"));

    let (status, body) = crate::harness::http::get(station.setup.web, "/readyz").expect("it answers");
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(status == 200 && body.contains("waystation spool salvage"), "{body}");
    let listed = station.cli(&["spool", "salvage"]);
    assert_eq!(listed.code, Some(1), "a script sees an open report: {listed:?}");
    for object in &waiting {
        assert!(
            listed.out.contains(&object.sop),
            "{} is not named:\n{}",
            object.sop,
            listed.out
        );
    }
    let reports = station.cli(&["spool", "salvage", "--json"]).out;
    let reports: serde_json::Value = serde_json::from_str(&reports).expect("JSON");
    assert_eq!(reports[0]["counts"]["held"], 1);
    station.cli(&["spool", "salvage", "--acknowledge"]).ok();
    station.cli(&["spool", "salvage"]).ok();
    let (_, body) = crate::harness::http::get(station.setup.web, "/readyz").expect("it answers");
    assert!(!String::from_utf8_lossy(&body).contains("notes"));

    station.cli(&["queue", "release", "--kind", "operator"]).ok();
    archive.wait_stored(9);
    station.wait_drained(SOON);
    archive.holds_exactly(&[delivered, waiting].concat());
    station.terminate();
    station.cli(&["spool", "fsck", "--deep"]).ok();
}

#[test]
fn a_site_that_wants_it_so_is_told_to_rebuild_and_a_rebuild_loses_nothing() {
    let (mut station, mut archive, delivered, waiting) = half_delivered();
    std::fs::remove_dir_all(station.setup.spool_path().join("index")).expect("the index");
    station.setup =
        std::mem::replace(&mut station.setup, Setup::new()).environment("WAYSTATION_SPOOL__SALVAGE", "stop");
    station.launch();
    wait_until("the box refuses to start", SOON, || !station.running());
    assert!(
        station.log_tail().contains("spool rebuild"),
        "it says what to do: {}",
        station.log_tail()
    );

    let rebuilt = station.cli(&["spool", "rebuild"]).ok();
    println!("{}", rebuilt.out);
    archive.start();
    station.start();
    archive.wait_stored(9);
    station.wait_drained(SOON);
    archive.holds_exactly(&[delivered, waiting].concat());
    station.terminate();
    station.cli(&["spool", "fsck", "--deep"]).ok();
}

#[test]
fn the_scrub_finds_a_flipped_bit_and_a_resend_heals_it() {
    let (mut station, mut archive, delivered, waiting) = half_delivered();
    flip_a_bit(&payload(&station, &waiting[1]));
    flip_a_bit(&payload(&station, &delivered[0]));
    station.start();
    station.cli(&["spool", "scrub", "--now"]).ok();
    station.wait_metric("spool_damaged", &[], |n| n == 1.0);
    station.wait_metric("scrub_payloads_total", &[], |n| n == 9.0);
    assert_eq!(station.metric("scrub_payloads_total", &[("result", "damaged")]), 2.0);
    let shown = station.cli(&["spool", "scrub"]).ok();
    assert!(
        shown.out.contains(&waiting[1].sop) && shown.out.contains("send it again"),
        "{}",
        shown.out
    );
    assert_eq!(station.jobs(&["--state", "held", "--kind", "corrupt"]).len(), 1);
    send(station.setup.dicom, station.setup.path(), &waiting[1..2]);
    station.wait_metric("spool_damaged", &[], |n| n == 0.0);
    archive.start();
    archive.wait_stored(9);
    station.wait_drained(SOON);
    archive.holds_exactly(&[delivered, waiting].concat());
}

#[test]
fn export_writes_every_payload_under_a_readable_name() {
    let (station, _archive, delivered, waiting) = half_delivered();
    let to = station.setup.folder_of("exported");
    station.cli(&["spool", "export", "--to", &path(&to)]).ok();
    let found = objects::data_sets_in(&to);
    for object in delivered.iter().chain(&waiting) {
        assert_eq!(found.get(&object.sop), Some(&vec![object.data()]), "{}", object.sop);
    }
    let one = station.setup.folder_of("one");
    let said = station
        .cli(&[
            "spool",
            "export",
            "--json",
            "--to",
            &path(&one),
            "--sop",
            &waiting[0].sop,
        ])
        .ok();
    let said: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(said["exported"], 1, "{said}");
    assert_eq!(objects::data_sets_in(&one).len(), 1);
}

/// As docs/install.md says under "Going back".
#[test]
fn what_waits_is_exported_apart_from_what_was_held_and_sent_without_it() {
    let (mut station, mut archive, delivered, waiting) = half_delivered();
    station.start();
    // The lane may try it at the start: then it is not held yet.
    wait_until("one is held", SOON, || {
        let hold = ["queue", "hold", "--sop", &waiting[0].sop, "--reason", "wrong patient"];
        station.cli(&hold).ok();
        station.jobs(&["--state", "held"]).len() == 1
    });
    assert!(station.terminate().success());
    let to = station.setup.folder_of("to-go-back");
    let said = station.cli(&["spool", "export", "--waiting", "--to", &path(&to)]).ok();
    assert!(said.out.contains("1 of them were held"), "{}", said.out);
    let found = objects::data_sets_in(&to.join("held"));
    assert_eq!(found.keys().collect::<Vec<_>>(), [&waiting[0].sop]);
    assert_eq!(objects::data_sets_in(&to.join("waiting")).len(), waiting.len() - 1);
    archive.start();
    let peer = format!("127.0.0.1:{}", archive.port);
    let sent = Station::bare(&["send", "--to", &peer, "--called", "VNA", "--calling", "CT1", &path(&to)]);
    assert!(sent.code != Some(0) && sent.err.contains("was held"), "{sent:?}");
    archive.wait_stored(8);
    archive.holds_exactly(&[&delivered[..], &waiting[1..]].concat());
}

#[test]
fn a_damaged_payload_is_never_delivered_and_the_others_flow() {
    let (mut station, mut archive, delivered, waiting) = half_delivered();
    flip_a_bit(&payload(&station, &waiting[1]));
    archive.start();
    station.start();
    archive.wait_stored(8);
    wait_until("the damaged one is held", SOON, || {
        station.jobs(&["--state", "held", "--kind", "corrupt"]).len() == 1
    });
    assert_eq!(
        station.jobs(&["--state", "held"])[0]["sop_instance"].as_str(),
        Some(waiting[1].sop.as_str())
    );
    archive.holds_exactly(&[&delivered[..], &waiting[..1], &waiting[2..]].concat());
}

#[test]
fn a_lost_payload_is_named_and_the_others_flow() {
    let (mut station, mut archive, delivered, waiting) = half_delivered();
    std::fs::remove_file(payload(&station, &waiting[3])).expect("removed");
    archive.start();
    station.start();
    archive.wait_stored(8);
    archive.holds_exactly(&[&delivered[..], &waiting[..3], &waiting[4..]].concat());
    wait_until("the lost one is visible", SOON, || {
        station.metric("quarantined_total", &[]) >= 1.0 || station.metric("jobs_held", &[("kind", "corrupt")]) == 1.0
    });
    let jobs = station.jobs(&["--sop", &waiting[3].sop]);
    assert!(
        jobs.len() == 1 && jobs[0]["state"] == "held",
        "{:?}\n{}",
        station.jobs(&[]),
        station.log_tail()
    );
}

#[test]
fn a_second_box_on_one_spool_ends_and_says_why() {
    let station = Setup::new().rules(TO_VNA).folder("vna").start();
    let mut second = Setup::new().rules(TO_VNA).folder("vna");
    second = second.environment("WAYSTATION_SPOOL__PATH", &path(&station.setup.spool_path()));
    let mut second = second.idle();
    second.launch();
    wait_until("the second ends", SOON, || !second.running());
    let said = second.log_tail();
    assert!(
        said.contains(&path(&station.setup.spool_path())),
        "it names the spool: {said}"
    );
    let offline = station.cli(&["spool", "fsck"]);
    assert_ne!(
        offline.code,
        Some(0),
        "an offline tool does not touch a spool in use: {offline:?}"
    );
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    wait_until("the first goes on", SOON, || station.folder("vna").len() == 1);
}

/// As when the disk of the spool is not mounted: the directory below its mount point is empty.
#[test]
fn a_spool_is_not_begun_where_one_was() {
    let mut station = Setup::new().rules(TO_VNA).folder("vna").start();
    let (spool, away) = (station.setup.spool_path(), station.setup.folder_of("away"));
    station.terminate();
    std::fs::rename(&spool, &away).expect("renamed");
    for prepare in [
        |_: &Path| {},
        |spool: &Path| std::fs::create_dir(spool).expect("writable"),
    ] {
        prepare(&spool);
        let checked = station.cli(&["check"]);
        assert_eq!(checked.code, Some(1), "{checked:?}");
        assert!(checked.err.contains("is its disk mounted?"), "{checked:?}");
        station.launch();
        assert!(!station.wait_ended().success());
        assert!(
            station.log_tail().contains("is its disk mounted?"),
            "{}",
            station.log_tail()
        );
        assert!(objects::files_in(&spool).is_empty(), "nothing is begun");
    }
    std::fs::remove_dir(&spool).expect("it is empty");
    std::fs::rename(&away, &spool).expect("renamed");
    station.start();
    station.terminate();
    // The disk was lost, and a person says so.
    std::fs::rename(&spool, &away).expect("renamed");
    std::fs::remove_file(station.setup.folder_of("spool-was-at")).expect("the note");
    station.start();
}

#[test]
fn names_from_the_wire_never_become_names_in_the_spool() {
    let mut station = Setup::new().rules(TO_VNA).folder("vna").start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("both", SOON, || station.folder("vna").len() == 2);
    station.terminate();
    for file in objects::files_in(&station.setup.spool_path()) {
        let name = path(&file);
        assert!(!name.contains("1.2.826") && !name.contains("STORESCU"), "{name}");
    }
}
