//! The format of the whole spool: what this version writes, what it reads, and the marker file that says so before anything else is
//! touched. A newer format is refused with the folder exactly as it was; an older one is migrated (`migrate.rs`).
//!
//! | format | since | what it has that the one before has not |
//! | --- | --- | --- |
//! | 1 | 0.1 | |
//! | 2 | 0.1, custody | the families `history` and `trace`; `trace.key`; ledger lines that tell of a whole arrival |
//!
//! What `seen` notes of a reroute (`moved.rs`) came within format 2, without a new number; `docs/install.md` says what an older build
//! makes of it.
//!
//! `waystation-spool` holds the format as a number. It is raised before the first change of a migration, so that an older version
//! never opens half of one; `migrating` holds the format that the spool comes from until the migration is complete.
use super::db::Cf;
use super::model::OpenError;
use super::pool::sync_directory;
use super::txn::{SCHEMA, encode_number};
use super::{recover, trace};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What this version writes.
pub const FORMAT: u64 = 2;
/// The oldest format that it migrates.
pub const OLDEST: u64 = 1;
const MARKER: &str = "waystation-spool";
const MIGRATING: &str = "migrating";

/// The format of a spool, as `waystation spool version` shows it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct SpoolVersion {
    /// Of the spool. While it is being migrated, the one that it comes from.
    pub format: u64,
    /// A migration was begun and not completed: the next start goes on with it.
    pub migrating: bool,
    /// What this program writes.
    pub writes: u64,
    /// The oldest format that this program migrates.
    pub reads_from: u64,
}

impl SpoolVersion {
    /// Whether this program can have it.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        (self.reads_from..=self.writes).contains(&self.format)
    }

    /// Whether the next start migrates it.
    #[must_use]
    pub fn is_older(&self) -> bool {
        self.format < self.writes
    }
}

/// Reads the marker of a spool; opens, locks and changes nothing.
///
/// # Errors
/// There is no spool, or its marker cannot be read or is no number.
pub fn version(root: &Path) -> Result<SpoolVersion, OpenError> {
    let Some(marked) = marked(root)? else {
        return Err(OpenError::NotASpool(root.to_owned()));
    };
    let from = unfinished(root)?;
    Ok(SpoolVersion {
        format: from.unwrap_or(marked),
        migrating: from.is_some(),
        writes: FORMAT,
        reads_from: OLDEST,
    })
}

/// What the marker says; `None` without one, or when it is empty: the process that made it ended before anything else.
pub(super) fn marked(root: &Path) -> Result<Option<u64>, OpenError> {
    match fs::read_to_string(root.join(MARKER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(OpenError::Marker(root.to_owned())),
        Err(error) => Err(failed(root, "marker cannot be read")(error)),
        Ok(text) => parse(root, &text),
    }
}

fn parse(root: &Path, text: &str) -> Result<Option<u64>, OpenError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let format = text.parse().map_err(|_| OpenError::Marker(root.to_owned()))?;
    if format < OLDEST {
        return Err(OpenError::Marker(root.to_owned()));
    }
    Ok(Some(format))
}

/// Refuses a format that this version does not know. Called before anything is opened for writing.
pub(super) fn refuse_newer(root: &Path) -> Result<(), OpenError> {
    match marked(root)? {
        Some(found) if found > FORMAT => Err(OpenError::Newer {
            path: root.to_owned(),
            found,
            known: FORMAT,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Where the marker of a spool lies. Whose it is, the spool is.
pub(super) fn marker(root: &Path) -> PathBuf {
    root.join(MARKER)
}

/// The files of a spool that every start opens, where they are: those that it writes, and those that it reads.
#[must_use]
pub fn opened_by_a_start(root: &Path) -> ([PathBuf; 2], [PathBuf; 2]) {
    let index = recover::index_path(root);
    let written = [marker(root), index.join("LOCK")];
    (written, [root.join(trace::KEY_FILE), index.join("CURRENT")])
}

/// Whether the folder has a marker.
pub(super) fn has_marker(root: &Path) -> bool {
    marker(root).exists()
}

/// Opens the marker, which is also the file of the lock.
pub(super) fn open_marker(root: &Path, create: bool) -> Result<File, OpenError> {
    let options = File::options()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(root.join(MARKER));
    options.map_err(failed(root, "marker cannot be opened"))
}

/// What the locked marker says, read again; an empty one is filled in. `true`: it was empty.
pub(super) fn claim(root: &Path, file: &mut File) -> Result<bool, OpenError> {
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(failed(root, "marker cannot be read"))?;
    if parse(root, &text)?.is_some() {
        refuse_newer(root)?;
        return Ok(false);
    }
    write_number(file, FORMAT).map_err(failed(root, "marker cannot be written"))?;
    Ok(true)
}

/// The format that the spool has to be brought from; `None`: it is of today's.
pub(super) fn older(root: &Path) -> Result<Option<u64>, OpenError> {
    if let Some(from) = unfinished(root)? {
        return Ok(Some(from));
    }
    Ok(marked(root)?.filter(|format| *format < FORMAT))
}

fn unfinished(root: &Path) -> Result<Option<u64>, OpenError> {
    match fs::read_to_string(root.join(MIGRATING)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(root, "the note of its migration cannot be read")(error)),
        // An empty one was cut before the marker was raised: nothing had begun.
        Ok(text) => Ok(text.trim().parse().ok()),
    }
}

/// Notes that a migration begins, durably, and raises the marker: from here on no older version opens the spool.
pub(super) fn begin(root: &Path, from: u64) -> Result<(), OpenError> {
    let note = || {
        let mut file = File::create(root.join(MIGRATING))?;
        write_number(&mut file, from)?;
        sync_directory(root)?;
        let mut marker = File::options().read(true).write(true).open(root.join(MARKER))?;
        write_number(&mut marker, FORMAT)
    };
    note().map_err(failed(root, "the migration cannot be noted"))
}

/// The migration is complete.
pub(super) fn end(root: &Path) -> Result<(), OpenError> {
    let remove = || match fs::remove_file(root.join(MIGRATING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(root),
    };
    remove().map_err(failed(root, "the note of its migration cannot be removed"))
}

/// The families that an index of this format may lack.
pub(super) fn families_since(format: u64) -> &'static [Cf] {
    match format {
        0 | 1 => &[Cf::History, Cf::Trace],
        _ => &[],
    }
}

/// The change that puts today's format into an index.
pub(super) fn stamp() -> (Cf, Vec<u8>, Option<Vec<u8>>) {
    (Cf::Meta, SCHEMA.to_vec(), Some(encode_number(FORMAT)))
}

fn write_number(file: &mut File, number: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    // One write of the same length: a cut leaves the old number or the new one.
    file.write_all(format!("{number}\n").as_bytes())?;
    file.sync_all()
}

fn failed(root: &Path, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    let path = root.to_owned();
    move |error| OpenError::Io { path, what, error }
}

/// One digit: see `write_number`.
const _: () = assert!(FORMAT < 10);

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(text: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(MARKER), text).unwrap();
        root
    }

    #[test]
    fn a_marker_that_says_nothing_known_is_refused_and_an_empty_one_is_none() {
        for wrong in [&b"two"[..], b"2.0", b"0", b"-1", b"\xff\xfe", b"2 3"] {
            let root = marker(wrong);
            assert!(matches!(version(root.path()), Err(OpenError::Marker(_))), "{wrong:?}");
        }
        assert!(matches!(version(marker(b"").path()), Err(OpenError::NotASpool(_))));
        let newer = marker(b"7\n");
        assert!(matches!(
            refuse_newer(newer.path()),
            Err(OpenError::Newer { found: 7, .. })
        ));
        assert!(!version(newer.path()).unwrap().is_readable());
    }

    #[test]
    fn a_migration_that_began_is_seen_until_it_ends() {
        let root = marker(b"1\n");
        assert_eq!(older(root.path()).unwrap(), Some(1));
        begin(root.path(), 1).unwrap();
        assert_eq!(marked(root.path()).unwrap(), Some(FORMAT));
        let version = version(root.path()).unwrap();
        assert!(version.migrating && version.is_older() && version.is_readable());
        end(root.path()).unwrap();
        assert_eq!(older(root.path()).unwrap(), None);
    }
}
