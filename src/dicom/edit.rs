//! Edit plans: what rules decided to change, applied to the head's bytes when an instance leaves.
use super::head::Head;
use super::path::Path;
use dicom_core::VR;

/// One change. Values are raw bytes in little endian, already padded to even length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Sets an element, creating it, its sequence and (at index = item count) its item when missing.
    Set { path: Path, vr: VR, value: Vec<u8> },
    /// Removes an element (or a whole sequence). Nothing happens when it is absent.
    Remove { path: Path },
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

/// Why a plan cannot be applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    #[error("the element to change lies beyond the part of the data set that is kept in memory")]
    BeyondHead,
    #[error("the edited value does not fit its VR")]
    TooLong,
    #[error("the path leads through an element that is not a sequence, or to an item that does not exist")]
    NoSuchItem,
    #[error("the stored edit plan is not readable")]
    Unreadable,
}

impl Plan {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Versioned bytes for a job's record. Empty for an empty plan.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// # Errors
    /// `Unreadable`.
    pub fn decode(_bytes: &[u8]) -> Result<Self, EditError> {
        todo!()
    }

    /// The head's bytes with all edits made, in the head's own layout (not deflated). Everything not named by an edit
    /// stands byte for byte as before; lengths of enclosing sequences and items are made right; group lengths
    /// (gggg,0000) of changed groups are dropped. When anything really changes, one Original Attributes item and one
    /// Contributing Equipment item are added. Deterministic: the same head and plan give the same bytes.
    ///
    /// # Errors
    /// See `EditError`.
    pub fn apply(&self, _head: &Head) -> Result<Vec<u8>, EditError> {
        todo!()
    }
}
