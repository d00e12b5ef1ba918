//! Text that no edit names, when a plan changes Specific Character Set: written anew in the new set, or the plan is refused.
//!
//! Promises: every text element in scope reads the same before and after; bytes that mean the same in both sets stay.
//! Values of unknown VR are opaque and stay too. Where a survey found what bytes really are, that is how they read before.
use super::places::{Place, Places, Text};
use super::survey::Survey;
use super::tree::padded;
use super::{Edit, EditError, Plan};
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::head::{Head, HeadEnd, has_long_length};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::{Charset, Form};
use dicom_core::VR;
use std::collections::{BTreeMap, BTreeSet};

/// Elements that one plan rewrites, and their bytes: a plan stands in the record of a job.
const RECODED_MAX: usize = 10_000;
const RECODED_BYTES_MAX: usize = 1 << 20;
/// The longest even value whose length fits the 16 bits of a short header.
const SHORT_MAX: usize = 65_534;

impl Plan {
    /// Whether an edit changes a Specific Character Set, of the root or of an item.
    #[must_use]
    pub fn changes_charset(&self) -> bool {
        self.edits.iter().any(|edit| is_charset(edit.path()))
    }

    /// The edits that carry text which this plan does not name over into the character sets that it leaves in force.
    ///
    /// # Errors
    /// `Uncarried` when a text cannot be read in the old set or written in the new one; `TooMuch`; `TooLong`; `BeyondHead` when
    /// text that nobody saw may lie beyond the head's cap.
    pub fn recoded(&self, head: &Head, survey: Option<&Survey>) -> Result<Vec<Edit>, EditError> {
        let changes = self.changes_charset();
        if survey.is_none() && !changes {
            return Ok(Vec::new());
        }
        if changes && head.end == HeadEnd::Cap && !survey.is_some_and(Survey::is_word_of_a_person) {
            return Err(EditError::BeyondHead);
        }
        let named = Named::of(self, head);
        let places = Places::of(head);
        let scopes = self.scopes(head, &places.places);
        let (mut edits, mut bytes) = (Vec::new(), 0);
        for text in &places.texts {
            let scope = &scopes[text.place];
            let found = survey.and_then(|survey| survey.found(text.node));
            let old = found.unwrap_or(&scope.old);
            if found.is_none() && scope.old == scope.new {
                continue;
            }
            let Some(value) = moved(head.raw(text.node), text.form, old, &scope.new, survey.is_some()) else {
                continue;
            };
            let Some((path, vr, value)) = carried(head, text, &places.places[text.place], value, &named)? else {
                continue;
            };
            bytes += value.len();
            if edits.len() == RECODED_MAX || bytes > RECODED_BYTES_MAX {
                return Err(EditError::TooMuch);
            }
            edits.push(Edit::Set { path, vr, value });
        }
        Ok(edits)
    }

    /// The set of each place before and after.
    fn scopes(&self, head: &Head, places: &[Place]) -> Vec<Scope> {
        let mut declared: BTreeMap<Path, Option<Charset>> = BTreeMap::new();
        for edit in self.edits.iter().filter(|edit| is_charset(edit.path())) {
            let terms = match edit {
                Edit::Set { value, .. } => Some(Charset::of_bytes(value)),
                Edit::Remove { .. } => None,
            };
            declared.insert(head.settled(edit.path()), terms);
        }
        let mut scopes: Vec<Scope> = Vec::with_capacity(places.len());
        for place in places {
            let own = head.own_charset(place.item);
            let outer = scopes.get(place.outer);
            let inherited = |pick: fn(&Scope) -> &Charset| outer.map(pick).cloned().unwrap_or_default();
            let edited = declared.get(&place.charset_path());
            let new = edited.cloned().unwrap_or_else(|| own.clone());
            let scope = Scope {
                old: own.unwrap_or_else(|| inherited(|scope| &scope.old)),
                new: new.unwrap_or_else(|| inherited(|scope| &scope.new)),
            };
            scopes.push(scope);
        }
        scopes
    }
}

struct Scope {
    old: Charset,
    new: Charset,
}

/// A text's bytes in the new set, when they must change; an error when they cannot. `strictly`: bytes stay only where every
/// reader of the new set reads them so.
pub(super) fn moved(
    raw: &[u8],
    form: Form,
    old: &Charset,
    new: &Charset,
    strictly: bool,
) -> Option<Result<Vec<u8>, EditError>> {
    let (before, after) = (old.decode(raw, form), new.decode(raw, form));
    // A set without code extensions has no generous readers: what it does not hold is not declared in its name.
    let is_doubtful = before.lossy || after.lossy || ((strictly || new.is_whole()) && after.loose);
    if !is_doubtful && before.values == after.values {
        return None;
    }
    if before.lossy {
        return Some(Err(EditError::Uncarried));
    }
    let written = new.encode(&before.values.join("\\"), form);
    // What does not read back as it was (a yen sign where values are parted) is not carried over either.
    let reads_so = |value: &Vec<u8>| new.decode(value, form).values == before.values;
    Some(written.ok().filter(reads_so).ok_or(EditError::Uncarried))
}

/// The element with its new value, unless an edit names it.
fn carried(
    head: &Head,
    text: &Text,
    place: &Place,
    value: Result<Vec<u8>, EditError>,
    named: &Named,
) -> Result<Option<(Path, VR, Vec<u8>)>, EditError> {
    let node = &head.nodes[text.node];
    let path = place.path(node.tag);
    if named.has(&path) {
        return Ok(None);
    }
    // An edit makes one of several with the same tag.
    if head.is_repeated(&path) {
        return Err(EditError::Uncarried);
    }
    let mut value = value?;
    // The old padding need not be padded again.
    if value.len() % 2 == 1 && matches!(value.last(), Some(b' ' | 0)) {
        value.pop();
    }
    let vr = head.reading_vr(node);
    let value = padded(value, vr);
    if node.layout.is_explicit() && !has_long_length(vr) && value.len() > SHORT_MAX {
        return Err(EditError::TooLong);
    }
    Ok(Some((path, vr, value)))
}

/// What a plan's edits name, to be asked for many elements.
struct Named {
    whole: BTreeSet<Path>,
    removed: BTreeSet<Path>,
}

impl Named {
    fn of(plan: &Plan, head: &Head) -> Self {
        let (mut whole, mut removed) = (BTreeSet::new(), BTreeSet::new());
        for edit in &plan.edits {
            let path = head.settled(edit.path());
            if matches!(edit, Edit::Remove { .. }) {
                removed.insert(path.clone());
            }
            whole.insert(path);
        }
        Self { whole, removed }
    }

    /// Whether an edit names the element or removes a sequence around it.
    fn has(&self, path: &Path) -> bool {
        let is_around = |depth: usize| {
            let sequence = Path {
                items: path.items[..depth].to_vec(),
                leaf: path.items[depth].0.clone(),
            };
            self.removed.contains(&sequence)
        };
        self.whole.contains(path) || (0..path.items.len()).any(is_around)
    }
}

fn is_charset(path: &Path) -> bool {
    path.leaf == Selector::Tag(SPECIFIC_CHARACTER_SET)
}
