//! The gauges of what lies in the spool: counted from the keys at start, moved with every durable batch after.
use super::cache::End;
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::keys;
use super::model::{HoldKind, OpenReport, Priority};
use crate::base::names::DestinationId;
use crate::telemetry::metrics::IntGauge;

/// Kinds of `waystation_quarantined_total` that are no family of the index.
const NO_FAMILY: [&str; 3] = ["payload", "missing_payload", "lost_record"];

/// All kinds of what was put aside, at 0: the first one is an increase then, which wakes somebody.
pub(super) fn quarantined_from_zero(core: &Core) {
    for kind in Cf::ALL.map(Cf::name).into_iter().chain(NO_FAMILY) {
        core.metrics.quarantined_total.with_label_values(&[kind]);
    }
}

/// Sets the gauges of what lies in the spool. Keys only, no record is read.
pub(super) fn count(core: &Core, db: &Db) -> Result<OpenReport, DbError> {
    let mut report = queue(core, db)?;
    db.scan(Cf::Instance, &[], &[], |_, _| {
        report.instances += 1;
        true
    })?;
    stock(core, &report);
    Ok(report)
}

/// The gauges of the jobs. A start has counted the instances by itself, against their files: it adds them, and asks for `stock`.
pub(super) fn queue(core: &Core, db: &Db) -> Result<OpenReport, DbError> {
    core.metrics.jobs_queued.reset();
    core.metrics.jobs_held.reset();
    core.metrics.rule_failures.reset();
    let mut report = OpenReport::default();
    // Set once for each lane and class, not moved for each of a million jobs.
    let mut run: Option<((u32, Priority), i64)> = None;
    let set = |run: Option<((u32, Priority), i64)>| {
        if let Some(((dest, priority), count)) = run
            && let Some(lane) = core.lanes.by_number(dest)
        {
            queued(core, &lane.name, priority).set(count);
        }
    };
    db.scan(Cf::Due, &[], &[], |key, _| {
        let Some((key, priority, _)) = keys::due_of(key) else {
            return true;
        };
        match &mut run {
            Some((of, count)) if *of == (key.dest, priority) => *count += 1,
            _ => set(run.replace(((key.dest, priority), 1))),
        }
        report.queued += 1;
        true
    })?;
    set(run);
    db.scan(Cf::Hold, &[], &[], |key, value| {
        let kind = value.first().and_then(|byte| HoldKind::from_byte(*byte));
        if let (Some((key, _)), Some(kind)) = (keys::hold_of(key), kind) {
            let name = core.lanes.by_number(key.dest).map(|lane| lane.name.clone());
            held(core, name.as_ref(), kind, 1);
        }
        report.held += 1;
        true
    })?;
    db.scan(Cf::Cached, &[], &[], |_, entry| {
        match End::of(entry) {
            End::Delivered => report.delivered += 1,
            End::Discarded => report.discarded += 1,
        }
        true
    })?;
    core.metrics.commitment.awaiting.reset();
    db.scan(Cf::Meta, keys::AWAITS, &keys::behind(keys::AWAITS), |key, _| {
        let lane = keys::awaits_of(key).and_then(|(key, ..)| core.lanes.by_number(key.dest));
        if let Some(lane) = lane {
            awaiting(core, &lane.name, 1);
        }
        report.awaiting += 1;
        true
    })?;
    core.metrics.spool_damaged.set(super::damaged::count(db)?);
    Ok(report)
}

/// The gauges of the instances.
pub(super) fn stock(core: &Core, report: &OpenReport) {
    let ended = report.delivered + report.discarded;
    let pending = report.instances.saturating_sub(ended);
    let set = |state, count| instances(core, state).set(i64::try_from(count).unwrap_or(i64::MAX));
    set("pending", pending);
    set(End::Delivered.word(), report.delivered);
    set(End::Discarded.word(), report.discarded);
}

pub(super) fn queued(core: &Core, name: &DestinationId, priority: Priority) -> IntGauge {
    core.metrics
        .jobs_queued
        .with_label_values(&[name.as_str(), priority.word()])
}

/// All classes together.
pub(super) fn backlog(core: &Core, name: &DestinationId) -> usize {
    let of = |priority| usize::try_from(queued(core, name, priority).get()).unwrap_or(0);
    Priority::ALL.map(of).iter().sum()
}

pub(super) fn awaiting(core: &Core, name: &DestinationId, change: i64) {
    core.metrics
        .commitment
        .awaiting
        .with_label_values(&[name.as_str()])
        .add(change);
}

/// The label of jobs without a destination; no destination can have this name.
const NO_DESTINATION: &str = "(none)";

pub(super) fn held(core: &Core, name: Option<&DestinationId>, kind: HoldKind, change: i64) {
    let label = name.map_or(NO_DESTINATION, DestinationId::as_str);
    core.metrics
        .jobs_held
        .with_label_values(&[label, kind.word()])
        .add(change);
    if kind.is_rule_failure() {
        core.metrics.rule_failures.with_label_values(&[kind.word()]).add(change);
    }
}

pub(super) fn instances(core: &Core, state: &str) -> IntGauge {
    core.metrics.spool_instances.with_label_values(&[state])
}
