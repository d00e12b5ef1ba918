//! What the box holds on to beside its spool: `node.state`, for itself alone, and in it the note of where its spool is.
use crate::base::fault::{Plant, planted};
use crate::base::whole;
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NOTE: &str = "spool-was-at";
const LOCK: &str = "lock";

/// Why a box does not start here.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error(
        "node.state {0} is in use by another process: a box runs with it already; a second one needs its own node.state, control.path and spool"
    )]
    InUse(PathBuf),
    #[error(
        "{spool} holds no spool, but this box has had one there: is its disk mounted? To begin an empty one, remove {note}"
    )]
    Gone { spool: PathBuf, note: PathBuf },
    #[error(
        "spool.path is {spool}, which holds no spool, but this box has its spool in {former}, with all that waits in it: set spool.path back, \
         or stop the box and move that folder here. To leave it there and begin an empty one, remove {note}"
    )]
    Elsewhere {
        spool: PathBuf,
        former: PathBuf,
        note: PathBuf,
    },
    #[error(
        "spool.path is {spool}, which holds no spool, and this box has had its spool in {former}, where there is none now: is that disk \
         mounted? To begin an empty one, remove {note}"
    )]
    Nowhere {
        spool: PathBuf,
        former: PathBuf,
        note: PathBuf,
    },
    #[error(
        "node.state {folder} belongs to the user with the number {uid}, and there is no spool yet: what root began here, that user could not \
         use. Start the service, or run this as that user, as in `sudo -u '#{uid}' waystation ...`; or `chown root {folder}` when the box is \
         to run as root"
    )]
    Anothers { folder: PathBuf, uid: u32 },
    #[error("{path} cannot be used: {error}; it must be the box's user's: look at its owner, and that of its folder")]
    File { path: PathBuf, error: io::Error },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |error| HomeError::File { path, error }
}

/// `node.state`, which no other box has as long as this lives.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Takes the folder for this process. Blocking.
    ///
    /// # Errors
    /// Another process has it, or its lock file cannot be made.
    pub fn claim(folder: &Path) -> Result<Self, HomeError> {
        let path = folder.join(LOCK);
        let file = match File::options().append(true).create(true).open(&path) {
            // Another user has made it, as root does who runs the box by hand: a lock needs no right to write.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path),
            file => file,
        };
        let file = file.map_err(failed(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                _lock: file,
            }),
            Err(rustix::io::Errno::AGAIN) => Err(HomeError::InUse(folder.to_owned())),
            Err(error) => Err(failed(&path)(error.into())),
        }
    }

    /// As the function of that name, for this folder.
    ///
    /// # Errors
    /// See `HomeError`.
    pub fn guard(&self, spool: &Path, holds: impl Fn(&Path) -> bool) -> Result<(), HomeError> {
        guard(&self.folder, spool, holds)
    }

    /// Notes where the spool is, when the note says something else. Blocking.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn remember(&self, spool: &Path) -> Result<(), HomeError> {
        let note = self.folder.join(NOTE);
        let spool = std::path::absolute(spool).unwrap_or_else(|_| spool.to_owned());
        let text = spool.as_os_str().as_bytes();
        if std::fs::read(&note).is_ok_and(|found| found == text) {
            return Ok(());
        }
        whole::write(&note, 0o644, text).map_err(failed(&note))
    }
}

/// The files below `node.state` that every start opens, where they are.
#[must_use]
pub fn files(state: &Path) -> [PathBuf; 2] {
    [LOCK, NOTE].map(|name| state.join(name))
}

/// Refuses root to begin a box in the folder of another user, whom it runs as. Changes nothing. Blocking.
///
/// # Errors
/// `HomeError::Anothers`.
pub fn refuse_root(state: &Path) -> Result<(), HomeError> {
    let owner = std::fs::metadata(state).map(|facts| facts.uid());
    match owner {
        Ok(uid) if uid != 0 && rustix::process::geteuid().is_root() => {
            let folder = state.to_owned();
            Err(HomeError::Anothers { folder, uid })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Refuses to begin a spool while this box has, or has had, one: the directory below a mount point looks empty when its disk is
/// not mounted, and instances spooled there would vanish behind the disk; and what waits in a spool that nobody opens any
/// more is as good as lost. `holds` says whether a folder holds a spool. Changes nothing. Blocking.
///
/// # Errors
/// See `HomeError`.
pub fn guard(state: &Path, spool: &Path, holds: impl Fn(&Path) -> bool) -> Result<(), HomeError> {
    let note = state.join(NOTE);
    let former = match std::fs::read(&note) {
        Ok(text) => PathBuf::from(OsStr::from_bytes(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&note)(error)),
    };
    if holds(spool) {
        if !is_same(&former, spool) && holds(&former) {
            tracing::warn!(spool = %spool.display(), former = %former.display(), "another spool than at the last start; the former one is there still, and what waits in it is delivered by nobody");
        }
        return Ok(());
    }
    if planted(Plant::ForgetHome) {
        return Ok(());
    }
    let spool = spool.to_owned();
    Err(match is_same(&former, &spool) {
        true => HomeError::Gone { spool, note },
        false if holds(&former) => HomeError::Elsewhere { spool, former, note },
        false => HomeError::Nowhere { spool, former, note },
    })
}

/// Whether two spellings mean one place: of paths that lead somewhere, where they lead.
fn is_same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    a == b || matches!((place(a), place(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder holds a spool when it has anything in it.
    fn holds(path: &Path) -> bool {
        std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
    }

    #[test]
    fn a_spool_is_not_begun_while_there_is_one_or_was() {
        let (state, disks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (disks.path().join("a/spool"), disks.path().join("b/spool"));
        let state = State::claim(state.path()).unwrap();
        assert!(state.guard(&here, holds).is_ok(), "a new box");
        std::fs::create_dir_all(here.join("index")).unwrap();
        state.remember(&here).unwrap();
        state.remember(&here).unwrap();
        assert!(state.guard(&here, holds).is_ok());
        let refused = |spool: &Path| state.guard(spool, holds).unwrap_err().to_string();
        assert!(
            refused(&there).contains("with all that waits in it"),
            "{}",
            refused(&there)
        );
        std::fs::remove_dir_all(&here).unwrap();
        for spelling in ["a/spool", "a/spool/", "a/./spool"] {
            let told = refused(&disks.path().join(spelling));
            assert!(told.contains("one there: is its disk mounted?"), "{spelling}: {told}");
        }
        assert!(
            refused(&there).contains("where there is none now"),
            "{}",
            refused(&there)
        );
        std::fs::create_dir_all(there.join("index")).unwrap();
        assert!(state.guard(&there, holds).is_ok(), "moved with all that it holds");
        state.remember(&there).unwrap();
        assert!(refused(&here).contains("with all that waits in it"));
        std::fs::remove_file(state.folder.join(NOTE)).unwrap();
        assert!(state.guard(&here, holds).is_ok(), "a person wants it so");
    }

    #[test]
    fn one_state_folder_is_one_box_s() {
        let folder = tempfile::tempdir().unwrap();
        let first = State::claim(folder.path()).unwrap();
        let refused = State::claim(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
        drop(first);
        State::claim(folder.path()).unwrap();
    }
}
