//! A wall clock that is wrong for a moment, and right again.
use super::super::db::Cf;
use super::super::late::{self, Late};
use super::super::prune;
use super::super::txn::{Txn, encode_number};
use super::*;
use crate::base::clock::built;
use crate::base::phi::Phi;

fn day(days: u32) -> Wall {
    built().plus(Duration::from_secs(86_400) * days)
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_for_a_moment_takes_nothing_that_is_kept_for_a_time() {
    let mut bench = Bench::new();
    bench.set_clock(day(10));
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    let alias = Alias {
        kind: "accession",
        sent: Phi::new("1".to_owned()),
        written: Phi::new("RA1".to_owned()),
    };
    let source = SourceId::parse("ct1").unwrap();
    bench
        .spool()
        .record_names(&source, 1, vec![alias], (id, Vec::new()))
        .await
        .unwrap();
    bench.set_clock(day(10 + 4 * 365));
    // The keeper of a box that has just started looks at once.
    bench.reopen_after(|_| {});
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let kept = bench.spool().aliases("accession", "RA1", false).await.unwrap();
    assert_eq!(kept.len(), 1);
    let (core, retention) = (bench.spool().core.clone(), bench.spool().retention_now());
    assert!(retention < day(11), "{}", retention.iso());
    assert!(prune::due(&core, bench.clock.now()).is_some());
    assert_eq!(prune::due(&core, retention), None);
    bench.set_clock(day(9));
    assert!(bench.spool().retention_now() <= day(9), "never ahead of the clock");
}

#[test]
fn one_reason_to_doubt_the_clock_is_enough() {
    let metrics = Metrics::new();
    let doubts = &metrics.alarms.clock_implausible;
    doubts.with_label_values(&["peers"]).set(0);
    assert!(!metrics.is_clock_doubted());
    doubts.with_label_values(&["jumped"]).set(1);
    assert!(metrics.is_clock_doubted());
}

#[tokio::test]
async fn the_time_of_retention_is_remembered_over_a_start_and_a_salvage() {
    let mut bench = Bench::new();
    bench.set_clock(day(10));
    bench.store("1.1", b"x", vec![to("a")]).await;
    let at = encode_number(day(5).0);
    let put = move |txn: &mut Txn<'_>| {
        txn.put(Cf::Meta, *b"retention", at);
        Ok(())
    };
    // The keeper has written its own by now, and writes no other for an hour.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    bench.spool().submit(put).await.unwrap();
    for salvage in [false, true] {
        bench.reopen_after(|root| {
            if salvage {
                std::fs::write(root.join("index/CURRENT"), "nonsense").unwrap();
            }
        });
        assert_eq!(bench.report.salvaged.is_some(), salvage);
        let at = bench.spool().retention_now();
        assert!(at >= day(5) && at < day(6), "salvage {salvage}: {}", at.iso());
    }
}

/// Lines of these words, written at a time.
async fn tell(bench: &Bench, at: Wall, words: &[&str]) {
    bench.set_clock(at);
    let fact = |word: &&str| Fact::new(FactKind::Resumed).text(*word);
    bench.spool().note(words.iter().map(fact).collect()).await.unwrap();
}

/// The words of a span, page by page.
async fn told(bench: &Bench, span: (Wall, Wall), page: usize) -> Vec<String> {
    let (mut words, mut place) = (Vec::new(), None);
    loop {
        let (facts, next) = bench.spool().facts_between(span, place, page).await.unwrap();
        assert!(facts.len() <= page && facts.iter().all(|fact| fact.at() >= span.0 && fact.at() < span.1));
        words.extend(facts.into_iter().map(|fact| fact.text));
        place = next;
        if place.is_none() {
            return words;
        }
    }
}

/// Lines 1 to 7: the third is written by a clock that is ahead, those that follow after it was set right.
async fn once_ahead() -> Bench {
    let bench = Bench::new();
    tell(&bench, day(10), &["a", "b"]).await;
    tell(&bench, day(400), &["ahead"]).await;
    tell(&bench, day(10).plus(Duration::from_secs(300)), &["c", "d"]).await;
    tell(&bench, day(11), &["e"]).await;
    tell(&bench, day(20), &["f"]).await;
    bench
}

#[tokio::test]
async fn lines_that_follow_a_clock_that_was_ahead_are_of_their_own_time() {
    let mut bench = once_ahead().await;
    bench.reopen_after(|_| {});
    tell(&bench, day(21), &["g"]).await;
    for page in [1, 2, 3, 99] {
        assert_eq!(told(&bench, (day(10), day(11)), page).await, ["a", "b", "c", "d"]);
        assert_eq!(told(&bench, (day(11), day(12)), page).await, ["e"]);
        assert_eq!(told(&bench, (day(12), day(20)), page).await, [""; 0]);
        assert_eq!(told(&bench, (day(20), day(99)), page).await, ["f", "g"]);
        assert_eq!(told(&bench, (day(400), day(401)), page).await, ["ahead"]);
    }
    let spool = bench.spool();
    let numbers = async |span, before, limit| {
        let page = spool.lines(span, before, Arc::new(|_| true), limit).await.unwrap();
        let numbers: Vec<u64> = page.lines.iter().map(|line| line.number).collect();
        (numbers, page.before)
    };
    assert_eq!(numbers((day(10), day(11)), None, 9).await, (vec![6, 5, 4, 2, 1], None));
    assert_eq!(numbers((day(10), day(11)), None, 3).await, (vec![6, 5, 4], Some(4)));
    assert_eq!(numbers((day(10), day(11)), Some(4), 3).await, (vec![2, 1], None));
    assert_eq!(numbers((day(21), day(500)), None, 9).await, (vec![8, 3], None));
    let sound = spool.verify_ledger().await.unwrap();
    assert!(sound.is_sound() && sound.lines == 8, "{sound:?}");
    // A build of before this is told the place in the chain by the word that it knows, and verifies by that.
    let facts = spool.facts(None, 99).await.unwrap();
    assert!(facts.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
    assert_eq!(facts[3].at_us, day(400).0);
    // When that time has come, it is as before.
    tell(&bench, day(401), &["h"]).await;
    assert_eq!(told(&bench, (day(400), day(402)), 9).await, ["ahead", "h"]);
}

#[tokio::test]
async fn a_ledger_that_was_begun_by_a_clock_that_was_ahead_begins_when_it_was_set_right() {
    let bench = Bench::new();
    tell(&bench, day(400), &["ahead"]).await;
    tell(&bench, day(10), &["a"]).await;
    assert_eq!(bench.spool().first_fact().await.unwrap(), Some(day(10)));
    bench.set_clock(day(401));
    assert_eq!(bench.spool().first_fact().await.unwrap(), Some(day(400)));
}

#[tokio::test]
async fn late_lines_are_found_after_a_salvage_and_their_entries_go_with_them() {
    let mut bench = once_ahead().await;
    bench.reopen_after(|root| std::fs::write(root.join("index/CURRENT"), "nonsense").unwrap());
    assert!(bench.report.salvaged.is_some());
    assert_eq!(told(&bench, (day(10), day(11)), 9).await, ["a", "b", "c", "d"]);
    let entries = async |bench: &Bench| {
        let count = bench.spool().read(|db| {
            let mut count = 0;
            late::between(db, Late::first_of(Wall(0)), Wall(u64::MAX), |_| {
                count += 1;
                true
            })?;
            Ok(count)
        });
        count.await.unwrap()
    };
    assert_eq!(entries(&bench).await, 5, "and that of the salvage");
    let upto = prune::due(&bench.spool().core, day(1_200)).unwrap();
    let announced = bench.spool().submit(move |txn| {
        prune::announce(txn, &upto);
        Ok(())
    });
    announced.await.unwrap();
    while bench.spool().submit(move |txn| prune::batch(txn, &upto)).await.unwrap() {}
    assert_eq!(entries(&bench).await, 1, "that of the pruning");
    assert_eq!(bench.spool().first_fact().await.unwrap(), Some(day(20)));
    assert!(bench.spool().verify_ledger().await.unwrap().is_sound());
}
