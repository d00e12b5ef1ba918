//! Lines of the ledger for people: also those that are of no single instance, which no trace shows.
use super::story::{self, Step};
use super::trace::{Custody, TraceError};
use super::{Caller, QueryError};
use crate::base::clock::Wall;
use crate::spool::{Detail, Fact, FactKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Which lines are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesQuery {
    /// Words of `story::headline`; all kinds without one.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Microseconds since 1970 UTC, both inclusive.
    #[serde(default)]
    pub since_us: Option<u64>,
    #[serde(default)]
    pub until_us: Option<u64>,
    /// Only lines before the one with this number.
    #[serde(default)]
    pub before: Option<u64>,
    pub limit: usize,
}

/// A page of the ledger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinesAnswer {
    /// Of this structure: 1.
    pub format: u32,
    /// Oldest first.
    pub lines: Vec<LedgerLine>,
    /// Numbers of lines that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<u64>,
    /// The value of `before` for the page of what was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// False: this took too long, and the page may have fewer lines than there are.
    pub complete: bool,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerLine {
    pub line: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(flatten)]
    pub step: Step,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<Detail>>,
}

/// Lines of one answer.
pub const LINES_MAX: usize = 10_000;
/// A rare kind in years of lines is looked for no longer than this at once.
const LOOK_MAX: Duration = Duration::from_secs(15);

impl Custody {
    /// Answers with the last lines that are asked for. Patient data stands in none.
    ///
    /// # Errors
    /// `QueryError::Lines` or `Word`, or the index cannot be read, or the access cannot be recorded.
    pub async fn lines(&self, query: &LinesQuery, caller: &Caller) -> Result<LinesAnswer, TraceError> {
        if !(1..=LINES_MAX).contains(&query.limit) {
            return Err(QueryError::Lines.into());
        }
        if query.kinds.iter().any(|word| !story::words().contains(&word.as_str())) {
            return Err(QueryError::Word.into());
        }
        let span = (
            Wall(query.since_us.unwrap_or(0)),
            Wall(query.until_us.unwrap_or(u64::MAX - 1)),
        );
        let kinds = query.kinds.clone();
        let wanted =
            Arc::new(move |fact: &Fact| kinds.is_empty() || kinds.iter().any(|word| word == story::headline(fact)));
        let (began, mut before, mut complete) = (Instant::now(), query.before, true);
        let (mut lines, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            let left = query.limit - lines.len();
            let page = self.spool.lines(span, before, wanted.clone(), left).await?;
            lines.extend(page.lines);
            unreadable.extend(page.unreadable);
            before = page.before;
            if before.is_none() || lines.len() == query.limit {
                break;
            }
            if began.elapsed() >= LOOK_MAX {
                complete = false;
                break;
            }
        }
        self.record_access(caller, &format!("{} lines of the ledger", lines.len()))
            .await?;
        lines.reverse();
        unreadable.reverse();
        let shown = lines.into_iter().map(|line| LedgerLine {
            line: line.number,
            instance: line.fact.instance.clone(),
            step: told(&line.fact),
            detail: line.fact.detail,
        });
        Ok(LinesAnswer {
            format: 1,
            lines: shown.collect(),
            unreadable,
            before,
            complete,
        })
    }
}

/// A line as one step, whatever steps a trace makes of it.
fn told(fact: &Fact) -> Step {
    let mut step = story::own(fact);
    if let Some(arrival) = fact.arrival() {
        step.text = format!("from {} ({} to {})", arrival.source, arrival.calling, arrival.called);
    }
    match fact.detail.as_deref() {
        Some(Detail::Refused(refused)) => {
            if let Some(study) = &refused.study {
                step.text.push_str(&format!(", study {study}"));
            }
            if !refused.sop_instances.is_empty() {
                step.text.push_str(&format!(": {}", refused.sop_instances.join(" ")));
            }
        }
        Some(Detail::Pruned { seq, .. }) if step.text.is_empty() => step.text = format!("lines up to {seq}"),
        _ => {}
    }
    if fact.kind == FactKind::Repeated {
        step.text.push_str(", the same content again");
    }
    step
}

impl fmt::Display for LinesAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = self.before {
            let why = if self.complete {
                ""
            } else {
                " (it took too long to look at all)"
            };
            writeln!(f, "… and more before these{why}: --before {before}")?;
        }
        for line in &self.lines {
            write!(f, "{:>9}  {}", line.line, line.step)?;
            match &line.instance {
                Some(id) => writeln!(f, "  instance {id}")?,
                None => writeln!(f)?,
            }
        }
        if self.lines.is_empty() {
            writeln!(f, "no line of the ledger is of that kind and time")?;
        }
        for number in &self.unreadable {
            writeln!(f, "line {number} cannot be read: see `waystation ledger verify`")?;
        }
        Ok(())
    }
}
