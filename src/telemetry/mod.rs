//! Layer 1: what the box tells about itself. Labels come only from configuration or enums, never from the wire.
pub mod metrics;
