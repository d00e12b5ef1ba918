//! What was refused, or cut, on a day, and has not come again since: instance by instance where they are named. Those without a name are
//! held against what has come of their study: they differ as far as fewer instances have come since than were refused.
use super::report::{Difference, DifferenceKind as Kind, Report};
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use crate::base::phi::Phi;
use crate::spool::{By, ReadError, Refusals, Spool};
use std::collections::{BTreeMap, BTreeSet};

/// Instances of a study, or of one UID, that are looked at.
const CAME_MAX: usize = 100_000;

/// Kind, source, study and status.
type About = (Kind, String, Option<String>, String);

/// The refusals of a day.
#[derive(Default)]
pub(super) struct Refused(BTreeMap<About, Missing>);

#[derive(Default)]
struct Missing {
    named: BTreeSet<String>,
    /// Those without a name, and when their line was written.
    unnamed: Vec<(Wall, u64)>,
}

impl Refused {
    /// A line of the ledger, written at `at`.
    pub(super) fn add(&mut self, at: Wall, line: &Refusals) {
        let kind = if line.status == "cut" { Kind::Cut } else { Kind::Refused };
        let about = (kind, line.source.to_string(), line.study.clone(), line.status.clone());
        let missing = self.0.entry(about).or_default();
        missing.named.extend(line.sop_instances.iter().cloned());
        let unnamed = line.count.saturating_sub(line.sop_instances.len() as u64);
        if unnamed > 0 {
            missing.unnamed.push((at, unnamed));
        }
    }

    /// Those that have not come again become differences of the report.
    ///
    /// # Errors
    /// The index cannot be read.
    pub(super) async fn differ(self, spool: &Spool, report: &mut Report) -> Result<(), ReadError> {
        for ((kind, source, study, status), missing) in self.0 {
            let (named, unnamed) = missing.still(spool, study.as_deref()).await?;
            let blank = Difference {
                kind,
                count: 1,
                instance: None,
                sop_instance: None,
                study,
                source: Some(source),
                destination: None,
                job: None,
                text: match kind {
                    Kind::Cut => "its association broke off, and it has not come again: have it sent again".to_owned(),
                    _ => format!("answered {status}, and it has not come again: have it sent again"),
                },
            };
            for uid in named {
                report.differ(Difference {
                    sop_instance: Some(uid),
                    ..blank.clone()
                });
            }
            if unnamed > 0 {
                let text = format!("{} (of these the UIDs are not known)", blank.text);
                report.differ(Difference {
                    count: unnamed,
                    text,
                    ..blank
                });
            }
        }
        Ok(())
    }
}

impl Missing {
    /// The named that have not come, and how many of the others.
    async fn still(self, spool: &Spool, study: Option<&str>) -> Result<(Vec<String>, u64), ReadError> {
        let Self { named, mut unnamed } = self;
        // Late lines come behind the others.
        unnamed.sort_unstable();
        let (mut missing, mut came_named) = (Vec::new(), BTreeSet::new());
        // One is enough to see that it has come; all of them are needed only to tell the others by.
        let limit = if unnamed.is_empty() { 1 } else { CAME_MAX };
        for uid in named {
            let found = spool.traced_by(&[By::Sop], &Phi::new(uid.clone()), None, limit).await?;
            if found.instances.is_empty() {
                missing.push(uid);
            }
            came_named.extend(found.instances);
        }
        let mut came = Vec::new();
        if let (Some(study), Some((first, _))) = (study, unnamed.first()) {
            let study = Phi::new(study.to_owned());
            let found = spool
                .traced_by(&[By::Study], &study, Some(behind(*first)), CAME_MAX)
                .await?;
            came = found.instances;
            came.retain(|id| !came_named.contains(id));
        }
        Ok((missing, lacking(&unnamed, &came)))
    }
}

/// The last id of what came at a time.
fn behind(at: Wall) -> InstanceId {
    InstanceId::new(at.0, u64::MAX)
}

/// How many more were refused than have come after their line, looked at from each line on: what came between two lines does not
/// stand for what was refused after it. Both in the order of time.
fn lacking(refused: &[(Wall, u64)], came: &[InstanceId]) -> u64 {
    let (mut sum, mut most) = (0_u64, 0);
    for (at, count) in refused.iter().rev() {
        sum += count;
        let since = came.len() - came.partition_point(|id| *id <= behind(*at));
        most = sum.saturating_sub(since as u64).max(most);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_without_a_name_differ_as_far_as_fewer_of_their_study_came_since() {
        let line = |at: u64, count| (Wall(at), count);
        let came = |at: u64, count: u64| (0..count).map(move |random| InstanceId::new(at, random));
        let table = [
            (vec![], vec![], 0),
            (vec![line(10, 36)], vec![], 36),
            (vec![line(10, 36)], came(20, 36).collect(), 0),
            (vec![line(10, 36)], came(20, 30).collect(), 6),
            // What was taken before is not what was refused.
            (vec![line(10, 36)], came(9, 64).collect(), 36),
            (vec![line(10, 36)], came(9, 64).chain(came(20, 35)).collect(), 1),
            // More than one line can name, over minutes, and all of it came.
            (vec![line(10, 5), line(70, 7)], came(80, 12).collect(), 0),
            (vec![line(10, 5), line(70, 7)], came(80, 11).collect(), 1),
            // The first came between, and nothing of the second.
            (vec![line(10, 5), line(70, 7)], came(20, 5).collect(), 7),
            (vec![line(10, 5), line(70, 7)], came(20, 9).collect(), 7),
        ];
        for (refused, came, wanted) in table {
            assert_eq!(lacking(&refused, &came), wanted, "{refused:?} {}", came.len());
        }
    }

    #[test]
    fn lines_of_one_study_are_one_and_a_retry_is_named_once() {
        let line = |uids: &[&str], count, status: &str| Refusals {
            source: "ct1".to_owned().try_into().unwrap(),
            study: Some("1.2".to_owned()),
            status: status.to_owned(),
            count,
            sop_instances: uids.iter().map(|uid| (*uid).to_owned()).collect(),
        };
        let mut refused = Refused::default();
        refused.add(Wall(1), &line(&["1.1", "1.2"], 2, "A700"));
        refused.add(Wall(2), &line(&["1.1", "1.3"], 5, "A700"));
        refused.add(Wall(2), &line(&["1.1"], 1, "cut"));
        let kinds: Vec<Kind> = refused.0.keys().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [Kind::Refused, Kind::Cut]);
        let missing = refused.0.first_entry().unwrap().remove();
        assert_eq!((missing.named.len(), missing.unnamed), (3, vec![(Wall(2), 3)]));
    }
}
