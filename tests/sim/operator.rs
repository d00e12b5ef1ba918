//! A person at random: holds, releases, retries, reroutes, discards, suspends, resumes, pokes, makes room.
use crate::oracle::Leg;
use crate::world::{Event, For, HOUR, MINUTE, World};
use rand::Rng;
use waystation::spool::Verb;
use waystation::spool::bench::{Ask, JobView};

impl World {
    pub fn operate(&mut self) {
        let dest = self.rng.random_range(0..self.peers.len());
        let steady = self.plan.steady && dest == 0;
        match self.rng.random_range(0..12) {
            0 if !steady => self.set_suspended(dest, true),
            1 => self.set_suspended(dest, false),
            2 => self.poke(dest),
            3 => self.ask(Ask::Evict(4), For::Keeper),
            4 | 5 => self.redecide(),
            _ => self.verb(dest),
        }
    }

    fn set_suspended(&mut self, dest: usize, on: bool) {
        self.say(|| format!("operator: suspend d{dest}: {on}"));
        self.oracle.suspended[dest] = None;
        let whom = For::Suspension {
            dest,
            on,
            by_lane: false,
        };
        let name = self.names[dest].clone();
        self.ask(Ask::Suspend(name, on), whom);
    }

    fn poke(&mut self, dest: usize) {
        self.say(|| format!("operator: tries d{dest} now"));
        self.with(|world, process| {
            let now = world.instant();
            process.lanes[dest].machine.hurry(now);
        });
        self.look(dest);
    }

    /// A held job is decided anew by the rules of today, which by now name the destinations.
    fn redecide(&mut self) {
        let Some(process) = &self.process else { return };
        let mut jobs = process.bench.jobs();
        jobs.retain(|job| job.hold.is_some());
        if jobs.is_empty() {
            return;
        }
        let job = jobs.swap_remove(self.rng.random_range(0..jobs.len()));
        let Some(thing) = self.oracle.ids.get(&job.instance).copied() else {
            return;
        };
        let new = self.decided(thing, None);
        for dest in 0..self.peers.len() as u8 {
            self.oracle.touched.insert((thing, dest));
        }
        let what = format!("redecide {}", job.job);
        self.say(|| format!("operator: {what}"));
        self.ask(Ask::Redecide(job.job, new), For::Operator(what));
    }

    /// A verb for a few jobs of a destination.
    fn verb(&mut self, dest: usize) {
        let Some(process) = &self.process else { return };
        let mut jobs = process.bench.jobs();
        jobs.retain(|job| job.destination.as_ref() == Some(&self.names[dest]));
        let count = self.rng.random_range(1..4);
        jobs.truncate(count);
        let other = self.rng.random_range(0..self.peers.len());
        let verb = match self.rng.random_range(0..6) {
            0 => Verb::Hold,
            1 | 2 => Verb::Release,
            3 => Verb::Retry,
            4 => Verb::Reroute(self.names[other].clone()),
            _ => Verb::Discard,
        };
        for job in &jobs {
            self.ordered(dest, other, &verb, job);
        }
        let ids: Vec<_> = jobs.iter().map(|job| job.job).collect();
        let what = format!("{verb:?} {ids:?}");
        self.say(|| format!("operator: {what}"));
        self.ask(Ask::Act(ids, verb), For::Operator(what));
    }

    /// From now on the person's word counts, whether or not it comes to be recorded.
    fn ordered(&mut self, dest: usize, other: usize, verb: &Verb, job: &JobView) {
        let Some(thing) = self.oracle.ids.get(&job.instance).copied() else {
            return;
        };
        let leg = (thing, dest as u8);
        self.oracle.touched.insert(leg);
        match verb {
            Verb::Hold => drop(self.oracle.held_by_person.insert(leg)),
            Verb::Discard => {
                // Of a job that was moved here, too: its first leg ends with it.
                let came = |(from, to): (&Leg, &u8)| (from.0 == thing && to & (1 << dest) != 0).then_some(*from);
                let from: Vec<Leg> = self.oracle.moved.iter().filter_map(came).collect();
                self.oracle.waived.extend(from);
                self.oracle.waived.insert(leg);
            }
            Verb::Reroute(_) => {
                for (from, to) in &mut self.oracle.moved {
                    // Moved here before: it moves on.
                    if from.0 == thing && *to & (1 << dest) != 0 {
                        *to |= 1 << other;
                    }
                }
                *self.oracle.moved.entry(leg).or_default() |= 1 << other;
                self.oracle.touched.insert((thing, other as u8));
                self.oracle.held_by_person.insert((thing, other as u8));
            }
            Verb::Release | Verb::Retry => {}
        }
    }

    /// The end of all faults: links are up, disks work, what is suspended is resumed, again and again until it stays.
    pub fn heal(&mut self) {
        self.say(|| "HEALED".to_owned());
        self.healed = true;
        self.disk.set_dead(false);
        self.disk.fail_reads(0);
        for peer in &mut self.peers {
            peer.weather = crate::net::Weather::Up;
        }
        if self.process.is_none() {
            self.at(self.now, Event::Start);
        }
        let end = self.now + self.patience();
        while self.now < end && self.violation.is_none() {
            self.run_until(self.now + MINUTE);
            for dest in 0..self.peers.len() {
                let suspended = |process: &crate::world::Process| process.bench.is_suspended(&self.names[dest]);
                if self.process.as_ref().is_some_and(suspended) {
                    self.set_suspended(dest, false);
                }
            }
            if self.is_done() {
                break;
            }
        }
    }

    /// How long everything may take after all is well: the longest retry and the longest pauses; a day when the wall clock has
    /// jumped, since a due time may then lie so far ahead.
    fn patience(&self) -> u64 {
        match self.oracle.jumped {
            true => 26 * HOUR,
            false => 2 * HOUR,
        }
    }

    fn is_done(&self) -> bool {
        let Some(process) = &self.process else { return false };
        self.oracle.knows.iter().all(|knows| *knows)
            && process.asks.is_empty()
            && process.lanes.iter().all(crate::lane::Lane::is_idle)
            && process.bench.jobs().iter().all(|job| job.hold.is_some() && !job.leased)
            && process.bench.is_open()
    }
}
