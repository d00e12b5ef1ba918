//! Words for accession numbers. Each changes the number of the image and its copies in Request Attributes Sequence and
//! Referenced Request Sequence in the same way, so that they stay in step; what the modality had sent is kept as an alias.
//!
//! An accession number is an SH: at most 16 characters. None is ever cut. Leading zeros, dashes and case are part of it, blanks
//! at its ends are not (PS3.5 6.2).
use super::options::{Choice, Options, Takes};
use super::{Book, Gives, Hand, Sample, Word};
use crate::rules::HoldKind;
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use crate::rules::verbs;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// Characters of an SH (PS3.5 table 6.2-1).
const LENGTH_MAX: usize = 16;
const TOO_LONG: &str = "the accession number is longer than 16 characters";
/// The signs in place of what cannot be read are the same for two orders: neither copies nor aliases could tell them apart.
const UNREAD: &str = "the accession number cannot be read in its character set, so it is not replaced: charset::repair or \
    charset::declare before makes it readable";
const TOO_LONG_OPTION: Choice = Choice {
    name: "too_long",
    takes: Takes::OneOf(&["hold", "keep"]),
    does: "what to do with a number that would be, or is, over 16 characters: hold the instance, or send what came and flag it",
};
const OPTIONS: &[Choice] = &[TOO_LONG_OPTION];
const PAD_OPTIONS: &[Choice] = &[
    TOO_LONG_OPTION,
    Choice {
        name: "prefix",
        takes: Takes::Text,
        does: "what to write before the filled number",
    },
];
/// Where accession numbers stand besides the image's own.
const COPIES: [&str; 2] = ["RequestAttributesSequence", "ReferencedRequestSequence"];

const LIMITS: &str = "Never cuts: a number over 16 characters is held, or kept as it came with `too_long: \"keep\"`, which flags it \
    (`accession_too_long`). An empty number stays empty. The copies in Request Attributes Sequence and Referenced Request \
    Sequence change in the same way.";
const ERRORS: &str = "Holds the instance when the result is too long, when an accession number came with several values, and when \
    one that would change cannot be read in its character set.";

pub(super) fn register(book: &mut Book) {
    pad(book);
    prefix(book);
    strip(book);
    rewrite(book);
    set(book);
    check(book);
}

fn pad(book: &mut Book) {
    book.add(
        Word {
            namespace: "accession",
            name: "pad",
            parameters: "image, length[, prefix or options]",
            does: "Fills a number that consists of digits with zeros on the left up to the length, and writes the prefix before it.",
            limits: "A number that is longer already is not cut, and one with letters (but for the prefix itself) is not touched. The \
                rest as the other words: over 16 characters is held or kept, copies change in the same way.",
            errors: ERRORS,
            samples: &[
                Sample {
                    given: &[
                        ("AccessionNumber", "77"),
                        ("RequestAttributesSequence[0].AccessionNumber", "77"),
                    ],
                    rule: r#"accession::pad(image, 8, "RA");"#,
                    gives: Gives::Elements(&[
                        ("AccessionNumber", "RA00000077"),
                        ("RequestAttributesSequence[0].AccessionNumber", "RA00000077"),
                    ]),
                },
                Sample {
                    given: &[("AccessionNumber", "077-A")],
                    rule: "accession::pad(image, 8);",
                    gives: Gives::Elements(&[("AccessionNumber", "077-A")]),
                },
                Sample {
                    given: &[("AccessionNumber", "77")],
                    rule: r#"accession::pad(image, 15, "RA");"#,
                    gives: Gives::Hold(HoldKind::Incomplete),
                },
            ],
        },
        |c: Context, image: &mut Image, length: i64| padded(&c, image, length, "", &Map::new()),
    );
    book.options("accession", "pad", PAD_OPTIONS);
    book.also(
        "accession",
        "pad",
        |c: Context, image: &mut Image, length: i64, prefix: &str| padded(&c, image, length, prefix, &Map::new()),
    );
    book.also(
        "accession",
        "pad",
        |c: Context, image: &mut Image, length: i64, options: Map| padded(&c, image, length, "", &options),
    );
}

fn padded(c: &Context, image: &Image, length: i64, prefix: &str, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, PAD_OPTIONS)?;
    let own = options.text("prefix");
    let prefix = if own.is_empty() { prefix.trim() } else { own.as_str() };
    plain(&hand, prefix)?;
    let Some(length) = usize::try_from(length)
        .ok()
        .filter(|length| (1..=LENGTH_MAX).contains(length))
    else {
        return hand.raise(Fault::error("an accession number is filled up to 1 to 16 characters"));
    };
    each(&hand, &options, |old| {
        // A number may begin with the same digits as a prefix that ends in one: it is ours only when it is filled already.
        let is_ours = |rest: &&str| rest.len() >= length || !prefix.ends_with(|last: char| last.is_ascii_digit());
        let number = old.strip_prefix(prefix).filter(is_ours).unwrap_or(old);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(old.to_owned());
        }
        Ok(format!("{prefix}{number:0>length$}"))
    })
}

fn prefix(book: &mut Book) {
    book.add(
        Word {
            namespace: "accession",
            name: "prefix",
            parameters: "image, prefix[, options]",
            does: "Writes the prefix before an accession number that does not begin with it.",
            limits: LIMITS,
            errors: ERRORS,
            samples: &[
                Sample {
                    given: &[("AccessionNumber", "4711")],
                    rule: r#"accession::prefix(image, "N-");"#,
                    gives: Gives::Elements(&[("AccessionNumber", "N-4711")]),
                },
                Sample {
                    given: &[("AccessionNumber", "123-032411-4546")],
                    rule: r#"accession::prefix(image, "N-", #{ too_long: "keep" });"#,
                    gives: Gives::Elements(&[("AccessionNumber", "123-032411-4546")]),
                },
            ],
        },
        |c: Context, image: &mut Image, prefix: &str| prefixed(&c, image, prefix, &Map::new()),
    );
    book.options("accession", "prefix", OPTIONS);
    book.also(
        "accession",
        "prefix",
        |c: Context, image: &mut Image, prefix: &str, options: Map| prefixed(&c, image, prefix, &options),
    );
}

fn prefixed(c: &Context, image: &Image, prefix: &str, given: &Map) -> Raised<()> {
    let (hand, prefix) = (Hand::new(c, image), prefix.trim_start());
    let options = Options::read(&hand, given, OPTIONS)?;
    plain(&hand, prefix)?;
    each(&hand, &options, |old| {
        Ok(if old.starts_with(prefix) {
            old.to_owned()
        } else {
            format!("{prefix}{old}")
        })
    })
}

fn strip(book: &mut Book) {
    book.add(
        Word {
            namespace: "accession",
            name: "strip",
            parameters: "image, prefix[, options]",
            does: "Takes the prefix away, as often as it stands at the front.",
            limits: "A number that is nothing but the prefix keeps it once: no number is emptied. Copies change in the same way.",
            errors: ERRORS,
            samples: &[Sample {
                given: &[
                    ("AccessionNumber", "RA0077"),
                    ("RequestAttributesSequence[0].AccessionNumber", "RA0078"),
                ],
                rule: r#"accession::strip(image, "RA");"#,
                gives: Gives::Elements(&[
                    ("AccessionNumber", "0077"),
                    ("RequestAttributesSequence[0].AccessionNumber", "0078"),
                ]),
            }],
        },
        |c: Context, image: &mut Image, prefix: &str| stripped(&c, image, prefix, &Map::new()),
    );
    book.options("accession", "strip", OPTIONS);
    book.also(
        "accession",
        "strip",
        |c: Context, image: &mut Image, prefix: &str, options: Map| stripped(&c, image, prefix, &options),
    );
}

fn stripped(c: &Context, image: &Image, prefix: &str, given: &Map) -> Raised<()> {
    let (hand, prefix) = (Hand::new(c, image), prefix.trim());
    let options = Options::read(&hand, given, OPTIONS)?;
    each(&hand, &options, |old| {
        let mut rest = old;
        while let Some(less) = rest.strip_prefix(prefix).map(str::trim_start) {
            if prefix.is_empty() || less.is_empty() {
                break;
            }
            rest = less;
        }
        Ok(rest.to_owned())
    })
}

fn rewrite(book: &mut Book) {
    book.add(
        Word {
            namespace: "accession",
            name: "rewrite",
            parameters: "image, pattern, by[, options]",
            does: "Replaces every match of the regular expression; `$1` is the first group.",
            limits: "Takes time in proportion to the number, whatever the pattern. Never empties a number. The rest as the other words: \
                over 16 characters is held or kept, copies change in the same way.",
            errors: "Holds the instance when the result is too long, and fails when rewriting the result would change it again: write \
                the pattern so that it does not match what it makes.",
            samples: &[
                Sample {
                    given: &[("AccessionNumber", "RA-2024/77")],
                    rule: r#"accession::rewrite(image, "^RA-([0-9]{4})/([0-9]+)$", "$1$2");"#,
                    gives: Gives::Elements(&[("AccessionNumber", "202477")]),
                },
                Sample {
                    given: &[("AccessionNumber", "77")],
                    rule: r#"accession::rewrite(image, "^", "X");"#,
                    gives: Gives::Hold(HoldKind::Error),
                },
            ],
        },
        |c: Context, image: &mut Image, pattern: &str, by: &str| rewritten(&c, image, (pattern, by), &Map::new()),
    );
    book.options("accession", "rewrite", OPTIONS);
    book.also(
        "accession",
        "rewrite",
        |c: Context, image: &mut Image, pattern: &str, by: &str, options: Map| {
            rewritten(&c, image, (pattern, by), &options)
        },
    );
}

fn rewritten(c: &Context, image: &Image, (pattern, by): (&str, &str), given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, OPTIONS)?;
    each(&hand, &options, |old| {
        let new = verbs::settled(&hand, old, pattern, by)?.trim().to_owned();
        Ok(if new.is_empty() { old.to_owned() } else { new })
    })
}

fn set(book: &mut Book) {
    book.add(
        Word {
            namespace: "accession",
            name: "set",
            parameters: "image, value[, options]",
            does: "Writes an accession number that the rule computed or looked up. Copies that held the image's old number get the new one.",
            limits: "A copy with another number is another order's and stays. Never empties a number: an empty value changes nothing.",
            errors: ERRORS,
            samples: &[Sample {
                given: &[
                    ("AccessionNumber", "77"),
                    ("RequestAttributesSequence[0].AccessionNumber", "77"),
                    ("RequestAttributesSequence[1].AccessionNumber", "78"),
                ],
                rule: r#"accession::set(image, "N77");"#,
                gives: Gives::Elements(&[
                    ("AccessionNumber", "N77"),
                    ("RequestAttributesSequence[0].AccessionNumber", "N77"),
                    ("RequestAttributesSequence[1].AccessionNumber", "78"),
                ]),
            }],
        },
        |c: Context, image: &mut Image, value: &str| replaced(&c, image, value, &Map::new()),
    );
    book.options("accession", "set", OPTIONS);
    book.also(
        "accession",
        "set",
        |c: Context, image: &mut Image, value: &str, options: Map| replaced(&c, image, value, &options),
    );
}

fn replaced(c: &Context, image: &Image, value: &str, given: &Map) -> Raised<()> {
    let (hand, value) = (Hand::new(c, image), value.trim());
    let options = Options::read(&hand, given, OPTIONS)?;
    plain(&hand, value)?;
    let before = hand.single("AccessionNumber")?;
    if value.is_empty() {
        return Ok(());
    }
    if before.is_empty() {
        one(&hand, &options, "AccessionNumber", ("", value))?;
    }
    each(&hand, &options, |old| {
        Ok(if old == before { value } else { old }.to_owned())
    })
}

fn check(book: &mut Book) {
    book.add(
        Word {
            namespace: "accession",
            name: "check",
            parameters: "image[, options]",
            does: "Holds an instance whose accession number is over 16 characters, or flags it with `too_long: \"keep\"`.",
            limits: "Changes nothing.",
            errors: ERRORS,
            samples: &[Sample {
                given: &[("AccessionNumber", "1234567890123456")],
                rule: "accession::check(image);",
                gives: Gives::Elements(&[("AccessionNumber", "1234567890123456")]),
            }],
        },
        |c: Context, image: &mut Image| checked(&c, image, &Map::new()),
    );
    book.options("accession", "check", OPTIONS);
    book.also("accession", "check", |c: Context, image: &mut Image, options: Map| {
        checked(&c, image, &options)
    });
}

fn checked(c: &Context, image: &Image, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, OPTIONS)?;
    each(&hand, &options, |old| Ok(old.to_owned()))
}

/// Changes the number of the image and each of its copies that holds one.
fn each(hand: &Hand, options: &Options, change: impl Fn(&str) -> Result<String, Fault>) -> Raised<()> {
    for path in places(hand)? {
        let old = hand.single(&path)?;
        if old.is_empty() {
            continue;
        }
        let new = hand.placed(change(&old))?;
        one(hand, options, &path, (&old, &new))?;
    }
    Ok(())
}

/// Writes one number, unless it is too long.
fn one(hand: &Hand, options: &Options, path: &str, (old, new): (&str, &str)) -> Raised<()> {
    if new.chars().count() > LENGTH_MAX {
        match options.one("too_long") {
            "keep" => hand.flag("accession_too_long"),
            _ => hand.incomplete(TOO_LONG),
        }
        return Ok(());
    }
    if new == old {
        return Ok(());
    }
    if old.contains('\u{FFFD}') {
        return hand.raise(Fault::edit(UNREAD));
    }
    hand.set_text(path, new)?;
    if old.is_empty() {
        return Ok(());
    }
    hand.alias("accession", old, new)
}

/// The paths of all accession numbers of the image.
pub(super) fn places(hand: &Hand) -> Raised<Vec<String>> {
    let mut places = vec!["AccessionNumber".to_owned()];
    for sequence in COPIES {
        for item in 0..hand.items(sequence)? {
            places.push(format!("{sequence}[{item}].AccessionNumber"));
        }
    }
    Ok(places)
}

/// Refuses what no value can hold.
fn plain(hand: &Hand, text: &str) -> Raised<()> {
    if text.chars().any(|letter| letter.is_control() || letter == '\\') {
        return hand.raise(Fault::error(
            "an accession number holds no backslash and no control character",
        ));
    }
    Ok(())
}
