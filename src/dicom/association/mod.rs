//! The upper layer (PS3.8), both sides, over any byte stream. The listener accepts with it, the sender requests with it.
//!
//! dicom-ul gives the PDU model and writes the association PDUs; their parsers, acceptor, requestor and P-DATA are ours:
//! the last-fragment flag leaves only through `DataSetWriter::finish`, which flushes; a writer that is dropped
//! before poisons the association (it can only be aborted then); every read and write has a deadline; P-DATA is
//! streamed without buffering whole PDUs; nothing that a peer declares is allocated before it has arrived.
//!
//! It never decodes a data set, and no error carries anything that a peer wrote into a text field.
//!
//! | file | holds |
//! | --- | --- |
//! | `request.rs` | what is proposed, answered and refused |
//! | `pdu.rs` | bytes of the association PDUs, parsed with tolerance |
//! | `wire.rs` | the stream with its deadlines |
//! | `acceptor.rs`, `requestor.rs` | the two roles |
//! | `incoming.rs`, `outgoing.rs` | P-DATA, read and written |
mod acceptor;
mod incoming;
mod outgoing;
mod pdu;
mod request;
mod requestor;
#[cfg(test)]
mod tests;
mod wire;

pub use acceptor::{receive_request, reject, turn_away};
pub use outgoing::DataSetWriter;
pub use request::{Context, Local, Proposed, Rejection, Request, RoleSelection};
pub use wire::{Leaving, patiently};

use super::dimse::Command;
use crate::base::dialect::Dialect;
use crate::base::names::{AeTitle, Uid};
use incoming::Incoming;
use outgoing::Outgoing;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::Wire;

/// The maximum PDU length that this box announces unless it is configured otherwise.
pub const DEFAULT_MAX_PDU: u32 = 131_072;

/// A P-DATA PDU may be this long, whatever we announced: it is streamed, so a peer that ignores our maximum costs nothing.
pub const P_DATA_MAX: u32 = 16 << 20;

/// Presentation contexts in one request: ids are the odd numbers of a byte (PS3.8 9.3.2.2).
pub const CONTEXTS_MAX: usize = 128;

/// The DICOM application context name (PS3.7 A.2.1).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// A byte stream to a peer: TCP or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Deadlines, one for each protocol state (ARTIM and beyond).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// From the connection to the whole A-ASSOCIATE-RQ (acceptor), or from RQ to AC/RJ (requestor).
    pub association: Duration,
    /// Between two messages on an idle association (acceptor).
    pub idle: Duration,
    /// Between two pieces of a running data set; a command set must be complete within it.
    pub transfer: Duration,
    /// For a write to make progress, or for what was written before to leave (`Association::heed`).
    pub write: Duration,
    /// For the answer to a C-STORE or C-ECHO to begin (requestor), after what was sent has left.
    pub response: Duration,
    /// For A-RELEASE-RP and for the peer to close.
    pub release: Duration,
}

/// What went wrong on an association. After any of these it must be aborted and dropped, never used again.
#[derive(Debug, thiserror::Error)]
pub enum UlError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("timed out while {0}")]
    Timeout(&'static str),
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the peer speaks {} on this port, where plain DICOM is configured", .0.words())]
    Foreign(Dialect),
    #[error("the peer aborted (source {source_code}, reason {reason})")]
    Aborted { source_code: u8, reason: u8 },
    #[error("the peer rejected the association: {0}")]
    Rejected(Rejection),
    #[error("the association is poisoned by an unfinished or failed transfer")]
    Poisoned,
}

/// What comes next on an association.
#[derive(Debug)]
pub enum Event {
    /// A command on a context. When it `has_data_set`, drain it with `data` until `None` before anything else.
    Command { context: u8, command: Command },
    /// A command set that could not be parsed on this context (message is consumed up to the command's end).
    /// It cannot be answered, for its message id is not known: abort.
    Malformed { context: u8 },
    /// The peer asked for release; `release_reply` and drop.
    Release,
}

/// Which side this box is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Acceptor,
    Requestor,
}

/// Who is at the other end, in its own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub called: Option<AeTitle>,
    pub calling: Option<AeTitle>,
    /// The longest P-DATA PDU that it takes; 0 means no limit.
    pub max_pdu: u32,
    pub implementation_class_uid: String,
    pub implementation_version: String,
}

/// An established association of either role.
pub struct Association<S> {
    wire: Wire<S>,
    role: Role,
    timeouts: Timeouts,
    contexts: Vec<Context>,
    /// The role selections that the acceptor answered.
    roles: Vec<RoleSelection>,
    peer: Peer,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Operations that may be outstanding, as negotiated.
    window: u16,
    /// Set by every error: what the peer reads from now on could be misunderstood.
    poisoned: bool,
    /// Reading has failed: nothing more of what the peer says is understood.
    deaf: bool,
}

impl<S: Stream> Association<S> {
    fn new(wire: Wire<S>, role: Role, timeouts: Timeouts, contexts: Vec<Context>, peer: Peer) -> Self {
        let outgoing = Outgoing::new(peer.max_pdu);
        Self {
            wire,
            role,
            timeouts,
            contexts,
            roles: Vec::new(),
            peer,
            incoming: Incoming::default(),
            outgoing,
            window: 1,
            poisoned: false,
            deaf: false,
        }
    }

    /// From now on a deadline for sending, or for an answer, begins anew as long as bytes that were sent are seen to leave.
    pub fn heed(&mut self, leaving: Leaving) {
        self.wire.leaving = Some(leaving);
    }

    /// All contexts with their results.
    #[must_use]
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// Operations that may be outstanding on this association: 1 unless both sides negotiated more.
    #[must_use]
    pub fn window(&self) -> usize {
        usize::from(self.window.max(1))
    }

    /// Who the peer is, as far as the association told.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The accepted context for a class in exactly this transfer syntax.
    #[must_use]
    pub fn accepted(&self, abstract_syntax: &Uid, transfer_syntax: &Uid) -> Option<u8> {
        let fits = |c: &&Context| c.abstract_syntax == *abstract_syntax && c.result.as_ref() == Ok(transfer_syntax);
        self.contexts.iter().find(fits).map(|c| c.id)
    }

    /// Any accepted context for a class, whatever its transfer syntax (C-ECHO).
    #[must_use]
    pub fn accepted_class(&self, abstract_syntax: &Uid) -> Option<u8> {
        let fits = |c: &&Context| c.abstract_syntax == *abstract_syntax && c.result.is_ok();
        self.contexts.iter().find(fits).map(|c| c.id)
    }

    /// The roles that the acceptor answered for a class; `None` when it answered none, so that the defaults hold.
    #[must_use]
    pub fn role(&self, class: &Uid) -> Option<&RoleSelection> {
        self.roles.iter().find(|role| role.class == *class)
    }

    /// The context of an id, when it was accepted.
    #[must_use]
    pub fn context(&self, id: u8) -> Option<&Context> {
        self.contexts.iter().find(|c| c.id == id && c.result.is_ok())
    }

    /// True after an error or an unfinished data set: only `abort` is left.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned || self.outgoing.is_sending()
    }

    /// A-ABORT (source 0 user or 2 provider), best effort within the write deadline, then closes.
    /// Nothing that was still waiting to be sent leaves; when part of a PDU has left, the connection is only closed,
    /// for an A-ABORT would be read as that PDU's bytes. A protocol error has already sent its own A-ABORT.
    pub async fn abort(mut self, source: u8, reason: u8) {
        self.wire.abort(source, reason).await;
        self.wire.close(self.timeouts.release.min(wire::LINGER)).await;
    }

    fn usable(&self) -> Result<(), UlError> {
        if self.is_poisoned() {
            Err(UlError::Poisoned)
        } else {
            Ok(())
        }
    }
}
