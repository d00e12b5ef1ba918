//! Layer 0: what every room may use. Nothing here knows DICOM, a network or what lies on a disk.
pub mod clock;
pub mod dialect;
pub mod drain;
pub mod fault;
pub mod flushed;
pub mod limits;
pub mod names;
pub mod networks;
pub mod panics;
pub mod phi;
#[cfg(test)]
pub mod properties;
pub mod units;
pub mod whole;
