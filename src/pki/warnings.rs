//! What `waystation check` can say of certificates before any peer does: none of it keeps a box from starting, for a box that
//! comes up at night with an old certificate is better than none.
use super::facts::{Chain, Facts, Kind, date};
use super::trust::CrlPolicy;
use super::{Side, Sources};
use crate::base::clock::Wall;

/// What will not work, or soon not any more, each with the key of its file. Blocking: reads the files.
#[must_use]
pub fn warnings(sources: &Sources, now: Wall) -> Vec<(String, String)> {
    let now = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
    let facts = sources.survey();
    let mut found: Vec<(String, String)> = Vec::new();
    for of in facts.iter().filter(|facts| facts.error.is_none()) {
        let mut say = |text: String| found.push((of.key.clone(), format!("{}: {text}", of.file)));
        if let Some(text) = out_of_time(of, now, sources.crl_expired) {
            say(text);
        }
        if of.stray {
            say("the revocation list is in the name of a CA here, but not signed by it: fetch it anew".to_owned());
        }
        match of.chain {
            Some(Chain::Incomplete) => {
                say("the intermediate that issued this certificate is not in the file: append it, or peers will not believe it".to_owned());
            }
            Some(Chain::Disordered) => {
                say(
                    "is not in order: the box's own certificate first, then each time the issuer of the one before"
                        .to_owned(),
                );
            }
            Some(Chain::Complete | Chain::Unknown) | None => {}
        }
    }
    found.extend(without_list(&facts, sources));
    found
}

fn out_of_time(facts: &Facts, now: i64, crl_expired: CrlPolicy) -> Option<String> {
    let what = match facts.kind {
        Kind::Certificate => "the certificate",
        Kind::Intermediate => "an intermediate certificate",
        Kind::Ca => "a CA certificate",
        Kind::Crl => "the revocation list",
    };
    // A list that counts no more may be as old as it likes.
    let end = facts.not_after.filter(|at| *at < now && !facts.superseded);
    match (facts.kind, end) {
        _ if facts.not_before > now => Some(format!("{what} is not valid before {}", date(facts.not_before))),
        (Kind::Crl, Some(at)) => {
            let effect = match crl_expired {
                CrlPolicy::Accept => "it is used all the same",
                CrlPolicy::Refuse => "whom it covers is refused",
            };
            Some(format!("{what} was to be replaced {}: {effect}", date(at)))
        }
        (_, Some(at)) => Some(format!("{what} has expired {}", date(at))),
        (_, None) => None,
    }
}

/// Authorities of which there is no list, when there are lists.
fn without_list(facts: &[Facts], sources: &Sources) -> Vec<(String, String)> {
    if sources.crl.is_empty() {
        return Vec::new();
    }
    let (key, whom) = match sources.side {
        Side::Server { .. } => ("client_crl", "clients"),
        Side::Client => ("crl", "a destination"),
    };
    let effect = match sources.crl_missing {
        CrlPolicy::Accept => format!("{whom} with its certificates cannot be known as revoked"),
        CrlPolicy::Refuse => format!("{whom} with its certificates will be refused"),
    };
    let bare = facts
        .iter()
        .filter(|of| of.kind == Kind::Ca && of.error.is_none() && of.has_list != Some(true));
    bare.map(|of| {
        (
            key.to_owned(),
            format!(
                "there is no revocation list of the CA in {} (SHA-256 {}): {effect}",
                of.file, of.fingerprint
            ),
        )
    })
    .collect()
}
