//! What is said of a job that is not in the queue (any more), to whoever names it by its number.
use super::protocol::{Filter, Response};
use super::verbs::{Verbs, job};
use crate::base::names::JobId;
use crate::spool::{CommitError, JobState, ReadError, Row};

/// Jobs of one order of which it is told one by one.
const TOLD_MAX: usize = 20;

impl Verbs {
    /// One job, also one that has ended while its instance is in the spool.
    pub(super) async fn show(&self, number: u64) -> Result<Response, String> {
        let text = |error: ReadError| error.to_string();
        let mut row = self.spool.show(JobId(number)).await.map_err(text)?;
        if row.is_none() {
            row = self.spool.ended(vec![number]).await.map_err(text)?.pop();
        }
        match row {
            Some(row) => Ok(Response::Job {
                job: Box::new(job(&row)),
            }),
            None => Err(self.gone(number).await.map_err(|error| error.to_string())?),
        }
    }

    /// Why an order will find nothing under the numbers that it names: what each of them that is not in the queue has come to.
    pub(super) async fn not_in_the_queue(&self, filter: &Filter) -> Result<Vec<String>, CommitError> {
        // Who names ended jobs knows that they have.
        if filter.state.is_some_and(JobState::is_over) {
            return Ok(Vec::new());
        }
        let unread = |_| CommitError::GateLatched;
        let mut missing = Vec::new();
        for number in &filter.jobs {
            if self.spool.show(JobId(*number)).await.map_err(unread)?.is_none() {
                missing.push(*number);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let ended = self.spool.ended(missing.clone()).await.map_err(unread)?;
        let mut told = Vec::new();
        for number in missing.iter().take(TOLD_MAX) {
            told.push(match ended.iter().find(|row| row.job.0 == *number) {
                Some(row) => over(row),
                None => self.gone(*number).await?,
            });
        }
        let more = missing.len() - told.len();
        if more > 0 {
            told.push(format!("{more} more of these jobs are not in the queue either"));
        }
        Ok(told)
    }

    /// Of a number that neither the queue nor the cache knows.
    async fn gone(&self, number: u64) -> Result<String, CommitError> {
        let next = self.spool.next_job().await?;
        Ok(match number {
            number if number == 0 || number >= next => {
                format!("there is no job {number}: none has had this number yet")
            }
            _ => format!(
                "job {number} is not in the queue any more: it has ended and its image has left the box, or it went on under another \
                 number (rerouted, or decided anew). `waystation trace` by patient id, accession number or UID shows what became of it"
            ),
        })
    }
}

/// Of a job that has ended.
fn over(row: &Row) -> String {
    let (number, at) = (row.job, row.due.iso());
    let instance = row
        .instance
        .as_ref()
        .map_or_else(String::new, |instance| instance.id.to_string());
    let end = match (row.state, &row.discarded) {
        (JobState::Discarded, Some(why)) => {
            format!("discarded at {at} ({why}); sent again by its modality it is delivered")
        }
        (JobState::Discarded, None) => format!("discarded at {at}; sent again by its modality it is delivered"),
        _ => format!("delivered at {at} ({})", row.outcome),
    };
    format!("job {number} has ended: {end}. `waystation trace {instance}` shows the whole way of its image")
}
