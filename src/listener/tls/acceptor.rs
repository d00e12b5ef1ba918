//! The handshake of a listener: what the peer speaks, then TLS with what is in force now.
use super::verifier::{Found, Verifier};
use super::{ClientCertificate, Config, NAMES_MAX, PeerIdentity};
use crate::base::clock::Clock;
use crate::base::dialect::Dialect;
use crate::dicom::association::Stream;
use crate::pki::facts::names;
use crate::pki::opening::Opened;
use crate::pki::{Failure, Material, Reason, Role, Slot, TlsError, provider, sha256};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Takes TLS handshakes. Cheap to clone; clones share what is in force.
#[derive(Clone)]
pub struct Acceptor {
    slot: Arc<Slot>,
    asked: ClientCertificate,
    provider: Arc<CryptoProvider>,
}

/// Why there is no TLS stream.
#[derive(Debug)]
pub struct Refusal<S> {
    pub failure: Failure,
    /// The connection, where something may still be said on it: nothing was answered to a peer that speaks plain DICOM; in
    /// any other case the alert has been written, and only the end is left to be waited for.
    pub stream: Option<S>,
}

/// Reads all files of a configuration and makes its acceptor.
///
/// # Errors
/// See `TlsError`.
pub fn acceptor(name: &str, config: &Config) -> Result<Acceptor, TlsError> {
    config.check()?;
    Ok(Acceptor {
        slot: Slot::open(Role::Listener, name, config.sources(), Clock::System.now())?,
        asked: config.client_certificate,
        provider: provider(),
    })
}

impl Acceptor {
    /// What is in force, and what replaces it.
    #[must_use]
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// The whole handshake, within the deadline; who the peer proved to be, when it showed a certificate.
    ///
    /// # Errors
    /// See `Refusal`.
    pub async fn handshake<S: Stream>(
        &self,
        stream: S,
        within: Duration,
    ) -> Result<(TlsStream<Opened<S>>, Option<PeerIdentity>), Refusal<S>> {
        let until = Instant::now() + within;
        let (opened, dialect) = match timeout_at(until, Opened::read(stream)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(Reason::of(&error).into()),
            Err(_) => return Err(Reason::Timeout.into()),
        };
        if dialect != Dialect::Tls {
            return Err(turned_away(opened.into_inner(), dialect, until).await);
        }
        let found = Found::default();
        let config = self
            .config(&self.slot.current(), &found)
            .map_err(|_| Refusal::from(Reason::Broken))?;
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(opened).into_fallible();
        let stream = match timeout_at(until, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, opened))) => {
                let finding = found.get();
                let reason = match (finding.reason, Reason::of(&error)) {
                    (Some(reason), _) => reason,
                    (None, Reason::Parameters) if finding.suiteless => Reason::CipherSuite,
                    (None, reason) => reason,
                };
                let failure = Failure {
                    reason,
                    shown: finding.shown,
                };
                return Err(Refusal {
                    failure,
                    stream: Some(opened.into_inner()),
                });
            }
            Err(_) => return Err(Reason::Timeout.into()),
        };
        let identity = identity(stream.get_ref().1);
        Ok((stream, identity))
    }

    /// What this one connection is made with. Nothing of it is kept: no session can be resumed.
    fn config(&self, material: &Material, found: &Found) -> Result<ServerConfig, rustls::Error> {
        let builder =
            ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match (self.asked, &material.trust) {
            (ClientCertificate::None, _) | (_, None) => builder.with_no_client_auth(),
            (asked, Some(trust)) => builder.with_client_cert_verifier(Arc::new(Verifier {
                trust: trust.clone(),
                mandatory: asked == ClientCertificate::Required,
                algorithms: self.provider.signature_verification_algorithms,
                found: found.clone(),
            })),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Own {
            identity: material.identity.clone(),
            provider: self.provider.clone(),
            found: found.clone(),
        }));
        // A resumed session would carry an identity that was verified under an older configuration.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// The listener's certificate in force.
#[derive(Debug)]
struct Own {
    identity: Option<Arc<CertifiedKey>>,
    provider: Arc<CryptoProvider>,
    found: Found,
}

impl ResolvesServerCert for Own {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let ours = |suite| self.provider.cipher_suites.iter().any(|own| own.suite() == suite);
        let suiteless = !hello.cipher_suites().iter().any(|suite| ours(*suite));
        self.found.set(|finding| finding.suiteless = suiteless);
        self.identity.clone()
    }
}

/// A peer that does not speak TLS. One that speaks DICOM is left to the caller, who can answer it.
async fn turned_away<S: Stream>(mut stream: S, dialect: Dialect, until: Instant) -> Refusal<S> {
    if dialect != Dialect::Dicom {
        let alert = if dialect == Dialect::Ssl2 {
            PROTOCOL_VERSION
        } else {
            UNEXPECTED_MESSAGE
        };
        // It may understand it or not; the connection ends in any case.
        let _lost = timeout_at(until, stream.write_all(&[0x15, 3, 1, 0, 2, 2, alert])).await;
    }
    Refusal {
        failure: Reason::Speaks(dialect).into(),
        stream: Some(stream),
    }
}

/// Alerts of RFC 8446 6.2.
const UNEXPECTED_MESSAGE: u8 = 10;
const PROTOCOL_VERSION: u8 = 70;

impl<S> From<Reason> for Refusal<S> {
    fn from(reason: Reason) -> Self {
        Self {
            failure: reason.into(),
            stream: None,
        }
    }
}

/// The identity in a finished handshake; `None` when the peer showed no certificate.
#[must_use]
pub fn identity(connection: &ServerConnection) -> Option<PeerIdentity> {
    let certificate = connection.peer_certificates()?.first()?;
    Some(PeerIdentity {
        fingerprint: sha256(certificate),
        names: names(certificate, NAMES_MAX),
    })
}
