//! A data set in another uncompressed layout: implicit little endian, explicit little endian, explicit big endian.
//!
//! Promises: a stream in pieces of any size, memory of one header and one open element for each level whatever the lengths, and of at most
//! `HEAD_MAX` while it is open whether a number is signed (`sign.rs`);
//! every value stands again with its own bytes in the new byte order; sequences and items leave with undefined lengths
//! (their old lengths would be wrong, and the new ones are not known before their end); group lengths (gggg,0000), which
//! PS3.5 7.2 retired, do not leave. UN stays as it is, little endian (PS3.5 6.2.2 note 2), what UN of undefined length
//! contains stays implicit little endian (CP-246), and a value that its VR's 16-bit length cannot hold becomes UN.
//! Encapsulated pixel data has one layout only and is refused. Called by the sender's recast; knows no syntax UIDs.
mod sign;
#[cfg(test)]
mod tests;

use super::head::header::{self, Header, Parsed};
use super::head::{ITEM, ITEM_END, Kind, SEQUENCE_END, dictionary_vr, has_long_length};
use super::syntax::Layout;
use crate::base::limits::DEPTH_MAX;
use dicom_core::{Tag, VR};
use sign::{Doubt, Sign};

/// Why a data set cannot stand in another layout. Carries places, never values.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RelayoutError {
    #[error("the data set is not readable at {tag}, byte {at}")]
    Malformed { tag: Tag, at: u64 },
    #[error("{0} is encapsulated, and encapsulated pixels have one layout only")]
    Encapsulated(Tag),
    #[error("{0} has a VR that is not known, so its byte order cannot be changed")]
    UnknownVr(Tag),
    #[error(
        "pixels of more than 16 bits are not moved to or from big endian: readers do not agree on their byte order"
    )]
    WidePixels,
    #[error("whether {0} is signed is said by Pixel Representation, which stands more than 4 MiB behind it")]
    SignFar(Tag),
    #[error("a value ends inside {0}")]
    Truncated(Tag),
}

/// Takes a data set in one layout, gives it in another.
pub struct Relayout {
    stack: Vec<Frame>,
    /// Source bytes taken so far.
    at: u64,
    /// A header that has arrived in part.
    partial: Vec<u8>,
    value: Option<Value>,
    root: Frame,
    /// Elements whose VR is open, in the order in which they stand in `held`.
    doubts: Vec<Doubt>,
    /// Written, from the first doubt on.
    held: Vec<u8>,
}

/// What is open: the root, a sequence, or an item.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    tag: Tag,
    /// Where it ends in the source, when its length was declared.
    end: Option<u64>,
    from: Layout,
    to: Layout,
    sign: Sign,
    /// Doubts that were there before it.
    doubts: usize,
    /// Bits Allocated of the item, or of what encloses it.
    bits: u16,
}

/// A value under way.
#[derive(Clone, Debug)]
struct Value {
    tag: Tag,
    left: u64,
    /// Bytes of one number when their order changes, else 1.
    unit: usize,
    /// Bytes of a number that are not there yet.
    part: Vec<u8>,
    /// It is passed over.
    drop: bool,
    pad: Option<u8>,
    /// The first two bytes, when they matter.
    number: Option<Vec<u8>>,
}

impl Relayout {
    #[must_use]
    pub fn new(from: Layout, to: Layout) -> Self {
        let root = Frame {
            kind: Kind::Item,
            tag: ITEM,
            end: None,
            from,
            to,
            sign: Sign::Open,
            doubts: 0,
            bits: 16,
        };
        Self {
            stack: Vec::new(),
            at: 0,
            partial: Vec::with_capacity(HEADER_MAX),
            value: None,
            root,
            doubts: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Takes the next bytes and appends what they become.
    ///
    /// # Errors
    /// See `RelayoutError`; nothing of the output may be completed then.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RelayoutError> {
        let mut made = match self.doubts.is_empty() {
            true => std::mem::take(out),
            false => std::mem::take(&mut self.held),
        };
        let done = self.pass(bytes, &mut made);
        self.hand_out(made, out)?;
        done
    }

    fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RelayoutError> {
        loop {
            if self.value.is_some() {
                bytes = self.pass_value(bytes, out)?;
                if self.value.is_some() {
                    return Ok(());
                }
            }
            self.close(out);
            let had = self.partial.len();
            let taken = bytes.len().min(HEADER_MAX - had);
            if had + taken == 0 {
                return Ok(());
            }
            self.partial.extend_from_slice(&bytes[..taken]);
            match header::parse(self.top().from, &self.partial) {
                Parsed::Header(found) if found.size >= had => {
                    let written = self.letters();
                    bytes = &bytes[found.size - had..];
                    self.partial.clear();
                    self.open(&found, written, out)?;
                }
                // A whole header does not wait for more.
                Parsed::Header(found) => return Err(self.malformed(found.tag)),
                Parsed::Short if taken == 0 => return Ok(()),
                Parsed::Short => bytes = &bytes[taken..],
                Parsed::BadVr(tag) | Parsed::Unexpected(tag) => return Err(self.malformed(tag)),
            }
        }
    }

    /// The data set has ended. Fewer than eight zero bytes behind its last element are padding of some devices, and do not leave.
    ///
    /// # Errors
    /// `Truncated` when it ended inside an element.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), RelayoutError> {
        let mut made = std::mem::take(&mut self.held);
        self.close(&mut made);
        if self.stack.is_empty() && self.root.sign == Sign::Open {
            self.decide(Sign::Passed, &mut made);
        }
        self.hand_out(made, out)?;
        let is_padding = self.partial.len() < 8 && self.partial.iter().all(|byte| *byte == 0);
        match (&self.value, self.stack.last()) {
            (None, None) if is_padding => Ok(()),
            (Some(value), _) => Err(RelayoutError::Truncated(value.tag)),
            (None, Some(frame)) => Err(RelayoutError::Truncated(frame.tag)),
            (None, None) => Err(RelayoutError::Truncated(Tag(0, 0))),
        }
    }

    fn top(&self) -> Frame {
        self.stack.last().copied().unwrap_or(self.root)
    }

    fn top_mut(&mut self) -> &mut Frame {
        self.stack.last_mut().unwrap_or(&mut self.root)
    }

    fn malformed(&self, tag: Tag) -> RelayoutError {
        RelayoutError::Malformed { tag, at: self.at }
    }

    /// The VR's letters as they stand in the header just read.
    fn letters(&self) -> [u8; 2] {
        match self.partial.get(4..6) {
            Some([a, b]) => [*a, *b],
            _ => [0, 0],
        }
    }

    /// Ends what reaches its declared end here. Only UN of undefined length is laid out in another way inside than outside.
    fn close(&mut self, out: &mut Vec<u8>) {
        while let Some(frame) = self.stack.last().copied().filter(|frame| frame.end == Some(self.at)) {
            self.leave(out);
            let tag = if frame.kind == Kind::Item {
                ITEM_END
            } else {
                SEQUENCE_END
            };
            put_plain(out, self.top().to, tag, 0);
        }
    }

    fn open(&mut self, found: &Header, letters: [u8; 2], out: &mut Vec<u8>) -> Result<(), RelayoutError> {
        let top = self.top();
        self.at += found.size as u64;
        let end = found.length.map(|length| self.at + u64::from(length));
        if let (Some(end), Some(limit)) = (end, self.limit())
            && end > limit
        {
            return Err(self.malformed(found.tag));
        }
        if top.kind == Kind::Item && !header::is_delimiter(found.tag) {
            self.reached(found.tag, out);
        }
        match (top.kind, found.tag) {
            (Kind::Sequence, ITEM) => {
                let length = if found.length == Some(0) { 0 } else { u32::MAX };
                put_plain(out, top.to, ITEM, length);
                self.enter(
                    found,
                    end,
                    Frame {
                        kind: Kind::Item,
                        sign: Sign::Open,
                        ..top
                    },
                )
            }
            (Kind::Sequence, SEQUENCE_END) | (Kind::Item, ITEM_END) if top.end.is_none() && !self.stack.is_empty() => {
                self.leave(out);
                put_plain(out, top.to, found.tag, 0);
                Ok(())
            }
            (Kind::Item, tag) if !header::is_delimiter(tag) => match found.kind {
                Kind::Value => self.begin(found, letters, out),
                Kind::Sequence => self.sequence(top, found, end, out),
                Kind::Fragments | Kind::Item => Err(RelayoutError::Encapsulated(tag)),
            },
            (_, tag) => Err(self.malformed(tag)),
        }
    }

    /// What nothing inside may pass.
    fn limit(&self) -> Option<u64> {
        self.stack.iter().rev().find_map(|frame| frame.end)
    }

    fn sequence(
        &mut self,
        top: Frame,
        found: &Header,
        end: Option<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), RelayoutError> {
        // UN of undefined length in an explicit layout: what it contains is implicit little endian, there and here.
        let hidden = found.inside != top.from;
        let inside = if hidden { Layout::ImplicitLittle } else { top.to };
        put_tag(out, top.to, found.tag);
        if top.to.is_explicit() {
            out.extend_from_slice(if hidden { b"UN\0\0" } else { b"SQ\0\0" });
        }
        let length = if found.length == Some(0) { 0 } else { u32::MAX };
        out.extend_from_slice(&top.to.put_u32(length));
        let frame = Frame {
            kind: Kind::Sequence,
            from: found.inside,
            to: inside,
            ..top
        };
        self.enter(found, end, frame)
    }

    /// Goes into a sequence or an item, unless it is empty.
    fn enter(&mut self, found: &Header, end: Option<u64>, inside: Frame) -> Result<(), RelayoutError> {
        if found.length == Some(0) {
            return Ok(());
        }
        if self.stack.len() >= 2 * DEPTH_MAX {
            return Err(self.malformed(found.tag));
        }
        let tag = found.tag;
        let doubts = self.doubts.len();
        self.stack.push(Frame {
            tag,
            end,
            doubts,
            ..inside
        });
        Ok(())
    }

    /// Writes the header of an element with a value, and gets ready to pass the value.
    fn begin(&mut self, found: &Header, letters: [u8; 2], out: &mut Vec<u8>) -> Result<(), RelayoutError> {
        let top = self.top();
        let length = found.length.unwrap_or(0);
        let is_foreign = top.from.is_explicit() && found.vr == VR::UN && letters != *b"UN" && letters != *b"??";
        let swaps = top.from.is_big() != top.to.is_big();
        if is_foreign && swaps {
            return Err(RelayoutError::UnknownVr(found.tag));
        }
        if swaps && found.tag == PIXEL_DATA && top.bits > 16 {
            return Err(RelayoutError::WidePixels);
        }
        let vr = match top.from.is_explicit() {
            true => found.vr,
            false => inferred(found.tag, top.bits),
        };
        let is_dropped = found.tag.1 == 0;
        let even = length
            .checked_add(length % 2)
            .ok_or_else(|| self.malformed(found.tag))?;
        if !is_dropped {
            put_tag(out, top.to, found.tag);
            if top.to.is_explicit() {
                // A value that is too long for either becomes UN.
                let may_be_signed =
                    !top.from.is_explicit() && even <= u16::MAX.into() && header::is_signed_by_pixels(found.tag);
                let vr = if may_be_signed && self.weigh(found.tag, out) {
                    VR::SS
                } else {
                    vr
                };
                put_vr(out, top.to, (vr, is_foreign.then_some(letters)), even);
            } else {
                out.extend_from_slice(&top.to.put_u32(even));
            }
        }
        let number = matches!(found.tag, PIXEL_REPRESENTATION | BITS_ALLOCATED).then(Vec::new);
        self.value = Some(Value {
            tag: found.tag,
            left: u64::from(length),
            unit: if swaps { unit(vr) } else { 1 },
            part: Vec::new(),
            drop: is_dropped,
            pad: (length % 2 == 1).then(|| padding(vr)),
            number,
        });
        Ok(())
    }

    /// Passes what there is of the value; answers the bytes behind it.
    fn pass_value<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], RelayoutError> {
        let Some(mut value) = self.value.take() else {
            return Ok(bytes);
        };
        // At most the slice's own length.
        let count = value.left.min(bytes.len() as u64) as usize;
        let (now, later) = bytes.split_at(count);
        value.left -= count as u64;
        self.at += count as u64;
        if let Some(number) = &mut value.number {
            number.extend(now.iter().take(2 - number.len().min(2)));
        }
        if !value.drop {
            value.copy(now, out);
        }
        if value.left > 0 {
            self.value = Some(value);
            return Ok(later);
        }
        if !value.drop {
            out.append(&mut value.part);
            out.extend(value.pad);
        }
        if let Some([a, b]) = value.number.as_deref() {
            let number = self.top().from.u16([*a, *b]);
            match value.tag {
                PIXEL_REPRESENTATION => self.decide(Sign::Own(number == 1), out),
                _ => self.top_mut().bits = number,
            }
        }
        Ok(later)
    }
}

impl Value {
    /// Numbers leave whole, with their bytes turned round; what is left over of a value that is no whole number of them
    /// leaves as it is.
    fn copy(&mut self, mut now: &[u8], out: &mut Vec<u8>) {
        if self.unit == 1 {
            out.extend_from_slice(now);
            return;
        }
        while !self.part.is_empty() && !now.is_empty() {
            self.part.push(now[0]);
            now = &now[1..];
            if self.part.len() == self.unit {
                out.extend(self.part.drain(..).rev());
            }
        }
        let mut numbers = now.chunks_exact(self.unit);
        out.reserve(now.len());
        match self.unit {
            2 => numbers.by_ref().for_each(|n| out.extend_from_slice(&[n[1], n[0]])),
            _ => numbers.by_ref().for_each(|n| out.extend(n.iter().rev())),
        }
        self.part.extend_from_slice(numbers.remainder());
    }
}

/// The VR of an element that came without one (PS3.5 A.1): the dictionary's; of pixels the one that Bits Allocated decides on; US
/// where it may be SS (see `sign.rs`).
fn inferred(tag: Tag, bits: u16) -> VR {
    match tag {
        PIXEL_DATA if bits <= 8 => VR::OB,
        _ => dictionary_vr(tag),
    }
}

/// Bytes of one number of a VR: what a change of the byte order turns round (PS3.5 7.3). OW is turned in words of 16 bits.
fn unit(vr: VR) -> usize {
    match vr {
        VR::US | VR::SS | VR::OW | VR::AT => 2,
        VR::UL | VR::SL | VR::FL | VR::OF | VR::OL => 4,
        VR::FD | VR::OD | VR::SV | VR::UV | VR::OV => 8,
        _ => 1,
    }
}

/// What makes a value's length even (PS3.5 6.2).
fn padding(vr: VR) -> u8 {
    match vr {
        VR::AE | VR::AS | VR::CS | VR::DA | VR::DS | VR::DT | VR::IS | VR::LO | VR::LT | VR::PN => b' ',
        VR::SH | VR::ST | VR::TM | VR::UC | VR::UR | VR::UT => b' ',
        _ => 0,
    }
}

fn put_tag(out: &mut Vec<u8>, layout: Layout, tag: Tag) {
    out.extend_from_slice(&layout.put_u16(tag.0));
    out.extend_from_slice(&layout.put_u16(tag.1));
}

/// Items and delimiters carry no VR.
fn put_plain(out: &mut Vec<u8>, layout: Layout, tag: Tag, length: u32) {
    put_tag(out, layout, tag);
    out.extend_from_slice(&layout.put_u32(length));
}

fn put_vr(out: &mut Vec<u8>, layout: Layout, (vr, foreign): (VR, Option<[u8; 2]>), length: u32) {
    let short = u16::try_from(length)
        .ok()
        .filter(|_| !has_long_length(vr) && foreign.is_none());
    if let Some(length) = short {
        out.extend_from_slice(&letters_of(vr));
        out.extend_from_slice(&layout.put_u16(length));
        return;
    }
    let letters = match (foreign, has_long_length(vr)) {
        (Some(letters), _) => letters,
        (None, true) => letters_of(vr),
        // PS3.5 6.2.2 note 3: the value is too long for its VR's header.
        (None, false) => *b"UN",
    };
    out.extend_from_slice(&letters);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&layout.put_u32(length));
}

fn letters_of(vr: VR) -> [u8; 2] {
    let text = vr.to_string().as_bytes();
    [text[0], text[1]]
}

/// The longest header: explicit with a length of 32 bits.
const HEADER_MAX: usize = 12;
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
