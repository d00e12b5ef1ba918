//! One look in numbers: from the table of metrics and the box's snapshot to rates, habits and doubts, and back into gauges, so that
//! Prometheus sees what the alarms see.
use super::clock::{ClockWatch, Doubt};
use super::config::Config;
use super::habits::{Expected, Habits, silent_for};
use super::rates::{Growth, Stock};
use super::store::Memory;
use super::task::Sight;
use crate::base::clock::Wall;
use crate::telemetry::metrics::{Metrics, Sample};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) type Samples = BTreeMap<String, Vec<Sample>>;

/// When the look is, and how long ago the one before was.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub wall: Wall,
    /// Since the box began to watch.
    pub passed: Duration,
    pub step: Duration,
}

/// What is measured between looks and not kept over a restart.
pub(super) struct Gauges {
    growth: Growth,
    clock: ClockWatch,
    /// When silence was last added up, and what came of it.
    silence: Option<(Duration, Silence)>,
    began: Wall,
    /// Those of the configuration: one that was renamed or taken out of it is not missed.
    sources: Vec<String>,
}

/// Who is silent for too long, and of whom it cannot be told yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    pub silent: Vec<(String, Duration)>,
    /// Silent as the time since the last instance tells, of which the box has not watched enough.
    pub unheard: Vec<String>,
}

/// What is known of one source.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Heard {
    /// It sends, or is not expected to.
    Well,
    Silent(Duration),
    Unknown,
}

/// What a look found.
pub(super) struct Found {
    pub drains: BTreeMap<String, Option<f64>>,
    pub full_seconds: f64,
    pub silence: Silence,
    pub doubts: Vec<Doubt>,
    /// An hour of habits has ended.
    pub learned: bool,
}

/// The sum over the samples with this label value.
fn sum(samples: &Samples, name: &str, wanted: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| {
        let same = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
        wanted.iter().all(same)
    };
    let found = samples.get(name).into_iter().flatten();
    found.filter(has).map(|sample| sample.value).sum()
}

impl Gauges {
    /// `sources` are those of the configuration.
    pub(super) fn new(clock: ClockWatch, began: Wall, sources: Vec<String>) -> Self {
        Self {
            growth: Growth::default(),
            clock,
            silence: None,
            began,
            sources,
        }
    }

    /// One look.
    pub(super) fn look(
        &mut self,
        at: Moment,
        (samples, sight): (&Samples, &Sight),
        (memory, habits): (&mut Memory, &mut Habits),
        (config, zone): (&Config, &TimeZone),
        metrics: &Metrics,
    ) -> Found {
        let drains = drains(at, samples, sight, memory, metrics);
        let full_seconds = self.room(at, samples, sight, memory, metrics);
        let last = last_received(samples);
        let now = Timestamp::from_microsecond(i64::try_from(at.wall.0).unwrap_or(i64::MAX)).unwrap_or_default();
        let learned = habits.look(now, at.step, &last, zone);
        let doubts = self.doubts(at, samples, metrics);
        let silence = self.silence(at, now, (habits, &mut memory.silent), (config, zone), metrics);
        metrics.alarms.rules_stale.set(i64::from(sight.rules_stale));
        strangers(samples, sight, metrics);
        Found {
            drains,
            full_seconds,
            silence,
            doubts,
            learned,
        }
    }

    fn room(&mut self, at: Moment, samples: &Samples, sight: &Sight, memory: &mut Memory, metrics: &Metrics) -> f64 {
        let (count, bytes) = (
            sum(samples, "waystation_instances_received_total", &[]),
            sum(samples, "waystation_instances_received_bytes_total", &[]),
        );
        if count > 0.0 {
            memory.mean_bytes = bytes / count;
        }
        let of = |state: &str| sum(samples, "waystation_spool_instances", &[("state", state)]);
        let Some(free) = sight.room_bytes else {
            return f64::INFINITY;
        };
        let now = Stock {
            pending: of("pending"),
            free,
            received: bytes,
            evicted: sum(samples, "waystation_cache_evicted_total", &[]),
            mean_bytes: memory.mean_bytes,
        };
        self.growth.look(at.step, now);
        let room = free + (of("delivered") + of("discarded")) * memory.mean_bytes;
        let full = match sum(samples, "waystation_spool_low_water", &[]) > 0.0 {
            true => 0.0,
            false => self.growth.full_seconds(room),
        };
        #[allow(clippy::cast_possible_truncation)]
        metrics.alarms.spool_room_bytes.set(room as i64);
        metrics.alarms.spool_full_seconds.set(full);
        full
    }

    fn doubts(&mut self, at: Moment, samples: &Samples, metrics: &Metrics) -> Vec<Doubt> {
        let skews = samples
            .get("waystation_source_clock_skew_seconds")
            .into_iter()
            .flatten();
        let peers: Vec<f64> = skews.map(|sample| sample.value).collect();
        let jumps = self.clock.jumps;
        let doubts = self.clock.look(at.wall, at.passed, &peers);
        metrics.alarms.clock_jumps_total.inc_by(self.clock.jumps - jumps);
        for word in Doubt::WORDS {
            let doubted = doubts.iter().any(|doubt| doubt.word() == word);
            metrics
                .alarms
                .clock_implausible
                .with_label_values(&[word])
                .set(i64::from(doubted));
        }
        doubts
    }

    fn silence(
        &mut self,
        at: Moment,
        now: Timestamp,
        (habits, known): (&Habits, &mut BTreeSet<String>),
        (config, zone): (&Config, &TimeZone),
        metrics: &Metrics,
    ) -> Silence {
        // Adding up a week for each source is some milliseconds: not at every look.
        let own = config.silence.iter().filter_map(|own| own.after).map(|after| after.0);
        let shortest = own.fold(config.silence_after.0, Duration::min);
        let pause = (shortest / 8).clamp(config.interval.0, SILENCE_EVERY.max(config.interval.0));
        if let Some((when, found)) = &self.silence
            && at.passed.saturating_sub(*when) < pause
        {
            return found.clone();
        }
        let mut found = Silence::default();
        known.retain(|name| self.sources.contains(name));
        for name in &self.sources {
            match self.heard(name, now, habits, (config, zone)) {
                Heard::Silent(span) => {
                    known.insert(name.clone());
                    found.silent.push((name.clone(), span));
                }
                // It is what it was before the restart.
                Heard::Unknown => found.unheard.push(name.clone()),
                Heard::Well => drop(known.remove(name)),
            }
            let gauge = metrics.alarms.source_silent.with_label_values(&[name]);
            gauge.set(known.contains(name).into());
        }
        self.silence = Some((at.passed, found.clone()));
        found
    }

    /// Whether a source has been silent for too long, and for how long.
    fn heard(&self, name: &str, now: Timestamp, habits: &Habits, (config, zone): (&Config, &TimeZone)) -> Heard {
        let own = config.silence.iter().find(|silence| silence.source.as_str() == name);
        let expected = match (own, habits.sources.get(name)) {
            (Some(own), _) => Expected::Windows(&own.hours),
            (None, Some(habit)) => Expected::Learned(habit, u32::from(config.silence_weeks)),
            (None, None) => return Heard::Well,
        };
        let after = own.and_then(|own| own.after).unwrap_or(config.silence_after).0;
        let silent = |since: f64| {
            #[allow(clippy::cast_possible_truncation)]
            let since = Timestamp::from_second(since as i64).unwrap_or_default();
            silent_for(&expected, since, now, zone, &config.holidays)
        };
        let last = habits.last.get(name).copied().unwrap_or(0.0);
        let (watched, began) = (silent(last.max(self.began.seconds())), self.began.seconds());
        if watched >= after {
            Heard::Silent(watched)
        } else if last < began && silent(last) >= after {
            // While the box was off it may have sent elsewhere, or not at all: nobody has watched.
            Heard::Unknown
        } else {
            Heard::Well
        }
    }
}

const SILENCE_EVERY: Duration = Duration::from_secs(60);

fn last_received(samples: &Samples) -> BTreeMap<String, f64> {
    let found = samples.get("waystation_source_last_received_timestamp_seconds");
    let entry = |sample: &Sample| Some((sample.labels.get("source")?.clone(), sample.value));
    found.into_iter().flatten().filter_map(entry).collect()
}

/// Those that were strangers and are none any more are said to have nothing.
fn strangers(samples: &Samples, sight: &Sight, metrics: &Metrics) {
    let before = samples.get("waystation_jobs_unconfigured").into_iter().flatten();
    let before = before.filter_map(|sample| sample.labels.get("destination"));
    for name in before.filter(|name| !sight.strangers.contains_key(*name)) {
        metrics.alarms.jobs_unconfigured.with_label_values(&[name]).set(0);
    }
    for (name, jobs) in &sight.strangers {
        let jobs = i64::try_from(*jobs).unwrap_or(i64::MAX);
        metrics.alarms.jobs_unconfigured.with_label_values(&[name]).set(jobs);
    }
}

fn drains(
    at: Moment,
    samples: &Samples,
    sight: &Sight,
    memory: &mut Memory,
    metrics: &Metrics,
) -> BTreeMap<String, Option<f64>> {
    let mut found = BTreeMap::new();
    let gauge = &metrics.alarms.drain_seconds;
    // Unless there was a gauge, there is nothing to take back.
    let unknown = |name: &str| drop(gauge.remove_label_values(&[name]));
    memory.lanes.retain(|name, _| {
        let configured = sight.lanes.contains_key(name);
        if !configured {
            unknown(name);
        }
        configured
    });
    for name in sight.lanes.keys() {
        let own = [("destination", name.as_str())];
        let ended = |outcome| sum(samples, "waystation_deliveries_total", &[own[0], ("outcome", outcome)]);
        // What is under way is queued until it has ended; what is not due yet is no backlog.
        let put_off = sight.put_off.get(name).copied().unwrap_or(0);
        #[allow(clippy::cast_precision_loss)]
        let waiting = (sum(samples, "waystation_jobs_queued", &own) - put_off as f64).max(0.0);
        let takes = sum(samples, "waystation_destination_up", &own) > 0.0
            && sum(samples, "waystation_destination_suspended", &own) <= 0.0;
        let lane = memory.lanes.entry(name.clone()).or_default();
        lane.look(at.step, ended("confirmed") + ended("warning"), (waiting, takes));
        let drain = lane.drain_seconds(waiting);
        match drain {
            Some(seconds) => gauge.with_label_values(&[name]).set(seconds),
            None => unknown(name),
        }
        found.insert(name.clone(), drain);
    }
    found
}

#[cfg(test)]
#[path = "gauges_tests.rs"]
mod tests;
