//! TLS of a listener: the handshake within its deadline, and who the peer proved to be.
//!
//! Promises: TLS 1.3, or 1.2 with ECDHE and AEAD suites (PS3.15 B.12), no early data, no session tickets; a client
//! certificate that is shown is verified against `client_ca`. It decides nothing: admission binds the identity to an
//! AE title. Neither names nor certificates are logged here.
use crate::dicom::association::Stream;
use crate::sender::pem;
pub use crate::sender::tls::{HandshakeError, TlsError};
use crate::sender::tls::{fingerprint, identity_faults, provider, roots, unusable};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Whether a peer must show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// None is asked for.
    None,
    /// Asked for; a peer without one is let through to admission, one with a wrong one is not.
    Optional,
    #[default]
    Required,
}

/// `tls` of a listener.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PEM file with the listener's certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// PEM file with the CA certificates that sign client certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Who a peer proved to be by its verified certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// Its common name and DNS subject alternative names, at most `NAMES_MAX`.
    pub names: Vec<String>,
}

/// Names of one certificate that are kept.
const NAMES_MAX: usize = 64;

/// Takes TLS handshakes. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(tokio_rustls::TlsAcceptor);

/// Reads all files of a configuration and makes its acceptor.
///
/// # Errors
/// See `TlsError`.
pub fn acceptor(config: &Config) -> Result<Acceptor, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Library(error.to_string()))?;
    let builder = match (config.client_certificate, &config.client_ca) {
        (ClientCertificate::None, None) => builder.with_no_client_auth(),
        (ClientCertificate::None, Some(_)) => return Err(TlsError::UnusedClientCa),
        (_, None) => return Err(TlsError::NoClientCa),
        (asked, Some(ca)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider());
            let verifier = match asked {
                ClientCertificate::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| TlsError::Library(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut inner = builder
        .with_single_cert(pem::certificates(&config.certificate)?, pem::private_key(&config.key)?)
        .map_err(|error| unusable(&error, &config.certificate, &config.key))?;
    // A resumed session would carry an identity that was verified under an older configuration.
    inner.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    inner.send_tls13_tickets = 0;
    Ok(Acceptor(Arc::new(inner).into()))
}

/// Everything that is wrong with the files and keys of a configuration, each with its key: for `waystation check`.
#[must_use]
pub fn faults(config: &Config) -> Vec<(&'static str, TlsError)> {
    let mut found = identity_faults(&config.certificate, &config.key);
    match (config.client_certificate, &config.client_ca) {
        (ClientCertificate::None, Some(_)) => found.push(("client_ca", TlsError::UnusedClientCa)),
        (ClientCertificate::Optional | ClientCertificate::Required, None) => {
            found.push(("client_ca", TlsError::NoClientCa));
        }
        (_, Some(ca)) => found.extend(roots(ca).err().map(|error| ("client_ca", error))),
        (ClientCertificate::None, None) => {}
    }
    if found.is_empty()
        && let Err(error) = acceptor(config)
    {
        found.push(("", error));
    }
    found
}

impl Acceptor {
    /// The whole handshake, within the deadline; who the peer proved to be, when it showed a certificate.
    ///
    /// # Errors
    /// See `HandshakeError`.
    pub async fn handshake<S: Stream>(
        &self,
        stream: S,
        within: Duration,
    ) -> Result<(TlsStream<S>, Option<PeerIdentity>), HandshakeError> {
        let stream = match timeout(within, self.0.accept(stream)).await {
            Ok(result) => result.map_err(|error| HandshakeError::of(&error))?,
            Err(_) => return Err(HandshakeError::Timeout),
        };
        let identity = identity(stream.get_ref().1);
        Ok((stream, identity))
    }
}

/// The identity in a finished handshake; `None` when the peer showed no certificate.
#[must_use]
pub fn identity(connection: &ServerConnection) -> Option<PeerIdentity> {
    let certificate = connection.peer_certificates()?.first()?;
    let names = X509Certificate::from_der(certificate).map_or_else(|_| Vec::new(), |(_, parsed)| names(&parsed));
    Some(PeerIdentity {
        fingerprint: fingerprint(certificate),
        names,
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let common = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.take(NAMES_MAX).map(str::to_owned).collect();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) if names.len() < NAMES_MAX && !names.iter().any(|n| n == name) => {
                    names.push((*name).to_owned());
                }
                _ => {}
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::tls::{self as client, Connector};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use std::io::ErrorKind;
    use std::path::Path;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// A certificate authority whose files stand in a folder.
    struct Authority<'a> {
        issuer: CertifiedIssuer<'a, KeyPair>,
        folder: &'a Path,
        name: &'static str,
    }

    impl<'a> Authority<'a> {
        fn new(folder: &'a Path, name: &'static str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            std::fs::write(folder.join(format!("{name}.ca")), issuer.pem()).unwrap();
            Self { issuer, folder, name }
        }

        fn ca(&self) -> PathBuf {
            self.folder.join(format!("{}.ca", self.name))
        }

        /// Writes certificate and key for a name; answers their paths and the fingerprint.
        fn issue(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> (PathBuf, PathBuf, [u8; 32]) {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, format!("cn {name}"));
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let stem = format!("{}-{name}", self.name);
            let paths = (
                self.folder.join(format!("{stem}.pem")),
                self.folder.join(format!("{stem}.key")),
            );
            std::fs::write(&paths.0, certificate.pem()).unwrap();
            std::fs::write(&paths.1, key.serialize_pem()).unwrap();
            (paths.0, paths.1, fingerprint(certificate.der()))
        }
    }

    fn server(
        authority: &Authority<'_>,
        asked: ClientCertificate,
        change: impl Fn(&mut CertificateParams),
    ) -> Acceptor {
        let (certificate, key, _) = authority.issue("127.0.0.1", change);
        let client_ca = (asked != ClientCertificate::None).then(|| authority.ca());
        let config = Config {
            certificate,
            key,
            client_certificate: asked,
            client_ca,
        };
        acceptor(&config).unwrap()
    }

    fn trusting(authority: &Authority<'_>) -> client::Config {
        client::Config {
            ca: Some(authority.ca()),
            ..client::Config::default()
        }
    }

    fn showing(authority: &Authority<'_>, name: &str) -> client::Config {
        let (certificate, key, _) = authority.issue(name, |_| {});
        client::Config {
            certificate: Some(certificate),
            key: Some(key),
            ..trusting(authority)
        }
    }

    const WITHIN: Duration = Duration::from_secs(5);

    type Met = (Result<Option<PeerIdentity>, HandshakeError>, Result<(), HandshakeError>);

    /// Both sides' view after the handshake and one byte each way.
    async fn meet(acceptor: &Acceptor, connector: &Connector) -> Met {
        let (a, b) = duplex(64 << 10);
        let serving = async {
            let (mut stream, identity) = acceptor.handshake(b, WITHIN).await?;
            stream.write_all(b"x").await.and(stream.flush().await).ok();
            stream.shutdown().await.ok();
            Ok(identity)
        };
        let asking = async {
            let mut stream = connector.connect("127.0.0.1", a, WITHIN).await?;
            match stream.read_u8().await {
                Ok(_) => Ok(()),
                Err(error) => Err(client::refusal(&error).unwrap_or(HandshakeError::Closed)),
            }
        };
        tokio::join!(serving, asking)
    }

    #[tokio::test]
    async fn mutual_tls_tells_who_the_peer_is() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(folder.path(), "ours");
        let acceptor = server(&ours, ClientCertificate::Required, |_| {});
        let (certificate, key, expected) = ours.issue("ct1.example", |_| {});
        let config = client::Config {
            certificate: Some(certificate),
            key: Some(key),
            ..trusting(&ours)
        };
        let (identity, answer) = meet(&acceptor, &client::connector(&config).unwrap()).await;
        assert_eq!(answer, Ok(()));
        let identity = identity.unwrap().unwrap();
        assert_eq!(identity.fingerprint, expected);
        assert_eq!(identity.names, ["cn ct1.example", "ct1.example"]);
    }

    #[tokio::test]
    async fn a_client_certificate_is_none_optional_or_required() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (
            Authority::new(folder.path(), "ours"),
            Authority::new(folder.path(), "theirs"),
        );
        let anonymous = client::connector(&trusting(&ours)).unwrap();
        let known = client::connector(&showing(&ours, "ct1.example")).unwrap();
        let mut stranger = showing(&theirs, "ct1.example");
        stranger.ca = Some(ours.ca());
        let stranger = client::connector(&stranger).unwrap();

        for asked in [ClientCertificate::None, ClientCertificate::Optional] {
            let (identity, answer) = meet(&server(&ours, asked, |_| {}), &anonymous).await;
            assert_eq!((identity, answer), (Ok(None), Ok(())));
        }
        let optional = server(&ours, ClientCertificate::Optional, |_| {});
        assert!(matches!(meet(&optional, &known).await, (Ok(Some(_)), Ok(()))));
        assert!(matches!(
            meet(&optional, &stranger).await,
            (Err(_), Err(HandshakeError::RefusedByPeer(_)))
        ));
        let required = server(&ours, ClientCertificate::Required, |_| {});
        let (identity, answer) = meet(&required, &anonymous).await;
        assert_eq!(identity, Err(HandshakeError::NoCertificate));
        assert!(
            matches!(answer, Err(HandshakeError::RefusedByPeer(words)) if words.contains("asks for a certificate"))
        );
        assert_eq!(meet(&required, &stranger).await.0, Err(HandshakeError::UnknownCa));
    }

    #[tokio::test]
    async fn each_wrong_server_certificate_has_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (
            Authority::new(folder.path(), "ours"),
            Authority::new(folder.path(), "theirs"),
        );
        let connector = client::connector(&trusting(&ours)).unwrap();
        let none = ClientCertificate::None;
        let cases = [
            (
                server(&ours, none, |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)),
                HandshakeError::Expired,
            ),
            (
                server(&ours, none, |p| p.not_before = rcgen::date_time_ymd(3000, 1, 1)),
                HandshakeError::NotYetValid,
            ),
            (
                server(&ours, none, |p| p.subject_alt_names.clear()),
                HandshakeError::WrongName,
            ),
            (server(&theirs, none, |_| {}), HandshakeError::UnknownCa),
        ];
        for (acceptor, expected) in cases {
            let (served, answer) = meet(&acceptor, &connector).await;
            assert_eq!(answer, Err(expected));
            assert!(served.is_err(), "the server is told by an alert");
        }
    }

    #[tokio::test]
    async fn a_pinned_fingerprint_admits_only_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = Authority::new(folder.path(), "theirs");
        let (certificate, key, print) = theirs.issue("elsewhere.example", |_| {});
        let config = Config {
            certificate,
            key,
            client_certificate: ClientCertificate::None,
            client_ca: None,
        };
        let acceptor = acceptor(&config).unwrap();
        let text: Vec<String> = print.iter().map(|byte| format!("{byte:02X}")).collect();
        let pinned = |text: String| client::Config {
            fingerprint: Some(text),
            ..client::Config::default()
        };
        let right = client::connector(&pinned(text.join(":"))).unwrap();
        assert_eq!(meet(&acceptor, &right).await, (Ok(None), Ok(())));
        let wrong = client::connector(&pinned("00".repeat(32))).unwrap();
        assert_eq!(meet(&acceptor, &wrong).await.1, Err(HandshakeError::WrongFingerprint));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_or_plain_peer_does_not_hold_a_handshake() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(folder.path(), "ours");
        let acceptor = server(&ours, ClientCertificate::None, |_| {});
        let (_a, b) = duplex(1024);
        assert_eq!(acceptor.handshake(b, WITHIN).await.err(), Some(HandshakeError::Timeout));
        let (mut a, b) = duplex(1024);
        a.write_all(&[1, 0, 0, 0, 0, 200, 0, 1]).await.unwrap();
        assert_eq!(acceptor.handshake(b, WITHIN).await.err(), Some(HandshakeError::NotTls));
        let connector = client::connector(&trusting(&ours)).unwrap();
        let (a, _b) = duplex(1024);
        assert_eq!(
            connector.connect("host", a, WITHIN).await.err(),
            Some(HandshakeError::Timeout)
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(folder.path(), "ours");
        let (certificate, key, _) = ours.issue("a.example", |_| {});
        let (_, other_key, _) = ours.issue("b.example", |_| {});
        let config = |certificate: &PathBuf, key: &PathBuf, client_ca| Config {
            certificate: certificate.clone(),
            key: key.clone(),
            client_certificate: ClientCertificate::Required,
            client_ca,
        };
        let says = |config: Config| acceptor(&config).err().unwrap().to_string();
        assert!(says(config(&certificate, &key, None)).contains("client_ca"));
        let missing = folder.path().join("missing.pem");
        assert!(says(config(&missing, &key, Some(ours.ca()))).contains("missing.pem"));
        assert!(says(config(&certificate, &other_key, Some(ours.ca()))).contains("is not the key of"));
        assert!(says(config(&key, &key, Some(ours.ca()))).contains("holds no certificate"));
        assert!(says(config(&certificate, &certificate, Some(ours.ca()))).contains("no usable private key"));
        let nothing = client::connector(&client::Config::default()).err().unwrap();
        assert!(nothing.to_string().contains("`ca`"));
        let half = client::Config {
            certificate: Some(certificate),
            ..trusting(&ours)
        };
        assert!(matches!(client::connector(&half).err(), Some(TlsError::HalfIdentity)));
        let bad = std::io::Error::from(ErrorKind::ConnectionReset);
        assert_eq!(HandshakeError::of(&bad), HandshakeError::Closed);
    }
}
