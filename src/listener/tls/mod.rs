//! TLS of a listener: what the peer speaks, the handshake within its deadline, and who the peer proved to be.
//!
//! Promises: TLS 1.3, or 1.2 with ECDHE and AEAD suites (PS3.15 B.12), no early data, no session tickets and no session
//! cache: every connection is verified anew against what is in force when it begins. A client certificate that is shown is
//! verified against `client_ca` and `client_crl`. It decides nothing: admission binds the identity to an AE title.
//! Neither names nor certificates are logged here.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | `[listeners.tls]` |
//! | `acceptor.rs` | the handshake |
//! | `verifier.rs` | the client's certificate, and what was found out about it |
mod acceptor;
mod verifier;

pub use crate::pki::{Failure, Reason, TlsError};
pub use acceptor::{Acceptor, Refusal, acceptor, identity};

use crate::pki::{CrlPolicy, Files, Side, Sources};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Whether a peer must show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// None is asked for.
    None,
    /// Asked for; a peer without one is let through to admission, one with a wrong one is not.
    Optional,
    #[default]
    Required,
}

/// `tls` of a listener.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PEM file with the listener's certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// PEM files with the CA certificates that sign client certificates.
    #[serde(default, skip_serializing_if = "Files::is_empty")]
    pub client_ca: Files,
    /// Files with the revocation lists of those authorities, PEM or DER.
    #[serde(default, skip_serializing_if = "Files::is_empty")]
    pub client_crl: Files,
    /// What is done with a client whose list is out of date.
    #[serde(default = "accept")]
    pub crl_expired: CrlPolicy,
    /// What is done with a client of whose CA there is no list.
    #[serde(default)]
    pub crl_missing: CrlPolicy,
}

fn accept() -> CrlPolicy {
    CrlPolicy::Accept
}

/// Who a peer proved to be by its verified certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// Its common name and DNS subject alternative names, at most `NAMES_MAX`.
    pub names: Vec<String>,
}

/// Names of one certificate that are kept.
const NAMES_MAX: usize = 64;

impl Config {
    /// The files that it names.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources {
            side: Side::Server {
                optional: self.client_certificate != ClientCertificate::Required,
            },
            certificate: Some(self.certificate.clone()),
            key: Some(self.key.clone()),
            ca: self.client_ca.clone(),
            crl: self.client_crl.clone(),
            crl_expired: self.crl_expired,
            crl_missing: self.crl_missing,
        }
    }

    /// What is wrong between its keys.
    fn check(&self) -> Result<(), TlsError> {
        match (self.client_certificate, self.client_ca.is_empty()) {
            (ClientCertificate::None, false) => Err(TlsError::UnusedClientCa),
            (ClientCertificate::Optional | ClientCertificate::Required, true) => Err(TlsError::NoClientCa),
            (ClientCertificate::None, true) | (_, false) => Ok(()),
        }
    }
}

/// Everything that is wrong with the files and keys of a configuration, each with its key: for `waystation check`.
#[must_use]
pub fn faults(config: &Config) -> Vec<(String, TlsError)> {
    let mut found = crate::pki::material::faults(&config.sources());
    found.extend(config.check().err().map(|error| ("client_ca".to_owned(), error)));
    found
}

#[cfg(test)]
mod tests;
