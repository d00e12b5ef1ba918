//! What of a look at an instance is a difference. Pure: it is given what is here and what is told.
use super::report::{Difference, DifferenceKind as Kind};
use crate::custody::story::{deliveries, is_open};
use crate::spool::{FactKind, HeldJob, HoldKind, Holding, Look};

/// What became of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Delivered,
    Open,
    Held,
    Discarded,
    Replaced,
}

/// Every difference of an instance.
pub(super) fn differences(look: &Look) -> Vec<Difference> {
    let mut found = Vec::new();
    match &look.holding {
        None => gone(look, &mut found),
        Some(holding) => {
            payload(look, holding, &mut found);
            for job in &holding.jobs {
                found.extend(open_job(look, job));
            }
            ended_jobs(look, holding, &mut found);
        }
    }
    committed(look, &mut found);
    found
}

/// What became of it, by what is told.
pub(super) fn outcome(look: &Look) -> Outcome {
    let all = deliveries(&look.facts);
    let any = |state: &str| all.iter().any(|job| job.state == state);
    if any("queued") || any("sent") || any("not_committed") {
        Outcome::Open
    } else if any("held") {
        Outcome::Held
    } else if any("discarded") {
        Outcome::Discarded
    } else if any("replaced") || any("recovered") {
        Outcome::Replaced
    } else {
        Outcome::Delivered
    }
}

fn difference(kind: Kind, look: &Look, text: &str) -> Difference {
    let arrival = look.facts.iter().find_map(|fact| match fact.kind {
        FactKind::Stored | FactKind::Conflict => fact.arrival(),
        _ => None,
    });
    let instance = look.holding.as_ref().map(|holding| &holding.instance);
    Difference {
        kind,
        count: 1,
        instance: Some(look.id.to_string()),
        sop_instance: instance
            .map(|i| i.sop_instance.to_string())
            .or(arrival.map(|arrival| arrival.sop_instance.clone())),
        study: instance
            .and_then(|i| i.study.as_ref().map(ToString::to_string))
            .or(arrival.and_then(|arrival| arrival.study.clone())),
        source: instance
            .map(|i| i.source.to_string())
            .or(arrival.map(|arrival| arrival.source.to_string())),
        destination: None,
        job: None,
        text: text.to_owned(),
    }
}

fn payload(look: &Look, holding: &Holding, found: &mut Vec<Difference>) {
    let kind = match holding.file {
        None => (
            Kind::MissingPayload,
            "its payload file is gone: have it sent again by its modality",
        ),
        Some(length) if length != holding.expected => (
            Kind::MissingPayload,
            "its payload file has another length: have it sent again by its modality",
        ),
        Some(_) if holding.damaged => (
            Kind::DamagedPayload,
            "its payload is not what arrived: have it sent again by its modality",
        ),
        Some(_) => return,
    };
    found.push(difference(kind.0, look, kind.1));
}

fn open_job(look: &Look, job: &HeldJob) -> Option<Difference> {
    let (kind, text) = if !job.record {
        (
            Kind::LostJob,
            "nothing but a reference is left of a delivery: run `waystation spool rebuild`",
        )
    } else if !job.entry {
        (
            Kind::StuckJob,
            "a delivery is neither queued nor held: run `waystation spool rebuild`",
        )
    } else if job.destination.is_none() {
        let recovered = job
            .hold
            .as_ref()
            .is_some_and(|(_, reason)| reason.kind == HoldKind::Recovered);
        // Decided by the running box itself, in its time.
        if recovered {
            return None;
        }
        (
            Kind::Undecided,
            "no destination was decided on: mend the rules and release it, or reroute it",
        )
    } else {
        return None;
    };
    Some(Difference {
        destination: job.destination.as_ref().map(ToString::to_string),
        job: Some(job.job),
        ..difference(kind, look, text)
    })
}

/// Deliveries that were decided on and are not open here must have ended by somebody's word.
fn ended_jobs(look: &Look, holding: &Holding, found: &mut Vec<Difference>) {
    for told in deliveries(&look.facts).iter().filter(|told| is_open(&told.state)) {
        let here = holding.jobs.iter().any(|job| job.job == told.job);
        if !here {
            found.push(Difference {
                destination: told.destination.clone(),
                job: Some(told.job),
                ..difference(
                    Kind::LostJob,
                    look,
                    "a delivery is gone, and neither its destination nor a person has ended it: have it sent again",
                )
            });
        }
    }
    if look.facts.is_empty() && !holding.delivered && holding.jobs.is_empty() {
        found.push(difference(
            Kind::LostJob,
            look,
            "it is not delivered and has no delivery left: have it sent again",
        ));
    }
}

/// Its record is not here: something must say where it went.
fn gone(look: &Look, found: &mut Vec<Difference>) {
    let left = [FactKind::Evicted, FactKind::Quarantined, FactKind::Healed];
    let stored = look
        .facts
        .iter()
        .any(|fact| matches!(fact.kind, FactKind::Stored | FactKind::Conflict));
    if !stored {
        return;
    }
    if !look.facts.iter().any(|fact| left.contains(&fact.kind)) {
        let text = "it was acknowledged, and nothing of it is left: have it sent again by its modality";
        found.push(difference(Kind::LostRecord, look, text));
        return;
    }
    for told in deliveries(&look.facts).iter().filter(|told| is_open(&told.state)) {
        found.push(Difference {
            destination: told.destination.clone(),
            job: Some(told.job),
            ..difference(
                Kind::EvictedEarly,
                look,
                "it has left the box before this delivery had ended: have it sent again",
            )
        });
    }
}

/// The archive had taken it and does not commit to keep it: it is sent again, or held for a person.
fn committed(look: &Look, found: &mut Vec<Difference>) {
    let holding = look.holding.as_ref();
    let held = |number: u64| {
        let job = holding.and_then(|holding| holding.jobs.iter().find(|job| job.job == number));
        let hold = job.and_then(|job| job.hold.as_ref());
        hold.is_some_and(|(_, reason)| reason.kind == HoldKind::NotCommitted)
    };
    for told in deliveries(&look.facts) {
        if told.state == "not_committed" || held(told.job) {
            found.push(Difference {
                destination: told.destination.clone(),
                job: Some(told.job),
                ..difference(
                    Kind::NotCommitted,
                    look,
                    "the archive had taken it and does not commit to keep it: ask the archive; it is sent again, or held",
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Wall;
    use crate::base::names::{AeTitle, DestinationId, InstanceId, JobId, SourceId, Uid};
    use crate::spool::{Arrival, Detail, Fact, HoldReason, Instance, Planned};

    fn instance() -> Instance {
        Instance {
            id: InstanceId::new(5, 6),
            source: SourceId::parse("ct1").unwrap(),
            calling_ae: AeTitle::parse("CT1").unwrap(),
            called_ae: AeTitle::parse("WAY").unwrap(),
            sop_class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance: Uid::known("1.2.3"),
            study: Some(Uid::known("1.2")),
            transfer_syntax: Uid::known("1.2.840.10008.1.2.1"),
            arrival: Wall(5),
            length: 10,
            digest: [3; 32],
            rule_epoch: 4,
        }
    }

    fn stored(to: Option<&str>) -> Fact {
        let i = instance();
        let arrival = Arrival {
            source: i.source.clone(),
            received_us: 5,
            calling: "CT1".into(),
            called: "WAY".into(),
            sop_class: i.sop_class.to_string(),
            sop_instance: i.sop_instance.to_string(),
            study: Some("1.2".into()),
            syntax: i.transfer_syntax.to_string(),
            length: 10,
            digest: String::new(),
            rules: String::new(),
            jobs: vec![Planned {
                job: 1,
                to: to.and_then(|to| DestinationId::parse(to).ok()),
                held: to.is_none(),
            }],
        };
        Fact::new(FactKind::Stored)
            .instance(i.id)
            .detail(Detail::Arrival(arrival))
    }

    fn fact(kind: FactKind) -> Fact {
        Fact::new(kind)
            .instance(instance().id)
            .job(JobId(1), DestinationId::parse("vna").ok())
    }

    fn job() -> HeldJob {
        HeldJob {
            job: 1,
            destination: DestinationId::parse("vna").ok(),
            record: true,
            entry: true,
            hold: None,
            sent: false,
            attempts: 0,
            enqueued: Wall(5),
        }
    }

    fn look(facts: Vec<Fact>, jobs: Option<Vec<HeldJob>>) -> Look {
        let holding = jobs.map(|jobs| Holding {
            instance: instance(),
            delivered: jobs.is_empty(),
            damaged: false,
            file: Some(100),
            expected: 100,
            jobs,
        });
        Look {
            id: instance().id,
            holding,
            facts,
        }
    }

    fn kinds(look: &Look) -> Vec<Kind> {
        differences(look).iter().map(|one| one.kind).collect()
    }

    #[test]
    fn what_waits_for_a_destination_for_however_long_is_open_and_no_difference() {
        let waiting = look(vec![stored(Some("vna"))], Some(vec![job()]));
        assert_eq!((kinds(&waiting), outcome(&waiting)), (vec![], Outcome::Open));
        let held = HeldJob {
            hold: Some((Wall(6), HoldReason::new(HoldKind::Rule, "look"))),
            ..job()
        };
        let held = look(vec![stored(Some("vna")), fact(FactKind::Held)], Some(vec![held]));
        assert_eq!((kinds(&held), outcome(&held)), (vec![], Outcome::Held));
    }

    #[test]
    fn what_was_delivered_discarded_evicted_or_healed_is_none_either() {
        for (end, became) in [
            (FactKind::Confirmed, Outcome::Delivered),
            (FactKind::Discarded, Outcome::Discarded),
        ] {
            let facts = vec![stored(Some("vna")), fact(end)];
            for jobs in [Some(vec![]), None] {
                let mut facts = facts.clone();
                if jobs.is_none() {
                    facts.push(Fact {
                        job: None,
                        ..fact(FactKind::Evicted)
                    });
                }
                let look = look(facts, jobs);
                assert_eq!((kinds(&look), outcome(&look)), (vec![], became), "{end:?}");
            }
        }
        let healed = look(
            vec![
                stored(Some("vna")),
                Fact {
                    job: None,
                    ..fact(FactKind::Healed)
                },
            ],
            None,
        );
        assert_eq!((kinds(&healed), outcome(&healed)), (vec![], Outcome::Replaced));
    }

    #[test]
    fn planted_differences_are_each_found_as_what_they_are() {
        let facts = || vec![stored(Some("vna"))];
        let with = |change: fn(&mut Holding)| {
            let mut look = look(facts(), Some(vec![job()]));
            look.holding.as_mut().map(change);
            look
        };
        assert_eq!(kinds(&with(|holding| holding.file = None)), [Kind::MissingPayload]);
        assert_eq!(kinds(&with(|holding| holding.file = Some(7))), [Kind::MissingPayload]);
        assert_eq!(kinds(&with(|holding| holding.damaged = true)), [Kind::DamagedPayload]);
        assert_eq!(kinds(&with(|holding| holding.jobs[0].record = false)), [Kind::LostJob]);
        assert_eq!(kinds(&with(|holding| holding.jobs[0].entry = false)), [Kind::StuckJob]);
        assert_eq!(kinds(&with(|holding| holding.jobs.clear())), [Kind::LostJob]);
        assert_eq!(kinds(&look(facts(), None)), [Kind::LostRecord]);
        let early = look(
            [
                facts(),
                vec![Fact {
                    job: None,
                    ..fact(FactKind::Evicted)
                }],
            ]
            .concat(),
            None,
        );
        assert_eq!(kinds(&early), [Kind::EvictedEarly]);
        let lost = [facts(), vec![fact(FactKind::Sent), fact(FactKind::CommitmentRefused)]].concat();
        assert_eq!(kinds(&look(lost, Some(vec![job()]))), [Kind::NotCommitted]);
        let undecided = HeldJob {
            destination: None,
            hold: Some((Wall(6), HoldReason::new(HoldKind::NoDestination, ""))),
            ..job()
        };
        assert_eq!(
            kinds(&look(vec![stored(None)], Some(vec![undecided]))),
            [Kind::Undecided]
        );
        let bare = Look {
            facts: Vec::new(),
            ..look(Vec::new(), Some(vec![]))
        };
        assert_eq!(kinds(&bare), [], "a cached one of before the ledger told so much");
    }
}
