//! What stands in a certificate or revocation list, for `waystation cert status`, metrics and `waystation check`.
//! Names from certificates are shown to an operator who asks for them; no log line and no metric carries them.
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// What a file's entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The box's own.
    #[default]
    Certificate,
    /// Between the box's own certificate and its CA; sent along.
    Intermediate,
    Ca,
    Crl,
}

impl Kind {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Intermediate => "intermediate",
            Self::Ca => "ca",
            Self::Crl => "crl",
        }
    }
}

/// Whether the box's own certificate comes with all that a peer needs to verify it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    Complete,
    /// An intermediate that is known from another file is not sent along.
    Incomplete,
    /// A certificate of the file does not follow on the one before it.
    Disordered,
    /// Its issuer stands in no file that the configuration names: right when peers trust it, wrong when it is an intermediate.
    Unknown,
}

impl Chain {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Disordered => "disordered",
            Self::Unknown => "unknown",
        }
    }
}

/// One certificate or list.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub kind: Kind,
    /// The key of the configuration that names the file, and the file.
    pub key: String,
    pub file: String,
    pub subject: String,
    pub issuer: String,
    pub sans: Vec<String>,
    pub serial: String,
    /// SHA-256 of the DER bytes, lower-case hexadecimal.
    pub fingerprint: String,
    /// Seconds since 1970. Of a list: when it was made, and when the next one is due.
    pub not_before: i64,
    pub not_after: Option<i64>,
    /// The public key, as `RSA 2048`.
    pub public_key: String,
    /// Of the box's own certificate: whether the key file holds its key.
    pub key_matches: Option<bool>,
    pub chain: Option<Chain>,
    /// Entries of a list.
    pub revoked: Option<u64>,
    /// A newer list of the same key of the same CA stands beside this one, and counts instead.
    pub superseded: bool,
    /// Of a list in an authority's name that does not say that it is of another key: no authority has signed it.
    pub stray: bool,
    /// Of an authority, where there are lists: whether its key has signed one.
    pub has_list: Option<bool>,
    /// Why the file, or an entry of it, cannot be read.
    pub error: Option<String>,
}

impl Facts {
    /// What a certificate says.
    #[must_use]
    pub fn of_certificate(kind: Kind, der: &[u8]) -> Self {
        let facts = Self {
            kind,
            fingerprint: hex(&super::sha256(der)),
            ..Self::default()
        };
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            return Self {
                error: Some("is no certificate that can be read".to_owned()),
                ..facts
            };
        };
        Self {
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            sans: sans(&parsed),
            serial: parsed.raw_serial_as_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: Some(parsed.validity().not_after.timestamp()),
            public_key: public_key(&parsed).0,
            ..facts
        }
    }

    /// What a revocation list says.
    #[must_use]
    pub fn of_list(der: &[u8]) -> Self {
        let facts = Self {
            kind: Kind::Crl,
            fingerprint: hex(&super::sha256(der)),
            ..Self::default()
        };
        let Ok((_, parsed)) = CertificateRevocationList::from_der(der) else {
            return Self {
                error: Some("is no revocation list that can be read".to_owned()),
                ..facts
            };
        };
        let number = parsed.crl_number().map(|number| format!("{number:x}"));
        Self {
            issuer: printable(&parsed.issuer().to_string()),
            serial: number.unwrap_or_default(),
            not_before: parsed.last_update().timestamp(),
            not_after: parsed.next_update().map(|at| at.timestamp()),
            revoked: Some(parsed.iter_revoked_certificates().count() as u64),
            ..facts
        }
    }

    /// A file that cannot be read.
    #[must_use]
    pub fn unreadable(kind: Kind, error: String) -> Self {
        Self {
            kind,
            error: Some(error),
            ..Self::default()
        }
    }
}

fn sans(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", printable(name))),
        GeneralName::RFC822Name(name) => Some(format!("email:{}", printable(name))),
        GeneralName::URI(name) => Some(format!("URI:{}", printable(name))),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            address.ok().map(|address| format!("IP:{address}"))
        }
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(text)
        .take(NAMES_MAX)
        .collect()
}

/// The kind and size of the public key, and whether the handshake can use it.
fn public_key(certificate: &X509Certificate<'_>) -> (String, bool) {
    let info = certificate.public_key();
    if info.algorithm.algorithm == OID_SIG_ED25519 {
        return ("Ed25519".to_owned(), true);
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            // Its modulus may have a leading zero byte.
            let bits = key.modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
            (format!("RSA {bits}"), bits >= RSA_MIN)
        }
        Ok(PublicKey::EC(key)) => (format!("EC {}", key.key_size()), key.key_size() >= EC_MIN),
        Ok(PublicKey::DSA(_)) => ("DSA".to_owned(), false),
        _ => ("other".to_owned(), true),
    }
}

/// Whether a certificate's key is too short to be accepted. What cannot be read is not judged here.
#[must_use]
pub fn has_weak_key(der: &[u8]) -> bool {
    weak_key(der).is_some()
}

/// The kind and size of a certificate's key when it is too short to be accepted, as `RSA 1024`.
#[must_use]
pub fn weak_key(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let (kind, fits) = public_key(&parsed);
    (!fits).then_some(kind)
}

/// Whether a certificate names itself as its issuer.
#[must_use]
pub fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

/// Whether a certificate may be shown by a client, or by a server: it has no extended key usage, or the one for that.
#[must_use]
pub fn serves(der: &[u8], client: bool) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return false;
    };
    match parsed.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) if client => usage.value.client_auth,
        Ok(Some(usage)) => usage.value.server_auth,
        Err(_) => false,
    }
}

/// From when to when a certificate is valid, in seconds since 1970.
#[must_use]
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Common names and DNS names, at most `most`: what a source is bound to.
#[must_use]
pub fn names(der: &[u8], most: usize) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let common = parsed
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.take(most).map(str::to_owned).collect();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) if names.len() < most && !names.iter().any(|n| n == name) => {
                    names.push((*name).to_owned());
                }
                _ => {}
            }
        }
    }
    names
}

/// Whether the box's own chain is whole. `known`: every CA certificate that the configuration names for it.
#[must_use]
pub fn chain(own: &[CertificateDer<'_>], known: &[CertificateDer<'_>]) -> Chain {
    let parse = |der| X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed);
    let Some(parsed) = own.iter().map(|der| parse(der)).collect::<Option<Vec<_>>>() else {
        return Chain::Unknown;
    };
    let issued = |by: &X509Certificate<'_>, what: &X509Certificate<'_>| by.subject().as_raw() == what.issuer().as_raw();
    if parsed.windows(2).any(|pair| !issued(&pair[1], &pair[0])) {
        return Chain::Disordered;
    }
    let Some(top) = parsed.last() else {
        return Chain::Unknown;
    };
    if issued(top, top) {
        return Chain::Complete;
    }
    let issuers: Vec<_> = known
        .iter()
        .filter_map(|der| parse(der))
        .filter(|ca| issued(ca, top))
        .collect();
    if issuers.is_empty() {
        Chain::Unknown
    } else if issuers.iter().any(|ca| issued(ca, ca)) {
        Chain::Complete
    } else {
        Chain::Incomplete
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The day of a time in seconds since 1970, UTC.
#[must_use]
pub fn date(seconds: i64) -> String {
    iso(seconds).chars().take_while(|c| *c != 'T').collect()
}

/// ISO 8601, UTC.
#[must_use]
pub fn iso(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "beyond".to_owned(), |at| at.to_string())
}

/// A name from a certificate may hold anything; a terminal must not obey it.
fn printable(text: &str) -> String {
    text.chars()
        .take(NAME_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Characters and names of one certificate that are shown.
const NAME_MAX: usize = 512;
const NAMES_MAX: usize = 64;
/// What aws-lc verifies; NIST SP 800-131A.
const RSA_MIN: usize = 2048;
const EC_MIN: usize = 256;
