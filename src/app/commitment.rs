//! Storage commitment put together: from configuration to its tasks, its desk and its verb.
use crate::commitment::{Commitment, Parts, StartError, with_archives};
use crate::config::Config;
use crate::control::commitment::Retry;
use crate::listener::SourceConfig;
use crate::{scheduler, sender};
use std::sync::Arc;

/// Built before the lanes start: certificates are read, nothing runs yet.
pub(super) fn build(parts: &scheduler::Parts, config: &Config) -> Result<Commitment, StartError> {
    for destination in parts.spool.awaited() {
        let mut known = config.destinations.iter();
        if !known.any(|known| *known.name() == destination && known.commits()) {
            let jobs = parts.spool.awaiting(&destination);
            tracing::error!(%destination, jobs, "sent jobs wait for a commitment that nobody asks for: configure `commitment` for the destination again; or `waystation commitment give-up --destination {destination} --reason ...` ends them as delivered by its C-STORE answers; or `waystation queue retry --state awaiting --destination {destination}` sends them again");
        }
    }
    let destinations: &[sender::Config] = &config.destinations;
    let parts = Parts {
        spool: parts.spool.clone(),
        clock: parts.clock.clone(),
        metrics: parts.metrics.clone(),
        drain: parts.drain.clone(),
        seed: rand::random(),
    };
    Commitment::new(parts, &config.sources, destinations)
}

/// Who may send, with the archives that may call back.
pub(super) fn sources(config: &Config) -> Vec<SourceConfig> {
    with_archives(&config.sources, &config.destinations)
}

/// The operator's verb that the engine carries out itself.
pub(super) fn retry(commitment: &Commitment) -> Retry {
    let commitment = commitment.clone();
    Arc::new(move |name| {
        let commitment = commitment.clone();
        Box::pin(async move { commitment.retry(name.as_deref()).await })
    })
}
