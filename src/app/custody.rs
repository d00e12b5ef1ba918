//! The custody's parts and tasks: what answers, what reconciles each day, what fills the index of patients after an upgrade, and the
//! promotions of rules that no running box was told of.
use super::Parts;
use crate::base::clock::Clock;
use crate::config::Config;
use crate::custody::{Custody, Reconciler, fill};
use crate::rules::promotion;
use crate::spool::Spool;
use crate::telemetry::metrics::Metrics;
use crate::web;
use std::path::{Path, PathBuf};

/// What control socket and HTTP ask. The kept differences stand in the gauges before anything is served: a scrape right after a start
/// must not take them for mended. A spool that is older than the reports is noticed here, at once.
pub(super) async fn desk(spool: &Spool, clock: &Clock, metrics: &Metrics, config: &Config) -> web::Desk {
    let reconciler = Reconciler::new(
        spool.clone(),
        clock.clone(),
        metrics.clone(),
        &config.reconcile,
        &config.node.state,
    );
    reconciler.begin().await;
    web::Desk {
        custody: Custody::new(spool.clone()),
        reconciler,
    }
}

impl Parts {
    /// Until the box stops.
    pub(super) fn start_custody(&self) {
        let (reconciler, drain) = (self.desk.reconciler.clone(), self.service.clone());
        self.service
            .spawn("reconciliation", async move { reconciler.run(drain).await });
        let (spool, drain) = (self.spool.clone(), self.inward.clone());
        self.inward
            .spawn("trace index", async move { fill::run(spool, drain).await });
    }
}

/// Puts promotions that were made while no box ran on the ledger: until now they stood in the rule history alone.
pub(super) async fn tell_promotions(spool: &Spool, rules: Option<PathBuf>) {
    let read = tokio::task::spawn_blocking(move || history(rules.as_deref()));
    let told = match read.await {
        Ok(lines) => spool.tell_promotions(lines).await,
        Err(_) => return,
    };
    match told {
        Ok(0) => {}
        Ok(told) => tracing::info!(
            promotions = told,
            "rule promotions from while no box ran are on the ledger now"
        ),
        Err(error) => tracing::error!(%error, "rule promotions from while no box ran could not be put on the ledger"),
    }
}

/// The rule history in the ledger's words: who, and what.
pub(super) fn history(rules: Option<&Path>) -> Vec<(String, String)> {
    let lines = rules.map(promotion::history).unwrap_or_default();
    let told = |line: promotion::Line| {
        let reason = match line.reason.as_str() {
            "" => String::new(),
            reason => format!(", because {reason}"),
        };
        (line.who, format!("{} {} at {}{reason}", line.what, line.set, line.at))
    };
    lines.into_iter().map(told).collect()
}
