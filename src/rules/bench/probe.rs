//! Which lines of the rules ran, and how long each took, for `rules test --coverage` and `rules trace`. Rhai tells neither,
//! so a copy of the rules is compiled in which every statement first says its line. The rules in force are never changed.
//!
//! Line numbers stay as they are (those that Rhai counts): what is added stands on the statement's own line.
use crate::rules::lex::{Placed, tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What statements call. No rule can name it: the lint knows no such function.
pub(in crate::rules) const MARK: &str = "__ran";

/// What one evaluation did, by file and line.
#[derive(Clone, Debug, Default)]
pub(in crate::rules) struct Steps {
    pub(in crate::rules) ran: BTreeMap<(String, usize), Step>,
    last: Option<((String, usize), Instant)>,
}

/// How often a line ran and how long it took, calls that it made included only as far as they have no lines of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::rules) struct Step {
    pub(in crate::rules) times: u32,
    pub(in crate::rules) took: Duration,
}

impl Steps {
    /// A statement begins: what went before ends.
    pub(in crate::rules) fn step(&mut self, file: &str, line: usize) {
        let now = self.end();
        self.ran.entry((file.to_owned(), line)).or_default().times += 1;
        self.last = Some(((file.to_owned(), line), now));
    }

    /// The last statement ends.
    pub(in crate::rules) fn end(&mut self) -> Instant {
        let now = Instant::now();
        if let Some((place, began)) = self.last.take() {
            self.ran.entry(place).or_default().took += now.duration_since(began);
        }
        now
    }
}

/// The text with marks, and the lines that have one.
pub(in crate::rules) struct Marked {
    pub(in crate::rules) text: String,
    pub(in crate::rules) lines: BTreeSet<usize>,
}

/// Marks every statement inside functions, and every arm of a `switch`.
pub(in crate::rules) fn marked(source: &str) -> Marked {
    let all = tokens(source);
    let mut marker = Marker {
        all: &all,
        levels: Vec::new(),
        inserts: Vec::new(),
        lines: BTreeSet::new(),
        starters: vec![None],
    };
    marker.run();
    let Marker { mut inserts, lines, .. } = marker;
    inserts.sort_by_key(|insert| (insert.at, insert.order));
    Marked {
        text: with(source, &inserts),
        lines,
    }
}

struct Insert {
    /// Before which character of the source.
    at: usize,
    /// A closing brace goes before a mark at the same place.
    order: u8,
    text: String,
}

fn with(source: &str, inserts: &[Insert]) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut due = inserts.iter().peekable();
    for (at, letter) in source.chars().enumerate() {
        while let Some(insert) = due.next_if(|insert| insert.at == at) {
            out.push_str(&insert.text);
        }
        out.push(letter);
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Block,
    Switch,
    /// A map, parentheses, brackets: no statements.
    Plain,
}

struct Marker<'a> {
    all: &'a [Placed],
    levels: Vec<Level>,
    inserts: Vec<Insert>,
    lines: BTreeSet<usize>,
    /// The word that began the statement under way, for each level.
    starters: Vec<Option<String>>,
}

/// Statements that end with their block, without a semicolon.
const BLOCKS: [&str; 9] = ["if", "for", "while", "loop", "do", "switch", "fn", "try", "private"];

impl Marker<'_> {
    fn run(&mut self) {
        // The levels at which the bodies of `switch` open: what it switches on may have braces of its own, in parentheses.
        let (mut starts, mut switches) = (true, Vec::new());
        // Arms opened by us, by the depth at which they end, and whether they end with their block.
        let mut arms: Vec<(usize, bool)> = Vec::new();
        for at in 0..self.all.len() {
            let word = self.all[at].word().map(str::to_owned);
            if starts && !self.is(at, '}') {
                self.starts(at, word.as_deref());
            }
            starts = false;
            if word.as_deref() == Some("switch") {
                switches.push(self.levels.len());
            }
            if self.is(at, '{') {
                // A map or an interpolation.
                let plain = at > 0 && (self.is(at - 1, '#') || self.is(at - 1, '$'));
                let level = if plain {
                    Level::Plain
                } else if switches.pop_if(|level| *level == self.levels.len()).is_some() {
                    Level::Switch
                } else {
                    Level::Block
                };
                self.open(level);
                starts = level == Level::Block;
            } else if self.is(at, '(') || self.is(at, '[') {
                self.open(Level::Plain);
            } else if self.is(at, ')') || self.is(at, ']') {
                self.close();
            } else if self.is(at, '}') {
                if arms.pop_if(|(level, _)| *level == self.levels.len()).is_some() {
                    self.insert(at, 0, " }".to_owned());
                }
                let level = self.close();
                starts = level != Some(Level::Plain) && self.ends(at + 1);
                // An `if`, a loop or the like needs no comma behind it.
                let next = self.all.get(at + 1).and_then(Placed::word);
                let goes_on = matches!(next, Some("else" | "catch")) || self.is(at + 1, ',') || self.is(at + 1, '}');
                if level != Some(Level::Plain)
                    && !goes_on
                    && arms.pop_if(|arm| *arm == (self.levels.len(), true)).is_some()
                {
                    self.insert(at + 1, 0, " }".to_owned());
                }
            } else if self.is(at, ';') {
                starts = matches!(self.levels.last(), None | Some(Level::Block));
            } else if self.is(at, ',') && arms.pop_if(|(level, _)| *level == self.levels.len()).is_some() {
                self.insert(at, 0, " }".to_owned());
            } else if self.arrow(at) && !self.is(at + 1, '{') && at + 1 < self.all.len() {
                let line = self.all[at + 1].line;
                self.insert(at + 1, 1, format!("{{ {MARK}({line}); "));
                self.lines.insert(line);
                let value = self.all[at + 1].word();
                let ends_with_block = value.is_some_and(|word| BLOCKS.contains(&word) && word != "do");
                arms.push((self.levels.len(), ends_with_block));
            }
        }
    }

    fn is(&self, at: usize, mark: char) -> bool {
        self.all.get(at).is_some_and(|token| token.is(mark))
    }

    /// The `>` of a `=>` in the body of a `switch`.
    fn arrow(&self, at: usize) -> bool {
        self.levels.last() == Some(&Level::Switch) && self.is(at, '>') && at > 0 && self.is(at - 1, '=')
    }

    fn open(&mut self, level: Level) {
        self.levels.push(level);
        self.starters.push(None);
    }

    fn close(&mut self) -> Option<Level> {
        self.starters.pop();
        self.levels.pop()
    }

    fn starts(&mut self, at: usize, word: Option<&str>) {
        if let Some(starter) = self.starters.last_mut() {
            *starter = word.map(str::to_owned);
        }
        if self.levels.last() == Some(&Level::Block) && word != Some("fn") {
            let line = self.all[at].line;
            self.insert(at, 1, format!("{MARK}({line}); "));
            self.lines.insert(line);
        }
    }

    /// Whether the token at `at`, after a closed block, begins a statement.
    fn ends(&self, at: usize) -> bool {
        let starter = self.starters.last().and_then(Option::as_deref);
        let next = self.all.get(at).and_then(Placed::word);
        match starter {
            Some("do") if matches!(next, Some("while" | "until")) => false,
            Some(word) if BLOCKS.contains(&word) => !matches!(next, Some("else" | "catch")) && !self.is(at, ';'),
            Some(_) | None => false,
        }
    }

    fn insert(&mut self, at: usize, order: u8, text: String) {
        let Placed { at, .. } = self.all[at];
        self.inserts.push(Insert { at, order, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &str) -> Vec<usize> {
        let marked = marked(source);
        let compiled = rhai::Engine::new_raw().compile(&marked.text);
        assert!(compiled.is_ok(), "{}\n{:?}", marked.text, compiled.err());
        assert_eq!(source.lines().count(), marked.text.lines().count());
        marked.lines.into_iter().collect()
    }

    #[test]
    fn every_statement_of_a_function_has_its_line() {
        let source = "const A = 1;\nfn f(x) {\n  let y = 2;\n  if x {\n    y\n  } else if y == 1 {\n    x = #{a: 1};\n  } else {\n    y = 3\n  }\n  \
            for i in 0..3 { x += i; }\n  do { x = 1; } while x == 2;\n  let z = if x { 1 } else { 2 };\n  return z;\n}";
        assert_eq!(lines(source), [3, 4, 5, 7, 9, 11, 12, 13, 14]);
    }

    #[test]
    fn what_a_switch_is_on_may_have_braces() {
        for on in [
            "(if x == 1 { 2 } else { 3 })",
            "`${if x == 1 { 2 } else { 3 }}`",
            "(switch (if x == 1 { 2 } else { 3 }) { 2 => 1, _ => 4 })",
            "#{a: x}.a",
            "[`${x}${#{a: `}{`}}`][0]",
        ] {
            let source = format!("fn f(x) {{\n switch {on} {{\n 2 => g(x),\n _ => g(1)\n }}\n}}\nfn g(x) {{ x }}");
            assert_eq!(lines(&source), [2, 3, 4, 7]);
        }
    }

    #[test]
    fn arms_that_end_with_a_block_need_no_comma() {
        let source = "fn f(x) {\n switch x {\n 1 => if #{a: x}.a { 2 } else { 3 }\n 2 => for i in x { 4 }\n 3 => { 5 }\n \
            4 => switch x { _ => 6 }\n 5 => do { 7 } while x, _ => 8\n }\n}";
        assert_eq!(lines(source), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn an_interpolated_text_is_a_statement_or_an_arm_like_any_other() {
        let source = "fn f(x) {\n `a${x}`;\n switch x {\n 1 => `b${x}`,\n _ => `c${x}`\n }\n}";
        let marked = marked(source).text;
        for text in [
            "__ran(2); `a${x}`;",
            "{ __ran(4); `b${x}` },",
            "{ __ran(5); `c${x}`\n  }",
        ] {
            assert!(marked.contains(text), "{text}: {marked}");
        }
        assert_eq!(lines(source), [2, 3, 4, 5]);
    }

    #[test]
    fn arms_of_a_switch_count_each() {
        let source = "fn f(x) {\n switch x {\n 1 | 2 => g(x, [1, 2]),\n 3 if x == 3 => { h(x); }\n 4 => #{a: 1, b: 2},\n _ => k(x)\n }\n k(1)\n}\n\
            fn g(x, y) { }\nfn h(x) { x }\nfn k(x) { switch x { 1 => 2, _ => switch x { 5 => 6, _ => 7 } } }";
        assert_eq!(lines(source), [2, 3, 4, 5, 6, 8, 11, 12]);
    }

    #[test]
    fn marks_stand_behind_comments_that_end_with_a_carriage_return() {
        let source = "fn f(x) {\r // a\r x\r}\r// b\rfn g(x) {\r // c\r x\r}";
        let marked = marked(source);
        assert_eq!(
            marked.text,
            "fn f(x) {\r // a\r __ran(2); x\r}\r// b\rfn g(x) {\r // c\r __ran(4); x\r}"
        );
    }

    #[test]
    fn texts_and_comments_are_left_alone() {
        let source = "fn f(x) {\n // a; b\n let s = `a;${if x { 1; 2 } else { 3 }};b`;\n /* { ; } */ s\n}";
        assert_eq!(lines(source), [3, 4]);
    }
}
