//! The promises of every word on values that nobody thought of: twice is once, no value longer than its VR allows, never U+FFFD, and
//! nothing but the named elements changed. Runs over every sample of the vocabulary, with its elements' values replaced.
use super::tests::facts;
use super::words::{Book, Gives, Sample, Word};
use super::words_tests::{BY_RECORD, rules, source, unstamped};
use super::{Hold, RuleSet};
use crate::base::properties::cases;
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::{Path, Selector};
use dicom_core::VR;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;

/// Values tried on each sample.
const CASES: u32 = 24;

/// Identifiers, names and texts of many shapes, most of them short enough for an SH.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{0,17}",
        "0{0,8}[1-9][0-9]{0,6}",
        "(RA|NRT-|N-|X){0,3}[0-9A-Za-z-]{0,8}",
        "[A-Z]{1,10}(\\^[A-Z]{0,8}){0,4}(=[一-十]{1,4}\\^[一-十]{1,4})?",
        "[ -~&&[^\\\\]]{0,40}",
        "\\PC{0,12}",
        Just("THX".to_owned()),
        Just("CT01".to_owned()),
        Just("123".to_owned()),
    ]
}

/// Whether it is valid UTF-8 once it stands in ISO 8859-1, as `Â¡` does: taken for UTF-8 there, as `docs/rules/charset.md` says.
fn is_utf8_by_accident(text: &str) -> bool {
    let latin: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
    !text.is_ascii() && latin.is_some_and(|latin| std::str::from_utf8(&latin).is_ok())
}

/// A UTF-8 head of the sample's elements with other values, as far as they can be written.
fn head_of(sample: &Sample, values: &[String]) -> Head {
    let mut head = super::tests::empty_head();
    let given = sample
        .given
        .iter()
        .map(|(path, value)| (Path::parse(path).unwrap(), *value));
    let mut elements: Vec<(Path, &str)> = given.collect();
    elements.push((Path::parse("SpecificCharacterSet").unwrap(), "ISO_IR 192"));
    elements.push((Path::parse("InstanceNumber").unwrap(), "7"));
    elements.sort();
    for (at, (path, own)) in elements.into_iter().enumerate() {
        let is_fixed = path.items.is_empty() && own == "ISO_IR 192" || own == "7";
        let random = values
            .get(at)
            .filter(|text| !is_fixed && !text.contains(['\\', '\u{FFFD}']) && !is_utf8_by_accident(text));
        let edit = random.and_then(|text| Edit::text(&head, path.clone(), std::slice::from_ref(text)).ok());
        let own: Vec<String> = own.split('\\').map(str::to_owned).collect();
        let edit = edit.unwrap_or_else(|| Edit::text(&head, path, &own).unwrap());
        let plan = Plan {
            edits: vec![edit],
            stamp: None,
        };
        head = Head::scan(head.syntax.clone(), &plan.apply(&head).unwrap()).unwrap();
    }
    head
}

/// The top-level elements that the word's samples name.
fn named(word: &Word) -> BTreeSet<Selector> {
    let mut named = BTreeSet::new();
    if word.namespace == "privacy" {
        // What is done for privacy says so: (0012,0062), (0012,0063), (0012,0064), (0028,0303).
        let said = [(0x0012, 0x0062), (0x0012, 0x0063), (0x0012, 0x0064), (0x0028, 0x0303)];
        named.extend(said.map(|(group, element)| Selector::Tag(dicom_core::Tag(group, element))));
    }
    for sample in word.samples {
        let after = match &sample.gives {
            Gives::Elements(after) => *after,
            Gives::Deliveries(_) | Gives::Hold(_) => &[],
        };
        for (path, _) in after.iter().chain(sample.given) {
            let path = Path::parse(path).unwrap();
            named.insert(path.items.first().map_or(path.leaf.clone(), |(first, _)| first.clone()));
        }
    }
    named
}

/// PS3.5 table 6.2-1, in characters of one value.
fn longest(vr: VR) -> usize {
    match vr {
        VR::SH | VR::CS | VR::AE | VR::DS => 16,
        VR::LO | VR::UI => 64,
        VR::IS => 12,
        VR::DA => 8,
        VR::ST => 1024,
        VR::LT => 10_240,
        VR::PN => 3 * 64 + 2,
        _ => usize::MAX,
    }
}

fn assert_values_fit(name: &str, head: &Head) {
    for at in (0..head.nodes.len()).filter(|at| head.nodes[*at].kind == Kind::Value) {
        let node = &head.nodes[at];
        let Ok(text) = std::str::from_utf8(head.raw(at)) else {
            continue;
        };
        assert!(!text.contains('\u{FFFD}'), "{name}: {}", node.tag);
        let values: Vec<&str> = match node.vr {
            VR::ST | VR::LT | VR::UT => vec![text],
            _ => text.split('\\').collect(),
        };
        for value in values {
            let count = value.trim_end_matches([' ', '\0']).chars().count();
            assert!(count <= longest(node.vr), "{name}: {} has {count} characters", node.tag);
            let groups = value.split('=').map(|group| group.trim_end().chars().count());
            assert!(node.vr != VR::PN || groups.max() <= Some(64), "{name}: {}", node.tag);
        }
    }
}

/// The top-level elements that are not among `named`, in their bytes.
fn others<'a>(head: &'a Head, named: &'a BTreeSet<Selector>) -> Vec<&'a [u8]> {
    let others = head
        .children(None)
        .filter(|node| !named.contains(&Selector::Tag(head.nodes[*node].tag)));
    others.map(|node| &head.bytes[head.nodes[node].range()]).collect()
}

fn check((name, named): (&str, &BTreeSet<Selector>), sample: &Sample, set: &RuleSet, values: &[String]) {
    let head = head_of(sample, values);
    let decision = set.decide(&facts(), &head);
    if let Some(Hold { reason, .. }) = &decision.hold {
        let leaked = values
            .iter()
            .find(|value| value.len() > 5 && reason.contains(value.as_str()));
        assert_eq!(leaked, None, "{name}: a hold quotes a value");
        return;
    }
    for delivery in &decision.deliveries {
        let plan = &delivery.plan;
        let once = Head::scan(head.syntax.clone(), &unstamped(plan).apply(&head).unwrap()).unwrap();
        assert_values_fit(name, &once);
        assert_eq!(
            others(&once, named),
            others(&head, named),
            "{name} changed what it does not name"
        );
        let stamped = Head::scan(head.syntax.clone(), &plan.apply(&head).unwrap()).unwrap();
        let seen = if BY_RECORD.contains(&name) {
            vec![stamped]
        } else {
            vec![once, stamped]
        };
        for once in seen {
            let again = set.decide(&facts(), &once);
            assert_eq!(again.hold, None, "{name} twice");
            let edits: Vec<&Edit> = again.deliveries.iter().flat_map(|again| &again.plan.edits).collect();
            assert_eq!(edits, Vec::<&Edit>::new(), "{name} twice is not {name} once");
        }
    }
}

#[test]
fn every_word_keeps_its_promises_on_any_value() {
    let mut failures = Vec::new();
    for word in &Book::new().words {
        let name = format!("{}::{}", word.namespace, word.name);
        let named = named(word);
        for sample in word.samples {
            let set = rules(&source(sample));
            let config = Config {
                failure_persistence: None,
                ..cases(CASES)
            };
            let values = proptest::collection::vec(value(), sample.given.len() + 2);
            let run = TestRunner::new(config).run(&values, |values| {
                check((&name, &named), sample, &set, &values);
                Ok(())
            });
            failures.extend(run.err().map(|failure| format!("{name}, `{}`: {failure}", sample.rule)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
