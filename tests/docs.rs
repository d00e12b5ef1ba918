//! The guides cannot drift: metrics are those of the table, pages are in the summary, alarms name what exists.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

struct Metric {
    name: String,
    kind: &'static str,
    help: String,
    labels: Vec<String>,
}

/// The one table of metrics, from its source: a metric without a sample yet does not show in the exposition.
fn metrics() -> Vec<Metric> {
    let line =
        regex::Regex::new(r#"(\w+)\(&r, "(waystation_\w+)", "([^"]+)"(?:, &\[([^\]]*)\])?\)"#).expect("a pattern");
    let source = read("src/telemetry/metrics.rs");
    let found = line.captures_iter(&source).map(|found| Metric {
        name: found[2].to_owned(),
        kind: match &found[1] {
            "counter" | "counters" => "counter",
            "histogram" | "histograms" => "histogram",
            "gauge" | "gauges" | "float_gauge" | "float_gauges" => "gauge",
            other => panic!("what is a {other}?"),
        },
        help: found[3].to_owned(),
        labels: found.get(4).map_or(Vec::new(), |labels| {
            labels
                .as_str()
                .split(',')
                .map(|label| label.trim().trim_matches('"').to_owned())
                .collect()
        }),
    });
    found.collect()
}

#[test]
fn the_metrics_page_is_the_table_of_the_program() {
    let metrics = metrics();
    assert!(metrics.len() > 30);
    let mut table = String::from("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in &metrics {
        let labels = metric.labels.join(", ");
        table += &format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind, metric.help);
    }
    let page = read("docs/metrics.md");
    assert!(
        page.contains(&table),
        "docs/metrics.md should have this table:\n{table}"
    );
}

#[test]
fn every_metric_of_the_running_table_is_in_the_source_pattern() {
    let text = waystation::telemetry::metrics::Metrics::new().text();
    let known: BTreeSet<String> = metrics().into_iter().map(|metric| metric.name).collect();
    let shown = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .filter_map(|line| line.split(' ').next());
    let unknown: Vec<&str> = shown.filter(|name| !known.contains(*name)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
}

#[test]
fn alarms_and_guides_name_only_metrics_that_exist() {
    let known: BTreeSet<String> = metrics().into_iter().map(|metric| metric.name).collect();
    let name = regex::Regex::new(r"\bwaystation_[a-z0-9_]+").expect("a pattern");
    for path in pages()
        .into_iter()
        .chain(["config/alarms.yml".into(), "README.md".into()])
    {
        for found in name.find_iter(&read(&path)) {
            let base = found
                .as_str()
                .trim_end_matches("_bucket")
                .trim_end_matches("_sum")
                .trim_end_matches("_count");
            assert!(
                known.contains(base) || known.contains(found.as_str()),
                "{path}: {}",
                found.as_str()
            );
        }
    }
}

#[test]
fn promtool_takes_the_alarms() {
    let mut promtool = std::process::Command::new("promtool");
    promtool
        .args(["check", "rules"])
        .arg(repository().join("config/alarms.yml"));
    let output = promtool.output().expect("promtool is installed by `make setup`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All pages below docs/, as paths from the repository.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("docs can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(repository()).expect("inside").display().to_string());
            }
        }
    }
    found
}

/// The targets of markdown links to pages, relative to the page.
fn links(page: &str) -> Vec<String> {
    let link = regex::Regex::new(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)").expect("a pattern");
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    link.captures_iter(&read(page))
        .map(|found| folder.join(&found[1]).display().to_string())
        .collect()
}

#[test]
fn every_page_is_in_the_summary_and_every_link_leads_somewhere() {
    let summary: BTreeSet<String> = links("docs/SUMMARY.md").into_iter().collect();
    let pages: BTreeSet<String> = pages().into_iter().filter(|page| page != "docs/SUMMARY.md").collect();
    assert_eq!(summary, pages);
    for page in &pages {
        for link in links(page) {
            assert!(repository().join(&link).exists(), "{page}: {link}");
        }
    }
}
