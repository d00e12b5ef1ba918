//! Words for character sets: what text is really in, and in what it leaves. The findings are `dicom::edit::Survey`'s; here
//! stands what a rule may ask for, and what happens when it cannot be done: the image stays as it is and is flagged, or is held.
use super::{Book, Gives, Hand, Sample, Word};
use crate::dicom::edit::{Advice, EditError, Survey};
use crate::dicom::head::read::SPECIFIC_CHARACTER_SET;
use crate::dicom::path::Path;
use crate::dicom::text::Charset;
use crate::rules::HoldKind;
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use crate::rules::lint::unknown;
use crate::rules::state::Evaluation;
use rhai::{Dynamic, EvalAltResult, Map, NativeCallContext};
use std::sync::Arc;

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// Some text is in no set that was tried; the image stays as it came.
const UNDECIDABLE: &str = "charset_undecidable";
/// UTF-8 was found where something else is declared. Right but for one text in many thousands.
const UTF8: &str = "charset_utf8_undeclared";
/// The fallback set of the source decided.
const FALLBACK: &str = "charset_by_fallback";
/// The set that was asked for cannot say all of the text; the image is in UTF-8.
const LEFT_IN_UTF8: &str = "charset_left_in_utf8";

const REPAIR_OPTIONS: &[&str] = &["fallback", "undecidable"];
const CONVERT_OPTIONS: &[&str] = &["fallback", "undecidable", "unencodable"];
const DECLARE_OPTIONS: &[&str] = &["instead_of", "undecidable"];
const OF_OPTIONS: &[&str] = &["fallback"];

pub(super) fn register(book: &mut Book) {
    book.add(REPAIR, |c: Context, image: &mut Image| {
        repair(&Hand::new(&c, image), &Map::new())
    });
    book.also("charset", "repair", |c: Context, image: &mut Image, options: Map| {
        repair(&Hand::new(&c, image), &options)
    });
    book.add(TO_UTF8, |c: Context, image: &mut Image| {
        convert(&Hand::new(&c, image), "ISO_IR 192", &Map::new())
    });
    book.also("charset", "to_utf8", |c: Context, image: &mut Image, options: Map| {
        convert(&Hand::new(&c, image), "ISO_IR 192", &options)
    });
    book.add(CONVERT, |c: Context, image: &mut Image, set: &str| {
        convert(&Hand::new(&c, image), set, &Map::new())
    });
    book.also(
        "charset",
        "convert",
        |c: Context, image: &mut Image, set: &str, options: Map| convert(&Hand::new(&c, image), set, &options),
    );
    book.add(DECLARE, |c: Context, image: &mut Image, set: &str| {
        declare(&Hand::new(&c, image), set, &Map::new())
    });
    book.also(
        "charset",
        "declare",
        |c: Context, image: &mut Image, set: &str, options: Map| declare(&Hand::new(&c, image), set, &options),
    );
    book.add(OF, |c: Context, image: &mut Image| {
        of(&Hand::new(&c, image), &Map::new())
    });
    book.also("charset", "of", |c: Context, image: &mut Image, options: Map| {
        of(&Hand::new(&c, image), &options)
    });
}

const REPAIR: Word = Word {
    namespace: "charset",
    name: "repair",
    parameters: "image, #{ fallback: set, undecidable: \"hold\" }",
    does: "Makes Specific Character Set (0008,0005) true: finds out what the text is really in and declares that, in the words of \
           the standard. The bytes of the text stay, but where no one set is right for all of it, or where they lack escape \
           sequences: then they are written anew.",
    limits: "Plain ASCII is left alone. Text of a set that reads every byte, such as Shift-JIS under ISO_IR 100, is not \
             recognised: see `charset::declare`. With no fallback, text that neither UTF-8 nor the declared set reads stays as it \
             came, with the whole image, and the image is flagged. Text of unknown VR and text behind the pixels is not looked at.",
    errors: "`undecidable: \"hold\"` holds the image instead of flagging it. An unknown option or set is an error.",
    samples: &[
        Sample {
            given: &[
                ("SpecificCharacterSet", "ISO_IR 100"),
                ("PatientName", "MuÃ±oz^Ana"),
                ("PatientID", "7"),
            ],
            rule: "charset::repair(image);",
            gives: Gives::Elements(&[("SpecificCharacterSet", "ISO_IR 192"), ("PatientName", "Muñoz^Ana")]),
        },
        Sample {
            given: &[("SpecificCharacterSet", "ISO IR 100"), ("PatientName", "DOE^JANE")],
            rule: "charset::repair(image, #{ fallback: \"ISO_IR 100\" });",
            gives: Gives::Elements(&[("SpecificCharacterSet", "ISO_IR 100")]),
        },
    ],
};

const TO_UTF8: Word = Word {
    namespace: "charset",
    name: "to_utf8",
    parameters: "image, #{ fallback: set, undecidable: \"hold\" }",
    does: "Writes all text in UTF-8 and declares ISO_IR 192, whatever it was really in: as `charset::repair` finds it. Items lose \
           the declarations of their own.",
    limits: "An image of plain ASCII that declares nothing stays as it is. Former values (Original Attributes) that declare their own \
             set keep it. Otherwise as `charset::repair`.",
    errors: "Holds an image whose head is longer than rules can read. Otherwise as `charset::repair`.",
    samples: &[Sample {
        given: &[("SpecificCharacterSet", "ISO_IR 144"), ("PatientName", "Люксембург")],
        rule: "charset::to_utf8(image);",
        gives: Gives::Elements(&[("SpecificCharacterSet", "ISO_IR 192"), ("PatientName", "Люксембург")]),
    }],
};

const CONVERT: Word = Word {
    namespace: "charset",
    name: "convert",
    parameters: "image, set, #{ fallback: set, undecidable: \"hold\", unencodable: \"utf8\" }",
    does: "Writes all text in the set that a destination understands, and declares it: `\"ISO_IR 100\"`, \
           `\"\\\\ISO 2022 IR 87\"`. Belongs into `morph_for_DEST`.",
    limits: "As `charset::to_utf8`. Nothing is replaced by a question mark or by a letter that looks like it.",
    errors: "Text that the set cannot say holds the image; with `unencodable: \"utf8\"` the image leaves in UTF-8 and is flagged.",
    samples: &[
        Sample {
            given: &[("SpecificCharacterSet", "ISO_IR 192"), ("PatientName", "Muñoz^Ana")],
            rule: "charset::convert(image, \"ISO_IR 100\");",
            gives: Gives::Elements(&[("SpecificCharacterSet", "ISO_IR 100"), ("PatientName", "Muñoz^Ana")]),
        },
        Sample {
            given: &[("SpecificCharacterSet", "ISO_IR 192"), ("PatientName", "山田^太郎")],
            rule: "charset::convert(image, \"ISO_IR 100\");",
            gives: Gives::Hold(HoldKind::Edit),
        },
    ],
};

const DECLARE: Word = Word {
    namespace: "charset",
    name: "declare",
    parameters: "image, set, #{ instead_of: set, undecidable: \"hold\" }",
    does: "Says what the text is in, for a device that is known to write one set and to declare another. A set that DICOM has a term for \
           is declared and the bytes stay; text in SHIFT_JIS, BIG5, EUC-JP, KOI8-R or a set of Windows is written in UTF-8. With \
           `instead_of`, only where the image declares that set.",
    limits: "What truly is UTF-8 and says so is left alone. Text that the set does not read stays as it came, with the whole image, and \
             the image is flagged.",
    errors: "`undecidable: \"hold\"` holds the image instead of flagging it. An unknown option or set is an error.",
    samples: &[Sample {
        given: &[("SpecificCharacterSet", "ISO_IR 100"), ("PatientName", "Íõ^Ð¡¶«")],
        rule: "charset::declare(image, \"GBK\", #{ instead_of: \"ISO_IR 100\" });",
        gives: Gives::Elements(&[("SpecificCharacterSet", "GBK"), ("PatientName", "王^小东")]),
    }],
};

const OF: Word = Word {
    namespace: "charset",
    name: "of",
    parameters: "image, #{ fallback: set }",
    does: "Answers what the text is really in: the terms of DICOM with `\\` between them, `\"ascii\"`, `\"mixed\"` for several sets, \
           `\"other\"` for one without a term, or `\"unknown\"`.",
    limits: "Changes nothing. Asks what came: what lines before wrote does not count. Items that declare a set of their own are not asked.",
    errors: "An unknown option or set is an error.",
    samples: &[Sample {
        given: &[("SpecificCharacterSet", "ISO_IR 100"), ("PatientName", "MuÃ±oz")],
        rule: "if charset::of(image) == \"ISO_IR 192\" { image.PatientComments = \"UTF-8\"; }",
        gives: Gives::Elements(&[("PatientComments", "UTF-8")]),
    }],
};

/// The options of a word of this namespace.
pub(super) fn options_of(word: &str) -> &'static [&'static str] {
    match word {
        "repair" => REPAIR_OPTIONS,
        "to_utf8" | "convert" => CONVERT_OPTIONS,
        "declare" => DECLARE_OPTIONS,
        "of" => OF_OPTIONS,
        _ => &[],
    }
}

/// What the options of a word say.
#[derive(Default)]
struct Options {
    fallback: Option<Charset>,
    holds_undecidable: bool,
    leaves_in_utf8: bool,
    instead_of: Option<Charset>,
}

fn options(evaluation: &Evaluation, map: &Map, known: &[&str]) -> Result<Options, Fault> {
    let configured = evaluation.known.charsets.get(&evaluation.facts.source);
    let mut options = Options {
        fallback: configured.and_then(|name| Charset::named(name)),
        ..Options::default()
    };
    for (key, value) in map {
        if !known.contains(&key.as_str()) {
            return Err(Fault::error(unknown("option of charset::", key, known.iter().copied())));
        }
        let said = value.clone().into_string().unwrap_or_default();
        match (key.as_str(), said.as_str()) {
            ("fallback", _) => options.fallback = fallback(evaluation, value)?.or(options.fallback.take()),
            ("instead_of", _) => options.instead_of = Some(named(evaluation, &said)?),
            ("undecidable", "hold") => options.holds_undecidable = true,
            ("undecidable", "flag") => {}
            ("undecidable", _) => return Err(Fault::error("undecidable is \"flag\" (as without it) or \"hold\"")),
            ("unencodable", "utf8") => options.leaves_in_utf8 = true,
            ("unencodable", "hold") => {}
            (_, _) => return Err(Fault::error("unencodable is \"hold\" (as without it) or \"utf8\"")),
        }
    }
    Ok(options)
}

/// A set, or a map of sets by source in which this source may be missing.
fn fallback(evaluation: &Evaluation, value: &Dynamic) -> Result<Option<Charset>, Fault> {
    if let Ok(name) = value.as_immutable_string_ref() {
        return named(evaluation, &name).map(Some);
    }
    let Ok(sets) = value.as_map_ref() else {
        return Err(Fault::error(
            "fallback is a character set, or a map of character sets by source",
        ));
    };
    let mut own = None;
    for (source, set) in sets.iter() {
        let name = set.clone().into_string().unwrap_or_default();
        let set = named(evaluation, &name)?;
        if source.as_str() == evaluation.facts.source.as_str() {
            own = Some(set);
        }
    }
    Ok(own)
}

fn named(evaluation: &Evaluation, name: &str) -> Result<Charset, Fault> {
    Charset::named(name).ok_or_else(|| {
        // A computed name may hold a value of the data set.
        if evaluation.known.literals.contains(name) {
            Fault::error(unknown("character set", name, Charset::NAMES))
        } else {
            Fault::error("unknown character set")
        }
    })
}

/// What the text is in; `None` when some of it is in no known set, which is flagged or held here.
fn surveyed(hand: &Hand, advice: &Advice, options: &Options) -> Option<Arc<Survey>> {
    let survey = hand.evaluation().survey(advice);
    if survey.undecidable {
        if options.holds_undecidable {
            hand.incomplete("some text is in no character set that was tried");
        }
        hand.flag(UNDECIDABLE);
        return None;
    }
    if survey.undeclared_utf8 {
        hand.flag(UTF8);
    }
    if survey.by_fallback {
        hand.flag(FALLBACK);
    }
    Some(survey)
}

fn advice(options: &Options) -> Advice {
    Advice {
        fallback: options.fallback.clone(),
        certain: None,
    }
}

fn has_reading(hand: &Hand) -> bool {
    hand.evaluation().state().changes.reading.is_some()
}

fn repair(hand: &Hand, map: &Map) -> Raised<()> {
    let evaluation = hand.evaluation();
    let options = hand.placed(options(evaluation, map, REPAIR_OPTIONS))?;
    hand.placed(evaluation.may_change())?;
    // What another word has declared is true already.
    if has_reading(hand) {
        return Ok(());
    }
    match surveyed(hand, &advice(&options), &options) {
        Some(survey) => mend(hand, survey),
        None => Ok(()),
    }
}

/// Declares what `survey` found.
fn mend(hand: &Hand, survey: Arc<Survey>) -> Raised<()> {
    let declarations = survey.mended(&hand.evaluation().head);
    let inner = Survey::inner(&declarations);
    hand.note(|| {
        format!(
            "text is in {:?}, {} declarations change",
            said(&survey),
            declarations.len()
        )
    });
    if declarations.is_empty() && survey.is_plain() {
        // Every set reads it alike: nothing is to be written anew.
        return Ok(());
    }
    hand.placed(hand.evaluation().read_by(survey, &declarations, inner, None))
}

fn convert(hand: &Hand, set: &str, map: &Map) -> Raised<()> {
    let evaluation = hand.evaluation();
    let options = hand.placed(options(evaluation, map, CONVERT_OPTIONS))?;
    let wanted = hand.placed(named(evaluation, set))?;
    hand.placed(evaluation.may_change())?;
    if wanted.terms().is_none() {
        return hand.raise(Fault::error(
            "DICOM has no term for this character set: nothing can be sent in it",
        ));
    }
    let Some(survey) = surveyed(hand, &advice(&options), &options) else {
        return Ok(());
    };
    let fits = survey.fits_all(&evaluation.head, &wanted) && evaluation.state().changes.fit(&wanted);
    let wanted = match (fits, options.leaves_in_utf8) {
        (true, _) => wanted,
        (false, true) => {
            hand.flag(LEFT_IN_UTF8);
            Charset::utf8()
        }
        (false, false) => return hand.raise(Fault::edit(EditError::Uncarried.to_string())),
    };
    let terms = wanted.terms().unwrap_or_default();
    hand.note(|| format!("text was in {:?}, declares {terms:?}", said(&survey)));
    let before = hand.values("SpecificCharacterSet")?.unwrap_or_default();
    let inner = survey.without_inner();
    // Every set says plain ASCII, and an image that declares nothing is understood by everybody.
    let is_plain =
        survey.root_sets().is_empty() && inner.is_empty() && evaluation.state().changes.fit(&Charset::default());
    let (declarations, wish) = match wanted.is_said_by(&before) {
        true => (Vec::new(), None),
        false if is_plain && Charset::default().is_said_by(&before) => (Vec::new(), Some(terms)),
        false => (vec![(Path::tag(SPECIFIC_CHARACTER_SET), terms)], None),
    };
    hand.placed(evaluation.read_by(survey, &declarations, inner, wish))
}

fn declare(hand: &Hand, set: &str, map: &Map) -> Raised<()> {
    let evaluation = hand.evaluation();
    let options = hand.placed(options(evaluation, map, DECLARE_OPTIONS))?;
    let set = hand.placed(named(evaluation, set))?;
    hand.placed(evaluation.may_change())?;
    let before = hand.values("SpecificCharacterSet")?.unwrap_or_default();
    let is_other = |other: &Charset| Charset::of(&before).terms() != other.terms();
    let is_true_utf8 = Survey::of(&evaluation.head, &Advice::default()).is_true_utf8();
    if has_reading(hand) || is_true_utf8 || options.instead_of.as_ref().is_some_and(is_other) {
        return Ok(());
    }
    let certain = Advice {
        fallback: None,
        certain: Some(set.clone()),
    };
    let Some(survey) = surveyed(hand, &certain, &options) else {
        return Ok(());
    };
    let is_ascii = survey.root_sets().is_empty();
    mend(hand, survey)?;
    match set.terms() {
        Some(terms) if is_ascii && !set.is_said_by(&before) => hand.placed(evaluation.declare(&terms)),
        _ => Ok(()),
    }
}

fn of(hand: &Hand, map: &Map) -> Raised<String> {
    let options = hand.placed(options(hand.evaluation(), map, OF_OPTIONS))?;
    let said = said(&hand.evaluation().survey(&advice(&options)));
    hand.note(|| format!("text is in {said:?}"));
    Ok(said)
}

fn said(survey: &Survey) -> String {
    match survey.root_sets()[..] {
        _ if survey.undecidable => "unknown".to_owned(),
        [] => "ascii".to_owned(),
        [one] => one.terms().map_or("other".to_owned(), |terms| terms.join("\\")),
        _ => "mixed".to_owned(),
    }
}
