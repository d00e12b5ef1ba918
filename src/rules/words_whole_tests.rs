//! Byte-exactness of the words whose work is the whole image (`charset`, `privacy`, `uid`): every sample's call on every test file of
//! pydicom, in every transfer syntax. Which elements such a word changes hangs on the image, and the decision names them, each with
//! its path; every other element, at every depth, leaves with the bytes with which it came.
use super::RuleSet;
use super::bench::fixtures::{Origin, facts};
use super::words::Book;
use super::words_corpus_tests::{WHOLE, heads};
use super::words_tests::{rules, source, unstamped};
use crate::dicom::edit::Plan;
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::Selector;
use crate::dicom::syntax::Syntax;
use dicom_core::Tag;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The sequences around an element, each with the number of its item.
type Around = Vec<(Tag, usize)>;

/// What is around an element, and its own tag.
type Place = (Around, Tag);

/// Every element that has no element inside, by its place, with all its bytes, header and delimiter included.
fn leaves(head: &Head) -> BTreeMap<Place, &[u8]> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(Option<usize>, Around)> = vec![(None, Vec::new())];
    while let Some((parent, around)) = open.pop() {
        for at in head.children(parent) {
            let node = head.nodes[at];
            let items: Vec<usize> = match node.kind {
                Kind::Sequence => head.children(Some(at)).collect(),
                Kind::Value | Kind::Fragments | Kind::Item => Vec::new(),
            };
            if items.is_empty() {
                found.insert((around.clone(), node.tag), &head.bytes[node.range()]);
            }
            for (index, item) in items.into_iter().enumerate() {
                let mut inside = around.clone();
                inside.push((node.tag, index));
                open.push((Some(item), inside));
            }
        }
    }
    found
}

/// What the plan names, as places. A private element that is not there yet has none in `head`.
fn named(plan: &Plan, head: &Head) -> BTreeSet<Place> {
    let tag = |selector: &Selector| match selector {
        Selector::Tag(tag) => Some(*tag),
        Selector::Private { .. } => None,
    };
    let place = |edit: &crate::dicom::edit::Edit| {
        let path = head.settled(edit.path());
        let items: Option<Vec<(Tag, usize)>> = path.items.iter().map(|(s, at)| Some((tag(s)?, *at))).collect();
        Some((items?, tag(&path.leaf)?))
    };
    plan.edits.iter().filter_map(place).collect()
}

/// Whether a place is named, or lies in a sequence that is.
fn is_named((around, tag): &Place, named: &BTreeSet<Place>) -> bool {
    named.contains(&(around.clone(), *tag))
        || (0..around.len()).any(|depth| named.contains(&(around[..depth].to_vec(), around[depth].0)))
}

/// What is not named. Group lengths (gggg,0000) of changed groups go: they would be wrong. A sequence that is empty because its
/// last element was removed, or not because one was set, is named by that element.
fn others<'a>(head: &'a Head, named: &BTreeSet<Place>) -> BTreeMap<Place, &'a [u8]> {
    let mut leaves = leaves(head);
    let opened = |place: &Place| {
        named.iter().any(|(around, _)| {
            let depth = place.0.len();
            around.len() > depth && around[..depth] == place.0[..] && around[depth].0 == place.1
        })
    };
    leaves.retain(|place, _| place.1.1 != 0 && !is_named(place, named) && !opened(place));
    leaves
}

/// How many elements the word changed; what is held is not sent and changes nothing.
fn check(name: &str, set: &RuleSet, path: &Path, head: &Head) -> usize {
    let decision = set.decide(&facts(&Origin::default(), head, None), head);
    if decision.hold.is_some() {
        return 0;
    }
    let plan = unstamped(&decision.deliveries[0].plan);
    let at = format!("{name} on {}", path.display());
    let bytes = plan.apply(head).unwrap_or_else(|error| panic!("{at}: {error}"));
    // What is applied is not deflated any more.
    let plain = Syntax {
        deflated: false,
        ..head.syntax.clone()
    };
    let edited = Head::scan(plain, &bytes).unwrap();
    let named = named(&plan, head);
    let (before, after) = (others(head, &named), others(&edited, &named));
    let differ: Vec<&Place> = before
        .keys()
        .chain(after.keys())
        .filter(|place| before.get(*place) != after.get(*place))
        .collect();
    assert!(differ.is_empty(), "{at}: not named, and not as it came: {differ:?}");
    assert!(plan.edits.is_empty() == (bytes == head.bytes[..]), "{at}");
    plan.edits.len()
}

#[test]
fn words_on_whole_images_change_only_what_their_decision_names() {
    let heads = heads();
    let mut changed: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for word in Book::new().words.iter().filter(|word| WHOLE.contains(&word.namespace)) {
        let name = format!("{}::{}", word.namespace, word.name);
        for sample in word.samples {
            let set = rules(&source(sample));
            for (path, head) in &heads {
                let edits = check(&name, &set, path, head);
                let (images, all) = changed.entry(name.clone()).or_default();
                *images += usize::from(edits > 0);
                *all += edits;
            }
        }
    }
    let of = |namespace: &str| {
        let words = changed.iter().filter(|(name, _)| name.starts_with(namespace));
        words.fold((0, 0), |sum, (_, (images, all))| (sum.0 + images, sum.1 + all))
    };
    // Not one of the three stands still on these files.
    for (namespace, images) in [("charset::", 20), ("privacy::", 200), ("uid::", 50)] {
        assert!(of(namespace).0 >= images, "{namespace}: {changed:?}");
    }
}

#[test]
fn a_change_that_nobody_named_is_seen() {
    let (path, head) = heads().into_iter().next().expect("a file");
    let named = BTreeSet::new();
    let before = others(&head, &named);
    assert!(before.len() > 5, "{}", path.display());
    let mut bytes = head.bytes.to_vec();
    let last = before.values().filter(|bytes| bytes.len() > 8).count();
    assert!(last > 0);
    // One byte of the value of the first element with a text.
    let node = head
        .nodes
        .iter()
        .find(|node| node.kind == Kind::Value && node.end > node.value + 2 && node.tag.1 != 0)
        .unwrap();
    bytes[node.value as usize] ^= 1;
    let plain = Syntax {
        deflated: false,
        ..head.syntax.clone()
    };
    let edited = Head::scan(plain, &bytes).unwrap();
    assert_ne!(others(&edited, &named), before);
}
