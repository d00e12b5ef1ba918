//! The incident machine, pure: from what is wrong now to what people are told. One incident for each cause.
//!
//! A condition opens an incident when it has lasted; things that began together join one (a cut line takes all destinations with it);
//! an incident resolves when nothing of it was seen for a while, longer each time it comes back, so that one that flaps stays one;
//! it is told once when it opens, when it gets worse or spreads, once a day while nobody has taken it, and when it is over.
//! An operator can take it (`ack`: no reminders, but told when it gets worse) or silence it for a time.
//!
//! Knows no clock, no file and no channel: time comes in, events go out. Its times are steady (never backwards, see `task.rs`).
use super::kind::{Kind, Severity};
use super::silencing::Silence;
use crate::base::clock::Wall;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something that is wrong now.
#[derive(Clone, PartialEq, Debug)]
pub struct Condition {
    pub kind: Kind,
    /// What tells causes of one kind apart; empty for kinds that are grouped by their beginning.
    pub cause: String,
    /// What is affected: a name from configuration or a word.
    pub subject: String,
    /// Rises as it gets worse.
    pub level: u8,
    pub severity: Severity,
    /// For people: figures and reasons of now, no patient data.
    pub detail: String,
    /// How long it must last before anybody is told.
    pub persist: Duration,
}

/// The machine's times.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// An incident ends when nothing of it was seen for this long; twice as long after each return.
    pub resolve_after: Duration,
    /// What begins within this is one incident, for kinds that spread.
    pub group_within: Duration,
    pub remind_every: Duration,
}

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

/// What people were told last.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Told {
    at: Stamp,
    level: u8,
    severity: Severity,
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
}

impl Incident {
    /// One that is none, for trying the channels.
    #[must_use]
    pub fn for_test(id: u64, at: Stamp) -> Self {
        Self {
            id,
            kind: Kind::GateLatched,
            cause: "test".to_owned(),
            since: at,
            affected: BTreeMap::new(),
            returns: 0,
            taken: None,
            told: None,
        }
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

    fn level(&self) -> u8 {
        let seen = self.affected.values().filter(|one| one.gone.is_none());
        seen.map(|one| one.level).max().unwrap_or(0)
    }

    /// What is affected now.
    pub fn active(&self) -> impl Iterator<Item = (&str, &Affected)> {
        let all = self.affected.iter().filter(|(_, one)| one.gone.is_none());
        all.map(|(subject, one)| (subject.as_str(), one))
    }
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

/// Which condition, across looks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Name {
    kind: Kind,
    cause: String,
    subject: String,
}

impl Name {
    fn of(condition: &Condition) -> Self {
        Self {
            kind: condition.kind,
            cause: condition.cause.clone(),
            subject: condition.subject.clone(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ended {
    kind: Kind,
    cause: String,
    subjects: BTreeSet<String>,
    at: Stamp,
}

/// All that is open, on its way, silenced, or just over. Written to disk as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub incidents: Vec<Incident>,
    pub silences: Vec<Silence>,
    /// Since when each condition holds.
    onsets: Vec<(Name, Stamp)>,
    ended: Vec<Ended>,
    last: u64,
}

/// A return within this counts as flapping.
const FLAP_MEMORY: Duration = Duration::from_secs(6 * 3600);
/// Ended incidents that are remembered for it.
const ENDED_MAX: usize = 64;
/// How often the time to resolve is doubled.
const DOUBLINGS_MAX: u32 = 5;
const HOLD_MAX: Duration = Duration::from_secs(2 * 3600);
/// An incident that spreads is told again at most this often.
const WIDER_PAUSE: Duration = Duration::from_secs(60);
/// Conditions that are looked at; more come only from a broken configuration.
const CONDITIONS_MAX: usize = 4096;

impl Machine {
    /// One look at what is wrong now.
    pub fn step(&mut self, now: Wall, conditions: &[Condition], pace: &Pace) -> Vec<Event> {
        let conditions = &conditions[..conditions.len().min(CONDITIONS_MAX)];
        self.silences.retain(|silence| silence.until > now.0);
        let onsets = self.note_onsets(now, conditions);
        let mut pending = self.refresh(conditions);
        pending.sort_by_key(|condition| onsets[&Name::of(condition)]);
        self.admit(now, &pending, &onsets, pace);
        let present: BTreeSet<Name> = conditions.iter().map(Name::of).collect();
        let mut events = self.resolve(now, &present, pace);
        events.extend(self.tell(now, pace));
        events
    }

    /// Somebody takes the incident: no more reminders. Answers its kind; none when there is none of that number.
    pub fn take(&mut self, id: u64, taken: Taken) -> Option<Kind> {
        let incident = self.incidents.iter_mut().find(|incident| incident.id == id)?;
        incident.taken = Some(taken);
        Some(incident.kind)
    }

    /// The number of the next incident, also for a test message.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn note_onsets(&mut self, now: Wall, conditions: &[Condition]) -> BTreeMap<Name, Stamp> {
        let known: BTreeMap<Name, Stamp> = std::mem::take(&mut self.onsets).into_iter().collect();
        let since = |name: Name| {
            let at = known.get(&name).copied().unwrap_or(now.0);
            (name, at)
        };
        let onsets: BTreeMap<Name, Stamp> = conditions.iter().map(Name::of).map(since).collect();
        self.onsets = onsets.clone().into_iter().collect();
        onsets
    }

    /// Brings open incidents up to date; answers the conditions that belong to none.
    fn refresh<'a>(&mut self, conditions: &'a [Condition]) -> Vec<&'a Condition> {
        let mut rest = Vec::new();
        for condition in conditions {
            let own = self.incidents.iter_mut().find(|incident| {
                incident.kind == condition.kind
                    && incident.cause == condition.cause
                    && incident.affected.contains_key(&condition.subject)
            });
            match own.and_then(|incident| incident.affected.get_mut(&condition.subject)) {
                Some(affected) => affected.see(condition),
                None => rest.push(condition),
            }
        }
        rest
    }

    /// Puts what has lasted into an incident, with what began together with it.
    fn admit(&mut self, now: Wall, pending: &[&Condition], onsets: &BTreeMap<Name, Stamp>, pace: &Pace) {
        let since = |condition: &Condition| onsets[&Name::of(condition)];
        let window = micros(pace.group_within);
        for condition in pending {
            if now.0.saturating_sub(since(condition)) < micros(condition.persist) {
                continue;
            }
            if self.has(condition) {
                continue;
            }
            let index = self.place(condition, since(condition), window, now);
            let incident = &mut self.incidents[index];
            incident.add(condition, since(condition));
            if !condition.kind.spreads() {
                continue;
            }
            for other in pending {
                let together = other.kind == condition.kind && since(other).abs_diff(since(condition)) <= window;
                if together && !incident.affected.contains_key(&other.subject) {
                    incident.add(other, since(other));
                }
            }
        }
    }

    fn has(&self, condition: &Condition) -> bool {
        let mut own = self
            .incidents
            .iter()
            .filter(|incident| incident.kind == condition.kind && incident.cause == condition.cause);
        own.any(|incident| incident.affected.contains_key(&condition.subject))
    }

    /// The incident that a condition belongs to, a new one if need be.
    fn place(&mut self, condition: &Condition, since: Stamp, window: u64, now: Wall) -> usize {
        let belongs = |incident: &Incident| {
            let near = || {
                let mut active = incident.active();
                active.any(|(_, one)| one.since.abs_diff(since) <= window)
            };
            incident.kind == condition.kind
                && incident.cause == condition.cause
                && (!condition.kind.spreads() || near())
        };
        if let Some(index) = self.incidents.iter().position(belongs) {
            return index;
        }
        let before = |ended: &&Ended| {
            ended.kind == condition.kind
                && ended.cause == condition.cause
                && (!condition.kind.spreads() || ended.subjects.contains(&condition.subject))
                && now.0.saturating_sub(ended.at) < micros(FLAP_MEMORY)
        };
        let returns = self.ended.iter().filter(before).count();
        let id = self.number();
        self.incidents.push(Incident {
            id,
            kind: condition.kind,
            cause: condition.cause.clone(),
            since,
            affected: BTreeMap::new(),
            returns: u32::try_from(returns).unwrap_or(u32::MAX),
            taken: None,
            told: None,
        });
        self.incidents.len() - 1
    }

    /// Marks what is not seen any more, and ends what has been quiet for long enough.
    fn resolve(&mut self, now: Wall, present: &BTreeSet<Name>, pace: &Pace) -> Vec<Event> {
        let mut events = Vec::new();
        let (mut open, mut over) = (Vec::new(), Vec::new());
        for mut incident in std::mem::take(&mut self.incidents) {
            for (subject, affected) in &mut incident.affected {
                let name = Name {
                    kind: incident.kind,
                    cause: incident.cause.clone(),
                    subject: subject.clone(),
                };
                if !present.contains(&name) {
                    affected.gone.get_or_insert(now.0);
                }
            }
            let hold = hold(pace.resolve_after, incident.returns);
            let quiet = |one: &Affected| one.gone.is_some_and(|at| now.0.saturating_sub(at) >= micros(hold));
            if incident.affected.values().all(quiet) {
                over.push(incident);
            } else {
                open.push(incident);
            }
        }
        self.incidents = open;
        for incident in over {
            self.ended.push(Ended {
                kind: incident.kind,
                cause: incident.cause.clone(),
                subjects: incident.affected.keys().cloned().collect(),
                at: now.0,
            });
            if incident.told.is_some() && !self.silenced(&incident) {
                events.push(Event {
                    news: News::Resolved,
                    at: now.0,
                    incident,
                });
            }
        }
        let spare = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..spare);
        events
    }

    /// What people do not know yet.
    fn tell(&mut self, now: Wall, pace: &Pace) -> Vec<Event> {
        let mut events = Vec::new();
        let silences = std::mem::take(&mut self.silences);
        for incident in &mut self.incidents {
            if silences.iter().any(|silence| silence.covers(incident)) {
                continue;
            }
            if let Some(news) = incident.news(now, pace) {
                incident.note_told(now, news);
                events.push(Event {
                    news,
                    at: now.0,
                    incident: incident.clone(),
                });
            }
        }
        self.silences = silences;
        events
    }

    fn silenced(&self, incident: &Incident) -> bool {
        self.silences.iter().any(|silence| silence.covers(incident))
    }
}

impl Incident {
    fn add(&mut self, condition: &Condition, since: Stamp) {
        self.since = self.since.min(since);
        let affected = Affected {
            since,
            level: condition.level,
            severity: condition.severity,
            detail: condition.detail.clone(),
            gone: None,
        };
        self.affected.insert(condition.subject.clone(), affected);
    }

    fn news(&self, now: Wall, pace: &Pace) -> Option<News> {
        let Some(told) = &self.told else {
            return Some(News::Opened);
        };
        let since = Duration::from_micros(now.0.saturating_sub(told.at));
        if self.level() > told.level || self.severity() > told.severity {
            Some(News::Worse)
        } else if self.affected.len() > told.affected && since >= WIDER_PAUSE.min(pace.remind_every) {
            Some(News::Wider)
        } else if self.taken.is_none() && since >= pace.remind_every && self.active().next().is_some() {
            Some(News::Reminder)
        } else {
            None
        }
    }

    fn note_told(&mut self, now: Wall, news: News) {
        if news == News::Worse {
            // Whoever took it did not know this.
            self.taken = None;
        }
        let before = self.told.as_ref();
        self.told = Some(Told {
            at: now.0,
            // The worst ever told: what swings around a limit is not told each time.
            level: before.map_or(0, |told| told.level).max(self.level()),
            severity: before
                .map_or(Severity::Ticket, |told| told.severity)
                .max(self.severity()),
            affected: self.affected.len(),
        });
    }
}

impl Affected {
    fn see(&mut self, condition: &Condition) {
        self.gone = None;
        self.level = condition.level;
        self.severity = condition.severity;
        self.detail.clone_from(&condition.detail);
    }
}

/// The time without a sign of trouble after which an incident is over.
fn hold(resolve_after: Duration, returns: u32) -> Duration {
    let longer = resolve_after.saturating_mul(1 << returns.min(DOUBLINGS_MAX));
    longer.min(HOLD_MAX.max(resolve_after))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "incident_tests.rs"]
mod tests;
