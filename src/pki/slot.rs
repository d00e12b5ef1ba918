//! What is in force of one `tls` table, and how it is replaced while the box runs.
//!
//! Handshakes take what is in force when they begin (`current`); an association keeps what it began with. `refresh` compares
//! contents, so links, renamed folders and restored dates do not matter, and waits until they rest, so that half-written files are
//! not taken. What does not work is not taken either: the old stays in force, and the next `refresh` tries again.
use super::facts::{self, Facts, Kind};
use super::material::{Bytes, Material, Sources, TlsError};
use crate::base::clock::Wall;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Whose files they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Role {
    Listener,
    Destination,
    /// Where storage commitment is asked for or told, of a destination or a source.
    Commitment,
    /// Where alarms are sent.
    Alarm,
}

impl Role {
    /// The word in metrics and listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Destination => "destination",
            Self::Commitment => "commitment",
            Self::Alarm => "alarm",
        }
    }
}

/// The files of one `tls` table and what of them is in force. Shared by everything that makes handshakes with it.
#[derive(Debug)]
pub struct Slot {
    role: Role,
    name: String,
    sources: Sources,
    state: RwLock<State>,
    /// One refresh at a time.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct State {
    current: Arc<Material>,
    loaded: Wall,
    refused: Option<Refused>,
}

#[derive(Clone, Debug)]
struct Refused {
    digest: [u8; 32],
    why: String,
}

/// What a refresh did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refreshed {
    Unchanged,
    /// The files' content is in force now.
    Renewed,
    /// The files cannot be used, and what was in force stays so. `fresh`: this content is refused for the first time.
    Kept {
        why: String,
        fresh: bool,
    },
}

/// One slot, for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SlotStatus {
    pub role: String,
    pub name: String,
    /// Empty when no box runs.
    pub in_force: Vec<Facts>,
    pub on_disk: Vec<Facts>,
    /// Why the files on the disk are not in force.
    pub refused: Option<String>,
    /// Since when what is in force is (UTC).
    pub loaded: Option<String>,
}

impl Slot {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// See `TlsError`.
    pub fn open(role: Role, name: &str, sources: Sources, now: Wall) -> Result<Arc<Self>, TlsError> {
        let material = sources.material(sources.bytes(), Vec::new())?;
        let state = State {
            current: Arc::new(material),
            loaded: now,
            refused: None,
        };
        Ok(Arc::new(Self {
            role,
            name: name.to_owned(),
            sources,
            state: RwLock::new(state),
            turn: Mutex::new(()),
        }))
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Material> {
        self.read().current.clone()
    }

    /// Looks at the files and takes what is new and works. Blocking: reads files, and waits `quiet` at a time until they rest.
    pub fn refresh(&self, now: Wall, quiet: Duration) -> Refreshed {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = self.sources.bytes();
        let mut digest = bytes.digest();
        if digest == self.current().digest {
            self.write().refused = None;
            return Refreshed::Unchanged;
        }
        for _ in 0..RESTS_MAX {
            std::thread::sleep(quiet);
            bytes = self.sources.bytes();
            let before = std::mem::replace(&mut digest, bytes.digest());
            if before == digest {
                break;
            }
        }
        match self.judged(bytes, now) {
            Ok(material) => {
                let mut state = self.write();
                state.refused = None;
                if material.digest == state.current.digest {
                    return Refreshed::Unchanged;
                }
                state.current = Arc::new(material);
                state.loaded = now;
                Refreshed::Renewed
            }
            Err(error) => {
                let why = error.to_string();
                let mut state = self.write();
                let fresh = state
                    .refused
                    .as_ref()
                    .is_none_or(|refused| refused.digest != digest || refused.why != why);
                state.refused = Some(Refused {
                    digest,
                    why: why.clone(),
                });
                Refreshed::Kept { why, fresh }
            }
        }
    }

    /// New files that work, and whose certificate is not a step back in time.
    fn judged(&self, bytes: Bytes, now: Wall) -> Result<Material, TlsError> {
        let current = self.current();
        let learned = current.trust.as_ref().map(|trust| trust.learned()).unwrap_or_default();
        let material = self.sources.material(bytes, learned)?;
        let now = seconds(now);
        let valid = |material: &Material| own(material).is_none_or(|(from, to)| (from..=to).contains(&now));
        if let Some((from, to)) = own(&material)
            && !valid(&material)
            && valid(&current)
        {
            return Err(TlsError::OutOfTime {
                path: self.sources.certificate.clone().unwrap_or_default(),
                from: facts::iso(from),
                to: facts::iso(to),
            });
        }
        Ok(material)
    }

    /// Whether the files on the disk were refused, and why.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.read().refused.as_ref().map(|refused| refused.why.clone())
    }

    /// For each kind of what is in force, when the first of it ends: seconds since 1970. A list that a newer one stands in for is not.
    #[must_use]
    pub fn expiries(&self) -> Vec<(Kind, i64)> {
        let current = self.current();
        let first = |kind: Kind| {
            let of_kind = current
                .facts
                .iter()
                .filter(|facts| facts.kind == kind && !facts.superseded);
            of_kind.filter_map(|facts| facts.not_after).min().map(|at| (kind, at))
        };
        [Kind::Certificate, Kind::Intermediate, Kind::Ca, Kind::Crl]
            .into_iter()
            .filter_map(first)
            .collect()
    }

    /// What is in force, and what lies on the disk. Blocking: reads the files.
    #[must_use]
    pub fn status(&self) -> SlotStatus {
        let state = self.read();
        let (in_force, loaded) = (state.current.facts.clone(), state.loaded.iso());
        let refused = state.refused.as_ref().map(|refused| refused.why.clone());
        drop(state);
        SlotStatus {
            in_force,
            refused,
            loaded: Some(loaded),
            ..SlotStatus::on_disk(self.role, &self.name, &self.sources)
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // Nothing that could panic runs under the lock.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        // As above.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotStatus {
    /// What lies on the disk, when no box can be asked. Blocking.
    #[must_use]
    pub fn on_disk(role: Role, name: &str, sources: &Sources) -> Self {
        Self {
            role: role.word().to_owned(),
            name: name.to_owned(),
            in_force: Vec::new(),
            on_disk: sources.survey(),
            refused: None,
            loaded: None,
        }
    }
}

/// From when to when the box's own certificate is valid.
fn own(material: &Material) -> Option<(i64, i64)> {
    let leaf = material.identity.as_ref()?.cert.first()?;
    facts::validity(leaf)
}

fn seconds(now: Wall) -> i64 {
    i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX)
}

/// How often files that keep changing are waited for before they are judged all the same.
const RESTS_MAX: u32 = 8;
