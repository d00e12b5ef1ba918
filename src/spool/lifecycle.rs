//! Opening and closing: the threads, who owns them, and the order in which they end.
use super::commit::{Committer, QUEUE, Request, apply};
use super::core::Core;
use super::db::Db;
use super::former::Known;
use super::keeper::{Keeper, MARKS};
use super::model::{CommitError, OpenError, OpenReport};
use super::payload::Mark;
use super::study::{self, Fresh};
use super::txn::{Book, Txn};
use super::{Config, Spool, count, recover};
use crate::base::clock::Clock;
use crate::telemetry::metrics::Metrics;
use std::fs::File;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// The commit queue's strong end and the threads behind it. When it goes, they end: commit, then keeper and pool.
pub(super) struct Owner {
    core: Arc<Core>,
    running: Mutex<Option<Running>>,
}

struct Running {
    queue: mpsc::Sender<Request>,
    commit: JoinHandle<()>,
    keeper: JoinHandle<()>,
    pool: JoinHandle<()>,
    /// The lock on the spool directory.
    lock: File,
}

impl Owner {
    pub(super) fn queue(&self) -> Option<mpsc::Sender<Request>> {
        self.lock().as_ref().map(|running| running.queue.clone())
    }

    pub(super) fn commit_alive(&self) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|running| !running.commit.is_finished())
    }

    /// Ends all threads; what waits in the queue is done first. Blocking, for as long as the last batches take.
    fn stop(&self) {
        let Some(running) = self.lock().take() else {
            return;
        };
        let Running {
            queue,
            commit,
            keeper,
            pool,
            lock,
        } = running;
        drop(queue);
        self.core.pool.close();
        for thread in [commit, keeper, pool] {
            // A thread that panicked has already failed the gate.
            drop(thread.join());
        }
        self.core.close_db(std::time::Duration::from_secs(10));
        drop(lock);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        let (lock, created) = recover::lock(&root, true)?;
        let core = Arc::new(Core::new(config, clock, metrics));
        let io = |what| {
            let path = root.clone();
            move |error| OpenError::Io { path, what, error }
        };
        core.disk.look().map_err(io("cannot be measured"))?;
        recover::directories(&root)?;
        let db = recover::open_index(&root)?;
        let damaged = |detail: String| OpenError::IndexDamaged {
            path: root.clone(),
            detail,
        };
        recover::lanes(&core, &db).map_err(|error| damaged(error.to_string()))?;
        let mut report = count::count(&core, &db).map_err(|error| damaged(error.to_string()))?;
        report.created = created;
        let mut book = Book::load(core.clone(), &db).map_err(|error| damaged(error.to_string()))?;
        let (strays, missing) = recover::differences(&root, &db).map_err(damaged)?;
        let adopted = recover::strays(&core, &db, &strays, &mut report).map_err(io("strays cannot be put aside"))?;
        for id in missing {
            let held = apply_now(&core, &db, &mut book, |txn| recover::payload_missing(txn, id));
            if held.map_err(|error| damaged(error.to_string()))? {
                report.missing.push(id);
                core.metrics
                    .quarantined_total
                    .with_label_values(&["missing_payload"])
                    .inc();
                tracing::error!(instance = %id, "a payload file is missing; its jobs are held");
            }
        }
        let mut fresh = Fresh::default();
        for record in adopted {
            let id = record.instance.id;
            let done = apply_now(&core, &db, &mut book, |txn| {
                study::found(txn, &record, &mut fresh)?;
                recover::adopt(txn, &record, &Known::default())
            });
            done.map_err(|error| damaged(error.to_string()))?;
            report.adopted.push(id);
            core.metrics.quarantined_total.with_label_values(&["lost_record"]).inc();
            tracing::error!(instance = %id, "an acknowledged instance had lost its record; taken in again");
        }
        report.quarantined = count_quarantine(&db).map_err(damaged)?;
        core.set_db(db);
        let owner = start(core.clone(), book, lock).map_err(io("threads cannot be started"))?;
        let owner = Arc::new(owner);
        Ok((Self { core, owner }, report))
    }

    /// Ends the spool's threads when the queue is empty, and closes the index. Other clones then get `GateLatched`.
    pub async fn close(self) {
        let owner = self.owner.clone();
        drop(self);
        // The join fails only when the stop itself panicked; the lock goes with the process then.
        drop(tokio::task::spawn_blocking(move || owner.stop()).await);
    }
}

fn count_quarantine(db: &Db) -> Result<u64, String> {
    let mut count = 0;
    db.scan(super::db::Cf::Quarantine, &[], &[], |_, _| {
        count += 1;
        true
    })
    .map_err(|error| error.to_string())?;
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
        CommitError::GateLatched
    })?;
    apply(core, effects, None);
    Ok(value)
}

fn start(core: Arc<Core>, book: Book, lock: File) -> std::io::Result<Owner> {
    let (queue, requests) = mpsc::channel(QUEUE);
    let (marks, marked) = sync_channel::<Mark>(MARKS);
    let committer = Committer::new(core.clone(), book, marks);
    let keeper = Keeper::new(core.clone(), queue.downgrade());
    let pool = core.clone();
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let running = Running {
        commit: thread("spool-commit").spawn(move || committer.run(requests))?,
        keeper: thread("spool-keeper").spawn(move || keeper.run(&marked))?,
        pool: thread("spool-pool").spawn(move || pool.pool.run(&pool.clock, &pool.gate, &pool.disk))?,
        queue,
        lock,
    };
    Ok(Owner {
        core,
        running: Mutex::new(Some(running)),
    })
}
