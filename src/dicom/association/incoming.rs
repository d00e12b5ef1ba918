//! P-DATA as it comes in: commands gathered, data sets handed on piece by piece, whatever the fragmentation.
//! Memory: one read block and one command set. Every violation answers A-ABORT by itself.
use super::pdu::{self, INVALID_PARAMETER, PROVIDER, UNEXPECTED_PDU};
use super::{Association, Event, P_DATA_MAX, Role, Stream, UlError};
use crate::base::limits::CHUNK;
use crate::dicom::dimse::{COMMAND_MAX, Command};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

/// Fragments and PDUs in a row that may be empty. They are legal, but make no progress.
const EMPTY_MAX: u32 = 256;

/// Read room while only commands are expected: an idle association keeps no large block.
const COMMAND_ROOM: usize = 8 << 10;

/// Fragments of this length and more are read straight to where they belong. Of shorter ones many are read at once, and copied: a call
/// for each would cost more.
const STRAIGHT: u32 = 32 << 10;

const IN_COMMAND: &str = "reading a command set";
const IN_DATA: &str = "reading a data set";

/// Where the reader stands in the peer's stream. Complete at every await, so that reading is cancel-safe.
#[derive(Default)]
pub(super) struct Incoming {
    /// Bytes left of the P-DATA PDU at hand.
    pdu_left: u32,
    fragment: Option<Fragment>,
    /// The command set that is being gathered.
    command: Vec<u8>,
    command_context: Option<u8>,
    /// When the first byte of the message at hand was seen.
    begun: Option<Instant>,
    /// The context whose data set is due.
    data_set: Option<u8>,
    empty_in_row: u32,
}

/// A presentation data value whose header was read.
#[derive(Clone, Copy)]
struct Fragment {
    context: u8,
    is_command: bool,
    is_last: bool,
    length: u32,
    left: u32,
}

enum Next {
    Fragment(Fragment),
    Release,
}

/// An error, or a violation that is answered with A-ABORT.
enum Fault {
    Ul(UlError),
    Broke(&'static str, u8),
}

impl From<UlError> for Fault {
    fn from(error: UlError) -> Self {
        Self::Ul(error)
    }
}

impl Incoming {
    /// Whether the peer is between two PDUs.
    pub(super) fn at_boundary(&self) -> bool {
        self.pdu_left == 0 && self.fragment.is_none()
    }

    fn mid_message(&self) -> bool {
        self.data_set.is_some() || self.command_context.is_some()
    }

    fn consumed(&mut self, count: usize) {
        if let Some(fragment) = &mut self.fragment {
            // Both counts are u32 and `count` is at most `fragment.left`.
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            fragment.left -= count;
            self.pdu_left -= count;
        }
        self.empty_in_row = 0;
    }

    fn empty(&mut self) -> Result<(), Fault> {
        self.empty_in_row += 1;
        if self.empty_in_row > EMPTY_MAX {
            return Err(Fault::Broke("nothing but empty fragments", INVALID_PARAMETER));
        }
        Ok(())
    }
}

impl<S: Stream> Association<S> {
    /// The next command or release. Answers a peer's abort as `UlError::Aborted`. The acceptor waits `idle` for its first
    /// byte, the requestor `response` (see `heed`); the whole command must follow within `transfer`. Cancel-safe.
    ///
    /// # Errors
    /// See `UlError`. `Poisoned` when the data set before was not drained.
    pub async fn next(&mut self) -> Result<Event, UlError> {
        self.usable()?;
        if self.incoming.data_set.is_some() {
            self.poisoned = true;
            return Err(UlError::Poisoned);
        }
        match self.read_event().await {
            Ok(event) => Ok(event),
            Err(fault) => Err(self.failed(fault).await),
        }
    }

    /// The next piece (at most `CHUNK` bytes) of the running message's data set; `None` after the last fragment.
    /// Pieces are handed on as they arrive; a caller that stops asking stops the peer. Cancel-safe.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn data(&mut self) -> Result<Option<Bytes>, UlError> {
        self.usable()?;
        match self.read_piece().await {
            Ok(piece) => Ok(piece),
            Err(fault) => Err(self.failed(fault).await),
        }
    }

    /// As `data`, but into `room`, which must not be empty; answers how many bytes came. The bytes of long fragments go there
    /// from the socket without a copy between.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn data_into(&mut self, room: &mut [u8]) -> Result<Option<usize>, UlError> {
        self.usable()?;
        match self.read_into(room).await {
            Ok(count) => Ok(count),
            Err(fault) => Err(self.failed(fault).await),
        }
    }

    /// What the peer had said when our sending broke off: its next message, when all of it comes until then. Nothing can be sent
    /// any more. `None` as soon as it is not there whole, and from then on.
    pub async fn last_words(&mut self, until: Instant) -> Option<Event> {
        let is_readable = !self.deaf && self.incoming.data_set.is_none();
        if is_readable && let Ok(Ok(event)) = timeout_at(until, self.read_event()).await {
            return Some(event);
        }
        self.deaf = true;
        None
    }

    async fn failed(&mut self, fault: Fault) -> UlError {
        self.poisoned = true;
        self.deaf = true;
        match fault {
            Fault::Ul(error) => error,
            Fault::Broke(what, reason) => {
                self.wire.abort(PROVIDER, reason).await;
                UlError::Protocol(what)
            }
        }
    }

    async fn read_event(&mut self) -> Result<Event, Fault> {
        let (first, doing) = match self.role {
            Role::Acceptor => (self.timeouts.idle, "waiting for the next message"),
            Role::Requestor => (self.timeouts.response, "waiting for the answer"),
        };
        let patience = Instant::now() + first;
        loop {
            if self.incoming.begun.is_none() {
                self.wire.begun(first, doing).await?;
                self.incoming.begun = Some(Instant::now());
            }
            let until = self
                .incoming
                .begun
                .map_or(patience, |begun| begun + self.timeouts.transfer);
            let fragment = match self.fragment(until, IN_COMMAND).await? {
                Next::Release => return Ok(Event::Release),
                Next::Fragment(fragment) => fragment,
            };
            if !fragment.is_command {
                return Err(Fault::Broke("a data set without its command", INVALID_PARAMETER));
            }
            if *self.incoming.command_context.get_or_insert(fragment.context) != fragment.context {
                return Err(Fault::Broke("a command on two contexts", INVALID_PARAMETER));
            }
            self.gather(until).await?;
            if fragment.is_last {
                return Ok(self.event(fragment.context));
            }
        }
    }

    /// Moves the fragment at hand to the command set.
    async fn gather(&mut self, until: Instant) -> Result<(), Fault> {
        while let Some(fragment) = self.incoming.fragment {
            if self.incoming.command.len() + fragment.left as usize > COMMAND_MAX {
                return Err(Fault::Broke("a command set that is too long", INVALID_PARAMETER));
            }
            if fragment.left == 0 {
                self.incoming.fragment = None;
                return Ok(());
            }
            if self.wire.input.is_empty() {
                self.wire.fill(COMMAND_ROOM, until, IN_COMMAND).await?;
            }
            let count = self.wire.input.len().min(fragment.left as usize);
            let piece = self.wire.input.split_to(count);
            self.incoming.command.extend_from_slice(&piece);
            self.incoming.consumed(count);
        }
        Ok(())
    }

    fn event(&mut self, context: u8) -> Event {
        let bytes = std::mem::take(&mut self.incoming.command);
        self.incoming.command_context = None;
        self.incoming.begun = None;
        match Command::parse(&bytes) {
            Err(_) => Event::Malformed { context },
            Ok(command) => {
                self.incoming.data_set = command.has_data_set().then_some(context);
                Event::Command { context, command }
            }
        }
    }

    async fn read_piece(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some((fragment, until)) = self.due().await? else {
            return Ok(None);
        };
        if self.wire.input.is_empty() {
            self.wire.fill(CHUNK, until, IN_DATA).await?;
        }
        let count = self.wire.input.len().min(fragment.left as usize).min(CHUNK);
        let piece = self.wire.input.split_to(count).freeze();
        self.incoming.consumed(count);
        Ok(Some(piece))
    }

    async fn read_into(&mut self, room: &mut [u8]) -> Result<Option<usize>, Fault> {
        let Some((fragment, until)) = self.due().await? else {
            return Ok(None);
        };
        let most = room.len().min(fragment.left as usize);
        let count = if self.wire.input.is_empty() && fragment.length >= STRAIGHT {
            self.wire.fill_into(&mut room[..most], until, IN_DATA).await?
        } else {
            if self.wire.input.is_empty() {
                self.wire.fill(CHUNK, until, IN_DATA).await?;
            }
            let count = self.wire.input.len().min(most);
            room[..count].copy_from_slice(&self.wire.input.split_to(count));
            count
        };
        self.incoming.consumed(count);
        Ok(Some(count))
    }

    /// The data set's fragment with bytes left, and until when the next of them must come; `None` at its end.
    async fn due(&mut self) -> Result<Option<(Fragment, Instant)>, Fault> {
        let Some(due) = self.incoming.data_set else {
            return Ok(None);
        };
        // Empty fragments are no progress: they do not put it off.
        let until = Instant::now() + self.timeouts.transfer;
        loop {
            let fragment = match self.fragment(until, IN_DATA).await? {
                Next::Release => return Err(Fault::Broke("release inside a data set", UNEXPECTED_PDU)),
                Next::Fragment(fragment) => fragment,
            };
            if fragment.is_command {
                return Err(Fault::Broke("a command inside a data set", INVALID_PARAMETER));
            }
            if fragment.context != due {
                return Err(Fault::Broke(
                    "a data set on another context than its command",
                    INVALID_PARAMETER,
                ));
            }
            if fragment.left > 0 {
                return Ok(Some((fragment, until)));
            }
            self.incoming.fragment = None;
            if fragment.is_last {
                self.incoming.data_set = None;
                return Ok(None);
            }
        }
    }

    /// The fragment at hand, or the next one, its header consumed.
    async fn fragment(&mut self, until: Instant, doing: &'static str) -> Result<Next, Fault> {
        loop {
            if let Some(fragment) = self.incoming.fragment {
                return Ok(Next::Fragment(fragment));
            }
            if self.incoming.pdu_left == 0 {
                if self.pdu_header(until, doing).await? {
                    return Ok(Next::Release);
                }
                continue;
            }
            if self.incoming.pdu_left < 6 {
                return Err(Fault::Broke(
                    "a P-DATA PDU that ends inside a fragment's header",
                    INVALID_PARAMETER,
                ));
            }
            self.wire.need(6, until, doing).await?;
            let header = self.wire.input.split_to(6);
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            let (context, control) = (header[4], header[5]);
            if length < 2 || length - 2 > self.incoming.pdu_left - 6 {
                return Err(Fault::Broke("a fragment longer than its PDU", INVALID_PARAMETER));
            }
            if self.context(context).is_none() {
                return Err(Fault::Broke(
                    "a fragment on a context that was not accepted",
                    INVALID_PARAMETER,
                ));
            }
            self.incoming.pdu_left -= 6;
            self.incoming.fragment = Some(Fragment {
                context,
                is_command: control & 1 != 0,
                is_last: control & 2 != 0,
                length: length - 2,
                left: length - 2,
            });
            if length == 2 {
                self.incoming.empty()?;
            }
        }
    }

    /// Reads a PDU header and, unless it is P-DATA, the whole PDU. True on a release request.
    async fn pdu_header(&mut self, until: Instant, doing: &'static str) -> Result<bool, Fault> {
        self.wire.need(6, until, doing).await?;
        let input = &self.wire.input;
        let (kind, length) = (input[0], u32::from_be_bytes([input[2], input[3], input[4], input[5]]));
        match kind {
            pdu::P_DATA if length > P_DATA_MAX => {
                Err(Fault::Broke("a P-DATA PDU beyond every limit", INVALID_PARAMETER))
            }
            pdu::P_DATA => {
                let _ = self.wire.input.split_to(6);
                self.incoming.pdu_left = length;
                if length == 0 {
                    self.incoming.empty()?;
                }
                Ok(false)
            }
            pdu::RELEASE_RQ | pdu::ABORT if length != 4 => {
                Err(Fault::Broke("a PDU with a wrong length", INVALID_PARAMETER))
            }
            pdu::RELEASE_RQ if self.incoming.mid_message() => {
                Err(Fault::Broke("release inside a message", UNEXPECTED_PDU))
            }
            pdu::RELEASE_RQ => {
                self.wire.need(10, until, doing).await?;
                let _ = self.wire.input.split_to(10);
                Ok(true)
            }
            pdu::ABORT => {
                self.wire.need(10, until, doing).await?;
                let (source_code, reason) = pdu::abort_words(&self.wire.input[6..10]);
                Err(Fault::Ul(UlError::Aborted { source_code, reason }))
            }
            _ => Err(Fault::Broke("a PDU that has no place here", pdu::misplaced(kind))),
        }
    }

    /// After a failed write: whether the peer had aborted, which says more than a closed connection.
    pub(super) async fn had_aborted(&mut self, error: UlError) -> UlError {
        if !matches!(error, UlError::Closed | UlError::Io(_)) || !self.incoming.at_boundary() {
            return error;
        }
        let until = Instant::now() + std::time::Duration::from_millis(100);
        if self.wire.need(10, until, IN_COMMAND).await.is_ok() && self.wire.input[0] == pdu::ABORT {
            let (source_code, reason) = pdu::abort_words(&self.wire.input[6..10]);
            return UlError::Aborted { source_code, reason };
        }
        error
    }
}
