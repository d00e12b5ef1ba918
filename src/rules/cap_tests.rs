//! Facts about what rules cannot see or reach: behind the cap, and the pixels.
use super::tests::{decide, facts, reason, set};
use super::*;
use crate::dicom::head::tests::{EXPLICIT, element, raw, syntax};
use crate::dicom::head::{Head, HeadEnd, Scanner};
use crate::dicom::syntax::Layout;

const EL: Layout = Layout::ExplicitLittle;

/// A head that ends before `tag`, which is too long to be kept.
fn cut_at(tag: u32) -> Head {
    let bytes = [
        element(EL, 0x0008_0060, "CS", b"CT"),
        element(EL, 0x0010_0020, "LO", b"ID"),
        raw(EL, tag, "OB", 0x4000_0000, &[]),
    ];
    let mut scanner = Scanner::new(syntax(EXPLICIT));
    scanner.push(&bytes.concat()).unwrap();
    scanner.head().unwrap().clone()
}

fn with(rule: &str, head: &Head) -> Decision {
    decide(
        &format!("fn morph(image, from) {{ {rule} }} fn route(image, from) {{ to(\"vna\") }}"),
        head,
    )
}

#[test]
fn a_change_that_cannot_be_made_holds_the_image() {
    let (cut, pixels) = (cut_at(0x0600_0010), cut_at(0x7FE0_0010));
    assert_eq!((cut.end, pixels.end), (HeadEnd::Cap, HeadEnd::Pixels));
    for (rule, head) in [
        ("image.remove(\"(0601,1010)\")", &cut),
        ("image.remove(\"(0600,0010)\")", &cut),
        ("image.remove(\"(0601,\\\"X\\\",10)\")", &cut),
        ("image[\"DigitalSignaturesSequence[0].MACIDNumber\"] = ()", &cut),
        ("image[\"(0601,1010)\"] = \"x\"", &cut),
        ("image.remove(\"PixelData\")", &pixels),
        ("image.remove(\"DigitalSignaturesSequence\")", &pixels),
        ("image[\"(7FE1,1010)\"] = \"x\"", &pixels),
        // The stamp has no place.
        ("image.PatientID = \"x\"", &cut_at(0x0040_1000)),
    ] {
        let (kind, text) = reason(&with(rule, head));
        assert_eq!(kind, HoldKind::Edit, "{rule}");
        assert!(text.contains("beyond"), "{text}");
    }
    // Where nothing lies behind, there is nothing to remove.
    let whole = Head::scan(syntax(EXPLICIT), &element(EL, 0x0010_0020, "LO", b"ID")).unwrap();
    assert_eq!(
        with("image.remove(\"PixelData\"); image.PatientID = \"x\"", &whole).hold,
        None
    );
    assert_eq!(
        with("image.remove(\"(0011,1010)\"); image.PatientID = ()", &cut).hold,
        None
    );
}

#[test]
fn what_may_lie_behind_a_cut_decides_nothing() {
    let (cut, pixels) = (cut_at(0x0600_0010), cut_at(0x7FE0_0010));
    for condition in [
        "image[\"(0601,1010)\"] == \"\"",
        "image.has(\"(0601,1010)\")",
        "image.values(\"(0601,1010)\").len == 0",
        "image.items(\"DigitalSignaturesSequence\") == 0",
        "image.has(\"PixelData\")",
    ] {
        let text = format!("fn route(image, from) {{ if {condition} {{ to(\"vna\") }} else {{ to(\"cad\") }} }}");
        let rules = set(&text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let (kind, _) = reason(&rules.decide(&facts(), &cut));
        assert_eq!(kind, HoldKind::Error, "{condition}");
        assert_eq!(rules.decide(&facts(), &pixels).hold, None, "{condition}");
    }
    for seen in [
        "image.Modality == \"CT\"",
        "!image.has(\"(0011,1010)\")",
        "image.has(\"(0600,0010)\")",
    ] {
        let text = format!("fn route(image, from) {{ if {seen} {{ to(\"vna\") }} }}");
        assert_eq!(decide(&text, &cut).hold, None, "{seen}");
    }
    assert_eq!(
        decide(
            "fn route(image, from) { if image.has(\"PixelData\") { to(\"vna\") } }",
            &pixels
        )
        .hold,
        None
    );
}
