//! Text that no edit names, when a plan changes Specific Character Set: written anew in the new set, or the plan is refused.
//!
//! Promises: every text element in scope reads the same before and after; bytes that mean the same in both sets stay.
//! Values of unknown VR are opaque and stay too.
use super::tree::padded;
use super::{Edit, EditError, Plan};
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::head::{Head, Kind};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::Charset;
use crate::dicom::text::value::{form, is_affected};
use dicom_core::VR;
use std::collections::BTreeSet;

/// Elements that one plan rewrites, and their bytes: a plan stands in the record of a job.
const RECODED_MAX: usize = 10_000;
const RECODED_BYTES_MAX: usize = 1 << 20;

impl Plan {
    /// Whether an edit changes a Specific Character Set, of the root or of an item.
    #[must_use]
    pub fn changes_charset(&self) -> bool {
        self.edits.iter().any(|edit| is_charset(edit.path()))
    }

    /// The edits that carry text which this plan does not name over into the character sets that it leaves in force.
    ///
    /// # Errors
    /// `Uncarried` when a text cannot be read in the old set or written in the new one; `TooMuch`.
    pub fn recoded(&self, head: &Head) -> Result<Vec<Edit>, EditError> {
        if !self.changes_charset() {
            return Ok(Vec::new());
        }
        let named = Named::of(self, head);
        let (mut edits, mut bytes) = (Vec::new(), 0);
        let mut scopes = vec![self.scope(head, None, Vec::new(), head.nodes.len(), None)];
        // The sequences that are open, with the number of items seen.
        let mut sequences: Vec<(usize, usize)> = Vec::new();
        for (at, node) in head.nodes.iter().enumerate() {
            while scopes.len() > 1 && scopes.last().is_some_and(|scope| at >= scope.end) {
                scopes.pop();
            }
            while sequences
                .last()
                .is_some_and(|(sequence, _)| at >= head.nodes[*sequence].next as usize)
            {
                sequences.pop();
            }
            let Some(scope) = scopes.last() else { break };
            match (node.kind, sequences.last_mut()) {
                (Kind::Sequence, _) => sequences.push((at, 0)),
                (Kind::Item, Some((sequence, count))) if head.nodes[*sequence].depth + 1 == node.depth => {
                    let mut items = scope.items.clone();
                    items.push((Selector::Tag(head.nodes[*sequence].tag), *count));
                    *count += 1;
                    let inner = self.scope(head, Some(at), items, node.next as usize, Some(scope));
                    scopes.push(inner);
                }
                (Kind::Value, _) => {
                    let Some((path, vr, value)) = carried(head, at, scope, &named)? else {
                        continue;
                    };
                    bytes += value.len();
                    if edits.len() == RECODED_MAX || bytes > RECODED_BYTES_MAX {
                        return Err(EditError::TooMuch);
                    }
                    edits.push(Edit::Set { path, vr, value });
                }
                (Kind::Item | Kind::Fragments, _) => {}
            }
        }
        Ok(edits)
    }

    fn scope(
        &self,
        head: &Head,
        item: Option<usize>,
        items: Vec<(Selector, usize)>,
        end: usize,
        outer: Option<&Scope>,
    ) -> Scope {
        let own = Path {
            items,
            leaf: Selector::Tag(SPECIFIC_CHARACTER_SET),
        };
        let inherited = |pick: fn(&Scope) -> &Charset| outer.map(pick).cloned().unwrap_or_default();
        let old = head.own_charset(item);
        let is_own = |edit: &&Edit| is_charset(edit.path()) && head.settled(edit.path()) == own;
        let edited = self.edits.iter().rev().find(is_own);
        let new = match edited {
            Some(Edit::Set { value, .. }) => Some(Charset::of_bytes(value)),
            Some(Edit::Remove { .. }) => None,
            None => old.clone(),
        };
        Scope {
            items: own.items,
            end,
            old: old.unwrap_or_else(|| inherited(|scope| &scope.old)),
            new: new.unwrap_or_else(|| inherited(|scope| &scope.new)),
        }
    }
}

/// The root or an item while the head is walked.
struct Scope {
    items: Vec<(Selector, usize)>,
    /// The first node behind it.
    end: usize,
    old: Charset,
    new: Charset,
}

/// The element of a node in the new set, when its bytes must change.
fn carried(head: &Head, at: usize, scope: &Scope, named: &Named) -> Result<Option<(Path, VR, Vec<u8>)>, EditError> {
    let node = &head.nodes[at];
    let raw = head.raw(at);
    let vr = head.reading_vr(node);
    let Some(form) = form(vr).filter(|_| is_affected(vr) && scope.old != scope.new && !raw.is_empty()) else {
        return Ok(None);
    };
    let (before, after) = (scope.old.decode(raw, form), scope.new.decode(raw, form));
    if !before.lossy && before == after {
        return Ok(None);
    }
    let path = Path {
        items: scope.items.clone(),
        leaf: Selector::Tag(node.tag),
    };
    if named.has(&path) {
        return Ok(None);
    }
    let is_first = head.find(&path) == Some(at);
    if before.lossy || !is_first {
        return Err(EditError::Uncarried);
    }
    let written = scope.new.encode(&before.values.join("\\"), form);
    let mut value = written.map_err(|_| EditError::Uncarried)?;
    // What does not read back as it was (a yen sign where values are parted) is not carried over either.
    if scope.new.decode(&value, form) != before {
        return Err(EditError::Uncarried);
    }
    // The old padding need not be padded again.
    if value.len() % 2 == 1 && matches!(value.last(), Some(b' ' | 0)) {
        value.pop();
    }
    Ok(Some((path, vr, padded(value, vr))))
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
