//! From the files of a rule folder to compiled trees and linked modules, gathering every problem on the way. Used by
//! `RuleSet::load` only; what it leaves is immutable.
use super::Problem;
use super::bench::advice;
use super::bench::probe::marked;
use super::engine::{EXPRESSIONS_MAX, FUNCTIONS_MAX, Loading, Modules, Parts, module_name};
use super::fault::Failure;
use super::lex::{Placed, tokens};
use super::lint::{self, Findings, Names};
use super::set::MAIN;
use super::state::Knowledge;
use super::tables::{self, is_table};
use crate::base::names::DestinationId;
use rhai::{AST, EvalAltResult, ParseErrorType, Position};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILES_MAX: usize = 64;
const BYTE_ORDER_MARK: char = '\u{FEFF}';
const FILE_BYTES_MAX: u64 = 256 << 10;
/// For compiling and evaluating the top level of all files.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// A folder on its way to a rule set.
pub(super) struct Draft<'a> {
    folder: &'a Path,
    sources: BTreeMap<&'a str, &'a str>,
    pub(super) problems: Vec<Problem>,
    pub(super) known: Knowledge,
}

impl<'a> Draft<'a> {
    pub(super) fn new(folder: &'a Path, sources: &'a [(String, String)], text_max: usize) -> Self {
        Self {
            folder,
            sources: sources
                .iter()
                .filter(|(name, _)| !is_table(name))
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect(),
            problems: Vec::new(),
            known: Knowledge {
                text_max,
                ..Knowledge::default()
            },
        }
    }

    fn problem(&mut self, file: &str, position: Position, message: impl Into<String>) {
        self.problems.push(Problem {
            file: self.folder.join(file),
            line: position.line(),
            column: position.position(),
            message: message.into(),
        });
    }

    /// Compiles every file. Syntax errors end the load here, because nothing else can be said of such a file.
    pub(super) fn parse(
        &mut self,
        compiler: &rhai::Engine,
        probed: bool,
    ) -> Result<BTreeMap<String, AST>, Vec<Problem>> {
        let mut trees = BTreeMap::new();
        for (name, text) in self.sources.clone() {
            let compiled = compiler.compile(text);
            let compiled = compiled.and_then(|tree| {
                if probed {
                    compiler.compile(marked(text).text)
                } else {
                    Ok(tree)
                }
            });
            match compiled {
                Ok(mut tree) => {
                    tree.set_source(name);
                    trees.insert(stem(name).to_owned(), tree);
                }
                Err(error) => self.problem(name, error.position(), syntax(error.err_type())),
            }
        }
        if self.problems.is_empty() {
            Ok(trees)
        } else {
            Err(std::mem::take(&mut self.problems))
        }
    }

    pub(super) fn lint(
        &mut self,
        sources: &[(String, String)],
        destinations: &[DestinationId],
        (natives, words): (&[String], &[String]),
    ) -> BTreeMap<String, Vec<lint::Function>> {
        let scripts = || sources.iter().filter(|(name, _)| !is_table(name));
        let mut files = lint::Files::default();
        scripts().for_each(|(name, text)| files.add(stem(name), &tokens(text)));
        let names = Names {
            destinations,
            files: &files,
            natives,
            words,
        };
        let mut functions = BTreeMap::new();
        for (name, text) in scripts() {
            let file = self.folder.join(name);
            let Findings {
                problems,
                functions: own,
            } = lint::check(&file, text, &names, &mut self.known);
            self.problems.extend(problems);
            self.problems.extend(advice::impossible(&file, &tokens(text)));
            self.problems
                .extend(super::words::check::check(&file, text, &self.known.local));
            functions.insert(name.clone(), own);
        }
        functions
    }

    /// What is allowed but most likely not meant, sorted by place.
    pub(super) fn warnings(&self, entry: &str) -> Vec<Problem> {
        let all: Vec<(&str, Vec<Placed>)> = self.sources.iter().map(|(name, text)| (*name, tokens(text))).collect();
        let calls: Vec<&[Placed]> = all.iter().map(|(_, tokens)| tokens.as_slice()).collect();
        let mut found = Vec::new();
        for (name, tokens) in &all {
            let file = self.folder.join(name);
            found.extend(advice::warnings(&file, tokens, &calls, *name == entry));
            found.extend(advice::sites(&file, tokens, &self.known.tables));
            if *name == entry {
                found.extend(advice::never_routed(&file, tokens, &calls));
            }
        }
        found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        found
    }

    pub(super) fn entry(&mut self, trees: &BTreeMap<String, AST>) -> Result<String, Vec<Problem>> {
        if trees.contains_key(stem(MAIN)) {
            return Ok(MAIN.to_owned());
        }
        match self.sources.keys().next() {
            Some(only) if self.sources.len() == 1 => Ok((*only).to_owned()),
            _ => {
                self.problem(
                    MAIN,
                    Position::NONE,
                    "is missing: with several rule files, main.rhai is the entry",
                );
                Err(std::mem::take(&mut self.problems))
            }
        }
    }

    /// Checks the functions that Waystation calls. Answers the `morph_for_DEST` of each destination.
    pub(super) fn signatures(
        &mut self,
        tree: &AST,
        entry: &str,
        destinations: &[DestinationId],
        functions: &BTreeMap<String, Vec<lint::Function>>,
    ) -> BTreeMap<DestinationId, String> {
        let mut ids: BTreeMap<String, Vec<&DestinationId>> = BTreeMap::new();
        for id in destinations {
            ids.entry(id.as_str().replace('-', "_")).or_default().push(id);
        }
        let place = |name: &str| {
            let own = functions.get(entry).into_iter().flatten().find(|f| f.name == name);
            own.map_or(Position::NONE, |f| place(f.line, f.column))
        };
        let mut morph_for = BTreeMap::new();
        for function in tree.iter_functions() {
            let ours = matches!(function.name, "morph" | "route");
            let destination = function.name.strip_prefix("morph_for_");
            if (ours || destination.is_some()) && function.params.len() != 2 {
                let message = format!("`{}` must take two parameters: (image, from)", function.name);
                self.problem(entry, place(function.name), message);
            }
            match destination.map(|name| (name, ids.get(name))) {
                None => {}
                Some((_, Some(ids))) => match ids[..] {
                    [id] => drop(morph_for.insert(id.clone(), function.name.to_owned())),
                    // Two names that differ in `-` and `_` only: one would get the other's edits, or none.
                    _ => {
                        let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
                        let message = format!("`{}` may mean {}: rename one", function.name, names.join(" or "));
                        self.problem(entry, place(function.name), message);
                    }
                },
                Some((name, None)) => {
                    let message = lint::unknown("destination", name, ids.keys().map(String::as_str));
                    self.problem(
                        entry,
                        place(function.name),
                        format!("{message} (in `{}`)", function.name),
                    );
                }
            }
        }
        if !has(tree, "route") {
            self.problem(
                entry,
                Position::NONE,
                "has no `fn route(image, from)`: every instance would be held",
            );
        }
        morph_for
    }

    /// Evaluates the top level of every file once, imports first.
    pub(super) fn link(
        &mut self,
        parts: &Parts,
        until: Instant,
        trees: BTreeMap<String, AST>,
        entry: (&AST, &str),
    ) -> Modules {
        let loading = Loading::new(trees);
        let mut engine = parts.engine(until);
        engine.set_module_resolver(loading.clone());
        for name in loading.trees.keys() {
            let file = format!("{name}.rhai");
            let import = rhai::ModuleResolver::resolve(&loading, &engine, None, name, Position::NONE);
            if let Err(error) = import {
                self.failure(&error, &file);
            }
        }
        if let Err(error) = engine.run_ast(entry.0) {
            self.failure(&error, entry.1);
        }
        loading.finish()
    }

    /// A failure at the top level. An import that lint has already reported is not said twice.
    fn failure(&mut self, error: &EvalAltResult, file: &str) {
        let failure = Failure::of(error, file);
        let line = failure.position.line();
        let said = self
            .problems
            .iter()
            .any(|p| p.file == self.folder.join(&failure.file) && p.line == line);
        if !said {
            self.problem(&failure.file, failure.position, failure.fault.message);
        }
    }
}

/// What Rhai says of text that it cannot compile, and of our limits what to do.
fn syntax(error: &ParseErrorType) -> String {
    match error {
        ParseErrorType::ExprTooDeep => format!(
            "is nested too deep, {EXPRESSIONS_MAX} levels at most: each `else if`, each block, each parenthesis and each `&&` of a chain is one. \
            Write `switch`, or `x in [\"a\", \"b\"]`, or put a part into a function of its own"
        ),
        ParseErrorType::TooManyFunctions => {
            format!("a file has at most {FUNCTIONS_MAX} functions: put some into another file and import it")
        }
        other => other.to_string(),
    }
}

pub(super) fn has(tree: &AST, name: &str) -> bool {
    tree.iter_functions()
        .any(|function| function.name == name && function.params.len() == 2)
}

fn place(line: usize, column: usize) -> Position {
    // Files are at most 256 KiB, so lines and columns of one-line files can pass 65,535; then the place is left out.
    match (u16::try_from(line), u16::try_from(column)) {
        (Ok(line), Ok(column)) if line > 0 => Position::new(line, column),
        (_, _) => Position::NONE,
    }
}

pub(super) fn stem(name: &str) -> &str {
    module_name(name)
}

pub(super) fn epoch(sources: &[(String, String)]) -> u64 {
    let sorted: BTreeMap<&String, &String> = sources.iter().map(|(name, text)| (name, text)).collect();
    let mut hash = blake3::Hasher::new();
    for (name, text) in sorted {
        for part in [name, text] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// The folder's own `*.rhai` and `*.csv` files, sorted by name; not those of folders in it.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Vec<Problem>> {
    let wrong = |message: String| vec![whole(folder, message)];
    let entries =
        std::fs::read_dir(folder).map_err(|e| wrong(format!("the rule folder cannot be read: {}", e.kind())))?;
    let (mut files, mut tables) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry
            .map_err(|e| wrong(format!("the rule folder cannot be read: {}", e.kind())))?
            .path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        match path.extension().and_then(|kind| kind.to_str()) {
            Some("rhai") if !hidden => files.push(path),
            Some("csv") if !hidden => tables.push(path),
            _ => {}
        }
    }
    let too_many = |max: usize, kind: &str| wrong(format!("the rule folder holds more than {max} {kind} files"));
    if files.is_empty() {
        return Err(wrong("the rule folder holds no .rhai file".to_owned()));
    }
    if files.len() > FILES_MAX {
        return Err(too_many(FILES_MAX, ".rhai"));
    }
    if tables.len() > tables::FILES_MAX {
        return Err(too_many(tables::FILES_MAX, ".csv"));
    }
    files.append(&mut tables);
    files.sort();
    Ok(files)
}

pub(super) fn read(folder: &Path) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    // What the tables may still hold, all together.
    let mut room = tables::BYTES_MAX;
    for path in files(folder)? {
        let mut alone = FILE_BYTES_MAX;
        let is_table = is_table(&path.to_string_lossy());
        let room = if is_table { &mut room } else { &mut alone };
        match (name(&path), own(folder, &path).and_then(|()| text(&path, room))) {
            (Some(name), Ok(text)) => sources.push((name, text)),
            (None, _) => {
                problems.push(whole(
                    &path,
                    "a rule file's name is letters, digits, `_` and `-`, then .rhai or .csv".to_owned(),
                ));
            }
            (_, Err((line, message))) => problems.push(Problem {
                line,
                ..whole(&path, message)
            }),
        }
    }
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

fn name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = stem(name).trim_end_matches(".csv");
    let plain = stem
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    (plain && !stem.is_empty()).then(|| name.to_owned())
}

/// A link within the folder is fine (mounted configuration is made of them); one that leaves it would make any file of the
/// machine a rule.
fn own(folder: &Path, path: &Path) -> Result<(), Unread> {
    let place = |path: &Path| std::fs::canonicalize(path).map_err(|e| unread(&e));
    if place(path)?.starts_with(place(folder)?) {
        Ok(())
    } else {
        Err((None, "is a link that leaves the rule folder".to_owned()))
    }
}

/// The line and what is wrong.
type Unread = (Option<usize>, String);

fn unread(error: &std::io::Error) -> Unread {
    (None, format!("cannot be read: {}", error.kind()))
}

/// The file's text, at most `room` bytes of it, which are then gone from `room`.
fn text(path: &Path, room: &mut u64) -> Result<String, Unread> {
    let about = std::fs::metadata(path).map_err(|e| unread(&e))?;
    if !about.is_file() {
        return Err((None, "is not a plain file".to_owned()));
    }
    *room = room.checked_sub(about.len()).ok_or_else(|| {
        let message = if is_table(&path.to_string_lossy()) {
            format!("the tables are together longer than {} bytes", tables::BYTES_MAX)
        } else {
            format!("is longer than {FILE_BYTES_MAX} bytes")
        };
        (None, message)
    })?;
    let bytes = std::fs::read(path).map_err(|e| unread(&e))?;
    if bytes.len() as u64 != about.len() {
        return Err((None, "changed while it was read".to_owned()));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        (Some(line), "is not UTF-8 text".to_owned())
    })?;
    // As Notepad begins a file. It takes no place on its line. Tables pass it over where they are read.
    if !is_table(&path.to_string_lossy()) && text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

pub(super) fn whole(file: &Path, message: String) -> Problem {
    Problem {
        file: file.to_owned(),
        line: None,
        column: None,
        message,
    }
}

/// The compiler is not ours: what it stumbles over is refused like what it refuses.
pub(super) fn stumbled(folder: &Path) -> Problem {
    whole(folder, "the compiler stopped unexpectedly".to_owned())
}
