//! TLS of a listener: the handshake within its deadline, and who the peer proved to be.
//!
//! Promises: TLS 1.3, or 1.2 with ECDHE and AEAD suites (PS3.15 B.12), no early data, no session tickets; a client
//! certificate that is shown is verified against `client_ca`. It decides nothing: admission binds the identity to an
//! AE title. Neither names nor certificates are logged here.
use crate::dicom::association::Stream;
use crate::sender::pem;
pub use crate::sender::tls::{HandshakeError, TlsError};
use crate::sender::tls::{fingerprint, provider, roots, unusable};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

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
    /// PEM file with the CA certificates that sign client certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
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

/// Takes TLS handshakes. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(tokio_rustls::TlsAcceptor);

/// Reads all files of a configuration and makes its acceptor.
///
/// # Errors
/// See `TlsError`.
pub fn acceptor(config: &Config) -> Result<Acceptor, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Library(error.to_string()))?;
    let builder = match (config.client_certificate, &config.client_ca) {
        (ClientCertificate::None, None) => builder.with_no_client_auth(),
        (ClientCertificate::None, Some(_)) => return Err(TlsError::UnusedClientCa),
        (_, None) => return Err(TlsError::NoClientCa),
        (asked, Some(ca)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider());
            let verifier = match asked {
                ClientCertificate::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| TlsError::Library(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut inner = builder
        .with_single_cert(pem::certificates(&config.certificate)?, pem::private_key(&config.key)?)
        .map_err(|error| unusable(&error, &config.certificate, &config.key))?;
    // A resumed session would carry an identity that was verified under an older configuration.
    inner.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    inner.send_tls13_tickets = 0;
    Ok(Acceptor(Arc::new(inner).into()))
}

impl Acceptor {
    /// The whole handshake, within the deadline; who the peer proved to be, when it showed a certificate.
    ///
    /// # Errors
    /// See `HandshakeError`.
    pub async fn handshake<S: Stream>(
        &self,
        stream: S,
        within: Duration,
    ) -> Result<(TlsStream<S>, Option<PeerIdentity>), HandshakeError> {
        let stream = match timeout(within, self.0.accept(stream)).await {
            Ok(result) => result.map_err(|error| HandshakeError::of(&error))?,
            Err(_) => return Err(HandshakeError::Timeout),
        };
        let identity = identity(stream.get_ref().1);
        Ok((stream, identity))
    }
}

/// The identity in a finished handshake; `None` when the peer showed no certificate.
#[must_use]
pub fn identity(connection: &ServerConnection) -> Option<PeerIdentity> {
    let certificate = connection.peer_certificates()?.first()?;
    let names = X509Certificate::from_der(certificate).map_or_else(|_| Vec::new(), |(_, parsed)| names(&parsed));
    Some(PeerIdentity {
        fingerprint: fingerprint(certificate),
        names,
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let common = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.take(NAMES_MAX).map(str::to_owned).collect();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) if names.len() < NAMES_MAX && !names.iter().any(|n| n == name) => {
                    names.push((*name).to_owned());
                }
                _ => {}
            }
        }
    }
    names
}
