//! Lossless JPEG (ITU-T T.81, process 14: Huffman codes, any predictor, point transform, restarts, one scan or one for each
//! component), read only.
//!
//! Ours, because the library that reads the lossy ones gives wrong pixels of this one without a word: after a restart, with a point
//! transform, and where the stream ends early. Here a stream that does not hold exactly the samples that its header says is an error.
use super::{CodecError, put};
use crate::transcode::image::Image;

const NAME: &str = "JPEG";
const UNREADABLE: CodecError = CodecError::Unreadable(NAME);
const UNHANDLED: CodecError = CodecError::Unhandled(NAME);

/// The frame of a stream whose frame header is SOF3.
///
/// # Errors
/// See `CodecError`.
pub(super) fn decode(image: &Image, coded: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut stream = Stream {
        data: coded,
        at: 2,
        tables: Default::default(),
        restart: 0,
    };
    let mut frame: Option<Frame> = None;
    while frame.as_ref().is_none_or(|frame| !frame.is_whole()) {
        let (marker, segment) = stream.segment()?;
        match (marker, &mut frame) {
            (DHT, _) => stream.define(segment)?,
            (DRI, _) => stream.restart = usize::from(u16::from_be_bytes(*array(segment, 0)?)),
            (SOF3, None) => frame = Some(Frame::of(image, segment)?),
            (SOS, Some(frame)) => stream.scan(frame, segment)?,
            (0xC0..=0xCF | SOS | DNL, _) => return Err(UNHANDLED),
            // Comments and applications' own.
            _ => {}
        }
    }
    frame.map_or(Err(UNREADABLE), |frame| Ok(frame.samples(image)))
}

/// The stream, up to the next marker or the next byte of a scan.
struct Stream<'a> {
    data: &'a [u8],
    at: usize,
    tables: [Option<Huffman>; 4],
    /// Samples of a component between two restarts; 0 without them.
    restart: usize,
}

impl<'a> Stream<'a> {
    /// The next marker with what belongs to it.
    fn segment(&mut self) -> Result<(u8, &'a [u8]), CodecError> {
        let marker = marker(self.data, &mut self.at)?;
        // Those that stand alone have no place between two segments.
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9) {
            return Err(UNREADABLE);
        }
        let length = usize::from(u16::from_be_bytes(*array(self.data, self.at)?));
        let segment = self.data.get(self.at + 2..self.at + length).ok_or(UNREADABLE)?;
        self.at += length;
        Ok((marker, segment))
    }

    /// DHT: one table or several.
    fn define(&mut self, mut segment: &[u8]) -> Result<(), CodecError> {
        while let Some((&name, rest)) = segment.split_first() {
            let lengths: &[u8; 16] = array(rest, 0)?;
            let count = lengths.iter().map(|count| usize::from(*count)).sum::<usize>();
            let symbols = rest.get(16..16 + count).ok_or(UNREADABLE)?;
            segment = &rest[16 + count..];
            // Tables of another class belong to the lossy processes.
            if name < 4 {
                self.tables[usize::from(name)] = Some(Huffman::new(lengths, symbols)?);
            }
        }
        Ok(())
    }

    /// SOS and what follows it: all samples of its components.
    fn scan(&mut self, frame: &mut Frame, header: &[u8]) -> Result<(), CodecError> {
        let count = usize::from(*header.first().ok_or(UNREADABLE)?);
        let [predictor, _, approximation] = *array(header, 1 + 2 * count)?;
        let shift = approximation & 0x0F;
        if !(1..=7).contains(&predictor) || approximation > 0x0F || shift >= frame.precision {
            return Err(UNHANDLED);
        }
        let mut parts = Vec::new();
        for which in header[1..=2 * count].chunks_exact(2) {
            let at = frame
                .parts
                .iter()
                .position(|part| part.id == which[0])
                .ok_or(UNREADABLE)?;
            let table = self.tables.get(usize::from(which[1] >> 4)).and_then(Option::as_ref);
            parts.push((at, table.ok_or(UNREADABLE)?));
        }
        // A component once, and several together only where they are of one size.
        let is_new = |(at, _): &(usize, _)| frame.parts[*at].plane.is_empty();
        if parts.is_empty() || !parts.iter().all(is_new) || count > 1 && frame.sampling != 0x11 {
            return Err(UNHANDLED);
        }
        // T.81 H.1.1: whole lines between two restarts.
        if !self.restart.is_multiple_of(frame.columns) {
            return Err(UNHANDLED);
        }
        let lines = match self.restart / frame.columns {
            0 => frame.rows,
            lines => lines,
        };
        for (at, _) in &parts {
            frame.parts[*at].shift = shift;
        }
        let mut bits = Bits::new(self.data, self.at);
        for row in 0..frame.rows {
            let is_first = row % lines == 0;
            if is_first && row > 0 {
                bits.restart(row / lines - 1)?;
            }
            for column in 0..frame.columns {
                for (at, table) in &parts {
                    let difference = bits.difference(table)?;
                    frame.put(*at, (column, is_first), predictor, difference)?;
                }
            }
        }
        self.at = bits.end()?;
        Ok(())
    }
}

/// SOF3, and the samples that have come.
struct Frame {
    precision: u8,
    rows: usize,
    columns: usize,
    /// Sampling factors, the same for all components.
    sampling: u8,
    parts: Vec<Part>,
}

struct Part {
    id: u8,
    /// The point transform of its scan.
    shift: u8,
    plane: Vec<u16>,
}

impl Frame {
    fn of(image: &Image, header: &[u8]) -> Result<Self, CodecError> {
        let [precision, y, y2, x, x2, count] = *array(header, 0)?;
        let (rows, columns) = (u16::from_be_bytes([y, y2]), u16::from_be_bytes([x, x2]));
        let parts = header.get(6..6 + 3 * usize::from(count)).ok_or(UNREADABLE)?;
        let is_ours = (rows, columns, u16::from(count)) == (image.rows, image.columns, image.samples);
        if !is_ours || u16::from(precision) > image.allocated {
            return Err(CodecError::OtherSize(NAME));
        }
        let sampling = parts.get(1).copied().unwrap_or(0);
        if !(2..=16).contains(&precision) || parts.chunks_exact(3).any(|part| part[1] != sampling) {
            return Err(UNHANDLED);
        }
        let part = |part: &[u8]| Part {
            id: part[0],
            shift: 0,
            plane: Vec::new(),
        };
        Ok(Self {
            precision,
            rows: usize::from(rows),
            columns: usize::from(columns),
            sampling,
            parts: parts.chunks_exact(3).map(part).collect(),
        })
    }

    /// The next sample of a component: what is predicted (T.81 H.1.2.1) and what it differs by, modulo 2^16.
    fn put(
        &mut self,
        at: usize,
        (column, is_first): (usize, bool),
        predictor: u8,
        difference: i32,
    ) -> Result<(), CodecError> {
        let bits = self.precision - self.parts[at].shift;
        let plane = &mut self.parts[at].plane;
        let there = plane.len();
        let before = |back: usize| i32::from(plane[there - back]);
        let predicted = match (is_first, column) {
            (true, 0) => 1 << (bits - 1),
            (true, _) => before(1),
            (false, 0) => before(self.columns),
            (false, _) => {
                let (a, b, c) = (before(1), before(self.columns), before(self.columns + 1));
                match predictor {
                    1 => a,
                    2 => b,
                    3 => c,
                    4 => a + b - c,
                    5 => a + ((b - c) >> 1),
                    6 => b + ((a - c) >> 1),
                    _ => (a + b) >> 1,
                }
            }
        };
        let sample = (predicted + difference) & 0xFFFF;
        if sample >> bits != 0 {
            return Err(UNREADABLE);
        }
        plane.push(sample as u16);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let pixels = self.rows * self.columns;
        self.parts.iter().all(|part| part.plane.len() == pixels)
    }

    /// The samples by pixel, as Bits Allocated says.
    fn samples(&self, image: &Image) -> Vec<u8> {
        let mut out = Vec::with_capacity(image.frame_length());
        for pixel in 0..self.rows * self.columns {
            for part in &self.parts {
                let number = u32::from(part.plane[pixel]) << part.shift;
                put(image, number, u32::from(self.precision), &mut out);
            }
        }
        out
    }
}

/// Codes of up to 16 bits, in order of their length (T.81 C.2).
struct Huffman {
    /// For the next `QUICK` bits: the code's length and its symbol, or 0 when it is longer.
    quick: Vec<(u8, u8)>,
    /// For each length: the first code that is longer, shifted to 16 bits, and what leads from a code to its symbol.
    ends: [(u32, i32); 17],
    symbols: Vec<u8>,
}

const QUICK: u32 = 9;

impl Huffman {
    fn new(lengths: &[u8; 16], symbols: &[u8]) -> Result<Self, CodecError> {
        let mut this = Self {
            quick: vec![(0, 0); 1 << QUICK],
            ends: [(0, 0); 17],
            symbols: symbols.to_vec(),
        };
        // SSSS is 0 to 16.
        if symbols.iter().any(|symbol| *symbol > 16) {
            return Err(UNREADABLE);
        }
        let (mut code, mut at) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(lengths[length as usize - 1]);
            let first = code;
            for symbol in &symbols[at..at + count] {
                if length <= QUICK && code < 1 << length {
                    let from = (code << (QUICK - length)) as usize;
                    this.quick[from..from + (1 << (QUICK - length))].fill((length as u8, *symbol));
                }
                code += 1;
            }
            if code > 1 << length {
                return Err(UNREADABLE);
            }
            this.ends[length as usize] = (code << (16 - length), at as i32 - first as i32);
            at += count;
            code <<= 1;
        }
        Ok(this)
    }

    /// The length and the symbol of the code that 16 bits begin with.
    fn find(&self, bits: u32) -> Option<(u32, u8)> {
        let (length, symbol) = self.quick[(bits >> (16 - QUICK)) as usize];
        if length > 0 {
            return Some((length.into(), symbol));
        }
        let length = (1..=16_u32).find(|length| bits < self.ends[*length as usize].0)?;
        let at = (bits >> (16 - length)) as i32 + self.ends[length as usize].1;
        let symbol = self.symbols.get(usize::try_from(at).ok()?)?;
        Some((length, *symbol))
    }
}

/// The bits of a scan, up to the next marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            data,
            at,
            held: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let (byte, length) = match self.data.get(self.at..).unwrap_or_default() {
                [0xFF, 0x00, ..] => (0xFF, 2),
                [0xFF, ..] | [] => return,
                [byte, ..] => (*byte, 1),
            };
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
            self.at += length;
        }
    }

    /// A difference (T.81 H.1.2.2 and F.2.2.1).
    fn difference(&mut self, table: &Huffman) -> Result<i32, CodecError> {
        if self.count < 32 {
            self.fill();
        }
        // Behind the end stand zeros, which nobody may take.
        let ahead = match self.count {
            0..16 => self.held << (16 - self.count),
            _ => self.held >> (self.count - 16),
        };
        let (length, size) = table.find((ahead & 0xFFFF) as u32).ok_or(UNREADABLE)?;
        self.drop(length)?;
        let size = u32::from(size);
        if matches!(size, 0 | 16) {
            return Ok((size << 11) as i32);
        }
        self.drop(size)?;
        let value = (self.held >> self.count & ((1 << size) - 1)) as i32;
        let is_negative = value < 1 << (size - 1);
        Ok(if is_negative { value - (1 << size) + 1 } else { value })
    }

    fn drop(&mut self, count: u32) -> Result<(), CodecError> {
        self.count = self.count.checked_sub(count).ok_or(UNREADABLE)?;
        Ok(())
    }

    /// The end of what belongs together: less than a byte is left. Answers where the marker stands.
    fn end(&mut self) -> Result<usize, CodecError> {
        self.fill();
        match self.count {
            0..8 => Ok(self.at),
            _ => Err(UNREADABLE),
        }
    }

    /// RSTn, and the bits behind it.
    fn restart(&mut self, number: usize) -> Result<(), CodecError> {
        let mut at = self.end()?;
        if usize::from(marker(self.data, &mut at)?) != 0xD0 + number % 8 {
            return Err(UNREADABLE);
        }
        *self = Self::new(self.data, at);
        Ok(())
    }
}

/// A marker, with the bytes that may fill the space before it.
fn marker(data: &[u8], at: &mut usize) -> Result<u8, CodecError> {
    if data.get(*at) != Some(&0xFF) {
        return Err(UNREADABLE);
    }
    while data.get(*at) == Some(&0xFF) {
        *at += 1;
    }
    let marker = *data.get(*at).ok_or(UNREADABLE)?;
    *at += 1;
    Ok(marker)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<&[u8; N], CodecError> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(UNREADABLE)
}

const SOF3: u8 = 0xC3;
const DHT: u8 = 0xC4;
const SOS: u8 = 0xDA;
const DNL: u8 = 0xDC;
const DRI: u8 = 0xDD;

#[cfg(test)]
mod tests;
