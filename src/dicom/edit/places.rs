//! The texts of a head, each with the item whose Specific Character Set governs it.
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::Form;
use crate::dicom::text::value::{form, is_affected};
use dicom_core::Tag;

/// The root or an item.
pub(super) struct Place {
    pub items: Vec<(Selector, usize)>,
    /// `None` is the root.
    pub item: Option<usize>,
    /// What encloses it; itself for the root.
    pub outer: usize,
}

/// A text element that is not empty.
pub(super) struct Text {
    pub node: usize,
    pub place: usize,
    pub form: Form,
}

/// All of them, in the order of the head.
pub(super) struct Places {
    pub places: Vec<Place>,
    pub texts: Vec<Text>,
}

impl Place {
    /// The path of an element right in it.
    pub fn path(&self, tag: Tag) -> Path {
        Path {
            items: self.items.clone(),
            leaf: Selector::Tag(tag),
        }
    }

    /// Where its own Specific Character Set stands, or would stand.
    pub fn charset_path(&self) -> Path {
        self.path(SPECIFIC_CHARACTER_SET)
    }

    /// Whether it is part of the record of former values, whose items are never rewritten (PS3.3 C.12.1.1.9).
    pub fn is_record(&self) -> bool {
        let first = self.items.first().map(|(selector, _)| selector);
        first == Some(&Selector::Tag(ORIGINAL_ATTRIBUTES))
    }
}

impl Places {
    pub fn of(head: &Head) -> Self {
        Self::among(head, |_| true)
    }

    /// Those in, or of, the root's elements that `is_wanted` names. The root itself is always there.
    pub fn among(head: &Head, is_wanted: impl Fn(Tag) -> bool) -> Self {
        let root = Place {
            items: Vec::new(),
            item: None,
            outer: 0,
        };
        let (mut places, mut texts) = (vec![root], Vec::new());
        // The items that are open, with the first node behind each; the sequences that are open, with the number of items seen.
        let mut open: Vec<(usize, usize)> = vec![(0, head.nodes.len())];
        let mut sequences: Vec<(usize, usize)> = Vec::new();
        let mut next = 0;
        while let Some(node) = head.nodes.get(next) {
            let at = next;
            next += 1;
            if node.depth == 0 && !is_wanted(node.tag) {
                next = node.next as usize;
                continue;
            }
            while open.len() > 1 && open.last().is_some_and(|(_, end)| at >= *end) {
                open.pop();
            }
            while sequences
                .last()
                .is_some_and(|(sequence, _)| at >= head.nodes[*sequence].next as usize)
            {
                sequences.pop();
            }
            let Some((place, _)) = open.last().copied() else { break };
            match (node.kind, sequences.last_mut()) {
                (Kind::Sequence, _) => sequences.push((at, 0)),
                (Kind::Item, Some((sequence, count))) if head.nodes[*sequence].depth + 1 == node.depth => {
                    let mut items = places[place].items.clone();
                    items.push((Selector::Tag(head.nodes[*sequence].tag), *count));
                    *count += 1;
                    open.push((places.len(), node.next as usize));
                    places.push(Place {
                        items,
                        item: Some(at),
                        outer: place,
                    });
                }
                (Kind::Value, _) if node.value < node.end => {
                    let vr = head.reading_vr(node);
                    if let Some(form) = form(vr).filter(|_| is_affected(vr)) {
                        texts.push(Text { node: at, place, form });
                    }
                }
                (Kind::Value | Kind::Item | Kind::Fragments, _) => {}
            }
        }
        Self { places, texts }
    }
}

pub(super) const ORIGINAL_ATTRIBUTES: Tag = Tag(0x0400, 0x0561);
