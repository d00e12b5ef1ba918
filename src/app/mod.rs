//! The composition root: configuration → parts → tasks, the order of start, and the order of drain. Layer 7.
//!
//! Start: log, spool (which reconciles and salvages itself), rules, lanes, then the ports, ready last; what a salvage left
//! undecided is decided meanwhile.
//! Stop (SIGTERM, SIGINT, or a failed spool): listeners and associations first, so that nothing new is acknowledged; then the
//! lanes, each finishing what it sends; then the spool. Each phase is bounded, and says what it still waits for.
mod alarms;
mod certificates;
mod commitment;
mod custody;
mod decider;
mod opening;
mod signals;
mod syntaxes;

use crate::alarms::Alarms;
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::DestinationId;
use crate::base::panics;
use crate::config::{Config, Unforced};
use crate::control::{self, Certificates, verbs::Verbs};
use crate::ingest::Ingest;
use crate::listener::Limits;
use crate::listener::accept::{BindError, Bound, Shared};
use crate::listener::admission::Admission;
use crate::listener::passed::Passed;
use crate::listener::pending::Pending;
use crate::rules::{self, RuleStore};
use crate::scheduler::{self, Scheduler};
use crate::spool::{OpenError, Spool};
use crate::telemetry::metrics::Metrics;
use crate::transcode::Known;
use crate::{
    appliance::{self, home::State},
    web,
};
use decider::Decider;
use opening::{found, open_spool, refuse_root, strangers};
use signals::{Signals, Told};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use syntaxes::FILE as LEARNED;

/// Why a box does not start, or ends by itself. Each says what to do, and none carries patient data.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("node.state: {path} cannot be made: {error}")]
    State { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Home(#[from] appliance::home::HomeError),
    #[error(transparent)]
    Spool(#[from] OpenError),
    #[error("the rules cannot be used:\n{0}")]
    Rules(String),
    #[error(transparent)]
    Destination(#[from] scheduler::StartError),
    #[error(transparent)]
    Commitment(#[from] crate::commitment::StartError),
    #[error(transparent)]
    Listener(#[from] BindError),
    #[error("the scratch folder {path} for conversions cannot be made: {error}")]
    Scratch { path: PathBuf, error: std::io::Error },
    #[error("web.listen: {0}")]
    Web(std::io::Error),
    #[error("control.path: {0}")]
    Control(control::server::BindError),
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    #[error("the start was interrupted")]
    Interrupted,
    #[error("the spool failed: nothing more can be made durable; the service manager starts the box again")]
    SpoolFailed,
}

/// The parts of a running box, in the order of the data path.
struct Parts {
    spool: Spool,
    rules: RuleStore,
    ingest: Ingest,
    scheduler: Scheduler,
    commitment: crate::commitment::Commitment,
    metrics: Metrics,
    known: Known,
    /// Listeners, associations, rule watcher.
    inward: Drain,
    /// Lanes.
    outward: Drain,
    /// Web, control socket, watchdog: to the very end.
    service: Drain,
    /// What is asked of the ledger.
    desk: web::Desk,
    /// The rule folder.
    rule_folder: Option<PathBuf>,
    unforced: Unforced,
    clock: Clock,
    /// Set when the ports are open.
    certificates: std::sync::OnceLock<Certificates>,
    /// Descriptors that this process may have open.
    files: u64,
    /// `node.state` is ours until the end.
    _home: Arc<State>,
}

/// Runs a box, on the sockets that the service manager has passed and its own, until it is told to stop. `Ok` after an orderly stop.
/// `unforced` says at a reload what only a restart brings into force.
///
/// # Errors
/// See `AppError`; the process must then end with a code other than 0.
pub async fn run(config: Config, unforced: Unforced, passed: Passed) -> Result<(), AppError> {
    let mut signals = Signals::new().map_err(AppError::Signals)?;
    let bound = config.node.drain.0;
    let parts = appliance::starting(Parts::start(&config, unforced)).await?;
    let opened = parts.open(&config, passed).await;
    // Something commits at every start: a spool that has failed by now takes no image, and `ready` would be a lie.
    let started = opened.and(match parts.spool.health().failed {
        true => Err(AppError::SpoolFailed),
        false => Ok(()),
    });
    if let Err(error) = started {
        appliance::stopping(&error.to_string(), bound * 2 + SERVICE_BOUND + CLOSE_BOUND + END_BOUND);
        parts.stop(bound).await;
        return Err(error);
    }
    appliance::ready(match parts.rules.is_refused() {
        false => "taking images",
        true => "taking images, the rule folder is refused, the set that was in force last is in force",
    });
    parts.feed_watchdog();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = %config.node.name, "ready");
    let end = loop {
        tokio::select! {
            () = parts.spool.failed() => break Err(AppError::SpoolFailed),
            told = signals.next() => match told {
                Told::Stop => break Ok(()),
                Told::Reload => parts.reload().await,
            },
        }
    };
    let why = end.as_ref().err().map_or("draining".to_owned(), ToString::to_string);
    appliance::stopping(&why, bound * 2 + SERVICE_BOUND + CLOSE_BOUND + END_BOUND);
    parts.stop(bound).await;
    end
}

impl Parts {
    async fn start(config: &Config, unforced: Unforced) -> Result<Self, AppError> {
        let files = appliance::raise_files();
        let (metrics, clock) = (Metrics::new(), Clock::System);
        let counted = metrics.clone();
        panics::watch(move || counted.panics_total.inc());
        let state = config.node.state.clone();
        refuse_root(config)?;
        std::fs::create_dir_all(&state).map_err(|error| AppError::State { path: state, error })?;
        let home = Arc::new(State::claim(&config.node.state)?);
        let (spool, report) = open_spool(&home, config, &clock, &metrics).await?;
        spool.reads_plans(scheduler::written_uid);
        found(&report);
        let names: Vec<DestinationId> = config.destinations.iter().map(|to| to.name().clone()).collect();
        let site = rules::Site {
            node: config.node.name.clone(),
            destinations: names.clone(),
            neighbours: config.neighbours(),
            state: Some(config.node.state.clone()),
        };
        let (settings, counted, time) = (config.rules.clone(), metrics.clone(), clock.clone());
        let loading = tokio::task::spawn_blocking(move || RuleStore::open(&settings, site, counted, time));
        let rules = loading
            .await
            .map_err(|_| AppError::Interrupted)?
            .map_err(|problems| refused(&problems))?;
        strangers(&spool, &names);
        custody::tell_promotions(&spool, config.rules.path.clone()).await;
        let desk = custody::desk(&spool, &clock, &metrics, config).await;
        let (inward, outward, service) = (Drain::new(), Drain::new(), Drain::new());
        let seed = rand::random();
        let conversions = syntaxes::conversions(config, &spool, &clock, &metrics)?;
        let known = conversions.known.clone();
        syntaxes::keep(&known, &config.node.state, &service);
        let lanes = scheduler::Parts {
            spool: spool.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            drain: outward.clone(),
            seed,
            conversions: Some(conversions),
            state: config.node.state.clone(),
        };
        let commitment = commitment::build(&lanes, config)?;
        let scheduler = Scheduler::start(&lanes, &config.destinations)?;
        let longest = config.limits.max_instance.0;
        let ingest = Ingest::new(spool.clone(), rules.clone(), metrics.clone(), clock.clone(), longest);
        Ok(Self {
            spool,
            rules,
            ingest,
            scheduler,
            commitment,
            metrics,
            known,
            inward,
            outward,
            service,
            desk,
            rule_folder: config.rules.path.clone(),
            unforced,
            clock,
            certificates: std::sync::OnceLock::new(),
            files,
            _home: home,
        })
    }

    /// Opens the doors: first those of the people who look after the box, then those of the modalities.
    async fn open(&self, config: &Config, mut passed: Passed) -> Result<(), AppError> {
        let readiness = self.readiness();
        let web = web::Server::bind(&config.web, self.metrics.clone(), readiness, Some(self.desk.clone()))
            .await
            .map_err(AppError::Web)?;
        let control = control::Server::bind(&config.control).map_err(AppError::Control)?;
        let bound: Vec<Bound> = config
            .listeners
            .iter()
            .cloned()
            .map(|listener| Bound::bind(listener, &mut passed))
            .collect::<Result<_, _>>()?;
        for socket in passed.left() {
            tracing::error!(
                socket,
                "the service manager passes a socket that no listener has: who connects there waits for nothing; make listeners.address and the socket unit the same"
            );
        }
        let alarms = self.start_alarms(config).await.ok_or(AppError::Interrupted)?;
        let certificates = self.watch_certificates(&bound, config);
        control.start(&self.service, self.verbs(certificates, alarms).handler());
        self.start_recovery();
        self.start_custody();
        self.commitment.start();
        let admission = Admission::new(commitment::sources(config), &config.limits);
        let shared = Shared::new(
            (self.ingest.clone(), self.commitment.desk()),
            admission,
            self.metrics.clone(),
            self.inward.clone(),
            Pending::new(places(&config.limits, self.files)),
        );
        for listener in bound {
            listener.start(shared.clone());
        }
        self.rules.watch(&self.inward);
        web.start(&self.service);
        Ok(())
    }

    /// After `ready`: from then on the manager waits to hear of it, and what comes before means nothing.
    fn feed_watchdog(&self) {
        let spool = self.spool.clone();
        appliance::watchdog(&self.service, move || {
            let health = spool.health();
            async move { health.commit_alive && !health.failed }
        });
    }

    /// Why peers should not be sent here now, in constant words.
    fn readiness(&self) -> web::Readiness {
        let (spool, inward, scheduler) = (self.spool.clone(), self.inward.clone(), self.scheduler.clone());
        let metrics = self.metrics.clone();
        let rules = self.rules.clone();
        Arc::new(move || {
            let health = spool.health();
            let facts = [
                (health.latched, "spool gate latched after a write error"),
                (health.failed, "spool failed"),
                (health.low_water, "disk below its low-water mark"),
                (!health.commit_alive, "commit thread not running"),
                (inward.is_stopping(), "stopping"),
            ];
            let notes = [
                (
                    health.salvage_unread,
                    "instances were lost or are doubtful, or the ledger is an older one: read `waystation spool salvage`",
                ),
                (health.damaged > 0, "payloads are damaged: see `waystation spool scrub`"),
                (
                    !health.witnessed,
                    "`witness` or `orders` beside the index cannot be written: the log says why",
                ),
                (
                    rules.is_unkept(),
                    "the rules in force cannot be kept below node.state: the log says why",
                ),
                (
                    !spool.strangers(&scheduler.names()).is_empty(),
                    "jobs wait for a destination that is not configured: see `waystation lanes`",
                ),
                (
                    metrics.alarms.state_unwritten.get() > 0,
                    "node.state cannot be written: see `waystation alarms ls`",
                ),
            ];
            let that_hold = |facts: &[(bool, &'static str)]| {
                let holding = facts.iter().filter(|(holds, _)| *holds);
                holding.map(|(_, words)| *words).collect()
            };
            web::Standing {
                reasons: that_hold(&facts),
                notes: that_hold(&notes),
            }
        })
    }

    fn decider(&self) -> Decider {
        Decider {
            spool: self.spool.clone(),
            ingest: self.ingest.clone(),
        }
    }

    fn verbs(&self, certificates: Certificates, alarms: Alarms) -> Verbs {
        let rules = self.rules.clone();
        let reload: control::verbs::Reload = Arc::new(move || {
            let problems = |problems: Vec<rules::Problem>| problems.iter().map(ToString::to_string).collect();
            rules
                .reload()
                .map(|epoch| format!("rules {epoch:016x} are in force"))
                .map_err(problems)
        });
        let decider = self.decider();
        let decide: control::decide::Decide = Arc::new(move |instance, only| {
            let decider = decider.clone();
            Box::pin(async move { decider.decide(&instance, only).await })
        });
        let (folder, unforced) = (self.rule_folder.clone(), self.unforced.clone());
        Verbs {
            spool: self.spool.clone(),
            scheduler: self.scheduler.clone(),
            reload,
            unforced: Arc::new(move || unforced.words()),
            decide,
            known: self.known.clone(),
            alarms,
            custody: self.desk.custody.clone(),
            reconciler: self.desk.reconciler.clone(),
            history: Arc::new(move || custody::history(folder.as_deref())),
            commitment: commitment::retry(&self.commitment),
            certificates,
        }
    }

    /// SIGHUP: the rule folder and the certificates are read again. Bad ones change nothing but the alarm, which has been raised
    /// and logged.
    async fn reload(&self) {
        appliance::reloading();
        self.reload_certificates().await;
        let (rules, unforced) = (self.rules.clone(), self.unforced.clone());
        let loading = move || {
            if let Some(changed) = unforced.words() {
                tracing::warn!("{changed}");
            }
            rules.reload()
        };
        let loaded = tokio::task::spawn_blocking(loading).await;
        let status = match loaded {
            Ok(Ok(_)) => "taking images, rules reloaded",
            Ok(Err(_)) | Err(_) => "taking images, new rules refused, the old ones stay in force",
        };
        appliance::ready(status);
    }

    /// What a salvage or rebuild found again is decided by the rules of today, while the box takes images already: of a resend
    /// that comes first, only one is delivered.
    fn start_recovery(&self) {
        let (decider, drain) = (self.decider(), self.inward.clone());
        self.inward.spawn("recovery", async move {
            tokio::select! {
                () = drain.stopping() => {}
                () = decider.decide_recovered() => {}
            }
        });
    }

    /// Inward first, outward next, the service doors last, then the spool.
    async fn stop(self, bound: Duration) {
        let phases = [("listeners", &self.inward, bound), ("lanes", &self.outward, bound)];
        for (phase, drain, bound) in phases {
            if let Err(waiting) = drained(phase, drain, bound).await {
                tracing::warn!(phase, %waiting, "not drained in time, going on without");
            }
        }
        if let Err(waiting) = self.service.stop(SERVICE_BOUND).await {
            tracing::warn!(%waiting, "service doors not closed in time");
        }
        let open = self.spool.clone();
        if tokio::time::timeout(CLOSE_BOUND, self.spool.close()).await.is_err() {
            // The last one that goes closes the spool, and would wait for the disk here.
            std::mem::forget(open);
            // As after a `kill -9`: what was acknowledged is on the disk, and a settlement that is not is a delivery more.
            tracing::error!("the disk does not let the spool be closed in time: the box ends all the same");
        }
        tracing::info!("stopped");
    }
}

/// Connections that may be pending: as configured, but never so many that associations, lanes and the spool find no
/// descriptor. An association takes two, its socket and its payload file.
fn places(limits: &Limits, files: u64) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let others = limits.max_associations.saturating_mul(2).saturating_add(OTHER_FILES);
    limits.max_pending.min(files.saturating_sub(others).max(files / 4))
}

/// Descriptors of the spool, the lanes and the doors: an index of some hundred tables, its log, the payload pool.
const OTHER_FILES: usize = 512;

/// Stops a phase, and says every few seconds what it still waits for.
async fn drained(phase: &str, drain: &Drain, bound: Duration) -> Result<(), String> {
    let stopping = drain.stop(bound);
    tokio::pin!(stopping);
    loop {
        tracing::info!(phase, waiting = %drain.waiting_for(), "draining");
        tokio::select! {
            done = &mut stopping => return done,
            () = tokio::time::sleep(SAY_AGAIN) => {}
        }
    }
}

/// How often a drain says what it waits for.
const SAY_AGAIN: Duration = Duration::from_secs(5);

const SERVICE_BOUND: Duration = Duration::from_secs(5);

/// What the spool may take to close.
const CLOSE_BOUND: Duration = Duration::from_secs(15);

/// What threads that hang on a disk may take after that, before the process ends without them: for the caller of `run`, who has the
/// runtime.
pub const END_BOUND: Duration = Duration::from_secs(2);

fn refused(problems: &[rules::Problem]) -> AppError {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    AppError::Rules(lines.join("\n"))
}
