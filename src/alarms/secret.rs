//! Secrets of the alarms' channels, from files: passwords, header lines, signing keys. Read again at each use, so that a new one needs
//! no restart. An error names the file and what to do, never what stands in it.
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The longest secret.
const SECRET_MAX: u64 = 4_096;

/// The file's text without the line end. Blocking.
///
/// # Errors
/// It is no file or cannot be read, everybody may read it, or nothing is in it.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let about = file
        .metadata()
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if !about.is_file() {
        return Err(format!("{shown} is no file: name the file that holds the secret"));
    }
    let mode = about.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("{shown} may be read by everybody: chmod o= {shown}"));
    }
    let mut text = String::new();
    file.take(SECRET_MAX)
        .read_to_string(&mut text)
        .map_err(|_| format!("{shown} cannot be read as text"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(['\r', '\n']) {
        return Err(format!("{shown} must hold one line"));
    }
    Ok(text.to_owned())
}
