//! The disk's half of an arrival: what has come is gathered without being copied, and written by blocking threads.
//!
//! Pieces are handed on to them as they came from the socket; small ones are copied, for each pins the block that it was read into.
//! Of a long payload each stride is copied once there, into whole blocks that go past the page cache (`direct`). Where they
//! cannot, it is flushed in steps while it still arrives, so that its seal does not wait for all of it.
use super::direct::{self, BLOCK, Buffers, LEAST};
use crate::base::fault::{Plant, planted};
use crate::base::limits::{PIECE_MIN, STRIDE};
use bytes::{Bytes, BytesMut};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// A flush that runs beside the writing begins when so much has been written since the last one began.
pub(super) const STEP: u64 = 8 << 20;

/// Bytes that wait to be written, in order; at most a stride.
#[derive(Default)]
pub(super) struct Pieces {
    whole: Vec<Bytes>,
    small: BytesMut,
    length: usize,
}

impl Pieces {
    /// Takes bytes up to the stride's end; answers what did not fit.
    pub(super) fn take(&mut self, mut bytes: Bytes) -> Bytes {
        let rest = bytes.split_off(bytes.len().min(STRIDE - self.length));
        self.length += bytes.len();
        if bytes.len() < PIECE_MIN {
            self.small.extend_from_slice(&bytes);
        } else {
            self.close();
            self.whole.push(bytes);
        }
        rest
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == STRIDE
    }

    fn close(&mut self) {
        if !self.small.is_empty() {
            self.whole.push(self.small.split().freeze());
        }
    }
}

/// Writes a payload behind its header and sums it up. A short one is one write through the page cache. Of a longer one the first and
/// the last block are, which wait in memory until the header is known, and all between goes past the cache, stride by stride.
pub(super) struct Writer {
    pub(super) file: Arc<File>,
    buffers: Arc<Buffers>,
    hasher: blake3::Hasher,
    sum: XxHash3_128,
    start: usize,
    length: u64,
    /// What stands behind the header in its blocks.
    head: Vec<u8>,
    /// What came behind the last whole block, at `at` of the file.
    rest: Vec<u8>,
    at: u64,
    /// The blocks up to here were found for the file.
    allocated: u64,
    /// The page cache could not be passed by.
    is_cached: bool,
    /// Where the last flush began that ran beside the writing.
    flushed: u64,
}

impl Writer {
    /// For a data set that begins at `start` of the file.
    pub(super) fn new(file: Arc<File>, start: usize, buffers: Arc<Buffers>) -> Self {
        Self {
            file,
            buffers,
            hasher: blake3::Hasher::new(),
            sum: XxHash3_128::new(),
            start,
            length: 0,
            head: Vec::new(),
            rest: Vec::new(),
            at: start.next_multiple_of(BLOCK) as u64,
            allocated: 0,
            is_cached: false,
            flushed: 0,
        }
    }

    /// Writes the whole blocks of what has come. Blocking.
    pub(super) fn stride(&mut self, pieces: &mut Pieces) -> io::Result<()> {
        pieces.close();
        let end = self.start as u64 + self.length + pieces.length as u64;
        allocate(&self.file, self.allocated, end)?;
        self.allocated = end;
        let mut buffer = self.buffers.take();
        buffer.put(&std::mem::take(&mut self.rest));
        // Each piece is given up as soon as it is copied, so that a stride does not stay in memory twice.
        for piece in std::mem::take(&mut pieces.whole) {
            self.count(&piece);
            let missing = self.start.next_multiple_of(BLOCK) - self.start - self.head.len();
            let (head, behind) = piece.split_at(missing.min(piece.len()));
            self.head.extend_from_slice(head);
            buffer.put(behind);
        }
        pieces.length = 0;
        let (blocks, rest) = buffer.bytes().split_at(buffer.bytes().len() / BLOCK * BLOCK);
        self.is_cached |= !direct::write(&self.file, blocks, self.at)?;
        self.at += blocks.len() as u64;
        self.rest = rest.to_vec();
        Ok(())
    }

    fn count(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        self.sum.write(piece);
        self.length += piece.len() as u64;
    }

    /// Writes the last pieces and the header that `header` makes of length and digest, and flushes the file once. Answers the quick
    /// checksum. Blocking.
    pub(super) fn seal(
        mut self,
        pieces: &mut Pieces,
        header: impl FnOnce(u64, [u8; 32]) -> Vec<u8>,
    ) -> io::Result<u128> {
        if self.length == 0 && pieces.length < LEAST {
            pieces.close();
            for piece in &pieces.whole {
                self.count(piece);
            }
            let mut all = header(self.length, *self.hasher.finalize().as_bytes());
            all.reserve_exact(pieces.length);
            pieces.whole.iter().for_each(|piece| all.extend_from_slice(piece));
            allocate(&self.file, 0, all.len() as u64)?;
            self.file.write_all_at(&all, 0)?;
        } else {
            self.stride(pieces)?;
            let mut first = header(self.length, *self.hasher.finalize().as_bytes());
            first.extend_from_slice(&self.head);
            self.file.write_all_at(&self.rest, self.at)?;
            self.file.write_all_at(&first, 0)?;
        }
        flush(&self.file)?;
        Ok(self.sum.finish_128())
    }

    /// Whether enough was written into the cache for a flush beside the writing; asked before each stride, it then counts as begun.
    pub(super) fn wants_flush(&mut self) -> bool {
        let due = self.is_cached && self.length - self.flushed >= STEP;
        if due {
            self.flushed = self.length;
        }
        due
    }
}

/// Has the file system find the blocks for what is about to be written, in one go; the length of the file stays. Left to the flush, the
/// kernel looks for them page by page, and several flushes are in each other's way. Where a file system knows no such call, it does
/// as before; what else goes wrong, the write meets and tells.
fn allocate(file: &File, from: u64, end: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::KEEP_SIZE, from, end - from) {
        Err(rustix::io::Errno::NOSPC) => Err(rustix::io::Errno::NOSPC.into()),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// A flush that failed is never tried again: the payload is abandoned. Blocking.
pub(super) fn flush(file: &File) -> io::Result<()> {
    if planted(Plant::SkipPayloadSync) {
        return Ok(());
    }
    match file.sync_data() {
        Err(_) if planted(Plant::RetryFsync) => file.sync_data(),
        flushed => flushed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::direct::Way;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the pieces, the file holds the header and the same bytes in the same order, and the digest is theirs.
        #[test]
        fn pieces_of_any_size_are_written_in_order(sizes in prop::collection::vec(
            prop_oneof![0..64_usize, PIECE_MIN - 2..PIECE_MIN + 2, STRIDE / 2..STRIDE + 3], 0..12,
        )) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let (mut writer, mut pieces) = (Writer::new(file.clone(), 3, Arc::default()), Pieces::default());
            let mut all = Vec::new();
            for (number, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + number) as u8).collect();
                all.extend_from_slice(&bytes);
                let mut rest = Bytes::from(bytes);
                while !rest.is_empty() {
                    rest = pieces.take(rest);
                    prop_assert!(pieces.length <= STRIDE);
                    if pieces.is_full() {
                        writer.stride(&mut pieces).unwrap();
                    }
                }
            }
            let mut told = None;
            let sum = writer.seal(&mut pieces, |length, digest| { told = Some((length, digest)); b"abc".to_vec() }).unwrap();
            prop_assert_eq!(sum, XxHash3_128::oneshot(&all));
            prop_assert_eq!(told, Some((all.len() as u64, *blake3::hash(&all).as_bytes())));
            let mut found = vec![0; all.len() + 3];
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert_eq!(&found[..3], b"abc");
            prop_assert!(found[3..] == all[..]);
            prop_assert_eq!(file.metadata().unwrap().len(), found.len() as u64);
            // It is read so as well, from anywhere.
            let mut way = Way::of(&Arc::default(), all.len() as u64);
            let first = way.first(&file, 3, all.len().min(STRIDE)).unwrap();
            prop_assert!(first == all[..first.len()]);
            for at in [0, 1, first.len() / 2, first.len(), all.len() - all.len().min(5)] {
                let length = all.len().saturating_sub(at).min(STRIDE);
                prop_assert!(length == 0 || way.read(&file, 3 + at as u64, length).unwrap() == all[at..at + length]);
            }
            prop_assert!(way.read(&file, 3 + all.len() as u64, 1).is_err());
        }
    }

    #[test]
    fn a_flush_beside_the_writing_comes_once_in_each_step() {
        let mut writer = Writer::new(Arc::new(tempfile::tempfile().unwrap()), 0, Arc::default());
        writer.length = STEP;
        assert!(!writer.wants_flush(), "past the cache there is nothing to flush");
        (writer.length, writer.is_cached) = (0, true);
        assert!(!writer.wants_flush());
        writer.length = STEP;
        assert!(writer.wants_flush() && !writer.wants_flush());
        writer.length = 2 * STEP - 1;
        assert!(!writer.wants_flush());
        writer.length += 1;
        assert!(writer.wants_flush());
    }
}
