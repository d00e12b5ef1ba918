//! The place of an element in a data set: `PatientID`, `(0010,0020)`, `RequestAttributesSequence[0].AccessionNumber`,
//! `(0029,"SIEMENS CSA HEADER",10)` for a private element by its creator.
use crate::base::limits::DEPTH_MAX;
use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use std::fmt;

/// One element's tag, or a private element by group, creator and low byte, resolved in the item it is looked up in.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Selector {
    Tag(Tag),
    Private { group: u16, creator: String, element: u8 },
}

/// The way from the data set's root: zero or more sequence items, then the element.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Each enclosing sequence with the index of the item in it.
    pub items: Vec<(Selector, usize)>,
    pub leaf: Selector,
}

/// Why a text names no element. Paths come from rules, not from data sets, so the text may be shown.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// A keyword that is not in the dictionary, with the nearest one that is.
    #[error("`{keyword}` is not a DICOM keyword; did you mean `{nearest}`?")]
    UnknownKeyword { keyword: String, nearest: String },
    #[error("`{0}` is not an element: write a keyword, (gggg,eeee), (gggg,\"CREATOR\",ee) or Sequence[0].Element")]
    Malformed(String),
    /// Groups of the command set, the file's header and the item marks, and group lengths, which are kept right without help.
    #[error("`{0}` is not an element of an image: groups below 0008, FFFE, FFFF and group lengths cannot be used")]
    NotInDataSet(String),
    #[error("a path goes through more than {0} sequences")]
    TooDeep(usize),
}

impl Path {
    /// Keywords are those of PS3.6, in their spelling; tags are hexadecimal, with or without parentheses and comma.
    ///
    /// # Errors
    /// An unknown keyword (with the nearest known), a malformed path, an element that no data set holds, more than `DEPTH_MAX`
    /// sequences.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let malformed = || PathError::Malformed(text.to_owned());
        let mut items = Vec::new();
        let mut rest = text.trim();
        loop {
            let (selector, after) = selector(rest).map_err(|wrong| wrong.unwrap_or_else(malformed))?;
            if !is_in_data_sets(&selector) {
                return Err(PathError::NotInDataSet(text.to_owned()));
            }
            if after.is_empty() {
                let leaf = selector;
                return Ok(Self { items, leaf });
            }
            let (index, after) = index(after).ok_or_else(malformed)?;
            if items.len() == DEPTH_MAX {
                return Err(PathError::TooDeep(DEPTH_MAX));
            }
            items.push((selector, index));
            rest = after;
        }
    }

    #[must_use]
    pub fn tag(tag: Tag) -> Self {
        Self {
            items: Vec::new(),
            leaf: Selector::Tag(tag),
        }
    }
}

/// In the form that `parse` reads: keywords where there are any.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (selector, index) in &self.items {
            write!(f, "{selector}[{index}].")?;
        }
        write!(f, "{}", self.leaf)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => match StandardDataDictionary.by_tag(*tag) {
                // Repeating groups and generic entries share one keyword: only the tag says which.
                Some(entry) if entry.tag.inner() == *tag => f.write_str(entry.alias()),
                _ => write!(f, "{tag}"),
            },
            Self::Private {
                group,
                creator,
                element,
            } => write!(f, "({group:04X},\"{creator}\",{element:02X})"),
        }
    }
}

/// PS3.5 7.1 and 7.8.1: what a path can name.
fn is_in_data_sets(selector: &Selector) -> bool {
    match selector {
        Selector::Tag(Tag(group, element)) => matches!(group, 0x0008..=0xFFFD) && *element != 0,
        Selector::Private { group, .. } => matches!(group, 0x0009..=0xFFFD),
    }
}

/// The selector at the start of `text`, and what follows it. `Err(None)`: the whole text is malformed.
fn selector(text: &str) -> Result<(Selector, &str), Option<PathError>> {
    if let Some(inner) = text.strip_prefix('(') {
        return parenthesised(inner).ok_or(None);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() || !(rest.is_empty() || rest.starts_with('[')) {
        return Err(None);
    }
    if let Some(entry) = StandardDataDictionary.by_name(word) {
        return Ok((Selector::Tag(entry.tag.inner()), rest));
    }
    if let (8, Ok(number)) = (word.len(), u32::from_str_radix(word, 16)) {
        // Both halves of 32 bits fit 16.
        return Ok((Selector::Tag(Tag((number >> 16) as u16, number as u16)), rest));
    }
    Err(Some(PathError::UnknownKeyword {
        nearest: nearest(word).to_owned(),
        keyword: word.to_owned(),
    }))
}

/// `gggg,eeee)` or `gggg,"CREATOR",ee)`, after the opening parenthesis.
fn parenthesised(text: &str) -> Option<(Selector, &str)> {
    let (group, rest) = text.split_once(',')?;
    let group = hex(group, 4)?;
    let Some(rest) = rest.trim_start().strip_prefix('"') else {
        let (element, rest) = rest.split_once(')')?;
        return Some((Selector::Tag(Tag(group, hex(element, 4)?)), rest));
    };
    let (creator, rest) = rest.split_once('"')?;
    let (element, rest) = rest.trim_start().strip_prefix(',')?.split_once(')')?;
    let creator = creator.trim();
    if group & 1 == 0 || creator.is_empty() || creator.chars().count() > CREATOR_MAX || creator.contains('\\') {
        return None;
    }
    let selector = Selector::Private {
        group,
        creator: creator.to_owned(),
        element: u8::try_from(hex(element, 2)?).ok()?,
    };
    Some((selector, rest))
}

fn hex(text: &str, digits: usize) -> Option<u16> {
    let text = text.trim();
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

/// `[index].`, and what follows.
fn index(text: &str) -> Option<(usize, &str)> {
    let (index, rest) = text.strip_prefix('[')?.split_once(']')?;
    let index = index.trim();
    let is_number = index.len() <= 6 && index.bytes().all(|byte| byte.is_ascii_digit());
    let rest = rest.strip_prefix('.').filter(|rest| !rest.is_empty())?;
    Some((index.parse().ok().filter(|_| is_number)?, rest))
}

/// The dictionary's keyword that looks most like `word`.
fn nearest(word: &str) -> &'static str {
    let word: String = word.chars().take(64).collect::<String>().to_ascii_lowercase();
    let distance = |keyword: &&str| strsim::damerau_levenshtein(&word, &keyword.to_ascii_lowercase());
    // The first letters are seldom wrong and a keyword of another length is seldom meant: that spares most comparisons.
    let length = |keyword: &&str| keyword.len().abs_diff(word.len()) <= 1 + word.len() / 4;
    let first = |keyword: &&str| keyword.as_bytes()[0].to_ascii_lowercase() == word.as_bytes()[0];
    let close = KEYWORDS.lines().filter(|keyword| first(keyword) && length(keyword));
    let found = close
        .min_by_key(distance)
        .filter(|keyword| distance(keyword) <= 1 + word.len() / 4);
    let all = || {
        let similar = |keyword: &str| strsim::jaro_winkler(&word, &keyword.to_ascii_lowercase());
        KEYWORDS
            .lines()
            .max_by(|a, b| similar(a).total_cmp(&similar(b)))
            .unwrap_or("PatientID")
    };
    found.unwrap_or_else(all)
}

/// The keywords of PS3.6, one a line: dicom-dictionary-std does not let its table be walked.
const KEYWORDS: &str = include_str!("keywords.txt");
/// A private creator is an LO.
const CREATOR_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn private(group: u16, creator: &str, element: u8) -> Selector {
        Selector::Private {
            group,
            creator: creator.to_owned(),
            element,
        }
    }

    #[test]
    fn every_form_of_a_path_is_understood() {
        let id = Selector::Tag(Tag(0x0010, 0x0020));
        for text in ["PatientID", "(0010,0020)", "00100020", " ( 0010 , 0020 )".trim()] {
            assert_eq!(Path::parse(text).unwrap().leaf, id, "{text}");
        }
        let nested = Path::parse("RequestAttributesSequence[2].(0008,0050)").unwrap();
        assert_eq!(nested.items, [(Selector::Tag(Tag(0x0040, 0x0275)), 2)]);
        assert_eq!(nested.leaf, Selector::Tag(Tag(0x0008, 0x0050)));
        let csa = Path::parse("(0029,\"SIEMENS CSA HEADER\",10)[0].(0029,\"A, B)\",FF)").unwrap();
        assert_eq!(csa.items, [(private(0x29, "SIEMENS CSA HEADER", 0x10), 0)]);
        assert_eq!(csa.leaf, private(0x29, "A, B)", 0xFF));
    }

    #[test]
    fn what_is_no_element_is_refused() {
        let wrong = [
            "",
            "Patient ID",
            "PatientID.",
            "RequestAttributesSequence[0]",
            "RequestAttributesSequence[0].",
            "RequestAttributesSequence[x].PatientID",
            "RequestAttributesSequence[-1].PatientID",
            "RequestAttributesSequence.PatientID",
            "(0010,002)",
            "(0010,00200)",
            "(+010,0020)",
            "(0010,0020",
            "(0028,\"EVEN\",10)",
            "(0029,\"\",10)",
            "(0029,\"X\",100)",
            "(0029,\"X\",10",
            "Ä",
        ];
        for text in wrong {
            assert_eq!(Path::parse(text), Err(PathError::Malformed(text.to_owned())), "{text}");
        }
        let deep = format!("{}PatientID", "RequestAttributesSequence[0].".repeat(DEPTH_MAX + 1));
        assert_eq!(Path::parse(&deep), Err(PathError::TooDeep(DEPTH_MAX)));
    }

    #[test]
    fn elements_that_no_data_set_holds_are_refused() {
        for text in [
            "TransferSyntaxUID",
            "(0000,0100)",
            "(0007,\"X\",10)",
            "(0010,0000)",
            "00100000",
            "(FFFE,E000)",
            "(FFFF,\"X\",10)",
            "RequestAttributesSequence[0].(0008,0000)",
            "(0004,1220)[0].PatientID",
        ] {
            assert_eq!(
                Path::parse(text),
                Err(PathError::NotInDataSet(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_keyword_names_the_nearest_known() {
        for (wrong, right) in [
            ("PatientsName", "PatientName"),
            ("patientid", "PatientID"),
            ("AcessionNumber", "AccessionNumber"),
            ("StudyInstanceUid", "StudyInstanceUID"),
            ("InstitutionNme", "InstitutionName"),
        ] {
            let expected = PathError::UnknownKeyword {
                keyword: wrong.to_owned(),
                nearest: right.to_owned(),
            };
            assert_eq!(Path::parse(wrong), Err(expected));
        }
    }

    #[test]
    fn every_listed_keyword_is_in_the_dictionary() {
        let count = KEYWORDS.lines().count();
        assert!(count > 5_000, "{count}");
        for keyword in KEYWORDS.lines() {
            let parsed = Path::parse(keyword);
            let is_known = matches!(parsed, Ok(_) | Err(PathError::NotInDataSet(_)));
            assert!(is_known, "{keyword}");
        }
    }

    #[test]
    fn a_path_is_shown_as_it_is_parsed() {
        for text in [
            "PatientID",
            "RequestAttributesSequence[1].(0009,\"X\",0A)",
            "(0009,1001)",
            "(6002,3000)",
        ] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
    }
}
