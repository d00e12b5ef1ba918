//! Patient data, planted wherever a peer can put it, is looked for wherever the box writes: logs, metrics, answers, listings.
use crate::harness::peers::{dcmtk, modality, path, send};
use crate::harness::pki::Authority;
use crate::harness::{Archive, Object, SOON, Setup, Station, http, objects, wait_until};
use serde_json::json;

const CANARY: &str = "CANARY";

fn patient(class: &str, number: &str) -> Object {
    let mut object = Object::new(class);
    object.patient_name = "CANARYFAMILY^CANARYGIVEN".to_owned();
    object.patient_id = number.to_owned();
    object.description = Some("CANARYDESCRIPTION".to_owned());
    object
}

const RULES: &str = r#"
fn morph(image, from) { if image.PatientID != "CANARYHOLD" { image.PatientID = "P-" + image.PatientID; } }
fn route(image, from) {
    to("vna");
    to("keep");
    if image.PatientID == "P-CANARYTHROW" { throw "no: " + image.PatientName; }
    if image.PatientID == "P-CANARYCALL" { let x = image.PatientName; x.no_such_function(image.PatientID); }
    if image.PatientID == "P-CANARYPLACE" { to(image.PatientName); }
    if image.PatientID == "P-CANARYNUMBER" { let n = parse_int(image.PatientName); }
    if image.PatientID == "P-CANARYTAG" { let v = image[image.PatientName]; }
    if image.PatientID == "CANARYHOLD" { hold("a rule's own words about " + image.PatientName); }
}"#;

#[track_caller]
fn nothing_in(what: &str, text: &str) {
    let found = text.lines().find(|line| line.to_uppercase().contains(CANARY));
    assert!(found.is_none(), "patient data in {what}: {}", found.unwrap_or_default());
}

/// Traffic of every kind that can go wrong, with patients' names in it.
fn traffic(station: &mut Station, archive: &mut Archive, folder: &std::path::Path) {
    let port = station.setup.dicom;
    let numbers = [
        "CANARYGOOD",
        "CANARYTHROW",
        "CANARYCALL",
        "CANARYPLACE",
        "CANARYNUMBER",
        "CANARYTAG",
        "CANARYHOLD",
    ];
    let objects: Vec<Object> = numbers.map(|number| patient(objects::CT, number)).into();
    let refused = patient(objects::CT, "CANARYREFUSED");
    archive.behave(json!({"mode": "ok", "instances": {refused.sop.clone(): 0xC000},
                          "comment": "CANARYFAMILY IS NOT KNOWN HERE"}));
    send(port, folder, &objects);
    send(port, folder, std::slice::from_ref(&refused));
    // The same UID with other content, and data sets that contradict their command or end too early.
    let mut other = objects[0].clone();
    other.patient_name = "CANARYOTHER".to_owned();
    send(port, folder, &[other]);
    let mut file = std::fs::read(objects[0].write(folder)).expect("written");
    let cut = file
        .windows(12)
        .position(|window| window == b"CANARYFAMILY")
        .expect("the name");
    file.truncate(cut + 14);
    let truncated = folder.join("truncated.dcm");
    std::fs::write(&truncated, file).expect("writable");
    let answer = modality("store", port, "WAYSTATION", "CT1", &[&path(&truncated)]);
    assert_eq!(answer["sent"][0]["status"], json!(0xC000));
    // AE titles that are patients' names.
    assert_eq!(
        modality("refused", port, "WAYSTATION", "CANARY^AE", &[])["code"],
        json!([1, 1, 3])
    );
    assert_eq!(
        modality("refused", port, "CANARY^CALLED", "CT1", &[])["code"],
        json!([1, 1, 7])
    );
    station.wait_metric("jobs_held", &[("kind", "refused")], |n| n == 1.0);
    station.wait_metric("jobs_held", &[("kind", "error")], |n| n == 5.0);
    archive.stop();
    send(port, folder, &[patient(objects::MR, "CANARYLATE")]);
    station.wait_metric("destination_failures_total", &[], |n| n >= 1.0);
    let _ = http::get(station.setup.web, "/CANARYPATH?name=CANARY");
}

fn looks_everywhere(format: &str) {
    let setup = Setup::new();
    let mut archive = Archive::up(&setup.folder_of("vna-peer"));
    let log = format!("format = \"{format}\"\nlevel = \"trace\"");
    let setup = setup
        .rules(RULES)
        .log(&log)
        .folder("keep")
        .archive("vna", archive.port, "tries = 2");
    let mut station = setup.start();
    let folder = station.setup.folder_of("modality");
    std::fs::create_dir_all(&folder).expect("writable");
    traffic(&mut station, &mut archive, &folder);

    nothing_in("the metrics", &station.metrics().text);
    let (_, ready) = http::get(station.setup.web, "/readyz").expect("an answer");
    nothing_in("readiness", &String::from_utf8_lossy(&ready));
    let lanes = station.cli(&["lanes"]).ok().out;
    nothing_in("the lanes", &lanes);
    // A rule's own words are the rule author's: they are shown to operators, and nowhere else.
    let kinds = ["error", "refused", "conflict", "budget"];
    for kind in kinds {
        let listing = station.cli(&["queue", "ls", "--json", "--kind", kind]).ok().out;
        nothing_in("a listing", &listing);
    }
    let every = station.jobs(&["--limit", "1000"]);
    for job in &every {
        if job["hold_kind"] != "rule" {
            nothing_in(
                "the details",
                &station.cli(&["queue", "show", &job["job"].to_string()]).ok().out,
            );
        }
    }
    assert!(every.len() >= 10, "{every:?}");
    station.restart();
    station.terminate();
    nothing_in("fsck", &station.cli(&["spool", "fsck", "--deep"]).out);
    for file in objects::files_in(&station.setup.spool_path()) {
        nothing_in("a name in the spool", &path(&file));
    }
    let log = station.log();
    assert!(log.lines().count() >= 18, "the log says what happened:\n{log}");
    nothing_in("the log", &log);
}

#[test]
fn no_patient_in_human_logs_metrics_or_listings() {
    looks_everywhere("human");
}

#[test]
fn no_patient_in_json_logs_metrics_or_listings() {
    looks_everywhere("json");
}

#[test]
fn no_patient_from_a_certificate() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let foreign = Authority::new(&setup.folder_of("foreign"), "CANARY-AUTHORITY");
    let (server, archive_pair) = (
        ca.sign("server", "waystation"),
        foreign.sign("archive", "CANARY^ARCHIVE"),
    );
    let (known, stranger) = (
        ca.sign("known", "CANARY^PERSON"),
        foreign.sign("stranger", "CANARY^STRANGER"),
    );
    let scp = crate::harness::peers::Storescp::start_tls(&setup.folder_of("scp"), &archive_pair, &ca, "-ic");
    let demand = format!("client_certificate = \"required\"\nclient_ca = {:?}", ca.certificate);
    let sources = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\n\
                   certificate_names = [\"ct1.example\"]\n\
                   [[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let to = format!("tls = {{ ca = {:?}, server_name = \"localhost\" }}", ca.certificate);
    let setup = setup
        .rules(r#"fn route(image, from) { to("storescp"); }"#)
        .archive("storescp", scp.port, &to);
    let station = setup
        .log("level = \"trace\"")
        .sources(sources)
        .listener_tls(&server, &demand)
        .start();
    let trust = path(&ca.certificate);
    let file = [patient(objects::CT, "CANARYID").write(station.setup.path())];
    let as_one = |calling: &str, pair: &crate::harness::pki::Pair| {
        let (key, certificate) = (path(&pair.key), path(&pair.certificate));
        dcmtk(
            "storescu",
            station.setup.dicom,
            calling,
            &["+tls", &key, &certificate, "+cf", &trust, "-R"],
            &file,
        )
    };
    assert_ne!(as_one("CT1", &known).code, Some(0), "bound to another name");
    assert_ne!(as_one("CT1", &stranger).code, Some(0), "another authority");
    as_one("MR1", &known).ok();
    station.wait_metric("destination_failures_total", &[("kind", "tls")], |n| n >= 1.0);
    wait_until("the refusal is logged", SOON, || station.log().contains("certificate"));
    nothing_in("the log", &station.log());
    nothing_in("the metrics", &station.metrics().text);
    nothing_in("the lanes", &station.cli(&["lanes"]).ok().out);
}
