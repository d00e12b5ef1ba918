//! `trace`, `reconcile`: what the ledger tells. A trace shows patient data, to the terminal of whoever may use the control
//! socket; a value can be given on standard input, so that it stands in no history.
use super::{FAILED, Talk, queue};
use clap::{Args, ValueEnum};
use std::io::Read;
use std::process::ExitCode;
use waystation::base::names::InstanceId;
use waystation::control::protocol::{Hex, Request};
use waystation::custody::{Subject, query};

/// Which instances.
#[derive(Args, Debug)]
pub struct Trace {
    /// A patient id (MRN), accession number, Study, Series or SOP Instance UID, or the box's own instance id; `-` reads it from
    /// standard input
    pub value: String,
    /// What the value is, when it could be several things
    #[arg(long, value_enum, default_value_t = By::Any)]
    pub by: By,
    /// At most so many instances
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Go on behind this instance, as the page before has said
    #[arg(long, value_parser = |text: &str| InstanceId::parse(text).map_err(|error| error.to_string()))]
    pub after: Option<InstanceId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum By {
    Any,
    Patient,
    Accession,
    Study,
    Series,
    Sop,
    Instance,
}

impl By {
    fn subject(self) -> Subject {
        match self {
            Self::Any => Subject::Any,
            Self::Patient => Subject::Patient,
            Self::Accession => Subject::Accession,
            Self::Study => Subject::Study,
            Self::Series => Subject::Series,
            Self::Sop => Subject::Sop,
            Self::Instance => Subject::Instance,
        }
    }
}

/// Which day.
#[derive(Args, Debug)]
pub struct Reconcile {
    /// The day, as YYYY-MM-DD; without it, today so far
    #[arg(long)]
    pub day: Option<String>,
    /// Only show the report that was kept (the last one without --day, which names the other days with differences)
    #[arg(long)]
    pub kept: bool,
    #[command(flatten)]
    pub talk: Talk,
}

/// The longest line of standard input.
const LINE_MAX: u64 = 1_024;

pub async fn trace(question: Trace, talk: &Talk) -> ExitCode {
    let value = match question.value.as_str() {
        "-" => {
            let mut text = String::new();
            if let Err(error) = std::io::stdin().take(LINE_MAX).read_to_string(&mut text) {
                return super::fail(&format!("standard input cannot be read: {error}"));
            }
            text
        }
        _ => question.value,
    };
    // Checked here too: a wrong question needs no box.
    let by = question.by.subject();
    let query = query::Query::parse(value, by, question.after, usize::from(question.limit));
    let query = match query {
        Ok(query) => query,
        Err(error) => {
            eprintln!("waystation: {error}");
            return ExitCode::from(2);
        }
    };
    let request = Request::Trace {
        value: query.value.into_exposed(),
        by,
        after: query.after.map(Hex),
        limit: query.limit,
    };
    queue::ask(&request, talk).await
}

pub async fn reconcile(question: Reconcile) -> ExitCode {
    let request = Request::Reconcile {
        day: question.day,
        kept: question.kept,
    };
    queue::ask(&request, &question.talk).await
}

/// 1 when something does not hold, so that a script sees it.
pub(super) fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}
