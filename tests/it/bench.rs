//! The rule writer's bench beside a running box: replay, trace of a spooled image, promotion, canary, rollback, history, and
//! the release of held images by the mended rules.
use crate::harness::peers::send;
use crate::harness::{Object, SOON, Setup, Station, objects, wait_until};
use std::fs;
use std::path::PathBuf;

const OLD: &str = "fn route(image, from) { to(\"keep\"); }\n";
const NEW: &str = "fn morph(image, from) { image.PatientID = \"NEW-\" + image.PatientID; }\nfn route(image, from) { to(\"keep\"); to(\"other\"); }\n";
const FIXTURE: &str = "[[case]]\nname = \"new\"\n[case.input]\nPatientID = \"1\"\n[case.expect]\n\
    deliveries = { keep = \"routine\", other = \"routine\" }\nedits = { PatientID = \"NEW-1\" }\n";

fn station() -> Station {
    Setup::new().rules(OLD).folder("keep").folder("other").start()
}

fn candidate(station: &Station, rules: &str, fixture: &str) -> PathBuf {
    let folder = station.setup.folder_of("candidate");
    fs::create_dir_all(folder.join("fixtures")).unwrap();
    fs::write(folder.join("main.rhai"), rules).unwrap();
    fs::write(folder.join("fixtures/new.toml"), fixture).unwrap();
    folder
}

fn sent(station: &Station, patient: &str) -> Object {
    let mut object = Object::new(objects::CT);
    object.patient_id = patient.to_owned();
    send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&object));
    object
}

#[test]
fn a_replay_shows_what_a_candidate_would_do_otherwise_and_sends_nothing() {
    let station = station();
    let images = [sent(&station, "A"), sent(&station, "B")];
    wait_until("both", SOON, || station.folder("keep").len() == 2);
    let folder = candidate(&station, NEW, FIXTURE);
    let folder = folder.to_str().unwrap();
    let said = station
        .cli(&["rules", "replay", "--candidate", folder, "--since", "1h"])
        .ok()
        .out;
    for line in [
        "+ other",
        "keep: PatientID: \"A\" -> \"NEW-A\"",
        "2 images, 2 would differ, 0 unread",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let report = station
        .cli(&["rules", "replay", "--candidate", folder, "--json"])
        .json();
    assert_eq!(report["changed"], 2);
    assert!(station.folder("other").is_empty());
    assert!(!station.log().contains("NEW-A"));
    let traced = station.cli(&["rules", "trace", &images[0].sop]).ok().out;
    assert!(
        traced.contains("to keep (routine)") && traced.contains("µs"),
        "{traced}"
    );
    let unknown = station.cli(&["rules", "trace", "1.2.3.4.5.6.7"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.err);
}

#[test]
fn a_replay_says_in_words_what_has_left_the_cache() {
    // A disk that is never free enough: what is delivered goes at once.
    let spool = "low_water = \"64MiB\"\ncritical = \"32MiB\"\nballast = \"4MiB\"\ncache_high_water = \"100%\"";
    let station = Setup::new()
        .rules(OLD)
        .folder("keep")
        .folder("other")
        .spool(spool)
        .start();
    sent(&station, "A");
    sent(&station, "B");
    station.wait_metric("cache_evicted_total", &[], |gone| gone == 2.0);
    let folder = candidate(&station, NEW, FIXTURE);
    let folder = folder.to_str().unwrap();
    let said = station.cli(&["rules", "replay", "--candidate", folder]).ok().out;
    assert!(
        said.contains("0 images, 0 would differ, 0 unread") && said.contains("NOT in this report: 2 images"),
        "{said}"
    );
    let report = station
        .cli(&["rules", "replay", "--candidate", folder, "--json"])
        .json();
    assert_eq!(report["left_cache"], 2);
}

#[test]
fn a_promoted_set_is_in_force_at_once_across_a_restart_and_until_the_rollback() {
    let mut station = station();
    let folder = candidate(&station, NEW, FIXTURE);
    let folder = folder.to_str().unwrap().to_owned();
    let own = station.setup.path().join("rules").to_str().unwrap().to_owned();
    station
        .cli(&["rules", "promote", &own, "--force", "--reason", "first"])
        .ok();
    let first = station
        .cli(&["rules", "promote", &folder, "--reason", "site prefix"])
        .ok();
    assert!(first.out.contains("in force: "), "{}", first.out);
    let image = sent(&station, "A");
    wait_until("the other", SOON, || station.folder("other").contains_key(&image.sop));
    station.restart();
    let image = sent(&station, "B");
    wait_until("the other", SOON, || station.folder("other").contains_key(&image.sop));
    station
        .cli(&["rules", "rollback", "--reason", "archive is not ready"])
        .ok();
    let image = sent(&station, "C");
    wait_until("keep", SOON, || station.folder("keep").contains_key(&image.sop));
    assert!(!station.folder("other").contains_key(&image.sop));
    let history = station.cli(&["rules", "history", "--json"]).json();
    let said: Vec<(&str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["what"].as_str().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("promote", "first"),
            ("promote", "site prefix"),
            ("rollback", "archive is not ready")
        ]
    );
}

#[test]
fn without_its_credentials_the_rules_verbs_say_what_to_do_and_of_which_file() {
    let station = Setup::new().rules(OLD).folder("keep").folder("other").idle();
    let text = fs::read_to_string(station.setup.config()).unwrap();
    let key = "[rules]\nkey_file = \"${CREDENTIALS_DIRECTORY}/secrets_site.key\"\n";
    fs::write(station.setup.config(), text.replace("[rules]\n", key)).unwrap();
    let config = station.setup.config();
    for verb in ["check", "test"] {
        let said = station.cli(&["rules", verb]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let last = said.err.lines().last().unwrap();
        assert!(
            last.contains(config.to_str().unwrap()) && last.contains("mend what is named above"),
            "{said:?}"
        );
        assert!(
            said.err.contains("systemd-run") && said.err.contains("LoadCredential=secrets:/etc/waystation/secrets"),
            "{said:?}"
        );
    }
}

#[test]
fn a_promotion_that_the_running_box_refuses_is_taken_back() {
    let station = station();
    let own = station.setup.path().join("rules");
    let own_text = own.to_str().unwrap();
    station
        .cli(&["rules", "promote", own_text, "--force", "--reason", "first"])
        .ok();
    let stands = || ["active.json", "sets/history.jsonl"].map(|name| fs::read_to_string(own.join(name)).unwrap());
    let before = stands();
    // The command reads the configuration of today; the box has that of its start.
    let late = station.setup.folder_of("late");
    let text = fs::read_to_string(station.setup.config()).unwrap();
    let destination = format!("[[destinations]]\nkind = \"folder\"\nname = \"late\"\npath = {late:?}\n");
    fs::write(station.setup.config(), format!("{text}\n{destination}")).unwrap();
    let folder = candidate(
        &station,
        &NEW.replace("other", "late"),
        &FIXTURE.replace("other", "late"),
    );
    let said = station.cli(&["rules", "promote", folder.to_str().unwrap(), "--reason", "x"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("late") && said.err.contains("nothing was changed"),
        "{said:?}"
    );
    assert!(!said.out.contains("in force:"), "{said:?}");
    assert_eq!(stands(), before);
    // What stands is what the box has, and counts as loaded.
    station.wait_metric("rules_reload_failed", &[], |failed| failed == 0.0);
    let image = sent(&station, "A");
    wait_until("keep", SOON, || station.folder("keep").contains_key(&image.sop));
}

#[test]
fn a_set_whose_fixtures_fail_is_not_promoted() {
    let station = station();
    let folder = candidate(&station, NEW, &FIXTURE.replace("NEW-1", "NEW-2"));
    let said = station.cli(&["rules", "promote", folder.to_str().unwrap()]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("+ keep: PatientID = \"NEW-1\""), "{}", said.out);
    assert!(
        station
            .cli(&["rules", "history"])
            .ok()
            .out
            .contains("nothing was promoted")
    );
}

#[test]
fn a_canary_decides_for_its_source_only_until_it_is_finished() {
    let station = Setup::new()
        .rules(OLD)
        .folder("keep")
        .folder("other")
        .sources("[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\n[[sources]]\nname = \"ct2\"\ncalling_ae = [\"CT2\"]\naddresses = [\"127.0.0.0/8\"]\n")
        .start();
    let folder = candidate(&station, NEW, FIXTURE);
    let folder = folder.to_str().unwrap();
    let own = station.setup.path().join("rules").to_str().unwrap().to_owned();
    station
        .cli(&["rules", "promote", &own, "--force", "--reason", "first"])
        .ok();
    station
        .cli(&["rules", "promote", folder, "--canary", "source=ct2"])
        .ok();
    let from = |title: &str| {
        let object = Object::new(objects::CT);
        let file = object.write(station.setup.path());
        crate::harness::peers::dcmtk("storescu", station.setup.dicom, title, &["-aec", "WAYSTATION"], &[file]).ok();
        object
    };
    let (plain, canary) = (from("CT1"), from("CT2"));
    wait_until("both", SOON, || station.folder("keep").len() == 2);
    wait_until("the canary", SOON, || station.folder("other").contains_key(&canary.sop));
    assert!(!station.folder("other").contains_key(&plain.sop));
    assert_eq!(
        station.metric("rule_canary_decisions_total", &[("outcome", "routed")]),
        1.0
    );
    station.cli(&["rules", "promote", "--finish"]).ok();
    let plain = from("CT1");
    wait_until("all", SOON, || station.folder("other").contains_key(&plain.sop));
}

#[test]
fn held_images_are_decided_anew_by_the_rules_in_force() {
    let station = Setup::new()
        .rules("fn route(image, from) { to(\"keep\"); let x = [1]; x[7]; }\n")
        .folder("keep")
        .start();
    let image = sent(&station, "A");
    wait_until("the hold", SOON, || station.jobs(&["--state", "held"]).len() == 1);
    station.setup.rule_file("main.rhai", OLD);
    station.cli(&["reload"]).ok();
    let said = station
        .cli(&["queue", "release", "--rules", "current", "--kind", "error"])
        .ok()
        .out;
    assert!(said.contains("1 changed"), "{said}");
    wait_until("the image", SOON, || station.folder("keep").contains_key(&image.sop));
}

#[test]
fn of_two_who_promote_at_once_each_is_told_the_truth() {
    let station = Setup::new().rules(OLD).folder("keep").folder("other").start();
    let folder = candidate(&station, NEW, FIXTURE);
    let own = station.setup.path().join("rules");
    let folders = [folder, own].map(|folder| folder.to_string_lossy().into_owned());
    for round in 0..4 {
        let said: Vec<(Option<i32>, String)> = std::thread::scope(|scope| {
            let promote = |folder: &str| {
                let folder = folder.to_owned();
                let station = &station;
                scope.spawn(move || {
                    let ran = station.cli(&["rules", "promote", &folder, "--force", "--reason", "at once"]);
                    (ran.code, format!("{}{}", ran.out, ran.err))
                })
            };
            let both: Vec<_> = folders.iter().map(|folder| promote(folder)).collect();
            both.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        assert!(said.iter().all(|(code, _)| *code == Some(0)), "round {round}: {said:?}");
        let lines = station.cli(&["rules", "history", "--json"]).ok().json();
        let lines = lines.as_array().expect("a list");
        assert_eq!(lines.len(), 2 * (round + 1), "round {round}");
        let last = lines.last().expect("a line")["set"]
            .as_str()
            .expect("a hash")
            .to_owned();
        let active = std::fs::read_to_string(station.setup.path().join("rules/active.json")).expect("a set in force");
        assert!(active.contains(&format!("\"current\": \"{last}\"")), "{active}");
    }
}
