//! From files to batches: which files are DICOM, what they need, and which go over one association.
use super::Failure;
use crate::base::names::Uid;
use crate::dicom::association::CONTEXTS_MAX;
use crate::dicom::part10::{FileMeta, META_MAX, Part10Error};
use crate::spool::KEPT_BACK;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that can be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub file: PathBuf,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    /// Where its data set starts, and how long it is.
    pub offset: u64,
    pub bytes: u64,
}

/// What was found under the files and folders asked for.
#[derive(Debug, Default)]
pub struct Gathered {
    pub items: Vec<Item>,
    /// Files that cannot be sent. In folders, only those that could not be read.
    pub failed: Vec<(PathBuf, Failure)>,
    /// Files in folders that are not DICOM.
    pub skipped: u64,
}

/// A class in a transfer syntax: one presentation context.
pub(super) type Pair = (Uid, Uid);

/// Folders within folders that are followed.
const FOLDERS_DEEP: usize = 32;

/// The class of a DICOMDIR, which is no instance to store.
const MEDIA_DIRECTORY: &str = "1.2.840.10008.1.3.10";

/// Reads the file meta information of every file; folders are searched to their leaves, in the order of names.
/// Blocking.
#[must_use]
pub fn gather(files: &[PathBuf]) -> Gathered {
    let mut gathered = Gathered::default();
    for file in files {
        if file.is_dir() {
            gathered.folder(file, 0);
        } else {
            gathered.file(file, true);
        }
    }
    gathered
}

impl Gathered {
    fn folder(&mut self, folder: &Path, depth: usize) {
        if depth > 0 && folder.join(KEPT_BACK).exists() {
            return self.failed.push((folder.into(), Failure::KeptBack));
        }
        let entries = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => return self.failed.push((folder.into(), error.into())),
        };
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort_unstable();
        for path in paths {
            // A link to a folder is not followed: it may lead back.
            match fs::symlink_metadata(&path).map(|meta| meta.file_type()) {
                Ok(kind) if kind.is_dir() && depth < FOLDERS_DEEP => self.folder(&path, depth + 1),
                Ok(_) if path.is_file() => self.file(&path, false),
                Ok(_) => self.skipped += 1,
                Err(error) => self.failed.push((path, error.into())),
            }
        }
    }

    fn file(&mut self, file: &Path, named: bool) {
        match read(file) {
            Ok(item) if item.sop_class.as_str() == MEDIA_DIRECTORY && !named => self.skipped += 1,
            Ok(item) => self.items.push(item),
            Err(Failure::Part10(Part10Error::NotPart10)) if !named => self.skipped += 1,
            Err(failure) => self.failed.push((file.into(), failure)),
        }
    }
}

fn read(path: &Path) -> Result<Item, Failure> {
    let mut file = File::open(path)?;
    let whole = file.metadata()?.len();
    let mut start = Vec::new();
    Read::take(&mut file, META_MAX as u64).read_to_end(&mut start)?;
    let (meta, offset) = FileMeta::read(&start)?;
    let offset = offset as u64;
    Ok(Item {
        file: path.into(),
        sop_class: meta.sop_class,
        sop_instance: meta.sop_instance,
        transfer_syntax: meta.transfer_syntax,
        offset,
        bytes: whole.saturating_sub(offset),
    })
}

/// Cuts items into batches: of `batch` items (or an even share for each worker), and never more pairs than an association takes.
pub(super) fn batches(items: &[Item], workers: usize, batch: usize) -> Vec<Vec<Item>> {
    let longest = if batch == 0 {
        items.len().div_ceil(workers).max(1)
    } else {
        batch
    };
    let mut batches = Vec::new();
    let mut current: Vec<Item> = Vec::new();
    let mut known: BTreeSet<Pair> = BTreeSet::new();
    for item in items {
        let pair = (item.sop_class.clone(), item.transfer_syntax.clone());
        let too_many = known.len() == CONTEXTS_MAX && !known.contains(&pair);
        if current.len() == longest || too_many {
            batches.push(std::mem::take(&mut current));
            known.clear();
        }
        known.insert(pair);
        current.push(item.clone());
    }
    if !current.is_empty() {
        batches.push(current);
    }
    batches
}

/// The distinct pairs that these items need.
pub(super) fn pairs(items: &[Item]) -> Vec<Pair> {
    let pairs: BTreeSet<Pair> = items
        .iter()
        .map(|item| (item.sop_class.clone(), item.transfer_syntax.clone()))
        .collect();
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(class: usize, instance: usize) -> Item {
        Item {
            file: PathBuf::from(format!("{instance}")),
            sop_class: Uid::parse(&format!("1.2.{class}")).unwrap(),
            sop_instance: Uid::parse(&format!("1.3.{instance}")).unwrap(),
            transfer_syntax: Uid::known("1.2.840.10008.1.2"),
            offset: 0,
            bytes: 0,
        }
    }

    #[test]
    fn no_batch_needs_more_contexts_than_an_association_takes() {
        let items: Vec<Item> = (0..300).map(|n| item(n, n)).collect();
        let cut = batches(&items, 1, 0);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [128, 128, 44]);
        assert!(cut.iter().all(|batch| pairs(batch).len() <= CONTEXTS_MAX));
        assert_eq!(cut.concat(), items);
    }

    #[test]
    fn work_is_shared_evenly_or_in_batches() {
        let items: Vec<Item> = (0..10).map(|n| item(n % 2, n)).collect();
        let sizes = |workers, batch| batches(&items, workers, batch).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(4, 0), [3, 3, 3, 1]);
        assert_eq!(sizes(1, 4), [4, 4, 2]);
        assert_eq!(sizes(50, 0), [1; 10]);
        assert!(batches(&[], 3, 0).is_empty());
    }
}
