//! The rule set in force, and its reload. A set that is refused changes nothing: the old one stays, the problems are logged
//! with file, line and column, and the gauge `waystation_rules_reload_failed` stands at 1 until a good set is loaded. So at a start too: it takes
//! the set that was in force last (`kept`).
//!
//! A decision takes a snapshot (one reference count) and holds nothing while it runs. Blocking work (reading files, compiling)
//! is in `reload`; `watch` calls it on a blocking thread.
use super::bench::promotion::{self, Part};
use super::kept::{self, Texts};
use super::load;
use super::load::files;
use super::{Config, Decision, Facts, Hold, HoldKind, Neighbour, Problem, RuleSet};
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::DestinationId;
use crate::base::panics::{Panicked, contain};
use crate::dicom::head::Head;
use crate::telemetry::metrics::Metrics;
use notify::Watcher;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// An editor writes a file in several steps; the reload waits until it has been quiet this long.
const QUIET: Duration = Duration::from_millis(300);
/// How often the folder is looked at without being told of a change (network file systems tell nothing).
const POLL: Duration = Duration::from_secs(5);
/// How often what could not be kept is tried again.
const KEEP_AGAIN: Duration = Duration::from_secs(15);
/// Reading and compiling a folder; a dead network file system must not block the watcher for ever.
const RELOAD_DEADLINE: Duration = Duration::from_secs(60);

/// What rules need to know of the box they run on.
#[derive(Clone, Debug)]
pub struct Site {
    /// The box's name, for the edited instances' Modifying System.
    pub node: String,
    pub destinations: Vec<DestinationId>,
    /// Which of them may also send to this box.
    pub neighbours: Vec<Neighbour>,
    /// `node.state`, where the set in force is kept for a start that finds the folder refused; `None` keeps none.
    pub state: Option<PathBuf>,
}

impl Site {
    /// A set as this box uses it.
    fn dress(&self, set: RuleSet) -> RuleSet {
        set.with_system(&self.node).with_neighbours(&self.neighbours)
    }
}

/// Decides with the rule set in force. Cheap to clone.
#[derive(Clone)]
pub struct RuleStore(Arc<Store>);

struct Store {
    current: watch::Sender<InForce>,
    /// Where the set came from; `None` when it was handed over compiled.
    origin: Option<Origin>,
    /// One reload at a time; holds the fingerprint of the files that were last tried.
    tried: Mutex<u64>,
    /// The fingerprint of the files that are in force.
    loaded: AtomicU64,
    /// What those files say.
    contents: AtomicU64,
    /// What is in force and could not be kept for a start.
    unkept: Mutex<Option<Texts>>,
    is_unkept: AtomicBool,
    metrics: Metrics,
    clock: Clock,
}

/// The set in force, and the one that decides for a part of the images while it proves itself.
#[derive(Clone)]
struct InForce {
    set: Arc<RuleSet>,
    canary: Option<(Part, Arc<RuleSet>)>,
}

struct Origin {
    folder: PathBuf,
    config: Config,
    site: Site,
}

impl RuleStore {
    /// Loads the folder of `config`, or, when that is refused, the set that was in force last. Blocking.
    ///
    /// # Errors
    /// All problems of the folder, when no set is kept, or that one does not fit either; or that no folder is named.
    pub fn open(config: &Config, site: Site, metrics: Metrics, clock: Clock) -> Result<Self, Vec<Problem>> {
        let Some(folder) = config.path.clone() else {
            return Err(vec![Problem {
                file: PathBuf::from("rules.path"),
                line: None,
                column: None,
                message: "no rule folder is named".to_owned(),
            }]);
        };
        let (tried, contents) = (fingerprint(&folder), contents(&folder));
        let origin = Origin {
            folder,
            config: config.clone(),
            site,
        };
        let mut problems = match origin.load() {
            Ok((set, texts)) => {
                let store = Self::new(set, Some(origin), tried, metrics, clock);
                store.0.keep(texts);
                store.0.contents.store(contents, Ordering::Relaxed);
                store.0.loaded();
                return Ok(store);
            }
            Err(problems) => problems,
        };
        match origin.last() {
            Some(Ok(set)) => {
                tracing::warn!(
                    "the rule folder is refused at the start; the set that was in force last is in force again"
                );
                let store = Self::new(set, Some(origin), tried, metrics, clock);
                // Whatever lies in the folder is not in force.
                store.0.loaded.store(!tried, Ordering::Relaxed);
                store.0.contents.store(!contents, Ordering::Relaxed);
                store.0.refused(&problems);
                Ok(store)
            }
            Some(Err(unfit)) => {
                problems.extend(unfit);
                Err(problems)
            }
            None => Err(problems),
        }
    }

    /// A store with one set that never changes.
    #[must_use]
    pub fn fixed(set: RuleSet, metrics: Metrics, clock: Clock) -> Self {
        let set = InForce {
            set: Arc::new(set),
            canary: None,
        };
        let store = Self::new(set, None, 0, metrics, clock);
        store.0.loaded();
        store
    }

    fn new(set: InForce, origin: Option<Origin>, tried: u64, metrics: Metrics, clock: Clock) -> Self {
        let store = Store {
            current: watch::Sender::new(set),
            origin,
            tried: Mutex::new(tried),
            loaded: AtomicU64::new(tried),
            contents: AtomicU64::new(0),
            unkept: Mutex::default(),
            is_unkept: AtomicBool::new(false),
            metrics,
            clock,
        };
        Self(Arc::new(store))
    }

    /// The set in force now.
    #[must_use]
    pub fn current(&self) -> Arc<RuleSet> {
        self.0.current.borrow().set.clone()
    }

    /// Whether the rules in force ask for what was seen of a study.
    #[must_use]
    pub fn asks_for_study(&self) -> bool {
        let rules = self.0.current.borrow();
        let canary = rules.canary.as_ref().is_some_and(|(_, set)| set.asks_for_study());
        canary || rules.set.asks_for_study()
    }

    /// The epoch of the set in force now.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.current.borrow().set.epoch()
    }

    /// Decides on one instance with the set in force and counts the outcome. Blocks up to the rules' deadline.
    #[must_use]
    pub fn decide(&self, facts: &Facts, head: &Head) -> Decision {
        let (set, canary) = self.0.current.borrow().clone().for_image(facts, head);
        let start = Instant::now();
        let decision = set.decide(facts, head);
        self.0.metrics.rule_seconds.observe(start.elapsed().as_secs_f64());
        let outcome = decision.hold.as_ref().map_or("routed", |hold| hold.kind.as_str());
        self.0.metrics.rule_decisions_total.with_label_values(&[outcome]).inc();
        if canary {
            let counted = &self.0.metrics.rule_canary_decisions_total;
            counted.with_label_values(&[outcome]).inc();
        }
        for flag in &decision.flags {
            let flagged = &self.0.metrics.rule_flags_total;
            flagged.with_label_values(&[flag, facts.source.as_str()]).inc();
            tracing::warn!(flag, source = %facts.source, sop_instance = %facts.sop_instance, "a rule flagged the instance");
        }
        if let Some(skew) = decision.clock_skew {
            self.0.metrics.clock_skew(facts.source.as_str(), skew);
        }
        let on_purpose = |hold: &&Hold| matches!(hold.kind, HoldKind::Rule | HoldKind::Incomplete);
        if let Some(hold) = decision.hold.as_ref().filter(|hold| !on_purpose(hold)) {
            let (kind, reason) = (hold.kind.as_str(), hold.reason.as_str());
            tracing::error!(kind, reason, source = %facts.source, "a rule failed; the instance is held");
        }
        decision
    }

    /// What one destination gets when a person sends an instance there: see `RuleSet::decide_for`.
    #[must_use]
    pub fn decide_for(&self, facts: &Facts, head: &Head, destination: &DestinationId) -> Decision {
        let (set, _) = self.0.current.borrow().clone().for_image(facts, head);
        set.decide_for(facts, head, destination)
    }

    /// Whether the folder was refused when it was read last.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.metrics.rules_reload_failed.get() != 0
    }

    /// Whether what is in force could not be kept for a start that finds the folder refused. It is tried again.
    #[must_use]
    pub fn is_unkept(&self) -> bool {
        self.0.is_unkept.load(Ordering::Relaxed)
    }

    /// Whether the folder on the disk is not what is in force: changed and not loaded, or refused. Blocking.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let origin = self.0.origin.as_ref();
        origin.is_some_and(|origin| {
            // Files that were changed and put back have another time and say the same.
            fingerprint(&origin.folder) != self.0.loaded.load(Ordering::Relaxed)
                && contents(&origin.folder) != self.0.contents.load(Ordering::Relaxed)
        })
    }

    /// Loads the folder again and puts the new set in force. Blocking; SIGHUP and the watcher come here.
    ///
    /// # Errors
    /// All problems of the folder. The old set stays in force.
    pub fn reload(&self) -> Result<u64, Vec<Problem>> {
        let Some(origin) = &self.0.origin else {
            return Ok(self.epoch());
        };
        let mut tried = self.0.tried.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the files are read, so that a change while reading is seen as one more change.
        *tried = fingerprint(&origin.folder);
        let contents = contents(&origin.folder);
        match origin.load() {
            Ok((set, texts)) => {
                let epoch = set.set.epoch();
                let canary = set.canary.as_ref().map(|(_, set)| promotion::name(set));
                self.0.current.send_replace(set);
                self.0.keep(texts);
                self.0.loaded.store(*tried, Ordering::Relaxed);
                self.0.contents.store(contents, Ordering::Relaxed);
                self.0.loaded();
                tracing::info!(epoch = format_args!("{epoch:016x}"), canary, "rules loaded");
                Ok(epoch)
            }
            Err(problems) => {
                self.0.refused(&problems);
                Err(problems)
            }
        }
    }

    /// Starts the task that reloads when files of the folder change, and the one that keeps what could not be kept. They end when
    /// `drain` stops.
    pub fn watch(&self, drain: &Drain) {
        let (store, stop) = (self.clone(), drain.token());
        drain.spawn("rule keeper", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = store.keep_trying() => {}
            }
        });
        let wanted = self.0.origin.as_ref().filter(|origin| origin.config.watch);
        if let Some(origin) = wanted {
            let (store, stop, folder) = (self.clone(), drain.token(), origin.folder.clone());
            drain.spawn("rule watcher", async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = store.follow(folder) => {}
                }
            });
        }
    }

    /// Keeps what could not be kept before, if there is room by now. Blocking.
    pub(super) fn keep_again(&self) {
        self.0.keep_again();
    }

    async fn keep_trying(&self) {
        loop {
            tokio::time::sleep(KEEP_AGAIN).await;
            if self.is_unkept() {
                let store = self.clone();
                // Tried again in any case, as long as it is not kept.
                drop(tokio::task::spawn_blocking(move || store.keep_again()).await);
            }
        }
    }

    async fn follow(&self, folder: PathBuf) {
        let (told, mut changes) = mpsc::channel(1);
        // Kept alive here; without it polling alone still finds every change.
        let _watcher = listen(&folder, told.clone());
        // Keeps the channel open when the watcher could not start.
        let _told = told;
        let mut poll = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                _ = poll.tick() => {}
                _ = changes.recv() => while tokio::time::timeout(QUIET, changes.recv()).await.is_ok() {},
            }
            let store = self.clone();
            let check = tokio::task::spawn_blocking(move || store.reload_if_changed());
            if tokio::time::timeout(RELOAD_DEADLINE, check).await.is_err() {
                tracing::warn!("the rule folder does not answer");
            }
        }
    }

    fn reload_if_changed(&self) {
        let Some(origin) = &self.0.origin else {
            return;
        };
        let now = fingerprint(&origin.folder);
        let before = *self.0.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if now != before {
            // Both outcomes are logged and counted in `reload`.
            let _ = self.reload();
        }
    }
}

impl Origin {
    /// What the folder says is in force. A compiler that stumbles refuses.
    fn load(&self) -> Result<(InForce, Texts), Vec<Problem>> {
        let loaded = contain(|| Texts::load(&self.folder, &self.config, &self.site.destinations));
        let (texts, set, canary) = loaded.unwrap_or_else(|Panicked| Err(vec![load::stumbled(&self.folder)]))?;
        Ok((self.in_force(&texts, set, canary), texts))
    }

    fn in_force(&self, texts: &Texts, set: RuleSet, canary: Option<RuleSet>) -> InForce {
        let part = texts.canary.as_ref().map(|(part, _)| part.clone());
        let ready = |set: RuleSet| Arc::new(self.site.dress(set));
        InForce {
            set: ready(set),
            canary: part.zip(canary.map(ready)),
        }
    }

    /// The set that was in force last, for a start whose folder is refused; `None` when none is kept.
    fn last(&self) -> Option<Result<InForce, Vec<Problem>>> {
        let state = self.site.state.as_deref()?;
        let unfit = |message: &str| vec![kept::unfit(state, message)];
        let texts = match Texts::kept(state, &self.folder) {
            Ok(texts) => texts?,
            Err(message) => return Some(Err(unfit(&message))),
        };
        let usable = texts.usable(state, &self.config, &self.site.destinations);
        Some(usable.map(|(set, canary)| self.in_force(&texts, set, canary)))
    }
}

impl InForce {
    /// The set that decides for this image, and whether it is the canary.
    fn for_image(self, facts: &Facts, head: &Head) -> (Arc<RuleSet>, bool) {
        match self.canary {
            Some((part, set)) if part.holds(facts, head) => (set, true),
            Some(_) | None => (self.set, false),
        }
    }
}

impl Store {
    fn unkept(&self) -> MutexGuard<'_, Option<Texts>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is in force now for a start; what cannot be kept waits for `keep_again`. Blocking.
    fn keep(&self, texts: Texts) {
        let mut unkept = self.unkept();
        *unkept = None;
        self.is_unkept.store(false, Ordering::Relaxed);
        let Some(state) = self.origin.as_ref().and_then(|origin| origin.site.state.as_ref()) else {
            return;
        };
        if let Err(error) = texts.keep(state) {
            tracing::error!(%error, "the rules in force cannot be kept below node.state, which is tried again every {} s: until then a start that finds the rule folder refused has none to take", KEEP_AGAIN.as_secs());
            *unkept = Some(texts);
            self.is_unkept.store(true, Ordering::Relaxed);
        }
    }

    /// Blocking.
    fn keep_again(&self) {
        // Held meanwhile, so that a newer set comes after this one.
        let mut unkept = self.unkept();
        let state = self.origin.as_ref().and_then(|origin| origin.site.state.as_ref());
        if let (Some(texts), Some(state)) = (unkept.as_ref(), state)
            && texts.keep(state).is_ok()
        {
            *unkept = None;
            self.is_unkept.store(false, Ordering::Relaxed);
            tracing::info!("the rules in force are kept again");
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn loaded(&self) {
        let seconds = self.clock.now().0 as f64 / 1e6;
        self.metrics.rules_loaded_timestamp_seconds.set(seconds);
        self.metrics.rules_reload_failed.set(0);
        self.metrics.rules_reloads_total.with_label_values(&["loaded"]).inc();
    }

    fn refused(&self, problems: &[Problem]) {
        self.metrics.rules_reload_failed.set(1);
        self.metrics.rules_reloads_total.with_label_values(&["refused"]).inc();
        for problem in problems {
            tracing::error!(%problem, "rules refused; the set before stays in force");
        }
    }
}

/// Tells `told` of changes in the folder. The channel holds one notice; more say nothing new.
fn listen(folder: &Path, told: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = told.try_send(());
        }
    };
    let started = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    if started.is_err() {
        tracing::warn!("changes of the rule folder are found by polling only");
    }
    started.ok()
}

/// Names and contents of the folder's rule files. Only files are opened: a pipe would hold up whoever reads it.
fn contents(folder: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    let promoted = folder.join(promotion::ACTIVE);
    for file in files(folder).unwrap_or_default().into_iter().chain([promoted]) {
        let is_file = std::fs::metadata(&file).is_ok_and(|about| about.is_file());
        let read = is_file.then(|| std::fs::read(&file).ok()).flatten();
        (file, read).hash(&mut hash);
    }
    hash.finish()
}

/// Names, sizes and times of the folder's rule files.
fn fingerprint(folder: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    let promoted = folder.join(promotion::ACTIVE);
    for file in files(folder).unwrap_or_default().into_iter().chain([promoted]) {
        file.hash(&mut hash);
        if let Ok(about) = std::fs::metadata(&file) {
            about.len().hash(&mut hash);
            about.modified().ok().hash(&mut hash);
        }
    }
    hash.finish()
}
