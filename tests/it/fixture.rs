//! Frozen spools: one of each format that a box has ever written, made by that version, with what it knew written down beside it.
//! `freeze` makes the one of today's format (run by hand, once, when the format is new); the tests of `upgrade.rs` open them all.
use crate::harness::peers::send;
use crate::harness::{Object, SOON, Setup, Station, free_port, objects, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use waystation::base::clock::{Clock, Wall};
use waystation::base::names::{DestinationId, Uid};
use waystation::base::units::{Share, Size};
use waystation::spool::{self, Filter, JobState, Spool};
use waystation::telemetry::metrics::Metrics;

pub fn folder(format: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/spool-v{format}"))
}

/// The rules of the frozen box: renamed accessions, a hold, four ways out.
const RULES: &str = r#"
fn morph(image, from) { accession::pad(image, 8, "RA"); }
fn route(image, from) {
    if image.StudyDescription == "HOLD" { hold("frozen: look at it"); }
    if image.StudyDescription == "QUEUE" { to("vna"); }
    else if image.StudyDescription == "KEPT" { to("pacs"); }
    else if image.StudyDescription == "LATER" { to("late"); }
    else if image.StudyDescription != "NOWHERE" { to("keep"); }
}"#;

fn object(number: u32, description: &str) -> Object {
    let mut object = Object::new(objects::CT);
    object.sop = format!("1.2.826.0.1.3680043.10.3.1.{number}");
    object.study = format!("1.2.826.0.1.3680043.10.3.2.{}", number / 10);
    object.patient_id = format!("FRZ-{}", number / 10);
    object.patient_name = "FROZEN^PATIENT".to_owned();
    object.accession = format!("{}", 70 + number / 10);
    object.description = Some(description.to_owned());
    object.pixels = vec![number as u8; 64];
    object
}

/// Makes the box, its traffic and its orders; stopped when this returns.
fn frozen_box() -> Station {
    let setup = Setup::new();
    // It takes what it is asked to keep, and never says whether it does.
    let pacs = crate::committing::Archive::up(&setup.folder_of("pacs-peer"), &json!({"how": "never"}));
    let asks = "[destinations.commitment]\nquiet = \"300ms\"\nlinger = \"300ms\"";
    let mut station = setup
        .spool("low_water = \"1MiB\"\ncritical = \"1MiB\"\nballast = \"0B\"\ncache_high_water = \"2MiB\"")
        .rules(RULES)
        .folder("keep")
        .archive("vna", free_port(), "")
        .archive("late", free_port(), "")
        .archive("pacs", pacs.port, asks)
        .start();
    station
        .cli(&["queue", "suspend", "late", "--reason", "frozen: moving house"])
        .ok();
    let all = [
        (10, "KEEP"),
        (11, "KEEP"),
        (20, "QUEUE"),
        (21, "QUEUE"),
        (22, "QUEUE"),
        (23, "QUEUE"),
        (30, "HOLD"),
        (40, "LATER"),
        (50, "NOWHERE"),
        (60, "QUEUE"),
        (70, "KEPT"),
    ];
    let sent: Vec<Object> = all.iter().map(|(number, text)| object(*number, text)).collect();
    send(station.setup.dicom, station.setup.path(), &sent);
    // A repeat, and another content under a UID that is known.
    send(station.setup.dicom, station.setup.path(), &sent[..1]);
    let mut other = object(60, "QUEUE");
    other.pixels = vec![99; 64];
    send(station.setup.dicom, station.setup.path(), &[other]);
    wait_until("two are delivered", SOON, || station.folder("keep").len() == 2);
    let order = |arguments: &[&str]| station.cli(arguments).ok();
    order(&["queue", "hold", "--sop", &sent[3].sop, "--reason", "frozen: wrong side"]);
    order(&[
        "queue",
        "discard",
        "--sop",
        &sent[4].sop,
        "--reason",
        "frozen: test images",
    ]);
    order(&[
        "queue",
        "reroute",
        "--to",
        "keep",
        "--sop",
        &sent[5].sop,
        "--reason",
        "frozen: by hand",
    ]);
    wait_until("three are delivered", SOON, || station.folder("keep").len() == 3);
    commitments(&station, &sent, &pacs);
    assert!(station.terminate().success());
    station
}

/// What an archive has not answered, and three requests of a modality: one that waits, one that it was not told of, one that is over.
fn commitments(station: &Station, sent: &[Object], pacs: &crate::committing::Archive) {
    pacs.wait("asked", 1);
    station.wait_metric("commitment_outstanding_requests", &[], |n| n == 1.0);
    let ask = |transaction: &str, object: &Object, stay: u32| {
        let list = crate::commitment::refs(std::slice::from_ref(object));
        let spec = json!({"transaction": transaction, "refs": list, "stay": stay});
        let answer = crate::commitment::ask(station.setup.dicom, &spec);
        assert_eq!(answer["status"], 0, "{answer}");
    };
    ask("2.25.3", &sent[0], 20);
    station.wait_metric("commitment_reports_total", &[("result", "taken")], |n| n == 1.0);
    ask("2.25.1", &sent[sent.len() - 1], 0);
    ask("2.25.2", &sent[1], 0);
    let decided = [("state", "decided")];
    station.wait_metric("commitment_demands_open", &decided, |n| n == 1.0);
}

/// What a spool knows, as far as every version can say it: the other versions are held against this.
pub async fn known(spool: &Spool) -> Value {
    let list = async |state| {
        let filter = Filter {
            state,
            ..Filter::default()
        };
        spool.list(filter, None, 10_000).await.expect("the index is read")
    };
    let mut rows = list(None).await;
    // Listed together once, the oldest first.
    let mut ended = list(Some(JobState::Delivered)).await;
    ended.extend(list(Some(JobState::Discarded)).await);
    ended.sort_by_key(|row| row.instance.as_ref().map(|instance| instance.id));
    rows.extend(ended);
    let row = |row: &spool::Row| {
        let instance = row.instance.as_ref().expect("every job has its instance");
        // When these were frozen, nobody told how often a job was tried that had ended.
        let attempts = if row.state.is_over() { 0 } else { row.attempts };
        json!({
            "job": row.job.0, "destination": row.destination.as_ref().map(ToString::to_string), "state": row.state,
            "priority": row.priority, "attempts": attempts, "enqueued": row.enqueued.0, "outcome": row.outcome,
            "hold": row.hold, "held_since": row.held_since.map(|at| at.0), "plan": row.plan.len(),
            "instance": instance.id.to_string(), "source": instance.source.to_string(), "sop": instance.sop_instance.to_string(),
            "study": instance.study.as_ref().map(ToString::to_string), "length": instance.length, "arrival": instance.arrival.0,
            "digest": instance.digest, "rules": instance.rule_epoch, "syntax": instance.transfer_syntax.to_string(),
        })
    };
    let mut aliases = Vec::new();
    for study in 1..=6_u32 {
        let written = format!("RA{:06}", 70 + study);
        for value in [written, format!("{}", 70 + study)] {
            for reverse in [false, true] {
                let found = spool
                    .aliases("accession", &value, reverse)
                    .await
                    .expect("the map is read");
                aliases.extend(found.into_iter().map(|found| {
                    json!([
                        value,
                        reverse,
                        found.sent.into_exposed(),
                        found.written.into_exposed(),
                        found.first.0,
                        found.last.0
                    ])
                }));
            }
        }
    }
    let mut studies = Vec::new();
    for study in 1..=6_u32 {
        let uid = Uid::parse(&format!("1.2.826.0.1.3680043.10.3.2.{study}")).expect("a UID");
        let seen = spool.study_seen(&uid).await.expect("the studies are read");
        studies.push(seen.map(|seen| format!("{} values", seen.values.len())));
    }
    let demands = spool.demands().await.expect("the requests are read");
    let demands = demands.iter().map(|of| {
        let transaction = of.transaction.to_string();
        json!([
            transaction,
            of.source.to_string(),
            of.references,
            format!("{:?}", of.progress)
        ])
    });
    let outstanding = spool.outstanding().await.expect("the requests are read");
    let outstanding = outstanding.iter().map(|of| {
        let to = of.destination.as_ref().map(ToString::to_string);
        json!([of.transaction.to_string(), to, of.references, of.until.map(|at| at.0)])
    });
    let (demands, outstanding): (Vec<Value>, Vec<Value>) = (demands.collect(), outstanding.collect());
    let suspended = |name: &str| spool.is_suspended(&DestinationId::parse(name).expect("a name"));
    let suspended: Vec<bool> = ["keep", "vna", "late"].iter().map(|name| suspended(name)).collect();
    json!({
        "jobs": rows.iter().map(row).collect::<Vec<_>>(),
        "facts": spool.facts(None, 100_000).await.expect("the ledger is read"),
        "aliases": aliases, "studies": studies,
        "suspended": suspended, "demands": demands, "outstanding": outstanding,
    })
}

/// Opens a spool at a time at which nothing of the fixture is forgotten, with marks that no disk of a test machine is below:
/// by the default ones, whoever has a tenth of the disk free or less gives the delivered instances of the fixture away.
pub fn open(path: &Path, now: Wall) -> (Spool, spool::OpenReport) {
    let config = spool::Config {
        path: path.to_owned(),
        low_water: Share::Bytes(0),
        critical: Size(0),
        ballast: Size(0),
        cache_high_water: Share::Bytes(0),
        ..spool::Config::default()
    };
    Spool::open(config, Clock::manual(now), Metrics::new()).expect("it opens")
}

/// Unpacks a frozen spool into `to`, which then is one.
pub fn thaw(format: u64, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    let unpacked = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(folder(format).join("spool.tar.gz"))
        .arg("-C")
        .arg(to)
        .status();
    assert!(unpacked.expect("tar runs").success());
}

/// What was known when it was frozen.
pub fn expected(format: u64) -> Value {
    let text = std::fs::read_to_string(folder(format).join("expected.json")).expect("it stands beside the spool");
    let mut expected: Value = serde_json::from_str(&text).expect("JSON");
    for job in expected["jobs"].as_array_mut().expect("jobs") {
        // When these were frozen, what a person had given up was called delivered.
        if job["outcome"] == "discarded" {
            job["state"] = json!("discarded");
        }
    }
    expected
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the fixture of today's format anew, which only a new format asks for: make freeze-spool"]
async fn freeze() {
    let station = tokio::task::spawn_blocking(frozen_box).await.expect("the box was made");
    let spool_path = station.setup.spool_path();
    let now = Clock::System.now();
    let (spool, _) = open(&spool_path, now);
    let mut known = known(&spool).await;
    spool.close().await;
    known["now"] = json!(now.0);
    let format: u64 = std::fs::read_to_string(spool_path.join("waystation-spool"))
        .expect("a marker")
        .trim()
        .parse()
        .expect("a number");
    let to = folder(format);
    std::fs::create_dir_all(&to).expect("writable");
    for entry in std::fs::read_dir(spool_path.join("index")).expect("an index") {
        let path = entry.expect("an entry").path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("LOG"))
        {
            std::fs::remove_file(path).expect("ours");
        }
    }
    // Empty files of the pool are no part of what is known.
    for file in objects::files_in(&spool_path.join("payload")) {
        if file.metadata().expect("a file").len() == 0 {
            std::fs::remove_file(file).expect("ours");
        }
    }
    let packed = std::process::Command::new("tar")
        .args(["--owner=0", "--group=0", "--sort=name", "-czf"])
        .arg(to.join("spool.tar.gz"))
        .arg("-C")
        .arg(&spool_path)
        .arg(".")
        .status();
    assert!(packed.expect("tar runs").success());
    std::fs::write(
        to.join("expected.json"),
        serde_json::to_string_pretty(&known).expect("JSON"),
    )
    .expect("writable");
}
