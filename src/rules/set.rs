//! A rule folder, compiled once and immutable: load with all its problems, decide as often as wanted.
use super::api::{From, Image};
use super::bench::probe::{Steps, marked};
use super::engine::{Modules, Parts};
use super::fault::{Failure, Fault};
use super::kept::Sources;
use super::load::{self, Draft};
use super::local::Local;
use super::loops::{self, Neighbour, Passes};
use super::state::{Change, Changes, Evaluation, Event, Knowledge, Phase};
use super::tables;
use super::terms::Wanted;
use super::{Config, Decision, Delivery, Facts, Hold, HoldKind, Problem, Urgency};
use crate::base::names::DestinationId;
use crate::base::panics::{Panicked, contain};
use crate::dicom::edit::{EditError, Plan, Stamp};
use crate::dicom::head::Head;
use rhai::{AST, CallFnOptions, Dynamic, Position, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The entry of a folder, unless it is the only file.
pub(super) const MAIN: &str = "main.rhai";

/// A compiled, immutable rule folder. Shared by all evaluations without a lock.
pub struct RuleSet {
    parts: Parts,
    entry: String,
    tree: AST,
    modules: Modules,
    known: Arc<Knowledge>,
    morph: bool,
    morph_for: BTreeMap<DestinationId, String>,
    system: String,
    neighbours: Arc<[Neighbour]>,
    passes: usize,
    epoch: u64,
    content: u64,
    warnings: Vec<Problem>,
    /// The same rules from marked copies, which say which lines ran. They decide nothing.
    marked: Option<Box<RuleSet>>,
}

/// The lines of a probed set that can run, by file.
pub(super) type Lines = BTreeMap<String, BTreeSet<usize>>;

/// A decision with what the bench shows of it.
pub(super) struct Outcome {
    pub(super) decision: Decision,
    /// For each delivery, the changes in its plan.
    pub(super) changes: Vec<Vec<Change>>,
    pub(super) events: Vec<Event>,
    /// Of a probed set that was traced.
    pub(super) steps: Steps,
}

impl RuleSet {
    /// Compiles every `*.rhai` file of `folder` (entry: `main.rhai`, which may `import` the others) and reads every `*.csv` table.
    ///
    /// # Errors
    /// All problems found, with file, line and column. Destinations that rules name but `destinations` lacks are problems.
    pub fn load(folder: &Path, config: &Config, destinations: &[DestinationId]) -> Result<Self, Vec<Problem>> {
        Ok(Self::load_with_text(folder, config, destinations)?.0)
    }

    /// As `load`, with the texts that it was made of.
    ///
    /// # Errors
    /// As `load`.
    pub(super) fn load_with_text(
        folder: &Path,
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<(Self, Sources), Vec<Problem>> {
        let sources = load::read(folder)?;
        Ok((Self::from_text(folder, &sources, config, destinations)?, sources))
    }

    /// As `load`, from texts in memory that came from `folder`.
    ///
    /// # Errors
    /// As `load`.
    pub(super) fn from_text(
        folder: &Path,
        sources: &Sources,
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<Self, Vec<Problem>> {
        Self::compile(folder, sources, (config, false), destinations)
    }

    /// As `load`, and says which lines ran in what is traced: those of marked copies of the files, which run besides, with room for
    /// their marks. With the lines that can run, by file. For the bench.
    ///
    /// # Errors
    /// As `load`.
    pub(super) fn probed(
        folder: &Path,
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<(Self, Lines), Vec<Problem>> {
        let sources = load::read(folder)?;
        let mut set = Self::compile(folder, &sources, (config, false), destinations)?;
        // A set that is good without marks is never refused for them; then no line is seen to run.
        set.marked = Self::compile(folder, &sources, (config, true), destinations)
            .ok()
            .map(Box::new);
        let lines = sources.iter().map(|(name, text)| (name.clone(), marked(text).lines));
        Ok((set, lines.collect()))
    }

    /// As `load`, from texts in memory: pairs of a file's name and its text.
    ///
    /// # Errors
    /// As `load`.
    pub fn from_sources(
        sources: &[(String, String)],
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<Self, Vec<Problem>> {
        Self::compile(Path::new(""), sources, (config, false), destinations)
    }

    /// The box's name, written as the modifying system of every edited instance.
    #[must_use]
    pub fn with_system(mut self, system: &str) -> Self {
        system.clone_into(&mut self.system);
        self
    }

    /// The destinations that may also send to this box, for the loop guard.
    #[must_use]
    pub fn with_neighbours(mut self, neighbours: &[Neighbour]) -> Self {
        self.neighbours = neighbours.into();
        self
    }

    /// Whether its rules ask for what was seen of a study.
    #[must_use]
    pub fn asks_for_study(&self) -> bool {
        self.known.asks_for_study
    }

    /// A hash of all files' names and contents.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The destinations that it was compiled against.
    pub(super) fn destinations(&self) -> &[DestinationId] {
        &self.known.destinations
    }

    /// Whether the rules name the destination in a literal.
    pub(super) fn names(&self, destination: &DestinationId) -> bool {
        self.known.literals.contains(destination.as_str())
    }

    /// What is allowed in these rules but most likely not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// A hash of all files' names and contents alone: the same wherever the files lie.
    #[must_use]
    pub fn content(&self) -> u64 {
        self.content
    }

    /// Decides on one instance. Bounded in operations, memory and wall-clock time; never panics; pure.
    /// Blocks up to the deadline: call it on a thread that may. Needs 1 MiB of stack.
    #[must_use]
    pub fn decide(&self, facts: &Facts, head: &Head) -> Decision {
        self.run(facts, head, false, None).decision
    }

    /// What one destination gets of an instance when a person sends it there: `morph` and `morph_for_DEST`, without `route`.
    /// A `hold` that the rules say is left to that person; edits that lack a word's work are not. As bounded as `decide`.
    #[must_use]
    pub fn decide_for(&self, facts: &Facts, head: &Head, destination: &DestinationId) -> Decision {
        let mut decision = self.run(facts, head, false, Some(destination)).decision;
        decision.hold = decision.hold.filter(|hold| hold.kind != HoldKind::Rule);
        decision
    }

    pub(super) fn run(&self, facts: &Facts, head: &Head, traced: bool, only: Option<&DestinationId>) -> Outcome {
        let mut outcome = self.run_once(facts, head, traced, only);
        if let Some(marked) = self.marked.as_ref().filter(|_| traced) {
            outcome.steps = marked.run_once(facts, head, traced, only).steps;
        }
        outcome
    }

    /// As `run`, with the edits made as the sender makes them: an image that the live box would hold then is held here too. For the
    /// bench, which promises a delivery to nobody that will not get it.
    pub(super) fn run_out(&self, facts: &Facts, head: &Head, traced: bool) -> Outcome {
        let mut outcome = self.run(facts, head, traced, None);
        if outcome.decision.hold.is_none() {
            let wrong = |delivery: &Delivery| {
                let made = contain(|| delivery.plan.make(head, &facts.sop_instance).map(drop));
                let reason = match made {
                    Ok(Ok(())) => return None,
                    Ok(Err(unmade)) => unmade.to_string(),
                    Err(Panicked) => "the edit was stopped".to_owned(),
                };
                Some(Hold {
                    kind: HoldKind::Edit,
                    reason: format!("when it is sent to {}: {reason}", delivery.destination),
                })
            };
            outcome.decision.hold = outcome.decision.deliveries.iter().find_map(wrong);
        }
        outcome
    }

    fn run_once(&self, facts: &Facts, head: &Head, traced: bool, only: Option<&DestinationId>) -> Outcome {
        let until = Instant::now() + self.parts.deadline;
        let (known, neighbours) = (self.known.clone(), self.neighbours.clone());
        let evaluation = Evaluation::new((head, facts), known, neighbours, until, traced);
        // Rhai has `unreachable!` arms; a panic there must cost one instance's hold, not the box. What it leaves behind is
        // the evaluation's own and dropped here.
        let ran = contain(|| self.evaluate(&evaluation, only));
        let ran = ran.unwrap_or_else(|_| {
            Err(Failure {
                file: self.entry.clone(),
                position: Position::NONE,
                fault: Fault::error("the rule failed inside the interpreter"),
            })
        });
        let mut state = evaluation.state();
        let events = state.events.take().unwrap_or_default();
        let by_study = state.by_study;
        let flags = std::mem::take(&mut state.flags);
        let mut steps = state.steps.take().unwrap_or_default();
        steps.end();
        let clock_skew = state.clock_skew;
        let aliases = std::mem::take(&mut state.aliases).into_list();
        let (routed, aliases, hold) = match ran {
            Err(failure) => (Vec::new(), Vec::new(), Some(failure.hold())),
            Ok(routed) => {
                let hold = state.hold.take();
                let nowhere = (routed.is_empty() && hold.is_none()).then(|| Hold {
                    kind: HoldKind::NoDestination,
                    reason: match flags.contains(&loops::FLAG) {
                        true => loops::NOWHERE_ELSE.to_owned(),
                        false => "no rule named a destination".to_owned(),
                    },
                });
                (routed, aliases, hold.or(nowhere))
            }
        };
        let changes = routed
            .iter()
            .map(|(_, changes)| changes.iter().cloned().collect())
            .collect();
        let deliveries = routed.into_iter().map(|(delivery, _)| delivery).collect();
        Outcome {
            decision: Decision {
                deliveries,
                hold,
                flags,
                clock_skew,
                aliases,
                by_study,
                epoch: self.epoch,
            },
            changes,
            events,
            steps,
        }
    }

    fn evaluate(
        &self,
        evaluation: &Arc<Evaluation>,
        only: Option<&DestinationId>,
    ) -> Result<Vec<(Delivery, Changes)>, Failure> {
        let engine = self.parts.evaluator(evaluation, &self.modules);
        let call = |phase: Phase, function: &str| {
            evaluation.state().phase = phase;
            let arguments = (Image(evaluation.clone()), From(evaluation.clone()));
            engine
                .call_fn_with_options::<Dynamic>(
                    CallFnOptions::new(),
                    &mut Scope::new(),
                    &self.tree,
                    function,
                    arguments,
                )
                .map(drop)
                .map_err(|error| Failure::of(&error, &self.entry).within(function))
        };
        if self.morph {
            call(Phase::Morph, "morph")?;
        }
        match only {
            None => call(Phase::Route, "route")?,
            Some(destination) => evaluation.state().deliveries = vec![Wanted::plainly(destination.clone())],
        }
        let (common, wanted) = {
            let mut state = evaluation.state();
            (state.changes.clone(), std::mem::take(&mut state.deliveries))
        };
        let wanted = match only {
            None => self.without_loops(wanted, evaluation),
            Some(_) => wanted,
        };
        let mut deliveries = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let Wanted {
                destination,
                priority,
                terms,
                ..
            } = wanted;
            let mut changes = common.clone();
            if let Some(function) = self.morph_for.get(&destination) {
                evaluation.state().changes = common.clone();
                call(Phase::MorphFor, function)?;
                changes = std::mem::take(&mut evaluation.state().changes);
            }
            let plan = self.plan(&changes, evaluation)?;
            let delivery = Delivery {
                destination,
                priority,
                plan,
                terms: if priority == Urgency::Stat {
                    terms.at_once()
                } else {
                    terms
                },
            };
            deliveries.push((delivery, changes));
        }
        Ok(deliveries)
    }

    /// What the rules named, without the way back, each destination once; and the hold of what comes round again and again.
    fn without_loops(&self, mut wanted: Vec<Wanted>, evaluation: &Evaluation) -> Vec<Wanted> {
        let passes = Passes::read(&evaluation.head, &self.system);
        loops::break_loops(&mut wanted, &passes, evaluation);
        if passes.count >= self.passes {
            loops::hold(evaluation);
        }
        loops::one_copy(wanted)
    }

    fn plan(&self, changes: &Changes, evaluation: &Evaluation) -> Result<Plan, Failure> {
        let facts = &evaluation.facts;
        let failure = |fault| Failure {
            file: self.entry.clone(),
            position: Position::NONE,
            fault,
        };
        if let Some((place, fault)) = changes.misnamed(&evaluation.head) {
            let (file, position) = place.unwrap_or((self.entry.clone(), Position::NONE));
            return Err(Failure { file, position, fault });
        }
        let edits = changes.edits(&evaluation.head).map_err(failure)?;
        if changes.is_anonymous {
            // The record of changes would tell what was taken out.
            return Ok(Plan { edits, stamp: None });
        }
        if !edits.is_empty() && !Plan::can_stamp(&evaluation.head) {
            // Every changed image says who changed it: better held now than when it is sent.
            return Err(failure(Fault::edit(EditError::BeyondHead.to_string())));
        }
        let stamp = (!edits.is_empty()).then(|| Stamp {
            system: self.system.clone(),
            at: facts.arrival.dicom(),
            epoch: format!("{:016x}", self.epoch),
            source: facts.source.to_string(),
        });
        Ok(Plan { edits, stamp })
    }

    fn compile(
        folder: &Path,
        sources: &[(String, String)],
        (config, probed): (&Config, bool),
        destinations: &[DestinationId],
    ) -> Result<Self, Vec<Problem>> {
        let until = Instant::now() + load::DEADLINE;
        let plain = Parts::new(config);
        let parts = if probed { plain.probed() } else { plain };
        let compiler = parts.compiler(until);
        let mut draft = Draft::new(folder, sources, parts.text);
        let mut trees = draft.parse(&compiler, probed)?;
        draft.known.shapes = parts.word_shapes.clone();
        (draft.known.tables, draft.known.faulty_tables) = tables::read_all(folder, sources, &mut draft.problems);
        draft.known.local = Local::read(config)?;
        let natives = parts.function_names();
        let functions = draft.lint(sources, destinations, (&natives, &parts.word_names));
        let entry = draft.entry(&trees)?;
        // The entry is one of the compiled files: `entry` takes it from among them.
        let tree = trees.remove(load::stem(&entry)).unwrap_or_default();
        let morph_for = draft.signatures(&tree, &entry, destinations, &functions);
        let modules = draft.link(&parts, until, trees, (&tree, &entry));
        if !draft.problems.is_empty() {
            draft
                .problems
                .sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
            // Two checks may find the same.
            draft.problems.dedup();
            return Err(draft.problems);
        }
        let warnings = draft.warnings(&entry);
        draft.known.destinations = destinations.to_vec();
        let epoch = draft.known.local.epoch(load::epoch(sources));
        draft.known.charsets = config.charsets.clone();
        let (system, neighbours) = config.site.clone().unwrap_or(("Waystation".to_owned(), Vec::new()));
        Ok(Self {
            morph: load::has(&tree, "morph"),
            parts,
            entry,
            tree,
            modules,
            known: Arc::new(draft.known),
            morph_for,
            system,
            warnings,
            content: load::epoch(sources),
            neighbours: neighbours.into(),
            passes: config.passes,
            epoch,
            marked: None,
        })
    }
}
