//! What is promised to a source of a payload that is not what arrived: nothing, and at once.
use super::super::commitment::{Judgement, Level, Patience, judging};
use super::committed::{IMPATIENT, NONE, demand, evict, named, told};
use super::scrubbed::{flip, held, scrub};
use super::*;
use std::fs;

fn file(bench: &Bench, id: InstanceId) -> std::path::PathBuf {
    payload::path_of(bench.path(), id)
}

#[tokio::test]
async fn edge_is_promised_only_of_what_was_read_and_is_what_arrived() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for n in 1..=6 {
        let content = format!("content {n}");
        ids.push(id_of(
            bench.store(&format!("1.{n}"), content.as_bytes(), vec![to("a")]).await,
        ));
    }
    let all: Vec<_> = (1..=6).map(|n| named(&format!("1.{n}"))).collect();
    assert_eq!(told(&bench, "2.25.1", Level::Edge, all.clone()).await, NONE);
    flip(&bench, ids[0]);
    fs::remove_file(file(&bench, ids[1])).unwrap();
    let cut = fs::OpenOptions::new().write(true).open(file(&bench, ids[2])).unwrap();
    cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();
    let (one, other, aside) = (file(&bench, ids[3]), file(&bench, ids[4]), bench.path().join("aside"));
    fs::rename(&one, &aside).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(&aside, &other).unwrap();
    // By what is known of the fresh, and without.
    for transaction in ["2.25.2", "2.25.3"] {
        let id = demand(&bench, transaction, Level::Edge, all.clone()).await;
        let judged = bench.spool().judge(id, 0, Patience::default()).await.unwrap();
        assert_eq!(
            judged,
            Judgement::Decided {
                committed: 1,
                failed: 5
            }
        );
        let answer = bench.spool().demand_answer(id).await.unwrap().unwrap();
        assert_eq!(answer.committed, [named("1.6")]);
        assert!(answer.failed.iter().all(|(_, reason)| *reason == 0x0110), "{answer:?}");
        if transaction == "2.25.2" {
            assert_eq!(bench.metrics.spool_damaged.get(), 5, "as the scrub marks it");
            assert_eq!(held(&bench, HoldKind::Corrupt).await, 5);
            let aside = bench.metrics.quarantined_total.with_label_values(&["payload"]);
            assert_eq!(aside.get(), 5);
            bench.reopen_after(|_| {});
        }
    }
    // The same bytes again heal, and are promised.
    bench.store("1.1", b"content 1", vec![to("a")]).await;
    assert_eq!(told(&bench, "2.25.4", Level::Edge, vec![named("1.1")]).await, NONE);
}

#[tokio::test]
async fn a_flipped_bit_is_found_after_a_restart_too() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", &vec![7; 2_000_000], vec![to("a"), to("b")]).await);
    bench.confirm("b").await;
    flip(&bench, id);
    bench.reopen_after(|_| {});
    assert_eq!(told(&bench, "2.25.1", Level::Edge, vec![named("1.1")]).await, [0x0110]);
    assert!(bench.claim_one("a").await.is_none(), "held");
}

#[tokio::test]
async fn what_every_destination_has_is_promised_whatever_became_of_the_file_here() {
    let bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    bench.confirm("a").await;
    flip(&bench, id);
    assert_eq!(told(&bench, "2.25.1", Level::Edge, vec![named("1.1")]).await, NONE);
    assert_eq!(bench.metrics.spool_damaged.get(), 0);
    assert_eq!(evict(&bench).await, 1);
    assert_eq!(told(&bench, "2.25.2", Level::Edge, vec![named("1.1")]).await, NONE);
}

#[tokio::test]
async fn damage_is_said_at_once_and_not_when_the_wait_for_deliveries_is_over() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    let id = id_of(bench.store("1.2", b"y", vec![to("a"), to("b")]).await);
    flip(&bench, id);
    scrub(&bench).await;
    let list = vec![named("1.1"), named("1.2")];
    let request = demand(&bench, "2.25.1", Level::EndToEnd, list).await;
    let judged = bench.spool().judge(request, 0, Patience::default()).await.unwrap();
    assert_eq!(
        judged,
        Judgement::Decided {
            committed: 1,
            failed: 1
        }
    );
    let answer = bench.spool().demand_answer(request).await.unwrap().unwrap();
    assert_eq!(answer.failed, [(named("1.2"), 0x0110)]);
}

#[tokio::test]
async fn a_few_are_read_at_once_and_arrivals_do_not_wait_for_them() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let request = demand(&bench, "2.25.1", Level::Edge, vec![named("1.1")]).await;
    let places = u32::try_from(judging::READS).unwrap();
    let busy = bench.spool().core.verifying.acquire_many(places).await.unwrap();
    let judging = bench.spool().judge(request, 0, IMPATIENT);
    let waited = tokio::time::timeout(Duration::from_millis(200), judging).await;
    assert!(waited.is_err(), "it waits for a place: {waited:?}");
    bench.store("1.2", b"y", vec![to("a")]).await;
    drop(busy);
    let judged = bench.spool().judge(request, 0, IMPATIENT).await.unwrap();
    assert_eq!(
        judged,
        Judgement::Decided {
            committed: 1,
            failed: 0
        }
    );
}
