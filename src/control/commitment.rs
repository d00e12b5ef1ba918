//! `commitment …` over the control socket: what is outstanding in both directions, and a person's word about it.
use super::protocol::{CommitmentAsked, CommitmentDemand, CommitmentWaiting, Response};
use super::verbs::Verbs;
use crate::base::names::DestinationId;
use crate::spool::CommitError;
use crate::spool::commitment::Progress;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Asks and tells again now, for one name or all; answers how many there are of it.
pub type Retry = Arc<dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = usize> + Send>> + Send + Sync>;

/// What a retry was about.
fn retried((waiting, demands): (u64, u64)) -> String {
    let mut told = Vec::new();
    if waiting > 0 {
        told.push(format!(
            "deliveries that wait for an archive's commitment, which is asked for again: {waiting}"
        ));
    }
    if demands > 0 {
        told.push(format!(
            "requests of sources, which are told as soon as it is decided: {demands}"
        ));
    }
    match told.is_empty() {
        true => "nothing is outstanding, and nobody was asked or told".to_owned(),
        false => told.join("; "),
    }
}

impl Verbs {
    pub(super) async fn commitments(&self) -> Result<Response, String> {
        let asked = self.spool.outstanding().await.map_err(|error| error.to_string())?;
        let demands = self.spool.demands().await.map_err(|error| error.to_string())?;
        let lanes = self.scheduler.status();
        let waiting = lanes.iter().map(|lane| CommitmentWaiting {
            jobs: self.spool.awaiting(&lane.destination),
            destination: lane.destination.to_string(),
        });
        Ok(Response::Commitments {
            waiting: waiting.filter(|waiting| waiting.jobs > 0).collect(),
            asked: asked
                .into_iter()
                .map(|asked| CommitmentAsked {
                    request: asked.id,
                    destination: asked.destination.map(|name| name.to_string()),
                    transaction: asked.transaction.to_string(),
                    at: asked.at.iso(),
                    until: asked.until.map(|until| until.iso()),
                    references: asked.references,
                })
                .collect(),
            demands: demands
                .into_iter()
                .map(|open| CommitmentDemand {
                    request: open.id,
                    source: open.source.to_string(),
                    transaction: open.transaction.to_string(),
                    level: open.level.word().to_owned(),
                    at: open.at.iso(),
                    decided: match open.progress {
                        Progress::Waiting => None,
                        Progress::Decided(at) => Some(at.iso()),
                    },
                    references: open.references,
                })
                .collect(),
        })
    }

    pub(super) async fn commitment_retry(&self, name: Option<String>) -> Result<Response, String> {
        // Before they are asked: an answer may come at once.
        let outstanding = self.outstanding(name.as_deref()).await?;
        match (self.commitment)(name.clone()).await {
            0 => Err(match name {
                Some(name) => format!("{name} is neither a destination with `commitment` nor a source"),
                None => "no destination has `commitment`, and there is no source".to_owned(),
            }),
            _ => Ok(Response::Done {
                message: retried(outstanding),
            }),
        }
    }

    /// Instances that an archive has not committed to, and requests that a source is not answered; of one name, or of all.
    async fn outstanding(&self, name: Option<&str>) -> Result<(u64, u64), String> {
        let wanted = |known: &str| name.is_none_or(|name| name == known);
        let lanes = self.scheduler.names();
        let lanes = lanes.iter().filter(|lane| wanted(lane.as_str()));
        let waiting = lanes.map(|lane| self.spool.awaiting(lane)).sum();
        let demands = self.spool.demands().await.map_err(|error| error.to_string())?;
        let demands = demands.iter().filter(|open| wanted(open.source.as_str()));
        Ok((waiting, demands.count() as u64))
    }

    pub(super) async fn commitment_give_up(
        &self,
        who: &str,
        (destination, request): (Option<DestinationId>, Option<u64>),
        reason: &str,
    ) -> Result<Response, String> {
        match (destination, request) {
            (Some(destination), None) => {
                let ended = self.spool.take_as_committed(&destination, who, reason).await;
                let ended = ended.map_err(|error| match error {
                    CommitError::Gone => format!("there is no destination {destination}"),
                    error => error.to_string(),
                })?;
                Ok(Response::Done {
                    message: format!("{destination}: {ended} jobs count as delivered without a commitment"),
                })
            }
            (None, Some(request)) => {
                let ended = self.spool.demand_given_up(request, who, reason).await;
                ended.map_err(|_| format!("there is no open request {request} of a source"))?;
                Ok(Response::Done {
                    message: format!("request {request} is over; the source was not told"),
                })
            }
            (None, None) | (Some(_), Some(_)) => Err("name a destination or a request".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_says_of_what_and_that_of_nothing() {
        assert!(retried((0, 0)).starts_with("nothing is outstanding"));
        assert!(retried((3, 0)).ends_with("asked for again: 3"));
        let both = retried((3, 2));
        assert!(both.contains("again: 3; ") && both.ends_with("decided: 2"), "{both}");
    }
}
