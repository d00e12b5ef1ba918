//! What can be known of rules before an image comes: unknown keywords, paths, destinations, options, functions and files,
//! with line, column and the nearest right name. Also gathers the literals that evaluations need.
use super::Problem;
use super::api::{FACTS, PATH_METHODS};
use super::engine::module_name;
use super::lex::{Placed, Token, tokens};
use super::state::Knowledge;
use super::terms;
use super::verbs;
use super::words::charset_lint;
use crate::base::names::DestinationId;
use crate::dicom::path::Path;
use std::path::Path as FilePath;

mod calls;
mod functions;
mod words;

pub(super) use functions::{Files, Function};

/// What one file may refer to.
pub(super) struct Names<'a> {
    pub(super) destinations: &'a [DestinationId],
    pub(super) files: &'a Files,
    /// Functions that exist without being written in a rule.
    pub(super) natives: &'a [String],
    /// `namespace::name` of every word of the vocabulary.
    pub(super) words: &'a [String],
}

/// One file's findings.
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) functions: Vec<Function>,
}

/// Checks one file that Rhai has compiled, and adds its literals to `known`.
pub(super) fn check(file: &FilePath, source: &str, names: &Names, known: &mut Knowledge) -> Findings {
    let all = tokens(source);
    let mut lint = Lint {
        file,
        names,
        all: &all,
        problems: Vec::new(),
        functions: functions::functions(&all),
    };
    lint.run(known);
    Findings {
        problems: lint.problems,
        functions: lint.functions,
    }
}

struct Lint<'a> {
    file: &'a FilePath,
    names: &'a Names<'a>,
    all: &'a [Placed],
    problems: Vec<Problem>,
    functions: Vec<Function>,
}

impl Lint<'_> {
    fn run(&mut self, known: &mut Knowledge) {
        self.places();
        for at in 0..self.all.len() {
            match &self.all[at].token {
                Token::Text(text) => drop(known.literals.insert(text.clone())),
                Token::Mark(_) => {}
                Token::Word(word) => match word.as_str() {
                    "image" if !self.after(at, '.') => self.image(at),
                    "from" if !self.after(at, '.') => self.from(at),
                    "import" => self.import(at),
                    _ if self.is_call(at) => self.call(at, word, known),
                    _ => {}
                },
            }
        }
    }

    fn problem(&mut self, at: usize, message: String) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: Some(self.all[at].line),
            column: Some(self.all[at].column),
            message,
        });
    }

    /// Whether a single `mark` stands before the token; `..` is a range, not an access.
    fn after(&self, at: usize, mark: char) -> bool {
        at > 0 && self.all[at - 1].is(mark) && !(at > 1 && mark == '.' && self.all[at - 2].is(mark))
    }

    fn is(&self, at: usize, mark: char) -> bool {
        self.all.get(at).is_some_and(|token| token.is(mark))
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.all.get(at).and_then(Placed::word)
    }

    fn text(&self, at: usize) -> Option<&str> {
        self.all.get(at).and_then(Placed::text)
    }

    fn image(&mut self, at: usize) {
        if self.is(at + 1, '.') {
            match self.word(at + 2).map(str::to_owned) {
                Some(word) if !self.is(at + 3, '(') => self.path(at + 2, &word),
                Some(word) if PATH_METHODS.contains(&word.as_str()) => self.literal_path(at + 4),
                _ => {}
            }
        } else if self.is(at + 1, '[') && self.is(at + 3, ']') {
            self.literal_path(at + 2);
        }
    }

    fn literal_path(&mut self, at: usize) {
        let ends = self.is(at + 1, ')') || self.is(at + 1, ',') || self.is(at + 1, ']');
        if let Some(text) = self.text(at).filter(|_| ends).map(str::to_owned) {
            self.path(at, &text);
        }
    }

    fn path(&mut self, at: usize, text: &str) {
        if let Err(error) = Path::parse(text) {
            self.problem(at, error.to_string());
        }
    }

    fn from(&mut self, at: usize) {
        let name = self.word(at + 2).map(str::to_owned);
        if let Some(name) = name.filter(|name| self.is(at + 1, '.') && !FACTS.contains(&name.as_str())) {
            self.problem(at + 2, unknown("property of `from`", &name, FACTS));
        }
    }

    fn import(&mut self, at: usize) {
        let name = self.text(at + 1).map(|text| module_name(text).to_owned());
        if let Some(name) = name.filter(|name| !self.names.files.has(name)) {
            let message = unknown("file of the rule folder", &name, self.names.files.names());
            self.problem(at + 1, message);
        }
    }

    /// A word before `(` that is not a function's definition.
    fn is_call(&self, at: usize) -> bool {
        self.is(at + 1, '(') && !(at > 0 && self.all[at - 1].word() == Some("fn"))
    }

    fn call(&mut self, at: usize, word: &str, known: &mut Knowledge) {
        let (method, qualified) = (self.after(at, '.'), self.after(at, ':'));
        if !method && !qualified {
            self.function_exists(at, word);
            self.own_call(at, word);
            if matches!(word, "hold" | "to" | "to_first" | "to_one_of") {
                self.plain_numbers(at, word);
            }
        }
        if qualified {
            self.word_exists(at, word, known);
            self.routing_word(at, word);
        }
        let arguments = self.arguments(at + 1);
        match word {
            "to" if !method && !qualified => self.destination(&arguments, known),
            "to_first" | "to_one_of" if !method && !qualified => self.group(at + 2, word == "to_first", known),
            _ if qualified && self.namespace(at) == "study" => known.asks_for_study = true,
            "matches" | "replace_regex" if !qualified => {
                self.pattern(arguments.get(usize::from(!method)).copied().flatten(), known);
            }
            _ => {}
        }
    }

    fn function_exists(&mut self, at: usize, word: &str) {
        let own = self.functions.iter().map(|function| function.name.as_str());
        let natives = self.names.natives.iter().map(String::as_str);
        let all: Vec<&str> = own.chain(natives).collect();
        if !all.contains(&word) && !KEYWORDS.contains(&word) {
            let message = unknown("function", word, all);
            self.problem(at, message);
        }
    }

    /// The namespace that stands before the word at `at` with its two colons; empty without one.
    fn namespace(&self, at: usize) -> &str {
        at.checked_sub(3).and_then(|at| self.word(at)).unwrap_or_default()
    }

    /// `namespace::word(`, when the namespace is one of the vocabulary's; others are imported files.
    fn word_exists(&mut self, at: usize, word: &str, known: &mut Knowledge) {
        let namespace = self.namespace(at).to_owned();
        let of = |name: &&str| name.split("::").next() == Some(namespace.as_str());
        let all: Vec<&str> = self.names.words.iter().map(String::as_str).filter(of).collect();
        let name = format!("{namespace}::{word}");
        if all.contains(&name.as_str()) {
            self.numbers(at, &name, known);
            self.word_call(at, &name, known);
            if namespace == "charset" {
                for (place, message) in charset_lint::problems(word, &self.all[at + 1..]) {
                    self.problem(at + 1 + place, message);
                }
            }
        } else if all.is_empty() {
            self.imported_call(at, &namespace, word);
        } else {
            let message = unknown("word", &name, all);
            self.problem(at, message);
        }
    }

    /// The arguments of the call whose `(` stands at `open`: the place of each that is a single token, else `None`.
    fn arguments(&self, open: usize) -> Vec<Option<usize>> {
        let (mut depth, mut start, mut found) = (0_usize, open + 1, Vec::new());
        for at in open..self.all.len() {
            let token = &self.all[at];
            let ends = depth == 1 && (token.is(',') || token.is(')'));
            if ends {
                found.push((at == start + 1).then_some(start));
                start = at + 1;
            }
            match token.token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth -= 1,
                Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
            }
            if depth == 0 {
                break;
            }
        }
        found
    }

    fn destination(&mut self, arguments: &[Option<usize>], known: &Knowledge) {
        let Some(at) = arguments.first().copied().flatten() else {
            return;
        };
        self.destination_exists(at);
        if self.is(at + 1, ',') {
            self.options(at + 2, false, known);
        }
    }

    fn destination_exists(&mut self, at: usize) {
        let known = |name: &&str| self.names.destinations.iter().any(|id| id.as_str() == *name);
        if let Some(name) = self.text(at).filter(|name| !known(name)).map(str::to_owned) {
            let ids = self.names.destinations.iter().map(DestinationId::as_str);
            self.problem(at, unknown("destination", &name, ids));
        }
    }

    /// `["a", "b"], #{ ... }` after the parenthesis of `to_first` or `to_one_of`.
    fn group(&mut self, start: usize, first: bool, known: &Knowledge) {
        if !self.is(start, '[') {
            return;
        }
        let mut at = start + 1;
        while at < self.all.len() && !self.is(at, ']') {
            // Whole literals only: `"a" + x` names another.
            let whole =
                (self.is(at - 1, '[') || self.is(at - 1, ',')) && (self.is(at + 1, ',') || self.is(at + 1, ']'));
            if whole {
                self.destination_exists(at);
            }
            at += 1;
        }
        if self.is(at + 1, ',') {
            self.options(at + 2, first, known);
        }
    }

    /// The options of `to` and its like, as far as they are literals. `start` is the place of the map.
    fn options(&mut self, start: usize, first: bool, known: &Knowledge) {
        if !(self.is(start, '#') && self.is(start + 1, '{')) {
            return;
        }
        let (mut at, mut read, mut literal) = (start + 2, terms::Options::default(), true);
        while let Some(key) = self.word(at).map(str::to_owned) {
            if !terms::OPTIONS.contains(&key.as_str()) {
                self.problem(at, unknown("option of to()", &key, terms::OPTIONS));
            } else if let Some(text) = self.text(at + 2).map(str::to_owned)
                && let Err(message) = read.set(&key, &text)
            {
                self.problem(at + 2, message);
            }
            let is_word = self.text(at + 2).is_some() || matches!(self.word(at + 2), Some("true" | "false"));
            literal &= is_word && (self.is(at + 3, ',') || self.is(at + 3, '}'));
            if !self.is(at + 3, ',') {
                break;
            }
            at += 4;
        }
        // What a rule computes is judged when it is.
        let whole = read.check(first).and_then(|()| read.needs_zone(known.site_zone()));
        if let (true, Err(message)) = (literal, whole) {
            self.problem(start, message.to_owned());
        }
    }

    /// The literals of words about routing and studies.
    fn routing_word(&mut self, at: usize, word: &str) {
        let arguments = self.arguments(at + 1);
        let literals: Vec<(usize, String)> = arguments
            .iter()
            .filter_map(|place| place.and_then(|place| Some((place, self.text(place)?.to_owned()))))
            .collect();
        let namespace = self.namespace(at).to_owned();
        for (number, (place, text)) in literals.iter().enumerate() {
            let wrong = match (namespace.as_str(), word) {
                ("route" | "study", _) => super::words::wrong_literal(&namespace, word, number, text),
                (_, _) => None,
            };
            if let Some(message) = wrong {
                self.problem(*place, message);
            }
        }
    }

    fn pattern(&mut self, argument: Option<usize>, known: &mut Knowledge) {
        let Some((at, text)) = argument.and_then(|at| Some((at, self.text(at)?.to_owned()))) else {
            return;
        };
        match verbs::compile(&text) {
            Ok(regex) => drop(known.patterns.insert(text, regex)),
            Err(message) => self.problem(at, message),
        }
    }
}

/// Words of the language that may stand before a parenthesis.
const KEYWORDS: [&str; 20] = [
    "if", "else", "while", "until", "for", "in", "switch", "return", "throw", "do", "loop", "let", "const", "catch",
    "this", "break", "continue", "try", "true", "false",
];

/// `unknown KIND NAME`, with the nearest of `names` when one is near.
pub(super) fn unknown<'a>(kind: &str, name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let scored = names
        .into_iter()
        .map(|other| (strsim::jaro_winkler(name, other), other));
    let nearest = scored
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.7);
    match nearest {
        Some((_, nearest)) => format!("unknown {kind} `{name}`; did you mean `{nearest}`?"),
        None => format!("unknown {kind} `{name}`"),
    }
}
