//! The loop guard: what came from a destination does not go back to it, and what has passed through this box too often is held.
//!
//! A destination and a source are the same system when their names, their AE titles or (at a literal address) their hosts are
//! the same. An image that this box changed says so itself (Contributing Equipment, Original Attributes): so it is known when
//! it comes round by a third system.
use super::HoldKind;
use super::state::Evaluation;
use super::terms::Wanted;
use crate::base::names::{AeTitle, DestinationId, SourceId};
use crate::dicom::head::Head;
use crate::dicom::path::Path;
use std::collections::BTreeSet;

/// A destination as one that may also send to this box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub destination: DestinationId,
    /// Its own AE title.
    pub ae: Option<AeTitle>,
    /// The sources that are the same system.
    pub sources: Vec<SourceId>,
}

/// The flag of an instance that was not sent back to where it came from.
pub(super) const FLAG: &str = "loop";
/// Why an instance without any other destination is held.
pub(super) const NOWHERE_ELSE: &str = "its only destination is where it came from";
/// Why one is held that came round again and again.
const ROUND_AGAIN: &str = "it has passed through this box too often: a routing loop";
/// Items of one sequence that are looked at.
const ITEMS_MAX: usize = 1_000;

/// What an image says of its passes through this box.
#[derive(Default)]
pub(super) struct Passes {
    pub(super) count: usize,
    /// Where it came from in those passes.
    sources: BTreeSet<String>,
}

impl Passes {
    /// `system` is this box's name as it signs what it changes.
    pub(super) fn read(head: &Head, system: &str) -> Self {
        let mut passes = Self::default();
        let value = |path: String| {
            let path = Path::parse(&path).ok()?;
            head.text(&path)?.into_iter().next()
        };
        for item in 0..items(head, "ContributingEquipmentSequence") {
            let of = |name: &str| value(format!("ContributingEquipmentSequence[{item}].{name}"));
            // The station's name is an SH: it is cut at 16 characters.
            let station: String = system.chars().take(16).collect();
            let ours = of("Manufacturer").is_some_and(|maker| maker.trim() == "Waystation")
                && of("StationName").is_some_and(|name| name.trim() == station.trim());
            passes.count += usize::from(ours);
        }
        if passes.count == 0 {
            return passes;
        }
        for item in 0..items(head, "OriginalAttributesSequence") {
            let of = |name: &str| value(format!("OriginalAttributesSequence[{item}].{name}"));
            if of("ModifyingSystem").is_some_and(|name| name.trim() == system.trim()) {
                passes
                    .sources
                    .extend(of("SourceOfPreviousValues").map(|source| source.trim().to_owned()));
            }
        }
        passes
    }
}

fn items(head: &Head, sequence: &str) -> usize {
    // Both are keywords of the dictionary, which the tests read.
    let path = Path::parse(sequence).ok();
    path.and_then(|path| head.items(&path)).unwrap_or(0).min(ITEMS_MAX)
}

/// Holds what comes round again and again.
pub(super) fn hold(evaluation: &Evaluation) {
    let mut state = evaluation.state();
    state.hold(HoldKind::Rule, ROUND_AGAIN);
    if !state.flags.contains(&FLAG) {
        state.flags.push(FLAG);
    }
}

/// Takes out the destinations that the instance came from, and flags that.
pub(super) fn break_loops(wanted: &mut Vec<Wanted>, passes: &Passes, evaluation: &Evaluation) {
    let before = wanted.len();
    wanted.retain(|wanted| wanted.back || !came_from(&wanted.destination, passes, evaluation));
    if wanted.len() < before {
        let mut state = evaluation.state();
        if !state.flags.contains(&FLAG) {
            state.flags.push(FLAG);
        }
    }
}

fn came_from(destination: &DestinationId, passes: &Passes, evaluation: &Evaluation) -> bool {
    let facts = &evaluation.facts;
    let neighbour = evaluation
        .neighbours
        .iter()
        .find(|known| known.destination == *destination);
    neighbour.is_some_and(|known| {
        known.ae.as_ref() == Some(&facts.calling_ae)
            || known
                .sources
                .iter()
                .any(|source| *source == facts.source || passes.sources.contains(source.as_str()))
    })
}

/// One copy for each destination: a group goes without when a member gets one all the same, by itself or as the first of an earlier group,
/// and without those members that an earlier group may fall back on.
pub(super) fn one_copy(wanted: Vec<Wanted>) -> Vec<Wanted> {
    let (mut kept, grouped): (Vec<Wanted>, Vec<Wanted>) =
        wanted.into_iter().partition(|wanted| wanted.terms.group.is_none());
    let number = |wanted: &Wanted| wanted.terms.group.map(|group| group.number);
    let mut numbers: Vec<Option<usize>> = grouped.iter().map(number).collect();
    numbers.dedup();
    let of = |wanted: &Wanted| wanted.destination.clone();
    // Those that get a copy for certain, or first.
    let mut getting: BTreeSet<DestinationId> = kept.iter().map(of).collect();
    for group in numbers {
        let members = || grouped.iter().filter(|wanted| number(wanted) == group);
        if members().any(|member| getting.contains(&member.destination)) {
            continue;
        }
        let named: BTreeSet<DestinationId> = kept.iter().map(of).collect();
        let left = members().filter(|member| !named.contains(&member.destination));
        let left: Vec<Wanted> = left.cloned().collect();
        getting.extend(left.first().map(of));
        kept.extend(left);
    }
    kept
}
