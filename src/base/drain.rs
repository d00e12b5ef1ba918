//! Ordered stopping: every task has an owner here, a label, and is waited for within a bound.
use super::panics::contained;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks that stop together. Clones share the group.
#[derive(Clone, Default)]
pub struct Drain {
    stop: CancellationToken,
    tasks: TaskTracker,
    labels: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Drain {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that this group owns. `label` names it while a drain waits for it.
    pub fn spawn<F>(&self, label: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = Label::new(self.labels.clone(), label);
        self.tasks.spawn(async move {
            task.await;
            drop(guard);
        });
    }

    /// The same for one peer's task: its panic ends that task, and nobody else's. A panic in a task of `spawn` ends the process.
    pub fn spawn_contained<F>(&self, label: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Boxed before it is wrapped: each layer around a future has a place of its size, and thousands of connections may be open.
        let task = Box::pin(task);
        self.spawn(label, async move {
            // The hook has logged and counted a panic.
            let _counted = contained(task).await;
        });
    }

    /// Completes when a stop was asked for. Cancel-safe.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks all tasks to stop and waits for them, at most `bound`.
    ///
    /// # Errors
    /// The labels and counts of what still ran when the bound was over.
    pub async fn stop(&self, bound: Duration) -> Result<(), String> {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(bound, self.tasks.wait())
            .await
            .map_err(|_| self.waiting_for())
    }

    /// What runs now, as `3 association, 1 lane`.
    #[must_use]
    pub fn waiting_for(&self) -> String {
        let labels = lock(&self.labels);
        let parts: Vec<String> = labels.iter().map(|(label, count)| format!("{count} {label}")).collect();
        parts.join(", ")
    }
}

struct Label {
    labels: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    label: &'static str,
}

impl Label {
    fn new(labels: Arc<Mutex<BTreeMap<&'static str, usize>>>, label: &'static str) -> Self {
        *lock(&labels).entry(label).or_default() += 1;
        Self { labels, label }
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        let mut labels = lock(&self.labels);
        if let Some(count) = labels.get_mut(self.label) {
            *count -= 1;
            if *count == 0 {
                labels.remove(self.label);
            }
        }
    }
}

/// The counts stay right even when a task panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_names_what_it_still_waits_for() {
        let drain = Drain::new();
        let inner = drain.clone();
        drain.spawn("association", async move { inner.stopping().await });
        drain.spawn("lane", std::future::pending());
        assert_eq!(drain.waiting_for(), "1 association, 1 lane");
        assert_eq!(drain.stop(Duration::from_secs(1)).await, Err("1 lane".to_owned()));
    }
}
