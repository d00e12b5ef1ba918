//! No session outlives its trust: nothing is resumed, and renegotiation is not to be had.
use super::reasons;
use super::site::Site;
use crate::harness::peers::path;
use crate::harness::tools::{self, Owned};
use crate::harness::{SOON, Setup, Station, wait_until};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TIMEOUTS: &str = "[listeners.timeouts]\nhandshake = \"1500ms\"\nassociation = \"2s\"\n";

fn station() -> (Station, Site) {
    let setup = Setup::new();
    let site = Site::new(&setup.folder_of("pki"));
    let trust = format!(
        "client_ca = [{:?}, {:?}]",
        site.ours.certificate, site.second.certificate
    );
    let station = setup
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .toml("[certificates]\nwatch = \"200ms\"\n")
        .listener(TIMEOUTS)
        .listener_tls(site.pair("good"), &trust)
        .start();
    (station, site)
}

/// One connection of `openssl s_client`, with a session that it keeps in a file, or from it.
fn connect(station: &Station, site: &Site, version: &str, session: &[&str]) -> String {
    let pair = site.pair("second");
    let to = format!("127.0.0.1:{}", station.setup.dicom);
    let (certificate, key) = (path(&pair.certificate), path(&pair.key));
    let mut arguments = vec![
        "s_client",
        "-connect",
        &to,
        version,
        "-cert",
        &certificate,
        "-key",
        &key,
        "-ign_eof",
    ];
    arguments.extend(session);
    let ran = tools::run(
        &tools::program("openssl"),
        &tools::texts(&arguments),
        Duration::from_secs(10),
    );
    format!("{}{}", ran.out, ran.err)
}

#[test]
fn a_client_whose_authority_was_removed_cannot_resume_its_session() {
    let (station, site) = station();
    let kept = |version: &str| path(&station.setup.folder_of(&format!("session{version}")));
    for version in ["-tls1_2", "-tls1_3"] {
        let file = kept(version);
        let said = connect(&station, &site, version, &["-sess_out", &file]);
        assert!(said.contains("New, TLS"), "a first session:\n{said}");
        // Even while nothing has changed, it is a new session with its certificate verified again.
        if std::path::Path::new(&file).exists() {
            let said = connect(&station, &site, version, &["-sess_in", &file]);
            assert!(said.contains("New, TLS") && !said.contains("Reused"), "{said}");
        }
    }
    assert_eq!(station.metric("tls_failures_total", &[]), 0.0);
    // The second authority is taken away: its file now holds another one.
    std::fs::copy(&site.foreign.certificate, &site.second.certificate).expect("writable");
    station.wait_metric(
        "certificate_reloads_total",
        &[("role", "listener"), ("result", "renewed")],
        |n| n == 1.0,
    );
    for (count, version) in ["-tls1_2", "-tls1_3"].into_iter().enumerate() {
        let file = kept(version);
        let session = if std::path::Path::new(&file).exists() {
            vec!["-sess_in", file.as_str()]
        } else {
            vec![]
        };
        let said = connect(&station, &site, version, &session);
        assert!(
            said.contains("SSL alert number 48") && !said.contains("Reused"),
            "{said}"
        );
        station.wait_metric("tls_failures_total", &[("reason", "unknown_ca")], |n| {
            n == (count + 1) as f64
        });
    }
}

/// What it costs that nothing is resumed: full handshakes with client certificates, one after the other.
#[test]
fn a_full_handshake_for_each_association_is_cheap_enough() {
    let (station, site) = station();
    let (pair, trust) = (site.pair("good_rsa"), path(&site.ours.certificate));
    let (certificate, key) = (path(&pair.certificate), path(&pair.key));
    let to = format!("127.0.0.1:{}", station.setup.dicom);
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = [
            "s_time",
            "-connect",
            &to,
            "-new",
            "-time",
            "2",
            version,
            "-cert",
            &certificate,
            "-key",
            &key,
            "-CAfile",
            &trust,
        ];
        let ran = tools::run(
            &tools::program("openssl"),
            &tools::texts(&arguments),
            Duration::from_secs(20),
        );
        let line = ran
            .out
            .lines()
            .find(|line| line.contains("real seconds"))
            .unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| {
            words
                .get(at)
                .and_then(|word| word.parse::<f64>().ok())
                .unwrap_or_default()
        };
        let each = number(3) / number(0).max(1.0);
        println!("full handshakes {version}: {line} ({:.2} ms each)", each * 1000.0);
        // An association takes one and carries up to 200 images. Generous: other tests run beside this one.
        assert!(number(0) > 40.0, "{ran:?}");
    }
    // s_time hangs up as soon as its own half is done.
    let failed = reasons(&station, "listener", "dicom");
    assert!(
        failed.iter().all(|(reason, _)| reason == "closed" || reason == "io"),
        "{failed:?}"
    );
}

#[test]
fn renegotiation_and_key_updates_keep_nobody_beyond_the_deadline() {
    let (station, site) = station();
    let pair = site.pair("good_rsa");
    for (version, word) in [("-tls1_2", "R\n"), ("-tls1_3", "K\n")] {
        let mut command = Command::new(tools::program("openssl"));
        command.args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{}", station.setup.dicom),
            version,
        ]);
        command.arg("-cert").arg(&pair.certificate).arg("-key").arg(&pair.key);
        tools::clean(&mut command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut client = Owned(command.spawn().expect("openssl starts"));
        let mut said = client.0.stdin.take().expect("piped");
        let start = Instant::now();
        while client.running() && start.elapsed() < Duration::from_secs(8) {
            // It has gone when it no longer listens.
            let _gone = said.write_all(word.as_bytes()).and_then(|()| said.flush());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(
            !client.running(),
            "{version}: the connection outlived the deadline of its A-ASSOCIATE-RQ"
        );
    }
    wait_until("the box serves on", SOON, || {
        let trust = path(&site.ours.certificate);
        let (key, certificate) = (path(&pair.key), path(&pair.certificate));
        let options = ["+tls", &key, &certificate, "+cf", &trust];
        crate::harness::peers::dcmtk("echoscu", station.setup.dicom, "ECHOSCU", &options, &[]).code == Some(0)
    });
}
