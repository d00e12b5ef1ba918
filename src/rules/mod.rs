//! Rules: what imaging IT wrote decides edits, deliveries and holds. Layer 2; the only room that knows Rhai.
use crate::base::clock::Wall;
use crate::base::names::{AeTitle, DestinationId, SourceId, Uid};
use crate::dicom::edit::Plan;
use crate::dicom::head::Head;
use std::path::{Path, PathBuf};

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
}

/// What the rules decided. Never empty: no delivery means a hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    pub deliveries: Vec<Delivery>,
    /// When set, every delivery is held with this reason, and the instance is kept even without any.
    pub hold: Option<Hold>,
    pub epoch: u64,
}

/// One destination with the plan of edits for it (`morph` and `morph_for_DEST` together).
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    pub destination: DestinationId,
    pub priority: Urgency,
    pub plan: Plan,
}

/// The urgency that a rule asked for: `stat`, `high`, `routine` (the default), `low`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
    /// texts of rule errors are replaced by their kind and position.
    pub reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum HoldKind {
    /// A rule said `hold(...)`.
    Rule,
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
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub path: Option<PathBuf>,
}

/// A compiled, immutable rule folder. Shared by all evaluations without a lock.
pub struct RuleSet {
    _todo: (),
}

impl RuleSet {
    /// Compiles every `*.rhai` file of `folder` (entry: `main.rhai`, which may `import` the others).
    ///
    /// # Errors
    /// All problems found, with file, line and column. Destinations that rules name but `destinations` lacks are problems.
    pub fn load(_folder: &Path, _config: &Config, _destinations: &[DestinationId]) -> Result<Self, Vec<Problem>> {
        todo!()
    }

    /// A hash of all files' names and contents.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        todo!()
    }

    /// Decides on one instance. Bounded in operations, memory and wall-clock time; never panics; pure.
    #[must_use]
    pub fn decide(&self, _facts: &Facts, _head: &Head) -> Decision {
        todo!()
    }
}
