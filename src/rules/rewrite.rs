//! Words that treat the whole image at once: the head as the edits so far leave it, and many edits taken over in one go.
//! What they make does not count against the limits of the rules' own changes, but has limits of its own: a plan stands in
//! the record of its job.
use super::fault::Fault;
use super::state::{Change, Changes, Evaluation, refused, weight};
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::Head;
use crate::dicom::path::{Path, Selector};
use crate::dicom::profile::Step;
use dicom_core::Tag;
use std::collections::{BTreeMap, BTreeSet};

/// An RT structure set names each slice for each contour: some ten thousand references.
const STEPS_MAX: usize = 20_000;
const STEP_BYTES_MAX: usize = 4 << 20;
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);

impl Evaluation {
    /// The head with the edits so far made.
    pub(super) fn seen(&self) -> Result<Head, Fault> {
        let changes = self.state().changes.clone();
        if changes.list.is_empty() {
            return Ok(self.head.clone());
        }
        let plan = Plan {
            edits: changes.edits(&self.head)?,
            stamp: None,
        };
        let bytes = plan.apply(&self.head).map_err(|error| refused(&error))?;
        let mut head = Head::scan(self.head.syntax.inflated(), &bytes)
            .map_err(|_| Fault::edit("the edits so far make no data set"))?;
        head.syntax = self.head.syntax.clone();
        (head.end, head.follows, head.behind) = (self.head.end, self.head.follows, self.head.behind);
        Ok(head)
    }

    /// Takes over steps that were made for the head as `seen` answered it.
    pub(super) fn absorb(&self, steps: Vec<Step>) -> Result<(), Fault> {
        self.may_change()?;
        for step in &steps {
            self.keep_former(step.edit.path());
        }
        self.state().changes.absorb(steps)
    }

    /// Remembers what stands at `path`, if it names a patient or a study: a word is about to put a pseudonym there or to take it out.
    pub(super) fn keep_former(&self, path: &Path) {
        let is_name = path.items.is_empty() && matches!(path.leaf, Selector::Tag(PATIENT_ID | STUDY_INSTANCE_UID));
        if let Some(values) = Some(path).filter(|_| is_name).and_then(|path| self.values(path).ok()) {
            self.state().changes.former.push((path.clone(), joined(values)));
        }
    }

    /// What the pseudonym at `path` is or would be made of: what stands there now; where that is a pseudonym, what it was made of; where
    /// nothing stands, what a word took out or what came. So it is the same before and after the words that make pseudonyms.
    /// `is_of`: whether the second text is the pseudonym of the first.
    pub(super) fn named_by(&self, path: &Path, is_of: impl Fn(&str, &str) -> bool) -> Result<String, Fault> {
        let mut known = vec![joined(self.original(path).unwrap_or_default())];
        let former = self.state().changes.former.clone();
        known.extend(former.into_iter().filter(|(at, _)| at == path).map(|(_, text)| text));
        known.retain(|text| !text.is_empty());
        known.reverse();
        let now = match joined(self.values(path)?) {
            gone if gone.is_empty() => known.first().cloned().unwrap_or_default(),
            now => now,
        };
        let made_of = known.into_iter().find(|text| *text != now && is_of(text, &now));
        Ok(made_of.unwrap_or(now))
    }

    /// From here on, no record of what stood in the image before its edits.
    pub(super) fn make_anonymous(&self) {
        self.state().changes.is_anonymous = true;
    }
}

impl Changes {
    fn absorb(&mut self, steps: Vec<Step>) -> Result<(), Fault> {
        let (count, bytes) = (steps.len(), steps.iter().map(weight_of).sum::<usize>());
        if self.whole.0 + count > STEPS_MAX || self.whole.1 + bytes > STEP_BYTES_MAX {
            return Err(Fault::budget("the image needs more changes than one plan may hold"));
        }
        let removed: BTreeSet<&Path> = steps
            .iter()
            .map(|step| &step.edit)
            .filter(|edit| takes_all(edit))
            .map(Edit::path)
            .collect();
        self.list.retain(|change| {
            let around = |depth: usize| Path {
                items: change.path.items[..depth].to_vec(),
                leaf: change.path.items[depth].0.clone(),
            };
            let is_inside = (0..change.path.items.len()).any(|depth| removed.contains(&around(depth)));
            !is_inside
        });
        // In the places of earlier changes, for what comes after may stand in later items; what is new comes last.
        let paths = self.list.iter().map(|change| change.path.clone());
        let places: BTreeMap<Path, usize> = paths.zip(0..).collect();
        for step in steps {
            let change = Change {
                path: step.edit.path().clone(),
                edit: step.edit,
                values: step.values,
            };
            match places.get(&change.path) {
                Some(at) => self.list[*at] = change,
                None => self.list.push(change),
            }
        }
        self.bytes = self.list.iter().map(weight).sum();
        self.whole = (self.whole.0 + count, self.whole.1 + bytes);
        Ok(())
    }

    /// Forgets elements that earlier edits put into private blocks that the image had not: none of them may leave, and an edit
    /// by tag does not name them.
    pub(super) fn forget_private(&mut self) {
        let is_private = |selector: &Selector| matches!(selector, Selector::Private { .. });
        self.list
            .retain(|change| !is_private(&change.path.leaf) && !change.path.items.iter().any(|(on, _)| is_private(on)));
        self.bytes = self.list.iter().map(weight).sum();
    }
}

/// An element's values as one text, without the blanks around it: pseudonyms are made without them.
fn joined(values: Option<Vec<String>>) -> String {
    values
        .unwrap_or_default()
        .join("\\")
        .trim_matches([' ', '\0'])
        .to_owned()
}

/// Whether nothing of what stood below the element is left.
fn takes_all(edit: &Edit) -> bool {
    matches!(
        edit,
        Edit::Remove { .. }
            | Edit::Set {
                vr: dicom_core::VR::SQ,
                ..
            }
    )
}

fn weight_of(step: &Step) -> usize {
    64 + step.values.iter().flatten().map(String::len).sum::<usize>()
}
