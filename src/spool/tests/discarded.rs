//! What a person discards, and what sources and archives are told of it then.
use super::super::commitment::Level;
use super::committed::{NONE, asked, evict, named, problems, spoken, told};
use super::*;

/// A person discards everything that matches.
pub(super) async fn discard(bench: &Bench, filter: Filter) {
    let acted = bench
        .spool()
        .act(filter, Verb::Discard, "it", "test", false)
        .await
        .unwrap();
    assert!(acted.changed > 0);
}

#[tokio::test]
async fn a_content_that_was_discarded_is_committed_to_nobody_in_the_cache_or_out_of_it() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.store("1.1", b"other", vec![to("a")]).await;
    let conflict = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    discard(&bench, conflict.clone()).await;
    for round in 1..3 {
        if round == 2 {
            assert_eq!(evict(&bench).await, 2);
        }
        for level in [Level::Edge, Level::EndToEnd] {
            let transaction = format!("2.25.{round}{}", level as u8);
            let reasons = told(&bench, &transaction, level, vec![named("1.1")]).await;
            assert_eq!(reasons, [0x0110], "{round} {level:?}");
        }
    }
    // It is sent again, and let go this time: now both are where they must be.
    bench.store("1.1", b"other", vec![to("a")]).await;
    bench
        .spool()
        .act(conflict, Verb::Release, "it", "", false)
        .await
        .unwrap();
    bench.confirm("a").await;
    assert_eq!(told(&bench, "2.25.7", Level::EndToEnd, vec![named("1.1")]).await, NONE);
    assert_eq!(evict(&bench).await, 1);
    assert_eq!(told(&bench, "2.25.8", Level::EndToEnd, vec![named("1.1")]).await, NONE);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_delivery_that_was_made_anew_counts_whichever_copies_have_left_the_cache() {
    for (first, second) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.store("1.2", b"y", vec![to("a"), to("b")]).await;
        bench.confirm("b").await;
        discard(&bench, Filter::default()).await;
        let both = || vec![named("1.1"), named("1.2")];
        // 1.1 went nowhere, as if it had never come; of 1.2 one delivery is missing.
        assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, both()).await, [0x0112, 0x0110]);
        if first {
            assert_eq!(evict(&bench).await, 2);
        }
        assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, both()).await, [0x0112, 0x0110]);
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.store("1.2", b"y", vec![to("a"), to("b")]).await;
        assert_eq!(
            told(&bench, "2.25.3", Level::EndToEnd, both()).await,
            [0x0110, 0x0110],
            "on their way"
        );
        bench.confirm("a").await;
        bench.confirm("a").await;
        if second {
            evict(&bench).await;
        }
        assert_eq!(
            told(&bench, "2.25.4", Level::EndToEnd, both()).await,
            NONE,
            "{first} {second}"
        );
        assert_eq!(problems(&mut bench), Vec::<String>::new());
    }
}

/// Forgets what is remembered of instances that left; their UIDs stay known.
async fn forget_what_left(bench: &Bench) {
    bench.clock.advance(Duration::from_secs(1));
    let before = bench.clock.now();
    let (found, _) = super::super::commitment::FAMILY.old(&bench.spool().core, &[], before);
    assert!(!found.is_empty());
    let swept = move |txn: &mut super::super::txn::Txn<'_>| super::super::commitment::FAMILY.sweep(txn, found, before);
    bench.spool().submit(swept).await.unwrap();
}

#[tokio::test]
async fn a_discarded_delivery_is_not_promised_when_what_became_of_it_is_forgotten() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.confirm("a").await;
    discard(&bench, Filter::default()).await;
    assert_eq!(evict(&bench).await, 2);
    let both = || vec![named("1.1"), named("1.2")];
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, both()).await, [0x0110]);
    forget_what_left(&bench).await;
    for level in [Level::Edge, Level::EndToEnd] {
        let transaction = format!("2.25.2{}", level as u8);
        assert_eq!(told(&bench, &transaction, level, both()).await, [0x0112, 0x0112]);
    }
    // Of two contents one is forgotten: the other alone is no promise.
    bench.store("1.2", b"other", vec![to("a")]).await;
    let conflict = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    let released = bench.spool().act(conflict, Verb::Release, "it", "", false).await;
    assert_eq!(released.unwrap().changed, 1);
    bench.confirm("a").await;
    let one = vec![named("1.2")];
    assert_eq!(told(&bench, "2.25.3", Level::EndToEnd, one).await, [0x0110]);
}

#[tokio::test]
async fn a_request_that_no_job_waits_for_any_more_ends() {
    let mut bench = Bench::new();
    asked(&bench, &["1.1", "1.2"], "2.25.1").await;
    let one = Filter {
        sop_instance: Some(Uid::known("1.1")),
        ..Filter::default()
    };
    discard(&bench, one).await;
    assert_eq!(bench.spool().outstanding().await.unwrap().len(), 1, "one waits still");
    discard(&bench, Filter::default()).await;
    assert_eq!(bench.spool().outstanding().await.unwrap(), []);
    asked(&bench, &["1.3"], "2.25.2").await;
    assert_eq!(bench.spool().outstanding().await.unwrap().len(), 1);
    let since = bench.spool().awaits_since(&dest("a")).await.unwrap();
    assert_eq!(
        (since, bench.spool().awaited()),
        (Some(START.plus(Duration::from_secs(61))), vec![dest("a")])
    );
    bench
        .spool()
        .take_as_committed(&dest("a"), "it", "retired")
        .await
        .unwrap();
    assert_eq!(bench.spool().outstanding().await.unwrap(), []);
    assert_eq!(bench.spool().awaits_since(&dest("a")).await.unwrap(), None);
    assert_eq!(bench.spool().awaited(), []);
    asked(&bench, &["1.4"], "2.25.3").await;
    let reroute = Verb::Reroute(dest("b"));
    bench
        .spool()
        .act(Filter::default(), reroute, "it", "", false)
        .await
        .unwrap();
    assert_eq!(bench.spool().outstanding().await.unwrap(), []);
    // Swept in its time, as others that are over; a late answer finds nobody.
    let told = bench.spool().spoken(spoken("2.25.3", &["1.4"], &[])).await.unwrap();
    assert!(
        matches!(
            told,
            super::super::commitment::Told::Done {
                committed: 0,
                again: 0,
                held: 0,
                ..
            }
        ),
        "{told:?}"
    );
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}
