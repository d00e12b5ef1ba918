//! The day's reconciliation with differences that were planted, and what else the ledger must know: promotions without a running box,
//! and what `map` tells.
use crate::custody::{RULES, VIEWER, ask, facts, patient, with_callers};
use crate::harness::peers::{send, try_send, try_send_all};
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use waystation::spool::FactKind;

#[test]
fn map_tells_from_outside_what_a_modality_had_sent() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    let station = setup.rules(RULES).archive("vna", archive.port, "").start();
    send(station.setup.dicom, station.setup.path(), &[patient("M1", "77")]);
    archive.wait_stored(1);
    let there = station.cli(&["map", "accession", "RA00000077"]).ok().out;
    assert!(there.contains("sent 77  written RA00000077  source test"), "{there}");
    let back = station.cli(&["map", "accession", "77", "--reverse", "--json"]).ok().out;
    let back: Value = serde_json::from_str(&back).expect("JSON");
    assert_eq!(back["entries"][0]["written"], "RA00000077");
    let none = station.cli(&["map", "accession", "RA00000078"]).ok().out;
    assert!(none.contains("not renamed"), "{none}");
}

#[test]
fn a_promotion_without_a_running_box_comes_to_the_ledger_at_its_next_start() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    assert!(station.terminate().success());
    let promoted = station.cli(&["rules", "promote", "--force", "--reason", "quiet night"]);
    assert_eq!(promoted.code, Some(0), "{promoted:?}");
    for _ in 0..2 {
        station.start();
        assert!(station.terminate().success());
    }
    let told = facts(&station, FactKind::Rules);
    let quiet: Vec<&String> = told.iter().filter(|fact| fact.contains("quiet night")).collect();
    assert_eq!(quiet.len(), 1, "once, and not at each start: {told:?}");
    // With a box that runs, the box tells it, and the next start does not tell it again.
    station.start();
    station
        .cli(&["rules", "promote", "--force", "--reason", "busy day"])
        .ok();
    for _ in 0..2 {
        assert!(station.terminate().success());
        station.start();
    }
    station.terminate();
    let told = facts(&station, FactKind::Rules);
    assert_eq!(
        told.iter().filter(|fact| fact.contains("busy day")).count(),
        1,
        "{told:?}"
    );
}

fn payload_of(station: &Station, object: &Object) -> PathBuf {
    let data = object.data();
    let holds = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes.ends_with(&data));
    let files = objects::files_in(&station.setup.spool_path().join("payload"));
    files
        .into_iter()
        .find(holds)
        .expect("a payload with the object's bytes")
}

fn reconcile(station: &Station) -> Value {
    let ran = station.cli(&["reconcile", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    let differs = report["differences"].as_array().is_some_and(|all| !all.is_empty());
    assert_eq!(ran.code, Some(i32::from(differs)), "a script sees it");
    report
}

fn named(report: &Value, kind: &str) -> Vec<String> {
    let all = report["differences"].as_array().expect("a list");
    let of_kind = all.iter().filter(|one| one["kind"] == kind);
    of_kind
        .map(|one| one["sop_instance"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn an_outage_is_open_and_no_difference() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let station = with_callers(setup)
        .rules(RULES)
        .archive("vna", archive.port, "")
        .start();
    let none = station.cli(&["reconcile", "--kept"]);
    assert!(none.err.contains("no report was made yet"), "{none:?}");
    let none = station.cli(&["reconcile", "--kept", "--day", "2020-01-01"]);
    assert!(none.err.contains("no report of 2020-01-01 is kept"), "{none:?}");
    let none = station.cli(&["reconcile", "--day", "2020-01-01"]);
    assert!(none.err.contains("tells nothing of that day"), "{none:?}");
    let sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    let report = reconcile(&station);
    assert_eq!((&report["counts"], &report["fate"]["open"]), (&json!({}), &json!(5)));
    assert_eq!(report["sources"][0]["source"], "test");
    for (key, count) in [("received", 5), ("acknowledged", 5), ("refused", 0)] {
        assert_eq!(report["sources"][0][key], count, "{key}");
    }
    assert_eq!(report["sources"][0]["studies"].as_array().map(Vec::len), Some(5));
    assert_eq!(report["destinations"][0]["open"], 5);
    assert_eq!(station.metric("reconcile_open_deliveries", &[]), 5.0);
    assert_eq!(station.metric("reconcile_differences", &[]), 0.0);
}

/// The spool is restored from an older copy, and `node.state` is not: the reports that were made since know more.
#[test]
fn a_spool_from_an_older_copy_is_told_at_once_and_until_a_person_has_acknowledged_it() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let mut station = setup.rules(RULES).archive("vna", archive.port, "").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    assert!(station.terminate().success());
    let (spool, copy) = (station.setup.spool_path(), station.setup.path().join("copy"));
    let copied = |from: &Path, to: &Path| {
        let done = std::process::Command::new("cp").arg("-a").args([from, to]).status();
        assert!(done.expect("cp is there").success());
    };
    copied(&spool, &copy);
    station.start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 3));
    let before = reconcile(&station);
    assert_eq!(before["fate"]["open"], 5);
    assert!(station.terminate().success());
    std::fs::remove_dir_all(&spool).expect("ours");
    copied(&copy, &spool);

    station.start();
    let standing = |station: &Station| station.metric("reconcile_differences", &[("kind", "ledger_older")]);
    assert_eq!(standing(&station), 1.0, "from its first answer on");
    let (status, body) = crate::harness::http::get(station.setup.web, "/readyz").expect("it answers");
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(status == 200 && body.contains("the ledger is an older one"), "{body}");
    let told = station.cli(&["spool", "salvage"]);
    assert!(
        told.code == Some(1) && told.out.contains("restored from an older copy"),
        "{told:?}"
    );
    let after = reconcile(&station);
    assert_eq!(
        (&after["fate"]["open"], &after["counts"]),
        (&json!(2), &json!({"ledger_older": 1}))
    );
    let hash = before["ledger_head"].as_str().expect("a hash");
    let day = before["day"].as_str().expect("a day");
    let aside = format!("{day}.line-{}-{}.json", before["ledger_line"], &hash[..8]);
    let aside = std::fs::read_to_string(station.setup.path().join("reconciliation").join(aside));
    let aside: Value = serde_json::from_str(&aside.expect("it is kept")).expect("JSON");
    assert_eq!(aside["fate"]["open"], 5, "what it alone knows");
    station.cli(&["spool", "salvage", "--acknowledge"]).ok();
    assert_eq!(standing(&station), 0.0);
    assert_eq!(reconcile(&station)["counts"], json!({}));
}

#[test]
fn planted_losses_are_differences_by_name() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let mut station = with_callers(setup)
        .rules(RULES)
        .archive("vna", archive.port, "")
        .start();
    let mut sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    // A payload is deleted behind the box's back; another instance is decided on by no rule; a third is refused.
    std::fs::remove_file(payload_of(&station, &sent[1])).expect("deleted");
    sent.push(patient("M1", ""));
    sent[5].description = Some("NOWHERE".to_owned());
    send(station.setup.dicom, station.setup.path(), &sent[5..]);
    crate::harness::peers::modality("bad_instances", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    let report = reconcile(&station);
    assert_eq!(named(&report, "missing_payload"), [sent[1].sop.clone()]);
    assert!(named(&report, "undecided").contains(&sent[5].sop), "{report}");
    assert!(
        report["counts"]["refused"].as_u64().is_some_and(|count| count > 0),
        "{report}"
    );
    assert!(report["sources"][0]["refused"].as_u64().is_some_and(|count| count > 0));
    assert_eq!(
        station.metric("reconcile_differences", &[("kind", "missing_payload")]),
        1.0
    );
    let words = station.cli(&["reconcile", "--kept"]).out;
    assert!(words.contains("DIFFERENCES") && words.contains(&sent[1].sop), "{words}");
    let today = report["day"].as_str().expect("a day").to_owned();
    for ends in ["json", "txt"] {
        let file = station
            .setup
            .path()
            .join("reconciliation")
            .join(format!("{today}.{ends}"));
        let text = std::fs::read_to_string(&file).expect("it is kept");
        assert!(
            text.contains("missing_payload") && !text.contains("SYNTHETIC"),
            "{text}"
        );
    }
    let (status, _, kept) = ask(
        &station,
        "GET",
        &format!("/v1/reconciliation/{today}"),
        Some(VIEWER),
        "",
    );
    assert_eq!((status, &kept["counts"]), (200, &report["counts"]));
    assert_eq!(ask(&station, "POST", "/v1/reconciliation", Some(VIEWER), "{}").0, 200);
    assert_eq!(
        ask(
            &station,
            "POST",
            "/v1/reconciliation",
            Some(VIEWER),
            "{\"day\": \"2999-01-01\"}"
        )
        .0,
        400
    );
    station.cli(&["reconcile", "--day", "yesterday"]);

    // Jobs that stand in no queue, as a faulty index would have them.
    station.terminate();
    station.setup.plant("lose-due");
    station.start();
    let more = Object::many(objects::MR, 6);
    send(station.setup.dicom, station.setup.path(), &more);
    let report = reconcile(&station);
    let stuck = named(&report, "stuck_job");
    assert!(
        !stuck.is_empty() && stuck.iter().all(|sop| more.iter().any(|one| one.sop == *sop)),
        "{report}"
    );
}

#[test]
fn a_hold_that_is_dropped_without_a_word_is_a_lost_delivery() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    archive.behave(json!({"mode": "status", "status": 0xC001}));
    let mut setup = setup.rules(RULES).archive("vna", archive.port, "tries = 1");
    setup.plant("drop-hold");
    let station = setup.start();
    let sent = Object::many(objects::CT, 2);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_drained(SOON);
    wait_until("both are gone from the queue", SOON, || station.jobs(&[]).is_empty());
    let mut lost = named(&reconcile(&station), "lost_job");
    lost.sort();
    let mut wanted: Vec<String> = sent.iter().map(|one| one.sop.clone()).collect();
    wanted.sort();
    assert_eq!(lost, wanted);
}

/// A day that was missed is reconciled at the next start: the box's clock is a day ahead then.
#[test]
fn a_missed_day_is_caught_up_after_a_downtime() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    station.wait_drained(SOON);
    let today = reconcile(&station)["day"].as_str().expect("a day").to_owned();
    assert!(station.terminate().success());
    let folder = station.setup.path().join("reconciliation");
    std::fs::remove_dir_all(&folder).expect("ours");
    station.setup.wrapper = later("+3d");
    station.start();
    wait_until("three days are reconciled", SOON, || reports(&folder) >= 2);
    wait_until("the missed day has its report", SOON, || {
        folder.join(format!("{today}.json")).exists()
    });
    let text = std::fs::read_to_string(folder.join(format!("{today}.json"))).expect("it is kept");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&report["complete"], &report["fate"]["delivered"]),
        (&json!(true), &json!(2)),
        "{report}"
    );
}

/// The modality's image is refused, the box is off for days, and what nobody has mended is still told afterwards, until it is.
#[test]
fn a_difference_stands_until_it_is_mended_whatever_days_follow() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    station.restart_below_low_water();
    let refused = Object::many(objects::CT, 1);
    let ran = try_send(station.setup.dicom, station.setup.path(), &refused);
    assert_ne!(ran.code, Some(0), "answered A700");
    let today = reconcile(&station)["day"].as_str().expect("a day").to_owned();
    let standing = |station: &Station| station.metric("reconcile_differences", &[("kind", "refused")]);
    assert_eq!(standing(&station), 1.0);
    assert!(station.terminate().success());
    station.make_room();
    station.setup.wrapper = later("+3d");
    station.start();
    let folder = station.setup.path().join("reconciliation");
    // Before three in the morning a day less is due.
    wait_until("days that follow are reconciled", SOON, || reports(&folder) >= 2);
    assert_eq!(standing(&station), 1.0, "the days that follow do not hide it");
    let last = station.cli(&["reconcile", "--kept"]);
    let leads = format!("{today} HAS DIFFERENCES STILL: 1 (waystation reconcile --kept --day {today})");
    assert!(last.code == Some(1) && last.out.contains(&leads), "{last:?}");
    station.restart();
    assert_eq!(standing(&station), 1.0, "nor a start, from its first answer on");
    send(station.setup.dicom, station.setup.path(), &refused);
    reconcile(&station);
    assert_eq!(standing(&station), 0.0, "it has come again");
    let text = std::fs::read_to_string(folder.join(format!("{today}.json"))).expect("it is kept");
    assert!(
        named(&serde_json::from_str(&text).expect("JSON"), "refused").is_empty(),
        "{text}"
    );
}

/// More of one study than a line of the ledger names.
#[test]
fn a_study_that_was_refused_and_came_again_is_no_difference_however_large() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    station.restart_below_low_water();
    let mut refused = Object::many(objects::CT, 100);
    let study = refused[0].study.clone();
    for object in &mut refused {
        object.study.clone_from(&study);
        object.pixels.truncate(1_000);
    }
    try_send_all(station.setup.dicom, station.setup.path(), &refused);
    let mut told = named(&reconcile(&station), "refused");
    told.sort();
    let mut sent: Vec<&str> = refused.iter().map(|object| object.sop.as_str()).collect();
    sent.sort_unstable();
    assert_eq!(told, sent, "each by its UID, answered A700");
    assert!(station.terminate().success());
    station.make_room();
    station.start();
    send(station.setup.dicom, station.setup.path(), &refused);
    assert_eq!(reconcile(&station)["counts"], json!({}));
    assert_eq!(station.metric("reconcile_differences", &[]), 0.0);
}

/// An image is answered A700 and does not come again. The day it was.
fn refuses_one(station: &mut Station) -> String {
    station.restart_below_low_water();
    let refused = Object::many(objects::CT, 1);
    let ran = try_send(station.setup.dicom, station.setup.path(), &refused);
    assert_ne!(ran.code, Some(0), "answered A700");
    let today = reconcile(station)["day"].as_str().expect("a day").to_owned();
    station.make_room();
    today
}

/// The kept report of a day, with whether the day was over.
fn kept_of(folder: &Path, day: &str) -> Option<(Value, bool)> {
    let text = std::fs::read_to_string(folder.join(format!("{day}.json"))).ok()?;
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let over = report["complete"] == true;
    Some((report, over))
}

/// A box that has delivered one image and reconciled today, and runs with a clock so far ahead; the folder of its reports, and today.
fn reconciled_and_ahead(by: &str) -> (Station, PathBuf, String) {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    station.wait_drained(SOON);
    let today = reconcile(&station)["day"].as_str().expect("a day").to_owned();
    let folder = station.setup.path().join("reconciliation");
    assert!(station.terminate().success());
    station.setup.wrapper = later(by);
    station.start();
    (station, folder, today)
}

/// The box's clock was days ahead, and days were called over that had not begun: what really happens in them is told all the same.
#[test]
fn a_report_that_was_made_while_the_clock_was_ahead_is_made_again() {
    let (mut station, folder, today) = reconciled_and_ahead("+5d");
    wait_until("today is over, by that clock", SOON, || {
        kept_of(&folder, &today).is_some_and(|(_, over)| over)
    });
    assert!(station.terminate().success());
    station.setup.wrapper = Vec::new();
    station.start();
    assert_eq!(refuses_one(&mut station), today);
    assert!(station.terminate().success());
    // Two days, for before three in the morning yesterday is not due.
    station.setup.wrapper = later("+2d");
    station.start();
    wait_until("it is over, and its difference is told", SOON, || {
        kept_of(&folder, &today).is_some_and(|(report, over)| over && named(&report, "refused").len() == 1)
    });
    assert_eq!(station.metric("reconcile_differences", &[("kind", "refused")]), 1.0);
}

/// The clock is 400 days ahead, an image comes, and it is set right: what comes then is of the day that it is.
#[test]
fn what_comes_after_the_clock_was_ahead_is_of_its_own_day() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    let sent = Object::many(objects::CT, 4);
    assert!(station.terminate().success());
    station.setup.wrapper = later("+400d");
    station.start();
    send(station.setup.dicom, station.setup.path(), &sent[..1]);
    station.wait_drained(SOON);
    assert!(station.terminate().success());
    station.setup.wrapper = Vec::new();
    station.start();
    send(station.setup.dicom, station.setup.path(), &sent[1..]);
    station.wait_drained(SOON);
    let report = reconcile(&station);
    assert_eq!(report["sources"][0]["received"], 3, "{report}");
    let today = report["day"].as_str().expect("a day").to_owned();
    let lines = station
        .cli(&["ledger", "ls", "--kind", "stored", "--since", &today])
        .ok()
        .out;
    assert_eq!(lines.matches(" stored").count(), 4, "{lines}");
    assert_eq!(
        lines.matches(&today).count(),
        3,
        "the other is of a day to come: {lines}"
    );
    assert_eq!(refuses_one(&mut station), today, "what is refused is told");
}

/// The clock is three years ahead: reports stay, of the years that never were one day is reconciled, and set right the last report is that
/// of a day that was.
#[test]
fn a_clock_that_is_years_ahead_for_a_moment_takes_no_report() {
    let (mut station, folder, today) = reconciled_and_ahead("+1095d");
    wait_until("the day before is reconciled", SOON, || reports(&folder) >= 2);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(reports(&folder), 2);
    assert!(kept_of(&folder, &today).is_some());
    assert!(station.terminate().success());
    station.setup.wrapper = Vec::new();
    station.start();
    let last = station.cli(&["reconcile", "--kept"]);
    assert!(last.out.contains(&today), "{last:?}");
}

/// The ledger begins anew, as after the loss of the index, or later than the day, as `ledger.keep` has it: what a report knew stays.
#[test]
fn a_report_is_not_made_again_by_a_ledger_that_knows_less() {
    let mut station = Setup::new().rules(RULES).folder("vna").start();
    let today = refuses_one(&mut station);
    let folder = station.setup.path().join("reconciliation");
    assert!(station.terminate().success());
    station.setup.wrapper = later("+2d");
    station.start();
    wait_until("the day is over", SOON, || {
        kept_of(&folder, &today).is_some_and(|(_, over)| over)
    });
    assert!(station.terminate().success());
    std::fs::remove_dir_all(station.setup.spool_path().join("index")).expect("ours");
    station.setup.wrapper = later("+4d");
    station.start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    assert_eq!(station.cli(&["reconcile"]).code, Some(1), "the other day differs");
    let (report, _) = kept_of(&folder, &today).expect("it is kept");
    assert_eq!(named(&report, "refused").len(), 1, "{report}");
    assert_eq!(station.metric("reconcile_differences", &[("kind", "refused")]), 1.0);
    let by_hand = station.cli(&["reconcile", "--day", &today]);
    assert!(by_hand.err.contains("--kept"), "{by_hand:?}");
}

/// A clock that is ahead by so much.
fn later(by: &str) -> Vec<String> {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(Path::new(library).exists(), "{library} is missing (Debian: faketime)");
    let words = [
        "env".to_owned(),
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME={by}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    words.to_vec()
}

fn reports(folder: &Path) -> usize {
    let json = |path: &PathBuf| path.extension().is_some_and(|ends| ends == "json");
    objects::files_in(folder).iter().filter(|path| json(path)).count()
}
