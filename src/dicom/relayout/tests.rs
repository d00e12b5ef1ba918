//! The relayout against a writer of the tests' own, over random trees, and case by case.
use super::*;
use crate::base::names::Uid;
use crate::dicom::head::Head;
use crate::dicom::syntax::Syntax;
use proptest::prelude::*;

const ALL: [Layout; 3] = [Layout::ImplicitLittle, Layout::ExplicitLittle, Layout::ExplicitBig];

/// An element as the tests mean it: numbers in little endian.
#[derive(Clone, Debug)]
enum Element {
    Value(Tag, VR, Vec<u8>),
    /// Items, and whether its and their lengths are declared.
    Sequence(Tag, Vec<Vec<Element>>, bool),
}

/// A writer of its own, which the relayout has no part in.
fn write(elements: &[Element], layout: Layout, undefined: Option<bool>) -> Vec<u8> {
    let mut out = Vec::new();
    for element in elements {
        match element {
            Element::Value(tag, vr, value) => {
                put_tag(&mut out, layout, *tag);
                let mut value = value.clone();
                if value.len() % 2 == 1 {
                    value.push(padding(*vr));
                }
                if layout.is_big() {
                    let size = unit(*vr);
                    value
                        .chunks_mut(size)
                        .filter(|n| n.len() == size)
                        .for_each(<[u8]>::reverse);
                }
                if layout.is_explicit() {
                    put_vr(&mut out, layout, (*vr, None), value.len() as u32);
                } else {
                    out.extend_from_slice(&layout.put_u32(value.len() as u32));
                }
                out.extend_from_slice(&value);
            }
            Element::Sequence(tag, items, declared) => {
                let open = undefined.unwrap_or(!declared);
                let mut inner = Vec::new();
                for item in items {
                    let body = write(item, layout, undefined);
                    let length = if open && !body.is_empty() {
                        u32::MAX
                    } else {
                        body.len() as u32
                    };
                    put_plain(&mut inner, layout, ITEM, length);
                    inner.extend_from_slice(&body);
                    if length == u32::MAX {
                        put_plain(&mut inner, layout, ITEM_END, 0);
                    }
                }
                put_tag(&mut out, layout, *tag);
                if layout.is_explicit() {
                    out.extend_from_slice(b"SQ\0\0");
                }
                let length = if open && !inner.is_empty() {
                    u32::MAX
                } else {
                    inner.len() as u32
                };
                out.extend_from_slice(&layout.put_u32(length));
                out.extend_from_slice(&inner);
                if length == u32::MAX {
                    put_plain(&mut out, layout, SEQUENCE_END, 0);
                }
            }
        }
    }
    out
}

fn run(from: Layout, to: Layout, bytes: &[u8], piece: usize) -> Result<Vec<u8>, RelayoutError> {
    let mut relayout = Relayout::new(from, to);
    let mut out = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        relayout.push(piece, &mut out)?;
    }
    relayout.finish(&mut out)?;
    Ok(out)
}

/// Elements whose VR the dictionary knows, so that implicit sources infer the same.
fn values() -> impl Strategy<Value = Element> {
    let known = [
        (Tag(0x0008, 0x0008), VR::CS),
        (Tag(0x0008, 0x0018), VR::UI),
        (Tag(0x0010, 0x0010), VR::PN),
        (Tag(0x0009, 0x0010), VR::LO),
        (Tag(0x0018, 0x6020), VR::SL),
        (Tag(0x0018, 0x9306), VR::FD),
        (Tag(0x0020, 0x9165), VR::AT),
        (Tag(0x0028, 0x0009), VR::AT),
        (Tag(0x0028, 0x0010), VR::US),
        (Tag(0x0028, 0x1201), VR::OW),
        (Tag(0x0018, 0x1063), VR::DS),
        (Tag(0x0066, 0x0016), VR::OF),
        (Tag(0x7FE0, 0x0010), VR::OW),
        (Tag(0x0009, 0x1001), VR::UN),
    ];
    (
        prop::sample::select(known.to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|((tag, vr), bytes)| Element::Value(tag, vr, bytes))
}

fn trees() -> impl Strategy<Value = Vec<Element>> {
    let leaf = prop::collection::vec(values(), 0..5);
    leaf.prop_recursive(4, 40, 4, |inner| {
        let sequence = (prop::collection::vec(inner, 0..4), any::<bool>())
            .prop_map(|(items, declared)| Element::Sequence(Tag(0x0008, 0x1140), items, declared));
        prop::collection::vec(prop_oneof![values(), sequence], 0..5)
    })
}

proptest! {
    /// Any layout to any other, lengths declared or not, in pieces of any size: every value stands again in its new place.
    #[test]
    fn every_value_stands_again(tree in trees(), from in 0..3_usize, to in 0..3_usize, piece in 1..50_usize) {
        let (from, to) = (ALL[from], ALL[to]);
        let source = write(&tree, from, None);
        prop_assert_eq!(run(from, to, &source, piece).unwrap(), write(&tree, to, Some(true)));
    }

    /// Bytes that are no data set end in an error or in something; they never panic, and never grow without bounds.
    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300), from in 0..3_usize, to in 0..3_usize) {
        if let Ok(out) = run(ALL[from], ALL[to], &noise, 7) {
            prop_assert!(out.len() <= 8 * noise.len() + 64);
        }
    }

    /// A data set that is cut is never completed.
    #[test]
    fn a_cut_data_set_is_an_error(tree in trees(), at in any::<prop::sample::Index>()) {
        let source = write(&[Element::Sequence(Tag(0x0008, 0x1140), vec![tree], false)], Layout::ExplicitLittle, None);
        if source.len() > 20 {
            let cut = 12 + at.index(source.len() - 16);
            prop_assert!(run(Layout::ExplicitLittle, Layout::ImplicitLittle, &source[..cut], 16).is_err());
        }
    }
}

fn explicit(tag: Tag, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_tag(&mut out, Layout::ExplicitLittle, tag);
    out.extend_from_slice(vr);
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out
}

#[test]
fn signed_numbers_follow_the_pixel_representation_of_their_item() {
    let layout = Layout::ImplicitLittle;
    let tree = [
        Element::Value(Tag(0x0028, 0x0103), VR::US, vec![1, 0]),
        Element::Value(Tag(0x0028, 0x0120), VR::SS, vec![0x30, 0xF8]),
    ];
    let out = run(layout, Layout::ExplicitLittle, &write(&tree, layout, None), 3).unwrap();
    assert_eq!(out, write(&tree, Layout::ExplicitLittle, None));
    let unsigned = [
        Element::Value(Tag(0x0028, 0x0103), VR::US, vec![0, 0]),
        Element::Value(Tag(0x0028, 0x0120), VR::US, vec![0x30, 0xF8]),
    ];
    let out = run(layout, Layout::ExplicitLittle, &write(&unsigned, layout, None), 3).unwrap();
    assert_eq!(out, write(&unsigned, Layout::ExplicitLittle, None));
}

const SIGNED: [u8; 2] = [0xFB, 0xFF];

fn representation(signed: u8) -> Element {
    Element::Value(Tag(0x0028, 0x0103), VR::US, vec![signed, 0])
}

/// Zero Velocity Pixel Value, which stands before Pixel Representation.
fn before(vr: VR) -> Element {
    Element::Value(Tag(0x0018, 0x9810), vr, SIGNED.to_vec())
}

/// Smallest Image Pixel Value, which stands behind it.
fn behind(vr: VR) -> Element {
    Element::Value(Tag(0x0028, 0x0106), vr, SIGNED.to_vec())
}

#[test]
fn signed_numbers_before_the_pixel_representation_follow_it_too() {
    let (us, ss) = (VR::US, VR::SS);
    let other = || Element::Value(Tag(0x0018, 0x1063), VR::DS, b"33".to_vec());
    let items = |tag, items: Vec<Vec<Element>>, declared| Element::Sequence(tag, items, declared);
    let (early, late) = (Tag(0x0008, 0x1140), Tag(0x5200, 0x9230));
    for declared in [false, true] {
        let trees = [
            vec![other(), before(ss), other(), representation(1), behind(ss)],
            vec![other(), before(us), other(), representation(0), behind(us)],
            // None at all, before another group and at the end.
            vec![before(us), Element::Value(Tag(0x0040, 0x0253), VR::SH, b"12".to_vec())],
            vec![before(us)],
            // In items of the data set's, and with their own.
            vec![
                items(
                    early,
                    vec![
                        vec![before(ss), behind(ss)],
                        vec![before(us), representation(0), behind(us)],
                        vec![
                            items(early, vec![vec![other(), before(ss)]], declared),
                            other(),
                            before(ss),
                        ],
                        vec![],
                    ],
                    declared,
                ),
                before(ss),
                representation(1),
                items(
                    late,
                    vec![
                        vec![before(ss), behind(ss)],
                        vec![
                            items(early, vec![vec![before(us)]], declared),
                            before(us),
                            representation(0),
                        ],
                        vec![items(late, vec![vec![behind(ss)]], declared)],
                    ],
                    declared,
                ),
            ],
        ];
        for tree in trees {
            let source = write(&tree, Layout::ImplicitLittle, None);
            for to in [Layout::ExplicitLittle, Layout::ExplicitBig] {
                for piece in [1, 7, 10_000] {
                    let out = run(Layout::ImplicitLittle, to, &source, piece).unwrap();
                    assert_eq!(out, write(&tree, to, Some(true)), "{tree:?} in pieces of {piece}");
                }
            }
        }
    }
}

#[test]
fn a_sign_is_not_waited_for_without_bounds() {
    let long = Element::Value(Tag(0x0018, 0x1063), VR::DS, vec![b'1'; 5 << 20]);
    let implicit = |tree: &[Element]| write(tree, Layout::ImplicitLittle, None);
    let source = implicit(&[before(VR::SS), long.clone(), representation(1)]);
    assert_eq!(
        run(Layout::ImplicitLittle, Layout::ExplicitLittle, &source, 64 << 10),
        Err(RelayoutError::SignFar(Tag(0x0018, 0x9810)))
    );
    // Only what is in doubt is held, and only where VRs are written.
    let known = implicit(&[representation(1), behind(VR::SS), long]);
    run(Layout::ImplicitLittle, Layout::ExplicitLittle, &known, 64 << 10).unwrap();
    run(Layout::ImplicitLittle, Layout::ImplicitLittle, &source, 64 << 10).unwrap();
}

#[test]
fn pixels_of_eight_bits_become_bytes_and_are_not_turned_round() {
    let layout = Layout::ImplicitLittle;
    let tree = [
        Element::Value(Tag(0x0028, 0x0100), VR::US, vec![8, 0]),
        Element::Value(Tag(0x7FE0, 0x0010), VR::OB, vec![1, 2, 3, 4]),
    ];
    let out = run(layout, Layout::ExplicitBig, &write(&tree, layout, None), 64).unwrap();
    assert_eq!(out, write(&tree, Layout::ExplicitBig, None));
}

#[test]
fn group_lengths_and_padding_do_not_leave() {
    let patient = explicit(Tag(0x0010, 0x0020), b"LO", b"12");
    let source = [
        explicit(Tag(0x0010, 0), b"UL", &[10, 0, 0, 0]),
        patient.clone(),
        vec![0, 0],
    ]
    .concat();
    assert_eq!(
        run(Layout::ExplicitLittle, Layout::ExplicitLittle, &source, 5).unwrap(),
        patient
    );
}

#[test]
fn un_keeps_its_bytes_and_what_it_hides() {
    let layout = Layout::ExplicitLittle;
    let mut source = Vec::new();
    put_tag(&mut source, layout, Tag(0x0009, 0x1010));
    source.extend_from_slice(b"UN\0\0\xFF\xFF\xFF\xFF");
    put_plain(&mut source, Layout::ImplicitLittle, ITEM, 12);
    put_tag(&mut source, Layout::ImplicitLittle, Tag(0x0028, 0x0010));
    source.extend_from_slice(&[4, 0, 0, 0, 1, 2, 3, 4]);
    put_plain(&mut source, Layout::ImplicitLittle, SEQUENCE_END, 0);
    let big = run(layout, Layout::ExplicitBig, &source, 9).unwrap();
    let head = Head::scan(Syntax::of(&Uid::known("1.2.840.10008.1.2.2")), &big).unwrap();
    let hidden = head
        .nodes
        .iter()
        .position(|node| node.tag == Tag(0x0028, 0x0010))
        .unwrap();
    assert_eq!(head.raw(hidden), [1, 2, 3, 4]);
    let back = run(Layout::ExplicitBig, layout, &big, 4).unwrap();
    assert_eq!(run(layout, layout, &source, 99).unwrap(), back);
}

#[test]
fn a_value_too_long_for_its_vr_becomes_un() {
    let tree = [Element::Value(Tag(0x0018, 0x1063), VR::DS, vec![b'1'; 70_000])];
    let source = write(&tree, Layout::ImplicitLittle, None);
    let out = run(Layout::ImplicitLittle, Layout::ExplicitLittle, &source, 4096).unwrap();
    assert_eq!(&out[..12], [0x18, 0, 0x63, 0x10, b'U', b'N', 0, 0, 0x70, 0x11, 1, 0]);
    assert_eq!(
        run(Layout::ExplicitLittle, Layout::ImplicitLittle, &out, 4096).unwrap(),
        source
    );
}

#[test]
fn a_vr_of_the_future_keeps_its_letters_and_is_never_turned_round() {
    let mut source = Vec::new();
    put_tag(&mut source, Layout::ExplicitLittle, Tag(0x0009, 0x1020));
    source.extend_from_slice(b"ZZ\0\0\x04\0\0\0abcd");
    assert_eq!(
        run(Layout::ExplicitLittle, Layout::ExplicitLittle, &source, 99).unwrap(),
        source
    );
    let turned = run(Layout::ExplicitLittle, Layout::ExplicitBig, &source, 99);
    assert_eq!(turned, Err(RelayoutError::UnknownVr(Tag(0x0009, 0x1020))));
}

#[test]
fn encapsulated_pixels_are_refused() {
    let source = [0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255];
    let out = run(Layout::ExplicitLittle, Layout::ImplicitLittle, &source, 99);
    assert_eq!(out, Err(RelayoutError::Encapsulated(PIXEL_DATA)));
}
