//! Mutation guided by outcomes: seeds in, failures out.
use super::outcome::fingerprint;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest input that is made.
const INPUT_MAX: usize = 64 << 10;
/// Inputs that are kept for their new signature.
const POOL_MAX: usize = 4_096;
/// A single input may not take longer; the slowest target has a deadline of its own below this.
const RUN_MAX: Duration = Duration::from_secs(3);

/// Numbers that lengths, tags and counts break at.
const ODD: [u32; 14] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
];

fn variable(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() {
        return otherwise;
    }
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is to be a number, not `{text}`"))
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/seeds")
        .join(target)
}

/// What libFuzzer's search by coverage came to, minimised.
fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.expect("listed").path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

/// Committed seeds (every crash that was ever found is one of them), the corpus, then what `seeds.rs` makes.
fn pool(target: &str) -> Vec<Vec<u8>> {
    let committed = [files(&folder(target)), files(&corpus(target))].concat();
    let mut pool: Vec<Vec<u8>> = committed
        .iter()
        .map(|path| std::fs::read(path).expect("a seed"))
        .collect();
    pool.extend(super::seeds::made(target));
    assert!(!pool.is_empty(), "{target} has no seeds");
    pool
}

/// Runs one target for its time. Every seed is run first, as it is.
pub fn fuzz(target: &str, run: impl Fn(&[u8]) -> u64) {
    let (seconds, seed) = (variable("FUZZ_SECONDS", 1), variable("FUZZ_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let mut pool = pool(target);
    let mut signatures = HashSet::new();
    for input in &pool {
        signatures.insert(checked(target, input, &run));
    }
    let (seeds, start, mut runs) = (pool.len(), Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = mutated(&pool, &mut random);
        let signature = checked(target, &input, &run);
        runs += 1;
        if signatures.insert(signature) && pool.len() < POOL_MAX {
            pool.push(input);
        }
    }
    println!(
        "fuzz {target}: {runs} runs from {seeds} seeds in {seconds} s, {} outcomes, seed {seed}",
        signatures.len()
    );
    assert!(seconds == 0 || runs > 0);
}

/// The signature of one run; a failure writes the input down.
fn checked(target: &str, input: &[u8], run: &impl Fn(&[u8]) -> u64) -> u64 {
    let timed = || {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(input)));
        (outcome, began.elapsed())
    };
    let (mut outcome, mut took) = timed();
    if outcome.is_ok() && took >= RUN_MAX {
        // Once more: others may have had the machine, or its disk, for that long.
        (outcome, took) = timed();
    }
    match outcome {
        Ok(signature) if took < RUN_MAX => signature,
        broken => {
            let name = format!("{target}-{:016x}", fingerprint(input));
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, input).expect("the temporary folder is writable");
            let what = if broken.is_ok() { "took too long" } else { "failed" };
            panic!(
                "{target} {what} ({took:?}) on {}: copy it to {}",
                path.display(),
                folder(target).display()
            );
        }
    }
}

fn mutated(pool: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = pool[random.random_range(0..pool.len())].clone();
    for _ in 0..random.random_range(1..=6) {
        change(&mut input, pool, random);
    }
    input.truncate(INPUT_MAX);
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut StdRng) {
    let length = input.len();
    let at = random.random_range(0..=length);
    let some = random.random_range(1..=16_usize);
    let end = length.min(at + some);
    match random.random_range(0..10) {
        0 if at < length => input[at] ^= 1 << random.random_range(0..8),
        1 if at < length => input[at] = random.random(),
        2 => drop(input.drain(at..end)),
        3 => input.truncate(at),
        4 => drop(input.splice(at..at, (0..some).map(|_| random.random::<u8>()))),
        5 => {
            let again = input[at..end].repeat(random.random_range(1..=8));
            drop(input.splice(at..at, again));
        }
        6 | 7 => {
            let number = ODD[random.random_range(0..ODD.len())];
            let bytes = match random.random_range(0..4) {
                0 => number.to_le_bytes().to_vec(),
                1 => number.to_be_bytes().to_vec(),
                2 => number.to_le_bytes()[..2].to_vec(),
                _ => number.to_be_bytes()[2..].to_vec(),
            };
            let end = length.min(at + bytes.len());
            drop(input.splice(at..end, bytes));
        }
        8 => {
            let other = &pool[random.random_range(0..pool.len())];
            let from = random.random_range(0..=other.len());
            let to = random.random_range(from..=other.len());
            drop(input.splice(at..end, other[from..to].iter().copied()));
        }
        _ => {
            let other = random.random_range(0..=length);
            let piece = input[at.min(other)..at.max(other)].to_vec();
            let to = random.random_range(0..=length);
            drop(input.splice(to..to, piece.into_iter().take(256)));
        }
    }
}
