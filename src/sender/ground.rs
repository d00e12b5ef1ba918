//! Where a destination folder stands: whether the folder that is there now is the one that files were delivered to before.
//!
//! A folder on a disk of its own vanishes with that disk, and the same path then names the disk below it: what is written there is
//! hidden when the disk is back. So no folder above the destination's own is made (but below `node.state`), and where files were
//! delivered is noted in `node.state`: the path, and the mount point of the file system that it lay on. That pair means the same
//! after a restart and after the disk was mounted anew, which the device's number does not, and it puts no file of ours into a
//! folder that others list and empty. A disk that is mounted later, at the folder or above it, is where the folder was meant to be:
//! only a way back, to a file system further up, is refused.
use super::folder::{make_folders, words};
use crate::base::names::DestinationId;
use crate::base::whole;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why nothing may be written there now. Names the configured folder and its disk; never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    #[error("the folder {0} is gone, and files were delivered to it: mount its disk, or make the folder again")]
    Gone(PathBuf),
    #[error("the folder {0} does not exist, and is not made outside of node.state: mount its disk, or make it")]
    NoParent(PathBuf),
    #[error(
        "{root} lay on the disk mounted at {former}, with files delivered to it, and lies on the one at {mount} now: mount its disk; to \
         deliver here all the same, remove {note}"
    )]
    Moved {
        root: PathBuf,
        former: PathBuf,
        mount: PathBuf,
        note: PathBuf,
    },
    /// While an instance was being written.
    #[error("the disk of {0} was mounted or unmounted just now")]
    Shifted(PathBuf),
    #[error("{}", words(.0))]
    Io(#[from] io::Error),
}

/// One destination's folder, and what is known of its place.
#[derive(Debug)]
pub struct Ground {
    name: DestinationId,
    root: PathBuf,
    /// `node.state`. Without it nothing is noted.
    state: Option<PathBuf>,
    turn: Mutex<()>,
}

impl Ground {
    #[must_use]
    pub fn new(name: &DestinationId, root: &Path) -> Self {
        Self {
            name: name.clone(),
            root: root.to_owned(),
            state: None,
            turn: Mutex::new(()),
        }
    }

    /// With `node.state`, for the note.
    pub fn note_in(&mut self, state: &Path) {
        self.state = Some(state.to_owned());
    }

    /// Makes the folder where it may be made, and answers the mount point that it lies below. Blocking.
    ///
    /// # Errors
    /// See `GroundError`.
    pub fn stand(&self) -> Result<PathBuf, GroundError> {
        if let Some(mount) = self.look()? {
            return Ok(mount);
        }
        make_folders(&self.root, Path::new(""))?;
        self.placed(self.former()?)
    }

    /// As `stand`, but makes nothing: `None` when the folder is not there, and may be made.
    ///
    /// # Errors
    /// See `GroundError`.
    pub fn look(&self) -> Result<Option<PathBuf>, GroundError> {
        let former = self.former()?;
        match fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => self.placed(former).map(Some),
            Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.may_be_made(former.is_some())?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The mount point of the folder, which is there, when it is not a way back from the former one.
    fn placed(&self, former: Option<PathBuf>) -> Result<PathBuf, GroundError> {
        let mount = mount_point(&self.root)?;
        match former {
            Some(former) if former != mount && former.starts_with(&mount) => Err(GroundError::Moved {
                root: self.root.clone(),
                former,
                mount,
                note: self.note().unwrap_or_default(),
            }),
            _ => Ok(mount),
        }
    }

    /// A file was written to the folder that `stand` has answered `mount` for: when it is the same folder still, its place is
    /// noted, durably, and the file may be confirmed. Blocking.
    ///
    /// # Errors
    /// See `GroundError`; nothing may be confirmed then.
    pub fn keep(&self, mount: &Path) -> Result<(), GroundError> {
        if self.stand()? != mount {
            return Err(GroundError::Shifted(self.root.clone()));
        }
        let _turn = self.turn();
        if let Some(note) = self.note()
            && self.former()?.as_deref() != Some(mount)
            && let Err(error) = write_note(&note, &self.root, mount)
        {
            // Deliveries make room on a full disk: they go on.
            tracing::warn!(destination = %self.name, note = %note.display(), error = %words(&error), "where the folder lies could not be noted: should its disk be missing at a later start, the box would not see it");
        }
        Ok(())
    }

    /// For what is written under one name by all who write to the folder.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_be_made(&self, was_there: bool) -> Result<(), GroundError> {
        if self.state.as_ref().is_some_and(|state| self.root.starts_with(state)) {
            return Ok(());
        }
        if was_there {
            return Err(GroundError::Gone(self.root.clone()));
        }
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(GroundError::NoParent(parent.to_owned()));
        }
        Ok(())
    }

    fn note(&self) -> Option<PathBuf> {
        let state = self.state.as_ref()?;
        Some(state.join(format!("folder-was-at-{}", self.name)))
    }

    /// The mount point as it was noted for this path. A note of another path says nothing: the destination was given a new folder.
    fn former(&self) -> io::Result<Option<PathBuf>> {
        let Some(note) = self.note() else { return Ok(None) };
        let text = match fs::read(note) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let rest = text.strip_prefix(self.root.as_os_str().as_bytes());
        let mount = rest.and_then(|rest| rest.strip_prefix(b"\n"));
        Ok(mount.map(|mount| PathBuf::from(OsStr::from_bytes(mount))))
    }
}

/// The path and its mount point, a line each.
fn write_note(note: &Path, root: &Path, mount: &Path) -> io::Result<()> {
    let text = [root.as_os_str().as_bytes(), b"\n", mount.as_os_str().as_bytes()].concat();
    whole::write(note, 0o644, &text)
}

/// The topmost folder on the way to `path` that lies on its file system.
fn mount_point(path: &Path) -> io::Result<PathBuf> {
    let whole = fs::canonicalize(path)?;
    let device = fs::metadata(&whole)?.dev();
    let mut mount = whole.as_path();
    while let Some(parent) = mount.parent()
        && fs::metadata(parent)?.dev() == device
    {
        mount = parent;
    }
    Ok(mount.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A destination folder `out` in `disks`, and `node.state`.
    fn ground(disks: &Path, state: &Path) -> Ground {
        let mut ground = Ground::new(&DestinationId::parse("out").unwrap(), &disks.join("nas/out"));
        ground.note_in(state);
        ground
    }

    #[test]
    fn no_folder_is_made_above_the_destination_s_own() {
        let (disks, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ground = ground(disks.path(), state.path());
        let told = ground.stand().unwrap_err().to_string();
        assert!(
            told.contains("nas does not exist") && told.contains("mount its disk"),
            "{told}"
        );
        assert!(!disks.path().join("nas").exists());
        fs::create_dir(disks.path().join("nas")).unwrap();
        assert_eq!(
            ground.look().unwrap(),
            None,
            "it may be made, and whoever looks makes none"
        );
        assert!(!disks.path().join("nas/out").exists());
        ground.stand().unwrap();
        assert!(disks.path().join("nas/out").is_dir());
    }

    #[test]
    fn below_the_state_folder_any_depth_is_made() {
        let state = tempfile::tempdir().unwrap();
        let ground = ground(&state.path().join("a/b"), state.path());
        ground.keep(&ground.stand().unwrap()).unwrap();
        fs::remove_dir_all(state.path().join("a")).unwrap();
        ground.stand().unwrap();
        assert!(state.path().join("a/b/nas/out").is_dir());
    }

    #[test]
    fn a_folder_that_had_files_is_not_made_again() {
        let (disks, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (nas, out) = (disks.path().join("nas"), disks.path().join("nas/out"));
        fs::create_dir(&nas).unwrap();
        let first = ground(disks.path(), state.path());
        first.stand().unwrap();
        fs::remove_dir(&out).unwrap();
        let mount = first.stand().unwrap();
        first.keep(&mount).unwrap();
        fs::remove_dir(&out).unwrap();
        // At once, and after a restart.
        for ground in [first, ground(disks.path(), state.path())] {
            let told = ground.stand().unwrap_err().to_string();
            assert!(told.contains("is gone"), "{told}");
            assert_eq!(ground.look().unwrap_err().to_string(), told);
            assert!(matches!(ground.keep(&mount), Err(GroundError::Gone(_))));
            assert!(!out.exists());
        }
        fs::create_dir(&out).unwrap();
        ground(disks.path(), state.path()).stand().unwrap();
        // Given another folder, the destination begins anew.
        let mut elsewhere = Ground::new(&DestinationId::parse("out").unwrap(), &nas.join("other"));
        elsewhere.note_in(state.path());
        elsewhere.keep(&elsewhere.stand().unwrap()).unwrap();
    }

    #[test]
    fn the_folder_below_an_unmounted_disk_is_another_one() {
        let (disks, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let nas = fs::canonicalize(disks.path()).unwrap().join("nas");
        fs::create_dir_all(nas.join("out")).unwrap();
        let ground = ground(disks.path(), state.path());
        let note = state.path().join("folder-was-at-out");
        write_note(&note, &ground.root, &nas).unwrap();
        let told = ground.stand().unwrap_err().to_string();
        assert!(
            told.contains("mounted at") && told.contains("folder-was-at-out"),
            "{told}"
        );
        fs::remove_file(&note).unwrap();
        let mount = ground.stand().unwrap();
        ground.keep(&mount).unwrap();
        // A disk that is mounted later, where none was: as a person wants it.
        write_note(&note, &ground.root, Path::new("/")).unwrap();
        ground.keep(&ground.stand().unwrap()).unwrap();
        assert_eq!(ground.former().unwrap(), Some(mount));
    }

    #[test]
    fn a_disk_that_comes_or_goes_under_a_file_confirms_nothing() {
        let (disks, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(disks.path().join("nas")).unwrap();
        let ground = ground(disks.path(), state.path());
        let mount = ground.stand().unwrap();
        assert!(matches!(
            ground.keep(&mount.join("other")),
            Err(GroundError::Shifted(_))
        ));
        assert_eq!(ground.former().unwrap(), None);
    }
}
