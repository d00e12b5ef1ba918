//! Who issues an identifier, of a patient or of an accession number, and the words that say so without changing the identifier.
//!
//! Of patients: Issuer of Patient ID (0010,0021) and Issuer of Patient ID Qualifiers Sequence (0010,0024). Of accession numbers:
//! Issuer of Accession Number Sequence (0008,0051). Qualifiers of another issuer never stay beside a new one.
use super::options::{Choice, Options, Takes};
use super::{Book, Gives, Hand, Sample, Word, accession};
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use crate::rules::tables::Table;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// PS3.3 10.14: the defined terms of Universal Entity ID Type.
const UNIVERSAL_TYPES: &[&str] = &["", "DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"];

pub(super) const ISSUER_OPTIONS: [Choice; 5] = [
    Choice {
        name: "issuer",
        takes: Takes::Text,
        does: "the issuer's local name",
    },
    Choice {
        name: "universal_id",
        takes: Takes::Text,
        does: "the issuer's identifier for the whole world, such as an OID",
    },
    Choice {
        name: "universal_type",
        takes: Takes::OneOf(UNIVERSAL_TYPES),
        does: "what kind of identifier that is",
    },
    Choice {
        name: "type_code",
        takes: Takes::Text,
        does: "Identifier Type Code, such as MR (HL7 table 0203)",
    },
    Choice {
        name: "facility",
        takes: Takes::Text,
        does: "the local name of the facility that assigned the number",
    },
];
const PATIENT_OPTIONS: &[Choice] = &[
    ISSUER_OPTIONS[1],
    ISSUER_OPTIONS[2],
    ISSUER_OPTIONS[3],
    ISSUER_OPTIONS[4],
];
const ACCESSION_OPTIONS: &[Choice] = &[ISSUER_OPTIONS[1], ISSUER_OPTIONS[2]];

/// An issuer as rules name it. What is empty is not said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Issuer {
    pub(super) name: String,
    universal_id: String,
    universal_type: String,
    type_code: String,
    facility: String,
}

/// What the issuer issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place<'a> {
    Patient,
    /// The accession number at this path.
    Accession(&'a str),
}

impl Issuer {
    pub(super) fn of(options: &Options) -> Self {
        Self::named(&options.text("issuer"), |name| options.text(name))
    }

    /// From a row's columns of the options' names.
    pub(super) fn row(table: &Table, row: usize) -> Self {
        let cell = |name: &str| table.column(name).map_or("", |column| table.cell(row, column));
        Self::named(cell("issuer"), cell)
    }

    /// The local name; `""` where none was given.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Called `name`, with the rest from `text`.
    pub(super) fn named<T: Into<String>>(name: &str, text: impl Fn(&str) -> T) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::extra(text)
        }
    }

    /// All but the local name.
    fn extra<T: Into<String>>(text: impl Fn(&str) -> T) -> Self {
        Self {
            name: String::new(),
            universal_id: text("universal_id").into(),
            universal_type: text("universal_type").into(),
            type_code: text("type_code").into(),
            facility: text("facility").into(),
        }
    }

    /// Writes the issuer of the identifier at `place`, when anything is said of it.
    pub(super) fn write(&self, hand: &Hand, place: Place) -> Raised<()> {
        if *self == Self::default() {
            return Ok(());
        }
        if self.universal_id.is_empty() != self.universal_type.is_empty() {
            return hand.raise(Fault::error("universal_id and universal_type are needed together"));
        }
        if !UNIVERSAL_TYPES.contains(&self.universal_type.as_str()) {
            return hand.raise(Fault::error(
                "universal_type is one of DNS, EUI64, ISO, URI, UUID, X400, X500",
            ));
        }
        for text in [&self.name, &self.universal_id, &self.type_code, &self.facility] {
            plain(hand, text)?;
        }
        match place {
            Place::Patient => self.write_patient(hand),
            Place::Accession(path) => {
                let sequence = format!(
                    "{}IssuerOfAccessionNumberSequence",
                    path.trim_end_matches("AccessionNumber")
                );
                let wanted = self.entity(&self.name);
                one_item(hand, &sequence, &wanted)
            }
        }
    }

    fn write_patient(&self, hand: &Hand) -> Raised<()> {
        let is_new = !self.name.is_empty() && hand.single("IssuerOfPatientID")? != self.name;
        if !self.name.is_empty() {
            hand.set_text("IssuerOfPatientID", self.name.as_str())?;
        }
        let mut wanted = self.entity("");
        wanted.push(("IdentifierTypeCode", self.type_code.as_str()));
        wanted.push((
            "AssigningFacilitySequence[0].LocalNamespaceEntityID",
            self.facility.as_str(),
        ));
        wanted.retain(|(_, text)| !text.is_empty());
        if wanted.is_empty() {
            // Qualifiers that came belong to the issuer that came.
            return if is_new { hand.remove(QUALIFIERS) } else { Ok(()) };
        }
        one_item(hand, QUALIFIERS, &wanted)
    }

    /// Elements of the HL7v2 Hierarchic Designator Macro (PS3.3 table 10-17).
    fn entity<'a>(&'a self, name: &'a str) -> Vec<(&'static str, &'a str)> {
        let mut wanted = vec![
            ("LocalNamespaceEntityID", name),
            ("UniversalEntityID", self.universal_id.as_str()),
            ("UniversalEntityIDType", self.universal_type.as_str()),
        ];
        wanted.retain(|(_, text)| !text.is_empty());
        wanted
    }
}

const QUALIFIERS: &str = "IssuerOfPatientIDQualifiersSequence";
/// What an item about an issuer may hold; another issuer's must not stay.
const ALL: [&str; 7] = [
    "LocalNamespaceEntityID",
    "UniversalEntityID",
    "UniversalEntityIDType",
    "IdentifierTypeCode",
    "AssigningFacilitySequence[0].LocalNamespaceEntityID",
    "AssigningJurisdictionCodeSequence",
    "AssigningAgencyOrDepartmentCodeSequence",
];

/// Makes `sequence` one item that says what is wanted and nothing else; nothing is written when it says so already.
fn one_item(hand: &Hand, sequence: &str, wanted: &[(&'static str, &str)]) -> Raised<()> {
    let mut is_so = hand.items(sequence)? == 1;
    for part in ALL {
        let path = format!("{sequence}[0].{part}");
        let text = wanted
            .iter()
            .find(|(name, _)| *name == part)
            .map_or("", |(_, text)| *text);
        is_so = is_so
            && match part.ends_with("CodeSequence") {
                true => !hand.has(&path)?,
                false => hand.text(&path)? == text,
            };
    }
    if is_so {
        return Ok(());
    }
    hand.remove(sequence)?;
    for (name, text) in wanted {
        hand.set_text(&format!("{sequence}[0].{name}"), *text)?;
    }
    Ok(())
}

/// Refuses what no value can hold.
pub(super) fn plain(hand: &Hand, text: &str) -> Raised<()> {
    if text.chars().any(|letter| letter.is_control() || letter == '\\') {
        return hand.raise(Fault::error(
            "an identifier holds no backslash and no control character",
        ));
    }
    Ok(())
}

pub(super) fn register(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "issuer",
            parameters: "image, issuer[, options]",
            does: "Says who issues Patient ID: Issuer of Patient ID and, with the options, Issuer of Patient ID Qualifiers Sequence.",
            limits: "Nothing is written where there is no Patient ID. Qualifiers of another issuer are taken away.",
            errors: "Holds the instance when a name is too long for its element. Fails when only one of `universal_id` and \
                `universal_type` is given.",
            samples: &[Sample {
                given: &[
                    ("PatientID", "123"),
                    ("IssuerOfPatientID", "OLD"),
                    ("IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID", "9.9"),
                ],
                rule: r#"identity::issuer(image, "NORTH");"#,
                gives: Gives::Elements(&[
                    ("IssuerOfPatientID", "NORTH"),
                    ("IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID", ""),
                ]),
            }],
        },
        |c: Context, image: &mut Image, issuer: &str| of_patient(&c, image, issuer, &Map::new()),
    );
    book.options("identity", "issuer", PATIENT_OPTIONS);
    book.also(
        "identity",
        "issuer",
        |c: Context, image: &mut Image, issuer: &str, options: Map| of_patient(&c, image, issuer, &options),
    );
    book.add(
        Word {
            namespace: "accession",
            name: "issuer",
            parameters: "image, issuer[, options]",
            does: "Says who issues the accession number: Issuer of Accession Number Sequence, of the image and in each item of Request \
                Attributes Sequence and Referenced Request Sequence that has an accession number.",
            limits: "Nothing is written where there is no accession number. What another issuer left in the sequence is replaced.",
            errors: "Holds the instance when a name is too long for its element. Fails when only one of `universal_id` and \
                `universal_type` is given.",
            samples: &[Sample {
                given: &[
                    ("AccessionNumber", "77"),
                    ("RequestAttributesSequence[0].AccessionNumber", "77"),
                    ("RequestAttributesSequence[1].RequestedProcedureID", "P2"),
                ],
                rule: r#"accession::issuer(image, "RIS", #{ universal_id: "1.2.826.0.2", universal_type: "ISO" });"#,
                gives: Gives::Elements(&[
                    ("IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID", "RIS"),
                    ("IssuerOfAccessionNumberSequence[0].UniversalEntityID", "1.2.826.0.2"),
                    ("IssuerOfAccessionNumberSequence[0].UniversalEntityIDType", "ISO"),
                    (
                        "RequestAttributesSequence[0].IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID",
                        "RIS",
                    ),
                    ("RequestAttributesSequence[1].IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID", ""),
                ]),
            }],
        },
        |c: Context, image: &mut Image, issuer: &str| of_accession(&c, image, issuer, &Map::new()),
    );
    book.options("accession", "issuer", ACCESSION_OPTIONS);
    book.also(
        "accession",
        "issuer",
        |c: Context, image: &mut Image, issuer: &str, options: Map| of_accession(&c, image, issuer, &options),
    );
}

fn of_patient(c: &Context, image: &Image, name: &str, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, PATIENT_OPTIONS)?;
    let issuer = named(&hand, name, &options)?;
    if hand.single("PatientID")?.is_empty() {
        return Ok(());
    }
    issuer.write(&hand, Place::Patient)
}

fn of_accession(c: &Context, image: &Image, name: &str, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, ACCESSION_OPTIONS)?;
    let issuer = named(&hand, name, &options)?;
    for path in accession::places(&hand)? {
        if !hand.single(&path)?.is_empty() {
            issuer.write(&hand, Place::Accession(&path))?;
        }
    }
    Ok(())
}

fn named(hand: &Hand, name: &str, options: &Options) -> Raised<Issuer> {
    let issuer = Issuer::named(name.trim(), |name| options.text(name));
    if issuer.name.is_empty() && issuer.universal_id.is_empty() {
        return hand.raise(Fault::error("an issuer needs a name or a universal_id"));
    }
    Ok(issuer)
}
