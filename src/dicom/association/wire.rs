//! The byte stream to a peer with its buffers and deadlines. Both roles read and write only through it.
//! It knows where a deadline ends and whether a PDU is torn; it knows no message.
use super::{Stream, UlError};
use crate::base::dialect::Dialect;
use bytes::BytesMut;
use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// How long an aborting side waits for the peer to close, so that its A-ABORT is not overtaken by a TCP reset.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are read and thrown away while waiting for a peer to close.
const DISCARD_MAX: usize = 4 << 20;

/// When bytes that were handed over were last seen to leave; `None`: never. It looks when it is asked.
pub type Leaving = Arc<dyn Fn() -> Option<Instant> + Send + Sync>;

/// Looks within one deadline: a quarter of it may pass in silence before the first.
const LOOKS: u32 = 4;

/// Waits for `work` until a deadline, which is put off to `limit` after bytes were last seen to leave. `None`: it is over.
pub async fn patiently<F: Future>(
    work: F,
    (mut until, limit): (Instant, Duration),
    leaving: Option<&Leaving>,
) -> Option<F::Output> {
    let mut work = pin!(work);
    loop {
        let look = match leaving {
            Some(_) => until.min(Instant::now() + limit / LOOKS),
            None => until,
        };
        if let Ok(done) = timeout_at(look, work.as_mut()).await {
            return Some(done);
        }
        if let Some(moved) = leaving.and_then(|leaving| leaving()) {
            until = until.max(moved + limit);
        }
        if Instant::now() >= until {
            return None;
        }
    }
}

pub(super) struct Wire<S> {
    stream: S,
    /// What has arrived and is not consumed.
    pub(super) input: BytesMut,
    write: Duration,
    /// Looks whether what was sent still leaves.
    pub(super) leaving: Option<Leaving>,
    /// Part of a write may have left: nothing else can be said on this connection.
    torn: bool,
    /// An A-ABORT was sent.
    aborted: bool,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S, write: Duration) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            write,
            leaving: None,
            torn: false,
            aborted: false,
        }
    }

    /// Waits until something is in `input`; as long as what was sent still leaves, `limit` begins anew. Cancel-safe.
    pub(super) async fn begun(&mut self, limit: Duration, doing: &'static str) -> Result<(), UlError> {
        if !self.input.is_empty() {
            return Ok(());
        }
        self.input.reserve(4 << 10);
        let until = (Instant::now() + limit, limit);
        let read = patiently(self.stream.read_buf(&mut self.input), until, self.leaving.as_ref()).await;
        came(read.ok_or(UlError::Timeout(doing))?).map(drop)
    }

    /// Waits until at least `count` bytes are in `input`. Cancel-safe: what arrived stays.
    pub(super) async fn need(&mut self, count: usize, until: Instant, doing: &'static str) -> Result<(), UlError> {
        while self.input.len() < count {
            self.fill(4 << 10, until, doing).await?;
        }
        Ok(())
    }

    /// Reads what is there, at least one byte, into a buffer with about `room` free bytes. Cancel-safe.
    pub(super) async fn fill(&mut self, room: usize, until: Instant, doing: &'static str) -> Result<(), UlError> {
        // A quarter is left over rather than a new block taken: pieces already handed out pin their block.
        if self.input.capacity() - self.input.len() < room / 4 {
            self.input.reserve(room);
        }
        let read = timeout_at(until, self.stream.read_buf(&mut self.input)).await;
        came(read.map_err(|_| UlError::Timeout(doing))?).map(drop)
    }

    /// Reads what is there, at least one byte, straight into `room`, which is not empty; answers how much. For when nothing is in
    /// `input`. Cancel-safe.
    pub(super) async fn fill_into(
        &mut self,
        room: &mut [u8],
        until: Instant,
        doing: &'static str,
    ) -> Result<usize, UlError> {
        let read = timeout_at(until, self.stream.read(room)).await;
        came(read.map_err(|_| UlError::Timeout(doing))?)
    }

    /// Writes all bytes; every single write must make progress within the write deadline.
    /// When it fails or is cancelled half way, the wire is torn.
    pub(super) async fn put(&mut self, bytes: &[u8]) -> Result<(), UlError> {
        self.torn = true;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.in_time(|stream| stream.write(rest)).await?;
            if written == 0 {
                return Err(UlError::Closed);
            }
            rest = &rest[written..];
        }
        self.torn = false;
        Ok(())
    }

    /// Pushes out what a TLS session still holds. Without it both sides may wait for ever.
    pub(super) async fn flush(&mut self) -> Result<(), UlError> {
        self.in_time(|stream| stream.flush()).await
    }

    async fn in_time<'a, T, F>(&'a mut self, step: impl FnOnce(&'a mut S) -> F) -> Result<T, UlError>
    where
        F: Future<Output = std::io::Result<T>>,
    {
        let until = (Instant::now() + self.write, self.write);
        match patiently(step(&mut self.stream), until, self.leaving.as_ref()).await {
            Some(result) => result.map_err(closed_or),
            None => Err(UlError::Timeout("sending")),
        }
    }

    /// A-ABORT, once, unless the wire is torn. Best effort.
    pub(super) async fn abort(&mut self, source: u8, reason: u8) {
        if self.torn || self.aborted {
            return;
        }
        self.aborted = true;
        // Nobody is left to tell when the abort itself cannot be sent: the connection ends in any case.
        if self.put(&super::pdu::abort(source, reason)).await.is_ok() {
            let _ = self.flush().await;
        }
    }

    /// Waits for the peer to end its side, at most `wait`, and ends ours.
    pub(super) async fn closed_by_peer(mut self, wait: Duration) {
        if !self.torn {
            // Late or not, the connection ends here.
            let _ = timeout(wait, ended(&mut self.stream)).await;
            close(&mut self.stream, Duration::ZERO).await;
        }
    }

    /// Ends our side and waits for the peer to end its own, at most `wait`.
    pub(super) async fn close(mut self, wait: Duration) {
        if !self.torn {
            close(&mut self.stream, wait).await;
        }
    }
}

/// Ends our side and waits for the peer to end its own, at most `wait`; what still comes is thrown away.
pub(super) async fn close<S: Stream>(stream: &mut S, wait: Duration) {
    let ending = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        ended(stream).await;
    };
    // Late or not, the connection ends here.
    let _ = timeout(wait, ending).await;
}

/// The peer has ended its side, or sent more than anybody wants to throw away.
async fn ended<S: Stream>(stream: &mut S) {
    let mut waste = [0; 4 << 10];
    let mut discarded = 0;
    while discarded < DISCARD_MAX {
        match stream.read(&mut waste).await {
            Ok(0) | Err(_) => return,
            Ok(count) => discarded += count,
        }
    }
}

/// The first PDU of a peer.
pub(super) enum First {
    /// One of the kinds asked for.
    Pdu(u8, Vec<u8>),
    /// Another kind; nothing of its body was read. With the protocol, when it is one that is known.
    Other(u8, Option<Dialect>),
    /// It declares more than the limit; nothing of its body was read.
    TooLong,
}

/// Reads one whole PDU of these kinds and not a byte more, at most `limit` long, within the deadline.
/// The body grows as it arrives, whatever length is declared.
pub(super) async fn read_pdu<S: Stream>(
    stream: &mut S,
    kinds: &[u8],
    limit: usize,
    until: Instant,
    doing: &'static str,
) -> Result<First, UlError> {
    let reading = async {
        let mut header = [0; 6];
        stream.read_exact(&mut header).await?;
        let [kind, _, a, b, c, d] = header;
        let length = u32::from_be_bytes([a, b, c, d]);
        if !kinds.contains(&kind) {
            let foreign = Dialect::of(&header).filter(|d| !matches!(d, Dialect::Dicom | Dialect::Unknown));
            return Ok(First::Other(kind, foreign));
        }
        if length as usize > limit {
            return Ok(First::TooLong);
        }
        let mut body = Vec::new();
        stream.take(u64::from(length)).read_to_end(&mut body).await?;
        if body.len() < length as usize {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        Ok(First::Pdu(kind, body))
    };
    let pdu = timeout_at(until, reading).await.map_err(|_| UlError::Timeout(doing))?;
    pdu.map_err(closed_or)
}

/// How many bytes came; none is the end.
fn came(read: std::io::Result<usize>) -> Result<usize, UlError> {
    match read {
        Ok(0) => Err(UlError::Closed),
        Ok(count) => Ok(count),
        Err(error) => Err(closed_or(error)),
    }
}

/// A peer that ends the connection without TLS close_notify (as DCMTK does) or with a reset has closed it.
fn closed_or(error: Error) -> UlError {
    match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::BrokenPipe
        | ErrorKind::ConnectionAborted => UlError::Closed,
        _ => UlError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_still_leaves_puts_a_deadline_off_and_what_stands_still_does_not() {
        let (limit, flows) = (Duration::from_secs(30), Duration::from_secs(120));
        let began = Instant::now();
        let slow: Leaving = Arc::new(move || Some(Instant::now().min(began + flows)));
        let never = std::future::pending::<()>;
        let waited = patiently(never(), (began + limit, limit), Some(&slow)).await;
        assert_eq!(waited, None);
        let took = began.elapsed();
        assert!(
            took >= flows + limit && took < flows + limit + limit / LOOKS,
            "{took:?}"
        );

        for dead in [None, Some(Arc::new(|| None) as Leaving)] {
            let began = Instant::now();
            let waited = patiently(never(), (began + limit, limit), dead.as_ref()).await;
            assert_eq!(waited, None);
            assert!(began.elapsed() >= limit && began.elapsed() < limit + limit / LOOKS);
        }
        // What comes while bytes leave is taken.
        let late = async { tokio::time::sleep(Duration::from_secs(100)).await };
        let now = Instant::now();
        let flowing: Leaving = Arc::new(|| Some(Instant::now()));
        assert_eq!(patiently(late, (now + limit, limit), Some(&flowing)).await, Some(()));
    }
}
