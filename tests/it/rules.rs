//! Rules in a running box: what holds, what fails, what is loaded again, and what an edit may touch.
use crate::harness::peers::{modality, send};
use crate::harness::{Object, SOON, Setup, Station, objects, wait_until};
use rustix::process::Signal;
use serde_json::json;

fn hold_of(station: &Station, object: &Object) -> (String, String) {
    let jobs = station.jobs(&["--sop", &object.sop]);
    let text = |key: &str| jobs[0][key].as_str().unwrap_or_default().to_owned();
    (text("hold_kind"), text("reason"))
}

fn sent_one(station: &Station, class: &str) -> Object {
    let object = Object::new(class);
    send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&object));
    object
}

#[test]
fn hold_by_rule_keeps_the_instance_with_the_rules_reason() {
    let rules = r#"fn route(image, from) { to("keep"); if image.Modality == "MR" { hold("MR needs a look"); } }"#;
    let station = Setup::new().rules(rules).folder("keep").start();
    let (mr, ct) = (sent_one(&station, objects::MR), sent_one(&station, objects::CT));
    wait_until("the CT", SOON, || station.folder("keep").contains_key(&ct.sop));
    assert_eq!(
        hold_of(&station, &mr),
        ("rule".to_owned(), "MR needs a look".to_owned())
    );
    assert_eq!(station.metric("jobs_held", &[("kind", "rule")]), 1.0);
    assert_eq!(
        station.metric("rule_failures_held", &[]),
        0.0,
        "a rule that holds has not failed"
    );
    station.cli(&["queue", "release", "--kind", "rule"]).ok();
    wait_until("the MR", SOON, || station.folder("keep").contains_key(&mr.sop));
}

#[test]
fn a_rule_that_fails_holds_its_instance_and_raises_the_alarm() {
    let rules = r#"
fn route(image, from) {
    to("keep");
    if image.Modality == "MR" { let x = [1]; x[7] }
    if image.PatientID == "LOOP" { loop { } }
    if image.PatientID == "COMPUTED" { to("no" + "where"); }
}"#;
    let station = Setup::new().rules(rules).folder("keep").start();
    let mr = sent_one(&station, objects::MR);
    let special = |number: &str| {
        let mut object = Object::new(objects::CT);
        object.patient_id = number.to_owned();
        send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&object));
        object
    };
    let (looped, computed) = (special("LOOP"), special("COMPUTED"));
    let good = sent_one(&station, objects::CT);
    wait_until("the good one", SOON, || station.folder("keep").contains_key(&good.sop));
    let (kind, reason) = hold_of(&station, &mr);
    assert!(
        kind == "error" && reason.contains("main.rhai") && reason.contains('4'),
        "{kind}: {reason}"
    );
    assert_eq!(hold_of(&station, &looped).0, "budget");
    assert_eq!(hold_of(&station, &computed).0, "error");
    assert_eq!(station.metric("rule_failures_held", &[]), 3.0);
    assert_eq!(station.folder("keep").len(), 1);
    // Nobody has decided where these go: a person does.
    station
        .cli(&["queue", "reroute", "--to", "keep", "--kind", "error"])
        .ok();
    wait_until("the alarm falls with its cause", SOON, || {
        station.metric("rule_failures_held", &[]) == 1.0
    });
}

#[test]
fn a_mended_rule_and_a_release_send_on_what_the_old_rule_failed_on() {
    let broken = "fn route(image, from) {\n    let x = [1];\n    x[7];\n}\n";
    let station = Setup::new().rules(broken).folder("keep").start();
    let held = sent_one(&station, objects::CT);
    assert_eq!(hold_of(&station, &held).0, "error");
    station.cli(&["queue", "release", "--kind", "error"]).ok();
    assert_eq!(hold_of(&station, &held).0, "error", "the rule is still the same");

    station.setup.rule_file("main.rhai", &into("keep"));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    station.cli(&["queue", "release", "--kind", "error"]).ok();
    wait_until("decided anew and delivered", SOON, || {
        station.folder("keep").contains_key(&held.sop)
    });
    assert_eq!(station.metric("rule_failures_held", &[]), 0.0);
}

#[test]
fn an_instance_without_a_destination_is_held_and_can_be_given_one() {
    let rules = r#"
fn morph(image, from) { image.InstitutionName = "EVERYWHERE"; }
fn morph_for_keep(image, from) { image.InstitutionName = image.InstitutionName + "-KEEP"; }
fn route(image, from) { if image.Modality == "CT" { to("keep"); } }"#;
    let station = Setup::new().rules(rules).folder("keep").start();
    let mr = sent_one(&station, objects::MR);
    assert_eq!(hold_of(&station, &mr).0, "no_destination");
    assert_eq!(station.metric("rule_failures_held", &[("kind", "no_destination")]), 1.0);
    station
        .cli(&["queue", "reroute", "--to", "keep", "--kind", "no_destination"])
        .ok();
    if station.jobs(&["--state", "held"]).len() == 1 {
        station.cli(&["queue", "release", "--all"]).ok();
    }
    wait_until("the MR", SOON, || station.folder("keep").contains_key(&mr.sop));
    let arrived = &station.folder("keep")[&mr.sop][0];
    assert!(
        arrived.windows(15).any(|window| window == b"EVERYWHERE-KEEP"),
        "it goes with the edits that the rules make for the destination"
    );
    assert_eq!(station.metric("rule_failures_held", &[]), 0.0);
}

fn into(folder: &str) -> String {
    format!("fn route(image, from) {{\n    to(\"{folder}\");\n}}\n")
}

#[test]
fn a_changed_folder_is_loaded_again_and_a_bad_one_refused_with_its_place() {
    let station = Setup::new().rules(&into("one")).folder("one").folder("two").start();
    let first = sent_one(&station, objects::CT);
    wait_until("the first", SOON, || station.folder("one").contains_key(&first.sop));

    station.setup.rule_file("main.rhai", &into("two"));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    let second = sent_one(&station, objects::CT);
    wait_until("the second", SOON, || station.folder("two").contains_key(&second.sop));
    assert_eq!(station.metric("rules_reload_failed", &[]), 0.0);

    station
        .setup
        .rule_file("main.rhai", "fn route(image, from) {\n    to(\"one\"\n}\n");
    station.wait_metric("rules_reload_failed", &[], |n| n == 1.0);
    let log = station.log();
    assert!(
        log.contains("main.rhai:3:1") || log.contains("main.rhai:2:"),
        "file, line and column: {}",
        station.log_tail()
    );
    let third = sent_one(&station, objects::CT);
    wait_until("the old set is in force", SOON, || {
        station.folder("two").contains_key(&third.sop)
    });

    station
        .setup
        .rule_file("main.rhai", "fn route(image, from) {\n    to(\"nowhere\");\n}\n");
    wait_until("the unknown destination is named", SOON, || {
        station
            .log()
            .lines()
            .any(|line| line.contains("main.rhai:2:") && line.contains("nowhere"))
    });
    station.setup.rule_file("main.rhai", &into("one"));
    station.wait_metric("rules_reload_failed", &[], |n| n == 0.0);
    let fourth = sent_one(&station, objects::CT);
    wait_until("the mended set", SOON, || {
        station.folder("one").contains_key(&fourth.sop)
    });
}

#[test]
fn sighup_loads_the_rules_without_a_watcher() {
    let mut station = Setup::new().rules(&into("one")).folder("one").folder("two").idle();
    station.setup = station.setup.environment("WAYSTATION_RULES__WATCH", "false");
    station.start();
    station.setup.rule_file("main.rhai", &into("two"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let first = sent_one(&station, objects::CT);
    wait_until("nothing has changed yet", SOON, || {
        station.folder("one").contains_key(&first.sop)
    });
    station.signal(Signal::HUP);
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    let second = sent_one(&station, objects::CT);
    wait_until("the new set", SOON, || station.folder("two").contains_key(&second.sop));
    station.setup.rule_file("main.rhai", "fn route(");
    station.signal(Signal::HUP);
    station.wait_metric("rules_reload_failed", &[], |n| n == 1.0);
    let mut station = station;
    assert!(station.running());
}

#[test]
fn each_destination_gets_its_own_edits_and_facts_are_read() {
    let rules = r#"
fn morph(image, from) { image.InstitutionName = from.calling_ae + "@" + from.called_ae; }
fn morph_for_two(image, from) { image.PatientID = (); }
fn route(image, from) { to("one"); to("two", #{ priority: "stat" }); }"#;
    let station = Setup::new().rules(rules).folder("one").folder("two").start();
    let object = Object::new(objects::CT);
    let file = object.write(station.setup.path()).to_string_lossy().into_owned();
    let sent = modality("store", station.setup.dicom, "WAYSTATION", "CT1", &[&file]);
    assert_eq!(sent["sent"][0]["status"], json!(0));
    let arrived = |folder: &str| {
        wait_until(folder, SOON, || station.folder(folder).contains_key(&object.sop));
        station.folder(folder)[&object.sop][0].clone()
    };
    let (one, two) = (arrived("one"), arrived("two"));
    let has = |data: &[u8], text: &[u8]| data.windows(text.len()).any(|window| window == text);
    assert!(has(&one, b"CT1@WAYSTATION") && has(&two, b"CT1@WAYSTATION"));
    let patient_id = b"\x10\x00\x20\x00LO\x06\x00SYN-1 ";
    assert!(has(&one, patient_id));
    // The removed value stays readable in Original Attributes, and only there: the element comes once, after group 0400.
    let at = two
        .windows(patient_id.len())
        .position(|window| window == patient_id)
        .expect("Original Attributes");
    let original = two
        .windows(4)
        .position(|window| window == b"\x00\x04\x61\x05")
        .expect("(0400,0561)");
    assert!(at > original, "(0010,0020) is gone from the data set itself");
}

#[test]
fn the_command_line_checks_rules() {
    let station = Setup::new()
        .rules("fn route(image, from) {\n    to(\"nowhere\");\n}\n")
        .folder("keep")
        .idle();
    let ran = station.cli(&["check"]);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(
        ran.code == Some(1) && said.contains("main.rhai:2:") && said.contains("nowhere"),
        "{said}"
    );
    station.setup.rule_file("main.rhai", &into("keep"));
    station.cli(&["check"]).ok();
}

#[test]
fn a_box_whose_rule_folder_is_refused_starts_with_the_rules_that_were_in_force() {
    let mut station = Setup::new().rules(&into("one")).folder("one").folder("two").start();
    station.setup.rule_file("t.csv", "a,b\n1,2\n");
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    let breaks: [(&str, &str, &str); 2] = [
        (
            "main.rhai",
            "fn route(image, from) {\n    to(\"nowhere\");\n}\n",
            "main.rhai:2:",
        ),
        ("t.csv", "a,b\n1,2,3\n", "t.csv:2"),
    ];
    for (file, broken, place) in breaks {
        let good = std::fs::read_to_string(station.setup.path().join("rules").join(file)).expect("a rule file");
        station.setup.rule_file(file, broken);
        station.kill();
        let told = station.log().len();
        station.start();
        let log = station.log();
        assert!(log[told..].contains(place), "file and line: {}", station.log_tail());
        assert_eq!(station.metric("rules_reload_failed", &[]), 1.0);
        let image = sent_one(&station, objects::CT);
        wait_until("the rules that were in force", SOON, || {
            station.folder("one").contains_key(&image.sop)
        });
        let check = station.cli(&["check"]);
        assert!(check.code == Some(1) && check.err.contains(place), "{check:?}");
        assert!(
            check.err.contains("would start with the rules that were in force last"),
            "{check:?}"
        );
        station.setup.rule_file(file, &good);
        station.wait_metric("rules_reload_failed", &[], |n| n == 0.0);
    }
    // The rules in force name a destination that is gone: nobody may guess what takes its place.
    station.setup.rule_file("main.rhai", "fn route(");
    station.kill();
    // Nothing stands in for a spool that is gone.
    let (spool, aside) = (station.setup.spool_path(), station.setup.path().join("aside"));
    std::fs::rename(&spool, &aside).expect("the box is off");
    let check = station.cli(&["check"]);
    assert!(
        check.err.contains("has had one there") && check.err.contains("2 problems: the box would not start"),
        "{check:?}"
    );
    std::fs::rename(&aside, &spool).expect("it is there");
    let config = station.setup.config();
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, text.replace("name = \"one\"", "name = \"other\"")).expect("writable");
    let refused = refused_start(&station);
    assert!(
        refused.contains("does not fit this configuration") && refused.contains("main.rhai"),
        "{refused}"
    );
}

/// What a box says that does not start with the configuration as it lies there.
fn refused_start(station: &Station) -> String {
    let ran = station.cli(&["run"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    format!("{}{}", ran.out, ran.err)
}
