//! The matrix of a destination: servers with every kind of bad certificate, servers that do not like ours, and servers that speak
//! something else, by openssl, DCMTK, pynetdicom and Python. One box, one lane for each; one image goes to all of them, and arrives
//! at the good ones only.
use super::site::Site;
use super::{CASE_MAX, Outcome, key_lines, reasons, secrets_in, verdict};
use crate::harness::peers::{Storescp, path, send};
use crate::harness::pki::Pair;
use crate::harness::tools::{self, Owned};
use crate::harness::{Object, Setup, Station, free_port, is_free, objects};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::Path;
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

/// Servers that the box does not believe.
fn certificates(peers: &mut Peers, site: &Site) {
    let (ours, list, stale) = (&site.ours.certificate, &site.list, &site.stale);
    // The box's own chain knows the issuing CA.
    let (own, own_key) = (&site.own.certificate, &site.own.key);
    let trust =
        format!("ca = {ours:?}, crl = {list:?}, crl_missing = \"accept\", certificate = {own:?}, key = {own_key:?}");
    for (shows, reason, words) in [
        ("expired", "expired", "has expired"),
        ("not_yet_valid", "not_yet_valid", "not valid yet"),
        ("wrong_name", "wrong_name", "for another name"),
        ("unknown_ca", "unknown_ca", "not signed by a configured CA"),
        ("self_signed", "self_signed", "signed by itself"),
        (
            "missing_intermediate",
            "missing_intermediate",
            "does not send the intermediate",
        ),
        ("revoked", "revoked", "is revoked"),
        ("client_only", "wrong_usage", "extended key usage"),
        ("weak_signature", "weak_signature", "SHA-1"),
        ("weak_key", "weak_key", "RSA 2048"),
        ("ca_as_leaf", "ca_as_leaf", "CA:TRUE"),
        ("expired_rsa", "expired", "has expired"),
        ("unknown_ca_rsa", "unknown_ca", "not signed by a configured CA"),
        ("revoked_rsa", "revoked", "is revoked"),
        ("expired_ed25519", "expired", "has expired"),
        ("unknown_ca_ed25519", "unknown_ca", "not signed by a configured CA"),
        ("revoked_ed25519", "revoked", "is revoked"),
    ] {
        peers.server(site, shows, &[], (reason, words), &trust);
    }
    let pinned = format!(
        "fingerprint = [{:?}, {:?}]",
        site.pair("good").fingerprint,
        site.own.fingerprint
    );
    peers.server(
        site,
        "unknown_ca",
        &[],
        ("wrong_fingerprint", "fingerprint is configured"),
        &pinned,
    );
    let old_list = format!("ca = {ours:?}, crl = {stale:?}, crl_expired = \"refuse\"");
    peers.server(site, "good", &[], ("crl_expired", "out of date"), &old_list);
    let half = format!("ca = [{ours:?}, {:?}], crl = [{list:?}]", site.second.certificate);
    peers.server(site, "second", &[], ("crl_missing", "no revocation list covers"), &half);
}

/// Servers that do not believe the box, or have nothing in common with it.
fn refusals(peers: &mut Peers, site: &Site) {
    let ours = &site.ours.certificate;
    let showing = |name: &str| {
        let pair = site.pair(name);
        format!(
            "ca = {ours:?}, certificate = {:?}, key = {:?}",
            pair.certificate, pair.key
        )
    };
    let (trusted, foreign) = (path(ours), path(&site.foreign.certificate));
    // OpenSSL wants the list in the file of the CA.
    let both = site.folder.join("with-list.pem");
    let read = |path: &Path| std::fs::read(path).expect("readable");
    std::fs::write(&both, [read(ours), read(&site.list)].concat()).expect("writable");
    let both = path(&both);
    let demand = ["-Verify", "1", "-verify_return_error", "-CAfile"];
    let with = |more: &[&'static str], ca: &str| -> Vec<String> {
        demand
            .iter()
            .chain(more)
            .map(|text| (*text).to_owned())
            .chain([ca.to_owned()])
            .collect()
    };
    let mut add = |reason: &'static str, words: &'static str, options: &[String], tls: &str| {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        peers.server(site, "good", &options, (reason, words), tls);
    };
    let bare = format!("ca = {ours:?}");
    add(
        "refused_no_certificate",
        "asks for a certificate",
        &with(&[], &trusted),
        &bare,
    );
    add(
        "refused_unknown_ca",
        "does not know the CA of our certificate",
        &with(&[], &foreign),
        &showing("good"),
    );
    add(
        "refused_expired",
        "our certificate has expired",
        &with(&[], &trusted),
        &showing("expired"),
    );
    let mut checked = with(&[], &both);
    checked.push("-crl_check".to_owned());
    add(
        "refused_revoked",
        "our certificate is revoked",
        &checked,
        &showing("revoked"),
    );
    for (version, fault, options, reason, words) in [
        (
            "1.2",
            "cipher suite",
            vec!["-tls1_2", "-cipher", "AES128-SHA256:@SECLEVEL=0"],
            "cipher_suite",
            "no cipher suite in common",
        ),
        (
            "1.3",
            "cipher suite",
            vec!["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
            "cipher_suite",
            "no cipher suite in common",
        ),
        (
            "1.3",
            "key exchange",
            vec!["-tls1_3", "-groups", "X448"],
            "cipher_suite",
            "no cipher suite in common",
        ),
        (
            "1.1",
            "old version",
            vec!["-tls1_1"],
            "tls_version",
            "no TLS version in common",
        ),
        (
            "1.0",
            "old version",
            vec!["-tls1"],
            "tls_version",
            "no TLS version in common",
        ),
    ] {
        let port = free_port();
        let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        // An RSA certificate: what the box does not offer is an RSA key exchange.
        peers.processes.push(s_server(port, site.pair("good_rsa"), &options));
        let tls = Some(bare.clone());
        peers.add(Case {
            name: String::new(),
            version,
            key: "rsa",
            fault,
            tool: "openssl",
            reason,
            words,
            port,
            tls,
        });
    }
}

/// A port that says these bytes to everyone who has said something, and closes; or, with nothing to say, waits.
fn port_saying(said: &'static [u8], closes: bool) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            // Only until the test ends; a peer that has gone is no matter.
            let _asked = stream.read(&mut [0; 16]);
            let _told = stream.write_all(said);
            if !closes {
                kept.push(stream);
            }
        }
    });
    port
}

/// Peers on the wrong port, or without TLS.
fn dialects(peers: &mut Peers, site: &Site, folder: &Path, web: u16) -> Vec<Storescp> {
    let tls = format!("ca = {:?}", site.ours.certificate);
    let (plain, secure) = (
        Storescp::start(&folder.join("plain"), &[]),
        Storescp::start_tls(&folder.join("secure"), site.pair("good"), &site.ours, "-ic"),
    );
    let python = free_port();
    peers.processes.push(tools::python_serving(
        "toolkit.py",
        &["archive".to_owned(), python.to_string(), path(&folder.join("py.jsonl"))],
    ));
    let hello = free_port();
    peers.processes.push(s_server(hello, site.pair("good"), &[]));
    for (fault, tool, reason, words, port, secured) in [
        (
            "plain DICOM",
            "dcmtk",
            "plain_dicom",
            "speaks plain DICOM on this port",
            plain.port,
            true,
        ),
        (
            "plain DICOM",
            "pynetdicom",
            "plain_dicom",
            "speaks plain DICOM on this port",
            python,
            true,
        ),
        (
            "plain A-ABORT",
            "bytes",
            "plain_dicom",
            "speaks plain DICOM on this port",
            port_saying(b"\x07\0\0\0\0\x04\0\0\x02\x01", true),
            true,
        ),
        (
            "plain A-ASSOCIATE-RJ",
            "bytes",
            "plain_dicom",
            "speaks plain DICOM on this port",
            port_saying(b"\x03\0\0\0\0\x04\0\x01\x01\x01", true),
            true,
        ),
        ("HTTP", "hyper", "plain_http", "speaks HTTP on this port", web, true),
        (
            "SSH",
            "bytes",
            "plain_ssh",
            "speaks SSH on this port",
            port_saying(b"SSH-2.0-OpenSSH_9.2p1\r\n", true),
            true,
        ),
        (
            "noise",
            "bytes",
            "not_tls",
            "a protocol that is not known here",
            port_saying(&[0xa5; 64], true),
            true,
        ),
        (
            "closes",
            "bytes",
            "closed_on_hello",
            "without a word of TLS",
            port_saying(b"", true),
            true,
        ),
        (
            "says nothing",
            "bytes",
            "silent",
            "answered nothing to our TLS hello",
            port_saying(b"", false),
            true,
        ),
        (
            "TLS",
            "openssl",
            "tls_on_plain",
            "speaks TLS on this port",
            hello,
            false,
        ),
        (
            "TLS",
            "dcmtk",
            "tls_on_plain",
            "speaks TLS on this port",
            secure.port,
            false,
        ),
        (
            "TLS alert",
            "bytes",
            "tls_on_plain",
            "speaks TLS on this port",
            port_saying(b"\x15\x03\x03\0\x02\x02\x28", true),
            false,
        ),
    ] {
        let tls = secured.then(|| tls.clone());
        peers.add(Case {
            name: String::new(),
            version: "",
            key: "",
            fault,
            tool,
            reason,
            words,
            port,
            tls,
        });
    }
    vec![plain, secure]
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
        certificates(&mut peers, &site);
        refusals(&mut peers, &site);
        let refused = dialects(&mut peers, &site, setup.path(), setup.web);
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
