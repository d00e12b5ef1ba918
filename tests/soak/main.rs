//! The soaks: the real binary is killed, cut from its power, given errors, filled and failing disks, damaged files, too little
//! memory, a wrong clock and hostile neighbours, under a load of real associations; an oracle that knows nothing of the box
//! judges. Each prints `N passed, N failed` last.
//!
//! usage: `cargo test --release --features planted --test soak -- NAME` with N and SEED in the environment. Without a name
//! it is a short run of those that need no privileges, as part of `make test`. A failing round prints its seed; the same SEED
//! gives the same faults, and KEEP=FOLDER keeps what a failed verdict of the oracle left behind.
#[allow(dead_code, unused_imports, clippy::type_complexity)]
#[path = "../it/harness/mod.rs"]
mod harness;

mod clock;
mod controls;
mod corrupt;
mod descriptors;
mod disk;
mod failing;
mod flush;
mod image;
mod io;
mod kill;
mod leak;
mod memory;
mod power;
mod readonly;
mod reload;
mod signals;
mod syscalls;
mod twice;
mod wire;
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What a soak has come to.
#[derive(Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Runs rounds that are judged together; a panic in them is a failure too.
    pub fn judge(&mut self, name: &str, rounds: usize, work: impl FnOnce() -> Result<String, String>) {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.unwrap_or_else(|| "panic: see above".to_owned()))
        });
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(said) => {
                self.passed += rounds;
                println!("ok   {name} ({seconds:.1} s) {said}");
            }
            Err(said) => {
                self.failed += rounds;
                println!("FAIL {name} ({seconds:.1} s) {said}");
            }
        }
    }
}

/// What a soak is told.
#[derive(Clone, Copy)]
pub struct Order {
    pub count: usize,
    pub seed: u64,
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name} is not a number")),
        _ => otherwise,
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let name = words.iter().find(|word| !word.starts_with('-')).map(String::as_str);
    let seed = number("SEED", 20_261_122);
    let order = |count| Order {
        count: usize::try_from(number("N", count)).unwrap_or(usize::MAX),
        seed,
    };
    let mut tally = Tally::default();
    match name {
        Some("kill") => kill::soak(&mut tally, order(200)),
        Some("power") => power::soak(&mut tally, order(100)),
        Some("syscalls") => syscalls::soak(&mut tally, order(0)),
        Some("disk") => disk::soak(&mut tally, order(20)),
        Some("corrupt") => corrupt::soak(&mut tally, order(0)),
        Some("io") => io::soak(&mut tally, order(12)),
        Some("flush") => flush::soak(&mut tally, order(30)),
        Some("memory") => memory::soak(&mut tally, order(20)),
        Some("descriptors") => descriptors::soak(&mut tally, order(6)),
        Some("clock") => clock::soak(&mut tally, order(24)),
        Some("twice") => twice::soak(&mut tally, order(5)),
        Some("readonly") => readonly::soak(&mut tally, order(9)),
        Some("signals") => signals::soak(&mut tally, order(20)),
        Some("reload") => reload::soak(&mut tally, order(400)),
        Some("leak") => leak::soak(&mut tally, order(100_000)),
        Some("controls") => controls::soak(&mut tally),
        None => short(&mut tally, seed),
        // The filter of a `cargo test WORD` that means other tests.
        Some(_) => return ExitCode::SUCCESS,
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 && tally.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What `make test` can afford, and what needs no privileges. The others have their own targets.
fn short(tally: &mut Tally, seed: u64) {
    let order = |count| Order { count, seed };
    corrupt::soak(tally, order(8));
    twice::soak(tally, order(1));
    signals::soak(tally, order(3));
    clock::soak(tally, order(3));
    reload::soak(tally, order(40));
    descriptors::soak(tally, order(1));
    leak::soak(tally, order(2_000));
    syscalls::short(tally, order(4));
}
