//! The bench on the command line: `rules check`, `rules test`, `rules trace`. Each answers a text and an exit code; `main`
//! prints the one and returns the other.
pub use super::fixtures::Origin;
use super::{Config, Problem, RuleSet, coverage, fixtures, load, trace};
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

/// What `rules test` is asked for besides its verdict.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Only cases whose name contains this.
    pub only: String,
    /// The lines that no case reached.
    pub coverage: bool,
    /// Fewer per cent of reached lines than this are a failure.
    pub at_least: Option<u8>,
}

/// Runs the fixtures in the folder `fixtures` of a rule folder. Also answers the run as JUnit XML.
#[must_use]
pub fn test(folder: &Path, config: &Config, destinations: &[DestinationId], asked: &Asked) -> (Said, String) {
    let (set, lines) = match RuleSet::probed(folder, config, destinations) {
        Ok(probed) => probed,
        Err(problems) => return (refused(&problems), String::new()),
    };
    let all = match fixtures::run(&set, &folder.join("fixtures"), &asked.only) {
        Ok(all) => all,
        Err(message) => return (Said::bad(message + "\n"), String::new()),
    };
    if all.is_empty() {
        let message = "no fixture was found: a test that tests nothing is no test\n".to_owned();
        return (Said::bad(message), String::new());
    }
    let reached = coverage::coverage(&all, &lines);
    let mut text = String::new();
    if asked.coverage || asked.at_least.is_some() {
        text += &reached.text();
    }
    let short = asked
        .at_least
        .is_some_and(|percent| reached.ran * 100 < reached.lines * usize::from(percent));
    if short {
        text += "coverage: less than --at-least asks for\n";
    }
    // The counts stay the last line.
    text += &coverage::text(&all);
    let good = coverage::failed(&all) == 0 && !short;
    let said = if good { Said::good(text) } else { Said::bad(text) };
    (said, coverage::junit(&all))
}

/// What each line of the rules does with the image in `file`. The text shows its values: for the caller's terminal only.
#[must_use]
pub fn trace(folder: &Path, config: &Config, destinations: &[DestinationId], file: &Path, from: &Origin) -> Said {
    let (sources, set) = match load::read(folder).and_then(|sources| {
        let (set, _) = RuleSet::probed(folder, config, destinations)?;
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
