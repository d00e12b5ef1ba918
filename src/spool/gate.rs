//! The health gate: after any write or sync error nothing is acknowledged until the index was closed, reopened and
//! proved by a synced write. If that fails, or fails again soon, the spool is failed for good and the process must end.
//! A flush is never tried again: after an error the kernel calls the pages clean (failures.md 2.6).
use crate::telemetry::metrics::Metrics;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use tokio::sync::watch;

pub(super) struct Gate {
    state: AtomicU8,
    /// The index could not be read: it must be read through before it is trusted again.
    doubtful: AtomicBool,
    failed: watch::Sender<bool>,
    metrics: Metrics,
}

/// The word for a read error of the index.
const INDEX_READ: &str = "index_read";
const OPEN: u8 = 0;
const LATCHED: u8 = 1;
const FAILED: u8 = 2;

impl Gate {
    pub(super) fn new(metrics: Metrics) -> Self {
        metrics.gate_latched.set(0);
        Self {
            state: AtomicU8::new(OPEN),
            doubtful: AtomicBool::new(false),
            failed: watch::Sender::new(false),
            metrics,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    pub(super) fn is_failed(&self) -> bool {
        self.state.load(Ordering::SeqCst) == FAILED
    }

    /// `kind` is a constant word for the metric and the log.
    pub(super) fn latch(&self, kind: &'static str) {
        self.metrics.gate_errors_total.with_label_values(&[kind]).inc();
        if kind == INDEX_READ {
            self.doubtful.store(true, Ordering::SeqCst);
        }
        if self
            .state
            .compare_exchange(OPEN, LATCHED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            self.metrics.gate_latched.set(1);
            tracing::error!(
                kind,
                "spool write error: nothing is acknowledged until the spool was reopened"
            );
        }
    }

    /// Whether the index must be read through; asked once for each reopening.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful.swap(false, Ordering::SeqCst)
    }

    pub(super) fn unlatch(&self) {
        if self
            .state
            .compare_exchange(LATCHED, OPEN, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            self.metrics.gate_latched.set(0);
            tracing::warn!("spool reopened after a write error");
        }
    }

    pub(super) fn fail(&self, kind: &'static str) {
        self.metrics.gate_errors_total.with_label_values(&[kind]).inc();
        if self.state.swap(FAILED, Ordering::SeqCst) != FAILED {
            self.metrics.gate_latched.set(1);
            tracing::error!(kind, "spool failed: the process must end");
            self.failed.send_replace(true);
        }
    }

    /// Completes when the spool is failed for good. Cancel-safe.
    pub(super) async fn failed(&self) {
        let mut watched = self.failed.subscribe();
        // The sender lives in `self`, so waiting cannot end by its loss.
        drop(watched.wait_for(|failed| *failed).await);
    }
}

/// Whether an error says that the disk (or a quota) is full: a reason to refuse, not a broken disk.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the process is out of file descriptors for the moment: no reason to distrust the disk.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_gate_never_opens_again() {
        let gate = Gate::new(Metrics::new());
        gate.latch("test");
        assert!(!gate.is_open() && !gate.is_failed());
        gate.unlatch();
        assert!(gate.is_open());
        gate.fail("test");
        gate.unlatch();
        assert!(!gate.is_open() && gate.is_failed());
        gate.failed().await;
    }
}
