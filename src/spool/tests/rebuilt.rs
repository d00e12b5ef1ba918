//! What a rebuild keeps of the old index, and what it does without one.
use super::super::salvage::Fate;
use super::scrubbed::{flip, scrub};
use super::*;
use std::fs;

async fn held(bench: &Bench, kind: HoldKind) -> Vec<Row> {
    let filter = Filter {
        kind: Some(kind),
        ..Filter::default()
    };
    bench.spool().list(filter, None, 9).await.unwrap()
}

async fn close(bench: &mut Bench) {
    bench.spool.take().unwrap().close().await;
}

#[tokio::test]
async fn what_was_held_back_stays_held_and_suspended_stays_suspended() {
    let mut bench = Bench::new();
    let by_rule = NewJob {
        hold: Some(HoldReason::new(HoldKind::Rule, "burned-in annotation")),
        ..to("a")
    };
    let ruled = id_of(bench.store("1.1", b"ruled", vec![by_rule, to("b")]).await);
    let free = id_of(bench.store("1.2", b"free", vec![to("a"), to("c")]).await);
    bench.store("1.3", b"delivered", vec![to("c")]).await;
    bench.spool().suspend(&dest("b"), "it", "maintenance").await.unwrap();
    bench.confirm("c").await;
    bench.confirm("c").await;
    close(&mut bench).await;
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!((report.kept, report.held, report.delivered), (1, 1, 1));
    assert_eq!((report.suspended, report.forgotten), (vec!["b".to_owned()], None));
    assert_eq!(fsck(bench.path(), true).unwrap().problems, Vec::<String>::new());
    bench.reopen_after(|_| {});
    let rows = held(&bench, HoldKind::Rule).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].destination.clone(), rows[0].instance.as_ref().unwrap().id),
        (Some(dest("a")), ruled)
    );
    assert_eq!(rows[0].hold.as_ref().unwrap().text, "burned-in annotation");
    assert!(bench.spool().is_suspended(&dest("b")) && bench.claim_one("b").await.is_none());
    bench.spool().resume(&dest("b"), "it", "done").await.unwrap();
    assert_eq!(
        bench.claim_one("b").await.unwrap().instance.id,
        ruled,
        "with its own plan, not decided anew"
    );
    // Delivered to `c` before: only `a` is left, as it was decided once.
    assert_eq!(bench.claim_one("a").await.unwrap().instance.id, free);
    assert!(bench.claim_one("c").await.is_none());
    let repeat = bench.store("1.3", b"delivered", vec![to("c")]).await;
    assert!(matches!(repeat, Committed::Repeat(_)));
    let wider = bench.store("1.3", b"delivered", vec![to("c"), to("d")]).await;
    assert!(matches!(wider, Committed::Stored(_)) && bench.claim_one("c").await.is_none());
}

#[tokio::test]
async fn without_the_old_index_conflicts_wait_and_what_was_delivered_is_not_delivered_again() {
    let mut bench = Bench::new();
    bench.store("1.1", b"delivered", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.clock.advance(Duration::from_secs(1));
    let other = id_of(bench.store("1.1", b"other", vec![to("a")]).await);
    let first = id_of(bench.store("1.2", b"first", vec![to("a")]).await);
    bench.clock.advance(Duration::from_secs(1));
    let second = id_of(bench.store("1.2", b"second", vec![to("a")]).await);
    close(&mut bench).await;
    fs::remove_dir_all(bench.path().join("index")).unwrap();
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!((report.recovered, report.held, report.delivered), (1, 2, 1));
    assert!(report.forgotten.is_some());
    assert_eq!(fsck(bench.path(), true).unwrap().problems, Vec::<String>::new());
    bench.reopen_after(|_| {});
    let rows = held(&bench, HoldKind::Conflict).await;
    let mut waiting: Vec<InstanceId> = rows.iter().map(|row| row.instance.as_ref().unwrap().id).collect();
    waiting.sort_unstable();
    let mut expected = vec![other, second];
    expected.sort_unstable();
    assert_eq!(waiting, expected);
    let recovered = bench.spool().recovered(9).await.unwrap();
    assert_eq!(
        recovered.iter().map(|(_, instance)| instance.id).collect::<Vec<_>>(),
        [first]
    );
    let again = bench.store("1.1", b"delivered", vec![to("a")]).await;
    assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
    assert!(bench.claim_one("a").await.is_none());
}

#[tokio::test]
async fn what_has_left_the_cache_is_still_known_after_a_rebuild() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    let spool = bench.spool();
    let gone = spool.submit(|txn| super::super::cache::evict(txn, 9)).await.unwrap();
    for id in gone {
        fs::remove_file(payload::path_of(bench.path(), id)).unwrap();
    }
    close(&mut bench).await;
    rebuild(bench.path(), &bench.clock).unwrap();
    bench.reopen_after(|_| {});
    assert!(matches!(
        bench.store("1.1", b"x", vec![to("a")]).await,
        Committed::Repeat(_)
    ));
}

async fn discard_all(bench: &Bench) {
    let acted = bench
        .spool()
        .act(Filter::default(), Verb::Discard, "it", "a phantom", false);
    assert!(acted.await.unwrap().changed > 0);
}

#[tokio::test]
async fn what_was_damaged_and_discarded_is_delivered_when_it_comes_again_after_a_rebuild_too() {
    for salvaged in [false, true] {
        let mut bench = Bench::new();
        let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
        flip(&bench, id);
        scrub(&bench).await;
        discard_all(&bench).await;
        close(&mut bench).await;
        if salvaged {
            bench.reopen_after(|path| fs::write(path.join("index/CURRENT"), b"nothing\n").unwrap());
            assert!(bench.report.salvaged.is_some());
        } else {
            rebuild(bench.path(), &bench.clock).unwrap();
            bench.reopen_after(|_| {});
        }
        let again = bench.store("1.1", b"x", vec![to("a")]).await;
        assert!(matches!(again, Committed::Stored(_)), "salvaged {salvaged}: {again:?}");
        assert!(bench.claim_one("a").await.is_some(), "salvaged {salvaged}");
    }
}

#[tokio::test]
async fn without_an_index_what_was_discarded_is_not_called_delivered_and_a_resend_goes() {
    let mut bench = Bench::new();
    let whole = id_of(bench.store("1.1", b"discarded", vec![to("a")]).await);
    bench.store("1.2", b"in part", vec![to("a"), to("b")]).await;
    bench.confirm("b").await;
    discard_all(&bench).await;
    bench.store("1.3", b"delivered", vec![to("c")]).await;
    bench.confirm("c").await;
    close(&mut bench).await;
    fs::remove_dir_all(bench.path().join("index")).unwrap();
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!((report.discarded, report.delivered, report.recovered), (2, 1, 0));
    bench.reopen_after(|_| {});
    assert_eq!((bench.report.discarded, bench.report.delivered), (2, 1));
    let instances = |state| bench.metrics.spool_instances.with_label_values(&[state]).get();
    assert_eq!(
        (instances("discarded"), instances("delivered"), instances("pending")),
        (2, 1, 0)
    );
    let facts = bench.spool().facts(Some(whole), 9).await.unwrap();
    let told = facts.iter().find(|fact| fact.kind == FactKind::Recovered).unwrap();
    assert!(told.text.contains("discarded"), "{told:?}");
    for (uid, content, name) in [("1.1", &b"discarded"[..], "a"), ("1.2", b"in part", "b")] {
        let again = bench.store(uid, content, vec![to(name)]).await;
        assert!(matches!(again, Committed::Stored(_)), "{uid}: {again:?}");
        assert!(bench.claim_one(name).await.is_some(), "{uid}");
    }
    let repeat = bench.store("1.3", b"delivered", vec![to("c")]).await;
    assert!(matches!(repeat, Committed::Repeat(_)), "{repeat:?}");
}

#[tokio::test]
async fn a_rebuild_by_a_person_leaves_a_report_that_names_what_is_lost_by_its_uid() {
    let mut bench = Bench::new();
    let lost = id_of(bench.store("1.1", b"lost", vec![to("a")]).await);
    let cut = id_of(bench.store("1.2", b"cut", vec![to("a")]).await);
    close(&mut bench).await;
    fs::remove_file(payload::path_of(bench.path(), lost)).unwrap();
    fs::write(payload::path_of(bench.path(), cut), b"short").unwrap();
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    let named_in = report.named_in.unwrap();
    let named = salvages(bench.path(), 9).unwrap().remove(0);
    assert!(named_in.ends_with(&named.name) && named.complete && named.cause.contains("spool rebuild"));
    let mut fates: Vec<_> = named
        .named
        .iter()
        .map(|n| (n.sop_instance.as_deref(), n.fate))
        .collect();
    fates.sort_unstable();
    assert_eq!(fates, [(Some("1.1"), Fate::Lost), (Some("1.2"), Fate::Damaged)]);
    bench.reopen_after(|_| {});
    assert_eq!(bench.metrics.salvage_unacknowledged.get(), 1);
}

#[tokio::test]
async fn what_goes_to_quarantine_is_named_though_the_run_ends_there() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", b"acknowledged", vec![to("a")]).await);
    bench.store("1.2", b"whole", vec![to("a")]).await;
    close(&mut bench).await;
    fs::remove_dir_all(bench.path().join("index")).unwrap();
    let path = payload::path_of(bench.path(), id);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    // The index cannot be made: something that is no folder stands in its place.
    let ledger = bench.path().join("trace.key");
    let key = fs::read(&ledger).unwrap();
    fs::remove_file(&ledger).unwrap();
    fs::create_dir(&ledger).unwrap();
    assert!(rebuild(bench.path(), &bench.clock).is_err());
    assert!(!path.exists(), "it was moved");
    fs::remove_dir(&ledger).unwrap();
    fs::write(&ledger, key).unwrap();
    bench.reopen_after(|_| {});
    let reports = salvages(bench.path(), 9).unwrap();
    assert_eq!((reports.len(), reports[0].complete), (2, false));
    let named = &reports[0].named;
    assert_eq!((named.len(), named[0].fate), (1, Fate::Damaged));
    assert_eq!(named[0].sop_instance.as_deref(), Some("1.1"));
}

/// A person rerouted one delivery of an image, with the old index still readable: wherever the image is by then, a resend goes where
/// it went before, and no further.
#[tokio::test]
async fn what_a_person_rerouted_is_known_after_a_rebuild_too() {
    let act = async |bench: &Bench, at: &str, verb: Verb| {
        let filter = Filter {
            destination: Some(dest(at)),
            ..Filter::default()
        };
        bench.spool().act(filter, verb, "it", "test", false).await.unwrap();
    };
    for fate in [
        "waits",
        "delivered",
        "evicted",
        "lost",
        "discarded",
        "discarded and evicted",
    ] {
        let mut bench = Bench::new();
        let id = id_of(bench.store("1.1", b"x", vec![to("a"), to("b")]).await);
        bench.confirm("b").await;
        act(&bench, "a", Verb::Reroute(dest("c"))).await;
        let discarded = fate.starts_with("discarded");
        match fate {
            "waits" | "lost" => {}
            _ if discarded => act(&bench, "c", Verb::Discard).await,
            _ => bench.confirm("c").await,
        }
        if fate.ends_with("evicted") {
            let spool = bench.spool();
            let gone = spool.submit(|txn| super::super::cache::evict(txn, 9)).await.unwrap();
            assert_eq!(gone, [id], "{fate}");
        }
        close(&mut bench).await;
        if fate.ends_with("evicted") || fate == "lost" {
            fs::remove_file(payload::path_of(bench.path(), id)).unwrap();
        }
        rebuild(bench.path(), &bench.clock).unwrap();
        bench.reopen_after(|_| {});
        if matches!(fate, "waits") {
            bench.confirm("c").await;
        }
        for round in 0..2 {
            bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
            if discarded && round == 0 {
                bench.confirm("a").await;
            }
            assert!(bench.claim_one("a").await.is_none(), "{fate}, round {round}");
            assert!(bench.claim_one("b").await.is_none(), "{fate}");
        }
        if fate == "lost" {
            bench.confirm("c").await;
        }
        assert_eq!(bench.fsck().problems, Vec::<String>::new(), "{fate}");
    }
}

/// The number of a job is never that of another, also when nothing was open that a rebuild could have carried over.
#[tokio::test]
async fn job_numbers_go_on_after_a_rebuild_and_a_third_content_does_not_slip_through() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    close(&mut bench).await;
    rebuild(bench.path(), &bench.clock).unwrap();
    bench.reopen_after(|_| {});
    bench.store("1.1", b"y", vec![to("a")]).await;
    let second = held(&bench, HoldKind::Conflict).await.remove(0);
    assert!(second.job > JobId(1), "{}", second.job);
    let undecided = NewJob {
        destination: None,
        hold: Some(HoldReason::new(HoldKind::Error, "why")),
        ..to("a")
    };
    bench.store("1.1", b"z", vec![undecided]).await;
    let rows = bench.spool().list(Filter::default(), None, 9).await.unwrap();
    let third = rows.iter().find(|row| row.destination.is_none()).unwrap();
    bench.spool().redecide(third.job, vec![to("a")], 8, "it").await.unwrap();
    assert!(bench.claim_one("a").await.is_none());
    assert_eq!(held(&bench, HoldKind::Conflict).await.len(), 2);
}

#[tokio::test]
async fn what_was_discarded_without_a_destination_keeps_its_number_over_a_rebuild() {
    let mut bench = Bench::new();
    let undecided = NewJob {
        destination: None,
        hold: Some(HoldReason::new(HoldKind::NoDestination, "why")),
        ..to("a")
    };
    bench.store("1.1", b"x", vec![undecided]).await;
    discard_all(&bench).await;
    let discarded = async |bench: &Bench| {
        let filter = Filter {
            state: Some(JobState::Discarded),
            ..Filter::default()
        };
        let rows = bench.spool().list(filter, None, 9).await.unwrap();
        rows.iter().map(|row| row.job).collect::<Vec<_>>()
    };
    let before = discarded(&bench).await;
    assert_eq!(before.len(), 1);
    close(&mut bench).await;
    rebuild(bench.path(), &bench.clock).unwrap();
    bench.reopen_after(|_| {});
    assert_eq!(discarded(&bench).await, before);
}
