//! Room that a full disk can still give: files of bytes, and empty files for their inodes, in two halves. One is given up while
//! the box runs, so that it can drain; the other for a start only, since an index writes a table before it is open, and what the
//! running box was given it has used. What is left after a start is kept back by halves for the next one.
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Empty files in both halves together: several starts with a log, a manifest, options and tables each.
pub(super) const INODES: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    /// Given up when the disk becomes critical.
    Running,
    /// Given up by a start, or a reopening of the index, on a critical disk.
    Start,
}

impl Half {
    pub(super) const BOTH: [Self; 2] = [Self::Running, Self::Start];
}

pub(super) struct Ballast {
    root: PathBuf,
    /// Bytes of one half.
    half: u64,
}

impl Ballast {
    /// `size` bytes in both halves; 0 for none, then nothing is made.
    pub(super) fn new(root: &Path, size: u64) -> Self {
        Self {
            root: root.to_owned(),
            half: size / 2,
        }
    }

    /// Bytes that a half lacks, 0 when only names do or it has too many: with as much to spare, `fill` may be called. `None`: it is
    /// whole.
    pub(super) fn lacks(&self, half: Half) -> Option<u64> {
        let there = self.bytes(half).metadata().map_or(0, |file| file.len());
        // The names are made in order, and removed all together.
        let named = self.inodes(half).last().is_some_and(|path| path.exists());
        let is_whole = self.half == 0 || (there == self.half && named);
        (!is_whole).then(|| self.half.saturating_sub(there))
    }

    /// Makes a half whole.
    ///
    /// # Errors
    /// The disk has no room after all: the bytes of the half are gone then, and the next call tries again.
    pub(super) fn fill(&self, half: Half) -> io::Result<()> {
        self.hold(half, self.half, INODES / 2)
    }

    /// For the next start, after one that has been given its half: one half of what is free now, at most the whole half.
    ///
    /// # Errors
    /// As `fill`; nothing is kept back then.
    pub(super) fn keep_back(&self, free_bytes: u64, free_inodes: u64) -> io::Result<()> {
        if self.lacks(Half::Start).is_none() {
            return Ok(());
        }
        let inodes = usize::try_from(free_inodes / 2).unwrap_or(usize::MAX);
        self.hold(Half::Start, (free_bytes / 2).min(self.half), inodes.min(INODES / 2))
    }

    fn hold(&self, half: Half, bytes: u64, inodes: usize) -> io::Result<()> {
        let path = self.bytes(half);
        let made = || {
            for path in self.inodes(half).take(inodes) {
                File::create(path)?;
            }
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            // A box of before the halves has all of it in the first.
            if file.metadata()?.len() > bytes {
                file.set_len(bytes)?;
            }
            if bytes > 0 {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
            }
            Ok(())
        };
        made().inspect_err(|_| drop(std::fs::remove_file(&path)))
    }

    /// Gives a half up. Answers whether there was anything to give.
    ///
    /// # Errors
    /// A file of it stands there and cannot be removed.
    pub(super) fn give(&self, half: Half) -> io::Result<bool> {
        let mut given = false;
        for path in self.inodes(half).chain([self.bytes(half)]) {
            match std::fs::remove_file(path) {
                Ok(()) => given = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(given)
    }

    fn bytes(&self, half: Half) -> PathBuf {
        self.root.join(match half {
            Half::Running => "ballast",
            Half::Start => "ballast-start",
        })
    }

    /// An index needs some new names to open, also when bytes are plenty.
    fn inodes(&self, half: Half) -> impl Iterator<Item = PathBuf> {
        let numbers = match half {
            Half::Running => 0..INODES / 2,
            Half::Start => INODES / 2..INODES,
        };
        numbers.map(|number| self.root.join(format!("ballast-{number}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(root: &Path) -> (Option<u64>, Option<u64>, usize) {
        let size = |name: &str| root.join(name).metadata().ok().map(|file| file.len());
        let names = std::fs::read_dir(root).unwrap().count();
        let (running, start) = (size("ballast"), size("ballast-start"));
        (
            running,
            start,
            names - usize::from(running.is_some()) - usize::from(start.is_some()),
        )
    }

    #[test]
    fn each_half_is_given_by_itself_and_a_start_keeps_half_of_what_is_left_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path(), 2 << 20);
        assert_eq!(ballast.lacks(Half::Start), Some(1 << 20));
        for half in Half::BOTH {
            ballast.fill(half).unwrap();
            assert_eq!(ballast.lacks(half), None);
        }
        assert_eq!(sizes(dir.path()), (Some(1 << 20), Some(1 << 20), 64));
        assert!(ballast.give(Half::Running).unwrap());
        assert!(!ballast.give(Half::Running).unwrap());
        assert_eq!(sizes(dir.path()), (None, Some(1 << 20), 32));
        ballast.keep_back(4_000, 10).unwrap();
        assert_eq!(sizes(dir.path()).1, Some(1 << 20), "it is whole, and stays so");
        assert!(ballast.give(Half::Start).unwrap());
        ballast.keep_back(8_000, 10).unwrap();
        assert_eq!(sizes(dir.path()), (None, Some(4_000), 5));
        ballast.give(Half::Start).unwrap();
        ballast.keep_back(u64::MAX, 10).unwrap();
        assert_eq!(sizes(dir.path()), (None, Some(1 << 20), 5));
        assert_eq!(ballast.lacks(Half::Start), Some(0), "names are missing");
        ballast.give(Half::Start).unwrap();
        ballast.keep_back(u64::MAX, u64::MAX).unwrap();
        assert_eq!(sizes(dir.path()), (None, Some(1 << 20), 32));
    }

    #[test]
    fn a_ballast_of_nothing_lacks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path(), 0);
        assert!(Half::BOTH.into_iter().all(|half| ballast.lacks(half).is_none()));
        ballast.keep_back(1 << 20, 1 << 20).unwrap();
        assert_eq!(sizes(dir.path()), (None, None, 0));
    }

    #[test]
    fn a_ballast_of_before_the_halves_becomes_two() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ballast"), vec![0; 2 << 20]).unwrap();
        let ballast = Ballast::new(dir.path(), 2 << 20);
        assert_eq!(ballast.lacks(Half::Running), Some(0));
        for half in Half::BOTH {
            ballast.fill(half).unwrap();
            assert_eq!(ballast.lacks(half), None);
        }
        assert_eq!(sizes(dir.path()), (Some(1 << 20), Some(1 << 20), 64));
    }
}
