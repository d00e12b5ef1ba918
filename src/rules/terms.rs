//! The terms of a delivery: its urgency, when it may go, and who may get it in another's place. Read from the options of `to`,
//! `to_first` and `to_one_of`; a literal that is wrong is found at load by the same functions.
use super::Urgency;
use super::lint::unknown;
use crate::base::clock::Wall;
use crate::base::names::DestinationId;
use crate::base::units::Span;
use crate::dicom::moment;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::time::Duration;

/// When a delivery may go, and for whom it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Not before this time.
    pub not_before: Option<Wall>,
    /// Not before the study has had no new instance for a while.
    pub quiet: Option<Quiet>,
    /// One of several deliveries of which one is made; in the order of the deliveries.
    pub group: Option<Membership>,
}

/// Waiting until a study is complete, as far as a silence says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quiet {
    pub span: Duration,
    pub at_most: Duration,
}

/// A delivery's group: the same number for all its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    pub number: usize,
    pub kind: GroupKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupKind {
    /// `to_first`: the next gets it when the one before has been down for `after`.
    First { after: Duration },
    /// `to_one_of`: the first that is not suspended.
    OneOf,
}

/// A destination that a rule named, on its way to a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) destination: DestinationId,
    pub(super) priority: Urgency,
    pub(super) terms: Terms,
    /// Also to where the instance came from.
    pub(super) back: bool,
}

impl Wanted {
    pub(super) fn plainly(destination: DestinationId) -> Self {
        Self {
            destination,
            priority: Urgency::default(),
            terms: Terms::default(),
            back: false,
        }
    }
}

/// The options of one call, as they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) priority: Option<Urgency>,
    pub(super) quiet: Option<Duration>,
    pub(super) at_most: Option<Duration>,
    pub(super) delay: Option<Duration>,
    pub(super) not_before: Option<Time>,
    pub(super) within: Option<(Time, Time)>,
    pub(super) zone: Option<TimeZone>,
    pub(super) after: Option<Duration>,
    pub(super) back: bool,
}

/// All options with text values, then the one that is true or false.
pub(super) const OPTIONS: [&str; 9] = [
    "priority",
    "quiet",
    "at_most",
    "delay",
    "not_before",
    "within",
    "zone",
    "after",
    "back",
];

/// No delivery is put off for longer; the spool takes a longer wait for a clock that went back.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long a delivery waits for its study at most, when the rule does not say.
const AT_MOST: Duration = Duration::from_secs(4 * 3600);
/// When the next of `to_first` takes over, when the rule does not say.
const AFTER: Duration = Duration::from_secs(15 * 60);

impl Options {
    /// Takes one option with a text value.
    ///
    /// # Errors
    /// What is wrong with it, with the nearest right word. Quotes the value: for literals of rules only.
    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "priority" => {
                let word = Urgency::parse(text);
                self.priority = Some(word.ok_or_else(|| unknown("priority", text, Urgency::ALL.map(Urgency::as_str)))?);
            }
            "quiet" => self.quiet = Some(span(key, text)?),
            "at_most" => self.at_most = Some(span(key, text)?),
            "delay" => self.delay = Some(span(key, text)?),
            "after" => self.after = Some(span(key, text)?),
            "not_before" => self.not_before = Some(time_of_day(text)?),
            "within" => {
                let (from, to) = text.split_once('-').ok_or_else(|| wrong_window(text))?;
                let window = (time_of_day(from.trim())?, time_of_day(to.trim())?);
                if window.0 == window.1 {
                    return Err(wrong_window(text));
                }
                self.within = Some(window);
            }
            "zone" => self.zone = Some(zone(text)?),
            "back" => return Err("`back` is true or false".to_owned()),
            _ => return Err(unknown("option", key, OPTIONS)),
        }
        Ok(())
    }

    /// What does not go together.
    ///
    /// # Errors
    /// In constant words.
    pub(super) fn check(&self, first: bool) -> Result<(), &'static str> {
        if self.after.is_some() && !first {
            return Err("`after` is an option of to_first(); `delay` and `quiet` make a delivery wait");
        }
        match (self.quiet, self.at_most) {
            (None, Some(_)) => Err("`at_most` goes with `quiet`"),
            (Some(quiet), Some(at_most)) if at_most < quiet => Err("`at_most` is shorter than `quiet`"),
            (_, _) => Ok(()),
        }
    }

    /// # Errors
    /// A time of day without a zone.
    pub(super) fn needs_zone(&self, site: Option<&TimeZone>) -> Result<(), &'static str> {
        let by_clock = self.not_before.is_some() || self.within.is_some();
        match by_clock && self.zone.is_none() && site.is_none() {
            true => Err(NO_ZONE),
            false => Ok(()),
        }
    }

    /// The terms for an instance that arrived at `arrival`. Nothing urgent waits.
    ///
    /// # Errors
    /// A time of day without a zone.
    pub(super) fn terms(&self, arrival: Wall, site: Option<&TimeZone>) -> Result<Terms, &'static str> {
        let zone = self.zone.as_ref().or(site);
        let mut not_before = self.delay.map(|delay| arrival.plus(delay));
        let mut later = |at: Wall| not_before = Some(not_before.map_or(at, |before| before.max(at)));
        if let Some(time) = self.not_before {
            later(that_day(arrival, zone.ok_or(NO_ZONE)?, time));
        }
        if let Some(window) = self.within {
            later(next_within(arrival, zone.ok_or(NO_ZONE)?, window));
        }
        let at_most = |quiet: Duration| self.at_most.unwrap_or(AT_MOST.max(quiet));
        Ok(Terms {
            not_before: not_before
                .filter(|at| *at > arrival)
                .map(|at| at.min(arrival.plus(LONGEST))),
            quiet: self.quiet.map(|span| Quiet {
                span,
                at_most: at_most(span),
            }),
            group: None,
        })
    }

    pub(super) fn takes_over_after(&self) -> Duration {
        self.after.unwrap_or(AFTER)
    }
}

impl Terms {
    /// The terms of a destination that is named twice: what goes sooner.
    pub(super) fn sooner(self, other: Self) -> Self {
        let shorter = |a: Quiet, b: Quiet| if a.span <= b.span { a } else { b };
        Self {
            not_before: self.not_before.zip(other.not_before).map(|(a, b)| a.min(b)),
            quiet: self.quiet.zip(other.quiet).map(|(a, b)| shorter(a, b)),
            group: self.group,
        }
    }

    /// The terms of an urgent delivery: it does not wait.
    pub(super) fn at_once(self) -> Self {
        Self {
            not_before: None,
            quiet: None,
            ..self
        }
    }
}

pub(super) const NO_ZONE: &str = "a time of day needs a zone: set rules.zone in the configuration, or name one";

/// A span of one second to a day.
fn span(key: &str, text: &str) -> Result<Duration, String> {
    let Span(span) = text.parse()?;
    if span.is_zero() || span > LONGEST {
        return Err(format!("`{key}` is longer than 0s, and at most 24h"));
    }
    Ok(span)
}

/// `22:00` or `22:00:30`.
///
/// # Errors
/// It is none.
pub(super) fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is no time of day; write it as \"22:00\"");
    let mut parts = text.split(':');
    let mut part = |missing: Option<i8>| match parts.next() {
        Some(part) if part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) => part.parse().map_err(|_| wrong()),
        Some(_) => Err(wrong()),
        None => missing.ok_or_else(wrong),
    };
    let (hour, minute, second) = (part(None)?, part(None)?, part(Some(0))?);
    if parts.next().is_some() {
        return Err(wrong());
    }
    Time::new(hour, minute, second, 0).map_err(|_| wrong())
}

/// # Errors
/// No such zone, with the nearest.
pub(super) fn zone(text: &str) -> Result<TimeZone, String> {
    moment::zone(text).ok_or_else(|| match moment::nearest_zone(text) {
        Some(nearest) => format!("`{text}` is no IANA time zone; did you mean `{nearest}`?"),
        None => format!("`{text}` is no IANA time zone"),
    })
}

fn wrong_window(text: &str) -> String {
    format!("`{text}` is no window; write it as \"22:00-06:00\"")
}

/// The civil date and time of a moment.
pub(super) fn local(at: Wall, zone: &TimeZone) -> jiff::civil::DateTime {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    let stamp = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX);
    zone.to_datetime(stamp)
}

/// Whether a time of day lies in a window, which may go over midnight. The end is outside.
pub(super) fn is_within(time: Time, (from, to): (Time, Time)) -> bool {
    if from <= to {
        from <= time && time < to
    } else {
        from <= time || time < to
    }
}

/// That time of the same day.
fn that_day(at: Wall, zone: &TimeZone, time: Time) -> Wall {
    wall(zone, local(at, zone).date().to_datetime(time)).unwrap_or(at)
}

/// Now, inside the window; else when it opens next.
fn next_within(at: Wall, zone: &TimeZone, window: (Time, Time)) -> Wall {
    let here = local(at, zone);
    if is_within(here.time(), window) {
        return at;
    }
    let today = here.date().to_datetime(window.0);
    let opens = match today > here {
        true => Some(today),
        false => today.checked_add(1.day()).ok(),
    };
    opens.and_then(|opens| wall(zone, opens)).unwrap_or(at)
}

/// The moment of a civil time; of an hour that comes twice the first, of one that is skipped the moment it would have begun.
fn wall(zone: &TimeZone, at: jiff::civil::DateTime) -> Option<Wall> {
    let stamp = zone.to_ambiguous_timestamp(at).compatible().ok()?;
    u64::try_from(stamp.as_microsecond()).ok().map(Wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Wall {
        let stamp: Timestamp = text.parse().unwrap();
        Wall(u64::try_from(stamp.as_microsecond()).unwrap())
    }

    fn options(pairs: &[(&str, &str)]) -> Result<Options, String> {
        let mut options = Options::default();
        for (key, text) in pairs {
            options.set(key, text)?;
        }
        Ok(options)
    }

    fn due(pairs: &[(&str, &str)], arrival: &str) -> String {
        let terms = options(pairs).unwrap().terms(at(arrival), None).unwrap();
        terms.not_before.map_or("now".to_owned(), Wall::iso)
    }

    #[test]
    fn a_window_opens_in_the_zone_of_the_site_whatever_the_season() {
        let berlin = ("zone", "Europe/Berlin");
        let table = [
            // Summer: 22:00 is 20:00 UTC. Winter: 21:00 UTC.
            (
                ("within", "22:00-06:00"),
                "2024-07-01T12:00:00Z",
                "2024-07-01T20:00:00Z",
            ),
            (
                ("within", "22:00-06:00"),
                "2024-01-10T12:00:00Z",
                "2024-01-10T21:00:00Z",
            ),
            (("within", "22:00-06:00"), "2024-07-01T21:30:00Z", "now"),
            (("within", "22:00-06:00"), "2024-07-02T03:59:00Z", "now"),
            (
                ("within", "22:00-06:00"),
                "2024-07-02T04:00:00Z",
                "2024-07-02T20:00:00Z",
            ),
            (
                ("within", "12:00-13:00"),
                "2024-01-10T12:30:00Z",
                "2024-01-11T11:00:00Z",
            ),
            (("not_before", "22:00"), "2024-01-10T12:00:00Z", "2024-01-10T21:00:00Z"),
            (("not_before", "06:00"), "2024-01-10T12:00:00Z", "now"),
            // 02:30 does not exist on this day, and comes twice on that.
            (
                ("within", "02:30-05:00"),
                "2024-03-31T00:00:00Z",
                "2024-03-31T01:30:00Z",
            ),
            (
                ("within", "02:30-05:00"),
                "2024-10-26T23:00:00Z",
                "2024-10-27T00:30:00Z",
            ),
        ];
        for (option, arrival, wanted) in table {
            assert_eq!(due(&[option, berlin], arrival), wanted, "{option:?} {arrival}");
        }
        assert_eq!(due(&[("delay", "2h")], "2024-01-10T12:00:00Z"), "2024-01-10T14:00:00Z");
        let both = [("delay", "2h"), ("not_before", "13:30"), ("zone", "UTC")];
        assert_eq!(due(&both, "2024-01-10T12:00:00Z"), "2024-01-10T14:00:00Z");
        let none = options(&[("not_before", "22:00")]).unwrap();
        assert_eq!(none.terms(Wall(0), None), Err(NO_ZONE));
    }

    #[test]
    fn wrong_options_are_named_with_the_right_form() {
        for (key, text, wanted) in [
            ("priority", "stad", "did you mean `stat`"),
            ("prioriti", "stat", "did you mean `priority`"),
            ("delay", "2", "is not a duration"),
            ("delay", "25h", "at most 24h"),
            ("quiet", "0s", "longer than 0s"),
            ("not_before", "22", "\"22:00\""),
            ("not_before", "24:00", "\"22:00\""),
            ("not_before", "+1:00", "\"22:00\""),
            ("within", "22:00", "\"22:00-06:00\""),
            ("within", "22:00-22:00", "\"22:00-06:00\""),
            ("zone", "Europe/Berln", "did you mean `Europe/Berlin`"),
            ("back", "yes", "true or false"),
        ] {
            let said = Options::default().set(key, text).unwrap_err();
            assert!(said.contains(wanted), "{key}: {text}: {said}");
        }
        let check = |pairs: &[(&str, &str)], first| options(pairs).unwrap().check(first).is_ok();
        assert!(check(&[("after", "15m")], true) && !check(&[("after", "15m")], false));
        assert!(!check(&[("at_most", "1h")], false) && !check(&[("quiet", "2h"), ("at_most", "1h")], false));
    }

    #[test]
    fn named_twice_goes_sooner_and_what_is_urgent_at_once() {
        let terms = |pairs: &[(&str, &str)]| options(pairs).unwrap().terms(Wall(0), None).unwrap();
        let (slow, slower) = (
            terms(&[("delay", "1h"), ("quiet", "5m")]),
            terms(&[("delay", "2h"), ("quiet", "10m")]),
        );
        assert_eq!((slow.sooner(slower), slower.sooner(slow)), (slow, slow));
        assert_eq!(slow.sooner(terms(&[("delay", "2h")])).quiet, None);
        assert_eq!(slow.at_once(), Terms::default());
        let day = terms(&[("quiet", "5h")]).quiet.unwrap();
        assert_eq!(
            (day.at_most, slow.quiet.unwrap().at_most),
            (Duration::from_secs(5 * 3600), AT_MOST)
        );
    }
}
