//! The scrub: one thread that reads every payload file again at a limited rate, the delivered ones in the cache too, and holds
//! what is not what arrived before a delivery or a disaster needs it. It repairs nothing: a damaged instance is held,
//! visibly, as `corrupt` and named, so that its modality can send it again (`damaged.rs`).
//!
//! A pass begins each `scrub_every` and goes on where it was after a restart. It takes a quarter of its rate while images come
//! or go and rests while an urgent one is on its way, unless the pass is late; and more than its rate when the disk holds
//! more than a pass could read in time. Pages are dropped from memory before they are read: the disk is what is asked.
use super::commit::{Request, submit_blocking};
use super::core::Core;
use super::damaged;
use super::db::Cf;
use super::inspect::is_passing;
use super::keys;
use super::model::Priority;
use super::payload::{self, find_private, path_of};
use super::record::InstanceRecord;
use super::txn::{decode_number, encode_number, meta_key};
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::WeakSender;

/// Records read at a time.
const BATCH: usize = 32;
const CHUNK: usize = 256 << 10;
/// How often a position is written.
const PERSIST: Duration = Duration::from_secs(30);
/// A box that has just started has other things to do.
const FIRST: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(250);
/// While images come or go.
const LOADED: u64 = 4;

/// Where the scrub stands.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ScrubStatus {
    pub running: bool,
    /// The present pass, or the last.
    pub started: Option<String>,
    pub payloads: u64,
    pub bytes: u64,
    /// Not what arrived, missing or unreadable, in this pass.
    pub damaged: u64,
    /// The data set is sound, but not what a rebuild would need of the header.
    pub headers: u64,
    pub completed: Option<String>,
}

/// What the thread and the spool share.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closing: bool,
    now: bool,
    status: ScrubStatus,
}

impl Desk {
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false when the spool closes.
    fn rest(&self, span: Duration) -> bool {
        let state = self.lock();
        if state.closing {
            return false;
        }
        let (state, _) = self
            .changed
            .wait_timeout(state, span)
            .unwrap_or_else(PoisonError::into_inner);
        !state.closing
    }
}

impl super::Spool {
    /// Where the scrub stands. Costs nothing.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        self.core.scrub.lock().status.clone()
    }

    /// Begins a pass at once, which waits for nobody.
    pub fn scrub_now(&self) {
        let mut state = self.core.scrub.lock();
        state.now = true;
        // It counts as begun: the thread is woken for it.
        (state.status.running, state.status.started) = (true, None);
        drop(state);
        self.core.scrub.changed.notify_all();
    }
}

/// A pass, as it is persisted.
#[derive(Clone, Copy, Default)]
struct Pass {
    /// The last instance that was looked at.
    at: Option<InstanceId>,
    started: Option<Wall>,
    completed: Option<Wall>,
}

pub(super) struct Scrub {
    core: Arc<Core>,
    queue: WeakSender<Request>,
    pass: Pass,
    /// When the next chunk may be read.
    next: Instant,
    /// Asked for by a person: no rest.
    urged: bool,
    persisted: Instant,
}

/// What a payload file turned out to be.
enum Verdict {
    Sound,
    /// As it arrived, but a rebuild would not know it.
    Header,
    Damaged(String),
    /// It has left meanwhile, or the process is out of something.
    Unknown,
}

/// The spool closes.
struct Closing;

impl Scrub {
    pub(super) fn new(core: Arc<Core>, queue: WeakSender<Request>) -> Self {
        let mut scrub = Self {
            core,
            queue,
            pass: Pass::default(),
            next: Instant::now(),
            urged: false,
            persisted: Instant::now(),
        };
        scrub.pass = scrub.load();
        scrub.tell(|_| {});
        scrub
    }

    /// Runs until the spool closes.
    pub(super) fn run(mut self) {
        let from = Instant::now() + FIRST;
        loop {
            let now = std::mem::take(&mut self.core.scrub.lock().now);
            if now {
                self.urged = true;
                self.begin();
            } else if Instant::now() >= from && self.pass.started.is_none() && self.is_due() {
                self.begin();
            }
            let ready = self.urged || Instant::now() >= from;
            let done = match self.pass.started {
                Some(_) if ready => self.step(),
                _ if self.core.scrub.rest(LOOK) => Ok(()),
                _ => Err(Closing),
            };
            if done.is_err() {
                self.persist();
                return;
            }
        }
    }

    fn is_due(&self) -> bool {
        let every = self.core.config.scrub_every.0;
        if every.is_zero() || self.core.config.scrub_rate.0 == 0 {
            return false;
        }
        // A pass that ended in the future ended under a wrong clock.
        let now = self.core.clock.now();
        self.pass.completed.is_none_or(|at| at > now || now.since(at) >= every)
    }

    fn begin(&mut self) {
        self.pass.at = None;
        self.pass.started = Some(self.core.clock.now());
        self.tell(|status| {
            *status = ScrubStatus {
                completed: status.completed.take(),
                ..ScrubStatus::default()
            };
        });
    }

    /// The next records of the pass.
    fn step(&mut self) -> Result<(), Closing> {
        let from = self.pass.at.map_or(Vec::new(), |id| [&id.0[..], &[0]].concat());
        let mut records = Vec::with_capacity(BATCH);
        let Ok(db) = self.core.db() else {
            return if self.core.scrub.rest(LOOK) {
                Ok(())
            } else {
                Err(Closing)
            };
        };
        let scan = db.scan(Cf::Instance, &from, &[], |key, value| {
            let id = keys::instance_of(key);
            records.extend(id.map(|id| (id, InstanceRecord::decode(value).ok())));
            records.len() < BATCH
        });
        drop(db);
        if scan.is_err() {
            self.core.gate.latch("index_read");
            return if self.core.scrub.rest(LOOK) {
                Ok(())
            } else {
                Err(Closing)
            };
        }
        if records.is_empty() {
            self.complete();
            return Ok(());
        }
        for (id, record) in records {
            if self.core.scrub.lock().now {
                return Ok(());
            }
            // A record that cannot be read is for claim and fsck.
            if let Some(record) = record {
                self.one(&record)?;
            }
            self.pass.at = Some(id);
        }
        if self.persisted.elapsed() >= PERSIST {
            self.persist();
        }
        Ok(())
    }

    fn complete(&mut self) {
        self.pass = Pass {
            at: None,
            started: None,
            completed: Some(self.core.clock.now()),
        };
        self.urged = false;
        self.persist();
        self.tell(|_| {});
        let status = self.core.scrub.lock().status.clone();
        tracing::info!(
            payloads = status.payloads,
            bytes = status.bytes,
            damaged = status.damaged,
            "scrub completed"
        );
    }

    fn one(&mut self, record: &InstanceRecord) -> Result<(), Closing> {
        let mut verdict = self.look(record)?;
        if matches!(verdict, Verdict::Damaged(_)) {
            // Once more: what a second look does not confirm was no damage of the disk.
            verdict = self.look(record)?;
        }
        if matches!(verdict, Verdict::Sound | Verdict::Header) {
            self.heal(record)?;
        }
        let word = match &verdict {
            Verdict::Sound => "sound",
            Verdict::Header => "header",
            Verdict::Damaged(why) => {
                let (id, why) = (record.instance.id, why.clone());
                match submit_blocking(&self.queue, move |txn| damaged::quarantine(txn, id, &why)) {
                    None => return Err(Closing),
                    Some(Ok(true)) => "damaged",
                    Some(Ok(false)) => return Ok(()),
                    // It is met again in the next pass.
                    Some(Err(_)) => "unknown",
                }
            }
            Verdict::Unknown => "unknown",
        };
        let metrics = &self.core.metrics;
        metrics.scrub_payloads_total.with_label_values(&[word]).inc();
        let (instance, source) = (record.instance.id, &record.instance.source);
        if word == "damaged" {
            damaged::tell(metrics, instance, source);
        } else if word == "header" {
            tracing::warn!(%instance, %source, "a payload's own record of itself is damaged: a rebuild would not know it");
        }
        self.tell(|status| {
            status.payloads += 1;
            status.damaged += u64::from(word == "damaged");
            status.headers += u64::from(word == "header");
        });
        Ok(())
    }

    /// A sound payload whose instance is marked as damaged has been put back: what was held for it goes.
    fn heal(&self, record: &InstanceRecord) -> Result<(), Closing> {
        let (id, digest) = (record.instance.id, record.instance.digest);
        let is_marked = self
            .core
            .db()
            .is_ok_and(|db| damaged::mark_of(&db, id).unwrap_or(false));
        if !is_marked {
            return Ok(());
        }
        // One that is not recorded is met again in the next pass.
        let healed = submit_blocking(&self.queue, move |txn| damaged::whole_again(txn, id, digest));
        healed.map(drop).ok_or(Closing)
    }

    /// Reads one file whole.
    fn look(&mut self, record: &InstanceRecord) -> Result<Verdict, Closing> {
        let path = path_of(&self.core.config.path, record.instance.id);
        match self.read(record, &path) {
            Ok(verdict) => Ok(verdict),
            Err(None) => Err(Closing),
            Err(Some(error)) if is_passing(&error) => Ok(Verdict::Unknown),
            Err(Some(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Verdict::Damaged("the payload file is missing".to_owned()))
            }
            Err(Some(error)) => {
                let code = error.raw_os_error().unwrap_or(0);
                Ok(Verdict::Damaged(format!(
                    "the payload file cannot be read (os error {code})"
                )))
            }
        }
    }

    /// `Err(None)`: the spool closes.
    fn read(&mut self, record: &InstanceRecord, path: &std::path::Path) -> Result<Verdict, Option<io::Error>> {
        let mut file = payload::open(path)?;
        // Without the hint the kernel's copy is read: less of a test, never a wrong answer.
        let _hint = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let offset = u64::from(record.data_set_offset);
        if file.metadata()?.len() != offset + record.instance.length {
            return Ok(Verdict::Damaged("the payload has another length".to_owned()));
        }
        let mut header = vec![0; record.data_set_offset as usize];
        file.read_exact(&mut header)?;
        let known = find_private(&header).is_some_and(|(own, _)| own.instance.digest == record.instance.digest);
        file.seek(SeekFrom::Start(offset))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            if !self.pace() {
                return Err(None);
            }
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            self.core.metrics.scrub_bytes_total.inc_by(count as u64);
            self.tell(|status| status.bytes += count as u64);
        }
        let _hint = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(match *hasher.finalize().as_bytes() == record.instance.digest {
            false => Verdict::Damaged("the payload is not what arrived".to_owned()),
            true if known => Verdict::Sound,
            true => Verdict::Header,
        })
    }

    /// Waits until a chunk may be read; false when the spool closes.
    fn pace(&mut self) -> bool {
        let late = self.is_late();
        while !self.urged && !late && self.is_urgent() {
            if !self.core.scrub.rest(REST) {
                return false;
            }
        }
        let mut rate = self.rate();
        if !self.urged && !late && self.is_loaded() {
            rate /= LOADED;
        }
        let now = Instant::now();
        let span = Duration::from_secs_f64(CHUNK as f64 / rate.max(1) as f64);
        // A rest is not made up for by a burst.
        self.next = self.next.max(now) + span;
        let wait = self.next.saturating_duration_since(now + span);
        if wait.is_zero() {
            return !self.core.scrub.lock().closing;
        }
        self.core.scrub.rest(wait)
    }

    /// As configured; more when a pass would otherwise not end in time.
    fn rate(&self) -> u64 {
        let rate = self.core.config.scrub_rate.0.max(CHUNK as u64);
        let every = self.core.config.scrub_every.0.as_secs();
        match every {
            0 => rate,
            every => rate.max(self.core.disk.used() / every * 2),
        }
    }

    /// More than half of the time for a pass is over.
    fn is_late(&self) -> bool {
        let since = self
            .pass
            .started
            .map_or(Duration::ZERO, |at| self.core.clock.now().since(at));
        since > self.core.config.scrub_every.0 / 2
    }

    fn is_loaded(&self) -> bool {
        self.core.arrived_within(LOOK) || self.core.lanes.all().iter().any(|lane| lane.in_flight() > 0)
    }

    /// An urgent job is on its way.
    fn is_urgent(&self) -> bool {
        let stat = |name: &str| {
            let gauge = &self.core.metrics.jobs_queued;
            gauge.with_label_values(&[name, Priority::Stat.word()]).get() > 0
        };
        let lanes = self.core.lanes.all();
        lanes
            .iter()
            .any(|lane| lane.in_flight() > 0 && stat(lane.name.as_str()))
    }

    fn load(&self) -> Pass {
        let Ok(db) = self.core.db() else {
            return Pass::default();
        };
        let read = |name| db.get(Cf::Meta, &meta_key(SCRUB, name)).ok().flatten();
        let wall = |name| {
            read(name)
                .and_then(|raw| decode_number(&raw).ok())
                .filter(|at| *at > 0)
                .map(Wall)
        };
        Pass {
            at: read("at").and_then(|raw| keys::instance_of(&raw)),
            started: wall("started"),
            completed: wall("completed"),
        }
    }

    /// A position that is not written is read again after a restart.
    fn persist(&mut self) {
        self.persisted = Instant::now();
        let pass = self.pass;
        let _hint = submit_blocking(&self.queue, move |txn| {
            let number = |at: Option<Wall>| encode_number(at.map_or(0, |at| at.0));
            txn.put(Cf::Meta, meta_key(SCRUB, "started"), number(pass.started));
            txn.put(Cf::Meta, meta_key(SCRUB, "completed"), number(pass.completed));
            txn.put(
                Cf::Meta,
                meta_key(SCRUB, "at"),
                pass.at.map_or(Vec::new(), |id| id.0.to_vec()),
            );
            Ok(())
        });
    }

    fn tell(&self, change: impl FnOnce(&mut ScrubStatus)) {
        let mut state = self.core.scrub.lock();
        let status = &mut state.status;
        change(status);
        status.running = self.pass.started.is_some();
        if let Some(at) = self.pass.started {
            status.started = Some(at.iso());
        }
        status.completed = self.pass.completed.map(Wall::iso);
        let metrics = &self.core.metrics;
        let total = ["pending", "delivered"].map(|state| super::count::instances(&self.core, state).get());
        let total = total.iter().sum::<i64>().max(1) as f64;
        let ratio = if status.running {
            (status.payloads as f64 / total).min(1.0)
        } else {
            1.0
        };
        metrics.scrub_pass_ratio.set(ratio);
        let completed = self.pass.completed.map_or(0.0, |at| at.0 as f64 / 1e6);
        metrics.scrub_completed_timestamp_seconds.set(completed);
    }
}

const SCRUB: &[u8] = b"scrub/";
