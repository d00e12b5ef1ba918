//! DIMSE commands (PS3.7): parsed and written in implicit little endian, nothing but what this box speaks.
use crate::base::names::{AeTitle, Uid};

/// Priority (0000,0700).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    #[default]
    Medium,
    High,
    Low,
}

/// A command set, as far as this box uses it. Parsing is bounded (`COMMAND_MAX`), order-tolerant and ignores unknown elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    EchoRq {
        message_id: u16,
    },
    EchoRsp {
        message_id: u16,
        status: u16,
    },
    StoreRq(StoreRq),
    StoreRsp(StoreRsp),
    /// C-CANCEL: nothing to cancel here; read and passed over.
    Cancel {
        message_id: u16,
    },
    /// Any other request: answered 0211H by who receives it. `class` and `instance` as far as the peer gave them.
    Other {
        field: u16,
        message_id: u16,
        class: Option<Uid>,
        has_data_set: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRq {
    pub message_id: u16,
    pub priority: Priority,
    /// `None` when the peer sent something that is no UID; the store is then answered with 0117H / C000H.
    pub sop_class: Option<Uid>,
    pub sop_instance: Option<Uid>,
    /// Move Originator AE title and message id, passed over by this box but parsed.
    pub move_originator: Option<(AeTitle, u16)>,
    /// False when Command Data Set Type says 0101H: a C-STORE without data set, answered with an error.
    pub has_data_set: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRsp {
    pub message_id: u16,
    pub status: u16,
    pub sop_class: Option<Uid>,
    pub sop_instance: Option<Uid>,
    /// Error Comment (0000,0902), at most 64 characters, never patient data when this box writes it.
    pub comment: Option<String>,
}

/// Longest command set that is read, in bytes.
pub const COMMAND_MAX: usize = 64 << 10;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the command set is not readable")]
    Malformed,
    #[error("the command set lacks {0}")]
    Missing(&'static str),
}

impl Command {
    /// # Errors
    /// See `CommandError`.
    pub fn parse(_bytes: &[u8]) -> Result<Self, CommandError> {
        todo!()
    }

    /// The command set's bytes with its group length.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        todo!()
    }

    /// Whether a data set follows.
    #[must_use]
    pub fn has_data_set(&self) -> bool {
        todo!()
    }
}
