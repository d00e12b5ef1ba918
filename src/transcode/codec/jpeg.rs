//! JPEG (ISO 10918-1): read only. Lossless (process 14) by `lossless.rs`; lossy ones without a colour transform, so that their
//! samples stay in the colour space that Photometric Interpretation names.
use super::{CodecError, lossless, widen};
use crate::transcode::image::Image;
use jpeg_decoder::{ColorTransform, Decoder, Error};

const NAME: &str = "JPEG";

/// `may_lose`: the transfer syntax allows a lossy process.
pub(super) fn decode(image: &Image, coded: &[u8], may_lose: bool) -> Result<Vec<u8>, CodecError> {
    match process(coded).ok_or(CodecError::Unreadable(NAME))? {
        (0xC3, _) => lossless::decode(image, coded),
        // Extended and progressive.
        (0xC1 | 0xC2, 12) if may_lose => Err(CodecError::TwelveBits(NAME)),
        (_, precision) if may_lose => lossy(image, coded, precision),
        _ => Err(CodecError::Lossy(NAME)),
    }
}

fn lossy(image: &Image, coded: &[u8], precision: u32) -> Result<Vec<u8>, CodecError> {
    let mut decoder = Decoder::new(coded);
    decoder.read_info().map_err(wrong)?;
    let info = decoder.info().ok_or(CodecError::Unreadable(NAME))?;
    if (info.width, info.height) != (image.columns, image.rows) {
        return Err(CodecError::OtherSize(NAME));
    }
    // Of three components, the library's `None` leaves each line by plane; its `RGB` is the one that changes no sample.
    decoder.set_color_transform(match image.samples {
        3 => ColorTransform::RGB,
        _ => ColorTransform::None,
    });
    let samples = decoder.decode().map_err(wrong)?;
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

/// A stream of a process that the decoder has not got is not a damaged one.
fn wrong(error: Error) -> CodecError {
    match error {
        Error::Unsupported(_) => CodecError::Unhandled(NAME),
        _ => CodecError::Unreadable(NAME),
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

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;

    /// The beginning of a stream, to its frame header: 19 lines of 23 samples of one component.
    fn begun(marker: u8, precision: u8) -> Vec<u8> {
        [
            &[0xFF, 0xD8, 0xFF, marker, 0, 11, precision],
            &[0, 19, 0, 23, 1, 1, 0x11, 0][..],
        ]
        .concat()
    }

    #[test]
    fn what_is_not_read_is_not_called_damaged() {
        let image = image(1, 16, 12, false);
        let wrong = |marker, precision| decode(&image, &begun(marker, precision), true).unwrap_err();
        for marker in [0xC1, 0xC2] {
            assert_eq!(wrong(marker, 12), CodecError::TwelveBits(NAME));
        }
        // Arithmetic coding.
        assert_eq!(wrong(0xC9, 8), CodecError::Unhandled(NAME));
        // No frame has three bits, and this one has no scan.
        assert_eq!(wrong(0xC1, 3), CodecError::Unreadable(NAME));
        assert_eq!(wrong(0xC0, 8), CodecError::Unreadable(NAME));
    }
}
