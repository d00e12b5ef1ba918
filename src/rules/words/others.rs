//! Words for the other identifiers of a patient: Other Patient IDs Sequence (0010,1002). The retired Other Patient IDs
//! (0010,1000) is read, never written.
use super::options::{Choice, Options, Takes};
use super::{Book, Gives, Hand, Sample, Word, issuer};
use crate::dicom::edit::EditError;
use crate::rules::api::Image;
use crate::rules::state::refused;
use rhai::{Array, Dynamic, EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// PS3.3 C.7.1.1: the defined terms of Type of Patient ID.
const TYPES: &[&str] = &["TEXT", "RFID", "BARCODE"];
const OPTIONS: &[Choice] = &[
    Choice {
        name: "issuer",
        takes: Takes::Text,
        does: "who issues it",
    },
    Choice {
        name: "type",
        takes: Takes::OneOf(TYPES),
        does: "Type of Patient ID",
    },
];
const SEQUENCE: &str = "OtherPatientIDsSequence";

/// Appends an identifier, unless one with the same value and issuer stands there. An empty one is none.
pub(super) fn append(hand: &Hand, id: &str, from: &str, kind: &str) -> Raised<()> {
    let (id, from) = (id.trim(), from.trim());
    if id.is_empty() {
        return Ok(());
    }
    issuer::plain(hand, id)?;
    issuer::plain(hand, from)?;
    if is_unread(id) {
        // It would count as there already beside any other that cannot be read.
        return hand.raise(refused(&EditError::Unencodable));
    }
    let count = hand.items(SEQUENCE)?;
    for item in 0..count {
        let part = |name: &str| hand.text(&format!("{SEQUENCE}[{item}].{name}"));
        if part("PatientID")? == id && part("IssuerOfPatientID")? == from {
            return Ok(());
        }
    }
    hand.set_text(&format!("{SEQUENCE}[{count}].PatientID"), id)?;
    if !from.is_empty() {
        hand.set_text(&format!("{SEQUENCE}[{count}].IssuerOfPatientID"), from)?;
    }
    hand.set_text(&format!("{SEQUENCE}[{count}].TypeOfPatientID"), kind)
}

pub(super) fn register(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "add_other",
            parameters: "image, id[, options]",
            does: "Adds an identifier of the same patient to Other Patient IDs Sequence.",
            limits: "One that stands there with the same issuer is not added again, and neither is Patient ID itself. Other Patient IDs \
                (0010,1000) is retired and never written.",
            errors: "Holds the instance when a text is over 64 characters or cannot be written in the character set.",
            samples: &[Sample {
                given: &[
                    ("PatientID", "NRT-1"),
                    ("OtherPatientIDsSequence[0].PatientID", "900001"),
                    ("OtherPatientIDsSequence[0].IssuerOfPatientID", "EMPI"),
                ],
                rule: r#"identity::add_other(image, "900001", #{ issuer: "EMPI" });
    identity::add_other(image, "C-17", #{ issuer: "CMRN" });"#,
                gives: Gives::Elements(&[
                    ("OtherPatientIDsSequence[0].PatientID", "900001"),
                    ("OtherPatientIDsSequence[1].PatientID", "C-17"),
                    ("OtherPatientIDsSequence[1].IssuerOfPatientID", "CMRN"),
                    ("OtherPatientIDsSequence[1].TypeOfPatientID", "TEXT"),
                    ("OtherPatientIDsSequence[2].PatientID", ""),
                ]),
            }],
        },
        |c: Context, image: &mut Image, id: &str| added(&c, image, id, &Map::new()),
    );
    book.options("identity", "add_other", OPTIONS);
    book.also(
        "identity",
        "add_other",
        |c: Context, image: &mut Image, id: &str, options: Map| added(&c, image, id, &options),
    );
    book.add(
        Word {
            namespace: "identity",
            name: "others",
            parameters: "image",
            does: "Answers the patient's other identifiers as an array of texts: those of Other Patient IDs Sequence, and of the retired \
                Other Patient IDs (0010,1000), each once.",
            limits: "Changes nothing.",
            errors: "Fails when the elements lie beyond what rules can read.",
            samples: &[Sample {
                given: &[
                    ("(0010,1000)", "A1\\A2"),
                    ("OtherPatientIDsSequence[0].PatientID", "A2"),
                    ("PatientComments", ""),
                ],
                rule: r#"image.PatientComments = `${identity::others(image).len} others`;"#,
                gives: Gives::Elements(&[("PatientComments", "2 others")]),
            }],
        },
        |c: Context, image: &mut Image| all(&Hand::new(&c, image)),
    );
    book.add(
        Word {
            namespace: "identity",
            name: "adopt_others",
            parameters: "image",
            does: "Copies what stands in the retired Other Patient IDs (0010,1000) into Other Patient IDs Sequence, without an issuer.",
            limits: "What stands in the sequence already, whatever its issuer, is not added again, and neither is Patient ID itself. The \
                retired element stays as it came.",
            errors: "Fails when the elements lie beyond what rules can read. Holds the instance when an identifier cannot be read in its \
                character set.",
            samples: &[Sample {
                given: &[("PatientID", "1"), ("(0010,1000)", "1\\A1")],
                rule: "identity::adopt_others(image);",
                gives: Gives::Elements(&[
                    ("OtherPatientIDsSequence[0].PatientID", "A1"),
                    ("OtherPatientIDsSequence[0].TypeOfPatientID", "TEXT"),
                    ("OtherPatientIDsSequence[1].PatientID", ""),
                ]),
            }],
        },
        |c: Context, image: &mut Image| adopted(&c, image),
    );
}

fn added(c: &Context, image: &Image, id: &str, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, OPTIONS)?;
    let from = options.text("issuer");
    if !is_unread(id) && hand.single("PatientID")? == id.trim() && hand.single("IssuerOfPatientID")? == from {
        return Ok(());
    }
    append(&hand, id, &from, options.one("type"))
}

fn in_sequence(hand: &Hand) -> Raised<Vec<String>> {
    let mut found = Vec::new();
    for item in 0..hand.items(SEQUENCE)? {
        found.push(hand.text(&format!("{SEQUENCE}[{item}].PatientID"))?);
    }
    Ok(found)
}

fn all(hand: &Hand) -> Raised<Array> {
    let mut found = in_sequence(hand)?;
    found.extend(hand.values(RETIRED)?.unwrap_or_default());
    let mut once: Vec<String> = Vec::new();
    for id in found.into_iter().map(|id| id.trim().to_owned()) {
        if !id.is_empty() && !once.contains(&id) {
            once.push(id);
        }
    }
    Ok(once.into_iter().map(Dynamic::from).collect())
}

fn adopted(c: &Context, image: &Image) -> Raised<()> {
    let hand = Hand::new(c, image);
    let mut there = in_sequence(&hand)?;
    there.push(hand.single("PatientID")?);
    for id in hand.values(RETIRED)?.unwrap_or_default() {
        if is_unread(&id) || !there.iter().any(|known| known == id.trim()) {
            append(&hand, &id, "", "TEXT")?;
        }
    }
    Ok(())
}

/// Whether an identifier holds the sign for what its character set does not say, which is the same for all bytes.
fn is_unread(id: &str) -> bool {
    id.contains('\u{FFFD}')
}

/// Other Patient IDs, retired in 2017.
const RETIRED: &str = "(0010,1000)";
