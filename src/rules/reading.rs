//! What the words about character sets leave in an evaluation: how the head's text reads, and what is declared instead.
//!
//! From then on rules read text by what was found, and `Changes::edits` writes all of it in the sets that are declared in the end.
use super::fault::Fault;
use super::state::{Changes, Evaluation};
use crate::dicom::edit::{Advice, Declaration, Edit, Survey};
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::path::Path;
use crate::dicom::text::Charset;
use crate::dicom::text::Form;
use std::sync::Arc;

/// What one word found and decided.
pub(super) struct Reading {
    pub(super) survey: Arc<Survey>,
    /// Edits of the declarations of items; the root's is an edit like any other.
    pub(super) inner: Vec<Edit>,
    /// What the root will declare when ASCII is no longer enough.
    pub(super) wish: Option<Vec<String>>,
}

impl Evaluation {
    /// What the text is in: as an earlier word found, or by `advice`.
    pub(super) fn survey(&self, advice: &Advice) -> Arc<Survey> {
        let before = self.state().changes.reading.clone();
        match before {
            Some(reading) => reading.survey.clone(),
            None => Arc::new(Survey::of(&self.head, advice)),
        }
    }

    /// Reads text by `survey` from now on, and declares what it says. `wish` is declared when it is needed.
    pub(super) fn read_by(
        &self,
        survey: Arc<Survey>,
        declarations: &[Declaration],
        inner: Vec<Edit>,
        wish: Option<Vec<String>>,
    ) -> Result<(), Fault> {
        self.state().changes.reading = Some(Arc::new(Reading { survey, inner, wish }));
        let root = declarations.iter().find(|(path, _)| path.items.is_empty());
        match root {
            Some((_, terms)) => self.declare(terms),
            None => Ok(()),
        }
    }

    /// Writes the root's Specific Character Set.
    pub(super) fn declare(&self, terms: &[String]) -> Result<(), Fault> {
        let path = Path::tag(SPECIFIC_CHARACTER_SET);
        if terms.is_empty() {
            self.remove(path)
        } else {
            self.set(path, terms.to_vec())
        }
    }

    /// Declares what a word put off; answers whether there was such a thing.
    pub(super) fn declare_wish(&self) -> Result<bool, Fault> {
        let reading = self.state().changes.reading.clone();
        let Some((reading, wish)) = reading.and_then(|reading| Some((reading.clone(), reading.wish.clone()?))) else {
            return Ok(false);
        };
        self.state().changes.reading = Some(Arc::new(Reading {
            survey: reading.survey.clone(),
            inner: reading.inner.clone(),
            wish: None,
        }));
        self.declare(&wish)?;
        Ok(true)
    }
}

impl Changes {
    /// Whether everything that rules have set so far can be written in `set`.
    pub(super) fn fit(&self, set: &Charset) -> bool {
        let texts = self.iter().filter_map(|change| change.values.as_deref());
        texts
            .map(|values| values.join("\\"))
            .all(|text| text.is_ascii() || set.encode(&text, Form::Values).is_ok())
    }
}
