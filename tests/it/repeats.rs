//! The same SOP Instance UID again: with the same content it is one instance, with other content both are kept.
use crate::harness::peers::{modality, send};
use crate::harness::{Archive, Object, SOON, Setup, objects};
use serde_json::json;

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;

#[test]
fn the_same_content_is_delivered_once_and_other_content_is_held() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let mut station = setup.rules(TO_VNA).archive("vna", archive.port, "").start();
    let answer = modality("same_uid", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    assert_eq!(answer["statuses"], json!([0, 0, 0, 0, 0]), "every one is acknowledged");
    archive.wait_stored(1);
    station.wait_drained(SOON);
    let held = station.jobs(&["--state", "held"]);
    assert_eq!(held.len(), 1, "the other content is held once: {held:?}");
    assert_eq!(
        (&held[0]["hold_kind"], &held[0]["sop_instance"]),
        (&json!("conflict"), &answer["sop"])
    );
    assert_eq!(station.metric("repeats_total", &[("kind", "same")]), 3.0);
    assert_eq!(station.metric("repeats_total", &[("kind", "conflict")]), 1.0);
    assert_eq!(station.metric("jobs_held", &[("kind", "conflict")]), 1.0);

    // Both are kept: the held one survives a restart and goes out when a person says so.
    station.restart();
    station.cli(&["queue", "release", "--kind", "conflict"]).ok();
    archive.wait_stored(2);
    station.wait_drained(SOON);
    let digests: Vec<_> = archive
        .events("stored")
        .iter()
        .map(|line| line["sha256"].clone())
        .collect();
    assert_eq!(digests, [answer["first"].clone(), answer["second"].clone()]);
}

#[test]
fn a_repeat_is_known_after_a_restart_and_after_delivery() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let mut station = setup.rules(TO_VNA).archive("vna", archive.port, "").start();
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(3);
    station.wait_drained(SOON);
    station.restart();
    send(station.setup.dicom, station.setup.path(), &sent);
    let marker = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &marker);
    archive.wait_stored(4);
    station.wait_drained(SOON);
    archive.holds_exactly(&[sent, marker].concat());
}

#[test]
fn a_source_may_ask_for_repeats_to_be_delivered_again() {
    let source = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"STORESCU\"]\naddresses = [\"127.0.0.0/8\"]\nrepeat = \"deliver\"\n";
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let station = setup
        .rules(TO_VNA)
        .sources(source)
        .archive("vna", archive.port, "")
        .start();
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(2);
    archive.holds_exactly(&[sent.clone(), sent].concat());
}
