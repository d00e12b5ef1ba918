//! When a day is reconciled: once, from its time of day on; after a downtime, each day that was missed, the oldest first. With it the days
//! before that had differences, for `LOOK_BACK_DAYS`: what was mended meanwhile is none any more, and what was not is not forgotten for
//! the next day's sake. Reports are files below `node.state`, written whole under their name, and go after `reconcile.keep`.
mod older;
#[cfg(test)]
mod tests;

use super::Config;
use super::collect::collect;
use super::day::{Calendar, Day};
use super::report::{self, DifferenceKind, Report};
use crate::base::clock::{Clock, Wall};
use crate::base::drain::Drain;
use crate::base::whole;
use crate::spool::{ReadError, Spool};
use crate::telemetry::metrics::Metrics;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error(
        "the reports, which lie in `reconciliation` below node.state, cannot be read or written: {0}; that must be a folder, and the box's user's"
    )]
    Write(io::Error),
    #[error("that day has not begun")]
    Future,
    #[error(
        "the ledger tells nothing of that day, or no longer all (`ledger.keep`, or a rebuild); a report that was made in time stays as it is: \
         ask for it with --kept"
    )]
    Forgotten,
    #[error("the report that is kept of that day stays as it is: the ledger is not the one {0}")]
    Older(String),
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
/// Days back whose differences count, and are looked at again. What nobody has mended in that time, nobody will; the report stays.
const LOOK_BACK_DAYS: u64 = 14;
/// Days that are caught up after a downtime; reports of earlier ones would tell of today and be kept no longer.
const CATCH_UP_DAYS: u64 = 31;
const CATCH_UP: Duration = Duration::from_secs(CATCH_UP_DAYS * 86_400);

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
        loop {
            let pause = match self.catch_up(&drain).await {
                Ok(()) | Err(ReconcileError::Busy) => LOOK,
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

    /// Every day that is due and has no complete report, the oldest first; before them, when there are any, those that had differences.
    async fn catch_up(&self, drain: &Drain) -> Result<(), ReconcileError> {
        let missed = self.missed().await?;
        let mut days = match missed.is_empty() {
            true => Vec::new(),
            false => self.differing().await?,
        };
        days.retain(|day| !missed.contains(day));
        for day in days.into_iter().chain(missed) {
            if drain.is_stopping() {
                return Ok(());
            }
            self.reconcile(Some(day)).await?;
        }
        self.clear().await
    }

    /// The days before today that are looked back at, whose reports have differences and of which the ledger still tells.
    async fn differing(&self) -> Result<Vec<Day>, ReconcileError> {
        let today = self.calendar.today(self.clock.now());
        let reports = self.looked_back_at().await.map_err(ReconcileError::Write)?;
        let mut differing = Vec::new();
        for (day, report) in reports {
            let again = report.total() > 0 && day < today && !self.is_forgotten(day, Some(&report)).await?;
            if again && older::unlike(&self.spool, &report).await?.is_none() {
                differing.push(day);
            }
        }
        Ok(differing)
    }

    /// The reports of the days that are looked back at, in order. One of a day to come was made while the clock was ahead.
    async fn looked_back_at(&self) -> io::Result<Vec<(Day, Report)>> {
        let (now, span) = (self.clock.now(), Duration::from_secs(LOOK_BACK_DAYS * 86_400));
        let (folder, first) = (self.folder.clone(), self.calendar.first_kept(now, span));
        let today = self.calendar.today(now);
        let mut reports = blocking(move || since(&folder, first)).await?;
        reports.retain(|(day, _)| *day <= today);
        Ok(reports)
    }

    /// Whether the ledger knows nothing of a day any more, or less than when the report that is kept of it was made.
    async fn is_forgotten(&self, day: Day, kept: Option<&Report>) -> Result<bool, ReadError> {
        let (begins, ends) = self.calendar.bounds(day);
        let Some(first) = self.spool.first_fact().await? else {
            // An empty ledger tells of nothing that was; of today it is known that nothing came since the box began.
            return Ok(ends <= self.clock.now());
        };
        let knows_less = |report: &Report| report.complete && begins < first && report.ledger_from_us != first.0;
        Ok(ends <= first || kept.is_some_and(knows_less))
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
        // So much more time than the box has run for is a long holiday, or a clock that is wrong: of it the last day will do, and what
        // the ledger has a line of.
        let idle = now.since(self.spool.retention_now()) > CATCH_UP;
        let (mut missed, mut day) = (Vec::new(), last);
        for _ in 0..CATCH_UP_DAYS {
            if day < first {
                break;
            }
            let folder = self.folder.clone();
            let known = blocking(move || stored(&folder, day))
                .await
                .map_err(ReconcileError::Write)?;
            // What was made at a time to come was made while the clock was ahead, perhaps of a day that was not over.
            if known.is_some_and(|report| report.complete && made(&report).is_some_and(|at| at <= now)) {
                break;
            }
            if !idle || day == last || self.has_lines(day).await? {
                missed.push(day);
            }
            day = day.before();
        }
        missed.reverse();
        Ok(missed)
    }

    async fn has_lines(&self, day: Day) -> Result<bool, ReadError> {
        let (facts, more) = self.spool.facts_between(self.calendar.bounds(day), None, 1).await?;
        Ok(more.is_some() || !facts.is_empty())
    }

    /// Reconciles a day; without one today so far, and the days that are looked back at: what was mended is no difference any more, and
    /// the answer names those of which some stand. The report is kept, counted, and answered.
    ///
    /// # Errors
    /// See `ReconcileError`.
    pub async fn reconcile(&self, day: Option<Day>) -> Result<Report, ReconcileError> {
        let Ok(_one) = self.running.try_lock() else {
            return Err(ReconcileError::Busy);
        };
        let today = self.calendar.today(self.clock.now());
        self.compare().await?;
        if let Some(day) = day {
            let folder = self.folder.clone();
            let kept = blocking(move || stored(&folder, day)).await;
            let kept = kept.map_err(ReconcileError::Write)?;
            if self.is_forgotten(day, kept.as_ref()).await? {
                return Err(ReconcileError::Forgotten);
            }
        } else {
            for differing in self.differing().await? {
                self.make(differing).await?;
            }
        }
        let report = self.make(day.unwrap_or(today)).await?;
        match day {
            Some(_) => Ok(report),
            None => self.beside(report).await.map_err(ReconcileError::Write),
        }
    }

    /// With the other days that are looked back at and have differences.
    async fn beside(&self, report: Report) -> io::Result<Report> {
        let kept = self.looked_back_at().await?;
        Ok(report.beside(kept.iter().map(|(_, kept)| kept)))
    }

    async fn make(&self, day: Day) -> Result<Report, ReconcileError> {
        let now = self.clock.now();
        if self.calendar.bounds(day).0 > now {
            return Err(ReconcileError::Future);
        }
        let folder = self.folder.clone();
        let kept = blocking(move || stored(&folder, day)).await;
        let kept = kept.map_err(ReconcileError::Write)?;
        if let Some(kept) = kept.as_ref().filter(|kept| older::is_over(kept, now))
            && let Some(found) = older::unlike(&self.spool, kept).await?
        {
            return Err(ReconcileError::Older(older::doubt(kept, &found)));
        }
        // What was refused in the last minute belongs to it.
        if self.spool.flush_refused().await.is_err() {
            tracing::warn!("refusals of the last minute are not in the report: the ledger takes nothing now");
        }
        let mut report = collect(&self.spool, &self.calendar, day, now).await?;
        report.ledger_from_us = self.spool.first_fact().await?.map_or(0, |first| first.0);
        self.keeping(kept, &mut report).await?;
        let (folder, kept) = (self.folder.clone(), report.clone());
        blocking(move || write(&folder, day, &kept))
            .await
            .map_err(ReconcileError::Write)?;
        self.tell().await;
        self.metrics.reconcile_runs_total.with_label_values(&["done"]).inc();
        let (made, differences) = (report.day.as_str(), report.total());
        if differences > 0 {
            tracing::error!(
                day = made,
                differences,
                "the day does not agree: `waystation reconcile --kept --day {made}` shows what differs"
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

    /// The report of a day as it is kept; without a day the one that was made last, with the other days of which differences stand.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn kept(&self, day: Option<Day>) -> io::Result<Option<Report>> {
        let (folder, today) = (self.folder.clone(), self.calendar.today(self.clock.now()));
        let found = blocking(move || match day {
            Some(day) => stored(&folder, day),
            None => match made_last(&folder, today)? {
                Some(day) => stored(&folder, day),
                None => Ok(None),
            },
        })
        .await?;
        match (found, day) {
            (Some(report), None) => self.beside(report).await.map(Some),
            (found, _) => Ok(found),
        }
    }

    /// The gauges, from the kept reports of all days that are looked back at; what cannot be read is logged.
    pub async fn tell(&self) {
        match self.looked_back_at().await {
            Ok(reports) => self.count(&reports),
            Err(error) => {
                let folder = self.folder.display();
                tracing::error!(%folder, %error, "the kept reports cannot be read: what they say is in no metric");
            }
        }
    }

    fn count(&self, reports: &[(Day, Report)]) {
        for kind in DifferenceKind::ALL {
            let count = report::standing(reports.iter().map(|(_, report)| report), kind);
            let gauge = self.metrics.reconcile_differences.with_label_values(&[kind.word()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let now = self.clock.now();
        let made = reports.iter().filter_map(|(_, report)| made(report));
        let last = made.filter(|at| *at <= now).max();
        self.metrics
            .reconcile_timestamp_seconds
            .set(last.map_or(0.0, Wall::seconds));
        let open = |(_, report): &(Day, Report)| report.destinations.iter().map(|to| to.open).sum::<u64>();
        let open = reports.last().map_or(0, open);
        self.metrics.reconcile_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Reports that are kept no longer, by the time of retention: a clock that is ahead for a moment takes none.
    async fn clear(&self) -> Result<(), ReconcileError> {
        let first = self.calendar.first_kept(self.spool.retention_now(), self.config.keep.0);
        let folder = self.folder.clone();
        let cleared = blocking(move || {
            for day in days(&folder)?.into_iter().filter(|day| *day < first) {
                for ends in ["json", "txt"] {
                    fs::remove_file(folder.join(format!("{day}.{ends}")))?;
                }
            }
            older::clear_aside(&folder, first)
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

/// When a report was made.
fn made(report: &Report) -> Option<Wall> {
    let at: jiff::Timestamp = report.made.parse().ok()?;
    u64::try_from(at.as_microsecond()).ok().map(Wall)
}

/// The reports of a day and of those behind it, in order.
fn since(folder: &Path, first: Day) -> io::Result<Vec<(Day, Report)>> {
    let mut reports = Vec::new();
    for day in days(folder)?.into_iter().filter(|day| *day >= first) {
        reports.extend(stored(folder, day)?.map(|report| (day, report)));
    }
    Ok(reports)
}

/// The day whose report was written last; one to come, of a clock that was ahead, only when there is no other.
fn made_last(folder: &Path, today: Day) -> io::Result<Option<Day>> {
    let mut last = None;
    for day in days(folder)? {
        let written = fs::metadata(folder.join(format!("{day}.json")))?.modified()?;
        last = last.max(Some((day <= today, written, day)));
    }
    Ok(last.map(|(_, _, day)| day))
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
    write_as(folder, &day.to_string(), report)
}

fn write_as(folder: &Path, name: &str, report: &Report) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_vec_pretty(report)?;
    for (ends, bytes) in [("txt", report.to_string().into_bytes()), ("json", json)] {
        whole::write(&folder.join(format!("{name}.{ends}")), 0o640, &bytes)?;
    }
    Ok(())
}
