//! Storage commitment (PS3.4 Annex J), both roles. Layer 5: between the spool, which keeps everything, and the peers.
//!
//! As SCU, one task for each destination that commits asks it for what it took, study by study (`archive.rs`); only its answer
//! ends a job. As SCP, one task for each request of a source waits until every instance has an answer, and then tells the
//! source until it has understood (`source.rs`). Nothing of it lives only here: after a crash both begin again from the spool.
mod archive;
mod peer;
mod source;
#[cfg(test)]
mod tests;
mod trouble;

use crate::base::clock::{Clock, Wall};
use crate::base::drain::Drain;
use crate::base::fault::{Moment, die_at};
use crate::base::names::{AeTitle, DestinationId, SourceId};
use crate::dicom::commitment::{self as words, Reference, Report};
use crate::listener::SourceConfig;
use crate::listener::commitment::{Arrivals, Desk, Lines};
use crate::pki::Slot;
use crate::sender::commitment::{Caller, Config};
use crate::sender::{self, tls};
use crate::spool::Spool;
use crate::spool::commitment::{Named, Spoken, Told};
use crate::telemetry::metrics::Metrics;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// What it is built from.
#[derive(Clone)]
pub struct Parts {
    pub spool: Spool,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Owns all tasks.
    pub drain: Drain,
    /// For transaction UIDs and jitter.
    pub seed: u64,
}

/// Storage commitment of a box. Cheap to clone.
#[derive(Clone)]
pub struct Commitment {
    shared: Arc<Shared>,
}

/// A peer that cannot be called, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("commitment of {name}: {error}")]
pub struct StartError {
    pub name: String,
    pub error: tls::TlsError,
}

struct Shared {
    parts: Parts,
    archives: BTreeMap<DestinationId, Archive>,
    sources: BTreeMap<SourceId, Source>,
    arrivals: Arrivals,
    lines: Lines,
    /// Requests of sources that are not over.
    open: Mutex<BTreeMap<u64, Waits>>,
    rng: Mutex<StdRng>,
}

/// A request of a source that is not over.
struct Waits {
    source: SourceId,
    /// The source that is told, by its name in force.
    told_as: Option<SourceId>,
    /// When it came.
    at: Wall,
}

/// A destination that commits.
struct Archive {
    config: Config,
    caller: Caller,
    poke: Notify,
    /// A person wants everything to be asked now, whatever was refused before.
    hurry: AtomicBool,
    /// It has answered since this was last looked at.
    answered: AtomicBool,
    /// Associations that are kept open for an answer.
    lingering: Arc<Semaphore>,
}

/// A source that may ask.
struct Source {
    config: crate::listener::commitment::Config,
    titles: Vec<AeTitle>,
    /// `None`: it is told only over associations of its own.
    caller: Option<Caller>,
    poke: Notify,
    /// Associations that are open to tell it answers.
    calls: Semaphore,
}

/// Associations with one archive that wait for its answer.
const LINGERING_MAX: usize = 4;
/// Associations that tell one source at a time.
const CALLS_MAX: usize = 2;

impl Commitment {
    /// Reads certificates, and goes on with everything that the spool knows as open.
    ///
    /// # Errors
    /// See `StartError`; nothing was started then.
    pub fn new(parts: Parts, sources: &[SourceConfig], destinations: &[sender::Config]) -> Result<Self, StartError> {
        let mut archives = BTreeMap::new();
        for destination in destinations {
            if let sender::Config::Dicom(peer) = destination
                && let Some(config) = &peer.commitment
            {
                let failed = |error| StartError {
                    name: peer.name.to_string(),
                    error,
                };
                let archive = Archive {
                    caller: Caller::of(peer, config).map_err(failed)?,
                    config: config.clone(),
                    poke: Notify::new(),
                    hurry: AtomicBool::new(false),
                    answered: AtomicBool::new(false),
                    lingering: Arc::new(Semaphore::new(LINGERING_MAX)),
                };
                archives.insert(peer.name.clone(), archive);
            }
        }
        let mut known = BTreeMap::new();
        for source in sources.iter().filter(|source| !source.only_reports) {
            let failed = |error| StartError {
                name: source.name.to_string(),
                error,
            };
            let entry = Source {
                caller: peer::caller(source).map_err(failed)?,
                config: source.commitment.clone(),
                titles: source.calling_ae.clone(),
                poke: Notify::new(),
                calls: Semaphore::new(CALLS_MAX),
            };
            // There from the start, so that its first increase is one.
            for result in ["taken", "failed", "given_up"] {
                let reports = &parts.metrics.commitment.reports_total;
                reports.with_label_values(&[source.name.as_str(), result]);
            }
            known.insert(source.name.clone(), entry);
        }
        let rng = StdRng::seed_from_u64(parts.seed);
        Ok(Self {
            shared: Arc::new(Shared {
                parts,
                archives,
                sources: known,
                arrivals: Arrivals::default(),
                lines: Lines::default(),
                open: Mutex::default(),
                rng: Mutex::new(rng),
            }),
        })
    }

    /// Goes on with everything that the spool knows as open. Called once.
    pub fn start(&self) {
        let shared = &self.shared;
        for name in shared.archives.keys() {
            let (shared, name) = (shared.clone(), name.clone());
            let drain = shared.parts.drain.clone();
            drain.spawn("commitment requests", async move { archive::run(&shared, &name).await });
        }
        let mut unasked = shared.parts.spool.awaited();
        unasked.retain(|name| !shared.archives.contains_key(name));
        let (watching, drain) = (shared.clone(), shared.parts.drain.clone());
        drain.spawn("commitment that nobody asks for", async move {
            archive::watch_unasked(&watching, unasked).await;
        });
        let shared = shared.clone();
        let drain = shared.parts.drain.clone();
        drain.spawn("commitment answers", async move { source::resume(&shared).await });
    }

    /// The certificates towards archives and sources, to be watched and shown.
    #[must_use]
    pub fn certificates(&self) -> Vec<Arc<Slot>> {
        let archives = self.shared.archives.values().map(|archive| &archive.caller);
        let sources = self.shared.sources.values().filter_map(|source| source.caller.as_ref());
        let slots = archives.chain(sources).filter_map(Caller::certificates);
        slots.cloned().collect()
    }

    /// What the listeners hand requests and answers to.
    #[must_use]
    pub fn desk(&self) -> Desk {
        let (asks, takes, owes) = (self.shared.clone(), self.shared.clone(), self.shared.clone());
        Desk {
            request: Arc::new(move |requester, action| {
                let shared = asks.clone();
                Box::pin(async move { source::request(&shared, requester, action).await })
            }),
            take: Arc::new(move |who, speaks_for, report| {
                let shared = takes.clone();
                Box::pin(async move { shared.take(who.as_str(), speaks_for, report).await })
            }),
            owes: Arc::new(move |source| owes.owes(source)),
            arrivals: self.shared.arrivals.clone(),
            lines: self.shared.lines.clone(),
        }
    }

    /// Tries now: asks a destination again for everything that it has not answered, tells a source again. Without a name all of
    /// them. Answers how many there are of that name.
    pub async fn retry(&self, name: Option<&str>) -> usize {
        let wanted = |known: &str| name.is_none_or(|name| name == known);
        let mut count = 0;
        for (name, archive) in self.shared.archives.iter().filter(|(name, _)| wanted(name.as_str())) {
            archive::lapse_all(&self.shared, name).await;
            archive.poke.notify_one();
            count += 1;
        }
        for (_, source) in self.shared.sources.iter().filter(|(name, _)| wanted(name.as_str())) {
            source.poke.notify_waiters();
            count += 1;
        }
        count
    }
}

impl Shared {
    /// Takes an archive's answer; the status that it is answered with.
    async fn take(&self, who: &str, speaks_for: Vec<DestinationId>, report: Report) -> u16 {
        let metrics = &self.parts.metrics;
        let archive = speaks_for.first().and_then(|name| self.archives.get(name));
        let (tries, pause) = archive.map_or((1, std::time::Duration::ZERO), |archive| {
            (archive.config.tries, archive.config.pause.0)
        });
        let spoken = Spoken {
            transaction: report.transaction,
            committed: report.committed.into_iter().map(named).collect(),
            failed: report.failed.into_iter().map(|(of, why)| (named(of), why)).collect(),
            speaks_for,
            tries,
            pause,
        };
        die_at(Moment::WordHeard);
        let told = self.parts.spool.spoken(spoken).await;
        die_at(Moment::WordRecorded);
        match told {
            Ok(Told::Done {
                destination,
                committed,
                again,
                held,
            }) => {
                let answers = &metrics.commitment.answers_total;
                for (result, count) in [("committed", committed), ("again", again), ("held", held)] {
                    answers.with_label_values(&[destination.as_str(), result]).inc_by(count);
                }
                if again + held > 0 {
                    tracing::warn!(%destination, committed, again, held, "the archive does not commit to everything that it took");
                } else {
                    tracing::info!(%destination, committed, "the archive has committed");
                }
                if let Some(archive) = self.archives.get(&destination) {
                    archive.answered.store(true, Ordering::Relaxed);
                    archive.poke.notify_one();
                }
                crate::dicom::status::SUCCESS
            }
            Ok(Told::Repeated) => crate::dicom::status::SUCCESS,
            Ok(Told::Unknown) => {
                metrics.commitment.unmatched_total.with_label_values(&[who]).inc();
                tracing::warn!(
                    source = who,
                    "an answer is not believed: its transaction was not asked, or it does not come from where `destinations.commitment` says (addresses, calling_ae, certificates)"
                );
                words::INVALID_ARGUMENT
            }
            Err(error) => {
                tracing::error!(source = who, %error, "an archive's answer could not be recorded");
                words::PROCESSING_FAILURE
            }
        }
    }

    fn random(&self) -> u128 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

fn named(reference: Reference) -> Named {
    Named {
        class: reference.class,
        instance: reference.instance,
    }
}

fn reference(named: Named) -> Reference {
    Reference {
        class: named.class,
        instance: named.instance,
    }
}

/// Listeners' sources, with the archives that may call back as entries behind them, which may do nothing else. An archive that is
/// a source too is admitted by its `[[sources]]` entry; whether its answers are believed, its `commitment` table alone says.
#[must_use]
pub fn with_archives(sources: &[SourceConfig], destinations: &[sender::Config]) -> Vec<SourceConfig> {
    let archives = destinations.iter().filter_map(|destination| match destination {
        sender::Config::Dicom(peer) => crate::listener::commitment::archive(peer),
        sender::Config::Folder(_) => None,
    });
    sources.iter().cloned().chain(archives).collect()
}
