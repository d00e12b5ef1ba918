//! Fail-over between lanes: when a destination has been down or suspended for as long as a job's rule says, the next of its group
//! gets the job. The only place that looks at several lanes at once; it changes nothing but through the spool.
use super::{LaneState, Scheduler};
use crate::base::drain::Drain;
use crate::base::names::DestinationId;
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often the lanes are looked at: the precision of a rule's `after`.
const LOOK: Duration = Duration::from_secs(1);
/// Batches for one destination at one look; the rest waits for the next.
const BATCHES: usize = 4;

/// What is known of the destinations that cannot be reached now. A restart begins to count anew.
#[derive(Default)]
struct Watch {
    down: BTreeMap<DestinationId, Down>,
}

struct Down {
    since: Instant,
    /// Where the walk over its jobs goes on.
    next: Option<Vec<u8>>,
}

/// Starts the task; it ends when the drain stops.
pub(super) fn start(scheduler: Scheduler, metrics: Metrics, drain: &Drain) {
    let stop = drain.token();
    drain.spawn("failover", async move {
        let mut watch = Watch::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            watch.look(&scheduler, &metrics).await;
        }
    });
}

impl Watch {
    async fn look(&mut self, scheduler: &Scheduler, metrics: &Metrics) {
        let (mut usable, now) = (Vec::new(), Instant::now());
        for lane in scheduler.status() {
            let down = lane.suspended || matches!(lane.state, LaneState::Down | LaneState::Probing);
            if down {
                let fresh = || Down { since: now, next: None };
                self.down.entry(lane.destination).or_insert_with(fresh);
            } else {
                self.down.remove(&lane.destination);
                usable.push(lane.destination);
            }
        }
        for (name, down) in &mut self.down {
            for _ in 0..BATCHES {
                let down_for = now.duration_since(down.since);
                let taken = scheduler
                    .spool
                    .take_over(name, down_for, &usable, down.next.take())
                    .await;
                // What could not be read or written now is tried again at the next look.
                let Ok(taken) = taken else { break };
                for (to, jobs) in taken.moved {
                    let labels = [name.as_str(), to.as_str()];
                    metrics.failovers_total.with_label_values(&labels).inc_by(jobs);
                    tracing::warn!(destination = %name, %to, jobs, "jobs go to the next of their group: their destination is down");
                }
                down.next = taken.next;
                if down.next.is_none() {
                    break;
                }
            }
        }
    }
}
