//! RLE Lossless (PS3.5 annex G): one segment for each byte of each sample, the most significant first, PackBits in each.
use super::CodecError;
use crate::transcode::image::Image;

const NAME: &str = "RLE";
/// The header: the number of segments and 15 offsets.
const HEADER: usize = 64;

pub(super) fn decode(image: &Image, coded: &[u8]) -> Result<Vec<u8>, CodecError> {
    let unreadable = CodecError::Unreadable(NAME);
    let (size, samples) = (image.sample_bytes(), usize::from(image.samples));
    let word = |at: usize| {
        let bytes = coded.get(at * 4..).and_then(<[u8]>::first_chunk::<4>);
        bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize)
    };
    if word(0).ok_or(unreadable.clone())? != size * samples {
        return Err(CodecError::OtherSize(NAME));
    }
    let mut frame = vec![0; image.frame_length()];
    for segment in 0..size * samples {
        let start = word(1 + segment).ok_or(unreadable.clone())?;
        let next = match segment + 1 < size * samples {
            true => word(2 + segment).ok_or(unreadable.clone())?,
            false => coded.len(),
        };
        let packed = coded
            .get(start..next)
            .filter(|_| start >= HEADER)
            .ok_or(unreadable.clone())?;
        // Segments come sample by sample, each from its most significant byte down.
        let place = segment / size * size + (size - 1 - segment % size);
        unpack(packed, &mut frame, place, size * samples).ok_or(unreadable.clone())?;
    }
    Ok(frame)
}

/// Unpacks one segment into every `step`th byte from `place`; `None` when it ends before the frame does. What it holds beyond
/// the frame is padding.
fn unpack(packed: &[u8], frame: &mut [u8], place: usize, step: usize) -> Option<()> {
    let (mut packed, mut at) = (packed, place);
    while at < frame.len() {
        let (control, rest) = packed.split_first()?;
        packed = rest;
        match *control {
            128 => {}
            literal @ 0..=127 => {
                let count = usize::from(literal) + 1;
                for byte in packed.get(..count)? {
                    *frame.get_mut(at)? = *byte;
                    at += step;
                    if at >= frame.len() {
                        break;
                    }
                }
                packed = &packed[count..];
            }
            run => {
                let (byte, rest) = packed.split_first()?;
                packed = rest;
                for _ in 0..257 - usize::from(run) {
                    if at >= frame.len() {
                        break;
                    }
                    frame[at] = *byte;
                    at += step;
                }
            }
        }
    }
    Some(())
}

pub(super) fn encode(image: &Image, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    let (size, samples) = (image.sample_bytes(), usize::from(image.samples));
    let segments = size * samples;
    if segments > 15 {
        return Err(CodecError::Refused(NAME));
    }
    let mut out = vec![0; HEADER];
    out[..4].copy_from_slice(&(segments as u32).to_le_bytes());
    let row = usize::from(image.columns);
    let mut line = Vec::with_capacity(row);
    for segment in 0..segments {
        let start = u32::try_from(out.len()).map_err(|_| CodecError::Refused(NAME))?;
        out[4 + segment * 4..8 + segment * 4].copy_from_slice(&start.to_le_bytes());
        let place = segment / size * size + (size - 1 - segment % size);
        for pixels in frame.chunks(row * segments) {
            line.clear();
            line.extend(pixels[place..].iter().step_by(segments));
            // Each row is packed by itself (PS3.5 G.3.1).
            pack(&line, &mut out);
        }
        if out.len() % 2 == 1 {
            out.push(0);
        }
    }
    Ok(out)
}

fn pack(mut line: &[u8], out: &mut Vec<u8>) {
    while let Some(first) = line.first() {
        let run = line.iter().take(128).take_while(|byte| *byte == first).count();
        if run >= 3 {
            // 257 - run is 129 to 254.
            out.extend_from_slice(&[(257 - run) as u8, *first]);
            line = &line[run..];
            continue;
        }
        let literal = literal(line);
        out.push((literal - 1) as u8);
        out.extend_from_slice(&line[..literal]);
        line = &line[literal..];
    }
}

/// How many bytes, 1 to 128, stand before the next run of three.
fn literal(line: &[u8]) -> usize {
    let most = line.len().min(128);
    let run = line[..most]
        .windows(3)
        .position(|three| three[0] == three[1] && three[1] == three[2]);
    run.unwrap_or(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_standard_is_unpacked() {
        let packed = [
            0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7, 0xAA,
        ];
        let mut frame = vec![0; 24];
        unpack(&packed, &mut frame, 0, 1).unwrap();
        let expected = [
            0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0xAA, 0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0x22, 0xAA, 0xAA, 0xAA, 0xAA,
            0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA,
        ];
        assert_eq!(frame, expected);
        assert_eq!(unpack(&packed[..9], &mut [0; 24], 0, 1), None);
    }

    #[test]
    fn a_header_of_another_image_is_refused() {
        let coded = encode(&image(3, 8, 8, false), &vec![7; 19 * 23 * 3]).unwrap();
        assert!(decode(&image(1, 16, 16, false), &coded).is_err());
        assert!(decode(&image(1, 8, 8, false), &[1, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn packed_lines_come_back(line in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 1..700)) {
            let mut out = Vec::new();
            pack(&line, &mut out);
            let mut back = vec![0; line.len()];
            unpack(&out, &mut back, 0, 1).unwrap();
            prop_assert!(out.len() <= line.len() + line.len() / 100 + 2);
            prop_assert_eq!(back, line);
        }
    }
}
