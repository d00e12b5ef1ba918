//! Layer 1: what the box says about itself.
mod exemplars;
pub mod log;
pub mod metrics;
pub mod openmetrics;
mod skews;
