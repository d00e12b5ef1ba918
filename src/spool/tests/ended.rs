//! What is told of jobs that have ended.
use super::*;

async fn refuse(bench: &Bench) -> JobId {
    let lease = bench.claim_one("a").await.unwrap();
    let job = lease.job;
    let refusal = Settlement::Retry {
        due: START,
        outcome: "A900".to_owned(),
        counted: true,
    };
    bench.spool().settle(lease, refusal).await.unwrap();
    job
}

#[tokio::test]
async fn a_job_that_has_ended_says_how_often_it_was_tried_and_how_it_ended() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let delivered = refuse(&bench).await;
    assert_eq!(refuse(&bench).await, delivered);
    bench.confirm("a").await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    let discarded = refuse(&bench).await;
    let filter = Filter {
        jobs: vec![discarded.0],
        ..Filter::default()
    };
    let acted = bench.spool().act(filter, Verb::Discard, "it", "a phantom", false).await;
    assert_eq!(acted.unwrap().changed, 1);
    for round in 0..2 {
        let mut rows = bench.spool().ended(vec![delivered.0, discarded.0, 99]).await.unwrap();
        rows.sort_by_key(|row| row.job);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.job, row.state, row.attempts, row.discarded.as_deref()))
            .collect();
        let wanted = [
            (delivered, JobState::Delivered, 3, None),
            (discarded, JobState::Discarded, 1, Some("a phantom")),
        ];
        assert_eq!(told, wanted, "round {round}");
        let instances = |state| bench.metrics.spool_instances.with_label_values(&[state]).get();
        let counted = (instances("delivered"), instances("discarded"), instances("pending"));
        assert_eq!(counted, (1, 1, 0), "round {round}");
        bench.reopen_after(|_| {});
    }
    assert_eq!((bench.report.delivered, bench.report.discarded), (1, 1));
    assert_eq!(
        bench.spool().show(delivered).await.unwrap(),
        None,
        "it is not in the queue"
    );
    // They leave the counts as they came.
    bench.spool().submit(|txn| cache::evict(txn, 10)).await.unwrap();
    for state in ["delivered", "discarded", "pending"] {
        let instances = bench.metrics.spool_instances.with_label_values(&[state]);
        assert_eq!(instances.get(), 0, "{state}");
    }
    assert!(bench.spool().ended(vec![delivered.0]).await.unwrap().is_empty());
}
