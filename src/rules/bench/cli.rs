//! The bench on the command line: `rules check`, `rules test`, `rules trace`. Each answers a text and an exit code; `main`
//! prints the one and returns the other.
pub use super::fixtures::Origin;
use super::past::Past;
use super::replay::Replay;
use super::{coverage, fixtures, promotion, reference, trace};
use crate::base::names::{DestinationId, SourceId};
use crate::rules::{Config, Facts, Problem, RuleSet, lint, load};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// All problems of a rule folder, one a line as `file:line:column: error|warning: message`. Warnings alone are no failure, unless
/// `strict`. As JSON: an array of objects with `file`, `line`, `column`, `severity` and `message`.
#[must_use]
pub fn check(folder: &Path, config: &Config, destinations: &[DestinationId], form: Form) -> Said {
    let (errors, warnings, good) = match RuleSet::load(folder, config, destinations) {
        Err(problems) => (problems, Vec::new(), String::new()),
        Ok(set) => {
            let mut warnings = set.warnings().to_vec();
            warnings.extend(unreached(folder, config, destinations));
            (
                Vec::new(),
                warnings,
                format!("{}: good, epoch {:016x}\n", folder.display(), set.epoch()),
            )
        }
    };
    let bad = !errors.is_empty() || form.strict && !warnings.is_empty();
    let severities = [(&errors, "error"), (&warnings, "warning")];
    let all = severities
        .iter()
        .flat_map(|(all, severity)| all.iter().map(move |problem| (problem, *severity)));
    let text = if form.json {
        let rows: Vec<serde_json::Value> = all.map(|(problem, severity)| row(problem, severity)).collect();
        format!("{}\n", serde_json::Value::Array(rows))
    } else {
        all.map(|(problem, severity)| line(problem, severity))
            .chain([good])
            .collect()
    };
    if bad { Said::bad(text) } else { Said::good(text) }
}

/// How `rules check` answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Form {
    pub json: bool,
    /// A warning is a failure too.
    pub strict: bool,
}

fn line(problem: &Problem, severity: &str) -> String {
    let place = Problem {
        message: String::new(),
        ..problem.clone()
    };
    // The place ends in `: `, because its message is empty.
    format!("{place}{severity}: {}\n", problem.message)
}

fn row(problem: &Problem, severity: &str) -> serde_json::Value {
    serde_json::json!({
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "severity": severity,
        "message": problem.message,
    })
}

/// Functions that no fixture reaches, and fixtures that are missing altogether.
fn unreached(folder: &Path, config: &Config, destinations: &[DestinationId]) -> Vec<Problem> {
    let Ok((set, lines)) = RuleSet::probed(folder, config, destinations) else {
        return Vec::new();
    };
    let at = |file: PathBuf, place: Option<(usize, usize)>, message: String| Problem {
        file,
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        message,
    };
    let fixtures = folder.join("fixtures");
    let all = match fixtures::run(&set, &fixtures, "") {
        Ok(all) => all,
        // Without the folder: none.
        Err(_) if !fixtures.exists() => Vec::new(),
        Err(message) => return vec![at(fixtures, None, message)],
    };
    if all.is_empty() {
        let message = "holds no fixture: nothing shows that these rules do what they should".to_owned();
        return vec![at(fixtures, None, message)];
    }
    let reached = coverage::coverage(&all, &lines);
    let mut found = strangers(&all, &fixtures, config);
    for destination in destinations {
        let delivered = all
            .iter()
            .any(|ran| ran.reached.iter().any(|to| to == destination.as_str()));
        if set.names(destination) && !delivered {
            let message = format!("no fixture delivers to `{destination}`");
            found.push(at(fixtures.clone(), None, message));
        }
    }
    for (file, text) in load::read(folder).unwrap_or_default() {
        let missed = reached.missed.get(&file).cloned().unwrap_or_default();
        for function in coverage::functions(&text, lines.get(&file)) {
            if !function.lines.is_empty() && function.lines.is_subset(&missed) {
                let message = format!("no fixture reaches `{}`", function.name);
                found.push(at(folder.join(&file), Some(function.place), message));
            }
        }
    }
    found
}

/// Cases that say that they came from a source that the configuration has not: what they show, no image will do.
fn strangers(all: &[fixtures::Ran], folder: &Path, config: &Config) -> Vec<Problem> {
    let names = || config.sources.iter().map(SourceId::as_str);
    let is_stranger = |source: &&SourceId| !config.sources.is_empty() && !config.sources.contains(*source);
    let problem = |ran: &fixtures::Ran| {
        let source = ran.source.as_ref().filter(is_stranger)?;
        let message = lint::unknown("source", source.as_str(), names());
        Some(load::whole(
            &folder.join(&ran.file),
            format!("{message} (in the case `{}`)", ran.name),
        ))
    };
    all.iter().filter_map(problem).collect()
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
    let strangers = strangers(&all, &folder.join("fixtures"), config);
    text.extend(strangers.iter().map(|problem| line(problem, "warning")));
    // The counts stay the last line.
    text += &coverage::text(&all);
    let good = coverage::failed(&all) == 0 && !short;
    let said = if good { Said::good(text) } else { Said::bad(text) };
    (said, coverage::junit(&all))
}

/// The reference page of the vocabulary, as Markdown.
#[must_use]
pub fn reference() -> Said {
    Said::good(reference::page())
}

/// Writes what an editor needs into a rule folder: definition files for the Rhai language server (`definitions/*.d.rhai`,
/// `Rhai.toml`) and snippets for VS Code (`.vscode/waystation.code-snippets`). Files of these names are written anew.
#[must_use]
pub fn editor(folder: &Path) -> Said {
    let mut files: Vec<(PathBuf, String)> = reference::definitions()
        .into_iter()
        .map(|(name, text)| match name.ends_with(".d.rhai") {
            true => (folder.join("definitions").join(name), text),
            false => (folder.join(name), text),
        })
        .collect();
    files.push((folder.join(".vscode/waystation.code-snippets"), reference::snippets()));
    for (path, text) in &files {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| std::fs::write(path, text)) {
            return Said::bad(format!("{}: cannot be written: {}\n", path.display(), error.kind()));
        }
    }
    Said::good(format!("{}: {} files for the editor\n", folder.display(), files.len()))
}

/// What each line of the rules does with the image in `file`. What is known of it comes from the spool, or else from `from` and
/// the file itself. The text shows the image's values: for the caller's terminal only.
#[must_use]
pub fn trace(
    folder: &Path,
    config: &Config,
    destinations: &[DestinationId],
    file: &Path,
    known: Result<&Facts, &Origin>,
) -> Said {
    let (head, meta) = match fixtures::load(file) {
        Ok(image) => image,
        Err(message) => return Said::bad(message + "\n"),
    };
    let facts = match known {
        Ok(facts) => facts.clone(),
        Err(from) => fixtures::facts(from, &head, Some(&meta)),
    };
    // The set that decides for this image, when sets were promoted.
    let promoted = promotion::active(folder).ok().flatten();
    let folder = promoted.map_or_else(
        || folder.to_owned(),
        |active| match active.canary {
            Some(canary) if canary.part.holds(&facts, &head) => promotion::place(folder, &canary.set),
            Some(_) | None => promotion::place(folder, &active.current),
        },
    );
    let probed =
        load::read(&folder).and_then(|sources| Ok((sources, RuleSet::probed(&folder, config, destinations)?.0)));
    match probed {
        Err(problems) => refused(&problems),
        Ok((sources, set)) => {
            let sources: BTreeMap<String, String> = sources.into_iter().collect();
            let mut text = trace::report(&set, &facts, &head, &sources);
            if set.asks_for_study() && facts.study.is_none() {
                text += &format!("\nNOT in this trace: {STUDY_UNKNOWN}\n");
            }
            if config.site.is_none() {
                text += &format!("\nNOT in this trace: {GUARD_UNKNOWN}\n");
            }
            Said::good(text)
        }
    }
}

/// The other parts of the configuration say which destinations send to the box too.
const GUARD_UNKNOWN: &str = "the loop guard, which leaves out the destination that an image came from: mend the configuration first (`waystation check`)";

/// Payload files do not tell what had come of a study before them.
const STUDY_UNKNOWN: &str = "what had come of its study before: the rules ask for it (`study::…`) and were answered as for the first image of one";

/// The images of a replay have a past only among themselves.
const STUDY_BUILT_UP: &str = "what had come of a study before this time (--since), from another source than --source names, or has left the cache: \
     the rules ask for it (`study::…`) and were told of the images of this report alone, in the order of their arrival";

/// A candidate set beside the set in force: see `replay`.
pub struct Bench {
    old: RuleSet,
    /// In force for a part of the images.
    canary: Option<(promotion::Part, RuleSet)>,
    new: RuleSet,
    /// When a set asks for it.
    past: Option<Past>,
    replay: Replay,
}

impl Bench {
    /// # Errors
    /// What is wrong with either set.
    pub fn new(config: &Config, destinations: &[DestinationId], candidate: &Path) -> Result<Self, Said> {
        let Some(folder) = &config.path else {
            return Err(Said::bad("the configuration names no rule folder\n".to_owned()));
        };
        let active = promotion::active(folder).map_err(|problem| refused(&[problem]))?;
        let promoted = |set: &str| promotion::load(folder, set, config, destinations);
        let old = match &active {
            None => RuleSet::load(folder, config, destinations),
            Some(active) => promoted(&active.current),
        };
        let canary = match active.and_then(|active| active.canary) {
            None => None,
            Some(canary) => {
                let set = promoted(&canary.set).map_err(|problems| refused(&problems))?;
                Some((canary.part, set))
            }
        };
        let old = old.map_err(|problems| refused(&problems))?;
        let new = RuleSet::load(candidate, config, destinations).map_err(|problems| refused(&problems))?;
        let mut replay = Replay::default();
        if config.site.is_none() {
            replay.not_known.push(GUARD_UNKNOWN.to_owned());
        }
        let canary_asks = canary.as_ref().is_some_and(|(_, set)| set.asks_for_study());
        let past = (old.asks_for_study() || new.asks_for_study() || canary_asks).then(Past::default);
        if past.is_some() {
            replay.not_known.push(STUDY_BUILT_UP.to_owned());
        }
        Ok(Self {
            old,
            canary,
            new,
            past,
            replay,
        })
    }

    /// Whether `image` wants the images in the order of their arrival: a set asks what had come of a study before.
    #[must_use]
    pub fn wants_order(&self) -> bool {
        self.past.is_some()
    }

    /// Decides on one image of the spool, `length` bytes long, with both sets.
    pub fn image(&mut self, facts: &Facts, length: u64, file: &Path) {
        let Ok((head, _)) = fixtures::load(file) else {
            self.replay.unread += 1;
            return;
        };
        let facts = Facts {
            study: self.past.as_ref().and_then(|past| past.before(&head)),
            ..facts.clone()
        };
        let old = match &self.canary {
            Some((part, set)) if part.holds(&facts, &head) => set,
            Some(_) | None => &self.old,
        };
        self.replay.image(old, &self.new, &facts, &head);
        if let Some(past) = &mut self.past {
            past.came(&facts, &head, length);
        }
    }

    /// How many images of the time that was asked for have left the spool; `None` when that cannot be told.
    pub fn left_cache(&mut self, images: Option<u64>) {
        self.replay.left_cache = images;
    }

    /// The report for people. It shows values: for the caller's terminal only.
    #[must_use]
    pub fn text(&self) -> String {
        self.replay.text()
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(&self.replay).unwrap_or_default() + "\n"
    }
}

fn refused(problems: &[Problem]) -> Said {
    Said::bad(problems.iter().map(|problem| line(problem, "error")).collect())
}
