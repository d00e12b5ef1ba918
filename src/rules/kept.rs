//! The set in force, kept below `node.state` for the start that finds its folder refused or gone: a mistake that costs nothing
//! while the box runs must not cost a night after a power cut.
//!
//! One file: a hash of what follows, a line break, and the texts of all rule files and tables as JSON. Mode 0600, for tables may name
//! patients; put in place in one rename after each load that succeeded; bounded as rule folders are. It holds for the folder that it
//! was loaded from, and for no other: who names another folder wants other rules.
use super::bench::promotion::{self, Part};
use super::load;
use super::{Config, Problem, RuleSet};
use crate::base::names::DestinationId;
use crate::base::panics::{Panicked, contain};
use crate::base::whole;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Below `node.state`.
pub const FILE: &str = "rules-in-force";
/// Two sets, each with all that a folder may hold, in JSON.
const BYTES_MAX: u64 = 512 << 20;

/// The files of one set: name and text.
pub(super) type Sources = Vec<(String, String)>;

/// What is in force, as text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    /// `rules.path`.
    folder: PathBuf,
    pub(super) current: Sources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) canary: Option<(Part, Sources)>,
}

impl Texts {
    /// Reads what `folder` says is in force: a promoted set and its canary, or the folder's own files. With the compiled sets.
    ///
    /// # Errors
    /// All problems.
    pub(super) fn load(
        folder: &Path,
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<(Self, RuleSet, Option<RuleSet>), Vec<Problem>> {
        let of = |(set, current): (RuleSet, Sources), canary: Option<(Part, RuleSet, Sources)>| {
            let (part, trial) = canary.map(|(part, set, text)| ((part, text), set)).unzip();
            let texts = Self {
                folder: folder.to_owned(),
                current,
                canary: part,
            };
            (texts, set, trial)
        };
        let Some(active) = promotion::active(folder).map_err(|problem| vec![problem])? else {
            return Ok(of(RuleSet::load_with_text(folder, config, destinations)?, None));
        };
        let from = |name: &str| promotion::load_with_text(folder, name, config, destinations);
        let canary = match active.canary {
            None => None,
            Some(canary) => {
                let (set, text) = from(&canary.set)?;
                Some((canary.part, set, text))
            }
        };
        Ok(of(from(&active.current)?, canary))
    }

    /// Compiles what was kept. `place` is where it lies, for the problems.
    ///
    /// # Errors
    /// All problems: it was made for another configuration.
    pub(super) fn compile(
        &self,
        place: &Path,
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<(RuleSet, Option<RuleSet>), Vec<Problem>> {
        let set = |text: &Sources| RuleSet::from_text(place, text, config, destinations);
        let canary = self.canary.as_ref().map(|(_, text)| set(text)).transpose()?;
        Ok((set(&self.current)?, canary))
    }

    /// As `compile`, of what is kept in `state`: the problems begin with that it does not fit.
    ///
    /// # Errors
    /// All problems.
    pub(super) fn usable(
        &self,
        state: &Path,
        config: &Config,
        destinations: &[DestinationId],
    ) -> Result<(RuleSet, Option<RuleSet>), Vec<Problem>> {
        let place = state.join(FILE);
        let compiled = contain(|| self.compile(&place, config, destinations));
        let compiled = compiled.unwrap_or_else(|Panicked| Err(vec![load::stumbled(&place)]));
        compiled.map_err(|mut problems| {
            problems.insert(0, unfit(state, "does not fit this configuration"));
            problems
        })
    }

    /// Keeps it in `state`, in place of what was kept there.
    ///
    /// # Errors
    /// The disk. Then nothing is kept any more: what is older than what was in force last must not come back. Where it cannot be removed
    /// it is emptied; when the disk takes no change at all, the error says that the older one is still there.
    pub(super) fn keep(&self, state: &Path) -> io::Result<()> {
        let (path, text) = (state.join(FILE), serde_json::to_vec(self)?);
        let hash = blake3::hash(&text).to_hex();
        let kept = whole::write(&path, 0o600, &[hash.as_bytes(), b"\n", &text].concat());
        kept.map_err(|error| match gone(&path) {
            Ok(()) => error,
            Err(stays) => io::Error::new(
                stays.kind(),
                format!("{error}; and an older set stays kept, which cannot be removed: {stays}"),
            ),
        })
    }

    /// What is kept in `state` of this rule folder; `None` when nothing is.
    ///
    /// # Errors
    /// Why it cannot be used, in words that follow its name.
    pub(super) fn kept(state: &Path, folder: &Path) -> Result<Option<Self>, String> {
        let path = state.join(FILE);
        let bytes = match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(about) if about.len() > BYTES_MAX => return Err("is longer than any set".to_owned()),
            Err(error) => return Err(format!("cannot be read: {}", error.kind())),
            Ok(_) => std::fs::read(&path).map_err(|error| format!("cannot be read: {}", error.kind()))?,
        };
        let damaged = || "is damaged".to_owned();
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let (hash, text) = (&bytes[..end], &bytes[end + 1..]);
        if blake3::hash(text).to_hex().as_bytes() != hash {
            return Err(damaged());
        }
        let texts: Self = serde_json::from_slice(text).map_err(|_| damaged())?;
        Ok((texts.folder == folder).then_some(texts))
    }
}

/// Removes what is kept, or at least what it says: an empty one is damaged, and takes nobody's place.
fn gone(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => std::fs::File::options().write(true).truncate(true).open(path).map(drop),
        Ok(()) => Ok(()),
    }
}

/// Whether a start may go on although the rule folder of `config` is refused: a set of it is kept in `state`. Whether that one
/// fits the configuration, the start finds out, and `stands_in` without one.
#[must_use]
pub fn may_stand_in(config: &Config, state: &Path) -> bool {
    let folder = config.path.as_deref();
    folder.is_some_and(|folder| !matches!(Texts::kept(state, folder), Ok(None)))
}

/// Whether the set that is kept in `state` would take the place of the rule folder of `config`, which is refused. `false`: none is kept.
///
/// # Errors
/// Why the one that is kept cannot be used: it is damaged, or does not fit these destinations.
pub fn stands_in(config: &Config, state: &Path, destinations: &[DestinationId]) -> Result<bool, Vec<Problem>> {
    let Some(folder) = config.path.as_deref() else {
        return Ok(false);
    };
    let kept = Texts::kept(state, folder).map_err(|message| vec![unfit(state, &message)])?;
    let Some(texts) = kept else { return Ok(false) };
    texts.usable(state, config, destinations).map(|_| true)
}

/// All problems of the promoted sets that a folder says are in force; none when it is in force itself.
#[must_use]
pub fn promoted_problems(folder: &Path, config: &Config, destinations: &[DestinationId]) -> Vec<Problem> {
    match promotion::active(folder) {
        Ok(None) => Vec::new(),
        Ok(Some(_)) | Err(_) => Texts::load(folder, config, destinations).err().unwrap_or_default(),
    }
}

/// As a problem of the kept set: where it lies, and what is wrong.
pub(super) fn unfit(state: &Path, message: &str) -> Problem {
    load::whole(&state.join(FILE), format!("the set that was in force last {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::rules::tests::destinations;
    use crate::rules::{RuleStore, Site};
    use crate::telemetry::metrics::Metrics;
    use std::os::unix::fs::PermissionsExt;

    fn folder(to: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            "main.rhai",
            &format!("fn route(image, from) {{ to(\"{to}\"); }}"),
        );
        write(folder.path(), "t.csv", "a,b\n1,2\n");
        folder
    }

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).unwrap();
    }

    fn load(folder: &Path) -> (Texts, RuleSet) {
        let (texts, set, _) = Texts::load(folder, &Config::default(), &destinations()).unwrap();
        (texts, set)
    }

    #[test]
    fn what_was_in_force_comes_back_as_it_was_and_only_for_its_own_folder() {
        let (folder, state) = (folder("vna"), tempfile::tempdir().unwrap());
        assert_eq!(Texts::kept(state.path(), folder.path()), Ok(None));
        let (texts, set) = load(folder.path());
        texts.keep(state.path()).unwrap();
        let mode = std::fs::metadata(state.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let kept = Texts::kept(state.path(), folder.path()).unwrap().unwrap();
        assert_eq!(kept, texts);
        let (again, canary) = kept.compile(state.path(), &Config::default(), &destinations()).unwrap();
        assert_eq!((again.epoch(), canary.is_some()), (set.epoch(), false));
        assert_eq!(Texts::kept(state.path(), state.path()), Ok(None), "another folder");
        let others = [DestinationId::parse("other").unwrap()];
        let wrong = kept
            .compile(&state.path().join(FILE), &Config::default(), &others)
            .err()
            .unwrap();
        assert!(wrong[0].to_string().contains("unknown destination `vna`"), "{wrong:?}");
        // As `check` asks: only what a start would take stands in.
        let config = Config {
            path: Some(folder.path().to_owned()),
            ..Config::default()
        };
        assert_eq!(stands_in(&config, state.path(), &destinations()), Ok(true));
        let said = stands_in(&config, state.path(), &others).unwrap_err();
        assert!(
            said[0].to_string().contains("does not fit this configuration"),
            "{said:?}"
        );
        assert_eq!(
            stands_in(&config, folder.path(), &destinations()),
            Ok(false),
            "none is kept there"
        );
    }

    #[test]
    fn a_damaged_one_is_said_and_one_that_cannot_be_written_leaves_none() {
        let (folder, state) = (folder("vna"), tempfile::tempdir().unwrap());
        load(folder.path()).0.keep(state.path()).unwrap();
        let path = state.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Texts::kept(state.path(), folder.path()), Err("is damaged".to_owned()));
        let config = Config {
            path: Some(folder.path().to_owned()),
            ..Config::default()
        };
        let said = stands_in(&config, state.path(), &destinations()).unwrap_err();
        assert!(said[0].to_string().contains("is damaged"), "{said:?}");
        // A folder in the draft's place cannot be removed as a file.
        std::fs::create_dir(whole::draft(&path).unwrap()).unwrap();
        assert!(load(folder.path()).0.keep(state.path()).is_err());
        assert_eq!(Texts::kept(state.path(), folder.path()), Ok(None));
    }

    #[test]
    fn what_could_not_be_kept_is_kept_when_there_is_room() {
        let (folder, state) = (folder("vna"), tempfile::tempdir().unwrap());
        let config = Config {
            path: Some(folder.path().to_owned()),
            ..Config::default()
        };
        let site = Site {
            node: "box".to_owned(),
            destinations: destinations(),
            neighbours: Vec::new(),
            state: Some(state.path().to_owned()),
        };
        let draft = whole::draft(&state.path().join(FILE)).unwrap();
        std::fs::create_dir(&draft).unwrap();
        let store = RuleStore::open(&config, site, Metrics::new(), Clock::System).unwrap();
        for _ in 0..2 {
            assert!(store.is_unkept());
            assert_eq!(Texts::kept(state.path(), folder.path()), Ok(None));
            store.keep_again();
        }
        std::fs::remove_dir(&draft).unwrap();
        store.keep_again();
        assert!(!store.is_unkept());
        let kept = Texts::kept(state.path(), folder.path()).unwrap();
        assert_eq!(kept, Some(load(folder.path()).0));
    }

    #[test]
    fn what_cannot_be_removed_is_emptied_and_takes_nobodys_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(gone(&path).is_ok(), "there is none");
        std::fs::write(&path, "older").unwrap();
        assert!(gone(&path).is_ok() && !path.exists());
        // A folder can neither be removed as a file nor emptied.
        std::fs::create_dir(&path).unwrap();
        assert!(gone(&path).is_err());
    }
}
