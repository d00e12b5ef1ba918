//! `[[destinations.ceiling]]`: how much of the line a destination may take, by time of day and day of the week.
//!
//! Which window holds is a pure function of the time; the first that fits wins, and outside all of them there is no ceiling.
//! What is sent is booked in one `Governor` for all associations of a destination: bytes leave in the order in which they were
//! booked, so that associations share the rate. TLS and P-DATA headers count, TCP and IP headers do not; what comes back is free.
use crate::base::clock::{Clock, Wall};
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// One window as it is configured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Times of day, `HH:MM`. A window whose end is not later than its start goes over midnight, and belongs to the day it starts on.
    #[serde(default = "midnight")]
    pub from: String,
    #[serde(default = "midnight")]
    pub to: String,
    /// `mon` to `sun`, or ranges as `mon-fri`. None means every day.
    #[serde(default)]
    pub days: Vec<String>,
    pub rate: Rate,
    /// The IANA time zone of the times. Default: the site's, `rules.zone`.
    #[serde(default)]
    pub zone: Option<String>,
}

/// Bits in a second, written `"20Mbit"`, `"512kbit"`, `"1Gbit"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a rate: write a whole number with kbit, Mbit or Gbit, such as \"20Mbit\"");
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let count: u64 = trimmed[..digits].parse().map_err(|_| wrong())?;
        let unit: u64 = match trimmed[digits..].trim().trim_end_matches("/s") {
            "kbit" => 1_000,
            "Mbit" => 1_000_000,
            "Gbit" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        count.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, word) in [(1_000_000_000, "Gbit"), (1_000_000, "Mbit")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{word}", self.0 / unit);
            }
        }
        write!(f, "{}kbit", self.0 / 1_000)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::base::units::from_text(deserializer, "a rate in quotes, such as \"20Mbit\"")
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A window, read.
#[derive(Clone, Debug)]
struct Hours {
    from: Time,
    to: Time,
    /// Monday first.
    days: [bool; 7],
    zone: TimeZone,
    rate: Rate,
}

impl Window {
    /// Everything wrong with it, each with its key first.
    pub(super) fn check(&self, place: &str) -> Vec<String> {
        let faults = [
            ("from", time(&self.from).err()),
            ("to", time(&self.to).err()),
            ("days", days(&self.days).err()),
            ("rate", self.rate().err()),
            ("zone", self.zone().err()),
        ];
        let wrong = faults.into_iter().filter_map(|(key, what)| Some((key, what?)));
        wrong.map(|(key, what)| format!("{place}.{key}: {what}")).collect()
    }

    fn hours(&self) -> Result<Hours, String> {
        Ok(Hours {
            from: time(&self.from)?,
            to: time(&self.to)?,
            days: days(&self.days)?,
            zone: self.zone()?,
            rate: self.rate()?,
        })
    }

    fn zone(&self) -> Result<TimeZone, String> {
        let name = self.zone.as_deref();
        let name = name.ok_or("write an IANA time zone here, or the site's as `rules.zone`")?;
        TimeZone::get(name).map_err(|_| format!("`{name}` is not an IANA time zone"))
    }

    fn rate(&self) -> Result<Rate, String> {
        if self.rate < RATE_MIN {
            return Err(format!("write at least {RATE_MIN}: below it deliveries would time out"));
        }
        Ok(self.rate)
    }
}

impl Hours {
    fn hold(&self, at: Wall) -> bool {
        let seconds = i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX);
        let Ok(at) = jiff::Timestamp::from_second(seconds) else {
            return false;
        };
        let local = at.to_zoned(self.zone.clone());
        let (today, time) = (local.weekday(), local.time());
        let on = |day: Weekday| self.days[day.to_monday_zero_offset().unsigned_abs() as usize];
        if self.from < self.to {
            return on(today) && self.from <= time && time < self.to;
        }
        (on(today) && time >= self.from) || (on(today.previous()) && time < self.to)
    }
}

fn time(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is not a time of day: write HH:MM, from 00:00 to 23:59");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let is_number = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| part.parse::<i8>().ok().filter(|_| is_number(part));
    match (number(hour), number(minute)) {
        (Some(hour), Some(minute)) => Time::new(hour, minute, 0, 0).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn days(words: &[String]) -> Result<[bool; 7], String> {
    if words.is_empty() {
        return Ok([true; 7]);
    }
    let day = |word: &str| DAYS.iter().position(|known| *known == word.trim().to_ascii_lowercase());
    let mut found = [false; 7];
    for word in words {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (Some(first), Some(last)) = (day(first), day(last)) else {
            return Err(format!(
                "`{word}` is no day: write mon, tue, wed, thu, fri, sat, sun, or a range as mon-fri"
            ));
        };
        let length = (last + 7 - first) % 7;
        for step in 0..=length {
            found[(first + step) % 7] = true;
        }
    }
    Ok(found)
}

fn midnight() -> String {
    "00:00".to_owned()
}

/// The bucket of one destination. Clones share it.
#[derive(Clone, Debug)]
pub struct Governor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hours: Vec<Hours>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When what was booked so far has left.
    free_at: Instant,
    /// The rate in force, and when that was looked up.
    rate: Option<Rate>,
    looked: Option<Instant>,
}

impl Governor {
    /// `None` without windows. One that `check` refuses is left out.
    #[must_use]
    pub fn new(windows: &[Window], clock: &Clock) -> Option<Self> {
        let hours: Vec<Hours> = windows.iter().filter_map(|window| window.hours().ok()).collect();
        if hours.is_empty() {
            return None;
        }
        let state = State {
            free_at: Instant::now(),
            rate: None,
            looked: None,
        };
        Some(Self(Arc::new(Inner {
            hours,
            clock: clock.clone(),
            state: Mutex::new(state),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ceiling in force now, in bits a second.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.look(&mut self.lock(), Instant::now()).map(|rate| rate.0)
    }

    fn look(&self, state: &mut State, now: Instant) -> Option<Rate> {
        if state.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK) {
            let wall = self.0.clock.now();
            state.rate = self
                .0
                .hours
                .iter()
                .find(|hours| hours.hold(wall))
                .map(|hours| hours.rate);
            state.looked = Some(now);
        }
        state.rate
    }

    /// Books up to `wanted` bytes: how many, and when they may leave.
    pub(super) fn book(&self, wanted: usize, now: Instant) -> (usize, Instant) {
        let mut state = self.lock();
        let Some(rate) = self.look(&mut state, now) else {
            return (wanted, now);
        };
        let quantum = usize::try_from(rate.0 / 8 / QUANTA).unwrap_or(usize::MAX);
        let count = wanted.min(quantum.clamp(SEGMENT, QUANTUM_MAX));
        // What was not used is lost, but for a short burst.
        let leaves = state.free_at.max(now.checked_sub(BURST).unwrap_or(now));
        state.free_at = leaves + time_of(count, rate);
        (count, leaves.max(now))
    }

    /// Gives back what was booked and not sent.
    pub(super) fn refund(&self, count: usize) {
        let mut state = self.lock();
        if let Some(rate) = state.rate.filter(|_| count > 0) {
            let at = state.free_at;
            state.free_at = at.checked_sub(time_of(count, rate)).unwrap_or(at);
        }
    }
}

fn time_of(count: usize, rate: Rate) -> Duration {
    let bits = (count as u64).saturating_mul(8);
    Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate.0.max(1))
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// 256 KiB, the largest write, must leave within the shortest sensible `timeouts.transfer`.
const RATE_MIN: Rate = Rate(64_000);
/// The rate in force is looked up this often.
const LOOK: Duration = Duration::from_secs(1);
/// What a quiet line may make up for.
const BURST: Duration = Duration::from_millis(20);
/// Bookings in a second, so that associations take turns.
const QUANTA: u64 = 50;
const SEGMENT: usize = 1_460;
const QUANTUM_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str, days: &[&str], rate: u64) -> Window {
        Window {
            from: from.to_owned(),
            to: to.to_owned(),
            days: days.iter().map(|day| (*day).to_owned()).collect(),
            rate: Rate(rate),
            zone: Some("Europe/Berlin".to_owned()),
        }
    }

    fn at(text: &str) -> Wall {
        let seconds = text.parse::<jiff::Timestamp>().unwrap().as_second();
        Wall(seconds.unsigned_abs() * 1_000_000)
    }

    #[test]
    fn windows_hold_by_local_time_and_day() {
        let work = window("07:00", "19:00", &["mon-fri"], 20_000_000);
        let night = window("22:00", "06:00", &["fri", "Sat"], 20_000_000);
        let always = window("00:00", "00:00", &[], 20_000_000);
        // 2026-06-01 is a Monday; Berlin is two hours ahead in summer, one in winter.
        let table = [
            (&work, "2026-06-01T04:59:59Z", false),
            (&work, "2026-06-01T05:00:00Z", true),
            (&work, "2026-06-01T16:59:59Z", true),
            (&work, "2026-06-01T17:00:00Z", false),
            (&work, "2026-05-31T10:00:00Z", false),
            (&work, "2026-12-01T05:30:00Z", false),
            (&work, "2026-12-01T06:00:00Z", true),
            (&night, "2026-06-05T20:00:00Z", true),
            (&night, "2026-06-06T03:59:00Z", true),
            (&night, "2026-06-07T03:59:00Z", true),
            (&night, "2026-06-08T03:59:00Z", false),
            (&night, "2026-06-04T21:00:00Z", false),
            (&always, "2026-06-04T21:00:00Z", true),
        ];
        for (window, when, expected) in table {
            assert_eq!(window.hours().unwrap().hold(at(when)), expected, "{when} {window:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_key() {
        let good = window("07:00", "19:00", &[], 20_000_000);
        assert!(good.check("ceiling[0]").is_empty());
        let table = [
            (
                "ceiling[0].from",
                Window {
                    from: "7".into(),
                    ..good.clone()
                },
            ),
            (
                "ceiling[0].to",
                Window {
                    to: "24:00".into(),
                    ..good.clone()
                },
            ),
            (
                "ceiling[0].days",
                Window {
                    days: vec!["mo".into()],
                    ..good.clone()
                },
            ),
            (
                "ceiling[0].zone",
                Window {
                    zone: Some("Mars".into()),
                    ..good.clone()
                },
            ),
            (
                "ceiling[0].zone",
                Window {
                    zone: None,
                    ..good.clone()
                },
            ),
            (
                "ceiling[0].rate",
                Window {
                    rate: Rate(1_000),
                    ..good.clone()
                },
            ),
        ];
        for (key, window) in table {
            let wrong = window.check("ceiling[0]");
            assert!(wrong.len() == 1 && wrong[0].starts_with(key), "{key}: {wrong:?}");
        }
    }

    #[test]
    fn rates_are_written_with_their_unit() {
        for (text, bits) in [
            ("20Mbit", 20_000_000),
            ("512kbit", 512_000),
            ("1 Gbit/s", 1_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bits)));
        }
        for text in ["20", "20MB", "Mbit", "-1Mbit", "99999999999999999Gbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!(Rate(20_000_000).to_string(), "20Mbit");
        assert_eq!(Rate(1_500_000).to_string(), "1500kbit");
    }

    #[tokio::test(start_paused = true)]
    async fn all_associations_together_keep_to_the_rate() {
        let clock = Clock::manual(at("2026-06-01T10:00:00Z"));
        let governor = Governor::new(&[window("07:00", "19:00", &[], 8_000_000)], &clock).unwrap();
        let start = Instant::now();
        let mut associations = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let governor = governor.clone();
            associations.spawn(async move {
                let mut left = 500_000_usize;
                while left > 0 {
                    let (count, at) = governor.book(left, Instant::now());
                    tokio::time::sleep_until(at).await;
                    left -= count;
                }
                Instant::now()
            });
        }
        let ends = associations.join_all().await;
        // Two megabytes at one a second, and nobody is left behind.
        let last = ends.iter().max().unwrap().saturating_duration_since(start);
        let first = ends.iter().min().unwrap().saturating_duration_since(start);
        assert!((1_900..2_050).contains(&last.as_millis()), "{last:?}");
        assert!(first > Duration::from_millis(1_700), "{first:?}");
        clock.advance(Duration::from_secs(12 * 3_600));
        tokio::time::sleep(LOOK).await;
        assert_eq!(governor.rate(), None, "the evening has no ceiling");
        assert_eq!(governor.book(1 << 20, Instant::now()).0, 1 << 20);
    }
}
