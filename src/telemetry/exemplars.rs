//! Exemplars: for each bucket of a histogram the last observation with the box's own instance id, so that a slow answer on a
//! dashboard leads to the instance's own history. The id is ours and random: no patient data, nothing that a peer sent.
//!
//! Bounded: one for each bucket of each series, and series come from configuration.
use prometheus::HistogramVec;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The last observation of one bucket.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Exemplar {
    pub instance: String,
    pub value: f64,
    /// Seconds since 1970.
    pub at: f64,
}

/// All exemplars of one box, by metric, label value and bucket. Clones share them.
#[derive(Clone, Default)]
pub struct Exemplars(Arc<Mutex<HashMap<String, Exemplar>>>);

impl Exemplars {
    /// Observes, and remembers the instance as the example of its bucket. `name` is the metric of `histogram`, `bounds` its buckets.
    pub(super) fn observe(
        &self,
        (name, bounds): (&'static str, &[f64]),
        histogram: &HistogramVec,
        label: &str,
        seen: Exemplar,
    ) {
        histogram.with_label_values(&[label]).observe(seen.value);
        let bucket = bounds.partition_point(|bound| *bound < seen.value);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(place(name, label, bucket), seen);
    }

    /// The example of one bucket, counted from 0; the last is `+Inf`.
    pub(super) fn of(&self, name: &str, label: &str, bucket: usize) -> Option<Exemplar> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&place(name, label, bucket)).cloned()
    }
}

fn place(name: &str, label: &str, bucket: usize) -> String {
    format!("{name} {label} {bucket}")
}
