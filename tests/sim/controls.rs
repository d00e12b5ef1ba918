//! The negative controls: the same simulator over a box with one planted fault (`src/base/fault.rs`). A fault that it does not find
//! within its seeds fails the run. Each runs in a process of its own, since a fault is planted for a whole process.
use crate::{Tally, judged};
use std::process::{Command, ExitCode};
use std::time::Instant;
use waystation::telemetry::metrics::Metrics;

/// The faults, by name.
const CONTROLS: [&str; 13] = [
    "skip-commit",
    "skip-index-sync",
    "lose-due",
    "settle-wrong",
    "ignore-status",
    "drop-hold",
    "settle-early",
    "keep-lease",
    "ignore-breaker",
    "forget-suspension",
    "age-past-stat",
    "count-outage",
    "forget-confirmed",
];

/// Seeds within which each must be found.
const WITHIN: u64 = 2_000;
/// Those that a short run looks at.
const SHORT: usize = 4;

pub fn all(tally: &mut Tally, big: bool) {
    let count = if big { CONTROLS.len() } else { SHORT };
    for plant in &CONTROLS[..count] {
        let began = Instant::now();
        let result = found(plant);
        tally.judge(&format!("{plant} is found"), result, began);
    }
}

fn found(plant: &str) -> Result<String, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command
        .env("WAYSTATION_PLANT", plant)
        .env("SIM_CONTROL", WITHIN.to_string());
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or("nothing was said").to_owned();
    if output.status.code() == Some(FOUND) {
        Ok(last)
    } else {
        Err(last)
    }
}

/// In the process with the fault: runs seeds until one finds it.
pub fn look(count: u64, metrics: &Metrics) -> ExitCode {
    for seed in 1..=count {
        if let Some(text) = judged(seed, metrics, &mut Tally::default()) {
            println!("by seed {seed}: {text}");
            return ExitCode::from(FOUND as u8);
        }
    }
    println!("not found in {count} seeds");
    ExitCode::SUCCESS
}

/// The exit code that says so.
const FOUND: i32 = 3;
