//! Programs beside the box: run with a deadline, watched, and ended by their own id.
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A child process that does not outlive its owner.
pub struct Owned(pub Child);

impl Owned {
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program wrote and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let ran = self.ok();
        let line = ran.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {}", ran.out))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a program with a deadline; `timeout` of coreutils ends it (code 124) when it does not end by itself.
#[track_caller]
pub fn run(program: &Path, arguments: &[String], within: Duration) -> Ran {
    ended_by("TERM", program, arguments, within)
}

#[track_caller]
fn ended_by(signal: &str, program: &Path, arguments: &[String], within: Duration) -> Ran {
    let mut command = Command::new("timeout");
    command
        .args(["-s", signal, "-k", "5", &within.as_secs().to_string()])
        .arg(program)
        .args(arguments);
    clean(&mut command);
    command
        .stdin(Stdio::null())
        .output()
        .expect("coreutils has `timeout`")
        .into()
}

/// No variable of this test run reaches a box or a peer by accident.
pub fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WAYSTATION_") {
            command.env_remove(name);
        }
    }
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONFAULTHANDLER", "1")
        .env("TZ", "UTC");
}

/// A program of Debian by its name. Its absence is a failure, never a skipped test.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")];
    let found = std::env::split_paths(&places)
        .chain(sbin)
        .map(|place| place.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed: run `make test`, which installs the peers"))
}

/// Python with pydicom and pynetdicom.
#[track_caller]
pub fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("WAYSTATION_TEST_PYTHON") {
        return PathBuf::from(named);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/waystation/target"));
    let places = target
        .into_iter()
        .chain(home)
        .map(|place| place.join("venv/bin/python"));
    places
        .into_iter()
        .find(|path| path.exists())
        .expect("no Python environment for the peers: run `make test`")
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

pub fn texts<T: AsRef<std::ffi::OsStr>>(arguments: &[T]) -> Vec<String> {
    arguments
        .iter()
        .map(|argument| argument.as_ref().to_string_lossy().into_owned())
        .collect()
}

/// Runs a scripted peer to its end; what it prints last is JSON. One that hangs says where each of its threads stands.
#[track_caller]
pub fn python_json<T: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[T]) -> serde_json::Value {
    let mut all = vec![script(name).to_string_lossy().into_owned()];
    all.extend(texts(arguments));
    ended_by("ABRT", &python(), &all, Duration::from_secs(240)).json()
}

/// Starts a scripted peer that serves, and waits for its word `ready`.
#[track_caller]
pub fn python_serving<T: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[T]) -> Owned {
    let mut command = Command::new(python());
    command
        .arg(script(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    clean(&mut command);
    let mut child = command.spawn().expect("Python starts");
    let out = child.stdout.take().expect("piped");
    let owned = Owned(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("a line from the peer");
    assert_eq!(line.trim(), "ready", "{name} did not start: its error stands above");
    owned
}

/// DCMTK and others: a program of Debian with a minute to end.
#[track_caller]
pub fn tool<T: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[T]) -> Ran {
    run(&program(name), &texts(arguments), Duration::from_secs(60))
}
