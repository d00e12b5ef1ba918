//! Values of a VR as text, and text as values: what `Head::text` reads and `Edit::text` writes.
use super::{Charset, Decoded, Form};
use crate::dicom::syntax::Layout;
use dicom_core::{Tag, VR};

/// How a VR's text is divided; `None` for VRs that are no text.
#[must_use]
pub fn form(vr: VR) -> Option<Form> {
    match vr {
        VR::PN => Some(Form::Names),
        VR::ST | VR::LT | VR::UT | VR::UR => Some(Form::Text),
        VR::AE | VR::AS | VR::CS | VR::DA | VR::DS | VR::DT | VR::IS | VR::LO | VR::SH | VR::TM | VR::UC | VR::UI => {
            Some(Form::Values)
        }
        VR::AT
        | VR::FL
        | VR::FD
        | VR::OB
        | VR::OD
        | VR::OF
        | VR::OL
        | VR::OV
        | VR::OW
        | VR::SL
        | VR::SQ
        | VR::SS
        | VR::SV
        | VR::UL
        | VR::UN
        | VR::US
        | VR::UV => None,
    }
}

/// Whether Specific Character Set applies to a VR (PS3.5 6.1.2.2).
#[must_use]
pub fn is_affected(vr: VR) -> bool {
    matches!(vr, VR::SH | VR::LO | VR::ST | VR::LT | VR::UC | VR::UT | VR::PN)
}

/// The size of a VR's binary unit, which big endian turns round.
#[must_use]
pub fn unit(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// The values of an element as text; `None` when the VR is binary. An empty element has no values.
#[must_use]
pub fn strings(vr: VR, bytes: &[u8], layout: Layout, charset: &Charset) -> Option<Decoded> {
    if let Some(values) = numbers(vr, bytes, layout) {
        return Some(Decoded {
            values,
            ..Decoded::default()
        });
    }
    let form = form(vr)?;
    let mut decoded = if is_affected(vr) {
        charset.decode(bytes, form)
    } else {
        Charset::default().decode(bytes, form)
    };
    for value in &mut decoded.values {
        // Leading spaces count in text of one value; everywhere else they are padding like the trailing ones.
        let trimmed = match vr {
            VR::ST | VR::LT | VR::UT | VR::UC | VR::UR => value.trim_end_matches([' ', '\0']),
            _ => value.trim_matches([' ', '\0']),
        };
        *value = trimmed.to_owned();
    }
    if decoded.values.len() == 1 && decoded.values[0].is_empty() {
        decoded.values.clear();
    }
    Some(decoded)
}

/// Whether bytes of an unknown VR can be read as text: no control characters but those that text has, and the NUL
/// that pads a UID (a small number in two bytes would look the same as a letter so padded).
#[must_use]
pub fn looks_like_text(bytes: &[u8]) -> bool {
    if let Some(text) = bytes.strip_suffix(&[0]) {
        return !text.is_empty() && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    }
    bytes
        .iter()
        .all(|byte| *byte >= 0x20 && *byte != 0x7F || matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | 0x1B))
}

fn numbers(vr: VR, bytes: &[u8], layout: Layout) -> Option<Vec<String>> {
    if !matches!(
        vr,
        VR::AT | VR::SS | VR::US | VR::FL | VR::SL | VR::UL | VR::FD | VR::SV | VR::UV
    ) {
        return None;
    }
    if vr == VR::AT {
        let tag = |pair: &[u8]| {
            let word = |at: usize| layout.u16([pair[at], pair[at + 1]]);
            Tag(word(0), word(2)).to_string()
        };
        return Some(bytes.chunks_exact(4).map(tag).collect());
    }
    let number = |unit: &[u8]| {
        let mut little = [0; 8];
        little[..unit.len()].copy_from_slice(unit);
        if layout.is_big() {
            little[..unit.len()].reverse();
        }
        let [a, b, c, d, ..] = little;
        match vr {
            VR::US => u16::from_le_bytes([a, b]).to_string(),
            VR::SS => i16::from_le_bytes([a, b]).to_string(),
            VR::UL => u32::from_le_bytes([a, b, c, d]).to_string(),
            VR::SL => i32::from_le_bytes([a, b, c, d]).to_string(),
            VR::FL => f32::from_le_bytes([a, b, c, d]).to_string(),
            VR::UV => u64::from_le_bytes(little).to_string(),
            VR::SV => i64::from_le_bytes(little).to_string(),
            _ => f64::from_le_bytes(little).to_string(),
        }
    };
    Some(bytes.chunks_exact(unit(vr)).map(number).collect())
}

/// A number's little-endian bytes for a binary VR; `None` when the text is no number that the VR holds.
#[must_use]
pub fn binary(vr: VR, text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    Some(match vr {
        VR::US => text.parse::<u16>().ok()?.to_le_bytes().to_vec(),
        VR::SS => text.parse::<i16>().ok()?.to_le_bytes().to_vec(),
        VR::UL => text.parse::<u32>().ok()?.to_le_bytes().to_vec(),
        VR::SL => text.parse::<i32>().ok()?.to_le_bytes().to_vec(),
        VR::UV => text.parse::<u64>().ok()?.to_le_bytes().to_vec(),
        VR::SV => text.parse::<i64>().ok()?.to_le_bytes().to_vec(),
        VR::FL => text.parse::<f32>().ok()?.to_le_bytes().to_vec(),
        VR::FD => text.parse::<f64>().ok()?.to_le_bytes().to_vec(),
        // The parser of dicom-core slices by bytes.
        VR::AT if text.is_ascii() => {
            let tag: Tag = text.parse().ok()?;
            [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat()
        }
        _ => return None,
    })
}
