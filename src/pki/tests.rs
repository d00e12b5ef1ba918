//! A certificate authority for tests, and what is in force before and after its files change.
use super::*;
use crate::base::clock::{Clock, Wall};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An authority whose files stand in a folder.
pub(crate) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// The same key once more, to sign what rcgen does not make.
    pub(super) key: KeyPair,
    pub folder: PathBuf,
    pub name: String,
    pub ca: PathBuf,
}

/// The files of one certificate.
#[derive(Clone)]
pub(crate) struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub fingerprint: [u8; 32],
    pub serial: u64,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    /// A root in `file.ca` with this name.
    pub(crate) fn named(folder: &Path, file: &str, name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let ca = folder.join(format!("{file}.ca"));
        fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            key: KeyPair::from_pem(&key.serialize_pem()).unwrap(),
            issuer: Issuer::new(params, key),
            folder: folder.to_owned(),
            name: file.to_owned(),
            ca,
        }
    }

    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self::named(folder, name, name)
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, name, |_| {})
    }

    /// As `intermediate`, in `file.ca`, not as others are.
    pub(super) fn intermediate_with(&self, file: &str, name: &str, change: impl Fn(&mut CertificateParams)) -> Self {
        let (mut params, key) = (authority_params(name), KeyPair::generate().unwrap());
        change(&mut params);
        let ca = self.folder.join(format!("{file}.ca"));
        fs::write(&ca, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        Self {
            key: KeyPair::from_pem(&key.serialize_pem()).unwrap(),
            issuer: Issuer::new(params, key),
            folder: self.folder.clone(),
            name: file.to_owned(),
            ca,
        }
    }

    pub(crate) fn issue(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> Pair {
        self.issue_with(name, &KeyPair::generate().unwrap(), change)
    }

    pub(crate) fn issue_with(&self, name: &str, key: &KeyPair, change: impl Fn(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("cn {name}"));
        let serial = u64::from(rand::random::<u32>()) + 1;
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        let stem = format!("{}-{name}", self.name);
        let pair = Pair {
            certificate: self.folder.join(format!("{stem}.pem")),
            key: self.folder.join(format!("{stem}.key")),
            fingerprint: sha256(certificate.der()),
            serial,
        };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// A list of revoked serial numbers, to be replaced in this year.
    pub(crate) fn list(&self, file: &str, serials: &[u64], until: i32) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.join(format!("{file}.crl"));
        fs::write(&path, params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}

pub(super) fn sources(pair: &Pair, ca: &[&Authority]) -> Sources {
    Sources {
        side: Side::Server { optional: false },
        certificate: Some(pair.certificate.clone()),
        key: Some(pair.key.clone()),
        ca: Files(ca.iter().map(|ca| ca.ca.clone()).collect()),
        crl: Files::default(),
        crl_expired: CrlPolicy::Accept,
        crl_missing: CrlPolicy::Refuse,
    }
}

pub(super) fn open(sources: Sources) -> std::sync::Arc<Slot> {
    Slot::open(Role::Listener, "dicom", sources, now()).unwrap()
}

pub(super) fn now() -> Wall {
    Clock::System.now()
}

const QUIET: Duration = Duration::from_millis(5);

fn in_force(slot: &Slot) -> [u8; 32] {
    sha256(&slot.current().identity.as_ref().unwrap().cert[0])
}

#[test]
fn a_pair_that_does_not_match_yet_leaves_the_old_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (old, new) = (ours.issue("old", |_| {}), ours.issue("new", |_| {}));
    let slot = open(sources(&old, &[&ours]));
    assert_eq!(slot.refresh(now(), QUIET), Refreshed::Unchanged);

    fs::copy(&new.certificate, &old.certificate).unwrap();
    let Refreshed::Kept { why, fresh: true } = slot.refresh(now(), QUIET) else {
        panic!("half of a pair was taken")
    };
    assert!(why.contains("is not the key of"), "{why}");
    assert_eq!(in_force(&slot), old.fingerprint);
    assert!(matches!(
        slot.refresh(now(), QUIET),
        Refreshed::Kept { fresh: false, .. }
    ));
    assert!(slot.refused().is_some());
    let status = slot.status();
    assert_eq!(status.in_force[0].fingerprint, hex(&old.fingerprint));
    assert_eq!(status.on_disk[0].fingerprint, hex(&new.fingerprint));
    assert_eq!(status.on_disk[0].key_matches, Some(false));

    fs::copy(&new.key, &old.key).unwrap();
    assert_eq!(slot.refresh(now(), QUIET), Refreshed::Renewed);
    assert_eq!(in_force(&slot), new.fingerprint);
    assert_eq!(
        (slot.refused(), slot.refresh(now(), QUIET)),
        (None, Refreshed::Unchanged)
    );
}

#[test]
fn what_cannot_be_used_is_not_taken_and_what_comes_back_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("box", |_| {});
    let list = ours.list("ours", &[], 2100);
    let slot = open(Sources {
        crl: list.clone().into(),
        ..sources(&pair, &[&ours])
    });
    for path in [&pair.certificate, &pair.key, &ours.ca, &list] {
        let good = fs::read(path).unwrap();
        for bad in [b"".as_slice(), b"nonsense", &good[..good.len() / 2]] {
            fs::write(path, bad).unwrap();
            assert!(
                matches!(slot.refresh(now(), QUIET), Refreshed::Kept { .. }),
                "{}",
                path.display()
            );
        }
        fs::remove_file(path).unwrap();
        let Refreshed::Kept { why, .. } = slot.refresh(now(), QUIET) else {
            panic!("{} is gone", path.display())
        };
        assert!(why.contains(&path.display().to_string()), "{why}");
        fs::write(path, &good).unwrap();
        assert_eq!(slot.refresh(now(), QUIET), Refreshed::Unchanged);
        assert_eq!(slot.refused(), None);
    }
}

#[test]
fn a_link_that_is_turned_is_a_change_and_a_date_alone_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (old, new) = (ours.issue("old", |_| {}), ours.issue("new", |_| {}));
    // As Kubernetes mounts secrets: box.pem → data/box.pem, data → version.
    for (version, pair) in [("v1", &old), ("v2", &new)] {
        let at = folder.path().join(version);
        fs::create_dir(&at).unwrap();
        fs::copy(&pair.certificate, at.join("box.pem")).unwrap();
        fs::copy(&pair.key, at.join("box.key")).unwrap();
    }
    let link = |to: &str| {
        let (data, fresh) = (folder.path().join("data"), folder.path().join("data.new"));
        std::os::unix::fs::symlink(to, &fresh).unwrap();
        fs::rename(fresh, data).unwrap();
    };
    link("v1");
    let linked = Pair {
        certificate: folder.path().join("data/box.pem"),
        key: folder.path().join("data/box.key"),
        ..old.clone()
    };
    let slot = open(sources(&linked, &[&ours]));
    let file = fs::File::options().append(true).open(&linked.certificate).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(slot.refresh(now(), QUIET), Refreshed::Unchanged);
    link("v2");
    assert_eq!(slot.refresh(now(), QUIET), Refreshed::Renewed);
    assert_eq!(in_force(&slot), new.fingerprint);
}

#[test]
fn no_step_back_in_time_but_out_of_an_expired_certificate_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("box", |_| {});
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2100, 1, 1);
    let slot = open(sources(&pair, &[&ours]));
    let Refreshed::Kept { why, .. } = ({
        ours.issue("box", future);
        slot.refresh(now(), QUIET)
    }) else {
        panic!("a certificate of tomorrow was taken")
    };
    assert!(why.contains("2100-01-01"), "{why}");
    let later = Wall(4_200_000_000_000_000);
    assert_eq!(slot.refresh(later, QUIET), Refreshed::Renewed, "its day has come");

    let expired = ours.issue("box", past);
    let slot = open(sources(&expired, &[&ours]));
    let next = ours.issue("box", past);
    assert_eq!(slot.refresh(now(), QUIET), Refreshed::Renewed);
    assert_eq!(in_force(&slot), next.fingerprint);
}

pub(super) fn verify(trust: &Trust, pair: &Pair) -> Result<(), Reason> {
    let chain = pem::certificates(&pair.certificate, &fs::read(&pair.certificate).unwrap()).unwrap();
    trust.verify(&chain[0], &chain[1..], None, rustls_pki_types::UnixTime::now())
}

pub(super) fn append(to: &Path, from: &Path) {
    let both = [fs::read(to).unwrap(), fs::read(from).unwrap()].concat();
    fs::write(to, both).unwrap();
}

#[test]
fn old_and_new_authority_and_their_lists_stand_side_by_side_even_as_namesakes() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let own = ours.issue("box", |_| {});
    let (old, new) = (
        Authority::named(folder.path(), "old", "Hospital CA"),
        Authority::named(folder.path(), "new", "Hospital CA"),
    );
    let (a, b, c, d) = (
        old.issue("a", |_| {}),
        old.issue("b", |_| {}),
        new.issue("c", |_| {}),
        new.issue("d", |_| {}),
    );
    let lists = [old.list("old", &[b.serial], 2100), new.list("new", &[d.serial], 2100)];
    for order in [[0, 1], [1, 0]] {
        let slot = open(Sources {
            crl: Files(order.iter().map(|at| lists[*at].clone()).collect()),
            ..sources(&own, &[&old, &new])
        });
        let trust = slot.current().trust.clone().unwrap();
        let answers = [&a, &b, &c, &d].map(|pair| verify(&trust, pair));
        assert_eq!(answers, [Ok(()), Err(Reason::Revoked), Ok(()), Err(Reason::Revoked)]);
    }
    // Both in one file, and only the new list: the old one's certificates are of unknown standing.
    append(&old.ca, &new.ca);
    let bundle = Sources {
        crl: lists[1].clone().into(),
        ..sources(&own, &[&old])
    };
    let trust = open(bundle.clone()).current().trust.clone().unwrap();
    assert_eq!(verify(&trust, &c), Ok(()));
    assert!(matches!(
        verify(&trust, &a),
        Err(Reason::CrlUnusable | Reason::CrlMissing)
    ));
}

#[test]
fn the_policies_of_lists_decide_what_lists_do_not_say() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "other"),
    );
    let own = ours.issue("box", |_| {});
    let (a, b, stranger) = (
        ours.issue("a", |_| {}),
        ours.issue("b", |_| {}),
        other.issue("s", |_| {}),
    );
    let stale = ours.list("stale", &[b.serial], 2021);
    let with = |crl_expired, crl_missing| {
        let slot = open(Sources {
            crl: stale.clone().into(),
            crl_expired,
            crl_missing,
            ..sources(&own, &[&ours, &other])
        });
        let trust = slot.current().trust.clone().unwrap();
        [&a, &b, &stranger].map(|pair| verify(&trust, pair))
    };
    use CrlPolicy::{Accept, Refuse};
    assert_eq!(with(Accept, Accept), [Ok(()), Err(Reason::Revoked), Ok(())]);
    assert_eq!(
        with(Accept, Refuse),
        [Ok(()), Err(Reason::Revoked), Err(Reason::CrlMissing)]
    );
    assert_eq!(with(Refuse, Accept)[0], Err(Reason::CrlExpired));
    let warned: Vec<String> = warnings(
        &Sources {
            crl: stale.into(),
            ..sources(&own, &[&ours, &other])
        },
        now(),
    )
    .into_iter()
    .map(|(key, text)| format!("{key}: {text}"))
    .collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(
        warned[0].contains("client_crl: ") && warned[0].contains("2021-01-01"),
        "{warned:?}"
    );
    assert!(
        warned[1].contains("no revocation list of the CA in ") && warned[1].contains("other.ca"),
        "{warned:?}"
    );
}

#[test]
fn a_missing_intermediate_is_told_from_a_foreign_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (root, foreign) = (
        Authority::new(folder.path(), "root"),
        Authority::new(folder.path(), "foreign"),
    );
    let issuing = root.intermediate("issuing");
    let (own, peer, whole) = (
        issuing.issue("box", |_| {}),
        issuing.issue("ct", |_| {}),
        issuing.issue("mr", |_| {}),
    );
    append(&whole.certificate, &issuing.ca);
    let stranger = foreign.issue("ct", |_| {});
    let trust = open(sources(&own, &[&root])).current().trust.clone().unwrap();
    assert_eq!(
        verify(&trust, &peer),
        Err(Reason::UnknownCa),
        "nothing tells them apart yet"
    );
    assert_eq!(verify(&trust, &whole), Ok(()));
    assert_eq!(
        verify(&trust, &peer),
        Err(Reason::MissingIntermediate),
        "learned from the other peer's chain"
    );
    assert_eq!(verify(&trust, &stranger), Err(Reason::UnknownCa));
    // The box's own chain tells as well.
    append(&own.certificate, &issuing.ca);
    let slot = open(sources(&own, &[&root]));
    let trust = slot.current().trust.clone().unwrap();
    assert_eq!(verify(&trust, &peer), Err(Reason::MissingIntermediate));
    assert_eq!(slot.status().in_force[0].chain, Some(Chain::Complete));
    assert_eq!(slot.status().in_force[1].kind, Kind::Intermediate);
}

#[test]
fn the_own_chain_is_complete_incomplete_disordered_or_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::new(folder.path(), "root");
    let issuing = root.intermediate("issuing");
    let own = issuing.issue("box", |_| {});
    let chain = |ca: &[&Authority]| sources(&own, ca).survey()[0].chain;
    assert_eq!(chain(&[&root]), Some(Chain::Unknown));
    assert_eq!(chain(&[&root, &issuing]), Some(Chain::Incomplete));
    let leaf = fs::read(&own.certificate).unwrap();
    append(&own.certificate, &root.ca);
    assert_eq!(chain(&[&root]), Some(Chain::Disordered));
    fs::write(&own.certificate, leaf).unwrap();
    append(&own.certificate, &issuing.ca);
    assert_eq!(chain(&[&root]), Some(Chain::Complete));
    append(&own.certificate, &root.ca);
    assert_eq!(chain(&[]), Some(Chain::Complete));
}

#[test]
fn purpose_and_self_signature_have_their_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let own = ours.issue("box", |_| {});
    let trust = open(sources(&own, &[&ours])).current().trust.clone().unwrap();
    let server_only = ours.issue("server", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    });
    assert_eq!(verify(&trust, &server_only), Err(Reason::WrongUsage));
    let ca = ours.issue("ca", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(verify(&trust, &ca), Err(Reason::CaAsLeaf));
    let lonely = Authority::new(folder.path(), "lonely");
    let pair = Pair {
        certificate: lonely.ca.clone(),
        ..own
    };
    assert_eq!(verify(&trust, &pair), Err(Reason::SelfSigned));
}
