//! Words for time zones and clocks. Dates and times of the data set are never moved: a zone is declared, a clock is judged.
use super::given::{Given, Table, Takes};
use super::{Book, Gives, Hand, Sample, Word};
use crate::dicom::moment::{self, Certain};
use crate::rules::api::Image;
use crate::rules::fault::Fault;
use crate::rules::local;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use rhai::{EvalAltResult, Map, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

/// The options of `timezone::check_clock`, in seconds.
pub(in crate::rules) const CLOCK: Table = &[
    ("ahead", Takes::Number(1, 31_536_000)),
    ("behind", Takes::Number(1, 31_536_000)),
    ("zone", Takes::Text(known_zone)),
    ("hold", Takes::Switch),
];

/// A modality's clock may differ this much from the box's, which has NTP. Two minutes: what IHE Consistent Time leaves to
/// chance is a second; a clock that nobody sets drifts that far in weeks.
const AHEAD: i64 = 120;

/// When an instance was made, by its own word: date and time of creation, of the content, of the acquisition (PS3.3 C.12.1, C.7.6.1).
const MADE: [(&str, &str); 3] = [
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
];

pub(super) fn register(book: &mut Book) {
    stamp_word(book);
    clock_word(book);
}

fn stamp_word(book: &mut Book) {
    book.add(
        Word {
            namespace: "timezone",
            name: "stamp",
            parameters: "image, zone",
            does: "Writes Timezone Offset From UTC (0008,0201) as the zone had it at Study Date and Study Time, summer time \
                   included. Without `zone`, the zone of `rules.zone` in the configuration. An offset that is there stays.",
            limits: "Dates and times stay as they are. No Study Date: nothing is written. The zones are those of the IANA \
                     data in the binary.",
            errors: "Flags the instance: timezone-ambiguous (the hour came twice, the first is taken), timezone-gap (the hour \
                     was left out), timezone-no-time (only the date is known and the offset changed that day), \
                     timezone-no-date, timezone-unsayable (no offset in whole minutes), timezone-invalid (an offset that \
                     stands there is none). An unknown zone is a problem when the rules are loaded.",
            samples: &[
                Sample {
                    given: &[("StudyDate", "20240715"), ("StudyTime", "101500")],
                    rule: r#"timezone::stamp(image, "America/Chicago");"#,
                    gives: Gives::Elements(&[("TimezoneOffsetFromUTC", "-0500")]),
                },
                Sample {
                    given: &[("StudyDate", "20241027"), ("StudyTime", "023000")],
                    rule: r#"timezone::stamp(image, "Europe/Berlin");"#,
                    gives: Gives::Elements(&[("TimezoneOffsetFromUTC", "+0200")]),
                },
                Sample {
                    given: &[("StudyDate", "20240115"), ("TimezoneOffsetFromUTC", "+0900")],
                    rule: "timezone::stamp(image);",
                    gives: Gives::Elements(&[("TimezoneOffsetFromUTC", "+0900")]),
                },
            ],
        },
        |c: NativeCallContext, image: &mut Image, zone: &str| {
            let hand = Hand::new(&c, image);
            let zone = hand.placed(named(zone))?;
            stamp(&hand, &zone)
        },
    );
    book.also("timezone", "stamp", |c: NativeCallContext, image: &mut Image| {
        let hand = Hand::new(&c, image);
        let zone = site(&hand)?;
        stamp(&hand, &zone)
    });
}

fn clock_word(book: &mut Book) {
    book.add(
        Word {
            namespace: "timezone",
            name: "check_clock",
            parameters: "image, options",
            does: "Compares when the instance was made, by its own word, with when it arrived, and shows the difference, the \
                   greatest of the last hour, as the metric waystation_source_clock_skew_seconds of its source. Options: `ahead` (seconds, 120) and \
                   `behind` (seconds, not judged without it) flag the instance beyond them; `zone` in place of \
                   `rules.zone`; `hold: true` holds instead of flagging.",
            limits: "Changes nothing. The latest of the creation, content and acquisition times counts. Being late may also \
                     mean that the modality sent late: give `behind` for sources that send at once only.",
            errors: "Flags clock-ahead or clock-behind. An instance without a readable date and time is not judged.",
            samples: &[
                Sample {
                    given: &[("InstanceCreationDate", "20231114"), ("InstanceCreationTime", "231300")],
                    rule: r#"timezone::check_clock(image, #{ zone: "Europe/Berlin", hold: true });"#,
                    gives: Gives::Elements(&[("InstanceCreationTime", "231300")]),
                },
                Sample {
                    given: &[("InstanceCreationDate", "20231114"), ("InstanceCreationTime", "231900")],
                    rule: r#"timezone::check_clock(image, #{ zone: "Europe/Berlin", ahead: 60, hold: true });"#,
                    gives: Gives::Hold(crate::rules::HoldKind::Rule),
                },
            ],
        },
        |c: NativeCallContext, image: &mut Image, options: Map| check_clock(&c, image, &options),
    );
    book.also("timezone", "check_clock", |c: NativeCallContext, image: &mut Image| {
        check_clock(&c, image, &Map::new())
    });
}

fn stamp(hand: &Hand, zone: &TimeZone) -> Raised<()> {
    let standing = hand.values(OFFSET)?.unwrap_or_default();
    if !standing.is_empty() {
        if standing.len() > 1 || moment::offset(&standing[0]).is_none() {
            hand.flag("timezone-invalid");
        }
        return Ok(());
    }
    let Some(date) = moment::date(&hand.text("StudyDate")?) else {
        hand.flag("timezone-no-date");
        return Ok(());
    };
    let found = moment::at(zone, date, moment::time(&hand.text("StudyTime")?));
    let Some(text) = moment::written(found.offset) else {
        hand.flag("timezone-unsayable");
        return Ok(());
    };
    match found.certain {
        Certain::Yes => {}
        Certain::Twice => hand.flag("timezone-ambiguous"),
        Certain::Never => hand.flag("timezone-gap"),
        Certain::ByDate => hand.flag("timezone-no-time"),
    }
    hand.set_text(OFFSET, text)
}

fn check_clock(c: &NativeCallContext, image: &Image, options: &Map) -> Raised<()> {
    let hand = Hand::new(c, image);
    let given = hand.placed(Given::read(options, CLOCK))?;
    let declared = moment::offset(&hand.text(OFFSET)?);
    let zone = match (declared, given.text("zone")) {
        (Some(offset), _) => offset.to_time_zone(),
        (None, Some(name)) => hand.placed(named(&name))?,
        (None, None) => site(&hand)?,
    };
    let Some(made) = made(&hand, &zone)? else {
        return Ok(());
    };
    let arrival = i64::try_from(hand.evaluation().facts.arrival.0 / 1_000_000).unwrap_or(i64::MAX);
    let skew = made - arrival;
    hand.note(|| format!("made {skew} s after its arrival"));
    hand.evaluation().state().clock_skew = Some(skew);
    let is_ahead = skew > given.number("ahead").unwrap_or(AHEAD);
    let is_behind = given.number("behind").is_some_and(|behind| skew < -behind);
    match (is_ahead, is_behind, given.switch("hold")) {
        (true, _, true) => hand.hold("the clock of the modality is ahead"),
        (_, true, true) => hand.hold("the clock of the modality is behind"),
        (true, _, false) => hand.flag("clock-ahead"),
        (_, true, false) => hand.flag("clock-behind"),
        (false, false, _) => {}
    }
    Ok(())
}

/// The latest moment that the instance names as its making, in seconds since 1970. Of an hour that came twice the second counts:
/// it only makes a fast clock look slower by the hour that is in doubt, never a right one fast.
fn made(hand: &Hand, zone: &TimeZone) -> Raised<Option<i64>> {
    let mut latest = None;
    let mut see = |local: DateTime, own: Option<Offset>| {
        let offset = own.unwrap_or_else(|| moment::at(zone, local.date(), Some(local.time())).offset);
        let second = offset.to_timestamp(local).ok().map(|at| at.as_second());
        latest = latest.max(second);
    };
    for (date, time) in MADE {
        let (date, time) = (moment::date(&hand.text(date)?), moment::time(&hand.text(time)?));
        if let (Some(date), Some(time)) = (date, time) {
            see(date.to_datetime(time), None);
        }
    }
    let text = hand.text("AcquisitionDateTime")?;
    if let Some((local, own)) = moment::date_time(&text).filter(|_| text.len() >= DT_WITH_MINUTES) {
        see(local, own);
    }
    Ok(latest)
}

fn named(name: &str) -> Result<TimeZone, Fault> {
    moment::zone(name).ok_or_else(|| Fault::error("a computed text is no IANA time zone"))
}

fn site(hand: &Hand) -> Raised<TimeZone> {
    let zone = hand.evaluation().known.local.zone.clone();
    hand.placed(zone.ok_or_else(|| Fault::error("no time zone: give one, or set rules.zone in the configuration")))
}

/// For the load: whether a literal names a zone.
pub(in crate::rules) fn known_zone(name: &str) -> Result<(), String> {
    moment::zone(name).map(drop).ok_or_else(|| local::unknown_zone(name))
}

const OFFSET: &str = "TimezoneOffsetFromUTC";
const DT_WITH_MINUTES: usize = 12;
