//! The demo's judgement: what was acknowledged against what the archive filed, read by another library than the one that sent it.
use super::plan::{Kind, Layout};
use crate::dicom::head::Head;
use crate::dicom::part10::FileMeta;
use crate::dicom::syntax::Syntax;
use anyhow::{Context, Result};
use dicom_core::{DicomValue, Tag};
use dicom_object::InMemDicomObject;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What one sending brought: each file with its kind, and when it was acknowledged.
pub struct Sending {
    pub instances: Vec<Sent>,
}

/// One file that was offered to the box.
pub struct Sent {
    pub sop_instance: String,
    pub file: PathBuf,
    pub kind: Kind,
    pub acknowledged: Option<SystemTime>,
}

/// Everything that was offered, by SOP Instance UID.
#[derive(Default)]
pub struct Ledger {
    sent: BTreeMap<String, Sent>,
}

impl Ledger {
    pub fn note(&mut self, sending: Sending) {
        for sent in sending.instances {
            let known = self
                .sent
                .get(&sent.sop_instance)
                .and_then(|earlier| earlier.acknowledged);
            let acknowledged = known.or(sent.acknowledged);
            self.sent
                .insert(sent.sop_instance.clone(), Sent { acknowledged, ..sent });
        }
    }

    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.sent.values().filter(|sent| sent.acknowledged.is_some()).count()
    }

    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.sent.len() - self.acknowledged()
    }

    /// How many that were acknowledged, and are not to be held, are not at the archive.
    #[must_use]
    pub fn missing(&self, arrived: &BTreeSet<String>) -> usize {
        self.expected()
            .filter(|sent| !arrived.contains(&sent.sop_instance))
            .count()
    }

    fn expected(&self) -> impl Iterator<Item = &Sent> {
        self.sent
            .values()
            .filter(|sent| sent.acknowledged.is_some() && sent.kind != Kind::Held)
    }
}

/// The SOP Instance UIDs of the files at the archive.
///
/// # Errors
/// The folder cannot be read.
pub fn arrived(layout: &Layout) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let Ok(folder) = fs::read_dir(layout.archived()) else {
        return Ok(names);
    };
    for entry in folder {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(uid) = name.strip_suffix(".dcm") {
            names.insert(uid.to_owned());
        }
    }
    Ok(names)
}

/// The report.
pub struct Verdict {
    offered: usize,
    acknowledged: usize,
    delivered: usize,
    missing: usize,
    /// Data sets that are the same to the byte.
    identical: usize,
    /// Data sets that differ in what the rules edit, and in nothing else.
    edited: usize,
    /// Data sets that differ in something else: file names.
    wrong: Vec<String>,
    held: u64,
    held_expected: u64,
    lags: Vec<Duration>,
}

impl Verdict {
    /// Compares every instance.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of(layout: &Layout, ledger: &Ledger, held: u64) -> Result<Self> {
        let there = arrived(layout)?;
        let mut verdict = Self {
            offered: ledger.sent.len(),
            acknowledged: ledger.acknowledged(),
            delivered: 0,
            missing: ledger.missing(&there),
            identical: 0,
            edited: 0,
            wrong: Vec::new(),
            held,
            held_expected: ledger.sent.values().filter(|sent| sent.kind == Kind::Held).count() as u64,
            lags: Vec::new(),
        };
        for sent in ledger.sent.values().filter(|sent| there.contains(&sent.sop_instance)) {
            let filed = layout.archived().join(format!("{}.dcm", sent.sop_instance));
            verdict.delivered += 1;
            verdict.compare(sent, &filed)?;
            if let Some(acknowledged) = sent.acknowledged {
                let at = fs::metadata(&filed)?.modified()?;
                verdict.lags.push(at.duration_since(acknowledged).unwrap_or_default());
            }
        }
        verdict.lags.sort_unstable();
        Ok(verdict)
    }

    fn compare(&mut self, sent: &Sent, filed: &Path) -> Result<()> {
        if sent.kind == Kind::Held {
            self.wrong.push(format!("{} was to be held", filed.display()));
        } else if data_set(&sent.file)? == data_set(filed)? {
            self.identical += 1;
        } else if untouched(&sent.file)? == untouched(filed)? && differs_as_allowed(&sent.file, filed)? {
            self.edited += 1;
        } else {
            self.wrong.push(filed.display().to_string());
        }
        Ok(())
    }

    /// Whether everything that was promised holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.missing == 0
            && self.wrong.is_empty()
            && self.edited > 0
            && self.acknowledged == self.offered
            && self.held == self.held_expected
    }

    fn lag(&self, share: usize) -> f64 {
        let index = (self.lags.len() * share / 100).min(self.lags.len().saturating_sub(1));
        self.lags.get(index).map_or(0.0, Duration::as_secs_f64)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "instances sent            {:>6}", self.offered)?;
        writeln!(f, "acknowledged              {:>6}", self.acknowledged)?;
        writeln!(
            f,
            "held for a person         {:>6}  (expected {})",
            self.held, self.held_expected
        )?;
        writeln!(f, "delivered to the archive  {:>6}", self.delivered)?;
        writeln!(f, "  same to the byte        {:>6}", self.identical)?;
        writeln!(
            f,
            "  only the edits differ   {:>6}  (every other byte is the same)",
            self.edited
        )?;
        writeln!(f, "  anything else differs   {:>6}", self.wrong.len())?;
        writeln!(f, "acknowledged and missing  {:>6}", self.missing)?;
        let (median, worst) = (self.lag(50), self.lag(100));
        writeln!(
            f,
            "acknowledged to filed     {median:>6.2} s median, {worst:.2} s worst (the WAN was down meanwhile)"
        )?;
        for file in &self.wrong {
            writeln!(f, "DIFFERS: {file}")?;
        }
        write!(
            f,
            "{}",
            if self.holds() {
                "everything holds"
            } else {
                "NOT everything holds"
            }
        )
    }
}

/// What the shipped rules may edit, with the traces that an edit leaves.
const EDITABLE: [Tag; 6] = [
    Tag(0x0008, 0x0050), // Accession Number
    Tag(0x0010, 0x0020), // Patient ID
    Tag(0x0010, 0x0021), // Issuer of Patient ID
    Tag(0x0010, 0x1002), // Other Patient IDs Sequence
    Tag(0x0018, 0xa001), // Contributing Equipment Sequence
    Tag(0x0400, 0x0561), // Original Attributes Sequence
];

/// The data set's bytes: everything behind the file meta information, whose length its first element gives (PS3.10 7.1).
fn data_set(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    let length = bytes.get(140..144).context("not a DICOM file")?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    Ok(bytes
        .get(144 + length..)
        .context("cut inside its meta information")?
        .to_vec())
}

/// Every byte of the data set but those of the elements that may be edited.
fn untouched(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    let (meta, start) = FileMeta::read(&bytes)?;
    let head = Head::scan(Syntax::of(&meta.transfer_syntax), &bytes[start..])?;
    let kept = head
        .nodes
        .iter()
        .filter(|node| node.depth == 0 && !EDITABLE.contains(&node.tag));
    let mut rest: Vec<u8> = kept.flat_map(|node| head.bytes[node.range()].to_vec()).collect();
    rest.extend(&bytes[start + head.bytes.len()..]);
    Ok(rest)
}

/// Element by element, through dicom-object: what differs may differ.
fn differs_as_allowed(sent: &Path, filed: &Path) -> Result<bool> {
    let sent = dicom_object::open_file(sent)?.into_inner();
    let filed = dicom_object::open_file(filed)?.into_inner();
    let tags: BTreeSet<Tag> = tags(&sent).chain(tags(&filed)).collect();
    Ok(tags
        .into_iter()
        .all(|tag| EDITABLE.contains(&tag) || value(&sent, tag) == value(&filed, tag)))
}

/// The value alone: lengths in headers are not compared, because an undefined one is not equal to itself in dicom-core.
fn value(object: &InMemDicomObject, tag: Tag) -> Option<&DicomValue<InMemDicomObject>> {
    object.element(tag).ok().map(dicom_core::DataElement::value)
}

fn tags(object: &InMemDicomObject) -> impl Iterator<Item = Tag> {
    object.into_iter().map(dicom_core::header::Header::tag)
}
