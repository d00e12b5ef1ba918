//! Words for texts: trimming and case. An absent element stays absent, an empty one empty.
use super::{Book, Gives, Hand, Sample, Word};
use crate::rules::api::Image;
use rhai::{EvalAltResult, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

pub(super) fn register(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "trim",
            parameters: "image, path",
            does: "Takes blanks away from both ends of every value of the element.",
            limits: "Blanks inside a value stay. Padding that only makes the length even is none of its business.",
            errors: "Holds the instance when the element is no text.",
            samples: &[Sample {
                given: &[("StudyDescription", "  CHEST  PA ")],
                rule: r#"text::trim(image, "StudyDescription");"#,
                gives: Gives::Elements(&[("StudyDescription", "CHEST  PA")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str| each(&c, image, path, |value| value.trim().to_owned()),
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
            each(&c, image, path, |value| value.chars().map(|l| one(l, l.to_uppercase())).collect())
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
        |c: NativeCallContext, image: &mut Image, path: &str| {
            each(&c, image, path, |value| {
                value.chars().map(|l| one(l, l.to_lowercase())).collect()
            })
        },
    );
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
