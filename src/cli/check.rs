//! `check`: everything that is wrong, at once.
use super::{FAILED, Where};
use std::process::ExitCode;
use waystation::config::{self, Problem, Severity};

/// Exit code 0 with warnings at most, 1 with errors.
pub fn run(at: &Where) -> ExitCode {
    let files = config::files_or_default(&at.config);
    let report = config::report(&files);
    print(&report.problems);
    if let Some(config) = report.config {
        println!(
            "good: {} listeners, {} sources, {} destinations",
            config.listeners.len(),
            config.sources.len(),
            config.destinations.len()
        );
        return ExitCode::SUCCESS;
    }
    let errors = report
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    eprintln!("{errors} problems: the box would not start");
    ExitCode::from(FAILED)
}

/// One problem a line, on standard error.
pub fn print(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
}
