//! Planted faults for the durability tests. Compiled to nothing without the `planted` feature;
//! with it, `WAYSTATION_PLANT=name[,name]` switches single faults on, so that a test can prove that it would see them.
//! A shipped binary is never built with it (`make demo`, the image and the package do not).

/// The faults that can be planted, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// The commit answers success without writing anything.
    SkipCommit,
    /// The payload file is not flushed before the commit.
    SkipPayloadSync,
    /// The success answer leaves before the commit.
    AckBeforeCommit,
    /// A delivery's failure status counts as success.
    IgnoreStatus,
    /// The index answers before its log is flushed.
    SkipIndexSync,
    /// A new name is given without a flush of its directory.
    SkipDirectorySync,
    /// A payload file is removed when its first delivery starts.
    UnlinkEarly,
    /// A flush that failed is tried again, and the second answer counts.
    RetryFsync,
    /// Other content under a known UID takes the place of the first.
    OverwriteDuplicate,
    /// The last fragment is sent although the payload is damaged.
    LastFlagOnAbort,
    /// A job that is to be held leaves the index instead.
    DropHold,
    /// A confirmation ends another job of the same destination.
    SettleWrong,
    /// The edits' traces are written twice.
    EditTwice,
    /// Every third job gets no entry in the queue.
    LoseDue,
    /// A lane claims although its destination is not reached. This one and the rest are for the simulator (`tests/sim`).
    IgnoreBreaker,
    /// A job is confirmed when its session breaks, without an answer.
    SettleEarly,
    /// A lease whose settlement failed stays taken.
    KeepLease,
    /// A suspension is not in the batch that records it.
    ForgetSuspension,
    /// A job that waits ages past every class.
    AgePastStat,
    /// An outage counts as an attempt.
    CountOutage,
    /// A confirmation that the disk refused to record is not remembered.
    ForgetConfirmed,
    /// A C-ECHO makes its association panic.
    PanicEcho,
    /// `image.items` makes the rule's host function panic.
    PanicRule,
    /// The delivery of each instance panics.
    PanicDelivery,
    /// A lane panics when it has something to do.
    PanicLane,
    /// The committer panics at its first batch.
    PanicCommit,
    /// The committer panics at the first batch with an instance that has come.
    PanicAdmit,
    /// A panic ends nothing but its thread or task.
    SwallowPanics,
    /// Nothing is written on the ledger: for the bench that asks what it costs.
    ForgetFacts,
    /// Each association leaves 4 KiB behind.
    LeakAssociations,
    /// A spool is begun wherever there is none.
    ForgetHome,
    /// What was due at a time of a clock that has been put back since is waited for.
    WaitForClock,
    /// A codec's process crashes, never ends, takes all the memory there is, or writes what is not the image.
    WorkerCrash,
    WorkerHang,
    WorkerHungry,
    WorkerGarbage,
    /// What a codec's process wrote is sent without a second one looking at it.
    BelieveWorker,
}

impl Plant {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SkipCommit => "skip-commit",
            Self::SkipPayloadSync => "skip-payload-sync",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::IgnoreStatus => "ignore-status",
            Self::SkipIndexSync => "skip-index-sync",
            Self::SkipDirectorySync => "skip-directory-sync",
            Self::UnlinkEarly => "unlink-early",
            Self::RetryFsync => "retry-fsync",
            Self::OverwriteDuplicate => "overwrite-duplicate",
            Self::LastFlagOnAbort => "last-flag-on-abort",
            Self::DropHold => "drop-hold",
            Self::SettleWrong => "settle-wrong",
            Self::EditTwice => "edit-twice",
            Self::LoseDue => "lose-due",
            Self::IgnoreBreaker => "ignore-breaker",
            Self::SettleEarly => "settle-early",
            Self::KeepLease => "keep-lease",
            Self::ForgetSuspension => "forget-suspension",
            Self::AgePastStat => "age-past-stat",
            Self::CountOutage => "count-outage",
            Self::ForgetConfirmed => "forget-confirmed",
            Self::PanicEcho => "panic-echo",
            Self::PanicRule => "panic-rule",
            Self::PanicDelivery => "panic-delivery",
            Self::PanicLane => "panic-lane",
            Self::PanicCommit => "panic-commit",
            Self::PanicAdmit => "panic-admit",
            Self::SwallowPanics => "swallow-panics",
            Self::ForgetFacts => "forget-facts",
            Self::LeakAssociations => "leak-associations",
            Self::ForgetHome => "forget-home",
            Self::WaitForClock => "wait-for-clock",
            Self::WorkerCrash => "worker-crash",
            Self::WorkerHang => "worker-hang",
            Self::WorkerHungry => "worker-hungry",
            Self::WorkerGarbage => "worker-garbage",
            Self::BelieveWorker => "believe-worker",
        }
    }
}

/// The moments of a storage commitment's life at which the process can be made to die, as by `kill -9`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// A source's request is read; nothing of it is on the disk.
    DemandHeard,
    /// It is durable; the source has no answer.
    DemandRecorded,
    /// The source has its answer.
    DemandAccepted,
    /// What it will be told is durable.
    DemandDecided,
    /// It was told; its answer has not come.
    ReportSent,
    /// It has answered; that is not recorded.
    ReportAnswered,
    /// That is recorded.
    ReportTaken,
    /// A request to an archive is durable, and has not left.
    AskRecorded,
    /// It has left; the archive's answer has not come.
    AskSent,
    /// The archive has taken it; that is not recorded.
    AskAnswered,
    /// The archive has said what it commits to; that is not recorded.
    WordHeard,
    /// It is recorded; the archive has no answer.
    WordRecorded,
}

impl Moment {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DemandHeard => "die-demand-heard",
            Self::DemandRecorded => "die-demand-recorded",
            Self::DemandAccepted => "die-demand-accepted",
            Self::DemandDecided => "die-demand-decided",
            Self::ReportSent => "die-report-sent",
            Self::ReportAnswered => "die-report-answered",
            Self::ReportTaken => "die-report-taken",
            Self::AskRecorded => "die-ask-recorded",
            Self::AskSent => "die-ask-sent",
            Self::AskAnswered => "die-ask-answered",
            Self::WordHeard => "die-word-heard",
            Self::WordRecorded => "die-word-recorded",
        }
    }
}

/// Ends the process here when that is planted: nothing is flushed, closed or said.
pub fn die_at(moment: Moment) {
    if named(moment.name()) {
        // If that cannot be, the next line does it.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

/// Panics here when that is planted.
pub fn panic_if(plant: Plant) {
    assert!(!planted(plant), "planted");
}

/// Whether a fault is planted in this run.
#[must_use]
pub fn planted(plant: Plant) -> bool {
    named(plant.name())
}

#[cfg(feature = "planted")]
fn named(wanted: &str) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<String> = OnceLock::new();
    let names = PLANTED.get_or_init(|| std::env::var("WAYSTATION_PLANT").unwrap_or_default());
    names.split(',').any(|name| name == wanted)
}

/// Never, in this build.
#[cfg(not(feature = "planted"))]
const fn named(_: &str) -> bool {
    false
}
