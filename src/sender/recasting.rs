//! A piece through a recast, off the async threads and in bounded memory: a few deflated bytes may become a thousand times as many.
use super::data_set::{Fault, blocking};
use crate::transcode::{Recast, Trouble};
use bytes::Bytes;

/// What a recast made of a piece.
pub(super) struct Passed {
    pub recast: Recast,
    /// Bytes of the piece that it took, and those that it did not: they come first the next time.
    pub taken: usize,
    pub rest: Bytes,
    pub out: Bytes,
    /// The hash of the pixels, at the end.
    pub pixels: Option<blake3::Hash>,
}

/// One piece, or the end.
///
/// # Errors
/// `Recast`: it cannot stand in the other layout.
pub(super) async fn pass(mut recast: Recast, piece: Option<Bytes>) -> Result<Passed, Fault> {
    let work = move || {
        let mut out = Vec::new();
        let done = match piece {
            Some(piece) => recast
                .push(&piece, &mut out)
                .map(|taken| (taken, piece.slice(taken..), None)),
            None => recast.finish(&mut out).map(|pixels| (0, Bytes::new(), pixels)),
        };
        let (taken, rest, pixels) = done.map_err(|error| Fault::Recast(error.into()))?;
        Ok(Passed {
            recast,
            taken,
            rest,
            out: Bytes::from(out),
            pixels,
        })
    };
    let stopped = |_| Fault::Recast(Trouble::Failed("the conversion was stopped".to_owned()));
    blocking(work).await.map_err(stopped)?
}
