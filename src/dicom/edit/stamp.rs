//! Who changed what: one item each in Original Attributes (PS3.3 C.12.1) and Contributing Equipment.
use super::apply::in_reach;
use super::former::{self, Former};
use super::tree::{Body, Element, Level, header, in_layout, write_value};
use super::{EditError, Stamp};
use crate::dicom::head::read::is_creator;
use crate::dicom::head::{Head, ITEM_END, Kind, SEQUENCE_END};
use crate::dicom::path::Path;
use crate::dicom::syntax::Layout;
use dicom_core::{Tag, VR};
use std::collections::{BTreeMap, BTreeSet};

/// Adds both items. Items that stand there already are never rewritten.
///
/// # Errors
/// `BeyondHead` when one of the sequences lies behind the head.
pub(super) fn add(root: &mut Level, head: &Head, words: &Stamp) -> Result<(), EditError> {
    if !is_in_reach(head) {
        return Err(EditError::BeyondHead);
    }
    let (prior, formers) = prior(root, head)?;
    let item = append(root, head, ORIGINAL_ATTRIBUTES)?;
    text(item, Tag(0x0400, 0x0562), VR::DT, &words.at, 26);
    text(item, Tag(0x0400, 0x0563), VR::LO, &words.system, 64);
    text(item, Tag(0x0400, 0x0564), VR::LO, &words.source, 64);
    text(item, Tag(0x0400, 0x0565), VR::CS, "COERCE", 16);
    let modified = item.open(head, MODIFIED_ATTRIBUTES)?.open(head, 0)?;
    for (tag, bytes) in prior {
        // What came as UN holds items in a layout of its own.
        let bytes = if modified.layout == head.syntax.layout {
            bytes
        } else {
            in_implicit(head, &bytes)?
        };
        modified.put(tag, Body::Ready(bytes));
    }
    item.touch(MODIFIED_ATTRIBUTES);
    for former in formers {
        let sequence = item.open(head, NONCONFORMING)?;
        let end = sequence.len();
        former.tell(sequence.open(head, end)?);
        item.touch(NONCONFORMING);
    }
    root.touch(ORIGINAL_ATTRIBUTES);

    let item = append(root, head, CONTRIBUTING_EQUIPMENT)?;
    text(item, Tag(0x0008, 0x0070), VR::LO, "Waystation", 64);
    text(item, Tag(0x0008, 0x1010), VR::SH, &words.system, 16);
    text(item, Tag(0x0018, 0x1020), VR::LO, env!("CARGO_PKG_VERSION"), 64);
    text(item, Tag(0x0018, 0xA002), VR::DT, &words.at, 26);
    text(
        item,
        Tag(0x0018, 0xA003),
        VR::ST,
        &format!("rules {}", words.epoch),
        1024,
    );
    let purpose = item.open(head, PURPOSE)?.open(head, 0)?;
    text(purpose, Tag(0x0008, 0x0100), VR::SH, "109103", 16);
    text(purpose, Tag(0x0008, 0x0102), VR::SH, "DCM", 16);
    text(purpose, Tag(0x0008, 0x0104), VR::LO, "Modifying Equipment", 64);
    item.touch(PURPOSE);
    root.touch(CONTRIBUTING_EQUIPMENT);
    Ok(())
}

pub(super) fn is_in_reach(head: &Head) -> bool {
    in_reach(head, ORIGINAL_ATTRIBUTES).is_ok() && in_reach(head, CONTRIBUTING_EQUIPMENT).is_ok()
}

/// Elements in their bytes, by tag.
type Prior = BTreeMap<Tag, Vec<u8>>;

/// The top-level elements that changed, as they stood before: whole, in their bytes; without a value what was not there.
/// A private element comes with the creator of its block, or nobody could tell what it is.
/// Text that breaks its own declaration is empty there and comes apart.
fn prior(root: &Level, head: &Head) -> Result<(Prior, Vec<Former>), EditError> {
    let mut changed = BTreeSet::new();
    // Both stand in one order but for what was added and removed, so that there is seldom anything to search.
    let mut next = 0;
    for node in head.children(None) {
        let tag = head.nodes[node].tag;
        let is_next = root.elements.get(next).is_some_and(|element| element.tag == tag);
        let place = if is_next { Some(next) } else { root.position(tag) };
        next = place.map_or(next, |at| at + 1);
        let now = place.map(|at| &root.elements[at]);
        // A dropped group length says nothing of its own.
        if tag.1 != 0 && !now.is_some_and(Element::is_original) {
            changed.insert(tag);
        }
    }
    let formers = former::nonconforming(head, &changed);
    let mut prior = Prior::new();
    for tag in changed {
        let found = head.find(&Path::tag(tag)).map(|node| head.nodes[node].range());
        prior.extend(found.map(|range| (tag, head.bytes[range].to_vec())));
    }
    if !formers.is_empty() {
        let before = former::emptied(head, &formers)?;
        for element in before.elements.iter().filter(|element| !element.is_original()) {
            let mut bytes = Vec::new();
            element.write(head, before.layout, &mut bytes)?;
            prior.insert(element.tag, bytes);
        }
    }
    for element in &root.elements {
        let tag = element.tag;
        let was_there = || head.find(&Path::tag(tag)).is_some();
        if tag.1 == 0 || element.is_original() || is_creator(tag) || was_there() {
            continue;
        }
        let vr = match &element.body {
            Body::Value { vr, .. } => *vr,
            Body::Original(_) | Body::Ready(_) | Body::Sequence(_) => VR::SQ,
        };
        let mut empty = Vec::new();
        write_value(&mut empty, root.layout, tag, vr, &[])?;
        prior.insert(tag, empty);
    }
    let blocks: Vec<Tag> = prior
        .keys()
        .filter(|tag| tag.0 & 1 == 1 && tag.1 >= 0x1000)
        .map(|tag| Tag(tag.0, tag.1 >> 8))
        .collect();
    for block in blocks {
        if let (false, Some(at)) = (prior.contains_key(&block), root.position(block)) {
            let mut creator = Vec::new();
            root.elements[at].write(head, root.layout, &mut creator)?;
            prior.insert(block, creator);
        }
    }
    Ok((prior, formers))
}

/// One element of the head's layout in implicit little endian.
fn in_implicit(head: &Head, element: &[u8]) -> Result<Vec<u8>, EditError> {
    let scanned = Head::scan(head.syntax.inflated(), element).map_err(|_| EditError::NotAValue)?;
    let mut out = Vec::with_capacity(element.len());
    for node in scanned.children(None) {
        implicit(&scanned, node, &mut out)?;
    }
    Ok(out)
}

/// As deep as the head's sequences, which are at most `DEPTH_MAX`.
fn implicit(head: &Head, node: usize, out: &mut Vec<u8>) -> Result<(), EditError> {
    let found = &head.nodes[node];
    let is_explicit = found.kind == Kind::Item || (found.kind == Kind::Sequence && found.vr != VR::UN);
    match found.kind {
        Kind::Sequence | Kind::Item if is_explicit => {
            header(out, Layout::ImplicitLittle, found.tag, None, u32::MAX);
            for child in head.children(Some(node)) {
                implicit(head, child, out)?;
            }
            let end = if found.kind == Kind::Item {
                ITEM_END
            } else {
                SEQUENCE_END
            };
            header(out, Layout::ImplicitLittle, end, None, 0);
        }
        Kind::Value => {
            // Reversing the units of big endian makes them little, as it does the other way.
            let value = in_layout(found.layout, found.vr, head.raw(node).to_vec());
            let length = found.length().ok_or(EditError::NotAValue)?;
            header(out, Layout::ImplicitLittle, found.tag, None, length);
            out.extend_from_slice(&value);
        }
        // UN that holds items holds them so already. Fragments are bytes; they exist in little endian only.
        Kind::Sequence | Kind::Item | Kind::Fragments => {
            header(
                out,
                Layout::ImplicitLittle,
                found.tag,
                None,
                found.length().unwrap_or(u32::MAX),
            );
            out.extend_from_slice(&head.bytes[found.value as usize..found.end as usize]);
        }
    }
    Ok(())
}

fn append<'a>(root: &'a mut Level, head: &Head, tag: Tag) -> Result<&'a mut Level, EditError> {
    let sequence = root.open(head, tag)?;
    let end = sequence.len();
    sequence.open(head, end)
}

/// Our own words: ASCII, which every character set can say, cut to what the VR takes.
fn text(level: &mut Level, tag: Tag, vr: VR, words: &str, max: usize) {
    let plain = |char: char| {
        if matches!(char, ' '..='~') && char != '\\' {
            char
        } else {
            '?'
        }
    };
    let value: String = words.chars().map(plain).take(max).collect();
    let value = value.into_bytes();
    level.put(tag, Body::Value { vr, value });
}

const ORIGINAL_ATTRIBUTES: Tag = Tag(0x0400, 0x0561);
const MODIFIED_ATTRIBUTES: Tag = Tag(0x0400, 0x0550);
const NONCONFORMING: Tag = Tag(0x0400, 0x0551);
const CONTRIBUTING_EQUIPMENT: Tag = Tag(0x0018, 0xA001);
const PURPOSE: Tag = Tag(0x0040, 0xA170);
