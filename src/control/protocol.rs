//! What is said over the control socket. Both sides are this binary, usually of one version; an unknown request is refused, not guessed.
use crate::alarms;
use crate::base::names::{DestinationId, InstanceId, SourceId, Uid};
use crate::base::units::Span;
use crate::custody::{Answer, LinesAnswer, LinesQuery, Report, Subject};
use crate::pki::SlotStatus;
use crate::sender::survey::Finding;
use crate::spool::{ChainReport, DamagedInstance, HoldKind, JobState, ScrubStatus};
use crate::transcode::known::Learned;
use serde::{Deserialize, Serialize};

/// One question or order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Jobs that the filter matches, in the queue's order.
    List {
        filter: Filter,
        limit: usize,
    },
    /// Everything known of one job.
    Show {
        job: u64,
    },
    /// An order over all jobs that the filter matches.
    Act {
        filter: Filter,
        action: Action,
        reason: Option<String>,
        dry_run: bool,
    },
    /// Claims nothing more for a destination until `Resume`, across restarts.
    Suspend {
        destination: DestinationId,
        reason: Option<String>,
    },
    Resume {
        destination: DestinationId,
    },
    /// The state of every lane.
    Lanes,
    /// Loads the rule folder again. The note says what was done to it, for the ledger.
    Reload {
        #[serde(default)]
        note: Option<String>,
    },
    /// Every certificate, CA and revocation list, in force and on the disk.
    Certificates,
    /// Where the scrub stands and what is damaged; `now` begins a pass at once.
    Scrub {
        #[serde(default)]
        now: bool,
    },
    /// A person has read the reports of lost and doubtful instances.
    AcknowledgeSalvage,
    /// What a destination would do with classes and syntaxes: it is asked now, or (`known`) what was learned of it.
    Probe {
        destination: DestinationId,
        #[serde(default)]
        classes: Vec<String>,
        #[serde(default)]
        known: bool,
    },
    /// Incidents: list, acknowledge, silence, try the channels.
    Alarms {
        order: alarms::Order,
    },
    /// What had been sent where `value` was written; with `reverse`, what was written where `value` had been sent.
    Map {
        kind: String,
        value: String,
        reverse: bool,
    },
    /// The custody of the instances that a value names.
    Trace {
        value: String,
        by: Subject,
        #[serde(default)]
        after: Option<Hex>,
        limit: usize,
    },
    /// Verifies the ledger's chain.
    VerifyLedger,
    /// Lines of the ledger.
    LedgerLines {
        query: LinesQuery,
    },
    /// Reconciles a day, today so far without one; or, with `kept`, only shows the report as it was made.
    Reconcile {
        #[serde(default)]
        day: Option<String>,
        #[serde(default)]
        kept: bool,
    },
    /// Everything of storage commitment that is not over.
    Commitments,
    /// Asks a destination, or tells a source, again now; all without a name.
    CommitmentRetry {
        name: Option<String>,
    },
    /// Takes a destination's C-STORE answers for its commitment, or ends a source's request untold. Needs a reason.
    CommitmentGiveUp {
        destination: Option<DestinationId>,
        /// Of a source's request.
        number: Option<u64>,
        reason: String,
    },
}

/// What an order does to a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Action {
    Hold,
    Release {
        /// What becomes of what the rules held.
        #[serde(default)]
        by: Release,
    },
    Retry,
    Reroute {
        to: DestinationId,
        /// What no rule has decided on yet goes as it came, instead of with the edits that the rules make for `to`.
        #[serde(default)]
        unedited: bool,
    },
    /// Gives the job up for ever. Needs a reason.
    Discard,
}

/// Whose word counts for held jobs that are let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// A `hold` of a rule is let go with the edits as they were decided. What the rules could not do (no destination, an edit
    /// that cannot be made, a word that could not do its work) is decided anew.
    #[default]
    Plain,
    /// All that the rules held is decided anew, also what they held on purpose.
    Anew,
    /// Nothing is decided anew: what has a destination goes with the edits that it has.
    AsDecided,
}

/// The jobs that are meant: all of the conditions given must hold. Without any it means every job, and needs `all`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    pub jobs: Vec<u64>,
    pub destination: Option<DestinationId>,
    /// Only jobs that no rule gave a destination.
    pub undecided: bool,
    /// Without it, all that have not ended.
    pub state: Option<JobState>,
    pub source: Option<SourceId>,
    pub kind: Option<HoldKind>,
    pub instance: Option<Hex>,
    pub study: Option<Uid>,
    pub sop_instance: Option<Uid>,
    pub older_than: Option<Span>,
    /// Every job is really meant.
    pub all: bool,
}

/// An instance id as its 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub InstanceId);

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    Jobs {
        jobs: Vec<Job>,
        more: bool,
    },
    Job {
        job: Box<Job>,
    },
    /// How many jobs the filter matched, and how many were changed (none in a dry run).
    Acted {
        matched: u64,
        changed: u64,
        /// Of `changed`: rerouted, and held all the same.
        #[serde(default)]
        held: u64,
        /// Of jobs that were meant by number and are not in the queue: why not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        told: Vec<String>,
    },
    Lanes {
        lanes: Vec<Lane>,
    },
    Scrub {
        status: ScrubStatus,
        damaged: Vec<DamagedInstance>,
    },
    Map {
        entries: Vec<MapEntry>,
    },
    /// What the destination said, or would be made of it.
    Probe {
        destination: DestinationId,
        findings: Vec<Finding>,
    },
    Known {
        destination: DestinationId,
        lines: Vec<Learned>,
    },
    Alarms {
        said: alarms::Answer,
    },
    Trace {
        custody: Box<Answer>,
    },
    Ledger {
        report: ChainReport,
    },
    LedgerLines {
        page: LinesAnswer,
    },
    Reconciliation {
        report: Box<Report>,
    },
    Commitments {
        waiting: Vec<CommitmentWaiting>,
        asked: Vec<CommitmentAsked>,
        demands: Vec<CommitmentDemand>,
    },
    Certificates {
        slots: Vec<SlotStatus>,
    },
    /// Done, with one line for the operator.
    Done {
        message: String,
    },
    /// Not done; nothing was changed.
    Refused {
        message: String,
    },
}

/// A job, as far as an operator may see it: no patient data.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    pub job: u64,
    pub state: String,
    pub destination: Option<String>,
    pub priority: String,
    pub source: String,
    pub calling_ae: String,
    pub called_ae: String,
    pub instance: String,
    pub sop_class: String,
    pub sop_instance: String,
    pub study: Option<String>,
    pub transfer_syntax: String,
    pub length: u64,
    pub arrival: String,
    pub due: Option<String>,
    /// When it was delivered or discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    pub attempts: u32,
    pub outcome: Option<String>,
    pub hold_kind: Option<String>,
    pub reason: Option<String>,
}

/// A lane's state.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lane {
    pub destination: String,
    /// `up`, `slowed`, `down`, `probing`, `suspended`; `not configured`: jobs wait for it and nobody delivers them.
    pub state: String,
    pub in_flight: usize,
    pub queued: u64,
    pub held: u64,
    /// Sent, and not committed.
    pub awaiting: u64,
    /// Associations that are open or being opened, and those that backlog and line call for, within the site's limit.
    pub associations: usize,
    pub wanted: usize,
    pub reason: Option<String>,
    pub parked: Vec<String>,
    /// What it was learned to accept and to refuse, as long as that counts.
    pub learned: Vec<Learned>,
}

/// A value that a rule put in place of another. Patient data: for the operator who asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapEntry {
    pub sent: String,
    pub written: String,
    /// The source and the rules of the first instance that it came with.
    pub source: String,
    pub rules: String,
    pub first: String,
    pub last: String,
}

/// Jobs that were sent and wait for their destination's commitment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitmentWaiting {
    pub destination: String,
    pub jobs: u64,
}

/// A request of this box that has no answer yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitmentAsked {
    pub request: u64,
    pub destination: Option<String>,
    pub transaction: String,
    pub at: String,
    /// When it is made again; absent: not accepted yet.
    pub until: Option<String>,
    pub references: usize,
}

/// A request of a source that is not over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitmentDemand {
    pub request: u64,
    pub source: String,
    pub transaction: String,
    pub level: String,
    pub at: String,
    /// Absent: its instances are waited for. Else the source has not taken the answer.
    pub decided: Option<String>,
    pub references: usize,
}

/// Why a filter is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    #[error("this would mean every job: name a filter, or say --all")]
    Everything,
    #[error("to give something up needs --reason")]
    Reason,
}

impl Filter {
    /// Whether any condition is given.
    #[must_use]
    pub fn narrows(&self) -> bool {
        let unbound = Self {
            all: self.all,
            ..Self::default()
        };
        *self != unbound
    }
}

impl Request {
    /// Orders over everything must say so, and a discard must say why. Asked by both sides, so that neither relies on the other.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), FilterError> {
        if let Self::CommitmentGiveUp { reason, .. } = self {
            return match reason.trim() {
                "" => Err(FilterError::Reason),
                _ => Ok(()),
            };
        }
        let Self::Act {
            filter,
            action,
            reason,
            dry_run,
        } = self
        else {
            return Ok(());
        };
        if !filter.narrows() && !filter.all {
            return Err(FilterError::Everything);
        }
        let said = reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
        if *action == Action::Discard && !said && !dry_run {
            Err(FilterError::Reason)
        } else {
            Ok(())
        }
    }
}

impl Action {
    /// The word of the metric and the ledger.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release { .. } => "release",
            Self::Retry => "retry",
            Self::Reroute { .. } => "reroute",
            Self::Discard => "discard",
        }
    }
}

impl TryFrom<String> for Hex {
    type Error = crate::base::names::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        InstanceId::parse(&text).map(Self)
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        hex.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(filter: Filter, action: Action, reason: Option<&str>) -> Request {
        Request::Act {
            filter,
            action,
            reason: reason.map(str::to_owned),
            dry_run: false,
        }
    }

    #[test]
    fn an_order_over_everything_must_say_all() {
        let one = Filter {
            jobs: vec![7],
            ..Filter::default()
        };
        let all = Filter {
            all: true,
            ..Filter::default()
        };
        assert_eq!(
            act(Filter::default(), Action::Retry, None).check(),
            Err(FilterError::Everything)
        );
        assert_eq!(act(one, Action::Retry, None).check(), Ok(()));
        assert_eq!(act(all, Action::Retry, None).check(), Ok(()));
    }

    #[test]
    fn a_discard_must_say_why() {
        let one = || Filter {
            jobs: vec![7],
            ..Filter::default()
        };
        assert_eq!(act(one(), Action::Discard, None).check(), Err(FilterError::Reason));
        assert_eq!(
            act(one(), Action::Discard, Some("  ")).check(),
            Err(FilterError::Reason)
        );
        assert_eq!(act(one(), Action::Discard, Some("test images")).check(), Ok(()));
    }

    #[test]
    fn requests_read_back_as_they_were_written() {
        let filter = Filter {
            destination: DestinationId::parse("vna").ok(),
            state: Some(JobState::Held),
            instance: Some(Hex(InstanceId([7; 16]))),
            older_than: Some(Span::secs(60)),
            ..Filter::default()
        };
        let to = DestinationId::parse("cad").unwrap();
        let request = act(filter, Action::Reroute { to, unedited: false }, Some("moved"));
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        assert!(serde_json::from_str::<Request>("{\"request\":\"format_disk\"}").is_err());
        let older: Action = serde_json::from_str("{\"verb\":\"release\"}").unwrap();
        assert_eq!(
            older,
            Action::Release { by: Release::Plain },
            "as an older program says it"
        );
    }
}
