//! Inflates a deflated data set (PS3.5 A.5) piece by piece, as far as the head reaches.
use super::HeadError;
use super::scan::{Cut, FEED};
use crate::base::limits::{INFLATE_HEAD_MAX, INFLATE_RATIO_MAX};
use flate2::{Decompress, FlushDecompress, Status};

/// Where inflated bytes go; answers the cut when the head is complete.
type Sink<'a> = dyn FnMut(&[u8]) -> Result<Option<Cut>, HeadError> + 'a;

pub(super) struct Inflate {
    /// Chosen by the first two bytes: the standard's raw stream, or the zlib stream of some writers.
    stream: Option<Decompress>,
    first: Vec<u8>,
    block: Vec<u8>,
    done: bool,
    max: u64,
    ratio_max: u64,
}

impl Inflate {
    pub fn new() -> Self {
        Self::bounded(INFLATE_HEAD_MAX as u64, INFLATE_RATIO_MAX as u64)
    }

    fn bounded(max: u64, ratio_max: u64) -> Self {
        Self {
            stream: None,
            first: Vec::with_capacity(2),
            block: vec![0; BLOCK],
            done: false,
            max,
            ratio_max,
        }
    }

    /// Whether the deflated stream has ended; what follows (a padding byte) is passed over.
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn push(&mut self, mut piece: &[u8], sink: &mut Sink<'_>) -> Result<Option<Cut>, HeadError> {
        if self.stream.is_none() {
            let missing = 2 - self.first.len().min(2);
            let (now, later) = piece.split_at(piece.len().min(missing));
            self.first.extend_from_slice(now);
            piece = later;
            if self.first.len() < 2 {
                return Ok(None);
            }
            self.stream = Some(Decompress::new(is_zlib(&self.first)));
            let first = std::mem::take(&mut self.first);
            if let Some(cut) = self.run(&first, sink)? {
                return Ok(Some(cut));
            }
        }
        self.run(piece, sink)
    }

    /// No more bytes come. An empty stream is an empty data set; any other must have ended.
    pub fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), HeadError> {
        if self.done || (self.stream.is_none() && self.first.is_empty()) {
            return Ok(());
        }
        let first = std::mem::take(&mut self.first);
        self.stream.get_or_insert_with(|| Decompress::new(false));
        self.run(&first, sink)?;
        if self.done { Ok(()) } else { Err(HeadError::BadDeflate) }
    }

    fn run(&mut self, mut input: &[u8], sink: &mut Sink<'_>) -> Result<Option<Cut>, HeadError> {
        let Some(stream) = self.stream.as_mut() else {
            return Ok(None);
        };
        while !self.done {
            let (was_in, was_out) = (stream.total_in(), stream.total_out());
            // What came out before the fault still counts: the head may be complete there, however the pieces were cut.
            let status = stream.decompress(input, &mut self.block, FlushDecompress::None);
            // Both differences are bounded by the slices given.
            let (taken, made) = (
                (stream.total_in() - was_in) as usize,
                (stream.total_out() - was_out) as usize,
            );
            input = &input[taken..];
            let (all_in, all_out) = (stream.total_in(), stream.total_out());
            if all_out > self.max || (all_out > RATIO_FROM && all_out / all_in.max(1) > self.ratio_max) {
                return Err(HeadError::Bomb);
            }
            if let Some(cut) = sink(&self.block[..made])? {
                return Ok(Some(cut));
            }
            let status = status.map_err(|_| HeadError::BadDeflate)?;
            self.done = status == Status::StreamEnd;
            if taken == 0 && made == 0 {
                break;
            }
        }
        Ok(None)
    }
}

/// A zlib header (RFC 1950). A raw stream would start so only with a stored block and set padding bits, which no deflater writes.
fn is_zlib(first: &[u8]) -> bool {
    first[0] == 0x78 && (u16::from(first[0]) << 8 | u16::from(first[1])).is_multiple_of(31)
}

const BLOCK: usize = 16 << 10;
/// The ratio is judged from here on.
const RATIO_FROM: u64 = 1 << 20;
const _: () = assert!(BLOCK <= FEED);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zeros(count: usize) -> Vec<u8> {
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflate.write_all(&vec![0; count]).unwrap();
        deflate.finish().unwrap()
    }

    fn inflated(inflate: &mut Inflate, bytes: &[u8]) -> Result<usize, HeadError> {
        let mut total = 0;
        inflate.push(bytes, &mut |block| {
            total += block.len();
            Ok(None)
        })?;
        Ok(total)
    }

    #[test]
    fn the_absolute_limit_stops_a_bomb() {
        let bomb = zeros(3 << 20);
        assert_eq!(
            inflated(&mut Inflate::bounded(2 << 20, u64::MAX), &bomb),
            Err(HeadError::Bomb)
        );
        assert_eq!(inflated(&mut Inflate::bounded(3 << 20, u64::MAX), &bomb), Ok(3 << 20));
    }

    #[test]
    fn the_ratio_is_judged_only_after_a_mebibyte() {
        assert_eq!(
            inflated(&mut Inflate::bounded(u64::MAX, 100), &zeros(1 << 20)),
            Ok(1 << 20)
        );
        let more = zeros((1 << 20) + 1);
        assert_eq!(
            inflated(&mut Inflate::bounded(u64::MAX, 100), &more),
            Err(HeadError::Bomb)
        );
    }
}
