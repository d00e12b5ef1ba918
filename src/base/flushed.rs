//! Whether the answer of a flush can be believed.
//!
//! A file system that fails just then may answer a flush with success. ext4 does when the transaction of its journal that should
//! have carried the file's size or its blocks has failed before the flush asks for it: a transaction that is over counts as one
//! that is on the disk (Linux, `jbd2_complete_transaction`). A flush that a shutdown or the turn to read-only overtakes is answered
//! so too, by xfs as well. Both are seen afterwards: a failed file system changes no inode any more, and stays failed until it
//! is mounted anew. So nothing is acknowledged before an inode was changed after the flush. That costs two system calls
//! and no request to the disk.
//!
//! `make soak-flush` has a program that does nothing but append and flush on a disk that fails: in every third failure of it flushed
//! bytes are gone, and none that this function has confirmed (docs/durability.md).
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use std::fs::File;
use std::io;

/// Confirms a flush of any file of the file system that `file`, a file or a directory of it, lies on: call it after the flush.
/// Sets the time at which `file` was changed.
///
/// # Errors
/// The file system has failed: what was flushed may be gone when it is mounted anew.
pub fn confirm(file: &File) -> io::Result<()> {
    twice(|| change(file))
}

/// Whether `confirm` can see anything there.
///
/// # Errors
/// Times cannot be set, and flushes are believed: a share, or a filter of system calls.
pub fn is_possible(file: &File) -> io::Result<()> {
    Ok(change(file)?)
}

fn change(file: &File) -> Result<(), Errno> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    rustix::fs::futimens(file, &times)
}

/// ext4 notices a journal that has failed at the first change and refuses the second. What says nothing of the disk, as a share
/// that does not let its times be set, is no failure of it.
fn twice(mut change: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    for _ in 0..2 {
        if let Err(error @ (Errno::ROFS | Errno::IO | Errno::SHUTDOWN | Errno::BADF)) = change() {
            return Err(error.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_file_system_is_seen_at_the_first_change_or_the_second_and_other_refusals_say_nothing() {
        let said = |answers: [Result<(), Errno>; 2]| {
            let mut answers = answers.into_iter();
            twice(|| answers.next().expect("asked twice at most")).map_err(|error| error.kind())
        };
        assert_eq!(said([Ok(()), Ok(())]), Ok(()));
        assert_eq!(said([Err(Errno::ROFS), Ok(())]), Err(io::ErrorKind::ReadOnlyFilesystem));
        assert_eq!(said([Ok(()), Err(Errno::ROFS)]), Err(io::ErrorKind::ReadOnlyFilesystem));
        assert!(said([Ok(()), Err(Errno::IO)]).is_err());
        assert!(said([Err(Errno::SHUTDOWN), Ok(())]).is_err());
        assert!(said([Err(Errno::BADF), Ok(())]).is_err());
        assert_eq!(said([Err(Errno::PERM), Err(Errno::ACCESS)]), Ok(()));
    }

    #[test]
    fn a_directory_and_a_file_can_confirm_and_the_time_of_the_change_moves() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let made = File::create(&path).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        made.set_modified(long_ago).unwrap();
        confirm(&File::open(&path).unwrap()).unwrap();
        assert!(made.metadata().unwrap().modified().unwrap() > long_ago);
        let folder = File::open(root.path()).unwrap();
        confirm(&folder).unwrap();
        is_possible(&folder).unwrap();
        let mute = rustix::fs::open(root.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert!(is_possible(&File::from(mute)).is_err());
    }
}
