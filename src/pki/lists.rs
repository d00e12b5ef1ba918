//! Revocation lists by the keys that have signed them. Of each key, and of each part that it has cut its lists into, the newest counts.
use super::signed::{Titles, is_signed_by};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::collections::BTreeSet;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

pub(super) type List = CertificateRevocationListDer<'static>;

/// All lists of one `tls` table, the newest first.
#[derive(Debug, Default)]
pub(super) struct Lists(
    Vec<Known>,
    /// How many there were, those that cannot be read among them.
    usize,
);

#[derive(Debug)]
struct Known {
    der: List,
    /// The name of the CA, as it stands in the DER bytes.
    issuer: Vec<u8>,
    age: Age,
    /// What of the CA's certificates it covers: its issuingDistributionPoint (RFC 5280 5.2.5), empty for all.
    part: Vec<u8>,
    /// The identifier of the key that has signed it, when it says so.
    signer: Option<Vec<u8>>,
    /// Where it stood among all.
    place: usize,
}

/// What makes a list newer: when it was made; then its number, by length and bytes (RFC 5280 5.2.3); of equals the one that stands
/// later in the files.
type Age = (i64, usize, Vec<u8>, usize);

impl Lists {
    pub(super) fn of(ders: &[List]) -> Self {
        // One that cannot be read was refused when the files were read.
        let known = ders.iter().enumerate().filter_map(|(place, der)| Known::of(der, place));
        let mut all: Vec<Known> = known.collect();
        all.sort_by(|a, b| b.age.cmp(&a.age));
        Self(all, ders.len())
    }

    /// What counts of a CA: the newest list of each part that its key has signed, the newest first.
    pub(super) fn of_authority(&self, ca: Titles<'_>) -> Vec<&List> {
        let mut parts = BTreeSet::new();
        self.signed_by(ca)
            .filter(|known| parts.insert(&known.part))
            .map(|known| &known.der)
            .collect()
    }

    /// Whether a CA's key has signed one of the lists.
    pub(super) fn covers(&self, ca: &CertificateDer<'_>) -> bool {
        Titles::of(ca).is_some_and(|titles| self.signed_by(titles).next().is_some())
    }

    /// Whether there is a list in a CA's name that none of these certificates' keys has signed, and that may be the CA's own,
    /// damaged: it does not say that it is of another key.
    pub(super) fn has_stray(&self, ca: &CertificateDer<'_>, others: &[&CertificateDer<'_>]) -> bool {
        self.0.iter().filter(|known| known.may_be_of(ca)).any(|known| {
            let mut keys = others.iter().filter_map(|der| Titles::of(der));
            !keys.any(|other| is_signed_by(&known.der, other.key))
        })
    }

    /// For each list in the order of the files, whether it may be one of these authorities' own, but none of them has signed it.
    pub(super) fn strays(&self, authorities: &[CertificateDer<'_>]) -> Vec<bool> {
        let mut strays = vec![false; self.1];
        for known in &self.0 {
            let mut keys = authorities.iter().filter_map(|der| Titles::of(der));
            strays[known.place] =
                authorities.iter().any(|ca| known.may_be_of(ca)) && !keys.any(|ca| is_signed_by(&known.der, ca.key));
        }
        strays
    }

    /// For each list in the order of the files, whether a newer one of the same key and part stands beside it. A key that is not among
    /// these certificates is known by its identifier only.
    pub(super) fn superseded(&self, cas: &[&CertificateDer<'_>]) -> Vec<bool> {
        let mut superseded = vec![false; self.1];
        let mut seen = BTreeSet::new();
        for known in &self.0 {
            let mut titles = cas.iter().filter_map(|der| Titles::of(der));
            let signer = titles.find(|ca| ca.subject == known.issuer && is_signed_by(&known.der, ca.key));
            let signer = match (signer, &known.signer) {
                (Some(ca), _) => ca.key.to_vec(),
                (None, Some(identifier)) => identifier.clone(),
                (None, None) => continue,
            };
            superseded[known.place] = !seen.insert((&known.issuer, signer, &known.part));
        }
        superseded
    }

    fn signed_by(&self, ca: Titles<'_>) -> impl Iterator<Item = &Known> {
        self.0
            .iter()
            .filter(move |known| known.issuer == ca.subject && is_signed_by(&known.der, ca.key))
    }
}

impl Known {
    /// Whether it is in the CA's name, and does not say that it is of another key.
    fn may_be_of(&self, ca: &CertificateDer<'_>) -> bool {
        let named = Titles::of(ca).is_some_and(|titles| titles.subject == self.issuer);
        let own = || key_identifier(ca);
        named && (self.signer.is_none() || own().is_none_or(|own| Some(own) == self.signer))
    }

    fn of(der: &List, place: usize) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        let number = list.crl_number().map(|number| number.to_bytes_be()).unwrap_or_default();
        let mut part = Vec::new();
        let mut signer = None;
        for extension in list.extensions() {
            if extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
                part = extension.value.to_vec();
            }
            if let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() {
                signer = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
        }
        Some(Self {
            der: der.clone(),
            issuer: list.issuer().as_raw().to_vec(),
            age: (list.last_update().timestamp(), number.len(), number, place),
            part,
            signer,
            place,
        })
    }
}

/// Whether one of these lists revokes the certificate.
pub(super) fn revoke(lists: &[&List], certificate: Titles<'_>) -> bool {
    lists.iter().any(|der| {
        CertificateRevocationList::from_der(der).is_ok_and(|(_, list)| {
            let mut revoked = list.iter_revoked_certificates();
            revoked.any(|one| one.raw_serial() == certificate.serial)
        })
    })
}

/// The identifier of a CA's key, when its certificate has one (RFC 5280 4.2.1.2).
fn key_identifier(der: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let mut extensions = parsed.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}
