//! Synthetic studies, hand-encoded and deterministic: the same seed gives the same bytes. Called by the demo and tests.
//!
//! Every Type 1 attribute of the modules used is there, names say that they are synthetic, UIDs stand under 2.25.
//! CT is explicit little endian, MR implicit, US multi-frame (every second instance encapsulated), SR explicit without
//! pixels. The encapsulated frames look like JPEG from outside (SOI, EOI) and hold noise: they are to be carried, not shown.
use crate::base::names::{AeTitle, Uid};
use crate::dicom::part10::FileMeta;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// What a synthetic study comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Modality {
    Ct,
    Mr,
    Us,
    Sr,
}

impl Modality {
    pub const ALL: [Self; 4] = [Self::Ct, Self::Mr, Self::Us, Self::Sr];

    /// The value of Modality (0008,0060).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Ct => "CT",
            Self::Mr => "MR",
            Self::Us => "US",
            Self::Sr => "SR",
        }
    }

    /// The SOP class of its instances.
    #[must_use]
    pub fn sop_class(self) -> &'static str {
        match self {
            Self::Ct => "1.2.840.10008.5.1.4.1.1.2",
            Self::Mr => "1.2.840.10008.5.1.4.1.1.4",
            Self::Us => "1.2.840.10008.5.1.4.1.1.3.1",
            Self::Sr => "1.2.840.10008.5.1.4.1.1.88.11",
        }
    }
}

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";

/// Frames of a US instance.
const FRAMES: u16 = 8;

/// One study as Part 10 files: (file name, bytes). `size` is the number of rows and columns of an image, or of the text
/// items of a report.
#[must_use]
pub fn make_study(seed: u64, modality: Modality, instances: u16, size: u16) -> Vec<(String, Vec<u8>)> {
    let study = Study::new(seed, modality);
    (1..=instances)
        .map(|number| {
            let name = format!("{}-{seed:04}-{number:04}.dcm", modality.code().to_lowercase());
            (name, study.file(number, size))
        })
        .collect()
}

struct Study {
    modality: Modality,
    seed: u64,
    study: String,
    series: String,
    frame: String,
}

impl Study {
    fn new(seed: u64, modality: Modality) -> Self {
        let mut random = random(seed, modality, 0);
        Self {
            modality,
            seed,
            study: uid(&mut random),
            series: uid(&mut random),
            frame: uid(&mut random),
        }
    }

    fn file(&self, number: u16, size: u16) -> Vec<u8> {
        let mut random = random(self.seed, self.modality, number);
        let syntax = match self.modality {
            Modality::Mr => IMPLICIT,
            Modality::Us if number.is_multiple_of(2) => JPEG_BASELINE,
            Modality::Ct | Modality::Us | Modality::Sr => EXPLICIT,
        };
        let instance = uid(&mut random);
        let mut set = DataSet::new(syntax != IMPLICIT);
        self.common(&mut set, &instance);
        match self.modality {
            Modality::Sr => self.report(&mut set, number, size),
            _ => self.image(&mut set, number, size, syntax, &mut random),
        }
        let meta = FileMeta {
            sop_class: Uid::known(self.modality.sop_class()),
            // Digits and dots, 44 characters at most.
            sop_instance: Uid::parse(&instance).expect("a UID under 2.25"),
            transfer_syntax: Uid::known(syntax),
            source_ae: AeTitle::parse(&format!("{}1", self.modality.code())).ok(),
            private: None,
        };
        let mut file = meta.write();
        file.append(&mut set.bytes);
        file
    }

    /// Patient, study, series and equipment: groups 0008 and 0010.
    fn common(&self, set: &mut DataSet, instance: &str) {
        let code = self.modality.code();
        set.text(0x0008_0005, "CS", "ISO_IR 100");
        if self.modality != Modality::Sr {
            set.text(0x0008_0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
        }
        set.text(0x0008_0016, "UI", self.modality.sop_class());
        set.text(0x0008_0018, "UI", instance);
        set.text(0x0008_0020, "DA", "20260102");
        set.text(0x0008_0023, "DA", "20260102");
        set.text(0x0008_0030, "TM", "101500");
        set.text(0x0008_0033, "TM", "101501");
        set.text(0x0008_0050, "SH", &format!("{}", self.seed % 100_000));
        set.text(0x0008_0060, "CS", code);
        set.text(0x0008_0070, "LO", "Waystation synthetic");
        set.text(0x0008_0090, "PN", "");
        set.text(0x0008_1010, "SH", &format!("{code} ROOM"));
        set.text(0x0008_1030, "LO", "Synthetic study");
        if self.modality == Modality::Sr {
            set.sequence(0x0008_1111, &[]);
        }
        set.text(
            0x0010_0010,
            "PN",
            &format!("SYNTHETIC^{code}^{:04}", self.seed % 10_000),
        );
        set.text(0x0010_0020, "LO", &format!("{:06}", self.seed % 1_000_000));
        set.text(0x0010_0030, "DA", "19700101");
        set.text(0x0010_0040, "CS", "O");
    }

    /// Groups 0018, 0020, 0028 and the pixels.
    fn image(&self, set: &mut DataSet, number: u16, size: u16, syntax: &str, random: &mut StdRng) {
        match self.modality {
            Modality::Ct => {
                set.text(0x0018_0050, "DS", "1.0");
                set.text(0x0018_0060, "DS", "120");
            }
            Modality::Mr => {
                set.text(0x0018_0020, "CS", "SE");
                set.text(0x0018_0021, "CS", "NONE");
                set.text(0x0018_0022, "CS", "");
                set.text(0x0018_0023, "CS", "2D");
                set.text(0x0018_0050, "DS", "1.0");
                set.text(0x0018_0080, "DS", "500");
                set.text(0x0018_0081, "DS", "15");
                set.text(0x0018_0091, "IS", "1");
            }
            Modality::Us => set.text(0x0018_1063, "DS", "40"),
            Modality::Sr => {}
        }
        self.identifiers(set, number);
        if self.modality != Modality::Us {
            set.text(0x0020_0032, "DS", &format!("-100\\-100\\{number}"));
            set.text(0x0020_0037, "DS", "1\\0\\0\\0\\1\\0");
            set.text(0x0020_0052, "UI", &self.frame);
            set.text(0x0020_1040, "LO", "");
        }
        self.pixel_module(set, size, syntax);
        let mut frame = vec![0; usize::from(size) * usize::from(size)];
        let is_wide = self.modality != Modality::Us;
        if syntax == JPEG_BASELINE {
            set.encapsulated((0..FRAMES).map(|_| jpeg_like(random, usize::from(size))));
        } else if is_wide {
            let pixels: Vec<u8> = frame
                .iter()
                .flat_map(|_| random.random_range(0..4096_u16).to_le_bytes())
                .collect();
            set.put(0x7fe0_0010, "OW", &pixels);
        } else {
            let mut pixels = Vec::new();
            for _ in 0..FRAMES {
                random.fill_bytes(&mut frame);
                pixels.extend_from_slice(&frame);
            }
            set.put(0x7fe0_0010, "OB", &pixels);
        }
    }

    fn identifiers(&self, set: &mut DataSet, number: u16) {
        set.text(0x0020_000d, "UI", &self.study);
        set.text(0x0020_000e, "UI", &self.series);
        set.text(0x0020_0010, "SH", "1");
        set.text(0x0020_0011, "IS", "1");
        if self.modality == Modality::Ct {
            set.text(0x0020_0012, "IS", "1");
        }
        set.text(0x0020_0013, "IS", &number.to_string());
    }

    fn pixel_module(&self, set: &mut DataSet, size: u16, syntax: &str) {
        let is_wide = self.modality != Modality::Us;
        set.number(0x0028_0002, 1);
        set.text(0x0028_0004, "CS", "MONOCHROME2");
        if !is_wide {
            set.text(0x0028_0008, "IS", &FRAMES.to_string());
            set.put(0x0028_0009, "AT", &[0x18, 0, 0x63, 0x10]);
        }
        set.number(0x0028_0010, size);
        set.number(0x0028_0011, size);
        if is_wide {
            set.text(0x0028_0030, "DS", "0.5\\0.5");
        }
        let (allocated, stored) = if is_wide { (16, 12) } else { (8, 8) };
        set.number(0x0028_0100, allocated);
        set.number(0x0028_0101, stored);
        set.number(0x0028_0102, stored - 1);
        set.number(0x0028_0103, 0);
        if self.modality == Modality::Ct {
            set.text(0x0028_1052, "DS", "-1024");
            set.text(0x0028_1053, "DS", "1");
        }
        if syntax == JPEG_BASELINE {
            set.text(0x0028_2110, "CS", "01");
            set.text(0x0028_2112, "DS", "10");
        }
    }

    /// A Basic Text SR: a container with text items.
    fn report(&self, set: &mut DataSet, number: u16, items: u16) {
        self.identifiers(set, number);
        set.text(0x0040_a040, "CS", "CONTAINER");
        set.sequence(0x0040_a043, &[code("121070", "DCM", "Findings")]);
        set.text(0x0040_a050, "CS", "SEPARATE");
        set.sequence(0x0040_a372, &[]);
        set.text(0x0040_a491, "CS", "PARTIAL");
        set.text(0x0040_a493, "CS", "UNVERIFIED");
        let content: Vec<DataSet> = (1..=items)
            .map(|line| {
                let mut item = DataSet::new(true);
                item.text(0x0040_a010, "CS", "CONTAINS");
                item.text(0x0040_a040, "CS", "TEXT");
                item.sequence(0x0040_a043, &[code("121071", "DCM", "Finding")]);
                item.text(
                    0x0040_a160,
                    "UT",
                    &format!("Synthetic finding {line}: nothing here is about anybody."),
                );
                item
            })
            .collect();
        set.sequence(0x0040_a730, &content);
    }
}

fn random(seed: u64, modality: Modality, number: u16) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..10].copy_from_slice(modality.code().as_bytes());
    key[10..12].copy_from_slice(&number.to_le_bytes());
    StdRng::from_seed(key)
}

fn uid(random: &mut StdRng) -> String {
    format!("2.25.{}", random.random::<u128>())
}

/// SOI, noise without marker bytes, EOI; of even length.
fn jpeg_like(random: &mut StdRng, size: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xd8];
    frame.extend((0..size * size / 8 * 2).map(|_| random.random_range(0..0xff_u8)));
    frame.extend_from_slice(&[0xff, 0xd9]);
    frame
}

/// An item of a code sequence (PS3.3 table 8.8-1).
fn code(value: &str, scheme: &str, meaning: &str) -> DataSet {
    let mut item = DataSet::new(true);
    item.text(0x0008_0100, "SH", value);
    item.text(0x0008_0102, "SH", scheme);
    item.text(0x0008_0104, "LO", meaning);
    item
}

/// Elements as bytes, in the order they are put: the caller keeps it ascending.
struct DataSet {
    explicit: bool,
    bytes: Vec<u8>,
}

impl DataSet {
    fn new(explicit: bool) -> Self {
        Self {
            explicit,
            bytes: Vec::new(),
        }
    }

    fn header(&mut self, tag: u32, vr: &str, length: u32) {
        self.tag(tag);
        if self.explicit {
            self.bytes.extend_from_slice(vr.as_bytes());
            if !matches!(vr, "OB" | "OW" | "SQ" | "UN" | "UT") {
                // Short values of this file: far below 64 KiB.
                self.bytes
                    .extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
                return;
            }
            self.bytes.extend_from_slice(&[0, 0]);
        }
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }

    fn tag(&mut self, tag: u32) {
        let [e0, e1, g0, g1] = tag.to_le_bytes();
        self.bytes.extend_from_slice(&[g0, g1, e0, e1]);
    }

    fn put(&mut self, tag: u32, vr: &str, value: &[u8]) {
        let pad = value.len() % 2;
        self.header(tag, vr, length(value.len() + pad));
        self.bytes.extend_from_slice(value);
        if pad == 1 {
            self.bytes.push(if matches!(vr, "UI" | "OB" | "OW") { 0 } else { b' ' });
        }
    }

    fn text(&mut self, tag: u32, vr: &str, value: &str) {
        self.put(tag, vr, value.as_bytes());
    }

    fn number(&mut self, tag: u32, value: u16) {
        self.put(tag, "US", &value.to_le_bytes());
    }

    fn sequence(&mut self, tag: u32, items: &[Self]) {
        let total: usize = items.iter().map(|item| item.bytes.len() + 8).sum();
        self.header(tag, "SQ", length(total));
        for item in items {
            self.item(&item.bytes);
        }
    }

    fn item(&mut self, bytes: &[u8]) {
        self.tag(0xfffe_e000);
        self.bytes.extend_from_slice(&length(bytes.len()).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Encapsulated pixel data: an empty basic offset table, one fragment for each frame.
    fn encapsulated(&mut self, frames: impl Iterator<Item = Vec<u8>>) {
        self.header(0x7fe0_0010, "OB", u32::MAX);
        self.item(&[]);
        for frame in frames {
            self.item(&frame);
        }
        self.tag(0xfffe_e0dd);
        self.bytes.extend_from_slice(&[0; 4]);
    }
}

fn length(bytes: usize) -> u32 {
    // The largest image of a u16 matrix is 8 GiB, which no caller asks for; its length would be cut, not its bytes.
    u32::try_from(bytes).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::Tag;
    use std::io::Cursor;

    #[test]
    fn every_instance_can_be_read_and_says_that_it_is_synthetic() {
        for modality in Modality::ALL {
            let files = make_study(7, modality, 3, 32);
            assert_eq!(files.len(), 3);
            let mut instances = std::collections::BTreeSet::new();
            for (name, bytes) in &files {
                let object = dicom_object::from_reader(Cursor::new(bytes)).unwrap_or_else(|e| panic!("{name}: {e}"));
                let text = |tag| object.element(tag).unwrap().to_str().unwrap().trim().to_owned();
                assert!(text(Tag(0x0010, 0x0010)).starts_with("SYNTHETIC^"));
                assert_eq!(text(Tag(0x0008, 0x0060)), modality.code());
                assert_eq!(text(Tag(0x0008, 0x0016)).trim_end_matches('\0'), modality.sop_class());
                assert_eq!(
                    object.meta().media_storage_sop_class_uid().trim_end_matches('\0'),
                    modality.sop_class()
                );
                instances.insert(text(Tag(0x0008, 0x0018)));
                let has_pixels = object.element(Tag(0x7fe0, 0x0010)).is_ok();
                assert_eq!(has_pixels, modality != Modality::Sr);
            }
            assert_eq!(instances.len(), 3, "every instance has its own UID");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        for modality in Modality::ALL {
            assert!(make_study(1, modality, 2, 16) == make_study(1, modality, 2, 16));
            assert!(make_study(1, modality, 1, 16) != make_study(2, modality, 1, 16));
        }
    }
}
