//! The head as a tree that is opened only where an edit goes; everything else is a range of the original bytes.
use super::EditError;
use crate::dicom::head::read::{is_creator, trimmed};
use crate::dicom::head::{Head, ITEM, ITEM_END, Kind, SEQUENCE_END, has_long_length};
use crate::dicom::path::Selector;
use crate::dicom::syntax::Layout;
use crate::dicom::text::value::unit;
use dicom_core::{Tag, VR};
use std::collections::BTreeSet;

/// The elements of the root or of an item.
pub(super) struct Level {
    pub elements: Vec<Element>,
    pub layout: Layout,
    /// Groups in which something changed: their group lengths would be wrong and are left out.
    touched: BTreeSet<u16>,
}

pub(super) struct Element {
    pub tag: Tag,
    pub body: Body,
}

pub(super) enum Body {
    /// As it arrived: a node of the head.
    Original(usize),
    /// Header, value and all, ready to be written.
    Ready(Vec<u8>),
    Value {
        vr: VR,
        /// Little endian.
        value: Vec<u8>,
    },
    Sequence(Sequence),
}

/// A sequence that was opened or made.
pub(super) struct Sequence {
    node: Option<usize>,
    inside: Layout,
    items: Vec<Item>,
    is_changed: bool,
}

enum Item {
    Original(usize),
    Open { node: Option<usize>, level: Level },
}

impl Level {
    pub fn root(head: &Head) -> Self {
        Self::of(head, None, head.syntax.layout)
    }

    fn of(head: &Head, item: Option<usize>, layout: Layout) -> Self {
        let original = |node: usize| Element {
            tag: head.nodes[node].tag,
            body: Body::Original(node),
        };
        // Room for the stamp's two sequences and a few elements that edits add.
        let mut elements = Vec::with_capacity(head.children_hint(item) + 4);
        elements.extend(head.children(item).map(original));
        Self {
            elements,
            layout,
            touched: BTreeSet::new(),
        }
    }

    pub fn position(&self, tag: Tag) -> Option<usize> {
        self.elements.iter().position(|element| element.tag == tag)
    }

    pub fn is_changed(&self) -> bool {
        !self.touched.is_empty()
    }

    pub fn is_repeated(&self, tag: Tag) -> bool {
        self.elements.iter().filter(|element| element.tag == tag).count() > 1
    }

    /// Puts an element at its place in tag order, or in the place of the first one with its tag. Duplicates behind it go: the
    /// old value must not come to light there.
    pub fn put(&mut self, tag: Tag, body: Body) {
        self.touched.insert(tag.0);
        match self.position(tag) {
            Some(at) => {
                self.elements[at].body = body;
                let mut index = 0;
                self.elements.retain(|element| {
                    index += 1;
                    element.tag != tag || index == at + 1
                });
            }
            None => {
                let at = self.elements.iter().position(|element| element.tag > tag);
                self.elements
                    .insert(at.unwrap_or(self.elements.len()), Element { tag, body });
            }
        }
    }

    /// As `put`, a value in little endian.
    pub fn put_value(&mut self, tag: Tag, vr: VR, value: Vec<u8>) {
        self.put(tag, Body::Value { vr, value });
    }

    /// Removes an element with all its duplicates: what is to go must not come to light behind the first one.
    pub fn remove(&mut self, tag: Tag) {
        let before = self.elements.len();
        self.elements.retain(|element| element.tag != tag);
        if self.elements.len() < before {
            self.touched.insert(tag.0);
        }
    }

    /// The tag that a selector means here, edits so far included.
    pub fn resolve(&self, head: &Head, selector: &Selector) -> Option<Tag> {
        match selector {
            Selector::Tag(tag) => Some(*tag),
            Selector::Private {
                group,
                creator,
                element,
            } => {
                let is_block = |found: &&Element| {
                    let value = match &found.body {
                        Body::Original(node) => head.raw(*node),
                        Body::Value { value, .. } => value,
                        Body::Ready(_) | Body::Sequence(_) => return false,
                    };
                    found.tag.0 == *group && is_creator(found.tag) && trimmed(value) == creator.as_bytes()
                };
                let block = self.elements.iter().find(is_block)?.tag.1;
                Some(Tag(*group, block << 8 | u16::from(*element)))
            }
        }
    }

    /// As `resolve`, and takes the first free block of the group when the creator has none (PS3.5 7.8.1).
    pub fn resolve_or_reserve(&mut self, head: &Head, selector: &Selector) -> Result<Tag, EditError> {
        if let Some(tag) = self.resolve(head, selector) {
            return Ok(tag);
        }
        let Selector::Private {
            group,
            creator,
            element,
        } = selector
        else {
            return Err(EditError::NoBlock);
        };
        let is_taken = |block: u16| {
            let of_block = |tag: Tag| tag.0 == *group && (tag.1 == block || tag.1 >> 8 == block);
            self.elements.iter().any(|element| of_block(element.tag))
        };
        let block = (0x0010..=0x00FF)
            .find(|block| !is_taken(*block))
            .ok_or(EditError::NoBlock)?;
        let value = padded(creator.as_bytes().to_vec(), VR::LO);
        self.put(Tag(*group, block), Body::Value { vr: VR::LO, value });
        Ok(Tag(*group, block << 8 | u16::from(*element)))
    }

    /// Opens the sequence `tag`; makes one when there is none, or only an empty element.
    pub fn open(&mut self, head: &Head, tag: Tag) -> Result<&mut Sequence, EditError> {
        let at = self.position(tag);
        let original = at.and_then(|at| match self.elements[at].body {
            Body::Original(node) => Some(node),
            Body::Ready(_) | Body::Value { .. } | Body::Sequence(_) => None,
        });
        if let (Some(at), Some(node)) = (at, original) {
            let found = &head.nodes[node];
            let opened = match found.kind {
                Kind::Sequence => Sequence::of(head, node),
                Kind::Value if found.value == found.end => Sequence {
                    node: Some(node),
                    ..Sequence::new(self.layout)
                },
                Kind::Value | Kind::Fragments | Kind::Item => return Err(EditError::NoSuchItem),
            };
            self.elements[at].body = Body::Sequence(opened);
        } else if at.is_none() {
            let made = Body::Sequence(Sequence::new(self.layout));
            let at = self.elements.iter().position(|element| element.tag > tag);
            let body = made;
            self.elements
                .insert(at.unwrap_or(self.elements.len()), Element { tag, body });
        }
        let at = self.position(tag).ok_or(EditError::NoSuchItem)?;
        match &mut self.elements[at].body {
            Body::Sequence(sequence) => Ok(sequence),
            Body::Original(_) | Body::Ready(_) | Body::Value { .. } => Err(EditError::NoSuchItem),
        }
    }

    /// Says that something inside the sequence `tag` changed.
    pub fn touch(&mut self, tag: Tag) {
        self.touched.insert(tag.0);
        if let Some(at) = self.position(tag)
            && let Body::Sequence(sequence) = &mut self.elements[at].body
        {
            sequence.is_changed = true;
        }
    }

    pub fn write(&self, head: &Head, out: &mut Vec<u8>) -> Result<(), EditError> {
        // Neighbours that nobody changed leave in one piece.
        let mut piece = 0..0;
        for element in &self.elements {
            // A group length of a changed group, whoever wrote it, is dropped (PS3.5 7.2: retired).
            if element.tag.1 == 0 && self.touched.contains(&element.tag.0) {
                continue;
            }
            match element.original().map(|node| head.nodes[node].range()) {
                Some(next) if next.start == piece.end => piece.end = next.end,
                Some(next) => out.extend_from_slice(&head.bytes[std::mem::replace(&mut piece, next)]),
                None => {
                    out.extend_from_slice(&head.bytes[std::mem::replace(&mut piece, 0..0)]);
                    element.write(head, self.layout, out)?;
                }
            }
        }
        out.extend_from_slice(&head.bytes[piece]);
        Ok(())
    }
}

impl Sequence {
    pub fn new(layout: Layout) -> Self {
        Self {
            node: None,
            inside: layout,
            items: Vec::new(),
            is_changed: false,
        }
    }

    fn of(head: &Head, node: usize) -> Self {
        let found = &head.nodes[node];
        // The scanner says so of UN that holds items (CP-246).
        let is_implicit = found.vr == VR::UN;
        Self {
            node: Some(node),
            inside: if is_implicit {
                Layout::ImplicitLittle
            } else {
                found.layout
            },
            items: head.children(Some(node)).map(Item::Original).collect(),
            is_changed: false,
        }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The item at `index`; a new one at the end.
    pub fn open(&mut self, head: &Head, index: usize) -> Result<&mut Level, EditError> {
        if index == self.items.len() {
            self.items.push(Item::Open {
                node: None,
                level: Level {
                    elements: Vec::new(),
                    layout: self.inside,
                    touched: BTreeSet::new(),
                },
            });
        }
        let item = self.items.get_mut(index).ok_or(EditError::NoSuchItem)?;
        if let Item::Original(node) = *item {
            *item = Item::Open {
                node: Some(node),
                level: Level::of(head, Some(node), self.inside),
            };
        }
        match item {
            Item::Open { level, .. } => Ok(level),
            Item::Original(_) => Err(EditError::NoSuchItem),
        }
    }

    fn write(&self, head: &Head, tag: Tag, layout: Layout, out: &mut Vec<u8>) -> Result<(), EditError> {
        let mut body = Vec::new();
        for item in &self.items {
            match item {
                Item::Original(node) => body.extend_from_slice(&head.bytes[head.nodes[*node].range()]),
                Item::Open {
                    node: Some(node),
                    level,
                } if !level.is_changed() => {
                    body.extend_from_slice(&head.bytes[head.nodes[*node].range()]);
                }
                Item::Open { node, level } => {
                    let mut content = Vec::new();
                    level.write(head, &mut content)?;
                    let undefined = node.is_none_or(|node| head.nodes[node].undefined);
                    header(&mut body, self.inside, ITEM, None, length(undefined, &content)?);
                    body.append(&mut content);
                    if undefined {
                        header(&mut body, self.inside, ITEM_END, None, 0);
                    }
                }
            }
        }
        // A new sequence has undefined length: with a declared one nobody could tell a private one in implicit layout from a value.
        let origin = self
            .node
            .map(|node| &head.nodes[node])
            .filter(|node| node.kind == Kind::Sequence);
        let undefined = origin.is_none_or(|node| node.undefined);
        // What came as UN stays UN, for its items are in another layout than their surroundings.
        let is_un = origin.is_some_and(|node| node.vr == VR::UN);
        let vr = if is_un { VR::UN } else { VR::SQ };
        header(out, layout, tag, Some(vr), length(undefined, &body)?);
        out.append(&mut body);
        if undefined {
            header(out, self.inside, SEQUENCE_END, None, 0);
        }
        Ok(())
    }
}

impl Element {
    pub fn is_original(&self) -> bool {
        self.original().is_some()
    }

    /// The node whose bytes it still is.
    fn original(&self) -> Option<usize> {
        match &self.body {
            Body::Original(node) => Some(*node),
            Body::Sequence(sequence) => sequence.node.filter(|_| !sequence.is_changed),
            Body::Ready(_) | Body::Value { .. } => None,
        }
    }

    pub fn write(&self, head: &Head, layout: Layout, out: &mut Vec<u8>) -> Result<(), EditError> {
        if let Some(node) = self.original() {
            out.extend_from_slice(&head.bytes[head.nodes[node].range()]);
            return Ok(());
        }
        match &self.body {
            // That is an original, written above.
            Body::Original(_) => {}
            Body::Ready(bytes) => out.extend_from_slice(bytes),
            Body::Value { vr, value } => write_value(out, layout, self.tag, *vr, value)?,
            Body::Sequence(sequence) => sequence.write(head, self.tag, layout, out)?,
        }
        Ok(())
    }
}

/// An element with a value given in little endian.
pub(super) fn write_value(out: &mut Vec<u8>, layout: Layout, tag: Tag, vr: VR, value: &[u8]) -> Result<(), EditError> {
    let value = in_layout(layout, vr, padded(value.to_vec(), vr));
    let length = u32::try_from(value.len()).ok().filter(|length| *length < u32::MAX - 1);
    let length = length.ok_or(EditError::TooLong)?;
    if layout.is_explicit() && !has_long_length(vr) && length > SHORT_MAX {
        return Err(EditError::TooLong);
    }
    header(out, layout, tag, Some(vr), length);
    out.extend_from_slice(&value);
    Ok(())
}

/// A little-endian value in a layout's byte order.
pub(super) fn in_layout(layout: Layout, vr: VR, mut value: Vec<u8>) -> Vec<u8> {
    if layout.is_big() && unit(vr) > 1 {
        value.chunks_exact_mut(unit(vr)).for_each(<[u8]>::reverse);
    }
    value
}

/// Padded to even length: with NUL where text is none or is a UID, with a space otherwise.
pub(super) fn padded(mut value: Vec<u8>, vr: VR) -> Vec<u8> {
    if value.len() % 2 == 1 {
        let is_text = vr != VR::UI && crate::dicom::text::value::form(vr).is_some();
        value.push(if is_text { b' ' } else { 0 });
    }
    value
}

fn length(undefined: bool, body: &[u8]) -> Result<u32, EditError> {
    match u32::try_from(body.len()) {
        _ if undefined => Ok(u32::MAX),
        Ok(length) if length < u32::MAX => Ok(length),
        Ok(_) | Err(_) => Err(EditError::TooLong),
    }
}

pub(super) fn header(out: &mut Vec<u8>, layout: Layout, tag: Tag, vr: Option<VR>, length: u32) {
    out.extend_from_slice(&layout.put_u16(tag.0));
    out.extend_from_slice(&layout.put_u16(tag.1));
    let Some(vr) = vr.filter(|_| layout.is_explicit()) else {
        out.extend_from_slice(&layout.put_u32(length));
        return;
    };
    out.extend_from_slice(&vr.to_bytes());
    if has_long_length(vr) {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&layout.put_u32(length));
    } else {
        // The caller has refused what is longer than 16 bits.
        out.extend_from_slice(&layout.put_u16(length as u16));
    }
}

/// The longest even value whose length fits 16 bits.
const SHORT_MAX: u32 = 65_534;
