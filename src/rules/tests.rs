//! The room's own facts: what rules see, what they change, where they send, and what a decision says.
use super::*;
use crate::dicom::edit::Edit;
use crate::dicom::head::Head;
use crate::dicom::path::Path as ElementPath;
use crate::dicom::pseudonym::Key;
use crate::dicom::syntax::Syntax;
use std::sync::Arc;

pub(super) fn facts() -> Facts {
    Facts {
        source: SourceId::parse("ct1").unwrap(),
        calling_ae: AeTitle::parse("CT1").unwrap(),
        called_ae: AeTitle::parse("WAYSTATION").unwrap(),
        sop_class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
        sop_instance: Uid::known("1.2.3.4"),
        transfer_syntax: Uid::known("1.2.840.10008.1.2.1"),
        arrival: Wall(1_700_000_000_000_042),
        study: None,
    }
}

pub(super) fn destinations() -> Vec<DestinationId> {
    ["vna", "cad", "night-archive"]
        .map(|id| DestinationId::parse(id).unwrap())
        .to_vec()
}

pub(super) fn set(text: &str) -> Result<RuleSet, Vec<Problem>> {
    files(&[("main.rhai", text)])
}

pub(super) fn files(sources: &[(&str, &str)]) -> Result<RuleSet, Vec<Problem>> {
    let sources: Vec<(String, String)> = sources
        .iter()
        .map(|(n, t)| ((*n).to_owned(), (*t).to_owned()))
        .collect();
    RuleSet::from_sources(&sources, &config(), &destinations())
}

/// A site with a zone and a key, so that every word can be used.
pub(super) fn config() -> Config {
    Config {
        zone: Some("Europe/Berlin".to_owned()),
        key_file: Some(key_file()),
        ..Config::default()
    }
}

/// A key for tests, made once for all processes: written beside its place, then put there.
fn key_file() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join("waystation-tests-site.key");
    if std::fs::read(&path).ok().as_deref() != Some(TEST_KEY) {
        let mut fresh = tempfile::NamedTempFile::new_in(std::env::temp_dir()).unwrap();
        std::io::Write::write_all(&mut fresh, TEST_KEY).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        fresh.as_file().set_permissions(mode).unwrap();
        fresh.persist(&path).unwrap();
    }
    path
}

pub(super) fn key() -> Key {
    Key::of(TEST_KEY)
}

const TEST_KEY: &[u8] = b"a key that only tests may know 0";

fn good(text: &str) -> RuleSet {
    set(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub(super) fn empty_head() -> Head {
    Head::scan(Syntax::of(&Uid::known("1.2.840.10008.1.2.1")), &[]).unwrap()
}

/// A head in explicit little endian with the given text attributes.
fn head(attributes: &[(&str, &str)]) -> Head {
    let mut head = empty_head();
    let mut sorted: Vec<(ElementPath, &str)> = attributes
        .iter()
        .map(|(path, value)| (ElementPath::parse(path).unwrap(), *value))
        .collect();
    sorted.sort();
    for (path, value) in sorted {
        let values: Vec<String> = value.split('\\').map(str::to_owned).collect();
        let plan = Plan {
            edits: vec![Edit::text(&head, path, &values).unwrap()],
            stamp: None,
        };
        head = Head::scan(head.syntax.clone(), &plan.apply(&head).unwrap()).unwrap();
    }
    head
}

fn ct() -> Head {
    head(&[
        ("Modality", "CT"),
        ("PatientID", "123"),
        ("PatientName", "DOE^JANE"),
        ("ImageType", "ORIGINAL\\PRIMARY"),
        ("AccessionNumber", "77"),
        ("RequestAttributesSequence[0].AccessionNumber", "77"),
        ("RequestAttributesSequence[0].RequestedProcedureID", "RP1"),
    ])
}

pub(super) fn decide(text: &str, head: &Head) -> Decision {
    good(text).decide(&facts(), head)
}

/// What `path` holds after the plan for the first delivery; `None` when absent.
pub(super) fn element_text(decision: &Decision, head: &Head, delivery: usize, path: &str) -> Option<String> {
    let bytes = decision.deliveries[delivery].plan.apply(head).unwrap();
    let edited = Head::scan(head.syntax.clone(), &bytes).unwrap();
    let path = ElementPath::parse(path).unwrap();
    edited
        .find(&path)
        .map(|_| edited.text(&path).unwrap_or_default().join("\\"))
}

pub(super) fn reason(decision: &Decision) -> (HoldKind, String) {
    let hold = decision.hold.clone().unwrap();
    (hold.kind, hold.reason)
}

/// Rules that answer true to a condition hold with `yes`.
fn holds(condition: &str, head: &Head) -> bool {
    let text = format!("fn route(image, from) {{ to(\"vna\"); if {condition} {{ hold(\"yes\") }} }}");
    let decision = decide(&text, head);
    match decision.hold {
        None => false,
        Some(hold) => {
            assert_eq!(hold.reason, "yes", "{condition}");
            true
        }
    }
}

#[test]
fn attributes_are_read_by_keyword_tag_path_and_with_several_values() {
    let ct = ct();
    for condition in [
        "image.PatientID == \"123\"",
        "image[\"(0010,0020)\"] == \"123\"",
        "image[\"RequestAttributesSequence[0].AccessionNumber\"] == \"77\"",
        "image.PatientBirthDate == \"\"",
        "image.ImageType == \"ORIGINAL\\\\PRIMARY\"",
        "image.values(\"ImageType\").len == 2 && image.values(\"ImageType\")[1] == \"PRIMARY\"",
        "image.has(\"PatientID\") && !image.has(\"PatientSex\")",
        "image.items(\"RequestAttributesSequence\") == 1 && image.items(\"OtherPatientIDsSequence\") == 0",
        "image.has(\"RequestAttributesSequence\")",
        "from.source == \"ct1\" && from.calling_ae == \"CT1\" && from.called_ae == \"WAYSTATION\"",
        "from.sop_class == \"1.2.840.10008.5.1.4.1.1.2\" && from.sop_instance == \"1.2.3.4\"",
        "from.transfer_syntax == \"1.2.840.10008.1.2.1\" && from.arrival == \"2023-11-14T22:13:20Z\"",
    ] {
        assert!(holds(condition, &ct), "{condition}");
    }
    assert!(!holds("image.PatientID == \"124\"", &ct));
}

#[test]
fn private_elements_are_read_and_written_by_creator() {
    let head = head(&[("(0029,0010)", "SIEMENS CSA HEADER"), ("(0029,1008)", "IMAGE NUM 4")]);
    assert!(holds(
        "image[\"(0029,\\\"SIEMENS CSA HEADER\\\",08)\"] == \"IMAGE NUM 4\"",
        &head
    ));
    let text = "fn morph(image, from) {
            image[`(0029,\"SIEMENS CSA HEADER\",08)`] = \"NEW\";
            if image[\"(0029,1008)\"] != \"NEW\" { throw 1 }
            image[`(0031,\"ACME\",01)`] = \"MADE\";
        }
        fn route(image, from) { to(\"vna\") }";
    let decision = decide(text, &head);
    assert_eq!(decision.hold, None);
    assert_eq!(element_text(&decision, &head, 0, "(0029,1008)").as_deref(), Some("NEW"));
    assert_eq!(
        element_text(&decision, &head, 0, "(0031,\"ACME\",01)").as_deref(),
        Some("MADE")
    );
}

#[test]
fn edits_are_seen_by_later_reads_and_reach_every_destination() {
    let text = "fn morph(image, from) {
            image.PatientID = \"A\"; image.PatientID = image.PatientID + \"B\";
            image.PatientID += \"C\";
            image.PatientName = ();
            image.remove(\"RequestAttributesSequence[0].RequestedProcedureID\");
            image[\"RequestAttributesSequence[1].AccessionNumber\"] = 12;
            if image.items(\"RequestAttributesSequence\") != 2 { throw 1 }
            if image.has(\"PatientName\") || image.PatientName != \"\" { throw 2 }
            image.set_values(\"ImageType\", [\"DERIVED\", \"SECONDARY\", 3]);
            image.PatientWeight = 70.5;
        }
        fn route(image, from) { to(\"vna\"); to(\"cad\"); if image.PatientID != \"ABC\" { hold(\"not seen\") } }";
    let ct = ct();
    let decision = decide(text, &ct);
    assert_eq!(decision.hold, None);
    assert_eq!(decision.deliveries.len(), 2);
    for delivery in 0..2 {
        let at = |path: &str| element_text(&decision, &ct, delivery, path);
        assert_eq!(at("PatientID").as_deref(), Some("ABC"));
        assert_eq!(at("PatientName"), None);
        assert_eq!(at("RequestAttributesSequence[0].RequestedProcedureID"), None);
        assert_eq!(
            at("RequestAttributesSequence[0].AccessionNumber").as_deref(),
            Some("77")
        );
        assert_eq!(
            at("RequestAttributesSequence[1].AccessionNumber").as_deref(),
            Some("12")
        );
        assert_eq!(at("ImageType").as_deref(), Some("DERIVED\\SECONDARY\\3"));
        assert_eq!(at("PatientWeight").as_deref(), Some("70.5"));
    }
    let plan = &decision.deliveries[0].plan;
    assert_eq!(plan.edits.len(), 6, "one edit for each path: {:?}", plan.edits.len());
    let stamp = plan.stamp.clone().unwrap();
    assert_eq!(
        (stamp.at.as_str(), stamp.source.as_str()),
        ("20231114221320.000042+0000", "ct1")
    );
    assert_eq!(stamp.epoch, format!("{:016x}", decision.epoch));
}

#[test]
fn a_value_that_already_stands_is_no_edit() {
    let text = "fn morph(image, from) {
            image.PatientID = \"123\"; image.AccessionNumber = \"X\"; image.AccessionNumber = \"77\";
            image.remove(\"PatientSex\");
            image[\"ImageType\"] = \"ORIGINAL\\\\PRIMARY\";
        }
        fn route(image, from) { to(\"vna\") }";
    let decision = decide(text, &ct());
    assert_eq!(decision.deliveries[0].plan, Plan::default());
}

#[test]
fn removing_a_sequence_takes_what_was_set_in_it() {
    let text = "fn morph(image, from) {
            image[\"RequestAttributesSequence[0].AccessionNumber\"] = \"1\";
            image.remove(\"RequestAttributesSequence\");
            if image[\"RequestAttributesSequence[0].AccessionNumber\"] != \"\" { throw 1 }
            if image.items(\"RequestAttributesSequence\") != 0 { throw 2 }
        }
        fn route(image, from) { to(\"vna\") }";
    let ct = ct();
    let decision = decide(text, &ct);
    assert_eq!(decision.hold, None);
    assert_eq!(decision.deliveries[0].plan.edits.len(), 1);
    assert_eq!(element_text(&decision, &ct, 0, "RequestAttributesSequence"), None);
}

#[test]
fn morph_for_changes_one_destination_only_and_sees_the_morphed_image() {
    let text = "fn morph(image, from) { image.PatientID = \"M\" }
        fn route(image, from) { to(\"vna\"); to(\"night-archive\") }
        fn morph_for_night_archive(image, from) { image.PatientID += \"-N\"; image.PatientName = \"X\" }";
    let ct = ct();
    let decision = decide(text, &ct);
    assert_eq!(element_text(&decision, &ct, 0, "PatientID").as_deref(), Some("M"));
    assert_eq!(
        element_text(&decision, &ct, 0, "PatientName").as_deref(),
        Some("DOE^JANE")
    );
    assert_eq!(element_text(&decision, &ct, 1, "PatientID").as_deref(), Some("M-N"));
    assert_eq!(element_text(&decision, &ct, 1, "PatientName").as_deref(), Some("X"));
}

#[test]
fn a_destination_named_twice_gets_one_delivery_with_the_more_urgent_priority() {
    let text = "fn route(image, from) { to(\"vna\", #{ priority: \"low\" }); to(\"cad\"); to(\"vna\", #{priority: \"stat\"}); to(\"vna\"); }";
    let decision = decide(text, &empty_head());
    let got: Vec<(&str, Urgency)> = decision
        .deliveries
        .iter()
        .map(|d| (d.destination.as_str(), d.priority))
        .collect();
    assert_eq!(got, [("vna", Urgency::Stat), ("cad", Urgency::Routine)]);
}

#[test]
fn no_destination_is_a_hold_of_its_own_kind() {
    let decision = decide("fn route(image, from) { }", &empty_head());
    assert_eq!(
        reason(&decision),
        (HoldKind::NoDestination, "no rule named a destination".to_owned())
    );
    assert!(decision.deliveries.is_empty());
}

#[test]
fn hold_keeps_the_deliveries_and_shows_literals_only() {
    let decision = decide(
        "fn route(image, from) { to(\"vna\"); hold(\"burned-in annotation\"); }",
        &ct(),
    );
    assert_eq!(decision.deliveries.len(), 1);
    assert_eq!(reason(&decision), (HoldKind::Rule, "burned-in annotation".to_owned()));
    let decision = decide(
        "fn route(image, from) {\n to(\"vna\");\n hold(\"bad \" + image.PatientName); }",
        &ct(),
    );
    let (kind, reason) = reason(&decision);
    assert_eq!(kind, HoldKind::Rule);
    assert!(
        !reason.contains("DOE") && reason.contains("main.rhai line 3"),
        "{reason}"
    );
}

#[test]
fn errors_say_file_and_line_and_never_a_value() {
    let cases = [
        ("throw image.PatientName;", HoldKind::Error),
        ("to(image.PatientName);", HoldKind::Error),
        ("image[image.PatientName];", HoldKind::Error),
        ("let x = #{}; x[image.PatientName].y;", HoldKind::Error),
        ("parse_int(image.PatientName);", HoldKind::Error),
        ("Fn(image.PatientName).call();", HoldKind::Error),
        ("import image.PatientName as x;", HoldKind::Error),
        ("matches(\"x\", image.PatientName + \"(\");", HoldKind::Error),
        ("to(\"vna\", #{ priority: image.PatientName });", HoldKind::Error),
        ("switch_off[image.PatientName];", HoldKind::Error),
    ];
    for (body, kind) in cases {
        let decision = decide(&format!("fn route(image, from) {{\n{body}\n}}"), &ct());
        let (got, text) = reason(&decision);
        assert_eq!(got, kind, "{body}: {text}");
        assert!(text.starts_with("main.rhai line 2: "), "{body}: {text}");
        assert!(!text.contains("DOE") && !text.contains("JANE"), "{body}: {text}");
        assert!(decision.deliveries.is_empty());
    }
}

#[test]
fn an_error_in_an_imported_file_names_that_file() {
    let set = files(&[
        (
            "main.rhai",
            "import \"helpers\" as h;\nfn route(image, from) {\n h::work(image) }",
        ),
        ("helpers.rhai", "fn work(image) {\n\n throw 1 }"),
    ]);
    let decision = set.unwrap_or_else(|p| panic!("{p:?}")).decide(&facts(), &empty_head());
    assert_eq!(
        reason(&decision).1,
        "helpers.rhai line 3: the rule stopped itself with throw"
    );
}

#[test]
fn an_edit_that_cannot_be_made_is_a_hold_of_its_own_kind() {
    let long = "x".repeat(17);
    let text = format!(
        "fn morph(image, from) {{\n image.AccessionNumber = \"{long}\" }} fn route(image, from) {{ to(\"vna\") }}"
    );
    let (kind, text) = reason(&decide(&text, &ct()));
    assert_eq!(kind, HoldKind::Edit);
    assert!(
        text.starts_with("main.rhai line 2: ") && !text.contains(&long),
        "{text}"
    );
}

#[test]
fn to_and_edits_stand_where_they_make_sense() {
    let (kind, text) = reason(&decide(
        "fn send() { to(\"vna\") } fn morph(image, from) { send() } fn route(image, from) { to(\"vna\") }",
        &ct(),
    ));
    assert_eq!(
        (kind, text.contains("to() can be used in route only")),
        (HoldKind::Error, true),
        "{text}"
    );
    let (kind, text) = reason(&decide(
        "fn number(image) { image.PatientID = \"1\" } fn route(image, from) { to(\"vna\"); number(image) }",
        &ct(),
    ));
    assert_eq!(
        (kind, text.contains("do it in morph")),
        (HoldKind::Error, true),
        "{text}"
    );
    let (kind, text) = reason(&decide("fn route(image, from) { from.source = \"x\"; }", &ct()));
    assert_eq!(kind, HoldKind::Error, "{text}");
}

#[test]
fn the_same_head_and_facts_give_the_same_decision() {
    let text = include_str!("../../rules/main.rhai");
    let sources = [("main.rhai", text)];
    let ids = ["vna", "folder", "cad"].map(|id| DestinationId::parse(id).unwrap());
    let sources = sources.map(|(n, t)| (n.to_owned(), t.to_owned()));
    let set = RuleSet::from_sources(&sources, &Config::default(), &ids).unwrap_or_else(|p| panic!("{p:?}"));
    let first = set.decide(&facts(), &ct());
    assert!((0..50).all(|_| set.decide(&facts(), &ct()) == first));
    let again = RuleSet::from_sources(&sources, &Config::default(), &ids).unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!(again.decide(&facts(), &ct()), first);
}

#[test]
fn evaluations_in_parallel_do_not_meet() {
    let text = "fn morph(image, from) { for i in 0..200 { image.PatientID = `${image.PatientID}`.sub_string(0, 3) } }
        fn route(image, from) { to(\"vna\"); if image.PatientID == \"B\" { hold(\"b\") } }";
    // A busy machine must not be taken for a slow rule.
    let patient = Config {
        deadline: crate::base::units::Span::secs(20),
        ..Config::default()
    };
    let sources = [("main.rhai".to_owned(), text.to_owned())];
    let set = RuleSet::from_sources(&sources, &patient, &destinations()).unwrap_or_else(|p| panic!("{p:?}"));
    let set = Arc::new(set);
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let set = set.clone();
            std::thread::spawn(move || {
                let head = head(&[("PatientID", if n % 2 == 0 { "A" } else { "B" })]);
                (0..50).all(|_| set.decide(&facts(), &head).hold.is_some() == (n % 2 == 1))
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn text_verbs_do_what_they_say() {
    for condition in [
        "matches(\"NRT-12\", \"^NRT-[0-9]+$\") && !\"x\".matches(\"y\")",
        "replace_regex(\"a1b22\", \"[0-9]+\", \"#\") == \"a#b#\"",
        "\"A-12\".replace_regex(\"^([A-Z])-(\\\\d+)$\", \"$2$1\") == \"12A\"",
        "pad_left(\"77\", 5, \"0\") == \"00077\" && pad_left(\"12345678\", 5, \"0\") == \"12345678\"",
        "\"ab\".to_upper() == \"AB\" && \"abc\".starts_with(\"ab\") && \"abc\".sub_string(1, 1) == \"b\"",
        "\"a^b\".split(\"^\")[1] == \"b\"",
    ] {
        assert!(holds(condition, &empty_head()), "{condition}");
    }
}

#[test]
fn an_element_that_stands_twice_is_set_once_even_to_its_first_value() {
    use crate::dicom::head::tests::{EXPLICIT, element, syntax};
    let layout = crate::dicom::syntax::Layout::ExplicitLittle;
    let twice = [&b"ID"[..], b"OTHER "].map(|value| element(layout, 0x0010_0020, "LO", value));
    let head = Head::scan(syntax(EXPLICIT), &twice.concat()).unwrap();
    // Which of the two it is, no word may choose.
    let prefixed = |first: &str| {
        let rule = format!("{first} identity::prefix(image, \"NRT-\", \"NORTH\");");
        decide(
            &format!("fn morph(image, from) {{ {rule} }} fn route(image, from) {{ to(\"vna\") }}"),
            &head,
        )
    };
    let held = prefixed("").hold.unwrap();
    assert!(format!("{held:?}").contains("came twice"), "{held:?}");
    assert!(prefixed("image.PatientID = \"ID\";").hold.is_none());
    let decision = decide(
        "fn morph(image, from) { image.PatientID = image.PatientID; } fn route(image, from) { to(\"vna\") }",
        &head,
    );
    let edited = decision.deliveries[0].plan.apply(&head).unwrap();
    let edited = Head::scan(head.syntax.clone(), &edited).unwrap();
    let path = ElementPath::parse("PatientID").unwrap();
    assert_eq!(edited.text(&path), Some(vec!["ID".to_owned()]));
    assert!(!edited.is_repeated(&path));
}

#[test]
fn what_a_word_could_not_do_outranks_what_a_person_only_has_to_look_at() {
    let short = r#"fn route(image, from) { to("vna"); }"#;
    let too_long = r#"accession::prefix(image, "0123456789abcde");"#;
    for morph in [
        format!(r#"hold("look"); {too_long}"#),
        format!(r#"{too_long} hold("look");"#),
    ] {
        let text = format!("fn morph(image, from) {{ {morph} }} {short}");
        let decision = set(&text)
            .unwrap()
            .decide(&facts(), &head(&[("AccessionNumber", "77")]));
        assert_eq!(reason(&decision).0, HoldKind::Incomplete, "{morph}");
        let chosen = set(&text).unwrap().decide_for(
            &facts(),
            &head(&[("AccessionNumber", "77")]),
            &DestinationId::parse("vna").unwrap(),
        );
        assert_eq!(reason(&chosen).0, HoldKind::Incomplete, "{morph}");
    }
}
