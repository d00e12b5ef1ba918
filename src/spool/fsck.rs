//! `spool fsck`: reads everything, changes nothing, and names each thing that does not hold together.
use super::chain;
use super::commitment;
use super::db::{Cf, Db, DbError};
use super::folder::{self, Listing, Others};
use super::inspect::{Found, digest, inspect};
use super::keys;
use super::leaving::Leaves;
use super::model::OpenError;
use super::payload::{self, path_of};
use super::record::{InstanceRecord, JobRecord, SeenRecord};
use super::recover;
use super::schema;
use super::study::StudySeen;
use super::witness;
use crate::base::names::InstanceId;
use std::path::Path;

/// What was looked at and what was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct FsckReport {
    pub instances: u64,
    pub jobs: u64,
    pub queued: u64,
    pub held: u64,
    /// Jobs that were sent and wait for their destination's commitment.
    pub awaiting: u64,
    pub facts: u64,
    /// Records that were put into quarantine earlier.
    pub quarantined: u64,
    /// Payload bytes whose digest was checked.
    pub bytes_verified: u64,
    /// In words, with our own ids; at most `PROBLEMS_MAX`.
    pub problems: Vec<String>,
    /// All problems, named or not.
    pub problem_count: u64,
}

/// Problems that are named.
pub const PROBLEMS_MAX: usize = 10_000;

impl FsckReport {
    fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }
}

/// Checks a spool that no process has open. With `deep` every payload is read and its digest compared.
///
/// # Errors
/// It is no spool, is in use, or its index does not open at all.
pub fn fsck(path: &Path, deep: bool) -> Result<FsckReport, OpenError> {
    let lock = recover::lock_to_read(path)?;
    let damaged = |error: DbError| OpenError::IndexDamaged {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let since = schema::families_since(schema::older(path)?.unwrap_or(schema::FORMAT));
    let db = Db::open_read_only(&recover::index_path(path), since).map_err(damaged)?;
    let mut report = FsckReport::default();
    let checks = [instances, jobs, due_and_holds, references, rest];
    for check in checks {
        if let Err(error) = check(&db, path, &mut report) {
            report.problem(format!("the index cannot be read: {error}"));
        }
    }
    if deep {
        digests(&db, path, &mut report).map_err(damaged)?;
    }
    drop(lock);
    Ok(report)
}

/// What the records of an open index say of each other; nothing is said of files.
#[cfg(feature = "planted")]
pub(super) fn index(db: &Db) -> Result<FsckReport, DbError> {
    let mut report = FsckReport::default();
    for check in [jobs, due_and_holds, references, rest] {
        check(db, Path::new(""), &mut report)?;
    }
    Ok(report)
}

fn instances(db: &Db, path: &Path, report: &mut FsckReport) -> Result<(), DbError> {
    db.scan(Cf::Instance, &[], &[], |key, value| {
        report.instances += 1;
        let Some(id) = keys::instance_of(key) else {
            report.problem("an instance record has no id".into());
            return true;
        };
        let Ok(record) = InstanceRecord::decode(value) else {
            report.problem(format!("instance {id}: its record cannot be read"));
            return true;
        };
        let expected = u64::from(record.data_set_offset) + record.instance.length;
        match std::fs::metadata(path_of(path, id)) {
            Ok(meta) if meta.len() == expected => {}
            Ok(meta) => report.problem(format!(
                "instance {id}: payload has {} bytes, not {expected}",
                meta.len()
            )),
            Err(_) => report.problem(format!("instance {id}: payload file is missing")),
        }
        let mut used = false;
        let scan = db.scan(Cf::Ref, &id.0, &keys::behind(&id.0), |_, _| {
            used = true;
            false
        });
        let cached = db.get(Cf::Cached, &keys::cached(record.instance.arrival, id));
        match (scan, cached) {
            (Ok(()), Ok(cached)) => {
                if used == record.delivered || cached.is_some() != record.delivered {
                    report.problem(format!("instance {id}: delivered mark, jobs and cache list disagree"));
                }
            }
            _ => report.problem(format!("instance {id}: its references cannot be read")),
        }
        true
    })?;
    match folder::list(path) {
        Ok(listing) => files(db, path, &listing, report)?,
        Err(detail) => report.problem(format!("payload files cannot be listed: {detail}")),
    }
    Ok(())
}

/// What lies below `payload/` and has no record, or is no payload at all.
fn files(db: &Db, path: &Path, listing: &Listing, report: &mut FsckReport) -> Result<(), DbError> {
    for id in recover::compare(&listing.payloads, db)?.strays {
        if !matches!(inspect(path, id, false), Ok(Found::Empty)) {
            report.problem(format!("payload {id}: no record"));
        }
    }
    for (file, id) in &listing.misplaced {
        let file = file.strip_prefix(path).unwrap_or(file).display();
        let place = path_of(Path::new(""), *id);
        report.problem(format!(
            "{file}: belongs at {}, where nothing lies: the next start looks at it, and moves it there if an instance needs it",
            place.display()
        ));
    }
    let Others { named, count } = &listing.others;
    for other in named {
        let other = other.display();
        report.problem(format!(
            "{other}: is not a payload of this spool: nothing reads it; it stays until a person moves it away"
        ));
    }
    let unnamed = count - named.len() as u64;
    if unnamed > 0 {
        report.problem(format!(
            "{unnamed} more files below payload/ are not payloads of this spool"
        ));
    }
    Ok(())
}

fn jobs(db: &Db, _: &Path, report: &mut FsckReport) -> Result<(), DbError> {
    let mut error = None;
    db.scan(Cf::Job, &[], &[], |raw, value| {
        report.jobs += 1;
        let (Some(key), Ok(job)) = (keys::job_of(raw), JobRecord::decode(value)) else {
            let id = keys::job_of(raw).map_or(0, |key| key.job.0);
            report.problem(format!("job {id}: its record cannot be read"));
            return true;
        };
        let entry = match (&job.hold, &job.pledge.sent) {
            (Some((since, _)), _) => db.get(Cf::Hold, &keys::hold(key, *since)),
            (None, Some(sent)) => {
                report.awaiting += 1;
                db.get(Cf::Meta, &keys::awaits(key, sent.asked.is_some(), sent.study))
            }
            (None, None) => db.get(Cf::Due, &keys::due(key, job.priority, job.due)),
        };
        let reference = db.get(Cf::Ref, &keys::reference(job.instance, key));
        let instance = db.get(Cf::Instance, &job.instance.0);
        match (entry, reference, instance) {
            (Ok(entry), Ok(reference), Ok(instance)) => {
                for (found, what) in [
                    (entry, "no entry in the queue"),
                    (reference, "no reference"),
                    (instance, "no instance"),
                ] {
                    if found.is_none() {
                        report.problem(format!("job {}: {what}", key.job));
                    }
                }
                true
            }
            (Err(failed), ..) | (_, Err(failed), _) | (_, _, Err(failed)) => {
                error = Some(failed);
                false
            }
        }
    })?;
    error.map_or(Ok(()), Err)
}

fn due_and_holds(db: &Db, _: &Path, report: &mut FsckReport) -> Result<(), DbError> {
    let job = |key| {
        let raw = db.get(Cf::Job, &keys::job(key)).ok().flatten();
        raw.and_then(|raw| JobRecord::decode(&raw).ok())
    };
    db.scan(Cf::Due, &[], &[], |raw, _| {
        report.queued += 1;
        let sound = keys::due_of(raw).is_some_and(|(key, priority, due)| {
            job(key).is_some_and(|job| {
                let waits = job.hold.is_none() && job.pledge.sent.is_none();
                waits && job.priority == priority && job.due == due
            })
        });
        if !sound {
            let id = keys::due_of(raw).map_or(0, |(key, ..)| key.job.0);
            report.problem(format!("queue entry of job {id}: no such queued job"));
        }
        true
    })?;
    db.scan(Cf::Hold, &[], &[], |raw, value| {
        report.held += 1;
        let sound = keys::hold_of(raw).is_some_and(|(key, since)| {
            job(key)
                .and_then(|job| job.hold)
                .is_some_and(|(at, reason)| at == since && value == [reason.kind as u8])
        });
        if !sound {
            let id = keys::hold_of(raw).map_or(0, |(key, _)| key.job.0);
            report.problem(format!("hold entry of job {id}: no such held job"));
        }
        true
    })
}

fn references(db: &Db, _: &Path, report: &mut FsckReport) -> Result<(), DbError> {
    db.scan(Cf::Ref, &[], &[], |raw, _| {
        let sound = keys::reference_of(raw).is_some_and(|(id, key)| {
            let job = db.get(Cf::Job, &keys::job(key)).ok().flatten();
            job.and_then(|job| JobRecord::decode(&job).ok())
                .is_some_and(|job| job.instance == id)
        });
        if !sound {
            let id = keys::reference_of(raw).map_or(0, |(_, key)| key.job.0);
            report.problem(format!("reference of job {id}: no such job"));
        }
        true
    })?;
    db.scan(Cf::Cached, &[], &[], |raw, _| {
        let id = keys::cached_of(raw);
        if !id.is_some_and(|id| db.get(Cf::Instance, &id.0).is_ok_and(|found| found.is_some())) {
            let id = id.map_or_else(String::new, |id| id.to_string());
            report.problem(format!("cache entry {id}: no such instance"));
        }
        true
    })
}

fn rest(db: &Db, path: &Path, report: &mut FsckReport) -> Result<(), DbError> {
    db.scan(Cf::Seen, &[], &[], |_, value| {
        if SeenRecord::decode(value).is_err() {
            report.problem("a record of seen instances cannot be read".into());
        }
        true
    })?;
    db.scan(Cf::Study, &[], &[], |key, value| {
        if keys::is_study(key) && StudySeen::decode(value).is_err() {
            report.problem("what is remembered of a study cannot be read".into());
        }
        true
    })?;
    db.scan(Cf::Meta, keys::FAILOVER, &keys::behind(keys::FAILOVER), |key, _| {
        let job = keys::failover_of(key).map(|key| db.get(Cf::Job, &keys::job(key)));
        let job = job.and_then(|found| JobRecord::decode(&found.ok()??).ok());
        if !job.is_some_and(|job| job.hold.is_none() && job.failover.is_some()) {
            report.problem("a fail-over entry has no such queued job".into());
        }
        true
    })?;
    commitment::check(db, |text| report.problem(text))?;
    db.scan(Cf::Meta, keys::LEAVES, &keys::behind(keys::LEAVES), |_, value| {
        if Leaves::decode(value).is_err() {
            report.problem("a record of renamed instances cannot be read".into());
        }
        true
    })?;
    db.scan(Cf::Quarantine, &[], &[], |_, _| {
        report.quarantined += 1;
        true
    })?;
    // The simulator has no directory, and so no witness.
    let verified = chain::verify(db, witness::last(path))?;
    report.facts = verified.lines;
    for broken in verified.broken {
        report.problem(format!("ledger: fact {}: {}", broken.line, broken.why));
    }
    Ok(())
}

fn digests(db: &Db, path: &Path, report: &mut FsckReport) -> Result<(), DbError> {
    db.scan(Cf::Instance, &[], &[], |_, value| {
        let Ok(record) = InstanceRecord::decode(value) else {
            return true;
        };
        let id: InstanceId = record.instance.id;
        let found = payload::open(&path_of(path, id)).and_then(|mut file| digest(&mut file, record.data_set_offset));
        match found {
            Ok(digest) if digest == record.instance.digest => report.bytes_verified += record.instance.length,
            Ok(_) => report.problem(format!("instance {id}: payload is not what arrived")),
            Err(_) => report.problem(format!("instance {id}: payload cannot be read")),
        }
        true
    })
}
