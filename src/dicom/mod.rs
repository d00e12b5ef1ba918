//! Layer 1: DICOM as this box needs it: bytes, not objects. No disk, no configuration, no rules.
pub mod association;
pub mod check_digit;
pub mod commitment;
pub mod dimse;
pub mod edit;
pub mod family;
pub mod head;
pub mod moment;
pub mod part10;
pub mod path;
pub mod profile;
pub mod prompt;
pub mod pseudonym;
pub mod relayout;
pub mod status;
pub mod syntax;
pub mod text;
