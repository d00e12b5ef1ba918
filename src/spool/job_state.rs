//! Where a job stands, as listings and filters name it.

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Queued,
    Held,
    Inflight,
    /// Sent; waits for its destination's commitment.
    Awaiting,
    /// Confirmed by the destination. Listed while the instance is in the spool.
    Delivered,
    /// Given up by a person, and delivered to nobody. Listed while the instance is in the spool.
    Discarded,
}

impl JobState {
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Held,
        Self::Inflight,
        Self::Awaiting,
        Self::Delivered,
        Self::Discarded,
    ];

    /// As listings and filters name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Inflight => "inflight",
            Self::Awaiting => "awaiting",
            Self::Delivered => "delivered",
            Self::Discarded => "discarded",
        }
    }

    /// Whether nothing more comes of a job in this state.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Delivered | Self::Discarded)
    }

    pub(super) fn of_end(status: Option<u16>) -> Self {
        match status {
            Some(_) => Self::Delivered,
            None => Self::Discarded,
        }
    }
}
