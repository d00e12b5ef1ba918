//! The ledger: what was done with every instance, as hash-chained facts in the same batch as the deed itself.
//! A fact carries our ids, UIDs, destinations, status words and a person's reason; never another value of a data set.
//!
//! A line is stored under `time | sequence number`; the time is its own, or that of the line before it when the clock is behind that
//! (`late.rs`). Its record is the BLAKE3 hash of the line before it (key and record), then the fact as JSON, with version and crc32
//! around both. `chain.rs` verifies, `prune.rs` takes old lines away.
use super::codec::{Damaged, unwrap_body, wrap};
use super::db::{Cf, Change, Db, DbError};
use super::keys;
use super::late::Late;
use super::model::CommitError;
use super::record::InstanceRecord;
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId, SourceId, Uid};
use std::time::Duration;

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// Received, decided on, on the disk and queued: one line, as it is one batch. See `Arrival`.
    Stored,
    Repeated,
    Conflict,
    /// A job beyond those of its arrival.
    Queued,
    /// A delivery was begun and broke off; it cost the job no attempt.
    Attempted,
    /// The destination has it, by its answer.
    Confirmed,
    Retry,
    /// Converted for a destination: from which transfer syntax to which, and the hash of its pixels before and after.
    Converted,
    Held,
    Released,
    Rerouted,
    Discarded,
    Redecided,
    Suspended,
    Resumed,
    Evicted,
    Quarantined,
    Recovered,
    /// Rules were put in force on a person's word.
    Rules,
    /// A damaged payload was replaced by a resend of the same bytes.
    Healed,
    /// A person has taken note of something: read a salvage report, acknowledged an incident, silenced an alarm.
    Acknowledged,
    /// C-STOREs that were not taken, counted.
    Refused,
    /// Somebody asked for the custody of instances. See `Fact::who`; the value stands as a keyed hash.
    Accessed,
    /// Lines up to one are taken away, by `ledger.keep`.
    Pruned,
    /// The chain was broken by a salvage, here and where it says.
    Break,
    /// The spool was brought to a newer format.
    Migrated,
    /// The destination answered success; its commitment to keep the instance is still to come.
    Sent,
    /// The destination was asked to commit to keep it; the text is the transaction.
    CommitmentAsked,
    /// The destination would not, or the request came to nothing.
    CommitmentRefused,
    /// A source asked this box to commit; the text names source and transaction.
    CommitmentRequested,
    /// What that source was told of the instance.
    CommitmentAnswered,
    /// A person ended the wait for a commitment, or for its answer being taken.
    CommitmentGivenUp,
}

impl FactKind {
    pub const ALL: [Self; 32] = [
        Self::Stored,
        Self::Repeated,
        Self::Conflict,
        Self::Queued,
        Self::Attempted,
        Self::Confirmed,
        Self::Retry,
        Self::Converted,
        Self::Held,
        Self::Released,
        Self::Rerouted,
        Self::Discarded,
        Self::Redecided,
        Self::Suspended,
        Self::Resumed,
        Self::Evicted,
        Self::Quarantined,
        Self::Recovered,
        Self::Rules,
        Self::Healed,
        Self::Acknowledged,
        Self::Refused,
        Self::Accessed,
        Self::Pruned,
        Self::Break,
        Self::Migrated,
        Self::Sent,
        Self::CommitmentAsked,
        Self::CommitmentRefused,
        Self::CommitmentRequested,
        Self::CommitmentAnswered,
        Self::CommitmentGivenUp,
    ];
}

/// One line of the ledger.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    pub kind: FactKind,
    /// Its place in time, microseconds since 1970 UTC: never before the fact before it. When it was, `at` says.
    pub at_us: u64,
    /// When it was, where that is before its place: see `late.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationId>,
    /// Who asked for it, when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Status word, hold kind or reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<Detail>>,
}

/// What a kind of fact has to tell beside the common fields.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Detail {
    Arrival(Arrival),
    Refused(Refusals),
    /// The chain up to this line is taken away; the hash is that of the line.
    Pruned {
        seq: u64,
        hash: String,
    },
    Break(Break),
}

/// Of `Stored`, `Conflict` and `Repeated`: what came, and what was decided.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Arrival {
    pub source: SourceId,
    /// When its first byte came, microseconds since 1970 UTC; the fact's own time is that of the commit.
    pub received_us: u64,
    pub calling: String,
    pub called: String,
    pub sop_class: String,
    pub sop_instance: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    pub syntax: String,
    /// Bytes of the data set, and its BLAKE3.
    pub length: u64,
    pub digest: String,
    /// The rule set that decided.
    pub rules: String,
    /// The jobs that were made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Planned>,
}

/// One job of an arrival.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Planned {
    pub job: u64,
    /// `None`: no destination was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DestinationId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// C-STOREs of one source, study and status that were not taken, within a minute; many take several lines.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Refusals {
    pub source: SourceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    /// The status word that was answered; `cut` when the association broke off before an answer.
    pub status: String,
    pub count: u64,
    /// Which they were; the rest have no UID, or were too many to be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sop_instances: Vec<String>,
}

/// What a salvage could not carry over.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Break {
    /// Where the carried chain does not hold together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// More of them than could be listed: every earlier break is meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// Lines that are there and are not what was written: no loss of a disk, and never excused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<u64>,
    /// The last line that could be carried over, with its hash, and the last that the witness knew.
    pub carried: u64,
    pub carried_hash: String,
    pub known: u64,
}

/// A place where two lines stand side by side that did not once.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Gap {
    /// The line after it.
    pub line: u64,
    /// The line before it, with its hash: whoever takes more away than was lost is seen.
    pub after: u64,
    pub hash: String,
}

/// What `CommitmentRefused` says when nobody answered the request…
pub(super) const NO_ANSWER: &str = "no answer";
/// …and when the destination would not take it.
pub(super) const NOT_TAKEN: &str = "the request for commitment is not taken";

impl Fact {
    /// Whether it tells of a request for commitment that came to nothing. The archive has said nothing of the instance, which waits on and is
    /// asked for again.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        let about_the_request = |text: &&str| self.text.starts_with(*text);
        self.kind == FactKind::CommitmentRefused && [NO_ANSWER, NOT_TAKEN].iter().any(about_the_request)
    }

    /// Whether it tells that an archive has committed to keep what it was sent: the last of a destination that commits.
    #[must_use]
    pub fn is_commitment(&self) -> bool {
        self.kind == FactKind::Confirmed && self.text.contains(" committed, transaction ")
    }

    /// Whether it tells that a delivery was tried, with whatever answer.
    #[must_use]
    pub fn is_attempt(&self) -> bool {
        use FactKind::{Attempted, Confirmed, Retry, Sent};
        matches!(self.kind, Attempted | Retry | Sent | Confirmed) && !self.is_commitment()
    }

    #[must_use]
    pub fn new(kind: FactKind) -> Self {
        Self {
            kind,
            at_us: 0,
            own_us: None,
            instance: None,
            job: None,
            destination: None,
            who: None,
            text: String::new(),
            detail: None,
        }
    }

    /// When it was, by the clock of that moment.
    #[must_use]
    pub fn at(&self) -> Wall {
        Wall(self.own_us.unwrap_or(self.at_us))
    }

    #[must_use]
    pub fn instance(mut self, id: InstanceId) -> Self {
        self.instance = Some(id.to_string());
        self
    }

    #[must_use]
    pub fn job(mut self, id: JobId, destination: Option<DestinationId>) -> Self {
        self.job = Some(id.0);
        self.destination = destination;
        self
    }

    #[must_use]
    pub fn who(mut self, who: &str) -> Self {
        self.who = Some(who.chars().take(WHO_MAX).collect());
        self
    }

    /// Constant words, our ids, status words, a person's reason; never a value of a data set.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self.text.truncate(self.text.floor_char_boundary(TEXT_MAX));
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: Detail) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// The instance that it is about.
    #[must_use]
    pub fn about(&self) -> Option<InstanceId> {
        InstanceId::parse(self.instance.as_deref()?).ok()
    }

    /// What came, when it is the fact of an arrival.
    #[must_use]
    pub fn arrival(&self) -> Option<&Arrival> {
        match self.detail.as_deref() {
            Some(Detail::Arrival(arrival)) => Some(arrival),
            _ => None,
        }
    }
}

impl Arrival {
    pub(super) fn of(record: &InstanceRecord, jobs: Vec<Planned>) -> Self {
        let i = &record.instance;
        Self {
            source: i.source.clone(),
            received_us: i.arrival.0,
            calling: i.calling_ae.to_string(),
            called: i.called_ae.to_string(),
            sop_class: i.sop_class.to_string(),
            sop_instance: i.sop_instance.to_string(),
            study: i.study.as_ref().map(Uid::to_string),
            syntax: i.transfer_syntax.to_string(),
            length: i.length,
            digest: blake3::Hash::from_bytes(i.digest).to_hex().to_string(),
            rules: format!("{:016x}", i.rule_epoch),
            jobs,
        }
    }
}

const WHO_MAX: usize = 64;
const TEXT_MAX: usize = 1_024;

/// The end of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Head {
    pub hash: [u8; 32],
    pub seq: u64,
    pub at: Wall,
}

impl Head {
    /// The end of the chain as the index holds it: of its last line, or of what was pruned.
    pub(super) fn load(db: &Db) -> Result<Self, DbError> {
        let mut head = super::chain::anchor(db)?.unwrap_or_default();
        db.scan_back(Cf::Ledger, &[], |key, value| {
            // A damaged last fact still gives the chain a defined end: `verify` names it.
            let (at, seq) = keys::ledger_of(key).unwrap_or_default();
            let hash = link(key, value);
            head = Self { hash, seq, at };
            false
        })?;
        Ok(head)
    }

    /// Adds a fact; answers its key and record. `late` says whether it needs an entry beside them.
    pub(super) fn append(&mut self, mut fact: Fact, now: Wall) -> (Vec<u8>, Vec<u8>) {
        self.at = self.at.max(now);
        self.seq += 1;
        fact.at_us = self.at.0;
        fact.own_us = self.late(now).map(|late| late.own.0);
        let mut body = self.hash.to_vec();
        // A fact is plain strings and numbers: it always serialises.
        body.extend(serde_json::to_vec(&fact).expect("a fact serialises"));
        let key = keys::ledger(self.at, self.seq).to_vec();
        let record = wrap(&body);
        self.hash = link(&key, &record);
        (key, record)
    }

    /// The last line, when the clock says an earlier time than it bears.
    pub(super) fn late(&self, now: Wall) -> Option<Late> {
        (self.at.since(now) >= LATE).then_some(Late {
            own: now,
            at: self.at,
            seq: self.seq,
        })
    }

    /// The entry of the line that was just added, when it is late.
    pub(super) fn late_entry(&self, now: Wall) -> Option<Change> {
        let late = self.late(now)?;
        Some((Cf::Meta, keys::late(late), Some(Vec::new())))
    }
}

/// A line is late by this or more. Less is a clock that is kept right.
const LATE: Duration = Duration::from_secs(1);

/// The hash that the next fact carries.
pub(super) fn link(key: &[u8], record: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(key).update(record).finalize().as_bytes()
}

/// Reads one record: the hash of the fact before it, and the fact.
pub(super) fn decode(record: &[u8]) -> Result<([u8; 32], Fact), Damaged> {
    let (previous, json) = unwrap_body(record)?.split_first_chunk::<32>().ok_or(Damaged)?;
    Ok((*previous, serde_json::from_slice(json).map_err(|_| Damaged)?))
}

/// Facts of one instance that are answered.
const FACTS_MAX: usize = 10_000;

/// The facts of one instance, oldest first, at most `FACTS_MAX`. Lines that were pruned, or cannot be read, are left out.
pub(super) fn of_instance(db: &Db, id: InstanceId) -> Result<Vec<Fact>, DbError> {
    let mut lines = Vec::new();
    db.scan(Cf::History, &id.0, &keys::behind(&id.0), |key, _| {
        lines.extend(keys::history_of(key).map(|(_, at, seq)| keys::ledger(at, seq)));
        lines.len() < FACTS_MAX
    })?;
    let mut facts = Vec::with_capacity(lines.len());
    for line in lines {
        let record = db.get(Cf::Ledger, &line)?;
        facts.extend(record.and_then(|raw| Some(decode(&raw).ok()?.1)));
    }
    Ok(facts)
}

impl super::Spool {
    /// The last facts of the ledger, newest last; only those of one instance when it is named.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn facts(&self, instance: Option<InstanceId>, limit: usize) -> Result<Vec<Fact>, super::ReadError> {
        self.read(move |db| {
            if let Some(id) = instance {
                let mut facts = of_instance(db, id)?;
                facts.drain(..facts.len().saturating_sub(limit));
                return Ok(facts);
            }
            let mut facts = Vec::new();
            db.scan_back(Cf::Ledger, &[], |_, value| {
                facts.extend(decode(value).ok().map(|(_, fact)| fact));
                facts.len() < limit
            })?;
            facts.reverse();
            Ok(facts)
        })
        .await
    }

    /// Writes facts that other rooms have to tell, in one batch. Their times are set here.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn note(&self, facts: Vec<Fact>) -> Result<(), CommitError> {
        self.submit(move |txn| {
            for fact in facts {
                txn.fact(fact);
            }
            Ok(())
        })
        .await
    }
}
