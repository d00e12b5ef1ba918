//! C-STOREs that were not taken, by source, study and status: counted in memory and written on the ledger once a minute and at an
//! orderly end: lines of `LINE_MAX` UIDs each, so that every instance is named, up to `NAMED_MAX` a minute; what is beyond is counted,
//! so that a flood of refusals costs the disk no more than that. A crash loses the last minute's. Told by the listener.
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
    counted: Mutex<Refused>,
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
struct Refused {
    about: BTreeMap<About, Counted>,
    /// UIDs in all of them.
    named: usize,
}

#[derive(Default)]
struct Counted {
    count: u64,
    sop_instances: Vec<String>,
}

/// Studies and statuses that are told apart at a time; more are counted by source and status alone.
const APART_MAX: usize = 256;
/// SOP Instance UIDs that one line names.
const LINE_MAX: usize = 64;
/// SOP Instance UIDs that are named at a time, by all lines together: a mebibyte at most.
const NAMED_MAX: usize = 16_384;
/// Instances that are remembered as refused for want of resources.
const NO_ROOM_MAX: usize = 4_096;
/// PS3.4 B.2.3: out of resources.
const NO_ROOM: &str = "A700";

impl Refused {
    fn add(&mut self, about: About, count: u64, sop_instances: impl IntoIterator<Item = String>) {
        let counted = self.about.entry(about).or_default();
        counted.count += count;
        for uid in sop_instances.into_iter().take(NAMED_MAX - self.named) {
            counted.sop_instances.push(uid);
            self.named += 1;
        }
    }
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Refused> {
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
        if all.about.len() >= APART_MAX && !all.about.contains_key(&about) {
            about.1 = None;
        }
        all.add(about, 1, sop_instance.map(ToString::to_string));
    }

    /// What has come together, as facts.
    pub(super) fn take(&self) -> Vec<Fact> {
        let all = std::mem::take(&mut *self.lock());
        all.about.into_iter().flat_map(facts).collect()
    }

    /// The facts were not written: they are counted again.
    pub(super) fn put_back(&self, facts: Vec<Fact>) {
        let mut all = self.lock();
        for fact in facts {
            let Some(Detail::Refused(refused)) = fact.detail.map(|detail| *detail) else {
                continue;
            };
            let study = refused.study.and_then(|study| Uid::parse(&study).ok());
            let about = (refused.source, study, refused.status);
            all.add(about, refused.count, refused.sop_instances);
        }
    }
}

/// As many lines as it takes to name them; the last one counts those without a name as well.
fn facts(((source, study, status), counted): (About, Counted)) -> Vec<Fact> {
    let lines = counted.sop_instances.len().div_ceil(LINE_MAX).max(1);
    let mut left = counted.count;
    let mut uids = counted.sop_instances.into_iter();
    let line = |number: usize| {
        let sop_instances: Vec<String> = uids.by_ref().take(LINE_MAX).collect();
        let count = match number + 1 == lines {
            true => left,
            false => sop_instances.len() as u64,
        };
        left = left.saturating_sub(count);
        Fact::new(FactKind::Refused)
            .text(format!("{source}: {count} answered {status}"))
            .detail(Detail::Refused(Refusals {
                source: source.clone(),
                study: study.as_ref().map(ToString::to_string),
                status: status.clone(),
                count,
                sop_instances,
            }))
    };
    (0..lines).map(line).collect()
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
        let studies: BTreeSet<Option<String>> = refusals(&facts).into_iter().map(|one| one.study).collect();
        assert_eq!(studies.len(), APART_MAX + 1);
        tally.put_back(facts);
        tally.add(about(1, "cut"), None);
        let refused = refusals(&tally.take());
        assert_eq!(refused.iter().map(|one| one.count).sum::<u64>(), 1_001);
        assert_eq!(refused.iter().map(|one| one.sop_instances.len()).sum::<usize>(), 1_000);
        assert!(refused.iter().all(|one| one.sop_instances.len() <= LINE_MAX));
        assert!(refused.iter().any(|one| one.study.is_none()) && refused.iter().any(|one| one.status == "cut"));
    }

    fn refusals(facts: &[Fact]) -> Vec<Refusals> {
        let of = |fact: &Fact| match fact.detail.as_deref() {
            Some(Detail::Refused(refused)) => Some(refused.clone()),
            _ => None,
        };
        facts.iter().filter_map(of).collect()
    }

    #[test]
    fn every_refused_instance_is_named_however_many_lines_it_takes_and_a_flood_is_bounded() {
        let (tally, source) = (Tally::default(), SourceId::parse("ct1").unwrap());
        let about = || (source.clone(), Some(Uid::known("1.2")), "A700".to_owned());
        let uid = |number: usize| Uid::parse(&format!("2.{number}")).unwrap();
        (0..1_000).for_each(|number| tally.add(about(), Some(&uid(number))));
        tally.put_back(tally.take());
        let lines = refusals(&tally.take());
        assert_eq!(lines.len(), 1_000_usize.div_ceil(LINE_MAX));
        assert!(lines.iter().all(|line| line.count == line.sop_instances.len() as u64));
        let named: BTreeSet<String> = lines.into_iter().flat_map(|line| line.sop_instances).collect();
        assert_eq!(named, (0..1_000).map(|number| uid(number).to_string()).collect());
        // More than can be named are counted still.
        (0..NAMED_MAX + 10).for_each(|number| tally.add(about(), Some(&uid(number))));
        let lines = refusals(&tally.take());
        let named: usize = lines.iter().map(|line| line.sop_instances.len()).sum();
        let counted: u64 = lines.iter().map(|line| line.count).sum();
        assert_eq!((named, counted), (NAMED_MAX, NAMED_MAX as u64 + 10));
        assert!(tally.take().is_empty());
    }
}
