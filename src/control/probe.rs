//! `probe`: what a destination accepts of what this site has, asked over the box's own lane so that the answers are learned.
use super::protocol::Response;
use super::verbs::Verbs;
use crate::base::names::DestinationId;
use crate::sender::survey::questions;
use crate::spool::{Filter, JobState};

impl Verbs {
    pub(super) async fn probe(
        &self,
        destination: DestinationId,
        classes: &[String],
        known: bool,
    ) -> Result<Response, String> {
        if known {
            let lines = self.scheduler.matrix(&destination);
            let lines = lines.ok_or_else(|| format!("there is no destination {destination}"))?;
            return Ok(Response::Known { destination, lines });
        }
        self.look_into_spool().await;
        let stored = questions(&self.known.seen(), classes)?;
        let Some(answered) = self.scheduler.survey(&destination, &stored).await else {
            return Err(format!("there is no destination {destination}"));
        };
        let findings = answered.map_err(|down| format!("{destination} could not be asked: {down}"))?;
        Ok(Response::Probe { destination, findings })
    }

    /// What lies in the spool was seen too, wherever it goes: what waits or is held for any destination or for a decision, and what
    /// was delivered lately and is still in the cache, to folders too. Of each a bounded part; what cannot be read now is left out.
    async fn look_into_spool(&self) {
        let mut filters = vec![
            Filter {
                undecided: true,
                ..Filter::default()
            },
            Filter {
                state: Some(JobState::Delivered),
                ..Filter::default()
            },
        ];
        filters.extend(self.scheduler.status().into_iter().map(|lane| Filter {
            destination: Some(lane.destination),
            ..Filter::default()
        }));
        for filter in filters {
            let rows = self.spool.list(filter, None, JOBS_MAX).await;
            for instance in rows.into_iter().flatten().filter_map(|row| row.instance) {
                self.known.saw(&instance.sop_class, &instance.transfer_syntax);
            }
        }
    }
}

/// Jobs that are looked at for one destination.
const JOBS_MAX: usize = 2_000;
