//! What a bench is told by the environment: `ROUNDS`, `SIZES`, `ASSOCIATIONS`, `PEERS`, `BENCH_SECONDS` (make's `SECONDS`). All of it
//! is read before anything is started or measured; what is wrong ends the bench with a line that says what to write.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ends the bench, which has not begun.
pub fn wrong(name: &str, text: &str, wanted: &str) -> ! {
    eprintln!("{name}: `{text}` does not fit; write {wanted}");
    std::process::exit(2)
}

/// What the environment says, unless it is empty.
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// A whole number of the environment, 1 or more, or what stands for it.
pub fn count(name: &str, otherwise: u32) -> usize {
    let Some(text) = asked(name) else {
        return otherwise as usize;
    };
    match text.trim().parse::<u32>() {
        Ok(value @ 1..) => value as usize,
        _ => wrong(name, &text, "a whole number from 1 on"),
    }
}

/// The same with an upper end.
pub fn count_to(name: &str, otherwise: u32, most: usize) -> usize {
    let value = count(name, otherwise);
    if value > most {
        wrong(name, &value.to_string(), &format!("a whole number up to {most}"));
    }
    value
}

/// Whole numbers, 1 to `most` each.
pub fn counts(name: &str, otherwise: &str, most: usize) -> Vec<usize> {
    let number = |word: &String| match word.parse::<usize>() {
        Ok(value) if (1..=most).contains(&value) => value,
        _ => wrong(name, word, &format!("whole numbers from 1 to {most}, parted by commas")),
    };
    words(name, otherwise).iter().map(number).collect()
}

/// Words of the environment, parted by commas or blanks; at least one.
pub fn words(name: &str, otherwise: &str) -> Vec<String> {
    let text = asked(name).unwrap_or_else(|| otherwise.to_owned());
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_owned).collect();
    if words.is_empty() {
        wrong(
            name,
            &text,
            &format!("one or more, parted by commas, as in {name}={otherwise}"),
        );
    }
    words
}

/// Words out of those that are known.
pub fn chosen(name: &str, known: &[&str], otherwise: &str) -> Vec<String> {
    let words = words(name, otherwise);
    if let Some(word) = words.iter().find(|word| !known.contains(&word.as_str())) {
        wrong(name, word, &format!("some of {}", known.join(",")));
    }
    words
}

/// How long a figure is measured.
pub fn seconds(otherwise: f64) -> Duration {
    let Some(text) = asked("BENCH_SECONDS") else {
        return Duration::from_secs_f64(otherwise);
    };
    match text.trim().parse::<f64>() {
        Ok(value) if (0.01..=3_600.0).contains(&value) => Duration::from_secs_f64(value),
        _ => wrong("SECONDS", &text, "a number from 0.01 to 3600"),
    }
}

pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
