//! Start: lock, marker, index; then payload files and records are held against each other, both ways, and every
//! difference is named. Nothing acknowledged is dropped, nothing that never was is delivered.
use super::core::Core;
use super::db::{Cf, Db, DbError};
use super::folder::{self, Listing, bring_home, is_free, naming, put_aside};
use super::inspect::{Found, inspect, inspect_at, is_passing};
use super::keys;
use super::ledger::Head;
use super::model::{CommitError, OpenError, OpenReport};
use super::payload::{FileState, path_of};
use super::record::{InstanceRecord, SeenEntry, SeenRecord};
use super::salvage::{Differences, Named};
use super::txn::{DESTINATION, SCHEMA, SUSPENDED, WAITS, aside, decode_number};
use super::{schema, witness};
use crate::base::names::{DestinationId, InstanceId};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Stands in the spool after a read error of the index that a reopening did not mend.
pub(super) const SUSPECT: &str = "index-suspect";

pub(super) fn index_path(root: &Path) -> PathBuf {
    root.join("index")
}

fn failed(root: &Path, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    let path = root.to_owned();
    move |error| OpenError::Io { path, what, error }
}

/// Whether a directory holds anything: a spool, or what `Spool::open` will say is none. One that may not be looked into does.
#[must_use]
pub fn is_there(root: &Path) -> bool {
    match fs::read_dir(root) {
        Ok(mut entries) => entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found")),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// User and group whose the spool is, when it is another's and root asks: what root makes there, the box could not read.
#[must_use]
pub fn anothers(root: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let owner = schema::marker(root).metadata().ok()?;
    (owner.uid() != 0).then(|| (owner.uid(), owner.gid()))
}

/// Makes or recognises a spool directory, fills an empty marker in, and locks it for this process. The lock lives as long as the
/// file. `true`: the marker was empty.
pub(super) fn lock_to_write(root: &Path, create: bool) -> Result<(File, bool), OpenError> {
    if let Some((uid, _)) = anothers(root) {
        let path = root.to_owned();
        return Err(OpenError::Anothers { path, uid });
    }
    let mut file = locked(root, create)?;
    let fresh = schema::claim(root, &mut file)?;
    Ok((file, fresh))
}

/// Locks a spool directory for this process, to look at it: nothing in it is changed. The lock lives as long as the file.
pub(super) fn lock_to_read(root: &Path) -> Result<File, OpenError> {
    let file = locked(root, false)?;
    schema::refuse_newer(root)?;
    Ok(file)
}

/// Whether a directory holds something and is no spool: then `Spool::open` refuses it. Of one that may not be looked into nothing is
/// known.
#[must_use]
pub fn is_foreign(root: &Path) -> bool {
    matches!(schema::marker(root).try_exists(), Ok(false)) && is_there(root)
}

fn locked(root: &Path, create: bool) -> Result<File, OpenError> {
    if create {
        fs::create_dir_all(root).map_err(failed(root, "cannot be made"))?;
    }
    // Before anything is opened for writing: a spool of a newer version stays as it is, to the byte.
    schema::refuse_newer(root)?;
    if !schema::has_marker(root) {
        fs::read_dir(root).map_err(failed(root, "cannot be listed"))?;
        if is_there(root) || !create {
            return Err(OpenError::NotASpool(root.to_owned()));
        }
    }
    let file = schema::open_marker(root, create)?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(OpenError::InUse(root.to_owned()));
    }
    Ok(file)
}

/// Makes the directories, all their entries durable.
pub(super) fn directories(root: &Path) -> Result<(), OpenError> {
    let make = || {
        for name in ["payload", "orphans", "quarantine"] {
            fs::create_dir_all(root.join(name)).map_err(naming(root, &root.join(name)))?;
        }
        spread(&root.join("payload"));
        for shard in 0..=u8::MAX {
            let shard = root.join("payload").join(format!("{shard:02x}"));
            fs::create_dir_all(&shard).map_err(naming(root, &shard))?;
        }
        super::pool::sync_directory(&root.join("payload"))?;
        super::pool::sync_directory(root)
    };
    make().map_err(failed(root, "directories cannot be made"))
}

/// Asks ext4 to lay the folders below out over the whole disk, as it does with those of different users, instead of side by side: a
/// new file is searched for where its folder lies. Measured with shards side by side: 400 µs for each new file, in groups of
/// inodes that others had lately emptied; spread out, 125 µs. Other file systems say no, and need no such word.
fn spread(folder: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let told = File::open(folder)
        .map_err(|_| rustix::io::Errno::IO)
        .and_then(|folder| {
            let flags = ioctl_getflags(&folder)?;
            ioctl_setflags(&folder, flags | IFlags::TOPDIR)
        });
    if let Err(error) = told {
        tracing::debug!(%error, "the payload folder cannot be spread over the disk; it works as it is");
    }
}

/// A write and a flush that prove the disk.
pub(super) fn probe(root: &Path) -> io::Result<()> {
    use std::io::Write;
    let path = root.join("probe");
    let mut file = File::create(&path)?;
    file.write_all(b"probe")?;
    file.sync_all()?;
    fs::remove_file(&path)
}

/// Opens the index; makes it only when no payload says that there was one.
pub(super) fn open_index(root: &Path) -> Result<Db, OpenError> {
    let path = index_path(root);
    let create = !Db::exists(&path);
    if create {
        let payloads = folder::count(root).map_err(failed(root, "payloads cannot be listed"))?;
        // A ledger that had facts says the same when everything has been delivered and has left the cache.
        if payloads > 0 || witness::lost_facts(root, &Head::default()) > 0 {
            return Err(OpenError::IndexMissing {
                path: root.to_owned(),
                payloads,
            });
        }
    }
    let damaged = |error: DbError| index_error(root, &error);
    let opened = match Db::open(&path, create) {
        // A first start that was cut leaves an index without all its families, and nothing was taken in yet.
        Err(_) if !create && folder::count(root).is_ok_and(|payloads| payloads == 0) => Db::open(&path, true),
        opened => opened,
    };
    let db = opened.map_err(damaged)?;
    clear_suspicion(root, &db)?;
    match db.get(Cf::Meta, SCHEMA).map_err(damaged)? {
        None => {
            db.write(std::iter::once(schema::stamp())).map_err(damaged)?;
            super::pool::sync_directory(root).map_err(failed(root, "cannot be flushed"))?;
        }
        Some(raw) => {
            let found = decode_number(&raw).unwrap_or(schema::FORMAT);
            if found > schema::FORMAT {
                return Err(OpenError::Newer {
                    path: root.to_owned(),
                    found,
                    known: schema::FORMAT,
                });
            }
        }
    }
    Ok(db)
}

/// What an error of the index means at start. Trouble that met the start before this one too does not pass: it is damage.
pub(super) fn index_error(root: &Path, error: &DbError) -> OpenError {
    let (path, detail) = (root.to_owned(), error.to_string());
    match error {
        DbError::Damaged(_) => OpenError::IndexDamaged { path, detail },
        DbError::Withheld(_) => OpenError::IndexWithheld { path, detail },
        DbError::Trouble(_) if root.join(SUSPECT).exists() => OpenError::IndexDamaged { path, detail },
        DbError::Trouble(_) => {
            // Without the note the next start only tries once more.
            drop(suspect(root));
            OpenError::IndexTrouble { path, detail }
        }
    }
}

/// What it means that the index took no batch, at a start or in a rebuild.
pub(super) fn batch_error(root: &Path, error: CommitError) -> OpenError {
    let path = root.to_owned();
    match error {
        CommitError::DiskFull => OpenError::IndexWithheld {
            path,
            detail: "No space left on its disk".to_owned(),
        },
        error => OpenError::IndexTrouble {
            path,
            detail: error.to_string(),
        },
    }
}

/// Leaves a note for the next start that the index must be read through first.
pub(super) fn suspect(root: &Path) -> io::Result<()> {
    File::create(root.join(SUSPECT))?.sync_all()?;
    super::pool::sync_directory(root)
}

/// An index that could not be read before is read through; the note goes when it can be.
fn clear_suspicion(root: &Path, db: &Db) -> Result<(), OpenError> {
    let note = root.join(SUSPECT);
    if !note.exists() {
        return Ok(());
    }
    db.verify().map_err(|error| index_error(root, &error))?;
    fs::remove_file(note).map_err(failed(root, "the note about its index cannot be removed"))
}

/// Makes the lanes that the index knows, with their suspensions.
pub(super) fn lanes(core: &Core, db: &Db) -> Result<(), DbError> {
    let mut numbers: Vec<(String, u32)> = Vec::new();
    db.scan(Cf::Meta, DESTINATION, &keys::behind(DESTINATION), |key, value| {
        let name = String::from_utf8_lossy(&key[DESTINATION.len()..]).into_owned();
        let number = decode_number(value).ok().and_then(|n| u32::try_from(n).ok());
        numbers.extend(number.map(|number| (name, number)));
        true
    })?;
    // A number is named in the batch of its first job: jobs without the name mean that the index has lost records, as it does
    // when its manifest was cut or overwritten at its end. A salvage finds what else is missing.
    let is_named = |number: &u32| *number == keys::UNDECIDED || numbers.iter().any(|(_, known)| known == number);
    if !numbers_in_use(db)?.iter().all(is_named) {
        return Err(DbError::Damaged(
            "jobs have lost the name of their destination".to_owned(),
        ));
    }
    for (name, number) in numbers {
        if let Ok(name) = DestinationId::parse(&name) {
            core.lanes.insert(&name, Some(number));
        }
    }
    db.scan(Cf::Meta, SUSPENDED, &keys::behind(SUSPENDED), |key, _| {
        let name = String::from_utf8_lossy(&key[SUSPENDED.len()..]).into_owned();
        if let Ok(name) = DestinationId::parse(&name) {
            let (lane, fresh) = core.lanes.ensure(&name);
            lane.booked.store(!fresh, Ordering::Relaxed);
            lane.suspend(true);
            core.metrics.lane_suspended.with_label_values(&[name.as_str()]).set(1);
        }
        true
    })?;
    db.scan(Cf::Meta, WAITS, &keys::behind(WAITS), |key, _| {
        let name = DestinationId::parse(&String::from_utf8_lossy(&key[WAITS.len()..]));
        if let Some(lane) = name.ok().and_then(|name| core.lanes.get(&name)) {
            lane.waits();
        }
        true
    })
}

/// One seek for each destination that has jobs.
fn numbers_in_use(db: &Db) -> Result<BTreeSet<u32>, DbError> {
    let (mut numbers, mut from) = (BTreeSet::new(), Vec::new());
    loop {
        let mut found = None;
        db.scan(Cf::Job, &from, &[], |key, _| {
            found = keys::job_of(key).map(|key| key.dest);
            false
        })?;
        let Some(number) = found else {
            return Ok(numbers);
        };
        numbers.insert(number);
        match number.checked_add(1) {
            Some(next) => from = next.to_be_bytes().to_vec(),
            None => return Ok(numbers),
        }
    }
}

/// Files without record: what to do with each. A file whose id has a record is never touched here. Answers what is to be taken in
/// again; what is damaged and may have been acknowledged is named, and then goes to `quarantine/`.
pub(super) fn strays(
    core: &Core,
    db: &Db,
    strays: &[InstanceId],
    (report, named): (&mut OpenReport, &mut Differences<'_>),
) -> io::Result<Vec<InstanceRecord>> {
    let root = &core.config.path;
    let mut adopted = Vec::new();
    for id in strays {
        let path = path_of(root, *id);
        let found = match inspect(root, *id, true) {
            Err(error) if is_passing(&error) => return Err(naming(root, &path)(error)),
            found => found,
        };
        let fate = match found {
            // It may have been acknowledged: put aside, and named.
            Err(_) => Fate::Quarantine,
            Ok(Found::Other(record, state)) => {
                let home = record.instance.id;
                if is_free(root, home) && is_wanted(db, &record, state, report)? {
                    bring_home(root, &path, home)?;
                    report.brought_home.push(home);
                    adopted.extend((!has_record(db, home)?).then_some(*record));
                    continue;
                }
                // A copy: the instance itself lies where it belongs, or needs its payload no more.
                report.orphans += 1;
                Fate::SetAside
            }
            Ok(found) => fate(found, db, report)?,
        };
        match fate {
            Fate::Remove => fs::remove_file(&path).map_err(naming(root, &path))?,
            Fate::SetAside => drop(put_aside(root, &path, "orphans", *id)?),
            Fate::Quarantine => {
                named.first(&Named::damaged(root, &path, *id))?;
                put_aside(root, &path, "quarantine", *id)?;
                report.unreadable.push(*id);
            }
            Fate::Adopt(record) => adopted.push(*record),
        }
    }
    Ok(adopted)
}

/// Files with a payload's name in a folder that is not theirs: those that the index misses, or has lost, are moved to their place. All
/// others stay where they are.
pub(super) fn misplaced(
    core: &Core,
    db: &Db,
    listing: &mut Listing,
    report: &mut OpenReport,
) -> io::Result<Vec<InstanceRecord>> {
    let root = &core.config.path;
    let mut adopted = Vec::new();
    for (path, id) in std::mem::take(&mut listing.misplaced) {
        let (record, state) = match inspect_at(&path, id, true) {
            Err(error) if is_passing(&error) => return Err(naming(root, &path)(error)),
            // What it is, its own identity says; its name may be another too.
            Ok(Found::Whole(record, state) | Found::Other(record, state)) => (record, state),
            _ => {
                listing.pass_over(root, &path);
                continue;
            }
        };
        let home = record.instance.id;
        // Two of one instance may have been found: the first was it.
        if !is_free(root, home) || !is_wanted(db, &record, state, report)? {
            listing.pass_over(root, &path);
            continue;
        }
        bring_home(root, &path, home)?;
        report.brought_home.push(home);
        adopted.extend((!has_record(db, home)?).then_some(*record));
    }
    Ok(adopted)
}

/// Whether a whole file in a wrong place is the payload of an instance that needs it.
fn is_wanted(db: &Db, record: &InstanceRecord, state: FileState, report: &OpenReport) -> io::Result<bool> {
    if has_record(db, record.instance.id)? {
        return Ok(true);
    }
    // Only looked at: what it counts is forgotten.
    let decided = fate(Found::Whole(Box::new(record.clone()), state), db, &mut report.clone())?;
    Ok(matches!(decided, Fate::Adopt(_)))
}

fn has_record(db: &Db, id: InstanceId) -> io::Result<bool> {
    let record = db.get(Cf::Instance, &id.0).map_err(io::Error::other)?;
    Ok(record.is_some())
}

/// The first content under a UID is the one that the others conflict with.
pub(super) fn in_order(adopted: &mut [InstanceRecord]) {
    adopted.sort_by_key(|record| (record.instance.arrival, record.instance.id.0));
}

/// What becomes of a file without a record.
pub(super) enum Fate {
    Remove,
    SetAside,
    /// Damaged, and perhaps acknowledged: put aside, and named.
    Quarantine,
    Adopt(Box<InstanceRecord>),
}

/// Decides on a file without a record, and counts it.
pub(super) fn fate(found: Found, db: &Db, report: &mut OpenReport) -> io::Result<Fate> {
    Ok(match found {
        Found::Empty => {
            report.pool_cleared += 1;
            Fate::Remove
        }
        Found::Partial => {
            report.partial += 1;
            Fate::Remove
        }
        // Another id's file says nothing of this one.
        Found::Damaged(None) | Found::Other(..) => Fate::Quarantine,
        // Eviction was cut between the record and the file.
        Found::Damaged(Some((_, state))) | Found::Whole(_, state) if state.is_over() => Fate::Remove,
        Found::Damaged(Some((record, _))) if was_evicted(db, &record)? => Fate::Remove,
        // Its letter is never flushed: one that only says `sealed` may have been acknowledged.
        Found::Damaged(Some(_)) => Fate::Quarantine,
        Found::Whole(_, FileState::Sealed) => {
            report.orphans += 1;
            Fate::SetAside
        }
        Found::Whole(record, FileState::Committed) if was_evicted(db, &record)? => Fate::Remove,
        // Its commit was durable once: the index has lost it.
        Found::Whole(record, _) => Fate::Adopt(record),
    })
}

/// The letter `delivered` is a hint and may be lost. The index remembers what it evicted, and forgets both together when
/// it loses a batch. A record in quarantine is no eviction, and an instance that has its record was not evicted.
fn was_evicted(db: &Db, record: &InstanceRecord) -> io::Result<bool> {
    let instance = &record.instance;
    let seen = db
        .get(Cf::Seen, &keys::seen(&instance.sop_instance))
        .map_err(io::Error::other)?;
    let seen = seen.and_then(|raw| SeenRecord::decode(&raw).ok()).unwrap_or_default();
    let known = |entry: &SeenEntry| entry.instance == instance.id && entry.digest == instance.digest;
    let aside = db
        .get(Cf::Quarantine, &aside(Cf::Instance, &instance.id.0))
        .map_err(io::Error::other)?;
    Ok(aside.is_none() && seen.entries.iter().any(known) && !has_record(db, instance.id)?)
}

/// Files and records, held against each other.
#[derive(Default)]
pub(super) struct Compared {
    /// A file, and no record.
    pub strays: Vec<InstanceId>,
    /// A record, and no file.
    pub missing: Vec<InstanceId>,
    /// All records.
    pub records: u64,
}

/// Holds a sorted list of files and the records against each other.
pub(super) fn compare(files: &[InstanceId], db: &Db) -> Result<Compared, DbError> {
    let (mut found, mut at) = (Compared::default(), 0);
    db.scan(Cf::Instance, &[], &[], |key, _| {
        let Some(id) = keys::instance_of(key) else {
            return true;
        };
        while files.get(at).is_some_and(|file| *file < id) {
            found.strays.push(files[at]);
            at += 1;
        }
        let from = at;
        // An id that is listed twice has its record all the same: no file of it is a stray.
        while files.get(at) == Some(&id) {
            at += 1;
        }
        if at == from {
            found.missing.push(id);
        }
        found.records += 1;
        true
    })?;
    found.strays.extend_from_slice(&files[at..]);
    Ok(found)
}
