//! The box as provider of storage commitment: pynetdicom asks, and is told.
use crate::harness::peers::{path, send};
use crate::harness::pki::{Authority, Pair};
use crate::harness::{Object, SOON, Setup, free_port, objects, tools, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A source with what it says about commitment.
pub fn source(commitment: &str) -> String {
    format!(
        "[[sources]]\nname = \"ct\"\ncalling_ae = [\"CT1\", \"STORESCU\"]\naddresses = [\"127.0.0.0/8\"]\n\
         [sources.commitment]\narrives_within = \"1s\"\nretry_max = \"1s\"\n{commitment}\n"
    )
}

fn rules(to: &str) -> String {
    format!("fn route(image, from) {{ to(\"{to}\"); }}")
}

/// One request of pynetdicom.
#[track_caller]
pub fn ask(port: u16, spec: &Value) -> Value {
    let port = port.to_string();
    tools::python_json("commitment.py", &["ask", &port, "WAYSTATION", "CT1", &spec.to_string()])
}

pub fn refs(objects: &[Object]) -> Value {
    objects.iter().map(|object| json!([object.class, object.sop])).collect()
}

/// Where a modality takes its answers.
pub struct Address {
    pub port: u16,
    journal: PathBuf,
    process: Option<tools::Owned>,
    arguments: Vec<PathBuf>,
}

impl Address {
    pub fn down(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("writable");
        Self {
            port: free_port(),
            journal: folder.join("reports.jsonl"),
            process: None,
            arguments: Vec::new(),
        }
    }

    pub fn tls(mut self, pair: &Pair, ca: &Authority) -> Self {
        self.arguments = vec![pair.certificate.clone(), pair.key.clone(), ca.certificate.clone()];
        self
    }

    pub fn start(&mut self) {
        let mut arguments: Vec<PathBuf> = vec!["listen".into(), self.port.to_string().into(), self.journal.clone()];
        arguments.push("CT1".into());
        arguments.extend(self.arguments.clone());
        self.process = Some(tools::python_serving("commitment.py", &arguments));
    }

    pub fn reports(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.journal).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} reports"), SOON, || self.reports().len() >= count);
        self.reports()
    }
}

#[test]
fn a_modality_is_told_over_its_own_association_while_that_is_open() {
    let station = Setup::new()
        .rules(&rules("keep"))
        .folder("keep")
        .sources(&source("retrieve_ae = \"VNA_QR\""))
        .start();
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    let wanted = json!({"transaction": "2.25.1", "refs": refs(&sent), "stay": 20, "scp": false});
    let answer = ask(station.setup.dicom, &wanted);
    assert_eq!(answer["status"], 0, "{answer}");
    assert_eq!(
        answer["roles"]["1.2.840.10008.1.20.1"],
        json!([true, false]),
        "{answer}"
    );
    let report = &answer["reports"][0];
    assert_eq!(
        (&report["type"], &report["transaction"]),
        (&json!(1), &json!("2.25.1")),
        "{answer}"
    );
    assert_eq!(report["committed"], refs(&sent));
    assert_eq!((&report["failed"], &report["retrieve"]), (&json!({}), &json!("VNA_QR")));
    assert_eq!(report["instance"], "1.2.840.10008.1.20.1.1");
    // Told once, and never again: nothing is open, and the ledger of the queue is clean.
    station.wait_metric("commitment_reports_total", &[("result", "taken")], |n| n == 1.0);
    station.wait_metric("commitment_demands_open", &[("state", "decided")], |n| n == 0.0);
    let listed = station.cli(&["commitment", "ls", "--json"]).json();
    assert_eq!(listed["demands"], json!([]), "{listed}");
}

#[test]
fn failures_have_their_reasons_and_the_others_are_committed() {
    let station = Setup::new()
        .rules(&rules("keep"))
        .folder("keep")
        .sources(&source("policy = \"edge\""))
        .start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    let list = json!([
        [objects::CT, sent[0].sop],
        [objects::MR, sent[1].sop],
        [objects::CT, "1.2.3.4.5.999"]
    ]);
    let answer = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.2", "refs": list, "stay": 20}),
    );
    let report = &answer["reports"][0];
    assert_eq!(report["type"], 2, "{answer}");
    assert_eq!(report["committed"], json!([[objects::CT, sent[0].sop]]));
    let failed = json!({&sent[1].sop: 0x0119, "1.2.3.4.5.999": 0x0112});
    assert_eq!(report["failed"], failed, "{answer}");
    // The same transaction once more: in use.
    let again = json!({"transaction": "2.25.2", "refs": refs(&sent[..1]), "stay": 20});
    let answer = ask(station.setup.dicom, &again);
    assert_eq!(answer["status"], 0, "{answer}");
    let report = &answer["reports"][0];
    assert_eq!(
        (&report["type"], &report["failed"]),
        (&json!(2), &json!({&sent[0].sop: 0x0131})),
        "{answer}"
    );
}

#[test]
fn wrong_requests_are_refused_in_the_words_of_the_standard() {
    let station = Setup::new()
        .rules(&rules("keep"))
        .folder("keep")
        .sources(&source(""))
        .start();
    let port = station.setup.dicom;
    let with = |key: &str, value: Value| {
        let mut spec = json!({"transaction": "2.25.3", "refs": [[objects::CT, "1.2.3"]]});
        spec[key] = value;
        ask(port, &spec)["status"].as_u64().unwrap_or_default()
    };
    for (key, value, status) in [
        ("omit", json!(["TransactionUID"]), 0x0115),
        ("omit", json!(["ReferencedSOPSequence"]), 0x0115),
        ("omit", json!(["ReferencedSOPClassUID"]), 0x0115),
        ("omit", json!(["ReferencedSOPInstanceUID"]), 0x0115),
        ("refs", json!([]), 0x0115),
        ("type", json!(2), 0x0123),
        ("instance", json!("1.2.840.10008.1.20.1.2"), 0x0112),
    ] {
        assert_eq!(with(key, value.clone()), status, "{key} {value}");
    }
    assert_eq!(station.metric("commitment_demands_total", &[]), 0.0);
    // Refused by policy: not even the context.
    let refused = Setup::new()
        .folder("keep")
        .rules(&rules("keep"))
        .sources(&source("policy = \"refuse\""))
        .start();
    let answer = ask(refused.setup.dicom, &json!({"transaction": "2.25.4", "refs": []}));
    assert_eq!(answer["accepted"], json!([objects::CT]), "{answer}");
}

/// The box is killed between the request and the report, the modality is away all the time, and is told once.
#[test]
fn an_accepted_request_outlives_a_kill_and_a_modality_that_is_gone() {
    let setup = Setup::new();
    let mut address = Address::down(&setup.folder_of("address"));
    let lines = format!("host = \"127.0.0.1\"\nport = {}", address.port);
    let mut station = setup
        .rules(&rules("keep"))
        .folder("keep")
        .sources(&source(&lines))
        .start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    let answer = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.5", "refs": refs(&sent)}),
    );
    assert_eq!((&answer["status"], &answer["reports"]), (&json!(0), &json!([])));
    station.kill();
    station.start();
    station.wait_metric("commitment_reports_total", &[("result", "failed")], |n| n >= 1.0);
    address.start();
    let reports = address.wait(1);
    assert_eq!(reports[0]["transaction"], "2.25.5");
    assert_eq!(
        (&reports[0]["kind"], &reports[0]["committed"]),
        (&json!(1), &refs(&sent))
    );
    assert_eq!(
        (&reports[0]["calling"], &reports[0]["called"]),
        (&json!("WAYSTATION"), &json!("CT1"))
    );
    assert_eq!(
        reports[0]["we_are"],
        json!([true, false]),
        "by role selection: {reports:?}"
    );
    station.wait_metric("commitment_reports_total", &[("result", "taken")], |n| n == 1.0);
    station.kill();
    station.start();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(address.reports().len(), 1, "told once");
}

#[test]
fn a_modality_is_told_over_tls() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let (theirs, own) = (ca.sign("modality", "modality"), ca.sign("box", "waystation"));
    let mut address = Address::down(&setup.folder_of("address")).tls(&theirs, &ca);
    address.start();
    let lines = format!(
        "host = \"127.0.0.1\"\nport = {}\ntls = {{ ca = {:?}, certificate = {:?}, key = {:?}, server_name = \"localhost\" }}",
        address.port, ca.certificate, own.certificate, own.key
    );
    let station = setup
        .rules(&rules("keep"))
        .folder("keep")
        .sources(&source(&lines))
        .start();
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.6", "refs": refs(&sent)}),
    );
    assert_eq!(address.wait(1)[0]["committed"], refs(&sent));
}

/// The levels differ in what they promise: at the edge at once, end to end only when the archive has it.
#[test]
fn edge_answers_from_the_spool_and_end_to_end_when_the_archive_has_it() {
    let setup = Setup::new();
    let mut archive = crate::harness::Archive::down(&setup.folder_of("vna-peer"));
    let sources = format!(
        "{}[[sources]]\nname = \"mr\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n\
         commitment = {{ policy = \"edge\" }}\n",
        source("")
    );
    let station = setup
        .rules(&rules("vna"))
        .archive("vna", archive.port, "")
        .sources(&sources)
        .start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    let port = station.setup.dicom.to_string();
    let edge = json!({"transaction": "2.25.8", "refs": refs(&sent), "stay": 20}).to_string();
    let edge = tools::python_json("commitment.py", &["ask", &port, "WAYSTATION", "MR1", &edge]);
    assert_eq!(edge["reports"][0]["type"], 1, "{edge}");
    let early = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.7", "refs": refs(&sent), "stay": 2}),
    );
    assert_eq!(
        (&early["status"], &early["reports"]),
        (&json!(0), &json!([])),
        "nothing is promised yet"
    );
    archive.start();
    archive.wait_stored(2);
    // It has no address: it is told when it associates again.
    let later = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.9", "refs": refs(&sent), "stay": 20, "reports": 2}),
    );
    let told: Vec<&Value> = later["reports"].as_array().expect("reports").iter().collect();
    assert!(
        told.len() == 2 && told.iter().all(|report| report["type"] == 1),
        "{later}"
    );
    station.wait_metric(
        "commitment_demanded_instances_total",
        &[("source", "ct"), ("result", "committed")],
        |n| n == 4.0,
    );
    // A delivery that a person has discarded was never made: a modality must not delete.
    let lost = Object::many(objects::CT, 1);
    archive.stop();
    send(station.setup.dicom, station.setup.path(), &lost);
    station
        .cli(&["queue", "discard", "--destination", "vna", "--reason", "test"])
        .ok();
    let answer = ask(
        station.setup.dicom,
        &json!({"transaction": "2.25.10", "refs": refs(&lost), "stay": 20}),
    );
    let told = &answer["reports"][0];
    assert_eq!(
        (&told["type"], &told["failed"]),
        (&json!(2), &json!({&lost[0].sop: 0x0112})),
        "{answer}"
    );
}

/// A source without an address is told over whatever association it opens: not only over one that is open when it is looked for, every two
/// seconds.
#[test]
fn a_brief_association_is_enough_to_be_told() {
    let setup = Setup::new();
    let mut archive = crate::harness::Archive::down(&setup.folder_of("vna-peer"));
    let station = setup
        .rules(&rules("vna"))
        .archive("vna", archive.port, "")
        .sources(&source(""))
        .start();
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    let asked = json!({"transaction": "2.25.21", "refs": refs(&sent)});
    assert_eq!(ask(station.setup.dicom, &asked)["status"], 0);
    archive.start();
    let decided = [("source", "ct"), ("state", "decided")];
    station.wait_metric("commitment_demands_open", &decided, |n| n == 1.0);
    // What it asks now is not decided for a second.
    let other = json!({"transaction": "2.25.22", "refs": refs(&Object::many(objects::CT, 1)), "stay": 1.5});
    let told = ask(station.setup.dicom, &other);
    assert_eq!(told["reports"][0]["transaction"], "2.25.21", "{told}");
}

#[test]
fn storage_commitment_is_no_class_of_images_and_its_list_is_bounded() {
    let station = Setup::new()
        .rules(&rules("keep"))
        .folder("keep")
        .sources(&source(""))
        .start();
    // 20,001 references: refused, and the association goes on.
    let many: Vec<Value> = (0..20_001).map(|n| json!([objects::CT, format!("1.2.{n}")])).collect();
    let file = station.setup.folder_of("spec.json");
    std::fs::write(&file, json!({"transaction": "2.25.11", "refs": many}).to_string()).expect("writable");
    let port = station.setup.dicom.to_string();
    let answer = tools::python_json(
        "commitment.py",
        &["ask", &port, "WAYSTATION", "CT1", &format!("@{}", path(&file))],
    );
    assert_eq!(answer["status"], 0x0213, "{answer}");
    assert_eq!(
        station.metric("commitment_demands_total", &[("result", "accepted")]),
        0.0
    );
}
