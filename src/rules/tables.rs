//! Tables: `*.csv` files beside the rules, read with them, part of their epoch and immutable afterwards. Rules look values up
//! through the words `table::lookup`, `identity::map` and others; nobody else reads them.
//!
//! Promises: a lookup is exact (leading zeros and case count, blanks at the ends do not) and takes logarithmic time without a
//! lock; a table that cannot be read as a whole is a problem with file and line, never a shorter table. No cell can carry a
//! backslash or a control character into a data set.
use super::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// All tables of a rule folder together: they live in memory, with an index of every column.
pub(super) const BYTES_MAX: u64 = 64 << 20;
pub(super) const FILES_MAX: usize = 64;
const ROWS_MAX: usize = 1_000_000;
const COLUMNS_MAX: usize = 32;
/// Cells of one table. Each costs eight bytes besides its text.
const CELLS_MAX: usize = 8_000_000;
/// The longest cell: what the longest VR that a table serves (ST) can hold.
const CELL_MAX: usize = 1024;
/// Problems told of one file: the first lines show what is wrong with the rest.
const TOLD_MAX: usize = 20;

/// One table: named columns, rows of trimmed texts.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<String>,
    /// All cells' texts, row by row.
    text: String,
    /// Where each cell ends in `text`.
    ends: Vec<u32>,
    /// For each column, the rows in the order of its texts.
    orders: Vec<Vec<u32>>,
}

/// The tables of a rule set by name: the file's name without `.csv`.
pub(super) type Tables = BTreeMap<String, Table>;

impl Table {
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// The place of the column called `name`.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// How many rows it has.
    pub(super) fn count(&self) -> usize {
        self.orders.first().map_or(0, |order| order.len())
    }

    pub(super) fn cell(&self, row: usize, column: usize) -> &str {
        let at = row * self.columns.len() + column;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// The rows in which `column` holds `value`; none for an empty value, which names nobody.
    pub(super) fn rows(&self, column: usize, value: &str) -> impl Iterator<Item = usize> + '_ {
        let value = value.trim();
        let order = self.orders[column].as_slice();
        let cell = |row: &u32| self.cell(*row as usize, column);
        let start = order.partition_point(|row| cell(row) < value);
        let end = start + order[start..].partition_point(|row| cell(row) == value);
        let found = if value.is_empty() { &[] } else { &order[start..end] };
        found.iter().map(|row| *row as usize)
    }

    /// Reads the text of a CSV file (RFC 4180; commas, a header line, a byte order mark is passed over).
    pub(super) fn read(file: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut say = |line: Option<u64>, message: String| {
            problems.push(Problem {
                file: file.to_owned(),
                line: line.and_then(|line| usize::try_from(line).ok()),
                column: None,
                message,
            });
        };
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let quotes = misquoted(text);
        if !quotes.is_empty() {
            for (line, message) in quotes {
                say(Some(line), message.to_owned());
            }
            return Err(problems);
        }
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let mut table = Self::default();
        match reader.headers() {
            Ok(header) => match names(header) {
                Ok(columns) => table.columns = columns,
                Err(message) => say(Some(1), message),
            },
            Err(_) => say(Some(1), "the header line cannot be read".to_owned()),
        }
        let mut told = 0;
        let mut record = csv::StringRecord::new();
        while !table.columns.is_empty() && told < TOLD_MAX {
            let line = match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => record.position().map(csv::Position::line),
                Err(error) => {
                    say(error.position().map(csv::Position::line), failed(&error));
                    told += 1;
                    continue;
                }
            };
            if let Err((message, is_end)) = table.push(&record) {
                say(line, message);
                told += if is_end { TOLD_MAX } else { 1 };
            }
        }
        if problems.is_empty() {
            table.sort();
            Ok(table)
        } else {
            Err(problems)
        }
    }

    /// Adds a row. The error says whether reading on is of no use.
    fn push(&mut self, record: &csv::StringRecord) -> Result<(), (String, bool)> {
        if self.ends.len() / self.columns.len() >= ROWS_MAX || self.ends.len() + self.columns.len() > CELLS_MAX {
            return Err((
                format!("the table has more than {ROWS_MAX} rows or {CELLS_MAX} cells"),
                true,
            ));
        }
        for cell in record.iter().map(str::trim) {
            if cell.len() > CELL_MAX {
                return Err((format!("a cell is longer than {CELL_MAX} bytes"), false));
            }
            if let Some(letter) = cell.chars().find(|letter| is_banned(*letter)) {
                return Err((
                    format!("a cell holds U+{:04X}, which no value can have", u32::from(letter)),
                    false,
                ));
            }
            self.text.push_str(cell);
            // The text is at most `BYTES_MAX` long.
            self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn sort(&mut self) {
        let rows = u32::try_from(self.ends.len() / self.columns.len()).unwrap_or(u32::MAX);
        for column in 0..self.columns.len() {
            let mut order: Vec<u32> = (0..rows).collect();
            // Stable: equal cells stay in the file's order.
            order.sort_by(|a, b| self.cell(*a as usize, column).cmp(self.cell(*b as usize, column)));
            self.orders.push(order);
        }
    }
}

fn is_banned(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\\' | '\u{FFFD}')
}

/// Quotes that stand where RFC 4180 has none, with their lines. A lenient reader would take them for a part of the value, and a quote
/// that is never closed for the end of the file.
fn misquoted(text: &str) -> Vec<(u64, &'static str)> {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Start,
        Blank,
        Bare,
        Quoted,
        Closed,
        Rest,
    }
    let (mut found, mut at, mut line, mut opened) = (Vec::new(), At::Start, 1, 1);
    for letter in text.chars() {
        let wrong = match (at, letter) {
            (At::Blank, '"') => Some("a blank stands before a quote: remove it"),
            (At::Bare, '"') => {
                Some("a quote stands inside a cell: put the whole cell in quotes, and write the quote in it twice")
            }
            (At::Closed, other) if !matches!(other, '"' | ',' | '\r' | '\n' | ' ' | '\t') => Some(
                "something stands behind the closing quote of a cell: a quote that belongs to the cell is written twice",
            ),
            _ => None,
        };
        if let Some(message) = wrong {
            found.push((line, message));
            at = At::Rest;
            if found.len() == TOLD_MAX {
                return found;
            }
        }
        at = match (at, letter) {
            (At::Quoted, '"') => At::Closed,
            (At::Closed, '"') | (At::Quoted, _) => At::Quoted,
            (At::Closed, ' ' | '\t') => At::Closed,
            (_, '\r' | '\n') | (At::Start | At::Blank | At::Bare | At::Closed, ',') => At::Start,
            (At::Start, '"') => {
                opened = line;
                At::Quoted
            }
            (At::Start | At::Blank, ' ' | '\t') => At::Blank,
            (At::Rest, _) => At::Rest,
            _ => At::Bare,
        };
        line += u64::from(letter == '\n');
    }
    if at == At::Quoted {
        found.push((opened, "a quote is opened and never closed: is the file cut off?"));
    }
    found
}

fn names(header: &csv::StringRecord) -> Result<Vec<String>, String> {
    let columns: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    if columns.iter().all(String::is_empty) {
        return Err("the first line must name the columns".to_owned());
    }
    if let [only] = &columns[..]
        && only.contains([';', '\t'])
    {
        return Err("the columns must be parted by commas".to_owned());
    }
    if columns.len() > COLUMNS_MAX {
        return Err(format!("the table has more than {COLUMNS_MAX} columns"));
    }
    for (at, name) in columns.iter().enumerate() {
        if name.is_empty() || name.chars().any(is_banned) {
            return Err(format!("column {} has no name in the first line", at + 1));
        }
        if columns[..at].contains(name) {
            return Err(format!("the column `{name}` stands twice in the first line"));
        }
    }
    Ok(columns)
}

/// What is wrong with a row, without its values.
fn failed(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} cells where the first line has {expected_len}")
        }
        _ => "the row cannot be read".to_owned(),
    }
}

/// Whether a file of a rule folder is a table.
pub(super) fn is_table(name: &str) -> bool {
    name.ends_with(".csv")
}

/// The tables among the files of a rule set.
pub(super) fn read_all(
    folder: &Path,
    sources: &[(String, String)],
    problems: &mut Vec<Problem>,
) -> (Tables, BTreeSet<String>) {
    let stem = |name: &str| name.trim_end_matches(".csv").to_owned();
    let (mut tables, mut faulty) = (Tables::new(), BTreeSet::new());
    for (name, text) in sources.iter().filter(|(name, _)| is_table(name)) {
        match Table::read(&folder.join(name), text) {
            Ok(table) => drop(tables.insert(stem(name), table)),
            Err(found) => {
                problems.extend(found);
                // A rule that names it is not wrong as well.
                faulty.insert(stem(name));
            }
        }
    }
    (tables, faulty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Table, Vec<String>> {
        let read = Table::read(Path::new("t.csv"), text);
        read.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lookups_are_exact_but_for_blanks_at_the_ends() {
        assert!(misquoted("a,\"b\"\"c\" ,\"\"\r\n\"d\",e\n").is_empty());
        let table = read("\u{FEFF}id, name\n007,\"Doe, Jane\"\n 7 ,B\n007,C\r\n\na,D\nA,E\n,F\n").unwrap();
        let names = |id: &str| -> Vec<&str> { table.rows(0, id).map(|row| table.cell(row, 1)).collect() };
        assert_eq!(table.columns().collect::<Vec<_>>(), ["id", "name"]);
        assert_eq!(names("007"), ["Doe, Jane", "C"]);
        assert_eq!(names(" 7"), ["B"]);
        assert_eq!(names("a"), ["D"]);
        assert_eq!((names("07"), names(""), names("zz")), (vec![], vec![], vec![]));
        assert_eq!(table.rows(1, "E").collect::<Vec<_>>(), [4]);
        assert_eq!((table.column("name"), table.column("Name")), (Some(1), None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_its_values() {
        for (text, said) in [
            ("", "t.csv:1: the first line must name the columns"),
            ("a;b\n1;2\n", "t.csv:1: the columns must be parted by commas"),
            ("a,\n1,2\n", "t.csv:1: column 2 has no name in the first line"),
            ("a,a\n1,2\n", "t.csv:1: the column `a` stands twice in the first line"),
            (
                "a,b\n1,2\n4711\n",
                "t.csv:3: the row has 1 cells where the first line has 2",
            ),
            ("a,b\n1, \"N-\"\n", "t.csv:2: a blank stands before a quote: remove it"),
            (
                "a,b\n1,N\"-\n",
                "t.csv:2: a quote stands inside a cell: put the whole cell in quotes, and write the quote in it twice",
            ),
            (
                "a,b\n1,\"N\"-\n",
                "t.csv:2: something stands behind the closing quote of a cell: a quote that belongs to the cell is written twice",
            ),
            (
                "a,b\n1,2\n3,\"b\n",
                "t.csv:3: a quote is opened and never closed: is the file cut off?",
            ),
            ("a\nx\\y\n", "t.csv:2: a cell holds U+005C, which no value can have"),
            ("a\n\"x\ny\"\n", "t.csv:2: a cell holds U+000A, which no value can have"),
        ] {
            assert_eq!(read(text).err(), Some(vec![said.to_owned()]), "{text:?}");
        }
        let long = format!("a\n{}\n", "x".repeat(CELL_MAX + 1));
        assert_eq!(
            read(&long).err(),
            Some(vec!["t.csv:2: a cell is longer than 1024 bytes".to_owned()])
        );
        let many = format!("a,b\n{}", "x\n".repeat(100));
        assert_eq!(read(&many).err().map(|said| said.len()), Some(TOLD_MAX));
    }

    #[test]
    fn a_header_alone_is_a_table_without_rows() {
        let table = read("a,b\n").unwrap();
        assert_eq!(table.rows(1, "x").count(), 0);
    }
}
