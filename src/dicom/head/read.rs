//! Reading from the head: elements by path, raw bytes, decoded text.
use super::header::{dictionary_vr, is_signed_by_pixels};
use super::{Head, Kind, Node};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::value::{looks_like_text, strings};
use crate::dicom::text::{Charset, Decoded};
use dicom_core::{Tag, VR};

impl Head {
    /// The node at `path`, or `None`. Of duplicates the first.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<usize> {
        let item = self.item(&path.items)?;
        self.select(item, &path.leaf)
    }

    /// Whether the element at `path` stands more than once in its item.
    #[must_use]
    pub fn is_repeated(&self, path: &Path) -> bool {
        let Some((item, node)) = self.item(&path.items).zip(self.find(path)) else {
            return false;
        };
        let tag = self.nodes[node].tag;
        self.tagged(item, tag).nth(1).is_some()
    }

    /// The raw value bytes of a node, as they stand (in its layout's byte order), without a delimiter.
    #[must_use]
    pub fn raw(&self, node: usize) -> &[u8] {
        &self.bytes[self.nodes[node].value_range()]
    }

    /// The decoded text values of the element at `path`: character sets in scope applied (with code extensions),
    /// padding removed, split at backslashes after decoding, numbers as decimal text. No values when it is empty.
    /// `None` when it is absent, a sequence, or binary.
    #[must_use]
    pub fn text(&self, path: &Path) -> Option<Vec<String>> {
        self.decoded(path).map(|decoded| decoded.values)
    }

    /// As `text`, and whether bytes could not be decoded.
    #[must_use]
    pub fn decoded(&self, path: &Path) -> Option<Decoded> {
        let node = self.find(path)?;
        self.decoded_in(node, &self.charset(path))
    }

    /// The number of items of the sequence at `path`; `None` when it is no sequence or absent.
    #[must_use]
    pub fn items(&self, path: &Path) -> Option<usize> {
        let node = self.find(path)?;
        (self.nodes[node].kind == Kind::Sequence).then(|| self.children(Some(node)).count())
    }

    /// Whether the element at `path` is, or would be written as, a text that may have lines (ST, LT, UT).
    #[must_use]
    pub fn is_long_text(&self, path: &Path) -> bool {
        let vr = match (self.find(path), &path.leaf) {
            (Some(node), _) => self.reading_vr(&self.nodes[node]),
            (None, Selector::Tag(tag)) => dictionary_vr(*tag),
            (None, Selector::Private { .. }) => VR::LO,
        };
        matches!(vr, VR::ST | VR::LT | VR::UT)
    }

    /// The first value of a top-level element, trimmed; empty when absent.
    #[must_use]
    pub fn first(&self, tag: Tag) -> String {
        let values = self.text(&Path::tag(tag)).unwrap_or_default();
        values.into_iter().next().unwrap_or_default()
    }

    /// The character set in scope at `path`: its item's own, else that of what encloses it (PS3.3 C.12.1.1.2).
    #[must_use]
    pub fn charset(&self, path: &Path) -> Charset {
        for depth in (0..=path.items.len()).rev() {
            let own = self.item(&path.items[..depth]).and_then(|item| self.own_charset(item));
            if let Some(charset) = own {
                return charset;
            }
        }
        Charset::default()
    }

    /// Whether an element at `path`, if there is one, lies behind the head: with the pixels or behind the cap.
    #[must_use]
    pub fn is_behind(&self, path: &Path) -> bool {
        let tag = match path.items.first().map_or(&path.leaf, |(selector, _)| selector) {
            Selector::Tag(tag) => *tag,
            // Without its block in the head, at the earliest the block lies behind.
            Selector::Private { group, .. } => Tag(*group, 0x00FF),
        };
        self.follows.is_some_and(|next| tag >= next)
    }

    /// The path with private elements that are there named by their tag, so that two ways of naming one element meet.
    #[must_use]
    pub fn settled(&self, path: &Path) -> Path {
        let mut path = path.clone();
        for depth in 0..=path.items.len() {
            let item = self.item(&path.items[..depth]);
            let selector = match path.items.get_mut(depth) {
                Some((selector, _)) => selector,
                None => &mut path.leaf,
            };
            if let Some(tag) = item.and_then(|item| self.resolve(item, selector)) {
                *selector = Selector::Tag(tag);
            }
        }
        path
    }

    /// The nodes right below a sequence or item, or of the root.
    pub(crate) fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        self.siblings(parent, None)
    }

    /// As many as the root or an item has at the least: to make room for them at once.
    pub(crate) fn children_hint(&self, parent: Option<usize>) -> usize {
        match parent {
            None => self.roots.count().unwrap_or(0),
            Some(_) => 0,
        }
    }

    /// The children from a known one (`None`: the first) to the last.
    fn siblings(&self, parent: Option<usize>, from: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        let (first, end) = match parent {
            Some(node) => (node + 1, self.nodes[node].next as usize),
            None => (0, self.nodes.len()),
        };
        let mut at = from.unwrap_or(first);
        std::iter::from_fn(move || {
            let child = (at < end).then_some(at)?;
            at = self.nodes[child].next as usize;
            Some(child)
        })
    }

    /// The tag that a selector means among the elements of an item (`None`: the root).
    pub(crate) fn resolve(&self, item: Option<usize>, selector: &Selector) -> Option<Tag> {
        match selector {
            Selector::Tag(tag) => Some(*tag),
            Selector::Private {
                group,
                creator,
                element,
            } => {
                let is_block = |node: &usize| {
                    let tag = self.nodes[*node].tag;
                    tag.0 == *group && is_creator(tag) && trimmed(self.raw(*node)) == creator.as_bytes()
                };
                let block = self.children_from(item, Tag(*group, 0)).find(is_block)?;
                Some(Tag(*group, self.nodes[block].tag.1 << 8 | u16::from(*element)))
            }
        }
    }

    /// The VR to read a node by: the dictionary's for what was written as UN, signed numbers by Pixel Representation.
    pub(crate) fn reading_vr(&self, node: &Node) -> VR {
        let vr = if node.vr == VR::UN {
            dictionary_vr(node.tag)
        } else {
            node.vr
        };
        if vr == VR::US && !node.layout.is_explicit() && is_signed_by_pixels(node.tag) {
            let signed = self.find(&Path::tag(PIXEL_REPRESENTATION)).map(|node| self.raw(node));
            if matches!(signed, Some([1, 0])) {
                return VR::SS;
            }
        }
        vr
    }

    /// The VR that the dictionary gives an element that is to be added: a number that may be signed by the nearest Pixel
    /// Representation around it (PS3.5 A.1).
    pub(crate) fn vr_of_new(&self, path: &Path, tag: Tag) -> VR {
        match dictionary_vr(tag) {
            VR::US if is_signed_by_pixels(tag) && self.has_signed_pixels(path) => VR::SS,
            vr => vr,
        }
    }

    fn has_signed_pixels(&self, path: &Path) -> bool {
        let around = (0..=path.items.len()).rev().map(|depth| Path {
            items: path.items[..depth].to_vec(),
            leaf: Selector::Tag(PIXEL_REPRESENTATION),
        });
        let mut said = around.filter_map(|path| self.text(&path));
        said.next().is_some_and(|values| values == ["1"])
    }

    pub(crate) fn decoded_in(&self, node: usize, charset: &Charset) -> Option<Decoded> {
        let found = &self.nodes[node];
        if found.kind != Kind::Value {
            return None;
        }
        let raw = self.raw(node);
        let mut vr = self.reading_vr(found);
        let mut layout = found.layout;
        if found.vr == VR::UN && vr == VR::UN {
            if !looks_like_text(raw) {
                return None;
            }
            vr = VR::LO;
        } else if found.vr == VR::UN {
            // What UN hides stands in little endian (PS3.5 6.2.2).
            layout = crate::dicom::syntax::Layout::ImplicitLittle;
        }
        strings(vr, raw, layout, charset)
    }

    /// The item that the path's sequences lead to; `Some(None)` is the root.
    pub(crate) fn item(&self, items: &[(Selector, usize)]) -> Option<Option<usize>> {
        let mut item = None;
        for (selector, index) in items {
            let sequence = self.select(item, selector)?;
            if self.nodes[sequence].kind != Kind::Sequence {
                return None;
            }
            item = Some(self.children(Some(sequence)).nth(*index)?);
        }
        Some(item)
    }

    fn select(&self, item: Option<usize>, selector: &Selector) -> Option<usize> {
        let tag = self.resolve(item, selector)?;
        self.tagged(item, tag).next()
    }

    /// The children that have this tag: one, but in a faulty data set.
    fn tagged(&self, item: Option<usize>, tag: Tag) -> impl Iterator<Item = usize> + '_ {
        let ascends = item.is_none() && self.roots.ascend();
        self.children_from(item, tag)
            .take_while(move |node| !ascends || self.nodes[*node].tag == tag)
            .filter(move |node| self.nodes[*node].tag == tag)
    }

    /// The children without those that stand before the first one of this tag or a higher one, where the order of the tags
    /// allows it; otherwise all.
    fn children_from(&self, item: Option<usize>, tag: Tag) -> impl Iterator<Item = usize> + '_ {
        let first = match item {
            None => self.roots.first_from(&self.nodes, tag),
            Some(_) => None,
        };
        self.siblings(item, first)
    }

    /// What the root (`None`) or an item declares itself.
    pub(crate) fn own_charset(&self, item: Option<usize>) -> Option<Charset> {
        let node = self.select(item, &Selector::Tag(SPECIFIC_CHARACTER_SET))?;
        Some(Charset::of_bytes(self.raw(node)))
    }
}

/// Whether a tag reserves a block of private elements.
pub(crate) fn is_creator(tag: Tag) -> bool {
    tag.0 & 1 == 1 && matches!(tag.1, 0x0010..=0x00FF)
}

pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().take_while(|byte| is_padding(byte)).count();
    let end = bytes.len() - bytes[start..].iter().rev().take_while(|byte| is_padding(byte)).count();
    &bytes[start..end]
}

pub(crate) const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
