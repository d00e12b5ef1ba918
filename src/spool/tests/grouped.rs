//! Small objects of one study keep together, and urgent jobs press.
use super::*;

/// Stores small objects `from..to` of a study, in this order.
async fn study(bench: &Bench, study: &'static str, numbers: std::ops::Range<usize>, length: usize) {
    for number in numbers {
        let mut incoming = bench
            .spool()
            .arrive(arriving(&format!("{study}.7.{number}")))
            .await
            .unwrap();
        incoming.decided(Some(Uid::known(study)), 7);
        incoming.write(Bytes::from(vec![1; length])).await.unwrap();
        let sealed = incoming.seal().await.unwrap();
        let commit = Commit {
            study: Some(Uid::known(study)),
            ..decision(vec![to("a")])
        };
        bench.spool().commit(sealed, commit).await.unwrap();
    }
}

async fn claim(bench: &Bench, max: usize, worker: usize) -> Vec<Lease> {
    bench.spool().claim_for(&dest("a"), max, Some(worker)).await
}

fn names(leases: &[Lease]) -> Vec<String> {
    let name = |lease: &Lease| lease.instance.sop_instance.as_str().to_owned();
    leases.iter().map(name).collect()
}

#[tokio::test]
async fn small_objects_of_a_study_go_to_one_worker_in_order() {
    let bench = Bench::new();
    study(&bench, "1.2.1", 0..20, 100).await;
    study(&bench, "1.2.2", 0..5, 100).await;
    let first = claim(&bench, 2, 0).await;
    let expected: Vec<String> = (0..20).map(|n| format!("1.2.1.7.{n}")).collect();
    assert_eq!(names(&first), expected, "all of the study, in order");
    let second = claim(&bench, 2, 1).await;
    assert_eq!(
        names(&second),
        (0..5).map(|n| format!("1.2.2.7.{n}")).collect::<Vec<_>>()
    );
    study(&bench, "1.2.1", 20..22, 100).await;
    study(&bench, "1.2.3", 0..1, 100).await;
    assert_eq!(
        names(&claim(&bench, 2, 1).await),
        ["1.2.3.7.0"],
        "another worker's study is passed over"
    );
    assert_eq!(
        names(&claim(&bench, 1, 0).await),
        ["1.2.1.7.20"],
        "its own worker goes on with it"
    );
    drop(first);
    assert_eq!(
        names(&claim(&bench, 1, 1).await),
        ["1.2.1.7.0"],
        "what nobody has in hand is free"
    );
}

#[tokio::test]
async fn large_objects_spread_and_a_giant_study_does_too() {
    let bench = Bench::new();
    study(&bench, "1.2.1", 0..4, 100_000).await;
    let (first, second) = (claim(&bench, 2, 0).await, claim(&bench, 2, 1).await);
    assert_eq!((first.len(), second.len()), (2, 2));
    study(&bench, "1.2.2", 0..320, 10).await;
    let first = claim(&bench, 2, 0).await;
    assert_eq!(first.len(), 32);
    assert!(
        !claim(&bench, 2, 1).await.is_empty(),
        "more than 256 of one study: order gives way"
    );
    // Without a worker nothing is grouped.
    assert_eq!(bench.spool().claim(&dest("a"), 3).await.len(), 3);
}

#[tokio::test]
async fn an_urgent_arrival_overtakes_what_was_claimed_and_has_not_begun() {
    let bench = Bench::new();
    for number in 0..4 {
        bench.store(&format!("1.2.3.{number}"), b"x", vec![to("a")]).await;
    }
    let routine = claim(&bench, 2, 0).await;
    let overtaken = |leases: &[Lease]| {
        leases
            .iter()
            .filter(|lease| lease.is_overtaken(bench.clock.now()))
            .count()
    };
    assert_eq!(overtaken(&routine), 0, "nothing of a higher class waits");
    bench.store("1.2.3.9", b"x", vec![with(Priority::Stat, "a")]).await;
    assert_eq!(overtaken(&routine), routine.len());
    let stat = claim(&bench, 1, 1).await;
    assert_eq!(names(&stat), ["1.2.3.9"]);
    assert_eq!(overtaken(&stat), 0);
    assert_eq!(overtaken(&routine), 0, "it is in hand now");
    let later = NewJob {
        due: START.plus(Duration::from_secs(60)),
        ..with(Priority::Stat, "a")
    };
    bench.store("1.2.3.10", b"x", vec![later]).await;
    assert_eq!(overtaken(&routine), 0, "it may not go yet");
    assert!(!bench.spool().has_urgent(&dest("a")));
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(overtaken(&routine), routine.len(), "now it may");
    assert!(bench.spool().has_urgent(&dest("a")));
    let stat = claim(&bench, 1, 1).await;
    assert_eq!((names(&stat), overtaken(&routine)), (vec!["1.2.3.10".to_owned()], 0));
    assert!(!bench.spool().has_urgent(&dest("a")));
}

/// Many may be due at one moment; what was delivered of them is not walked over again with each claim.
#[tokio::test]
async fn a_claim_begins_behind_what_was_delivered_at_the_same_due_time() {
    let bench = Bench::new();
    for n in 0..6 {
        bench.store(&format!("1.{n}"), &[n], vec![to("vna")]).await;
    }
    let begins = || bench.spool().core.lanes.get(&dest("vna")).unwrap().lock().cursors[Priority::Routine as usize];
    for _ in 0..3 {
        bench.confirm("vna").await;
    }
    let first = bench.claim_one("vna").await.unwrap();
    assert_eq!((first.job, begins()), (JobId(4), (START, JobId(4))));
    // One that comes to be due at that moment, with an older number or a newer one, is found all the same.
    bench
        .spool()
        .core
        .lanes
        .get(&dest("vna"))
        .unwrap()
        .queued(Priority::Routine, START, START);
    assert_eq!(begins(), (START, JobId(0)));
    let rest = bench.spool().claim(&dest("vna"), 9).await;
    assert_eq!(
        rest.iter().map(|lease| lease.job).collect::<Vec<_>>(),
        [JobId(5), JobId(6)]
    );
}
