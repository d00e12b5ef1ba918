//! The promises that hold for every word of the vocabulary, run over every sample that documents it. A new word is tested by
//! being registered.
use super::tests::{decide, element_text, empty_head};
use super::words::{Book, Gives, Sample, Word};
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

fn source(sample: &Sample) -> String {
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

/// The sample's rule on its own result changes nothing.
fn twice(name: &str, sample: &Sample, head: &Head, plan: &Plan) {
    let unstamped = Plan {
        edits: plan.edits.clone(),
        stamp: None,
    };
    let once = Head::scan(head.syntax.clone(), &unstamped.apply(head).unwrap()).unwrap();
    let again = decide(&source(sample), &once);
    assert_eq!(again.hold, None, "{name} twice");
    assert_eq!(again.deliveries[0].plan.edits, [], "{name} twice is not {name} once");
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
