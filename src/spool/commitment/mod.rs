//! Storage commitment, as far as it must survive: what waits for a destination's word, what this box has asked, what sources
//! have asked and were told. Knows UIDs, never DICOM; the room `commitment` speaks to the peers.
//!
//! A job of a destination that commits does not end with its C-STORE answer. It stands in `keys::AWAITS` instead of the queue,
//! so its reference keeps the payload out of the cache, until the destination has committed (`outgoing.rs`). Every change is
//! one synced batch with its facts. A crash between a request and its record, or its record and its answer, repeats the request.
//!
//! | file | holds |
//! | --- | --- |
//! | `outgoing.rs` | requests of this box to destinations |
//! | `ripe.rs` | what a destination is to be asked for next |
//! | `answer.rs` | what a destination's answer, or a person's, does to the jobs |
//! | `incoming.rs` | requests of sources to this box, persisted until their answer was taken |
//! | `judging.rs` | what their instances are answered, and the reading before a promise |
//! | `standing.rs` | what this box can promise of one instance, by the index |
//! | `gone.rs` | what is remembered of instances that have left the cache |
mod answer;
pub(super) mod gone;
mod incoming;
pub(super) mod judging;
mod outgoing;
mod ripe;
mod standing;

pub use incoming::{Accepted, Answer, Demand, Judgement, Level, Open, Patience, Progress};
pub use outgoing::{Outcome, Outstanding, Spoken, Told};
pub use ripe::{Ask, Batch, Study};

use super::codec::{Damaged, Reader, Writer};
use super::db::{Cf, Db, DbError};
use super::due::Lane;
use super::forget::Family;
use super::keys;
use super::model::{CommitError, JobKey, ReadError};
use super::record::JobRecord;
use super::txn::{Effect, Txn};
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, Uid};
use std::sync::Arc;

/// One instance by its names on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Named {
    pub class: Uid,
    pub instance: Uid,
}

impl Named {
    fn encode(&self, w: &mut Writer) {
        w.short(self.class.as_str());
        w.short(self.instance.as_str());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            class: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            instance: Uid::parse(r.short()?).map_err(|_| Damaged)?,
        })
    }
}

/// How far a job's destination has committed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::spool) struct Pledge {
    /// How often the destination would not commit after it had taken it.
    pub refused: u32,
    pub sent: Option<Sent>,
}

/// The destination has answered success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::spool) struct Sent {
    pub at: Wall,
    pub status: u16,
    /// As it left, which the edits may have changed.
    pub instance: Uid,
    /// Hash of its study; zeros without one.
    pub study: [u8; 16],
    /// The request that asks for it.
    pub asked: Option<u64>,
}

impl Pledge {
    pub(in crate::spool) fn encode(&self, w: &mut Writer) {
        w.u32(self.refused);
        w.u8(u8::from(self.sent.is_some()));
        if let Some(sent) = &self.sent {
            w.u64(sent.at.0);
            w.u32(u32::from(sent.status));
            w.short(sent.instance.as_str());
            w.raw(&sent.study);
            w.u64(sent.asked.unwrap_or(0));
        }
    }

    pub(in crate::spool) fn decode(r: &mut Reader<'_>) -> Result<Self, Damaged> {
        let refused = r.u32()?;
        let sent = match r.u8()? {
            0 => None,
            _ => Some(Sent {
                at: Wall(r.u64()?),
                status: u16::try_from(r.u32()?).map_err(|_| Damaged)?,
                instance: Uid::parse(r.short()?).map_err(|_| Damaged)?,
                study: r.array()?,
                asked: Some(r.u64()?).filter(|id| *id > 0),
            }),
        };
        Ok(Self { refused, sent })
    }
}

/// A confirmed job begins to wait. The caller places it.
pub(super) fn sent(
    txn: &mut Txn<'_>,
    job: &mut JobRecord,
    status: u16,
    sent_as: Option<Uid>,
) -> Result<(), CommitError> {
    // Without its record there is nothing to name it by; the claim that found the job had read it.
    let record = txn.instance(job.instance)?.ok_or(CommitError::Damaged)?;
    let instance = record.instance;
    job.hold = None;
    job.quiet = None;
    job.pledge.sent = Some(Sent {
        at: txn.now,
        status,
        instance: sent_as.unwrap_or(instance.sop_instance),
        study: instance.study.as_ref().map_or([0; 16], keys::study_prefix),
        asked: None,
    });
    Ok(())
}

/// A job that waited when its index was lost waits on, as a new job: its destination has the instance, and is asked for it again,
/// for the request that had asked hung on the number of the former job.
pub(super) fn go_on(txn: &mut Txn<'_>, key: JobKey, pledge: Pledge) -> Result<(), CommitError> {
    let Some(mut job) = txn.job(key)? else {
        return Ok(());
    };
    super::admit::displace(txn, key, &job);
    job.quiet = None;
    job.pledge = pledge;
    if let Some(sent) = &mut job.pledge.sent {
        sent.asked = None;
    }
    super::admit::place(txn, key, &job);
    Ok(())
}

/// Writes the one entry of a job that waits. Called by `admit::place`.
pub(super) fn place(txn: &mut Txn<'_>, key: JobKey, pledge: &Pledge, lane: Arc<Lane>) {
    if let Some(sent) = &pledge.sent {
        let value = super::txn::encode_number(sent.at.0);
        txn.put(Cf::Meta, keys::awaits(key, sent.asked.is_some(), sent.study), value);
        txn.effects.push(Effect::Awaits(lane, 1));
    }
}

/// Takes it away. Called by `admit::displace`.
pub(super) fn displace(txn: &mut Txn<'_>, key: JobKey, pledge: &Pledge, lane: Arc<Lane>) {
    if let Some(sent) = &pledge.sent {
        txn.delete(Cf::Meta, keys::awaits(key, sent.asked.is_some(), sent.study));
        txn.effects.push(Effect::Awaits(lane, -1));
    }
}

impl super::Spool {
    /// Says whether a destination commits to keep what it takes. From then on its confirmed jobs wait for that.
    pub fn commits(&self, destination: &DestinationId, commits: bool) {
        let lane = self.core.lanes.get(destination);
        lane.unwrap_or_else(|| self.core.lanes.insert(destination, None))
            .set_commits(commits);
    }

    /// Jobs that wait for a commitment, by destination; also those whose destination is not asked any more.
    #[must_use]
    pub fn awaiting(&self, destination: &DestinationId) -> u64 {
        let gauge = &self.core.metrics.commitment.awaiting;
        u64::try_from(gauge.with_label_values(&[destination.as_str()]).get()).unwrap_or(0)
    }

    /// The destinations that jobs wait for, asked or not.
    #[must_use]
    pub fn awaited(&self) -> Vec<DestinationId> {
        let lanes = self.core.lanes.all().into_iter();
        let names = lanes.map(|lane| lane.name.clone());
        names.filter(|name| self.awaiting(name) > 0).collect()
    }

    /// When the oldest job was sent that waits for a destination's commitment, asked for or not; `None` when none waits. Reads all
    /// of them.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn awaits_since(&self, destination: &DestinationId) -> Result<Option<Wall>, ReadError> {
        let Some(lane) = self.core.lanes.get(destination) else {
            return Ok(None);
        };
        self.read(move |db| {
            let prefix = [keys::AWAITS, &lane.number.to_be_bytes()].concat();
            let mut oldest: Option<Wall> = None;
            db.scan(Cf::Meta, &prefix, &keys::behind(&prefix), |_, value| {
                let at = super::txn::decode_number(value).map_or(Wall(0), Wall);
                oldest = Some(oldest.map_or(at, |known| known.min(at)));
                true
            })?;
            Ok(oldest)
        })
        .await
    }
}

/// What of all this outlives its use: tombstones, and requests that are over.
pub(super) const FAMILY: Family = Family {
    cf: Cf::Meta,
    prefix: keys::COMMITMENT,
    is_old: is_over,
    forget,
};

fn is_over(key: &[u8], value: &[u8], before: Wall) -> bool {
    if key.starts_with(keys::GONE) {
        gone::Gone::decode(value).map_or(true, |gone| gone.at < before)
    } else if key.starts_with(keys::OUTGOING) {
        outgoing::Outgoing::decode(value).map_or(true, |asked| asked.is_over(before))
    } else if key.starts_with(keys::INCOMING_STATE) {
        incoming::State::decode(value).map_or(true, |state| state.is_over(before))
    } else {
        false
    }
}

fn forget(txn: &mut Txn<'_>, key: Vec<u8>, raw: Vec<u8>) -> Result<(), CommitError> {
    let kept = match () {
        () if key.starts_with(keys::GONE) => gone::Gone::decode(&raw).is_ok(),
        () if key.starts_with(keys::OUTGOING) => outgoing::forget(txn, &raw),
        () => incoming::forget(txn, &key)?,
    };
    if kept {
        txn.delete(Cf::Meta, key);
    } else {
        txn.quarantine(Cf::Meta, &key, raw);
    }
    Ok(())
}

/// What does not hold together, for `fsck`.
pub(super) fn check(db: &Db, mut problem: impl FnMut(String)) -> Result<(), DbError> {
    db.scan(Cf::Meta, keys::AWAITS, &keys::behind(keys::AWAITS), |raw, _| {
        let sound = keys::awaits_of(raw).is_some_and(|(key, asked, study)| {
            let job = db.get(Cf::Job, &keys::job(key)).ok().flatten();
            let job = job.and_then(|raw| JobRecord::decode(&raw).ok());
            job.is_some_and(|job| {
                let sent = job.pledge.sent.as_ref();
                job.hold.is_none() && sent.is_some_and(|sent| sent.asked.is_some() == asked && sent.study == study)
            })
        });
        if !sound {
            let id = keys::awaits_of(raw).map_or(0, |(key, ..)| key.job.0);
            problem(format!("commitment entry of job {id}: no such job waits"));
        }
        true
    })?;
    db.scan(
        Cf::Meta,
        keys::COMMITMENT,
        &keys::behind(keys::COMMITMENT),
        |key, value| {
            let readable = match () {
                () if key.starts_with(keys::OUTGOING) => outgoing::Outgoing::decode(value).is_ok(),
                () if key.starts_with(keys::INCOMING) => incoming::Request::decode(value).is_ok(),
                () if key.starts_with(keys::INCOMING_STATE) => incoming::State::decode(value).is_ok(),
                () if key.starts_with(keys::GONE) => gone::Gone::decode(value).is_ok(),
                () => true,
            };
            if !readable {
                problem("a record of storage commitment cannot be read".to_owned());
            }
            true
        },
    )
}

/// Whether a key is that of a source's request.
pub(super) fn is_request(key: &[u8]) -> bool {
    key.starts_with(keys::INCOMING_STATE)
}

/// Whether a key is carried over by a rebuild as it is: what sources asked and what is remembered of instances that left. What
/// this box had asked hangs on job numbers that are given anew; it is asked again.
pub(super) fn outlives(key: &[u8], value: &[u8]) -> bool {
    match () {
        () if key.starts_with(keys::INCOMING) => incoming::Request::decode(value).is_ok(),
        () if key.starts_with(keys::INCOMING_STATE) => incoming::State::decode(value).is_ok(),
        () if key.starts_with(keys::INCOMING_UID) => super::txn::decode_number(value).is_ok(),
        () if key.starts_with(keys::GONE) => gone::Gone::decode(value).is_ok(),
        () => false,
    }
}
