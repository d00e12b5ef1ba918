//! A data set in explicit little endian, read frame by frame from a stream: the head, each frame uncompressed, what stands behind
//! the pixels. Runs in the worker process; bounded by one head, one frame and its fragments.
use super::codec::{self, CodecError};
use super::forms::{Coding, EXPLICIT_LITTLE, Form};
use super::image::{Declined, Image, PHOTOMETRIC, PLANAR};
use crate::base::names::Uid;
use crate::dicom::head::{Head, HeadError, Kind, Progress, Scanner};
use crate::dicom::syntax::Syntax;
use dicom_core::Tag;
use std::io::{self, Read};

/// Why an instance was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Declined(#[from] Declined),
    #[error("the data set is not readable: {0}")]
    Head(#[from] HeadError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the encapsulated pixels are not readable")]
    Fragments,
    #[error("the data set could not be read: {0}")]
    Read(#[from] io::Error),
}

/// A data set, as far as its head says.
// One for each process.
#[allow(clippy::large_enum_variant)]
pub enum Opened<R> {
    Image(Source<R>),
    /// It has no pixels, so that no codec has anything to do with it: all of it.
    Bare(Vec<u8>),
}

/// One data set under way.
pub struct Source<R> {
    input: R,
    /// Read already, not used yet.
    ahead: Vec<u8>,
    at: usize,
    pub head: Head,
    pub image: Image,
    coding: Coding,
    /// Its transfer syntax allows streams that were compressed with loss.
    may_lose: bool,
    /// The frame that was read last was decoded to RGB, whatever Photometric Interpretation says.
    pub became_rgb: bool,
    frame: u32,
    fragments: Fragments,
    /// Bytes of uncompressed pixels behind the last frame: a padding byte, or nothing.
    padding: u64,
}

#[derive(Default)]
struct Fragments {
    /// The Basic Offset Table, when it names every frame.
    offsets: Vec<u64>,
    /// Where the next fragment's item stands, counted from the first one's.
    place: u64,
    /// The next fragment, read to see whether it begins another frame.
    next: Option<Vec<u8>>,
    ended: bool,
}

impl<R: Read> Source<R> {
    /// Reads the head and the header of the pixels.
    ///
    /// # Errors
    /// See `SourceError`.
    pub fn open(mut input: R, form: &Form) -> Result<Opened<R>, SourceError> {
        let mut scanner = Scanner::new(Syntax::of(&Uid::known(EXPLICIT_LITTLE)));
        let (mut read, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        let head = loop {
            let count = input.read(&mut buffer)?;
            if count == 0 {
                check_icons(&scanner.finish()?)?;
                return Ok(Opened::Bare(read));
            }
            read.extend_from_slice(&buffer[..count]);
            if scanner.push(&buffer[..count])? == Progress::HeadComplete
                && let Some(head) = scanner.head()
            {
                break head.clone();
            }
        };
        check_icons(&head)?;
        let image = Image::of(&head)?;
        let mut source = Self {
            at: head.bytes.len(),
            ahead: read,
            input,
            head,
            image,
            coding: form.coding,
            may_lose: form.lossy,
            became_rgb: false,
            frame: 0,
            fragments: Fragments::default(),
            padding: 0,
        };
        source.enter()?;
        Ok(Opened::Image(source))
    }

    /// Goes to the first byte of the pixels.
    fn enter(&mut self) -> Result<(), SourceError> {
        loop {
            let header: [u8; 12] = self.array()?;
            let [g, group, e, element, _, _, _, _, a, b, c, d] = header;
            let tag = Tag(u16::from_le_bytes([g, group]), u16::from_le_bytes([e, element]));
            let length = u32::from_le_bytes([a, b, c, d]);
            match (tag, length) {
                // The group's length does not leave; the extended offset table, its lengths and the sum of them are made for the
                // fragments that go.
                (Tag(0x7FE0, 0x0000), _) if header[4..8] == *b"UL\x04\0" => {}
                (Tag(0x7FE0, 0x0001..=0x0003), 0..=TABLE_MAX) => drop(self.take(u64::from(length))?),
                (PIXEL_DATA, u32::MAX) if self.coding != Coding::Native => return self.offsets(),
                (PIXEL_DATA, length) if self.coding == Coding::Native && length != u32::MAX => {
                    self.image.check_native()?;
                    let frames = u64::from(self.image.frames) * self.image.frame_length() as u64;
                    self.padding = u64::from(length)
                        .checked_sub(frames)
                        .filter(|over| *over < 2)
                        .ok_or_else(|| {
                            Declined::new(
                                "the pixels are not as long as Rows, Columns, Bits Allocated and Number of Frames say",
                            )
                        })?;
                    return Ok(());
                }
                (PIXEL_DATA, _) => {
                    return Err(Declined::new("the pixels are not encoded as the transfer syntax says").into());
                }
                _ => {
                    return Err(
                        Declined::new("the head is too large, or the pixels are floating-point numbers").into(),
                    );
                }
            }
        }
    }

    /// The first item of encapsulated pixels: the Basic Offset Table (PS3.5 A.4).
    fn offsets(&mut self) -> Result<(), SourceError> {
        let table = self.item()?.ok_or(SourceError::Fragments)?;
        let words: Vec<u64> = table
            .chunks_exact(4)
            .map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
            .collect();
        let names_all = words.len() == self.image.frames as usize && words.first() == Some(&0);
        if names_all && words.windows(2).all(|pair| pair[0] < pair[1]) {
            self.fragments.offsets = words;
        }
        self.fragments.place = 0;
        Ok(())
    }

    /// The next item's bytes; `None` at the end of the fragments.
    fn item(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let header: [u8; 8] = self.array()?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        match header[..4] {
            [0xFE, 0xFF, 0x00, 0xE0] if length != u32::MAX => {
                self.fragments.place += 8 + u64::from(length);
                self.take(u64::from(length)).map(Some)
            }
            [0xFE, 0xFF, 0xDD, 0xE0] => {
                self.fragments.ended = true;
                Ok(None)
            }
            _ => Err(SourceError::Fragments),
        }
    }

    /// The next frame, uncompressed: little endian, colour by pixel. `None` behind the last.
    ///
    /// # Errors
    /// See `SourceError`.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        if self.frame == self.image.frames {
            self.leave()?;
            return Ok(None);
        }
        let coded = match self.coding {
            Coding::Native => self.take(self.image.frame_length() as u64)?,
            _ => self.gather()?,
        };
        let rgb = codec::becomes_rgb(self.coding, &self.image, &coded);
        if self.frame > 0 && rgb != self.became_rgb && self.image.photometric != "RGB" {
            // One name cannot be right for all frames.
            return Err(CodecError::Unhandled("JPEG XL").into());
        }
        self.became_rgb = rgb;
        self.frame += 1;
        let frame = codec::decode(self.coding, self.may_lose, &self.image, coded)?;
        Ok(Some(match self.coding {
            // Uncompressed, in fragments or not.
            Coding::Native | Coding::Stored if self.image.planar => self.image.by_pixel(frame),
            _ => frame,
        }))
    }

    /// All fragments of the next frame.
    fn gather(&mut self) -> Result<Vec<u8>, SourceError> {
        let mut frame = match self.fragments.next.take() {
            Some(first) => first,
            None => self.item()?.ok_or(SourceError::Fragments)?,
        };
        loop {
            let at = self.frame as usize + 1;
            let place = self.fragments.place;
            let is_next = match self.fragments.offsets.get(at) {
                Some(offset) => place >= *offset,
                None if !self.fragments.offsets.is_empty() => false,
                // RLE has one fragment for each frame (PS3.5 A.4.2).
                None => self.image.frames > 1 && self.coding == Coding::Rle,
            };
            if is_next {
                return Ok(frame);
            }
            let Some(fragment) = self.item()? else { return Ok(frame) };
            // A fragment that begins as a stream does is another frame, also where the head knows of one only.
            let marks = !matches!(self.coding, Coding::Native | Coding::Stored | Coding::Rle);
            let guesses = self.fragments.offsets.is_empty() && (self.image.frames > 1 || marks);
            if guesses && self.begins(&fragment) {
                self.fragments.next = Some(fragment);
                return Ok(frame);
            }
            frame.extend_from_slice(&fragment);
        }
    }

    /// Whether a fragment begins a frame: by the marker that every stream of its coding begins with.
    fn begins(&self, fragment: &[u8]) -> bool {
        match self.coding {
            Coding::Jpeg | Coding::JpegLs => fragment.starts_with(&[0xFF, 0xD8]),
            Coding::Jpeg2000 => {
                fragment.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) || fragment.starts_with(b"\0\0\0\x0CjP")
            }
            Coding::JpegXl => fragment.starts_with(&[0xFF, 0x0A]) || fragment.starts_with(b"\0\0\0\x0CJXL"),
            Coding::Native | Coding::Stored | Coding::Rle => true,
        }
    }

    /// Behind the last frame nothing of the pixels may be left.
    fn leave(&mut self) -> Result<(), SourceError> {
        if self.coding == Coding::Native {
            let padding = std::mem::take(&mut self.padding);
            self.take(padding)?;
            return Ok(());
        }
        let more = self.fragments.next.is_some() || !self.fragments.ended && self.item()?.is_some();
        match more {
            true => Err(Declined::new("there are more fragments than Number of Frames says").into()),
            false => Ok(()),
        }
    }

    /// What stands behind the pixels. Call after `next` has answered `None`.
    ///
    /// # Errors
    /// See `SourceError`.
    pub fn rest(&mut self) -> Result<Vec<u8>, SourceError> {
        let mut rest = self.ahead.split_off(self.at);
        (&mut self.input).take(REST_MAX + 1).read_to_end(&mut rest)?;
        match rest.len() as u64 > REST_MAX {
            true => Err(Declined::new("too much stands behind the pixels").into()),
            false => Ok(rest),
        }
    }

    /// The digest of every element of the head that no conversion may change.
    #[must_use]
    pub fn head_digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for at in self.head.children(None) {
            let node = &self.head.nodes[at];
            if node.tag.1 != 0 && node.tag != PHOTOMETRIC && node.tag != PLANAR {
                hasher.update(&self.head.bytes[node.range()]);
            }
        }
        hasher.finalize()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SourceError> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| SourceError::Fragments)
    }

    /// Exactly `count` bytes. Grows as they come: a declared length allocates nothing.
    fn take(&mut self, count: u64) -> Result<Vec<u8>, SourceError> {
        let there = (self.ahead.len() - self.at) as u64;
        // At most what is there.
        let from_ahead = there.min(count) as usize;
        let mut out = self.ahead[self.at..self.at + from_ahead].to_vec();
        self.at += from_ahead;
        if self.at == self.ahead.len() {
            self.ahead = Vec::new();
            self.at = 0;
        }
        (&mut self.input)
            .take(count - from_ahead as u64)
            .read_to_end(&mut out)?;
        match out.len() as u64 == count {
            true => Ok(out),
            false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

fn check_icons(head: &Head) -> Result<(), Declined> {
    match head.nodes.iter().any(|node| node.kind == Kind::Fragments) {
        true => Err(Declined::new("an image inside the data set is compressed too")),
        false => Ok(()),
    }
}

pub const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
/// The longest extended offset table: eight bytes for each frame.
const TABLE_MAX: u32 = 64 << 20;
/// Elements behind the pixels: paddings and signatures.
const REST_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::super::forms::form_of;
    use super::*;

    fn element(tag: u32, vr: &str, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        out.extend_from_slice(&(tag as u16).to_le_bytes());
        out.extend_from_slice(vr.as_bytes());
        match vr {
            "OW" | "UV" => out.extend_from_slice(&[&[0, 0], &(value.len() as u32).to_le_bytes()[..]].concat()),
            _ => out.extend_from_slice(&(value.len() as u16).to_le_bytes()),
        }
        out.extend_from_slice(value);
        out
    }

    /// Two rows of three bytes.
    fn head() -> Vec<u8> {
        let number = |tag, value: u16| element(tag, "US", &value.to_le_bytes());
        let mut head = element(0x0028_0004, "CS", b"MONOCHROME2 ");
        for (tag, value) in [(0x0028_0010, 2), (0x0028_0011, 3), (0x0028_0100, 8), (0x0028_0101, 8)] {
            head.extend(number(tag, value));
        }
        head
    }

    #[test]
    fn a_stream_more_than_the_head_knows_of_is_not_left_out() {
        let form = form_of(&Uid::known("1.2.840.10008.1.2.4.80")).unwrap();
        let Ok(Opened::Image(Source { image, .. })) = Source::open(
            &[head(), element(0x7FE0_0010, "OW", &[0; 6])].concat()[..],
            form_of(&Uid::known(EXPLICIT_LITTLE)).unwrap(),
        ) else {
            panic!("an image");
        };
        let mut stream = codec::encode(Coding::JpegLs, &image, &[1, 2, 3, 4, 5, 6]).unwrap();
        stream.resize(stream.len().next_multiple_of(2), 0);
        let read = |count: usize| {
            let mut data = [
                head(),
                b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0".to_vec(),
            ]
            .concat();
            for _ in 0..count {
                data.extend([&b"\xFE\xFF\0\xE0"[..], &(stream.len() as u32).to_le_bytes(), &stream].concat());
            }
            data.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
            let Ok(Opened::Image(mut source)) = Source::open(&data[..], form) else {
                panic!("an image");
            };
            assert_eq!(source.next().unwrap().unwrap(), [1, 2, 3, 4, 5, 6]);
            source.next().map(|more| more.is_none())
        };
        assert!(read(1).unwrap());
        assert!(matches!(read(2), Err(SourceError::Declined(_))));
    }

    #[test]
    fn the_lengths_before_pixel_data_are_passed_over() {
        let mut data = head();
        data.extend(element(0x7FE0_0000, "UL", &18_u32.to_le_bytes()));
        data.extend(element(0x7FE0_0003, "UV", &6_u64.to_le_bytes()));
        data.extend(element(0x7FE0_0010, "OW", &[1, 2, 3, 4, 5, 6]));
        let form = form_of(&Uid::known(EXPLICIT_LITTLE)).unwrap();
        let Ok(Opened::Image(mut source)) = Source::open(&data[..], form) else {
            panic!("an image");
        };
        assert_eq!(source.next().unwrap().unwrap(), [1, 2, 3, 4, 5, 6]);
        assert!(source.next().unwrap().is_none());
    }
}
