//! Clients with every kind of certificate, and clients that do not like ours.
use super::{Case, Rig};
use crate::harness::peers::{dcmtk, path};
use crate::harness::pki::Authority;
use crate::harness::tools;
use std::time::Duration;

pub(super) fn all() -> Vec<Case> {
    [certificates(), doubters(), others(), toolkits()]
        .into_iter()
        .flatten()
        .collect()
}

/// `openssl s_client` until the box ends the connection; the alert that it was sent must be this one.
pub(super) fn s_client(rig: &Rig, listener: &str, options: &[&str], alert: Option<u8>) -> Result<(), String> {
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

type Options = fn(&Rig) -> Vec<String>;

fn believing(authority: &Authority, more: &[&str]) -> Vec<String> {
    let mut all = vec![
        "-verify_return_error".to_owned(),
        "-CAfile".to_owned(),
        path(&authority.certificate),
    ];
    all.extend(more.iter().map(|text| (*text).to_owned()));
    all
}

/// Clients that do not believe the box. The alert is theirs.
fn doubters() -> Vec<Case> {
    let foreign: Options = |rig| believing(&rig.site.foreign, &[]);
    let trusting: Options = |rig| believing(&rig.site.ours, &[]);
    let elsewhere: Options = |rig| believing(&rig.site.ours, &["-verify_hostname", "elsewhere.example"]);
    let mut cases = Vec::new();
    for (listener, fault, reason, options) in [
        ("open", "client: unknown CA", "refused_unknown_ca", foreign),
        ("old", "client: expired", "refused_expired", trusting),
        ("open", "client: wrong name", "refused_certificate", elsewhere),
    ] {
        for (version, flag) in VERSIONS {
            let act = move |rig: &Rig| {
                let options = options(rig);
                let mut all = vec![flag];
                all.extend(options.iter().map(String::as_str));
                s_client(rig, listener, &all, None)
            };
            cases.push(Case {
                listener,
                version,
                key: "ecdsa",
                fault: fault.to_owned(),
                tool: "openssl",
                reason,
                act: Box::new(act),
            });
        }
    }
    cases
}

/// Clients that have nothing in common with the box.
fn others() -> Vec<Case> {
    let mut cases = Vec::new();
    for (version, fault, options, reason, alert) in [
        (
            "1.2",
            "cipher suite",
            &["-tls1_2", "-cipher", "AES128-SHA256:@SECLEVEL=0"][..],
            "cipher_suite",
            40,
        ),
        (
            "1.3",
            "cipher suite",
            &["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
            "cipher_suite",
            40,
        ),
        ("1.2", "key exchange", &["-tls1_2", "-groups", "X448"], "parameters", 40),
        ("1.3", "key exchange", &["-tls1_3", "-groups", "X448"], "parameters", 40),
        ("1.1", "old version", &["-tls1_1"], "tls_version", 40),
        ("1.0", "old version", &["-tls1"], "tls_version", 40),
    ] {
        cases.push(Case {
            listener: "open",
            version,
            key: "ecdsa",
            fault: fault.to_owned(),
            tool: "openssl",
            reason,
            act: Box::new(move |rig| s_client(rig, "open", options, Some(alert))),
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
