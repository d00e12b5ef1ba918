//! One frame to its coded form and back. Runs in the worker process only, never in the box itself: decoders of foreign streams
//! are where memory and time are lost.
//!
//! A frame is what its uncompressed pixels are in little endian, colour by pixel: `Image::frame_length` bytes. Every function
//! is lossless or an error; whether it was, is checked by a second process.
mod jpeg;
mod jpeg2000;
mod jpegls;
mod jpegxl;
mod lossless;
mod rle;

use super::forms::Coding;
use super::image::Image;

/// Why a frame was not coded or decoded. Constant words and numbers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    #[error("the {0} stream is not readable")]
    Unreadable(&'static str),
    #[error("the {0} stream is of another size than Rows, Columns and Samples per Pixel say")]
    OtherSize(&'static str),
    #[error("the {0} stream is of a kind that is not handled")]
    Unhandled(&'static str),
    #[error(
        "the {0} stream was compressed with loss from 12 bits a sample, and such streams are read with 8 bits only"
    )]
    TwelveBits(&'static str),
    #[error("the {0} stream was compressed with loss, against its transfer syntax")]
    Lossy(&'static str),
    #[error("the {0} encoder refused the frame")]
    Refused(&'static str),
    /// As noise is.
    #[error("a frame becomes larger as {0}, by more than its encoder has room for")]
    Larger(&'static str),
}

/// The frame's uncompressed pixels. `may_lose`: its transfer syntax allows a stream that was compressed with loss. A stream that says
/// of itself that it was is none of a lossless syntax.
///
/// # Errors
/// See `CodecError`.
pub fn decode(coding: Coding, may_lose: bool, image: &Image, coded: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    let frame = match coding {
        Coding::Native => coded,
        // Fragments have even lengths (PS3.5 A.4).
        Coding::Stored => match coded.len().checked_sub(image.frame_length()) {
            Some(0 | 1) => coded.into_iter().take(image.frame_length()).collect(),
            _ => return Err(CodecError::OtherSize("uncompressed")),
        },
        Coding::Rle => rle::decode(image, &coded)?,
        Coding::Jpeg => jpeg::decode(image, &coded, may_lose)?,
        Coding::JpegLs => jpegls::decode(image, &coded, may_lose)?,
        Coding::Jpeg2000 => jpeg2000::decode(image, &coded, may_lose)?,
        Coding::JpegXl => jpegxl::decode(image, &coded, may_lose)?,
    };
    match frame.len() == image.frame_length() {
        true => Ok(frame),
        false => Err(CodecError::OtherSize("decoded")),
    }
}

/// Whether decoding makes RGB of a frame of three samples, whatever its Photometric Interpretation says: the stream itself knows
/// that its colour was transformed.
#[must_use]
pub fn becomes_rgb(coding: Coding, image: &Image, coded: &[u8]) -> bool {
    coding == Coding::JpegXl && jpegxl::becomes_rgb(image, coded)
}

/// The frame's coded form, not padded.
///
/// # Errors
/// See `CodecError`.
pub fn encode(coding: Coding, image: &Image, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    assert_eq!(frame.len(), image.frame_length(), "a whole frame");
    match coding {
        Coding::Native | Coding::Stored => Ok(frame.to_vec()),
        Coding::Rle => rle::encode(image, frame),
        Coding::Jpeg => Err(CodecError::Refused("JPEG")),
        Coding::JpegLs => jpegls::encode(image, frame),
        Coding::Jpeg2000 => jpeg2000::encode(image, frame),
        Coding::JpegXl => jpegxl::encode(image, frame),
    }
}

/// Samples of one width in bytes as samples of another; the sign of one with `precision` bits is carried on.
fn widen(image: &Image, samples: &[u8], width: usize, precision: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.frame_length());
    for sample in samples.chunks_exact(width) {
        let number = sample.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        put(image, number, precision, &mut out);
    }
    out
}

/// One sample of `precision` bits, as Bits Allocated and Pixel Representation say.
fn put(image: &Image, number: u32, precision: u32, out: &mut Vec<u8>) {
    let above = 32 - precision.clamp(1, 32);
    // Shifted up and arithmetically down again: the sign fills the bits above.
    let number = match image.signed {
        true => ((number << above) as i32 >> above) as u32,
        false => number,
    };
    out.extend_from_slice(&number.to_le_bytes()[..image.sample_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::properties::cases;
    use proptest::prelude::*;

    pub(super) fn image(samples: u16, allocated: u16, stored: u16, signed: bool) -> Image {
        Image {
            rows: 19,
            columns: 23,
            samples,
            allocated,
            stored,
            signed,
            planar: false,
            frames: 1,
            photometric: if samples == 3 { "RGB" } else { "MONOCHROME2" }.to_owned(),
        }
    }

    /// Noise on a ramp; with `dirty`, bits stand above Bits Stored.
    fn frame(image: &Image, seed: u32, dirty: bool) -> Vec<u8> {
        let mut state = seed | 1;
        let mut out = Vec::new();
        for at in 0..image.pixels() * usize::from(image.samples) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (at as u32 * 7).wrapping_add(state >> 24).wrapping_mul(state >> 30);
            let cut = if dirty {
                number
            } else {
                number & (u32::MAX >> (32 - u32::from(image.stored)))
            };
            match dirty {
                true => out.extend_from_slice(&cut.to_le_bytes()[..image.sample_bytes()]),
                false => put(image, cut, u32::from(image.stored), &mut out),
            }
        }
        out
    }

    const WRITERS: [Coding; 4] = [Coding::Rle, Coding::JpegLs, Coding::Jpeg2000, Coding::JpegXl];

    #[test]
    fn every_shape_comes_back_as_it_went_in() {
        let shapes = [
            (1, 8, 8),
            (1, 8, 6),
            (1, 8, 1),
            (1, 16, 12),
            (1, 16, 16),
            (1, 16, 8),
            (3, 8, 8),
            (3, 16, 12),
        ];
        for coding in WRITERS {
            for (samples, allocated, stored) in shapes {
                for (signed, dirty) in [(false, false), (true, false), (false, true), (true, true)] {
                    let image = image(samples, allocated, stored, signed);
                    if image.check_writable(coding).is_err() {
                        continue;
                    }
                    let frame = frame(&image, 77, dirty);
                    let coded = encode(coding, &image, &frame).unwrap();
                    let back = decode(coding, false, &image, coded);
                    assert!(back.as_ref() == Ok(&frame), "{coding:?} {image:?} dirty {dirty}");
                }
            }
        }
    }

    /// 256 by 256 samples of the highest bits of a generator.
    fn noise(bits: u16) -> (Image, Vec<u8>) {
        let image = Image {
            rows: 256,
            columns: 256,
            ..image(1, 8, bits, false)
        };
        let mut state = 5_u32;
        let samples = (0..image.pixels()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> (32 - u32::from(bits))) as u8
        });
        let frame = samples.collect();
        (image, frame)
    }

    #[test]
    fn noise_is_carried_by_all_but_jpeg_ls_which_says_so() {
        for bits in [8, 1] {
            let (image, frame) = noise(bits);
            for coding in WRITERS {
                let coded = encode(coding, &image, &frame);
                if (coding, bits) == (Coding::JpegLs, 8) {
                    assert_eq!(coded, Err(CodecError::Larger("JPEG-LS")));
                    continue;
                }
                let back = decode(coding, false, &image, coded.unwrap());
                assert!(back.as_ref() == Ok(&frame), "{coding:?} {bits}");
            }
        }
    }

    #[test]
    fn one_row_or_column_is_not_written_as_jpeg_xl() {
        for (rows, columns) in [(1, 23), (19, 1), (1, 1)] {
            let image = Image {
                rows,
                columns,
                ..image(1, 8, 8, false)
            };
            let frame = frame(&image, 3, false);
            for coding in WRITERS {
                if coding == Coding::JpegXl {
                    assert!(image.check_writable(coding).is_err());
                    continue;
                }
                assert_eq!(image.check_writable(coding), Ok(()));
                let coded = encode(coding, &image, &frame).unwrap();
                assert!(
                    decode(coding, false, &image, coded).as_ref() == Ok(&frame),
                    "{coding:?}"
                );
            }
        }
    }

    #[test]
    fn wide_samples_go_as_runs() {
        let image = image(1, 32, 32, false);
        let frame = frame(&image, 5, true);
        let coded = encode(Coding::Rle, &image, &frame).unwrap();
        assert_eq!(decode(Coding::Rle, false, &image, coded), Ok(frame));
    }

    proptest! {
        #![proptest_config(cases(24))]

        /// Whatever stands in a stream, it ends in a frame of the right length or in an error.
        #[test]
        fn noise_is_no_frame(noise in prop::collection::vec(any::<u8>(), 0..400), at in 0..5_usize, may_lose in any::<bool>()) {
            let codings = [Coding::Rle, Coding::JpegLs, Coding::Jpeg2000, Coding::JpegXl, Coding::Jpeg];
            let image = image(1, 16, 12, false);
            if let Ok(frame) = decode(codings[at], may_lose, &image, noise) {
                prop_assert_eq!(frame.len(), image.frame_length());
            }
        }
    }
}
