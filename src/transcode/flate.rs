//! Deflate as a bounded stream in both directions (PS3.5 A.5, RFC 1951).
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The stream is no deflated data set, or inflates without end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlateError {
    #[error("the deflated data set is not valid")]
    Invalid,
    #[error("the deflated data set is too large when inflated")]
    TooLarge,
}

/// Inflates; what follows the stream's end is padding.
pub(super) struct Inflate {
    inner: Option<Decompress>,
    ended: bool,
    buffer: Vec<u8>,
}

impl Inflate {
    pub(super) fn new() -> Self {
        Self {
            inner: None,
            ended: false,
            buffer: vec![0; BUFFER],
        }
    }

    /// Takes the next bytes; `each` gets what they inflate to, at most `BUFFER` bytes at a time.
    pub(super) fn push<E: From<FlateError>>(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = self.inner.get_or_insert_with(|| Decompress::new(is_zlib(input)));
        let buffer = &mut self.buffer;
        while !self.ended {
            let (before_in, before_out) = (inner.total_in(), inner.total_out());
            let status = inner.decompress(input, buffer, FlushDecompress::None);
            let status = status.map_err(|_| FlateError::Invalid)?;
            let (taken, made) = (moved(inner.total_in(), before_in), moved(inner.total_out(), before_out));
            let most = inner
                .total_in()
                .saturating_mul(RATIO_MAX)
                .clamp(RATIO_FREE, INFLATED_MAX);
            if inner.total_out() > most {
                return Err(FlateError::TooLarge.into());
            }
            input = &input[taken..];
            each(&buffer[..made])?;
            self.ended = status == Status::StreamEnd;
            if taken == 0 && made == 0 {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), FlateError> {
        if self.ended { Ok(()) } else { Err(FlateError::Invalid) }
    }
}

/// Deflates.
pub(super) struct Deflate(Compress);

impl Deflate {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::default(), false))
    }

    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.run(input, FlushCompress::None, out);
    }

    /// The end of the stream.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.run(&[], FlushCompress::Finish, out);
    }

    fn run(&mut self, mut input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
        let ends = matches!(flush, FlushCompress::Finish);
        loop {
            out.reserve(BUFFER);
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let status = self.0.compress_vec(input, out, flush);
            input = &input[moved(self.0.total_in(), before_in)..];
            let made = moved(self.0.total_out(), before_out);
            match status {
                // The stream has ended, or nothing is left to do with it; a compressor in order has no errors.
                Ok(Status::StreamEnd) | Err(_) => return,
                Ok(_) if !ends && input.is_empty() && out.len() < out.capacity() => return,
                Ok(_) if made == 0 && input.is_empty() && out.len() < out.capacity() => return,
                Ok(_) => {}
            }
        }
    }
}

/// Some writers wrap the deflated stream as zlib (RFC 1950) against the standard; the head scanner reads it too.
fn is_zlib(start: &[u8]) -> bool {
    matches!(start, [cmf, flg, ..] if cmf & 0x0f == 8 && cmf >> 4 <= 7 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

/// One call moves at most a slice's length.
fn moved(after: u64, before: u64) -> usize {
    usize::try_from(after - before).unwrap_or(0)
}

const BUFFER: usize = 64 << 10;
/// As for edits of deflated data sets (`sender/reflate.rs`): deflate itself makes at most 1,032 bytes of one.
const INFLATED_MAX: u64 = 64 << 30;
const RATIO_MAX: u64 = 1_100;
const RATIO_FREE: u64 = 1 << 20;
