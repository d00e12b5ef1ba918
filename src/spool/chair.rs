//! Who makes a batch: the commit thread, which gathers what waits; or, when nobody commits and nothing waits, the thread that brings
//! something and may block. That one then wakes nobody: of an arrival over one association, two changes of thread are left of four.
use super::commit::{Alarm, Committer, Request, Submitted, queued, submit_by};
use super::core::Core;
use super::model::CommitError;
use super::txn::Txn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Requests in one batch.
const BATCH: usize = 256;

/// The two ways to a commit.
#[derive(Clone)]
pub(super) struct Door {
    pub queue: mpsc::Sender<Request>,
    pub chair: Arc<Chair>,
}

/// Where the committer sits: whoever has it makes the batch.
pub(super) struct Chair {
    committer: Mutex<Committer>,
    /// The commit thread has something to do and waits for it: nobody takes it first.
    is_wanted: AtomicBool,
}

impl Chair {
    pub(super) fn new(committer: Committer) -> Self {
        Self {
            committer: Mutex::new(committer),
            is_wanted: AtomicBool::new(false),
        }
    }

    /// For a thread in passing.
    fn free(&self, queue: &mpsc::Sender<Request>) -> Option<MutexGuard<'_, Committer>> {
        if self.is_wanted.load(Ordering::Acquire) || queue.capacity() < queue.max_capacity() {
            return None;
        }
        self.committer.try_lock().ok()
    }

    /// For the commit thread. After a panic the gate is failed, and the committer only refuses.
    pub(super) fn own(&self) -> MutexGuard<'_, Committer> {
        self.is_wanted.store(true, Ordering::Release);
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_wanted.store(false, Ordering::Release);
        committer
    }

    /// The commit thread's life: until every handle of the spool is gone.
    pub(super) fn run(&self, core: &Arc<Core>, mut queue: mpsc::Receiver<Request>) {
        let mut alarm = Alarm(Some(core.clone()));
        while let Some(first) = queue.blocking_recv() {
            let mut committer = self.own();
            let (mut batch, mut heal) = (Vec::new(), false);
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Work(work) => batch.push(work),
                    Request::Heal => heal = true,
                }
                next = if batch.len() < BATCH {
                    queue.try_recv().ok()
                } else {
                    None
                };
            }
            committer.commit(batch);
            if heal && !core.gate.is_open() {
                committer.heal();
            }
        }
        alarm.0 = None;
    }
}

/// As `submit`, from a thread that may block for as long as a batch takes: when nobody commits and nothing waits, it makes a batch of
/// this alone, and wakes no other thread for it.
pub(super) fn submit_here<T, F>(core: &Core, door: &Door, work: F) -> Submitted<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, CommitError> + Send + 'static,
{
    submit_by(core, work, |work| {
        let Some(mut committer) = door.chair.free(&door.queue) else {
            return queued(&door.queue, work);
        };
        let taken = committer.alone(work);
        drop(committer);
        if !taken {
            // Reopening may take long: it is the commit thread's. With a full queue the keeper asks within a second.
            drop(door.queue.try_send(Request::Heal));
        }
        None
    })
}
