//! Spools of every format that a box has written come to today's with everything that they knew; a newer one stays as it is.
use crate::fixture::{expected, known, open, thaw};
use crate::harness::{SOON, Setup, Station, objects, wait_until};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use waystation::base::clock::Wall;
use waystation::spool;

fn formats() -> Vec<u64> {
    (1..=spool::FORMAT).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frozen_spool_opens_with_every_instance_job_hold_alias_and_ledger_line() {
    for format in formats() {
        let folder = tempfile::tempdir().expect("a directory");
        thaw(format, folder.path());
        let wanted = expected(format);
        let now = Wall(wanted["now"].as_u64().expect("when it was frozen"));
        for round in 0..2 {
            let (spool, report) = open(folder.path(), now);
            let migrated = (format < spool::FORMAT && round == 0).then_some(format);
            assert_eq!((report.migrated_from, &report.salvaged), (migrated, &None));
            let mut found = known(&spool).await;
            assert!(spool.verify_ledger().await.expect("it is read").is_sound());
            spool.close().await;
            let facts = found["facts"].take();
            let lines = wanted["facts"].as_array().expect("lines");
            let found_lines = facts.as_array().expect("lines");
            assert!(lines.len() > 10 && found_lines.len() >= lines.len());
            assert_eq!(found_lines[..lines.len()], lines[..], "format {format}, round {round}");
            // Format 1 knew no storage commitment.
            let commitments: &[&str] = if format == 1 { &[] } else { &["demands", "outstanding"] };
            for key in ["jobs", "aliases", "studies", "suspended"].iter().chain(commitments) {
                assert!(wanted[key].as_array().is_some_and(|all| !all.is_empty()), "{key}");
                assert_eq!(found[key], wanted[key], "format {format}, {key}, round {round}");
            }
        }
        let sound = spool::fsck(folder.path(), true).expect("it is read");
        assert_eq!(sound.problems, Vec::<String>::new());
    }
}

/// A box with the destinations of the frozen one, on a thawed spool.
fn box_on(format: u64) -> Station {
    let setup = Setup::new()
        .spool("low_water = \"1MiB\"\ncritical = \"1MiB\"\nballast = \"0B\"\ncache_high_water = \"2MiB\"")
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .folder("vna")
        .folder("late");
    thaw(format, &setup.spool_path());
    setup.idle()
}

#[test]
fn a_box_starts_on_an_older_spool_delivers_what_waited_and_traces_what_was() {
    let mut station = box_on(1);
    let shown = station.cli(&["spool", "version"]).ok();
    assert!(
        shown.out.contains("spool format 1; this program writes 2"),
        "{}",
        shown.out
    );
    station.start();
    wait_until("what waited is delivered", SOON, || station.folder("vna").len() == 2);
    assert!(
        station.log().contains("the spool is migrated"),
        "{}",
        station.log_tail()
    );
    assert!(station.folder("late").is_empty(), "its suspension still stands");
    assert_eq!(station.jobs(&["--state", "held", "--kind", "operator"]).len(), 1);
    // The index of patients is filled from the payloads, in the background.
    wait_until("a patient of before the upgrade is found", SOON, || {
        let traced = station.cli(&["trace", "FRZ-2", "--by", "patient", "--json"]).ok();
        let answer: serde_json::Value = serde_json::from_str(&traced.out).expect("JSON");
        answer["complete"] == true && answer["instances"].as_array().is_some_and(|all| all.len() == 4)
    });
    let written = station.cli(&["trace", "RA00000072"]).ok();
    assert!(
        written.out.contains("1.2.826.0.1.3680043.10.3.1.20"),
        "by what the rules wrote:\n{}",
        written.out
    );
    station.cli(&["ledger", "verify"]).ok();
    assert!(station.terminate().success());
    let shown = station.cli(&["spool", "version"]).ok();
    assert!(shown.out.contains("nothing is to be done"), "{}", shown.out);
    station.cli(&["spool", "fsck", "--deep"]).ok();
}

#[test]
fn an_older_spool_is_migrated_by_hand_as_well() {
    let station = box_on(1);
    let migrated = station.cli(&["spool", "migrate"]).ok();
    assert!(migrated.out.contains("migrated from format 1 to 2"), "{}", migrated.out);
    let again = station.cli(&["spool", "migrate"]).ok();
    assert!(again.out.contains("nothing was to be done"), "{}", again.out);
    station.cli(&["ledger", "verify"]).ok();
}

fn bytes_below(folder: &Path) -> BTreeMap<PathBuf, String> {
    let hash = |path: PathBuf| (path.clone(), objects::sha256(&std::fs::read(path).expect("readable")));
    objects::files_in(folder).into_iter().map(hash).collect()
}

#[test]
fn a_newer_spool_is_refused_in_words_and_stays_as_it_is_to_the_byte() {
    for marker in ["3\n", "99\n", "next\n"] {
        let mut station = box_on(1);
        std::fs::write(station.setup.spool_path().join("waystation-spool"), marker).expect("writable");
        let before = bytes_below(&station.setup.spool_path());
        station.launch();
        assert!(!station.wait_ended().success());
        let words = if marker == "next\n" {
            "says no format"
        } else {
            "newer version"
        };
        assert!(station.log().contains(words), "{}", station.log_tail());
        for verb in [
            &["spool", "fsck"][..],
            &["spool", "rebuild"],
            &["spool", "migrate"],
            &["spool", "version"],
            &["ledger", "verify"],
        ] {
            assert_eq!(station.cli(verb).code, Some(1), "{verb:?}");
        }
        assert_eq!(bytes_below(&station.setup.spool_path()), before, "{marker}");
    }
}
