//! Payload files made ahead: their directory entries are durable before an instance needs them, so that an arrival
//! costs one flush of its own file and none of a directory. Refilled by the spool's own thread, bounded.
use super::disk::Disk;
use super::gate::{Gate, is_full, is_passing};
use super::payload::{Guarded, path_of};
use crate::base::clock::Clock;
use crate::base::fault::{Plant, planted};
use crate::base::names::InstanceId;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Files kept ready; a batch shares one shard, and so one flush of its directory.
const READY: usize = 64;
const BATCH: usize = 32;

pub(super) struct Pool {
    root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: VecDeque<InstanceId>,
    closing: bool,
}

impl Pool {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            state: Mutex::new(State {
                ready: VecDeque::with_capacity(READY),
                closing: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// A fresh file. From an empty pool it is made on the spot, with a directory flush of its own. Blocking.
    pub(super) fn take(&self, clock: &Clock) -> io::Result<(InstanceId, Guarded)> {
        let ready = self.lock().ready.pop_front();
        self.changed.notify_one();
        if let Some(id) = ready {
            let path = path_of(&self.root, id);
            let file = File::options().read(true).write(true).open(&path)?;
            return Ok((id, Guarded::new(file, path)));
        }
        let id = InstanceId::new(clock.now().0, rand::random());
        let path = path_of(&self.root, id);
        let guarded = Guarded::new(create(&path)?, path.clone());
        sync_directory(path.parent().unwrap_or(&self.root))?;
        Ok((id, guarded))
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
            while !state.closing && state.ready.len() > READY - BATCH {
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
                Ok(made) => self.lock().ready.extend(made),
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
        for id in std::mem::take(&mut self.lock().ready) {
            // What stays behind is empty, and cleared at the next start.
            drop(std::fs::remove_file(path_of(&self.root, id)));
        }
    }

    fn make(&self, clock: &Clock) -> io::Result<Vec<InstanceId>> {
        let shard: u8 = rand::random();
        let mut made = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let id = InstanceId::new(clock.now().0, rand::random::<u64>() & !0xff | u64::from(shard));
            create(&path_of(&self.root, id))?;
            made.push(id);
        }
        sync_directory(&self.root.join("payload").join(format!("{shard:02x}")))?;
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
