//! The certificates of a site with everything that can be wrong with them.
use crate::harness::pki::{Authority, Key, Pair, Recipe};
use rcgen::ExtendedKeyUsagePurpose;
use std::path::{Path, PathBuf};

pub struct Site {
    pub folder: PathBuf,
    pub ours: Authority,
    pub second: Authority,
    pub foreign: Authority,
    /// The box's own, with its chain.
    pub own: Pair,
    pub list: PathBuf,
    pub stale: PathBuf,
    pub all: Vec<(&'static str, Pair)>,
}

/// What a good or bad certificate is called here; in every one's common name stands a canary.
fn named(fault: &str) -> Recipe {
    Recipe::new(&format!("CANARY^{fault}"))
}

type Named = Vec<(&'static str, Pair)>;

fn good(ours: &Authority, second: &Authority, issuing: &Authority) -> Named {
    vec![
        ("good", ours.make("good", &named("good"))),
        ("good_rsa", ours.make("good_rsa", &named("good").key(Key::Rsa))),
        (
            "good_ed25519",
            ours.make("good_ed25519", &named("good").key(Key::Ed25519)),
        ),
        ("second", second.make("second_leaf", &named("second"))),
        ("chained", issuing.make("chained", &named("chained")).with(issuing)),
    ]
}

fn bad(ours: &Authority, foreign: &Authority, issuing: &Authority) -> Named {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    vec![
        ("expired", ours.make("expired", &named("expired").years(2019, 2021))),
        (
            "expired_rsa",
            ours.make("expired_rsa", &named("expired").years(2019, 2021).key(Key::Rsa)),
        ),
        (
            "expired_ed25519",
            ours.make("expired_ed25519", &named("expired").years(2019, 2021).key(Key::Ed25519)),
        ),
        (
            "not_yet_valid",
            ours.make("not_yet_valid", &named("early").years(2080, 2090)),
        ),
        ("unknown_ca", foreign.make("unknown_ca", &named("foreign"))),
        (
            "unknown_ca_rsa",
            foreign.make("unknown_ca_rsa", &named("foreign").key(Key::Rsa)),
        ),
        (
            "unknown_ca_ed25519",
            foreign.make("unknown_ca_ed25519", &named("foreign").key(Key::Ed25519)),
        ),
        ("self_signed", ours.self_signed("self_signed", &named("self"))),
        (
            "missing_intermediate",
            issuing.make("missing_intermediate", &named("missing")),
        ),
        ("revoked", ours.make("revoked", &named("revoked"))),
        ("revoked_rsa", ours.make("revoked_rsa", &named("revoked").key(Key::Rsa))),
        (
            "revoked_ed25519",
            ours.make("revoked_ed25519", &named("revoked").key(Key::Ed25519)),
        ),
        (
            "ca_as_leaf",
            ours.make(
                "ca_as_leaf",
                &Recipe {
                    ca: true,
                    ..named("ca")
                },
            ),
        ),
        ("weak_signature", ours.by_openssl("weak_signature", "ec", "-sha1")),
        ("weak_key", ours.by_openssl("weak_key", "rsa:1024", "-sha256")),
        (
            "server_only",
            ours.make(
                "server_only",
                &Recipe {
                    usages: vec![ServerAuth],
                    ..named("usage")
                },
            ),
        ),
        (
            "client_only",
            ours.make(
                "client_only",
                &Recipe {
                    usages: vec![ClientAuth],
                    ..named("usage")
                },
            ),
        ),
        (
            "wrong_name",
            ours.make(
                "wrong_name",
                &Recipe {
                    names: vec!["elsewhere.example".to_owned()],
                    ..named("name")
                },
            ),
        ),
    ]
}

impl Site {
    pub fn new(folder: &Path) -> Self {
        let ours = Authority::new(folder, "ours");
        let (second, foreign) = (Authority::new(folder, "second"), Authority::new(folder, "foreign"));
        let issuing = ours.intermediate("issuing");
        let own = issuing.make("own", &named("own")).with(&issuing);
        let mut all = [good(&ours, &second, &issuing), bad(&ours, &foreign, &issuing)].concat();
        let revoked: Vec<u64> = all
            .iter()
            .filter(|(fault, _)| fault.starts_with("revoked"))
            .map(|(_, p)| p.serial)
            .collect();
        all.push(("ct1", ours.make("ct1", &Recipe::new("ct1.example"))));
        Self {
            folder: folder.to_owned(),
            list: ours.list("ours", &revoked, 2090),
            stale: ours.list("stale", &[], 2021),
            ours,
            second,
            foreign,
            own,
            all,
        }
    }

    #[track_caller]
    pub fn pair(&self, name: &str) -> &Pair {
        let found = self.all.iter().find(|(of, _)| *of == name);
        &found.unwrap_or_else(|| panic!("no certificate {name}")).1
    }
}
