//! Waystation: a DICOM routing appliance in which no scan is ever lost.
pub mod base;
pub mod dicom;
pub mod listener;
pub mod rehearse;
pub mod rules;
pub mod sender;
pub mod spool;
pub mod telemetry;
