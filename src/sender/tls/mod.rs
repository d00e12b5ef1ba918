//! TLS to a destination.
//!
//! Promises: TLS 1.3, or 1.2 with ECDHE and AEAD suites (PS3.15 B.12, RFC 9325; rustls has no others), no early data and no
//! session resumption: every connection is verified anew against what is in force when it begins. The peer is authenticated by
//! CAs that the site names or by its certificate's fingerprint, never by the machine's list of public CAs; every handshake
//! has a deadline. No error carries a name from a certificate.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | `[destinations.tls]` |
//! | `connector.rs` | the handshake, and what a peer that fails it speaks |
//! | `verifier.rs` | the server's certificate and our own in one handshake |
mod connector;
mod verifier;

pub use crate::pki::{Failure, Failure as HandshakeError, Reason, TlsError, parse_fingerprint};
pub(in crate::sender) use connector::hello;
pub use connector::{Connector, connector, connector_of, refusal};

use crate::pki::{CrlPolicy, Files, Side, Sources};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `tls` of a destination: how the peer is known, and how this box shows who it is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// PEM files with the CA certificates that may have signed the destination's certificate.
    #[serde(skip_serializing_if = "Files::is_empty")]
    pub ca: Files,
    /// Files with the revocation lists of those authorities, PEM or DER.
    #[serde(skip_serializing_if = "Files::is_empty")]
    pub crl: Files,
    /// What is done when the list for the destination's certificate is out of date.
    pub crl_expired: CrlPolicy,
    /// What is done when there is no list of the CA of its certificate.
    pub crl_missing: CrlPolicy,
    /// PEM file with this box's own certificate and its chain, for destinations that ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the key of `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name that must stand in the destination's certificate, when it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// SHA-256 of the destination's certificate (DER), 64 hexadecimal digits with or without colons; or a list of them. Only such a
    /// certificate is accepted; without `ca` its name and dates do not matter then.
    #[serde(skip_serializing_if = "Fingerprints::is_empty")]
    pub fingerprint: Fingerprints,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ca: Files::default(),
            crl: Files::default(),
            crl_expired: CrlPolicy::Accept,
            crl_missing: CrlPolicy::default(),
            certificate: None,
            key: None,
            server_name: None,
            fingerprint: Fingerprints::default(),
        }
    }
}

/// One fingerprint or several: that of the old and of the new certificate, side by side.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Written", into = "Written")]
pub struct Fingerprints(pub Vec<String>);

#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged, expecting = "a fingerprint, or a list of them in brackets")]
enum Written {
    One(String),
    Many(Vec<String>),
}

impl From<Written> for Fingerprints {
    fn from(written: Written) -> Self {
        match written {
            Written::One(one) => Self(vec![one]),
            Written::Many(many) => Self(many),
        }
    }
}

impl From<Fingerprints> for Written {
    fn from(mut all: Fingerprints) -> Self {
        match all.0.len() {
            1 => Self::One(all.0.remove(0)),
            _ => Self::Many(all.0),
        }
    }
}

impl Fingerprints {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Config {
    /// The files that it names.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources {
            side: Side::Client,
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            ca: self.ca.clone(),
            crl: self.crl.clone(),
            crl_expired: self.crl_expired,
            crl_missing: self.crl_missing,
        }
    }

    /// The fingerprints, parsed.
    fn pinned(&self) -> Result<Vec<[u8; 32]>, TlsError> {
        let parse = |text: &String| parse_fingerprint(text).ok_or(TlsError::Fingerprint);
        self.fingerprint.0.iter().map(parse).collect()
    }

    fn name(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        let name = self.server_name.clone().map(ServerName::try_from).transpose();
        name.map_err(|_| TlsError::ServerName)
    }

    /// What is wrong between its keys.
    fn check(&self) -> Vec<(&'static str, TlsError)> {
        let mut found = Vec::new();
        if self.ca.is_empty() && self.fingerprint.is_empty() {
            found.push(("", TlsError::NoTrust));
        }
        found.extend(self.pinned().err().map(|error| ("fingerprint", error)));
        found.extend(self.name().err().map(|error| ("server_name", error)));
        found
    }
}

/// Everything that is wrong with the files and keys of a configuration, each with its key: for `waystation check`.
#[must_use]
pub fn faults(config: &Config) -> Vec<(String, TlsError)> {
    let mut found = crate::pki::material::faults(&config.sources());
    let own = config.check().into_iter();
    found.extend(own.map(|(key, error)| (key.to_owned(), error)));
    found
}
