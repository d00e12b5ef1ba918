//! Words for texts: blanks and case, control characters, replacing, copying, defaults, lookups. An absent element stays absent and
//! an empty one empty, but for the words that fill. No value is ever cut: what does not fit its VR holds the instance.
use super::lookup::{Mapped, Mapping};
use super::options::{Choice, Options, Takes};
use super::{Book, Gives, Hand, Sample, Word};
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use crate::rules::verbs;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

pub(super) fn register(book: &mut Book) {
    blanks_and_case(book);
    collapse(book);
    replace(book);
    fill(book);
    carry(book);
    map(book);
}

fn blanks_and_case(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "trim",
            parameters: "image, path",
            does: "Takes blanks away from both ends of every value of the element.",
            limits: "Blanks inside a value stay. Padding that only makes the length even is none of its business, and stays or comes where it must.",
            errors: "Holds the instance when the element is no text, and when there are blanks to take away and a value cannot be read \
                in its character set.",
            samples: &[Sample {
                given: &[("StudyDescription", "  CHEST  PA ")],
                rule: r#"text::trim(image, "StudyDescription");"#,
                gives: Gives::Elements(&[("StudyDescription", "CHEST  PA")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str| {
            let hand = Hand::new(&c, image);
            match hand.values(path)? {
                None => Ok(()),
                Some(values) => hand.set_bare(path, values.iter().map(|value| value.trim().to_owned()).collect()),
            }
        },
    );
    book.add(
        Word {
            namespace: "text",
            name: "upper",
            parameters: "image, path",
            does: "Writes every value of the element in capital letters, by the rules of Unicode.",
            limits: "A letter whose capital is two (ß) stays as it is, so that no value grows.",
            errors: "Holds the instance when the element is no text, or the result cannot be written in its character set.",
            samples: &[Sample {
                given: &[("StationName", "ct-one")],
                rule: r#"text::upper(image, "StationName");"#,
                gives: Gives::Elements(&[("StationName", "CT-ONE")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str| {
            each(&c, image, path, upper)
        },
    );
    book.add(
        Word {
            namespace: "text",
            name: "lower",
            parameters: "image, path",
            does: "Writes every value of the element in small letters, by the rules of Unicode.",
            limits: "A letter whose small form is two stays as it is, so that no value grows.",
            errors: "The same as those of `text::upper`.",
            samples: &[Sample {
                given: &[("StationName", "CT-One")],
                rule: r#"text::lower(image, "StationName");"#,
                gives: Gives::Elements(&[("StationName", "ct-one")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str| each(&c, image, path, lower),
    );
}

fn collapse(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "collapse",
            parameters: "image, path",
            does: "Makes one blank of several in a row, in every value of the element.",
            limits: "Only blanks (U+0020) count; line ends of long texts stay.",
            errors: "Holds the instance when the element is no text.",
            samples: &[Sample {
                given: &[("StudyDescription", "CHEST   PA  LAT")],
                rule: r#"text::collapse(image, "StudyDescription");"#,
                gives: Gives::Elements(&[("StudyDescription", "CHEST PA LAT")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str| each(&c, image, path, collapsed),
    );
    book.add(
        Word {
            namespace: "text",
            name: "strip_controls",
            parameters: "image, path",
            does: "Takes control characters out of every value of the element.",
            limits: "Line feed, carriage return, form feed and tabulator stay where DICOM allows them: in ST, LT and UT.",
            errors: "Holds the instance when the element is no text.",
            samples: &[Sample {
                given: &[("StudyDescription", "CHEST\u{7}\tPA"), ("PatientComments", "one\r\ntwo\u{1}")],
                rule: r#"text::strip_controls(image, "StudyDescription"); text::strip_controls(image, "PatientComments");"#,
                gives: Gives::Elements(&[("StudyDescription", "CHESTPA"), ("PatientComments", "one\r\ntwo")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str| {
            let lines = Hand::new(&c, image).is_long_text(path)?;
            each(&c, image, path, |value| {
                let stays = |letter: &char| !letter.is_control() || (lines && matches!(letter, '\n' | '\r' | '\t' | '\u{C}'));
                value.chars().filter(stays).collect()
            })
        },
    );
}

fn collapsed(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for letter in value.chars() {
        if letter != ' ' || !out.ends_with(' ') {
            out.push(letter);
        }
    }
    out
}

fn replace(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "replace",
            parameters: "image, path, pattern, by",
            does: "Replaces every match of the regular expression in every value of the element; `$1` is the first group.",
            limits: "Takes time in proportion to the text, whatever the pattern. Never cuts.",
            errors: "Fails when replacing in the result would change it again: write the pattern so that it does not match what it makes. \
                Holds the instance when the result does not fit its VR.",
            samples: &[Sample {
                given: &[("StudyDescription", "THX p.a. erect")],
                rule: r#"text::replace(image, "StudyDescription", "^THX\\b", "CHEST");"#,
                gives: Gives::Elements(&[("StudyDescription", "CHEST p.a. erect")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, pattern: &str, by: &str| {
            let hand = Hand::new(&c, image);
            let Some(values) = hand.values(path)? else {
                return Ok(());
            };
            let new: Result<Vec<String>, Fault> = values
                .iter()
                .map(|value| verbs::settled(&hand, value, pattern, by))
                .collect();
            hand.set(path, hand.placed(new)?)
        },
    );
}

fn fill(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "if_empty",
            parameters: "image, path, value",
            does: "Writes the value where the element is absent or empty.",
            limits: "A value that came stays, whatever it is.",
            errors: "Holds the instance when the value does not fit the element.",
            samples: &[Sample {
                given: &[("InstitutionName", ""), ("StationName", "CT01")],
                rule: r#"text::if_empty(image, "InstitutionName", "North Hospital");
    text::if_empty(image, "StationName", "CT99");"#,
                gives: Gives::Elements(&[("InstitutionName", "North Hospital"), ("StationName", "CT01")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, value: &str| {
            let hand = Hand::new(&c, image);
            let there = hand.values(path)?.unwrap_or_default();
            if !there.iter().all(|text| text.trim().is_empty()) {
                return Ok(());
            }
            // As in an assignment: backslashes part values, and are letters of long texts.
            match hand.is_long_text(path)? {
                true => hand.set_text(path, value),
                false => hand.set(path, value.split('\\').map(str::to_owned).collect()),
            }
        },
    );
}

fn carry(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "copy",
            parameters: "image, from_path, to_path",
            does: "Writes the values of one element into another.",
            limits: "An absent or empty element is not copied: what stands at the target stays.",
            errors: "Holds the instance when a value does not fit the target's VR: too long, or with a line end or a backslash that only \
                long texts may have. It is never cut.",
            samples: &[Sample {
                given: &[("StudyDescription", "CHEST"), ("SeriesDescription", "x")],
                rule: r#"text::copy(image, "StudyDescription", "SeriesDescription");"#,
                gives: Gives::Elements(&[("SeriesDescription", "CHEST"), ("StudyDescription", "CHEST")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, from: &str, to: &str| {
            carried(&Hand::new(&c, image), from, to).map(drop)
        },
    );
    book.add(
        Word {
            namespace: "text",
            name: "move_to",
            parameters: "image, from_path, to_path",
            does: "Writes the values of one element into another and removes the first.",
            limits: "An absent or empty element is not moved: what stands at the target stays.",
            errors: "The same as those of `text::copy`.",
            samples: &[Sample {
                given: &[("PatientComments", "left knee"), ("StudyComments", "")],
                rule: r#"text::move_to(image, "PatientComments", "StudyComments");"#,
                gives: Gives::Elements(&[("StudyComments", "left knee"), ("PatientComments", "")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, from: &str, to: &str| {
            let hand = Hand::new(&c, image);
            if carried(&hand, from, to)? {
                hand.remove(from)
            } else {
                Ok(())
            }
        },
    );
}

/// Whether the values of `from` stand at `to` now, and these are two elements.
fn carried(hand: &Hand, from: &str, to: &str) -> Raised<bool> {
    let values = hand.values(from)?.unwrap_or_default();
    if values.iter().all(|value| value.trim().is_empty()) || hand.is_same(from, to)? {
        return Ok(false);
    }
    hand.set(to, values)?;
    Ok(true)
}

const MAP_OPTIONS: &[Choice] = &[
    Choice {
        name: "missing",
        takes: Takes::OneOf(&["keep", "hold", "flag"]),
        does: "what to do with a value that the table does not have: leave it, hold the instance, or leave and flag it (`text_unmapped`)",
    },
    Choice {
        name: "key",
        takes: Takes::Text,
        does: "the column that holds what comes; `value` without it",
    },
    Choice {
        name: "column",
        takes: Takes::Text,
        does: "the column that holds what to write; `to_value` without it",
    },
];

fn map(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "map",
            parameters: "image, path, table[, options]",
            does: "Replaces every value of the element by what a table says: the row whose column `value` holds it gives `to_value`, or \
                as the options `key` and `column` name them.",
            limits: "Exact: leading zeros and case count. Rows that lead to other rows are followed to the end. Empty values stay.",
            errors: "Holds the instance when the table has different answers for one value, or leads in a circle.",
            samples: &[Sample {
                given: &[("BodyPartExamined", "THX")],
                rule: r#"text::map(image, "BodyPartExamined", "parts");"#,
                gives: Gives::Elements(&[("BodyPartExamined", "CHEST")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, table: &str| {
            mapped(&Hand::new(&c, image), (path, table), &Map::new())
        },
    );
    book.options("text", "map", MAP_OPTIONS);
    book.columns("text", "map", &[("value", "key"), ("to_value", "column")]);
    book.also(
        "text",
        "map",
        |c: NativeCallContext, image: &mut Image, path: &str, table: &str, options: Map| {
            mapped(&Hand::new(&c, image), (path, table), &options)
        },
    );
}

fn mapped(hand: &Hand, (path, table): (&str, &str), given: &Map) -> Raised<()> {
    let options = Options::read(hand, given, MAP_OPTIONS)?;
    let or = |name: &str, default: &str| match options.text(name) {
        text if text.is_empty() => default.to_owned(),
        text => text,
    };
    let (key, column) = (or("key", "value"), or("column", "to_value"));
    let mapping = Mapping::of(hand, table, &[(&key, &column)])?;
    let Some(values) = hand.values(path)? else {
        return Ok(());
    };
    let mut new = Vec::with_capacity(values.len());
    for value in values {
        new.push(match mapping.follow(&[value.trim().to_owned()]) {
            Mapped::To(mut to, _) => to.pop().unwrap_or(value),
            Mapped::Done => value,
            Mapped::Missing if value.trim().is_empty() => value,
            Mapped::Missing => {
                match options.one("missing") {
                    "hold" => hand.incomplete("a table has no row for a value"),
                    "flag" => hand.flag("text_unmapped"),
                    _ => {}
                }
                value
            }
            Mapped::Ambiguous => {
                hand.incomplete("a table gives different answers for one value");
                value
            }
        });
    }
    hand.set(path, new)
}

/// In capitals, as far as no letter becomes two.
pub(super) fn upper(text: &str) -> String {
    text.chars().map(|letter| one(letter, letter.to_uppercase())).collect()
}

/// In small letters, as far as no letter becomes two.
pub(super) fn lower(text: &str) -> String {
    text.chars().map(|letter| one(letter, letter.to_lowercase())).collect()
}

/// Changes every value of an element that is there.
fn each(c: &NativeCallContext, image: &Image, path: &str, change: impl Fn(&str) -> String) -> Raised<()> {
    let hand = Hand::new(c, image);
    match hand.values(path)? {
        None => Ok(()),
        Some(values) => hand.set(path, values.iter().map(|value| change(value)).collect()),
    }
}

fn one(letter: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => letter,
    }
}
