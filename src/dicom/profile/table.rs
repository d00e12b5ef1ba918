//! Table E.1-1 of PS3.15, read from `table.txt`.
use dicom_core::Tag;
use std::collections::BTreeMap;

/// What an option does to an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    Keep,
    Clean,
}

/// An attribute's treatment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// `X`, `Z`, `D`, `U` or several, as the standard writes it.
    pub basic: String,
    options: Vec<(char, Code)>,
}

impl Row {
    #[must_use]
    pub fn option(&self, letter: char) -> Option<Code> {
        let found = self.options.iter().find(|(own, _)| *own == letter);
        found.map(|(_, code)| *code)
    }
}

/// The table. Made once for each rule set.
#[derive(Clone, Debug)]
pub struct Table {
    exact: BTreeMap<Tag, Row>,
}

impl Default for Table {
    fn default() -> Self {
        let rows = TEXT.lines().filter(|line| !line.starts_with('#'));
        Self {
            exact: rows.filter_map(row).collect(),
        }
    }
}

impl Table {
    /// The row of an attribute of an even group; `None` for what the standard does not list. The repeating groups 50xx and 60xx
    /// have one answer each and are not looked up here.
    #[must_use]
    pub fn row(&self, tag: Tag) -> Option<&Row> {
        self.exact.get(&tag)
    }
}

/// A line; `None` for one of a repeating group.
fn row(line: &str) -> Option<(Tag, Row)> {
    let mut words = line.split(' ');
    let tag = u32::from_str_radix(words.next()?, 16).ok()?;
    let basic = words.next()?.to_owned();
    let options = words.filter_map(|word| {
        let mut letters = word.chars();
        let letter = letters.next()?;
        let code = match letters.next()? {
            'K' => Code::Keep,
            'C' => Code::Clean,
            _ => return None,
        };
        Some((letter, code))
    });
    // Both halves of 32 bits fit 16.
    let tag = Tag((tag >> 16) as u16, tag as u16);
    Some((
        tag,
        Row {
            basic,
            options: options.collect(),
        },
    ))
}

const TEXT: &str = include_str!("table.txt");

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of tags with each code in the lists of another reader of the standard's edition 2024b
    /// (KitwareMedical/dicom-anonymizer at 724c1e2), its three repeating groups left out.
    #[test]
    fn the_table_has_the_rows_of_the_standard() {
        let table = Table::default();
        let lines = TEXT.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((lines, table.exact.len()), (620, 617));
        for (code, count) in [
            ("D", 92),
            ("Z", 42),
            ("X", 380),
            ("U", 54),
            ("Z/D", 6),
            ("X/Z", 11),
            ("X/D", 22),
            ("X/Z/D", 8),
            ("X/Z/U*", 2),
        ] {
            let found = table.exact.values().filter(|row| row.basic == code).count();
            assert_eq!(found, count, "{code}");
        }
        for (letter, count) in [
            ('U', 59),
            ('D', 57),
            ('I', 10),
            ('C', 13),
            ('F', 165),
            ('M', 165),
            ('T', 125),
            ('S', 3),
        ] {
            let found = table.exact.values().filter(|row| row.option(letter).is_some()).count();
            assert_eq!(found, count, "{letter}");
        }
    }

    #[test]
    fn samples_say_what_the_standard_says() {
        let table = Table::default();
        for (group, element, basic) in [
            (0x0008, 0x0018, "U"),
            (0x0008, 0x0020, "Z"),
            (0x0008, 0x0050, "Z"),
            (0x0008, 0x0080, "X/Z/D"),
            (0x0008, 0x1140, "X/Z/U*"),
            (0x0010, 0x0010, "Z"),
            (0x0010, 0x0020, "Z/D"),
            (0x0010, 0x1010, "X"),
            (0x0018, 0x1030, "X/D"),
            (0x0020, 0x0052, "U"),
            (0x0040, 0xA730, "D"),
            (0x0400, 0x0561, "X"),
        ] {
            assert_eq!(
                table.row(Tag(group, element)).unwrap().basic,
                basic,
                "{group:04x},{element:04x}"
            );
        }
        let age = table.row(Tag(0x0010, 0x1010)).unwrap();
        assert_eq!((age.option('C'), age.option('F')), (Some(Code::Keep), None));
        let date = table.row(Tag(0x0008, 0x0020)).unwrap();
        assert_eq!(
            (date.option('F'), date.option('M')),
            (Some(Code::Keep), Some(Code::Clean))
        );
        assert_eq!(table.row(Tag(0x0028, 0x0010)), None);
    }
}
