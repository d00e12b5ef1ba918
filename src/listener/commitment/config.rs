//! `commitment` of a source: what this box promises it, and where its answers go. And the archives that may answer, as sources.
use crate::base::names::{AeTitle, DestinationId, SourceId};
use crate::base::units::Span;
use crate::listener::config::SourceConfig;
use crate::sender;
use crate::spool::commitment::Level;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `commitment` of a source: what this box promises it, and where its answers go.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What "committed" means in an answer to it.
    pub policy: Policy,
    /// Where it takes answers once its association is gone. Without host and port they wait until it associates again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The AE title to call there, when that is not the one that it asked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_ae: Option<AeTitle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<sender::tls::Config>,
    /// How long an instance that has not come is waited for, from the request or from the source's last instance.
    pub arrives_within: Span,
    /// How long destinations are waited for; what is not there then is answered as failed (0110).
    pub answer_within: Span,
    /// How long an answer is tried to be delivered.
    pub retry_for: Span,
    /// The longest pause between two tries (they start at one second).
    pub retry_max: Span,
    /// Requests that it may have open at once. One more is refused (0213).
    pub max_open: usize,
    /// Written into answers as Retrieve AE Title: where the committed instances can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieve_ae: Option<AeTitle>,
}

/// What "committed" means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Safe in the spool of this box.
    Edge,
    /// Every destination that the instance was routed to has it on its word.
    #[default]
    EndToEnd,
    /// Storage commitment is refused.
    Refuse,
}

impl Policy {
    /// The level of the answers; `None` when there are none.
    #[must_use]
    pub fn level(self) -> Option<Level> {
        match self {
            Self::Edge => Some(Level::Edge),
            Self::EndToEnd => Some(Level::EndToEnd),
            Self::Refuse => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::EndToEnd,
            host: None,
            port: None,
            called_ae: None,
            tls: None,
            arrives_within: Span::secs(10),
            answer_within: Span::secs(3 * 86_400),
            retry_for: Span::secs(7 * 86_400),
            retry_max: Span::secs(600),
            max_open: 1_000,
            retrieve_ae: None,
        }
    }
}

impl Config {
    /// Relations between keys, as sentences that say what to do.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match (&self.host, self.port) {
            (Some(_), None) => problems.push("`commitment.port` is missing: `host` needs it".to_owned()),
            (None, Some(_)) => problems.push("`commitment.host` is missing: `port` needs it".to_owned()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.port == Some(0) {
            problems.push("`commitment.port` must be 1 to 65535".to_owned());
        }
        if let Some(fault) = self.host.as_deref().and_then(sender::config::host_fault) {
            problems.push(format!("`commitment.host` {fault}"));
        }
        if self.tls.is_some() && self.host.is_none() {
            problems.push("`commitment.tls` has no use without `commitment.host`".to_owned());
        }
        if self.max_open == 0 {
            problems.push("`commitment.max_open` is 0: write policy = \"refuse\" instead".to_owned());
        }
        if self.retry_max.0 < Duration::from_secs(1) {
            problems.push("`commitment.retry_max` must be at least 1s".to_owned());
        }
        problems
    }
}

/// The peer of a destination's answers as a source of its own, which may say nothing else. `None` when no network is named.
#[must_use]
pub fn archive(destination: &sender::Dicom) -> Option<SourceConfig> {
    let config = destination.commitment.as_ref()?;
    if config.addresses.is_empty() {
        return None;
    }
    let title = caller(destination)?;
    let plain = plain_source(&destination.name, &title);
    Some(SourceConfig {
        addresses: config.addresses.clone(),
        certificate_fingerprints: config.certificate_fingerprints.clone(),
        certificate_names: config.certificate_names.clone(),
        speaks_for: vec![(title, destination.name.clone())],
        only_reports: true,
        ..plain
    })
}

/// The AE title that a destination's answers come from.
fn caller(destination: &sender::Dicom) -> Option<AeTitle> {
    let config = destination.commitment.as_ref()?;
    let title = config.calling_ae.as_ref().or(config.called_ae.as_ref());
    Some(title.unwrap_or(&destination.called_ae).clone())
}

fn plain_source(name: &DestinationId, title: &AeTitle) -> SourceConfig {
    SourceConfig {
        // A destination's name obeys the same rules.
        name: SourceId::parse(name.as_str()).unwrap_or_else(|_| unreachable!("names have one grammar")),
        calling_ae: vec![title.clone()],
        addresses: Vec::new(),
        certificate_fingerprints: Vec::new(),
        certificate_names: Vec::new(),
        max_associations: 8,
        unknown_classes: false,
        repeat: crate::listener::Repeat::Acknowledge,
        charset: None,
        commitment: Config::default(),
        speaks_for: Vec::new(),
        only_reports: false,
        is_owed: false,
    }
}
