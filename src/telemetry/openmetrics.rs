//! The OpenMetrics text format 1.0, for scrapers that ask for it: the `prometheus` crate writes only the older text format, which
//! has no exemplars. Called by `Metrics::open_metrics`.
//!
//! Differences that matter to a scraper: a counter's family has no `_total`, `build_info` is an `info`, `le` is a float in its canonical
//! form, buckets may carry an exemplar, and the text ends with `# EOF`.
use super::exemplars::{Exemplar, Exemplars};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::fmt::Write as _;

/// What `Accept` must name.
pub const MEDIA_TYPE: &str = "application/openmetrics-text";
/// What the answer is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The whole exposition.
pub(super) fn text(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(64 << 10);
    for family in families {
        write_family(&mut out, family, exemplars);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(out: &mut String, family: &MetricFamily, exemplars: &Exemplars) {
    let full = family.name();
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (full.strip_suffix("_total").unwrap_or(full), "counter"),
        MetricType::HISTOGRAM => (full, "histogram"),
        MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => match full.strip_suffix("_info") {
            Some(name) => (name, "info"),
            None => (full, "gauge"),
        },
    };
    line(out, format_args!("# HELP {name} {}", escape(family.help(), false)));
    line(out, format_args!("# TYPE {name} {kind}"));
    for metric in family.get_metric() {
        match kind {
            "counter" => sample(out, &format!("{name}_total"), metric, metric.get_counter().get_value()),
            "histogram" => histogram(out, name, metric, exemplars),
            "info" => sample(out, &format!("{name}_info"), metric, metric.get_gauge().get_value()),
            _ => sample(out, name, metric, metric.get_gauge().get_value()),
        }
    }
}

fn sample(out: &mut String, name: &str, metric: &Metric, value: f64) {
    line(out, format_args!("{name}{} {}", labels(metric, None), number(value)));
}

fn histogram(out: &mut String, name: &str, metric: &Metric, exemplars: &Exemplars) {
    let histogram = metric.get_histogram();
    let label = metric.get_label().first().map_or("", |pair| pair.value());
    let finite = histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound().is_finite());
    let counts: Vec<(f64, u64)> = finite
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .chain([(f64::INFINITY, histogram.get_sample_count())])
        .collect();
    for (index, (bound, count)) in counts.into_iter().enumerate() {
        let example = exemplars
            .of(name, label, index)
            .map_or(String::new(), |found| shown(&found));
        let labels = labels(metric, Some(&number(bound)));
        line(out, format_args!("{name}_bucket{labels} {count}{example}"));
    }
    sample(out, &format!("{name}_sum"), metric, histogram.get_sample_sum());
    line(
        out,
        format_args!("{name}_count{} {}", labels(metric, None), histogram.get_sample_count()),
    );
}

fn shown(exemplar: &Exemplar) -> String {
    let Exemplar { instance, value, at } = exemplar;
    format!(" # {{instance=\"{instance}\"}} {} {at:.3}", number(*value))
}

fn labels(metric: &Metric, le: Option<&str>) -> String {
    let mut pairs: Vec<String> = metric
        .get_label()
        .iter()
        .map(|pair| format!("{}=\"{}\"", pair.name(), escape(pair.value(), true)))
        .collect();
    pairs.extend(le.map(|le| format!("le=\"{le}\"")));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

/// `1.0`, `0.0005`, `+Inf`: the canonical form of a float.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(arguments);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use crate::base::clock::Wall;
    use crate::base::names::InstanceId;

    #[test]
    fn counters_histograms_and_info_are_written_as_open_metrics_wants_them() {
        let metrics = Metrics::new();
        metrics.received_total.with_label_values(&["ct1"]).inc();
        metrics.rule_seconds.observe(0.002);
        let text = metrics.open_metrics();
        for wanted in [
            "# TYPE waystation_instances_received counter\n",
            "\nwaystation_instances_received_total{source=\"ct1\"} 1.0\n",
            "# TYPE waystation_build info\n",
            "\nwaystation_build_info{version=",
            "\nwaystation_rule_seconds_bucket{le=\"0.001\"} 0\n",
            "\nwaystation_rule_seconds_bucket{le=\"1.0\"} 1\n",
            "\nwaystation_rule_seconds_bucket{le=\"+Inf\"} 1\n",
            "\nwaystation_rule_seconds_count 1\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(text.ends_with("\n# EOF\n") && !text.contains("# {"), "{text}");
    }

    #[test]
    fn an_observation_with_an_instance_is_the_example_of_its_bucket_only() {
        let metrics = Metrics::new();
        let id = InstanceId([7; 16]);
        metrics.lag("vna", 40.0, &id, Wall(1_700_000_000_500_000));
        metrics.lag("vna", 50.0, &id, Wall(1_700_000_001_500_000));
        let text = metrics.open_metrics();
        let examples: Vec<&str> = text.lines().filter(|line| line.contains(" # {")).collect();
        let wanted = format!(
            "waystation_delivery_lag_seconds_bucket{{destination=\"vna\",le=\"300.0\"}} 2 # {{instance=\"{id}\"}} 50.0 1700000001.500"
        );
        assert_eq!(examples, [wanted]);
        assert!(!metrics.text().contains(" # {"), "the older format has no exemplars");
    }
}
