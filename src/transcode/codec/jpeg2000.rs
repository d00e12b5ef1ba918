//! JPEG 2000 and, to be read only, HTJ2K (ISO 15444-1 and -15, PS3.5 8.2.4) by openjp2, a port of OpenJPEG to Rust.
use super::{CodecError, put};
use crate::transcode::image::Image;
use openjp2::openjpeg::{OPJ_CLRSPC_GRAY, OPJ_CLRSPC_SRGB, OPJ_CODEC_J2K, OPJ_CODEC_JP2};
use openjp2::{Codec, Stream, opj_cparameters_t, opj_dparameters_t, opj_image, opj_image_comptparm};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

const NAME: &str = "JPEG 2000";
const BUFFER: usize = 1 << 20;
/// The signature box of a JP2 file, which some writers put around the codestream against PS3.5 A.4.4.
const JP2: &[u8] = &[0, 0, 0, 12, b'j', b'P'];

/// `may_lose`: the transfer syntax allows the irreversible wavelet.
pub(super) fn decode(image: &Image, coded: &[u8], may_lose: bool) -> Result<Vec<u8>, CodecError> {
    let unreadable = || CodecError::Unreadable(NAME);
    if !may_lose && is_irreversible(coded) {
        return Err(CodecError::Lossy(NAME));
    }
    let mut memory = memory()?;
    memory.write_all(coded).map_err(|_| unreadable())?;
    let format = if coded.starts_with(JP2) {
        OPJ_CODEC_JP2
    } else {
        OPJ_CODEC_J2K
    };
    let mut codec = Codec::new_decoder(format).ok_or_else(unreadable)?;
    let mut parameters = opj_dparameters_t::default();
    if codec.setup_decoder(&mut parameters) == 0 {
        return Err(unreadable());
    }
    let mut stream = Stream::new_file(path(&memory), BUFFER, true).map_err(|_| unreadable())?;
    let mut decoded = codec.read_header(&mut stream).ok_or_else(unreadable)?;
    let size = (decoded.x1.wrapping_sub(decoded.x0), decoded.y1.wrapping_sub(decoded.y0));
    if size != (u32::from(image.columns), u32::from(image.rows)) {
        return Err(CodecError::OtherSize(NAME));
    }
    if codec.decode(&mut stream, &mut decoded) == 0 || codec.end_decompress(&mut stream) == 0 {
        return Err(unreadable());
    }
    let components = decoded.comps().ok_or_else(unreadable)?;
    if components.len() != usize::from(image.samples) {
        return Err(CodecError::OtherSize(NAME));
    }
    let mut planes = Vec::with_capacity(components.len());
    for component in components {
        let whole = component.w == u32::from(image.columns) && component.h == u32::from(image.rows);
        let data = component.data().filter(|data| whole && data.len() == image.pixels());
        if component.prec > u32::from(image.allocated) {
            return Err(CodecError::OtherSize(NAME));
        }
        planes.push((data.ok_or(CodecError::OtherSize(NAME))?, component.prec));
    }
    let mut out = Vec::with_capacity(image.frame_length());
    for pixel in 0..image.pixels() {
        for (plane, precision) in &planes {
            put(image, plane[pixel] as u32, *precision, &mut out);
        }
    }
    Ok(out)
}

/// Whether a coding style of the stream, in its main header or that of a tile, names the 9-7 wavelet (ISO 15444-1 A.6.1, A.6.2).
fn is_irreversible(coded: &[u8]) -> bool {
    let start = coded.windows(4).position(|four| four == [0xFF, 0x4F, 0xFF, 0x51]);
    let (mut at, mut tile) = (start.unwrap_or(0) + 2, None);
    while let Some([0xFF, marker, high, low]) = coded.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let segment = coded.get(at + 4..).unwrap_or_default();
        let wavelet = match marker {
            // Scod, SGcod of 4 bytes, and of SPcod the fifth.
            0x52 => segment.get(9),
            // Ccoc of one byte, or of two where there are more than 256 components, and Scoc; of SPcoc the fifth.
            0x53 => segment.get(6),
            _ => None,
        };
        if wavelet == Some(&0) {
            return true;
        }
        at = match (marker, tile) {
            // SOT: where the next tile-part begins, 0 for the last.
            (0x90, _) => {
                let length = segment
                    .get(2..)
                    .and_then(<[u8]>::first_chunk)
                    .map_or(0, |word| u32::from_be_bytes(*word));
                tile = (length > 0).then_some(at + length as usize);
                at + 12
            }
            // SOD: the next tile-part.
            (0x93, Some(next)) if next > at => next,
            (0x93, _) => return false,
            _ => at + 2 + usize::from(u16::from_be_bytes([*high, *low])),
        };
    }
    false
}

pub(super) fn encode(image: &Image, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut precision = precision(image, frame);
    loop {
        match write(image, frame, precision) {
            // The library makes room for 1.4 times what a precision takes, which noise of a single bit is more than.
            Err(_) if precision < u32::from(image.allocated) => {
                precision = (2 * precision).min(u32::from(image.allocated));
            }
            done => return done,
        }
    }
}

fn write(image: &Image, frame: &[u8], precision: u32) -> Result<Vec<u8>, CodecError> {
    let refused = || CodecError::Refused(NAME);
    let (columns, rows) = (u32::from(image.columns), u32::from(image.rows));
    let samples = usize::from(image.samples);
    let component = opj_image_comptparm {
        dx: 1,
        dy: 1,
        w: columns,
        h: rows,
        x0: 0,
        y0: 0,
        prec: precision,
        bpp: precision,
        sgnd: u32::from(image.signed),
    };
    let colour = if samples == 3 { OPJ_CLRSPC_SRGB } else { OPJ_CLRSPC_GRAY };
    let mut picture = opj_image::create(&vec![component; samples], colour).ok_or_else(refused)?;
    (picture.x1, picture.y1) = (columns, rows);
    let numbers: Vec<i32> = image.numbers(frame).map(|number| signed(image, number)).collect();
    for (at, component) in picture.comps_mut().ok_or_else(refused)?.iter_mut().enumerate() {
        let plane: Vec<i32> = numbers.iter().skip(at).step_by(samples).copied().collect();
        if !component.set_data(&plane) {
            return Err(refused());
        }
    }
    let mut parameters = opj_cparameters_t::default();
    parameters.set_defaults();
    // One layer that holds everything, the reversible 5-3 wavelet, and no colour transform: Photometric Interpretation stays.
    parameters.tcp_numlayers = 1;
    parameters.tcp_rates[0] = 0.0;
    parameters.cp_disto_alloc = 1;
    parameters.irreversible = 0;
    parameters.tcp_mct = 0;
    parameters.numresolution = resolutions(columns.min(rows));
    let mut codec = Codec::new_encoder(OPJ_CODEC_J2K).ok_or_else(refused)?;
    if codec.setup_encoder(&mut parameters, &mut picture) == 0 {
        return Err(refused());
    }
    let mut memory = memory()?;
    {
        let mut stream = Stream::new_file(path(&memory), BUFFER, false).map_err(|_| refused())?;
        let done = codec.start_compress(&mut picture, &mut stream) != 0
            && codec.encode(&mut stream) != 0
            && codec.end_compress(&mut stream) != 0;
        if !done {
            return Err(refused());
        }
    }
    let mut out = Vec::new();
    memory.seek(SeekFrom::Start(0)).map_err(|_| refused())?;
    memory.read_to_end(&mut out).map_err(|_| refused())?;
    Ok(out)
}

/// Six, or as many as the shorter side can be halved.
fn resolutions(side: u32) -> i32 {
    // At most 31, and then at most 6.
    (side.max(1).ilog2() as i32 + 1).min(6)
}

fn signed(image: &Image, number: u32) -> i32 {
    let above = 32 - u32::from(image.allocated);
    match image.signed {
        true => (number << above) as i32 >> above,
        false => number as i32,
    }
}

/// The least bits that hold every sample.
fn precision(image: &Image, frame: &[u8]) -> u32 {
    if !image.signed {
        return u32::from(image.precision(frame));
    }
    let half = 1_i64 << (image.stored - 1);
    let fits = image
        .numbers(frame)
        .all(|number| (-half..half).contains(&i64::from(signed(image, number))));
    u32::from(if fits { image.stored } else { image.allocated })
}

/// The library reads and writes files: this one lies in memory alone.
fn memory() -> Result<File, CodecError> {
    let memory = memfd_create("frame", MemfdFlags::CLOEXEC);
    memory.map(File::from).map_err(|_| CodecError::Refused(NAME))
}

fn path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
