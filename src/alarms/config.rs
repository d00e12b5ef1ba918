//! `[alarms]` of the configuration: thresholds, who is told, and how.
use super::habits::Window;
use super::kind::{Kind, Severity};
use crate::base::names::SourceId;
use crate::base::units::Span;
use crate::pki::Sources;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[alarms]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often the box looks at itself.
    pub interval: Span,
    /// Kinds that are not watched.
    pub off: Vec<Kind>,
    pub destination_down_after: Span,
    /// The disk is full within this at the observed rates: a ticket, or a page when it is `disk_full_page`.
    pub disk_full_within: Span,
    pub disk_full_page: Span,
    pub suspended_after: Span,
    pub holds_after: Span,
    /// The rule folder, or certificate files, are not what is in force.
    pub rules_stale_after: Span,
    /// A destination has not committed what it was sent.
    pub commitment_after: Span,
    /// Silent for so much of its usual time.
    pub silence_after: Span,
    /// Weeks that must have been watched before an hour counts as usual.
    pub silence_weeks: u8,
    /// Days on which nobody is missed, `YYYY-MM-DD`.
    pub holidays: Vec<String>,
    /// The site's IANA time zone, for hours of the week and times in messages. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// An incident is over when nothing of it was seen for this long; longer when it keeps coming back.
    pub resolve_after: Span,
    /// What begins within this has one cause.
    pub group_within: Span,
    pub remind_every: Span,
    /// Where the runbook is, for the links in messages.
    pub runbook: String,
    /// Exceptions from learned silence.
    pub silence: Vec<Silence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    pub webhooks: Vec<Webhook>,
}

/// `[[alarms.silence]]`: one source whose silence is not learned.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    pub source: SourceId,
    /// When it is expected to send; empty: never missed.
    #[serde(default)]
    pub hours: Vec<Window>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
}

/// How a mail server is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// STARTTLS; nothing is said before.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Plain, to this machine only.
    None,
}

/// `[alarms.mail]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub host: String,
    /// 587 for STARTTLS, 465 for TLS, 25 for plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default)]
    pub security: Security,
    pub from: String,
    pub to: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    #[serde(default = "system_authorities")]
    pub ca: PathBuf,
    #[serde(default = "everything")]
    pub severity: Severity,
    #[serde(default = "timeout")]
    pub timeout: Span,
}

/// `[[alarms.webhooks]]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its name in metrics and listings.
    pub name: String,
    pub url: String,
    /// A file with a header line, as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_file: Option<PathBuf>,
    /// A file with the secret that signs the body: HMAC-SHA256 in `X-Waystation-Signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_file: Option<PathBuf>,
    #[serde(default = "system_authorities")]
    pub ca: PathBuf,
    #[serde(default = "everything")]
    pub severity: Severity,
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn system_authorities() -> PathBuf {
    PathBuf::from("/etc/ssl/certs/ca-certificates.crt")
}

fn everything() -> Severity {
    Severity::Ticket
}

fn timeout() -> Span {
    Span::secs(30)
}

const HOUR: u64 = 3_600;

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::secs(5),
            off: Vec::new(),
            destination_down_after: Span::secs(600),
            disk_full_within: Span::secs(12 * HOUR),
            disk_full_page: Span::secs(4 * HOUR),
            suspended_after: Span::secs(4 * HOUR),
            holds_after: Span::secs(HOUR),
            rules_stale_after: Span::secs(300),
            commitment_after: Span::secs(24 * HOUR),
            silence_after: Span::secs(2 * HOUR),
            silence_weeks: 4,
            holidays: Vec::new(),
            timezone: None,
            resolve_after: Span::secs(300),
            group_within: Span::secs(300),
            remind_every: Span::secs(24 * HOUR),
            runbook: "/usr/share/doc/waystation/guide/runbook.md".to_owned(),
            silence: Vec::new(),
            mail: None,
            webhooks: Vec::new(),
        }
    }
}

impl Config {
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        match &self.timezone {
            // `check` has refused a name that is none.
            Some(name) => TimeZone::get(name).unwrap_or(TimeZone::UTC),
            None => TimeZone::try_system().unwrap_or(TimeZone::UTC),
        }
    }

    #[must_use]
    pub fn watches(&self, kind: Kind) -> bool {
        !self.off.contains(&kind)
    }

    /// The site's own authorities of mail server and webhooks, by channel. The system's bundle is not the site's to renew.
    #[must_use]
    pub fn authorities(&self) -> Vec<(String, Sources)> {
        let mail = self.mail.iter().filter(|mail| mail.security != Security::None);
        let mail = mail.map(|mail| (MAIL, &mail.ca));
        let hooks = self.webhooks.iter().filter(|hook| hook.url.starts_with("https:"));
        let hooks = hooks.map(|hook| (hook.name.as_str(), &hook.ca));
        let own = mail.chain(hooks).filter(|(_, ca)| **ca != system_authorities());
        own.map(|(name, ca)| (name.to_owned(), Sources::of_authority(ca)))
            .collect()
    }

    /// Relations between keys, and files that must be there; sentences begin with the key. Reads the secrets' files.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let spans = [
            ("interval", self.interval),
            ("resolve_after", self.resolve_after),
            ("remind_every", self.remind_every),
        ];
        for (key, span) in spans {
            if span.0.is_zero() {
                problems.push(format!("`{key}` is 0: it must be a time"));
            }
        }
        if self.interval > Span::secs(60) {
            problems.push("`interval` is longer than 1min: rates and silence could not be told".to_owned());
        }
        if let Some(name) = &self.timezone
            && TimeZone::get(name).is_err()
        {
            problems.push("`timezone` is no IANA time zone, such as \"America/Chicago\"".to_owned());
        }
        if self.silence_weeks == 0 || self.silence_weeks > 12 {
            problems.push("`silence_weeks` must be 1 to 12: so many weeks are remembered".to_owned());
        }
        for (index, text) in self.holidays.iter().enumerate() {
            if text.parse::<jiff::civil::Date>().is_err() {
                problems.push(format!("`holidays[{index}]` is no day: write it as 2026-12-25"));
            }
        }
        if let Some(mail) = &self.mail {
            problems.extend(
                super::mail::faults(mail)
                    .into_iter()
                    .map(|(key, words)| format!("`mail.{key}` {words}")),
            );
        }
        for (index, hook) in self.webhooks.iter().enumerate() {
            let twice = self.webhooks[..index].iter().any(|other| other.name == hook.name);
            if twice || hook.name == MAIL || !is_name(&hook.name) {
                problems.push(format!(
                    "`webhooks[{index}].name` must be 1 to 32 of a-z, 0-9, `_`, `-`, another than the other webhooks have, and not `mail`"
                ));
            }
            problems.extend(
                super::webhook::faults(hook)
                    .into_iter()
                    .map(|(key, words)| format!("`webhooks[{index}].{key}` {words}")),
            );
        }
        problems
    }
}

/// The mail's name among the channels.
pub const MAIL: &str = "mail";

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}
