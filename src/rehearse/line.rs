//! A long, thin line on the loopback, for measurements: a relay of TCP connections in which all of them share one rate, one
//! delay and one bounded queue for each direction. Needs no root and no kernel module; called by `benches/wan`.
//!
//! Modelled: serialisation at the line's rate in order of arrival (all connections together, directions apart), half the round
//! trip of delay each way, a queue of one bandwidth-delay product that pushes back when it is full, the round trip of a TCP
//! handshake, and each connection's congestion window (ten segments at first, doubled in a round trip while it is used, begun
//! anew after a pause, as Linux does). Not modelled: loss, and the bytes of TCP and IP headers; the rate is that of the payload.
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What the line is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// In each direction, of payload.
    pub bits_per_second: u64,
    pub round_trip: Duration,
}

/// What has gone through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// When the first connection came, and when the last byte came back to the near side.
    pub first: Option<Instant>,
    pub last: Option<Instant>,
    pub bytes_there: u64,
    pub bytes_back: u64,
    /// The most connections that were open at once.
    pub open_max: usize,
    open: usize,
}

/// The line. It ends when dropped, and its connections with it.
pub struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    profile: Profile,
    there: Mutex<Instant>,
    back: Mutex<Instant>,
    passed: Mutex<Passed>,
}

impl Profile {
    fn time_of(&self, bytes: usize) -> Duration {
        let bits = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(8);
        let nanos = bits.saturating_mul(1_000_000_000) / u128::from(self.bits_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Line {
    /// Starts a line on a free loopback port to `target`.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn to(target: SocketAddr, profile: Profile) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let now = Instant::now();
        let shared = Arc::new(Shared {
            profile,
            there: Mutex::new(now),
            back: Mutex::new(now),
            passed: Mutex::new(Passed::default()),
        });
        let task = tokio::spawn(relay(listener, target, shared.clone()));
        Ok(Self { address, shared, task })
    }

    /// Where the near side connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has gone through since the start or the last `reset`.
    #[must_use]
    pub fn passed(&self) -> Passed {
        *lock(&self.shared.passed)
    }

    /// Counts from nothing again.
    pub fn reset(&self) {
        let mut passed = lock(&self.shared.passed);
        let open = passed.open;
        *passed = Passed {
            open,
            open_max: open,
            ..Passed::default()
        };
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((near, _)) = accepted {
                    connections.spawn(carry(near, target, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(near: TcpStream, target: SocketAddr, shared: Arc<Shared>) {
    let came = Instant::now();
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    // Each end sends at once what it is given: the line alone delays.
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    {
        let mut passed = lock(&shared.passed);
        passed.first.get_or_insert(came);
        passed.open += 1;
        passed.open_max = passed.open_max.max(passed.open);
    }
    // The near end's first byte leaves when a SYN and its answer had crossed the line.
    let begins = came + shared.profile.round_trip;
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let there = direction(&shared, true, begins, (near_in, far_out));
    let back = direction(&shared, false, came, (far_in, near_out));
    tokio::join!(there, back);
    lock(&shared.passed).open -= 1;
}

async fn direction(shared: &Shared, there: bool, begins: Instant, (from, to): (OwnedReadHalf, OwnedWriteHalf)) {
    let (out, arriving) = mpsc::channel(FLYING);
    tokio::join!(
        take(shared, there, begins, from, out),
        give(shared, there, arriving, to)
    );
}

/// Takes bytes in as the congestion window and the line's queue allow, and books their way.
async fn take(
    shared: &Shared,
    there: bool,
    begins: Instant,
    mut from: OwnedReadHalf,
    out: mpsc::Sender<(Instant, Vec<u8>)>,
) {
    let (profile, free) = (shared.profile, if there { &shared.there } else { &shared.back });
    let mut window = Window::new(profile.round_trip);
    sleep_until(begins).await;
    loop {
        let mut chunk = vec![0; SEGMENT];
        let Ok(count @ 1..) = from.read(&mut chunk).await else {
            return;
        };
        chunk.truncate(count);
        while let Some(until) = window.full(Instant::now()) {
            sleep_until(until).await;
        }
        let departs = loop {
            let now = Instant::now();
            let full_until = {
                let mut free = lock(free);
                let queued = free.saturating_duration_since(now);
                if queued <= profile.round_trip.max(QUEUE_MIN) {
                    *free = now.max(*free) + profile.time_of(count);
                    break *free;
                }
                now + (queued - profile.round_trip.max(QUEUE_MIN))
            };
            sleep_until(full_until).await;
        };
        let arrives = departs + profile.round_trip / 2;
        window.sent(count, arrives + profile.round_trip / 2);
        if out.send((arrives, chunk)).await.is_err() {
            return;
        }
    }
}

async fn give(shared: &Shared, there: bool, mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((at, bytes)) = arriving.recv().await {
        sleep_until(at).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        let mut passed = lock(&shared.passed);
        if there {
            passed.bytes_there += bytes.len() as u64;
        } else {
            passed.bytes_back += bytes.len() as u64;
            passed.last = Some(Instant::now());
        }
    }
    // The end of a stream crosses the line behind its bytes; a peer that is gone already needs none.
    drop(to.shutdown().await);
}

/// A congestion window without loss.
struct Window {
    size: usize,
    flying: VecDeque<(Instant, usize)>,
    in_flight: usize,
    restart: Duration,
    last: Option<Instant>,
}

impl Window {
    fn new(round_trip: Duration) -> Self {
        Self {
            size: INITIAL,
            flying: VecDeque::new(),
            in_flight: 0,
            restart: round_trip + Duration::from_millis(200),
            last: None,
        }
    }

    /// `None` when another segment may leave; else when to ask again.
    fn full(&mut self, now: Instant) -> Option<Instant> {
        while let Some((_, count)) = self.flying.pop_front_if(|(at, _)| *at <= now) {
            // The window grows only when it was the limit.
            if self.in_flight * 2 >= self.size {
                self.size = (self.size + count).min(LARGEST);
            }
            self.in_flight -= count;
        }
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) > self.restart)
        {
            self.size = INITIAL.max(self.in_flight);
        }
        if self.in_flight == 0 || self.in_flight + SEGMENT <= self.size {
            return None;
        }
        self.flying.front().map(|(at, _)| *at)
    }

    fn sent(&mut self, count: usize, acknowledged: Instant) {
        self.in_flight += count;
        self.flying.push_back((acknowledged, count));
        self.last = Some(acknowledged);
    }
}

/// What is sent at once: six Ethernet segments.
const SEGMENT: usize = 6 * 1_460;
/// Ten segments (RFC 6928).
const INITIAL: usize = 10 * 1_460;
/// Linux's largest window by default (`tcp_wmem`).
const LARGEST: usize = 4 << 20;
/// The queue of a line without delay.
const QUEUE_MIN: Duration = Duration::from_millis(5);
/// Segments of one connection on their way.
const FLYING: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A far end that answers each `?` at once and throws everything else away.
    async fn far_end() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = [0; 64 << 10];
                    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                        if bytes[..count].ends_with(b"?") && stream.write_all(b"!").await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn pour(address: SocketAddr, bytes: usize) {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(&vec![0; bytes]).await.expect("write");
        stream.write_all(b"?").await.expect("write");
        let mut answer = [0];
        stream.read_exact(&mut answer).await.expect("answer");
    }

    fn profile(bits_per_second: u64, ms: u64) -> Profile {
        Profile {
            bits_per_second,
            round_trip: Duration::from_millis(ms),
        }
    }

    #[tokio::test]
    async fn a_question_takes_its_round_trips() {
        let line = Line::to(far_end().await, profile(100_000_000, 60)).await.expect("line");
        let began = Instant::now();
        pour(line.address(), 0).await;
        let took = began.elapsed();
        // One for the handshake, one for the question.
        assert!(
            took >= Duration::from_millis(120) && took < Duration::from_millis(400),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn connections_share_the_rate() {
        let line = Line::to(far_end().await, profile(40_000_000, 10)).await.expect("line");
        let began = Instant::now();
        let pours: Vec<_> = (0..4).map(|_| tokio::spawn(pour(line.address(), 500_000))).collect();
        for pour in pours {
            pour.await.expect("poured");
        }
        // Two megabytes at five a second, however many carry them.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400), "{took:?}");
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        assert_eq!(line.passed().open_max, 4);
    }

    #[test]
    fn a_window_opens_with_its_acknowledgements_and_closes_in_a_pause() {
        let mut now = Instant::now();
        let round_trip = Duration::from_millis(50);
        let mut window = Window::new(round_trip);
        let mut sizes = Vec::new();
        for _ in 0..4 {
            let mut sent = 0;
            while window.full(now).is_none() {
                window.sent(SEGMENT, now + round_trip);
                sent += SEGMENT;
            }
            sizes.push(sent);
            now += round_trip;
        }
        assert!(sizes.windows(2).all(|pair| pair[1] > pair[0]), "{sizes:?}");
        now += Duration::from_secs(2);
        assert!(window.full(now).is_none());
        assert_eq!(window.size, INITIAL);
    }
}
