//! The matrix of a listener: clients with every kind of bad certificate, of both TLS versions and three kinds of key, by openssl,
//! DCMTK, pynetdicom and curl; and clients that speak something else.
mod dialects;
mod shown;

use super::site::Site;
use super::{CASE_MAX, Outcome, counted, key_lines, reasons, secrets_in, verdict};
use crate::harness::peers::{dcmtk, path};
use crate::harness::{Setup, Station, free_port};
use std::fmt::Write as _;
use std::time::Instant;

const TIMEOUTS: &str = "[listeners.timeouts]\nhandshake = \"1500ms\"\nassociation = \"2s\"\nrelease = \"1s\"\n";

struct Rig {
    station: Station,
    site: Site,
    ports: Vec<(&'static str, u16)>,
}

type Act = dyn Fn(&Rig) -> Result<(), String>;

/// What a client does at a listener, and what must be said of it.
struct Case {
    listener: &'static str,
    version: &'static str,
    key: &'static str,
    fault: String,
    tool: &'static str,
    reason: &'static str,
    act: Box<Act>,
}

impl Rig {
    fn new() -> Self {
        let setup = Setup::new();
        let site = Site::new(&setup.folder_of("pki"));
        let (ours, list, stale) = (&site.ours.certificate, &site.list, &site.stale);
        let trust = format!("client_ca = {ours:?}\nclient_crl = {list:?}\ncrl_missing = \"accept\"");
        let listeners = [
            ("ecdsa", "own", trust.clone()),
            ("rsa", "good_rsa", trust.clone()),
            ("ed25519", "good_ed25519", trust.clone()),
            (
                "stale",
                "good",
                format!("client_ca = {ours:?}\nclient_crl = {stale:?}\ncrl_expired = \"refuse\""),
            ),
            (
                "strict",
                "good",
                format!(
                    "client_ca = [{ours:?}, {:?}]\nclient_crl = [{list:?}]",
                    site.second.certificate
                ),
            ),
            ("old", "expired", trust),
            ("open", "good", "client_certificate = \"none\"".to_owned()),
        ];
        let mut ports = vec![("dicom", setup.dicom)];
        let mut text = String::new();
        for (name, pair, more) in listeners {
            let port = free_port();
            ports.push((name, port));
            let pair = if pair == "own" { &site.own } else { site.pair(pair) };
            let _ = write!(
                text,
                "[[listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\nae_titles = [\"WAYSTATION\"]\n{TIMEOUTS}\
                 [listeners.tls]\ncertificate = {:?}\nkey = {:?}\n{more}\n\n",
                pair.certificate, pair.key
            );
        }
        let sources = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\ncertificate_names = [\"ct1.example\"]\n\
                       [[sources]]\nname = \"any\"\ncalling_ae = [\"ECHOSCU\", \"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n";
        let station = setup
            .rules(r#"fn route(image, from) { to("keep"); }"#)
            .folder("keep")
            .listener(TIMEOUTS)
            .sources(sources)
            .toml(&text)
            .start();
        Self { station, site, ports }
    }

    fn port(&self, listener: &str) -> u16 {
        self.ports
            .iter()
            .find(|(name, _)| *name == listener)
            .expect("a listener")
            .1
    }

    /// A good client with a good certificate gets in, whatever came before.
    fn good_peer(&self, listener: &str) -> Result<(), String> {
        let trust = path(&self.site.ours.certificate);
        let pair = self.site.pair("good");
        let (key, certificate) = (path(&pair.key), path(&pair.certificate));
        let options: Vec<&str> = match listener {
            "dicom" => vec![],
            // Nobody believes its certificate: DCMTK is told not to look.
            "old" => vec!["+tls", &key, &certificate, "-ic"],
            "open" => vec!["+tla", "+cf", &trust],
            // There is no current list for it.
            "stale" => return Ok(()),
            _ => vec!["+tls", &key, &certificate, "+cf", &trust],
        };
        let ran = dcmtk("echoscu", self.port(listener), "ECHOSCU", &options, &[]);
        if ran.code == Some(0) {
            Ok(())
        } else {
            Err(format!("a good peer is not served: {ran:?}"))
        }
    }

    fn run(&self, case: &Case) -> Outcome {
        let start = Instant::now();
        let role_before = reasons(&self.station, "listener", case.listener);
        let answer = (case.act)(self)
            .and_then(|()| counted(&self.station, case.listener, &role_before, case.reason))
            .and_then(|()| self.logged(case))
            .and_then(|()| self.good_peer(case.listener));
        let took = start.elapsed();
        let late = (took > CASE_MAX).then(|| "took too long".to_owned());
        Outcome {
            side: "listener",
            version: case.version.to_owned(),
            key: case.key.to_owned(),
            fault: case.fault.clone(),
            tool: case.tool,
            reason: case.reason,
            took,
            wrong: answer.err().or(late),
        }
    }

    fn logged(&self, case: &Case) -> Result<(), String> {
        let (reason, name) = (
            format!("\"reason\":\"{}\"", case.reason),
            format!("\"listener\":\"{}\"", case.listener),
        );
        let log = self.station.log();
        let said = log.lines().any(|line| line.contains(&reason) && line.contains(&name));
        if said {
            Ok(())
        } else {
            Err(format!("the log has no line with {reason} and {name}"))
        }
    }
}

#[test]
fn a_listener_says_of_every_bad_client_exactly_what_is_wrong_with_it() {
    let rig = Rig::new();
    let cases: Vec<Case> = [shown::all(), dialects::all()].into_iter().flatten().collect();
    let mut outcomes: Vec<Outcome> = cases.iter().map(|case| rig.run(case)).collect();
    outcomes.extend(bound(&rig));
    let keys = key_lines(&rig.site.folder);
    assert!(keys.len() > 20, "keys to look for");
    assert_eq!(secrets_in("the log", &rig.station.log(), &keys), None);
    assert_eq!(secrets_in("the metrics", &rig.station.metrics().text, &keys), None);
    verdict("certificates and protocols at a listener", &outcomes, 48);
}

/// The wrong name at a listener is a certificate that is not bound to the AE title: rejected 1/1/3.
fn bound(rig: &Rig) -> Vec<Outcome> {
    let trust = path(&rig.site.ours.certificate);
    let one = |name: &'static str, served: bool| {
        let start = Instant::now();
        let before = rig
            .station
            .metric("association_refusals_total", &[("reason", "certificate")]);
        let pair = rig.site.pair(name);
        let (key, certificate) = (path(&pair.key), path(&pair.certificate));
        let ran = dcmtk(
            "echoscu",
            rig.port("ecdsa"),
            "CT1",
            &["+tls", &key, &certificate, "+cf", &trust],
            &[],
        );
        let grown = rig
            .station
            .metric("association_refusals_total", &[("reason", "certificate")])
            - before;
        let said = ran.err.contains("Calling AE Title Not Recognized");
        let right = if served {
            ran.code == Some(0) && grown == 0.0
        } else {
            said && grown == 1.0
        };
        Outcome {
            side: "listener",
            version: String::new(),
            key: "ecdsa".to_owned(),
            fault: if served { "right name" } else { "wrong name" }.to_owned(),
            tool: "dcmtk",
            reason: if served { "(served)" } else { "certificate" },
            took: start.elapsed(),
            wrong: (!right).then(|| format!("{ran:?}, counted {grown}")),
        }
    };
    vec![one("good", false), one("ct1", true)]
}
