//! The pixels of an uncompressed data set, looked at while it streams by: a second opinion on a recast, in one byte order.
//! Knows the scanner, and nothing of what made the bytes. Bounded by one head.
use super::flate::{FlateError, Inflate};
use crate::dicom::head::header::{self, Header, Parsed};
use crate::dicom::head::{HeadEnd, PIXEL_GROUP, Progress, Scanner};
use crate::dicom::syntax::{Layout, Syntax};
use dicom_core::VR;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// BLAKE3 of Pixel Data or its floating-point kin at the root: little endian, padded to an even length.
    Pixels(blake3::Hash),
    /// The data set has none.
    Nothing,
    /// The scanner does not look so far: the head is larger than it takes.
    Unseen,
    /// It is no data set of its syntax.
    Unreadable,
}

/// One data set that streams by.
pub(super) struct Look {
    layout: Layout,
    inflate: Option<Inflate>,
    stage: Stage,
    /// Plain bytes so far.
    at: u64,
    /// The last of them: the header that ends the head may have come in pieces.
    recent: Vec<u8>,
}

// One for each conversion.
#[allow(clippy::large_enum_variant)]
enum Stage {
    Head(Scanner),
    /// Between the elements behind the head: a header that has arrived in part.
    Behind(Vec<u8>),
    Skip(u64),
    Pixels(Pixels),
    Over(Seen),
}

/// A value under way.
struct Pixels {
    hasher: blake3::Hasher,
    left: u64,
    odd: bool,
    /// Bytes of one number, whose order is turned round.
    unit: usize,
    part: Vec<u8>,
}

impl Look {
    pub(super) fn new(syntax: &Syntax) -> Self {
        Self {
            layout: syntax.layout,
            inflate: syntax.deflated.then(Inflate::new),
            stage: Stage::Head(Scanner::new(syntax.inflated())),
            at: 0,
            recent: Vec::new(),
        }
    }

    /// Takes the next bytes, as they are written in the syntax.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Some(mut inflate) = self.inflate.take() else {
            return self.plain(bytes);
        };
        let done = inflate.push(bytes, |bytes| {
            self.plain(bytes);
            Ok::<(), FlateError>(())
        });
        self.inflate = Some(inflate);
        if done.is_err() {
            self.stage = Stage::Over(Seen::Unreadable);
        }
    }

    /// The data set has ended.
    pub(super) fn finish(self) -> Seen {
        if self.inflate.is_some_and(|inflate| inflate.finish().is_err()) {
            return Seen::Unreadable;
        }
        match self.stage {
            Stage::Head(scanner) => scanner.finish().map_or(Seen::Unreadable, |_| Seen::Nothing),
            Stage::Behind(_) => Seen::Nothing,
            Stage::Over(seen) => seen,
            Stage::Skip(_) | Stage::Pixels(_) => Seen::Unreadable,
        }
    }

    fn plain(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        let Stage::Head(scanner) = &mut self.stage else {
            return self.behind(bytes);
        };
        match scanner.push(bytes) {
            Err(_) => self.stage = Stage::Over(Seen::Unreadable),
            Ok(Progress::More) => {
                let from = bytes.len().saturating_sub(RECENT);
                self.recent.extend_from_slice(&bytes[from..]);
                self.recent.drain(..self.recent.len().saturating_sub(RECENT));
            }
            Ok(Progress::HeadComplete) => {
                let Some(head) = scanner.head() else { return };
                let is_whole = head.end == HeadEnd::Pixels || head.follows.is_some_and(|tag| tag.0 >= PIXEL_GROUP);
                let later = usize::try_from(self.at - head.bytes.len() as u64).unwrap_or(usize::MAX);
                let before = later.saturating_sub(bytes.len());
                if !is_whole || before > self.recent.len() {
                    self.stage = Stage::Over(Seen::Unseen);
                    return;
                }
                let recent = std::mem::take(&mut self.recent);
                self.stage = Stage::Behind(Vec::with_capacity(RECENT));
                self.behind(&recent[recent.len() - before..]);
                self.behind(&bytes[bytes.len() - later.min(bytes.len())..]);
            }
        }
    }

    /// Goes on behind the head.
    fn behind(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.stage {
                Stage::Head(_) | Stage::Over(_) => return,
                Stage::Skip(left) => {
                    let (_, later) = split(bytes, left);
                    bytes = later;
                    if *left == 0 {
                        self.stage = Stage::Behind(Vec::with_capacity(RECENT));
                    }
                }
                Stage::Pixels(pixels) => {
                    let (now, later) = split(bytes, &mut pixels.left);
                    pixels.take(now);
                    bytes = later;
                    self.end_of_pixels();
                }
                Stage::Behind(partial) => {
                    partial.push(bytes[0]);
                    bytes = &bytes[1..];
                    match header::parse(self.layout, partial) {
                        Parsed::Header(found) => self.enter(&found),
                        Parsed::Short => {}
                        Parsed::BadVr(_) | Parsed::Unexpected(_) => self.stage = Stage::Over(Seen::Unreadable),
                    }
                }
            }
        }
    }

    fn enter(&mut self, found: &Header) {
        self.stage = match found.length {
            // Encapsulated, or a sequence before the pixels: neither is to be expected here.
            None => Stage::Over(Seen::Unseen),
            Some(length) if header::is_pixels(found.tag) => Stage::Pixels(Pixels {
                hasher: blake3::Hasher::new(),
                left: u64::from(length),
                odd: length % 2 == 1,
                unit: if self.layout.is_big() { unit(found.vr) } else { 1 },
                part: Vec::new(),
            }),
            Some(0) => Stage::Behind(Vec::with_capacity(RECENT)),
            Some(length) => Stage::Skip(u64::from(length)),
        };
        self.end_of_pixels();
    }

    fn end_of_pixels(&mut self) {
        if let Stage::Pixels(pixels) = &mut self.stage
            && pixels.left == 0
        {
            pixels.hasher.update(&pixels.part);
            if pixels.odd {
                pixels.hasher.update(&[0]);
            }
            self.stage = Stage::Over(Seen::Pixels(pixels.hasher.finalize()));
        }
    }
}

impl Pixels {
    fn take(&mut self, bytes: &[u8]) {
        if self.unit == 1 {
            self.hasher.update(bytes);
            return;
        }
        self.part.extend_from_slice(bytes);
        let whole = self.part.len() - self.part.len() % self.unit;
        for number in self.part[..whole].chunks_exact_mut(self.unit) {
            number.reverse();
        }
        self.hasher.update(&self.part[..whole]);
        self.part.drain(..whole);
    }
}

/// What belongs to the next `left` bytes, and what is behind them.
fn split<'a>(bytes: &'a [u8], left: &mut u64) -> (&'a [u8], &'a [u8]) {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= count as u64;
    bytes.split_at(count)
}

/// Bytes of one number of pixels in big endian (PS3.5 7.3, 8.1.1): OW holds words of 16 bits whatever is in them.
fn unit(vr: VR) -> usize {
    match vr {
        VR::OW => 2,
        VR::OF => 4,
        VR::OD => 8,
        _ => 1,
    }
}

/// At least as long as a header.
const RECENT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::Uid;

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const BIG: &str = "1.2.840.10008.1.2.2";
    const HEAD: &[u8] = b"\x08\x00\x18\x00UI\x06\x001.2.3\0";

    fn look(syntax: &'static str, bytes: &[u8], piece: usize) -> Seen {
        let mut look = Look::new(&Syntax::of(&Uid::known(syntax)));
        bytes.chunks(piece).for_each(|piece| look.push(piece));
        look.finish()
    }

    fn of(bytes: &[u8]) -> Seen {
        Seen::Pixels(blake3::hash(bytes))
    }

    #[test]
    fn pixels_are_found_in_one_byte_order_whatever_the_layout_and_the_pieces() {
        let little = [HEAD, b"\xE0\x7F\x10\0OW\0\0\x06\0\0\0\x01\x02\x03\x04\x05\x06"].concat();
        let big = [
            &b"\0\x08\0\x18UI\0\x061.2.3\0"[..],
            b"\x7F\xE0\0\x10OW\0\0\0\0\0\x06\x02\x01\x04\x03\x06\x05",
        ]
        .concat();
        let bytes = [
            &b"\x08\x00\x18\x00\x06\0\0\x001.2.3\0"[..],
            b"\xE0\x7F\x10\0\x06\0\0\0\x01\x02\x03\x04\x05\x06",
        ];
        let implicit = bytes.concat();
        for piece in 1..=little.len() {
            for (syntax, bytes) in [(EXPLICIT, &little), (BIG, &big), (IMPLICIT, &implicit)] {
                assert_eq!(look(syntax, bytes, piece), of(&[1, 2, 3, 4, 5, 6]), "{syntax} {piece}");
            }
        }
    }

    #[test]
    fn wide_numbers_bytes_and_odd_lengths_are_as_they_are_in_little_endian() {
        let big = |vr: &[u8], tag: u8, value: &[u8]| {
            let header = [b"\x7F\xE0\0", &[tag][..], vr, b"\0\0\0\0\0", &[value.len() as u8]].concat();
            look(BIG, &[&b"\0\x08\0\x18UI\0\x061.2.3\0"[..], &header, value].concat(), 5)
        };
        assert_eq!(big(b"OF", 8, &[1, 2, 3, 4, 5, 6, 7, 8]), of(&[4, 3, 2, 1, 8, 7, 6, 5]));
        assert_eq!(big(b"OD", 9, &[1, 2, 3, 4, 5, 6, 7, 8]), of(&[8, 7, 6, 5, 4, 3, 2, 1]));
        assert_eq!(big(b"OB", 0x10, &[1, 2, 3]), of(&[1, 2, 3, 0]));
        assert_eq!(big(b"OW", 0x10, &[]), of(&[]));
    }

    #[test]
    fn what_stands_before_the_pixels_is_passed_over_and_what_is_behind_does_not_matter() {
        let before = [
            HEAD,
            b"\xE0\x7F\0\0UL\x04\0\x22\0\0\0",
            b"\xE0\x7F\x03\0UV\0\0\x08\0\0\0........",
        ]
        .concat();
        let pixels = b"\xE0\x7F\x10\0OB\0\0\x02\0\0\0\x01\x02";
        let behind = b"\xFC\xFF\xFC\xFFOB\0\0\x02\0\0\0\0\0";
        for piece in [1, 7, 1_000] {
            assert_eq!(
                look(EXPLICIT, &[&before[..], pixels, behind].concat(), piece),
                of(&[1, 2])
            );
            assert_eq!(look(EXPLICIT, &before, piece), Seen::Nothing);
            assert_eq!(look(EXPLICIT, HEAD, piece), Seen::Nothing);
        }
    }

    #[test]
    fn what_cannot_be_followed_is_never_called_pixels() {
        let cut = [HEAD, b"\xE0\x7F\x10\0OB\0\0\x04\0\0\0\x01\x02"].concat();
        let encapsulated = [HEAD, b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0"].concat();
        let large: Vec<u8> = (0..80_u16)
            .flat_map(|n| {
                [
                    &[0x11, 0, n as u8, 0x10][..],
                    b"OB\0\0",
                    &60_000_u32.to_le_bytes(),
                    &[0; 60_000],
                ]
                .concat()
            })
            .collect();
        for piece in [1, 9, 1_000_000] {
            assert_eq!(look(EXPLICIT, &cut, piece), Seen::Unreadable);
            assert_eq!(look(EXPLICIT, &encapsulated, piece), Seen::Unseen);
            assert_eq!(look(EXPLICIT, &HEAD[..9], piece), Seen::Unreadable);
        }
        assert_eq!(look(EXPLICIT, &[&large[..], &cut].concat(), 4_096), Seen::Unseen);
        assert_eq!(look("1.2.840.10008.1.2.1.99", &[0xFF; 64], 8), Seen::Unreadable);
    }
}
