//! The simulator's index: sorted maps in memory over a disk with faults. In builds with planted faults only.
//!
//! It keeps to what the index promises and no more: a batch is all or nothing; one that was synced survives everything; one that
//! was not survives a kill, and a power cut only as far as the disk had it, cut at any byte, of which whole batches count. After
//! a failed write or sync it refuses until it is opened again, and the batch that failed may then be there or not.
use super::db::{Cf, Change, DbError};
use crate::base::names::InstanceId;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Bytes = Box<[u8]>;
type Map = BTreeMap<Bytes, Bytes>;
type Undo = Vec<(Cf, Bytes, Option<Bytes>)>;

/// The disk under the index. Outlives the process that has it open.
pub struct Memory(Mutex<State>);

/// What the next write meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteFault {
    #[default]
    None,
    /// EIO or ENOSPC before a whole batch was written.
    Refused,
    /// Written, but the flush failed: after the next opening it is there, or not.
    Unflushed { survives: bool },
}

#[derive(Default)]
struct State {
    families: BTreeMap<Cf, Map>,
    /// Batches that no sync has covered, oldest first, and their length on the disk.
    unsynced: Vec<(Undo, usize)>,
    /// Written without success, and yet on the disk.
    limbo: Vec<Change>,
    fault: WriteFault,
    /// So many reads fail from now on.
    reads_failing: u32,
    /// Nothing can be opened.
    dead: bool,
    /// After a write error.
    broken: bool,
    /// Payload files whose letter `delivered` was flushed.
    letters: Vec<InstanceId>,
    /// Payload files that were put aside.
    aside: Vec<InstanceId>,
    /// Old facts of the ledger are dropped: for scenarios that would not fit.
    short_ledger: bool,
}

impl Memory {
    /// An empty index.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Only the last facts of the ledger are kept.
    pub fn shorten_ledger(&self) {
        self.lock().short_ledger = true;
    }

    /// The next write meets this.
    pub fn fault(&self, fault: WriteFault) {
        self.lock().fault = fault;
    }

    /// So many reads fail from now on.
    pub fn fail_reads(&self, count: u32) {
        self.lock().reads_failing = count;
    }

    /// Does something that no read fault meets, nor uses up: for those who look from outside.
    pub(super) fn unfailing<T>(&self, work: impl FnOnce() -> T) -> T {
        let kept = std::mem::take(&mut self.lock().reads_failing);
        let done = work();
        self.lock().reads_failing = kept;
        done
    }

    /// The disk cannot be opened until this is taken back.
    pub fn set_dead(&self, dead: bool) {
        self.lock().dead = dead;
    }

    /// The process ended. With `power`, the disk keeps of what was not synced only this part of its bytes (0.0 to 1.0).
    pub fn ended(&self, power: Option<f64>) {
        let state = &mut *self.lock();
        if let Some(part) = power {
            let bytes: usize = state.unsynced.iter().map(|(_, length)| length).sum();
            // The tail is torn at this byte; a batch that is not whole is none.
            let mut left = (bytes as f64 * part) as usize;
            let whole = state.unsynced.iter().take_while(|(_, length)| {
                let whole = *length <= left;
                left = left.saturating_sub(*length);
                whole
            });
            let whole = whole.count();
            for (undo, _) in state.unsynced.drain(whole..).rev() {
                take_back(&mut state.families, undo);
            }
            state.unsynced.clear();
        }
        (state.fault, state.reads_failing) = (WriteFault::None, 0);
    }

    /// The payload files whose letter `delivered` is durable by now, since the last call.
    pub fn letters(&self) -> Vec<InstanceId> {
        std::mem::take(&mut self.lock().letters)
    }

    pub(super) fn flush_letter(&self, id: InstanceId) {
        self.lock().letters.push(id);
    }

    /// The payload files that were put aside, since the last call.
    pub fn aside(&self) -> Vec<InstanceId> {
        std::mem::take(&mut self.lock().aside)
    }

    pub(super) fn put_aside(&self, id: InstanceId) {
        self.lock().aside.push(id);
    }

    pub(super) fn open(self: &Arc<Self>) -> Result<Arc<Self>, DbError> {
        let state = &mut *self.lock();
        if state.dead {
            return Err(failure());
        }
        state.broken = false;
        let limbo = std::mem::take(&mut state.limbo);
        state.put(limbo.into_iter());
        Ok(self.clone())
    }

    pub(super) fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        let state = &mut *self.lock();
        state.may_read()?;
        let found = state.families.get(&cf).and_then(|map| map.get(key));
        Ok(found.map(|value| value.to_vec()))
    }

    pub(super) fn scan_back(
        &self,
        cf: Cf,
        end: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DbError> {
        let state = &mut *self.lock();
        state.may_read()?;
        for (key, value) in state.families.get(&cf).into_iter().flatten().rev() {
            if !end.is_empty() && key.as_ref() >= end {
                continue;
            }
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, changes: impl Iterator<Item = Change>, sync: bool) -> Result<(), DbError> {
        let state = &mut *self.lock();
        if state.broken || state.dead {
            return Err(failure());
        }
        match std::mem::take(&mut state.fault) {
            WriteFault::None => {}
            WriteFault::Refused => {
                state.broken = true;
                return Err(failure());
            }
            WriteFault::Unflushed { survives } => {
                state.broken = true;
                if survives {
                    state.limbo = changes.collect();
                }
                return Err(failure());
            }
        }
        let (undo, length) = state.put(changes);
        if sync {
            state.unsynced.clear();
        } else {
            state.unsynced.push((undo, length));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_read(&mut self) -> Result<(), DbError> {
        if self.reads_failing > 0 {
            self.reads_failing -= 1;
            return Err(failure());
        }
        Ok(())
    }

    /// Applies a batch. Answers how to take it back, and its length.
    fn put(&mut self, changes: impl Iterator<Item = Change>) -> (Undo, usize) {
        let (mut undo, mut length) = (Undo::new(), FRAME);
        for (cf, key, value) in changes {
            if self.short_ledger && cf == Cf::History {
                continue;
            }
            length += key.len() + value.as_ref().map_or(0, Vec::len) + FRAME;
            let map = self.families.entry(cf).or_default();
            let key = key.into_boxed_slice();
            let before = match value {
                Some(value) => map.insert(key.clone(), value.into_boxed_slice()),
                None => map.remove(&key),
            };
            undo.push((cf, key, before));
            if self.short_ledger && cf == Cf::Ledger && map.len() > LEDGER_KEPT {
                map.pop_first();
            }
        }
        (undo, length)
    }
}

fn take_back(families: &mut BTreeMap<Cf, Map>, undo: Undo) {
    for (cf, key, before) in undo.into_iter().rev() {
        let map = families.entry(cf).or_default();
        match before {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

/// A position in a range: the keys are looked up anew at each step, so that nothing stays locked.
pub(super) struct Walk {
    memory: Arc<Memory>,
    cf: Cf,
    end: Vec<u8>,
    at: Option<(Bytes, Bytes)>,
    failed: bool,
}

impl Walk {
    pub(super) fn new(memory: Arc<Memory>, cf: Cf, from: &[u8], end: &[u8]) -> Self {
        let mut walk = Self {
            memory,
            cf,
            end: end.to_vec(),
            at: None,
            failed: false,
        };
        walk.seek(Bound::Included(from));
        walk
    }

    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        self.at.as_ref().map(|(key, value)| (&**key, &**value))
    }

    pub(super) fn step(&mut self) {
        if let Some((key, _)) = self.at.take() {
            self.seek(Bound::Excluded(&key));
        }
    }

    pub(super) fn status(&self) -> Result<(), DbError> {
        if self.failed { Err(failure()) } else { Ok(()) }
    }

    fn seek(&mut self, from: Bound<&[u8]>) {
        let state = &mut *self.memory.lock();
        if state.may_read().is_err() {
            self.failed = true;
            return;
        }
        let map = state.families.get(&self.cf);
        let found = map.and_then(|map| map.range::<[u8], _>((from, Bound::Unbounded)).next());
        let within = |key: &[u8]| self.end.is_empty() || key < self.end.as_slice();
        self.at = found
            .filter(|(key, _)| within(key))
            .map(|(key, value)| (key.clone(), value.clone()));
    }
}

fn failure() -> DbError {
    DbError::Trouble("the simulated disk failed".to_owned())
}

/// Bytes around a record in a batch.
const FRAME: usize = 8;
/// Facts that a short ledger keeps.
const LEDGER_KEPT: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memory: &Memory, key: u8, sync: bool) -> bool {
        let change = (Cf::Meta, vec![key], Some(vec![key]));
        memory.write(std::iter::once(change), sync).is_ok()
    }

    fn there(memory: &Memory) -> Vec<u8> {
        (0..9)
            .filter(|key| memory.get(Cf::Meta, &[*key]).unwrap().is_some())
            .collect()
    }

    #[test]
    fn a_power_cut_takes_what_no_sync_has_covered_from_the_end() {
        let memory = Memory::new();
        assert!(put(&memory, 1, true) && put(&memory, 2, false) && put(&memory, 3, false));
        memory.ended(None);
        assert_eq!(there(&memory), [1, 2, 3], "a kill takes nothing");
        memory.ended(Some(0.9));
        assert_eq!(there(&memory), [1, 2], "a torn batch is none");
        assert!(put(&memory, 4, false) && put(&memory, 5, true));
        memory.ended(Some(0.0));
        assert_eq!(there(&memory), [1, 2, 4, 5]);
    }

    #[test]
    fn after_a_failed_flush_it_refuses_until_opened_and_then_nobody_knows() {
        for survives in [false, true] {
            let memory = Memory::new();
            memory.fault(WriteFault::Unflushed { survives });
            assert!(!put(&memory, 1, true) && !put(&memory, 2, true));
            assert!(there(&memory).is_empty());
            memory.open().unwrap();
            assert_eq!(there(&memory).len(), usize::from(survives));
            assert!(put(&memory, 3, true));
        }
    }
}
