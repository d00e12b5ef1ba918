//! The head of a data set, indexed by a bounded, non-recursive scanner over its bytes as they came.
use super::path::Path;
use super::syntax::Syntax;
use bytes::Bytes;
use dicom_core::{Tag, VR};

/// An element, item or delimiter of the head, in the order of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    pub tag: Tag,
    /// As written; in implicit syntaxes from the dictionary, `UN` when it is not known there.
    pub vr: VR,
    /// 0 at the root, one more in each sequence's items.
    pub depth: u8,
    /// Where the element's header starts, in the inflated head.
    pub start: usize,
    /// Where its value starts.
    pub value: usize,
    /// The declared length; `None` when undefined.
    pub length: Option<u32>,
    /// Where it ends, delimiter included.
    pub end: usize,
    /// The index of the first node after this element and all it contains.
    pub next: usize,
}

/// What ended the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadEnd {
    /// Pixel data (7FE0,0008/0009/0010) at the root follows at `Head::length`.
    Pixels,
    /// The data set ended.
    DataSet,
    /// The next top-level element did not fit into `HEAD_MAX` (or is of group 7FE0 and above).
    Cap,
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

/// Takes a data set in pieces of any size, as it arrives.
pub struct Scanner {
    _todo: (),
}

/// What a scanner knows after a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The head is not complete yet.
    More,
    /// The head is complete; later pieces only have their structure checked (or are passed over).
    HeadComplete,
}

/// The indexed head. Immutable; `Arc` it to share.
#[derive(Clone, Debug)]
pub struct Head {
    pub syntax: Syntax,
    /// The head's bytes, inflated when the syntax is deflated.
    pub bytes: Bytes,
    pub nodes: Vec<Node>,
    pub end: HeadEnd,
}

impl Scanner {
    #[must_use]
    pub fn new(_syntax: Syntax) -> Self {
        todo!()
    }

    /// # Errors
    /// See `HeadError`; after an error the scanner must not be used again.
    pub fn push(&mut self, _piece: &[u8]) -> Result<Progress, HeadError> {
        todo!()
    }

    /// The head as soon as `push` has answered `HeadComplete`, while the rest still streams.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        todo!()
    }

    /// The data set has ended.
    ///
    /// # Errors
    /// `Truncated` when it ended inside an element.
    pub fn finish(self) -> Result<Head, HeadError> {
        todo!()
    }
}

impl Head {
    /// The head of a whole data set in memory (tests, `rules trace`, Part 10 files).
    ///
    /// # Errors
    /// As `Scanner`.
    pub fn scan(_syntax: Syntax, _data_set: &[u8]) -> Result<Self, HeadError> {
        todo!()
    }

    /// The node at `path`, or `None`.
    #[must_use]
    pub fn find(&self, _path: &Path) -> Option<usize> {
        todo!()
    }

    /// The raw value bytes of a node, as they stand (in the syntax's byte order).
    #[must_use]
    pub fn raw(&self, _node: usize) -> &[u8] {
        todo!()
    }

    /// The decoded text values of the element at `path`: character sets in scope applied (with code extensions),
    /// padding removed, split at backslashes after decoding, numbers as decimal text.
    /// `None` when it is absent, a sequence, or binary.
    #[must_use]
    pub fn text(&self, _path: &Path) -> Option<Vec<String>> {
        todo!()
    }

    /// The number of items of the sequence at `path`; `None` when it is no sequence or absent.
    #[must_use]
    pub fn items(&self, _path: &Path) -> Option<usize> {
        todo!()
    }

    /// The first value of a top-level element, trimmed; empty when absent.
    #[must_use]
    pub fn first(&self, _tag: Tag) -> String {
        todo!()
    }
}
