//! `probe`: what a destination accepts of what this site has, asked over the box's own lane so that the answers are learned.
use super::protocol::Response;
use super::verbs::Verbs;
use crate::base::names::DestinationId;
use crate::sender::survey::questions;

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
        let stored = questions(&self.known.seen(), classes)?;
        let Some(answered) = self.scheduler.survey(&destination, &stored).await else {
            return Err(format!("there is no destination {destination}"));
        };
        let findings = answered.map_err(|down| format!("{destination} could not be asked: {down}"))?;
        Ok(Response::Probe { destination, findings })
    }
}
