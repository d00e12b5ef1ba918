//! A salvage carries the old ledger over, line by line as it is, with the index of instances and patients that belongs to it. What cannot
//! be read is left out; a `Break` fact then says in the chain itself where it does not hold together, how many lines at its end are
//! lost, and which are not what was written. The new line follows from the last one that anybody knew: carried over, or in the
//! witness file. Called by a rebuild.
use super::chain;
use super::db::{Cf, Change, Db, DbError};
use super::keys;
use super::late::Late;
use super::ledger::{Break, Detail, Fact, FactKind, Head, decode};
use crate::base::clock::Wall;

/// Records in one synced batch.
const BATCH: usize = 4_096;
/// Places that the fact names.
const NAMED_MAX: usize = 500;

/// Brings ledger, history and trace of the old index over, and says where the chain is broken. Answers why the old index could not
/// be read to its end, and the lines that are not what was written. `witness` is the last line that was known outside of it.
pub(super) fn carry_ledger(
    former: Option<&Db>,
    db: &Db,
    witness: Option<(u64, [u8; 32])>,
    now: Wall,
) -> Result<(Option<String>, Vec<u64>), DbError> {
    let mut unread = None;
    if let Some(former) = former {
        if let Ok(Some(anchor)) = chain::anchor(former) {
            db.write(std::iter::once(chain::anchored(&anchor)))?;
        }
        for cf in [Cf::History, Cf::Trace, Cf::Ledger] {
            let mut carrying = Carrying {
                db,
                cf,
                changes: Vec::new(),
                failed: None,
            };
            if let Err(error) = carrying.all(former) {
                unread.get_or_insert(error.to_string());
            }
            carrying.flush()?;
        }
    }
    let carried = Head::load(db)?;
    let (mut gaps, mut changed) = chain::gaps(db, witness)?;
    let (known, hash) = witness
        .filter(|(seq, _)| *seq >= carried.seq)
        .unwrap_or((carried.seq, carried.hash));
    let many = gaps.len() > NAMED_MAX;
    gaps.truncate(NAMED_MAX);
    changed.truncate(NAMED_MAX);
    let detail = Detail::Break(Break {
        gaps,
        many,
        changed: changed.clone(),
        carried: carried.seq,
        carried_hash: chain::hex(&carried.hash),
        known,
    });
    let mut text = match known - carried.seq {
        0 => "the index was made anew; the ledger was carried over".to_owned(),
        lost => format!("the index was made anew; the last {lost} lines of the ledger are lost"),
    };
    if !changed.is_empty() {
        text += "; lines of it are not what was written";
    }
    let mut head = Head {
        hash,
        seq: known,
        at: carried.at,
    };
    let (key, record) = head.append(Fact::new(FactKind::Break).text(text).detail(detail), now);
    let line = (Cf::Ledger, key, Some(record));
    db.write(std::iter::once(line).chain(head.late_entry(now)))?;
    Ok((unread, changed))
}

/// One family on its way.
struct Carrying<'a> {
    db: &'a Db,
    cf: Cf,
    changes: Vec<Change>,
    /// The new index cannot be written.
    failed: Option<DbError>,
}

impl Carrying<'_> {
    /// From the beginning; and when that meets something unreadable, from the end to there as well. The error is that of reading.
    fn all(&mut self, former: &Db) -> Result<(), DbError> {
        let mut last = Vec::new();
        let forward = former.scan(self.cf, &[], &[], |key, value| {
            last = key.to_vec();
            self.take(key, value)
        });
        let Err(error) = forward else { return Ok(()) };
        // An error here is the same one, met from behind.
        let _ = former.scan_back(self.cf, &[], |key, value| {
            key > last.as_slice() && self.take(key, value)
        });
        Err(error)
    }

    /// False: no more can be written.
    fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.changes.push((self.cf, key.to_vec(), Some(value.to_vec())));
        if self.cf == Cf::Ledger {
            self.list(key, value);
        }
        if self.changes.len() >= BATCH
            && let Err(error) = self.write()
        {
            self.failed = Some(error);
        }
        self.failed.is_none()
    }

    /// A line whose entry among its instance's facts was lost, or never was there (an older format), gets one; and one that is late
    /// its entry under its own time.
    fn list(&mut self, key: &[u8], value: &[u8]) {
        let (Ok((_, fact)), Some((at, seq))) = (decode(value), keys::ledger_of(key)) else {
            return;
        };
        if let Some(own) = fact.own_us.map(Wall) {
            let late = keys::late(Late { own, at, seq });
            self.changes.push((Cf::Meta, late, Some(Vec::new())));
        }
        let Some(id) = fact.about() else { return };
        let entry = keys::history(id, at, seq).to_vec();
        if matches!(self.db.get(Cf::History, &entry), Ok(None)) {
            self.changes.push((Cf::History, entry, Some(Vec::new())));
        }
    }

    fn write(&mut self) -> Result<(), DbError> {
        self.db.write(std::mem::take(&mut self.changes).into_iter())
    }

    fn flush(&mut self) -> Result<(), DbError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.write(),
        }
    }
}
