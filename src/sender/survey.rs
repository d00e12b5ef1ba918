//! `waystation probe`: what a destination would do with classes and syntaxes, asked before it matters.
//!
//! Associates as a delivery would, with as many associations as it takes for all presentation contexts, and sends nothing. What
//! is answered is learned. Verification and what the destination is known to accept stand beside the questions: see `reach.rs`.
use super::casting::{Caster, Offer};
use super::config::Dicom;
use super::dimse::{PAIRS_MAX, Session};
use super::outcome::Down;
use super::reach::{self, LIKELY_MAX};
use super::tls::Connector;
use super::transport::Progress;
use crate::base::names::Uid;
use crate::dicom::family;
use crate::transcode::Pair;
use crate::transcode::forms::EXPLICIT_LITTLE;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What would become of instances of one stored pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub class: Uid,
    pub stored: Uid,
    /// Instances of it have come by, or a person has asked for it: its refusal matters.
    pub matters: bool,
    /// What the destination said of the stored syntax: 0, or the presentation context's result.
    pub result: u8,
    pub consequence: Consequence,
}

/// What would happen to such an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum Consequence {
    AsStored,
    Converted { to: Uid },
    Held,
}

impl Finding {
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        self.matters && self.consequence == Consequence::Held
    }
}

/// Asks about each of these stored pairs, and about everything that they could be converted to.
///
/// # Errors
/// The destination was not reached, or associated for none of it. What it rejects while it associates for others it refuses.
pub(super) async fn survey(
    (peer, tls): (&Dicom, Option<&Connector>),
    caster: &Caster,
    stored: &[(Pair, bool)],
) -> Result<Vec<Finding>, Down> {
    let mut asked: Vec<Pair> = Vec::new();
    for (pair, _) in stored {
        for syntax in caster.ways(pair) {
            let wanted = (pair.0.clone(), syntax);
            if !asked.contains(&wanted) {
                asked.push(wanted);
            }
        }
    }
    let mut answers: BTreeMap<Pair, u8> = BTreeMap::new();
    let (mut rejected, mut first) = (Vec::new(), None);
    for pairs in asked.chunks(PAIRS_MAX - LIKELY_MAX) {
        let beside = std::iter::once(reach::verification()).chain(reach::accepted(caster));
        match ask((peer, tls), caster, (pairs, beside)).await {
            Err(down) if down.may_be_about_contexts() => {
                rejected.push(pairs);
                first.get_or_insert(down);
            }
            asked => answers.extend(asked?),
        }
    }
    // A peer may reject what it accepts nothing of. Beside something that it accepts it answers for each.
    for pairs in rejected {
        match ask((peer, tls), caster, (pairs, reach::likely(caster))).await {
            Err(down) if down.may_be_about_contexts() => {}
            asked => answers.extend(asked?),
        }
    }
    if let Some(down) = first.filter(|_| answers.is_empty()) {
        return Err(down);
    }
    Ok(stored
        .iter()
        .map(|(pair, matters)| find(caster, pair, *matters, &answers))
        .collect())
}

/// The answers to these, proposed with others beside.
async fn ask(
    peer: (&Dicom, Option<&Connector>),
    caster: &Caster,
    (pairs, beside): (&[Pair], impl Iterator<Item = Pair>),
) -> Result<Vec<(Pair, u8)>, Down> {
    let offer = Offer::of(pairs.to_vec()).with(beside);
    let session = Session::open(peer, None, (offer, caster), &Progress::new()).await?;
    let answers = session.results().map(|(pair, result)| (pair.clone(), result)).collect();
    session.release().await;
    Ok(answers)
}

/// What most sites have, each as it is usually stored.
pub(super) fn usual() -> impl Iterator<Item = Pair> {
    COMMON
        .into_iter()
        .map(|class| (Uid::known(class), Uid::known(EXPLICIT_LITTLE)))
}

fn find(caster: &Caster, pair: &Pair, matters: bool, answers: &BTreeMap<Pair, u8>) -> Finding {
    let answer = |syntax: &Uid| answers.get(&(pair.0.clone(), syntax.clone())).copied();
    let way = caster.ways(pair).into_iter().find(|syntax| answer(syntax) == Some(0));
    Finding {
        class: pair.0.clone(),
        stored: pair.1.clone(),
        matters,
        result: answer(&pair.1).unwrap_or(NOT_ANSWERED),
        consequence: match way {
            None => Consequence::Held,
            Some(to) if to == pair.1 => Consequence::AsStored,
            Some(to) => Consequence::Converted { to },
        },
    }
}

/// What to ask about: what was seen, or of it only what a person names; and where nothing of a class was seen, how it is
/// usually stored. A name is a SOP Class UID, or a family (`CT`).
///
/// # Errors
/// A name that is neither.
pub fn questions(seen: &[Pair], names: &[String]) -> Result<Vec<(Pair, bool)>, String> {
    let mut found: Vec<(Pair, bool)> = Vec::new();
    let usual = |class: &Uid| (class.clone(), Uid::known(EXPLICIT_LITTLE));
    for name in names {
        let before = found.len();
        let is_meant = |class: &Uid| class.as_str() == name || family::is(class, name) == Some(true);
        found.extend(
            seen.iter()
                .filter(|pair| is_meant(&pair.0))
                .map(|pair| (pair.clone(), true)),
        );
        if found.len() > before {
            continue;
        }
        let common: Vec<Uid> = COMMON.into_iter().map(Uid::known).filter(is_meant).collect();
        match (Uid::parse(name), common.is_empty()) {
            (_, false) => found.extend(common.iter().map(|class| (usual(class), true))),
            (Ok(class), true) if name.contains('.') => found.push((usual(&class), true)),
            _ => {
                return Err(format!(
                    "{name}: write a SOP Class UID, or one of {}",
                    family::names().join(", ")
                ));
            }
        }
    }
    if names.is_empty() {
        found.extend(seen.iter().map(|pair| (pair.clone(), true)));
        let unseen = COMMON
            .into_iter()
            .map(Uid::known)
            .filter(|class| !seen.iter().any(|pair| pair.0 == *class));
        found.extend(unseen.map(|class| (usual(&class), false)));
    }
    Ok(found)
}

/// Presentation context results in words (PS3.8 table 9-18).
#[must_use]
pub fn words(result: u8) -> &'static str {
    match result {
        0 => "accepted",
        1 => "refused by its user",
        3 => "SOP class not supported",
        4 => "transfer syntax not supported",
        _ => "refused, no reason given",
    }
}

const NOT_ANSWERED: u8 = 2;
/// What most sites have, each proposed as explicit little endian when it was not seen.
pub(super) const COMMON: [&str; 24] = [
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.11.1",
    "1.2.840.10008.5.1.4.1.1.12.1",
    "1.2.840.10008.5.1.4.1.1.12.2",
    "1.2.840.10008.5.1.4.1.1.13.1.3",
    "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.59",
    "1.2.840.10008.5.1.4.1.1.88.67",
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.481.5",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(class: &'static str, syntax: &'static str) -> Pair {
        (Uid::known(class), Uid::known(syntax))
    }

    #[test]
    fn what_was_seen_matters_and_what_is_common_is_asked_too() {
        let ct = pair("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.70");
        let all = questions(std::slice::from_ref(&ct), &[]).unwrap();
        assert_eq!(all[0], (ct.clone(), true));
        assert_eq!(all.len(), COMMON.len());
        assert!(all[1..].iter().all(|(pair, matters)| !matters && pair.0 != ct.0));
    }

    #[test]
    fn a_person_may_name_classes_and_families() {
        let ct = pair("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.70");
        let seen = [ct.clone(), pair("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2")];
        let ask = |names: &[&str]| questions(&seen, &names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(ask(&["CT"]).unwrap(), [(ct, true)]);
        assert_eq!(ask(&["MG", "1.2.3.4"]).unwrap().len(), 3);
        assert!(ask(&["FAX"]).is_err());
    }
}
