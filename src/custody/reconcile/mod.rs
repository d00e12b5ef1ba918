//! The daily reconciliation: what each source sent and said, what the box holds of it, what each destination has confirmed. What does
//! not agree is a difference, named one by one, in a report (`report.rs`, JSON and text below `node.state`) and as a metric.
//!
//! `day` the calendar of a site · `collect` one day out of the ledger, and everything that lies here, looked at · `judge` what of it is
//! a difference · `refusals` what was sent and not taken · `report` · `run` once a day, and later for a day that was missed.
//!
//! What is not delivered yet is open, not lost: an outage makes no difference, however long. A difference is looked at twice before
//! it is one. MPPS, when the box has it, says how many instances a modality means to have sent: its place is `StudySent::said`.
mod collect;
mod day;
mod judge;
mod refusals;
mod report;
mod run;
mod words;

use crate::base::units::Span;
use serde::{Deserialize, Serialize};

pub use day::{Day, DayError};
pub use report::{DestinationDay, Difference, DifferenceKind, Report, Said, SourceDay, StudySent};
pub use run::{ReconcileError, Reconciler, stored};

/// `[reconcile]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// When the day before is reconciled, as `HH:MM` in `zone`.
    pub at: String,
    /// IANA name of the zone in which days begin.
    pub zone: String,
    /// How long reports are kept.
    pub keep: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            at: "03:00".to_owned(),
            zone: "UTC".to_owned(),
            keep: Span::secs(90 * 86_400),
        }
    }
}

impl Config {
    /// Everything that is wrong, as sentences that begin with the key.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if day::time_of(&self.at).is_none() {
            problems.push("`at` is not a time of day: write \"HH:MM\", as \"03:00\"".to_owned());
        }
        if day::zone_of(&self.zone).is_none() {
            problems.push("`zone` is not an IANA time zone, as \"Europe/Berlin\"".to_owned());
        }
        if self.keep.0 < std::time::Duration::from_secs(86_400) {
            problems.push("`keep` must be at least 1day".to_owned());
        }
        problems
    }
}
