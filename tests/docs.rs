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
        .chain(prometheus().into_iter().chain(["README.md".into()]))
    {
        let text = read(&path);
        // `destination:waystation_…` is a recorded series, which `promtool test rules` knows.
        let recorded = |at: usize| text[..at].ends_with(':');
        for found in name.find_iter(&text).filter(|found| !recorded(found.start())) {
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

/// The files of config/prometheus/ that name metrics.
fn prometheus() -> Vec<String> {
    [
        "alerts.yml",
        "recording.yml",
        "tests/alerts.yml",
        "tests/weeks.yml",
        "tests/recording.yml",
    ]
    .map(|name| format!("config/prometheus/{name}"))
    .into()
}

fn promtool(arguments: &[&str]) -> (bool, String) {
    let mut promtool = std::process::Command::new("promtool");
    promtool.current_dir(repository()).args(arguments);
    let output = promtool.output().expect("promtool is installed by `make setup`");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn promtool_takes_configuration_and_rules_and_their_tests_pass() {
    let all = prometheus();
    let (rules, tests) = all.split_at(2);
    let named = |first: [&'static str; 2], files: &[String]| {
        let files = files.iter().map(|file| file.clone().leak() as &str);
        first.into_iter().chain(files).collect::<Vec<&str>>()
    };
    for arguments in [
        vec!["check", "config", "config/prometheus/prometheus.yml"],
        named(["check", "rules"], rules),
        named(["test", "rules"], tests),
    ] {
        let (passed, said) = promtool(&arguments);
        assert!(passed && !said.contains("FAILED"), "{arguments:?}: {said}");
    }
}

#[test]
fn every_alert_has_a_case_that_fires_one_that_does_not_and_a_section_of_the_runbook() {
    let alerts = read("config/prometheus/alerts.yml");
    let name = regex::Regex::new(r"- alert: (\w+)").expect("a pattern");
    let names: Vec<String> = name.captures_iter(&alerts).map(|found| found[1].to_owned()).collect();
    assert!(names.len() > 20, "{names:?}");
    let cases = ["alerts", "weeks"]
        .map(|name| read(&format!("config/prometheus/tests/{name}.yml")))
        .concat();
    let cases: Vec<&str> = cases.split("  - name: ").collect();
    for name in &names {
        let own = cases
            .iter()
            .filter(|case| case.contains(&format!("alertname: {name}\n")));
        let (quiet, firing): (Vec<&&str>, Vec<&&str>) = own.partition(|case| case.contains("exp_alerts: []"));
        assert!(!quiet.is_empty() && !firing.is_empty(), "{name}: {quiet:?} {firing:?}");
        assert!(firing.iter().all(|case| case.contains("exp_labels:")), "{name}");
    }
    let link = regex::Regex::new(r"runbook_url: docs/runbook\.md#(\S+)").expect("a pattern");
    let anchors = anchors("docs/runbook.md");
    let linked: Vec<String> = link.captures_iter(&alerts).map(|found| found[1].to_owned()).collect();
    assert_eq!(linked.len(), names.len());
    for anchor in linked {
        assert!(anchors.contains(&anchor), "{anchor} is not among {anchors:?}");
    }
}

/// What a start has found is in the counter before the first scrape, and no increase.
#[test]
fn every_alert_over_a_counter_also_fires_for_what_a_start_has_found() {
    let (alerts, cases) = (
        read("config/prometheus/alerts.yml"),
        read("config/prometheus/tests/alerts.yml"),
    );
    let counting = alerts
        .split("- alert: ")
        .skip(1)
        .filter(|alert| alert.contains("increase("));
    let names: Vec<&str> = counting
        .map(|alert| {
            assert!(alert.contains("waystation_start_timestamp_seconds"), "{alert}");
            alert.lines().next().unwrap_or_default()
        })
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let absent =
            |case: &&str| case.starts_with(name) && case.contains("values: '_x5 1x") && case.contains("exp_labels:");
        assert!(
            cases.split("  - name: ").any(|case| absent(&case)),
            "{name} needs a case whose series is absent first"
        );
    }
}

/// The package puts the guide where messages say that the runbook is.
#[test]
fn the_runbook_of_the_alarms_is_where_the_package_puts_it() {
    let manifest = read("Cargo.toml");
    let asset = regex::Regex::new(r#"\["docs/\*\*/\*\.md", "([^"]+)", "644"\]"#).expect("a pattern");
    let folder = &asset.captures(&manifest).expect("the guide is in the package")[1];
    let place = format!("/{folder}runbook.md");
    assert_eq!(waystation::alarms::Config::default().runbook, place);
    assert!(read("config/reference.toml").contains(&format!("runbook = \"{place}\"")));
    assert!(repository().join("docs/runbook.md").exists());
}

#[test]
fn every_alarm_of_the_box_has_a_section_of_the_runbook_and_a_row_in_the_guide() {
    let (anchors, guide) = (anchors("docs/runbook.md"), read("docs/alarms.md"));
    for kind in waystation::alarms::Kind::ALL {
        let (word, anchor) = (kind.word(), kind.anchor());
        assert!(anchors.contains(anchor), "{anchor} is not among {anchors:?}");
        assert!(
            guide.contains(&format!("| `{word}` |")),
            "docs/alarms.md says nothing of {word}"
        );
        assert!(
            guide.contains(&format!("(runbook.md#{anchor})")),
            "docs/alarms.md does not lead to {anchor}"
        );
    }
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let text = read(page);
    let headings = text.lines().filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    let letter = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    headings
        .map(|heading| heading.trim().chars().filter_map(letter).collect())
        .collect()
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
