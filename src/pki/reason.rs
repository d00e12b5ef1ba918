//! Why a TLS connection did not come about: one word for metrics, one sentence for people, by what a person does next.
//!
//! The sentence names no one: not a subject, not an address, nothing that the peer wrote. What may be told of the peer's
//! certificate is its fingerprint and its dates (`Shown`), so that the right file can be found.
use super::facts::{date, hex};
use crate::base::dialect::Dialect;
use rustls::{AlertDescription, CertRevocationListError, CertificateError, Error, PeerIncompatible};
use std::fmt;
use std::io;

/// Why. `docs/tls.md` has the table of all words with what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    Timeout,
    /// It took our ClientHello and said nothing.
    Silent,
    Closed,
    /// It closed on our ClientHello, before any byte of its own.
    ClosedOnHello,
    /// Another protocol on this port.
    Speaks(Dialect),
    Expired,
    NotYetValid,
    /// The certificate is in time, one between it and its authority is not.
    IntermediateExpired,
    IntermediateNotYetValid,
    WrongName,
    UnknownCa,
    SelfSigned,
    MissingIntermediate,
    Revoked,
    IntermediateRevoked,
    CrlExpired,
    CrlMissing,
    CrlUnusable,
    WeakSignature,
    WeakKey,
    WrongUsage,
    CaAsLeaf,
    WrongFingerprint,
    NoCertificate,
    /// What it signed was not signed by its certificate's key.
    KeyMismatch,
    BadCertificate,
    /// An issuer on the way may not have issued what is below it.
    BadChain,
    TlsVersion,
    CipherSuite,
    Parameters,
    RefusedUnknownCa,
    RefusedExpired,
    RefusedRevoked,
    RefusedNoCertificate,
    RefusedCertificate,
    RefusedUsage,
    RefusedName,
    RefusedSignature,
    RefusedAccess,
    Refused,
    /// The configured host is no name and no address.
    BadHost,
    Io(io::ErrorKind),
    Broken,
}

/// What may be told of a certificate that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// SHA-256 of its DER bytes.
    pub fingerprint: [u8; 32],
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

/// A failed handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub reason: Reason,
    /// The peer's certificate, when it came so far.
    pub shown: Option<Shown>,
}

impl Reason {
    /// The word in metrics and listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Silent => "silent",
            Self::Closed => "closed",
            Self::ClosedOnHello => "closed_on_hello",
            Self::Speaks(Dialect::Dicom) => "plain_dicom",
            Self::Speaks(Dialect::Http) => "plain_http",
            Self::Speaks(Dialect::Ssh) => "plain_ssh",
            Self::Speaks(Dialect::Tls) => "tls_on_plain",
            Self::Speaks(Dialect::Ssl2) => "tls_version",
            Self::Speaks(Dialect::Unknown) => "not_tls",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IntermediateExpired => "intermediate_expired",
            Self::IntermediateNotYetValid => "intermediate_not_yet_valid",
            Self::WrongName => "wrong_name",
            Self::UnknownCa => "unknown_ca",
            Self::SelfSigned => "self_signed",
            Self::MissingIntermediate => "missing_intermediate",
            Self::Revoked => "revoked",
            Self::IntermediateRevoked => "intermediate_revoked",
            Self::CrlExpired => "crl_expired",
            Self::CrlMissing => "crl_missing",
            Self::CrlUnusable => "crl_unusable",
            Self::WeakSignature => "weak_signature",
            Self::WeakKey => "weak_key",
            Self::WrongUsage => "wrong_usage",
            Self::CaAsLeaf => "ca_as_leaf",
            Self::WrongFingerprint => "wrong_fingerprint",
            Self::NoCertificate => "no_certificate",
            Self::KeyMismatch => "key_mismatch",
            Self::BadCertificate => "bad_certificate",
            Self::BadChain => "bad_chain",
            Self::TlsVersion => "tls_version",
            Self::CipherSuite => "cipher_suite",
            Self::Parameters => "parameters",
            Self::RefusedUnknownCa => "refused_unknown_ca",
            Self::RefusedExpired => "refused_expired",
            Self::RefusedRevoked => "refused_revoked",
            Self::RefusedNoCertificate => "refused_no_certificate",
            Self::RefusedCertificate => "refused_certificate",
            Self::RefusedUsage => "refused_usage",
            Self::RefusedName => "refused_name",
            Self::RefusedSignature => "refused_signature",
            Self::RefusedAccess => "refused_access",
            Self::Refused => "refused",
            Self::BadHost => "bad_host",
            Self::Io(_) => "io",
            Self::Broken => "broken",
        }
    }

    /// Of an error that tokio-rustls returned. What the verifier found out stands apart and is more exact.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of_rustls(error),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                kind => Self::Io(kind),
            },
        }
    }

    #[must_use]
    pub fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(_) => Self::Broken,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(error) => Self::of_incompatible(error),
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidCertRevocationList(error) => Self::of_list(error),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Broken,
        }
    }

    #[must_use]
    pub fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
            // An authority of that name is configured, but its key is another: renewed, or a namesake.
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::UnknownCa,
            CertificateError::UnsupportedSignatureAlgorithmContext { .. } => Self::WeakSignature,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus => Self::CrlMissing,
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                Self::CrlExpired
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::WrongUsage,
            CertificateError::ApplicationVerificationFailure => Self::WrongFingerprint,
            CertificateError::Other(other) if other.to_string() == CA_AS_LEAF => Self::CaAsLeaf,
            CertificateError::Other(other) if BAD_CHAIN.contains(&other.to_string().as_str()) => Self::BadChain,
            _ => Self::BadCertificate,
        }
    }

    fn of_list(error: &CertRevocationListError) -> Self {
        match error {
            CertRevocationListError::UnsupportedSignatureAlgorithmContext { .. } => Self::WeakSignature,
            _ => Self::CrlUnusable,
        }
    }

    fn of_incompatible(error: &PeerIncompatible) -> Self {
        match error {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // The hello of TLS 1.1 and older has none.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired => Self::TlsVersion,
            PeerIncompatible::NoCipherSuitesInCommon => Self::CipherSuite,
            _ => Self::Parameters,
        }
    }

    /// What the peer did not like.
    #[must_use]
    pub fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::ProtocolVersion => Self::TlsVersion,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Self::CipherSuite,
            AlertDescription::UnknownCA => Self::RefusedUnknownCa,
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Self::RefusedNoCertificate,
            AlertDescription::CertificateExpired => Self::RefusedExpired,
            AlertDescription::CertificateRevoked => Self::RefusedRevoked,
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => Self::RefusedCertificate,
            AlertDescription::UnsupportedCertificate => Self::RefusedUsage,
            AlertDescription::AccessDenied => Self::RefusedAccess,
            AlertDescription::DecryptError => Self::RefusedSignature,
            AlertDescription::UnrecognisedName => Self::RefusedName,
            _ => Self::Refused,
        }
    }
}

/// How webpki says it; there is no variant of rustls for it.
const CA_AS_LEAF: &str = "CaUsedAsEndEntity";
const BAD_CHAIN: [&str; 4] = [
    "EndEntityUsedAsCa",
    "PathLenConstraintViolated",
    "NameConstraintViolation",
    "MaximumPathDepthExceeded",
];

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speaks(dialect) => {
                let words = dialect.words();
                write!(f, "the peer speaks {words} on this port, where TLS is configured")
            }
            Self::Io(kind) => write!(f, "the connection failed during the TLS handshake ({kind})"),
            reason => {
                let found = SENTENCES.iter().find(|(word, _)| *word == reason.word());
                f.write_str(found.map_or("no TLS", |(_, sentence)| sentence))
            }
        }
    }
}

/// What each word means, and what to do. A test holds it against the words.
const SENTENCES: [(&str, &str); 41] = [
    ("timeout", "the TLS handshake did not end in time"),
    (
        "silent",
        "the peer took the connection and answered nothing to our TLS hello, as a system does that speaks plain DICOM on this port: compare the peer's port and its TLS settings",
    ),
    ("closed", "the peer closed the connection during the TLS handshake"),
    (
        "closed_on_hello",
        "the peer closed the connection on our TLS hello without a word of TLS, as a system does that speaks plain DICOM on this port: compare the peer's port and its TLS settings",
    ),
    ("expired", "the peer's certificate has expired: it needs a new one"),
    (
        "not_yet_valid",
        "the peer's certificate is not valid yet; compare both clocks",
    ),
    (
        "intermediate_expired",
        "an intermediate certificate in the peer's chain has expired: have the peer send the renewed one of its issuing CA",
    ),
    (
        "intermediate_not_yet_valid",
        "an intermediate certificate in the peer's chain is not valid yet; compare both clocks",
    ),
    (
        "wrong_name",
        "the peer's certificate is for another name; set server_name to a name in it (a common name alone does not count), or pin its fingerprint",
    ),
    (
        "unknown_ca",
        "the peer's certificate is not signed by a configured CA: either that CA is missing here, or the peer shows the wrong certificate, or leaves out an intermediate that is not known here",
    ),
    (
        "self_signed",
        "the peer's certificate is signed by itself and not configured here: have it replaced by one of the site's CA, or pin its fingerprint",
    ),
    (
        "missing_intermediate",
        "the peer's certificate comes from a configured CA, but the peer does not send the intermediate certificate between them: have the peer send its whole chain",
    ),
    ("revoked", "the peer's certificate is revoked"),
    (
        "intermediate_revoked",
        "an intermediate certificate in the peer's chain is revoked, and with it all that it issued: the peer needs a certificate of another issuing CA",
    ),
    (
        "crl_expired",
        "the revocation list for the peer's certificate, or for an intermediate of its chain, is out of date and `crl_expired = \"refuse\"`: give a new list",
    ),
    (
        "crl_missing",
        "no revocation list covers the peer's certificate, or an intermediate of its chain: add the list of the CA that signed it, or set `crl_missing = \"accept\"`",
    ),
    (
        "crl_unusable",
        "the revocation list for the peer's certificate, or for an intermediate of its chain, is not signed by its CA, or of a kind that cannot be used: give the CA's own full list",
    ),
    (
        "weak_signature",
        "the peer's certificate, or an intermediate of its chain, is signed with an algorithm that is not accepted (SHA-1 or MD5?): it needs one signed with SHA-256 or better",
    ),
    (
        "weak_key",
        "the peer's certificate, or its CA, has a key that is not accepted: at least RSA 2048, ECDSA P-256 or Ed25519",
    ),
    (
        "wrong_usage",
        "the peer's certificate is not made for this side of TLS: its extended key usage must have clientAuth for a client, serverAuth for a server",
    ),
    (
        "ca_as_leaf",
        "the peer shows a CA certificate (CA:TRUE) as its own: it needs one with CA:FALSE, or pin its fingerprint",
    ),
    (
        "wrong_fingerprint",
        "the peer's certificate is not the one whose fingerprint is configured",
    ),
    ("no_certificate", "the peer showed no certificate, and one is required"),
    (
        "key_mismatch",
        "the peer's key is not the key of the certificate that it shows",
    ),
    (
        "bad_certificate",
        "the peer's certificate, or an intermediate of its chain, cannot be used (damaged, of X.509 version 1, or with a critical extension that is not known)",
    ),
    (
        "bad_chain",
        "the peer's chain is not allowed: an issuer in it is no CA, or may not issue for this name, this use or at this depth (basic constraints, path length, name constraints, extended key usage)",
    ),
    ("tls_version", "no TLS version in common: TLS 1.2 or 1.3 is needed"),
    (
        "cipher_suite",
        "no cipher suite in common: TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20, and on both sides a kind of key that the other takes",
    ),
    (
        "parameters",
        "no key exchange group or signature scheme in common, or an extension that TLS 1.2 needs is missing",
    ),
    (
        "refused_unknown_ca",
        "the peer refused: it does not know the CA of our certificate",
    ),
    (
        "refused_expired",
        "the peer refused: our certificate has expired, or its clock says so",
    ),
    ("refused_revoked", "the peer refused: our certificate is revoked"),
    (
        "refused_no_certificate",
        "the peer refused: it asks for a certificate; set `certificate` and `key`",
    ),
    (
        "refused_certificate",
        "the peer refused: it does not accept our certificate",
    ),
    (
        "refused_usage",
        "the peer refused: our certificate is not made for this use, or of a kind that it does not take",
    ),
    (
        "refused_name",
        "the peer refused: it does not serve the name that we asked for",
    ),
    (
        "refused_signature",
        "the peer refused: it could not verify our signature",
    ),
    ("refused_access", "the peer refused: access denied"),
    ("refused", "the peer refused by a TLS alert"),
    ("bad_host", "the host is neither a DNS name nor an IP address"),
    ("broken", "the peer broke the TLS protocol"),
];

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        let Some(shown) = &self.shown else { return Ok(()) };
        let (from, to) = (date(shown.not_before), date(shown.not_after));
        let whose = match self.reason {
            Reason::IntermediateExpired
            | Reason::IntermediateNotYetValid
            | Reason::IntermediateRevoked
            | Reason::BadChain => "the peer's own certificate: ",
            _ => "",
        };
        write!(f, " ({whose}valid {from} to {to}, SHA-256 {})", hex(&shown.fingerprint))
    }
}

impl std::error::Error for Failure {}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, shown: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_and_error_has_a_word_and_a_sentence() {
        for code in 0..=u8::MAX {
            let reason = Reason::of_alert(AlertDescription::from(code));
            assert!(!reason.word().is_empty() && reason.to_string() != "no TLS");
        }
        let words = include_str!("reason.rs").split("pub fn word").nth(1).unwrap();
        let words = words.split("pub fn of").next().unwrap();
        let page = include_str!("../../docs/tls.md");
        for word in words.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let dynamic = [
                "plain_dicom",
                "plain_http",
                "plain_ssh",
                "tls_on_plain",
                "not_tls",
                "io",
            ]
            .contains(&word);
            let told = SENTENCES.iter().any(|(of, _)| *of == word) || dynamic || word == "bad_host";
            assert!(told, "{word} has no sentence");
            assert!(
                page.contains(&format!("`{word}`")) || word == "bad_host",
                "docs/tls.md does not explain {word}"
            );
        }
        assert_eq!(
            Reason::of_alert(AlertDescription::from(48)).word(),
            "refused_unknown_ca"
        );
        assert_eq!(Reason::of_alert(AlertDescription::from(70)).word(), "tls_version");
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Reason::of(&reset), Reason::Closed);
        let shown = Shown {
            fingerprint: [0xab; 32],
            not_before: 0,
            not_after: 1_700_000_000,
        };
        let failure = Failure {
            reason: Reason::Expired,
            shown: Some(shown),
        };
        let text = failure.to_string();
        assert!(
            text.contains("has expired") && text.contains("1970-01-01 to 2023-11-14") && text.contains("abab"),
            "{text}"
        );
    }
}
