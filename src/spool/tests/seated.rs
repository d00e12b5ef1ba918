//! Who makes a batch: a thread in passing, or the commit thread.
use super::super::chair::{Door, submit_here};
use super::*;

fn door(bench: &Bench) -> Door {
    bench.spool().owner.door().unwrap()
}

/// How many batches there were, and of how many requests together.
fn batches(bench: &Bench) -> (u64, f64) {
    let metric = &bench.metrics.commit_batch_jobs;
    (metric.get_sample_count(), metric.get_sample_sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_in_passing_makes_the_batch_when_nobody_else_does() {
    let bench = Bench::new();
    let sealed = bench.sealed("1.1", b"x").await;
    let mut begun = bench.spool().begin_here(sealed, decision(vec![to("a")]));
    let answer = begun
        .answered
        .try_recv()
        .expect("it is durable when the call comes back");
    assert!(matches!(answer, Ok(Attempt::Done(Committed::Stored(_)))));
    bench.confirm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_somebody_commits_is_one_batch_of_the_commit_thread() {
    let bench = Bench::new();
    let (first, second) = (bench.sealed("1.1", b"x").await, bench.sealed("1.2", b"y").await);
    let (door, before) = (door(&bench), batches(&bench));
    let committer = door.chair.own();
    let mut first = bench.spool().begin_here(first, decision(vec![to("a")]));
    let mut second = bench.spool().begin_here(second, decision(vec![to("a")]));
    std::thread::sleep(Duration::from_millis(50));
    assert!(first.answered.try_recv().is_err() && second.answered.try_recv().is_err());
    drop(committer);
    for begun in [first, second] {
        let answer = begun.answer().await;
        assert!(matches!(answer, Ok(Attempt::Done(Committed::Stored(_)))));
    }
    // Counted when all are answered.
    for _ in 0..200 {
        if batches(&bench).0 > before.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(batches(&bench), (before.0 + 1, before.1 + 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_in_passing_goes_before_what_waits() {
    let bench = Bench::new();
    let (waiting, passing) = (bench.sealed("1.1", b"x").await, bench.sealed("1.2", b"y").await);
    let door = door(&bench);
    let committer = door.chair.own();
    let waiting = bench.spool().begin(waiting, decision(vec![to("a")]));
    // Until the commit thread has it in hand and waits for the committer.
    while door.queue.capacity() < door.queue.max_capacity() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20));
    let racing = {
        let spool = bench.spool().clone();
        std::thread::spawn(move || spool.begin_here(passing, decision(vec![to("a")])))
    };
    let mut passing = racing.join().unwrap();
    assert!(passing.answered.try_recv().is_err(), "it queues behind it");
    drop(committer);
    assert!(waiting.answer().await.is_ok() && passing.answer().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_passing_fails_the_spool() {
    let bench = Bench::new();
    let sealed = bench.sealed("1.1", b"x").await;
    let (core, door) = (bench.spool().core.clone(), door(&bench));
    let passing = std::thread::spawn(move || {
        let work = |_: &mut txn::Txn<'_>| -> Result<(), CommitError> { panic!("on purpose") };
        drop(submit_here(&core, &door, work));
    });
    assert!(passing.join().is_err());
    assert!(bench.spool().health().failed);
    let refused = bench.spool().begin_here(sealed, decision(vec![to("a")]));
    assert!(matches!(refused.answer().await, Err(CommitError::GateLatched)));
}
