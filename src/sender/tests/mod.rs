//! Facts about the sender, with a scripted archive over TCP and a reader in memory.
pub(crate) mod archive;
mod contexts;
mod delivery;
mod files;
mod reach;
mod window;

use super::payload::{PayloadReader, ReadFault};
use super::{Config, Job};
use crate::base::names::{AeTitle, InstanceId, JobId, Uid};
use crate::dicom::dimse::Priority;
use bytes::Bytes;
use std::collections::VecDeque;

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

/// A job for instance number `number` of the CT class.
pub(crate) fn job(number: u64) -> Job {
    Job {
        id: JobId(number),
        instance: InstanceId::new(1, number),
        sop_class: uid(CT),
        sop_instance: uid(&format!("1.2.3.{number}")),
        transfer_syntax: uid(EXPLICIT),
        source_ae: AeTitle::parse("MODALITY").unwrap(),
        plan: Bytes::new(),
        priority: Priority::Medium,
    }
}

/// A payload in memory, in pieces, with what may go wrong.
#[derive(Default)]
pub(crate) struct Memory {
    length: u64,
    pieces: VecDeque<Bytes>,
    all: VecDeque<Bytes>,
    /// The checksum at the end is wrong.
    pub corrupt: bool,
    /// Reading fails after the pieces.
    pub unreadable: bool,
}

impl Memory {
    pub(crate) fn new(bytes: &[u8], piece: usize) -> Self {
        let pieces: VecDeque<Bytes> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        Self {
            length: bytes.len() as u64,
            all: pieces.clone(),
            pieces,
            ..Self::default()
        }
    }
}

impl PayloadReader for Memory {
    fn length(&self) -> u64 {
        self.length
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ReadFault> {
        match self.pieces.pop_front() {
            None if self.unreadable => Err(ReadFault::Unreadable("I/O error".to_owned())),
            piece => Ok(piece),
        }
    }

    fn rewind(&mut self) {
        self.pieces = self.all.clone();
    }

    fn verify(&mut self) -> Result<(), ReadFault> {
        match self.corrupt {
            true => Err(ReadFault::Corrupt),
            false => Ok(()),
        }
    }
}

/// An explicit little endian data set: class, instance, study, series, patient, and `pixels` bytes of pixel data.
pub(crate) fn data_set(instance: &str, pixels: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (group, element, vr, value) in [
        (0x0008, 0x0016, b"UI", CT),
        (0x0008, 0x0018, b"UI", instance),
        (0x0010, 0x0020, b"LO", "12345"),
        (0x0020, 0x000D, b"UI", "1.2.9"),
        (0x0020, 0x000E, b"UI", "1.2.9.1"),
    ] {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        out.extend_from_slice(&u16::to_le_bytes(group));
        out.extend_from_slice(&u16::to_le_bytes(element));
        out.extend_from_slice(vr);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        out.extend_from_slice(&value);
    }
    if pixels > 0 {
        out.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
        out.extend_from_slice(&u32::try_from(pixels).unwrap().to_le_bytes());
        out.extend((0..pixels).map(|n| u8::try_from(n % 251).unwrap()));
    }
    out
}

/// A destination with short times, for an archive on this port.
pub(crate) fn config(name: &str, port: u16, more: &str) -> Config {
    let text = format!(
        "kind = \"dicom\"\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\ncalled_ae = \"VNA\"\n\
         calling_ae = \"WAY\"\nidle = \"300ms\"\nprobe = \"100ms\"\nstuck = \"5s\"\n\
         retry = {{ first = \"40ms\", max = \"400ms\", jitter = 0.2 }}\n\
         timeouts = {{ connect = \"1s\", association = \"1s\", response = \"1s\", transfer = \"1s\", release = \"500ms\" }}\n{more}"
    );
    toml::from_str(&text).unwrap()
}
