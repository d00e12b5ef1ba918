//! The keys: which there are, which the files and the environment use, and where each one stands.
//!
//! The key tree is `config/reference.toml`, the shipped file that shows every key with its default. A test holds it
//! against the `Config` structs in both directions, so that neither can drift. Keys are checked over the raw tree, before
//! and apart from types, so that every wrong one is said at once, with the nearest known one.
use super::{ENVIRONMENT_PREFIX, Problem, Severity, credentials};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

const REFERENCE: &str = include_str!("../../config/reference.toml");

/// Variables with our prefix that are not settings.
const NOT_SETTINGS: [&str; 1] = ["WAYSTATION_PLANT"];

/// A configuration file is small; this is a thousand sources and more.
const FILE_MAX: u64 = 4 << 20;

/// What may stand at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Value,
    Table(BTreeMap<String, Node>),
    /// `[[name]]`: the keys of an element, by its `kind` (empty when it has none).
    List(BTreeMap<String, BTreeMap<String, Node>>),
}

/// The raw material: what the files hold, variables, and where each key was set.
pub(super) struct Sources {
    /// One for each file that could be read and parsed. Parsed once: a second parser may know another TOML.
    pub tables: Vec<Table>,
    pub variables: Vec<(String, Value)>,
    /// Where the service manager has put the credentials of the service.
    pub credentials: Option<String>,
    pub problems: Vec<Problem>,
    places: BTreeMap<String, Place>,
    lists: BTreeMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Place {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
}

impl Sources {
    /// Reads all of them. What cannot be read or parsed becomes a problem and is left out.
    pub fn read(files: &[PathBuf], variables: &[(String, String)]) -> Self {
        let mut sources = Self {
            tables: Vec::new(),
            variables: Vec::new(),
            credentials: None,
            problems: Vec::new(),
            places: BTreeMap::new(),
            lists: BTreeMap::new(),
        };
        for file in files {
            sources.read_file(file);
        }
        for (name, value) in variables {
            if name == credentials::VARIABLE {
                sources.credentials = Some(value.clone());
            } else {
                sources.read_variable(name, value);
            }
        }
        sources
    }

    fn read_file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let problem = |message: String| Problem {
            file: Some(file.clone()),
            ..Problem::error("", message)
        };
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(Unread { message, at }) => {
                let (line, column) = at.unzip();
                return self.problems.push(Problem {
                    line,
                    column,
                    ..problem(message)
                });
            }
        };
        match DeTable::parse(&text) {
            Ok(table) => {
                let mut walk = Walk {
                    file: &file,
                    text: &text,
                    sources: self,
                };
                walk.table(table.get_ref(), "", &known());
            }
            Err(error) => return self.problems.push(of_toml(&text, &error, problem)),
        }
        // Numbers are only read here: one that no number of 64 bits can be.
        match toml::from_str::<Table>(&text) {
            Ok(mut table) => {
                table.iter_mut().for_each(|(_, value)| unquoted(value));
                without_false_lists(&mut table, &known());
                self.tables.push(table);
            }
            Err(error) => self.problems.push(of_toml(&text, &error, problem)),
        }
    }

    fn read_variable(&mut self, name: &str, value: &str) {
        if NOT_SETTINGS.contains(&name) {
            return;
        }
        let key = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        let tree = known();
        let mut node = Some(&tree);
        let mut last = None;
        for part in key.split('.') {
            let Some(keys) = node else { break };
            last = keys.get(part);
            node = match last {
                Some(Node::Table(keys)) => Some(keys),
                _ => None,
            };
        }
        let place = Place {
            file: format!("environment {name}"),
            line: None,
            column: None,
        };
        if last == Some(&Node::Value) {
            self.places.insert(key.clone(), place);
            self.variables.push((key, variable_value(value)));
        } else {
            let message = match (last, nearest(&key, settable(&tree).iter().map(String::as_str))) {
                (Some(Node::List(_) | Node::Table(_)), _) => "is not a single setting: write it in a file".to_owned(),
                (_, Some(near)) => format!("unknown setting; did you mean `{}`?", variable_name(near)),
                (_, None) => "unknown setting".to_owned(),
            };
            self.problems.push(Problem {
                file: Some(place.file),
                ..Problem::error(key, message)
            });
        }
    }

    /// Fills in where the key of a problem was set, or the nearest table around it.
    pub fn place(&self, problem: &mut Problem) {
        let mut key = problem.key.as_str();
        while problem.file.is_none() && !key.is_empty() {
            if let Some(place) = self.places.get(key) {
                problem.file = Some(place.file.clone());
                (problem.line, problem.column) = (place.line, place.column);
            }
            key = key.rfind(['.', '[']).map_or("", |at| &key[..at]);
        }
    }
}

struct Walk<'a> {
    file: &'a str,
    text: &'a str,
    sources: &'a mut Sources,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>, prefix: &str, keys: &BTreeMap<String, Node>) {
        for (name, value) in table {
            let (line, column) = position(self.text, name.span().start);
            let name = name.get_ref().as_ref();
            let key = if prefix.is_empty() {
                name.to_owned()
            } else {
                format!("{prefix}.{name}")
            };
            let place = Place {
                file: self.file.to_owned(),
                line: Some(line),
                column: Some(column),
            };
            self.sources.places.insert(key.clone(), place.clone());
            match (keys.get(name), value.get_ref()) {
                (Some(Node::Table(keys)), DeValue::Table(inner)) => self.table(inner, &key, keys),
                (Some(Node::List(kinds)), DeValue::Array(elements)) => self.list(elements, &key, kinds),
                (Some(Node::Table(_)), DeValue::Array(elements))
                    if elements.iter().any(|one| matches!(one.get_ref(), DeValue::Table(_))) =>
                {
                    let message = format!("is one table and no list: write [{}], in single brackets", bare(&key));
                    self.say(place, key, message);
                }
                // A value where a table should be, or the other way round, is a wrong type: the extraction says it.
                (Some(_), _) => {}
                (None, _) => {
                    let message = match nearest(name, keys.keys().map(String::as_str)) {
                        Some(near) => format!("unknown key; did you mean `{near}`?"),
                        None => format!("unknown key; known here: {}", join(keys.keys())),
                    };
                    self.say(place, key, message);
                }
            }
        }
    }

    fn say(&mut self, place: Place, key: String, message: String) {
        self.sources.problems.push(Problem {
            severity: Severity::Error,
            file: Some(place.file),
            line: place.line,
            column: place.column,
            key,
            message,
        });
    }

    fn list(
        &mut self,
        elements: &[toml::Spanned<DeValue<'_>>],
        key: &str,
        kinds: &BTreeMap<String, BTreeMap<String, Node>>,
    ) {
        for element in elements {
            let index = self.sources.lists.entry(key.to_owned()).or_default();
            let key = format!("{key}[{index}]");
            *index += 1;
            let (line, column) = position(self.text, element.span().start);
            let place = Place {
                file: self.file.to_owned(),
                line: Some(line),
                column: Some(column),
            };
            self.sources.places.insert(key.clone(), place);
            if let DeValue::Table(table) = element.get_ref() {
                let kind = table
                    .get("kind")
                    .and_then(|kind| kind.get_ref().as_str())
                    .unwrap_or_default();
                match kinds.get(kind) {
                    Some(keys) => self.table(table, &key, keys),
                    // The kind itself is wrong: the extraction says so; any kind's keys are let through.
                    None => self.table(table, &key, &of_all(kinds)),
                }
            }
        }
    }
}

/// A day or a time of day without its quotes is taken as the text it plainly is: no setting is a TOML date. Times of day are written
/// without seconds.
fn unquoted(value: &mut Value) {
    match value {
        Value::Datetime(at) => {
            let text = at.to_string();
            let minutes = text.strip_suffix(":00").filter(|_| at.date.is_none());
            *value = Value::String(minutes.unwrap_or(&text).to_owned());
        }
        Value::Array(elements) => elements.iter_mut().for_each(unquoted),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| unquoted(value)),
        _ => {}
    }
}

/// The keys of elements of every kind.
fn of_all(kinds: &BTreeMap<String, BTreeMap<String, Node>>) -> BTreeMap<String, Node> {
    let all = kinds.values().flatten();
    all.map(|(name, node)| (name.clone(), node.clone())).collect()
}

/// A key without the indices: the name of its table as it is written.
fn bare(key: &str) -> String {
    let parts = key.split('[').enumerate();
    parts.fold(String::new(), |out, (index, part)| match part.split_once(']') {
        Some((_, rest)) if index > 0 => out + rest,
        _ => out + part,
    })
}

/// Takes lists of tables out that should be one table, which has been said: a list is read as the values of the table in their order.
fn without_false_lists(table: &mut Table, keys: &BTreeMap<String, Node>) {
    table.retain(|name, value| match (keys.get(name), value) {
        (Some(Node::Table(_)), Value::Array(elements)) => !elements.iter().any(Value::is_table),
        (Some(Node::Table(keys)), Value::Table(inner)) => {
            without_false_lists(inner, keys);
            true
        }
        (Some(Node::List(kinds)), Value::Array(elements)) => {
            let keys = of_all(kinds);
            let tables = elements.iter_mut().filter_map(Value::as_table_mut);
            tables.for_each(|table| without_false_lists(table, &keys));
            true
        }
        _ => true,
    });
}

/// The tree of all keys.
pub(super) fn known() -> BTreeMap<String, Node> {
    // A constant of this crate, parsed by a test.
    let reference: Table = toml::from_str(REFERENCE).unwrap_or_default();
    tree(&reference)
}

/// The keys of a raw table.
pub(super) fn tree(table: &Table) -> BTreeMap<String, Node> {
    table.iter().map(|(name, value)| (name.clone(), node(value))).collect()
}

fn node(value: &Value) -> Node {
    match value {
        Value::Table(table) => Node::Table(tree(table)),
        Value::Array(elements) if elements.iter().any(Value::is_table) => {
            let mut kinds: BTreeMap<String, BTreeMap<String, Node>> = BTreeMap::new();
            for table in elements.iter().filter_map(Value::as_table) {
                let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
                kinds.entry(kind.to_owned()).or_default().extend(tree(table));
            }
            Node::List(kinds)
        }
        _ => Node::Value,
    }
}

/// All keys that a variable can set, with dots.
fn settable(tree: &BTreeMap<String, Node>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, node) in tree {
        match node {
            Node::Value => found.push(name.clone()),
            Node::Table(inner) => found.extend(settable(inner).into_iter().map(|key| format!("{name}.{key}"))),
            Node::List(_) => {}
        }
    }
    found
}

fn variable_name(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// As figment reads them: numbers, booleans and lists as TOML writes them, everything else is text.
fn variable_value(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("v = {text}")).ok();
    match parsed.and_then(|mut table| table.remove("v")) {
        Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// The known name that somebody probably meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.78).then_some(best.1)
}

fn join<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What the parser says, with its place.
fn of_toml(text: &str, error: &toml::de::Error, problem: impl Fn(String) -> Problem) -> Problem {
    let Some(span) = error.span() else {
        return problem(error.message().to_owned());
    };
    let message = bare_word(text, span.start, error.message()).unwrap_or_else(|| error.message().to_owned());
    let (line, column) = position(text, span.start);
    Problem {
        line: Some(line),
        column: Some(column),
        ..problem(message)
    }
}

/// What to say of a text without quotes that begins like one of TOML's own words: the parser takes `north` for a `nan`.
fn bare_word(text: &str, at: usize, message: &str) -> Option<String> {
    let rest = text.get(at..)?;
    let end = rest.find(|c: char| c.is_whitespace() || ",]}#".contains(c));
    let word = &rest[..end.unwrap_or(rest.len())];
    let is_taken_for_another = message.starts_with("invalid float") || message.starts_with("invalid boolean");
    (is_taken_for_another && word.starts_with(char::is_alphabetic))
        .then(|| format!("`{word}` is neither a number nor true or false; a text stands in quotes: \"{word}\""))
}

/// Line and column of a byte, from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rfind('\n')
        .map_or(before, |newline| &before[newline + 1..])
        .chars()
        .count()
        + 1;
    (line, column)
}

/// Why a file is not read, and where it stops being readable.
struct Unread {
    message: String,
    at: Option<(usize, usize)>,
}

fn read_bounded(path: &Path) -> Result<String, Unread> {
    let unread = |message: String| Unread { message, at: None };
    let cannot = |error: std::io::Error| unread(format!("cannot be read: {error}"));
    let facts = std::fs::metadata(path).map_err(cannot)?;
    if facts.is_dir() {
        return Err(unread("is a folder, not a configuration file".to_owned()));
    }
    if facts.len() > FILE_MAX {
        return Err(unread("is longer than 4 MiB".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let message = "is UTF-16: save it as UTF-8 (`iconv -f utf-16 -t utf-8` does it)".to_owned();
        return Err(unread(message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        Unread {
            message: "has a byte that is no UTF-8, as an umlaut in Latin-1: save the file as UTF-8 (`iconv -f latin1 -t utf-8` does it)"
                .to_owned(),
            at: Some(position(&good, good.len())),
        }
    })
}
