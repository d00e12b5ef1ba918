//! Older spools come to today's format, whatever cuts them; newer ones stay as they are, to the byte.
use super::super::migrate::{Manner, upgrade};
use super::super::model::OpenError;
use super::super::{chain, db::Db, recover, schema, verify_ledger, witness};
use super::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All files below a folder with their bytes.
fn bytes_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(bytes_below(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

/// The frozen spool of a format.
fn thawed(format: u64) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/spool-v{format}/spool.tar.gz"));
    let tar = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(packed)
        .arg("-C")
        .arg(to.path())
        .status();
    assert!(tar.unwrap().success());
    to
}

/// Everything that the index of a closed spool holds.
fn dump(root: &Path) -> Vec<(db::Cf, Vec<u8>, Vec<u8>)> {
    let db = Db::open_read_only(&recover::index_path(root), &[]).unwrap();
    let mut all = Vec::new();
    for cf in db::Cf::ALL {
        db.scan(cf, &[], &[], |key, value| {
            all.push((cf, key.to_vec(), value.to_vec()));
            true
        })
        .unwrap();
    }
    all
}

fn cut(batch: usize, after: Option<u64>) -> Manner {
    Manner {
        batch,
        cut_after: after,
        ..Manner::default()
    }
}

#[test]
fn a_migration_that_is_cut_after_any_batch_ends_the_same() {
    let clock = Clock::manual(Wall(4_000_000_000_000_000));
    let whole = thawed(1);
    assert_eq!(upgrade(whole.path(), &clock, Manner::default()).unwrap(), Some(1));
    let expected = dump(whole.path());
    assert!(expected.iter().any(|(cf, ..)| *cf == db::Cf::History));
    // Cut after each batch, again and again.
    let root = thawed(1);
    let mut cuts = 0;
    while upgrade(root.path(), &clock, cut(2, Some(1))).is_err() {
        assert!(schema::version(root.path()).unwrap().migrating);
        cuts += 1;
    }
    assert!(cuts > 10 && dump(root.path()) == expected, "{cuts} cuts");
    // Cut once, after each number of batches.
    for after in 1..=cuts {
        let root = thawed(1);
        assert!(upgrade(root.path(), &clock, cut(2, Some(after))).is_err());
        assert_eq!(upgrade(root.path(), &clock, Manner::default()).unwrap(), Some(1));
        assert!(dump(root.path()) == expected, "cut after {after}");
    }
}

#[test]
fn before_and_after_the_marker_is_raised_a_cut_changes_nothing_either() {
    let clock = Clock::manual(Wall(4_000_000_000_000_000));
    let whole = thawed(1);
    upgrade(whole.path(), &clock, Manner::default()).unwrap();
    let root = thawed(1);
    // The note stands and the marker is raised, and no family was made yet.
    schema::begin(root.path(), 1).unwrap();
    assert_eq!(upgrade(root.path(), &clock, Manner::default()).unwrap(), Some(1));
    assert_eq!(dump(root.path()), dump(whole.path()));
    assert_eq!(upgrade(root.path(), &clock, Manner::default()).unwrap(), None);
    // All is done but the note is still there.
    std::fs::write(root.path().join("migrating"), "1\n").unwrap();
    assert_eq!(upgrade(root.path(), &clock, Manner::default()).unwrap(), Some(1));
    assert_eq!(
        dump(root.path()),
        dump(whole.path()),
        "nothing is done twice, nor told twice"
    );
    assert!(!schema::version(root.path()).unwrap().migrating);
}

#[test]
fn too_little_room_is_said_before_anything_is_changed() {
    let root = thawed(1);
    let before = bytes_below(root.path());
    let manner = Manner {
        free: Some(1 << 20),
        ..Manner::default()
    };
    let refused = upgrade(root.path(), &Clock::System, manner).unwrap_err();
    assert!(matches!(refused, OpenError::NoRoomToMigrate { .. }), "{refused}");
    assert!(refused.to_string().contains("MiB"));
    assert_eq!(bytes_below(root.path()), before);
}

#[test]
fn who_only_looks_fills_no_empty_marker_in() {
    let root = thawed(schema::FORMAT);
    std::fs::write(root.path().join("waystation-spool"), "").unwrap();
    let facts = fsck(root.path(), true).unwrap().facts;
    assert_eq!(verify_ledger(root.path()).unwrap().lines, facts);
    assert_eq!(std::fs::read(root.path().join("waystation-spool")).unwrap(), b"");
}

#[test]
fn a_newer_spool_is_refused_by_everything_and_stays_as_it_is() {
    let root = thawed(1);
    std::fs::write(root.path().join("waystation-spool"), "3\n").unwrap();
    let before = bytes_below(root.path());
    let newer = |result: Result<(), OpenError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::Newer {
                    found: 3,
                    known: schema::FORMAT,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("newer version"));
    };
    newer(Spool::open(config(root.path()), Clock::System, Metrics::new()).map(drop));
    newer(fsck(root.path(), true).map(drop));
    newer(rebuild(root.path(), &Clock::System).map(drop));
    newer(migrate(root.path(), &Clock::System).map(drop));
    newer(verify_ledger(root.path()).map(drop));
    // Reads the payload files alone, which every format has; the reports of a salvage are files of their own too.
    let out = tempfile::tempdir().unwrap();
    let copied = export(root.path(), out.path(), &Filter::default(), Wanted::All).unwrap();
    assert!(copied.exported > 0 && copied.skipped.is_empty(), "{copied:?}");
    assert!(salvages(root.path(), 10).is_ok());
    assert!(!schema::version(root.path()).unwrap().is_readable());
    assert_eq!(bytes_below(root.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrated_spool_is_sound_its_chain_holds_and_its_facts_are_found() {
    let root = thawed(1);
    let old = fsck(root.path(), true).unwrap();
    assert_eq!(
        old.problems,
        Vec::<String>::new(),
        "fsck reads the older format as it is"
    );
    let clock = Clock::System;
    let (spool, report) = Spool::open(config(root.path()), clock, Metrics::new()).unwrap();
    assert_eq!((report.migrated_from, report.salvaged), (Some(1), None));
    let facts = spool.facts(None, 10_000).await.unwrap();
    assert_eq!(facts.last().unwrap().kind, FactKind::Migrated);
    for fact in facts.iter().filter(|fact| fact.about().is_some()) {
        let of_it = spool.facts(fact.about(), 10_000).await.unwrap();
        assert!(of_it.contains(fact), "{fact:?}");
    }
    assert!(spool.verify_ledger().await.unwrap().is_sound());
    spool.close().await;
    let new = fsck(root.path(), true).unwrap();
    assert_eq!((new.problems, new.facts), (Vec::new(), old.facts + 1));
    assert_eq!((new.instances, new.jobs, new.held), (old.instances, old.jobs, old.held));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_older_index_is_salvaged_into_todays_format() {
    let root = thawed(1);
    let before = fsck(root.path(), false).unwrap();
    let manifest = std::fs::read_dir(root.path().join("index")).unwrap();
    for entry in manifest.map(|entry| entry.unwrap().path()) {
        if entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
        {
            std::fs::write(entry, b"nonsense").unwrap();
        }
    }
    let (spool, report) = Spool::open(config(root.path()), Clock::System, Metrics::new()).unwrap();
    assert!(report.salvaged.is_some());
    assert!(spool.verify_ledger().await.unwrap().is_sound());
    spool.close().await;
    assert!(!schema::version(root.path()).unwrap().is_older());
    let after = fsck(root.path(), false).unwrap();
    assert_eq!((after.instances, after.problems), (before.instances, Vec::new()));
    let db = Db::open_read_only(&recover::index_path(root.path()), &[]).unwrap();
    let chain = chain::verify(&db, witness::last(root.path())).unwrap();
    assert_eq!(chain.breaks.len(), 1, "{chain:?}");
}
