//! Whether a peer's certificate is believed, and if not, why exactly.
//!
//! The decision is webpki's. What it cannot say (a missing intermediate, a certificate signed by itself, a key too short, whose fault
//! it is) is found out here after the fact, and changes only the reason.
use super::check::{Check, Peers, Policy};
use super::facts::{self, has_weak_key, is_self_issued};
use super::lists::List;
use super::material::TlsError;
use super::revocation::{Asked, Revocation};
use super::{Reason, Shown, provider, sha256};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{CertRevocationListError, CertificateError, DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is done when the revocation lists do not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CrlPolicy {
    Accept,
    #[default]
    Refuse,
}

/// What was found out about the certificate of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Finding {
    pub reason: Option<Reason>,
    /// The client has offered no cipher suite that we have; the library may complain of something else first.
    pub suiteless: bool,
    pub shown: Option<Shown>,
}

/// Believes what its authorities signed and its lists do not revoke.
#[derive(Debug)]
pub struct Trust {
    /// Everything but the lists.
    plain: Check,
    /// Where there are lists.
    revocation: Option<Revocation>,
    authorities: Vec<CertificateDer<'static>>,
    /// CA certificates that are no authorities here: from the box's own chain, and from chains of peers that were believed.
    /// They serve to tell a missing intermediate from a foreign CA, and decide nothing.
    known: Mutex<Vec<CertificateDer<'static>>>,
}

/// Everything that a trust is made of.
pub(super) struct Made<'a> {
    pub roots: &'a Arc<RootCertStore>,
    pub authorities: &'a [CertificateDer<'static>],
    pub lists: &'a [List],
    pub expired: CrlPolicy,
    pub missing: CrlPolicy,
    pub known: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Of a listener: verifies clients.
    pub(super) fn of_clients(made: Made<'_>) -> Result<Self, TlsError> {
        Self::of(Peers::Clients, made)
    }

    /// Of a destination: verifies a server.
    pub(super) fn of_servers(made: Made<'_>) -> Result<Self, TlsError> {
        Self::of(Peers::Servers, made)
    }

    fn of(peers: Peers, made: Made<'_>) -> Result<Self, TlsError> {
        let policy = Policy {
            expired: made.expired,
            missing: made.missing,
        };
        Ok(Self {
            plain: Check::new(peers, made.roots.clone(), Vec::new(), policy)?,
            revocation: (!made.lists.is_empty()).then(|| Revocation::new(peers, policy, made.authorities, made.lists)),
            authorities: made.authorities.to_vec(),
            known: Mutex::new(made.known),
        })
    }

    /// The names of the authorities, as a server hints them to a client.
    #[must_use]
    pub fn hints(&self) -> &[DistinguishedName] {
        self.plain.hints()
    }

    /// Believes a chain, or says why not. `name`: what a server must be called.
    ///
    /// # Errors
    /// The reason.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Reason> {
        if let Err(error) = self.plain.ask(leaf, intermediates, name, now) {
            return Err(self.refine(Reason::of_rustls(&error), leaf, intermediates, name, now));
        }
        if has_weak_key(leaf) {
            return Err(Reason::WeakKey);
        }
        if let Some(revocation) = &self.revocation {
            let asked = Asked {
                leaf,
                intermediates,
                name,
                now,
            };
            revocation.verify(asked, &self.learned())?;
        }
        self.learn(intermediates);
        Ok(())
    }

    fn refine(
        &self,
        reason: Reason,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Reason {
        match reason {
            Reason::UnknownCa | Reason::CaAsLeaf if is_self_issued(leaf) => {
                if self.authorities.iter().any(|ca| ca.as_ref() == leaf.as_ref()) {
                    Reason::CaAsLeaf
                } else {
                    Reason::SelfSigned
                }
            }
            Reason::UnknownCa if self.misses_intermediate(leaf, intermediates, name, now) => {
                Reason::MissingIntermediate
            }
            Reason::UnknownCa if self.has_weak_authority(leaf, intermediates) => Reason::WeakKey,
            Reason::Expired if is_valid(leaf, now) => Reason::IntermediateExpired,
            Reason::NotYetValid if is_valid(leaf, now) => Reason::IntermediateNotYetValid,
            Reason::WrongUsage if facts::serves(leaf, self.plain.peers() == Peers::Clients) => Reason::BadChain,
            reason => reason,
        }
    }

    /// Whether a CA certificate that is known from elsewhere closes the gap, or the certificate itself says that its issuer
    /// was issued by one of ours (RFC 5280 4.2.1.1, authorityCertIssuer).
    fn misses_intermediate(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> bool {
        let mut all = intermediates.to_vec();
        all.extend(self.known().iter().cloned());
        if all.len() > intermediates.len() {
            let answer = self.plain.ask(leaf, &all, name, now);
            if answer.is_ok() || answer.is_err_and(|error| Reason::of_rustls(&error) != Reason::UnknownCa) {
                return true;
            }
        }
        let top = intermediates.last().unwrap_or(leaf);
        grand_issuer(top).is_some_and(|grand| {
            self.authorities
                .iter()
                .any(|ca| subject(ca).is_some_and(|s| s == grand))
        })
    }

    /// Whether a CA on the way has a key that is too short: its signature is then not even looked at.
    fn has_weak_authority(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        let issuers = intermediates.iter().chain(&self.authorities);
        let mut issuers = issuers.filter(|ca| {
            [leaf]
                .into_iter()
                .chain(intermediates)
                .any(|below| issuer(below).is_some() && issuer(below) == subject(ca))
        });
        issuers.any(|ca| has_weak_key(ca))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<CertificateDer<'static>>> {
        // Nothing that could panic runs under the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, intermediates: &[CertificateDer<'_>]) {
        if intermediates.is_empty() {
            return;
        }
        let mut known = self.known();
        for der in intermediates.iter().take(LEARNED_EACH) {
            if known.len() < LEARNED_MAX && !known.iter().any(|have| have.as_ref() == der.as_ref()) {
                known.push(der.clone().into_owned());
            }
        }
    }

    /// What was learned, for the trust that takes this one's place.
    pub(super) fn learned(&self) -> Vec<CertificateDer<'static>> {
        self.known().clone()
    }
}

/// Certificates that are remembered from peers' chains.
const LEARNED_EACH: usize = 4;
const LEARNED_MAX: usize = 64;

/// Whether a certificate's own dates are in order.
fn is_valid(der: &CertificateDer<'_>, now: UnixTime) -> bool {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    facts::validity(der).is_some_and(|(from, to)| (from..=to).contains(&now))
}

fn subject(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.subject().as_raw().to_vec())
}

fn issuer(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.issuer().as_raw().to_vec())
}

/// Who issued the issuer, where a certificate says so.
fn grand_issuer(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let named = parsed
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.authority_cert_issuer.as_ref(),
            _ => None,
        })?;
    let name = named.iter().find_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name.as_raw().to_vec()),
        _ => None,
    })?;
    // An issuer that issued itself is a root.
    (name != parsed.issuer().as_raw()).then_some(name)
}

impl Finding {
    /// What may be told of this certificate.
    #[must_use]
    pub fn shown(leaf: &CertificateDer<'_>) -> Option<Shown> {
        let (not_before, not_after) = facts::validity(leaf)?;
        Some(Shown {
            fingerprint: sha256(leaf),
            not_before,
            not_after,
        })
    }
}

/// What the library is told, so that the peer gets the alert that says most (RFC 8446 6.2).
#[must_use]
pub fn alerting(reason: Reason) -> Error {
    let error = match reason {
        Reason::Expired | Reason::IntermediateExpired => CertificateError::Expired,
        Reason::NotYetValid | Reason::IntermediateNotYetValid => CertificateError::NotValidYet,
        Reason::Revoked | Reason::IntermediateRevoked => CertificateError::Revoked,
        Reason::WrongName => CertificateError::NotValidForName,
        Reason::UnknownCa | Reason::SelfSigned | Reason::MissingIntermediate => CertificateError::UnknownIssuer,
        Reason::CrlMissing | Reason::CrlExpired | Reason::CrlUnusable => CertificateError::UnknownRevocationStatus,
        Reason::WeakSignature | Reason::WeakKey | Reason::WrongUsage => CertificateError::InvalidPurpose,
        Reason::WrongFingerprint => CertificateError::ApplicationVerificationFailure,
        Reason::KeyMismatch => CertificateError::BadSignature,
        _ => CertificateError::BadEncoding,
    };
    error.into()
}

/// Whether a list can be used at all, asked when its file is read.
pub(super) fn usable(roots: &Arc<RootCertStore>, list: &List) -> Result<(), &'static str> {
    let builder = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider());
    match builder.with_crls([list.clone()]).build() {
        Err(VerifierBuilderError::InvalidCrl(error)) => Err(list_words(&error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Of a list that the library does not take.
fn list_words(error: &CertRevocationListError) -> &'static str {
    match error {
        CertRevocationListError::UnsupportedDeltaCrl => "is a delta list: give the full one",
        CertRevocationListError::UnsupportedIndirectCrl => "is an indirect list: give the CA's own",
        CertRevocationListError::UnsupportedCrlVersion => "is a list of version 1: a version 2 list is needed",
        _ => "is no revocation list that can be used",
    }
}
