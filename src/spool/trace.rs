//! Which instances belong to a patient id, an accession number or a UID. Only keyed hashes are stored: the index gives nobody a
//! list of patients, and nothing to try names against without `trace.key` (0600, beside the payload files, which hold it all anyway).
//!
//! Instances of one patient, accession, study and series form a group, so that an instance costs two short keys:
//! `v | kind | hash | group`, `g | group` (its hashes), `i | group | instance`, `s | hash of the SOP Instance UID | instance`.
//! Entries outlive the instance: they go when the last ledger line about it is pruned. The values come from the caller, because
//! the spool knows no DICOM; what a salvage or an older format has left without them, the running box fills (`untraced`, `traced`).
use super::codec::{unwrap_body, wrap};
use super::core::Core;
use super::db::{Cf, Change, Db, DbError};
use super::model::{CommitError, Instance, ReadError};
use super::record::{InstanceRecord, SeenRecord};
use super::txn::Txn;
use super::{Spool, keys};
use crate::base::clock::Wall;
use crate::base::names::{InstanceId, Uid};
use crate::base::phi::Phi;
use crate::base::whole;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What an instance can be asked for by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Patient = 1,
    Accession = 2,
    Study = 3,
    Series = 4,
    Sop = 5,
}

impl By {
    pub const ALL: [Self; 5] = [Self::Patient, Self::Accession, Self::Study, Self::Series, Self::Sop];
    /// Those whose values say nothing of a person by themselves.
    pub const UIDS: [Self; 3] = [Self::Study, Self::Series, Self::Sop];

    /// The word of command line, HTTP and ledger.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Accession => "accession",
            Self::Study => "study",
            Self::Series => "series",
            Self::Sop => "sop",
        }
    }
}

/// One value that an instance can be found by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trait {
    pub by: By,
    pub value: Phi<String>,
}

type Hash = [u8; 16];

/// The secret of the hashes. Zeros where there is no directory (the simulator).
#[derive(Clone, Copy, Default)]
pub(super) struct Key([u8; 32]);

pub(super) const KEY_FILE: &str = "trace.key";

impl Key {
    /// Reads the key of a spool, or makes one.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        let path = root.join(KEY_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let hex = blake3::Hash::from_hex(text.trim()).map_err(io::Error::other)?;
                return Ok(Self(*hex.as_bytes()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let key: [u8; 32] = rand::random();
        let text = format!("{}\n", blake3::Hash::from_bytes(key).to_hex());
        whole::write(&path, 0o600, text.as_bytes())?;
        Ok(Self(key))
    }

    fn hash(&self, by: By, value: &str) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        short(hasher.update(&[by as u8]).update(value.as_bytes()))
    }

    /// What an access fact says of the value that was asked for.
    pub(super) fn mark(&self, value: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hex(&short(hasher.update(b"asked").update(value.as_bytes())))
    }

    /// Tells one key from another and gives neither away.
    fn check(&self) -> Hash {
        short(blake3::Hasher::new_keyed(&self.0).update(b"check"))
    }
}

fn short(hasher: &blake3::Hasher) -> Hash {
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As values are compared: without the padding of their VR.
fn plain(value: &str) -> &str {
    value.trim_matches([' ', '\0'])
}

fn value_key(by: By, hash: &Hash, group: &[u8]) -> Vec<u8> {
    [&[b'v', by as u8][..], hash, group].concat()
}

fn group_key(group: &Hash) -> Vec<u8> {
    [&b"g"[..], group].concat()
}

fn member_key(group: &[u8], id: &[u8]) -> Vec<u8> {
    [&b"i"[..], group, id].concat()
}

fn sop_key(hash: &[u8], id: &[u8]) -> Vec<u8> {
    [&b"s"[..], hash, id].concat()
}

/// Notes by what an instance can be found. Answers what its history is to remember, so that it can be forgotten again.
pub(super) fn record(txn: &mut Txn<'_>, id: InstanceId, traits: &[Trait]) -> Result<Vec<u8>, CommitError> {
    let key = txn.book.core.trace_key();
    let (mut grouped, mut sops) = (BTreeSet::new(), BTreeSet::new());
    for one in traits {
        let value = plain(one.value.expose());
        match one.by {
            _ if value.is_empty() => {}
            By::Sop => drop(sops.insert(key.hash(By::Sop, value))),
            by => drop(grouped.insert((by, key.hash(by, value)))),
        }
    }
    if grouped.is_empty() && sops.is_empty() {
        return Ok(Vec::new());
    }
    let mut listed = Vec::with_capacity(grouped.len() * 17);
    for (by, hash) in &grouped {
        listed.push(*by as u8);
        listed.extend_from_slice(hash);
    }
    let group = short(blake3::Hasher::new().update(&listed));
    if txn.get(Cf::Trace, &group_key(&group))?.is_none() {
        txn.put(Cf::Trace, group_key(&group), wrap(&listed));
        for (by, hash) in &grouped {
            txn.put(Cf::Trace, value_key(*by, hash, &group), Vec::new());
        }
    }
    txn.put(Cf::Trace, member_key(&group, &id.0), Vec::new());
    let mut note = group.to_vec();
    for sop in sops {
        txn.put(Cf::Trace, sop_key(&sop, &id.0), Vec::new());
        note.extend_from_slice(&sop);
    }
    Ok(note)
}

/// As `record`, for an instance that the index has already: decided anew, or found again. What was known of it stays. The note stands before
/// all facts of the instance, and is forgotten with the last of them.
pub(super) fn add(txn: &mut Txn<'_>, id: InstanceId, traits: &[Trait]) -> Result<(), CommitError> {
    let note = record(txn, id, traits)?;
    if note.is_empty() {
        return Ok(());
    }
    let mut next = 0;
    for key in txn.keys(Cf::History, &id.0, NOTES_MAX)? {
        if txn.get(Cf::History, &key)?.as_ref() == Some(&note) {
            return Ok(());
        }
        if let Some((_, Wall(0), number)) = keys::history_of(&key) {
            next = number + 1;
        }
    }
    txn.put(Cf::History, keys::history(id, Wall(0), next), note);
    Ok(())
}

/// Entries of one instance, the first of all, among which a note is looked for.
const NOTES_MAX: usize = 1_000;

/// Takes back what `record` has answered the note for; a group goes with its last instance.
pub(super) fn forget(txn: &mut Txn<'_>, id: InstanceId, note: &[u8]) -> Result<(), CommitError> {
    let Some((group, sops)) = note.split_first_chunk::<16>() else {
        return Ok(());
    };
    for sop in sops.chunks_exact(16) {
        txn.delete(Cf::Trace, sop_key(sop, &id.0));
    }
    txn.delete(Cf::Trace, member_key(group, &id.0));
    if !txn.keys(Cf::Trace, &member_key(group, &[]), 1)?.is_empty() {
        return Ok(());
    }
    let listed = txn.get(Cf::Trace, &group_key(group))?;
    let listed = listed.and_then(|raw| unwrap_body(&raw).ok().map(<[u8]>::to_vec));
    for one in listed.unwrap_or_default().chunks_exact(17) {
        txn.delete(Cf::Trace, [&b"v"[..], one, group].concat());
    }
    txn.delete(Cf::Trace, group_key(group));
    Ok(())
}

/// Where filling goes on; the key is there until all is filled.
const FILL: &[u8] = b"trace/fill";
/// Instances that a start took in again without their traits; each goes when it is filled.
const LACKS: &[u8] = b"trace/lacks/";
/// Which key the entries were made with.
const CHECK: &[u8] = b"trace/check";

/// The order to fill the index from the payloads, from the first.
pub(super) fn fill_order() -> Change {
    (Cf::Meta, FILL.to_vec(), Some(wrap(&[])))
}

/// The traits of an instance that is taken in again are to be filled in, from its payload.
pub(super) fn lacks(txn: &mut Txn<'_>, id: InstanceId) {
    txn.put(Cf::Meta, lacks_key(id), Vec::new());
}

fn lacks_key(id: InstanceId) -> Vec<u8> {
    [LACKS, &id.0].concat()
}

/// The next instances that lack their traits by the list of those that were taken in again.
fn lacking(db: &Db, limit: usize) -> Result<Vec<InstanceId>, DbError> {
    let mut found = Vec::new();
    db.scan(Cf::Meta, LACKS, &keys::behind(LACKS), |key, _| {
        found.extend(keys::instance_of(&key[LACKS.len()..]));
        found.len() < limit
    })?;
    Ok(found)
}

/// At start: entries under another key (its file was lost) can be found no more, and are made anew as far as payloads are there.
pub(super) fn begin(core: &Core, db: &Db, fresh: bool) -> Result<(), DbError> {
    let check = core.trace_key().check();
    let known = db.get(Cf::Meta, CHECK)?;
    if known.as_deref() == Some(&wrap(&check)[..]) {
        return Ok(());
    }
    let mut changes = vec![(Cf::Meta, CHECK.to_vec(), Some(wrap(&check)))];
    if known.is_some() {
        tracing::warn!("trace.key is another than before: what has left the spool can be traced by our own ids only");
    }
    if !fresh {
        changes.push(fill_order());
    }
    db.write(changes.into_iter())
}

/// One page of instances.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traced {
    /// Oldest first.
    pub instances: Vec<InstanceId>,
    pub more: bool,
    /// False while the index is still being filled, so that older instances may lack.
    pub complete: bool,
}

/// A batch of instances whose traits are to be filled in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Untraced {
    pub instances: Vec<Arc<Instance>>,
    /// They are of the list of those that a start took in again. Empty: of all instances, by their ids.
    listed: Vec<InstanceId>,
}

impl Untraced {
    /// Whether nothing is left to be filled behind it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.instances.is_empty() && self.listed.is_empty()
    }
}

/// Groups of one value that are looked at.
const GROUPS_MAX: usize = 10_000;

fn search(core: &Core, db: &Db, by: &[By], value: &str, page: (Option<InstanceId>, usize)) -> Result<Traced, DbError> {
    let (after, limit) = page;
    let (key, value) = (core.trace_key(), plain(value));
    let mut found = BTreeSet::new();
    let first = after.map_or(Vec::new(), |id| [&id.0[..], &[0]].concat());
    let mut members = |prefix: Vec<u8>| {
        let (from, end) = ([&prefix[..], &first].concat(), keys::behind(&prefix));
        let mut left = limit + 1;
        db.scan(Cf::Trace, &from, &end, |raw, _| {
            found.extend(keys::instance_of(&raw[prefix.len()..]));
            left -= 1;
            left > 0
        })
    };
    for by in by {
        let hash = key.hash(*by, value);
        if *by == By::Sop {
            members(sop_key(&hash, &[]))?;
            continue;
        }
        let prefix = value_key(*by, &hash, &[]);
        let mut groups = Vec::new();
        db.scan(Cf::Trace, &prefix, &keys::behind(&prefix), |raw, _| {
            groups.push(raw[prefix.len()..].to_vec());
            groups.len() < GROUPS_MAX
        })?;
        for group in groups {
            members(member_key(&group, &[]))?;
        }
    }
    let complete = db.get(Cf::Meta, FILL)?.is_none() && lacking(db, 1)?.is_empty();
    if !complete {
        found.extend(
            by_older_keys(db, by, value)?
                .into_iter()
                .filter(|id| after.is_none_or(|after| *id > after)),
        );
    }
    let mut instances: Vec<InstanceId> = found.into_iter().collect();
    let more = instances.len() > limit;
    instances.truncate(limit);
    Ok(Traced {
        instances,
        more,
        complete,
    })
}

/// What the other families say of a UID: enough until the index is filled.
fn by_older_keys(db: &Db, by: &[By], value: &str) -> Result<Vec<InstanceId>, DbError> {
    let mut found = Vec::new();
    let Ok(uid) = Uid::parse(value) else {
        return Ok(found);
    };
    if by.contains(&By::Study) {
        let prefix = keys::study_prefix(&uid);
        db.scan(Cf::Study, &prefix, &keys::behind(&prefix), |raw, _| {
            found.extend(keys::instance_of(&raw[prefix.len()..]));
            true
        })?;
    }
    if by.contains(&By::Sop) {
        let seen = db.get(Cf::Seen, &keys::seen(&uid))?;
        let seen = seen.and_then(|raw| SeenRecord::decode(&raw).ok()).unwrap_or_default();
        found.extend(seen.entries.iter().map(|entry| entry.instance));
    }
    Ok(found)
}

impl Spool {
    /// The instances that `value` names in one of these ways, after `after`, at most `limit`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn traced_by(
        &self,
        by: &[By],
        value: &Phi<String>,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Result<Traced, ReadError> {
        let (core, by, value) = (self.core.clone(), by.to_vec(), value.clone());
        self.read(move |db| search(&core, db, &by, value.expose(), (after, limit)))
            .await
    }

    /// A keyed hash of what somebody asked for: for the ledger, in place of the value.
    #[must_use]
    pub fn mark_of(&self, value: &Phi<String>) -> String {
        self.core.trace_key().mark(plain(value.expose()))
    }

    /// The next instances whose traits are not in the index; `None`: all is filled.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn untraced(&self, limit: usize) -> Result<Option<Untraced>, ReadError> {
        self.read(move |db| {
            let mut batch = Untraced {
                listed: lacking(db, limit)?,
                ..Untraced::default()
            };
            for id in &batch.listed {
                let raw = db.get(Cf::Instance, &id.0)?;
                let record = raw.and_then(|raw| InstanceRecord::decode(&raw).ok());
                // One that has left again is only struck off the list.
                batch.instances.extend(record.map(|record| Arc::new(record.instance)));
            }
            if !batch.listed.is_empty() {
                return Ok(Some(batch));
            }
            let Some(raw) = db.get(Cf::Meta, FILL)? else {
                return Ok(None);
            };
            let from = unwrap_body(&raw).unwrap_or_default().to_vec();
            db.scan(Cf::Instance, &from, &[], |_, value| {
                let record = InstanceRecord::decode(value);
                batch
                    .instances
                    .extend(record.ok().map(|record| Arc::new(record.instance)));
                batch.instances.len() < limit
            })?;
            Ok(Some(batch))
        })
        .await
    }

    /// Takes the traits of a batch that `untraced` has answered, in its order; one without instances ends the filling.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn fill_traced(&self, batch: &Untraced, found: Vec<(InstanceId, Vec<Trait>)>) -> Result<(), CommitError> {
        let listed = batch.listed.clone();
        self.submit(move |txn| {
            for (id, traits) in &found {
                add(txn, *id, traits)?;
            }
            match found.last() {
                _ if !listed.is_empty() => listed.into_iter().for_each(|id| txn.delete(Cf::Meta, lacks_key(id))),
                None => txn.delete(Cf::Meta, FILL),
                Some((last, _)) => txn.put(Cf::Meta, FILL, wrap(&[&last.0[..], &[0]].concat())),
            }
            Ok(())
        })
        .await
    }
}
