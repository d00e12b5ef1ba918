//! Errors: the gate, damaged records, what fsck must see.
use super::super::db::{Cf, Db};
use super::super::model::JobKey;
use super::super::{keys, recover};
use super::*;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latched_gate_takes_nothing_then_heals_once_and_then_fails() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let sealed = bench.sealed("1.2", b"y").await;
    let lease = bench.claim_one("a").await.unwrap();
    bench.spool().core.gate.latch("test");
    assert!(bench.spool().health().latched);
    assert_eq!(bench.metrics.gate_latched.get(), 1);
    assert_eq!(
        bench.spool().arrive(arriving("1.3")).await.err(),
        Some(ArriveError::GateLatched)
    );
    let refused = bench.spool().commit(sealed, decision(vec![to("a")])).await;
    assert_eq!(refused, Err(CommitError::GateLatched));
    assert_eq!(
        bench.spool().settle(lease, confirmed()).await,
        Err(CommitError::GateLatched)
    );
    until("reopened", || !bench.spool().health().latched).await;
    assert_eq!(bench.metrics.gate_latched.get(), 0);
    let text = bench.metrics.text();
    assert!(
        text.contains("waystation_jobs_queued{destination=\"a\",priority=\"routine\"} 1"),
        "{text}"
    );
    // The destination's answer was not recorded: it is now, instead of a second delivery.
    assert!(bench.claim_one("a").await.is_none());
    assert_eq!(bench.spool().count(Filter::default()).await.unwrap(), 0);
    bench.store("1.4", b"z", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.spool().core.gate.latch("test");
    tokio::time::timeout(Duration::from_secs(10), bench.spool().failed())
        .await
        .unwrap();
    assert!(bench.spool().health().failed);
    assert_eq!(
        bench.spool().arrive(arriving("1.5")).await.err(),
        Some(ArriveError::GateLatched)
    );
}

#[tokio::test]
async fn every_kind_of_what_is_put_aside_is_counted_from_zero() {
    let bench = Bench::new();
    let text = bench.metrics.text();
    let families = Cf::ALL.map(Cf::name).into_iter();
    for kind in families.chain(["payload", "missing_payload", "lost_record"]) {
        let line = format!("waystation_quarantined_total{{kind=\"{kind}\"}} 0\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test]
async fn below_low_water_nothing_arrives_and_delivery_goes_on() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.spool().core.disk.met_full();
    assert_eq!(
        bench.spool().arrive(arriving("1.2")).await.err(),
        Some(ArriveError::LowWater)
    );
    bench.confirm("a").await;
    until("room again", || !bench.spool().health().low_water).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
}

#[tokio::test]
async fn the_pool_is_refilled() {
    let bench = Bench::new();
    let pool = &bench.spool().core.pool;
    until("filled", || pool.ready() >= 256).await;
    for n in 0..80 {
        bench.store(&format!("1.{n}"), &[n], vec![to("a")]).await;
    }
    until("filled again", || pool.ready() >= 225).await;
}

/// Changes the index behind the spool's back.
fn tamper(path: &Path, changes: impl FnOnce(&Db) -> Vec<(Cf, Vec<u8>, Option<Vec<u8>>)>) {
    let db = Db::open(&recover::index_path(path), false).unwrap();
    let changes = changes(&db);
    db.write(changes.into_iter()).unwrap();
}

fn first(db: &Db, cf: Cf) -> (Vec<u8>, Vec<u8>) {
    let mut found = None;
    db.scan(cf, &[], &[], |key, value| {
        found = Some((key.to_vec(), value.to_vec()));
        false
    })
    .unwrap();
    found.unwrap()
}

fn flipped(mut value: Vec<u8>) -> Vec<u8> {
    let middle = value.len() / 2;
    value[middle] ^= 4;
    value
}

#[tokio::test]
async fn an_unreadable_job_goes_to_quarantine_and_its_instance_is_decided_anew() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.reopen_after(|path| {
        tamper(path, |db| {
            let (key, value) = first(db, Cf::Job);
            vec![(Cf::Job, key, Some(flipped(value)))]
        });
    });
    let leases = bench.spool().claim(&dest("a"), 9).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].instance.sop_instance.as_str(), "1.2");
    drop(leases);
    let recovered = bench.spool().recovered(9).await.unwrap();
    assert_eq!(recovered[0].1.sop_instance.as_str(), "1.1");
    assert_eq!(bench.metrics.quarantined_total.with_label_values(&["job"]).get(), 1);
    bench.reopen_after(|_| {});
    assert_eq!(
        (bench.report.quarantined, bench.report.queued, bench.report.held),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn an_unreadable_instance_record_is_made_again_from_its_file() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.reopen_after(|path| {
        tamper(path, |db| {
            let (key, value) = first(db, Cf::Instance);
            vec![(Cf::Instance, key, Some(flipped(value)))]
        });
    });
    assert!(bench.claim_one("a").await.is_none());
    assert_eq!(
        bench.claim_one("a").await.unwrap().instance.sop_instance.as_str(),
        "1.1"
    );
    assert_eq!(
        bench.metrics.quarantined_total.with_label_values(&["instance"]).get(),
        1
    );
}

#[tokio::test]
async fn fsck_finds_planted_damage() {
    type Damage = fn(&Db) -> Vec<(Cf, Vec<u8>, Option<Vec<u8>>)>;
    let cases: [(&str, Damage); 7] = [
        ("its record cannot be read", |db| {
            let (key, value) = first(db, Cf::Job);
            vec![(Cf::Job, key, Some(flipped(value)))]
        }),
        ("no entry in the queue", |db| {
            vec![(Cf::Due, first(db, Cf::Due).0, None)]
        }),
        ("no reference", |db| vec![(Cf::Ref, first(db, Cf::Ref).0, None)]),
        ("no such queued job", |db| vec![(Cf::Job, first(db, Cf::Job).0, None)]),
        ("no record", |db| vec![(Cf::Instance, first(db, Cf::Instance).0, None)]),
        ("ledger: fact", |db| {
            let (key, value) = first(db, Cf::Ledger);
            vec![(Cf::Ledger, key, Some(flipped(value)))]
        }),
        ("hold entry of job 5", |_| {
            let key = JobKey { dest: 1, job: JobId(5) };
            vec![(Cf::Hold, keys::hold(key, START).to_vec(), Some(vec![1]))]
        }),
    ];
    for (expected, damage) in cases {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.store("1.2", b"x", vec![to("a")]).await;
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
        tamper(bench.path(), damage);
        let report = fsck(bench.path(), false).unwrap();
        assert!(
            report.problems.iter().any(|p| p.contains(expected)),
            "{expected}: {:?}",
            report.problems
        );
    }
}

#[tokio::test]
async fn a_deep_fsck_finds_a_flipped_payload_bit() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", b"image", vec![to("a")]).await);
    assert_eq!(bench.fsck().bytes_verified, 5);
    let path = payload::path_of(bench.path(), id);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(fsck(bench.path(), false).unwrap().problem_count, 0);
    assert!(fsck(bench.path(), true).unwrap().problems[0].contains("not what arrived"));
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_reported_and_never_passed_over() {
    let mut bench = Bench::new();
    for n in 0..20 {
        bench.store(&format!("1.{n}"), &[n], vec![to("a")]).await;
    }
    bench.spool = None;
    let log = std::fs::read_dir(bench.path().join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let opened = Spool::open(stopping(bench.path()), Clock::System, Metrics::new()).map(|_| ());
    assert!(matches!(opened, Err(OpenError::IndexDamaged { .. })), "{opened:?}");
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!(report.kept + report.recovered, 20);
    assert!(
        report.kept > 5,
        "what stands beside the flipped bit is read: {report:?}"
    );
    assert!(report.aside.unwrap().exists());
}

#[tokio::test]
async fn a_table_that_cannot_be_read_ends_the_box_in_words_and_a_rebuild_mends_it() {
    let mut bench = Bench::new();
    for n in 0..4 {
        bench.store(&format!("1.{n}"), b"kept", vec![to("vna")]).await;
    }
    // The next start writes what the log holds into tables.
    bench.reopen_after(|_| {});
    bench.spool = None;
    recover::suspect(bench.path()).unwrap();
    let tables: Vec<_> = std::fs::read_dir(bench.path().join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    assert!(!tables.is_empty());
    for table in tables {
        let mut bytes = std::fs::read(&table).unwrap();
        bytes[10] ^= 0x40;
        std::fs::write(&table, bytes).unwrap();
    }
    let opened = Spool::open(stopping(bench.path()), bench.clock.clone(), Metrics::new());
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("spool rebuild"), "{error}");
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!(report.kept + report.recovered, 4);
    bench.reopen_after(|_| {});
    assert_eq!(bench.report.adopted.len(), 0);
    assert!(!bench.path().join("index-suspect").exists());
}

/// Cuts the manifest before the name of the last family: those before it are left.
fn cut_manifest(root: &Path) {
    let index = root.join("index");
    let current = std::fs::read_to_string(index.join("CURRENT")).unwrap();
    let manifest = index.join(current.trim());
    let whole = std::fs::read(&manifest).unwrap();
    let name = Cf::ALL[Cf::ALL.len() - 1].name().as_bytes();
    let at = whole.windows(name.len()).position(|window| window == name).unwrap();
    std::fs::write(&manifest, &whole[..at]).unwrap();
}

#[tokio::test]
async fn a_cut_manifest_never_brings_a_family_back_empty() {
    let mut bench = Bench::new();
    bench.store("1.1", b"kept", vec![to("vna")]).await;
    bench.spool = None;
    cut_manifest(bench.path());
    let opened = Spool::open(stopping(bench.path()), bench.clock.clone(), Metrics::new());
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("spool rebuild"), "{error}");
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!(report.kept + report.recovered, 1);
}

#[tokio::test]
async fn a_first_start_that_was_cut_is_gone_on_with() {
    let mut bench = Bench::new();
    bench.reopen_after(cut_manifest);
    bench.store("1.1", b"kept", vec![to("vna")]).await;
    bench.confirm("vna").await;
}

/// What began to arrive before the disk was full takes no room any more: it would not be committed, and a start needs what is left.
#[tokio::test]
async fn what_arrives_when_the_disk_becomes_critical_is_not_written() {
    let bench = Bench::new();
    let mut incoming = bench.spool().arrive(arriving("1.1")).await.unwrap();
    incoming.write(Bytes::from_static(b"content")).await.unwrap();
    let path = payload::path_of(bench.path(), incoming.id());
    let space = |free_inodes| disk::Space {
        bytes: 1_000,
        free_bytes: 1_000,
        inodes: 1_000,
        free_inodes,
    };
    bench.spool().core.disk.judge(space(0));
    assert_eq!(incoming.seal().await.err(), Some(ArriveError::LowWater));
    bench.spool().core.disk.judge(space(1_000));
    until("its file is removed", || !path.exists()).await;
    bench.store("1.1", b"content", vec![to("vna")]).await;
}

/// Files made ahead that somebody has removed below the running box take no image: it would be acknowledged and nowhere.
#[tokio::test]
async fn a_file_without_a_name_takes_no_image() {
    let mut bench = Bench::new();
    until("files made ahead", || bench.spool().core.pool.ready() > 200).await;
    let mut removed = 0;
    for shard in std::fs::read_dir(bench.path().join("payload")).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 200, "the pool makes files ahead");
    for n in 0..8_u8 {
        let id = id_of(bench.store(&format!("1.{n}"), &[n], vec![to("a")]).await);
        assert!(super::super::payload::path_of(bench.path(), id).exists());
    }
    assert!(!bench.spool().health().latched);
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_payload_that_is_longer_than_a_file_may_be_is_refused_and_is_no_broken_disk() {
    let bench = Bench::new();
    let core = &bench.spool().core;
    let beyond = async { Ok::<_, ()>(Err::<(), _>(rustix::io::Errno::FBIG.into())) };
    let refused: Result<(), ArriveError> = core.on_disk(beyond, "payload_write").await;
    assert_eq!(refused, Err(ArriveError::TooLong));
    assert!(!bench.spool().health().latched && !bench.spool().health().low_water);
    let counted = bench.metrics.gate_errors_total.with_label_values(&["payload_too_long"]);
    assert_eq!(counted.get(), 1);
}
