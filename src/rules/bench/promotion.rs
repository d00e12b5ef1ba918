//! Rule sets by their content, and which of them is in force: what `rules promote`, `rollback` and `history` write and the box
//! reads. Everything lies in the rule folder: `sets/EPOCH/` holds a copy of each promoted set, `active.json` says which one is
//! in force (and which one is a canary), `sets/history.jsonl` who did what and when.
//!
//! Promises: what is in force changes in one rename, so that neither a crash nor a reader in between sees half a set; a set in
//! `sets/` is never changed, and one whose files no longer have their hash is refused. A folder without `active.json` is in
//! force as it stands.
use super::shelf::copy;
pub use super::shelf::{Standing, Turn};
use crate::base::names::{DestinationId, SourceId};
use crate::dicom::head::Head;
use crate::rules::kept::Sources;
use crate::rules::{Config, Facts, Problem, RuleSet};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(in crate::rules) const ACTIVE: &str = "active.json";
pub(super) const SETS: &str = "sets";
pub(super) const HISTORY: &str = "history.jsonl";
const REASON_MAX: usize = 200;

/// What is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// The set's hash, as `rules check` shows it.
    pub current: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What `rollback` returns to, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
}

/// A set that decides for a part of the images only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    pub set: String,
    pub part: Part,
}

/// Which images a canary decides for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Sources(Vec<SourceId>),
    /// Per cent of the studies; a study stays whole.
    Share(u8),
}

/// One line of the history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    pub at: String,
    pub who: String,
    /// `promote`, `canary`, `finish`, `rollback`.
    pub what: String,
    pub set: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Why a change was not made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PromotionError {
    #[error("{}: {what}: {}", .path.display(), .error.kind())]
    Disk {
        path: PathBuf,
        what: &'static str,
        error: std::io::Error,
    },
    #[error("{0}")]
    Refused(String),
}

/// Who orders a change, when, and why.
#[derive(Clone, Debug)]
pub struct Order {
    pub who: String,
    pub at: String,
    pub reason: String,
}

impl Part {
    /// Whether the canary decides for this image. The share goes by the study, so that one patient's images stay together.
    #[must_use]
    pub fn holds(&self, facts: &Facts, head: &Head) -> bool {
        match self {
            Self::Sources(sources) => sources.contains(&facts.source),
            Self::Share(percent) => {
                let study = head.first(dicom_core::Tag(0x0020, 0x000D));
                let name = if study.is_empty() {
                    facts.sop_instance.as_str()
                } else {
                    study.as_str()
                };
                let hash = blake3::hash(name.as_bytes());
                let first = u64::from_be_bytes(std::array::from_fn(|at| hash.as_bytes()[at]));
                first % 100 < u64::from(*percent)
            }
        }
    }
}

/// What the folder says is in force; `None` when it has never seen a promotion.
///
/// # Errors
/// The file is there and cannot be read: nothing may be guessed then.
pub fn active(folder: &Path) -> Result<Option<Active>, Problem> {
    let path = folder.join(ACTIVE);
    let problem = |message: String| Problem {
        file: path.clone(),
        line: None,
        column: None,
        message,
    };
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem(format!("cannot be read: {}", error.kind()))),
        Ok(text) => match serde_json::from_str(&text) {
            Ok(active) => Ok(Some(active)),
            Err(error) => Err(problem(format!(
                "is damaged at line {}: promote a set anew, or remove the file to use the folder itself",
                error.line()
            ))),
        },
    }
}

/// The folder that a set of this hash lies in.
#[must_use]
pub fn place(folder: &Path, set: &str) -> PathBuf {
    folder.join(SETS).join(set)
}

/// Loads a set from `sets/` and makes sure that it is still what its name says.
///
/// # Errors
/// Its problems, or that its files were changed.
pub fn load(
    folder: &Path,
    set: &str,
    config: &Config,
    destinations: &[DestinationId],
) -> Result<RuleSet, Vec<Problem>> {
    Ok(load_with_text(folder, set, config, destinations)?.0)
}

/// As `load`, with the texts that the set was made of.
///
/// # Errors
/// As `load`.
pub(in crate::rules) fn load_with_text(
    folder: &Path,
    set: &str,
    config: &Config,
    destinations: &[DestinationId],
) -> Result<(RuleSet, Sources), Vec<Problem>> {
    let path = place(folder, set);
    let loaded = RuleSet::load_with_text(&path, config, destinations)?;
    if name(&loaded.0) == set {
        return Ok(loaded);
    }
    Err(vec![Problem {
        file: path,
        line: None,
        column: None,
        message: "was changed after it was promoted: promote the change as a new set".to_owned(),
    }])
}

/// A set's name in `sets/`.
#[must_use]
pub fn name(set: &RuleSet) -> String {
    format!("{:016x}", set.content())
}

/// Puts a copy of `candidate` in force: whole, or as a canary for a part of the images. `own` is the folder's own set, if it can be
/// used: at the first promotion it is copied too, for a rollback to return to.
///
/// # Errors
/// The copy cannot be made, or there is no set for the rest of the images yet.
pub fn promote(
    turn: &Turn,
    (candidate, set): (&Path, &RuleSet),
    own: Option<&RuleSet>,
    part: Option<Part>,
    order: &Order,
) -> Result<Active, PromotionError> {
    let (folder, new) = (turn.folder(), name(set));
    let before = known(folder)?;
    copy(candidate, folder, &new)?;
    let (next, what) = match (part, before) {
        (None, None) => {
            let mut next = only(&new);
            let own = own.map(name).filter(|own| *own != new);
            if let Some(own) = &own {
                copy(folder, folder, own)?;
            }
            next.before.extend(own);
            (next, "promote")
        }
        (None, Some(before)) => (after(before, &new), "promote"),
        (Some(_), None) => {
            let message = "a canary needs a set for the other images: promote the set in force first";
            return Err(PromotionError::Refused(message.to_owned()));
        }
        (Some(part), Some(before)) => {
            let canary = Some(Canary { set: new.clone(), part });
            (Active { canary, ..before }, "canary")
        }
    };
    record(turn, &next, (what, &new), order)?;
    Ok(next)
}

/// Puts the canary in force for all images.
///
/// # Errors
/// There is none.
pub fn finish(turn: &Turn, order: &Order) -> Result<Active, PromotionError> {
    let before = known(turn.folder())?;
    let Some((active, canary)) = before.and_then(|active| Some((active.clone(), active.canary?))) else {
        return Err(PromotionError::Refused("there is no canary".to_owned()));
    };
    let next = after(active, &canary.set);
    record(turn, &next, ("finish", &canary.set), order)?;
    Ok(next)
}

/// Ends a canary, or returns to the set before.
///
/// # Errors
/// There is neither a canary nor a set before.
pub fn rollback(turn: &Turn, order: &Order) -> Result<Active, PromotionError> {
    let Some(mut active) = known(turn.folder())? else {
        let message = "nothing was promoted yet: the rule folder itself is in force";
        return Err(PromotionError::Refused(message.to_owned()));
    };
    if active.canary.take().is_none() {
        active.current = active.before.pop().ok_or_else(|| {
            PromotionError::Refused(format!(
                "there is no set before this one. To use the files of the rule folder itself: run `waystation rules check {}`, remove {}, \
                 and run `waystation reload`",
                turn.folder().display(),
                turn.folder().join(ACTIVE).display()
            ))
        })?;
    }
    let set = active.current.clone();
    record(turn, &active, ("rollback", &set), order)?;
    Ok(active)
}

/// Puts it in force, with its line in the history.
fn record(turn: &Turn, active: &Active, (what, set): (&str, &str), order: &Order) -> Result<(), PromotionError> {
    let line = Line {
        at: order.at.clone(),
        who: order.who.clone(),
        what: what.to_owned(),
        set: set.to_owned(),
        before: known(turn.folder())?.map(|active| active.current),
        reason: order
            .reason
            .chars()
            .filter(|l| !l.is_control())
            .take(REASON_MAX)
            .collect(),
    };
    turn.record(active, &line)
}

/// Who did what, the oldest first. Lines that cannot be read are left out.
#[must_use]
pub fn history(folder: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(folder.join(SETS).join(HISTORY)).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn known(folder: &Path) -> Result<Option<Active>, PromotionError> {
    active(folder).map_err(|problem| PromotionError::Refused(problem.to_string()))
}

fn only(set: &str) -> Active {
    Active {
        current: set.to_owned(),
        canary: None,
        before: Vec::new(),
    }
}

/// Sets that a rollback can return to are kept in name; the oldest are forgotten, their folders stay.
const BEFORE_MAX: usize = 50;

fn after(mut active: Active, set: &str) -> Active {
    if active.current != set {
        active
            .before
            .push(std::mem::replace(&mut active.current, set.to_owned()));
        let surplus = active.before.len().saturating_sub(BEFORE_MAX);
        active.before.drain(..surplus);
    }
    active.canary = None;
    active
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::tests::{destinations, empty_head, facts};
    use std::time::Duration;

    pub(in super::super) fn candidate(text: &str) -> (tempfile::TempDir, RuleSet) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.rhai"), text).unwrap();
        std::fs::create_dir(folder.path().join("fixtures")).unwrap();
        std::fs::write(folder.path().join("fixtures/a.toml"), "case = []").unwrap();
        let set = RuleSet::load(folder.path(), &Config::default(), &destinations()).unwrap();
        (folder, set)
    }

    pub(in super::super) fn turn(folder: &tempfile::TempDir) -> Turn {
        Turn::wait_for(folder.path(), Duration::ZERO).unwrap()
    }

    pub(in super::super) fn order(reason: &str) -> Order {
        Order {
            who: "root".to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            reason: reason.to_owned(),
        }
    }

    pub(in super::super) const A: &str = "fn route(image, from) { to(\"vna\"); }";
    pub(in super::super) const B: &str = "fn route(image, from) { to(\"cad\"); }";

    #[test]
    fn a_promoted_set_is_in_force_until_it_is_rolled_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(active(folder.path()).unwrap(), None);
        assert!(rollback(&turn(&folder), &order("")).is_err());
        let ((a, first), (b, second)) = (candidate(A), candidate(B));
        promote(&turn(&folder), (a.path(), &first), None, None, &order("")).unwrap();
        let now = promote(&turn(&folder), (b.path(), &second), None, None, &order("new cad")).unwrap();
        assert_eq!(active(folder.path()).unwrap(), Some(now.clone()));
        assert_eq!((now.current, now.before), (name(&second), vec![name(&first)]));
        assert!(place(folder.path(), &name(&first)).join("fixtures/a.toml").exists());
        let loaded = load(folder.path(), &name(&first), &Config::default(), &destinations()).unwrap();
        assert_eq!(loaded.epoch(), first.epoch());
        assert_eq!(rollback(&turn(&folder), &order("wrong")).unwrap().current, name(&first));
        assert!(rollback(&turn(&folder), &order("")).is_err());
        let lines = history(folder.path());
        let said: Vec<(&str, &str)> = lines.iter().map(|l| (l.what.as_str(), l.reason.as_str())).collect();
        assert_eq!(said, [("promote", ""), ("promote", "new cad"), ("rollback", "wrong")]);
    }

    #[test]
    fn a_canary_decides_for_its_part_and_ends_either_way() {
        let folder = tempfile::tempdir().unwrap();
        let ((a, first), (b, second)) = (candidate(A), candidate(B));
        let part = || Some(Part::Sources(vec![facts().source]));
        assert!(promote(&turn(&folder), (b.path(), &second), None, part(), &order("")).is_err());
        promote(&turn(&folder), (a.path(), &first), None, None, &order("")).unwrap();
        let now = promote(&turn(&folder), (b.path(), &second), None, part(), &order("")).unwrap();
        assert_eq!(now.current, name(&first));
        assert!(now.canary.unwrap().part.holds(&facts(), &empty_head()));
        assert_eq!(rollback(&turn(&folder), &order("")).unwrap(), only(&name(&first)));
        promote(&turn(&folder), (b.path(), &second), None, part(), &order("")).unwrap();
        let done = finish(&turn(&folder), &order("")).unwrap();
        assert_eq!((done.current, done.canary), (name(&second), None));
        assert!(finish(&turn(&folder), &order("")).is_err());
    }

    #[test]
    fn a_share_takes_about_its_per_cent_of_the_studies() {
        let share = |percent: u8| {
            let taken = (0..2_000).filter(|n| {
                let mut facts = facts();
                facts.sop_instance = crate::base::names::Uid::parse(&format!("1.2.{n}")).unwrap();
                Part::Share(percent).holds(&facts, &empty_head())
            });
            taken.count()
        };
        assert_eq!((share(0), share(100)), (0, 2_000));
        assert!((300..500).contains(&share(20)), "{}", share(20));
    }

    #[test]
    fn a_promoted_set_that_was_changed_by_hand_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (a, first) = candidate(A);
        promote(&turn(&folder), (a.path(), &first), None, None, &order("")).unwrap();
        std::fs::write(place(folder.path(), &name(&first)).join("main.rhai"), B).unwrap();
        let problems = load(folder.path(), &name(&first), &Config::default(), &destinations());
        assert!(problems.err().unwrap()[0].message.contains("promote the change"));
        std::fs::write(folder.path().join(ACTIVE), "{").unwrap();
        assert!(active(folder.path()).is_err());
    }

    #[test]
    fn the_first_rollback_returns_to_the_folders_own_set_as_it_was() {
        let ((folder, own), (b, second)) = (candidate(A), candidate(B));
        promote(&turn(&folder), (b.path(), &second), Some(&own), None, &order("")).unwrap();
        std::fs::write(folder.path().join("main.rhai"), "half a line").unwrap();
        let now = rollback(&turn(&folder), &order("")).unwrap();
        assert_eq!((now.current.clone(), now.before), (name(&own), Vec::new()));
        let loaded = load(folder.path(), &now.current, &Config::default(), &destinations()).unwrap();
        assert_eq!(loaded.epoch(), own.epoch());
        let said = rollback(&turn(&folder), &order("")).unwrap_err().to_string();
        assert!(
            said.contains("active.json") && said.contains("waystation reload"),
            "{said}"
        );
    }

    #[test]
    fn one_changes_it_at_a_time_and_who_fails_leaves_all_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let ((a, first), (b, second)) = (candidate(A), candidate(B));
        let held = turn(&folder);
        let said = Turn::wait_for(folder.path(), Duration::from_millis(120))
            .unwrap_err()
            .to_string();
        assert!(said.contains("another promote or rollback"), "{said}");
        promote(&held, (a.path(), &first), None, None, &order("")).unwrap();
        drop(held);
        let stands = || (active(folder.path()).unwrap(), history(folder.path()));
        let before = stands();
        // What cannot be written in the place of a folder, and what cannot be put there.
        std::fs::create_dir(folder.path().join(".active.json.new")).unwrap();
        assert!(promote(&turn(&folder), (b.path(), &second), None, None, &order("")).is_err());
        std::fs::remove_dir(folder.path().join(".active.json.new")).unwrap();
        assert_eq!(stands(), before);
        let away = folder.path().join("away");
        std::fs::rename(folder.path().join(ACTIVE), &away).unwrap();
        std::fs::create_dir_all(folder.path().join(ACTIVE).join("full")).unwrap();
        let next = only(&name(&second));
        assert!(turn(&folder).record(&next, &before.1[0]).is_err());
        std::fs::remove_dir_all(folder.path().join(ACTIVE)).unwrap();
        std::fs::rename(away, folder.path().join(ACTIVE)).unwrap();
        assert_eq!(stands(), before);
        assert!(!folder.path().join(".active.json.new").exists());
    }

    #[test]
    fn many_at_once_are_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let sets = [candidate(A), candidate(B)];
        std::thread::scope(|scope| {
            for (from, set) in sets.iter().cycle().take(8) {
                let folder = &folder;
                scope.spawn(move || {
                    let turn = Turn::wait(folder.path()).unwrap();
                    let now = promote(&turn, (from.path(), set), None, None, &order("")).unwrap();
                    assert_eq!(active(folder.path()).unwrap(), Some(now));
                });
            }
        });
        let lines = history(folder.path());
        assert_eq!(lines.len(), 8);
        for pair in lines.windows(2) {
            assert_eq!(pair[1].before.as_ref(), Some(&pair[0].set), "each knows the one before");
        }
    }
}
