//! The ledger: what was done with every instance, as hash-chained facts in the same batch as the deed itself.
//! A fact carries our ids, destinations, status words and a person's reason; never a data-set value.
use super::codec::{Damaged, unwrap_body, wrap};
use super::db::{Cf, Db, DbError};
use super::keys;
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId};

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    Stored,
    Repeated,
    Conflict,
    Confirmed,
    Retry,
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
    /// An instance was converted for a destination: from which transfer syntax to which, and the hash of its pixels.
    Converted,
    /// A person has read a salvage report.
    Acknowledged,
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

/// One line of the ledger.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    pub kind: FactKind,
    /// Microseconds since 1970 UTC; never before the fact before it.
    pub at_us: u64,
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
}

impl Fact {
    pub(super) fn new(kind: FactKind) -> Self {
        Self {
            kind,
            at_us: 0,
            instance: None,
            job: None,
            destination: None,
            who: None,
            text: String::new(),
        }
    }

    pub(super) fn instance(mut self, id: InstanceId) -> Self {
        self.instance = Some(id.to_string());
        self
    }

    pub(super) fn job(mut self, id: JobId, destination: Option<DestinationId>) -> Self {
        self.job = Some(id.0);
        self.destination = destination;
        self
    }

    pub(super) fn who(mut self, who: &str) -> Self {
        self.who = Some(who.chars().take(WHO_MAX).collect());
        self
    }

    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self.text.truncate(self.text.floor_char_boundary(TEXT_MAX));
        self
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
    /// The end of the chain as the index holds it.
    pub(super) fn load(db: &Db) -> Result<Self, DbError> {
        let mut head = Self::default();
        db.scan_back(Cf::Ledger, |key, value| {
            // A damaged last fact still gives the chain a defined end: `verify` names it.
            let (at, seq) = keys::ledger_of(key).unwrap_or_default();
            let hash = link(key, value);
            head = Self { hash, seq, at };
            false
        })?;
        Ok(head)
    }

    /// Adds a fact; answers its key and record.
    pub(super) fn append(&mut self, mut fact: Fact, now: Wall) -> (Vec<u8>, Vec<u8>) {
        self.at = self.at.max(now);
        self.seq += 1;
        fact.at_us = self.at.0;
        let mut body = self.hash.to_vec();
        // A fact is plain strings and numbers: it always serialises.
        body.extend(serde_json::to_vec(&fact).expect("a fact serialises"));
        let key = keys::ledger(self.at, self.seq).to_vec();
        let record = wrap(&body);
        self.hash = link(&key, &record);
        (key, record)
    }
}

/// The hash that the next fact carries.
fn link(key: &[u8], record: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(key).update(record).finalize().as_bytes()
}

/// Reads one record: the hash of the fact before it, and the fact.
pub(super) fn decode(record: &[u8]) -> Result<([u8; 32], Fact), Damaged> {
    let (previous, json) = unwrap_body(record)?.split_first_chunk::<32>().ok_or(Damaged)?;
    Ok((*previous, serde_json::from_slice(json).map_err(|_| Damaged)?))
}

impl super::Spool {
    /// The last facts of the ledger, newest last; only those of one instance when it is named.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn facts(&self, instance: Option<InstanceId>, limit: usize) -> Result<Vec<Fact>, super::ReadError> {
        let wanted = instance.map(|id| id.to_string());
        // An id begins with the time its file was made: no fact of it is older.
        let since = instance.map_or(0, |id| {
            id.0[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        });
        self.read(move |db| {
            let mut facts = Vec::new();
            db.scan_back(Cf::Ledger, |_, value| {
                let Ok((_, fact)) = decode(value) else {
                    return true;
                };
                let old = fact.at_us < since;
                if !old && facts.len() < limit && (wanted.is_none() || fact.instance == wanted) {
                    facts.push(fact);
                }
                !old && facts.len() < limit
            })?;
            facts.reverse();
            Ok(facts)
        })
        .await
    }
}

/// Walks the chain; answers how many facts it holds, and the sequence numbers where it does not hold together.
pub(super) fn verify(db: &Db) -> Result<(u64, Vec<u64>), DbError> {
    let (mut count, mut broken, mut expected, mut last) = (0, Vec::new(), [0; 32], 0);
    db.scan(Cf::Ledger, &[], &[], |key, value| {
        count += 1;
        let seq = keys::ledger_of(key).map_or(0, |(_, seq)| seq);
        let sound = decode(value).is_ok_and(|(previous, _)| previous == expected);
        if (!sound || seq != last + 1) && broken.len() < 1_000 {
            broken.push(seq);
        }
        (expected, last) = (link(key, value), seq);
        true
    })?;
    Ok((count, broken))
}
