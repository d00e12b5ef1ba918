//! What a word works with: the image under the rule, read and written by path. Every error gets the place of the call and
//! every read and write its line in the trace.
use crate::rules::HoldKind;
use crate::rules::api::{Image, note, note_name, place};
use crate::rules::fault::Fault;
use crate::rules::state::{Evaluation, Phase};
use rhai::{EvalAltResult, NativeCallContext};

/// One call of a word.
pub(in crate::rules) struct Hand<'a, 'c> {
    context: &'a NativeCallContext<'c>,
    evaluation: &'a Evaluation,
}

type Raised<T> = Result<T, Box<EvalAltResult>>;

impl<'a, 'c> Hand<'a, 'c> {
    pub(in crate::rules) fn new(context: &'a NativeCallContext<'c>, image: &'a Image) -> Self {
        Self {
            context,
            evaluation: &image.0,
        }
    }

    /// The evaluation, for what paths cannot say (the head's bytes, facts, tables).
    pub(in crate::rules) fn evaluation(&self) -> &'a Evaluation {
        self.evaluation
    }

    pub(in crate::rules) fn context(&self) -> &'a NativeCallContext<'c> {
        self.context
    }

    /// Ends the call with a fault at its place.
    pub(in crate::rules) fn raise<T>(&self, fault: Fault) -> Raised<T> {
        Err(fault.raise(self.context.call_position()))
    }

    /// As `placed`, with a fault that no rule can catch: what privacy could not do must not leave undone.
    pub(in crate::rules) fn must<T>(&self, result: Result<T, Fault>) -> Raised<T> {
        result.map_err(|mut fault| {
            fault.at = Some(place(self.context));
            EvalAltResult::ErrorTerminated(rhai::Dynamic::from(fault), self.context.call_position()).into()
        })
    }

    /// `result` with its fault placed.
    pub(in crate::rules) fn placed<T>(&self, result: Result<T, Fault>) -> Raised<T> {
        result.or_else(|fault| self.raise(fault))
    }

    /// As `placed`, of a write: who left the instance without a name is remembered.
    fn named(&self, result: Result<(), Fault>) -> Raised<()> {
        let done = self.placed(result);
        note_name(self.context, self.evaluation);
        done
    }

    /// A line for `rules trace`; not made when nobody traces.
    pub(in crate::rules) fn note(&self, text: impl FnOnce() -> String) {
        note(self.context, self.evaluation, text);
    }

    /// The values at `path` as rules see them now; `None` when it is absent.
    pub(in crate::rules) fn values(&self, path: &str) -> Raised<Option<Vec<String>>> {
        let values = self
            .evaluation
            .path(path)
            .and_then(|path| self.evaluation.values(&path));
        let values = self.placed(values)?;
        self.note(|| match &values {
            Some(values) => format!("read {path} = {:?}", values.join("\\")),
            None => format!("read {path}: absent"),
        });
        Ok(values)
    }

    /// The values at `path` as the instance came; `None` when it was absent.
    pub(in crate::rules) fn original(&self, path: &str) -> Raised<Option<Vec<String>>> {
        let path = self.placed(self.evaluation.path(path))?;
        Ok(self.evaluation.head.text(&path))
    }

    /// The first value at `path` without its padding; `""` when it is absent or empty.
    pub(in crate::rules) fn text(&self, path: &str) -> Raised<String> {
        let values = self.values(path)?.unwrap_or_default();
        let first = values.into_iter().next().unwrap_or_default();
        Ok(first.trim().to_owned())
    }

    /// The value at `path` where DICOM allows one only, without the blanks around it; `""` when there is none. Several hold
    /// the instance, for none of them may be lost or preferred, and read as none. So does an element that came twice.
    pub(in crate::rules) fn single(&self, path: &str) -> Raised<String> {
        let element = self.placed(self.evaluation.path(path))?;
        if self.evaluation.is_repeated(&element) {
            self.incomplete("an element that may stand once only came twice");
            return Ok(String::new());
        }
        let values = self.values(path)?.unwrap_or_default();
        if values.len() > 1 {
            self.incomplete("an element that has one value only came with several");
            return Ok(String::new());
        }
        Ok(values.into_iter().next().unwrap_or_default().trim().to_owned())
    }

    /// Whether the element at `path` is a text that may have lines (ST, LT, UT).
    pub(in crate::rules) fn is_long_text(&self, path: &str) -> Raised<bool> {
        let path = self.placed(self.evaluation.path(path))?;
        Ok(self.evaluation.head.is_long_text(&path))
    }

    /// Whether two texts name one element.
    pub(in crate::rules) fn is_same(&self, one: &str, other: &str) -> Raised<bool> {
        let both = self
            .evaluation
            .path(one)
            .and_then(|one| Ok(one == self.evaluation.path(other)?));
        self.placed(both)
    }

    /// Writes the values at `path`. Writing what stands there already is no edit.
    pub(in crate::rules) fn set(&self, path: &str, values: Vec<String>) -> Raised<()> {
        self.note(|| format!("set {path} = {:?}", values.join("\\")));
        let done = self
            .evaluation
            .path(path)
            .and_then(|path| self.evaluation.set(path, values));
        self.named(done)
    }

    /// Writes the values at `path` without the blanks around them, also where they stand already.
    pub(in crate::rules) fn set_bare(&self, path: &str, values: Vec<String>) -> Raised<()> {
        self.note(|| format!("set {path} = {:?}", values.join("\\")));
        let done = self
            .evaluation
            .path(path)
            .and_then(|path| self.evaluation.set_bare(path, values));
        self.named(done)
    }

    /// Writes one value at `path`.
    pub(in crate::rules) fn set_text(&self, path: &str, value: impl Into<String>) -> Raised<()> {
        self.set(path, vec![value.into()])
    }

    /// Removes the element at `path`, if it is there.
    pub(in crate::rules) fn remove(&self, path: &str) -> Raised<()> {
        self.note(|| format!("remove {path}"));
        let done = self.evaluation.path(path).and_then(|path| self.evaluation.remove(path));
        self.named(done)
    }

    pub(in crate::rules) fn has(&self, path: &str) -> Raised<bool> {
        let answer = self.evaluation.path(path).and_then(|path| self.evaluation.has(&path));
        self.placed(answer)
    }

    /// How many items the sequence at `path` has.
    pub(in crate::rules) fn items(&self, path: &str) -> Raised<usize> {
        let count = self.evaluation.path(path).and_then(|path| self.evaluation.items(&path));
        self.placed(count)
    }

    /// Holds the instance for a person to look at what the word found. `reason` is a constant of this crate, so it may be shown.
    pub(in crate::rules) fn hold(&self, reason: &'static str) {
        self.note(|| format!("hold {reason:?}"));
        self.evaluation.state().hold(HoldKind::Rule, reason);
    }

    /// Holds the instance because the word could not do its work: it must not leave with the edits as they are. `reason` is a
    /// constant of this crate.
    pub(in crate::rules) fn incomplete(&self, reason: &'static str) {
        self.note(|| format!("hold {reason:?}"));
        self.evaluation.state().hold(HoldKind::Incomplete, reason);
    }

    /// Marks the instance without holding it: counted, logged and kept with the instance. A constant of this crate.
    pub(in crate::rules) fn flag(&self, flag: &'static str) {
        self.note(|| format!("flag {flag:?}"));
        let mut state = self.evaluation.state();
        if !state.flags.contains(&flag) {
            state.flags.push(flag);
        }
    }

    /// Records that `written` stands where the modality had sent `old`, so that the box can answer for both.
    pub(in crate::rules) fn alias(&self, kind: &'static str, old: &str, written: &str) -> Raised<()> {
        let mut state = self.evaluation.state();
        let for_all = state.phase == Phase::Morph;
        let done = state.aliases.add(kind, old, written, for_all);
        drop(state);
        self.placed(done)
    }
}
