//! Follows the top-level structure behind the head, only to notice a data set that ends inside an element.
//!
//! Costs a header for each element and nothing for values. Never refuses: what it does not understand makes it look away.
use super::header::{self, Parsed};
use super::{Behind, HeadError, ITEM, ITEM_END, Kind, PIXEL_GROUP, SEQUENCE_END};
use crate::dicom::syntax::Layout;
use dicom_core::Tag;

pub(super) struct Tail {
    layout: Layout,
    /// Bytes of the value that are still to come.
    skip: u64,
    /// A header that has arrived in part.
    partial: Vec<u8>,
    /// Sequences of undefined length that are open.
    open: u64,
    /// The number of open sequences when the first UN of undefined length began: inside it is implicit little endian.
    implicit_from: Option<u64>,
    /// Inside encapsulated pixel data, only items are expected.
    fragments: bool,
    /// It stopped following.
    lost: bool,
    /// It came by an element at the root that is not of the pixels.
    more: bool,
    at: u64,
    tag: Tag,
}

impl Tail {
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            skip: 0,
            partial: Vec::with_capacity(header::SIZE_MAX),
            open: 0,
            implicit_from: None,
            fragments: false,
            lost: false,
            more: false,
            at: 0,
            tag: Tag(0, 0),
        }
    }

    /// The head's length, for the places in errors.
    pub fn start_at(&mut self, at: usize) {
        self.at = at as u64;
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() as u64);
                self.skip -= skipped;
                self.at += skipped;
                // At most the slice's own length.
                bytes = &bytes[skipped as usize..];
                continue;
            }
            let had = self.partial.len();
            let taken = bytes.len().min(header::SIZE_MAX - had);
            self.partial.extend_from_slice(&bytes[..taken]);
            match header::parse(self.inside(), &self.partial) {
                Parsed::Header(found) => {
                    // A partial header is never a whole one, so it ends within this piece.
                    bytes = &bytes[found.size - had..];
                    self.partial.clear();
                    self.at += found.size as u64;
                    self.follow(found.tag, found.kind, found.length, found.inside);
                }
                Parsed::Short => bytes = &bytes[taken..],
                Parsed::BadVr(_) | Parsed::Unexpected(_) => self.lost = true,
            }
        }
    }

    /// # Errors
    /// `Truncated` when the data set ended inside an element or sequence.
    pub fn finish(&self) -> Result<(), HeadError> {
        let is_padding = self.partial.len() < header::SIZE_MIN && self.partial.iter().all(|byte| *byte == 0);
        if self.lost || (self.skip == 0 && self.open == 0 && is_padding) {
            return Ok(());
        }
        let at = self.at + self.partial.len() as u64;
        Err(HeadError::Truncated { tag: self.tag, at })
    }

    /// What stands behind the head, when all of it was pushed.
    pub fn behind(&self) -> Behind {
        match (self.lost, self.more) {
            (true, _) => Behind::Unseen,
            (false, true) => Behind::More,
            (false, false) => Behind::Pixels,
        }
    }

    fn inside(&self) -> Layout {
        match self.implicit_from {
            Some(_) => Layout::ImplicitLittle,
            None => self.layout,
        }
    }

    fn follow(&mut self, tag: Tag, kind: Kind, length: Option<u32>, inside: Layout) {
        let is_of_pixels = tag.0 == PIXEL_GROUP && matches!(tag.1, 0x0001..=0x0003 | 0x0008..=0x0010);
        self.more |= self.open == 0 && !is_of_pixels;
        match (tag, length) {
            (SEQUENCE_END, _) if self.open > 0 => {
                self.open -= 1;
                self.fragments = false;
                self.implicit_from = self.implicit_from.filter(|from| *from <= self.open);
            }
            (ITEM, Some(length)) if self.open > 0 => self.skip = u64::from(length),
            (ITEM, None) | (ITEM_END, _) if self.open > 0 && !self.fragments => {}
            (ITEM | ITEM_END | SEQUENCE_END, _) => self.lost = true,
            _ if self.fragments => self.lost = true,
            (_, Some(length)) => {
                self.tag = tag;
                self.skip = u64::from(length);
            }
            (_, None) => {
                if self.open == 0 {
                    self.tag = tag;
                }
                self.open += 1;
                self.fragments = kind == Kind::Fragments;
                if inside != self.inside() {
                    self.implicit_from = Some(self.open);
                }
            }
        }
    }
}
