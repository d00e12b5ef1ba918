//! Words for coded entries: an item of a code sequence with its value, coding scheme and meaning (PS3.3 8.8).
//!
//! A code is written whole or not at all. A value over 16 characters goes into Long Code Value, one that is a URN or URL into URN
//! Code Value, as table 8.8-1a wants it; exactly one of the three stands.
use super::lookup::{Mapped, Mapping};
use super::options::{Choice, Options, Takes};
use super::{Book, Gives, Hand, Sample, Word};
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// Characters of Code Value, an SH.
const SHORT_MAX: usize = 16;
const VALUES: [&str; 3] = ["CodeValue", "LongCodeValue", "URNCodeValue"];
/// What says something of the former code only.
const STALE: [&str; 11] = [
    "CodingSchemeVersion",
    "ContextIdentifier",
    "ContextUID",
    "MappingResource",
    "MappingResourceUID",
    "MappingResourceName",
    "ContextGroupVersion",
    "ContextGroupExtensionFlag",
    "ContextGroupLocalVersion",
    "ContextGroupExtensionCreatorUID",
    "EquivalentCodeSequence",
];
const MAP_OPTIONS: &[Choice] = &[Choice {
    name: "missing",
    takes: Takes::OneOf(&["keep", "hold", "flag"]),
    does: "what to do with a code that the table does not have: leave it, hold the instance, or leave and flag it (`code_unmapped`)",
}];

struct Code {
    value: String,
    scheme: String,
    meaning: String,
}

pub(super) fn register(book: &mut Book) {
    set(book);
    read(book);
    map(book);
}

fn set(book: &mut Book) {
    book.add(
        Word {
            namespace: "code",
            name: "set",
            parameters: "image, sequence, value, scheme, meaning",
            does: "Makes the first item of a code sequence this code: Code Value, Coding Scheme Designator and Code Meaning. A value over \
                16 characters is written as Long Code Value, a URN or URL as URN Code Value.",
            limits: "Further items stay. When the code is another one, what belonged to the former (scheme version, context group, \
                equivalents) is removed.",
            errors: "Fails when one of the three is empty (a URN needs no scheme). Holds the instance when scheme or meaning is too long: \
                nothing is cut.",
            samples: &[
                Sample {
                    given: &[("StudyDescription", "CHEST")],
                    rule: r#"code::set(image, "ProcedureCodeSequence", "36643-5", "LN", "XR Chest 2 Views");"#,
                    gives: Gives::Elements(&[
                        ("ProcedureCodeSequence[0].CodeValue", "36643-5"),
                        ("ProcedureCodeSequence[0].CodingSchemeDesignator", "LN"),
                        ("ProcedureCodeSequence[0].CodeMeaning", "XR Chest 2 Views"),
                    ]),
                },
                Sample {
                    given: &[
                        ("ProcedureCodeSequence[0].CodeValue", "T-1"),
                        ("ProcedureCodeSequence[0].CodingSchemeVersion", "1"),
                    ],
                    rule: r#"code::set(image, "ProcedureCodeSequence", "900000000000003001", "SCT", "Long one");"#,
                    gives: Gives::Elements(&[
                        ("ProcedureCodeSequence[0].CodeValue", ""),
                        ("ProcedureCodeSequence[0].CodingSchemeVersion", ""),
                        ("ProcedureCodeSequence[0].LongCodeValue", "900000000000003001"),
                        ("ProcedureCodeSequence[0].CodingSchemeDesignator", "SCT"),
                        ("ProcedureCodeSequence[0].CodeMeaning", "Long one"),
                    ]),
                },
            ],
        },
        |c: Context, image: &mut Image, sequence: &str, value: &str, scheme: &str, meaning: &str| {
            let code = Code {
                value: value.trim().to_owned(),
                scheme: scheme.trim().to_owned(),
                meaning: meaning.trim().to_owned(),
            };
            put(&Hand::new(&c, image), &format!("{sequence}[0]"), &code)
        },
    );
}

/// Which of the three elements holds a value.
fn place(value: &str) -> &'static str {
    let is_urn = value.starts_with("urn:") || value.contains("://");
    match value.chars().count() {
        _ if is_urn => "URNCodeValue",
        0..=SHORT_MAX => "CodeValue",
        _ => "LongCodeValue",
    }
}

fn put(hand: &Hand, item: &str, code: &Code) -> Raised<()> {
    let own = place(&code.value);
    if code.value.is_empty() || code.meaning.is_empty() || (code.scheme.is_empty() && own != "URNCodeValue") {
        return hand.raise(Fault::error("a code needs a value, a scheme and a meaning"));
    }
    let texts = [&code.value, &code.scheme, &code.meaning];
    if texts
        .iter()
        .any(|text| text.chars().any(|letter| letter.is_control() || letter == '\\'))
    {
        return hand.raise(Fault::error("a code holds no backslash and no control character"));
    }
    let before = coded(hand, item)?;
    let is_other = before.value != code.value || before.scheme != code.scheme;
    for name in VALUES.iter().filter(|name| **name != own) {
        hand.remove(&format!("{item}.{name}"))?;
    }
    // A scheme without a value is a former code too: its version says nothing of another scheme.
    let has_former = !before.value.is_empty() || (!before.scheme.is_empty() && before.scheme != code.scheme);
    if is_other && has_former {
        for name in STALE {
            hand.remove(&format!("{item}.{name}"))?;
        }
    }
    hand.set_text(&format!("{item}.{own}"), code.value.as_str())?;
    if code.scheme.is_empty() {
        hand.remove(&format!("{item}.CodingSchemeDesignator"))?;
    } else {
        hand.set_text(&format!("{item}.CodingSchemeDesignator"), code.scheme.as_str())?;
    }
    hand.set_text(&format!("{item}.CodeMeaning"), code.meaning.as_str())
}

/// The code that stands in an item.
fn coded(hand: &Hand, item: &str) -> Raised<Code> {
    let mut value = String::new();
    for name in VALUES {
        if value.is_empty() {
            value = hand.text(&format!("{item}.{name}"))?;
        }
    }
    Ok(Code {
        value,
        scheme: hand.text(&format!("{item}.CodingSchemeDesignator"))?,
        meaning: hand.text(&format!("{item}.CodeMeaning"))?,
    })
}

fn read(book: &mut Book) {
    let word = |name, does, rule, samples| Word {
        namespace: "code",
        name,
        parameters: rule,
        does,
        limits: "Changes nothing. Of several items the first.",
        errors: "Fails when the sequence lies beyond what rules can read.",
        samples,
    };
    book.add(
        word(
            "value",
            "Answers the code's value, wherever it stands (Code Value, Long Code Value, URN Code Value); `\"\"` without one.",
            "image, sequence",
            &[Sample {
                given: &[("ProcedureCodeSequence[0].LongCodeValue", "900000000000003001"), ("StudyDescription", "")],
                rule: r#"image.StudyDescription = code::value(image, "ProcedureCodeSequence");"#,
                gives: Gives::Elements(&[("StudyDescription", "900000000000003001")]),
            }],
        ),
        |c: Context, image: &mut Image, sequence: &str| {
            coded(&Hand::new(&c, image), &format!("{sequence}[0]")).map(|code| code.value)
        },
    );
    book.add(
        word(
            "meaning",
            "Answers the code's meaning; `\"\"` without one.",
            "image, sequence",
            &[Sample {
                given: &[
                    ("ProcedureCodeSequence[0].CodeMeaning", "XR Chest"),
                    ("StudyDescription", ""),
                ],
                rule: r#"text::if_empty(image, "StudyDescription", code::meaning(image, "ProcedureCodeSequence"));"#,
                gives: Gives::Elements(&[("StudyDescription", "XR Chest")]),
            }],
        ),
        |c: Context, image: &mut Image, sequence: &str| {
            coded(&Hand::new(&c, image), &format!("{sequence}[0]")).map(|code| code.meaning)
        },
    );
    book.add(
        word(
            "has",
            "Answers whether any item of the sequence is this code.",
            "image, sequence, value, scheme",
            &[Sample {
                given: &[
                    ("ProcedureCodeSequence[0].CodeValue", "CH2"),
                    ("ProcedureCodeSequence[0].CodingSchemeDesignator", "99LOCAL"),
                    ("BodyPartExamined", ""),
                ],
                rule: r#"if code::has(image, "ProcedureCodeSequence", "CH2", "99LOCAL") { image.BodyPartExamined = "CHEST"; }"#,
                gives: Gives::Elements(&[("BodyPartExamined", "CHEST")]),
            }],
        ),
        |c: Context, image: &mut Image, sequence: &str, value: &str, scheme: &str| {
            has(&Hand::new(&c, image), sequence, (value.trim(), scheme.trim()))
        },
    );
}

fn has(hand: &Hand, sequence: &str, (value, scheme): (&str, &str)) -> Raised<bool> {
    for item in 0..hand.items(sequence)? {
        let code = coded(hand, &format!("{sequence}[{item}]"))?;
        if code.value == value && code.scheme == scheme {
            return Ok(true);
        }
    }
    Ok(false)
}

fn map(book: &mut Book) {
    book.add(
        Word {
            namespace: "code",
            name: "map",
            parameters: "image, sequence, table[, options]",
            does: "Replaces each code of the sequence by what a table says: its columns `scheme`, `code`, `to_scheme`, `to_code` and \
                `to_meaning`.",
            limits: "Exact: case counts. Rows that lead to other rows are followed to the end. An item without a code stays.",
            errors: "Holds the instance when the table has different answers for one code, or a text is too long for its element.",
            samples: &[Sample {
                given: &[
                    ("ProcedureCodeSequence[0].CodeValue", "CH2"),
                    ("ProcedureCodeSequence[0].CodingSchemeDesignator", "99LOCAL"),
                    ("ProcedureCodeSequence[0].CodeMeaning", "Thorax 2E"),
                ],
                rule: r#"code::map(image, "ProcedureCodeSequence", "procedures");"#,
                gives: Gives::Elements(&[
                    ("ProcedureCodeSequence[0].CodeValue", "36643-5"),
                    ("ProcedureCodeSequence[0].CodingSchemeDesignator", "LN"),
                    ("ProcedureCodeSequence[0].CodeMeaning", "XR Chest 2 Views"),
                ]),
            }],
        },
        |c: Context, image: &mut Image, sequence: &str, table: &str| {
            mapped(&Hand::new(&c, image), (sequence, table), &Map::new())
        },
    );
    book.options("code", "map", MAP_OPTIONS);
    book.columns(
        "code",
        "map",
        &[("scheme", ""), ("code", ""), ("to_scheme", ""), ("to_code", "")],
    );
    book.also(
        "code",
        "map",
        |c: Context, image: &mut Image, sequence: &str, table: &str, options: Map| {
            mapped(&Hand::new(&c, image), (sequence, table), &options)
        },
    );
}

fn mapped(hand: &Hand, (sequence, table): (&str, &str), given: &Map) -> Raised<()> {
    let options = Options::read(hand, given, MAP_OPTIONS)?;
    let mapping = Mapping::of(hand, table, &[("code", "to_code"), ("scheme", "to_scheme")])?;
    for item in 0..hand.items(sequence)? {
        let item = format!("{sequence}[{item}]");
        let before = coded(hand, &item)?;
        if before.value.is_empty() {
            continue;
        }
        match mapping.follow(&[before.value, before.scheme]) {
            Mapped::Done => {}
            Mapped::Ambiguous => hand.incomplete("a table gives different answers for one code"),
            Mapped::Missing => match options.one("missing") {
                "hold" => hand.incomplete("a table has no row for a code"),
                "flag" => hand.flag("code_unmapped"),
                _ => {}
            },
            Mapped::To(mut to, row) => {
                let meaning = match mapping.extra(row, "to_meaning") {
                    "" => before.meaning,
                    meaning => meaning.to_owned(),
                };
                let (scheme, value) = (to.pop().unwrap_or_default(), to.pop().unwrap_or_default());
                put(hand, &item, &Code { value, scheme, meaning })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::rules::tests::{decide, element_text};
    use crate::rules::words_tests::head_of;

    #[test]
    fn the_version_of_another_scheme_goes_also_where_the_former_item_had_no_value() {
        let rule = "fn morph(image, from) { code::set(image, \"ProcedureCodeSequence\", \"T1\", \"SCT\", \"x\"); } \
            fn route(image, from) { to(\"vna\"); }";
        let version = |scheme: &str| {
            let head = head_of(&[
                ("ProcedureCodeSequence[0].CodingSchemeDesignator", scheme),
                ("ProcedureCodeSequence[0].CodingSchemeVersion", "2006"),
            ]);
            let path = "ProcedureCodeSequence[0].CodingSchemeVersion";
            element_text(&decide(rule, &head), &head, 0, path)
        };
        assert_eq!(version("SRT"), None);
        assert_eq!(
            version("SCT").as_deref(),
            Some("2006"),
            "what was begun for this scheme stays"
        );
    }
}
