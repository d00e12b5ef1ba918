//! Storage commitment where things go wrong: several archives that do not agree, renamed instances, no room, an index that is lost,
//! a modality that is away for too long, an archive that has lost one.
use crate::commitment::{Address, ask, refs, source};
use crate::committing::Archive;
use crate::custody::facts;
use crate::harness::peers::{send, try_send};
use crate::harness::{Object, SOON, Setup, Station, objects, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use waystation::spool::FactKind;

const ASKS: &str = "[destinations.commitment]\nquiet = \"200ms\"\nlinger = \"6s\"\npause = \"100ms\"";

fn one(object: &Object) -> &[Object] {
    std::slice::from_ref(object)
}

fn place(station: &Station, object: &Object) -> String {
    let traced = station.cli(&["trace", &object.sop, "--json"]).ok().out;
    let traced: Value = serde_json::from_str(&traced).expect("JSON");
    traced["instances"][0]["place"].as_str().unwrap_or_default().to_owned()
}

/// The rules give instances new UIDs; two archives commit to those, a folder takes them, and the modality is spoken to in its own.
#[test]
fn all_archives_must_have_committed_and_the_modality_hears_its_own_uids() {
    let setup = Setup::new().key();
    let first = Archive::up(&setup.folder_of("one-peer"), &json!({"how": "same"}));
    let second = Archive::up(&setup.folder_of("two-peer"), &json!({"how": "never"}));
    let rules = r#"
fn morph(image, from) { uid::remap(image, "SOPInstanceUID"); }
fn route(image, from) { to("one"); to("two"); to("keep"); }"#;
    let station = setup
        .rules(rules)
        .folder("keep")
        .archive("one", first.port, ASKS)
        .archive("two", second.port, &format!("{ASKS}\ntries = 1"))
        .sources(&source("answer_within = \"12s\""))
        .start();
    let sent = Object::many(objects::CT, 3);
    let mut renamed = Vec::new();
    for object in &sent {
        send(station.setup.dicom, station.setup.path(), one(object));
        let stored = second.wait("stored", renamed.len() + 1);
        renamed.push(stored[renamed.len()]["sop"].as_str().expect("a UID").to_owned());
    }
    assert!(sent.iter().all(|object| !renamed.contains(&object.sop)));
    station.wait_metric(
        "commitment_answers_total",
        &[("destination", "one"), ("result", "committed")],
        |n| n == 3.0,
    );
    second.wait("asked", 3);
    let mut list = refs(&sent);
    let strange = "1.2.826.0.1.3680043.10.3.404";
    list.as_array_mut().expect("a list").push(json!([objects::CT, strange]));
    let early = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.9001", "refs": list, "stay": 2}),
    );
    assert_eq!(
        (&early["status"], &early["reports"]),
        (&json!(0), &json!([])),
        "one of two"
    );
    // The second commits to two of them, and has lost the third.
    second.behave(&json!({"how": "same", "fail": {&renamed[2]: 0x0112}}));
    station.cli(&["commitment", "retry", "two"]).ok();
    station.wait_metric("jobs_held", &[("destination", "two"), ("kind", "not_committed")], |n| {
        n == 1.0
    });
    let told = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.9002", "refs": list, "stay": 30, "reports": 2}),
    );
    let reports = told["reports"].as_array().expect("reports");
    assert_eq!(reports.len(), 2, "{told}");
    for report in reports {
        assert_eq!(report["type"], 2, "{report}");
        assert_eq!(report["committed"], refs(&sent[..2]), "{report}");
        let failed = json!({&sent[2].sop: 0x0110, strange: 0x0112});
        assert_eq!(report["failed"], failed, "{report}");
    }
}

/// What the archive says that it does not have is sent again, and nothing of it leaves a cache that wants room until it has committed.
#[test]
fn what_an_archive_has_lost_is_sent_again_and_stays_in_a_cache_that_wants_room() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "never"}));
    let station = setup
        .spool("low_water = \"64MiB\"\ncritical = \"32MiB\"\nballast = \"1MiB\"\ncache_high_water = \"100%\"")
        .rules("fn route(image, from) { to(\"vna\"); }")
        .archive("vna", archive.port, &format!("{ASKS}\ntries = 100"))
        .start();
    let sent = Object::many(objects::CT, 2);
    archive.behave(&json!({"how": "same", "fail": {&sent[1].sop: 0x0112}}));
    send(station.setup.dicom, station.setup.path(), &sent);
    // The one that is committed goes at once; the other is sent again and again, and stays.
    wait_until("the committed one leaves", SOON, || place(&station, &sent[0]) == "gone");
    let again = || archive.times_stored(&sent[1].sop);
    wait_until("it is sent again", SOON, || again() >= 3);
    assert_eq!(place(&station, &sent[1]), "here");
    // The day's books know it, by name and as a metric.
    let report = || {
        let ran = station.cli(&["reconcile", "--json"]);
        serde_json::from_str::<Value>(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
    };
    archive.behave(&json!({"how": "same"}));
    wait_until("the other leaves too", SOON, || place(&station, &sent[1]) == "gone");
    let books = report();
    assert_eq!(books["counts"], json!({}), "{books}");
    assert!(books["destinations"][0]["not_committed"].as_u64() >= Some(2), "{books}");
    assert_eq!(archive.times_stored(&sent[0].sop), 1);
}

#[test]
fn an_archive_that_has_lost_one_is_a_difference_of_the_day() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "never"}));
    let station = setup
        .rules("fn route(image, from) { to(\"vna\"); }")
        .archive("vna", archive.port, &format!("{ASKS}\ntries = 1"))
        .start();
    let sent = Object::many(objects::CT, 3);
    // It tells of something older first, over the same association: that is not believed, and what comes after it is heard.
    archive.behave(&json!({"how": "same", "first": "2.25.998", "fail": {&sent[1].sop: 0x0112}}));
    send(station.setup.dicom, station.setup.path(), &sent);
    assert_eq!(archive.wait("first", 1)[0]["status"], 0x0115);
    station.wait_metric("spool_instances", &[("state", "delivered")], |n| n == 2.0);
    station.wait_metric("jobs_held", &[("kind", "not_committed")], |n| n == 1.0);
    let ran = station.cli(&["reconcile", "--json"]);
    assert_eq!(ran.code, Some(1), "a script sees it");
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let found = report["differences"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(
        (&found[0]["kind"], &found[0]["sop_instance"], &found[0]["destination"]),
        (&json!("not_committed"), &json!(sent[1].sop), &json!("vna"))
    );
    let day = &report["destinations"][0];
    assert_eq!(
        (&day["confirmed"], &day["committed"], &day["not_committed"]),
        (&json!(3), &json!(2), &json!(1)),
        "{day}"
    );
    assert_eq!(
        station.metric("reconcile_differences", &[("kind", "not_committed")]),
        1.0
    );
}

/// What was refused for want of room is answered so, instance by instance: the modality keeps it and sends it again.
#[test]
fn what_had_no_room_is_answered_0213() {
    let mut station = Setup::new()
        .rules("fn route(image, from) { to(\"keep\"); }")
        .folder("keep")
        .sources(&source("policy = \"edge\""))
        .start();
    let here = Object::new(objects::CT);
    send(station.setup.dicom, station.setup.path(), one(&here));
    // A disk below its mark takes no instance.
    station.restart_below_low_water();
    let late = Object::new(objects::CT);
    let refused = try_send(station.setup.dicom, station.setup.path(), one(&late));
    assert_ne!(refused.code, Some(0), "answered A700");
    let answer = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.9102", "refs": refs(&[here.clone(), late.clone()]), "stay": 20}),
    );
    assert_eq!(answer["status"], 0, "{answer}");
    let report = &answer["reports"][0];
    assert_eq!(
        (&report["type"], &report["committed"], &report["failed"]),
        (&json!(2), &refs(one(&here)), &json!({&late.sop: 0x0213})),
        "{answer}"
    );
}

/// Told for `retry_for`, then no more: a metric, an error in the log, and a line of the ledger say so. A person may hurry it before.
#[test]
fn a_modality_that_stays_away_is_given_up_by_name_and_one_that_is_back_is_told_on_a_persons_word() {
    let setup = Setup::new();
    let mut address = Address::down(&setup.folder_of("address"));
    let lines = format!(
        "policy = \"edge\"\nhost = \"127.0.0.1\"\nport = {}\nretry_for = \"2s\"",
        address.port
    );
    let patient = format!(
        "policy = \"edge\"\nhost = \"127.0.0.1\"\nport = {}\nretry_max = \"600s\"",
        address.port
    );
    let sources = |lines: &str| source(lines).replace("retry_max = \"1s\"\n", "");
    let mut station = setup
        .rules("fn route(image, from) { to(\"keep\"); }")
        .folder("keep")
        .sources(&sources(&lines))
        .start();
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    let request = |transaction: &str| json!({"transaction": transaction, "refs": refs(&sent)});
    assert_eq!(ask(station.setup.dicom, &request("2.25.9201"))["status"], 0);
    let total = "commitment_reports_total";
    station.wait_metric(total, &[("result", "given_up")], |n| n == 1.0);
    assert!(station.log().contains("the source does not know"));
    let listed = station.cli(&["commitment", "ls", "--json"]).json();
    assert_eq!(listed["demands"], json!([]), "{listed}");
    station.terminate();
    let given_up = facts(&station, FactKind::CommitmentGivenUp);
    assert!(
        given_up.len() == 1 && given_up[0].contains("2.25.9201") && given_up[0].contains("waystation"),
        "{given_up:?}"
    );
    // One that is tried for days, with longer and longer pauses, is told at once when a person says so.
    station.setup = station.setup.sources(&sources(&patient));
    station.start();
    assert_eq!(ask(station.setup.dicom, &request("2.25.9202"))["status"], 0);
    station.wait_metric(total, &[("result", "failed")], |n| n >= 4.0);
    address.start();
    let began = Instant::now();
    let said = station.cli(&["commitment", "retry", "ct"]).ok();
    assert!(said.out.contains("as soon as it is decided: 1"), "{}", said.out);
    let report = &address.wait(1)[0];
    assert_eq!(report["transaction"], "2.25.9202");
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "not at its next turn, 8 s later"
    );
    wait_until("that it was told is recorded", SOON, || {
        station.cli(&["commitment", "ls", "--json"]).json()["demands"] == json!([])
    });
    let nothing = station.cli(&["commitment", "retry", "ct"]).ok();
    assert!(nothing.out.contains("nothing is outstanding"), "{}", nothing.out);
    assert_ne!(station.cli(&["commitment", "retry", "nobody"]).code, Some(0));
}

/// What a source asked outlives its entry: it waits while there is none, and is told by the AE title when there is another.
#[test]
fn a_modality_whose_source_is_missing_for_a_start_and_renamed_is_still_told() {
    let setup = Setup::new();
    let mut address = Address::down(&setup.folder_of("address"));
    let lines = format!("policy = \"edge\"\nhost = \"127.0.0.1\"\nport = {}", address.port);
    let named = |name: &str| source(&lines).replace("name = \"ct\"", &format!("name = \"{name}\""));
    let other = "[[sources]]\nname = \"mr\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let mut station = setup
        .rules("fn route(image, from) { to(\"keep\"); }")
        .folder("keep")
        .sources(&named("ct"))
        .start();
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    let request = json!({"transaction": "2.25.9211", "refs": refs(&sent)});
    assert_eq!(ask(station.setup.dicom, &request)["status"], 0);
    let decided = [("source", "ct"), ("state", "decided")];
    station.wait_metric("commitment_demands_open", &decided, |n| n == 1.0);
    station.terminate();
    station.setup = station.setup.sources(other);
    station.start();
    wait_until("the start says so", SOON, || {
        station.log().contains("that is not configured")
    });
    std::thread::sleep(Duration::from_secs(1));
    let listed = station.cli(&["commitment", "ls", "--json"]).json();
    assert_eq!(listed["demands"].as_array().map(Vec::len), Some(1), "{listed}");
    station.terminate();
    station.setup = station.setup.sources(&named("ct-one"));
    address.start();
    station.start();
    assert_eq!(address.wait(1)[0]["transaction"], "2.25.9211");
}

/// With the index everything that was asked is lost too: nothing counts as committed for that, and the report says what is not known.
#[test]
fn after_a_lost_index_nothing_is_taken_for_committed() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "never"}));
    let mut station = setup
        .spool("low_water = \"64MiB\"\ncritical = \"32MiB\"\nballast = \"1MiB\"\ncache_high_water = \"100%\"")
        .rules("fn route(image, from) { to(\"vna\"); }")
        .sources(&source(""))
        .archive("vna", archive.port, ASKS)
        .start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait("asked", 2);
    let before = json!({"transaction": "2.25.9301", "refs": refs(&sent)});
    assert_eq!(ask(station.setup.dicom, &before)["status"], 0);
    station.kill();
    std::fs::remove_dir_all(station.setup.spool_path().join("index")).expect("ours");
    station.start();
    assert_eq!(station.metric("spool_instances", &[("state", "delivered")]), 0.0);
    let reports = station.cli(&["spool", "salvage", "--json"]).out;
    for object in &sent {
        assert!(reports.contains(&object.sop), "each is named: {reports}");
    }
    assert!(reports.contains("\"requests_lost\":true"), "{reports}");
    let words = station.cli(&["spool", "salvage"]).out;
    assert!(words.contains("storage commitment"), "{words}");
    // Sent again and asked for again; until then the modality is promised nothing, and nothing leaves.
    archive.wait("asked", 3);
    let after = json!({"transaction": "2.25.9302", "refs": refs(&sent), "stay": 2});
    let early = ask(station.setup.dicom, &after);
    assert_eq!(
        (&early["status"], &early["reports"]),
        (&json!(0), &json!([])),
        "{early}"
    );
    assert!(sent.iter().all(|object| place(&station, object) == "here"));
    archive.behave(&json!({"how": "same"}));
    station.cli(&["commitment", "retry"]).ok();
    let last = json!({"transaction": "2.25.9303", "refs": refs(&sent), "stay": 25, "reports": 2});
    let told = ask(station.setup.dicom, &last);
    let all = told["reports"].as_array().expect("reports");
    assert!(
        all.len() == 2 && all.iter().all(|report| report["committed"] == refs(&sent)),
        "{told}"
    );
}
