//! `release` of jobs that have no destination, because a rule failed or named none: the rules in force decide anew.
//! Mend the rule, release, done.
use super::protocol::Filter;
use super::verbs::{LIMIT_MAX, Verbs, meant};
use crate::base::names::JobId;
use crate::spool::{self, Instance, NewJob, ReadError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What the rules in force make of an instance in the spool: its jobs, and the epoch of the rules.
pub type Decide = Arc<dyn Fn(Arc<Instance>) -> Deciding + Send + Sync>;
pub type Deciding = Pin<Box<dyn Future<Output = Result<(Vec<NewJob>, u64), ReadError>> + Send>>;

impl Verbs {
    /// Decides anew on what the filter means and has no destination; answers how many have one now. At most `LIMIT_MAX` at a
    /// time. What the rules still cannot decide stays held, with today's reason.
    pub(super) async fn decide_undecided(&self, who: &str, filter: &Filter) -> Result<u64, ReadError> {
        let undecided = spool::Filter {
            undecided: true,
            ..meant(filter)
        };
        // Taken before the first is decided: what is held again is not decided twice.
        let rows = self.spool.list(undecided, None, LIMIT_MAX).await?;
        let mut changed = 0;
        for row in rows {
            let Some(instance) = row.instance else { continue };
            changed += u64::from(self.decide_one(who, row.job, instance).await);
        }
        Ok(changed)
    }

    async fn decide_one(&self, who: &str, job: JobId, instance: Arc<Instance>) -> bool {
        let (jobs, epoch) = match (self.decide)(instance).await {
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
