//! What an operator can ask of the alarms, and the answers, as they go over the control socket.
use super::incident::{Incident, News};
use super::silencing::Meant;
use super::text::{self, Context};
use crate::base::units::Span;
use serde::{Deserialize, Serialize};

/// One question or order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    List,
    /// Somebody takes an incident.
    Ack {
        incident: u64,
        reason: String,
    },
    /// Nothing is told for a time.
    Silence {
        meant: Meant,
        span: Span,
        reason: String,
    },
    Unsilence {
        meant: Meant,
    },
    /// A message to every channel, now.
    Test,
}

/// What is open and what is silenced.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    pub incidents: Vec<Row>,
    pub silences: Vec<SilenceRow>,
    pub channels: Vec<ChannelRow>,
}

/// An open incident.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub incident: u64,
    pub kind: String,
    pub severity: String,
    pub since: String,
    pub title: String,
    /// `open`, `acknowledged` or `silenced`.
    pub state: String,
    pub affected: Vec<String>,
    pub acknowledged_by: Option<String>,
    pub reason: Option<String>,
    pub runbook: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SilenceRow {
    pub meant: String,
    pub until: String,
    pub who: String,
    pub reason: String,
}

/// A way to people.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelRow {
    pub name: String,
    pub waiting: usize,
    /// Why the oldest message that was tried and waits was not taken at its last attempt.
    pub error: Option<String>,
}

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "alarms", rename_all = "snake_case")]
pub enum Answer {
    Listing(Listing),
    Done {
        message: String,
    },
    /// What each channel said to a test.
    Tested {
        channels: Vec<ChannelRow>,
    },
}

/// The longest reason that is kept.
const REASON_MAX: usize = 500;

/// A reason that says something.
///
/// # Errors
/// It is empty.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("say why, with --reason: whoever comes next wants to know".to_owned());
    }
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok(clean.chars().take(REASON_MAX).collect())
}

pub(super) fn row(incident: &Incident, silenced: bool, context: &Context<'_>) -> Row {
    let state = match (&incident.taken, silenced) {
        (_, true) => "silenced",
        (Some(_), false) => "acknowledged",
        (None, false) => "open",
    };
    Row {
        incident: incident.id,
        kind: incident.kind.word().to_owned(),
        severity: incident.severity().word().to_owned(),
        since: context.iso(incident.since),
        title: text::title(incident),
        state: state.to_owned(),
        affected: incident
            .active()
            .map(|(subject, affected)| format!("{subject}: {}", affected.detail))
            .collect(),
        acknowledged_by: incident.taken.as_ref().map(|taken| taken.who.clone()),
        reason: incident.taken.as_ref().map(|taken| taken.reason.clone()),
        runbook: context.link(incident.kind),
    }
}

/// The word of the log.
pub(super) fn word(news: News) -> &'static str {
    match news {
        News::Opened => "opened",
        News::Worse => "worse",
        News::Wider => "wider",
        News::Reminder => "reminder",
        News::Resolved => "resolved",
        News::Test => "test",
    }
}
