//! TLS to a destination, and what both sides share: provider, fingerprints, the words for a failed handshake.
//!
//! Promises: TLS 1.3, or 1.2 with ECDHE and AEAD suites (PS3.15 B.12, RFC 9325; rustls has no others), no early data;
//! the peer is authenticated by a CA that the site names or by its certificate's fingerprint, never by the machine's
//! list of public CAs; every handshake has a deadline. No error carries a name from a certificate.
use super::pem::{self, PemError};
use crate::dicom::association::Stream;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// `tls` of a destination: how the peer is known, and how this box shows who it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// PEM file with the CA certificates that may have signed the destination's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file with this box's own certificate and its chain, for destinations that ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the key of `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name that must stand in the destination's certificate, when it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// SHA-256 of the destination's certificate (DER), 64 hexadecimal digits with or without colons. Only this very certificate
    /// is accepted; without `ca` its name and dates do not matter then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// Why a TLS configuration cannot be used; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(
        "nothing says how to know the destination: set `ca` to the CA that signed its certificate, or `fingerprint` to that certificate's SHA-256"
    )]
    NoTrust,
    #[error("`certificate` and `key` belong together: set both or none")]
    HalfIdentity,
    #[error("`client_ca` is missing: name the CA that signs client certificates, or set client_certificate = \"none\"")]
    NoClientCa,
    #[error("`client_ca` has no use with client_certificate = \"none\": remove it, or ask for certificates")]
    UnusedClientCa,
    #[error("{key} is not the key of {certificate}: give the key that this certificate was made for")]
    KeyMismatch { certificate: PathBuf, key: PathBuf },
    #[error("{path} holds a certificate or key that cannot be used: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("`server_name` is neither a DNS name nor an IP address")]
    ServerName,
    #[error("`fingerprint` is not a SHA-256: write 64 hexadecimal digits, with or without colons")]
    Fingerprint,
    #[error("the TLS library refuses its own defaults: {0}")]
    Library(String),
}

/// Why a handshake failed, by what a person does next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the TLS handshake did not end in time")]
    Timeout,
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    #[error("the peer does not speak TLS on this port")]
    NotTls,
    #[error("the peer's certificate has expired")]
    Expired,
    #[error("the peer's certificate is not valid yet; compare both clocks")]
    NotYetValid,
    #[error(
        "the peer's certificate is for another name; set server_name to a name in it (a common name alone does not count), or pin its fingerprint"
    )]
    WrongName,
    #[error("the peer's certificate is not signed by the configured CA")]
    UnknownCa,
    #[error("the peer's certificate is not the one whose fingerprint is configured")]
    WrongFingerprint,
    #[error("the peer's certificate is revoked")]
    Revoked,
    #[error("the peer's certificate is not usable here")]
    BadCertificate,
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("the peer refused: {0}")]
    RefusedByPeer(&'static str),
    #[error("no TLS version or cipher suite in common; TLS 1.2 with ECDHE and AES-GCM, or TLS 1.3, is needed")]
    Incompatible,
    #[error("the host is neither a DNS name nor an IP address")]
    BadHost,
    #[error("the connection failed during the TLS handshake ({0})")]
    Io(io::ErrorKind),
    #[error("the peer broke the TLS protocol")]
    Broken,
}

/// Makes TLS connections to one destination. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    inner: tokio_rustls::TlsConnector,
    server_name: Option<ServerName<'static>>,
}

/// Reads all files of a configuration and makes its connector.
///
/// # Errors
/// See `TlsError`.
pub fn connector(config: &Config) -> Result<Connector, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Library(error.to_string()))?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::of(config)?));
    let inner = match (&config.certificate, &config.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(pem::certificates(certificate)?, pem::private_key(key)?)
            .map_err(|error| unusable(&error, certificate, key))?,
        _ => return Err(TlsError::HalfIdentity),
    };
    let server_name = config.server_name.clone().map(ServerName::try_from).transpose();
    Ok(Connector {
        inner: Arc::new(inner).into(),
        server_name: server_name.map_err(|_| TlsError::ServerName)?,
    })
}

/// Everything that is wrong with the files and keys of a configuration, each with its key: for `waystation check`.
#[must_use]
pub fn faults(config: &Config) -> Vec<(&'static str, TlsError)> {
    let mut found = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => identity_faults(certificate, key),
        _ => Vec::new(),
    };
    if let Some(error) = config.ca.as_deref().and_then(|ca| roots(ca).err()) {
        found.push(("ca", error));
    }
    // What is left concerns more than one key, and can be seen only when each can be read.
    if found.is_empty()
        && let Err(error) = connector(config)
    {
        found.push(("", error));
    }
    found
}

/// What is wrong with a certificate and its key, each by itself and both together.
pub(crate) fn identity_faults(certificate: &Path, key: &Path) -> Vec<(&'static str, TlsError)> {
    match (pem::certificates(certificate), pem::private_key(key)) {
        (Ok(chain), Ok(private)) => {
            let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
            let made = builder.and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
            let fault = made.err().map(|error| ("key", unusable(&error, certificate, key)));
            fault.into_iter().collect()
        }
        (chain, private) => {
            let chain = chain.err().map(|error| ("certificate", error.into()));
            chain
                .into_iter()
                .chain(private.err().map(|error| ("key", error.into())))
                .collect()
        }
    }
}

impl Connector {
    /// The whole handshake, within the deadline. `host` is the name asked for unless `server_name` is configured.
    /// With TLS 1.3 a peer that refuses our certificate says so only later: see `refusal`.
    ///
    /// # Errors
    /// See `HandshakeError`.
    pub async fn connect<S: Stream>(
        &self,
        host: &str,
        stream: S,
        within: Duration,
    ) -> Result<TlsStream<S>, HandshakeError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::BadHost)?,
        };
        match timeout(within, self.inner.connect(name, stream)).await {
            Ok(result) => result.map_err(|error| HandshakeError::of(&error)),
            Err(_) => Err(HandshakeError::Timeout),
        }
    }
}

impl HandshakeError {
    /// The kind of an error that tokio-rustls returned.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::of_rustls(error),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Closed
                }
                kind => Self::Io(kind),
            },
        }
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidMessage(_) => Self::NotTls,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion) => {
                Self::Incompatible
            }
            Error::AlertReceived(alert) => Self::RefusedByPeer(alert_words(*alert)),
            _ => Self::Broken,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::ApplicationVerificationFailure => Self::WrongFingerprint,
            _ => Self::BadCertificate,
        }
    }
}

/// After the handshake: whether a failed read or write was the peer's refusal of our certificate, which TLS 1.3 tells
/// only then.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<HandshakeError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(HandshakeError::RefusedByPeer(alert_words(*alert))),
        _ => None,
    }
}

fn alert_words(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "it does not know the CA of our certificate",
        AlertDescription::CertificateRequired => "it asks for a certificate; set `certificate` and `key`",
        AlertDescription::CertificateExpired => "our certificate has expired",
        AlertDescription::CertificateRevoked => "our certificate is revoked",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => "it does not accept our certificate",
        AlertDescription::UnsupportedCertificate => "it cannot use our certificate",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecryptError => "it could not verify our signature",
        AlertDescription::UnrecognisedName => "it does not serve the name we asked for",
        _ => "it sent a TLS alert",
    }
}

/// The one cryptography provider; no process-wide default is needed.
#[must_use]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// SHA-256 of a certificate, by the provider's own hash.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().map(|suite| suite.common.hash_provider.hash(certificate));
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

/// The CA certificates of a file.
pub(crate) fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in pem::certificates(path)? {
        store.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.into(),
            reason: HandshakeError::of_rustls(&error).to_string(),
        })?;
    }
    Ok(Arc::new(store))
}

/// What rustls says to a certificate and key of ours.
pub(crate) fn unusable(error: &rustls::Error, certificate: &Path, key: &Path) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
            certificate: certificate.into(),
            key: key.into(),
        },
        error => TlsError::Unusable {
            path: certificate.into(),
            reason: error.to_string(),
        },
    }
}

/// Knows the destination by a CA, by its fingerprint, or by both. The handshake's signature is verified in any case.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    pinned: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn of(config: &Config) -> Result<Self, TlsError> {
        if config.ca.is_none() && config.fingerprint.is_none() {
            return Err(TlsError::NoTrust);
        }
        let chain = |path: &PathBuf| {
            WebPkiServerVerifier::builder_with_provider(roots(path)?, provider())
                .build()
                .map_err(|error| TlsError::Library(error.to_string()))
        };
        let pin = |text: &String| parse_fingerprint(text).ok_or(TlsError::Fingerprint);
        Ok(Self {
            chain: config.ca.as_ref().map(chain).transpose()?,
            pinned: config.fingerprint.as_ref().map(pin).transpose()?,
            provider: provider(),
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.is_some_and(|pinned| pinned != fingerprint(end_entity)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
