//! What promotion does on the disk: one person at a time, copies of sets under their hash, and the step that puts one in force.
//! A step that fails leaves `active.json` and the history as they were. All that is written has mode and owner of the rule folder: the
//! box reads it as a user of its own, whatever the umask of who promotes.
use super::promotion::{ACTIVE, Active, HISTORY, Line, PromotionError, SETS, place};
use crate::rules::load;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One file of a set that is copied, and all of its fixtures.
const COPY_MAX: u64 = 64 << 20;
/// In `sets`.
const LOCK: &str = ".lock";
/// How long another's turn is waited for: it ends when the box has loaded the rules.
const TURN_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The right to change what is in force. Nobody else has it until it is dropped; keep it until the box has loaded the change.
#[derive(Debug)]
pub struct Turn {
    folder: PathBuf,
    _lock: File,
}

/// What stood before a change, to take it back.
#[derive(Debug)]
pub struct Standing {
    active: Option<Vec<u8>>,
    /// How long the history was.
    history: Option<u64>,
}

impl Turn {
    /// Waits for it, half a minute at most. Blocking.
    ///
    /// # Errors
    /// Somebody else has it all that time, or the rule folder cannot be written.
    pub fn wait(folder: &Path) -> Result<Self, PromotionError> {
        Self::wait_for(folder, TURN_MAX)
    }

    pub(super) fn wait_for(folder: &Path, most: Duration) -> Result<Self, PromotionError> {
        let sets = folder.join(SETS);
        std::fs::create_dir_all(&sets).map_err(disk(&sets, "cannot be made"))?;
        share(folder, &sets)?;
        let path = sets.join(LOCK);
        let mut open = OpenOptions::new();
        let lock = open.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(disk(&path, "cannot be opened"))?;
        share(folder, &path)?;
        let began = Instant::now();
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(disk(&path, "cannot be locked")(error.into()));
            }
            if began.elapsed() >= most {
                return Err(PromotionError::Refused(format!(
                    "another promote or rollback in {} has not ended for {} s; nothing was changed: look at `waystation rules history`, and try again",
                    folder.display(),
                    most.as_secs()
                )));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The rule folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts `active` in force. The history first: a change that is in force is always explained, one that is explained may have
    /// been cut off by a power cut.
    pub(super) fn record(&self, active: &Active, line: &Line) -> Result<(), PromotionError> {
        let path = self.folder.join(ACTIVE);
        let draft = self.folder.join(".active.json.new");
        let text = serde_json::to_string_pretty(active).unwrap_or_default() + "\n";
        durable(&draft, text.as_bytes()).map_err(disk(&draft, "cannot be written"))?;
        share(&self.folder, &draft)?;
        let history = self.folder.join(SETS).join(HISTORY);
        let log = OpenOptions::new().create(true).append(true).open(&history);
        let mut log = log.map_err(disk(&history, "cannot be opened"))?;
        share(&self.folder, &history)?;
        let before = log.metadata().map_err(disk(&history, "cannot be read"))?.len();
        // Plain strings always serialise.
        let line = serde_json::to_string(line).unwrap_or_default() + "\n";
        let said = log.write_all(line.as_bytes()).and_then(|()| log.sync_all());
        let done = match said {
            Err(error) => Err(disk(&history, "cannot be written")(error)),
            Ok(()) => std::fs::rename(&draft, &path).map_err(disk(&path, "cannot be put in place")),
        };
        if done.is_err() {
            // Nothing has happened, so nothing is told. That this fails too is all that can be done.
            let _ = log.set_len(before).and_then(|()| log.sync_all());
            let _ = std::fs::remove_file(&draft);
        }
        done?;
        settle(&self.folder).map_err(disk(&self.folder, "cannot be flushed"))
    }

    /// What stands now, for `take_back`.
    ///
    /// # Errors
    /// It cannot be read: then nothing may be changed.
    pub fn standing(&self) -> Result<Standing, PromotionError> {
        let (active, history) = (self.folder.join(ACTIVE), self.folder.join(SETS).join(HISTORY));
        let there = |error: ErrorKind| error != ErrorKind::NotFound;
        Ok(Standing {
            active: match std::fs::read(&active) {
                Err(error) if there(error.kind()) => return Err(disk(&active, "cannot be read")(error)),
                read => read.ok(),
            },
            history: match std::fs::metadata(&history) {
                Err(error) if there(error.kind()) => return Err(disk(&history, "cannot be read")(error)),
                about => about.ok().map(|about| about.len()),
            },
        })
    }

    /// Puts what is in force, and then the history, back to what they were: the box has refused the change. A set's copy stays.
    ///
    /// # Errors
    /// The disk. Then the change may still be in force.
    pub fn take_back(&self, before: &Standing) -> Result<(), PromotionError> {
        let path = self.folder.join(ACTIVE);
        match &before.active {
            None => remove(&path).map_err(disk(&path, "cannot be removed"))?,
            Some(text) => {
                let draft = self.folder.join(".active.json.new");
                durable(&draft, text).map_err(disk(&draft, "cannot be written"))?;
                share(&self.folder, &draft)?;
                std::fs::rename(&draft, &path).map_err(disk(&path, "cannot be put in place"))?;
            }
        }
        settle(&self.folder).map_err(disk(&self.folder, "cannot be flushed"))?;
        let history = self.folder.join(SETS).join(HISTORY);
        let shortened = match before.history {
            None => remove(&history),
            Some(length) => {
                let log = OpenOptions::new().write(true).open(&history);
                log.and_then(|log| log.set_len(length).and_then(|()| log.sync_all()))
            }
        };
        shortened.map_err(disk(&history, "cannot be shortened"))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file or folder mode and owner of the rule folder. Whoever may not, leaves it: the box says then what it cannot read.
fn share(rules: &Path, path: &Path) -> Result<(), PromotionError> {
    let give = || {
        let (of, own) = (std::fs::metadata(rules)?, std::fs::metadata(path)?);
        let bits = if own.is_dir() { 0o777 } else { 0o666 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(of.mode() & bits))?;
        match (of.uid(), of.gid()) {
            owner if owner == (own.uid(), own.gid()) => Ok(()),
            (user, group) => chown(path, Some(user), Some(group)),
        }
    };
    match give() {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(disk(path, "cannot be made readable")(error)),
        _ => Ok(()),
    }
}

/// The same for all that lies below, links left out.
fn share_all(rules: &Path, path: &Path) -> Result<(), PromotionError> {
    share(rules, path)?;
    let unread = || disk(path, "cannot be read");
    for entry in std::fs::read_dir(path).map_err(unread())? {
        let entry = entry.map_err(unread())?;
        let kind = entry.file_type().map_err(unread())?;
        if kind.is_dir() {
            share_all(rules, &entry.path())?;
        } else if kind.is_file() {
            share(rules, &entry.path())?;
        }
    }
    Ok(())
}

fn disk(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> PromotionError + use<> {
    let path = path.to_owned();
    move |error| PromotionError::Disk { path, what, error }
}

/// A set's own files: rules, tables and fixtures. Made beside its place and renamed, so that a half copy has no name.
pub(super) fn copy(from: &Path, rules: &Path, set: &str) -> Result<(), PromotionError> {
    let to = &place(rules, set);
    if to.is_dir() {
        return share_all(rules, to);
    }
    let parent = to.parent().unwrap_or(to);
    std::fs::create_dir_all(parent).map_err(disk(parent, "cannot be made"))?;
    let draft = tempfile::Builder::new()
        .prefix(".draft-")
        .tempdir_in(parent)
        .map_err(disk(parent, "cannot be written to"))?;
    for (folder, kinds) in [("", &["rhai", "csv"][..]), ("fixtures", &["toml", "json", "dcm"][..])] {
        let source = from.join(folder);
        let Ok(entries) = std::fs::read_dir(&source) else {
            continue;
        };
        let target = draft.path().join(folder);
        std::fs::create_dir_all(&target).map_err(disk(&target, "cannot be made"))?;
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            let about = std::fs::metadata(&path).map_err(disk(&path, "cannot be read"))?;
            let (Some(name), true) = (path.file_name(), about.is_file() && about.len() <= COPY_MAX) else {
                continue;
            };
            if kinds.contains(&kind) {
                let text = std::fs::read(&path).map_err(disk(&path, "cannot be read"))?;
                durable(&target.join(name), &text).map_err(disk(&target, "cannot be written"))?;
            }
        }
    }
    let copied = load::read(draft.path()).map(|sources| format!("{:016x}", load::epoch(&sources)));
    if copied.ok().as_deref() != Some(set) {
        let message = "was changed while it was copied: try again when nobody writes there";
        return Err(PromotionError::Refused(format!("{}: {message}", from.display())));
    }
    let draft = draft.keep();
    share_all(rules, &draft)?;
    std::fs::rename(&draft, to).map_err(disk(to, "cannot be put in place"))?;
    settle(parent).map_err(disk(parent, "cannot be flushed"))
}

fn durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn settle(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::promotion;
    use super::super::promotion::tests::{A, B, candidate, order, turn};
    use super::*;

    #[test]
    fn what_is_written_has_the_mode_of_the_rule_folder_and_is_taken_back_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let ((a, first), (b, second)) = (candidate(A), candidate(B));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let set_mode = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        set_mode(0o751);
        let before = turn(&folder).standing().unwrap();
        promotion::promote(&turn(&folder), (a.path(), &first), None, None, &order("")).unwrap();
        let first_stood = promotion::active(folder.path()).unwrap().unwrap();
        let set = promotion::place(folder.path(), &promotion::name(&first));
        let sets = folder.path().join(SETS);
        for place in [&sets, &set, &set.join("fixtures")] {
            assert_eq!(mode(place), 0o751, "{}", place.display());
        }
        let files = [
            folder.path().join(ACTIVE),
            sets.join(HISTORY),
            set.join("main.rhai"),
            set.join("fixtures/a.toml"),
        ];
        for file in &files {
            assert_eq!(mode(file), 0o640, "{}", file.display());
        }
        // Another promotion of the same set mends what another program had written.
        set_mode(0o755);
        let first_stands = turn(&folder).standing().unwrap();
        promotion::promote(&turn(&folder), (b.path(), &second), None, None, &order("")).unwrap();
        promotion::promote(&turn(&folder), (a.path(), &first), None, None, &order("")).unwrap();
        assert!(files.iter().all(|file| mode(file) == 0o644));
        let of = |path: &Path| std::fs::read(path).ok();
        turn(&folder).take_back(&first_stands).unwrap();
        assert_eq!(promotion::active(folder.path()).unwrap(), Some(first_stood));
        assert_eq!((promotion::history(folder.path()).len(), mode(&files[0])), (1, 0o644));
        turn(&folder).take_back(&before).unwrap();
        assert_eq!(
            (of(&files[0]), of(&files[1])),
            (None, None),
            "as it was before the first promotion"
        );
    }
}
