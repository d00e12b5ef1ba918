//! One content, on the box more than once: from several sources, or after a rule was added.
use super::super::cache;
use super::super::commitment::Level;
use super::committed::{NONE, evict, named, problems, told};
use super::discarded::discard;
use super::scrubbed::{flip, held, scrub};
use super::*;

fn one() -> Vec<super::super::commitment::Named> {
    vec![named("1.1")]
}

#[tokio::test]
async fn a_copy_that_has_left_speaks_for_no_delivery_of_another() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    // A rule was added, and it is sent again: to `b` alone.
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.confirm("b").await;
    assert_eq!(evict(&bench).await, 1);
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, [0x0110]);
    assert_eq!(told(&bench, "2.25.2", Level::Edge, one()).await, NONE);
    bench.confirm("a").await;
    assert_eq!(told(&bench, "2.25.3", Level::EndToEnd, one()).await, NONE);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn edge_rests_on_each_payload_whose_delivery_is_open() {
    for evicted in [false, true] {
        let bench = Bench::new();
        let open = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
        bench.store("1.1", b"x", vec![to("b")]).await;
        bench.confirm("b").await;
        if evicted {
            assert_eq!(evict(&bench).await, 1);
        }
        flip(&bench, open);
        assert_eq!(
            told(&bench, "2.25.1", Level::Edge, one()).await,
            [0x0110],
            "evicted: {evicted}"
        );
        assert_eq!(held(&bench, HoldKind::Corrupt).await, 1);
    }
}

#[tokio::test]
async fn what_a_person_discarded_of_one_copy_is_promised_because_of_no_other() {
    for before in [false, true] {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![to("a")]).await;
        if before {
            discard(&bench, Filter::default()).await;
        }
        bench.store("1.1", b"x", vec![to("b")]).await;
        bench.confirm("b").await;
        if !before {
            discard(&bench, Filter::default()).await;
        }
        for level in [Level::Edge, Level::EndToEnd] {
            let transaction = format!("2.25.1{}", level as u8);
            assert_eq!(told(&bench, &transaction, level, one()).await, [0x0110], "{before}");
        }
        assert_eq!(evict(&bench).await, 2);
        assert_eq!(
            told(&bench, "2.25.2", Level::EndToEnd, one()).await,
            [0x0110],
            "{before}"
        );
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.confirm("a").await;
        assert_eq!(told(&bench, "2.25.3", Level::EndToEnd, one()).await, NONE, "{before}");
        assert_eq!(evict(&bench).await, 1);
        assert_eq!(told(&bench, "2.25.4", Level::EndToEnd, one()).await, NONE, "{before}");
        assert_eq!(problems(&mut bench), Vec::<String>::new());
    }
}

/// What `spool.repeat_window` lets be forgotten is forgotten.
async fn sweep(bench: &Bench) {
    let now = bench.clock.now();
    let (found, _) = cache::REPEATS.old(&bench.spool().core, &[], now);
    let swept = move |txn: &mut super::super::txn::Txn<'_>| cache::REPEATS.sweep(txn, found, now);
    bench.spool().submit(swept).await.unwrap();
}

#[tokio::test]
async fn a_content_is_known_while_any_copy_of_it_is_to_be_delivered_or_was_just_now() {
    let mut bench = Bench::new();
    bench.store("1.1", b"first", vec![to("a")]).await;
    bench.store("1.1", b"first", vec![to("b")]).await;
    bench.confirm("b").await;
    assert_eq!(evict(&bench).await, 1);
    bench.clock.advance(Duration::from_secs(8 * 86_400));
    sweep(&bench).await;
    let second = bench.store("1.1", b"second", vec![to("a")]).await;
    assert!(matches!(second, Committed::Conflict(_)), "{second:?}");
    bench.confirm("a").await;
    sweep(&bench).await;
    let again = bench.store("1.1", b"first", vec![to("a"), to("b")]).await;
    assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
    assert!(bench.claim_one("a").await.is_none());
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn of_many_contents_none_is_forgotten_while_a_copy_of_it_is_to_be_delivered() {
    let bench = Bench::new();
    for content in [b"0", b"1"] {
        bench.store("1.1", content, vec![to("a")]).await;
        bench.store("1.1", content, vec![to("b")]).await;
    }
    let all = Filter::default();
    bench.spool().act(all, Verb::Release, "it", "", false).await.unwrap();
    bench.confirm("b").await;
    bench.confirm("b").await;
    assert_eq!(evict(&bench).await, 2);
    for n in 2..40_u32 {
        bench.store("1.1", n.to_string().as_bytes(), vec![to("a")]).await;
    }
    for content in [b"0", b"1"] {
        let again = bench.store("1.1", content, vec![to("a")]).await;
        assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
    }
}

/// As an older version left it: the newest copy stands for the content though it has left.
async fn stands_for_it(bench: &Bench, newest: InstanceId) {
    let known = move |txn: &mut super::super::txn::Txn<'_>| {
        let uid = Uid::known("1.1");
        let mut seen = txn.seen(&uid)?;
        seen.entries[0].instance = newest;
        txn.put_seen(&uid, &seen);
        Ok(())
    };
    bench.spool().submit(known).await.unwrap();
}

async fn rebuilt(bench: &mut Bench) {
    bench.spool.take().unwrap().close().await;
    rebuild(bench.path(), &bench.clock).unwrap();
    bench.reopen_after(|_| {});
}

#[tokio::test]
async fn after_a_rebuild_an_older_copy_is_delivered_though_the_newest_had_left() {
    for (older, discarded) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench::new();
        let incomplete = NewJob {
            hold: Some(HoldReason::new(HoldKind::Incomplete, "no row")),
            ..to("a")
        };
        bench.store("1.1", b"x", vec![incomplete]).await;
        let newest = id_of(bench.store("1.1", b"x", vec![to("b")]).await);
        bench.confirm("b").await;
        assert_eq!(evict(&bench).await, 1);
        if older {
            stands_for_it(&bench, newest).await;
        }
        assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, [0x0110]);
        rebuilt(&mut bench).await;
        assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, one()).await, [0x0110]);
        if discarded {
            discard(&bench, Filter::default()).await;
            bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
        } else {
            let job = bench
                .spool()
                .list(Filter::default(), None, 9)
                .await
                .unwrap()
                .remove(0)
                .job;
            bench.spool().redecide(job, vec![to("a")], 8, "it").await.unwrap();
        }
        bench.confirm("a").await;
        assert_eq!(told(&bench, "2.25.3", Level::EndToEnd, one()).await, NONE);
        bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
        assert!(bench.claim_one("a").await.is_none() && bench.claim_one("b").await.is_none());
        assert_eq!(problems(&mut bench), Vec::<String>::new(), "{older} {discarded}");
    }
}

#[tokio::test]
async fn after_a_rebuild_the_note_of_a_reroute_stands_by_its_own_job_alone() {
    for evicted in [false, true] {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.store("1.1", b"x", vec![to("b")]).await;
        bench.confirm("b").await;
        if evicted {
            assert_eq!(evict(&bench).await, 1);
        }
        let (all, reroute) = (Filter::default(), Verb::Reroute(dest("c")));
        let acted = bench.spool().act(all, reroute, "it", "test", false).await.unwrap();
        assert_eq!(acted.changed, 1);
        rebuilt(&mut bench).await;
        let repeat = bench.store("1.1", b"x", vec![to("a")]).await;
        assert!(matches!(repeat, Committed::Repeat(_)), "{repeat:?}");
        discard(&bench, Filter::default()).await;
        let again = bench.store("1.1", b"x", vec![to("a")]).await;
        assert!(matches!(again, Committed::Stored(_)), "{again:?}");
        bench.confirm("a").await;
        assert_eq!(problems(&mut bench), Vec::<String>::new());
    }
}

/// Sent by another source.
async fn store_by(bench: &Bench, source: &str, content: &'static [u8], jobs: Vec<NewJob>) -> Committed {
    let arriving = Arriving {
        source: SourceId::parse(source).unwrap(),
        ..arriving("1.1")
    };
    let mut incoming = bench.spool().arrive(arriving).await.unwrap();
    incoming.decided(Some(Uid::known("1.2.9")), 7);
    incoming.write(Bytes::from_static(content)).await.unwrap();
    let sealed = incoming.seal().await.unwrap();
    bench.spool().commit(sealed, decision(jobs)).await.unwrap()
}

const DOWN: Duration = Duration::from_secs(900);

/// To `a`, or to `spare` when that one is down.
fn group() -> NewJob {
    let kind = GroupKind::Failover { after: DOWN };
    let others = vec![(dest("spare"), vec![9])];
    NewJob {
        group: Some(Group { kind, others }),
        ..to("a")
    }
}

async fn take_over(bench: &Bench) -> Vec<(DestinationId, u64)> {
    let usable = [dest("spare")];
    let taken = bench.spool().take_over(&dest("a"), DOWN, &usable, None).await;
    taken.unwrap().moved
}

#[tokio::test]
async fn a_repeat_counts_on_no_delivery_that_a_fail_over_may_take_elsewhere() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![group()]).await;
    let same = bench.store("1.1", b"x", vec![group()]).await;
    assert!(
        matches!(same, Committed::Repeat(_)),
        "it goes where that one may go: {same:?}"
    );
    for round in 0..2 {
        let other = store_by(&bench, "mr1", b"x", vec![to("a")]).await;
        assert_eq!(matches!(other, Committed::Stored(_)), round == 0, "{other:?}");
    }
    assert_eq!(take_over(&bench).await, [(dest("spare"), 1)]);
    bench.confirm("spare").await;
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, [0x0110]);
    bench.confirm("a").await;
    assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, one()).await, NONE);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_fail_over_takes_nothing_to_where_its_content_was_confirmed() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![group()]).await;
    store_by(&bench, "mr1", b"x", vec![to("spare")]).await;
    bench.confirm("spare").await;
    assert_eq!(take_over(&bench).await, []);
    assert!(bench.claim_one("spare").await.is_none());
    bench.confirm("a").await;
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn what_another_senders_rules_may_decide_anew_is_counted_on_by_nobody() {
    for kind in [HoldKind::Rule, HoldKind::Incomplete, HoldKind::Error] {
        for elsewhere in [true, false] {
            let mut bench = Bench::new();
            let held = || NewJob {
                destination: Some(dest("a")).filter(|_| kind != HoldKind::Error),
                hold: Some(HoldReason::new(kind, "why")),
                ..to("a")
            };
            bench.store("1.1", b"x", vec![held()]).await;
            let same = bench.store("1.1", b"x", vec![held()]).await;
            assert!(matches!(same, Committed::Repeat(_)), "{kind:?}: {same:?}");
            let other = store_by(&bench, "mr1", b"x", vec![held()]).await;
            assert!(matches!(other, Committed::Stored(_)), "{kind:?}: {other:?}");
            let rows = bench.spool().list(Filter::default(), None, 9).await.unwrap();
            let jobs: Vec<JobId> = rows.iter().map(|row| row.job).collect();
            assert_eq!(jobs.len(), 2);
            let second = if elsewhere { "spare" } else { "a" };
            for (job, name) in jobs.into_iter().zip(["a", second]) {
                bench.spool().redecide(job, vec![to(name)], 8, "it").await.unwrap();
            }
            assert_eq!(
                bench.spool().claim(&dest("a"), 9).await.len(),
                1,
                "the same content once"
            );
            assert_eq!(bench.claim_one("spare").await.is_some(), elsewhere);
            assert_eq!(problems(&mut bench), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn what_nobody_knows_where_it_went_goes_to_whom_another_sender_or_other_rules_mean() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("b")]).await;
    bench.confirm("b").await;
    bench.spool.take().unwrap().close().await;
    std::fs::remove_dir_all(bench.path().join("index")).unwrap();
    rebuild(bench.path(), &bench.clock).unwrap();
    bench.reopen_after(|_| {});
    let same = bench.store("1.1", b"x", vec![to("b")]).await;
    assert!(matches!(same, Committed::Repeat(_)), "by the same rules: {same:?}");
    let other = store_by(&bench, "mr1", b"x", vec![to("a")]).await;
    assert!(matches!(other, Committed::Stored(_)), "{other:?}");
    bench.confirm("a").await;
    let again = store_by(&bench, "mr1", b"x", vec![to("a")]).await;
    assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
    let same = bench.store("1.1", b"x", vec![to("b")]).await;
    assert!(matches!(same, Committed::Repeat(_)), "whoever came last: {same:?}");
    let other = store_by(&bench, "mr1", b"x", vec![to("c")]).await;
    assert!(matches!(other, Committed::Stored(_)), "{other:?}");
    discard(&bench, Filter::default()).await;
    let other = store_by(&bench, "mr1", b"x", vec![to("c")]).await;
    assert!(matches!(other, Committed::Stored(_)), "it was discarded: {other:?}");
    bench.confirm("c").await;
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_whole_again_goes_by_itself_where_the_other_delivery_may_go_elsewhere() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![group()]).await;
    let own = id_of(store_by(&bench, "mr1", b"x", vec![to("a")]).await);
    flip(&bench, own);
    scrub(&bench).await;
    assert_eq!(held(&bench, HoldKind::Corrupt).await, 1);
    flip(&bench, own);
    bench.reopen_after(|_| {});
    assert_eq!(held(&bench, HoldKind::Corrupt).await, 0);
    assert_eq!(take_over(&bench).await, [(dest("spare"), 1)]);
    bench.confirm("spare").await;
    bench.confirm("a").await;
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_resend_heals_every_damaged_copy_of_its_content_whoever_sends_it() {
    for (source, own) in [("ct1", "a"), ("mr1", "b")] {
        let mut bench = Bench::new();
        let first = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
        let second = id_of(store_by(&bench, "mr1", b"x", vec![to("b")]).await);
        for id in [first, second] {
            flip(&bench, id);
            scrub(&bench).await;
        }
        assert_eq!(held(&bench, HoldKind::Corrupt).await, 2);
        for level in [Level::Edge, Level::EndToEnd] {
            let transaction = format!("2.25.1{}", level as u8);
            assert_eq!(told(&bench, &transaction, level, one()).await, [0x0110]);
        }
        store_by(&bench, source, b"x", vec![to(own)]).await;
        assert_eq!(held(&bench, HoldKind::Corrupt).await, 0, "{source}");
        assert_eq!(bench.metrics.spool_damaged.get(), 0, "{source}");
        bench.confirm("a").await;
        bench.confirm("b").await;
        assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, one()).await, NONE, "{source}");
        assert_eq!(problems(&mut bench), Vec::<String>::new(), "{source}");
    }
}

fn of_kind(kind: HoldKind, job: NewJob) -> NewJob {
    let destination = job.destination.filter(|_| kind != HoldKind::Error);
    let hold = Some(HoldReason::new(kind, "why"));
    NewJob {
        destination,
        hold,
        group: None,
        ..job
    }
}

/// The job that stands for the copy of a source.
async fn job_of(bench: &Bench, source: &str) -> JobId {
    let rows = bench.spool().list(Filter::default(), None, 9).await.unwrap();
    let is_of = |row: &&super::super::query::Row| {
        let instance = row.instance.as_ref();
        instance.is_some_and(|instance| instance.source.as_str() == source)
    };
    rows.iter().find(is_of).expect("a job of it").job
}

#[tokio::test]
async fn a_resend_by_another_sender_heals_without_taking_a_plain_delivery_into_his_group() {
    let mut bench = Bench::new();
    let old = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    flip(&bench, old);
    scrub(&bench).await;
    store_by(&bench, "mr1", b"x", vec![group()]).await;
    assert_eq!(held(&bench, HoldKind::Corrupt).await, 0);
    assert_eq!(take_over(&bench).await, []);
    bench.confirm("a").await;
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, NONE);
    assert!(bench.claim_one("spare").await.is_none());
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_rule_holds_of_one_sender_stays_beside_what_heals_it_of_another() {
    let mut bench = Bench::new();
    let old = id_of(bench.store("1.1", b"x", vec![of_kind(HoldKind::Rule, to("a"))]).await);
    flip(&bench, old);
    scrub(&bench).await;
    store_by(&bench, "mr1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    assert_eq!(held(&bench, HoldKind::Rule).await, 1);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_person_chose_for_one_sender_is_no_answer_to_anothers_failing_rule() {
    let mut bench = Bench::new();
    let failed = || vec![of_kind(HoldKind::Error, to("a"))];
    bench.store("1.1", b"x", failed()).await;
    let job = job_of(&bench, "ct1").await;
    bench
        .spool()
        .reroute_undecided(job, vec![to("a")], 8, "it")
        .await
        .unwrap();
    bench.confirm("a").await;
    let same = bench.store("1.1", b"x", failed()).await;
    assert!(matches!(same, Committed::Repeat(_)), "{same:?}");
    let other = store_by(&bench, "mr1", b"x", failed()).await;
    assert!(matches!(other, Committed::Stored(_)), "{other:?}");
    assert_eq!(held(&bench, HoldKind::Error).await, 1);
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, [0x0110]);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_new_decision_counts_on_no_job_of_its_own_instance_that_a_fail_over_may_take_elsewhere() {
    let mut bench = Bench::new();
    let third = of_kind(HoldKind::Rule, to("third"));
    bench.store("1.1", b"x", vec![group(), third]).await;
    let held = Filter {
        destination: Some(dest("third")),
        ..Filter::default()
    };
    let job = bench.spool().list(held, None, 9).await.unwrap().remove(0).job;
    let made = bench.spool().redecide(job, vec![to("a")], 8, "it").await.unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(take_over(&bench).await, [(dest("spare"), 1)]);
    bench.confirm("spare").await;
    bench.confirm("a").await;
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_reroute_of_what_has_no_destination_sends_nothing_to_where_a_copy_stands() {
    for standing in [of_kind(HoldKind::Rule, to("a")), group()] {
        let mut bench = Bench::new();
        store_by(&bench, "mr1", b"x", vec![standing]).await;
        bench.store("1.1", b"x", vec![of_kind(HoldKind::Error, to("a"))]).await;
        let job = job_of(&bench, "ct1").await;
        let made = bench.spool().reroute_undecided(job, vec![to("a")], 8, "it").await;
        assert_eq!(made.unwrap().len(), 1, "it stays without destination");
        assert_eq!(held(&bench, HoldKind::Error).await, 1);
        assert_eq!(problems(&mut bench), Vec::<String>::new());
    }
}

#[tokio::test]
async fn after_a_rebuild_a_copy_that_ended_as_a_repeat_puts_no_doubt_on_the_delivery_of_another() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![of_kind(HoldKind::Error, to("b"))]).await;
    store_by(&bench, "mr1", b"x", vec![to("b")]).await;
    bench.confirm("b").await;
    let job = job_of(&bench, "ct1").await;
    let made = bench.spool().redecide(job, vec![to("b")], 8, "it").await.unwrap();
    assert_eq!(made, []);
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, NONE);
    rebuilt(&mut bench).await;
    assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, one()).await, NONE);
    let again = bench.store("1.1", b"x", vec![to("b")]).await;
    assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}
