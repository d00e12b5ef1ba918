//! `map …`: what a modality had sent where the rules wrote another value. Shows patient data, to the terminal only.
use super::{Talk, queue};
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use waystation::control::protocol::{MapEntry, Request};

/// What to look up.
#[derive(Args, Debug)]
pub struct Question {
    /// What kind of value
    pub kind: Kind,
    /// The value as an archive, a report or an order names it (with --reverse: as the modality sends it)
    pub value: String,
    /// The other way: what was written where the modality had sent this
    #[arg(long)]
    pub reverse: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    Accession,
    Uid,
}

/// Asks the running box.
pub async fn run(question: Question, talk: &Talk) -> ExitCode {
    let kind = match question.kind {
        Kind::Accession => "accession",
        Kind::Uid => "uid",
    };
    let request = Request::Map {
        kind: kind.to_owned(),
        value: question.value,
        reverse: question.reverse,
    };
    queue::ask(&request, talk).await
}

/// One line for each entry.
pub fn show(entries: &[MapEntry]) {
    if entries.is_empty() {
        println!("not renamed by any rule that this box remembers");
    }
    for entry in entries {
        println!(
            "sent {}  written {}  source {}  first {}  last {}  rules {}",
            entry.sent, entry.written, entry.source, entry.first, entry.last, entry.rules
        );
    }
}
