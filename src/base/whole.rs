//! Small files that are there whole: as they were before, or as they are meant to be, also after a power cut.
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name of `path` in the making; what a run that was cut left there is begun anew by the next.
///
/// # Errors
/// The path names no file.
pub fn draft(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(".new");
    Ok(path.with_file_name(draft))
}

/// Puts `bytes` at `path`, with the permissions `mode` less the process's mask. Durable when it returns. One writer for each path.
/// Blocking.
///
/// # Errors
/// The disk's. What was at `path` before is there still, unless only the last flush, the folder's, has failed.
pub fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let draft = draft(path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let put = || {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    if let Err(error) = put() {
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_as_it_was_or_as_it_is_meant_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.of.a");
        write(&path, 0o600, b"first").unwrap();
        // What a run that was cut left, longer and open to all.
        fs::write(draft(&path).unwrap(), "a draft of before").unwrap();
        write(&path, 0o600, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        // A folder in the draft's place cannot be removed as a file.
        fs::create_dir(draft(&path).unwrap()).unwrap();
        assert!(write(&path, 0o600, b"third").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_ne!(
            draft(Path::new("note.of.a")).unwrap(),
            draft(Path::new("note.of.b")).unwrap()
        );
        assert!(write(Path::new("/"), 0o600, b"").is_err());
    }
}
