//! Where and when images go, with real associations: studies that are waited for, fail-over, share-out, the loop guard; and what
//! the box remembers of a study.
use crate::harness::peers::{modality, send};
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Objects of one study.
fn study(count: usize) -> Vec<Object> {
    let mut objects = Object::many(objects::CT, count);
    let first = objects[0].study.clone();
    for object in &mut objects {
        object.study.clone_from(&first);
    }
    objects
}

fn sent(station: &Station, objects: &[Object]) {
    send(station.setup.dicom, station.setup.path(), objects);
}

#[test]
fn a_delivery_waits_until_its_study_is_stable_over_a_kill_and_urgent_ones_do_not_wait() {
    let rules = r#"
fn route(image, from) {
    to("keep", #{ quiet: "4s", at_most: "60s" });
    to("quick", #{ quiet: "10m", priority: if image.PatientID == "STAT" { "stat" } else { "low" } });
}"#;
    let mut station = Setup::new().rules(rules).folder("keep").folder("quick").start();
    let objects = study(4);
    let start = Instant::now();
    sent(&station, &objects[..2]);
    std::thread::sleep(Duration::from_millis(2_500));
    station.kill();
    station.start();
    sent(&station, &objects[2..3]);
    let last = Instant::now();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(start.elapsed() > Duration::from_secs(5));
    assert!(
        station.folder("keep").is_empty(),
        "the first instance's own four seconds are over, the study's are not"
    );
    wait_until("the whole study", SOON, || station.folder("keep").len() == 3);
    assert!(last.elapsed() >= Duration::from_millis(3_500), "{:?}", last.elapsed());
    assert!(station.folder("quick").is_empty());
    let mut urgent = objects[3].clone();
    urgent.patient_id = "STAT".to_owned();
    sent(&station, &[urgent]);
    wait_until("the urgent one", SOON, || station.folder("quick").len() == 1);
    // A person who asks for it gets it now.
    station.cli(&["queue", "retry", "--destination", "quick"]).ok();
    wait_until("the others", SOON, || station.folder("quick").len() == 4);
}

#[test]
fn a_delay_puts_a_delivery_off_and_a_window_that_is_open_does_not() {
    let rules = r#"
fn route(image, from) {
    to("later", #{ delay: "4s" });
    to("open", #{ within: if route::between("00:00", "12:00", "UTC") { "00:00-13:00" } else { "12:00-23:59" }, zone: "UTC" });
}"#;
    let station = Setup::new().rules(rules).folder("later").folder("open").start();
    let start = Instant::now();
    sent(&station, &study(1));
    wait_until("the open window", SOON, || station.folder("open").len() == 1);
    assert!(station.folder("later").is_empty());
    let jobs = station.jobs(&["--destination", "later"]);
    assert!(jobs[0]["due"].is_string() && jobs[0]["state"] == "queued", "{jobs:?}");
    wait_until("the delayed one", SOON, || station.folder("later").len() == 1);
    assert!(start.elapsed() >= Duration::from_secs(4));
}

#[test]
fn the_next_archive_takes_over_when_the_first_is_down_and_both_never_get_one_instance() {
    let setup = Setup::new();
    let (mut first, second) = (
        Archive::down(&setup.folder_of("first-peer")),
        Archive::up(&setup.folder_of("second-peer")),
    );
    let rules = r#"
fn morph_for_second(image, from) { image.InstitutionName = "SECOND"; }
fn route(image, from) {
    if image.Modality == "MR" { to("first") } else { to_first(["first", "second"], #{ after: "3s" }) }
}"#;
    let station = setup
        .rules(rules)
        .archive("first", first.port, "")
        .archive("second", second.port, "")
        .start();
    let objects = study(5);
    let only_first = Object::new(objects::MR);
    sent(&station, &objects);
    sent(&station, std::slice::from_ref(&only_first));
    second.wait_stored(5);
    assert_eq!(
        station.metric("failovers_total", &[("from", "first"), ("to", "second")]),
        5.0
    );
    first.start();
    first.wait_stored(1);
    station.wait_drained(SOON);
    assert_eq!(
        first.stored(),
        std::slice::from_ref(&only_first.sop),
        "what has no group waits for its own destination"
    );
    // Now that it is up again, it gets what comes.
    let next = study(2);
    sent(&station, &next);
    first.wait_stored(3);
    station.wait_drained(SOON);
    let both: BTreeSet<String> = first.stored().into_iter().collect();
    assert!(second.stored().iter().all(|sop| !both.contains(sop)));
    assert_eq!((first.stored().len(), second.stored().len()), (3, 5));
}

#[test]
fn studies_are_shared_out_whole_and_a_suspended_member_gets_none() {
    let rules = r#"fn route(image, from) { to_one_of(["r1", "r2"]); }"#;
    let station = Setup::new().rules(rules).folder("r1").folder("r2").start();
    let studies: Vec<Vec<Object>> = (0..12).map(|_| study(3)).collect();
    let all: Vec<Object> = studies.iter().flatten().cloned().collect();
    sent(&station, &all);
    station.wait_drained(SOON);
    let (r1, r2) = (station.folder("r1"), station.folder("r2"));
    assert_eq!(r1.len() + r2.len(), all.len());
    assert!(!r1.is_empty() && !r2.is_empty(), "twelve studies went to one member");
    for study in &studies {
        let at_r1 = study.iter().filter(|object| r1.contains_key(&object.sop)).count();
        assert!(at_r1 == 0 || at_r1 == 3, "a study is not split");
    }
    station.cli(&["queue", "suspend", "r1"]).ok();
    let more: Vec<Object> = (0..6).flat_map(|_| study(1)).collect();
    sent(&station, &more);
    station.wait_drained(SOON);
    assert_eq!(station.folder("r1").len(), r1.len());
    assert_eq!(station.folder("r2").len(), r2.len() + 6);
}

#[test]
fn what_came_from_an_archive_does_not_go_back_and_what_comes_round_is_held() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("peer"));
    // The archive sends under the AE title by which we know it.
    let sources = "[[sources]]\nname = \"test\"\ncalling_ae = [\"CT1\", \"VNA\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let rules = r#"
fn morph(image, from) { image.InstitutionName = image.InstitutionName + "+"; }
fn route(image, from) {
    to("vna");
    if image.PatientID != "NOWHERE" { to("keep") }
    if image.PatientID == "BACK" { to("vna", #{ back: true }) }
}"#;
    let station = setup
        .sources(sources)
        .rules(rules)
        .archive("vna", archive.port, "")
        .folder("keep")
        .start();
    let as_vna = |patient: &str| {
        let mut object = Object::new(objects::CT);
        object.patient_id = patient.to_owned();
        let file = object.write(station.setup.path()).to_string_lossy().into_owned();
        let answer = modality("store", station.setup.dicom, "WAYSTATION", "VNA", &[&file]);
        assert_eq!(answer["sent"][0]["status"], json!(0));
        object
    };
    let object = as_vna("PLAIN");
    wait_until("the other destination", SOON, || {
        station.folder("keep").contains_key(&object.sop)
    });
    let nowhere = as_vna("NOWHERE");
    let held = station.jobs(&["--sop", &nowhere.sop]);
    assert_eq!(held[0]["hold_kind"], "no_destination");
    assert!(
        held[0]["reason"].as_str().unwrap_or_default().contains("came from"),
        "{held:?}"
    );
    let wanted = as_vna("BACK");
    archive.wait_stored(1);
    station.wait_drained(SOON);
    assert_eq!(archive.stored(), [wanted.sop]);
    assert_eq!(station.metric("rule_flags_total", &[("flag", "loop")]), 2.0);
    from_a_modality(&station, &archive);
}

/// From the modality everything goes everywhere; and what this box has changed three times comes round no more.
fn from_a_modality(station: &Station, archive: &Archive) {
    let mut object = Object::new(objects::CT);
    for pass in 0..4 {
        let file = object.write(station.setup.path()).to_string_lossy().into_owned();
        let answer = modality("store", station.setup.dicom, "WAYSTATION", "CT1", &[&file]);
        assert_eq!(answer["sent"][0]["status"], json!(0));
        if pass == 3 {
            break;
        }
        archive.wait_stored(pass + 2);
        let sop = object.sop.clone();
        wait_until("the edited image", SOON, || station.folder("keep").contains_key(&sop));
        // A third system gives it a new name and sends it here again.
        let came = station.folder("keep")[&object.sop][0].clone();
        let renamed = Object::new(objects::CT);
        let padded = |sop: &str| format!("{sop:\0<64}").into_bytes();
        let (old, new) = (padded(&object.sop), padded(&renamed.sop));
        let (old, new) = (&old[..object.sop.len()], &new[..renamed.sop.len()]);
        assert_eq!(old.len(), new.len(), "synthetic UIDs are of one length");
        object = renamed.with_data(replaced(&came, old, new));
    }
    let jobs = station.jobs(&["--sop", &object.sop]);
    assert!(
        !jobs.is_empty() && jobs.iter().all(|job| job["hold_kind"] == "rule"),
        "{jobs:?}"
    );
    assert!(
        jobs[0]["reason"].as_str().unwrap_or_default().contains("routing loop"),
        "{jobs:?}"
    );
}

fn replaced(data: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    for at in 0..out.len().saturating_sub(old.len()) {
        if out[at..].starts_with(old) {
            out[at..at + new.len()].copy_from_slice(new);
        }
    }
    out
}

#[test]
fn a_second_patient_in_a_study_is_held_and_a_second_accession_reported() {
    let rules = r#"
fn route(image, from) {
    to("keep");
    study::same_patient(image);
    study::same_accession(image, #{ otherwise: "flag" });
}"#;
    let mut station = Setup::new().rules(rules).folder("keep").start();
    let mut objects = study(5);
    for (object, accession) in objects.iter_mut().zip(["A1", "A1", "A2", "A1", "A1"]) {
        object.accession = accession.to_owned();
    }
    objects[3].patient_id = "SOMEBODY-ELSE".to_owned();
    sent(&station, &objects[..3]);
    assert_eq!(station.metric("rule_flags_total", &[("flag", "second-accession")]), 1.0);
    station.kill();
    station.start();
    sent(&station, &objects[3..]);
    station.wait_drained(SOON);
    let arrived: BTreeSet<String> = station.folder("keep").into_keys().collect();
    let wanted = [0, 1, 2, 4].map(|at| objects[at].sop.clone());
    assert_eq!(arrived, wanted.into_iter().collect());
    let held = station.jobs(&["--state", "held"]);
    assert_eq!(
        (held.len(), held[0]["sop_instance"].as_str()),
        (1, Some(objects[3].sop.as_str()))
    );
    assert!(
        held[0]["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("another patient"),
        "{held:?}"
    );
    assert!(
        !station.log().contains("SOMEBODY-ELSE"),
        "no value of a data set is logged"
    );
}

#[test]
fn of_two_patients_that_arrive_at_once_one_is_held_whoever_comes_first() {
    let rules = r#"fn route(image, from) { to("keep"); study::same_patient(image); }"#;
    let station = Setup::new().rules(rules).folder("keep").start();
    for round in 0..5 {
        let mut objects = study(8);
        for (number, object) in objects.iter_mut().enumerate() {
            object.patient_id = format!("R{round}-P{number}");
        }
        std::thread::scope(|scope| {
            for object in &objects {
                let (port, folder) = (station.setup.dicom, station.setup.path());
                scope.spawn(move || send(port, folder, std::slice::from_ref(object)));
            }
        });
        station.wait_drained(SOON);
        assert_eq!(
            station.folder("keep").len(),
            round + 1,
            "one patient of eight is the study's first"
        );
        assert_eq!(station.jobs(&["--state", "held"]).len(), (round + 1) * 7);
    }
}
