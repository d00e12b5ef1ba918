//! JPEG (ISO 10918-1): read only. Lossless (process 14) by `lossless.rs`; lossy ones without a colour transform, so that their
//! samples stay in the colour space that Photometric Interpretation names.
use super::{CodecError, lossless, widen};
use crate::transcode::image::Image;
use jpeg_decoder::{ColorTransform, Decoder};

const NAME: &str = "JPEG";

/// `may_lose`: the transfer syntax allows a lossy process.
pub(super) fn decode(image: &Image, coded: &[u8], may_lose: bool) -> Result<Vec<u8>, CodecError> {
    match process(coded).ok_or(CodecError::Unreadable(NAME))? {
        (0xC3, _) => lossless::decode(image, coded),
        (_, precision) if may_lose => lossy(image, coded, precision),
        _ => Err(CodecError::Lossy(NAME)),
    }
}

fn lossy(image: &Image, coded: &[u8], precision: u32) -> Result<Vec<u8>, CodecError> {
    let mut decoder = Decoder::new(coded);
    decoder.read_info().map_err(|_| CodecError::Unreadable(NAME))?;
    let info = decoder.info().ok_or(CodecError::Unreadable(NAME))?;
    if (info.width, info.height) != (image.columns, image.rows) {
        return Err(CodecError::OtherSize(NAME));
    }
    // Of three components, the library's `None` leaves each line by plane; its `RGB` is the one that changes no sample.
    decoder.set_color_transform(match image.samples {
        3 => ColorTransform::RGB,
        _ => ColorTransform::None,
    });
    let samples = decoder.decode().map_err(|_| CodecError::Unreadable(NAME))?;
    let count = image.pixels() * usize::from(image.samples);
    let width = match samples.len() {
        length if length == count => 1,
        length if length == 2 * count => 2,
        _ => return Err(CodecError::OtherSize(NAME)),
    };
    match width <= image.sample_bytes() {
        // The decoder gives 16 bits in the machine's order, which is little endian on all that this box runs on.
        true => Ok(widen(image, &samples, width, precision)),
        false => Err(CodecError::OtherSize(NAME)),
    }
}

/// The first frame header (SOF0 to SOF15, but not DHT, JPG and DAC): its marker and P.
fn process(coded: &[u8]) -> Option<(u8, u32)> {
    let mut at = 2;
    loop {
        let [0xFF, marker, high, low] = *coded.get(at..)?.first_chunk::<4>()? else {
            return None;
        };
        if marker == 0xFF {
            at += 1;
            continue;
        }
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            return coded.get(at + 4).map(|precision| (marker, u32::from(*precision)));
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

const _: () = assert!(
    cfg!(target_endian = "little"),
    "sixteen-bit samples come in the machine's order"
);
