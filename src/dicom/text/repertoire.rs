//! The single sets, and the state machine that escape sequences move (ISO/IEC 2022 as PS3.5 6.1.2.5 restricts it).
use super::{Decoded, Form, Unencodable};
use encoding_rs as rs;
use encoding_rs::Encoding;

/// What bytes 21 to 7E mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum G0 {
    Ascii,
    /// JIS X 0201 romaji: as ASCII, with the yen sign and the overline.
    Romaji,
    /// JIS X 0208, two bytes.
    Kanji,
    /// JIS X 0212, two bytes.
    KanjiSupplement,
}

/// What bytes A0 to FF mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum G1 {
    None,
    /// A single-byte set, by its ISO-IR number.
    Single(u8),
    /// KS X 1001, two bytes.
    Korean,
    /// GB 2312, two bytes.
    Chinese,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Active {
    pub g0: G0,
    pub g1: G1,
}

/// The sets of an ISO-IR number.
pub fn of_number(number: u8) -> Option<Active> {
    let (g0, g1) = match number {
        6 => (G0::Ascii, G1::None),
        13 => (G0::Romaji, G1::Single(13)),
        87 => (G0::Kanji, G1::None),
        159 => (G0::KanjiSupplement, G1::None),
        149 => (G0::Ascii, G1::Korean),
        58 => (G0::Ascii, G1::Chinese),
        _ => {
            encoding(number)?;
            (G0::Ascii, G1::Single(number))
        }
    };
    Some(Active { g0, g1 })
}

/// The ISO-IR number of a set; the other way round.
pub fn number_of(set: Active) -> u8 {
    match (set.g0, set.g1) {
        (G0::Kanji, _) => 87,
        (G0::KanjiSupplement, _) => 159,
        (_, G1::Single(number)) => number,
        (_, G1::Korean) => 149,
        (_, G1::Chinese) => 58,
        (G0::Romaji, G1::None) => 13,
        (G0::Ascii, G1::None) => 6,
    }
}

/// The sets that the escape sequences of a text call, each once.
pub fn called(bytes: &[u8]) -> Vec<Active> {
    let mut called = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == ESC) {
        let mut active = Active::default();
        if escape(&bytes[at + 1..], &mut active).is_some() {
            // Both halves of JIS X 0201 have sequences of their own, and one term.
            let set = match (active.g0, active.g1) {
                (G0::Romaji, _) | (_, G1::Single(13)) => Active {
                    g0: G0::Romaji,
                    g1: G1::Single(13),
                },
                _ => active,
            };
            if set != Active::default() && !called.contains(&set) {
                called.push(set);
            }
        }
    }
    called
}

/// The encoding whose upper half is the single-byte set's. Windows-1252, -1254 and -874 agree with ISO 8859-1, 8859-9 and TIS-620
/// from A0 on; below stand the typographic signs that devices write under these names.
fn encoding(number: u8) -> Option<&'static Encoding> {
    Some(match number {
        13 => rs::SHIFT_JIS,
        100 => rs::WINDOWS_1252,
        101 => rs::ISO_8859_2,
        109 => rs::ISO_8859_3,
        110 => rs::ISO_8859_4,
        126 => rs::ISO_8859_7,
        127 => rs::ISO_8859_6,
        138 => rs::ISO_8859_8,
        144 => rs::ISO_8859_5,
        148 => rs::WINDOWS_1254,
        166 => rs::WINDOWS_874,
        203 => rs::ISO_8859_15,
        _ => return None,
    })
}

/// An escape sequence at the start of `bytes`, after the ESC: its length and what it changes.
fn escape(bytes: &[u8], active: &mut Active) -> Option<usize> {
    let (length, g0, g1) = match bytes {
        [b'(', b'B', ..] => (2, Some(G0::Ascii), None),
        [b'(', b'J', ..] => (2, Some(G0::Romaji), None),
        [b')', b'I', ..] => (2, None, Some(G1::Single(13))),
        [b'$', b'B' | b'@', ..] => (2, Some(G0::Kanji), None),
        [b'$', b'(', b'D', ..] => (3, Some(G0::KanjiSupplement), None),
        [b'$', b')', b'C', ..] => (3, None, Some(G1::Korean)),
        [b'$', b')', b'A', ..] => (3, None, Some(G1::Chinese)),
        [b'-', last, ..] => {
            let number = UPPER.iter().find(|(_, final_byte)| final_byte == last)?.0;
            (2, None, Some(G1::Single(number)))
        }
        _ => return None,
    };
    active.g0 = g0.unwrap_or(active.g0);
    active.g1 = g1.unwrap_or(active.g1);
    Some(length)
}

/// ISO-IR numbers of the single-byte upper sets with the last byte of their escape sequence (ESC 2D x).
const UPPER: [(u8, u8); 11] = [
    (100, b'A'),
    (101, b'B'),
    (109, b'C'),
    (110, b'D'),
    (126, b'F'),
    (127, b'G'),
    (138, b'H'),
    (144, b'L'),
    (148, b'M'),
    (166, b'T'),
    (203, b'b'),
];

const ESC: u8 = 0x1B;

/// Decodes and splits in one pass. `fallback` is what upper bytes mean where no set was called.
pub fn decode(bytes: &[u8], first: Active, extensions: &[Active], fallback: G1, form: Form) -> Decoded {
    let initial = start(first);
    let mut active = initial;
    let mut values = Vec::new();
    let mut text = String::new();
    let (mut lossy, mut loose) = (false, false);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if byte == ESC
            && let Some(length) = escape(&rest[1..], &mut active)
        {
            let is_declared = extensions.iter().any(|set| set.g0 == active.g0)
                && (active.g1 == initial.g1 || extensions.iter().any(|set| set.g1 == active.g1));
            loose |= !is_declared;
            at += 1 + length;
            continue;
        }
        let (found, length) = next(rest, active, fallback);
        loose |= byte >= 0x80 && (active.g1 == G1::None || byte < 0xA0);
        at += length;
        if length == 1 && byte == b'\\' && form != Form::Text {
            values.push(std::mem::take(&mut text));
        } else {
            lossy |= found.is_none();
            text.push(found.unwrap_or('\u{FFFD}'));
        }
        if length == 1 && resets(byte, form) {
            active = initial;
        }
    }
    values.push(text);
    Decoded { values, lossy, loose }
}

/// What is active from the start: a two-byte set is not, it must be called.
fn start(first: Active) -> Active {
    Active {
        g0: match first.g0 {
            G0::Kanji | G0::KanjiSupplement => G0::Ascii,
            single @ (G0::Ascii | G0::Romaji) => single,
        },
        g1: match first.g1 {
            G1::Korean | G1::Chinese => G1::None,
            single @ (G1::None | G1::Single(_)) => single,
        },
    }
}

fn resets(byte: u8, form: Form) -> bool {
    match byte {
        b'\r' | b'\n' | 0x0C | b'\t' => true,
        b'\\' => form != Form::Text,
        b'^' | b'=' => form == Form::Names,
        _ => false,
    }
}

/// The next character and how many bytes it takes.
fn next(rest: &[u8], active: Active, fallback: G1) -> (Option<char>, usize) {
    let byte = rest[0];
    let second = rest.get(1).copied().unwrap_or(0);
    if byte < 0x80 {
        let is_graphic = |byte: u8| (0x21..=0x7E).contains(&byte);
        return match active.g0 {
            G0::Kanji if is_graphic(byte) && is_graphic(second) => (kanji(byte, second), 2),
            G0::KanjiSupplement if is_graphic(byte) && is_graphic(second) => {
                (one(rs::EUC_JP, &[0x8F, byte | 0x80, second | 0x80]), 2)
            }
            G0::Kanji | G0::KanjiSupplement if is_graphic(byte) => (None, 1),
            G0::Romaji if byte == b'\\' => (Some('¥'), 1),
            G0::Romaji if byte == b'~' => (Some('‾'), 1),
            _ => (Some(char::from(byte)), 1),
        };
    }
    let g1 = if active.g1 == G1::None { fallback } else { active.g1 };
    match g1 {
        G1::None => (None, 1),
        G1::Single(number) => (encoding(number).and_then(|set| one(set, &[byte])), 1),
        G1::Korean if byte > 0xA0 && second > 0xA0 => (one(rs::EUC_KR, &[byte, second]), 2),
        G1::Chinese if byte > 0xA0 && second > 0xA0 => (one(rs::GBK, &[byte, second]), 2),
        G1::Korean | G1::Chinese => (None, 1),
    }
}

/// A character of JIS X 0208. The encoder's table is that of Windows; six signs of the standard's own table differ, and the
/// toolkits of the field (iconv, Python, Java) follow the standard.
fn kanji(row: u8, cell: u8) -> Option<char> {
    let sign = JIS_SIGNS.iter().find(|(code, _, _)| *code == [row, cell]);
    match sign {
        Some((_, sign, _)) => Some(*sign),
        None => one(rs::EUC_JP, &[row | 0x80, cell | 0x80]),
    }
}

/// Code, character of JIS X 0208:1997 (as Unicode's JIS0208.TXT has it), and the one of Windows that stands for it.
const JIS_SIGNS: [([u8; 2], char, char); 6] = [
    ([0x21, 0x41], '\u{301C}', '\u{FF5E}'),
    ([0x21, 0x42], '\u{2016}', '\u{2225}'),
    ([0x21, 0x5D], '\u{2212}', '\u{FF0D}'),
    ([0x21, 0x71], '\u{00A2}', '\u{FFE0}'),
    ([0x21, 0x72], '\u{00A3}', '\u{FFE1}'),
    ([0x22, 0x4C], '\u{00AC}', '\u{FFE2}'),
];

/// JIS X 0212 by character, as lines of `CODE RCEE`: code point, row and cell in hexadecimal, sorted. encoding_rs reads this set
/// and does not write it; the table is its decoder's (WHATWG index jis0212), which `tests` compares.
const SUPPLEMENT: &[u8] = include_bytes!("jisx0212.txt");
const SUPPLEMENT_LINE: usize = 10;

/// Row and cell in JIS X 0212.
fn supplement(char: char) -> Option<Vec<u8>> {
    let wanted = format!("{:04X}", u32::from(char));
    let (lines, _) = SUPPLEMENT.as_chunks::<SUPPLEMENT_LINE>();
    let at = lines.binary_search_by(|line| line[..4].cmp(wanted.as_bytes())).ok()?;
    let code = std::str::from_utf8(&lines[at][5..9]).ok()?;
    Some(u16::from_str_radix(code, 16).ok()?.to_be_bytes().to_vec())
}

fn one(set: &'static Encoding, bytes: &[u8]) -> Option<char> {
    let text = set.decode_without_bom_handling_and_without_replacement(bytes)?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(char), None) => Some(char),
        _ => None,
    }
}

/// Encodes text, calling extensions by escape sequences and calling them off before each delimiter.
pub fn encode(text: &str, first: Active, extensions: &[Active], form: Form) -> Result<Vec<u8>, Unencodable> {
    let initial = start(first);
    let mut active = initial;
    let mut bytes = Vec::with_capacity(text.len());
    for char in text.chars() {
        let delimiter = u8::try_from(char).ok().filter(|byte| resets(*byte, form));
        if let Some(byte) = delimiter {
            call_off(&mut bytes, active, initial);
            bytes.push(byte);
            active = initial;
            continue;
        }
        if put(char, active, form, &mut bytes) {
            continue;
        }
        let called = extensions.iter().find_map(|set| call(char, *set, active));
        let (sequence, next) = called.ok_or(Unencodable)?;
        bytes.extend_from_slice(&sequence);
        active = next;
        if !put(char, active, form, &mut bytes) {
            return Err(Unencodable);
        }
    }
    call_off(&mut bytes, active, initial);
    Ok(bytes)
}

/// A two-byte lower set must be gone before a delimiter and at the end.
fn call_off(bytes: &mut Vec<u8>, active: Active, initial: Active) {
    if matches!(active.g0, G0::Kanji | G0::KanjiSupplement) {
        let last = if initial.g0 == G0::Romaji { b'J' } else { b'B' };
        bytes.extend_from_slice(&[ESC, b'(', last]);
    }
}

/// The escape sequence that brings in the part of `set` that can express `char`, and what is active then.
fn call(char: char, set: Active, active: Active) -> Option<(Vec<u8>, Active)> {
    let lower = Active { g0: set.g0, ..active };
    let upper = Active { g1: set.g1, ..active };
    let next = if lower != active && below(char, set.g0).is_some() {
        lower
    } else if above(char, set.g1).is_some() {
        upper
    } else {
        return None;
    };
    let tail: Vec<u8> = if next.g0 != active.g0 {
        match set.g0 {
            G0::Ascii => b"(B".to_vec(),
            G0::Romaji => b"(J".to_vec(),
            G0::Kanji => b"$B".to_vec(),
            G0::KanjiSupplement => b"$(D".to_vec(),
        }
    } else {
        match set.g1 {
            G1::None => return None,
            G1::Single(13) => b")I".to_vec(),
            G1::Single(number) => vec![b'-', UPPER.iter().find(|(upper, _)| *upper == number)?.1],
            G1::Korean => b"$)C".to_vec(),
            G1::Chinese => b"$)A".to_vec(),
        }
    };
    Some(([&[ESC], tail.as_slice()].concat(), next))
}

fn put(char: char, active: Active, form: Form, bytes: &mut Vec<u8>) -> bool {
    // The yen sign of JIS X 0201 is the delimiter's byte: only text of one value can hold it.
    let is_free = |found: &Vec<u8>| form == Form::Text || found != b"\\";
    let lower = below(char, active.g0).filter(is_free);
    match lower.or_else(|| above(char, active.g1)) {
        Some(found) => {
            bytes.extend_from_slice(&found);
            true
        }
        None => false,
    }
}

fn below(char: char, g0: G0) -> Option<Vec<u8>> {
    let ascii = u8::try_from(char).ok().filter(|byte| *byte < 0x80 && *byte != ESC);
    match g0 {
        G0::Ascii => ascii.map(|byte| vec![byte]),
        G0::Romaji if char == '¥' => Some(vec![b'\\']),
        G0::Romaji if char == '‾' => Some(vec![b'~']),
        G0::Romaji => ascii
            .filter(|byte| !matches!(byte, b'\\' | b'~'))
            .map(|byte| vec![byte]),
        // Rows 1 to 8 and 16 to 84 are the standard's; the encoder knows more.
        G0::Kanji => match JIS_SIGNS.iter().find(|(_, sign, _)| *sign == char) {
            Some((code, _, _)) => Some(code.to_vec()),
            None => match pair(rs::EUC_JP, char)? {
                [row @ (0xA1..=0xA8 | 0xB0..=0xF4), cell] => Some(vec![row & 0x7F, cell & 0x7F]),
                _ => None,
            },
        },
        G0::KanjiSupplement => supplement(char),
    }
}

fn above(char: char, g1: G1) -> Option<Vec<u8>> {
    match g1 {
        G1::None => None,
        G1::Single(number) => {
            let mut buffer = [0; 4];
            let (bytes, _, failed) = encoding(number)?.encode(char.encode_utf8(&mut buffer));
            // Below A0 stand no characters of the ISO sets.
            (!failed && bytes.len() == 1 && bytes[0] >= 0xA0).then(|| bytes.to_vec())
        }
        G1::Korean => pair(rs::EUC_KR, char).map(|pair| pair.to_vec()),
        // Rows 1 to 9 and 16 to 87 are the standard's; the encoder knows more.
        G1::Chinese => match pair(rs::GBK, char)? {
            pair @ [0xA1..=0xA9 | 0xB0..=0xF7, _] => Some(pair.to_vec()),
            _ => None,
        },
    }
}

/// The character's two bytes, when both are in the upper half's graphic range.
fn pair(set: &'static Encoding, char: char) -> Option<[u8; 2]> {
    let mut buffer = [0; 4];
    let (bytes, _, failed) = set.encode(char.encode_utf8(&mut buffer));
    match *bytes {
        [first @ 0xA1..=0xFE, second @ 0xA1..=0xFE] if !failed => Some([first, second]),
        _ => None,
    }
}
