//! C-STOREs that were not taken, by source, study and status: counted in memory and written on the ledger once a minute and at an
//! orderly end, so that a flood of refusals costs the disk one line. A crash loses the last minute's. Told by the listener.
use super::Spool;
use super::ledger::{Detail, Fact, FactKind, Refusals};
use super::model::CommitError;
use crate::base::names::{SourceId, Uid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Source, study and status word.
type About = (SourceId, Option<Uid>, String);

/// What came together since the last writing.
#[derive(Default)]
pub(super) struct Tally {
    counted: Mutex<BTreeMap<About, Counted>>,
    /// The last that were refused for want of resources, so that a source that asks for their commitment is told why they are
    /// not here. In memory only: after a restart they are merely not here.
    no_room: Mutex<NoRoom>,
}

/// The youngest of those that had no room.
#[derive(Default)]
struct NoRoom {
    known: BTreeSet<(SourceId, Uid)>,
    order: VecDeque<(SourceId, Uid)>,
}

#[derive(Default)]
struct Counted {
    count: u64,
    sop_instances: Vec<String>,
}

/// Studies and statuses that are told apart at a time; more are counted by source and status alone.
const APART_MAX: usize = 256;
/// SOP Instance UIDs that a line names.
const NAMED_MAX: usize = 64;
/// Instances that are remembered as refused for want of resources.
const NO_ROOM_MAX: usize = 4_096;
/// PS3.4 B.2.3: out of resources.
const NO_ROOM: &str = "A700";

impl Tally {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<About, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was no room for an instance when it came. Asked of instances that are not here.
    pub(super) fn had_no_room(&self, source: &SourceId, sop_instance: &Uid) -> bool {
        let all = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        all.known.contains(&(source.clone(), sop_instance.clone()))
    }

    fn note_no_room(&self, source: &SourceId, sop_instance: &Uid) {
        let mut all = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        let one = (source.clone(), sop_instance.clone());
        if all.known.insert(one.clone()) {
            all.order.push_back(one);
        }
        if all.order.len() > NO_ROOM_MAX
            && let Some(oldest) = all.order.pop_front()
        {
            all.known.remove(&oldest);
        }
    }

    fn add(&self, (source, study, status): About, sop_instance: Option<&Uid>) {
        let mut all = self.lock();
        let mut about = (source, study, status);
        if all.len() >= APART_MAX && !all.contains_key(&about) {
            about.1 = None;
        }
        let counted = all.entry(about).or_default();
        counted.count += 1;
        if let Some(uid) = sop_instance
            && counted.sop_instances.len() < NAMED_MAX
        {
            counted.sop_instances.push(uid.to_string());
        }
    }

    /// What has come together, as facts.
    pub(super) fn take(&self) -> Vec<Fact> {
        let all = std::mem::take(&mut *self.lock());
        all.into_iter().map(fact).collect()
    }

    /// The facts were not written: they are counted again.
    pub(super) fn put_back(&self, facts: Vec<Fact>) {
        let mut all = self.lock();
        for fact in facts {
            let Some(Detail::Refused(refused)) = fact.detail.map(|detail| *detail) else {
                continue;
            };
            let study = refused.study.and_then(|study| Uid::parse(&study).ok());
            let counted = all.entry((refused.source, study, refused.status)).or_default();
            counted.count += refused.count;
            counted.sop_instances.extend(refused.sop_instances);
            counted.sop_instances.truncate(NAMED_MAX);
        }
    }
}

fn fact(((source, study, status), counted): (About, Counted)) -> Fact {
    let text = format!("{source}: {} answered {status}", counted.count);
    Fact::new(FactKind::Refused)
        .text(text)
        .detail(Detail::Refused(Refusals {
            source,
            study: study.map(|study| study.to_string()),
            status,
            count: counted.count,
            sop_instances: counted.sop_instances,
        }))
}

impl Spool {
    /// A C-STORE of this source was not taken: the status word that was answered, or `cut` when the association broke off.
    pub fn refused(&self, source: &SourceId, study: Option<Uid>, sop_instance: Option<&Uid>, status: &str) {
        if let Some(uid) = sop_instance.filter(|_| status == NO_ROOM) {
            self.core.tally.note_no_room(source, uid);
        }
        let about = (source.clone(), study, status.to_owned());
        self.core.tally.add(about, sop_instance);
    }

    /// Writes what was refused on the ledger now.
    ///
    /// # Errors
    /// Nothing was recorded; it is counted still.
    pub async fn flush_refused(&self) -> Result<(), CommitError> {
        let facts = self.core.tally.take();
        if facts.is_empty() {
            return Ok(());
        }
        let noted = self.note(facts.clone()).await;
        if noted.is_err() {
            self.core.tally.put_back(facts);
        }
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_that_had_no_room_are_known() {
        let (tally, ct) = (Tally::default(), SourceId::parse("ct1").unwrap());
        let uid = |number: usize| Uid::parse(&format!("2.{number}")).unwrap();
        for number in 0..=NO_ROOM_MAX {
            tally.note_no_room(&ct, &uid(number));
            tally.note_no_room(&ct, &uid(number));
        }
        assert!(tally.had_no_room(&ct, &uid(1)) && tally.had_no_room(&ct, &uid(NO_ROOM_MAX)));
        assert!(!tally.had_no_room(&ct, &uid(0)), "one too many");
        assert!(!tally.had_no_room(&SourceId::parse("mr").unwrap(), &uid(1)));
    }

    #[test]
    fn refusals_come_together_by_study_and_status_within_bounds() {
        let (tally, source) = (Tally::default(), SourceId::parse("ct1").unwrap());
        let about = |study: usize, status: &str| {
            let study = Uid::parse(&format!("1.{study}")).unwrap();
            (source.clone(), Some(study), status.to_owned())
        };
        for number in 0..1_000 {
            let uid = Uid::parse(&format!("2.{number}")).unwrap();
            tally.add(about(number % 400, "A700"), Some(&uid));
        }
        let facts = tally.take();
        assert_eq!(facts.len(), APART_MAX + 1);
        tally.put_back(facts);
        tally.add(about(1, "cut"), None);
        let refused: Vec<Refusals> = tally
            .take()
            .into_iter()
            .filter_map(|fact| match fact.detail.map(|detail| *detail) {
                Some(Detail::Refused(refused)) => Some(refused),
                _ => None,
            })
            .collect();
        assert_eq!(refused.iter().map(|one| one.count).sum::<u64>(), 1_001);
        assert!(refused.iter().all(|one| one.sop_instances.len() <= NAMED_MAX));
        assert!(refused.iter().any(|one| one.study.is_none()) && refused.iter().any(|one| one.status == "cut"));
    }
}
