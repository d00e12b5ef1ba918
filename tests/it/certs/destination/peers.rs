//! Servers with every kind of certificate, servers that do not like ours, and servers that speak something else.
use super::{Case, Peers, s_server};
use crate::certs::site::Site;
use crate::harness::peers::{Storescp, path};
use crate::harness::{free_port, tools};
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::Path;

/// Adds them all; answers those that would take an image if the box sent one.
pub(super) fn all(peers: &mut Peers, site: &Site, folder: &Path, web: u16) -> Vec<Storescp> {
    certificates(peers, site);
    refusals(peers, site);
    nothing_in_common(peers, site);
    wrong_words(peers, site, web);
    dialects(peers, site, folder)
}

const SHOWN: [(&str, &str, &str); 17] = [
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
];

/// Servers that the box does not believe.
fn certificates(peers: &mut Peers, site: &Site) {
    let (ours, list, stale) = (&site.ours.certificate, &site.list, &site.stale);
    // The box's own chain knows the issuing CA.
    let (own, own_key) = (&site.own.certificate, &site.own.key);
    let trust =
        format!("ca = {ours:?}, crl = {list:?}, crl_missing = \"accept\", certificate = {own:?}, key = {own_key:?}");
    for (shows, reason, words) in SHOWN {
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

/// Servers that do not believe the box.
fn refusals(peers: &mut Peers, site: &Site) {
    let ours = &site.ours.certificate;
    let showing = |name: &str| {
        let pair = site.pair(name);
        format!(
            "ca = {ours:?}, certificate = {:?}, key = {:?}",
            pair.certificate, pair.key
        )
    };
    // OpenSSL wants the list in the file of the CA.
    let both = site.folder.join("with-list.pem");
    let read = |path: &Path| std::fs::read(path).expect("readable");
    std::fs::write(&both, [read(ours), read(&site.list)].concat()).expect("writable");
    let (trusted, foreign, both) = (path(ours), path(&site.foreign.certificate), path(&both));
    for (reason, words, ca, more, tls) in [
        (
            "refused_no_certificate",
            "asks for a certificate",
            &trusted,
            None,
            format!("ca = {ours:?}"),
        ),
        (
            "refused_unknown_ca",
            "does not know the CA of our certificate",
            &foreign,
            None,
            showing("good"),
        ),
        (
            "refused_expired",
            "our certificate has expired",
            &trusted,
            None,
            showing("expired"),
        ),
        (
            "refused_revoked",
            "our certificate is revoked",
            &both,
            Some("-crl_check"),
            showing("revoked"),
        ),
    ] {
        let mut options = vec!["-Verify", "1", "-verify_return_error", "-CAfile", ca];
        options.extend(more);
        peers.server(site, "good", &options, (reason, words), &tls);
    }
}

/// Servers that have nothing in common with the box. An RSA certificate: what the box does not offer is an RSA key exchange.
fn nothing_in_common(peers: &mut Peers, site: &Site) {
    let (ciphers, versions) = ("no cipher suite in common", "no TLS version in common");
    for (version, fault, options, reason, words) in [
        (
            "1.2",
            "cipher suite",
            &["-tls1_2", "-cipher", "AES128-SHA256:@SECLEVEL=0"][..],
            "cipher_suite",
            ciphers,
        ),
        (
            "1.3",
            "cipher suite",
            &["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
            "cipher_suite",
            ciphers,
        ),
        (
            "1.3",
            "key exchange",
            &["-tls1_3", "-groups", "X448"],
            "cipher_suite",
            ciphers,
        ),
        ("1.1", "old version", &["-tls1_1"], "tls_version", versions),
        ("1.0", "old version", &["-tls1"], "tls_version", versions),
    ] {
        let port = free_port();
        let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
        peers.processes.push(s_server(port, site.pair("good_rsa"), &options));
        peers.add(Case {
            name: String::new(),
            version,
            key: "rsa",
            fault,
            tool: "openssl",
            reason,
            words,
            port,
            tls: Some(format!("ca = {:?}", site.ours.certificate)),
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
            let _asked = stream.read(&mut [0; 2048]);
            let _told = stream.write_all(said);
            if !closes {
                kept.push(stream);
            }
        }
    });
    port
}

impl Peers {
    /// A peer that speaks something; `secured`: the box is configured for TLS.
    fn speaks(&mut self, site: &Site, what: [&'static str; 4], port: u16, secured: bool) {
        let [fault, tool, reason, words] = what;
        self.add(Case {
            name: String::new(),
            version: "",
            key: "",
            fault,
            tool,
            reason,
            words,
            port,
            tls: secured.then(|| format!("ca = {:?}", site.ours.certificate)),
        });
    }
}

const PLAIN: &str = "speaks plain DICOM on this port";
const SECURE: &str = "speaks TLS on this port";

/// Peers that say a few bytes of something, or nothing.
fn wrong_words(peers: &mut Peers, site: &Site, web: u16) {
    let (abort, reject) = (b"\x07\0\0\0\0\x04\0\0\x02\x01", b"\x03\0\0\0\0\x04\0\x01\x01\x01");
    for (what, port) in [
        (["A-ABORT", "bytes", "plain_dicom", PLAIN], port_saying(abort, true)),
        (
            ["A-ASSOCIATE-RJ", "bytes", "plain_dicom", PLAIN],
            port_saying(reject, true),
        ),
        (["HTTP", "hyper", "plain_http", "speaks HTTP on this port"], web),
        (
            ["SSH", "bytes", "plain_ssh", "speaks SSH on this port"],
            port_saying(b"SSH-2.0-OpenSSH_9.2p1\r\n", true),
        ),
        (
            ["noise", "bytes", "not_tls", "a protocol that is not known here"],
            port_saying(&[0xa5; 64], true),
        ),
        (
            ["closes", "bytes", "closed_on_hello", "without a word of TLS"],
            port_saying(b"", true),
        ),
        (
            ["says nothing", "bytes", "silent", "answered nothing to our TLS hello"],
            port_saying(b"", false),
        ),
    ] {
        peers.speaks(site, what, port, true);
    }
    let alert = port_saying(b"\x15\x03\x03\0\x02\x02\x28", true);
    peers.speaks(site, ["TLS alert", "bytes", "tls_on_plain", SECURE], alert, false);
}

/// DICOM systems without TLS, and with TLS where none is configured.
fn dialects(peers: &mut Peers, site: &Site, folder: &Path) -> Vec<Storescp> {
    let (plain, secure) = (
        Storescp::start(&folder.join("plain"), &[]),
        Storescp::start_tls(&folder.join("secure"), site.pair("good"), &site.ours, "-ic"),
    );
    let (python, hello) = (free_port(), free_port());
    let journal = path(&folder.join("py.jsonl"));
    let serving = ["archive".to_owned(), python.to_string(), journal];
    peers.processes.push(tools::python_serving("toolkit.py", &serving));
    peers.processes.push(s_server(hello, site.pair("good"), &[]));
    peers.speaks(site, ["plain DICOM", "dcmtk", "plain_dicom", PLAIN], plain.port, true);
    peers.speaks(site, ["plain DICOM", "pynetdicom", "plain_dicom", PLAIN], python, true);
    peers.speaks(site, ["TLS", "openssl", "tls_on_plain", SECURE], hello, false);
    peers.speaks(site, ["TLS", "dcmtk", "tls_on_plain", SECURE], secure.port, false);
    vec![plain, secure]
}
