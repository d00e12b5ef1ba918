//! The place of an element in a data set: `PatientID`, `(0010,0020)`, `RequestAttributesSequence[0].AccessionNumber`,
//! `(0029,"SIEMENS CSA HEADER",10)` for a private element by its creator.
use dicom_core::Tag;

/// One element's tag, or a private element by group, creator and low byte, resolved in the item it is looked up in.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Selector {
    Tag(Tag),
    Private { group: u16, creator: String, element: u8 },
}

/// The way from the data set's root: zero or more sequence items, then the element.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Each enclosing sequence with the index of the item in it.
    pub items: Vec<(Selector, usize)>,
    pub leaf: Selector,
}

/// Why a text names no element.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// A keyword that is not in the dictionary, with the nearest one that is.
    #[error("`{keyword}` is not a DICOM keyword; did you mean `{nearest}`?")]
    UnknownKeyword { keyword: String, nearest: String },
    #[error("`{0}` is not an element: write a keyword, (gggg,eeee), (gggg,\"CREATOR\",ee) or Sequence[0].Element")]
    Malformed(String),
    #[error("a path goes through more than {0} sequences")]
    TooDeep(usize),
}

impl Path {
    /// # Errors
    /// An unknown keyword (with the nearest known), a malformed path, more than `DEPTH_MAX` sequences.
    pub fn parse(_text: &str) -> Result<Self, PathError> {
        todo!()
    }

    #[must_use]
    pub fn tag(tag: Tag) -> Self {
        Self {
            items: Vec::new(),
            leaf: Selector::Tag(tag),
        }
    }
}
