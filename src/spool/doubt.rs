//! Doubt in the ledger itself, from outside of the index: something that was noted elsewhere is not on it. It is told as a salvage is, by a
//! report below `salvage/` that names no instance, for nobody here knows any; until a person acknowledges it, readiness has a note and
//! the alarm of unread reports stands.
use super::Spool;
use super::payload::DISK_DEADLINE;
use super::salvage::{SalvageReport, Writing, salvages};
use std::io;

/// How the cause of such a report begins.
const BEGINS: &str = "the ledger is not the one";

impl Spool {
    /// Leaves a report that `why` the ledger cannot be trusted to know everything: our ids, times and line numbers only.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn doubt_ledger(&self, why: &str) -> io::Result<()> {
        let (root, now) = (self.core.config.path.clone(), self.core.clock.now());
        let cause = format!("{BEGINS} {why}");
        tracing::error!(%cause, "read `waystation spool salvage`");
        on_disk(move || Writing::begin(&root, now, &cause)?.end(None).map(drop)).await?;
        self.core.metrics.salvage_unacknowledged.set(1);
        Ok(())
    }

    /// The reports of such doubts, oldest first, acknowledged or not.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn ledger_doubts(&self) -> io::Result<Vec<SalvageReport>> {
        let root = self.core.config.path.clone();
        let mut reports = on_disk(move || salvages(&root, 0)).await?;
        reports.retain(|report| report.cause.starts_with(BEGINS));
        Ok(reports)
    }
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::time::timeout(DISK_DEADLINE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(io::Error::other("it was cut off")),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
