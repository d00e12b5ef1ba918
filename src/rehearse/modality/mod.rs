//! A modality: sends Part 10 files to an archive, as `waystation send`, the demo and tests do.
//!
//! Files are streamed in constant memory, over as many parallel associations as asked for. Every file has an outcome; a
//! failed association costs the file under way, and the rest goes over a new one. Nothing is retried.
mod args;
mod plan;
mod session;
#[cfg(test)]
mod tests;

pub use args::{ArgumentError, Done, SendArgs, run};
pub use plan::{Gathered, Item, gather};

use crate::base::names::{AeTitle, Uid};
use crate::dicom::association::{Timeouts, UlError};
use crate::dicom::part10::Part10Error;
use crate::dicom::status::{Meaning, meaning};
use crate::sender::tls::{self, Connector, HandshakeError, TlsError};
use session::Session;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What to send, where, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub host: String,
    pub port: u16,
    pub called: AeTitle,
    pub calling: AeTitle,
    pub tls: Option<tls::Config>,
    /// Parallel associations; at least one is used.
    pub associations: usize,
    /// Instances in one association; 0 means all that its worker gets.
    pub batch: usize,
    /// How often everything is sent.
    pub repeat: usize,
    /// Files, or folders of which every DICOM file is taken.
    pub files: Vec<PathBuf>,
    pub timeouts: Timeouts,
    /// For TCP and for the TLS handshake, each.
    pub connect: Duration,
}

impl Options {
    /// Usual values: one association, no TLS, every file once.
    #[must_use]
    pub fn new(host: &str, port: u16, called: AeTitle, calling: AeTitle) -> Self {
        Self {
            host: host.to_owned(),
            port,
            called,
            calling,
            tls: None,
            associations: 1,
            batch: 0,
            repeat: 1,
            files: Vec::new(),
            timeouts: Timeouts {
                association: Duration::from_secs(30),
                idle: Duration::from_secs(60),
                transfer: Duration::from_secs(30),
                write: Duration::from_secs(30),
                response: Duration::from_secs(60),
                release: Duration::from_secs(10),
            },
            connect: Duration::from_secs(10),
        }
    }
}

/// Why a file was not stored. Carries no data-set value.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot be read: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Part10(#[from] Part10Error),
    /// An export has put aside what was held.
    #[error(
        "not sent: what lies below was held (the reason stands beside each image); to send it all the same, name this folder itself"
    )]
    KeptBack,
    #[error("no connection: {0}")]
    Connect(String),
    /// An earlier failure of the association that this file was to go over.
    #[error("{0}")]
    Unreached(String),
    #[error("no TLS: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("no TLS: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Association(#[from] UlError),
    /// It speaks TLS where plain DICOM was tried.
    #[error("{0}")]
    WrongPort(String),
    #[error("the peer does not take this class in this transfer syntax")]
    NoContext,
    #[error("refused with status {0:04X}")]
    Status(u16),
    #[error("the answer was not to our request")]
    WrongAnswer,
}

/// What became of one file.
#[derive(Debug)]
pub struct Sent {
    pub file: PathBuf,
    /// `None` when the file could not be read as Part 10.
    pub sop_instance: Option<Uid>,
    /// Bytes of its data set.
    pub bytes: u64,
    /// The status word that says stored (0000, or a warning), or why it was not.
    pub result: Result<u16, Failure>,
    /// When the answer came.
    pub at: SystemTime,
    /// From the first byte to the answer.
    pub took: Duration,
}

/// What became of all files.
#[derive(Debug, Default)]
pub struct Summary {
    pub sent: u64,
    /// Of `sent`: those that were stored with a warning.
    pub warned: u64,
    /// Every file that was not stored.
    pub failed: Vec<(PathBuf, Failure)>,
    /// Files found in folders that are not DICOM.
    pub skipped: u64,
    pub bytes: u64,
    pub elapsed: Duration,
}

impl Summary {
    /// Whether everything was stored, and anything at all.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.sent > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 {
            megabytes(self.bytes) / seconds
        } else {
            0.0
        };
        write!(
            f,
            "sent {} ({} with a warning), failed {}, skipped {}; {:.1} MB in {seconds:.1} s ({rate:.1} MB/s)",
            self.sent,
            self.warned,
            self.failed.len(),
            self.skipped,
            megabytes(self.bytes)
        )
    }
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Sends every file; `on_result` sees each outcome as it comes, from several tasks.
/// Dropping the future ends all associations without a last fragment.
pub async fn send(options: &Options, on_result: impl Fn(&Sent) + Send + Sync + 'static) -> Summary {
    let gathered = {
        let files = options.files.clone();
        tokio::task::spawn_blocking(move || gather(&files))
            .await
            .unwrap_or_default()
    };
    send_items(options, gathered, on_result).await
}

/// Sends what `gather` found.
pub async fn send_items(
    options: &Options,
    gathered: Gathered,
    on_result: impl Fn(&Sent) + Send + Sync + 'static,
) -> Summary {
    let began = Instant::now();
    let tally = Arc::new(Tally {
        summary: Mutex::new(Summary {
            skipped: gathered.skipped,
            ..Summary::default()
        }),
        on_result,
    });
    for (file, failure) in gathered.failed {
        tally.note(Sent::unread(file, failure));
    }
    match options.tls.as_ref().map(tls::connector).transpose() {
        Err(error) => {
            let reason = Failure::Tls(error);
            fail_all(gathered.items, &reason, &*tally);
        }
        Ok(connector) => work(options, connector, gathered.items, &tally).await,
    }
    // Every worker was joined: no other handle on the tally is left but when one panicked.
    let mut summary = std::mem::take(&mut *lock(&tally.summary));
    summary.elapsed = began.elapsed();
    summary
}

/// C-ECHO: the time from the request to the answer.
///
/// # Errors
/// Why there was no good answer.
pub async fn echo(options: &Options) -> Result<Duration, Failure> {
    let connector = options.tls.as_ref().map(tls::connector).transpose()?;
    let mut session = Session::open(options, connector.as_ref(), &[]).await?;
    let began = Instant::now();
    session.echo().await?;
    let took = began.elapsed();
    session.release().await;
    Ok(took)
}

async fn work<F: Fn(&Sent) + Send + Sync + 'static>(
    options: &Options,
    connector: Option<Connector>,
    items: Vec<Item>,
    tally: &Arc<Tally<F>>,
) {
    let workers = options.associations.max(1);
    let mut batches = VecDeque::new();
    for _ in 0..options.repeat.max(1) {
        batches.extend(plan::batches(&items, workers, options.batch));
    }
    let batches = Arc::new(Mutex::new(batches));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let (options, connector) = (options.clone(), connector.clone());
        let (batches, tally) = (batches.clone(), tally.clone());
        tasks.spawn(async move {
            loop {
                let Some(batch) = lock(&batches).pop_front() else {
                    return;
                };
                send_batch(&options, connector.as_ref(), batch, &*tally).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// One batch, over one association, or as many as fail under it.
async fn send_batch<F: Fn(&Sent)>(
    options: &Options,
    connector: Option<&Connector>,
    batch: Vec<Item>,
    tally: &Tally<F>,
) {
    let mut left = VecDeque::from(batch);
    while !left.is_empty() {
        let pairs = plan::pairs(left.make_contiguous());
        let mut session = match Session::open(options, connector, &pairs).await {
            Ok(session) => session,
            Err(failure) => return fail_all(left, &failure, tally),
        };
        loop {
            let Some(item) = left.pop_front() else {
                session.release().await;
                break;
            };
            let began = Instant::now();
            let result = session.store(&item).await;
            let broken = matches!(
                &result,
                Err(Failure::Association(_) | Failure::File(_) | Failure::WrongAnswer)
            );
            tally.note(Sent::of(item, result, began.elapsed()));
            if broken {
                session.abort().await;
                break;
            }
        }
    }
}

/// Every item fails for the same reason, told in words.
fn fail_all<F: Fn(&Sent)>(items: impl IntoIterator<Item = Item>, reason: &Failure, tally: &Tally<F>) {
    for item in items {
        let failure = Failure::Unreached(reason.to_string());
        tally.note(Sent::of(item, Err(failure), Duration::ZERO));
    }
}

impl Sent {
    fn of(item: Item, result: Result<u16, Failure>, took: Duration) -> Self {
        Self {
            file: item.file,
            sop_instance: Some(item.sop_instance),
            bytes: item.bytes,
            result,
            at: SystemTime::now(),
            took,
        }
    }

    fn unread(file: PathBuf, failure: Failure) -> Self {
        Self {
            file,
            sop_instance: None,
            bytes: 0,
            result: Err(failure),
            at: SystemTime::now(),
            took: Duration::ZERO,
        }
    }
}

struct Tally<F> {
    summary: Mutex<Summary>,
    on_result: F,
}

impl<F: Fn(&Sent)> Tally<F> {
    fn note(&self, sent: Sent) {
        (self.on_result)(&sent);
        let mut summary = lock(&self.summary);
        match sent.result {
            Ok(status) => {
                summary.sent += 1;
                summary.warned += u64::from(status != 0);
                summary.bytes += sent.bytes;
            }
            Err(failure) => summary.failed.push((sent.file, failure)),
        }
    }
}

/// Whether a status word says that the instance is stored.
fn is_stored(status: u16) -> bool {
    matches!(meaning(status), Meaning::Success | Meaning::Warning)
}

/// Counts stay right even when a callback panicked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
