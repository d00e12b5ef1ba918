//! What one side proposes and the other answers: contexts, our own words, and rejections with their meaning.
//! Used by the acceptor, the requestor and the listener's admission; holds no bytes of the wire but those that
//! an A-ASSOCIATE-AC must send back.
use crate::base::names::{AeTitle, Uid};
use std::fmt;

/// A presentation context as proposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    pub id: u8,
    pub abstract_syntax: Uid,
    /// Never empty.
    pub transfer_syntaxes: Vec<Uid>,
}

/// The result for one presentation context.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    pub id: u8,
    pub abstract_syntax: Uid,
    /// The accepted transfer syntax, or why not (PS3.8 table 9-18: 1 user, 2 no reason, 3 abstract syntax, 4 transfer syntaxes).
    pub result: Result<Uid, u8>,
}

/// An SCP/SCU role selection sub-item (PS3.7 D.3.3.4), as proposed or answered. One that is not answered leaves the default
/// roles: the requestor is SCU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleSelection {
    pub class: Uid,
    pub scu: bool,
    pub scp: bool,
}

/// What a peer asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// As sent, trimmed; `None` when it is no AE title.
    pub called: Option<AeTitle>,
    pub calling: Option<AeTitle>,
    /// Empty when the peer left it out.
    pub application_context: String,
    /// Only bit 0 counts (PS3.8 9.3.2).
    pub protocol_version: u16,
    /// Every context that can be answered on its merits.
    pub contexts: Vec<Proposed>,
    /// Contexts that cannot (id and result): an even id (2), no readable abstract syntax (3), no transfer syntax (4).
    /// `Association::accept` answers them by itself.
    pub unusable: Vec<(u8, u8)>,
    /// 0 means no limit.
    pub max_pdu: u32,
    /// Printable ASCII only; empty when the peer left it out.
    pub implementation_class_uid: String,
    pub implementation_version: String,
    pub user_identity_type: Option<u8>,
    pub roles: Vec<RoleSelection>,
    /// Operations that the peer asks to have outstanding (PS3.7 D.3.3.3); 0 means no limit, `None` that it does not ask.
    pub window: Option<u16>,
    /// Bytes 11 to 74 of the PDU, which an A-ASSOCIATE-AC sends back unchanged (PS3.8 9.3.3).
    pub echo: [u8; 64],
}

impl Default for Request {
    /// A request that proposes nothing: what tests of admission start from.
    fn default() -> Self {
        Self {
            called: None,
            calling: None,
            application_context: super::APPLICATION_CONTEXT.to_owned(),
            protocol_version: 1,
            contexts: Vec::new(),
            unusable: Vec::new(),
            max_pdu: 0,
            implementation_class_uid: String::new(),
            implementation_version: String::new(),
            user_identity_type: None,
            roles: Vec::new(),
            window: None,
            echo: [0; 64],
        }
    }
}

impl Request {
    /// Whether the peer speaks version 1 of the protocol (PS3.8 9.3.2: only bit 0 is tested).
    #[must_use]
    pub fn speaks_version_1(&self) -> bool {
        self.protocol_version & 1 == 1
    }
}

/// Our own words in an A-ASSOCIATE-AC or -RQ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// The maximum PDU length we take.
    pub max_pdu: u32,
    pub implementation_class_uid: Uid,
    /// At most 16 characters.
    pub implementation_version: String,
    /// Operations that may be outstanding: proposed by a requestor, granted by an acceptor to a peer that asks. At least 1, and
    /// 1 is not negotiated at all.
    pub window: u16,
}

/// An A-ASSOCIATE-RJ (PS3.8 table 9-21).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Rejection {
    pub result: u8,
    pub source: u8,
    pub reason: u8,
}

impl Rejection {
    pub const CALLED_AE: Self = Self::of(1, 1, 7);
    pub const CALLING_AE: Self = Self::of(1, 1, 3);
    pub const APPLICATION_CONTEXT: Self = Self::of(1, 1, 2);
    pub const PROTOCOL_VERSION: Self = Self::of(1, 2, 2);
    pub const TEMPORARY_CONGESTION: Self = Self::of(2, 3, 1);
    pub const LOCAL_LIMIT: Self = Self::of(2, 3, 2);

    #[must_use]
    pub const fn of(result: u8, source: u8, reason: u8) -> Self {
        Self { result, source, reason }
    }

    /// Whether trying again later may help (result 2). Anything but 1 counts as transient.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.result != 1
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = match self.result {
            1 => "permanently",
            2 => "for now",
            _ => "with an unknown result",
        };
        let reason = match (self.source, self.reason) {
            (1, 1) | (2, 1) => "no reason given",
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "a reserved reason",
        };
        let (result, source, code) = (self.result, self.source, self.reason);
        write!(f, "{lasting}, {reason} ({result}/{source}/{code})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_speak_in_words_and_numbers() {
        assert_eq!(
            Rejection::CALLED_AE.to_string(),
            "permanently, called AE title not recognized (1/1/7)"
        );
        assert_eq!(
            Rejection::LOCAL_LIMIT.to_string(),
            "for now, local limit exceeded (2/3/2)"
        );
        assert!(Rejection::LOCAL_LIMIT.is_transient() && !Rejection::CALLING_AE.is_transient());
    }
}
