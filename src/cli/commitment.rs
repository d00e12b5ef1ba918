//! `commitment …`: what is outstanding between the box, its archives and its sources, and a person's word about it.
use super::listing::aligned;
use super::queue::{DestinationName, ask};
use super::{Talk, fail};
use clap::Subcommand;
use std::process::ExitCode;
use waystation::control::protocol::{CommitmentAsked, CommitmentDemand, CommitmentWaiting, Request};

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List what destinations have not committed to, and what sources have not been told
    Ls,
    /// Ask a destination again, or tell a source again, now; all of them without a name
    Retry {
        /// A destination with `commitment`, or a source
        name: Option<String>,
    },
    /// Take a destination's C-STORE answers for its commitment, or end a source's request untold (needs --reason)
    GiveUp {
        /// All jobs that wait for this destination's commitment count as delivered
        #[arg(long, required_unless_present = "request", conflicts_with = "request")]
        destination: Option<DestinationName>,
        /// The number of a source's request, as `ls` shows it
        #[arg(long)]
        request: Option<u64>,
        /// Why, for the ledger
        #[arg(long)]
        reason: String,
    },
}

/// One verb.
pub async fn run(verb: Verb, talk: &Talk) -> ExitCode {
    let request = match verb {
        Verb::Ls => Request::Commitments,
        Verb::Retry { name } => Request::CommitmentRetry { name },
        Verb::GiveUp {
            destination,
            request,
            reason,
        } => Request::CommitmentGiveUp {
            destination: destination.map(|name| name.0),
            number: request,
            reason,
        },
    };
    match request.check() {
        Ok(()) => ask(&request, talk).await,
        Err(error) => fail(&error.to_string()),
    }
}

/// The three tables of `ls`.
#[must_use]
pub fn listing(waiting: &[CommitmentWaiting], asked: &[CommitmentAsked], demands: &[CommitmentDemand]) -> String {
    let mut rows = vec![["DESTINATION", "SENT, NOT COMMITTED"].map(str::to_owned)];
    rows.extend(waiting.iter().map(|of| [of.destination.clone(), of.jobs.to_string()]));
    let mut text = aligned(&rows);
    let mut rows = vec![["ASKED", "INSTANCES", "AT", "AGAIN AT", "TRANSACTION"].map(str::to_owned)];
    for of in asked {
        rows.push([
            of.destination.clone().unwrap_or_else(|| "-".to_owned()),
            of.references.to_string(),
            of.at.clone(),
            of.until.clone().unwrap_or_else(|| "not accepted".to_owned()),
            of.transaction.clone(),
        ]);
    }
    text.push('\n');
    text.push_str(&aligned(&rows));
    let mut rows = vec![["REQUEST", "SOURCE", "INSTANCES", "LEVEL", "AT", "STATE", "TRANSACTION"].map(str::to_owned)];
    for of in demands {
        let decided = of.decided.as_ref();
        rows.push([
            of.request.to_string(),
            of.source.clone(),
            of.references.to_string(),
            of.level.clone(),
            of.at.clone(),
            decided.map_or("waiting".to_owned(), |at| format!("decided {at}, not taken")),
            of.transaction.clone(),
        ]);
    }
    text.push('\n');
    text.push_str(&aligned(&rows));
    text
}
