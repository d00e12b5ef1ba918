//! What is wrong now, from what the box measures of itself: the same numbers that Prometheus sees, and the lanes' own words. Pure.
//!
//! A cause hides what follows from it: while a destination is down, the filling disk is told with it and not beside it; while the
//! box itself refuses instances or its clock is wrong, no modality is called silent and no certificate old. What is hidden is not over:
//! it is said to be unjudged.
use super::clock::Doubt;
use super::config::Config;
use super::incident::{Condition, Unjudged};
use super::kind::{Kind, Severity};
use super::text::{bytes, count, plain, span};
use crate::base::clock::Wall;
use crate::telemetry::metrics::Sample;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is known of the box at one look.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// By the wall clock.
    pub now: Wall,
    /// Counters and gauges by name.
    pub samples: &'a BTreeMap<String, Vec<Sample>>,
    /// The last trouble of each configured destination, in words.
    pub reasons: &'a BTreeMap<String, Option<String>>,
    /// Seconds to deliver what waits, where a pace is known.
    pub drains: &'a BTreeMap<String, Option<f64>>,
    /// Seconds until nothing may come any more; infinite for never.
    pub full_seconds: f64,
    /// Sources that are silent, and for how much of their usual time.
    pub silent: &'a [(String, Duration)],
    /// Sources that the box has not watched for long enough to tell whether they are silent still.
    pub unheard: &'a [String],
    pub doubts: &'a [Doubt],
}

/// What a look finds, in no order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Judgement {
    pub conditions: Vec<Condition>,
    pub unjudged: Vec<Unjudged>,
}

impl Judgement {
    fn push(&mut self, condition: Condition) {
        self.conditions.push(condition);
    }

    /// Whether people hear of a kind.
    fn tells(&self, kind: Kind, config: &Config) -> bool {
        config.watches(kind) && self.conditions.iter().any(|condition| condition.kind == kind)
    }

    /// As `tells`, of one subject.
    fn tells_of(&self, kind: Kind, subject: &str, config: &Config) -> bool {
        let mut same = self.conditions.iter().filter(|condition| condition.kind == kind);
        config.watches(kind) && same.any(|condition| condition.subject == subject)
    }
}

/// Everything that is wrong, and what cannot be judged.
#[must_use]
pub fn judge(facts: &Facts<'_>, config: &Config) -> Judgement {
    let mut found = Judgement::default();
    spool(facts, &mut found);
    destinations(facts, config, &mut found);
    disk(facts, config, &mut found);
    held(facts, config, &mut found);
    rules(facts, config, &mut found);
    books(facts, config, &mut found);
    untold(facts, config, &mut found);
    clock(facts, &mut found);
    let clock_is_right = facts.doubts.is_empty();
    if clock_is_right {
        certificates(facts, &mut found);
    } else {
        found.unjudged.push(Unjudged::all(Kind::CertificateExpiry));
    }
    if clock_is_right && !facts.refuses() {
        silence(facts, &mut found);
    } else {
        found.unjudged.push(Unjudged::all(Kind::SourceSilent));
    }
    // What is switched off is over.
    found.conditions.retain(|condition| config.watches(condition.kind));
    found.unjudged.retain(|unjudged| config.watches(unjudged.kind));
    found
}

impl Facts<'_> {
    fn of(&self, name: &str) -> &[Sample] {
        self.samples.get(name).map_or(&[], Vec::as_slice)
    }

    fn is_set(&self, name: &str) -> bool {
        self.of(name).iter().any(|sample| sample.value > 0.0)
    }

    fn value(&self, name: &str) -> f64 {
        self.of(name).iter().map(|sample| sample.value).sum()
    }

    /// The sums over one label.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<&str, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name) {
            let value = sample.labels.get(label).map_or("", String::as_str);
            *sums.entry(value).or_insert(0.0) += sample.value;
        }
        sums
    }

    /// Modalities are answered A700.
    fn refuses(&self) -> bool {
        self.is_set("waystation_spool_gate_latched") || self.is_set("waystation_spool_low_water")
    }
}

/// A condition with one thing of its kind.
fn single(kind: Kind, severity: Severity, detail: String) -> Condition {
    Condition {
        kind,
        cause: String::new(),
        subject: "box".to_owned(),
        level: 1,
        severity,
        detail,
        persist: Duration::ZERO,
    }
}

/// 1 from one on, 2 from ten, 3 from a hundred: what grows tenfold is worse.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn magnitude(number: f64) -> u8 {
    let tens = (number.max(1.0) as u64).ilog10();
    u8::try_from(tens).unwrap_or(u8::MAX - 1) + 1
}

fn spool(facts: &Facts<'_>, found: &mut Judgement) {
    if facts.is_set("waystation_spool_gate_latched") {
        let detail = "a write or sync of the spool has failed; nothing is acknowledged until it is sound again";
        found.push(single(Kind::GateLatched, Severity::Page, detail.to_owned()));
    }
    if facts.is_set("waystation_spool_low_water") {
        let free = bytes(facts.value("waystation_spool_free_bytes"));
        found.push(single(
            Kind::DiskLow,
            Severity::Page,
            format!("{free} are free on the spool's disk"),
        ));
    }
    let damaged = facts.value("waystation_spool_damaged");
    if damaged > 0.0 {
        let detail = format!(
            "{} cannot be delivered as they lie on the disk",
            count(damaged, "instance")
        );
        found.push(Condition {
            // One may be chance; a second one says that the disk is dying.
            level: magnitude(damaged) + u8::from(damaged > 1.0),
            ..single(Kind::SpoolDamaged, Severity::Page, detail)
        });
    }
    if facts.is_set("waystation_salvage_unacknowledged") {
        let detail = "the index was made anew, or the spool is an older copy; a report of what is lost or doubtful waits to be read";
        found.push(single(Kind::SalvageUnread, Severity::Page, detail.to_owned()));
    }
    if facts.is_set("waystation_state_unwritten") {
        let detail = "writing to the folder `node.state` fails; the log says with which error";
        found.push(single(Kind::StateUnwritten, Severity::Ticket, detail.to_owned()));
    }
}

fn destinations(facts: &Facts<'_>, config: &Config, found: &mut Judgement) {
    let queued = facts.by("waystation_jobs_queued", "destination");
    for (name, jobs) in facts.by("waystation_jobs_unconfigured", "destination") {
        if jobs > 0.0 {
            let detail = format!("{} for it, and nobody delivers them", count(jobs, "waiting job"));
            found.push(Condition {
                subject: name.to_owned(),
                ..single(Kind::DestinationUnconfigured, Severity::Ticket, detail)
            });
        }
    }
    for (name, up) in facts.by("waystation_destination_up", "destination") {
        let waiting = queued.get(name).copied().unwrap_or(0.0);
        if up > 0.0 || waiting <= 0.0 {
            continue;
        }
        let (level, severity) = fill_level(facts, config).unwrap_or((0, Severity::Ticket));
        found.push(Condition {
            subject: name.to_owned(),
            level: level + 1,
            persist: config.destination_down_after.0,
            ..single(Kind::DestinationDown, severity, outage(facts, name, waiting))
        });
    }
    for (name, suspended) in facts.by("waystation_destination_suspended", "destination") {
        if suspended > 0.0 {
            let detail = format!(
                "{} for it",
                count(queued.get(name).copied().unwrap_or(0.0), "waiting job")
            );
            found.push(Condition {
                cause: name.to_owned(),
                subject: name.to_owned(),
                persist: config.suspended_after.0,
                ..single(Kind::DestinationSuspended, Severity::Ticket, detail)
            });
        }
    }
}

/// An outage in figures.
fn outage(facts: &Facts<'_>, name: &str, waiting: f64) -> String {
    let mut words = count(waiting, "waiting job");
    let ages = facts.by("waystation_oldest_job_age_seconds", "destination");
    if let Some(age) = ages.get(name).filter(|age| **age > 0.0) {
        words += &format!(", the oldest for {}", span(*age));
    }
    words += match facts.reasons.get(name) {
        Some(Some(reason)) => format!("; last trouble: {}", plain(reason)),
        Some(None) | None => String::new(),
    }
    .as_str();
    words += &match facts.drains.get(name).copied().flatten() {
        Some(seconds) if seconds.is_finite() => {
            format!("; once it answers they are delivered in about {}", span(seconds))
        }
        Some(_) => "; it takes less than arrives, so that they would not be delivered in a foreseeable time".to_owned(),
        None => "; how fast it takes them is not known yet".to_owned(),
    };
    words += &if facts.full_seconds.is_finite() {
        format!(
            "; at the present rate the disk has room for {}",
            span(facts.full_seconds)
        )
    } else {
        "; the disk is not filling".to_owned()
    };
    words
}

/// How soon the disk is full: nothing, a ticket, or a page.
fn fill_level(facts: &Facts<'_>, config: &Config) -> Option<(u8, Severity)> {
    if facts.full_seconds <= config.disk_full_page.0.as_secs_f64() {
        Some((2, Severity::Page))
    } else if facts.full_seconds <= config.disk_full_within.0.as_secs_f64() {
        Some((1, Severity::Ticket))
    } else {
        None
    }
}

fn disk(facts: &Facts<'_>, config: &Config, found: &mut Judgement) {
    if let Some((level, severity)) = fill_level(facts, config) {
        if found.tells(Kind::DestinationDown, config) || found.tells(Kind::DiskLow, config) {
            found.unjudged.push(Unjudged::all(Kind::DiskFills));
            return;
        }
        let room = bytes(facts.value("waystation_spool_room_bytes"));
        let detail = format!(
            "room for {room} more, which lasts {} at the present rate",
            span(facts.full_seconds)
        );
        found.push(Condition {
            level,
            persist: FILLS_AFTER,
            ..single(Kind::DiskFills, severity, detail)
        });
    }
}

/// A burst is no trend.
const FILLS_AFTER: Duration = Duration::from_secs(600);
/// A rule that fails is looked at soon; a minute lets one mistake be one message.
const RULE_FAILURE_AFTER: Duration = Duration::from_secs(60);
/// The kind of hold of a job whose payload is damaged, as the metric names it.
const CORRUPT: &str = "corrupt";

fn held(facts: &Facts<'_>, config: &Config, found: &mut Judgement) {
    let failures = facts.by("waystation_rule_failures_held", "kind");
    for sample in facts
        .of("waystation_jobs_held")
        .iter()
        .filter(|sample| sample.value > 0.0)
    {
        let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
        let kind = label("kind");
        if kind == CORRUPT && found.tells(Kind::SpoolDamaged, config) {
            found.unjudged.push(Unjudged {
                cause: Some(kind),
                ..Unjudged::all(Kind::JobsHeld)
            });
            continue;
        }
        let failed = failures.get(kind.as_str()).is_some_and(|held| *held > 0.0);
        let (severity, persist) = if failed {
            (Severity::Page, RULE_FAILURE_AFTER.min(config.holds_after.0))
        } else {
            (Severity::Ticket, config.holds_after.0)
        };
        found.push(Condition {
            detail: count(sample.value, "held job"),
            cause: kind,
            subject: label("destination"),
            level: magnitude(sample.value),
            persist,
            ..single(Kind::JobsHeld, severity, String::new())
        });
    }
}

fn rules(facts: &Facts<'_>, config: &Config, found: &mut Judgement) {
    let detail = if facts.is_set("waystation_rules_reload_failed") {
        "the rule folder on the disk is refused; an older set decides"
    } else if facts.is_set("waystation_rules_stale") {
        "the rule folder on the disk was changed after it was loaded; the older set decides"
    } else {
        return;
    };
    found.push(Condition {
        persist: config.rules_stale_after.0,
        ..single(Kind::RulesStale, Severity::Ticket, detail.to_owned())
    });
}

/// What archives have not committed, and what the daily reconciliation has found.
fn books(facts: &Facts<'_>, config: &Config, found: &mut Judgement) {
    let up = facts.by("waystation_destination_up", "destination");
    let asked = facts.by("waystation_commitment_outstanding_requests", "destination");
    let strangers = facts.by("waystation_jobs_unconfigured", "destination");
    let is_stranger = |name: &str| strangers.get(name).is_some_and(|jobs| *jobs > 0.0);
    for (name, age) in facts.by("waystation_commitment_oldest_seconds", "destination") {
        if age < config.commitment_after.0.as_secs_f64() {
            continue;
        }
        // One that is down, or not configured, answers nothing: as long as that is told, it is enough.
        let down = up.get(name).is_some_and(|up| *up <= 0.0);
        if down && found.tells_of(Kind::DestinationDown, name, config)
            || is_stranger(name) && found.tells(Kind::DestinationUnconfigured, config)
        {
            found.unjudged.push(Unjudged {
                subject: Some(name.to_owned()),
                ..Unjudged::all(Kind::CommitmentLate)
            });
            continue;
        }
        let mut detail = format!("the oldest has waited for {}", span(age));
        detail += if down { ", and the destination is down" } else { "" };
        // Of one that is asked the requests are counted, also when there is none.
        if !asked.contains_key(name) {
            detail += ", and nobody asks: the destination has no `commitment` in the configuration";
        }
        found.push(Condition {
            cause: name.to_owned(),
            subject: name.to_owned(),
            ..single(Kind::CommitmentLate, Severity::Ticket, detail)
        });
    }
    for (kind, differences) in facts.by("waystation_reconcile_differences", "kind") {
        if differences > 0.0 {
            found.push(Condition {
                subject: kind.to_owned(),
                ..single(
                    Kind::ReconciliationDiffers,
                    Severity::Ticket,
                    count(differences, "difference"),
                )
            });
        }
    }
    for sample in facts
        .of("waystation_certificate_reload_failed")
        .iter()
        .filter(|sample| sample.value > 0.0)
    {
        let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
        let subject = format!("{} {}", label("role"), label("name"));
        found.push(Condition {
            cause: subject.clone(),
            subject,
            persist: config.rules_stale_after.0,
            ..single(
                Kind::CertificateRefused,
                Severity::Ticket,
                "the files on the disk do not fit".to_owned(),
            )
        });
    }
}

/// Answers about storage commitment that sources do not take.
fn untold(facts: &Facts<'_>, config: &Config, found: &mut Judgement) {
    for (name, age) in facts.by("waystation_commitment_demands_oldest_seconds", "source") {
        // One that waits for an archive is that archive's trouble.
        let is_decided = |sample: &&Sample| {
            let label = |label: &str| sample.labels.get(label).map(String::as_str);
            label("source") == Some(name) && label("state") == Some("decided") && sample.value > 0.0
        };
        let decided = facts
            .of("waystation_commitment_demands_open")
            .iter()
            .any(|sample| is_decided(&sample));
        if age >= config.commitment_after.0.as_secs_f64() && decided {
            found.push(Condition {
                cause: name.to_owned(),
                subject: name.to_owned(),
                ..single(
                    Kind::CommitmentUntold,
                    Severity::Ticket,
                    format!("the oldest request is {} old", span(age)),
                )
            });
        }
    }
}

/// Days before the end, with level and severity; the narrowest that holds.
const EXPIRY: [(f64, u8, Severity); 4] = [
    (0.0, 4, Severity::Page),
    (7.0, 3, Severity::Page),
    (14.0, 2, Severity::Ticket),
    (30.0, 1, Severity::Ticket),
];

fn certificates(facts: &Facts<'_>, found: &mut Judgement) {
    for sample in facts.of("waystation_certificate_expiry_timestamp_seconds") {
        let left = sample.value - facts.now.seconds();
        let Some((_, level, severity)) = EXPIRY.into_iter().find(|(days, ..)| left <= days * 86_400.0) else {
            continue;
        };
        let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
        let detail = if left > 0.0 {
            format!("ends in {}", span(left))
        } else {
            format!("ended {} ago", span(-left))
        };
        found.push(Condition {
            subject: format!("{} {}", label("role"), label("name")),
            level,
            ..single(Kind::CertificateExpiry, severity, detail)
        });
    }
}

fn clock(facts: &Facts<'_>, found: &mut Judgement) {
    for doubt in facts.doubts {
        let way = |seconds: f64, ahead: &'static str, behind: &'static str| if seconds > 0.0 { ahead } else { behind };
        let (severity, detail) = match doubt {
            Doubt::BeforeBuild => (
                Severity::Page,
                format!("it says {}, which is before this program was built", facts.now.iso()),
            ),
            Doubt::Jumped(by) => {
                let way = way(*by, "ahead", "back");
                (Severity::Ticket, format!("it has jumped {way} by {}", span(by.abs())))
            }
            Doubt::Peers(by) => {
                let way = way(*by, "behind", "ahead of");
                (
                    Severity::Ticket,
                    format!("it is {} {way} the clocks of all modalities", span(by.abs())),
                )
            }
        };
        found.push(Condition {
            subject: doubt.word().to_owned(),
            ..single(Kind::ClockImplausible, severity, detail)
        });
    }
}

fn silence(facts: &Facts<'_>, found: &mut Judgement) {
    found.unjudged.extend(facts.unheard.iter().map(|source| Unjudged {
        subject: Some(source.clone()),
        ..Unjudged::all(Kind::SourceSilent)
    }));
    for (source, silent) in facts.silent {
        let detail = format!(
            "nothing for {} of the time in which it usually sends",
            span(silent.as_secs_f64())
        );
        found.push(Condition {
            subject: source.clone(),
            ..single(Kind::SourceSilent, Severity::Ticket, detail)
        });
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
