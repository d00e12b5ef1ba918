//! Edits against a model over random trees in every layout.
use super::tests::{head, stamp};
use super::*;
use crate::dicom::head::tests::{any_data_set, syntax};
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::Selector;
use dicom_core::Tag;
use proptest::prelude::*;

/// What a data set says, free of layout.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Value(Vec<u8>),
    Items(Vec<Model>),
}

type Model = Vec<(Tag, Said)>;

fn model(head: &Head, item: Option<usize>) -> Model {
    let said = |node: usize| {
        let found = &head.nodes[node];
        let said = match found.kind {
            Kind::Sequence => Said::Items(head.children(Some(node)).map(|item| model(head, Some(item))).collect()),
            _ => Said::Value(head.raw(node).to_vec()),
        };
        (found.tag, said)
    };
    head.children(item).map(said).collect()
}

/// The same edit on the model, written without the tree of the code under test.
fn edit_model(model: &mut Model, items: &[(Selector, usize)], leaf: Tag, value: Option<&[u8]>) {
    let place = |model: &Model, tag| model.iter().position(|(found, _)| *found > tag).unwrap_or(model.len());
    let Some(((Selector::Tag(tag), index), deeper)) = items.split_first() else {
        match (model.iter().position(|(found, _)| *found == leaf), value) {
            (Some(at), Some(value)) => {
                model[at].1 = Said::Value(value.to_vec());
                let behind = model.split_off(at + 1);
                model.extend(behind.into_iter().filter(|(found, _)| *found != leaf));
            }
            (None, Some(value)) => model.insert(place(model, leaf), (leaf, Said::Value(value.to_vec()))),
            (_, None) => model.retain(|(found, _)| *found != leaf),
        }
        return;
    };
    let at = match model.iter().position(|(found, _)| found == tag) {
        Some(at) => at,
        None if value.is_none() => return,
        None => {
            let at = place(model, *tag);
            model.insert(at, (*tag, Said::Items(Vec::new())));
            at
        }
    };
    if let Said::Items(found) = &mut model[at].1 {
        if *index == found.len() && value.is_some() {
            found.push(Vec::new());
        }
        if let Some(item) = found.get_mut(*index) {
            edit_model(item, deeper, leaf, value);
        }
    }
}

fn any_edit() -> impl Strategy<Value = (Vec<usize>, u32, Option<Vec<u8>>)> {
    let value = prop::option::of(prop::collection::vec(b'A'..=b'Z', 0..6).prop_map(|mut value| {
        value.truncate(value.len() / 2 * 2);
        value
    }));
    (prop::collection::vec(0usize..3, 0..3), 0u32..44, value)
}

proptest! {
    #[test]
    fn edited_heads_say_what_the_model_says((uid, bytes) in any_data_set(), edits in prop::collection::vec(any_edit(), 1..6)) {
        let before = head(uid, &bytes);
        let mut expected = model(&before, None);
        let mut done = Plan::default();
        let mut bytes_now = bytes.clone();
        for (indexes, low, value) in edits {
            let sequence = if low % 2 == 0 { Tag(0x0040, 0x0275) } else { Tag(0x0040, 0xA730) };
            let items: Vec<_> = indexes.iter().map(|index| (Selector::Tag(sequence), *index)).collect();
            let leaf = Tag(0x0009, 0x1000 + low as u16);
            let path = Path { items: items.clone(), leaf: Selector::Tag(leaf) };
            let edit = match &value {
                Some(value) => Edit::Set { path, vr: VR::LO, value: value.clone() },
                None => Edit::Remove { path },
            };
            done.edits.push(edit);
            match done.apply(&before) {
                Ok(out) => {
                    edit_model(&mut expected, &items, leaf, value.as_deref());
                    bytes_now = out;
                }
                Err(wrong) => {
                    prop_assert_eq!(wrong, EditError::NoSuchItem);
                    done.edits.pop();
                }
            }
        }
        let after = Head::scan(syntax(uid), &bytes_now).unwrap();
        let padded = |model: Model| pad(model);
        prop_assert_eq!(padded(model(&after, None)), padded(expected));
        // Every set again, after the edits: nothing may change, not even with a stamp.
        let again = Plan { edits: done.edits.iter().rev().take(1).cloned().collect(), stamp: stamp() };
        prop_assert_eq!(again.apply(&after).unwrap(), bytes_now);
    }
}

/// Odd lengths count as padded: an edit to the same text leaves them odd.
fn pad(model: Model) -> Model {
    let said = |(tag, said)| match said {
        Said::Value(value) if value.len() % 2 == 1 => (tag, Said::Value([value, b" ".to_vec()].concat())),
        Said::Value(value) => (tag, Said::Value(value)),
        Said::Items(items) => (tag, Said::Items(items.into_iter().map(pad).collect())),
    };
    model.into_iter().map(said).collect()
}
