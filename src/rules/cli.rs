//! The bench on the command line: `rules check`, `rules test`, `rules trace`. Each answers a text and an exit code; `main`
//! prints the one and returns the other.
pub use super::fixtures::Origin;
use super::{Config, Problem, RuleSet, fixtures, load, trace};
use crate::base::names::DestinationId;
use std::collections::BTreeMap;
use std::path::Path;

/// What a command says, and the exit code to end with: 0 good, 1 problems found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub text: String,
    pub code: u8,
}

impl Said {
    fn good(text: String) -> Self {
        Self { text, code: 0 }
    }

    fn bad(text: String) -> Self {
        Self { text, code: 1 }
    }
}

/// All problems of a rule folder, one a line as `file:line:column: message`.
#[must_use]
pub fn check(folder: &Path, config: &Config, destinations: &[DestinationId]) -> Said {
    match RuleSet::load(folder, config, destinations) {
        Ok(set) => Said::good(format!("{}: good, epoch {:016x}\n", folder.display(), set.epoch())),
        Err(problems) => refused(&problems),
    }
}

/// Runs the fixtures in the folder `fixtures` of a rule folder.
#[must_use]
pub fn test(folder: &Path, config: &Config, destinations: &[DestinationId]) -> Said {
    let set = match RuleSet::load(folder, config, destinations) {
        Ok(set) => set,
        Err(problems) => return refused(&problems),
    };
    match fixtures::run(&set, &folder.join("fixtures")) {
        Err(message) => Said::bad(message + "\n"),
        Ok(report) => {
            let text = format!("{}{} passed, {} failed\n", report.text, report.passed, report.failed);
            match (report.passed, report.failed) {
                (0, 0) => Said::bad("no fixture was found: a test that tests nothing is no test\n".to_owned()),
                (_, 0) => Said::good(text),
                (_, _) => Said::bad(text),
            }
        }
    }
}

/// What each line of the rules does with the image in `file`. The text shows its values: for the caller's terminal only.
#[must_use]
pub fn trace(folder: &Path, config: &Config, destinations: &[DestinationId], file: &Path, from: &Origin) -> Said {
    let (sources, set) = match load::read(folder).and_then(|sources| {
        let set = RuleSet::load(folder, config, destinations)?;
        Ok((sources, set))
    }) {
        Ok(both) => both,
        Err(problems) => return refused(&problems),
    };
    match fixtures::load(file) {
        Err(message) => Said::bad(message + "\n"),
        Ok((head, meta)) => {
            let facts = fixtures::facts(from, &head, Some(&meta));
            let sources: BTreeMap<String, String> = sources.into_iter().collect();
            Said::good(trace::report(&set, &facts, &head, &sources))
        }
    }
}

fn refused(problems: &[Problem]) -> Said {
    Said::bad(problems.iter().map(|problem| format!("{problem}\n")).collect())
}
