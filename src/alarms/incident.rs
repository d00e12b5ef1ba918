//! The incident machine, pure: from what is wrong now to what people are told. One incident for each cause.
//!
//! A condition opens an incident when it has lasted; things that began together join one (a cut line takes all destinations with it);
//! an incident resolves when nothing of it was seen for a while, longer each time it comes back, so that one that flaps stays one;
//! it is told once when it opens, when it gets worse or spreads, once a day while nobody has taken it, and when it is over.
//! An operator can take it (`ack`: no reminders, but told when it gets worse) or silence it for a time.
//!
//! Knows no clock, no file and no channel: time comes in, events go out. Its times are steady (never backwards, see `task.rs`).
use super::kind::{Kind, Severity};
pub use super::news::{Event, Incident, News, Stamp, Taken};
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

/// What cannot be judged now, or is told as part of another cause: its incident stays as it is, neither seen nor gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unjudged {
    pub kind: Kind,
    /// None: any.
    pub cause: Option<String>,
    /// None: any.
    pub subject: Option<String>,
}

impl Unjudged {
    /// Everything of a kind.
    #[must_use]
    pub fn all(kind: Kind) -> Self {
        Self {
            kind,
            cause: None,
            subject: None,
        }
    }

    fn covers(&self, kind: Kind, cause: &str, subject: &str) -> bool {
        let is = |own: &Option<String>, name: &str| own.as_ref().is_none_or(|own| own == name);
        self.kind == kind && is(&self.cause, cause) && is(&self.subject, subject)
    }
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

/// What an incident does not affect any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ended {
    kind: Kind,
    cause: String,
    subjects: BTreeSet<String>,
    at: Stamp,
    /// The rest of the incident goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partly: bool,
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
/// Conditions that are looked at; more come only from a broken configuration.
const CONDITIONS_MAX: usize = 4096;

impl Machine {
    /// One look at what is wrong now, and at what cannot be judged.
    pub fn step(&mut self, now: Wall, conditions: &[Condition], unjudged: &[Unjudged], pace: &Pace) -> Vec<Event> {
        let conditions = &conditions[..conditions.len().min(CONDITIONS_MAX)];
        self.silences.retain(|silence| silence.until > now.0);
        let onsets = self.note_onsets(now, conditions, unjudged);
        let mut pending = self.refresh(conditions);
        pending.sort_by_key(|condition| onsets[&Name::of(condition)]);
        self.admit(now, &pending, &onsets, pace);
        let present: BTreeSet<Name> = conditions.iter().map(Name::of).collect();
        let mut events = self.resolve(now, (&present, unjudged), pace);
        for event in &mut events {
            self.leave_out_what_goes_on(event);
        }
        events.extend(self.tell(now, pace));
        events
    }

    /// Somebody takes the incident: no more reminders. Answers its kind; none when there is none of that number.
    pub fn take(&mut self, id: u64, taken: Taken) -> Option<Kind> {
        let incident = self.incidents.iter_mut().find(|incident| incident.id == id)?;
        incident.taken = Some(taken);
        Some(incident.kind)
    }

    /// Takes over a memory that an earlier version has written.
    pub(super) fn adopt(&mut self) {
        self.incidents.iter_mut().for_each(Incident::adopt);
    }

    /// The number of the next incident, also for a test message.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn note_onsets(&mut self, now: Wall, conditions: &[Condition], unjudged: &[Unjudged]) -> BTreeMap<Name, Stamp> {
        let known: BTreeMap<Name, Stamp> = std::mem::take(&mut self.onsets).into_iter().collect();
        let since = |name: Name| {
            let at = known.get(&name).copied().unwrap_or(now.0);
            (name, at)
        };
        let mut onsets: BTreeMap<Name, Stamp> = conditions.iter().map(Name::of).map(since).collect();
        let is_frozen = |name: &Name| {
            unjudged
                .iter()
                .any(|one| one.covers(name.kind, &name.cause, &name.subject))
        };
        let frozen: Vec<(Name, Stamp)> = known
            .iter()
            .filter(|(name, _)| is_frozen(name) && !onsets.contains_key(name))
            .map(|(name, at)| (name.clone(), *at))
            .collect();
        onsets.extend(frozen);
        self.onsets = onsets.clone().into_iter().collect();
        onsets
    }

    /// Brings open incidents up to date; answers the conditions that belong to none.
    fn refresh<'a>(&mut self, conditions: &'a [Condition]) -> Vec<&'a Condition> {
        let mut rest = Vec::new();
        for condition in conditions {
            let own = self.incidents.iter_mut().find(|incident| incident.holds(condition));
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
            if self.incidents.iter().any(|incident| incident.holds(condition)) {
                continue;
            }
            let index = self.place(condition, since(condition), window, now);
            let returns = self.returns(condition, now);
            self.incidents[index].add(condition, since(condition), returns);
            if !condition.kind.spreads() {
                continue;
            }
            for other in pending {
                let together = other.kind == condition.kind && since(other).abs_diff(since(condition)) <= window;
                if together && !self.incidents[index].holds(other) {
                    let returns = self.returns(other, now);
                    self.incidents[index].add(other, since(other), returns);
                }
            }
        }
    }

    /// How often what a condition says had come and gone in the hours before.
    fn returns(&self, condition: &Condition, now: Wall) -> u32 {
        let before = |ended: &&Ended| {
            ended.kind == condition.kind
                && ended.cause == condition.cause
                && ended.subjects.contains(&condition.subject)
                && now.0.saturating_sub(ended.at) < micros(FLAP_MEMORY)
        };
        u32::try_from(self.ended.iter().filter(before).count()).unwrap_or(u32::MAX)
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
                && !ended.partly
                && now.0.saturating_sub(ended.at) < micros(FLAP_MEMORY)
        };
        let returns = if condition.kind.spreads() {
            self.returns(condition, now)
        } else {
            u32::try_from(self.ended.iter().filter(before).count()).unwrap_or(u32::MAX)
        };
        let id = self.number();
        let incident = Incident::new(id, condition.kind, &condition.cause, since, returns);
        self.incidents.push(incident);
        self.incidents.len() - 1
    }

    /// Marks what is not seen any more, lets go of what has been quiet for long enough, and ends what affects nothing any more.
    fn resolve(&mut self, now: Wall, (present, unjudged): (&BTreeSet<Name>, &[Unjudged]), pace: &Pace) -> Vec<Event> {
        let mut events = Vec::new();
        for mut incident in std::mem::take(&mut self.incidents) {
            let (kind, cause, returns) = (incident.kind, incident.cause.clone(), incident.returns);
            let mut leaving = BTreeSet::new();
            for (subject, affected) in incident.affected.iter_mut().filter(|(_, one)| !one.left) {
                let name = Name {
                    kind,
                    cause: cause.clone(),
                    subject: subject.clone(),
                };
                if present.contains(&name) || unjudged.iter().any(|one| one.covers(kind, &cause, subject)) {
                    continue;
                }
                let gone = *affected.gone.get_or_insert(now.0);
                let hold = hold(pace.resolve_after, returns.max(affected.returns));
                if now.0.saturating_sub(gone) >= micros(hold) {
                    affected.left = true;
                    leaving.insert(subject.clone());
                }
            }
            let over = incident.present().next().is_none();
            if over || !leaving.is_empty() {
                self.ended.push(Ended {
                    kind,
                    cause,
                    subjects: leaving,
                    at: now.0,
                    partly: !over,
                });
            }
            if !over {
                self.incidents.push(incident);
            } else if incident.is_told() {
                // Also in a silence: who was told of it waits for its end, and a pager stays open.
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

    /// The end of an incident does not call well what broke again and is another incident by now.
    fn leave_out_what_goes_on(&self, over: &mut Event) {
        let (kind, cause) = (over.incident.kind, over.incident.cause.clone());
        let own = |other: &&Incident| other.kind == kind && other.cause == cause;
        let others = || self.incidents.iter().filter(own).flat_map(Incident::present);
        let is_open = |subject: &String| others().any(|(name, _)| name == subject);
        if !over.incident.affected.keys().all(is_open) {
            over.incident.affected.retain(|subject, _| !is_open(subject));
        }
    }

    /// What people do not know yet.
    fn tell(&mut self, now: Wall, pace: &Pace) -> Vec<Event> {
        let mut events = Vec::new();
        let silences = std::mem::take(&mut self.silences);
        for incident in &mut self.incidents {
            if silences.iter().any(|silence| silence.covers(incident)) {
                incident.hushed |= incident.is_told();
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
