//! Words of privacy and UIDs as rules use them: no record of what stood there, no way to catch a refusal, the key that must be there.
use super::tests::{config, decide, destinations, element_text, key, set};
use super::words_tests::head_of;
use super::*;
use crate::base::properties::cases;
use crate::dicom::edit::Plan;
use crate::dicom::head::{Behind, Head};
use proptest::prelude::*;

fn research(body: &str) -> String {
    format!("fn route(image, from) {{ to(\"vna\"); to(\"cad\"); }} fn morph_for_cad(image, from) {{ {body} }}")
}

fn patient() -> Head {
    head_of(&[
        ("SOPInstanceUID", "1.2.3.4"),
        ("StudyInstanceUID", "1.2.3"),
        ("StudyDate", "20240301"),
        ("Modality", "CT"),
        ("PatientName", "CANARY^JANE"),
        ("PatientID", "CANARY4711"),
        (
            "OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID",
            "CANARYOLD",
        ),
        ("SliceThickness", "1.25"),
    ])
}

fn bytes(decision: &Decision, head: &Head, delivery: usize) -> Vec<u8> {
    assert_eq!(decision.hold, None);
    decision.deliveries[delivery].plan.apply(head).unwrap()
}

fn shows(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

#[test]
fn a_plan_with_a_word_of_privacy_keeps_no_record_and_other_destinations_are_untouched() {
    let head = patient();
    for body in [
        "privacy::remove(image, \"PatientName\"); privacy::hash(image, \"PatientID\");",
        "privacy::blank(image, \"PatientName\"); privacy::remove(image, \"PatientID\");",
        "privacy::basic_profile(image);",
        "image.PatientComments = \"CANARY\"; privacy::basic_profile(image); image.PatientID = \"STUDY-1\";",
        "image[\"(0029,\\\"OURS\\\",01)\"] = \"CANARY\"; privacy::basic_profile(image);",
    ] {
        let decision = decide(&research(body), &head);
        let sent = bytes(&decision, &head, 1);
        assert!(!shows(&sent, "CANARY"), "{body}");
        assert_eq!(decision.deliveries[1].plan.stamp, None, "{body}");
        assert!(decision.deliveries[0].plan.is_empty(), "{body}");
        assert_eq!(element_text(&decision, &head, 1, "SliceThickness").unwrap(), "1.25");
    }
    let decision = decide(
        &research("privacy::basic_profile(image); image.PatientID = \"STUDY-1\";"),
        &head,
    );
    assert_eq!(element_text(&decision, &head, 1, "PatientID").unwrap(), "STUDY-1");
}

#[test]
fn a_refusal_cannot_be_caught() {
    let mut head = patient();
    head.behind = Behind::More;
    for body in [
        "privacy::basic_profile(image)",
        "privacy::shift_dates(image)",
        "privacy::hash(image, \"SliceThickness\")",
    ] {
        let decision = decide(&research(&format!("try {{ {body}; }} catch {{ }}")), &head);
        let hold = decision.hold.unwrap();
        assert_eq!(hold.kind, HoldKind::Edit, "{body}");
        assert!(hold.reason.starts_with("main.rhai line 1: "), "{}", hold.reason);
        assert_eq!(decision.deliveries, [], "{body}");
    }
}

#[test]
fn pixels_that_show_the_patient_wait_for_a_person_with_the_plan_made() {
    let basic = research("privacy::basic_profile(image);");
    let head = head_of(&[
        ("BurnedInAnnotation", "YES"),
        ("PatientName", "CANARY"),
        ("Modality", "US"),
    ]);
    let decision = decide(&basic, &head);
    assert_eq!(decision.hold.as_ref().map(|hold| hold.kind), Some(HoldKind::Rule));
    assert!(!shows(&decision.deliveries[1].plan.apply(&head).unwrap(), "CANARY"));
    let kept = decide(
        &research("privacy::basic_profile(image, #{ pixels: \"keep\" });"),
        &head,
    );
    assert_eq!((kept.hold, kept.flags), (None, vec![]));
    let unjudged = decide(&basic, &head_of(&[("Modality", "US")]));
    assert_eq!((unjudged.hold, unjudged.flags), (None, vec!["pixels-unjudged"]));
}

#[test]
fn the_box_knows_which_uids_were_sent() {
    let decision = decide(&research("privacy::basic_profile(image);"), &patient());
    let sent: Vec<&str> = decision
        .aliases
        .iter()
        .map(|alias| alias.sent.expose().as_str())
        .collect();
    assert_eq!(sent, ["1.2.3", "1.2.3.4"]);
    assert!(
        decision
            .aliases
            .iter()
            .all(|alias| alias.kind == "uid" && alias.written.expose().starts_with("2.25."))
    );
    let one = decide(
        &research("uid::remap(image, \"SOPInstanceUID\", #{ root: \"1.2.99\" });"),
        &patient(),
    );
    assert_eq!(one.aliases.len(), 1);
    assert!(one.aliases[0].written.expose().starts_with("1.2.99."));
    // Who changed a UID alone says so: that is no matter of privacy.
    assert!(one.deliveries[1].plan.stamp.is_some());
}

#[test]
fn without_a_key_the_rules_are_refused_with_the_place_of_the_word() {
    for body in [
        "privacy::hash(image, \"PatientID\");",
        "privacy::shift_dates(image);",
        "privacy::basic_profile(image);",
        "uid::remap(image, \"StudyInstanceUID\");",
        "uid::remap_all(image);",
    ] {
        let sources = [("main.rhai".to_owned(), research(body))];
        let said = RuleSet::from_sources(&sources, &Config::default(), &destinations())
            .err()
            .unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].to_string().starts_with("main.rhai:1:") && said[0].message.contains("rules.key_file"),
            "{said:?}"
        );
        assert!(
            RuleSet::from_sources(&sources, &config(), &destinations()).is_ok(),
            "{body}"
        );
    }
    assert!(set(&research("privacy::remove(image, \"PatientName\");")).is_ok());
}

#[test]
fn wrong_options_paths_and_roots_are_said_at_load() {
    for (body, words) in [
        (
            "privacy::remove(image, \"PatientsName\");",
            "did you mean `PatientName`?",
        ),
        (
            "privacy::remove(image, \"PatientName\", #{ nestd: true });",
            "did you mean `nested`?",
        ),
        (
            "privacy::remove(image, \"(0009,\\\"ACME\\\",01)\", #{ nested: true });",
            "name the element alone",
        ),
        (
            "privacy::basic_profile(image, #{ dates: \"modifed\" });",
            "did you mean `modified`?",
        ),
        (
            "privacy::basic_profile(image, #{ retain_uid: true });",
            "did you mean `retain_uids`?",
        ),
        (
            "privacy::basic_profile(image, #{ safe_private: [\"PatientID\"] });",
            "no private element",
        ),
        (
            "uid::remap(image, \"StudyInstanceUID\", #{ root: \"1..2\" });",
            "no root of UIDs",
        ),
        (
            "uid::remap(image, \"StudyInstanceUID\", #{ root: \"1.2.3.4.5.6.7.8.9.10.11.12\" });",
            "at most 24",
        ),
        (
            "uid::remap_all(image, #{ root: \"1.2.840.10008\" });",
            "the standard's own",
        ),
    ] {
        let said = set(&research(body)).err().unwrap();
        assert!(said.len() == 1 && said[0].message.contains(words), "{body}: {said:?}");
    }
    for good in [
        "privacy::basic_profile(image, #{ dates: \"modified\", by: \"study\", days: 1..30, root: \"1.2.99\" });",
        "privacy::basic_profile(image, #{ safe_private: [\"(0019,\\\"SAFE 1\\\",01)\"], clean_descriptors: [\"head\"] });",
        "privacy::shift_dates(image, #{ days: 1..=30 }); privacy::shift_dates(image, #{ days: 30 });",
    ] {
        assert_eq!(decide(&research(good), &patient()).hold, None, "{good}");
    }
}

#[test]
fn dates_shift_by_the_patient_even_when_another_word_took_the_number_out() {
    let body = "privacy::shift_dates(image);";
    let date = |rules: &str, number: &str| {
        let head = head_of(&[("StudyDate", "20240301"), ("PatientID", number)]);
        element_text(&decide(&research(rules), &head), &head, 1, "StudyDate").unwrap()
    };
    assert_eq!(
        date(body, "4711"),
        date(&format!("privacy::blank(image, \"PatientID\"); {body}"), "4711")
    );
    let dates: std::collections::BTreeSet<String> = (0..20).map(|n| date(body, &n.to_string())).collect();
    assert!(dates.len() > 10 && !dates.contains("20240301"), "{dates:?}");
    let nobody = decide(&research(body), &head_of(&[("StudyDate", "20240301")]));
    assert_eq!(nobody.hold.map(|hold| hold.kind), Some(HoldKind::Edit));
}

#[test]
fn who_has_one_pseudonym_has_one_shift_whatever_lines_stand_before() {
    let of = |before: &str, given: &[(&str, &str)]| {
        let text = |rules: &str, path: &str| {
            let all = [&[("StudyDate", "20240301"), ("StudyInstanceUID", "1.2.3")][..], given].concat();
            let head = head_of(&all);
            element_text(&decide(&research(rules), &head), &head, 1, path).unwrap()
        };
        let hash = "privacy::hash(image, \"PatientID\");";
        let shift = "privacy::shift_dates(image);";
        let dates = [
            format!("{before} {shift}"),
            format!("{before} {hash} {shift}"),
            format!("{before} {hash} privacy::blank(image, \"PatientID\"); {shift}"),
            format!("{before} privacy::basic_profile(image, #{{ dates: \"modified\" }});"),
        ]
        .map(|rules| text(&rules, "StudyDate"));
        assert!(dates.iter().all(|date| *date == dates[0]), "{before}: {dates:?}");
        (text(&format!("{before} {hash}"), "PatientID"), dates[0].clone())
    };
    let prefix = "identity::prefix(image, \"NRT-\");";
    let plain = of("", &[("PatientID", "NRT-123")]);
    assert_eq!(of(prefix, &[("PatientID", "NRT-123")]), plain);
    assert_eq!(of(prefix, &[("PatientID", "123")]), plain);
    assert_eq!(
        of("", &[("PatientID", "NRT-123"), ("IssuerOfPatientID", "NORTH")]),
        plain
    );
    // The numbers that sites have had so far, where neither an issuer nor another line was in play.
    let days = key().days("NRT-123\n\n", 1, 365);
    assert_eq!(crate::dicom::moment::earlier("20240301", days), Some(plain.1.clone()));
    let utf8 = [("SpecificCharacterSet", "ISO_IR 192"), ("PatientID", "MÜLLER1")];
    let latin = [("SpecificCharacterSet", "ISO_IR 100"), ("PatientID", "MÜLLER1")];
    assert_eq!(of("", &latin), of("", &utf8));
    assert_eq!(of("charset::to_utf8(image);", &latin), of("", &utf8));
    let by_study = |before: &str| {
        let head = head_of(&[("StudyDate", "20240301"), ("StudyInstanceUID", "1.2.3")]);
        let rules = research(&format!("{before} privacy::shift_dates(image, #{{ by: \"study\" }});"));
        element_text(&decide(&rules, &head), &head, 1, "StudyDate").unwrap()
    };
    for before in [
        "uid::remap_all(image);",
        "uid::remap(image, \"StudyInstanceUID\", #{ root: \"1.2.99\" });",
        "uid::remap_all(image, #{ root: \"1.2.99\" }); privacy::remove(image, \"StudyInstanceUID\");",
    ] {
        assert_eq!(by_study(before), by_study(""), "{before}");
    }
}

#[test]
fn an_image_with_ten_thousand_references_is_treated_and_more_are_held() {
    let references = |count: usize| {
        let mut data = vec![0x08, 0x00, 0x40, 0x11];
        data.extend_from_slice(b"SQ\0\0\xff\xff\xff\xff");
        for number in 0..count {
            let uid = format!("1.2.826.99999.{number:06}");
            data.extend_from_slice(b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x55\x11UI");
            data.extend_from_slice(&(uid.len() as u16).to_le_bytes());
            data.extend_from_slice(uid.as_bytes());
            data.extend_from_slice(b"\xfe\xff\x0d\xe0\0\0\0\0");
        }
        data.extend_from_slice(b"\xfe\xff\xdd\xe0\0\0\0\0");
        Head::scan(
            crate::dicom::syntax::Syntax::of(&Uid::known("1.2.840.10008.1.2.1")),
            &data,
        )
        .unwrap()
    };
    let unhurried = Config {
        deadline: crate::base::units::Span::millis(60_000),
        ..config()
    };
    let sources = [(
        "main.rhai".to_owned(),
        research("uid::remap_all(image); image.PatientID = \"X\";"),
    )];
    let rules = RuleSet::from_sources(&sources, &unhurried, &destinations()).unwrap();
    let (some, many) = (references(10_000), references(20_001));
    let facts = super::tests::facts();
    let decision = rules.decide(&facts, &some);
    assert_eq!(decision.hold, None);
    let plan = &decision.deliveries[1].plan;
    // The record of changes tells the old ones: a UID is no matter of privacy by itself.
    let unstamped = Plan {
        stamp: None,
        ..plan.clone()
    };
    assert!(!shows(&unstamped.apply(&some).unwrap(), "1.2.826.99999"));
    assert_eq!(Plan::decode(&plan.encode()).unwrap(), *plan);
    let held = rules.decide(&facts, &many).hold;
    assert_eq!(held.map(|hold| hold.kind), Some(HoldKind::Budget));
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn words_of_privacy_fit_and_twice_is_once(value in "[^\\\\\\pC]{0,64}", which in 0..4_usize) {
        let body = [
            "privacy::hash(image, \"PatientID\");",
            "privacy::basic_profile(image);",
            "privacy::blank(image, \"PatientID\");",
            "privacy::hash(image, \"PatientID\", #{ nested: true });",
        ][which];
        let mut head = head_of(&[("SpecificCharacterSet", "ISO_IR 192"), ("PatientID", &value), ("Modality", "CT")]);
        for _ in 0..2 {
            let decision = decide(&research(body), &head);
            let sent = bytes(&decision, &head, 1);
            let once = Head::scan(head.syntax.clone(), &sent).unwrap();
            let text = once.text(&crate::dicom::path::Path::parse("PatientID").unwrap()).unwrap_or_default().join("\\");
            let fits = text.chars().count() <= 64 && !text.contains(char::REPLACEMENT_CHARACTER);
            prop_assert!(fits);
            let again = decide(&research(body), &once);
            prop_assert_eq!(again.deliveries[1].plan.edits.len(), 0);
            head = once;
        }
    }
}
