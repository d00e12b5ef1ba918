//! The status of each C-STORE answer: what it means, and that the association goes on.
use crate::harness::peers::{modality, send, try_send, try_send_all};
use crate::harness::tools::Ran;
use crate::harness::{Archive, Object, SOON, Setup, http, objects, wait_until};
use serde_json::json;

#[test]
fn a_bad_instance_is_answered_and_the_association_goes_on() {
    let mut station = Setup::new()
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .start();
    let answer = modality("bad_instances", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    assert_eq!(
        (&answer["other_instance"], &answer["other_class"]),
        (&json!(0xA900), &json!(0xA900)),
        "{answer}"
    );
    for name in ["garbage", "truncated", "huge_length", "nested", "empty"] {
        assert_eq!(answer[name], json!(0xC000), "{name} in {answer}");
    }
    assert_eq!(
        answer["good"],
        json!([0, 0, 0, 0, 0, 0, 0]),
        "after each of them a good one"
    );
    wait_until("the seven good ones", SOON, || station.folder("keep").len() == 7);
    assert_eq!(station.metric("store_answers_total", &[("status", "A900")]), 2.0);
    assert_eq!(station.metric("store_answers_total", &[("status", "C000")]), 5.0);
    assert!(station.running());
}

/// storescu ends with the first byte of the last status word.
#[track_caller]
fn refused_for_space(ran: &Ran) {
    assert_eq!(ran.code, Some(0xA7), "{ran:?}");
}

/// One that is too long is a matter of that instance: read to its end, answered, and counted.
#[test]
fn an_instance_over_the_limit_is_answered_a700_and_the_association_goes_on() {
    let station = Setup::new()
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .environment("WAYSTATION_LIMITS__MAX_INSTANCE", "1MiB")
        .start();
    let mut objects = Object::many(objects::CT, 3);
    objects[1].pixels = vec![7; 3 << 20];
    let ran = try_send_all(station.setup.dicom, station.setup.path(), &objects);
    assert!(!ran.err.contains("Abort") && !ran.out.contains("Abort"), "{ran:?}");
    wait_until("the two that are short enough", SOON, || {
        station.folder("keep").len() == 2
    });
    let count = |status: &str| station.metric("store_answers_total", &[("status", status)]);
    assert_eq!((count("A700"), count("0000")), (1.0, 2.0));
}

#[test]
fn below_low_water_new_ones_are_answered_a700_and_old_ones_go_out() {
    let rules = r#"fn route(image, from) { to("vna"); }"#;
    let setup = Setup::new();
    let mut archive = Archive::down(&setup.folder_of("vna-peer"));
    let mut station = setup.rules(rules).archive("vna", archive.port, "").start();
    let sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);

    station.restart_below_low_water();
    let late = Object::many(objects::CT, 1);
    refused_for_space(&try_send(station.setup.dicom, station.setup.path(), &late));
    assert_eq!(station.metric("store_answers_total", &[("status", "A700")]), 1.0);
    archive.start();
    archive.wait_stored(5);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent);

    station.kill();
    station.setup = station
        .setup
        .spool("low_water = \"64MiB\"\ncritical = \"32MiB\"\nballast = \"1MiB\"\ncache_high_water = \"128MiB\"");
    station.start();
    send(station.setup.dicom, station.setup.path(), &late);
    archive.wait_stored(6);
}

/// On the memory file system that every Linux has, so that no other test takes or gives the space that is counted here.
#[test]
fn a_disk_that_fills_up_is_refused_in_time_and_taken_again_without_a_restart() {
    let space = tempfile::Builder::new()
        .prefix("waystation-test-")
        .tempdir_in("/dev/shm")
        .expect("/dev/shm");
    let setup = Setup::new().rules(r#"fn route(image, from) { to("vna"); }"#);
    let mut archive = Archive::down(&setup.folder_of("vna-peer"));
    let path = space.path().join("spool").to_string_lossy().into_owned();
    let small = "critical = \"1MiB\"\nballast = \"1MiB\"\ncache_high_water = \"9MiB\"\nlow_water = \"2MiB\"";
    let setup = setup.spool(small).environment("WAYSTATION_SPOOL__PATH", &path);
    let mut station = setup.archive("vna", archive.port, "").start();
    // What is free beside a running box, with all that RocksDB lays out in advance.
    let free_mib = station.metric("spool_free_bytes", &[]) as u64 >> 20;
    assert!(free_mib > 500, "/dev/shm has {free_mib} MiB free; the test needs 500");
    station.kill();
    let (low, cache) = (free_mib - 300, free_mib - 130);
    let marks = format!(
        "low_water = \"{low}MiB\"\ncritical = \"{}MiB\"\nballast = \"1MiB\"\ncache_high_water = \"{cache}MiB\"",
        low - 100
    );
    station.setup = station.setup.spool(&marks);
    station.start();
    let mut taken = Vec::new();
    let refused = loop {
        let mut object = Object::new(objects::CT);
        object.pixels = vec![7; 25 << 20];
        let ran = try_send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&object));
        if ran.code != Some(0) {
            refused_for_space(&ran);
            break object;
        }
        taken.push(object);
        assert!(taken.len() < 40, "40 objects of 25 MiB fit into 300 MiB");
        // The disk is looked at each second.
        std::thread::sleep(std::time::Duration::from_millis(300));
    };
    assert!(taken.len() >= 3, "{} were taken", taken.len());
    archive.start();
    archive.wait_stored(taken.len());
    // What is delivered is cache, and gives way.
    station.wait_metric("spool_low_water", &[], |low| low == 0.0);
    assert!(station.metric("cache_evicted_total", &[]) >= 1.0);
    send(
        station.setup.dicom,
        station.setup.path(),
        std::slice::from_ref(&refused),
    );
    taken.push(refused);
    archive.wait_stored(taken.len());
    archive.holds_exactly(&taken);
}

/// Write errors from the kernel: nothing is acknowledged any more, the error is not hidden, and what was acknowledged is there.
#[test]
fn a_disk_that_fails_ends_acknowledging_and_what_was_acknowledged_is_safe() {
    let setup = Setup::new();
    let mut archive = Archive::down(&setup.folder_of("vna-peer"));
    let rules = r#"fn route(image, from) { to("vna"); }"#;
    let mut station = setup.rules(rules).archive("vna", archive.port, "").start();
    let sent = Object::many(objects::CT, 4);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.limit_files(Some(2048));
    let late = Object::many(objects::CT, 3);
    for object in &late {
        let ran = try_send(station.setup.dicom, station.setup.path(), std::slice::from_ref(object));
        assert_ne!(ran.code, Some(0), "acknowledged on a disk that cannot write");
    }
    // Either it is still there and says that it takes nothing, or it gave up with an error, for the service manager to see.
    wait_until("the failure shows", SOON, || {
        !station.running() || matches!(http::get(station.setup.web, "/readyz"), Some((503, _)))
    });
    if !station.running() {
        assert_ne!(station.wait_ended().code(), Some(0), "{}", station.log_tail());
    }
    archive.start();
    station.restart();
    archive.wait_stored(4);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent);
    send(station.setup.dicom, station.setup.path(), &late);
    archive.wait_stored(7);
    archive.holds_exactly(&[sent, late].concat());
}

/// A passing error: the gate opens again by itself, without a restart.
#[test]
fn a_disk_that_failed_for_a_moment_is_used_again_or_the_box_says_that_it_cannot() {
    let rules = r#"fn route(image, from) { to("keep"); }"#;
    let mut station = Setup::new().rules(rules).folder("keep").start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("both", SOON, || station.folder("keep").len() == 2);
    // Long enough for payloads to fail and the index, whose files are shorter, to go on.
    station.limit_files(Some(10_000));
    let late = Object::many(objects::CT, 1);
    assert_ne!(try_send(station.setup.dicom, station.setup.path(), &late).code, Some(0));
    assert!(station.running() || station.wait_ended().code() != Some(0));
    if !station.running() {
        station.start();
    }
    station.limit_files(None);
    wait_until("it takes instances again", SOON, || {
        try_send(station.setup.dicom, station.setup.path(), &late).code == Some(0)
    });
    wait_until("the late one", SOON, || station.folder("keep").len() == 3);
    assert_eq!(station.metric("spool_gate_latched", &[]), 0.0);
}
