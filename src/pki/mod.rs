//! Layer 1: certificates, keys and revocation lists: read, judged, kept in force and replaced while the box runs. Both TLS sides
//! (`listener/tls`, `sender/tls`) stand on it; it knows no socket and no DICOM.
//!
//! Promises: what is in force changes only as a whole and only to something that works: a certificate whose key does not match
//! (yet), an empty bundle or a damaged list leaves the old in force, with a reason. No file's content reaches an error or a log.
//!
//! | file | holds |
//! | --- | --- |
//! | `files.rs`, `pem.rs` | one or several files; certificates, keys and lists in them |
//! | `facts.rs` | what stands in them, for people |
//! | `reason.rs` | why a handshake failed, in a word and a sentence |
//! | `trust.rs`, `check.rs` | whether a peer's certificate is believed, and if not, why exactly |
//! | `signed.rs`, `lists.rs`, `revocation.rs` | who signed what; which list counts; whether it revokes |
//! | `warnings.rs` | what can be said of them before any peer does |
//! | `material.rs`, `slot.rs` | everything of one `tls` table: read, in force, replaced |
//! | `config.rs` | `[certificates]` |
//! | `opening.rs` | the first bytes of a connection |
mod check;
pub mod config;
pub mod facts;
pub mod files;
mod lists;
pub mod material;
pub mod opening;
pub mod pem;
pub mod reason;
mod revocation;
mod signed;
pub mod slot;
pub mod trust;
mod warnings;

#[cfg(test)]
mod list_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use config::Config;
pub use facts::{Chain, Facts, Kind, hex};
pub use files::Files;
pub use material::{Material, Side, Sources, TlsError};
pub use pem::PemError;
pub use reason::{Failure, Reason, Shown};
pub use slot::{Refreshed, Role, Slot, SlotStatus};
pub use trust::{CrlPolicy, Finding, Trust};
pub use warnings::warnings;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::Arc;

/// The one cryptography provider; no process-wide default is needed.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// SHA-256, by the provider's own hash.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().map(|suite| suite.common.hash_provider.hash(bytes));
    let mut digest = [0; 32];
    // The suite is one of TLS 1.3 and its hash is SHA-256, by its name.
    digest.copy_from_slice(hash.expect("a TLS 1.3 suite").as_ref());
    digest
}

/// A fingerprint as it is written in configuration; `None` when it is not one.
#[must_use]
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b':' && !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 {
        bytes.try_into().ok()
    } else {
        None
    }
}
