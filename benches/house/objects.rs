//! The instances that every bench sends: a report of 5 KB, a CT slice of 512 KiB, multi-frame images of 32 MiB and 1 GB.
//!
//! They are made once, in memory: a short head in explicit little endian with all that archives want, then noise. What differs
//! between two instances (SOP, series and study UID) has a fixed length, so that a sender changes it in place.
use super::params;
use std::sync::Arc;

/// Bytes of every UID that is changed in place.
pub const UID_LEN: usize = 44;
/// Pixels repeat after so much: a sender's memory stays small, and its cache has no part in a long object.
const NOISE: usize = 16 << 20;

/// A kind of instance.
#[derive(Clone)]
pub struct Kind {
    /// As the tables call it.
    pub name: String,
    /// Bytes of its data set.
    pub size: u64,
    pub class: &'static str,
    /// The data set before its last value's bytes.
    pub head: Vec<u8>,
    /// Where the UIDs stand in `head`.
    pub sop_at: usize,
    pub series_at: usize,
    pub study_at: usize,
    /// Bytes of the last value, taken from `noise`, again and again.
    pub tail: u64,
    pub noise: Arc<Vec<u8>>,
}

const SR: &str = "1.2.840.10008.5.1.4.1.1.88.11";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const US_MULTI: &str = "1.2.840.10008.5.1.4.1.1.3.1";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// A head and something behind it; and what a length of 32 bits can say, with the head.
const LEAST: u64 = 2 << 10;
const LONGEST: u64 = 4 << 30;

/// The kinds by the names of `SIZES`: `5k`, `512k`, `32m`, `1g`; any number with k, m or g is one.
///
/// # Panics
/// When the name is no size.
pub fn kind(name: &str) -> Kind {
    let lower = name.to_lowercase();
    let size = size(&lower).expect("a size");
    build(&lower, size)
}

/// Those that `SIZES` asks for.
pub fn kinds(otherwise: &str) -> Vec<Kind> {
    let names = params::words("SIZES", otherwise);
    for name in &names {
        if size(&name.to_lowercase()).is_none() {
            params::wrong(
                "SIZES",
                name,
                "whole numbers with k, m or g, from 2k to 4095m, as in 5k,512k,32m,1g",
            );
        }
    }
    names.iter().map(|name| kind(name)).collect()
}

/// Bytes: a number with a unit, within what is room for a data set and for its length.
fn size(name: &str) -> Option<u64> {
    let units = [("k", 1_u64 << 10), ("m", 1 << 20), ("g", 1 << 30)];
    let found = units
        .iter()
        .find_map(|(unit, bytes)| Some((name.strip_suffix(unit)?, bytes)));
    let (number, unit) = found?;
    let size = number.parse::<u64>().ok()?.checked_mul(*unit)?;
    (LEAST..LONGEST).contains(&size).then_some(size)
}

/// A UID of `UID_LEN` characters.
pub fn uid(number: u64) -> String {
    let uid = format!("1.2.826.0.1.3680043.10.3.1{number:018}");
    assert_eq!(uid.len(), UID_LEN, "a number of 18 digits");
    uid
}

fn build(name: &str, size: u64) -> Kind {
    let (class, modality) = match size {
        ..=65_536 => (SR, "SR"),
        65_537..=4_194_304 => (CT, "CT"),
        _ => (US_MULTI, "US"),
    };
    let mut set = Set(Vec::with_capacity(4_096));
    set.text(0x0008, 0x0005, b"CS", "ISO_IR 100");
    set.text(0x0008, 0x0016, b"UI", class);
    let sop_at = set.text(0x0008, 0x0018, b"UI", &uid(0));
    set.text(0x0008, 0x0020, b"DA", "20260102");
    set.text(0x0008, 0x0030, b"TM", "101500");
    set.text(0x0008, 0x0050, b"SH", "00012345");
    set.text(0x0008, 0x0060, b"CS", modality);
    set.text(0x0008, 0x0070, b"LO", "Waystation synthetic");
    set.text(0x0008, 0x1030, b"LO", "Synthetic study");
    set.text(0x0010, 0x0010, b"PN", "SYNTHETIC^BENCH");
    set.text(0x0010, 0x0020, b"LO", "000042");
    set.text(0x0010, 0x0030, b"DA", "19700101");
    set.text(0x0010, 0x0040, b"CS", "O");
    let study_at = set.text(0x0020, 0x000d, b"UI", &uid(0));
    let series_at = set.text(0x0020, 0x000e, b"UI", &uid(0));
    set.text(0x0020, 0x0010, b"SH", "1");
    set.text(0x0020, 0x0011, b"IS", "1");
    set.text(0x0020, 0x0013, b"IS", "1");
    if modality == "SR" {
        return report(set, name, size, class, [sop_at, series_at, study_at]);
    }
    // 512 x 512 with 16 bits is 512 KiB a frame.
    let frame = 512 * 512 * 2;
    let frames = (size / frame).max(1);
    let tail = (size.min(frames * frame)) & !1;
    set.number(0x0028, 0x0002, 1);
    set.text(0x0028, 0x0004, b"CS", "MONOCHROME2");
    if frames > 1 {
        set.text(0x0028, 0x0008, b"IS", &frames.to_string());
    }
    for (element, value) in [
        (0x0010, 512),
        (0x0011, 512),
        (0x0100, 16),
        (0x0101, 16),
        (0x0102, 15),
        (0x0103, 0),
    ] {
        set.number(0x0028, element, value);
    }
    set.header(0x7fe0, 0x0010, b"OW", u32::try_from(tail).expect("at most 4 GiB"));
    finish(set, name, class, [sop_at, series_at, study_at], tail)
}

/// A report: its last value is a text of what is left.
fn report(mut set: Set, name: &str, size: u64, class: &'static str, at: [usize; 3]) -> Kind {
    set.text(0x0040, 0xa040, b"CS", "TEXT");
    let tail = size.saturating_sub(set.0.len() as u64 + 12).max(2) & !1;
    set.header(0x0040, 0xa160, b"UT", u32::try_from(tail).expect("a short text"));
    finish(set, name, class, at, tail)
}

fn finish(set: Set, name: &str, class: &'static str, [sop_at, series_at, study_at]: [usize; 3], tail: u64) -> Kind {
    let length = usize::try_from(tail).unwrap_or(usize::MAX).min(NOISE);
    let is_text = class == SR;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = (0..length).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if is_text {
            b'a' + (state % 26) as u8
        } else {
            state as u8
        }
    });
    Kind {
        name: name.to_owned(),
        size: set.0.len() as u64 + tail,
        class,
        head: set.0,
        sop_at,
        series_at,
        study_at,
        tail,
        noise: Arc::new(noise.collect()),
    }
}

struct Set(Vec<u8>);

impl Set {
    /// Adds a value, padded to an even length; answers where it stands.
    fn text(&mut self, group: u16, element: u16, vr: &[u8; 2], value: &str) -> usize {
        let pad = if vr == b"UI" { 0 } else { b' ' };
        let even = value.len() + value.len() % 2;
        self.header(group, element, vr, u32::try_from(even).expect("a short value"));
        let at = self.0.len();
        self.0.extend_from_slice(value.as_bytes());
        self.0.resize(at + even, pad);
        at
    }

    fn number(&mut self, group: u16, element: u16, value: u16) {
        self.header(group, element, b"US", 2);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn header(&mut self, group: u16, element: u16, vr: &[u8; 2], length: u32) {
        self.0.extend_from_slice(&group.to_le_bytes());
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0.extend_from_slice(vr);
        if matches!(vr, b"OW" | b"UT") {
            self.0.extend_from_slice(&[0, 0]);
            self.0.extend_from_slice(&length.to_le_bytes());
        } else {
            let length = u16::try_from(length).expect("a short value");
            self.0.extend_from_slice(&length.to_le_bytes());
        }
    }
}

/// Part 10 files of a kind, for senders that read files: `count` of them in `folder`.
pub fn write_files(kind: &Kind, folder: &std::path::Path, count: u64) {
    use std::io::Write as _;
    std::fs::create_dir_all(folder).expect("writable");
    for number in 0..count {
        let (head, sop) = numbered(kind, number, 0);
        let meta = waystation::dicom::part10::FileMeta {
            sop_class: waystation::base::names::Uid::parse(kind.class).expect("a UID"),
            sop_instance: waystation::base::names::Uid::parse(&sop).expect("a UID"),
            transfer_syntax: waystation::base::names::Uid::parse(EXPLICIT).expect("a UID"),
            source_ae: None,
            private: None,
        };
        let mut file = std::fs::File::create(folder.join(format!("{number:08}.dcm"))).expect("writable");
        file.write_all(&meta.write()).expect("written");
        file.write_all(&head).expect("written");
        let mut left = kind.tail;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(kind.noise.len());
            file.write_all(&kind.noise[..now]).expect("written");
            left -= now as u64;
        }
    }
}

/// The head of instance `number` of series `series`, and its SOP Instance UID.
pub fn numbered(kind: &Kind, number: u64, series: u64) -> (Vec<u8>, String) {
    let mut head = kind.head.clone();
    let sop = uid(series * 1_000_000_000 + number + 1_000);
    set_uid(&mut head, kind.sop_at, &sop);
    set_uid(&mut head, kind.series_at, &uid(series * 10 + 3));
    set_uid(&mut head, kind.study_at, &uid(series * 10 + 2));
    (head, sop)
}

pub fn set_uid(bytes: &mut [u8], at: usize, uid: &str) {
    bytes[at..at + UID_LEN].copy_from_slice(uid.as_bytes());
}
