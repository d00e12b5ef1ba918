//! Storage commitment on an association that a peer opened: N-ACTION from a source, N-EVENT-REPORT from an archive, and our own
//! reports to a source whose association is still open. What they mean is decided behind the `Desk`; this room knows only who
//! may say what, and keeps the messages apart from the images'.
mod config;
mod line;

pub use config::{Config, Policy, archive};
pub use line::{Line, Lines};

use self::line::{Mailbox, Outgoing};
use super::config::SourceConfig;
use crate::base::fault::{Moment, die_at};
use crate::base::names::{AeTitle, DestinationId, SourceId, Uid};
use crate::dicom::association::{Association, Context, RoleSelection, Stream, UlError};
use crate::dicom::commitment::{self as words, Action, CLASS, DATA_SET_MAX, INSTANCE, Report};
use crate::dicom::dimse::{Asked, Command, Told};
use crate::dicom::status;
use crate::sender::commitment::read_event;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The answer to a negotiated context of storage commitment, if it is one: taken when the peer may ask or report.
#[must_use]
pub fn negotiate(context: &crate::dicom::association::Proposed, source: &SourceConfig) -> Option<Context> {
    if context.abstract_syntax.as_str() != CLASS {
        return None;
    }
    let ours = |syntax: &&Uid| words::SYNTAXES.contains(&syntax.as_str());
    let result = match context.transfer_syntaxes.iter().find(ours) {
        _ if !takes_reports(source) && source.speaks_for.is_empty() => Err(ABSTRACT_SYNTAX_NOT_SUPPORTED),
        None => Err(TRANSFER_SYNTAXES_NOT_SUPPORTED),
        Some(syntax) => Ok(syntax.clone()),
    };
    Some(Context {
        id: context.id,
        abstract_syntax: context.abstract_syntax.clone(),
        result,
    })
}

/// PS3.8 table 9-18.
const ABSTRACT_SYNTAX_NOT_SUPPORTED: u8 = 3;
const TRANSFER_SYNTAXES_NOT_SUPPORTED: u8 = 4;

/// The roles that are answered: a source may be user, an archive provider. Roles of other classes keep their defaults.
#[must_use]
pub fn roles(proposed: &[RoleSelection], calling: &AeTitle, source: &SourceConfig) -> Vec<RoleSelection> {
    let reports = source.speaks_for.iter().any(|(title, _)| title == calling);
    let answer = |role: &RoleSelection| RoleSelection {
        class: role.class.clone(),
        scu: role.scu && takes_reports(source),
        scp: role.scp && reports,
    };
    let ours = proposed.iter().filter(|role| role.class.as_str() == CLASS);
    // Neither role is no answer: the defaults hold.
    let granted = |role: &RoleSelection| role.scu || role.scp;
    ours.take(1).map(answer).filter(granted).collect()
}

/// Whether it takes our answers on its own associations: also where it may ask no more, for what it asked before.
fn takes_reports(source: &SourceConfig) -> bool {
    !source.only_reports && (may_ask(source) || source.is_owed)
}

fn may_ask(source: &SourceConfig) -> bool {
    !source.only_reports && source.commitment.policy != Policy::Refuse
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Takes a source's request, durably; or the status and words that refuse it.
pub type Request = Arc<dyn Fn(Requester, Action) -> Boxed<Result<(), (u16, &'static str)>> + Send + Sync>;
/// Takes an archive's answer, durably; the status that it is answered with.
pub type Take = Arc<dyn Fn(SourceId, Vec<DestinationId>, Report) -> Boxed<u16> + Send + Sync>;

/// What stands behind all listeners.
#[derive(Clone)]
pub struct Desk {
    pub request: Request,
    pub take: Take,
    /// Whether a source is still to be told what it asked.
    pub owes: Arc<dyn Fn(&SourceId) -> bool + Send + Sync>,
    pub arrivals: Arrivals,
    pub lines: Lines,
}

/// Who asks.
pub struct Requester {
    pub source: SourceConfig,
    pub calling: AeTitle,
    pub called: AeTitle,
    /// The way back over the association at hand.
    pub line: Line,
}

/// When each source last sent an instance, so that one that is still coming is waited for.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<BySource>>);

/// How many instances are coming now, and when the last one ended.
type BySource = BTreeMap<SourceId, (usize, Option<Instant>)>;

/// An instance that is coming in.
pub struct Arriving(Arrivals, SourceId);

impl Arrivals {
    /// One begins to come.
    #[must_use]
    pub fn begin(&self, source: &SourceId) -> Arriving {
        self.lock().entry(source.clone()).or_default().0 += 1;
        Arriving(self.clone(), source.clone())
    }

    /// For how long nothing has come from a source; `None` when nothing ever did.
    #[must_use]
    pub fn quiet(&self, source: &SourceId) -> Option<Duration> {
        match self.lock().get(source)? {
            (0, last) => last.map(|at| at.elapsed()),
            _ => Some(Duration::ZERO),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BySource> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some((coming, last)) = self.0.lock().get_mut(&self.1) {
            *coming = coming.saturating_sub(1);
            *last = Some(Instant::now());
        }
    }
}

/// Storage commitment on one association.
pub struct Exchange {
    desk: Desk,
    line: Line,
    mailbox: Mailbox,
    /// The one report that the peer has not answered yet: no asynchronous operations are negotiated.
    under_way: Option<(u16, oneshot::Sender<u16>)>,
    message_id: u16,
    context: Option<(u8, Uid)>,
}

impl Exchange {
    /// For an association with these contexts.
    #[must_use]
    pub fn new(desk: &Desk, contexts: &[Context], source: &SourceConfig, calling: &AeTitle) -> Self {
        let (line, mailbox) = line::open();
        let ours = |context: &Context| match &context.result {
            Ok(syntax) if context.abstract_syntax.as_str() == CLASS => Some((context.id, syntax.clone())),
            _ => None,
        };
        let context = contexts.iter().find_map(ours);
        if context.is_some() && takes_reports(source) {
            desk.lines.add(&source.name, calling, &line);
        }
        Self {
            desk: desk.clone(),
            line,
            mailbox,
            under_way: None,
            message_id: 0,
            context,
        }
    }

    /// One instance begins to come.
    #[must_use]
    pub fn arriving(&self, source: &SourceId) -> Arriving {
        self.desk.arrivals.begin(source)
    }

    /// Completes when a report is to be sent now. Cancel-safe; what it answers goes to `send`.
    async fn due(&mut self) -> Outgoing {
        if self.under_way.is_some() {
            return std::future::pending().await;
        }
        self.mailbox.next().await
    }

    /// Sends what is due until something else happens on the association.
    pub async fn event<S: Stream>(
        &mut self,
        association: &mut Association<S>,
    ) -> Result<crate::dicom::association::Event, UlError> {
        // The last message is answered, or the association has just opened.
        self.mailbox.rest();
        loop {
            let outgoing = tokio::select! {
                biased;
                event = association.next() => return event,
                outgoing = self.due() => outgoing,
            };
            self.send(association, outgoing).await?;
        }
    }

    async fn send<S: Stream>(&mut self, association: &mut Association<S>, outgoing: Outgoing) -> Result<(), UlError> {
        let Some((context, syntax)) = self.context.clone() else {
            return Ok(());
        };
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        let request = Asked {
            message_id: self.message_id,
            class: Some(Uid::known(CLASS)),
            instance: Some(Uid::known(INSTANCE)),
            kind: Some(outgoing.report.event_type()),
            has_data_set: true,
        };
        self.under_way = Some((request.message_id, outgoing.done));
        association.send(context, &Command::EventRq(request)).await?;
        let mut writer = association.data_set(context);
        writer.write(&words::write_report(&syntax, &outgoing.report)).await?;
        writer.finish().await?;
        die_at(Moment::ReportSent);
        Ok(())
    }

    /// The peer's answer to our report.
    pub async fn answered<S: Stream>(&mut self, association: &mut Association<S>, told: &Told) -> Result<(), UlError> {
        if told.has_data_set {
            read(association).await?;
        }
        match self.under_way.take() {
            Some((message_id, done)) if message_id == told.message_id => {
                // Whoever waited may have given up.
                let _ = done.send(told.status);
                Ok(())
            }
            _ => Err(UlError::Protocol("an answer without a request")),
        }
    }

    /// N-ACTION: a request for commitment.
    pub async fn request<S: Stream>(
        &mut self,
        association: &mut Association<S>,
        (source, calling, called): (&SourceConfig, &AeTitle, &AeTitle),
        context: u8,
        asked: Asked,
    ) -> Result<(), UlError> {
        let bytes = match asked.has_data_set {
            true => read(association).await?,
            false => Some(Vec::new()),
        };
        let judged = self.action(source, context, &asked, bytes.as_deref());
        let outcome = match judged {
            Err(refusal) => Err(refusal),
            Ok(action) => {
                let requester = Requester {
                    source: source.clone(),
                    calling: calling.clone(),
                    called: called.clone(),
                    line: self.line.clone(),
                };
                (self.desk.request)(requester, action).await
            }
        };
        let answer = match outcome {
            Ok(()) => asked.answer(status::SUCCESS, None),
            Err((status, comment)) => {
                tracing::warn!(source = %source.name, status = %format_args!("{status:04X}"), comment, "a request for storage commitment is refused");
                asked.answer(status, Some(comment))
            }
        };
        association.send(context, &Command::ActionRsp(answer)).await?;
        die_at(Moment::DemandAccepted);
        Ok(())
    }

    /// What is asked, or the status and the words that it deserves.
    fn action(
        &self,
        source: &SourceConfig,
        context: u8,
        asked: &Asked,
        bytes: Option<&[u8]>,
    ) -> Result<Action, (u16, &'static str)> {
        let Some((_, syntax)) = self.context.as_ref().filter(|(id, _)| *id == context) else {
            return Err((words::NO_SUCH_CLASS, "context is not of storage commitment"));
        };
        if asked.class.as_ref().is_none_or(|class| class.as_str() != CLASS) {
            return Err((words::NO_SUCH_CLASS, "SOP class is not storage commitment"));
        }
        if asked
            .instance
            .as_ref()
            .is_none_or(|instance| instance.as_str() != INSTANCE)
        {
            return Err((words::NO_SUCH_INSTANCE, "not the well-known SOP instance"));
        }
        if asked.kind != Some(words::REQUEST) {
            return Err((words::NO_SUCH_ACTION, "Action Type ID is not 1"));
        }
        if !may_ask(source) {
            return Err((words::NOT_AUTHORISED, "this peer may not request commitment"));
        }
        let bytes = bytes.ok_or((words::RESOURCE_LIMITATION, "the list is too long"))?;
        words::read_action(syntax, bytes).map_err(|fault| (fault.status(), fault.comment()))
    }

    /// N-EVENT-REPORT: an archive's answer.
    pub async fn report<S: Stream>(
        &mut self,
        association: &mut Association<S>,
        (source, calling): (&SourceConfig, &AeTitle),
        context: u8,
        asked: Asked,
    ) -> Result<(), UlError> {
        let bytes = match asked.has_data_set {
            true => read(association).await?,
            false => Some(Vec::new()),
        };
        let ours = self.context.as_ref().filter(|(id, _)| *id == context);
        let status = match (ours, &bytes) {
            (None, _) => words::NO_SUCH_CLASS,
            (_, None) => words::RESOURCE_LIMITATION,
            (Some(_), _) if asked.class.as_ref().is_none_or(|class| class.as_str() != CLASS) => words::NO_SUCH_CLASS,
            (Some((_, syntax)), Some(bytes)) => match read_event(&asked, syntax, bytes) {
                Err(status) => status,
                Ok(report) => {
                    let titled = source.speaks_for.iter().filter(|(title, _)| title == calling);
                    let speaks_for = titled.map(|(_, destination)| destination.clone()).collect();
                    (self.desk.take)(source.name.clone(), speaks_for, report).await
                }
            },
        };
        association
            .send(context, &Command::EventRsp(asked.answer(status, None)))
            .await
    }
}

/// A data set of these messages, whole; `None` when it is longer than any that can be used, and was passed over.
async fn read<S: Stream>(association: &mut Association<S>) -> Result<Option<Vec<u8>>, UlError> {
    let mut bytes = Vec::new();
    let mut passed = 0;
    while let Some(piece) = association.data().await? {
        if bytes.len() + piece.len() > DATA_SET_MAX || passed > 0 {
            passed += piece.len();
            bytes = Vec::new();
            if passed > PASSED_MAX {
                return Err(UlError::Protocol("a data set that does not end"));
            }
        } else {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok((passed == 0).then_some(bytes))
}

/// Bytes of a list that is too long which are read, so that its status can be answered.
const PASSED_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(policy: &str) -> SourceConfig {
        let named = "name = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"0.0.0.0/0\"]";
        toml::from_str(&format!("{named}\n[commitment]\npolicy = \"{policy}\"")).expect("parses")
    }

    #[test]
    fn a_source_that_is_refused_now_is_still_told_what_it_asked_before() {
        let proposed = crate::dicom::association::Proposed {
            id: 1,
            abstract_syntax: Uid::known(CLASS),
            transfer_syntaxes: vec![Uid::known(words::SYNTAXES[0])],
        };
        let role = RoleSelection {
            class: Uid::known(CLASS),
            scu: true,
            scp: false,
        };
        let title = AeTitle::parse("CT1").expect("a title");
        let taken = |source: &SourceConfig| {
            let context = negotiate(&proposed, source).expect("of storage commitment");
            let roles = roles(std::slice::from_ref(&role), &title, source);
            (context.result.is_ok(), roles.len())
        };
        let mut source = source("refuse");
        assert_eq!(taken(&source), (false, 0));
        source.is_owed = true;
        assert_eq!(taken(&source), (true, 1));
        assert!(!may_ask(&source), "what it asks now is refused");
    }
}
