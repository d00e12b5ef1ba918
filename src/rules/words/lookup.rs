//! Looking values up in the tables beside the rules, for words that map one thing to another: what is found, what is missing,
//! and what is ambiguous. No word guesses: two rows that say different things for one key are no answer.
use super::Hand;
use crate::rules::fault::Fault;
use crate::rules::tables::Table;
use rhai::EvalAltResult;

type Raised<T> = Result<T, Box<EvalAltResult>>;

/// Rows that a mapping follows, each leading to the next: mergers of mergers of patients.
const STEPS_MAX: usize = 32;

/// Columns that words look for by themselves.
const OWN: [&str; 11] = [
    "value",
    "to_value",
    "issuer",
    "to_issuer",
    "prefix",
    "scheme",
    "to_scheme",
    "code",
    "to_code",
    "to_meaning",
    "meaning",
];

/// A table as a mapping of some columns to others, in pairs: `(issuer, value)` to `(to_issuer, to_value)`.
pub(super) struct Mapping<'a> {
    table: &'a Table,
    /// Key column and answer column of each part. The first should tell most rows apart.
    parts: Vec<(usize, usize)>,
}

/// What a mapping says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Mapped {
    /// It stands at the end of a mapping already.
    Done,
    /// What to put there, and the row that says it.
    To(Vec<String>, usize),
    Missing,
    Ambiguous,
}

/// The one row that `found` gives: several that agree in the columns `answers` are one.
pub(super) fn one_row(
    table: &Table,
    found: impl Iterator<Item = usize>,
    answers: &[usize],
) -> Result<Option<usize>, Twice> {
    let mut first = None;
    for row in found {
        match first {
            None => first = Some(row),
            Some(before)
                if answers
                    .iter()
                    .all(|column| table.cell(before, *column) == table.cell(row, *column)) => {}
            Some(_) => return Err(Twice),
        }
    }
    Ok(first)
}

/// Rows that say different things of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Twice;

/// The table that a rule names.
pub(super) fn table<'a>(hand: &Hand<'a, '_>, name: &str) -> Raised<&'a Table> {
    match hand.evaluation().known.tables.get(name) {
        Some(table) => Ok(table),
        None => hand.raise(Fault::error(
            "there is no such table: tables are the CSV files beside the rules",
        )),
    }
}

/// The column that a rule or a word names, which is shown unless the rule computed it.
pub(super) fn column(hand: &Hand, table: &Table, name: &str) -> Raised<usize> {
    match table.column(name) {
        Some(column) => Ok(column),
        None if name.len() <= 64 && (OWN.contains(&name) || hand.evaluation().known.literals.contains(name)) => {
            hand.raise(Fault::error(format!("the table lacks the column `{name}`")))
        }
        None => hand.raise(Fault::error("the table has no such column")),
    }
}

impl<'a> Mapping<'a> {
    /// The mapping of the table called `name`, by pairs of column names.
    pub(super) fn of(hand: &Hand<'a, '_>, name: &str, pairs: &[(&str, &str)]) -> Raised<Self> {
        let table = table(hand, name)?;
        let mut parts = Vec::with_capacity(pairs.len());
        for (key, answer) in pairs {
            parts.push((column(hand, table, key)?, column(hand, table, answer)?));
        }
        Ok(Self { table, parts })
    }

    /// Where `values` lead, over as many rows as it takes: the result is at an end, so that mapping it again changes nothing.
    pub(super) fn follow(&self, values: &[String]) -> Mapped {
        let mut seen: Vec<Vec<String>> = vec![values.to_vec()];
        let mut last = None;
        loop {
            // At least the start stands in it.
            let now = &seen[seen.len() - 1];
            let answers: Vec<usize> = self.parts.iter().flat_map(|(key, answer)| [*key, *answer]).collect();
            let row = match one_row(self.table, self.rows(now, |part| part.0), &answers) {
                Err(Twice) => return Mapped::Ambiguous,
                Ok(row) => row,
            };
            let next = match row {
                Some(row) => self.target(row),
                None => break,
            };
            if next == *now {
                break;
            }
            if seen.contains(&next) || seen.len() > STEPS_MAX {
                return Mapped::Ambiguous;
            }
            last = row;
            seen.push(next);
        }
        match (last, seen.pop()) {
            (Some(row), Some(end)) => Mapped::To(end, row),
            (_, _) if self.is_target(values) => Mapped::Done,
            (_, _) => Mapped::Missing,
        }
    }

    /// What a row maps to. An empty answer leaves that part as it is.
    fn target(&self, row: usize) -> Vec<String> {
        let cell = |(key, answer): &(usize, usize)| match self.table.cell(row, *answer) {
            "" => self.table.cell(row, *key),
            text => text,
        };
        self.parts.iter().map(|part| cell(part).to_owned()).collect()
    }

    fn is_target(&self, values: &[String]) -> bool {
        let (key, answer) = self.parts[0];
        let rows = self
            .table
            .rows(answer, &values[0])
            .chain(self.table.rows(key, &values[0]));
        rows.into_iter().any(|row| self.target(row) == values)
    }

    /// The rows whose columns, picked of each part, hold `values`.
    fn rows<'b>(
        &'b self,
        values: &'b [String],
        pick: fn(&(usize, usize)) -> usize,
    ) -> impl Iterator<Item = usize> + 'b {
        let first = self.table.rows(pick(&self.parts[0]), &values[0]);
        first.filter(move |row| {
            let mut rest = self.parts.iter().zip(values).skip(1);
            rest.all(|(part, value)| self.table.cell(*row, pick(part)) == value.trim())
        })
    }

    /// A cell of a row by column name; `""` when the table lacks the column.
    pub(super) fn extra(&self, row: usize, column: &str) -> &'a str {
        self.table
            .column(column)
            .map_or("", |column| self.table.cell(row, column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TABLE: &str = "issuer,value,to_issuer,to_value\n\
        N,1,E,100\nN,2,E,100\nN,2,E,100\nN,3,E,300\nN,3,E,301\nS,3,E,302\nE,100,E,900\nE,900,,\n\
        N,7,N,8\nN,8,N,7\nN,9,,90\n,5,E,500\n";

    fn follow(issuer: &str, value: &str) -> Option<(String, String)> {
        let table = Table::read(Path::new("t.csv"), TABLE).unwrap();
        let parts = vec![(1, 3), (0, 2)];
        let mapping = Mapping { table: &table, parts };
        match mapping.follow(&[value.to_owned(), issuer.to_owned()]) {
            Mapped::To(to, _) => Some((to[1].clone(), to[0].clone())),
            Mapped::Done => Some(("done".to_owned(), String::new())),
            Mapped::Ambiguous => Some(("ambiguous".to_owned(), String::new())),
            Mapped::Missing => None,
        }
    }

    #[test]
    fn a_mapping_ends_where_it_would_not_go_on() {
        let to = |issuer: &str, value: &str| Some((issuer.to_owned(), value.to_owned()));
        for (issuer, value, wanted) in [
            ("N", "1", to("E", "900")),
            ("N", "2", to("E", "900")),
            ("E", "100", to("E", "900")),
            ("E", "900", to("done", "")),
            ("S", "3", to("E", "302")),
            ("E", "302", to("done", "")),
            ("N", "9", to("N", "90")),
            ("N", "90", to("done", "")),
            ("", "5", to("E", "500")),
            ("N", "01", None),
            ("n", "1", None),
            ("", "1", None),
            ("N", "", None),
        ] {
            assert_eq!(follow(issuer, value), wanted, "{issuer} {value}");
        }
    }

    #[test]
    fn two_answers_and_circles_are_no_answer() {
        for value in ["3", "7", "8"] {
            assert_eq!(
                follow("N", value),
                Some(("ambiguous".to_owned(), String::new())),
                "{value}"
            );
        }
    }
}
