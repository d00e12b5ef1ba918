//! The calendar of a site: which day it is there, when a day begins and ends, and when the report of the day before is due. A day of a
//! change to summer time has 23 hours, one of the change back 25.
use super::Config;
use crate::base::clock::Wall;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::fmt;

/// A day of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Day(Date);

/// Not a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is not a day: write YYYY-MM-DD")]
pub struct DayError;

impl Day {
    /// # Errors
    /// It is not written `YYYY-MM-DD`, or there is no such day.
    pub fn parse(text: &str) -> Result<Self, DayError> {
        if text.len() != 10 {
            return Err(DayError);
        }
        text.parse().map(Self).map_err(|_| DayError)
    }

    #[must_use]
    pub(super) fn next(self) -> Self {
        Self(self.0.tomorrow().unwrap_or(self.0))
    }

    #[must_use]
    pub(super) fn before(self) -> Self {
        Self(self.0.yesterday().unwrap_or(self.0))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

pub(super) fn time_of(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    if hour.len() != 2 || minute.len() != 2 {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

pub(super) fn zone_of(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// A site's days.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    zone: TimeZone,
    at: Time,
    pub name: String,
}

impl Calendar {
    /// The configuration was checked; what is wrong in it all the same is taken for the default.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            zone: zone_of(&config.zone).unwrap_or(TimeZone::UTC),
            at: time_of(&config.at).unwrap_or(Time::midnight()),
            name: config.zone.clone(),
        }
    }

    fn local(&self, now: Wall) -> jiff::Zoned {
        let micros = i64::try_from(now.0).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(micros)
            .unwrap_or(Timestamp::MAX)
            .to_zoned(self.zone.clone())
    }

    /// The day that it is.
    pub(super) fn today(&self, now: Wall) -> Day {
        Day(self.local(now).date())
    }

    /// Its first moment, and that of the next day.
    pub(super) fn bounds(&self, day: Day) -> (Wall, Wall) {
        (self.begin(day), self.begin(day.next()))
    }

    fn begin(&self, day: Day) -> Wall {
        let begins = day.0.to_zoned(self.zone.clone()).and_then(|at| at.start_of_day());
        let micros = begins.map_or(0, |at| at.timestamp().as_microsecond());
        Wall(u64::try_from(micros).unwrap_or(0))
    }

    /// The last day whose report is due now: yesterday from `at` on, else the day before.
    pub(super) fn due(&self, now: Wall) -> Day {
        let local = self.local(now);
        let yesterday = Day(local.date()).before();
        if local.time() >= self.at {
            yesterday
        } else {
            yesterday.before()
        }
    }

    /// The first day of which reports are kept.
    pub(super) fn first_kept(&self, now: Wall, keep: std::time::Duration) -> Day {
        let days = i64::try_from(keep.as_secs() / 86_400).unwrap_or(i64::MAX).min(36_500);
        let today = self.local(now).date();
        Day(today.checked_sub(days.days()).unwrap_or(today))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str, at: &str) -> Calendar {
        Calendar::of(&Config {
            zone: zone.to_owned(),
            at: at.to_owned(),
            ..Config::default()
        })
    }

    fn wall(text: &str) -> Wall {
        let at: Timestamp = text.parse().unwrap();
        Wall(u64::try_from(at.as_microsecond()).unwrap())
    }

    #[test]
    fn days_begin_where_the_site_is_and_have_23_or_25_hours_when_clocks_change() {
        let berlin = calendar("Europe/Berlin", "03:00");
        assert_eq!(berlin.today(wall("2026-01-01T23:30:00Z")).to_string(), "2026-01-02");
        let hours = |day: &str| {
            let (from, to) = berlin.bounds(Day::parse(day).unwrap());
            to.since(from).as_secs() / 3_600
        };
        assert_eq!(
            (hours("2026-03-29"), hours("2026-10-25"), hours("2026-06-01")),
            (23, 25, 24)
        );
    }

    #[test]
    fn a_report_is_due_from_its_time_of_day_on() {
        let utc = calendar("UTC", "03:00");
        assert_eq!(utc.due(wall("2026-05-10T02:59:59Z")).to_string(), "2026-05-08");
        assert_eq!(utc.due(wall("2026-05-10T03:00:00Z")).to_string(), "2026-05-09");
    }

    #[test]
    fn days_and_times_that_are_none_are_refused() {
        for wrong in [
            "2026-02-30",
            "2026-1-1",
            "yesterday",
            "",
            "20260101",
            "2026-01-01T00:00:00",
        ] {
            assert_eq!(Day::parse(wrong), Err(DayError), "{wrong}");
        }
        for wrong in ["24:00", "3:00", "03.00", "", "03:60"] {
            assert_eq!(time_of(wrong), None, "{wrong}");
        }
        let wrong = Config {
            at: "x".into(),
            zone: "Mars/Base".into(),
            keep: Span::secs(1),
        };
        assert_eq!(wrong.check().len(), 3);
        assert!(Config::default().check().is_empty());
    }

    use crate::base::units::Span;
}
