//! `spool export`: copies payloads out under readable names. Needs the files only, no index, and disturbs nobody:
//! it works beside a running box, and after the index is lost.
use super::folder;
use super::inspect::{Found, inspect};
use super::model::{Instance, OpenError};
use super::payload::path_of;
use super::query::Filter;
use crate::base::names::Uid;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What was copied.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ExportReport {
    pub exported: u64,
    pub bytes: u64,
    /// Our ids of files that are cut, damaged or still arriving.
    pub skipped: Vec<String>,
}

/// Two instances of one UID get `_1`, `_2` up to this.
const SAME_NAME_MAX: usize = 10_000;

/// Copies what matches `filter` (its source, instance, study and SOP instance; the rest is about jobs and not looked
/// at) to `to/STUDY/SOPINSTANCE.dcm`. Existing files are never overwritten.
///
/// # Errors
/// The spool cannot be listed or the copies cannot be written.
pub fn export(path: &Path, to: &Path, filter: &Filter) -> Result<ExportReport, OpenError> {
    let failed = |what| {
        let path = path.to_owned();
        move |error: io::Error| OpenError::Io { path, what, error }
    };
    let mut report = ExportReport::default();
    let listing = folder::list(path).map_err(failed("payloads cannot be listed"))?;
    for id in listing.payloads {
        match inspect(path, id, true) {
            Ok(Found::Empty) => {}
            Ok(Found::Whole(record, _)) if filter.is_about(&record.instance) => {
                let bytes =
                    copy(&path_of(path, id), to, &record.instance).map_err(failed("a copy cannot be written"))?;
                report.exported += 1;
                report.bytes += bytes;
            }
            Ok(Found::Whole(..)) => {}
            Ok(Found::Partial | Found::Damaged(_) | Found::Other(..)) | Err(_) => report.skipped.push(id.to_string()),
        }
    }
    Ok(report)
}

fn copy(from: &Path, to: &Path, instance: &Instance) -> io::Result<u64> {
    let own = instance.id.to_string();
    let directory = to.join(instance.study.as_ref().map_or(own.clone(), |study| part(study, &own)));
    fs::create_dir_all(&directory)?;
    let name = part(&instance.sop_instance, &own);
    for count in 0..SAME_NAME_MAX {
        let path = numbered(&directory, &name, count);
        match File::options().write(true).create_new(true).open(&path) {
            Ok(mut copy) => {
                let bytes = io::copy(&mut File::open(from)?, &mut copy)?;
                copy.sync_all()?;
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

fn numbered(directory: &Path, name: &str, count: usize) -> PathBuf {
    if count == 0 {
        directory.join(format!("{name}.dcm"))
    } else {
        directory.join(format!("{name}_{count}.dcm"))
    }
}

/// A UID as one part of a path. It has digits and dots only; one that is dots alone, or starts with one, is not used.
fn part(uid: &Uid, own: &str) -> String {
    let text = uid.as_str();
    if text.starts_with('.') || text.contains("..") {
        own.to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_uid_climbs_out_of_the_directory() {
        for bad in ["..", ".", "1..2", ".1", "..1"] {
            assert_eq!(part(&Uid::parse(bad).unwrap(), "own"), "own", "{bad}");
        }
        assert_eq!(part(&Uid::known("1.2.3"), "own"), "1.2.3");
    }
}
