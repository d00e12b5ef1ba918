//! docs/tls.md, "A new CA": the whole procedure, with its states on both sides, under traffic that never stops.
use crate::harness::peers::{Storescp, dcmtk, path};
use crate::harness::pki::{Authority, Pair, Recipe};
use crate::harness::{Object, SOON, Setup, Station, is_free, objects, tools, wait_until};
use std::path::{Path, PathBuf};

/// A site between two authorities.
struct Site {
    station: Station,
    old: Authority,
    new: Authority,
    /// The box's own pair, and what it trusts: files whose content changes while their names stay.
    own: Pair,
    box_trusts: PathBuf,
    archive_trusts: PathBuf,
    modality_trusts: PathBuf,
    port: u16,
    sent: u32,
    renewed: f64,
}

fn write(path: &Path, authorities: &[&Authority]) {
    let all: Vec<u8> = authorities
        .iter()
        .flat_map(|authority| std::fs::read(&authority.certificate).expect("readable"))
        .collect();
    std::fs::write(path, all).expect("writable");
}

fn archive(port: u16, folder: &Path, pair: &Pair, trusts: &Path) -> Storescp {
    wait_until("the port is free", SOON, || is_free(port));
    let (key, certificate, trusts) = (path(&pair.key), path(&pair.certificate), path(trusts));
    Storescp::start_at(port, folder, &["+tls", &key, &certificate, "+cf", &trusts, "-rc"])
}

impl Site {
    fn new(port: u16) -> Self {
        let setup = Setup::new();
        let pki = setup.folder_of("pki");
        let (old, new) = (Authority::new(&pki, "old-ca"), Authority::new(&pki, "new-ca"));
        let own = old.make("box", &Recipe::new("waystation"));
        let [box_trusts, archive_trusts, modality_trusts] =
            ["box", "archive", "modality"].map(|who| setup.folder_of(&format!("{who}-trusts.pem")));
        for file in [&box_trusts, &archive_trusts, &modality_trusts] {
            write(file, &[&old]);
        }
        let tls = format!(
            "associations = 1\nidle = \"200ms\"\ntls = {{ ca = {box_trusts:?}, certificate = {:?}, key = {:?} }}",
            own.certificate, own.key
        );
        let station = setup
            .rules(r#"fn route(image, from) { to("storescp"); }"#)
            .toml("[certificates]\nwatch = \"200ms\"\n")
            .archive("storescp", port, &tls)
            .listener_tls(&own, &format!("client_ca = {box_trusts:?}"))
            .start();
        Self {
            station,
            old,
            new,
            own,
            box_trusts,
            archive_trusts,
            modality_trusts,
            port,
            sent: 0,
            renewed: 0.0,
        }
    }

    fn archive(&self, number: u8, pair: &Pair) -> Storescp {
        let folder = self.station.setup.folder_of(&format!("scp{number}"));
        archive(self.port, &folder, pair, &self.archive_trusts)
    }

    fn store(&self, pair: &Pair) -> tools::Ran {
        let file = Object::new(objects::CT).write(self.station.setup.path());
        let (key, certificate, trust) = (path(&pair.key), path(&pair.certificate), path(&self.modality_trusts));
        let options = ["+tls", &key, &certificate, "+cf", &trust, "-R"];
        dcmtk("storescu", self.station.setup.dicom, "CT1", &options, &[file])
    }

    /// The box has taken so many tables anew (the listener's, the destination's), and an image goes all the way through.
    #[track_caller]
    fn step(&mut self, what: &str, pair: &Pair, tables: f64) {
        self.renewed += tables;
        let renewed = self.renewed;
        let labels = [("result", "renewed")];
        self.station
            .wait_metric("certificate_reloads_total", &labels, |n| n == renewed);
        let ran = self.store(pair);
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        self.sent += 1;
        let sent = f64::from(self.sent);
        self.station
            .wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == sent);
    }
}

#[test]
fn a_whole_site_changes_its_authority_step_by_step_and_loses_nothing() {
    let mut site = Site::new(crate::harness::free_port());
    let (archive_old, modality) = (
        site.old.sign("archive", "archive"),
        site.old.sign("modality", "ct1.example"),
    );
    let first = site.archive(1, &archive_old);
    site.step("before", &modality, 0.0);

    // 1. Both sides trust both: the box by itself, the archive in its own way (here by a restart).
    write(&site.box_trusts, &[&site.old, &site.new]);
    site.step("the box trusts both", &modality, 2.0);
    write(&site.archive_trusts, &[&site.old, &site.new]);
    write(&site.modality_trusts, &[&site.old, &site.new]);
    drop(first);
    let second = site.archive(2, &archive_old);
    site.step("the archive trusts both", &modality, 0.0);

    // 2. New certificates, one system after the other.
    site.new.sign("box-new", "waystation").copy_to(&site.own);
    site.step("the box shows a new certificate", &modality, 2.0);
    let modality_new = site.new.sign("modality-new", "ct1.example");
    site.step("a modality shows a new certificate", &modality_new, 0.0);
    site.step("another one does not yet", &modality, 0.0);
    drop(second);
    let third = site.archive(3, &site.new.sign("archive-new", "archive"));
    site.step("the archive shows a new certificate", &modality_new, 0.0);

    // 3. The old authority goes.
    write(&site.box_trusts, &[&site.new]);
    site.step("the box trusts the new one only", &modality_new, 2.0);
    assert_ne!(
        site.store(&modality).code,
        Some(0),
        "the old certificate counts no more"
    );
    let refused = [("role", "listener"), ("reason", "unknown_ca")];
    site.station.wait_metric("tls_failures_total", &refused, |n| n == 1.0);
    assert_eq!(
        site.station.metric("tls_failures_total", &[("role", "listener")]),
        1.0,
        "nobody else was refused"
    );
    assert!(third.data_sets().len() >= 2);
    assert!(site.station.running(), "it was never restarted");

    let status = site.station.cli(&["cert", "status", "--json"]).ok();
    let answer: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    let entries = answer["certificates"].as_array().expect("a list");
    let new = |entry: &serde_json::Value| entry["in_force"] == true && entry["issuer"] == "CN=new-ca";
    assert!(entries.len() >= 4 && entries.iter().all(new), "{answer}");
}
