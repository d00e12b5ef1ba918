//! Who has signed what, found by the signature itself: two authorities may share a name, and a key identifier may be left out.
//!
//! A certificate's way is searched wherever webpki searches it, with the same algorithms, so that no way is overlooked. What is
//! found here admits nobody: webpki is asked about each way.
use super::provider;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::asn1_rs::{Any, Class, FromDer};

/// What of a certificate tells whose it is (RFC 5280 4.1), each as it stands in its DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Titles<'a> {
    pub serial: &'a [u8],
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// The subjectPublicKeyInfo.
    pub key: &'a [u8],
}

impl<'a> Titles<'a> {
    /// `None` when it is no certificate.
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        let (certificate, _) = Element::first(der)?;
        let (body, _) = Element::first(certificate.content)?;
        let (version, after) = Element::first(body.content)?;
        // Left out by X.509 version 1.
        let rest = if version.is_tagged { after } else { body.content };
        let (serial, rest) = Element::first(rest)?;
        let (_algorithm, rest) = Element::first(rest)?;
        let (issuer, rest) = Element::first(rest)?;
        let (_validity, rest) = Element::first(rest)?;
        let (subject, rest) = Element::first(rest)?;
        let (key, _) = Element::first(rest)?;
        Some(Self {
            serial: serial.content,
            issuer: issuer.whole,
            subject: subject.whole,
            key: key.whole,
        })
    }
}

/// A certificate's way to one of the authorities, every signature on it verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Way<'a> {
    /// The issuer of the certificate first.
    pub intermediates: Vec<&'a CertificateDer<'a>>,
    /// Which of the authorities.
    pub authority: usize,
}

/// The ways of a certificate, at most `WAYS_MAX`.
pub(super) fn ways<'a>(
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    authorities: &[CertificateDer<'_>],
) -> Vec<Way<'a>> {
    let mut search = Search {
        intermediates,
        authorities,
        found: Vec::new(),
        looks: LOOKS_MAX,
    };
    search.from(leaf, &mut Vec::new());
    search.found
}

struct Search<'a, 'b> {
    intermediates: &'a [CertificateDer<'a>],
    authorities: &'b [CertificateDer<'b>],
    found: Vec<Way<'a>>,
    /// Signatures that are still looked at: a peer may send what it likes.
    looks: usize,
}

impl<'a> Search<'a, '_> {
    fn from(&mut self, below: &'a CertificateDer<'a>, passed: &mut Vec<&'a CertificateDer<'a>>) {
        let Some(titles) = Titles::of(below) else { return };
        for (authority, der) in self.authorities.iter().enumerate() {
            if self.has_signed(der, titles, below) && self.found.len() < WAYS_MAX {
                self.found.push(Way {
                    intermediates: passed.clone(),
                    authority,
                });
            }
        }
        if passed.len() == DEPTH_MAX {
            return;
        }
        for der in self.intermediates {
            // No ring: RFC 4158 5.2.
            let been = |one: &&CertificateDer<'_>| {
                let (one, other) = (Titles::of(one), Titles::of(der));
                one.map(|of| (of.subject, of.key)) == other.map(|of| (of.subject, of.key))
            };
            if !been(&below) && !passed.iter().any(been) && self.has_signed(der, titles, below) {
                passed.push(der);
                self.from(der, passed);
                passed.pop();
            }
        }
    }

    fn has_signed(&mut self, issuer: &[u8], titles: Titles<'_>, below: &[u8]) -> bool {
        let Some(issuer) = Titles::of(issuer).filter(|issuer| issuer.subject == titles.issuer) else {
            return false;
        };
        if self.looks == 0 {
            return false;
        }
        self.looks -= 1;
        is_signed_by(below, issuer.key)
    }
}

/// Whether a certificate or a revocation list was signed with this key (a subjectPublicKeyInfo), by an algorithm that is accepted.
pub(super) fn is_signed_by(der: &[u8], key: &[u8]) -> bool {
    verified(der, key).is_some()
}

fn verified(der: &[u8], key: &[u8]) -> Option<()> {
    let (outer, _) = Element::first(der)?;
    let (message, rest) = Element::first(outer.content)?;
    let (algorithm, rest) = Element::first(rest)?;
    let signature = bits(rest)?;
    let (key, _) = Element::first(key)?;
    let (kind, rest) = Element::first(key.content)?;
    let key = bits(rest)?;
    let fits = |one: &&&dyn SignatureVerificationAlgorithm| {
        one.public_key_alg_id().as_ref() == kind.content && one.signature_alg_id().as_ref() == algorithm.content
    };
    let accepted = provider().signature_verification_algorithms.all;
    let mut fitting = accepted.iter().filter(fits);
    fitting
        .any(|one| one.verify_signature(key, message.whole, signature).is_ok())
        .then_some(())
}

/// The bytes of a BIT STRING.
fn bits(input: &[u8]) -> Option<&[u8]> {
    match Element::first(input)?.0.content {
        [0, bytes @ ..] => Some(bytes),
        _ => None,
    }
}

/// One DER element.
struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
    /// Whether its tag means something in its place only (`[0]`).
    is_tagged: bool,
}

impl<'a> Element<'a> {
    /// The first element and what follows on it.
    fn first(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (rest, any) = Any::from_der(input).ok()?;
        let element = Self {
            whole: &input[..input.len() - rest.len()],
            content: any.data,
            is_tagged: any.header.class() == Class::ContextSpecific,
        };
        Some((element, rest))
    }
}

const WAYS_MAX: usize = 16;
/// As webpki: intermediates on one way, and signatures looked at for one certificate.
const DEPTH_MAX: usize = 6;
const LOOKS_MAX: usize = 100;
