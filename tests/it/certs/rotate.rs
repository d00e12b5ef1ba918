//! Certificates replaced while the box runs: nobody loses an association, and nothing is restarted.
use crate::harness::peers::{Storescp, dcmtk, path, send};
use crate::harness::pki::{Authority, Pair};
use crate::harness::tools::Owned;
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, tools, wait_until};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TO_KEEP: &str = r#"fn route(image, from) { to("keep"); }"#;
const QUICK: &str = "[certificates]\nwatch = \"200ms\"\n";

/// The certificate that a port shows now, by its SHA-256.
#[track_caller]
fn shown(port: u16, folder: &Path, ca: &Path) -> String {
    let to = format!("127.0.0.1:{port}");
    let ran = tools::tool(
        "openssl",
        &["s_client", "-connect", &to, "-CAfile", &path(ca), "-showcerts"],
    );
    let start = ran.out.find("-----BEGIN").expect("a certificate");
    let end = ran.out.find("-----END CERTIFICATE-----").expect("its end") + "-----END CERTIFICATE-----\n".len();
    let file = folder.join("shown.pem");
    std::fs::write(&file, &ran.out[start..end]).expect("writable");
    let print = tools::tool(
        "openssl",
        &["x509", "-in", &path(&file), "-noout", "-fingerprint", "-sha256"],
    )
    .ok();
    let hex = print
        .out
        .trim()
        .rsplit('=')
        .next()
        .expect("a fingerprint")
        .replace(':', "");
    hex.to_lowercase()
}

/// A modality that has an association and sends one image after the other, slowly.
struct Sender {
    process: Owned,
    count: usize,
}

impl Sender {
    fn start(station: &Station, pair: &Pair, ca: &Path, count: usize) -> Self {
        let folder = station.setup.folder_of("slow");
        std::fs::create_dir_all(&folder).expect("writable");
        let files: Vec<PathBuf> = Object::many(objects::CT, count)
            .iter()
            .map(|object| object.write(&folder))
            .collect();
        let mut command = Command::new(tools::python());
        command.arg(tools::script("toolkit.py")).args([
            "trickle",
            &station.setup.dicom.to_string(),
            "WAYSTATION",
            "CT1",
        ]);
        command.arg(ca).arg(&pair.certificate).arg(&pair.key).args(files);
        tools::clean(&mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        Self {
            process: Owned(child),
            count,
        }
    }

    /// All were answered 0000, over the one association.
    #[track_caller]
    fn finished(mut self) {
        wait_until("the slow modality ends", SOON, || !self.process.running());
        let mut out = String::new();
        std::io::Read::read_to_string(self.process.0.stdout.as_mut().expect("piped"), &mut out).expect("text");
        let answer: serde_json::Value =
            serde_json::from_str(out.lines().last().unwrap_or_default()).expect("an answer");
        assert_eq!(answer["statuses"], serde_json::json!(vec![0; self.count]), "{answer}");
    }
}

fn echo(station: &Station, pair: &Pair, ca: &Path) -> bool {
    let (key, certificate, trust) = (path(&pair.key), path(&pair.certificate), path(ca));
    dcmtk(
        "echoscu",
        station.setup.dicom,
        "CT1",
        &["+tls", &key, &certificate, "+cf", &trust],
        &[],
    )
    .code
        == Some(0)
}

#[test]
fn a_listener_gets_a_new_certificate_under_a_running_association() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let (own, new) = (ca.sign("server", "waystation"), ca.sign("renewed", "waystation"));
    let peer = ca.sign("ct1", "ct1.example");
    let demand = format!("client_ca = {:?}", ca.certificate);
    let station = setup
        .rules(TO_KEEP)
        .folder("keep")
        .toml(QUICK)
        .listener_tls(&own, &demand)
        .start();
    let (port, folder) = (station.setup.dicom, station.setup.path());
    assert_eq!(shown(port, folder, &ca.certificate), own.fingerprint);
    let sender = Sender::start(&station, &peer, &ca.certificate, 12);
    station.wait_metric("instances_received_total", &[], |n| n >= 1.0);

    // Half of the pair: the old one stays, and that is said.
    std::fs::copy(&new.certificate, &own.certificate).expect("writable");
    let failed = [("role", "listener"), ("name", "dicom")];
    station.wait_metric("certificate_reload_failed", &failed, |n| n == 1.0);
    assert_eq!(
        shown(port, folder, &ca.certificate),
        own.fingerprint,
        "never without a certificate"
    );
    assert!(echo(&station, &peer, &ca.certificate));
    let said = "is not the key of";
    assert!(station.log().contains(said), "{}", station.log_tail());
    let status = station.cli(&["cert", "status"]);
    assert!(status.code == Some(1) && status.out.contains(said), "{status:?}");

    // The other half.
    std::fs::copy(&new.key, &own.key).expect("writable");
    station.wait_metric("certificate_reload_failed", &failed, |n| n == 0.0);
    assert_eq!(shown(port, folder, &ca.certificate), new.fingerprint);
    assert_eq!(
        station.metric("certificate_reloads_total", &[("result", "renewed")]),
        1.0
    );
    assert_eq!(
        station.metric("certificate_reloads_total", &[("result", "refused")]),
        1.0
    );
    assert!(
        station.metric("instances_received_total", &[]) < 12.0,
        "the association is still running"
    );
    sender.finished();
    assert_eq!(station.metric("associations_total", &[("source", "test")]), 2.0);
    assert_eq!(station.metric("association_failures_total", &[]), 0.0);
}

#[test]
fn links_are_followed_and_a_signal_or_a_word_is_enough() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let pairs: Vec<Pair> = (0..3).map(|n| ca.sign(&format!("server{n}"), "waystation")).collect();
    // As certbot keeps them: live/box.pem is a link to archive/boxN.pem.
    let live = setup.folder_of("live");
    std::fs::create_dir(&live).expect("writable");
    let link = |pair: &Pair| {
        for (name, target) in [("box.pem", &pair.certificate), ("box.key", &pair.key)] {
            let fresh = live.join("fresh");
            std::os::unix::fs::symlink(target, &fresh).expect("a link");
            std::fs::rename(fresh, live.join(name)).expect("renamed");
        }
    };
    link(&pairs[0]);
    let linked = Pair {
        certificate: live.join("box.pem"),
        key: live.join("box.key"),
        ..pairs[0].clone()
    };
    let station = setup
        .rules(TO_KEEP)
        .folder("keep")
        .toml("[certificates]\nwatch = \"0s\"\n")
        .listener_tls(&linked, "client_certificate = \"none\"")
        .start();
    let (port, folder) = (station.setup.dicom, station.setup.path().to_owned());
    let now = || shown(port, &folder, &ca.certificate);
    assert_eq!(now(), pairs[0].fingerprint);
    link(&pairs[1]);
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(
        now(),
        pairs[0].fingerprint,
        "nobody has said so, and nothing is watched"
    );
    station.signal(Signal::HUP);
    station.wait_metric("certificate_reloads_total", &[("result", "renewed")], |n| n == 1.0);
    assert_eq!(now(), pairs[1].fingerprint);
    link(&pairs[2]);
    let said = station.cli(&["reload"]).ok().out;
    assert!(said.contains("certificates renewed: 1"), "{said}");
    assert_eq!(now(), pairs[2].fingerprint);
    std::fs::write(&pairs[2].certificate, "nonsense").expect("writable");
    let refused = station.cli(&["reload"]);
    assert!(
        refused.code == Some(1) && refused.err.contains("the old ones stay in force"),
        "{refused:?}"
    );
    assert_eq!(now(), pairs[2].fingerprint);
}

#[test]
fn a_destination_gets_a_new_identity_and_a_new_trust_without_a_restart() {
    let setup = Setup::new();
    let (old, new) = (
        Authority::new(&setup.folder_of("pki"), "old"),
        Authority::new(&setup.folder_of("pki"), "new"),
    );
    let (archive, own) = (new.sign("archive", "archive"), old.sign("box", "waystation"));
    let scp = Storescp::start_tls(&setup.folder_of("scp"), &archive, &new, "-rc");
    let trust = setup.folder_of("trust.pem");
    std::fs::copy(&old.certificate, &trust).expect("writable");
    let tls = format!(
        "associations = 1\ntls = {{ ca = {trust:?}, certificate = {:?}, key = {:?} }}",
        own.certificate, own.key
    );
    let rules = r#"fn route(image, from) { to("storescp"); }"#;
    let station = setup
        .rules(rules)
        .toml(QUICK)
        .archive("storescp", scp.port, &tls)
        .start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    let failures = |reason: &'static str| [("role", "destination"), ("name", "storescp"), ("reason", reason)];
    station.wait_metric("tls_failures_total", &failures("unknown_ca"), |n| n >= 1.0);
    // Its authority becomes known: now it is ours that the archive does not know.
    std::fs::copy(&new.certificate, &trust).expect("writable");
    station.wait_metric("tls_failures_total", &failures("refused_unknown_ca"), |n| n >= 1.0);
    new.sign("box-new", "waystation").copy_to(&own);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 2.0);
    assert_eq!(scp.data_sets().len(), 2);
    let jobs = station.jobs(&["--state", "held"]);
    assert!(jobs.is_empty(), "{jobs:?}");
}

#[test]
fn running_deliveries_and_a_lane_go_on_while_files_are_being_written() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let own = ca.sign("server", "waystation");
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let peer = ca.sign("ct1", "ct1.example");
    let demand = format!("client_ca = {:?}", ca.certificate);
    let station = setup
        .rules(r#"fn route(image, from) { to("vna"); }"#)
        .archive("vna", archive.port, "")
        .toml(QUICK)
        .listener_tls(&own, &demand)
        .start();
    let sender = Sender::start(&station, &peer, &ca.certificate, 10);
    station.wait_metric("instances_received_total", &[], |n| n >= 1.0);
    // Written byte by byte, as a copy over a slow line.
    let next = ca.sign("next", "waystation");
    for (from, to) in [(&next.key, &own.key), (&next.certificate, &own.certificate)] {
        let bytes = std::fs::read(from).expect("readable");
        let mut file = std::fs::File::create(to).expect("writable");
        for part in bytes.chunks(bytes.len() / 12 + 1) {
            std::io::Write::write_all(&mut file, part).expect("writable");
            std::thread::sleep(std::time::Duration::from_millis(40));
            assert!(
                echo(&station, &peer, &ca.certificate),
                "a client comes in at every moment"
            );
        }
    }
    station.wait_metric("certificate_reloads_total", &[("result", "renewed")], |n| n >= 1.0);
    station.wait_metric("certificate_reload_failed", &[], |n| n == 0.0);
    assert_eq!(
        shown(station.setup.dicom, station.setup.path(), &ca.certificate),
        next.fingerprint
    );
    sender.finished();
    archive.wait_stored(10);
}
