//! webpki, asked with one set of authorities and lists.
use super::material::TlsError;
use super::provider;
use super::trust::CrlPolicy;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use std::sync::Arc;

/// Whose certificates are verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peers {
    Clients,
    Servers,
}

/// What is done when the lists do not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub expired: CrlPolicy,
    pub missing: CrlPolicy,
}

#[derive(Debug)]
pub(super) enum Check {
    Clients(Arc<dyn ClientCertVerifier>),
    Servers(Arc<WebPkiServerVerifier>),
}

impl Check {
    /// Without lists nothing is looked up.
    pub(super) fn new(
        peers: Peers,
        roots: Arc<RootCertStore>,
        lists: Vec<CertificateRevocationListDer<'static>>,
        policy: Policy,
    ) -> Result<Self, TlsError> {
        let library = |error: rustls::client::VerifierBuilderError| TlsError::Library(error.to_string());
        match peers {
            Peers::Clients => {
                let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider()).with_crls(lists);
                if policy.missing == CrlPolicy::Accept {
                    builder = builder.allow_unknown_revocation_status();
                }
                if policy.expired == CrlPolicy::Refuse {
                    builder = builder.enforce_revocation_expiration();
                }
                builder.build().map(Self::Clients).map_err(library)
            }
            Peers::Servers => {
                let mut builder = WebPkiServerVerifier::builder_with_provider(roots, provider()).with_crls(lists);
                if policy.missing == CrlPolicy::Accept {
                    builder = builder.allow_unknown_revocation_status();
                }
                if policy.expired == CrlPolicy::Refuse {
                    builder = builder.enforce_revocation_expiration();
                }
                builder.build().map(Self::Servers).map_err(library)
            }
        }
    }

    /// The library's word. `name`: what a server must be called.
    pub(super) fn ask(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        match (self, name) {
            (Self::Clients(check), _) => check.verify_client_cert(leaf, intermediates, now).map(drop),
            (Self::Servers(check), Some(name)) => {
                check.verify_server_cert(leaf, intermediates, name, &[], now).map(drop)
            }
            (Self::Servers(_), None) => Err(CertificateError::NotValidForName.into()),
        }
    }

    pub(super) fn peers(&self) -> Peers {
        match self {
            Self::Clients(_) => Peers::Clients,
            Self::Servers(_) => Peers::Servers,
        }
    }

    /// The names of the authorities, as a server hints them to a client.
    pub(super) fn hints(&self) -> &[DistinguishedName] {
        match self {
            Self::Clients(check) => check.root_hint_subjects(),
            Self::Servers(_) => &[],
        }
    }
}
