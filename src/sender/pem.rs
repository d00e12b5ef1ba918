//! Certificates and keys from PEM files, for both TLS sides and for `waystation check`.
//! An error names the file and what to do, never what stands in it.
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};

/// Why a PEM file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("cannot read {path}: {error}; see that the file exists and that the service's user may read it")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is not valid PEM; give the text form that starts with -----BEGIN")]
    Malformed { path: PathBuf },
    #[error("{path} holds no certificate; give a file with -----BEGIN CERTIFICATE-----")]
    NoCertificate { path: PathBuf },
    #[error(
        "{path} holds no usable private key; give an unencrypted PKCS#8, PKCS#1 or SEC1 key in PEM, readable by the service's user only"
    )]
    NoKey { path: PathBuf },
}

/// Longest file that is read: a bundle of all public CAs is some 250 KiB.
const FILE_MAX: u64 = 4 << 20;

/// All certificates of a file, in its order.
///
/// # Errors
/// See `PemError`.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(PemError::NoCertificate { path: path.into() }),
        Ok(found) => Ok(found),
        Err(_) => Err(PemError::Malformed { path: path.into() }),
    }
}

/// The first private key of a file.
///
/// # Errors
/// See `PemError`.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    match PrivateKeyDer::from_pem_slice(&read(path)?) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(PemError::NoKey { path: path.into() }),
        Err(_) => Err(PemError::Malformed { path: path.into() }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let unreadable = |error| PemError::Unreadable {
        path: path.into(),
        error,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    io::Read::read_to_end(&mut io::Read::take(file, FILE_MAX), &mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
