//! What a destination is to be asked for next: study by study, each when it is quiet.
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, JobId};
use crate::spool::db::{Cf, Db, DbError};
use crate::spool::keys;
use crate::spool::model::ReadError;
use crate::spool::study::StudySeen;
use crate::spool::txn::decode_number;
use std::collections::BTreeSet;
use std::time::Duration;

/// The hash of a study; zeros for instances without one.
pub type Study = [u8; 16];

/// What to ask next, and when to look again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// `None`: there is nothing to ask.
    pub study: Option<Study>,
    /// All of that study.
    pub jobs: Vec<JobId>,
    /// When the first study that still grows will be quiet.
    pub later: Option<Wall>,
}

/// When a study's commitment is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// No instance of it has come or was sent for so long,
    pub quiet: Duration,
    /// or one waits for so long already.
    pub at_most: Duration,
    /// Instances of one request.
    pub batch: usize,
}

impl crate::spool::Spool {
    /// The next instances whose commitment a destination is to be asked for, of a study that is none of `but`; none while it is
    /// suspended.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn uncommitted(
        &self,
        destination: &DestinationId,
        ask: Ask,
        but: BTreeSet<Study>,
    ) -> Result<Batch, ReadError> {
        let Some(lane) = self.core.lanes.get(destination).filter(|lane| !lane.suspended()) else {
            return Ok(Batch::default());
        };
        let now = self.core.clock.now();
        self.read(move |db| next(db, lane.number, ask, (now, &but))).await
    }
}

fn next(db: &Db, dest: u32, ask: Ask, (now, but): (Wall, &BTreeSet<Study>)) -> Result<Batch, DbError> {
    let prefix = keys::awaits_prefix(dest, false);
    let end = keys::behind(&prefix);
    let (mut batch, mut from) = (Batch::default(), prefix.clone());
    loop {
        let mut study: Option<Study> = None;
        let (mut jobs, mut first, mut last) = (Vec::new(), Wall(u64::MAX), Wall(0));
        db.scan(Cf::Meta, &from, &end, |raw, value| {
            let Some((key, _, of)) = keys::awaits_of(raw) else {
                return true;
            };
            if *study.get_or_insert(of) != of || but.contains(&of) {
                return false;
            }
            let since = decode_number(value).map_or(Wall(0), Wall);
            first = first.min(credible(since, ask.at_most, now));
            last = last.max(credible(since, ask.quiet, now));
            if jobs.len() < ask.batch {
                jobs.push(key.job);
            }
            true
        })?;
        let Some(study) = study else {
            return Ok(batch);
        };
        if !jobs.is_empty() {
            let raw = db.get(Cf::Study, &study)?;
            let seen = raw.and_then(|raw| StudySeen::decode(&raw).ok());
            let last = seen.map_or(last, |seen| last.max(credible(seen.last, ask.quiet, now)));
            let ripe = last.plus(ask.quiet).min(first.plus(ask.at_most));
            if ripe <= now {
                (batch.study, batch.jobs) = (Some(study), jobs);
                return Ok(batch);
            }
            batch.later = Some(batch.later.map_or(ripe, |known| known.min(ripe)));
        }
        from = keys::behind(&[&prefix[..], &study].concat());
        if from.is_empty() {
            return Ok(batch);
        }
    }
}

/// A time that lies further ahead than `span` was written by a clock that has been put back since: it is over.
fn credible(at: Wall, span: Duration, now: Wall) -> Wall {
    if at > now.plus(span) { Wall(0) } else { at }
}
