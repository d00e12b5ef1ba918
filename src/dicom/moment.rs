//! Dates, times and offsets of data sets (VR DA, TM, DT; Timezone Offset From UTC), and a zone's offset at one of them.
//!
//! Promises: a text is read only when all of it makes sense; the forms of ACR-NEMA (`2024.03.10`, `10:15:00`) are read too.
//! Called by the rules' words for time zones, clocks and date shifts. Reads no clock, knows no system time zone: zones come
//! from the IANA data in the binary.
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

/// A zone by its IANA name; `None` when the data in the binary has none of that name.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
    is_name.then(|| TimeZoneDatabase::bundled().get(name).ok()).flatten()
}

/// The zone whose name looks most like `name`, for suggestions.
#[must_use]
pub fn nearest_zone(name: &str) -> Option<String> {
    let wanted: String = name.chars().take(64).collect();
    let all = TimeZoneDatabase::bundled();
    let scored = all
        .available()
        .map(|known| (strsim::jaro_winkler(known.as_str(), &wanted), known.to_string()));
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (nearest.0 > 0.7).then_some(nearest.1)
}

/// DA, or its old form with points.
#[must_use]
pub fn date(text: &str) -> Option<Date> {
    let text = text.trim_matches([' ', '\0']);
    let digits: String = match text.len() {
        10 if text.is_ascii() && text[4..5] == text[7..8] && text[4..5] == *"." => text.replace('.', ""),
        _ => text.to_owned(),
    };
    if digits.len() != 8 || !is_digits(&digits) {
        return None;
    }
    let year = number(&digits[..4])?;
    Date::new(year, month_or_day(&digits[4..6])?, month_or_day(&digits[6..])?).ok()
}

/// TM from the hour on, or its old form with colons. A leap second reads as the second before it.
#[must_use]
pub fn time(text: &str) -> Option<Time> {
    let text = text.trim_matches([' ', '\0']);
    let old = text.len() >= 5 && text.is_ascii() && &text[2..3] == ":" && matches!(text.get(5..6), None | Some(":"));
    let text = if old { text.replace(':', "") } else { text.to_owned() };
    if !text.is_ascii() {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if !matches!(whole.len(), 2 | 4 | 6) || (!fraction.is_empty() && whole.len() != 6) || fraction.len() > 6 {
        return None;
    }
    let part = |at: usize| whole.get(at..at + 2).map_or(Some(0), month_or_day);
    let micros: i32 = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<6}").parse().ok().filter(|_| is_digits(fraction))?
    };
    Time::new(part(0)?, part(2)?, part(4)?.min(59), micros * 1_000)
        .ok()
        .filter(|_| part(4) <= Some(60))
}

/// DT: a date and a time of at least a day's precision, with its own offset when it has one.
#[must_use]
pub fn date_time(text: &str) -> Option<(DateTime, Option<Offset>)> {
    let text = text.trim_matches([' ', '\0']);
    let (local, own) = match text.rfind(['+', '-']) {
        Some(at) if at >= 8 => (&text[..at], Some(offset(&text[at..])?)),
        Some(_) => return None,
        None => (text, None),
    };
    let (day, rest) = local.split_at_checked(8)?;
    let time = if rest.is_empty() { Time::midnight() } else { time(rest)? };
    Some((date(day)?.to_datetime(time), own))
}

/// A DA or DT so many days earlier, in its own precision; time and offset stay. `None` when it is neither.
#[must_use]
pub fn earlier(text: &str, days: u32) -> Option<String> {
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Some(String::new());
    }
    let moved = |date: Date| {
        let earlier = date.checked_sub(jiff::Span::new().try_days(days).ok()?).ok()?;
        (earlier.year() > 0).then(|| earlier.strftime("%Y%m%d").to_string())
    };
    if let Some(date) = date(text) {
        return moved(date);
    }
    // A year or a month: its first day stands for it.
    if matches!(text.len(), 4 | 6) && is_digits(text) {
        let first = format!("{text}{}", &"0101"[text.len() - 4..]);
        return moved(date(&first)?).map(|moved| moved[..text.len()].to_owned());
    }
    let (local, _) = date_time(text)?;
    Some(moved(local.date())? + &text[8..])
}

/// Timezone Offset From UTC (0008,0201): `+HHMM` or `-HHMM` from -1200 to +1400, and never -0000 (PS3.3 C.12.1.1.8).
#[must_use]
pub fn offset(text: &str) -> Option<Offset> {
    let text = text.trim_matches([' ', '\0']);
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) if digits != "0000" => (-1, digits),
        _ => return None,
    };
    if digits.len() != 4 || !is_digits(digits) {
        return None;
    }
    let (hours, minutes) = (number_of::<i32>(&digits[..2])?, number_of::<i32>(&digits[2..])?);
    let seconds = sign * (hours * 3_600 + minutes * 60);
    let in_range = minutes < 60 && (LEAST..=MOST).contains(&seconds);
    Offset::from_seconds(seconds).ok().filter(|_| in_range)
}

/// An offset as it is written; `None` for one that no data set can say (seconds of local mean time, beyond the range).
#[must_use]
pub fn written(offset: Offset) -> Option<String> {
    let seconds = offset.seconds();
    if seconds % 60 != 0 || !(LEAST..=MOST).contains(&seconds) {
        return None;
    }
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    Some(format!("{sign}{:02}{:02}", minutes / 60, minutes % 60))
}

/// A zone's offset at a local time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    pub offset: Offset,
    pub certain: Certain,
}

/// How sure an offset is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certain {
    Yes,
    /// The hour came twice that night; the offset is that of the first.
    Twice,
    /// The hour was left out that night; the offset is that before the change.
    Never,
    /// Only the date is known, and its offset changed that day; the offset is that of its first hour.
    ByDate,
}

/// The offset of `zone` at `date`, and at `time` when there is one.
#[must_use]
pub fn at(zone: &TimeZone, date: Date, time: Option<Time>) -> At {
    match time {
        Some(time) => settled(zone.to_ambiguous_timestamp(date.to_datetime(time)).offset()),
        None => {
            let of = |time: Time| zone.to_ambiguous_timestamp(date.to_datetime(time)).offset();
            // Where midnight does not exist, the day begins after the gap.
            let first = match of(Time::midnight()) {
                AmbiguousOffset::Gap { after, .. } => after,
                AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => offset,
            };
            // Where its last hour comes twice, the day ends with the second.
            let last = match of(Time::MAX) {
                AmbiguousOffset::Fold { after, .. } => after,
                AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Gap { before: offset, .. } => offset,
            };
            At {
                offset: first,
                certain: if first == last { Certain::Yes } else { Certain::ByDate },
            }
        }
    }
}

fn settled(offset: AmbiguousOffset) -> At {
    let (offset, certain) = match offset {
        AmbiguousOffset::Unambiguous { offset } => (offset, Certain::Yes),
        AmbiguousOffset::Fold { before, .. } => (before, Certain::Twice),
        AmbiguousOffset::Gap { before, .. } => (before, Certain::Never),
    };
    At { offset, certain }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number_of<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| is_digits(text))
}

fn number(text: &str) -> Option<i16> {
    number_of(text)
}

fn month_or_day(text: &str) -> Option<i8> {
    number_of(text)
}

/// PS3.3 C.12.1.1.8.
const LEAST: i32 = -12 * 3_600;
const MOST: i32 = 14 * 3_600;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_and_times_are_read_in_new_and_old_forms() {
        let day = jiff::civil::date(2024, 3, 10);
        assert_eq!(date("20240310"), Some(day));
        assert_eq!(date("2024.03.10"), Some(day));
        assert_eq!(time("021530.25 "), Some(jiff::civil::time(2, 15, 30, 250_000_000)));
        assert_eq!(time("02:15:30"), time("021530"));
        assert_eq!((time("02"), time("0215")), (time("020000"), time("021500")));
        assert_eq!(time("235960"), time("235959"));
        let (local, own) = date_time("20240310021530.5-0500").unwrap();
        assert_eq!(local, day.to_datetime(time("021530.5").unwrap()));
        assert_eq!(own, offset("-0500"));
        assert_eq!(date_time("20240310"), Some((day.to_datetime(Time::midnight()), None)));
    }

    #[test]
    fn what_is_no_date_time_or_offset_is_refused() {
        for wrong in [
            "",
            "2024",
            "20240230",
            "2024031",
            "2024-03-10",
            "+2024031",
            "ä24.03.100",
            "202403 1",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
        for wrong in [
            "",
            "2",
            "24",
            "2360",
            "021561",
            "0215.5",
            "021530.1234567",
            "2:15",
            "0ä1530",
            "+21530",
            "021530.-1",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        for wrong in ["", "2024", "20240310-", "20240310+1500", "-20240310", "2024031002153x"] {
            assert_eq!(date_time(wrong), None, "{wrong}");
        }
        for wrong in [
            "", "0100", "+100", "-0000", "+1401", "-1201", "+0160", "+01:00", "Z", "+1 00", "++100",
        ] {
            assert_eq!(offset(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_date_moves_in_its_own_precision_and_keeps_its_time() {
        for (text, days, wanted) in [
            ("20240301", 1, Some("20240229")),
            ("2024.03.01", 1, Some("20240229")),
            ("20240101120000.5+0100", 1, Some("20231231120000.5+0100")),
            ("2024", 1, Some("2023")),
            ("202403", 1, Some("202402")),
            ("", 1, Some("")),
            ("00010101", 1, None),
            ("20240230", 1, None),
            ("20240101-20240201", 1, None),
            ("JAN 2024", 1, None),
        ] {
            assert_eq!(earlier(text, days).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_zone_knows_its_summer_time_and_its_doubtful_hours() {
        let berlin = zone("Europe/Berlin").unwrap();
        let said = |day: &str, hour: Option<&str>| {
            let found = at(&berlin, date(day).unwrap(), hour.map(|hour| time(hour).unwrap()));
            (written(found.offset).unwrap(), found.certain)
        };
        assert_eq!(said("20240115", Some("1200")), ("+0100".into(), Certain::Yes));
        assert_eq!(said("20240715", None), ("+0200".into(), Certain::Yes));
        assert_eq!(said("20241027", Some("0230")), ("+0200".into(), Certain::Twice));
        assert_eq!(said("20240331", Some("0230")), ("+0100".into(), Certain::Never));
        assert_eq!(said("20241027", None), ("+0200".into(), Certain::ByDate));
        // A summer without summer time: 1979 in Germany.
        assert_eq!(said("19790715", None), ("+0100".into(), Certain::Yes));
        // Zones that change at midnight: a day without its first hour, and one with its last hour twice.
        for (name, without, twice) in [
            ("Africa/Cairo", ("20240426", "+0300"), "20241031"),
            ("America/Santiago", ("20240908", "-0300"), "20240406"),
            ("Asia/Beirut", ("20240331", "+0300"), "20231028"),
        ] {
            let zone = zone(name).unwrap();
            let found = at(&zone, date(without.0).unwrap(), None);
            assert_eq!(
                (written(found.offset).unwrap().as_str(), found.certain),
                (without.1, Certain::Yes),
                "{name}"
            );
            assert_eq!(at(&zone, date(twice).unwrap(), None).certain, Certain::ByDate, "{name}");
        }
        let kathmandu = zone("Asia/Kathmandu").unwrap();
        assert_eq!(
            written(at(&kathmandu, date("20240715").unwrap(), None).offset).unwrap(),
            "+0545"
        );
        let utc = zone("UTC").unwrap();
        assert_eq!(
            written(at(&utc, date("20240715").unwrap(), None).offset).unwrap(),
            "+0000"
        );
    }

    #[test]
    fn an_offset_that_no_data_set_can_say_is_not_written() {
        let berlin = zone("Europe/Berlin").unwrap();
        // Local mean time, before 1893.
        assert_eq!(written(at(&berlin, date("18800101").unwrap(), None).offset), None);
    }

    #[test]
    fn zones_come_from_the_binary_by_their_names_only() {
        assert!(zone("America/Chicago").is_some() && zone("Etc/GMT+5").is_some());
        for wrong in [
            "",
            "Mars/Olympus",
            "../etc/localtime",
            "/etc/localtime",
            "Europe/Berlin\0",
        ] {
            assert!(zone(wrong).is_none(), "{wrong}");
        }
        assert_eq!(nearest_zone("Europe/Berln").as_deref(), Some("Europe/Berlin"));
        assert_eq!(nearest_zone("§"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = (date(&text), time(&text), date_time(&text), offset(&text), zone(&text));
        }

        #[test]
        fn what_is_written_reads_back(seconds in (-12 * 60..=14 * 60_i32).prop_map(|minutes| minutes * 60)) {
            let made = Offset::from_seconds(seconds).unwrap();
            let text = written(made).unwrap();
            prop_assert!(text != "-0000" && text.len() == 5);
            prop_assert_eq!(offset(&text), Some(made));
        }
    }
}
