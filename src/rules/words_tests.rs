//! The promises that hold for every word of the vocabulary, run over every sample that documents it. A new word is tested by
//! being registered.
use super::tests::{element_text, empty_head, facts, files};
use super::words::{Book, Gives, Sample, Word};
use super::{Decision, RuleSet};
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::Head;
use crate::dicom::path::Path;
use std::collections::BTreeSet;

/// A head in explicit little endian with the given text elements.
pub(super) fn head_of(elements: &[(&str, &str)]) -> Head {
    let mut head = empty_head();
    let mut sorted: Vec<(Path, &str)> = elements
        .iter()
        .map(|(path, value)| (Path::parse(path).unwrap(), *value))
        .collect();
    sorted.sort();
    for (path, value) in sorted {
        let values: Vec<String> = value.split('\\').map(str::to_owned).collect();
        let plan = Plan {
            edits: vec![Edit::text(&head, path, &values).unwrap()],
            stamp: None,
        };
        head = Head::scan(head.syntax.clone(), &plan.apply(&head).unwrap()).unwrap();
    }
    head
}

pub(super) fn source(sample: &Sample) -> String {
    match sample.gives {
        Gives::Deliveries(_) => format!("fn route(image, from) {{ {} }}", sample.rule),
        Gives::Elements(_) | Gives::Hold(_) => {
            format!(
                "fn morph(image, from) {{ {} }} fn route(image, from) {{ to(\"vna\"); }}",
                sample.rule
            )
        }
    }
}

/// The tables that samples look things up in.
pub(super) const TABLES: [(&str, &str); 5] = [
    (
        "stations.csv",
        "station,institution,department\nCT01,North Hospital,Radiology\nMG01,South Hospital,Mammography\nMR09,North,A\nMR09,South,B\n",
    ),
    (
        "patients.csv",
        "issuer,value,to_issuer,to_value\nNORTH,123,EMPI,900001\nSOUTH,123,EMPI,900002\nNORTH,77,EMPI,1\nNORTH,77,EMPI,2\n",
    ),
    ("parts.csv", "value,to_value\nTHX,CHEST\nABD,ABDOMEN\n"),
    (
        "procedures.csv",
        "scheme,code,to_scheme,to_code,to_meaning\n99LOCAL,CH2,LN,36643-5,XR Chest 2 Views\n",
    ),
    (
        "sites.csv",
        "source,prefix,issuer,universal_id,universal_type\nct1,NRT-,NORTH,1.2.826.0.1,ISO\nmr1,STH-,SOUTH,,\n",
    ),
];

/// The rules with the sample tables beside them.
pub(super) fn rules(text: &str) -> RuleSet {
    let mut sources = vec![("main.rhai", text)];
    sources.extend(TABLES);
    files(&sources).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

fn decide(text: &str, head: &Head) -> Decision {
    rules(text).decide(&facts(), head)
}

fn check(word: &Word, sample: &Sample) {
    let (name, head) = (word.full(), head_of(sample.given));
    let decision = decide(&source(sample), &head);
    match &sample.gives {
        Gives::Hold(kind) => assert_eq!(decision.hold.map(|hold| hold.kind), Some(*kind), "{name}"),
        Gives::Deliveries(wanted) => {
            let got: BTreeSet<(String, String)> = decision
                .deliveries
                .iter()
                .map(|delivery| (delivery.destination.to_string(), delivery.priority.as_str().to_owned()))
                .collect();
            let wanted = wanted.iter().map(|(d, p)| ((*d).to_owned(), (*p).to_owned())).collect();
            assert_eq!(got, wanted, "{name}");
        }
        Gives::Elements(after) => {
            assert_eq!(decision.hold, None, "{name}");
            for (path, value) in *after {
                let got = element_text(&decision, &head, 0, path).unwrap_or_default();
                assert_eq!(got, *value, "{name}: {path}");
                assert!(!got.contains('\u{FFFD}'), "{name}: {path}");
            }
            let named: BTreeSet<Path> = after.iter().map(|(path, _)| Path::parse(path).unwrap()).collect();
            for (path, value) in sample.given {
                if !named.contains(&Path::parse(path).unwrap()) {
                    assert_eq!(
                        element_text(&decision, &head, 0, path).as_deref(),
                        Some(*value),
                        "{name}: {path}"
                    );
                }
            }
            twice(&name, sample, &head, &decision.deliveries[0].plan);
        }
    }
}

/// Words whose effect cannot be seen in its result: they know from the record of changes that it is theirs.
pub(super) const BY_RECORD: [&str; 1] = ["text::swap_name_parts"];

/// The sample's rule on its own result changes nothing: neither as it leaves the box, nor without the record of changes.
fn twice(name: &str, sample: &Sample, head: &Head, plan: &Plan) {
    let unstamped = unstamped(plan);
    let plans = if BY_RECORD.contains(&name) {
        vec![plan.clone()]
    } else {
        vec![plan.clone(), unstamped]
    };
    for plan in plans {
        let once = Head::scan(head.syntax.clone(), &plan.apply(head).unwrap()).unwrap();
        let again = decide(&source(sample), &once);
        assert_eq!(again.hold, None, "{name} twice");
        assert_eq!(again.deliveries[0].plan.edits, [], "{name} twice is not {name} once");
        assert_eq!(again.aliases, [], "{name} twice");
    }
}

#[test]
fn every_word_does_what_its_samples_show_and_twice_is_once() {
    let book = Book::new();
    assert!(!book.words.is_empty());
    for word in book.all() {
        assert!(
            !word.samples.is_empty(),
            "{}::{} has no sample",
            word.namespace,
            word.name
        );
        for sample in word.samples {
            check(word, sample);
        }
    }
}

#[test]
fn every_word_says_what_it_does_and_where_it_ends() {
    for word in Book::new().all() {
        for text in [word.does, word.limits, word.errors] {
            assert!(text.len() > 10 && text.ends_with('.'), "{}: {text:?}", word.full());
        }
        let used = format!("{}(", word.full());
        let shown = word.samples.iter().any(|sample| sample.rule.contains(&used));
        assert!(shown, "no sample of {} uses it", word.full());
    }
}

#[test]
fn trimming_shows_in_the_bytes() {
    let head = head_with(&[(0x0008, 0x1030, b"  CHEST PA  ")]);
    let decision = decide(
        "fn morph(image, from) { text::trim(image, \"StudyDescription\"); } fn route(image, from) { to(\"vna\"); }",
        &head,
    );
    let once = unstamped(&decision.deliveries[0].plan).apply(&head).unwrap();
    assert!(once.ends_with(b"LO\x08\0CHEST PA"), "{once:?}");
}

/// A head of raw LO elements.
fn head_with(elements: &[(u16, u16, &[u8])]) -> Head {
    let mut bytes = Vec::new();
    for (group, element, value) in elements {
        bytes.extend_from_slice(&group.to_le_bytes());
        bytes.extend_from_slice(&element.to_le_bytes());
        bytes.extend_from_slice(b"LO");
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(value);
    }
    Head::scan(empty_head().syntax, &bytes).unwrap()
}

/// A plan without its record of changes.
pub(super) fn unstamped(plan: &Plan) -> Plan {
    Plan {
        edits: plan.edits.clone(),
        stamp: None,
    }
}
