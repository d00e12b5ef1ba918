//! The box under test: its directory, configuration, process, log, metrics and queue.
use super::http::{self, Scrape};
use super::tools::{self, Owned, Ran};
use super::{SOON, free_port, is_free, wait_until};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Every AE title that the tests' modalities use.
const CALLING: &str =
    r#"["CT1", "MR1", "MOD0", "MOD1", "MOD2", "MOD3", "STORESCU", "DCMSEND", "ECHOSCU", "PYNETDICOM"]"#;

/// A configuration in the making. Without more it has one plain listener for `WAYSTATION` and one source for loopback.
pub struct Setup {
    directory: TempDir,
    toml: String,
    spool: String,
    log: String,
    listener: String,
    sources: String,
    rule_lines: String,
    environment: Vec<(String, String)>,
    /// A program that starts the box, with its arguments; none is the rule.
    pub wrapper: Vec<String>,
    pub dicom: u16,
    pub web: u16,
    named_destinations: Vec<String>,
}

/// Marks that a machine with some room is above.
const ROOM: &str = "low_water = \"64MiB\"\ncritical = \"32MiB\"\nballast = \"4MiB\"\ncache_high_water = \"128MiB\"";

/// A box that runs, or ran.
pub struct Station {
    pub setup: Setup,
    process: Option<Owned>,
}

impl Setup {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("waystation-test-")
            .tempdir()
            .expect("a directory for the test");
        Self {
            directory,
            toml: String::new(),
            spool: ROOM.to_owned(),
            log: "format = \"json\"\nlevel = \"debug\"".to_owned(),
            listener: String::new(),
            sources: format!("[[sources]]\nname = \"test\"\ncalling_ae = {CALLING}\naddresses = [\"127.0.0.0/8\"]\n"),
            rule_lines: String::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            dicom: free_port(),
            web: free_port(),
            named_destinations: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn folder_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The rule folder's main file.
    pub fn rules(self, text: &str) -> Self {
        self.rule_file("main.rhai", text);
        self
    }

    pub fn rule_file(&self, name: &str, text: &str) {
        let folder = self.path().join("rules");
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join(name), text).expect("writable");
    }

    /// Gives the rules a secret key, for the words of `privacy` and `uid`.
    pub fn key(mut self) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.folder_of("site.key");
        fs::write(&file, "0123456789abcdef0123456789abcdef").expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        let _ = writeln!(self.rule_lines, "key_file = {file:?}");
        self
    }

    /// A folder destination below the test's directory.
    pub fn folder(mut self, name: &str) -> Self {
        let path = self.folder_of(name);
        fs::create_dir_all(&path).expect("writable");
        let _ = write!(
            self.toml,
            "[[destinations]]\nkind = \"folder\"\nname = \"{name}\"\npath = {path:?}\ntemplate = \"{{SOPInstanceUID}}.dcm\"\n\
             retry = {{ first = \"100ms\", max = \"500ms\" }}\nprobe = \"1s\"\n\n"
        );
        self.named_destinations.push(name.to_owned());
        self
    }

    /// An archive on a port of this machine; quick retries, and what `more` says.
    pub fn archive(mut self, name: &str, port: u16, more: &str) -> Self {
        let called = name.to_uppercase();
        let retry = if more.contains("retry") {
            ""
        } else {
            "retry = { first = \"200ms\", max = \"1s\" }\n"
        };
        let _ = write!(
            self.toml,
            "[[destinations]]\nkind = \"dicom\"\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\ncalled_ae = \"{called}\"\n\
             calling_ae = \"WAYSTATION\"\nprobe = \"1s\"\n{retry}{more}\n\n"
        );
        self.named_destinations.push(name.to_owned());
        self
    }

    /// A destination gets another name, from the next start on.
    pub fn rename(&mut self, from: &str, to: &str) {
        let line = |name: &str| format!("\nname = \"{name}\"\n");
        self.toml = self.toml.replace(&line(from), &line(to));
    }

    /// Further lines of the first listener.
    pub fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// The listener speaks TLS.
    pub fn listener_tls(self, pair: &super::pki::Pair, more: &str) -> Self {
        let lines = format!(
            "[listeners.tls]\ncertificate = {:?}\nkey = {:?}\n{more}",
            pair.certificate, pair.key
        );
        self.listener(&lines)
    }

    pub fn sources(mut self, text: &str) -> Self {
        text.clone_into(&mut self.sources);
        self
    }

    pub fn spool(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.spool);
        self
    }

    pub fn log(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.log);
        self
    }

    /// Further tables.
    pub fn toml(mut self, text: &str) -> Self {
        self.toml.push_str(text);
        self.toml.push('\n');
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The planted faults of the next start; none for an empty name.
    #[track_caller]
    pub fn plant(&mut self, names: &str) {
        if !cfg!(feature = "planted") {
            panic!("built without the planted faults: use `make`");
        }
        self.environment.retain(|(name, _)| name != "WAYSTATION_PLANT");
        self.environment.push(("WAYSTATION_PLANT".to_owned(), names.to_owned()));
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("waystation.toml")
    }

    pub fn spool_path(&self) -> PathBuf {
        self.path().join("spool")
    }

    /// Writes the configuration file.
    pub fn write(&self) {
        let rules = self.path().join("rules");
        let text = format!(
            "[node]\nname = \"testbox\"\nstate = {:?}\ndrain = \"10s\"\n\n[spool]\npath = {:?}\n{}\n\n[rules]\npath = {rules:?}\n{}\n\
             [web]\nlisten = \"127.0.0.1:{}\"\n\n[log]\n{}\n\n[[listeners]]\nname = \"dicom\"\naddress = \"127.0.0.1:{}\"\n\
             ae_titles = [\"WAYSTATION\"]\n{}\n\n{}\n{}",
            self.path(),
            self.spool_path(),
            self.spool,
            self.rule_lines,
            self.web,
            self.log,
            self.dicom,
            self.listener,
            self.sources,
            self.toml
        );
        fs::write(self.config(), text).expect("writable");
    }

    /// A box that serves.
    #[track_caller]
    pub fn start(self) -> Station {
        let mut station = Station {
            setup: self,
            process: None,
        };
        station.start();
        station
    }

    /// A box that is not started.
    pub fn idle(self) -> Station {
        self.write();
        Station {
            setup: self,
            process: None,
        }
    }
}

impl Station {
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        self.wait_ready();
    }

    /// Starts the process and does not wait for it.
    pub fn launch(&mut self) {
        self.setup.write();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("writable");
        // SIGXFSZ stays ignored, so that a limit on file sizes shows as a write error and not as a signal.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
        command.args(&self.setup.wrapper).arg(env!("CARGO_BIN_EXE_waystation"));
        tools::clean(&mut command);
        command
            .args(["run", "-c"])
            .arg(self.setup.config())
            .envs(self.setup.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Owned(command.spawn().expect("the binary under test starts")));
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        loop {
            if matches!(http::get(self.setup.web, "/readyz"), Some((200, _))) {
                return;
            }
            let running = self.process.as_mut().is_some_and(Owned::running);
            assert!(running, "the box ended at its start:\n{}", self.log_tail());
            let answer =
                || http::get(self.setup.web, "/readyz").map(|(s, b)| (s, String::from_utf8_lossy(&b).into_owned()));
            assert!(
                start.elapsed() < SOON,
                "the box is not ready: {:?}\n{}",
                answer(),
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running box").0.id()
    }

    /// From now on a write beyond so many bytes of any file fails; `None` ends it.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed());
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).expect("the box runs");
    }

    /// How it ended, once it has.
    #[track_caller]
    pub fn wait_ended(&mut self) -> ExitStatus {
        let mut owned = self.process.take().expect("a box that was started");
        wait_until("the box ends", SOON, || !owned.running());
        owned.0.wait().expect("it has ended")
    }

    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Owned::running)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("no process has id 0");
        rustix::process::kill_process(pid, signal).expect("the box runs");
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait_ended()
    }

    #[track_caller]
    pub fn restart(&mut self) {
        self.process = None;
        self.start();
    }

    /// Begins anew with marks that no disk is wholly free enough for: it is below low water for as long as it runs.
    #[track_caller]
    pub fn restart_below_low_water(&mut self) {
        self.process = None;
        "low_water = \"100%\"\ncache_high_water = \"100%\"\ncritical = \"1MiB\"\nballast = \"1MiB\""
            .clone_into(&mut self.setup.spool);
        self.launch();
        wait_until("the box listens", SOON, || !is_free(self.setup.dicom));
        wait_until("metrics", SOON, || {
            matches!(http::get(self.setup.web, "/metrics"), Some((200, _)))
        });
        self.wait_metric("spool_low_water", &[], |low| low == 1.0);
    }

    /// From its next start on there is room, as at first.
    pub fn make_room(&mut self) {
        ROOM.clone_into(&mut self.setup.spool);
    }

    pub fn log_path(&self) -> PathBuf {
        self.setup.path().join("stderr.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    #[track_caller]
    pub fn metrics(&self) -> Scrape {
        let (status, body) = http::get(self.setup.web, "/metrics").expect("the box serves metrics");
        assert_eq!(status, 200);
        Scrape::parse(String::from_utf8(body).expect("text"))
    }

    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(&format!("waystation_{name}"), labels)
    }

    /// Waits until a metric (a sum over series) is what it should be.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) {
        let start = Instant::now();
        loop {
            let value = self.metric(name, labels);
            if wanted(value) {
                return;
            }
            assert!(
                start.elapsed() < SOON,
                "{name}{labels:?} stays {value}\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Nothing waits and nothing is being sent; held jobs may be there.
    #[track_caller]
    pub fn wait_drained(&self, within: Duration) {
        let start = Instant::now();
        loop {
            let scrape = self.metrics();
            let left = scrape.sum("waystation_jobs_queued", &[]) + scrape.sum("waystation_jobs_in_flight", &[]);
            if left == 0.0 {
                return;
            }
            assert!(start.elapsed() < within, "{left} jobs are left\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The command line of the box with its configuration: `cli(&["queue", "ls"])`.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        let binary = Path::new(env!("CARGO_BIN_EXE_waystation"));
        let mut all = tools::texts(arguments);
        all.extend(["-c".to_owned(), self.setup.config().to_string_lossy().into_owned()]);
        tools::run(binary, &all, Duration::from_secs(60))
    }

    /// A command of the box that needs no configuration.
    #[track_caller]
    pub fn bare(arguments: &[&str]) -> Ran {
        tools::run(
            Path::new(env!("CARGO_BIN_EXE_waystation")),
            &tools::texts(arguments),
            Duration::from_secs(60),
        )
    }

    /// `queue ls --json` with more arguments: the jobs.
    #[track_caller]
    pub fn jobs(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let mut all = vec!["queue", "ls", "--json"];
        all.extend(arguments);
        let ran = self.cli(&all).ok();
        jobs_of(&ran.out)
    }

    /// The data sets in a folder destination, by SOP Instance UID.
    pub fn folder(&self, name: &str) -> std::collections::BTreeMap<String, Vec<Vec<u8>>> {
        super::objects::data_sets_in(&self.setup.folder_of(name))
    }
}

/// The jobs of a listing: one array, an object that has one, or an object a line.
pub fn jobs_of(text: &str) -> Vec<serde_json::Value> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
    };
    match value {
        serde_json::Value::Array(jobs) => jobs,
        serde_json::Value::Object(mut map) => match map.remove("jobs") {
            Some(serde_json::Value::Array(jobs)) => jobs,
            _ => vec![serde_json::Value::Object(map)],
        },
        other => panic!("no listing: {other}"),
    }
}
