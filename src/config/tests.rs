//! The loader as a person meets it: files in, a configuration or every problem out.
mod at_once;
mod folders;
mod starts;
mod unforced;
mod values;

use super::keys::{Node as KeyNode, known, tree};
use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// A site that is right, below a fresh folder.
struct Site {
    folder: tempfile::TempDir,
}

const RIGHT: &str = r#"
[node]
state = "STATE/var"
[rules]
path = "RULES"
[web]
listen = "127.0.0.1:0"
[[listeners]]
name = "dicom"
address = "127.0.0.1:11112"
ae_titles = ["BOX"]
[[sources]]
name = "ct1"
calling_ae = ["CT1"]
addresses = ["10.0.0.0/8"]
[[destinations]]
kind = "folder"
name = "vna"
path = "STATE/var/out"
[[destinations]]
kind = "folder"
name = "cad"
path = "STATE/var/cad"
[[destinations]]
kind = "folder"
name = "folder"
path = "STATE/var/copies"
"#;

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let state = self.folder.path().display().to_string();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
        std::fs::write(self.path(name), text.replace("STATE", &state).replace("RULES", rules)).unwrap();
        self.path(name)
    }

    fn report(&self, text: &str) -> Report {
        report_with(&[self.write("w.toml", text)], &[])
    }

    /// The problems as lines, without the folder's name.
    fn lines(&self, text: &str) -> Vec<String> {
        let prefix = format!("{}/", self.folder.path().display());
        self.report(text)
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }
}

fn assert_says(lines: &[String], wanted: &str) {
    assert!(
        lines.iter().any(|line| line.contains(wanted)),
        "`{wanted}` in {lines:#?}"
    );
}

#[test]
fn a_right_file_loads_without_a_word() {
    let report = Site::new().report(RIGHT);
    assert_eq!(report.problems, []);
    let config = report.config.unwrap();
    assert!(config.spool.path.ends_with("var/spool") && config.control.path.ends_with("var/control.sock"));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one_and_their_line() {
    let text = RIGHT
        .replace("address = ", "adress = ")
        .replace("[web]", "[spol]\n[web]\nlissen = 3");
    let lines = Site::new().lines(&text);
    assert_says(&lines, "listeners[0].adress: unknown key; did you mean `address`?");
    assert_says(&lines, "w.toml:6:2: spol: unknown key; did you mean `spool`?");
    assert_says(&lines, "web.lissen: unknown key; did you mean `listen`?");
    assert_says(&lines, "listeners[0].address: is missing");
}

#[test]
fn keys_of_another_kind_of_destination_are_unknown() {
    let lines = Site::new().lines(&format!("{RIGHT}port = 104\n"));
    assert_says(&lines, "destinations[2].port: unknown key");
}

#[test]
fn every_wrong_value_is_said_with_its_key_at_once() {
    let spool = "[spool]\nlow_water = \"much\"\ncritical = 7\n";
    let text = RIGHT
        .replace("[web]", &format!("{spool}[web]"))
        .replace("127.0.0.1:0", "nowhere");
    let text = text
        .replace("10.0.0.0/8", "10.0.0.0/99")
        .replace("\"CT1\"", "\"A_TITLE_THAT_IS_TOO_LONG\"");
    let text = format!("{text}tries = \"five\"\nretry = {{ first = \"soon\", max = 3 }}\n");
    let lines = Site::new().lines(&text);
    for wanted in [
        "w.toml:7:1: spool.low_water: `much` is not a size",
        "spool.critical: must be",
        "web.listen: ",
        "sources[0].addresses",
        "sources[0].calling_ae",
        "destinations[2].tries: must be",
        "destinations[2].retry.first: `soon` is not a duration",
        "destinations[2].retry.max: must be",
    ] {
        assert_says(&lines, wanted);
    }
    assert!(lines.iter().all(|line| line.starts_with("w.toml:")), "{lines:#?}");
}

#[test]
fn cross_checks_name_both_sides() {
    let again = "[[listeners]]\nname = \"dicom\"\naddress = \"0.0.0.0:11112\"\nae_titles = []\n";
    let source = "[[sources]]\nname = \"x\"\ncalling_ae = [\"X\"]\naddresses = []\ncertificate_names = [\"x\"]\n";
    let text = RIGHT
        .replace("127.0.0.1:0", "127.0.0.1:11112")
        .replace("STATE/var/cad", "/nonexistent/a/b");
    let lines = Site::new().lines(&format!("{text}{again}{source}"));
    for wanted in [
        "listeners[1].name: `dicom` is the name of listeners[0] already",
        "listeners[1].address: port 11112 is taken by `listeners[0].address`",
        "web.listen: port 11112 is taken",
        "listeners[1].ae_titles: is empty",
        "sources[1].addresses: is empty",
        "sources[1]: is bound to a certificate, but no listener asks for one",
        "destinations[1].path: the folder /nonexistent/a does not exist",
    ] {
        assert_says(&lines, wanted);
    }
}

#[test]
fn a_box_without_listeners_or_sources_is_refused() {
    let lines = Site::new().lines("[node]\nstate = \"STATE/var\"\n");
    for wanted in [
        "listeners: there is none",
        "sources: there is none",
        "rules.path: is missing",
    ] {
        assert_says(&lines, wanted);
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let site = Site::new();
    let missing = report_with(&[site.path("none.toml")], &[]);
    assert!(
        missing.problems[0].to_string().contains("none.toml: cannot be read"),
        "{:?}",
        missing.problems
    );
    let lines = site.lines("[node\nname = 1");
    assert!(lines[0].starts_with("w.toml:1:"), "{lines:?}");
    let tls = "[listeners.tls]\ncertificate = \"/none.pem\"\nkey = \"/none.key\"\n[[sources]]";
    assert_says(
        &site.lines(&RIGHT.replacen("[[sources]]", tls, 1)),
        "listeners[0].tls.certificate: ",
    );
}

#[test]
fn rules_that_name_unknown_destinations_are_said_with_file_and_line() {
    let site = Site::new();
    std::fs::create_dir(site.path("rules")).unwrap();
    std::fs::write(
        site.path("rules/main.rhai"),
        "fn route(image, from) {\n    to(\"vnaa\");\n}\n",
    )
    .unwrap();
    let lines = site.lines(&RIGHT.replace("RULES", "STATE/rules"));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("main.rhai:2:") && line.contains("vnaa")),
        "{lines:#?}"
    );
}

#[test]
fn files_add_up_and_the_environment_wins() {
    let site = Site::new();
    let first = site.write("a.toml", RIGHT);
    let second = "[node]\nname = \"second\"\n[[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"10.0.0.0/8\"]\nfoo = 1\n";
    let second = site.write("b.toml", second);
    let variables = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let report = report_with(&[first.clone(), second.clone()], &variables(&[]));
    let said: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(
        said.len() == 1 && said[0].contains("b.toml:7:1: sources[1].foo: unknown key"),
        "{said:?}"
    );

    std::fs::write(&second, "[node]\nname = \"second\"\n").unwrap();
    let set = variables(&[
        ("WAYSTATION_NODE__NAME", "third"),
        ("WAYSTATION_LIMITS__MAX_ASSOCIATIONS", "7"),
    ]);
    let report = report_with(&[first.clone(), second.clone()], &set);
    assert_eq!(report.problems, []);
    let config = report.config.unwrap();
    assert_eq!(
        (config.node.name.as_str(), config.limits.max_associations),
        ("third", 7)
    );

    let wrong = variables(&[
        ("WAYSTATION_SPOOL__PAHT", "/x"),
        ("WAYSTATION_LISTENERS", "x"),
        ("WAYSTATION_NODE__DRAIN", "soon"),
        ("WAYSTATION_PLANT", "skip-commit"),
    ]);
    let said: Vec<String> = report_with(&[first], &wrong)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert_says(&said, "did you mean `WAYSTATION_SPOOL__PATH`?");
    assert_says(&said, "listeners: is not a single setting");
    assert_says(
        &said,
        "environment WAYSTATION_NODE__DRAIN: node.drain: `soon` is not a duration",
    );
}

#[test]
fn wrong_values_hide_no_problem_between_components() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(
        rules.join("main.rhai"),
        "fn route(image, from) { to(\"vna\"); to(\"nowhere\"); }",
    )
    .unwrap();
    let file = folder.path().join("box.toml");
    let text = format!(
        "[node]\nstate = {:?}\ndrain = \"soon\"\n[rules]\npath = {rules:?}\n\
         [[listeners]]\nname = \"a\"\naddress = \"nonsense\"\nae_titles = [\"BOX\"]\n\
         [[listeners]]\nname = \"b\"\naddress = \"127.0.0.1:11112\"\nae_titles = [\"BOX\"]\n\
         [[listeners]]\nname = \"c\"\naddress = \"127.0.0.1:11112\"\nae_titles = []\n\
         [[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = []\n\
         [[destinations]]\nname = \"vna\"\nkind = \"dicom\"\nhost = \"127.0.0.1\"\nport = \"high\"\ncalled_ae = \"V\"\ncalling_ae = \"W\"\n",
        folder.path()
    );
    std::fs::write(&file, text).unwrap();
    let said: Vec<String> = report_with(&[file], &[])
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_says(&said, "node.drain");
    assert_says(&said, "listeners[0].address");
    assert_says(&said, "11112");
    assert_says(&said, "listeners[2].ae_titles");
    assert_says(&said, "sources[0].addresses");
    assert_says(&said, "destinations[0].port");
    assert_says(&said, "nowhere");
    assert!(!said.iter().any(|line| line.contains("vna")), "{said:?}");
}

#[test]
fn every_file_of_a_tls_table_is_said_by_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("box.toml");
    let text = "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:11112\"\nae_titles = [\"BOX\"]\n\
         [listeners.tls]\ncertificate = \"/nowhere/a.pem\"\nkey = \"/nowhere/a.key\"\nclient_ca = \"/nowhere/ca.pem\"\n\
         [[destinations]]\nname = \"vna\"\nkind = \"dicom\"\nhost = \"127.0.0.1\"\nport = 104\ncalled_ae = \"V\"\ncalling_ae = \"W\"\n\
         [destinations.tls]\nca = \"/nowhere/b.pem\"\ncertificate = \"/nowhere/c.pem\"\nkey = \"/nowhere/c.key\"\n";
    std::fs::write(&file, text).unwrap();
    let said: Vec<String> = report_with(&[file], &[])
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    for key in ["certificate", "key", "client_ca"] {
        assert_says(&said, &format!("listeners[0].tls.{key}: "));
    }
    for key in ["ca", "certificate", "key"] {
        assert_says(&said, &format!("destinations[0].tls.{key}: "));
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The reference file as the structs read it, written out again.
fn structures() -> toml::Table {
    let sources = super::keys::Sources::read(&[repository("config/reference.toml")], &[]);
    assert_eq!(sources.problems, []);
    let extracted = super::extract::config(&sources);
    assert_eq!(extracted.problems, []);
    let json = serde_json::to_string(&extracted.config.unwrap()).unwrap();
    assert!(!json.contains("null"), "reference.toml leaves a key out: {json}");
    serde_json::from_str(&json).unwrap()
}

#[test]
fn the_reference_file_has_every_key_of_the_structures_and_no_other() {
    assert_eq!(known(), tree(&structures()));
}

fn flat(prefix: &str, tree: &BTreeMap<String, KeyNode>, found: &mut BTreeMap<String, ()>) {
    for (name, node) in tree {
        let key = format!("{prefix}.{name}");
        match node {
            KeyNode::Value => drop(found.insert(key, ())),
            KeyNode::Table(inner) => flat(&key, inner, found),
            KeyNode::List(kinds) => kinds.values().for_each(|inner| flat(&key, inner, found)),
        }
    }
}

#[test]
fn what_the_reference_calls_a_default_is_the_default() {
    let said: toml::Table =
        toml::from_str(&std::fs::read_to_string(repository("config/reference.toml")).unwrap()).unwrap();
    let minimal = "[[listeners]]\nname = \"dicom\"\naddress = \"0.0.0.0:11112\"\nae_titles = [\"WAYSTATION\"]\n\
        [[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"10.1.2.0/24\"]\n\
        [[destinations]]\nkind = \"dicom\"\nname = \"vna\"\nhost = \"vna.example\"\nport = 2762\ncalled_ae = \"VNA\"\n\
        calling_ae = \"WAYSTATION\"\n\
        [[destinations]]\nkind = \"folder\"\nname = \"folder\"\npath = \"/var/lib/waystation/delivered\"\n";
    let site = Site::new();
    let sources = super::keys::Sources::read(&[site.write("m.toml", minimal)], &[]);
    let config = super::extract::config(&sources).config.unwrap();
    let defaults: serde_json::Value = serde_json::to_value(&config).unwrap();
    let said: serde_json::Value = serde_json::to_value(said).unwrap();
    let mut differ = BTreeSet::new();
    compare("", &defaults, &said, &mut differ);
    // What has no default, and is required or left out.
    let absent = [
        "rules.path",
        "rules.zone",
        "rules.key_file",
        "listeners.tls",
        "destinations.tls",
        "destinations.compress",
        "destinations.commitment",
        "sources.commitment.host",
        "sources.commitment.port",
        "sources.commitment.called_ae",
        "sources.commitment.retrieve_ae",
        "sources.commitment.tls",
        "sources.certificate_fingerprints",
        "sources.certificate_names",
        "sources.charset",
        "alarms.timezone",
        "alarms.silence",
        "alarms.mail",
        "alarms.webhooks",
        "web.callers",
    ];
    let differ: Vec<&str> = differ
        .iter()
        .map(String::as_str)
        .filter(|key| !absent.contains(key))
        .collect();
    assert_eq!(differ, Vec::<&str>::new());
}

fn compare(key: &str, default: &serde_json::Value, said: &serde_json::Value, differ: &mut BTreeSet<String>) {
    use serde_json::Value::{Array, Object, String as Text};
    match (default, said) {
        (Object(defaults), Object(said)) => {
            for (name, said) in said {
                let key = format!("{key}{}{name}", if key.is_empty() { "" } else { "." });
                compare(
                    &key,
                    defaults.get(name).unwrap_or(&serde_json::Value::Null),
                    said,
                    differ,
                );
            }
        }
        (Array(defaults), Array(said)) if said.iter().any(serde_json::Value::is_object) => {
            defaults
                .iter()
                .zip(said)
                .for_each(|(default, said)| compare(key, default, said, differ));
        }
        // "5min" and "5m" are one span.
        (Text(a), Text(b)) if a.parse::<Span>().is_ok() && a.parse::<Span>().ok() == b.parse::<Span>().ok() => {}
        (a, b) if a == b => {}
        _ => drop(differ.insert(key.to_owned())),
    }
}

/// The tests' part of a file, and the configuration's own code, do not count as reading.
fn sources_of(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let skipped = path.ends_with("src/config") || path.ends_with("tests.rs");
        if path.is_dir() && !skipped {
            sources_of(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !skipped {
            let text = std::fs::read_to_string(&path).unwrap();
            texts.push(text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned());
        }
    }
}

/// Whether a field of this name is read somewhere: `.name` that is not a call, or a pattern with it.
fn is_read(name: &str, texts: &[String]) -> bool {
    let accessed = regex::Regex::new(&format!(r"\.\s*{name}\b\s*(?:[^(\w\s]|$)")).unwrap();
    texts.iter().any(|text| accessed.is_match(text))
}

#[test]
fn a_key_that_nothing_reads_fails_this_test() {
    let mut texts = Vec::new();
    sources_of(&repository("src"), &mut texts);
    // `node.state` gives the defaults of other paths and is read by the configuration itself.
    texts.push(std::fs::read_to_string(repository("src/config/extract.rs")).unwrap());
    let mut keys = BTreeMap::new();
    flat("", &known(), &mut keys);
    let unread = |key: &&String| {
        key.rsplit('.')
            .next()
            .is_some_and(|name| name != "kind" && !is_read(name, &texts))
    };
    let unread: Vec<&String> = keys.keys().filter(unread).collect();
    assert_eq!(unread, Vec::<&String>::new());
    assert!(!is_read("no_such_key", &texts));
}

#[test]
fn the_shipped_first_configuration_is_right() {
    let text = std::fs::read_to_string(repository("config/waystation.toml")).unwrap();
    let site = Site::new();
    let rules = repository("rules").display().to_string();
    let report = site.report(&text.replace("./var", "STATE/var").replace("./rules", &rules));
    assert_eq!(report.problems, []);
    assert!(report.config.is_some());
}

#[test]
fn the_site_example_is_right_but_for_its_files() {
    let report = report_with(&[repository("config/tls.toml")], &[]);
    let files = [
        "rules.path",
        "spool.path",
        "destinations[2].path",
        "listeners[0].tls",
        "destinations[0].tls",
        "node.state",
        "control.path",
    ];
    let other = report.problems.iter();
    let other = other.filter(|p| !files.iter().any(|file| p.key.starts_with(file)));
    // Of a box that is installed on this machine.
    let other: Vec<_> = other
        .filter(|p| p.file.as_deref() != Some("/etc/waystation/rules"))
        .collect();
    assert_eq!(other, Vec::<&Problem>::new());
}

#[test]
fn no_setting_is_a_secret_with_a_default() {
    let mut keys = BTreeMap::new();
    flat("", &known(), &mut keys);
    for key in keys.keys() {
        for word in ["password", "secret", "token", "passphrase"] {
            let is_path = key.ends_with("_file");
            assert!(is_path || !key.contains(word), "{key}: secrets are paths to files");
        }
    }
}
