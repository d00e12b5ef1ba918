//! The disk's half of an arrival: what has come is gathered without being copied, and written by blocking threads.
//!
//! Pieces are handed on as they came from the socket: a copy into a buffer of the spool's own was a tenth of what an image
//! cost. Small ones are copied all the same, for each pins the block that it was read into. A long payload is flushed in
//! steps while it still arrives, so that its seal does not wait for all of it.
use crate::base::fault::{Plant, planted};
use crate::base::limits::{PIECE_MIN, STRIDE};
use bytes::{Bytes, BytesMut};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

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

/// Writes a payload behind its header and hashes it.
pub(super) struct Writer {
    pub(super) file: Arc<File>,
    hasher: blake3::Hasher,
    start: u64,
    length: u64,
    /// Where the last flush began that ran beside the writing.
    flushed: u64,
}

impl Writer {
    /// For a data set that begins at `start` of the file.
    pub(super) fn new(file: Arc<File>, start: u64) -> Self {
        Self {
            file,
            hasher: blake3::Hasher::new(),
            start,
            length: 0,
            flushed: 0,
        }
    }

    /// Blocking.
    pub(super) fn stride(&mut self, pieces: &mut Pieces) -> io::Result<()> {
        pieces.close();
        for piece in pieces.whole.drain(..) {
            self.file.write_all_at(&piece, self.start + self.length)?;
            self.hasher.update(&piece);
            self.length += piece.len() as u64;
        }
        pieces.length = 0;
        Ok(())
    }

    /// Writes the last pieces and the header that `header` makes of length and digest, and flushes the file once. A payload
    /// of one stride is one write. Blocking.
    pub(super) fn seal(mut self, pieces: &mut Pieces, header: impl FnOnce(u64, [u8; 32]) -> Vec<u8>) -> io::Result<()> {
        if self.length == 0 {
            pieces.close();
            for piece in &pieces.whole {
                self.hasher.update(piece);
                self.length += piece.len() as u64;
            }
            let mut all = header(self.length, *self.hasher.finalize().as_bytes());
            all.reserve_exact(pieces.length);
            pieces.whole.iter().for_each(|piece| all.extend_from_slice(piece));
            self.file.write_all_at(&all, 0)?;
        } else {
            self.stride(pieces)?;
            let header = header(self.length, *self.hasher.finalize().as_bytes());
            self.file.write_all_at(&header, 0)?;
        }
        flush(&self.file)
    }

    /// Whether enough was written for a flush beside the writing; asked before each stride, it then counts as begun.
    pub(super) fn wants_flush(&mut self) -> bool {
        let due = self.length - self.flushed >= STEP;
        if due {
            self.flushed = self.length;
        }
        due
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
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the pieces, the file holds the header and the same bytes in the same order, and the digest is theirs.
        #[test]
        fn pieces_of_any_size_are_written_in_order(sizes in prop::collection::vec(
            prop_oneof![0..64_usize, PIECE_MIN - 2..PIECE_MIN + 2, STRIDE / 2..STRIDE + 3], 0..12,
        )) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let (mut writer, mut pieces) = (Writer::new(file.clone(), 3), Pieces::default());
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
            writer.seal(&mut pieces, |length, digest| { told = Some((length, digest)); b"abc".to_vec() }).unwrap();
            prop_assert_eq!(told, Some((all.len() as u64, *blake3::hash(&all).as_bytes())));
            let mut found = vec![0; all.len() + 3];
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert_eq!(&found[..3], b"abc");
            prop_assert!(found[3..] == all[..]);
            prop_assert_eq!(file.metadata().unwrap().len(), found.len() as u64);
        }
    }

    #[test]
    fn a_flush_beside_the_writing_comes_once_in_each_step() {
        let mut writer = Writer::new(Arc::new(tempfile::tempfile().unwrap()), 0);
        assert!(!writer.wants_flush());
        writer.length = STEP;
        assert!(writer.wants_flush() && !writer.wants_flush());
        writer.length = 2 * STEP - 1;
        assert!(!writer.wants_flush());
        writer.length += 1;
        assert!(writer.wants_flush());
    }
}
