//! Looking into a source's request: what can be said of each of its instances now, and the decision when all have an answer.
//!
//! A modality deletes on the word `edge`, so what that word rests on is read before it is given: each payload that this box
//! alone has, whole and against its checksum, as a delivery reads it. One after the other, so that a request for a whole day
//! holds one stride in memory, and few at once over all requests, so that the disk serves arrivals. No batch of the index
//! waits for it.
use super::incoming::{Demand, Judgement, Patience, Request, Stage, State, request, state};
use super::standing::{Basis, NO_SUCH_INSTANCE, PROCESSING_FAILURE, RESOURCE_LIMITATION, Standing, standing};
use crate::base::names::{InstanceId, SourceId, Uid};
use crate::spool::damaged;
use crate::spool::db::{Cf, Db, DbError};
use crate::spool::keys;
use crate::spool::ledger::{Fact, FactKind};
use crate::spool::model::{CommitError, ReadError};
use crate::spool::txn::Txn;
use std::collections::HashSet;
use std::sync::Arc;

/// Payloads that are read at once for all requests together.
pub(in crate::spool) const READS: usize = 2;

/// Whose payload a promise rests on.
type Read = HashSet<InstanceId>;

impl crate::spool::Spool {
    /// Looks into a request from `from` on (what lies before has an answer); decides it, durably, when all have one. What a
    /// promise of `edge` rests on is read first: that takes as long as the disk takes. Cancel-safe.
    ///
    /// # Errors
    /// The index cannot be read or written, or a payload could not be read for want of something that passes.
    pub async fn judge(&self, id: u64, from: usize, patience: Patience) -> Result<Judgement, CommitError> {
        let (mut sound, mut unknown) = (Arc::new(Read::new()), Arc::new(Read::new()));
        loop {
            let core = self.core.clone();
            let no_room = move |source: &SourceId, uid: &Uid| core.disk.low() || core.tally.had_no_room(source, uid);
            let known = (sound.clone(), unknown.clone());
            let found = self
                .read(move |db| look(db, (id, from), patience, no_room, &known))
                .await;
            let (demand, verdicts, unread) = match found {
                Err(_) => return Err(CommitError::GateLatched),
                Ok(Look::Gone) => return Ok(Judgement::Gone),
                Ok(Look::Open { at, absent }) => return Ok(Judgement::Open { at, absent }),
                Ok(Look::Known { committed, failed }) => return Ok(Judgement::Decided { committed, failed }),
                Ok(Look::All(demand, verdicts, unread)) => (demand, verdicts, unread),
            };
            if unread.is_empty() {
                let failed = verdicts.iter().filter(|(_, reason)| reason.is_some()).count();
                let committed = verdicts.len() - failed;
                self.submit(move |txn| decide(txn, id, &demand, &verdicts)).await?;
                return Ok(Judgement::Decided { committed, failed });
            }
            // Meanwhile things may have changed: they are looked at once more, and what was read is not read again.
            for instance in unread {
                match self.is_sound(instance, &demand.source).await {
                    Ok(true) => {
                        Arc::make_mut(&mut sound).insert(instance);
                    }
                    // Marked as damaged, or gone: the next look says what that means.
                    Ok(false) => {}
                    Err(_) if patience.no_more_deliveries => {
                        Arc::make_mut(&mut unknown).insert(instance);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Reads a payload whole. What is not what arrived is marked and its jobs are held, as the scrub does it.
    async fn is_sound(&self, id: InstanceId, source: &SourceId) -> Result<bool, CommitError> {
        // The semaphore is never closed.
        let _place = self
            .core
            .verifying
            .acquire()
            .await
            .map_err(|_| CommitError::GateLatched)?;
        let mut read = self.verified(id).await;
        if damage(read).is_some() {
            // Once more: what a second look does not confirm was no damage of the disk.
            read = self.verified(id).await;
        }
        let why = match (read, damage(read)) {
            (Ok(()), _) => return Ok(true),
            (Err(ReadError::Gone), _) => return Ok(false),
            (Err(ReadError::Deadline), _) => return Err(CommitError::Deadline),
            (Err(_), None) => return Err(CommitError::GateLatched),
            (Err(_), Some(why)) => why,
        };
        if self.submit(move |txn| damaged::quarantine(txn, id, &why)).await? {
            damaged::tell(&self.core.metrics, id, source);
        }
        Ok(false)
    }

    async fn verified(&self, id: InstanceId) -> Result<(), ReadError> {
        let mut payload = self.payload(&id).await?;
        while payload.next().await?.is_some() {}
        payload.verify()
    }
}

/// Why a payload that was read is not what arrived; nothing when that is not known.
fn damage(read: Result<(), ReadError>) -> Option<String> {
    match read {
        Err(error @ (ReadError::Missing | ReadError::Corrupt | ReadError::Unreadable(_))) => Some(error.to_string()),
        Ok(()) | Err(ReadError::Gone | ReadError::Io | ReadError::Deadline | ReadError::GateLatched) => None,
    }
}

/// Each instance with the failure, or none, and our id of it.
type Verdict = (Option<InstanceId>, Option<u16>);

enum Look {
    Gone,
    Open {
        at: usize,
        absent: bool,
    },
    Known {
        committed: usize,
        failed: usize,
    },
    /// Every instance has an answer, so far as the payloads behind it that are still to be read are sound.
    All(Demand, Vec<Verdict>, Vec<InstanceId>),
}

/// `no_room`: whether an instance that is not here was, or would now be, refused for want of resources. `sound` and `unknown`: whose
/// payload was read, and whose cannot be.
fn look(
    db: &Db,
    (id, from): (u64, usize),
    patience: Patience,
    no_room: impl Fn(&SourceId, &Uid) -> bool,
    (sound, unknown): &(Arc<Read>, Arc<Read>),
) -> Result<Look, DbError> {
    let Some(Request { demand, .. }) = request(db, id)? else {
        return Ok(Look::Gone);
    };
    if let Some(state) = state(db, id)?.filter(|state| state.stage != Stage::Waiting) {
        let failed = state.failed.len();
        let committed = demand.references.len().saturating_sub(failed);
        return Ok(Look::Known { committed, failed });
    }
    let marked = damaged::by_uid(db)?;
    // First only on from where it stopped; once that is through, all of it, so that one look answers for all.
    for start in [from, 0] {
        let mut verdicts = Vec::with_capacity(demand.references.len());
        let mut unread = Vec::new();
        for (at, named) in demand.references.iter().enumerate().skip(start) {
            let Basis { standing, id, rests_on } = standing(db, demand.level, named, &marked)?;
            let failure = match standing {
                Standing::Committed if rests_on.iter().any(|id| unknown.contains(id)) => Some(PROCESSING_FAILURE),
                Standing::Committed => None,
                Standing::Failed(reason) => Some(reason),
                Standing::Absent if patience.no_more_arrivals => Some(match no_room(&demand.source, &named.instance) {
                    true => RESOURCE_LIMITATION,
                    false => NO_SUCH_INSTANCE,
                }),
                Standing::Pending if patience.no_more_deliveries => Some(PROCESSING_FAILURE),
                Standing::Absent | Standing::Pending => {
                    let absent = standing == Standing::Absent;
                    return Ok(Look::Open { at, absent });
                }
            };
            if failure.is_none() {
                unread.extend(rests_on.into_iter().filter(|id| !sound.contains(id)));
            }
            verdicts.push((id, failure));
        }
        if start == 0 {
            return Ok(Look::All(demand, verdicts, unread));
        }
    }
    unreachable!("the second look begins at 0")
}

fn decide(txn: &mut Txn<'_>, id: u64, demand: &Demand, verdicts: &[Verdict]) -> Result<(), CommitError> {
    let key = keys::numbered(keys::INCOMING_STATE, id);
    let (mut failed, (source, transaction)) = (Vec::new(), (&demand.source, &demand.transaction));
    for (place, (instance, failure)) in (0_u32..).zip(verdicts) {
        failed.extend(failure.map(|reason| (place, reason)));
        if let Some(instance) = instance {
            let word = failure.map_or(demand.level.word().to_owned(), |reason| format!("failed {reason:04X}"));
            let text = format!("{source}: {word}, transaction {transaction}");
            txn.fact(Fact::new(FactKind::CommitmentAnswered).instance(*instance).text(text));
        }
    }
    let state = State {
        stage: Stage::Decided,
        at: txn.now,
        uid: keys::incoming_uid(source.as_str(), transaction),
        failed,
    };
    txn.put(Cf::Meta, key, state.encode());
    Ok(())
}
