//! What the load can say of calls of words: a key or a zone that the site has not, options that a word does not take, and
//! literals that are wrong. Complements `lint`, which knows whether a word exists.
use super::given::{Table, Takes};
use super::{privacy, study, timezone, uid};
use crate::dicom::path::{Path, Selector};
use crate::rules::Problem;
use crate::rules::lex::{Placed, tokens};
use crate::rules::lint::unknown;
use crate::rules::local::Local;
use std::path::Path as FilePath;

/// Words with options, and what each takes.
const OPTIONS: [(&str, Table); 10] = [
    ("timezone::check_clock", timezone::CLOCK),
    ("uid::remap", uid::OPTIONS),
    ("uid::remap_all", uid::OPTIONS),
    ("privacy::remove", privacy::NESTED),
    ("privacy::blank", privacy::NESTED),
    ("privacy::hash", privacy::NESTED),
    ("privacy::shift_dates", privacy::SHIFT),
    ("privacy::basic_profile", privacy::PROFILE),
    ("study::same_patient", study::OTHERWISE),
    ("study::same_accession", study::OTHERWISE),
];

/// Words that need the site's key.
const NEED_KEY: [&str; 5] = [
    "uid::remap",
    "uid::remap_all",
    "privacy::hash",
    "privacy::shift_dates",
    "privacy::basic_profile",
];

/// Words whose second argument is a path.
const TAKE_PATH: [&str; 4] = ["uid::remap", "privacy::remove", "privacy::blank", "privacy::hash"];

/// Checks every call of a word in one file.
pub(in crate::rules) fn check(file: &FilePath, source: &str, local: &Local) -> Vec<Problem> {
    let all = tokens(source);
    let mut found = Check {
        file,
        all: &all,
        local,
        problems: Vec::new(),
    };
    for at in 0..all.len() {
        if let Some(name) = found.call(at) {
            found.needs(at, &name);
            found.arguments(at + 4, &name);
        }
    }
    found.problems
}

/// Whether a literal is a path.
fn known_path(text: &str) -> Result<(), String> {
    Path::parse(text).map(drop).map_err(|error| error.to_string())
}

/// Whether a literal names an element that may hold a UID: what private ones hold, nobody knows at load.
fn uid_path(text: &str) -> Result<(), String> {
    let path = Path::parse(text).map_err(|error| error.to_string())?;
    let is_private = matches!(path.leaf, Selector::Private { .. });
    if is_private || uid::names_uid(&path) {
        Ok(())
    } else {
        Err(format!("`{text}` does not hold a UID"))
    }
}

struct Check<'a> {
    file: &'a FilePath,
    all: &'a [Placed],
    local: &'a Local,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, at: usize, message: String) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: Some(self.all[at].line),
            column: Some(self.all[at].column),
            message,
        });
    }

    fn is(&self, at: usize, mark: char) -> bool {
        self.all.get(at).is_some_and(|token| token.is(mark))
    }

    /// The word's full name, when `namespace::name(` begins at this token.
    fn call(&self, at: usize) -> Option<String> {
        let namespace = self.all[at].word()?;
        let name = self.all.get(at + 3)?.word()?;
        let is_call = self.is(at + 1, ':') && self.is(at + 2, ':') && self.is(at + 4, '(');
        is_call.then(|| format!("{namespace}::{name}"))
    }

    fn needs(&mut self, at: usize, name: &str) {
        if NEED_KEY.contains(&name) && self.local.key.is_none() {
            let message = format!("`{name}` needs the site's key: set rules.key_file in the configuration");
            self.problem(at, message);
        }
    }

    /// The arguments of the call whose `(` stands at `open`.
    fn arguments(&mut self, open: usize, name: &str) {
        let starts = self.starts(open);
        match name {
            "timezone::stamp" => match starts.get(1) {
                Some(zone) => self.text(*zone, Takes::Text(timezone::known_zone), "zone"),
                None => self.needs_zone(open, name),
            },
            _ if TAKE_PATH.contains(&name) => {
                if let Some(path) = starts.get(1) {
                    let takes = if name == "uid::remap" { uid_path } else { known_path };
                    self.text(*path, Takes::Text(takes), "path");
                }
            }
            "timezone::check_clock" if starts.len() < 2 => self.needs_zone(open, name),
            "route::between" if starts.len() < 3 => self.needs_zone(open, name),
            "route::is_weekend" | "route::weekday" if starts.is_empty() => self.needs_zone(open, name),
            _ => {}
        }
        let table = OPTIONS.iter().find(|(word, _)| *word == name);
        let map = starts
            .last()
            .copied()
            .filter(|at| self.is(*at, '#') && self.is(at + 1, '{'));
        if let (Some((_, table)), Some(map)) = (table, map) {
            let given = self.options(map + 1, table);
            let is_nested = |at: &usize| {
                let is = |at: usize, word: &str| self.all.get(at).and_then(Placed::word) == Some(word);
                is(*at, "nested") && is(at + 2, "true")
            };
            let beside = starts.get(1).filter(|_| TAKE_PATH.contains(&name));
            if let Some(path) = beside
                && self.starts(map + 1).iter().any(is_nested)
            {
                self.text(*path, Takes::Text(privacy::nested_path), "path");
            }
            if name == "timezone::check_clock" && !given.iter().any(|option| option == "zone") {
                self.needs_zone(open, name);
            }
        }
    }

    fn needs_zone(&mut self, open: usize, name: &str) {
        if self.local.zone.is_none() {
            let message = format!("`{name}` needs a time zone: give one, or set rules.zone in the configuration");
            self.problem(open - 1, message);
        }
    }

    /// The first token of each argument.
    fn starts(&self, open: usize) -> Vec<usize> {
        let (mut depth, mut starts) = (0_usize, Vec::new());
        for at in open..self.all.len() {
            let closes = self.is(at, ')') || self.is(at, ']') || self.is(at, '}');
            depth -= usize::from(closes);
            if depth == 0 && closes {
                break;
            }
            let opens = self.is(at, '(') || self.is(at, '[') || self.is(at, '{');
            if depth == 1 && (at == open + 1 || self.is(at - 1, ',')) {
                starts.push(at);
            }
            depth += usize::from(opens);
        }
        starts
    }

    /// Checks the options of the map whose `{` stands at `open`; answers their names.
    fn options(&mut self, open: usize, table: Table) -> Vec<String> {
        let mut given = Vec::new();
        for at in self.starts(open) {
            let Some(name) = self.all[at].word().or(self.all[at].text()).map(str::to_owned) else {
                continue;
            };
            match table.iter().find(|(known, _)| *known == name) {
                None => {
                    let message = unknown("option", &name, table.iter().map(|(known, _)| *known));
                    self.problem(at, message);
                }
                Some((known, takes)) => self.value(at + 2, *takes, known),
            }
            given.push(name);
        }
        given
    }

    fn value(&mut self, at: usize, takes: Takes, name: &str) {
        match takes {
            Takes::Texts(_) if self.is(at, '[') => {
                for text in self.starts(at) {
                    self.text(text, takes, name);
                }
            }
            _ => self.text(at, takes, name),
        }
    }

    /// A text literal that is a whole argument.
    fn text(&mut self, at: usize, takes: Takes, name: &str) {
        let ends = [',', ')', ']', '}'].iter().any(|mark| self.is(at + 1, *mark));
        let text = self.all.get(at).and_then(Placed::text).filter(|_| ends);
        if let Some(message) = text.and_then(|text| takes.wrong_text(name, text)) {
            self.problem(at, message);
        }
    }
}
