//! What an answer does to the jobs of its request: kept, sent again, or held; and a person's word in its place.
use super::Sent;
use super::outgoing::{Spoken, Stage, Told, mend_awaits, request};
use crate::base::names::{DestinationId, Uid};
use crate::spool::admit::{displace, place};
use crate::spool::db::Cf;
use crate::spool::due::LATEST;
use crate::spool::keys;
use crate::spool::ledger::{Fact, FactKind};
use crate::spool::mend;
use crate::spool::model::{CommitError, HoldKind, HoldReason, JobKey};
use crate::spool::record::JobRecord;
use crate::spool::settle::end;
use crate::spool::txn::{Txn, decode_number};
use std::collections::HashMap;

pub(super) fn told(txn: &mut Txn<'_>, spoken: &Spoken) -> Result<Told, CommitError> {
    let uid = txn.get(Cf::Meta, &keys::outgoing_uid(&spoken.transaction))?;
    let Some(id) = uid.and_then(|raw| decode_number(&raw).ok()) else {
        return Ok(Told::Unknown);
    };
    let Some(mut asked) = request(txn, id)? else {
        return Ok(Told::Unknown);
    };
    let name = txn.name(asked.dest);
    let Some(destination) = name.filter(|name| spoken.speaks_for.contains(name)) else {
        return Ok(Told::Unknown);
    };
    if asked.stage == Stage::Answered {
        return Ok(Told::Repeated);
    }
    let failed: HashMap<&Uid, u16> = spoken
        .failed
        .iter()
        .map(|(named, why)| (&named.instance, *why))
        .collect();
    let kept: HashMap<&Uid, &Uid> = spoken.committed.iter().map(|n| (&n.instance, &n.class)).collect();
    let (mut committed, mut again, mut held) = (0, 0, 0);
    for pledged in std::mem::take(&mut asked.jobs) {
        let key = JobKey {
            dest: asked.dest,
            job: pledged.job,
        };
        // A word about an earlier sending says nothing about the one after it.
        let spoken_of = |sent: &Sent| sent.asked == Some(id) || pledged.is_of(sent);
        let waits = |job: &JobRecord| job.pledge.sent.as_ref().is_some_and(spoken_of);
        let Some(job) = txn.job(key)?.filter(waits) else {
            continue;
        };
        let named = &pledged.named;
        let reason = match failed.get(&named.instance) {
            Some(reason) => Some(format!("{reason:04X}")),
            None if kept.get(&named.instance) == Some(&&named.class) => None,
            None => Some("not mentioned".to_owned()),
        };
        match reason {
            None => {
                keep(txn, key, &job, &asked.transaction, &destination)?;
                committed += 1;
            }
            Some(reason) if refuse(txn, key, job, (&reason, &destination), spoken) => held += 1,
            Some(_) => again += 1,
        }
    }
    asked.ends(Stage::Answered, txn.now);
    txn.put(Cf::Meta, keys::numbered(keys::OUTGOING, id), asked.encode());
    Ok(Told::Done {
        destination,
        committed,
        again,
        held,
    })
}

/// The destination has committed: delivered for good.
fn keep(
    txn: &mut Txn<'_>,
    key: JobKey,
    job: &JobRecord,
    transaction: &Uid,
    destination: &DestinationId,
) -> Result<(), CommitError> {
    let status = job.pledge.sent.as_ref().map_or(0, |sent: &Sent| sent.status);
    displace(txn, key, job);
    let fact = Fact::new(FactKind::Confirmed).instance(job.instance);
    let fact = fact.job(key.job, Some(destination.clone()));
    txn.fact(fact.text(format!("{status:04X} committed, transaction {transaction}")));
    end(txn, key, job, Some(status))
}

/// It has not: sent again, or held after so many times. Answers whether it is held now.
fn refuse(
    txn: &mut Txn<'_>,
    key: JobKey,
    mut job: JobRecord,
    (reason, destination): (&str, &DestinationId),
    spoken: &Spoken,
) -> bool {
    displace(txn, key, &job);
    let fact = Fact::new(FactKind::CommitmentRefused).instance(job.instance);
    let fact = fact.job(key.job, Some(destination.clone()));
    txn.fact(fact.text(format!("{reason}, transaction {}", spoken.transaction)));
    job.pledge.sent = None;
    job.pledge.refused = job.pledge.refused.saturating_add(1);
    job.due = txn.now.plus(spoken.pause.min(LATEST));
    job.outcome = format!("not committed: {reason}");
    if job.hold.is_none() && job.pledge.refused >= spoken.tries {
        let text = format!(
            "the destination took it and does not commit to keep it: {reason}, {} times",
            job.pledge.refused
        );
        let fact = Fact::new(FactKind::Held).instance(job.instance);
        let fact = fact.job(key.job, Some(destination.clone()));
        txn.fact(fact.text(format!("not_committed: {text}")));
        job.hold = Some((txn.now, HoldReason::new(HoldKind::NotCommitted, text)));
    }
    let held = job.hold.is_some();
    place(txn, key, &job);
    held
}

/// Jobs in one batch of a person's verb.
const GIVE_UP_BATCH: usize = 1_000;

/// Ends the next waiting jobs of a destination on a person's word.
pub(super) fn give_up(txn: &mut Txn<'_>, dest: u32, (who, reason): (&str, &str)) -> Result<u64, CommitError> {
    let prefix = [keys::AWAITS, &dest.to_be_bytes()].concat();
    let found = txn.keys(Cf::Meta, &prefix, GIVE_UP_BATCH)?;
    let count = found.len() as u64;
    for raw in found {
        let Some((key, ..)) = keys::awaits_of(&raw) else {
            txn.delete(Cf::Meta, raw);
            continue;
        };
        let record = txn.get(Cf::Job, &keys::job(key))?;
        let Some(job) = txn.job(key)? else {
            mend_awaits(txn, key)?;
            mend::salvage(txn, key, record.as_deref())?;
            continue;
        };
        let Some(status) = job.pledge.sent.as_ref().map(|sent| sent.status) else {
            mend_awaits(txn, key)?;
            continue;
        };
        displace(txn, key, &job);
        let fact = Fact::new(FactKind::CommitmentGivenUp).instance(job.instance);
        let fact = fact.job(key.job, txn.name(dest)).who(who);
        txn.fact(fact.text(reason));
        end(txn, key, &job, Some(status))?;
    }
    Ok(count)
}
