//! The spool: where an instance is safe. Layer 2; knows neither DICOM nor rules: a plan is opaque bytes to it.
//!
//! Payloads are DICOM Part 10 files (`payload.rs`), everything else is RocksDB (`db.rs`); one synced batch is the commit point (`commit.rs`).
use crate::base::clock::{Clock, Wall};
use crate::base::names::{AeTitle, DestinationId, InstanceId, JobId, SourceId, Uid};
use crate::base::units::{Share, Size};
use std::path::PathBuf;

/// `[spool]` of the configuration.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub path: PathBuf,
    /// Below this much free space (bytes and inodes) new instances are refused with A700.
    pub low_water: Share,
    /// Below this the index itself stops taking writes (critical mark).
    pub critical: Size,
    /// Size of the ballast file, which is dropped to restart and drain on a full disk.
    pub ballast: Size,
    /// Delivered instances are kept until free space falls below this.
    pub cache_high_water: Share,
}

/// What is known of an instance, stored with it for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    pub id: InstanceId,
    pub source: SourceId,
    pub calling_ae: AeTitle,
    pub called_ae: AeTitle,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub study: Option<Uid>,
    pub transfer_syntax: Uid,
    pub arrival: Wall,
    /// Bytes of the data set as it arrived.
    pub length: u64,
    /// BLAKE3 of the data set as it arrived.
    pub digest: [u8; 32],
    pub rule_epoch: u64,
}

/// What a payload file's header must say, known before the data set arrives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arriving {
    pub source: SourceId,
    pub calling_ae: AeTitle,
    pub called_ae: AeTitle,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
}

/// Urgency of a job: smaller goes first, waiting jobs age upwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Stat = 0,
    High = 1,
    Routine = 2,
    Low = 3,
}

/// A delivery that was decided on: becomes a job in the commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewJob {
    pub destination: DestinationId,
    pub priority: Priority,
    /// Opaque to the spool; empty when nothing is changed.
    pub plan: Vec<u8>,
    /// Not before this time.
    pub due: Wall,
    /// Held from the start, with this reason.
    pub hold: Option<String>,
}
