//! Layer 0: what every room may use. Nothing here knows DICOM, a disk or a network.
pub mod clock;
pub mod dialect;
pub mod drain;
pub mod fault;
pub mod limits;
pub mod names;
pub mod networks;
pub mod panics;
pub mod phi;
pub mod units;
