//! `[transcode]`: how much a conversion may take.
use crate::base::units::{Size, Span};
use serde::{Deserialize, Serialize};

/// Limits of the codec's processes, and how long what was learned of destinations counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Conversions at once, each in a process of its own.
    pub workers: usize,
    /// Address space of one process.
    pub memory: Size,
    /// A conversion that has not ended by then is killed; also the most processor time it may use.
    pub deadline: Span,
    /// The largest converted instance; `workers` times this is the most that lies on the disk at once.
    pub output: Size,
    /// How long an acceptance that was learned from a destination counts. A refusal counts for the destination's `park_recheck`.
    pub learned: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 2,
            memory: Size(1 << 30),
            deadline: Span::secs(60),
            output: Size(2 << 30),
            learned: Span::secs(7 * 24 * 3_600),
        }
    }
}

impl Config {
    /// Everything wrong between keys, each with its key first.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            wrong.push(format!("workers: write 1 to {WORKERS_MAX}"));
        }
        if self.memory.0 < MEMORY_MIN {
            wrong.push("memory: write at least 256MiB".to_owned());
        }
        if self.deadline.0.as_secs() == 0 {
            wrong.push("deadline: write at least 1s".to_owned());
        }
        if self.output.0 == 0 {
            wrong.push("output: must be more than zero".to_owned());
        }
        if self.learned.0.is_zero() {
            wrong.push("learned: must be more than zero".to_owned());
        }
        wrong
    }
}

const WORKERS_MAX: usize = 64;
const MEMORY_MIN: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_agree_and_wrong_keys_are_named() {
        assert_eq!(Config::default().check(), Vec::<String>::new());
        let wrong: Config = toml::from_str("workers = 0\nmemory = \"1MiB\"\nlearned = \"0s\"\n").unwrap();
        let said = wrong.check().join("\n");
        assert!(
            said.contains("workers:") && said.contains("memory:") && said.contains("learned:"),
            "{said}"
        );
    }
}
