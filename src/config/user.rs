//! Whether the user whom the box runs as can read and write what it must: for `waystation check` by root, who can read everything.
//!
//! That user is the owner of `node.state`. Owner, group and mode count, of the file and of each folder on the way to it, with the groups of
//! `/etc/passwd` and `/etc/group`. Where an access control list says more than the mode does, nothing is said.
use super::check::made_in;
use super::{Config, Problem};
use crate::alarms::Security;
use crate::appliance::home;
use crate::sender::Config as Destination;
use crate::{pki, spool};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A user, and how the system calls users and groups.
pub(super) struct User {
    uid: u32,
    groups: Vec<u32>,
    user_names: BTreeMap<u32, String>,
    group_names: BTreeMap<u32, String>,
}

/// What the box does with a file or a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    /// Reads a file that nobody else may read.
    Secret,
    List,
    /// Makes and removes files in a folder.
    Write,
    /// Reads and writes a file that is there.
    Change,
}

impl Need {
    /// As in a mode: 4 read, 2 write, 1 search.
    fn bits(self) -> u32 {
        match self {
            Self::Read | Self::Secret => 4,
            Self::List => 5,
            Self::Write => 7,
            Self::Change => 6,
        }
    }
}

const SEARCH: u32 = 1;

impl User {
    /// Whom a box with this state folder runs as, when root asks and it is somebody else. Blocking.
    pub fn of_box(state: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let facts = std::fs::metadata(state).ok().filter(|facts| facts.uid() != 0)?;
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Some(Self::read(
            facts.uid(),
            facts.gid(),
            &text("/etc/passwd"),
            &text("/etc/group"),
        ))
    }

    /// From the texts of `/etc/passwd` and `/etc/group`. A user who is in neither has the group of his folder.
    fn read(uid: u32, folders_group: u32, passwd: &str, group: &str) -> Self {
        let number = |field: Option<&&str>| field.and_then(|text| text.parse::<u32>().ok());
        let (mut user_names, mut group_names) = (BTreeMap::new(), BTreeMap::new());
        // His own group first.
        let mut groups = Vec::new();
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let Some(id) = number(fields.get(2)) else { continue };
            user_names.entry(id).or_insert_with(|| fields[0].to_owned());
            if id == uid {
                groups.extend(number(fields.get(3)));
            }
        }
        if groups.is_empty() {
            groups.push(folders_group);
        }
        let name: Option<&String> = user_names.get(&uid);
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let Some(id) = number(fields.get(2)) else { continue };
            group_names.entry(id).or_insert_with(|| fields[0].to_owned());
            let members = fields.get(3).map_or("", |members| members).split(',');
            if name.is_some_and(|name| members.into_iter().any(|member| member == name)) {
                groups.push(id);
            }
        }
        Self {
            uid,
            groups,
            user_names,
            group_names,
        }
    }

    /// Somebody of whom nothing but the number is known.
    #[cfg(test)]
    pub fn of_number(uid: u32) -> Self {
        Self::read(uid, u32::MAX, "", "")
    }

    /// Everything that the user cannot read or write. Files below `credentials` are the service manager's to hand over. Blocking.
    pub fn problems(&self, config: &Config, files: &[PathBuf], credentials: Option<&str>) -> Vec<Problem> {
        let handed_over =
            |path: &Path| credentials.is_some_and(|folder| !folder.is_empty() && path.starts_with(folder));
        let own = files.iter().filter_map(|file| {
            let message = self.refused(file, Need::Read)?;
            Some(Problem {
                file: Some(file.display().to_string()),
                ..Problem::error("", message)
            })
        });
        let wanted = wanted(config).into_iter();
        let others = wanted
            .filter(|(_, path, _)| !handed_over(path))
            .filter_map(|(key, path, need)| {
                let message = self.refused(&path, need)?;
                // Its lane's trouble alone: the box starts.
                Some(match key.starts_with("destinations[") && need == Need::Write {
                    true => Problem::warning(key, format!("{message}; until then nothing is delivered there")),
                    false => Problem::error(key, message),
                })
            });
        own.chain(others).collect()
    }

    /// Why the user cannot do with it what the box does, and what to do. `None` as well for what is not there: that is said elsewhere.
    fn refused(&self, path: &Path, need: Need) -> Option<String> {
        let whole = std::fs::canonicalize(path).ok()?;
        let user = self.user(self.uid);
        let mut above: Vec<&Path> = whole.ancestors().skip(1).collect();
        above.reverse();
        if let Some(closed) = above.into_iter().find(|folder| !self.may(folder, SEARCH)) {
            let (shown, folder) = (path.display(), closed.display());
            return Some(format!(
                "the box runs as {user}, who cannot come to {shown}: the folder {folder} is {}: chmod o+x {folder}, or keep it elsewhere",
                self.standing(closed)
            ));
        }
        if self.may(&whole, need.bits()) {
            return None;
        }
        let group = self.group(self.groups.first().copied().unwrap_or_default());
        let (shown, standing) = (whole.display(), self.standing(&whole));
        let owned = std::fs::metadata(&whole).is_ok_and(|facts| facts.uid() == self.uid);
        let (verb, remedy) = match need {
            // Of the owner his own bits count, whatever his group may.
            Need::Read if owned => ("read", format!("chmod u+r {shown}")),
            Need::List if owned => ("list", format!("chmod u+rx {shown}")),
            Need::Read => ("read", format!("chgrp {group} {shown} && chmod g+r {shown}")),
            Need::Secret => ("read", format!("chown {user} {shown} && chmod 600 {shown}")),
            Need::List => ("list", format!("chgrp {group} {shown} && chmod g+rx {shown}")),
            Need::Write => ("write", format!("chown {user} {shown} && chmod u+rwx {shown}")),
            Need::Change => ("write", format!("chown {user} {shown} && chmod u+rw {shown}")),
        };
        Some(format!(
            "the box runs as {user}, who cannot {verb} {shown}: it is {standing}: {remedy}"
        ))
    }

    fn may(&self, path: &Path, bits: u32) -> bool {
        // What cannot be looked at by root is not judged.
        let Ok(facts) = std::fs::metadata(path) else {
            return true;
        };
        let shift = match (facts.uid() == self.uid, self.groups.contains(&facts.gid())) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        (facts.mode() >> shift) & bits == bits || has_list(path)
    }

    /// Owner, group and mode, as `root:root 0600`.
    fn standing(&self, path: &Path) -> String {
        std::fs::metadata(path).map_or_else(
            |_| "gone".to_owned(),
            |facts| {
                let (user, group) = (self.user(facts.uid()), self.group(facts.gid()));
                format!("{user}:{group} {:04o}", facts.mode() & 0o7777)
            },
        )
    }

    fn user(&self, id: u32) -> String {
        self.user_names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn group(&self, id: u32) -> String {
        self.group_names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// Whether an access control list says more than the mode.
fn has_list(path: &Path) -> bool {
    let mut room = [0_u8; 4_096];
    let found = rustix::fs::getxattr(path, "system.posix_acl_access", &mut room);
    matches!(found, Ok(_) | Err(rustix::io::Errno::RANGE))
}

/// A key, the file or folder that it names, and what the box does with it.
type Wanted = (String, PathBuf, Need);

/// Everything that a box reads and writes by its configuration.
fn wanted(config: &Config) -> Vec<Wanted> {
    [rules(config), alarms(config), folders(config), certificates(config)].concat()
}

fn rules(config: &Config) -> Vec<Wanted> {
    let mut all = Vec::new();
    if let Some(folder) = &config.rules.path {
        let key = || "rules.path".to_owned();
        all.push((key(), folder.clone(), Need::List));
        let kind = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rhai" || kind == "csv");
        all.extend(
            entries(folder)
                .into_iter()
                .filter(kind)
                .map(|path| (key(), path, Need::Read)),
        );
    }
    let site = config.rules.key_file.iter();
    all.extend(site.map(|file| ("rules.key_file".to_owned(), file.clone(), Need::Secret)));
    let callers = config.web.callers.iter().enumerate();
    all.extend(callers.map(|(index, caller)| {
        let key = format!("web.callers[{index}].token_file");
        (key, caller.token_file.clone(), Need::Secret)
    }));
    all
}

fn alarms(config: &Config) -> Vec<Wanted> {
    let mut all = Vec::new();
    let mut want = |key: String, path: &Path, need: Need| all.push((key, path.to_owned(), need));
    if let Some(mail) = &config.alarms.mail {
        if let Some(file) = &mail.password_file {
            want("alarms.mail.password_file".into(), file, Need::Secret);
        }
        if mail.security != Security::None {
            want("alarms.mail.ca".into(), &mail.ca, Need::Read);
        }
    }
    for (index, hook) in config.alarms.webhooks.iter().enumerate() {
        let key = |name: &str| format!("alarms.webhooks[{index}].{name}");
        for (name, file) in [("header_file", &hook.header_file), ("hmac_file", &hook.hmac_file)] {
            if let Some(file) = file {
                want(key(name), file, Need::Secret);
            }
        }
        if hook.url.starts_with("https:") {
            want(key("ca"), &hook.ca, Need::Read);
        }
    }
    all
}

fn folders(config: &Config) -> Vec<Wanted> {
    let spool = &config.spool.path;
    let socket = config.control.path.parent().unwrap_or(Path::new(""));
    let own = [
        ("node.state", config.node.state.as_path()),
        ("spool.path", spool),
        ("control.path", socket),
    ];
    let own = own.into_iter().map(|(key, path)| (key.to_owned(), path));
    let destinations = config.destinations.iter().enumerate();
    let destinations = destinations.filter_map(|(index, destination)| match destination {
        Destination::Folder(folder) => Some((format!("destinations[{index}].path"), folder.path.as_path())),
        Destination::Dicom(_) => None,
    });
    let folders = own.chain(destinations);
    let mut all: Vec<Wanted> = folders
        .map(|(key, folder)| (key, made_in(folder, &config.node.state), Need::Write))
        .collect();
    // What root has made in a spool, by running the box or a tool.
    let inner = entries(spool).into_iter();
    let inner = inner.filter(|path| path.is_dir() && !path.ends_with("lost+found"));
    all.extend(inner.map(|path| ("spool.path".to_owned(), path, Need::Write)));
    all.extend(opened_by_a_start(config));
    all
}

/// The box's own files that every start opens.
fn opened_by_a_start(config: &Config) -> impl Iterator<Item = Wanted> {
    let (written, read) = spool::opened_by_a_start(&config.spool.path);
    let of = |key: &'static str, need: Need| move |path: PathBuf| (key.to_owned(), path, need);
    // To lock a file, it need not be written.
    let state = home::files(&config.node.state).map(of("node.state", Need::Secret));
    let written = written.map(of("spool.path", Need::Change));
    let read = read.map(of("spool.path", Need::Secret));
    state.into_iter().chain(written).chain(read)
}

fn certificates(config: &Config) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (table, sources) in tables(config) {
        let (ca, crl) = match sources.side {
            pki::Side::Server { .. } => ("client_ca", "client_crl"),
            pki::Side::Client => ("ca", "crl"),
        };
        let own = [("certificate", &sources.certificate), ("key", &sources.key)];
        let own = own
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_deref()?)));
        let lists = sources.ca.iter().map(|path| (ca, path));
        let lists = lists.chain(sources.crl.iter().map(|path| (crl, path)));
        let every = own.chain(lists);
        all.extend(every.map(|(name, path)| (format!("{table}.{name}"), path.to_owned(), Need::Read)));
    }
    all
}

/// Every `tls` table.
fn tables(config: &Config) -> Vec<(String, pki::Sources)> {
    let listeners = config.listeners.iter().enumerate();
    let listeners = listeners.filter_map(|(at, of)| Some((format!("listeners[{at}].tls"), of.tls.as_ref()?.sources())));
    let sources = config.sources.iter().enumerate();
    let sources = sources.filter_map(|(at, of)| {
        let tls = of.commitment.tls.as_ref()?;
        Some((format!("sources[{at}].commitment.tls"), tls.sources()))
    });
    let destinations = config.destinations.iter().enumerate();
    let destinations = destinations.filter_map(|(at, of)| match of {
        Destination::Dicom(dicom) => Some((format!("destinations[{at}].tls"), dicom.tls.as_ref()?.sources())),
        Destination::Folder(_) => None,
    });
    listeners.chain(sources).chain(destinations).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbroken\nbox:x:4321:4322::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nbox:x:4322:\nkeys:x:4323:other,box\nothers:x:4324:other\n";

    #[test]
    fn a_user_has_the_groups_of_the_system() {
        let of = |uid| User::read(uid, 77, PASSWD, GROUP);
        assert_eq!(of(4321).groups, [4322, 4323]);
        assert_eq!(of(4321).user(4321), "box");
        // Of whom the system's files know nothing, only the folder is known.
        assert_eq!(of(9).groups, [77]);
        assert_eq!(of(9).user(9), "9");
    }

    /// A user who is not the owner of what the test makes, with its group or without.
    fn stranger(folder: &Path, has_group: bool) -> User {
        let facts = std::fs::metadata(folder).unwrap();
        let group = if has_group { facts.gid() } else { facts.gid() + 1 };
        User::read(facts.uid() + 1, group, "", "")
    }

    #[test]
    fn what_the_mode_forbids_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("inner"), folder.path().join("inner/box.key"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(folder.path(), 0o755);
        let (foreign, near) = (stranger(folder.path(), false), stranger(folder.path(), true));
        let said = |user: &User, need| user.refused(&file, need).unwrap_or_default();

        mode(&inner, 0o755);
        mode(&file, 0o640);
        assert_eq!(said(&near, Need::Read), "");
        assert!(
            said(&foreign, Need::Read).contains("0640: chgrp"),
            "{}",
            said(&foreign, Need::Read)
        );
        mode(&file, 0o600);
        assert!(
            said(&near, Need::Secret).contains("0600: chown"),
            "{}",
            said(&near, Need::Secret)
        );
        let owner = User::read(std::fs::metadata(&file).unwrap().uid(), 0, "", "");
        assert_eq!(said(&owner, Need::Secret), "");
        mode(&file, 0o040);
        assert!(said(&owner, Need::Read).ends_with(&format!("chmod u+r {}", file.display())));
        mode(&file, 0o600);

        mode(&inner, 0o750);
        assert!(
            said(&foreign, Need::Read).contains("who cannot come to"),
            "{}",
            said(&foreign, Need::Read)
        );
        assert!(near.refused(&inner, Need::List).is_none());
        let write = near.refused(&inner, Need::Write).unwrap();
        assert!(
            write.contains("cannot write") && write.contains("0750: chown"),
            "{write}"
        );
        assert!(
            foreign.refused(&folder.path().join("none"), Need::Read).is_none(),
            "said elsewhere"
        );
    }
}
