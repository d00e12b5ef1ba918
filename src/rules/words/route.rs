//! Words for conditions in `route`: the time of arrival at the site, and what kind of object it is. Station, body part, class
//! and patient's site are plain comparisons of the image's attributes and need no word.
use super::{Book, Gives, Hand, Sample, Word};
use crate::dicom::family;
use crate::rules::api::{Image, evaluation, note};
use crate::rules::fault::Fault;
use crate::rules::lint::unknown;
use crate::rules::terms::{self, NO_ZONE};
use jiff::civil::{DateTime, Weekday};
use rhai::{EvalAltResult, ImmutableString, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// Digital Mammography X-Ray and Breast Projection X-Ray, for processing (PS3.4 B.5).
const FOR_PROCESSING: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.13.1.5",
];
const TOMOSYNTHESIS: &str = "1.2.840.10008.5.1.4.1.1.13.1.3";

pub(super) fn register(book: &mut Book) {
    times(book);
    classes(book);
    shapes(book);
}

fn times(book: &mut Book) {
    let between = Word {
        namespace: "route",
        name: "between",
        parameters: "start, end[, zone]",
        does: "Answers whether the instance arrived in a part of the day, by the clocks of the site (`rules.zone`) or of the zone that is \
               named. A window may go over midnight; its end lies outside.",
        limits: "It looks at the arrival and never at the time of the decision, so that the same image decides the same way later. To put \
                 a delivery off into a window, use `to(…, #{ within: \"22:00-06:00\" })`.",
        errors: "A time that is none, an unknown zone, or no zone at all.",
        samples: &[Sample {
            given: &[],
            rule: r#"if route::between("22:00", "06:00", "Europe/Berlin") { to("night-archive") } else { to("vna") }"#,
            gives: Gives::Deliveries(&[("night-archive", "routine")]),
        }],
    };
    book.add(between, |c: Context, from: &str, to: &str, zone: &str| {
        between_times(&c, from, to, Some(zone))
    });
    book.also("route", "between", |c: Context, from: &str, to: &str| {
        between_times(&c, from, to, None)
    });
    let weekend = Word {
        namespace: "route",
        name: "is_weekend",
        parameters: "[zone]",
        does: "Answers whether the instance arrived on a Saturday or Sunday at the site, or in the zone that is named.",
        limits: "Knows no holidays: keep those in a table.",
        errors: "An unknown zone, or no zone at all.",
        samples: &[Sample {
            given: &[],
            rule: r#"if route::is_weekend("UTC") { to("cad") } else { to("vna") }"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    let is_weekend = |day: Weekday| matches!(day, Weekday::Saturday | Weekday::Sunday);
    book.add(weekend, move |c: Context, zone: &str| -> Raised<bool> {
        Ok(is_weekend(here(&c, Some(zone))?.weekday()))
    });
    book.also("route", "is_weekend", move |c: Context| -> Raised<bool> {
        Ok(is_weekend(here(&c, None)?.weekday()))
    });
    let weekday = Word {
        namespace: "route",
        name: "weekday",
        parameters: "[zone]",
        does: "Answers the day of the week of the arrival at the site, or in the zone that is named: `mon`, `tue`, `wed`, `thu`, `fri`, \
               `sat` or `sun`.",
        limits: "By the arrival, as `route::between`.",
        errors: "An unknown zone, or no zone at all.",
        samples: &[Sample {
            given: &[],
            rule: r#"if route::weekday("UTC") == "tue" { to("cad") }"#,
            gives: Gives::Deliveries(&[("cad", "routine")]),
        }],
    };
    book.add(weekday, |c: Context, zone: &str| -> Raised<ImmutableString> {
        Ok(day_name(here(&c, Some(zone))?))
    });
    book.also("route", "weekday", |c: Context| -> Raised<ImmutableString> {
        Ok(day_name(here(&c, None)?))
    });
}

fn classes(book: &mut Book) {
    let class_is = Word {
        namespace: "route",
        name: "class_is",
        parameters: "image, family",
        does: "Answers whether the object's SOP class belongs to a family: CR, DX, MG, IO, CT, US, MR, NM, SC, WAVEFORM, PR, XA, RF, SEG, \
               REG, VL, SR, KO, DOC, PT or RT.",
        limits: "By the SOP class that was negotiated, not by Modality: a secondary capture of a CT is SC. A Key Object Selection is KO and \
                 not SR; MG includes tomosynthesis.",
        errors: "An unknown family, found when the rules are loaded.",
        samples: &[Sample {
            given: &[("Modality", "OT")],
            rule: r#"if route::class_is(image, "CT") { to("vna") } if route::class_is(image, "SR") { to("cad") }"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    book.add(class_is, |c: Context, image: &mut Image, name: &str| {
        let hand = Hand::new(&c, image);
        let answer = family::is(&hand.evaluation().facts.sop_class, name);
        let answer = hand.placed(answer.ok_or_else(|| Fault::error("route::class_is knows no such family")))?;
        hand.note(|| format!("class is {name}: {answer}"));
        Ok::<bool, Box<EvalAltResult>>(answer)
    });
    let processing = Word {
        namespace: "route",
        name: "is_for_processing",
        parameters: "image",
        does: "Answers whether a radiograph is meant for processing (CAD) and not for reading: PresentationIntentType says FOR PROCESSING, or \
               its SOP class does.",
        limits: "Of mammograms and other digital X-ray images. What says neither is not for processing.",
        errors: "None but an unreadable element.",
        samples: &[Sample {
            given: &[("PresentationIntentType", "FOR PROCESSING")],
            rule: r#"if route::is_for_processing(image) { to("cad") } else { to("vna") }"#,
            gives: Gives::Deliveries(&[("cad", "routine")]),
        }],
    };
    book.add(processing, |c: Context, image: &mut Image| {
        let hand = Hand::new(&c, image);
        let intent = hand.text("PresentationIntentType")?;
        let by_class = FOR_PROCESSING.contains(&hand.evaluation().facts.sop_class.as_str());
        Ok::<bool, Box<EvalAltResult>>(if intent.is_empty() {
            by_class
        } else {
            intent == "FOR PROCESSING"
        })
    });
}

fn shapes(book: &mut Book) {
    let tomo = Word {
        namespace: "route",
        name: "is_tomosynthesis",
        parameters: "image",
        does: "Answers whether the object is a breast tomosynthesis: the class of that name, or a mammogram of type TOMOSYNTHESIS.",
        limits: "Synthesised two-dimensional views are none.",
        errors: "None but an unreadable element.",
        samples: &[Sample {
            given: &[("Modality", "MG")],
            rule: r#"if !route::is_tomosynthesis(image) { to("vna") }"#,
            gives: Gives::Deliveries(&[("vna", "routine")]),
        }],
    };
    book.add(tomo, |c: Context, image: &mut Image| {
        let hand = Hand::new(&c, image);
        let class = hand.evaluation().facts.sop_class.as_str() == TOMOSYNTHESIS;
        let kinds = hand.values("ImageType")?.unwrap_or_default();
        let by_type = kinds.get(2).is_some_and(|kind| kind.trim() == "TOMOSYNTHESIS");
        Ok::<bool, Box<EvalAltResult>>(class || by_type)
    });
    let frames = Word {
        namespace: "route",
        name: "is_cine",
        parameters: "image",
        does: "Answers whether the object has several frames, as an ultrasound clip has: NumberOfFrames above 1.",
        limits: "Does not look into the pixels.",
        errors: "None but an unreadable element.",
        samples: &[Sample {
            given: &[("Modality", "US"), ("NumberOfFrames", "60")],
            rule: r#"to("vna"); if route::is_cine(image) { to("night-archive", #{ within: "22:00-06:00", zone: "UTC" }) }"#,
            gives: Gives::Deliveries(&[("vna", "routine"), ("night-archive", "routine")]),
        }],
    };
    book.add(frames, |c: Context, image: &mut Image| {
        let frames = Hand::new(&c, image).text("NumberOfFrames")?;
        Ok::<bool, Box<EvalAltResult>>(frames.parse::<u32>().is_ok_and(|count| count > 1))
    });
}

/// The time of arrival by the clocks of a zone: the one named, else the site's.
fn here(c: &Context, zone: Option<&str>) -> Raised<DateTime> {
    let evaluation = evaluation(c)?;
    let raise = |fault: Fault| fault.raise(c.call_position());
    let named = match zone {
        None => None,
        Some(name) => Some(terms::zone(name).map_err(|_| raise(Fault::error("there is no such time zone")))?),
    };
    let zone = named.as_ref().or_else(|| evaluation.known.site_zone());
    let zone = zone.ok_or_else(|| raise(Fault::error(NO_ZONE)))?;
    let here = terms::local(evaluation.facts.arrival, zone);
    note(c, &evaluation, || format!("arrived {here}"));
    Ok(here)
}

fn between_times(c: &Context, from: &str, to: &str, zone: Option<&str>) -> Raised<bool> {
    let time = |text: &str| {
        let time = terms::time_of_day(text);
        time.map_err(|_| Fault::error("route::between takes times of day as \"22:00\"").raise(c.call_position()))
    };
    let window = (time(from)?, time(to)?);
    Ok(terms::is_within(here(c, zone)?.time(), window))
}

fn day_name(at: DateTime) -> ImmutableString {
    let name = match at.weekday() {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    };
    name.into()
}

pub(super) fn wrong_literal(word: &str, number: usize, text: &str) -> Option<String> {
    match (word, number) {
        ("between", 0 | 1) => terms::time_of_day(text).err(),
        ("between", 2) | ("is_weekend" | "weekday", 0) => terms::zone(text).err(),
        ("class_is", 0) if !family::names().contains(&text) => {
            Some(unknown("family of SOP classes", text, family::names()))
        }
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::tests::{decide, destinations, empty_head, facts, set};
    use crate::rules::{Config, GroupKind, HoldKind, Problem, RuleSet, Urgency};
    use std::time::Duration;

    fn routed(rule: &str) -> crate::rules::Decision {
        decide(&format!("fn route(image, from) {{ {rule} }}"), &empty_head())
    }

    fn names(rule: &str) -> Vec<String> {
        let decision = routed(rule);
        assert_eq!(decision.hold, None, "{rule}");
        decision
            .deliveries
            .iter()
            .map(|delivery| delivery.destination.to_string())
            .collect()
    }

    #[test]
    fn literals_of_times_zones_families_members_and_options_are_checked_at_load() {
        for (rule, wanted) in [
            (r#"route::between("22", "06:00", "UTC")"#, "\"22:00\""),
            (
                r#"route::between("22:00", "06:00", "Europe/Berln")"#,
                "did you mean `Europe/Berlin`",
            ),
            (r#"route::is_weekend("Europe/Berln")"#, "did you mean `Europe/Berlin`"),
            (r#"route::class_is(image, "MGG")"#, "did you mean `MG`"),
            (r#"to_first(["vna", "cadd"])"#, "did you mean `cad`"),
            (r#"to_one_of(["vnaa"], #{ prioriti: "stat" })"#, "did you mean `vna`"),
            (r#"to_one_of(["vna"], #{ after: "15m" })"#, "to_first()"),
            (r#"to("vna", #{ quiet: "10" })"#, "is not a duration"),
            (r#"to("vna", #{ within: "22-6" })"#, "\"22:00\""),
            (r#"to("vna", #{ quiet: "10m", at_most: "5m" })"#, "shorter"),
        ] {
            let problems = set(&format!("fn route(image, from) {{ {rule}; }}")).err();
            let problems = problems.unwrap_or_else(|| panic!("{rule} is taken"));
            assert!(problems[0].message.contains(wanted), "{rule}: {problems:?}");
        }
    }

    /// Rules of a site that has named no zone.
    fn homeless(rule: &str) -> Result<RuleSet, Vec<Problem>> {
        let source = ("main.rhai".to_owned(), format!("fn route(image, from) {{ {rule}; }}"));
        RuleSet::from_sources(&[source], &Config::default(), &destinations())
    }

    #[test]
    fn a_time_of_day_without_a_zone_is_an_error_and_not_a_guess() {
        for rule in [
            "route::is_weekend()",
            "route::weekday()",
            r#"route::between("22:00", "06:00")"#,
            r#"to("vna", #{ within: "22:00-06:00" })"#,
        ] {
            let problems = homeless(rule).err();
            let problems = problems.unwrap_or_else(|| panic!("{rule} is taken"));
            assert!(problems[0].message.contains("rules.zone"), "{rule}: {problems:?}");
        }
        let computed = homeless(r#"let x = "22:"; to("vna", #{ not_before: x + "00" });"#).unwrap();
        let hold = computed.decide(&facts(), &empty_head()).hold;
        assert_eq!(hold.unwrap().kind, HoldKind::Error);
    }

    #[test]
    fn groups_say_who_gets_it_first_and_a_destination_said_by_itself_serves_its_group() {
        let decision = routed(r#"to_first(["vna", "cad"], #{ after: "5m", priority: "high" });"#);
        let kinds: Vec<_> = decision
            .deliveries
            .iter()
            .map(|d| d.terms.group.unwrap().kind)
            .collect();
        let after = Duration::from_secs(300);
        assert_eq!(kinds, [GroupKind::First { after }, GroupKind::First { after }]);
        assert!(decision.deliveries.iter().all(|d| d.priority == Urgency::High));
        assert_eq!(names(r#"to_first(["cad", "vna", "cad"]);"#), ["cad", "vna"]);
        let mut shared = names(r#"to_one_of(["vna", "cad"]);"#);
        assert_eq!(
            shared,
            names(r#"to_one_of(["cad", "vna"]);"#),
            "the order does not matter"
        );
        shared.sort();
        assert_eq!(shared, ["cad", "vna"]);
        assert_eq!(names(r#"to_first(["vna", "cad"]); to("cad");"#), ["cad"]);
        assert_eq!(
            names(r#"to_first(["vna", "cad"]); to_one_of(["cad"]);"#),
            ["vna", "cad"]
        );
        // A spare of both groups is the first one's; the second goes to its own first all the same.
        assert_eq!(
            names(r#"to_first(["vna", "night-archive"]); to_first(["cad", "night-archive"]);"#),
            ["vna", "night-archive", "cad"]
        );
        assert_eq!(
            names(r#"to_first(["vna", "night-archive"]); to_first(["cad", "vna"]);"#),
            ["vna", "night-archive"]
        );
        for rule in [r#"to_first([]);"#, r#"to_first(["v" + "x"]);"#, "to_one_of([1]);"] {
            assert_eq!(routed(rule).hold.unwrap().kind, HoldKind::Error, "{rule}");
        }
    }

    #[test]
    fn what_is_urgent_does_not_wait_and_the_sooner_of_two_wishes_wins() {
        let terms = |rule: &str| routed(rule).deliveries[0].terms;
        let waits = terms(r#"to("vna", #{ delay: "2h", quiet: "10m" });"#);
        assert!(waits.not_before.is_some() && waits.quiet.is_some());
        let at_once = terms(r#"to("vna", #{ delay: "2h", quiet: "10m", priority: "stat" });"#);
        assert!(at_once.not_before.is_none() && at_once.quiet.is_none());
        let twice = terms(r#"to("vna", #{ delay: "2h" }); to("vna", #{ priority: "stat" });"#);
        assert_eq!(twice.not_before, None);
        let computed = routed(r#"let x = "2"; to("vna", #{ delay: x + "2" });"#);
        let hold = computed.hold.unwrap();
        assert!(
            hold.kind == HoldKind::Error && !hold.reason.contains("22"),
            "{}",
            hold.reason
        );
    }
}
