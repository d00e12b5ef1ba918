//! Both sides' view of a handshake: who the peer is, and why not.
use super::*;
use crate::pki::tests::{Authority, Pair};
use crate::pki::{Refreshed, hex};
use crate::sender::tls::{self as client, Connector, Fingerprints};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

fn of(pair: &Pair, asked: ClientCertificate, ca: Files) -> Config {
    Config {
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
        client_certificate: asked,
        client_ca: ca,
        client_crl: Files::default(),
        crl_expired: CrlPolicy::Accept,
        crl_missing: CrlPolicy::Refuse,
    }
}

fn server(authority: &Authority, asked: ClientCertificate, change: impl Fn(&mut CertificateParams)) -> Acceptor {
    let ca = match asked {
        ClientCertificate::None => Files::default(),
        _ => authority.ca.clone().into(),
    };
    acceptor("dicom", &of(&authority.issue("127.0.0.1", change), asked, ca)).unwrap()
}

fn trusting(authority: &Authority) -> client::Config {
    client::Config {
        ca: authority.ca.clone().into(),
        ..client::Config::default()
    }
}

fn showing(authority: &Authority, name: &str) -> client::Config {
    let pair = authority.issue(name, |_| {});
    client::Config {
        certificate: Some(pair.certificate),
        key: Some(pair.key),
        ..trusting(authority)
    }
}

fn connector(config: &client::Config) -> Connector {
    client::connector(config).unwrap()
}

const WITHIN: Duration = Duration::from_secs(5);

type Met = (Result<Option<PeerIdentity>, Reason>, Result<(), Reason>);

/// Both sides' view after the handshake and one byte each way.
async fn meet(acceptor: &Acceptor, connector: &Connector) -> Met {
    let (a, b) = duplex(64 << 10);
    let serving = async {
        let shaken = acceptor.handshake(b, WITHIN).await;
        let (mut stream, identity) = shaken.map_err(|refusal| refusal.failure.reason)?;
        stream.write_all(b"x").await.and(stream.flush().await).ok();
        stream.shutdown().await.ok();
        Ok(identity)
    };
    let asking = async {
        let connected = connector.connect("127.0.0.1", a, WITHIN).await;
        let mut stream = connected.map_err(|failure| failure.reason)?;
        match stream.read_u8().await {
            Ok(_) => Ok(()),
            Err(error) => Err(client::refusal(&error).map_or(Reason::Closed, |failure| failure.reason)),
        }
    };
    tokio::join!(serving, asking)
}

#[tokio::test]
async fn mutual_tls_tells_who_the_peer_is() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let acceptor = server(&ours, ClientCertificate::Required, |_| {});
    let pair = ours.issue("ct1.example", |_| {});
    let config = client::Config {
        certificate: Some(pair.certificate),
        key: Some(pair.key),
        ..trusting(&ours)
    };
    let (identity, answer) = meet(&acceptor, &connector(&config)).await;
    assert_eq!(answer, Ok(()));
    let identity = identity.unwrap().unwrap();
    assert_eq!(identity.fingerprint, pair.fingerprint);
    assert_eq!(identity.names, ["cn ct1.example", "ct1.example"]);
}

#[tokio::test]
async fn a_client_certificate_is_none_optional_or_required() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "theirs"),
    );
    let anonymous = connector(&trusting(&ours));
    let known = connector(&showing(&ours, "ct1.example"));
    let stranger = connector(&client::Config {
        ca: ours.ca.clone().into(),
        ..showing(&theirs, "ct1.example")
    });

    for asked in [ClientCertificate::None, ClientCertificate::Optional] {
        let met = meet(&server(&ours, asked, |_| {}), &anonymous).await;
        assert_eq!(met, (Ok(None), Ok(())));
    }
    let optional = server(&ours, ClientCertificate::Optional, |_| {});
    assert!(matches!(meet(&optional, &known).await, (Ok(Some(_)), Ok(()))));
    let refused = (Err(Reason::UnknownCa), Err(Reason::RefusedUnknownCa));
    assert_eq!(meet(&optional, &stranger).await, refused);
    let required = server(&ours, ClientCertificate::Required, |_| {});
    let bare = (Err(Reason::NoCertificate), Err(Reason::RefusedNoCertificate));
    assert_eq!(meet(&required, &anonymous).await, bare);
    assert_eq!(meet(&required, &stranger).await, refused);
}

#[tokio::test]
async fn each_wrong_server_certificate_has_its_own_words_and_its_own_alert() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "theirs"),
    );
    let connector = connector(&trusting(&ours));
    let none = ClientCertificate::None;
    let cases = [
        (
            server(&ours, none, |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            (Reason::Expired, Reason::RefusedExpired),
        ),
        (
            server(&ours, none, |p| p.not_before = rcgen::date_time_ymd(3000, 1, 1)),
            (Reason::NotYetValid, Reason::RefusedExpired),
        ),
        (
            server(&ours, none, |p| p.subject_alt_names.clear()),
            (Reason::WrongName, Reason::RefusedCertificate),
        ),
        (
            server(&theirs, none, |_| {}),
            (Reason::UnknownCa, Reason::RefusedUnknownCa),
        ),
        (
            server(&ours, none, |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
            }),
            (Reason::WrongUsage, Reason::RefusedUsage),
        ),
    ];
    for (acceptor, (reason, alert)) in cases {
        assert_eq!(meet(&acceptor, &connector).await, (Err(alert), Err(reason)));
    }
}

#[tokio::test]
async fn a_pinned_fingerprint_admits_only_its_certificate_or_one_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = Authority::new(folder.path(), "theirs");
    let pair = theirs.issue("elsewhere.example", |_| {});
    let acceptor = acceptor("dicom", &of(&pair, ClientCertificate::None, Files::default())).unwrap();
    let pinned = |texts: &[String]| {
        connector(&client::Config {
            fingerprint: Fingerprints(texts.to_vec()),
            ..client::Config::default()
        })
    };
    let (right, wrong) = (hex(&pair.fingerprint).to_uppercase(), "00".repeat(32));
    assert_eq!(
        meet(&acceptor, &pinned(std::slice::from_ref(&right))).await,
        (Ok(None), Ok(()))
    );
    assert_eq!(
        meet(&acceptor, &pinned(&[wrong.clone(), right])).await,
        (Ok(None), Ok(()))
    );
    assert_eq!(
        meet(&acceptor, &pinned(&[wrong])).await.1,
        Err(Reason::WrongFingerprint)
    );
}

#[tokio::test]
async fn what_is_renewed_counts_for_the_next_handshake_and_not_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (
        Authority::new(folder.path(), "old"),
        Authority::new(folder.path(), "new"),
    );
    let pair = old.issue("127.0.0.1", |_| {});
    let listening = acceptor("dicom", &of(&pair, ClientCertificate::Required, old.ca.clone().into())).unwrap();
    let (ct, mr) = (showing(&old, "ct1.example"), showing(&new, "mr1.example"));
    let (ct, mr) = (
        connector(&ct),
        connector(&client::Config {
            ca: old.ca.clone().into(),
            ..mr
        }),
    );
    assert!(meet(&listening, &ct).await.0.is_ok());
    assert_eq!(meet(&listening, &mr).await.0, Err(Reason::UnknownCa));

    let (a, b) = duplex(64 << 10);
    let (taken, made) = tokio::join!(listening.handshake(b, WITHIN), ct.connect("127.0.0.1", a, WITHIN));
    let ((mut ours, _), mut theirs) = (taken.unwrap(), made.unwrap());
    std::fs::copy(&new.ca, &old.ca).unwrap();
    let refreshed = listening
        .slot()
        .refresh(crate::base::clock::Clock::System.now(), Duration::ZERO);
    assert_eq!(refreshed, Refreshed::Renewed);
    ours.write_all(b"still").await.and(ours.flush().await).unwrap();
    let mut five = [0; 5];
    theirs.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"still", "a running association goes on");
    assert_eq!(
        meet(&listening, &ct).await.0,
        Err(Reason::UnknownCa),
        "the old authority is gone"
    );
    assert!(meet(&listening, &mr).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_or_plain_peer_does_not_hold_a_handshake() {
    use crate::base::dialect::Dialect;
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let acceptor = server(&ours, ClientCertificate::None, |_| {});
    let (_a, b) = duplex(1024);
    let refusal = acceptor.handshake(b, WITHIN).await.err().unwrap();
    assert_eq!(refusal.failure.reason, Reason::Timeout);
    for (said, dialect) in [
        (&[1, 0, 0, 0, 0, 200, 0, 1][..], Dialect::Dicom),
        (b"GET / HTTP/1.1\r\n", Dialect::Http),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Dialect::Ssh),
        (b"\x80\x2e\x01\x00\x02", Dialect::Ssl2),
        (b"\0\0\0\0", Dialect::Unknown),
    ] {
        let (mut a, b) = duplex(1024);
        a.write_all(said).await.unwrap();
        let refusal = acceptor.handshake(b, WITHIN).await.err().unwrap();
        assert_eq!(refusal.failure.reason, Reason::Speaks(dialect));
        assert!(refusal.stream.is_some());
    }
    let connector = connector(&trusting(&ours));
    let (a, _b) = duplex(1024);
    assert_eq!(
        connector.connect("host", a, WITHIN).await.err().unwrap().reason,
        Reason::Silent
    );
    let (a, mut b) = duplex(1024);
    b.write_all(b"\x07\0\0\0\0\x04\0\0\x02\x01").await.unwrap();
    let failure = connector.connect("host", a, WITHIN).await.err().unwrap();
    assert_eq!(failure.reason, Reason::Speaks(Dialect::Dicom));
    let (a, b) = duplex(1024);
    let gone = async {
        let mut b = b;
        let mut one = [0; 1];
        b.read_exact(&mut one).await.unwrap();
    };
    let (made, ()) = tokio::join!(connector.connect("host", a, WITHIN), gone);
    assert_eq!(made.err().unwrap().reason, Reason::ClosedOnHello);
}

#[tokio::test]
async fn a_peer_whose_key_is_not_that_of_its_certificate_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (shown, other) = (ours.issue("a.example", |_| {}), ours.issue("b.example", |_| {}));
    let acceptor = server(&ours, ClientCertificate::Required, |_| {});
    let connector = connector(&showing(&ours, "a.example"));
    // rustls would not load such a pair: it is put together behind its back.
    let provider = crate::pki::provider();
    let key = std::fs::read(&other.key).unwrap();
    let key = crate::pki::pem::private_key(&other.key, &key).unwrap();
    let chain = crate::pki::pem::certificates(&shown.certificate, &std::fs::read(&shown.certificate).unwrap()).unwrap();
    let signer = provider.key_provider.load_private_key(key).unwrap();
    let torn = std::sync::Arc::new(rustls::sign::CertifiedKey::new(chain, signer));
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(&ours.ca).unwrap();
    roots
        .add(crate::pki::pem::certificates(&ours.ca, &ca).unwrap().remove(0))
        .unwrap();
    #[derive(Debug)]
    struct Torn(std::sync::Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Torn {
        fn resolve(
            &self,
            _: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(std::sync::Arc::new(Torn(torn)));
    let (a, b) = duplex(64 << 10);
    let name = "127.0.0.1".try_into().unwrap();
    let making = async {
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
            .connect(name, a)
            .await
    };
    let (taken, _) = tokio::join!(acceptor.handshake(b, WITHIN), making);
    assert_eq!(taken.err().unwrap().failure.reason, Reason::KeyMismatch);
    assert!(meet(&acceptor, &connector).await.0.is_ok());
}

#[test]
fn what_cannot_work_is_refused_with_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (a, b) = (ours.issue("a.example", |_| {}), ours.issue("b.example", |_| {}));
    let config = |certificate: &PathBuf, key: &PathBuf, ca: Option<PathBuf>| {
        let pair = Pair {
            certificate: certificate.clone(),
            key: key.clone(),
            ..a.clone()
        };
        of(&pair, ClientCertificate::Required, Files(ca.into_iter().collect()))
    };
    let says = |config: Config| acceptor("dicom", &config).err().unwrap().to_string();
    let ca = || Some(ours.ca.clone());
    assert!(says(config(&a.certificate, &a.key, None)).contains("client_ca"));
    let missing = folder.path().join("missing.pem");
    assert!(says(config(&missing, &a.key, ca())).contains("missing.pem"));
    assert!(says(config(&a.certificate, &b.key, ca())).contains("is not the key of"));
    assert!(says(config(&a.key, &a.key, ca())).contains("holds no certificate"));
    assert!(says(config(&a.certificate, &a.certificate, ca())).contains("no usable private key"));
    let nothing = client::connector(&client::Config::default()).err().unwrap();
    assert!(nothing.to_string().contains("`ca`"));
    let half = client::Config {
        certificate: Some(a.certificate),
        ..trusting(&ours)
    };
    assert!(matches!(client::connector(&half).err(), Some(TlsError::HalfIdentity)));
}
