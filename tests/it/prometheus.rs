//! Debian's Prometheus scrapes a box under load: exemplars, rules, and every panel of every dashboard must find what it asks for.
use crate::harness::http;
use crate::harness::peers::{path, send};
use crate::harness::pki::Authority;
use crate::harness::tools::{self, Owned, program};
use crate::harness::{Archive, Object, SOON, Setup, Station, free_port, objects, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn repository(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// Prometheus with one box to scrape, once a second.
struct Prometheus {
    port: u16,
    _process: Owned,
}

impl Prometheus {
    fn start(folder: &Path, web: u16) -> Self {
        let (port, config) = (free_port(), folder.join("prometheus.yml"));
        let rules = path(&repository("config/prometheus"));
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{rules}/recording.yml\", \"{rules}/alerts.yml\"]\n\
             scrape_configs:\n  - job_name: waystation\n    static_configs: [{{targets: [\"127.0.0.1:{web}\"]}}]\n"
        );
        std::fs::write(&config, text).expect("writable");
        let log = std::fs::File::create(folder.join("prometheus.log")).expect("writable");
        let mut command = Command::new(program("prometheus"));
        tools::clean(&mut command);
        command
            .arg(format!("--config.file={}", path(&config)))
            .arg(format!("--storage.tsdb.path={}", path(&folder.join("tsdb"))))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = Owned(command.spawn().expect("Prometheus starts"));
        wait_until("Prometheus is ready", SOON, || {
            matches!(http::get(port, "/-/ready"), Some((200, _)))
        });
        Self {
            port,
            _process: process,
        }
    }

    /// The data of an answer of its API.
    #[track_caller]
    fn ask(&self, path: &str) -> Value {
        let (status, body) = http::get(self.port, &format!("/api/v1/{path}")).expect("Prometheus answers");
        let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(status == 200 && answer["status"] == "success", "{path}: {answer}");
        answer["data"].take()
    }

    #[track_caller]
    fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.ask(&format!("query?query={}", encoded(expression)));
        data["result"].as_array().cloned().unwrap_or_default()
    }
}

fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// A box that takes and delivers all the time, until dropped.
struct Loaded {
    station: Arc<Station>,
    stop: Arc<AtomicBool>,
    sender: Option<std::thread::JoinHandle<()>>,
    _archive: Archive,
}

impl Loaded {
    fn start() -> Self {
        let setup = Setup::new();
        let archive = Archive::up(&setup.folder_of("vna-peer"));
        let pair = Authority::new(&setup.folder_of("ca"), "ca").sign("box", "localhost");
        let (tls, port) = (free_port(), archive.port);
        let listener = format!(
            "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:{tls}\"\nae_titles = [\"WAYSTATION\"]\n[listeners.tls]\n\
             certificate = {:?}\nkey = {:?}\nclient_certificate = \"none\"\n[alarms]\ninterval = \"1s\"\n",
            pair.certificate, pair.key
        );
        let station = setup
            .rules(r#"fn route(image, from) { to("vna"); }"#)
            .archive("vna", port, "")
            .toml(&listener)
            .start();
        let (station, stop) = (Arc::new(station), Arc::new(AtomicBool::new(false)));
        let (sending, stopped) = (station.clone(), stop.clone());
        let sender = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                send(sending.setup.dicom, sending.setup.path(), &Object::many(objects::CT, 3));
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        Self {
            station,
            stop,
            sender: Some(sender),
            _archive: archive,
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ended = sender.join();
        }
    }
}

fn dashboards() -> Vec<(String, Value)> {
    let folder = std::fs::read_dir(repository("config/grafana/dashboards")).expect("dashboards");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        (path.display().to_string(), serde_json::from_str(&text).expect("JSON"))
    };
    let mut all: Vec<(String, Value)> = folder.map(read).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

/// Every query of a dashboard, with its panel.
fn queries(board: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in list(board, "panels") {
        for target in list(panel, "targets") {
            found.push((
                panel["title"].to_string(),
                target["expr"].as_str().expect("a query").to_owned(),
            ));
        }
    }
    found
}

#[test]
fn every_panel_of_every_dashboard_finds_its_data_in_a_prometheus_that_scrapes_a_box_under_load() {
    let loaded = Loaded::start();
    let (station, folder) = (&loaded.station, loaded.station.setup.folder_of("prometheus"));
    std::fs::create_dir_all(&folder).expect("writable");
    let prometheus = Prometheus::start(&folder, station.setup.web);
    let began = Instant::now();
    let rate = r#"sum(rate(waystation_deliveries_total{outcome="confirmed"}[10s])) > 0"#;
    wait_until("a rate of deliveries", SOON, || !prometheus.query(rate).is_empty());
    // Until each slow look of the box and of Prometheus has been taken.
    std::thread::sleep(Duration::from_secs(8).saturating_sub(began.elapsed()));
    let instance = format!("127.0.0.1:{}", station.setup.web);
    let values = [
        ("${datasource}", "prometheus"),
        ("$__rate_interval", "10s"),
        ("$instance", instance.as_str()),
        ("$destination", "vna"),
        ("$source", "test"),
    ];
    let (mut asked, mut empty) = (0, Vec::new());
    for (file, board) in dashboards() {
        for (panel, query) in queries(&board) {
            let query = values
                .iter()
                .fold(query, |query, (name, value)| query.replace(name, value));
            assert!(!query.contains('$'), "{file} {panel}: {query}");
            let result = prometheus.query(&query);
            let number = |sample: &Value| sample["value"][1].as_str().is_some_and(|text| text != "NaN");
            if !result.iter().any(number) {
                empty.push(format!("{file} {panel}: {query}: {result:?}"));
            }
            asked += 1;
        }
        for variable in list(&board["templating"], "list") {
            let Some((series, label)) = variable["definition"].as_str().and_then(label_values) else {
                continue;
            };
            let series = values
                .iter()
                .fold(series, |series, (name, value)| series.replace(name, value));
            let known = prometheus.ask(&format!("label/{label}/values?match%5B%5D={}", encoded(&series)));
            let wanted = values
                .iter()
                .find(|(name, _)| *name == format!("${label}"))
                .map(|(_, value)| *value);
            let found = known
                .as_array()
                .is_some_and(|known| known.iter().any(|one| one.as_str() == wanted));
            assert!(found, "{file}: {label} {known}");
        }
    }
    assert!(
        asked > 60 && empty.is_empty(),
        "{} of {asked} queries have no data:\n{}",
        empty.len(),
        empty.join("\n")
    );
    for watched in [
        r#"waystation_quarantined_total{kind="missing_payload"} == 0"#,
        r#"waystation_transcode_worker_failures_total{ending="crashed"} == 0"#,
        r#"waystation_commitment_reports_total{result="given_up"} == 0"#,
        "waystation_panics_total == 0",
        "time() - waystation_start_timestamp_seconds < 3600",
    ] {
        assert!(
            !prometheus.query(watched).is_empty(),
            "its first event is no increase: {watched}"
        );
    }
    exemplars_name_instances(&prometheus);
    rules_are_evaluated(&prometheus);
}

/// `label_values(series, label)`.
fn label_values(definition: &str) -> Option<(String, String)> {
    let inner = definition.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (series, label) = inner.rsplit_once(", ")?;
    Some((series.to_owned(), label.to_owned()))
}

fn exemplars_name_instances(prometheus: &Prometheus) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    for metric in [
        "waystation_store_seconds",
        "waystation_delivery_seconds",
        "waystation_delivery_lag_seconds",
    ] {
        let query = format!(
            "query_exemplars?query={metric}_bucket&start={}&end={}",
            now - 300,
            now + 10
        );
        let found = prometheus.ask(&query);
        let series = found.as_array().expect("series");
        let exemplars: Vec<&Value> = series.iter().flat_map(|series| list(series, "exemplars")).collect();
        assert!(!exemplars.is_empty(), "{metric}: {found}");
        for exemplar in exemplars {
            let id = exemplar["labels"]["instance"].as_str().expect("an id of ours");
            assert!(
                id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{exemplar}"
            );
        }
    }
}

fn rules_are_evaluated(prometheus: &Prometheus) {
    let found = prometheus.ask("rules");
    let rules: Vec<&Value> = list(&found, "groups")
        .iter()
        .flat_map(|group| list(group, "rules"))
        .collect();
    assert!(rules.len() > 30, "{found}");
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert!(
            rule["state"].is_null() || rule["state"] == "inactive" || rule["name"] == "WaystationCertificateEnds",
            "{rule}"
        );
    }
}

#[test]
fn dashboards_are_sound_linked_and_as_the_tool_writes_them() {
    let written = Command::new("python3")
        .arg(repository("tools/dashboards"))
        .arg("--check")
        .output()
        .expect("Python");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let all = dashboards();
    assert_eq!(all.len(), 4);
    let uids: BTreeSet<&str> = all.iter().filter_map(|(_, board)| board["uid"].as_str()).collect();
    assert_eq!(uids.len(), 4);
    for (file, board) in &all {
        let variables: Vec<&Value> = list(&board["templating"], "list").iter().collect();
        assert_eq!(variables[0]["type"], "datasource", "{file}");
        let panels = list(board, "panels");
        let ids: BTreeSet<String> = panels.iter().map(|panel| panel["id"].to_string()).collect();
        assert!(ids.len() == panels.len() && panels.len() >= 12, "{file}");
        for panel in panels {
            let title = &panel["title"];
            assert!(
                panel["description"].as_str().is_some_and(|text| text.len() > 10),
                "{file} {title}"
            );
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{file} {title}");
            assert!(
                !list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps").is_empty(),
                "{file} {title}"
            );
            let sources = std::iter::once(panel).chain(list(panel, "targets"));
            for source in sources {
                assert_eq!(source["datasource"]["uid"], "${datasource}", "{file} {title}");
            }
            let at = &panel["gridPos"];
            let right = at["x"].as_u64().zip(at["w"].as_u64()).map(|(x, w)| x + w);
            assert!(right.is_some_and(|right| right <= 24), "{file} {title}");
        }
        // Every link leads to one of the dashboards.
        let text = board.to_string();
        let links: Vec<&str> = text
            .split("/d/")
            .skip(1)
            .map(|rest| rest.split(['?', '"', '\\']).next().unwrap_or_default())
            .collect();
        assert!(
            links.len() >= 3 && links.iter().all(|uid| uids.contains(uid)),
            "{file}: {links:?}"
        );
    }
}
