//! JPEG XL (ISO 18181-1, PS3.5 8.2.15): written by zune-jpegxl without loss, read by jxl-oxide. Both are Rust.
use super::CodecError;
use crate::transcode::image::Image;
use jxl_oxide::frame::Encoding;
use jxl_oxide::{FrameHeader, JxlImage};
use zune_core::bit_depth::BitDepth;
use zune_core::colorspace::ColorSpace;
use zune_core::options::EncoderOptions;
use zune_jpegxl::JxlSimpleEncoder;

const NAME: &str = "JPEG XL";

/// `may_lose`: the transfer syntax allows a stream that was compressed with loss.
pub(super) fn decode(image: &Image, coded: &[u8], may_lose: bool) -> Result<Vec<u8>, CodecError> {
    let stream = read(coded)?;
    if !may_lose && is_lossy(&stream) {
        return Err(CodecError::Lossy(NAME));
    }
    if (stream.width(), stream.height()) != (u32::from(image.columns), u32::from(image.rows)) {
        return Err(CodecError::OtherSize(NAME));
    }
    let bits = stream.image_header().metadata.bit_depth.bits_per_sample();
    if bits.div_ceil(8) as usize != image.sample_bytes() || image.signed {
        return Err(CodecError::Unhandled(NAME));
    }
    let frame = stream.render_frame(0).map_err(|_| CodecError::Unreadable(NAME))?;
    let mut samples = frame.stream();
    let count = image.pixels() * usize::from(image.samples);
    if samples.channels() != u32::from(image.samples) {
        return Err(CodecError::OtherSize(NAME));
    }
    if image.allocated == 8 {
        let mut out = vec![0; count];
        samples.write_to_buffer(&mut out);
        return Ok(out);
    }
    // The buffer is filled on the scale of 16 bits; a stream of fewer is scaled back, which is exact for what it can hold.
    let mut wide = vec![0_u16; count];
    samples.write_to_buffer(&mut wide);
    let most = u32::from(u16::MAX);
    let scale = (1_u32 << bits.clamp(1, 16)) - 1;
    let exact = |sample: u16| (u32::from(sample) * scale + most / 2) / most;
    Ok(wide
        .into_iter()
        .flat_map(|sample| (exact(sample) as u16).to_le_bytes())
        .collect())
}

/// Whether the decoder gives RGB, whatever the samples are called: it undoes XYB and the YCbCr of a JPEG. False for what it cannot read.
pub(super) fn becomes_rgb(image: &Image, coded: &[u8]) -> bool {
    image.samples == 3 && read(coded).is_ok_and(|stream| is_transformed(&stream))
}

fn read(coded: &[u8]) -> Result<JxlImage, CodecError> {
    let stream = JxlImage::builder().read(coded);
    stream.map_err(|_| CodecError::Unreadable(NAME))
}

/// The headers of all frames, those that only others refer to and one that is cut off among them.
fn headers(stream: &JxlImage) -> impl Iterator<Item = &FrameHeader> {
    (0..=stream.num_loaded_frames()).filter_map(|at| Some(stream.frame(at)?.header()))
}

/// Colour is not coded as it is given, but as XYB or YCbCr; neither way back is exact.
fn is_transformed(stream: &JxlImage) -> bool {
    stream.image_header().metadata.xyb_encoded || headers(stream).any(|header| header.do_ycbcr)
}

/// Only what is Modular, of its own size and of no other colours can be lossless (ISO 18181-1): VarDCT never is.
fn is_lossy(stream: &JxlImage) -> bool {
    let loses = |header: &FrameHeader| header.encoding == Encoding::VarDct || header.upsampling > 1;
    is_transformed(stream) || headers(stream).any(loses)
}

pub(super) fn encode(image: &Image, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    let depth = match image.allocated {
        8 => BitDepth::Eight,
        16 => BitDepth::Sixteen,
        _ => return Err(CodecError::Refused(NAME)),
    };
    let colour = if image.samples == 3 {
        ColorSpace::RGB
    } else {
        ColorSpace::Luma
    };
    let options = EncoderOptions::new(usize::from(image.columns), usize::from(image.rows), colour, depth);
    // 100 is lossless; the effort is the middle of 0 to 127.
    let options = options.set_quality(100).set_effort(64);
    let mut out = Vec::new();
    JxlSimpleEncoder::new(frame, options)
        .encode(&mut out)
        .map_err(|_| CodecError::Refused(NAME))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of libjxl: 8 by 8 samples, each its column 31 times and its row 17 times; lossless, and at a distance of 3.
    const LOSSLESS: &[u8] = b"\xFF\x0A\x41\x40\x50\xDC\x08\x08\x04\x01\x00\xA4\x00\x4B\x28\x24\xC6\x47\x41\x41\x52\x5C\xB5\x35\x0F\xA8\xCF\xBA\xBB\xBB\x1B\x00\x00\x00\x00\x00\x00\x00\x00\xFC\x02\x00\x80\x01\x00\xF0\xDB\x00\x80\xDF\x06\x00\x60\x00";
    const LOSSY: &[u8] = b"\xFF\x0A\x41\x40\x52\xDC\x08\x00\x14\x48\x00\x1C\x01\x31\x75\x14\x00\x80\x0A\x95\x51\xC6\x0D\x5E\xCE\xF5\x7C\xF9\xA1\xC3\x62\xDA\xC6\x75\x86\xB6\xDA\xB6\xB0\x84\xB1\xD9\x5E\x18\x24\x24\x9C\x34\x0C\xE5\xE6\xE8\x0C\x61\xA8\x24\x91\x84\x9E\x3F\xD9\xBD\xD5\xBE\x25\x42\xFF\xBD\xFB\xB9\xD4\xEE\x18\x44\xB1\x00\x48\x43\x33\x71\x7F\x01\xB0\x0F";

    #[test]
    fn what_was_compressed_with_loss_is_not_read_as_lossless() {
        let image = Image {
            rows: 8,
            columns: 8,
            ..super::super::tests::image(1, 8, 8, false)
        };
        let ramp: Vec<u8> = (0..64).map(|at| ((at % 8) * 31 + (at / 8) * 17) as u8).collect();
        assert_eq!(decode(&image, LOSSLESS, false), Ok(ramp.clone()));
        assert_eq!(decode(&image, LOSSY, false), Err(CodecError::Lossy(NAME)));
        let read = decode(&image, LOSSY, true).unwrap();
        assert!(read.len() == ramp.len() && read != ramp);
        // What this box writes is no exception.
        let coded = encode(&image, &ramp).unwrap();
        assert_eq!(decode(&image, &coded, false), Ok(ramp));
    }
}
