//! The handshake with a destination, with what is in force now, and what a peer speaks that fails it.
use super::verifier::{Found, Own, Verifier};
use super::{Config, Failure, Reason, TlsError};
use crate::base::clock::Clock;
use crate::base::dialect::Dialect;
use crate::dicom::association::Stream;
use crate::pki::opening::{First, Noting, linger};
use crate::pki::{Material, Role, Slot, provider};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes TLS connections to one destination. Cheap to clone; clones share what is in force.
#[derive(Clone)]
pub struct Connector {
    slot: Arc<Slot>,
    pinned: Arc<Vec<[u8; 32]>>,
    server_name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

/// Reads all files of a configuration and makes its connector, for a peer that has no name in the configuration.
///
/// # Errors
/// See `TlsError`.
pub fn connector(config: &Config) -> Result<Connector, TlsError> {
    connector_of(Role::Destination, "", config)
}

/// Reads all files of a configuration and makes the connector of a destination. Its `slot` is to be watched.
///
/// # Errors
/// See `TlsError`.
pub fn connector_of(role: Role, name: &str, config: &Config) -> Result<Connector, TlsError> {
    if let Some((_, error)) = config.check().into_iter().next() {
        return Err(error);
    }
    Ok(Connector {
        slot: Slot::open(role, name, config.sources(), Clock::System.now())?,
        pinned: Arc::new(config.pinned()?),
        server_name: config.name()?,
        provider: provider(),
    })
}

impl Connector {
    /// What is in force, and what replaces it.
    #[must_use]
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// The whole handshake, within the deadline. `host` is the name asked for unless `server_name` is configured.
    /// With TLS 1.3 a peer that refuses our certificate says so only later: see `refusal`.
    ///
    /// # Errors
    /// See `Failure`.
    pub async fn connect<S: Stream>(
        &self,
        host: &str,
        stream: S,
        within: Duration,
    ) -> Result<TlsStream<Noting<S>>, Failure> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| Reason::BadHost)?,
        };
        let (found, first) = (Found::default(), First::default());
        let config = self
            .config(&self.slot.current(), &found)
            .map_err(|error| Reason::of_rustls(&error))?;
        let connector = TlsConnector::from(Arc::new(config));
        let connecting = connector
            .connect(name, Noting::new(stream, first.clone()))
            .into_fallible();
        let reason = match timeout(within, connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err((error, stream))) => {
                linger(stream).await;
                reason(&error, &found, &first)
            }
            Err(_) if first.is_silent() => Reason::Silent,
            Err(_) => Reason::Timeout,
        };
        Err(Failure {
            reason,
            shown: found.get().shown,
        })
    }

    /// What this one connection is made with. Nothing of it is kept: no session is resumed.
    fn config(&self, material: &Material, found: &Found) -> Result<ClientConfig, Error> {
        let verifier = Verifier {
            trust: material.trust.clone(),
            pinned: self.pinned.clone(),
            algorithms: self.provider.signature_verification_algorithms,
            found: found.clone(),
        };
        let own = Own {
            identity: material.identity.clone(),
            found: found.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(own));
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Why the handshake failed, by all that is known of it.
fn reason(error: &io::Error, found: &Found, first: &First) -> Reason {
    if let Some(reason) = found.get().reason {
        return reason;
    }
    match (Reason::of(error), first.dialect()) {
        (_, Some(dialect)) if dialect != Dialect::Tls => Reason::Speaks(dialect),
        (Reason::Closed, _) if first.is_silent() => Reason::ClosedOnHello,
        // TLS 1.2 has no alert for it.
        (Reason::CipherSuite, _) if found.is_bare() => Reason::RefusedNoCertificate,
        (reason, _) => reason,
    }
}

/// After the handshake: whether a failed read or write was the peer's refusal of our certificate, which TLS 1.3 tells
/// only then.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<Failure> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(AlertDescription::HandshakeFailure) => Some(Reason::Refused.into()),
        Error::AlertReceived(alert) => Some(Reason::of_alert(*alert).into()),
        _ => None,
    }
}

/// A ClientHello, to ask a port whether it speaks TLS. It carries no name, and nothing is ever answered to what comes.
#[must_use]
pub(in crate::sender) fn hello() -> Option<Vec<u8>> {
    let verifier = Verifier {
        trust: None,
        pinned: Arc::default(),
        algorithms: provider().signature_verification_algorithms,
        found: Found::default(),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).ok()?;
    Some(bytes)
}
