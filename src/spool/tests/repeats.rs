//! One SOP Instance UID, more than once.
use super::*;

#[tokio::test]
async fn the_same_content_is_acknowledged_and_not_delivered_twice() {
    let mut bench = Bench::new();
    let first = bench.store("1.1", b"x", vec![to("vna")]).await;
    let Committed::Stored(id) = first else {
        panic!("{first:?}")
    };
    assert_eq!(bench.store("1.1", b"x", vec![to("vna")]).await, Committed::Repeat(id));
    bench.confirm("vna").await;
    assert_eq!(bench.store("1.1", b"x", vec![to("vna")]).await, Committed::Repeat(id));
    assert!(bench.claim_one("vna").await.is_none());
    bench.reopen_after(|_| {});
    assert_eq!(bench.store("1.1", b"x", vec![to("vna")]).await, Committed::Repeat(id));
    assert!(bench.claim_one("vna").await.is_none());
}

#[tokio::test]
async fn a_destination_that_is_new_is_served() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let again = bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    assert!(matches!(again, Committed::Stored(_)));
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 1);
    assert_eq!(bench.spool().claim(&dest("b"), 9).await.len(), 1);
    assert!(matches!(
        bench.store("1.1", b"x", vec![to("b")]).await,
        Committed::Repeat(_)
    ));
}

#[tokio::test]
async fn repeats_are_delivered_again_where_that_is_wanted() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let sealed = bench.sealed("1.1", b"x").await;
    let commit = Commit {
        repeat: Repeat::Deliver,
        ..decision(vec![to("a")])
    };
    assert!(matches!(
        bench.spool().commit(sealed, commit).await,
        Ok(Committed::Stored(_))
    ));
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 2);
}

#[tokio::test]
async fn other_content_is_kept_and_held() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let second = bench.store("1.1", b"y", vec![to("a")]).await;
    let Committed::Conflict(id) = second else {
        panic!("{second:?}")
    };
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 1);
    assert_eq!(read_all(bench.spool(), id).await.unwrap(), b"y");
    let held = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    assert_eq!(bench.spool().count(held).await.unwrap(), 1);
    assert_eq!(bench.store("1.1", b"y", vec![to("a")]).await, Committed::Repeat(id));
}

#[tokio::test]
async fn what_a_resend_has_delivered_is_not_delivered_again_by_a_release() {
    let mut bench = Bench::new();
    let undecided = NewJob {
        destination: None,
        hold: Some(HoldReason::new(HoldKind::Error, "a rule failed")),
        ..to("a")
    };
    let first = id_of(bench.store("1.1", b"x", vec![undecided.clone()]).await);
    let partly = id_of(bench.store("1.2", b"y", vec![undecided]).await);
    // The rule is mended, and the modality sends both again.
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.confirm("a").await;
    let held = bench.spool().undecided(HoldKind::Error, 9).await.unwrap();
    assert_eq!(held.len(), 2);
    for (job, instance) in held {
        let decided = match instance.id == first {
            true => vec![to("a")],
            false => vec![to("a"), to("b")],
        };
        let added = bench.spool().redecide(job, decided, 8, "it").await.unwrap();
        assert_eq!(added.len(), usize::from(instance.id == partly));
    }
    bench.confirm("a").await;
    assert!(bench.claim_one("a").await.is_none(), "the same content once");
    assert_eq!(bench.claim_one("b").await.unwrap().instance.id, partly);
    assert_eq!(bench.spool().count(Filter::default()).await.unwrap(), 1);
    assert_eq!(read_all(bench.spool(), first).await.unwrap(), b"x", "kept as cache");
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
    bench.reopen_after(|_| {});
    assert_eq!((bench.report.instances, bench.report.delivered), (4, 3));
}

#[tokio::test]
async fn a_discarded_job_is_delivered_when_it_is_sent_again() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench
        .spool()
        .act(Filter::default(), Verb::Discard, "it", "wrong patient", false)
        .await
        .unwrap();
    assert!(matches!(
        bench.store("1.1", b"x", vec![to("a")]).await,
        Committed::Stored(_)
    ));
    assert!(bench.claim_one("a").await.is_some());
}

#[tokio::test]
async fn a_resend_repairs_a_payload_that_rotted() {
    let bench = Bench::new();
    let id = id_of(bench.store("1.1", b"image", vec![to("a")]).await);
    let path = payload::path_of(bench.path(), id);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(read_all(bench.spool(), id).await, Err(ReadError::Corrupt));
    let lease = bench.claim_one("a").await.unwrap();
    let reason = HoldReason::new(HoldKind::Corrupt, "digest");
    bench.spool().settle(lease, Settlement::Hold { reason }).await.unwrap();
    let again = bench.store("1.1", b"image", vec![to("a")]).await;
    assert!(matches!(again, Committed::Stored(new) if new != id));
    assert_eq!(bench.claim_one("a").await.unwrap().instance.id, id_of(again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_sends_of_one_uid_see_each_other() {
    let bench = Bench::new();
    for round in 0..20 {
        let uid = format!("1.{round}");
        let mut tasks = Vec::new();
        for n in 0..8_u8 {
            let sealed = bench.sealed(&uid, &[n % 2]).await;
            let spool = bench.spool().clone();
            tasks.push(tokio::spawn(async move {
                spool.commit(sealed, decision(vec![to("a")])).await.unwrap()
            }));
        }
        let mut counts = [0; 3];
        for task in tasks {
            match task.await.unwrap() {
                Committed::Stored(_) => counts[0] += 1,
                Committed::Repeat(_) => counts[1] += 1,
                Committed::Conflict(_) => counts[2] += 1,
            }
        }
        assert_eq!(counts, [1, 6, 1]);
        bench.confirm("a").await;
    }
}

#[tokio::test]
async fn a_resend_after_a_rebuild_is_a_repeat_when_it_was_delivered_before() {
    let mut bench = Bench::new();
    let first = id_of(bench.store("1.1", b"delivered", vec![to("vna")]).await);
    bench.confirm("vna").await;
    let clock = bench.clock.clone();
    bench.reopen_after(|path| {
        let report = rebuild(path, &clock).unwrap();
        assert_eq!((report.delivered, report.recovered), (1, 0));
    });
    assert_eq!(
        bench.store("1.1", b"delivered", vec![to("vna")]).await,
        Committed::Repeat(first)
    );
    assert!(bench.claim_one("vna").await.is_none());
    let other = bench.store("1.1", b"other content", vec![to("vna")]).await;
    assert!(matches!(other, Committed::Conflict(_)), "{other:?}");
}

#[tokio::test]
async fn many_contents_under_one_uid_are_known_until_they_are_where_they_must_be() {
    let mut bench = Bench::new();
    let known = async |bench: &Bench| {
        let key = keys::seen(&Uid::known("1.1"));
        let raw = bench
            .spool()
            .read(move |db| db.get(super::super::db::Cf::Seen, &key))
            .await;
        let seen = super::super::record::SeenRecord::decode(&raw.unwrap().unwrap()).unwrap();
        seen.entries.len()
    };
    bench.store("1.1", b"0", vec![to("a")]).await;
    bench.confirm("a").await;
    for n in 1..=40_u32 {
        bench.store("1.1", n.to_string().as_bytes(), vec![to("a")]).await;
    }
    assert_eq!(known(&bench).await, 41, "the only one that is delivered stays");
    let list = || vec![super::committed::named("1.1")];
    let told = async |bench: &Bench, transaction: &str| {
        super::committed::told(bench, transaction, super::super::commitment::Level::EndToEnd, list()).await
    };
    assert_eq!(told(&bench, "2.25.1").await, [0x0110]);
    let again = bench.store("1.1", b"1", vec![to("a")]).await;
    assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
    // All but the oldest of those that are held.
    let held = bench.spool().list(Filter::default(), None, 99).await.unwrap();
    assert_eq!(held.len(), 40);
    let jobs: Vec<_> = held.iter().skip(1).map(|row| row.job.0).collect();
    let later = Filter {
        jobs,
        ..Filter::default()
    };
    let released = bench.spool().act(later, Verb::Release, "it", "", false).await;
    assert_eq!(released.unwrap().changed, 39);
    for _ in 0..39 {
        bench.confirm("a").await;
    }
    assert_eq!(told(&bench, "2.25.2").await, [0x0110], "one is held still");
    let all = Filter::default();
    bench.spool().act(all, Verb::Release, "it", "", false).await.unwrap();
    bench.confirm("a").await;
    assert_eq!(told(&bench, "2.25.3").await, super::committed::NONE);
    bench.store("1.1", b"41", vec![to("a")]).await;
    assert_eq!(known(&bench).await, 32);
    assert_eq!(told(&bench, "2.25.4").await, [0x0110], "the newest is held");
    assert_eq!(super::committed::problems(&mut bench), Vec::<String>::new());
}
