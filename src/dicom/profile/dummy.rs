//! Values that say nothing, valid for their VR, where the profile asks for a dummy (action D).
use super::steps::Steps;
use crate::dicom::path::{Path, Selector};
use dicom_core::{Tag, VR};

/// What stands for a text that was taken out.
pub(super) const REMOVED: &str = "REMOVED";

/// A dummy value; `None` for UIDs and sequences, which have ways of their own.
pub(super) fn value(vr: VR) -> Option<Vec<String>> {
    let text = match vr {
        VR::DA => "19000101",
        VR::TM => "000000",
        VR::DT => "19000101000000",
        VR::AS => "000D",
        VR::UR => "http://removed.invalid",
        VR::DS
        | VR::IS
        | VR::FD
        | VR::FL
        | VR::SL
        | VR::SS
        | VR::SV
        | VR::UL
        | VR::US
        | VR::UV
        | VR::OB
        | VR::OD
        | VR::OF
        | VR::OL
        | VR::OV
        | VR::OW => "0",
        VR::AT => "(0000,0000)",
        VR::UI | VR::SQ => return None,
        VR::AE | VR::CS | VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UN | VR::UT => REMOVED,
    };
    Some(vec![text.to_owned()])
}

/// In place of a sequence: one item that its module accepts, where some module requires one; elsewhere the sequence goes.
pub(super) fn sequence(steps: &mut Steps, path: &Path) {
    let Selector::Tag(tag) = path.leaf else { return };
    let item: &[(&[Tag], VR, &str)] = match tag {
        CONTENT => &[
            (&[Tag(0x0040, 0xA010)], VR::CS, "CONTAINS"),
            (&[Tag(0x0040, 0xA040)], VR::CS, "TEXT"),
            (&[CONCEPT, Tag(0x0008, 0x0100)], VR::SH, "121106"),
            (&[CONCEPT, Tag(0x0008, 0x0102)], VR::SH, "DCM"),
            (&[CONCEPT, Tag(0x0008, 0x0104)], VR::LO, "Comment"),
            (&[Tag(0x0040, 0xA160)], VR::UT, REMOVED),
        ],
        VERIFYING_OBSERVER => &[
            (&[Tag(0x0040, 0xA027)], VR::LO, REMOVED),
            (&[Tag(0x0040, 0xA030)], VR::DT, "19000101000000"),
            (&[Tag(0x0040, 0xA075)], VR::PN, REMOVED),
        ],
        INSTITUTION_CODE | PERSON_CODE => &[
            (&[Tag(0x0008, 0x0100)], VR::SH, REMOVED),
            (&[Tag(0x0008, 0x0102)], VR::SH, "99REMOVED"),
            (&[Tag(0x0008, 0x0104)], VR::LO, REMOVED),
        ],
        GRAPHIC_ANNOTATION => &[(&[Tag(0x0070, 0x0002)], VR::CS, REMOVED)],
        FLOW_IDENTIFIER => &[(&[Tag(0x0034, 0x0002)], VR::OB, "0")],
        _ => &[],
    };
    if is_there(steps, path, item) {
        return;
    }
    steps.remove(path);
    for (tags, vr, text) in item {
        steps.make(&inside(path, tags), *vr, &[(*text).to_owned()]);
    }
}

/// Whether the sequence is the dummy already.
fn is_there(steps: &Steps, path: &Path, item: &[(&[Tag], VR, &str)]) -> bool {
    let head = steps.head;
    let Some(Some(only)) = head.find(path).map(|sequence| {
        let mut items = head.children(Some(sequence));
        items.next().filter(|_| items.next().is_none())
    }) else {
        return false;
    };
    let tops: std::collections::BTreeSet<Tag> = item.iter().map(|(tags, ..)| tags[0]).collect();
    let same = |(tags, vr, text): &(&[Tag], VR, &str)| {
        let wanted = crate::dicom::edit::Edit::plain(inside(path, tags), *vr, &[(*text).to_owned()]);
        let found = head.find(wanted.path()).map(|node| head.raw(node));
        matches!((&wanted, found), (crate::dicom::edit::Edit::Set { value, .. }, Some(raw)) if value == raw)
    };
    !item.is_empty() && item.iter().all(same) && head.children(Some(only)).count() == tops.len()
}

/// The first item of the sequence at `path`, and on through first items to the last tag.
fn inside(path: &Path, tags: &[Tag]) -> Path {
    let mut items = path.items.clone();
    items.push((path.leaf.clone(), 0));
    let (last, through) = tags.split_at(tags.len() - 1);
    items.extend(last.iter().map(|tag| (Selector::Tag(*tag), 0)));
    Path {
        items,
        leaf: Selector::Tag(through[0]),
    }
}

const CONTENT: Tag = Tag(0x0040, 0xA730);
const CONCEPT: Tag = Tag(0x0040, 0xA043);
const VERIFYING_OBSERVER: Tag = Tag(0x0040, 0xA073);
const INSTITUTION_CODE: Tag = Tag(0x0008, 0x0082);
const PERSON_CODE: Tag = Tag(0x0040, 0x1101);
const GRAPHIC_ANNOTATION: Tag = Tag(0x0070, 0x0001);
const FLOW_IDENTIFIER: Tag = Tag(0x0034, 0x0001);
