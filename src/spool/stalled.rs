//! Reads of payloads that the disk does not answer.
//!
//! A read whose deadline is over is left to its thread: nobody can end it. While that thread hangs, nobody asks for the same payload
//! again: each question would cost one thread more, and the process has only so many of them.
use super::model::ReadError;
use crate::base::names::InstanceId;
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The payloads whose last read is not answered yet.
pub(super) struct Stalled {
    /// What a hanging read holds, and lets go when it ends after all.
    payloads: Mutex<BTreeMap<InstanceId, Weak<()>>>,
    metrics: Metrics,
}

impl Stalled {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            payloads: Mutex::default(),
            metrics,
        }
    }

    /// Reads of a payload, on a blocking thread.
    ///
    /// # Errors
    /// `Deadline`: `bound` is over, or an earlier read of the same payload hangs still. `Io`: the work panicked.
    pub(super) async fn within<T: Send + 'static>(
        &self,
        id: InstanceId,
        bound: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        if self.holds(id) {
            return Err(ReadError::Deadline);
        }
        let asked = Arc::new(());
        let hanging = Arc::downgrade(&asked);
        let reading = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(asked);
            done
        });
        let Ok(done) = tokio::time::timeout(bound, reading).await else {
            self.lock().insert(id, hanging);
            let errors = &self.metrics.gate_errors_total;
            errors.with_label_values(&["payload_deadline"]).inc();
            return Err(ReadError::Deadline);
        };
        done.map_err(|_| ReadError::Io)
    }

    fn holds(&self, id: InstanceId) -> bool {
        let mut payloads = self.lock();
        let hangs = payloads.get(&id).map(|asked| asked.strong_count() > 0);
        if hangs == Some(false) {
            payloads.remove(&id);
        }
        hangs.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Weak<()>>> {
        self.payloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl super::Spool {
    /// Makes reads of this payload hang until what is answered is dropped.
    pub(crate) async fn stall(&self, id: InstanceId) -> std::sync::mpsc::Sender<()> {
        let (until, waiting) = std::sync::mpsc::channel::<()>();
        let hung = self
            .core
            .stalled
            .within(id, Duration::from_millis(20), move || waiting.recv().is_ok());
        assert_eq!(hung.await, Err(ReadError::Deadline));
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_payload_whose_read_hangs_costs_one_thread_and_is_read_again_when_that_is_back() {
        let metrics = Metrics::new();
        let stalled = Stalled::new(metrics.clone());
        let (hung, other) = (InstanceId::new(1, 1), InstanceId::new(2, 2));
        let (until, waiting) = std::sync::mpsc::channel::<()>();
        let bound = Duration::from_millis(50);
        let read = stalled.within(hung, bound, move || waiting.recv().is_ok()).await;
        assert_eq!(read, Err(ReadError::Deadline));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |id| {
            let asked = asked.clone();
            stalled.within(id, Duration::from_secs(60), move || {
                asked.fetch_add(1, Ordering::SeqCst)
            })
        };
        assert_eq!(ask(hung).await, Err(ReadError::Deadline), "nobody asks again");
        assert_eq!(ask(other).await, Ok(0), "others are read");
        let counted = metrics.gate_errors_total.with_label_values(&["payload_deadline"]);
        assert_eq!(counted.get(), 1);
        drop(until);
        let mut read = Err(ReadError::Deadline);
        for _ in 0..200 {
            read = ask(hung).await;
            if read.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(read, Ok(1));
    }
}
