//! What the box raises an alarm about: the kinds, how bad they are, and the section of the runbook that each leads to.
use serde::{Deserialize, Serialize};

/// How much it matters. The same two words as the Prometheus rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Everything is kept; it waits for the morning.
    Ticket,
    /// Nothing can be taken in, or data is at risk: it wakes somebody.
    Page,
}

impl Severity {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// One kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    GateLatched,
    DiskLow,
    DiskFills,
    DestinationDown,
    DestinationSuspended,
    DestinationUnconfigured,
    SourceSilent,
    JobsHeld,
    RulesStale,
    CertificateExpiry,
    CertificateRefused,
    ClockImplausible,
    SpoolDamaged,
    SalvageUnread,
    CommitmentLate,
    CommitmentUntold,
    ReconciliationDiffers,
    StateUnwritten,
}

impl Kind {
    pub const ALL: [Self; 18] = [
        Self::GateLatched,
        Self::DiskLow,
        Self::DiskFills,
        Self::DestinationDown,
        Self::DestinationSuspended,
        Self::DestinationUnconfigured,
        Self::SourceSilent,
        Self::JobsHeld,
        Self::RulesStale,
        Self::CertificateExpiry,
        Self::CertificateRefused,
        Self::ClockImplausible,
        Self::SpoolDamaged,
        Self::SalvageUnread,
        Self::CommitmentLate,
        Self::CommitmentUntold,
        Self::ReconciliationDiffers,
        Self::StateUnwritten,
    ];

    /// As configuration, metrics and commands name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::GateLatched => "gate_latched",
            Self::DiskLow => "disk_low",
            Self::DiskFills => "disk_fills",
            Self::DestinationDown => "destination_down",
            Self::DestinationSuspended => "destination_suspended",
            Self::DestinationUnconfigured => "destination_unconfigured",
            Self::SourceSilent => "source_silent",
            Self::JobsHeld => "jobs_held",
            Self::RulesStale => "rules_stale",
            Self::CertificateExpiry => "certificate_expiry",
            Self::CertificateRefused => "certificate_refused",
            Self::CommitmentLate => "commitment_late",
            Self::CommitmentUntold => "commitment_untold",
            Self::ReconciliationDiffers => "reconciliation_differs",
            Self::ClockImplausible => "clock_implausible",
            Self::SpoolDamaged => "spool_damaged",
            Self::SalvageUnread => "salvage_unread",
            Self::StateUnwritten => "state_unwritten",
        }
    }

    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The section of `docs/runbook.md`, as its link.
    #[must_use]
    pub fn anchor(self) -> &'static str {
        match self {
            Self::GateLatched => "nothing-is-accepted-gate-latched",
            Self::DiskLow => "the-modality-says-out-of-resources-disk-nearly-full",
            Self::DiskFills => "the-disk-is-filling",
            Self::DestinationDown => "the-archive-has-no-new-images-wan-or-archive-down",
            Self::DestinationSuspended => "a-destination-is-suspended",
            Self::DestinationUnconfigured => "images-wait-for-a-destination-that-is-not-configured",
            Self::SourceSilent => "a-modality-is-silent",
            Self::JobsHeld => "images-are-held",
            Self::RulesStale => "a-rule-change-has-no-effect",
            Self::CertificateExpiry => "a-certificate-runs-out-or-has",
            Self::CertificateRefused => "a-certificate-runs-out-or-has",
            Self::CommitmentLate => "the-archive-does-not-commit-storage-commitment-outstanding",
            Self::CommitmentUntold => "the-modality-does-not-get-its-commitment",
            Self::ReconciliationDiffers => "the-day-does-not-agree-reconciliation",
            Self::ClockImplausible => "the-clock-is-wrong",
            Self::SpoolDamaged => "payloads-are-damaged",
            Self::SalvageUnread => "the-box-has-salvaged-itself",
            Self::StateUnwritten => "what-the-box-keeps-cannot-be-written",
        }
    }

    /// Whether things of this kind that begin together have one cause (a cut line, a dead switch), and are one incident.
    #[must_use]
    pub fn spreads(self) -> bool {
        matches!(
            self,
            Self::DestinationDown | Self::DestinationUnconfigured | Self::SourceSilent | Self::CertificateExpiry
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.word()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }
}
