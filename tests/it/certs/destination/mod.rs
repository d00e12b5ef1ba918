//! The matrix of a destination: servers with every kind of bad certificate, servers that do not like ours, and servers that speak
//! something else, by openssl, DCMTK, pynetdicom and Python. One box, one lane for each; one image goes to all of them, and arrives
//! at the good ones only.
mod peers;

use super::site::Site;
use super::{CASE_MAX, Outcome, key_lines, reasons, secrets_in, verdict};
use crate::harness::peers::{Storescp, send};
use crate::harness::pki::Pair;
use crate::harness::tools::{self, Owned};
use crate::harness::{Object, Setup, Station, free_port, is_free, objects};
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Case {
    name: String,
    version: &'static str,
    key: &'static str,
    fault: &'static str,
    tool: &'static str,
    reason: &'static str,
    /// Of the words in `waystation lanes`.
    words: &'static str,
    port: u16,
    /// The destination's `tls` table, or nothing.
    tls: Option<String>,
}

/// Peers, alive as long as the test.
struct Peers {
    cases: Vec<Case>,
    processes: Vec<Owned>,
}

const VERSIONS: [(&str, &str); 2] = [("1.2", "-tls1_2"), ("1.3", "-tls1_3")];

/// `openssl s_server`; it stays, whatever a client does.
fn s_server(port: u16, pair: &Pair, options: &[String]) -> Owned {
    let mut command = Command::new(tools::program("openssl"));
    let fixed = ["s_server", "-www", "-quiet", "-cipher", "ALL:@SECLEVEL=0", "-accept"];
    command.args(fixed).arg(format!("127.0.0.1:{port}"));
    command
        .arg("-cert")
        .arg(&pair.certificate)
        .arg("-key")
        .arg(&pair.key)
        .args(options);
    tools::clean(&mut command);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Owned(child.expect("openssl starts"))
}

impl Peers {
    fn add(&mut self, case: Case) {
        let number = self.cases.len();
        self.cases.push(Case {
            name: format!("d{number}"),
            ..case
        });
    }

    /// A server of both versions with this certificate.
    fn server(
        &mut self,
        site: &Site,
        shows: &'static str,
        more: &[&str],
        (reason, words): (&'static str, &'static str),
        tls: &str,
    ) {
        let pair = site.pair(shows);
        let key = if shows.ends_with("_rsa") {
            "rsa"
        } else if shows.ends_with("_ed25519") {
            "ed25519"
        } else {
            "ecdsa"
        };
        for (version, flag) in VERSIONS {
            let port = free_port();
            let mut options = vec![flag.to_owned()];
            options.extend(more.iter().map(|text| (*text).to_owned()));
            self.processes.push(s_server(port, pair, &options));
            self.add(Case {
                name: String::new(),
                version,
                key,
                fault: if reason.starts_with("refused") { reason } else { shows },
                tool: "openssl",
                reason,
                words,
                port,
                tls: Some(tls.to_owned()),
            });
        }
    }
}

struct Rig {
    station: Station,
    cases: Vec<Case>,
    good: Vec<Storescp>,
    refused: Vec<Storescp>,
    site: Site,
    _processes: Vec<Owned>,
}

impl Rig {
    fn new() -> Self {
        let setup = Setup::new();
        let site = Site::new(&setup.folder_of("pki"));
        let mut peers = Peers {
            cases: Vec::new(),
            processes: Vec::new(),
        };
        let refused = peers::all(&mut peers, &site, setup.path(), setup.web);
        let good = [("good", "-rc"), ("good_rsa", "-rc"), ("good_ed25519", "-ic")]
            .map(|(name, asks)| Storescp::start_tls(&setup.folder_of(name), site.pair(name), &site.ours, asks));
        let mut rules = String::from("fn route(image, from) {\n");
        let mut setup = setup;
        let quick = "associations = 1\ntimeouts = { connect = \"2s\", association = \"3s\" }\n";
        for case in &peers.cases {
            let _ = writeln!(rules, "    to(\"{}\");", case.name);
            let tls = case.tls.as_ref().map(|tls| format!("tls = {{ {tls} }}"));
            setup = setup.archive(&case.name, case.port, &format!("{quick}{}", tls.unwrap_or_default()));
        }
        let (ca, pair) = (&site.ours.certificate, site.pair("good"));
        let tls = format!(
            "{quick}tls = {{ ca = {ca:?}, certificate = {:?}, key = {:?} }}",
            pair.certificate, pair.key
        );
        for (number, peer) in good.iter().enumerate() {
            let _ = writeln!(rules, "    to(\"good{number}\");");
            setup = setup.archive(&format!("good{number}"), peer.port, &tls);
        }
        rules.push('}');
        let station = setup.rules(&rules).start();
        // The box's own pages are the peer that speaks HTTP: they are there when it is.
        for case in &peers.cases {
            crate::harness::wait_until("every peer listens", crate::harness::SOON, || !is_free(case.port));
        }
        Self {
            station,
            cases: peers.cases,
            good: good.into(),
            refused,
            site,
            _processes: peers.processes,
        }
    }

    /// Waits until the lane's reason is counted; nothing else may be.
    fn judge(&self, case: &Case, start: Instant) -> Outcome {
        let wrong = loop {
            let found = reasons(&self.station, "destination", &case.name);
            let right = found
                .iter()
                .any(|(reason, count)| reason == case.reason && *count >= 1.0);
            if found.len() > 1 || (found.len() == 1 && !right) {
                break Some(format!("counted {found:?} instead of {}", case.reason));
            }
            if right {
                break self.said(case).err();
            }
            if start.elapsed() > CASE_MAX {
                let lanes = self.station.cli(&["lanes"]).out;
                let line = lanes.lines().find(|line| line.starts_with(&format!("{} ", case.name)));
                break Some(format!("nothing was counted; lanes: {line:?}"));
            }
            std::thread::sleep(Duration::from_millis(25));
        };
        Outcome {
            side: "destination",
            version: case.version.to_owned(),
            key: case.key.to_owned(),
            fault: case.fault.to_owned(),
            tool: case.tool,
            reason: case.reason,
            took: start.elapsed(),
            wrong,
        }
    }

    /// In the log with its cause, and no attempt of a job was spent on it.
    fn said(&self, case: &Case) -> Result<(), String> {
        let (name, cause) = (
            format!("\"destination\":\"{}\"", case.name),
            format!("\"cause\":\"{}\"", case.reason),
        );
        let log = self.station.log();
        if !log.lines().any(|line| line.contains(&name) && line.contains(&cause)) {
            return Err(format!("the log has no line with {name} and {cause}"));
        }
        Ok(())
    }
}

#[test]
fn a_destination_says_of_every_bad_server_exactly_what_is_wrong_with_it() {
    let rig = Rig::new();
    send(
        rig.station.setup.dicom,
        rig.station.setup.path(),
        &[Object::new(objects::CT)],
    );
    let start = Instant::now();
    let mut outcomes: Vec<Outcome> = rig.cases.iter().map(|case| rig.judge(case, start)).collect();
    let lanes = rig.station.cli(&["lanes"]).ok().out;
    for (case, outcome) in rig.cases.iter().zip(&mut outcomes) {
        let line = lanes
            .lines()
            .find(|line| line.starts_with(&format!("{} ", case.name)))
            .unwrap_or_default();
        if !line.contains(case.words) {
            outcome.wrong.get_or_insert(format!("lanes says: {line}"));
        }
        let jobs = rig.station.jobs(&["--destination", &case.name]);
        if jobs.len() != 1 || jobs[0]["attempts"] != 0 {
            outcome.wrong.get_or_insert(format!("the job: {jobs:?}"));
        }
    }
    for (number, peer) in rig.good.iter().enumerate() {
        let name = format!("good{number}");
        rig.station.wait_metric(
            "deliveries_total",
            &[("destination", &name), ("outcome", "confirmed")],
            |n| n == 1.0,
        );
        assert_eq!(peer.data_sets().len(), 1, "{name} has it");
    }
    assert!(
        rig.refused.iter().all(|peer| peer.data_sets().is_empty()),
        "nothing went where it may not"
    );
    let keys = key_lines(&rig.site.folder);
    assert_eq!(secrets_in("the log", &rig.station.log(), &keys), None);
    assert_eq!(secrets_in("the metrics", &rig.station.metrics().text, &keys), None);
    assert_eq!(secrets_in("lanes", &lanes, &keys), None);
    verdict("certificates and protocols at a destination", &outcomes, 48);
}
