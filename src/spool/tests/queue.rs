//! What lanes and operators see.
use super::*;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn what_was_stored_comes_back_bit_for_bit() {
    let bench = Bench::new();
    for size in [0_usize, 1, 262_144, 262_145, 1_000_000] {
        let content: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        let id = id_of(bench.store(&format!("1.{size}"), &content, vec![to("vna")]).await);
        assert_eq!(read_all(bench.spool(), id).await.unwrap(), content);
        let payload = bench.spool().payload(&id).await.unwrap();
        assert_eq!(payload.length(), size as u64);
        assert_eq!(payload.digest(), *blake3::hash(&content).as_bytes());
        assert!(
            size == 0 || payload.verify() == Err(ReadError::Corrupt),
            "not read is not verified"
        );
        let tail = payload.read_at(size as u64 - u64::from(size > 0), 10).await.unwrap();
        assert_eq!(tail.len(), usize::from(size > 0));
        let file = std::fs::read(payload::path_of(bench.path(), id)).unwrap();
        assert_eq!(&file[128..132], b"DICM");
        assert_eq!(&file[usize::try_from(payload.data_set_offset()).unwrap()..], content);
    }
}

#[tokio::test]
async fn a_lease_is_exclusive_and_comes_back_when_dropped() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("vna")]).await;
    let lease = bench.claim_one("vna").await.unwrap();
    assert_eq!((lease.attempts, &lease.plan[..]), (0, &[1, 2, 3][..]));
    assert_eq!(lease.instance.sop_instance.as_str(), "1.1");
    assert_eq!(lease.instance.rule_epoch, 7);
    assert!(bench.claim_one("vna").await.is_none());
    assert_eq!(bench.spool().next_due(&dest("vna")).await, None);
    drop(lease);
    assert_eq!(bench.spool().next_due(&dest("vna")).await, Some(START));
    bench.confirm("vna").await;
    assert!(bench.claim_one("vna").await.is_none());
}

#[tokio::test]
async fn claims_come_by_class_then_due_then_id_and_the_waiting_age() {
    let bench = Bench::new();
    let classes = [
        Priority::Low,
        Priority::Routine,
        Priority::Stat,
        Priority::High,
        Priority::Routine,
    ];
    for (n, class) in classes.into_iter().enumerate() {
        bench
            .store(&format!("1.{n}"), &[n as u8], vec![with(class, "vna")])
            .await;
    }
    let order = |leases: &[Lease]| leases.iter().map(|l| l.job.0).collect::<Vec<_>>();
    let leases = bench.spool().claim(&dest("vna"), 9).await;
    assert_eq!(order(&leases), vec![3, 4, 2, 5, 1]);
    drop(leases);
    // Two steps later the old low one counts as high, and goes before a fresh high one, never before stat.
    bench.clock.advance(Duration::from_secs(3_600));
    let fresh = NewJob {
        due: bench.clock.now(),
        ..with(Priority::High, "vna")
    };
    bench.store("1.8", b"h", vec![fresh]).await;
    let fresh = NewJob {
        due: bench.clock.now(),
        ..with(Priority::Stat, "vna")
    };
    bench.store("1.9", b"s", vec![fresh]).await;
    let leases = bench.spool().claim(&dest("vna"), 9).await;
    assert_eq!(order(&leases), vec![3, 7, 1, 2, 4, 5, 6]);
}

#[tokio::test]
async fn a_retry_waits_until_it_is_due_and_counts_only_when_told() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("vna")]).await;
    for (counted, attempts) in [(false, 0), (true, 1)] {
        let due = bench.clock.now().plus(Duration::from_secs(60));
        let lease = bench.claim_one("vna").await.unwrap();
        let settlement = Settlement::Retry {
            due,
            outcome: "A700".into(),
            counted,
        };
        bench.spool().settle(lease, settlement).await.unwrap();
        assert!(bench.claim_one("vna").await.is_none());
        assert_eq!(bench.spool().next_due(&dest("vna")).await, Some(due));
        bench.clock.advance(Duration::from_secs(60));
        let lease = bench.claim_one("vna").await.unwrap();
        assert_eq!(lease.attempts, attempts);
    }
}

#[tokio::test]
async fn a_due_time_of_a_wrong_clock_delays_nothing() {
    let bench = Bench::new();
    let year = Duration::from_secs(365 * 86_400);
    let far = NewJob {
        due: START.plus(10 * year),
        ..to("vna")
    };
    bench
        .store("1.1", b"written when the clock was ten years ahead", vec![far])
        .await;
    assert_eq!(bench.spool().next_due(&dest("vna")).await, Some(START));
    let lease = bench.claim_one("vna").await.unwrap();
    assert!(bench.claim_one("vna").await.is_none(), "leased once only");
    let retry = |due| Settlement::Retry {
        due,
        outcome: "archive down".to_owned(),
        counted: false,
    };
    // The longest delay that anybody configures is waited for all the same.
    let due = START.plus(Duration::from_secs(24 * 3_600));
    bench.spool().settle(lease, retry(due)).await.unwrap();
    assert!(bench.claim_one("vna").await.is_none());
    assert_eq!(bench.spool().next_due(&dest("vna")).await, Some(due));
    // Nobody waits for the hours that a clock was put back by, once the lane has said how long its own pauses are.
    let minutes = Duration::from_secs(600);
    bench.spool().puts_off(&dest("vna"), minutes);
    assert_eq!(bench.spool().next_due(&dest("vna")).await, Some(START));
    let lease = bench.claim_one("vna").await.unwrap();
    bench.spool().settle(lease, retry(START.plus(minutes))).await.unwrap();
    assert!(bench.claim_one("vna").await.is_none(), "its own pause is waited for");
    bench.clock.advance(minutes);
    bench.confirm("vna").await;
}

#[tokio::test]
async fn destinations_do_not_touch_each_other() {
    let bench = Bench::new();
    for n in 0..5 {
        bench.store(&format!("1.{n}"), &[n], vec![to("a"), to("b")]).await;
    }
    let held_up = bench.spool().claim(&dest("a"), 5).await;
    assert_eq!(held_up.len(), 5);
    for _ in 0..5 {
        bench.confirm("b").await;
    }
    let pending = bench.metrics.spool_instances.with_label_values(&["pending"]);
    assert_eq!(pending.get(), 5);
    for lease in held_up {
        bench.spool().settle(lease, confirmed()).await.unwrap();
    }
    assert_eq!(pending.get(), 0);
    let text = bench.metrics.text();
    assert!(
        text.contains("waystation_spool_instances{state=\"delivered\"} 5"),
        "{text}"
    );
    assert!(
        text.contains("waystation_jobs_queued{destination=\"a\",priority=\"routine\"} 0"),
        "{text}"
    );
    assert!(
        text.contains("waystation_jobs_in_flight{destination=\"a\"} 0"),
        "{text}"
    );
}

#[tokio::test]
async fn a_commit_wakes_the_lane() {
    let bench = Bench::new();
    let wake = bench.spool().wake(&dest("vna"));
    bench.store("1.1", b"x", vec![to("vna")]).await;
    tokio::time::timeout(Duration::from_secs(5), wake.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_suspended_destination_gives_nothing_also_after_a_restart() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("vna")]).await;
    bench.spool().suspend(&dest("vna"), "it", "maintenance").await.unwrap();
    assert!(bench.claim_one("vna").await.is_none());
    assert_eq!(bench.spool().next_due(&dest("vna")).await, None);
    bench.reopen_after(|_| {});
    assert!(bench.spool().is_suspended(&dest("vna")));
    assert!(bench.claim_one("vna").await.is_none());
    bench.spool().resume(&dest("vna"), "it", "done").await.unwrap();
    assert!(bench.claim_one("vna").await.is_some());
}

fn all() -> Filter {
    Filter::default()
}

#[tokio::test]
async fn verbs_change_what_they_match_and_stand_on_the_ledger() {
    let bench = Bench::new();
    for n in 0..4 {
        bench.store(&format!("1.{n}"), &[n], vec![to("vna")]).await;
    }
    let spool = bench.spool();
    let lease = bench.claim_one("vna").await.unwrap();
    let acted = spool.act(all(), Verb::Hold, "it", "stop", true).await.unwrap();
    assert_eq!((acted.matched, acted.changed), (4, 0));
    let acted = spool.act(all(), Verb::Hold, "it", "stop", false).await.unwrap();
    assert_eq!((acted.matched, acted.changed), (4, 3), "the one in flight stays");
    let held = Filter {
        kind: Some(HoldKind::Operator),
        ..all()
    };
    assert_eq!(spool.count(held.clone()).await.unwrap(), 3);
    let inflight = Filter {
        state: Some(JobState::Inflight),
        ..all()
    };
    assert_eq!(spool.list(inflight, None, 9).await.unwrap()[0].job, lease.job);
    drop(lease);
    bench.confirm("vna").await;
    assert!(bench.claim_one("vna").await.is_none());
    let two = Filter {
        jobs: vec![2, 3],
        ..all()
    };
    assert_eq!(
        spool.act(two, Verb::Release, "it", "go", false).await.unwrap().changed,
        2
    );
    let moved = spool.act(held, Verb::Reroute(dest("other")), "it", "", false);
    let moved = moved.await.unwrap();
    assert_eq!((moved.changed, moved.held), (1, 1), "still held");
    spool.act(all(), Verb::Release, "it", "go", false).await.unwrap();
    assert_eq!(spool.claim(&dest("vna"), 9).await.len(), 2);
    assert_eq!(spool.claim(&dest("other"), 9).await.len(), 1);
    let kinds: Vec<FactKind> = spool.facts(None, 100).await.unwrap().iter().map(|f| f.kind).collect();
    for (kind, count) in [(FactKind::Held, 4), (FactKind::Released, 3), (FactKind::Rerouted, 1)] {
        assert_eq!(kinds.iter().filter(|k| **k == kind).count(), count, "{kind:?}");
    }
    let done = Filter {
        state: Some(JobState::Delivered),
        ..all()
    };
    assert_eq!(spool.list(done, None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_discard_needs_a_reason_and_frees_the_instance() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    let spool = bench.spool();
    assert_eq!(
        spool.act(all(), Verb::Discard, "it", " ", false).await,
        Err(CommitError::Gone)
    );
    assert_eq!(spool.count(all()).await.unwrap(), 2);
    let a = Filter {
        destination: Some(dest("a")),
        ..all()
    };
    assert_eq!(
        spool
            .act(a, Verb::Discard, "it", "test image", false)
            .await
            .unwrap()
            .changed,
        1
    );
    let instances = |state| bench.metrics.spool_instances.with_label_values(&[state]).get();
    assert_eq!((instances("pending"), instances("discarded")), (1, 0));
    bench.confirm("b").await;
    assert_eq!((instances("discarded"), instances("delivered")), (1, 0));
    let facts = spool.facts(None, 9).await.unwrap();
    let fact = facts.iter().find(|f| f.kind == FactKind::Discarded).unwrap();
    assert_eq!((fact.who.as_deref(), &*fact.text), (Some("it"), "test image"));
    // It is not called delivered, and says why.
    let of = |state| Filter {
        state: Some(state),
        ..all()
    };
    let listed = spool.list(of(JobState::Delivered), None, 9).await.unwrap();
    let to_b = |row: &Row| row.destination == Some(dest("b")) && row.discarded.is_none();
    assert!(listed.len() == 1 && to_b(&listed[0]), "{listed:?}");
    let listed = spool.list(of(JobState::Discarded), None, 9).await.unwrap();
    let to_a = |row: &Row| row.destination == Some(dest("a")) && row.discarded.as_deref() == Some("test image");
    assert!(listed.len() == 1 && to_a(&listed[0]), "{listed:?}");
    // Counting needs no reason.
    bench.store("1.2", b"y", vec![to("a")]).await;
    let counted = spool.act(all(), Verb::Discard, "it", "", true).await.unwrap();
    assert_eq!((counted.matched, counted.changed), (1, 0));
    assert_eq!(spool.count(all()).await.unwrap(), 1);
}

#[tokio::test]
async fn listings_page_and_filter() {
    let bench = Bench::new();
    for n in 0..25 {
        let hold = (n % 5 == 0).then(|| HoldReason::new(HoldKind::Rule, "look"));
        let jobs = vec![NewJob {
            hold,
            ..to(if n % 2 == 0 { "a" } else { "b" })
        }];
        bench.store(&format!("1.{n}"), &[n], jobs).await;
    }
    let spool = bench.spool();
    let of = |destination: &str| Filter {
        destination: Some(dest(destination)),
        ..all()
    };
    let study = |uid: &'static str| Filter {
        study: Some(Uid::known(uid)),
        ..all()
    };
    let held = Filter {
        state: Some(JobState::Held),
        ..all()
    };
    let queued = Filter {
        state: Some(JobState::Queued),
        ..of("b")
    };
    let one = Filter {
        sop_instance: Some(Uid::known("1.7")),
        ..all()
    };
    let old = Filter {
        older_than: Some(Duration::from_secs(1)),
        ..all()
    };
    for (filter, expected) in [
        (all(), 25),
        (of("a"), 13),
        (held, 5),
        (queued, 10),
        (one, 1),
        (study("1.2.9"), 25),
        (study("1.2.8"), 0),
        (old, 0),
        (of("nowhere"), 0),
    ] {
        let (mut seen, mut after) = (std::collections::BTreeSet::new(), None);
        loop {
            let page = spool.list(filter.clone(), after.clone(), 4).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.cursor.clone());
            for row in page {
                assert!(seen.insert(row.job), "no row twice");
            }
        }
        assert_eq!(seen.len(), expected, "{filter:?}");
        assert_eq!(spool.count(filter).await.unwrap(), expected as u64);
    }
    let row = spool.show(JobId(1)).await.unwrap().unwrap();
    assert_eq!(row.hold.unwrap().text, "look");
    assert!(spool.show(JobId(99)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_undecided_instance_is_held_until_it_is_decided_or_rerouted() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![]).await;
    bench.store("1.2", b"y", vec![]).await;
    let spool = bench.spool();
    let undecided = spool.undecided(HoldKind::NoDestination, 9).await.unwrap();
    assert_eq!(undecided.len(), 2);
    assert_eq!(
        bench.metrics.rule_failures.with_label_values(&["no_destination"]).get(),
        2
    );
    assert_eq!(
        spool.act(all(), Verb::Release, "it", "", false).await.unwrap().changed,
        0
    );
    let jobs = vec![to("a"), to("b")];
    assert_eq!(
        spool
            .redecide(undecided[0].0, jobs.clone(), 8, "rules")
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        spool.redecide(undecided[0].0, jobs, 8, "rules").await,
        Err(CommitError::Gone)
    );
    assert_eq!(bench.claim_one("a").await.unwrap().instance.rule_epoch, 8);
    let rest = Filter {
        undecided: true,
        ..all()
    };
    assert_eq!(
        spool
            .act(rest, Verb::Reroute(dest("c")), "it", "", false)
            .await
            .unwrap()
            .changed,
        1
    );
    assert_eq!(
        bench.claim_one("c").await.unwrap().instance.sop_instance.as_str(),
        "1.2"
    );
    assert_eq!(
        bench.metrics.rule_failures.with_label_values(&["no_destination"]).get(),
        0
    );
}

#[tokio::test]
async fn a_new_decision_leaves_out_what_is_confirmed_or_open() {
    let bench = Bench::new();
    let hold = Some(HoldReason::new(HoldKind::Error, "rule failed"));
    bench
        .store("1.1", b"x", vec![to("a"), to("b"), NewJob { hold, ..to("c") }])
        .await;
    bench.confirm("a").await;
    let added = bench
        .spool()
        .redecide(JobId(3), vec![to("a"), to("b"), to("c")], 8, "it")
        .await
        .unwrap();
    assert_eq!(added.len(), 1);
    assert!(bench.claim_one("a").await.is_none());
    assert_eq!(bench.spool().claim(&dest("b"), 9).await.len(), 1);
    assert_eq!(bench.spool().claim(&dest("c"), 9).await.len(), 1);
}

#[tokio::test]
async fn every_way_in_which_rules_fail_raises_the_alarm_and_holds_on_purpose_do_not() {
    let bench = Bench::new();
    for (at, kind) in HoldKind::ALL.into_iter().enumerate() {
        let job = NewJob {
            hold: Some(HoldReason::new(kind, "why")),
            ..to("a")
        };
        bench.store(&format!("1.{at}"), b"x", vec![job]).await;
        let alarm = matches!(
            kind,
            HoldKind::Error | HoldKind::Budget | HoldKind::NoDestination | HoldKind::Edit
        );
        let raised = bench.metrics.rule_failures.with_label_values(&[kind.word()]).get();
        assert_eq!(raised, i64::from(alarm), "{kind:?}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_back_years_freezes_no_retry() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    let Clock::Manual(clock) = &bench.clock else {
        panic!("a clock of ours")
    };
    let put_off = |lease| {
        let due = bench.clock.now().plus(Duration::from_secs(3_600));
        let outcome = "A700".into();
        let retry = Settlement::Retry {
            due,
            outcome,
            counted: false,
        };
        bench.spool().settle(lease, retry)
    };
    // The first is put off while the clock is years ahead; then the clock is right again.
    clock.store(START.0 + 10 * 365 * 86_400 * 1_000_000, Ordering::Relaxed);
    put_off(bench.claim_one("a").await.unwrap()).await.unwrap();
    clock.store(START.0, Ordering::Relaxed);
    assert_eq!(bench.spool().next_due(&dest("a")).await, Some(START));
    let due = bench.spool().claim(&dest("a"), 9).await;
    let uids: Vec<&str> = due.iter().map(|lease| lease.instance.sop_instance.as_str()).collect();
    assert_eq!(uids, ["1.2", "1.1"], "both are due, in order");
    for lease in due {
        put_off(lease).await.unwrap();
    }
    assert!(bench.claim_one("a").await.is_none());
    let next = bench.spool().next_due(&dest("a")).await;
    assert_eq!(next, Some(START.plus(Duration::from_secs(3_600))));
}

#[tokio::test]
async fn jobs_of_a_destination_that_is_gone_are_told() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("gone"), to("a")]).await;
    bench.store("1.2", b"y", vec![to("gone"), to("b")]).await;
    bench.confirm("b").await;
    bench.reopen_after(|_| {});
    let held = Filter {
        sop_instance: Some(Uid::known("1.2")),
        ..all()
    };
    bench.spool().act(held, Verb::Hold, "it", "", false).await.unwrap();
    let waiting = Waiting {
        queued: 1,
        held: 1,
        awaiting: 0,
    };
    assert_eq!(bench.spool().strangers(&[dest("a")]), [(dest("gone"), waiting)]);
    assert!(bench.spool().strangers(&[dest("a"), dest("gone")]).is_empty());
}
