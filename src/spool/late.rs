//! Lines of the ledger that are written while the clock stands behind the line before them: it was ahead, and was set right. The chain
//! goes on with the time of that line, so that keys stay in order; the line itself says when it was (`Fact::own_us`). Here each such
//! line has an entry under its own time, by which those who ask for a span find it. It is written in the batch of the line and goes
//! with it; a rebuild makes it anew.
use super::db::{Cf, Db, DbError};
use super::keys;
use super::ledger::{Fact, decode};
use crate::base::clock::Wall;

/// A late line: its own time, and its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Late {
    pub own: Wall,
    pub at: Wall,
    pub seq: u64,
}

impl Late {
    /// The first that an instant could have.
    pub(super) fn first_of(own: Wall) -> Self {
        Self {
            own,
            at: Wall(0),
            seq: 0,
        }
    }

    /// `None`: it is gone, or cannot be read.
    pub(super) fn fact(self, db: &Db) -> Result<Option<Fact>, DbError> {
        let raw = db.get(Cf::Ledger, &keys::ledger(self.at, self.seq))?;
        Ok(raw.and_then(|raw| Some(decode(&raw).ok()?.1)))
    }
}

/// Late lines in the order of their own time, from `from` on and before `to`, as long as `each` wants more.
pub(super) fn between(db: &Db, from: Late, to: Wall, mut each: impl FnMut(Late) -> bool) -> Result<(), DbError> {
    let end = keys::late(Late::first_of(to));
    db.scan(Cf::Meta, &keys::late(from), &end, |key, _| {
        keys::late_of(key).is_none_or(&mut each)
    })
}

/// The own time of the earliest one.
pub(super) fn earliest(db: &Db) -> Result<Option<Wall>, DbError> {
    let mut found = None;
    between(db, Late::first_of(Wall(0)), Wall(u64::MAX), |late| {
        found = Some(late.own);
        false
    })?;
    Ok(found)
}

/// Behind the last late line of a span, when it lies behind the place `end`: there the span ends, for who reads by place.
pub(super) fn end_of(db: &Db, (from, to): (Wall, Wall), end: [u8; 16]) -> Result<[u8; 16], DbError> {
    let mut last = [0; 16];
    db.scan_back(Cf::Ledger, &[], |key, _| {
        last = key.try_into().unwrap_or_default();
        false
    })?;
    let mut end = end;
    // Otherwise none can: there may be very many.
    if last >= end {
        let to = Wall(to.0.saturating_add(1));
        between(db, Late::first_of(from), to, |late| {
            end = end.max(keys::ledger(late.at, late.seq + 1));
            true
        })?;
    }
    Ok(end)
}
