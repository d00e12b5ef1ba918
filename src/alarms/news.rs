//! One incident: what it affects, what people know of it, and what they do not know yet. Pure.
//!
//! What is known is kept for each thing that is affected: a certificate that comes nearer to its end is news, however near another one
//! was that is renewed by now. How many things there ever were, and the worst that there ever was, would hide that.
use super::incident::{Condition, Pace};
use super::kind::{Kind, Severity};
use crate::base::clock::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// One thing that an incident affects.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Affected {
    pub since: Stamp,
    pub level: u8,
    pub severity: Severity,
    pub detail: String,
    /// Not seen any more since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Stamp>,
    /// Gone for so long that what comes back is another beginning. It stays in the incident to be named as recovered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) left: bool,
    /// How often it had come and gone in the hours before.
    #[serde(default)]
    pub(super) returns: u32,
    /// The worst that people were told of it; none: they do not know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<Known>,
}

/// How bad people think that something is.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Known {
    level: u8,
    severity: Severity,
}

impl Known {
    fn or_worse(self, other: Self) -> Self {
        Self {
            level: self.level.max(other.level),
            severity: self.severity.max(other.severity),
        }
    }
}

/// Microseconds of steady time.
pub type Stamp = u64;

/// Who took an incident, and why.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub who: String,
    pub reason: String,
    pub at: Stamp,
}

/// What people were told last, and the worst that they ever were.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Told {
    at: Stamp,
    level: u8,
    severity: Severity,
    /// Names it had then. Earlier versions read it.
    affected: usize,
}

/// One cause, open.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Incident {
    pub id: u64,
    pub kind: Kind,
    pub cause: String,
    /// When it began, not when it was told.
    pub since: Stamp,
    /// By subject; those that recovered stay until all have.
    pub affected: BTreeMap<String, Affected>,
    /// How often it had come and gone in the hours before.
    pub returns: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
    /// People know of it, and a silence has kept it quiet since: its end is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) hushed: bool,
}

/// Why people are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    Opened,
    Worse,
    Wider,
    Reminder,
    Resolved,
    /// Nothing is wrong: somebody tries the channels.
    Test,
}

/// Something to tell, with the incident as it was then.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    pub news: News,
    pub at: Stamp,
    pub incident: Incident,
}

impl Event {
    /// How much it matters, and so who hears of it. The end matters as much as the worst that was told: whoever heard of an incident
    /// hears that it is over.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let worst = self.incident.told.as_ref().map(|told| told.severity);
        match (self.news, worst) {
            (News::Resolved, Some(worst)) => worst,
            _ => self.incident.severity(),
        }
    }
}

/// An incident that spreads is told again at most this often.
const WIDER_PAUSE: Duration = Duration::from_secs(60);

impl Incident {
    /// One that affects nothing yet.
    #[must_use]
    pub(super) fn new(id: u64, kind: Kind, cause: &str, since: Stamp, returns: u32) -> Self {
        Self {
            id,
            kind,
            cause: cause.to_owned(),
            since,
            affected: BTreeMap::new(),
            returns,
            taken: None,
            told: None,
            hushed: false,
        }
    }

    /// One that is none, for trying the channels.
    #[must_use]
    pub fn for_test(id: u64, at: Stamp) -> Self {
        Self::new(id, Kind::GateLatched, "test", at, 0)
    }

    /// The worst of what is affected now (of all that was, when nothing is any more).
    #[must_use]
    pub fn severity(&self) -> Severity {
        let worst = |all: bool| {
            let seen = self.affected.values().filter(|one| all || one.gone.is_none());
            seen.map(|one| one.severity).max()
        };
        worst(false).or_else(|| worst(true)).unwrap_or(Severity::Ticket)
    }

    /// What is affected now.
    pub fn active(&self) -> impl Iterator<Item = (&str, &Affected)> {
        let all = self.affected.iter().filter(|(_, one)| one.gone.is_none());
        all.map(|(subject, one)| (subject.as_str(), one))
    }

    /// What is affected, or was a moment ago.
    pub fn present(&self) -> impl Iterator<Item = (&str, &Affected)> {
        let all = self.affected.iter().filter(|(_, one)| !one.left);
        all.map(|(subject, one)| (subject.as_str(), one))
    }

    /// Whether a condition is of this incident.
    pub(super) fn holds(&self, condition: &Condition) -> bool {
        let own = self.kind == condition.kind && self.cause == condition.cause;
        own && self.affected.get(&condition.subject).is_some_and(|one| !one.left)
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    pub(super) fn add(&mut self, condition: &Condition, since: Stamp, returns: u32) {
        self.since = self.since.min(since);
        let affected = Affected {
            since,
            level: condition.level,
            severity: condition.severity,
            detail: condition.detail.clone(),
            gone: None,
            left: false,
            returns,
            known: None,
        };
        self.affected.insert(condition.subject.clone(), affected);
    }

    /// What people do not know yet; nothing while nothing is affected.
    pub(super) fn news(&self, now: Wall, pace: &Pace) -> Option<News> {
        self.active().next()?;
        let Some(told) = &self.told else {
            return Some(News::Opened);
        };
        let since = Duration::from_micros(now.0.saturating_sub(told.at));
        if self.is_worse() {
            Some(News::Worse)
        } else if self.active().any(|(_, one)| one.known.is_none()) && since >= WIDER_PAUSE.min(pace.remind_every) {
            Some(News::Wider)
        } else if self.hushed || self.taken.is_none() && since >= pace.remind_every {
            Some(News::Reminder)
        } else {
            None
        }
    }

    /// Something is worse than people know of it, or, when they do not know of it, than all that they know of.
    fn is_worse(&self) -> bool {
        let known = self.present().filter_map(|(_, one)| one.known);
        let all = known.reduce(Known::or_worse);
        let worse = |one: &Affected| {
            let known = one.known.or(all);
            known.is_some_and(|known| one.level > known.level || one.severity > known.severity)
        };
        self.active().any(|(_, one)| worse(one))
    }

    pub(super) fn note_told(&mut self, now: Wall, news: News) {
        if news == News::Worse {
            // Whoever took it did not know this.
            self.taken = None;
        }
        self.hushed = false;
        let mut worst = Known {
            level: self.told.as_ref().map_or(0, |told| told.level),
            severity: self.told.as_ref().map_or(Severity::Ticket, |told| told.severity),
        };
        for one in self.affected.values_mut().filter(|one| one.gone.is_none()) {
            let present = Known {
                level: one.level,
                severity: one.severity,
            };
            // The worst ever told: what swings around a limit is not told each time.
            one.known = Some(one.known.map_or(present, |known| known.or_worse(present)));
            worst = worst.or_worse(present);
        }
        self.told = Some(Told {
            at: now.0,
            level: worst.level,
            severity: worst.severity,
            affected: self.affected.len(),
        });
    }

    /// Takes over an incident as an earlier version kept it: what people know stood there for the whole incident only, and a kind that
    /// spreads by now had a cause.
    pub(super) fn adopt(&mut self) {
        if self.kind.spreads() {
            self.cause.clear();
        }
        let Some(told) = &self.told else { return };
        if self.affected.values().all(|one| one.known.is_none()) {
            let known = Known {
                level: told.level,
                severity: told.severity,
            };
            for one in self.affected.values_mut() {
                one.known = Some(known);
            }
        }
    }
}

impl Affected {
    pub(super) fn see(&mut self, condition: &Condition) {
        self.gone = None;
        self.level = condition.level;
        self.severity = condition.severity;
        self.detail.clone_from(&condition.detail);
    }
}
