//! What waits for whom, by the gauges, which costs nothing; and how much of it is not due yet. And for whom the configuration has no lane any more, so that nobody ever
//! delivers it: a person reroutes or discards it, or configures the destination again.
use super::{Spool, count, pick};
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

    /// Of what is queued for a destination, what is not due yet: rules have put it off, or its study is not quiet. 0 where rules put
    /// nothing off: the pauses of retries are short. Blocking; 0 when the index cannot be read.
    #[must_use]
    pub fn put_off(&self, destination: &DestinationId) -> u64 {
        let lane = self.core.lanes.get(destination).filter(|lane| lane.has_waits());
        let (Some(lane), Ok(db)) = (lane, self.core.db()) else {
            return 0;
        };
        pick::put_off(&db, &lane, self.core.clock.now()).unwrap_or(0) as u64
    }

    /// Whether a job was ever made for a destination of this name, or it is one of those that run. Ended jobs may still be listed by it.
    #[must_use]
    pub fn knows(&self, destination: &DestinationId) -> bool {
        self.core.lanes.get(destination).is_some()
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
