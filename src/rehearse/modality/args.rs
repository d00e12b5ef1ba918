//! `waystation send`: the command line of the rehearsed modality.
use super::{Failure, Options, Sent, Summary, echo, gather, send_items};
use crate::base::names::AeTitle;
use crate::pki::Files;
use crate::sender::tls::{self, Fingerprints};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Sends DICOM files to an archive, as a modality does.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// Where to: HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    pub to: Peer,
    /// The AE title that is called.
    #[arg(long, default_value = "WAYSTATION", value_parser = title)]
    pub called: AeTitle,
    /// The AE title that calls.
    #[arg(long, default_value = "MODALITY", value_parser = title)]
    pub calling: AeTitle,
    /// Use TLS; the peer's certificate must be signed by a CA in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Use TLS; the peer's certificate must have this SHA-256.
    #[arg(long, value_name = "SHA256")]
    pub tls_fingerprint: Option<String>,
    /// Our certificate, for a peer that asks for one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The key of our certificate.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// The name that must stand in the peer's certificate, when it is not the host.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Parallel associations.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub associations: u16,
    /// Instances in one association; 0: no limit.
    #[arg(long, default_value_t = 0)]
    pub batch: usize,
    /// Send everything so many times.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Seconds to wait for an answer to a stored instance.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Only verify the connection with C-ECHO.
    #[arg(long)]
    pub echo: bool,
    /// Files, or folders of which every DICOM file is sent.
    #[arg(value_name = "FILE|FOLDER", required_unless_present = "echo")]
    pub files: Vec<PathBuf>,
}

/// Host and port; an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    host: String,
    port: u16,
}

impl std::str::FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("the port is missing, as 104 in pacs:104")?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or("after the last colon comes a port, 1 to 65535")?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bracketed.unwrap_or(host) {
            "" => Err("the host is missing, as pacs in pacs:104"),
            address if bracketed.is_none() && address.contains(':') => {
                Err("an IPv6 address stands in brackets, as in [::1]:104")
            }
            host => Ok(Self {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

fn title(text: &str) -> Result<AeTitle, String> {
    AeTitle::parse(text).map_err(|error| format!("an AE title that {error}"))
}

/// Arguments that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArgumentError {
    #[error("certificates are given, but nothing says how to know the peer: add --tls-ca or --tls-fingerprint")]
    Trust,
}

impl SendArgs {
    /// The options that these arguments mean.
    ///
    /// # Errors
    /// See `ArgumentError`.
    pub fn options(&self) -> Result<Options, ArgumentError> {
        let Peer { host, port } = &self.to;
        let mut options = Options::new(host, *port, self.called.clone(), self.calling.clone());
        let wants_tls = self.tls_ca.is_some() || self.tls_fingerprint.is_some();
        if !wants_tls && (self.tls_certificate.is_some() || self.server_name.is_some()) {
            return Err(ArgumentError::Trust);
        }
        options.tls = wants_tls.then(|| tls::Config {
            ca: Files(self.tls_ca.iter().cloned().collect()),
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
            server_name: self.server_name.clone(),
            fingerprint: Fingerprints(self.tls_fingerprint.iter().cloned().collect()),
            ..tls::Config::default()
        });
        options.associations = self.associations.into();
        options.batch = self.batch;
        options.repeat = usize::try_from(self.repeat).unwrap_or(usize::MAX);
        options.files.clone_from(&self.files);
        options.timeouts.response = Duration::from_secs(self.timeout);
        Ok(options)
    }
}

/// What `waystation send` did: its last line, and whether the exit code is 0.
#[derive(Debug)]
pub enum Done {
    Sent(Summary),
    Echoed(Result<Duration, Failure>),
}

impl Done {
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Sent(summary) => summary.is_complete(),
            Self::Echoed(result) => result.is_ok(),
        }
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sent(summary) => summary.fmt(f),
            Self::Echoed(Ok(took)) => write!(f, "C-ECHO answered in {:.1} ms", took.as_secs_f64() * 1e3),
            Self::Echoed(Err(failure)) => write!(f, "C-ECHO failed: {failure}"),
        }
    }
}

/// Runs the command: a progress bar on a terminal, a line on standard error for each file that failed.
/// The caller prints the answer and exits non-zero unless it `is_success`.
///
/// # Errors
/// See `ArgumentError`.
pub async fn run(args: &SendArgs) -> Result<Done, ArgumentError> {
    let options = args.options()?;
    if args.echo {
        return Ok(Done::Echoed(echo(&options).await));
    }
    let files = options.files.clone();
    let gathered = tokio::task::spawn_blocking(move || gather(&files))
        .await
        .unwrap_or_default();
    let total = (gathered.items.len() * options.repeat) as u64;
    // Hidden by itself when standard error is no terminal.
    let bar = ProgressBar::new(total).with_style(style());
    let shown = bar.clone();
    let summary = send_items(&options, gathered, move |sent| show(&shown, sent)).await;
    bar.finish_and_clear();
    Ok(Done::Sent(summary))
}

fn show(bar: &ProgressBar, sent: &Sent) {
    if sent.sop_instance.is_some() {
        bar.inc(1);
    }
    if let Err(failure) = &sent.result {
        let line = format!("{}: {failure}", sent.file.display());
        // Without standard error there is nobody to tell; the summary counts the file in any case.
        bar.suspend(|| writeln!(std::io::stderr(), "{line}").ok());
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_is_a_host_and_a_port() {
        for (text, host, port) in [("pacs:104", "pacs", 104), ("[::1]:11112", "::1", 11112)] {
            let peer = text.parse::<Peer>().unwrap();
            assert_eq!((peer.host.as_str(), peer.port), (host, port));
        }
        for (text, said) in [
            ("pacs", "the port is missing"),
            ("pacs:dicom", "comes a port"),
            ("pacs:0", "comes a port"),
            ("pacs:65536", "comes a port"),
            (":104", "the host is missing"),
            ("::1:104", "in brackets"),
        ] {
            let error = text.parse::<Peer>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
