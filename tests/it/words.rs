//! The words of identity, accession, text, code, timezone and uid through the running box, on images in every kind of transfer
//! syntax: pydicom and dcmdump read the named elements, all others are compared in bytes, and a second box changes nothing more.
use crate::harness::peers::{Storescp, modality, path};
use crate::harness::{Setup, Station, tools};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const CHANGE: &str = r#"
fn morph(image, from) {
    identity::prefix(image, "NRT-", "NORTH");
    accession::prefix(image, "N-", #{ too_long: if from.calling_ae == "MR1" { "hold" } else { "keep" } });
    text::lower(image, "StationName");
    text::set_name_part(image, "PatientName", "suffix", "MD");
    code::set(image, "ProcedureCodeSequence", "36643-5", "LN", "XR Chest 2 Views");
}
"#;

/// The images with canaries of `canaries.py`, which have a number each.
fn images(folder: &Path) -> Vec<String> {
    let made = tools::python_json("canaries.py", &["make", &path(folder)]);
    let made = made.as_array().expect("a list");
    let plain = made.iter().filter(|one| one["kind"] == "plain");
    plain
        .map(|one| one["path"].as_str().expect("a path").to_owned())
        .collect()
}

#[track_caller]
fn store(station: &Station, calling: &str, file: &str) {
    let answer = modality("store", station.setup.dicom, "WAYSTATION", calling, &[file]);
    assert_eq!(answer["sent"][0]["status"], json!(0), "{file}: {answer}");
}

#[test]
fn only_the_named_elements_change_and_a_second_box_changes_nothing() {
    let rules = |to: &str| format!("{CHANGE} fn route(image, from) {{ {to} }}");
    let sources = "[[sources]]\nname = \"first\"\ncalling_ae = [\"WAYSTATION\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let second = Setup::new()
        .rules(&rules(r#"to("twice");"#))
        .sources(sources)
        .folder("twice")
        .start();
    let first = Setup::new()
        .rules(&rules(r#"to("once"); to("waystation");"#))
        .folder("once")
        .archive("waystation", second.setup.dicom, "")
        .start();
    let files = images(&first.setup.folder_of("made"));
    assert!(files.len() >= 6);
    for file in &files {
        store(&first, "CT1", file);
    }
    first.wait_drained(Duration::from_secs(30));
    second.wait_drained(Duration::from_secs(30));
    let named = json!({"PatientID": "NRT-CANARY PATIENTID", "IssuerOfPatientID": "NORTH", "StationName": "canary stationna",
        "PatientName": "CANARY PATIENTNAME^^^^MD", "AccessionNumber": "CANARY ACCESSION", "ProcedureCodeSequence": "36643-5"});
    let listing = json!(files).to_string();
    let once = path(&first.setup.folder_of("once"));
    let twice = path(&second.setup.folder_of("twice"));
    let problems = tools::python_json("words.py", &["compare", &listing, &named.to_string(), &once, &twice]);
    assert_eq!(problems, json!({}), "{problems:#}");
    let flagged = first.metric("rule_flags_total", &[("flag", "accession_too_long")]);
    assert!(flagged >= files.len() as f64, "{flagged}");
}

#[test]
fn a_number_that_grows_too_long_waits_where_the_policy_says_so() {
    let station = Setup::new()
        .rules(&format!("{CHANGE} fn route(image, from) {{ to(\"keep\"); }}"))
        .folder("keep")
        .start();
    let files = images(&station.setup.folder_of("made"));
    store(&station, "MR1", &files[0]);
    station.wait_metric("jobs_held", &[("kind", "incomplete")], |n| n == 1.0);
    store(&station, "CT1", &files[1]);
    station.wait_drained(Duration::from_secs(20));
    assert_eq!(station.folder("keep").len(), 1);
}

#[test]
fn a_table_is_read_anew_and_an_ambiguous_row_holds() {
    let rules = r#"
fn morph(image, from) { identity::map(image, "patients", #{ issuer: "NORTH", missing: "hold" }); }
fn route(image, from) { to("keep"); }"#;
    let setup = Setup::new().folder("keep");
    let header = "issuer,value,to_issuer,to_value\n";
    let row = |to: &str| format!("CANARY ISSUEROFPATIENTID,CANARY PATIENTID,EMPI,{to}\n");
    setup.rule_file("patients.csv", &format!("{header}{}{}", row("900001"), row("900002")));
    let station = setup.rules(rules).start();
    let files = images(&station.setup.folder_of("made"));
    store(&station, "CT1", &files[0]);
    station.wait_metric("jobs_held", &[("kind", "incomplete")], |n| n == 1.0);
    station
        .setup
        .rule_file("patients.csv", &format!("{header}{}", row("900003")));
    station.wait_metric("rules_reloads_total", &[], |n| n >= 2.0);
    store(&station, "CT1", &files[1]);
    station.wait_drained(Duration::from_secs(20));
    let named =
        json!({"PatientID": "900003", "IssuerOfPatientID": "EMPI", "OtherPatientIDsSequence": "CANARY PATIENTID"});
    let listing = json!([files[1]]).to_string();
    let keep = path(&station.setup.folder_of("keep"));
    let found = tools::python_json("words.py", &["compare", &listing, &named.to_string(), &keep]);
    assert_eq!(found, json!({}), "{found:#}");
    assert_eq!(station.metric("jobs_held", &[]), 1.0);
}

#[test]
fn new_uids_agree_in_command_data_set_and_references_also_after_a_restart() {
    let setup = Setup::new();
    let scp = Storescp::start(&setup.folder_of("scp"), &[]);
    let rules = r#"
fn morph_for_vna(image, from) { uid::remap_all(image); }
fn route(image, from) { to("vna"); }"#;
    let mut station = setup.key().rules(rules).archive("vna", scp.port, "").start();
    let made = tools::python_json("words.py", &["pair", &path(&station.setup.folder_of("made"))]);
    let files: Vec<&str> = made
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    store(&station, "CT1", files[0]);
    station.wait_drained(Duration::from_secs(20));
    station.restart();
    store(&station, "CT1", files[1]);
    station.wait_drained(Duration::from_secs(20));
    let found = tools::python_json("words.py", &["references", &path(&scp.folder)]);
    let found = found.as_array().expect("a list");
    assert_eq!(found.len(), 2, "{found:?}");
    for (one, other) in [(0, 1), (1, 0)] {
        assert_eq!(found[one]["command"], found[one]["own"]);
        assert!(
            found[one]["own"].as_str().is_some_and(|uid| uid.starts_with("2.25.")),
            "{found:?}"
        );
        assert_eq!(found[one]["refers"], found[other]["own"], "{found:?}");
        assert_eq!(found[one]["study"], found[other]["study"]);
        assert_eq!(found[one]["class"], "1.2.840.10008.5.1.4.1.1.2");
    }
    assert_ne!(found[0]["own"], found[1]["own"]);
}
