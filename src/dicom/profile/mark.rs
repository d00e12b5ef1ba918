//! What a de-identified data set says of itself: that identity was removed, by which method and options, and what became of dates.
use super::steps::{Step, Steps};
use super::{Dates, Options};
use crate::dicom::head::Head;
use crate::dicom::path::{Path, Selector};
use crate::dicom::pseudonym::Key;
use dicom_core::{Tag, VR};
use std::collections::BTreeSet;

/// Says what was done: Patient Identity Removed, the method in words and in codes (PS3.3 C.7.1.1).
pub(super) fn mark(steps: &mut Steps, options: &Options) {
    put_root(steps, IDENTITY_REMOVED, VR::CS, "YES");
    said(steps, &[METHOD, &codes_said(options)]);
    let codes = codes(options);
    let head = steps.head;
    let sequence = Path::tag(METHOD_CODES);
    let count = head.items(&sequence).unwrap_or(0);
    let value = |index: usize| {
        let path = inside(index, Tag(0x0008, 0x0100));
        head.text(&path)
            .and_then(|values| values.into_iter().next())
            .unwrap_or_default()
    };
    let standing: BTreeSet<String> = (0..count).map(value).collect();
    let new = codes.iter().filter(|(code, _)| !standing.contains(*code));
    for (index, (code, meaning)) in (count..).zip(new) {
        for (tag, vr, text) in [
            (Tag(0x0008, 0x0100), VR::SH, *code),
            (Tag(0x0008, 0x0102), VR::SH, "DCM"),
            (Tag(0x0008, 0x0104), VR::LO, *meaning),
        ] {
            steps.put(&inside(index, tag), vr, &[text.to_owned()]);
        }
    }
}

fn inside(index: usize, tag: Tag) -> Path {
    Path {
        items: vec![(Selector::Tag(METHOD_CODES), index)],
        leaf: Selector::Tag(tag),
    }
}

/// Adds to De-identification Method what it does not say yet.
fn said(steps: &mut Steps, words: &[&str]) {
    let path = Path::tag(METHOD_TEXT);
    let is_method = |step: &&Step| *step.edit.path() == path;
    let earlier = steps.made.iter().rfind(is_method).and_then(|step| step.values.clone());
    let mut values = earlier.or_else(|| steps.head.text(&path)).unwrap_or_default();
    let before = values.len();
    for word in words.iter().filter(|word| !word.is_empty()) {
        if !values.iter().any(|value| value == word) {
            values.push((*word).to_owned());
        }
    }
    // Words of others in letters that only their character set has are not ours to write anew.
    values.retain(|value| value.is_ascii());
    if values.len() != before || steps.head.text(&path).is_none() {
        steps.made.retain(|step| *step.edit.path() != path);
        steps.put(&path, VR::LO, &values);
    }
}

/// Says that this key has moved the dates, in a word that only the key can write: they are not moved again.
pub(super) fn seal(steps: &mut Steps, key: &Key) {
    said(steps, &[&sealed(key)]);
}

fn sealed(key: &Key) -> String {
    format!("dates shifted {}", key.seal("dates shifted"))
}

/// Whether this key has moved the dates.
pub(super) fn is_shifted(head: &Head, key: &Key) -> bool {
    let method = head.text(&Path::tag(METHOD_TEXT)).unwrap_or_default();
    method.contains(&sealed(key))
}

/// What became of the distances in time (PS3.3 C.12.1.1).
pub(super) fn temporal(steps: &mut Steps, dates: Dates) {
    let word = match dates {
        Dates::Removed => "REMOVED",
        Dates::Full => "UNMODIFIED",
        Dates::Earlier(_) => "MODIFIED",
    };
    put_root(steps, TEMPORAL, VR::CS, word);
}

fn put_root(steps: &mut Steps, tag: Tag, vr: VR, value: &str) {
    let (path, values) = (Path::tag(tag), &[value.to_owned()]);
    match steps.head.find(&path) {
        Some(node) => steps.set(&path, node, values),
        None => steps.put(&path, vr, values),
    }
}

/// The codes of CID 7050 for the profile and the options.
fn codes(options: &Options) -> Vec<(&'static str, &'static str)> {
    let chosen = [
        (true, "113100", "Basic Application Confidentiality Profile"),
        (options.clean_graphics, "113103", "Clean Graphics Option"),
        (options.clean_structured, "113104", "Clean Structured Content Option"),
        (options.words.is_some(), "113105", "Clean Descriptors Option"),
        (
            options.dates == Dates::Full,
            "113106",
            "Retain Longitudinal Temporal Information Full Dates Option",
        ),
        (
            matches!(options.dates, Dates::Earlier(_)),
            "113107",
            "Retain Longitudinal Temporal Information Modified Dates Option",
        ),
        (
            options.retain_patient,
            "113108",
            "Retain Patient Characteristics Option",
        ),
        (options.retain_device, "113109", "Retain Device Identity Option"),
        (options.retain_uids, "113110", "Retain UIDs Option"),
        (!options.safe_private.is_empty(), "113111", "Retain Safe Private Option"),
        (
            options.retain_institution,
            "113112",
            "Retain Institution Identity Option",
        ),
    ];
    let chosen = chosen.into_iter().filter(|(is_chosen, ..)| *is_chosen);
    chosen.map(|(_, code, meaning)| (code, meaning)).collect()
}

fn codes_said(options: &Options) -> String {
    let options: Vec<&str> = codes(options).iter().skip(1).map(|(code, _)| *code).collect();
    if options.is_empty() {
        return String::new();
    }
    format!("options {}", options.join(" ").chars().take(55).collect::<String>())
}

const METHOD: &str = "Waystation: PS3.15 2024b Basic Profile";
const IDENTITY_REMOVED: Tag = Tag(0x0012, 0x0062);
const METHOD_TEXT: Tag = Tag(0x0012, 0x0063);
const METHOD_CODES: Tag = Tag(0x0012, 0x0064);
const TEMPORAL: Tag = Tag(0x0028, 0x0303);
