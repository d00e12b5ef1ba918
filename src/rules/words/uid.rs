//! Words for UIDs. Nothing else in the vocabulary changes one: a UID that changes by chance splits a study in two.
use super::given::{Given, Table, Takes};
use super::{Book, Gives, Hand, Sample, Word};
use crate::base::names::Uid;
use crate::dicom::head::dictionary_vr;
use crate::dicom::path::{Path, Selector};
use crate::dicom::profile::{self, Step};
use crate::dicom::pseudonym::{Key, ROOT_MAX, is_standard};
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use dicom_core::VR;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

pub(in crate::rules) const OPTIONS: Table = &[("root", Takes::Text(good_root))];

/// The UIDs by which people and archives ask for an image.
const ASKED: [&str; 3] = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"];

pub(super) fn register(book: &mut Book) {
    book.add(
        Word {
            namespace: "uid",
            name: "remap",
            parameters: "image, path, options",
            does: "Replaces the UID by one made of it and the site's key: 2.25 and a UUID, or with `root: \"1.2.3\"` below the \
                   site's own root. The same UID gives the same result in every image and on every box with the key. The box \
                   keeps which was sent. When it is SOP Instance UID, the image is sent under the new one.",
            limits: "Changes the element that is named, not the references to it in other elements or images: `uid::remap_all` \
                     changes them together. UIDs of the standard (1.2.840.10008) and those made by it before stay.",
            errors: "Needs `rules.key_file`; without it the rules are refused. Holds the instance when the element is no UID.",
            samples: &[
                Sample {
                    given: &[("StudyInstanceUID", "1.2.3"), ("SeriesInstanceUID", "1.2.3.4")],
                    rule: r#"uid::remap(image, "StudyInstanceUID");"#,
                    gives: Gives::Elements(&[("StudyInstanceUID", "2.25.337894979963845264765242468778886287587")]),
                },
                Sample {
                    given: &[("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2")],
                    rule: r#"uid::remap(image, "SOPClassUID");"#,
                    gives: Gives::Elements(&[("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2")]),
                },
            ],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, options: Map| remap(&c, image, path, &options),
    );
    book.also("uid", "remap", |c: NativeCallContext, image: &mut Image, path: &str| {
        remap(&c, image, path, &Map::new())
    });
    book.add(
        Word {
            namespace: "uid",
            name: "remap_all",
            parameters: "image, options",
            does: "As `uid::remap` for every UID that names an instance, series, study, frame of reference or anything else \
                   that is not a class, at every depth: those with action U in PS3.15 Table E.1-1. References stay right.",
            limits: "The images of a study stay together only when all of them go through it. An image whose data set does not say its \
                     SOP Instance UID gets it, made of the one that it was sent under.",
            errors: "Needs `rules.key_file`. Holds the instance when elements stand where they cannot be seen (behind the pixels).",
            samples: &[Sample {
                given: &[
                    ("SOPInstanceUID", "1.2.3"),
                    ("StudyInstanceUID", "1.2.3"),
                    ("ReferencedImageSequence[0].ReferencedSOPInstanceUID", "1.2.3"),
                    ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
                ],
                rule: "uid::remap_all(image);",
                gives: Gives::Elements(&[
                    ("SOPInstanceUID", "2.25.337894979963845264765242468778886287587"),
                    ("StudyInstanceUID", "2.25.337894979963845264765242468778886287587"),
                    ("ReferencedImageSequence[0].ReferencedSOPInstanceUID", "2.25.337894979963845264765242468778886287587"),
                ]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, options: Map| remap_all(&c, image, &options),
    );
    book.also("uid", "remap_all", |c: NativeCallContext, image: &mut Image| {
        remap_all(&c, image, &Map::new())
    });
}

/// Whether a path names a UID: for the lint of edits that change one without `uid::remap`.
#[must_use]
pub(in crate::rules) fn names_uid(path: &Path) -> bool {
    matches!(path.leaf, Selector::Tag(tag) if dictionary_vr(tag) == VR::UI)
}

fn remap(c: &NativeCallContext, image: &Image, path: &str, options: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let given = hand.placed(Given::read(options, OPTIONS))?;
    let key = hand.must(key(&hand))?;
    let Some(values) = hand.values(path)? else {
        return Ok(());
    };
    let is_uid = |value: &String| value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !values.iter().all(is_uid) {
        return hand.raise(Fault::edit("the element does not hold a UID"));
    }
    let root = given.text("root");
    let new: Vec<String> = values.iter().map(|uid| key.uid(uid, root.as_deref())).collect();
    for (old, new) in values.iter().zip(&new).filter(|(old, new)| old != new) {
        hand.alias("uid", old, new)?;
    }
    let element = hand.placed(hand.evaluation().path(path))?;
    hand.evaluation().keep_former(&element);
    hand.set(path, new)
}

fn remap_all(c: &NativeCallContext, image: &Image, options: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let given = hand.placed(Given::read(options, OPTIONS))?;
    let key = hand.must(key(&hand))?;
    let known = &hand.evaluation().known;
    let head = hand.placed(hand.evaluation().seen())?;
    let root = given.text("root");
    let steps = profile::replace_uids(&head, &known.profile, &key, root.as_deref());
    let mut steps = hand.placed(steps.map_err(|error| Fault::edit(error.to_string())))?;
    steps.extend(profile::named(&head, own(&hand), &key, root.as_deref()));
    aliases(&hand, &steps)?;
    hand.note(|| format!("replaced {} elements", steps.len()));
    hand.placed(hand.evaluation().absorb(steps))
}

/// Records under which UIDs the image is known from now on.
pub(super) fn aliases(hand: &Hand, steps: &[Step]) -> Raised<()> {
    for name in ASKED {
        let path = hand.placed(hand.evaluation().path(name))?;
        let new = steps.iter().find(|step| *step.edit.path() == path);
        let new = new.and_then(|step| step.values.as_ref()?.first());
        if let Some(new) = new {
            let old = match hand.text(name)? {
                // What had no name is known by that of its command.
                old if old.is_empty() => own(hand).to_owned(),
                old => old,
            };
            hand.alias("uid", &old, new)?;
        }
    }
    Ok(())
}

/// The SOP Instance UID under which the instance was sent.
pub(super) fn own<'a>(hand: &Hand<'a, '_>) -> &'a str {
    hand.evaluation().facts.sop_instance.as_str()
}

/// The site's key. The load has refused rules that need one where there is none, but for calls that it cannot see.
pub(super) fn key(hand: &Hand) -> Result<Key, Fault> {
    let key = hand.evaluation().known.local.key.clone();
    key.ok_or_else(|| Fault::error("the site has no key: set rules.key_file in the configuration"))
}

/// Whether a text is a root below which new UIDs fit.
pub(in crate::rules) fn good_root(text: &str) -> Result<(), String> {
    let is_part = |part: &str| !part.is_empty() && (part == "0" || !part.starts_with('0'));
    if Uid::parse(text).is_err() || !text.split('.').all(is_part) {
        return Err(format!("`{text}` is no root of UIDs: digits and single points"));
    }
    if text.len() > ROOT_MAX {
        return Err(format!(
            "a root of UIDs has at most {ROOT_MAX} characters, so that a UUID's number fits behind it"
        ));
    }
    if is_standard(text) || is_standard(&format!("{text}.")) {
        return Err("1.2.840.10008 is the standard's own root".to_owned());
    }
    Ok(())
}
