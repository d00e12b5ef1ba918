//! Words for who the patient is: Patient ID with its issuer (PS3.3 C.7.1.1, C.2.2), the cross-reference of issuers, and what
//! stands in Other Patient IDs Sequence. The retired Other Patient IDs (0010,1000) is read, never written.
//!
//! Two people must never become one: nothing is guessed, an ambiguous cross-reference holds the instance, and an identifier
//! that goes elsewhere takes no issuer's qualifiers of somebody else along.
use super::issuer::{self, ISSUER_OPTIONS, Issuer, Place};
use super::lookup::{self, Mapped, Mapping, Twice};
use super::options::{Choice, Options, Takes};
use super::{Book, Gives, Hand, Sample, Word, others};
use crate::dicom::check_digit::Scheme;
use crate::rules::HoldKind;
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

const FORMER: Choice = Choice {
    name: "former",
    takes: Takes::OneOf(&["forget", "other_ids"]),
    does: "where the number that came goes: only into the record of changes, or also into Other Patient IDs Sequence",
};
const MISSING: Choice = Choice {
    name: "missing",
    takes: Takes::OneOf(&["hold", "keep", "flag"]),
    does: "what to do when the table has no row: hold the instance, leave it as it is, or leave and flag it (`identity_unmapped`)",
};
const PREFIX_OPTIONS: &[Choice] = &[
    ISSUER_OPTIONS[0],
    ISSUER_OPTIONS[1],
    ISSUER_OPTIONS[2],
    ISSUER_OPTIONS[3],
    ISSUER_OPTIONS[4],
    FORMER,
];
const SITE_OPTIONS: &[Choice] = &[MISSING, FORMER];
const MAP_OPTIONS: &[Choice] = &[
    MISSING,
    Choice {
        name: "former",
        takes: Takes::OneOf(&["other_ids", "forget"]),
        does: "where the number that came goes: into Other Patient IDs Sequence, or only into the record of changes",
    },
    Choice {
        name: "issuer",
        takes: Takes::Text,
        does: "the issuer to assume for images that name none",
    },
];
const POLICIES: &[&str] = &["trim", "strip-zeros", "pad-zeros", "strip-separators", "upper", "lower"];
/// What `strip-separators` takes away.
const SEPARATORS: [char; 4] = [' ', '-', '.', '/'];
const NORMALISE_OPTIONS: &[Choice] = &[
    Choice {
        name: "policy",
        takes: Takes::OneOf(POLICIES),
        does: "what to do; there is no hidden one",
    },
    Choice {
        name: "length",
        takes: Takes::Number,
        does: "for `pad-zeros`: up to how many characters",
    },
];
const CHECK_OPTIONS: &[Choice] = &[
    Choice {
        name: "digit",
        takes: Takes::OneOf(&Scheme::NAMES),
        does: "the scheme of the check digit",
    },
    Choice {
        name: "prefix",
        takes: Takes::Text,
        does: "what stands before the number and does not count",
    },
    Choice {
        name: "wrong",
        takes: Takes::OneOf(&["hold", "flag"]),
        does: "what to do with a wrong number: hold the instance, or flag it (`identity_check_digit`)",
    },
];

pub(super) fn register(book: &mut Book) {
    prefix(book);
    prefix_by(book);
    map(book);
    normalise(book);
    check(book);
}

fn prefix(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "prefix",
            parameters: "image, prefix[, issuer or options]",
            does: "Writes the prefix before a Patient ID that does not begin with it, and says who issues it: Issuer of Patient ID \
                and, with the options, its qualifiers.",
            limits: "An empty Patient ID stays empty and gets no issuer: a prefix alone would make one patient out of many. Without an \
                issuer in the call the one that came stays. A prefix of digits only is written before a number that begins with these \
                digits too, unless the issuer of the call stands beside it already. A number that came with the prefix keeps it as it \
                is, also where a policy of `identity::normalise` took its dash or its case away.",
            errors: "Holds the instance when the result is over 64 characters or the Patient ID came with several values.",
            samples: &[
                Sample {
                    given: &[("PatientID", "0123")],
                    rule: r#"identity::prefix(image, "NRT-", "NORTH");"#,
                    gives: Gives::Elements(&[("PatientID", "NRT-0123"), ("IssuerOfPatientID", "NORTH")]),
                },
                Sample {
                    given: &[("PatientID", "123"), ("PatientName", "DOE^JANE")],
                    rule: r#"identity::prefix(image, "NRT-", #{ issuer: "NORTH", universal_id: "1.2.826.0.1", universal_type: "ISO",
        type_code: "MR", former: "other_ids" });"#,
                    gives: Gives::Elements(&[
                        ("PatientID", "NRT-123"),
                        ("IssuerOfPatientID", "NORTH"),
                        ("IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID", "1.2.826.0.1"),
                        ("IssuerOfPatientIDQualifiersSequence[0].UniversalEntityIDType", "ISO"),
                        ("IssuerOfPatientIDQualifiersSequence[0].IdentifierTypeCode", "MR"),
                        ("OtherPatientIDsSequence[0].PatientID", "123"),
                        ("OtherPatientIDsSequence[0].TypeOfPatientID", "TEXT"),
                    ]),
                },
                Sample {
                    given: &[("PatientID", "1234")],
                    rule: r#"identity::prefix(image, "1", "NORTH");"#,
                    gives: Gives::Elements(&[("PatientID", "11234"), ("IssuerOfPatientID", "NORTH")]),
                },
            ],
        },
        |c: Context, image: &mut Image, prefix: &str| prefixed(&c, image, prefix, &Map::new()),
    );
    book.options("identity", "prefix", PREFIX_OPTIONS);
    book.also(
        "identity",
        "prefix",
        |c: Context, image: &mut Image, prefix: &str, issuer: &str| {
            let mut options = Map::new();
            options.insert("issuer".into(), issuer.to_owned().into());
            prefixed(&c, image, prefix, &options)
        },
    );
    book.also(
        "identity",
        "prefix",
        |c: Context, image: &mut Image, prefix: &str, options: Map| prefixed(&c, image, prefix, &options),
    );
}

fn prefixed(c: &Context, image: &Image, prefix: &str, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, PREFIX_OPTIONS)?;
    let issuer = Issuer::of(&options);
    put_before(&hand, prefix, &issuer, options.one("former"))
}

fn put_before(hand: &Hand, prefix: &str, issuer: &Issuer, former: &str) -> Raised<()> {
    let prefix = prefix.trim_start();
    issuer::plain(hand, prefix)?;
    let id = hand.single("PatientID")?;
    if id.is_empty() {
        return Ok(());
    }
    if is_prefixed(hand, &id, prefix, issuer)? {
        return issuer.write(hand, Place::Patient);
    }
    let is_bare = !id.starts_with(prefix);
    match bare(&id, &came(hand)?, prefix).filter(|_| is_bare) {
        Some(number) => {
            hand.set_text("PatientID", format!("{prefix}{number}"))?;
            issuer.write(hand, Place::Patient)
        }
        None => rename(hand, &format!("{prefix}{id}"), issuer, former),
    }
}

/// Whether the number has its prefix. Where a prefix is digits only, a number may begin with it and be another patient's: there the
/// issuer that goes with the prefix must stand beside it, if the rule names one.
fn is_prefixed(hand: &Hand, id: &str, prefix: &str, issuer: &Issuer) -> Raised<bool> {
    if !id.starts_with(prefix) {
        return Ok(false);
    }
    let is_telling = prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit());
    Ok(is_telling || issuer.name().is_empty() || hand.single("IssuerOfPatientID")? == issuer.name())
}

/// Patient ID as the instance came; `""` when it has none.
fn came(hand: &Hand) -> Raised<String> {
    let values = hand.original("PatientID")?.unwrap_or_default();
    Ok(values.first().map(|value| value.trim().to_owned()).unwrap_or_default())
}

/// What stands behind the prefix in a number that came with it, when a policy took a separator or the case of the prefix away since:
/// `NRT4711`, which came as `NRT-4711`, is `4711`.
fn bare<'a>(id: &'a str, came: &str, prefix: &str) -> Option<&'a str> {
    let key = |text: &str| text.replace(SEPARATORS, "").to_lowercase();
    if !came.starts_with(prefix) || key(came) != key(id) {
        return None;
    }
    let of_prefix = key(prefix);
    let ends = id.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let end = ends.into_iter().find(|end| key(&id[..*end]) == of_prefix);
    let rest = id[end.unwrap_or(0)..].trim_start_matches(SEPARATORS);
    Some(rest).filter(|rest| !rest.is_empty() && !prefix.is_empty())
}

/// Writes another Patient ID and its issuer; the former one moves to Other Patient IDs Sequence when `former` says so.
fn rename(hand: &Hand, id: &str, issuer: &Issuer, former: &str) -> Raised<()> {
    let (before, from) = (hand.single("PatientID")?, hand.single("IssuerOfPatientID")?);
    hand.set_text("PatientID", id)?;
    issuer.write(hand, Place::Patient)?;
    if former == "other_ids" {
        others::append(hand, &before, &from, "TEXT")?;
    }
    Ok(())
}

fn prefix_by(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "prefix_by",
            parameters: "image, table, site[, options]",
            does: "As `identity::prefix`, with prefix and issuer from a table: the row whose first column holds the site, and its \
                columns `prefix`, `issuer`, `universal_id`, `universal_type`, `type_code` and `facility`, as far as it has them.",
            limits: "An empty Patient ID stays empty. A row with an empty prefix writes the issuer only.",
            errors: "Holds the instance when the table has no row for the site (or as `missing` says), when it has two that differ, \
                and when the result is over 64 characters.",
            samples: &[
                Sample {
                    given: &[("PatientID", "123")],
                    rule: r#"identity::prefix_by(image, "sites", from.source);"#,
                    gives: Gives::Elements(&[
                        ("PatientID", "NRT-123"),
                        ("IssuerOfPatientID", "NORTH"),
                        ("IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID", "1.2.826.0.1"),
                        ("IssuerOfPatientIDQualifiersSequence[0].UniversalEntityIDType", "ISO"),
                    ]),
                },
                Sample {
                    given: &[("PatientID", "123"), ("StationName", "XR9")],
                    rule: r#"identity::prefix_by(image, "sites", image.StationName);"#,
                    gives: Gives::Hold(HoldKind::Incomplete),
                },
            ],
        },
        |c: Context, image: &mut Image, table: &str, site: &str| by_site(&c, image, (table, site), &Map::new()),
    );
    book.options("identity", "prefix_by", SITE_OPTIONS);
    book.columns("identity", "prefix_by", &[("prefix", "")]);
    book.also(
        "identity",
        "prefix_by",
        |c: Context, image: &mut Image, table: &str, site: &str, options: Map| {
            by_site(&c, image, (table, site), &options)
        },
    );
}

fn by_site(c: &Context, image: &Image, (name, site): (&str, &str), given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, SITE_OPTIONS)?;
    let table = lookup::table(&hand, name)?;
    let prefix = lookup::column(&hand, table, "prefix")?;
    let columns: Vec<usize> = (0..table.columns().count()).collect();
    match lookup::one_row(table, table.rows(0, site), &columns) {
        Err(Twice) => hand.incomplete("the table of sites gives different answers for one site"),
        Ok(None) => missing(
            &hand,
            options.one("missing"),
            "the table of sites has no row for this site",
        ),
        Ok(Some(row)) => {
            let issuer = Issuer::row(table, row);
            put_before(&hand, table.cell(row, prefix), &issuer, options.one("former"))?;
        }
    }
    Ok(())
}

fn missing(hand: &Hand, policy: &str, reason: &'static str) {
    match policy {
        "keep" => {}
        "flag" => hand.flag("identity_unmapped"),
        _ => hand.incomplete(reason),
    }
}

fn map(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "map",
            parameters: "image, table[, options]",
            does: "Replaces Patient ID and issuer by what a cross-reference table says: its columns `issuer`, `value`, `to_issuer` and \
                `to_value` (an empty one leaves that part as it is). What came goes into Other Patient IDs Sequence. The table may \
                have columns for the new issuer's qualifiers, as in `identity::prefix_by`.",
            limits: "Rows that lead to other rows are followed to the end. Exact: leading zeros and case count. An image that stands at \
                an end already is not changed.",
            errors: "Holds the instance when the table is ambiguous: two rows with different answers, or rows that lead in a circle. \
                Holds it when there is no row or no Patient ID, or does as `missing` says.",
            samples: &[
                Sample {
                    given: &[("PatientID", "123"), ("IssuerOfPatientID", "NORTH")],
                    rule: r#"identity::map(image, "patients");"#,
                    gives: Gives::Elements(&[
                        ("PatientID", "900001"),
                        ("IssuerOfPatientID", "EMPI"),
                        ("OtherPatientIDsSequence[0].PatientID", "123"),
                        ("OtherPatientIDsSequence[0].IssuerOfPatientID", "NORTH"),
                        ("OtherPatientIDsSequence[0].TypeOfPatientID", "TEXT"),
                    ]),
                },
                Sample {
                    given: &[("PatientID", "77"), ("IssuerOfPatientID", "NORTH")],
                    rule: r#"identity::map(image, "patients", #{ missing: "keep" });"#,
                    gives: Gives::Hold(HoldKind::Incomplete),
                },
                Sample {
                    given: &[("PatientID", "0123")],
                    rule: r#"identity::map(image, "patients", #{ issuer: "NORTH", missing: "flag" });"#,
                    gives: Gives::Elements(&[("PatientID", "0123")]),
                },
            ],
        },
        |c: Context, image: &mut Image, table: &str| mapped(&c, image, table, &Map::new()),
    );
    book.options("identity", "map", MAP_OPTIONS);
    book.columns(
        "identity",
        "map",
        &[("issuer", ""), ("value", ""), ("to_issuer", ""), ("to_value", "")],
    );
    book.also(
        "identity",
        "map",
        |c: Context, image: &mut Image, table: &str, options: Map| mapped(&c, image, table, &options),
    );
}

fn mapped(c: &Context, image: &Image, table: &str, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, MAP_OPTIONS)?;
    let mapping = Mapping::of(&hand, table, &[("value", "to_value"), ("issuer", "to_issuer")])?;
    let (id, mut issuer) = (hand.single("PatientID")?, hand.single("IssuerOfPatientID")?);
    if issuer.is_empty() {
        issuer = options.text("issuer");
    }
    match mapping.follow(&[id, issuer]) {
        Mapped::Done => Ok(()),
        Mapped::Ambiguous => {
            hand.incomplete("the cross-reference table is ambiguous for this patient");
            Ok(())
        }
        Mapped::Missing => {
            missing(
                &hand,
                options.one("missing"),
                "the cross-reference table has no row for this patient",
            );
            Ok(())
        }
        Mapped::To(to, row) => {
            let [id, name] = &to[..] else { return Ok(()) };
            let issuer = Issuer::named(name, |column| mapping.extra(row, column));
            rename(&hand, id, &issuer, options.one("former"))
        }
    }
}

fn normalise(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "normalise",
            parameters: "image, options",
            does: "Puts Patient ID into one form by a named policy: `trim`, `strip-zeros` (leading zeros of a number that is all digits), \
                `pad-zeros` (to `length`), `strip-separators` (blanks, dashes, dots, slashes), `upper`, `lower`.",
            limits: "Leading zeros and case are part of a number unless its issuer says otherwise: that is why the policy must be named. \
                Never empties a number; `000` becomes `0`. Letters whose capital is two stay.",
            errors: "Fails without a policy, and holds the instance when Patient ID came with several values.",
            samples: &[
                Sample {
                    given: &[("PatientID", "000123")],
                    rule: r#"identity::normalise(image, #{ policy: "strip-zeros" });"#,
                    gives: Gives::Elements(&[("PatientID", "123")]),
                },
                Sample {
                    given: &[("PatientID", "123")],
                    rule: r#"identity::normalise(image, #{ policy: "pad-zeros", length: 8 });"#,
                    gives: Gives::Elements(&[("PatientID", "00000123")]),
                },
                Sample {
                    given: &[("PatientID", "a12-34.5")],
                    rule: r#"identity::normalise(image, #{ policy: "strip-separators" });
    identity::normalise(image, #{ policy: "upper" });"#,
                    gives: Gives::Elements(&[("PatientID", "A12345")]),
                },
            ],
        },
        |c: Context, image: &mut Image, options: Map| normalised(&c, image, &options),
    );
    book.options("identity", "normalise", NORMALISE_OPTIONS);
}

fn normalised(c: &Context, image: &Image, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, NORMALISE_OPTIONS)?;
    if options.text("policy").is_empty() {
        return hand.raise(Fault::error("normalise needs a policy"));
    }
    let length = options.number("length").and_then(|length| usize::try_from(length).ok());
    let policy = options.one("policy");
    if policy == "pad-zeros" && !length.is_some_and(|length| (1..=64).contains(&length)) {
        return hand.raise(Fault::error("pad-zeros needs a length of 1 to 64"));
    }
    let old = hand.single("PatientID")?;
    let is_number = !old.is_empty() && old.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.unwrap_or_default();
    let new = match policy {
        "strip-zeros" if is_number => match old.trim_start_matches('0') {
            "" => "0".to_owned(),
            rest => rest.to_owned(),
        },
        "pad-zeros" if is_number => format!("{old:0>length$}"),
        "strip-separators" => old.replace(SEPARATORS, ""),
        "upper" => super::text::upper(&old),
        "lower" => super::text::lower(&old),
        _ => old.clone(),
    };
    if new.is_empty() {
        return Ok(());
    }
    if policy == "trim" {
        // What is read has no blanks any more, so writing it would be no edit.
        return hand.set_bare("PatientID", vec![new]);
    }
    if new == old {
        return Ok(());
    }
    hand.set_text("PatientID", new)
}

fn check(book: &mut Book) {
    book.add(
        Word {
            namespace: "identity",
            name: "check",
            parameters: "image, options",
            does: "Verifies the check digit at the end of Patient ID by a named scheme: HL7's `M10` and `M11` (also `mod10`, `mod11`), \
                `npi`, `nhs`, and those of ISO 7064.",
            limits: "Changes nothing. An empty Patient ID is none of its business. The prefix of the option is not part of the number.",
            errors: "Holds the instance when the digit is wrong, or flags it with `wrong: \"flag\"`. Fails without a scheme.",
            samples: &[
                Sample {
                    given: &[("PatientID", "NRT-79927398713")],
                    rule: r#"identity::check(image, #{ digit: "M10", prefix: "NRT-" });"#,
                    gives: Gives::Elements(&[("PatientID", "NRT-79927398713")]),
                },
                Sample {
                    given: &[("PatientID", "79927398714")],
                    rule: r#"identity::check(image, #{ digit: "M10" });"#,
                    gives: Gives::Hold(HoldKind::Rule),
                },
            ],
        },
        |c: Context, image: &mut Image, options: Map| checked(&c, image, &options),
    );
    book.options("identity", "check", CHECK_OPTIONS);
}

fn checked(c: &Context, image: &Image, given: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let options = Options::read(&hand, given, CHECK_OPTIONS)?;
    let Some(scheme) = Scheme::parse(&options.text("digit")) else {
        return hand.raise(Fault::error("check needs the scheme of the digit"));
    };
    let (id, prefix) = (hand.single("PatientID")?, options.text("prefix"));
    let number = id.strip_prefix(prefix.as_str()).unwrap_or(&id);
    if !id.is_empty() && !scheme.is_valid(number) {
        match options.one("wrong") {
            "flag" => hand.flag("identity_check_digit"),
            _ => hand.hold("the check digit of the patient ID is wrong"),
        }
    }
    Ok(())
}
