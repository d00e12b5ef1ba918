//! One evaluation: the head, the facts, and what the rules have done so far. Private to the thread that decides; its
//! mutex is never contended and exists because Rhai wants `Sync` values.
//!
//! Reads see earlier writes. Writes are compacted: one edit for each path, the last one wins, and a write of the value that
//! already stands is none.
use super::aliases::Aliases;
use super::bench::probe::Steps;
use super::changes::Seen;
pub(super) use super::changes::{Change, Changes, weight};
use super::fault::Fault;
use super::local::Local;
use super::loops::Neighbour;
use super::tables::Tables;
use super::terms::Wanted;
use super::words::Shapes;
use super::{Facts, Hold, HoldKind};
use crate::base::names::{DestinationId, SourceId};
use crate::dicom::edit::{Edit, EditError};
use crate::dicom::head::{Head, HeadEnd, PIXEL_GROUP};
use crate::dicom::path::{Path, PathError, Selector};
use crate::dicom::profile::Table;
use dicom_core::Tag;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const EVENTS_MAX: usize = 10_000;

/// Elements that tell one patient, one study or one image from another and have one value (PS3.6): a second one would be another's.
const SINGLE: [Tag; 13] = [
    Tag(0x0008, 0x0016),
    Tag(0x0008, 0x0018),
    Tag(0x0008, 0x0020),
    Tag(0x0008, 0x0050),
    Tag(0x0008, 0x0060),
    Tag(0x0010, 0x0010),
    Tag(0x0010, 0x0020),
    Tag(0x0010, 0x0021),
    Tag(0x0010, 0x0030),
    Tag(0x0010, 0x0040),
    Tag(0x0020, 0x000D),
    Tag(0x0020, 0x000E),
    Tag(0x0020, 0x0010),
];

/// What is known from the load, shared by all evaluations of a rule set.
#[derive(Default)]
pub(super) struct Knowledge {
    pub(super) destinations: Vec<DestinationId>,
    /// Every text literal of the rules: only these may stand in a hold's reason.
    pub(super) literals: BTreeSet<String>,
    /// Regular expressions that stand as literals, compiled.
    pub(super) patterns: BTreeMap<String, Regex>,
    pub(super) text_max: usize,
    /// What calls of words are checked by at load.
    pub(super) shapes: Shapes,
    /// The CSV files beside the rules.
    pub(super) tables: Tables,
    /// The names of those that cannot be read: a set with one is not put in force.
    pub(super) faulty_tables: BTreeSet<String>,
    /// A rule has a word of `study`.
    pub(super) asks_for_study: bool,
    pub(super) local: Local,
    /// PS3.15 Table E.1-1.
    pub(super) profile: Table,
    /// The default character sets of sources, as the configuration has them.
    pub(super) charsets: BTreeMap<SourceId, String>,
}

impl Knowledge {
    /// The zone of the configuration.
    pub(super) fn site_zone(&self) -> Option<&jiff::tz::TimeZone> {
        self.local.zone.as_ref()
    }
}

pub(super) struct Evaluation {
    pub(super) head: Head,
    pub(super) facts: Facts,
    pub(super) known: Arc<Knowledge>,
    pub(super) neighbours: Arc<[Neighbour]>,
    pub(super) until: Instant,
    state: Mutex<State>,
}

/// Which function of the rules runs, because not every verb makes sense in each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    #[default]
    Load,
    Morph,
    Route,
    MorphFor,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) changes: Changes,
    pub(super) deliveries: Vec<Wanted>,
    /// A rule asked for the study's first values.
    pub(super) by_study: bool,
    pub(super) hold: Option<Hold>,
    pub(super) flags: Vec<&'static str>,
    pub(super) clock_skew: Option<i64>,
    pub(super) aliases: Aliases,
    /// Regular expressions that a rule computed.
    pub(super) patterns: Vec<(String, Regex)>,
    /// Filled for `rules trace` only.
    pub(super) events: Option<Vec<Event>>,
    /// Filled by the marks of a probed set.
    pub(super) steps: Option<Steps>,
}

impl State {
    /// Holds the instance. The first reason stands, but what is incomplete outranks what a person only has to look at.
    pub(super) fn hold(&mut self, kind: HoldKind, reason: impl Into<String>) {
        let stands = self.hold.as_ref().map(|hold| hold.kind);
        if stands.is_none() || (stands == Some(HoldKind::Rule) && kind == HoldKind::Incomplete) {
            let reason = reason.into();
            self.hold = Some(Hold { kind, reason });
        }
    }
}

/// What one line of a rule did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) text: String,
}

impl Evaluation {
    pub(super) fn new(
        (head, facts): (&Head, &Facts),
        known: Arc<Knowledge>,
        neighbours: Arc<[Neighbour]>,
        until: Instant,
        traced: bool,
    ) -> Arc<Self> {
        let state = State {
            events: traced.then(Vec::new),
            steps: traced.then(Steps::default),
            ..State::default()
        };
        Arc::new(Self {
            head: head.clone(),
            facts: facts.clone(),
            known,
            neighbours,
            until,
            state: Mutex::new(state),
        })
    }

    /// The state. Held for one verb only, never over a call into the rules.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path that a text names, with private elements found in the head named by their tag, so that two ways of naming
    /// one element meet.
    pub(super) fn path(&self, text: &str) -> Result<Path, Fault> {
        let mut path = Path::parse(text).map_err(|error| self.wrong_path(text, &error))?;
        for depth in 0..path.items.len() {
            let up_to = Path {
                items: path.items[..depth].to_vec(),
                leaf: path.items[depth].0.clone(),
            };
            path.items[depth].0 = self.settled(&up_to);
        }
        path.leaf = self.settled(&path);
        Ok(path)
    }

    fn settled(&self, path: &Path) -> Selector {
        match &path.leaf {
            Selector::Tag(_) => path.leaf.clone(),
            Selector::Private { .. } => match self.head.find(path) {
                Some(node) => Selector::Tag(self.head.nodes[node].tag),
                None => path.leaf.clone(),
            },
        }
    }

    /// Quotes the path only when it stands in the rules, for a computed one may hold a value.
    fn wrong_path(&self, text: &str, error: &PathError) -> Fault {
        if self.known.literals.contains(text) || text.bytes().all(|b| b.is_ascii_alphabetic()) && text.len() <= 64 {
            Fault::error(error.to_string())
        } else {
            Fault::error("a computed path names no element")
        }
    }

    /// The values at `path` as rules see them now; `None` when it is absent.
    pub(super) fn values(&self, path: &Path) -> Result<Option<Vec<String>>, Fault> {
        match self.state().changes.seen(path) {
            Seen::Set(values) => return Ok(Some(values.to_vec())),
            Seen::Removed => return Ok(None),
            Seen::Untouched => {}
        }
        self.in_sight(path)?;
        self.original(path)
    }

    /// Nobody knows what stands behind a head that was cut at its cap: neither the absence nor the value of an element there
    /// may decide where an image goes. The pixels are another matter: rules know that they cannot see them.
    fn in_sight(&self, path: &Path) -> Result<(), Fault> {
        if self.head.end == HeadEnd::Cap && self.head.is_behind(path) {
            return Err(Fault::error(
                "the element may lie beyond the part of the data set that rules can read",
            ));
        }
        Ok(())
    }

    fn in_reach(&self, path: &Path) -> Result<(), Fault> {
        let is_pixels = |tag: &Selector| matches!(tag, Selector::Tag(tag) if tag.0 >= PIXEL_GROUP);
        let first = path.items.first().map_or(&path.leaf, |(selector, _)| selector);
        if self.head.is_behind(path) || is_pixels(first) {
            return Err(refused(&EditError::BeyondHead));
        }
        Ok(())
    }

    /// The values at `path` as they came, by what words about character sets found.
    pub(super) fn original(&self, path: &Path) -> Result<Option<Vec<String>>, Fault> {
        let Some(node) = self.head.find(path) else {
            return Ok(None);
        };
        let reading = self.state().changes.reading.clone();
        let found = reading.as_ref().and_then(|reading| reading.survey.found(node));
        let text = match found {
            Some(charset) => self.head.decoded_in(node, charset).map(|decoded| decoded.values),
            None => self.head.text(path),
        };
        match text {
            _ if self.head.raw(node).len() > self.known.text_max => {
                Err(Fault::budget("the value is longer than rules may read"))
            }
            Some(values) => Ok(Some(values)),
            None if self.head.raw(node).is_empty() && self.head.items(path).is_none() => Ok(Some(Vec::new())),
            None => Err(Fault::error("the element holds no text (it is a sequence or binary)")),
        }
    }

    pub(super) fn has(&self, path: &Path) -> Result<bool, Fault> {
        if self.is_next(path) {
            return Ok(true);
        }
        self.in_sight(path)?;
        let state = self.state();
        Ok(match state.changes.seen(path) {
            Seen::Set(_) => true,
            Seen::Removed => state.changes.items_below(path) > 0,
            Seen::Untouched => self.head.find(path).is_some() || state.changes.items_below(path) > 0,
        })
    }

    /// Whether the element stands there more than once, and no rule has made one of the several.
    pub(super) fn is_repeated(&self, path: &Path) -> bool {
        self.head.is_repeated(path) && matches!(self.state().changes.seen(path), Seen::Untouched)
    }

    /// Whether it is the element that ended the head: all that is known of it is that it is there.
    fn is_next(&self, path: &Path) -> bool {
        path.items.is_empty() && matches!(path.leaf, Selector::Tag(tag) if self.head.follows == Some(tag))
    }

    pub(super) fn items(&self, path: &Path) -> Result<usize, Fault> {
        self.in_sight(path)?;
        let state = self.state();
        let made = state.changes.items_below(path);
        Ok(match state.changes.seen(path) {
            Seen::Untouched => self.head.items(path).unwrap_or(0).max(made),
            Seen::Set(_) | Seen::Removed => made,
        })
    }

    /// Sets the element's values.
    pub(super) fn set(&self, path: Path, values: Vec<String>) -> Result<(), Fault> {
        self.may_change()?;
        self.in_reach(&path)?;
        let untouched = matches!(self.state().changes.seen_above(&path), Seen::Untouched);
        if untouched && self.stands(&path, &values) {
            self.state().changes.forget(&path);
            return Ok(());
        }
        self.leads_there(&path)?;
        self.may_hold(&path, &values)?;
        // What stands there undecodable may stay; it is never written as the sign for what could not be read.
        if values.iter().any(|value| value.contains('\u{FFFD}')) {
            return Err(refused(&EditError::Unencodable));
        }
        let edit = self.state().changes.text_edit(&self.head, &path, &values);
        let edit = match edit {
            // A word has asked for a set that can, and put off declaring it as long as ASCII was enough.
            Err(EditError::Unencodable) if self.declare_wish()? => {
                self.state().changes.text_edit(&self.head, &path, &values)
            }
            edit => edit,
        };
        let edit = edit.map_err(|e| refused(&e))?;
        self.state().changes.push(Change {
            path,
            edit,
            values: Some(values),
        })
    }

    /// Writes the values without the blanks that stand around them, which `set` would leave as they came.
    pub(super) fn set_bare(&self, path: Path, values: Vec<String>) -> Result<(), Fault> {
        let came = matches!(self.state().changes.seen(&path), Seen::Untouched);
        let lossy = values.iter().any(|value| value.contains('\u{FFFD}'));
        let node = self
            .head
            .find(&path)
            .filter(|_| came && !lossy && !self.head.is_repeated(&path));
        let Some(node) = node else {
            if came && lossy && self.has_blanks_around(&path) {
                return Err(refused(&EditError::Unencodable));
            }
            return self.set(path, values);
        };
        self.may_change()?;
        self.in_reach(&path)?;
        self.may_hold(&path, &values)?;
        let edit = Edit::text_anew(&self.head, path.clone(), &values).map_err(|e| refused(&e))?;
        match &edit {
            Edit::Set { value, .. } if value[..] == *self.head.raw(node) => Ok(()),
            Edit::Set { .. } | Edit::Remove { .. } => self.state().changes.push(Change {
                path,
                edit,
                values: Some(values),
            }),
        }
    }

    /// Whether blanks stand around the bytes of a value, but for one at the very end, which may be padding.
    fn has_blanks_around(&self, path: &Path) -> bool {
        let raw = self.head.find(path).map_or(&[][..], |node| self.head.raw(node));
        let raw = raw.strip_suffix(b" ").or(raw.strip_suffix(b"\0")).unwrap_or(raw);
        let is_around = |value: &[u8]| value.starts_with(b" ") || value.ends_with(b" ");
        match self.head.is_long_text(path) {
            true => is_around(raw),
            false => raw.split(|byte| *byte == b'\\').any(is_around),
        }
    }

    /// Whether a plan can go along the path: through sequences, to items that are there or are the next. Said at the line that wrote it,
    /// for the plan that is made later knows no lines.
    fn leads_there(&self, path: &Path) -> Result<(), Fault> {
        let state = self.state();
        for (depth, (selector, item)) in path.items.iter().enumerate() {
            let sequence = Path {
                items: path.items[..depth].to_vec(),
                leaf: selector.clone(),
            };
            if state
                .changes
                .items_in(&self.head, &sequence)
                .is_none_or(|count| *item > count)
            {
                return Err(refused(&EditError::NoSuchItem));
            }
        }
        Ok(())
    }

    /// Whether the element may hold the values (PS3.5 6.2): a line end, a form feed, a tabulator and a backslash are letters of long texts
    /// only, other control characters of none, and an element of one value has one. What came wrong may stay as it came.
    fn may_hold(&self, path: &Path, values: &[String]) -> Result<(), Fault> {
        let is_long = self.head.is_long_text(path);
        let is_wrong = |letter: &char| match letter {
            '\\' | '\n' | '\r' | '\t' | '\u{C}' => !is_long,
            letter => letter.is_control(),
        };
        let is_single = matches!(path.leaf, Selector::Tag(tag) if SINGLE.contains(&tag));
        let mut wrong = values
            .iter()
            .flat_map(|value| value.chars())
            .filter(is_wrong)
            .peekable();
        if wrong.peek().is_none() && !(is_single && values.len() > 1) {
            return Ok(());
        }
        let came = self.original(path).ok().flatten().unwrap_or_default();
        if is_single && values.len() > 1 && came.len() < values.len() {
            return Err(Fault::edit(
                "an element that has one value only would get several: a backslash parts values",
            ));
        }
        match wrong.find(|letter| !came.iter().any(|value| value.contains(*letter))) {
            None => Ok(()),
            Some('\\') => Err(Fault::edit("a text with a backslash would become two values")),
            Some(_) => Err(Fault::edit(
                "the value has a line end or another control character, which this element may not hold: \
                 text::strip_controls or text::replace takes it away",
            )),
        }
    }

    fn stands(&self, path: &Path, values: &[String]) -> bool {
        match self.head.find(path) {
            None => false,
            // Setting it makes one of the several.
            Some(_) if self.head.is_repeated(path) => false,
            Some(_) => self
                .original(path)
                .is_ok_and(|old| same(&old.unwrap_or_default(), values)),
        }
    }

    /// Removes the element, and what earlier edits put below it.
    pub(super) fn remove(&self, path: Path) -> Result<(), Fault> {
        self.may_change()?;
        // An element that cannot be there may be removed; one that only cannot be seen may not.
        if self.head.is_behind(&path) {
            return Err(refused(&EditError::BeyondHead));
        }
        let mut state = self.state();
        state.changes.forget(&path);
        state.changes.forget_below(&path);
        if self.head.find(&path).is_none() || matches!(state.changes.seen_above(&path), Seen::Removed) {
            return Ok(());
        }
        let edit = Edit::Remove { path: path.clone() };
        state.changes.push(Change {
            path,
            edit,
            values: None,
        })
    }

    pub(super) fn may_change(&self) -> Result<(), Fault> {
        match self.state().phase {
            Phase::Morph | Phase::MorphFor => Ok(()),
            Phase::Route => Err(Fault::error(
                "route cannot change the image: do it in morph, or in morph_for_DEST for one destination",
            )),
            Phase::Load => Err(Fault::error(
                "the image can be changed only in morph and morph_for_DEST",
            )),
        }
    }
}

impl State {
    /// The more urgent priority wins when a destination is named twice, and the sooner time.
    pub(super) fn deliver(&mut self, wanted: Wanted) {
        let same = |known: &&mut Wanted| known.destination == wanted.destination && known.terms.group.is_none();
        match self.deliveries.iter_mut().find(same) {
            Some(before) => {
                before.priority = wanted.priority.min(before.priority);
                before.terms = before.terms.sooner(wanted.terms);
                before.back |= wanted.back;
            }
            None => self.deliveries.push(wanted),
        }
    }

    pub(super) fn note(&mut self, event: Event) {
        if let Some(events) = self.events.as_mut().filter(|events| events.len() < EVENTS_MAX) {
            events.push(event);
        }
    }
}

/// As they stand in the data set: no value and one empty value are the same bytes.
fn same(a: &[String], b: &[String]) -> bool {
    a.join("\\") == b.join("\\")
}

pub(super) fn refused(error: &EditError) -> Fault {
    Fault::edit(error.to_string())
}
