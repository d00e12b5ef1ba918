//! `spool export`: copies payloads out under readable names. Needs the files only, no index, and disturbs nobody:
//! it works beside a running box, and after the index is lost. Which of what waits was held, the index or the list of orders tells.
use super::folder;
use super::inspect::{Found, inspect_at};
use super::model::OpenError;
use super::payload::{self, DISCARDED_BEHIND, HEADER_MAX, path_of, state_offset};
use super::query::Filter;
use super::record::InstanceRecord;
use super::withheld::{HoldsKnown, Withheld};
use crate::base::names::{AeTitle, DestinationId, Uid};
use std::collections::BTreeSet;
use std::fmt::Write as _;
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
    /// Of `exported` and `already`: kept back by a person, a rule or the box, and so below `HELD`.
    pub held: u64,
    /// What could be learned of holds. Not asked for an export of everything.
    pub holds_known: Option<HoldsKnown>,
    /// Destinations that a person has suspended: what waits for them is exported all the same.
    pub suspended: Vec<DestinationId>,
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

/// Below the folder that what waits is exported to: what may be sent again, and what a person, a rule or the box has kept back.
pub const WAITING: &str = "waiting";
pub const HELD: &str = "held";
/// A folder with this file is not sent with the folder around it: what lies in it was kept back.
pub const KEPT_BACK: &str = "DO-NOT-SEND.txt";
/// Says in each folder of what waits how to send it so that it is taken for the same source again.
pub const HOW_TO_SEND: &str = "send.txt";

/// Two instances of one UID get `_1`, `_2` up to this.
const SAME_NAME_MAX: usize = 10_000;
/// How a copy ends that is not whole yet.
const UNFINISHED: &str = ".part";

/// Copies what matches `filter` (its source, instance, study and SOP instance; the rest is about jobs and not looked
/// at) to `to/STUDY/SOPINSTANCE.dcm`. A copy has its name when it is whole and flushed, and not before. Existing files are never
/// overwritten; one with the same content is the copy already.
///
/// What waits goes below `to/waiting` or `to/held`, in a folder for each way in which it was sent (source, calling and called AE title). A
/// copy that a former export has put into the other of the two is taken away from there.
///
/// # Errors
/// The spool cannot be listed or the copies cannot be written.
pub fn export(path: &Path, to: &Path, filter: &Filter, wanted: Wanted) -> Result<ExportReport, OpenError> {
    let failed = |what| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::Io { path, what, error }
    };
    let listing = folder::list(path).map_err(failed("payloads cannot be listed"))?;
    // Holds are looked at after the files are listed: none of these was committed, and held, since.
    let mut goal = Goal {
        to,
        withheld: (wanted == Wanted::Waiting).then(|| Withheld::look(path)),
        told: BTreeSet::new(),
    };
    let mut report = ExportReport::default();
    if let Some(withheld) = &goal.withheld {
        report.holds_known = Some(withheld.known);
        report.suspended.clone_from(&withheld.suspended);
    }
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
                goal.put(&file, &record, &mut report)
                    .map_err(failed("a copy cannot be written"))?;
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

/// Where copies go.
struct Goal<'a> {
    to: &'a Path,
    /// `None` for an export of everything.
    withheld: Option<Withheld>,
    /// Folders that say already how to send what is in them.
    told: BTreeSet<PathBuf>,
}

impl Goal<'_> {
    fn put(&mut self, file: &Path, record: &InstanceRecord, report: &mut ExportReport) -> io::Result<()> {
        let (folder, why) = self.folder(file, record)?;
        let (copied, bytes) = copy(file, &folder, record)?;
        match bytes {
            Some(bytes) => {
                report.exported += 1;
                report.bytes += bytes;
            }
            None => report.already += 1,
        }
        if let Some(why) = why {
            fs::write(reason_of(&copied), format!("{why}\n"))?;
            report.held += 1;
        }
        Ok(())
    }

    /// The folder of a copy, ready to take it, and why the instance is kept back.
    fn folder(&mut self, file: &Path, record: &InstanceRecord) -> io::Result<(PathBuf, Option<String>)> {
        let Some(withheld) = &self.withheld else {
            return Ok((self.to.to_owned(), None));
        };
        let why = withheld.of(record.instance.id);
        let peer = peer(record);
        let (own, other) = match why {
            Some(_) => (HELD, WAITING),
            None => (WAITING, HELD),
        };
        // It was held, or let go, since a former export.
        for copy in copies(file, &self.to.join(other).join(&peer), record)? {
            drop(fs::remove_file(reason_of(&copy)));
            fs::remove_file(copy)?;
        }
        let folder = self.to.join(own).join(peer);
        if self.told.insert(folder.clone()) {
            fs::create_dir_all(&folder)?;
            if why.is_some() {
                fs::write(self.to.join(HELD).join(KEPT_BACK), KEPT_BACK_WORDS)?;
            }
            fs::write(folder.join(HOW_TO_SEND), how_to_send(record))?;
        }
        Ok((folder, why))
    }
}

const KEPT_BACK_WORDS: &str = "\
The images below this folder were held by a person, a rule or the box. Beside each stands the reason, as NAME.dcm.txt.
Look at each before it is sent to anybody. `waystation send` passes this folder over unless it is named itself.
";

/// Where the reason stands why a copy was kept back.
fn reason_of(copy: &Path) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(".txt");
    name.into()
}

/// The folder of everything that was sent in the same way.
fn peer(record: &InstanceRecord) -> String {
    let instance = &record.instance;
    let titles = [&instance.calling_ae, &instance.called_ae].map(escaped);
    format!("{}--{}", instance.source, titles.join("--"))
}

/// An AE title as part of a folder's name, another one for another title.
fn escaped(title: &AeTitle) -> String {
    let mut out = String::new();
    for byte in title.as_str().bytes() {
        // Writing to a String cannot fail.
        let _ = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' => write!(out, "{}", char::from(byte)),
            other => write!(out, "%{other:02X}"),
        };
    }
    out
}

fn how_to_send(record: &InstanceRecord) -> String {
    let instance = &record.instance;
    let quoted = |title: &AeTitle| format!("'{}'", title.as_str().replace('\'', r"'\''"));
    let (calling, called) = (quoted(&instance.calling_ae), quoted(&instance.called_ae));
    format!(
        "These images came from the source {source}: calling AE title {calling}, called AE title {called}.\n\
         Rules go by the source. To have them taken for the same one, let its [[sources]] entry name the network of the machine that sends \
         them, and run in this folder:\n\n\
         waystation send --to HOST:PORT --calling {calling} --called {called} .\n",
        source = instance.source
    )
}

/// The whole copies of a payload below a folder.
fn copies(payload: &Path, folder: &Path, record: &InstanceRecord) -> io::Result<Vec<PathBuf>> {
    let (directory, name) = place(folder, record);
    let mut found = Vec::new();
    for count in 0..SAME_NAME_MAX {
        let path = numbered(&directory, &name, count);
        if !is_there(&path)? {
            break;
        }
        if is_copy(payload, &path, record)? {
            found.push(path);
        }
    }
    Ok(found)
}

/// The folder of a copy, and its name without the ending.
fn place(to: &Path, record: &InstanceRecord) -> (PathBuf, String) {
    let instance = &record.instance;
    let own = instance.id.to_string();
    let directory = instance.study.as_ref().map_or(own.clone(), |study| part(study, &own));
    (to.join(directory), part(&instance.sop_instance, &own))
}

/// Answers where the copy is, and how many bytes were copied: `None` when it was there already.
fn copy(from: &Path, to: &Path, record: &InstanceRecord) -> io::Result<(PathBuf, Option<u64>)> {
    let own = record.instance.id.to_string();
    let (directory, name) = place(to, record);
    fs::create_dir_all(&directory)?;
    for count in 0..SAME_NAME_MAX {
        let path = numbered(&directory, &name, count);
        if is_copy(from, &path, record)? {
            return Ok((path, None));
        }
        if is_there(&path)? {
            continue;
        }
        // Of this process alone: an export that was cut, or another one, has its own.
        let unfinished = directory.join(format!(".waystation-{own}-{}{UNFINISHED}", std::process::id()));
        let written = write(from, &unfinished).and_then(|bytes| Ok((bytes, publish(&unfinished, &path)?)));
        match written {
            Ok((bytes, true)) => return Ok((path, Some(bytes))),
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
    let bytes = io::copy(&mut payload::open(from)?, &mut copy)?;
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
    let mut payload = payload::open(payload)?;
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
