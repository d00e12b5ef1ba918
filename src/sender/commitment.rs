//! An association for storage commitment (PS3.4 Annex J), opened by this box: to an archive, to ask (SCU), or to a source, to
//! report (SCP, proposed by role selection). One request at a time; after any disorder it is aborted and gone.
//!
//! Knows no spool: it is handed what to say, and hands back what it heard.
use super::config::Dicom;
use super::outcome::{Down, DownKind};
use super::tls::{self, Connector};
use super::transport::{self, Progress, down};
use super::wrong_port;
use crate::base::fault::{Moment, die_at};
use crate::base::names::{AeTitle, Uid};
use crate::base::units::Span;
use crate::dicom::association::{Association, Event, Local, RoleSelection, Stream, UlError};
use crate::dicom::commitment::{self as words, Action, CLASS, DATA_SET_MAX, INSTANCE, Report, SYNTAXES};
use crate::dicom::dimse::{Asked, Command};
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION};
use crate::pki::{Role, Slot};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// `commitment` of a destination: it is asked to commit to keep what it took.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it takes the requests, when that is not where it takes the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_ae: Option<AeTitle>,
    /// The networks that its answers may come from, on an association of its own. Without any, only an answer on the
    /// association of the request is heard.
    #[serde(deserialize_with = "crate::base::networks::deserialize")]
    pub addresses: Vec<IpNet>,
    /// The AE title that it calls from, when that is not `called_ae`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calling_ae: Option<AeTitle>,
    /// The certificates that it may show when it calls: SHA-256 fingerprints, or names. With any, it must.
    pub certificate_fingerprints: Vec<String>,
    pub certificate_names: Vec<String>,
    /// A study is asked for when no instance of it has come or was sent for so long,
    pub quiet: Span,
    /// or when one of its instances has waited for so long.
    pub at_most: Span,
    /// Instances of one request.
    pub batch: usize,
    /// How long the association of a request stays open for its answer.
    pub linger: Span,
    /// An accepted request that is not answered in this time is made again; each further time after twice as long, up to a day.
    pub answer_within: Span,
    /// Failures of one instance, each of which sends it again, before it is held as `not_committed`.
    pub tries: u32,
    /// The pause before it is sent again.
    pub pause: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            called_ae: None,
            addresses: Vec::new(),
            calling_ae: None,
            certificate_fingerprints: Vec::new(),
            certificate_names: Vec::new(),
            quiet: Span::secs(60),
            at_most: Span::secs(1_800),
            batch: 1_000,
            linger: Span::secs(10),
            answer_within: Span::secs(3_600),
            tries: 3,
            pause: Span::secs(60),
        }
    }
}

/// Pauses before an instance is sent again that may be configured: a job that is due later was written by a wrong clock.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);

impl Config {
    /// Relations between keys, each with its key first.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(1..=words::REFERENCES_MAX).contains(&self.batch) {
            wrong.push(format!("commitment.batch: write 1 to {}", words::REFERENCES_MAX));
        }
        if self.tries == 0 {
            wrong.push("commitment.tries: write at least 1".to_owned());
        }
        if self.quiet > self.at_most {
            wrong.push("commitment.quiet: must not be longer than commitment.at_most".to_owned());
        }
        if self.answer_within.0 < Duration::from_secs(1) {
            wrong.push("commitment.answer_within: write at least 1s".to_owned());
        }
        if self.linger.0 > Duration::from_secs(600) {
            wrong.push("commitment.linger: write at most 10min".to_owned());
        }
        if self.pause.0 > PAUSE_MAX {
            wrong.push("commitment.pause: write at most 24h".to_owned());
        }
        if self.port == Some(0) {
            wrong.push("commitment.port: write 1 to 65535".to_owned());
        }
        wrong
    }
}

/// What this box is on the association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It asks an archive.
    User,
    /// It reports to a source that has asked.
    Provider,
}

/// How to reach one peer. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    peer: Arc<Dicom>,
    tls: Option<Connector>,
    linger: Duration,
}

/// Why nothing came of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// Not reached: nothing was said.
    #[error(transparent)]
    Down(#[from] Down),
    /// It takes no storage commitment from us in this role: a person has to configure it.
    #[error("{0}")]
    Refused(&'static str),
    /// It ended in disorder: nobody knows what the peer has understood.
    #[error("{0}")]
    Broken(String),
}

/// An N-EVENT-REPORT that was heard, to be answered.
pub struct Heard {
    request: Asked,
    /// What it says, or the status that it deserves.
    pub report: Result<Report, u16>,
}

/// An established association.
pub struct Call {
    association: Association<Box<dyn Stream>>,
    context: u8,
    syntax: Uid,
    message_id: u16,
    /// Came before the answer to our own request.
    early: VecDeque<Heard>,
}

impl Caller {
    /// Reads certificates; opens nothing. `linger`: the longest silence that `listen` is asked for.
    ///
    /// # Errors
    /// The TLS configuration cannot be used.
    pub fn new(peer: Dicom, linger: Duration) -> Result<Self, tls::TlsError> {
        Ok(Self {
            tls: peer
                .tls
                .as_ref()
                .map(|tls| tls::connector_of(Role::Commitment, peer.name.as_str(), tls))
                .transpose()?,
            peer: Arc::new(peer),
            linger,
        })
    }

    /// The peer of a destination's requests.
    ///
    /// # Errors
    /// As `new`.
    pub fn of(destination: &Dicom, config: &Config) -> Result<Self, tls::TlsError> {
        let mut peer = destination.clone();
        peer.host = config.host.clone().unwrap_or(peer.host);
        peer.port = config.port.unwrap_or(peer.port);
        peer.called_ae = config.called_ae.clone().unwrap_or(peer.called_ae);
        Self::new(peer, config.linger.0)
    }

    /// The certificates towards it, to be watched and shown.
    #[must_use]
    pub fn certificates(&self) -> Option<&Arc<Slot>> {
        self.tls.as_ref().map(Connector::slot)
    }

    /// The same peer, called from and by other AE titles.
    #[must_use]
    pub fn titled(&self, calling: AeTitle, called: AeTitle) -> Self {
        let mut peer = (*self.peer).clone();
        (peer.calling_ae, peer.called_ae) = (calling, called);
        Self {
            peer: Arc::new(peer),
            ..self.clone()
        }
    }

    /// Opens an association with the one context.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn open(&self, side: Side) -> Result<Call, CallError> {
        let (stream, line) = transport::connect((&self.peer, self.tls.as_ref()), None, &Progress::new()).await?;
        let address = line.address();
        drop(line);
        let class = Uid::known(CLASS);
        let contexts = [(class.clone(), SYNTAXES.map(Uid::known).to_vec())];
        let roles = match side {
            Side::User => Vec::new(),
            Side::Provider => vec![RoleSelection {
                class: class.clone(),
                scu: false,
                scp: true,
            }],
        };
        let local = Local {
            max_pdu: self.peer.max_pdu,
            implementation_class_uid: Uid::known(IMPLEMENTATION_CLASS_UID),
            implementation_version: IMPLEMENTATION_VERSION.to_owned(),
            window: 1,
        };
        let mut timeouts = self.peer.deadlines();
        timeouts.response = timeouts.response.max(self.linger + Duration::from_secs(1));
        let titles = (&self.peer.calling_ae, &self.peer.called_ae);
        let association = Association::request_as(stream, titles, (&contexts, &roles), &local, timeouts).await;
        let association = match association {
            Ok(association) => association,
            Err(error) if self.tls.is_none() => {
                let asked = wrong_port::of_request(&error, address).await;
                return Err(asked.unwrap_or_else(|| down(&error)).into());
            }
            Err(error) => return Err(down(&error).into()),
        };
        let accepted = association.contexts().iter().find(|context| context.result.is_ok());
        let Some((context, Ok(syntax))) = accepted.map(|context| (context.id, context.result.clone())) else {
            drop(association.release().await);
            return Err(CallError::Refused("the peer takes no storage commitment"));
        };
        // A peer that answers no role at all usually means well; one that says no is not reported to.
        if side == Side::Provider && association.role(&class).is_some_and(|role| !role.scp) {
            drop(association.release().await);
            return Err(CallError::Refused(
                "the peer does not let us be the provider of storage commitment",
            ));
        }
        Ok(Call {
            association,
            context,
            syntax,
            message_id: 0,
            early: VecDeque::new(),
        })
    }
}

impl Call {
    /// Makes a request; answers the status.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn ask(&mut self, action: &Action) -> Result<u16, CallError> {
        let request = self.request(words::REQUEST);
        let message_id = request.message_id;
        let bytes = words::write_action(&self.syntax, action);
        self.say(&Command::ActionRq(request), &bytes).await?;
        die_at(Moment::AskSent);
        loop {
            match self.hear().await? {
                Command::ActionRsp(answer) if answer.message_id == message_id => return Ok(answer.status),
                Command::EventRq(event) => {
                    let heard = self.heard(event).await?;
                    self.early.push_back(heard);
                }
                _ => return Err(CallError::Broken("it answered with another message".to_owned())),
            }
        }
    }

    /// Waits so long for an N-EVENT-REPORT; `None` when none comes, or the peer ends the association.
    pub async fn listen(&mut self, wait: Duration) -> Option<Heard> {
        if let Some(heard) = self.early.pop_front() {
            return Some(heard);
        }
        let heard = async {
            match self.hear().await.ok()? {
                Command::EventRq(event) => self.heard(event).await.ok(),
                _ => None,
            }
        };
        timeout(wait, heard).await.ok().flatten()
    }

    /// Answers what was heard.
    ///
    /// # Errors
    /// See `CallError`: the peer may say it again.
    pub async fn answer(&mut self, heard: &Heard, status: u16) -> Result<(), CallError> {
        let answer = Command::EventRsp(heard.request.answer(status, None));
        self.association.send(self.context, &answer).await.map_err(broken)
    }

    /// Reports; answers the status.
    ///
    /// # Errors
    /// See `CallError`: the source may not have understood.
    pub async fn report(&mut self, report: &Report) -> Result<u16, CallError> {
        let request = self.request(report.event_type());
        let message_id = request.message_id;
        let bytes = words::write_report(&self.syntax, report);
        self.say(&Command::EventRq(request), &bytes).await?;
        die_at(Moment::ReportSent);
        match self.hear().await? {
            Command::EventRsp(answer) if answer.message_id == message_id => Ok(answer.status),
            _ => Err(CallError::Broken("it answered with another message".to_owned())),
        }
    }

    /// Ends the association in order; what was said stands in any case.
    pub async fn release(self) {
        drop(self.association.release().await);
    }

    fn request(&mut self, kind: u16) -> Asked {
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        Asked {
            message_id: self.message_id,
            class: Some(Uid::known(CLASS)),
            instance: Some(Uid::known(INSTANCE)),
            kind: Some(kind),
            has_data_set: true,
        }
    }

    async fn say(&mut self, command: &Command, data_set: &[u8]) -> Result<(), CallError> {
        self.association.send(self.context, command).await.map_err(broken)?;
        let mut writer = self.association.data_set(self.context);
        writer.write(data_set).await.map_err(broken)?;
        writer.finish().await.map_err(broken)
    }

    async fn hear(&mut self) -> Result<Command, CallError> {
        match self.association.next().await.map_err(broken)? {
            Event::Command { command, .. } => {
                if let Command::ActionRsp(told) | Command::EventRsp(told) = &command
                    && told.has_data_set
                {
                    self.data_set().await?;
                }
                Ok(command)
            }
            Event::Malformed { .. } => Err(CallError::Broken("a command that is not readable".to_owned())),
            Event::Release => Err(CallError::Broken("it asked for release".to_owned())),
        }
    }

    async fn heard(&mut self, request: Asked) -> Result<Heard, CallError> {
        let bytes = self.data_set().await?;
        let report = read_event(&request, &self.syntax, &bytes);
        Ok(Heard { request, report })
    }

    async fn data_set(&mut self) -> Result<Vec<u8>, CallError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.association.data().await.map_err(broken)? {
            if bytes.len() + piece.len() > DATA_SET_MAX {
                return Err(CallError::Broken("a data set that does not end".to_owned()));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// What an N-EVENT-REPORT says, or the status that it deserves.
///
/// # Errors
/// The status.
pub fn read_event(request: &Asked, syntax: &Uid, bytes: &[u8]) -> Result<Report, u16> {
    if !matches!(request.kind, Some(words::ALL_COMMITTED | words::FAILURES_EXIST)) {
        return Err(words::NO_SUCH_EVENT_TYPE);
    }
    words::read_report(syntax, bytes).map_err(words::Fault::status)
}

fn broken(error: UlError) -> CallError {
    CallError::Broken(error.to_string())
}

impl CallError {
    /// Whether the peer was not reached: nothing was said to it.
    #[must_use]
    pub fn is_down(&self) -> bool {
        match self {
            Self::Down(_) => true,
            Self::Refused(_) | Self::Broken(_) => false,
        }
    }

    /// The stage at which it was not reached.
    #[must_use]
    pub fn stage(&self) -> Option<DownKind> {
        match self {
            Self::Down(down) => Some(down.kind),
            Self::Refused(_) | Self::Broken(_) => None,
        }
    }
}
