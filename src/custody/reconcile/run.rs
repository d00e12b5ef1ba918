//! When a day is reconciled: once, from its time of day on; after a downtime, each day that was missed, the oldest first. Reports are
//! files below `node.state`, written whole under their name, and go after `reconcile.keep`.
use super::Config;
use super::collect::collect;
use super::day::{Calendar, Day};
use super::report::{DifferenceKind, Report};
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::spool::{ReadError, Spool};
use crate::telemetry::metrics::Metrics;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("the report cannot be written: {0}")]
    Write(io::Error),
    #[error("that day has not begun")]
    Future,
    #[error("a reconciliation is running: ask again")]
    Busy,
}

/// Reconciles one box. Cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    spool: Spool,
    clock: Clock,
    metrics: Metrics,
    calendar: Calendar,
    config: Config,
    folder: PathBuf,
    /// One at a time.
    running: Arc<Mutex<()>>,
}

/// Below `node.state`.
const FOLDER: &str = "reconciliation";
/// How often it is looked whether a report is due: the clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(20);
/// After a reconciliation that failed.
const REST: Duration = Duration::from_secs(300);
/// Days that are caught up after a downtime; reports of earlier ones would tell of today and be kept no longer.
const CATCH_UP_MAX: usize = 31;

impl Reconciler {
    /// `state` is where the box keeps what changes.
    #[must_use]
    pub fn new(spool: Spool, clock: Clock, metrics: Metrics, config: &Config, state: &Path) -> Self {
        Self {
            spool,
            clock,
            metrics,
            calendar: Calendar::of(config),
            config: config.clone(),
            folder: state.join(FOLDER),
            running: Arc::default(),
        }
    }

    /// Reconciles when it is time, until the drain stops.
    pub async fn run(self, drain: Drain) {
        self.tell_last().await;
        loop {
            let pause = match self.catch_up(&drain).await {
                Ok(()) | Err(ReconcileError::Busy | ReconcileError::Future) => LOOK,
                Err(error) => {
                    self.metrics.reconcile_runs_total.with_label_values(&["failed"]).inc();
                    tracing::error!(%error, "the day could not be reconciled; it is tried again");
                    REST
                }
            };
            tokio::select! {
                () = drain.stopping() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Every day that is due and has no complete report, the oldest first.
    async fn catch_up(&self, drain: &Drain) -> Result<(), ReconcileError> {
        for day in self.missed().await? {
            if drain.is_stopping() {
                return Ok(());
            }
            self.reconcile(Some(day)).await?;
        }
        self.clear().await
    }

    async fn missed(&self) -> Result<Vec<Day>, ReconcileError> {
        let now = self.clock.now();
        let last = self.calendar.due(now);
        let Some(first) = self.spool.first_fact().await? else {
            return Ok(Vec::new());
        };
        let first = self
            .calendar
            .today(first)
            .max(self.calendar.first_kept(now, self.config.keep.0));
        let (mut missed, mut day) = (Vec::new(), last);
        while day >= first && missed.len() < CATCH_UP_MAX {
            let folder = self.folder.clone();
            let known = blocking(move || stored(&folder, day))
                .await
                .map_err(ReconcileError::Write)?;
            if known.is_some_and(|report| report.complete) {
                break;
            }
            missed.push(day);
            day = day.before();
        }
        missed.reverse();
        Ok(missed)
    }

    /// Reconciles a day, today so far without one: the report is kept, counted, and answered.
    ///
    /// # Errors
    /// See `ReconcileError`.
    pub async fn reconcile(&self, day: Option<Day>) -> Result<Report, ReconcileError> {
        let Ok(_one) = self.running.try_lock() else {
            return Err(ReconcileError::Busy);
        };
        let now = self.clock.now();
        let day = day.unwrap_or_else(|| self.calendar.today(now));
        if self.calendar.bounds(day).0 > now {
            return Err(ReconcileError::Future);
        }
        // What was refused in the last minute belongs to it.
        if self.spool.flush_refused().await.is_err() {
            tracing::warn!("refusals of the last minute are not in the report: the ledger takes nothing now");
        }
        let report = collect(&self.spool, &self.calendar, day, now).await?;
        let (folder, kept) = (self.folder.clone(), report.clone());
        blocking(move || write(&folder, day, &kept))
            .await
            .map_err(ReconcileError::Write)?;
        self.count(&report);
        self.metrics.reconcile_runs_total.with_label_values(&["done"]).inc();
        let (made, differences) = (report.day.as_str(), report.total());
        if differences > 0 {
            tracing::error!(
                day = made,
                differences,
                "the day does not agree: read `waystation reconcile --day`"
            );
        } else {
            tracing::info!(
                day = made,
                stored = report.fate.stored,
                open = report.fate.open,
                "the day agrees"
            );
        }
        Ok(report)
    }

    /// The report of a day as it is kept; the last one without a day.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn kept(&self, day: Option<Day>) -> io::Result<Option<Report>> {
        let folder = self.folder.clone();
        blocking(move || match day {
            Some(day) => stored(&folder, day),
            None => match days(&folder)?.last() {
                Some(last) => stored(&folder, *last),
                None => Ok(None),
            },
        })
        .await
    }

    /// The gauges, from the last report of before the start.
    async fn tell_last(&self) {
        if let Ok(Some(report)) = self.kept(None).await {
            self.count(&report);
        }
    }

    fn count(&self, report: &Report) {
        for kind in DifferenceKind::ALL {
            let count = report.counts.get(kind.word()).copied().unwrap_or(0);
            let gauge = self.metrics.reconcile_differences.with_label_values(&[kind.word()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let made: Option<jiff::Timestamp> = report.made.parse().ok();
        let seconds = made.map_or(0, jiff::Timestamp::as_second);
        self.metrics.reconcile_timestamp_seconds.set(seconds as f64);
        let open = report.destinations.iter().map(|to| to.open).sum::<u64>();
        self.metrics.reconcile_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Reports that are kept no longer.
    async fn clear(&self) -> Result<(), ReconcileError> {
        let first = self.calendar.first_kept(self.clock.now(), self.config.keep.0);
        let folder = self.folder.clone();
        let cleared = blocking(move || {
            for day in days(&folder)?.into_iter().filter(|day| *day < first) {
                for ends in ["json", "txt"] {
                    fs::remove_file(folder.join(format!("{day}.{ends}")))?;
                }
            }
            Ok(())
        });
        cleared.await.map_err(ReconcileError::Write)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let done = tokio::time::timeout(DISK_DEADLINE, tokio::task::spawn_blocking(work));
    match done.await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(io::Error::other("it was cut off")),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

const DISK_DEADLINE: Duration = Duration::from_secs(60);

/// The days that there are reports of, in order.
fn days(folder: &Path) -> io::Result<Vec<Day>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut days = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        days.extend(name.strip_suffix(".json").and_then(|name| Day::parse(name).ok()));
    }
    days.sort();
    Ok(days)
}

/// The report of a day, as its file has it; `None`: there is none, or it cannot be understood and is made again.
///
/// # Errors
/// The file cannot be read.
pub fn stored(folder: &Path, day: Day) -> io::Result<Option<Report>> {
    match fs::read(folder.join(format!("{day}.json"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
    }
}

/// Both files, each whole under its name; the JSON, by which the day counts as done, last.
fn write(folder: &Path, day: Day, report: &Report) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_vec_pretty(report)?;
    for (ends, bytes) in [("txt", report.to_string().into_bytes()), ("json", json)] {
        let (path, fresh) = (
            folder.join(format!("{day}.{ends}")),
            folder.join(format!("{day}.{ends}.new")),
        );
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o640)
            .open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(fresh, path)?;
    }
    File::open(folder)?.sync_all()
}
