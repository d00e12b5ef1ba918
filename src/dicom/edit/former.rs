//! Former values that break their own declaration: they cannot stand in Modified Attributes (0400,0550), where nobody could read
//! them, so they stand there empty, and their bytes in Nonconforming Modified Attributes (0400,0551) (PS3.3 C.12.1.1.9).
use super::apply::step;
use super::places::Places;
use super::tree::Level;
use super::{Edit, EditError};
use crate::dicom::head::Head;
use crate::dicom::head::read::{SPECIFIC_CHARACTER_SET, is_creator};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::Charset;
use crate::dicom::text::value::strings;
use dicom_core::{Tag, VR};
use std::collections::BTreeSet;

/// A value to be told by its bytes.
pub(super) struct Former {
    path: Path,
    vr: VR,
    value: Vec<u8>,
    /// The private creators of the element and of the sequences around it; empty where the element is no private one.
    creator: Vec<u8>,
    creators: Vec<Vec<u8>>,
}

/// Those among the elements `changed` of the root.
pub(super) fn nonconforming(head: &Head, changed: &BTreeSet<Tag>) -> Vec<Former> {
    let Places { places, texts } = Places::among(head, |tag| changed.contains(&tag));
    let mut found = Vec::new();
    let mut sets: Vec<Charset> = Vec::with_capacity(places.len());
    for place in &places {
        let terms = head.text(&place.charset_path());
        // The root is there in any case; of the others, those in what changed.
        let is_changed = !place.items.is_empty() || changed.contains(&SPECIFIC_CHARACTER_SET);
        let set = match terms {
            None => sets.get(place.outer).cloned().unwrap_or_default(),
            Some(terms) => {
                let set = Charset::of(&terms);
                if set.is_said_by(&terms) {
                    set
                } else {
                    // A wrong word declares nothing that a reader could rely on.
                    let path = place.charset_path();
                    let node = head.find(&path).filter(|_| is_changed);
                    found.extend(node.and_then(|node| former(head, path, node)));
                    Charset::default()
                }
            }
        };
        sets.push(set);
    }
    for text in &texts {
        let (place, leaf) = (&places[text.place], head.nodes[text.node].tag);
        let path = place.path(leaf);
        let vr = head.reading_vr(&head.nodes[text.node]);
        let layout = head.nodes[text.node].layout;
        let is_readable = strings(vr, head.raw(text.node), layout, &sets[text.place]).is_none_or(|read| {
            let is_control = |letter: char| matches!(letter, '\u{80}'..='\u{9F}' | '\u{1B}');
            !read.lossy && !read.loose && !read.values.iter().any(|value| value.contains(is_control))
        });
        if !is_readable {
            found.extend(former(head, path, text.node));
        }
    }
    found
}

fn former(head: &Head, path: Path, node: usize) -> Option<Former> {
    // Of several with the same tag only the first can be named.
    if head.find(&path) != Some(node) {
        return None;
    }
    let creator = |items: &[(Selector, usize)], leaf: &Selector| match leaf {
        Selector::Tag(tag) if tag.0 & 1 == 1 && !is_creator(*tag) => {
            let block = Path {
                items: items.to_vec(),
                leaf: Selector::Tag(Tag(tag.0, tag.1 >> 8)),
            };
            head.find(&block)
                .map(|node| head.raw(node).to_vec())
                .unwrap_or_default()
        }
        Selector::Tag(_) | Selector::Private { .. } => Vec::new(),
    };
    let depths = 0..path.items.len();
    Some(Former {
        creator: creator(&path.items, &path.leaf),
        creators: depths
            .map(|depth| creator(&path.items[..depth], &path.items[depth].0))
            .collect(),
        vr: head.nodes[node].vr,
        value: head.raw(node).to_vec(),
        path,
    })
}

/// The root with those values empty, to take the former elements from.
pub(super) fn emptied(head: &Head, formers: &[Former]) -> Result<Level, EditError> {
    let mut root = Level::root(head);
    for former in formers {
        let edit = Edit::Set {
            path: former.path.clone(),
            vr: former.vr,
            value: Vec::new(),
        };
        step(&mut root, head, &former.path.items, &edit, true)?;
    }
    Ok(root)
}

impl Former {
    /// Fills an item of (0400,0551): which element (the Selector Attribute macro, PS3.3 Table 10-20), and its bytes.
    pub(super) fn tell(&self, item: &mut Level) {
        let number = |selector: &Selector| match selector {
            Selector::Tag(tag) => [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat(),
            Selector::Private { .. } => Vec::new(),
        };
        let joined = |parts: &[Vec<u8>]| parts.join(&b'\\');
        item.put_value(Tag(0x0072, 0x0026), VR::AT, number(&self.path.leaf));
        if !self.path.items.is_empty() {
            let pointers: Vec<Vec<u8>> = self.path.items.iter().map(|(selector, _)| number(selector)).collect();
            item.put_value(Tag(0x0072, 0x0052), VR::AT, pointers.concat());
            // Items count from 1 here.
            let items = self
                .path
                .items
                .iter()
                .map(|(_, index)| (index + 1).to_string().into_bytes());
            item.put_value(Tag(0x0074, 0x1057), VR::IS, joined(&items.collect::<Vec<_>>()));
        }
        if self.creators.iter().any(|creator| !creator.is_empty()) {
            item.put_value(Tag(0x0072, 0x0054), VR::LO, joined(&self.creators));
        }
        if !self.creator.is_empty() {
            item.put_value(Tag(0x0072, 0x0056), VR::LO, self.creator.clone());
        }
        item.put_value(Tag(0x0400, 0x0552), VR::OB, self.value.clone());
    }
}
