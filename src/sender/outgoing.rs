//! A data set in the syntax in which it leaves: as it is stored, recast as a stream, or from a codec's scratch file.
//!
//! Promises those of `data_set.rs`: the last piece is only handed out after the checksum of all stored bytes was found right. A
//! codec's work is done, looked at by a second process and on the ledger before the first byte leaves; when it fails, the next
//! way is tried, and what is stored is always among the ways. The same holds for a recast as far as it can be seen before the
//! first byte leaves (`AHEAD`); one that fails later costs its association, and is not tried again for that job.
use super::casting::{Caster, Fact};
use super::data_set::{DataSet, Fault, blocking};
use super::outcome::{Job, Outcome};
use super::payload::PayloadReader;
use super::recasting::pass;
use super::transport::Progress;
use crate::base::names::Uid;
use crate::transcode::forms::{EXPLICIT_LITTLE, form_of, name_of, needs_codec};
use crate::transcode::pool::Ending;
use crate::transcode::{Converted, Recast, Trouble};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A data set on its way out.
pub struct Outgoing<R> {
    data: DataSet<R>,
    syntax: Uid,
    /// The word in the metric; none as it is stored.
    kind: Option<&'static str>,
    /// Of what a codec wrote: for the ledger, before it leaves.
    fact: Option<Fact>,
    file: Option<Scratch>,
    recast: Option<Recast>,
    /// The hash of its pixels, when it was recast to its end.
    pixels: Option<blake3::Hash>,
    /// Read, and not yet recast.
    rest: Bytes,
    /// Recast already, and ready to leave.
    ready: VecDeque<Bytes>,
    /// Bytes that were read so far, of what is stored or of the scratch file.
    taken: usize,
    /// Bytes that were handed out.
    left: u64,
    /// Who counts what was saved, when all was handed out in another syntax.
    books: Option<Caster>,
    ended: bool,
}

/// What a codec wrote.
struct Scratch {
    file: Arc<File>,
    at: u64,
    length: u64,
}

/// Why nothing leaves.
pub enum Unsent {
    Fault(Fault),
    /// No way is left in which it could leave; each that was tried with its trouble.
    NoWay {
        tried: Vec<(Uid, Trouble)>,
    },
}

impl From<Fault> for Unsent {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Unsent> for Outcome {
    fn from(unsent: Unsent) -> Self {
        let tried = match unsent {
            Unsent::Fault(fault) => return fault.into(),
            Unsent::NoWay { tried } => tried,
        };
        let said: Vec<String> = tried
            .iter()
            .map(|(to, trouble)| format!("{} ({to}): {trouble}", name_of(to)))
            .collect();
        let what = format!(
            "the destination does not accept the stored transfer syntax, and a conversion to one that it accepts failed: {}",
            said.join("; ")
        );
        match tried.iter().any(|(_, trouble)| passes(trouble)) {
            true => Self::Unready { what },
            false => Self::Unconvertible { what },
        }
    }
}

/// Whether it is nothing of the instance, and passes.
fn passes(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::NoRoom | Trouble::Worker(Ending::NotStarted))
}

/// What a session is handed for a job.
// One for each instance on its way, and moved once: a box would cost more than it saves.
#[allow(clippy::large_enum_variant)]
pub enum Load<R> {
    Stored(R),
    /// Converted already, before there was an association that would have waited for it.
    Ready(Outgoing<R>),
    /// That was tried, and failed: not tried again at once.
    Failed(R, Uid, Trouble),
}

impl<R: PayloadReader> Load<R> {
    /// Converts ahead what will surely leave in another coding. What goes wrong shows in the session.
    ///
    /// # Errors
    /// The stored bytes are damaged, or the edits cannot be made.
    pub async fn ahead(job: &Job, reader: R, caster: &Caster, progress: &Progress) -> Result<Self, Fault> {
        let Some(to) = caster.foreseen(job) else {
            return Ok(Self::Stored(reader));
        };
        Ok(match way(job, reader, &to, caster, progress).await? {
            Ok(outgoing) => Self::Ready(outgoing),
            Err((mut reader, trouble)) => {
                reader.rewind();
                Self::Failed(reader, to, trouble)
            }
        })
    }

    /// Makes ready to leave in the first of the ways that can be gone; each with its presentation context. What is ready is used
    /// when its way's turn comes. What answers stands on the ledger.
    ///
    /// # Errors
    /// See `Unsent`.
    pub async fn open(
        self,
        job: &Job,
        ways: &[(u8, Uid)],
        caster: &Caster,
        progress: &Progress,
    ) -> Result<(u8, Outgoing<R>), Unsent> {
        let mut load = self;
        let mut tried = Vec::new();
        for (at, (context, to)) in ways.iter().enumerate() {
            let last = at + 1 == ways.len();
            let made = match load {
                Self::Ready(outgoing) if outgoing.syntax == *to => Ok(outgoing),
                Self::Failed(reader, syntax, trouble) if syntax == *to => Err((reader, trouble)),
                Self::Ready(outgoing) => way(job, outgoing.into_reader(), to, caster, progress).await?,
                Self::Stored(reader) | Self::Failed(reader, ..) => way(job, reader, to, caster, progress).await?,
            };
            let (mut reader, trouble) = match made {
                Ok(outgoing) if !last && outgoing.is_pointless(job, caster, ways) => {
                    caster.count(outgoing.kind.unwrap_or("compress"), "larger");
                    load = Self::Stored(outgoing.into_reader());
                    continue;
                }
                Ok(mut outgoing) => match outgoing.record(caster, progress).await {
                    Ok(()) => return Ok((*context, outgoing)),
                    Err(trouble) => (outgoing.into_reader(), trouble),
                },
                Err(failed) => failed,
            };
            // What passes is the lane's trouble, told once, and not of each image that waits for it. Of what does not become smaller nothing
            // is amiss, unless it is held, which says so.
            if !passes(&trouble) && !matches!(trouble, Trouble::Larger(_)) {
                tracing::warn!(destination = %caster.name, syntax = %name_of(to), reason = trouble.word(), "an instance was not converted");
            }
            tried.push((to.clone(), trouble));
            reader.rewind();
            load = Self::Stored(reader);
        }
        Err(Unsent::NoWay { tried })
    }
}

/// One way. A trouble of the conversion gives the reader back; a fault of the data set ends everything.
///
/// # Errors
/// The stored bytes are damaged, or the edits cannot be made.
#[allow(clippy::type_complexity)]
async fn way<R: PayloadReader>(
    job: &Job,
    reader: R,
    to: &Uid,
    caster: &Caster,
    progress: &Progress,
) -> Result<Result<Outgoing<R>, (R, Trouble)>, Fault> {
    if let Some(trouble) = caster.met(job.id, to) {
        return Ok(Err((reader, trouble)));
    }
    let data = DataSet::open(job, reader, false).await?;
    let kind = kind(&job.transfer_syntax, to);
    let mut outgoing = Outgoing {
        data,
        syntax: to.clone(),
        kind: (*to != job.transfer_syntax).then_some(kind),
        fact: None,
        file: None,
        recast: Recast::between(&job.transfer_syntax, to),
        pixels: None,
        rest: Bytes::new(),
        ready: VecDeque::new(),
        taken: 0,
        left: 0,
        books: None,
        ended: false,
    };
    if *to == job.transfer_syntax {
        return Ok(Ok(outgoing));
    }
    let mut made = Ok(());
    if needs_codec(&job.transfer_syntax, to) {
        made = outgoing.convert(job, to, caster, progress).await?;
    }
    if made.is_ok() {
        made = outgoing.look_ahead(progress).await?;
    }
    match made {
        Ok(()) => Ok(Ok(outgoing)),
        Err(trouble) => {
            caster.count(kind, trouble.word());
            if matches!(trouble, Trouble::Larger(_)) {
                // Also when it was made ahead, it is neither made nor counted again.
                caster.broke_off(job.id, to.clone(), trouble.clone());
            }
            Ok(Err((outgoing.data.into_reader(), trouble)))
        }
    }
}

/// The word in the metric.
fn kind(from: &Uid, to: &Uid) -> &'static str {
    let is_native = |uid| form_of(uid).is_some_and(|form| form.coding == crate::transcode::forms::Coding::Native);
    match (is_native(from), is_native(to)) {
        (true, true) => "layout",
        (true, false) => "compress",
        (false, true) => "decompress",
        (false, false) => "recompress",
    }
}

impl<R: PayloadReader> Outgoing<R> {
    /// The SOP Instance UID as it leaves.
    #[must_use]
    pub fn sop_instance(&self) -> &Uid {
        self.data.sop_instance()
    }

    /// The transfer syntax as it leaves.
    #[must_use]
    pub fn syntax(&self) -> &Uid {
        &self.syntax
    }

    /// The hash of its pixels, before and after, when it was recast and all of it was handed out.
    #[must_use]
    pub fn pixels(&self) -> Option<blake3::Hash> {
        self.pixels
    }

    /// The reader, from its start again.
    #[must_use]
    pub fn into_reader(self) -> R {
        let mut reader = self.data.into_reader();
        reader.rewind();
        reader
    }

    /// The next piece, or `None` when everything was handed out and the checksum was right.
    ///
    /// # Errors
    /// See `Fault`; nothing may be completed then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let piece = loop {
            let piece = match self.ready.pop_front() {
                Some(piece) => Some(piece),
                None => self.step().await?,
            };
            if piece.as_ref().is_none_or(|piece| !piece.is_empty()) {
                break piece;
            }
        };
        self.left += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if piece.is_none()
            && let Some(caster) = self.books.take()
        {
            caster.saved(self.data.length().saturating_sub(self.left));
        }
        Ok(piece)
    }

    /// Recasts the first pieces before anything leaves: what cannot stand in the other layout is mostly seen there, an image of
    /// usual size to its end.
    async fn look_ahead(&mut self, progress: &Progress) -> Result<Result<(), Trouble>, Fault> {
        let mut ready = 0;
        while self.recast.is_some() && self.taken.max(ready) < AHEAD {
            match self.step().await {
                Ok(Some(piece)) => {
                    ready += piece.len();
                    self.ready.extend((!piece.is_empty()).then_some(piece));
                }
                Ok(None) => break,
                Err(Fault::Recast(trouble)) => {
                    // A damaged payload is called damaged: the checksum says whose fault it is.
                    while self.data.next().await?.is_some() {
                        progress.touch();
                    }
                    return Ok(Err(trouble));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(Ok(()))
    }

    /// Reads one piece, and answers what it becomes: of a recast that may be nothing yet.
    async fn step(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let piece = match (self.rest.is_empty(), &mut self.file) {
            (false, _) => Some(std::mem::take(&mut self.rest)),
            (true, Some(file)) => file.next().await?,
            (true, None) => self.data.next().await?,
        };
        self.ended = piece.is_none();
        let Some(recast) = self.recast.take() else {
            self.taken += piece.as_ref().map_or(0, Bytes::len);
            return Ok(piece);
        };
        let passed = pass(recast, piece).await?;
        self.taken += passed.taken;
        self.recast = Some(passed.recast);
        self.rest = passed.rest;
        self.pixels = passed.pixels;
        Ok(Some(passed.out))
    }

    /// Sends the data set through a codec's process.
    async fn convert(
        &mut self,
        job: &Job,
        to: &Uid,
        caster: &Caster,
        progress: &Progress,
    ) -> Result<Result<(), Trouble>, Fault> {
        let Some(shared) = &caster.shared else {
            return Ok(Err(Trouble::Declined("conversions are not set up".to_owned())));
        };
        let started = Instant::now();
        let plain = Uid::known(EXPLICIT_LITTLE);
        let is_native =
            |uid: &Uid| form_of(uid).is_some_and(|form| form.coding == crate::transcode::forms::Coding::Native);
        let inner_from = if is_native(&job.transfer_syntax) {
            &plain
        } else {
            &job.transfer_syntax
        };
        let inner_to = if is_native(to) { &plain } else { to };
        let mut conversion = match touching(progress, shared.transcoder.begin(inner_from, inner_to)).await {
            Ok(conversion) => conversion,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let mut before = 0;
        let mut recast = Recast::between(&job.transfer_syntax, inner_from);
        let mut rest = Bytes::new();
        loop {
            let piece = match rest.is_empty() {
                true => self.data.next().await?,
                false => Some(std::mem::take(&mut rest)),
            };
            let is_end = piece.is_none();
            let out = match recast.take() {
                None => {
                    before += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                    piece.unwrap_or_default()
                }
                Some(stage) => match pass(stage, piece).await {
                    Ok(passed) => {
                        before += passed.taken as u64;
                        recast = Some(passed.recast);
                        rest = passed.rest;
                        passed.out
                    }
                    Err(Fault::Recast(trouble)) => return Ok(Err(trouble)),
                    Err(fault) => return Err(fault),
                },
            };
            progress.touch();
            if let Err(trouble) = conversion.push(&out).await {
                return Ok(Err(trouble));
            }
            if is_end || conversion.is_deaf() {
                break;
            }
        }
        let converted = match touching(progress, conversion.finish()).await {
            Ok(converted) => converted,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let spent = shared
            .metrics
            .conversion_seconds
            .with_label_values(&[caster.name.as_str()]);
        spent.observe(started.elapsed().as_secs_f64());
        self.fact = Some(fact(job, to, caster, &converted, before));
        self.recast = Recast::between(inner_to, to);
        self.file = Some(Scratch {
            file: converted.file,
            at: 0,
            length: converted.length,
        });
        Ok(Ok(()))
    }

    /// It leaves in this form. What a codec made is on the ledger first: what the ledger does not know must not leave.
    async fn record(&mut self, caster: &Caster, progress: &Progress) -> Result<(), Trouble> {
        let Some(kind) = self.kind else { return Ok(()) };
        if let (Some(shared), Some(fact)) = (&caster.shared, self.fact.take())
            && !touching(progress, (shared.record)(fact)).await
        {
            caster.count(kind, Trouble::NoRoom.word());
            return Err(Trouble::NoRoom);
        }
        self.books = Some(caster.clone());
        caster.count(kind, "converted");
        Ok(())
    }

    /// Compressed for a thin line, it is larger than what is stored, which the destination takes as well. Deflate is judged by what
    /// was made ahead.
    fn is_pointless(&self, job: &Job, caster: &Caster, ways: &[(u8, Uid)]) -> bool {
        let stored = ways.iter().any(|(_, uid)| *uid == job.transfer_syntax);
        let is_larger = match (&self.file, &self.recast) {
            (Some(file), _) => file.length >= self.data.length(),
            (None, Some(_)) => {
                let behind = if self.ended { 0 } else { BEHIND };
                self.ready.iter().map(Bytes::len).sum::<usize>() + behind >= self.taken
            }
            (None, None) => false,
        };
        caster.is_for_size(&self.syntax) && stored && is_larger
    }
}

impl Scratch {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let count = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(CHUNK);
        if count == 0 {
            return Ok(None);
        }
        let (file, at) = (self.file.clone(), self.at);
        let read = blocking(move || {
            let mut piece = vec![0; count];
            file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
        });
        let piece = read
            .await?
            .map_err(|error| Fault::Edit(format!("the scratch file cannot be read: {}", error.kind())))?;
        self.at += count as u64;
        Ok(Some(piece))
    }
}

fn fact(job: &Job, to: &Uid, caster: &Caster, converted: &Converted, before: u64) -> Fact {
    Fact {
        instance: job.instance,
        job: job.id,
        destination: caster.name.clone(),
        from: job.transfer_syntax.clone(),
        to: to.clone(),
        pixels: converted.pixels.clone(),
        frames: converted.frames,
        before,
        after: converted.length,
    }
}

/// Waits for our own work, which has deadlines of its own: the watchdog looks at the peer.
async fn touching<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        progress.touch();
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(TOUCH) => {}
        }
    }
}

const CHUNK: usize = crate::base::limits::CHUNK;
/// So many bytes are recast before the first one leaves, and kept till then.
const AHEAD: usize = 1 << 20;
/// The most that deflate has taken and not given before its end.
const BEHIND: usize = 64 << 10;
const TOUCH: Duration = Duration::from_secs(1);
