//! The operator's verbs against a running box: what they would do, what they do, and that it stays done.
use crate::harness::peers::send;
use crate::harness::{Archive, Object, SOON, Setup, Station, http, objects, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;

/// A box that keeps what it has: its archive is down, a second destination is a folder.
fn loaded(count: usize) -> (Station, Archive, Vec<Object>) {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let station = setup
        .rules(TO_VNA)
        .archive("vna", archive.port, "")
        .folder("keep")
        .start();
    let sent = Object::many(objects::CT, count);
    send(station.setup.dicom, station.setup.path(), &sent);
    (station, archive, sent)
}

#[track_caller]
fn acted(station: &Station, arguments: &[&str]) -> (u64, u64) {
    let mut all = vec!["queue"];
    all.extend(arguments);
    all.push("--json");
    let answer = station.cli(&all).json();
    (
        answer["matched"].as_u64().expect("a count"),
        answer["changed"].as_u64().expect("a count"),
    )
}

fn job_of(station: &Station, object: &Object) -> Value {
    let jobs = station.jobs(&["--sop", &object.sop]);
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs[0].clone()
}

#[test]
fn listings_and_details_name_the_job_and_no_patient() {
    let (station, _archive, sent) = loaded(3);
    let jobs = station.jobs(&["--state", "queued", "--destination", "vna", "--source", "test"]);
    assert_eq!(jobs.len(), 3);
    let job = job_of(&station, &sent[1]);
    let number = job["job"].to_string();
    let shown = station.cli(&["queue", "show", &number]).ok().out;
    assert!(
        shown.contains(&sent[1].sop) && shown.contains(objects::CT) && shown.contains(&sent[1].study),
        "{shown}"
    );
    let table = station.cli(&["queue", "ls"]).ok().out;
    assert!(table.contains(&number) && table.contains("vna"), "{table}");
    for text in [shown, table] {
        assert!(!text.contains("SYNTHETIC") && !text.contains("SYN-1"), "{text}");
    }
    assert_eq!(station.jobs(&["--study", &sent[2].study]).len(), 1);
    assert_eq!(station.jobs(&["--older-than", "1h"]).len(), 0);
    assert_ne!(station.cli(&["queue", "show", "999999999"]).code, Some(0));
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let (station, _archive, _) = loaded(4);
    for verb in [
        vec!["hold"],
        vec!["retry"],
        vec!["reroute", "--to", "keep"],
        vec!["discard", "--reason", "test"],
        vec!["discard"],
    ] {
        let mut arguments = verb.clone();
        arguments.extend(["--destination", "vna", "--dry-run"]);
        assert_eq!(acted(&station, &arguments), (4, 0), "{verb:?}");
    }
    assert_eq!(station.jobs(&["--state", "queued"]).len(), 4);
    assert_eq!(station.metric("jobs_queued", &[("destination", "vna")]), 4.0);
    let careless = station.cli(&["queue", "discard", "--reason", "test"]);
    assert_ne!(careless.code, Some(0), "a bulk verb without a filter needs --all");
    assert_eq!(station.jobs(&[]).len(), 4);
}

#[test]
fn a_release_counts_the_jobs_that_were_there_and_not_those_that_the_rules_made_of_them() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let broken = "fn route(image, from) {\n    let x = [1];\n    x[7];\n}\n";
    let station = setup
        .rules(broken)
        .archive("vna", archive.port, "")
        .folder("keep")
        .start();
    let sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    let mended = "fn route(image, from) { to(\"vna\"); to(\"keep\"); }";
    station.setup.rule_file("main.rhai", mended);
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    assert_eq!(acted(&station, &["release", "--source", "test", "--dry-run"]), (5, 0));
    assert_eq!(acted(&station, &["release", "--source", "test"]), (5, 5));
    wait_until("the folder has them", SOON, || station.folder("keep").len() == 5);
    assert_eq!(station.jobs(&["--destination", "vna"]).len(), 5);
}

#[test]
fn hold_and_release_survive_a_kill() {
    let (mut station, mut archive, sent) = loaded(4);
    let number = job_of(&station, &sent[2])["job"].to_string();
    assert_eq!(acted(&station, &["hold", &number, "--reason", "look at it"]), (1, 1));
    station.kill();
    station.start();
    let job = job_of(&station, &sent[2]);
    assert_eq!((&job["state"], &job["hold_kind"]), (&json!("held"), &json!("operator")));
    assert_eq!(
        station.metric("jobs_held", &[("destination", "vna"), ("kind", "operator")]),
        1.0
    );
    archive.start();
    archive.wait_stored(3);
    station.wait_drained(SOON);
    archive.holds_exactly(&[&sent[..2], &sent[3..]].concat());
    assert_eq!(acted(&station, &["release", "--all"]), (1, 1));
    archive.wait_stored(4);
    archive.holds_exactly(&sent);
}

#[test]
fn reroute_sends_elsewhere_and_only_there() {
    let (station, mut archive, sent) = loaded(3);
    let (matched, changed) = acted(&station, &["reroute", "--to", "keep", "--sop", &sent[0].sop]);
    assert_eq!((matched, changed), (1, 1));
    wait_until("the folder has it", SOON, || station.folder("keep").len() == 1);
    assert_eq!(station.folder("keep")[&sent[0].sop], [sent[0].data()]);
    assert_ne!(
        station.cli(&["queue", "reroute", "--to", "nowhere", "--all"]).code,
        Some(0)
    );
    archive.start();
    archive.wait_stored(2);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent[1..]);
}

#[test]
fn discard_needs_a_reason_and_is_for_ever() {
    let (mut station, mut archive, sent) = loaded(3);
    assert_ne!(station.cli(&["queue", "discard", "--sop", &sent[0].sop]).code, Some(0));
    assert_eq!(
        acted(
            &station,
            &["discard", "--sop", &sent[0].sop, "--reason", "sent by mistake"]
        ),
        (1, 1)
    );
    station.restart();
    archive.start();
    archive.wait_stored(2);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent[1..]);
    assert_eq!(station.jobs(&["--state", "delivered"]).len(), 2);
    let discarded = station.jobs(&["--state", "discarded"]);
    assert_eq!(discarded.len(), 1);
    assert_eq!(
        (
            &discarded[0]["state"],
            &discarded[0]["reason"],
            &discarded[0]["sop_instance"]
        ),
        (&json!("discarded"), &json!("sent by mistake"), &json!(sent[0].sop))
    );
    let delivered = station.jobs(&["--state", "delivered"]);
    let tried = |job: &Value| job["attempts"].as_u64() >= Some(1);
    assert!(delivered.iter().all(tried), "{delivered:?}");
    // Whoever names an ended job is told that, and how.
    let number = discarded[0]["job"].to_string();
    let shown = station.cli(&["queue", "show", &number]).ok().out;
    assert!(
        shown.contains("sent by mistake") && shown.contains(&sent[0].sop),
        "{shown}"
    );
    let order = ["queue", "release", &number, &delivered[0]["job"].to_string()];
    let ran = station.cli(&order);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("0 jobs meant"), "{ran:?}");
    for told in [": discarded at ", ": delivered at ", "waystation trace "] {
        assert!(ran.err.contains(told), "{told}: {ran:?}");
    }
    let instances = |state| station.metric("spool_instances", &[("state", state)]);
    assert_eq!((instances("delivered"), instances("discarded")), (2.0, 1.0));
    // Sent again, it is an instance like any other.
    send(station.setup.dicom, station.setup.path(), &sent[..1]);
    archive.wait_stored(3);
    archive.holds_exactly(&[&sent[1..], &sent[..1]].concat());
}

#[test]
fn suspend_stops_a_lane_across_restarts_and_resume_starts_it() {
    let (mut station, mut archive, sent) = loaded(2);
    station
        .cli(&["queue", "suspend", "vna", "--reason", "maintenance"])
        .ok();
    assert_eq!(station.metric("destination_suspended", &[("destination", "vna")]), 1.0);
    archive.start();
    station.restart();
    let lanes = station.cli(&["lanes"]).ok().out;
    assert!(
        lanes.contains("maintenance") && lanes.contains("by "),
        "who, and why: {lanes}"
    );
    assert_eq!(station.metric("destination_suspended", &[("destination", "vna")]), 1.0);
    std::thread::sleep(Duration::from_secs(2));
    assert!(archive.stored().is_empty());
    let lanes = station.cli(&["lanes"]).ok().out;
    assert!(lanes.contains("suspended"), "{lanes}");
    station.cli(&["queue", "resume", "vna"]).ok();
    archive.wait_stored(2);
    archive.holds_exactly(&sent);
    assert_ne!(station.cli(&["queue", "suspend", "nowhere"]).code, Some(0));
}

#[test]
fn a_destination_that_is_not_configured_any_more_is_told_with_what_waits_for_it() {
    let (mut station, mut archive, sent) = loaded(3);
    let number = job_of(&station, &sent[0])["job"].to_string();
    assert_eq!(acted(&station, &["hold", &number]), (1, 1));
    station.kill();
    station.setup.rename("vna", "pacs");
    station
        .setup
        .rule_file("main.rhai", "fn route(image, from) { to(\"pacs\"); }");
    station.start();
    archive.start();
    let lanes = station.cli(&["lanes"]).ok().out;
    assert!(
        lanes.contains("not configured") && lanes.contains("2 queued, 1 held, 0 awaiting"),
        "{lanes}"
    );
    let (status, body) = http::get(station.setup.web, "/readyz").expect("an answer");
    let body = String::from_utf8_lossy(&body);
    assert!(status == 200 && body.contains("not configured"), "{body}");
    let refused = station.cli(&["queue", "suspend", "vna"]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.err.contains("vna is not configured any more") && refused.err.contains("queue reroute"),
        "{refused:?}"
    );
    station.wait_metric("jobs_unconfigured", &[("destination", "vna")], |n| n == 3.0);
    station.wait_metric("incidents_open", &[("kind", "destination_unconfigured")], |n| n == 1.0);
    let told = station.cli(&["alarms", "ls"]).ok().out;
    assert!(told.contains("not configured any more"), "{told}");
    assert_eq!(
        acted(&station, &["reroute", "--destination", "vna", "--to", "pacs"]),
        (3, 3)
    );
    archive.wait_stored(2);
    // What a person held is held there too, until a person lets it go.
    assert_eq!(acted(&station, &["release", "--kind", "operator"]), (1, 1));
    archive.wait_stored(3);
    archive.holds_exactly(&sent);
    station.wait_metric("jobs_unconfigured", &[("destination", "vna")], |n| n == 0.0);
    // Its name is known still, and one that no job ever had is not.
    assert_eq!(station.jobs(&["--destination", "vna"]).len(), 0);
    for verb in ["ls", "retry", "release"] {
        let wrong = station.cli(&["queue", verb, "--destination", "vnaa"]);
        assert!(
            wrong.code == Some(1) && wrong.err.contains("there is no destination vnaa"),
            "{wrong:?}"
        );
    }
    assert!(!station.cli(&["lanes"]).ok().out.contains("not configured"));
}

#[test]
fn retry_does_not_wait_for_the_schedule() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let slow = "retry = { first = \"10m\", max = \"20m\" }";
    let station = setup.rules(TO_VNA).archive("vna", archive.port, slow).start();
    let sent = Object::many(objects::CT, 2);
    archive.behave(json!({"mode": "status", "status": 0xC123}));
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("deliveries_total", &[("outcome", "refused")], |n| n == 2.0);
    archive.behave(json!({"mode": "ok"}));
    wait_until("both are back in the queue", SOON, || {
        station.jobs(&["--state", "queued"]).len() == 2
    });
    assert!(station.jobs(&[]).iter().all(|job| job["attempts"] == 1));
    assert_eq!(acted(&station, &["retry", "--destination", "vna"]), (2, 2));
    archive.wait_stored(2);
    archive.holds_exactly(&sent);
}

#[test]
fn without_a_box_the_command_says_so() {
    let station = Setup::new().rules(TO_VNA).folder("vna").idle();
    let ran = station.cli(&["queue", "ls"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(!ran.err.trim().is_empty());
}

/// Held by a word that found no row, and by a rule that wants a person to look.
fn held_by_rules() -> (Station, Object, Object) {
    let rules = r#"
fn morph(image, from) { identity::map(image, "patients", #{ issuer: "NORTH" }); }
fn route(image, from) { to("keep"); if image.Modality == "MR" { hold("MR needs a look"); } }"#;
    let setup = Setup::new().rules(rules).folder("keep").folder("other");
    let with = |class: &str, patient: &str| {
        let mut object = Object::new(class);
        object.patient_id = patient.to_owned();
        object
    };
    let (unmapped, look) = (with(objects::CT, "UNMAPPED-1"), with(objects::MR, "MAPPED-1"));
    setup.rule_file("patients.csv", &table(&["MAPPED-1"]));
    let station = setup.start();
    send(
        station.setup.dicom,
        station.setup.path(),
        &[unmapped.clone(), look.clone()],
    );
    let kind = |object: &Object| job_of(&station, object)["hold_kind"].clone();
    assert_eq!((kind(&unmapped), kind(&look)), (json!("incomplete"), json!("rule")));
    (station, unmapped, look)
}

fn table(patients: &[&str]) -> String {
    let row = |patient: &&str| format!("NORTH,{patient},EMPI,EMPI-{patient}\n");
    let rows: String = patients.iter().map(row).collect();
    format!("issuer,value,to_issuer,to_value\n{rows}")
}

fn has(station: &Station, object: &Object, patient: &str) -> bool {
    let folder = station.folder("keep");
    let arrived = &folder[&object.sop][0];
    arrived
        .windows(patient.len())
        .any(|window| window == patient.as_bytes())
}

#[test]
fn what_a_word_could_not_do_never_leaves_with_the_edits_of_before() {
    let (station, unmapped, _) = held_by_rules();
    let number = job_of(&station, &unmapped)["job"].to_string();
    for order in [
        &["release", &number][..],
        &["release", "--rules", "current", "--kind", "incomplete"],
        &["release", "--state", "held", "--kind", "incomplete"],
        &["reroute", "--to", "keep", "--kind", "incomplete"],
        &["retry", "--kind", "incomplete"],
    ] {
        assert_eq!(acted(&station, order).1, 0, "{order:?}");
        assert_eq!(job_of(&station, &unmapped)["hold_kind"], "incomplete", "{order:?}");
    }
    station
        .setup
        .rule_file("patients.csv", &table(&["UNMAPPED-1", "MAPPED-1"]));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    assert_eq!(
        acted(&station, &["release", "--rules", "current", "--kind", "incomplete"]),
        (1, 1)
    );
    wait_until("the mapped one", SOON, || {
        station.folder("keep").contains_key(&unmapped.sop)
    });
    assert!(has(&station, &unmapped, "EMPI-UNMAPPED-1"));
    // Whoever asks with what the archive has got finds it as well.
    for value in ["EMPI-UNMAPPED-1", "UNMAPPED-1"] {
        let told = station.cli(&["trace", value]).ok().out;
        assert!(told.contains(&unmapped.sop), "{value}: {told}");
    }
}

#[test]
fn a_person_may_send_what_is_incomplete_as_it_was_decided() {
    let (station, unmapped, _) = held_by_rules();
    let number = job_of(&station, &unmapped)["job"].to_string();
    assert_eq!(acted(&station, &["release", &number, "--as-decided"]), (1, 1));
    wait_until("the unmapped one", SOON, || {
        station.folder("keep").contains_key(&unmapped.sop)
    });
    assert!(!has(&station, &unmapped, "EMPI-"));
}

#[test]
fn a_hold_of_a_rule_goes_as_it_was_decided_or_by_the_rules_of_today() {
    let (station, _, look) = held_by_rules();
    // The rules of today want a look too, and the order that asked them lets nothing go.
    assert_eq!(acted(&station, &["release", "--rules", "current", "--all"]), (2, 0));
    assert_eq!(job_of(&station, &look)["hold_kind"], "rule");
    // What is decided anew by one order is not let go by the same one either.
    station.setup.rule_file("patients.csv", &table(&["OTHER"]));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    assert_eq!(
        acted(&station, &["release", "--rules", "current", "--kind", "rule"]),
        (1, 0)
    );
    assert_eq!(job_of(&station, &look)["hold_kind"], "incomplete");
    station.setup.rule_file("patients.csv", &table(&["MAPPED-1"]));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 3.0);
    assert_eq!(acted(&station, &["release", "--kind", "incomplete"]), (2, 0));
    assert_eq!(job_of(&station, &look)["hold_kind"], "rule");
    assert_eq!(acted(&station, &["release", "--kind", "rule"]), (1, 1));
    wait_until("the one that was looked at", SOON, || {
        station.folder("keep").contains_key(&look.sop)
    });
    assert!(has(&station, &look, "EMPI-MAPPED-1"));
}

#[test]
fn what_was_held_and_rerouted_is_decided_anew_for_where_it_was_sent() {
    let (station, unmapped, look) = held_by_rules();
    assert_eq!(
        acted(&station, &["reroute", "--to", "other", "--unedited", "--state", "held"]),
        (2, 2)
    );
    for (object, kind) in [(&unmapped, "incomplete"), (&look, "rule")] {
        let job = job_of(&station, object);
        assert_eq!(
            (&job["destination"], &job["hold_kind"]),
            (&json!("other"), &json!(kind))
        );
    }
    station
        .setup
        .rule_file("patients.csv", &table(&["UNMAPPED-1", "MAPPED-1"]));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    // The rules want a look still, whoever moved it.
    assert_eq!(acted(&station, &["release", "--rules", "current", "--all"]), (2, 1));
    wait_until("the mapped one", SOON, || {
        station.folder("other").contains_key(&unmapped.sop)
    });
    let job = job_of(&station, &look);
    assert_eq!(
        (&job["destination"], &job["hold_kind"]),
        (&json!("other"), &json!("rule"))
    );
    assert_eq!(acted(&station, &["release", "--kind", "rule"]), (1, 1));
    wait_until("the one that was looked at", SOON, || {
        station.folder("other").contains_key(&look.sop)
    });
    assert_eq!(station.folder("keep").len(), 0);
}
