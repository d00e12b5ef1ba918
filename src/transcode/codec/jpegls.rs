//! JPEG-LS (ISO 14495-1, PS3.5 8.2.3) by CharLS.
use super::{CodecError, widen};
use crate::transcode::image::Image;
use charls::{CharLS, Error, FrameInfo, InterleaveMode};

const NAME: &str = "JPEG-LS";
/// `destination_buffer_too_small` of CharLS, whose crate gives the encoder room for the uncompressed frame and 1 KiB.
const TOO_SMALL: i32 = 3;

/// `may_lose`: the transfer syntax allows a near-lossless stream.
pub(super) fn decode(image: &Image, coded: &[u8], may_lose: bool) -> Result<Vec<u8>, CodecError> {
    let scans = scans(coded);
    if !may_lose && scans.iter().any(|scan| scan.near > 0) {
        return Err(CodecError::Lossy(NAME));
    }
    let info = CharLS::default()
        .get_frame_info(coded)
        .map_err(|_| CodecError::Unreadable(NAME))?;
    let is_ours = info.width == u32::from(image.columns)
        && info.height == u32::from(image.rows)
        && info.component_count == i32::from(image.samples);
    let precision = u32::try_from(info.bits_per_sample).unwrap_or(0);
    let width = precision.div_ceil(8) as usize;
    if !is_ours || !(1..=image.sample_bytes()).contains(&width) {
        return Err(CodecError::OtherSize(NAME));
    }
    let samples = CharLS::default()
        .decode(coded)
        .map_err(|_| CodecError::Unreadable(NAME))?;
    if samples.len() != image.pixels() * usize::from(image.samples) * width {
        return Err(CodecError::OtherSize(NAME));
    }
    let frame = match width == image.sample_bytes() && !(image.signed && precision < u32::from(image.allocated)) {
        true => samples,
        false => widen(image, &samples, width, precision),
    };
    // CharLS gives components that have scans of their own by plane.
    Ok(match scans.first() {
        Some(Scan { interleaved: false, .. }) => image.by_pixel(frame),
        _ => frame,
    })
}

/// What the header of a scan says.
struct Scan {
    /// The most that a sample was changed by; 0 is lossless.
    near: u8,
    /// ILV is not 0.
    interleaved: bool,
}

/// The scans of a stream.
fn scans(coded: &[u8]) -> Vec<Scan> {
    let mut scans = Vec::new();
    let mut at = 2;
    while let Some([0xFF, marker, high, low]) = coded.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *marker == 0xDA {
            // Ns components of two bytes, then NEAR and ILV.
            let end = at + 5 + 2 * coded.get(at + 4).map_or(0, |count| usize::from(*count));
            let [near, interleave] = coded
                .get(end..)
                .and_then(<[u8]>::first_chunk)
                .copied()
                .unwrap_or([0, 1]);
            scans.push(Scan {
                near,
                interleaved: interleave != 0,
            });
            // In what is coded, no byte of more than 7 bits follows 0xFF (ISO 14495-1 A.1).
            let coded = coded.get(at..).unwrap_or_default();
            let next = coded
                .windows(2)
                .skip(2)
                .position(|pair| pair[0] == 0xFF && pair[1] >= 0x80);
            match next {
                Some(next) => at += next + 2,
                None => break,
            }
        } else {
            at += 2 + length;
        }
    }
    scans
}

pub(super) fn encode(image: &Image, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    // Signed samples carry their sign in the bits above Bits Stored; CharLS takes one byte for up to 8 bits, and no single bit.
    let precision = match image.signed {
        true => image.allocated,
        false => image.precision(frame).max(if image.allocated == 16 { 9 } else { 2 }),
    };
    let info = FrameInfo {
        width: u32::from(image.columns),
        height: u32::from(image.rows),
        bits_per_sample: i32::from(precision),
        component_count: i32::from(image.samples),
    };
    let mut codec = CharLS::default();
    if image.samples == 3 {
        codec
            .set_interleave_mode(InterleaveMode::Line)
            .map_err(|_| CodecError::Refused(NAME))?;
    }
    codec.encode(info, 0, frame).map_err(|error| match error {
        Error::JpegLsError { code: TOO_SMALL } => CodecError::Larger(NAME),
        _ => CodecError::Refused(NAME),
    })
}
