//! What promotion does on the disk: one person at a time, copies of sets under their hash, and the step that puts one in force.
//! A step that fails leaves `active.json` and the history as they were.
use super::promotion::{ACTIVE, Active, HISTORY, Line, PromotionError, SETS};
use crate::rules::load;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::Write;
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
        let path = sets.join(LOCK);
        let mut open = OpenOptions::new();
        let lock = open.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(disk(&path, "cannot be opened"))?;
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
        let history = self.folder.join(SETS).join(HISTORY);
        let log = OpenOptions::new().create(true).append(true).open(&history);
        let mut log = log.map_err(disk(&history, "cannot be opened"))?;
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
}

fn disk(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> PromotionError + use<> {
    let path = path.to_owned();
    move |error| PromotionError::Disk { path, what, error }
}

/// A set's own files: rules, tables and fixtures. Made beside its place and renamed, so that a half copy has no name.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), PromotionError> {
    if to.is_dir() {
        return Ok(());
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
    if copied.ok().as_deref() != to.file_name().and_then(|name| name.to_str()) {
        let message = "was changed while it was copied: try again when nobody writes there";
        return Err(PromotionError::Refused(format!("{}: {message}", from.display())));
    }
    let draft = draft.keep();
    // The box reads it as a user of its own.
    readable(&draft).map_err(disk(&draft, "cannot be made readable"))?;
    std::fs::rename(&draft, to).map_err(disk(to, "cannot be put in place"))?;
    settle(parent).map_err(disk(parent, "cannot be flushed"))
}

fn readable(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

fn durable(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn settle(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}
