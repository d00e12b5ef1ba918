//! What the spool holds of an instance, looked at from all sides, for those who reconcile: record, jobs with their entries, payload file.
//! Reads only; says what it finds and judges nothing. What changes while it looks is looked at again by the caller.
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::keys;
use super::late::{self, Late};
use super::ledger::{self, Fact};
use super::model::{HoldReason, Instance, ReadError};
use super::payload::path_of;
use super::record::{InstanceRecord, JobRecord};
use super::{Spool, damaged};
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId};

/// One instance as it lies here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    pub instance: Instance,
    /// No job is left: it is cache.
    pub delivered: bool,
    /// Its payload is marked as damaged.
    pub damaged: bool,
    /// Bytes of its file; `None`: there is none.
    pub file: Option<u64>,
    /// Bytes that the file should have.
    pub expected: u64,
    pub jobs: Vec<HeldJob>,
}

/// A job that has not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldJob {
    pub job: u64,
    /// `None`: undecided, or of a name that is lost.
    pub destination: Option<DestinationId>,
    /// False: nothing but a reference is left of it.
    pub record: bool,
    /// It stands in the queue or among the holds.
    pub entry: bool,
    pub hold: Option<(Wall, HoldReason)>,
    /// Its destination has it, and has not committed to it yet.
    pub sent: bool,
    pub attempts: u32,
    pub enqueued: Wall,
}

/// One look at an instance: what is here, and what is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    pub id: InstanceId,
    pub holding: Option<Holding>,
    pub facts: Vec<Fact>,
}

fn holding(core: &Core, db: &Db, record: InstanceRecord) -> Result<Holding, DbError> {
    let id = record.instance.id;
    let mut jobs = Vec::new();
    let mut references = Vec::new();
    db.scan(Cf::Ref, &id.0, &keys::behind(&id.0), |key, _| {
        references.extend(keys::reference_of(key).map(|(_, job)| job));
        true
    })?;
    for key in references {
        let raw = db.get(Cf::Job, &keys::job(key))?;
        let job = raw.and_then(|raw| JobRecord::decode(&raw).ok());
        let entry = match &job {
            None => false,
            Some(job) => {
                let found = match (&job.hold, &job.pledge.sent) {
                    (Some((since, _)), _) => db.get(Cf::Hold, &keys::hold(key, *since))?,
                    // It waits for its destination's commitment.
                    (None, Some(sent)) => db.get(Cf::Meta, &keys::awaits(key, sent.asked.is_some(), sent.study))?,
                    (None, None) => db.get(Cf::Due, &keys::due(key, job.priority, job.due))?,
                };
                found.is_some()
            }
        };
        jobs.push(HeldJob {
            job: key.job.0,
            destination: core.lanes.by_number(key.dest).map(|lane| lane.name.clone()),
            record: job.is_some(),
            entry,
            enqueued: job.as_ref().map_or(record.instance.arrival, |job| job.enqueued),
            sent: job.as_ref().is_some_and(|job| job.pledge.sent.is_some()),
            attempts: job.as_ref().map_or(0, |job| job.attempts),
            hold: job.and_then(|job| job.hold),
        });
    }
    Ok(Holding {
        delivered: record.delivered,
        damaged: damaged::mark_of(db, id)?,
        file: std::fs::metadata(path_of(&core.config.path, id))
            .ok()
            .map(|meta| meta.len()),
        expected: u64::from(record.data_set_offset) + record.instance.length,
        instance: record.instance,
        jobs,
    })
}

impl Spool {
    /// What is here and what is told of each of these instances.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn look(&self, ids: Vec<InstanceId>) -> Result<Vec<Look>, ReadError> {
        let core = self.core.clone();
        self.read(move |db| {
            let mut looks = Vec::with_capacity(ids.len());
            for id in ids {
                // Facts first: what ends meanwhile is then missing from the facts and from the holding, and looked at again.
                let facts = ledger::of_instance(db, id)?;
                let raw = db.get(Cf::Instance, &id.0)?;
                let record = raw.and_then(|raw| InstanceRecord::decode(&raw).ok());
                let holding = record.map(|record| holding(&core, db, record)).transpose()?;
                looks.push(Look { id, holding, facts });
            }
            Ok(looks)
        })
        .await
    }

    /// The next instances that lie here, oldest first, behind `after`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn holdings(&self, after: Option<InstanceId>, limit: usize) -> Result<Vec<Holding>, ReadError> {
        let core = self.core.clone();
        self.read(move |db| {
            let from = after.map_or(Vec::new(), |id| [&id.0[..], &[0]].concat());
            let mut records = Vec::new();
            db.scan(Cf::Instance, &from, &[], |_, value| {
                records.extend(InstanceRecord::decode(value).ok());
                records.len() < limit
            })?;
            records.into_iter().map(|record| holding(&core, db, record)).collect()
        })
        .await
    }

    /// The facts from `from` on and before `to`, behind the place `after`, with the place where the next page begins; `None`: no more. First
    /// those whose place is that of their time, then the late ones (`late.rs`), each in the order of time.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn facts_between(
        &self,
        span: (Wall, Wall),
        after: Option<Place>,
        limit: usize,
    ) -> Result<(Vec<Fact>, Option<Place>), ReadError> {
        self.read(move |db| {
            let mut facts = Vec::new();
            let late = match after {
                Some(Place(Next::Late(late))) => late,
                other => {
                    let start = match other {
                        Some(Place(Next::Line(at, seq))) => keys::ledger(at, seq),
                        _ => keys::ledger(span.0, 0),
                    };
                    let next = in_place(db, (start, span.1), limit, &mut facts)?;
                    if next.is_some() {
                        return Ok((facts, next));
                    }
                    Late::first_of(span.0)
                }
            };
            let (mut found, mut next) = (Vec::new(), None);
            late::between(db, late, span.1, |late| {
                if facts.len() + found.len() == limit {
                    next = Some(Place(Next::Late(late)));
                    return false;
                }
                found.push(late);
                true
            })?;
            for late in found {
                facts.extend(late.fact(db)?);
            }
            Ok((facts, next))
        })
        .await
    }

    /// When the first line of the ledger was written that is still there. Where that was while the clock was ahead, the earliest of those
    /// that came after it was set right.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn first_fact(&self) -> Result<Option<Wall>, ReadError> {
        let now = self.core.clock.now();
        self.read(move |db| {
            let mut first = None;
            db.scan(Cf::Ledger, &[], &[], |key, value| {
                let own = ledger::decode(value).ok().map(|(_, fact)| fact.at());
                first = own.or(keys::ledger_of(key).map(|(at, _)| at));
                false
            })?;
            match first {
                Some(ahead) if ahead > now => Ok(late::earliest(db)?.or(first)),
                first => Ok(first),
            }
        })
        .await
    }
}

/// Facts whose place is that of their time, from a place on and before a time. Answers where the next page begins.
fn in_place(
    db: &Db,
    (start, to): ([u8; 16], Wall),
    limit: usize,
    facts: &mut Vec<Fact>,
) -> Result<Option<Place>, DbError> {
    let mut next = None;
    db.scan(Cf::Ledger, &start, &keys::ledger(to, 0), |key, value| {
        if facts.len() == limit {
            next = keys::ledger_of(key).map(|(at, seq)| Place(Next::Line(at, seq)));
            return false;
        }
        let fact = ledger::decode(value).ok().map(|(_, fact)| fact);
        facts.extend(fact.filter(|fact| fact.own_us.is_none()));
        true
    })?;
    Ok(next)
}

/// A line of the ledger, for the next page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(Next);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Line(Wall, u64),
    Late(Late),
}
