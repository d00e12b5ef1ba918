//! The bytes of long payloads go past the page cache: each is written once and read once, within moments or days later, and no copy
//! in the kernel helps either. Measured at 512 KiB, the copy into fresh pages was half of the box's processor time
//! (`docs/performance.md`).
//!
//! Promises: the same bytes at the same places as with plain reads and writes; a file system or a device that does not take this is
//! written and read as usual; what is written here is durable after the file's flush, not before. Whole blocks only: the
//! first and the last block of a payload stay in the cache, where the state letter is written.
use crate::base::limits::{STRIDE, STRIDE_EDGES};
use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// What disks take at once: places, lengths and memory are multiples of it. No disk of today asks for more.
pub(super) const BLOCK: usize = 4 << 10;
/// Shorter payloads stay in the page cache: their few pages cost less than a way around it.
pub(super) const LEAST: usize = 64 << 10;
/// A stride that begins and ends inside blocks.
const ROOM: usize = STRIDE + 2 * BLOCK;
const _: () = assert!(ROOM + BLOCK <= STRIDE + STRIDE_EDGES);
/// Buffers that are kept to be used again: as many as are busy at once on most boxes, one or two for each instance that is arriving.
/// Fresh memory has to be found and cleared by the kernel, page by page.
const KEPT: usize = 32;

/// Memory for strides, used again. More are made when more are busy, and given back.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty one.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = kept.unwrap_or_else(|| vec![0; ROOM + BLOCK]);
        Buffer {
            start: memory.as_ptr().align_offset(BLOCK).min(BLOCK),
            memory,
            length: 0,
            home: self.clone(),
        }
    }
}

/// Bytes that begin at a block's place in memory.
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    /// Where the next `count` bytes go. What does not fit is a fault of the caller: a stride and the rest of a block do.
    pub(super) fn behind(&mut self, count: usize) -> &mut [u8] {
        let at = self.start + self.length;
        &mut self.memory[at..at + count]
    }

    /// So many bytes were put there.
    pub(super) fn grow(&mut self, count: usize) {
        self.length += count;
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.behind(bytes.len()).copy_from_slice(bytes);
        self.grow(bytes.len());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + ROOM]
    }

    /// All but the first `skip` bytes.
    fn share(self, skip: usize) -> Bytes {
        Bytes::from_owner(Shared(self)).slice(skip..)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Whether the file's reads and writes go past the cache from here on; an error where that is not known.
fn set_direct(file: &File, direct: bool) -> Result<(), Errno> {
    rustix::fs::fcntl_setfl(file, if direct { OFlags::DIRECT } else { OFlags::empty() })
}

/// Writes whole blocks from a block's place in memory to a block's place in the file. Nobody else reads or writes through `file`
/// meanwhile. Answers whether the page cache was passed by. Blocking.
pub(super) fn write(file: &File, blocks: &[u8], at: u64) -> io::Result<bool> {
    let mut done = 0;
    if set_direct(file, true).is_ok() {
        let written = write_direct(file, blocks, at, &mut done);
        set_direct(file, false)?;
        written?;
    }
    file.write_all_at(&blocks[done..], at + done as u64)?;
    Ok(done == blocks.len())
}

/// As far as it goes: a disk that takes other blocks than these, or half of one, gets the rest in the usual way.
fn write_direct(file: &File, blocks: &[u8], at: u64, done: &mut usize) -> io::Result<()> {
    while *done < blocks.len() && done.is_multiple_of(BLOCK) {
        match file.write_at(&blocks[*done..], at + *done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How a payload is read.
#[derive(Clone)]
pub(super) struct Way {
    buffers: Arc<Buffers>,
    is_direct: bool,
}

impl Way {
    /// For a file that was just opened, for reading only, whose payload has `length` bytes.
    pub(super) fn of(buffers: &Arc<Buffers>, length: u64) -> Self {
        Self {
            buffers: buffers.clone(),
            is_direct: length >= LEAST as u64,
        }
    }

    /// The first bytes that are read of it: their first block comes from the cache, where the state letter waits to be written, and
    /// would be written now. Blocking.
    pub(super) fn first(&mut self, file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
        if !self.is_direct {
            return plain(file, offset, length);
        }
        let mut buffer = self.buffers.take();
        let (start, skip) = block_of(offset);
        let cached = fill(file, buffer.room(), start, (skip + length).min(BLOCK))?;
        self.is_direct = set_direct(file, true).is_ok();
        self.rest(file, buffer, (start, cached), (skip, length))
    }

    /// Up to a stride. Blocking.
    pub(super) fn read(&self, file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
        if !self.is_direct {
            return plain(file, offset, length);
        }
        let (start, skip) = block_of(offset);
        self.rest(file, self.buffers.take(), (start, 0), (skip, length))
    }

    fn rest(
        &self,
        file: &File,
        mut buffer: Buffer,
        (start, filled): (u64, usize),
        (skip, length): (usize, usize),
    ) -> io::Result<Bytes> {
        let wanted = skip + length;
        let room = &mut buffer.room()[filled..];
        let rest = match fill(file, room, start + filled as u64, wanted - filled.min(wanted)) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) && self.is_direct => {
                // Other readers of the file lose nothing by it but the way around the cache.
                set_direct(file, false)?;
                fill(file, room, start + filled as u64, wanted - filled.min(wanted))
            }
            read => read,
        };
        rest?;
        buffer.length = wanted;
        Ok(buffer.share(skip))
    }
}

/// The block that a place lies in, and how far in.
fn block_of(offset: u64) -> (u64, usize) {
    let inside = offset % BLOCK as u64;
    (offset - inside, inside as usize)
}

/// Reads whole blocks until there are `wanted` bytes; answers how many there are. `start` is a block's.
fn fill(file: &File, room: &mut [u8], start: u64, wanted: usize) -> io::Result<usize> {
    let end = wanted.next_multiple_of(BLOCK);
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut room[filled..end], start + filled as u64) {
            // Blocks end inside only where the file ends.
            Ok(read) if read == 0 || (filled + read < wanted && !read.is_multiple_of(BLOCK)) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads into memory that was not cleared before.
fn plain(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(length);
    while chunk.len() < length {
        let at = offset + chunk.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut chunk), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    chunk.truncate(length);
    Ok(Bytes::from(chunk))
}
