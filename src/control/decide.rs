//! `release` of jobs that a rule failed on, named no destination for, or gave an edit that cannot be made: the rules in force
//! decide anew. Mend the rule, release, done. And `reroute` of a job without destination: the rules make its edits for the
//! destination that a person chose.
use super::protocol::Filter;
use super::verbs::{LIMIT_MAX, Verbs, meant};
use crate::base::names::{DestinationId, JobId};
use crate::spool::{self, HoldKind, Instance, JobState, NewJob, ReadError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What the rules in force make of an instance in the spool (for one destination, when it is given): its jobs, and the epoch of
/// the rules.
pub type Decide = Arc<dyn Fn(Arc<Instance>, Option<DestinationId>) -> Deciding + Send + Sync>;
pub type Deciding = Pin<Box<dyn Future<Output = Result<(Vec<NewJob>, u64), ReadError>> + Send>>;

impl Verbs {
    /// Lets the rules in force decide on what the filter means and they have not, or not well, decided on: jobs without
    /// destination, and jobs whose edits could not be made. `only`: the one destination that a person has chosen.
    /// Answers how many have a destination now. At most `LIMIT_MAX` at a time. What the rules still cannot decide stays held, with
    /// today's reason.
    pub(super) async fn decide_anew(
        &self,
        who: &str,
        filter: &Filter,
        only: Option<&DestinationId>,
    ) -> Result<u64, ReadError> {
        let held = spool::Filter {
            state: Some(JobState::Held),
            ..meant(filter)
        };
        let undecided = spool::Filter {
            undecided: true,
            ..meant(filter)
        };
        // Taken before the first is decided: what is held again is not decided twice.
        let mut rows = self.spool.list(undecided, None, LIMIT_MAX).await?;
        if only.is_none() && filter.kind.is_none_or(|kind| kind == HoldKind::Edit) {
            let edit = spool::Filter {
                kind: Some(HoldKind::Edit),
                ..held
            };
            rows.extend(
                self.spool
                    .list(edit, None, LIMIT_MAX)
                    .await?
                    .into_iter()
                    .filter(|row| row.destination.is_some()),
            );
        }
        let mut changed = 0;
        for row in rows {
            let Some(instance) = row.instance else { continue };
            changed += u64::from(self.decide_one(who, row.job, instance, only).await);
        }
        Ok(changed)
    }

    async fn decide_one(&self, who: &str, job: JobId, instance: Arc<Instance>, only: Option<&DestinationId>) -> bool {
        let (jobs, epoch) = match (self.decide)(instance, only.cloned()).await {
            Ok(decided) => decided,
            Err(error) => {
                tracing::warn!(%job, %error, "a held instance could not be read to decide on it anew");
                return false;
            }
        };
        let routed = jobs.iter().any(|job| job.destination.is_some());
        match self.spool.redecide(job, jobs, epoch, who).await {
            Ok(_) => routed,
            Err(error) => {
                tracing::warn!(%job, %error, "a new decision on a held instance could not be recorded");
                false
            }
        }
    }
}
