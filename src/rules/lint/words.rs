//! Calls of words of the vocabulary: their paths, tables, columns, patterns and options, as far as they stand as literals.
use super::{Lint, unknown};
use crate::rules::lex::Token;
use crate::rules::state::Knowledge;
use crate::rules::tables::Table;
use crate::rules::words::{Shape, Takes};

/// The tokens of one argument: the first, and the one behind the last.
type Span = (usize, usize);

impl Lint<'_> {
    /// The call of the word `name`, whose own name stands at `at`.
    pub(super) fn word_call(&mut self, at: usize, name: &str, known: &mut Knowledge) {
        let Some(shape) = known.shapes.get(name).cloned() else {
            return;
        };
        let spans = self.spans(at + 1);
        let (mut table, mut patterns) = (None, Vec::new());
        for (parameter, span) in shape.parameters.split(',').zip(&spans) {
            let Some(literal) = self.literal(*span) else {
                continue;
            };
            match parameter.trim_matches([' ', '[', ']']) {
                "table" => match known.tables.get(&literal) {
                    Some(found) => table = Some((span.0, found)),
                    None if known.faulty_tables.contains(&literal) => {}
                    None => {
                        let names = known.tables.keys().map(String::as_str);
                        self.problem(span.0, unknown("table", &literal, names));
                    }
                },
                "path" | "from_path" | "to_path" | "sequence" => self.path(span.0, &literal),
                "pattern" => patterns.push(span.0),
                _ => {}
            }
        }
        let given = spans.last().copied().filter(|span| self.is(span.0, '#'));
        let options = given.map(|span| self.word_options(span, &shape)).unwrap_or_default();
        if let Some((at, table)) = table {
            self.columns((at, name), (table, &spans), &shape, &options);
        }
        for at in patterns {
            self.pattern(Some(at), known);
        }
    }

    /// The columns that a call needs of its table.
    fn columns(
        &mut self,
        (at, name): (usize, &str),
        (table, spans): (&Table, &[Span]),
        shape: &Shape,
        options: &[(String, usize)],
    ) {
        let by_place: &[usize] = match (name, spans.len()) {
            ("table::lookup", 4) => &[1, 3],
            ("table::has", 3) => &[1],
            _ => &[],
        };
        for place in by_place {
            if let Some(column) = self.literal(spans[*place]) {
                self.column(spans[*place].0, table, &column);
            }
        }
        for (column, option) in shape.columns {
            match options.iter().find(|(name, _)| name == option) {
                Some((_, place)) => {
                    if let Some(column) = self.text(*place).map(str::to_owned) {
                        self.column(*place, table, &column);
                    }
                }
                None => self.column(at, table, column),
            }
        }
    }

    fn column(&mut self, at: usize, table: &Table, name: &str) {
        if table.column(name).is_none() {
            self.problem(at, unknown("column of the table", name, table.columns()));
        }
    }

    /// Checks the map literal in `span`. Answers its options with the places of their values.
    fn word_options(&mut self, span: Span, shape: &Shape) -> Vec<(String, usize)> {
        let (mut found, mut at) = (Vec::new(), span.0 + 2);
        while let Some(key) = self.word(at).or_else(|| self.text(at)).map(str::to_owned) {
            let value = at + 2;
            let end = self.end_of_value(value);
            let choice = shape.choices.iter().find(|choice| choice.name == key);
            let literal = self.text(value).filter(|_| end == value + 1).map(str::to_owned);
            match (choice.map(|choice| choice.takes), literal) {
                (None, _) if !shape.choices.is_empty() => {
                    let names = shape.choices.iter().map(|choice| choice.name);
                    self.problem(at, unknown("option", &key, names));
                }
                (Some(Takes::OneOf(all)), Some(text)) if !all.contains(&text.as_str()) => {
                    let message = unknown(&format!("value of the option {key}"), &text, all.iter().copied());
                    self.problem(value, message);
                }
                (Some(Takes::Number), Some(_)) => {
                    self.problem(value, format!("the option `{key}` takes a whole number"))
                }
                (_, _) => {}
            }
            if end == value + 1 {
                found.push((key, value));
            }
            if end >= span.1 || !self.is(end, ',') {
                break;
            }
            at = end + 1;
        }
        found
    }

    /// The place of the `,` or `}` behind the value that begins at `start`.
    fn end_of_value(&self, start: usize) -> usize {
        let mut depth = 0_usize;
        for at in start..self.all.len() {
            match self.all[at].token {
                Token::Mark(',' | '}') if depth == 0 => return at,
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
            }
        }
        self.all.len()
    }

    /// The text of an argument that is one text literal.
    pub(super) fn literal(&self, (start, end): Span) -> Option<String> {
        self.text(start).filter(|_| end == start + 1).map(str::to_owned)
    }

    /// The arguments of the call whose `(` stands at `open`.
    pub(super) fn spans(&self, open: usize) -> Vec<Span> {
        let (mut depth, mut start, mut found) = (0_usize, open + 1, Vec::new());
        for at in open..self.all.len() {
            let token = &self.all[at];
            if depth == 1 && (token.is(',') || token.is(')')) {
                if at > start {
                    found.push((start, at));
                }
                start = at + 1;
            }
            match token.token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
            }
            if depth == 0 {
                break;
            }
        }
        found
    }
}
