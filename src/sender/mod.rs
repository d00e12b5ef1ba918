//! Sending: one job to one destination, and what the destination made of it. Layer 3.
//!
//! Called by the scheduler, which owns the queue. This room knows no spool: it is handed a job and a reader. Its promises:
//! the answer is the result; a send that fails, is cancelled or finds its payload damaged never carries the last-fragment
//! flag; after any disorder the session is aborted and never used again; the untouched rest of a data set leaves byte
//! for byte.
//!
//! | file | holds |
//! | --- | --- |
//! | `config.rs` | `[[destinations]]` |
//! | `ceiling.rs` | how much of the line, by time of day |
//! | `outcome.rs`, `payload.rs` | the words and the reader between scheduler and sender |
//! | `casting.rs`, `outgoing.rs`, `recasting.rs` | in which transfer syntax it leaves, and the conversion on the way |
//! | `data_set.rs`, `reflate.rs` | the data set as it leaves: edited head, untouched rest, checksum |
//! | `transport.rs`, `tls/`, `wrong_port.rs` | TCP and TLS; what a peer speaks that closes without a word |
//! | `dimse.rs` | a session with an archive |
//! | `reach.rs` | an association for a job; the probe of a destination that was lost |
//! | `survey.rs` | what a destination would refuse |
//! | `commitment.rs` | an association for storage commitment, with an archive or a source |
//! | `folder.rs`, `ground.rs`, `template.rs` | files in a folder, where it stands, and their names |
pub mod casting;
pub mod ceiling;
pub mod commitment;
pub mod config;
pub mod data_set;
pub mod dimse;
pub mod folder;
pub mod ground;
pub mod outcome;
mod outflow;
mod outgoing;
pub mod payload;
mod reach;
mod recasting;
mod reflate;
pub mod survey;
pub mod template;
pub mod tls;
pub mod transport;
pub mod wrong_port;

#[cfg(test)]
pub(crate) mod tests;

pub use casting::{Conversions, Fact};
pub use config::{Config, Dicom, Duplicate, Folder, Patience, Retry, Timeouts};
pub use dimse::{PAIRS_MAX, Pair};
pub use outcome::{Down, DownKind, Ended, Interruption, Job, Left, Outcome};
pub use payload::{PayloadReader, ReadFault};

use crate::base::clock::Clock;
use crate::base::fault::{Plant, panic_if};
use crate::base::names::JobId;
use crate::pki::{Role, Slot};
use crate::transcode::known::Learned;
use casting::Caster;
use ceiling::Governor;
use dimse::{Begun, Session};
use folder::Shelf;
use outgoing::Load;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tls::Connector;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transport::Progress;

/// How to reach one destination. Cheap to clone.
#[derive(Clone)]
// One for each destination, for the life of the box.
#[allow(clippy::large_enum_variant)]
pub enum Link {
    Dicom {
        peer: Arc<Dicom>,
        tls: Option<Connector>,
        caster: Caster,
        /// The destination's ceiling.
        governor: Option<Governor>,
    },
    Folder(Arc<Shelf>),
}

/// Why a destination cannot be set up from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error(transparent)]
    Template(#[from] template::TemplateError),
}

impl Link {
    /// Reads certificates and parses the template; opens nothing.
    ///
    /// # Errors
    /// See `LinkError`.
    pub fn new(config: &Config) -> Result<Self, LinkError> {
        Ok(match config {
            Config::Dicom(peer) => Self::Dicom {
                peer: Arc::new((**peer).clone()),
                caster: Caster::new(peer, None),
                tls: peer.tls.as_ref().map(|tls| connector_of(peer, tls)).transpose()?,
                governor: Governor::new(&peer.ceiling, &Clock::System),
            },
            Config::Folder(folder) => Self::Folder(Arc::new(Shelf::new(folder)?)),
        })
    }

    /// The same, with conversions on the way.
    #[must_use]
    pub fn converting(mut self, conversions: Conversions) -> Self {
        if let Self::Dicom { peer, caster, .. } = &mut self {
            *caster = Caster::new(peer, Some(conversions));
        }
        self
    }

    /// Where it is, for a line of the log: host and port as configured, or the folder.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Dicom { peer, .. } if peer.host.contains(':') => format!("[{}]:{}", peer.host, peer.port),
            Self::Dicom { peer, .. } => format!("{}:{}", peer.host, peer.port),
            Self::Folder(shelf) => shelf.root().display().to_string(),
        }
    }

    /// Asks what would become of stored pairs here; each with whether its refusal matters. A folder takes everything.
    ///
    /// # Errors
    /// See `Down`.
    pub async fn survey(&self, stored: &[(Pair, bool)]) -> Result<Vec<survey::Finding>, Down> {
        match self {
            Self::Dicom { peer, tls, caster, .. } => survey::survey((peer, tls.as_ref()), caster, stored).await,
            Self::Folder(_) => Ok(Vec::new()),
        }
    }

    /// The same for questions only: nothing is converted, what is answered is learned.
    #[must_use]
    pub fn asking(mut self, known: crate::transcode::Known) -> Self {
        if let Self::Dicom { peer, caster, .. } = &mut self {
            *caster = Caster::asking(peer, known);
        }
        self
    }

    /// What was learned of the destination and still counts; nothing of a folder.
    #[must_use]
    pub fn matrix(&self) -> Vec<Learned> {
        match self {
            Self::Dicom { caster, .. } => caster.matrix(),
            Self::Folder(_) => Vec::new(),
        }
    }

    /// What the destination was known to refuse is asked for again.
    pub fn forget_refusals(&self) {
        if let Self::Dicom { caster, .. } = self {
            caster.forget_refusals();
        }
    }

    /// The same with `node.state`, where it is noted on which disk a folder lies.
    #[must_use]
    pub fn housed(mut self, state: &Path) -> Self {
        if let Self::Folder(shelf) = &mut self {
            *shelf = Arc::new((**shelf).clone().housed(state));
        }
        self
    }

    /// The same by another clock, which says when a ceiling holds.
    #[must_use]
    pub fn clocked(mut self, clock: &Clock) -> Self {
        if let Self::Dicom { peer, governor, .. } = &mut self {
            *governor = Governor::new(&peer.ceiling, clock);
        }
        self
    }

    /// The ceiling in force now, in bits a second.
    #[must_use]
    pub fn ceiling(&self) -> Option<u64> {
        match self {
            Self::Dicom { governor, .. } => governor.as_ref()?.rate(),
            Self::Folder(_) => None,
        }
    }

    /// The certificates towards it, to be watched and shown.
    #[must_use]
    pub fn certificates(&self) -> Option<&Arc<Slot>> {
        match self {
            Self::Dicom { tls, .. } => tls.as_ref().map(Connector::slot),
            Self::Folder(_) => None,
        }
    }

    /// Whether the destination is there: C-ECHO, or a file written. `waiting`: pairs of what waits for it; an archive that takes them
    /// and no Verification is there too.
    ///
    /// # Errors
    /// See `Down`.
    pub async fn probe(&self, waiting: &[Pair]) -> Result<(), Down> {
        match self {
            Self::Dicom { peer, tls, caster, .. } => reach::probe((peer, tls.as_ref()), caster, waiting).await,
            Self::Folder(shelf) => shelf.probe().await,
        }
    }
}

fn connector_of(peer: &Dicom, tls: &tls::Config) -> Result<Connector, tls::TlsError> {
    tls::connector_of(Role::Destination, peer.name.as_str(), tls)
}

/// One worker's way to a destination: delivers one job after the other, or several at once where the archive has negotiated
/// that, and keeps its session between them.
pub struct Courier {
    link: Link,
    /// Instances for one session; 0 means no limit.
    batch: u32,
    stuck: Duration,
    /// Ends the opening of a session: nothing is under way then.
    stop: CancellationToken,
    session: Option<Session>,
    /// Told of each association that is established, before anything is sent on it.
    opened: Option<Box<dyn Fn() + Send + Sync>>,
    /// What has left whole and is not answered, the oldest first.
    flying: Vec<JobId>,
    /// Whether the session was surely alive when the first of them left.
    warm: bool,
    answered: Option<Instant>,
}

impl Courier {
    #[must_use]
    pub fn new(link: Link, patience: &Patience, stop: CancellationToken) -> Self {
        Self {
            link,
            batch: patience.batch,
            stuck: patience.stuck,
            stop,
            session: None,
            opened: None,
            flying: Vec::new(),
            warm: true,
            answered: None,
        }
    }

    /// The same, telling of each association that is established.
    #[must_use]
    pub fn telling(mut self, opened: impl Fn() + Send + Sync + 'static) -> Self {
        self.opened = Some(Box::new(opened));
        self
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Instances that the open session lets be in flight; 1 without one.
    #[must_use]
    pub fn window(&self) -> usize {
        self.session.as_ref().map_or(1, Session::window)
    }

    /// Whether this job may leave now. `most`: instances in flight that the caller allows. The first one always may.
    #[must_use]
    pub fn has_room(&self, job: &Job, most: usize) -> bool {
        let Some(session) = &self.session else {
            return self.flying.is_empty();
        };
        self.flying.is_empty() || (self.flying.len() < most.min(session.window()) && self.suits(session, job))
    }

    fn suits(&self, session: &Session, job: &Job) -> bool {
        let full = self.batch > 0 && session.sent >= self.batch;
        !full && session.knows(&(job.sop_class.clone(), job.transfer_syntax.clone()))
    }

    /// Delivers one instance and waits for its answer.
    pub async fn deliver<R: PayloadReader>(&mut self, job: &Job, reader: R, pairs: &[Pair]) -> Outcome {
        let mut ended = self.begin(job, reader, pairs).await;
        loop {
            if let Some(at) = ended.iter().position(|ended| ended.job == job.id) {
                return ended.swap_remove(at).outcome;
            }
            ended = self.answers().await;
        }
    }

    /// Sends one instance, for which there must be room, and answers which jobs have ended by that: none when it has left whole
    /// (its answer comes by `answers`), itself when it could not leave, and with a broken session all that were in flight.
    /// `pairs` is what a new association proposes; it must hold the job's own pair.
    /// Cancelled, it closes the session, and nothing is completed.
    pub async fn begin<R: PayloadReader>(&mut self, job: &Job, reader: R, pairs: &[Pair]) -> Vec<Ended> {
        panic_if(Plant::PanicDelivery);
        let (peer, tls, governor, caster) = match &self.link {
            Link::Dicom {
                peer,
                tls,
                governor,
                caster,
            } => (peer.clone(), tls.clone(), governor.clone(), caster.clone()),
            Link::Folder(shelf) => {
                let progress = Progress::new();
                let outcome = tokio::select! {
                    outcome = shelf.store(job, reader, &progress) => outcome,
                    () = progress.stuck(self.stuck) => stuck(),
                };
                return vec![Ended::new(job.id, outcome)];
            }
        };
        caster.saw(job);
        let ahead = Progress::new();
        let load = tokio::select! {
            load = Load::ahead(job, reader, &caster, &ahead) => match load {
                Ok(load) => load,
                Err(fault) => return vec![Ended::new(job.id, fault.into())],
            },
            () = self.stop.cancelled() => return vec![Ended::new(job.id, stopped())],
        };
        let (session, progress) = match self.reusable(job).await {
            Some(reusable) => reusable,
            None => {
                let opened = tokio::select! {
                    opened = reach::for_job((&peer, tls.as_ref()), governor.as_ref(), (&caster, job, pairs), self.stuck) => opened,
                    () = self.stop.cancelled() => return vec![Ended::new(job.id, stopped())],
                };
                self.warm = true;
                match opened {
                    Ok(opened) => {
                        self.opened.iter().for_each(|tell| tell());
                        opened
                    }
                    Err(down) => return vec![Ended::new(job.id, Outcome::Down(down))],
                }
            }
        };
        progress.touch();
        let begun = tokio::select! {
            begun = session.begin(job, load) => begun,
            () = progress.stuck(self.stuck) => Begun::Broken(Vec::new(), stuck()),
        };
        match begun {
            Begun::Flying(session) => {
                self.session = Some(session);
                self.flying.push(job.id);
                Vec::new()
            }
            Begun::Kept(outcome, session) => {
                self.session = Some(session);
                if self.flying.is_empty() {
                    self.answered = Some(Instant::now());
                }
                vec![Ended::new(job.id, outcome)]
            }
            Begun::Broken(mut ended, outcome) => {
                self.forget(&ended);
                self.flying.push(job.id);
                ended.extend(self.broken(job.id, outcome));
                ended
            }
        }
    }

    /// Waits until at least one of the instances in flight has its answer; none when none is in flight.
    pub async fn answers(&mut self) -> Vec<Ended> {
        let (Some(session), Some(oldest)) = (self.session.take(), self.flying.first().copied()) else {
            return Vec::new();
        };
        let progress = session.progress();
        progress.touch();
        let (mut ended, session) = tokio::select! {
            answered = session.answers() => answered,
            () = progress.stuck(self.stuck) => (Vec::new(), Err(stuck())),
        };
        self.forget(&ended);
        match session {
            Ok(session) => {
                self.session = Some(session);
                self.answered = Some(Instant::now());
            }
            Err(outcome) => ended.extend(self.broken(oldest, outcome)),
        }
        ended
    }

    /// These are in flight no more.
    fn forget(&mut self, answered: &[Ended]) {
        self.flying
            .retain(|job| !answered.iter().any(|answered| answered.job == *job));
    }

    /// The session is gone. What broke it is known only when one instance was in flight: with several, none is to blame.
    fn broken(&mut self, about: JobId, outcome: Outcome) -> Vec<Ended> {
        let alone = self.flying.len() == 1;
        let flying = std::mem::take(&mut self.flying);
        let of = |job| match &outcome {
            Outcome::Interrupted(interruption) => Outcome::Interrupted(Interruption {
                fresh: interruption.fresh && alone && self.warm,
                ..interruption.clone()
            }),
            other if job == about => other.clone(),
            _ => Outcome::Interrupted(Interruption {
                what: "another instance in flight ended the session".to_owned(),
                fresh: false,
                stuck: false,
                line: false,
            }),
        };
        let ended = flying.into_iter().map(|job| Ended::new(job, of(job))).collect();
        self.answered = Some(Instant::now());
        ended
    }

    /// The open session, if it can take this job; else it is ended in order.
    async fn reusable(&mut self, job: &Job) -> Option<(Session, Progress)> {
        let session = self.session.take()?;
        if self.flying.is_empty() {
            self.warm = self.is_warm();
            if !session.is_quiet() {
                session.abort().await;
                return None;
            }
            if !self.suits(&session, job) {
                session.release().await;
                return None;
            }
        }
        let progress = session.progress();
        Some((session, progress))
    }

    /// A session that has answered just now is surely alive; one that was idle may be dead without a sign.
    fn is_warm(&self) -> bool {
        self.answered.is_some_and(|at| at.elapsed() < WARM)
    }

    /// Ends the session in order, if there is one. Nothing may be in flight.
    pub async fn release(&mut self) {
        if let Some(session) = self.session.take() {
            session.release().await;
        }
    }

    /// Ends the session at once, if there is one. Nothing may be in flight.
    pub async fn abort(&mut self) {
        if let Some(session) = self.session.take() {
            session.abort().await;
        }
    }
}

fn stuck() -> Outcome {
    Outcome::Interrupted(Interruption {
        what: STUCK.to_owned(),
        fresh: true,
        stuck: true,
        line: true,
    })
}

/// Nothing of the instance was sent, and nothing is known of the destination.
fn stopped() -> Outcome {
    Outcome::Interrupted(Interruption {
        what: "stopped before it began".to_owned(),
        fresh: false,
        stuck: false,
        line: false,
    })
}

const STUCK: &str = "nothing moved, the watchdog closed the session";
/// A reused session that fails within this after its last answer has failed because of the instance.
const WARM: Duration = Duration::from_secs(1);
