//! The custody chain: what changes it is found at the first place, what salvage and pruning do to it is said in it, and what an
//! instance can be traced by is found, and forgotten with its last line.
use super::super::db::{Cf, Change, Db};
use super::super::ledger::{decode, link};
use super::super::{chain, keys, recover};
use super::*;
use crate::base::phi::Phi;

/// Three instances, delivered; the spool is closed.
async fn told() -> Bench {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.store(&format!("1.{number}"), b"x", vec![to("a")]).await;
        bench.clock.advance(Duration::from_secs(60));
        bench.confirm("a").await;
    }
    bench.spool.take().unwrap().close().await;
    bench
}

fn lines(root: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = Db::open_read_only(&recover::index_path(root), &[]).unwrap();
    let mut lines = Vec::new();
    db.scan(Cf::Ledger, &[], &[], |key, value| {
        lines.push((key.to_vec(), value.to_vec()));
        true
    })
    .unwrap();
    lines
}

/// Changes the index as somebody with the disk in his hands could.
fn tamper(root: &Path, changes: Vec<Change>) {
    let db = Db::open(&recover::index_path(root), false).unwrap();
    db.write(changes.into_iter()).unwrap();
}

fn put(key: &[u8], value: &[u8]) -> Change {
    (Cf::Ledger, key.to_vec(), Some(value.to_vec()))
}

fn gone(key: &[u8]) -> Change {
    (Cf::Ledger, key.to_vec(), None)
}

/// The line with other words, and a checksum that is right.
fn forged(value: &[u8], from: &str, into: &str) -> Vec<u8> {
    let body = super::super::codec::unwrap_body(value).unwrap();
    let (hash, json) = body.split_at(32);
    let json = String::from_utf8(json.to_vec()).unwrap();
    assert!(json.contains(from), "{json}");
    super::super::codec::wrap(&[hash, json.replace(from, into).as_bytes()].concat())
}

fn first_broken(root: &Path) -> u64 {
    let report = verify_ledger(root).unwrap();
    assert!(!report.is_sound(), "{report:?}");
    report.broken[0].line
}

#[tokio::test]
async fn a_ledger_that_nobody_touched_is_sound_over_restarts() {
    let mut bench = told().await;
    let report = verify_ledger(bench.path()).unwrap();
    assert!(report.is_sound() && report.breaks.is_empty(), "{report:?}");
    assert_eq!(
        (report.lines, report.first, report.last, report.witnessed),
        (6, 1, 6, Some(6))
    );
    bench.reopen_after(|_| {});
    bench.store("1.9", b"x", vec![to("a")]).await;
    let open = bench.spool().verify_ledger().await.unwrap();
    assert!(open.is_sound() && open.lines == 7);
    bench.reopen_after(|_| {});
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_word_a_flipped_bit_a_line_taken_out_put_in_or_moved_is_found_where_it_is() {
    let bench = told().await;
    let whole = lines(bench.path());
    let restore = |root: &Path| {
        let now = lines(root);
        let mut changes: Vec<Change> = now.iter().map(|(key, _)| gone(key)).collect();
        changes.extend(whole.iter().map(|(key, value)| put(key, value)));
        tamper(root, changes);
        assert!(verify_ledger(root).unwrap().is_sound());
    };
    let root = bench.path();
    // Somebody makes the status of a delivery another, with a right checksum: the next line does not follow.
    let (key, value) = &whole[3];
    tamper(root, vec![put(key, &forged(value, "\"0000\"", "\"B000\""))]);
    assert_eq!(first_broken(root), 5);
    restore(root);
    // Its time, in its words.
    let at = decode(value).unwrap().1.at_us.to_string();
    tamper(root, vec![put(key, &forged(value, &at, &format!("9{}", &at[1..])))]);
    assert_eq!(first_broken(root), 4);
    restore(root);
    // The last line has none behind it: the witness knows it.
    let (key, value) = &whole[5];
    tamper(root, vec![put(key, &forged(value, "\"0000\"", "\"B000\""))]);
    assert_eq!(first_broken(root), 6);
    restore(root);
    for bit in [0, 77, 300, 8 * (whole[2].1.len() - 1)] {
        let mut bad = whole[2].1.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        tamper(root, vec![put(&whole[2].0, &bad)]);
        assert_eq!(first_broken(root), 3, "bit {bit}");
        restore(root);
    }
    tamper(root, vec![gone(&whole[2].0)]);
    assert_eq!(first_broken(root), 4);
    restore(root);
    // The first line.
    tamper(root, vec![gone(&whole[0].0)]);
    assert_eq!(first_broken(root), 2);
    restore(root);
    // Two lines change places.
    tamper(root, vec![put(&whole[1].0, &whole[3].1), put(&whole[3].0, &whole[1].1)]);
    assert_eq!(first_broken(root), 2);
    restore(root);
    // A line is put in between, with a number that is there already.
    let (at, seq) = keys::ledger_of(&whole[3].0).unwrap();
    tamper(root, vec![put(&keys::ledger(Wall(at.0 + 1), seq), &whole[3].1)]);
    assert_eq!(first_broken(root), 4);
    restore(root);
}

#[tokio::test]
async fn the_own_time_of_a_late_line_is_as_safe_as_the_rest() {
    let mut bench = Bench::new();
    let (ahead, day) = (START.plus(Duration::from_secs(400 * 86_400)), 86_400_000_000);
    for at in [ahead, START, Wall(START.0 + day), Wall(START.0 + 2 * day)] {
        bench.set_clock(at);
        bench.spool().note(vec![Fact::new(FactKind::Resumed)]).await.unwrap();
    }
    bench.spool.take().unwrap().close().await;
    let whole = lines(bench.path());
    assert!(verify_ledger(bench.path()).unwrap().is_sound());
    let (key, value) = &whole[1];
    let own = decode(value).unwrap().1.at().0;
    assert_eq!(own, START.0);
    for (other, broken) in [(own + day, 3), (ahead.0 + 1, 2)] {
        let words = |at: u64| format!("\"own_us\":{at}");
        tamper(bench.path(), vec![put(key, &forged(value, &words(own), &words(other)))]);
        assert_eq!(first_broken(bench.path()), broken);
    }
}

#[tokio::test]
async fn an_end_that_is_cut_off_is_seen_by_the_witness_and_without_one_is_said() {
    let bench = told().await;
    let whole = lines(bench.path());
    tamper(bench.path(), whole[4..].iter().map(|(key, _)| gone(key)).collect());
    let report = verify_ledger(bench.path()).unwrap();
    assert_eq!((report.broken[0].line, report.last), (5, 4));
    assert!(report.broken[0].why.contains("2 lines"), "{report:?}");
    std::fs::remove_file(bench.path().join("witness")).unwrap();
    let report = verify_ledger(bench.path()).unwrap();
    assert_eq!((report.is_sound(), report.witnessed), (true, None));
}

#[tokio::test]
async fn a_whole_chain_that_is_written_anew_has_another_head() {
    let bench = told().await;
    let noted = verify_ledger(bench.path()).unwrap().head;
    let (mut previous, mut changes) = ([0; 32], Vec::new());
    for (key, value) in lines(bench.path()) {
        let body = super::super::codec::unwrap_body(&value).unwrap()[32..].to_vec();
        let body = String::from_utf8(body).unwrap().replace("ct1", "ct2");
        let record = super::super::codec::wrap(&[&previous[..], body.as_bytes()].concat());
        previous = link(&key, &record);
        changes.push(put(&key, &record));
    }
    tamper(bench.path(), changes);
    assert_eq!(
        first_broken(bench.path()),
        6,
        "the witness file knows another last line"
    );
    std::fs::remove_file(bench.path().join("witness")).unwrap();
    assert_ne!(verify_ledger(bench.path()).unwrap().head, noted);
}

#[tokio::test]
async fn a_salvage_carries_the_chain_over_and_says_where_it_breaks() {
    let mut bench = told().await;
    let whole = lines(bench.path());
    let id = decode(&whole[0].1).unwrap().1.about();
    // One line from the middle and two from the end are lost.
    let lost = [&whole[2], &whole[4], &whole[5]].map(|(key, _)| gone(key));
    tamper(bench.path(), lost.to_vec());
    bench.reopen_after(|_| {});
    assert!(bench.report.salvaged.is_some());
    let report = bench.spool().verify_ledger().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    let places: Vec<u64> = report.breaks.iter().map(|broken| broken.line).collect();
    assert_eq!(places, [4, 7]);
    let facts = bench.spool().facts(None, 100).await.unwrap();
    let told = facts.iter().find(|fact| fact.kind == FactKind::Break).unwrap();
    let Some(Detail::Break(told)) = told.detail.as_deref() else {
        panic!("{told:?}")
    };
    let gaps: Vec<(u64, u64)> = told.gaps.iter().map(|gap| (gap.after, gap.line)).collect();
    assert_eq!((told.carried, told.known, gaps), (4, 6, vec![(2, 4)]));
    let of_it = bench.spool().facts(id, 100).await.unwrap();
    assert!(of_it.iter().any(|fact| fact.kind == FactKind::Stored), "{of_it:?}");
    // What somebody does to it afterwards is no part of that break.
    bench.store("1.8", b"x", vec![to("a")]).await;
    bench.spool.take().unwrap().close().await;
    let now = lines(bench.path());
    tamper(bench.path(), vec![gone(&now[1].0)]);
    assert!(!verify_ledger(bench.path()).unwrap().is_sound());
}

/// The lines that `verify` takes for tampering.
fn broken(report: &ChainReport) -> Vec<u64> {
    report.broken.iter().map(|broken| broken.line).collect()
}

#[tokio::test]
async fn a_salvage_excuses_what_is_missing_and_never_what_was_changed() {
    let mut bench = told().await;
    let whole = lines(bench.path());
    // One line is lost, and somebody has given another one other words.
    let (key, value) = &whole[3];
    let changed = put(key, &forged(value, "\"0000\"", "\"B000\""));
    tamper(bench.path(), vec![gone(&whole[1].0), changed]);
    for round in 0..3 {
        // Reports and old indexes are named by the time.
        bench.clock.advance(Duration::from_secs(1));
        bench.reopen_after(|root| std::fs::write(root.join("index/CURRENT"), "nonsense").unwrap());
        assert!(bench.report.salvaged.is_some());
        let report = bench.spool().verify_ledger().await.unwrap();
        assert_eq!(broken(&report), [5], "round {round}: {report:?}");
        assert_eq!(report.breaks.iter().map(|told| told.line).collect::<Vec<_>>(), [3]);
        let rebuilt = salvages(bench.path(), 9).unwrap().pop().unwrap().rebuilt.unwrap();
        assert_eq!(rebuilt["ledger_changed"], serde_json::json!([5]));
    }
    bench.reopen_after(|_| {});
    assert_eq!(broken(&bench.spool().verify_ledger().await.unwrap()), [5]);
    assert!(
        bench.report.salvaged.is_none(),
        "a changed line in the middle stops no start"
    );
}

#[tokio::test]
async fn a_changed_last_line_stays_named_after_the_next_start() {
    let mut bench = told().await;
    let whole = lines(bench.path());
    let (key, value) = &whole[5];
    tamper(bench.path(), vec![put(key, &forged(value, "\"0000\"", "\"B000\""))]);
    bench.reopen_after(|_| {});
    let report = bench.spool().verify_ledger().await.unwrap();
    assert_eq!(broken(&report), [6], "{report:?}");
    bench.store("1.8", b"x", vec![to("a")]).await;
    bench.reopen_after(|_| {});
    assert_eq!(broken(&bench.spool().verify_ledger().await.unwrap()), [6]);
    // With a line of his own behind it, that follows.
    let mut bench = told().await;
    let (key, value) = &lines(bench.path())[5];
    let value = forged(value, "\"0000\"", "\"B000\"");
    let (at, seq) = keys::ledger_of(key).unwrap();
    let mut head = ledger::Head {
        hash: link(key, &value),
        seq,
        at,
    };
    let (next, added) = head.append(Fact::new(FactKind::Resumed).text("his own"), Wall(at.0 + 1));
    tamper(bench.path(), vec![put(key, &value), put(&next, &added)]);
    bench.reopen_after(|_| {});
    let report = bench.spool().verify_ledger().await.unwrap();
    assert_eq!(broken(&report), [6], "{report:?}");
}

#[tokio::test]
async fn a_lost_index_leaves_a_chain_that_goes_on_behind_the_last_known_line() {
    let mut bench = told().await;
    bench.reopen_after(|root| std::fs::remove_dir_all(root.join("index")).unwrap());
    let report = bench.spool().verify_ledger().await.unwrap();
    assert!(report.is_sound() && report.first == 7, "{report:?}");
    assert_eq!(report.breaks.len(), 1);
}

fn by(kind: By, value: &str) -> Trait {
    Trait {
        by: kind,
        value: Phi::new(value.to_owned()),
    }
}

fn in_order<const N: usize>(mut ids: [InstanceId; N]) -> [InstanceId; N] {
    ids.sort_unstable();
    ids
}

async fn traced(bench: &Bench, kind: By, value: &str) -> Vec<InstanceId> {
    let value = Phi::new(value.to_owned());
    bench
        .spool()
        .traced_by(&[kind], &value, None, 100)
        .await
        .unwrap()
        .instances
}

async fn store_of(bench: &Bench, uid: &str, patient: &str) -> InstanceId {
    let sealed = bench.sealed(uid, uid.as_bytes()).await;
    let traits = vec![by(By::Patient, patient), by(By::Study, "1.2.9"), by(By::Sop, uid)];
    let commit = Commit {
        traits,
        ..decision(vec![to("a")])
    };
    id_of(bench.spool().commit(sealed, commit).await.unwrap())
}

#[tokio::test]
async fn instances_are_found_by_patient_and_uid_in_pages_and_over_a_salvage() {
    let mut bench = Bench::new();
    let (a, b) = (
        store_of(&bench, "1.1", "MRN 1 ").await,
        store_of(&bench, "1.2", "MRN 1").await,
    );
    let other = store_of(&bench, "1.3", "MRN 2").await;
    // Files are made ahead, and ids with them: under a clock that stands still their order is any.
    let ([a, b], all) = (in_order([a, b]), in_order([a, b, other]));
    for round in 0..2 {
        assert_eq!(traced(&bench, By::Patient, " MRN 1").await, [a, b], "round {round}");
        assert_eq!(traced(&bench, By::Patient, "MRN 2").await, [other]);
        assert_eq!(traced(&bench, By::Study, "1.2.9").await, all);
        assert_eq!(traced(&bench, By::Sop, "1.3").await, [other]);
        // A UID is no patient id, even when they are the same text.
        assert_eq!(traced(&bench, By::Patient, "1.2.9").await, []);
        let value = Phi::new("1.2.9".to_owned());
        let page = bench
            .spool()
            .traced_by(&By::ALL, &value, Some(all[0]), 1)
            .await
            .unwrap();
        assert_eq!((page.instances, page.more), (vec![all[1]], true));
        if round == 0 {
            bench.reopen_after(|root| std::fs::write(root.join("index/CURRENT"), "nonsense").unwrap());
        }
    }
    assert!(bench.report.salvaged.is_some());
}

/// Neither the index nor the files beside it give a patient id away, and one MRN has another hash on another box.
#[tokio::test]
async fn no_plain_patient_id_is_in_the_index() {
    let mut bench = Bench::new();
    store_of(&bench, "1.1", "MRN-CANARY-7").await;
    let mark = bench.spool().mark_of(&Phi::new("MRN-CANARY-7".to_owned()));
    assert_ne!(mark, Bench::new().spool().mark_of(&Phi::new("MRN-CANARY-7".to_owned())));
    bench.spool.take().unwrap().close().await;
    for entry in std::fs::read_dir(bench.path().join("index")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(10).any(|found| found == b"MRN-CANARY"));
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(bench.path().join("trace.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn old_lines_are_pruned_the_rest_verifies_and_what_has_left_is_forgotten() {
    let mut bench = Bench::new();
    let early = store_of(&bench, "1.1", "MRN 1").await;
    let held = store_of(&bench, "1.2", "MRN 2").await;
    bench.confirm("a").await;
    bench.spool().submit(|txn| cache::evict(txn, 10)).await.unwrap();
    bench.clock.advance(Duration::from_secs(3 * 365 * 86_400));
    let late = store_of(&bench, "1.3", "MRN 3").await;
    let before = bench.spool().verify_ledger().await.unwrap();
    let core = bench.spool().core.clone();
    let upto = prune::due(&core, bench.clock.now()).expect("there is something to prune");
    bench
        .spool()
        .submit(move |txn| {
            prune::announce(txn, &upto);
            Ok(())
        })
        .await
        .unwrap();
    // Cut between the fact and the lines, the chain holds as well.
    assert!(bench.spool().verify_ledger().await.unwrap().is_sound());
    while bench.spool().submit(move |txn| prune::batch(txn, &upto)).await.unwrap() {}
    let after = bench.spool().verify_ledger().await.unwrap();
    assert!(after.is_sound(), "{after:?}");
    assert_eq!((after.pruned, after.first, after.last), (4, 5, before.last + 1));
    // What was noted before that is neither there nor missing, but for the line up to which they went.
    assert_eq!(
        bench.spool().noted(3, before.head.clone()).await.unwrap(),
        Noted::Pruned
    );
    assert_eq!(
        bench.spool().noted(4, before.head.clone()).await.unwrap(),
        Noted::Another
    );
    let upto = chain::hex(&upto.hash);
    assert_eq!(bench.spool().noted(4, upto).await.unwrap(), Noted::Here);
    assert_eq!(
        bench.spool().noted(before.last, before.head).await.unwrap(),
        Noted::Here
    );
    assert_eq!(prune::due(&core, bench.clock.now()), None);
    drop(core);
    assert_eq!(
        traced(&bench, By::Patient, "MRN 1").await,
        [],
        "it has left, and so has its last line"
    );
    assert_eq!(traced(&bench, By::Patient, "MRN 2").await, [held], "it is here still");
    assert_eq!(traced(&bench, By::Patient, "MRN 3").await, [late]);
    assert!(bench.spool().facts(Some(early), 9).await.unwrap().is_empty());
    bench.reopen_after(|_| {});
    assert!(bench.spool().verify_ledger().await.unwrap().is_sound());
    bench.spool.take().unwrap().close().await;
    // Another beginning does not pass for a pruned one.
    let now = lines(bench.path());
    let (at, seq) = keys::ledger_of(&now[0].0).unwrap();
    let forged = ledger::Head {
        hash: link(&now[0].0, &now[0].1),
        seq,
        at,
    };
    tamper(bench.path(), vec![gone(&now[0].0), chain::anchored(&forged)]);
    let report = verify_ledger(bench.path()).unwrap();
    assert!(report.broken[0].why.contains("no fact says"), "{report:?}");
}
