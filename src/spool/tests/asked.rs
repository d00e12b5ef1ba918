//! What a destination is asked for when, what of it is on the ledger, and what a late answer is worth.
use super::super::commitment::{Outcome, Study, Told};
use super::committed::{ask, asked, done, problems, spoken};
use super::*;
use std::collections::BTreeSet;

async fn next(bench: &Bench, but: &[Study]) -> (Option<Study>, Vec<crate::base::names::JobId>, Option<Wall>) {
    let but: BTreeSet<Study> = but.iter().copied().collect();
    let batch = bench.spool().uncommitted(&dest("a"), ask(), but).await.unwrap();
    (batch.study, batch.jobs, batch.later)
}

async fn store_of(bench: &Bench, uid: &str, study: &str) {
    let study = Uid::parse(study).unwrap();
    let mut incoming = bench.spool().arrive(arriving(uid)).await.unwrap();
    incoming.decided(Some(study.clone()), 7);
    incoming.write(Bytes::from_static(b"x")).await.unwrap();
    let sealed = incoming.seal().await.unwrap();
    let commit = Commit {
        study: Some(study),
        ..decision(vec![to("a")])
    };
    bench.spool().commit(sealed, commit).await.unwrap();
    bench.confirm("a").await;
}

#[tokio::test]
async fn a_study_that_is_passed_over_keeps_no_other_waiting() {
    let bench = Bench::new();
    bench.spool().commits(&dest("a"), true);
    store_of(&bench, "1.1", "1.2.1").await;
    store_of(&bench, "1.2", "1.2.2").await;
    bench.clock.advance(Duration::from_secs(61));
    let (first, jobs, _) = next(&bench, &[]).await;
    let (second, others, _) = next(&bench, &[first.unwrap()]).await;
    assert!(jobs.len() == 1 && others.len() == 1 && jobs != others);
    let all = [first.unwrap(), second.unwrap()];
    assert_eq!(next(&bench, &all).await, (None, Vec::new(), None));
}

#[tokio::test]
async fn an_answer_about_an_earlier_sending_says_nothing_of_a_later_one_however_the_request_ended() {
    for by_outcome in [false, true] {
        let mut bench = Bench::new();
        let id = asked(&bench, &["1.1"], "2.25.1").await;
        let until = bench.clock.now().plus(Duration::from_secs(60));
        bench.spool().asked(id, Outcome::Accepted { until }).await.unwrap();
        let all = Filter::default();
        let again = bench.spool().act(all, Verb::Retry, "it", "", false).await.unwrap();
        assert_eq!(again.changed, 1);
        bench.clock.advance(Duration::from_secs(1));
        bench.confirm("a").await;
        bench.clock.advance(Duration::from_secs(1));
        if by_outcome {
            bench.spool().asked(id, Outcome::Failed).await.unwrap();
        } else {
            assert!(bench.spool().lapse(id).await.unwrap());
        }
        let late = bench.spool().spoken(spoken("2.25.1", &["1.1"], &[])).await.unwrap();
        assert_eq!(late, done(0, 0, 0));
        assert_eq!(bench.spool().awaiting(&dest("a")), 1);
        let late = bench.spool().spoken(spoken("2.25.1", &[], &["1.1"])).await.unwrap();
        assert_eq!(late, Told::Repeated);
        bench.clock.advance(Duration::from_secs(61));
        let (_, jobs, _) = next(&bench, &[]).await;
        let transaction = Uid::known("2.25.2");
        bench.spool().ask(&dest("a"), transaction, jobs).await.unwrap();
        let told = bench.spool().spoken(spoken("2.25.2", &["1.1"], &[])).await.unwrap();
        assert_eq!(told, done(1, 0, 0));
        assert_eq!(problems(&mut bench), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_has_written_is_asked_for_when_it_is_put_right() {
    let mut bench = Bench::new();
    bench.clock.advance(Duration::from_secs(86_400));
    bench.spool().commits(&dest("a"), true);
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.clock = Clock::manual(START);
    bench.reopen_after(|_| {});
    bench.spool().commits(&dest("a"), true);
    let (_, jobs, _) = next(&bench, &[]).await;
    assert_eq!(jobs.len(), 1, "not a day later");
    bench.spool().ask(&dest("a"), Uid::known("2.25.1"), jobs).await.unwrap();
    // What is sent from now on waits for its study as ever.
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.confirm("a").await;
    let (_, jobs, later) = next(&bench, &[]).await;
    assert_eq!((jobs.len(), later), (0, Some(START.plus(Duration::from_secs(60)))));
}

#[tokio::test]
async fn a_request_that_is_refused_again_and_again_is_on_the_ledger_once() {
    let mut bench = Bench::new();
    let mut id = asked(&bench, &["1.1"], "2.25.1").await;
    let count = async |bench: &Bench, kind: FactKind| {
        let facts = bench.spool().facts(None, 999).await.unwrap();
        facts.iter().filter(|fact| fact.kind == kind).count()
    };
    let both = async |bench: &Bench| {
        (
            count(bench, FactKind::CommitmentAsked).await,
            count(bench, FactKind::CommitmentRefused).await,
        )
    };
    for n in 2..6 {
        bench.spool().asked(id, Outcome::Failed).await.unwrap();
        assert_eq!(both(&bench).await, (1, 1), "{n}");
        let (_, jobs, _) = next(&bench, &[]).await;
        let transaction = Uid::parse(&format!("2.25.{n}")).unwrap();
        id = bench.spool().ask(&dest("a"), transaction, jobs).await.unwrap().0;
    }
    let until = bench.clock.now().plus(Duration::from_secs(60));
    bench.spool().asked(id, Outcome::Accepted { until }).await.unwrap();
    assert_eq!(both(&bench).await, (2, 1), "the one that is taken");
    assert!(bench.spool().lapse(id).await.unwrap());
    assert_eq!(both(&bench).await, (2, 2), "not answered");
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_about_an_earlier_sending_is_not_believed_when_the_clock_was_put_back_between_them() {
    let mut bench = Bench::new();
    bench.clock.advance(Duration::from_secs(86_400));
    let id = asked(&bench, &["1.1"], "2.25.1").await;
    bench.clock = Clock::manual(START);
    bench.reopen_after(|_| {});
    bench.spool().commits(&dest("a"), true);
    let all = Filter::default();
    bench.spool().act(all, Verb::Retry, "it", "", false).await.unwrap();
    bench.confirm("a").await;
    assert!(bench.spool().lapse(id).await.unwrap());
    let late = bench.spool().spoken(spoken("2.25.1", &["1.1"], &[])).await.unwrap();
    assert_eq!((late, bench.spool().awaiting(&dest("a"))), (done(0, 0, 0), 1));
}
