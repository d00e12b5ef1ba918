//! Whether the lists revoke a certificate that is good but for them.
//!
//! webpki looks at the first list of a name only, and takes any authority of a name. Here authorities may share a name, as a CA that was
//! renewed does. So webpki is asked about one way at a time, with that way's certificates and authority alone and with the lists
//! that their keys have signed: no list of a namesake can speak for another, nor hide one.
use super::check::{Check, Peers, Policy};
use super::lists::{List, Lists, revoke};
use super::signed::{Titles, Way, ways};
use super::trust::CrlPolicy;
use super::{Reason, sha256};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub(super) struct Revocation {
    peers: Peers,
    policy: Policy,
    authorities: Vec<CertificateDer<'static>>,
    lists: Lists,
    /// What was made for ways that came before, the newest last: a list may be long.
    checks: Mutex<Vec<(WayId, Arc<Check>)>>,
}

/// The authority of a way and the fingerprints of its intermediates.
type WayId = (usize, Vec<[u8; 32]>);

/// One certificate that is asked about.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub leaf: &'a CertificateDer<'a>,
    pub intermediates: &'a [CertificateDer<'a>],
    /// What a server must be called.
    pub name: Option<&'a ServerName<'a>>,
    pub now: UnixTime,
}

impl Revocation {
    pub(super) fn new(peers: Peers, policy: Policy, authorities: &[CertificateDer<'static>], lists: &[List]) -> Self {
        Self {
            peers,
            policy,
            authorities: authorities.to_vec(),
            lists: Lists::of(lists),
            checks: Mutex::default(),
        }
    }

    /// Whether a way is left that no list revokes; else what says most. `known`: CA certificates from elsewhere, which tell a list
    /// of another key from a damaged one.
    pub(super) fn verify(&self, asked: Asked<'_>, known: &[CertificateDer<'_>]) -> Result<(), Reason> {
        let mut said = Reason::CrlMissing;
        for way in ways(asked.leaf, asked.intermediates, &self.authorities) {
            match self.look(&way, asked, known) {
                Ok(()) => return Ok(()),
                Err(reason) if weight(reason) > weight(said) => said = reason,
                Err(_) => {}
            }
        }
        Err(said)
    }

    fn look(&self, way: &Way<'_>, asked: Asked<'_>, known: &[CertificateDer<'_>]) -> Result<(), Reason> {
        let check = self.check(way, known)?;
        let intermediates: Vec<CertificateDer<'_>> = way.intermediates.iter().map(|der| (*der).clone()).collect();
        match check.ask(asked.leaf, &intermediates, asked.name, asked.now) {
            Ok(()) => Ok(()),
            Err(error) => match Reason::of_rustls(&error) {
                Reason::Revoked if !self.names(asked.leaf, way) => Err(Reason::IntermediateRevoked),
                reason => Err(reason),
            },
        }
    }

    /// Whether it is the certificate itself that the list of its issuer names.
    fn names(&self, leaf: &CertificateDer<'_>, way: &Way<'_>) -> bool {
        let issuer = self.issuers(way).next().and_then(|der| Titles::of(der));
        let (Some(issuer), Some(titles)) = (issuer, Titles::of(leaf)) else {
            return true;
        };
        revoke(&self.lists.of_authority(issuer), titles)
    }

    fn issuers<'a>(&'a self, way: &'a Way<'_>) -> impl Iterator<Item = &'a CertificateDer<'a>> {
        let authority = &self.authorities[way.authority];
        way.intermediates.iter().copied().chain([authority])
    }

    fn check(&self, way: &Way<'_>, known: &[CertificateDer<'_>]) -> Result<Arc<Check>, Reason> {
        let id: WayId = (way.authority, way.intermediates.iter().map(|der| sha256(der)).collect());
        if let Some((_, check)) = self.checks().iter().find(|(of, _)| *of == id) {
            return Ok(check.clone());
        }
        let lists = self.of_way(way, known)?;
        let mut roots = RootCertStore::empty();
        let made = roots.add(self.authorities[way.authority].clone());
        let check = made.ok().and_then(|()| {
            let check = Check::new(self.peers, Arc::new(roots), lists, self.policy);
            check.ok().map(Arc::new)
        });
        // Authority and lists were taken before, when the files were read.
        let check = check.ok_or(Reason::CrlUnusable)?;
        let mut checks = self.checks();
        if checks.len() == CHECKS_MAX {
            checks.remove(0);
        }
        checks.push((id, check.clone()));
        Ok(check)
    }

    /// The lists that count on this way.
    fn of_way(&self, way: &Way<'_>, known: &[CertificateDer<'_>]) -> Result<Vec<List>, Reason> {
        let mut all: Vec<List> = Vec::new();
        for issuer in self.issuers(way) {
            let of_issuer = Titles::of(issuer).map(|titles| self.lists.of_authority(titles));
            let of_issuer = of_issuer.unwrap_or_default();
            if of_issuer.is_empty() {
                let others: Vec<&CertificateDer<'_>> =
                    self.authorities.iter().chain(known).chain(self.issuers(way)).collect();
                if self.lists.has_stray(issuer, &others) {
                    return Err(Reason::CrlUnusable);
                }
            }
            all.extend(of_issuer.into_iter().cloned());
        }
        // The library takes no lists at all for "look nothing up".
        if all.is_empty() && self.policy.missing == CrlPolicy::Refuse {
            return Err(Reason::CrlMissing);
        }
        Ok(all)
    }

    fn checks(&self) -> std::sync::MutexGuard<'_, Vec<(WayId, Arc<Check>)>> {
        // Nothing that could panic runs under the lock.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much a reason says, among those of several ways.
fn weight(reason: Reason) -> u8 {
    match reason {
        Reason::Revoked => 5,
        Reason::IntermediateRevoked => 4,
        Reason::CrlExpired => 3,
        Reason::CrlUnusable => 2,
        Reason::CrlMissing => 1,
        // Of a way that is no good without lists either.
        _ => 0,
    }
}

/// Issuing CAs whose checks are kept.
const CHECKS_MAX: usize = 64;
