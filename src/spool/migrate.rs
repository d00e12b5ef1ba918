//! Brings an older spool to today's format: an ordered list of steps, run when the spool is opened and before anything else reads
//! its index. Each step works in batches, and each batch is written together with the place where the next one begins: cut at
//! any moment, the next start goes on there, and the result is the same. The last batch puts the new format into the index and
//! the migration on the ledger. Payload files are never touched.
use super::db::{Cf, Change, Db, DbError};
use super::ledger::{Fact, FactKind, Head};
use super::model::OpenError;
use super::txn::{SCHEMA, decode_number, encode_number};
use super::{disk, keys, ledger, recover, schema, trace};
use crate::base::clock::{Clock, Wall};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// One piece of a step.
pub(super) struct Piece {
    pub changes: Vec<Change>,
    /// Where the next piece begins; `None`: the step is complete.
    pub next: Option<Vec<u8>>,
    /// Records looked at.
    pub done: u64,
}

/// One step. Running a piece of it again must change nothing.
struct Step {
    /// For the log and for people.
    name: &'static str,
    /// The first format that has it.
    format: u64,
    piece: fn(&Db, &[u8], usize) -> Result<Piece, DbError>,
}

/// All steps, oldest first. Never reordered, never renamed; new ones come at the end.
const STEPS: [Step; 2] = [
    Step {
        name: "the facts of each instance are listed",
        format: 2,
        piece: list_facts,
    },
    Step {
        name: "the index of patients, accessions and UIDs is ordered",
        format: 2,
        piece: order_trace,
    },
];

/// How a migration goes about it.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Records in one batch.
    pub batch: usize,
    /// Stop, as a crash would, after so many batches: for tests.
    pub cut_after: Option<u64>,
    /// Free bytes of the disk; `None`: it is asked.
    pub free: Option<u64>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            batch: BATCH,
            cut_after: None,
            free: None,
        }
    }
}

const BATCH: usize = 4_096;
/// How often progress is told.
const SAY: Duration = Duration::from_secs(5);
/// On top of what the new records need: the log and the tables in the making.
const SPARE: u64 = 64 << 20;
/// Which step is under way, and where.
const STEP: &[u8] = b"migration/step";
const CURSOR: &[u8] = b"migration/cursor";

/// Brings the spool to today's format when it is older. Answers the format that it had. The caller has the lock.
///
/// # Errors
/// Too little room (nothing was changed), or the index cannot be read or written (the next start goes on).
pub(super) fn upgrade(root: &Path, clock: &Clock, manner: Manner) -> Result<Option<u64>, OpenError> {
    let Some(from) = schema::older(root)? else {
        return Ok(None);
    };
    let index = recover::index_path(root);
    if !Db::exists(&index) {
        // Nothing to bring over: it is made anew, or salvaged, in today's format.
        schema::begin(root, from)?;
        schema::end(root)?;
        return Ok(None);
    }
    let io = |what| {
        let path = root.to_owned();
        move |error: io::Error| OpenError::Io { path, what, error }
    };
    let needed = size_of(&index).map_err(io("its index cannot be measured"))? + SPARE;
    let free = match manner.free {
        Some(free) => free,
        None => disk::free_bytes(root).map_err(io("cannot be measured"))?,
    };
    if free < needed {
        return Err(OpenError::NoRoomToMigrate {
            path: root.to_owned(),
            needed,
            free,
        });
    }
    tracing::warn!(
        from,
        to = schema::FORMAT,
        "the spool is of an older format and is migrated; an older version will not open it again"
    );
    schema::begin(root, from)?;
    let damaged = |error: DbError| recover::index_error(root, &error);
    let db = Db::open_older(&index, schema::families_since(from)).map_err(damaged)?;
    let done = match is_complete(&db).map_err(damaged)? {
        // It was cut between its last batch and the end of the note.
        true => 0,
        false => run(&db, from, clock.now(), manner).map_err(damaged)?,
    };
    drop(db);
    schema::end(root)?;
    tracing::info!(from, to = schema::FORMAT, records = done, "the spool is migrated");
    Ok(Some(from))
}

/// The steps that are still to do, batch by batch.
fn run(db: &Db, from: u64, now: Wall, manner: Manner) -> Result<u64, DbError> {
    let (mut at, mut cursor) = place(db)?;
    let (mut done, mut batches, mut said) = (0, 0, Instant::now());
    let total = Head::load(db)?.seq;
    while let Some(step) = STEPS.get(at) {
        if step.format <= from {
            (at, cursor) = (at + 1, Vec::new());
            continue;
        }
        let Piece {
            mut changes,
            next,
            done: more,
        } = (step.piece)(db, &cursor, manner.batch)?;
        done += more;
        (at, cursor) = match next {
            Some(next) => (at, next),
            None => (at + 1, Vec::new()),
        };
        changes.push((Cf::Meta, STEP.to_vec(), Some(encode_number(at as u64))));
        changes.push((Cf::Meta, CURSOR.to_vec(), Some(super::codec::wrap(&cursor))));
        db.write(changes.into_iter())?;
        batches += 1;
        if manner.cut_after == Some(batches) {
            return Err(DbError::Trouble("cut by a test".to_owned()));
        }
        if said.elapsed() >= SAY {
            said = Instant::now();
            tracing::info!(step = step.name, records = done, facts = total, "migrating the spool");
        }
    }
    complete(db, from, now)?;
    Ok(done)
}

/// Whether the last batch of a migration is in the index: all is done but for the note that says so.
fn is_complete(db: &Db) -> Result<bool, DbError> {
    let format = db.get(Cf::Meta, SCHEMA)?;
    let stamped = format.is_some_and(|raw| decode_number(&raw).is_ok_and(|format| format == schema::FORMAT));
    Ok(stamped && db.get(Cf::Meta, STEP)?.is_none())
}

/// The format, and the fact, in one batch.
fn complete(db: &Db, from: u64, now: Wall) -> Result<(), DbError> {
    let fact = Fact::new(FactKind::Migrated).text(format!("spool format {from} to {}", schema::FORMAT));
    let mut head = Head::load(db)?;
    let (key, record) = head.append(fact, now);
    let changes = [
        (Cf::Meta, STEP.to_vec(), None),
        (Cf::Meta, CURSOR.to_vec(), None),
        schema::stamp(),
        (Cf::Ledger, key, Some(record)),
    ];
    db.write(changes.into_iter().chain(head.late_entry(now)))
}

/// Where an earlier start had come to.
fn place(db: &Db) -> Result<(usize, Vec<u8>), DbError> {
    let Some(raw) = db.get(Cf::Meta, STEP)? else {
        return Ok((0, Vec::new()));
    };
    let cursor = db.get(Cf::Meta, CURSOR)?.unwrap_or_default();
    // What cannot be read is begun anew: every step may be.
    let at = decode_number(&raw).ok().and_then(|at| usize::try_from(at).ok());
    match (at, super::codec::unwrap_body(&cursor)) {
        (Some(at), Ok(cursor)) => Ok((at, cursor.to_vec())),
        _ => Ok((0, Vec::new())),
    }
}

/// Format 2: an entry for each fact that is about an instance, so that its facts are found without reading the whole ledger.
fn list_facts(db: &Db, from: &[u8], max: usize) -> Result<Piece, DbError> {
    let mut piece = Piece {
        changes: Vec::new(),
        next: None,
        done: 0,
    };
    db.scan(Cf::Ledger, from, &[], |key, value| {
        if piece.done as usize == max {
            piece.next = Some(key.to_vec());
            return false;
        }
        piece.done += 1;
        let fact = ledger::decode(value).ok().map(|(_, fact)| fact);
        let about = fact.as_ref().and_then(Fact::about).zip(keys::ledger_of(key));
        if let Some((id, (at, seq))) = about {
            piece
                .changes
                .push((Cf::History, keys::history(id, at, seq).to_vec(), Some(Vec::new())));
        }
        true
    })?;
    Ok(piece)
}

/// Format 2: the running box reads the heads of what lies in the spool and fills the index of patients (`trace.rs`).
fn order_trace(_: &Db, _: &[u8], _: usize) -> Result<Piece, DbError> {
    Ok(Piece {
        changes: vec![trace::fill_order()],
        next: None,
        done: 0,
    })
}

fn size_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
