//! pydicom's own test files, as they are and with one edit, from pynetdicom and from DCMTK, in every transfer syntax.
use crate::harness::peers::{Storescp, dcmtk, path};
use crate::harness::{Setup, Station, objects, tools};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const AS_THEY_ARE: &str = r#"fn route(image, from) { to("keep"); to("storescp"); }"#;

struct Corpus {
    list: String,
    files: u64,
    distinct: u64,
    /// Data sets of odd length (a deflated one). DCMTK ends the association at an odd fragment: it can neither send nor take them.
    odd: u64,
}

fn corpus(folder: &Path) -> Corpus {
    let list = path(&folder.join("corpus.json"));
    let found = tools::python_json("corpus.py", &["list", &list]);
    let count = |name: &str| found[name].as_u64().expect("a count");
    let (files, distinct) = (count("files"), count("distinct"));
    assert!(files >= 140, "{found}");
    let syntaxes = found["syntaxes"].as_array().expect("a list").len();
    assert!(
        syntaxes >= 12,
        "implicit, explicit, big endian, deflated and encapsulated: {found}"
    );
    Corpus {
        list,
        files,
        distinct,
        odd: count("odd"),
    }
}

/// A control of the sender itself: with pynetdicom's own event its thread takes answers for itself when it runs late.
#[test]
fn no_answer_is_lost_inside_the_peer() {
    let unanswered = tools::python_json("requestor.py", &["late"]);
    assert_eq!(unanswered["gate"], 0, "{unanswered}");
    assert_ne!(unanswered["event"], 0, "{unanswered}");
}

fn send(station: &Station, corpus: &Corpus) {
    let port = station.setup.dicom.to_string();
    let sent = tools::python_json("corpus.py", &["send", &corpus.list, &port, "WAYSTATION", "PYNETDICOM"]);
    assert_eq!(sent, json!({"failed": {}, "sent": corpus.files}));
}

/// Some UIDs of the corpus stand for several contents: those are held, and a person lets them go.
fn release_conflicts(station: &Station) {
    station.wait_drained(Duration::from_secs(60));
    let held = station.jobs(&["--state", "held", "--limit", "1000"]);
    assert!(held.iter().all(|job| job["hold_kind"] == "conflict"), "{held:?}");
    station.cli(&["queue", "release", "--kind", "conflict"]).ok();
    station.wait_drained(Duration::from_secs(60));
    assert_eq!(station.metric("jobs_held", &[]), 0.0);
}

#[test]
fn every_file_arrives_byte_identical_without_edits() {
    let setup = Setup::new();
    let scp = Storescp::start(&setup.folder_of("scp"), &[]);
    let corpus = corpus(setup.path());
    let station = setup
        .rules(AS_THEY_ARE)
        .folder("keep")
        .archive("storescp", scp.port, "")
        .start();
    send(&station, &corpus);
    station.wait_drained(Duration::from_secs(60));
    let refused = ["--destination", "storescp", "--kind", "refused"];
    assert_eq!(
        station.jobs(&refused).len() as u64,
        corpus.odd,
        "held, and in nobody's way"
    );
    let mut discard = vec!["queue", "discard", "--reason", "odd length"];
    discard.extend(refused);
    station.cli(&discard).ok();
    release_conflicts(&station);
    let all = |count: u64| json!({"wanted": count, "found": count, "missing": [], "strange": []});
    let keep = path(&station.setup.folder_of("keep"));
    let same = |folder: &str, which: &str| tools::python_json("corpus.py", &["same", &corpus.list, folder, which]);
    assert_eq!(same(&keep, "all"), all(corpus.distinct));
    assert_eq!(same(&path(&scp.folder), "even"), all(corpus.distinct - corpus.odd));
}

#[test]
fn with_one_edit_only_the_edited_elements_differ() {
    let rules = r#"
fn morph(image, from) { image.PatientID = "WS-" + image.PatientID; }
fn route(image, from) { to("keep"); }"#;
    let station = Setup::new().rules(rules).folder("keep").start();
    let corpus = corpus(station.setup.path());
    send(&station, &corpus);
    release_conflicts(&station);
    let keep = path(&station.setup.folder_of("keep"));
    let compared = tools::python_json("corpus.py", &["edited", &corpus.list, &keep, "WS-"]);
    assert_eq!(
        compared,
        json!({"problems": {}, "stamps": {}, "arrived": corpus.distinct})
    );
}

/// The same files by dcmsend, once straight to storescp and once through the box: what DCMTK makes of a file on its way out is
/// DCMTK's; the box changes no byte of it.
#[test]
fn what_dcmsend_can_send_arrives_as_if_sent_directly() {
    let setup = Setup::new();
    let direct = Storescp::start(&setup.folder_of("direct"), &[]);
    let behind = Storescp::start(&setup.folder_of("behind"), &[]);
    let corpus = corpus(setup.path());
    let listed: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(&corpus.list).expect("written")).expect("JSON");
    let files: Vec<PathBuf> = listed
        .iter()
        .map(|file| file["path"].as_str().expect("a path").into())
        .collect();
    let station = setup
        .rules(AS_THEY_ARE)
        .folder("keep")
        .archive("storescp", behind.port, "")
        .start();
    let options = ["-nh", "-dn", "-nuc"];
    let straight = dcmtk("dcmsend", direct.port, "DCMSEND", &options, &files);
    let through = dcmtk("dcmsend", station.setup.dicom, "DCMSEND", &options, &files);
    release_conflicts(&station);
    let held = |folder: &Path| -> BTreeSet<String> {
        let digests = tools::python_json("corpus.py", &["digests", &path(folder)]);
        digests["files"]
            .as_array()
            .expect("a list")
            .iter()
            .map(Value::to_string)
            .collect()
    };
    let (mut wanted, found) = (held(&direct.folder), held(&behind.folder));
    // Two files have their UIDs as VR UN, of which dcmsend makes texts such as "31\\2e\\39" in its command: no UIDs, and refused.
    let invented: Vec<String> = wanted
        .iter()
        .filter(|one| one.starts_with("[\"31\""))
        .cloned()
        .collect();
    let answers = |labels: &[(&str, &str)]| station.metric("store_answers_total", labels);
    assert_eq!(
        answers(&[]) - answers(&[("status", "0000")]),
        invented.len() as f64,
        "{through:?}"
    );
    wanted.retain(|one| !invented.contains(one));
    assert!(
        wanted.len() >= 120,
        "dcmsend sent {}: {}{}",
        wanted.len(),
        straight.err,
        through.err
    );
    let missing: Vec<_> = wanted.difference(&found).collect();
    let strange: Vec<_> = found.difference(&wanted).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "missing {missing:?}, strange {strange:?}"
    );
    assert_eq!(held(&station.setup.folder_of("keep")), wanted);
    assert_eq!(objects::files_in(&behind.folder).len(), found.len(), "each once");
}
