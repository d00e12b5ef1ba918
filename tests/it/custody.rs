//! The custody of instances, told from outside: by command line and HTTP, to those who may know; and the day's reconciliation with
//! differences that were planted.
use crate::harness::peers::send;
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use waystation::base::clock::Clock;
use waystation::spool::FactKind;

const RULES: &str = r#"
fn morph(image, from) { accession::pad(image, 8, "RA"); }
fn route(image, from) { if image.StudyDescription != "NOWHERE" { to("vna"); } }"#;

const CUSTODIAN: &str = "c0ffee00c0ffee00c0ffee00c0ffee00";
const VIEWER: &str = "5eeb1e005eeb1e005eeb1e005eeb1e00";

fn with_callers(mut setup: Setup) -> Setup {
    for (name, role, token) in [("admin", "custodian", CUSTODIAN), ("nurse", "viewer", VIEWER)] {
        let file = setup.folder_of(name);
        std::fs::write(&file, token).expect("writable");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
        setup = setup.toml(&format!(
            "[[web.callers]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken_file = {file:?}\n"
        ));
    }
    setup
}

fn patient(id: &str, accession: &str) -> Object {
    let mut object = Object::new(objects::CT);
    (object.patient_id, object.accession) = (id.to_owned(), accession.to_owned());
    "CANARY^SECRET".clone_into(&mut object.patient_name);
    object
}

/// A request by hand; the answer's status, head and body.
fn ask(station: &Station, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", station.setup.web)).expect("it serves");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("a status");
    (
        status,
        head.to_owned(),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

fn trace(station: &Station, arguments: &[&str]) -> Value {
    let mut all = vec!["trace", "--json"];
    all.extend(arguments);
    serde_json::from_str(&station.cli(&all).ok().out).expect("JSON")
}

fn sops(answer: &Value) -> Vec<String> {
    let instances = answer["instances"].as_array().expect("a list");
    instances
        .iter()
        .map(|one| one["sop_instance"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn an_instance_is_traced_by_all_its_names_from_received_to_delivered() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let mut station = with_callers(setup)
        .rules(RULES)
        .archive("vna", archive.port, "")
        .start();
    let sent = [
        patient("MRN-CANARY-1", "71"),
        patient("MRN-CANARY-1", "72"),
        patient("MRN-CANARY-2", "73"),
    ];
    send(station.setup.dicom, station.setup.path(), &sent);
    archive.wait_stored(3);
    station.wait_drained(SOON);

    assert_eq!(
        sops(&trace(&station, &["MRN-CANARY-1"])),
        [sent[0].sop.clone(), sent[1].sop.clone()]
    );
    let series = format!("{}.1", sent[2].study);
    let id = trace(&station, &[&sent[2].sop])["instances"][0]["instance"]
        .as_str()
        .expect("an id")
        .to_owned();
    for value in [
        "MRN-CANARY-2",
        "73",
        "RA00000073",
        &sent[2].study,
        &series,
        &sent[2].sop,
        &id,
    ] {
        assert_eq!(sops(&trace(&station, &[value])), [sent[2].sop.clone()], "{value}");
    }
    assert!(sops(&trace(&station, &["MRN-CANARY-3"])).is_empty());
    assert!(sops(&trace(&station, &["--by", "accession", "MRN-CANARY-1"])).is_empty());
    let page = trace(&station, &["--limit", "1", "MRN-CANARY-1"]);
    let rest = trace(
        &station,
        &["--after", page["next"].as_str().expect("more"), "MRN-CANARY-1"],
    );
    assert_eq!(
        [sops(&page), sops(&rest)].concat(),
        [sent[0].sop.clone(), sent[1].sop.clone()]
    );

    let told = trace(&station, &[&sent[0].sop]);
    let one = &told["instances"][0];
    assert_eq!(one["patient"]["id"], "MRN-CANARY-1");
    assert_eq!(one["deliveries"][0]["state"], "delivered");
    let steps: Vec<&str> = one["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["what"].as_str())
        .collect();
    assert_eq!(steps, ["received", "decided", "stored", "queued", "delivered"]);
    let words = station.cli(&["trace", &sent[0].sop]).ok().out;
    assert!(
        words.contains("received") && words.contains("delivered") && words.contains("0000"),
        "{words}"
    );

    // On standard input the value stands in no history, and in no process list.
    let mut asked = std::process::Command::new(env!("CARGO_BIN_EXE_waystation"))
        .args(["trace", "-", "-c"])
        .arg(station.setup.config())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    asked
        .stdin
        .take()
        .expect("piped")
        .write_all(b"MRN-CANARY-2\n")
        .expect("written");
    let answer = asked.wait_with_output().expect("it ends");
    assert!(String::from_utf8_lossy(&answer.stdout).contains(&sent[2].sop));

    assert!(station.terminate().success());
    nothing_leaked(&station);
    let accesses = facts(&station, FactKind::Accessed);
    assert!(
        accesses.len() >= 12
            && accesses
                .iter()
                .all(|fact| fact.contains("uid ") && fact.contains("trace by")),
        "{accesses:?}"
    );
    station.cli(&["ledger", "verify"]).ok();
}

/// Neither log nor metrics nor the index have a patient's name or id.
fn nothing_leaked(station: &Station) {
    let log = station.log();
    assert!(!log.contains("CANARY"), "{log}");
    for file in objects::files_in(&station.setup.spool_path().join("index")) {
        let bytes = std::fs::read(&file).expect("readable");
        // What rules remember of a study and the map of accessions hold values by design; a whole patient's name nothing does.
        assert!(
            !bytes.windows(13).any(|found| found == b"CANARY^SECRET"),
            "{}",
            file.display()
        );
    }
}

/// The facts of one kind in a stopped box's ledger, as JSON.
fn facts(station: &Station, kind: FactKind) -> Vec<String> {
    let path = station.setup.spool_path();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (spool, _) = crate::fixture::open(&path, Clock::System.now());
    let facts = runtime
        .block_on(spool.facts(None, 100_000))
        .expect("the ledger is read");
    runtime.block_on(spool.close());
    let wanted = facts.iter().filter(|fact| fact.kind == kind);
    wanted.map(|fact| serde_json::to_string(fact).expect("JSON")).collect()
}

#[test]
fn over_http_only_known_callers_are_heard_and_patients_shown_to_custodians_only() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let mut station = with_callers(setup)
        .rules(RULES)
        .archive("vna", archive.port, "")
        .start();
    let sent = patient("MRN-CANARY-1", "71");
    send(station.setup.dicom, station.setup.path(), &[sent.clone()]);
    archive.wait_stored(1);
    station.wait_drained(SOON);
    let by_patient = json!({"value": "MRN-CANARY-1", "by": "patient"}).to_string();
    for token in [None, Some(""), Some("wrong"), Some(&CUSTODIAN[1..])] {
        let (status, head, body) = ask(&station, "POST", "/v1/trace", token, &by_patient);
        assert_eq!(status, 401, "{token:?}");
        assert!(head.to_lowercase().contains("www-authenticate: bearer") && !body.to_string().contains(&sent.sop));
    }
    // A token in a URL is none.
    let in_url = format!("/v1/reconciliation?token={CUSTODIAN}");
    assert_eq!(ask(&station, "GET", &in_url, None, "").0, 401);

    let (status, head, body) = ask(&station, "POST", "/v1/trace", Some(CUSTODIAN), &by_patient);
    assert_eq!((status, sops(&body)), (200, vec![sent.sop.clone()]));
    assert_eq!(body["instances"][0]["patient"]["name"], "CANARY^SECRET");
    assert!(head.to_lowercase().contains("cache-control: no-store"));
    let id = body["instances"][0]["instance"].as_str().expect("an id").to_owned();

    assert_eq!(ask(&station, "POST", "/v1/trace", Some(VIEWER), &by_patient).0, 403);
    assert_eq!(
        ask(
            &station,
            "POST",
            "/v1/trace",
            Some(VIEWER),
            &json!({"value": "MRN-CANARY-1"}).to_string()
        )
        .0,
        403
    );
    for (method, path, question) in [
        ("POST", "/v1/trace".to_owned(), json!({"value": sent.study}).to_string()),
        ("GET", format!("/v1/instances/{id}"), String::new()),
    ] {
        let (status, _, body) = ask(&station, method, &path, Some(VIEWER), &question);
        assert_eq!((status, sops(&body)), (200, vec![sent.sop.clone()]));
        assert!(
            !body.to_string().contains("CANARY") && body["instances"][0]["patient"].is_null(),
            "{body}"
        );
        let (_, _, body) = ask(&station, method, &path, Some(CUSTODIAN), &question);
        assert_eq!(body["instances"][0]["patient"]["id"], "MRN-CANARY-1");
    }
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("{\"value\": \"\"}", 400),
        ("{\"value\": \"1\", \"limit\": 100000}", 400),
        ("{\"value\": \"1\", \"by\": \"name\"}", 422),
        ("{\"value\": \"MRN-CANARY-9\", \"more\": 1}", 422),
        (&format!("{{\"value\": \"{}\"}}", "9".repeat(9_000)), 413),
    ] {
        let (found, _, answer) = ask(&station, "POST", "/v1/trace", Some(CUSTODIAN), body);
        assert_eq!(found, status, "{body:.40}");
        assert!(!answer.to_string().contains("CANARY"), "{answer}");
    }
    assert_eq!(ask(&station, "GET", "/v1/trace", Some(CUSTODIAN), "").0, 405);
    assert_eq!(ask(&station, "GET", "/v1/instances/7", Some(CUSTODIAN), "").0, 400);
    let (status, _, end) = ask(&station, "GET", "/v1/ledger", Some(VIEWER), "");
    assert!(
        status == 200 && end["head"].as_str().is_some_and(|head| head.len() == 64),
        "{end}"
    );
    let metrics = station.metrics().text;
    assert!(!metrics.contains("CANARY") && !metrics.contains(CUSTODIAN));
    let mut last = 0;
    for _ in 0..130 {
        last = ask(&station, "GET", "/v1/ledger", Some(VIEWER), "").0;
    }
    assert_eq!(last, 429);
    station.terminate();
    nothing_leaked(&station);
    assert!(!station.log().contains(CUSTODIAN));
    let accesses = facts(&station, FactKind::Accessed).join("\n");
    assert!(accesses.contains("http:admin") && accesses.contains("http:nurse") && accesses.contains("refused"));
    assert!(
        !accesses.contains("CANARY") && accesses.contains("with patient data"),
        "{accesses}"
    );
}

#[test]
fn a_token_file_that_others_can_read_stops_the_start() {
    let setup = with_callers(Setup::new()).rules(RULES).folder("vna");
    std::fs::set_permissions(setup.folder_of("nurse"), std::fs::Permissions::from_mode(0o644)).expect("ours");
    let mut station = setup.idle();
    station.launch();
    assert!(!station.wait_ended().success());
    assert!(
        station.log().contains("chmod 600") && !station.log().contains(VIEWER),
        "{}",
        station.log_tail()
    );
}

#[test]
fn map_tells_from_outside_what_a_modality_had_sent() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let station = setup.rules(RULES).archive("vna", archive.port, "").start();
    send(station.setup.dicom, station.setup.path(), &[patient("M1", "77")]);
    archive.wait_stored(1);
    let there = station.cli(&["map", "accession", "RA00000077"]).ok().out;
    assert!(there.contains("sent 77  written RA00000077  source test"), "{there}");
    let back = station.cli(&["map", "accession", "77", "--reverse", "--json"]).ok().out;
    let back: Value = serde_json::from_str(&back).expect("JSON");
    assert_eq!(back["entries"][0]["written"], "RA00000077");
    let none = station.cli(&["map", "accession", "RA00000078"]).ok().out;
    assert!(none.contains("not renamed"), "{none}");
}

#[test]
fn a_promotion_without_a_running_box_comes_to_the_ledger_at_its_next_start() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    assert!(station.terminate().success());
    let promoted = station.cli(&["rules", "promote", "--force", "--reason", "quiet night"]);
    assert_eq!(promoted.code, Some(0), "{promoted:?}");
    for _ in 0..2 {
        station.start();
        assert!(station.terminate().success());
    }
    let told = facts(&station, FactKind::Rules);
    let quiet: Vec<&String> = told.iter().filter(|fact| fact.contains("quiet night")).collect();
    assert_eq!(quiet.len(), 1, "once, and not at each start: {told:?}");
    // With a box that runs, the box tells it, and the next start does not tell it again.
    station.start();
    station
        .cli(&["rules", "promote", "--force", "--reason", "busy day"])
        .ok();
    for _ in 0..2 {
        assert!(station.terminate().success());
        station.start();
    }
    station.terminate();
    let told = facts(&station, FactKind::Rules);
    assert_eq!(
        told.iter().filter(|fact| fact.contains("busy day")).count(),
        1,
        "{told:?}"
    );
}

fn payload_of(station: &Station, object: &Object) -> PathBuf {
    let data = object.data();
    let holds = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes.ends_with(&data));
    let files = objects::files_in(&station.setup.spool_path().join("payload"));
    files
        .into_iter()
        .find(holds)
        .expect("a payload with the object's bytes")
}

fn reconcile(station: &Station) -> Value {
    let ran = station.cli(&["reconcile", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    let differs = report["differences"].as_array().is_some_and(|all| !all.is_empty());
    assert_eq!(ran.code, Some(i32::from(differs)), "a script sees it");
    report
}

fn named(report: &Value, kind: &str) -> Vec<String> {
    let all = report["differences"].as_array().expect("a list");
    let of_kind = all.iter().filter(|one| one["kind"] == kind);
    of_kind
        .map(|one| one["sop_instance"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn an_outage_is_open_and_planted_losses_are_differences_by_name() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let mut station = with_callers(setup)
        .rules(RULES)
        .archive("vna", archive.port, "")
        .start();
    let mut sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    let report = reconcile(&station);
    assert_eq!((&report["counts"], &report["fate"]["open"]), (&json!({}), &json!(5)));
    assert_eq!(report["sources"][0]["source"], "test");
    for (key, count) in [("received", 5), ("acknowledged", 5), ("refused", 0)] {
        assert_eq!(report["sources"][0][key], count, "{key}");
    }
    assert_eq!(report["sources"][0]["studies"].as_array().map(Vec::len), Some(5));
    assert_eq!(report["destinations"][0]["open"], 5);
    assert_eq!(station.metric("reconcile_open_deliveries", &[]), 5.0);
    assert_eq!(station.metric("reconcile_differences", &[]), 0.0);

    // A payload is deleted behind the box's back; another instance is decided on by no rule; a third is refused.
    std::fs::remove_file(payload_of(&station, &sent[1])).expect("deleted");
    sent.push(patient("M1", ""));
    sent[5].description = Some("NOWHERE".to_owned());
    send(station.setup.dicom, station.setup.path(), &sent[5..]);
    crate::harness::peers::modality("bad_instances", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    let report = reconcile(&station);
    assert_eq!(named(&report, "missing_payload"), [sent[1].sop.clone()]);
    assert!(named(&report, "undecided").contains(&sent[5].sop), "{report}");
    assert!(
        report["counts"]["refused"].as_u64().is_some_and(|count| count > 0),
        "{report}"
    );
    assert!(report["sources"][0]["refused"].as_u64().is_some_and(|count| count > 0));
    assert_eq!(
        station.metric("reconcile_differences", &[("kind", "missing_payload")]),
        1.0
    );
    let words = station.cli(&["reconcile", "--kept"]).out;
    assert!(words.contains("DIFFERENCES") && words.contains(&sent[1].sop), "{words}");
    let today = report["day"].as_str().expect("a day").to_owned();
    for ends in ["json", "txt"] {
        let file = station
            .setup
            .path()
            .join("reconciliation")
            .join(format!("{today}.{ends}"));
        let text = std::fs::read_to_string(&file).expect("it is kept");
        assert!(
            text.contains("missing_payload") && !text.contains("SYNTHETIC"),
            "{text}"
        );
    }
    let (status, _, kept) = ask(
        &station,
        "GET",
        &format!("/v1/reconciliation/{today}"),
        Some(VIEWER),
        "",
    );
    assert_eq!((status, &kept["counts"]), (200, &report["counts"]));
    assert_eq!(ask(&station, "POST", "/v1/reconciliation", Some(VIEWER), "{}").0, 200);
    assert_eq!(
        ask(
            &station,
            "POST",
            "/v1/reconciliation",
            Some(VIEWER),
            "{\"day\": \"2999-01-01\"}"
        )
        .0,
        400
    );
    station.cli(&["reconcile", "--day", "yesterday"]);

    // Jobs that stand in no queue, as a faulty index would have them.
    station.terminate();
    station.setup.plant("lose-due");
    station.start();
    let more = Object::many(objects::MR, 6);
    send(station.setup.dicom, station.setup.path(), &more);
    let report = reconcile(&station);
    let stuck = named(&report, "stuck_job");
    assert!(
        !stuck.is_empty() && stuck.iter().all(|sop| more.iter().any(|one| one.sop == *sop)),
        "{report}"
    );
}

#[test]
fn a_hold_that_is_dropped_without_a_word_is_a_lost_delivery() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    archive.behave(json!({"mode": "status", "status": 0xC001}));
    let mut setup = setup.rules(RULES).archive("vna", archive.port, "tries = 1");
    setup.plant("drop-hold");
    let station = setup.start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_drained(SOON);
    wait_until("both are gone from the queue", SOON, || station.jobs(&[]).is_empty());
    let mut lost = named(&reconcile(&station), "lost_job");
    lost.sort();
    let mut wanted: Vec<String> = sent.iter().map(|one| one.sop.clone()).collect();
    wanted.sort();
    assert_eq!(lost, wanted);
}

/// A day that was missed is reconciled at the next start: the box's clock is a day ahead then.
#[test]
fn a_missed_day_is_caught_up_after_a_downtime() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    station.wait_drained(SOON);
    let today = reconcile(&station)["day"].as_str().expect("a day").to_owned();
    assert!(station.terminate().success());
    let folder = station.setup.path().join("reconciliation");
    std::fs::remove_dir_all(&folder).expect("ours");
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(Path::new(library).exists(), "{library} is missing (Debian: faketime)");
    let preload = format!("LD_PRELOAD={library}");
    let wrapper = [
        "env",
        &preload,
        "FAKETIME=+3d",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "NO_FAKE_STAT=1",
    ];
    station.setup.wrapper = wrapper.map(str::to_owned).to_vec();
    station.start();
    wait_until("three days are reconciled", SOON, || reports(&folder) >= 2);
    wait_until("the missed day has its report", SOON, || {
        folder.join(format!("{today}.json")).exists()
    });
    let text = std::fs::read_to_string(folder.join(format!("{today}.json"))).expect("it is kept");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&report["complete"], &report["fate"]["delivered"]),
        (&json!(true), &json!(2)),
        "{report}"
    );
}

fn reports(folder: &Path) -> usize {
    let json = |path: &PathBuf| path.extension().is_some_and(|ends| ends == "json");
    objects::files_in(folder).iter().filter(|path| json(path)).count()
}
