//! Named worlds, bigger than a seed's.
use crate::Tally;
use crate::net::Weather;
use crate::plan::Plan;
use crate::world::{HOUR, MILLI, MINUTE, SECOND, World};
use std::time::Instant;
use waystation::telemetry::metrics::Metrics;

/// All of them; smaller, when not `big`.
pub fn all(tally: &mut Tally, metrics: &Metrics, big: bool) {
    type Scenario = fn(&Metrics, usize) -> Result<String, String>;
    let scenarios: [(&str, Scenario, usize, usize); 6] = [
        ("three days of outage", outage, 100_000, 3_000),
        ("a million jobs", many, 250_000, 2_500),
        ("a link that flaps a thousand times", flapping, 1_000, 100),
        ("one slow archive among four", slow, 20_000, 1_000),
        ("poisoned instances", poisoned, 10_000, 500),
        ("an archive that grants one association", granted, 10_000, 500),
    ];
    for (name, scenario, much, little) in scenarios {
        let began = Instant::now();
        let result = scenario(metrics, if big { much } else { little });
        tally.judge(name, result, began);
    }
}

fn world(plan: Plan, metrics: &Metrics) -> World {
    let world = World::new(20_261_122, plan, metrics.clone(), false);
    world.disk.shorten_ledger();
    world
}

/// Runs on until everything has ended; what was promised must be kept then.
fn end(mut world: World) -> Result<String, String> {
    world.heal();
    if world.violation.is_none() {
        match world.process.take() {
            Some(process) => world.check_end_of_scenario(&process),
            None => world.broken("there is no process".to_owned()),
        }
    }
    let said = format!(
        "{} acknowledged, {} steps, {}",
        world.oracle.acked(),
        world.steps,
        hours(world.now)
    );
    world.violation.map_or(Ok(said), Err)
}

fn hours(micros: u64) -> String {
    format!("{:.1} hours", micros as f64 / HOUR as f64)
}

fn must(world: &World, holds: bool, text: String) -> Result<(), String> {
    match (&world.violation, holds) {
        (Some(text), _) => Err(text.clone()),
        (None, true) => Ok(()),
        (None, false) => Err(text),
    }
}

/// Instances come for three days; one of two archives is gone all the time. The other waits for nothing, no job pays with an
/// attempt, nobody is asked more than twice in a minute, and when it comes back everything goes at once.
fn outage(metrics: &Metrics, things: usize) -> Result<String, String> {
    let mut plan = Plan::quiet(things, 2);
    plan.sending = 2 * 72 * HOUR / things as u64;
    let mut world = world(plan, metrics);
    world.peers[1].weather = Weather::BlackHole;
    world.run_until(72 * HOUR + HOUR);
    let probes = world.reached[1];
    must(
        &world,
        world.waiting(1) == things && world.waiting(0) == 0,
        "the outage is not what waits".to_owned(),
    )?;
    must(
        &world,
        probes < 72 * 60 * 2 + 60,
        format!("{probes} connections in three days"),
    )?;
    must(
        &world,
        world.attempts_max() == 0,
        "the outage has cost an attempt".to_owned(),
    )?;
    let back = world.now;
    world.peers[1].weather = Weather::Up;
    let end_of_world = drained(&mut world, 1, 12 * HOUR);
    let took = end_of_world - back;
    must(&world, world.waiting(1) == 0, "it is not caught up".to_owned())?;
    Ok(format!(
        "{probes} probes; caught up in {}; {}",
        hours(took),
        end(world)?
    ))
}

/// A quarter of a million instances for four archives that are all down: a million jobs wait. Then they are up.
fn many(metrics: &Metrics, things: usize) -> Result<String, String> {
    let mut plan = Plan::quiet(things, 4);
    (plan.sending, plan.workers) = (20 * MILLI, 4);
    let mut world = world(plan, metrics);
    for peer in &mut world.peers {
        peer.weather = Weather::Refuses;
    }
    world.run_until(things as u64 * 12 * MILLI + MINUTE);
    let waiting: usize = (0..4).map(|dest| world.waiting(dest)).sum();
    must(&world, waiting == things * 4, format!("{waiting} jobs wait"))?;
    // A start over that queue, and not from memory.
    world.crash();
    for peer in &mut world.peers {
        peer.weather = Weather::Up;
    }
    let (back, mut last) = (world.now, world.now);
    for dest in 0..4 {
        last = drained(&mut world, dest, 12 * HOUR).max(last);
    }
    Ok(format!(
        "{waiting} jobs waited, gone in {}; {}",
        hours(last - back),
        end(world)?
    ))
}

/// A link that comes and goes while instances come: nothing is lost or held, and it is used whenever it is there.
fn flapping(metrics: &Metrics, flaps: usize) -> Result<String, String> {
    let mut plan = Plan::quiet(flaps * 5, 1);
    plan.sending = 4 * SECOND;
    let mut world = world(plan, metrics);
    // Whoever is connected when the link goes has to find out by a reset.
    let down = [
        Weather::Refuses,
        Weather::ResetsAfter,
        Weather::BlackHole,
        Weather::ResetsBefore,
    ];
    for flap in 0..flaps {
        world.peers[0].weather = down[flap % 4];
        world.run_until(world.now + 4 * SECOND);
        world.peers[0].weather = Weather::Up;
        world.run_until(world.now + 6 * SECOND);
    }
    must(
        &world,
        world.held() * 20 < flaps * 5,
        format!("{} held by a flapping link", world.held()),
    )?;
    let delivered = world.oracle.answered.len();
    must(
        &world,
        delivered * 10 > flaps * 5 * 8,
        format!("only {delivered} delivered while it flapped"),
    )?;
    Ok(format!("{delivered} delivered while it flapped; {}", end(world)?))
}

/// One archive takes seconds for each instance, three do not, and do not wait for it.
fn slow(metrics: &Metrics, things: usize) -> Result<String, String> {
    let mut plan = Plan::quiet(things, 4);
    (plan.sending, plan.steady) = (SECOND, true);
    let mut world = world(plan, metrics);
    world.peers[3].weather = Weather::Slow;
    world.run_until(things as u64 * 510 * MILLI + MINUTE);
    let waiting: Vec<usize> = (0..4).map(|dest| world.waiting(dest)).collect();
    must(
        &world,
        waiting[..3] == [0, 0, 0] && waiting[3] > things / 4,
        format!("{waiting:?} wait"),
    )?;
    let lag = world.oracle.lag_max as f64 / 1e6;
    must(&world, lag < 5.0, format!("the fast ones waited up to {lag:.1} s"))?;
    Ok(format!(
        "{waiting:?} waiting at the end of the sending, the fast at most {lag:.2} s; {}",
        end(world)?
    ))
}

/// One instance in fifty is refused for ever, or breaks its session: these are held after their tries, and no other is.
fn poisoned(metrics: &Metrics, things: usize) -> Result<String, String> {
    let mut plan = Plan::quiet(things, 1);
    plan.sending = SECOND;
    let mut world = world(plan, metrics);
    world.peers[0].poison_in = 50;
    let bad = (0..things as u32)
        .filter(|thing| world.peers[0].poison(*thing).is_some())
        .count();
    world.run_until(things as u64 * 510 * MILLI + 3 * HOUR);
    let held = world.held();
    must(&world, held == bad && bad > 0, format!("{held} held, {bad} are bad"))?;
    Ok(format!("{bad} of {things} held; {}", end(world)?))
}

/// An archive that rejects a second association, for a site that allows eight, and instances that come faster than it answers: it works
/// without a pause, and is asked for one more each half minute and not more often.
fn granted(metrics: &Metrics, things: usize) -> Result<String, String> {
    let mut plan = Plan::quiet(things, 1);
    (plan.sending, plan.workers) = (20 * MILLI, 8);
    let mut world = world(plan, metrics);
    world.peers[0].grants = 1;
    // Less than 70 ms for an instance, and what its record takes.
    let span = things as u64 * 100 * MILLI + MINUTE;
    world.run_until(span);
    let (waiting, asked) = (world.waiting(0), world.reached[0]);
    must(&world, waiting == 0, format!("{waiting} wait"))?;
    let most = span / (30 * SECOND) + things as u64 / 5 + 10;
    must(&world, asked <= most, format!("{asked} associations asked for"))?;
    let down = world.process.as_ref().is_some_and(|process| process.lanes[0].down);
    must(&world, !down, "it is taken for down".to_owned())?;
    Ok(format!("{asked} associations asked for; {}", end(world)?))
}

/// Runs until nothing waits for a destination. Answers when that was.
fn drained(world: &mut World, dest: usize, within: u64) -> u64 {
    let until = world.now + within;
    while world.now < until && world.violation.is_none() {
        world.run_until(world.now + 30 * SECOND);
        if world.process.is_some() && world.queued(dest) == 0 {
            break;
        }
    }
    world.now
}

impl World {
    /// Jobs that wait for a destination.
    fn waiting(&self, dest: usize) -> usize {
        let jobs = self.process.iter().flat_map(|process| process.bench.jobs());
        jobs.filter(|job| job.hold.is_none() && job.destination.as_ref() == Some(&self.names[dest]))
            .count()
    }

    /// The same by the gauge, which costs nothing.
    fn queued(&self, dest: usize) -> i64 {
        let words = ["stat", "high", "routine", "low"];
        let gauge = |word| {
            self.metrics
                .jobs_queued
                .with_label_values(&[self.names[dest].as_str(), word])
                .get()
        };
        words.into_iter().map(gauge).sum()
    }

    fn held(&self) -> usize {
        let jobs = self.process.iter().flat_map(|process| process.bench.jobs());
        jobs.filter(|job| job.hold.is_some()).count()
    }

    fn attempts_max(&self) -> u32 {
        let jobs = self.process.iter().flat_map(|process| process.bench.jobs());
        jobs.map(|job| job.attempts).max().unwrap_or(0)
    }

    /// The end, without the reasons of holds, which the scenario knows better.
    fn check_end_of_scenario(&mut self, process: &crate::world::Process) {
        if process.bench.jobs().iter().any(|job| job.leased || job.hold.is_none()) {
            self.broken("a job still waits or is leased".to_owned());
        }
        self.check_legs(process);
    }
}
