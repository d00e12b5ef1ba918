//! The spool's vocabulary: what other rooms hand in and get back. Plain values; no disk here.
use super::alias::Alias;
use super::folder::Others;
use super::payload::Guarded;
use super::study::{StudyNote, StudySeen};
use super::trace::Trait;
use super::wait::{Group, Quiet};
use crate::base::clock::Wall;
use crate::base::names::{AeTitle, DestinationId, InstanceId, JobId, SourceId, Uid};
use std::path::PathBuf;

/// What is known of an instance, stored with it for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    pub id: InstanceId,
    pub source: SourceId,
    pub calling_ae: AeTitle,
    pub called_ae: AeTitle,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub study: Option<Uid>,
    pub transfer_syntax: Uid,
    pub arrival: Wall,
    /// Bytes of the data set as it arrived.
    pub length: u64,
    /// BLAKE3 of the data set as it arrived.
    pub digest: [u8; 32],
    pub rule_epoch: u64,
}

/// What a payload file's header must say, known before the data set arrives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arriving {
    pub source: SourceId,
    pub calling_ae: AeTitle,
    pub called_ae: AeTitle,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    /// Preamble and file meta information; the data set follows it directly in the file.
    pub header: Vec<u8>,
    /// Where in `header` the spool writes its `payload::PRIVATE_LEN` bytes.
    pub private_offset: usize,
}

/// Urgency of a job: smaller goes first, waiting jobs age upwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Stat = 0,
    High = 1,
    Routine = 2,
    Low = 3,
}

impl Priority {
    /// All classes, most urgent first.
    pub const ALL: [Self; 4] = [Self::Stat, Self::High, Self::Routine, Self::Low];

    /// The word of configuration, listings and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::High => "high",
            Self::Routine => "routine",
            Self::Low => "low",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| *p as u8 == byte)
    }
}

/// Why a job is held, as a word for filters and metrics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// A rule said `hold`.
    Rule = 1,
    /// A rule failed.
    Error = 2,
    /// A rule went over its budget.
    Budget = 3,
    /// The rules named no destination.
    NoDestination = 4,
    /// The edit plan could not be applied.
    Edit = 5,
    /// The same SOP Instance UID came with other content.
    Conflict = 6,
    /// The destination refused the instance.
    Refused = 7,
    /// The destination takes no presentation context for its class and syntax.
    Parked = 8,
    /// The payload on disk is missing or damaged.
    Corrupt = 9,
    /// Found again by a rebuild; to be decided anew.
    Recovered = 10,
    /// A person said so.
    Operator = 11,
    /// Found again by a salvage that could not learn whether a person had held it.
    Doubtful = 12,
    /// The destination took it and then would not commit to keep it, again and again.
    NotCommitted = 13,
    /// The destination takes it in another transfer syntax only, and it could not be converted.
    Conversion = 14,
    /// A word of the rules could not do its work: the edits that were decided lack it.
    Incomplete = 15,
}

impl HoldKind {
    pub const ALL: [Self; 15] = [
        Self::Rule,
        Self::Error,
        Self::Budget,
        Self::NoDestination,
        Self::Edit,
        Self::Conflict,
        Self::Refused,
        Self::Parked,
        Self::Corrupt,
        Self::Recovered,
        Self::Operator,
        Self::Doubtful,
        Self::NotCommitted,
        Self::Conversion,
        Self::Incomplete,
    ];

    /// The word of listings, filters and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Error => "error",
            Self::Budget => "budget",
            Self::NoDestination => "no_destination",
            Self::Edit => "edit",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Parked => "parked",
            Self::Corrupt => "corrupt",
            Self::Recovered => "recovered",
            Self::Operator => "operator",
            Self::Doubtful => "doubtful",
            Self::NotCommitted => "not_committed",
            Self::Conversion => "conversion",
            Self::Incomplete => "incomplete",
        }
    }

    /// Whether it says that the rules need a person (alarm metric `rule_failures`).
    pub(super) fn is_rule_failure(self) -> bool {
        matches!(self, Self::Error | Self::Budget | Self::NoDestination | Self::Edit)
    }

    /// Whether only a person's word may let it go: neither a rebuild nor a resend that heals its payload does.
    pub(super) fn is_on_purpose(self) -> bool {
        matches!(
            self,
            Self::Rule | Self::Incomplete | Self::Operator | Self::Conflict | Self::Doubtful
        )
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == byte)
    }
}

/// Why a job is held: the kind for machines, the text for people. The text carries no data-set values.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct HoldReason {
    pub kind: HoldKind,
    pub text: String,
}

impl HoldReason {
    #[must_use]
    pub fn new(kind: HoldKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

/// A delivery that was decided on: becomes a job in the commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewJob {
    /// `None`: not decided yet. Such a job is always held.
    pub destination: Option<DestinationId>,
    pub priority: Priority,
    /// Opaque to the spool; empty when nothing is changed.
    pub plan: Vec<u8>,
    /// Not before this time.
    pub due: Wall,
    /// Held from the start, with this reason.
    pub hold: Option<HoldReason>,
    /// Not before its study is quiet, either.
    pub quiet: Option<Quiet>,
    /// Others that may get it in this destination's place.
    pub group: Option<Group>,
}

/// What to do with a job whose destination has had the same content of the same SOP instance already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// Acknowledge and do not deliver again.
    #[default]
    Acknowledge,
    /// Deliver again.
    Deliver,
}

/// What was decided on a sealed instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    pub study: Option<Uid>,
    pub rule_epoch: u64,
    /// Empty counts as one undecided job, held with `HoldKind::NoDestination`.
    pub jobs: Vec<NewJob>,
    pub repeat: Repeat,
    pub note: StudyNote,
    /// What the decision wrote in place of values by which others will ask.
    pub aliases: Vec<Alias>,
    /// By what the instance can be traced.
    pub traits: Vec<Trait>,
}

/// What came of a commit.
pub enum Attempt {
    Done(Committed),
    /// Nothing was recorded: another instance of the study came first, and the decision believed otherwise. Decide again by
    /// what is known now.
    Overtaken(Box<Sealed>, StudySeen),
}

/// What the commit made of it. All three are durable, and to be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Committed {
    Stored(InstanceId),
    /// The same content for the same destinations is already known under this id; the new payload was dropped.
    Repeat(InstanceId),
    /// Stored, but the SOP Instance UID was known with other content: its jobs are held.
    Conflict(InstanceId),
}

impl Committed {
    /// Under which id the content is kept.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        match self {
            Self::Stored(id) | Self::Repeat(id) | Self::Conflict(id) => *id,
        }
    }
}

/// How a lease ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// The destination has it, on its word.
    Confirmed { status: u16, note: String },
    /// To be tried again from `due`. `counted` when the instance itself was answered, not the destination's outage.
    Retry { due: Wall, outcome: String, counted: bool },
    /// For a person.
    Hold { reason: HoldReason },
}

/// Why an arrival cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArriveError {
    #[error("the spool's disk is below its low-water mark")]
    LowWater,
    #[error("the spool had a write error and takes nothing")]
    GateLatched,
    #[error("the disk did not answer in time")]
    Busy,
    #[error("the payload could not be written")]
    Io,
    /// The process or the file system allows no file of this length.
    #[error("the payload is longer than a file may be here (`ulimit -f`, or the file system's own limit)")]
    TooLong,
}

/// Why nothing was recorded. In every case the caller must not acknowledge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("the spool had a write error and takes nothing")]
    GateLatched,
    #[error("the spool's disk is below its critical mark")]
    DiskFull,
    /// The outcome is not known: it may have been recorded.
    #[error("the index did not answer in time")]
    Deadline,
    /// The job or instance is not there (any more), or not in a state for this.
    #[error("there is no such job, or not in a state for this")]
    Gone,
    #[error("a record could not be read and was put into quarantine")]
    Damaged,
}

/// Why a payload cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no such instance")]
    Gone,
    #[error("the payload file is missing")]
    Missing,
    #[error("the payload is not what arrived")]
    Corrupt,
    /// This one file, and not the disk or the process: another may well be readable.
    #[error("the payload file cannot be read (os error {0})")]
    Unreadable(i32),
    #[error("the spool could not be read")]
    Io,
    #[error("the disk did not answer in time")]
    Deadline,
    #[error("the spool had a write error and is being reopened")]
    GateLatched,
}

/// Why a spool does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("spool {0} is in use by another process")]
    InUse(PathBuf),
    #[error("{0} is neither empty nor a spool (no `waystation-spool` marker): is the right file system mounted?")]
    NotASpool(PathBuf),
    #[error(
        "spool {path} was written by a newer version: its format is {found}, this version knows formats up to {known}. Nothing was \
         changed. Install the newer version again, or see `waystation spool version`"
    )]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error(
        "the marker `waystation-spool` of {0} says no format that is known: nothing was changed; is it a spool of this program?"
    )]
    Marker(PathBuf),
    #[error(
        "spool {path} must be migrated, which needs {} MiB of free space and finds {} MiB: nothing was changed; make room and start again",
        needed >> 20, free >> 20
    )]
    NoRoomToMigrate { path: PathBuf, needed: u64, free: u64 },
    #[error(
        "spool {path} holds {payloads} payload files but no index: a start salvages it, unless `spool.salvage` is \"stop\"; then run \
         `waystation spool rebuild`"
    )]
    IndexMissing { path: PathBuf, payloads: u64 },
    #[error(
        "the index of spool {path} does not open ({detail}): a start salvages it, unless `spool.salvage` is \"stop\"; then run \
         `waystation spool rebuild`"
    )]
    IndexDamaged { path: PathBuf, detail: String },
    /// It may pass; when it does not, the next start takes it for damage.
    #[error(
        "the index of spool {path} cannot be read now ({detail}): if this happens again, it is salvaged, or run `waystation spool rebuild`"
    )]
    IndexTrouble { path: PathBuf, detail: String },
    /// It is not damaged, however often this comes.
    #[error(
        "the index of spool {path} cannot be opened ({detail}). That says nothing against what lies there, and a rebuild would not help: {}",
        remedy(detail)
    )]
    IndexWithheld { path: PathBuf, detail: String },
    #[error(
        "spool {path} belongs to the user with the number {uid}: what root wrote into it, the box could not read any more. Run this as \
         that user, as in `sudo -u '#{uid}' waystation ...`, or give the whole folder to root when the box is to run as root"
    )]
    Anothers { path: PathBuf, uid: u32 },
    #[error("spool {path}: {what}: {error}")]
    Io {
        path: PathBuf,
        what: &'static str,
        error: std::io::Error,
    },
}

/// What a person does about an error of the system.
fn remedy(detail: &str) -> &'static str {
    match detail {
        detail if detail.contains("denied") || detail.contains("not permitted") => {
            "give the spool back to the box's user (`chown -R`, as its `payload` has it), all of it readable and writable for that user"
        }
        detail if detail.contains("Read-only") => "have its file system mounted to be written to",
        detail if detail.contains("No space") || detail.contains("quota") => "make room on its disk, and start again",
        _ => "give the box more memory or open files, or end what takes them, and start again",
    }
}

impl OpenError {
    /// Whether a salvage is the way out.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::IndexMissing { .. } | Self::IndexDamaged { .. } => true,
            Self::InUse(_)
            | Self::NotASpool(_)
            | Self::Newer { .. }
            | Self::Marker(_)
            | Self::NoRoomToMigrate { .. }
            | Self::IndexTrouble { .. }
            | Self::IndexWithheld { .. }
            | Self::Anothers { .. }
            | Self::Io { .. } => false,
        }
    }
}

/// What was found at start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenReport {
    pub created: bool,
    /// The format that the spool was migrated from.
    pub migrated_from: Option<u64>,
    /// The index was damaged and was made anew from the payload files; where it names what is lost or doubtful.
    pub salvaged: Option<PathBuf>,
    pub instances: u64,
    /// Of `instances`: delivered, kept as cache.
    pub delivered: u64,
    /// Of `instances`: kept as cache too, a person had discarded a delivery of them.
    pub discarded: u64,
    pub queued: u64,
    pub held: u64,
    /// Jobs that wait for their destination's commitment.
    pub awaiting: u64,
    /// Empty files of the pool that were cleared.
    pub pool_cleared: u64,
    /// Files cut by the stop, never sealed, removed.
    pub partial: u64,
    /// Whole payloads without a record that were never acknowledged, moved to `orphans/`.
    pub orphans: u64,
    /// Acknowledged payloads whose record was lost: taken in again as undecided jobs of kind `recovered`.
    pub adopted: Vec<InstanceId>,
    /// Instances whose payload file is gone. Their jobs are held with kind `corrupt`.
    pub missing: Vec<InstanceId>,
    /// Payload files without a record that are damaged or could not be read: put into `quarantine/`.
    pub unreadable: Vec<InstanceId>,
    /// Whole payloads that lay in a wrong place: moved to the place of their id.
    pub brought_home: Vec<InstanceId>,
    /// What lies below `payload/` and is no payload: left where it is.
    pub others: Others,
    /// Records that could not be read and were put into quarantine.
    pub quarantined: u64,
}

/// A snapshot for readiness and the console.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Health {
    /// Nothing is acknowledged after a write or sync error.
    pub latched: bool,
    /// The one reopening did not help: the process must end.
    pub failed: bool,
    pub low_water: bool,
    pub critical: bool,
    pub free_bytes: u64,
    pub free_inodes: u64,
    /// Free bytes below which new instances are refused.
    pub low_water_bytes: u64,
    /// The files `witness` and `orders` beside the index are written.
    pub witnessed: bool,
    /// The commit thread runs.
    pub commit_alive: bool,
    /// A report of lost or doubtful instances waits for a person.
    pub salvage_unread: bool,
    /// Instances with open jobs whose payload is missing or not what arrived.
    pub damaged: u64,
}

/// A payload that is whole and flushed, but not committed. Dropped without a commit, its file is removed.
pub struct Sealed {
    pub(super) file: Guarded,
    pub(super) instance: Instance,
    pub(super) data_set_offset: u32,
    pub(super) private_offset: u32,
}

impl Sealed {
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.instance.id
    }

    #[must_use]
    pub fn length(&self) -> u64 {
        self.instance.length
    }

    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.instance.digest
    }
}

/// A job's full name inside the spool: its destination's number and its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct JobKey {
    pub dest: u32,
    pub job: JobId,
}
