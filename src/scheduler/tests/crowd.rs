//! Many instances at once: how many associations, what goes first, and several in flight on one association.
use super::*;
use crate::dicom::association::Rejection;
use crate::sender::tests::archive::Door;

fn numbers(seen: &[Uid]) -> Vec<usize> {
    seen.iter()
        .map(|uid| uid.as_str().rsplit('.').next().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_instance_does_not_wait_for_a_batch() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|_, _| Act::After(Duration::from_millis(100), 0))).await;
    let mut uids = bench.put_many(0..12, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "associations = 1\n")]);
    until("the first is under way", || !archive.seen().begun.is_empty()).await;
    uids.insert(bench.put_as((100, Priority::Stat), CT, &["vna"], 2000).await);
    until_delivered(&archive, &uids).await;
    let order = numbers(&archive.seen().begun);
    let at = order.iter().position(|number| *number == 100).unwrap();
    // One may have begun while it was stored; the batch of eight has not gone before it.
    assert!(at <= 3, "{order:?}");
    let mut others: Vec<usize> = order.iter().copied().filter(|number| *number != 100).collect();
    others.dedup();
    assert_eq!(
        others,
        (0..12).collect::<Vec<_>>(),
        "what was given back goes in its order, and once"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_queue_opens_few_associations_and_a_long_one_as_many_as_it_may() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|_, _| Act::After(Duration::from_millis(30), 0))).await;
    bench.put_many(0..2, &["vna"]).await;
    let scheduler = bench.start(&[config("vna", archive.port, "associations = 6\n")]);
    until("two are there", || archive.seen().confirmed.len() == 2).await;
    assert_eq!(
        archive.seen().open_max,
        1,
        "two instances are no reason for a second association"
    );
    let mut uids = bench.put_many(10..210, &["vna"]).await;
    uids.extend([uid("1.2.3.0"), uid("1.2.3.1")]);
    until_delivered(&archive, &uids).await;
    let most = archive.seen().open_max;
    assert_eq!(most, 6, "an archive that answers each alike is asked by all");
    let gauge = bench.metrics.lane_associations_wanted.with_label_values(&["vna"]);
    until("nothing is wanted any more", || gauge.get() == 1).await;
    assert_eq!(scheduler.status()[0].wanted, 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_archive_negotiates_it_several_are_in_flight_and_each_is_confirmed_once() {
    let bench = Bench::new();
    let rules = Rules {
        window: 4,
        ..Rules::new(|_, _| Act::Answer(0))
    };
    let archive = Archive::start(rules).await;
    let uids = bench.put_many(0..60, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "associations = 1\nwindow = 8\n")]);
    until_delivered(&archive, &uids).await;
    until("all is recorded", || {
        bench.metrics.jobs_queued.with_label_values(&["vna", "routine"]).get() == 0
    })
    .await;
    let seen = archive.seen();
    assert_eq!((seen.begun.len(), seen.connections), (60, 1));
    assert_eq!(
        numbers(&seen.begun),
        (0..60).collect::<Vec<_>>(),
        "in the order of the queue"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_in_flight_only_the_one_that_breaks_sessions_is_held() {
    let bench = Bench::new();
    let rules = Rules {
        window: 8,
        ..Rules::new(|uid, _| match uid.as_str() {
            "1.2.3.7" => Act::Abort(100),
            _ => Act::Answer(0),
        })
    };
    let archive = Archive::start(rules).await;
    let mut uids = bench.put_many(0..30, &["vna"]).await;
    uids.remove(&uid("1.2.3.7"));
    let more = "associations = 2\nwindow = 8\ntries = 2\n";
    bench.start(&[config("vna", archive.port, more)]);
    until("the guilty one is held", || bench.held("vna", "refused") == 1).await;
    until_delivered(&archive, &uids).await;
    assert_eq!(bench.held("vna", "refused"), 1, "no other one was blamed");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_grants_one_association_gets_all_over_one() {
    for door in [Door::Reject(Rejection::LOCAL_LIMIT), Door::Abort] {
        let bench = Bench::new();
        let rules = Rules {
            most: (1, door),
            ..Rules::new(|_, _| Act::After(Duration::from_millis(20), 0))
        };
        let archive = Archive::start(rules).await;
        let uids = bench.put_many(0..60, &["vna"]).await;
        bench.start(&[config("vna", archive.port, "associations = 8\n")]);
        until_delivered(&archive, &uids).await;
        let seen = archive.seen();
        assert_eq!(seen.open_max, 1);
        assert!(seen.connections <= 3, "{} associations asked for", seen.connections);
        let failures = ["rejected_transient", "association"].map(|kind| bench.failures("vna", kind));
        assert_eq!(failures, [0, 0], "it was never down");
        bench.stop().await;
    }
}
