//! Edits in the making: what a de-identifier changes in one head, element by element. A step that changes nothing is not made.
use super::Refused;
use crate::dicom::edit::Edit;
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::Charset;
use dicom_core::{Tag, VR};
use std::collections::BTreeSet;

/// An edit, and the element's values after it (`None`: removed) for whoever reads on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub edit: Edit,
    pub values: Option<Vec<String>>,
}

/// The steps for one head, in the order in which they are to be made.
pub(super) struct Steps<'a> {
    pub(super) head: &'a Head,
    pub(super) made: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(head: &'a Head) -> Self {
        Self { head, made: Vec::new() }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        let edit = Edit::Remove { path: path.clone() };
        self.made.push(Step { edit, values: None });
    }

    /// Sets the element of a node to plain text, or to numbers.
    pub(super) fn set(&mut self, path: &Path, node: usize, values: &[String]) {
        let found = &self.head.nodes[node];
        let vr = match self.head.reading_vr(found) {
            VR::UN => VR::LO,
            vr => vr,
        };
        let stands = match found.kind {
            Kind::Value => self
                .head
                .decoded_in(node, &Charset::default())
                .map(|decoded| decoded.values),
            Kind::Sequence | Kind::Fragments | Kind::Item => None,
        };
        if stands.as_deref() != Some(values) {
            self.put(path, vr, values);
        }
    }

    /// Sets an element that may be new, unless it stands so.
    pub(super) fn put(&mut self, path: &Path, vr: VR, values: &[String]) {
        let edit = Edit::plain(path.clone(), vr, values);
        let stands = self
            .head
            .find(path)
            .filter(|node| self.head.nodes[*node].kind == Kind::Value);
        let is_same = matches!((&edit, stands), (Edit::Set { value, .. }, Some(node)) if self.head.raw(node) == value);
        if !is_same {
            let values = Some(values.to_vec());
            self.made.push(Step { edit, values });
        }
    }

    /// Sets an element below a sequence that an earlier step took away.
    pub(super) fn make(&mut self, path: &Path, vr: VR, values: &[String]) {
        let edit = Edit::plain(path.clone(), vr, values);
        let values = Some(values.to_vec());
        self.made.push(Step { edit, values });
    }

    /// Leaves the element there without a value, or the sequence without an item.
    pub(super) fn empty(&mut self, path: &Path, node: usize) {
        let found = &self.head.nodes[node];
        match found.kind {
            Kind::Value if self.head.raw(node).is_empty() => {}
            Kind::Sequence if self.head.children(Some(node)).next().is_none() => {}
            Kind::Value => self.put(path, self.head.reading_vr(found), &[]),
            Kind::Sequence | Kind::Fragments | Kind::Item => self.put(path, VR::SQ, &[]),
        }
    }
}

/// Whether a walk goes into the sequence that it has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Into,
    Past,
}

/// One element on a walk.
pub(super) struct Here<'p> {
    pub(super) path: &'p Path,
    pub(super) node: usize,
    pub(super) tag: Tag,
    /// The item that it stands in; `None` at the root.
    pub(super) item: Option<usize>,
}

type Visit<'v> = &'v mut dyn FnMut(&Here) -> Result<Next, Refused>;

/// Every element, in the order of the bytes, as deep as the head's sequences (at most `DEPTH_MAX`).
pub(super) fn walk(head: &Head, visit: Visit) -> Result<(), Refused> {
    level(head, None, &mut Vec::new(), visit)
}

fn level(head: &Head, item: Option<usize>, items: &mut Vec<(Selector, usize)>, visit: Visit) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for node in head.children(item) {
        let tag = head.nodes[node].tag;
        // No path names the second of two.
        if !seen.insert(tag) {
            return Err(Refused::Repeated);
        }
        let path = Path {
            items: items.clone(),
            leaf: Selector::Tag(tag),
        };
        let here = Here {
            path: &path,
            node,
            tag,
            item,
        };
        if visit(&here)? == Next::Into && head.nodes[node].kind == Kind::Sequence {
            for (index, inner) in head.children(Some(node)).enumerate() {
                items.push((Selector::Tag(tag), index));
                level(head, Some(inner), items, visit)?;
                items.pop();
            }
        }
    }
    Ok(())
}
