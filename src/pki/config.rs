//! `[certificates]` of the configuration: how often the files are looked at.
use crate::base::units::Span;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[certificates]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often all certificate, key, CA and list files are read for changes; zero: only on SIGHUP and `waystation reload`.
    pub watch: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { watch: Span::secs(10) }
    }
}

impl Config {
    /// Relations between keys, as sentences that begin with the key.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.watch.0.is_zero() && self.watch.0 < WATCH_MIN {
            problems.push("`watch` is shorter than 100ms: write \"10s\", or \"0s\" for never".to_owned());
        }
        problems
    }
}

const WATCH_MIN: Duration = Duration::from_millis(100);
