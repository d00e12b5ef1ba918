//! Conversions wired up: the codec's processes with the spool's disk, what was learned with its file, facts with the ledger.
use super::AppError;
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::config::Config;
use crate::sender::casting::{Conversions, Fact, Record};
use crate::spool::Spool;
use crate::telemetry::metrics::Metrics;
use crate::transcode::forms::{Coding, EXPLICIT_LITTLE, form_of};
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
    // What leaves in another layout, or deflated, has passed through this one.
    let through = match form_of(to).is_some_and(|form| form.coding == Coding::Native) && to.as_str() != EXPLICIT_LITTLE
    {
        true => format!(" as {EXPLICIT_LITTLE}"),
        false => String::new(),
    };
    format!(
        "from {from} to {to}, {frames} frames, {before} to {after} bytes{through}, pixels before blake3:{read} after blake3:{written}"
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
            let saved = tokio::task::spawn_blocking(move || {
                known.recount();
                known.save(&path)
            })
            .await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "what was learned of the destinations' transfer syntaxes cannot be written");
            }
            if last {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{DestinationId, InstanceId, JobId, Uid};

    #[test]
    fn a_conversions_line_says_of_which_syntax_its_bytes_are() {
        let said = |to: &'static str| {
            words(&Fact {
                instance: InstanceId::new(1, 1),
                job: JobId(1),
                destination: DestinationId::parse("vna").unwrap(),
                from: Uid::known("1.2.840.10008.1.2.4.90"),
                to: Uid::known(to),
                pixels: ["a".to_owned(), "a".to_owned()],
                frames: 1,
                before: 9_724,
                after: 115_940,
            })
        };
        for to in [EXPLICIT_LITTLE, "1.2.840.10008.1.2.4.80"] {
            assert!(said(to).contains("9724 to 115940 bytes, pixels"), "{}", said(to));
        }
        // Implicit, Deflated, Big Endian.
        for to in ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"] {
            let through = "9724 to 115940 bytes as 1.2.840.10008.1.2.1, pixels";
            assert!(said(to).contains(through), "{}", said(to));
        }
    }
}
