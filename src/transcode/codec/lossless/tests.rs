//! The decoder against an encoder of the standard's own words, and against streams that are none.
use super::super::tests::image;
use super::*;
use crate::base::properties::cases;
use proptest::prelude::*;

/// How a stream is written.
#[derive(Clone, Copy, Debug)]
struct Style {
    predictor: u8,
    shift: u8,
    /// Lines between two restarts; 0 without them.
    lines: usize,
    interleaved: bool,
}

/// The encoder that T.81 annex H describes, over samples by pixel, with codes of five bits each.
fn encode(image: &Image, precision: u8, samples: &[u16], style: Style) -> Vec<u8> {
    let (count, columns) = (usize::from(image.samples), usize::from(image.columns));
    let mut out = vec![0xFF, 0xD8, 0xFF, SOF3, 0, 8 + 3 * count as u8, precision];
    out.extend_from_slice(&image.rows.to_be_bytes());
    out.extend_from_slice(&image.columns.to_be_bytes());
    out.push(count as u8);
    (1..=count as u8).for_each(|id| out.extend_from_slice(&[id, 0x11, 0]));
    out.extend_from_slice(&[
        0xFF,
        DHT,
        0,
        2 + 17 + 17,
        0,
        0,
        0,
        0,
        0,
        17,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    out.extend(0..=16);
    if style.lines > 0 {
        out.extend_from_slice(&[0xFF, DRI, 0, 4]);
        out.extend_from_slice(&((style.lines * columns) as u16).to_be_bytes());
    }
    let all: Vec<usize> = (0..count).collect();
    for parts in all.chunks(if style.interleaved { count } else { 1 }) {
        out.extend_from_slice(&[0xFF, SOS, 0, 6 + 2 * parts.len() as u8, parts.len() as u8]);
        parts
            .iter()
            .for_each(|part| out.extend_from_slice(&[*part as u8 + 1, 0]));
        out.extend_from_slice(&[style.predictor, 0, style.shift]);
        let mut bits = String::new();
        for row in 0..usize::from(image.rows) {
            let is_first = if style.lines == 0 {
                row == 0
            } else {
                row % style.lines == 0
            };
            if is_first && row > 0 {
                flush(&mut bits, &mut out);
                out.extend_from_slice(&[0xFF, 0xD0 + ((row / style.lines - 1) % 8) as u8]);
            }
            for column in 0..columns {
                for part in parts {
                    let at = |row: usize, column: usize| {
                        i32::from(samples[(row * columns + column) * count + part] >> style.shift)
                    };
                    let predicted = match (is_first, column) {
                        (true, 0) => 1 << (precision - style.shift - 1),
                        (true, _) => at(row, column - 1),
                        (false, 0) => at(row - 1, 0),
                        _ => {
                            let (a, b, c) = (at(row, column - 1), at(row - 1, column), at(row - 1, column - 1));
                            [a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1]
                                [usize::from(style.predictor) - 1]
                        }
                    };
                    write(at(row, column) - predicted, &mut bits);
                }
            }
        }
        flush(&mut bits, &mut out);
    }
    out.extend_from_slice(&[0xFF, 0xD9]);
    out
}

fn write(difference: i32, bits: &mut String) {
    let folded = difference as i16;
    let size = match folded {
        i16::MIN => 16,
        _ => 16 - folded.unsigned_abs().leading_zeros(),
    };
    bits.push_str(&format!("{size:05b}"));
    if (1..16).contains(&size) {
        let value = i32::from(folded) + if folded < 0 { (1 << size) - 1 } else { 0 };
        bits.push_str(&format!("{value:0width$b}", width = size as usize));
    }
}

/// Padded with ones, and no marker in it.
fn flush(bits: &mut String, out: &mut Vec<u8>) {
    for byte in bits.as_bytes().chunks(8) {
        let ones = byte.iter().copied().chain(std::iter::repeat(b'1')).take(8);
        let byte = ones.fold(0, |sum, bit| sum << 1 | (bit - b'0'));
        out.push(byte);
        if byte == 0xFF {
            out.push(0);
        }
    }
    bits.clear();
}

prop_compose! {
    fn picture()(
        colour in any::<bool>(), precision in 2..=16_u8, predictor in 1..=7_u8, lines in 0..6_usize,
        interleaved in any::<bool>(), seed in any::<u32>(), shift in 0..16_u8,
    ) -> (Image, u8, Vec<u16>, Style) {
        let image = image(if colour { 3 } else { 1 }, 16, u16::from(precision), false);
        let style = Style { predictor, shift: shift % precision, lines, interleaved };
        let mut state = seed;
        let sample = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16 & (u16::MAX >> (16 - precision)) >> style.shift << style.shift
        };
        let samples = (0..image.pixels() * usize::from(image.samples)).map(sample).collect();
        (image, precision, samples, style)
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// Whatever the predictor, the transform, the restarts and the scans: the samples are those that were written.
    #[test]
    fn it_reads_what_the_standard_writes((image, precision, samples, style) in picture()) {
        let coded = encode(&image, precision, &samples, style);
        let frame: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        prop_assert!(decode(&image, &coded) == Ok(frame), "{style:?}");
    }

    /// A stream that ends early, or has something too much, is no frame, whatever stands behind it.
    #[test]
    fn half_a_stream_is_no_frame((image, precision, samples, style) in picture(), cut in 0.0..1.0_f64) {
        let coded = encode(&image, precision, &samples, style);
        let start = coded.windows(2).position(|pair| pair == [0xFF, SOS]).unwrap() + 14;
        let at = start + ((coded.len() - 6 - start) as f64 * cut) as usize;
        let mut half = coded[..at].to_vec();
        prop_assert!(decode(&image, &half).is_err());
        half.extend_from_slice(&[0xFF, 0xD9]);
        prop_assert!(decode(&image, &half).is_err());
        let mut more = coded[..coded.len() - 2].to_vec();
        more.extend_from_slice(&[0x55, 0xAA, 0xFF, 0xD9]);
        prop_assert!(decode(&image, &more).is_err());
    }

    /// A byte that is another one ends in an error or in a frame of the right length.
    #[test]
    fn a_changed_byte_harms_nobody((image, precision, samples, style) in picture(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut coded = encode(&image, precision, &samples, style);
        let at = at.index(coded.len());
        coded[at] = to;
        if let Ok(frame) = decode(&image, &coded) {
            prop_assert_eq!(frame.len(), image.frame_length());
        }
    }
}

#[test]
fn what_is_not_handled_is_said() {
    let image = image(1, 16, 12, false);
    let samples = vec![7; image.pixels()];
    let style = Style {
        predictor: 1,
        shift: 0,
        lines: 2,
        interleaved: true,
    };
    let coded = encode(&image, 12, &samples, style);
    let with = |marker: u8, at: usize, byte: u8| {
        let mut coded = coded.clone();
        let found = coded.windows(2).position(|pair| pair == [0xFF, marker]).unwrap();
        coded[found + at] = byte;
        decode(&image, &coded)
    };
    // No predictor; a restart within a line; other rows than the head has.
    assert_eq!(with(SOS, 7, 0), Err(UNHANDLED));
    assert_eq!(with(DRI, 5, 9), Err(UNHANDLED));
    assert_eq!(with(SOF3, 6, 20), Err(CodecError::OtherSize(NAME)));
}
