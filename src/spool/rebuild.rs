//! `spool rebuild`: makes the index anew from the payload files. The old index is moved aside, never deleted.
//! What was delivered becomes cache; everything else becomes one undecided job of kind `recovered`, which the running
//! box decides by the rules of the day. A file that is not what arrived goes to `quarantine/`, and is named.
//!
//! The files do not tell what a rule or a person held back, nor which destinations are suspended, nor where a delivered
//! instance went. That is taken from the old index where it can still be read; where not, the report says so.
use super::admit::remember;
use super::config::Config;
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::former::{Former, Known};
use super::keys;
use super::ledger::{Fact, FactKind};
use super::lifecycle::apply_now;
use super::model::{CommitError, HoldKind, OpenError};
use super::payload::{FileState, path_of};
use super::record::InstanceRecord;
use super::recover::{self, Found};
use super::study::{self, Fresh};
use super::txn::{Book, Effect, SUSPENDED, Txn, meta_key};
use crate::base::clock::{Clock, Wall};
use crate::base::names::{InstanceId, JobId};
use crate::telemetry::metrics::Metrics;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a rebuild made of the files.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct RebuildReport {
    /// Taken in again, to be decided anew.
    pub recovered: u64,
    /// Taken in again and held: held back before, or another content under a known SOP Instance UID.
    pub held: u64,
    /// Taken in as cache.
    pub delivered: u64,
    /// Our ids of the files that were put into `quarantine/`.
    pub quarantined: Vec<String>,
    /// Empty files that were removed.
    pub empty: u64,
    /// Where the old index lies now.
    pub aside: Option<PathBuf>,
    /// Destinations that stay suspended.
    pub suspended: Vec<String>,
    /// Why the old index could not be read (to its end): suspensions and holds by rules and persons are then lost.
    pub forgotten: Option<String>,
}

/// Instances in one synced batch.
const BATCH: usize = 256;
/// Records looked at for one batch of what is carried over as it is.
const MEMORY_BATCH: usize = 4_096;

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
    let mut files = look(path, &mut report).map_err(failed("a payload cannot be read"))?;
    // The first content under a UID is the one that the others conflict with.
    files.sort_unstable();
    let db = Db::open(&building, true).map_err(|error| damaged(error.to_string()))?;
    let config = Config {
        path: path.to_owned(),
        ..Config::default()
    };
    let core = Arc::new(Core::new(config, clock.clone(), Metrics::new()));
    let book = Book::load(core.clone(), &db).map_err(|error| damaged(error.to_string()))?;
    let mut site = Site {
        core,
        db,
        book,
        former: former(&mut report),
        fresh: Fresh::default(),
        report,
    };
    site.carry_over(&files).map_err(|error| damaged(error.to_string()))?;
    for chunk in files.chunks(BATCH) {
        let records = again(path, chunk).map_err(failed("a payload cannot be read"))?;
        site.take_in(&records).map_err(|error| damaged(error.to_string()))?;
    }
    let report = site.report;
    drop((site.book, site.core, site.db));
    fs::rename(&building, &index).map_err(failed("the new index cannot be moved"))?;
    super::pool::sync_directory(path).map_err(failed("cannot be flushed"))?;
    drop(lock);
    Ok(report)
}

/// The old index, if it opens.
fn former(report: &mut RebuildReport) -> Option<Former> {
    let Some(aside) = &report.aside else {
        report.forgotten = Some("there was no old index".to_owned());
        return None;
    };
    match Former::open(aside) {
        Ok(former) => Some(former),
        Err(error) => {
            report.forgotten = Some(error.to_string());
            None
        }
    }
}

/// A payload file: when it arrived, its name, and whether it was delivered.
type File = (Wall, InstanceId, bool);

/// The new index in the making.
struct Site {
    core: Arc<Core>,
    db: Db,
    book: Book,
    former: Option<Former>,
    /// Studies that the old index did not tell of.
    fresh: Fresh,
    report: RebuildReport,
}

impl Site {
    /// Asks the old index. It is not asked again after an error: what it says then is not to be trusted.
    fn ask<T: Default>(&mut self, question: impl FnOnce(&Former) -> Result<T, DbError>) -> T {
        let Some(former) = &self.former else {
            return T::default();
        };
        match question(former) {
            Ok(answer) => answer,
            Err(error) => {
                self.report.forgotten = Some(error.to_string());
                self.former = None;
                T::default()
            }
        }
    }

    /// What does not hang on a file: job numbers, suspensions, and what was delivered and has left the cache.
    fn carry_over(&mut self, files: &[File]) -> Result<(), CommitError> {
        self.book.next_job = self.ask(Former::next_job).max(self.book.next_job);
        let suspended = self.ask(Former::suspended);
        self.report.suspended = suspended.iter().map(|(name, _)| name.to_string()).collect();
        apply_now(&self.core, &self.db, &mut self.book, |txn| {
            for (name, since) in suspended {
                txn.number(Some(&name));
                txn.put(Cf::Meta, meta_key(SUSPENDED, name.as_str()), since);
            }
            Ok(())
        })?;
        for cf in [Cf::Study, Cf::Meta] {
            self.carry_memory(cf)?;
        }
        let present: HashSet<InstanceId> = files.iter().map(|(_, id, _)| *id).collect();
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let (evicted, next) = self.ask(|former| former.evicted(&start, BATCH));
            apply_now(&self.core, &self.db, &mut self.book, |txn| {
                let mut gone = evicted.into_iter().filter(|e| !present.contains(&e.entry.instance));
                gone.try_for_each(|evicted| evicted.record(txn))
            })?;
            from = next;
        }
        Ok(())
    }

    /// What was remembered of studies, and the alias map: the files do not tell them.
    fn carry_memory(&mut self, cf: Cf) -> Result<(), CommitError> {
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let (found, next) = self.ask(|former| former.memory((cf, &start), MEMORY_BATCH));
            apply_now(&self.core, &self.db, &mut self.book, |txn| {
                for (key, record) in found {
                    txn.put(cf, key, record);
                }
                Ok(())
            })?;
            from = next;
        }
        Ok(())
    }

    fn take_in(&mut self, records: &[(InstanceRecord, bool)]) -> Result<(), CommitError> {
        let now = self.core.clock.now();
        let mut known = Vec::with_capacity(records.len());
        for (record, _) in records {
            known.push(self.ask(|former| former.known(record.instance.id, now)));
        }
        let (report, fresh) = (&mut self.report, &mut self.fresh);
        apply_now(&self.core, &self.db, &mut self.book, |txn| {
            for ((record, delivered), known) in records.iter().zip(&known) {
                study::found(txn, record, fresh)?;
                if *delivered {
                    as_cache(txn, record, known)?;
                    report.delivered += 1;
                    continue;
                }
                match recover::adopt(txn, record, known)? {
                    Some(HoldKind::Recovered) => report.recovered += 1,
                    Some(_) | None => report.held += 1,
                }
            }
            Ok(())
        })
    }
}

/// Reads every file, once and whole. What is not what arrived is put aside here.
fn look(root: &Path, report: &mut RebuildReport) -> io::Result<Vec<File>> {
    let mut found = Vec::new();
    for id in recover::list(root)? {
        match recover::inspect(root, id, true)? {
            Found::Empty => {
                fs::remove_file(path_of(root, id))?;
                report.empty += 1;
            }
            Found::Partial => {
                fs::rename(path_of(root, id), root.join("quarantine").join(format!("{id}.dcm")))?;
                report.quarantined.push(id.to_string());
            }
            Found::Whole(record, state) => {
                found.push((record.instance.arrival, id, state == FileState::Delivered));
            }
        }
    }
    Ok(found)
}

/// The records of files that were looked at, kept out of memory until now.
fn again(root: &Path, files: &[File]) -> io::Result<Vec<(InstanceRecord, bool)>> {
    let mut records = Vec::with_capacity(files.len());
    for (_, id, delivered) in files {
        match recover::inspect(root, *id, false)? {
            Found::Whole(record, _) => records.push((*record, *delivered)),
            Found::Empty | Found::Partial => return Err(io::Error::other("it changed while it was read")),
        }
    }
    Ok(records)
}

/// A delivered instance, as the cache holds it. A resend of it has nothing to do where it went; anywhere, when that is not known.
fn as_cache(txn: &mut Txn<'_>, record: &InstanceRecord, known: &Known) -> Result<(), CommitError> {
    let mut record = recover::with_done(txn, record, known);
    record.delivered = true;
    let instance = &record.instance;
    if let Some(study) = &instance.study {
        txn.put(Cf::Study, keys::study(study, instance.id), Vec::new());
    }
    txn.put(Cf::Cached, keys::cached(instance.arrival, instance.id), Vec::new());
    txn.fact(Fact::new(FactKind::Recovered).instance(instance.id).text("delivered"));
    txn.effects.push(Effect::Cached(1));
    txn.put_instance(&record);
    let went = match record.done.is_empty() {
        true => vec![(keys::ANYWHERE, JobId(0))],
        false => recover::went(&record),
    };
    // Discarded by a person, and by nobody confirmed: a resend is delivered, as it was before.
    if !went.is_empty() {
        let mut seen = txn.seen(&instance.sop_instance)?;
        remember(&mut seen, &record, went);
        txn.put_seen(&instance.sop_instance, &seen);
    }
    Ok(())
}
