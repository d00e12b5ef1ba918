//! The first bytes of a connection: what the peer speaks, known before (a listener) or after (a destination) TLS has looked at them.
use crate::base::dialect::{Dialect, ENOUGH};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// A stream whose first bytes were looked at; they are read again.
#[derive(Debug)]
pub struct Opened<S> {
    inner: S,
    first: [u8; ENOUGH],
    next: usize,
    end: usize,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Reads as many bytes as it takes to tell, at most `ENOUGH`. Without a deadline of its own.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when it ends before.
    pub async fn read(mut inner: S) -> io::Result<(Self, Dialect)> {
        let (mut first, mut end) = ([0; ENOUGH], 0);
        let dialect = loop {
            if let Some(dialect) = Dialect::of(&first[..end]) {
                break dialect;
            }
            match inner.read(&mut first[end..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => end += count,
            }
        };
        let opened = Self {
            inner,
            first,
            next: 0,
            end,
        };
        Ok((opened, dialect))
    }

    /// The stream itself. Bytes that were looked at and not read again are gone.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.next == self.end {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let count = buf.remaining().min(self.end - self.next);
        buf.put_slice(&self.first[self.next..self.next + count]);
        self.next += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The first bytes that a peer sent, for when the handshake has failed. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct First(Arc<AtomicU64>);

impl First {
    /// What it speaks; `None` when it has said nothing, or too little to tell.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        let [count, bytes @ ..] = self.0.load(Ordering::Relaxed).to_be_bytes();
        Dialect::of(&bytes[..usize::from(count)])
    }

    /// Whether it has not said a byte.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// One reader only: the connection's own.
    fn note(&self, read: &[u8]) {
        let [count, bytes @ ..] = self.0.load(Ordering::Relaxed).to_be_bytes();
        let have = usize::from(count);
        if have >= ENOUGH || read.is_empty() {
            return;
        }
        let more = read.len().min(ENOUGH - have);
        let mut all = [0; 8];
        // At most four: `ENOUGH`.
        all[0] = count + u8::try_from(more).unwrap_or(0);
        all[1..].copy_from_slice(&bytes);
        all[1 + have..1 + have + more].copy_from_slice(&read[..more]);
        self.0.store(u64::from_be_bytes(all), Ordering::Relaxed);
    }
}

/// A stream that notes what comes first.
#[derive(Debug)]
pub struct Noting<S> {
    inner: S,
    first: First,
}

impl<S> Noting<S> {
    pub fn new(inner: S, first: First) -> Self {
        Self { inner, first }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.first.note(&buf.filled()[before..]);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Ends our side and waits for the peer to end its own, at most `LINGER`, so that an alert is not overtaken by a TCP reset.
pub async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let ending = async {
        let mut waste = [0; 1024];
        let mut left = DISCARD_MAX;
        if stream.shutdown().await.is_err() {
            return;
        }
        while left > 0 {
            match stream.read(&mut waste).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    };
    // Late or not, the connection ends here.
    let _late = timeout(LINGER, ending).await;
}

const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away while waiting.
const DISCARD_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut ours, b"\x16\x03\x01abc")
            .await
            .unwrap();
        drop(ours);
        let (mut opened, dialect) = Opened::read(theirs).await.unwrap();
        assert_eq!(dialect, Dialect::Tls);
        let mut all = Vec::new();
        opened.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"\x16\x03\x01abc");
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_or_little_is_told_from_others() {
        let (ours, theirs) = tokio::io::duplex(64);
        drop(ours);
        assert!(Opened::read(theirs).await.is_err());
        let first = First::default();
        assert!(first.is_silent() && first.dialect().is_none());
        first.note(b"\x07");
        assert!(!first.is_silent() && first.dialect().is_none());
        first.note(b"\0\0\0\0\x04");
        assert_eq!(first.dialect(), Some(Dialect::Dicom));
        first.note(b"GET ");
        assert_eq!(first.dialect(), Some(Dialect::Dicom), "only what came first counts");
    }
}
