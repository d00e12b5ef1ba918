//! What of a call of a word of `charset::` can be judged before an image comes: its options and the sets it names.
use super::charset::options_of;
use crate::dicom::text::Charset;
use crate::rules::lex::{Placed, Token};
use crate::rules::lint::unknown;

/// The problems of the call `charset::word(`, whose tokens begin at the parenthesis: place among them, and message.
pub(in crate::rules) fn problems(word: &str, tokens: &[Placed]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut depth, mut maps, mut commas) = (0_usize, 0_usize, 0_usize);
    let mut key = String::new();
    let is = |at: usize| tokens.get(at).is_some_and(|next| next.is(':'));
    for (at, placed) in tokens.iter().enumerate() {
        match &placed.token {
            Token::Mark('(' | '[') => depth += 1,
            Token::Mark('{') => (depth, maps) = (depth + 1, maps + 1),
            Token::Mark('}') => (depth, maps) = (depth.saturating_sub(1), maps.saturating_sub(1)),
            Token::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Token::Mark(',') if depth == 1 => commas += 1,
            // A key, and no namespace in an interpolation.
            Token::Word(name) if maps == 1 && depth == 2 && is(at + 1) && !is(at + 2) => {
                name.clone_into(&mut key);
                if !options_of(word).contains(&name.as_str()) {
                    let options = options_of(word).iter().copied();
                    found.push((at, unknown(&format!("option of charset::{word}()"), name, options)));
                }
            }
            Token::Text(text) => found.extend(wrong(word, (maps, commas, &key), text).map(|message| (at, message))),
            Token::Mark(_) | Token::Word(_) => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// What is wrong with a text: the set of `convert` and `declare`, or the value of an option.
fn wrong(word: &str, (maps, commas, key): (usize, usize, &str), text: &str) -> Option<String> {
    let of = |known: [&str; 2]| {
        let said = || unknown(&format!("value of `{key}`"), text, known);
        (!known.contains(&text)).then(|| format!("{}; it is `{}` or `{}`", said(), known[0], known[1]))
    };
    match (maps, key) {
        (0, _) if commas == 1 && matches!(word, "convert" | "declare") => set(text),
        (0, _) => None,
        (_, "fallback" | "instead_of") => set(text),
        (_, "undecidable") => of(["hold", "flag"]),
        (_, "unencodable") => of(["hold", "utf8"]),
        (_, _) => None,
    }
}

fn set(name: &str) -> Option<String> {
    let is_unknown = Charset::named(name).is_none();
    is_unknown.then(|| unknown("character set", name, Charset::NAMES))
}
