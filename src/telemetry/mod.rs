//! Layer 1: what the box says about itself.
pub mod log;
pub mod metrics;
