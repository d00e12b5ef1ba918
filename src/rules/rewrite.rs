//! Words that treat the whole image at once: the head as the edits so far leave it, and many edits taken over in one go.
//! What they make does not count against the limits of the rules' own changes, but has limits of its own: a plan stands in
//! the record of its job.
use super::fault::Fault;
use super::state::{Change, Changes, Evaluation, refused, weight};
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::Head;
use crate::dicom::path::{Path, Selector};
use crate::dicom::profile::Step;
use std::collections::BTreeSet;

/// An RT structure set names each slice for each contour: some ten thousand references.
const STEPS_MAX: usize = 20_000;
const STEP_BYTES_MAX: usize = 4 << 20;

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
        self.state().changes.absorb(steps)
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
        let named: BTreeSet<&Path> = steps.iter().map(|step| step.edit.path()).collect();
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
            !named.contains(&change.path) && !is_inside
        });
        self.list.extend(steps.into_iter().map(|step| Change {
            path: step.edit.path().clone(),
            edit: step.edit,
            values: step.values,
        }));
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
