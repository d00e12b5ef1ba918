//! Words for the parts of a person's name, in the alphabetic, ideographic or phonetic group. Names are taken apart after decoding,
//! never in the bytes.
use super::{Book, Gives, Hand, Sample, Word};
use crate::dicom::text::name::{Group, Part, part, swapped, with_part};
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
                Sequence, on an earlier pass, stays.",
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
            let all = |names: &[String]| -> Vec<String> { names.iter().map(|name| swapped(name, one, other)).collect() };
            let is_done = earlier(&hand, path)?.iter().any(|before| all(before) == names);
            if is_done { Ok(()) } else { hand.set(path, all(&names)) }
        },
    );
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
        let record = format!("OriginalAttributesSequence[{item}].ModifiedAttributesSequence[0].{path}");
        found.extend(hand.values(&record)?);
    }
    Ok(found)
}

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
