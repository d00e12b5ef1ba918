//! What became of a job, and why a destination cannot be reached: the words between sender and scheduler.
//!
//! Texts here are constants, status words and errors of the transport; never a data-set value, never a name from the wire.
use crate::base::fault::{Plant, planted};
use crate::base::names::{AeTitle, InstanceId, JobId, Uid};
use crate::dicom::dimse::Priority;
use crate::dicom::status::{self, Meaning};
use bytes::Bytes;

/// One instance for one destination, as the sender needs to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    pub id: JobId,
    pub instance: InstanceId,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    /// The modality's AE title, for Source Application Entity Title of a file.
    pub source_ae: AeTitle,
    /// `Plan::encode`; empty means that nothing is edited.
    pub plan: Bytes,
    pub priority: Priority,
}

/// What became of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub job: JobId,
    pub outcome: Outcome,
    /// How it left, when its destination has answered.
    pub left: Option<Left>,
}

impl Ended {
    /// Nothing is known of how it left.
    #[must_use]
    pub fn new(job: JobId, outcome: Outcome) -> Self {
        Self {
            job,
            outcome,
            left: None,
        }
    }
}

/// How an instance left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub sop_instance: Uid,
    pub syntax: Uid,
    /// BLAKE3 of its uncompressed pixels, when it was recast: the same in what is stored and in what left.
    pub pixels: Option<blake3::Hash>,
}

/// What the destination made of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The destination has it. Warnings (Bxxx, 0107, 0116) are confirmations with a remark.
    Confirmed { status: u16 },
    /// It cannot take anything now.
    Congested { status: u16 },
    /// It does not take this instance; `why` is a status word or a constant.
    Refused { why: String },
    /// It does not take anything from us (0124).
    Unauthorised,
    /// It says that it has this SOP instance already (0111).
    Duplicate,
    /// It takes neither this class nor this syntax (presentation context result 1 to 4).
    NoContext { result: u8 },
    /// The session broke while this instance was under way: nobody knows whether it arrived.
    Interrupted(Interruption),
    /// The stored bytes are not what arrived, or cannot be read. Nothing complete was sent.
    Corrupt { what: String },
    /// The edits cannot be made. Nothing was sent.
    Edit { what: String },
    /// The destination takes no syntax in which it is stored, and it could not be converted to one that it takes. Nothing was sent.
    Unconvertible { what: String },
    /// This box cannot read or convert it now: the disk does not answer or has no room, or no codec's worker could be started. Nothing
    /// complete was sent; it says nothing of the instance, nor of the destination.
    Unready { what: String },
    /// The destination was not reached; the instance was not touched.
    Down(Down),
}

/// How a session broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interruption {
    pub what: String,
    /// False when the session had been idle before, so that it may have been dead already: says nothing of the instance.
    pub fresh: bool,
    /// The watchdog closed it.
    pub stuck: bool,
    /// It ended or stood still without a word of the peer: the line may have done that, as well as the instance.
    pub line: bool,
}

/// Why a destination cannot be reached.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct Down {
    pub kind: DownKind,
    /// The exact cause in one word of a fixed list, where there is one: of a failed TLS handshake, of a wrong port, or of a refused
    /// association (`ABORTED`, `AE_TITLE`).
    pub cause: Option<&'static str>,
    /// For people.
    pub reason: String,
}

/// The stage at which reaching a destination failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum DownKind {
    Resolve,
    Connect,
    Tls,
    /// A-ASSOCIATE-RJ, transient: congestion or a limit over there.
    RejectedTransient,
    /// A-ASSOCIATE-RJ, permanent: a person has to mend a configuration on one of the two sides.
    RejectedPermanent,
    /// Connected, but no association came about.
    Association,
    /// A folder that cannot be written.
    Storage,
    /// The session broke and the destination did not answer afterwards.
    Lost,
}

impl DownKind {
    /// The word in metrics and listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::RejectedTransient => "rejected_transient",
            Self::RejectedPermanent => "rejected_permanent",
            Self::Association => "association",
            Self::Storage => "storage",
            Self::Lost => "lost",
        }
    }
}

impl std::fmt::Display for DownKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl Down {
    #[must_use]
    pub fn new(kind: DownKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            cause: None,
            reason: reason.into(),
        }
    }

    /// Whether the peer may only mean that it accepts none of the presentation contexts that were proposed: it rejected the
    /// association for good, and not for an AE title, or aborted it.
    #[must_use]
    pub fn may_be_about_contexts(&self) -> bool {
        match self.kind {
            DownKind::RejectedPermanent => self.cause != Some(AE_TITLE),
            DownKind::Association => self.cause == Some(ABORTED),
            _ => false,
        }
    }

    /// With its exact cause, for the metric.
    #[must_use]
    pub fn because(kind: DownKind, cause: &'static str, reason: impl Into<String>) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(kind, reason)
        }
    }
}

/// The association was aborted before it was established.
pub const ABORTED: &str = "aborted";
/// The peer does not know one of the AE titles (PS3.8 table 9-21: source 1, reasons 3 and 7).
pub const AE_TITLE: &str = "ae_title";

impl Outcome {
    /// What a C-STORE answer says.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        if planted(Plant::IgnoreStatus) {
            return Self::Confirmed { status: 0 };
        }
        match status::meaning(status) {
            Meaning::Success | Meaning::Warning => Self::Confirmed { status },
            Meaning::Congested => Self::Congested { status },
            Meaning::Instance | Meaning::Unknown => Self::Refused {
                why: format!("status {status:04X}H"),
            },
            Meaning::Unauthorised => Self::Unauthorised,
            Meaning::Duplicate => Self::Duplicate,
        }
    }

    /// The word in metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Confirmed { status: 0 } => "confirmed",
            Self::Confirmed { .. } => "warning",
            Self::Congested { .. } => "congested",
            Self::Refused { .. } => "refused",
            Self::Unauthorised => "unauthorised",
            Self::Duplicate => "duplicate",
            Self::NoContext { .. } => "no_context",
            Self::Interrupted(_) => "interrupted",
            Self::Corrupt { .. } => "corrupt",
            Self::Edit { .. } => "edit",
            Self::Unconvertible { .. } => "unconvertible",
            Self::Unready { .. } => "unready",
            Self::Down(_) => "down",
        }
    }

    /// An interruption in a session that was alive.
    #[must_use]
    pub fn interrupted(what: impl Into<String>) -> Self {
        Self::Interrupted(Interruption {
            what: what.into(),
            fresh: true,
            stuck: false,
            line: false,
        })
    }
}
