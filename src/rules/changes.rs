//! The edits of one evaluation, compacted: one for each path, the last one wins. `state` is the only one who adds to them;
//! words that treat the whole image add theirs in `rewrite`.
use super::fault::Fault;
use super::reading::Reading;
use super::state::refused;
use crate::dicom::edit::{Edit, EditError, Plan, made};
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::{Path, Selector};
use rhai::Position;
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
    /// What stood at an element that names a patient or a study before a word put a pseudonym there or took it out, the latest last.
    pub(super) former: Vec<(Path, String)>,
    /// The line that left the instance without a name, or under another class.
    misnamed_at: Option<(String, Position)>,
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

    /// How many items a plan finds or has made in the sequence at `path`; `None` when what stands there is none.
    pub(super) fn items_in(&self, head: &Head, path: &Path) -> Option<usize> {
        let made = self.items_below(path);
        let found = match self.seen(path) {
            Seen::Removed => None,
            Seen::Set(_) => {
                let is_sequence = |change: &Change| change.path == *path && is_emptied_sequence(&change.edit);
                return self.list.iter().any(is_sequence).then_some(made);
            }
            Seen::Untouched => head.find(path),
        };
        match found {
            None => Some(made),
            Some(node) if head.nodes[node].kind == Kind::Sequence => Some(head.children(Some(node)).count().max(made)),
            // An element without a value becomes the sequence.
            Some(node) => head.raw(node).is_empty().then_some(made),
        }
    }

    /// Why the instance would leave under no name or as another class, and where in the rules that was written, as far as it is known.
    pub(super) fn misnamed(&self, head: &Head) -> Option<(Option<(String, Position)>, Fault)> {
        let now = |tag| match self.seen(&Path::tag(tag)) {
            Seen::Untouched => head.first(tag),
            Seen::Removed => String::new(),
            Seen::Set(values) => values.first().map(|value| value.trim().to_owned()).unwrap_or_default(),
        };
        let tags = [made::SOP_CLASS_UID, made::SOP_INSTANCE_UID];
        let names = |change: &Change| {
            change.path.items.is_empty() && tags.iter().any(|tag| change.path.leaf == Selector::Tag(*tag))
        };
        if !self.list.iter().any(names) {
            return None;
        }
        let unmade = made::renamed(head, &now(made::SOP_CLASS_UID), &now(made::SOP_INSTANCE_UID)).err()?;
        Some((self.misnamed_at.clone(), Fault::edit(unmade.to_string())))
    }

    /// Notes after a write whether the instance has a name still, and if not, that this line took it.
    pub(super) fn note_name(&mut self, head: &Head, place: impl FnOnce() -> (String, Position)) {
        match (self.misnamed(head), &self.misnamed_at) {
            (None, _) => self.misnamed_at = None,
            (Some(_), None) => self.misnamed_at = Some(place()),
            (Some(_), Some(_)) => {}
        }
    }

    /// Adds a change, or puts it in the place of an earlier one of its path: later ones may stand in items that come after its own.
    pub(super) fn push(&mut self, change: Change) -> Result<(), Fault> {
        let at = self.list.iter().position(|known| known.path == change.path);
        let before = at.map_or(0, |at| weight(&self.list[at]));
        let (count, bytes) = (
            self.list.len() + usize::from(at.is_none()),
            self.bytes - before + weight(&change),
        );
        if count > CHANGES_MAX + self.whole.0 || bytes > CHANGED_BYTES_MAX + self.whole.1 {
            return Err(Fault::budget("the rules change more than allowed"));
        }
        self.bytes = bytes;
        match at {
            Some(at) => self.list[at] = change,
            None => self.list.push(change),
        }
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

fn is_emptied_sequence(edit: &Edit) -> bool {
    matches!(
        edit,
        Edit::Set {
            vr: dicom_core::VR::SQ,
            ..
        }
    )
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
