//! JPEG XL (ISO 18181-1, PS3.5 8.2.15): written by zune-jpegxl without loss, read by jxl-oxide. Both are Rust.
use super::CodecError;
use crate::transcode::image::Image;
use jxl_oxide::JxlImage;
use zune_core::bit_depth::BitDepth;
use zune_core::colorspace::ColorSpace;
use zune_core::options::EncoderOptions;
use zune_jpegxl::JxlSimpleEncoder;

const NAME: &str = "JPEG XL";

pub(super) fn decode(image: &Image, coded: &[u8]) -> Result<Vec<u8>, CodecError> {
    let stream = JxlImage::builder()
        .read(coded)
        .map_err(|_| CodecError::Unreadable(NAME))?;
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
