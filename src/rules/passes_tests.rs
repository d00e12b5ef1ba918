//! What a second box makes of what a first one has sent, where words follow one another; and what a rule may write at all.
use super::HoldKind;
use super::tests::{element_text, facts, files, reason};
use super::words_tests::head_of;
use crate::dicom::head::Head;
use crate::dicom::head::tests::{EXPLICIT, element, syntax};
use crate::dicom::syntax::Layout;

fn rules(morph: &str) -> String {
    format!("fn morph(image, from) {{ {morph} }} fn route(image, from) {{ to(\"vna\"); }}")
}

/// `path` after the first box and after the second one, which has the same rules.
fn passes(morph: &str, elements: &[(&str, &str)], path: &str) -> [String; 2] {
    let set = files(&[("main.rhai", &rules(morph))]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let first = head_of(elements);
    let decision = set.decide(&facts(), &first);
    assert_eq!(decision.hold, None, "{morph}");
    let sent = decision.deliveries[0].plan.apply(&first).unwrap();
    let second = Head::scan(first.syntax.clone(), &sent).unwrap();
    let again = set.decide(&facts(), &second);
    assert_eq!(again.hold, None, "{morph}");
    [
        element_text(&decision, &first, 0, path),
        element_text(&again, &second, 0, path),
    ]
    .map(Option::unwrap_or_default)
}

#[test]
fn a_name_is_exchanged_once_whatever_other_words_do_to_it() {
    const SWAP: &str = r#"text::swap_name_parts(image, "PatientName", "family", "given");"#;
    for (others, name, wanted) in [
        ("", "jane^doe", "doe^jane"),
        (r#"text::upper(image, "PatientName");"#, "jane^doe", "DOE^JANE"),
        (r#"text::lower(image, "PatientName");"#, "JANE^DOE", "doe^jane"),
        (
            r#"text::collapse(image, "PatientName");"#,
            "jane^van  der doe",
            "van der doe^jane",
        ),
        (
            r#"text::set_name_part(image, "PatientName", "suffix", "MD");"#,
            "jane^doe",
            "doe^jane^^^MD",
        ),
        (r#"charset::to_utf8(image);"#, "jürg^müller", "müller^jürg"),
        (SWAP, "jane^doe", "doe^jane"),
        (
            r#"text::upper(image, "PatientName");"#,
            "jane^doe=JAYNE^DOE",
            "DOE^JANE=DOE^JAYNE",
        ),
    ] {
        let elements = [("SpecificCharacterSet", "ISO_IR 100"), ("PatientName", name)];
        for morph in [
            format!("{SWAP} {others}"),
            format!("{others} {SWAP}"),
            format!("{SWAP} {others} {SWAP}"),
        ] {
            assert_eq!(
                passes(&morph, &elements, "PatientName"),
                [wanted, wanted],
                "{morph} {name}"
            );
        }
    }
    // What came broke its own declaration, so that the record has its bytes only: UTF-8, and Japanese, declared as ISO_IR 100.
    let broken = |raw: &[u8]| {
        let set = files(&[(
            "main.rhai",
            &rules(&format!(
                "charset::repair(image, #{{ fallback: \"SHIFT_JIS\" }}); {SWAP}"
            )),
        )])
        .unwrap();
        let bytes = [
            element(Layout::ExplicitLittle, 0x0008_0005, "CS", b"ISO_IR 100"),
            element(Layout::ExplicitLittle, 0x0010_0010, "PN", raw),
        ];
        let mut head = Head::scan(syntax(EXPLICIT), &bytes.concat()).unwrap();
        [(); 2].map(|()| {
            let decision = set.decide(&facts(), &head);
            assert_eq!(decision.hold, None);
            let sent = decision.deliveries[0].plan.apply(&head).unwrap();
            head = Head::scan(head.syntax.clone(), &sent).unwrap();
            head.first(dicom_core::Tag(0x0010, 0x0010))
        })
    };
    assert_eq!(broken("jürg^müller".as_bytes()), ["müller^jürg"; 2]);
    assert_eq!(broken(b"\x91\xBE\x98\x59^\x8E\x52\x93\x63"), ["山田^太郎"; 2]);
    // Another patient under the same rules is exchanged as the first one was.
    assert_eq!(
        passes(SWAP, &[("PatientName", "DOE^JANE")], "PatientName"),
        ["JANE^DOE"; 2]
    );
}

const CONTROL: &str = "a line end or another control character";
const PARTS: &str = "would become two values";
const SINGLE: &str = "would get several";

/// A rule, the comment that came, the element that is looked at, and what it holds or why the image is held.
const WRITES: [(&str, &str, &str, &str); 15] = [
    (
        r#"text::copy(image, "PatientComments", "StudyDescription");"#,
        "left\r\nknee\u{C}",
        "StudyDescription",
        CONTROL,
    ),
    (
        r#"text::copy(image, "PatientComments", "StudyDescription");"#,
        "left\tknee",
        "StudyDescription",
        CONTROL,
    ),
    (
        r#"text::copy(image, "PatientComments", "StudyDescription");"#,
        "a\\b",
        "StudyDescription",
        PARTS,
    ),
    (
        r#"text::copy(image, "PatientComments", "StudyDescription");"#,
        "knee",
        "StudyDescription",
        "knee",
    ),
    (
        r#"text::copy(image, "PatientComments", "AdditionalPatientHistory");"#,
        "a\r\n\tb\u{C}",
        "AdditionalPatientHistory",
        "a\r\n\tb\u{C}",
    ),
    (
        r#"text::copy(image, "PatientComments", "AdditionalPatientHistory");"#,
        "a\u{7}b",
        "AdditionalPatientHistory",
        CONTROL,
    ),
    (
        r#"text::move_to(image, "PatientComments", "PatientID");"#,
        "left\r\nknee",
        "PatientID",
        CONTROL,
    ),
    (
        "image.PatientID = image.PatientComments;",
        "left\nknee",
        "PatientID",
        CONTROL,
    ),
    ("image.PatientID = image.PatientComments;", "a\\b", "PatientID", SINGLE),
    (
        r#"image.set_values("PatientID", ["a", "b"]);"#,
        "x",
        "PatientID",
        SINGLE,
    ),
    (
        r#"image.set_values("ImageType", ["DERIVED", "A\\B"]);"#,
        "x",
        "ImageType",
        PARTS,
    ),
    (
        r#"image.ImageType = "DERIVED\\SECONDARY";"#,
        "x",
        "ImageType",
        "DERIVED\\SECONDARY",
    ),
    (
        r#"text::if_empty(image, "ImageType", "DERIVED\\SECONDARY");"#,
        "x",
        "ImageType",
        "DERIVED\\SECONDARY",
    ),
    (
        "image.PatientComments = \"one\\r\\ntwo \\\\ three\";",
        "x",
        "PatientComments",
        "one\r\ntwo \\ three",
    ),
    ("image.PatientName = \"DOE\\tJANE\";", "x", "PatientName", CONTROL),
];

/// What `path` holds after a rule, or why the image was held for it.
fn written(morph: &str, elements: &[(&str, &str)], path: &str) -> String {
    let head = head_of(elements);
    let decision = files(&[("main.rhai", &rules(morph))]).unwrap().decide(&facts(), &head);
    match &decision.hold {
        Some(_) => {
            let (kind, reason) = reason(&decision);
            assert_eq!(kind, HoldKind::Edit, "{morph}");
            reason
        }
        None => element_text(&decision, &head, 0, path).unwrap_or_default(),
    }
}

#[test]
fn what_a_vr_forbids_is_never_written() {
    for (morph, text, path, wanted) in WRITES {
        let comments = [("PatientComments", text), ("PatientID", "2"), ("StudyDescription", "x")];
        let found = written(morph, &comments, path);
        let is_hold = [CONTROL, PARTS, SINGLE].contains(&wanted);
        assert!(
            found == wanted || is_hold && found.contains(wanted),
            "{morph} {text:?}: {found}"
        );
    }
}

#[test]
fn what_came_wrong_is_passed_on_and_so_it_is_by_words_that_change_something_else_of_it() {
    let wrong = [("StudyDescription", "left\tknee"), ("PatientID", "1\u{1}2")];
    for (morph, path, wanted) in [
        ("image.PatientID = \"7\";", "StudyDescription", "left\tknee"),
        (
            "text::upper(image, \"StudyDescription\");",
            "StudyDescription",
            "LEFT\tKNEE",
        ),
        ("identity::prefix(image, \"N-\");", "PatientID", "N-1\u{1}2"),
    ] {
        assert_eq!(written(morph, &wrong, path), wanted, "{morph}");
    }
    let several = [("PatientID", "1\\2")];
    assert_eq!(written("image.PatientID = \"3\\\\4\";", &several, "PatientID"), "3\\4");
    assert!(written("image.PatientID = \"3\\\\4\\\\5\";", &several, "PatientID").contains(SINGLE));
}
