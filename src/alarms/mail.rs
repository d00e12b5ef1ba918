//! Mail: one message by SMTP, with STARTTLS, TLS, or plain to this machine only. The only door to lettre.
//!
//! The server is known by the authorities of `ca`; a password goes over TLS only. Files are read for each message, so that a new password
//! or authority needs no restart. Every attempt has a deadline; what the server says is kept short, because it is shown to people.
//!
//! A message goes to all at once. When the server does not want that, it goes to each by itself: one address that is refused keeps it from
//! nobody else, and is named.
use super::config::{Mail, Security};
use super::outbox::{Letter, Refusal};
use super::secret;
use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

/// Sends messages as configured. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mailer {
    config: Mail,
    node: String,
}

impl Mailer {
    pub(super) fn new(config: Mail, node: &str) -> Self {
        Self {
            config,
            node: node.to_owned(),
        }
    }

    /// One attempt to reach all who do not have it.
    ///
    /// # Errors
    /// Why the server did not take it, in words for the operator, and for whom.
    pub(super) async fn send(&self, letter: &Letter) -> Result<(), Refusal> {
        let message = self.message(letter)?.formatted();
        let configured = self.config.to.iter();
        let missing = |to: &&String| letter.to.is_empty() || letter.to.contains(to);
        let missing: Vec<String> = configured.filter(missing).cloned().collect();
        if missing.is_empty() {
            // Whoever lacked it is not to be told any more.
            return Ok(());
        }
        if missing.len() > 1 {
            match self.attempt(&message, &missing).await {
                Ok(()) => return Ok(()),
                Err(fault) if fault.answer == Answer::None => {
                    return Err(Refusal {
                        left: letter.to.clone(),
                        ..fault.words.into()
                    });
                }
                Err(_) => {}
            }
        }
        let (mut left, mut said, mut for_good) = (Vec::new(), Vec::new(), true);
        for to in &missing {
            if let Err(fault) = self.attempt(&message, std::slice::from_ref(to)).await {
                for_good &= fault.answer == Answer::Never;
                said.push(format!("{to}: {}", fault.words));
                left.push(to.clone());
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let some_have_it = left.len() < self.config.to.len();
        if some_have_it {
            said.push("the others have it".to_owned());
        }
        Err(Refusal {
            words: said.join("; "),
            for_good,
            left: if some_have_it { left } else { Vec::new() },
        })
    }

    async fn attempt(&self, message: &[u8], to: &[String]) -> Result<(), Fault> {
        let (from, to) = (address(&self.config.from)?, to.iter().map(|to| address(to)));
        let to: Vec<Address> = to.map(|to| to.map(|to| to.email)).collect::<Result<_, String>>()?;
        let envelope = Envelope::new(Some(from.email), to).map_err(|error| error.to_string())?;
        let (config, node) = (self.config.clone(), self.node.clone());
        let attempt = async move {
            let made = tokio::task::spawn_blocking(move || transport(&config, &node)).await;
            let transport = made.map_err(|_| "the attempt was cut off".to_owned())??;
            let sent = transport.send_raw(&envelope, message).await;
            sent.map(drop).map_err(|error| Fault::of(&error, self.config.security))
        };
        let within = self.config.timeout.0;
        let done = tokio::time::timeout(within, attempt).await;
        done.unwrap_or_else(|_| Err("the mail server did not answer in time".to_owned().into()))
    }

    fn message(&self, letter: &Letter) -> Result<Message, String> {
        let id = |name: &str| format!("<{name}@{}.waystation.invalid>", self.node);
        let mut builder = Message::builder()
            .from(address(&self.config.from)?)
            .subject(letter.subject.clone())
            .message_id(Some(id(&letter.name())))
            .header(ContentType::TEXT_PLAIN)
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if letter.thread() != letter.name() {
            // One thread for each incident.
            builder = builder
                .in_reply_to(id(&letter.thread()))
                .references(id(&letter.thread()));
        }
        for to in &self.config.to {
            builder = builder.to(address(to)?);
        }
        builder.body(letter.body.clone()).map_err(|error| error.to_string())
    }
}

fn address(text: &str) -> Result<Mailbox, String> {
    text.parse::<Mailbox>().map_err(|error| format!("{text}: {error}"))
}

/// What the server has said of a message and its recipients (RFC 5321, 4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// Nothing: it was not reached, or does not let us in.
    None,
    /// 4xx: it may take it later.
    Later,
    /// 5xx.
    Never,
}

#[derive(Debug)]
struct Fault {
    words: String,
    answer: Answer,
}

impl From<String> for Fault {
    fn from(words: String) -> Self {
        let answer = Answer::None;
        Self { words, answer }
    }
}

impl Fault {
    fn of(error: &lettre::transport::smtp::Error, security: Security) -> Self {
        let answer = match error.status().map(u16::from) {
            // It closes, or the log-in is not as it wants it (RFC 4954, 6).
            None | Some(421 | 432 | 454 | 530..=538) => Answer::None,
            Some(_) if error.is_permanent() => Answer::Never,
            Some(_) => Answer::Later,
        };
        Self {
            words: hinted(short(error), security),
            answer,
        }
    }
}

/// A server that says something in plain where TLS should begin is one of STARTTLS.
fn hinted(words: String, security: Security) -> String {
    if security == Security::Tls && words.contains("InvalidContentType") {
        format!(
            "{words}: it does not begin with TLS; `security = \"starttls\"` may be what the server wants on this port"
        )
    } else {
        words
    }
}

/// A transport of now. Blocking: it reads files.
fn transport(config: &Mail, node: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let (tls, usual) = match config.security {
        Security::None => (Tls::None, 25),
        Security::Starttls => (Tls::Required(parameters(config)?), 587),
        Security::Tls => (Tls::Wrapper(parameters(config)?), 465),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
        .port(config.port.unwrap_or(usual))
        .tls(tls)
        .hello_name(ClientId::Domain(node.to_owned()))
        .timeout(Some(config.timeout.0));
    if let (Some(user), Some(file)) = (&config.username, &config.password_file) {
        builder = builder.credentials(Credentials::new(user.clone(), secret::read(file)?));
    }
    Ok(builder.build())
}

fn parameters(config: &Mail) -> Result<TlsParameters, String> {
    let path = &config.ca;
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let unusable = |error: lettre::transport::smtp::Error| format!("{}: {error}", path.display());
    let authorities = Certificate::from_pem(&pem).map_err(unusable)?;
    TlsParameters::builder(config.host.clone())
        .certificate_store(CertificateStore::None)
        .add_root_certificate(authorities)
        .build()
        .map_err(unusable)
}

/// An error and its causes, in one short line.
fn short(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !words.contains(&said) {
            words += &format!(": {said}");
        }
        cause = inner.source();
    }
    let clean: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.chars().take(ERROR_MAX).collect()
}

const ERROR_MAX: usize = 240;

/// What is wrong with the configuration, by key. Reads the files.
pub(super) fn faults(config: &Mail) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if config.host.is_empty() {
        found.push(("host", "is empty".to_owned()));
    }
    if config.from.parse::<Mailbox>().is_err() {
        found.push(("from", "is no mail address".to_owned()));
    }
    if config.to.is_empty() {
        found.push(("to", "must hold one mail address or more".to_owned()));
    }
    let wrong = config.to.iter().filter(|to| to.parse::<Mailbox>().is_err());
    found.extend(wrong.map(|to| ("to", format!("`{to}` is no mail address"))));
    if config.timeout.0.is_zero() {
        found.push(("timeout", "is 0: nothing could be sent".to_owned()));
    }
    let plain = config.security == Security::None;
    if plain && !is_local(&config.host) {
        let words = "is \"none\", which is for a mail server on this machine only: use \"starttls\" or \"tls\"";
        found.push(("security", words.to_owned()));
    }
    match (&config.username, &config.password_file) {
        (Some(_), Some(file)) => found.extend(secret::read(file).err().map(|words| ("password_file", words))),
        (None, None) => {}
        (Some(_), None) => found.push(("password_file", "is missing: `username` needs it".to_owned())),
        (None, Some(_)) => found.push(("username", "is missing: `password_file` needs it".to_owned())),
    }
    if !plain {
        found.extend(parameters(config).err().map(|words| ("ca", words)));
    }
    found
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
