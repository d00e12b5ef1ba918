//! De-identification as a research site sees it: DCMTK and others send images with canaries through the running box, DCMTK
//! receives them, and what left is searched byte for byte and read by pydicom and dcmdump.
use crate::harness::peers::{Storescp, dcmtk, modality, path};
use crate::harness::{Setup, Station, tools};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const RULES: &str = r#"
fn morph(image, from) { if image.StationName == "NONE" { hold("never"); } }
fn morph_for_research(image, from) { privacy::basic_profile(image); }
fn morph_for_modified(image, from) { privacy::basic_profile(image, #{ dates: "modified", clean_structured: true, clean_graphics: true,
    clean_descriptors: ["head"] }); }
fn route(image, from) { to("research"); to("modified"); }
"#;
const SOURCES: &str = "[[sources]]\nname = \"canary\"\ncalling_ae = [\"CANARY_AE\"]\naddresses = [\"127.0.0.0/8\"]\n";

fn made(folder: &Path) -> Vec<Value> {
    let made = tools::python_json("canaries.py", &["make", &path(folder)]);
    made.as_array().expect("a list").clone()
}

fn of_kind<'a>(made: &'a [Value], kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let text = |one: &'a Value, name: &str| one[name].as_str().expect("a text");
    let wanted = made.iter().filter(move |one| one["kind"] == kind);
    wanted.map(move |one| (text(one, "path"), text(one, "option")))
}

/// A box for which DCMTK is the research archive.
fn research(scp: &Storescp, setup: Setup) -> Station {
    setup
        .key()
        .rules(RULES)
        .sources(SOURCES)
        .archive("research", scp.port, "")
        .folder("modified")
        .start()
}

#[test]
fn nothing_planted_leaves_in_any_transfer_syntax() {
    let setup = Setup::new();
    let scp = Storescp::start(&setup.folder_of("research"), &[]);
    let station = research(&scp, setup);
    let made = made(&station.setup.folder_of("made"));
    let mut sent = 0;
    for (file, option) in of_kind(&made, "plain") {
        dcmtk(
            "storescu",
            station.setup.dicom,
            "CANARY_AE",
            &["-R", option],
            &[PathBuf::from(file)],
        )
        .ok();
        sent += 1;
    }
    for (file, _) in of_kind(&made, "odd") {
        let answer = modality("store", station.setup.dicom, "WAYSTATION", "CANARY_AE", &[file]);
        assert_eq!(answer["sent"][0]["status"], json!(0), "{file}: {answer}");
        sent += 1;
    }
    station.wait_drained(Duration::from_secs(60));
    let held = station.jobs(&["--state", "held"]);
    assert!(held.is_empty(), "{held:?}");
    let judged = tools::python_json(
        "canaries.py",
        &["judge", &path(&scp.folder), &path(&station.setup.folder_of("modified"))],
    );
    let all: Vec<u64> = judged["seen"]["research"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    assert_eq!(judged["problems"], json!({}), "{judged:#}");
    assert_eq!((all.len(), judged["seen"]["modified"].clone()), (sent, json!(all)));
}

#[test]
fn what_stands_behind_the_pixels_does_not_leave() {
    let setup = Setup::new();
    let scp = Storescp::start(&setup.folder_of("research"), &[]);
    let station = research(&scp, setup);
    let made = made(&station.setup.folder_of("made"));
    let mut sent = 0;
    for (file, _) in of_kind(&made, "held") {
        let answer = modality("store", station.setup.dicom, "WAYSTATION", "CANARY_AE", &[file]);
        assert_eq!(answer["sent"][0]["status"], json!(0), "{file}: {answer}");
        sent += 1;
    }
    station.wait_drained(Duration::from_secs(30));
    assert!(sent >= 5);
    let held = station.jobs(&["--state", "held"]);
    assert!(held.iter().all(|job| job["hold_kind"] == "edit"), "{held:?}");
    assert_eq!(held.len(), sent, "{held:?}");
    assert_eq!((scp.data_sets().len(), station.folder("modified").len()), (0, 0));
}

#[test]
fn no_name_date_or_uid_of_pydicoms_files_leaves() {
    let setup = Setup::new();
    let scp = Storescp::start(&setup.folder_of("research"), &[]);
    let rules = r#"
fn morph_for_research(image, from) { privacy::basic_profile(image, #{ pixels: "keep" }); }
fn route(image, from) { to("research"); }"#;
    let station = setup.key().rules(rules).archive("research", scp.port, "").start();
    let list = path(&station.setup.folder_of("corpus.json"));
    let corpus = tools::python_json("corpus.py", &["list", &list]);
    let sent = tools::python_json(
        "corpus.py",
        &[
            "send",
            &list,
            &station.setup.dicom.to_string(),
            "WAYSTATION",
            "PYNETDICOM",
        ],
    );
    assert_eq!(sent, json!({"failed": {}, "sent": corpus["files"]}));
    station.wait_drained(Duration::from_secs(60));
    let judged = tools::python_json("canaries.py", &["corpus", &list, &path(&scp.folder)]);
    assert_eq!(judged["problems"], json!({}), "{judged:#}");
    let arrived = judged["count"]["research"].as_u64().expect("a count");
    let held = station.jobs(&["--state", "held", "--limit", "1000"]);
    assert!(
        arrived >= 110 && arrived + held.len() as u64 >= 140,
        "{judged:#} {held:?}"
    );
    let kinds = ["edit", "conflict"];
    assert!(
        held.iter()
            .all(|job| kinds.iter().any(|kind| job["hold_kind"] == *kind)),
        "{held:?}"
    );
}
