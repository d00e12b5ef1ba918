//! What rules put in place of a value by which others will ask: accession numbers and UIDs. An order, a report or an archive
//! names what was written; this answers what the modality had sent, and the other way round.
//!
//! Written in the batch of the instance itself. The values are patient data: they stand in the index, are shown to the operator
//! who asks, and are never logged. Forgotten `map_memory` after they were last used.
use super::codec::{Damaged, Reader, Writer};
use super::db::Cf;
use super::forget::Family;
use super::keys;
use super::model::{CommitError, ReadError};
use super::trace::{self, Trait};
use super::txn::Txn;
use crate::base::clock::Wall;
use crate::base::names::{InstanceId, SourceId};
use crate::base::phi::Phi;

/// A value that was written, and what had been sent in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    /// What kind of value, as `accession` or `uid`: at most 64 letters.
    pub kind: &'static str,
    pub sent: Phi<String>,
    pub written: Phi<String>,
}

/// An answer of the map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapped {
    pub sent: Phi<String>,
    pub written: Phi<String>,
    /// Of the first instance that it came with.
    pub source: SourceId,
    pub rule_epoch: u64,
    pub first: Wall,
    /// The last instance that it came with.
    pub last: Wall,
}

/// Answers of one question.
const ANSWERS_MAX: usize = 1_000;

impl Mapped {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.long(self.sent.expose().as_bytes());
        w.long(self.written.expose().as_bytes());
        w.short(self.source.as_str());
        w.u64(self.rule_epoch);
        w.u64(self.first.0);
        w.u64(self.last.0);
        w.finish()
    }

    pub(super) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mapped = Self {
            sent: Phi::new(r.text()?),
            written: Phi::new(r.text()?),
            source: SourceId::parse(r.short()?).map_err(|_| Damaged)?,
            rule_epoch: r.u64()?,
            first: Wall(r.u64()?),
            last: Wall(r.u64()?),
        };
        r.end()?;
        Ok(mapped)
    }
}

/// Records the aliases of one decision.
pub(super) fn record(
    txn: &mut Txn<'_>,
    source: &SourceId,
    rule_epoch: u64,
    aliases: &[Alias],
) -> Result<(), CommitError> {
    for alias in aliases {
        let (sent, written) = (alias.sent.expose(), alias.written.expose());
        let key = keys::alias(alias.kind, written, sent);
        let before = match txn.get(Cf::Meta, &key)? {
            Some(raw) => Mapped::decode(&raw).ok(),
            None => None,
        };
        let mut mapped = before.unwrap_or_else(|| Mapped {
            sent: alias.sent.clone(),
            written: alias.written.clone(),
            source: source.clone(),
            rule_epoch,
            first: txn.now,
            last: txn.now,
        });
        mapped.last = txn.now;
        txn.put(Cf::Meta, key, mapped.encode());
        txn.put(Cf::Meta, keys::alias_back(alias.kind, sent, written), Vec::new());
    }
    Ok(())
}

/// Pairs, both ways: met by the value that was written.
pub(super) const FAMILY: Family = Family {
    cf: Cf::Meta,
    prefix: keys::ALIAS,
    is_old: |_, raw, before| Mapped::decode(raw).map_or(true, |mapped| mapped.last < before),
    forget: |txn, key, raw| {
        txn.delete(Cf::Meta, keys::alias_turned(&key));
        match Mapped::decode(&raw) {
            Ok(_) => txn.delete(Cf::Meta, key),
            Err(Damaged) => txn.quarantine(Cf::Meta, &key, raw),
        }
        Ok(())
    },
};

impl super::Spool {
    /// What had been sent where `value` was written, or with `reverse` what was written where `value` had been sent; the last
    /// used first. One value may have several answers: another source may have sent the same number.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn aliases(&self, kind: &str, value: &str, reverse: bool) -> Result<Vec<Mapped>, ReadError> {
        let prefix = match reverse {
            true => keys::alias_back_prefix(kind, value),
            false => keys::alias_prefix(kind, value),
        };
        let value = value.to_owned();
        self.read(move |db| {
            let mut keys = Vec::new();
            db.scan(Cf::Meta, &prefix, &keys::behind(&prefix), |key, _| {
                keys.push(if reverse { keys::alias_turned(key) } else { key.to_vec() });
                keys.len() < ANSWERS_MAX
            })?;
            let mut found = Vec::new();
            for key in keys {
                let raw = db.get(Cf::Meta, &key)?;
                found.extend(raw.and_then(|raw| Mapped::decode(&raw).ok()));
            }
            // Keys are hashes: two values could share one.
            let asked = |mapped: &Mapped| {
                if reverse {
                    mapped.sent.clone()
                } else {
                    mapped.written.clone()
                }
            };
            found.retain(|mapped| *asked(mapped).expose() == value);
            found.sort_by_key(|mapped| std::cmp::Reverse(mapped.last));
            Ok(found)
        })
        .await
    }

    /// Records the names that a decision outside a commit gave an instance in the spool: what it renamed, and by what the instance can be
    /// traced from now on, beside what it could be before.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn record_names(
        &self,
        source: &SourceId,
        rule_epoch: u64,
        aliases: Vec<Alias>,
        (instance, traits): (InstanceId, Vec<Trait>),
    ) -> Result<(), CommitError> {
        let source = source.clone();
        self.submit(move |txn| {
            record(txn, &source, rule_epoch, &aliases)?;
            trace::add(txn, instance, &traits)
        })
        .await
    }
}
