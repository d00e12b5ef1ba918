//! Options of words: `#{ missing: "hold" }`. Described once, so that the reference page, the check at load and the reading at
//! run time agree. The check at load names what is wrong in a literal; at run time nothing is quoted, for it may be a value.
use super::Hand;
use crate::rules::fault::Fault;
use rhai::{EvalAltResult, Map};

/// One option of a word.
#[derive(Clone, Copy, Debug)]
pub(in crate::rules) struct Choice {
    pub(in crate::rules) name: &'static str,
    pub(in crate::rules) takes: Takes,
    /// What it does, for the reference.
    pub(in crate::rules) does: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::rules) enum Takes {
    Text,
    Number,
    /// One of these; the first is the default.
    OneOf(&'static [&'static str]),
}

/// The options that a call gave, checked.
pub(in crate::rules) struct Options<'a> {
    given: &'a Map,
    known: &'static [Choice],
}

impl<'a> Options<'a> {
    /// Checks the names and kinds of `given`.
    pub(in crate::rules) fn read(
        hand: &Hand,
        given: &'a Map,
        known: &'static [Choice],
    ) -> Result<Self, Box<EvalAltResult>> {
        for (name, value) in given {
            let Some(choice) = known.iter().find(|choice| choice.name == name.as_str()) else {
                let names: Vec<&str> = known.iter().map(|choice| choice.name).collect();
                return hand.raise(Fault::error(format!("no such option; there are {}", names.join(", "))));
            };
            let is_good = match choice.takes {
                Takes::Number => value.is_int(),
                Takes::Text => value.is_string(),
                Takes::OneOf(all) => value
                    .as_immutable_string_ref()
                    .is_ok_and(|text| all.contains(&text.as_str())),
            };
            if !is_good {
                return hand.raise(Fault::error(format!(
                    "the option `{}` {}: {}",
                    choice.name, choice.takes, choice.does
                )));
            }
        }
        Ok(Self { given, known })
    }

    /// The text that was given; `""` when none was.
    pub(in crate::rules) fn text(&self, name: &str) -> String {
        let value = self
            .given
            .get(name)
            .and_then(|value| value.as_immutable_string_ref().ok());
        value.map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    pub(in crate::rules) fn number(&self, name: &str) -> Option<i64> {
        self.given.get(name).and_then(|value| value.as_int().ok())
    }

    /// The choice that was given, else the default.
    pub(in crate::rules) fn one(&self, name: &str) -> &'static str {
        let choice = self.known.iter().find(|choice| choice.name == name);
        let Some(Takes::OneOf(all)) = choice.map(|choice| choice.takes) else {
            return "";
        };
        let given = self.text(name);
        all.iter()
            .find(|one| **one == given)
            .or(all.first())
            .copied()
            .unwrap_or_default()
    }
}

/// Says what the option takes, as the end of a sentence.
impl std::fmt::Display for Takes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text => f.write_str("takes a text"),
            Self::Number => f.write_str("takes a whole number"),
            Self::OneOf(all) => write!(f, "is one of {}", all.join(", ")),
        }
    }
}
