//! Payload files made ahead: their directory entries are durable before an instance needs them, so that an arrival
//! costs one flush of its own file and none of a directory. Refilled by the spool's own thread, bounded.
use super::disk::Disk;
use super::gate::{Gate, is_full, is_passing};
use super::payload::{Guarded, path_of};
use crate::base::clock::Clock;
use crate::base::fault::{Plant, planted};
use crate::base::names::InstanceId;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Files kept ready. A batch shares one shard, and so one flush of its directory; files are taken from several batches in turn,
/// because neighbours have their inodes in one block, and those that are flushed at the same time wait for each other.
const READY: usize = 256;
const BATCH: usize = 32;
/// The same where inodes are few.
const READY_FEW: usize = 64;
const FEW_INODES: u64 = 64 * READY as u64;
/// Of the descriptors that the process may have, the pool keeps one in so many: files beyond that are ready but closed.
const DESCRIPTORS_SHARE: u64 = 32;

pub(super) struct Pool {
    root: PathBuf,
    /// How many of the ready files are kept open.
    open_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: Vec<(InstanceId, Option<File>)>,
    /// How many of them are open.
    open: usize,
    closing: bool,
}

impl State {
    /// Whether a batch of files is missing.
    fn lacks(&self, disk: &Disk) -> bool {
        self.ready.len() <= wanted(disk) - BATCH
    }

    /// One of the ready files, by chance; one that is open when there is one, or when it must be.
    fn pick(&mut self, must_be_open: bool) -> Option<(InstanceId, Option<File>)> {
        let count = self.ready.len();
        if count == 0 || (must_be_open && self.open == 0) {
            return None;
        }
        let start = rand::random::<u32>() as usize % count;
        let open = (0..count)
            .map(|step| (start + step) % count)
            .find(|&at| self.ready[at].1.is_some());
        let picked = self.ready.swap_remove(open.unwrap_or(start));
        self.open -= usize::from(picked.1.is_some());
        Some(picked)
    }
}

impl Pool {
    pub(super) fn new(root: &Path) -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let share = files.map_or(READY as u64, |files| files / DESCRIPTORS_SHARE);
        Self {
            root: root.to_owned(),
            open_max: usize::try_from(share).unwrap_or(READY).min(READY),
            state: Mutex::new(State {
                ready: Vec::with_capacity(READY),
                open: 0,
                closing: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// A fresh file that is open already; `None` when none is. Does not block.
    pub(super) fn take_open(&self, disk: &Disk) -> Option<(InstanceId, Guarded)> {
        loop {
            let (id, file) = self.pick(true, disk)?;
            let file = file?;
            if has_name(&file).unwrap_or(false) {
                return Some((id, Guarded::new(file, path_of(&self.root, id))));
            }
        }
    }

    /// A fresh file. From an empty pool it is made on the spot, with a directory flush of its own. Blocking.
    pub(super) fn take(&self, clock: &Clock, disk: &Disk) -> io::Result<(InstanceId, Guarded)> {
        while let Some((id, file)) = self.pick(false, disk) {
            let path = path_of(&self.root, id);
            let opened = file.map_or_else(|| File::options().read(true).write(true).open(&path), Ok);
            match opened.and_then(|file| Ok((has_name(&file)?, file))) {
                Ok((true, file)) => return Ok((id, Guarded::new(file, path))),
                Ok((false, _)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let id = InstanceId::new(clock.now().0, rand::random());
        let path = path_of(&self.root, id);
        let guarded = Guarded::new(create(&path)?, path.clone());
        sync_directory(path.parent().unwrap_or(&self.root))?;
        Ok((id, guarded))
    }

    /// The refill thread is woken when a batch is missing, not for each file.
    fn pick(&self, must_be_open: bool, disk: &Disk) -> Option<(InstanceId, Option<File>)> {
        let mut state = self.lock();
        let picked = state.pick(must_be_open);
        if state.lacks(disk) {
            self.changed.notify_one();
        }
        picked
    }

    /// How many files are ready.
    #[cfg(test)]
    pub(super) fn ready(&self) -> usize {
        self.lock().ready.len()
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// The refill thread's life.
    pub(super) fn run(&self, clock: &Clock, gate: &Gate, disk: &Disk) {
        loop {
            let mut state = self.lock();
            while !state.closing && !state.lacks(disk) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                break;
            }
            // The last inodes are the index's: nothing arrives below the mark anyway.
            if disk.low() {
                drop(self.changed.wait_timeout(state, Duration::from_secs(1)));
                continue;
            }
            drop(state);
            match self.make(clock) {
                Ok(made) => self.keep(made),
                Err(error) => {
                    if !is_full(&error) && !is_passing(&error) {
                        gate.latch("pool");
                    }
                    let state = self.lock();
                    let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
        let mut state = self.lock();
        state.open = 0;
        let left = std::mem::take(&mut state.ready);
        drop(state);
        for (id, _) in left {
            // What stays behind is empty, and cleared at the next start.
            drop(std::fs::remove_file(path_of(&self.root, id)));
        }
    }

    /// The first to be taken are kept open.
    fn keep(&self, made: Vec<(InstanceId, Option<File>)>) {
        let mut state = self.lock();
        for (id, file) in made {
            let file = file.filter(|_| state.open < self.open_max);
            state.open += usize::from(file.is_some());
            state.ready.push((id, file));
        }
    }

    fn make(&self, clock: &Clock) -> io::Result<Vec<(InstanceId, Option<File>)>> {
        let shard: u8 = rand::random();
        let mut made = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let id = InstanceId::new(clock.now().0, rand::random::<u64>() & !0xff | u64::from(shard));
            let file = create(&path_of(&self.root, id))?;
            made.push((id, (made.len() < self.open_max).then_some(file)));
        }
        sync_directory(&self.root.join("payload").join(format!("{shard:02x}")))?;
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many files should be ready. A file system that does not count its inodes says 0 of 0.
fn wanted(disk: &Disk) -> usize {
    match disk.free().1 {
        1..FEW_INODES => READY_FEW,
        _ => READY,
    }
}

/// Whether a file can be found by anybody: what was removed below the running box would take an image with it.
pub(super) fn has_name(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() > 0)
}

fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    if planted(Plant::SkipDirectorySync) {
        return Ok(());
    }
    File::open(path)?.sync_all()
}
