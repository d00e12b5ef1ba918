//! Verifies the ledger's chain: each line's hash covers the line before it, its own time, number and words. What was changed, taken
//! out, put in or moved is found at the first line that does not follow from the one before; what was cut off at the end, by
//! the `witness` file. The beginning is vouched for by the anchor of what was pruned, and that by a fact in the chain itself.
//! A salvage leaves a `Break` fact: lines that it names as missing are shown, and not taken for tampering. A line that is there and is
//! not what was written is no loss of a disk: nothing excuses it, and a salvage names it for ever. Changes nothing.
use super::codec::{unwrap_body, wrap};
use super::db::{Cf, Change, Db, DbError};
use super::keys;
use super::ledger::{Break, Detail, FactKind, Gap, Head, decode, link};
use super::model::{OpenError, ReadError};
use super::{recover, schema, witness};
use crate::base::clock::Wall;
use std::collections::BTreeMap;
use std::path::Path;

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ChainReport {
    /// Lines that are there.
    pub lines: u64,
    /// The number of the first and of the last of them.
    pub first: u64,
    pub last: u64,
    /// The hash of the last one: note it elsewhere, and nobody can write the ledger anew unseen.
    pub head: String,
    /// Lines before `first` were taken away by `ledger.keep`.
    pub pruned: u64,
    /// Where the chain does not hold together, the first place first; at most `BROKEN_MAX`.
    pub broken: Vec<Broken>,
    /// Breaks that a salvage has left and named.
    pub breaks: Vec<Broken>,
    /// The last line that the witness file knows; `None`: there is none, and a cut-off end could not be seen.
    pub witnessed: Option<u64>,
}

/// One place where the chain is broken.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Broken {
    /// The line that does not follow from the one before it.
    pub line: u64,
    /// Its time, as its key says it.
    pub time: String,
    pub why: String,
}

const MISSING: &str = "lines before it are missing";
/// Places that are named.
const BROKEN_MAX: usize = 1_000;

impl ChainReport {
    /// Whether everything holds together.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Where the chain begins: the line before its first one.
pub(super) const ANCHOR: &[u8] = b"ledger/anchor";

/// The anchor; `None` when nothing was ever pruned.
pub(super) fn anchor(db: &Db) -> Result<Option<Head>, DbError> {
    let raw = db.get(Cf::Meta, ANCHOR)?;
    Ok(raw.and_then(|raw| read_anchor(&raw)))
}

fn read_anchor(raw: &[u8]) -> Option<Head> {
    let body = unwrap_body(raw).ok()?;
    let (seq, rest) = body.split_first_chunk::<8>()?;
    let (at, hash) = rest.split_first_chunk::<8>()?;
    Some(Head {
        seq: u64::from_be_bytes(*seq),
        at: Wall(u64::from_be_bytes(*at)),
        hash: hash.try_into().ok()?,
    })
}

/// The change that sets it.
pub(super) fn anchored(head: &Head) -> Change {
    let body = [&head.seq.to_be_bytes()[..], &head.at.0.to_be_bytes(), &head.hash].concat();
    (Cf::Meta, ANCHOR.to_vec(), Some(wrap(&body)))
}

/// A place where the chain does not hold together.
struct Place {
    broken: Broken,
    /// The line before it.
    before: Head,
    /// Lines are missing there. Otherwise one that is there is not what was written.
    missing: bool,
}

/// A walk along the chain.
struct Walk {
    report: ChainReport,
    /// The line before, as far as the walk has come.
    before: Head,
    /// Places not yet named by a break fact, by line.
    open: BTreeMap<u64, Place>,
    anchor: Option<Head>,
    /// What a fact in the chain says of the pruned part.
    vouched: BTreeMap<u64, String>,
    /// The hash of each line that the witness or a pruning fact may speak of is looked at when it is met.
    witness: Option<(u64, [u8; 32])>,
    hashes: BTreeMap<u64, [u8; 32]>,
}

/// Verifies the chain of an open index. `witness` is the last line that stands outside it.
pub(super) fn verify(db: &Db, witness: Option<(u64, [u8; 32])>) -> Result<ChainReport, DbError> {
    let mut walk = Walk::new(db, witness)?;
    db.scan(Cf::Ledger, &[], &[], |key, value| {
        walk.line(key, value);
        true
    })?;
    Ok(walk.end())
}

impl Walk {
    fn new(db: &Db, witness: Option<(u64, [u8; 32])>) -> Result<Self, DbError> {
        let anchor = anchor(db)?;
        Ok(Self {
            report: ChainReport {
                witnessed: witness.map(|(seq, _)| seq),
                pruned: anchor.map_or(0, |anchor| anchor.seq),
                ..ChainReport::default()
            },
            before: anchor.unwrap_or_default(),
            open: BTreeMap::new(),
            anchor,
            vouched: BTreeMap::new(),
            witness,
            hashes: BTreeMap::new(),
        })
    }

    fn line(&mut self, key: &[u8], value: &[u8]) {
        let (at, seq) = keys::ledger_of(key).unwrap_or_default();
        let hash = link(key, value);
        let decoded = decode(value);
        let why = match &decoded {
            Err(_) => Some("it cannot be read, or its checksum is wrong"),
            Ok(_) if keys::ledger_of(key).is_none() => Some("its key is none of a line"),
            Ok((_, fact)) if fact.at_us != at.0 || fact.at() > at => Some("its time was changed"),
            Ok(_) if seq <= self.before.seq => Some("a line with its number, or a later one, stands before it"),
            Ok(_) if seq > self.before.seq + 1 => Some(MISSING),
            Ok((previous, _)) if *previous != self.before.hash => Some("it does not follow from the line before it"),
            Ok(_) => None,
        };
        if let Some(why) = why {
            self.found(seq, at, why, why == MISSING);
        }
        if self.report.lines == 0 {
            self.report.first = seq;
        }
        self.report.lines += 1;
        self.before = Head { hash, seq, at };
        match self.witness {
            Some((known, expected)) if known == seq && expected != hash => {
                self.found(seq, at, "it is not the line that the witness file knows", false);
            }
            _ => {}
        }
        if let Ok((_, fact)) = decoded {
            self.told((seq, at), hash, fact.kind, fact.detail.as_deref());
        }
    }

    fn found(&mut self, line: u64, at: Wall, why: &str, missing: bool) {
        if self.open.len() < BROKEN_MAX {
            let why = why.to_owned();
            let time = at.iso();
            self.open.entry(line).or_insert(Place {
                broken: Broken { line, time, why },
                before: self.before,
                missing,
            });
        }
    }

    /// What the facts say of the chain itself.
    fn told(&mut self, (seq, at): (u64, Wall), hash: [u8; 32], kind: FactKind, detail: Option<&Detail>) {
        match (kind, detail) {
            (FactKind::Pruned, Some(Detail::Pruned { seq: upto, hash })) => {
                self.vouched.insert(*upto, hash.clone());
            }
            (FactKind::Break, Some(Detail::Break(told))) => self.broke((seq, at), told),
            _ => {}
        }
        self.hashes.insert(seq, hash);
        // Only those near the pruned part are asked for: it is at the beginning.
        if self.hashes.len() > HASHES_MAX {
            self.hashes.pop_last();
        }
    }

    /// What a salvage says of its losses, and of what it found changed.
    fn broke(&mut self, (seq, at): (u64, Wall), told: &Break) {
        let meant = |line: u64, place: &Place| {
            let (after, hash) = (place.before.seq, hex(&place.before.hash));
            let here = line == seq && after == told.carried && hash == told.carried_hash;
            // It follows from what the witness file knew, and not from what stood there in its place.
            let beside = here && told.changed.contains(&after);
            beside || (place.missing && (told.many || here || told.gaps.contains(&Gap { line, after, hash })))
        };
        let named = self.open.extract_if(.., |line, place| meant(*line, place));
        self.report.breaks.extend(named.map(|(_, place)| place.broken));
        for line in &told.changed {
            self.found(
                *line,
                at,
                "it is not what was written: a salvage has found it changed",
                false,
            );
        }
    }

    fn end(mut self) -> ChainReport {
        self.check_anchor();
        let last = self.before;
        if let Some((known, _)) = self.witness.filter(|(known, _)| *known > last.seq) {
            let gone = known - last.seq;
            let why = format!("{gone} lines at the end are missing, by the witness file");
            self.found(last.seq + 1, last.at, &why, true);
        }
        self.report.last = last.seq;
        self.report.head = hex(&last.hash);
        self.report.broken = self.open.into_values().map(|place| place.broken).collect();
        self.report
    }

    /// What was pruned must be said in the chain: another beginning would pass for one.
    fn check_anchor(&mut self) {
        let Some(anchor) = self.anchor else { return };
        // A pruning that is under way, or was cut, has come to the anchor and not yet to where the fact says.
        let Some((upto, hash)) = self.vouched.range(anchor.seq..).next() else {
            return self.found(
                anchor.seq,
                anchor.at,
                "lines up to it are missing, and no fact says that they were pruned",
                false,
            );
        };
        let found = match *upto == anchor.seq {
            true => Some(anchor.hash),
            false => self.hashes.get(upto).copied(),
        };
        let told = found.map(|found| blake3::Hash::from_bytes(found).to_hex().to_string());
        if told.is_some_and(|told| told != *hash) {
            self.found(anchor.seq, anchor.at, "it is not the line that was pruned up to", false);
        }
    }
}

pub(super) fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

/// The places where the chain of an index does not hold together, for a salvage that carries it over: where lines are missing, and
/// the lines that are there and are not what was written.
pub(super) fn gaps(db: &Db, witness: Option<(u64, [u8; 32])>) -> Result<(Vec<Gap>, Vec<u64>), DbError> {
    let mut walk = Walk::new(db, witness)?;
    db.scan(Cf::Ledger, &[], &[], |key, value| {
        walk.line(key, value);
        true
    })?;
    let changed = walk.open.extract_if(.., |_, place| !place.missing);
    let changed = changed.map(|(line, _)| line).collect();
    let gap = |(line, place): (u64, Place)| Gap {
        line,
        after: place.before.seq,
        hash: hex(&place.before.hash),
    };
    Ok((walk.open.into_iter().map(gap).collect(), changed))
}

/// Hashes kept from the chain's beginning: more than one pruning takes away.
const HASHES_MAX: usize = super::prune::LINES_MAX + 1;

/// Verifies the ledger of a spool that no process has open.
///
/// # Errors
/// It is no spool, is in use, or its index does not open.
pub fn verify_ledger(path: &Path) -> Result<ChainReport, OpenError> {
    let lock = recover::lock_to_read(path)?;
    let damaged = |error: DbError| OpenError::IndexDamaged {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let since = schema::families_since(schema::older(path)?.unwrap_or(schema::FORMAT));
    let db = Db::open_read_only(&recover::index_path(path), since).map_err(damaged)?;
    let report = verify(&db, witness::last(path)).map_err(damaged)?;
    drop(lock);
    Ok(report)
}

impl super::Spool {
    /// The number of the ledger's last line, and its hash.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn ledger_end(&self) -> Result<(u64, String), ReadError> {
        self.read(|db| {
            let head = Head::load(db)?;
            Ok((head.seq, blake3::Hash::from_bytes(head.hash).to_hex().to_string()))
        })
        .await
    }

    /// Verifies the ledger of the open spool, against the witness as it stood when the call was made.
    ///
    /// # Errors
    /// The index cannot be read, or not within the deadline of a listing.
    pub async fn verify_ledger(&self) -> Result<ChainReport, ReadError> {
        // What is written meanwhile comes behind it.
        let witness = witness::last(&self.core.config.path);
        self.read(move |db| verify(db, witness)).await
    }
}
