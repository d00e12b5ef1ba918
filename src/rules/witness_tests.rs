//! Promises of the words that an outside witness found broken, and those that held where they might not.
use super::tests::{empty_head, facts};
use super::words_tests::{head_of, rules, unstamped};
use super::{Decision, HoldKind};
use crate::dicom::head::Head;

fn decide(morph: &str, head: &Head) -> Decision {
    let text = format!("fn morph(image, from) {{ {morph} }} fn route(image, from) {{ to(\"vna\"); }}");
    rules(&text).decide(&facts(), head)
}

fn raw(element: (u16, u16), vr: [u8; 2], value: &[u8]) -> Head {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&element.0.to_le_bytes());
    bytes.extend_from_slice(&element.1.to_le_bytes());
    bytes.extend_from_slice(&vr);
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(value);
    Head::scan(empty_head().syntax, &bytes).unwrap()
}

fn after(decision: &Decision, head: &Head) -> Vec<u8> {
    assert_eq!(decision.hold, None);
    unstamped(&decision.deliveries[0].plan).apply(head).unwrap()
}

#[test]
fn trimming_a_patient_id_shows_in_the_bytes() {
    let morph = r#"identity::normalise(image, #{ policy: "trim" });"#;
    let head = raw((0x0010, 0x0020), *b"LO", b"  12  ");
    let once = after(&decide(morph, &head), &head);
    assert!(once.ends_with(b"LO\x02\x0012"), "{once:?}");
    let once = Head::scan(head.syntax.clone(), &once).unwrap();
    assert_eq!(after(&decide(morph, &once), &once), once.bytes);
    for empty in [empty_head(), raw((0x0010, 0x0020), *b"LO", b"    ")] {
        assert_eq!(after(&decide(morph, &empty), &empty), empty.bytes);
    }
}

#[test]
fn a_pattern_that_would_match_again_without_the_blanks_is_refused() {
    for morph in [
        r#"text::replace(image, "StudyDescription", "^A", " ");"#,
        r#"text::replace(image, "StudyDescription", "Z$", " ");"#,
    ] {
        let decision = decide(morph, &head_of(&[("StudyDescription", "AABZZ")]));
        assert_eq!(decision.hold.map(|hold| hold.kind), Some(HoldKind::Error), "{morph}");
    }
    let decision = decide(
        r#"accession::rewrite(image, "^A", " ");"#,
        &head_of(&[("AccessionNumber", "AA1")]),
    );
    assert_eq!(decision.hold.map(|hold| hold.kind), Some(HoldKind::Error));
}

#[test]
fn a_backslash_of_a_long_text_does_not_become_two_values() {
    let head = raw((0x0010, 0x4000), *b"LT", b"left\\right");
    for morph in [
        r#"text::copy(image, "PatientComments", "StudyDescription");"#,
        r#"text::copy(image, "PatientComments", "PatientID");"#,
        r#"text::move_to(image, "PatientComments", "PatientID");"#,
    ] {
        let decision = decide(morph, &head);
        assert_eq!(decision.hold.map(|hold| hold.kind), Some(HoldKind::Edit), "{morph}");
    }
    let decision = decide(r#"text::copy(image, "PatientComments", "StudyComments");"#, &head);
    let once = after(&decision, &head);
    assert!(once.ends_with(b"left\\right"), "{once:?}");
}

#[test]
fn zones_with_odd_changes_are_stamped_and_flagged() {
    for (zone, date, time, offset, flag) in [
        // Half an hour of summer time: the half hour from 01:30 comes twice, that from 02:00 is left out.
        (
            "Australia/Lord_Howe",
            "20240407",
            "014500",
            "+1100",
            Some("timezone-ambiguous"),
        ),
        ("Australia/Lord_Howe", "20240407", "020000", "+1030", None),
        (
            "Australia/Lord_Howe",
            "20241006",
            "021500",
            "+1030",
            Some("timezone-gap"),
        ),
        ("Australia/Lord_Howe", "20240115", "", "+1100", None),
        // The southern summer, and a change of which only the date is known.
        ("America/Santiago", "20240115", "120000", "-0300", None),
        ("America/Santiago", "20240715", "120000", "-0400", None),
        ("Australia/Sydney", "20241006", "", "+1000", Some("timezone-no-time")),
        // Before 1970; local mean time in whole minutes and in seconds.
        ("Europe/London", "19690115", "120000", "+0100", None),
        ("Europe/Amsterdam", "18500101", "120000", "", Some("timezone-unsayable")),
        // A leap second, and a day that the zone left out.
        ("UTC", "20161231", "235960", "+0000", None),
        ("Pacific/Apia", "20111230", "120000", "-1000", Some("timezone-gap")),
        ("Asia/Kathmandu", "20240229", "0101", "+0545", None),
    ] {
        let mut given = vec![("StudyDate", date)];
        given.extend((!time.is_empty()).then_some(("StudyTime", time)));
        let head = head_of(&given);
        let decision = decide(&format!("timezone::stamp(image, \"{zone}\");"), &head);
        let once = Head::scan(head.syntax.clone(), &after(&decision, &head)).unwrap();
        let found = once.first(dicom_core::Tag(0x0008, 0x0201));
        assert_eq!(
            (found.as_str(), decision.flags.first().copied()),
            (offset, flag),
            "{zone} {date} {time}"
        );
    }
}
