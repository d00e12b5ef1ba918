//! The data set as it leaves: the edited head, then the rest as it arrived.
//!
//! Without edits every byte is passed on untouched. With edits the head is scanned, edited and sent in place of the
//! stored one; a deflated data set is inflated and deflated again as a bounded stream. The last piece is only handed out
//! after the checksum of all stored bytes was found right, so a sender that ends its message on `None` never completes
//! a damaged instance. Memory: the head (`HEAD_MAX`) twice, and one chunk.
use super::outcome::{Interruption, Job, Outcome};
use super::payload::{PayloadReader, ReadFault};
use super::reflate::Reflate;
use crate::base::names::Uid;
use crate::base::panics::{Panicked, contain};
use crate::dicom::edit::{Made, Plan};
use crate::dicom::head::{Head, Progress, Scanner};
use crate::dicom::syntax::Syntax;
use crate::transcode::Trouble;
use bytes::Bytes;
use std::collections::VecDeque;

/// Why a data set cannot leave.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Read(#[from] ReadFault),
    #[error("{0}")]
    Edit(String),
    /// It cannot stand in the layout in which it was to leave.
    #[error("{0}")]
    Recast(Trouble),
}

/// One data set on its way out.
pub struct DataSet<R> {
    reader: R,
    /// Pieces that are ready to leave.
    front: VecDeque<Bytes>,
    reflate: Option<Reflate>,
    /// The reader has answered `None`.
    drained: bool,
    /// The checksum was right and everything is in `front`.
    verified: bool,
    head: Option<Head>,
    sop_instance: Uid,
}

impl<R: PayloadReader> DataSet<R> {
    /// Reads the head when the job has edits or `with_head` asks for it, and makes the edits.
    ///
    /// # Errors
    /// See `Fault`. When the head cannot be understood, the checksum decides whose fault it is.
    pub async fn open(job: &Job, reader: R, with_head: bool) -> Result<Self, Fault> {
        let mut this = Self {
            reader,
            front: VecDeque::new(),
            reflate: None,
            drained: false,
            verified: false,
            head: None,
            sop_instance: job.sop_instance.clone(),
        };
        if job.plan.is_empty() && !with_head {
            return Ok(this);
        }
        let syntax = Syntax::of(&job.transfer_syntax);
        match this.prepare(job, &syntax).await {
            Err(Fault::Edit(what)) => {
                this.check_rest().await?;
                Err(Fault::Edit(what))
            }
            Err(fault) => Err(fault),
            Ok(()) => Ok(this),
        }
    }

    /// The head as it leaves; there when it was asked for or edited.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The SOP Instance UID as it leaves.
    #[must_use]
    pub fn sop_instance(&self) -> &Uid {
        &self.sop_instance
    }

    /// Bytes as they are stored.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.reader.length()
    }

    /// The reader, wherever it stands.
    #[must_use]
    pub fn into_reader(self) -> R {
        self.reader
    }

    /// The next piece, or `None` when everything was handed out and the checksum was right.
    ///
    /// # Errors
    /// See `Fault`; nothing may be completed then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            // The last piece waits for the checksum: a destination must not be able to complete what we would abort.
            if self.front.len() > 1 || self.verified {
                let piece = self.front.pop_front();
                if piece.is_some() || self.verified {
                    return Ok(piece);
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        if let Some(piece) = self.read().await? {
            match self.reflate.take() {
                None => self.keep(piece),
                Some(reflate) => {
                    let (reflate, out) = blocking(move || reflate.push(&piece)).await??;
                    self.reflate = Some(reflate);
                    self.keep(out);
                }
            }
            return Ok(());
        }
        self.reader.verify()?;
        if let Some(reflate) = self.reflate.take() {
            let out = blocking(move || reflate.finish()).await??;
            self.keep(out);
        }
        self.verified = true;
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Bytes>, ReadFault> {
        if self.drained {
            return Ok(None);
        }
        let piece = self.reader.next().await?;
        self.drained = piece.is_none();
        Ok(piece)
    }

    fn keep(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.front.push_back(piece);
        }
    }

    /// Scans the head and makes the edits. Everything read so far ends in `front`, in its final form.
    async fn prepare(&mut self, job: &Job, syntax: &Syntax) -> Result<(), Fault> {
        let plan = if job.plan.is_empty() {
            Plan::default()
        } else {
            Plan::decode(&job.plan).map_err(|error| Fault::Edit(error.to_string()))?
        };
        let mut read = VecDeque::new();
        let head = self.scan(syntax, &mut read).await?;
        if plan.is_empty() {
            self.front = read;
            self.head = Some(head);
            return Ok(());
        }
        let sent_as = job.sop_instance.clone();
        let (old, made) = match head.bytes.len() {
            ..=AT_ONCE_MAX => contain(|| edit(&plan, head, &sent_as)).map_err(|Panicked| stopped())??,
            _ => blocking(move || edit(&plan, head, &sent_as)).await??,
        };
        let edited = made.bytes;
        self.sop_instance = made.sop_instance;
        if syntax.deflated {
            let mut reflate = Reflate::new(old.bytes.len() as u64, &edited);
            for piece in read {
                let (again, out) = blocking(move || reflate.push(&piece)).await??;
                reflate = again;
                self.keep(out);
            }
            self.reflate = Some(reflate);
        } else {
            self.keep(Bytes::from(edited));
            skip(&mut read, old.bytes.len());
            self.front.append(&mut read);
        }
        self.head = Some(made.head);
        Ok(())
    }

    async fn scan(&mut self, syntax: &Syntax, read: &mut VecDeque<Bytes>) -> Result<Head, Fault> {
        let mut scanner = Scanner::new(syntax.clone());
        while let Some(piece) = self.read().await? {
            let progress = scanner.push(&piece).map_err(|error| Fault::Edit(error.to_string()))?;
            read.push_back(piece);
            if progress == Progress::HeadComplete
                && let Some(head) = scanner.head()
            {
                return Ok(head.clone());
            }
        }
        scanner.finish().map_err(|error| Fault::Edit(error.to_string()))
    }

    /// Reads to the end, so that a damaged payload is called damaged and not a bad edit.
    async fn check_rest(&mut self) -> Result<(), ReadFault> {
        while self.read().await?.is_some() {}
        self.reader.verify()
    }
}

/// The old head, and what the edits make of it.
fn edit(plan: &Plan, old: Head, sent_as: &Uid) -> Result<(Head, Made), Fault> {
    let made = plan
        .make(&old, sent_as)
        .map_err(|error| Fault::Edit(error.to_string()))?;
    Ok((old, made))
}

fn skip(pieces: &mut VecDeque<Bytes>, mut count: usize) {
    while count > 0
        && let Some(mut piece) = pieces.pop_front()
    {
        if piece.len() > count {
            pieces.push_front(piece.split_off(count));
            return;
        }
        count -= piece.len();
    }
}

/// Edits and compression take longer than an async thread may be held.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    // An instance that our own code stumbles over is held, like one that cannot be edited.
    let done = tokio::task::spawn_blocking(move || contain(work)).await;
    done.map_err(|_| stopped())?.map_err(|Panicked| stopped())
}

fn stopped() -> Fault {
    Fault::Edit("the edit was stopped".to_owned())
}

/// A head up to here is edited in some ten microseconds, which is what handing it to another thread costs.
const AT_ONCE_MAX: usize = 16 << 10;

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Read(fault @ ReadFault::Later(_)) => Self::Unready {
                what: fault.to_string(),
            },
            Fault::Read(fault @ (ReadFault::Corrupt | ReadFault::Unreadable(_))) => Self::Corrupt {
                what: fault.to_string(),
            },
            Fault::Edit(what) => Self::Edit { what },
            // Met on the way. Nothing of the instance or the destination: it goes back, and leaves in another way.
            Fault::Recast(trouble) => Self::Interrupted(Interruption {
                what: format!("the data set could not be converted to its end: {trouble}"),
                fresh: false,
                stuck: false,
                line: false,
            }),
        }
    }
}
