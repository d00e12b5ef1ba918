//! Canaries in every attribute of the table, at the root and in items of items, with private and unknown elements between: none
//! may be left. And what each option keeps.
use super::*;
use crate::base::names::Uid;
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::has_long_length;
use crate::dicom::syntax::Syntax;
use std::collections::BTreeMap;

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

type Elements = BTreeMap<Tag, (VR, Vec<u8>)>;

fn key() -> Key {
    Key::of(b"0123456789abcdef0123456789abcdef")
}

fn bytes(elements: &Elements) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, (vr, value)) in elements {
        let mut value = value.clone();
        if value.len() % 2 == 1 {
            value.push(if *vr == VR::UI || *vr == VR::OB { 0 } else { b' ' });
        }
        out.extend_from_slice(&tag.0.to_le_bytes());
        out.extend_from_slice(&tag.1.to_le_bytes());
        out.extend_from_slice(&vr.to_bytes());
        if has_long_length(*vr) {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        } else {
            out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        }
        out.extend_from_slice(&value);
    }
    out
}

fn item(elements: &Elements) -> Vec<u8> {
    let inner = bytes(elements);
    let mut out = vec![0xFE, 0xFF, 0x00, 0xE0];
    out.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&inner);
    out
}

fn scan(data: &[u8]) -> Head {
    Head::scan(Syntax::of(&Uid::known(EXPLICIT)), data).unwrap()
}

fn texts(pairs: &[(&str, &str)]) -> Head {
    let mut head = scan(&[]);
    let mut pairs: Vec<(Path, &str)> = pairs
        .iter()
        .map(|(path, text)| (Path::parse(path).unwrap(), *text))
        .collect();
    pairs.sort();
    for (path, text) in pairs {
        let values: Vec<String> = text.split('\\').map(str::to_owned).collect();
        let edits = vec![Edit::text(&head, path, &values).unwrap()];
        head = scan(&Plan { edits, stamp: None }.apply(&head).unwrap());
    }
    head
}

fn applied(head: &Head, steps: &[Step]) -> Head {
    let edits = steps.iter().map(|step| step.edit.clone()).collect();
    let mut after = scan(&Plan { edits, stamp: None }.apply(head).unwrap());
    after.behind = head.behind;
    after
}

fn read(head: &Head, path: &str) -> Option<String> {
    head.text(&Path::parse(path).unwrap()).map(|values| values.join("\\"))
}

fn done(head: &Head, options: &Options) -> Head {
    let table = Table::default();
    let steps = deidentify(head, &table, &key(), options).unwrap();
    let after = applied(head, &steps);
    let again = deidentify(&after, &table, &key(), options).unwrap();
    assert_eq!(again, [], "twice is not once");
    after
}

/// A value of the VR that is found again in the bytes.
fn canary(vr: VR) -> Vec<u8> {
    match vr {
        VR::DA => b"20240229".to_vec(),
        VR::DT => b"20240229112233".to_vec(),
        VR::TM => b"112233".to_vec(),
        VR::UI => b"1.2.826.99999.1".to_vec(),
        VR::IS | VR::DS => b"775533".to_vec(),
        VR::AS => b"077Y".to_vec(),
        VR::US => vec![0xAD, 0xDE],
        _ => b"CANARY".to_vec(),
    }
}

const CANARIES: [&[u8]; 7] = [
    b"CANARY",
    b"20240229",
    b"112233",
    b"1.2.826.99999",
    b"775533",
    b"077Y",
    &[0xAD, 0xDE],
];

fn every_attribute(depth: usize) -> Elements {
    let mut all = Elements::new();
    for line in include_str!("table.txt").lines().filter(|line| !line.starts_with('#')) {
        let hex = line[..8].replace('x', "0");
        let number = u32::from_str_radix(&hex, 16).unwrap();
        let tag = Tag((number >> 16) as u16, number as u16);
        if tag.0 < 8 || tag.0 >= 0x7FE0 || tag == DOCUMENT {
            continue;
        }
        let tag = if tag.0 == 0x5000 { Tag(0x5000, 0x3000) } else { tag };
        let value = match dictionary_vr(tag) {
            VR::SQ if depth == 0 => (VR::SQ, Vec::new()),
            VR::SQ => (VR::SQ, item(&every_attribute(depth - 1))),
            VR::UN => (VR::LO, canary(VR::LO)),
            vr => (vr, canary(vr)),
        };
        all.insert(tag, value);
    }
    // Private, unknown to every dictionary, a sequence that the table does not list, and text where only structure is known.
    all.insert(Tag(0x0009, 0x0010), (VR::LO, b"CANARY CREATOR".to_vec()));
    all.insert(Tag(0x0009, 0x1001), (VR::LO, b"CANARY".to_vec()));
    all.insert(Tag(0x0010, 0x2FFE), (VR::LO, b"CANARY".to_vec()));
    all.insert(Tag(0x0040, 0xA160), (VR::UT, b"CANARY".to_vec()));
    if depth > 0 {
        all.insert(Tag(0x0008, 0x9215), (VR::SQ, item(&every_attribute(depth - 1))));
    }
    all
}

fn found(head: &Head) -> Vec<&'static [u8]> {
    let is_in = |canary: &&&[u8]| head.bytes.windows(canary.len()).any(|window| window == **canary);
    CANARIES.iter().filter(is_in).copied().collect()
}

#[test]
fn no_canary_is_left_in_any_attribute_at_any_depth() {
    let mut all = every_attribute(1);
    let one_level: Vec<Tag> = all
        .keys()
        .copied()
        .filter(|tag| dictionary_vr(*tag) == VR::SQ)
        .collect();
    assert!(one_level.len() > 50);
    all.insert(Tag(0x0008, 0x0016), (VR::UI, b"1.2.840.10008.5.1.4.1.1.2".to_vec()));
    let head = scan(&bytes(&all));
    assert_eq!(found(&head).len(), CANARIES.len(), "all are planted");
    for options in [
        Options::default(),
        Options {
            clean_structured: true,
            clean_graphics: true,
            words: Some(BTreeSet::from(["head".to_owned()])),
            ..Options::default()
        },
    ] {
        let after = done(&head, &options);
        assert_eq!(found(&after), [] as [&[u8]; 0]);
        assert_eq!(after.first(Tag(0x0008, 0x0016)), "1.2.840.10008.5.1.4.1.1.2");
        assert!(read(&after, "StudyInstanceUID").unwrap().starts_with("2.25."));
        assert_eq!(read(&after, "PatientIdentityRemoved").unwrap(), "YES");
    }
}

#[test]
fn references_stay_references_and_codes_say_what_was_done() {
    let head = texts(&[
        ("SOPInstanceUID", "1.2.3.4"),
        ("ReferencedImageSequence[0].ReferencedSOPInstanceUID", "1.2.3.4"),
        (
            "ReferencedImageSequence[0].ReferencedSOPClassUID",
            "1.2.840.10008.5.1.4.1.1.2",
        ),
        ("SeriesDescription", "Head JANE routine"),
    ]);
    let after = done(&head, &Options::default());
    let new = read(&after, "SOPInstanceUID").unwrap();
    assert_eq!(
        read(&after, "ReferencedImageSequence[0].ReferencedSOPInstanceUID").unwrap(),
        new
    );
    assert_ne!(new, "1.2.3.4");
    assert_eq!(
        read(&after, "ReferencedImageSequence[0].ReferencedSOPClassUID").unwrap(),
        "1.2.840.10008.5.1.4.1.1.2"
    );
    assert_eq!(read(&after, "SeriesDescription"), None);
    let options = Options {
        words: Some(BTreeSet::from(["head".to_owned(), "routine".to_owned()])),
        retain_uids: true,
        retain_device: true,
        ..Options::default()
    };
    let after = done(&head, &options);
    assert_eq!(read(&after, "SeriesDescription").unwrap(), "Head routine");
    assert_eq!(read(&after, "SOPInstanceUID").unwrap(), "1.2.3.4");
    let codes: Vec<String> = (0..4)
        .map(|at| read(&after, &format!("DeidentificationMethodCodeSequence[{at}].CodeValue")).unwrap())
        .collect();
    assert_eq!(codes, ["113100", "113105", "113109", "113110"]);
}

#[test]
fn each_option_keeps_its_own_and_no_more() {
    let head = texts(&[
        ("InstitutionName", "ST MARY"),
        ("DeviceSerialNumber", "D-1"),
        ("PatientAge", "095Y"),
        ("PatientSex", "F"),
        ("StudyDate", "20240229"),
        ("StudyTime", "101500"),
        ("PatientID", "4711"),
    ]);
    let keeps = |options: Options| {
        let after = done(&head, &options);
        [
            "InstitutionName",
            "DeviceSerialNumber",
            "PatientAge",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "PatientID",
        ]
        .map(|name| {
            read(&after, name)
                .unwrap_or_else(|| "-".to_owned())
                .replace(&key().text("4711"), "patient")
        })
    };
    let with = |set: fn(&mut Options)| {
        let mut options = Options::default();
        set(&mut options);
        keeps(options)
    };
    assert_eq!(with(|_| {}), ["REMOVED", "REMOVED", "-", "", "", "", "patient"]);
    assert_eq!(
        with(|o| o.retain_institution = true),
        ["ST MARY", "REMOVED", "-", "", "", "", "patient"]
    );
    assert_eq!(
        with(|o| o.retain_device = true),
        ["REMOVED", "D-1", "-", "", "", "", "patient"]
    );
    assert_eq!(
        with(|o| o.retain_patient = true),
        ["REMOVED", "REMOVED", "090Y", "F", "", "", "patient"]
    );
    assert_eq!(
        with(|o| o.dates = Dates::Full),
        ["REMOVED", "REMOVED", "-", "", "20240229", "101500", "patient"]
    );
    assert_eq!(
        with(|o| o.dates = Dates::Earlier(29)),
        ["REMOVED", "REMOVED", "-", "", "20240131", "101500", "patient"]
    );
}

#[test]
fn private_elements_stay_only_when_their_creator_and_number_are_named() {
    let mut all = Elements::new();
    for (element, text) in [
        (0x0010, "SAFE 1"),
        (0x0011, "OTHER"),
        (0x1001, "KEPT"),
        (0x1002, "GONE"),
        (0x1101, "GONE TOO"),
    ] {
        all.insert(Tag(0x0019, element), (VR::LO, text.as_bytes().to_vec()));
    }
    let head = scan(&bytes(&all));
    let after = done(
        &head,
        &Options {
            safe_private: vec![(0x0019, "SAFE 1".to_owned(), 0x01)],
            ..Options::default()
        },
    );
    assert_eq!(read(&after, "(0019,\"SAFE 1\",01)").unwrap(), "KEPT");
    assert!(
        !after
            .bytes
            .windows(4)
            .any(|window| window == b"GONE" || window == b"OTHE")
    );
}

#[test]
fn structured_content_keeps_its_numbers_and_loses_its_words() {
    let head = texts(&[
        ("ContentSequence[0].ValueType", "TEXT"),
        ("ContentSequence[0].TextValue", "seen by Dr. CANARY"),
        ("ContentSequence[1].ValueType", "NUM"),
        ("ContentSequence[1].MeasuredValueSequence[0].NumericValue", "42"),
        ("ContentSequence[2].PersonName", "CANARY^J"),
        ("ContentSequence[3].UID", "1.2.826.99999.1"),
    ]);
    let plain = done(&head, &Options::default());
    assert_eq!(plain.items(&Path::parse("ContentSequence").unwrap()), Some(1));
    assert_eq!(read(&plain, "ContentSequence[0].TextValue").unwrap(), "REMOVED");
    let cleaned = done(
        &head,
        &Options {
            clean_structured: true,
            ..Options::default()
        },
    );
    assert_eq!(
        read(&cleaned, "ContentSequence[1].MeasuredValueSequence[0].NumericValue").unwrap(),
        "42"
    );
    assert_eq!(read(&cleaned, "ContentSequence[0].TextValue").unwrap(), "REMOVED");
    assert_eq!(found(&cleaned), [] as [&[u8]; 0]);
    assert_eq!(found(&plain), [] as [&[u8]; 0]);
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let pixels = |more: &[u8]| {
        let mut data = bytes(&Elements::from([(Tag(0x0010, 0x0010), (VR::PN, b"A^B".to_vec()))]));
        data.extend_from_slice(&bytes(&Elements::from([(Tag(0x7FE0, 0x0010), (VR::OB, vec![0; 8]))])));
        data.extend_from_slice(more);
        scan(&data)
    };
    let judge = |head: &Head| deidentify(head, &Table::default(), &key(), &Options::default()).err();
    assert_eq!(judge(&pixels(&[])), None);
    let padding = bytes(&Elements::from([(Tag(0xFFFC, 0xFFFC), (VR::OB, b"CANARY".to_vec()))]));
    assert_eq!(judge(&pixels(&padding)), Some(Refused::Behind));
    let mut unseen = pixels(&[]);
    unseen.behind = Behind::Unseen;
    assert_eq!(judge(&unseen), Some(Refused::Behind));
    assert_eq!(shift(&unseen, &key(), 5), Err(Refused::Behind));
    let document = scan(&bytes(&Elements::from([(DOCUMENT, (VR::OB, b"%PDF".to_vec()))])));
    assert_eq!(judge(&document), Some(Refused::Document));
    let name = bytes(&Elements::from([(Tag(0x0010, 0x0010), (VR::PN, b"A^B ".to_vec()))]));
    assert_eq!(judge(&scan(&[name.clone(), name].concat())), Some(Refused::Repeated));
}

#[test]
fn a_shift_keeps_distances_and_is_made_once() {
    let head = texts(&[
        ("StudyDate", "20240301"),
        ("SeriesDate", "20240310"),
        ("AcquisitionDateTime", "20240301101500.25-0500"),
        ("StudyTime", "101500"),
        (
            "RequestAttributesSequence[0].ScheduledProcedureStepStartDate",
            "20240229",
        ),
        ("PatientBirthDate", "19300101"),
        ("PatientAge", "094Y"),
        ("ContentDate", "yesterda"),
    ]);
    let after = applied(&head, &shift(&head, &key(), 31).unwrap());
    for (path, wanted) in [
        ("StudyDate", "20240130"),
        ("SeriesDate", "20240208"),
        ("AcquisitionDateTime", "20240130101500.25-0500"),
        ("StudyTime", "101500"),
        (
            "RequestAttributesSequence[0].ScheduledProcedureStepStartDate",
            "20240129",
        ),
        ("PatientBirthDate", ""),
        ("PatientAge", "090Y"),
        ("ContentDate", ""),
        ("LongitudinalTemporalInformationModified", "MODIFIED"),
    ] {
        assert_eq!(read(&after, path).unwrap(), wanted, "{path}");
    }
    assert_eq!(shift(&after, &key(), 31).unwrap(), []);
    assert_ne!(shift(&after, &Key::of(b"another"), 31).unwrap(), []);
}

#[test]
fn uids_of_instances_change_together_and_those_of_classes_stay() {
    let head = texts(&[
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
        ("StudyInstanceUID", "1.2.3"),
        ("ReferencedStudySequence[0].ReferencedSOPInstanceUID", "1.2.3"),
        ("PatientID", "4711"),
    ]);
    let steps = replace_uids(&head, &Table::default(), &key(), Some("1.2.99")).unwrap();
    let after = applied(&head, &steps);
    let new = read(&after, "StudyInstanceUID").unwrap();
    assert!(new.starts_with("1.2.99."), "{new}");
    assert_eq!(
        read(&after, "ReferencedStudySequence[0].ReferencedSOPInstanceUID").unwrap(),
        new
    );
    assert_eq!(read(&after, "PatientID").unwrap(), "4711");
    assert_eq!(
        replace_uids(&after, &Table::default(), &key(), Some("1.2.99")).unwrap(),
        []
    );
}

#[test]
fn what_hides_where_no_value_of_its_kind_belongs_goes() {
    let canary = || b"CANARY".to_vec();
    for (tag, vr) in [
        // Sequences by the standard, texts by their header.
        (Tag(0x0008, 0x1140), VR::LO),
        (Tag(0x0008, 0x2112), VR::UN),
        (Tag(0x0054, 0x0016), VR::UT),
        (Tag(0x0040, 0xA730), VR::UN),
        // Group lengths, and elements that belong before a data set.
        (Tag(0x0009, 0x0000), VR::LO),
        (Tag(0x0018, 0x0000), VR::LO),
        (Tag(0x0002, 0x0016), VR::AE),
        (Tag(0x0004, 0x1500), VR::CS),
    ] {
        let mut all = Elements::from([(tag, (vr, canary()))]);
        all.insert(Tag(0x0018, 0x0050), (VR::DS, b"1.25".to_vec()));
        let head = scan(&bytes(&all));
        assert_eq!(found(&head), [b"CANARY" as &[u8]], "{tag}");
        for retain_patient in [false, true] {
            let options = Options {
                retain_patient,
                clean_structured: true,
                ..Options::default()
            };
            let after = done(&head, &options);
            assert_eq!(found(&after), [] as [&[u8]; 0], "{tag}");
            assert_eq!(read(&after, "SliceThickness").unwrap(), "1.25");
        }
    }
}

#[test]
fn an_instance_without_a_name_gets_one_of_its_own_once() {
    let head = texts(&[("StudyInstanceUID", "1.2.3")]);
    let step = named(&head, "1.2.3.4", &key(), None).unwrap();
    let after = applied(&head, &[step]);
    let given = read(&after, "SOPInstanceUID").unwrap();
    assert_eq!(given, key().uid("1.2.3.4", None));
    assert_eq!(named(&after, &given, &key(), None), None);
    assert_eq!(
        named(&texts(&[("SOPInstanceUID", "1.2.3.4")]), "1.2.3.4", &key(), None),
        None
    );
}
