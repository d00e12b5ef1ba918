//! The client's certificate in one handshake: believed or not by the trust in force, with what was found out about it kept for
//! the log. One for each connection, so that no reason is told of the wrong peer.
use crate::pki::{Finding, Reason, Trust, trust::alerting};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

/// What was found out; shared with the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Mutex<Finding>>);

impl Found {
    pub(super) fn get(&self) -> Finding {
        // Nothing that could panic runs under the lock.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Finding)) {
        // As above.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub trust: Arc<Trust>,
    pub mandatory: bool,
    pub algorithms: WebPkiSupportedAlgorithms,
    pub found: Found,
}

impl Verifier {
    fn refused(&self, reason: Reason) -> Error {
        self.found.set(|finding| finding.reason = Some(reason));
        alerting(reason)
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.hints()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.found.set(|finding| finding.shown = Finding::shown(end_entity));
        match self.trust.verify(end_entity, intermediates, None, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
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
