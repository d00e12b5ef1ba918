//! Which job goes next. Order: class (after ageing), then due time, then job id. A waiting job counts one class higher for each
//! `age_step`, up to `high`: nothing that waited long overtakes `stat`. Within one class keys are in order already, so the four
//! heads are merged and no key is ever rewritten. Small objects of one study keep together (`group.rs`). Called by `due.rs`.
use super::core::Core;
use super::db::{Cf, Db, DbError, Range};
use super::due::{Lane, NOTHING, State};
use super::group::{self, GROUP_MAX, Group, PASSED_MAX};
use super::keys;
use super::model::{JobKey, Priority};
use crate::base::clock::Wall;
use crate::base::fault::{Plant, planted};
use crate::base::names::JobId;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One head of the merge.
pub(super) struct Candidate {
    pub class: u8,
    pub due: Wall,
    pub key: JobKey,
    pub priority: Priority,
    pub group: Option<Group>,
}

impl Candidate {
    fn rank(&self) -> (u8, Wall, JobId) {
        (self.class, self.due, self.key.job)
    }
}

/// Chooses and marks. The lane's lock is held over the reads, so that no cursor passes a key that is just arriving.
pub(super) fn pick(
    core: &Core,
    db: &Db,
    lane: &Lane,
    (max, worker): (usize, Option<usize>),
    now: Wall,
) -> Result<Vec<Candidate>, DbError> {
    let mut state = lane.lock();
    if state.suspended || max == 0 {
        return Ok(Vec::new());
    }
    let mut merge = Merge {
        heads: Vec::new(),
        now,
        age_step: core.config.age_step.0,
        worker,
        passed: 0,
    };
    for priority in Priority::ALL {
        merge.heads.push(beyond(db, lane, priority, now));
        let (due, job) = state.cursors[priority as usize];
        let (from, end) = (
            key_at(lane.number, priority, due, job),
            above(lane.number, priority, now),
        );
        if from >= end {
            continue;
        }
        let range = db.range(Cf::Due, &from, &end);
        let live = range.item().and_then(|(key, _)| keys::due_of(key));
        range.status()?;
        let none = (Wall(now.0.saturating_add(1)), JobId(0));
        state.cursors[priority as usize] = live.map_or(none, |(key, _, due)| (due, key.job));
        merge.heads.push(range);
    }
    let mut picked: Vec<Candidate> = Vec::new();
    let mut next = merge.best(&state)?;
    while let Some((candidate, index)) = next {
        // Beyond what was asked for only what belongs to the last one, and only when more than one was asked for.
        let follows = worker.is_some() && max > 1 && picked.len() < GROUP_MAX.max(max) && candidate.group.is_some();
        let follows = follows && picked.last().is_some_and(|last| last.group == candidate.group);
        if picked.len() >= max && !follows {
            next = Some((candidate, index));
            break;
        }
        merge.heads[index].step();
        picked.push(candidate);
        next = merge.best(&state)?;
    }
    // Marked only when nothing can fail any more: a mark without a guard would keep a job for ever.
    for pick in &picked {
        state.leased.insert(pick.key.job);
        state.hands.take(pick.key.job, pick.group, worker);
    }
    // What is left presses when any worker could take it.
    let free = next.filter(|(candidate, _)| !state.hands.has(candidate.group));
    lane.pressing.store(
        free.map_or(NOTHING, |(candidate, _)| candidate.class),
        Ordering::Relaxed,
    );
    look_ahead(db, lane, &state, now)?;
    Ok(picked)
}

/// When the next job of each class is due that is not yet: looked up again when the one that was known has become due. With the
/// lane's lock held, so that none is queued meanwhile.
fn look_ahead(db: &Db, lane: &Lane, state: &State, now: Wall) -> Result<(), DbError> {
    for priority in Priority::ALL {
        let soonest = &lane.soonest[priority as usize];
        if soonest.load(Ordering::Relaxed) > now.0 {
            continue;
        }
        let end = above(lane.number, priority, Wall(u64::MAX));
        let mut later = db.range(Cf::Due, &above(lane.number, priority, now), &end);
        let next = next_free(&mut later, &state.leased);
        later.status()?;
        soonest.store(next.map_or(u64::MAX, |(_, _, due)| due.0), Ordering::Relaxed);
    }
    Ok(())
}

/// The heads of a lane's classes, merged.
struct Merge<'a> {
    heads: Vec<Range<'a>>,
    now: Wall,
    age_step: Duration,
    worker: Option<usize>,
    /// Jobs that were passed over because another worker has their group in hand.
    passed: usize,
}

impl Merge<'_> {
    /// The first of all heads that is free for this worker, with its head.
    fn best(&mut self, state: &State) -> Result<Option<(Candidate, usize)>, DbError> {
        let mut best: Option<(Candidate, usize)> = None;
        for index in 0..self.heads.len() {
            let Some(candidate) = self.head(index, state) else {
                self.heads[index].status()?;
                continue;
            };
            if best.as_ref().is_none_or(|(other, _)| candidate.rank() < other.rank()) {
                best = Some((candidate, index));
            }
        }
        Ok(best)
    }

    fn head(&mut self, index: usize, state: &State) -> Option<Candidate> {
        loop {
            let (key, priority, due) = next_free(&mut self.heads[index], &state.leased)?;
            let group = self.heads[index].item().and_then(|(_, value)| group::read(value));
            let class = effective(priority, due, self.now, self.age_step);
            let urgent = class == Priority::Stat as u8;
            if !urgent && self.passed < PASSED_MAX && self.worker.is_some() && state.hands.elsewhere(group, self.worker)
            {
                self.passed += 1;
                self.heads[index].step();
                continue;
            }
            return Some(Candidate {
                class,
                due,
                key,
                priority,
                group,
            });
        }
    }
}

fn next_free(range: &mut Range<'_>, leased: &HashSet<JobId>) -> Option<(JobKey, Priority, Wall)> {
    loop {
        let found = keys::due_of(range.item()?.0);
        match found {
            Some((key, ..)) if leased.contains(&key.job) => range.step(),
            Some(found) => return Some(found),
            None => range.step(),
        }
    }
}

/// When the next job that nobody has leased is due; `None` when there is none or the lane is suspended.
pub(super) fn next_due(db: &Db, lane: &Lane, now: Wall) -> Result<Option<Wall>, DbError> {
    let state = lane.lock();
    if state.suspended {
        return Ok(None);
    }
    let mut next: Option<Wall> = None;
    for priority in Priority::ALL {
        let mut far = beyond(db, lane, priority, now);
        let waits = next_free(&mut far, &state.leased).is_some();
        far.status()?;
        if waits {
            return Ok(Some(now));
        }
        let (due, job) = state.cursors[priority as usize];
        let from = key_at(lane.number, priority, due, job);
        let end = above(lane.number, priority, Wall(u64::MAX));
        let mut range = db.range(Cf::Due, &from, &end);
        let head = next_free(&mut range, &state.leased);
        range.status()?;
        if let Some((_, _, due)) = head {
            next = Some(next.map_or(due, |n| n.min(due)));
        }
    }
    Ok(next)
}

fn key_at(dest: u32, priority: Priority, due: Wall, job: JobId) -> Vec<u8> {
    keys::due(JobKey { dest, job }, priority, due).to_vec()
}

/// What is due later than any retry of the lane may be: the clock has jumped back since it was written, and it is due now.
/// What arrived before a jump of some hours counts too, or it would wait for so many hours.
fn beyond<'a>(db: &'a Db, lane: &Lane, priority: Priority, now: Wall) -> Range<'a> {
    let end = above(lane.number, priority, Wall(u64::MAX));
    db.range(Cf::Due, &above(lane.number, priority, now.plus(lane.longest())), &end)
}

/// How many of a lane's jobs are not due yet, `PUT_OFF_MAX` at most of each class. Costs a step for each.
pub(super) fn put_off(db: &Db, lane: &Lane, now: Wall) -> Result<usize, DbError> {
    let mut count = 0;
    for priority in Priority::ALL {
        let last = above(lane.number, priority, now.plus(lane.longest()));
        let mut of_class = 0;
        db.scan(Cf::Due, &above(lane.number, priority, now), &last, |_, _| {
            of_class += 1;
            of_class < PUT_OFF_MAX
        })?;
        count += of_class;
    }
    Ok(count)
}

/// More are not counted: a look at the lane would take too long.
const PUT_OFF_MAX: usize = 100_000;

/// The class that a job counts as at `now`.
pub(super) fn effective(priority: Priority, due: Wall, now: Wall, age_step: Duration) -> u8 {
    if priority <= Priority::High {
        return priority as u8;
    }
    let steps = now.since(due).as_micros() / age_step.as_micros().max(1);
    let steps = u8::try_from(steps).unwrap_or(u8::MAX);
    let aged = (priority as u8).saturating_sub(steps);
    if planted(Plant::AgePastStat) {
        return aged;
    }
    aged.max(Priority::High as u8)
}

/// The first key behind everything of this class that is due at `now`.
fn above(dest: u32, priority: Priority, now: Wall) -> Vec<u8> {
    match now.0.checked_add(1) {
        Some(next) => key_at(dest, priority, Wall(next), JobId(0)),
        None => {
            let mut prefix = dest.to_be_bytes().to_vec();
            prefix.push(priority as u8);
            keys::behind(&prefix)
        }
    }
}
