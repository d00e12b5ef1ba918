//! The ledger for people who read it: its lines from the newest back, those that are wanted of a time.
use super::db::{Cf, Db, DbError};
use super::ledger::{self, Fact, Head};
use super::model::ReadError;
use super::{Spool, chain, keys, late};
use crate::base::clock::Wall;
use std::sync::Arc;

/// A line of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub number: u64,
    pub fact: Fact,
}

/// A page of lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lines {
    /// Newest first.
    pub lines: Vec<Line>,
    /// Numbers of lines that cannot be read: `verify_ledger` says why.
    pub unreadable: Vec<u64>,
    /// Where the next page ends; `None`: there is none.
    pub before: Option<u64>,
}

/// What the ledger has of a line that was noted elsewhere, by its number and hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noted {
    /// That very line.
    Here,
    /// Lines up to it, or beyond, were taken away by `ledger.keep`: nobody can know.
    Pruned,
    /// It ends before it, with the line of this number; 0: it has none.
    Ends(u64),
    /// It has lines before and behind it, and not it: a salvage could not carry it over.
    Lost,
    /// Another line of that number.
    Another,
}

/// Which lines.
pub type Wanted = Arc<dyn Fn(&Fact) -> bool + Send + Sync>;

/// Lines that one page looks at, wanted or not: some tenths of a second.
const LOOKED_AT_MAX: usize = 50_000;

impl Spool {
    /// The last `limit` wanted lines from `from` on, up to and with `to`, and before the line of a number where one is given. A page may
    /// have fewer and go on all the same.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn lines(
        &self,
        (from, to): (Wall, Wall),
        before: Option<u64>,
        wanted: Wanted,
        limit: usize,
    ) -> Result<Lines, ReadError> {
        self.read(move |db| {
            let end = late::end_of(db, (from, to), keys::ledger(Wall(to.0.saturating_add(1)), 0))?;
            let end = match before {
                Some(number) => place_of(db, number)?.map_or(end, |place| place.min(end)),
                None => end,
            };
            let (mut page, mut looked_at) = (Lines::default(), 0);
            db.scan_back(Cf::Ledger, &end, |key, record| {
                let Some((at, number)) = keys::ledger_of(key).filter(|(at, _)| *at >= from) else {
                    return false;
                };
                if page.lines.len() == limit || looked_at == LOOKED_AT_MAX {
                    page.before = Some(number + 1);
                    return false;
                }
                looked_at += 1;
                let within = |at: Wall| at >= from && at <= to;
                match ledger::decode(record) {
                    Ok((_, fact)) if within(fact.at()) && wanted(&fact) => page.lines.push(Line { number, fact }),
                    Err(_) if within(at) => page.unreadable.push(number),
                    _ => {}
                }
                true
            })?;
            Ok(page)
        })
        .await
    }

    /// What the ledger has of a line that was noted elsewhere; `hash` as `ledger_end` answers it. Of number 0, when the ledger was empty,
    /// nothing was noted.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn noted(&self, number: u64, hash: String) -> Result<Noted, ReadError> {
        self.read(move |db| noted(db, number, &hash)).await
    }
}

fn noted(db: &Db, number: u64, hash: &str) -> Result<Noted, DbError> {
    let compared = |found: [u8; 32]| match chain::hex(&found) == hash {
        true => Noted::Here,
        false => Noted::Another,
    };
    let anchor = chain::anchor(db)?.unwrap_or_default();
    if number == 0 {
        return Ok(Noted::Here);
    }
    if number < anchor.seq {
        return Ok(Noted::Pruned);
    }
    if number == anchor.seq {
        return Ok(compared(anchor.hash));
    }
    let Some(key) = place_of(db, number)? else {
        return Ok(Noted::Ends(Head::load(db)?.seq));
    };
    if keys::ledger_of(&key).is_none_or(|(_, found)| found != number) {
        return Ok(Noted::Lost);
    }
    let record = db.get(Cf::Ledger, &key)?;
    Ok(record.map_or(Noted::Lost, |record| compared(ledger::link(&key, &record))))
}

/// The key of the first line from this number on: numbers grow with time. `None`: there is none.
fn place_of(db: &Db, number: u64) -> Result<Option<[u8; 16]>, DbError> {
    let first_from = |at: u64| {
        let mut found = None;
        db.scan(Cf::Ledger, &keys::ledger(Wall(at), 0), &[], |key, _| {
            found = keys::ledger_of(key);
            false
        })?;
        Ok::<_, DbError>(found)
    };
    // The last moment from which on every line has this number or a greater one…
    let (mut low, mut high) = (0, u64::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        match first_from(middle)? {
            Some((_, found)) if found < number => low = middle + 1,
            _ => high = middle,
        }
    }
    // …is just behind the last line before it, which lines of the same moment may follow.
    let mut place = None;
    let from = keys::ledger(Wall(low.saturating_sub(1)), 0);
    db.scan(Cf::Ledger, &from, &[], |key, _| {
        place = keys::ledger_of(key).filter(|(_, found)| *found >= number);
        place.is_none()
    })?;
    Ok(place.map(|(at, found)| keys::ledger(at, found)))
}
