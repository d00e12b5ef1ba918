//! The matrix of a listener: clients with every kind of bad certificate, of both TLS versions and three kinds of key, by openssl,
//! DCMTK, pynetdicom and curl; and clients that speak something else.
use super::site::Site;
use super::{CASE_MAX, Outcome, counted, key_lines, reasons, secrets_in, verdict};
use crate::harness::peers::{dcmtk, path};
use crate::harness::{Setup, Station, free_port, tools};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const TIMEOUTS: &str = "[listeners.timeouts]\nhandshake = \"1500ms\"\nassociation = \"2s\"\nrelease = \"1s\"\n";

struct Rig {
    station: Station,
    site: Site,
    ports: Vec<(&'static str, u16)>,
}

/// What a client does at a listener, and what must be said of it.
struct Case {
    listener: &'static str,
    version: &'static str,
    key: &'static str,
    fault: String,
    tool: &'static str,
    reason: &'static str,
    act: Box<dyn Fn(&Rig) -> Result<(), String>>,
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
        let mut ports = vec![("plain", setup.dicom)];
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
            "plain" => vec![],
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

/// `openssl s_client` until the box ends the connection; the alert that it was sent must be this one.
fn s_client(rig: &Rig, listener: &str, options: &[&str], alert: Option<u8>) -> Result<(), String> {
    let to = format!("127.0.0.1:{}", rig.port(listener));
    let mut arguments = vec!["s_client", "-connect", &to, "-quiet", "-cipher", "ALL:@SECLEVEL=0"];
    arguments.extend(options);
    let ran = tools::run(
        &tools::program("openssl"),
        &tools::texts(&arguments),
        Duration::from_secs(10),
    );
    match alert {
        None => Ok(()),
        Some(alert) if ran.err.contains(&format!("SSL alert number {alert}")) => Ok(()),
        Some(alert) => Err(format!(
            "no alert {alert}: {}",
            ran.err.lines().last().unwrap_or_default()
        )),
    }
}

/// What a client with this certificate hears (RFC 8446 6.2), and the reason.
const SHOWN: [(&str, &str, u8); 10] = [
    ("expired", "expired", 45),
    ("not_yet_valid", "not_yet_valid", 45),
    ("unknown_ca", "unknown_ca", 48),
    ("self_signed", "self_signed", 48),
    ("missing_intermediate", "missing_intermediate", 48),
    ("revoked", "revoked", 44),
    ("server_only", "wrong_usage", 43),
    ("weak_signature", "weak_signature", 43),
    ("weak_key", "weak_key", 43),
    ("ca_as_leaf", "ca_as_leaf", 42),
];

const VERSIONS: [(&str, &str); 2] = [("1.2", "-tls1_2"), ("1.3", "-tls1_3")];

fn shown(listener: &'static str, key: &'static str, name: &'static str, reason: &'static str, alert: u8) -> Vec<Case> {
    let case = |(version, flag): (&'static str, &'static str)| Case {
        listener,
        version,
        key,
        fault: name.to_owned(),
        tool: "openssl",
        reason,
        act: Box::new(move |rig| {
            let pair = rig.site.pair(name);
            let (certificate, key) = (path(&pair.certificate), path(&pair.key));
            s_client(rig, listener, &[flag, "-cert", &certificate, "-key", &key], Some(alert))
        }),
    };
    VERSIONS.map(case).into()
}

/// Clients that the box does not believe.
fn certificates() -> Vec<Case> {
    let mut cases: Vec<Case> = SHOWN
        .iter()
        .flat_map(|(name, reason, alert)| shown("ecdsa", "ecdsa", name, reason, *alert))
        .collect();
    for (key, names) in [
        ("rsa", ["expired_rsa", "unknown_ca_rsa", "revoked_rsa"]),
        ("ed25519", ["expired_ed25519", "unknown_ca_ed25519", "revoked_ed25519"]),
    ] {
        for (name, (reason, alert)) in names
            .into_iter()
            .zip([("expired", 45), ("unknown_ca", 48), ("revoked", 44)])
        {
            cases.extend(shown(key, key, name, reason, alert));
        }
    }
    cases.extend(shown("stale", "ecdsa", "good", "crl_expired", 48));
    cases.extend(shown("strict", "ecdsa", "second", "crl_missing", 48));
    for (version, flag) in VERSIONS {
        cases.push(Case {
            listener: "ecdsa",
            version,
            key: "-",
            fault: "no certificate".to_owned(),
            tool: "openssl",
            reason: "no_certificate",
            act: Box::new(move |rig| s_client(rig, "ecdsa", &[flag], Some(116))),
        });
    }
    cases
}

/// Clients that do not believe the box, or have nothing in common with it. The alert is theirs, or a common one.
fn others() -> Vec<Case> {
    type Options = fn(&Rig) -> Vec<String>;
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let foreign: Options = |rig| {
        vec![
            "-verify_return_error".into(),
            "-CAfile".into(),
            path(&rig.site.foreign.certificate),
        ]
    };
    let trusting: Options = |rig| {
        vec![
            "-verify_return_error".into(),
            "-CAfile".into(),
            path(&rig.site.ours.certificate),
        ]
    };
    let elsewhere: Options = |rig| {
        let mut all = vec![
            "-verify_return_error".into(),
            "-CAfile".into(),
            path(&rig.site.ours.certificate),
        ];
        all.extend(["-verify_hostname".to_owned(), "elsewhere.example".to_owned()]);
        all
    };
    let mut cases = Vec::new();
    let mut add = |listener: &'static str, fault: &str, reason: &'static str, options: Options| {
        for (version, flag) in VERSIONS {
            cases.push(Case {
                listener,
                version,
                key: "ecdsa",
                fault: fault.to_owned(),
                tool: "openssl",
                reason,
                act: Box::new(move |rig| {
                    let options = options(rig);
                    let mut all = vec![flag];
                    all.extend(options.iter().map(String::as_str));
                    s_client(rig, listener, &all, None)
                }),
            });
        }
    };
    add("open", "client: unknown CA", "refused_unknown_ca", foreign);
    add("old", "client: expired", "refused_expired", trusting);
    add("open", "client: wrong name", "refused_certificate", elsewhere);
    for (version, fault, options, reason) in [
        (
            "1.2",
            "cipher suite",
            strings(&["-tls1_2", "-cipher", "AES128-SHA256:@SECLEVEL=0"]),
            "cipher_suite",
        ),
        (
            "1.3",
            "cipher suite",
            strings(&["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"]),
            "cipher_suite",
        ),
        (
            "1.2",
            "key exchange",
            strings(&["-tls1_2", "-groups", "X448"]),
            "parameters",
        ),
        (
            "1.3",
            "key exchange",
            strings(&["-tls1_3", "-groups", "X448"]),
            "parameters",
        ),
        ("1.1", "old version", strings(&["-tls1_1"]), "tls_version"),
        ("1.0", "old version", strings(&["-tls1"]), "tls_version"),
    ] {
        let alert = if reason == "tls_version" { 70 } else { 40 };
        cases.push(Case {
            listener: "open",
            version,
            key: "ecdsa",
            fault: fault.to_owned(),
            tool: "openssl",
            reason,
            act: Box::new(move |rig| {
                s_client(
                    rig,
                    "open",
                    &options.iter().map(String::as_str).collect::<Vec<_>>(),
                    Some(alert),
                )
            }),
        });
    }
    cases
}

/// DICOM toolkits with bad certificates.
fn toolkits() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, reason) in [
        ("expired", "expired"),
        ("unknown_ca", "unknown_ca"),
        ("revoked", "revoked"),
        ("server_only", "wrong_usage"),
    ] {
        cases.push(Case {
            listener: "ecdsa",
            version: "",
            key: "ecdsa",
            fault: name.to_owned(),
            tool: "dcmtk",
            reason,
            act: Box::new(move |rig| {
                let (pair, trust) = (rig.site.pair(name), path(&rig.site.ours.certificate));
                let (key, certificate) = (path(&pair.key), path(&pair.certificate));
                let ran = dcmtk(
                    "echoscu",
                    rig.port("ecdsa"),
                    "ECHOSCU",
                    &["+tls", &key, &certificate, "+cf", &trust, "-ic"],
                    &[],
                );
                if ran.code == Some(0) {
                    Err("it was served".to_owned())
                } else {
                    Ok(())
                }
            }),
        });
        cases.push(Case {
            listener: "rsa",
            version: "",
            key: "ecdsa",
            fault: name.to_owned(),
            tool: "pynetdicom",
            reason,
            act: Box::new(move |rig| {
                let (pair, port) = (rig.site.pair(name), rig.port("rsa").to_string());
                let (trust, certificate, key) = (
                    path(&rig.site.ours.certificate),
                    path(&pair.certificate),
                    path(&pair.key),
                );
                let arguments = ["echo_tls", &port, "WAYSTATION", "ECHOSCU", &trust, &certificate, &key];
                let answer = tools::python_json("toolkit.py", &arguments);
                if answer["status"] == 0 {
                    Err("it was served".to_owned())
                } else {
                    Ok(())
                }
            }),
        });
    }
    cases.push(Case {
        listener: "ecdsa",
        version: "",
        key: "-",
        fault: "no certificate".to_owned(),
        tool: "dcmtk",
        reason: "no_certificate",
        act: Box::new(|rig| {
            let trust = path(&rig.site.ours.certificate);
            let ran = dcmtk("echoscu", rig.port("ecdsa"), "ECHOSCU", &["+tla", "+cf", &trust], &[]);
            if ran.code == Some(0) {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
    });
    cases
}

/// Bytes said to a port, and what is heard until it is closed.
fn say(port: u16, said: &[u8], each: Option<Duration>) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .map_err(|error| error.to_string())?;
    match each {
        None => drop(stream.write_all(said)),
        Some(pause) => {
            for byte in said {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(pause);
            }
        }
    }
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Err("the connection was kept open".to_owned())
        }
        _ => Ok(heard),
    }
}

/// The first bytes of a TLS 1.2 ClientHello, enough to be one.
const HELLO: &[u8] = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03";

fn dialects() -> Vec<Case> {
    let case = |listener: &'static str,
                fault: &str,
                tool: &'static str,
                reason: &'static str,
                act: fn(&Rig) -> Result<(), String>| Case {
        listener,
        version: "",
        key: "",
        fault: fault.to_owned(),
        tool,
        reason,
        act: Box::new(act),
    };
    let refused = |ran: tools::Ran, words: &str| {
        let text = format!("{}{}", ran.out, ran.err);
        if ran.code != Some(0) && text.contains(words) {
            Ok(())
        } else {
            Err(format!("not told so: {text}"))
        }
    };
    let _ = refused;
    vec![
        case("ecdsa", "plain DICOM", "dcmtk", "plain_dicom", |rig| {
            let ran = dcmtk("echoscu", rig.port("ecdsa"), "ECHOSCU", &["-ta", "5"], &[]);
            let told = ran.code != Some(0) && format!("{}{}", ran.out, ran.err).contains("Abort");
            if told {
                Ok(())
            } else {
                Err(format!("no A-ABORT: {ran:?}"))
            }
        }),
        case("open", "plain DICOM", "pynetdicom", "plain_dicom", |rig| {
            let port = rig.port("open").to_string();
            let answer = tools::python_json("toolkit.py", &["echo", &port, "WAYSTATION", "ECHOSCU"]);
            if answer["status"] == 0 {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
        case("rsa", "A-RELEASE-RQ", "bytes", "plain_dicom", |rig| {
            let heard = say(rig.port("rsa"), &[5, 0, 0, 0, 0, 4, 0, 0, 0, 0], None)?;
            let abort = [7, 0, 0, 0, 0, 4, 0, 0, 2, 0];
            if heard == abort {
                Ok(())
            } else {
                Err(format!("no A-ABORT: {heard:?}"))
            }
        }),
        case("open", "HTTP", "curl", "plain_http", |rig| {
            let url = format!("http://127.0.0.1:{}/", rig.port("open"));
            let ran = tools::tool("curl", &["-s", "-m", "5", &url]);
            if ran.code == Some(0) {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
        case("open", "SSH", "bytes", "plain_ssh", |rig| {
            say(rig.port("open"), b"SSH-2.0-OpenSSH_9.2p1\r\n", None).map(drop)
        }),
        case("open", "SSL 2 hello", "bytes", "tls_version", |rig| {
            let hello = [&b"\x80\x2e\x01\x00\x02"[..], &[0; 41]].concat();
            let heard = say(rig.port("open"), &hello, None)?;
            if heard == [0x15, 3, 1, 0, 2, 2, 70] {
                Ok(())
            } else {
                Err(format!("no alert: {heard:?}"))
            }
        }),
        case("open", "noise", "bytes", "not_tls", |rig| {
            say(rig.port("open"), &[0xa5; 3000], None).map(drop)
        }),
        case("open", "nothing", "bytes", "timeout", |rig| {
            say(rig.port("open"), b"", None).map(drop)
        }),
        case("open", "half a hello", "bytes", "timeout", |rig| {
            say(rig.port("open"), HELLO, None).map(drop)
        }),
        case("open", "a byte each 0.3 s", "bytes", "timeout", |rig| {
            say(rig.port("open"), &HELLO.repeat(3), Some(Duration::from_millis(300))).map(drop)
        }),
        case("open", "closed after hello", "bytes", "closed", |rig| {
            let mut stream = TcpStream::connect(("127.0.0.1", rig.port("open"))).map_err(|error| error.to_string())?;
            stream.write_all(HELLO).map_err(|error| error.to_string())
        }),
        case("plain", "TLS", "openssl", "tls_on_plain", |rig| {
            s_client(rig, "plain", &["-tls1_3"], None)
        }),
        case("plain", "TLS", "dcmtk", "tls_on_plain", |rig| {
            let ran = dcmtk(
                "echoscu",
                rig.port("plain"),
                "ECHOSCU",
                &["+tla", "-ic", "-ta", "5"],
                &[],
            );
            if ran.code == Some(0) {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
        case("plain", "TLS", "pynetdicom", "tls_on_plain", |rig| {
            let (port, trust) = (rig.port("plain").to_string(), path(&rig.site.ours.certificate));
            let answer = tools::python_json("toolkit.py", &["echo_tls", &port, "WAYSTATION", "ECHOSCU", &trust]);
            if answer["status"] == 0 {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
    ]
}

#[test]
fn a_listener_says_of_every_bad_client_exactly_what_is_wrong_with_it() {
    let rig = Rig::new();
    let cases: Vec<Case> = [certificates(), others(), toolkits(), dialects()]
        .into_iter()
        .flatten()
        .collect();
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
