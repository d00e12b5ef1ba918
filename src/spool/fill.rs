//! A spool with a long queue, made without the wire: for the backlog bench. In builds with planted faults only.
//!
//! Records, facts and payload files are what an arrival leaves, made by the same transitions; only the flush of each file is
//! left out, and one at the end takes its place.
use super::admit::{add_job, admit};
use super::core::Core;
use super::db::Db;
use super::lifecycle::apply_now;
use super::model::{Arriving, Commit, Committed, Instance, NewJob};
use super::payload::{PRIVATE_LEN, path_of, private_record};
use super::record::InstanceRecord;
use super::txn::Book;
use super::{Config, Repeat, StudyNote, recover};
use crate::base::clock::Clock;
use crate::base::names::{InstanceId, Uid};
use crate::telemetry::metrics::Metrics;
use std::fs;
use std::io::Write as _;
use std::sync::Arc;

/// What is to lie in the spool.
pub struct Fill {
    /// Names and file header of every instance; the SOP Instance UID is made anew for each.
    pub like: Arriving,
    /// The data set, the same for all.
    pub data_set: Vec<u8>,
    pub instances: u64,
    /// Instances of one study.
    pub study: u64,
    /// The job that each has.
    pub job: NewJob,
    /// Jobs of each instance: more than one only to have a long queue over few files.
    pub jobs: u64,
}

/// Fills an empty directory. Blocking, for minutes where there are millions.
///
/// # Errors
/// The directory is no empty one, or the disk refuses.
pub fn fill(config: &Config, clock: &Clock, metrics: &Metrics, fill: &Fill) -> Result<(), String> {
    let root = &config.path;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (lock, _) = recover::lock_to_write(root, true).map_err(|e| text(&e))?;
    let core = Arc::new(Core::new(config.clone(), clock.clone(), metrics.clone()));
    recover::directories(root).map_err(|e| text(&e))?;
    core.read_trace_key().map_err(|e| text(&e))?;
    let db = recover::open_index(root).map_err(|e| text(&e))?;
    recover::lanes(&core, &db).map_err(|e| text(&e))?;
    let mut book = Book::load(core.clone(), &db).map_err(|e| text(&e))?;
    let digest = *blake3::hash(&fill.data_set).as_bytes();
    let mut number = 0;
    while number < fill.instances {
        let end = fill.instances.min(number + BATCH);
        let mut records = Vec::new();
        for n in number..end {
            records.push(file(root, clock, fill, n, digest).map_err(|e| text(&e))?);
        }
        batch(&core, &db, &mut book, fill, &records)?;
        number = end;
    }
    rustix::fs::sync();
    core.witness.begin(&db, book.ledger);
    drop(lock);
    Ok(())
}

fn file(
    root: &std::path::Path,
    clock: &Clock,
    fill: &Fill,
    number: u64,
    digest: [u8; 32],
) -> std::io::Result<InstanceRecord> {
    let (like, arrival) = (&fill.like, clock.now());
    // Odd, so that the ids are spread over all shards, and never twice the same.
    let id = InstanceId::new(arrival.0, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let uid = |root: &str, number: u64| {
        // Digits and dots, and short.
        Uid::parse(&format!("{root}.{number}")).expect("a UID")
    };
    let record = InstanceRecord {
        instance: Instance {
            id,
            source: like.source.clone(),
            calling_ae: like.calling_ae.clone(),
            called_ae: like.called_ae.clone(),
            sop_class: like.sop_class.clone(),
            sop_instance: uid("1.2.826.0.1.3680043.10.3.4", number),
            study: Some(uid("1.2.826.0.1.3680043.10.3.5", number / fill.study.max(1))),
            transfer_syntax: like.transfer_syntax.clone(),
            arrival,
            length: fill.data_set.len() as u64,
            digest,
            rule_epoch: 0,
        },
        data_set_offset: u32::try_from(like.header.len()).unwrap_or(u32::MAX),
        private_offset: u32::try_from(like.private_offset).unwrap_or(u32::MAX),
        delivered: false,
        done: Vec::new(),
    };
    let mut bytes = like.header.clone();
    let private = &mut bytes[like.private_offset..like.private_offset + PRIVATE_LEN];
    private.copy_from_slice(&private_record(&record));
    private[STATE] = b'C';
    bytes.extend_from_slice(&fill.data_set);
    fs::File::create(path_of(root, id))?.write_all(&bytes)?;
    Ok(record)
}

fn batch(core: &Core, db: &Db, book: &mut Book, fill: &Fill, records: &[InstanceRecord]) -> Result<(), String> {
    let done = apply_now(core, db, book, |txn| {
        for record in records {
            let commit = Commit {
                study: record.instance.study.clone(),
                rule_epoch: 0,
                jobs: vec![fill.job.clone()],
                repeat: Repeat::Acknowledge,
                note: StudyNote::default(),
                aliases: Vec::new(),
                traits: Vec::new(),
            };
            let committed = admit(txn, record, commit)?;
            assert!(matches!(committed, Ok(Committed::Stored(_))), "every UID is new");
            let dest = txn.number(fill.job.destination.as_ref());
            for _ in 1..fill.jobs {
                add_job(txn, record.instance.id, dest, fill.job.clone());
            }
        }
        Ok(())
    });
    done.map_err(|error| error.to_string())
}

const BATCH: u64 = 2_000;
/// Where the state letter stands in a private record.
const STATE: usize = 8;
