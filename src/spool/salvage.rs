//! Salvage: a start that finds the index damaged or gone makes it anew by itself (`rebuild.rs`), and names each instance that is
//! lost, damaged or doubtful in a report. A start that misses a payload, or finds one that the index has lost, reports too.
//!
//! A report is a file below `salvage/` in the spool, one JSON object a line: what happened, each instance, and at the end the
//! counts. What goes to `quarantine/` is named in it, durably, before it is moved: a run that is cut after that leaves a report that
//! names it, and the next run leaves another. A rebuild by a person leaves the same report. It stays. Until a person acknowledges it, `waystation_salvage_unacknowledged` is 1 and readiness has a note.
//! Our own ids, UIDs and names from the configuration only; a report is never deleted by the box.
use super::Spool;
use super::config::Config;
use super::folder::is_free;
use super::inspect::{Found, inspect_at, shown_uid};
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, Instance, OpenError};
use super::pool::sync_directory;
use super::rebuild::{Manner, RebuildReport, remake};
use crate::base::clock::{Clock, Wall};
use crate::base::names::InstanceId;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

const FOLDER: &str = "salvage";
const ENDS: &str = ".jsonl";
/// Beside a report: who acknowledged it, and when.
const ACKNOWLEDGED: &str = ".acknowledged";

/// What became of an instance that a report names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its payload is gone. Only its modality can send it again.
    Lost,
    /// Its payload is cut or cannot be read; it lies in `quarantine/`.
    Damaged,
    /// Nobody knows whether a person had held it: held as `doubtful`.
    Doubtful,
    /// Held: a person had held it, or another content with its UID is known.
    Held,
    /// Where it had been delivered to is not known: the rules in force decide anew, and it may arrive twice.
    DecidedAnew,
}

/// One instance of a report.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Named {
    pub fate: Fate,
    /// Our own id.
    pub instance: String,
    /// `None` when nothing but the id is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_instance: Option<String>,
    /// The UID was found in a damaged file, by nothing but its tag: it may be damaged too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<String>,
}

impl Named {
    pub(super) fn of(instance: &Instance, fate: Fate) -> Self {
        Self {
            fate,
            instance: instance.id.to_string(),
            sop_instance: Some(instance.sop_instance.to_string()),
            unverified: false,
            study: instance.study.as_ref().map(ToString::to_string),
            source: Some(instance.source.to_string()),
            arrival: Some(instance.arrival.iso()),
        }
    }

    /// A damaged file, with what it still tells: by its own identity, which has a checksum; else by its SOP Instance UID as it stands there.
    pub(super) fn damaged(root: &Path, path: &Path, id: InstanceId) -> Self {
        let instance = id.to_string();
        match inspect_at(path, id, false) {
            Ok(Found::Whole(record, _) | Found::Damaged(Some((record, _)))) => {
                Self::of(&record.instance, Fate::Damaged)
            }
            // A second file of an instance that has its own: what was here before is not told by it.
            Ok(Found::Other(record, _)) if !is_free(root, record.instance.id) => Self::cut(&instance),
            Ok(Found::Other(record, _)) => Self {
                instance,
                ..Self::of(&record.instance, Fate::Damaged)
            },
            Ok(Found::Empty | Found::Partial | Found::Damaged(None)) | Err(_) => {
                let uid = shown_uid(path).map(|uid| uid.to_string());
                Self {
                    unverified: uid.is_some(),
                    sop_instance: uid,
                    ..Self::cut(&instance)
                }
            }
        }
    }

    /// A file that nothing but its name is left of: cut while it arrived and never acknowledged, or damaged since.
    pub(super) fn cut(id: &str) -> Self {
        Self {
            fate: Fate::Damaged,
            instance: id.to_owned(),
            sop_instance: None,
            unverified: false,
            study: None,
            source: None,
            arrival: None,
        }
    }
}

/// A report as `waystation spool salvage` shows it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct SalvageReport {
    /// The name of its file.
    pub name: String,
    pub time: String,
    /// What had been found.
    pub cause: String,
    /// What the rebuild made of it, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<serde_json::Value>,
    /// False when the report was cut: the start that wrote it ended early, and the next one wrote another.
    pub complete: bool,
    /// Who acknowledged it, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<String>,
    /// How many it names, by fate.
    pub counts: BTreeMap<Fate, u64>,
    /// At most as many as were asked for.
    pub named: Vec<Named>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Head {
    time: String,
    cause: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct End {
    end: bool,
    #[serde(default)]
    rebuilt: Option<serde_json::Value>,
}

/// A report in the making.
pub(super) struct Writing {
    path: PathBuf,
    out: BufWriter<File>,
    /// So many bytes are durable: they name files that have been moved since.
    kept: u64,
}

impl Writing {
    pub(super) fn begin(root: &Path, now: Wall, cause: &str) -> io::Result<Self> {
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let mut number = now.0;
        // Never over another, which a clock that was put back would allow.
        let (path, file) = loop {
            let path = folder.join(format!("{number:020}{ENDS}"));
            match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => break (path, made?),
            }
        };
        let mut writing = Self {
            out: BufWriter::new(file),
            path,
            kept: 0,
        };
        let head = Head {
            time: now.iso(),
            cause: cause.to_owned(),
        };
        writing.line(&head)?;
        Ok(writing)
    }

    pub(super) fn line<T: serde::Serialize>(&mut self, value: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// All lines so far are durable when this returns, and stay whatever becomes of the rest: what they name may be moved now.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let file = self.out.get_ref();
        file.sync_all()?;
        if let Some(folder) = self.path.parent() {
            sync_directory(folder)?;
            folder.parent().map_or(Ok(()), sync_directory)?;
        }
        self.kept = file.metadata()?.len();
        Ok(())
    }

    /// Durable when this returns.
    pub(super) fn end(mut self, rebuilt: Option<&RebuildReport>) -> io::Result<PathBuf> {
        let rebuilt = rebuilt.map(serde_json::to_value).transpose()?;
        self.line(&End { end: true, rebuilt })?;
        self.keep()?;
        Ok(self.path)
    }

    /// The work has failed. Without what was kept nothing has changed, and the next run begins anew with a report of its own.
    fn abandon(self) {
        let (file, _) = self.out.into_parts();
        let left = match self.kept {
            0 => fs::remove_file(&self.path),
            kept => file.set_len(kept),
        };
        if let Err(error) = left {
            tracing::warn!(%error, "the report of a salvage that failed stays as it is");
        }
    }
}

/// The report of a start without a rebuild: begun with the first that there is to name.
pub(super) struct Differences<'a> {
    root: &'a Path,
    now: Wall,
    writing: Option<Writing>,
}

impl<'a> Differences<'a> {
    pub(super) fn of(root: &'a Path, now: Wall) -> Self {
        Self {
            root,
            now,
            writing: None,
        }
    }

    fn line(&mut self, named: &Named) -> io::Result<&mut Writing> {
        let writing = match self.writing.take() {
            Some(writing) => writing,
            None => Writing::begin(self.root, self.now, "payload files and index differ at start")?,
        };
        let writing = self.writing.insert(writing);
        writing.line(named)?;
        Ok(writing)
    }

    /// Names what goes to `quarantine/` next.
    pub(super) fn first(&mut self, named: &Named) -> io::Result<()> {
        self.line(named)?.keep()
    }

    /// Names the rest. No report when there is nothing to name.
    pub(super) fn end(mut self, named: &[Named]) -> io::Result<()> {
        for one in named {
            self.line(one)?;
        }
        self.writing.map_or(Ok(()), |writing| writing.end(None).map(drop))
    }
}

/// Makes the index anew, and reports it. The caller has the lock; the index is not open.
pub(super) fn reported(
    root: &Path,
    clock: &Clock,
    manner: &Manner,
    cause: &str,
) -> Result<(RebuildReport, PathBuf), OpenError> {
    let failed = |error| OpenError::Io {
        path: root.to_owned(),
        what: "the salvage report cannot be written",
        error,
    };
    let mut writing = Writing::begin(root, clock.now(), cause).map_err(failed)?;
    match remake(root, clock, manner, &mut writing) {
        Ok(report) => {
            let path = writing.end(Some(&report)).map_err(failed)?;
            Ok((report, path))
        }
        Err(error) => {
            writing.abandon();
            Err(error)
        }
    }
}

/// Makes a damaged or lost index anew, and reports. The caller has the lock; the index is not open.
pub(super) fn salvage(config: &Config, clock: &Clock, cause: &str) -> Result<PathBuf, OpenError> {
    let manner = Manner {
        deep: false,
        salvage: config.salvage,
    };
    let (report, path) = reported(&config.path, clock, &manner, cause)?;
    tracing::error!(
        kept = report.kept,
        decided_anew = report.recovered,
        held = report.held,
        delivered = report.delivered,
        discarded = report.discarded,
        lost = report.lost.len(),
        damaged = report.quarantined.len(),
        report = %path.display(),
        "the index was damaged and was made anew from the payload files: read `waystation spool salvage`"
    );
    Ok(path)
}

/// All reports of a spool, oldest first, each with at most `max` of the instances that it names. Needs no lock.
///
/// # Errors
/// The folder or a report cannot be read.
pub fn salvages(root: &Path, max: usize) -> io::Result<Vec<SalvageReport>> {
    names(root)?.into_iter().map(|name| read(root, &name, max)).collect()
}

fn names(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ENDS) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// A line that cannot be read is passed over: the others still name theirs.
fn read(root: &Path, name: &str, max: usize) -> io::Result<SalvageReport> {
    let path = root.join(FOLDER).join(name);
    let mut report = SalvageReport {
        name: name.to_owned(),
        time: String::new(),
        cause: String::new(),
        rebuilt: None,
        complete: false,
        acknowledged: fs::read_to_string(mark_of(root, name))
            .ok()
            .map(|text| text.trim().to_owned()),
        counts: BTreeMap::new(),
        named: Vec::new(),
    };
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        if let Ok(head) = serde_json::from_slice::<Head>(&line) {
            (report.time, report.cause) = (head.time, head.cause);
        } else if let Ok(named) = serde_json::from_slice::<Named>(&line) {
            *report.counts.entry(named.fate).or_default() += 1;
            if report.named.len() < max {
                report.named.push(named);
            }
        } else if let Ok(end) = serde_json::from_slice::<End>(&line) {
            (report.complete, report.rebuilt) = (end.end, end.rebuilt);
        }
    }
    Ok(report)
}

fn mark_of(root: &Path, name: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{name}{ACKNOWLEDGED}"))
}

/// The reports that nobody has acknowledged.
pub(super) fn open_reports(root: &Path) -> io::Result<Vec<String>> {
    let mut open = names(root)?;
    open.retain(|name| !mark_of(root, name).exists());
    Ok(open)
}

impl Spool {
    /// A person has read all reports: readiness forgets them, the ledger does not. Answers how many were open.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn acknowledge_salvage(&self, who: &str) -> Result<usize, CommitError> {
        let root = self.core.config.path.clone();
        let text = format!("{who}, {}\n", self.core.clock.now().iso());
        let fact_who = who.to_owned();
        let marking = tokio::task::spawn_blocking(move || {
            let open = open_reports(&root)?;
            for name in &open {
                fs::write(mark_of(&root, name), &text)?;
                File::open(mark_of(&root, name))?.sync_all()?;
            }
            io::Result::Ok(open)
        });
        let marked = tokio::time::timeout(super::payload::DISK_DEADLINE, marking).await;
        let open = match marked {
            Err(_) => return Err(CommitError::Deadline),
            Ok(Err(_) | Ok(Err(_))) => return Err(CommitError::DiskFull),
            Ok(Ok(Ok(open))) => open,
        };
        let count = open.len();
        self.submit(move |txn| {
            for name in open {
                let text = format!("salvage report {name}");
                txn.fact(Fact::new(FactKind::Acknowledged).who(&fact_who).text(text));
            }
            Ok(())
        })
        .await?;
        self.core.metrics.salvage_unacknowledged.set(0);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::record::tests::instance;

    #[test]
    fn a_report_reads_back_and_a_cut_one_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert!(salvages(root.path(), 9).unwrap().is_empty());
        let mut writing = Writing::begin(root.path(), Wall(5), "test").unwrap();
        writing.line(&Named::of(&instance(), Fate::Lost)).unwrap();
        writing.line(&Named::cut("00")).unwrap();
        let path = writing.end(Some(&RebuildReport::default())).unwrap();
        let report = salvages(root.path(), 1).unwrap().remove(0);
        assert_eq!((report.cause.as_str(), report.complete), ("test", true));
        assert_eq!(report.named, [Named::of(&instance(), Fate::Lost)]);
        assert_eq!(report.counts, BTreeMap::from([(Fate::Lost, 1), (Fate::Damaged, 1)]));
        assert_eq!(open_reports(root.path()).unwrap(), [report.name]);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.find("\"end\"").unwrap()]).unwrap();
        let cut = salvages(root.path(), 9).unwrap().remove(0);
        assert!(!cut.complete && cut.named.len() == 2);
        // Of work that failed stays what was named before a file was moved, and a report of nothing else does not.
        let mut writing = Writing::begin(root.path(), Wall(5), "second").unwrap();
        writing.line(&Named::cut("01")).unwrap();
        writing.keep().unwrap();
        writing.line(&Named::cut("02")).unwrap();
        writing.abandon();
        let mut writing = Writing::begin(root.path(), Wall(5), "third").unwrap();
        writing.line(&Named::cut("03")).unwrap();
        writing.abandon();
        let reports = salvages(root.path(), 9).unwrap();
        let causes: Vec<&str> = reports.iter().map(|report| report.cause.as_str()).collect();
        assert_eq!(causes, ["test", "second"]);
        assert_eq!(reports[1].named, [Named::cut("01")]);
    }
}
