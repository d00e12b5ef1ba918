//! Fail-over: jobs whose destination is down move to the next of their group. One job moves, so two destinations never both
//! have an instance by this but in the one case that no sender can exclude: the first had taken it and its answer was lost.
use super::Spool;
use super::admit::{displace, place, queued};
use super::db::Cf;
use super::keys;
use super::leaving;
use super::ledger::{Fact, FactKind};
use super::model::{CommitError, JobKey};
use super::moved::rename;
use super::operator::{has_content, has_job, reserve};
use super::record::Alternative;
use super::txn::Txn;
use crate::base::names::DestinationId;
use std::time::Duration;

/// What one batch of a take-over did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TakenOver {
    /// How many jobs went where.
    pub moved: Vec<(DestinationId, u64)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// Jobs in one batch.
const BATCH: usize = 1_000;

impl Spool {
    /// Moves up to a thousand jobs of a destination that has been down for `down_for` to the first of their group that is among
    /// `usable` and has not had its content, due now. A job that a worker has in hand, waits for longer, or has no such destination, stays.
    /// The former destination becomes the last of the group: it gets the job back when the others fail in their turn.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub async fn take_over(
        &self,
        from: &DestinationId,
        down_for: Duration,
        usable: &[DestinationId],
        next: Option<Vec<u8>>,
    ) -> Result<TakenOver, CommitError> {
        let Some(lane) = self.core.lanes.get(from) else {
            return Ok(TakenOver::default());
        };
        let last = keys::failover(
            JobKey {
                dest: lane.number,
                job: crate::base::names::JobId(u64::MAX),
            },
            down_for,
        );
        let start = next.unwrap_or_else(|| keys::failover_prefix(lane.number));
        let read = self.read(move |db| {
            let mut found = Vec::new();
            db.scan(Cf::Meta, &start, &last, |key, _| {
                found.push(key.to_vec());
                found.len() < BATCH
            })?;
            Ok(found)
        });
        let found = read.await.map_err(|_| CommitError::GateLatched)?;
        if found.is_empty() {
            return Ok(TakenOver::default());
        }
        let next = (found.len() == BATCH).then(|| found.last().map(|key| [&key[..], &[0]].concat()));
        let usable = usable.to_vec();
        let moved = self.submit(move |txn| batch(txn, &found, &usable)).await?;
        Ok(TakenOver {
            moved,
            next: next.flatten(),
        })
    }
}

fn batch(
    txn: &mut Txn<'_>,
    found: &[Vec<u8>],
    usable: &[DestinationId],
) -> Result<Vec<(DestinationId, u64)>, CommitError> {
    let mut moved: Vec<(DestinationId, u64)> = Vec::new();
    for raw in found {
        let Some(to) = one(txn, raw, usable)? else { continue };
        match moved.iter_mut().find(|(name, _)| *name == to) {
            Some((_, count)) => *count += 1,
            None => moved.push((to, 1)),
        }
    }
    Ok(moved)
}

/// One job; answers where it went.
fn one(txn: &mut Txn<'_>, raw: &[u8], usable: &[DestinationId]) -> Result<Option<DestinationId>, CommitError> {
    let Some(key) = keys::failover_of(raw) else {
        return Ok(None);
    };
    if reserve(txn, key).is_err() {
        return Ok(None);
    }
    let job = txn.job(key)?.filter(|job| job.hold.is_none());
    let Some((mut job, mut failover)) = job.and_then(|mut job| Some((job.clone(), job.failover.take()?))) else {
        // The job has gone without its entry, as after a damage.
        txn.delete(Cf::Meta, raw);
        return Ok(None);
    };
    let record = txn.instance(job.instance)?;
    let mut choice = None;
    for (at, other) in failover.rest.iter().enumerate() {
        let Some(name) = txn.name(other.dest).filter(|name| usable.contains(name)) else {
            continue;
        };
        let has_it = has_content(txn, record.as_ref(), other.dest, key)?;
        if !has_it && !has_job(txn, job.instance, other.dest)? {
            choice = Some((at, name));
            break;
        }
    }
    let Some((at, name)) = choice else {
        return Ok(None);
    };
    displace(txn, key, &job);
    txn.delete(Cf::Job, keys::job(key));
    txn.delete(Cf::Ref, keys::reference(job.instance, key));
    let other = failover.rest.remove(at);
    let to = JobKey {
        dest: other.dest,
        job: txn.new_job(),
    };
    failover.rest.push(Alternative {
        dest: key.dest,
        plan: std::mem::replace(&mut job.plan, other.plan),
    });
    job.failover = Some(failover);
    (job.attempts, job.due) = (0, txn.now);
    job.outcome.clear();
    txn.put(Cf::Ref, keys::reference(job.instance, to), Vec::new());
    let fact = Fact::new(FactKind::Rerouted)
        .instance(job.instance)
        .job(key.job, Some(name.clone()));
    txn.fact(fact.who("failover").text("its destination is down"));
    queued(txn, job.instance, to);
    let _held = leaving::hold_taken(txn, to, &mut job)?;
    place(txn, to, &job);
    if let Some(record) = record {
        rename(txn, &record.instance.sop_instance, key, &[to])?;
    }
    Ok(Some(name))
}
