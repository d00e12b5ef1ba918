//! A plan's edits, made on the tree of the head.
use super::tree::{Body, Level, Sequence, in_layout, padded};
use super::{Edit, EditError, Plan, stamp};
use crate::base::fault::{Plant, planted};
use crate::dicom::head::{Head, Kind, PIXEL_GROUP};
use crate::dicom::path::{Path, Selector};
use dicom_core::{Tag, VR};

impl Plan {
    /// The head's bytes with all edits made, in the head's own layout (not deflated). Everything not named by an edit
    /// stands byte for byte as before; lengths of enclosing sequences and items are made right; group lengths
    /// (gggg,0000) of changed groups are dropped. When anything really changes, one Original Attributes item and one
    /// Contributing Equipment item are added (if the plan has a stamp). Deterministic: the same head and plan give the same bytes.
    ///
    /// # Errors
    /// See `EditError`.
    pub fn apply(&self, head: &Head) -> Result<Vec<u8>, EditError> {
        let mut root = Level::root(head);
        for edit in &self.edits {
            step(&mut root, head, &edit.path().items, edit, true)?;
        }
        let edited = write(&root, head)?;
        if edited[..] == head.bytes[..] {
            return Ok(edited);
        }
        match &self.stamp {
            Some(words) => {
                stamp::add(&mut root, head, words)?;
                if planted(Plant::EditTwice) {
                    stamp::add(&mut root, head, words)?;
                }
                write(&root, head)
            }
            None => Ok(edited),
        }
    }
}

/// The tree's bytes, and behind them the padding that stood behind the last element.
fn write(root: &Level, head: &Head) -> Result<Vec<u8>, EditError> {
    let mut out = Vec::with_capacity(head.bytes.len() + 1024);
    root.write(head, &mut out)?;
    let end = head
        .children(None)
        .last()
        .map_or(0, |node| head.nodes[node].end as usize);
    out.extend_from_slice(&head.bytes[end..]);
    Ok(out)
}

/// Walks down to the item and makes the change; answers whether anything changed. As deep as the path, which is at most `DEPTH_MAX`.
pub(super) fn step(
    level: &mut Level,
    head: &Head,
    items: &[(Selector, usize)],
    edit: &Edit,
    at_root: bool,
) -> Result<bool, EditError> {
    let Some(((selector, index), deeper)) = items.split_first() else {
        return change(level, head, edit, at_root);
    };
    let makes = matches!(edit, Edit::Set { .. });
    let tag = if makes {
        check_place(head, selector, at_root)?;
        level.resolve_or_reserve(head, selector)?
    } else {
        match level.resolve(head, selector) {
            Some(tag) => tag,
            None => return Ok(false),
        }
    };
    if at_root {
        in_reach(head, tag)?;
    }
    if !makes && level.position(tag).is_none() {
        return Ok(false);
    }
    let sequence = match level.open(head, tag) {
        Ok(sequence) => sequence,
        Err(EditError::NoSuchItem) if !makes => return Ok(false),
        Err(wrong) => return Err(wrong),
    };
    if !makes && *index >= sequence.len() {
        return Ok(false);
    }
    let inner = sequence.open(head, *index)?;
    let changed = step(inner, head, deeper, edit, false)?;
    if changed {
        level.touch(tag);
    }
    Ok(changed)
}

fn change(level: &mut Level, head: &Head, edit: &Edit, at_root: bool) -> Result<bool, EditError> {
    match edit {
        Edit::Remove { path } => {
            let Some(tag) = level.resolve(head, &path.leaf) else {
                return Ok(false);
            };
            if at_root {
                in_reach(head, tag)?;
            }
            let is_there = level.position(tag).is_some();
            level.remove(tag);
            Ok(is_there)
        }
        Edit::Set { path, vr, value } => {
            if at_root {
                check_place(head, &path.leaf, true)?;
            }
            if *vr == VR::SQ && !value.is_empty() {
                return Err(EditError::NotAValue);
            }
            let tag = level.resolve_or_reserve(head, &path.leaf)?;
            if at_root {
                in_reach(head, tag)?;
            }
            if *vr == VR::SQ {
                return Ok(empty(level, head, tag));
            }
            set(level, head, tag, *vr, value)
        }
    }
}

/// Leaves a sequence without items.
fn empty(level: &mut Level, head: &Head, tag: Tag) -> bool {
    let stands = level.position(tag).is_some_and(|at| match level.elements[at].body {
        Body::Original(node) => head.nodes[node].kind == Kind::Sequence && head.children(Some(node)).next().is_none(),
        Body::Ready(_) | Body::Value { .. } | Body::Sequence(_) => false,
    });
    if stands && !level.is_repeated(tag) {
        return false;
    }
    level.put(tag, Body::Sequence(Sequence::new(level.layout)));
    true
}

fn set(level: &mut Level, head: &Head, tag: Tag, vr: VR, value: &[u8]) -> Result<bool, EditError> {
    let mut vr = vr;
    if let Some(at) = level.position(tag) {
        match &level.elements[at].body {
            Body::Original(node) if head.nodes[*node].kind == Kind::Value => {
                let found = &head.nodes[*node];
                let is_same = is_same(head.raw(*node), &in_layout(found.layout, vr, value.to_vec()), vr);
                if is_same && !level.is_repeated(tag) {
                    return Ok(false);
                }
                vr = kept(found.vr, vr);
            }
            Body::Value { vr: found, .. } => vr = kept(*found, vr),
            Body::Original(_) | Body::Ready(_) | Body::Sequence(_) => return Err(EditError::NotAValue),
        }
    }
    let value = value.to_vec();
    level.put(tag, Body::Value { vr, value });
    Ok(true)
}

/// Equal bytes, or equal but for the padding byte that the writer of an odd length left out.
fn is_same(found: &[u8], wanted: &[u8], vr: VR) -> bool {
    found == wanted || (found.len() % 2 == 1 && padded(found.to_vec(), vr) == wanted)
}

/// The VR that is written: an existing one stays when it says the same with another limit.
fn kept(found: VR, wanted: VR) -> VR {
    let short = |vr| matches!(vr, VR::SH | VR::LO | VR::UC);
    let long = |vr| matches!(vr, VR::ST | VR::LT | VR::UT);
    if (short(found) && short(wanted)) || (long(found) && long(wanted)) {
        found
    } else {
        wanted
    }
}

/// Before a private block is reserved for it: whether the group is in the head at all.
fn check_place(head: &Head, selector: &Selector, at_root: bool) -> Result<(), EditError> {
    match selector {
        Selector::Private { group, .. } if at_root => in_reach(head, Tag(*group, 0x00FF)),
        Selector::Private { .. } | Selector::Tag(_) => Ok(()),
    }
}

/// Whether a top-level element stands, or would stand, in the head.
pub(super) fn in_reach(head: &Head, tag: Tag) -> Result<(), EditError> {
    let is_behind = head.is_behind(&Path::tag(tag)) || tag.0 >= PIXEL_GROUP;
    if is_behind { Err(EditError::BeyondHead) } else { Ok(()) }
}
