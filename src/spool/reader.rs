//! Reading a payload back: bounded strides on blocking threads, summed up on the way, verified before the last goes out.
use super::core::Core;
use super::db::Cf;
use super::direct::Way;
use super::model::{Instance, ReadError};
use super::payload::{self, DISK_DEADLINE, path_of};
use super::record::InstanceRecord;
use super::sums::Check;
use crate::base::fault::{Plant, planted};
use crate::base::limits::{CHUNK, STRIDE};
use crate::base::names::InstanceId;
use bytes::Bytes;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// An open payload. Several may read one file at once.
pub struct Payload {
    core: Arc<Core>,
    file: Arc<File>,
    way: Way,
    instance: Instance,
    data_set_offset: u64,
    position: u64,
    check: Check,
    /// The first stride, read when the file was opened: most images and all reports are no longer.
    first: Option<Bytes>,
}

/// Opens the file, checks its length and reads its first stride. Blocking.
pub(super) fn open(core: &Arc<Core>, id: InstanceId) -> Result<Payload, ReadError> {
    let db = core.db().map_err(|_| ReadError::GateLatched)?;
    let raw = db.get(Cf::Instance, &id.0).map_err(|_| {
        core.gate.latch("index_read");
        ReadError::Io
    })?;
    // A file that hangs must not keep the index from being reopened, or closed.
    drop(db);
    let record = InstanceRecord::decode(&raw.ok_or(ReadError::Gone)?).map_err(|_| ReadError::Corrupt)?;
    let file = payload::open(&path_of(&core.config.path, id)).map_err(|error| fault(core, &error))?;
    let size = file.metadata().map_err(|error| fault(core, &error))?.len();
    let data_set_offset = u64::from(record.data_set_offset);
    if size != data_set_offset + record.instance.length {
        core.metrics
            .gate_errors_total
            .with_label_values(&["payload_length"])
            .inc();
        return Err(ReadError::Corrupt);
    }
    if planted(Plant::UnlinkEarly) {
        drop(std::fs::remove_file(path_of(&core.config.path, id)));
    }
    let mut way = Way::of(&core.buffers, record.instance.length);
    let first = way.first(&file, data_set_offset, at_once(record.instance.length));
    let first = first.map_err(|error| fault(core, &error))?;
    let mut check = core.sums.check(id);
    check.update(&first);
    Ok(Payload {
        core: core.clone(),
        file: Arc::new(file),
        way,
        instance: record.instance,
        data_set_offset,
        position: 0,
        check,
        first: Some(first),
    })
}

/// How much of so many bytes is read at once.
fn at_once(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(STRIDE)
}

impl Payload {
    /// Where the data set starts in the file.
    #[must_use]
    pub fn data_set_offset(&self) -> u64 {
        self.data_set_offset
    }

    /// Bytes of the data set.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.instance.length
    }

    /// BLAKE3 of the data set.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.instance.digest
    }

    /// Up to `length` bytes (at most one chunk) from `offset` of the data set; shorter only at its end.
    /// Does not count towards `verify`.
    ///
    /// # Errors
    /// See `ReadError`.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, ReadError> {
        let left = self.instance.length.saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(length).min(CHUNK);
        if count == 0 {
            return Ok(Bytes::new());
        }
        let (file, way, at) = (self.file.clone(), self.way.clone(), self.data_set_offset + offset);
        self.on_disk(move || way.read(&file, at, count)).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let read = self.core.stalled.within(self.instance.id, DISK_DEADLINE, work).await?;
        read.map_err(|error| fault(&self.core, &error))
    }

    /// The next stride of the data set, summed up; `None` at its end. Cancel-safe: a dropped call reads the same again.
    ///
    /// # Errors
    /// See `ReadError`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            self.position = first.len() as u64;
            return Ok(Some(first));
        }
        let left = self.instance.length - self.position;
        if left == 0 {
            return Ok(None);
        }
        let count = at_once(left);
        // Summed up where it is read; a copy, so that a call that is dropped has changed nothing.
        let (file, way, at, mut check) = (
            self.file.clone(),
            self.way.clone(),
            self.data_set_offset + self.position,
            self.check.clone(),
        );
        let (chunk, check) = self
            .on_disk(move || {
                let chunk = way.read(&file, at, count)?;
                check.update(&chunk);
                Ok((chunk, check))
            })
            .await?;
        self.check = check;
        self.position += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// `next` begins anew, and `verify` counts from here.
    pub fn rewind(&mut self) {
        // Summed up already where it was read, and given to nobody yet.
        if self.position == 0 && self.first.is_some() {
            return;
        }
        self.position = 0;
        self.check.restart();
    }

    /// Whether everything was read by `next`.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.position == self.instance.length
    }

    /// To be called when `at_end`, before the last byte goes to anybody: is it what arrived?
    ///
    /// # Errors
    /// `Corrupt`: it is not, or not all of it was read. The caller holds the job with `HoldKind::Corrupt`.
    pub fn verify(&self) -> Result<(), ReadError> {
        if self.at_end() && self.check.holds(&self.instance.digest) {
            return Ok(());
        }
        self.core
            .metrics
            .gate_errors_total
            .with_label_values(&["payload_digest"])
            .inc();
        Err(ReadError::Corrupt)
    }
}

/// A read error concerns this payload alone, and does not latch the gate; unless the process or the machine is out of something,
/// which passes and says nothing of any payload.
fn fault(core: &Core, error: &io::Error) -> ReadError {
    core.metrics
        .gate_errors_total
        .with_label_values(&["payload_read"])
        .inc();
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        io::ErrorKind::UnexpectedEof => ReadError::Corrupt,
        _ => match Errno::from_io_error(error) {
            None | Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN) => ReadError::Io,
            Some(errno) => ReadError::Unreadable(errno.raw_os_error()),
        },
    }
}
