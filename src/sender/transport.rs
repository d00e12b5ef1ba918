//! The connection to a DICOM peer: TCP, optionally TLS, with a watched line.
//!
//! A half-open connection is noticed within 30 s (failures.md section 5, row 9) by keep-alive probes while it is quiet and by
//! `TCP_USER_TIMEOUT` while data waits for an acknowledgement. Every movement of bytes is noted for the watchdog.
use super::ceiling::Governor;
use super::config::Dicom;
use super::outcome::{ABORTED, AE_TITLE, Down, DownKind};
use super::outflow;
use super::tls::{self, Connector};
use super::wrong_port;
use crate::dicom::association::{Leaving, Rejection, Stream, UlError};
use crate::dicom::prompt::Prompt;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};

/// When something last moved in a session. Clones share it.
#[derive(Clone, Debug)]
pub struct Progress {
    start: Instant,
    moved_ms: Arc<AtomicU64>,
}

impl Progress {
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            moved_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Something moved now.
    pub fn touch(&self) {
        let at = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(at, Ordering::Relaxed);
    }

    /// Completes when nothing has moved for `limit`. Cancel-safe.
    pub async fn stuck(&self, limit: Duration) {
        loop {
            let moved = self.start + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            if moved.elapsed() >= limit {
                return;
            }
            tokio::time::sleep_until(moved + limit).await;
        }
    }
}

/// A second handle on a session's socket, to see between two instances whether the peer has hung up or spoken.
pub(super) struct Line(std::net::TcpStream);

impl Line {
    /// Where the peer is.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()
    }

    /// What sees whether bytes that were sent still leave.
    pub(super) fn leaving(&self, progress: Progress) -> Option<Leaving> {
        outflow::leaving(&self.0, progress)
    }

    /// Whether nothing has come in: between two instances a peer has nothing to say, so whatever it sends ends the session.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        matches!(self.0.peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Connects, each stage within its deadline.
pub(super) async fn connect(
    (peer, tls): (&Dicom, Option<&Connector>),
    governor: Option<&Governor>,
    progress: &Progress,
) -> Result<(Box<dyn Stream>, Line), Down> {
    let deadline = peer.timeouts.connect.0;
    let addresses = resolve(&peer.host, peer.port, deadline).await?;
    let tcp = dial(&addresses, deadline).await?;
    let address = tcp.peer_addr().ok();
    let line = tune(&tcp).map_err(|error| Down::new(DownKind::Connect, error.to_string()))?;
    let watched = Watched {
        inner: Prompt::new(tcp),
        progress: progress.clone(),
        toll: governor.cloned().map(Toll::new),
    };
    progress.touch();
    let Some(connector) = tls else {
        return Ok((Box::new(watched), line));
    };
    match connector.connect(&peer.host, watched, deadline).await {
        Ok(secured) => Ok((Box::new(secured), line)),
        Err(failure) => {
            let told = wrong_port::of_handshake(failure, address).await;
            Err(Down::because(DownKind::Tls, told.reason.word(), told.to_string()))
        }
    }
}

async fn resolve(host: &str, port: u16, deadline: Duration) -> Result<Vec<SocketAddr>, Down> {
    let fail = |reason: String| Down::new(DownKind::Resolve, reason);
    let found = timeout(deadline, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| fail("name resolution timed out".to_owned()))?
        .map_err(|error| fail(error.to_string()))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(fail("the name has no address".to_owned()));
    }
    Ok(addresses)
}

/// Tries one address after the other; the deadline is shared among those that are left.
async fn dial(addresses: &[SocketAddr], deadline: Duration) -> Result<TcpStream, Down> {
    let end = Instant::now() + deadline;
    let mut last = "timed out".to_owned();
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "timed out".to_owned(),
        }
    }
    Err(Down::new(DownKind::Connect, last))
}

fn tune(tcp: &TcpStream) -> io::Result<Line> {
    let socket = socket2::SockRef::from(tcp);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(HALF_OPEN_MAX))?;
    Ok(Line(socket.try_clone()?.into()))
}

/// A connection that notes every movement, and pays the destination's ceiling for what it sends.
struct Watched {
    inner: Prompt,
    progress: Progress,
    toll: Option<Toll>,
}

/// What the ceiling allows this connection at the moment.
struct Toll {
    governor: Governor,
    /// Booked, and to leave when the timer has run out.
    booked: usize,
    timer: Pin<Box<Sleep>>,
}

impl Toll {
    fn new(governor: Governor) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self {
            governor,
            booked: 0,
            timer,
        }
    }

    /// How many of `wanted` bytes may leave now.
    fn poll_pay(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if self.booked == 0 && wanted > 0 {
            let (count, at) = self.governor.book(wanted, Instant::now());
            self.booked = count;
            self.timer.as_mut().reset(at);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(self.booked.min(wanted))
    }

    fn sent(&mut self, count: usize) {
        self.governor.refund(self.booked.saturating_sub(count));
        self.booked = 0;
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        // What was booked and never left is room for the others.
        self.governor.refund(self.booked);
    }
}

impl Watched {
    fn noted<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(poll, Poll::Ready(Ok(_))) {
            self.progress.touch();
        }
        poll
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.noted(poll)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let allowed = match &mut this.toll {
            Some(toll) => ready!(toll.poll_pay(buf.len(), cx)),
            None => buf.len(),
        };
        let poll = Pin::new(&mut this.inner).poll_write(cx, &buf[..allowed]);
        if let (Some(toll), Poll::Ready(Ok(count))) = (&mut this.toll, &poll) {
            toll.sent(*count);
        }
        this.noted(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.toll.is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.noted(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.toll.is_none() && self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The longest life of a half-open connection.
const HALF_OPEN_MAX: Duration = Duration::from_secs(30);
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 4;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

const _: () = assert!(
    KEEPALIVE_TIME.as_secs() + KEEPALIVE_INTERVAL.as_secs() * KEEPALIVE_RETRIES as u64 <= HALF_OPEN_MAX.as_secs()
);

/// Why no association came about, in our words.
pub(super) fn down(error: &UlError) -> Down {
    // With TLS 1.3 a peer refuses our certificate only after the handshake.
    if let UlError::Io(cause) = error
        && let Some(refusal) = tls::refusal(cause)
    {
        return Down::because(DownKind::Tls, refusal.reason.word(), refusal.to_string());
    }
    if let UlError::Foreign(dialect) = error {
        return wrong_port::speaks(*dialect);
    }
    let kind = match error {
        UlError::Rejected(Rejection {
            result: 1,
            source: 1,
            reason: 3 | 7,
        }) => return Down::because(DownKind::RejectedPermanent, AE_TITLE, error.to_string()),
        UlError::Aborted { .. } => return Down::because(DownKind::Association, ABORTED, error.to_string()),
        UlError::Rejected(Rejection { result: 1, .. }) => DownKind::RejectedPermanent,
        UlError::Rejected(_) => DownKind::RejectedTransient,
        UlError::Closed
        | UlError::Io(_)
        | UlError::Timeout(_)
        | UlError::Protocol(_)
        | UlError::Foreign(_)
        | UlError::Poisoned => DownKind::Association,
    };
    Down::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn movement_keeps_the_watchdog_quiet() {
        let progress = Progress::new();
        let limit = Duration::from_secs(10);
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            progress.touch();
            assert!(timeout(Duration::from_secs(8), progress.stuck(limit)).await.is_err());
            progress.touch();
        }
        let quiet_since = Instant::now();
        progress.stuck(limit).await;
        assert!(quiet_since.elapsed() >= limit && quiet_since.elapsed() < limit * 2);
    }

    #[tokio::test]
    async fn a_line_tells_when_the_peer_hangs_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let line = tune(&tcp).unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        assert!(line.is_quiet());
        drop(peer);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!line.is_quiet());
    }
}
