//! What cannot be read in its character set: two values are never taken for one because the same sign stands in their place.
use super::tests::{decide, facts, reason, set};
use super::*;
use crate::dicom::head::Head;
use crate::dicom::head::tests::{EXPLICIT, element, sequence, syntax};
use crate::dicom::syntax::Layout;

const EL: Layout = Layout::ExplicitLittle;
const UTF8: Option<&[u8]> = Some(b"ISO_IR 192");

/// An image with these bytes as accession number, as that of a copy, and as Patient ID.
fn image(declared: Option<&[u8]>, number: &[u8], copy: &[u8], id: &[u8]) -> Head {
    let declared = declared.map(|terms| element(EL, 0x0008_0005, "CS", terms));
    let copy = sequence(EL, 0x0040_0275, "SQ", &[element(EL, 0x0008_0050, "SH", copy)], true);
    let bytes = [
        declared.unwrap_or_default(),
        element(EL, 0x0008_0050, "SH", number),
        element(EL, 0x0010_0020, "LO", id),
        copy,
    ];
    Head::scan(syntax(EXPLICIT), &bytes.concat()).unwrap()
}

fn with_id(declared: Option<&[u8]>, id: &[u8]) -> Head {
    image(declared, b"", b"", id)
}

fn morph(rule: &str) -> String {
    format!("fn morph(image, from) {{ {rule} }} fn route(image, from) {{ to(\"vna\"); }}")
}

#[test]
fn two_patients_whose_numbers_cannot_be_read_do_not_become_one_pseudonym() {
    for rule in ["privacy::hash(image, \"PatientID\");", "privacy::basic_profile(image);"] {
        for declared in [None, UTF8] {
            for id in [&b"M\xdcLLER1 "[..], b"M\xc4LLER1 "] {
                let (kind, text) = reason(&decide(&morph(rule), &with_id(declared, id)));
                assert_eq!(kind, HoldKind::Edit, "{rule}");
                assert!(text.contains("charset::repair") && !text.contains("LLER"), "{text}");
            }
        }
        // Declared as it is, it is read, and every patient has a pseudonym.
        let latin = Some(&b"ISO_IR 100"[..]);
        assert_eq!(
            decide(&morph(rule), &with_id(latin, b"M\xdcLLER1 ")).hold,
            None,
            "{rule}"
        );
    }
    let repaired = "charset::repair(image, #{ fallback: \"ISO_IR 100\" }); privacy::hash(image, \"PatientID\");";
    assert_eq!(decide(&morph(repaired), &with_id(None, b"M\xdcLLER1 ")).hold, None);
}

#[test]
fn a_second_patient_or_order_of_a_study_is_noticed_although_neither_can_be_read() {
    let rules = set("fn route(image, from) { to(\"vna\"); study::same_patient(image); study::same_accession(image); }")
        .unwrap();
    let decide = |first: &Head, now: &Head| {
        let mut facts = facts();
        facts.study = Some(StudySeen {
            values: remembered(first),
            ..StudySeen::default()
        });
        rules.decide(&facts, now)
    };
    let one = image(None, b"N\xdc1 ", b"", b"M\xdcLLER1 ");
    let another = |number: &[u8], id: &[u8]| decide(&one, &image(None, number, b"", id)).hold.is_some();
    assert!(
        !another(b"N\xdc1 ", b"M\xdcLLER1 "),
        "the same bytes are the same patient"
    );
    assert!(another(b"N\xdc1 ", b"M\xc4LLER1 "), "another patient");
    assert!(another(b"N\xc41 ", b"M\xdcLLER1 "), "another order");
    let otherwise_declared = image(UTF8, b"N\xdc1 ", b"", b"M\xdcLLER1 ");
    assert_eq!(
        decide(&one, &otherwise_declared).hold,
        None,
        "by the bytes, whatever is declared"
    );
    // What rules read of it is what stands in the image.
    let read =
        set("fn route(image, from) { if study::first(image, \"PatientID\") == image.PatientID { to(\"vna\") } }")
            .unwrap();
    assert_eq!(read.decide(&facts(), &one).deliveries.len(), 1);
}

#[test]
fn an_order_number_that_cannot_be_read_is_not_replaced_with_its_copies() {
    for rule in [
        "accession::set(image, \"N77\");",
        "accession::rewrite(image, \"^N.*$\", \"77\");",
        "accession::prefix(image, \"X\");",
    ] {
        let (kind, text) = reason(&decide(&morph(rule), &image(None, b"N\xdc1 ", b"N\xc41 ", b"1 ")));
        assert_eq!(kind, HoldKind::Edit, "{rule}");
        assert!(text.contains("main.rhai line 1"), "{text}");
    }
    let readable = image(Some(b"ISO_IR 100"), b"N\xdc1 ", b"N\xc41 ", b"1 ");
    assert_eq!(decide(&morph("accession::set(image, \"N77\");"), &readable).hold, None);
}

#[test]
fn another_number_that_cannot_be_read_is_not_taken_for_the_patients_own() {
    let bytes = [
        element(EL, 0x0010_0020, "LO", b"A\xdc"),
        element(EL, 0x0010_1000, "LO", b"A\xc4"),
    ];
    let head = Head::scan(syntax(EXPLICIT), &bytes.concat()).unwrap();
    let (kind, _) = reason(&decide(&morph("identity::adopt_others(image);"), &head));
    assert_eq!(kind, HoldKind::Edit);
}

#[test]
fn blanks_around_what_cannot_be_read_hold_and_other_images_are_left_alone() {
    let trim = morph("text::trim(image, \"AccessionNumber\");");
    for number in [&b" ab\xffc "[..], b"ab\xffc  ", b"ab\xffc\\ x "] {
        let (kind, _) = reason(&decide(&trim, &image(UTF8, number, b"", b"1 ")));
        assert_eq!(kind, HoldKind::Edit, "{number:?}");
    }
    for number in [&b"ab\xffcd "[..], b"ab\xffc"] {
        let decision = decide(&trim, &image(UTF8, number, b"", b"1 "));
        assert_eq!(decision.hold, None, "{number:?}");
        assert!(decision.deliveries[0].plan.is_empty(), "{number:?}");
    }
}

#[test]
fn copies_are_judged_also_where_the_image_had_no_number_of_its_own() {
    let head = image(None, b"", b"123456789012345678", b"1 ");
    let (kind, _) = reason(&decide(&morph("accession::set(image, \"N77\");"), &head));
    assert_eq!(kind, HoldKind::Incomplete);
    let short = image(None, b"", b"78", b"1 ");
    let decision = decide(&morph("accession::set(image, \"N77\");"), &short);
    assert_eq!((decision.hold, decision.deliveries[0].plan.edits.len()), (None, 1));
}
