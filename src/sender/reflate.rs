//! A deflated data set with another head: inflated, cut, and deflated again, piece by piece (PS3.5 A.5).
//! Bounded: one buffer of `BUFFER` inflated bytes whatever the ratio. Called by `data_set.rs` on blocking threads.
use super::data_set::Fault;
use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

pub(super) struct Reflate {
    inflate: Option<Decompress>,
    deflate: Compress,
    /// Inflated bytes of the stored head still to be passed over.
    skip: u64,
    ended: bool,
    /// Deflated bytes that wait to be taken.
    out: Vec<u8>,
    produced: u64,
    /// Stored bytes taken in, and the most inflated bytes that they may become.
    stored: u64,
    inflated_max: u64,
}

const BUFFER: usize = 64 << 10;
/// No instance is larger than this when inflated. Deflate itself makes at most 1,032 bytes of one (RFC 1951), so that a stored
/// instance of 64 MiB could keep a worker busy for minutes, and larger ones for ever.
const INFLATED_MAX: u64 = 64 << 30;
/// Beyond the first mebibyte, more than this for each stored byte is no deflated stream.
const RATIO_MAX: u64 = 1_100;
const RATIO_FREE: u64 = 1 << 20;

impl Reflate {
    /// `old_head` inflated bytes are replaced by `new_head`.
    pub(super) fn new(old_head: u64, new_head: &[u8]) -> Self {
        let mut this = Self {
            inflate: None,
            deflate: Compress::new(Compression::default(), false),
            skip: old_head,
            ended: false,
            out: Vec::new(),
            produced: 0,
            stored: 0,
            inflated_max: INFLATED_MAX,
        };
        this.compress(new_head, FlushCompress::None);
        this
    }

    /// Takes the next stored bytes, answers what can leave.
    pub(super) fn push(mut self, stored: &[u8]) -> Result<(Self, Bytes), Fault> {
        let mut inflate = match self.inflate.take() {
            Some(inflate) => inflate,
            None => Decompress::new(is_zlib(stored)),
        };
        self.stored += stored.len() as u64;
        let most = self
            .inflated_max
            .min(self.stored.saturating_mul(RATIO_MAX).max(RATIO_FREE));
        let mut input = stored;
        let mut buffer = vec![0; BUFFER];
        // After the stream's end only padding may follow; it is made anew in `finish`.
        while !self.ended {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(input, &mut buffer, FlushDecompress::None)
                .map_err(|_| Fault::Edit("the deflated data set is not valid".to_owned()))?;
            if inflate.total_out() > most {
                return Err(Fault::Edit(
                    "the deflated data set is too large when inflated".to_owned(),
                ));
            }
            let taken = moved(inflate.total_in(), before_in);
            let made = moved(inflate.total_out(), before_out);
            input = &input[taken..];
            let over = usize::try_from(self.skip).unwrap_or(usize::MAX).min(made);
            self.skip -= over as u64;
            self.compress(&buffer[over..made], FlushCompress::None);
            self.ended = status == Status::StreamEnd;
            if taken == 0 && made == 0 {
                break;
            }
        }
        self.inflate = Some(inflate);
        let out = self.take();
        Ok((self, out))
    }

    /// The rest, with the padding byte that makes the length even.
    pub(super) fn finish(mut self) -> Result<Bytes, Fault> {
        if !self.ended || self.skip > 0 {
            return Err(Fault::Edit("the deflated data set ends before its end".to_owned()));
        }
        self.compress(&[], FlushCompress::Finish);
        if (self.produced + self.out.len() as u64) % 2 == 1 {
            self.out.push(0);
        }
        Ok(self.take())
    }

    fn take(&mut self) -> Bytes {
        self.produced += self.out.len() as u64;
        Bytes::from(std::mem::take(&mut self.out))
    }

    fn compress(&mut self, mut input: &[u8], flush: FlushCompress) {
        loop {
            self.out.reserve(BUFFER);
            let (before_in, before_out) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress_vec(input, &mut self.out, flush);
            let taken = moved(self.deflate.total_in(), before_in);
            input = &input[taken..];
            let made = moved(self.deflate.total_out(), before_out);
            let done = match status {
                Ok(Status::StreamEnd) | Err(_) => true,
                Ok(Status::Ok | Status::BufError) => {
                    input.is_empty() && (made == 0 || matches!(flush, FlushCompress::None)) && self.has_room()
                }
            };
            if done {
                return;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.out.len() < self.out.capacity()
    }
}

/// Some writers wrap the deflated stream as zlib (RFC 1950) against the standard; the scanner reads it too.
fn is_zlib(start: &[u8]) -> bool {
    matches!(start, [cmf, flg, ..] if cmf & 0x0f == 8 && cmf >> 4 <= 7 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

/// One call moves at most a slice's length.
fn moved(after: u64, before: u64) -> usize {
    usize::try_from(after - before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn inflated(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::DeflateDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn run(stored: &[u8], old_head: u64, new_head: &[u8], piece: usize) -> Result<Vec<u8>, Fault> {
        let mut reflate = Reflate::new(old_head, new_head);
        let mut out = Vec::new();
        for chunk in stored.chunks(piece) {
            let (again, bytes) = reflate.push(chunk)?;
            reflate = again;
            out.extend_from_slice(&bytes);
        }
        out.extend_from_slice(&reflate.finish()?);
        Ok(out)
    }

    #[test]
    fn the_head_is_replaced_and_the_rest_stays() {
        let rest: Vec<u8> = (0..700_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let whole = [b"OLD HEAD".as_slice(), &rest].concat();
        for (piece, pad) in [(1 << 18, 0), (1000, 1), (7, 1)] {
            let mut stored = deflated(&whole);
            stored.extend(std::iter::repeat_n(0, pad));
            let out = run(&stored, 8, b"A LONGER NEW HEAD", piece).unwrap();
            assert_eq!(out.len() % 2, 0);
            assert!(inflated(&out) == [b"A LONGER NEW HEAD".as_slice(), &rest].concat());
        }
    }

    #[test]
    fn a_head_alone_is_replaced_too() {
        assert_eq!(inflated(&run(&deflated(b"OLD"), 3, b"NEW1", 2).unwrap()), b"NEW1");
    }

    #[test]
    fn a_stream_that_inflates_without_bounds_is_given_up() {
        let zeros = vec![0; 8 << 20];
        let stored = deflated(&zeros);
        let whole = run(&stored, 4, b"NEW!", 512).unwrap();
        assert!(inflated(&whole)[4..] == zeros[4..], "as dense as deflate goes");
        let mut reflate = Reflate::new(4, b"NEW!");
        reflate.inflated_max = 4 << 20;
        assert!(matches!(reflate.push(&stored), Err(Fault::Edit(_))));
    }

    #[test]
    fn a_cut_stream_is_never_completed() {
        let stored = deflated(&(0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        assert!(run(&stored[..stored.len() / 2], 4, b"NEW", 512).is_err());
        assert!(run(&deflated(b"AB"), 3, b"NEW", 512).is_err());
    }
}
