//! Making the index anew from the payload files: by a person (`spool rebuild`), or by a start that finds it damaged
//! (`salvage.rs`). The old index is moved aside at the end, never deleted.
//!
//! The files tell what every instance is and, by their state letter, whether it was delivered. They do not tell where to, nor
//! what a rule or a person held back, nor which destinations are suspended. That is taken from the old index where it can be
//! read (its jobs go on as they were), and from the list of persons' orders (`witness.rs`). What neither knows becomes one
//! undecided job: `recovered`, which the running box decides by the rules of the day, or held as `doubtful`.
//! A file that is not what arrived goes to `quarantine/`. What is lost or doubtful is named, one by one.
use super::admit::{remember, undecided};
use super::commitment;
use super::config::{Config, Salvage};
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::folder;
use super::former::{Former, Known};
use super::gather::{self, File};
use super::lifecycle::apply_now;
use super::model::{CommitError, HoldKind, HoldReason, NewJob, OpenError};
use super::payload::FileState;
use super::record::InstanceRecord;
use super::recover;
use super::salvage::{self, Fate, Named, Writing};
use super::study::{self, Fresh};
use super::txn::{Book, Effect, SUSPENDED, Txn, encode_number, meta_key};
use super::witness::{self, Standing};
use super::{admit, adopt, moved, relink, schema};
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
    /// Taken in again with all its jobs as they were, none of them held.
    pub kept: u64,
    /// Taken in again, to be decided anew.
    pub recovered: u64,
    /// Taken in again and held: held back before, doubtful, or another content under a known SOP Instance UID.
    pub held: u64,
    /// Taken in as cache.
    pub delivered: u64,
    /// Taken in as cache too: a person had discarded a delivery of it. A resend is delivered.
    pub discarded: u64,
    /// Our ids of the files that were put into `quarantine/`.
    pub quarantined: Vec<String>,
    /// Our ids of instances that the old index knew as not delivered and that have no whole file; their jobs are held.
    pub lost: Vec<String>,
    /// Whole payloads that lay in a wrong place, and were moved to the place of their id.
    pub brought_home: u64,
    /// What lies below `payload/` and is no payload, left where it is. A name that is not ours is a `*`.
    pub passed_over: Vec<String>,
    /// Empty files that were removed.
    pub empty: u64,
    /// Sent, and wait for their destination's commitment: asked for again, and not sent again.
    pub awaiting: u64,
    /// The report that names each instance that is not as before, when a person ordered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_in: Option<PathBuf>,
    /// Where the old index lies now.
    pub aside: Option<PathBuf>,
    /// Destinations that stay suspended.
    pub suspended: Vec<String>,
    /// Why the old index could not be read (to its end).
    pub forgotten: Option<String>,
    /// The list of persons' orders was gone, damaged or an older one: their holds and suspensions are known only from the old index.
    pub orders_lost: bool,
    /// Requests of sources for storage commitment, open or over, that the old index still told of.
    pub requests: u64,
    /// Lines of the ledger that are there and are not what was written: somebody has changed it. `ledger verify` names them for ever.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ledger_changed: Vec<u64>,
    /// Others may have been lost with the old index: their sources are not answered, keep their images, and ask again.
    pub requests_lost: bool,
}

/// How a rebuild goes about it.
pub(super) struct Manner {
    /// Every payload is read whole. Without it only headers are: a start must not take hours, and the scrub comes after.
    pub deep: bool,
    pub salvage: Salvage,
}

/// Instances in one synced batch.
const BATCH: usize = 256;
/// Names the index that is being replaced, from before it is moved until the new one stands.
const UNDER_WAY: &str = "rebuild-under-way";
/// Records looked at for one batch of what is carried over as it is.
const MEMORY_BATCH: usize = 4_096;

/// Rebuilds the index of a spool that no process has open. Reads every payload once.
///
/// # Errors
/// It is no spool, is in use, or the disk fails.
pub fn rebuild(path: &Path, clock: &Clock) -> Result<RebuildReport, OpenError> {
    let (lock, _) = recover::lock_to_write(path, false)?;
    let manner = Manner {
        deep: true,
        salvage: Salvage::Hold,
    };
    let (mut report, named_in) = salvage::reported(path, clock, &manner, "a person ran `waystation spool rebuild`")?;
    report.named_in = Some(named_in);
    drop(lock);
    Ok(report)
}

/// Names everything that is lost, damaged or doubtful. The caller has the lock. Cut at any moment, it is begun again with the same old index.
pub(super) fn remake(
    path: &Path,
    clock: &Clock,
    manner: &Manner,
    writing: &mut Writing,
) -> Result<RebuildReport, OpenError> {
    let failed = |what| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::Io { path, what, error }
    };
    let damaged = |error| recover::batch_error(path, error);
    let from = schema::older(path)?;
    if let Some(from) = from {
        // What is made here is of today's format: no older version may open it.
        schema::begin(path, from)?;
    }
    recover::directories(path)?;
    let building = path.join("index.building");
    match fs::remove_dir_all(&building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("cannot be cleared")(error)),
        _ => {}
    }
    let mut report = RebuildReport::default();
    let former = former(path, &mut report);
    let orders = witness::standing(path);
    report.orders_lost = orders.is_none();
    let mut files = gather::look(path, manner.deep, (former.as_ref(), &mut *writing), &mut report)
        .map_err(failed("a payload cannot be read"))?;
    // The first content under a UID is the one that the others conflict with.
    files.sort_unstable();
    let index = |error: DbError| recover::index_error(path, &error);
    let db = Db::open(&building, true).map_err(index)?;
    let core = core(path, clock).map_err(failed("trace.key cannot be read or made"))?;
    db.write(std::iter::once(schema::stamp())).map_err(index)?;
    let old = former.as_ref().map(Former::db);
    let (unread, changed) = relink::carry_ledger(old, &db, witness::last(path), clock.now()).map_err(index)?;
    report.ledger_changed = changed;
    report.forgotten = report.forgotten.or(unread);
    let book = Book::load(core.clone(), &db).map_err(index)?;
    let mut site = Site {
        core,
        db,
        book,
        former,
        orders,
        unknown: manner.salvage,
        fresh: Fresh::default(),
        report,
    };
    site.carry_over(&files).map_err(damaged)?;
    for chunk in files.chunks(BATCH) {
        let records = gather::again(path, chunk).map_err(failed("a payload cannot be read"))?;
        let named = site.take_in(&records).map_err(damaged)?;
        named
            .iter()
            .try_for_each(|one| writing.line(one))
            .map_err(failed("the report cannot be written"))?;
    }
    let named = site.lost(path, &files).map_err(damaged)?;
    named
        .iter()
        .try_for_each(|one| writing.line(one))
        .map_err(failed("the report cannot be written"))?;
    let mut report = site.report;
    report.requests_lost = report.forgotten.is_some();
    drop((site.book, site.core, site.former, site.db));
    replace(path, &building, clock.now(), &mut report).map_err(failed("the new index cannot be moved"))?;
    if from.is_some() {
        schema::end(path)?;
    }
    Ok(report)
}

/// What the spool's parts share, without a running spool.
fn core(path: &Path, clock: &Clock) -> io::Result<Arc<Core>> {
    let config = Config {
        path: path.to_owned(),
        ..Config::default()
    };
    let core = Core::new(config, clock.clone(), Metrics::new());
    core.read_trace_key()?;
    Ok(Arc::new(core))
}

/// The old index, if it opens; and where it lies when an earlier rebuild was cut after it was moved.
fn former(path: &Path, report: &mut RebuildReport) -> Option<Former> {
    let mut index = recover::index_path(path);
    if !index.exists() {
        let note = fs::read_to_string(path.join(UNDER_WAY)).unwrap_or_default();
        // The note is ours; it names a folder of the spool itself.
        match note.trim() {
            name if name.starts_with(ASIDE) && !name.contains('/') => {
                index = path.join(name);
                report.aside = Some(index.clone());
            }
            _ => {
                report.forgotten = Some("there was no old index".to_owned());
                return None;
            }
        }
    }
    match Former::open(&index) {
        Ok(former) => Some(former),
        Err(error) => {
            report.forgotten = Some(error.to_string());
            None
        }
    }
}

const ASIDE: &str = "index.damaged-";

/// The new index takes the old one's place.
fn replace(path: &Path, building: &Path, now: Wall, report: &mut RebuildReport) -> io::Result<()> {
    let index = recover::index_path(path);
    if index.exists() {
        let name = format!("{ASIDE}{}", now.0);
        fs::write(path.join(UNDER_WAY), &name)?;
        fs::File::open(path.join(UNDER_WAY))?.sync_all()?;
        super::pool::sync_directory(path)?;
        let aside = path.join(name);
        fs::rename(&index, &aside)?;
        report.aside = Some(aside);
    }
    super::pool::sync_directory(path)?;
    fs::rename(building, &index)?;
    super::pool::sync_directory(path)?;
    for note in [UNDER_WAY, recover::SUSPECT] {
        match fs::remove_file(path.join(note)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    super::pool::sync_directory(path)
}

/// The new index in the making.
struct Site {
    core: Arc<Core>,
    db: Db,
    book: Book,
    former: Option<Former>,
    orders: Option<Standing>,
    unknown: Salvage,
    /// Studies that the old index did not tell of.
    fresh: Fresh,
    report: RebuildReport,
}

impl Site {
    /// Asks the old index. A part of it that cannot be read makes no other part wrong.
    fn ask<T: Default>(&mut self, question: impl FnOnce(&Former) -> Result<T, DbError>) -> T {
        let answer = self.former.as_ref().map(question);
        match answer {
            None => T::default(),
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                self.report.forgotten.get_or_insert(error.to_string());
                T::default()
            }
        }
    }

    /// What does not hang on a file: job numbers, suspensions, and what was delivered and has left the cache.
    fn carry_over(&mut self, files: &[File]) -> Result<(), CommitError> {
        let next_job = self.ask(Former::next_job);
        self.book.go_on_behind(next_job);
        let mut suspended = self.ask(Former::suspended);
        if let Some(orders) = &self.orders {
            // The list is never behind the index.
            let listed = orders.suspended.iter();
            suspended = listed
                .map(|(name, since)| (name.clone(), encode_number(since.0)))
                .collect();
        }
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
        let mut present: HashSet<InstanceId> = files.iter().map(|(_, id, _)| *id).collect();
        // What was damaged has not left by a delivery.
        present.extend(
            self.report
                .quarantined
                .iter()
                .filter_map(|id| InstanceId::parse(id).ok()),
        );
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
        let (mut from, mut requests) = (Some(Vec::new()), 0);
        while let Some(start) = from {
            let (found, next) = self.ask(|former| former.memory((cf, &start), MEMORY_BATCH));
            apply_now(&self.core, &self.db, &mut self.book, |txn| {
                for (key, record) in found {
                    requests += u64::from(commitment::is_request(&key));
                    txn.put(cf, key, record);
                }
                Ok(())
            })?;
            from = next;
        }
        self.report.requests += requests;
        Ok(())
    }

    /// What is known of an instance: by the old index, by persons' orders, or by nobody.
    fn known(&mut self, id: InstanceId) -> Known {
        let now = self.core.clock.now();
        let told = self.ask(|former| former.known(id, now));
        told.with_orders(id, self.orders.as_ref(), self.unknown.hold())
    }

    fn take_in(&mut self, records: &[(InstanceRecord, FileState)]) -> Result<Vec<Named>, CommitError> {
        let known: Vec<Known> = records
            .iter()
            .map(|(record, _)| self.known(record.instance.id))
            .collect();
        let mut named = Vec::new();
        let (report, fresh) = (&mut self.report, &mut self.fresh);
        apply_now(&self.core, &self.db, &mut self.book, |txn| {
            for ((record, state), known) in records.iter().zip(&known) {
                study::found(txn, record, fresh)?;
                if state.is_over() || known.delivered {
                    match adopt::as_cache(txn, record, (known, *state))? {
                        true => report.discarded += 1,
                        false => report.delivered += 1,
                    }
                    continue;
                }
                let held = adopt::adopt(txn, record, known)?;
                let awaits = known.kept.iter().filter(|kept| kept.awaits());
                report.awaiting += awaits.count() as u64;
                let fate = match held {
                    None => {
                        report.kept += 1;
                        continue;
                    }
                    Some(HoldKind::Recovered) => {
                        report.recovered += 1;
                        Fate::DecidedAnew
                    }
                    Some(kind) => {
                        report.held += 1;
                        match (kind, known.told) {
                            (_, true) => continue,
                            (HoldKind::Doubtful, false) => Fate::Doubtful,
                            (_, false) => Fate::Held,
                        }
                    }
                };
                named.push(Named::of(&record.instance, fate));
            }
            Ok(())
        })?;
        Ok(named)
    }

    /// What the old index knew as not delivered and has no whole file: held, visibly, so that its modality can send it again.
    /// What was damaged has been named when its file was moved.
    fn lost(&mut self, root: &Path, files: &[File]) -> Result<Vec<Named>, CommitError> {
        let present: HashSet<InstanceId> = files.iter().map(|(_, id, _)| *id).collect();
        let mut lost = Vec::new();
        let asked = self.former.as_ref().map(|former| {
            former.pending(|record| {
                if !present.contains(&record.instance.id) {
                    lost.push(record);
                }
            })
        });
        if let Some(Err(error)) = asked {
            self.report.forgotten.get_or_insert(error.to_string());
        }
        let mut named = Vec::new();
        let cut: HashSet<String> = self.report.quarantined.iter().cloned().collect();
        for record in &lost {
            let id = record.instance.id;
            let known = self.known(id);
            apply_now(&self.core, &self.db, &mut self.book, |txn| missing(txn, record, &known))?;
            self.report.lost.push(id.to_string());
            if cut.contains(&id.to_string()) {
                continue;
            }
            // An earlier run may have been cut after it had moved the file.
            let fate = match folder::is_quarantined(root, id) {
                true => Fate::Damaged,
                false => Fate::Lost,
            };
            named.push(Named::of(&record.instance, fate));
        }
        Ok(named)
    }
}

impl Salvage {
    /// How an instance is held of which nobody knows whether a person had held it.
    pub(super) fn hold(self) -> Option<HoldReason> {
        match self {
            Self::Hold | Self::Stop => Some(HoldReason::new(
                HoldKind::Doubtful,
                "its record is lost; whether a person had held it is not known",
            )),
            Self::Deliver => None,
        }
    }
}

/// An instance without its payload: its jobs, or one undecided, are held; a resend is taken in.
fn missing(txn: &mut Txn<'_>, record: &InstanceRecord, known: &Known) -> Result<(), CommitError> {
    let record = adopt::with_done(txn, record, known);
    let id = record.instance.id;
    txn.put_instance(&record);
    txn.effects.push(Effect::Pending(1));
    let mut jobs: Vec<(JobId, NewJob)> = known.kept.iter().map(|kept| (kept.number, kept.job.clone())).collect();
    if jobs.is_empty() {
        jobs.push((
            JobId(0),
            undecided(HoldKind::Corrupt, "the payload file is missing", txn),
        ));
    }
    let mut numbers = Vec::new();
    for (number, mut job) in jobs {
        let purpose = job.hold.as_ref().is_some_and(|hold| hold.kind.is_on_purpose());
        if !purpose {
            job.hold = Some(HoldReason::new(HoldKind::Corrupt, "the payload file is missing"));
        }
        let dest = txn.number(job.destination.as_ref());
        numbers.push((number, admit::add_job(txn, id, dest, job)));
    }
    let mut seen = txn.seen(&record.instance.sop_instance)?;
    let mut went = adopt::went(&record);
    went.extend(moved::carried(txn, &known.away, &numbers));
    remember(txn, &mut seen, &record, went)?;
    txn.put_seen(&record.instance.sop_instance, &seen);
    super::damaged::mark(txn, id, "the payload file is missing")
}
