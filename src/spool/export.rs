//! `spool export`: copies payloads out under readable names. Needs the files only, no index, and disturbs nobody:
//! it works beside a running box, and after the index is lost.
use super::folder;
use super::inspect::{Found, inspect_at};
use super::model::OpenError;
use super::payload::{DISCARDED_BEHIND, HEADER_MAX, path_of, state_offset};
use super::query::Filter;
use super::record::InstanceRecord;
use crate::base::names::Uid;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What was copied.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ExportReport {
    pub exported: u64,
    pub bytes: u64,
    /// Whole copies that were there already.
    pub already: u64,
    /// Left out because they are delivered, or a person has discarded them.
    pub ended: u64,
    /// Our ids of files that are cut, damaged or still arriving.
    pub skipped: Vec<String>,
    /// Files that the machine could not read, by our ids, with its error: they may be whole.
    pub unreadable: Vec<(String, String)>,
}

/// Which payloads, by where their deliveries stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    All,
    /// Those that still wait: queued, held, sent and not committed. Told by the state letter in the payload file, which is written when all
    /// deliveries have ended and not flushed: after a power cut some that were delivered may be among them, never one too few.
    Waiting,
}

/// Two instances of one UID get `_1`, `_2` up to this.
const SAME_NAME_MAX: usize = 10_000;
/// How a copy ends that is not whole yet.
const UNFINISHED: &str = ".part";

/// Copies what matches `filter` (its source, instance, study and SOP instance; the rest is about jobs and not looked
/// at) to `to/STUDY/SOPINSTANCE.dcm`. A copy has its name when it is whole and flushed, and not before. Existing files are never
/// overwritten; one with the same content is the copy already.
///
/// # Errors
/// The spool cannot be listed or the copies cannot be written.
pub fn export(path: &Path, to: &Path, filter: &Filter, wanted: Wanted) -> Result<ExportReport, OpenError> {
    let failed = |what| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::Io { path, what, error }
    };
    let mut report = ExportReport::default();
    let listing = folder::list(path).map_err(failed("payloads cannot be listed"))?;
    // One in a wrong folder is as good, when it is whole.
    let homes = listing.payloads.into_iter().map(|id| (path_of(path, id), id));
    for (file, id) in homes.chain(listing.misplaced) {
        match inspect_at(&file, id, true) {
            Ok(Found::Empty) => {}
            Ok(Found::Whole(_, state) | Found::Damaged(Some((_, state))))
                if wanted == Wanted::Waiting && state.is_over() =>
            {
                report.ended += 1;
            }
            Ok(Found::Whole(record, _)) if filter.is_about(&record.instance) => {
                match copy(&file, to, &record).map_err(failed("a copy cannot be written"))? {
                    Some(bytes) => {
                        report.exported += 1;
                        report.bytes += bytes;
                    }
                    None => report.already += 1,
                }
            }
            Ok(Found::Whole(..)) => {}
            Ok(Found::Partial | Found::Damaged(_) | Found::Other(..)) => report.skipped.push(id.to_string()),
            // A reserved file that no image has come into yet.
            Err(_) if fs::metadata(&file).is_ok_and(|about| about.len() == 0) => {}
            Err(error) => report.unreadable.push((id.to_string(), error.to_string())),
        }
    }
    Ok(report)
}

/// Answers how many bytes were copied, `None` when the copy was there already.
fn copy(from: &Path, to: &Path, record: &InstanceRecord) -> io::Result<Option<u64>> {
    let instance = &record.instance;
    let own = instance.id.to_string();
    let directory = to.join(instance.study.as_ref().map_or(own.clone(), |study| part(study, &own)));
    fs::create_dir_all(&directory)?;
    let name = part(&instance.sop_instance, &own);
    for count in 0..SAME_NAME_MAX {
        let path = numbered(&directory, &name, count);
        if is_copy(from, &path, record)? {
            return Ok(None);
        }
        if is_there(&path)? {
            continue;
        }
        // Of this process alone: an export that was cut, or another one, has its own.
        let unfinished = directory.join(format!(".waystation-{own}-{}{UNFINISHED}", std::process::id()));
        let written = write(from, &unfinished).and_then(|bytes| Ok((bytes, publish(&unfinished, &path)?)));
        match written {
            Ok((bytes, true)) => return Ok(Some(bytes)),
            // Somebody else has just written one of that name.
            Ok((_, false)) => drop(fs::remove_file(unfinished)),
            Err(error) => {
                drop(fs::remove_file(unfinished));
                return Err(error);
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

fn write(from: &Path, to: &Path) -> io::Result<u64> {
    let mut copy = File::create(to)?;
    let bytes = io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()?;
    Ok(bytes)
}

/// Gives a whole copy its name, never that of another file. Answers whether it has it.
fn publish(from: &Path, to: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Some file systems of sticks and shares cannot do both at once.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if is_there(to)? => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(from, to).map(|()| true),
        Err(error) => Err(error.into()),
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file is a whole copy of the payload. Its state letter may differ: the payload may have been delivered since.
fn is_copy(payload: &Path, copy: &Path, record: &InstanceRecord) -> io::Result<bool> {
    let Ok(mut copy) = File::open(copy) else {
        return Ok(false);
    };
    let mut payload = File::open(payload)?;
    let mut left = payload.metadata()?.len();
    if copy.metadata()?.len() != left {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; COMPARED], vec![0; COMPARED]);
    let state = state_offset(record.private_offset);
    let mut letters = Some([state, state + DISCARDED_BEHIND]);
    while left > 0 {
        let length = left.min(COMPARED as u64) as usize;
        payload.read_exact(&mut ours[..length])?;
        copy.read_exact(&mut theirs[..length])?;
        // They stand in the header, and so in the first piece.
        for at in letters.take().into_iter().flatten() {
            if let Some(at) = usize::try_from(at).ok().filter(|at| *at < length) {
                theirs[at] = ours[at];
            }
        }
        if ours[..length] != theirs[..length] {
            return Ok(false);
        }
        left -= length as u64;
    }
    Ok(true)
}

/// Bytes that are compared at once: more than the longest header.
const COMPARED: usize = 2 * HEADER_MAX;

fn numbered(directory: &Path, name: &str, count: usize) -> PathBuf {
    if count == 0 {
        directory.join(format!("{name}.dcm"))
    } else {
        directory.join(format!("{name}_{count}.dcm"))
    }
}

/// A UID as one part of a path. It has digits and dots only; one that is dots alone, or starts with one, is not used.
fn part(uid: &Uid, own: &str) -> String {
    let text = uid.as_str();
    if text.starts_with('.') || text.contains("..") {
        own.to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_uid_climbs_out_of_the_directory() {
        for bad in ["..", ".", "1..2", ".1", "..1"] {
            assert_eq!(part(&Uid::parse(bad).unwrap(), "own"), "own", "{bad}");
        }
        assert_eq!(part(&Uid::known("1.2.3"), "own"), "1.2.3");
    }
}
