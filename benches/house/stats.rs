//! Medians, percentiles and spread of what rounds have given.

/// The middle value; of an even number the mean of the two. `NaN` without any.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// The value that a share of all is not above; `NaN` without any.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    sorted.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// Half of the way from the lowest to the highest, as a share of the median: `±`.
pub fn spread(values: &[f64]) -> f64 {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (highest - lowest) / 2.0 / median(values)
}

/// Medians of the same figure of several rounds, and its quotients round by round.
pub fn ratio(of: &[f64], to: &[f64]) -> f64 {
    let quotients: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    median(&quotients)
}

/// Proves the formulas on known values, before anything is printed by them.
pub fn check() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    assert_eq!(percentile(&[5.0, 1.0, 2.0, 3.0, 4.0], 0.5), 3.0);
    assert_eq!(percentile(&(1..=100).map(f64::from).collect::<Vec<_>>(), 0.99), 99.0);
    assert!((spread(&[90.0, 100.0, 110.0]) - 0.1).abs() < 1e-9);
    assert_eq!(ratio(&[2.0, 9.0], &[1.0, 3.0]), 2.5);
}
