//! Eviction and forgetting.
use super::super::{cache, commit};
use super::*;
use std::fs;

async fn evict(bench: &Bench, max: usize) -> Vec<InstanceId> {
    let queue = bench.spool().owner.queue().unwrap();
    let core = &bench.spool().core;
    let gone = commit::submit(core, &queue, move |txn| cache::evict(txn, max))
        .answer()
        .await
        .unwrap();
    cache::unlink(core, &gone);
    gone
}

#[tokio::test]
async fn eviction_takes_the_oldest_delivered_and_nothing_else() {
    let mut bench = Bench::new();
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    for n in 0..6_u8 {
        bench.clock.advance(Duration::from_secs(1));
        let hold = (n == 4).then(|| HoldReason::new(HoldKind::Rule, "look"));
        let due = bench.clock.now();
        times.push(due);
        ids.push(id_of(
            bench
                .store(&format!("1.{n}"), &[n], vec![NewJob { hold, due, ..to("a") }])
                .await,
        ));
    }
    for _ in 0..3 {
        bench.confirm("a").await;
    }
    assert_eq!(evict(&bench, 2).await, ids[..2]);
    assert!(matches!(bench.spool().payload(&ids[0]).await, Err(ReadError::Gone)));
    assert_eq!(read_all(bench.spool(), ids[2]).await.unwrap(), [2]);
    assert_eq!(evict(&bench, 99).await, ids[2..3]);
    assert_eq!(evict(&bench, 99).await, []);
    // As somebody counts who only reads, beside the open spool.
    let since = |at: Wall| crate::spool::evicted_since(&bench.spool().core.config.path, at);
    assert_eq!(
        [since(times[0]), since(times[2]), since(times[3])],
        [Some(3), Some(1), Some(0)]
    );
    assert_eq!(
        crate::spool::evicted_since(std::path::Path::new("/nowhere"), Wall(0)),
        None
    );
    for (n, id) in ids.iter().enumerate().skip(3) {
        assert_eq!(read_all(bench.spool(), *id).await.unwrap(), [n as u8]);
    }
    assert_eq!(
        bench.store("1.0", &[0], vec![to("a")]).await,
        Committed::Repeat(ids[0]),
        "known beyond its eviction"
    );
    let fsck = bench.fsck();
    assert_eq!((fsck.problems, fsck.instances), (vec![], 3));
}

#[tokio::test]
async fn repeats_are_forgotten_only_after_the_window_and_the_instance() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    let sweep = async |bench: &Bench| {
        let spool = bench.spool();
        let now = bench.clock.now();
        let (found, _) = cache::REPEATS.old(&spool.core, &[], now);
        let swept = move |txn: &mut super::super::txn::Txn<'_>| cache::REPEATS.sweep(txn, found, now);
        spool.submit(swept).await.unwrap();
    };
    bench.clock.advance(Duration::from_secs(8 * 86_400));
    sweep(&bench).await;
    assert!(
        matches!(bench.store("1.1", b"x", vec![to("a")]).await, Committed::Repeat(_)),
        "still in the cache"
    );
    assert_eq!(evict(&bench, 9).await.len(), 1);
    sweep(&bench).await;
    assert!(matches!(
        bench.store("1.1", b"x", vec![to("a")]).await,
        Committed::Stored(_)
    ));
}

#[tokio::test]
async fn the_keeper_makes_room_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        cache_high_water: Share::Bytes(u64::MAX),
        ..config(dir.path())
    };
    let (spool, report) = Spool::open(config, Clock::manual(START), Metrics::new()).unwrap();
    let bench = Bench {
        dir,
        clock: Clock::System,
        metrics: Metrics::new(),
        spool: Some(spool),
        report,
    };
    let id = id_of(bench.store("1.1", b"x", vec![to("a"), to("b")]).await);
    bench.confirm("a").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(
        bench.spool().payload(&id).await.is_ok(),
        "undelivered stays whatever the disk wants"
    );
    bench.confirm("b").await;
    for _ in 0..100 {
        // The index forgets it first, then the file goes.
        if bench.spool().payload(&id).await.is_err() && !payload::path_of(bench.path(), id).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the delivered instance was not evicted");
}

#[tokio::test]
async fn what_a_person_discarded_does_not_come_back_after_an_eviction_that_was_cut() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    let discard = bench
        .spool()
        .act(Filter::default(), Verb::Discard, "anna", "not ours", false);
    assert_eq!(discard.await.unwrap().changed, 1);
    // The letter is a hint: the process may have ended before it was written.
    let path = payload::path_of(bench.path(), id);
    let letter = |path: &Path| payload::find_private(&fs::read(path).unwrap()).unwrap().1;
    for _ in 0..200 {
        if letter(&path) == payload::FileState::Discarded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(letter(&path), payload::FileState::Discarded);
    let mut bytes = fs::read(&path).unwrap();
    let record = bytes.windows(9).position(|window| window == b"WAYSPOOLD").unwrap();
    bytes[record + 8] = b'C';
    fs::write(&path, &bytes).unwrap();
    assert_eq!(letter(&path), payload::FileState::Committed);
    let spool = bench.spool();
    assert_eq!(spool.submit(|txn| cache::evict(txn, 9)).await.unwrap(), vec![id]);
    // The file was not removed before the end.
    bench.reopen_after(|_| {});
    assert!(bench.report.adopted.is_empty(), "discarded, and back again");
    assert!(!path.exists());
}
