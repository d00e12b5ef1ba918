//! Whether the ledger is the one that the kept reports were made of. Each has the number and the hash of the line that was the last one then.
//! When the spool was restored from an older copy, or its index was lost, that line is gone, and with it all that the report alone still
//! tells of. So such a report of a day that is over stays as it is; that of a day that goes on is put aside before another is made.
//! Both carry the difference `ledger_older` until a person has acknowledged the doubt (`waystation spool salvage --acknowledge`).
use super::{Day, ReconcileError, Reconciler, Report, blocking, made};
use crate::base::clock::Wall;
use crate::custody::reconcile::report::{Difference, DifferenceKind};
use crate::spool::{Noted, ReadError, Spool};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// After an acknowledgement: as long as a reconciliation that runs may take to end before the gauges are left to the next one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between the day and the line that it was made of, in the name of a report that was put aside.
const ASIDE: &str = ".line-";

/// What the ledger has instead of the line that a report had seen as its last; `None`: that line, or nobody can know.
pub(super) async fn unlike(spool: &Spool, report: &Report) -> Result<Option<String>, ReadError> {
    let noted = spool.noted(report.ledger_line, report.ledger_head.clone()).await?;
    Ok(match noted {
        Noted::Here | Noted::Pruned => None,
        Noted::Ends(0) => Some("it has no line at all".to_owned()),
        Noted::Ends(last) => Some(format!("it ends with line {last}")),
        Noted::Lost => Some("that line is lost".to_owned()),
        Noted::Another => Some("it has another line of that number".to_owned()),
    })
}

/// Whether a report is the last word about its day: nothing that is made again says more. One that was made at a time to come was made
/// while the clock was ahead.
pub(super) fn is_over(report: &Report, now: Wall) -> bool {
    report.complete && made(report).is_some_and(|at| at <= now)
}

/// How the difference begins.
const BEGINS: &str = "the ledger is not the one ";

/// Why a report and the ledger do not go together, and what to do. To be read behind `BEGINS`.
pub(super) fn doubt(report: &Report, found: &str) -> String {
    format!(
        "that the report of {}, made {}, had seen up to line {} ({}): {found}. The spool was restored from an older copy, or its index was \
         lost; what came between is not known here. Put the newer spool back if there is one; else compare with modalities and \
         archives what the kept reports name (`waystation reconcile --kept --day {}`), have sent again what is missing, and then \
         `waystation spool salvage --acknowledge`",
        report.day, report.made, report.ledger_line, report.ledger_head, report.day
    )
}

fn is_marked(report: &Report) -> bool {
    report
        .differences
        .iter()
        .any(|one| one.kind == DifferenceKind::LedgerOlder)
}

/// Adds the difference, once, also to a report that lists no more of them.
fn mark(report: &mut Report, text: String) {
    if !is_marked(report) {
        let doubt = Difference {
            kind: DifferenceKind::LedgerOlder,
            count: 1,
            instance: None,
            sop_instance: None,
            study: None,
            source: None,
            destination: None,
            job: None,
            text,
        };
        report.counts.insert(doubt.kind.word().to_owned(), 1);
        report.differences.insert(0, doubt);
    }
}

/// It is no difference any more, and stays as a note that says why.
fn unmark(report: &mut Report, why: &str) {
    let is_doubt = |one: &mut Difference| one.kind == DifferenceKind::LedgerOlder;
    let doubts: Vec<Difference> = report.differences.extract_if(.., is_doubt).collect();
    for doubt in doubts {
        report.note(format!("{} ({why})", doubt.text));
    }
    report.counts.remove(DifferenceKind::LedgerOlder.word());
}

/// Whether the difference is of this report's own line, and not one that goes on from a report before it.
fn is_own(report: &Report) -> bool {
    let own = |one: &Difference| one.kind == DifferenceKind::LedgerOlder && one.text.contains(&report.ledger_head);
    report.differences.iter().any(own)
}

/// What is to be done about a doubt.
enum Standing {
    /// It waits for a person.
    Open,
    /// Who has acknowledged it, and when.
    Acknowledged(String),
}

impl Reconciler {
    /// Before anything is served: whether the spool is the one that the kept reports tell of, and then the gauges.
    pub async fn begin(&self) {
        if let Err(error) = self.compare().await {
            tracing::error!(%error, "whether the ledger is the one that the kept reports were made of is not known");
        }
        self.tell().await;
    }

    /// A person has acknowledged what was left to be read.
    pub async fn acknowledged(&self) {
        // The reconciliation that runs holds the reports; the next one does this otherwise.
        if let Ok(_one) = tokio::time::timeout(PATIENCE, self.running.lock()).await {
            self.begin().await;
        }
    }

    /// Holds the kept reports that are looked back at against the ledger, and has the difference in those that do not go together with it,
    /// and in those that were made since, as long as nobody has acknowledged it. The first look leaves a report for that.
    pub(super) async fn compare(&self) -> Result<(), ReconcileError> {
        let reports = self.looked_back_at().await.map_err(ReconcileError::Write)?;
        let mut differ = Vec::new();
        for (day, report) in reports {
            let found = unlike(&self.spool, &report).await?;
            if found.is_some() || is_marked(&report) {
                differ.push((day, report, found));
            }
        }
        if differ.is_empty() {
            return Ok(());
        }
        let standing = self.told(&differ).await;
        for (day, report, found) in differ {
            let mut after = report.clone();
            match (&standing, found) {
                // The newer spool was put back.
                (_, None) if is_own(&report) => unmark(&mut after, "the ledger has these lines again"),
                (Standing::Open, Some(found)) => mark(&mut after, format!("{BEGINS}{}", doubt(&report, &found))),
                (Standing::Open, None) => {}
                (Standing::Acknowledged(by), _) => unmark(&mut after, &format!("acknowledged by {by}")),
            }
            if after != report {
                let folder = self.folder.clone();
                let written = blocking(move || super::write(&folder, day, &after)).await;
                written.map_err(ReconcileError::Write)?;
            }
        }
        Ok(())
    }

    /// Sees to it that a doubt has been left for a person, and says whether one waits.
    async fn told(&self, differ: &[(Day, Report, Option<String>)]) -> Standing {
        let doubts = match self.spool.ledger_doubts().await {
            Ok(doubts) => doubts,
            Err(error) => {
                tracing::error!(%error, "the reports below `salvage` in the spool cannot be read");
                return Standing::Open;
            }
        };
        // ISO 8601 in one zone sorts as time does. What was left after a report was made has seen it, unless the clock was ahead then.
        let now = self.clock.now().iso();
        let told = |report: &Report| {
            let since = |time: &String| *time >= report.made && *time <= now;
            let about = |cause: &str| cause.contains(&report.ledger_head);
            doubts.iter().any(|doubt| since(&doubt.time) || about(&doubt.cause))
        };
        let untold = differ.iter().filter_map(|(_, report, found)| {
            let why = match found {
                Some(found) => (!told(report)).then(|| doubt(report, found)),
                // It could not be left when it was found.
                None if doubts.is_empty() && !is_own(report) => {
                    let marked = report.differences.first();
                    marked.and_then(|one| one.text.strip_prefix(BEGINS).map(str::to_owned))
                }
                None => None,
            };
            why.map(|why| (&report.made, why))
        });
        if let Some((_, why)) = untold.max() {
            if let Err(error) = self.spool.doubt_ledger(&why).await {
                tracing::error!(%error, "the doubt in the ledger cannot be left below `salvage`: it is tried again");
            }
            return Standing::Open;
        }
        let waits = doubts.iter().any(|doubt| doubt.acknowledged.is_none());
        let by = doubts.into_iter().rev().find_map(|doubt| doubt.acknowledged);
        by.filter(|_| !waits).map_or(Standing::Open, Standing::Acknowledged)
    }

    /// Before a report of a day is made: what the kept one alone knows stays. A difference, and what is to be known of the ledger, goes on
    /// in the new one.
    ///
    /// # Errors
    /// See `ReconcileError`.
    pub(super) async fn keeping(&self, kept: Option<Report>, fresh: &mut Report) -> Result<(), ReconcileError> {
        let Some(kept) = kept else { return Ok(()) };
        if unlike(&self.spool, &kept).await?.is_some() {
            let (folder, old) = (self.folder.clone(), kept.clone());
            let name = blocking(move || put_aside(&folder, &old)).await;
            let name = name.map_err(ReconcileError::Write)?;
            fresh.note(format!(
                "the report of this day that was made {} knew what this ledger does not: it is kept below node.state as {}",
                kept.made,
                Path::new(super::FOLDER).join(name).display()
            ));
        }
        for one in kept.differences {
            if one.kind == DifferenceKind::LedgerOlder {
                mark(fresh, one.text);
            }
        }
        kept.notes.into_iter().for_each(|note| fresh.note(note));
        Ok(())
    }
}

/// A copy of a report under a name of its own; that name, of the text.
fn put_aside(folder: &Path, report: &Report) -> io::Result<String> {
    let hash = report.ledger_head.get(..8).unwrap_or_default();
    let name = format!("{}{ASIDE}{}-{hash}", report.day, report.ledger_line);
    super::write_as(folder, &name, report)?;
    Ok(format!("{name}.txt"))
}

/// Reports that were put aside, of days before `first`, go with those days.
pub(super) fn clear_aside(folder: &Path, first: Day) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let is_old = |name: &str| {
        let day = name.split_once(ASIDE).map(|(day, _)| Day::parse(day));
        day.is_some_and(|day| day.is_ok_and(|day| day < first))
    };
    for entry in entries {
        let path: PathBuf = entry?.path();
        if path.file_name().is_some_and(|name| is_old(&name.to_string_lossy())) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
