//! The scrub: what it finds, what it holds, how a resend heals, how fast it goes.
use super::*;
use std::fs;
use std::time::Instant;

pub(super) fn flip(bench: &Bench, id: InstanceId) {
    let path = payload::path_of(bench.path(), id);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// A whole pass, asked for by a person.
pub(super) async fn scrub(bench: &Bench) -> ScrubStatus {
    bench.spool().scrub_now();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let status = bench.spool().scrub_status();
        if !status.running && status.completed.is_some() && status.started.is_some() {
            return status;
        }
    }
    panic!("the pass does not end: {:?}", bench.spool().scrub_status());
}

pub(super) async fn held(bench: &Bench, kind: HoldKind) -> u64 {
    let filter = Filter {
        kind: Some(kind),
        ..Filter::default()
    };
    bench.spool().count(filter).await.unwrap()
}

#[tokio::test]
async fn damage_is_held_and_named_before_anybody_needs_it_and_a_resend_heals_it() {
    let bench = Bench::new();
    let sound = id_of(bench.store("1.1", b"sound", vec![to("a")]).await);
    let open = id_of(bench.store("1.2", b"open", vec![to("a"), to("b")]).await);
    let gone = id_of(bench.store("1.3", b"gone", vec![to("a")]).await);
    let cached = id_of(bench.store("1.4", b"cached", vec![to("c")]).await);
    bench.confirm("c").await;
    bench.confirm("b").await;
    flip(&bench, open);
    flip(&bench, cached);
    fs::remove_file(payload::path_of(bench.path(), gone)).unwrap();
    let status = scrub(&bench).await;
    assert_eq!(
        (status.payloads, status.damaged, status.bytes),
        (4, 3, 25),
        "{status:?}"
    );
    assert_eq!(held(&bench, HoldKind::Corrupt).await, 2);
    assert_eq!(bench.metrics.spool_damaged.get(), 2);
    let mut named = bench.spool().damaged(9).await.unwrap();
    named.sort_by(|a, b| a.sop_instance.cmp(&b.sop_instance));
    let words: Vec<_> = named
        .iter()
        .map(|one| (one.sop_instance.as_deref(), one.source.as_deref()))
        .collect();
    assert_eq!(words, [(Some("1.2"), Some("ct1")), (Some("1.3"), Some("ct1"))]);
    assert!(
        bench.path().join(format!("quarantine/{cached}.dcm")).exists(),
        "a cached one leaves the cache"
    );
    let going: Vec<_> = bench.spool().claim(&dest("a"), 9).await;
    assert_eq!(going.iter().map(|lease| lease.instance.id).collect::<Vec<_>>(), [sound]);
    drop(going);
    // The same bytes again: only what is not delivered yet goes.
    let healed = bench.store("1.2", b"open", vec![to("a"), to("b")]).await;
    assert!(matches!(healed, Committed::Stored(_)), "{healed:?}");
    assert!(bench.claim_one("b").await.is_none(), "it was delivered there");
    assert_eq!(read_all(bench.spool(), id_of(healed)).await.unwrap(), b"open");
    assert!(bench.path().join(format!("quarantine/{open}.dcm")).exists());
    assert!(matches!(
        bench.store("1.2", b"open", vec![to("a")]).await,
        Committed::Repeat(_)
    ));
    // Other bytes under its UID are no healing.
    let other = bench.store("1.3", b"other", vec![to("a")]).await;
    assert!(matches!(other, Committed::Conflict(_)), "{other:?}");
    assert_eq!(
        (bench.metrics.spool_damaged.get(), held(&bench, HoldKind::Corrupt).await),
        (1, 1)
    );
    assert_eq!(scrub(&bench).await.damaged, 1);
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 2, "each once");
}

#[tokio::test]
async fn what_a_person_held_stays_held_through_damage_and_healing() {
    let bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a"), to("b")]).await);
    let filter = Filter {
        destination: Some(dest("a")),
        ..Filter::default()
    };
    bench
        .spool()
        .act(filter, Verb::Hold, "it", "look", false)
        .await
        .unwrap();
    flip(&bench, id);
    scrub(&bench).await;
    assert_eq!(
        (
            held(&bench, HoldKind::Operator).await,
            held(&bench, HoldKind::Corrupt).await
        ),
        (1, 1)
    );
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    assert_eq!(
        (
            held(&bench, HoldKind::Operator).await,
            held(&bench, HoldKind::Corrupt).await
        ),
        (1, 0)
    );
    assert!(bench.claim_one("a").await.is_none());
    assert!(bench.claim_one("b").await.is_some());
}

#[tokio::test]
async fn a_damaged_instance_that_a_person_discards_leaves_and_is_no_cache() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    flip(&bench, id);
    scrub(&bench).await;
    let acted = bench
        .spool()
        .act(Filter::default(), Verb::Discard, "it", "phantom", false)
        .await;
    assert_eq!(acted.unwrap().changed, 1);
    assert_eq!(bench.metrics.spool_damaged.get(), 0);
    assert!(bench.path().join(format!("quarantine/{id}.dcm")).exists());
    bench.reopen_after(|_| {});
    assert_eq!(bench.report.instances, 0);
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_pass_keeps_to_its_rate_and_goes_on_after_a_restart() {
    let mut bench = Bench::new();
    bench.spool = None;
    let slow = Config {
        scrub_rate: Size::mib(2),
        ..config(bench.path())
    };
    let (spool, _) = Spool::open(slow, bench.clock.clone(), bench.metrics.clone()).unwrap();
    bench.spool = Some(spool);
    for n in 0..4 {
        bench.store(&format!("1.{n}"), &vec![n; 1 << 20], vec![to("a")]).await;
    }
    let began = Instant::now();
    bench.spool().scrub_now();
    while bench.spool().scrub_status().payloads < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(bench.metrics.scrub_pass_ratio.get() >= 0.5 && bench.spool().scrub_status().running);
    bench.reopen_after(|_| {});
    assert!(bench.spool().scrub_status().running, "where it was");
    assert_eq!(scrub(&bench).await.payloads, 4, "begun anew on a person's word");
}

#[tokio::test]
async fn a_damaged_header_is_named_though_the_image_is_sound() {
    let bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    let path = payload::path_of(bench.path(), id);
    let mut bytes = fs::read(&path).unwrap();
    bytes[190] ^= 1;
    fs::write(&path, bytes).unwrap();
    let status = scrub(&bench).await;
    assert_eq!((status.headers, status.damaged), (1, 0));
    assert!(bench.claim_one("a").await.is_some());
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_payload_is_told_at_once_and_holds_up_nobody() {
    let bench = Bench::new();
    let id = id_of(bench.store("1.1", b"image", vec![to("a")]).await);
    let path = payload::path_of(bench.path(), id);
    fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let read = tokio::time::timeout(Duration::from_secs(10), bench.spool().payload(&id)).await;
    assert!(
        matches!(read, Ok(Err(ReadError::Unreadable(_)))),
        "it is no file, and nobody waits for its other end"
    );
    let status = scrub(&bench).await;
    assert_eq!((status.payloads, status.damaged), (1, 1), "{status:?}");
    assert_eq!(held(&bench, HoldKind::Corrupt).await, 1);
}
