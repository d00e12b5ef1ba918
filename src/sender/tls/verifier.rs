//! Both certificates in one handshake with a destination: the server's, believed or not, and whether ours was asked for. One for each
//! connection, so that no reason is told of the wrong peer.
use crate::pki::facts::has_weak_key;
use crate::pki::{Finding, Reason, Trust, sha256, trust::alerting};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What was found out; shared with the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    finding: Arc<Mutex<Finding>>,
    /// The peer asked for a certificate of ours, and got none.
    bare: Arc<AtomicBool>,
}

impl Found {
    pub(super) fn get(&self) -> Finding {
        // Nothing that could panic runs under the lock.
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer asked in vain for a certificate of ours.
    pub(super) fn is_bare(&self) -> bool {
        self.bare.load(Ordering::Relaxed)
    }

    fn set(&self, change: impl FnOnce(&mut Finding)) {
        // As above.
        change(&mut self.finding.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Knows the destination by a CA, by its fingerprint, or by both. The handshake's signature is verified in any case.
#[derive(Debug)]
pub(super) struct Verifier {
    pub trust: Option<Arc<Trust>>,
    /// The only certificates that are accepted; empty for any that the CA has signed.
    pub pinned: Arc<Vec<[u8; 32]>>,
    pub algorithms: WebPkiSupportedAlgorithms,
    pub found: Found,
}

impl Verifier {
    fn refused(&self, reason: Reason) -> Error {
        self.found.set(|finding| finding.reason = Some(reason));
        alerting(reason)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.found.set(|finding| finding.shown = Finding::shown(end_entity));
        if !self.pinned.is_empty() && !self.pinned.contains(&sha256(end_entity)) {
            return Err(self.refused(Reason::WrongFingerprint));
        }
        let verified = match &self.trust {
            Some(trust) => trust.verify(end_entity, intermediates, Some(server_name), now),
            // Without a CA there is a fingerprint: the configuration's check.
            None if self.pinned.is_empty() => Err(Reason::UnknownCa),
            None if has_weak_key(end_entity) => Err(Reason::WeakKey),
            None => Ok(()),
        };
        match verified {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(reason) => Err(self.refused(reason)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
            .map_err(|_| self.refused(Reason::KeyMismatch))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
            .map_err(|_| self.refused(Reason::KeyMismatch))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Our certificate in force, for a server that asks for one.
#[derive(Debug)]
pub(super) struct Own {
    pub identity: Option<Arc<CertifiedKey>>,
    pub found: Found,
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fits = self
            .identity
            .clone()
            .filter(|own| own.key.choose_scheme(schemes).is_some());
        self.found.bare.store(fits.is_none(), Ordering::Relaxed);
        fits
    }

    fn has_certs(&self) -> bool {
        // Asked even without one, so that we learn that the server wants one.
        true
    }
}
