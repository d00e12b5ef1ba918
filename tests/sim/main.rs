//! `make sim SEEDS=20000`: the box's decisions in virtual time, over a disk and a network with faults. For each seed a phase of
//! faults, in which nothing acknowledged may be lost, and then a phase without, in which everything must come to its end.
//!
//! usage: `SEEDS=n cargo test --release --features planted --test sim`; `SEED=s` runs one seed and prints what happens in it. The
//! seeds of `seeds.txt`, which found something once, run first; then the scenarios of `scenarios.rs` and the controls of
//! `controls.rs`. The last line is `N passed, N failed`.
mod controls;
mod lane;
mod net;
mod operator;
mod oracle;
mod plan;
mod process;
mod scenarios;
mod world;

use plan::Plan;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;
use waystation::telemetry::metrics::Metrics;
use world::World;

/// What was counted over all seeds.
#[derive(Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    steps: u64,
    acked: usize,
    simulated: u64,
    repeated: u64,
}

impl Tally {
    pub fn judge(&mut self, name: &str, result: Result<String, String>, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(said) => {
                self.passed += 1;
                println!("ok   {name} ({seconds:.1} s) {said}");
            }
            Err(said) => {
                self.failed += 1;
                println!("FAIL {name} ({seconds:.1} s) {said}");
            }
        }
    }
}

/// One seed: faults, then none. The world as it ended, and the promise that was broken, if one was.
fn run(seed: u64, metrics: &Metrics, trace: bool) -> World {
    let plan = Plan::drawn(&mut StdRng::seed_from_u64(seed ^ 0x5EED));
    if trace {
        println!("seed {seed}: {plan:?}");
    }
    let mut world = World::new(seed, plan, metrics.clone(), trace);
    let span = world.plan.span;
    world.run_until(span);
    world.heal();
    if world.violation.is_none() {
        match world.process.take() {
            Some(process) => world.check_end(&process),
            None => world.broken("there is no process long after everything was healed".to_owned()),
        }
    }
    world
}

/// Runs a seed; a panic is a broken promise too.
pub fn judged(seed: u64, metrics: &Metrics, tally: &mut Tally) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, metrics, false))) {
        Ok(world) => {
            tally.steps += world.steps;
            tally.acked += world.oracle.acked();
            tally.simulated += world.now;
            tally.repeated += world.oracle.duplicates;
            world.violation
        }
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| "panic".to_owned()),
        ),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// The seeds that found something once, and what it was.
fn committed() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines();
    let words = lines.filter_map(|line| line.split('#').next()?.trim().parse().ok());
    words.collect()
}

fn seeds(tally: &mut Tally, name: &str, seeds: impl Iterator<Item = u64>, metrics: &Metrics) {
    let (began, mut failed, mut count) = (Instant::now(), 0, 0_usize);
    for seed in seeds {
        count += 1;
        if let Some(text) = judged(seed, metrics, tally) {
            failed += 1;
            println!("FAIL seed {seed}: {text}");
        }
    }
    tally.failed += failed;
    tally.passed += count - failed;
    let hours = tally.simulated / world::HOUR;
    println!(
        "{name}: {count} seeds in {:.1} s; {} steps, {} instances acknowledged, {} sent again, {hours} hours simulated",
        began.elapsed().as_secs_f64(),
        tally.steps,
        tally.acked,
        tally.repeated,
    );
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let metrics = Metrics::new();
    if let Some(count) = number("SIM_CONTROL") {
        return controls::look(count, &metrics);
    }
    // The filter of a `cargo test WORD` that means other tests.
    if words.iter().any(|word| !word.starts_with('-')) {
        return ExitCode::SUCCESS;
    }
    let mut tally = Tally::default();
    if let Some(seed) = number("SEED") {
        let (began, world) = (Instant::now(), run(seed, &metrics, true));
        let said = format!("{} steps", world.steps);
        tally.judge(&format!("seed {seed}"), world.violation.map_or(Ok(said), Err), began);
    } else {
        seeds(&mut tally, "committed", committed().into_iter(), &metrics);
        let count = number("SEEDS").unwrap_or(SHORT);
        seeds(&mut tally, "drawn", 1..=count, &metrics);
        let big = number("SEEDS").is_some();
        scenarios::all(&mut tally, &metrics, big);
        controls::all(&mut tally, big);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    match tally.failed {
        0 if tally.passed > 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Seeds that `make test` can afford.
const SHORT: u64 = 300;
