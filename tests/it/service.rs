//! The box as systemd sees it: the unit's exposure and what its filter lets through, the messages on a real notify socket, and
//! sockets that are passed to it. systemd itself does not run here; its own offline tools and its protocols do.
use crate::harness::peers::send;
use crate::harness::tools::{self, program, run, script, texts};
use crate::harness::{Object, SOON, Setup, Station, objects, wait_until};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TO_KEEP: &str = r#"fn route(image, from) { to("keep"); }"#;
/// Ten times what the issue allows, as `--threshold` counts.
const EXPOSURE_MAX: &str = "12";

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn unit_text() -> String {
    std::fs::read_to_string(unit("waystation.service")).expect("the unit")
}

fn security(unit: &Path) -> crate::harness::tools::Ran {
    let arguments = [
        "security",
        "--offline=true",
        "--no-pager",
        &format!("--threshold={EXPOSURE_MAX}"),
        &unit.to_string_lossy(),
    ];
    run(&program("systemd-analyze"), &texts(&arguments), SOON)
}

#[test]
fn the_units_exposure_is_at_most_1_2() {
    let ran = security(&unit("waystation.service"));
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    assert!(
        ran.out.contains("Overall exposure level for waystation.service: "),
        "{}",
        ran.out
    );
    // The same unit with one thing less is refused: the threshold is in force.
    let folder = tempfile::tempdir().expect("a folder");
    let weaker = folder.path().join("waystation.service");
    std::fs::write(
        &weaker,
        unit_text()
            .replace("ProtectSystem=strict", "")
            .replace("PrivateUsers=yes", ""),
    )
    .expect("writable");
    assert_ne!(security(&weaker).code, Some(0));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let binary = env!("CARGO_BIN_EXE_waystation");
    for name in ["waystation.service", "waystation.socket"] {
        let text = std::fs::read_to_string(unit(name)).expect("the unit");
        std::fs::write(folder.path().join(name), text.replace("/usr/bin/waystation", binary)).expect("writable");
    }
    let verify = |name: &str| {
        let at = folder.path().join(name);
        let arguments = ["verify", "--man=no", &at.to_string_lossy()];
        run(&program("systemd-analyze"), &texts(&arguments), SOON)
    };
    for name in ["waystation.service", "waystation.socket"] {
        let ran = verify(name);
        assert!(
            ran.code == Some(0) && ran.err.is_empty() && ran.out.is_empty(),
            "{name}: {ran:?}"
        );
    }
    let at = folder.path().join("waystation.service");
    std::fs::write(&at, unit_text().replace("WatchdogSec=", "WatchDogSec=")).expect("writable");
    assert!(
        verify("waystation.service").err.contains("WatchDogSec"),
        "a wrong key is seen"
    );
}

/// The lines of a drop-in that stands in a text, from its `[Unit]` to the line `end`.
fn drop_in(file: &str, end: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file");
    let lines = text.lines().skip_while(|line| *line != "[Unit]");
    let own = lines.take_while(|line| *line != end);
    own.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_spools_own_disk_is_waited_for_in_the_guide_and_in_the_image() {
    let guide = drop_in("docs/install.md", "```");
    assert_eq!(guide, drop_in("firmware-image/build", "UNIT"));
    assert!(guide.contains("\nExecStartPre=+/usr/bin/mountpoint /data\n"), "{guide}");
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("waystation.service.d");
    std::fs::create_dir(&own).expect("writable");
    std::fs::write(own.join("data.conf"), guide).expect("writable");
    let at = folder.path().join("waystation.service");
    let unit = unit_text().replace("/usr/bin/waystation", env!("CARGO_BIN_EXE_waystation"));
    std::fs::write(&at, unit).expect("writable");
    let ran = tools::tool("systemd-analyze", &["verify", "--man=no", &at.to_string_lossy()]);
    assert!(ran.code == Some(0) && ran.err.is_empty(), "{ran:?}");
}

/// `key=value` of the unit, as a span of seconds.
fn seconds(key: &str) -> u64 {
    let text = unit_text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key}=")))
        .expect("the key is there");
    let span: humantime::Duration = value.parse().expect("a span");
    span.as_secs()
}

#[test]
fn the_manager_waits_longer_than_the_box_drains() {
    let drain = waystation::config::Node::default().drain.0.as_secs();
    // Both sides of the box are drained one after the other, then 5 s for the doors and 15 s for the spool.
    assert!(seconds("TimeoutStopSec") >= 2 * drain + 20);
    assert!(seconds("WatchdogSec") >= 10);
}

/// The calls of a systemd filter group, nested groups included.
fn calls(group: &str) -> BTreeSet<String> {
    let arguments = ["syscall-filter", "--no-pager", group];
    let listed = run(&program("systemd-analyze"), &texts(&arguments), SOON).ok().out;
    let names = listed
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found = BTreeSet::new();
    for name in names {
        if name.starts_with('@') {
            found.extend(calls(name));
        } else {
            found.insert(name.to_owned());
        }
    }
    found
}

/// What the unit lets through: its first filter line allows, the one with `~` takes away.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in unit_text()
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        match line.strip_prefix('~') {
            Some(groups) => groups
                .split(' ')
                .for_each(|group| allowed.retain(|call| !calls(group).contains(call))),
            None => line.split(' ').for_each(|group| allowed.extend(calls(group))),
        }
    }
    allowed
}

/// Refused by the filter with EPERM, and the box goes on as well without.
const TOLERATED: [&str; 1] = ["sched_setscheduler"];

#[test]
fn the_filter_of_system_calls_lets_everything_through_that_the_box_does() {
    let mut setup = Setup::new();
    let trace = setup.folder_of("trace");
    setup.wrapper = texts(&["strace", "-f", "-qq", "-s", "0", "-o", &trace.to_string_lossy()]);
    setup.wrapper[0] = program("strace").to_string_lossy().into_owned();
    let mut station = setup.rules(TO_KEEP).folder("keep").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 3));
    station.wait_drained(SOON);
    station.cli(&["lanes"]).ok();
    station.cli(&["reload"]).ok();
    // The tracer passes the signal to nobody: it is told to the box itself.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", station.pid())).expect("a tracer");
    let traced: i32 = children.trim().parse().expect("one child");
    let traced = rustix::process::Pid::from_raw(traced).expect("not 0");
    rustix::process::kill_process(traced, Signal::TERM).expect("it runs");
    assert!(station.wait_ended().success());
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let call = regex::Regex::new(r"(?m)^\d+ +([a-z_0-9]+)\(").expect("a pattern");
    let made: BTreeSet<String> = call.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert!(made.len() > 40 && made.contains("fdatasync"), "{made:?}");
    let allowed = allowed();
    assert!(allowed.contains("openat") && !allowed.contains("mount") && !allowed.contains("chroot"));
    let refused: Vec<&String> = made
        .iter()
        .filter(|call| !allowed.contains(*call) && !TOLERATED.contains(&call.as_str()))
        .collect();
    assert!(refused.is_empty(), "the unit's filter would refuse {refused:?}");
    // MemoryDenyWriteExecute, RestrictAddressFamilies, RestrictNamespaces.
    for never in [
        "PROT_WRITE|PROT_EXEC",
        "PROT_READ|PROT_WRITE|PROT_EXEC",
        "AF_PACKET",
        "CLONE_NEW",
    ] {
        assert!(!text.contains(never), "{never}");
    }
}

/// `key=value` lines of the unit that run something before the box, or are the box, as words; `-` and the like before a path are left out.
fn started_by_the_unit() -> Vec<(String, Vec<String>)> {
    let text = unit_text();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let runs = lines.filter(|(key, _)| ["ExecCondition", "ExecStartPre", "ExecStart"].contains(key));
    let words = |line: &str| {
        line.trim_start_matches(['-', '+', '!', ':', '@'])
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    runs.map(|(key, line)| (key.to_owned(), words(line))).collect()
}

#[test]
fn what_the_unit_runs_starts_a_box_whose_rule_folder_is_refused() {
    let mut station = Setup::new().rules(TO_KEEP).folder("keep").start();
    assert!(station.terminate().success());
    station.setup.rule_file("main.rhai", "fn route(image, from) { to(");
    let runs = started_by_the_unit();
    for (key, words) in &runs {
        assert_eq!(words[0], "/usr/bin/waystation", "{key}");
        let (config, own) = ("/etc/waystation/waystation.toml", station.setup.config());
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        if key == "ExecStart" {
            assert_eq!(arguments, ["run", "-c", config]);
            continue;
        }
        let own = own.to_string_lossy();
        let arguments: Vec<&str> = arguments
            .into_iter()
            .map(|word| if word == config { &own } else { word })
            .collect();
        let ran = Station::bare(&arguments);
        assert_eq!(
            ran.code,
            Some(0),
            "{key} {arguments:?} keeps the box from starting: {ran:?}"
        );
    }
    assert_eq!(runs.last().map(|(key, _)| key.as_str()), Some("ExecStart"));
    // People and scripts are told all the same.
    let checked = station.cli(&["check"]);
    assert!(
        checked.code == Some(1) && checked.err.contains("in force last"),
        "{checked:?}"
    );
    station.start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    wait_until("by the rules that were in force last", SOON, || {
        station.folder("keep").len() == 1
    });
}

/// A service manager's end of the notify socket.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        Self { socket }
    }

    /// The next message, as its lines; none within `bound`.
    fn message(&self, bound: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(bound)).expect("a bound");
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The first message with this line; those before it are handed to `other`.
    #[track_caller]
    fn wait_for(&self, line: &str, mut other: impl FnMut(&[String])) -> Vec<String> {
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            match self.message(Duration::from_secs(1)) {
                Some(message) if message.iter().any(|said| said == line) => return message,
                Some(message) => other(&message),
                None => {}
            }
        }
        panic!("waited in vain for {line}");
    }
}

fn watched(setup: Setup, period: Duration) -> (Manager, Setup) {
    let path = setup.folder_of("notify");
    let manager = Manager::at(&path);
    let setup = setup
        .environment("NOTIFY_SOCKET", &path.to_string_lossy())
        .environment("WATCHDOG_USEC", &period.as_micros().to_string());
    (manager, setup)
}

fn said(message: &[String], start: &str) -> Option<String> {
    message
        .iter()
        .find_map(|line| line.strip_prefix(start))
        .map(str::to_owned)
}

#[test]
fn the_manager_hears_start_watchdog_reload_and_stop() {
    let period = Duration::from_millis(400);
    let (manager, setup) = watched(Setup::new().rules(TO_KEEP).folder("keep"), period);
    let mut station = setup.idle();
    station.launch();
    let mut before = Vec::new();
    let ready = manager.wait_for("READY=1", |message| before.push(message.to_vec()));
    assert_eq!(said(&ready, "STATUS=").as_deref(), Some("taking images"));
    assert!(
        before.iter().all(|message| !message.contains(&"WATCHDOG=1".to_owned())),
        "{before:?}"
    );
    assert!(
        before
            .iter()
            .any(|message| said(message, "EXTEND_TIMEOUT_USEC=").is_some()),
        "{before:?}"
    );
    // Ready means that a peer can come.
    assert!(TcpStream::connect(("127.0.0.1", station.setup.dicom)).is_ok());
    station.wait_ready();

    for _ in 0..5 {
        let began = Instant::now();
        manager.wait_for("WATCHDOG=1", |_| {});
        assert!(began.elapsed() < period, "fed too late: {:?}", began.elapsed());
    }

    station.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1", |_| {});
    assert!(
        said(&reloading, "MONOTONIC_USEC=").is_some_and(|time| time.parse::<u64>().is_ok()),
        "{reloading:?}"
    );
    let ready = manager.wait_for("READY=1", |_| {});
    assert_eq!(
        said(&ready, "STATUS=").as_deref(),
        Some("taking images, rules reloaded")
    );
    std::fs::write(
        station.setup.path().join("rules/main.rhai"),
        "fn route(image, from) { to(",
    )
    .expect("writable");
    station.signal(Signal::HUP);
    manager.wait_for("RELOADING=1", |_| {});
    let ready = manager.wait_for("READY=1", |_| {});
    assert!(
        said(&ready, "STATUS=").is_some_and(|status| status.contains("refused")),
        "{ready:?}"
    );

    station.signal(Signal::TERM);
    let stopping = manager.wait_for("STOPPING=1", |_| {});
    // The test's drain is 10 s, on both sides, and 22 s for the rest.
    assert_eq!(said(&stopping, "EXTEND_TIMEOUT_USEC=").as_deref(), Some("42000000"));
    assert!(station.wait_ended().success());
}

/// That a box which lives on and cannot commit is not fed is shown in `appliance`; this one knows it, and ends.
#[test]
fn a_box_that_can_commit_nothing_more_says_that_it_stops_and_fails() {
    let period = Duration::from_millis(400);
    let (manager, mut setup) = watched(Setup::new().rules(TO_KEEP).folder("keep"), period);
    setup.plant("panic-admit,swallow-panics");
    let mut station = setup.idle();
    station.launch();
    let ready = manager.wait_for("READY=1", |_| {});
    assert_eq!(said(&ready, "STATUS=").as_deref(), Some("taking images"));
    for _ in 0..2 {
        manager.wait_for("WATCHDOG=1", |_| {});
    }
    // The commit thread dies over the first image; the modality is not told that it was taken.
    let answer = std::panic::catch_unwind(|| {
        send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    });
    assert!(answer.is_err(), "nothing can be acknowledged");
    let stopping = manager.wait_for("STOPPING=1", |message| {
        assert!(!message.contains(&"READY=1".to_owned()), "{message:?}");
    });
    let status = said(&stopping, "STATUS=").expect("a status");
    assert!(status.contains("nothing more can be made durable"), "{status}");
    // From here on it is not fed, however long its draining takes.
    let end = Instant::now() + 3 * period;
    while Instant::now() < end {
        if let Some(message) = manager.message(period) {
            assert!(!message.contains(&"WATCHDOG=1".to_owned()), "{message:?}");
        }
    }
    assert_eq!(station.wait_ended().code(), Some(1), "the manager starts it again");
    assert!(station.folder("keep").is_empty(), "nothing was sent on");
}

/// Something commits at every start.
#[test]
fn a_box_that_cannot_commit_when_it_starts_is_never_ready_and_never_fed() {
    let (manager, mut setup) = watched(Setup::new().rules(TO_KEEP).folder("keep"), Duration::from_millis(400));
    setup.plant("panic-commit,swallow-panics");
    let mut station = setup.idle();
    station.launch();
    let stopping = manager.wait_for("STOPPING=1", |message| {
        for never in ["READY=1", "WATCHDOG=1"] {
            assert!(!message.contains(&never.to_owned()), "{message:?}");
        }
    });
    let status = said(&stopping, "STATUS=").expect("a status");
    assert!(status.contains("nothing more can be made durable"), "{status}");
    assert_eq!(station.wait_ended().code(), Some(1));
    while let Some(message) = manager.message(Duration::from_millis(50)) {
        assert!(!message.contains(&"READY=1".to_owned()), "{message:?}");
    }
}

#[test]
fn a_box_that_does_not_start_is_never_ready() {
    let (manager, setup) = watched(Setup::new().rules(TO_KEEP).folder("keep"), Duration::from_secs(10));
    let taken = TcpListener::bind(("127.0.0.1", setup.dicom)).expect("free");
    let mut station = setup.idle();
    station.launch();
    assert!(!station.wait_ended().success());
    drop(taken);
    while let Some(message) = manager.message(Duration::from_millis(50)) {
        assert!(!message.contains(&"READY=1".to_owned()), "{message:?}");
    }
}

/// Starts the box with these listening sockets as systemd passes them: from descriptor 3 on.
fn passing(mut setup: Setup, sockets: &[&TcpListener]) -> Setup {
    for socket in sockets {
        fcntl_setfd(socket, FdFlags::empty()).expect("ours");
    }
    let shell = program("bash").to_string_lossy().into_owned();
    setup.wrapper = vec![
        shell,
        script("pass.sh").to_string_lossy().into_owned(),
        sockets.len().to_string(),
    ];
    setup
        .wrapper
        .extend(sockets.iter().map(|socket| socket.as_raw_fd().to_string()));
    setup
}

#[test]
fn a_restart_refuses_nobody_when_the_manager_holds_the_port() {
    let setup = Setup::new().rules(TO_KEEP).folder("keep");
    let port = setup.dicom;
    let held = TcpListener::bind(("127.0.0.1", port)).expect("free");
    let mut station = passing(setup, &[&held]).start();
    let sent = Object::many(objects::CT, 3);
    send(port, station.setup.path(), &sent[..1]);
    let folder = station.setup.folder_of("second");
    std::fs::create_dir(&folder).expect("writable");
    assert!(station.terminate().success());
    // The box is down. A modality that comes now waits, and is served by the next one.
    let later = sent[1..].to_vec();
    let sender = std::thread::spawn(move || send(port, &folder, &later));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sender.is_finished(), "nobody has refused it");
    station.start();
    sender.join().expect("it was served");
    wait_until("all of them", SOON, || station.folder("keep").len() == 3);
    assert!(!station.log().contains("no listener has"), "{}", station.log_tail());
}

#[test]
fn a_passed_socket_that_no_listener_has_is_an_error_in_the_log() {
    let setup = Setup::new().rules(TO_KEEP).folder("keep");
    let held = TcpListener::bind(("127.0.0.1", setup.dicom)).expect("free");
    let stranger = TcpListener::bind("127.0.0.1:0").expect("free");
    let address = stranger.local_addr().expect("bound").to_string();
    let station: Station = passing(setup, &[&stranger, &held]).start();
    let line = station
        .log()
        .lines()
        .find(|line| line.contains("no listener has"))
        .map(str::to_owned);
    assert!(
        line.is_some_and(|line| line.contains(&address) && line.contains("ERROR")),
        "{}",
        station.log_tail()
    );
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    wait_until("delivered", SOON, || station.folder("keep").len() == 1);
}
