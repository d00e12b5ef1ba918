//! `trace`, `ledger` and `reconcile` over the control socket. Root and the box's own user may see patient data; their access is on
//! the ledger like any other.
use super::protocol::{Hex, Response};
use super::verbs::Verbs;
use crate::custody::reconcile::Day;
use crate::custody::{Caller, LinesQuery, Query, Subject};

impl Verbs {
    pub(super) async fn trace(
        &self,
        who: &str,
        (value, by): (String, Subject),
        after: Option<Hex>,
        limit: usize,
    ) -> Result<Response, String> {
        let caller = Caller {
            who: who.to_owned(),
            sees_patients: true,
        };
        let query = Query::parse(value, by, after.map(|hex| hex.0), limit).map_err(|error| error.to_string())?;
        let answer = self.custody.trace(&query, &caller).await;
        let custody = Box::new(answer.map_err(|error| error.to_string())?);
        Ok(Response::Trace { custody })
    }

    pub(super) async fn verify_ledger(&self) -> Result<Response, String> {
        let report = self.custody.verify().await.map_err(|error| error.to_string())?;
        Ok(Response::Ledger { report })
    }

    pub(super) async fn ledger_lines(&self, who: &str, query: &LinesQuery) -> Result<Response, String> {
        let caller = Caller {
            who: who.to_owned(),
            sees_patients: false,
        };
        let page = self.custody.lines(query, &caller).await;
        let page = page.map_err(|error| error.to_string())?;
        Ok(Response::LedgerLines { page })
    }

    pub(super) async fn reconcile(&self, day: Option<String>, kept: bool) -> Result<Response, String> {
        let day = day.as_deref().map(Day::parse).transpose();
        let day = day.map_err(|error| format!("the day {error}"))?;
        let report = if kept {
            let found = self.reconciler.kept(day).await.map_err(|error| error.to_string())?;
            found.ok_or_else(|| match day {
                Some(day) => format!("no report of {day} is kept: `waystation reconcile --day {day}` makes one, if the ledger tells of it"),
                None => "no report was made yet: `waystation reconcile` makes one".to_owned(),
            })?
        } else {
            self.reconciler
                .reconcile(day)
                .await
                .map_err(|error| error.to_string())?
        };
        Ok(Response::Reconciliation {
            report: Box::new(report),
        })
    }
}
