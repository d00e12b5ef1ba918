//! `spool rebuild`: makes the index anew from the payload files alone. The old index is moved aside, never deleted.
//! What was delivered becomes cache; everything else becomes one undecided job of kind `recovered`, which the running
//! box decides by the rules of the day. A file that is not what arrived goes to `quarantine/`, and is named.
use super::config::Config;
use super::core::Core;
use super::db::{Cf, Db};
use super::keys;
use super::ledger::{Fact, FactKind};
use super::lifecycle::apply_now;
use super::model::{CommitError, OpenError};
use super::payload::{FileState, path_of};
use super::record::{InstanceRecord, SeenEntry};
use super::recover::{self, Found};
use super::txn::{Book, Effect, Txn};
use crate::base::clock::Clock;
use crate::base::names::InstanceId;
use crate::telemetry::metrics::Metrics;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a rebuild made of the files.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct RebuildReport {
    /// Taken in again, to be decided anew.
    pub recovered: u64,
    /// Taken in as cache.
    pub delivered: u64,
    /// Our ids of the files that were put into `quarantine/`.
    pub quarantined: Vec<String>,
    /// Empty files that were removed.
    pub empty: u64,
    /// Where the old index lies now.
    pub aside: Option<PathBuf>,
}

/// Instances in one synced batch.
const BATCH: usize = 256;

/// Rebuilds the index of a spool that no process has open. Reads every payload once.
///
/// # Errors
/// It is no spool, is in use, or the disk fails.
pub fn rebuild(path: &Path, clock: &Clock) -> Result<RebuildReport, OpenError> {
    let (lock, _) = recover::lock(path, false)?;
    let failed = |what| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::Io { path, what, error }
    };
    let mut report = RebuildReport::default();
    let index = recover::index_path(path);
    if index.exists() {
        let aside = path.join(format!("index.damaged-{}", clock.now().0));
        fs::rename(&index, &aside).map_err(failed("the old index cannot be moved aside"))?;
        report.aside = Some(aside);
    }
    recover::directories(path)?;
    let damaged = |detail: String| OpenError::IndexDamaged {
        path: path.to_owned(),
        detail,
    };
    // Made under another name and moved at the end: a rebuild that was cut is started again, never half used.
    let building = path.join("index.building");
    match fs::remove_dir_all(&building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("cannot be cleared")(error)),
        _ => {}
    }
    let db = Db::open(&building, true).map_err(|error| damaged(error.to_string()))?;
    let config = Config {
        path: path.to_owned(),
        ..Config::default()
    };
    let core = Arc::new(Core::new(config, clock.clone(), Metrics::new()));
    let mut book = Book::load(core.clone(), &db).map_err(|error| damaged(error.to_string()))?;
    let ids = recover::list(path).map_err(failed("payloads cannot be listed"))?;
    for chunk in ids.chunks(BATCH) {
        let found = look(path, chunk, &mut report).map_err(failed("a payload cannot be read"))?;
        let done = apply_now(&core, &db, &mut book, |txn| {
            for (record, state) in &found {
                match state {
                    FileState::Delivered => as_cache(txn, record)?,
                    FileState::Sealed | FileState::Committed => recover::adopt(txn, record)?,
                }
            }
            Ok(())
        });
        done.map_err(|error| damaged(error.to_string()))?;
    }
    drop((book, core, db));
    fs::rename(&building, &index).map_err(failed("the new index cannot be moved"))?;
    super::pool::sync_directory(path).map_err(failed("cannot be flushed"))?;
    drop(lock);
    Ok(report)
}

fn look(root: &Path, ids: &[InstanceId], report: &mut RebuildReport) -> io::Result<Vec<(InstanceRecord, FileState)>> {
    let mut found = Vec::new();
    for id in ids {
        match recover::inspect(root, *id, true)? {
            Found::Empty => {
                fs::remove_file(path_of(root, *id))?;
                report.empty += 1;
            }
            Found::Partial => {
                fs::rename(path_of(root, *id), root.join("quarantine").join(format!("{id}.dcm")))?;
                report.quarantined.push(id.to_string());
            }
            Found::Whole(record, state) => {
                match state {
                    FileState::Delivered => report.delivered += 1,
                    FileState::Sealed | FileState::Committed => report.recovered += 1,
                }
                found.push((*record, state));
            }
        }
    }
    Ok(found)
}

/// A delivered instance, as the cache holds it.
fn as_cache(txn: &mut Txn<'_>, record: &InstanceRecord) -> Result<(), CommitError> {
    let mut record = record.clone();
    record.delivered = true;
    let instance = &record.instance;
    if let Some(study) = &instance.study {
        txn.put(Cf::Study, keys::study(study, instance.id), Vec::new());
    }
    txn.put(Cf::Cached, keys::cached(instance.arrival, instance.id), Vec::new());
    txn.fact(Fact::new(FactKind::Recovered).instance(instance.id).text("delivered"));
    txn.effects.push(Effect::Cached(1));
    txn.put_instance(&record);
    // A resend is a repeat, although nobody knows any more where the first went: an entry without jobs says that.
    let mut seen = txn.seen(&instance.sop_instance)?;
    if !seen.entries.iter().any(|entry| entry.digest == instance.digest) {
        seen.entries.push(SeenEntry {
            digest: instance.digest,
            instance: instance.id,
            source: instance.source.clone(),
            called_ae: instance.called_ae.clone(),
            at: instance.arrival,
            jobs: Vec::new(),
        });
        txn.put_seen(&instance.sop_instance, &seen);
    }
    Ok(())
}
