//! The edits of one evaluation, compacted: one for each path, the last one wins. `state` is the only one who adds to them;
//! words that treat the whole image add theirs in `rewrite`.
use super::fault::Fault;
use super::reading::Reading;
use super::state::refused;
use crate::dicom::edit::{Edit, EditError, Plan};
use crate::dicom::head::Head;
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::path::{Path, Selector};
use std::sync::Arc;

/// Edits of one evaluation, and their values' bytes in all.
const CHANGES_MAX: usize = 1_000;
const CHANGED_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Default)]
pub(super) struct Changes {
    pub(super) list: Vec<Change>,
    pub(super) bytes: usize,
    /// What words that treat the whole image have made: these edits and bytes do not count against the rules' own limits.
    pub(super) whole: (usize, usize),
    /// A word of `privacy` took part: nothing may tell what stood there before.
    pub(super) is_anonymous: bool,
    /// What a word about character sets found the text to be in.
    pub(super) reading: Option<Arc<Reading>>,
}

#[derive(Clone)]
pub(super) struct Change {
    pub(super) path: Path,
    pub(super) edit: Edit,
    /// `None` when the element is removed.
    pub(super) values: Option<Vec<String>>,
}

/// What earlier edits did to a path.
pub(super) enum Seen<'a> {
    Untouched,
    Set(&'a [String]),
    Removed,
}

impl Changes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Change> {
        self.list.iter()
    }

    pub(super) fn plan(&self) -> Plan {
        Plan {
            edits: self.list.iter().map(|change| change.edit.clone()).collect(),
            stamp: None,
        }
    }

    /// In the character set that the changes so far leave in force; they differ from the head's only when one changes the
    /// set itself or makes anew a sequence that was removed.
    pub(super) fn text_edit(&self, head: &Head, path: &Path, values: &[String]) -> Result<Edit, EditError> {
        let differs = matches!(self.seen_above(path), Seen::Removed)
            || self
                .list
                .iter()
                .any(|c| c.path.leaf == Selector::Tag(SPECIFIC_CHARACTER_SET));
        if differs {
            self.plan().text_edit(head, path.clone(), values)
        } else {
            Edit::text(head, path.clone(), values)
        }
    }

    /// The edits as they are sent. When they change a character set, text that was set before is written in the new one,
    /// and so is the text that no rule touched.
    pub(super) fn edits(&self, head: &Head) -> Result<Vec<Edit>, Fault> {
        let mut plan = self.plan();
        let reading = self.reading.as_deref();
        plan.edits.extend(self.inner_declarations());
        if reading.is_none() && !plan.changes_charset() {
            return Ok(plan.edits);
        }
        for at in 0..self.list.len() {
            let Change { path, values, .. } = &self.list[at];
            if let Some(values) = values {
                plan.edits[at] = plan.text_edit(head, path.clone(), values).map_err(|e| refused(&e))?;
            }
        }
        let carried = plan
            .recoded(head, reading.map(|reading| &*reading.survey))
            .map_err(|e| refused(&e))?;
        plan.edits.extend(carried);
        Ok(plan.edits)
    }

    /// The declarations of items that a word changed, where no rule changed them or took them away.
    fn inner_declarations(&self) -> Vec<Edit> {
        let edits = self.reading.iter().flat_map(|reading| &reading.inner);
        let untouched = |edit: &&Edit| matches!(self.seen(edit.path()), Seen::Untouched);
        edits.filter(untouched).cloned().collect()
    }

    pub(super) fn seen(&self, path: &Path) -> Seen<'_> {
        for change in self.list.iter().rev() {
            if change.path == *path {
                return change.values.as_deref().map_or(Seen::Removed, Seen::Set);
            }
            if change.values.is_none() && below(path, &change.path) {
                return Seen::Removed;
            }
        }
        Seen::Untouched
    }

    /// As `seen`, but of the enclosing sequences only.
    pub(super) fn seen_above(&self, path: &Path) -> Seen<'_> {
        let removed = |c: &&Change| c.values.is_none() && below(path, &c.path);
        match self.list.iter().rfind(removed) {
            Some(_) => Seen::Removed,
            None => Seen::Untouched,
        }
    }

    /// One more than the highest item of the sequence at `path` that an edit makes or touches.
    pub(super) fn items_below(&self, path: &Path) -> usize {
        let set = self.list.iter().filter(|c| c.values.is_some());
        let items = set
            .filter(|c| below(&c.path, path))
            .map(|c| c.path.items[path.items.len()].1 + 1);
        items.max().unwrap_or(0)
    }

    pub(super) fn push(&mut self, change: Change) -> Result<(), Fault> {
        self.forget(&change.path);
        let bytes = weight(&change);
        if self.list.len() >= CHANGES_MAX + self.whole.0 || self.bytes + bytes > CHANGED_BYTES_MAX + self.whole.1 {
            return Err(Fault::budget("the rules change more than allowed"));
        }
        self.bytes += bytes;
        self.list.push(change);
        Ok(())
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.keep(|change| change.path != *path);
    }

    pub(super) fn forget_below(&mut self, path: &Path) {
        self.keep(|change| !below(&change.path, path));
    }

    fn keep(&mut self, wanted: impl Fn(&Change) -> bool) {
        self.list.retain(wanted);
        self.bytes = self.list.iter().map(weight).sum();
    }
}

/// Whether `path` goes through an item of the sequence at `sequence`.
fn below(path: &Path, sequence: &Path) -> bool {
    let depth = sequence.items.len();
    path.items.len() > depth && path.items[..depth] == sequence.items[..] && path.items[depth].0 == sequence.leaf
}

pub(super) fn weight(change: &Change) -> usize {
    let texts = change.values.iter().flatten();
    64 + texts.map(String::len).sum::<usize>()
}
