//! The box as user of storage commitment: pynetdicom and Orthanc commit to what they took, or do not.
use crate::commitment::{refs, source};
use crate::harness::peers::{Orthanc, send};
use crate::harness::pki::{Authority, Pair};
use crate::harness::{Object, SOON, Setup, Station, free_port, objects, tools, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// pynetdicom's archive, which commits as it is told.
pub struct Archive {
    pub port: u16,
    folder: PathBuf,
    process: Option<tools::Owned>,
    tls: Vec<PathBuf>,
}

impl Archive {
    pub fn up(folder: &Path, behaviour: &Value) -> Self {
        let mut archive = Self::down(folder, behaviour);
        archive.start();
        archive
    }

    pub fn down(folder: &Path, behaviour: &Value) -> Self {
        std::fs::create_dir_all(folder).expect("writable");
        let archive = Self {
            port: free_port(),
            folder: folder.to_owned(),
            process: None,
            tls: Vec::new(),
        };
        archive.behave(behaviour);
        archive
    }

    /// It listens and calls with this certificate.
    pub fn tls(mut self, pair: &Pair, ca: &Authority) -> Self {
        self.tls = vec![pair.certificate.clone(), pair.key.clone(), ca.certificate.clone()];
        self
    }

    pub fn start(&mut self) {
        let mut arguments: Vec<PathBuf> = vec![
            "archive".into(),
            self.port.to_string().into(),
            self.folder.join("journal.jsonl"),
            self.folder.join("behaviour.json"),
        ];
        arguments.extend(self.tls.clone());
        self.process = Some(tools::python_serving("commitment.py", &arguments));
    }

    pub fn behave(&self, behaviour: &Value) {
        let (path, new) = (self.folder.join("behaviour.json"), self.folder.join("behaviour.new"));
        std::fs::write(&new, behaviour.to_string()).expect("writable");
        std::fs::rename(&new, &path).expect("renamed");
    }

    pub fn events(&self, event: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("journal.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    /// How often an instance has come.
    pub fn times_stored(&self, sop: &str) -> usize {
        let stored = self.events("stored");
        stored.iter().filter(|line| line["sop"] == sop).count()
    }

    #[track_caller]
    pub fn wait(&self, event: &str, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} × {event}"), SOON, || {
            self.events(event).len() >= count
        });
        self.events(event)
    }
}

/// A box that sends everything to `vna`, which commits.
fn station(setup: Setup, port: u16, commitment: &str) -> Station {
    let more =
        format!("[destinations.commitment]\nquiet = \"500ms\"\nlinger = \"6s\"\npause = \"100ms\"\n{commitment}");
    setup
        .rules("fn route(image, from) { to(\"vna\"); }")
        .sources(&source(""))
        .archive("vna", port, &more)
        .start()
}

fn waiting(station: &Station) -> f64 {
    station.metric("commitment_awaiting_jobs", &[("destination", "vna")])
}

#[test]
fn an_instance_is_delivered_for_good_when_the_archive_has_committed() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "never"}));
    let mut station = station(setup, archive.port, "answer_within = \"4s\"");
    let sent = Object::many(objects::CT, 3);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait("asked", 3);
    assert_eq!(waiting(&station), 3.0, "sent, and not delivered");
    assert_eq!(
        station.metric("spool_instances", &[("state", "delivered")]),
        0.0,
        "none may leave the cache"
    );
    let jobs = station.jobs(&["--state", "awaiting"]);
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    let listed = station.cli(&["commitment", "ls"]).ok().out;
    assert!(listed.contains("vna") && listed.contains("2.25."), "{listed}");
    // A crash forgets nothing: what is not answered in time is asked again, and not sent again.
    station.kill();
    station.start();
    assert_eq!(waiting(&station), 3.0);
    archive.behave(&json!({"how": "same"}));
    station.wait_metric("commitment_requests_total", &[("result", "lapsed")], |n| n >= 1.0);
    station.wait_metric("commitment_awaiting_jobs", &[("destination", "vna")], |n| n == 0.0);
    station.wait_metric("spool_instances", &[("state", "delivered")], |n| n == 3.0);
    assert_eq!(archive.events("stored").len(), 3, "each was sent once");
    let fsck = {
        station.terminate();
        station.cli(&["spool", "fsck", "--json"])
    };
    assert!(!fsck.out.contains("no such"), "{}", fsck.out);
}

#[test]
fn studies_whose_request_an_archive_refuses_keep_no_other_from_being_committed() {
    let setup = Setup::new();
    let sent = Object::many(objects::CT, 6);
    let refused: Vec<&str> = sent[..3].iter().map(|object| object.sop.as_str()).collect();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "same", "refuse": refused}));
    let station = station(setup, archive.port, "");
    send(station.setup.dicom, station.setup.path(), &sent);
    let committed = [("destination", "vna"), ("result", "committed")];
    station.wait_metric("commitment_answers_total", &committed, |n| n == 3.0);
    station.wait_metric("commitment_requests_total", &[("result", "refused")], |n| n >= 4.0);
    archive.behave(&json!({"how": "same"}));
    station.wait_metric("commitment_answers_total", &committed, |n| n == 6.0);
}

#[test]
fn how_long_an_archive_is_silent_counts_from_the_sending_however_often_it_is_asked() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "never"}));
    let station = station(setup, archive.port, "answer_within = \"1s\"");
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    let vna = [("destination", "vna")];
    let oldest = || station.metric("commitment_oldest_seconds", &vna);
    station.wait_metric("commitment_requests_total", &[("result", "lapsed")], |n| n >= 1.0);
    station.wait_metric("commitment_oldest_seconds", &vna, |n| n >= 1.0);
    let before = oldest();
    station.wait_metric("commitment_requests_total", &[("result", "lapsed")], |n| n >= 2.0);
    station.wait_metric("commitment_requests_total", &[("result", "accepted")], |n| n >= 3.0);
    assert!(oldest() >= before, "{before}");
    station.cli(&["queue", "suspend", "vna", "--reason", "test"]).ok();
    let now = oldest();
    station.wait_metric("commitment_oldest_seconds", &vna, |n| n > now);
}

#[test]
fn an_answer_on_an_association_of_the_archives_own_is_believed_only_from_the_archive() {
    let setup = Setup::new();
    let box_port = setup.dicom;
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "new", "port": box_port}));
    let station = station(setup, archive.port, "addresses = [\"127.0.0.1\"]");
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    let answered = archive.wait("answered", 1);
    assert_eq!(answered[0]["status"], 0, "{answered:?}");
    station.wait_metric("commitment_awaiting_jobs", &[("destination", "vna")], |n| n == 0.0);
    let port = station.setup.dicom.to_string();
    let told = |calling: &str| {
        let spec = json!({"transaction": "2.25.999", "refs": refs(&sent)}).to_string();
        tools::python_json("commitment.py", &["tell", &port, "WAYSTATION", calling, &spec])
    };
    // Nobody asked that.
    assert_eq!(told("VNA")["status"], 0x0115);
    assert_eq!(station.metric("commitment_unmatched_total", &[("source", "vna")]), 1.0);
    // A modality is no archive, and a stranger is not let in.
    assert_eq!(told("CT1")["status"], 0x0115);
    assert_eq!(told("STRANGER")["associated"], false);
    // The archive may tell, and nothing else.
    let stored = tools::python_json("toolkit.py", &["echo", &port, "WAYSTATION", "VNA"]);
    assert_eq!(stored["status"], 0, "{stored}");
}

#[test]
fn what_is_not_committed_is_sent_again_and_held_in_the_end() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "never"}));
    let mut study = Object::many(objects::CT, 3);
    let uid = study[0].study.clone();
    study.iter_mut().for_each(|object| object.study.clone_from(&uid));
    archive.behave(&json!({"how": "same", "fail": {&study[1].sop: 0x0112}, "omit": [&study[2].sop]}));
    let station = station(setup, archive.port, "tries = 2");
    send(station.setup.dicom, station.setup.path(), &study);
    let asked = archive.wait("asked", 1);
    assert_eq!(
        asked[0]["sops"].as_array().map(Vec::len),
        Some(3),
        "one request for the study: {asked:?}"
    );
    archive.wait("stored", 5);
    // The one that was left out is committed now; the other fails again, and a person must look.
    archive.behave(&json!({"how": "same", "fail": {&study[1].sop: 0x0112}}));
    station.wait_metric("jobs_held", &[("destination", "vna"), ("kind", "not_committed")], |n| {
        n >= 1.0
    });
    let held = station.jobs(&["--state", "held"]);
    assert!(
        held[0]["reason"].as_str().unwrap_or_default().contains("0112"),
        "{held:?}"
    );
    archive.behave(&json!({"how": "same"}));
    station.cli(&["queue", "retry", "--destination", "vna"]).ok();
    station.wait_metric("spool_instances", &[("state", "delivered")], |n| n == 3.0);
}

#[test]
fn a_refusal_and_an_outage_cost_no_instance_anything_and_a_person_may_end_the_wait() {
    let setup = Setup::new();
    let mut archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "refuse"}));
    let station = station(setup, archive.port, "");
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("commitment_requests_total", &[("result", "refused")], |n| n >= 2.0);
    assert_eq!((waiting(&station), station.metric("jobs_held", &[])), (2.0, 0.0));
    archive.process = None;
    station.wait_metric("commitment_requests_total", &[("result", "down")], |n| n >= 1.0);
    archive.behave(&json!({"how": "same", "fail": {&sent[0].sop: 0x0110}}));
    let unknown = station.cli(&["commitment", "give-up", "--destination", "nosuch", "--reason", "x"]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.err.contains("no destination nosuch"), "{}", unknown.err);
    let refused = station.cli(&["commitment", "give-up", "--destination", "vna", "--reason", " "]);
    assert_ne!(refused.code, Some(0), "a reason is needed");
    let ended = station
        .cli(&[
            "commitment",
            "give-up",
            "--destination",
            "vna",
            "--reason",
            "the archive is retired",
        ])
        .ok();
    assert!(ended.out.contains("2 jobs"), "{}", ended.out);
    station.wait_metric("spool_instances", &[("state", "delivered")], |n| n == 2.0);
    assert_eq!(waiting(&station), 0.0);
}

/// The modality's answer waits for the archive's.
#[test]
fn end_to_end_waits_for_the_archives_commitment() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "same", "delay": 3}));
    let station = station(setup, archive.port, "");
    let sent = Object::many(objects::CT, 1);
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait("stored", 1);
    let spec = json!({"transaction": "2.25.20", "refs": refs(&sent), "stay": 1});
    let early = crate::commitment::ask(station.setup.dicom, &spec);
    assert_eq!(
        (&early["status"], &early["reports"]),
        (&json!(0), &json!([])),
        "the archive has not committed"
    );
    let spec = json!({"transaction": "2.25.21", "refs": refs(&sent), "stay": 25, "reports": 2});
    let later = crate::commitment::ask(station.setup.dicom, &spec);
    let told = later["reports"].as_array().expect("reports");
    assert!(
        told.len() == 2 && told.iter().all(|report| report["type"] == 1),
        "{later}"
    );
}

/// Orthanc stores, and answers on an association of its own.
#[test]
fn orthanc_commits() {
    let setup = Setup::new();
    let orthanc = Orthanc::committing(&setup.folder_of("orthanc-peer"), setup.dicom);
    let more = "[destinations.commitment]\nquiet = \"500ms\"\nlinger = \"1s\"\naddresses = [\"127.0.0.1\"]";
    let station = setup
        .rules("fn route(image, from) { to(\"orthanc\"); }")
        .archive("orthanc", orthanc.dicom, more)
        .start();
    let sent = Object::many(objects::CT, 4);
    send(station.setup.dicom, station.setup.path(), &sent);
    let committed = [("destination", "orthanc"), ("result", "committed")];
    station.wait_metric("commitment_answers_total", &committed, |n| n == 4.0);
    station.wait_metric("spool_instances", &[("state", "delivered")], |n| n == 4.0);
    assert_eq!(orthanc.instances().len(), 4);
    assert_eq!(station.metric("jobs_held", &[]), 0.0);
}
