//! What this box has asked of destinations: which instances, under which transaction, and what each answer does to their jobs.
//!
//! A request is recorded before it leaves. An answer is believed for every job of the request that still waits and was not sent
//! again since, whichever later request asks for it too: a late answer is an answer. What it does not speak of counts as failed.
use super::answer::{give_up, told};
use super::{Named, Sent};
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, JobId, Uid};
use crate::spool::admit::{displace, place};
use crate::spool::adopt::hold_corrupt;
use crate::spool::codec::{Damaged, Reader, Writer};
use crate::spool::db::{Cf, Db};
use crate::spool::keys;
use crate::spool::ledger::{Fact, FactKind, NO_ANSWER, NOT_TAKEN};
use crate::spool::mend;
use crate::spool::model::{CommitError, JobKey, ReadError};
use crate::spool::record::JobRecord;
use crate::spool::txn::{Effect, Txn, encode_number};
use std::time::Duration;

/// A job of a request, by the names it was sent with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pledged {
    pub job: JobId,
    pub named: Named,
    /// When it was sent that is asked for; `None` in what an earlier version wrote.
    pub sent: Option<Wall>,
}

impl Pledged {
    /// Whether it asks for this sending, and not for one before it. The time tells them apart, whichever way the clock was put.
    pub fn is_of(&self, sent: &Sent) -> bool {
        self.sent == Some(sent.at)
    }
}

/// What became of a request on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The destination answers until then, or is asked again.
    Accepted { until: Wall },
    /// It would not take the request, or nobody knows whether it has.
    Failed,
}

/// An answer, as the destination gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spoken {
    pub transaction: Uid,
    pub committed: Vec<Named>,
    pub failed: Vec<(Named, u16)>,
    /// The answerer speaks for one of these.
    pub speaks_for: Vec<DestinationId>,
    /// Refusals of one instance before it is held, and the pause before it is sent again.
    pub tries: u32,
    pub pause: Duration,
}

/// What an answer did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    Done {
        destination: DestinationId,
        committed: u64,
        /// To be sent again.
        again: u64,
        /// Held for a person.
        held: u64,
    },
    /// It was answered before.
    Repeated,
    /// Nobody asked that.
    Unknown,
}

/// A request that has no answer yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outstanding {
    pub id: u64,
    pub destination: Option<DestinationId>,
    pub transaction: Uid,
    pub at: Wall,
    /// `None`: the destination has not accepted it.
    pub until: Option<Wall>,
    pub references: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Asking = 1,
    Accepted = 2,
    /// Its jobs are asked for again; a late answer still counts.
    Lapsed = 3,
    Answered = 4,
}

/// As it lies in the index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::spool) struct Outgoing {
    pub(super) dest: u32,
    pub(super) transaction: Uid,
    pub(super) stage: Stage,
    /// When it was asked.
    at: Wall,
    /// Accepted: when it is asked again. Lapsed or answered: since when.
    until: Wall,
    pub(super) jobs: Vec<Pledged>,
}

impl Outgoing {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u32(self.dest);
        w.short(self.transaction.as_str());
        w.u8(self.stage as u8);
        w.u64(self.at.0);
        w.u64(self.until.0);
        w.u32(u32::try_from(self.jobs.len()).unwrap_or(u32::MAX));
        for pledged in &self.jobs {
            w.u64(pledged.job.0);
            pledged.named.encode(&mut w);
        }
        if self.jobs.iter().any(|pledged| pledged.sent.is_some()) {
            self.jobs.iter().for_each(|one| w.u64(one.sent.map_or(0, |at| at.0)));
        }
        w.finish()
    }

    pub(in crate::spool) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut asked = Self {
            dest: r.u32()?,
            transaction: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            stage: match r.u8()? {
                1 => Stage::Asking,
                2 => Stage::Accepted,
                3 => Stage::Lapsed,
                4 => Stage::Answered,
                _ => return Err(Damaged),
            },
            at: Wall(r.u64()?),
            until: Wall(r.u64()?),
            jobs: Vec::new(),
        };
        for _ in 0..r.u32()? {
            asked.jobs.push(Pledged {
                job: JobId(r.u64()?),
                named: Named::decode(&mut r)?,
                sent: None,
            });
        }
        // Those of earlier versions end here.
        if r.end().is_err() {
            for pledged in &mut asked.jobs {
                pledged.sent = Some(Wall(r.u64()?)).filter(|at| at.0 > 0);
            }
        }
        r.end()?;
        Ok(asked)
    }

    /// Whether a job of it waits for its answer still. What cannot be read may.
    fn is_awaited(&self, db: &Db, id: u64) -> bool {
        self.jobs.iter().any(|pledged| {
            let (dest, job) = (self.dest, pledged.job);
            match db.get(Cf::Job, &keys::job(JobKey { dest, job })) {
                Err(_) => true,
                Ok(raw) => raw.is_some_and(|raw| {
                    let sent = JobRecord::decode(&raw).ok().and_then(|job| job.pledge.sent);
                    sent.is_some_and(|sent| sent.asked == Some(id))
                }),
            }
        })
    }

    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Asking | Stage::Accepted)
    }

    /// A lapsed or answered one is kept for a while, so that a late or repeated answer finds it.
    pub(in crate::spool) fn is_over(&self, before: Wall) -> bool {
        !self.is_open() && self.at.max(self.until) < before
    }

    /// It is answered, or not waited for any more.
    pub(super) fn ends(&mut self, stage: Stage, now: Wall) {
        (self.stage, self.until) = (stage, now);
    }
}

/// Forgets an old request's transaction UID. False: its record cannot be read.
pub(in crate::spool) fn forget(txn: &mut Txn<'_>, raw: &[u8]) -> bool {
    let Ok(asked) = Outgoing::decode(raw) else {
        return false;
    };
    txn.delete(Cf::Meta, keys::outgoing_uid(&asked.transaction));
    true
}

impl crate::spool::Spool {
    /// Records a request for these jobs, before it leaves. Answers its number and what it asks for: those that still wait, which
    /// may be none.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn ask(
        &self,
        destination: &DestinationId,
        transaction: Uid,
        jobs: Vec<JobId>,
    ) -> Result<(u64, Vec<Named>), CommitError> {
        let destination = destination.clone();
        self.submit(move |txn| ask(txn, &destination, transaction, &jobs)).await
    }

    /// What became of the request on the wire.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn asked(&self, id: u64, outcome: Outcome) -> Result<(), CommitError> {
        self.submit(move |txn| match outcome {
            Outcome::Accepted { until } => accepted(txn, id, until),
            Outcome::Failed => lapse(txn, id, Lapse::NotTaken).map(drop),
        })
        .await
    }

    /// Takes an answer, durably: only then may it be acknowledged.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn spoken(&self, spoken: Spoken) -> Result<Told, CommitError> {
        self.submit(move |txn| told(txn, &spoken)).await
    }

    /// All requests without an answer, oldest first. One that no job waits for any more, because a person has ended, rerouted or
    /// requeued them all, ends here.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn outstanding(&self) -> Result<Vec<Outstanding>, ReadError> {
        let core = self.core.clone();
        let read = self.read(move |db| {
            let (mut found, mut idle) = (Vec::new(), Vec::new());
            db.scan(Cf::Meta, keys::OUTGOING, &keys::behind(keys::OUTGOING), |key, value| {
                if let (Some(id), Ok(asked)) = (keys::number_of(key, keys::OUTGOING), Outgoing::decode(value))
                    && asked.is_open()
                {
                    if !asked.is_awaited(db, id) {
                        idle.push(id);
                        return true;
                    }
                    found.push(Outstanding {
                        id,
                        destination: core.lanes.by_number(asked.dest).map(|lane| lane.name.clone()),
                        until: (asked.stage == Stage::Accepted).then_some(asked.until),
                        references: asked.jobs.len(),
                        transaction: asked.transaction,
                        at: asked.at,
                    });
                }
                true
            })?;
            Ok((found, idle))
        });
        let (found, idle) = read.await?;
        for id in idle {
            // One that could not be ended is no more outstanding for that, and is found again.
            let _ = self.lapse(id).await;
        }
        Ok(found)
    }

    /// Requests that were not answered in time, or whose fate a restart has made unknown: their jobs are asked for again.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn lapse(&self, id: u64) -> Result<bool, CommitError> {
        self.submit(move |txn| lapse(txn, id, Lapse::NoAnswer)).await
    }

    /// A person takes a destination's C-STORE answers for its commitment: the waiting jobs end as delivered. Answers how many.
    ///
    /// # Errors
    /// `Gone`: there is no such destination, or no reason was given. Otherwise what was done stays done.
    pub async fn take_as_committed(
        &self,
        destination: &DestinationId,
        who: &str,
        reason: &str,
    ) -> Result<u64, CommitError> {
        let lane = self.core.lanes.get(destination).ok_or(CommitError::Gone)?;
        if reason.trim().is_empty() {
            return Err(CommitError::Gone);
        }
        let mut ended = 0;
        loop {
            let (who, reason, number) = (who.to_owned(), reason.to_owned(), lane.number);
            let count = self.submit(move |txn| give_up(txn, number, (&who, &reason))).await?;
            ended += count;
            if count == 0 {
                return Ok(ended);
            }
        }
    }
}

fn ask(
    txn: &mut Txn<'_>,
    destination: &DestinationId,
    transaction: Uid,
    jobs: &[JobId],
) -> Result<(u64, Vec<Named>), CommitError> {
    let (dest, id) = (txn.number(Some(destination)), txn.new_job().0);
    let mut asked = Outgoing {
        dest,
        stage: Stage::Asking,
        at: txn.now,
        until: Wall(0),
        jobs: Vec::with_capacity(jobs.len()),
        transaction,
    };
    for job in jobs {
        let key = JobKey { dest, job: *job };
        let Some((mut job, class)) = waiting(txn, key)? else {
            continue;
        };
        displace(txn, key, &job);
        if let Some(sent) = &mut job.pledge.sent {
            sent.asked = Some(id);
            let instance = sent.instance.clone();
            asked.jobs.push(Pledged {
                job: key.job,
                named: Named { class, instance },
                sent: Some(sent.at),
            });
        }
        place(txn, key, &job);
        // Each try of one that is not taken would be a line of the ledger for each instance: it has one when it is taken at last.
        if job.outcome != NOT_TAKEN {
            txn.fact(asked_for(&job, key, Some(destination.clone()), &asked.transaction));
        }
    }
    if !asked.jobs.is_empty() {
        txn.put(Cf::Meta, keys::outgoing_uid(&asked.transaction), encode_number(id));
        txn.put(Cf::Meta, keys::numbered(keys::OUTGOING, id), asked.encode());
    }
    Ok((id, asked.jobs.into_iter().map(|pledged| pledged.named).collect()))
}

/// A job that waits and has not been asked for, with its SOP class. What cannot be read is put right on the way.
fn waiting(txn: &mut Txn<'_>, key: JobKey) -> Result<Option<(JobRecord, Uid)>, CommitError> {
    let raw = txn.get(Cf::Job, &keys::job(key))?;
    let Some(job) = txn.job(key)? else {
        mend_awaits(txn, key)?;
        mend::salvage(txn, key, raw.as_deref())?;
        return Ok(None);
    };
    let is_waiting = job.hold.is_none() && job.pledge.sent.as_ref().is_some_and(|sent| sent.asked.is_none());
    if !is_waiting {
        return Ok(None);
    }
    match txn.instance(job.instance)? {
        Some(record) => Ok(Some((job, record.instance.sop_class))),
        None => {
            hold_corrupt(txn, key, "its instance record could not be read")?;
            Ok(None)
        }
    }
}

/// Takes away the entries of a job whose record is gone.
pub(super) fn mend_awaits(txn: &mut Txn<'_>, key: JobKey) -> Result<(), CommitError> {
    let prefix = [keys::AWAITS, &key.dest.to_be_bytes()].concat();
    for raw in txn.keys(Cf::Meta, &prefix, usize::MAX)? {
        if keys::awaits_of(&raw).is_some_and(|(of, ..)| of == key) {
            txn.delete(Cf::Meta, raw);
            let lane = txn.lane(key.dest);
            txn.effects.extend(lane.map(|lane| Effect::Awaits(lane, -1)));
        }
    }
    Ok(())
}

pub(super) fn request(txn: &mut Txn<'_>, id: u64) -> Result<Option<Outgoing>, CommitError> {
    txn.record(Cf::Meta, &keys::numbered(keys::OUTGOING, id), Outgoing::decode)
}

fn asked_for(job: &JobRecord, key: JobKey, name: Option<DestinationId>, transaction: &Uid) -> Fact {
    let fact = Fact::new(FactKind::CommitmentAsked).instance(job.instance);
    fact.job(key.job, name).text(format!("transaction {transaction}"))
}

fn accepted(txn: &mut Txn<'_>, id: u64, until: Wall) -> Result<(), CommitError> {
    // Its answer may have been faster.
    let Some(mut asked) = request(txn, id)?.filter(Outgoing::is_open) else {
        return Ok(());
    };
    let name = txn.name(asked.dest);
    for pledged in &asked.jobs {
        let key = JobKey {
            dest: asked.dest,
            job: pledged.job,
        };
        let Some(mut job) = txn.job(key)?.filter(|job| job.outcome == NOT_TAKEN) else {
            continue;
        };
        let Some(status) = job
            .pledge
            .sent
            .as_ref()
            .filter(|sent| sent.asked == Some(id))
            .map(|sent| sent.status)
        else {
            continue;
        };
        job.outcome = format!("{status:04X}");
        txn.put_job(key, &job);
        txn.fact(asked_for(&job, key, name.clone(), &asked.transaction));
    }
    (asked.stage, asked.until) = (Stage::Accepted, until);
    txn.put(Cf::Meta, keys::numbered(keys::OUTGOING, id), asked.encode());
    Ok(())
}

/// Why a request is not waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lapse {
    /// The destination would not take it.
    NotTaken,
    NoAnswer,
}

fn lapse(txn: &mut Txn<'_>, id: u64, why: Lapse) -> Result<bool, CommitError> {
    let Some(mut asked) = request(txn, id)?.filter(Outgoing::is_open) else {
        return Ok(false);
    };
    let name = txn.name(asked.dest);
    for pledged in &asked.jobs {
        let key = JobKey {
            dest: asked.dest,
            job: pledged.job,
        };
        let Some(mut job) = txn.job(key)? else { continue };
        if job.pledge.sent.as_ref().is_none_or(|sent| sent.asked != Some(id)) {
            continue;
        }
        displace(txn, key, &job);
        if let Some(sent) = &mut job.pledge.sent {
            sent.asked = None;
        }
        let text = match why {
            Lapse::NoAnswer => Some(NO_ANSWER),
            Lapse::NotTaken if job.outcome == NOT_TAKEN => None,
            Lapse::NotTaken => Some(NOT_TAKEN),
        };
        if why == Lapse::NotTaken {
            NOT_TAKEN.clone_into(&mut job.outcome);
        }
        place(txn, key, &job);
        if let Some(text) = text {
            let fact = Fact::new(FactKind::CommitmentRefused).instance(job.instance);
            let fact = fact.job(key.job, name.clone());
            txn.fact(fact.text(format!("{text}, transaction {}", asked.transaction)));
        }
    }
    asked.ends(Stage::Lapsed, txn.now);
    txn.put(Cf::Meta, keys::numbered(keys::OUTGOING, id), asked.encode());
    Ok(true)
}
