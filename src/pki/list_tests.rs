//! Which list counts when a CA has several, or several CAs have one name; and whose fault it is when a chain is no good.
use super::tests::{Authority, Pair, append, now, open, sources, verify};
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, IsCa, KeyIdMethod, RevokedCertParams, SerialNumber, SigningKey,
};
use std::fs;
use std::path::PathBuf;
use x509_parser::asn1_rs::{Any, FromDer};

/// A list that is made.
#[derive(Clone)]
struct Made<'a> {
    revoked: &'a [u64],
    /// In which year.
    made: i32,
    number: u64,
    /// Whether it says which key has signed it.
    identified: bool,
    scope: Option<CrlScope>,
    until: i32,
}

impl Default for Made<'_> {
    fn default() -> Self {
        Self {
            revoked: &[],
            made: 2020,
            number: 1,
            identified: true,
            scope: None,
            until: 2100,
        }
    }
}

fn list(of: &Authority, file: &str, made: &Made<'_>) -> PathBuf {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: rcgen::date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let point = |scope: &CrlScope| CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint {
            uris: vec!["http://pki.example/list".to_owned()],
        },
        scope: Some(*scope),
    };
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(made.made, 1, 1),
        next_update: rcgen::date_time_ymd(made.until, 1, 1),
        crl_number: SerialNumber::from(made.number),
        issuing_distribution_point: made.scope.as_ref().map(point),
        revoked_certs: made.revoked.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = params.signed_by(&of.issuer).unwrap();
    let der = match made.identified {
        true => signed.der().to_vec(),
        false => unidentified(signed.der(), of),
    };
    let path = of.folder.join(format!("{file}.crl"));
    fs::write(&path, der).unwrap();
    path
}

/// The same list without an authority key identifier, signed anew.
fn unidentified(der: &[u8], of: &Authority) -> Vec<u8> {
    const IDENTIFIER: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x23];
    let [body, algorithm, _signature] = elements(elements(der)[0].1)[..] else {
        panic!("no list")
    };
    let mut parts: Vec<Vec<u8>> = elements(body.1).iter().map(|(whole, _)| whole.to_vec()).collect();
    let tagged = parts.pop().unwrap();
    let extensions = elements(elements(elements(&tagged)[0].1)[0].1);
    let kept: Vec<u8> = extensions
        .iter()
        .filter(|(_, content)| !content.starts_with(&IDENTIFIER))
        .flat_map(|(whole, _)| whole.to_vec())
        .collect();
    parts.push(element(0xa0, &element(0x30, &kept)));
    let body = element(0x30, &parts.concat());
    let signature = [vec![0], of.key.sign(&body).unwrap()].concat();
    element(0x30, &[body, algorithm.0.to_vec(), element(0x03, &signature)].concat())
}

/// Each element's whole bytes and its content.
fn elements(mut input: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (rest, any) = Any::from_der(input).unwrap();
        found.push((&input[..input.len() - rest.len()], any.data));
        input = rest;
    }
    found
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = vec![tag];
    match content.len() {
        0..0x80 => bytes.push(length[1]),
        0x80..0x100 => bytes.extend([0x81, length[1]]),
        _ => bytes.extend([0x82, length[0], length[1]]),
    }
    bytes.extend(content);
    bytes
}

fn with_lists(own: &Pair, cas: &[&Authority], lists: &[&PathBuf]) -> Sources {
    Sources {
        crl: Files(lists.iter().map(|list| (*list).clone()).collect()),
        ..sources(own, cas)
    }
}

fn answers<const N: usize>(sources: &Sources, pairs: [&Pair; N]) -> [Result<(), Reason>; N] {
    let trust = open(sources.clone()).current().trust.clone().unwrap();
    pairs.map(|pair| verify(&trust, pair))
}

#[test]
fn of_two_lists_of_one_key_the_newer_counts_whatever_they_say_of_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new(folder.path(), "ca");
    let (own, good, stolen) = (
        ca.issue("own", |_| {}),
        ca.issue("good", |_| {}),
        ca.issue("stolen", |_| {}),
    );
    let old = Made::default();
    let revoked = [stolen.serial];
    let (later, higher) = ((2021, 2), (2020, 5));
    for (old_says, new_says) in [(false, true), (true, false), (true, true), (false, false)] {
        for (made, number) in [later, higher] {
            let old = list(
                &ca,
                "old",
                &Made {
                    identified: old_says,
                    ..old.clone()
                },
            );
            let new = Made {
                revoked: &revoked,
                made,
                number,
                identified: new_says,
                ..Made::default()
            };
            let new = list(&ca, "new", &new);
            for lists in [[&old, &new], [&new, &old]] {
                let sources = with_lists(&own, &[&ca], &lists);
                let expected = [Ok(()), Err(Reason::Revoked)];
                assert_eq!(
                    answers(&sources, [&good, &stolen]),
                    expected,
                    "{old_says} {new_says} {number}"
                );
                let facts = sources.survey();
                let counts = |path: &PathBuf| facts.iter().find(|of| of.file == path.display().to_string());
                assert!(counts(&old).unwrap().superseded && !counts(&new).unwrap().superseded);
            }
        }
    }
}

/// A site's old and new hierarchy, both tiers of the same names.
struct Tiers {
    root: Authority,
    issuing: Authority,
    good: Pair,
    stolen: Pair,
    lists: [PathBuf; 2],
}

impl Tiers {
    fn new(folder: &std::path::Path, which: &str) -> Self {
        let root = Authority::named(folder, &format!("{which}-root"), "Site Root");
        let issuing = root.intermediate_with(&format!("{which}-issuing"), "Site Issuing", |_| {});
        let [good, stolen] = ["good", "stolen"].map(|name| {
            let pair = issuing.issue(name, |_| {});
            append(&pair.certificate, &issuing.ca);
            pair
        });
        let revoked = [stolen.serial];
        let of_issuing = Made {
            revoked: &revoked,
            ..Made::default()
        };
        let lists = [
            list(&root, &format!("{which}-root"), &Made::default()),
            list(&issuing, &format!("{which}-issuing"), &of_issuing),
        ];
        Self {
            root,
            issuing,
            good,
            stolen,
            lists,
        }
    }
}

#[test]
fn old_and_new_hierarchy_of_the_same_names_stand_side_by_side_whatever_their_keys() {
    for _ in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (Tiers::new(folder.path(), "old"), Tiers::new(folder.path(), "new"));
        let pairs = [&old.good, &old.stolen, &new.good, &new.stolen];
        let (fine, gone) = (Ok(()), Err(Reason::Revoked));
        let [a, b] = &old.lists;
        let [c, d] = &new.lists;
        for lists in [[a, b, c, d], [d, a, c, b]] {
            let sources = with_lists(&old.good, &[&old.root, &new.root], &lists);
            assert_eq!(answers(&sources, pairs), [fine, gone, fine, gone]);
        }
        // The new issuing CA's list is not there yet.
        let mut sources = with_lists(&old.good, &[&old.root, &new.root], &[a, b, c]);
        let missing = Err(Reason::CrlMissing);
        assert_eq!(answers(&sources, pairs), [fine, gone, missing, missing]);
        sources.crl_missing = CrlPolicy::Accept;
        assert_eq!(answers(&sources, pairs), [fine, gone, fine, fine]);
        // Both issuing CAs are authorities themselves.
        let sources = with_lists(&old.good, &[&old.issuing, &new.issuing], &[b, d]);
        assert_eq!(answers(&sources, pairs), [fine, gone, fine, gone]);
    }
}

#[test]
fn a_list_of_a_namesake_is_no_list_of_the_new_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (
        Authority::named(folder.path(), "old", "Hospital CA"),
        Authority::named(folder.path(), "new", "Hospital CA"),
    );
    let (good, stolen, young) = (
        old.issue("good", |_| {}),
        old.issue("stolen", |_| {}),
        new.issue("young", |_| {}),
    );
    let revoked = [stolen.serial];
    for identified in [true, false] {
        let of_old = Made {
            revoked: &revoked,
            identified,
            ..Made::default()
        };
        let of_old = list(&old, "old", &of_old);
        let of_new = Made {
            identified,
            made: 2021,
            ..Made::default()
        };
        let of_new = list(&new, "new", &of_new);
        let both = with_lists(&good, &[&old, &new], &[&of_old, &of_new]);
        let expected = [Ok(()), Err(Reason::Revoked), Ok(())];
        assert_eq!(answers(&both, [&good, &stolen, &young]), expected);
        assert!(warnings(&both, now()).is_empty());

        let mut only_old = with_lists(&good, &[&old, &new], &[&of_old]);
        for (policy, answer, word) in [
            (CrlPolicy::Refuse, Err(Reason::CrlMissing), "will be refused"),
            (CrlPolicy::Accept, Ok(()), "cannot be known as revoked"),
        ] {
            only_old.crl_missing = policy;
            let expected = [Ok(()), Err(Reason::Revoked), answer];
            assert_eq!(answers(&only_old, [&good, &stolen, &young]), expected);
            let warned = warnings(&only_old, now());
            let [(_, text)] = &warned[..] else { panic!("{warned:?}") };
            assert!(text.contains("new.ca") && text.contains(word), "{text}");
        }
        // One that nobody has signed may be the CA's own, damaged: nobody is believed on it.
        let mut bytes = fs::read(&of_old).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&of_old, bytes).unwrap();
        let mut damaged = with_lists(&good, &[&old], &[&of_old]);
        damaged.crl_missing = CrlPolicy::Accept;
        assert_eq!(answers(&damaged, [&stolen]), [Err(Reason::CrlUnusable)]);
        let warned = warnings(&damaged, now());
        assert!(
            warned.iter().any(|(_, text)| text.contains("not signed by it")),
            "{warned:?}"
        );
    }
}

#[test]
fn a_ca_that_cuts_its_lists_into_parts_is_asked_in_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::new(folder.path(), "root");
    let issuing = root.intermediate("issuing");
    let (good, stolen) = (root.issue("good", |_| {}), root.issue("stolen", |_| {}));
    let below = issuing.issue("below", |_| {});
    append(&below.certificate, &issuing.ca);
    let revoked = [stolen.serial];
    let users = Made {
        revoked: &revoked,
        scope: Some(CrlScope::UserCertsOnly),
        ..Made::default()
    };
    let users = list(&root, "users", &users);
    let cas = Made {
        scope: Some(CrlScope::CaCertsOnly),
        made: 2021,
        ..Made::default()
    };
    let cas = list(&root, "cas", &cas);
    let own = list(&issuing, "issuing", &Made::default());
    let sources = with_lists(&good, &[&root], &[&users, &cas, &own]);
    let expected = [Ok(()), Err(Reason::Revoked), Ok(())];
    assert_eq!(answers(&sources, [&good, &stolen, &below]), expected);
    assert!(!sources.survey().iter().any(|facts| facts.superseded));
}

#[test]
fn a_list_that_a_newer_one_stands_in_for_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new(folder.path(), "ca");
    let own = ca.issue("own", |_| {});
    let (old, new) = (
        Made {
            until: 2021,
            ..Made::default()
        },
        Made {
            made: 2022,
            ..Made::default()
        },
    );
    let (old, new) = (list(&ca, "old", &old), list(&ca, "new", &new));
    let mut both = with_lists(&own, &[&ca], &[&old, &new]);
    both.crl_expired = CrlPolicy::Refuse;
    assert_eq!(answers(&both, [&own]), [Ok(())]);
    assert!(warnings(&both, now()).is_empty());
    let due = |sources: &Sources| {
        let expiries = open(sources.clone()).expiries();
        let (_, at) = expiries.into_iter().find(|(kind, _)| *kind == Kind::Crl).unwrap();
        facts::date(at)
    };
    assert_eq!(due(&both), "2100-01-01");
    let alone = with_lists(&own, &[&ca], &[&old]);
    assert_eq!((due(&alone).as_str(), warnings(&alone, now()).len()), ("2021-01-01", 1));
}

fn past(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

fn future(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2090, 1, 1);
}

#[test]
fn a_fault_of_an_intermediate_is_not_put_on_the_peers_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::new(folder.path(), "root");
    let own = root.issue("own", |_| {});
    let below = |issuing: &Authority, change: fn(&mut CertificateParams)| {
        let pair = issuing.issue("ct", change);
        append(&pair.certificate, &issuing.ca);
        pair
    };
    let plain = sources(&own, &[&root]);
    let old = root.intermediate_with("old", "Old", past);
    let unborn = root.intermediate_with("unborn", "Unborn", future);
    let no_ca = root.intermediate_with("no-ca", "No CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    let cases = [
        (below(&old, |_| {}), Reason::IntermediateExpired),
        (below(&unborn, |_| {}), Reason::IntermediateNotYetValid),
        (below(&no_ca, |_| {}), Reason::BadChain),
    ];
    for (pair, reason) in &cases {
        assert_eq!(answers(&plain, [pair]), [Err(*reason)]);
        let failure = Failure {
            reason: *reason,
            shown: trust::Finding::shown(&leaf(pair)),
        };
        let text = failure.to_string();
        assert!(text.contains("(the peer's own certificate: valid "), "{text}");
    }
    let both = below(&old, past);
    assert_eq!(answers(&plain, [&both]), [Err(Reason::Expired)]);

    let narrow = root.intermediate_with("narrow", "Narrow", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let deep = narrow.intermediate("deep");
    let pair = below(&deep, |_| {});
    append(&pair.certificate, &narrow.ca);
    assert_eq!(answers(&plain, [&pair]), [Err(Reason::BadChain)]);

    let gone = root.intermediate_with("gone", "Gone", |params| params.serial_number = Some(77.into()));
    let pair = below(&gone, |_| {});
    let of_root = Made {
        revoked: &[77],
        ..Made::default()
    };
    let of_root = list(&root, "root", &of_root);
    let of_gone = list(&gone, "gone", &Made::default());
    let sources = with_lists(&own, &[&root], &[&of_root, &of_gone]);
    assert_eq!(
        answers(&sources, [&pair, &own]),
        [Err(Reason::IntermediateRevoked), Ok(())]
    );
}

fn leaf(pair: &Pair) -> rustls_pki_types::CertificateDer<'static> {
    let bytes = fs::read(&pair.certificate).unwrap();
    pem::certificates(&pair.certificate, &bytes).unwrap().remove(0)
}
