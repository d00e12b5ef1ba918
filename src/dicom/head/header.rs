//! One element's header: tag, VR, length, and what kind of element follows from them.
use super::{ITEM, ITEM_END, Kind, SEQUENCE_END};
use crate::dicom::syntax::Layout;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

/// The shortest header: tag and a length of 32 bits, or tag, VR and a length of 16.
pub(super) const SIZE_MIN: usize = 8;
/// The longest: tag, VR, two reserved bytes and a length of 32 bits.
pub(super) const SIZE_MAX: usize = 12;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub tag: Tag,
    pub vr: VR,
    pub kind: Kind,
    pub length: Option<u32>,
    pub size: usize,
    /// How what the element contains is laid out.
    pub inside: Layout,
}

pub(crate) enum Parsed {
    /// More bytes are needed.
    Short,
    BadVr(Tag),
    /// An undefined length where none is allowed.
    Unexpected(Tag),
    Header(Header),
}

pub(crate) fn is_delimiter(tag: Tag) -> bool {
    matches!(tag, ITEM | ITEM_END | SEQUENCE_END)
}

/// Parses the header at the start of `bytes`.
pub(crate) fn parse(layout: Layout, bytes: &[u8]) -> Parsed {
    let Some(&[a, b, c, d, e, f, g, h]) = bytes.first_chunk::<SIZE_MIN>() else {
        return Parsed::Short;
    };
    let tag = Tag(layout.u16([a, b]), layout.u16([c, d]));
    if is_delimiter(tag) {
        return header(tag, VR::UN, layout.u32([e, f, g, h]), 8, layout);
    }
    if !layout.is_explicit() {
        return header(tag, dictionary_vr(tag), layout.u32([e, f, g, h]), 8, layout);
    }
    let (vr, long) = match VR::from_binary([e, f]) {
        // Some devices write UN with a length of 16 bits: then the reserved bytes are not zero.
        Some(VR::UN) => (VR::UN, [g, h] == [0, 0]),
        Some(vr) => (vr, has_long_length(vr)),
        // All VRs still to come have long lengths (PS3.5 7.1.2); "??" of old devices has not (as DCMTK reads them).
        None if e.is_ascii_uppercase() && f.is_ascii_uppercase() => (VR::UN, true),
        None if [e, f] == *b"??" => (VR::UN, false),
        None => return Parsed::BadVr(tag),
    };
    if !long {
        // Sixteen bits have no undefined length.
        return Parsed::Header(Header {
            tag,
            vr,
            kind: Kind::Value,
            length: Some(u32::from(layout.u16([g, h]))),
            size: 8,
            inside: layout,
        });
    }
    let Some(&length) = bytes.get(8..).and_then(<[u8]>::first_chunk::<4>) else {
        return Parsed::Short;
    };
    header(tag, vr, layout.u32(length), 12, layout)
}

fn header(tag: Tag, vr: VR, length: u32, size: usize, layout: Layout) -> Parsed {
    let length = (length != u32::MAX).then_some(length);
    let mut found = Header {
        tag,
        vr,
        kind: Kind::Value,
        length,
        size,
        inside: layout,
    };
    found.kind = match (vr, length) {
        _ if is_delimiter(tag) => Kind::Item,
        (VR::SQ, _) => Kind::Sequence,
        (_, Some(_)) => Kind::Value,
        (VR::UN, None) => {
            // CP-246: whatever the data set's layout, what UN of undefined length contains is implicit little endian.
            found.inside = Layout::ImplicitLittle;
            Kind::Sequence
        }
        (VR::OB | VR::OW | VR::OD | VR::OF | VR::OL | VR::OV, None) if layout.is_explicit() || is_pixels(tag) => {
            Kind::Fragments
        }
        _ if !layout.is_explicit() => Kind::Sequence,
        _ => return Parsed::Unexpected(tag),
    };
    if !layout.is_explicit() && found.kind == Kind::Sequence {
        found.vr = VR::SQ;
    }
    Parsed::Header(found)
}

/// Float, double float and integer pixel data.
pub(crate) fn is_pixels(tag: Tag) -> bool {
    tag.0 == super::PIXEL_GROUP && matches!(tag.1, 0x0008 | 0x0009 | 0x0010)
}

/// Whether a VR has two reserved bytes and a length of 32 bits in explicit layouts (PS3.5 7.1.2).
pub(crate) fn has_long_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// The VR that the standard's dictionary gives a tag; `UN` for what it does not know.
pub(crate) fn dictionary_vr(tag: Tag) -> VR {
    let Some(entry) = StandardDataDictionary.by_tag(tag) else {
        return VR::UN;
    };
    match entry.vr() {
        VirtualVr::Exact(vr) => vr,
        VirtualVr::Xs => VR::US,
        _ => VR::OW,
    }
}

/// Whether the dictionary leaves it to Pixel Representation whether a tag is signed.
pub(crate) fn is_signed_by_pixels(tag: Tag) -> bool {
    StandardDataDictionary
        .by_tag(tag)
        .is_some_and(|entry| entry.vr() == VirtualVr::Xs)
}
