//! Edit plans: what rules decided to change, applied to the head's bytes when an instance leaves.
//!
//! Promises: what no edit names leaves byte for byte; the same head and plan give the same bytes; an edit that changes nothing
//! leaves nothing changed. Called by rules (to build plans), by ingest (to store them) and by the sender (to apply them).
//! Never decodes more than the elements it is asked for. Changing Specific Character Set re-encodes nothing by itself:
//! `Plan::recoded` makes the edits that carry the text over, and `Survey` finds out what it really is in.
mod apply;
mod build;
mod codec;
mod former;
pub mod made;
#[cfg(test)]
mod model_tests;
mod places;
mod recode;
mod stamp;
mod survey;
#[cfg(test)]
mod survey_tests;
#[cfg(test)]
mod survey_words_tests;
#[cfg(test)]
mod tests;
mod tree;

use super::head::Head;
use super::path::Path;
use crate::base::names::Uid;
use dicom_core::VR;
pub use made::{Made, Unmade};
pub use survey::{Advice, Declaration, Survey};

/// One change. Values are raw bytes in little endian, already padded to even length.
#[derive(Clone, PartialEq, Eq)]
pub enum Edit {
    /// Sets an element, creating it, its sequence and (at index = item count) its item when missing. The VR of an existing
    /// element stays when both are short strings or both are long texts; otherwise `vr` is written. With VR SQ and no bytes
    /// it is a sequence without items.
    Set { path: Path, vr: VR, value: Vec<u8> },
    /// Removes an element (or a whole sequence). Nothing happens when it is absent.
    Remove { path: Path },
}

/// Values are patient data: only paths and lengths are printed.
impl std::fmt::Debug for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set { path, vr, value } => write!(f, "Set({path:?}, {vr}, {} bytes)", value.len()),
            Self::Remove { path } => write!(f, "Remove({path:?})"),
        }
    }
}

impl Edit {
    /// The element that it changes.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Set { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// Who changed the data set, for Original Attributes (0400,0561) and Contributing Equipment (0018,A001).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Modifying System (0400,0563) and Station Name.
    pub system: String,
    /// DT: Attribute Modification DateTime (0400,0562).
    pub at: String,
    /// The rule set's epoch, for Contribution Description.
    pub epoch: String,
    /// Source of Previous Values (0400,0564).
    pub source: String,
}

/// All changes for one destination. Empty means: every byte leaves as it arrived.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    pub edits: Vec<Edit>,
    pub stamp: Option<Stamp>,
}

/// Why a plan cannot be made or applied. Never carries a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    #[error("the element to change lies beyond the part of the data set that is kept in memory")]
    BeyondHead,
    #[error("the edited value does not fit its VR")]
    TooLong,
    #[error("the path leads through an element that is not a sequence, or to an item that does not exist")]
    NoSuchItem,
    #[error("a sequence or an item cannot be set to a value")]
    NotAValue,
    #[error("the element does not hold text or numbers")]
    NotText,
    #[error("the text is not a number that the element can hold")]
    NotANumber,
    #[error("the text is no UID: digits and dots only")]
    NotAUid,
    #[error("the value cannot be written in the data set's character set")]
    Unencodable,
    #[error("a text of the data set cannot be carried over into the new character set")]
    Uncarried,
    #[error("the new character set would rewrite more text than one plan may hold")]
    TooMuch,
    #[error("all blocks of the private group are taken")]
    NoBlock,
    #[error("the stored edit plan is not readable")]
    Unreadable,
}

impl Plan {
    /// Whether the place of the stamp's items lies in the head; where it does not, a stamped plan cannot be applied.
    #[must_use]
    pub fn can_stamp(head: &Head) -> bool {
        stamp::is_in_reach(head)
    }

    /// The SOP Instance UID that it writes into the data set; `None` when it writes none, or what it writes is no UID.
    #[must_use]
    pub fn sop_instance(&self) -> Option<Uid> {
        let path = Path::tag(made::SOP_INSTANCE_UID);
        let value = self.edits.iter().rev().find_map(|edit| match edit {
            Edit::Set { path: at, value, .. } if *at == path => Some(value),
            Edit::Set { .. } | Edit::Remove { .. } => None,
        })?;
        let text = std::str::from_utf8(value).ok()?;
        Uid::parse(text.trim_end_matches(['\0', ' '])).ok()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}
