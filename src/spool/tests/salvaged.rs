//! A start with a damaged or lost index, by itself: nothing acknowledged is fewer, what is lost or doubtful is named, and what a
//! person held stays held.
use super::super::salvage::Fate;
use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn lose_index(path: &Path) {
    fs::remove_dir_all(path.join("index")).unwrap();
}

fn lose_current(path: &Path) {
    fs::remove_file(path.join("index/CURRENT")).unwrap();
}

/// The one report that nobody has read.
fn unread(bench: &Bench) -> SalvageReport {
    let mut open = salvages(bench.path(), 1_000).unwrap();
    open.retain(|report| report.acknowledged.is_none());
    assert_eq!(open.len(), 1, "{open:?}");
    open.remove(0)
}

async fn act(bench: &Bench, uid: &str, verb: Verb) {
    let filter = Filter {
        sop_instance: Some(Uid::parse(uid).unwrap()),
        ..Filter::default()
    };
    let acted = bench.spool().act(filter, verb, "it", "a person's word", false).await;
    assert_eq!(acted.unwrap().changed, 1);
}

async fn held(bench: &Bench, kind: HoldKind) -> Vec<String> {
    let filter = Filter {
        kind: Some(kind),
        ..Filter::default()
    };
    let rows = bench.spool().list(filter, None, 99).await.unwrap();
    let uid = |row: Row| row.instance.unwrap().sop_instance.to_string();
    let mut uids: Vec<String> = rows.into_iter().map(uid).collect();
    uids.sort();
    uids
}

#[tokio::test]
async fn a_lost_index_comes_back_by_itself_and_is_reported_until_a_person_has_read_it() {
    let mut bench = Bench::new();
    for n in 0..5 {
        bench.store(&format!("1.{n}"), &[n], vec![to("a")]).await;
    }
    bench.confirm("a").await;
    act(&bench, "1.3", Verb::Hold).await;
    act(&bench, "1.4", Verb::Hold).await;
    act(&bench, "1.4", Verb::Release).await;
    bench.spool().suspend(&dest("b"), "it", "maintenance").await.unwrap();
    bench.spool().suspend(&dest("c"), "it", "maintenance").await.unwrap();
    bench.spool().resume(&dest("c"), "it", "done").await.unwrap();
    bench.reopen_after(lose_index);
    assert!(bench.report.salvaged.is_some());
    assert_eq!((bench.report.instances, bench.report.delivered), (5, 1));
    assert_eq!(held(&bench, HoldKind::Operator).await, ["1.3"]);
    assert_eq!(held(&bench, HoldKind::Recovered).await, ["1.1", "1.2", "1.4"]);
    assert!(bench.spool().is_suspended(&dest("b")) && !bench.spool().is_suspended(&dest("c")));
    let report = unread(&bench);
    let mut fates: Vec<_> = report
        .named
        .iter()
        .map(|n| (n.sop_instance.as_deref().unwrap(), n.fate))
        .collect();
    fates.sort_unstable();
    assert!(report.complete && report.cause.contains("no index"), "{report:?}");
    let anew = Fate::DecidedAnew;
    assert_eq!(
        fates,
        [("1.1", anew), ("1.2", anew), ("1.3", Fate::Held), ("1.4", anew)]
    );
    assert_eq!(bench.metrics.salvage_unacknowledged.get(), 1);
    bench.reopen_after(|_| {});
    assert_eq!(bench.report.salvaged, None);
    assert_eq!(bench.metrics.salvage_unacknowledged.get(), 1, "across a restart too");
    assert_eq!(bench.spool().acknowledge_salvage("it").await.unwrap(), 1);
    assert_eq!(bench.metrics.salvage_unacknowledged.get(), 0);
    let last = bench.spool().facts(None, 1).await.unwrap().remove(0);
    assert_eq!((last.kind, last.who.as_deref()), (FactKind::Acknowledged, Some("it")));
    bench.reopen_after(|_| {});
    assert_eq!(bench.metrics.salvage_unacknowledged.get(), 0);
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn what_nobody_can_know_is_held_as_doubtful_unless_the_site_says_deliver() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    act(&bench, "1.1", Verb::Hold).await;
    bench.reopen_after(|path| {
        lose_index(path);
        fs::remove_file(path.join("orders")).unwrap();
    });
    assert_eq!(held(&bench, HoldKind::Doubtful).await, ["1.1"]);
    assert_eq!(unread(&bench).named[0].fate, Fate::Doubtful);
    assert!(
        bench.spool().recovered(9).await.unwrap().is_empty(),
        "no rule lets it go"
    );
    bench.spool = None;
    lose_index(bench.path());
    fs::remove_file(bench.path().join("orders")).unwrap();
    let deliver = Config {
        salvage: Salvage::Deliver,
        ..config(bench.path())
    };
    let (spool, _) = Spool::open(deliver, bench.clock.clone(), Metrics::new()).unwrap();
    assert_eq!(spool.recovered(9).await.unwrap().len(), 1);
}

/// An index, its witness and the list of orders, copied before an upgrade and put back over newer payloads.
#[tokio::test]
async fn what_came_since_a_copy_that_was_put_back_is_held_because_a_person_may_have_held_it() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let copy = tempfile::tempdir().unwrap();
    let to_copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to.join("index")).unwrap();
        for entry in fs::read_dir(from.join("index")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join("index").join(entry.file_name())).unwrap();
        }
        for name in ["waystation-spool", "witness", "orders"] {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    };
    bench.reopen_after(|path| to_copy(path, copy.path()));
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.store("1.3", b"z", vec![to("a")]).await;
    act(&bench, "1.2", Verb::Hold).await;
    bench.reopen_after(|path| {
        lose_index(path);
        to_copy(copy.path(), path);
    });
    assert_eq!(bench.report.adopted.len(), 2);
    assert_eq!(held(&bench, HoldKind::Doubtful).await, ["1.2", "1.3"]);
    assert!(bench.spool().recovered(9).await.unwrap().is_empty());
    assert!(unread(&bench).named.iter().all(|named| named.fate == Fate::Doubtful));
    // From here on the list is the last one again, and has what nobody knows too.
    act(&bench, "1.1", Verb::Hold).await;
    act(&bench, "1.3", Verb::Discard).await;
    bench.reopen_after(lose_index);
    assert_eq!(held(&bench, HoldKind::Operator).await, ["1.1"]);
    assert_eq!(held(&bench, HoldKind::Doubtful).await, ["1.2"]);
    assert!(bench.spool().recovered(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lost_or_cut_log_is_seen_though_the_index_opens_without_it() {
    for cut in [false, true] {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.reopen_after(|_| {});
        bench.store("1.2", b"y", vec![to("a")]).await;
        act(&bench, "1.1", Verb::Hold).await;
        bench.store("1.3", b"z", vec![to("a")]).await;
        bench.confirm("a").await;
        bench.reopen_after(|path| {
            let log = newest(path, ".log");
            let length = fs::metadata(&log).unwrap().len();
            match cut {
                true => fs::File::options()
                    .write(true)
                    .open(log)
                    .unwrap()
                    .set_len(length / 3)
                    .unwrap(),
                false => fs::remove_file(log).unwrap(),
            }
        });
        assert!(bench.report.salvaged.is_some(), "cut {cut}");
        assert_eq!((bench.report.instances, bench.report.delivered), (3, 1));
        assert_eq!(held(&bench, HoldKind::Operator).await, ["1.1"], "cut {cut}");
        assert!(
            bench
                .claim_one("a")
                .await
                .is_none_or(|lease| lease.instance.sop_instance.as_str() == "1.3")
        );
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_was_rerouted_stays_rerouted_and_what_is_lost_is_named_and_healed_by_a_resend() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    act(&bench, "1.1", Verb::Reroute(dest("z"))).await;
    let lost = id_of(bench.store("1.2", b"lost", vec![to("a")]).await);
    let cut = id_of(bench.store("1.3", b"cut", vec![to("a")]).await);
    bench.reopen_after(|path| {
        fs::remove_file(payload::path_of(path, lost)).unwrap();
        fs::write(payload::path_of(path, cut), b"short").unwrap();
        fs::write(path.join("index/CURRENT"), b"nothing\n").unwrap();
    });
    assert!(bench.report.salvaged.is_some());
    assert_eq!(
        bench.claim_one("z").await.unwrap().instance.sop_instance.as_str(),
        "1.1"
    );
    let report = unread(&bench);
    let mut fates: Vec<_> = report.named.iter().map(|n| (n.instance.clone(), n.fate)).collect();
    fates.sort();
    let mut expected = [(lost.to_string(), Fate::Lost), (cut.to_string(), Fate::Damaged)];
    expected.sort();
    assert_eq!(fates, expected);
    assert_eq!(held(&bench, HoldKind::Corrupt).await, ["1.2", "1.3"]);
    assert_eq!(bench.metrics.spool_damaged.get(), 2);
    for (uid, content) in [("1.2", &b"lost"[..]), ("1.3", b"cut")] {
        assert!(matches!(
            bench.store(uid, content, vec![to("a")]).await,
            Committed::Stored(_)
        ));
    }
    assert_eq!(bench.metrics.spool_damaged.get(), 0);
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 2);
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_rebuild_that_was_cut_at_its_last_step_goes_on_with_the_same_old_index() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    act(&bench, "1.1", Verb::Reroute(dest("z"))).await;
    bench.reopen_after(|path| {
        fs::rename(path.join("index"), path.join("index.damaged-1")).unwrap();
        fs::write(path.join("rebuild-under-way"), "index.damaged-1").unwrap();
    });
    assert!(bench.report.salvaged.is_some());
    assert!(bench.claim_one("z").await.is_some());
    assert!(!bench.path().join("rebuild-under-way").exists());
}

#[tokio::test]
async fn an_index_that_is_gone_when_nothing_waits_is_reported_too() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    let spool = bench.spool();
    let gone = spool.submit(|txn| super::super::cache::evict(txn, 9)).await.unwrap();
    fs::remove_file(payload::path_of(bench.path(), gone[0])).unwrap();
    bench.reopen_after(lose_current);
    assert!(bench.report.salvaged.is_some());
    let again = bench.store("1.1", b"x", vec![to("a")]).await;
    assert!(matches!(again, Committed::Repeat(_)), "it is known still: {again:?}");
}

#[tokio::test]
async fn trouble_of_the_disk_is_no_damage_until_it_comes_twice() {
    use super::super::db::DbError;
    let bench = Bench::new();
    let trouble = DbError::Trouble("IO error".to_owned());
    let first = super::super::recover::index_error(bench.path(), &trouble);
    assert!(matches!(first, OpenError::IndexTrouble { .. }) && !first.is_damage());
    assert!(super::super::recover::index_error(bench.path(), &trouble).is_damage());
    // A disk that fills while an index is made says what to do, as one that is full before.
    let full = super::super::recover::batch_error(bench.path(), CommitError::DiskFull);
    assert!(!full.is_damage() && full.to_string().contains("make room on its disk"));
}

/// `SALVAGE=50000` for the figure of docs/durability.md; it takes its time to make that many.
#[tokio::test]
async fn a_salvage_takes_seconds() {
    let count: u64 = std::env::var("SALVAGE").map_or(300, |count| count.parse().unwrap());
    let mut bench = Bench::new();
    let mut stored = tokio::task::JoinSet::new();
    for n in 0..count {
        let spool = bench.spool().clone();
        stored.spawn(async move {
            let mut incoming = spool.arrive(arriving(&format!("1.{n}"))).await.unwrap();
            incoming.write(Bytes::from(vec![7; 4_096])).await.unwrap();
            let sealed = incoming.seal().await.unwrap();
            spool.commit(sealed, decision(vec![to("a")])).await.unwrap();
        });
        if stored.len() >= 64 {
            stored.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = stored.join_next().await {
        done.unwrap();
    }
    for damage in [lose_current as fn(&Path), lose_index] {
        let mut began = std::time::Instant::now();
        bench.reopen_after(|path| {
            damage(path);
            began = std::time::Instant::now();
        });
        let took = began.elapsed();
        println!("{count} instances salvaged in {took:?}");
        assert_eq!(bench.report.instances, count);
        assert!(took < Duration::from_secs(20 + count / 200), "{took:?}");
    }
}

fn newest(path: &Path, ends: &str) -> PathBuf {
    let files = fs::read_dir(path.join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let logs = files.filter(|file| file.to_string_lossy().ends_with(ends));
    logs.max_by_key(|file| (fs::metadata(file).unwrap().len(), file.clone()))
        .unwrap()
}

/// Each kind of file of the index, damaged in five ways, at several seeds, in this process: a box that comes up has everything,
/// held what a person held, and suspended what a person suspended.
#[tokio::test]
async fn whatever_happens_to_a_file_of_the_index_nothing_is_fewer_and_nothing_held_goes() {
    let kinds = ["log", "sst", "MANIFEST-", "CURRENT", "OPTIONS-", "IDENTITY"];
    let mut salvages = 0;
    for seed in 0..1_u64 {
        for kind in kinds {
            for how in ["flip", "truncate", "delete", "zero", "junk"] {
                let case = format!("{kind} {how}, seed {seed}");
                salvages += u32::from(one(&case, kind, how, seed).await);
            }
        }
    }
    assert!(salvages > 10, "{salvages}");
}

async fn one(case: &str, kind: &str, how: &str, seed: u64) -> bool {
    let mut bench = Bench::new();
    for life in 0..2 {
        for n in 0..4 {
            bench
                .store(&format!("1.{life}.{n}"), case.as_bytes(), vec![to("a"), to("b")])
                .await;
        }
        bench.confirm("a").await;
        hold_all(&bench, &format!("1.{life}.3")).await;
        bench.spool().suspend(&dest("b"), "it", "maintenance").await.unwrap();
        if life == 0 {
            bench.reopen_after(|_| {});
        }
    }
    let mut random = StdRng::seed_from_u64(seed);
    bench.reopen_after(|path| {
        let names = |name: &str| match kind {
            "log" | "sst" => name.ends_with(&format!(".{kind}")),
            _ => name.starts_with(kind),
        };
        let files = fs::read_dir(path.join("index"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|file| names(&file.file_name().unwrap().to_string_lossy()))
            .filter(|file| fs::metadata(file).unwrap().len() > 0)
            .collect();
        files.sort();
        damage(&files[random.random_range(0..files.len())], how, &mut random);
    });
    let report = &bench.report;
    assert_eq!((report.instances, report.delivered), (8, 0), "{case}: {report:?}");
    // A table that a start does not look at is found by a read through; the box ends then, and its next start salvages.
    let read_through = bench.spool().core.db().unwrap().verify();
    if let Err(error) = read_through {
        assert!(report.salvaged.is_none(), "{case}: {error}");
        bench.reopen_after(|path| super::super::recover::suspect(path).unwrap());
        assert!(bench.report.salvaged.is_some(), "{case}: {error}");
    }
    let spool = bench.spool();
    let uids: BTreeSet<String> = spool
        .list(Filter::default(), None, 99)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.instance.unwrap().sop_instance.to_string())
        .collect();
    assert_eq!(uids.len(), 8, "{case}: {uids:?}");
    assert!(spool.is_suspended(&dest("b")), "{case}");
    let going: BTreeSet<String> = spool
        .claim(&dest("a"), 99)
        .await
        .into_iter()
        .map(|lease| lease.instance.sop_instance.to_string())
        .chain(
            spool
                .recovered(99)
                .await
                .unwrap()
                .into_iter()
                .map(|(_, instance)| instance.sop_instance.to_string()),
        )
        .collect();
    for held in ["1.0.3", "1.1.3"] {
        assert!(!going.contains(held), "{case}: a person had held {held}");
    }
    let salvaged = bench.report.salvaged.is_some();
    if salvaged {
        assert!(salvages(bench.path(), 9).unwrap().pop().unwrap().complete, "{case}");
        assert_eq!(bench.fsck().problems, Vec::<String>::new(), "{case}");
    }
    salvaged
}

/// All jobs of an instance.
async fn hold_all(bench: &Bench, uid: &str) {
    let filter = Filter {
        sop_instance: Some(Uid::parse(uid).unwrap()),
        ..Filter::default()
    };
    let acted = bench
        .spool()
        .act(filter, Verb::Hold, "it", "a person's word", false)
        .await;
    assert_eq!(acted.unwrap().changed, 2);
}

fn damage(file: &Path, how: &str, random: &mut StdRng) {
    let mut bytes = fs::read(file).unwrap();
    let at = random.random_range(0..bytes.len());
    let end = bytes.len().min(at + 512);
    match how {
        "delete" => return fs::remove_file(file).unwrap(),
        "flip" => bytes[at] ^= 1 << random.random_range(0..8),
        "truncate" => bytes.truncate(at),
        "zero" => bytes[at..end].fill(0),
        _ => random.fill(&mut bytes[at..end]),
    }
    fs::write(file, bytes).unwrap();
}
