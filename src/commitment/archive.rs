//! The SCU: asks one destination to commit to what it took, and asks again what is not answered.
//!
//! One request at a time; the association of an accepted one is left open for its answer for a while. An outage costs no
//! instance anything. A destination that refuses the service is asked again, more and more rarely, and said so. One that would
//! not take the request for one study is asked for the others meanwhile.
use super::trouble::{Resting, Trouble, WAIT_MAX, patience, pause};
use super::{Shared, reference};
use crate::base::clock::Wall;
use crate::base::fault::{Moment, die_at};
use crate::base::names::{DestinationId, JobId, Uid};
use crate::dicom::commitment::Action;
use crate::dicom::status;
use crate::sender::commitment::{Call, CallError, Side};
use crate::spool::ReadError;
use crate::spool::commitment::{Ask, Batch, Outcome, Outstanding, Study};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often it is looked whether there is something to ask.
pub(super) const LOOK_MIN: Duration = Duration::from_millis(200);
pub(super) const LOOK_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether what nobody asks for still waits: it reads all of it.
const LOOK_UNASKED: Duration = Duration::from_secs(30);
/// How old the time of the oldest that waits may be: it reads all of them.
const LOOK_OLDEST: Duration = Duration::from_secs(10);
/// Reports that are heard on the association of one request.
const REPORTS_MAX: usize = 16;
/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Got {
    Through,
    /// The archive would not take this one, or it broke.
    Refused,
    /// Nothing was asked.
    Nowhere,
}

/// Runs until the drain stops.
pub(super) async fn run(shared: &Arc<Shared>, name: &DestinationId) {
    let archive = &shared.archives[name];
    let mut trouble = Trouble::default();
    loop {
        let pause = turn(shared, name, &mut trouble).await;
        tokio::select! {
            () = shared.parts.drain.stopping() => return,
            () = archive.poke.notified() => trouble.failures = 0,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Everything that is due now; answers when to look again.
async fn turn(shared: &Arc<Shared>, name: &DestinationId, trouble: &mut Trouble) -> Duration {
    let archive = &shared.archives[name];
    if archive.hurry.swap(false, Ordering::Relaxed) {
        trouble.resting = Resting::default();
    }
    loop {
        if shared.parts.drain.is_stopping() {
            return LOOK_MAX;
        }
        overdue(shared, name, trouble).await;
        age(shared, name, trouble).await;
        let Ok(batch) = next(shared, name, &mut trouble.resting).await else {
            // The spool says so itself.
            return LOOK_MAX;
        };
        let now = shared.parts.clock.now();
        let Some(study) = batch.study else {
            let wait = batch.later.map_or(LOOK_MAX, |later| later.since(now));
            let wait = wait.min(trouble.resting.wait(Instant::now()).unwrap_or(wait));
            return wait.clamp(LOOK_MIN, LOOK_MAX);
        };
        match request(shared, name, batch.jobs, trouble.unanswered).await {
            Got::Through => {
                trouble.failures = 0;
                trouble.resting.taken(&study);
            }
            Got::Refused => {
                trouble.failures = 0;
                let pause = trouble.resting.refused(study, Instant::now());
                if !pause.is_zero() {
                    return pause;
                }
            }
            Got::Nowhere => {
                trouble.failures = trouble.failures.saturating_add(1);
                return pause(trouble.failures);
            }
        }
    }
}

/// What to ask next: a study that was not refused before, else the one that has rested longest.
async fn next(shared: &Shared, name: &DestinationId, resting: &mut Resting) -> Result<Batch, ReadError> {
    let config = &shared.archives[name].config;
    let ask = Ask {
        quiet: config.quiet.0,
        at_most: config.at_most.0,
        batch: config.batch,
    };
    let spool = &shared.parts.spool;
    let mut but: BTreeSet<Study> = resting.studies.keys().copied().collect();
    let mut batch = spool.uncommitted(name, ask, but.clone()).await?;
    while batch.study.is_none()
        && let Some(study) = resting.rested(Instant::now())
    {
        but.remove(&study);
        let mut found = spool.uncommitted(name, ask, but.clone()).await?;
        if found.study.is_none() {
            // Nothing of it waits any more, or it grows again.
            resting.studies.remove(&study);
            found.later = [found.later, batch.later].into_iter().flatten().min();
        }
        batch = found;
    }
    Ok(batch)
}

/// Says how long the oldest job has waited since it was sent, asked for or not.
async fn age(shared: &Shared, name: &DestinationId, trouble: &mut Trouble) {
    let spool = &shared.parts.spool;
    let fresh = trouble.oldest.filter(|(looked, _)| looked.elapsed() < LOOK_OLDEST);
    let since = match fresh {
        _ if spool.awaiting(name) == 0 => None,
        Some((_, since)) => Some(since),
        None => match spool.awaits_since(name).await {
            Ok(since) => since,
            // The spool says so itself.
            Err(_) => return,
        },
    };
    trouble.oldest = since.map(|since| (fresh.map_or_else(Instant::now, |(looked, _)| looked), since));
    let age = since.map_or(0.0, |at| shared.parts.clock.now().since(at).as_secs_f64());
    let gauge = &shared.parts.metrics.commitment.oldest_seconds;
    gauge.with_label_values(&[name.as_str()]).set(age);
}

async fn outstanding(shared: &Shared, name: &DestinationId) -> Result<Vec<Outstanding>, ReadError> {
    let mut all = shared.parts.spool.outstanding().await?;
    all.retain(|asked| asked.destination.as_ref() == Some(name));
    Ok(all)
}

/// Ends requests that were accepted and not answered in time, and those of which nobody knows whether they were understood.
pub(super) async fn overdue(shared: &Shared, name: &DestinationId, trouble: &mut Trouble) {
    let (now, metrics) = (shared.parts.clock.now(), &shared.parts.metrics);
    let longest = WAIT_MAX.max(shared.archives[name].config.answer_within.0);
    let mut count = 0;
    if shared.archives[name].answered.swap(false, Ordering::Relaxed) {
        trouble.answered();
        trouble.oldest = None;
    }
    // The spool says itself what it cannot read.
    let Ok(all) = outstanding(shared, name).await else {
        return;
    };
    for asked in all {
        // None is on the wire while this looks: a restart has cut it, or what became of it could not be recorded.
        if asked.until.is_none() {
            end(shared, asked.id).await;
            continue;
        }
        // A time further ahead than any was written by a clock that has been put back since.
        let over = |until: Wall| until <= now || until.since(now) > longest;
        if asked.until.is_some_and(over) {
            tracing::warn!(destination = %name, references = asked.references, "the archive has not answered a request for commitment in time: it is asked again");
            let result = &metrics.commitment.requests_total;
            result.with_label_values(&[name.as_str(), "lapsed"]).inc();
            trouble.lapsed(asked.at, now);
            end(shared, asked.id).await;
            continue;
        }
        count += 1;
    }
    if count == 0 && shared.parts.spool.awaiting(name) == 0 {
        trouble.answered();
    }
    let gauge = &metrics.commitment.outstanding;
    gauge.with_label_values(&[name.as_str()]).set(count);
}

/// Everything that the destination has not answered is asked for again.
pub(super) async fn lapse_all(shared: &Shared, name: &DestinationId) {
    shared.archives[name].hurry.store(true, Ordering::Relaxed);
    for asked in outstanding(shared, name).await.unwrap_or_default() {
        end(shared, asked.id).await;
    }
}

async fn end(shared: &Shared, id: u64) {
    if let Err(error) = shared.parts.spool.lapse(id).await {
        tracing::error!(%error, "the end of a request for commitment could not be recorded; it is tried again");
    }
}

/// One request.
async fn request(shared: &Arc<Shared>, name: &DestinationId, jobs: Vec<JobId>, unanswered: u32) -> Got {
    let archive = &shared.archives[name];
    let count = |result: &str| {
        let requests = &shared.parts.metrics.commitment.requests_total;
        requests.with_label_values(&[name.as_str(), result]).inc();
    };
    let Ok(permit) = archive.lingering.clone().acquire_owned().await else {
        return Got::Nowhere;
    };
    // The association first: an archive that is not there costs no record.
    let opened = tokio::select! {
        opened = archive.caller.open(Side::User) => opened,
        () = shared.parts.drain.stopping() => return Got::Nowhere,
    };
    let mut call = match opened {
        Ok(call) => call,
        Err(error) => {
            count(if error.is_down() { "down" } else { "refused" });
            tracing::warn!(destination = %name, %error, "commitment cannot be asked for");
            return Got::Nowhere;
        }
    };
    let transaction = transaction(shared);
    let (id, references) = match shared.parts.spool.ask(name, transaction.clone(), jobs).await {
        Ok((id, references)) if !references.is_empty() => (id, references),
        Ok(_) => {
            call.release().await;
            return Got::Through;
        }
        Err(error) => {
            tracing::error!(destination = %name, %error, "a request for commitment could not be recorded");
            call.release().await;
            return Got::Nowhere;
        }
    };
    // Two contents under one UID are one instance to the archive.
    let mut named = HashSet::new();
    let references = references.into_iter().filter(|one| named.insert(one.clone()));
    let references = references.map(reference).collect();
    let action = Action {
        transaction,
        references,
    };
    die_at(Moment::AskRecorded);
    let answered = call.ask(&action).await;
    die_at(Moment::AskAnswered);
    let (outcome, result) = judged(shared, archive.config.answer_within.0, unanswered, &answered);
    count(result);
    if let Err(error) = shared.parts.spool.asked(id, outcome).await {
        tracing::error!(destination = %name, %error, "what became of a request could not be recorded");
    }
    match answered {
        Ok(status::SUCCESS) => {
            tracing::info!(destination = %name, references = action.references.len(), "commitment asked for");
            linger(shared, name, (call, permit), action.transaction);
            Got::Through
        }
        Ok(status) => {
            tracing::warn!(destination = %name, status = %format_args!("{status:04X}"), "the archive refuses a request for commitment");
            call.release().await;
            Got::Refused
        }
        Err(error) => {
            tracing::warn!(destination = %name, %error, "a request for commitment broke");
            Got::Refused
        }
    }
}

fn judged(
    shared: &Shared,
    within: Duration,
    unanswered: u32,
    answered: &Result<u16, CallError>,
) -> (Outcome, &'static str) {
    match answered {
        Ok(status::SUCCESS) => {
            let until = shared.parts.clock.now().plus(patience(within, unanswered));
            (Outcome::Accepted { until }, "accepted")
        }
        Ok(_) => (Outcome::Failed, "refused"),
        Err(_) => (Outcome::Failed, "broken"),
    }
}

/// Leaves the association open for the answer. An archive may tell something older first.
fn linger(
    shared: &Arc<Shared>,
    name: &DestinationId,
    (mut call, permit): (Call, tokio::sync::OwnedSemaphorePermit),
    transaction: Uid,
) {
    let (shared, name) = (shared.clone(), name.clone());
    let drain = shared.parts.drain.clone();
    drain.spawn("commitment association", async move {
        let _permit = permit;
        let until = Instant::now() + shared.archives[&name].config.linger.0;
        for _ in 0..REPORTS_MAX {
            let heard = tokio::select! {
                heard = call.listen(until.saturating_duration_since(Instant::now())) => heard,
                () = shared.parts.drain.stopping() => None,
            };
            let Some(mut heard) = heard else { break };
            let report = std::mem::replace(&mut heard.report, Err(status::SUCCESS));
            let (status, is_it) = match report {
                Ok(report) => {
                    let is_it = report.transaction == transaction;
                    (shared.take(name.as_str(), vec![name.clone()], report).await, is_it)
                }
                Err(status) => (status, false),
            };
            if let Err(error) = call.answer(&heard, status).await {
                tracing::debug!(destination = %name, %error, "the archive's answer could not be acknowledged");
                break;
            }
            if is_it {
                break;
            }
        }
        call.release().await;
    });
}

/// A UID that nobody else has: derived from a random number (PS3.5 B.2).
fn transaction(shared: &Shared) -> Uid {
    // 2.25 and at most 39 digits.
    Uid::parse(&format!("2.25.{}", shared.random())).unwrap_or_else(|_| unreachable!("digits and dots"))
}

/// Looks after jobs that wait for a commitment that nobody asks for: `commitment` was taken out of the configuration. They are
/// counted in the same metric, so that the same alarm tells of them.
pub(super) async fn watch_unasked(shared: &Arc<Shared>, mut names: Vec<DestinationId>) {
    while !names.is_empty() {
        let mut left = Vec::new();
        for name in names {
            // What the spool cannot read it says itself.
            let since = shared.parts.spool.awaits_since(&name).await;
            if let Ok(since) = since {
                let age = since.map_or(0.0, |at| shared.parts.clock.now().since(at).as_secs_f64());
                let gauge = &shared.parts.metrics.commitment.oldest_seconds;
                gauge.with_label_values(&[name.as_str()]).set(age);
            }
            if !matches!(since, Ok(None)) {
                left.push(name);
            }
        }
        names = left;
        tokio::select! {
            () = shared.parts.drain.stopping() => return,
            () = tokio::time::sleep(LOOK_UNASKED) => {}
        }
    }
}
