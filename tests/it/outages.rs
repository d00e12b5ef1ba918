//! Archives that are down, refuse, stall, cut and misbehave: nothing is lost, nothing is sent twice after its confirmation,
//! nobody else waits.
use crate::harness::peers::send;
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;

/// A box with one archive that is up.
fn pair(more: &str) -> (Station, Archive) {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    (setup.rules(TO_VNA).archive("vna", archive.port, more).start(), archive)
}

/// Once the archive behaves, everything is there, once, whole, and nothing is left over.
#[track_caller]
fn recovers(station: &Station, archive: &Archive, sent: &[Object]) {
    archive.behave(json!({"mode": "ok"}));
    archive.wait_stored(sent.len());
    station.wait_drained(SOON);
    archive.holds_exactly(sent);
    assert_eq!(station.metric("jobs_held", &[]), 0.0);
}

#[test]
fn an_outage_of_25_objects_loses_nothing_and_consumes_no_attempts() {
    let setup = Setup::new();
    let mut archive = Archive::down(&setup.folder_of("vna-peer"));
    let station = setup.rules(TO_VNA).archive("vna", archive.port, "").start();
    let sent = Object::many(objects::CT, 25);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric(
        "destination_failures_total",
        &[("destination", "vna"), ("kind", "connect")],
        |n| n >= 2.0,
    );
    assert_eq!(station.metric("destination_up", &[("destination", "vna")]), 0.0);
    assert_eq!(station.metric("jobs_queued", &[("destination", "vna")]), 25.0);
    let jobs = station.jobs(&["--destination", "vna"]);
    assert!(
        jobs.len() == 25 && jobs.iter().all(|job| job["attempts"] == 0),
        "{jobs:?}"
    );
    archive.start();
    recovers(&station, &archive, &sent);
    assert_eq!(station.metric("deliveries_total", &[("outcome", "confirmed")]), 25.0);
    assert_eq!(station.metric("destination_up", &[("destination", "vna")]), 1.0);
}

#[test]
fn a_full_archive_slows_its_lane_and_holds_nothing() {
    let (station, archive) = pair("tries = 2");
    archive.behave(json!({"mode": "status", "status": 0xA700}));
    let sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("deliveries_total", &[("outcome", "congested")], |n| n >= 4.0);
    // More refusals than `tries` for each: they count against nobody.
    assert!(station.jobs(&[]).iter().all(|job| job["hold_kind"].is_null()));
    recovers(&station, &archive, &sent);
}

#[test]
fn a_slow_archive_is_waited_for() {
    let (station, archive) = pair("associations = 2");
    archive.behave(json!({"mode": "slow", "ms": 400}));
    let sent = Object::many(objects::CT, 6);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(6);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent);
    assert!(archive.events("association").len() <= 3, "associations are reused");
}

#[test]
fn an_archive_that_aborts_in_mid_transfer_gets_each_object_whole_in_the_end() {
    cut_in_mid_transfer("abort");
}

#[test]
fn an_archive_that_drops_the_connection_gets_each_object_whole_in_the_end() {
    cut_in_mid_transfer("drop");
}

fn cut_in_mid_transfer(mode: &str) {
    let (station, archive) = pair("tries = 1000");
    archive.behave(json!({"mode": mode, "after": 9000}));
    let mut sent = Object::many(objects::CT, 4);
    // Longer than what socket buffers take, so that the cut is really in the middle.
    for object in &mut sent {
        object.pixels = object.pixels.repeat(500);
    }
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("some cuts", SOON, || archive.events("cut").len() >= 4);
    assert!(archive.stored().is_empty());
    recovers(&station, &archive, &sent);
}

#[test]
fn an_archive_that_never_answers_is_left_and_the_object_sent_again() {
    let (station, archive) = pair("tries = 1000\ntimeouts = { response = \"1s\" }");
    archive.behave(json!({"mode": "silent"}));
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("unanswered instances", SOON, || archive.events("unanswered").len() >= 3);
    assert_eq!(station.metric("deliveries_total", &[("outcome", "confirmed")]), 0.0);
    recovers(&station, &archive, &sent);
    // After the time-out an association is never used again: each unanswered instance has its own.
    let names = archive.events("unanswered");
    let names: std::collections::BTreeSet<_> = names.iter().map(|line| line["association"].to_string()).collect();
    assert_eq!(names.len(), archive.events("unanswered").len());
}

#[test]
fn an_archive_that_is_mute_or_rejects_costs_no_attempts() {
    let (station, archive) = pair("timeouts = { association = \"1s\" }");
    archive.behave(json!({"mode": "mute"}));
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("destination_failures_total", &[("destination", "vna")], |n| n >= 2.0);
    archive.behave(json!({"mode": "reject", "code": [2, 3, 1]}));
    let transient = [("destination", "vna"), ("kind", "rejected_transient")];
    station.wait_metric("destination_failures_total", &transient, |n| n >= 1.0);
    let jobs = station.jobs(&["--destination", "vna"]);
    assert!(
        jobs.len() == 3 && jobs.iter().all(|job| job["attempts"] == 0),
        "{jobs:?}"
    );
    recovers(&station, &archive, &sent);
}

#[test]
fn a_permanent_rejection_is_seen_and_an_operator_can_ask_again_at_once() {
    let (station, archive) = pair("");
    archive.behave(json!({"mode": "reject", "code": [1, 1, 7]}));
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    let permanent = [("destination", "vna"), ("kind", "rejected_permanent")];
    station.wait_metric("destination_failures_total", &permanent, |n| n >= 1.0);
    let lanes = station.cli(&["lanes"]).ok().out;
    assert!(
        lanes.to_lowercase().contains("called ae"),
        "the reason in words: {lanes}"
    );
    archive.behave(json!({"mode": "ok"}));
    // The next look by itself would be a minute away.
    station.cli(&["queue", "retry", "--destination", "vna"]).ok();
    recovers(&station, &archive, &sent);
}

#[test]
fn a_wrong_answer_is_no_confirmation() {
    let (station, archive) = pair("tries = 1000");
    archive.behave(json!({"mode": "wrong-message"}));
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(2);
    assert_eq!(station.metric("deliveries_total", &[("outcome", "confirmed")]), 0.0);
    archive.behave(json!({"mode": "ok"}));
    station.wait_drained(SOON);
    assert_eq!(station.metric("deliveries_total", &[("outcome", "confirmed")]), 1.0);
    let stored = archive.stored();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(archive.stored(), stored, "nothing is sent after its confirmation");
}

fn held(station: &Station, kind: &str) -> Vec<Value> {
    station.jobs(&["--state", "held", "--kind", kind])
}

#[test]
fn a_refused_instance_is_held_after_its_tries_and_the_others_flow() {
    let (station, archive) = pair("tries = 3\nassociations = 1");
    let sent = Object::many(objects::CT, 5);
    archive.behave(json!({"mode": "ok", "instances": {sent[1].sop.clone(): 0xC000}}));
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("the refused one is held", SOON, || held(&station, "refused").len() == 1);
    let job = &held(&station, "refused")[0];
    assert_eq!(job["sop_instance"], json!(sent[1].sop));
    assert!(job["reason"].to_string().to_uppercase().contains("C000"), "{job}");
    assert_eq!(archive.events("refused").len(), 3, "exactly its tries");
    assert_eq!(
        station.metric("jobs_held", &[("destination", "vna"), ("kind", "refused")]),
        1.0
    );
    archive.wait_stored(4);
    archive.behave(json!({"mode": "ok"}));
    station.cli(&["queue", "release", &job["job"].to_string()]).ok();
    recovers(&station, &archive, &sent);
}

#[test]
fn an_instance_on_which_the_archive_aborts_again_and_again_blocks_nobody() {
    let (station, archive) = pair("tries = 3\nassociations = 1");
    let mut sent = Object::many(objects::CT, 5);
    sent[0].pixels = sent[0].pixels.repeat(500);
    archive.behave(json!({"mode": "ok", "cut": [sent[0].sop]}));
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(4);
    wait_until("it is held", SOON, || held(&station, "refused").len() == 1);
    assert_eq!(held(&station, "refused")[0]["sop_instance"], json!(sent[0].sop));
}

#[test]
fn a_refused_class_is_parked_once_and_the_others_flow() {
    let (station, archive) = pair("associations = 1");
    archive.behave(json!({"mode": "ok", "refuse": [objects::MR]}));
    let (ct, mr) = (Object::many(objects::CT, 4), Object::many(objects::MR, 4));
    let mixed: Vec<Object> = ct.iter().zip(&mr).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    send(station.setup.dicom, station.setup.path(), &mixed);
    wait_until("the four MR are parked", SOON, || held(&station, "parked").len() == 4);
    archive.wait_stored(4);
    archive.holds_exactly(&ct);
    assert_eq!(
        station.metric("destination_parked_contexts", &[("destination", "vna")]),
        1.0
    );
    let reason = held(&station, "parked")[0]["reason"].to_string();
    assert!(
        reason.contains(objects::MR) && reason.contains(objects::EXPLICIT),
        "{reason}"
    );
    assert!(station.cli(&["lanes"]).ok().out.contains(objects::MR));
    archive.behave(json!({"mode": "ok"}));
    station.cli(&["queue", "release", "--kind", "parked"]).ok();
    recovers(&station, &archive, &mixed);
    wait_until("nothing is parked", SOON, || {
        station.metric("destination_parked_contexts", &[]) == 0.0
    });
}

#[test]
fn a_refusal_of_authorisation_suspends_the_destination_until_a_person_resumes_it() {
    let (mut station, archive) = pair("");
    archive.behave(json!({"mode": "status", "status": 0x0124}));
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("destination_suspended", &[("destination", "vna")], |n| n == 1.0);
    // What was on its way over another association meets the refusal too.
    station.wait_metric("jobs_in_flight", &[], |n| n == 0.0);
    archive.behave(json!({"mode": "ok"}));
    station.restart();
    assert_eq!(station.metric("destination_suspended", &[("destination", "vna")]), 1.0);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(archive.stored().is_empty());
    station.cli(&["queue", "resume", "vna"]).ok();
    recovers(&station, &archive, &sent);
}

#[test]
fn a_warning_is_a_confirmation() {
    let (station, archive) = pair("");
    archive.behave(json!({"mode": "status", "status": 0xB000}));
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("deliveries_total", &[("outcome", "warning")], |n| n == 2.0);
    recovers(&station, &archive, &sent);
}

#[test]
fn a_destination_that_is_down_delays_nobody_else() {
    let setup = Setup::new();
    let dead = Archive::down(&setup.folder_of("cad-peer"));
    let stuck = Archive::up(&setup.folder_of("pacs-peer"));
    stuck.behave(json!({"mode": "silent"}));
    let live = Archive::up(&setup.folder_of("vna-peer"));
    let rules = r#"fn route(image, from) { to("cad"); to("pacs"); to("vna"); to("keep"); }"#;
    let setup = setup
        .rules(rules)
        .archive("cad", dead.port, "")
        .archive("pacs", stuck.port, "")
        .folder("keep");
    let station = setup.archive("vna", live.port, "").start();
    let sent = Object::many(objects::CT, 20);
    let began = Instant::now();
    send(station.setup.dicom, station.setup.path(), &sent);
    live.wait_stored(20);
    wait_until("the folder has all", SOON, || station.folder("keep").len() == 20);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    live.holds_exactly(&sent);
    assert_eq!(station.metric("jobs_queued", &[("destination", "cad")]), 20.0);
    assert_eq!(station.metric("destination_up", &[("destination", "vna")]), 1.0);
    assert_eq!(station.metric("destination_up", &[("destination", "cad")]), 0.0);
}
