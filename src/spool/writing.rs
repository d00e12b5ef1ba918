//! An arrival on its way to the disk: what has come is summed up and laid out as the file will have it while the next piece is still on
//! its way, and written by blocking threads.
//!
//! Each piece comes from the socket into whole blocks that go past the page cache (`direct`), and is summed up there while it is in
//! the processor's cache: half a millisecond later, on another thread, it is not. Where blocks cannot go past
//! the page cache, a long payload is flushed in steps while it still arrives, so that its seal does not wait for all of it.
use super::direct::{self, BLOCK, Buffer, Buffers, LEAST};
use crate::base::fault::{Plant, planted};
use crate::base::limits::STRIDE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// Bytes that are summed up at once: BLAKE3 is quickest on whole trees of its chunks, and this is a fraction of a processor's cache.
const SUMMED: u64 = 64 << 10;

/// The first stride is short, so that half of a CT slice is written while the other half comes.
const FIRST: usize = 256 << 10;

/// A flush that runs beside the writing begins when so much has been written since the last one began.
pub(super) const STEP: u64 = 8 << 20;

/// What has come of a payload and is not on its way to the disk: at most a stride and what was left of a block.
pub(super) struct Gathered {
    buffers: Arc<Buffers>,
    hasher: blake3::Hasher,
    sum: XxHash3_128,
    length: u64,
    /// What stands behind the header in its blocks, as far as it is `filled`: they are written last, when the header is known.
    head: Vec<u8>,
    filled: usize,
    /// What stands in the blocks from `at` of the file on. From the first byte on there is one.
    tail: Option<Buffer>,
    at: u64,
    /// The end of the tail that is not summed up.
    unsummed: usize,
    /// Bytes since the last stride.
    fresh: usize,
    /// The next stride's length.
    wanted: usize,
}

/// Blocks for the disk.
pub(super) struct Stride {
    blocks: Buffer,
    length: usize,
    at: u64,
}

impl Gathered {
    /// For a data set that begins at `start` of the file.
    pub(super) fn new(start: usize, buffers: Arc<Buffers>) -> Self {
        let blocks = start.next_multiple_of(BLOCK);
        Self {
            buffers,
            hasher: blake3::Hasher::new(),
            sum: XxHash3_128::new(),
            length: 0,
            head: vec![0; blocks - start],
            filled: 0,
            tail: None,
            at: blocks as u64,
            unsummed: 0,
            fresh: 0,
            wanted: FIRST,
        }
    }

    /// Where the next bytes go; empty only when the stride is full.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let left = self.wanted - self.fresh;
        if self.filled < self.head.len() {
            let end = self.head.len().min(self.filled + left);
            return &mut self.head[self.filled..end];
        }
        let buffers = &self.buffers;
        self.tail.get_or_insert_with(|| buffers.take()).behind(left)
    }

    /// So many bytes were put there; answers them.
    pub(super) fn took(&mut self, count: usize) -> &[u8] {
        self.length += count as u64;
        self.fresh += count;
        let Some(tail) = &mut self.tail else {
            let taken = &self.head[self.filled..self.filled + count];
            self.hasher.update(taken);
            self.sum.write(taken);
            self.filled += count;
            return taken;
        };
        tail.grow(count);
        self.unsummed += count;
        let beyond = (self.length % SUMMED) as usize;
        self.sum_up(self.unsummed.saturating_sub(beyond));
        let bytes = self.rest();
        &bytes[bytes.len() - count..]
    }

    /// Takes a copy of bytes, as far as there is room in one piece; answers how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.took(count);
        count
    }

    /// Sums up the next `count` bytes of those that are not yet.
    fn sum_up(&mut self, count: usize) {
        if let Some(tail) = &self.tail {
            let from = tail.bytes().len() - self.unsummed;
            let due = &tail.bytes()[from..from + count];
            self.hasher.update(due);
            self.sum.write(due);
            self.unsummed -= count;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.fresh == self.wanted
    }

    /// The whole blocks of what has come. What is left of a block stays, and begins the next stride.
    pub(super) fn stride(&mut self) -> Stride {
        self.sum_up(self.unsummed);
        let blocks = self.tail.take().unwrap_or_else(|| self.buffers.take());
        let length = blocks.bytes().len() / BLOCK * BLOCK;
        let mut tail = self.buffers.take();
        tail.put(&blocks.bytes()[length..]);
        self.tail = Some(tail);
        let at = self.at;
        self.at += length as u64;
        (self.fresh, self.wanted) = (0, STRIDE);
        Stride { blocks, length, at }
    }

    fn rest(&self) -> &[u8] {
        self.tail.as_ref().map_or(&[], Buffer::bytes)
    }
}

/// The file of an arrival.
pub(super) struct Writer {
    pub(super) file: Arc<File>,
    /// Written up to here.
    end: u64,
    /// The page cache could not be passed by.
    is_cached: bool,
    /// Where the last flush began that ran beside the writing.
    flushed: u64,
}

impl Writer {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self {
            file,
            end: 0,
            is_cached: false,
            flushed: 0,
        }
    }

    /// Writes a stride. Blocking.
    pub(super) fn write(&mut self, stride: &Stride) -> io::Result<()> {
        let end = stride.at + stride.length as u64;
        allocate(&self.file, self.end, end)?;
        self.end = end;
        self.is_cached |= !direct::write(&self.file, &stride.blocks.bytes()[..stride.length], stride.at)?;
        Ok(())
    }

    /// Writes what was gathered last and the header that `header` makes of length and digest, and flushes the file once. A short payload
    /// is one write through the page cache; of a longer one the first and the last block are, and all between goes past
    /// it. Answers the quick checksum. Blocking.
    pub(super) fn seal(
        self,
        mut gathered: Gathered,
        header: impl FnOnce(u64, [u8; 32]) -> Vec<u8>,
    ) -> io::Result<u128> {
        gathered.sum_up(gathered.unsummed);
        let mut front = header(gathered.length, *gathered.hasher.finalize().as_bytes());
        front.reserve_exact(gathered.filled);
        front.extend_from_slice(&gathered.head[..gathered.filled]);
        let rest = gathered.rest();
        if gathered.length < LEAST as u64 {
            front.extend_from_slice(rest);
            allocate(&self.file, 0, front.len() as u64)?;
        } else {
            allocate(&self.file, self.end, gathered.at + rest.len() as u64)?;
            let written = rest.len() / BLOCK * BLOCK;
            direct::write(&self.file, &rest[..written], gathered.at)?;
            self.file.write_all_at(&rest[written..], gathered.at + written as u64)?;
        }
        self.file.write_all_at(&front, 0)?;
        flush(&self.file)?;
        Ok(gathered.sum.finish_128())
    }

    /// Whether enough was written into the cache for a flush beside the writing; asked before each stride, it then counts as begun.
    pub(super) fn wants_flush(&mut self) -> bool {
        let due = self.is_cached && self.end - self.flushed >= STEP;
        if due {
            self.flushed = self.end;
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
            prop_oneof![0..64_usize, LEAST - BLOCK..LEAST + BLOCK, FIRST - BLOCK..FIRST + BLOCK, STRIDE / 2..STRIDE + 3], 0..12,
        ), start in prop_oneof![Just(3_usize), Just(BLOCK), 1_000..3_000_usize]) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let (mut writer, mut gathered) = (Writer::new(file.clone()), Gathered::new(start, Arc::default()));
            let mut all = Vec::new();
            for (number, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + number) as u8).collect();
                all.extend_from_slice(&bytes);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    rest = &rest[gathered.take(rest)..];
                    prop_assert!(gathered.fresh <= STRIDE);
                    if gathered.is_full() {
                        writer.write(&gathered.stride()).unwrap();
                    }
                }
            }
            let mut told = None;
            let sum = writer.seal(gathered, |length, digest| { told = Some((length, digest)); vec![b'h'; start] }).unwrap();
            prop_assert_eq!(sum, XxHash3_128::oneshot(&all));
            prop_assert_eq!(told, Some((all.len() as u64, *blake3::hash(&all).as_bytes())));
            let mut found = vec![0; all.len() + start];
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert!(found[..start].iter().all(|byte| *byte == b'h'));
            prop_assert!(found[start..] == all[..]);
            prop_assert_eq!(file.metadata().unwrap().len(), found.len() as u64);
            // It is read so as well, from anywhere.
            let mut way = Way::of(&Arc::default(), all.len() as u64);
            let first = way.first(&file, start as u64, all.len().min(STRIDE)).unwrap();
            prop_assert!(first == all[..first.len()]);
            for at in [0, 1, first.len() / 2, first.len(), all.len() - all.len().min(5)] {
                let length = all.len().saturating_sub(at).min(STRIDE);
                prop_assert!(length == 0 || way.read(&file, (start + at) as u64, length).unwrap() == all[at..at + length]);
            }
            prop_assert!(way.read(&file, (start + all.len()) as u64, 1).is_err());
        }
    }

    #[test]
    fn the_first_stride_is_short_and_the_others_are_long() {
        let mut gathered = Gathered::new(BLOCK, Arc::default());
        let mut strides = Vec::new();
        for _ in 0..4 * STRIDE / BLOCK {
            assert_eq!(gathered.take(&[0; BLOCK]), BLOCK);
            if gathered.is_full() {
                strides.push(gathered.stride().length);
            }
        }
        assert_eq!(strides, [FIRST, STRIDE, STRIDE, STRIDE]);
        assert_eq!(gathered.fresh, STRIDE - FIRST);
    }

    #[test]
    fn a_flush_beside_the_writing_comes_once_in_each_step() {
        let mut writer = Writer::new(Arc::new(tempfile::tempfile().unwrap()));
        writer.end = STEP;
        assert!(!writer.wants_flush(), "past the cache there is nothing to flush");
        (writer.end, writer.is_cached) = (0, true);
        assert!(!writer.wants_flush());
        writer.end = STEP;
        assert!(writer.wants_flush() && !writer.wants_flush());
        writer.end = 2 * STEP - 1;
        assert!(!writer.wants_flush());
        writer.end += 1;
        assert!(writer.wants_flush());
    }
}
