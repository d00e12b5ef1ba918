//! Rules: what imaging IT wrote decides edits, deliveries and holds. Layer 2; the only room that knows Rhai.
//!
//! Promises: a decision on every head, bounded in operations, memory and time; the same head and facts give the same
//! decision; a failing rule is a hold, never a panic and never a lost instance; no data-set value in any error text.
//! `ingest` asks `RuleStore::decide`; `main` calls `cli`; nobody else comes here. It never opens a file after the load,
//! reads no clock but for the deadline, and has no shared lock on the path of a decision.
//!
//! `set` loads a folder · `engine` is the sandbox · `state` one evaluation · `reading` what text is in · `api`, `verbs` and `words`
//! what scripts see · `terms`, `deliver` and `loops` where and when it goes · `context` what is known of the study ·
//! `fault` errors without values · `lex` and `lint` find typos at load · `store` holds the set in force and reloads ·
//! `bench` is what people who write rules work with.
use crate::base::clock::Wall;
use crate::base::names::{AeTitle, DestinationId, SourceId, Uid};
use crate::base::phi::Phi;
use crate::base::units::{Size, Span};
use crate::dicom::edit::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

mod aliases;
mod api;
mod bench;
mod changes;
mod context;
mod deliver;
mod engine;
mod fault;
mod kept;
mod lex;
mod lint;
mod load;
mod local;
mod loops;
mod reading;
mod rewrite;
mod set;
mod state;
mod store;
mod tables;
mod terms;
mod verbs;
mod words;

#[cfg(test)]
mod cap_tests;
#[cfg(test)]
mod charset_tests;
#[cfg(test)]
mod charset_words_tests;
#[cfg(test)]
mod guide_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod passes_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod privacy_tests;
#[cfg(test)]
mod tables_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unread_tests;
#[cfg(test)]
mod witness_tests;
#[cfg(test)]
mod words_corpus_tests;
#[cfg(test)]
mod words_random_tests;
#[cfg(test)]
mod words_tests;
#[cfg(test)]
mod words_whole_tests;

pub use bench::{cli, promotion};
pub use context::{REMEMBERED, StudySeen, remembered};
pub use kept::{may_stand_in, promoted_problems, stands_in};
pub use loops::Neighbour;
pub use set::RuleSet;
pub use store::{RuleStore, Site};
pub use terms::{GroupKind, Membership, Quiet, Terms};

/// What the rules may know of an instance besides its head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub source: SourceId,
    pub calling_ae: AeTitle,
    pub called_ae: AeTitle,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    pub arrival: Wall,
    /// What had been seen of its study before; `None` when nothing had, or no rule asks.
    pub study: Option<StudySeen>,
}

/// What the rules decided. Never empty: no delivery means a hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    pub deliveries: Vec<Delivery>,
    /// When set, every delivery is held with this reason, and the instance is kept even without any.
    pub hold: Option<Hold>,
    /// What words of the vocabulary found worth knowing without holding the instance: constants of this crate, each once.
    pub flags: Vec<&'static str>,
    /// Values that words replaced and by which others will ask. Empty when a rule failed.
    pub aliases: Vec<Alias>,
    /// A rule asked for the study's first values: when they have changed since the facts were made, decide again.
    pub by_study: bool,
    /// How many seconds after its arrival the instance says it was made (negative: before), when a word judged that.
    pub clock_skew: Option<i64>,
    pub epoch: u64,
}

/// A value that a word of the vocabulary wrote, and what the modality had sent in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    /// What kind of value: `accession`, `uid`. A constant of this crate.
    pub kind: &'static str,
    pub sent: Phi<String>,
    pub written: Phi<String>,
}

/// One destination with the plan of edits for it (`morph` and `morph_for_DEST` together).
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    pub destination: DestinationId,
    pub priority: Urgency,
    pub plan: Plan,
    /// When it may go, and in whose place.
    pub terms: Terms,
}

impl Delivery {
    /// In words how it goes there, but for the time: its urgency, and what of it waits for what. `all`: the deliveries beside it.
    #[must_use]
    pub fn manner(&self, all: &[Self]) -> String {
        let mut words = self.priority.as_str().to_owned();
        if self.terms.not_before.is_some() {
            words += ", put off";
        }
        if let Some(quiet) = self.terms.quiet {
            words += &format!(", when its study has been quiet for {}", Span(quiet.span));
        }
        if let Some(own) = self.terms.group {
            let same = |other: &&Self| other.terms.group.is_some_and(|group| group.number == own.number);
            let members: Vec<&str> = all
                .iter()
                .filter(same)
                .map(|other| other.destination.as_str())
                .collect();
            let place = members.iter().position(|name| *name == self.destination.as_str());
            let (verb, after) = match own.kind {
                terms::GroupKind::First { after } => ("to_first", format!(" after {}", Span(after))),
                terms::GroupKind::OneOf => ("to_one_of", String::new()),
            };
            let choice = place.map_or(0, |place| place + 1);
            words += &format!(", choice {choice} of {verb}({}){after}", members.join(", "));
        }
        words
    }
}

/// The urgency that a rule asked for: `stat`, `high`, `routine` (the default), `low`. The most urgent sorts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Urgency {
    Stat,
    High,
    #[default]
    Routine,
    Low,
}

/// Why an instance is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    pub kind: HoldKind,
    /// For people. From the rule's own text (`hold("burned-in annotation")`), or file, line and constant message. Never a data-set value:
    /// texts of rule errors are replaced by their kind and position, and a reason that a rule computes is withheld.
    pub reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum HoldKind {
    /// A rule said `hold(...)`, or a word that checks found something wrong: the edits are as they shall be, and a person looks.
    Rule,
    /// A word could not do its work (no row, two answers, a result that is too long): the edits lack it.
    Incomplete,
    /// A rule failed.
    Error,
    /// A rule went over its budget.
    Budget,
    /// No rule named a destination.
    NoDestination,
    /// The edit cannot be made (character set, value too long, beyond the head).
    Edit,
}

/// A problem in a rule folder, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: PathBuf,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub message: String,
}

/// `[rules]` of the configuration.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of `*.rhai` files and `*.csv` tables.
    pub path: Option<PathBuf>,
    /// Wall-clock time for one instance, over all its rule functions.
    pub deadline: Span,
    /// Rhai operations for one rule function.
    pub operations: u64,
    /// The longest text that a rule can read or make.
    pub text: Size,
    /// Whether to reload when a file of the folder changes. SIGHUP reloads in any case.
    pub watch: bool,
    /// An instance that says that it has passed through this box so often is held as a routing loop.
    pub passes: usize,
    /// The site's IANA time zone, for the words of `timezone`.
    pub zone: Option<String>,
    /// The file with the site's secret key, for the words of `privacy` and `uid`. There is no default key.
    pub key_file: Option<PathBuf>,
    /// The character sets that `[[sources]]` name, by source.
    #[serde(skip)]
    pub charsets: BTreeMap<SourceId, String>,
    /// The names of `[[sources]]`, for fixtures; empty when there are none, or nobody has asked.
    #[serde(skip)]
    pub sources: BTreeSet<SourceId>,
    /// For the bench: the box's name, and which destinations also send to it, so that it has the loop guard. `None` when the configuration
    /// is not right, or nobody has asked.
    #[serde(skip)]
    pub site: Option<(String, Vec<Neighbour>)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: None,
            deadline: Span::millis(250),
            operations: 1_000_000,
            text: Size(16 << 10),
            watch: true,
            passes: 3,
            zone: None,
            key_file: None,
            charsets: BTreeMap::new(),
            sources: BTreeSet::new(),
            site: None,
        }
    }
}

impl Config {
    /// All relations between keys that do not hold, as `key: message`.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let millis = self.deadline.0.as_millis();
        if !(1..=60_000).contains(&millis) {
            wrong.push("deadline: must be between 1ms and 60s".to_owned());
        }
        if !(1_000..=100_000_000).contains(&self.operations) {
            wrong.push("operations: must be between 1000 and 100000000".to_owned());
        }
        if !((1 << 10)..=(64 << 10)).contains(&self.text.0) {
            wrong.push("text: must be between 1KiB and 64KiB".to_owned());
        }
        if !(1..=100).contains(&self.passes) {
            wrong.push("passes: must be between 1 and 100".to_owned());
        }
        wrong
    }
}

impl Urgency {
    pub const ALL: [Self; 4] = [Self::Stat, Self::High, Self::Routine, Self::Low];

    /// The word that rules write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::High => "high",
            Self::Routine => "routine",
            Self::Low => "low",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|u| u.as_str() == text)
    }
}

impl HoldKind {
    /// The word of metrics, listings and fixtures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Incomplete => "incomplete",
            Self::Error => "error",
            Self::Budget => "budget",
            Self::NoDestination => "no_destination",
            Self::Edit => "edit",
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}
