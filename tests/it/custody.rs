//! The custody of instances, told from outside: by command line and HTTP, to those who may know.
use crate::harness::peers::send;
use crate::harness::{Archive, Object, SOON, Setup, Station, objects};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use waystation::base::clock::Clock;
use waystation::spool::FactKind;

pub const RULES: &str = r#"
fn morph(image, from) { accession::pad(image, 8, "RA"); }
fn route(image, from) { if image.StudyDescription != "NOWHERE" { to("vna"); } }"#;

const CUSTODIAN: &str = "c0ffee00c0ffee00c0ffee00c0ffee00";
pub const VIEWER: &str = "5eeb1e005eeb1e005eeb1e005eeb1e00";

pub fn with_callers(mut setup: Setup) -> Setup {
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

pub fn patient(id: &str, accession: &str) -> Object {
    let mut object = Object::new(objects::CT);
    (object.patient_id, object.accession) = (id.to_owned(), accession.to_owned());
    "CANARY^SECRET".clone_into(&mut object.patient_name);
    object
}

/// A request by hand; the answer's status, head and body.
pub fn ask(station: &Station, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String, Value) {
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
    let mut sops: Vec<String> = instances
        .iter()
        .map(|one| one["sop_instance"].as_str().unwrap_or_default().to_owned())
        .collect();
    // Two that arrive in the same moment have no order.
    sops.sort();
    sops
}

#[test]
fn an_instance_is_traced_by_all_its_names() {
    let (station, _archive, sent) = traced_box();
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
    let mut pages = [sops(&page), sops(&rest)];
    assert!(pages.iter().all(|one| one.len() == 1));
    pages.sort();
    assert_eq!(pages.concat(), [sent[0].sop.clone(), sent[1].sop.clone()]);
}

/// Two instances of one patient and one of another, delivered.
fn traced_box() -> (Station, Archive, [Object; 3]) {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let station = with_callers(setup)
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
    (station, archive, sent)
}

#[test]
fn the_story_goes_from_received_to_delivered_and_each_question_is_on_the_ledger() {
    let (mut station, _archive, sent) = traced_box();
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
        accesses.len() >= 3
            && accesses
                .iter()
                .all(|fact| fact.contains("uid ") && fact.contains("trace by")),
        "{accesses:?}"
    );
    station.cli(&["ledger", "verify"]).ok();
}

/// What is of no single instance stands in no trace: the ledger itself shows it.
#[test]
fn the_ledger_is_listed_by_kind_and_time_in_pages() {
    let (station, _archive, sent) = traced_box();
    let reason = ["--reason", "the line is being repaired"];
    station.cli(&[&["queue", "suspend", "vna"], &reason[..]].concat()).ok();
    station.cli(&["queue", "resume", "vna"]).ok();
    let words = station.cli(&["ledger", "ls", "--kind", "suspended,resumed"]).ok().out;
    let lines: Vec<&str> = words.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].contains("suspended") && lines[1].contains("resumed"),
        "oldest first: {words}"
    );
    assert!(
        lines[0].contains("vna") && lines[0].contains("by uid ") && lines[0].contains("the line is being repaired")
    );

    let page = |more: &[&str]| station.cli(&[&["ledger", "ls", "--json"], more].concat()).ok().json();
    let stored = page(&["--kind", "stored", "--limit", "2"]);
    let of = |page: &Value| -> Vec<String> {
        let lines = page["lines"].as_array().expect("lines").iter();
        let uid = |line: &Value| line["detail"]["sop_instance"].as_str().expect("a UID").to_owned();
        lines.map(uid).collect()
    };
    assert_eq!(of(&stored), [sent[1].sop.as_str(), sent[2].sop.as_str()]);
    let before = stored["before"].to_string();
    let first = page(&["--kind", "stored", "--limit", "2", "--before", &before]);
    assert_eq!(of(&first), [sent[0].sop.as_str()]);
    assert_eq!(first["before"], Value::Null);
    assert_eq!(of(&page(&["--kind", "stored", "--since", "1h"])).len(), 3);
    assert_eq!(of(&page(&["--kind", "stored", "--until", "1h"])).len(), 0);
    // Who looked is on the ledger too.
    let looked = page(&["--kind", "accessed", "--limit", "1"]);
    assert_eq!(looked["lines"][0]["text"], "0 lines of the ledger");
    let wrong = station.cli(&["ledger", "ls", "--kind", "suspension"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("suspended"), "{wrong:?}");
    nothing_leaked(&station);
}

/// The log has no patient's name or id.
fn nothing_leaked(station: &Station) {
    let log = station.log();
    assert!(!log.contains("CANARY"), "{log}");
}

/// The facts of one kind in a stopped box's ledger, as JSON.
pub fn facts(station: &Station, kind: FactKind) -> Vec<String> {
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
    send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&sent));
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
    let accession = json!({"value": "71"}).to_string();
    assert_eq!(
        ask(&station, "POST", "/v1/trace", Some(VIEWER), &accession).0,
        403,
        "its accession number"
    );
    let (status, _, body) = ask(
        &station,
        "POST",
        "/v1/trace",
        Some(VIEWER),
        r#"{"value": "71", "by": "patients"}"#,
    );
    assert_eq!(status, 422);
    for kind in waystation::custody::query::Subject::ALL {
        assert!(body.to_string().contains(kind.word()), "{body}");
    }
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
fn wrong_long_and_too_many_questions_are_refused_in_words_that_repeat_nothing() {
    let station = with_callers(Setup::new()).rules(RULES).folder("vna").start();
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("{\"value\": \"\"}", 400),
        ("{\"value\": \"1\", \"limit\": 100000}", 400),
        ("{\"value\": \"1\", \"by\": \"name\"}", 422),
        ("{\"value\": \"MRN-CANARY-9\", \"more\": 1}", 422),
        (&format!("{{\"value\": \"{}\"}}", "9".repeat(5_000)), 413),
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
    nothing_leaked(&station);
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
