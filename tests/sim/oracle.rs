//! What is known from outside, and the promises judged by it (failures.md section 1). Knows what was acknowledged, what the
//! archives have and have said, and what a person has ordered; asks the box only what it still has in hand.
use crate::net::{Poison, Weather};
use crate::world::{MINUTE, Process, Route, World, class_uid};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use waystation::base::clock::Wall;
use waystation::base::names::{InstanceId, JobId};
use waystation::sender::{Duplicate, Outcome};
use waystation::spool::bench::{JobView, Opened, Recorded};
use waystation::spool::{HoldKind, Lease};

/// A thing at a destination.
pub type Leg = (u32, u8);

#[derive(Default)]
pub struct Oracle {
    /// The modality has begun to send it.
    pub begun: Vec<bool>,
    /// The modality has seen the acknowledgement.
    pub knows: Vec<bool>,
    pub sent_all: bool,
    /// An acknowledgement has left the box, and when.
    acked: BTreeMap<u32, u64>,
    pub ids: HashMap<InstanceId, u32>,
    pub stored: HashSet<Leg>,
    /// The archive's word that it has it has reached the box.
    pub answered: HashSet<Leg>,
    /// That word is with the process that runs, recorded or not.
    pub yes: HashSet<Leg>,
    /// The box has recorded that word durably.
    durable: HashSet<Leg>,
    /// A person has ended, moved or repeated it: no promise about the leg, or about sending it once.
    pub waived: HashSet<Leg>,
    pub moved: HashMap<Leg, u8>,
    pub touched: HashSet<Leg>,
    /// Failures that were the instance's own.
    blame: HashMap<JobId, u32>,
    /// Things whose payload the disk has damaged.
    pub damaged: BTreeSet<u32>,
    /// `None`: nobody knows.
    pub suspended: Vec<Option<bool>>,
    pub weathers: Vec<Vec<Weather>>,
    pub held_by_person: HashSet<Leg>,
    pub jumped: bool,
    /// The last time something happened that may delay everybody.
    calm_since: u64,
    pub duplicates: u64,
    pub lag_max: u64,
}

impl Oracle {
    pub fn new(things: usize, peers: usize) -> Self {
        Self {
            begun: vec![false; things],
            knows: vec![false; things],
            suspended: vec![Some(false); peers],
            weathers: vec![vec![Weather::Up]; peers],
            ..Self::default()
        }
    }

    pub fn acknowledged(&mut self, thing: u32, now: u64) {
        self.acked.entry(thing).or_insert(now);
    }

    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    pub fn disturbed(&mut self, now: u64) {
        self.calm_since = now;
    }

    /// Counts what may be held against the instance: the destination's answer about it, or a session that it broke.
    pub fn blames(&mut self, job: JobId, outcome: &Outcome, answers: bool) {
        let own = match outcome {
            Outcome::Refused { .. } => true,
            Outcome::Interrupted(interruption) => interruption.fresh && answers,
            _ => false,
        };
        *self.blame.entry(job).or_default() += u32::from(own);
    }
}

/// The order of a claim, worked out anew from the rules in docs: class, aged by half hours up to high, then time, then number.
fn rank(job: &JobView, now: Wall) -> (u8, Wall, JobId) {
    let class = job.priority as u8;
    let halves = now.since(job.due).as_secs() / 1_800;
    let aged = if class <= 1 {
        class
    } else {
        u64::from(class).saturating_sub(halves).max(1) as u8
    };
    (aged, job.due, job.job)
}

/// The first `limit` of these, without those of studies that another worker has in hand, unless they are `stat`; and behind the
/// last of them what follows of its study, up to 32 in all, when more than one was asked for.
fn together(jobs: Vec<JobView>, limit: usize, now: Wall, elsewhere: impl Fn([u8; 8]) -> bool) -> Vec<JobId> {
    let free = |job: &JobView| rank(job, now).0 == 0 || !job.group.is_some_and(&elsewhere);
    let mut taken: Vec<JobView> = Vec::new();
    for job in jobs.into_iter().filter(free) {
        let follows = taken.last().is_some_and(|last| last.group == job.group) && job.group.is_some();
        if taken.len() >= limit && !(follows && limit > 1 && taken.len() < 32) {
            break;
        }
        taken.push(job);
    }
    taken.into_iter().map(|job| job.job).collect()
}

impl World {
    /// The jobs that a claim must give to this worker, when that is checked.
    pub fn expected(&self, process: &Process, dest: usize, limit: usize, worker: usize) -> Option<Vec<JobId>> {
        if !self.plan.checks {
            return None;
        }
        let (now, name) = (self.clock.now(), &self.names[dest]);
        let mut jobs = process.bench.jobs();
        let day = std::time::Duration::from_secs(24 * 3_600);
        // A clock that goes back between a decision and its commit looks like a rule that puts a job off.
        let longest = match process.bench.waits(name) {
            true => day,
            false => self.peers[dest].patience.retry.max.0,
        };
        jobs.retain(|job| {
            // A time further ahead than any retry of the lane is one of a clock that was wrong.
            let due = job.due <= now || job.due > now.plus(longest);
            job.destination.as_ref() == Some(name) && job.hold.is_none() && !job.leased && due
        });
        if process.bench.is_suspended(name) || !process.bench.is_open() {
            jobs.clear();
        }
        jobs.sort_by_key(|job| rank(job, now));
        let in_hand = process.bench.in_hand(name);
        Some(together(jobs, limit, now, |group| {
            in_hand.get(&group).is_some_and(|by| *by != worker)
        }))
    }

    pub fn check_claim(
        &mut self,
        process: &Process,
        dest: usize,
        expected: Option<Vec<JobId>>,
        leases: &[Lease],
        recorded: &[Recorded],
    ) {
        for job in recorded {
            self.say(|| format!("d{dest}: {} was confirmed before, recorded: {}", job.job, job.durable));
            if let (true, Some(thing)) = (job.durable, self.oracle.ids.get(&job.instance)) {
                self.confirmed(dest, *thing);
            }
        }
        if self.oracle.suspended[dest] == Some(true) && !leases.is_empty() {
            self.broken(format!("d{dest}: claimed although a person has suspended it"));
        }
        for lease in leases {
            let blamed = self.oracle.blame.get(&lease.job).copied().unwrap_or(0);
            if lease.attempts > blamed {
                let (job, attempts) = (lease.job, lease.attempts);
                self.broken(format!("{job} has {attempts} attempts, {blamed} were its own"));
            }
        }
        let claimed: Vec<JobId> = leases.iter().map(|lease| lease.job).collect();
        let expected = expected.map(|mut expected| {
            expected.retain(|job| !recorded.iter().any(|done| done.job == *job));
            expected
        });
        // A read that failed gives nothing, and shuts the gate.
        if let Some(expected) = expected
            && process.bench.is_open()
            && claimed != expected
        {
            self.broken(format!("d{dest}: claimed {claimed:?}, its order was {expected:?}"));
        }
    }

    /// An instance leaves for an archive.
    pub fn sends(&mut self, dest: usize, thing: u32, lease: &Lease, payload: &crate::world::Payload) {
        let leg = (thing, dest as u8);
        let known = self.oracle.ids.get(&lease.instance.id).copied();
        if payload.thing != thing || known != Some(thing) {
            self.broken(format!(
                "d{dest}: gets bytes of thing {} as thing {thing}",
                payload.thing
            ));
        }
        if self.oracle.durable.contains(&leg) && !self.oracle.touched.contains(&leg) {
            self.broken(format!(
                "d{dest}: thing {thing} is sent again after its confirmation was recorded"
            ));
        }
        if self.oracle.yes.contains(&leg) && !self.oracle.touched.contains(&leg) {
            self.broken(format!(
                "d{dest}: thing {thing} is sent again, and the archive has said that it has it"
            ));
        }
        self.oracle.duplicates += u64::from(self.oracle.stored.contains(&leg));
    }

    /// A confirmation is on the disk.
    pub fn confirmed(&mut self, dest: usize, thing: u32) {
        let leg = (thing, dest as u8);
        if !self.oracle.answered.contains(&leg) {
            self.broken(format!(
                "d{dest}: thing {thing} is confirmed, and the archive has not said so"
            ));
        }
        self.oracle.durable.insert(leg);
        if let (true, false, Some(acked)) = (
            self.plan.steady && dest == 0,
            self.oracle.jumped,
            self.oracle.acked.get(&thing),
        ) {
            let since = (*acked).max(self.oracle.calm_since);
            let lag = self.now.saturating_sub(since);
            let touched = self.oracle.touched.contains(&leg) || self.oracle.waived.contains(&leg);
            self.oracle.lag_max = self.oracle.lag_max.max(lag);
            if lag > 2 * MINUTE && !touched {
                self.broken(format!(
                    "d0 had no fault, and thing {thing} waited {} s",
                    lag / 1_000_000
                ));
            }
        }
    }

    /// After a start: what was promised before it is kept.
    pub fn check_start(&mut self, process: &Process, opened: &Opened) {
        if !opened.report.adopted.is_empty() {
            self.broken(format!("the index has lost {:?}", opened.report.adopted));
        }
        if !opened.report.missing.is_empty() {
            self.broken(format!("records without payload: {:?}", opened.report.missing));
        }
        for dest in 0..self.peers.len() {
            let is = process.bench.is_suspended(&self.names[dest]);
            match self.oracle.suspended[dest] {
                Some(was) if was != is => self.broken(format!("d{dest}: suspended was {was}, is {is}")),
                _ => self.oracle.suspended[dest] = Some(is),
            }
        }
        if self.plan.checks {
            self.check_records(process);
        }
    }

    /// Records agree with each other, and with what was acknowledged.
    pub fn check_records(&mut self, process: &Process) {
        if let Some(problem) = process.bench.problems().first() {
            self.broken(format!("fsck: {problem}"));
        }
        self.check_legs(process);
    }

    /// Every acknowledged leg is in the spool, confirmed, or a person's decision.
    pub fn check_legs(&mut self, process: &Process) {
        if !process.bench.is_open() {
            return;
        }
        let mut in_hand: HashSet<Leg> = HashSet::new();
        for job in process.bench.jobs() {
            let Some(thing) = self.oracle.ids.get(&job.instance).copied() else {
                self.broken(format!("{} is of an instance that nobody sent", job.job));
                continue;
            };
            let dest = job
                .destination
                .as_ref()
                .and_then(|name| self.names.iter().position(|own| own == name));
            match dest {
                Some(dest) => drop(in_hand.insert((thing, dest as u8))),
                None => in_hand.extend((0..self.peers.len()).map(|dest| (thing, dest as u8))),
            }
        }
        if !process.bench.is_open() {
            return;
        }
        let lost = self.oracle.acked.keys().find_map(|thing| {
            let to = self.things[*thing as usize].to;
            let legs = (0..self.peers.len() as u8).filter(|dest| to & (1 << dest) != 0);
            legs.map(|dest| (*thing, dest)).find(|leg| !self.kept(*leg, &in_hand))
        });
        if let Some((thing, dest)) = lost {
            self.broken(format!("thing {thing} was acknowledged, and is lost for d{dest}"));
        }
    }

    fn kept(&self, leg: Leg, in_hand: &HashSet<Leg>) -> bool {
        let oracle = &self.oracle;
        if in_hand.contains(&leg) || oracle.answered.contains(&leg) || oracle.waived.contains(&leg) {
            return true;
        }
        let others = oracle.moved.get(&leg).copied().unwrap_or(0);
        let at = |dest: u8| in_hand.contains(&(leg.0, dest)) || oracle.answered.contains(&(leg.0, dest));
        (0..8).any(|dest| others & (1 << dest) != 0 && at(dest))
    }

    /// Everything healed and enough time has passed: nothing may be left but what is held, each for a reason that there was.
    pub fn check_end(&mut self, process: &Process) {
        let unsent = self.oracle.knows.iter().position(|knows| !knows);
        if let Some(thing) = unsent {
            self.broken(format!(
                "thing {thing} is not acknowledged long after everything was healed"
            ));
        }
        for (dest, lane) in process.lanes.iter().enumerate() {
            if !lane.is_idle() {
                self.broken(format!("d{dest} is still at work long after everything was healed"));
            }
        }
        for job in process.bench.jobs() {
            match job.hold {
                _ if job.leased => self.broken(format!("{} is leased, and nobody works on it", job.job)),
                None => self.broken(format!("{} still waits long after everything was healed", job.job)),
                Some(kind) => self.check_hold(&job, kind),
            }
        }
        self.check_records(process);
    }

    fn check_hold(&mut self, job: &JobView, kind: HoldKind) {
        let thing = self.oracle.ids.get(&job.instance).copied().unwrap_or(0);
        let about = self.things[thing as usize].clone();
        let dest = job
            .destination
            .as_ref()
            .and_then(|name| self.names.iter().position(|own| own == name));
        let Some(dest) = dest else { return };
        let (peer, oracle) = (&self.peers[dest], &self.oracle);
        let stormy = |wanted: &[Weather]| oracle.weathers[dest].iter().any(|weather| wanted.contains(weather));
        let legitimate = match kind {
            HoldKind::Operator => oracle.held_by_person.contains(&(thing, dest as u8)),
            HoldKind::Conflict => self.things.iter().filter(|other| other.uid == about.uid).count() > 1,
            HoldKind::Corrupt => oracle.damaged.contains(&thing),
            HoldKind::Parked => peer.refuses & (1 << about.class) != 0,
            HoldKind::Refused => {
                let breaks = [
                    Weather::ResetsBefore,
                    Weather::ResetsAfter,
                    Weather::Refuses,
                    Weather::BlackHole,
                ];
                peer.poison(thing)
                    .is_some_and(|poison| matches!(poison, Poison::Refused | Poison::Breaks))
                    || stormy(&[Weather::Moody])
                    || stormy(&breaks)
                    || (peer.patience.duplicate == Duplicate::Hold && stormy(&[Weather::ResetsAfter]))
            }
            HoldKind::Rule => about.route == Route::Held,
            HoldKind::Error
            | HoldKind::Budget
            | HoldKind::NoDestination
            | HoldKind::Edit
            | HoldKind::Recovered
            | HoldKind::Doubtful
            | HoldKind::Conversion
            | HoldKind::Incomplete
            | HoldKind::NotCommitted => false,
        };
        if !legitimate {
            let class = class_uid(about.class);
            self.broken(format!(
                "thing {thing} ({class}) is held at d{dest} as {kind:?} for no reason"
            ));
        }
    }
}
