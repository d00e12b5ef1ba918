//! P-DATA as it goes out: cut to the peer's maximum PDU length, gathered into large writes, copied once.
//! The last-fragment flag of a data set leaves only through `DataSetWriter::finish`.
use super::{Association, DEFAULT_MAX_PDU, Stream, UlError};
use crate::dicom::dimse::Command;

/// Full PDUs are gathered up to here before they are written: small PDUs would cost a system call each.
const WRITE_AT: usize = 256 << 10;

/// PDU header, fragment header with context and control.
const HEADERS: usize = 12;

/// A PDU that holds a fragment of less than this is not sent, whatever the peer announced.
const FRAGMENT_MIN: u32 = 2;

/// What is framed and not yet written.
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    /// Bytes of a message in one PDU; even, as PS3.8 annex E.2 asks of fragments.
    limit: usize,
    /// Where the PDU starts that is being filled.
    open: Option<usize>,
    /// A data set was begun and not finished.
    sending: bool,
}

impl Outgoing {
    /// `max_pdu` as the peer announced it; 0 means that it takes any length.
    pub(super) fn new(max_pdu: u32) -> Self {
        let longest = match max_pdu {
            0 => DEFAULT_MAX_PDU,
            limited => limited.min(DEFAULT_MAX_PDU),
        };
        let fragment = (longest.saturating_sub(6) & !1).max(FRAGMENT_MIN);
        Self {
            buffer: Vec::new(),
            limit: fragment as usize,
            open: None,
            sending: false,
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Opens a PDU with one fragment. Its lengths are set when it is closed.
    fn begin(&mut self, context: u8, is_command: bool) {
        self.open = Some(self.buffer.len());
        self.buffer.extend_from_slice(&[
            super::pdu::P_DATA,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            context,
            u8::from(is_command),
        ]);
    }

    /// Bytes that the open PDU still takes; 0 when none is open.
    fn room(&self) -> usize {
        self.open
            .map_or(0, |start| start + HEADERS + self.limit - self.buffer.len())
    }

    /// Closes the open PDU: sets its lengths and, when it is the last, its flag.
    fn end(&mut self, is_last: bool) {
        let Some(start) = self.open.take() else { return };
        // A PDU is at most DEFAULT_MAX_PDU long.
        let length = u32::try_from(self.buffer.len() - start - HEADERS).unwrap_or(u32::MAX);
        let header = &mut self.buffer[start..start + HEADERS];
        header[2..6].copy_from_slice(&(length + 6).to_be_bytes());
        header[6..10].copy_from_slice(&(length + 2).to_be_bytes());
        if is_last {
            header[11] |= 2;
        }
    }

    /// Adds bytes to the open PDU, and opens more; answers how many fit before the buffer should be written.
    /// A full PDU stays open until another byte comes, for it may be the last.
    fn push(&mut self, context: u8, is_command: bool, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.room() == 0 {
                self.end(false);
                if self.buffer.len() >= WRITE_AT {
                    break;
                }
                self.begin(context, is_command);
            }
            let (now, later) = rest.split_at(rest.len().min(self.room()));
            self.buffer.extend_from_slice(now);
            rest = later;
        }
        bytes.len() - rest.len()
    }
}

impl<S: Stream> Association<S> {
    /// Sends a command (with its last flag) and flushes it, unless a data set follows: then it leaves with its first bytes.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn send(&mut self, context: u8, command: &Command) -> Result<(), UlError> {
        self.usable()?;
        let bytes = command.write();
        // A command set is a few hundred bytes: it never reaches the point where the buffer must be written between.
        let pushed = self.outgoing.push(context, true, &bytes);
        assert_eq!(pushed, bytes.len(), "a command set fits into the write buffer");
        self.outgoing.end(true);
        if command.has_data_set() {
            Ok(())
        } else {
            self.write_out(true).await
        }
    }

    /// Starts the data set of the command just sent. It ends with `finish`, or the association is lost.
    pub fn data_set(&mut self, context: u8) -> DataSetWriter<'_, S> {
        let usable = !self.is_poisoned();
        self.outgoing.sending = true;
        DataSetWriter {
            association: self,
            context,
            usable,
        }
    }

    /// Writes all closed PDUs. Poisons when it fails or is cancelled.
    async fn write_out(&mut self, flush: bool) -> Result<(), UlError> {
        assert!(self.outgoing.open.is_none(), "only closed PDUs are written");
        self.poisoned = true;
        let mut result = self.wire.put(&self.outgoing.buffer).await;
        if flush && result.is_ok() {
            result = self.wire.flush().await;
        }
        match result {
            Ok(()) => {
                self.outgoing.buffer.clear();
                self.poisoned = false;
                Ok(())
            }
            Err(error) => Err(self.had_aborted(error).await),
        }
    }
}

/// The sending side of one data set. Dropped without `finish`, it poisons the association: the last-fragment flag is never sent.
pub struct DataSetWriter<'a, S> {
    association: &'a mut Association<S>,
    context: u8,
    usable: bool,
}

impl<S: Stream> DataSetWriter<'_, S> {
    /// Sends bytes, cut to the peer's maximum PDU length. They may wait in the buffer until more come.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), UlError> {
        self.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let pushed = self.association.outgoing.push(self.context, false, rest);
            rest = &rest[pushed..];
            if !rest.is_empty() {
                self.association.write_out(false).await?;
            }
        }
        Ok(())
    }

    /// Sends the last fragment with its flag, and flushes.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn finish(self) -> Result<(), UlError> {
        self.check()?;
        let outgoing = &mut self.association.outgoing;
        if outgoing.open.is_none() {
            outgoing.begin(self.context, false);
        }
        outgoing.end(true);
        self.association.write_out(true).await?;
        self.association.outgoing.sending = false;
        Ok(())
    }

    fn check(&self) -> Result<(), UlError> {
        if self.usable && !self.association.poisoned {
            Ok(())
        } else {
            Err(UlError::Poisoned)
        }
    }
}
