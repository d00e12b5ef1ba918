//! Everything that one `tls` table names: read from the disk as one, judged, and made ready for handshakes.
use super::facts::{self, Chain, Facts, Kind};
use super::lists::Lists;
use super::pem::{self, PemError};
use super::reason::Reason;
use super::trust::{self, CrlPolicy, Made, Trust};
use super::{Files, provider};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a TLS configuration cannot be used; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(
        "nothing says how to know the destination: set `ca` to the CA that signed its certificate, or `fingerprint` to that certificate's SHA-256"
    )]
    NoTrust,
    #[error("`certificate` and `key` belong together: set both or none")]
    HalfIdentity,
    #[error("`client_ca` is missing: name the CA that signs client certificates, or set client_certificate = \"none\"")]
    NoClientCa,
    #[error("`client_ca` has no use with client_certificate = \"none\": remove it, or ask for certificates")]
    UnusedClientCa,
    #[error("a revocation list has no use without a CA: name the CA, or remove the list")]
    UnusedList,
    #[error("{key} is not the key of {certificate}: give the key that this certificate was made for")]
    KeyMismatch { certificate: PathBuf, key: PathBuf },
    #[error("{path} holds a certificate that cannot be used: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error(
        "{key} holds a key that cannot be used ({kind}): at least RSA 2048, ECDSA P-256 or Ed25519 is needed; make a new key, and have a certificate made for it"
    )]
    UnusableKey { key: PathBuf, kind: String },
    #[error("{path} {reason}")]
    List { path: PathBuf, reason: &'static str },
    #[error("{path} holds a certificate that is valid {from} to {to} only, while the one in force is valid now")]
    OutOfTime { path: PathBuf, from: String, to: String },
    #[error("`server_name` is neither a DNS name nor an IP address")]
    ServerName,
    #[error("`fingerprint` is not a SHA-256: write 64 hexadecimal digits, with or without colons")]
    Fingerprint,
    #[error("the TLS library refuses its own defaults: {0}")]
    Library(String),
}

/// Which side of TLS the box is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It verifies clients; `optional`: a client need not show a certificate.
    Server { optional: bool },
    /// It verifies a server.
    Client,
}

/// The files of one `tls` table, and the policy of its lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sources {
    pub side: Side,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ca: Files,
    pub crl: Files,
    pub crl_expired: CrlPolicy,
    pub crl_missing: CrlPolicy,
}

/// What the files hold, ready for handshakes.
#[derive(Debug)]
pub struct Material {
    pub identity: Option<Arc<CertifiedKey>>,
    pub trust: Option<Arc<Trust>>,
    pub facts: Vec<Facts>,
    /// Of every file's name and content.
    pub(super) digest: [u8; 32],
}

/// The files' bytes, read once.
pub(super) struct Bytes {
    certificate: Option<Part>,
    key: Option<Part>,
    ca: Vec<Part>,
    crl: Vec<Part>,
}

struct Part {
    path: PathBuf,
    bytes: Result<Vec<u8>, PemError>,
}

impl Part {
    fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            bytes: pem::read(path),
        }
    }

    /// The content, once: a file that could not be read has said so.
    fn take<T>(&mut self, parse: impl Fn(&Path, &[u8]) -> Result<T, PemError>) -> Result<T, PemError> {
        match std::mem::replace(&mut self.bytes, Ok(Vec::new())) {
            Ok(bytes) => {
                let parsed = parse(&self.path, &bytes);
                self.bytes = Ok(bytes);
                parsed
            }
            Err(error) => Err(error),
        }
    }

    /// Its certificates, which are put into the store as well.
    fn authorities(&mut self, store: &mut RootCertStore) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all = self.take(pem::certificates)?;
        for der in &all {
            store.add(der.clone()).map_err(|error| TlsError::Unusable {
                path: self.path.clone(),
                reason: Reason::of_rustls(&error).word().to_owned(),
            })?;
        }
        Ok(all)
    }

    /// Its lists, held against the authorities; `None` when those are not known.
    fn lists(
        &mut self,
        roots: Option<&Arc<RootCertStore>>,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let all = self.take(pem::lists)?;
        for der in &all {
            roots
                .map_or(Ok(()), |roots| trust::usable(roots, der))
                .map_err(|reason| TlsError::List {
                    path: self.path.clone(),
                    reason,
                })?;
        }
        Ok(all)
    }
}

impl Sources {
    /// The configuration's keys for authorities and lists.
    fn keys(&self) -> (&'static str, &'static str) {
        match self.side {
            Side::Server { .. } => ("client_ca", "client_crl"),
            Side::Client => ("ca", "crl"),
        }
    }

    /// Of a client that shows no certificate and knows its server by the authorities of one file.
    #[must_use]
    pub fn of_authority(ca: &Path) -> Self {
        Self {
            side: Side::Client,
            certificate: None,
            key: None,
            ca: Files::from(ca.to_owned()),
            crl: Files::default(),
            crl_expired: CrlPolicy::default(),
            crl_missing: CrlPolicy::default(),
        }
    }

    /// Whether there is anything to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificate.is_none() && self.key.is_none() && self.ca.is_empty() && self.crl.is_empty()
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes {
            certificate: self.certificate.as_deref().map(Part::read),
            key: self.key.as_deref().map(Part::read),
            ca: self.ca.iter().map(Part::read).collect(),
            crl: self.crl.iter().map(Part::read).collect(),
        }
    }

    /// Reads all files and makes them ready. `known`: CA certificates from elsewhere, to tell a missing intermediate by.
    ///
    /// # Errors
    /// See `TlsError`: the first thing that is wrong.
    pub(super) fn material(&self, mut bytes: Bytes, known: Vec<CertificateDer<'static>>) -> Result<Material, TlsError> {
        let digest = bytes.digest();
        let chain = match &mut bytes.certificate {
            Some(part) => part.take(pem::certificates)?,
            None => Vec::new(),
        };
        let identity = bytes.identity(&chain)?;
        let (roots, authorities) = bytes.authorities()?;
        if authorities.is_empty() && !bytes.crl.is_empty() {
            return Err(TlsError::UnusedList);
        }
        let lists = bytes.lists(&roots)?;
        let mut known = known;
        known.extend(chain.iter().skip(1).cloned());
        let made = Made {
            roots: &roots,
            authorities: &authorities,
            lists: &lists,
            expired: self.crl_expired,
            missing: self.crl_missing,
            known,
        };
        let trust = match self.side {
            _ if authorities.is_empty() => None,
            Side::Server { .. } => Some(Trust::of_clients(made)?),
            Side::Client => Some(Trust::of_servers(made)?),
        };
        Ok(Material {
            identity,
            trust: trust.map(Arc::new),
            facts: self.facts(bytes),
            digest,
        })
    }

    /// What all files hold, those that cannot be read or do not fit with their reasons.
    #[must_use]
    pub fn survey(&self) -> Vec<Facts> {
        self.facts(self.bytes())
    }

    fn facts(&self, mut bytes: Bytes) -> Vec<Facts> {
        let (ca_key, crl_key) = self.keys();
        let mut found = Vec::new();
        let mut chain = Vec::new();
        if let Some(part) = &mut bytes.certificate {
            match part.take(pem::certificates) {
                Ok(read) => chain = read,
                Err(error) => found.push(placed(
                    Facts::unreadable(Kind::Certificate, error.to_string()),
                    "certificate",
                    part,
                )),
            }
        }
        let mut authorities = Vec::new();
        let mut rest = Vec::new();
        let mut lists = Vec::new();
        for part in &mut bytes.ca {
            match part.take(pem::certificates) {
                Ok(read) => {
                    rest.extend(
                        read.iter()
                            .map(|der| placed(Facts::of_certificate(Kind::Ca, der), ca_key, part)),
                    );
                    authorities.extend(read);
                }
                Err(error) => rest.push(placed(Facts::unreadable(Kind::Ca, error.to_string()), ca_key, part)),
            }
        }
        for part in &mut bytes.crl {
            match part.take(pem::lists) {
                Ok(read) => {
                    rest.extend(read.iter().map(|der| placed(Facts::of_list(der), crl_key, part)));
                    lists.extend(read);
                }
                Err(error) => rest.push(placed(Facts::unreadable(Kind::Crl, error.to_string()), crl_key, part)),
            }
        }
        relate(&mut rest, &authorities, &chain, &lists);
        found.extend(bytes.own_facts(&chain, &authorities));
        found.extend(rest);
        found
    }
}

/// Notes which list counts, and which authority has one. What could not be read has no place among `authorities` and `lists`.
fn relate(
    facts: &mut [Facts],
    authorities: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    lists: &[CertificateRevocationListDer<'static>],
) {
    if lists.is_empty() {
        return;
    }
    let known = Lists::of(lists);
    let cas: Vec<_> = authorities.iter().chain(chain.iter().skip(1)).collect();
    let marks = known.superseded(&cas).into_iter().zip(known.strays(authorities));
    let listed = authorities.iter().map(|ca| known.covers(ca));
    // Files that hold nothing readable made one entry without a fingerprint each.
    let of_kind = |kind| move |of: &&mut Facts| of.kind == kind && !of.fingerprint.is_empty();
    for (of, listed) in facts.iter_mut().filter(of_kind(Kind::Ca)).zip(listed) {
        of.has_list = Some(listed);
    }
    for (of, (superseded, stray)) in facts.iter_mut().filter(of_kind(Kind::Crl)).zip(marks) {
        (of.superseded, of.stray) = (superseded, stray);
    }
}

fn placed(facts: Facts, key: &str, part: &Part) -> Facts {
    Facts {
        key: key.to_owned(),
        file: part.path.display().to_string(),
        ..facts
    }
}

impl Bytes {
    /// Names and contents; a file that cannot be read counts as empty.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let parts = self
            .certificate
            .iter()
            .chain(&self.key)
            .chain(&self.ca)
            .chain(&self.crl);
        for part in parts {
            let content = part.bytes.as_deref().unwrap_or_default();
            hasher.update(part.path.as_os_str().as_encoded_bytes());
            hasher.update(&[u8::from(part.bytes.is_ok())]);
            hasher.update(&(content.len() as u64).to_be_bytes());
            hasher.update(content);
        }
        *hasher.finalize().as_bytes()
    }

    fn identity(&mut self, chain: &[CertificateDer<'static>]) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        let (certificate, key) = match (&self.certificate, &mut self.key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            _ => return Err(TlsError::HalfIdentity),
        };
        let private = key.take(pem::private_key)?;
        let made = CertifiedKey::from_der(chain.to_vec(), private, &provider());
        made.map(|made| Some(Arc::new(made))).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
                certificate: certificate.path.clone(),
                key: key.path.clone(),
            },
            // The library's word for a key that it cannot load.
            rustls::Error::General(_) => TlsError::UnusableKey {
                key: key.path.clone(),
                kind: chain
                    .first()
                    .and_then(|leaf| facts::weak_key(leaf))
                    .unwrap_or_else(|| "too short, of another kind, or damaged".to_owned()),
            },
            error => TlsError::Unusable {
                path: certificate.path.clone(),
                reason: match Reason::of_rustls(&error) {
                    Reason::BadCertificate => {
                        "it is damaged, or of X.509 version 1: give the certificate as the CA issued it".to_owned()
                    }
                    _ => error.to_string(),
                },
            },
        })
    }

    fn authorities(&mut self) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
        let (mut store, mut all) = (RootCertStore::empty(), Vec::new());
        for part in &mut self.ca {
            all.extend(part.authorities(&mut store)?);
        }
        Ok((Arc::new(store), all))
    }

    fn lists(&mut self, roots: &Arc<RootCertStore>) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let mut all = Vec::new();
        for part in &mut self.crl {
            all.extend(part.lists(Some(roots))?);
        }
        Ok(all)
    }

    /// Facts of the box's own chain, with its key and its completeness.
    fn own_facts(&mut self, chain: &[CertificateDer<'static>], authorities: &[CertificateDer<'static>]) -> Vec<Facts> {
        let Some(part) = &self.certificate else {
            return Vec::new();
        };
        let place = |facts| placed(facts, "certificate", part);
        let kind = |at| if at == 0 { Kind::Certificate } else { Kind::Intermediate };
        let mut own: Vec<Facts> = chain
            .iter()
            .enumerate()
            .map(|(at, der)| place(Facts::of_certificate(kind(at), der)))
            .collect();
        let whole: Option<Chain> = (!chain.is_empty()).then(|| facts::chain(chain, authorities));
        let fit = match self.identity(chain) {
            Ok(made) => made.map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        };
        if let Some(leaf) = own.first_mut() {
            leaf.chain = whole;
            leaf.key_matches = match &fit {
                Some(Ok(())) => Some(true),
                Some(Err(TlsError::KeyMismatch { .. })) => Some(false),
                _ => None,
            };
            if let Some(Err(error)) = fit {
                leaf.error = Some(error.to_string());
            }
        }
        own
    }
}

/// Everything that is wrong with the files of a table, each with its key: for `waystation check`. One file of several has its index.
#[must_use]
pub fn faults(sources: &Sources) -> Vec<(String, TlsError)> {
    let mut bytes = sources.bytes();
    let mut found = own_faults(sources, &mut bytes);
    let (ca_key, crl_key) = sources.keys();
    let indexed = |key: &str, count: usize, at: usize| match count {
        1 => key.to_owned(),
        _ => format!("{key}[{at}]"),
    };
    let mut store = RootCertStore::empty();
    let count = bytes.ca.len();
    let wrong = bytes.ca.iter_mut().enumerate().filter_map(|(at, part)| {
        let error = part.authorities(&mut store).err()?;
        Some((indexed(ca_key, count, at), error))
    });
    let wrong: Vec<(String, TlsError)> = wrong.collect();
    let roots = wrong.is_empty().then(|| Arc::new(store));
    found.extend(wrong);
    if count == 0 && !bytes.crl.is_empty() {
        found.push((crl_key.to_owned(), TlsError::UnusedList));
    } else {
        let count = bytes.crl.len();
        found.extend(bytes.crl.iter_mut().enumerate().filter_map(|(at, part)| {
            let error = part.lists(roots.as_ref()).err()?;
            Some((indexed(crl_key, count, at), error))
        }));
    }
    // What is left concerns more than one key, and can be seen only when each can be read.
    if found.is_empty() {
        let whole = sources.material(sources.bytes(), Vec::new());
        found.extend(whole.err().map(|error| (String::new(), error)));
    }
    found
}

/// What is wrong with the box's own certificate and key.
fn own_faults(sources: &Sources, bytes: &mut Bytes) -> Vec<(String, TlsError)> {
    let mut found = Vec::new();
    let chain = match bytes.certificate.as_mut().map(|part| part.take(pem::certificates)) {
        Some(Ok(chain)) => Some(chain),
        Some(Err(error)) => {
            found.push(("certificate".to_owned(), error.into()));
            None
        }
        None => None,
    };
    let key = bytes.key.as_mut().and_then(|part| part.take(pem::private_key).err());
    found.extend(key.map(|error| ("key".to_owned(), error.into())));
    match (&sources.certificate, &sources.key) {
        (Some(_), None) => found.push(("key".to_owned(), TlsError::HalfIdentity)),
        (None, Some(_)) => found.push(("certificate".to_owned(), TlsError::HalfIdentity)),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if let (true, Some(chain)) = (found.is_empty(), chain) {
        let at = |error: &TlsError| match error {
            TlsError::Unusable { .. } => "certificate".to_owned(),
            _ => "key".to_owned(),
        };
        found.extend(bytes.identity(&chain).err().map(|error| (at(&error), error)));
    }
    found
}
