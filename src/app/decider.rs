//! Decides anew on what is in the spool already, by the rules in force: after a recovery, and when a person asks.
//! Called by the composition root only; an instance that cannot be read stays held, and nothing is lost here.
use crate::base::names::{DestinationId, JobId};
use crate::dicom::head::Scanner;
use crate::dicom::syntax::Syntax;
use crate::ingest::Ingest;
use crate::rules::Facts;
use crate::spool::{self, Instance, ReadError, Spool};

/// Decides on what is in the spool already, by the rules in force.
#[derive(Clone)]
pub(super) struct Decider {
    pub(super) spool: Spool,
    pub(super) ingest: Ingest,
}

impl Decider {
    /// Until nothing is left that can be decided. What cannot be read stays held, for a person.
    pub(super) async fn decide_recovered(&self) {
        let mut total = 0;
        loop {
            let found = self.spool.recovered(RECOVERED_BATCH).await.unwrap_or_default();
            // Together: their records share synced batches.
            let mut deciding = tokio::task::JoinSet::new();
            let mut decided = 0;
            for (job, instance) in found {
                if deciding.len() >= RECOVERED_TOGETHER {
                    decided += u64::from(matches!(deciding.join_next().await, Some(Ok(true))));
                }
                let decider = self.clone();
                deciding.spawn(async move { decider.decide_one(job, &instance).await });
            }
            while let Some(done) = deciding.join_next().await {
                decided += u64::from(matches!(done, Ok(true)));
            }
            if decided == 0 {
                break;
            }
            total += decided;
        }
        if total > 0 {
            tracing::info!(decided = total, "recovered instances decided by the rules in force");
        }
    }

    async fn decide_one(&self, job: JobId, instance: &Instance) -> bool {
        match self.decide(instance, None).await {
            Ok((jobs, epoch)) => match self.spool.redecide(job, jobs, epoch, "recovery").await {
                Ok(_) => return true,
                Err(error) => tracing::error!(%job, %error, "a recovered instance could not be decided"),
            },
            Err(error) => tracing::error!(%job, %error, "a recovered instance could not be read; it stays held"),
        }
        false
    }

    /// The jobs and the epoch.
    ///
    /// # Errors
    /// The payload cannot be read, or its head not be understood.
    pub(super) async fn decide(
        &self,
        instance: &Instance,
        only: Option<DestinationId>,
    ) -> Result<(Vec<spool::NewJob>, u64), ReadError> {
        let mut payload = self.spool.payload(&instance.id).await?;
        let mut scanner = Scanner::new(Syntax::of(&instance.transfer_syntax));
        // To the end, although the head comes first: rules must know whether anything stands behind the pixels.
        while let Some(piece) = payload.next().await? {
            scanner.push(&piece).map_err(|_| ReadError::Corrupt)?;
        }
        let head = scanner.finish().map_err(|_| ReadError::Corrupt)?;
        let facts = Facts {
            source: instance.source.clone(),
            calling_ae: instance.calling_ae.clone(),
            called_ae: instance.called_ae.clone(),
            sop_class: instance.sop_class.clone(),
            sop_instance: instance.sop_instance.clone(),
            transfer_syntax: instance.transfer_syntax.clone(),
            arrival: instance.arrival,
            study: None,
        };
        let decided = self.ingest.decide_again(facts, head, instance, only).await;
        decided.map_err(|_| ReadError::GateLatched)
    }
}

/// Instances of a rebuild that are decided at a time.
const RECOVERED_BATCH: usize = 1_000;
/// Of these, at once.
const RECOVERED_TOGETHER: usize = 16;
