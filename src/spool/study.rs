//! What is remembered of a study: its first values, when it began, when its last instance came, how many came.
//!
//! Written in the batch of the instance itself, so it is neither ahead of nor behind what was acknowledged. The values are
//! opaque here (the rules say which they are) and patient data: they stand in the index and nowhere else. The first instance
//! that commits a value wins; it never changes after. Forgotten `study_memory` after the study's last instance.
use super::codec::{Damaged, Reader, Writer};
use super::db::{Cf, Db, DbError};
use super::forget::Family;
use super::keys;
use super::model::{CommitError, ReadError};
use super::record::InstanceRecord;
use super::txn::Txn;
use crate::base::clock::Wall;
use crate::base::names::Uid;
use crate::base::phi::Phi;

/// What was seen of a study before an instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StudySeen {
    /// The first value that is not empty, in the places that the caller of `commit` gave them; `""` for none yet.
    pub values: Vec<Phi<String>>,
    pub first: Wall,
    pub last: Wall,
    /// SOP instances, each counted once while it is known as a repeat.
    pub instances: u64,
    pub bytes: u64,
}

/// What an instance says of its study, and what the decision about it took for granted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StudyNote {
    /// This instance's own values.
    pub values: Vec<Phi<String>>,
    /// The study's values by which it was decided; `None` when they did not matter. When others have come to stand there
    /// meanwhile, nothing is recorded and the caller decides again.
    pub believed: Option<Vec<Phi<String>>>,
}

/// As it lies in the index, before the study's instances.
pub(super) type StudyRecord = StudySeen;

/// Values of one study, and the bytes of one. A longer one is not remembered.
const VALUES_MAX: usize = 16;
const VALUE_MAX: usize = 1_024;

impl StudyRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.first.0);
        w.u64(self.last.0);
        w.u64(self.instances);
        w.u64(self.bytes);
        w.u8(u8::try_from(self.values.len()).unwrap_or(0));
        for value in &self.values {
            w.long(value.expose().as_bytes());
        }
        w.finish()
    }

    pub(super) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut record = Self {
            first: Wall(r.u64()?),
            last: Wall(r.u64()?),
            instances: r.u64()?,
            bytes: r.u64()?,
            values: Vec::new(),
        };
        for _ in 0..r.u8()? {
            record.values.push(Phi::new(r.text()?));
        }
        r.end()?;
        Ok(record)
    }

    fn fill(&mut self, values: &[Phi<String>]) {
        for (at, value) in values.iter().take(VALUES_MAX).enumerate() {
            if self.values.len() <= at {
                self.values.push(Phi::default());
            }
            let text = value.expose();
            if self.values[at].expose().is_empty() && text.len() <= VALUE_MAX {
                self.values[at] = value.clone();
            }
        }
    }
}

/// Whether two sets of values are the same; what is missing at the end is empty.
fn same(a: &[Phi<String>], b: &[Phi<String>]) -> bool {
    let value = |all: &[Phi<String>], at: usize| all.get(at).map_or(String::new(), |value| value.expose().clone());
    (0..a.len().max(b.len())).all(|at| value(a, at) == value(b, at))
}

/// What the study has come to be, when it is not what the decision believed.
pub(super) fn overtaken(
    txn: &mut Txn<'_>,
    study: Option<&Uid>,
    note: &StudyNote,
) -> Result<Option<StudySeen>, CommitError> {
    let (Some(study), Some(believed)) = (study, &note.believed) else {
        return Ok(None);
    };
    let now = txn.study(study)?.unwrap_or_default();
    Ok((!same(&now.values, believed)).then_some(now))
}

/// An instance has come. `counts`: it is the first content under its SOP Instance UID.
pub(super) fn came(
    txn: &mut Txn<'_>,
    record: &InstanceRecord,
    values: &[Phi<String>],
    counts: bool,
) -> Result<(), CommitError> {
    let Some(study) = record.instance.study.clone() else {
        return Ok(());
    };
    let mut seen = txn.study(&study)?.unwrap_or(StudySeen {
        first: record.instance.arrival,
        ..StudySeen::default()
    });
    // The time of the commit, not of the arrival: jobs count their waiting from it.
    seen.last = seen.last.max(txn.now);
    if counts {
        seen.instances += 1;
        seen.bytes = seen.bytes.saturating_add(record.instance.length);
    }
    seen.fill(values);
    txn.put_study(&study, &seen);
    Ok(())
}

/// An instance was found again whose study the index does not know. One that it knows has counted it.
pub(super) fn found(txn: &mut Txn<'_>, record: &InstanceRecord, fresh: &mut Fresh) -> Result<(), CommitError> {
    let Some(study) = &record.instance.study else {
        return Ok(());
    };
    let key = keys::study_prefix(study);
    let known = txn.study(study)?;
    if known.is_some() && !fresh.0.contains(&key) {
        return Ok(());
    }
    fresh.0.insert(key);
    let mut seen = known.unwrap_or(StudySeen {
        first: record.instance.arrival,
        ..StudySeen::default()
    });
    seen.first = seen.first.min(record.instance.arrival);
    seen.last = seen.last.max(record.instance.arrival);
    seen.instances += 1;
    seen.bytes = seen.bytes.saturating_add(record.instance.length);
    txn.put_study(study, &seen);
    Ok(())
}

/// Studies that were not known before a recovery began. As many as there are studies in the files.
#[derive(Default)]
pub(super) struct Fresh(std::collections::HashSet<[u8; 16]>);

/// Puts values in where none stand: an instance was read anew after its study's record was lost.
pub(super) fn remember(txn: &mut Txn<'_>, study: &Uid, values: &[Phi<String>]) -> Result<(), CommitError> {
    let Some(before) = txn.study(study)? else {
        return Ok(());
    };
    let mut seen = before.clone();
    seen.fill(values);
    if seen != before {
        txn.put_study(study, &seen);
    }
    Ok(())
}

/// Studies; what else lies in their column family are their instances, which leave with the cache.
pub(super) const FAMILY: Family = Family {
    cf: Cf::Study,
    prefix: &[],
    is_old: |key, raw, before| keys::is_study(key) && StudyRecord::decode(raw).map_or(true, |seen| seen.last < before),
    forget: |txn, key, raw| {
        match StudyRecord::decode(&raw) {
            Ok(_) => txn.delete(Cf::Study, key),
            Err(Damaged) => txn.quarantine(Cf::Study, &key, raw),
        }
        Ok(())
    },
};

/// An unreadable record tells nothing; the next commit puts it into quarantine.
fn look_up(db: &Db, key: &[u8]) -> Result<Option<StudySeen>, DbError> {
    let raw = db.get(Cf::Study, key)?;
    Ok(raw.and_then(|raw| StudyRecord::decode(&raw).ok()))
}

impl super::Spool {
    /// What is remembered of a study; `None` when nothing is.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn study_seen(&self, study: &Uid) -> Result<Option<StudySeen>, ReadError> {
        let key = keys::study_prefix(study);
        self.read(move |db| look_up(db, &key)).await
    }

    /// The same on the calling thread, which may block.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn study_seen_now(&self, study: &Uid) -> Result<Option<StudySeen>, ReadError> {
        super::read_now(&self.core, |db| look_up(db, &keys::study_prefix(study)))
    }

    /// Gives a study the values that it has lost; those that stand stay.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn remember_study(&self, study: &Uid, values: Vec<Phi<String>>) -> Result<(), CommitError> {
        let study = study.clone();
        self.submit(move |txn| remember(txn, &study, &values)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phi(texts: &[&str]) -> Vec<Phi<String>> {
        texts.iter().map(|text| Phi::new((*text).to_owned())).collect()
    }

    #[test]
    fn a_record_reads_back_and_the_first_value_stays() {
        let mut seen = StudySeen {
            first: Wall(1),
            last: Wall(2),
            instances: 3,
            bytes: 4,
            ..StudySeen::default()
        };
        seen.fill(&phi(&["123", ""]));
        seen.fill(&phi(&["124", "A1", "x"]));
        assert_eq!(seen.values, phi(&["123", "A1", "x"]));
        assert_eq!(StudyRecord::decode(&seen.encode()), Ok(seen.clone()));
        seen.fill(&phi(&["", "", "", &"y".repeat(VALUE_MAX + 1)]));
        assert_eq!(seen.values, phi(&["123", "A1", "x", ""]));
        assert!(same(&phi(&["1"]), &phi(&["1", ""])) && !same(&phi(&["1"]), &phi(&["1", "2"])));
    }
}
