//! Words for privacy: what identifies a person is taken out, emptied, replaced by a pseudonym, or all of it by the standard's
//! profile. A plan with one of them carries no record of what stood there before, and a word that cannot do all of its work
//! ends the evaluation: the image is held, and no `catch` lets it go.
use super::given::{Given, Table, Takes};
use super::uid::{self, good_root};
use super::{Book, Gives, Hand, Sample, Word};
use crate::dicom::path::{Path, Selector};
use crate::dicom::profile::{self, Act, Dates, Options, Refused, Step};
use crate::rules::HoldKind;
use crate::rules::api::{Image, note_name};
use crate::rules::fault::Fault;
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

pub(in crate::rules) const NESTED: Table = &[("nested", Takes::Switch)];

pub(in crate::rules) const SHIFT: Table = &[("by", Takes::Word(BY)), ("days", Takes::Days(DAYS_MAX))];

pub(in crate::rules) const PROFILE: Table = &[
    ("dates", Takes::Word(&["remove", "full", "modified"])),
    ("by", Takes::Word(BY)),
    ("days", Takes::Days(DAYS_MAX)),
    ("retain_uids", Takes::Switch),
    ("retain_device", Takes::Switch),
    ("retain_institution", Takes::Switch),
    ("retain_patient", Takes::Switch),
    ("safe_private", Takes::Texts(private_path)),
    ("clean_descriptors", Takes::Texts(|_| Ok(()))),
    ("clean_structured", Takes::Switch),
    ("clean_graphics", Takes::Switch),
    ("pixels", Takes::Word(&["hold", "keep"])),
    ("root", Takes::Text(good_root)),
];

const BY: &[&str] = &["patient", "study"];
/// Ten years. A year is the default: enough that no date is known, little enough that a scanner's software still fits its date.
const DAYS_MAX: u32 = 3_650;
const DAYS: (u32, u32) = (1, 365);

/// Where people or forms are photographed or scanned, the pixels may show a name although nothing says so.
const SHOWS_TEXT: [&str; 9] = ["US", "ES", "OT", "XC", "GM", "SM", "DOC", "ECG", "IVUS"];

pub(super) fn register(book: &mut Book) {
    single(book);
    dates(book);
    whole(book);
}

fn single(book: &mut Book) {
    book.add(
        Word {
            namespace: "privacy",
            name: "remove",
            parameters: "image, path, options",
            does: "Takes the element out; with `nested: true` wherever it stands, in items of sequences too.",
            limits: "Original Attributes Sequence goes with it, since it may hold the value, and no record of this change is made.",
            errors: "Holds the instance when the element lies behind the part of the data set that rules can change.",
            samples: &[
                Sample {
                    given: &[("PatientName", "DOE^JANE"), ("PatientID", "4711")],
                    rule: r#"privacy::remove(image, "PatientName");"#,
                    gives: Gives::Elements(&[("PatientName", "")]),
                },
                Sample {
                    given: &[("AccessionNumber", "77"), ("RequestAttributesSequence[0].AccessionNumber", "77")],
                    rule: r#"privacy::remove(image, "AccessionNumber", #{ nested: true });"#,
                    gives: Gives::Elements(&[
                        ("AccessionNumber", ""),
                        ("RequestAttributesSequence[0].AccessionNumber", ""),
                    ]),
                },
            ],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, options: Map| treat(&c, image, path, &options, What::Remove),
    );
    book.also(
        "privacy",
        "remove",
        |c: NativeCallContext, image: &mut Image, path: &str| treat(&c, image, path, &Map::new(), What::Remove),
    );
    book.add(
        Word {
            namespace: "privacy",
            name: "blank",
            parameters: "image, path, options",
            does: "Leaves the element there without a value, or the sequence without items, if it is there; with `nested: true` \
                   wherever it stands.",
            limits: "As `privacy::remove`. For elements that must be there but may be empty (type 2).",
            errors: "As `privacy::remove`.",
            samples: &[Sample {
                given: &[("PatientName", "DOE^JANE"), ("PatientID", "4711")],
                rule: r#"privacy::blank(image, "PatientName"); privacy::blank(image, "PatientBirthDate");"#,
                gives: Gives::Elements(&[("PatientName", ""), ("PatientBirthDate", "")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, options: Map| treat(&c, image, path, &options, What::Blank),
    );
    book.also(
        "privacy",
        "blank",
        |c: NativeCallContext, image: &mut Image, path: &str| treat(&c, image, path, &Map::new(), What::Blank),
    );
    book.add(
        Word {
            namespace: "privacy",
            name: "hash",
            parameters: "image, path, options",
            does: "Replaces every value by a pseudonym of 16 letters and digits made of it and the site's key: the same value \
                   gives the same pseudonym everywhere, and without the key nobody can tell which value it was. With \
                   `nested: true` wherever the element stands.",
            limits: "Texts and names only: UIDs have `uid::remap`, dates `privacy::shift_dates`. Blanks at the ends do not \
                     count, case does. A pseudonym stays as it is. As `privacy::remove`, no record of the value is made.",
            errors: "Needs `rules.key_file`; without it the rules are refused. Holds the instance when the element holds no text, and \
                     when a value cannot be read in its character set: two people could get one pseudonym.",
            samples: &[Sample {
                given: &[("PatientID", "4711"), ("PatientName", "DOE^JANE")],
                rule: r#"privacy::hash(image, "PatientID");"#,
                gives: Gives::Elements(&[("PatientID", "382YKWAAR20XFTT7")]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, path: &str, options: Map| treat(&c, image, path, &options, What::Hash),
    );
    book.also(
        "privacy",
        "hash",
        |c: NativeCallContext, image: &mut Image, path: &str| treat(&c, image, path, &Map::new(), What::Hash),
    );
}

fn dates(book: &mut Book) {
    book.add(
        Word {
            namespace: "privacy",
            name: "shift_dates",
            parameters: "image, options",
            does: "Moves every date (DA and DT, at every depth) the same number of days into the past. The number comes from the \
                   site's key and the Patient ID that a pseudonym is made of, so distances in time stay, and who has one pseudonym \
                   has one shift. Options: `by: \"patient\"` or `\"study\"`, \
                   `days: 1..365`. Says so in De-identification Method and Longitudinal Temporal Information Modified.",
            limits: "Times and offsets stay. An age above 89 is written as 090Y, and its birth date is emptied. A date that \
                     cannot be read is emptied. Dates inside of texts stay. What this key has shifted is not shifted again.",
            errors: "Needs `rules.key_file`. Holds the instance when it has no Patient ID (or Study Instance UID) to go by, one that \
                     cannot be read in its character set, or elements that cannot be seen.",
            samples: &[Sample {
                given: &[
                    ("StudyDate", "20240301"),
                    ("StudyTime", "101500"),
                    ("AcquisitionDateTime", "20240301101530.5+0100"),
                    ("PatientID", "4711"),
                    ("PatientBirthDate", "19700111"),
                ],
                rule: "privacy::shift_dates(image, #{ days: 10..10 });",
                gives: Gives::Elements(&[
                    ("StudyDate", "20240220"),
                    ("AcquisitionDateTime", "20240220101530.5+0100"),
                    ("PatientBirthDate", "19700101"),
                    ("LongitudinalTemporalInformationModified", "MODIFIED"),
                ]),
            }],
        },
        |c: NativeCallContext, image: &mut Image, options: Map| shift(&c, image, &options),
    );
    book.also("privacy", "shift_dates", |c: NativeCallContext, image: &mut Image| {
        shift(&c, image, &Map::new())
    });
}

fn whole(book: &mut Book) {
    book.add(
        Word {
            namespace: "privacy",
            name: "basic_profile",
            parameters: "image, options",
            does: "The Basic Application Level Confidentiality Profile of DICOM PS3.15 Annex E (Table E.1-1 of 2024b) at every \
                   depth, with its options: `dates: \"remove\"`, `\"full\"` or `\"modified\"` (with `by` and `days` of \
                   `privacy::shift_dates`), `retain_uids`, `retain_device`, `retain_institution`, `retain_patient`, \
                   `safe_private: [...]`, `clean_descriptors: [words that may stay]`, `clean_structured`, `clean_graphics`, \
                   and `root` for new UIDs. Sets Patient Identity Removed, the method and its codes.",
            limits: "The pixels are not looked at: there is no option to clean them. Private elements and elements that no \
                     dictionary knows go, overlays and curves too. Apply it in the `morph_for` of the route that must not \
                     see identity; words after it may write new values.",
            errors: "Needs `rules.key_file`. Holds the instance when Burned In Annotation or Recognizable Visual Features is \
                     YES (not with `pixels: \"keep\"`), for an encapsulated document, when Patient ID cannot be read in its \
                     character set, and when elements stand where they cannot be seen. Flags pixels-unjudged where pixels often show text and nothing says that they do not.",
            samples: &[
                Sample {
                    given: &[
                        ("SOPInstanceUID", "1.2.3"),
                        ("StudyDate", "20240301"),
                        ("Modality", "CT"),
                        ("InstitutionName", "St. Mary"),
                        ("PatientName", "DOE^JANE"),
                        ("PatientID", "4711"),
                        ("PatientSex", "F"),
                        ("SliceThickness", "1.25"),
                    ],
                    rule: "privacy::basic_profile(image, #{ retain_patient: true });",
                    gives: Gives::Elements(&[
                        ("SOPInstanceUID", "2.25.337894979963845264765242468778886287587"),
                        ("StudyDate", ""),
                        ("InstitutionName", "REMOVED"),
                        ("PatientName", ""),
                        ("PatientID", "382YKWAAR20XFTT7"),
                        ("PatientIdentityRemoved", "YES"),
                        ("DeidentificationMethodCodeSequence[0].CodeValue", "113100"),
                        ("DeidentificationMethodCodeSequence[1].CodeValue", "113108"),
                        ("LongitudinalTemporalInformationModified", "REMOVED"),
                    ]),
                },
                Sample {
                    given: &[("PatientID", "4711"), ("BurnedInAnnotation", "YES")],
                    rule: "privacy::basic_profile(image);",
                    gives: Gives::Hold(HoldKind::Rule),
                },
            ],
        },
        |c: NativeCallContext, image: &mut Image, options: Map| basic(&c, image, &options),
    );
    book.also("privacy", "basic_profile", |c: NativeCallContext, image: &mut Image| {
        basic(&c, image, &Map::new())
    });
}

/// What a word does to one element.
#[derive(Clone, Copy)]
enum What {
    Remove,
    Blank,
    Hash,
}

fn treat(c: &NativeCallContext, image: &Image, path: &str, options: &Map, what: What) -> Raised<()> {
    let hand = Hand::new(c, image);
    let given = hand.must(Given::read(options, NESTED))?;
    let evaluation = hand.evaluation();
    let path = hand.must(evaluation.path(path))?;
    let nested = given.switch("nested");
    if nested && !stands_alone(&path) {
        return hand.must(Err(Fault::error(ALONE)));
    }
    let head = hand.must(evaluation.seen())?;
    let steps = match what {
        What::Remove => profile::treat(&head, &path, nested, Act::Remove),
        What::Blank => profile::treat(&head, &path, nested, Act::Empty),
        What::Hash => profile::treat(&head, &path, nested, Act::Pseudonym(&hand.must(uid::key(&hand))?)),
    };
    let steps = hand.must(steps.map_err(refused))?;
    let texts_only = "privacy::hash replaces texts and names; UIDs have uid::remap, dates privacy::shift_dates";
    let mut steps = hand.must(steps.ok_or_else(|| Fault::edit(texts_only)))?;
    let history = hand.must(evaluation.path("OriginalAttributesSequence"))?;
    let of_history = hand.must(profile::treat(&head, &history, false, Act::Remove).map_err(refused))?;
    steps.extend(of_history.unwrap_or_default());
    take(&hand, steps)
}

/// Whether a path names an element by its tag alone, as `nested` wants it.
fn stands_alone(path: &Path) -> bool {
    path.items.is_empty() && matches!(path.leaf, Selector::Tag(_))
}

/// What is wrong with a path that stands beside `nested`.
pub(super) fn nested_path(text: &str) -> Result<(), String> {
    match Path::parse(text) {
        Ok(path) if !stands_alone(&path) => Err(ALONE.to_owned()),
        Ok(_) | Err(_) => Ok(()),
    }
}

const ALONE: &str = "with `nested`, name the element alone and by its keyword or tag: it is found in every sequence";

fn shift(c: &NativeCallContext, image: &Image, options: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let given = hand.must(Given::read(options, SHIFT))?;
    let key = hand.must(uid::key(&hand))?;
    let days = days(&hand, &given)?;
    let head = hand.must(hand.evaluation().seen())?;
    let mut steps = hand.must(profile::shift(&head, &key, days).map_err(refused))?;
    let history = hand.must(hand.evaluation().path("OriginalAttributesSequence"))?;
    let of_history = hand.must(profile::treat(&head, &history, false, Act::Remove).map_err(refused))?;
    steps.retain(|step| step.edit.path().items.first().is_none_or(|(on, _)| *on != history.leaf));
    steps.extend(of_history.unwrap_or_default());
    take(&hand, steps)
}

fn basic(c: &NativeCallContext, image: &Image, options: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let given = hand.must(Given::read(options, PROFILE))?;
    let key = hand.must(uid::key(&hand))?;
    let chosen = profile_options(&hand, &given)?;
    pixels(&hand, given.text("pixels").as_deref() == Some("keep"))?;
    let evaluation = hand.evaluation();
    evaluation.state().changes.forget_private();
    let head = hand.must(evaluation.seen())?;
    let steps = profile::deidentify(&head, &evaluation.known.profile, &key, &chosen);
    let mut steps = hand.must(steps.map_err(refused))?;
    if !chosen.retain_uids {
        steps.extend(profile::named(&head, uid::own(&hand), &key, chosen.root.as_deref()));
    }
    uid::aliases(&hand, &steps)?;
    take(&hand, steps)
}

/// Takes the steps over; from now on nothing tells what stood there before.
fn take(hand: &Hand, steps: Vec<Step>) -> Raised<()> {
    hand.note(|| format!("changed {} elements", steps.len()));
    let done = hand.evaluation().absorb(steps);
    hand.must(done)?;
    note_name(hand.context(), hand.evaluation());
    hand.evaluation().make_anonymous();
    Ok(())
}

fn refused(refused: Refused) -> Fault {
    Fault::edit(refused.to_string())
}

/// The image that says itself that its pixels tell who it is waits for a person.
fn pixels(hand: &Hand, keep: bool) -> Raised<()> {
    let said = |text: &str| text.eq_ignore_ascii_case("YES");
    let burned = hand.text("BurnedInAnnotation")?;
    if said(&burned) && !keep {
        hand.hold("the pixels show text (Burned In Annotation): clean or check them");
    } else if said(&hand.text("RecognizableVisualFeatures")?) && !keep {
        hand.hold("the pixels show the patient (Recognizable Visual Features): clean or check them");
    } else if burned.is_empty() && !keep && SHOWS_TEXT.contains(&hand.text("Modality")?.as_str()) {
        hand.flag("pixels-unjudged");
    }
    Ok(())
}

fn profile_options(hand: &Hand, given: &Given) -> Raised<Options> {
    let dates = match given.text("dates").as_deref() {
        Some("full") => Dates::Full,
        Some("modified") => Dates::Earlier(days(hand, given)?),
        Some(_) | None => Dates::Removed,
    };
    let private = |text: &String| match Path::parse(text).map(|path| path.leaf) {
        Ok(Selector::Private {
            group,
            creator,
            element,
        }) => Some((group, creator, element)),
        Ok(Selector::Tag(_)) | Err(_) => None,
    };
    let words = || {
        given
            .texts("clean_descriptors")
            .iter()
            .map(|word| word.to_lowercase())
            .collect()
    };
    Ok(Options {
        dates,
        retain_uids: given.switch("retain_uids"),
        retain_device: given.switch("retain_device"),
        retain_institution: given.switch("retain_institution"),
        retain_patient: given.switch("retain_patient"),
        safe_private: given.texts("safe_private").iter().filter_map(private).collect(),
        words: given.has("clean_descriptors").then(words),
        clean_structured: given.switch("clean_structured"),
        clean_graphics: given.switch("clean_graphics"),
        root: given.text("root"),
    })
}

/// The number of days for this patient or study: by what his pseudonym, or that of the study, is or would be made of, so that who has
/// one pseudonym has one shift, whatever other words ran before. The issuer is in neither.
fn days(hand: &Hand, given: &Given) -> Raised<u32> {
    let key = hand.must(uid::key(hand))?;
    let (least, most) = given.days("days").unwrap_or(DAYS);
    let evaluation = hand.evaluation();
    let whose = if given.text("by").as_deref() == Some("study") {
        let path = hand.must(evaluation.path("StudyInstanceUID"))?;
        let whose = hand.must(evaluation.named_by(&path, |uid, new| {
            key.uid(uid, None) == new || key.uid(uid, new.rsplit_once('.').map(|(root, _)| root)) == new
        }))?;
        format!("{whose}\n")
    } else {
        let path = hand.must(evaluation.path("PatientID"))?;
        let text = |id: &str| id.split('\\').map(|one| key.text(one)).collect::<Vec<_>>().join("\\");
        let whose = hand.must(evaluation.named_by(&path, |id, new| text(id) == new))?;
        // The second line was the issuer's.
        format!("{whose}\n\n")
    };
    if whose.starts_with('\n') {
        return hand.must(Err(Fault::edit(
            "there is no Patient ID or Study Instance UID by which to shift dates",
        )));
    }
    if whose.contains('\u{FFFD}') {
        return hand.must(Err(refused(Refused::Undecodable)));
    }
    Ok(key.days(&whose, least, most))
}

/// Whether a text names a private element by its creator.
fn private_path(text: &str) -> Result<(), String> {
    match Path::parse(text) {
        Ok(path) if path.items.is_empty() && matches!(path.leaf, Selector::Private { .. }) => Ok(()),
        Ok(_) => Err(format!("`{text}` is no private element: write (gggg,\"CREATOR\",ee)")),
        Err(error) => Err(error.to_string()),
    }
}
