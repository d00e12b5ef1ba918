//! Running the box: start, stop, health, metrics, configuration, and the tools beside it.
use crate::harness::peers::{modality, path, send};
use crate::harness::tools::{program, run};
use crate::harness::{Archive, Object, SOON, Setup, Station, free_port, http, objects, wait_until};
use rustix::process::Signal;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;

#[test]
fn promtool_finds_the_metrics_clean() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let station = setup.rules(TO_VNA).archive("vna", archive.port, "").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 3));
    modality("bad_instances", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    modality("refused", station.setup.dicom, "OTHER", "CT1", &[]);
    archive.wait_stored(10);
    station.wait_drained(SOON);
    let file = station.setup.folder_of("metrics.txt");
    let text = station.metrics().text;
    std::fs::write(&file, &text).expect("writable");
    let check = format!("{} check metrics < {}", path(&program("promtool")), path(&file));
    let ran = run(Path::new("/bin/sh"), &["-c".to_owned(), check], Duration::from_secs(30));
    assert!(
        ran.code == Some(0) && ran.out.trim().is_empty() && ran.err.trim().is_empty(),
        "{ran:?}"
    );
    for name in ["received", "store_answers", "deliveries"] {
        assert!(text.contains(name), "{name}");
    }
    assert_eq!(station.metric("instances_received_total", &[("source", "test")]), 10.0);
    assert!(station.metric("delivery_lag_seconds_count", &[("destination", "vna")]) == 10.0);
}

#[test]
fn only_health_and_metrics_are_served_over_http() {
    let station = Setup::new().rules(TO_VNA).folder("vna").start();
    let status = |path: &str| http::get(station.setup.web, path).map(|(status, _)| status);
    assert_eq!(["/healthz", "/readyz", "/metrics"].map(status), [Some(200); 3]);
    assert_eq!(
        ["/", "/metrics/../etc/passwd", "/queue", "/admin"].map(status),
        [Some(404); 4]
    );
}

#[test]
fn sigterm_finishes_what_is_under_way_and_ends_with_0() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    archive.behave(json!({"mode": "slow", "ms": 1500}));
    let mut station = setup
        .rules(TO_VNA)
        .archive("vna", archive.port, "associations = 1")
        .start();
    let sent = Object::many(objects::CT, 4);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("jobs_in_flight", &[], |n| n == 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert_eq!(station.terminate().code(), Some(0), "{}", station.log_tail());
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "within its bound: {:?}",
        began.elapsed()
    );
    archive.behave(json!({"mode": "ok"}));
    station.start();
    archive.wait_stored(4);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent);
}

#[test]
fn sigterm_is_bounded_even_if_an_archive_never_answers() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    archive.behave(json!({"mode": "silent"}));
    let mut station = setup
        .rules(TO_VNA)
        .archive("vna", archive.port, "associations = 1")
        .start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("an instance under way", SOON, || {
        archive.events("unanswered").len() == 1
    });
    let began = Instant::now();
    station.terminate();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    archive.behave(json!({"mode": "ok"}));
    station.start();
    archive.wait_stored(2);
    station.wait_drained(SOON);
    archive.holds_exactly(&sent);
}

/// With jobs that are due and workers that have just been told to stop, a lane once claimed them again and again.
#[test]
fn sigterm_right_after_the_start_ends_at_once() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let mut station = setup.rules(TO_VNA).archive("vna", archive.port, "").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 3));
    station.terminate();
    for _ in 0..10 {
        station.start();
        let began = Instant::now();
        assert_eq!(station.terminate().code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}\n{}",
            began.elapsed(),
            station.log_tail()
        );
    }
}

#[test]
fn a_storm_of_signals_and_reloads_stops_nothing() {
    let mut station = Setup::new().rules(TO_VNA).folder("vna").start();
    for _ in 0..50 {
        station.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    wait_until("all five", SOON, || station.folder("vna").len() == 5);
    assert!(station.running());
}

#[test]
fn check_names_every_problem_at_once_with_file_and_key() {
    let setup = Setup::new()
        .rules("fn route(image, from) { to(\"nowhere\"); }")
        .folder("keep");
    let port = setup.dicom;
    let station = setup
        .toml(&format!(
            "[[listeners]]\nname = \"again\"\nadress = \"127.0.0.1:1\"\naddress = \"127.0.0.1:{port}\"\nae_titles = [\"B\"]\n\n\
             [[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:{}\"\nae_titles = [\"C\"]\n\
             [listeners.tls]\ncertificate = \"/nonexistent/cert.pem\"\nkey = \"/nonexistent/key.pem\"\n\
             client_certificate = \"none\"\n",
            free_port()
        ))
        .idle();
    let ran = station.cli(&["check"]);
    let said = format!("{}{}", ran.out, ran.err);
    assert_eq!(ran.code, Some(1), "{said}");
    for part in [
        "adress",
        "`address`",
        "nowhere",
        "/nonexistent/",
        "waystation.toml",
        &port.to_string(),
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let mut started = station;
    started.launch();
    wait_until("a box with such a configuration does not start", SOON, || {
        !started.running()
    });
}

#[test]
fn the_send_command_is_a_modality() {
    let station = Setup::new().rules(TO_VNA).folder("vna").start();
    let folder = station.setup.folder_of("study");
    std::fs::create_dir_all(&folder).expect("writable");
    let sent = Object::many(objects::CT, 12);
    for object in &sent {
        object.write(&folder);
    }
    let to = format!("127.0.0.1:{}", station.setup.dicom);
    let common = ["send", "--to", &to, "--called", "WAYSTATION", "--calling"];
    let with = |calling: &str, more: &[&str]| {
        let mut all = common.to_vec();
        all.push(calling);
        all.extend(more);
        Station::bare(&all)
    };
    with("MOD1", &["--associations", "3", &path(&folder)]).ok();
    wait_until("all twelve", SOON, || station.folder("vna").len() == 12);
    for object in &sent {
        assert_eq!(station.folder("vna")[&object.sop], [object.data()]);
    }
    with("MOD1", &["--echo"]).ok();
    let refused = with("UNKNOWN", &[&path(&folder)]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
}

/// The shipped example, with its ports and folders moved so that tests can run beside each other.
#[test]
fn the_shipped_example_runs_without_any_server() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let setup = Setup::new();
    let example = std::fs::read_to_string(root.join("config/waystation.toml")).expect("the shipped example");
    assert!(
        example.contains("11112") && example.contains("9464"),
        "the ports that are moved here"
    );
    let moved = example
        .replace("11112", &setup.dicom.to_string())
        .replace("9464", &setup.web.to_string());
    let file = setup.folder_of("example.toml");
    std::fs::write(&file, moved).expect("writable");
    copy(&root.join("rules"), &setup.folder_of("rules"));
    copy(&root.join("config"), &setup.folder_of("config"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_waystation"));
    crate::harness::tools::clean(&mut command);
    let log = std::fs::File::create(setup.folder_of("example.log")).expect("writable");
    command
        .args(["run", "-c"])
        .arg(&file)
        .current_dir(setup.path())
        .stderr(log);
    let mut process = crate::harness::tools::Owned(command.spawn().expect("starts"));
    let said = || std::fs::read_to_string(setup.folder_of("example.log")).unwrap_or_default();
    wait_until("the example is ready", SOON, || {
        assert!(process.running(), "{}", said());
        matches!(http::get(setup.web, "/readyz"), Some((200, _)))
    });
    let sent = Object::many(objects::CT, 2);
    let out = setup.folder_of("study");
    std::fs::create_dir_all(&out).expect("writable");
    let files: Vec<_> = sent.iter().map(|object| object.write(&out)).collect();
    crate::harness::peers::dcmtk("storescu", setup.dicom, "STORESCU", &["-R", "-xe"], &files).ok();
    wait_until("both in a folder", SOON, || {
        let var = setup.folder_of("var");
        let found = objects::files_in(&var)
            .into_iter()
            .filter(|file| file.extension().is_some_and(|e| e == "dcm"));
        found
            .filter(|file| sent.iter().any(|object| path(file).contains(&object.sop)))
            .count()
            >= 2
    });
}

fn copy(from: &Path, to: &Path) {
    for file in objects::files_in(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("writable");
        std::fs::copy(&file, target).expect("copied");
    }
}
