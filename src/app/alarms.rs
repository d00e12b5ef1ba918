//! The alarms' wiring: what they see of the box, where their memory lies. Every call blocks for a disk at most.
use super::Parts;
use crate::alarms::{self, Alarms, Sight};
use crate::base::clock::Clock;
use crate::config::Config;
use crate::spool::{Fact, FactKind, Spool};
use std::sync::Arc;

impl Parts {
    /// Starts the alarms, as a task of the service: they tell of a box that drains, too.
    pub(super) async fn start_alarms(&self, config: &Config) -> Option<Alarms> {
        let (spool, scheduler, rules) = (self.spool.clone(), self.scheduler.clone(), self.rules.clone());
        let look: alarms::Look = Arc::new(move || {
            let health = spool.health();
            let lanes = scheduler.status();
            let names = scheduler.names();
            let strangers = spool.strangers(&names).into_iter();
            let put_off = names.iter().map(|name| (name.to_string(), spool.put_off(name)));
            #[allow(clippy::cast_precision_loss)]
            let room_bytes = health.free_bytes.saturating_sub(health.low_water_bytes) as f64;
            Sight {
                lanes: lanes
                    .into_iter()
                    .map(|lane| (lane.destination.to_string(), lane.last_failure))
                    .collect(),
                strangers: strangers
                    .map(|(name, waiting)| (name.to_string(), waiting.all()))
                    .collect(),
                put_off: put_off.collect(),
                room_bytes: Some(room_bytes),
                rules_stale: rules.is_stale(),
            }
        });
        let parts = alarms::Parts {
            config: config.alarms.clone(),
            node: config.node.name.clone(),
            folder: config.node.state.clone(),
            sources: config.sources.iter().map(|source| source.name.to_string()).collect(),
            metrics: self.metrics.clone(),
            clock: Clock::System,
            look,
            recorder: recorder(&self.spool),
        };
        let service = self.service.clone();
        let runtime = tokio::runtime::Handle::current();
        let starting = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            Alarms::start(parts, &service)
        });
        starting.await.ok()
    }
}

/// What operators do to alarms, as lines of the ledger. Not a kind of its own: a version that does not know it would call the line damaged.
fn recorder(spool: &Spool) -> alarms::Recorder {
    let spool = spool.clone();
    Arc::new(move |deeds| {
        let spool = spool.clone();
        let fact = |deed: alarms::Deed| Fact::new(FactKind::Acknowledged).who(&deed.who).text(deed.text);
        let facts: Vec<Fact> = deeds.into_iter().map(fact).collect();
        Box::pin(async move { spool.note(facts).await.map_err(|error| error.to_string()) })
    })
}
