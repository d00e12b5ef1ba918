//! Just enough of Rust's lexical structure: comments, strings and character literals are blanked, so that what is left is
//! code, and braces can be counted.

/// A file's code, line by line.
pub struct Source {
    lines: Vec<String>,
    /// The index of the line from which everything is tests.
    tests: usize,
}

/// A function and its size.
pub struct Function {
    pub name: String,
    /// From 1.
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn read(text: &str) -> Self {
        let lines: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let marks = lines.windows(2).position(|pair| {
            let module = pair[1].trim_start();
            pair[0].trim() == "#[cfg(test)]" && has_word(module, "mod") && module.trim_end().ends_with('{')
        });
        Self {
            tests: marks.unwrap_or(lines.len()),
            lines,
        }
    }

    /// All lines of code, numbered from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines
            .iter()
            .enumerate()
            .map(|(index, line)| (index + 1, line.as_str()))
    }

    pub fn lines_outside_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take(self.tests)
    }

    /// The rooms that `crate::room` and `use crate::{room, …}` name outside the tests, with their lines.
    pub fn imported_rooms(&self) -> Vec<(usize, String)> {
        let code: Vec<&str> = self.lines_outside_tests().map(|(_, line)| line).collect();
        let code = code.join("\n");
        let mut found = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            let boundary = code[..at]
                .chars()
                .next_back()
                .is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$');
            let rest = &code[at + "crate::".len()..];
            let line = code[..at].matches('\n').count() + 1;
            if boundary && rest.starts_with('{') {
                found.extend(group(rest).into_iter().map(|room| (line, room)));
            } else if boundary {
                found.push((line, word(rest)));
            }
        }
        found
    }
}

/// The first names in `{a::b, c, d::{e, f}}`.
fn group(text: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0_usize, Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => fresh = depth == 1,
            c if fresh && !c.is_whitespace() => {
                names.push(word(&text[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether the code names a crate's path: `use name`, or `name::`, not as the end of a longer path.
pub fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + name.len()..];
        let starts =
            !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') && !before.ends_with("::");
        let global = before.ends_with("::")
            && !before
                .trim_end_matches("::")
                .ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let imported = before.trim_end().ends_with("use") && (after.starts_with(';') || after.starts_with(" as "));
        (starts || global) && (after.starts_with("::") || imported)
    })
}

/// Whether `word` stands alone in the text.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// Every function with a body, measured from its `fn` to its closing brace.
pub fn functions(source: &Source) -> Vec<Function> {
    let code = source.lines.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            let name = word(&code[at + 3..]);
            let Some(open) = code[at..].find(['{', ';']).map(|open| at + open) else {
                continue;
            };
            if name.is_empty() || code.as_bytes()[open] == b';' {
                continue;
            }
            let lines = code[at..closing(&code, open)].matches('\n').count() + 1;
            found.push(Function {
                name,
                line: code[..at].matches('\n').count() + 1,
                lines,
            });
        }
    }
    found
}

/// Where the brace that opens at `open` closes.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The text with comments and the insides of literals made spaces; lines stay lines.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => find(&chars, at, |i| chars[i] == '\n'),
            ('/', Some('*')) => comment(&chars, at),
            ('"', _) => string(&chars, at),
            ('r', Some('"' | '#')) if !in_word(&chars, at) => raw(&chars, at),
            ('b', Some('r')) if !in_word(&chars, at) => raw(&chars, at + 1),
            ('\'', _) => character(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn in_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn find(chars: &[char], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|i| stop(*i)).unwrap_or(chars.len())
}

fn comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `r"…"`, `r#"…"#`; not a raw identifier.
fn raw(chars: &[char], from: usize) -> usize {
    let quote = find(chars, from + 1, |i| chars[i] != '#');
    if chars.get(quote) != Some(&'"') {
        return from;
    }
    let hashes = quote - from - 1;
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (find(chars, quote + 1, closes) + 1 + hashes).min(chars.len())
}

/// `'x'`, `'\n'`, `'\u{1F}'`; not a lifetime.
fn character(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => (find(chars, from + 3, |i| chars[i] == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => from + 3,
        _ => from,
    }
}
