//! Alarms where they meet other rooms: what people do to them stands on the custody ledger (who, what, when and why, and nothing of
//! what was refused), and the authorities of their channels are watched as certificates.
use crate::custody::facts;
use crate::harness::peers::send;
use crate::harness::pki::{Authority, Recipe};
use crate::harness::{Archive, Object, SOON, Setup, Station, free_port, http, objects, wait_until};
use serde_json::Value;
use std::time::Duration;
use waystation::base::clock::Clock;
use waystation::spool::FactKind;

const QUICK: &str =
    "[alarms]\ninterval = \"200ms\"\ndestination_down_after = \"1s\"\nresolve_after = \"2s\"\ntimezone = \"UTC\"\n";

#[test]
fn what_operators_do_to_alarms_stands_on_the_ledger() {
    let setup = Setup::new();
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let mut station = setup
        .rules(r#"fn route(image, from) { to("vna"); }"#)
        .archive("vna", archive.port, "")
        .toml(QUICK)
        .start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    let rows = || -> Vec<Value> {
        let listed: Value = serde_json::from_str(&station.cli(&["alarms", "ls", "--json"]).ok().out).expect("JSON");
        listed["said"]["incidents"].as_array().expect("incidents").clone()
    };
    wait_until("an incident", SOON, || !rows().is_empty());
    let id = rows()[0]["incident"].to_string();
    let began = Clock::System.now();
    let order = |words: &[&str]| station.cli(&[&["alarms"], words].concat());
    order(&["ack", &id, "--reason", "provider called"]).ok();
    order(&[
        "silence",
        "destination_down:vna",
        "--for",
        "3days",
        "--reason",
        "moved to another room",
    ])
    .ok();
    order(&["unsilence", "destination_down:vna"]).ok();
    for refused in [
        &["ack", "999", "--reason", "nobody"][..],
        &["silence", "destination_down", "--for", "200days", "--reason", "nobody"],
        &["unsilence", "disk_low"],
    ] {
        assert_eq!(order(refused).code, Some(1), "{refused:?}");
    }
    let ended = Clock::System.now();
    station.cli(&["ledger", "verify"]).ok();
    // As after any crash: what was answered is on the disk.
    station.kill();
    let told: Vec<Value> = facts(&station, FactKind::Acknowledged)
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let texts: Vec<&str> = told.iter().filter_map(|fact| fact["text"].as_str()).collect();
    let wanted = [
        (
            format!("alarms: incident {id} (destination_down) acknowledged at "),
            "because provider called",
        ),
        (
            "alarms: destination_down:vna silenced for 3days at ".to_owned(),
            "because moved to another room",
        ),
        ("alarms: the silence of destination_down:vna ended at ".to_owned(), "Z"),
    ];
    assert_eq!(texts.len(), wanted.len(), "{texts:?}");
    for (text, (start, end)) in texts.iter().zip(&wanted) {
        assert!(text.starts_with(start.as_str()) && text.ends_with(end), "{text}");
    }
    for fact in &told {
        assert!(
            fact["who"].as_str().is_some_and(|who| who.starts_with("uid ")),
            "{fact}"
        );
        let at = fact["at_us"].as_u64().expect("a time");
        assert!(at >= began.0 && at <= ended.plus(Duration::from_millis(1)).0, "{fact}");
    }
    let log = station.log();
    assert!(!log.contains("nobody"), "what was refused was done by no one");
    station.cli(&["ledger", "verify"]).ok();
}

#[test]
fn the_sites_own_authority_of_a_webhook_is_listed_and_its_end_is_an_alarm() {
    let mut setup = Setup::new();
    let ca = Authority::new(setup.path(), "site-ca");
    // One that has ended beside it: the first to end counts.
    let old = ca.self_signed(
        "old-ca",
        &Recipe {
            ca: true,
            ..Recipe::new("old-ca").years(2020, 2024)
        },
    );
    let both = setup.folder_of("both.pem");
    let pem = |path: &std::path::Path| std::fs::read_to_string(path).expect("readable");
    std::fs::write(&both, [pem(&ca.certificate), pem(&old.certificate)].concat()).expect("writable");
    let hook = |name: &str, ca: String| {
        format!(
            "[[alarms.webhooks]]\nname = \"{name}\"\nurl = \"https://127.0.0.1:{}/\"\n{ca}",
            free_port()
        )
    };
    let alarms = [
        QUICK.to_owned(),
        hook("pager", format!("ca = {both:?}\n")),
        hook("system", String::new()),
    ];
    setup = setup
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .toml(&alarms.concat());
    let mut station = setup.start();
    let listed = |station: &Station| -> Vec<(String, String, String)> {
        let answer: Value = serde_json::from_str(&station.cli(&["cert", "status", "--json"]).out).expect("JSON");
        let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let rows = answer["certificates"].as_array().expect("a list").iter();
        rows.filter(|entry| entry["role"] == "alarm")
            .map(|entry| (word(entry, "name"), word(entry, "kind"), word(entry, "subject")))
            .collect()
    };
    let wanted = ["CN=site-ca", "CN=old-ca"].map(|subject| ("pager".to_owned(), "ca".to_owned(), subject.to_owned()));
    assert_eq!(listed(&station), wanted, "and not the system's bundle");
    let ends = station.metric(
        "certificate_expiry_timestamp_seconds",
        &[("role", "alarm_ca"), ("name", "pager")],
    );
    assert_eq!(ends, 1_704_067_200.0, "2024-01-01");
    wait_until("an incident", SOON, || {
        let shown = station.cli(&["alarms", "ls"]).ok().out;
        shown.contains("alarm_ca pager: ended")
    });
    assert!(station.terminate().success());
    assert_eq!(listed(&station), wanted, "also when no box runs");
}

/// What the box keeps beside the spool cannot be written for a while.
#[test]
fn a_state_folder_that_takes_nothing_is_told_and_so_is_its_end() {
    let station = Setup::new()
        .rules(r#"fn route(image, from) { to("vna"); }"#)
        .folder("vna")
        .toml(QUICK)
        .start();
    let change = || {
        station.cli(&[
            "alarms",
            "silence",
            "source_silent:test",
            "--for",
            "1h",
            "--reason",
            "service",
        ])
    };
    let told = || station.cli(&["alarms", "ls"]).out.contains("cannot be written");
    let noted = || {
        let (status, body) = http::get(station.setup.web, "/readyz").expect("an answer");
        assert_eq!(status, 200, "images are taken in as before");
        String::from_utf8_lossy(&body).contains("node.state")
    };
    assert!(!noted() && !told());
    // What is about to be written, the alarms' own turn also, finds a folder in its place.
    let draft = station.setup.folder_of(".alarms.json.new");
    wait_until("nothing is being written", SOON, || std::fs::create_dir(&draft).is_ok());
    change().ok();
    station.wait_metric("state_unwritten", &[], |unwritten| unwritten == 1.0);
    assert!(noted());
    wait_until("it is told", SOON, told);
    std::fs::remove_dir(&draft).expect("ours");
    change();
    station.wait_metric("state_unwritten", &[], |unwritten| unwritten == 0.0);
    assert!(!noted());
    let open = [("kind", "state_unwritten"), ("severity", "ticket")];
    station.wait_metric("incidents_open", &open, |open| open == 0.0);
}
