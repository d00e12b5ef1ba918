//! The spool's tests, cut by kind of truth. Each opens a real spool in a temporary directory.
mod aged;
mod asked;
mod cached;
mod chained;
mod clock;
mod committed;
mod copies;
mod crash;
mod discarded;
mod ended;
mod grouped;
mod lines;
mod migrated;
mod misplaced;
mod model;
mod named;
mod ordered;
mod promised;
mod queue;
mod rebuilt;
mod renamed;
mod repeats;
mod reread;
mod salvaged;
mod scrubbed;
mod seated;
mod trouble;
mod waits;
mod withheld;

use super::*;
use crate::base::clock::{Clock, Wall};
use crate::base::names::{AeTitle, SourceId, Uid};
use crate::base::units::{Share, Size, Span};
use crate::telemetry::metrics::Metrics;
use bytes::Bytes;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A spool in a directory of its own, under a clock that the test moves.
struct Bench {
    dir: tempfile::TempDir,
    clock: Clock,
    metrics: Metrics,
    spool: Option<Spool>,
    report: OpenReport,
}

const START: Wall = Wall(1_000_000_000_000_000);

fn config(path: &Path) -> Config {
    Config {
        path: path.to_owned(),
        low_water: Share::Bytes(0),
        critical: Size(0),
        ballast: Size(0),
        cache_high_water: Share::Bytes(0),
        repeat_window: Span::secs(7 * 86_400),
        age_step: Span::secs(1_800),
        ..Config::default()
    }
}

/// A box that leaves a damaged index to a person.
fn stopping(path: &Path) -> Config {
    Config {
        salvage: Salvage::Stop,
        ..config(path)
    }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, metrics) = (Clock::manual(START), Metrics::new());
        let (spool, report) = Spool::open(config(dir.path()), clock.clone(), metrics.clone()).unwrap();
        Self {
            dir,
            clock,
            metrics,
            spool: Some(spool),
            report,
        }
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Sets the clock, forward or back.
    fn set_clock(&self, wall: Wall) {
        match &self.clock {
            Clock::Manual(at) => at.store(wall.0, Ordering::Relaxed),
            Clock::System => panic!("the bench has a clock of its own"),
        }
    }

    /// Ends the spool without `close`, lets `between` at its files, and opens it again.
    fn reopen_after(&mut self, between: impl FnOnce(&Path)) {
        self.spool = None;
        between(self.dir.path());
        self.metrics = Metrics::new();
        let (spool, report) = self.opened().unwrap();
        self.spool = Some(spool);
        self.report = report;
    }

    /// A program that another test is about to start has our lock for a moment, between its fork and its exec.
    fn opened(&self) -> Result<(Spool, OpenReport), OpenError> {
        for _ in 0..50 {
            match Spool::open(config(self.dir.path()), self.clock.clone(), self.metrics.clone()) {
                Err(OpenError::InUse(_)) => std::thread::sleep(Duration::from_millis(10)),
                opened => return opened,
            }
        }
        Spool::open(config(self.dir.path()), self.clock.clone(), self.metrics.clone())
    }

    async fn store(&self, uid: &str, content: &[u8], jobs: Vec<NewJob>) -> Committed {
        let commit = decision(jobs);
        let sealed = self.sealed(uid, content).await;
        self.spool().commit(sealed, commit).await.unwrap()
    }

    async fn sealed(&self, uid: &str, content: &[u8]) -> Sealed {
        let mut incoming = self.spool().arrive(arriving(uid)).await.unwrap();
        incoming.decided(Some(Uid::known("1.2.9")), 7);
        for part in content.chunks(100_000) {
            incoming.write(Bytes::copy_from_slice(part)).await.unwrap();
        }
        incoming.seal().await.unwrap()
    }

    async fn claim_one(&self, to: &str) -> Option<Lease> {
        self.spool().claim(&dest(to), 1).await.pop()
    }

    async fn confirm(&self, to: &str) {
        let lease = self.claim_one(to).await.unwrap();
        self.spool().settle(lease, confirmed()).await.unwrap();
    }

    fn fsck(&mut self) -> FsckReport {
        self.spool = None;
        fsck(self.path(), true).unwrap()
    }
}

fn decision(jobs: Vec<NewJob>) -> Commit {
    Commit {
        study: Some(Uid::known("1.2.9")),
        rule_epoch: 7,
        jobs,
        repeat: Repeat::Acknowledge,
        note: StudyNote::default(),
        aliases: Vec::new(),
        traits: Vec::new(),
    }
}

fn confirmed() -> Settlement {
    Settlement::Confirmed {
        status: 0,
        note: String::new(),
    }
}

fn arriving(uid: &str) -> Arriving {
    let mut header = vec![0; 128 + 4 + 40 + payload::PRIVATE_LEN + 6];
    header[128..132].copy_from_slice(b"DICM");
    Arriving {
        source: SourceId::parse("ct1").unwrap(),
        calling_ae: AeTitle::parse("CT1").unwrap(),
        called_ae: AeTitle::parse("WAY").unwrap(),
        sop_class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
        sop_instance: Uid::parse(uid).unwrap(),
        transfer_syntax: Uid::known("1.2.840.10008.1.2.1"),
        header,
        private_offset: 172,
    }
}

fn dest(name: &str) -> DestinationId {
    DestinationId::parse(name).unwrap()
}

fn to(name: &str) -> NewJob {
    NewJob {
        destination: Some(dest(name)),
        priority: Priority::Routine,
        plan: vec![1, 2, 3],
        due: START,
        hold: None,
        quiet: None,
        group: None,
    }
}

fn with(priority: Priority, name: &str) -> NewJob {
    NewJob { priority, ..to(name) }
}

fn id_of(committed: Committed) -> InstanceId {
    match committed {
        Committed::Stored(id) | Committed::Repeat(id) | Committed::Conflict(id) => id,
    }
}

async fn read_all(spool: &Spool, id: InstanceId) -> Result<Vec<u8>, ReadError> {
    let mut payload = spool.payload(&id).await?;
    let mut all = Vec::new();
    while let Some(chunk) = payload.next().await? {
        all.extend_from_slice(&chunk);
    }
    payload.verify()?;
    Ok(all)
}
