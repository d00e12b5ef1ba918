//! Answers a query: finds the instances, tells their stories, adds patient data for a caller that may see it. The access is on the
//! ledger before the answer is given: who, in which way, a keyed hash of the value, how many.
use super::patient::patient_of;
use super::query::{Caller, Query, QueryError};
use super::story::Story;
use crate::base::names::InstanceId;
use crate::dicom::syntax::Syntax;
use crate::spool::{ChainReport, CommitError, Fact, FactKind, Look, ReadError, Spool, Traced};
use serde::{Deserialize, Serialize};

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Of this structure: 1.
    pub format: u32,
    pub by: String,
    /// Oldest first.
    pub instances: Vec<Story>,
    /// The value of `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// False while the index is being filled after an upgrade or a salvage: older instances may lack.
    pub complete: bool,
    /// Whether patient data is shown where there is any.
    pub patients: bool,
}

/// Why there is no answer. Never says the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("the access could not be put on the ledger, so it is not given: {0}")]
    NotRecorded(CommitError),
}

/// The custody of the instances of one spool. Cheap to clone.
#[derive(Clone)]
pub struct Custody {
    pub(super) spool: Spool,
}

impl Custody {
    #[must_use]
    pub fn new(spool: Spool) -> Self {
        Self { spool }
    }

    /// Answers a query.
    ///
    /// # Errors
    /// See `TraceError`.
    pub async fn trace(&self, query: &Query, caller: &Caller) -> Result<Answer, TraceError> {
        let found = match self.find(query, caller).await {
            Err(TraceError::Query(error)) => {
                self.record(query, caller, "refused").await?;
                return Err(error.into());
            }
            found => found?,
        };
        let looks = self.spool.look(found.instances.clone()).await?;
        let count = looks.len();
        let shown = if caller.sees_patients {
            ", with patient data"
        } else {
            ""
        };
        self.record(query, caller, &format!("{count} instances{shown}")).await?;
        let mut instances = Vec::with_capacity(count);
        for look in &looks {
            let mut story = Story::of(look);
            if caller.sees_patients {
                story.patient = self.patient(look).await;
            }
            instances.push(story);
        }
        let last = found.instances.last().filter(|_| found.more);
        Ok(Answer {
            format: 1,
            by: query.by.word().to_owned(),
            next: last.map(InstanceId::to_string),
            instances,
            complete: found.complete,
            patients: caller.sees_patients,
        })
    }

    async fn find(&self, query: &Query, caller: &Caller) -> Result<Traced, TraceError> {
        if let Some(id) = query.instance() {
            let mut looks = self.spool.look(vec![id]).await?;
            looks.retain(|look| look.holding.is_some() || !look.facts.is_empty());
            let instances: Vec<InstanceId> = looks.iter().map(|look| look.id).collect();
            // 32 hexadecimal digits may be a patient id all the same.
            if !instances.is_empty() || query.ways(caller).is_ok_and(|ways| ways.is_empty()) {
                return Ok(Traced {
                    instances,
                    more: false,
                    complete: true,
                });
            }
        }
        let ways = query.ways(caller)?;
        let found = self.spool.traced_by(&ways, &query.value, query.after, query.limit);
        Ok(found.await?)
    }

    async fn patient(&self, look: &Look) -> Option<super::patient::Patient> {
        let instance = &look.holding.as_ref()?.instance;
        patient_of(&self.spool, look.id, Syntax::of(&instance.transfer_syntax)).await
    }

    /// An access that cannot be recorded is not given.
    async fn record(&self, query: &Query, caller: &Caller, outcome: &str) -> Result<(), TraceError> {
        let value = match query.instance() {
            // Our own id says nothing of anybody.
            Some(id) => id.to_string(),
            None => self.spool.mark_of(&query.value),
        };
        tracing::info!(who = %caller.who, by = query.by.word(), outcome, "custody was asked for");
        let text = format!("trace by {} {value}: {outcome}", query.by.word());
        self.record_access(caller, &text).await
    }

    pub(super) async fn record_access(&self, caller: &Caller, text: &str) -> Result<(), TraceError> {
        let fact = Fact::new(FactKind::Accessed).who(&caller.who).text(text);
        self.spool.note(vec![fact]).await.map_err(TraceError::NotRecorded)
    }

    /// The number of the ledger's last line, and its hash.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn ledger_end(&self) -> Result<(u64, String), ReadError> {
        self.spool.ledger_end().await
    }

    /// Verifies the whole chain.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn verify(&self) -> Result<ChainReport, ReadError> {
        self.spool.verify_ledger().await
    }
}
