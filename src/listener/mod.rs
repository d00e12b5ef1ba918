//! Layer 4: who may send, and the receiving side of an association. Hands every data set to `ingest`; knows no lane.
pub mod accept;
pub mod admission;
pub mod commitment;
pub mod config;
pub mod negotiate;
pub mod passed;
pub mod pending;
pub mod store;
pub mod tls;

pub use config::{Config, Limits, Repeat, SourceConfig};
