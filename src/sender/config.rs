//! `[[destinations]]` of the configuration: where instances go, and with how much patience.
//!
//! Read by the configuration, handed to the scheduler whole. Holds no secret: keys are paths to files.
use super::{ceiling, template};
use crate::base::names::{AeTitle, DestinationId};
use crate::base::units::Span;
use crate::dicom::association;
use crate::transcode::{Compress, Policy};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// One destination; `kind` says what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Config {
    Dicom(Box<Dicom>),
    Folder(Folder),
}

/// A DICOM archive, reached by C-STORE over TCP or TLS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dicom {
    pub name: DestinationId,
    pub host: String,
    pub port: u16,
    /// The archive's AE title.
    pub called_ae: AeTitle,
    /// Our AE title towards it.
    pub calling_ae: AeTitle,
    /// The most associations at once. How many are open follows the backlog and the line (`scheduler/width.rs`).
    #[serde(default = "default_associations")]
    pub associations: usize,
    /// Instances sent over one association before it is renewed; 0 means no limit.
    #[serde(default = "default_batch")]
    pub batch: u32,
    /// An association without work is released after this.
    #[serde(default = "default_idle")]
    pub idle: Span,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub tls: Option<super::tls::Config>,
    /// The longest PDU that we take from the peer, in bytes.
    #[serde(default = "default_max_pdu")]
    pub max_pdu: u32,
    #[serde(default)]
    pub retry: Retry,
    /// Failures that count against an instance before it is held.
    #[serde(default = "default_tries")]
    pub tries: u32,
    /// What a Duplicate SOP Instance answer (0111H) means here.
    #[serde(default)]
    pub duplicate: Duplicate,
    /// The longest pause between two C-ECHO probes of a destination that is down (they start at one second).
    #[serde(default = "default_probe")]
    pub probe: Span,
    /// A session in which nothing moves for this long is closed.
    #[serde(default = "default_stuck")]
    pub stuck: Span,
    /// After this a refused class and syntax is proposed again, for the next instance that needs it.
    #[serde(default = "default_park_recheck")]
    pub park_recheck: Span,
    /// Instances in flight on one association, where the archive negotiates asynchronous operations; 1 never asks for it.
    #[serde(default = "default_window")]
    pub window: u16,
    /// How much of the line all associations together may take, by time of day; the first window that fits holds.
    #[serde(default)]
    pub ceiling: Vec<ceiling::Window>,
    /// Whether what the destination does not accept as it is stored may be converted, without loss, to what it accepts.
    #[serde(default = "default_convert")]
    pub convert: bool,
    /// What images that are stored uncompressed are compressed with on their way, without loss, when the destination accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Pixels that came compressed with loss may be sent uncompressed to a destination that does not accept them as they are.
    #[serde(default)]
    pub decompress_lossy: bool,
    /// Whether, and how, it is asked to commit to keep what it took: only then is an instance delivered for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<super::commitment::Config>,
}

/// A folder that receives DICOM Part 10 files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    pub name: DestinationId,
    pub path: PathBuf,
    /// Attributes in braces, folders by `/`; every part is made a safe name (see `template.rs`).
    #[serde(default = "default_template")]
    pub template: String,
    /// Files written in parallel.
    #[serde(default = "default_files")]
    pub associations: usize,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default = "default_tries")]
    pub tries: u32,
    /// The longest pause between two looks at a folder that cannot be written.
    #[serde(default = "default_probe")]
    pub probe: Span,
    #[serde(default = "default_stuck")]
    pub stuck: Span,
}

/// When an instance is tried again: `first`, then twice as long each time, to `max`, each varied by `jitter` (a share of it).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    pub first: Span,
    pub max: Span,
    pub jitter: f64,
}

/// Deadlines towards a DICOM peer, one for each protocol state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Name resolution, TCP connection and TLS handshake, each.
    pub connect: Span,
    /// A-ASSOCIATE-RQ to its answer.
    pub association: Span,
    /// The last byte of an instance to its answer; begins anew as long as bytes that were sent still leave.
    pub response: Span,
    /// The longest time in which no byte of an instance can be sent, and none of those that were sent is acknowledged.
    pub transfer: Span,
    /// A-RELEASE-RQ to its answer.
    pub release: Span,
}

/// What a Duplicate SOP Instance answer (0111H) means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicate {
    /// The archive has it: delivered.
    Stored,
    /// A person has to look: held.
    #[default]
    Hold,
}

/// What the lane of any kind of destination needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    pub workers: usize,
    /// Instances for one session; 0 means no limit.
    pub batch: u32,
    pub idle: Duration,
    pub retry: Retry,
    pub tries: u32,
    pub duplicate: Duplicate,
    pub probe: Duration,
    pub stuck: Duration,
    pub park_recheck: Duration,
    /// The most instances in flight in one session.
    pub window: usize,
}

impl Config {
    #[must_use]
    pub fn name(&self) -> &DestinationId {
        match self {
            Self::Dicom(dicom) => &dicom.name,
            Self::Folder(folder) => &folder.name,
        }
    }

    /// Whether what it took is delivered for good only when it has committed to keep it.
    #[must_use]
    pub fn commits(&self) -> bool {
        match self {
            Self::Dicom(dicom) => dicom.commitment.is_some(),
            Self::Folder(_) => false,
        }
    }

    #[must_use]
    pub fn patience(&self) -> Patience {
        match self {
            Self::Dicom(c) => Patience {
                workers: c.associations,
                batch: c.batch,
                idle: c.idle.0,
                retry: c.retry,
                tries: c.tries,
                duplicate: c.duplicate,
                probe: c.probe.0,
                stuck: c.stuck.0,
                park_recheck: c.park_recheck.0,
                window: c.window.into(),
            },
            Self::Folder(c) => Patience {
                workers: c.associations,
                batch: 0,
                idle: default_idle().0,
                retry: c.retry,
                tries: c.tries,
                duplicate: Duplicate::Stored,
                probe: c.probe.0,
                stuck: c.stuck.0,
                park_recheck: default_park_recheck().0,
                window: 1,
            },
        }
    }

    /// Gives the windows of a ceiling that name no zone the site's.
    pub fn in_zone(&mut self, zone: Option<&str>) {
        if let Self::Dicom(dicom) = self {
            for window in &mut dicom.ceiling {
                window.zone = window.zone.take().or_else(|| zone.map(str::to_owned));
            }
        }
    }

    /// Everything wrong between keys, each with its key first. Whether files and folders are there is checked elsewhere.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = self.patience().check();
        match self {
            Self::Dicom(dicom) => dicom.check(&mut wrong),
            Self::Folder(folder) => {
                if folder.path.as_os_str().is_empty() {
                    wrong.push("path: is empty".to_owned());
                }
                if let Err(error) = template::Template::parse(&folder.template) {
                    wrong.push(format!("template: {error}"));
                }
            }
        }
        wrong
    }

    /// What is allowed and seldom meant, each with its key first.
    #[must_use]
    pub fn warnings(&self) -> Vec<(&'static str, String)> {
        let Self::Folder(folder) = self else { return Vec::new() };
        let is_one =
            |text: &str| template::Template::parse(text).is_ok_and(|template| !template.tells_instances_apart());
        let one_name = is_one(&folder.template).then(|| {
            let what = "gives all images of a series one name: the first gets it, 1,000 more get a number behind it, the rest is held; \
                        let it carry {SOPInstanceUID}";
            ("template", what.to_owned())
        });
        one_name.into_iter().collect()
    }
}

impl Patience {
    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(1..=ASSOCIATIONS_MAX).contains(&self.workers) {
            wrong.push(format!("associations: write 1 to {ASSOCIATIONS_MAX}"));
        }
        if self.retry.first.0.is_zero() || self.retry.first > self.retry.max {
            wrong.push("retry.first: must be more than zero and not longer than retry.max".to_owned());
        }
        if self.retry.max.0 > RETRY_MAX {
            wrong.push("retry.max: must not be longer than 24h".to_owned());
        }
        if !(0.0..=1.0).contains(&self.retry.jitter) {
            wrong.push("retry.jitter: write a share from 0.0 to 1.0".to_owned());
        }
        if self.tries == 0 {
            wrong.push("tries: write at least 1".to_owned());
        }
        if self.probe.is_zero() || self.probe > PROBE_MAX {
            wrong.push("probe: write more than zero and at most 60s".to_owned());
        }
        wrong
    }
}

/// What is wrong with the name or address of a peer.
#[must_use]
pub fn host_fault(host: &str) -> Option<&'static str> {
    let address = host.split('%').next().unwrap_or(host);
    let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
    match host {
        "" => Some("is empty"),
        _ if host.contains(['/', '[', ' ']) || (host.contains(':') && !is_address) => Some(
            "must be a name or an address alone, such as \"vna.example\" or \"10.1.2.3\": the port stands in `port`",
        ),
        _ => None,
    }
}

impl Dicom {
    fn check(&self, wrong: &mut Vec<String>) {
        if let Some(fault) = host_fault(&self.host) {
            wrong.push(format!("host: {fault}"));
        }
        if self.port == 0 {
            wrong.push("port: write 1 to 65535".to_owned());
        }
        if !MAX_PDU.contains(&self.max_pdu) {
            wrong.push(format!("max_pdu: write {} to {}", MAX_PDU.start(), MAX_PDU.end()));
        }
        if !(1..=WINDOW_MAX).contains(&self.window) {
            wrong.push(format!("window: write 1 to {WINDOW_MAX}"));
        }
        for (index, window) in self.ceiling.iter().enumerate() {
            wrong.extend(window.check(&format!("ceiling[{index}]")));
        }
        let t = &self.timeouts;
        for (key, span) in [
            ("connect", t.connect),
            ("association", t.association),
            ("response", t.response),
            ("transfer", t.transfer),
            ("release", t.release),
        ] {
            if span.0.is_zero() {
                wrong.push(format!("timeouts.{key}: must be more than zero"));
            } else if span >= self.stuck {
                wrong.push(format!("timeouts.{key}: must be shorter than `stuck` ({})", self.stuck));
            }
        }
        if let Some(commitment) = &self.commitment {
            wrong.extend(commitment.check());
        }
    }

    /// What may be made of an instance on its way here.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            // Who asks for a kind of conversion wants conversions.
            convert: self.convert || self.compress.is_some() || self.decompress_lossy,
            compress: self.compress,
            decompress_lossy: self.decompress_lossy,
        }
    }

    /// The deadlines as an association takes them.
    #[must_use]
    pub fn deadlines(&self) -> association::Timeouts {
        let t = &self.timeouts;
        association::Timeouts {
            association: t.association.0,
            idle: t.response.0,
            transfer: t.transfer.0,
            write: t.transfer.0,
            response: t.response.0,
            release: t.release.0,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Span::secs(5),
            max: Span::secs(600),
            jitter: 0.2,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::secs(10),
            association: Span::secs(30),
            response: Span::secs(60),
            transfer: Span::secs(30),
            release: Span::secs(10),
        }
    }
}

/// The most parallel sessions with one destination.
pub const ASSOCIATIONS_MAX: usize = 256;
/// A destination that is back is noticed within this (failures.md section 5, row 9).
pub const PROBE_MAX: Duration = Duration::from_secs(60);
/// PDU lengths that may be configured: the smallest that DCMTK takes to one megabyte.
const MAX_PDU: std::ops::RangeInclusive<u32> = 4_096..=1_048_576;

/// The most instances in flight on one association.
const WINDOW_MAX: u16 = 256;

fn default_window() -> u16 {
    16
}
fn default_associations() -> usize {
    8
}
fn default_files() -> usize {
    2
}
fn default_batch() -> u32 {
    200
}
fn default_idle() -> Span {
    Span::secs(10)
}
/// A job that is due further ahead was written by a wrong clock (`spool/due.rs`).
const RETRY_MAX: Duration = Duration::from_secs(24 * 3_600);

fn default_max_pdu() -> u32 {
    131_072
}
fn default_tries() -> u32 {
    5
}
fn default_probe() -> Span {
    Span::secs(30)
}
fn default_stuck() -> Span {
    Span::secs(120)
}
fn default_park_recheck() -> Span {
    Span::secs(3_600)
}
fn default_convert() -> bool {
    true
}
fn default_template() -> String {
    "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    const DICOM: &str =
        "kind = \"dicom\"\nname = \"vna\"\nhost = \"vna\"\nport = 104\ncalled_ae = \"VNA\"\ncalling_ae = \"WAY\"\n";

    #[test]
    fn defaults_are_complete_and_agree_with_each_other() {
        let config = read(DICOM).unwrap();
        assert_eq!(config.check(), Vec::<String>::new());
        assert_eq!(config.patience().workers, 8);
        let folder = read("kind = \"folder\"\nname = \"out\"\npath = \"/tmp/out\"\n").unwrap();
        assert_eq!(folder.check(), Vec::<String>::new());
        assert_eq!(folder.name().as_str(), "out");
    }

    #[test]
    fn unknown_keys_and_kinds_are_refused() {
        assert!(read(&format!("{DICOM}tiems = 3\n")).is_err());
        assert!(read(&format!("{DICOM}retry = {{ frist = \"5s\" }}\n")).is_err());
        assert!(read("kind = \"fax\"\nname = \"x\"\n").is_err());
        assert!(read("kind = \"folder\"\nname = \"x\"\npath = \"/x\"\nport = 1\n").is_err());
    }

    #[test]
    fn relations_between_keys_are_checked() {
        let text = format!(
            "{DICOM}associations = 0\ntries = 0\nprobe = \"2m\"\nstuck = \"20s\"\nretry = {{ first = \"1h\", max = \"1m\" }}\n"
        );
        let wrong = read(&text).unwrap().check().join("\n");
        for key in [
            "associations:",
            "tries:",
            "probe:",
            "retry.first:",
            "timeouts.response:",
            "timeouts.association:",
        ] {
            assert!(wrong.contains(key), "{key} in {wrong}");
        }
        assert!(!wrong.contains("timeouts.connect:"), "{wrong}");
    }
}
