//! Synthetic instances by hand, the Part 10 files that real senders read, and what lies in a folder afterwards.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// An instance as a modality would make it.
#[derive(Clone, Debug)]
pub struct Object {
    pub class: String,
    pub sop: String,
    pub study: String,
    pub patient_name: String,
    pub patient_id: String,
    /// Further elements, in ascending order and between (0008,0060) and (0010,0010): descriptions and such.
    pub description: Option<String>,
    pub pixels: Vec<u8>,
    /// Left out when it is empty.
    pub accession: String,
    /// In place of all that.
    made: Option<Vec<u8>>,
}

impl Object {
    pub fn new(class: &str) -> Self {
        let number = unique();
        Self {
            class: class.to_owned(),
            sop: format!("1.2.826.0.1.3680043.10.3.{number}"),
            study: format!("1.2.826.0.1.3680043.10.3.{number}.9"),
            patient_name: "SYNTHETIC^TEST".to_owned(),
            patient_id: "SYN-1".to_owned(),
            description: None,
            pixels: (0..20_000_u64).map(|i| (i * 31 + number) as u8).collect(),
            accession: String::new(),
            made: None,
        }
    }

    /// The same with a data set that was made elsewhere; class and UID must be those of the data set.
    pub fn with_data(self, data: Vec<u8>) -> Self {
        Self {
            made: Some(data),
            ..self
        }
    }

    pub fn many(class: &str, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::new(class)).collect()
    }

    /// The data set in explicit little endian.
    pub fn data(&self) -> Vec<u8> {
        if let Some(data) = &self.made {
            return data.clone();
        }
        let mut out = Vec::new();
        element(&mut out, 0x0008, 0x0016, b"UI", self.class.as_bytes());
        element(&mut out, 0x0008, 0x0018, b"UI", self.sop.as_bytes());
        if !self.accession.is_empty() {
            element(&mut out, 0x0008, 0x0050, b"SH", self.accession.as_bytes());
        }
        element(
            &mut out,
            0x0008,
            0x0060,
            b"CS",
            if self.class == MR { b"MR" } else { b"CT" },
        );
        if let Some(text) = &self.description {
            element(&mut out, 0x0008, 0x1030, b"LO", text.as_bytes());
        }
        element(&mut out, 0x0010, 0x0010, b"PN", self.patient_name.as_bytes());
        element(&mut out, 0x0010, 0x0020, b"LO", self.patient_id.as_bytes());
        element(&mut out, 0x0020, 0x000d, b"UI", self.study.as_bytes());
        element(&mut out, 0x0020, 0x000e, b"UI", format!("{}.1", self.study).as_bytes());
        element(&mut out, 0x0028, 0x0002, b"US", &[1, 0]);
        element(&mut out, 0x7fe0, 0x0010, b"OW", &self.pixels);
        out
    }

    /// Writes the Part 10 file into `folder`, named by its UID.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let mut meta = Vec::new();
        element(&mut meta, 2, 1, b"OB", &[0, 1]);
        element(&mut meta, 2, 2, b"UI", self.class.as_bytes());
        element(&mut meta, 2, 3, b"UI", self.sop.as_bytes());
        element(&mut meta, 2, 0x10, b"UI", EXPLICIT.as_bytes());
        element(&mut meta, 2, 0x12, b"UI", b"1.2.826.0.1.3680043.10.3");
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        element(
            &mut file,
            2,
            0,
            b"UL",
            &u32::try_from(meta.len()).expect("short").to_le_bytes(),
        );
        file.extend_from_slice(&meta);
        file.extend_from_slice(&self.data());
        let path = folder.join(format!("{}.dcm", self.sop));
        std::fs::write(&path, file).expect("the test's directory is writable");
        path
    }
}

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u64::from(std::process::id()) * 1_000_000 + NEXT.fetch_add(1, Ordering::Relaxed)
}

fn element(out: &mut Vec<u8>, group: u16, number: u16, vr: &[u8; 2], value: &[u8]) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(vr);
    let length = value.len() + value.len() % 2;
    if matches!(vr, b"OB" | b"OW") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u32::try_from(length).expect("short").to_le_bytes());
    } else {
        out.extend_from_slice(&u16::try_from(length).expect("short").to_le_bytes());
    }
    out.extend_from_slice(value);
    if value.len() % 2 == 1 {
        out.push(if vr == b"UI" { 0 } else { b' ' });
    }
}

/// The data set of a Part 10 file: what follows the file meta information.
pub fn data_set_of(file: &[u8]) -> &[u8] {
    assert_eq!(&file[128..132], b"DICM", "a Part 10 file");
    assert_eq!(&file[132..140], &[2, 0, 0, 0, b'U', b'L', 4, 0], "a group length first");
    let length = u32::from_le_bytes(file[140..144].try_into().expect("four bytes"));
    &file[144 + length as usize..]
}

/// Every file below a folder.
pub fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_in(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Part 10 files below a folder by the SOP Instance UID of the file's name: their data sets. A file still being written
/// under another name is not one of them.
pub fn data_sets_in(folder: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for path in files_in(folder) {
        if path.extension().is_none_or(|extension| extension != "dcm") {
            continue;
        }
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let sop = stem.split('_').next().unwrap_or_default().to_owned();
        let file = std::fs::read(&path).expect("a file of the folder destination");
        found.entry(sop).or_default().push(data_set_of(&file).to_vec());
    }
    found
}

/// SHA-256 as hexadecimal digits, as the Python peers write it down.
pub fn sha256(data: &[u8]) -> String {
    // The one SHA-256 among our dependencies is that of the TLS provider.
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().expect("a TLS 1.3 suite").common.hash_provider.hash(data);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
