//! Byte-exactness on images of the field: every word's samples on every test file of pydicom, in every transfer syntax. All elements
//! but those that the sample names leave with the bytes with which they came.
use super::RuleSet;
use super::bench::fixtures::{Origin, facts, load};
use super::words::{Book, Gives, Word};
use super::words_tests::{rules, source, unstamped};
use crate::dicom::head::Head;
use crate::dicom::path::{Path as ElementPath, Selector};
use crate::dicom::syntax::Syntax;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Words whose work is the whole image: what they change hangs on what is there, and stands in `words_whole_tests.rs`.
pub(super) const WHOLE: [&str; 3] = ["charset", "privacy", "uid"];

/// pydicom's own test files, from the Python peers' environment.
pub(super) fn files() -> Vec<PathBuf> {
    let venv = std::env::var("PEERS_VENV").expect("PEERS_VENV names the Python peers' environment: use `make test`");
    let pythons = std::fs::read_dir(Path::new(&venv).join("lib")).expect("an environment has a lib folder");
    let roots = pythons.map(|python| python.unwrap().path().join("site-packages/pydicom/data/test_files"));
    let (mut folders, mut found): (Vec<PathBuf>, Vec<PathBuf>) = (roots.collect(), Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
        {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "dcm") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The top-level elements that the word's samples name.
fn named(word: &Word) -> BTreeSet<Selector> {
    let mut named = BTreeSet::new();
    for sample in word.samples {
        let after = match &sample.gives {
            Gives::Elements(after) => *after,
            Gives::Deliveries(_) | Gives::Hold(_) => &[],
        };
        for (path, _) in after.iter().chain(sample.given) {
            let path = ElementPath::parse(path).unwrap();
            named.insert(path.items.first().map_or(path.leaf.clone(), |(first, _)| first.clone()));
        }
    }
    named
}

/// The bytes of the top-level elements that are not named. Group lengths of changed groups go: they would be wrong.
fn others<'a>(head: &'a Head, named: &BTreeSet<Selector>) -> Vec<&'a [u8]> {
    let is_other = |node: &usize| {
        let tag = head.nodes[*node].tag;
        tag.1 != 0 && !named.contains(&Selector::Tag(tag))
    };
    let others = head.children(None).filter(is_other);
    others.map(|node| &head.bytes[head.nodes[node].range()]).collect()
}

/// Whether the word changed the image; what is held is not sent and changes nothing.
fn check((name, named): (&str, &BTreeSet<Selector>), set: &RuleSet, (path, head): (&Path, &Head)) -> bool {
    let decision = set.decide(&facts(&Origin::default(), head, None), head);
    if decision.hold.is_some() {
        return false;
    }
    let plan = unstamped(&decision.deliveries[0].plan);
    let bytes = plan
        .apply(head)
        .unwrap_or_else(|error| panic!("{name} on {}: {error}", path.display()));
    // What is applied is not deflated any more.
    let plain = Syntax {
        deflated: false,
        ..head.syntax.clone()
    };
    let edited = Head::scan(plain, &bytes).unwrap();
    assert_eq!(
        others(&edited, named),
        others(head, named),
        "{name} on {}",
        path.display()
    );
    assert!(
        plan.edits.is_empty() == (bytes == head.bytes[..]),
        "{name} on {}",
        path.display()
    );
    !plan.edits.is_empty()
}

/// The files that are DICOM, read; some sixty, in ten syntaxes and more.
pub(super) fn heads() -> Vec<(PathBuf, Head)> {
    let mut heads = Vec::new();
    for path in files() {
        if let Ok((head, _)) = load(&path) {
            heads.push((path, head));
        }
    }
    let syntaxes: BTreeSet<String> = heads.iter().map(|(_, head)| head.syntax.uid.to_string()).collect();
    assert!(
        heads.len() >= 60 && syntaxes.len() >= 10,
        "{} files, {syntaxes:?}",
        heads.len()
    );
    heads
}

#[test]
fn every_word_leaves_what_it_does_not_name_byte_for_byte_in_every_transfer_syntax() {
    let heads = heads();
    let mut changed: BTreeMap<String, usize> = BTreeMap::new();
    for word in Book::new().words.iter().filter(|word| !WHOLE.contains(&word.namespace)) {
        let name = format!("{}::{}", word.namespace, word.name);
        let named = named(word);
        for sample in word
            .samples
            .iter()
            .filter(|sample| matches!(sample.gives, Gives::Elements(_)))
        {
            let set = rules(&source(sample));
            for (path, head) in &heads {
                let did = check((&name, &named), &set, (path, head));
                *changed.entry(name.clone()).or_default() += usize::from(did);
            }
        }
    }
    let often = |word: &str, times: usize| changed.get(word).is_some_and(|count| *count >= times);
    assert!(
        often("identity::prefix", 50) && often("identity::issuer", 40),
        "{changed:?}"
    );
    assert!(often("accession::set", 50) && often("code::set", 100), "{changed:?}");
}
