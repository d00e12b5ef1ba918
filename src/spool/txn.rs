//! One batch in the making. Reads see what earlier requests of the same batch wrote; a request that fails leaves
//! nothing behind. What memory must learn (counts, wake-ups) waits in `effects` until the batch is durable.
use super::cache::End;
use super::core::Core;
use super::db::{Cf, Change, Db, DbError};
use super::due::{Guard, Lane};
use super::keys;
use super::ledger::{Fact, Head};
use super::model::{CommitError, HoldKind, JobKey, Priority};
use super::payload::Mark;
use super::record::{Damaged, InstanceRecord, JobRecord, SeenRecord};
use super::study::StudyRecord;
use super::witness::Order;
use crate::base::clock::Wall;
use crate::base::fault::{Plant, planted};
use crate::base::names::{DestinationId, InstanceId, JobId, Uid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the committer alone keeps: numbers that never go back, and the end of the ledger.
pub(super) struct Book {
    pub core: Arc<Core>,
    pub next_job: u64,
    pub ledger: Head,
    /// Destinations numbered in this batch, not yet written.
    fresh: Vec<(DestinationId, u32)>,
    dirty: bool,
}

/// What memory learns when the batch is durable.
pub(super) enum Effect {
    Queued(Arc<Lane>, Priority, Wall),
    Unqueued(Arc<Lane>, Priority),
    Held(Option<DestinationId>, HoldKind),
    Unheld(Option<DestinationId>, HoldKind),
    Suspended(Arc<Lane>, bool),
    Pending(i64),
    Cached(i64, End),
    Mark(Mark),
    Return(Guard),
    Quarantined(Cf),
    /// A job of the lane waits because rules say so.
    Waits(Arc<Lane>),
    /// So many jobs of the lane more, or fewer, wait for its destination's commitment.
    Awaits(Arc<Lane>, i64),
    /// For the list of persons' orders.
    Order(Order),
    /// So many instances more, or fewer, whose payload is damaged.
    Damaged(i64),
    /// The file of an instance that has left goes to `quarantine/`.
    Aside(InstanceId),
}

type Place = (Cf, Vec<u8>);

/// The batch.
pub(super) struct Txn<'a> {
    db: &'a Db,
    pub book: &'a mut Book,
    overlay: BTreeMap<Place, Option<Vec<u8>>>,
    undo: Vec<(Place, Option<Option<Vec<u8>>>)>,
    pub effects: Vec<Effect>,
    pub now: Wall,
}

/// Where to roll back to.
pub(super) struct Savepoint {
    undo: usize,
    effects: usize,
    ledger: Head,
}

impl Book {
    pub(super) fn load(core: Arc<Core>, db: &Db) -> Result<Self, DbError> {
        let next_job = match db.get(Cf::Meta, NEXT_JOB)? {
            Some(raw) => decode_number(&raw).unwrap_or(0),
            None => 1,
        };
        // A damaged counter must never hand out a number twice: go on behind the highest one in use.
        let mut highest = 0;
        if next_job == 0 {
            db.scan(Cf::Job, &[], &[], |key, _| {
                highest = highest.max(keys::job_of(key).map_or(0, |k| k.job.0));
                true
            })?;
            highest += 1_000_000;
        }
        Ok(Self {
            core,
            next_job: next_job.max(highest),
            ledger: Head::load(db)?,
            fresh: Vec::new(),
            dirty: false,
        })
    }
}

impl Book {
    /// Job numbers below this one were given out by a former index; the next batch writes it down, whether or not it makes a job.
    pub(super) fn go_on_behind(&mut self, next_job: u64) {
        if next_job > self.next_job {
            self.next_job = next_job;
            self.dirty = true;
        }
    }
}

pub(super) const NEXT_JOB: &[u8] = b"next_job";
pub(super) const DESTINATION: &[u8] = b"destination/";
pub(super) const SUSPENDED: &[u8] = b"suspended/";
/// Destinations that have had a job which rules put off: see `Lane::waits`.
pub(super) const WAITS: &[u8] = b"waits/";
pub(super) const SCHEMA: &[u8] = b"schema";

pub(super) fn encode_number(number: u64) -> Vec<u8> {
    super::codec::wrap(&number.to_be_bytes())
}

pub(super) fn decode_number(raw: &[u8]) -> Result<u64, Damaged> {
    let body = super::codec::unwrap_body(raw)?;
    Ok(u64::from_be_bytes(body.try_into().map_err(|_| Damaged)?))
}

pub(super) fn meta_key(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}

/// Where a record of a family lies in quarantine.
pub(super) fn aside(cf: Cf, key: &[u8]) -> Vec<u8> {
    [cf.name().as_bytes(), b"/", key].concat()
}

impl<'a> Txn<'a> {
    pub(super) fn new(db: &'a Db, book: &'a mut Book) -> Self {
        let now = book.core.clock.now();
        Self {
            db,
            book,
            overlay: BTreeMap::new(),
            undo: Vec::new(),
            effects: Vec::new(),
            now,
        }
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint {
            undo: self.undo.len(),
            effects: self.effects.len(),
            ledger: self.book.ledger,
        }
    }

    pub(super) fn roll_back(&mut self, to: &Savepoint) {
        for (place, before) in self.undo.drain(to.undo..).rev() {
            match before {
                Some(value) => self.overlay.insert(place, value),
                None => self.overlay.remove(&place),
            };
        }
        self.effects.truncate(to.effects);
        self.book.ledger = to.ledger;
    }

    /// The changes of the whole batch, and its effects.
    pub(super) fn finish(mut self) -> (Vec<Change>, Vec<Effect>) {
        if self.book.dirty {
            self.book.dirty = false;
            let next = encode_number(self.book.next_job);
            self.overlay.insert((Cf::Meta, NEXT_JOB.to_vec()), Some(next));
        }
        for (name, number) in std::mem::take(&mut self.book.fresh) {
            let key = meta_key(DESTINATION, name.as_str());
            self.overlay.insert((Cf::Meta, key), Some(encode_number(number.into())));
        }
        let changes = self.overlay.into_iter().map(|((cf, key), value)| (cf, key, value));
        (changes.collect(), self.effects)
    }

    pub(super) fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, CommitError> {
        match self.overlay.get(&(cf, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.read(self.db.get(cf, key)),
        }
    }

    pub(super) fn put(&mut self, cf: Cf, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.set((cf, key.into()), Some(value));
    }

    pub(super) fn delete(&mut self, cf: Cf, key: impl Into<Vec<u8>>) {
        self.set((cf, key.into()), None);
    }

    fn set(&mut self, place: Place, value: Option<Vec<u8>>) {
        let before = self.overlay.insert(place.clone(), value);
        self.undo.push((place, before));
    }

    /// The keys with this prefix, at most `limit`, as this batch would leave them.
    pub(super) fn keys(&self, cf: Cf, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, CommitError> {
        let end = keys::behind(prefix);
        let mut found = Vec::new();
        let scan = self.db.scan(cf, prefix, &end, |key, _| {
            if self.overlay.get(&(cf, key.to_vec())) != Some(&None) {
                found.push(key.to_vec());
            }
            found.len() < limit
        });
        self.read(scan)?;
        let fresh = self.overlay.range((cf, prefix.to_vec())..);
        for ((_, key), value) in fresh.take_while(|((c, k), _)| *c == cf && k.starts_with(prefix)) {
            if found.len() < limit && value.is_some() && !found.contains(key) {
                found.push(key.clone());
            }
        }
        Ok(found)
    }

    /// A read error of the index is a reason to reopen it.
    fn read<T>(&self, result: Result<T, DbError>) -> Result<T, CommitError> {
        result.map_err(|_| {
            self.book.core.gate.latch("index_read");
            CommitError::GateLatched
        })
    }

    /// A record of `cf`, or `None`. One that cannot be read goes to quarantine, and so does not block a queue again.
    pub(super) fn record<T>(
        &mut self,
        cf: Cf,
        key: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, Damaged>,
    ) -> Result<Option<T>, CommitError> {
        match self.get(cf, key)? {
            None => Ok(None),
            Some(raw) => match decode(&raw) {
                Ok(record) => Ok(Some(record)),
                Err(Damaged) => {
                    self.quarantine(cf, key, raw);
                    Ok(None)
                }
            },
        }
    }

    /// Puts an unreadable record aside, bytes and all.
    pub(super) fn quarantine(&mut self, cf: Cf, key: &[u8], raw: Vec<u8>) {
        self.put(Cf::Quarantine, aside(cf, key), raw);
        self.delete(cf, key);
        self.fact(Fact::new(super::ledger::FactKind::Quarantined).text(cf.name()));
        self.effects.push(Effect::Quarantined(cf));
    }

    pub(super) fn job(&mut self, key: JobKey) -> Result<Option<JobRecord>, CommitError> {
        self.record(Cf::Job, &keys::job(key), JobRecord::decode)
    }

    pub(super) fn put_job(&mut self, key: JobKey, job: &JobRecord) {
        self.put(Cf::Job, keys::job(key), job.encode());
    }

    pub(super) fn instance(&mut self, id: InstanceId) -> Result<Option<InstanceRecord>, CommitError> {
        self.record(Cf::Instance, &id.0, InstanceRecord::decode)
    }

    pub(super) fn put_instance(&mut self, record: &InstanceRecord) {
        self.put(Cf::Instance, record.instance.id.0, record.encode());
    }

    pub(super) fn seen(&mut self, sop_instance: &Uid) -> Result<SeenRecord, CommitError> {
        let found = self.record(Cf::Seen, &keys::seen(sop_instance), SeenRecord::decode)?;
        Ok(found.unwrap_or_default())
    }

    pub(super) fn put_seen(&mut self, sop_instance: &Uid, seen: &SeenRecord) {
        if seen.entries.is_empty() {
            self.delete(Cf::Seen, keys::seen(sop_instance));
        } else {
            self.put(Cf::Seen, keys::seen(sop_instance), seen.encode());
        }
    }

    pub(super) fn study(&mut self, study: &Uid) -> Result<Option<StudyRecord>, CommitError> {
        self.record(Cf::Study, &keys::study_prefix(study), StudyRecord::decode)
    }

    pub(super) fn put_study(&mut self, study: &Uid, seen: &StudyRecord) {
        self.put(Cf::Study, keys::study_prefix(study), seen.encode());
    }

    pub(super) fn fact(&mut self, fact: Fact) {
        self.fact_with(fact, Vec::new());
    }

    /// As `fact`, with what its entry among the instance's facts is to remember.
    pub(super) fn fact_with(&mut self, fact: Fact, note: Vec<u8>) {
        if planted(Plant::ForgetFacts) {
            return;
        }
        let about = fact.about();
        let (key, record) = self.book.ledger.append(fact, self.now);
        if let Some(id) = about {
            let Head { at, seq, .. } = self.book.ledger;
            self.put(Cf::History, keys::history(id, at, seq), note);
        }
        if let Some(late) = self.book.ledger.late(self.now) {
            self.put(Cf::Meta, keys::late(late), Vec::new());
        }
        self.put(Cf::Ledger, key, record);
    }

    /// A job id that was never used before.
    pub(super) fn new_job(&mut self) -> JobId {
        let id = self.book.next_job;
        self.book.next_job += 1;
        self.book.dirty = true;
        JobId(id)
    }

    /// A destination's number; a new one is written with this batch whatever becomes of the request that needed it.
    pub(super) fn number(&mut self, destination: Option<&DestinationId>) -> u32 {
        let Some(name) = destination else {
            return keys::UNDECIDED;
        };
        let (lane, fresh) = self.book.core.lanes.ensure(name);
        if fresh {
            self.book.fresh.push((name.clone(), lane.number));
        }
        lane.number
    }

    /// The lane of a number; `None` for the undecided and for a number that is not known.
    pub(super) fn lane(&self, number: u32) -> Option<Arc<Lane>> {
        self.book.core.lanes.by_number(number)
    }

    pub(super) fn name(&self, number: u32) -> Option<DestinationId> {
        self.lane(number).map(|lane| lane.name.clone())
    }
}
