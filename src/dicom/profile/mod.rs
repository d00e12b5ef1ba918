//! De-identification: the Basic Application Level Confidentiality Profile of PS3.15 Annex E with its options, and what it is made
//! of: a date shift, UIDs replaced, elements taken out at every depth.
//!
//! Promises: every element of the head is judged, in items of items too; what the profile does not know (private elements,
//! elements of even groups that no dictionary names) goes; where the standard leaves a choice (X/Z, X/D, Z/D, X/Z/D) the
//! treatment is the one that is valid whatever the element's type in its IOD: a dummy where D is allowed, else empty. What
//! cannot be judged is refused: elements behind the head, repeated elements, encapsulated documents, an identifier that cannot
//! be read. Pixels are not looked at. The result, judged again, is changed no more. Answers steps for `edit`; called by the words of `privacy` and `uid`.
//! Pure; values stand in the steps only.
mod dummy;
mod mark;
mod steps;
mod table;
#[cfg(test)]
mod tests;

use super::edit::Edit;
use super::head::{Behind, Head, Kind, dictionary_vr};
use super::moment;
use super::path::{Path, Selector};
use super::pseudonym::Key;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use std::collections::BTreeSet;
use steps::{Here, Next, Steps, walk};

pub use steps::Step;
pub use table::{Code, Row, Table};

/// What is done with dates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dates {
    /// Treated as the basic profile says.
    #[default]
    Removed,
    /// Retain Longitudinal Temporal Information Full Dates.
    Full,
    /// Retain Longitudinal Temporal Information Modified Dates: so many days earlier.
    Earlier(u32),
}

/// The options of PS3.15 E.3 that are offered. Pixel Data and Recognizable Visual Features cannot be cleaned here.
#[derive(Clone, Default, Debug)]
pub struct Options {
    pub dates: Dates,
    pub retain_uids: bool,
    pub retain_device: bool,
    pub retain_institution: bool,
    pub retain_patient: bool,
    /// Private elements that are known to be safe: group, creator, element.
    pub safe_private: Vec<(u16, String, u8)>,
    /// Clean Descriptors: the words, in small letters, that may stay in descriptions; `None` without the option.
    pub words: Option<BTreeSet<String>>,
    pub clean_structured: bool,
    pub clean_graphics: bool,
    /// The root of new UIDs in place of 2.25.
    pub root: Option<String>,
}

/// Why an image is not de-identified. No values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("elements that cannot be seen stand behind the pixels or beyond the part of the data set that is read")]
    Behind,
    #[error("an element stands twice in its item")]
    Repeated,
    #[error("an encapsulated document cannot be cleaned")]
    Document,
    #[error("a text cannot be written in the data set's character set")]
    Unwritable,
    /// What cannot be read is the same sign whatever its bytes are: two people would get one pseudonym.
    #[error(
        "a value that a pseudonym or a date shift is made of cannot be read in its character set, so two people could get one: \
         charset::repair or charset::declare before makes it readable"
    )]
    Undecodable,
}

/// The profile with its options.
///
/// # Errors
/// See `Refused`; the image must not leave as it is.
pub fn deidentify(head: &Head, table: &Table, key: &Key, options: &Options) -> Result<Vec<Step>, Refused> {
    if !is_seen(head) {
        return Err(Refused::Behind);
    }
    let mut work = Work {
        table,
        key,
        options,
        is_shifted: mark::is_shifted(head, key),
        steps: Steps::new(head),
    };
    walk(head, &mut |here| work.treat(here))?;
    mark::mark(&mut work.steps, options);
    mark::temporal(&mut work.steps, options.dates);
    if matches!(options.dates, Dates::Earlier(_)) {
        mark::seal(&mut work.steps, key);
    }
    Ok(work.steps.made)
}

/// Every date of the head so many days earlier, at every depth; times stay. An age above 89 years becomes 90, and the birth
/// date that would tell it goes. An image that this key has shifted stays.
///
/// # Errors
/// See `Refused`.
pub fn shift(head: &Head, key: &Key, days: u32) -> Result<Vec<Step>, Refused> {
    if !is_seen(head) {
        return Err(Refused::Behind);
    }
    let mut steps = Steps::new(head);
    if mark::is_shifted(head, key) {
        return Ok(Vec::new());
    }
    let is_old = is_old(head);
    walk(head, &mut |here| {
        match head.reading_vr(&head.nodes[here.node]) {
            VR::DA if here.tag == BIRTH_DATE && is_old => steps.empty(here.path, here.node),
            VR::DA | VR::DT => earlier(&mut steps, here, days),
            VR::AS => age(&mut steps, here),
            _ => {}
        }
        Ok(Next::Into)
    })?;
    mark::temporal(&mut steps, Dates::Earlier(days));
    mark::seal(&mut steps, key);
    Ok(steps.made)
}

/// Every UID that names an instance, study, series, frame of reference and so on (action U of the table), replaced at every
/// depth; those of classes and of the standard stay.
///
/// # Errors
/// `Repeated`, and `Behind` when something may stand beyond what is read.
pub fn replace_uids(head: &Head, table: &Table, key: &Key, root: Option<&str>) -> Result<Vec<Step>, Refused> {
    if !is_seen(head) {
        return Err(Refused::Behind);
    }
    let mut steps = Steps::new(head);
    walk(head, &mut |here| {
        if here.tag == tags::ORIGINAL_ATTRIBUTES_SEQUENCE {
            // What stood there before stays as it was: that is what it is for, and doing it twice would change it again.
            return Ok(Next::Past);
        }
        let is_replaced = table.row(here.tag).is_some_and(|row| row.basic == "U");
        if is_replaced && head.nodes[here.node].kind == Kind::Value {
            replace(&mut steps, here, key, root);
        }
        Ok(Next::Into)
    })?;
    Ok(steps.made)
}

/// Names an instance whose data set does not say its SOP Instance UID: without a name of its own it would go on under `uid`,
/// the one that its sender's command gave it.
#[must_use]
pub fn named(head: &Head, uid: &str, key: &Key, root: Option<&str>) -> Option<Step> {
    let new = key.uid(uid, root);
    if !head.first(SOP_INSTANCE_UID).is_empty() || new == uid {
        return None;
    }
    let values = vec![new];
    let edit = Edit::plain(Path::tag(SOP_INSTANCE_UID), VR::UI, &values);
    let values = Some(values);
    Some(Step { edit, values })
}

/// What is done to one element, or to every one with its tag.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    Remove,
    Empty,
    Pseudonym(&'a Key),
}

/// Treats the element at `path`, and with `nested` every element of its tag at every depth. `None` when a pseudonym is asked
/// for and the element's VR holds no free text.
///
/// # Errors
/// See `Refused`.
pub fn treat(head: &Head, path: &Path, nested: bool, act: Act) -> Result<Option<Vec<Step>>, Refused> {
    if head.is_behind(path) || (nested && !is_seen(head)) {
        return Err(Refused::Behind);
    }
    let mut steps = Steps::new(head);
    let mut fits = true;
    let mut one = |path: &Path, node: usize| {
        match act {
            Act::Remove => steps.remove(path),
            Act::Empty => steps.empty(path, node),
            Act::Pseudonym(key) => fits &= pseudonym(&mut steps, path, node, key)?,
        }
        Ok(())
    };
    if nested {
        walk(head, &mut |here| {
            if path.leaf == Selector::Tag(here.tag) {
                one(here.path, here.node)?;
                return Ok(Next::Past);
            }
            Ok(Next::Into)
        })?;
    } else if let Some(node) = head.find(path) {
        one(path, node)?;
    }
    Ok(fits.then_some(steps.made))
}

/// Whether everything that the data set holds, but for its pixels, stands in the head.
fn is_seen(head: &Head) -> bool {
    matches!(head.behind, Behind::Nothing | Behind::Pixels)
}

struct Work<'a> {
    table: &'a Table,
    key: &'a Key,
    options: &'a Options,
    /// This key has moved the dates already.
    is_shifted: bool,
    steps: Steps<'a>,
}

impl Work<'_> {
    fn treat(&mut self, here: &Here) -> Result<Next, Refused> {
        let head = self.steps.head;
        let found = &head.nodes[here.node];
        let vr = head.reading_vr(found);
        // Group lengths are retired and may hold anything; groups below 8 are of commands, files and their directories.
        if here.tag.1 == 0 || here.tag.0 < 8 {
            self.steps.remove(here.path);
            return Ok(Next::Past);
        }
        if here.tag.0 & 1 == 1 {
            return Ok(self.private(here));
        }
        if found.kind == Kind::Value && dictionary_vr(here.tag) == VR::SQ && !self.steps.head.raw(here.node).is_empty()
        {
            // No items can be seen where the standard has items, so nothing in it can be judged.
            match self.table.row(here.tag) {
                Some(row) if row.basic.contains(['Z', 'D']) => self.steps.empty(here.path, here.node),
                Some(_) | None => self.steps.remove(here.path),
            }
            return Ok(Next::Past);
        }
        if matches!(here.tag.0 & 0xFF00, 0x5000 | 0x6000) {
            // Curves and overlays: bits that nobody can judge. A plane without its data is none, so all of it goes.
            self.steps.remove(here.path);
            return Ok(Next::Past);
        }
        if matches!(here.tag, TEXT_VALUE | UNFORMATTED_TEXT) {
            self.words(here)?;
            return Ok(Next::Past);
        }
        match self.table.row(here.tag) {
            Some(row) => self.row(here, row, vr),
            // No dictionary knows it: what it holds cannot be judged.
            None if dictionary_vr(here.tag) == VR::UN => {
                self.steps.remove(here.path);
                Ok(Next::Past)
            }
            None => Ok(Next::Into),
        }
    }

    fn row(&mut self, here: &Here, row: &Row, vr: VR) -> Result<Next, Refused> {
        let options = self.options;
        let is = |letter, code| row.option(letter) == Some(code);
        if let (Dates::Earlier(days), true) = (options.dates, is('M', Code::Clean)) {
            match vr {
                VR::DA | VR::DT if self.is_shifted => return Ok(Next::Past),
                VR::DA | VR::DT => {
                    earlier(&mut self.steps, here, days);
                    return Ok(Next::Past);
                }
                VR::TM => return Ok(Next::Past),
                _ => {}
            }
        }
        let keeps = (options.retain_uids && is('U', Code::Keep))
            || (options.retain_device && is('D', Code::Keep))
            || (options.retain_institution && is('I', Code::Keep))
            || (options.retain_patient && is('C', Code::Keep))
            || (options.dates == Dates::Full && is('F', Code::Keep));
        if keeps {
            if vr == VR::AS {
                age(&mut self.steps, here);
            }
            return Ok(Next::Into);
        }
        let is_sequence = self.steps.head.nodes[here.node].kind == Kind::Sequence;
        let opens =
            (options.clean_structured && is('S', Code::Clean)) || (options.clean_graphics && is('G', Code::Clean));
        if is_sequence && opens {
            return Ok(Next::Into);
        }
        let describes = is('T', Code::Clean) || (options.retain_patient && is('C', Code::Clean));
        if options.words.is_some() && describes && is_free_text(vr) && self.cleaned(here)? {
            return Ok(Next::Past);
        }
        self.basic(here, &row.basic, vr)
    }

    fn basic(&mut self, here: &Here, code: &str, vr: VR) -> Result<Next, Refused> {
        let is_sequence = self.steps.head.nodes[here.node].kind == Kind::Sequence;
        let is_empty = self.steps.head.raw(here.node).is_empty();
        if here.tag == DOCUMENT && !is_empty {
            return Err(Refused::Document);
        }
        match code {
            // The references inside get new UIDs.
            "X/Z/U*" => return Ok(Next::Into),
            // A dummy that were the same for all would make one patient of all.
            _ if here.tag == PATIENT_ID => {
                if !pseudonym(&mut self.steps, here.path, here.node, self.key)? {
                    self.steps.empty(here.path, here.node);
                }
            }
            "U" => replace(&mut self.steps, here, self.key, self.options.root.as_deref()),
            _ if code.contains('D') => match dummy::value(vr) {
                _ if is_empty => {}
                _ if is_sequence => dummy::sequence(&mut self.steps, here.path),
                None => replace(&mut self.steps, here, self.key, self.options.root.as_deref()),
                Some(value) => self.steps.set(here.path, here.node, &value),
            },
            _ if code.contains('Z') => self.steps.empty(here.path, here.node),
            _ => self.steps.remove(here.path),
        }
        Ok(Next::Past)
    }

    fn private(&mut self, here: &Here) -> Next {
        let head = self.steps.head;
        let block = if here.tag.1 < 0x100 {
            here.tag.1
        } else {
            here.tag.1 >> 8
        };
        let creator = head
            .children(here.item)
            .find(|node| head.nodes[*node].tag == Tag(here.tag.0, block));
        let creator = creator.map(|node| String::from_utf8_lossy(super::head::read::trimmed(head.raw(node))));
        let is_safe = self.options.safe_private.iter().any(|(group, owner, element)| {
            let is_block = *group == here.tag.0 && creator.as_deref() == Some(owner.as_str());
            is_block && (here.tag.1 < 0x100 || u16::from(*element) == here.tag.1 & 0xFF)
        });
        if is_safe {
            return Next::Into;
        }
        self.steps.remove(here.path);
        Next::Past
    }

    /// A text of structured content or of a graphic: only the words that may stay.
    fn words(&mut self, here: &Here) -> Result<(), Refused> {
        let is_empty = self.steps.head.raw(here.node).is_empty();
        if !(is_empty || self.cleaned(here)?) {
            self.steps.set(here.path, here.node, &[dummy::REMOVED.to_owned()]);
        }
        Ok(())
    }

    /// Leaves the words that may stay; false when none is left.
    fn cleaned(&mut self, here: &Here) -> Result<bool, Refused> {
        let (head, options) = (self.steps.head, self.options);
        let Some(allowed) = &options.words else {
            return Ok(false);
        };
        let text = head.decoded_in(here.node, &head.charset(here.path));
        let Some(text) = text.filter(|text| !text.lossy) else {
            return Ok(false);
        };
        let clean = |value: &String| {
            let words = value.split(|letter: char| !letter.is_alphanumeric());
            let kept = words.filter(|word| allowed.contains(&word.to_lowercase()));
            kept.collect::<Vec<&str>>().join(" ")
        };
        let values: Vec<String> = text
            .values
            .iter()
            .map(clean)
            .filter(|value| !value.is_empty())
            .collect();
        if values.is_empty() {
            return Ok(false);
        }
        if values != text.values {
            let edit = Edit::text(head, here.path.clone(), &values).map_err(|_| Refused::Unwritable)?;
            let values = Some(values);
            self.steps.made.push(Step { edit, values });
        }
        Ok(true)
    }
}

fn is_free_text(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT)
}

fn replace(steps: &mut Steps, here: &Here, key: &Key, root: Option<&str>) {
    let values = steps.head.decoded_in(here.node, &super::text::Charset::default());
    let Some(values) = values.map(|decoded| decoded.values) else {
        // No text stands in a UID's place: nothing of it may stay.
        steps.empty(here.path, here.node);
        return;
    };
    let new: Vec<String> = values.iter().map(|uid| key.uid(uid, root)).collect();
    if new != values {
        steps.put(here.path, VR::UI, &new);
    }
}

/// Answers whether the element holds a text, which a pseudonym can replace.
fn pseudonym(steps: &mut Steps, path: &Path, node: usize, key: &Key) -> Result<bool, Refused> {
    let head = steps.head;
    let vr = head.reading_vr(&head.nodes[node]);
    if !is_free_text(vr) && !matches!(vr, VR::AE | VR::CS | VR::PN | VR::UN) {
        return Ok(false);
    }
    let Some(decoded) = head.decoded_in(node, &head.charset(path)) else {
        return Ok(false);
    };
    if decoded.lossy {
        return Err(Refused::Undecodable);
    }
    let values: Vec<String> = decoded.values.iter().map(|value| key.text(value)).collect();
    if values != decoded.values {
        let vr = if vr == VR::UN { VR::LO } else { vr };
        steps.put(path, vr, &values);
    }
    Ok(true)
}

/// Dates so many days earlier. One that cannot be read cannot be moved, so it goes.
fn earlier(steps: &mut Steps, here: &Here, days: u32) {
    let decoded = steps.head.decoded_in(here.node, &super::text::Charset::default());
    let values = decoded.map(|decoded| decoded.values).unwrap_or_default();
    let moved: Option<Vec<String>> = values.iter().map(|value| moment::earlier(value, days)).collect();
    match moved {
        Some(moved) if !moved.is_empty() => steps.set(here.path, here.node, &moved),
        Some(_) | None => steps.empty(here.path, here.node),
    }
}

/// An age above 89 years is said as 90 (45 CFR 164.514(b)(2)(i)(C) lets no higher one stand).
fn age(steps: &mut Steps, here: &Here) {
    let text = steps.head.decoded_in(here.node, &super::text::Charset::default());
    let is_old = |value: &String| years(value).is_some_and(|years| years > 89);
    if text.is_some_and(|text| text.values.iter().any(is_old)) {
        steps.set(here.path, here.node, &["090Y".to_owned()]);
    }
}

fn years(age: &str) -> Option<u32> {
    age.trim().strip_suffix('Y')?.parse().ok()
}

/// Whether the patient is above 89 by the age or by the dates of birth and study.
fn is_old(head: &Head) -> bool {
    let said = years(&head.first(AGE)).is_some_and(|years| years > 89);
    let dates = (
        moment::date(&head.first(BIRTH_DATE)),
        moment::date(&head.first(STUDY_DATE)),
    );
    let counted = matches!(dates, (Some(birth), Some(study))
        if (study.year() - birth.year(), (study.month(), study.day())) >= (90, (birth.month(), birth.day()))
            || study.year() - birth.year() > 90);
    said || counted
}

const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const AGE: Tag = Tag(0x0010, 0x1010);
const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
const DOCUMENT: Tag = Tag(0x0042, 0x0011);
const TEXT_VALUE: Tag = Tag(0x0040, 0xA160);
const UNFORMATTED_TEXT: Tag = Tag(0x0070, 0x0006);
