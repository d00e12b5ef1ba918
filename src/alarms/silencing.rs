//! What an operator does not want to hear of for a time: one incident, one kind, or one name of a kind. Pure.
use super::incident::{Incident, Stamp};
use super::kind::Kind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is meant by `7`, `destination_down` or `destination_down:vna`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Meant {
    Incident(u64),
    Kind(Kind),
    Subject(Kind, String),
}

/// A silence, with who wanted it and why.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Silence {
    pub meant: Meant,
    pub until: Stamp,
    pub who: String,
    pub reason: String,
}

impl Silence {
    /// Whether nothing is told of the incident. One that reaches beyond what was silenced is told.
    #[must_use]
    pub fn covers(&self, incident: &Incident) -> bool {
        match &self.meant {
            Meant::Incident(id) => incident.id == *id,
            Meant::Kind(kind) => incident.kind == *kind,
            Meant::Subject(kind, subject) => {
                incident.kind == *kind && incident.present().all(|(affected, _)| affected == subject)
            }
        }
    }
}

impl TryFrom<String> for Meant {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Meant> for String {
    fn from(meant: Meant) -> Self {
        meant.to_string()
    }
}

impl std::str::FromStr for Meant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let kind = |word: &str| {
            Kind::of(word).ok_or_else(|| {
                let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
                format!(
                    "say an incident's number, a kind, or kind:name, where a kind is one of {}",
                    kinds.join(", ")
                )
            })
        };
        if let Ok(id) = text.parse() {
            return Ok(Self::Incident(id));
        }
        match text.split_once(':') {
            None => kind(text).map(Self::Kind),
            Some((word, subject)) if !subject.is_empty() => Ok(Self::Subject(kind(word)?, subject.to_owned())),
            Some(_) => {
                Err("after the colon comes the name of a destination, a source or what else is affected".to_owned())
            }
        }
    }
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incident(id) => write!(f, "{id}"),
            Self::Kind(kind) => f.write_str(kind.word()),
            Self::Subject(kind, subject) => write!(f, "{}:{subject}", kind.word()),
        }
    }
}
