//! Log lines to standard error, for people or as JSON, one line each. Set up once by the command line before anything runs.
//!
//! A message is a constant, variables are fields, and no field carries a data-set value: rooms keep those in `Phi`.
//! The crates below us know nothing of that rule and may print what a peer sent, so they are never heard below WARN,
//! whatever the level; `RUST_LOG` is not read.
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// `[log]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub format: Format,
    pub level: Level,
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people and the journal.
    #[default]
    Human,
    /// One JSON object a line, for log collectors.
    Json,
}

/// What is heard of the box itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Data at risk, or a person is needed.
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("logging was set up twice in one process")]
    Twice,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// Relations between keys: there are none that could be wrong.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Sends all log lines of this process to standard error from now on.
///
/// # Errors
/// When it was done before.
pub fn start(config: &Config) -> Result<(), LogError> {
    let installed = match config.format {
        Format::Human => tracing::subscriber::set_global_default(human(config, std::io::stderr)),
        Format::Json => tracing::subscriber::set_global_default(json(config, std::io::stderr)),
    };
    installed.map_err(|_| LogError::Twice)
}

fn filter(config: &Config) -> EnvFilter {
    let others = if config.level == Level::Error { "error" } else { "warn" };
    EnvFilter::new(format!("{others},waystation={}", config.level.word()))
}

fn human<W>(config: &Config, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter(config))
        .with_ansi(false)
        .with_writer(writer)
        .finish()
}

fn json<W>(config: &Config, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false);
    lines.with_env_filter(filter(config)).with_writer(writer).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::phi::Phi;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(config: &Config, say: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        match config.format {
            Format::Human => tracing::subscriber::with_default(human(config, move || writer.clone()), say),
            Format::Json => tracing::subscriber::with_default(json(config, move || writer.clone()), say),
        }
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_their_fields_on_top() {
        let config = Config {
            format: Format::Json,
            level: Level::Info,
        };
        let text = lines(
            &config,
            || tracing::info!(target: "waystation::test", listener = "dicom", "listening"),
        );
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (&line["message"], &line["listener"]),
            (&"listening".into(), &"dicom".into())
        );
    }

    #[test]
    fn other_crates_are_never_heard_below_warn() {
        let config = Config {
            format: Format::Human,
            level: Level::Trace,
        };
        let text = lines(&config, || {
            tracing::trace!(target: "waystation::test", "ours");
            tracing::info!(target: "dicom_ul::pdu", name = "DOE^JANE", "theirs");
            tracing::warn!(target: "rustls", "theirs too");
        });
        assert!(
            text.contains("ours") && text.contains("theirs too") && !text.contains("DOE"),
            "{text}"
        );
    }

    #[test]
    fn patient_data_in_a_field_is_not_printed() {
        let config = Config::default();
        let name = Phi::new("DOE^JANE".to_owned());
        let text = lines(
            &config,
            || tracing::warn!(target: "waystation::test", %name, other = ?name, "odd value"),
        );
        assert!(text.contains("<phi>") && !text.contains("DOE"), "{text}");
    }
}
