//! What a bench is told by the environment: `ROUNDS`, `SIZES`, `ASSOCIATIONS`, `PEERS`, `BENCH_SECONDS` (make's `SECONDS`).
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number of the environment, or what stands for it.
///
/// # Panics
/// When it is no number.
pub fn number(name: &str, otherwise: f64) -> f64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        _ => otherwise,
    }
}

pub fn count(name: &str, otherwise: u32) -> usize {
    let value = number(name, otherwise.into());
    assert!(value >= 1.0, "{name} must be 1 or more");
    value as usize
}

/// Words of the environment, parted by commas or blanks.
pub fn words(name: &str, otherwise: &str) -> Vec<String> {
    let text = std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let text = text.unwrap_or_else(|| otherwise.to_owned());
    text.split([',', ' '])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

pub fn seconds(otherwise: f64) -> Duration {
    Duration::from_secs_f64(number("BENCH_SECONDS", otherwise))
}

pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
