//! The parent's side of a conversion: a bounded number of worker processes, each with a deadline, a scratch file without a name,
//! and a second process that looks at what the first one wrote. Called by the sender.
//!
//! Promises: nothing that a worker does reaches the data path but as an error; what leaves was decoded again by a process that
//! has not written it, and has the same pixels, the same other elements of the head and the same elements behind the pixels.
//! Scratch files vanish with the processes that hold them open, and the folder is emptied at a start.
use super::config::Config;
use super::forms::name_of;
use super::worker::{Found, Told};
use crate::base::fault::{Plant, planted};
use crate::base::names::Uid;
use crate::telemetry::metrics::Metrics;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Whether the disk has room for scratch files.
pub type Room = Arc<dyn Fn() -> bool + Send + Sync>;

/// Makes conversions. Cheap to clone.
#[derive(Clone)]
pub struct Transcoder(Arc<Inner>);

struct Inner {
    config: Config,
    program: PathBuf,
    scratch: PathBuf,
    places: Arc<Semaphore>,
    room: Room,
    metrics: Metrics,
}

/// Why an instance was not converted. No text carries patient data.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Trouble {
    /// These pixels cannot go in this syntax: never tried again.
    #[error("{0}")]
    Declined(String),
    /// A frame becomes larger than it is, and too large for the codec: never tried again.
    #[error("{0}")]
    Larger(String),
    /// The stream is damaged, or the codec gave up on it.
    #[error("{0}")]
    Failed(String),
    /// The worker process did not end in order.
    #[error("the codec's process {}", .0.words())]
    Worker(Ending),
    /// What was written does not hold what was read.
    #[error("the converted image is not identical to the stored one")]
    NotIdentical,
    #[error("there is no room on the disk for a conversion")]
    NoRoom,
}

/// How a worker process ended that did not end in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    NotStarted,
    Crashed,
    Deadline,
    Memory,
    Processor,
    Output,
    Garbage,
}

impl Ending {
    /// All, as the metric has them from the start.
    const ALL: [Self; 7] = [
        Self::NotStarted,
        Self::Crashed,
        Self::Deadline,
        Self::Memory,
        Self::Processor,
        Self::Output,
        Self::Garbage,
    ];

    /// The word in the metric.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Crashed => "crashed",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Processor => "processor",
            Self::Output => "output",
            Self::Garbage => "garbage",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotStarted => "could not be started",
            Self::Crashed => "crashed",
            Self::Deadline => "did not end within transcode.deadline and was killed",
            Self::Memory => "wanted more than transcode.memory",
            Self::Processor => "used more processor time than transcode.deadline allows",
            Self::Output => "wrote more than transcode.output",
            Self::Garbage => "answered nothing that can be read",
        }
    }

    fn of(status: ExitStatus, said: &[u8]) -> Self {
        // The allocator's last words; all others of a worker are not looked at.
        let hungry = said.windows(OUT_OF_MEMORY.len()).any(|words| words == OUT_OF_MEMORY);
        match status.signal() {
            Some(24) => Self::Processor,
            Some(25) => Self::Output,
            _ if hungry => Self::Memory,
            Some(_) => Self::Crashed,
            None if status.success() => Self::Garbage,
            None => Self::Crashed,
        }
    }
}

impl Trouble {
    /// The word in the metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Declined(_) => "declined",
            Self::Larger(_) => "larger",
            Self::Failed(_) => "failed",
            Self::Worker(_) => "worker",
            Self::NotIdentical => "not_identical",
            Self::NoRoom => "no_room",
        }
    }
}

/// A conversion under way: the data set goes in piece by piece.
pub struct Conversion {
    inner: Arc<Inner>,
    _place: OwnedSemaphorePermit,
    worker: Worker,
    input: Option<ChildStdin>,
    file: File,
    to: Uid,
}

/// A data set that was converted and found identical.
#[derive(Debug)]
pub struct Converted {
    /// The whole data set, read from its start.
    pub file: Arc<File>,
    pub length: u64,
    /// BLAKE3 of the pixels: as the first process read them, and as the second one found them in what was written.
    pub pixels: [String; 2],
    pub frames: u32,
}

struct Worker {
    child: Child,
    until: Instant,
}

impl Transcoder {
    /// Empties the scratch folder, or makes it. `program` is this binary.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(config: Config, program: PathBuf, scratch: &Path, room: Room, metrics: Metrics) -> io::Result<Self> {
        match std::fs::remove_dir_all(scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(scratch)?;
        // At 0 from the start: the first failure is an increase then, which is told.
        for ending in Ending::ALL {
            metrics
                .transcode_worker_failures_total
                .with_label_values(&[ending.word()]);
        }
        let places = Arc::new(Semaphore::new(config.workers));
        Ok(Self(Arc::new(Inner {
            config,
            program,
            scratch: scratch.to_owned(),
            places,
            room,
            metrics,
        })))
    }

    /// Waits for a free place, and starts a worker that reads `from` (uncompressed: explicit little endian) and writes `to`.
    ///
    /// # Errors
    /// No room, or no process.
    pub async fn begin(&self, from: &Uid, to: &Uid) -> Result<Conversion, Trouble> {
        let inner = self.0.clone();
        // Never closed: it lives as long as this pool.
        let place = inner.places.clone().acquire_owned().await;
        let place = place.map_err(|_| Trouble::Worker(Ending::NotStarted))?;
        if !(inner.room)() {
            return Err(Trouble::NoRoom);
        }
        let file = tempfile::tempfile_in(&inner.scratch).map_err(|_| Trouble::NoRoom)?;
        let output = file.try_clone().map_err(|_| Trouble::NoRoom)?;
        let mut worker = inner.start(&[from, to], Stdio::piped(), Stdio::from(output))?;
        Ok(Conversion {
            input: worker.child.stdin.take(),
            inner,
            _place: place,
            worker,
            file,
            to: to.clone(),
        })
    }
}

impl Inner {
    fn start(&self, syntaxes: &[&Uid], input: Stdio, output: Stdio) -> Result<Worker, Trouble> {
        let config = &self.config;
        let mut command = Command::new(&self.program);
        command
            .arg("transcode-worker")
            .args(["--memory", &config.memory.0.to_string()])
            .args(["--cpu", &config.deadline.0.as_secs().max(1).to_string()])
            .args(["--output", &config.output.0.to_string()])
            .args(syntaxes.iter().map(|uid| uid.as_str()))
            .env_clear()
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(plants) = std::env::var_os("WAYSTATION_PLANT").filter(|_| cfg!(feature = "planted")) {
            command.env("WAYSTATION_PLANT", plants);
        }
        let child = command.spawn().map_err(|error| {
            tracing::error!(%error, "the codec's process cannot be started");
            Trouble::Worker(Ending::NotStarted)
        })?;
        let until = Instant::now() + config.deadline.0;
        Ok(Worker { child, until })
    }

    /// Counts what did not end in order.
    fn note(&self, ending: Ending) -> Trouble {
        self.metrics
            .transcode_worker_failures_total
            .with_label_values(&[ending.word()])
            .inc();
        tracing::warn!(ending = ending.word(), "a conversion's process did not end in order");
        Trouble::Worker(ending)
    }
}

impl Worker {
    /// What it says at its end. Killed when it does not end in time.
    async fn end(mut self) -> Result<Found, EndError> {
        let mut said = Vec::new();
        let stderr = self.child.stderr.take();
        let ended = timeout_at(self.until, async {
            if let Some(stderr) = stderr {
                // What cannot be read says nothing.
                drop(stderr.take(SAID_MAX).read_to_end(&mut said).await);
            }
            self.child.wait().await
        })
        .await;
        let Ok(ended) = ended else {
            // It is reaped in the background; what it held open is gone with it.
            drop(self.child.start_kill());
            drop(tokio::time::timeout(KILL_MAX, self.child.wait()).await);
            return Err(EndError::Ending(Ending::Deadline));
        };
        let status = ended.map_err(|_| EndError::Ending(Ending::Crashed))?;
        if !status.success() {
            return Err(EndError::Ending(Ending::of(status, &said)));
        }
        let line = said.split(|byte| *byte == b'\n').rev().find(|line| !line.is_empty());
        match line.and_then(|line| serde_json::from_slice(line).ok()) {
            Some(Told::Done(found)) => Ok(found),
            Some(Told::Declined { why }) => Err(EndError::Trouble(Trouble::Declined(bounded(why)))),
            Some(Told::Larger { why }) => Err(EndError::Trouble(Trouble::Larger(bounded(why)))),
            Some(Told::Failed { why }) => Err(EndError::Trouble(Trouble::Failed(bounded(why)))),
            None => Err(EndError::Ending(Ending::Garbage)),
        }
    }
}

enum EndError {
    Trouble(Trouble),
    Ending(Ending),
}

impl Conversion {
    /// Hands the next bytes over. A worker that has stopped reading says why in `finish`.
    ///
    /// # Errors
    /// The deadline has passed; the worker is killed.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let Some(input) = &mut self.input else { return Ok(()) };
        match timeout_at(self.worker.until, input.write_all(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.input = None,
            Err(_) => return Err(self.inner.note(Ending::Deadline)),
        }
        Ok(())
    }

    /// Whether the worker reads no more: it has declined, failed or died, and `finish` says which.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.input.is_none()
    }

    /// The data set has ended: waits for the worker, and has another one look at what it wrote.
    ///
    /// # Errors
    /// See `Trouble`; the scratch file is gone.
    pub async fn finish(self) -> Result<Converted, Trouble> {
        let Self {
            inner,
            _place,
            worker,
            input,
            mut file,
            to,
        } = self;
        let was_deaf = input.is_none();
        drop(input);
        let judged = |error| match error {
            EndError::Trouble(trouble) => trouble,
            EndError::Ending(ending) => inner.note(ending),
        };
        let before = worker.end().await.map_err(judged)?;
        if was_deaf {
            return Err(inner.note(Ending::Garbage));
        }
        let lost = |_: io::Error| Trouble::NoRoom;
        file.seek(SeekFrom::Start(0)).map_err(lost)?;
        let input = Stdio::from(file.try_clone().map_err(lost)?);
        let second = inner.start(&[&to], input, Stdio::null())?;
        let after = match second.end().await {
            _ if planted(Plant::BelieveWorker) => before.clone(),
            Ok(after) => after,
            // What the first one wrote cannot even be read.
            Err(EndError::Trouble(_)) => return Err(inner.differ(&to)),
            Err(EndError::Ending(ending)) => return Err(inner.note(ending)),
        };
        if before != after {
            return Err(inner.differ(&to));
        }
        let length = file.metadata().map_err(lost)?.len();
        Ok(Converted {
            file: Arc::new(file),
            length,
            pixels: [before.pixels, after.pixels],
            frames: after.frames,
        })
    }
}

impl Inner {
    fn differ(&self, to: &Uid) -> Trouble {
        tracing::error!(syntax = %name_of(to), "a conversion's output was not identical to its input, and was thrown away");
        Trouble::NotIdentical
    }
}

fn bounded(why: String) -> String {
    why.chars()
        .filter(|letter| !letter.is_control())
        .take(WHY_MAX)
        .collect()
}

const OUT_OF_MEMORY: &[u8] = b"memory allocation of";
/// A worker's line, and the last words of one that panicked.
const SAID_MAX: u64 = 64 << 10;
const WHY_MAX: usize = 200;
const KILL_MAX: std::time::Duration = std::time::Duration::from_secs(2);
