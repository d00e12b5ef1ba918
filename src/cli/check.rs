//! `check`: everything that is wrong, at once.
use super::{FAILED, Where};
use std::process::ExitCode;
use waystation::appliance::home;
use waystation::config::{self, Config, Problem, Severity};
use waystation::{rules, spool};

/// Exit code 0 with warnings at most, 1 with errors.
pub fn run(at: &Where) -> ExitCode {
    let files = config::files_or_default(&at.config);
    let report = config::report_by_hand(&files);
    print(&report.problems);
    let errors = report
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    let known = report.config.as_ref().or(report.but_for_rules.as_ref());
    let moved = known.and_then(|config| home::guard(&config.node.state, &config.spool.path, spool::is_there).err());
    if let Some(error) = moved {
        eprintln!("spool.path: {error}");
        return refused(errors + 1, false);
    }
    let Some(config) = report.config else {
        return refused(errors, report.but_for_rules.is_some_and(|config| stands_in(&config)));
    };
    println!(
        "good: {} listeners, {} sources, {} destinations",
        config.listeners.len(),
        config.sources.len(),
        config.destinations.len()
    );
    ExitCode::SUCCESS
}

/// Whether the rules that were in force last would do.
fn stands_in(config: &Config) -> bool {
    rules::stands_in(&config.rules, &config.node.state, &config.destination_ids()).unwrap_or_else(|unfit| {
        unfit.iter().for_each(|problem| eprintln!("{problem}"));
        false
    })
}

/// The last line.
fn refused(errors: usize, starts: bool) -> ExitCode {
    let noun = if errors == 1 { "problem" } else { "problems" };
    let end = match starts {
        true => "the box would start with the rules that were in force last, and raise an alarm",
        false => "the box would not start",
    };
    eprintln!("{errors} {noun}: {end}");
    ExitCode::from(FAILED)
}

/// One problem a line, on standard error.
pub fn print(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
}
