//! The spool's start, told: opened or begun, with what it found in the log. Each loss is named; nothing is repaired here.
use super::AppError;
use crate::appliance::home::{self, State};
use crate::base::clock::Clock;
use crate::base::names::DestinationId;
use crate::config::Config;
use crate::spool::{self, OpenError, OpenReport, Spool};
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;

/// Refuses root what belongs to another user: the spool, or where there is none yet, `node.state`. Before anything is made that the
/// box's own user could not use afterwards.
pub(super) fn refuse_root(config: &Config) -> Result<(), AppError> {
    let path = &config.spool.path;
    if let Some((uid, _)) = spool::anothers(path) {
        let path = path.clone();
        return Err(OpenError::Anothers { path, uid }.into());
    }
    if !spool::is_there(path) {
        home::refuse_root(&config.node.state)?;
    }
    Ok(())
}

/// Opens the spool, or begins one, but not while this box has, or has had, one elsewhere.
pub(super) async fn open_spool(
    state: &Arc<State>,
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<(Spool, OpenReport), AppError> {
    let state = state.clone();
    let (mut settings, counted, time) = (config.spool.clone(), metrics.clone(), clock.clone());
    settings.ledger = config.ledger.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let path = settings.path.clone();
        state.guard(&path, spool::is_there)?;
        let opened = Spool::open(settings, time, counted)?;
        state.remember(&path)?;
        Ok(opened)
    });
    opening.await.map_err(|_| AppError::Interrupted)?
}

/// Of what lies below `payload/` and is no payload, so many are named in the log.
const OTHERS_TOLD: usize = 20;

/// What the spool found at its start, in the log: each loss by its own name.
pub(super) fn found(report: &OpenReport) {
    if let Some(from) = report.migrated_from {
        tracing::warn!(
            from,
            to = spool::FORMAT,
            "the spool was of an older format and is migrated"
        );
    }
    tracing::info!(
        instances = report.instances,
        delivered = report.delivered,
        discarded = report.discarded,
        queued = report.queued,
        held = report.held,
        partial = report.partial,
        orphans = report.orphans,
        quarantined = report.quarantined,
        "spool opened"
    );
    for id in &report.unreadable {
        tracing::error!(instance = %id, "a payload without a record is damaged or cannot be read; it lies in quarantine");
    }
    for id in &report.brought_home {
        tracing::warn!(instance = %id, "a payload lay in a wrong place below the spool; it is back where it belongs");
    }
    let others = report.others.shown();
    for path in others.iter().take(OTHERS_TOLD) {
        tracing::warn!(
            %path,
            "this is not a payload of this spool: nothing reads it, and it stays; move it away (`waystation spool fsck` says its whole name)"
        );
    }
    if report.others.count > OTHERS_TOLD as u64 {
        let count = report.others.count;
        tracing::warn!(count, "so many below payload/ are not payloads of this spool");
    }
    for id in &report.missing {
        tracing::error!(instance = %id, "payload missing: this instance is lost on this box; send it again from its modality");
    }
}

/// Jobs for destinations that the configuration no longer has: they wait for ever, unless a person reroutes them.
pub(super) fn strangers(spool: &Spool, configured: &[DestinationId]) {
    for (destination, waiting) in spool.strangers(configured) {
        let jobs = waiting.all();
        tracing::error!(%destination, jobs, "jobs wait for a destination that is not configured: configure it again, or see `waystation queue reroute` and `waystation queue discard`");
    }
}
