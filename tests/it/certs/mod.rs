//! Certificates from outside: what goes wrong with them, on both sides, by other people's tools; and how they are replaced while the
//! box runs. `make certs` prints the matrix.
mod boxes;
mod destination;
mod listener;
mod resume;
mod rollover;
mod rotate;
mod site;
mod status;

use crate::harness::Station;
use std::time::{Duration, Instant};

/// One case of the matrix, run.
pub struct Outcome {
    pub side: &'static str,
    pub version: String,
    pub key: String,
    pub fault: String,
    pub tool: &'static str,
    pub reason: &'static str,
    pub took: Duration,
    pub wrong: Option<String>,
}

/// No case takes longer: the deadlines of the test box are between one and three seconds.
const CASE_MAX: Duration = Duration::from_secs(20);

/// Prints the table and its count; none may have failed.
#[track_caller]
fn verdict(title: &str, outcomes: &[Outcome], least: usize) {
    let failed = outcomes.iter().filter(|outcome| outcome.wrong.is_some()).count();
    println!("\n{title}");
    for outcome in outcomes {
        let result = outcome
            .wrong
            .as_deref()
            .map_or("ok".to_owned(), |wrong| format!("FAILED: {wrong}"));
        println!(
            "  {:11} {:5} {:8} {:22} {:10} {:24} {:5.2} s  {result}",
            outcome.side,
            outcome.version,
            outcome.key,
            outcome.fault,
            outcome.tool,
            outcome.reason,
            outcome.took.as_secs_f64()
        );
    }
    println!("certificate cases: {} passed, {failed} failed", outcomes.len() - failed);
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|o| {
            Some(format!(
                "{} {} {} {}: {}",
                o.side,
                o.version,
                o.fault,
                o.tool,
                o.wrong.as_ref()?
            ))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(outcomes.len() >= least, "{} cases are too few", outcomes.len());
}

/// All reasons that were counted for one role and name, as `reason count`.
fn reasons(station: &Station, role: &str, name: &str) -> Vec<(String, f64)> {
    let text = station.metrics().text;
    let wanted = [format!("role=\"{role}\""), format!("name=\"{name}\"")];
    let line = |line: &str| {
        let fits = line.starts_with("waystation_tls_failures_total{") && wanted.iter().all(|w| line.contains(w));
        let (labels, value) = line.rsplit_once(' ').filter(|_| fits)?;
        let reason = labels.split("reason=\"").nth(1)?.split('"').next()?;
        Some((reason.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Waits until exactly this reason has been counted once more than before, and no other.
fn counted(station: &Station, name: &str, before: &[(String, f64)], reason: &str) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let now = reasons(station, "listener", name);
        let of = |all: &[(String, f64)], reason: &str| all.iter().find(|(r, _)| r == reason).map_or(0.0, |(_, n)| *n);
        let grown: Vec<String> = now
            .iter()
            .filter(|(r, n)| *n > of(before, r))
            .map(|(r, n)| format!("{r}+{}", n - of(before, r)))
            .collect();
        if grown == [format!("{reason}+1")] {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(6) || grown.len() > 1 {
            return Err(format!("counted {grown:?} instead of {reason}"));
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Nothing of a private key, of a patient or of a name in a certificate may be written anywhere.
fn secrets_in(what: &str, text: &str, keys: &[String]) -> Option<String> {
    let planted = ["PRIVATE KEY", "CANARY", "SYNTHETIC^TEST", "SYN-1"];
    let found = planted.into_iter().find(|secret| text.contains(secret));
    let found = found.or_else(|| {
        keys.iter()
            .find(|line| text.contains(line.as_str()))
            .map(|_| "a line of a key")
    });
    found.map(|secret| format!("{what} shows {secret}"))
}

/// The base64 lines of all key files below a folder.
fn key_lines(folder: &std::path::Path) -> Vec<String> {
    let files = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("listed").path());
    let keys = files.filter(|path| path.extension().is_some_and(|extension| extension == "key"));
    let lines = keys.flat_map(|path| {
        let text = std::fs::read_to_string(path).expect("readable");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    lines.filter(|line| line.len() > 30 && !line.contains('-')).collect()
}
