//! A destination folder: Part 10 files, each either whole and durable under its name or not there at all.
//!
//! A file is written under a temporary name in its own folder, flushed, renamed without replacing anything, and the folder
//! is flushed; folders made on the way are flushed in their parents. The same content under the name counts as
//! delivered; other content gets `_1`, `_2` … Names come from `template.rs` only.
use super::config::Folder;
use super::data_set::{DataSet, Fault};
use super::ground::{Ground, GroundError};
use super::outcome::{Down, DownKind, Job, Outcome};
use super::payload::PayloadReader;
use super::template::Template;
use super::transport::Progress;
use crate::base::fault::{Plant, planted};
use crate::base::flushed;
use crate::base::names::DestinationId;
use crate::dicom::part10::FileMeta;
use dicom_core::Tag;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder as a destination, with its template parsed.
#[derive(Clone, Debug)]
pub struct Shelf {
    name: DestinationId,
    root: PathBuf,
    ground: Arc<Ground>,
    template: Template,
}

impl Shelf {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// # Errors
    /// The template's; the configuration's check has shown it before.
    pub fn new(config: &Folder) -> Result<Self, super::template::TemplateError> {
        Ok(Self {
            name: config.name.clone(),
            root: config.path.clone(),
            ground: Arc::new(Ground::new(&config.name, &config.path)),
            template: Template::parse(&config.template)?,
        })
    }

    /// The same, with `node.state`: below it folders of any depth are made, and in it is noted where files were delivered.
    #[must_use]
    pub fn housed(mut self, state: &Path) -> Self {
        let mut ground = Ground::new(&self.name, &self.root);
        ground.note_in(state);
        self.ground = Arc::new(ground);
        self
    }

    /// Writes one instance. Cancelled half-way it leaves at most a temporary file, which the next try replaces.
    pub async fn store<R: PayloadReader>(&self, job: &Job, reader: R, progress: &Progress) -> Outcome {
        progress.touch();
        match self.try_store(job, reader, progress).await {
            Ok(()) => Outcome::Confirmed { status: 0 },
            Err(Failure::Ours(fault)) => fault.into(),
            Err(Failure::Ground(error)) => Outcome::Down(unfounded(&error)),
            Err(Failure::Crowd) => refused(TOO_MANY),
            Err(Failure::Disk(error)) => self.blame(&error).await,
        }
    }

    /// Whether the folder can be written: makes it where it may be made, and a file in it, durably, which it removes.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn probe(&self) -> Result<(), Down> {
        let trial = self.root.join(format!(".waystation-{}.probe", self.name));
        let ground = self.ground.clone();
        let look = move || {
            ground.stand()?;
            let _turn = ground.turn();
            let written = write_trial(&trial);
            // Whatever became of it, nothing of it stays.
            let removed = std::fs::remove_file(&trial);
            Ok(written.and(removed)?)
        };
        blocking(look).await.map_err(|error| unfounded(&error))
    }

    /// Whose trouble an error was that came while an instance was written: the folder's when no other file can be written to it
    /// either, else this instance's alone, and the others go on.
    async fn blame(&self, error: &io::Error) -> Outcome {
        if error.kind() == io::ErrorKind::AlreadyExists || error.kind() == io::ErrorKind::NotADirectory {
            return refused(NAME_TAKEN);
        }
        if is_of_all(error) {
            return Outcome::Down(storage(error));
        }
        match self.probe().await {
            Ok(()) => refused(format!("{NOT_WRITTEN}: {}", words(error))),
            Err(down) => Outcome::Down(down),
        }
    }

    async fn try_store<R: PayloadReader>(&self, job: &Job, reader: R, progress: &Progress) -> Result<(), Failure> {
        let mut data_set = DataSet::open(job, reader, true).await?;
        let head = data_set
            .head()
            .ok_or_else(|| Fault::Edit("the head was not read".to_owned()))?;
        let name = self.template.expand(head);
        let meta = FileMeta {
            sop_class: job.sop_class.clone(),
            sop_instance: data_set.sop_instance().clone(),
            transfer_syntax: job.transfer_syntax.clone(),
            // The header of a file without identity does not name the station that made it.
            source_ae: (head.first(PATIENT_IDENTITY_REMOVED) != "YES").then(|| job.source_ae.clone()),
            private: None,
        };
        let folder = name.parent().unwrap_or(Path::new("")).to_owned();
        let ground = self.ground.clone();
        let mount = blocking(move || ground.stand()).await.map_err(Failure::Ground)?;
        let (root, id) = (self.root.clone(), format!("{}-{}", job.instance, self.name));
        let mut draft = blocking(move || Draft::begin(&root, &folder, &id)).await?;
        let mut piece = Some(meta.write().into());
        while let Some(bytes) = piece {
            draft = draft.write(bytes).await?;
            progress.touch();
            piece = data_set.next().await?;
        }
        let target = self.root.join(name);
        if !blocking(move || draft.publish(&target)).await? {
            return Err(Failure::Crowd);
        }
        let ground = self.ground.clone();
        blocking(move || ground.keep(&mount)).await.map_err(Failure::Ground)
    }
}

enum Failure {
    Ours(Fault),
    /// The destination folder itself.
    Ground(GroundError),
    Disk(io::Error),
    /// `NUMBERS_MAX` files of its name have other content.
    Crowd,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// A file under its temporary name. Dropped, it is removed.
struct Draft {
    file: File,
    temporary: PathBuf,
    hash: blake3::Hasher,
    length: u64,
    published: bool,
}

impl Draft {
    fn begin(root: &Path, folder: &Path, id: &str) -> io::Result<Self> {
        make_folders(root, folder)?;
        // Our own ids only, and none that a rebuild of the index gives anew: what a crash left under the same name is of the same
        // instance for the same destination, and is written over.
        let temporary = root.join(folder).join(format!(".waystation-{id}.part"));
        Ok(Self {
            file: File::create(&temporary)?,
            temporary,
            hash: blake3::Hasher::new(),
            length: 0,
            published: false,
        })
    }

    async fn write(mut self, bytes: bytes::Bytes) -> io::Result<Self> {
        blocking(move || {
            self.file.write_all(&bytes)?;
            self.hash.update(&bytes);
            self.length += bytes.len() as u64;
            Ok(self)
        })
        .await
    }

    /// Flushes the file and gives it its name, or finds the same file there already. False: all numbers of that name are taken.
    fn publish(mut self, target: &Path) -> io::Result<bool> {
        self.file.sync_data()?;
        let folder = target.parent().unwrap_or(Path::new("."));
        for number in 0..=NUMBERS_MAX {
            let name = numbered(target, number);
            match rename_new(&self.temporary, &name) {
                Ok(()) => {
                    self.published = true;
                    return sync_folder(folder).map(|()| true);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if self.same_as(&name)? {
                        // It may be there because a flush failed after its rename: flush now.
                        File::open(&name)?.sync_data()?;
                        return sync_folder(folder).map(|()| true);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn same_as(&self, other: &Path) -> io::Result<bool> {
        let mut file = match File::open(other) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        if !about.is_file() || about.len() != self.length {
            return Ok(false);
        }
        let mut hash = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize() == self.hash.finalize()),
                count => hash.update(&buffer[..count]),
            };
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: the next try of the same job writes over what stays.
            drop(std::fs::remove_file(&self.temporary));
        }
    }
}

/// Renames only when the new name is free, in one step where the file system can.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            // NFS and some others: a link is as atomic, and also refuses a name that is taken.
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        done => done.map_err(Into::into),
    }
}

/// Makes `root` and the folders under it, each flushed in its parent.
pub(super) fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    let whole = root.join(folder);
    let missing: Vec<&Path> = whole
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .take_while(|path| !path.is_dir())
        .collect();
    for path in missing.into_iter().rev() {
        match std::fs::create_dir(path) {
            Ok(()) => {}
            // Another worker was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if planted(Plant::SkipDirectorySync) {
        return Ok(());
    }
    let folder = File::open(folder)?;
    folder.sync_all()?;
    flushed::confirm(&folder)
}

/// `name.dcm` → `name_1.dcm`.
fn numbered(target: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return target.to_owned();
    }
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    let name = match target.extension() {
        None => format!("{stem}_{number}"),
        Some(extension) => format!("{stem}_{number}.{}", extension.to_string_lossy()),
    };
    target.with_file_name(name)
}

/// A full disk has room for a small file, and what this process lacks it may have a moment later.
fn is_of_all(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let all = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
    ];
    Errno::from_io_error(error).is_some_and(|error| all.contains(&error))
}

fn write_trial(trial: &Path) -> io::Result<()> {
    let mut file = File::create(trial)?;
    file.write_all(b"?")?;
    file.sync_data()?;
    flushed::confirm(&file)
}

fn refused(why: impl Into<String>) -> Outcome {
    Outcome::Refused { why: why.into() }
}

fn storage(error: &io::Error) -> Down {
    Down::new(DownKind::Storage, words(error))
}

fn unfounded(error: &GroundError) -> Down {
    Down::new(DownKind::Storage, error.to_string())
}

/// The error's number in words, or its kind: its own text could carry a path made of attributes.
pub(super) fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number).to_string(),
        None => error.kind().to_string(),
    }
}

async fn blocking<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let stopped = |error| E::from(io::Error::other(error));
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

/// The last number: one file more, which has none, may stand beside others with different content under one name.
const NUMBERS_MAX: u32 = 1_000;
const PATIENT_IDENTITY_REMOVED: Tag = Tag(0x0012, 0x0062);
const TOO_MANY: &str = "1,001 files of its name with other content are there already: let the destination's template carry {SOPInstanceUID}";
const NOT_WRITTEN: &str = "its file could not be written where its name leads, although the folder takes others";
const NAME_TAKEN: &str = "another file or folder stands in the way of its name";
