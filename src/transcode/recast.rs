//! A data set from one uncompressed syntax to another, or from or to deflate, as a stream of pieces: inflate, other layout, deflate.
//! Bounded by a few buffers and two heads whatever the instance's size. Never touches a pixel but for its byte order: what was
//! written is read again (`look.rs`), and is not completed when its pixels are not those that came.
use super::flate::{Deflate, FlateError, Inflate};
use super::forms::{Coding, form_of};
use super::look::{Look, Seen};
use super::pool::Trouble;
use crate::base::names::Uid;
use crate::dicom::relayout::{Relayout, RelayoutError};
use crate::dicom::syntax::Syntax;

/// Why a data set cannot be recast. Carries places, never values.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecastError {
    #[error(transparent)]
    Flate(#[from] FlateError),
    #[error(transparent)]
    Layout(#[from] RelayoutError),
    #[error("the pixels in what was written are not those that came")]
    Pixels,
}

impl From<RecastError> for Trouble {
    fn from(error: RecastError) -> Self {
        let what = error.to_string();
        match error {
            RecastError::Layout(
                RelayoutError::WidePixels | RelayoutError::UnknownVr(_) | RelayoutError::SignFar(_),
            ) => Self::Declined(what),
            RecastError::Flate(_) | RecastError::Layout(_) => Self::Failed(what),
            RecastError::Pixels => Self::NotIdentical,
        }
    }
}

/// One data set on its way.
pub struct Recast {
    inflate: Option<Inflate>,
    relayout: Option<Relayout>,
    deflate: Option<Deflate>,
    /// Plain bytes between two stages.
    plain: Vec<u8>,
    made: u64,
    /// At what comes and at what leaves. None when it has ended.
    looks: Option<(Look, Look)>,
}

impl Recast {
    /// Between two uncompressed or deflated syntaxes; `None` when one of them has encapsulated pixels, is not known here, or
    /// both are the same.
    #[must_use]
    pub fn between(from: &Uid, to: &Uid) -> Option<Self> {
        let is_native = |uid| form_of(uid).is_some_and(|form| form.coding == Coding::Native);
        if from == to || !is_native(from) || !is_native(to) {
            return None;
        }
        let (from, to) = (Syntax::of(from), Syntax::of(to));
        Some(Self {
            inflate: from.deflated.then(Inflate::new),
            relayout: (from.layout != to.layout).then(|| Relayout::new(from.layout, to.layout)),
            deflate: to.deflated.then(Deflate::new),
            plain: Vec::new(),
            made: 0,
            looks: Some((Look::new(&from.inflated()), Look::new(&to))),
        })
    }

    /// Whether it takes longer than an async thread may be held.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.inflate.is_some() || self.deflate.is_some()
    }

    /// Takes of the next bytes as many as make about `OUT_MAX`, appends what can leave, and answers how many it took: a few bytes
    /// may inflate to a thousand times as much.
    ///
    /// # Errors
    /// See `RecastError`; nothing may be completed then.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, RecastError> {
        let slice = if self.inflate.is_some() {
            SLICE
        } else {
            piece.len().max(1)
        };
        let (mut taken, before) = (0, out.len());
        for slice in piece.chunks(slice) {
            if out.len() - before >= OUT_MAX {
                break;
            }
            self.take(slice, out)?;
            taken += slice.len();
        }
        Ok(taken)
    }

    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), RecastError> {
        let before = out.len();
        let mut inflate = self.inflate.take();
        let done = match &mut inflate {
            Some(inflate) => inflate.push(piece, |bytes| self.pass(bytes, out)),
            None => self.pass(piece, out),
        };
        self.inflate = inflate;
        self.wrote(&out[before..]);
        done
    }

    /// The rest. A deflated data set gets the byte that makes its length even. Answers the BLAKE3 of the pixels, the same before
    /// and after; `None` when there are none, or behind a head that is larger than the scanner takes.
    ///
    /// # Errors
    /// `RecastError`: the data set ended before its end, or its pixels have become others.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Option<blake3::Hash>, RecastError> {
        let before = out.len();
        if let Some(inflate) = &self.inflate {
            inflate.finish()?;
        }
        if let Some(relayout) = &mut self.relayout {
            self.plain.clear();
            relayout.finish(&mut self.plain)?;
            match &mut self.deflate {
                Some(deflate) => deflate.push(&self.plain, out),
                None => out.extend_from_slice(&self.plain),
            }
        }
        if let Some(deflate) = &mut self.deflate {
            deflate.finish(out);
            if (self.made + (out.len() - before) as u64) % 2 == 1 {
                out.push(0);
            }
        }
        self.wrote(&out[before..]);
        let Some((came, left)) = self.looks.take() else {
            return Ok(None);
        };
        match (came.finish(), left.finish()) {
            (Seen::Pixels(before), Seen::Pixels(after)) if before == after => Ok(Some(after)),
            (Seen::Unseen | Seen::Unreadable, _) | (_, Seen::Unseen) | (Seen::Nothing, Seen::Nothing) => Ok(None),
            _ => Err(RecastError::Pixels),
        }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.made += bytes.len() as u64;
        if let Some((_, left)) = &mut self.looks {
            left.push(bytes);
        }
    }

    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RecastError> {
        if let Some((came, _)) = &mut self.looks {
            came.push(bytes);
        }
        let plain = match &mut self.relayout {
            Some(relayout) => {
                self.plain.clear();
                relayout.push(bytes, &mut self.plain)?;
                &self.plain
            }
            None => bytes,
        };
        match &mut self.deflate {
            Some(deflate) => deflate.push(plain, out),
            None => out.extend_from_slice(plain),
        }
        Ok(())
    }
}

/// Bytes that one `push` makes, about: one slice more at most.
const OUT_MAX: usize = 1 << 20;
/// Bytes that are inflated at a time: at most 2.2 MB (RFC 1951 makes at most 1,032 of one).
const SLICE: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    const BIG: &str = "1.2.840.10008.1.2.2";

    fn run(from: &'static str, to: &'static str, bytes: &[u8], piece: usize) -> Result<Vec<u8>, RecastError> {
        let mut recast = Recast::between(&Uid::known(from), &Uid::known(to)).unwrap();
        let mut out = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let mut made = Vec::new();
                piece = &piece[recast.push(piece, &mut made)?..];
                assert!(made.len() < OUT_MAX + (3 << 20), "{}", made.len());
                out.append(&mut made);
            }
        }
        let pixels = recast.finish(&mut out)?;
        assert_eq!(pixels, Some(blake3::hash(&data_set()[26..])), "{from} to {to}");
        Ok(out)
    }

    fn data_set() -> Vec<u8> {
        let mut bytes = b"\x08\x00\x18\x00UI\x06\x001.2.3\0".to_vec();
        bytes.extend_from_slice(b"\xE0\x7F\x10\x00OW\0\0");
        bytes.extend_from_slice(&400_000_u32.to_le_bytes());
        bytes.extend((0..200_000_u32).flat_map(|n| (n as u16 / 3).to_le_bytes()));
        bytes
    }

    #[test]
    fn every_way_round_comes_back() {
        let whole = data_set();
        for piece in [7, 4_096, 1 << 20] {
            let deflated = run(EXPLICIT, DEFLATED, &whole, piece).unwrap();
            assert_eq!(deflated.len() % 2, 0);
            assert!(deflated.len() < whole.len() / 2);
            let big = run(DEFLATED, BIG, &deflated, piece).unwrap();
            let implicit = run(BIG, IMPLICIT, &big, piece).unwrap();
            let back = run(IMPLICIT, DEFLATED, &implicit, piece).unwrap();
            assert!(run(DEFLATED, EXPLICIT, &back, piece).unwrap() == whole, "{piece}");
        }
    }

    /// A small instance that inflates a thousandfold comes in pieces that memory has room for.
    #[test]
    fn what_inflates_a_thousandfold_comes_in_bounded_pieces() {
        let mut whole = data_set()[..26].to_vec();
        whole[22..26].copy_from_slice(&(300_u32 << 20).to_le_bytes());
        whole.resize(26 + (300 << 20), 0);
        let mut recast = Recast::between(&Uid::known(EXPLICIT), &Uid::known(DEFLATED)).unwrap();
        let mut deflated = Vec::new();
        for piece in whole.chunks(1 << 20) {
            assert_eq!(recast.push(piece, &mut deflated).unwrap(), piece.len());
        }
        recast.finish(&mut deflated).unwrap();
        assert!(deflated.len() < 400_000, "{}", deflated.len());
        let mut recast = Recast::between(&Uid::known(DEFLATED), &Uid::known(IMPLICIT)).unwrap();
        let (mut rest, mut length, mut most) = (&deflated[..], 0, 0);
        while !rest.is_empty() {
            let mut out = Vec::new();
            rest = &rest[recast.push(rest, &mut out).unwrap()..];
            length += out.len();
            most = most.max(out.capacity());
        }
        recast.finish(&mut Vec::new()).unwrap();
        // Two headers, each without its VR: eight bytes.
        assert_eq!(length, 8 + 6 + 8 + (300 << 20));
        assert!(most < 8 << 20, "{most}");
    }

    #[test]
    fn a_cut_or_endless_stream_is_never_completed() {
        let whole = data_set();
        let deflated = run(EXPLICIT, DEFLATED, &whole, 4_096).unwrap();
        assert!(run(DEFLATED, IMPLICIT, &deflated[..deflated.len() / 2], 512).is_err());
        assert!(run(EXPLICIT, IMPLICIT, &whole[..whole.len() - 2], 512).is_err());
        assert!(run(DEFLATED, IMPLICIT, &[0xFF; 64], 8).is_err());
    }

    #[test]
    fn encapsulated_syntaxes_are_not_recast() {
        for other in ["1.2.840.10008.1.2.4.80", "1.2.3", EXPLICIT] {
            assert!(
                Recast::between(&Uid::known(EXPLICIT), &Uid::known(other)).is_none(),
                "{other}"
            );
        }
    }
}
