//! The payload files that a rebuild makes an index of (`rebuild.rs`): each is looked at once. What is not what arrived is named in the
//! report and then goes to `quarantine/`; what is whole and lies in another's place, or in a wrong folder, is moved to the place of its id.
use super::folder::{self, Listing, bring_home, exchange, is_free, naming, put_aside};
use super::former::Former;
use super::inspect::{Found, inspect, inspect_at, is_passing};
use super::payload::{FileState, path_of};
use super::rebuild::RebuildReport;
use super::record::InstanceRecord;
use super::salvage::{Fate, Named, Writing};
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use std::fs;
use std::io;
use std::path::Path;

/// A payload file: when it arrived, its name, and what its letter says.
pub(super) type File = (Wall, InstanceId, FileState);

/// Reads every file once, whole when `deep`. Answers those that are whole, and names the others: by what the old index says of them,
/// or else by what they still tell themselves.
///
/// # Errors
/// The folder cannot be read or changed, or the process is out of something; the file is named.
pub(super) fn look(
    root: &Path,
    deep: bool,
    (former, writing): (Option<&Former>, &mut Writing),
    report: &mut RebuildReport,
) -> io::Result<Vec<File>> {
    let mut listing = folder::list(root)?;
    let mut look = Look {
        root,
        former,
        writing,
        report,
        files: Vec::with_capacity(listing.payloads.len()),
    };
    let (mut strangers, mut damaged) = (Vec::new(), Vec::new());
    for id in std::mem::take(&mut listing.payloads) {
        match inspect(root, id, deep) {
            Ok(Found::Other(..)) => strangers.push(id),
            found if is_damaged(&found) => damaged.push(id),
            found => look.settle(id, found)?,
        }
    }
    look.put_aside(&damaged)?;
    for id in strangers {
        look.stranger(id)?;
    }
    look.misplaced(&mut listing)?;
    let files = look.files;
    report.passed_over = listing.others.shown();
    Ok(files)
}

/// No other's, and not what arrived; an error of the machine says nothing of it.
fn is_damaged(found: &io::Result<Found>) -> bool {
    match found {
        Ok(Found::Partial | Found::Damaged(_)) => true,
        Ok(Found::Empty | Found::Whole(..) | Found::Other(..)) => false,
        Err(error) => !is_passing(error),
    }
}

struct Look<'a> {
    root: &'a Path,
    former: Option<&'a Former>,
    writing: &'a mut Writing,
    report: &'a mut RebuildReport,
    files: Vec<File>,
}

impl Look<'_> {
    fn take(&mut self, record: &InstanceRecord, state: FileState) {
        let instance = &record.instance;
        self.files.push((instance.arrival, instance.id, state));
    }

    fn settle(&mut self, id: InstanceId, found: io::Result<Found>) -> io::Result<()> {
        let path = path_of(self.root, id);
        match found {
            Ok(Found::Empty) => {
                fs::remove_file(&path).map_err(naming(self.root, &path))?;
                self.report.empty += 1;
            }
            Ok(Found::Whole(record, state)) => self.take(&record, state),
            Err(error) if is_passing(&error) => return Err(naming(self.root, &path)(error)),
            Ok(Found::Partial | Found::Damaged(_) | Found::Other(..)) | Err(_) => {
                self.put_aside(&[id])?;
            }
        }
        Ok(())
    }

    /// Puts damaged files into `quarantine/`. They are named first, durably: once they are moved, no later run finds them.
    fn put_aside(&mut self, ids: &[InstanceId]) -> io::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut name_all = || {
            for id in ids {
                let known = self.former.and_then(|former| former.instance(*id));
                self.writing.line(&match known {
                    Some(record) => Named::of(&record.instance, Fate::Damaged),
                    None => Named::damaged(self.root, &path_of(self.root, *id), *id),
                })?;
            }
            self.writing.keep()
        };
        let unwritten = |error: io::Error| {
            let text = format!("the salvage report cannot be written: {error}");
            io::Error::new(error.kind(), text)
        };
        name_all().map_err(unwritten)?;
        for id in ids {
            put_aside(self.root, &path_of(self.root, *id), "quarantine", *id)?;
            self.report.quarantined.push(id.to_string());
        }
        Ok(())
    }

    /// A file that says it is another id's. When it is what it says, and that place has no whole one of its own, it is moved there; two
    /// that were swapped change places. A copy of a whole one goes the way of what is damaged: its own instance is gone.
    fn stranger(&mut self, id: InstanceId) -> io::Result<()> {
        let path = path_of(self.root, id);
        // Each round puts one more file in its place, or ends.
        loop {
            let (record, state) = match inspect(self.root, id, true) {
                Ok(Found::Other(record, state)) => (record, state),
                // The place has what is its own by now.
                found => return self.settle(id, found),
            };
            let home = record.instance.id;
            if is_free(self.root, home) {
                bring_home(self.root, &path, home)?;
                self.report.brought_home += 1;
                self.take(&record, state);
                return Ok(());
            }
            match inspect(self.root, home, true) {
                Err(error) if is_passing(&error) => return Err(naming(self.root, &path)(error)),
                Ok(Found::Whole(..)) => return self.settle(id, Ok(Found::Other(record, state))),
                // The other is a stranger too, and its turn comes; or is damaged at its end, where only a deep look sees it.
                _ => {}
            }
            if exchange(self.root, &path, home).is_err() {
                return self.settle(id, Ok(Found::Other(record, state)));
            }
            self.report.brought_home += 1;
        }
    }

    fn misplaced(&mut self, listing: &mut Listing) -> io::Result<()> {
        for (path, id) in std::mem::take(&mut listing.misplaced) {
            match inspect_at(&path, id, true) {
                Err(error) if is_passing(&error) => return Err(naming(self.root, &path)(error)),
                Ok(Found::Whole(record, state) | Found::Other(record, state))
                    if is_free(self.root, record.instance.id) =>
                {
                    bring_home(self.root, &path, record.instance.id)?;
                    self.report.brought_home += 1;
                    self.take(&record, state);
                }
                _ => listing.pass_over(self.root, &path),
            }
        }
        Ok(())
    }
}

/// The records of files that were looked at, kept out of memory until now.
///
/// # Errors
/// A file has changed since or cannot be read; it is named.
pub(super) fn again(root: &Path, files: &[File]) -> io::Result<Vec<(InstanceRecord, FileState)>> {
    let mut records = Vec::with_capacity(files.len());
    for (_, id, state) in files {
        let path = path_of(root, *id);
        match inspect(root, *id, false).map_err(naming(root, &path))? {
            Found::Whole(record, _) => records.push((*record, *state)),
            _ => return Err(naming(root, &path)(io::Error::other("it changed while it was read"))),
        }
    }
    Ok(records)
}
