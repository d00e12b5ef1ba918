//! The upper layer (PS3.8), both sides, over any byte stream.
//!
//! dicom-ul gives the PDU model and codec for the association PDUs; acceptor, requestor and P-DATA are ours:
//! the last-fragment flag leaves only through `DataSetWriter::finish`, which flushes; a writer that is dropped
//! before poisons the association (it can only be aborted then); every read and write has a deadline; P-DATA is streamed without
//! buffering whole PDUs; nothing that a peer declares is allocated before it has arrived.
use super::dimse::Command;
use crate::base::names::{AeTitle, Uid};
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

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
    /// Between two pieces of a running message.
    pub transfer: Duration,
    /// For a write to make progress.
    pub write: Duration,
    /// For the answer to a C-STORE or C-ECHO (requestor).
    pub response: Duration,
    /// For A-RELEASE-RP and for the peer to close.
    pub release: Duration,
}

/// A presentation context as proposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    pub id: u8,
    pub abstract_syntax: Uid,
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

/// What a peer asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// As sent, trimmed; `None` when it is no AE title.
    pub called: Option<AeTitle>,
    pub calling: Option<AeTitle>,
    pub application_context: String,
    pub protocol_version: u16,
    pub contexts: Vec<Proposed>,
    /// 0 means no limit.
    pub max_pdu: u32,
    pub implementation_class_uid: String,
    pub implementation_version: String,
    pub user_identity_type: Option<u8>,
}

/// An A-ASSOCIATE-RJ (PS3.8 table 9-21).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Rejection {
    pub result: u8,
    pub source: u8,
    pub reason: u8,
}

impl Rejection {
    pub const CALLED_AE: Self = Self {
        result: 1,
        source: 1,
        reason: 7,
    };
    pub const CALLING_AE: Self = Self {
        result: 1,
        source: 1,
        reason: 3,
    };
    pub const APPLICATION_CONTEXT: Self = Self {
        result: 1,
        source: 1,
        reason: 2,
    };
    pub const PROTOCOL_VERSION: Self = Self {
        result: 1,
        source: 2,
        reason: 2,
    };
    pub const TEMPORARY_CONGESTION: Self = Self {
        result: 2,
        source: 3,
        reason: 1,
    };
    pub const LOCAL_LIMIT: Self = Self {
        result: 2,
        source: 3,
        reason: 2,
    };
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
    #[error("the peer aborted (source {source_code}, reason {reason})")]
    Aborted { source_code: u8, reason: u8 },
    #[error("the peer rejected the association (result {0:?})")]
    Rejected(Rejection),
    #[error("the association is poisoned by an unfinished send")]
    Poisoned,
}

/// What comes next on an association, seen by the acceptor.
#[derive(Debug)]
pub enum Event {
    /// A command on a context. When it `has_data_set`, drain it with `data` until `None` before anything else.
    Command { context: u8, command: Command },
    /// A command set that could not be parsed on this context (message is consumed up to the command's end).
    Malformed { context: u8 },
    /// The peer asked for release; `release_reply` and drop.
    Release,
}

/// An established association of either role.
pub struct Association<S> {
    _stream: S,
}

/// Reads the A-ASSOCIATE-RQ. On a malformed one an A-ABORT is sent before the error is returned.
///
/// # Errors
/// See `UlError`.
pub async fn receive_request<S: Stream>(_stream: &mut S, _timeouts: &Timeouts) -> Result<Request, UlError> {
    todo!()
}

/// Answers with A-ASSOCIATE-RJ, waits (bounded by `release`) for the peer to close.
///
/// # Errors
/// See `UlError`.
pub async fn reject<S: Stream>(_stream: S, _rejection: Rejection, _timeouts: &Timeouts) -> Result<(), UlError> {
    todo!()
}

/// Our own words in an A-ASSOCIATE-AC or -RQ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// The maximum PDU length we take.
    pub max_pdu: u32,
    pub implementation_class_uid: Uid,
    pub implementation_version: String,
}

impl<S: Stream> Association<S> {
    /// Acceptor: answers A-ASSOCIATE-AC with these results.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn accept(
        _stream: S,
        _request: &Request,
        _results: Vec<Context>,
        _local: &Local,
        _timeouts: Timeouts,
    ) -> Result<Self, UlError> {
        todo!()
    }

    /// Requestor: proposes `contexts` (ids are given out here: at most 128).
    ///
    /// # Errors
    /// `Rejected` with the peer's words, and the rest of `UlError`.
    pub async fn request(
        _stream: S,
        _calling: &AeTitle,
        _called: &AeTitle,
        _contexts: &[(Uid, Vec<Uid>)],
        _local: &Local,
        _timeouts: Timeouts,
    ) -> Result<Self, UlError> {
        todo!()
    }

    /// All contexts with their results.
    #[must_use]
    pub fn contexts(&self) -> &[Context] {
        todo!()
    }

    /// The next command or release. Answers a peer's abort as `UlError::Aborted`. Not cancel-safe.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn next(&mut self) -> Result<Event, UlError> {
        todo!()
    }

    /// The next piece (at most `CHUNK` bytes) of the running message's data set; `None` after the last fragment.
    /// Pieces are handed on as they arrive. Not cancel-safe.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn data(&mut self) -> Result<Option<Bytes>, UlError> {
        todo!()
    }

    /// Sends a command (with its last flag) and flushes it, unless a data set follows.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn send(&mut self, _context: u8, _command: &Command) -> Result<(), UlError> {
        todo!()
    }

    /// Starts the data set of the command just sent.
    pub fn data_set(&mut self, _context: u8) -> DataSetWriter<'_, S> {
        todo!()
    }

    /// Requestor: A-RELEASE-RQ, waits for the reply, closes.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn release(self) -> Result<(), UlError> {
        todo!()
    }

    /// Acceptor: A-RELEASE-RP, waits for the peer to close.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn release_reply(self) -> Result<(), UlError> {
        todo!()
    }

    /// A-ABORT (source 0 user or 2 provider), best effort within the write deadline, then closes.
    pub async fn abort(self, _source: u8, _reason: u8) {
        todo!()
    }
}

/// The sending side of one data set. Dropped without `finish`, it poisons the association: the last-fragment flag is never sent.
pub struct DataSetWriter<'a, S> {
    _association: &'a mut Association<S>,
}

impl<S: Stream> DataSetWriter<'_, S> {
    /// Sends bytes, cut to the peer's maximum PDU length.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn write(&mut self, _bytes: &[u8]) -> Result<(), UlError> {
        todo!()
    }

    /// Sends the last fragment with its flag, and flushes.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn finish(self) -> Result<(), UlError> {
        todo!()
    }
}
