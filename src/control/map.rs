//! `map`: what the modality had sent where a rule wrote another accession number or UID, and the other way round. The answer holds
//! patient data: it goes to the operator who asked and nowhere else.
use super::protocol::{MapEntry, Response};
use super::verbs::Verbs;
use crate::spool;

impl Verbs {
    pub(super) async fn map(&self, kind: &str, value: &str, reverse: bool) -> Result<Response, String> {
        let found = self.spool.aliases(kind, value, reverse).await;
        let found = found.map_err(|error| error.to_string())?;
        let entry = |mapped: spool::Mapped| MapEntry {
            sent: mapped.sent.into_exposed(),
            written: mapped.written.into_exposed(),
            source: mapped.source.to_string(),
            rules: format!("{:016x}", mapped.rule_epoch),
            first: mapped.first.iso(),
            last: mapped.last.iso(),
        };
        Ok(Response::Map {
            entries: found.into_iter().map(entry).collect(),
        })
    }
}
