//! Words about the study that an instance belongs to: what came first, whether it is still the same patient and accession.
//! They compare values as they arrived, so that a rule which changes them first does not hide a mix-up.
use super::given::{Given, Table, Takes};
use super::{Book, Gives, Hand, Sample, Word};
use crate::rules::api::{Image, evaluation};
use crate::rules::context::{REMEMBERED, is_same, own, readable};
use crate::rules::fault::Fault;
use crate::rules::lint::unknown;
use rhai::{EvalAltResult, ImmutableString, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

/// What may be done about another patient or accession in one study.
pub(in crate::rules) const OTHERWISE: Table = &[("otherwise", Takes::Word(&["hold", "flag", "nothing"]))];

/// What a comparison looks at, and what it says of a difference.
struct Question {
    /// Values that differ when both are there.
    elements: [&'static str; 2],
    reason: &'static str,
    flag: &'static str,
}

const PATIENT: Question = Question {
    elements: ["PatientID", "IssuerOfPatientID"],
    reason: "another patient than the first of its study",
    flag: "second-patient",
};

const ACCESSION: Question = Question {
    elements: [
        "AccessionNumber",
        "IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID",
    ],
    reason: "another accession number than the first of its study",
    flag: "second-accession",
};

pub(super) fn register(book: &mut Book) {
    let same_patient = Word {
        namespace: "study",
        name: "same_patient",
        parameters: "image[, #{ otherwise: \"hold\" | \"flag\" | \"nothing\" }]",
        does: "Answers whether the instance has the patient of the first instance of its study: PatientID, and IssuerOfPatientID. \
               When not, the instance is held, or with `otherwise` only flagged (`second-patient`), or neither.",
        limits: "Compares what arrived, not what rules wrote; case and leading zeros count, blanks at the ends do not. What cannot be \
                 read in the declared character set is compared by its bytes. An empty or \
                 missing value says nothing: many modalities send no issuer. A study is forgotten `spool.study_memory` after its last \
                 instance. It never changes the image.",
        errors: "An `otherwise` that is none of the three.",
        samples: &[Sample {
            given: &[("PatientID", "123"), ("StudyInstanceUID", "1.2.9")],
            rule: r#"if study::same_patient(image, #{ otherwise: "flag" }) { to("vna") }"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    book.add(same_patient, |c: NativeCallContext, image: &mut Image, options: Map| {
        compare(&c, image, &PATIENT, &options)
    });
    book.also("study", "same_patient", |c: NativeCallContext, image: &mut Image| {
        compare(&c, image, &PATIENT, &Map::new())
    });
    let same_accession = Word {
        namespace: "study",
        name: "same_accession",
        parameters: "image[, #{ otherwise: \"hold\" | \"flag\" | \"nothing\" }]",
        does: "Answers whether the instance has the accession number of the first instance of its study that had one, and its \
               issuer. When not, the instance is held, or with `otherwise` only flagged (`second-accession`), or neither.",
        limits: "As `study::same_patient`. Several accessions in one study are usual at some sites (one for each procedure): use \
                 `flag` first and look at the counter.",
        errors: "An `otherwise` that is none of the three.",
        samples: &[Sample {
            given: &[("AccessionNumber", "77"), ("StudyInstanceUID", "1.2.9")],
            rule: r#"to("vna"); study::same_accession(image);"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    book.add(
        same_accession,
        |c: NativeCallContext, image: &mut Image, options: Map| compare(&c, image, &ACCESSION, &options),
    );
    book.also("study", "same_accession", |c: NativeCallContext, image: &mut Image| {
        compare(&c, image, &ACCESSION, &Map::new())
    });
    values(book);
}

fn values(book: &mut Book) {
    let first = Word {
        namespace: "study",
        name: "first",
        parameters: "image, keyword",
        does: "Answers the first value of an element that came in this study, as it arrived; this instance's own when it is the first \
               to have one, and `\"\"` when nobody had one.",
        limits: "Of PatientID, IssuerOfPatientID, AccessionNumber, PatientName, PatientBirthDate, StudyID, StudyDate and \
                 IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID.",
        errors: "Another element is an error, found when the rules are loaded.",
        samples: &[Sample {
            given: &[("AccessionNumber", "77")],
            rule: r#"if study::first(image, "AccessionNumber") == "77" { to("cad") }"#,
            gives: Gives::Deliveries(&[("cad", "routine")]),
        }],
    };
    book.add(first, |c: NativeCallContext, image: &mut Image, name: &str| {
        first_value(&c, image, name)
    });
    let size = "Instances that arrive at the same moment over several associations may not have counted each other: a size, not a serial \
                number. A SOP instance that is sent again does not count.";
    let instances = Word {
        namespace: "study",
        name: "instances",
        parameters: "",
        does: "Answers how many instances of the study had come before this one.",
        limits: size,
        errors: "Never fails.",
        samples: &[Sample {
            given: &[("StudyInstanceUID", "1.2.9")],
            rule: r#"if study::instances() < 2000 { to("vna") } else { to("night-archive") }"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    book.add(instances, |c: NativeCallContext| {
        seen(&c, |study| i64::try_from(study.instances).unwrap_or(i64::MAX))
    });
    let bytes = Word {
        namespace: "study",
        name: "bytes",
        parameters: "",
        does: "Answers how many bytes of the study had come before this instance.",
        limits: size,
        errors: "Never fails.",
        samples: &[Sample {
            given: &[("StudyInstanceUID", "1.2.9")],
            rule: r#"if study::bytes() < 1000000000 { to("vna") }"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    book.add(bytes, |c: NativeCallContext| {
        seen(&c, |study| i64::try_from(study.bytes).unwrap_or(i64::MAX))
    });
}

fn seen(c: &NativeCallContext, of: impl Fn(&crate::rules::StudySeen) -> i64) -> Raised<i64> {
    Ok(evaluation(c)?.facts.study.as_ref().map_or(0, of))
}

fn first_value(c: &NativeCallContext, image: &Image, name: &str) -> Raised<ImmutableString> {
    let hand = Hand::new(c, image);
    if !REMEMBERED.contains(&name) {
        return hand.raise(Fault::error("study::first does not remember this element"));
    }
    let evaluation = hand.evaluation();
    evaluation.state().by_study = true;
    let study = evaluation.facts.study.as_ref();
    let earlier = study.and_then(|study| study.value(name)).map(str::to_owned);
    let value = earlier.or_else(|| own(&evaluation.head, name)).unwrap_or_default();
    let value = readable(&value).to_owned();
    hand.note(|| format!("first {name} of the study = {value:?}"));
    Ok(value.into())
}

fn compare(c: &NativeCallContext, image: &Image, question: &Question, options: &Map) -> Raised<bool> {
    let hand = Hand::new(c, image);
    let otherwise = hand.placed(Given::read(options, OTHERWISE))?.text("otherwise");
    let evaluation = hand.evaluation();
    evaluation.state().by_study = true;
    let differs = |name: &&str| {
        let earlier = evaluation.facts.study.as_ref().and_then(|study| study.value(name));
        let own = own(&evaluation.head, name);
        matches!((earlier, own), (Some(earlier), Some(own)) if !is_same(earlier, &own))
    };
    let same = !question.elements.iter().any(differs);
    hand.note(|| format!("same as the first of the study: {same}"));
    match otherwise.as_deref() {
        None | Some("hold") if !same => hand.hold(question.reason),
        Some("flag") if !same => hand.flag(question.flag),
        _ => {}
    }
    Ok(same)
}

pub(super) fn wrong_literal(word: &str, text: &str) -> Option<String> {
    let wrong = word == "first" && !REMEMBERED.contains(&text);
    wrong.then(|| unknown("element of study::first", text, REMEMBERED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::phi::Phi;
    use crate::rules::tests::{facts, set};
    use crate::rules::words_tests::head_of;
    use crate::rules::{Decision, HoldKind, StudySeen};

    /// Decides on an instance with these values, in a study whose first values were those.
    fn decide(rule: &str, earlier: &[(&str, &str)], now: &[(&str, &str)]) -> Decision {
        let mut values = vec![Phi::default(); REMEMBERED.len()];
        for (name, value) in earlier {
            let at = REMEMBERED.iter().position(|known| known == name).unwrap();
            values[at] = Phi::new((*value).to_owned());
        }
        let mut facts = facts();
        facts.study = Some(StudySeen {
            values,
            instances: 3,
            bytes: 4_000,
            ..StudySeen::default()
        });
        let text = format!("fn route(image, from) {{ to(\"vna\"); {rule} }}");
        set(&text).unwrap().decide(&facts, &head_of(now))
    }

    fn held(decision: &Decision) -> Option<&str> {
        let hold = decision.hold.as_ref()?;
        assert_eq!(hold.kind, HoldKind::Rule);
        Some(hold.reason.as_str())
    }

    #[test]
    fn another_patient_or_accession_is_held_or_flagged_and_an_empty_value_says_nothing() {
        let patient = "study::same_patient(image);";
        let north = [("PatientID", "123"), ("IssuerOfPatientID", "NORTH")];
        for (now, same) in [
            (&[("PatientID", "123")][..], true),
            (&[("PatientID", " 123 ")], true),
            (&[("PatientID", "0123")], false),
            (&[("PatientID", "124")], false),
            (&[("PatientID", "")], true),
            (&[], true),
            (&[("PatientID", "123"), ("IssuerOfPatientID", "SOUTH")], false),
        ] {
            let decision = decide(patient, &north, now);
            assert!(decision.by_study);
            assert_eq!(held(&decision).is_none(), same, "{now:?}");
        }
        let accession = |rule: &str| decide(rule, &[("AccessionNumber", "A1")], &[("AccessionNumber", "A2")]);
        let holds = accession("study::same_accession(image);");
        assert_eq!(held(&holds), Some(ACCESSION.reason));
        let flags = accession(r#"study::same_accession(image, #{ otherwise: "flag" });"#);
        assert_eq!((held(&flags), &flags.flags[..]), (None, &["second-accession"][..]));
        let told = accession(r#"if !study::same_accession(image, #{ otherwise: "nothing" }) { hold("two") }"#);
        assert_eq!(held(&told), Some("two"));
        let wrong = accession(r#"let x = "dr"; study::same_accession(image, #{ otherwise: x + "op" });"#);
        assert_eq!(wrong.hold.unwrap().kind, HoldKind::Error);
        let literal = set(r#"fn route(image, from) { study::same_patient(image, #{ otherwise: "flog" }); }"#)
            .err()
            .unwrap();
        assert!(literal[0].message.contains("did you mean `flag`"), "{literal:?}");
    }

    #[test]
    fn the_first_value_and_the_size_of_the_study_are_read() {
        let rule = r#"if study::first(image, "AccessionNumber") == "A1" && study::first(image, "StudyID") == "S2"
            && study::first(image, "PatientName") == "" && study::instances() == 3 && study::bytes() == 4000 { hold("yes") }"#;
        let decision = decide(
            rule,
            &[("AccessionNumber", "A1")],
            &[("AccessionNumber", "A2"), ("StudyID", "S2")],
        );
        assert_eq!(held(&decision), Some("yes"));
        let sizes = decide("study::instances();", &[], &[]);
        assert!(!sizes.by_study, "a size is no reason to decide again");
        let wrong = set(r#"fn route(image, from) { study::first(image, "AccesionNumber"); }"#)
            .err()
            .unwrap();
        assert!(wrong[0].message.contains("did you mean `AccessionNumber`"), "{wrong:?}");
    }

    #[test]
    fn what_a_rule_wrote_before_does_not_hide_another_patient() {
        let text = r#"fn morph(image, from) { image.PatientID = "123"; study::same_patient(image); }
            fn route(image, from) { to("vna"); }"#;
        let mut facts = facts();
        facts.study = Some(StudySeen {
            values: vec![Phi::new("123".to_owned())],
            ..StudySeen::default()
        });
        let decision = set(text).unwrap().decide(&facts, &head_of(&[("PatientID", "999")]));
        assert_eq!(held(&decision), Some(PATIENT.reason));
    }
}
