//! The scheduler: one lane for each destination, from the spool to the sender. Layer 4; never meets the listener.
//!
//! Lanes share nothing but the spool: one that is down for days delays nobody and costs its jobs no attempts. Nothing is
//! discarded here: a job ends confirmed by the destination's answer, or held with its reason.
//!
//! | file | holds |
//! | --- | --- |
//! | `lane.rs` | the lane: claims, hands out, reacts, as the machine says |
//! | `worker.rs`, `bridge.rs` | a session's work, one instance at a time |
//! | `machine.rs` | the lane's decisions, pure |
//! | `decide.rs`, `retry.rs` | what an outcome means for the job, pure |
//! | `breaker.rs`, `pace.rs`, `parked.rs` | what it means for the lane, pure |
//! | `width.rs` | how many associations a lane wants, pure |
//!
//! What is pure knows no task, no disk and no clock: `tests/sim` drives it in virtual time, with the spool's own transitions.
mod breaker;
mod bridge;
mod decide;
mod lane;
mod machine;
mod pace;
mod parked;
mod retry;
mod takeover;
#[cfg(test)]
mod tests;
mod width;
mod worker;

pub use bridge::written_uid;

use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::DestinationId;
use crate::pki::Slot;
use crate::sender::survey::Finding;
use crate::sender::{Config, Conversions, Down, Link, LinkError, Pair};
use crate::spool::Spool;
use crate::telemetry::metrics::Metrics;
use crate::transcode::known::Learned;
use lane::Lane;
use machine::Machine;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use worker::Shared;

/// The decisions without the tasks around them, for the simulator. In builds with planted faults only.
#[cfg(feature = "planted")]
pub mod pure {
    pub use super::decide::{Exam, asked, ending, examine, goes_on, hold, recorded, unreadable};
    pub use super::machine::{CLAIM_MAX, Machine, Order, Reaction, Report, Step, Streak, UNAUTHORISED};
    pub use super::retry::Circumstances;
    pub use super::width::Answered;
}

/// What every lane is built from.
#[derive(Clone)]
pub struct Parts {
    pub spool: Spool,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Owns the tasks of all lanes.
    pub drain: Drain,
    /// For jitter: the same seed gives the same schedule.
    pub seed: u64,
    /// Without them, everything leaves as it is stored.
    pub conversions: Option<Conversions>,
    /// `node.state`, where destinations that are folders have their notes.
    pub state: PathBuf,
}

/// All lanes. Cheap to clone; the lanes run until the drain stops.
#[derive(Clone)]
pub struct Scheduler {
    spool: Spool,
    lanes: Arc<Vec<Entry>>,
}

struct Entry {
    name: DestinationId,
    status: watch::Receiver<LaneStatus>,
    poke: Arc<Notify>,
    link: Link,
    certificates: Option<Arc<Slot>>,
}

/// A lane as people see it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct LaneStatus {
    pub destination: DestinationId,
    pub state: LaneState,
    /// A person, or a refusal of authorisation, has suspended it.
    pub suspended: bool,
    /// The last trouble in words; it may be over.
    pub last_failure: Option<String>,
    /// When it was (UTC).
    pub last_failure_at: Option<String>,
    /// Instances that were under way when the lane last looked.
    pub in_flight: usize,
    /// Sessions open or at work.
    pub sessions: usize,
    /// Associations wanted for what waits, within the site's limit.
    pub wanted: usize,
    /// SOP class and transfer syntax pairs that the destination refuses.
    pub parked: Vec<Pair>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneState {
    /// Reached, or not yet tried.
    Up,
    /// Congested: pausing, or going one instance at a time.
    Slowed,
    /// Not reached; nothing is claimed.
    Down,
    /// Not reached; a probe runs now.
    Probing,
}

/// A destination that cannot be started, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("destination {destination}: {error}")]
pub struct StartError {
    pub destination: DestinationId,
    pub error: LinkError,
}

impl Scheduler {
    /// Starts a lane for each destination. Nothing is connected before there is a job.
    ///
    /// # Errors
    /// Certificates or templates that cannot be used; nothing was started then.
    pub fn start(parts: &Parts, destinations: &[Config]) -> Result<Self, StartError> {
        let mut links = Vec::with_capacity(destinations.len());
        for config in destinations {
            let link = Link::new(config).map_err(|error| StartError {
                destination: config.name().clone(),
                error,
            })?;
            let link = match &parts.conversions {
                Some(conversions) => link.converting(conversions.clone()),
                None => link,
            };
            links.push((config, link.housed(&parts.state).clocked(&parts.clock)));
        }
        let mut rng = StdRng::seed_from_u64(parts.seed);
        let lanes = links
            .into_iter()
            .map(|(config, link)| start_lane(parts, config, link, rng.random()))
            .collect();
        let scheduler = Self {
            spool: parts.spool.clone(),
            lanes: Arc::new(lanes),
        };
        takeover::start(scheduler.clone(), parts.metrics.clone(), &parts.drain);
        Ok(scheduler)
    }

    /// A snapshot of every lane, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<LaneStatus> {
        let status = |entry: &Entry| LaneStatus {
            suspended: self.spool.is_suspended(&entry.name),
            ..entry.status.borrow().clone()
        };
        self.lanes.iter().map(status).collect()
    }

    /// The destinations that are configured.
    #[must_use]
    pub fn names(&self) -> Vec<DestinationId> {
        self.lanes.iter().map(|entry| entry.name.clone()).collect()
    }

    /// What was learned of a destination and still counts; `None`: there is no such lane.
    #[must_use]
    pub fn matrix(&self, destination: &DestinationId) -> Option<Vec<Learned>> {
        let entry = self.lanes.iter().find(|entry| entry.name == *destination)?;
        Some(entry.link.matrix())
    }

    /// The certificates towards all destinations that have any, to be watched and shown.
    #[must_use]
    pub fn certificates(&self) -> Vec<Arc<Slot>> {
        self.lanes
            .iter()
            .filter_map(|entry| entry.certificates.clone())
            .collect()
    }

    /// Tries the destination now: probes it if it is down, ends its pause, and asks again for parked presentation
    /// contexts (their held jobs are released by the operator's own verb). Answers whether there is such a lane.
    #[must_use]
    pub fn poke(&self, destination: &DestinationId) -> bool {
        let found = self.lanes.iter().find(|entry| entry.name == *destination);
        if let Some(entry) = found {
            entry.link.forget_refusals();
            entry.poke.notify_one();
        }
        found.is_some()
    }

    /// Asks a destination what it would do with stored pairs; see `Link::survey`. `None`: there is no such lane.
    ///
    /// # Errors
    /// It was not reached.
    pub async fn survey(
        &self,
        destination: &DestinationId,
        stored: &[(Pair, bool)],
    ) -> Option<Result<Vec<Finding>, Down>> {
        let entry = self.lanes.iter().find(|entry| entry.name == *destination)?;
        Some(entry.link.survey(stored).await)
    }
}

fn start_lane(parts: &Parts, config: &Config, link: Link, seed: u64) -> Entry {
    let name = config.name().clone();
    let (status_in, status) = watch::channel(LaneStatus {
        destination: name.clone(),
        state: LaneState::Up,
        suspended: false,
        last_failure: None,
        last_failure_at: None,
        in_flight: 0,
        sessions: 0,
        wanted: 0,
        parked: Vec::new(),
    });
    let poke = Arc::new(Notify::new());
    let certificates = link.certificates().cloned();
    let shared = Arc::new(Shared::new(
        (parts.spool.clone(), link.clone()),
        (name.clone(), config.patience()),
        parts.clock.clone(),
        parts.metrics.clone(),
        parts.drain.clone(),
    ));
    let machine = Machine::new(&shared.patience, StdRng::seed_from_u64(seed));
    parts.spool.puts_off(&name, shared.patience.retry.max.0);
    parts.spool.commits(&name, config.commits());
    let lane = Lane::new(shared, machine, status_in, poke.clone());
    parts.drain.spawn("lane", lane.run());
    Entry {
        name,
        status,
        poke,
        link,
        certificates,
    }
}
