//! Options of words, as `#{ name: value }`: one table for each word says what it takes. The load checks literals by it, a
//! decision everything else, so that both say the same.
use crate::rules::fault::Fault;
use crate::rules::lint;
use rhai::{Dynamic, Map};

/// What an option takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::rules) enum Takes {
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these, both included.
    Number(i64, i64),
    /// `true` or `false`.
    Switch,
    /// `1..365`, `1..=365`, or the greatest number of days.
    Days(u32),
    /// A text, which `check` judges.
    Text(fn(&str) -> Result<(), String>),
    /// A list of texts, each judged.
    Texts(fn(&str) -> Result<(), String>),
}

/// A word's options by name.
pub(in crate::rules) type Table = &'static [(&'static str, Takes)];

impl Takes {
    /// What is wrong with a text that a rule gives for the option `name`. The text is the rule's own, so it may be shown
    /// where it is a literal.
    pub(in crate::rules) fn wrong_text(self, name: &str, text: &str) -> Option<String> {
        match self {
            Self::Word(words) if words.contains(&text) => None,
            Self::Word(words) => Some(lint::unknown(
                &format!("value of `{name}`"),
                text,
                words.iter().copied(),
            )),
            Self::Text(check) | Self::Texts(check) => check(text).err(),
            Self::Number(..) | Self::Switch | Self::Days(_) => Some(format!("`{name}` takes {}", self.said())),
        }
    }

    fn said(self) -> String {
        match self {
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Switch => "true or false".to_owned(),
            Self::Days(most) => format!("a range of days such as 1..{most}"),
            Self::Text(_) => "a text".to_owned(),
            Self::Texts(_) => "a list of texts".to_owned(),
        }
    }
}

/// The options of one call, checked against their table.
pub(in crate::rules) struct Given<'a>(&'a Map);

impl<'a> Given<'a> {
    /// # Errors
    /// An unknown name, or a value that the option does not take. A computed text is not shown.
    pub(in crate::rules) fn read(map: &'a Map, table: Table) -> Result<Self, Fault> {
        for (name, value) in map {
            let Some((_, takes)) = table.iter().find(|(known, _)| *known == name.as_str()) else {
                let names = table.iter().map(|(known, _)| *known);
                return Err(Fault::error(lint::unknown("option", name, names)));
            };
            if !fits(*takes, value) {
                return Err(Fault::error(format!("`{name}` takes {}", takes.said())));
            }
        }
        Ok(Self(map))
    }

    pub(in crate::rules) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(in crate::rules) fn text(&self, name: &str) -> Option<String> {
        let value = self.0.get(name)?;
        value.as_immutable_string_ref().ok().map(|text| text.to_string())
    }

    pub(in crate::rules) fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_int().ok()
    }

    pub(in crate::rules) fn switch(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|value| value.as_bool().unwrap_or_default())
    }

    pub(in crate::rules) fn days(&self, name: &str) -> Option<(u32, u32)> {
        days(self.0.get(name)?)
    }

    pub(in crate::rules) fn texts(&self, name: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(|list| list.as_array_ref().ok());
        let texts = list.iter().flat_map(|list| list.iter());
        texts
            .filter_map(|text| text.as_immutable_string_ref().ok().map(|text| text.to_string()))
            .collect()
    }
}

fn fits(takes: Takes, value: &Dynamic) -> bool {
    let is_good = |takes: Takes, value: &Dynamic| {
        let text = value.as_immutable_string_ref();
        text.is_ok_and(|text| takes.wrong_text("", &text).is_none())
    };
    match takes {
        Takes::Word(_) | Takes::Text(_) => is_good(takes, value),
        Takes::Number(least, most) => value.as_int().is_ok_and(|number| (least..=most).contains(&number)),
        Takes::Switch => value.is_bool(),
        Takes::Days(most) => days(value).is_some_and(|(_, last)| last <= most),
        Takes::Texts(_) => value
            .as_array_ref()
            .is_ok_and(|list| list.iter().all(|text| is_good(takes, text))),
    }
}

/// First and last day. `1..365` names 365 as well: nobody who writes it means 364.
fn days(value: &Dynamic) -> Option<(u32, u32)> {
    let (least, most) = if let Ok(most) = value.as_int() {
        (1, most)
    } else if let Some(range) = value.clone().try_cast::<std::ops::Range<i64>>() {
        (range.start, range.end)
    } else {
        let range = value.clone().try_cast::<std::ops::RangeInclusive<i64>>()?;
        (*range.start(), *range.end())
    };
    let (least, most) = (u32::try_from(least).ok()?, u32::try_from(most).ok()?);
    (least >= 1 && least <= most).then_some((least, most))
}
