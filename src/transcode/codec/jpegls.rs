//! JPEG-LS (ISO 14495-1, PS3.5 8.2.3) by CharLS.
use super::{CodecError, widen};
use crate::transcode::image::Image;
use charls::{CharLS, FrameInfo, InterleaveMode};

const NAME: &str = "JPEG-LS";

pub(super) fn decode(image: &Image, coded: &[u8]) -> Result<Vec<u8>, CodecError> {
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
    Ok(match is_by_plane(coded) {
        true => image.by_pixel(frame),
        false => frame,
    })
}

/// Whether the components have scans of their own (ILV 0 in the first SOS); CharLS gives them by plane then.
fn is_by_plane(coded: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xFF, marker, high, low]) = coded.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *marker == 0xDA {
            // Ns components of two bytes, then NEAR and ILV.
            let components = coded.get(at + 4).map_or(0, |count| usize::from(*count));
            return coded.get(at + 6 + 2 * components) == Some(&0);
        }
        at += 2 + length;
    }
    false
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
    codec.encode(info, 0, frame).map_err(|_| CodecError::Refused(NAME))
}
