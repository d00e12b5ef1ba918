//! Which small objects belong together: those of one study go over one association, in their order, as an archive expects of a
//! report and what it refers to. Called by `admit.rs`, which notes the group beside the due time, and by a claim.
//!
//! While a worker has small objects of a study in hand, no other one gets further ones of it, unless they are urgent, or so many
//! wait that nothing else is in sight: an order within a study must not cost the others their time, nor the study its own.
use super::record::InstanceRecord;
use crate::base::names::JobId;
use std::collections::HashMap;

/// What stands in the value of a due key: nothing, or a study's group.
pub(super) type Group = [u8; 8];

/// The group of an instance: that of its study, when it is small.
pub(super) fn of(record: &InstanceRecord) -> Option<Group> {
    let study = record.instance.study.as_ref()?;
    (record.instance.length <= SMALL_MAX).then(|| {
        let mut group = Group::default();
        group.copy_from_slice(&blake3::hash(study.as_str().as_bytes()).as_bytes()[..8]);
        group
    })
}

/// The group in a due key's value. Entries of older versions have none.
pub(super) fn read(value: &[u8]) -> Option<Group> {
    value.try_into().ok()
}

/// The groups that workers of a lane have in hand.
#[derive(Default)]
pub(super) struct Hands {
    of_job: HashMap<JobId, Group>,
    held: HashMap<Group, (usize, usize)>,
}

impl Hands {
    /// Whether another worker has small objects of the group in hand.
    pub(super) fn elsewhere(&self, group: Option<Group>, worker: Option<usize>) -> bool {
        let held = group.and_then(|group| self.held.get(&group));
        held.is_some_and(|(by, _)| Some(*by) != worker)
    }

    /// Whether any worker has.
    pub(super) fn has(&self, group: Option<Group>) -> bool {
        group.is_some_and(|group| self.held.contains_key(&group))
    }

    /// The worker of each group in hand, for the simulator.
    #[cfg(feature = "planted")]
    pub(super) fn all(&self) -> std::collections::BTreeMap<Group, usize> {
        self.held.iter().map(|(group, (worker, _))| (*group, *worker)).collect()
    }

    pub(super) fn take(&mut self, job: JobId, group: Option<Group>, worker: Option<usize>) {
        if let (Some(group), Some(worker)) = (group, worker) {
            self.of_job.insert(job, group);
            // A group that another worker has stays with that one: this job was urgent, or one of too many.
            self.held.entry(group).or_insert((worker, 0)).1 += 1;
        }
    }

    pub(super) fn give_back(&mut self, job: JobId) {
        let Some(group) = self.of_job.remove(&job) else {
            return;
        };
        if let Some((_, count)) = self.held.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&group);
            }
        }
    }
}

/// What is longer is an image, and fills a line by itself.
const SMALL_MAX: u64 = 64 << 10;
/// Small objects of one study that a worker gets at once.
pub(super) const GROUP_MAX: usize = 32;
/// Jobs of others' groups that a claim passes over. With more of them in front, order gives way to time.
pub(super) const PASSED_MAX: usize = 256;
