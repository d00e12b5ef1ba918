//! The scanner against hand-built bytes, hostile ones, and random trees in every layout.
use super::*;
use crate::base::limits::{DEPTH_MAX, HEAD_MAX, NODES_MAX};
use crate::base::names::Uid;
use crate::base::properties::cases;
use crate::dicom::path::Path;
use proptest::prelude::*;

pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const BIG: &str = "1.2.840.10008.1.2.2";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const JPEG: &str = "1.2.840.10008.1.2.4.50";

pub(crate) fn syntax(uid: &'static str) -> Syntax {
    Syntax::of(&Uid::known(uid))
}

/// A header with any length, then the value.
pub(crate) fn raw(layout: Layout, tag: u32, vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&layout.put_u16((tag >> 16) as u16));
    bytes.extend_from_slice(&layout.put_u16(tag as u16));
    let is_item = tag >> 16 == 0xFFFE;
    if !layout.is_explicit() || is_item {
        bytes.extend_from_slice(&layout.put_u32(length));
    } else if has_long_length(vr.parse().unwrap_or(VR::UN)) {
        bytes.extend_from_slice(vr.as_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&layout.put_u32(length));
    } else {
        bytes.extend_from_slice(vr.as_bytes());
        bytes.extend_from_slice(&layout.put_u16(length as u16));
    }
    bytes.extend_from_slice(value);
    bytes
}

pub(crate) fn element(layout: Layout, tag: u32, vr: &str, value: &[u8]) -> Vec<u8> {
    raw(layout, tag, vr, value.len() as u32, value)
}

pub(crate) fn sequence(layout: Layout, tag: u32, vr: &str, items: &[Vec<u8>], defined: bool) -> Vec<u8> {
    let inside = if vr == "UN" && !defined {
        Layout::ImplicitLittle
    } else {
        layout
    };
    let mut body = Vec::new();
    for item in items {
        if defined {
            body.extend(raw(inside, 0xFFFE_E000, "", item.len() as u32, item));
        } else {
            body.extend(raw(inside, 0xFFFE_E000, "", u32::MAX, item));
            body.extend(raw(inside, 0xFFFE_E00D, "", 0, &[]));
        }
    }
    if defined {
        return element(layout, tag, vr, &body);
    }
    body.extend(raw(inside, 0xFFFE_E0DD, "", 0, &[]));
    raw(layout, tag, vr, u32::MAX, &body)
}

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    deflate.write_all(bytes).unwrap();
    deflate.finish().unwrap()
}

const EL: Layout = Layout::ExplicitLittle;
const IL: Layout = Layout::ImplicitLittle;
const EB: Layout = Layout::ExplicitBig;

fn scan(uid: &'static str, bytes: &[u8]) -> Result<Head, HeadError> {
    Head::scan(syntax(uid), bytes)
}

fn text(head: &Head, path: &str) -> Option<Vec<String>> {
    head.text(&Path::parse(path).unwrap())
}

/// A small data set with every kind of element but pixels.
fn sample(layout: Layout) -> Vec<u8> {
    let nested = sequence(
        layout,
        0x0040_0008,
        "SQ",
        &[element(layout, 0x0008_0100, "SH", b"CODE")],
        false,
    );
    let item = [element(layout, 0x0008_0050, "SH", b"ACC1"), nested].concat();
    let rows: [u8; 2] = layout.put_u16(512);
    [
        element(layout, 0x0008_0016, "UI", b"1.2.3\0"),
        element(layout, 0x0008_0060, "CS", b"CT"),
        element(layout, 0x0010_0010, "PN", b"DOE^JANE=X "),
        element(layout, 0x0010_0020, "LO", b" A\\B "),
        element(layout, 0x0028_0010, "US", &rows),
        sequence(layout, 0x0040_0275, "SQ", &[item.clone(), Vec::new()], true),
        sequence(layout, 0x0040_A730, "SQ", &[item], false),
    ]
    .concat()
}

#[test]
fn every_layout_gives_the_same_values() {
    for (uid, layout) in [(IMPLICIT, IL), (EXPLICIT, EL), (BIG, EB), (DEFLATED, EL), (JPEG, EL)] {
        let plain = sample(layout);
        let bytes = if uid == DEFLATED {
            deflate(&plain)
        } else {
            plain.clone()
        };
        let head = scan(uid, &bytes).unwrap();
        assert_eq!(
            (head.end, head.follows, &head.bytes[..]),
            (HeadEnd::DataSet, None, &plain[..])
        );
        assert_eq!(head.first(Tag(8, 0x16)), "1.2.3");
        assert_eq!(text(&head, "PatientName").unwrap(), ["DOE^JANE=X"]);
        assert_eq!(text(&head, "PatientID").unwrap(), ["A", "B"]);
        assert_eq!(text(&head, "Rows").unwrap(), ["512"]);
        assert_eq!(
            text(&head, "RequestAttributesSequence[0].AccessionNumber").unwrap(),
            ["ACC1"]
        );
        let code = "ContentSequence[0].ScheduledProtocolCodeSequence[0].CodeValue";
        assert_eq!(text(&head, code).unwrap(), ["CODE"]);
        assert_eq!(head.items(&Path::parse("RequestAttributesSequence").unwrap()), Some(2));
        assert_eq!(text(&head, "RequestAttributesSequence[1].AccessionNumber"), None);
        assert_eq!(text(&head, "RequestAttributesSequence[2].AccessionNumber"), None);
        assert_eq!(text(&head, "PatientID[0].AccessionNumber"), None);
        assert_eq!(text(&head, "RequestAttributesSequence"), None);
    }
}

#[test]
fn pixels_end_the_head_and_a_cut_data_set_is_noticed() {
    let before = sample(EL);
    let fragments = [
        raw(EL, 0x7FE0_0010, "OB", u32::MAX, &[]),
        raw(EL, 0xFFFE_E000, "", 0, &[]),
        raw(EL, 0xFFFE_E000, "", 6, b"\xFF\xD8\xFE\xFF\xDD\xE0"),
        raw(EL, 0xFFFE_E0DD, "", 0, &[]),
    ]
    .concat();
    let plain = element(EL, 0x7FE0_0010, "OW", &[7; 300]);
    for pixels in [fragments, plain] {
        let all = [before.clone(), pixels.clone(), element(EL, 0xFFFC_FFFC, "OB", &[0; 4])].concat();
        let head = scan(JPEG, &all).unwrap();
        assert_eq!((head.end, head.follows), (HeadEnd::Pixels, Some(Tag(0x7FE0, 0x10))));
        assert_eq!(&head.bytes[..], before);
        for cut in before.len() + 1..before.len() + pixels.len() {
            let found = scan(JPEG, &all[..cut]);
            assert!(matches!(found, Err(HeadError::Truncated { .. })), "{cut} {found:?}");
        }
    }
}

#[test]
fn a_head_cut_anywhere_is_truncated_or_ends_between_elements() {
    for (uid, layout) in [(IMPLICIT, IL), (EXPLICIT, EL), (BIG, EB)] {
        let all = sample(layout);
        let whole = scan(uid, &all).unwrap();
        let ends: Vec<usize> = whole
            .children(None)
            .map(|node| whole.nodes[node].end as usize)
            .collect();
        for cut in 1..all.len() {
            match scan(uid, &all[..cut]) {
                Ok(head) => {
                    // Whole elements, and behind them at most a tag's zero bytes, which look like padding.
                    let last = head.nodes.last().map_or(0, |node| node.end as usize);
                    assert!(
                        ends.contains(&cut) || all[last..cut].iter().all(|byte| *byte == 0),
                        "{uid} {cut}"
                    );
                }
                Err(HeadError::Truncated { .. }) => assert!(!ends.contains(&cut)),
                Err(other) => panic!("{uid} {cut} {other}"),
            }
        }
    }
}

#[test]
fn sixty_four_sequences_are_accepted_and_one_more_is_not() {
    let nested = |count: usize| {
        let mut bytes = Vec::new();
        for _ in 0..count {
            bytes = sequence(EL, 0x0040_A730, "SQ", &[bytes], false);
        }
        bytes
    };
    assert_eq!(scan(EXPLICIT, &nested(DEPTH_MAX)).unwrap().nodes.len(), 2 * DEPTH_MAX);
    assert_eq!(
        scan(EXPLICIT, &nested(DEPTH_MAX + 1)),
        Err(HeadError::TooDeep(DEPTH_MAX))
    );
    let open = [
        raw(EL, 0x0040_A730, "SQ", u32::MAX, &[]),
        raw(EL, 0xFFFE_E000, "", u32::MAX, &[]),
    ]
    .concat();
    assert_eq!(
        scan(EXPLICIT, &open.repeat(1_000_000)),
        Err(HeadError::TooDeep(DEPTH_MAX))
    );
}

#[test]
fn too_many_elements_are_refused() {
    let bytes = element(IL, 0x0009_1001, "", &[]).repeat(NODES_MAX);
    assert_eq!(scan(IMPLICIT, &bytes).unwrap().nodes.len(), NODES_MAX);
    assert_eq!(scan(IMPLICIT, &bytes.repeat(2)), Err(HeadError::TooMany(NODES_MAX)));
}

#[test]
fn a_declared_length_of_four_gibibytes_costs_nothing_and_is_a_cut_data_set() {
    let start = element(EL, 0x0010_0020, "LO", b"ID");
    let huge = raw(EL, 0x0011_1001, "OB", u32::MAX - 1, b"few");
    let mut scanner = Scanner::new(syntax(EXPLICIT));
    let progress = scanner.push(&[start.clone(), huge].concat()).unwrap();
    assert_eq!(progress, Progress::HeadComplete);
    let head = scanner.head().unwrap();
    assert_eq!(
        (head.end, head.follows, &head.bytes[..]),
        (HeadEnd::Cap, Some(Tag(0x11, 0x1001)), &start[..])
    );
    let at = start.len() as u64 + 15;
    let tag = Tag(0x11, 0x1001);
    assert_eq!(scanner.finish(), Err(HeadError::Truncated { tag, at }));
}

#[test]
fn the_head_ends_before_the_element_that_passes_the_cap() {
    let first = element(EL, 0x0010_0020, "LO", b"ID");
    let long = element(EL, 0x0011_1001, "OB", &vec![1; HEAD_MAX]);
    let items = vec![element(EL, 0x0008_0100, "SH", &[b'x'; 1000]); HEAD_MAX / 1000];
    for vr in ["SQ", "UN"] {
        let layout = if vr == "UN" { IL } else { EL };
        let inner = vec![element(layout, 0x0008_0100, "SH", &[b'x'; 1000]); items.len()];
        let over = sequence(EL, 0x0040_A730, vr, &inner, false);
        for middle in [&over, &long, &sequence(EL, 0x0040_A730, "SQ", &items, true)] {
            let all = [first.clone(), middle.clone(), element(EL, 0x0041_0010, "LO", b"x ")].concat();
            let head = scan(EXPLICIT, &all).unwrap();
            assert_eq!(
                (head.end, &head.bytes[..], head.nodes.len()),
                (HeadEnd::Cap, &first[..], 1)
            );
            for cut in [all.len() - 1, all.len() - 11, all.len() - 2000] {
                assert!(
                    matches!(scan(EXPLICIT, &all[..cut]), Err(HeadError::Truncated { .. })),
                    "{cut}"
                );
            }
        }
    }
}

#[test]
fn quirks_of_real_devices_are_read() {
    let empty = scan(EXPLICIT, &[]).unwrap();
    assert!(empty.nodes.is_empty() && empty.end == HeadEnd::DataSet);
    assert_eq!(scan(DEFLATED, &[]).unwrap().nodes.len(), 0);
    let id = element(EL, 0x0010_0020, "LO", b"ID");
    // CP-246: implicit inside UN of undefined length, whatever is around it.
    for (uid, layout) in [(EXPLICIT, EL), (BIG, EB)] {
        let un = sequence(
            layout,
            0x0040_0275,
            "UN",
            &[element(IL, 0x0008_0050, "", b"ACC2")],
            false,
        );
        let all = [un, element(layout, 0x0040_1001, "SH", b"RP")].concat();
        let head = scan(uid, &all).unwrap();
        assert_eq!(
            text(&head, "RequestAttributesSequence[0].AccessionNumber").unwrap(),
            ["ACC2"]
        );
        assert_eq!(text(&head, "RequestedProcedureID").unwrap(), ["RP"]);
    }
    let quirks: [&[u8]; 5] = [
        b"\x11\x00\x01\x10??\x02\x00ab",
        b"\x11\x00\x01\x10OX\x00\x00\x02\x00\x00\x00ab",
        b"\x11\x00\x01\x10UN\x02\x00ab",
        b"\x11\x00\x01\x10LO\x03\x00abc",
        b"\x02\x00\x10\x00UI\x02\x001\0",
    ];
    for quirk in quirks {
        let all = [quirk, id.as_slice(), &[0; 7]].concat();
        let head = scan(EXPLICIT, &all).unwrap_or_else(|wrong| panic!("{quirk:?} {wrong}"));
        assert_eq!(
            (text(&head, "PatientID").unwrap(), head.bytes.len()),
            (vec!["ID".to_owned()], all.len())
        );
    }
    let twice = [
        element(EL, 0x0010_0020, "LO", b"1 "),
        id,
        element(EL, 0x0008_0060, "CS", b"CT"),
    ]
    .concat();
    let head = scan(EXPLICIT, &twice).unwrap();
    assert_eq!(
        (head.first(Tag(0x10, 0x20)), head.first(Tag(8, 0x60))),
        ("1".to_owned(), "CT".to_owned())
    );
}

#[test]
fn un_of_declared_length_stays_opaque_unless_it_is_a_sequence_of_the_dictionary() {
    let item = raw(IL, 0xFFFE_E000, "", 10, &element(IL, 0x0008_0050, "", b"A1"));
    let explicit = raw(EL, 0xFFFE_E000, "", 10, &element(EL, 0x0008_0050, "SH", b"A1"));
    let cut = item[..item.len() - 1].to_vec();
    for (tag, value, is_sequence) in [
        (0x0040_0275, [item.clone(), item.clone()].concat(), true),
        (0x0040_0275, [item.clone(), cut].concat(), false),
        (0x0040_0275, explicit, false),
        (0x0040_0275, b"some text".to_vec(), false),
        (0x0040_0275, Vec::new(), false),
        (0x0010_0020, item.clone(), false),
        (0x0041_1010, item, false),
    ] {
        let bytes = [element(EL, tag, "UN", &value), element(EL, 0x0088_0140, "UI", b"1.2\0")].concat();
        let head = scan(EXPLICIT, &bytes).unwrap();
        assert_eq!(head.nodes[0].kind == Kind::Sequence, is_sequence, "{tag:08X}");
        assert_eq!(head.raw(0), value);
        assert_eq!(head.children(None).count(), 2);
        assert_eq!(text(&head, "(0088,0140)"), Some(vec!["1.2".to_owned()]));
    }
}

#[test]
fn encapsulated_icons_inside_sequences_are_passed_over() {
    let icon = [
        raw(EL, 0x7FE0_0010, "OB", u32::MAX, &[]),
        raw(EL, 0xFFFE_E000, "", 4, b"\xFE\xFF\x00\xE0"),
        raw(EL, 0xFFFE_E0DD, "", 0, &[]),
    ]
    .concat();
    let all = [
        sequence(EL, 0x0088_0200, "SQ", &[icon], true),
        element(EL, 0x0088_0140, "UI", b"1.2\0"),
    ]
    .concat();
    let head = scan(JPEG, &all).unwrap();
    assert_eq!(head.first(Tag(0x88, 0x140)), "1.2");
    assert!(head.nodes.iter().any(|node| node.kind == Kind::Fragments));
}

#[test]
fn broken_structure_is_named() {
    let item = raw(EL, 0xFFFE_E000, "", 0, &[]);
    let at_root = scan(EXPLICIT, &item);
    assert_eq!(at_root, Err(HeadError::Unexpected { tag: ITEM, at: 0 }));
    let element_in_sequence = element(EL, 0x0040_0275, "SQ", &element(EL, 0x0008_0050, "SH", b"AB"));
    let tag = Tag(8, 0x50);
    assert_eq!(
        scan(EXPLICIT, &element_in_sequence),
        Err(HeadError::Unexpected { tag, at: 12 })
    );
    let long = raw(EL, 0x0008_0050, "SH", 200, b"AB");
    let overrun = sequence(EL, 0x0040_0275, "SQ", &[long], true);
    assert_eq!(scan(EXPLICIT, &overrun), Err(HeadError::Overrun { tag, at: 20 }));
    for vr in [b"  ", b"\0\0", b"lo"] {
        let bytes = [b"\x08\x00\x50\x00", vr.as_slice(), b"\x02\x00AB"].concat();
        assert_eq!(scan(EXPLICIT, &bytes), Err(HeadError::BadVr { tag, at: 0 }));
    }
    // What stands behind an item too short for a header is none of it, however much of it is here already.
    let short = sequence(EL, 0x0040_0275, "SQ", &[vec![0; 4]], true);
    let whole = [short.as_slice(), &[9; 8]].concat();
    for cut in [short.len(), whole.len()] {
        assert_eq!(
            scan(EXPLICIT, &whole[..cut]),
            Err(HeadError::Overrun { tag: ITEM, at: 20 })
        );
    }
}

#[test]
fn deflated_streams_of_all_writers_are_inflated_and_broken_ones_refused() {
    use std::io::Write;
    let plain = sample(EL);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(&plain).unwrap();
    for bytes in [[deflate(&plain), vec![0]].concat(), zlib.finish().unwrap()] {
        assert_eq!(&scan(DEFLATED, &bytes).unwrap().bytes[..], plain);
    }
    let whole = deflate(&plain);
    for cut in 1..whole.len() {
        assert!(scan(DEFLATED, &whole[..cut]).is_err(), "{cut}");
    }
    assert_eq!(scan(DEFLATED, &[0xFF; 40]), Err(HeadError::BadDeflate));
}

#[test]
fn a_deflate_bomb_ends_at_a_limit() {
    let zeros = vec![0; 16 << 20];
    let cases = [
        deflate(&element(EL, 0x0011_1001, "OB", &zeros)),
        deflate(&raw(EL, 0x0011_1001, "UN", u32::MAX, &zeros)),
        deflate(&element(EL, 0x0011_1001, "OB", &zeros[..3 << 20]).repeat(5)),
    ];
    assert_eq!(scan(DEFLATED, &cases[0]).unwrap().end, HeadEnd::Cap);
    for case in &cases[1..] {
        let found = scan(DEFLATED, case);
        assert!(
            found.as_ref().is_err_and(|wrong| *wrong != HeadError::BadDeflate)
                || found.is_ok_and(|head| head.bytes.len() <= HEAD_MAX)
        );
    }
}

/// A random element: a text, a number, or a sequence in one of the ways of writing it.
fn tree(layout: Layout, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let leaf = prop_oneof![
        (0u32..40, "[ -~]{0,20}").prop_map(move |(low, value)| element(
            layout,
            0x0009_1000 + low,
            "LO",
            value.as_bytes()
        )),
        (0u32..40, any::<Vec<u8>>()).prop_map(move |(low, value)| element(layout, 0x0019_1000 + low, "OB", &value)),
        any::<u16>().prop_map(move |value| element(layout, 0x0028_0010, "US", &layout.put_u16(value))),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let items = |layout| prop::collection::vec(prop::collection::vec(tree(layout, depth - 1), 0..4), 0..3);
    let joined = |items: Vec<Vec<Vec<u8>>>| items.iter().map(|item| item.concat()).collect::<Vec<_>>();
    prop_oneof![
        4 => leaf,
        1 => (items(layout), any::<bool>()).prop_map(move |(items, defined)| sequence(layout, 0x0040_0275, "SQ", &joined(items), defined)),
        1 => items(IL).prop_map(move |items| sequence(layout, 0x0040_A730, "UN", &joined(items), false)),
    ]
    .boxed()
}

pub(crate) fn any_data_set() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    prop::sample::select(vec![(IMPLICIT, IL), (EXPLICIT, EL), (BIG, EB)]).prop_flat_map(|(uid, layout)| {
        let trees = prop::collection::vec(tree(layout, 3), 0..8);
        (Just(uid), trees.prop_map(|trees| trees.concat()))
    })
}

fn in_pieces(uid: &'static str, bytes: &[u8], sizes: &[usize]) -> Result<Head, HeadError> {
    let mut scanner = Scanner::new(syntax(uid));
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*size));
        scanner.push(now)?;
        rest = later;
    }
    scanner.finish()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn any_split_gives_the_same_head((uid, bytes) in any_data_set(), sizes in prop::collection::vec(1usize..40, 1..20), cut in any::<prop::sample::Index>(), pixels in any::<bool>()) {
        let layout = syntax(uid).layout;
        let after = if pixels { element(layout, 0x7FE0_0010, "OW", &[9; 50]) } else { Vec::new() };
        let all = [bytes.clone(), after].concat();
        let whole = Head::scan(syntax(uid), &all);
        prop_assert_eq!(&whole.as_ref().map(|head| head.bytes.to_vec()), &Ok(bytes));
        prop_assert_eq!(in_pieces(uid, &all, &[1]), whole.clone());
        prop_assert_eq!(in_pieces(uid, &all, &sizes), whole);
        let part = &all[..cut.index(all.len() + 1)];
        prop_assert_eq!(in_pieces(uid, part, &sizes), Head::scan(syntax(uid), part));
        if layout == EL {
            let deflated = deflate(&all);
            prop_assert_eq!(in_pieces(DEFLATED, &deflated, &sizes).map(|head| head.nodes), Head::scan(syntax(EXPLICIT), &all).map(|head| head.nodes));
        }
    }

    #[test]
    fn random_bytes_never_panic(uid in prop::sample::select(vec![IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG]), bytes in any::<Vec<u8>>(), (_, good) in any_data_set(), at in any::<prop::sample::Index>()) {
        let mut mixed = good;
        let place = at.index(mixed.len() + 1);
        mixed.splice(place..place, bytes.iter().copied());
        for bytes in [&bytes, &mixed] {
            let whole = Head::scan(syntax(uid), bytes);
            prop_assert_eq!(&in_pieces(uid, bytes, &[1, 3]), &whole);
            let Ok(head) = whole else { continue };
            for (index, node) in head.nodes.iter().enumerate() {
                prop_assert!(node.start < node.value && node.value <= node.end && node.end as usize <= head.bytes.len());
                prop_assert!(node.next as usize > index && node.next as usize <= head.nodes.len());
                let _ = head.text(&Path::tag(node.tag));
            }
        }
    }
}
