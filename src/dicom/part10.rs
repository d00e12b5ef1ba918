//! DICOM Part 10 files: preamble, file meta information, and where the data set starts.
use crate::base::names::{AeTitle, Uid};

/// The file meta information that this box writes and reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileMeta {
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    /// Source Application Entity Title (0002,0016).
    pub source_ae: Option<AeTitle>,
    /// Private Information Creator UID (0002,0100) and Private Information (0002,0102).
    pub private: Option<(Uid, Vec<u8>)>,
}

/// Why a file is no DICOM file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Part10Error {
    #[error("not a DICOM Part 10 file (no DICM at byte 128)")]
    NotPart10,
    #[error("the file meta information is not readable")]
    BadMeta,
    #[error("the file meta information lacks {0}")]
    Missing(&'static str),
}

/// This box's implementation class UID (under 2.25) and version name.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.169384732981045273920174839201748392011";
pub const IMPLEMENTATION_VERSION: &str = "WAYSTATION_01";
/// The creator of the private information in the file meta information of spool files.
pub const PRIVATE_CREATOR_UID: &str = "2.25.169384732981045273920174839201748392012";

/// The longest preamble and file meta information that is read.
pub const META_MAX: usize = 64 << 10;

impl FileMeta {
    /// Preamble (zeros), `DICM` and the file meta information, with right group length. The data set follows directly.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads the start of a file. Answers the meta and the offset of the data set.
    ///
    /// # Errors
    /// See `Part10Error`. Give at least `META_MAX` bytes, or the whole file when it is shorter.
    pub fn read(_start: &[u8]) -> Result<(Self, usize), Part10Error> {
        todo!()
    }

    /// The offset of the private information's value in what `write` answered; `None` without private information.
    #[must_use]
    pub fn private_offset(&self) -> Option<usize> {
        todo!()
    }
}
