//! What a site's configuration lends to the words: its time zone and its secret key. Read once when rules are loaded, so that
//! a decision opens no file; part of the set's epoch, because both change what is decided.
use super::{Config, Problem};
use crate::dicom::moment;
use crate::dicom::pseudonym::Key;
use jiff::tz::TimeZone;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The site's zone and key, where the configuration names them.
#[derive(Clone, Default)]
pub(super) struct Local {
    pub(super) zone: Option<TimeZone>,
    pub(super) key: Option<Key>,
}

impl Local {
    /// # Errors
    /// Problems of `rules.zone` and `rules.key_file`; nothing of the key's text.
    pub(super) fn read(config: &Config) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut local = Self::default();
        if let Some(name) = &config.zone {
            local.zone = moment::zone(name);
            if local.zone.is_none() {
                problems.push(problem("rules.zone", unknown_zone(name)));
            }
        }
        if let Some(path) = &config.key_file {
            match key(path) {
                Ok(key) => local.key = Some(key),
                Err(message) => problems.push(problem("rules.key_file", message)),
            }
        }
        if problems.is_empty() { Ok(local) } else { Err(problems) }
    }

    /// The epoch of rules that are read with this zone and key. Without either, it is that of the files.
    pub(super) fn epoch(&self, files: u64) -> u64 {
        if self.zone.is_none() && self.key.is_none() {
            return files;
        }
        let mut hash = blake3::Hasher::new();
        hash.update(&files.to_be_bytes());
        let zone = self.zone.as_ref().and_then(TimeZone::iana_name).unwrap_or_default();
        hash.update(zone.as_bytes());
        hash.update(&[0]);
        if let Some(key) = &self.key {
            hash.update(&key.fingerprint());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first)
    }
}

/// What is said of a zone that the IANA data does not have.
pub(super) fn unknown_zone(name: &str) -> String {
    let said = format!("`{name}` is no IANA time zone");
    match moment::nearest_zone(name) {
        Some(nearest) => format!("{said}; did you mean `{nearest}`?"),
        None => said,
    }
}

/// Whether others than the owner can come at a file of this mode. A credential of systemd shows 0440 and the group root where it is
/// handed over by an access list (systemd.exec, `LoadCredential=`): the group's bits are then the list's mask, and root reads all anyway.
fn is_open_to_others(mode: u32, group: u32) -> bool {
    let credential = group == 0 && mode & 0o777 == 0o440;
    mode & 0o077 != 0 && !credential
}

/// The key in a file that only its owner can read.
fn key(path: &Path) -> Result<Key, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    let about = file.metadata().map_err(cannot)?;
    if !about.is_file() {
        return Err(format!("{} is not a plain file", path.display()));
    }
    if is_open_to_others(about.permissions().mode(), about.gid()) {
        return Err(format!(
            "{} can be read by others: chmod 600 it, and make a new key if others may have read it",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    let secret = bytes.trim_ascii();
    if secret.len() < KEY_BYTES_MIN || bytes.len() as u64 > KEY_BYTES_MAX {
        return Err(format!(
            "{} must hold {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes: openssl rand -hex 32 makes a key",
            path.display()
        ));
    }
    Ok(Key::of(secret))
}

fn problem(place: &str, message: String) -> Problem {
    Problem {
        file: place.into(),
        line: None,
        column: None,
        message,
    }
}

/// 32 characters of hexadecimal text are 128 bits; more than 4 KiB is no key but a wrong path.
const KEY_BYTES_MIN: usize = 32;
const KEY_BYTES_MAX: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, text: &str, mode: u32) -> Config {
        let path = folder.join("site.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Config {
            key_file: Some(path),
            ..Config::default()
        }
    }

    fn said(config: &Config) -> String {
        Local::read(config).err().unwrap()[0].to_string()
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_too_short_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "0123456789abcdef0123456789abcdef";
        assert!(Local::read(&config(folder.path(), secret, 0o600)).is_ok());
        let open = said(&config(folder.path(), secret, 0o640));
        assert!(open.contains("rules.key_file") && open.contains("chmod 600"), "{open}");
        for (text, words) in [
            ("short", "openssl rand"),
            ("", "openssl rand"),
            (&"x".repeat(5_000), "must hold 32 to 4096"),
        ] {
            let problem = said(&config(folder.path(), text, 0o600));
            assert!(problem.contains(words) && !problem.contains("short"), "{problem}");
        }
        let gone = Config {
            key_file: Some(folder.path().join("gone")),
            ..Config::default()
        };
        assert!(said(&gone).contains("cannot be read"));
        let directory = Config {
            key_file: Some(folder.path().to_owned()),
            ..Config::default()
        };
        assert!(said(&directory).contains("not a plain file"));
    }

    #[test]
    fn a_zone_that_does_not_exist_names_the_nearest() {
        let wrong = Config {
            zone: Some("Europe/Berln".to_owned()),
            ..Config::default()
        };
        assert!(said(&wrong).contains("did you mean `Europe/Berlin`?"));
    }

    #[test]
    fn another_key_or_zone_is_another_epoch_and_none_is_that_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let with = |secret: &str, zone: Option<&str>| {
            let config = Config {
                zone: zone.map(str::to_owned),
                ..config(folder.path(), secret, 0o400)
            };
            std::fs::set_permissions(folder.path().join("site.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
            Local::read(&config).unwrap().epoch(7)
        };
        let (a, b) = (&"a".repeat(32), &"b".repeat(32));
        let epochs = [
            with(a, None),
            with(b, None),
            with(a, Some("UTC")),
            Local::default().epoch(7),
        ];
        for (at, epoch) in epochs.iter().enumerate() {
            assert!(!epochs[..at].contains(epoch));
        }
        assert_eq!(with(a, None), epochs[0]);
        assert_eq!(epochs[3], 7);
    }

    #[test]
    fn a_key_is_its_owners_or_a_credential() {
        for (mode, group, open) in [
            (0o600, 1000, false),
            (0o400, 0, false),
            (0o440, 0, false),
            (0o440, 1000, true),
            (0o640, 0, true),
            (0o444, 0, true),
            (0o404, 0, true),
        ] {
            assert_eq!(is_open_to_others(0o100_000 | mode, group), open, "{mode:o} {group}");
        }
    }
}
