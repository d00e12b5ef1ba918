//! Connections that have not associated yet: counted, bounded, and the one that waits longest gives way to a new one.
//!
//! Refusing the newest instead would let anybody who opens `limits.max_pending` connections and says nothing keep every
//! modality out for as long as the deadline of the A-ASSOCIATE-RQ. A modality asks within milliseconds, so it is never the
//! oldest. The same holds for memory: when the requests that are still coming in take more than `REQUESTS_MAX` together,
//! the longest of them goes. Called by `accept`; an established association is never touched.
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Bytes of unfinished A-ASSOCIATE-RQs over all connections. One alone may take `ASSOCIATE_MAX`.
pub const REQUESTS_MAX: usize = 64 << 20;

/// The places. Clones share them.
#[derive(Clone)]
pub struct Pending {
    waiting: Arc<Mutex<Waiting>>,
    max: usize,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// By age: the first has waited longest.
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
}

struct Entry {
    gone: CancellationToken,
    bytes: usize,
}

/// One connection's place, given back when dropped.
pub struct Place {
    waiting: Arc<Mutex<Waiting>>,
    number: u64,
    gone: CancellationToken,
}

impl Pending {
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            waiting: Arc::default(),
            max: max.max(1),
        }
    }

    /// A place for a new connection. When all are taken, the connection that waits longest loses its own.
    #[must_use]
    pub fn enter(&self) -> Place {
        let mut waiting = lock(&self.waiting);
        while waiting.entries.len() >= self.max {
            waiting.evict_oldest();
        }
        let (number, gone) = (waiting.next, CancellationToken::new());
        waiting.next += 1;
        let entry = Entry {
            gone: gone.clone(),
            bytes: 0,
        };
        waiting.entries.insert(number, entry);
        drop(waiting);
        Place {
            waiting: self.waiting.clone(),
            number,
            gone,
        }
    }

    /// Ends the connection that waits longest, when the system is out of descriptors. False when none waits.
    pub fn give_way(&self) -> bool {
        lock(&self.waiting).evict_oldest()
    }
}

impl Waiting {
    fn evict(&mut self, number: u64) -> bool {
        let Some(entry) = self.entries.remove(&number) else {
            return false;
        };
        self.bytes -= entry.bytes;
        entry.gone.cancel();
        true
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.entries.keys().next().copied();
        oldest.is_some_and(|number| self.evict(number))
    }

    fn took(&mut self, number: u64, count: usize) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.bytes += count;
        self.bytes += count;
        while self.bytes > REQUESTS_MAX {
            let longest = self.entries.iter().max_by_key(|(_, entry)| entry.bytes);
            let Some(number) = longest.map(|(number, _)| *number) else {
                return;
            };
            self.evict(number);
        }
    }
}

impl Place {
    /// Completes when this connection has to give way. Cancel-safe.
    pub async fn lost(&self) {
        self.gone.cancelled().await;
    }

    /// The stream, its bytes counted while the request comes in.
    pub fn counting<'a, S>(&'a self, stream: &'a mut S) -> Counting<'a, S> {
        Counting { place: self, stream }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is gone already when it was evicted.
        lock(&self.waiting).evict(self.number);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    // No code that could panic runs under the lock; the counts are right in any case.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream whose incoming bytes stand on a place's account.
pub struct Counting<'a, S> {
    place: &'a Place,
    stream: &'a mut S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut *self.stream).poll_read(cx, buf);
        let count = buf.filled().len() - before;
        if count > 0 {
            lock(&self.place.waiting).took(self.place.number, count);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_connection_that_waits_longest_gives_way() {
        let pending = Pending::new(3);
        let places: Vec<Place> = (0..5).map(|_| pending.enter()).collect();
        let lost: Vec<bool> = places.iter().map(|place| place.gone.is_cancelled()).collect();
        assert_eq!(lost, [true, true, false, false, false]);
        drop(places);
        assert!(!pending.give_way(), "every place is given back, once");
    }

    #[test]
    fn a_place_given_back_costs_nobody_his_own() {
        let pending = Pending::new(2);
        let first = pending.enter();
        drop(pending.enter());
        let _third = pending.enter();
        assert!(!first.gone.is_cancelled());
        assert!(pending.give_way());
        assert!(first.gone.is_cancelled());
    }

    #[tokio::test]
    async fn unfinished_requests_are_bounded_together_and_the_longest_goes() {
        let pending = Pending::new(1_000);
        let modality = pending.enter();
        let (mut far, mut near) = tokio::io::duplex(64 << 10);
        far.write_all(&[0; 9]).await.unwrap();
        let mut buffer = [0; 9];
        modality.counting(&mut near).read_exact(&mut buffer).await.unwrap();
        let hostile: Vec<Place> = (0..200).map(|_| pending.enter()).collect();
        for place in &hostile {
            lock(&pending.waiting).took(place.number, 1 << 20);
        }
        assert!(!modality.gone.is_cancelled());
        let left = hostile.iter().filter(|place| !place.gone.is_cancelled()).count();
        assert_eq!(left, 63, "9 bytes of the modality and 63 MiB");
        assert_eq!(lock(&pending.waiting).bytes, 9 + (63 << 20));
    }
}
