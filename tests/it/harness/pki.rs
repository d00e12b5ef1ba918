//! A certificate authority for one test, and the PEM files that it signs: good ones by `sign`, and every kind of bad one by `Recipe`.
//! Bad dates stand in the certificate; no clock is moved.
use super::tools;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Authority {
    folder: PathBuf,
    pub certificate: PathBuf,
    /// For `openssl`, which signs what rcgen will not.
    pub key: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// SHA-256 of the DER bytes, hexadecimal.
    pub fingerprint: String,
    pub serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    Ecdsa,
    Rsa,
    Ed25519,
}

impl Key {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Most are made by openssl: the library of these tests makes no RSA keys.
    pub fn make(self) -> KeyPair {
        let made = match self {
            Self::Ecdsa => KeyPair::generate(),
            // In the form that OpenSSL 3.0 reads.
            Self::Ed25519 => KeyPair::from_pem(&tools::tool("openssl", &["genpkey", "-algorithm", "ED25519"]).ok().out),
            Self::Rsa => {
                let arguments = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
                KeyPair::from_pem(&tools::tool("openssl", &arguments).ok().out)
            }
        };
        made.expect("a key")
    }
}

/// A certificate to be signed. By default good for `localhost` and 127.0.0.1, for either role.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub common_name: String,
    pub names: Vec<String>,
    pub key: Key,
    /// Valid from the first day of one year to the first day of another.
    pub years: (i32, i32),
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub ca: bool,
}

impl Recipe {
    pub fn new(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            key: Key::Ecdsa,
            years: (2020, 2090),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ca: false,
        }
    }

    pub fn key(self, key: Key) -> Self {
        Self { key, ..self }
    }

    pub fn years(self, from: i32, until: i32) -> Self {
        Self {
            years: (from, until),
            ..self
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(self.names.clone()).expect("names of a certificate");
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name.as_str());
        params.extended_key_usages = self.usages.clone();
        params.not_before = rcgen::date_time_ymd(self.years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(self.years.1, 1, 1);
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }
}

/// A serial number that no other certificate of this run has.
fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        let params = Self::params(name);
        let key = KeyPair::generate().expect("a key");
        let signed = params.self_signed(&key).expect("a root");
        Self::written(folder, name, &signed.pem(), (params, key))
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        let params = Self::params(name);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("an intermediate");
        Self::written(&self.folder, name, &signed.pem(), (params, key))
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn written(folder: &Path, name: &str, pem: &str, (params, signer): (CertificateParams, KeyPair)) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for certificates");
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, pem).expect("writable");
        std::fs::write(&key, signer.serialize_pem()).expect("writable");
        Self {
            folder: folder.to_owned(),
            certificate,
            key,
            issuer: Issuer::new(params, signer),
        }
    }

    /// A certificate for `localhost` and 127.0.0.1 with this common name, for either role.
    pub fn sign(&self, file: &str, common_name: &str) -> Pair {
        self.make(file, &Recipe::new(common_name))
    }

    /// A certificate by its recipe, in `file.pem` and `file.key`.
    pub fn make(&self, file: &str, recipe: &Recipe) -> Pair {
        self.make_with(file, recipe, &recipe.key.make())
    }

    /// The same for a key that is there already.
    pub fn make_with(&self, file: &str, recipe: &Recipe, key: &KeyPair) -> Pair {
        let (mut params, serial) = (recipe.params(), serial());
        params.serial_number = Some(SerialNumber::from(serial));
        let signed = params.signed_by(key, &self.issuer).expect("a certificate");
        let pair = self.place(file, super::objects::sha256(signed.der()), serial);
        std::fs::write(&pair.certificate, signed.pem()).expect("writable");
        std::fs::write(&pair.key, key.serialize_pem()).expect("writable");
        pair
    }

    /// A certificate that its own key has signed, beside this authority's files.
    pub fn self_signed(&self, file: &str, recipe: &Recipe) -> Pair {
        let (params, key) = (recipe.params(), recipe.key.make());
        let signed = params.self_signed(&key).expect("a certificate");
        let pair = self.place(file, super::objects::sha256(signed.der()), 0);
        std::fs::write(&pair.certificate, signed.pem()).expect("writable");
        std::fs::write(&pair.key, key.serialize_pem()).expect("writable");
        pair
    }

    /// Signed by `openssl`, for keys and digests that nobody should use: `rsa:1024`, `-sha1`.
    pub fn by_openssl(&self, file: &str, newkey: &str, digest: &str) -> Pair {
        let pair = self.place(file, String::new(), serial());
        let (request, extensions) = (
            self.folder.join(format!("{file}.csr")),
            self.folder.join(format!("{file}.ext")),
        );
        let text = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(&extensions, text).expect("writable");
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let subject = format!("/CN={file}");
        let (key, csr) = (path(&pair.key), path(&request));
        let mut arguments = vec![
            "req", "-new", "-nodes", "-newkey", newkey, "-keyout", &key, "-out", &csr, "-subj", &subject,
        ];
        if newkey == "ec" {
            arguments.extend(["-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        tools::tool("openssl", &arguments).ok();
        let (ca, ca_key, ext, out) = (
            path(&self.certificate),
            path(&self.key),
            path(&extensions),
            path(&pair.certificate),
        );
        let (number, signing) = (
            pair.serial.to_string(),
            ["x509", "-req", digest, "-days", "3000", "-in", &csr],
        );
        let by = [
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-set_serial",
            &number,
            "-extfile",
            &ext,
            "-out",
            &out,
        ];
        tools::tool("openssl", &[&signing[..], &by[..]].concat()).ok();
        pair
    }

    fn place(&self, file: &str, fingerprint: String, serial: u64) -> Pair {
        Pair {
            certificate: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
            fingerprint,
            serial,
        }
    }

    /// A revocation list with these serial numbers, to be replaced on the first day of `until`.
    pub fn list(&self, file: &str, serials: &[u64], until: i32) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(serial()),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.join(format!("{file}.crl"));
        let pem = params
            .signed_by(&self.issuer)
            .and_then(|list| list.pem())
            .expect("a list");
        std::fs::write(&path, pem).expect("writable");
        path
    }
}

impl Pair {
    /// Sends this certificate along with the certificate: the file becomes a chain.
    pub fn with(self, authority: &Authority) -> Self {
        let read = |path: &Path| std::fs::read(path).expect("readable");
        let chain = [read(&self.certificate), read(&authority.certificate)].concat();
        std::fs::write(&self.certificate, chain).expect("writable");
        self
    }

    /// Puts this pair's content into another's files, the key first.
    pub fn copy_to(&self, other: &Self) {
        std::fs::copy(&self.key, &other.key).expect("writable");
        std::fs::copy(&self.certificate, &other.certificate).expect("writable");
    }
}
