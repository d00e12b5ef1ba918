//! Commits: what waits is gathered into one synced batch, and answered only after the sync.
//!
//! Every change of the index goes through here, as a closure over the batch (`Txn`). One batch is made at a time, by whoever has the
//! committer (`chair.rs`). A failed one latches the gate; the commit thread then closes the index, reopens it once, and proves it
//! before anything is taken again.
use super::core::Core;
use super::db::Cf;
use super::model::CommitError;
use super::payload::Mark;
use super::txn::{Book, DESTINATION, Effect, NEXT_JOB, Txn, encode_number, meta_key};
use super::{count, recover, witness};
use crate::base::fault::{Plant, panic_if, planted};
use crate::base::names::InstanceId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Commits waiting for the thread; more wait outside.
pub(super) const QUEUE: usize = 1_024;
/// Waiting for room in the queue and for the answer. A modality gives up after 30 to 60 s.
const DEADLINE: Duration = Duration::from_secs(30);
/// A second failure within this time after a reopening is final.
const HEALED_FOR: Duration = Duration::from_secs(60);
/// Readers leave the index within milliseconds; a listing within seconds.
const CLOSE_BOUND: Duration = Duration::from_secs(20);

/// Something to do in a batch.
pub(super) trait Work: Send {
    /// Does it. An error is rolled back and concerns this request alone.
    fn run(&mut self, txn: &mut Txn<'_>);
    /// Tells the requester, when the batch is durable or has failed.
    fn answer(self: Box<Self>, written: Result<(), CommitError>);
}

pub(super) enum Request {
    Work(Box<dyn Work>),
    /// The gate latched elsewhere: reopen.
    Heal,
}

struct Pending<T, F> {
    work: Option<F>,
    result: Result<T, CommitError>,
    answer: oneshot::Sender<Result<T, CommitError>>,
}

impl<T, F> Work for Pending<T, F>
where
    T: Send,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send,
{
    fn run(&mut self, txn: &mut Txn<'_>) {
        if let Some(work) = self.work.take() {
            let before = txn.savepoint();
            self.result = work(txn);
            if self.result.is_err() {
                txn.roll_back(&before);
            }
        }
    }

    fn answer(self: Box<Self>, written: Result<(), CommitError>) {
        // A requester that is gone does not want to know.
        drop(self.answer.send(written.and(self.result)));
    }
}

pub(super) fn pending<T, F>(work: F) -> (Box<dyn Work>, oneshot::Receiver<Result<T, CommitError>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let pending = Pending {
        work: Some(work),
        result: Err(CommitError::GateLatched),
        answer,
    };
    (Box::new(pending), answered)
}

/// What found no room in the queue.
pub(super) type Late = (mpsc::Sender<Request>, Box<dyn Work>);

/// Something on its way into a batch, and its answer. Nobody need wait for it: it may be done all the same.
pub struct Submitted<T> {
    late: Option<Late>,
    pub(super) answered: oneshot::Receiver<Result<T, CommitError>>,
}

impl<T> Submitted<T> {
    /// Already answered.
    pub(super) fn refused(error: CommitError) -> Self {
        let (answer, answered) = oneshot::channel();
        drop(answer.send(Err(error)));
        Self { late: None, answered }
    }

    /// Waits until it is durable. When the call is dropped or runs into the deadline, it may still be done.
    ///
    /// # Errors
    /// See `CommitError`.
    pub async fn answer(self) -> Result<T, CommitError> {
        let wait = async {
            if let Some((queue, work)) = self.late {
                let sent = queue.send(Request::Work(work)).await;
                sent.map_err(|_| CommitError::GateLatched)?;
            }
            self.answered.await.unwrap_or(Err(CommitError::GateLatched))
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .unwrap_or(Err(CommitError::Deadline))
    }
}

/// Has something done in the next batch. From any thread; does not wait.
pub(super) fn submit<T, F>(core: &Core, queue: &mpsc::Sender<Request>, work: F) -> Submitted<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send + 'static,
{
    submit_by(core, work, |work| queued(queue, work))
}

/// Has something done by `way`, which answers what found no room in the queue.
pub(super) fn submit_by<T, F>(core: &Core, work: F, way: impl FnOnce(Box<dyn Work>) -> Option<Late>) -> Submitted<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send + 'static,
{
    if !core.gate.is_open() {
        return Submitted::refused(CommitError::GateLatched);
    }
    let (work, answered) = pending(work);
    Submitted {
        late: way(work),
        answered,
    }
}

/// Answers what found no room.
pub(super) fn queued(queue: &mpsc::Sender<Request>, work: Box<dyn Work>) -> Option<Late> {
    match queue.try_send(Request::Work(work)) {
        Err(TrySendError::Full(Request::Work(work))) => Some((queue.clone(), work)),
        // Closed, the work is dropped, and with it the hope of an answer.
        Err(TrySendError::Full(Request::Heal) | TrySendError::Closed(_)) | Ok(()) => None,
    }
}

/// The same from a thread of the spool's own. `None` when the spool closes.
pub(super) fn submit_blocking<T, F>(queue: &mpsc::WeakSender<Request>, work: F) -> Option<Result<T, CommitError>>
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send + 'static,
{
    let queue = queue.upgrade()?;
    let (work, answered) = pending(work);
    queue.blocking_send(Request::Work(work)).ok()?;
    drop(queue);
    answered.blocking_recv().ok()
}

/// What a batch is made with.
pub(super) struct Committer {
    core: Arc<Core>,
    book: Book,
    marks: SyncSender<Mark>,
    healed: Option<Instant>,
}

impl Committer {
    pub(super) fn new(core: Arc<Core>, book: Book, marks: SyncSender<Mark>) -> Self {
        Self {
            core,
            book,
            marks,
            healed: None,
        }
    }

    /// A batch of one, on a thread in passing. False when the index must be reopened.
    pub(super) fn alone(&mut self, work: Box<dyn Work>) -> bool {
        let mut alarm = Alarm(Some(self.core.clone()));
        let taken = self.batch(vec![work]);
        alarm.0 = None;
        taken
    }

    /// One batch, from the first read to the answers; after a failed one the index is reopened.
    pub(super) fn commit(&mut self, batch: Vec<Box<dyn Work>>) {
        if !self.batch(batch) {
            self.heal();
        }
    }

    /// Answers whether the index took it, or was not asked to.
    fn batch(&mut self, mut batch: Vec<Box<dyn Work>>) -> bool {
        let db = match self.core.db() {
            Ok(db) if self.core.gate.is_open() => db,
            _ => {
                refuse(batch);
                return true;
            }
        };
        if batch.is_empty() {
            return true;
        }
        let started = Instant::now();
        let gathered = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let mut txn = Txn::new(&db, &mut self.book);
        for work in &mut batch {
            work.run(&mut txn);
        }
        let (changes, effects) = txn.finish();
        panic_if(Plant::PanicCommit);
        if changes.iter().any(|(family, ..)| *family == Cf::Instance) {
            panic_if(Plant::PanicAdmit);
        }
        let written = if changes.is_empty() || planted(Plant::SkipCommit) {
            Ok(())
        } else {
            db.write(changes.into_iter())
        };
        drop(db);
        match written {
            Ok(()) => {
                self.core.witness.note(self.book.ledger);
                let (letters, effects) = parted(effects);
                apply(&self.core, effects, Some(&self.marks));
                for work in batch {
                    work.answer(Ok(()));
                }
                // Hints, and a write each: nobody waits for them.
                apply(&self.core, letters, Some(&self.marks));
                self.core.metrics.commit_batch_jobs.observe(gathered.into());
                self.core
                    .metrics
                    .commit_seconds
                    .observe(started.elapsed().as_secs_f64());
                true
            }
            Err(error) => {
                tracing::error!(%error, "the index refused a batch");
                self.core.gate.latch("index_write");
                if planted(Plant::KeepLease) {
                    std::mem::forget(effects);
                } else {
                    drop(effects);
                }
                refuse(batch);
                false
            }
        }
    }

    /// Closes, reopens and proves the index. The one attempt; its failure is final.
    pub(super) fn heal(&mut self) {
        if self.healed.is_some_and(|at| at.elapsed() < HEALED_FOR) {
            return self.core.gate.fail("again");
        }
        self.healed = Some(Instant::now());
        // A full disk is the likeliest reason, and the ballast is there for this.
        if self.core.disk.look().is_err() {
            return self.core.gate.fail("disk");
        }
        if self.core.disk.low() && self.core.disk.give_all().is_err() {
            return self.core.gate.fail("ballast");
        }
        if !self.core.close_db(CLOSE_BOUND) {
            return self.core.gate.fail("close");
        }
        match self.reopen() {
            Ok(()) => self.core.gate.unlatch(),
            Err(detail) => {
                tracing::error!(detail, "the index could not be reopened");
                self.core.gate.fail("reopen");
            }
        }
    }

    fn reopen(&mut self) -> Result<(), String> {
        let root = &self.core.config.path;
        let db = self
            .core
            .store
            .open(&recover::index_path(root))
            .map_err(|e| e.to_string())?;
        if self.core.gate.is_doubtful()
            && let Err(error) = db.verify()
        {
            // A restart would meet the same block some time later, again and again: the next start looks first.
            if self.core.store.has_directory() {
                recover::suspect(root).map_err(|e| e.to_string())?;
            }
            return Err(error.to_string());
        }
        let mut book = Book::load(self.core.clone(), &db).map_err(|e| e.to_string())?;
        let lost = match self.core.store.has_directory() {
            true => witness::lost_facts(root, &book.ledger),
            false => 0,
        };
        if lost > 0 {
            // Acknowledged batches are gone: the next start finds the same, and salvages.
            return Err(format!("the index lacks the last {lost} facts of its ledger"));
        }
        book.next_job = book.next_job.max(self.book.next_job);
        let mut proof = vec![(Cf::Meta, NEXT_JOB.to_vec(), Some(encode_number(book.next_job)))];
        for lane in self.core.lanes.all() {
            lane.booked.store(true, Ordering::Relaxed);
            let key = meta_key(DESTINATION, lane.name.as_str());
            proof.push((Cf::Meta, key, Some(encode_number(lane.number.into()))));
        }
        db.write(proof.into_iter()).map_err(|e| e.to_string())?;
        if self.core.store.has_directory() {
            recover::probe(&self.core.config.path).map_err(|e| e.to_string())?;
            self.core.disk.keep_back().map_err(|e| e.to_string())?;
        }
        count::count(&self.core, &db).map_err(|e| e.to_string())?;
        self.book = book;
        self.core.set_db(db);
        for lane in self.core.lanes.all() {
            lane.forget_cursors();
            lane.wake.notify_one();
        }
        Ok(())
    }
}

/// Whoever commits and ends by a panic must be seen: nothing would be acknowledged again. Disarmed by taking the core out.
pub(super) struct Alarm(pub Option<Arc<Core>>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(core) = &self.0 {
            core.gate.fail("commit_thread");
        }
    }
}

fn refuse(batch: Vec<Box<dyn Work>>) {
    for work in batch {
        work.answer(Err(CommitError::GateLatched));
    }
}

/// The state letters, and the rest.
fn parted(effects: Vec<Effect>) -> (Vec<Effect>, Vec<Effect>) {
    effects
        .into_iter()
        .partition(|effect| matches!(effect, Effect::Mark(_)))
}

/// What memory learns from a durable batch. Without `marks` (at start) the state letters are written here.
pub(super) fn apply(core: &Core, effects: Vec<Effect>, marks: Option<&SyncSender<Mark>>) {
    let mut orders = Vec::new();
    for effect in effects {
        match effect {
            Effect::Order(order) => orders.push(order),
            Effect::Damaged(change) => core.metrics.spool_damaged.add(change),
            Effect::Aside(id) => put_aside(core, id),
            Effect::Queued(lane, priority, due) => {
                count::queued(core, &lane.name, priority).inc();
                lane.queued(priority, due, core.clock.now());
            }
            Effect::Unqueued(lane, priority) => count::queued(core, &lane.name, priority).dec(),
            Effect::Held(name, kind) => count::held(core, name.as_ref(), kind, 1),
            Effect::Unheld(name, kind) => count::held(core, name.as_ref(), kind, -1),
            Effect::Waits(lane) => lane.waits(),
            Effect::Awaits(lane, change) => count::awaiting(core, &lane.name, change),
            Effect::Suspended(lane, suspended) => {
                let gauge = core.metrics.lane_suspended.with_label_values(&[lane.name.as_str()]);
                gauge.set(i64::from(suspended));
                lane.suspend(suspended);
            }
            Effect::Pending(change) => count::instances(core, "pending").add(change),
            Effect::Cached(change, end) => count::instances(core, end.word()).add(change),
            Effect::Mark(mark) => write_mark(core, mark, marks),
            Effect::Return(guard) => drop(guard),
            Effect::Quarantined(cf) => {
                core.metrics.quarantined_total.with_label_values(&[cf.name()]).inc();
                tracing::error!(
                    family = cf.name(),
                    "a record could not be read and was put into quarantine"
                );
            }
        }
    }
    if !orders.is_empty() {
        core.witness.record(&orders);
    }
}

/// A damaged file leaves `payload/`; one that is missing has left already. What stays is put aside at the next start.
fn put_aside(core: &Core, id: InstanceId) {
    if core.store.put_aside(&core.config.path, id).is_err() {
        core.metrics.gate_errors_total.with_label_values(&["quarantine"]).inc();
    }
}

/// The file of a commit is open and warm; a delivered one is not, so that goes to the keeper. A letter that finds the
/// keeper's queue full is left out: it is a hint.
fn write_mark(core: &Core, mark: Mark, marks: Option<&SyncSender<Mark>>) {
    match (&mark, marks) {
        (Mark::Delivered(..), Some(marks)) => drop(marks.try_send(mark)),
        (Mark::Committed(..) | Mark::Delivered(..), _) => {
            if mark.write(&core.config.path).is_err() {
                core.metrics
                    .gate_errors_total
                    .with_label_values(&["state_letter"])
                    .inc();
            }
        }
    }
}
