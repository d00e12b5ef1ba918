//! The only door to RocksDB. Promises: every write is one synced batch in the WAL; a torn tail of the WAL opens, any
//! other damage is reported, never skipped. Knows keys and values as bytes only.
use super::folder::put_aside;
#[cfg(feature = "planted")]
use super::memory::{Memory, Walk};
use super::payload::{Mark, path_of};
use crate::base::fault::{Plant, planted};
use crate::base::flushed;
use crate::base::names::InstanceId;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::fs::File;
use std::io;
use std::path::Path;
#[cfg(feature = "planted")]
use std::sync::Arc;

/// The column families. `cached` lists delivered instances by arrival, so that eviction never scans the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Cf {
    Instance,
    Job,
    Due,
    Hold,
    Ref,
    Seen,
    Study,
    Cached,
    Ledger,
    Meta,
    Quarantine,
    /// Which facts of the ledger are about an instance (format 2).
    History,
    /// Which instances belong to a patient, an accession or a UID, by keyed hashes (format 2).
    Trace,
}

impl Cf {
    pub(super) const ALL: [Self; 13] = [
        Self::Instance,
        Self::Job,
        Self::Due,
        Self::Hold,
        Self::Ref,
        Self::Seen,
        Self::Study,
        Self::Cached,
        Self::Ledger,
        Self::Meta,
        Self::Quarantine,
        Self::History,
        Self::Trace,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Job => "job",
            Self::Due => "due",
            Self::Hold => "hold",
            Self::Ref => "ref",
            Self::Seen => "seen",
            Self::Study => "study",
            Self::Cached => "cached",
            Self::Ledger => "ledger",
            Self::Meta => "meta",
            Self::Quarantine => "quarantine",
            Self::History => "history",
            Self::Trace => "trace",
        }
    }
}

/// RocksDB's own words on what went wrong. They name files of the index, never values.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum DbError {
    /// What lies there is not what was written, or a file of it is gone: a salvage is the way out.
    #[error("{0}")]
    Damaged(String),
    /// The disk or the process could not, now: it may pass, and says nothing of what lies there.
    #[error("{0}")]
    Trouble(String),
    /// The process may not, or the machine is out of something: it says nothing of what lies there, however often it comes.
    #[error("{0}")]
    Withheld(String),
}

/// How the system words those errors; RocksDB hands its words on, inside other kinds of error too.
const WITHHELD: [&str; 8] = [
    "Permission denied",
    "Operation not permitted",
    "Read-only file system",
    "No space left",
    "Disk quota exceeded",
    "Too many open files",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
];

impl From<rocksdb::Error> for DbError {
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let text = error.into_string();
        if WITHHELD.iter().any(|words| text.contains(words)) {
            Self::Withheld(text)
        // RocksDB has one kind for all errors of the system; a file that is gone is the one that does not pass.
        } else if kind == rocksdb::ErrorKind::IOError && !text.contains("No such file or directory") {
            Self::Trouble(text)
        } else {
            Self::Damaged(text)
        }
    }
}

/// One change of a batch.
pub(super) type Change = (Cf, Vec<u8>, Option<Vec<u8>>);

/// The open index.
pub(super) struct Db {
    engine: Engine,
    /// Its directory, when it is one that is written to: confirms the flush of each batch.
    home: Option<File>,
}

/// What lies below. The simulator's one keeps to the same rules: a batch is all or nothing, a synced one survives.
enum Engine {
    Rocks(DB),
    #[cfg(feature = "planted")]
    Memory(Arc<Memory>),
}

/// Where the index is opened, again after an error too.
pub(super) enum Store {
    /// In the spool's directory.
    Disk,
    #[cfg(feature = "planted")]
    Memory(Arc<Memory>),
}

impl Store {
    /// Opens the index that must be there.
    pub(super) fn open(&self, path: &Path) -> Result<Db, DbError> {
        match self {
            Self::Disk => Db::open(path, false),
            #[cfg(feature = "planted")]
            Self::Memory(memory) => memory.open().map(|memory| Db::of(Engine::Memory(memory))),
        }
    }

    /// Has the state letter of a payload file durable. Not with the index's own batch: before it.
    pub(super) fn flush_letter(&self, root: &Path, mark: &Mark) -> io::Result<()> {
        match self {
            Self::Disk => mark.flush(root),
            #[cfg(feature = "planted")]
            Self::Memory(memory) => {
                if let Mark::Delivered(id, ..) = mark {
                    memory.flush_letter(*id);
                }
                Ok(())
            }
        }
    }

    /// Takes a damaged payload out of the way of the next start. One that is missing has left already.
    pub(super) fn put_aside(&self, root: &Path, id: InstanceId) -> io::Result<()> {
        match self {
            Self::Disk => match put_aside(root, &path_of(root, id), "quarantine", id) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            #[cfg(feature = "planted")]
            Self::Memory(memory) => {
                memory.put_aside(id);
                Ok(())
            }
        }
    }

    /// Whether there is a directory with files beside the index.
    pub(super) fn has_directory(&self) -> bool {
        matches!(self, Self::Disk)
    }
}

impl Db {
    fn of(engine: Engine) -> Self {
        Self { engine, home: None }
    }

    fn writable(db: DB, path: &Path) -> Result<Self, DbError> {
        let home = File::open(path).map_err(|error| DbError::Trouble(error.to_string()))?;
        if let Err(error) = flushed::is_possible(&home) {
            tracing::warn!(%error, "flushes of the index cannot be confirmed here: a file system that fails may lose the last of them");
        }
        Ok(Self {
            engine: Engine::Rocks(db),
            home: Some(home),
        })
    }

    /// Whether a directory holds an index at all, or may, for all that can be seen of it.
    pub(super) fn exists(path: &Path) -> bool {
        path.join("CURRENT").try_exists().unwrap_or(true)
    }

    /// Opens, and creates only when `create` says so: an index that vanished must never come back empty.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, DbError> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = Cf::ALL.map(|cf| ColumnFamilyDescriptor::new(cf.name(), family(cf, &cache)));
        let db = DB::open_cf_descriptors(&database(create), path, families)?;
        Self::writable(db, path)
    }

    /// Reads every record of every family, so that each block's checksum is looked at.
    pub(super) fn verify(&self) -> Result<(), DbError> {
        for cf in Cf::ALL {
            self.scan(cf, &[], &[], |_, _| true)?;
        }
        Ok(())
    }

    /// Opens an index of an older format. The families that have come since then are made when they lack; any other that lacks
    /// is damage, as always.
    pub(super) fn open_older(path: &Path, since: &[Cf]) -> Result<Self, DbError> {
        let mut options = database(false);
        complete_but(&options, path, since)?;
        options.create_missing_column_families(true);
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = Cf::ALL.map(|cf| ColumnFamilyDescriptor::new(cf.name(), family(cf, &cache)));
        let db = DB::open_cf_descriptors(&options, path, families)?;
        Self::writable(db, path)
    }

    /// For `fsck`: writes nothing. An index of an older format may lack the families that have come `since`.
    pub(super) fn open_read_only(path: &Path, since: &[Cf]) -> Result<Self, DbError> {
        let options = database(false);
        let names = complete_but(&options, path, since)?;
        let db = DB::open_cf_for_read_only(&options, path, names, false)?;
        Ok(Self::of(Engine::Rocks(db)))
    }

    /// For a salvage: as much of a damaged index as can be read, whichever records or families it has lost. Writes nothing.
    pub(super) fn open_remains(path: &Path) -> Result<Self, DbError> {
        let mut options = database(false);
        options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        options.set_track_and_verify_wals_in_manifest(false);
        options.set_paranoid_checks(false);
        let left = DB::list_cf(&options, path)?;
        let names = Cf::ALL.map(Cf::name);
        let names = names.iter().filter(|name| left.iter().any(|found| found == *name));
        let db = DB::open_cf_for_read_only(&options, path, names, false)?;
        Ok(Self::of(Engine::Rocks(db)))
    }

    pub(super) fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        match &self.engine {
            Engine::Rocks(db) => match db.cf_handle(cf.name()) {
                Some(handle) => Ok(db.get_cf(handle, key)?),
                // Only the remains of an index can lack a family: every other open fails without it.
                None => Ok(None),
            },
            #[cfg(feature = "planted")]
            Engine::Memory(memory) => memory.get(cf, key),
        }
    }

    /// Calls `each` for the keys from `from` on, below `end` (empty: to the end), until it answers false.
    pub(super) fn scan(
        &self,
        cf: Cf,
        from: &[u8],
        end: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DbError> {
        if self.lacks(cf) {
            return Ok(());
        }
        let mut range = self.range(cf, from, end);
        while let Some((key, value)) = range.item() {
            if !each(key, value) {
                return Ok(());
            }
            range.step();
        }
        range.status()
    }

    /// Of the remains of an index a family may be gone.
    fn lacks(&self, cf: Cf) -> bool {
        match &self.engine {
            Engine::Rocks(db) => db.cf_handle(cf.name()).is_none(),
            #[cfg(feature = "planted")]
            Engine::Memory(_) => false,
        }
    }

    /// A family from its end, or from before the key `end`, back to its beginning, until `each` answers false.
    pub(super) fn scan_back(
        &self,
        cf: Cf,
        end: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DbError> {
        if self.lacks(cf) {
            return Ok(());
        }
        match &self.engine {
            Engine::Rocks(db) => scan_rocks_back(db, cf, end, &mut each),
            #[cfg(feature = "planted")]
            Engine::Memory(memory) => memory.scan_back(cf, end, each),
        }
    }

    /// A cursor over a range, for callers that merge several.
    pub(super) fn range(&self, cf: Cf, from: &[u8], end: &[u8]) -> Range<'_> {
        Range(match &self.engine {
            Engine::Rocks(db) => Cursor::Rocks(rocks_cursor(db, cf, from, end)),
            #[cfg(feature = "planted")]
            Engine::Memory(memory) => Cursor::Memory(Walk::new(memory.clone(), cf, from, end)),
        })
    }

    /// The commit point: all changes or none, durable when this returns.
    pub(super) fn write(&self, changes: impl Iterator<Item = Change>) -> Result<(), DbError> {
        let sync = !planted(Plant::SkipIndexSync);
        match &self.engine {
            Engine::Rocks(db) => write_rocks(db, changes, sync)?,
            #[cfg(feature = "planted")]
            Engine::Memory(memory) => memory.write(changes, sync)?,
        }
        match &self.home {
            Some(home) => flushed::confirm(home)
                .map_err(|error| DbError::Trouble(format!("flushed, but the file system has failed: {error}"))),
            None => Ok(()),
        }
    }
}

/// The families that are there; all must be, but those in `since`.
fn complete_but(options: &Options, path: &Path, since: &[Cf]) -> Result<Vec<&'static str>, DbError> {
    let left = DB::list_cf(options, path)?;
    let mut there = Vec::new();
    for cf in Cf::ALL {
        if left.iter().any(|found| found == cf.name()) {
            there.push(cf.name());
        } else if !since.contains(&cf) {
            return Err(DbError::Damaged(format!("its family `{}` is gone", cf.name())));
        }
    }
    Ok(there)
}

fn scan_rocks_back(db: &DB, cf: Cf, end: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), DbError> {
    let mut options = ReadOptions::default();
    if !end.is_empty() {
        options.set_iterate_upper_bound(end);
    }
    let mut raw = db.raw_iterator_cf_opt(handle(db, cf), options);
    raw.seek_to_last();
    while let Some((key, value)) = raw.item() {
        if !each(key, value) {
            return Ok(());
        }
        raw.prev();
    }
    Ok(raw.status()?)
}

fn rocks_cursor<'a>(db: &'a DB, cf: Cf, from: &[u8], end: &[u8]) -> rocksdb::DBRawIterator<'a> {
    let mut options = ReadOptions::default();
    if !end.is_empty() {
        options.set_iterate_upper_bound(end);
    }
    let mut raw = db.raw_iterator_cf_opt(handle(db, cf), options);
    raw.seek(from);
    raw
}

fn write_rocks(db: &DB, changes: impl Iterator<Item = Change>, sync: bool) -> Result<(), DbError> {
    let mut batch = WriteBatch::default();
    for (cf, key, value) in changes {
        match value {
            Some(value) => batch.put_cf(handle(db, cf), key, value),
            None => batch.delete_cf(handle(db, cf), key),
        }
    }
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    Ok(db.write_opt(batch, &options)?)
}

fn handle(db: &DB, cf: Cf) -> &ColumnFamily {
    // Every family of `Cf::ALL` was opened by name, or the open failed.
    db.cf_handle(cf.name()).expect("every column family is open")
}

/// A position in a range. Ends at the range's end or at an error; ask `status` after the end.
pub(super) struct Range<'a>(Cursor<'a>);

enum Cursor<'a> {
    Rocks(rocksdb::DBRawIterator<'a>),
    #[cfg(feature = "planted")]
    Memory(Walk),
}

impl Range<'_> {
    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        match &self.0 {
            Cursor::Rocks(raw) => raw.item(),
            #[cfg(feature = "planted")]
            Cursor::Memory(walk) => walk.item(),
        }
    }

    pub(super) fn step(&mut self) {
        match &mut self.0 {
            Cursor::Rocks(raw) => raw.next(),
            #[cfg(feature = "planted")]
            Cursor::Memory(walk) => walk.step(),
        }
    }

    pub(super) fn status(&self) -> Result<(), DbError> {
        match &self.0 {
            Cursor::Rocks(raw) => Ok(raw.status()?),
            #[cfg(feature = "planted")]
            Cursor::Memory(walk) => walk.status(),
        }
    }
}

/// All memtables together.
const MEMTABLES: usize = 64 << 20;
const MEMTABLE: usize = 16 << 20;
const BLOCK_CACHE: usize = 48 << 20;
/// The WAL is replayed at start: this bounds how long that takes.
const WAL_MAX: u64 = 128 << 20;
/// The default of 4 MiB would take what a full disk has left from the tables of a start.
const MANIFEST_AHEAD: usize = 64 << 10;

fn database(create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    // A family that vanished from a cut manifest must not come back empty either: jobs would wait for ever, unseen.
    options.create_missing_column_families(create);
    // The default mode loses acknowledged records to one flipped bit without a word (measured, failures.md 2.3).
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_db_write_buffer_size(MEMTABLES);
    options.set_max_total_wal_size(WAL_MAX);
    options.set_manifest_preallocation_size(MANIFEST_AHEAD);
    options.set_max_open_files(512);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options
}

fn family(cf: Cf, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(MEMTABLE);
    options.set_compression_type(DBCompressionType::Lz4);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    if matches!(cf, Cf::Due | Cf::Job | Cf::Ref | Cf::Hold | Cf::Cached) {
        // A queue deletes what it adds: compact where the deletions lie, or scans wade through them.
        options.add_compact_on_deletion_collector_factory(4_096, 2_048, 0.5);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_not_durable_before_its_file_system_confirms_the_flush() {
        let folder = tempfile::tempdir().unwrap();
        let mut db = Db::open(folder.path(), true).unwrap();
        let change = |key: u8| [(Cf::Meta, vec![key], Some(vec![1]))].into_iter();
        db.write(change(1)).unwrap();
        // A descriptor by which nothing can be changed.
        let mute = rustix::fs::open(folder.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        db.home = Some(File::from(mute));
        let refused = db.write(change(2)).unwrap_err();
        assert!(matches!(refused, DbError::Trouble(_)), "{refused}");
        assert!(refused.to_string().contains("the file system has failed"), "{refused}");
    }
}
