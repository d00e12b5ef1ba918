//! The head of a data set, indexed by a bounded, non-recursive scanner over its bytes as they came.
//!
//! Promises: any bytes, in pieces of any size, end in a `Head` or a `HeadError`, in time linear in the bytes and memory of at most
//! `HEAD_MAX` bytes and `NODES_MAX` nodes; a declared length never allocates anything. Called by ingest while an instance
//! streams in, by rules (to read) and by `edit` (to write). Never prints or logs a value, never changes a byte.
pub(crate) mod header;
mod hidden;
mod inflate;
pub(crate) mod read;
mod roots;
mod scan;
mod tail;
#[cfg(test)]
pub(crate) mod tests;

use super::syntax::{Layout, Syntax};
use crate::base::limits::NODE_BYTES;
use bytes::Bytes;
use dicom_core::{Tag, VR};

pub(crate) use header::{dictionary_vr, has_long_length};
use roots::Roots;
pub use scan::{Progress, Scanner};

/// What an indexed piece of the head is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An element with a value.
    Value,
    /// An element that holds items of elements: VR SQ, or UN that holds items (implicit little endian inside, CP-246).
    Sequence,
    /// Encapsulated pixel data inside a sequence (an icon image): its items hold bytes.
    Fragments,
    /// An item, or one fragment.
    Item,
}

/// An element or item of the head, in the order of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    pub tag: Tag,
    /// Where the header starts, in the (inflated) head.
    pub start: u32,
    /// Where the value starts.
    pub value: u32,
    /// Where it ends, delimiter included.
    pub end: u32,
    /// The index of the first node after this one and all it contains.
    pub next: u32,
    /// As written; in implicit layouts from the dictionary, `UN` when it is not known there.
    pub vr: VR,
    /// 0 at the root, one more for each sequence's items and what they contain.
    pub depth: u8,
    pub kind: Kind,
    /// The length was declared as undefined; a delimiter of 8 bytes ends it.
    pub undefined: bool,
    /// How the header and the value are laid out (differs from the data set's inside UN that holds items).
    pub layout: Layout,
}

const _: () = assert!(size_of::<Node>() <= NODE_BYTES);

impl Node {
    /// The declared length; `None` when undefined.
    #[must_use]
    pub fn length(&self) -> Option<u32> {
        (!self.undefined).then(|| self.end - self.value)
    }

    /// The value's place in the head's bytes, delimiter excluded.
    #[must_use]
    pub fn value_range(&self) -> std::ops::Range<usize> {
        let delimiter = if self.undefined { 8 } else { 0 };
        self.value as usize..(self.end - delimiter) as usize
    }

    /// Header, value and delimiter.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What ended the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadEnd {
    /// Pixel data (7FE0,0008/0009/0010) at the root follows the head's bytes.
    Pixels,
    /// The data set ended.
    DataSet,
    /// The next top-level element did not fit into `HEAD_MAX` (or is of group 7FE0 and above).
    Cap,
}

/// What stands behind the head, as far as the scanner has looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// The data set ended with the head.
    Nothing,
    /// Pixel data and the tables of its frames (7FE0,0001 to 7FE0,0010), nothing else.
    Pixels,
    /// Other elements as well.
    More,
    /// The scanner stopped at the head, could not follow, or would have to inflate.
    Unseen,
}

/// Why a head cannot be understood. Carries places and lengths, never values.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    #[error("the data set ends inside {tag} at byte {at}")]
    Truncated { tag: Tag, at: u64 },
    #[error("unexpected {tag} at byte {at}")]
    Unexpected { tag: Tag, at: u64 },
    #[error("VR of {tag} at byte {at} is not valid")]
    BadVr { tag: Tag, at: u64 },
    #[error("{tag} at byte {at} is longer than what encloses it")]
    Overrun { tag: Tag, at: u64 },
    #[error("sequences nested deeper than {0}")]
    TooDeep(usize),
    #[error("more than {0} elements")]
    TooMany(usize),
    #[error("the deflated data set is not valid")]
    BadDeflate,
    #[error("the deflated data set inflates beyond its limit")]
    Bomb,
}

/// The indexed head. Immutable; `Arc` it to share.
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    pub syntax: Syntax,
    /// The head's bytes, inflated when the syntax is deflated.
    pub bytes: Bytes,
    pub nodes: Vec<Node>,
    pub end: HeadEnd,
    /// The first element after the head; `None` when the data set ended.
    pub follows: Option<Tag>,
    /// Known when the scanner has seen the whole data set.
    pub behind: Behind,
    /// What finds the elements of the root without a walk over all of them.
    roots: Roots,
}

/// Patient data stands in the bytes: only sizes are printed.
impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("syntax", &self.syntax)
            .field("bytes", &self.bytes.len())
            .field("nodes", &self.nodes.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Head {
    /// The head of a whole data set in memory (tests, `rules trace`, Part 10 files).
    ///
    /// # Errors
    /// As `Scanner`.
    pub fn scan(syntax: Syntax, data_set: &[u8]) -> Result<Self, HeadError> {
        let mut scanner = Scanner::new(syntax);
        scanner.push(data_set)?;
        scanner.finish()
    }
}

pub(crate) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(crate) const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
pub(crate) const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// The first group whose top-level elements are never part of a head.
pub(crate) const PIXEL_GROUP: u16 = 0x7FE0;
