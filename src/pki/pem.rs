//! Certificates, keys and revocation lists from files, for both TLS sides, for `waystation cert status` and for `waystation check`.
//! An error names the file and what to do, never what stands in it. Certificates and lists may be DER as well, as Windows
//! authorities publish them; a key is PEM.
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("cannot read {path}: {error}; see that the file exists and that the service's user may read it")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is longer than 64 MiB: it cannot be a certificate, a key or a revocation list")]
    TooLong { path: PathBuf },
    #[error("{path} is not valid PEM; give the text form that starts with -----BEGIN")]
    Malformed { path: PathBuf },
    #[error("{path} holds no certificate; give a file with -----BEGIN CERTIFICATE-----")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no revocation list; give a file with -----BEGIN X509 CRL-----, or the DER form")]
    NoList { path: PathBuf },
    #[error(
        "{path} holds no usable private key; give an unencrypted PKCS#8, PKCS#1 or SEC1 key in PEM, readable by the service's user only"
    )]
    NoKey { path: PathBuf },
}

/// Longest file that is read: the revocation list of a large public authority is some ten MiB.
const FILE_MAX: u64 = 64 << 20;

/// All certificates of a file, in its order.
///
/// # Errors
/// See `PemError`.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    if is_der(bytes) {
        return Ok(vec![CertificateDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(PemError::NoCertificate { path: path.into() }),
        Ok(found) => Ok(found),
        Err(_) => Err(PemError::Malformed { path: path.into() }),
    }
}

/// All revocation lists of a file, in its order.
///
/// # Errors
/// See `PemError`.
pub fn lists(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    if is_der(bytes) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(PemError::NoList { path: path.into() }),
        Ok(found) => Ok(found),
        Err(_) => Err(PemError::Malformed { path: path.into() }),
    }
}

/// The first private key of a file.
///
/// # Errors
/// See `PemError`.
pub fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(PemError::NoKey { path: path.into() }),
        Err(_) => Err(PemError::Malformed { path: path.into() }),
    }
}

/// The bytes of a file, at most `FILE_MAX`.
///
/// # Errors
/// `Unreadable` or `TooLong`.
pub fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let unreadable = |error| PemError::Unreadable {
        path: path.into(),
        error,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    io::Read::read_to_end(&mut io::Read::take(file, FILE_MAX + 1), &mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(PemError::TooLong { path: path.into() });
    }
    Ok(bytes)
}

/// A DER SEQUENCE with a two-byte length or longer; PEM begins with text.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}
