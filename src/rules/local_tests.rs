//! The words that a site's zone and key give: what they flag, what the load refuses, and that a set without them says so.
use super::tests::{config, decide, destinations, facts, set};
use super::words_tests::head_of;
use super::*;

fn morph(body: &str) -> String {
    format!("fn morph(image, from) {{ {body} }} fn route(image, from) {{ to(\"vna\"); }}")
}

fn flags(given: &[(&str, &str)], body: &str) -> Vec<&'static str> {
    let decision = decide(&morph(body), &head_of(given));
    assert_eq!(decision.hold, None, "{body}");
    decision.flags
}

fn problems(body: &str, config: &Config) -> Vec<String> {
    let sources = [("main.rhai".to_owned(), morph(body))];
    let refused = RuleSet::from_sources(&sources, config, &destinations()).err();
    refused.unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn doubtful_offsets_are_flagged_and_nothing_is_guessed() {
    let stamp = "timezone::stamp(image);";
    let at = |day, time| [("StudyDate", day), ("StudyTime", time)];
    assert_eq!(flags(&at("20240715", "120000"), stamp), Vec::<&str>::new());
    assert_eq!(flags(&at("20241027", "0230"), stamp), ["timezone-ambiguous"]);
    assert_eq!(flags(&at("20240331", "0230"), stamp), ["timezone-gap"]);
    assert_eq!(flags(&[("StudyDate", "20241027")], stamp), ["timezone-no-time"]);
    assert_eq!(flags(&[("StudyDate", "20240715")], stamp), Vec::<&str>::new());
    assert_eq!(flags(&[("StudyTime", "120000")], stamp), ["timezone-no-date"]);
    assert_eq!(flags(&at("18800101", "120000"), stamp), ["timezone-unsayable"]);
    for wrong in ["-0000", "+1530", "CET"] {
        let given = [("StudyDate", "20240715"), ("TimezoneOffsetFromUTC", wrong)];
        assert_eq!(flags(&given, stamp), ["timezone-invalid"], "{wrong}");
    }
}

#[test]
fn a_declared_offset_changes_no_date_and_no_time() {
    let given = [
        ("StudyDate", "20240331"),
        ("StudyTime", "023000"),
        ("PatientBirthDate", "19700101"),
        ("AcquisitionDateTime", "20240331023000"),
    ];
    let decision = decide(&morph("timezone::stamp(image);"), &head_of(&given));
    let edits = &decision.deliveries[0].plan.edits;
    assert_eq!(edits.len(), 1);
    assert_eq!(edits[0].path().to_string(), "TimezoneOffsetFromUTC");
}

#[test]
fn clocks_are_judged_in_the_zone_of_the_instance() {
    // It arrives at 2023-11-14T22:13:20Z.
    let skew = |given: &[(&str, &str)], body: &str| decide(&morph(body), &head_of(given)).clock_skew;
    let check = "timezone::check_clock(image);";
    let made = [("ContentDate", "20231114"), ("ContentTime", "231320")];
    assert_eq!(skew(&made, check), Some(0));
    let own = [made[0], made[1], ("TimezoneOffsetFromUTC", "+0900")];
    assert_eq!(skew(&own, check), Some(-8 * 3_600));
    let latest = [made[0], made[1], ("AcquisitionDateTime", "20231114231420+0100")];
    assert_eq!(skew(&latest, check), Some(60));
    assert_eq!(skew(&[("ContentDate", "20231114")], check), None);
    assert_eq!(skew(&[("AcquisitionDateTime", "20231114")], check), None);
    let ahead = [("ContentDate", "20231114"), ("ContentTime", "231600")];
    assert_eq!(flags(&ahead, check), ["clock-ahead"]);
    assert_eq!(flags(&made, check), Vec::<&str>::new());
    let late = [("ContentDate", "20231114"), ("ContentTime", "221320")];
    assert_eq!(flags(&late, check), Vec::<&str>::new());
    assert_eq!(
        flags(&late, "timezone::check_clock(image, #{ behind: 3000 });"),
        ["clock-behind"]
    );
    assert_eq!(
        flags(&late, "timezone::check_clock(image, #{ behind: 3700 });"),
        Vec::<&str>::new()
    );
}

#[test]
fn the_metric_shows_the_clock_of_each_source_as_its_least_late_image_tells() {
    use crate::base::clock::Clock;
    use crate::telemetry::metrics::Metrics;
    let metrics = Metrics::new();
    let store = RuleStore::fixed(
        set(&morph("timezone::check_clock(image);")).unwrap(),
        metrics.clone(),
        Clock::System,
    );
    let ahead = head_of(&[("ContentDate", "20231114"), ("ContentTime", "231820")]);
    let _ = store.decide(&facts(), &ahead);
    let shown = metrics.source_clock_skew_seconds.with_label_values(&["ct1"]);
    assert_eq!(shown.get(), 300);
    let _ = store.decide(&facts(), &head_of(&[]));
    assert_eq!(shown.get(), 300, "what cannot be judged says nothing");
    let late = head_of(&[("ContentDate", "20231114"), ("ContentTime", "201820")]);
    let _ = store.decide(&facts(), &late);
    assert_eq!(
        shown.get(),
        300,
        "an image that was sent late says nothing of the clock"
    );
}

#[test]
fn wrong_zones_and_options_are_said_at_load_with_their_place() {
    for (body, place, words) in [
        (
            r#"timezone::stamp(image, "Europe/Berln");"#,
            ":1:48:",
            "did you mean `Europe/Berlin`?",
        ),
        (
            "timezone::check_clock(image, #{ ahed: 60 });",
            ":1:57:",
            "did you mean `ahead`?",
        ),
        (
            r#"timezone::check_clock(image, #{ zone: "Mars" });"#,
            ":1:63:",
            "no IANA time zone",
        ),
    ] {
        let said = problems(body, &config());
        assert!(
            said.len() == 1 && said[0].contains(place) && said[0].contains(words),
            "{said:?}"
        );
    }
    for body in [
        "timezone::stamp(image);",
        "timezone::check_clock(image);",
        "timezone::check_clock(image, #{ ahead: 5 });",
    ] {
        let said = problems(body, &Config::default());
        assert!(said.len() == 1 && said[0].contains("rules.zone"), "{said:?}");
    }
    assert_eq!(
        problems(
            r#"timezone::check_clock(image, #{ zone: "UTC", ahead: 5 });"#,
            &Config::default()
        ),
        [""; 0]
    );
}

#[test]
fn what_the_load_cannot_see_is_an_error_without_its_value() {
    for body in [
        "let z = \"Europe/\" + image.PatientID; timezone::stamp(image, z);",
        "timezone::check_clock(image, #{ ahead: 0 });",
        "let o = #{}; o[\"ahea\" + \"x\"] = 1; timezone::check_clock(image, o);",
    ] {
        let decision = decide(
            &morph(body),
            &head_of(&[("PatientID", "SECRET"), ("StudyDate", "20240101")]),
        );
        let hold = decision.hold.unwrap();
        assert_eq!(hold.kind, HoldKind::Error, "{body}");
        assert!(!hold.reason.contains("SECRET"), "{}", hold.reason);
    }
}
