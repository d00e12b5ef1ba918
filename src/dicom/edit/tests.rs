//! Edits against hand-built heads.
use super::*;
use crate::dicom::head::Head;
use crate::dicom::head::tests::{BIG, EXPLICIT, IMPLICIT, element, raw, sequence, syntax};
use crate::dicom::path::Selector;
use crate::dicom::syntax::Layout;
use dicom_core::Tag;

const EL: Layout = Layout::ExplicitLittle;
const IL: Layout = Layout::ImplicitLittle;
const EB: Layout = Layout::ExplicitBig;
const LAYOUTS: [(&str, Layout); 3] = [(IMPLICIT, IL), (EXPLICIT, EL), (BIG, EB)];

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn set(at: &str, vr: VR, value: &[u8]) -> Edit {
    let value = value.to_vec();
    Edit::Set {
        path: path(at),
        vr,
        value,
    }
}

fn plan(edits: Vec<Edit>) -> Plan {
    Plan { edits, stamp: None }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|text| (*text).to_owned()).collect()
}

pub(super) fn stamp() -> Option<Stamp> {
    Some(Stamp {
        system: "EDGE1".into(),
        at: "20260101000000.000000+0000".into(),
        epoch: "17".into(),
        source: "CT_SCANNER".into(),
    })
}

/// Edits the head and scans what came out.
fn edited(head: &Head, plan: &Plan) -> Head {
    let bytes = plan.apply(head).unwrap();
    Head::scan(head.syntax.clone(), &bytes).unwrap()
}

fn sample(layout: Layout) -> Vec<u8> {
    let item = element(layout, 0x0008_0050, "SH", b"ACC1");
    [
        element(layout, 0x0008_0000, "UL", &layout.put_u32(999)),
        element(layout, 0x0008_0060, "CS", b"CT"),
        element(layout, 0x0010_0000, "UL", &layout.put_u32(999)),
        element(layout, 0x0010_0010, "PN", b"DOE^JANE"),
        element(layout, 0x0010_0020, "LO", b"ID"),
        sequence(layout, 0x0040_0275, "SQ", std::slice::from_ref(&item), true),
        sequence(layout, 0x0040_A730, "SQ", &[item, Vec::new()], false),
    ]
    .concat()
}

pub(super) fn head(uid: &'static str, bytes: &[u8]) -> Head {
    Head::scan(syntax(uid), bytes).unwrap()
}

#[test]
fn only_the_named_element_and_its_groups_length_change() {
    for (uid, layout) in LAYOUTS {
        let head = head(uid, &sample(layout));
        let out = plan(vec![set("PatientID", VR::LO, b"NEWID ")]).apply(&head).unwrap();
        let expected = [
            element(layout, 0x0008_0000, "UL", &layout.put_u32(999)),
            element(layout, 0x0008_0060, "CS", b"CT"),
            element(layout, 0x0010_0010, "PN", b"DOE^JANE"),
            element(layout, 0x0010_0020, "LO", b"NEWID "),
        ]
        .concat();
        assert_eq!(out[..expected.len()], expected);
        let rest = head.nodes[head.find(&path("RequestAttributesSequence")).unwrap()].start as usize;
        assert_eq!(out[expected.len()..], head.bytes[rest..]);
    }
}

#[test]
fn elements_sequences_and_items_are_made_where_they_belong() {
    for (uid, layout) in LAYOUTS {
        let head = head(uid, &sample(layout));
        let edits = vec![
            set("IssuerOfPatientID", VR::LO, b"SITE"),
            set("RequestAttributesSequence[0].RequestedProcedureID", VR::SH, b"RP"),
            set("RequestAttributesSequence[1].AccessionNumber", VR::SH, b"ACC2"),
            set("ContentSequence[1].AccessionNumber", VR::SH, b"ACC3"),
            set("OtherPatientIDsSequence[0].PatientID", VR::LO, b"OTHER "),
            set("Rows", VR::US, &512u16.to_le_bytes()),
            set("(0029,\"ACME 1\",0A)", VR::FD, &1.5f64.to_le_bytes()),
            set("(0029,\"ACME 1\",0B)[0].(0031,\"ACME 2\",01)", VR::LO, b"deep"),
        ];
        let out = edited(&head, &plan(edits));
        for (at, expected) in [
            ("PatientID", "ID"),
            ("IssuerOfPatientID", "SITE"),
            ("RequestAttributesSequence[0].AccessionNumber", "ACC1"),
            ("RequestAttributesSequence[0].RequestedProcedureID", "RP"),
            ("RequestAttributesSequence[1].AccessionNumber", "ACC2"),
            ("ContentSequence[1].AccessionNumber", "ACC3"),
            ("OtherPatientIDsSequence[0].PatientID", "OTHER"),
            ("Rows", "512"),
            ("(0029,0010)", "ACME 1"),
            ("(0029,\"ACME 1\",0B)[0].(0031,\"ACME 2\",01)", "deep"),
        ] {
            assert_eq!(out.text(&path(at)), Some(strings(&[expected])), "{uid} {at}");
        }
        let tags: Vec<Tag> = out.children(None).map(|node| out.nodes[node].tag).collect();
        assert!(tags.is_sorted(), "{tags:?}");
        let number = out.find(&path("(0029,\"ACME 1\",0A)")).unwrap();
        let swapped = if layout == EB {
            1.5f64.to_be_bytes()
        } else {
            1.5f64.to_le_bytes()
        };
        assert_eq!(out.raw(number), swapped);
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let head = head(EXPLICIT, &sample(EL));
    for (edit, wrong) in [
        (set("PatientID[0].PatientName", VR::PN, b"A "), EditError::NoSuchItem),
        (
            set("ContentSequence[3].PatientName", VR::PN, b"A "),
            EditError::NoSuchItem,
        ),
        (set("ContentSequence", VR::LO, b"A "), EditError::NotAValue),
        (set("OtherPatientIDsSequence", VR::SQ, b"XX"), EditError::NotAValue),
        (set("PatientID", VR::LO, &[b'x'; 65_536]), EditError::TooLong),
        (set("(7FE0,0010)", VR::OW, b"AB"), EditError::BeyondHead),
        (set("(7FE1,\"X\",10)", VR::OW, b"AB"), EditError::BeyondHead),
    ] {
        assert_eq!(plan(vec![edit.clone()]).apply(&head), Err(wrong), "{edit:?}");
    }
    let capped = [sample(EL), raw(EL, 0x0050_0010, "OB", u32::MAX - 1, &[])].concat();
    let mut scanner = crate::dicom::head::Scanner::new(syntax(EXPLICIT));
    scanner.push(&capped).unwrap();
    let head = scanner.head().unwrap();
    assert_eq!(
        plan(vec![set("(0050,0010)", VR::OB, b"AB")]).apply(head),
        Err(EditError::BeyondHead)
    );
    assert!(plan(vec![set("(0048,0010)", VR::LO, b"AB")]).apply(head).is_ok());
    // The stamp's place is behind what is kept.
    let stamped = Plan {
        edits: vec![set("PatientID", VR::LO, b"AB")],
        stamp: stamp(),
    };
    assert_eq!(stamped.apply(head), Err(EditError::BeyondHead));
}

#[test]
fn an_edit_without_effect_leaves_no_trace() {
    for (uid, layout) in LAYOUTS {
        let mut bytes = sample(layout);
        bytes.extend(element(layout, 0x0088_0140, "LO", b"odd"));
        let head = head(uid, &bytes);
        let plan = Plan {
            edits: vec![
                set("PatientID", VR::LO, b"ID"),
                set("ContentSequence[0].AccessionNumber", VR::SH, b"ACC1"),
                set("(0088,0140)", VR::LO, b"odd "),
                set("PatientName", VR::PN, b"X "),
                set("PatientName", VR::PN, b"DOE^JANE"),
                Edit::Remove {
                    path: path("AccessionNumber"),
                },
                Edit::Remove {
                    path: path("PatientID[0].PatientName"),
                },
                Edit::Remove {
                    path: path("ContentSequence[1].PatientName"),
                },
                Edit::Remove {
                    path: path("ContentSequence[9].PatientName"),
                },
                Edit::Remove {
                    path: path("(0009,\"NONE\",01)"),
                },
            ],
            stamp: stamp(),
        };
        let out = plan.apply(&head).unwrap();
        // Set and set back drops nothing but the group length of the touched group.
        let changed = Plan {
            edits: plan.edits[..3].iter().chain(&plan.edits[5..]).cloned().collect(),
            ..plan.clone()
        };
        assert_eq!(changed.apply(&head).unwrap(), bytes, "{uid}");
        assert!(Head::scan(head.syntax.clone(), &out).is_ok());
        assert_eq!(Plan::default().apply(&head).unwrap(), bytes);
    }
}

#[test]
fn a_change_is_stamped_once_with_what_stood_there_before() {
    for (uid, layout) in LAYOUTS {
        let old = sequence(
            layout,
            0x0400_0561,
            "SQ",
            &[element(layout, 0x0400_0563, "LO", b"OLDBOX")],
            true,
        );
        let bytes = [sample(layout), old].concat();
        let head = head(uid, &bytes);
        let plan = Plan {
            edits: vec![
                set("PatientID", VR::LO, b"NEW "),
                set("IssuerOfPatientID", VR::LO, b"SITE"),
                set("ContentSequence[0].AccessionNumber", VR::SH, b"X "),
                set("(0029,\"ACME\",01)", VR::LO, b"p "),
                Edit::Remove { path: path("Modality") },
            ],
            stamp: stamp(),
        };
        let out = edited(&head, &plan);
        let one = |at: &str| out.text(&path(at)).unwrap_or_default().join("|");
        assert_eq!(out.items(&path("OriginalAttributesSequence")), Some(2));
        assert_eq!(one("OriginalAttributesSequence[0].ModifyingSystem"), "OLDBOX");
        assert_eq!(one("OriginalAttributesSequence[1].ModifyingSystem"), "EDGE1");
        assert_eq!(
            one("OriginalAttributesSequence[1].SourceOfPreviousValues"),
            "CT_SCANNER"
        );
        assert_eq!(
            one("OriginalAttributesSequence[1].ReasonForTheAttributeModification"),
            "COERCE"
        );
        let date = one("OriginalAttributesSequence[1].AttributeModificationDateTime");
        assert_eq!(date, "20260101000000.000000+0000");
        let prior = "OriginalAttributesSequence[1].ModifiedAttributesSequence[0]";
        assert_eq!(one(&format!("{prior}.PatientID")), "ID");
        assert_eq!(one(&format!("{prior}.Modality")), "CT");
        assert_eq!(one(&format!("{prior}.ContentSequence[0].AccessionNumber")), "ACC1");
        assert_eq!(out.text(&path(&format!("{prior}.IssuerOfPatientID"))), Some(Vec::new()));
        assert_eq!(
            out.text(&path(&format!("{prior}.(0029,\"ACME\",01)"))),
            Some(Vec::new())
        );
        assert_eq!(out.text(&path(&format!("{prior}.PatientName"))), None);
        let (sequence, _) = path(&format!("{prior}.PatientID")).items.pop().unwrap();
        assert_eq!(sequence, Selector::Tag(Tag(0x0400, 0x0550)));
        let equipment = "ContributingEquipmentSequence[0]";
        assert_eq!(
            one(&format!("{equipment}.PurposeOfReferenceCodeSequence[0].CodeValue")),
            "109103"
        );
        assert_eq!(one(&format!("{equipment}.ContributionDescription")), "rules 17");
        assert_eq!(one(&format!("{equipment}.StationName")), "EDGE1");
        assert_eq!(out.text(&path("Modality")), None);
    }
}

#[test]
fn un_of_undefined_length_is_edited_in_its_own_layout() {
    for (uid, layout) in [(EXPLICIT, EL), (BIG, EB)] {
        let inner = element(IL, 0x0008_0050, "", b"ACC1");
        let bytes = sequence(layout, 0x0040_0275, "UN", &[inner], false);
        let head = head(uid, &bytes);
        let out = plan(vec![set(
            "RequestAttributesSequence[0].AccessionNumber",
            VR::SH,
            b"CHANGED ",
        )]);
        let expected = sequence(
            layout,
            0x0040_0275,
            "UN",
            &[element(IL, 0x0008_0050, "", b"CHANGED ")],
            false,
        );
        assert_eq!(out.apply(&head).unwrap(), expected);
    }
}

#[test]
fn text_becomes_the_bytes_of_its_vr_and_character_set() {
    let bytes = [element(EL, 0x0008_0005, "CS", b"ISO_IR 100"), sample(EL)].concat();
    let head = head(EXPLICIT, &bytes);
    let made = |at: &str, values: &[&str]| Edit::text(&head, path(at), &strings(values));
    let good = [
        ("PatientName", vec!["MÜLLER^A"], VR::PN, b"M\xDCLLER^A".to_vec()),
        ("PatientID", vec!["A", "BC"], VR::LO, b"A\\BC".to_vec()),
        ("PatientID", vec![], VR::LO, Vec::new()),
        ("StudyInstanceUID", vec!["1.2"], VR::UI, b"1.2\0".to_vec()),
        ("Rows", vec!["512"], VR::US, vec![0, 2]),
        ("(0029,\"ACME\",01)", vec!["x"], VR::LO, b"x ".to_vec()),
        (
            "FrameIncrementPointer",
            vec!["(0018,1063)"],
            VR::AT,
            vec![0x18, 0, 0x63, 0x10],
        ),
    ];
    for (at, values, vr, value) in good {
        assert_eq!(
            made(at, &values),
            Ok(Edit::Set {
                path: path(at),
                vr,
                value
            }),
            "{at}"
        );
    }
    let long = "x".repeat(65);
    for (at, value, wrong) in [
        ("PatientName", "名", EditError::Unencodable),
        ("Modality", "Ü", EditError::Unencodable),
        ("StudyInstanceUID", "1.x", EditError::NotAUid),
        ("Rows", "70000", EditError::NotANumber),
        ("SeriesNumber", "1.5", EditError::NotANumber),
        ("AccessionNumber", "12345678901234567", EditError::TooLong),
        ("PatientName", &long, EditError::TooLong),
        ("ContentSequence", "x", EditError::NotAValue),
        ("OtherPatientIDsSequence", "x", EditError::NotAValue),
        ("PixelData", "x", EditError::NotText),
    ] {
        assert_eq!(made(at, &[value]), Err(wrong), "{at}");
    }
    // Sixty-four characters, not bytes, and in each group.
    assert!(made("PatientName", &[&format!("{0}={0}", "Ü".repeat(64))]).is_ok());
}

#[test]
fn rules_read_what_they_have_written() {
    let bytes = [element(EL, 0x0008_0005, "CS", b"ISO_IR 100"), sample(EL)].concat();
    let head = head(EXPLICIT, &bytes);
    let mut plan = Plan::default();
    let accession = path("ContentSequence[0].AccessionNumber");
    assert_eq!(plan.text(&head, &path("PatientID")), Some(strings(&["ID"])));
    plan.set_text(&head, path("PatientID"), &strings(&["É"])).unwrap();
    assert_eq!(plan.text(&head, &path("(0010,0020)")), Some(strings(&["É"])));
    assert_eq!(
        plan.set_text(&head, path("PatientName"), &strings(&["名"])),
        Err(EditError::Unencodable)
    );
    plan.set_text(&head, path("SpecificCharacterSet"), &strings(&["ISO_IR 192"]))
        .unwrap();
    plan.set_text(&head, path("PatientName"), &strings(&["名"])).unwrap();
    assert_eq!(plan.text(&head, &path("PatientName")), Some(strings(&["名"])));
    assert_eq!(edited(&head, &plan).text(&path("PatientName")), Some(strings(&["名"])));
    plan.set_text(&head, accession.clone(), &strings(&["NEW"])).unwrap();
    assert_eq!(plan.text(&head, &accession), Some(strings(&["NEW"])));
    plan.edits.push(Edit::Remove {
        path: path("ContentSequence"),
    });
    assert_eq!(plan.text(&head, &accession), None);
    plan.set_text(&head, accession.clone(), &strings(&["LAST"])).unwrap();
    assert_eq!(plan.text(&head, &accession), Some(strings(&["LAST"])));
    assert_eq!(edited(&head, &plan).text(&accession), Some(strings(&["LAST"])));
    let private = path("(0029,\"ACME\",01)");
    plan.set_text(&head, private.clone(), &strings(&["p"])).unwrap();
    assert_eq!(plan.text(&head, &private), Some(strings(&["p"])));
}

#[test]
fn stored_plans_are_read_back_and_damaged_ones_refused() {
    let plan = Plan {
        edits: vec![
            set("(0029,\"ÄCME\",01)[3].PatientID", VR::LO, b"value!"),
            Edit::Remove {
                path: path("ContentSequence[0].AccessionNumber"),
            },
        ],
        stamp: stamp(),
    };
    let bytes = plan.encode();
    assert_eq!(Plan::decode(&bytes), Ok(plan));
    assert_eq!(Plan::default().encode(), Vec::<u8>::new());
    assert_eq!(Plan::decode(&[]), Ok(Plan::default()));
    for cut in 1..bytes.len() {
        assert_eq!(Plan::decode(&bytes[..cut]), Err(EditError::Unreadable), "{cut}");
    }
    assert_eq!(Plan::decode(&[&bytes[..], &[0]].concat()), Err(EditError::Unreadable));
}

#[test]
fn plans_print_no_values() {
    let shown = format!("{:?}", plan(vec![set("PatientName", VR::PN, b"DOE^JANE")]));
    assert!(!shown.contains("DOE") && shown.contains("8 bytes"), "{shown}");
}

#[test]
fn setting_an_element_leaves_one_of_its_duplicates() {
    for (uid, layout) in LAYOUTS {
        let twice = |values: &[&[u8]]| {
            let all = values.iter().map(|value| element(layout, 0x0010_0020, "LO", value));
            [
                all.collect::<Vec<_>>().concat(),
                element(layout, 0x0010_0040, "CS", b"F "),
            ]
            .concat()
        };
        let item = [
            element(layout, 0x0008_0050, "SH", b"A1"),
            element(layout, 0x0008_0050, "SH", b"A2"),
        ]
        .concat();
        let inner = |item: Vec<u8>| sequence(layout, 0x0040_0275, "SQ", &[item], true);
        let bytes = [twice(&[b"ID", b"OLD ", b"ID"]), inner(item)].concat();
        let head = head(uid, &bytes);
        for value in [&b"NEW "[..], b"ID"] {
            let out = plan(vec![
                set("PatientID", VR::LO, value),
                set("RequestAttributesSequence[0].AccessionNumber", VR::SH, b"A1"),
            ]);
            let one = element(layout, 0x0008_0050, "SH", b"A1");
            assert_eq!(out.apply(&head).unwrap(), [twice(&[value]), inner(one)].concat());
        }
        assert!(head.is_repeated(&path("PatientID")) && !head.is_repeated(&path("PatientSex")));
    }
}

/// A sequence as a box that does not know it writes it into explicit layouts.
fn hidden(layout: Layout, tag: u32, items: &[Vec<u8>]) -> Vec<u8> {
    let items = items
        .iter()
        .map(|item| raw(IL, 0xFFFE_E000, "", item.len() as u32, item));
    element(layout, tag, "UN", &items.collect::<Vec<_>>().concat())
}

#[test]
fn un_of_declared_length_is_edited_and_stamped_as_the_sequence_it_is() {
    for (uid, layout) in [(EXPLICIT, EL), (BIG, EB)] {
        let code = sequence(IL, 0x0040_A170, "", &[element(IL, 0x0008_0100, "", b"109103")], false);
        let item = |accession: &[u8]| [element(IL, 0x0008_0050, "", accession), code.clone()].concat();
        let before = [
            hidden(layout, 0x0018_A001, &[item(b"C1")]),
            sequence(
                layout,
                0x0040_0275,
                "SQ",
                &[hidden(layout, 0x0040_A730, &[item(b"A1"), Vec::new()])],
                true,
            ),
            hidden(layout, 0x0400_0561, &[item(b"O1"), item(b"O2")]),
        ];
        let head = head(uid, &before.concat());
        let inner = path("RequestAttributesSequence[0].ContentSequence[0].AccessionNumber");
        assert_eq!(head.text(&inner), Some(strings(&["A1"])));
        assert_eq!(head.items(&path("OriginalAttributesSequence")), Some(2));
        let edit = Edit::text(&head, inner.clone(), &strings(&["LONGER"])).unwrap();
        let changed = hidden(layout, 0x0040_A730, &[item(b"LONGER"), Vec::new()]);
        let changed = sequence(layout, 0x0040_0275, "SQ", &[changed], true);
        let out = plan(vec![edit.clone()]).apply(&head).unwrap();
        assert_eq!(out, [&before[0], &changed, &before[2]].map(Clone::clone).concat());
        let stamped = Plan {
            edits: vec![edit],
            stamp: stamp(),
        };
        let after = edited(&head, &stamped);
        assert_eq!(after.items(&path("OriginalAttributesSequence")), Some(3));
        assert_eq!(after.items(&path("ContributingEquipmentSequence")), Some(2));
        let text = |at: &str| after.text(&path(at));
        assert_eq!(
            text("OriginalAttributesSequence[1].AccessionNumber"),
            Some(strings(&["O2"]))
        );
        assert_eq!(
            text("OriginalAttributesSequence[2].ModifyingSystem"),
            Some(strings(&["EDGE1"]))
        );
        let prior = "OriginalAttributesSequence[2].ModifiedAttributesSequence[0].RequestAttributesSequence";
        assert_eq!(after.items(&path(prior)), Some(1));
        let written = after.find(&path("OriginalAttributesSequence")).unwrap();
        assert_eq!(
            (after.nodes[written].vr, after.nodes[written].undefined),
            (VR::UN, false)
        );
    }
}

#[test]
fn the_sop_instance_uid_that_a_plan_writes_is_told() {
    let uid = |value: &[u8]| set("SOPInstanceUID", VR::UI, value);
    let told = |edits: Vec<Edit>| plan(edits).sop_instance().map(|uid| uid.to_string());
    assert_eq!(told(vec![uid(b"1.2.9\0")]).as_deref(), Some("1.2.9"));
    assert_eq!(told(vec![uid(b"1.2.9\0"), uid(b"1.2.10")]).as_deref(), Some("1.2.10"));
    let inner = set("ReferencedSOPSequence[0].SOPInstanceUID", VR::UI, b"1.2.9\0");
    for none in [uid(b"no UID"), inner, set("PatientID", VR::LO, b"77")] {
        assert_eq!(told(vec![none]), None);
    }
}
