//! The names of character sets: the defined terms of Specific Character Set (PS3.3 Tables C.12-2 to C.12-5), what devices write
//! in their place, and the sets of the field that have no term.
use super::Whole;
use super::repertoire::{self, Active};
use encoding_rs as rs;
use encoding_rs::Encoding;

/// What one value of (0008,0005) means.
pub enum Term {
    Whole(Whole),
    Set {
        set: Active,
        /// The term allows code extensions (`ISO 2022 IR ...`).
        extends: bool,
    },
    Unknown,
}

/// Capitals, blanks, hyphens and underscores make no difference, because devices make none.
pub fn parse(term: &str) -> Term {
    let name = compact(term);
    let (number, extends) = match name.as_str() {
        "ISOIR192" | "ISO2022IR192" | "UTF8" | "ISO10646" | "UNICODE" => return Term::Whole(Whole::Utf8),
        // GB 2312 without escape sequences is a part of both.
        "GB18030" | "GB2312" => return Term::Whole(Whole::Gb18030),
        "GBK" => return Term::Whole(Whole::Gbk),
        "" | "ASCII" | "USASCII" => ("6", false),
        name => match (name.strip_prefix("ISO2022IR"), name.strip_prefix("ISOIR")) {
            (Some(number), _) => (number, true),
            (None, Some(number)) => (number, false),
            (None, None) => (part_of_8859(name).unwrap_or_default(), false),
        },
    };
    match number.parse().ok().and_then(repertoire::of_number) {
        Some(set) => Term::Set { set, extends },
        None => Term::Unknown,
    }
}

/// The standards' own names, which some devices write: their ISO-IR numbers.
fn part_of_8859(name: &str) -> Option<&'static str> {
    let found = PARTS.iter().find(|(part, _)| *part == name)?;
    Some(found.1)
}

const PARTS: [(&str, &str); 13] = [
    ("ISO88591", "100"),
    ("LATIN1", "100"),
    ("ISO88592", "101"),
    ("ISO88593", "109"),
    ("ISO88594", "110"),
    ("ISO88595", "144"),
    ("ISO88596", "127"),
    ("ISO88597", "126"),
    ("ISO88598", "138"),
    ("ISO88599", "148"),
    ("ISO885915", "203"),
    ("TIS620", "166"),
    ("ISO885911", "166"),
];

/// What a person may write, for suggestions.
pub const NAMES: [&str; 25] = [
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 109",
    "ISO_IR 110",
    "ISO_IR 126",
    "ISO_IR 127",
    "ISO_IR 138",
    "ISO_IR 144",
    "ISO_IR 148",
    "ISO_IR 166",
    "ISO_IR 203",
    "ISO_IR 13",
    "ISO_IR 192",
    "GB18030",
    "GBK",
    "\\ISO 2022 IR 87",
    "\\ISO 2022 IR 159",
    "\\ISO 2022 IR 149",
    "\\ISO 2022 IR 58",
    "SHIFT_JIS",
    "EUC-JP",
    "EUC-KR",
    "BIG5",
    "KOI8-R",
    "WINDOWS-1251",
];

/// A set without a term, by the name of the Encoding Standard (or the one that everybody says).
pub fn foreign(name: &str) -> Option<&'static Encoding> {
    Some(match compact(name).as_str() {
        "SHIFTJIS" | "SJIS" | "CP932" => rs::SHIFT_JIS,
        "EUCJP" => rs::EUC_JP,
        "EUCKR" | "CP949" => rs::EUC_KR,
        "BIG5" | "CP950" => rs::BIG5,
        "KOI8R" => rs::KOI8_R,
        "KOI8U" => rs::KOI8_U,
        "WINDOWS1250" | "CP1250" => rs::WINDOWS_1250,
        "WINDOWS1251" | "CP1251" => rs::WINDOWS_1251,
        "WINDOWS1252" | "CP1252" => rs::WINDOWS_1252,
        "WINDOWS1253" | "CP1253" => rs::WINDOWS_1253,
        "WINDOWS1254" | "CP1254" => rs::WINDOWS_1254,
        "WINDOWS1255" | "CP1255" => rs::WINDOWS_1255,
        "WINDOWS1256" | "CP1256" => rs::WINDOWS_1256,
        "WINDOWS1257" | "CP1257" => rs::WINDOWS_1257,
        "WINDOWS1258" | "CP1258" => rs::WINDOWS_1258,
        _ => return None,
    })
}

/// The defined terms for a set; `None` when there are none.
pub fn of(whole: Option<Whole>, initial: Active, extensions: &[Active]) -> Option<Vec<String>> {
    match whole {
        Some(Whole::Utf8) => return Some(vec!["ISO_IR 192".to_owned()]),
        Some(Whole::Gb18030) => return Some(vec!["GB18030".to_owned()]),
        Some(Whole::Gbk) => return Some(vec!["GBK".to_owned()]),
        Some(Whole::Foreign(_)) => return None,
        None => {}
    }
    let is_two_byte = |set: &Active| matches!(repertoire::number_of(*set), 58 | 87 | 149 | 159);
    let mut others: Vec<Active> = Vec::new();
    // A two-byte set cannot be the first value: it must be called.
    for set in std::iter::once(&initial)
        .filter(|set| is_two_byte(set))
        .chain(extensions)
    {
        if *set != Active::default() && (*set != initial || is_two_byte(set)) && !others.contains(set) {
            others.push(*set);
        }
    }
    let first = if is_two_byte(&initial) {
        Active::default()
    } else {
        initial
    };
    let name = |prefix: &str, set: Active| format!("{prefix}{}", repertoire::number_of(set));
    let first_is_ascii = first == Active::default();
    let mut terms = match (first_is_ascii, others.is_empty()) {
        (true, true) => Vec::new(),
        (true, false) => vec![String::new()],
        (false, true) => vec![name("ISO_IR ", first)],
        (false, false) => vec![name("ISO 2022 IR ", first)],
    };
    terms.extend(others.into_iter().map(|set| name("ISO 2022 IR ", set)));
    Some(terms)
}

/// Letters and digits, in capitals.
fn compact(name: &str) -> String {
    let kept = name.chars().filter(char::is_ascii_alphanumeric);
    kept.map(|letter| letter.to_ascii_uppercase()).collect()
}
