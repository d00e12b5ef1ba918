//! How far each source's clock is ahead of the box's, as far as its instances tell. An instance is only ever late, never early, so the
//! least late of the last hour says the most; what was said longer ago is not shown any more.
use super::metrics::IntGaugeVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The hour goes by in steps of five minutes.
const STEP: Duration = Duration::from_secs(300);
const STEPS: u64 = 12;

/// The greatest of each step, by source.
#[derive(Default)]
pub(super) struct Skews(Mutex<BTreeMap<String, VecDeque<(u64, i64)>>>);

impl Skews {
    /// An instance was made so many seconds after its arrival (below 0: before). `passed` is monotonic.
    pub(super) fn note(&self, gauge: &IntGaugeVec, source: &str, skew: i64, passed: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = all.entry(source.to_owned()).or_default();
        let now = step(passed);
        match steps.back_mut() {
            Some((at, greatest)) if *at == now => *greatest = skew.max(*greatest),
            _ => steps.push_back((now, skew)),
        }
        set(gauge, source, steps, now);
    }

    /// Brings the gauges up to date: those of sources that have said nothing for an hour go.
    pub(super) fn show(&self, gauge: &IntGaugeVec, passed: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|source, steps| set(gauge, source, steps, step(passed)));
    }
}

fn step(passed: Duration) -> u64 {
    passed.as_secs() / STEP.as_secs()
}

/// Whether anything is left to be shown.
fn set(gauge: &IntGaugeVec, source: &str, steps: &mut VecDeque<(u64, i64)>, now: u64) -> bool {
    steps.retain(|(at, _)| at + STEPS > now);
    match steps.iter().map(|(_, skew)| *skew).max() {
        Some(skew) => gauge.with_label_values(&[source]).set(skew),
        // Nothing else takes it away.
        None => drop(gauge.remove_label_values(&[source])),
    }
    !steps.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    #[test]
    fn the_least_late_of_an_hour_is_shown_and_then_nothing() {
        let (skews, metrics) = (Skews::default(), Metrics::new());
        let gauge = &metrics.source_clock_skew_seconds;
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let shown = |at: u64| {
            skews.show(gauge, minutes(at));
            let text = metrics.text();
            let line = text
                .lines()
                .find(|line| line.starts_with("waystation_source_clock_skew_seconds{"));
            line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
        };
        assert_eq!(shown(0), None);
        (0..53).for_each(|_| skews.note(gauge, "ct1", -20, minutes(1)));
        skews.note(gauge, "ct1", -7_200, minutes(1));
        assert_eq!(gauge.with_label_values(&["ct1"]).get(), -20, "one that was sent late");
        skews.note(gauge, "ct1", -9_000, minutes(31));
        assert_eq!(shown(54).as_deref(), Some("-20"));
        assert_eq!(shown(61).as_deref(), Some("-9000"));
        assert_eq!(shown(89).as_deref(), Some("-9000"));
        assert_eq!(shown(91), None, "an hour of silence says nothing of a clock");
        skews.note(gauge, "ct1", 300, minutes(100));
        assert_eq!(shown(101).as_deref(), Some("300"));
    }
}
