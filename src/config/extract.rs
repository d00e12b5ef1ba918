//! From raw values to the components' `Config` types, one component at a time, so that one wrong value hides no other.
//! The only place that names figment.
use super::keys::Sources;
use super::words::words;
use super::{Config, Node, Problem, credentials};
use crate::base::names::{DestinationId, SourceId};
use crate::pki::Role;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

/// Wrong values said of one component; more than this is a wrong file.
const WRONG_MAX: usize = 64;

/// What could be read. Problems have keys, not yet places.
pub(super) struct Extracted {
    /// All components, those with wrong values too (without them, as far as they can be): good for looking for more
    /// problems, and for nothing else unless there is none. `None` when a table cannot be read at all.
    pub config: Option<Config>,
    pub problems: Vec<Problem>,
    /// Elements of lists that could not be read at all and are left out of `config`, by list and index.
    pub left_out: Vec<(&'static str, usize)>,
    /// The names of destinations that are left out.
    pub names_left_out: Vec<DestinationId>,
    /// Keys whose credential cannot be named: their problem has been said.
    pub no_credential: Vec<String>,
}

impl Extracted {
    /// Puts the indices of a problem's key back to those of the file, where elements before it are left out. `None` for a
    /// problem that is none: a list that only looks empty.
    pub(super) fn as_in_file(&self, mut problem: Problem) -> Option<Problem> {
        for list in ["listeners", "sources", "destinations"] {
            let gone: Vec<usize> = self
                .left_out
                .iter()
                .filter(|(name, _)| *name == list)
                .map(|(_, at)| *at)
                .collect();
            if problem.key == list && !gone.is_empty() {
                return None;
            }
            let Some(rest) = problem.key.strip_prefix(list).and_then(|rest| rest.strip_prefix('[')) else {
                continue;
            };
            let Some((index, rest)) = rest.split_once(']') else {
                continue;
            };
            let Ok(mut index) = index.parse::<usize>() else {
                continue;
            };
            for at in gone {
                if at <= index {
                    index += 1;
                }
            }
            problem.key = format!("{list}[{index}]{rest}");
        }
        Some(problem)
    }
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
        no_credential: Vec::new(),
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
    let mut destinations: Option<Vec<crate::sender::Config>> = parts.list("destinations");
    let zone = rules
        .as_ref()
        .and_then(|rules: &crate::rules::Config| rules.zone.as_deref());
    for destination in destinations.iter_mut().flatten() {
        destination.in_zone(zone);
    }
    let no_credential = parts.no_credential;
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
    let name = |(list, at): &(&str, usize)| match (*list, all.get(*at)) {
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
        no_credential,
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
        no_credential: Vec::new(),
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
        no_credential: Vec::new(),
        problems: &mut problems,
        left_out: &mut left_out,
    };
    let listeners: Option<Vec<crate::listener::Config>> = parts.list("listeners");
    let destinations: Option<Vec<crate::sender::Config>> = parts.list("destinations");
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
    let destination = |of: &crate::sender::Config| match of {
        crate::sender::Config::Dicom(of) => {
            let tls = of.tls.as_ref()?;
            Some((Role::Destination, of.name.to_string(), tls.sources()))
        }
        crate::sender::Config::Folder(_) => None,
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
        no_credential: Vec::new(),
        problems: &mut problems,
        left_out: &mut left_out,
    };
    let limits = parts.rules();
    let destinations: Option<Vec<crate::sender::Config>> = parts.list("destinations");
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
    for text in &sources.texts {
        figment = figment.admerge(Toml::string(text));
    }
    for (key, value) in &sources.variables {
        figment = figment.merge(Serialized::default(key, value));
    }
    figment
}

struct Parts<'a> {
    figment: Figment,
    credentials: Option<&'a str>,
    no_credential: Vec<String>,
    problems: &'a mut Vec<Problem>,
    left_out: &'a mut Vec<(&'static str, usize)>,
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
        self.component(name, value)
    }

    /// Every element by itself; one that cannot be read at all is left out.
    fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<Vec<T>> {
        let elements = match self.figment.find_value(name) {
            Err(_) => Vec::new(),
            Ok(Value::Array(_, elements)) => elements,
            Ok(_) => {
                self.problems
                    .push(Problem::error(name, format!("must be written as a list: [[{name}]]")));
                return None;
            }
        };
        let mut read = Vec::new();
        for (index, value) in elements.into_iter().enumerate() {
            match self.component(&format!("{name}[{index}]"), value) {
                Some(component) => read.push(component),
                None => self.left_out.push((name, index)),
            }
        }
        Some(read)
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
                Err(message) => texts.push((path_of(name, path, None), message)),
            },
        );
        for (key, message) in texts {
            self.problems.push(Problem::error(key.clone(), message));
            self.no_credential.push(key);
        }
    }

    /// Reads one component; every wrong value in it becomes a problem. What is wrong is taken out and the rest read
    /// again, so that the second mistake is seen as well as the first; the answer is then what the rest makes.
    fn component<T: DeserializeOwned>(&mut self, name: &str, mut value: Value) -> Option<T> {
        self.name_credentials(name, &mut value);
        let mut removed: Vec<String> = Vec::new();
        // Keys that nobody knows have been said already, over the raw tree; without them the rest can be checked all the same.
        while removed.len() < WRONG_MAX {
            let error = match value.deserialize::<T>() {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let message = words(&error);
            if let figment::error::Kind::MissingField(field) = &error.kind {
                let key = path_of(name, &error.path, Some(field));
                if !removed.contains(&key) {
                    self.problems.push(Problem::error(key, "is missing"));
                }
                return None;
            }
            if let figment::error::Kind::UnknownField(field, _) = &error.kind {
                let mut path = error.path.clone();
                if path.last() != Some(field) {
                    path.push(field.clone());
                }
                if remove(&mut value, &path) || remove_named(&mut value, field) {
                    removed.push(path_of(name, &path, None));
                    continue;
                }
                return None;
            }
            let path = if is_leaf(&value, &error.path) {
                error.path.clone()
            } else {
                blame::<T>(&value, &message)
            };
            self.problems.push(Problem::error(path_of(name, &path, None), message));
            if path.is_empty() || !remove(&mut value, &path) {
                return None;
            }
            removed.push(path_of(name, &keys_only(&path), None));
        }
        None
    }
}

/// The leaf without which the error is another one: inside a value that is read by its `kind`, serde loses the path.
fn blame<T: DeserializeOwned>(value: &Value, message: &str) -> Vec<String> {
    let mut leaves = Vec::new();
    collect(value, &mut Vec::new(), &mut leaves);
    // Without its kind nothing can be read: that says something only when nothing else does.
    leaves.sort_by_key(|path| path.last().is_some_and(|name| name == "kind"));
    for path in leaves {
        let mut without = value.clone();
        let changed = remove(&mut without, &path)
            && without
                .deserialize::<T>()
                .map_or_else(|error| words(&error) != message, |_| true);
        if changed {
            return path;
        }
    }
    Vec::new()
}

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

fn collect(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    match value {
        Value::Dict(_, dict) => {
            for (name, inner) in dict {
                path.push(name.clone());
                collect(inner, path, leaves);
                path.pop();
            }
        }
        _ => leaves.push(path.clone()),
    }
}

/// The value at a path of names. A list is a leaf: an error inside it is said of the whole key.
fn at<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Dict(_, dict) => dict.get_mut(name),
        _ => None,
    })
}

fn is_leaf(value: &Value, path: &[String]) -> bool {
    !path.is_empty() && at(&mut value.clone(), &keys_only(path)).is_some_and(|value| value.as_dict().is_none())
}

/// A path without list indices: `["addresses", "0"]` is said of `addresses`.
fn keys_only(path: &[String]) -> Vec<String> {
    path.iter()
        .filter(|part| part.parse::<usize>().is_err())
        .cloned()
        .collect()
}

fn remove(value: &mut Value, path: &[String]) -> bool {
    let path = keys_only(path);
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    match at(value, parents) {
        Some(Value::Dict(_, dict)) => dict.remove(last).is_some(),
        _ => false,
    }
}

/// Takes the first key of this name out, wherever it stands.
fn remove_named(value: &mut Value, name: &str) -> bool {
    match value {
        Value::Dict(_, dict) => dict.remove(name).is_some() || dict.values_mut().any(|inner| remove_named(inner, name)),
        _ => false,
    }
}

fn path_of(name: &str, path: &[String], last: Option<&str>) -> String {
    let mut key = name.to_owned();
    for part in path.iter().map(String::as_str).chain(last) {
        if part.parse::<usize>().is_ok() {
            key.push_str(&format!("[{part}]"));
        } else {
            key.push('.');
            key.push_str(part);
        }
    }
    key
}
