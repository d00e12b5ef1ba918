//! The hostile corpus (`tests/peers/abuse_*.py`): each case has its documented answer, costs its own connection, job or
//! lane, and nothing else. `make hostile` runs these tests alone and ends with their count.
//! A test binary of its own, one test at a time: what it measures must not be the load of other tests.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;

use harness::pki::Authority;
use harness::{SOON, Setup, Station, free_port, tools, wait_until};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deadlines short enough that a peer that stalls is left within the patience of `abuse.py`.
const DEADLINES: &str = r#"timeouts = { handshake = "1500ms", association = "1500ms", idle = "1500ms", transfer = "1500ms", write = "2s", release = "500ms" }"#;

/// Ports for the behaviours of `abuse_archive.py` and `abuse_states.py`.
const ARCHIVES: usize = 130;

/// Cases that the corpus has at least; fewer would mean that some were not run.
const CASES_MIN: u64 = 690;

/// What the corpus may add to the memory of the box, allocator's own reserve included.
const GROWTH_MAX_KIB: i64 = 96 << 10;

const RULES: &str = r#"
fn deep(n) { deep(n + 1) }

fn route(image, from) {
    to("keep");
    if image.has("StationName") {
        let named = image.StationName;
        if named != "" { to(named); }
    }
    if image.has("StudyID") {
        let word = image.StudyID;
        if word == "LOOP" { loop { } }
        if word == "DOUBLE" { let s = "x"; loop { s += s; } }
        if word == "PUSH" { let a = []; loop { a.push(1); } }
        if word == "DEEP" { deep(0); }
        if word == "INDEX" { let a = [1]; a[7]; }
        if word == "THROW" { throw "stop"; }
        if word == "NOWHERE" { to("no" + "where"); }
        if word == "REGEX" { image.StudyID.matches("(" + "("); }
        if word == "REDOS" { image.StudyID.matches("(E*)*(E+)+(.*O)*[^S]$"); }
        if word == "DIVIDE" { let zero = 0; 1 / zero; }
        if word == "EDITPATH" { image.values("../" + "x"); }
    }
}"#;

struct Corpus {
    station: Station,
    environment: Value,
}

fn corpus() -> Corpus {
    let setup = Setup::new().rules(RULES).listener(DEADLINES);
    let pki = setup.path().join("pki");
    let (own, strangers) = (Authority::new(&pki, "ca"), Authority::new(&pki, "strangers"));
    let server = own.sign("server", "box");
    let (client, other) = (own.sign("client", "client-tls"), own.sign("other", "somebody-else"));
    let stranger = strangers.sign("stranger", "client-tls");
    let (secure, ports): (u16, Vec<u16>) = (free_port(), (0..ARCHIVES).map(|_| free_port()).collect());
    let keep = setup.path().join("keep");
    std::fs::create_dir_all(&keep).expect("writable");
    let mut text = format!(
        "[limits]\nmax_instance = \"8MiB\"\n\n[[listeners]]\nname = \"secure\"\naddress = \"127.0.0.1:{secure}\"\n\
         ae_titles = [\"WAYSTATION\"]\n{DEADLINES}\n[listeners.tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\n\
         [[destinations]]\nkind = \"folder\"\nname = \"keep\"\npath = {keep:?}\n\
         template = \"{{PatientID}}/{{StudyInstanceUID}}/{{SOPInstanceUID}}.dcm\"\n\n",
        server.certificate, server.key, own.certificate
    );
    for (number, port) in ports.iter().enumerate() {
        let _ = write!(
            text,
            "[[destinations]]\nkind = \"dicom\"\nname = \"bad_{number:03}\"\nhost = \"127.0.0.1\"\nport = {port}\n\
             called_ae = \"BAD\"\ncalling_ae = \"WAYSTATION\"\nprobe = \"1s\"\nstuck = \"4s\"\ntries = 2\n\
             retry = {{ first = \"100ms\", max = \"300ms\" }}\n\
             timeouts = {{ connect = \"1s\", association = \"1s\", response = \"1s\", transfer = \"1s\", release = \"500ms\" }}\n\n"
        );
    }
    let sources = "[[sources]]\nname = \"test\"\ncalling_ae = [\"CT1\", \"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n\
                   [[sources]]\nname = \"secure\"\ncalling_ae = [\"TLS1\"]\naddresses = [\"127.0.0.0/8\"]\n\
                   certificate_names = [\"client-tls\"]\n";
    let station = setup.sources(sources).toml(&text).start();
    let environment = json!({
        "port": station.setup.dicom, "tls": secure, "web": station.setup.web, "pid": station.pid(),
        "state": station.setup.path(), "keep": keep, "control": station.setup.path().join("control.sock"),
        "archives": ports, "ca": own.certificate,
        "client_certificate": client.certificate, "client_key": client.key,
        "other_certificate": other.certificate, "other_key": other.key,
        "stranger_certificate": stranger.certificate, "stranger_key": stranger.key,
    });
    Corpus { station, environment }
}

fn kib(report: &Value, key: &str) -> i64 {
    report[key].as_i64().expect("a number of KiB")
}

#[test]
fn every_hostile_case_has_its_documented_answer_and_costs_nobody_else() {
    let _alone = alone();
    let Corpus {
        mut station,
        environment,
    } = corpus();
    let file = station.setup.path().join("environment.json");
    std::fs::write(&file, environment.to_string()).expect("writable");
    let mut arguments = vec![file.to_string_lossy().into_owned()];
    arguments.extend(std::env::var("HOSTILE_ONLY").ok());
    let mut all = vec![tools::script("hostile.py").to_string_lossy().into_owned()];
    all.extend(arguments);
    let ran = tools::run(&tools::python(), &all, std::time::Duration::from_secs(300)).ok();
    let failures: Vec<&str> = ran.out.lines().filter(|line| line.contains("\"got\"")).collect();
    let report: Value = serde_json::from_str(ran.out.lines().last().unwrap_or_default()).expect("a report");
    let (passed, failed) = (report["passed"].as_u64(), report["failed"].as_u64());
    println!(
        "hostile cases: {} passed, {} failed",
        passed.unwrap_or_default(),
        failed.unwrap_or(1)
    );
    assert!(
        failures.is_empty() && failed == Some(0),
        "{}\n{}",
        failures.join("\n"),
        station.log_tail()
    );
    assert!(station.running() && report["same_process"] == json!(true));
    if std::env::var_os("HOSTILE_ONLY").is_some() {
        return;
    }
    assert!(passed >= Some(CASES_MIN), "only {passed:?} cases ran");
    let good = &report["good"];
    assert!(
        good["failures"] == json!([]) && good["count"].as_u64() > Some(50),
        "the good modality: {good}"
    );
    assert!(good["p99_s"].as_f64() < Some(1.0), "the good modality waited: {good}");
    let growth = kib(&report, "rss_after_kib") - kib(&report, "rss_before_kib");
    assert!(growth < GROWTH_MAX_KIB, "the box grew by {growth} KiB: {report}");
    station.wait_metric("associations_open", &[], |open| open == 0.0);
    let torn: Vec<String> = station
        .log()
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_err())
        .map(str::to_owned)
        .collect();
    assert_eq!(torn, Vec::<String>::new(), "lines of the log that somebody else wrote");
    for sop in good["sops"].as_array().expect("UIDs") {
        let name = format!("{}.dcm", sop.as_str().expect("a UID"));
        let at = station
            .setup
            .path()
            .join("keep/SYN-1/1.2.826.0.1.3680043.10.1")
            .join(&name);
        wait_until(&name, SOON, || at.exists());
    }
}

/// Runs `flood.py` against a box with these limits.
fn flooded(limits: &str, count: u32, bytes: u32, p99: f64) -> Value {
    let _alone = alone();
    let setup = Setup::new()
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep");
    let mut station = setup.toml(limits).log("format = \"json\"\nlevel = \"error\"").start();
    let arguments = [
        station.setup.dicom.to_string(),
        station.pid().to_string(),
        count.to_string(),
        bytes.to_string(),
        "5".to_owned(),
    ];
    let report = tools::python_json("flood.py", &arguments);
    println!("{count} connections of {bytes} bytes, {limits}: {report}");
    assert!(station.running() && report["same_process"] == json!(true), "{report}");
    let good = &report["good"];
    assert!(
        good["failures"] == json!([]) && good["count"].as_u64() > Some(5),
        "the good modality: {report}"
    );
    assert!(good["p99_s"].as_f64() < Some(p99), "the good modality waited: {report}");
    report
}

#[test]
fn ten_thousand_silent_connections_do_not_delay_a_good_modality() {
    let report = flooded("", 10_000, 0, 1.0);
    assert!(report["peak_open"].as_u64() >= Some(9_900), "{report}");
    let growth = kib(&report, "rss_peak_kib") - kib(&report, "rss_before_kib");
    assert!(
        growth < 10_000 * 24,
        "more than 24 KiB for a silent connection: {report}"
    );
}

#[test]
fn when_all_places_are_taken_the_oldest_silent_connection_goes_and_a_good_modality_stays() {
    let report = flooded("[limits]\nmax_pending = 300", 2_000, 0, 1.0);
    assert!(report["ended"].as_u64() >= Some(1_000), "{report}");
    assert!(report["descriptors"].as_u64() < Some(1_000), "{report}");
}

#[test]
fn unfinished_requests_of_a_mebibyte_are_bounded_together() {
    let report = flooded("", 400, 1_000_000, 3.0);
    let growth = kib(&report, "rss_peak_kib") - kib(&report, "rss_before_kib");
    assert!(
        growth < 352 << 10,
        "400 MB of unfinished requests took {growth} KiB: {report}"
    );
}

/// A box with two sources, and what `crowd.py` makes of it.
fn crowded(verb: &str, count: u32) -> (Station, Value) {
    let sources = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\nmax_associations = 20\n\
                   [[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let setup = Setup::new().rules(r#"fn route(image, from) { to("keep"); }"#);
    let mut station = setup
        .sources(sources)
        .folder("keep")
        .log("format = \"json\"\nlevel = \"error\"")
        .start();
    let (port, pid) = (station.setup.dicom.to_string(), station.pid().to_string());
    let script = tools::script("crowd.py").to_string_lossy().into_owned();
    let arguments = [script, verb.to_owned(), port, pid, count.to_string()];
    let within = std::time::Duration::from_secs(240 + u64::from(count) / 100);
    let report = tools::run(&tools::python(), &arguments, within).json();
    println!("{verb}: {report}");
    assert!(station.running() && report["same_process"] == json!(true), "{report}");
    (station, report)
}

#[test]
fn a_thousand_associations_of_one_source_take_only_its_own_places() {
    let _alone = alone();
    let (_station, report) = crowded("crowd", 1_000);
    assert_eq!(report["answers"], json!({"accepted": 20, "2/3/2": 980}), "{report}");
    let good = &report["good"];
    assert!(
        good["failures"] == json!([]) && good["count"].as_u64() > Some(20),
        "the good modality: {report}"
    );
    assert!(good["p99_s"].as_f64() < Some(1.0), "the good modality waited: {report}");
}

/// What associations that come and go may add after the first fifth of them; a leak of 100 bytes for each would be more.
const LEAK_MAX_KIB: i64 = 6 << 10;

#[test]
fn associations_that_come_and_go_leave_nothing_behind() {
    let _alone = alone();
    let asked = std::env::var("HOSTILE_ASSOCIATIONS").unwrap_or_default();
    let count = if asked.is_empty() {
        3_000
    } else {
        asked.parse().expect("HOSTILE_ASSOCIATIONS is a number")
    };
    let (station, report) = crowded("leak", count);
    let growth = kib(&report, "rss_late_kib") - kib(&report, "rss_early_kib");
    assert!(growth < LEAK_MAX_KIB, "grew by {growth} KiB: {report}");
    station.wait_metric("associations_open", &[], |open| open == 0.0);
}
