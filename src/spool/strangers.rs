//! What waits for whom, by the gauges: costs nothing. And for whom the configuration has no lane any more, so that nobody ever
//! delivers it: a person reroutes or discards it, or configures the destination again.
use super::{Spool, count};
use crate::base::names::DestinationId;

/// Jobs of one destination that have not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    pub queued: u64,
    pub held: u64,
    /// Sent, and not committed.
    pub awaiting: u64,
}

impl Waiting {
    #[must_use]
    pub fn all(self) -> u64 {
        self.queued + self.held + self.awaiting
    }
}

impl Spool {
    /// What waits for a destination, configured or not.
    #[must_use]
    pub fn waiting(&self, destination: &DestinationId) -> Waiting {
        Waiting {
            queued: count::backlog(&self.core, destination) as u64,
            held: self.core.metrics.held_of(destination.as_str()),
            awaiting: self.awaiting(destination),
        }
    }

    /// Destinations that are not among these but have jobs.
    #[must_use]
    pub fn strangers(&self, configured: &[DestinationId]) -> Vec<(DestinationId, Waiting)> {
        let lanes = self.core.lanes.all().into_iter();
        let names = lanes
            .map(|lane| lane.name.clone())
            .filter(|name| !configured.contains(name));
        let found = names.map(|name| (self.waiting(&name), name));
        let found = found.filter(|(waiting, _)| waiting.all() > 0);
        let mut found: Vec<_> = found.map(|(waiting, name)| (name, waiting)).collect();
        found.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        found
    }
}
