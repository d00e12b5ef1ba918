//! The child process that touches foreign streams: `waystation transcode-worker`.
//!
//! It reads one data set in explicit little endian from its standard input and either writes it in another coding to its
//! standard output (a file without a name), or only looks at it. What it found goes as one line of JSON to standard error.
//! It gives itself limits of memory, processor time, file size and descriptors before it reads a byte, dies with its parent, and
//! opens nothing by name but its own memory. It may crash, hang or lie: `pool.rs` believes it nothing that another process has
//! not found too.
use super::codec::{self, CodecError};
use super::forms::{Coding, EXPLICIT_LITTLE, Form, form_of};
use super::image::{Declined, Image, PHOTOMETRIC, PLANAR};
use super::source::{Opened, Source, SourceError};
use crate::base::fault::{Plant, panic_if, planted};
use crate::base::names::Uid;
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::path::Path;
use dicom_core::VR;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

/// What the worker is to do, and with how much.
#[derive(Clone, Debug)]
pub struct Task {
    /// The syntax of what comes in; uncompressed is always explicit little endian.
    pub from: Uid,
    /// The syntax to write; `None`: only look.
    pub to: Option<Uid>,
    /// Bytes of address space, seconds of processor time, bytes of output.
    pub memory: u64,
    pub cpu: u64,
    pub output: u64,
}

/// What the worker found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum Told {
    Done(Found),
    /// These pixels are not handled, or not in this coding.
    Declined {
        why: String,
    },
    /// A frame becomes too large in this coding.
    Larger {
        why: String,
    },
    /// The stream is damaged, or a codec gave up.
    Failed {
        why: String,
    },
}

/// What stands in a data set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    pub frames: u32,
    /// BLAKE3 of all frames, uncompressed, in order: little endian, colour by pixel, in cells of Bits Allocated.
    pub pixels: String,
    /// BLAKE3 of the elements of the head that no conversion changes.
    pub head: String,
    /// BLAKE3 of what stands behind the pixels.
    pub rest: String,
}

/// Carries a task out. Prints nothing but its one line.
///
/// # Errors
/// The line could not be written, or no limits be set.
pub fn run(task: &Task) -> io::Result<()> {
    limit(task)?;
    panic_if(Plant::WorkerCrash);
    if planted(Plant::WorkerHang) {
        loop {
            std::thread::park();
        }
    }
    if planted(Plant::WorkerHungry) {
        eat();
    }
    let told = match carry_out(task) {
        Ok(found) => Told::Done(found),
        Err(error) => untold(&error),
    };
    let line = serde_json::to_string(&told)?;
    let mut out = io::stderr().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")
}

/// What is not handled here is declined; only what should have been read has failed.
fn untold(error: &SourceError) -> Told {
    let why = error.to_string();
    match error {
        SourceError::Declined(_) | SourceError::Codec(CodecError::Unhandled(_) | CodecError::TwelveBits(_)) => {
            Told::Declined { why }
        }
        SourceError::Codec(CodecError::Larger(_)) => Told::Larger { why },
        _ => Told::Failed { why },
    }
}

fn limit(task: &Task) -> io::Result<()> {
    let set = |resource, most: u64| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)
    };
    set(Resource::As, task.memory)?;
    set(Resource::Cpu, task.cpu)?;
    set(Resource::Fsize, task.output)?;
    set(Resource::Nofile, FILES_MAX)?;
    set(Resource::Core, 0)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Takes memory until there is none.
fn eat() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; 16 << 20]);
    }
}

fn carry_out(task: &Task) -> Result<Found, SourceError> {
    let unknown = || Declined::new("this transfer syntax is not handled");
    let from = form_of(&task.from).ok_or_else(unknown)?;
    let to = match &task.to {
        None => None,
        Some(to) => Some(form_of(to).filter(|form| form.writes).ok_or_else(unknown)?),
    };
    let output = || -> io::Result<File> { Ok(File::from(rustix::stdio::stdout().try_clone_to_owned()?)) };
    match (Source::open(io::stdin().lock(), from)?, to) {
        (Opened::Image(source), None) => look(source),
        (Opened::Image(source), Some(to)) => convert(source, from, to, output()?),
        (Opened::Bare(data), None) => Ok(bare(&data)),
        // The coding of pixels that are not there is left; all elements stay.
        (Opened::Bare(data), Some(to)) if to.coding == Coding::Native => {
            output()?.write_all(&data)?;
            Ok(bare(&data))
        }
        (Opened::Bare(_), Some(_)) => Err(Declined::new("there are no pixels").into()),
    }
}

/// A data set without pixels: every byte counts.
fn bare(data: &[u8]) -> Found {
    let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    Found {
        frames: 0,
        pixels: digest(&[]),
        head: digest(data),
        rest: digest(&[]),
    }
}

fn look<R: io::Read>(mut source: Source<R>) -> Result<Found, SourceError> {
    let mut pixels = blake3::Hasher::new();
    while let Some(frame) = source.next()? {
        pixels.update(&frame);
    }
    let rest = source.rest()?;
    Ok(found(&source, &pixels, &rest))
}

fn found<R: io::Read>(source: &Source<R>, pixels: &blake3::Hasher, rest: &[u8]) -> Found {
    Found {
        frames: source.image.frames,
        pixels: pixels.finalize().to_hex().to_string(),
        head: source.head_digest().to_hex().to_string(),
        rest: blake3::hash(rest).to_hex().to_string(),
    }
}

fn convert<R: io::Read>(mut source: Source<R>, from: &Form, to: &Form, output: File) -> Result<Found, SourceError> {
    let wants_by_plane = to.coding == Coding::Rle;
    // The first frame says what becomes of the colours.
    let mut next = source.next()?;
    // What the pixels are called as they leave.
    let image = Image {
        photometric: photometric(&source.image, from, source.became_rgb).to_owned(),
        planar: false,
        ..source.image.clone()
    };
    let plan = plan(&source.image, &image.photometric, to);
    image.check_writable(to.coding)?;
    if to.coding == Coding::Native {
        image.check_native()?;
    }
    debug_assert!(!wants_by_plane || to.coding != Coding::Native);
    let head = plan
        .apply(&source.head)
        .map_err(|error| Declined::new(error.to_string()))?;
    let mut writer = Writer::begin(output, &head, &image, to)?;
    let mut pixels = blake3::Hasher::new();
    while let Some(frame) = next {
        pixels.update(&frame);
        let coded = codec::encode(to.coding, &image, &frame)?;
        writer.frame(coded)?;
        next = source.next()?;
    }
    let rest = source.rest()?;
    writer.end(&rest)?;
    Ok(found(&source, &pixels, &rest))
}

/// Photometric Interpretation as the pixels are when they are decoded (PS3.5 8.2): the JPEG 2000 decoder undoes its colour
/// transforms, and the JPEG decoder its subsampling. That of JPEG XL undoes what the stream says: `became_rgb`.
fn photometric<'a>(image: &'a Image, from: &Form, became_rgb: bool) -> &'a str {
    match (from.coding, image.photometric.as_str()) {
        _ if became_rgb => "RGB",
        (Coding::Jpeg2000, "YBR_RCT" | "YBR_ICT") => "RGB",
        (Coding::Jpeg, "YBR_FULL_422") => "YBR_FULL",
        (_, photometric) => photometric,
    }
}

/// The elements that the coding of the pixels decides on.
fn plan(image: &Image, becomes: &str, to: &Form) -> Plan {
    let mut edits = Vec::new();
    if becomes != image.photometric {
        let mut value = becomes.as_bytes().to_vec();
        value.resize(value.len() + value.len() % 2, b' ');
        edits.push(Edit::Set {
            path: Path::tag(PHOTOMETRIC),
            vr: VR::CS,
            value,
        });
    }
    if image.samples > 1 {
        // RLE has a segment for each colour (PS3.5 G.2); all others go by pixel.
        let planar = u16::from(to.coding == Coding::Rle);
        edits.push(Edit::Set {
            path: Path::tag(PLANAR),
            vr: VR::US,
            value: planar.to_le_bytes().to_vec(),
        });
    }
    Plan { edits, stamp: None }
}

/// Writes the data set. Offsets are filled in at the end, when they are known.
struct Writer {
    out: BufWriter<File>,
    /// Where the Basic Offset Table's value stands; `None` for uncompressed pixels.
    table: Option<u64>,
    offsets: Vec<u64>,
    /// Bytes of fragments, or of pixels.
    written: u64,
}

impl Writer {
    fn begin(output: File, head: &[u8], image: &Image, to: &Form) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(256 << 10, output);
        out.write_all(head)?;
        out.write_all(&[0xE0, 0x7F, 0x10, 0x00])?;
        let mut writer = Self {
            out,
            table: None,
            offsets: Vec::new(),
            written: 0,
        };
        if to.coding == Coding::Native {
            // Checked by `Image`: below 4 GiB.
            let length = image.frames * image.frame_length() as u32;
            let vr: &[u8; 2] = if image.allocated > 8 { b"OW" } else { b"OB" };
            writer.out.write_all(&[vr[0], vr[1], 0, 0])?;
            writer.out.write_all(&(length + length % 2).to_le_bytes())?;
            return Ok(writer);
        }
        writer.out.write_all(b"OB\0\0\xFF\xFF\xFF\xFF")?;
        let table = vec![0; image.frames as usize * 4];
        writer.item(&table)?;
        writer.table = Some(head.len() as u64 + 12 + 8);
        writer.written = 0;
        Ok(writer)
    }

    fn frame(&mut self, mut coded: Vec<u8>) -> io::Result<()> {
        if self.table.is_none() {
            self.written += coded.len() as u64;
            return self.out.write_all(&coded);
        }
        coded.resize(coded.len() + coded.len() % 2, 0);
        self.offsets.push(self.written);
        self.item(&coded)
    }

    fn item(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.out.write_all(&[0xFE, 0xFF, 0x00, 0xE0])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.written += 8 + bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn end(mut self, rest: &[u8]) -> io::Result<()> {
        let Some(table) = self.table else {
            self.out.write_all(&vec![0; (self.written % 2) as usize])?;
            self.out.write_all(rest)?;
            return self.out.flush();
        };
        self.out.write_all(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0])?;
        self.out.write_all(rest)?;
        let mut words = Vec::with_capacity(self.offsets.len() * 4);
        for offset in &self.offsets {
            let word = u32::try_from(*offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            words.extend_from_slice(&word.to_le_bytes());
        }
        self.out.seek(SeekFrom::Start(table))?;
        if planted(Plant::WorkerGarbage) {
            // A frame that is not the one that came in, and a report that says otherwise.
            self.out.seek(SeekFrom::Start(table + words.len() as u64 + 40))?;
            self.out.write_all(b"garbage")?;
        } else {
            self.out.write_all(&words)?;
        }
        self.out.flush()
    }
}

/// The layout of what the worker reads and writes uncompressed.
#[must_use]
pub fn plain() -> Uid {
    Uid::known(EXPLICIT_LITTLE)
}

/// Standard streams, a frame in memory, and its second descriptor while a codec reads it.
const FILES_MAX: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_handled_is_declined_and_has_not_failed() {
        let told = |error| untold(&SourceError::Codec(error));
        for error in [CodecError::TwelveBits("JPEG"), CodecError::Unhandled("JPEG")] {
            assert!(matches!(told(error), Told::Declined { .. }));
        }
        assert!(matches!(told(CodecError::Larger("JPEG-LS")), Told::Larger { .. }));
        assert!(matches!(told(CodecError::Unreadable("JPEG")), Told::Failed { .. }));
    }

    /// Of libjxl: 8 by 8 times 200, 30, 40. A JPEG recompressed, XYB, and lossless.
    const JPEG: &[u8] = b"\xFF\x0A\x41\x40\x24\xE0\x5B\x00\x10\x00\xD8\x01\x08\x60\x08\x60\x08\x60\xFE\xFF\x0E\x00\x00\x18\x00\x08\x00\x01\x00\x00\x00\x00\x00\x80\x80\x25\x89\x22\xE3\xD8\x09\x69\xEE\x30\x00\x21\x05\x76\xA0\x38\x47\xC7\x18\x15\x83\xD7\x8B\x31\x5E\x8C\xF1\x18\x10\xD2\x81\x89\x17\x94\xE0\x83\x06\x40\x75\x0F\xC0\x09\x20\x86\xD0\xB1\x02\xE0\x00\x71\x11\xEE\x5B\x64\xD8\xF8\x38\xF0\x3E\x8C\x49\xDC\xC0\x48\x10\x7A\x67\x53\xAA\x4D\xCB\x55\xCC\x41\x06\x17\xFB\xBE\x44\x66\xD9\x47\xF7\x37\x37\x13\x44\x04\x00\x00\x00\x00\x00\x40\x49\x02";
    const XYB: &[u8] = b"\xFF\x0A\x41\x06\x00\x13\x88\x02\x00\xC4\x00\xB5\x9F\x20\x00\x00\x15\x2A\xA3\x8C\x1B\xBC\x9C\xEB\xF9\xF2\x43\x87\xC5\xB4\x8D\xEB\x0C\x6D\xB5\x6D\x61\x09\x63\xB3\xBD\x30\x48\x48\x38\x83\x8D\x8B\x1B\xBB\x39\x0B\xC3\x76\x03\xA1\x24\x2A\x49\x00";
    const LOSSLESS: &[u8] = b"\xFF\x0A\x41\x40\x24\x08\x04\x01\x00\x58\x00\x4B\x18\x8B\x15\x00\xD4\x17\x63\x8C\x77\x31\xDE\x01\x44\x81\xA1\x37\x58\x0E\xC2\x42\x54";

    /// Photometric Interpretation and the first pixel of one red frame for each stream, unpacked.
    fn unpacked(syntax: &'static str, photometric: &str, streams: &[&[u8]]) -> Result<(String, [u8; 3]), SourceError> {
        let element = |number: u16, vr: &[u8; 2], value: &[u8]| {
            let length = (value.len() as u16).to_le_bytes();
            [&[0x28, 0][..], &number.to_le_bytes(), vr, &length, value].concat()
        };
        let mut name = photometric.as_bytes().to_vec();
        name.resize(name.len().next_multiple_of(2), b' ');
        let mut data = [element(2, b"US", &[3, 0]), element(4, b"CS", &name)].concat();
        data.extend(element(6, b"US", &[0, 0]));
        data.extend(element(8, b"IS", format!("{} ", streams.len()).as_bytes()));
        for number in [0x10, 0x11, 0x100, 0x101] {
            data.extend(element(number, b"US", &[8, 0]));
        }
        data.extend(b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0");
        for stream in streams {
            let mut stream = stream.to_vec();
            stream.resize(stream.len().next_multiple_of(2), 0);
            data.extend([&b"\xFE\xFF\0\xE0"[..], &(stream.len() as u32).to_le_bytes(), &stream].concat());
        }
        data.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        let form = |uid| form_of(&Uid::known(uid)).unwrap();
        let Opened::Image(source) = Source::open(&data[..], form(syntax))? else {
            panic!("an image");
        };
        let mut file = tempfile::tempfile().unwrap();
        let plain = form(EXPLICIT_LITTLE);
        convert(source, form(syntax), plain, file.try_clone().unwrap())?;
        file.seek(SeekFrom::Start(0)).unwrap();
        let Opened::Image(mut source) = Source::open(file, plain)? else {
            panic!("an image");
        };
        let frame = source.next()?.unwrap();
        Ok((source.image.photometric.clone(), [frame[0], frame[1], frame[2]]))
    }

    #[test]
    fn colours_are_called_what_the_jpeg_xl_decoder_made_of_them() {
        let (recompressed, lossy, lossless) = (
            "1.2.840.10008.1.2.4.111",
            "1.2.840.10008.1.2.4.112",
            "1.2.840.10008.1.2.4.110",
        );
        let red = [200, 30, 40];
        for (syntax, photometric, stream) in [
            (recompressed, "YBR_FULL", JPEG),
            (recompressed, "YBR_FULL_422", JPEG),
            (recompressed, "RGB", JPEG),
            (lossy, "YBR_FULL", XYB),
            (lossy, "XYB", XYB),
        ] {
            let (called, pixel) = unpacked(syntax, photometric, &[stream, stream]).unwrap();
            assert_eq!(called, "RGB", "{syntax} {photometric}");
            let near = pixel.iter().zip(red).all(|(is, was)| is.abs_diff(was) <= 2);
            assert!(near, "{syntax} {photometric} {pixel:?}");
        }
        // Where the stream names no other colours, the samples are what they are called.
        for syntax in [lossless, lossy] {
            for photometric in ["RGB", "YBR_FULL"] {
                let is = unpacked(syntax, photometric, &[LOSSLESS, LOSSLESS]).unwrap();
                assert_eq!(is, (photometric.to_owned(), red));
            }
        }
    }

    #[test]
    fn jpeg_xl_of_other_colours_is_not_lossless_and_frames_of_two_kinds_have_no_common_name() {
        for stream in [JPEG, XYB] {
            let refused = unpacked("1.2.840.10008.1.2.4.110", "RGB", &[stream]);
            assert!(matches!(refused, Err(SourceError::Codec(CodecError::Lossy(_)))));
        }
        let mixed = |photometric| unpacked("1.2.840.10008.1.2.4.112", photometric, &[XYB, LOSSLESS]);
        assert!(matches!(
            mixed("YBR_FULL"),
            Err(SourceError::Codec(CodecError::Unhandled(_)))
        ));
        assert_eq!(mixed("RGB").unwrap().0, "RGB");
    }
}
