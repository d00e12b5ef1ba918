//! The same SOP Instance UID again: with the same content it is one instance, with other content both are kept.
use crate::harness::peers::{modality, path, send};
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
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

const TO_RESEARCH: &str = r#"fn route(image, from) { to("research"); }"#;
const TO_PACS: &str = r#"fn route(image, from) { to("pacs"); }"#;

/// What the cache holds, sent to the box as the modality did: the commands of docs/runbook.md, "Images went to the wrong place".
fn again_from_the_cache(station: &Station, objects: &[Object]) {
    station.setup.rule_file("main.rhai", TO_PACS);
    station.cli(&["reload"]).ok();
    let again = station.setup.folder_of("again");
    station.cli(&["spool", "export", "--to", &path(&again)]).ok();
    let to = format!("127.0.0.1:{}", station.setup.dicom);
    Station::bare(&[
        "send",
        "--to",
        &to,
        "--calling",
        "STORESCU",
        "--called",
        "WAYSTATION",
        &path(&again),
    ])
    .ok();
    wait_until("all are where they belong", SOON, || {
        station.folder("pacs").len() == objects.len()
    });
    for object in objects {
        assert_eq!(station.folder("pacs")[&object.sop], [object.data()]);
    }
}

#[test]
fn what_a_wrong_rule_has_sent_elsewhere_goes_to_the_right_place_when_it_comes_again() {
    let setup = Setup::new().rules(TO_RESEARCH).folder("research").folder("pacs");
    let station = setup.start();
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("all are in the wrong place", SOON, || {
        station.folder("research").len() == 3
    });
    station.wait_drained(SOON);
    for order in [&["retry"][..], &["release"], &["reroute", "--to", "pacs"]] {
        let all = [&["queue"][..], order, &["--state", "delivered"]].concat();
        let said = station.cli(&all).ok().out;
        assert!(
            said.contains("3 left as they were: delivered") && said.contains("the runbook"),
            "{said}"
        );
    }
    again_from_the_cache(&station, &sent);
    assert_eq!(station.folder("research").len(), 3, "nothing goes there again");
}

#[test]
fn what_still_waits_for_the_wrong_place_is_sent_again_and_then_discarded_there() {
    let setup = Setup::new().rules(TO_RESEARCH).folder("research").folder("pacs");
    let station = setup.start();
    station
        .cli(&["queue", "suspend", "research", "--reason", "wrong rule"])
        .ok();
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    again_from_the_cache(&station, &sent);
    let discard = [
        "queue",
        "discard",
        "--destination",
        "research",
        "--reason",
        "wrong rule",
    ];
    let said = station.cli(&discard).ok().out;
    assert!(said.contains("3 jobs meant, 3 changed"), "{said}");
    station.cli(&["queue", "resume", "research"]).ok();
    station.wait_drained(SOON);
    assert!(station.folder("research").is_empty());
}
