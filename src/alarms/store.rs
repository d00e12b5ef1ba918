//! The alarms' memory on the disk, below `node.state`: what is open and told (`alarms.json`), and what sources usually do
//! (`alarms-habits.json`). Blocking; called on blocking threads.
//!
//! Written beside and renamed, so that a crash leaves the old or the new. What cannot be read is put aside, never deleted, and the
//! alarms begin anew: people may then be told again of what is open.
use super::deeds::Deed;
use super::habits::Habits;
use super::incident::{Machine, Stamp};
use super::outbox::Outbox;
use super::rates::Lane;
use crate::base::whole;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What must survive a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub version: u32,
    /// The wall clock and the steady time of the last look, in microseconds.
    pub wall: u64,
    pub steady: Stamp,
    pub machine: Machine,
    pub outbox: Outbox,
    /// What operators did, and the ledger does not have yet.
    pub deeds: Vec<Deed>,
    /// What each destination takes.
    pub lanes: BTreeMap<String, Lane>,
    /// Sources that were silent when it was last known.
    pub silent: BTreeSet<String>,
    /// The mean bytes of an instance; 0: not known.
    pub mean_bytes: f64,
}

const VERSION: u32 = 1;
pub const STATE: &str = "alarms.json";
pub const HABITS: &str = "alarms-habits.json";
/// A memory of every source and a full outbox is far below this.
const FILE_MAX: u64 = 64 << 20;

/// Both memories; fresh ones where there are none.
#[must_use]
pub fn load(folder: &Path) -> (Memory, Habits) {
    let mut memory: Memory = read(&folder.join(STATE)).unwrap_or_default();
    if memory.version > VERSION {
        // A newer program wrote it: its meaning is not ours to guess.
        put_aside(&folder.join(STATE), "a newer version wrote it");
        memory = Memory::default();
    }
    memory.version = VERSION;
    memory.machine.adopt();
    (memory, read(&folder.join(HABITS)).unwrap_or_default())
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!(%error, "the memory of the alarms cannot be read; they begin anew");
            None
        }
        Ok(_) => match serde_json::from_slice(&bytes) {
            Ok(found) => Some(found),
            Err(_) => {
                put_aside(path, "it cannot be understood");
                None
            }
        },
    }
}

fn put_aside(path: &Path, why: &'static str) {
    let aside = path.with_extension("json.damaged");
    let moved = std::fs::rename(path, &aside).is_ok();
    tracing::error!(
        why,
        moved,
        "the memory of the alarms is put aside as .damaged; they begin anew"
    );
}

/// Writes one memory durably.
///
/// # Errors
/// The disk's.
pub fn save<T: Serialize>(folder: &Path, name: &str, memory: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(memory).map_err(io::Error::other)?;
    whole::write(&folder.join(name), 0o640, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_read_back_and_damaged_ones_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(load(folder).0.wall, 0);
        let mut memory = Memory {
            version: VERSION,
            wall: 7,
            ..Memory::default()
        };
        save(folder, STATE, &memory).unwrap();
        assert_eq!(load(folder).0.wall, 7);
        memory.version = VERSION + 1;
        save(folder, STATE, &memory).unwrap();
        std::fs::write(folder.join(HABITS), b"{\"sources\":").unwrap();
        assert_eq!(load(folder).0.wall, 0);
        for name in ["alarms.json.damaged", "alarms-habits.json.damaged"] {
            assert!(folder.join(name).exists(), "{name}");
        }
    }
}
