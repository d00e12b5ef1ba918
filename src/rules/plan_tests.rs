//! Edits that cannot be made: said at the line that wrote them, and to the bench as to the live box.
use super::tests::{decide, element_text, facts, reason, set};
use super::words_tests::head_of;
use super::*;
use crate::dicom::head::Head;

fn image() -> Head {
    head_of(&[
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
        ("SOPInstanceUID", "1.2.3"),
        ("PatientName", "CANARY^JANE"),
        ("ReferencedImageSequence[0].ReferencedSOPInstanceUID", "1.2.9"),
    ])
}

/// The body stands in line 2.
fn morph(body: &str) -> String {
    format!("fn morph(image, from) {{\n{body}\n}} fn route(image, from) {{ to(\"vna\"); }}")
}

#[test]
fn a_path_that_leads_nowhere_and_a_lost_name_are_held_with_their_line() {
    let nowhere = "the path leads through an element that is not a sequence, or to an item that does not exist";
    let nameless = "the edited SOP Instance UID is empty";
    for (body, words) in [
        (
            "image[\"RequestAttributesSequence[1].RequestedProcedureID\"] = \"P2\";",
            nowhere,
        ),
        (
            "image[\"ReferencedImageSequence[2].ReferencedSOPInstanceUID\"] = \"1.2\";",
            nowhere,
        ),
        ("image[\"PatientName[0].CodeValue\"] = \"1\";", nowhere),
        (
            "image.remove(\"ReferencedImageSequence\"); image[\"ReferencedImageSequence[1].ReferencedSOPInstanceUID\"] = \"1.2\";",
            nowhere,
        ),
        ("image.remove(\"SOPInstanceUID\");", nameless),
        ("image.SOPInstanceUID = \"\";", nameless),
        ("privacy::remove(image, \"SOPInstanceUID\");", nameless),
        ("privacy::blank(image, \"SOPInstanceUID\");", nameless),
        (
            "image.SOPClassUID = \"1.2.840.10008.5.1.4.1.1.4\";",
            "the edits change the SOP Class UID",
        ),
        ("image.remove(\"SOPClassUID\");", "the edits change the SOP Class UID"),
    ] {
        let (kind, text) = reason(&decide(&morph(body), &image()));
        assert_eq!(
            (kind, text.as_str()),
            (HoldKind::Edit, format!("main.rhai line 2: {words}").as_str()),
            "{body}"
        );
    }
}

#[test]
fn what_ends_well_is_not_held() {
    let items = "image[\"RequestAttributesSequence[0].RequestedProcedureID\"] = \"1\"; \
        image[\"RequestAttributesSequence[1].RequestedProcedureID\"] = \"2\";";
    for body in [
        "image.remove(\"SOPInstanceUID\"); image.SOPInstanceUID = \"1.2.4\";",
        "image.remove(\"SOPClassUID\"); image.SOPClassUID = \"1.2.840.10008.5.1.4.1.1.2\";",
        "uid::remap_all(image);",
        "image[\"ReferencedImageSequence[1].ReferencedSOPInstanceUID\"] = \"1.2\";",
        // An item that was made first is the first, also when it is written again.
        &format!("{items} image[\"RequestAttributesSequence[0].RequestedProcedureID\"] = \"3\";"),
        &format!("{items} privacy::hash(image, \"RequestAttributesSequence[0].RequestedProcedureID\");"),
    ] {
        let rules = set(&morph(body)).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(rules.run_out(&facts(), &image(), false).decision.hold, None, "{body}");
        let decision = rules.decide(&facts(), &image());
        assert!(element_text(&decision, &image(), 0, "PatientName").is_some(), "{body}");
    }
}

#[test]
fn the_bench_makes_the_edits_as_the_sender_does() {
    // The second item has lost all that made it, so the third has no place.
    let body = "for i in 0..3 { image[`RequestAttributesSequence[${i}].RequestedProcedureID`] = \"1\"; }
        image.remove(\"RequestAttributesSequence[1].RequestedProcedureID\");";
    let rules = set(&morph(body)).unwrap_or_else(|problems| panic!("{problems:?}"));
    let decision = rules.run_out(&facts(), &image(), false).decision;
    let (kind, text) = reason(&decision);
    assert_eq!(kind, HoldKind::Edit);
    assert!(text.starts_with("when it is sent to vna: the path leads"), "{text}");
}
