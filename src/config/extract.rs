//! From raw values to the components' `Config` types, one component at a time, so that one wrong value hides no other.
//! With `reading.rs` the only place that names figment.
use super::keys::Sources;
use super::words::words;
use super::{Config, Node, Problem, credentials, reading};
use crate::base::names::{DestinationId, SourceId};
use crate::pki::Role;
use crate::sender;
use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

/// What could be read. Problems have keys, not yet places.
pub(super) struct Extracted {
    /// All components, those with wrong values too (without them, as far as they can be): good for looking for more
    /// problems, and for nothing else unless there is none. `None` when a table cannot be read at all.
    pub config: Option<Config>,
    pub problems: Vec<Problem>,
    /// Elements of lists that could not be read at all and are left out of `config`, by list and index.
    pub left_out: Vec<(String, usize)>,
    /// The names of destinations that are left out.
    pub names_left_out: Vec<DestinationId>,
    /// Keys whose value could not be read, or names no credential: their problem has been said, and `config` has something else there.
    pub wrong: Vec<String>,
}

impl Extracted {
    /// A problem of `config`, with its key as the file has it. `None` for a problem that is none: a list that only looks empty, or a
    /// value that only stands in for one whose problem has been said.
    pub(super) fn as_in_file(&self, problem: Problem) -> Option<Problem> {
        let key = reading::as_written(&problem.key, &self.left_out);
        let only_looks_empty = self.left_out.iter().any(|(list, _)| *list == key);
        let is_said = self.wrong.iter().any(|wrong| is_said(&key, wrong));
        // Of a file whose credential is not there, that it cannot be read says no more.
        let is_unnamed = problem.file.as_ref().is_some_and(|file| self.wrong.contains(file));
        (!only_looks_empty && !is_said && !is_unnamed).then_some(Problem { key, ..problem })
    }
}

/// Whether a problem of `key` says nothing new beside that of `wrong`: of the key itself, of what lies below it, of the list around it, or
/// of the `tls` around it (which seems to trust nobody, because its `ca` could not be read).
fn is_said(key: &str, wrong: &str) -> bool {
    let inside = key.strip_prefix(wrong);
    let around = wrong.strip_prefix(key);
    inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        || around.is_some_and(|rest| rest.starts_with('[') || (key.ends_with(".tls") && rest.starts_with('.')))
}

/// Reads every component.
pub(super) fn config(sources: &Sources) -> Extracted {
    let mut problems = Vec::new();
    let mut left_out = Vec::new();
    let figment = figment(sources);
    let all: Vec<Value> = figment
        .find_value("destinations")
        .ok()
        .and_then(Value::into_array)
        .unwrap_or_default();
    let mut parts = Parts {
        figment,
        credentials: sources.credentials.as_deref(),
        wrong: Vec::new(),
        problems: &mut problems,
        left_out: &mut left_out,
    };
    let node: Option<Node> = parts.table("node");
    if let Some(node) = &node {
        parts.state_defaults(node);
    }
    let (log, spool, rules) = (parts.table("log"), parts.table("spool"), parts.rules());
    let alarms = parts.table("alarms");
    let (ledger, reconcile) = (parts.table("ledger"), parts.table("reconcile"));
    let (web, control, limits) = (parts.table("web"), parts.table("control"), parts.table("limits"));
    let transcode = parts.table("transcode");
    let certificates = parts.table("certificates");
    let (listeners, sources) = (parts.list("listeners"), parts.list("sources"));
    let mut destinations = parts.destinations();
    let zone = rules
        .as_ref()
        .and_then(|rules: &crate::rules::Config| rules.zone.as_deref());
    for destination in destinations.iter_mut().flatten() {
        destination.in_zone(zone);
    }
    let wrong = parts.wrong;
    let config = (|| {
        Some(Config {
            node: node?,
            log: log?,
            spool: spool?,
            ledger: ledger?,
            reconcile: reconcile?,
            rules: rules?,
            web: web?,
            alarms: alarms?,
            control: control?,
            transcode: transcode?,
            certificates: certificates?,
            limits: limits?,
            listeners: listeners?,
            sources: sources?,
            destinations: destinations?,
        })
    })();
    let name = |(list, at): &(String, usize)| match (list.as_str(), all.get(*at)) {
        ("destinations", Some(value)) => value
            .find_ref("name")?
            .as_str()
            .and_then(|name| DestinationId::parse(name).ok()),
        _ => None,
    };
    let names_left_out = left_out.iter().filter_map(name).collect();
    Extracted {
        config,
        problems,
        left_out,
        names_left_out,
        wrong,
    }
}

/// The control socket alone, for a command that talks to a running box whose file may be under repair.
pub(super) fn control(sources: &Sources) -> Result<crate::control::Config, Vec<Problem>> {
    alone(sources, "control")
}

/// The spool alone, for the offline verbs.
pub(super) fn spool(sources: &Sources) -> Result<crate::spool::Config, Vec<Problem>> {
    alone(sources, "spool")
}

fn alone<T: DeserializeOwned>(sources: &Sources, table: &str) -> Result<T, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut left_out = Vec::new();
    let mut parts = Parts {
        figment: figment(sources),
        credentials: sources.credentials.as_deref(),
        wrong: Vec::new(),
        problems: &mut problems,
        left_out: &mut left_out,
    };
    if let Some(node) = parts.table::<Node>("node") {
        parts.state_defaults(&node);
    }
    let read = parts.table(table);
    read.filter(|_| problems.is_empty()).ok_or(problems)
}

/// The certificate files that are named, for `cert status`.
pub(super) fn certificates(sources: &Sources) -> Result<Vec<(Role, String, crate::pki::Sources)>, Vec<Problem>> {
    let (mut problems, mut left_out) = (Vec::new(), Vec::new());
    let mut parts = Parts {
        figment: figment(sources),
        credentials: sources.credentials.as_deref(),
        wrong: Vec::new(),
        problems: &mut problems,
        left_out: &mut left_out,
    };
    let listeners: Option<Vec<crate::listener::Config>> = parts.list("listeners");
    let destinations = parts.destinations();
    let peers: Option<Vec<crate::listener::SourceConfig>> = parts.list("sources");
    let alarms: Option<crate::alarms::Config> = parts.table("alarms");
    let (Some(listeners), Some(destinations), Some(peers), Some(alarms), true) =
        (listeners, destinations, peers, alarms, problems.is_empty())
    else {
        return Err(problems);
    };
    let listener = |of: &crate::listener::Config| {
        let tls = of.tls.as_ref()?;
        Some((Role::Listener, of.name.to_string(), tls.sources()))
    };
    let destination = |of: &sender::Config| match of {
        sender::Config::Dicom(of) => {
            let tls = of.tls.as_ref()?;
            Some((Role::Destination, of.name.to_string(), tls.sources()))
        }
        sender::Config::Folder(_) => None,
    };
    let source = |of: &crate::listener::SourceConfig| {
        let tls = of.commitment.tls.as_ref()?;
        Some((Role::Commitment, of.name.to_string(), tls.sources()))
    };
    let found = listeners.iter().filter_map(listener);
    let found = found.chain(destinations.iter().filter_map(destination));
    let found = found.chain(peers.iter().filter_map(source));
    let channel = |(name, sources)| (Role::Alarm, name, sources);
    Ok(found.chain(alarms.authorities().into_iter().map(channel)).collect())
}

/// The rules' limits and the destinations' names, for the rule bench.
pub(super) fn rules(sources: &Sources) -> Result<(crate::rules::Config, Vec<DestinationId>), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut left_out = Vec::new();
    let mut parts = Parts {
        figment: figment(sources),
        credentials: sources.credentials.as_deref(),
        wrong: Vec::new(),
        problems: &mut problems,
        left_out: &mut left_out,
    };
    let limits = parts.rules();
    let destinations = parts.destinations();
    match (limits, destinations) {
        (Some(limits), Some(found)) if problems.is_empty() => {
            Ok((limits, found.iter().map(|one| one.name().clone()).collect()))
        }
        _ => Err(problems),
    }
}

/// Files in order, lists adding up, then the variables.
fn figment(sources: &Sources) -> Figment {
    let mut figment = Figment::new();
    for table in &sources.tables {
        figment = figment.admerge(Serialized::defaults(table));
    }
    for (key, value) in &sources.variables {
        figment = figment.merge(Serialized::default(key, value));
    }
    figment
}

struct Parts<'a> {
    figment: Figment,
    credentials: Option<&'a str>,
    wrong: Vec<String>,
    problems: &'a mut Vec<Problem>,
    left_out: &'a mut Vec<(String, usize)>,
}

impl Parts<'_> {
    /// `[rules]`, with what `[[sources]]` say that concerns the rules. What is wrong with a source is said where sources are read.
    fn rules(&mut self) -> Option<crate::rules::Config> {
        let mut rules: crate::rules::Config = self.table("rules")?;
        let sources = self.figment.find_value("sources").ok().and_then(Value::into_array);
        for source in sources.unwrap_or_default() {
            let text = |key: &str| Some(source.find_ref(key)?.as_str()?.to_owned());
            let name = text("name").and_then(|name| SourceId::parse(&name).ok());
            let Some(name) = name else { continue };
            if let Some(charset) = text("charset") {
                rules.charsets.insert(name.clone(), charset);
            }
            rules.sources.insert(name);
        }
        Some(rules)
    }

    /// What lies below the state folder unless said otherwise.
    fn state_defaults(&mut self, node: &Node) {
        self.default("spool.path", &node.state.join("spool"));
        self.default("control.path", &node.state.join("control.sock"));
    }

    /// Puts a value under everything that files and variables say.
    fn default(&mut self, key: &str, value: &std::path::Path) {
        let figment = std::mem::take(&mut self.figment);
        self.figment = figment.join(Serialized::default(key, value));
    }

    fn table<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self
            .figment
            .find_value(name)
            .unwrap_or_else(|_| Value::from(Dict::new()));
        let read = self.component(name, value);
        // What is wrong with it has been said; the rest of the file is looked at all the same.
        read.or_else(|| Value::from(Dict::new()).deserialize().ok())
    }

    fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<Vec<T>> {
        self.each(name, Self::component)
    }

    fn destinations(&mut self) -> Option<Vec<sender::Config>> {
        self.each("destinations", Self::destination)
    }

    /// Every element by itself; one that cannot be read at all is left out.
    fn each<T>(&mut self, name: &str, read: impl Fn(&mut Self, &str, Value) -> Option<T>) -> Option<Vec<T>> {
        let elements = match self.figment.find_value(name) {
            Err(_) => Vec::new(),
            Ok(Value::Array(_, elements)) => elements,
            Ok(_) => {
                self.say(name.to_owned(), format!("must be written as a list: [[{name}]]"));
                Vec::new()
            }
        };
        let mut found = Vec::new();
        for (index, value) in elements.into_iter().enumerate() {
            match read(self, &format!("{name}[{index}]"), value) {
                Some(component) => found.push(component),
                None => self.left_out.push((name.to_owned(), index)),
            }
        }
        Some(found)
    }

    /// Puts the files of the service manager into the texts that name them. A text whose credential cannot be named stays as it is.
    fn name_credentials(&mut self, name: &str, value: &mut Value) {
        let mut texts = Vec::new();
        each_text(
            value,
            &mut Vec::new(),
            &mut |path, text| match credentials::named(text, self.credentials) {
                Ok(Some(file)) => *text = file,
                Ok(None) => {}
                Err(message) => texts.push((reading::path_of(name, path), message)),
            },
        );
        for (key, message) in texts {
            self.say(key, message);
        }
    }

    /// Reads one component; every wrong value in it becomes a problem.
    fn component<T: DeserializeOwned>(&mut self, name: &str, mut value: Value) -> Option<T> {
        self.name_credentials(name, &mut value);
        let mut read = reading::read(name, value);
        self.wrong
            .extend(read.problems.iter().map(|problem| problem.key.clone()));
        self.problems.append(&mut read.problems);
        self.left_out.append(&mut read.left_out);
        read.value
    }

    /// A destination by its `kind`, which is looked at first: what is read by a tag inside it has no path for its mistakes.
    fn destination(&mut self, key: &str, mut value: Value) -> Option<sender::Config> {
        let Value::Dict(_, dict) = &mut value else {
            // Says that it is no table.
            return self.component(key, value);
        };
        let kind = dict.remove("kind");
        let known = |kind: &Value| KINDS.into_iter().find(|known| kind.as_str() == Some(known));
        let (is_dicom, is_folder) = (dict.contains_key("host"), dict.contains_key("path"));
        let kind = kind.as_ref().and_then(known).or_else(|| {
            let message = match kind.as_ref() {
                None => "is missing".to_owned(),
                Some(Value::String(_, text)) => words(&Kind::UnknownVariant(text.clone(), &KINDS).into()),
                Some(_) => format!("must be one of {}", KINDS.join(", ")),
            };
            self.say(format!("{key}.kind"), message);
            // The rest is looked at as what it plainly is.
            match (is_dicom, is_folder) {
                (true, false) => Some(DICOM),
                (false, true) => Some(FOLDER),
                _ => None,
            }
        })?;
        if kind == DICOM {
            let dicom = self.component(key, value)?;
            Some(sender::Config::Dicom(Box::new(dicom)))
        } else {
            Some(sender::Config::Folder(self.component(key, value)?))
        }
    }

    fn say(&mut self, key: String, message: String) {
        self.problems.push(Problem::error(key.clone(), message));
        self.wrong.push(key);
    }
}

const DICOM: &str = "dicom";
const FOLDER: &str = "folder";
const KINDS: [&str; 2] = [DICOM, FOLDER];

/// Each text in a value, with its path.
fn each_text(value: &mut Value, path: &mut Vec<String>, act: &mut impl FnMut(&[String], &mut String)) {
    match value {
        Value::String(_, text) => act(path, text),
        Value::Dict(_, dict) => {
            for (name, inner) in dict {
                path.push(name.clone());
                each_text(inner, path, act);
                path.pop();
            }
        }
        Value::Array(_, elements) => {
            for (index, inner) in elements.iter_mut().enumerate() {
                path.push(index.to_string());
                each_text(inner, path, act);
                path.pop();
            }
        }
        _ => {}
    }
}
