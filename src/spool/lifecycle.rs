//! Opening and closing: the threads, who owns them, and the order in which they end.
use super::chair::{Chair, Door};
use super::commit::{Committer, QUEUE, Request, apply};
use super::config::Salvage;
use super::core::Core;
use super::db::{Db, DbError};
use super::former::Known;
use super::inspect::{Found, inspect};
use super::keeper::{Keeper, MARKS};
use super::model::{CommitError, HoldKind, OpenError, OpenReport};
use super::payload::Mark;
use super::record::InstanceRecord;
use super::salvage::{self, Differences, Fate, Named};
use super::scrub::Scrub;
use super::study::{self, Fresh};
use super::txn::{Book, Txn};
use super::{Config, Spool, adopt, count, damaged, folder, migrate as migration, recover, trace, witness};
use crate::base::clock::Clock;
use crate::base::names::InstanceId;
use crate::telemetry::metrics::Metrics;
use std::fs::File;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The strong end of the ways to a commit and the threads behind them. When it goes, they end: scrub, commit, then keeper and pool.
pub(super) struct Owner {
    core: Arc<Core>,
    running: Mutex<Option<Running>>,
}

struct Running {
    door: Door,
    commit: JoinHandle<()>,
    keeper: JoinHandle<()>,
    pool: JoinHandle<()>,
    scrub: JoinHandle<()>,
    /// The lock on the spool directory.
    lock: File,
}

impl Owner {
    pub(super) fn queue(&self) -> Option<mpsc::Sender<Request>> {
        self.lock().as_ref().map(|running| running.door.queue.clone())
    }

    pub(super) fn door(&self) -> Option<Door> {
        self.lock().as_ref().map(|running| running.door.clone())
    }

    pub(super) fn commit_alive(&self) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|running| !running.commit.is_finished())
    }

    /// Ends all threads; what waits in the queue is done first. Blocking, for as long as the last batches take. A thread that a
    /// payload holds up is left behind: the scrub, which only reads, and keeper and pool, which lay no ground for any promise.
    fn stop(&self) {
        let Some(running) = self.lock().take() else {
            return;
        };
        let Running {
            door,
            commit,
            keeper,
            pool,
            scrub,
            lock,
        } = running;
        // First: its last position needs the commit thread.
        self.core.scrub.close();
        ended(scrub);
        drop(door);
        self.core.pool.close();
        // A thread that panicked has already failed the gate.
        drop(commit.join());
        ended(keeper);
        ended(pool);
        self.core.close_db(Duration::from_secs(10));
        drop(lock);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a thread, but not for one that hangs on a file.
fn ended(thread: JoinHandle<()>) {
    let until = Instant::now() + HANGING_BOUND;
    while !thread.is_finished() {
        if Instant::now() >= until {
            let name = thread.thread().name().unwrap_or("unnamed").to_owned();
            tracing::warn!(
                thread = name,
                "the disk holds up a thread of the spool: it is left behind"
            );
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    drop(thread.join());
}

/// For a thread that has been told to end.
const HANGING_BOUND: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Spool {
    /// Opens a spool, or makes one in an empty directory. Blocking: seconds for a million jobs.
    ///
    /// # Errors
    /// See `OpenError`; each says what to do.
    pub fn open(config: Config, clock: Clock, metrics: Metrics) -> Result<(Self, OpenReport), OpenError> {
        let root = config.path.clone();
        let (lock, created) = recover::lock_to_write(&root, true)?;
        let migrated = migration::upgrade(&root, &clock, migration::Manner::default());
        let migrated_from = migrated.as_ref().ok().copied().flatten();
        let prepared = match migrated.and_then(|_| Prepared::of(&config, &clock, &metrics)) {
            Err(error) if error.is_damage() && config.salvage != Salvage::Stop => {
                tracing::error!(%error, "the index is damaged: it is made anew from the payload files, and the old one is kept");
                let report = salvage::salvage(&config, &clock, &error.to_string())?;
                let mut prepared = Prepared::of(&config, &clock, &metrics)?;
                prepared.report.salvaged = Some(report);
                prepared
            }
            prepared => prepared?,
        };
        let Prepared {
            core,
            book,
            db,
            mut report,
        } = prepared;
        (report.created, report.migrated_from) = (created, migrated_from);
        let io = |what| {
            let path = root.clone();
            move |error| OpenError::Io { path, what, error }
        };
        core.disk.keep_back().map_err(io("cannot be measured"))?;
        core.witness.begin(&db, book.ledger);
        let unread = salvage::open_reports(&root).map_err(io("salvage reports cannot be listed"))?;
        core.metrics.salvage_unacknowledged.set(i64::from(!unread.is_empty()));
        core.set_db(db);
        let owner = start(core.clone(), book, lock).map_err(io("threads cannot be started"))?;
        let owner = Arc::new(owner);
        Ok((Self { core, owner }, report))
    }

    /// Ends the spool's threads when the queue is empty, and closes the index. Other clones then get `GateLatched`.
    pub async fn close(self) {
        // A disk that takes nothing more takes no count of refusals either.
        let _ = tokio::time::timeout(HANGING_BOUND, self.flush_refused()).await;
        let owner = self.owner.clone();
        drop(self);
        // The join fails only when the stop itself panicked; the lock goes with the process then.
        drop(tokio::task::spawn_blocking(move || owner.stop()).await);
    }
}

/// An index that is open and agrees with the payload files; no thread runs yet.
struct Prepared {
    core: Arc<Core>,
    db: Db,
    book: Book,
    report: OpenReport,
}

impl Prepared {
    fn of(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Self, OpenError> {
        let root = config.path.clone();
        let core = Arc::new(Core::new(config.clone(), clock.clone(), metrics.clone()));
        count::quarantined_from_zero(&core);
        let io = |what| {
            let path = root.clone();
            move |error| OpenError::Io { path, what, error }
        };
        core.disk.look().map_err(io("cannot be measured"))?;
        if core.disk.critical() {
            core.disk
                .give_all()
                .map_err(io("has a ballast that cannot be removed"))?;
        }
        recover::directories(&root)?;
        core.read_trace_key().map_err(io("trace.key cannot be read or made"))?;
        // A million files take as long to list as their records take to read, so both are done at once. Nothing changes either:
        // no other process has this spool, and nothing is taken in yet.
        let (opened, files) = std::thread::scope(|scope| {
            let listing = scope.spawn(|| folder::list(&root));
            let opened = Self::index(&core, &root);
            let broken = |_| Err(std::io::Error::other("the listing ended by a panic"));
            (opened, listing.join().unwrap_or_else(broken))
        });
        let (db, book, mut report) = opened?;
        let mut files = folder::listed(files, &root)?;
        let index = |error: DbError| recover::index_error(&root, &error);
        let compared = recover::compare(&files.payloads, &db).map_err(index)?;
        files.payloads = Vec::new();
        report.instances = compared.records;
        count::stock(&core, &report);
        trace::begin(&core, &db, report.instances == 0).map_err(index)?;
        let (strays, mut missing) = (compared.strays, compared.missing);
        let aside = || io("a payload without a record cannot be put in its place");
        let mut differences = Differences::of(&root, clock.now());
        let naming = (&mut report, &mut differences);
        let mut adopted = recover::strays(&core, &db, &strays, naming).map_err(aside())?;
        adopted.extend(recover::misplaced(&core, &db, &mut files, &mut report).map_err(aside())?);
        recover::in_order(&mut adopted);
        report.others = files.others;
        report.brought_home.sort_unstable();
        missing.retain(|id| report.brought_home.binary_search(id).is_err());
        report.quarantined = count_quarantine(&db).map_err(index)?;
        let damaged = damaged::all(&db).map_err(index)?;
        let mut prepared = Self { core, db, book, report };
        let trouble = |error| recover::batch_error(&root, error);
        let named = prepared.reconcile(missing, &adopted).map_err(trouble)?;
        prepared.let_go(&damaged).map_err(trouble)?;
        differences
            .end(&named)
            .map_err(io("the salvage report cannot be written"))?;
        Ok(prepared)
    }

    /// The index, with the lanes that it knows, and its jobs counted.
    fn index(core: &Arc<Core>, root: &std::path::Path) -> Result<(Db, Book, OpenReport), OpenError> {
        let db = recover::open_index(root)?;
        let index = |error: DbError| recover::index_error(root, &error);
        recover::lanes(core, &db).map_err(index)?;
        let book = Book::load(core.clone(), &db).map_err(index)?;
        let begun = core.retention.begin(&db, book.ledger, core.clock.now());
        begun.map_err(index)?;
        let lost = witness::lost_facts(root, &book.ledger);
        if lost > 0 {
            return Err(OpenError::IndexDamaged {
                path: root.to_owned(),
                detail: format!("it lacks the last {lost} facts of its ledger"),
            });
        }
        if let Some(line) = witness::contradicted(root, &db).map_err(index)? {
            return Err(OpenError::IndexDamaged {
                path: root.to_owned(),
                detail: format!("line {line} of its ledger is not what was written"),
            });
        }
        let report = count::queue(core, &db).map_err(index)?;
        Ok((db, book, report))
    }

    /// Holds what misses its payload, takes in what misses its record. Answers what is to be named.
    fn reconcile(&mut self, missing: Vec<InstanceId>, adopted: &[InstanceRecord]) -> Result<Vec<Named>, CommitError> {
        let Self { core, db, book, report } = self;
        let mut named = Vec::new();
        for id in missing {
            let (held, record) = apply_now(core, db, book, |txn| {
                let record = txn.instance(id)?;
                Ok((adopt::payload_missing(txn, id)?, record))
            })?;
            if held {
                report.missing.push(id);
                named.push(match record {
                    Some(record) => Named::of(&record.instance, Fate::Lost),
                    None => Named::cut(&id.to_string()),
                });
                let counter = &core.metrics.quarantined_total;
                counter.with_label_values(&["missing_payload"]).inc();
                tracing::error!(instance = %id, "a payload file is missing; its jobs are held");
            }
        }
        let orders = if adopted.is_empty() {
            None
        } else {
            witness::standing(&core.config.path)
        };
        let mut fresh = Fresh::default();
        for record in adopted {
            let id = record.instance.id;
            let known = Known::default().with_orders(id, orders.as_ref(), core.config.salvage.hold());
            let held = apply_now(core, db, book, |txn| {
                study::found(txn, record, &mut fresh)?;
                trace::lacks(txn, id);
                adopt::adopt(txn, record, &known)
            })?;
            let fate = match held {
                Some(HoldKind::Doubtful) => Fate::Doubtful,
                Some(HoldKind::Recovered) | None => Fate::DecidedAnew,
                Some(_) => Fate::Held,
            };
            named.push(Named::of(&record.instance, fate));
            report.adopted.push(id);
            core.metrics.quarantined_total.with_label_values(&["lost_record"]).inc();
            tracing::error!(instance = %id, "an acknowledged instance had lost its record; taken in again");
        }
        Ok(named)
    }

    /// Payloads that were damaged or missing and are whole now: back from a wrong place, or put back by a person.
    fn let_go(&mut self, damaged: &[InstanceId]) -> Result<(), CommitError> {
        let Self { core, db, book, .. } = self;
        for id in damaged {
            // What cannot be read now stays as it is.
            let Ok(Found::Whole(record, _)) = inspect(&core.config.path, *id, true) else {
                continue;
            };
            let digest = record.instance.digest;
            apply_now(core, db, book, |txn| damaged::whole_again(txn, *id, digest))?;
        }
        Ok(())
    }
}

/// Brings the spool at `path`, which no process has open, to today's format. Answers the format that it had, if that was older.
///
/// # Errors
/// As `Spool::open`; nothing of it is salvaged here.
pub fn migrate(path: &std::path::Path, clock: &Clock) -> Result<Option<u64>, OpenError> {
    let (lock, _) = recover::lock_to_write(path, false)?;
    let from = migration::upgrade(path, clock, migration::Manner::default())?;
    drop(lock);
    Ok(from)
}

fn count_quarantine(db: &Db) -> Result<u64, DbError> {
    let mut count = 0;
    db.scan(super::db::Cf::Quarantine, &[], &[], |_, _| {
        count += 1;
        true
    })?;
    Ok(count)
}

/// One change, written and synced on the spot: before the threads run, or in a rebuild.
pub(super) fn apply_now<T>(
    core: &Core,
    db: &Db,
    book: &mut Book,
    work: impl FnOnce(&mut Txn<'_>) -> Result<T, CommitError>,
) -> Result<T, CommitError> {
    let mut txn = Txn::new(db, book);
    let value = work(&mut txn)?;
    let (changes, effects) = txn.finish();
    db.write(changes.into_iter()).map_err(|error| {
        tracing::error!(%error, "the index refused a batch at start");
        match error {
            DbError::Withheld(detail) if detail.contains("No space") => CommitError::DiskFull,
            _ => CommitError::GateLatched,
        }
    })?;
    apply(core, effects, None);
    Ok(value)
}

fn start(core: Arc<Core>, book: Book, lock: File) -> std::io::Result<Owner> {
    let (queue, requests) = mpsc::channel(QUEUE);
    let (marks, marked) = sync_channel::<Mark>(MARKS);
    let committer = Committer::new(core.clone(), book, marks);
    let keeper = Keeper::new(core.clone(), queue.downgrade());
    let scrub = Scrub::new(core.clone(), queue.downgrade());
    let chair = Arc::new(Chair::new(committer));
    let door = Door {
        queue,
        chair: chair.clone(),
    };
    let (known, pool) = (core.clone(), core.clone());
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let running = Running {
        commit: thread("spool-commit").spawn(move || chair.run(&known, requests))?,
        keeper: thread("spool-keeper").spawn(move || keeper.run(&marked))?,
        pool: thread("spool-pool").spawn(move || pool.pool.run(&pool.clock, &pool.gate, &pool.disk))?,
        scrub: thread("spool-scrub").spawn(move || scrub.run())?,
        door,
        lock,
    };
    Ok(Owner {
        core,
        running: Mutex::new(Some(running)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_on_the_disk_does_not_keep_the_spool_from_closing() {
        let (until, waiting) = std::sync::mpsc::channel::<()>();
        let hung = std::thread::spawn(move || {
            let _over = waiting.recv();
        });
        let began = Instant::now();
        ended(hung);
        assert!(began.elapsed() >= HANGING_BOUND && began.elapsed() < HANGING_BOUND * 4);
        drop(until);
        let began = Instant::now();
        ended(std::thread::spawn(|| {}));
        assert!(began.elapsed() < HANGING_BOUND);
    }
}
