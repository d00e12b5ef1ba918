//! What a person ordered of a job, and what comes of it when the image comes again, is decided anew, or moves.
use super::*;

async fn act(bench: &Bench, filter: Filter, verb: Verb) -> Acted {
    bench.spool().act(filter, verb, "it", "test", false).await.unwrap()
}

fn at(name: &str) -> Filter {
    Filter {
        destination: Some(dest(name)),
        ..Filter::default()
    }
}

fn held(kind: HoldKind, name: &str) -> NewJob {
    NewJob {
        hold: Some(HoldReason::new(kind, "why")),
        ..to(name)
    }
}

fn undecided(kind: HoldKind) -> NewJob {
    NewJob {
        destination: None,
        ..held(kind, "a")
    }
}

async fn rows(bench: &Bench) -> Vec<Row> {
    bench.spool().list(Filter::default(), None, 99).await.unwrap()
}

/// The kinds of what is held at a destination, with their texts.
async fn holds(bench: &Bench, name: &str) -> Vec<(HoldKind, String)> {
    let rows = bench.spool().list(at(name), None, 99).await.unwrap();
    let holds = rows.into_iter().filter_map(|row| row.hold);
    holds.map(|hold| (hold.kind, hold.text)).collect()
}

/// The payload of an instance rots, and a worker of the destination finds it.
async fn rot(bench: &Bench, id: InstanceId, name: &str) {
    let path = payload::path_of(bench.path(), id);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let lease = bench.claim_one(name).await.unwrap();
    let reason = HoldReason::new(HoldKind::Corrupt, "digest");
    bench.spool().settle(lease, Settlement::Hold { reason }).await.unwrap();
}

#[tokio::test]
async fn a_reroute_frees_what_the_former_destination_held_and_nothing_else() {
    for kind in HoldKind::ALL {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![held(kind, "old")]).await;
        let acted = act(&bench, at("old"), Verb::Reroute(dest("new"))).await;
        let freed = matches!(
            kind,
            HoldKind::Refused | HoldKind::Parked | HoldKind::NotCommitted | HoldKind::Conversion
        );
        assert_eq!((acted.matched, acted.changed), (1, 1), "{kind:?}");
        assert_eq!(acted.held, u64::from(!freed), "{kind:?}");
        assert_eq!(bench.claim_one("new").await.is_some(), freed, "{kind:?}");
        let expected = (!freed).then(|| (kind, "why".to_owned()));
        assert_eq!(holds(&bench, "new").await, Vec::from_iter(expected));
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
        bench.reopen_after(|_| {});
        // What no destination was decided for goes where a person says; what was meant for the image stays held.
        bench.store("1.2", b"y", vec![undecided(kind)]).await;
        let one = Filter {
            undecided: true,
            ..Filter::default()
        };
        act(&bench, one, Verb::Reroute(dest("chosen"))).await;
        let failed = matches!(
            kind,
            HoldKind::Error | HoldKind::Budget | HoldKind::NoDestination | HoldKind::Edit | HoldKind::Recovered
        );
        assert_eq!(bench.claim_one("chosen").await.is_some(), freed || failed, "{kind:?}");
    }
}

#[tokio::test]
async fn two_contents_of_a_uid_never_leave_together_by_a_reroute() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("old")]).await;
    bench.store("1.1", b"y", vec![to("old")]).await;
    let acted = act(&bench, at("old"), Verb::Reroute(dest("vna"))).await;
    assert_eq!((acted.changed, acted.held), (2, 1));
    assert_eq!(holds(&bench, "vna").await[0].0, HoldKind::Conflict);
    bench.confirm("vna").await;
    // Let go by a person for one destination, and moved to where the other one was delivered.
    let conflict = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    act(&bench, conflict.clone(), Verb::Reroute(dest("b"))).await;
    act(&bench, conflict.clone(), Verb::Release).await;
    let acted = act(&bench, at("b"), Verb::Reroute(dest("vna"))).await;
    assert_eq!((acted.changed, acted.held), (1, 1));
    assert!(bench.claim_one("vna").await.is_none());
    // A person who names it may let it go.
    act(&bench, conflict, Verb::Release).await;
    assert_eq!(
        bench.claim_one("vna").await.unwrap().instance.sop_instance.as_str(),
        "1.1"
    );
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn two_contents_of_a_uid_never_leave_together_by_a_new_decision() {
    for second_first in [false, true] {
        let bench = Bench::new();
        for content in [b"x", b"y"] {
            bench.store("1.1", content, vec![undecided(HoldKind::Error)]).await;
        }
        let mut jobs: Vec<JobId> = rows(&bench).await.iter().map(|row| row.job).collect();
        if second_first {
            jobs.reverse();
        }
        for job in jobs {
            bench.spool().redecide(job, vec![to("a")], 8, "it").await.unwrap();
        }
        assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 1);
        assert_eq!(holds(&bench, "a").await[0].0, HoldKind::Conflict);
    }
}

#[tokio::test]
async fn a_content_that_waits_as_conflict_holds_back_nothing_of_the_first() {
    let bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    bench.store("1.1", b"y", vec![to("a"), to("b")]).await;
    rot(&bench, id, "a").await;
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    assert_eq!(
        bench.claim_one("a").await.unwrap().instance.digest,
        *blake3::hash(b"x").as_bytes()
    );
    assert_eq!(
        bench.spool().claim(&dest("b"), 9).await.len(),
        1,
        "the first, and new there"
    );
}

#[tokio::test]
async fn what_is_incomplete_and_a_conflict_is_held_as_incomplete_and_then_as_conflict() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.1", b"y", vec![held(HoldKind::Incomplete, "a")]).await;
    let (kind, text) = holds(&bench, "a").await.remove(0);
    assert_eq!(kind, HoldKind::Incomplete);
    assert!(text.starts_with("why") && text.contains("conflict: same SOP"), "{text}");
    let job = rows(&bench).await.iter().find(|row| row.hold.is_some()).unwrap().job;
    bench.spool().redecide(job, vec![to("a")], 8, "it").await.unwrap();
    assert_eq!(holds(&bench, "a").await[0].0, HoldKind::Conflict);
    // A rule's hold is told beside it; the kind is that of the conflict.
    bench.store("1.1", b"z", vec![held(HoldKind::Rule, "a")]).await;
    let (kind, text) = holds(&bench, "a").await.remove(1);
    assert!(
        kind == HoldKind::Conflict && text.ends_with("held besides as rule: why"),
        "{text}"
    );
}

#[tokio::test]
async fn a_new_decision_brings_back_nothing_that_a_person_discarded_or_rerouted_away() {
    for (verbs, others) in [
        (vec![("a", Verb::Discard)], 0),
        (vec![("a", Verb::Reroute(dest("c")))], 1),
        (
            vec![("a", Verb::Reroute(dest("c"))), ("c", Verb::Reroute(dest("d")))],
            1,
        ),
        (vec![("a", Verb::Reroute(dest("c"))), ("c", Verb::Discard)], 0),
    ] {
        let mut bench = Bench::new();
        let jobs = vec![held(HoldKind::Incomplete, "a"), held(HoldKind::Incomplete, "b")];
        bench.store("1.1", b"x", jobs).await;
        for (name, verb) in &verbs {
            assert_eq!(act(&bench, at(name), verb.clone()).await.changed, 1);
        }
        let of_b = bench.spool().list(at("b"), None, 9).await.unwrap().remove(0).job;
        bench
            .spool()
            .redecide(of_b, vec![to("a"), to("b")], 8, "it")
            .await
            .unwrap();
        assert!(bench.claim_one("a").await.is_none(), "{verbs:?}");
        bench.confirm("b").await;
        assert_eq!(rows(&bench).await.len(), others, "{verbs:?}");
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_a_new_decision_has_nowhere_to_send_is_held_and_not_lost() {
    let bench = Bench::new();
    let jobs = vec![held(HoldKind::Rule, "a"), held(HoldKind::Rule, "b")];
    let instance = id_of(bench.store("1.1", b"x", jobs).await);
    act(&bench, at("a"), Verb::Discard).await;
    act(&bench, at("b"), Verb::Reroute(dest("c"))).await;
    let job = rows(&bench).await.remove(0).job;
    let found = bench.spool().show(job).await.unwrap().unwrap().instance.unwrap();
    assert!(bench.spool().was_rerouted(job, found).await.unwrap());
    // Its rules name only what a person would not have.
    bench
        .spool()
        .redecide(job, vec![to("a"), to("b")], 8, "it")
        .await
        .unwrap();
    let row = rows(&bench).await.remove(0);
    let hold = row.hold.unwrap();
    assert_eq!((row.destination, hold.kind), (None, HoldKind::NoDestination));
    assert!(hold.text.contains("a person"), "{}", hold.text);
    // Where he sends it in the end, it goes, also where he had not wanted it before.
    act(&bench, Filter::default(), Verb::Reroute(dest("a"))).await;
    assert_eq!(bench.claim_one("a").await.unwrap().instance.id, instance);
}

#[tokio::test]
async fn a_resend_goes_nowhere_that_a_person_rerouted_it_away_from() {
    for damaged in [None, Some("a"), Some("c")] {
        let mut bench = Bench::new();
        let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
        if damaged == Some("a") {
            rot(&bench, id, "a").await;
        }
        act(&bench, at("a"), Verb::Reroute(dest("c"))).await;
        if damaged == Some("c") {
            rot(&bench, id, "c").await;
        }
        for _ in 0..2 {
            bench.store("1.1", b"x", vec![to("a")]).await;
        }
        assert!(bench.claim_one("a").await.is_none(), "{damaged:?}");
        bench.confirm("c").await;
        bench.reopen_after(|_| {});
        assert!(matches!(
            bench.store("1.1", b"x", vec![to("a")]).await,
            Committed::Repeat(_)
        ));
        assert_eq!(rows(&bench).await.len(), 0, "{damaged:?}");
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_resend_of_what_was_rerouted_and_discarded_is_delivered() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    act(&bench, at("a"), Verb::Reroute(dest("c"))).await;
    act(&bench, at("c"), Verb::Discard).await;
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 1);
    assert_eq!(bench.spool().claim(&dest("b"), 9).await.len(), 1);
    // And when nothing else of it was left.
    bench.store("1.2", b"y", vec![to("a")]).await;
    act(
        &bench,
        Filter {
            sop_instance: Some(Uid::known("1.2")),
            ..at("a")
        },
        Verb::Reroute(dest("d")),
    )
    .await;
    act(&bench, at("d"), Verb::Discard).await;
    assert!(matches!(
        bench.store("1.2", b"y", vec![to("a")]).await,
        Committed::Stored(_)
    ));
}

#[tokio::test]
async fn a_reroute_sends_nothing_twice() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.confirm("b").await;
    let acted = act(&bench, at("a"), Verb::Reroute(dest("b"))).await;
    assert_eq!((acted.matched, acted.changed), (1, 0));
    assert!(bench.claim_one("b").await.is_none());
    // The same content, by another instance of it.
    bench.store("1.2", b"y", vec![to("c")]).await;
    bench.store("1.2", b"y", vec![to("d")]).await;
    assert_eq!(act(&bench, at("c"), Verb::Reroute(dest("d"))).await.changed, 0);
    // Moved back, it goes where it came from.
    act(&bench, at("c"), Verb::Reroute(dest("e"))).await;
    assert_eq!(act(&bench, at("e"), Verb::Reroute(dest("c"))).await.changed, 1);
    assert!(bench.claim_one("c").await.is_some());
}

/// What no rule had sent anywhere is sent by a person: what was meant for the image holds it there too, and it stays there.
#[tokio::test]
async fn a_reroute_of_what_has_no_destination_frees_only_that() {
    for kind in HoldKind::ALL {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![undecided(kind)]).await;
        let job = rows(&bench).await.remove(0).job;
        let made = bench
            .spool()
            .reroute_undecided(job, vec![to("a")], 8, "it")
            .await
            .unwrap();
        let freed = matches!(
            kind,
            HoldKind::Refused
                | HoldKind::Parked
                | HoldKind::NotCommitted
                | HoldKind::Conversion
                | HoldKind::Error
                | HoldKind::Budget
                | HoldKind::NoDestination
                | HoldKind::Edit
                | HoldKind::Recovered
        );
        assert_eq!(bench.claim_one("a").await.is_some(), freed, "{kind:?}");
        let row = rows(&bench).await.remove(0);
        assert_eq!((row.job, row.destination), (made[0], Some(dest("a"))), "{kind:?}");
        let instance = row.instance.unwrap();
        assert!(bench.spool().was_rerouted(row.job, instance).await.unwrap());
        if !freed {
            assert_eq!(holds(&bench, "a").await, [(kind, "why".to_owned())]);
            act(&bench, at("a"), Verb::Release).await;
            assert!(bench.claim_one("a").await.is_some(), "{kind:?}");
        }
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_reroute_of_what_has_no_destination_goes_where_it_was_not_wanted_before_and_nowhere_twice() {
    let bench = Bench::new();
    bench
        .store("1.1", b"x", vec![to("a"), undecided(HoldKind::Operator)])
        .await;
    act(&bench, at("a"), Verb::Discard).await;
    let job = rows(&bench).await.remove(0).job;
    let made = bench.spool().reroute_undecided(job, vec![to("a")], 8, "it").await;
    assert_eq!((made.unwrap().len(), holds(&bench, "a").await.len()), (1, 1));
    // Where its content goes already it is not sent again; the hold stays.
    bench
        .store("1.2", b"y", vec![to("b"), undecided(HoldKind::Operator)])
        .await;
    let undecided = Filter {
        undecided: true,
        ..Filter::default()
    };
    let job = bench
        .spool()
        .list(undecided.clone(), None, 9)
        .await
        .unwrap()
        .remove(0)
        .job;
    bench
        .spool()
        .reroute_undecided(job, vec![to("b")], 8, "it")
        .await
        .unwrap();
    let left = bench.spool().list(undecided, None, 9).await.unwrap().remove(0);
    assert_eq!(left.hold.unwrap().kind, HoldKind::Operator);
    assert_eq!(bench.spool().claim(&dest("b"), 9).await.len(), 1);
}

#[tokio::test]
async fn a_resend_of_what_was_rerouted_healed_and_discarded_is_delivered() {
    let bench = Bench::new();
    let jobs = || vec![to("a"), to("c")];
    let id = id_of(bench.store("1.1", b"x", jobs()).await);
    bench.confirm("c").await;
    act(&bench, at("a"), Verb::Reroute(dest("b"))).await;
    rot(&bench, id, "b").await;
    assert!(matches!(bench.store("1.1", b"x", jobs()).await, Committed::Stored(_)));
    assert!(bench.claim_one("a").await.is_none(), "healed where it was rerouted to");
    act(&bench, at("b"), Verb::Discard).await;
    bench.store("1.1", b"x", jobs()).await;
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 1);
}

#[tokio::test]
async fn the_second_content_of_a_uid_does_not_overtake_the_first_because_it_is_incomplete_too() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![undecided(HoldKind::Error)]).await;
    bench.store("1.1", b"y", vec![held(HoldKind::Incomplete, "a")]).await;
    let mut all = rows(&bench).await;
    all.sort_by_key(|row| row.job);
    for row in all {
        bench.spool().redecide(row.job, vec![to("a")], 8, "it").await.unwrap();
    }
    let sent = bench.spool().claim(&dest("a"), 9).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].instance.digest, *blake3::hash(b"x").as_bytes());
    assert_eq!(holds(&bench, "a").await[0].0, HoldKind::Conflict);
}

/// A content came twice, the second time for one destination more; the payload of the first is gone, and comes back or is sent again.
#[tokio::test]
async fn of_two_instances_of_a_content_the_damaged_one_is_healed() {
    for resent in [false, true] {
        let mut bench = Bench::new();
        let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
        bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
        let path = payload::path_of(bench.path(), id);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        super::scrubbed::scrub(&bench).await;
        assert_eq!(bench.metrics.spool_damaged.get(), 1);
        assert!(bench.claim_one("a").await.is_none());
        if resent {
            bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
        } else {
            std::fs::write(&path, bytes).unwrap();
            super::scrubbed::scrub(&bench).await;
        }
        assert_eq!(bench.metrics.spool_damaged.get(), 0, "resent {resent}");
        bench.confirm("a").await;
        bench.confirm("b").await;
        assert_eq!(rows(&bench).await.len(), 0, "resent {resent}");
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
    }
}

/// A job that a person rerouted is decided anew by rules that name only where it went already and where he would not have it.
#[tokio::test]
async fn what_a_persons_word_leaves_nothing_of_is_held_also_beside_other_deliveries() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.confirm("b").await;
    act(&bench, at("a"), Verb::Reroute(dest("c"))).await;
    act(&bench, at("c"), Verb::Hold).await;
    let job = rows(&bench).await.remove(0).job;
    bench
        .spool()
        .redecide(job, vec![to("a"), to("b")], 8, "it")
        .await
        .unwrap();
    let row = rows(&bench).await.remove(0);
    assert_eq!(
        (row.destination, row.hold.unwrap().kind),
        (None, HoldKind::NoDestination)
    );
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}
