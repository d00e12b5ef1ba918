//! The words about character sets: every row of the table of real breakages, what is flagged, what is held, what stays.
use super::tests::{decide, element_text, facts, files, reason, set};
use super::*;
use crate::dicom::head::Head;
use crate::dicom::head::tests::{BIG, EXPLICIT, IMPLICIT, element, sequence, syntax};
use crate::dicom::path::Path as ElementPath;
use crate::dicom::syntax::Layout;

const EL: Layout = Layout::ExplicitLittle;

fn image_in(uid: &'static str, layout: Layout, declared: Option<&[u8]>, name: &[u8], more: Vec<u8>) -> Head {
    let declared = declared.map(|terms| element(layout, 0x0008_0005, "CS", terms));
    let bytes = [
        declared.unwrap_or_default(),
        element(layout, 0x0010_0010, "PN", name),
        element(layout, 0x0010_0020, "LO", b"ID"),
        more,
    ];
    Head::scan(syntax(uid), &bytes.concat()).unwrap()
}

fn image(declared: Option<&[u8]>, name: &[u8]) -> Head {
    image_in(EXPLICIT, EL, declared, name, Vec::new())
}

fn morph(rule: &str) -> String {
    format!("fn morph(image, from) {{ {rule} }} fn route(image, from) {{ to(\"vna\"); }}")
}

/// The head as it leaves, with the record of what changed.
fn sent(decision: &Decision, head: &Head) -> Head {
    let bytes = decision.deliveries[0].plan.apply(head).unwrap();
    Head::scan(head.syntax.clone(), &bytes).unwrap()
}

fn raw(head: &Head, path: &str) -> Option<Vec<u8>> {
    let node = head.find(&ElementPath::parse(path).unwrap())?;
    Some(head.raw(node).to_vec())
}

struct Row {
    declared: Option<&'static [u8]>,
    bytes: &'static [u8],
    rule: &'static str,
    /// What leaves: the declaration, the bytes (with padding) and the text.
    declares: &'static str,
    sends: &'static [u8],
    reads: &'static str,
    flags: &'static [&'static str],
}

const SITE: &str = "charset::repair(image, #{ fallback: \"ISO_IR 100\" });";
const UTF8: &[&str] = &["charset_utf8_undeclared"];
const FALLBACK: &[&str] = &["charset_by_fallback"];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { declared: Some(b"ISO_IR 100"), bytes: "Muñoz".as_bytes(), rule: SITE, declares: "ISO_IR 192", sends: "Muñoz".as_bytes(), reads: "Muñoz", flags: UTF8 },
    Row { declared: None, bytes: b"Mu\xF1oz ", rule: SITE, declares: "ISO_IR 100", sends: b"Mu\xF1oz ", reads: "Muñoz", flags: FALLBACK },
    Row { declared: None, bytes: "Muñoz".as_bytes(), rule: SITE, declares: "ISO_IR 192", sends: "Muñoz".as_bytes(), reads: "Muñoz", flags: UTF8 },
    Row { declared: Some(b"ISO_IR 6"), bytes: b"Mu\xF1oz ", rule: SITE, declares: "ISO_IR 100", sends: b"Mu\xF1oz ", reads: "Muñoz", flags: FALLBACK },
    Row { declared: Some(b"ISO_IR 192"), bytes: b"Mu\xF1oz ", rule: SITE, declares: "ISO_IR 100", sends: b"Mu\xF1oz ", reads: "Muñoz", flags: FALLBACK },
    Row { declared: Some(b"ISO_IR 100"), bytes: b"\x8E\x52\x93\x63^\x91\xBE\x98\x59 ", rule: "charset::declare(image, \"SHIFT_JIS\");", declares: "ISO_IR 192", sends: "山田^太郎 ".as_bytes(), reads: "山田^太郎", flags: &[] },
    Row { declared: Some(b"\\ISO 2022 IR 149"), bytes: b"\xC8\xAB^\xB1\xE6\xB5\xBF ", rule: SITE, declares: "\\ISO 2022 IR 149", sends: b"\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF ", reads: "홍^길동", flags: &[] },
    Row { declared: Some(b"ISO 2022 IR 149"), bytes: b"\xC8\xAB^\xB1\xE6\xB5\xBF ", rule: SITE, declares: "\\ISO 2022 IR 149", sends: b"\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF ", reads: "홍^길동", flags: &[] },
    Row { declared: Some(b"ISO_IR 149"), bytes: b"\xC8\xAB^\xB1\xE6\xB5\xBF ", rule: SITE, declares: "\\ISO 2022 IR 149", sends: b"\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF ", reads: "홍^길동", flags: &[] },
    Row { declared: Some(b"ISO_IR 100"), bytes: b"\xCD\xF5^\xD0\xA1\xB6\xAB ", rule: "charset::declare(image, \"GBK\", #{ instead_of: \"ISO_IR 100\" });", declares: "GBK", sends: b"\xCD\xF5^\xD0\xA1\xB6\xAB ", reads: "王^小东", flags: &[] },
    Row { declared: Some(b"ISO IR 192"), bytes: "Muñoz".as_bytes(), rule: SITE, declares: "ISO_IR 192", sends: "Muñoz".as_bytes(), reads: "Muñoz", flags: &[] },
    Row { declared: Some(b"ISO 2022 IR 6\\ISO_IR 192"), bytes: "Muñoz".as_bytes(), rule: SITE, declares: "ISO_IR 192", sends: "Muñoz".as_bytes(), reads: "Muñoz", flags: &[] },
    Row { declared: Some(b"ISO_IR 100"), bytes: b"O\x92Hara^Mu\xF1oz", rule: SITE, declares: "ISO_IR 192", sends: "O’Hara^Muñoz ".as_bytes(), reads: "O’Hara^Muñoz", flags: &[] },
    Row { declared: Some(b"iso_ir 100"), bytes: b"Mu\xF1oz ", rule: SITE, declares: "ISO_IR 100", sends: b"Mu\xF1oz ", reads: "Muñoz", flags: &[] },
    Row { declared: Some(b"ISO 2022 IR 100"), bytes: b"M\xFCller", rule: SITE, declares: "ISO_IR 100", sends: b"M\xFCller", reads: "Müller", flags: &[] },
    Row { declared: Some(b"ISO 2022 IR 6, IS"), bytes: b"M\xFCller", rule: SITE, declares: "ISO_IR 100", sends: b"M\xFCller", reads: "Müller", flags: FALLBACK },
    Row { declared: Some(b"ISO_IR 13\\ISO 2022 IR 87"), bytes: b"\xD4=\x1B$B;3\x1B(J ", rule: SITE, declares: "ISO 2022 IR 13\\ISO 2022 IR 87", sends: b"\xD4=\x1B$B;3\x1B(J ", reads: "ﾔ=山", flags: &[] },
    Row { declared: None, bytes: b"Yamada=\x1B$B;3\x1B(B", rule: SITE, declares: "\\ISO 2022 IR 87", sends: b"Yamada=\x1B$B;3\x1B(B", reads: "Yamada=山", flags: &[] },
    Row { declared: Some(b"ISO_IR 100"), bytes: b"Mu\xF1oz ", rule: SITE, declares: "ISO_IR 100", sends: b"Mu\xF1oz ", reads: "Muñoz", flags: &[] },
];

fn check(row: &Row) {
    let head = image(row.declared, row.bytes);
    let text = row.reads;
    let decision = decide(&morph(row.rule), &head);
    assert_eq!(decision.hold, None, "{text}");
    assert_eq!(decision.flags, row.flags, "{text} {:?}", row.declared);
    let edited = sent(&decision, &head);
    let declares = edited
        .text(&ElementPath::parse("SpecificCharacterSet").unwrap())
        .unwrap_or_default();
    assert_eq!(declares.join("\\"), row.declares, "{text} {:?}", row.declared);
    assert_eq!(
        raw(&edited, "PatientName").as_deref(),
        Some(row.sends),
        "{text} {:?}",
        row.declared
    );
    assert_eq!(element_text(&decision, &head, 0, "PatientName").as_deref(), Some(text));
    assert_eq!(raw(&edited, "PatientID"), Some(b"ID".to_vec()));
    // A second box with the same rules finds nothing to do, the record of former values included.
    let again = decide(&morph(row.rule), &edited);
    assert_eq!(
        (again.hold, again.deliveries[0].plan.edits.len()),
        (None, 0),
        "{text} {:?} twice",
        row.declared
    );
}

#[test]
fn every_row_of_the_table_of_breakages_is_mended_once() {
    ROWS.iter().for_each(check);
}

#[test]
fn every_row_reads_the_same_in_utf8_and_stays_so() {
    for row in ROWS {
        let rule = format!("{} charset::to_utf8(image, #{{ fallback: \"ISO_IR 100\" }});", row.rule);
        let head = image(row.declared, row.bytes);
        let decision = decide(&morph(&rule), &head);
        let edited = sent(&decision, &head);
        assert_eq!(
            raw(&edited, "SpecificCharacterSet").unwrap(),
            b"ISO_IR 192",
            "{}",
            row.reads
        );
        let name = raw(&edited, "PatientName").unwrap();
        assert_eq!(String::from_utf8(name).unwrap().trim_end(), row.reads);
        let again = decide(&morph(&rule), &edited);
        assert_eq!(again.deliveries[0].plan.edits, [], "{} twice", row.reads);
    }
}

#[test]
fn undecidable_text_stays_with_the_whole_image_and_is_flagged_or_held() {
    let head = image(None, b"Mu\xF1oz ");
    for rule in [
        "charset::repair(image);",
        "charset::to_utf8(image);",
        "charset::convert(image, \"ISO_IR 144\");",
        "charset::declare(image, \"ISO_IR 192\");",
    ] {
        let decision = decide(&morph(rule), &head);
        assert_eq!(
            (decision.hold, decision.flags),
            (None, vec!["charset_undecidable"]),
            "{rule}"
        );
        assert_eq!(decision.deliveries[0].plan.edits, [], "{rule}");
        let held = rule.replace("image", "image, #{ undecidable: \"hold\" }");
        let held = match rule.contains(", \"") {
            true => rule.replace("\");", "\", #{ undecidable: \"hold\" });"),
            false => held,
        };
        assert_eq!(reason(&decide(&morph(&held), &head)).0, HoldKind::Incomplete, "{held}");
    }
}

#[test]
fn plain_ascii_is_left_alone() {
    for declared in [
        None,
        Some(b"ISO_IR 100".as_slice()),
        Some(b"ISO_IR 192"),
        Some(b"ISO_IR 6 "),
        Some(b"\\ISO 2022 IR 87 "),
    ] {
        let decision = decide(&morph(SITE), &image(declared, b"DOE^JANE"));
        assert_eq!(decision.deliveries[0].plan.edits, [], "{declared:?}");
        assert!(decision.flags.is_empty());
    }
    let to_utf8 = decide(&morph("charset::to_utf8(image);"), &image(None, b"DOE^JANE"));
    assert_eq!(to_utf8.deliveries[0].plan.edits, []);
    // It is declared when a rule writes what ASCII cannot say.
    let head = image(None, b"DOE^JANE");
    let written = decide(
        &morph("charset::to_utf8(image); image.InstitutionName = \"Clínica\";"),
        &head,
    );
    let edited = sent(&written, &head);
    assert_eq!(raw(&edited, "SpecificCharacterSet").unwrap(), b"ISO_IR 192");
    assert_eq!(raw(&edited, "InstitutionName").unwrap(), "Clínica".as_bytes());
}

#[test]
fn rules_read_what_was_found() {
    let rule = "charset::repair(image); if image.PatientName != \"Muñoz\" { throw 1 } image.PatientName = image.PatientName.to_upper();";
    let head = image(Some(b"ISO_IR 100"), "Muñoz".as_bytes());
    let decision = decide(&morph(rule), &head);
    assert_eq!(decision.hold, None);
    assert_eq!(raw(&sent(&decision, &head), "PatientName").unwrap(), "MUÑOZ".as_bytes());
}

#[test]
fn a_destination_gets_its_own_set_or_the_image_is_held_or_left_in_utf8() {
    let name = "Wang=王^小东 ".as_bytes();
    let head = image(Some(b"ISO_IR 192"), name);
    let gb = decide(&morph("charset::convert(image, \"GB18030\");"), &head);
    assert_eq!(
        raw(&sent(&gb, &head), "PatientName").unwrap(),
        b"Wang=\xCD\xF5^\xD0\xA1\xB6\xAB"
    );
    let (kind, text) = reason(&decide(&morph("charset::convert(image, \"ISO_IR 100\");"), &head));
    assert!(
        kind == HoldKind::Edit && text.contains("line 1") && !text.contains('王'),
        "{text}"
    );
    let left = decide(
        &morph("charset::convert(image, \"ISO_IR 100\", #{ unencodable: \"utf8\" });"),
        &head,
    );
    assert_eq!((left.hold, left.flags), (None, vec!["charset_left_in_utf8"]));
    assert_eq!(left.deliveries[0].plan.edits, []);
    // What a rule set before is asked as well.
    let before = "image.InstitutionName = \"王\"; charset::convert(image, \"ISO_IR 100\", #{ unencodable: \"utf8\" });";
    let latin = image(Some(b"ISO_IR 192"), "Muñoz".as_bytes());
    assert_eq!(decide(&morph(before), &latin).flags, ["charset_left_in_utf8"]);
    // One destination in Latin-1, the other in UTF-8.
    let both = "fn morph(image, from) { charset::to_utf8(image); } \
        fn morph_for_cad(image, from) { charset::convert(image, \"ISO_IR 100\"); } \
        fn route(image, from) { to(\"vna\"); to(\"cad\"); }";
    let head = image(Some(b"ISO_IR 100"), b"Mu\xF1oz ");
    let decision = decide(both, &head);
    let to = |id: &str| {
        decision
            .deliveries
            .iter()
            .find(|d| d.destination.as_str() == id)
            .unwrap()
            .plan
            .clone()
    };
    assert_eq!(to("cad").edits, []);
    let edited = Head::scan(head.syntax.clone(), &to("vna").apply(&head).unwrap()).unwrap();
    assert_eq!(raw(&edited, "PatientName").unwrap(), "Muñoz".as_bytes());
}

/// Items that inherit, items with a declaration of their own, and a record of former values.
fn nested(layout: Layout) -> Vec<u8> {
    let inherits = element(layout, 0x0032_1060, "LO", b"Sch\xE4del");
    let greek = [
        element(layout, 0x0008_0005, "CS", b"ISO_IR 126"),
        element(layout, 0x0032_1060, "LO", b"\xE1\xE2"),
    ];
    let deep = sequence(
        layout,
        0x0040_0008,
        "SQ",
        &[element(layout, 0x0008_0104, "LO", b"T\xEAte")],
        false,
    );
    let record = [
        element(layout, 0x0008_0005, "CS", b"ISO_IR 144"),
        element(layout, 0x0010_0010, "PN", b"\xD0\xD1"),
    ];
    let record = sequence(layout, 0x0400_0550, "SQ", &[record.concat()], true);
    [
        element(layout, 0x0040_0009, "SH", b"X "),
        sequence(
            layout,
            0x0040_0275,
            "SQ",
            &[inherits, greek.concat(), deep],
            layout == EL,
        ),
        sequence(layout, 0x0400_0561, "SQ", &[record], true),
    ]
    .concat()
}

#[test]
fn nested_items_are_converted_and_former_values_are_not() {
    for (uid, layout) in [
        (EXPLICIT, EL),
        (IMPLICIT, Layout::ImplicitLittle),
        (BIG, Layout::ExplicitBig),
    ] {
        let head = image_in(uid, layout, Some(b"ISO_IR 100"), b"M\xDCLLER", nested(layout));
        let decision = decide(&morph("charset::to_utf8(image);"), &head);
        let edited = sent(&decision, &head);
        for (path, wanted) in [
            ("PatientName", "MÜLLER ".as_bytes()),
            (
                "RequestAttributesSequence[0].RequestedProcedureDescription",
                "Schädel".as_bytes(),
            ),
            (
                "RequestAttributesSequence[1].RequestedProcedureDescription",
                "αβ".as_bytes(),
            ),
            (
                "RequestAttributesSequence[2].ScheduledProtocolCodeSequence[0].CodeMeaning",
                "Tête ".as_bytes(),
            ),
            (
                "OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName",
                b"\xD0\xD1",
            ),
            (
                "OriginalAttributesSequence[0].ModifiedAttributesSequence[0].SpecificCharacterSet",
                b"ISO_IR 144",
            ),
        ] {
            assert_eq!(raw(&edited, path).as_deref(), Some(wanted), "{uid} {path}");
        }
        assert_eq!(raw(&edited, "RequestAttributesSequence[1].SpecificCharacterSet"), None);
        let again = decide(&morph("charset::to_utf8(image);"), &edited);
        assert_eq!(again.deliveries[0].plan.edits, [], "{uid} twice");
    }
}

#[test]
fn former_bytes_that_break_their_declaration_are_told_apart() {
    let item = element(EL, 0x0032_1060, "LO", b"Sch\xE4del");
    let head = image_in(
        EXPLICIT,
        EL,
        Some(b"ISO_IR 192"),
        b"M\xDCLLER",
        sequence(EL, 0x0040_0275, "SQ", &[item], true),
    );
    let decision = decide(&morph("charset::to_utf8(image, #{ fallback: \"ISO_IR 100\" });"), &head);
    let edited = sent(&decision, &head);
    let in_record = |path: &str| raw(&edited, &format!("OriginalAttributesSequence[0].{path}"));
    assert_eq!(in_record("ModifiedAttributesSequence[0].PatientName"), Some(Vec::new()));
    let inner = "ModifiedAttributesSequence[0].RequestAttributesSequence[0].RequestedProcedureDescription";
    assert_eq!(in_record(inner), Some(Vec::new()));
    let apart = "NonconformingModifiedAttributesSequence";
    assert_eq!(
        in_record(&format!("{apart}[0].SelectorAttribute")).unwrap(),
        [0x10, 0, 0x10, 0]
    );
    assert_eq!(
        in_record(&format!("{apart}[0].NonconformingDataElementValue")).unwrap(),
        b"M\xDCLLER"
    );
    assert_eq!(
        in_record(&format!("{apart}[1].SelectorAttribute")).unwrap(),
        [0x32, 0, 0x60, 0x10]
    );
    assert_eq!(
        in_record(&format!("{apart}[1].SelectorSequencePointer")).unwrap(),
        [0x40, 0, 0x75, 0x02]
    );
    assert_eq!(
        in_record(&format!("{apart}[1].SelectorSequencePointerItems")).unwrap(),
        b"1 "
    );
    assert_eq!(
        in_record(&format!("{apart}[1].NonconformingDataElementValue")).unwrap(),
        b"Sch\xE4del\0"
    );
}

#[test]
fn the_default_of_the_source_comes_from_the_option_or_the_configuration() {
    let head = image(None, b"\xCD\xF5^\xD0\xA1\xB6\xAB ");
    let sources = [(
        "main.rhai".to_owned(),
        morph("charset::repair(image); if from.charset != \"GB18030\" { throw 1 }"),
    )];
    let mut config = Config::default();
    config
        .charsets
        .insert(SourceId::parse("ct1").unwrap(), "GB18030".to_owned());
    let configured = RuleSet::from_sources(&sources, &config, &super::tests::destinations()).unwrap();
    let decision = configured.decide(&facts(), &head);
    assert_eq!(decision.hold, None);
    assert_eq!(
        raw(&sent(&decision, &head), "SpecificCharacterSet").unwrap(),
        b"GB18030 "
    );
    let by_source = |map: &str| {
        decide(
            &morph(&format!("charset::repair(image, #{{ fallback: #{{ {map} }} }});")),
            &head,
        )
    };
    assert_eq!(
        by_source("ct1: \"GBK\", mr1: \"ISO_IR 100\"").flags,
        ["charset_by_fallback"]
    );
    assert_eq!(by_source("mr1: \"ISO_IR 100\"").flags, ["charset_undecidable"]);
}

#[test]
fn wrong_options_and_sets_are_named() {
    let head = image(Some(b"ISO_IR 100"), b"DOE^JANE");
    for (rule, wanted) in [
        ("charset::convert(image, \"ISO_IR 102\");", "ISO_IR 10"),
        ("charset::repair(image, #{ fallbck: \"GBK\" });", "fallback"),
        ("charset::repair(image, #{ undecidable: \"drop\" });", "hold"),
        ("charset::convert(image, \"SHIFT_JIS\");", "no term"),
    ] {
        let said = match files(&[("main.rhai", &morph(rule))]) {
            Ok(set) => reason(&set.decide(&facts(), &head)).1,
            Err(problems) => problems[0].to_string(),
        };
        assert!(said.contains(wanted), "{rule}: {said}");
        // The same, computed, is found when an image comes.
        let computed = rule.replace("\");", "\" + \"\");").replace("\" }", "\" + \"\" }");
        let decision = match files(&[("main.rhai", &morph(&computed))]) {
            Ok(set) => set.decide(&facts(), &head),
            Err(_) => continue,
        };
        assert_eq!(reason(&decision).0, HoldKind::Error, "{computed}");
    }
    for rule in [
        "charset::convert(image, \"ISO_IR 102\");",
        "charset::to_utf8(image, #{ unencodable: \"utf-8\" });",
        "charset::repair(image, #{ fallback: #{ ct1: \"GBX\" } });",
        "charset::declare(image, \"SHIFTJS\");",
        "charset::repiar(image);",
    ] {
        let problems = set(&morph(rule)).err().unwrap_or_else(|| panic!("{rule}"));
        assert!(problems[0].message.contains("did you mean"), "{rule}: {problems:?}");
        assert_eq!((problems[0].line, problems[0].column.is_some()), (Some(1), true));
    }
    let routed = "fn route(image, from) { to(\"vna\"); if charset::of(image) != \"ascii\" { hold(\"x\") } }";
    assert_eq!(decide(routed, &head).hold, None);
    assert!(
        set("fn mend(image) { charset::repair(image); } fn route(image, from) { mend(image); to(\"vna\"); }")
            .unwrap()
            .decide(&facts(), &head)
            .hold
            .is_some()
    );
}

#[test]
fn gbk_is_not_declared_over_what_only_gb18030_has() {
    // Four bytes, and the euro sign in two: every reader of GBK but ours fails there.
    for (name, text) in [
        (&b"\x95\x32\x82\x36^\xcd\xf5 "[..], "𠀀^王"),
        (b"\xa2\xe3^\xcd\xf5 ", "€^王"),
    ] {
        let gb18030 = image(Some(b"GB18030"), name);
        for rule in [
            "charset::convert(image, \"GBK\");",
            "image.SpecificCharacterSet = \"GBK\";",
        ] {
            assert_eq!(
                reason(&decide(&morph(rule), &gb18030)).0,
                HoldKind::Edit,
                "{rule} {text}"
            );
        }
        let kept = decide(
            &morph("charset::convert(image, \"GBK\", #{ unencodable: \"utf8\" });"),
            &gb18030,
        );
        assert_eq!(kept.flags, ["charset_left_in_utf8"]);
        for (declared, rule) in [
            (&b"GBK "[..], "charset::repair(image);"),
            (b"ISO_IR 100", "charset::declare(image, \"GBK\");"),
        ] {
            let head = image(Some(declared), name);
            let decision = decide(&morph(rule), &head);
            let declares = element_text(&decision, &head, 0, "SpecificCharacterSet");
            assert_eq!(declares.as_deref(), Some("ISO_IR 192"), "{rule} {text}");
            assert_eq!(
                element_text(&decision, &head, 0, "PatientName").as_deref(),
                Some(text),
                "{rule}"
            );
        }
    }
    // What GBK has stays under GBK.
    let plain = image(Some(b"GB18030"), b"\xcd\xf5^A");
    let decision = decide(&morph("charset::convert(image, \"GBK\");"), &plain);
    assert_eq!(raw(&sent(&decision, &plain), "PatientName").unwrap(), b"\xcd\xf5^A");
}

#[test]
fn a_swapped_name_stays_in_big_endian_and_where_escapes_are_all_that_is_not_ascii() {
    let rule = morph("text::swap_name_parts(image, \"PatientName\", \"family\", \"given\");");
    for (uid, layout) in [(EXPLICIT, EL), (BIG, Layout::ExplicitBig)] {
        for (declared, name) in [
            (&b"ISO 2022 IR 100 "[..], &b"JANE^M\xdcLLER "[..]),
            (b"ISO_IR 100\\ISO 2022 IR 87 ", b"JANE^M\xdcLLER "),
            (b"ISO_IR 100\\ISO 2022 IR 87 ", b"A^\x1b$B;3ED\x1b(B"),
        ] {
            let head = image_in(uid, layout, Some(declared), name, Vec::new());
            let once = sent(&decide(&rule, &head), &head);
            assert_ne!(raw(&once, "PatientName"), raw(&head, "PatientName"));
            let again = decide(&rule, &once);
            assert!(again.deliveries[0].plan.is_empty(), "{uid} {declared:?} {name:?}");
        }
    }
}
