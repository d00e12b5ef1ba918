//! What stands beside the index so that its losses are seen and a person's word outlives it. Two small files, both hints:
//! the index alone decides while it is whole.
//!
//! `witness` holds the end of the ledger, written after each durable batch and never flushed. The kernel keeps it over a
//! `kill -9`, and a power cut can only make it older than the index: an index whose ledger ends before it has lost
//! acknowledged batches (a lost log, a cut one, a cut manifest: RocksDB opens all three without a word).
//!
//! `orders` lists the holds and suspensions that persons ordered and that still stand, and what is held because nobody knew whether one
//! was ordered; a payload file does not tell them.
//! Made anew from the index at each start, appended to and flushed with each order (they are few). A salvage reads it.
//!
//! `known-orders` says how far that list went: its length and hash, written after it and never flushed. An older copy of the list, put
//! back over newer payloads, lacks what was ordered since, and is not believed. A list that an older program has written since is not
//! either, and costs at most that something is held.
use super::codec::{unwrap_body, wrap};
use super::db::{Cf, Db, DbError};
use super::keys;
use super::ledger::{Detail, Head, decode, link};
use super::model::{HoldKind, HoldReason};
use super::pool::sync_directory;
use super::record::JobRecord;
use super::txn::SUSPENDED;
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId};
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const WITNESS: &str = "witness";
const ORDERS: &str = "orders";
/// Stays where it is when index, witness and orders are copied: see docs/install.md.
const KNOWN: &str = "known-orders";

/// A person's word about the queue.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum Order {
    Held {
        instance: String,
        job: u64,
        reason: String,
        /// `None`: a person held it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<HoldKind>,
    },
    /// The hold of this job is over.
    Over {
        job: u64,
    },
    Suspended {
        destination: DestinationId,
        since: u64,
    },
    Resumed {
        destination: DestinationId,
    },
}

impl Order {
    pub(super) fn held(instance: InstanceId, job: JobId, reason: &HoldReason) -> Self {
        Self::Held {
            instance: instance.to_string(),
            job: job.0,
            reason: reason.text.clone(),
            kind: Some(reason.kind).filter(|kind| *kind != HoldKind::Operator),
        }
    }
}

/// Whether holds of this kind are on the list: what a person held, and what a person may have held.
pub(super) fn is_listed(kind: HoldKind) -> bool {
    matches!(kind, HoldKind::Operator | HoldKind::Doubtful)
}

/// The orders that stood when the box ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Standing {
    pub held: BTreeMap<InstanceId, HoldReason>,
    pub suspended: BTreeMap<DestinationId, Wall>,
}

/// Both files of an open spool. A write that fails costs the hint, never the batch.
pub(super) struct Witness {
    root: PathBuf,
    metrics: Metrics,
    files: Mutex<Files>,
    /// The last write of each has failed.
    witness_fails: AtomicBool,
    orders_fail: AtomicBool,
    known_fails: AtomicBool,
}

#[derive(Default)]
struct Files {
    witness: Option<File>,
    orders: Option<File>,
    known: Option<File>,
    /// Of the list as it stands, for `known`.
    length: u64,
    hasher: blake3::Hasher,
}

impl Witness {
    pub(super) fn new(root: &Path, metrics: Metrics) -> Self {
        Self {
            root: root.to_owned(),
            metrics,
            files: Mutex::default(),
            witness_fails: AtomicBool::new(false),
            orders_fail: AtomicBool::new(false),
            known_fails: AtomicBool::new(false),
        }
    }

    /// Makes both files anew from the index. Without them (a full disk) the box works; a salvage then knows less.
    pub(super) fn begin(&self, db: &Db, head: Head) {
        let mut files = self.lock();
        let witness = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join(WITNESS));
        files.witness = self.counted(WITNESS, witness);
        // What it says of the list of before must not be held against the new one, should this be cut.
        drop(fs::remove_file(self.root.join(KNOWN)));
        (files.orders, files.known) = (None, None);
        match self.counted(ORDERS, make_orders(&self.root, db)) {
            Some((file, text)) => {
                files.orders = Some(file);
                (files.length, files.hasher) = (0, blake3::Hasher::new());
                files.known = self.counted(KNOWN, File::create(self.root.join(KNOWN)));
                self.know(&mut files, &text);
            }
            // An old list would speak of holds that are over.
            None => drop(fs::remove_file(self.root.join(ORDERS))),
        }
        drop(files);
        self.note(head);
    }

    /// A batch that ends the ledger here is durable.
    pub(super) fn note(&self, head: Head) {
        let files = self.lock();
        if let Some(file) = &files.witness {
            let body = [&head.seq.to_be_bytes()[..], &head.hash].concat();
            let written = file.write_all_at(&wrap(&body), 0);
            self.counted(WITNESS, written);
        }
    }

    /// Orders that the index has recorded. Flushed; a list whose flush failed is given up, and never flushed again.
    pub(super) fn record(&self, orders: &[Order]) {
        let mut files = self.lock();
        let Some(file) = files.orders.as_mut() else { return };
        let text: String = orders.iter().map(line).collect();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        match self.counted(ORDERS, written) {
            Some(()) => self.know(&mut files, &text),
            None => {
                files.orders = None;
                drop(fs::remove_file(self.root.join(ORDERS)));
            }
        }
    }

    /// The list has become longer by this. What cannot be written down is forgotten: half of it would speak against a list that is whole.
    fn know(&self, files: &mut Files, text: &str) {
        files.length += text.len() as u64;
        files.hasher.update(text.as_bytes());
        let hash = files.hasher.finalize();
        let body = [&files.length.to_be_bytes()[..], hash.as_bytes()].concat();
        let Some(file) = &files.known else { return };
        let written = file.write_all_at(&wrap(&body), 0);
        if self.counted(KNOWN, written).is_none() {
            files.known = None;
            drop(fs::remove_file(self.root.join(KNOWN)));
        }
    }

    /// Whether a salvage would know the end of the ledger, and the orders that stand.
    pub(super) fn is_kept(&self) -> bool {
        !self.witness_fails.load(Ordering::Relaxed) && self.keeps_orders()
    }

    /// Whether a salvage would know the orders that stand.
    pub(super) fn keeps_orders(&self) -> bool {
        !self.orders_fail.load(Ordering::Relaxed)
    }

    /// Counts what fails, and tells it once.
    fn counted<T>(&self, file: &'static str, result: io::Result<T>) -> Option<T> {
        let fails = match file {
            ORDERS => &self.orders_fail,
            KNOWN => &self.known_fails,
            _ => &self.witness_fails,
        };
        let failed_before = fails.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) => {
                self.metrics.gate_errors_total.with_label_values(&[file]).inc();
                if !failed_before {
                    tracing::error!(file, %error, "this file beside the index cannot be written: a salvage would know less; mend it, and start the box again");
                }
            }
            Ok(_) if failed_before => tracing::info!(file, "this file beside the index is written again"),
            Ok(_) => {}
        }
        result.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last line of the ledger that the witness knows, with its hash; `None` when nothing tells.
pub(super) fn last(root: &Path) -> Option<(u64, [u8; 32])> {
    let raw = fs::read(root.join(WITNESS)).ok()?;
    let (seq, hash) = unwrap_body(&raw).ok()?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), hash.try_into().ok()?))
}

/// How many facts of the ledger the index has lost; 0 when none, or when nothing tells.
pub(super) fn lost_facts(root: &Path, head: &Head) -> u64 {
    match last(root) {
        None => 0,
        Some((seq, _)) => seq.saturating_sub(head.seq),
    }
}

/// The line of the ledger that stands in the index and is not the one that the witness knows under its number; `None` also when a
/// salvage has named it already.
pub(super) fn contradicted(root: &Path, db: &Db) -> Result<Option<u64>, DbError> {
    let Some((known, hash)) = last(root) else {
        return Ok(None);
    };
    let (mut other, mut named) = (false, false);
    db.scan_back(Cf::Ledger, &[], |key, value| {
        let seq = keys::ledger_of(key).map_or(0, |(_, seq)| seq);
        other = seq == known && link(key, value) != hash;
        named |= decode(value).is_ok_and(|(_, fact)| match fact.detail.as_deref() {
            Some(Detail::Break(told)) => told.changed.contains(&known),
            _ => false,
        });
        seq > known
    })?;
    Ok((other && !named).then_some(known))
}

/// The orders that stand; `None` when the list is gone, damaged or an older one, so that nobody knows.
pub(super) fn standing(root: &Path) -> Option<Standing> {
    let text = fs::read_to_string(root.join(ORDERS)).ok()?;
    if is_older(root, text.as_bytes()) {
        tracing::warn!("the list of persons' orders is not the last that was written: it is not believed");
        return None;
    }
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return None;
    }
    let mut standing = Standing::default();
    let mut held: BTreeMap<u64, (InstanceId, HoldReason)> = BTreeMap::new();
    for line in lines {
        let (sum, json) = line.split_once(' ')?;
        if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(json.as_bytes()) {
            return None;
        }
        match serde_json::from_str(json).ok()? {
            Order::Held {
                instance,
                job,
                reason,
                kind,
            } => {
                let reason = HoldReason::new(kind.unwrap_or(HoldKind::Operator), reason);
                held.insert(job, (InstanceId::parse(&instance).ok()?, reason));
            }
            Order::Over { job } => drop(held.remove(&job)),
            Order::Suspended { destination, since } => drop(standing.suspended.insert(destination, Wall(since))),
            Order::Resumed { destination } => drop(standing.suspended.remove(&destination)),
        }
    }
    for (instance, reason) in held.into_values() {
        // Of two jobs of one instance, a person's word counts.
        let known = standing.held.entry(instance).or_insert_with(|| reason.clone());
        if reason.kind == HoldKind::Operator {
            *known = reason;
        }
    }
    // Without its last line end the list was cut.
    text.ends_with('\n').then_some(standing)
}

/// Whether this list ends before the last that was written did, or is another one. Without a word about that (an older program, a cut in the
/// moment of a start) it is believed.
fn is_older(root: &Path, list: &[u8]) -> bool {
    let raw = match fs::read(root.join(KNOWN)) {
        Ok(raw) if raw.is_empty() => return false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
        Err(_) => return true,
        Ok(raw) => raw,
    };
    let known = unwrap_body(&raw).ok().and_then(|body| body.split_first_chunk::<8>());
    let Some((length, hash)) = known else { return true };
    let written = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
    list.get(..written)
        .is_none_or(|written| hash != blake3::hash(written).as_bytes())
}

const HEAD: &str = "waystation orders 1";

fn line(order: &Order) -> String {
    // Plain texts and numbers always serialise.
    let json = serde_json::to_string(order).unwrap_or_default();
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// Writes the list under another name first: half a list would hide orders.
fn make_orders(root: &Path, db: &Db) -> io::Result<(File, String)> {
    let fresh = root.join("orders.new");
    let mut text = format!("{HEAD}\n");
    let scan = db.scan(Cf::Hold, &[], &[], |key, value| {
        let kind = value.first().and_then(|byte| HoldKind::from_byte(*byte));
        if kind.is_some_and(is_listed)
            && let Some((key, _)) = keys::hold_of(key)
            && let Ok(Some(raw)) = db.get(Cf::Job, &keys::job(key))
            && let Ok(job) = JobRecord::decode(&raw)
            && let Some((_, reason)) = &job.hold
        {
            text += &line(&Order::held(job.instance, key.job, reason));
        }
        true
    });
    scan.map_err(io::Error::other)?;
    let scan = db.scan(Cf::Meta, SUSPENDED, &keys::behind(SUSPENDED), |key, value| {
        let name = String::from_utf8_lossy(&key[SUSPENDED.len()..]).into_owned();
        if let Ok(destination) = DestinationId::parse(&name) {
            let since = super::txn::decode_number(value).unwrap_or(0);
            text += &line(&Order::Suspended { destination, since });
        }
        true
    });
    scan.map_err(io::Error::other)?;
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&fresh, root.join(ORDERS))?;
    sync_directory(root)?;
    Ok((file, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, orders: &[Order]) {
        let text: String = orders.iter().map(line).collect();
        fs::write(root.join(ORDERS), format!("{HEAD}\n{text}")).unwrap();
    }

    #[test]
    fn what_is_over_does_not_stand_and_a_damaged_list_tells_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(standing(root.path()), None);
        let (a, b) = (InstanceId::new(1, 1), InstanceId::new(2, 2));
        let destination = DestinationId::parse("vna").unwrap();
        let unknown = HoldReason::new(HoldKind::Doubtful, "look too");
        let orders = [
            Order::held(a, JobId(1), &HoldReason::new(HoldKind::Operator, "look")),
            Order::held(b, JobId(2), &unknown),
            Order::Over { job: 1 },
            Order::Suspended {
                destination: destination.clone(),
                since: 7,
            },
        ];
        write(root.path(), &orders);
        let found = standing(root.path()).unwrap();
        assert_eq!(found.held, BTreeMap::from([(b, unknown)]));
        assert_eq!(found.suspended, BTreeMap::from([(destination, Wall(7))]));
        let whole = fs::read(root.path().join(ORDERS)).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(root.path().join(ORDERS), &bad).unwrap();
            assert!(standing(root.path()).is_none_or(|now| now == found), "bit {bit}");
        }
        fs::write(root.path().join(ORDERS), &whole[..whole.len() - 1]).unwrap();
        assert_eq!(standing(root.path()), None);
    }

    #[test]
    fn a_list_that_is_not_the_last_that_was_written_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let db = Db::open(&path("index"), true).unwrap();
        let witness = Witness::new(root.path(), Metrics::new());
        witness.begin(&db, Head::default());
        let copy = fs::read(path(ORDERS)).unwrap();
        let look = HoldReason::new(HoldKind::Operator, "look");
        let hold = |number| Order::held(InstanceId::new(number, number), JobId(number), &look);
        witness.record(&[hold(1)]);
        let known = fs::read(path(KNOWN)).unwrap();
        witness.record(&[hold(2)]);
        let (last, both) = (fs::read(path(ORDERS)).unwrap(), standing(root.path()));
        assert_eq!(both.as_ref().map(|both| both.held.len()), Some(2));
        // A power cut may have kept the list, and not the word of it.
        fs::write(path(KNOWN), &known).unwrap();
        assert_eq!(standing(root.path()), both);
        fs::write(path(ORDERS), &copy).unwrap();
        assert_eq!(standing(root.path()), None, "an older copy");
        fs::write(path(KNOWN), b"x").unwrap();
        fs::write(path(ORDERS), &last).unwrap();
        assert_eq!(standing(root.path()), None, "when in doubt");
        for none in [Some(&b""[..]), None] {
            fs::remove_file(path(KNOWN)).unwrap();
            none.into_iter().for_each(|raw| fs::write(path(KNOWN), raw).unwrap());
            assert_eq!(standing(root.path()), both, "as an older program leaves it");
            fs::write(path(KNOWN), b"x").unwrap();
        }
        // A start makes both anew.
        witness.begin(&db, Head::default());
        assert_eq!(standing(root.path()), Some(Standing::default()));
    }

    #[test]
    fn what_cannot_be_written_beside_the_index_is_known_until_it_can() {
        let root = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let witness = Witness::new(root.path(), metrics.clone());
        let head = Head {
            seq: 1,
            hash: [1; 32],
            at: Wall(1),
        };
        let place = root.path().join(WITNESS);
        std::fs::write(&place, "").unwrap();
        assert!(witness.is_kept());
        // Opened for reading only, it takes no write.
        witness.lock().witness = Some(File::open(&place).unwrap());
        witness.note(head);
        assert!(!witness.is_kept() && witness.keeps_orders());
        witness.lock().witness = Some(File::create(&place).unwrap());
        witness.note(head);
        assert!(witness.is_kept());
        std::fs::write(root.path().join(ORDERS), "").unwrap();
        witness.lock().orders = Some(File::open(root.path().join(ORDERS)).unwrap());
        witness.record(&[Order::Over { job: 1 }]);
        assert!(!witness.is_kept() && !witness.keeps_orders());
        for file in [WITNESS, ORDERS] {
            assert_eq!(metrics.gate_errors_total.with_label_values(&[file]).get(), 1, "{file}");
        }
    }

    #[test]
    fn an_older_witness_is_no_loss_and_a_newer_one_is() {
        let root = tempfile::tempdir().unwrap();
        let head = |seq, byte| Head {
            seq,
            hash: [byte; 32],
            at: Wall(1),
        };
        assert_eq!(lost_facts(root.path(), &head(0, 0)), 0);
        let witness = Witness::new(root.path(), Metrics::new());
        witness.lock().witness = Some(File::create(root.path().join(WITNESS)).unwrap());
        witness.note(head(9, 1));
        assert_eq!(lost_facts(root.path(), &head(9, 1)), 0);
        assert_eq!(lost_facts(root.path(), &head(12, 3)), 0);
        assert_eq!(lost_facts(root.path(), &head(4, 3)), 5);
        fs::remove_file(root.path().join(WITNESS)).unwrap();
        assert_eq!(lost_facts(root.path(), &head(4, 3)), 0);
    }
}
