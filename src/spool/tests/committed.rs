//! What waits for a destination's commitment, what sources ask, and what of it outlives what.
use super::super::commitment::{
    Accepted, Ask, Batch, Demand, Judgement, Level, Named, Outcome, Patience, Progress, Spoken, Told,
};
use super::super::{cache, commit};
use super::*;
use std::collections::BTreeSet;

/// No failure.
pub(super) const NONE: [u16; 0] = [];
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

pub(super) fn ask() -> Ask {
    Ask {
        quiet: Duration::from_secs(60),
        at_most: Duration::from_secs(600),
        batch: 1_000,
    }
}

pub(super) fn named(uid: &str) -> Named {
    Named {
        class: Uid::known(CT),
        instance: Uid::parse(uid).unwrap(),
    }
}

pub(super) fn spoken(transaction: &str, committed: &[&str], failed: &[&str]) -> Spoken {
    Spoken {
        transaction: Uid::parse(transaction).unwrap(),
        committed: committed.iter().map(|uid| named(uid)).collect(),
        failed: failed.iter().map(|uid| (named(uid), 0x0112)).collect(),
        speaks_for: vec![dest("a")],
        tries: 2,
        pause: Duration::from_secs(10),
    }
}

/// Sent to `a`, which commits, and asked for under the transaction.
pub(super) async fn asked(bench: &Bench, uids: &[&str], transaction: &str) -> u64 {
    bench.spool().commits(&dest("a"), true);
    for uid in uids {
        bench.store(uid, uid.as_bytes(), vec![to("a")]).await;
        bench.confirm("a").await;
    }
    bench.clock.advance(Duration::from_secs(61));
    let batch = bench
        .spool()
        .uncommitted(&dest("a"), ask(), BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(batch.jobs.len(), uids.len());
    let transaction = Uid::parse(transaction).unwrap();
    let (id, references) = bench.spool().ask(&dest("a"), transaction, batch.jobs).await.unwrap();
    assert_eq!(references, uids.iter().map(|uid| named(uid)).collect::<Vec<_>>());
    id
}

pub(super) fn done(committed: u64, again: u64, held: u64) -> Told {
    Told::Done {
        destination: dest("a"),
        committed,
        again,
        held,
    }
}

pub(super) async fn evict(bench: &Bench) -> usize {
    let queue = bench.spool().owner.queue().unwrap();
    let core = &bench.spool().core;
    let gone = commit::submit(core, &queue, move |txn| cache::evict(txn, 99))
        .answer()
        .await
        .unwrap();
    cache::unlink(core, &gone);
    gone.len()
}

pub(super) fn problems(bench: &mut Bench) -> Vec<String> {
    let problems = bench.fsck().problems;
    bench.reopen_after(|_| {});
    bench.spool().commits(&dest("a"), true);
    problems
}

/// What `a` is to be asked for next.
async fn ripe(bench: &Bench) -> Vec<JobId> {
    let batch = bench.spool().uncommitted(&dest("a"), ask(), BTreeSet::new()).await;
    batch.unwrap().jobs
}

#[tokio::test]
async fn a_study_is_asked_for_when_it_is_quiet_and_leaves_the_cache_when_committed() {
    let mut bench = Bench::new();
    bench.spool().commits(&dest("a"), true);
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    let batch = bench
        .spool()
        .uncommitted(&dest("a"), ask(), BTreeSet::new())
        .await
        .unwrap();
    assert!(batch.jobs.is_empty() && batch.later == Some(START.plus(Duration::from_secs(60))));
    bench.clock.advance(Duration::from_secs(40));
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.clock.advance(Duration::from_secs(40));
    let batch = bench
        .spool()
        .uncommitted(&dest("a"), ask(), BTreeSet::new())
        .await
        .unwrap();
    assert!(batch.jobs.is_empty(), "the study has grown");
    assert_eq!((evict(&bench).await, bench.spool().awaiting(&dest("a"))), (0, 1));
    bench.confirm("a").await;
    bench.clock.advance(Duration::from_secs(61));
    let batch = bench
        .spool()
        .uncommitted(&dest("a"), ask(), BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(batch.jobs.len(), 2);
    bench.spool().suspend(&dest("a"), "it", "").await.unwrap();
    let none = bench
        .spool()
        .uncommitted(&dest("a"), ask(), BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(none, Batch::default(), "a suspended destination is asked nothing");
    bench.spool().resume(&dest("a"), "it", "").await.unwrap();
    let transaction = Uid::known("2.25.1");
    bench.spool().ask(&dest("a"), transaction, batch.jobs).await.unwrap();
    assert_eq!(problems(&mut bench), Vec::<String>::new());
    assert_eq!(bench.report.awaiting, 2);
    assert!(bench.claim_one("a").await.is_none(), "it is not sent again");
    let told = bench
        .spool()
        .spoken(spoken("2.25.1", &["1.1", "1.2"], &[]))
        .await
        .unwrap();
    assert_eq!(told, done(2, 0, 0));
    let told = bench
        .spool()
        .spoken(spoken("2.25.1", &["1.1", "1.2"], &[]))
        .await
        .unwrap();
    assert_eq!(told, Told::Repeated);
    assert_eq!((evict(&bench).await, bench.spool().awaiting(&dest("a"))), (2, 0));
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_refused_or_left_out_goes_again_and_is_held_in_the_end() {
    let mut bench = Bench::new();
    asked(&bench, &["1.1", "1.2", "1.3"], "2.25.1").await;
    let told = bench
        .spool()
        .spoken(spoken("2.25.1", &["1.1"], &["1.2"]))
        .await
        .unwrap();
    assert_eq!(told, done(1, 2, 0));
    assert!(bench.claim_one("a").await.is_none(), "not before the pause");
    bench.clock.advance(Duration::from_secs(11));
    bench.confirm("a").await;
    bench.confirm("a").await;
    assert_eq!(problems(&mut bench), Vec::<String>::new());
    bench.clock.advance(Duration::from_secs(61));
    let jobs = ripe(&bench).await;
    bench.spool().ask(&dest("a"), Uid::known("2.25.2"), jobs).await.unwrap();
    let told = bench
        .spool()
        .spoken(spoken("2.25.2", &["1.3"], &["1.2"]))
        .await
        .unwrap();
    assert_eq!(told, done(1, 0, 1));
    let filter = Filter {
        kind: Some(HoldKind::NotCommitted),
        ..Filter::default()
    };
    let held = bench.spool().list(filter.clone(), None, 9).await.unwrap();
    assert!(held.len() == 1 && held[0].hold.as_ref().unwrap().text.contains("0112"));
    bench.spool().act(filter, Verb::Retry, "it", "", false).await.unwrap();
    bench.confirm("a").await;
    assert_eq!(bench.spool().awaiting(&dest("a")), 1);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_late_answer_counts_and_a_strangers_does_not() {
    let mut bench = Bench::new();
    let id = asked(&bench, &["1.1"], "2.25.1").await;
    let until = bench.clock.now().plus(Duration::from_secs(60));
    bench.spool().asked(id, Outcome::Accepted { until }).await.unwrap();
    assert_eq!(bench.spool().outstanding().await.unwrap()[0].until, Some(until));
    assert!(bench.spool().lapse(id).await.unwrap() && !bench.spool().lapse(id).await.unwrap());
    let jobs = ripe(&bench).await;
    assert_eq!(jobs.len(), 1, "it is asked for again");
    bench.spool().ask(&dest("a"), Uid::known("2.25.2"), jobs).await.unwrap();
    let stranger = Spoken {
        speaks_for: vec![dest("b")],
        ..spoken("2.25.1", &["1.1"], &[])
    };
    assert_eq!(bench.spool().spoken(stranger).await.unwrap(), Told::Unknown);
    let nobody = spoken("2.25.99", &["1.1"], &[]);
    assert_eq!(bench.spool().spoken(nobody).await.unwrap(), Told::Unknown);
    assert_eq!(bench.spool().awaiting(&dest("a")), 1);
    let wrong_class = Spoken {
        committed: vec![Named {
            class: Uid::known("1.2.3"),
            instance: Uid::known("1.1"),
        }],
        ..spoken("2.25.1", &[], &[])
    };
    assert_eq!(bench.spool().spoken(wrong_class).await.unwrap(), done(0, 1, 0));
    bench.clock.advance(Duration::from_secs(11));
    bench.confirm("a").await;
    // It was sent again since: what was asked about before says nothing of that.
    let told = bench.spool().spoken(spoken("2.25.2", &["1.1"], &[])).await.unwrap();
    assert_eq!(told, done(0, 0, 0));
    assert_eq!(bench.spool().awaiting(&dest("a")), 1);
    bench.clock.advance(Duration::from_secs(61));
    let jobs = ripe(&bench).await;
    let (id, _) = bench.spool().ask(&dest("a"), Uid::known("2.25.3"), jobs).await.unwrap();
    assert!(bench.spool().lapse(id).await.unwrap());
    let told = bench.spool().spoken(spoken("2.25.3", &["1.1"], &[])).await.unwrap();
    assert_eq!(told, done(1, 0, 0), "late, and about the last sending");
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn a_person_may_take_the_store_for_the_commitment() {
    let mut bench = Bench::new();
    asked(&bench, &["1.1", "1.2"], "2.25.1").await;
    let spool = bench.spool();
    assert_eq!(
        spool.take_as_committed(&dest("a"), "it", " ").await,
        Err(CommitError::Gone)
    );
    assert_eq!(spool.take_as_committed(&dest("a"), "it", "retired").await, Ok(2));
    let facts = spool.facts(None, 99).await.unwrap();
    let given_up = facts.iter().filter(|fact| fact.kind == FactKind::CommitmentGivenUp);
    assert_eq!(given_up.filter(|fact| fact.who.as_deref() == Some("it")).count(), 2);
    assert_eq!(evict(&bench).await, 2);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

pub(super) async fn demand(bench: &Bench, transaction: &str, level: Level, references: Vec<Named>) -> u64 {
    let demand = Demand {
        transaction: Uid::parse(transaction).unwrap(),
        source: SourceId::parse("ct1").unwrap(),
        calling: AeTitle::parse("CT1").unwrap(),
        called: AeTitle::parse("WAY").unwrap(),
        level,
        references,
    };
    match bench.spool().demand(demand).await.unwrap() {
        Accepted::Waiting(id) | Accepted::Duplicate(id) => id,
    }
}

pub(super) const IMPATIENT: Patience = Patience {
    no_more_arrivals: true,
    no_more_deliveries: true,
};

/// What the source is told, by the reasons of the failures.
pub(super) async fn told(bench: &Bench, transaction: &str, level: Level, references: Vec<Named>) -> Vec<u16> {
    let id = demand(bench, transaction, level, references).await;
    let judged = bench.spool().judge(id, 0, IMPATIENT).await.unwrap();
    assert!(matches!(judged, Judgement::Decided { .. }), "{judged:?}");
    let answer = bench.spool().demand_answer(id).await.unwrap().unwrap();
    bench.spool().demand_taken(id).await.unwrap();
    answer.failed.into_iter().map(|(_, reason)| reason).collect()
}

#[tokio::test]
async fn a_source_is_promised_what_is_proved_at_its_level() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    let id = demand(&bench, "2.25.1", Level::EndToEnd, vec![named("1.1"), named("1.2")]).await;
    let open = async |bench: &Bench, from| bench.spool().judge(id, from, Patience::default()).await.unwrap();
    assert_eq!(open(&bench, 0).await, Judgement::Open { at: 0, absent: false });
    assert_eq!(told(&bench, "2.25.2", Level::Edge, vec![named("1.1")]).await, NONE);
    bench.confirm("a").await;
    assert_eq!(
        open(&bench, 0).await,
        Judgement::Open { at: 0, absent: false },
        "b is missing"
    );
    assert_eq!(
        told(&bench, "2.25.3", Level::EndToEnd, vec![named("1.1")]).await,
        [0x0110]
    );
    bench.confirm("b").await;
    assert_eq!(open(&bench, 0).await, Judgement::Open { at: 1, absent: true });
    let decided = bench.spool().judge(id, 1, IMPATIENT).await.unwrap();
    assert_eq!(
        decided,
        Judgement::Decided {
            committed: 1,
            failed: 1
        }
    );
    bench.reopen_after(|_| {});
    let open = bench.spool().demands().await.unwrap();
    assert!(
        open.len() == 1 && matches!(open[0].progress, Progress::Decided(_)),
        "{open:?}"
    );
    let answer = bench.spool().demand_answer(id).await.unwrap().unwrap();
    assert_eq!(
        (answer.committed, answer.failed),
        (vec![named("1.1")], vec![(named("1.2"), 0x0112)])
    );
    bench.spool().demand_taken(id).await.unwrap();
    assert_eq!(bench.spool().demands().await.unwrap(), []);
    // In use, also when it is over.
    assert_eq!(told(&bench, "2.25.1", Level::Edge, vec![named("1.1")]).await, [0x0131]);
    let other = Named {
        class: Uid::known("1.2.840.10008.5.1.4.1.1.4"),
        ..named("1.1")
    };
    assert_eq!(told(&bench, "2.25.4", Level::Edge, vec![other.clone()]).await, [0x0119]);
    // Known beyond its eviction, at either level.
    assert_eq!(evict(&bench).await, 1);
    bench.clock.advance(Duration::from_secs(30 * 86_400));
    for level in [Level::Edge, Level::EndToEnd] {
        let transaction = format!("2.25.5{}", level as u8);
        assert_eq!(told(&bench, &transaction, level, vec![named("1.1")]).await, NONE);
    }
    assert_eq!(told(&bench, "2.25.6", Level::EndToEnd, vec![other]).await, [0x0119]);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn what_had_no_room_when_it_came_is_answered_so() {
    let bench = Bench::new();
    let source = SourceId::parse("ct1").unwrap();
    for (uid, status) in [("1.1", "A700"), ("1.2", "A900"), ("1.3", "cut"), ("1.4", "A700")] {
        bench.spool().refused(&source, None, Some(&Uid::known(uid)), status);
    }
    bench
        .spool()
        .refused(&SourceId::parse("mr1").unwrap(), None, Some(&Uid::known("1.5")), "A700");
    bench.store("1.4", b"later", vec![to("a")]).await;
    let list = ["1.1", "1.2", "1.3", "1.4", "1.5"].map(named).to_vec();
    let reasons = told(&bench, "2.25.1", Level::Edge, list).await;
    assert_eq!(reasons, [0x0213, 0x0112, 0x0112, 0x0112]);
}

#[tokio::test]
async fn a_discarded_delivery_is_none_until_it_is_made_anew() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.confirm("a").await;
    let all = Filter::default();
    bench
        .spool()
        .act(all, Verb::Discard, "it", "test", false)
        .await
        .unwrap();
    assert_eq!(
        told(&bench, "2.25.1", Level::EndToEnd, vec![named("1.1")]).await,
        [0x0110]
    );
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.confirm("b").await;
    assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, vec![named("1.1")]).await, NONE);
}

#[tokio::test]
async fn other_content_under_the_uid_must_be_settled_too() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.store("1.1", b"other", vec![to("a")]).await;
    assert_eq!(
        told(&bench, "2.25.1", Level::EndToEnd, vec![named("1.1")]).await,
        [0x0110]
    );
    assert_eq!(told(&bench, "2.25.2", Level::Edge, vec![named("1.1")]).await, NONE);
}

#[tokio::test]
async fn a_rebuild_keeps_what_sources_asked_and_never_takes_a_commitment_for_given() {
    let mut bench = Bench::new();
    asked(&bench, &["1.1"], "2.25.1").await;
    let id = demand(&bench, "2.25.7", Level::EndToEnd, vec![named("1.1")]).await;
    bench.spool.take().unwrap().close().await;
    rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!(fsck(bench.path(), true).unwrap().problems, Vec::<String>::new());
    bench.reopen_after(|_| {});
    bench.spool().commits(&dest("a"), true);
    // It is there, and not sent again; what was asked for it is asked again.
    assert_eq!(bench.spool().awaiting(&dest("a")), 1);
    assert!(bench.claim_one("a").await.is_none());
    let told = bench.spool().spoken(spoken("2.25.1", &["1.1"], &[])).await.unwrap();
    assert_eq!(told, Told::Unknown);
    assert_eq!(bench.spool().demands().await.unwrap()[0].id, id);
    let judged = bench.spool().judge(id, 0, Patience::default()).await.unwrap();
    assert_eq!(judged, Judgement::Open { at: 0, absent: false });
    let jobs = ripe(&bench).await;
    assert_eq!(jobs.len(), 1);
    bench.spool().ask(&dest("a"), Uid::known("2.25.2"), jobs).await.unwrap();
    bench.spool().spoken(spoken("2.25.2", &["1.1"], &[])).await.unwrap();
    let judged = bench.spool().judge(id, 0, Patience::default()).await.unwrap();
    assert_eq!(
        judged,
        Judgement::Decided {
            committed: 1,
            failed: 0
        }
    );
}

#[tokio::test]
async fn what_is_over_is_forgotten_in_time() {
    let mut bench = Bench::new();
    asked(&bench, &["1.1"], "2.25.1").await;
    bench.spool().spoken(spoken("2.25.1", &["1.1"], &[])).await.unwrap();
    assert_eq!(told(&bench, "2.25.2", Level::EndToEnd, vec![named("1.1")]).await, NONE);
    assert_eq!(evict(&bench).await, 1);
    bench.clock.advance(Duration::from_secs(100 * 86_400));
    let before = bench.clock.now();
    let (found, _) = super::super::commitment::FAMILY.old(&bench.spool().core, &[], before);
    assert_eq!(found.len(), 3, "a tombstone, a request, and a source's");
    let swept = move |txn: &mut super::super::txn::Txn<'_>| super::super::commitment::FAMILY.sweep(txn, found, before);
    bench.spool().submit(swept).await.unwrap();
    let (found, _) = super::super::commitment::FAMILY.old(&bench.spool().core, &[], before);
    assert!(found.is_empty());
    assert_eq!(
        told(&bench, "2.25.2", Level::Edge, vec![named("1.1")]).await,
        [0x0112],
        "its UID is still known, and not what became of it"
    );
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}
