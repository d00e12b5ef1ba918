//! What no component can see alone: relations between components, files that are named, folders that are written.
//! Reads the disk, changes nothing on it.
use super::{Config, Problem};
use crate::base::clock::Clock;
use crate::base::names::{AeTitle, DestinationId};
use crate::listener::SourceConfig;
use crate::listener::tls::ClientCertificate;
use crate::pki::{Sources, TlsError};
use crate::sender::ground::{Ground, GroundError};
use crate::sender::{Config as Destination, Folder};
use crate::spool;
use rustix::fs::Access;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::FileType;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Every problem between and behind the components, in the order of the file.
/// The rule folder apart: see `rules`.
pub(super) fn all(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    components(config, &mut problems);
    names(config, &mut problems);
    silences(config, &mut problems);
    ports(config, &mut problems);
    sources(config, &mut problems);
    certificates(config, &mut problems);
    folders(config, &mut problems);
    problems
}

/// Each component's own relations between keys. A sentence that begins with a key (`key` is…, key: …, or place.key is…) is said of that key.
fn components(config: &Config, problems: &mut Vec<Problem>) {
    let mut say = |place: String, sentences: Vec<String>| {
        for sentence in sentences {
            let own = sentence
                .strip_prefix(&format!("{place}."))
                .and_then(|rest| rest.split_once(' '));
            problems.push(match own.or_else(|| split_key(&sentence)) {
                Some((key, rest)) => Problem::error(format!("{place}.{key}"), rest),
                None => Problem::error(place.clone(), sentence.clone()),
            });
        }
    };
    say("node".into(), config.node.check());
    say("log".into(), config.log.check());
    say("spool".into(), config.spool.check());
    say("ledger".into(), config.ledger.check());
    say("reconcile".into(), config.reconcile.check());
    say("web".into(), config.web.check());
    say("rules".into(), config.rules.check());
    say("control".into(), config.control.check());
    say("transcode".into(), config.transcode.check());
    say("alarms".into(), config.alarms.check());
    say("certificates".into(), config.certificates.check());
    say("limits".into(), config.limits.check());
    for (index, listener) in config.listeners.iter().enumerate() {
        say(format!("listeners[{index}]"), listener.check());
    }
    for (index, source) in config.sources.iter().enumerate() {
        say(format!("sources[{index}]"), source.check());
    }
    for (index, destination) in config.destinations.iter().enumerate() {
        say(format!("destinations[{index}]"), destination.check());
    }
}

fn split_key(sentence: &str) -> Option<(&str, &str)> {
    let (key, rest) = match sentence.strip_prefix('`') {
        Some(rest) => rest.split_once('`')?,
        None => sentence.split_once(": ")?,
    };
    let in_keys = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.[]".contains(&b);
    let named = key.starts_with(|first: char| first.is_ascii_lowercase()) && key.bytes().all(in_keys);
    named.then(|| (key, rest.trim_start()))
}

fn names(config: &Config, problems: &mut Vec<Problem>) {
    let listeners = config.listeners.iter().map(|listener| listener.name.as_str());
    let sources = config.sources.iter().map(|source| source.name.as_str());
    let destinations = config
        .destinations
        .iter()
        .map(|destination| destination.name().as_str());
    unique("listeners", listeners.collect(), problems);
    unique("sources", sources.collect(), problems);
    unique("destinations", destinations.collect(), problems);
    if config.listeners.is_empty() {
        problems.push(Problem::error(
            "listeners",
            "there is none: nothing could be received; add [[listeners]]",
        ));
    }
    if config.sources.is_empty() {
        let message = "there is none, and whatever no entry names is refused: add [[sources]]";
        problems.push(Problem::error("sources", message));
    }
    if config.destinations.is_empty() {
        problems.push(Problem::warning(
            "destinations",
            "there is none: every instance will be held",
        ));
    }
}

/// Sources that the alarms name.
fn silences(config: &Config, problems: &mut Vec<Problem>) {
    for (index, silence) in config.alarms.silence.iter().enumerate() {
        if !config.sources.iter().any(|source| source.name == silence.source) {
            let key = format!("alarms.silence[{index}].source");
            problems.push(Problem::error(key, "is the name of no [[sources]] entry"));
        }
    }
}

fn unique(list: &str, names: Vec<&str>, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, name) in names.into_iter().enumerate() {
        match seen.get(name) {
            Some(first) => {
                let message = format!("`{name}` is the name of {list}[{first}] already");
                problems.push(Problem::error(format!("{list}[{index}].name"), message));
            }
            None => {
                seen.insert(name, index);
            }
        }
    }
}

fn ports(config: &Config, problems: &mut Vec<Problem>) {
    let listeners = config.listeners.iter().enumerate();
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    let all = listeners.map(|(index, listener)| (format!("listeners[{index}].address"), listener.address));
    for (key, address) in all.chain([("web.listen".to_owned(), config.web.listen)]) {
        if let Some((other, _)) = taken.iter().find(|(_, other)| collide(*other, address)) {
            let message = format!(
                "port {} is taken by `{other}`: two cannot listen on one port",
                address.port()
            );
            problems.push(Problem::error(key.clone(), message));
        }
        taken.push((key, address));
    }
    if !config.web.listen.ip().is_loopback() {
        let message = "is open to the network: it has no authentication and no TLS; keep it on 127.0.0.1";
        problems.push(Problem::warning("web.listen", message));
    }
}

/// Port 0 is chosen by the system. `0.0.0.0` takes the port on every IPv4 address, and `::` on every address: a socket of it takes IPv4
/// as well (ipv6(7), `net.ipv6.bindv6only` = 0).
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |one: IpAddr, other: IpAddr| {
        one == other || (one.is_unspecified() && (one.is_ipv6() || one.is_ipv4() == other.is_ipv4()))
    };
    // `::ffff:a.b.c.d` is the IPv4 address to the system.
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (takes(one, other) || takes(other, one))
}

fn sources(config: &Config, problems: &mut Vec<Problem>) {
    let asks = |tls: &crate::listener::tls::Config| tls.client_certificate != ClientCertificate::None;
    let shown = config
        .listeners
        .iter()
        .any(|listener| listener.tls.as_ref().is_some_and(asks));
    for (index, source) in config.sources.iter().enumerate() {
        if source.wants_certificate() && !shown {
            let message = "is bound to a certificate, but no listener asks for one: give a [listeners.tls] \
                           `client_certificate = \"required\"` (or \"optional\") and `client_ca`";
            problems.push(Problem::error(format!("sources[{index}]"), message));
        }
        for (other_index, other) in config.sources[..index].iter().enumerate() {
            let title = source.calling_ae.iter().find(|title| other.calling_ae.contains(title));
            let same = |a: &ipnet::IpNet| other.addresses.iter().any(|b| a.contains(b) || b.contains(a));
            if let Some(title) = title.filter(|_| source.addresses.iter().any(same)) {
                problems.extend(twice(title, (index, source), (other_index, other)));
            }
        }
    }
}

/// One AE title from one network in two entries. Entries that each want a certificate are told apart by it.
fn twice(title: &AeTitle, later: (usize, &SourceConfig), first: (usize, &SourceConfig)) -> Option<Problem> {
    let ((later_index, later), (first_index, first)) = (later, first);
    let (open, bound) = match (first.wants_certificate(), later.wants_certificate()) {
        (true, true) => return None,
        (false, false) => {
            let message =
                format!("`{title}` from the same network is sources[{first_index}] already, which comes first");
            return Some(Problem::warning(format!("sources[{later_index}].calling_ae"), message));
        }
        (false, true) => (first_index, later_index),
        (true, false) => (later_index, first_index),
    };
    let message = format!(
        "`{title}` from the same network is bound to a certificate by sources[{bound}], and is admitted here without one: take it out \
         of this entry, or name a certificate here too"
    );
    Some(Problem::warning(format!("sources[{open}].calling_ae"), message))
}

/// Loads every key, certificate, authority and list as the box will: missing, unreadable and mismatched ones are said now, and
/// those that no peer will believe.
fn certificates(config: &Config, problems: &mut Vec<Problem>) {
    for (index, listener) in config.listeners.iter().enumerate() {
        if let Some(config) = &listener.tls {
            let faults = crate::listener::tls::faults(config);
            tls(&format!("listeners[{index}].tls"), faults, &config.sources(), problems);
        }
    }
    for (index, source) in config.sources.iter().enumerate() {
        if let Some(config) = &source.commitment.tls {
            let faults = crate::sender::tls::faults(config);
            let table = format!("sources[{index}].commitment.tls");
            tls(&table, faults, &config.sources(), problems);
        }
    }
    for (index, destination) in config.destinations.iter().enumerate() {
        if let Destination::Dicom(dicom) = destination
            && let Some(config) = &dicom.tls
        {
            let faults = crate::sender::tls::faults(config);
            tls(
                &format!("destinations[{index}].tls"),
                faults,
                &config.sources(),
                problems,
            );
        }
    }
}

fn tls(table: &str, faults: Vec<(String, TlsError)>, sources: &Sources, problems: &mut Vec<Problem>) {
    let place = |key: &str| {
        if key.is_empty() {
            table.to_owned()
        } else {
            format!("{table}.{key}")
        }
    };
    problems.extend(
        faults
            .into_iter()
            .map(|(key, error)| Problem::error(place(&key), error.to_string())),
    );
    let warnings = crate::pki::warnings(sources, Clock::System.now());
    problems.extend(
        warnings
            .into_iter()
            .map(|(key, text)| Problem::warning(place(&key), text)),
    );
}

fn folders(config: &Config, problems: &mut Vec<Problem>) {
    let state = &config.node.state;
    if let Some(message) = unwritable(&config.spool.path, state) {
        let whose = anothers(&made_in(&config.spool.path, state)).unwrap_or_default();
        problems.push(Problem::error("spool.path", format!("{message}{whose}")));
    }
    if let Ok(stat) = rustix::fs::statvfs(made_in(&config.spool.path, state)) {
        let (low, disk) = (config.spool.low_water, stat.f_blocks.saturating_mul(stat.f_frsize));
        if low.of(disk) >= disk {
            let message = "is the whole disk of the spool, or more: every image would be refused, as out of resources";
            problems.push(Problem::warning("spool.low_water", message));
        }
    }
    for (index, destination) in config.destinations.iter().enumerate() {
        if let Destination::Folder(folder) = destination {
            delivery(&format!("destinations[{index}]"), folder, state, problems);
        }
        let warnings = destination.warnings().into_iter();
        problems.extend(warnings.map(|(key, what)| Problem::warning(format!("destinations[{index}].{key}"), what)));
    }
    if spool::is_foreign(&config.spool.path) {
        let message = spool::OpenError::NotASpool(config.spool.path.clone()).to_string();
        problems.push(Problem::error("spool.path", message));
    }
    if let Some(message) = no_socket(&config.control.path, state, &config.spool.path) {
        problems.push(Problem::error("control.path", message));
    }
}

/// Why the control socket cannot be made, or must not be: whatever else has its name would be replaced, and removed at the stop.
fn no_socket(path: &Path, state: &Path, spool: &Path) -> Option<String> {
    let Some(name) = path.file_name() else {
        return Some("is no file's name: write one, such as \"/run/waystation/control.sock\"".to_owned());
    };
    let found = std::fs::symlink_metadata(path).map(|facts| facts.file_type());
    let shown = path.display();
    if found.as_ref().is_ok_and(FileType::is_dir) {
        return Some(format!(
            "{shown} is a folder: name a file in it, such as {shown}/control.sock"
        ));
    }
    if found.is_ok_and(|kind| !kind.is_socket()) {
        return Some(format!(
            "{shown} is there and is no socket, and the box would replace it: name another file, or move {} away",
            name.display()
        ));
    }
    let folder = folder_of(path);
    if !folder.exists() && ![state, spool].contains(&folder.as_path()) {
        let shown = folder.display();
        return Some(format!(
            "the folder {shown} does not exist, and the box makes none for its socket: make it, writable for the box's user"
        ));
    }
    unwritable(&folder, state)
}

/// The folder that a path lies in; the working folder for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// The folder that is written for it to be there: itself, or the one that it is made in.
pub(super) fn made_in(path: &Path, state: &Path) -> PathBuf {
    let mut at = path.to_owned();
    if !at.exists() && at.starts_with(state) {
        at = state.to_owned();
    }
    if at.exists() { at } else { folder_of(&at) }
}

/// What is wrong with one destination's folder is its lane's trouble alone: the box starts, and receives for all the others.
fn delivery(place: &str, folder: &Folder, state: &Path, problems: &mut Vec<Problem>) {
    let mut ground = Ground::new(&folder.name, &folder.path);
    ground.note_in(state);
    let moved = || match ground.look() {
        Err(error @ (GroundError::Gone(_) | GroundError::Moved { .. })) => Some(error.to_string()),
        Ok(_) | Err(_) => None,
    };
    if let Some(message) = unwritable(&folder.path, state).or_else(moved) {
        let message = format!("{message}; until then nothing is delivered there");
        problems.push(Problem::warning(format!("{place}.path"), message));
    }
}

/// Why a folder cannot be written. One that is missing may be made when its parent is there; below the state folder (which the
/// box makes) any depth is made. A missing parent elsewhere is most often a disk that is not mounted: never spool beside it.
fn unwritable(path: &Path, state: &Path) -> Option<String> {
    let at = made_in(path, state);
    if !at.exists() {
        return Some(format!(
            "the folder {} does not exist: make it, or mount its disk",
            at.display()
        ));
    }
    if !at.is_dir() {
        return Some(format!("{} is not a folder", at.display()));
    }
    let denied = denied(&at)?;
    Some(format!("{} cannot be written: {denied}", at.display()))
}

/// Why this process can make no file in a folder.
fn denied(folder: &Path) -> Option<Errno> {
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).err()
}

/// What to do about a folder that is closed to this process because it is another user's; `None`: that is not why.
fn anothers(folder: &Path) -> Option<String> {
    let (owner, own) = (
        std::fs::metadata(folder).ok()?.uid(),
        rustix::process::geteuid().as_raw(),
    );
    (owner != own && denied(folder) == Some(Errno::ACCESS)).then(|| {
        format!(
            "; it belongs to the user with the number {owner}, and this runs as {own}, who may not use it: run this as that user, as in \
             `sudo -u '#{owner}' waystation ...`, or give the spool to the user whom the box runs as"
        )
    })
}

/// Compiles the rule folder as the box will, and the promoted sets that it names, against the destinations that there are.
/// `unread`: destinations that are there, but could not be read.
pub(super) fn rules(config: &Config, unread: &[DestinationId]) -> Vec<Problem> {
    let wrong = |message: String| vec![Problem::error("rules.path", message)];
    let Some(path) = &config.rules.path else {
        return wrong("is missing: name the folder with main.rhai".to_owned());
    };
    if !path.is_dir() {
        return wrong(format!("{} is not a folder that can be read", path.display()));
    }
    let destinations = [&config.destination_ids(), unread].concat();
    let own = crate::rules::RuleSet::load(path, &config.rules, &destinations).err();
    let promoted = crate::rules::promoted_problems(path, &config.rules, &destinations);
    let found = own.into_iter().flatten().chain(promoted);
    let problem = |problem: crate::rules::Problem| match problem.file.to_str() {
        // Of a key of ours, and not of a rule file: it gets the place of the key.
        Some(key @ ("rules.key_file" | "rules.zone")) => Problem::error(key, problem.message),
        _ => Problem {
            file: Some(problem.file.display().to_string()),
            line: problem.line,
            column: problem.column,
            ..Problem::error("", problem.message)
        },
    };
    found.map(problem).collect()
}
