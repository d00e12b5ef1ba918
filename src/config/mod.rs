//! Configuration: nests every component's own `Config`, loads them (defaults, TOML files, environment), and says
//! everything that is wrong with them at once.
//!
//! Order, later wins: the components' defaults → the files in the order given (tables merge, lists such as `[[sources]]`
//! add up) → `WAYSTATION_…` with `__` between the parts (`WAYSTATION_SPOOL__PATH`). `run`, `check` and every offline
//! verb load through here. A value that begins with `${CREDENTIALS_DIRECTORY}/` is a file that the service manager hands over
//! (`credentials.rs`); no other variable is put into values. It never changes anything on the disk, and it is the only door to figment.
mod check;
mod credentials;
mod extract;
mod keys;
mod reading;
mod unforced;
mod user;
mod words;

pub use unforced::Unforced;

use crate::base::names::DestinationId;
use crate::base::units::Span;
use crate::{alarms, control, custody, listener, pki, rules, sender, spool, telemetry, transcode, web};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use user::User;

/// Where the box looks when no file is named.
pub const DEFAULT_FILE: &str = "/etc/waystation/waystation.toml";

/// Every variable of ours begins with this.
pub const ENVIRONMENT_PREFIX: &str = "WAYSTATION_";

/// Everything that a box needs to know before it starts.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    pub node: Node,
    pub log: telemetry::log::Config,
    pub spool: spool::Config,
    pub ledger: spool::LedgerConfig,
    pub reconcile: custody::Config,
    pub rules: rules::Config,
    pub web: web::Config,
    pub alarms: alarms::Config,
    pub control: control::Config,
    pub transcode: transcode::Config,
    pub certificates: pki::Config,
    pub limits: listener::Limits,
    pub listeners: Vec<listener::Config>,
    pub sources: Vec<listener::SourceConfig>,
    pub destinations: Vec<sender::Config>,
}

/// `[node]`: the box itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Its name in Contributing Equipment, Original Attributes and logs. Letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Where everything that changes lies: the defaults of `spool.path` and `control.path` are below it.
    pub state: PathBuf,
    /// How long a stop waits for running associations and deliveries before it goes on without them.
    pub drain: Span,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: "waystation".to_owned(),
            state: PathBuf::from("/var/lib/waystation"),
            drain: Span::secs(25),
        }
    }
}

impl Node {
    fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        if self.name.is_empty() || self.name.len() > 16 || !self.name.bytes().all(allowed) {
            // Station Name (0008,1010) is an SH: 16 characters.
            problems.push("`name` must be 1 to 16 letters, digits, `.`, `_` or `-`".to_owned());
        }
        if self.state.as_os_str().is_empty() {
            problems.push("`state` is empty: name the folder where everything that changes lies".to_owned());
        }
        if self.drain.0 > std::time::Duration::from_secs(600) {
            problems.push("`drain` is longer than 10min: the service manager would kill the box first".to_owned());
        }
        problems
    }
}

impl Config {
    /// The destinations that may also send to this box, for the loop guard: by AE title, by name, and by an address that a source has
    /// for itself. A host that is a name is not looked up.
    #[must_use]
    pub fn neighbours(&self) -> Vec<rules::Neighbour> {
        let neighbour = |destination: &sender::Config| {
            let (ae, host) = match destination {
                sender::Config::Dicom(dicom) => (Some(dicom.called_ae.clone()), dicom.host.parse().ok()),
                sender::Config::Folder(_) => (None, None),
            };
            let same = |source: &&listener::SourceConfig| {
                source.name.as_str() == destination.name().as_str()
                    || host.is_some_and(|host: IpAddr| source.addresses.iter().any(|net| is_only(net, host)))
            };
            rules::Neighbour {
                destination: destination.name().clone(),
                ae,
                sources: self
                    .sources
                    .iter()
                    .filter(same)
                    .map(|source| source.name.clone())
                    .collect(),
            }
        };
        self.destinations.iter().map(neighbour).collect()
    }
}

/// Whether a network is this one host. The loopback says nothing: everything on this machine has it.
fn is_only(net: &ipnet::IpNet, host: IpAddr) -> bool {
    net.addr() == host && net.prefix_len() == net.max_prefix_len() && !host.is_loopback()
}

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Severity {
    /// The box starts all the same.
    Warning,
    /// The box does not start.
    Error,
}

/// One thing that is wrong, with its place. Never a secret: those are paths to files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub severity: Severity,
    /// The file as it was named, or `environment`; `None` when it comes from a default.
    pub file: Option<String>,
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// The key's path, as `listeners[0].address`; empty when the file as a whole is meant.
    pub key: String,
    pub message: String,
}

impl Problem {
    fn error(key: impl Into<String>, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        Self {
            severity: Severity::Error,
            file: None,
            line: None,
            column: None,
            key,
            message,
        }
    }

    fn warning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(key, message)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// What was found: a configuration when there is no error, and every problem either way.
#[derive(Clone, Debug)]
pub struct Report {
    pub config: Option<Config>,
    /// The configuration when nothing but the rule folder is wrong: a box that keeps the rules that were in force can start with it.
    pub but_for_rules: Option<Config>,
    pub problems: Vec<Problem>,
}

/// The configuration in force: no error, or all of them (warnings are left to `report`).
///
/// # Errors
/// Every problem that stands in the way of a start.
pub fn load(files: &[PathBuf]) -> Result<Config, Vec<Problem>> {
    let report = report(files);
    report.config.ok_or(report.problems)
}

/// Reads everything and says everything that is wrong with it: the whole of `waystation check`.
#[must_use]
pub fn report(files: &[PathBuf]) -> Report {
    report_with(files, &environment())
}

/// As `report`, for a person at the command line: where root asks for a box that runs as somebody else, what that user cannot read or
/// write is a problem too.
#[must_use]
pub fn report_by_hand(files: &[PathBuf]) -> Report {
    report_for(files, &environment(), User::of_box)
}

/// As `report`, with the variables given.
#[must_use]
pub fn report_with(files: &[PathBuf], variables: &[(String, String)]) -> Report {
    report_for(files, variables, |_| None)
}

/// `user`: whom the box with this state folder runs as, when that is to be looked at.
fn report_for(files: &[PathBuf], variables: &[(String, String)], user: impl FnOnce(&Path) -> Option<User>) -> Report {
    let mut sources = keys::Sources::read(files, variables);
    let mut problems = std::mem::take(&mut sources.problems);
    let mut extracted = extract::config(&sources);
    problems.append(&mut extracted.problems);
    // Where a file could not be read, much only seems to be missing.
    let is_whole = sources.tables.len() == files.len();
    let mut of_rules = Vec::new();
    if let Some(config) = extracted.config.as_ref().filter(|_| is_whole) {
        let in_file = |found: Vec<Problem>| {
            let placed = found.into_iter().filter_map(|problem| extracted.as_in_file(problem));
            placed.collect::<Vec<_>>()
        };
        problems.extend(in_file(check::all(config)));
        if let Some(user) = user(&config.node.state) {
            // Rules that it cannot read are as good as wrong ones: those that were in force may stand in.
            let (rules, others): (Vec<_>, Vec<_>) = user
                .problems(config, files, sources.credentials.as_deref())
                .into_iter()
                .partition(|problem| problem.key == "rules.path");
            problems.extend(in_file(others));
            of_rules.extend(in_file(rules));
        }
        // Without any destination every name in the rules would be wrong.
        if !extracted.wrong.iter().any(|key| key == "destinations") {
            of_rules.extend(in_file(check::rules(config, &extracted.names_left_out)));
        }
    }
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    let (failed, refused) = (problems.iter().any(is_error), of_rules.iter().any(is_error));
    problems.append(&mut of_rules);
    for problem in &mut problems {
        sources.place(problem);
    }
    let config = extracted.config.filter(|_| !failed);
    let (but_for_rules, config) = if refused { (config, None) } else { (None, config) };
    Report {
        config,
        but_for_rules,
        problems,
    }
}

/// Where the control socket of a box with these files is. Whatever else may be wrong in them is not asked.
///
/// # Errors
/// A file that cannot be read, or a wrong `[control]` or `[node]`.
pub fn control(files: &[PathBuf]) -> Result<control::Config, Vec<Problem>> {
    readable(files).and_then(|sources| extract::control(&sources))
}

/// Where the spool is. Whatever else may be wrong is not asked.
///
/// # Errors
/// A file that cannot be read, or a wrong `[spool]` or `[node]`.
pub fn spool_path(files: &[PathBuf]) -> Result<PathBuf, Vec<Problem>> {
    readable(files)
        .and_then(|sources| extract::spool(&sources))
        .map(|spool| spool.path)
}

/// The limits of `[rules]` and the names of all destinations. Whatever else may be wrong is not asked; then `site` lacks.
///
/// # Errors
/// A file that cannot be read, or a wrong `[rules]` or `[[destinations]]`.
pub fn rules(files: &[PathBuf]) -> Result<(rules::Config, Vec<DestinationId>), Vec<Problem>> {
    let sources = readable(files)?;
    let (mut rules, destinations) = extract::rules(&sources)?;
    let whole = extract::config(&sources).config;
    rules.site = whole.map(|config| (config.node.name.clone(), config.neighbours()));
    Ok((rules, destinations))
}

/// The certificate files of every listener and destination. Whatever else may be wrong is not asked.
///
/// # Errors
/// A file that cannot be read, or a wrong `[[listeners]]` or `[[destinations]]`.
pub fn certificates(files: &[PathBuf]) -> Result<Vec<(pki::Role, String, pki::Sources)>, Vec<Problem>> {
    readable(files).and_then(|sources| extract::certificates(&sources))
}

/// Files that could be read and parsed, whatever they say.
fn readable(files: &[PathBuf]) -> Result<keys::Sources, Vec<Problem>> {
    let sources = keys::Sources::read(files, &environment());
    if sources.tables.len() == files.len() {
        Ok(sources)
    } else {
        Err(sources.problems)
    }
}

impl Config {
    /// The names of all destinations, as the rules may use them.
    #[must_use]
    pub fn destination_ids(&self) -> Vec<DestinationId> {
        self.destinations
            .iter()
            .map(|destination| destination.name().clone())
            .collect()
    }
}

/// The files to load: those named, else the default file.
#[must_use]
pub fn files_or_default(named: &[PathBuf]) -> Vec<PathBuf> {
    if named.is_empty() {
        vec![Path::new(DEFAULT_FILE).to_owned()]
    } else {
        named.to_vec()
    }
}

/// Our variables, and the service manager's for credentials. A value that is no text cannot be a setting; it is shown with its wrong bytes replaced and refused by its key's type.
fn environment() -> Vec<(String, String)> {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?.to_owned();
        (name.starts_with(ENVIRONMENT_PREFIX) || name == credentials::VARIABLE)
            .then(|| (name, value.to_string_lossy().into_owned()))
    });
    ours.collect()
}

#[cfg(test)]
mod credentials_tests;
#[cfg(test)]
mod tests;
