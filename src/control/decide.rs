//! `release` of jobs that a rule failed on, named no destination for, gave an edit that cannot be made, or that a word could not do
//! its work on: the rules in force decide anew. Mend the rule or the table, release, done. And `reroute` of a job without
//! destination: the rules make its edits for the destination that a person chose.
use super::protocol::{Filter, Release};
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

/// How many jobs were decided anew, of how many.
#[derive(Clone, Copy, Default)]
pub(super) struct Decided {
    /// Those held for one of the kinds: the others are counted with the jobs that the verb is about.
    pub(super) matched: u64,
    /// Have a destination now, and are not held, or are where a person wanted them.
    pub(super) changed: u64,
    /// Of these: held where a person wanted them.
    pub(super) held: u64,
}

impl Release {
    /// Held for one of these, a job with a destination is decided anew, and never let go as it is.
    pub(super) fn anew(self) -> &'static [HoldKind] {
        match self {
            Self::Plain => &[HoldKind::Incomplete, HoldKind::Edit],
            Self::Anew => &[HoldKind::Incomplete, HoldKind::Edit, HoldKind::Rule],
            Self::AsDecided => &[],
        }
    }
}

impl Verbs {
    /// Lets the rules in force decide on what the filter means and they have not, or not well, decided on: jobs without
    /// destination, and jobs that are held for one of `kinds`. `only`: the one destination that a person has chosen.
    /// At most `LIMIT_MAX` of each kind at a time. What the rules still cannot decide stays held, with today's reason.
    pub(super) async fn decide_anew(
        &self,
        who: &str,
        filter: &Filter,
        kinds: &[HoldKind],
        only: Option<&DestinationId>,
    ) -> Result<Decided, ReadError> {
        let undecided = spool::Filter {
            undecided: true,
            ..meant(filter)
        };
        // Taken before the first is decided: what is held again is not decided twice.
        let mut rows = self.spool.list(undecided, None, LIMIT_MAX).await?;
        let mut decided = Decided::default();
        let may_be_held = filter.state.is_none_or(|state| state == JobState::Held);
        for kind in kinds.iter().copied().filter(|_| may_be_held) {
            if filter.kind.is_some_and(|wanted| wanted != kind) {
                continue;
            }
            let held = spool::Filter {
                state: Some(JobState::Held),
                kind: Some(kind),
                decided: true,
                ..meant(filter)
            };
            rows.extend(self.spool.list(held, None, LIMIT_MAX).await?);
        }
        let of_kinds = |row: &&spool::Row| row.hold.as_ref().is_some_and(|hold| kinds.contains(&hold.kind));
        decided.matched = rows.iter().filter(of_kinds).count() as u64;
        for row in rows {
            let fate = self.decide_one(who, row, only).await;
            decided.changed += u64::from(fate != Fate::Left);
            decided.held += u64::from(fate == Fate::Held);
        }
        Ok(decided)
    }

    /// The jobs that the rules in force make of a row's instance. A job that a person has rerouted stays where he sent it: it gets
    /// the edits for that destination, and what the rules hold on purpose stays held.
    async fn jobs(
        &self,
        row: &spool::Row,
        instance: Arc<Instance>,
        only: Option<&DestinationId>,
    ) -> Result<(Vec<NewJob>, u64), ReadError> {
        if let (None, Some(to)) = (only, &row.destination)
            && self.spool.was_rerouted(row.job, instance.clone()).await?
        {
            let (mut jobs, epoch) = (self.decide)(instance.clone(), Some(to.clone())).await?;
            let (whole, _) = (self.decide)(instance, None).await?;
            let held = whole.into_iter().filter_map(|job| job.hold);
            let held = held.into_iter().find(|hold| hold.kind == HoldKind::Rule);
            for job in &mut jobs {
                job.hold = job.hold.take().or_else(|| held.clone());
            }
            return Ok((jobs, epoch));
        }
        (self.decide)(instance, only.cloned()).await
    }

    async fn decide_one(&self, who: &str, row: spool::Row, only: Option<&DestinationId>) -> Fate {
        let (job, Some(instance)) = (row.job, row.instance.clone()) else {
            return Fate::Left;
        };
        let (jobs, epoch) = match self.jobs(&row, instance, only).await {
            Ok(decided) => decided,
            Err(error) => {
                tracing::warn!(%job, %error, "a held instance could not be read to decide on it anew");
                return Fate::Left;
            }
        };
        let routed = jobs.iter().any(|job| job.destination.is_some() && job.hold.is_none());
        let made = match only {
            Some(_) => self.spool.reroute_undecided(job, jobs, epoch, who).await,
            None => self.spool.redecide(job, jobs, epoch, who).await,
        };
        match made {
            Ok(made) => self.fate(&made, routed, only).await,
            Err(error) => {
                tracing::warn!(%job, %error, "a new decision on a held instance could not be recorded");
                Fate::Left
            }
        }
    }

    /// What has become of these jobs: the spool may have held them, as `conflict` or as they were held before, or made nothing of what
    /// a person did not want. None at all have been delivered by a resend.
    async fn fate(&self, made: &[JobId], routed: bool, only: Option<&DestinationId>) -> Fate {
        let mut fate = if made.is_empty() && routed {
            Fate::Free
        } else {
            Fate::Left
        };
        for job in made {
            let row = self.spool.show(*job).await.ok().flatten();
            match row.filter(|row| row.hold.is_some()) {
                None if routed => fate = Fate::Free,
                Some(row) if fate == Fate::Left && only.is_some() && row.destination.as_ref() == only => {
                    fate = Fate::Held
                }
                None | Some(_) => {}
            }
        }
        fate
    }
}

/// What a new decision makes of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is held as before, or for today's reason.
    Left,
    Free,
    /// It is where a person wanted it, and held there.
    Held,
}
