//! Decisions in the spool's words: deliveries become jobs, groups of them one job with others in reserve; and the spool's memory
//! of a study in the words of the rules. Pure; called by `ingest` alone.
use crate::base::clock::Wall;
use crate::rules::{self, Decision, HoldKind as RuleHold, StudySeen, Urgency};
use crate::spool::{self, Alias, Group, GroupKind, HoldKind, HoldReason, NewJob, Priority};

/// A decision as the spool keeps it: one job for each delivery, or one without destination that is held.
pub(super) fn jobs(decision: &Decision, due: Wall) -> Vec<NewJob> {
    let hold = decision.hold.as_ref().map(|hold| HoldReason {
        kind: hold_kind(hold.kind),
        text: hold.reason.clone(),
    });
    if decision.deliveries.is_empty() {
        let hold = hold.unwrap_or_else(|| HoldReason {
            kind: HoldKind::NoDestination,
            text: "no rule named a destination".to_owned(),
        });
        return vec![NewJob {
            destination: None,
            priority: Priority::Routine,
            plan: Vec::new(),
            due,
            hold: Some(hold),
            quiet: None,
            group: None,
        }];
    }
    let mut jobs: Vec<NewJob> = Vec::new();
    let mut groups: Vec<usize> = Vec::new();
    for delivery in &decision.deliveries {
        let membership = delivery.terms.group;
        if let Some(number) = membership.map(|group| group.number) {
            // The first member is the job; the others stand ready in its group.
            if groups.contains(&number) {
                if let Some(group) = jobs.last_mut().and_then(|job| job.group.as_mut()) {
                    group
                        .others
                        .push((delivery.destination.clone(), delivery.plan.encode()));
                }
                continue;
            }
            groups.push(number);
        }
        jobs.push(job(delivery, due, hold.clone()));
    }
    jobs
}

fn job(delivery: &rules::Delivery, due: Wall, hold: Option<HoldReason>) -> NewJob {
    let terms = delivery.terms;
    NewJob {
        destination: Some(delivery.destination.clone()),
        priority: priority(delivery.priority),
        plan: delivery.plan.encode(),
        due: terms.not_before.unwrap_or(due).max(due),
        hold,
        quiet: terms.quiet.map(|quiet| spool::Quiet {
            span: quiet.span,
            at_most: quiet.at_most,
        }),
        group: terms.group.map(|group| Group {
            kind: match group.kind {
                rules::GroupKind::First { after } => GroupKind::Failover { after },
                rules::GroupKind::OneOf => GroupKind::ShareOut,
            },
            others: Vec::new(),
        }),
    }
}

fn hold_kind(kind: RuleHold) -> HoldKind {
    match kind {
        RuleHold::Rule => HoldKind::Rule,
        RuleHold::Incomplete => HoldKind::Incomplete,
        RuleHold::Error => HoldKind::Error,
        RuleHold::Budget => HoldKind::Budget,
        RuleHold::NoDestination => HoldKind::NoDestination,
        RuleHold::Edit => HoldKind::Edit,
    }
}

fn priority(urgency: Urgency) -> Priority {
    match urgency {
        Urgency::Stat => Priority::Stat,
        Urgency::High => Priority::High,
        Urgency::Routine => Priority::Routine,
        Urgency::Low => Priority::Low,
    }
}

/// The spool's memory of a study, as the rules see it.
pub(super) fn known(seen: spool::StudySeen) -> StudySeen {
    StudySeen {
        values: seen.values,
        first: seen.first,
        last: seen.last,
        instances: seen.instances,
        bytes: seen.bytes,
    }
}

/// As `known`, for an instance of `length` bytes that is decided anew: the study has counted it when it came.
pub(super) fn besides(seen: spool::StudySeen, length: u64) -> StudySeen {
    let seen = known(seen);
    StudySeen {
        instances: seen.instances.saturating_sub(1),
        bytes: seen.bytes.saturating_sub(length),
        ..seen
    }
}

/// What a decision renamed, in the spool's words.
pub(super) fn aliases(decision: &Decision) -> Vec<Alias> {
    let alias = |alias: &rules::Alias| Alias {
        kind: alias.kind,
        sent: alias.sent.clone(),
        written: alias.written.clone(),
    };
    decision.aliases.iter().map(alias).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_is_decided_anew_does_not_count_itself() {
        let seen = |instances, bytes| spool::StudySeen {
            instances,
            bytes,
            first: Wall(1),
            ..spool::StudySeen::default()
        };
        let alone = besides(seen(1, 700), 700);
        assert_eq!((alone.instances, alone.bytes, alone.first), (0, 0, Wall(1)));
        let third = besides(seen(3, 1_500), 700);
        assert_eq!((third.instances, third.bytes), (2, 800));
        // A study that was forgotten and came again.
        let forgotten = besides(seen(0, 0), 700);
        assert_eq!((forgotten.instances, forgotten.bytes), (0, 0));
    }
}
