//! The seam to whatever holds the bytes: the sender is handed a reader and knows no spool.
use bytes::Bytes;
use std::future::Future;

/// Why a payload cannot be read to its end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadFault {
    #[error("the stored bytes are not those that arrived (checksum)")]
    Corrupt,
    #[error("the stored bytes cannot be read: {0}")]
    Unreadable(String),
    /// The disk or the process, and nothing of this instance.
    #[error("the stored bytes cannot be read now: {0}")]
    Later(String),
}

/// Reads the data set of one instance from its start to its end, once.
pub trait PayloadReader: Send {
    /// Bytes of the data set as it arrived.
    fn length(&self) -> u64;

    /// The next piece (at most `STRIDE` bytes), or `None` at the end. Not called again after `None` or an error.
    ///
    /// # Errors
    /// See `ReadFault`.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, ReadFault>> + Send;

    /// Begins anew from the start, after whatever was read.
    fn rewind(&mut self);

    /// Called once, after `None`: whether all that was read is what arrived.
    ///
    /// # Errors
    /// `Corrupt`.
    fn verify(&mut self) -> Result<(), ReadFault>;
}
