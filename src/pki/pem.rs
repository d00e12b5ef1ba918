//! Certificates, keys and revocation lists from files, for both TLS sides, for `waystation cert status` and for `waystation check`.
//! An error names the file and what to do, never what stands in it. Certificates and lists may be DER as well, as Windows
//! authorities publish them; a key is PEM. A byte order mark before a PEM file, as Windows editors write it, means nothing.
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
    #[error(
        "{path} is text in UTF-16, as Windows editors and PowerShell write it: save it as plain ASCII or UTF-8, or make it anew with openssl"
    )]
    Wide { path: PathBuf },
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
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(plain(path, bytes)?).collect();
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
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(plain(path, bytes)?).collect();
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
    match PrivateKeyDer::from_pem_slice(plain(path, bytes)?) {
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

/// A PEM file's text without a byte order mark, which would hide the first line.
fn plain<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], PemError> {
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => Ok(text),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(PemError::Wide { path: path.into() }),
        text => Ok(text),
    }
}

/// A DER SEQUENCE with a two-byte length or longer; PEM begins with text.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}

#[cfg(test)]
mod tests {
    use super::super::material::faults;
    use super::super::tests::{Authority, open, sources, verify};
    use std::fs;

    #[test]
    fn a_byte_order_mark_means_nothing_and_wide_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new(folder.path(), "ca");
        let pair = ca.issue("own", |_| {});
        let whole = sources(&pair, &[&ca]);
        for path in [&pair.certificate, &pair.key, &ca.ca] {
            let marked = [b"\xef\xbb\xbf".to_vec(), fs::read(path).unwrap()].concat();
            fs::write(path, marked).unwrap();
        }
        let trust = open(whole.clone()).current().trust.clone().unwrap();
        assert_eq!(verify(&trust, &pair), Ok(()));
        let text = fs::read_to_string(&pair.certificate).unwrap();
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(&pair.certificate, wide).unwrap();
        let (key, error) = &faults(&whole)[0];
        assert!(*key == "certificate" && error.to_string().contains("UTF-16"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_certificate_or_key_is_said_of_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new(folder.path(), "ca");
        let pair = ca.issue("own", |_| {});
        let whole = sources(&pair, &[&ca]);
        let good = fs::read(&pair.certificate).unwrap();
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&pair.certificate, garbled).unwrap();
        let told = |at: usize| {
            let (key, error) = &faults(&whole)[at];
            format!("{key}: {error}")
        };
        assert!(
            told(0).starts_with("certificate: ") && told(0).contains("is damaged"),
            "{}",
            told(0)
        );
        fs::write(&pair.certificate, good).unwrap();
        // `openssl genrsa 1024`, which belongs to nothing.
        fs::write(&pair.key, SHORT_KEY).unwrap();
        assert!(
            told(0).starts_with("key: ") && told(0).contains("at least RSA 2048"),
            "{}",
            told(0)
        );
    }

    const SHORT_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIICdQIBADANBgkqhkiG9w0BAQEFAASCAl8wggJbAgEAAoGBALzDngxOOhMmVfLV\n\
Uro/D9J+lg6x8aGXd0oktquM98cFEBOWSkXMkHfAq56jv6jOIHwIikr7TAqbocb8\n\
w6ExtdVe3Ocq5PwaNu6eoWmvXpmcU9b/Fh0BROpukI5vJJydVvftTBmhh6T+aS/j\n\
6BOQgpoZNA9FBPCRD0O8qi+T4Vx5AgMBAAECgYAvfuEDo6NFMj4qDbb1Gez3P9at\n\
9+Qejqf7ReWYoK2vq/xxkT069s/a8eW80uLkrIjL7LIvT6/Ac4xvLyZiJsnjaOYs\n\
/dAEitKhamO4HWwoRgQ8FHoFDkHpXIU7yToUkiNXhLH1EjgTSrFC2Sdh0Gxh0ZPZ\n\
UJd+q1zzvaynAC33IQJBAPUKCE8lp4MxQrnO9rtWHAxJ6MwdInfGjtsGyxzaFxRG\n\
65JrLYBZbz8SdqDxD36NgbuN08+I99EzOUom2/tdhL0CQQDFNSx7OyYYqkJXj980\n\
LSoJrm1dgiFAQ8YhVIo++wn80K6t4YwHo+y9MBMcfdDvbX/6NESkgthSI0gJ/txK\n\
yLhtAkBS9LmJafsC/CtV0k5Pb8CBHIh2iaqAmDUGy475zo+fqr7Xy/cUi7KQzMRi\n\
ihmvw2JXR5WcngcfyNKtWuiAedGVAkA9GMw/IYQcACOtnRU5xQRRG4kmfzpt/pFT\n\
oi1ydbQSb1Su6kHH3DFsK4jAOvqQMwyDJ85caW07hVK8RglZ4fXBAkB7LevQgP+A\n\
j4K4J5BUYh+FqucTi5dSqTsbyBfDJswItfZvLRbLmoQVucmxzhN+0GRnFlBNCl9J\n\
uJSh0kcculAC\n\
-----END PRIVATE KEY-----\n\
";
}
