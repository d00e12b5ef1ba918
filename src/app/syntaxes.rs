//! Conversions wired up: the codec's processes with the spool's disk, what was learned with its file, facts with the ledger.
use super::AppError;
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::config::Config;
use crate::sender::casting::{Conversions, Fact, Record};
use crate::spool::Spool;
use crate::telemetry::metrics::Metrics;
use crate::transcode::{Known, Transcoder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What was learned of the destinations, below `node.state`.
pub const FILE: &str = "syntaxes.json";
/// Below the spool, so that its marks hold for it too.
const SCRATCH: &str = "scratch";
const SAVE: Duration = Duration::from_secs(5);

/// Everything that the lanes need to convert.
pub(super) fn conversions(
    config: &Config,
    spool: &Spool,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Conversions, AppError> {
    let known = Known::new(config.transcode.learned.0, clock.clone(), metrics.clone());
    if let Err(error) = known.load(&config.node.state.join(FILE)) {
        tracing::warn!(%error, "what was learned of the destinations' transfer syntaxes cannot be read; it is learned again");
    }
    let watched = spool.clone();
    let room = Arc::new(move || {
        let health = watched.health();
        !(health.low_water || health.critical || health.latched || health.failed)
    });
    let scratch = config.spool.path.join(SCRATCH);
    // This very program, also when another file has taken its name since.
    let program = PathBuf::from("/proc/self/exe");
    let transcoder = Transcoder::new(config.transcode.clone(), program, &scratch, room, metrics.clone());
    Ok(Conversions {
        transcoder: transcoder.map_err(|error| AppError::Scratch { path: scratch, error })?,
        known,
        record: record(spool),
        metrics: metrics.clone(),
    })
}

fn record(spool: &Spool) -> Record {
    let spool = spool.clone();
    Arc::new(move |fact| {
        let spool = spool.clone();
        Box::pin(async move {
            let done = spool
                .converted(fact.instance, (fact.job, &fact.destination), words(&fact))
                .await;
            if let Err(error) = &done {
                tracing::warn!(%error, "a conversion could not be recorded, and was thrown away");
            }
            done.is_ok()
        })
    })
}

/// The line on the ledger.
fn words(fact: &Fact) -> String {
    let Fact {
        from,
        to,
        pixels: [read, written],
        frames,
        before,
        after,
        ..
    } = fact;
    format!(
        "from {from} to {to}, {frames} frames, {before} to {after} bytes, pixels before blake3:{read} after blake3:{written}"
    )
}

/// Keeps what was learned, every few seconds and at the end.
pub(super) fn keep(known: &Known, state: &Path, drain: &Drain) {
    let (known, path, stopping) = (known.clone(), state.join(FILE), drain.token());
    drain.spawn("syntaxes", async move {
        loop {
            let last = tokio::select! {
                () = stopping.cancelled() => true,
                () = tokio::time::sleep(SAVE) => false,
            };
            let (known, path) = (known.clone(), path.clone());
            let saved = tokio::task::spawn_blocking(move || known.save(&path)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "what was learned of the destinations' transfer syntaxes cannot be written");
            }
            if last {
                return;
            }
        }
    });
}
