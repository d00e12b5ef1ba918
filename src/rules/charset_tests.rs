//! Facts about text when rules change the character set.
use super::tests::{decide, element_text, reason};
use super::*;
use crate::dicom::head::Head;
use crate::dicom::head::tests::{EXPLICIT, element, sequence, syntax};
use crate::dicom::path::Path as ElementPath;
use crate::dicom::syntax::Layout;

const EL: Layout = Layout::ExplicitLittle;
const ROUTE: &str = "fn route(image, from) { to(\"vna\") }";

fn latin(more: Vec<u8>) -> Head {
    let item = element(EL, 0x0032_1060, "LO", b"Sch\xE4del");
    let greek = [
        element(EL, 0x0008_0005, "CS", b"ISO_IR 126"),
        element(EL, 0x0032_1060, "LO", b"\xE1\xE2"),
    ]
    .concat();
    let bytes = [
        element(EL, 0x0008_0005, "CS", b"ISO_IR 100"),
        element(EL, 0x0010_0010, "PN", b"M\xDCLLER "),
        element(EL, 0x0010_0020, "LO", b"ID"),
        more,
        sequence(EL, 0x0040_0275, "SQ", &[item, greek], false),
    ]
    .concat();
    Head::scan(syntax(EXPLICIT), &bytes).unwrap()
}

fn morphed(rule: &str, head: &Head) -> Decision {
    decide(&format!("fn morph(image, from) {{ {rule} }} {ROUTE}"), head)
}

fn raw(decision: &Decision, head: &Head, path: &str) -> Vec<u8> {
    let bytes = decision.deliveries[0].plan.apply(head).unwrap();
    let edited = Head::scan(head.syntax.clone(), &bytes).unwrap();
    let node = edited.find(&ElementPath::parse(path).unwrap()).unwrap();
    edited.raw(node).to_vec()
}

#[test]
fn text_is_written_in_the_character_set_that_leaves() {
    let head = latin(Vec::new());
    let before = "image.InstitutionName = \"Süd\"; image.SpecificCharacterSet = \"ISO_IR 192\";";
    let behind = "image.SpecificCharacterSet = \"ISO_IR 192\"; image.InstitutionName = \"Süd\";";
    for rule in [before, behind] {
        let decision = morphed(rule, &head);
        assert_eq!(raw(&decision, &head, "InstitutionName"), "Süd".as_bytes(), "{rule}");
    }
    let kanji = morphed(
        "image.SpecificCharacterSet = \"ISO_IR 192\"; image.PatientName = \"名\";",
        &head,
    );
    assert_eq!(raw(&kanji, &head, "PatientName"), "名 ".as_bytes());
    let inside = "image.remove(\"RequestAttributesSequence\"); \
        image[\"RequestAttributesSequence[0].RequestedProcedureDescription\"] = \"x\"; \
        image[\"RequestAttributesSequence[1].RequestedProcedureDescription\"] = \"ü\";";
    let path = "RequestAttributesSequence[1].RequestedProcedureDescription";
    assert_eq!(raw(&morphed(inside, &head), &head, path), b"\xFC ");
}

#[test]
fn untouched_text_is_carried_over_into_the_new_character_set() {
    let head = latin(Vec::new());
    let decision = morphed("image.SpecificCharacterSet = \"ISO_IR 192\";", &head);
    for (path, value) in [
        ("PatientName", "MÜLLER"),
        ("RequestAttributesSequence[0].RequestedProcedureDescription", "Schädel"),
        ("RequestAttributesSequence[1].RequestedProcedureDescription", "αβ"),
    ] {
        assert_eq!(
            element_text(&decision, &head, 0, path).as_deref(),
            Some(value),
            "{path}"
        );
    }
    assert_eq!(raw(&decision, &head, "PatientName"), "MÜLLER ".as_bytes());
    // The item with a set of its own, and what reads the same in both sets, keep their bytes.
    let greek = "RequestAttributesSequence[1].RequestedProcedureDescription";
    assert_eq!(raw(&decision, &head, greek), b"\xE1\xE2");
    assert_eq!(decision.deliveries[0].plan.edits.len(), 3);
}

#[test]
fn text_that_the_new_character_set_cannot_say_holds_the_image() {
    for rule in [
        "image.SpecificCharacterSet = \"ISO_IR 144\";",
        "image.SpecificCharacterSet = ();",
        "image.InstitutionName = \"Süd\"; image.PatientName = \"X\"; \
         image.remove(\"RequestAttributesSequence\"); image.SpecificCharacterSet = \"ISO_IR 144\";",
    ] {
        let (kind, text) = reason(&morphed(rule, &latin(Vec::new())));
        assert_eq!(kind, HoldKind::Edit, "{rule}");
        assert!(text.contains("character set") && !text.contains('Ü'), "{text}");
    }
    // What the old set cannot read, nobody can carry over.
    let unread = [
        element(EL, 0x0010_0010, "PN", b"M\xDCLLER "),
        element(EL, 0x0010_0020, "LO", b"ID"),
    ];
    let head = Head::scan(syntax(EXPLICIT), &unread.concat()).unwrap();
    let (kind, _) = reason(&morphed("image.SpecificCharacterSet = \"ISO_IR 192\";", &head));
    assert_eq!(kind, HoldKind::Edit);
    let named = "image.SpecificCharacterSet = \"ISO_IR 192\"; image.PatientName = \"MÜLLER\";";
    assert_eq!(morphed(named, &head).hold, None);
}
