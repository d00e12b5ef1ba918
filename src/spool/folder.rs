//! The folder of the payload files: what lies in it, what does not belong there, and moves within the spool.
//!
//! A payload is a file at the one place that its id says. Whatever else lies below `payload/` (a copy that a person made, a
//! snapshot, a note) is nobody's: it is read by nothing, removed by nothing, and named. One that has a payload's name while the
//! place of that id is empty may be an instance that was moved: a start looks at it, and moves it back when it is whole.
use super::model::OpenError;
use super::payload::path_of;
use super::pool::sync_directory;
use crate::base::names::InstanceId;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};

/// What lies below `payload/`.
#[derive(Default)]
pub(super) struct Listing {
    /// The payload files, sorted, each once.
    pub payloads: Vec<InstanceId>,
    /// Files with a payload's name in another folder, while nothing lies at the place of their id.
    pub misplaced: Vec<(PathBuf, InstanceId)>,
    pub others: Others,
}

/// What is no payload: nothing reads it.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Others {
    /// Paths below the spool; a folder stands for all that is in it. At most `NAMED_MAX`.
    pub named: Vec<PathBuf>,
    /// All of them.
    pub count: u64,
}

/// Others that are named.
const NAMED_MAX: usize = 1_000;

impl Others {
    fn add(&mut self, root: &Path, path: &Path) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(below(root, path).to_owned());
        }
    }

    /// For a log or a report: a name that is not ours may be a patient's, and becomes `*`.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.named.iter().map(|path| shown(path)).collect()
    }
}

/// A path as it stands below the spool.
fn below<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

fn shown(path: &Path) -> String {
    let parts = path.iter().map(|part| {
        let name = part.to_str().unwrap_or_default();
        let copied = COPIES.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let is_ours = [PAYLOAD, "orphans", "quarantine"].contains(&name)
            || is_shard(copied)
            || InstanceId::parse(copied.strip_suffix(ENDS).unwrap_or(copied)).is_ok();
        if is_ours { name } else { "*" }
    });
    parts.collect::<Vec<_>>().join("/")
}

const PAYLOAD: &str = "payload";
const ENDS: &str = ".dcm";
/// How copies of our own files and folders are usually called.
const COPIES: [&str; 6] = [".bak", ".old", ".orig", ".tmp", ".copy", "~"];

fn is_shard(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The id that a name says, when it is written as `path_of` writes it.
fn id_of(name: &str) -> Option<InstanceId> {
    let id = InstanceId::parse(name.strip_suffix(ENDS)?).ok()?;
    (format!("{id}{ENDS}") == name).then_some(id)
}

/// Has an error name its file.
pub(super) fn naming(root: &Path, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let name = shown(below(root, path));
    move |error| io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// What lies below `payload/`.
///
/// # Errors
/// `payload/` or one of its shards cannot be read; it is named. What is no payload is never an error.
pub(super) fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let folder = root.join(PAYLOAD);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        entries => entries.map_err(naming(root, &folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(naming(root, &folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "lost+found" {
            continue;
        }
        let is_folder = kind(&entry).is_some_and(|kind| kind.is_dir());
        match name.to_str().filter(|name| is_folder && is_shard(name)) {
            Some(_) => shard(root, &path, &mut listing).map_err(naming(root, &path))?,
            None => {
                listing.others.add(root, &path);
                if is_folder {
                    strange(root, &path, &mut listing);
                }
            }
        }
    }
    listing.payloads.sort_unstable();
    Ok(listing)
}

/// Of a link: what it leads to. `None` when that is nothing.
fn kind(entry: &DirEntry) -> Option<FileType> {
    match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => Some(kind),
        _ => fs::metadata(entry.path()).ok().map(|meta| meta.file_type()),
    }
}

/// Only a file is a payload: a pipe would hold up whoever opens it.
fn payload(entry: &DirEntry) -> Option<InstanceId> {
    let id = id_of(entry.file_name().to_str()?)?;
    // A link that leads nowhere is a payload that is gone, not something else.
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    kind(entry).map_or(is_link, |kind| kind.is_file()).then_some(id)
}

fn shard(root: &Path, folder: &Path, listing: &mut Listing) -> io::Result<()> {
    // All that belongs here ends in the same byte: no path is put together for each of a million files.
    let own = folder
        .file_name()
        .and_then(|name| u8::from_str_radix(name.to_str()?, 16).ok());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match payload(&entry) {
            Some(id) if own == Some(id.0[15]) => listing.payloads.push(id),
            Some(id) if is_free(root, id) => listing.misplaced.push((entry.path(), id)),
            _ => listing.others.add(root, &entry.path()),
        }
    }
    Ok(())
}

/// A folder that is none of ours is named as a whole; somebody may have renamed one of ours.
fn strange(root: &Path, folder: &Path, listing: &mut Listing) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Some(id) = payload(&entry).filter(|id| is_free(root, *id)) {
            listing.misplaced.push((entry.path(), id));
        }
    }
}

/// Nothing lies at the place of this id.
pub(super) fn is_free(root: &Path, id: InstanceId) -> bool {
    fs::symlink_metadata(path_of(root, id)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

impl Listing {
    /// A misplaced file that stays where it is.
    pub(super) fn pass_over(&mut self, root: &Path, path: &Path) {
        // In a folder that is not ours it is named already.
        let named = path.parent().is_some_and(|folder| {
            let folder = below(root, folder);
            self.others.named.iter().any(|other| other == folder)
        });
        if !named {
            self.others.add(root, path);
        }
    }
}

/// Payload files that hold something, misplaced ones too.
///
/// # Errors
/// As `list`.
pub(super) fn count(root: &Path) -> io::Result<u64> {
    let listing = list(root)?;
    let homes = listing.payloads.iter().map(|id| path_of(root, *id));
    let all = homes.chain(listing.misplaced.into_iter().map(|(path, _)| path));
    Ok(all
        .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0))
        .count() as u64)
}

/// Moves a file to the place of an id at which nothing lies, durably.
///
/// # Errors
/// Something lies there by now, or the disk refuses; nothing was moved.
pub(super) fn bring_home(root: &Path, from: &Path, id: InstanceId) -> io::Result<()> {
    change(root, from, id, RenameFlags::NOREPLACE)
}

/// Has a file and the one at the place of an id change places, at once and durably.
///
/// # Errors
/// The disk refuses, or its file system cannot do this; nothing was moved.
pub(super) fn exchange(root: &Path, from: &Path, id: InstanceId) -> io::Result<()> {
    change(root, from, id, RenameFlags::EXCHANGE)
}

fn change(root: &Path, from: &Path, id: InstanceId, flags: RenameFlags) -> io::Result<()> {
    let to = path_of(root, id);
    let move_both = || {
        renameat_with(CWD, from, CWD, &to, flags)?;
        // Its new place first: a cut between the two leaves a second name, and never none.
        to.parent().map_or(Ok(()), sync_directory)?;
        from.parent().map_or(Ok(()), sync_directory)
    };
    move_both().map_err(naming(root, from))
}

/// Moves a file into `orphans/` or `quarantine/`, and never over one that lies there already.
///
/// # Errors
/// The disk refuses; the file is named.
pub(super) fn put_aside(root: &Path, from: &Path, folder: &str, id: InstanceId) -> io::Result<PathBuf> {
    let folder = root.join(folder);
    let mut to = folder.join(format!("{id}{ENDS}"));
    let mut count = 0;
    while fs::symlink_metadata(&to).is_ok() {
        count += 1;
        to = folder.join(format!("{id}_{count}{ENDS}"));
    }
    let moved = match fs::rename(from, &to) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => copy_over(from, &to),
        moved => moved,
    };
    moved.map_err(naming(root, from))?;
    Ok(to)
}

/// Moves a file to another file system: `payload/` may be one of its own. The copy is durable before the original goes.
fn copy_over(from: &Path, to: &Path) -> io::Result<()> {
    let unfinished = to.with_extension("part");
    let copy = || {
        fs::copy(from, &unfinished)?;
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, to)?;
        to.parent().map_or(Ok(()), sync_directory)
    };
    let copied = copy();
    if copied.is_err() {
        // What is left of it is written over the next time.
        let _ = fs::remove_file(&unfinished);
    }
    copied?;
    fs::remove_file(from)
}

/// Whether a file of this id was put into `quarantine/`.
pub(super) fn is_quarantined(root: &Path, id: InstanceId) -> bool {
    fs::symlink_metadata(root.join("quarantine").join(format!("{id}{ENDS}"))).is_ok()
}

/// A list of files, or why there is none.
pub(super) fn listed(listing: io::Result<Listing>, root: &Path) -> Result<Listing, OpenError> {
    listing.map_err(|error| OpenError::Io {
        path: root.to_owned(),
        what: "payloads cannot be listed",
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_ours_is_shown_to_nobody() {
        let id = InstanceId::new(1, 2);
        for (path, expected) in [
            (format!("payload/02/{id}.dcm"), format!("payload/02/{id}.dcm")),
            (format!("payload/09.bak/{id}.dcm~"), format!("payload/09.bak/{id}.dcm~")),
            ("payload/DOE^JANE/19700101.dcm".to_owned(), "payload/*/*".to_owned()),
        ] {
            assert_eq!(shown(Path::new(&path)), expected);
        }
    }

    #[test]
    fn what_is_put_aside_may_lie_on_another_file_system() {
        use std::os::unix::fs::MetadataExt;
        let (spool, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(
            device(spool.path()),
            device(memory.path()),
            "this machine cannot show it"
        );
        let id = InstanceId::new(1, 2);
        fs::create_dir(spool.path().join("quarantine")).unwrap();
        for expected in [format!("{id}.dcm"), format!("{id}_1.dcm")] {
            let from = memory.path().join("x.dcm");
            fs::write(&from, &expected).unwrap();
            let to = put_aside(spool.path(), &from, "quarantine", id).unwrap();
            assert_eq!(to, spool.path().join("quarantine").join(&expected));
            assert_eq!(fs::read_to_string(&to).unwrap(), expected);
            assert!(!from.exists());
        }
        assert_eq!(fs::read_dir(spool.path().join("quarantine")).unwrap().count(), 2);
    }

    #[test]
    fn only_a_file_at_the_place_of_its_id_is_a_payload() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let (own, free) = (InstanceId::new(1, 0x109), InstanceId::new(1, 0x20a));
        for folder in ["09", "0A", "0b", "09.bak", "lost+found", "09/deeper"] {
            fs::create_dir_all(root.join("payload").join(folder)).unwrap();
        }
        let write = |path: String| fs::write(root.join("payload").join(path), b"x").unwrap();
        write("README".to_owned());
        write(format!("09/{own}.dcm"));
        write(format!("09/{own}.dcm.bak"));
        write(format!("0b/{own}.dcm"));
        write(format!("0b/{free}.dcm"));
        write(format!("09.bak/{own}.dcm"));
        write(format!(
            "09/{}.dcm",
            format!("{own}").to_uppercase().replace("0109", "AB09")
        ));
        std::os::unix::fs::symlink("/nonexistent", root.join("payload/0c")).unwrap();
        let mut listing = list(root).unwrap();
        listing.others.named.sort();
        assert_eq!(listing.payloads, [own]);
        let misplaced = root.join(format!("payload/0b/{free}.dcm"));
        assert_eq!(listing.misplaced, [(misplaced, free)]);
        let others = listing.others.named.iter().map(|path| path.to_str().unwrap());
        let others: Vec<&str> = others.collect();
        assert_eq!(listing.others.count, others.len() as u64);
        for expected in [
            "payload/README",
            "payload/0A",
            "payload/09.bak",
            "payload/0c",
            "payload/09/deeper",
        ] {
            assert!(others.contains(&expected), "{expected} of {others:?}");
        }
        assert_eq!(others.len(), 8, "{others:?}");
        assert_eq!(count(root).unwrap(), 2);
    }
}
