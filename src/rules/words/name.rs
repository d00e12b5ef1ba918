//! Words for the parts of a person's name, in the alphabetic, ideographic or phonetic group. Names are taken apart after decoding,
//! never in the bytes.
use super::{Book, Gives, Hand, Sample, Word};
use crate::dicom::path::{Path, Selector};
use crate::dicom::text::name::{Group, Part, part, swapped, with_part};
use crate::dicom::text::{Charset, Form};
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use rhai::{EvalAltResult, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

pub(super) fn register(book: &mut Book) {
    read(book);
    write(book);
    swap(book);
}

fn read(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "name_part",
            parameters: "image, path, part[, group]",
            does: "Answers a part of a person's name: `family`, `given`, `middle`, `prefix` or `suffix`, of the group `alphabetic` \
                (without it), `ideographic` or `phonetic`.",
            limits: "Answers `\"\"` where the name has no such part. Of several names the first.",
            errors: "Fails for a part or group of another name.",
            samples: &[Sample {
                given: &[("PatientName", "DOE^JANE^Q"), ("PatientComments", "")],
                rule: r#"image.PatientComments = text::name_part(image, "PatientName", "given");"#,
                gives: Gives::Elements(&[("PatientComments", "JANE")]),
            }],
        },
        |c: Context, image: &mut Image, path: &str, part: &str| {
            name_part(&Hand::new(&c, image), path, (part, "alphabetic"))
        },
    );
    book.also(
        "text",
        "name_part",
        |c: Context, image: &mut Image, path: &str, part: &str, group: &str| {
            name_part(&Hand::new(&c, image), path, (part, group))
        },
    );
}

fn name_part(hand: &Hand, path: &str, (wanted, group): (&str, &str)) -> Raised<String> {
    let (wanted, group) = (a_part(hand, wanted)?, a_group(hand, group)?);
    Ok(part(&hand.text(path)?, group, wanted).to_owned())
}

fn write(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "set_name_part",
            parameters: "image, path, part, value[, group]",
            does: "Writes a part of a person's name; the other parts and groups stay.",
            limits: "An absent name stays absent. Never cuts.",
            errors: "Fails when the value holds `^`, `=` or a backslash. Holds the instance when a group is over 64 characters or the \
                character set cannot write it.",
            samples: &[Sample {
                given: &[("PatientName", "DOE^JANE")],
                rule: r#"text::set_name_part(image, "PatientName", "suffix", "MD");"#,
                gives: Gives::Elements(&[("PatientName", "DOE^JANE^^^MD")]),
            }],
        },
        |c: Context, image: &mut Image, path: &str, part: &str, value: &str| {
            set_part(&Hand::new(&c, image), path, (part, "alphabetic"), value)
        },
    );
    book.also(
        "text",
        "set_name_part",
        |c: Context, image: &mut Image, path: &str, part: &str, value: &str, group: &str| {
            set_part(&Hand::new(&c, image), path, (part, group), value)
        },
    );
}

fn set_part(hand: &Hand, path: &str, (wanted, group): (&str, &str), value: &str) -> Raised<()> {
    let (wanted, group, value) = (a_part(hand, wanted)?, a_group(hand, group)?, value.trim());
    if value
        .chars()
        .any(|letter| letter.is_control() || matches!(letter, '^' | '=' | '\\'))
    {
        return hand.raise(Fault::error(
            "a part of a name holds no ^, =, backslash or control character",
        ));
    }
    let Some(names) = hand.values(path)? else {
        return Ok(());
    };
    let names = names.iter().map(|name| with_part(name, group, wanted, value));
    hand.set(path, names.collect())
}

fn swap(book: &mut Book) {
    book.add(
        Word {
            namespace: "text",
            name: "swap_name_parts",
            parameters: "image, path, part, part",
            does: "Exchanges two parts of a person's name in all its groups, without the blanks around the two, for modalities that send \
                GIVEN^FAMILY.",
            limits: "Once only: a name that the box exchanged already, in this call or, by the record of changes in Original Attributes \
                Sequence, on an earlier pass, stays, also where other words changed its case or its other parts since. Words of \
                `privacy` leave no record: after them an exchange on a second pass would take the first one back.",
            errors: "Fails for a part of another name. Holds the instance when the element is no text.",
            samples: &[
                Sample {
                    given: &[("PatientName", "JANE^DOE")],
                    rule: r#"text::swap_name_parts(image, "PatientName", "family", "given");"#,
                    gives: Gives::Elements(&[("PatientName", "DOE^JANE")]),
                },
                Sample {
                    given: &[("PatientName", "JANE ^DOE^Q")],
                    rule: r#"text::swap_name_parts(image, "PatientName", "family", "given");"#,
                    gives: Gives::Elements(&[("PatientName", "DOE^JANE^Q")]),
                },
            ],
        },
        |c: Context, image: &mut Image, path: &str, one: &str, other: &str| {
            let hand = Hand::new(&c, image);
            let (one, other) = (a_part(&hand, one)?, a_part(&hand, other)?);
            let Some(names) = hand.values(path)? else {
                return Ok(());
            };
            let is_done = earlier(&hand, path)?.iter().any(|before| are_swapped(before, &names, one, other));
            if is_done {
                return Ok(());
            }
            hand.set(path, names.iter().map(|name| swapped(name, one, other)).collect())
        },
    );
}

/// Whether the two parts of the names `before` stand exchanged in `now`. What other words do to a name does not count: case, blanks,
/// and the other parts.
fn are_swapped(before: &[String], now: &[String], one: Part, other: Part) -> bool {
    let same = |a: &str, b: &str| {
        let words = |text: &str| {
            text.to_lowercase()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        words(a) == words(b)
    };
    let is_swapped = |(before, now): (&String, &String)| {
        let groups = Group::NAMES.iter().filter_map(|name| Group::parse(name));
        groups.into_iter().all(|group| {
            same(part(before, group, one), part(now, group, other))
                && same(part(before, group, other), part(now, group, one))
        })
    };
    before.len() == now.len() && before.iter().zip(now).all(is_swapped)
}

/// What stood at `path` before: as the instance came, and in each record of changes.
fn earlier(hand: &Hand, path: &str) -> Raised<Vec<Vec<String>>> {
    let mut found = Vec::new();
    let now = hand.values(path)?;
    let came = hand.original(path)?;
    if came != now {
        found.extend(came);
    }
    for item in 0..hand.items("OriginalAttributesSequence")? {
        let record = format!("OriginalAttributesSequence[{item}]");
        let modified = format!("{record}.ModifiedAttributesSequence[0].{path}");
        found.extend(hand.values(&modified)?);
        found.extend(raw(hand, &modified).into_iter().flat_map(readings));
        found.extend(nonconforming(hand, &record, path)?.into_iter().flat_map(readings));
    }
    Ok(found)
}

fn raw<'a>(hand: &Hand<'a, '_>, path: &str) -> Option<&'a [u8]> {
    let head = &hand.evaluation().head;
    head.find(&Path::parse(path).ok()?).map(|node| head.raw(node))
}

/// A former name as every set reads it that can, with what its escape sequences call: a record keeps the bytes with the declaration with
/// which they came, right or wrong.
fn readings(bytes: &[u8]) -> Vec<Vec<String>> {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b' '))
        .map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    let sets = Charset::NAMES
        .iter()
        .filter(|_| !bytes.is_ascii() || bytes.contains(&ESC))
        .filter_map(|name| Some(Charset::named(name)?.extended(bytes)));
    let read = sets
        .map(|set| set.decode(bytes, Form::Names))
        .filter(|read| !read.lossy);
    read.map(|read| read.values).collect()
}

/// What stood at `path` of the root in bytes that broke their own declaration (PS3.3 C.12.1.1.9).
fn nonconforming<'a>(hand: &Hand<'a, '_>, record: &str, path: &str) -> Raised<Vec<&'a [u8]>> {
    let leaf = match hand.placed(hand.evaluation().path(path))? {
        Path {
            items,
            leaf: Selector::Tag(tag),
        } if items.is_empty() => tag,
        _ => return Ok(Vec::new()),
    };
    let sequence = format!("{record}.NonconformingModifiedAttributesSequence");
    let one = |item: usize| {
        let of = |keyword: &str| raw(hand, &format!("{sequence}[{item}].{keyword}"));
        // In the byte order of the image, which the reading of tags knows.
        let selected = Path::parse(&format!("{sequence}[{item}].SelectorAttribute")).ok()?;
        let selected = hand.evaluation().head.text(&selected)?;
        let is_it = selected == [leaf.to_string()] && of("SelectorSequencePointer").is_none();
        of("NonconformingDataElementValue").filter(|_| is_it)
    };
    Ok((0..hand.items(&sequence)?).filter_map(one).collect())
}

/// ESC: what follows calls another set.
const ESC: u8 = 0x1B;

fn a_part(hand: &Hand, name: &str) -> Raised<Part> {
    match Part::parse(name) {
        Some(part) => Ok(part),
        None => hand.raise(Fault::error(format!(
            "a part of a name is one of {}",
            Part::NAMES.join(", ")
        ))),
    }
}

fn a_group(hand: &Hand, name: &str) -> Raised<Group> {
    match Group::parse(name) {
        Some(group) => Ok(group),
        None => hand.raise(Fault::error(format!(
            "a group of a name is one of {}",
            Group::NAMES.join(", ")
        ))),
    }
}
