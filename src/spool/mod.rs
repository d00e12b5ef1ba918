//! The spool: where an instance is safe. Layer 2; knows neither DICOM nor rules: a plan is opaque bytes to it.
//!
//! Payloads are DICOM Part 10 files (`payload.rs`, from a `pool.rs` of files made ahead), everything else is RocksDB
//! (`db.rs`). One thread (`commit.rs`) makes every change of the index, many in one synced batch (`txn.rs`), and that
//! batch is the commit point: what is answered `Ok` here is on the disk. Leases, cursors and counts live in memory and
//! are rebuilt at start (`recover.rs`). After a write error nothing is taken until the index was reopened (`gate.rs`).
//! Nothing leaves but by `Settlement::Confirmed` or a person's `discard`, and a delivered payload by `cache.rs`.
mod admit;
mod adopt;
mod alias;
mod ballast;
#[cfg(feature = "planted")]
pub mod bench;
#[cfg(feature = "planted")]
mod bench_files;
mod browse;
mod cache;
mod chain;
mod chair;
mod codec;
mod commit;
pub mod commitment;
mod config;
mod core;
mod count;
mod damaged;
mod db;
mod direct;
mod disk;
mod doubt;
mod due;
mod export;
#[cfg(feature = "planted")]
pub mod fill;
mod folder;
mod forget;
mod former;
mod fsck;
mod gate;
mod gather;
mod group;
mod holding;
mod inspect;
mod job_state;
mod keeper;
mod keys;
mod late;
mod leaving;
mod ledger;
mod lifecycle;
mod lines;
#[cfg(feature = "planted")]
mod memory;
mod mend;
mod migrate;
mod model;
mod moved;
mod operator;
pub mod payload;
mod pick;
mod pool;
#[cfg(feature = "planted")]
pub mod probe;
mod promotions;
mod prune;
mod query;
mod reader;
mod rebuild;
mod record;
mod recover;
mod redecide;
mod relink;
mod retention;
mod salvage;
mod schema;
mod scrub;
mod settle;
mod stalled;
mod strangers;
mod study;
mod sums;
mod takeover;
mod tally;
#[cfg(test)]
mod tests;
mod trace;
mod txn;
mod wait;
mod withheld;
mod witness;
mod writing;

pub use alias::{Alias, Mapped};
pub use browse::{browse, evicted_since};
pub use chain::{Broken, ChainReport, verify_ledger};
pub use commit::Submitted;
pub use config::{Config, Ledger as LedgerConfig, Salvage};
pub use damaged::DamagedInstance;
pub use due::Lease;
pub use export::{ExportReport, HELD, KEPT_BACK, WAITING, Wanted, export};
pub use folder::Others;
pub use fsck::{FsckReport, fsck};
pub use holding::{HeldJob, Holding, Look, Place};
pub use job_state::JobState;
pub use ledger::{Arrival, Break, Detail, Fact, FactKind, Gap, Planned, Refusals};
pub use lifecycle::migrate;
pub use lines::{Line, Lines, Noted, Wanted as WantedLines};
pub use model::{
    ArriveError, Arriving, Attempt, Commit, CommitError, Committed, Health, HoldKind, HoldReason, Instance, NewJob,
    OpenError, OpenReport, Priority, ReadError, Repeat, Sealed, Settlement,
};
pub use operator::{Acted, Verb};
pub use payload::Incoming;
pub use query::{Filter, Row};
pub use reader::Payload;
pub use rebuild::{RebuildReport, rebuild};
pub use recover::{anothers, is_foreign, is_there};
pub use salvage::{Fate, Named, SalvageReport, salvages};
pub use schema::{FORMAT, SpoolVersion, opened_by_a_start, version};
pub use scrub::ScrubStatus;
pub use strangers::Waiting;
pub use study::{StudyNote, StudySeen};
pub use takeover::TakenOver;
pub use trace::{By, Traced, Trait, Untraced};
pub use wait::{Group, GroupKind, Quiet};
pub use withheld::HoldsKnown;

use self::core::Core;
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId};
use lifecycle::Owner;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The open spool. Clones share it; it closes when the last one is gone, or by `close`.
#[derive(Clone)]
pub struct Spool {
    core: Arc<Core>,
    owner: Arc<Owner>,
}

impl Spool {
    /// Begins to take an instance in. Its file is removed again unless it is committed.
    ///
    /// # Errors
    /// The disk is below its low-water mark, failed or too slow.
    pub async fn arrive(&self, arriving: Arriving) -> Result<Incoming, ArriveError> {
        self.core.may_arrive()?;
        self.core.note_arrival();
        let (id, guarded) = match self.core.pool.take_open(&self.core.disk) {
            Some(taken) => taken,
            None => {
                let core = self.core.clone();
                let taken = tokio::task::spawn_blocking(move || core.pool.take(&core.clock, &core.disk));
                self.core.on_disk(taken, "payload_open").await?
            }
        };
        Ok(Incoming::new(self.core.clone(), guarded, id, arriving))
    }

    /// The commit point. `Ok` (of any kind) means durable: it may be acknowledged. Shared with what else waits.
    /// Dropped, or `Deadline`: it may be stored; a resend is then answered as a repeat.
    ///
    /// # Errors
    /// Nothing was recorded that may be acknowledged.
    pub async fn commit(&self, sealed: Sealed, commit: Commit) -> Result<Committed, CommitError> {
        let mut commit = commit;
        commit.note.believed = None;
        match self.attempt(sealed, commit).await? {
            Attempt::Done(committed) => Ok(committed),
            // Only what was believed can be overtaken.
            Attempt::Overtaken(..) => Err(CommitError::Gone),
        }
    }

    /// As `commit`, but records nothing when what the decision believed of the study (`StudyNote::believed`) holds no more.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn attempt(&self, sealed: Sealed, commit: Commit) -> Result<Attempt, CommitError> {
        self.begin(sealed, commit).answer().await
    }

    /// As `attempt`, from any thread.
    #[must_use]
    pub fn begin(&self, sealed: Sealed, commit: Commit) -> Submitted<Attempt> {
        if self.core.disk.critical() {
            return Submitted::refused(CommitError::DiskFull);
        }
        self.enqueue(admitting(sealed, commit))
    }

    /// As `begin`, from a thread that may block: it may make the batch itself, rather than wake another for it.
    #[must_use]
    pub fn begin_here(&self, sealed: Sealed, commit: Commit) -> Submitted<Attempt> {
        if self.core.disk.critical() {
            return Submitted::refused(CommitError::DiskFull);
        }
        match self.owner.door() {
            Some(door) => chair::submit_here(&self.core, &door, admitting(sealed, commit)),
            None => Submitted::refused(CommitError::GateLatched),
        }
    }

    /// Leases up to `max` due jobs of a destination, in order of class (with ageing), due time and id; never one that is
    /// leased or held, none while the destination is suspended. Cancel-safe.
    pub async fn claim(&self, destination: &DestinationId, max: usize) -> Vec<Lease> {
        self.claim_for(destination, max, None).await
    }

    /// As `claim`, for a worker of the lane that sends one after the other: small objects of one study stay with the worker that
    /// has others of it in hand, and it gets those behind them too, up to `GROUP_MAX` at once. See `group.rs`.
    pub async fn claim_for(&self, destination: &DestinationId, max: usize, worker: Option<usize>) -> Vec<Lease> {
        let Some(lane) = self.core.lanes.get(destination) else {
            return Vec::new();
        };
        let core = self.core.clone();
        let claimed = self.read(move |db| due::claim(&core, db, &lane, (max, worker))).await;
        let due::Claimed {
            leases,
            dangling,
            unripe,
        } = claimed.unwrap_or_default();
        if !unripe.is_empty() {
            // If this fails, the next claim finds them again.
            let _ = self.submit(move |txn| wait::put_off(txn, unripe)).await;
        }
        if !dangling.is_empty() {
            // A lane must not stumble over it again; if this fails, the next claim reports it once more.
            let _ = self.submit(move |txn| mend::mend_dangling(txn, dangling)).await;
        }
        self.record_confirmed(leases).await
    }

    /// Records what the destination has confirmed and the disk refused to record (or was too slow for); answers the others.
    async fn record_confirmed(&self, leases: Vec<Lease>) -> Vec<Lease> {
        let mut open = Vec::with_capacity(leases.len());
        for lease in leases {
            match lease.guard.lane().unrecorded(lease.job) {
                None => open.push(lease),
                Some((status, note, sent_as)) => {
                    let mut lease = lease;
                    lease.sent_as = sent_as;
                    let settled = self.settle(lease, Settlement::Confirmed { status, note }).await;
                    if settled.is_err() {
                        // It is remembered still. The job is back in its queue, and would be claimed again at once.
                        tokio::time::sleep(UNRECORDED_REST).await;
                    }
                }
            }
        }
        open
    }

    /// Tells the longest pause of a destination's retries (24 h until then). A job that is due later was written by a clock
    /// that has been put back since, and is due now.
    pub fn puts_off(&self, destination: &DestinationId, longest: Duration) {
        let lane = self.core.lanes.get(destination);
        lane.unwrap_or_else(|| self.core.lanes.insert(destination, None))
            .puts_off(longest);
    }

    /// Jobs in the queue of a destination, those under way and those put off included. Costs nothing.
    #[must_use]
    pub fn backlog(&self, destination: &DestinationId) -> usize {
        count::backlog(&self.core, destination)
    }

    /// Whether a `stat` job that is due waits in nobody's hands, as far as is known. Costs nothing.
    #[must_use]
    pub fn has_urgent(&self, destination: &DestinationId) -> bool {
        let lane = self.core.lanes.get(destination);
        lane.is_some_and(|lane| lane.has_urgent(self.core.clock.now()))
    }

    /// When the next job that nobody has leased is due (it may be already); `None` when nothing waits or the
    /// destination is suspended.
    pub async fn next_due(&self, destination: &DestinationId) -> Option<Wall> {
        let lane = self.core.lanes.get(destination)?;
        let now = self.core.clock.now();
        self.read(move |db| pick::next_due(db, &lane, now)).await.ok().flatten()
    }

    /// Notified when a job of the destination may have become claimable: committed, released, returned, resumed.
    /// One waiter; a notice that nobody waited for is kept.
    #[must_use]
    pub fn wake(&self, destination: &DestinationId) -> Arc<Notify> {
        let lane = self.core.lanes.get(destination);
        lane.unwrap_or_else(|| self.core.lanes.insert(destination, None))
            .wake
            .clone()
    }

    /// Ends a lease, durably. On an error the job is due again; a confirmation is remembered, and recorded at the next claim
    /// instead of another delivery.
    ///
    /// # Errors
    /// `Gone`: the job was not there any more. Otherwise nothing was recorded, or (`Deadline`) it may have been.
    pub async fn settle(&self, lease: Lease, settlement: Settlement) -> Result<(), CommitError> {
        let (guard, sent_as) = (lease.guard, lease.sent_as);
        let lane = guard.lane();
        if let Settlement::Confirmed { status, note } = &settlement {
            lane.confirmed(lease.job, (*status, note.clone(), sent_as.clone()));
        }
        let settled = self
            .submit(move |txn| settle::settle(txn, guard, settlement, sent_as))
            .await?;
        lane.recorded(lease.job);
        match settled {
            true => Ok(()),
            false => Err(CommitError::Gone),
        }
    }

    /// Opens a payload for reading.
    ///
    /// # Errors
    /// See `ReadError`; `Missing`, `Corrupt` and `Unreadable` are reasons to hold the job with `HoldKind::Corrupt`, and so is
    /// `Deadline` when it comes again and again.
    pub async fn payload(&self, id: &InstanceId) -> Result<Payload, ReadError> {
        let (core, id) = (self.core.clone(), *id);
        let opening = move || reader::open(&core, id);
        self.core.stalled.within(id, payload::DISK_DEADLINE, opening).await?
    }

    /// Completes when the spool is failed for good: the process must end with an error. Cancel-safe.
    pub async fn failed(&self) {
        self.core.gate.failed().await;
    }

    /// A snapshot; costs nothing.
    #[must_use]
    pub fn health(&self) -> Health {
        let (free_bytes, free_inodes) = self.core.disk.free();
        Health {
            latched: !self.core.gate.is_open(),
            failed: self.core.gate.is_failed(),
            low_water: self.core.disk.low(),
            critical: self.core.disk.critical(),
            free_bytes,
            free_inodes,
            low_water_bytes: self.core.disk.low_mark(),
            witnessed: self.core.witness.is_kept(),
            commit_alive: self.owner.commit_alive(),
            salvage_unread: self.core.metrics.salvage_unacknowledged.get() > 0,
            damaged: u64::try_from(self.core.metrics.spool_damaged.get()).unwrap_or(0),
        }
    }

    /// Whether what a person orders is written beside the index too, where a salvage would find it.
    #[must_use]
    pub fn keeps_orders(&self) -> bool {
        self.core.witness.keeps_orders()
    }

    /// Jobs of kind `recovered`, which the rules of today must decide: see `redecide`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn recovered(&self, limit: usize) -> Result<Vec<(JobId, Arc<Instance>)>, ReadError> {
        self.undecided(HoldKind::Recovered, limit).await
    }

    async fn submit<T, F>(&self, work: F) -> Result<T, CommitError>
    where
        T: Send + 'static,
        F: FnOnce(&mut txn::Txn<'_>) -> Result<T, CommitError> + Send + 'static,
    {
        self.enqueue(work).answer().await
    }

    fn enqueue<T, F>(&self, work: F) -> Submitted<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut txn::Txn<'_>) -> Result<T, CommitError> + Send + 'static,
    {
        match self.owner.queue() {
            Some(queue) => commit::submit(&self.core, &queue, work),
            None => Submitted::refused(CommitError::GateLatched),
        }
    }

    /// Reads the index on a blocking thread. A read error latches the gate.
    async fn read<T, F>(&self, work: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&db::Db) -> Result<T, db::DbError> + Send + 'static,
    {
        let core = self.core.clone();
        let reading = tokio::task::spawn_blocking(move || read_now(&core, work));
        match tokio::time::timeout(LISTING_DEADLINE, reading).await {
            Err(_) => Err(ReadError::Deadline),
            Ok(Err(_)) => Err(ReadError::Io),
            Ok(Ok(found)) => found,
        }
    }
}

/// What takes an instance in.
fn admitting(
    mut sealed: Sealed,
    commit: Commit,
) -> impl FnOnce(&mut txn::Txn<'_>) -> Result<Attempt, CommitError> + Send + 'static {
    sealed.instance.study.clone_from(&commit.study);
    sealed.instance.rule_epoch = commit.rule_epoch;
    move |txn| {
        let record = record::InstanceRecord {
            instance: sealed.instance.clone(),
            data_set_offset: sealed.data_set_offset,
            private_offset: sealed.private_offset,
            delivered: false,
            done: Vec::new(),
        };
        let committed = match admit::admit(txn, &record, commit)? {
            Ok(committed) => committed,
            Err(seen) => return Ok(Attempt::Overtaken(Box::new(sealed), seen)),
        };
        match committed {
            Committed::Stored(_) | Committed::Conflict(_) => {
                let mark = payload::Mark::committed(&sealed);
                txn.effects.push(txn::Effect::Mark(mark));
                sealed.file.keep();
            }
            Committed::Repeat(_) => {}
        }
        Ok(Attempt::Done(committed))
    }
}

/// Reads the index on this thread, which may block. A read error latches the gate.
fn read_now<T>(core: &Core, work: impl FnOnce(&db::Db) -> Result<T, db::DbError>) -> Result<T, ReadError> {
    let db = core.db().map_err(|_| ReadError::GateLatched)?;
    work(&db).map_err(|_| {
        core.gate.latch("index_read");
        ReadError::Io
    })
}

/// Before a confirmation that could not be recorded is tried again.
const UNRECORDED_REST: Duration = Duration::from_millis(250);

/// The longest that a listing over the whole queue may take.
const LISTING_DEADLINE: Duration = Duration::from_secs(120);
