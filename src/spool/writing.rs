//! An arrival on its way to the disk: what has come is summed up and laid out as the file will have it while the next piece is still on
//! its way, and written by blocking threads.
//!
//! Each piece is copied once, into whole blocks that go past the page cache (`direct`), and its own memory is free again at once: it is
//! still in the processor's cache then, which half a millisecond later, on another thread, it was not. Where blocks cannot go past
//! the page cache, a long payload is flushed in steps while it still arrives, so that its seal does not wait for all of it.
use super::direct::{self, BLOCK, Buffer, Buffers, LEAST};
use crate::base::fault::{Plant, planted};
use crate::base::limits::STRIDE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// A flush that runs beside the writing begins when so much has been written since the last one began.
pub(super) const STEP: u64 = 8 << 20;

/// What has come of a payload and is not on its way to the disk: at most a stride and what was left of a block.
pub(super) struct Gathered {
    buffers: Arc<Buffers>,
    hasher: blake3::Hasher,
    sum: XxHash3_128,
    length: u64,
    /// What stands behind the header in its blocks: they are written last, when the header is known.
    head: Vec<u8>,
    /// How much that is, when it is whole.
    head_length: usize,
    /// What stands in the blocks from `at` of the file on. From the first byte on there is one.
    tail: Option<Buffer>,
    at: u64,
    /// Bytes since the last stride.
    fresh: usize,
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
            head: Vec::new(),
            head_length: blocks - start,
            tail: None,
            at: blocks as u64,
            fresh: 0,
        }
    }

    /// Takes bytes up to the stride's end; answers how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = &bytes[..bytes.len().min(STRIDE - self.fresh)];
        self.hasher.update(taken);
        self.sum.write(taken);
        self.length += taken.len() as u64;
        self.fresh += taken.len();
        let (head, behind) = taken.split_at(taken.len().min(self.head_length - self.head.len()));
        self.head.extend_from_slice(head);
        let buffers = &self.buffers;
        self.tail.get_or_insert_with(|| buffers.take()).put(behind);
        taken.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.fresh == STRIDE
    }

    /// The whole blocks of what has come. What is left of a block stays, and begins the next stride.
    pub(super) fn stride(&mut self) -> Stride {
        let blocks = self.tail.take().unwrap_or_else(|| self.buffers.take());
        let length = blocks.bytes().len() / BLOCK * BLOCK;
        let mut tail = self.buffers.take();
        tail.put(&blocks.bytes()[length..]);
        self.tail = Some(tail);
        let at = self.at;
        self.at += length as u64;
        self.fresh = 0;
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
    pub(super) fn seal(self, gathered: Gathered, header: impl FnOnce(u64, [u8; 32]) -> Vec<u8>) -> io::Result<u128> {
        let mut front = header(gathered.length, *gathered.hasher.finalize().as_bytes());
        front.reserve_exact(gathered.head.len());
        front.extend_from_slice(&gathered.head);
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
            prop_oneof![0..64_usize, LEAST - BLOCK..LEAST + BLOCK, STRIDE / 2..STRIDE + 3], 0..12,
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
