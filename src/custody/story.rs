//! The facts about one instance as a story: steps in their order, and where each delivery stands. Pure.
use crate::base::clock::Wall;
use crate::spool::{Arrival, Fact, FactKind, HeldJob, Look};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One step, as people read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    pub at: String,
    pub at_us: u64,
    /// `received`, `decided`, `stored`, `queued`, `held`, `delivered`, …: see docs/ledger.md.
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Where one delivery stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub job: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// `queued`, `held`, `sent` (its commitment is still to come), `delivered`, `committed`, `not_committed`, `discarded`, `rerouted`, `redecided`, `replaced`, `recovered`.
    pub state: String,
    pub since: String,
    pub attempts: u64,
}

/// The custody of one instance.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Story {
    pub instance: String,
    /// Where the instance is: `here` (deliveries are open), `cache` (all have ended), `gone` (its payload has left).
    pub place: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// BLAKE3 of the data set as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// Whether its payload is known to be damaged or missing.
    pub damaged: bool,
    /// For a caller that may see it, as far as the payload is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<super::patient::Patient>,
    pub deliveries: Vec<Delivery>,
    pub steps: Vec<Step>,
}

impl Story {
    /// What a look at the spool tells.
    #[must_use]
    pub fn of(look: &Look) -> Self {
        let mut story = Self {
            instance: look.id.to_string(),
            place: match &look.holding {
                Some(holding) if holding.delivered => "cache",
                Some(_) => "here",
                None => "gone",
            }
            .to_owned(),
            ..Self::default()
        };
        if let Some(arrival) = arrival(&look.facts) {
            story.source = Some(arrival.source.to_string());
            story.sop_class = Some(arrival.sop_class.clone());
            story.sop_instance = Some(arrival.sop_instance.clone());
            story.study.clone_from(&arrival.study);
            story.length = Some(arrival.length);
            story.digest = Some(arrival.digest.clone());
            story.rules = Some(arrival.rules.clone());
        }
        if let Some(holding) = &look.holding {
            let i = &holding.instance;
            story.source = Some(i.source.to_string());
            story.sop_class = Some(i.sop_class.to_string());
            story.sop_instance = Some(i.sop_instance.to_string());
            story.study = i.study.as_ref().map(ToString::to_string);
            story.length = Some(i.length);
            story.digest = Some(i.digest.iter().map(|byte| format!("{byte:02x}")).collect());
            story.rules = Some(format!("{:016x}", i.rule_epoch));
            story.damaged = holding.damaged || holding.file != Some(holding.expected);
        }
        story.steps = look.facts.iter().flat_map(steps).collect();
        story.deliveries = deliveries(&look.facts);
        let open = look.holding.iter().flat_map(|holding| &holding.jobs);
        for job in open.filter(|job| job.record) {
            // Its lines have gone with `ledger.keep`: the queue knows it still.
            if !story.deliveries.iter().any(|told| told.job == job.job) {
                story.deliveries.push(queued(job));
            }
        }
        story
    }
}

/// An open job as the queue has it.
fn queued(job: &HeldJob) -> Delivery {
    let (state, since) = match &job.hold {
        Some((since, _)) => ("held", *since),
        None if job.sent => ("sent", job.enqueued),
        None => ("queued", job.enqueued),
    };
    Delivery {
        job: job.job,
        destination: job.destination.as_ref().map(ToString::to_string),
        state: state.to_owned(),
        since: since.iso(),
        attempts: job.attempts.into(),
    }
}

/// The arrival of the instance itself, and not of a repeat of it.
fn arrival(facts: &[Fact]) -> Option<&Arrival> {
    let own = facts
        .iter()
        .find(|fact| matches!(fact.kind, FactKind::Stored | FactKind::Conflict));
    own.and_then(Fact::arrival)
}

/// The word of a kind of fact.
#[must_use]
pub fn word(kind: FactKind) -> &'static str {
    match kind {
        FactKind::Stored => "stored",
        FactKind::Repeated => "repeated",
        FactKind::Conflict => "conflict",
        FactKind::Queued => "queued",
        FactKind::Attempted => "attempt",
        FactKind::Confirmed => "delivered",
        FactKind::Retry => "attempt",
        FactKind::Sent => "sent",
        FactKind::CommitmentAsked => "commitment_asked",
        FactKind::CommitmentRefused => "not_committed",
        FactKind::CommitmentGivenUp => "commitment_given_up",
        FactKind::CommitmentRequested => "commitment_requested",
        FactKind::CommitmentAnswered => "commitment_answered",
        FactKind::Converted => "converted",
        FactKind::Held => "held",
        FactKind::Released => "released",
        FactKind::Rerouted => "rerouted",
        FactKind::Discarded => "discarded",
        FactKind::Redecided => "redecided",
        FactKind::Suspended => "suspended",
        FactKind::Resumed => "resumed",
        FactKind::Evicted => "evicted",
        FactKind::Quarantined => "damaged",
        FactKind::Recovered => "recovered",
        FactKind::Rules => "rules",
        FactKind::Healed => "healed",
        FactKind::Acknowledged => "acknowledged",
        FactKind::Refused => "refused",
        FactKind::Accessed => "accessed",
        FactKind::Pruned => "pruned",
        FactKind::Break => "break",
        FactKind::Migrated => "migrated",
    }
}

/// The word under which a line is told.
#[must_use]
pub fn headline(fact: &Fact) -> &'static str {
    match fact {
        fact if fact.is_commitment() => "committed",
        fact if fact.is_unanswered() => "commitment_unanswered",
        // Decided for the instance, and told with its whole request, which has a line of its own.
        fact if fact.kind == FactKind::CommitmentAnswered && fact.instance.is_some() => "commitment_decided",
        fact => word(fact.kind),
    }
}

/// Every word of `headline`, each once.
#[must_use]
pub fn words() -> Vec<&'static str> {
    let mut all = vec!["committed", "commitment_unanswered", "commitment_decided"];
    all.extend(FactKind::ALL.map(word));
    all.sort_unstable();
    all.dedup();
    all
}

fn step(at_us: u64, what: &str, text: String) -> Step {
    Step {
        at: Wall(at_us).iso(),
        at_us,
        what: what.to_owned(),
        job: None,
        destination: None,
        who: None,
        text,
    }
}

/// A fact as one step.
#[must_use]
pub fn own(fact: &Fact) -> Step {
    Step {
        job: fact.job,
        destination: fact.destination.as_ref().map(ToString::to_string),
        who: fact.who.clone(),
        ..step(fact.at().0, headline(fact), fact.text.clone())
    }
}

/// A fact as steps: an arrival is one line of the ledger and four steps of the custody.
fn steps(fact: &Fact) -> Vec<Step> {
    let own = own(fact);
    let Some(arrival) = fact.arrival() else {
        return vec![own];
    };
    let route = format!("{} ({} to {})", arrival.source, arrival.calling, arrival.called);
    if fact.kind == FactKind::Repeated {
        return vec![Step {
            text: format!("the same content again, from {route}"),
            ..own
        }];
    }
    let mut steps = vec![
        step(
            arrival.received_us,
            "received",
            format!("from {route}, {} bytes, {}", arrival.length, arrival.syntax),
        ),
        step(fact.at().0, "decided", format!("by rules {}", arrival.rules)),
        Step {
            text: match fact.kind {
                FactKind::Conflict => "on the disk; its SOP Instance UID was known with other content".to_owned(),
                _ => format!("on the disk, BLAKE3 {}", arrival.digest),
            },
            ..own
        },
    ];
    for job in arrival.jobs.iter().filter(|job| !job.held) {
        steps.push(Step {
            job: Some(job.job),
            destination: job.to.as_ref().map(ToString::to_string),
            ..step(fact.at().0, "queued", String::new())
        });
    }
    steps
}

/// Where each job of the instance has come to, by its number.
#[must_use]
pub fn deliveries(facts: &[Fact]) -> Vec<Delivery> {
    let mut jobs: BTreeMap<u64, Delivery> = BTreeMap::new();
    for fact in facts {
        let since = fact.at().iso();
        for job in fact.arrival().into_iter().flat_map(|arrival| &arrival.jobs) {
            let new = Delivery {
                job: job.job,
                destination: job.to.as_ref().map(ToString::to_string),
                state: if job.held { "held" } else { "queued" }.to_owned(),
                since: since.clone(),
                attempts: 0,
            };
            jobs.insert(job.job, new);
        }
        if let Some(state) = whole(fact.kind) {
            for job in jobs.values_mut().filter(|job| is_open(&job.state)) {
                (job.state, job.since) = (state.to_owned(), since.clone());
            }
        }
        let state = match fact {
            fact if fact.is_commitment() => Some("committed"),
            fact if fact.is_unanswered() => Some("sent"),
            fact => state_after(fact.kind),
        };
        let Some(state) = state else { continue };
        let Some(number) = fact.job else { continue };
        let job = jobs.entry(number).or_insert_with(|| Delivery {
            job: number,
            destination: fact.destination.as_ref().map(ToString::to_string),
            state: String::new(),
            since: String::new(),
            attempts: 0,
        });
        job.attempts += u64::from(fact.is_attempt());
        (job.state, job.since) = (state.to_owned(), since);
    }
    jobs.into_values().collect()
}

/// Whether a delivery in this state waits for something.
#[must_use]
pub fn is_open(state: &str) -> bool {
    matches!(state, "queued" | "held" | "sent" | "not_committed")
}

fn state_after(kind: FactKind) -> Option<&'static str> {
    match kind {
        FactKind::Queued | FactKind::Released | FactKind::Retry | FactKind::Attempted => Some("queued"),
        FactKind::Held => Some("held"),
        FactKind::Sent => Some("sent"),
        FactKind::Confirmed | FactKind::CommitmentGivenUp => Some("delivered"),
        FactKind::CommitmentRefused => Some("not_committed"),
        FactKind::Discarded => Some("discarded"),
        FactKind::Rerouted => Some("rerouted"),
        FactKind::Redecided => Some("redecided"),
        _ => None,
    }
}

/// What ends all open jobs of an instance together.
fn whole(kind: FactKind) -> Option<&'static str> {
    match kind {
        // A resend has taken them over.
        FactKind::Healed => Some("replaced"),
        // Made anew by a salvage, under new numbers.
        FactKind::Recovered => Some("recovered"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{DestinationId, JobId};
    use crate::spool::{HoldKind, HoldReason};

    fn fact(kind: FactKind, job: u64, at_us: u64) -> Fact {
        let mut fact = Fact::new(kind).job(JobId(job), DestinationId::parse("vna").ok());
        fact.at_us = at_us;
        fact
    }

    #[test]
    fn a_job_goes_from_state_to_state_and_attempts_are_counted() {
        let facts = [
            fact(FactKind::Queued, 1, 1),
            fact(FactKind::Retry, 1, 2),
            fact(FactKind::Held, 1, 3),
            fact(FactKind::Released, 1, 4),
            fact(FactKind::Confirmed, 1, 5),
        ];
        let states: Vec<String> = (1..=facts.len())
            .map(|n| deliveries(&facts[..n])[0].state.clone())
            .collect();
        assert_eq!(states, ["queued", "queued", "held", "queued", "delivered"]);
        assert_eq!(deliveries(&facts)[0].attempts, 2);
    }

    #[test]
    fn an_archive_that_commits_is_the_end_and_one_that_does_not_is_none() {
        let mut facts = vec![fact(FactKind::Queued, 1, 1), fact(FactKind::Sent, 1, 2)];
        let state = |facts: &[Fact]| deliveries(facts)[0].state.clone();
        assert_eq!(state(&facts), "sent");
        for asked in [
            "no answer, transaction 1.2",
            "the request for commitment is not taken, transaction 1.2",
        ] {
            facts.push(fact(FactKind::CommitmentRefused, 1, 3).text(asked));
            assert_eq!(state(&facts), "sent", "it waits on, and is asked for again");
        }
        facts.push(fact(FactKind::CommitmentRefused, 1, 3).text("failed 0112, transaction 1.2"));
        assert_eq!(state(&facts), "not_committed");
        facts.push(fact(FactKind::Sent, 1, 4));
        facts.push(fact(FactKind::Confirmed, 1, 5).text("0000 committed, transaction 1.2"));
        assert_eq!(state(&facts), "committed");
        assert!(["sent", "not_committed"].iter().all(|state| is_open(state)) && !is_open("committed"));
    }

    #[test]
    fn a_modality_counts_as_told_when_its_request_is_over_and_not_when_its_instances_are_decided() {
        let id = crate::base::names::InstanceId::new(1, 2);
        let decided = Fact::new(FactKind::CommitmentAnswered).instance(id);
        assert_eq!(steps(&decided)[0].what, "commitment_decided");
        assert_eq!(
            steps(&Fact::new(FactKind::CommitmentAnswered))[0].what,
            "commitment_answered"
        );
    }

    #[test]
    fn a_job_whose_lines_are_gone_is_shown_as_the_queue_has_it() {
        let job = HeldJob {
            job: 7,
            destination: DestinationId::parse("vna").ok(),
            record: true,
            entry: true,
            hold: None,
            sent: true,
            attempts: 2,
            enqueued: Wall(5),
        };
        let shown = queued(&job);
        assert_eq!(
            (
                shown.job,
                shown.destination.as_deref(),
                shown.state.as_str(),
                shown.attempts
            ),
            (7, Some("vna"), "sent", 2)
        );
        let hold = Some((Wall(6), HoldReason::new(HoldKind::Rule, "look")));
        assert_eq!(queued(&HeldJob { hold, ..job }).state, "held");
    }

    #[test]
    fn a_healed_or_recovered_instance_has_no_job_open() {
        for kind in [FactKind::Healed, FactKind::Recovered] {
            let facts = [
                fact(FactKind::Queued, 1, 1),
                Fact {
                    job: None,
                    ..fact(kind, 0, 2)
                },
            ];
            assert!(!is_open(&deliveries(&facts)[0].state));
        }
    }
}
