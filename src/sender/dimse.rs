//! A session with a DICOM archive: one association, the answer is the result. One instance is in flight, or as many as the
//! archive has negotiated (asynchronous operations, PS3.7 D.3.3.3); answers are matched by message id, in whatever order.
//!
//! A session is used up by value: `begin` and `answers` give it back only when the peer's answer was in order. After a time-out, a
//! protocol error or a fault of ours it is aborted and gone, so it cannot be used again; dropping it closes the socket
//! without the last-fragment flag. Only `finish` of the data set sends that flag, and only after the checksum.
use super::casting::{Caster, Offer};
use super::ceiling::Governor;
use super::config::Dicom;
use super::data_set::Fault;
use super::outcome::{Down, Ended, Interruption, Job, Left, Outcome};
use super::outgoing::{Load, Outgoing};
use super::payload::PayloadReader;
use super::tls::Connector;
use super::transport::{self, Line, Progress, down};
use super::wrong_port;
use crate::base::fault::{Plant, planted};
use crate::base::names::{JobId, Uid};
use crate::dicom::association::{Association, Event, Leaving, Local, Stream, UlError, patiently};
use crate::dicom::dimse::{Command, StoreRq, StoreRsp, VERIFICATION};
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION};
pub use crate::transcode::Pair;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The most presentation contexts in one association.
pub const PAIRS_MAX: usize = 128;

/// An established association with an archive.
pub struct Session {
    association: Association<Box<dyn Stream>>,
    line: Line,
    leaving: Option<Leaving>,
    progress: Progress,
    /// What was proposed: one presentation context for each pair, so that the answer is unambiguous.
    offer: Offer,
    /// The id of each one's context, or the reason of its refusal.
    results: Vec<Result<u8, u8>>,
    caster: Caster,
    message_id: u16,
    /// What was sent whole and is not answered, the oldest first.
    flying: VecDeque<Flying>,
    response: Duration,
    /// Instances sent.
    pub sent: u32,
}

/// An instance whose answer is outstanding.
struct Flying {
    job: JobId,
    context: u8,
    message_id: u16,
    class: Uid,
    left: Left,
    /// When its last byte left.
    sent: Instant,
}

/// What came of beginning with an instance.
pub enum Begun {
    /// It has left whole; its answer comes.
    Flying(Session),
    /// Nothing of it has left, and the session is as good as before.
    Kept(Outcome, Session),
    /// The session is gone, and what was in flight with it, but for what had its answer.
    Broken(Vec<Ended>, Outcome),
}

/// What ended an exchange early.
enum Broken {
    Peer(UlError),
    Ours(Fault),
    Answer(&'static str),
}

impl From<UlError> for Broken {
    fn from(error: UlError) -> Self {
        Self::Peer(error)
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault)
    }
}

impl Session {
    /// Connects and proposes what the offer holds, at most `PAIRS_MAX` pairs.
    ///
    /// # Errors
    /// See `Down`: nothing of any instance was sent.
    pub async fn open(
        (peer, tls): (&Dicom, Option<&Connector>),
        governor: Option<&Governor>,
        (offer, caster): (Offer, &Caster),
        progress: &Progress,
    ) -> Result<Self, Down> {
        let pairs = &offer.pairs;
        assert!(pairs.len() <= PAIRS_MAX, "an offer holds at most {PAIRS_MAX} pairs");
        let (stream, line) = transport::connect((peer, tls), governor, progress).await?;
        let proposed: Vec<(Uid, Vec<Uid>)> = pairs.iter().map(|(c, t)| (c.clone(), vec![t.clone()])).collect();
        let local = Local {
            max_pdu: peer.max_pdu,
            implementation_class_uid: Uid::known(IMPLEMENTATION_CLASS_UID),
            implementation_version: IMPLEMENTATION_VERSION.to_owned(),
            window: peer.window,
        };
        let address = line.address();
        let requested = Association::request(
            stream,
            &peer.calling_ae,
            &peer.called_ae,
            &proposed,
            &local,
            peer.deadlines(),
        )
        .await;
        let mut association = match requested {
            Ok(association) => association,
            Err(error) if tls.is_none() => {
                let asked = wrong_port::of_request(&error, address).await;
                return Err(asked.unwrap_or_else(|| down(&error)));
            }
            Err(error) => return Err(down(&error)),
        };
        let leaving = line.leaving(progress.clone());
        if let Some(leaving) = leaving.clone() {
            association.heed(leaving);
        }
        let results = results(&association, pairs.len());
        // What becomes of instances does not hang on Verification.
        let answers = pairs
            .iter()
            .zip(&results)
            .filter(|(pair, _)| pair.0.as_str() != VERIFICATION);
        caster.learn(answers.map(|(pair, result)| (pair, result.err().unwrap_or(0))));
        Ok(Self {
            association,
            line,
            leaving,
            progress: progress.clone(),
            offer,
            results,
            caster: caster.clone(),
            message_id: 0,
            flying: VecDeque::new(),
            response: peer.timeouts.response.0,
            sent: 0,
        })
    }

    /// Whether this association can take what is stored as this pair, or has asked all that there is to ask about it. Else a new
    /// one has to ask: what was not proposed was not refused, and nothing is converted or held because of it.
    #[must_use]
    pub fn knows(&self, stored: &Pair) -> bool {
        let ways = self.caster.ways(stored);
        let pairs = || ways.iter().map(|syntax| (stored.0.clone(), syntax.clone()));
        // As it is stored, it leaves for certain, whatever becomes of a conversion that is wanted more.
        let sure = match self.result(stored) {
            None => return false,
            Some(Ok(_)) => pairs().position(|pair| pair == *stored).map_or(0, |at| at + 1),
            // Nothing is accepted, and something was left out: it may be what the destination takes by now.
            Some(Err(_)) if self.ways(stored).is_err() && pairs().any(|pair| self.offer.omits(&pair)) => return false,
            Some(Err(_)) => ways.len(),
        };
        pairs().take(sure).all(|pair| self.offer.answers(&pair))
    }

    /// What was said of a pair here: the id of its context, or the reason of its refusal; `None` when it was not proposed.
    fn result(&self, pair: &Pair) -> Option<Result<u8, u8>> {
        let at = self.offer.pairs.iter().position(|proposed| proposed == pair)?;
        Some(self.results[at])
    }

    /// The accepted ways of a stored pair, the most wanted first; or the result of its refusal.
    fn ways(&self, stored: &Pair) -> Result<Vec<(u8, Uid)>, u8> {
        let mut refusal = NOT_PROPOSED;
        let mut ways = Vec::new();
        for syntax in self.caster.ways(stored) {
            match self.result(&(stored.0.clone(), syntax.clone())) {
                Some(Ok(context)) => ways.push((context, syntax)),
                // What is said of the stored syntax says most; else what was said first.
                Some(Err(reason)) if refusal == NOT_PROPOSED || syntax == stored.1 => refusal = reason,
                Some(Err(_)) | None => {}
            }
        }
        if ways.is_empty() { Err(refusal) } else { Ok(ways) }
    }

    /// What each proposed pair was answered: 0, or why not.
    pub fn results(&self) -> impl Iterator<Item = (&Pair, u8)> {
        let results = self.results.iter().map(|result| result.err().unwrap_or(0));
        self.offer.pairs.iter().zip(results)
    }

    /// Whether the peer is still there and has not spoken out of turn since the last answer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.line.is_quiet()
    }

    /// What the watchdog looks at.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Instances that may be in flight here.
    #[must_use]
    pub fn window(&self) -> usize {
        self.association.window()
    }

    /// Sends one instance; its answer is waited for by `answers`. Not cancel-safe in one sense only: the session is lost.
    pub async fn begin<R: PayloadReader>(mut self, job: &Job, load: Load<R>) -> Begun {
        let ways = match self.ways(&(job.sop_class.clone(), job.transfer_syntax.clone())) {
            Ok(ways) => ways,
            Err(result) => return Begun::Kept(Outcome::NoContext { result }, self),
        };
        let opened = load.open(job, &ways, &self.caster, &self.progress).await;
        let (context, data_set) = match opened {
            Ok(opened) => opened,
            Err(unsent) => return Begun::Kept(unsent.into(), self),
        };
        let syntax = data_set.syntax().clone();
        match self.send(context, job, data_set).await {
            Ok(flying) => {
                self.sent += 1;
                self.flying.push_back(flying);
                Begun::Flying(self)
            }
            Err(broken) => {
                if let Broken::Ours(Fault::Recast(trouble)) = &broken {
                    self.caster.broke_off(job.id, syntax, trouble.clone());
                }
                let answered = self.last_answers().await;
                self.abort().await;
                Begun::Broken(answered, broken.into())
            }
        }
    }

    /// Waits for an answer, and takes those that have come with it. Without a session the rest is in the dark: the outcome is
    /// that of the oldest instance in flight, and every other one was interrupted too.
    pub async fn answers(mut self) -> (Vec<Ended>, Result<Self, Outcome>) {
        let mut found = Vec::new();
        loop {
            let next = if found.is_empty() {
                self.answer().await
            } else {
                // Nothing is waited for any more. Reading is cancel-safe.
                match timeout(Duration::ZERO, self.answer()).await {
                    Ok(answer) => answer,
                    Err(_) => return (found, Ok(self)),
                }
            };
            match next.and_then(|(context, answer)| self.matched(context, &answer)) {
                Ok(one) => found.push(one),
                Err(broken) => {
                    self.abort().await;
                    return (found, Err(broken.into()));
                }
            }
            if self.flying.is_empty() {
                return (found, Ok(self));
            }
        }
    }

    /// The answers that had come when the sending broke off: what they are about need not be sent again.
    async fn last_answers(&mut self) -> Vec<Ended> {
        let until = Instant::now() + LATE;
        let mut found = Vec::new();
        while !self.flying.is_empty() {
            let Some(Event::Command {
                context,
                command: Command::StoreRsp(answer),
            }) = self.association.last_words(until).await
            else {
                break;
            };
            let Ok(ended) = self.matched(context, &answer) else {
                break;
            };
            found.push(ended);
        }
        found
    }

    /// The instance that an answer is about (failures.md section 6): without one nothing is confirmed.
    fn matched(&mut self, context: u8, answer: &StoreRsp) -> Result<Ended, Broken> {
        let at = self
            .flying
            .iter()
            .position(|flying| flying.message_id == answer.message_id);
        let Some(flying) = at.and_then(|at| self.flying.remove(at)) else {
            return Err(Broken::Answer("its answer is to another message"));
        };
        if context != flying.context {
            return Err(Broken::Answer("its answer is on another presentation context"));
        }
        check(answer, &flying)?;
        Ok(Ended {
            job: flying.job,
            outcome: Outcome::from_status(answer.status),
            left: Some(flying.left),
        })
    }

    async fn send<R: PayloadReader>(&mut self, context: u8, job: &Job, mut out: Outgoing<R>) -> Result<Flying, Broken> {
        let message_id = self.next_message_id();
        let instance = out.sop_instance().clone();
        let request = Command::StoreRq(StoreRq {
            message_id,
            priority: job.priority,
            sop_class: Some(job.sop_class.clone()),
            sop_instance: Some(instance.clone()),
            move_originator: None,
            has_data_set: true,
        });
        // The first piece is read before the command goes: what cannot be read at all costs no association.
        let mut piece = out.next().await?;
        self.association.send(context, &request).await?;
        let mut writer = self.association.data_set(context);
        while let Some(bytes) = piece {
            // The next piece is read from the disk while this one leaves.
            let (written, next) = tokio::join!(writer.write(&bytes), out.next());
            written?;
            if next.is_err() && planted(Plant::LastFlagOnAbort) {
                break;
            }
            piece = next?;
        }
        writer.finish().await?;
        Ok(Flying {
            job: job.id,
            context,
            message_id,
            class: job.sop_class.clone(),
            left: Left {
                sop_instance: instance,
                syntax: out.syntax().clone(),
                pixels: out.pixels(),
            },
            sent: Instant::now(),
        })
    }

    /// An answer, with the presentation context that it came on.
    async fn answer(&mut self) -> Result<(u8, StoreRsp), Broken> {
        // Of the one that has waited longest; answers to others change nothing in that. What came while another was being sent is
        // there to be read, however late it is.
        let oldest = self.flying.front().map_or_else(Instant::now, |flying| flying.sent);
        let deadline = (oldest + self.response).max(Instant::now() + LATE);
        let patience = (deadline, self.response);
        let event = patiently(self.association.next(), patience, self.leaving.as_ref())
            .await
            .ok_or(UlError::Timeout("waiting for the answer"))??;
        match event {
            Event::Command {
                context,
                command: Command::StoreRsp(answer),
            } => Ok((context, answer)),
            Event::Command { .. } => Err(Broken::Answer("it answered with another message")),
            Event::Malformed { .. } => Err(Broken::Answer("its answer is not readable")),
            Event::Release => Err(Broken::Answer("it asked for release instead of answering")),
        }
    }

    /// C-ECHO on the first context that was proposed. A peer that refuses it is there all the same.
    pub(super) async fn echo(&mut self) -> Result<(), UlError> {
        let Some(Ok(context)) = self.results.first() else {
            return Ok(());
        };
        let context = *context;
        let message_id = self.next_message_id();
        self.association.send(context, &Command::EchoRq { message_id }).await?;
        let event = timeout(self.response, self.association.next())
            .await
            .map_err(|_| UlError::Timeout("waiting for the answer"))??;
        match event {
            Event::Command {
                command: Command::EchoRsp { message_id: of, .. },
                ..
            } if of == message_id => Ok(()),
            Event::Command { .. } | Event::Malformed { .. } | Event::Release => {
                Err(UlError::Protocol("not the answer to a C-ECHO"))
            }
        }
    }

    /// Ends the association in order. Whether the peer answers does not matter any more.
    pub async fn release(self) {
        // Every instance has its answer; a peer that cannot say good-bye loses nothing.
        drop(self.leave().await);
    }

    /// As `release`, for whom it does matter.
    ///
    /// # Errors
    /// The peer aborted what it had accepted, or said nothing.
    pub async fn leave(self) -> Result<(), Down> {
        drop(self.line);
        self.association.release().await.map_err(|error| down(&error))
    }

    /// A-ABORT, and the socket is closed.
    pub async fn abort(self) {
        drop(self.line);
        // Bounded more tightly than a write: the peer may be the reason that nothing moves.
        drop(timeout(ABORT_MAX, self.association.abort(0, 0)).await);
    }

    fn next_message_id(&mut self) -> u16 {
        // Not one that is still in flight: the window is far smaller than the numbers.
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        self.message_id
    }
}

/// The result for each pair, by the ids that were given out in order (1, 3, 5 …).
fn results<S: Stream>(association: &Association<S>, count: usize) -> Vec<Result<u8, u8>> {
    let mut results = vec![Err(NOT_ANSWERED); count];
    for context in association.contexts() {
        let at = usize::from(context.id / 2);
        if context.id % 2 == 1
            && let Some(result) = results.get_mut(at)
        {
            *result = match &context.result {
                Ok(_) => Ok(context.id),
                Err(reason) => Err(*reason),
            };
        }
    }
    results
}

/// The answer must be about what was sent under its message id: else nothing is confirmed.
fn check(answer: &StoreRsp, sent: &Flying) -> Result<(), Broken> {
    let answered = answer.sop_instance.as_ref();
    if answered.is_some_and(|uid| !uid.is_written_as(sent.left.sop_instance.as_str())) {
        return Err(Broken::Answer("its answer is about another instance"));
    }
    let class = answer.sop_class.as_ref();
    if class.is_some_and(|uid| !uid.is_written_as(sent.class.as_str())) {
        return Err(Broken::Answer("its answer is about another class"));
    }
    Ok(())
}

impl From<Broken> for Outcome {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Ours(fault) => fault.into(),
            Broken::Peer(error) => Self::Interrupted(Interruption {
                line: matches!(error, UlError::Closed | UlError::Io(_) | UlError::Timeout(_)),
                what: error.to_string(),
                fresh: true,
                stuck: false,
            }),
            Broken::Answer(what) => Self::interrupted(format!("the peer broke the protocol: {what}")),
        }
    }
}

/// For reading what has come already.
const LATE: Duration = Duration::from_millis(200);
const ABORT_MAX: Duration = Duration::from_secs(2);
/// PS3.8 table 9-18: 2 is "no reason"; a peer that leaves a context out of its answer has refused it.
const NOT_ANSWERED: u8 = 2;
/// Not sent: the lane asked a session for a pair that it does not know.
const NOT_PROPOSED: u8 = 0;
