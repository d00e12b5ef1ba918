//! Payload files: one DICOM Part 10 file for each instance, written straight to its final name.
//!
//! The spool writes a private record of `PRIVATE_LEN` bytes into the file meta information: what the index knows of
//! the instance, and a state letter. It is what an index is rebuilt from. Layout: `WAYSPOOL`, state, length (2),
//! identity record with its own crc32, zeros. The state letter is a hint (never flushed): `S` sealed, `C` the commit is
//! durable, `D` delivered. An `x` in the last byte beside a `D`: a person has discarded a delivery of it. Versions that do not know
//! the `x` read a `D`. Memory for an arrival: two strides (`direct.rs`) and its header. A name from the wire is never a path.
use super::core::Core;
use super::model::{ArriveError, Arriving, Instance, Sealed};
use super::pool::has_name;
use super::record::InstanceRecord;
use super::writing::{Gathered, Stride, Writer, flush};
use crate::base::clock::Wall;
use crate::base::names::{InstanceId, Uid};
use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Bytes that a header reserves for the spool's private record.
pub const PRIVATE_LEN: usize = 512;
pub(super) const MAGIC: &[u8; 8] = b"WAYSPOOL";
/// Magic, state and length stand before the identity record.
const FIXED: usize = 11;
/// A header is at most this long (`dicom::part10::META_MAX`).
pub(super) const HEADER_MAX: usize = 64 << 10;
/// A disk that does not take a chunk or a flush in this time counts as failed.
pub(super) const DISK_DEADLINE: Duration = Duration::from_secs(60);

/// What the state letter of a payload file says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum FileState {
    Sealed,
    Committed,
    Delivered,
    /// No job is open, and a person has discarded a delivery that nobody else has made.
    Discarded,
}

impl FileState {
    fn letter(self) -> u8 {
        match self {
            Self::Sealed => b'S',
            Self::Committed => b'C',
            Self::Delivered | Self::Discarded => b'D',
        }
    }

    /// Whether no job is open any more: the payload is cache.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Delivered | Self::Discarded)
    }
}

/// Opens a payload file for reading. What lies in its place and is no file must not hold up whoever opens it: a pipe waits for its
/// other end.
///
/// # Errors
/// It cannot be opened; `NXIO`: it is no file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    checked(File::options().read(true), path)
}

fn checked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.custom_flags(at_once).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Errno::NXIO.into()),
    }
}

/// The path of an instance's file. Its shard is the id's last byte, which is random.
pub(super) fn path_of(root: &Path, id: InstanceId) -> PathBuf {
    let mut path = root.join("payload");
    path.push(format!("{:02x}", id.0[15]));
    path.push(format!("{id}.dcm"));
    path
}

/// A file that is removed again unless it is kept.
pub(super) struct Guarded {
    pub file: Arc<File>,
    path: PathBuf,
    kept: bool,
}

impl Guarded {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        Self {
            file: Arc::new(file),
            path,
            kept: false,
        }
    }

    /// From here on the index decides. Also when the commit fails: whether its batch is durable is not known then, so
    /// the file stays, and the next start tells.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // A file that stays behind is removed at the next start: it was never committed.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || std::fs::remove_file(path))),
            Err(_) => drop(std::fs::remove_file(path)),
        }
    }
}

/// A state letter to write, without a flush.
pub(super) enum Mark {
    Committed(Arc<File>, u64),
    /// With true: a person has discarded a delivery.
    Delivered(InstanceId, u64, bool),
}

/// Stands `DISCARDED_BEHIND` bytes behind the letter of what was discarded.
const DISCARDED: u8 = b'x';
/// To the last byte of the private record: no identity is so long.
pub(super) const DISCARDED_BEHIND: u64 = (PRIVATE_LEN - 1 - MAGIC.len()) as u64;

impl Mark {
    pub(super) fn delivered(record: &InstanceRecord) -> Self {
        let at = state_offset(record.private_offset);
        Self::Delivered(record.instance.id, at, record.is_discarded())
    }

    pub(super) fn committed(sealed: &Sealed) -> Self {
        Self::Committed(sealed.file.file.clone(), state_offset(sealed.private_offset))
    }

    /// Writes the letter and flushes it. A file that is gone needs none.
    pub(super) fn flush(&self, root: &Path) -> io::Result<()> {
        match self {
            Self::Committed(file, at) => {
                file.write_all_at(&[FileState::Committed.letter()], *at)?;
                file.sync_data()
            }
            Self::Delivered(id, at, discarded) => {
                let file = match checked(File::options().write(true), &path_of(root, *id)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    opened => opened?,
                };
                delivered(&file, *at, *discarded)?;
                file.sync_data()
            }
        }
    }

    /// Writes the letter. A hint may fail: what it costs is a second delivery after a rebuild.
    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        match self {
            Self::Committed(file, at) => file.write_all_at(&[FileState::Committed.letter()], *at),
            Self::Delivered(id, at, discarded) => {
                let file = checked(File::options().write(true), &path_of(root, *id))?;
                delivered(&file, *at, *discarded)
            }
        }
    }
}

/// The `x` first: a letter alone would call delivered what was discarded.
fn delivered(file: &File, at: u64, discarded: bool) -> io::Result<()> {
    if discarded {
        file.write_all_at(&[DISCARDED], at + DISCARDED_BEHIND)?;
    }
    file.write_all_at(&[FileState::Delivered.letter()], at)
}

pub(super) fn state_offset(private_offset: u32) -> u64 {
    u64::from(private_offset) + MAGIC.len() as u64
}

/// The private record of an instance.
pub(super) fn private_record(record: &InstanceRecord) -> [u8; PRIVATE_LEN] {
    let identity = record.identity();
    assert!(
        FIXED + identity.len() <= PRIVATE_LEN,
        "names are bounded, so the record fits"
    );
    let mut out = [0; PRIVATE_LEN];
    out[..8].copy_from_slice(MAGIC);
    out[8] = FileState::Sealed.letter();
    out[9..11].copy_from_slice(&(identity.len() as u16).to_be_bytes());
    out[FIXED..FIXED + identity.len()].copy_from_slice(&identity);
    out
}

/// Finds the private record in the start of a file. `None`: it was never sealed.
pub(super) fn find_private(start: &[u8]) -> Option<(InstanceRecord, FileState)> {
    let mut from = 0;
    while let Some(found) = start[from..].windows(MAGIC.len()).position(|w| w == MAGIC) {
        let at = from + found;
        if let Some(parsed) = parse_private(&start[at..])
            && parsed.0.private_offset as usize == at
        {
            return Some(parsed);
        }
        from = at + 1;
    }
    None
}

fn parse_private(raw: &[u8]) -> Option<(InstanceRecord, FileState)> {
    let letter = *raw.get(8)?;
    let states = [FileState::Sealed, FileState::Committed, FileState::Delivered];
    let state = match states.into_iter().find(|state| state.letter() == letter)? {
        FileState::Delivered if raw.get(PRIVATE_LEN - 1) == Some(&DISCARDED) => FileState::Discarded,
        state => state,
    };
    let length = usize::from(u16::from_be_bytes([*raw.get(9)?, *raw.get(10)?]));
    let identity = raw.get(FIXED..FIXED.checked_add(length)?)?;
    Some((InstanceRecord::decode_identity(identity).ok()?, state))
}

/// An instance on its way in. Dropped before `seal`, its file is removed.
pub struct Incoming {
    core: Arc<Core>,
    guarded: Guarded,
    arriving: Arriving,
    id: InstanceId,
    arrival: Wall,
    study: Option<Uid>,
    rule_epoch: u64,
    /// What fills while the writer is at work.
    gathered: Gathered,
    work: Work,
    /// A flush beside the writing. Its error is the payload's.
    flushing: Option<JoinHandle<io::Result<()>>>,
}

/// The disk's half of an arrival: at rest, or at work on a blocking thread.
enum Work {
    Idle(Box<Writer>),
    Busy(oneshot::Receiver<io::Result<Box<Writer>>>),
    Broken,
}

impl Work {
    /// Writes a stride on a blocking thread.
    fn begin(mut writer: Box<Writer>, stride: Stride) -> Self {
        let (done, written) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let result = writer.write(&stride).map(|()| writer);
            // An arrival that is gone does not want it back.
            drop(done.send(result));
        });
        Self::Busy(written)
    }

    /// The writer, when it has written. Blocking.
    fn rested(self) -> io::Result<Box<Writer>> {
        match self {
            Self::Idle(writer) => Ok(writer),
            Self::Busy(written) => written.blocking_recv().unwrap_or_else(|_| Err(broken())),
            Self::Broken => Err(broken()),
        }
    }
}

/// The thread that wrote has ended by a panic, or an arrival was used after its end.
fn broken() -> io::Error {
    io::Error::other("the payload's writer is gone")
}

impl Incoming {
    pub(super) fn new(core: Arc<Core>, guarded: Guarded, id: InstanceId, arriving: Arriving) -> Self {
        assert!(
            arriving.private_offset + PRIVATE_LEN <= arriving.header.len() && arriving.header.len() <= HEADER_MAX,
            "the header has room for the private record"
        );
        let gathered = Gathered::new(arriving.header.len(), core.buffers.clone());
        let writer = Writer::new(guarded.file.clone());
        Self {
            arrival: core.clock.now(),
            core,
            guarded,
            arriving,
            id,
            study: None,
            rule_epoch: 0,
            gathered,
            work: Work::Idle(Box::new(writer)),
            flushing: None,
        }
    }

    /// The id under which it will be stored.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// When it began to arrive.
    #[must_use]
    pub fn arrival(&self) -> Wall {
        self.arrival
    }

    /// What the head told: written into the file at `seal`, so that a rebuild knows it too.
    pub fn decided(&mut self, study: Option<Uid>, rule_epoch: u64) {
        self.study = study;
        self.rule_epoch = rule_epoch;
    }

    /// Where the next bytes of the data set go, never empty. At most two strides are in memory: one filling, one on its way to
    /// disk. Not cancel-safe: an `Incoming` whose `room` was dropped must be dropped too.
    ///
    /// # Errors
    /// The disk is full, failed or too slow. The instance cannot go on.
    pub async fn room(&mut self) -> Result<&mut [u8], ArriveError> {
        if self.gathered.is_full() {
            self.core.may_grow()?;
            let mut writer = self.rested().await?;
            self.flush_beside(&mut writer).await?;
            self.work = Work::begin(writer, self.gathered.stride());
        }
        Ok(self.gathered.room())
    }

    /// So many bytes were put there; answers them.
    pub fn took(&mut self, count: usize) -> &[u8] {
        self.gathered.took(count)
    }

    /// Takes the next bytes of the data set from elsewhere.
    ///
    /// # Errors
    /// As `room`.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ArriveError> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.room().await?;
            rest = &rest[self.gathered.take(rest)..];
        }
        Ok(())
    }

    /// A long payload is flushed step by step while it arrives, one flush at a time.
    async fn flush_beside(&mut self, writer: &mut Writer) -> Result<(), ArriveError> {
        if self.flushing.as_ref().is_some_and(|running| !running.is_finished()) || !writer.wants_flush() {
            return Ok(());
        }
        self.flushed().await?;
        let file = writer.file.clone();
        self.flushing = Some(tokio::task::spawn_blocking(move || flush(&file)));
        Ok(())
    }

    /// Waits for the flush beside the writing. After a failed one the kernel calls the pages clean: the seal's own would lie.
    async fn flushed(&mut self) -> Result<(), ArriveError> {
        match self.flushing.take() {
            Some(running) => self.core.on_disk(running, "payload_sync").await,
            None => Ok(()),
        }
    }

    /// Writes the rest and the header with the private record, and flushes the file. A flush that failed is never
    /// tried again: the file is abandoned.
    ///
    /// # Errors
    /// As `write`.
    pub async fn seal(self) -> Result<Sealed, ArriveError> {
        self.seal_with(|| (), |sealed, ()| sealed).await
    }

    /// The same with `work` done first and `then` with what was sealed, on the thread that flushes: another thread for either would
    /// cost two wake-ups, which for a small instance is more than the work. Neither may panic, and only `then` may wait for the disk, as
    /// a commit does. When the call is dropped or runs into the disk's deadline, `then` may still be called.
    ///
    /// # Errors
    /// As `write`; what `work` answered is lost then.
    pub async fn seal_with<T, R: Send + 'static>(
        mut self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Sealed, T) -> R + Send + 'static,
    ) -> Result<R, ArriveError> {
        // It would not be committed, and what the ballast has freed is for the index.
        self.core.may_grow()?;
        self.flushed().await?;
        let writing = std::mem::replace(&mut self.work, Work::Broken);
        let mut record = self.record();
        let mut header = std::mem::take(&mut self.arriving.header);
        let Self {
            core,
            guarded,
            gathered,
            ..
        } = self;
        let known = core.clone();
        let sealing = tokio::task::spawn_blocking(move || {
            let done = work();
            // Mostly written by now: what came after it has come, and was decided on.
            let sum = writing.rested()?.seal(gathered, |length, digest| {
                record.instance.length = length;
                record.instance.digest = digest;
                let at = record.private_offset as usize;
                header[at..at + PRIVATE_LEN].copy_from_slice(&private_record(&record));
                header
            })?;
            if !has_name(&guarded.file)? {
                return Err(io::Error::other("the payload's file was removed while it arrived"));
            }
            known.sums.note(record.instance.id, sum);
            let sealed = Sealed {
                file: guarded,
                instance: record.instance,
                data_set_offset: record.data_set_offset,
                private_offset: record.private_offset,
            };
            Ok(then(sealed, done))
        });
        core.on_disk(sealing, "payload_sync").await
    }

    fn record(&self) -> InstanceRecord {
        let a = &self.arriving;
        let header_len = a.header.len();
        InstanceRecord {
            instance: Instance {
                id: self.id,
                source: a.source.clone(),
                calling_ae: a.calling_ae.clone(),
                called_ae: a.called_ae.clone(),
                sop_class: a.sop_class.clone(),
                sop_instance: a.sop_instance.clone(),
                study: self.study.clone(),
                transfer_syntax: a.transfer_syntax.clone(),
                arrival: self.arrival,
                length: 0,
                digest: [0; 32],
                rule_epoch: self.rule_epoch,
            },
            // Both are below HEADER_MAX, as `new` asserts.
            data_set_offset: header_len as u32,
            private_offset: a.private_offset as u32,
            delivered: false,
            done: Vec::new(),
        }
    }

    /// Waits until the stride on its way is written.
    async fn rested(&mut self) -> Result<Box<Writer>, ArriveError> {
        match std::mem::replace(&mut self.work, Work::Broken) {
            Work::Idle(writer) => Ok(writer),
            Work::Busy(handle) => self.core.on_disk(handle, "payload_write").await,
            Work::Broken => Err(ArriveError::Io),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::record::tests::instance;

    #[test]
    fn the_private_record_is_found_again_and_the_longest_names_fit() {
        let long = Uid::parse(&"1".repeat(64)).unwrap();
        let mut record = InstanceRecord {
            instance: instance(),
            data_set_offset: 900,
            private_offset: 300,
            delivered: false,
            done: Vec::new(),
        };
        record.instance.sop_class = long.clone();
        record.instance.sop_instance = long.clone();
        record.instance.study = Some(long.clone());
        record.instance.transfer_syntax = long;
        record.instance.source = crate::base::names::SourceId::parse(&"s".repeat(32)).unwrap();
        let mut file = vec![0; 900];
        file[100..108].copy_from_slice(MAGIC);
        file[300..300 + PRIVATE_LEN].copy_from_slice(&private_record(&record));
        assert_eq!(find_private(&file), Some((record.clone(), FileState::Sealed)));
        // Between the longest names and the last byte there is room.
        assert!(FIXED + record.identity().len() < PRIVATE_LEN);
        (file[308], file[300 + PRIVATE_LEN - 1]) = (b'D', DISCARDED);
        assert_eq!(find_private(&file), Some((record, FileState::Discarded)));
        file[320] ^= 1;
        assert_eq!(find_private(&file), None);
    }
}
