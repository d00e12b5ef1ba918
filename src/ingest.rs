//! The one crossing from the wire to the spool. Layer 3.
//!
//! A `Receiving` takes one data set in pieces: every piece goes to the payload file as it came and through the head
//! scanner; when the last has come, the payload is made durable while the rules decide, and one commit makes the instance ours.
//! Nothing is acknowledged by this module's callers before `finish` has answered. Dropping a `Receiving` leaves nothing behind.
mod traits;
mod words;

use crate::base::clock::{Clock, Wall};
use crate::base::fault::{Plant, planted};
use crate::base::names::{AeTitle, DestinationId, InstanceId, SourceId, Uid};
use crate::base::panics::{Panicked, contain};
use crate::dicom::head::{Head, HeadError, Scanner};
use crate::dicom::part10::{self, FileMeta};
use crate::dicom::status;
use crate::dicom::syntax::Syntax;
use crate::rules::{self, Decision, Facts, HoldKind as RuleHold, RuleStore};
use crate::spool::{
    ArriveError, Arriving, Attempt, Commit, CommitError, Committed, Incoming, Instance, NewJob, ReadError, Repeat,
    Spool, StudyNote, StudySeen, Submitted,
};
use crate::telemetry::metrics::Metrics;
use dicom_core::Tag;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
pub use traits::traits;
use words::{aliases, besides, jobs, known};

/// What is known of a data set before its first byte.
#[derive(Clone, Debug)]
pub struct Announced {
    pub source: SourceId,
    pub calling_ae: AeTitle,
    pub called_ae: AeTitle,
    pub sop_class: Uid,
    pub sop_instance: Uid,
    pub transfer_syntax: Uid,
    pub repeat: Repeat,
}

/// Why an instance is not taken. Each has one status word; none carries a value of the data set.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the disk is below its low-water mark")]
    LowWater,
    #[error("the spool does not take instances after a disk error")]
    GateLatched,
    #[error("the spool did not answer in time")]
    Deadline,
    #[error("the data set is longer than limits.max_instance, or than a file may be here")]
    TooLong,
    #[error("SOP class of the data set contradicts the command")]
    ClassMismatch,
    #[error("SOP instance of the data set contradicts the command")]
    InstanceMismatch,
    #[error("the data set is empty")]
    Empty,
    #[error("the data set cannot be understood: {0}")]
    Unreadable(#[from] HeadError),
}

impl Refused {
    /// The C-STORE status (PS3.4 B.2.3) and the word for logs.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::LowWater | Self::GateLatched | Self::Deadline | Self::TooLong => status::OUT_OF_RESOURCES,
            Self::ClassMismatch | Self::InstanceMismatch => status::DATA_SET_MISMATCH,
            Self::Empty | Self::Unreadable(_) => status::CANNOT_UNDERSTAND,
        }
    }

    /// The Error Comment (0000,0902): at most 64 characters, constant.
    #[must_use]
    pub fn comment(&self) -> &'static str {
        match self {
            Self::LowWater => "disk below its low-water mark, send again later",
            Self::GateLatched => "disk error, nothing is taken until it is mended",
            Self::Deadline => "the disk did not answer in time, send again",
            Self::TooLong => "longer than this box takes",
            Self::ClassMismatch => "SOP Class UID of data set and command differ",
            Self::InstanceMismatch => "SOP Instance UID of data set and command differ",
            Self::Empty | Self::Unreadable(_) => "data set cannot be understood",
        }
    }
}

/// The crossing. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    spool: Spool,
    rules: RuleStore,
    metrics: Metrics,
    clock: Clock,
    max_instance: u64,
    /// As many rule evaluations at once as there are processors, off the threads that serve sockets.
    evaluations: Arc<Semaphore>,
}

/// One data set on its way in.
pub struct Receiving {
    ingest: Ingest,
    announced: Announced,
    incoming: Incoming,
    scanner: Scanner,
    length: u64,
}

impl Ingest {
    #[must_use]
    pub fn new(spool: Spool, rules: RuleStore, metrics: Metrics, clock: Clock, max_instance: u64) -> Self {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            spool,
            rules,
            metrics,
            clock,
            max_instance,
            evaluations: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Starts taking a data set.
    ///
    /// # Errors
    /// `LowWater`, `GateLatched` or `Deadline`: the caller drains the data set and answers the status.
    pub async fn begin(&self, announced: Announced) -> Result<Receiving, Refused> {
        let incoming = self.spool.arrive(arriving(&announced)).await?;
        let scanner = Scanner::new(Syntax::of(&announced.transfer_syntax));
        Ok(Receiving {
            ingest: self.clone(),
            announced,
            incoming,
            scanner,
            length: 0,
        })
    }

    /// An instance was not taken: the status word that was answered, or `cut`. For the day's reconciliation.
    pub fn refused(&self, source: &SourceId, study: Option<Uid>, sop_instance: Option<&Uid>, status: &str) {
        self.spool.refused(source, study, sop_instance, status);
    }

    /// Lets the rules decide, off the async threads.
    async fn decide(&self, facts: Facts, head: Head, only: Option<DestinationId>) -> Decision {
        let epoch = self.rules.epoch();
        let work = move |rules: &RuleStore| match only {
            None => rules.decide(&facts, &head),
            Some(destination) => rules.decide_for(&facts, &head, &destination),
        };
        self.on_thread(work).await.unwrap_or_else(|Panicked| stopped(epoch))
    }

    /// Makes an instance that has just come durable, and decides on it first, on the thread that flushes it and then hands it on to be
    /// committed. What is remembered of its study is read there too, when the rules ask for it at all.
    async fn seal(&self, incoming: Incoming, deciding: Deciding) -> Result<(Submitted<Attempt>, Deciding), Refused> {
        let (spool, rules) = (self.spool.clone(), self.rules.clone());
        let permit = self.evaluations.clone().acquire_owned().await.ok();
        let decide = move || {
            let mut deciding = deciding;
            if let Some(study) = deciding.study.as_ref().filter(|_| rules.asks_for_study()) {
                deciding.facts.study = spool.study_seen_now(study)?.map(known);
            }
            let decided = contain(|| rules.decide(&deciding.facts, &deciding.head));
            let decision = decided.unwrap_or_else(|Panicked| stopped(rules.epoch()));
            // What follows is the disk's time, not the processor's.
            drop(permit);
            let commit = contain(|| deciding.commit(&decision)).map_err(|Panicked| ReadError::Io)?;
            Ok((commit, deciding))
        };
        let spool = self.spool.clone();
        let hand_on = move |sealed, decided: Result<(Commit, Deciding), ReadError>| {
            decided.map(|(commit, deciding)| (spool.begin_here(sealed, commit), deciding))
        };
        match incoming.seal_with(decide, hand_on).await? {
            Ok(begun) => Ok(begun),
            Err(ReadError::Deadline) => Err(Refused::Deadline),
            Err(_) => Err(Refused::GateLatched),
        }
    }

    /// Runs an evaluation on a thread that may block; as many at once as there are processors.
    async fn on_thread<T, F>(&self, work: F) -> Result<T, Panicked>
    where
        T: Send + 'static,
        F: FnOnce(&RuleStore) -> T + Send + 'static,
    {
        // The semaphore is never closed, so a permit always comes; without one the evaluation runs all the same.
        let permit = self.evaluations.clone().acquire_owned().await.ok();
        let rules = self.rules.clone();
        let task = tokio::task::spawn_blocking(move || {
            let done = contain(|| work(&rules));
            drop(permit);
            done
        });
        task.await.unwrap_or(Err(Panicked))
    }

    /// Decides anew on an instance that is already in the spool: the jobs that the rules in force give it, or, when a person
    /// has chosen the destination, the one job for `only` that.
    ///
    /// What the rules wrote is on the map and finds the instance before its new jobs are; what the study has forgotten, it is told again.
    ///
    /// # Errors
    /// The spool cannot be asked, or does not record.
    pub async fn decide_again(
        &self,
        facts: Facts,
        head: Head,
        instance: &Instance,
        only: Option<DestinationId>,
    ) -> Result<(Vec<NewJob>, u64), Refused> {
        let values = rules::remembered(&head);
        let mut facts = facts;
        if let Some(study) = study_of(&head) {
            self.spool.remember_study(&study, values).await?;
            facts.study = self.study(&study).await?.map(|seen| besides(seen, instance.length));
        }
        let mut names = traits(&head, std::iter::empty());
        let (came, now) = (names.len(), self.clock.now());
        let decision = self.decide(facts, head, only).await;
        traits::add_written(&mut names, decision.deliveries.iter().map(|delivery| &delivery.plan));
        if !decision.aliases.is_empty() || names.len() > came {
            let (source, traced) = (&instance.source, (instance.id, names));
            let told = (self.spool).record_names(source, decision.epoch, aliases(&decision), traced);
            told.await?;
        }
        Ok((jobs(&decision, now), decision.epoch))
    }

    /// What the rules may know of a study, when they ask for it at all.
    async fn study(&self, study: &Uid) -> Result<Option<StudySeen>, Refused> {
        if !self.rules.asks_for_study() {
            return Ok(None);
        }
        let asked = tokio::time::timeout(COMMIT_DEADLINE, self.spool.study_seen(study)).await;
        match asked {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(ReadError::Deadline)) | Err(_) => Err(Refused::Deadline),
            Ok(Err(_)) => Err(Refused::GateLatched),
        }
    }

    /// Waits for the commit. When another instance of the study was quicker, and the rules would have been told of it, they decide
    /// again by what is known now.
    async fn settle(&self, begun: Submitted<Attempt>, deciding: Deciding) -> Result<Committed, Refused> {
        let (mut begun, mut deciding) = (begun, deciding);
        for _ in 0..DECISIONS_MAX {
            match begun.answer().await? {
                Attempt::Done(committed) => return Ok(committed),
                Attempt::Overtaken(sealed, seen) => {
                    deciding.facts.study = Some(known(seen));
                    let (facts, head) = (deciding.facts.clone(), deciding.head.clone());
                    let decision = self.decide(facts, head, None).await;
                    begun = self.spool.begin(*sealed, deciding.commit(&decision));
                }
            }
        }
        // Each round, a value came to stand where none stood: there are fewer values than rounds.
        Err(Refused::Deadline)
    }
}

/// The evaluation panicked outside the sandbox's own guard: hold, like any failing rule.
fn stopped(epoch: u64) -> Decision {
    Decision {
        deliveries: Vec::new(),
        hold: Some(crate::rules::Hold {
            kind: RuleHold::Error,
            reason: "the evaluation of the rules stopped unexpectedly".to_owned(),
        }),
        flags: Vec::new(),
        clock_skew: None,
        aliases: Vec::new(),
        by_study: false,
        epoch,
    }
}

/// What a decision is made of, kept until it is recorded.
struct Deciding {
    facts: Facts,
    head: Head,
    study: Option<Uid>,
    repeat: Repeat,
}

impl Deciding {
    /// What is to be recorded when it was decided so.
    fn commit(&self, decision: &Decision) -> Commit {
        let study = self.facts.study.as_ref();
        let believed = study.map(|study| study.values.clone()).unwrap_or_default();
        Commit {
            study: self.study.clone(),
            rule_epoch: decision.epoch,
            jobs: jobs(decision, self.facts.arrival),
            repeat: self.repeat,
            note: StudyNote {
                values: rules::remembered(&self.head),
                believed: decision.by_study.then_some(believed),
            },
            aliases: aliases(decision),
            traits: traits(&self.head, decision.deliveries.iter().map(|delivery| &delivery.plan)),
        }
    }
}

/// Decisions on one instance: a study's first values come one by one, and never change again.
const DECISIONS_MAX: usize = rules::REMEMBERED.len() + 1;

impl Receiving {
    /// Where the next bytes of the data set go; never empty.
    ///
    /// # Errors
    /// See `Refused`. After an error, drain the rest, drop this, and answer the status.
    pub async fn room(&mut self) -> Result<&mut [u8], Refused> {
        Ok(self.incoming.room().await?)
    }

    /// So many bytes were put there.
    ///
    /// # Errors
    /// As `room`.
    pub fn took(&mut self, count: usize) -> Result<(), Refused> {
        self.length += count as u64;
        if self.length > self.ingest.max_instance {
            return Err(Refused::TooLong);
        }
        self.scanner.push(self.incoming.took(count))?;
        Ok(())
    }

    /// The study, as far as the head has come in.
    #[must_use]
    pub fn study(&self) -> Option<Uid> {
        self.scanner.head().and_then(study_of)
    }

    /// The data set has ended: makes it durable, decides, commits. When this has answered, the instance is safe.
    ///
    /// # Errors
    /// See `Refused`; nothing is kept then.
    pub async fn finish(self) -> Result<Committed, Refused> {
        let Self {
            ingest,
            announced,
            incoming,
            scanner,
            length,
        } = self;
        if length == 0 {
            return Err(Refused::Empty);
        }
        let head = scanner.finish()?;
        agrees(&head, &announced)?;
        let study = study_of(&head);
        // In the payload file itself, for a rebuild. A reload meanwhile makes the epoch one too old: no harm is in that.
        let mut incoming = incoming;
        incoming.decided(study.clone(), ingest.rules.epoch());
        let deciding = Deciding {
            facts: facts(&announced, incoming.arrival()),
            head,
            study,
            repeat: announced.repeat,
        };
        if planted(Plant::SkipCommit) {
            return Ok(Committed::Stored(InstanceId::new(0, 0)));
        }
        let (begun, deciding) = ingest.seal(incoming, deciding).await?;
        let committed = ingest.settle(begun, deciding).await?;
        ingest.count(&announced, &committed, length);
        Ok(committed)
    }
}

impl Ingest {
    /// The time by the box's clock.
    #[must_use]
    pub fn now(&self) -> Wall {
        self.clock.now()
    }

    fn count(&self, announced: &Announced, committed: &Committed, length: u64) {
        let source = announced.source.as_str();
        self.metrics.received_total.with_label_values(&[source]).inc();
        self.metrics
            .received_bytes_total
            .with_label_values(&[source])
            .inc_by(length);
        self.metrics
            .alarms
            .source_last_received
            .with_label_values(&[source])
            .set(self.clock.now().seconds());
        match committed {
            Committed::Stored(_) => {}
            Committed::Repeat(_) => self.metrics.repeats_total.with_label_values(&[source, "same"]).inc(),
            Committed::Conflict(_) => self
                .metrics
                .repeats_total
                .with_label_values(&[source, "conflict"])
                .inc(),
        }
    }
}

const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000d);

/// The longest that a commit may take before the modality is told to try again.
pub const COMMIT_DEADLINE: Duration = Duration::from_secs(30);

/// The data set's own class and UID must be those of the command. An absent one contradicts nothing (missing type 1
/// elements are the archive's to judge); leading zeros of components are ignored, as devices drop them on one side only.
fn agrees(head: &Head, announced: &Announced) -> Result<(), Refused> {
    if !same_uid(&head.first(SOP_CLASS_UID), &announced.sop_class) {
        return Err(Refused::ClassMismatch);
    }
    if !same_uid(&head.first(SOP_INSTANCE_UID), &announced.sop_instance) {
        return Err(Refused::InstanceMismatch);
    }
    Ok(())
}

fn same_uid(in_data_set: &str, in_command: &Uid) -> bool {
    let in_data_set = in_data_set.trim_matches([' ', '\0']);
    in_data_set.is_empty() || in_command.is_written_as(in_data_set)
}

fn arriving(announced: &Announced) -> Arriving {
    let meta = FileMeta {
        sop_class: announced.sop_class.clone(),
        sop_instance: announced.sop_instance.clone(),
        transfer_syntax: announced.transfer_syntax.clone(),
        source_ae: Some(announced.calling_ae.clone()),
        private: Some((
            Uid::known(part10::PRIVATE_CREATOR_UID),
            vec![0; crate::spool::payload::PRIVATE_LEN],
        )),
    };
    Arriving {
        source: announced.source.clone(),
        calling_ae: announced.calling_ae.clone(),
        called_ae: announced.called_ae.clone(),
        sop_class: announced.sop_class.clone(),
        sop_instance: announced.sop_instance.clone(),
        transfer_syntax: announced.transfer_syntax.clone(),
        header: meta.write(),
        // `private` is set above, so the meta has a private information element.
        private_offset: meta.private_offset().unwrap_or_default(),
    }
}

fn facts(announced: &Announced, arrival: Wall) -> Facts {
    Facts {
        source: announced.source.clone(),
        calling_ae: announced.calling_ae.clone(),
        called_ae: announced.called_ae.clone(),
        sop_class: announced.sop_class.clone(),
        sop_instance: announced.sop_instance.clone(),
        transfer_syntax: announced.transfer_syntax.clone(),
        arrival,
        study: None,
    }
}

/// The study that a head is of.
#[must_use]
pub fn study_of(head: &Head) -> Option<Uid> {
    Uid::parse(&head.first(STUDY_INSTANCE_UID)).ok()
}

impl From<ArriveError> for Refused {
    fn from(error: ArriveError) -> Self {
        match error {
            ArriveError::LowWater => Self::LowWater,
            ArriveError::GateLatched | ArriveError::Io => Self::GateLatched,
            ArriveError::Busy => Self::Deadline,
            ArriveError::TooLong => Self::TooLong,
        }
    }
}

impl From<CommitError> for Refused {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::DiskFull => Self::LowWater,
            CommitError::GateLatched => Self::GateLatched,
            CommitError::Deadline | CommitError::Gone | CommitError::Damaged => Self::Deadline,
        }
    }
}
