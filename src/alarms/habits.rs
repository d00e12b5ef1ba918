//! Which hours of the week a source sends in, learned from what it did; and how long it has been silent for. Pure.
//!
//! Each source has 168 hours of the week. At the end of each hour that the box has watched, the hour remembers whether anything
//! came, for the last `WEEKS_KEPT` times. An hour is *expected* when it was watched often enough, the source sent in at least three
//! quarters of those weeks, and in one of the last three: two weeks of holidays unlearn nothing, a machine that is gone
//! is forgotten after three weeks. *Silent time* adds up the expected hours since the last instance, so that a night or a weekend
//! does not count, nor what the box itself has slept through.
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

const HOURS: usize = 168;
/// Weeks that are remembered.
const WEEKS_KEPT: u32 = 12;
/// Of which the latest are judged.
const WEEKS_JUDGED: u32 = 8;
/// Of the judged weeks, in quarters, in which an expected hour has seen something.
const SHARE_QUARTERS: u32 = 3;
/// In one of the latest so many weeks, too.
const WEEKS_FRESH: u32 = 3;
/// The step in which silent time is added up.
const STEP_S: i64 = 15 * 60;
/// How far back silence is counted: longer makes it no worse.
const LOOK_BACK: Duration = Duration::from_secs(7 * 24 * 3600);

/// One hour of the week: how often it was watched, and in which of these weeks something came (the latest is bit 0).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Hour {
    #[serde(rename = "w")]
    weeks: u8,
    #[serde(rename = "s")]
    sent: u16,
}

impl Hour {
    fn note(&mut self, sent: bool) {
        self.sent = (self.sent << 1 | u16::from(sent)) & ((1 << WEEKS_KEPT) - 1);
        self.weeks = self.weeks.saturating_add(1).min(12);
    }

    fn expected(self, weeks_needed: u32) -> bool {
        let weeks = u32::from(self.weeks);
        let judged = weeks.min(WEEKS_JUDGED);
        let latest = |weeks: u32| (u32::from(self.sent) & ((1 << weeks) - 1)).count_ones();
        weeks >= weeks_needed && latest(judged) * 4 >= judged * SHARE_QUARTERS && latest(WEEKS_FRESH) > 0
    }
}

/// What one source does in a week.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Hour>", into = "Vec<Hour>")]
pub struct Habit(Vec<Hour>);

impl Default for Habit {
    fn default() -> Self {
        Self(vec![Hour::default(); HOURS])
    }
}

impl TryFrom<Vec<Hour>> for Habit {
    type Error = &'static str;
    fn try_from(hours: Vec<Hour>) -> Result<Self, Self::Error> {
        if hours.len() == HOURS {
            Ok(Self(hours))
        } else {
            Err("a habit has 168 hours")
        }
    }
}

impl From<Habit> for Vec<Hour> {
    fn from(habit: Habit) -> Self {
        habit.0
    }
}

impl Habit {
    /// The hour that contains `at` has ended, watched by the box.
    pub fn note(&mut self, at: &Zoned, sent: bool) {
        self.0[slot(at)].note(sent);
    }

    /// Whether the source usually sends in the hour that contains `at`.
    #[must_use]
    pub fn expects(&self, at: &Zoned, weeks_needed: u32) -> bool {
        self.0[slot(at)].expected(weeks_needed)
    }
}

fn slot(at: &Zoned) -> usize {
    let day = usize::try_from(at.weekday().to_monday_zero_offset()).unwrap_or(0);
    day * 24 + usize::try_from(at.hour()).unwrap_or(0)
}

/// Hours that the site has written down: `Mon-Fri 07:00-18:00`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    text: String,
    days: Vec<Weekday>,
    /// Minutes of the day; the second is behind the last minute.
    minutes: (i32, i32),
}

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

impl Window {
    fn parse(text: &str) -> Option<Self> {
        let (days, times) = text.split_once(' ')?;
        let day = |name: &str| DAYS.iter().position(|(known, _)| *known == name);
        let mut named = Vec::new();
        for part in days.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (day(from)?, day(to)?);
            let length = (to + 7 - from) % 7;
            named.extend((0..=length).map(|more| DAYS[(from + more) % 7].1));
        }
        let minute = |time: &str| -> Option<i32> {
            let (hour, minute) = time.split_once(':')?;
            let (hour, minute): (i32, i32) = (hour.parse().ok()?, minute.parse().ok()?);
            ((0..24).contains(&hour) && (0..60).contains(&minute) || (hour, minute) == (24, 0))
                .then_some(hour * 60 + minute)
        };
        let (from, to) = times.trim().split_once('-')?;
        let minutes = (minute(from)?, minute(to)?);
        // One over midnight would be of two days: it is written as two.
        (minutes.0 < minutes.1).then(|| Self {
            text: text.to_owned(),
            days: named,
            minutes,
        })
    }

    fn holds(&self, at: &Zoned) -> bool {
        let minute = i32::from(at.hour()) * 60 + i32::from(at.minute());
        self.days.contains(&at.weekday()) && (self.minutes.0..self.minutes.1).contains(&minute)
    }
}

impl TryFrom<String> for Window {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!(
                "`{text}` is no window: write days and hours as \"Mon-Fri 07:00-18:00\" or \"Sat,Sun 08:00-12:00\"; a night is two of them, \
                 \"Mon-Fri 22:00-24:00\" and \"Tue-Sat 00:00-06:00\""
            )
        })
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

/// When a source is expected to send.
#[derive(Clone, Debug)]
pub enum Expected<'a> {
    /// As it did; the number is the weeks that must have been watched.
    Learned(&'a Habit, u32),
    Windows(&'a [Window]),
}

impl Expected<'_> {
    fn at(&self, at: &Zoned) -> bool {
        match self {
            Self::Learned(habit, weeks) => habit.expects(at, *weeks),
            Self::Windows(windows) => windows.iter().any(|window| window.holds(at)),
        }
    }
}

/// How much expected time has passed without an instance. `since` is the last instance or, when later, when the box began to watch;
/// days in `holidays` (`YYYY-MM-DD`) count for nothing.
#[must_use]
pub fn silent_for(
    expected: &Expected<'_>,
    since: Timestamp,
    now: Timestamp,
    zone: &TimeZone,
    holidays: &[String],
) -> Duration {
    let earliest = now.as_second() - i64::try_from(LOOK_BACK.as_secs()).unwrap_or(i64::MAX);
    let mut at = since.as_second().max(earliest);
    let mut silent = 0;
    while at < now.as_second() {
        // To the next quarter of an hour: windows and hours of every zone begin at one.
        let next = (at.div_euclid(STEP_S) * STEP_S + STEP_S).min(now.as_second());
        let local = Timestamp::from_second(at).unwrap_or_default().to_zoned(zone.clone());
        let free = !holidays.is_empty() && holidays.contains(&local.date().to_string());
        if !free && expected.at(&local) {
            silent += next - at;
        }
        at = next;
    }
    Duration::from_secs(u64::try_from(silent).unwrap_or(0))
}

/// Watches the hours go by and teaches the habits. Owned by the alarm's task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    pub sources: BTreeMap<String, Habit>,
    /// When each source sent last (seconds since 1970), across restarts.
    pub last: BTreeMap<String, f64>,
    /// The hour under way: its number since 1970 and how much of it was watched.
    hour: i64,
    watched_s: u64,
}

/// Of an hour, to have watched it.
const WATCHED_S: u64 = 50 * 60;

impl Habits {
    /// A look at the counters: `last` says when each source sent last, `step` how long ago the look before was. True when an hour ended.
    pub fn look(&mut self, now: Timestamp, step: Duration, last: &BTreeMap<String, f64>, zone: &TimeZone) -> bool {
        let hour = now.as_second().div_euclid(3600);
        let mut ended = false;
        if hour != self.hour {
            if self.watched_s >= WATCHED_S && hour == self.hour + 1 {
                self.learn(last, zone);
                ended = true;
            }
            (self.hour, self.watched_s) = (hour, 0);
        }
        self.watched_s += step.as_secs().min(3600);
        for (source, at) in last {
            let known = self.last.entry(source.clone()).or_insert(0.0);
            *known = known.max(*at);
        }
        ended
    }

    /// The hour under way has ended.
    #[allow(clippy::cast_precision_loss)]
    fn learn(&mut self, last: &BTreeMap<String, f64>, zone: &TimeZone) {
        let began = self.hour * 3600;
        let at = Timestamp::from_second(began).unwrap_or_default().to_zoned(zone.clone());
        for source in self.last.keys() {
            let habit = self.sources.entry(source.clone()).or_default();
            // One that sent in the new hour already has most likely sent in the one before; a last time only moves forward.
            let sent = |at: &f64| *at >= began as f64;
            habit.note(
                &at,
                last.get(source).is_some_and(sent) || self.last.get(source).is_some_and(sent),
            );
        }
    }
}

#[cfg(test)]
#[path = "habits_tests.rs"]
mod tests;
