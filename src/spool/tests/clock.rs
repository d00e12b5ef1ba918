//! A wall clock that is wrong for a moment, and right again.
use super::super::db::Cf;
use super::super::prune;
use super::super::txn::{Txn, encode_number};
use super::*;
use crate::base::clock::built;
use crate::base::phi::Phi;
use std::sync::atomic::Ordering;

fn day(days: u32) -> Wall {
    built().plus(Duration::from_secs(86_400) * days)
}

/// Sets the clock, forward or back.
fn set(bench: &Bench, wall: Wall) {
    match &bench.clock {
        Clock::Manual(at) => at.store(wall.0, Ordering::Relaxed),
        Clock::System => panic!("the bench has a clock of its own"),
    }
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_for_a_moment_takes_nothing_that_is_kept_for_a_time() {
    let mut bench = Bench::new();
    set(&bench, day(10));
    bench.store("1.1", b"x", vec![to("a")]).await;
    let alias = Alias {
        kind: "accession",
        sent: Phi::new("1".to_owned()),
        written: Phi::new("RA1".to_owned()),
    };
    let source = SourceId::parse("ct1").unwrap();
    bench.spool().record_aliases(&source, 1, vec![alias]).await.unwrap();
    set(&bench, day(10 + 4 * 365));
    // The keeper of a box that has just started looks at once.
    bench.reopen_after(|_| {});
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let kept = bench.spool().aliases("accession", "RA1", false).await.unwrap();
    assert_eq!(kept.len(), 1);
    let (core, retention) = (bench.spool().core.clone(), bench.spool().retention_now());
    assert!(retention < day(11), "{}", retention.iso());
    assert!(prune::due(&core, bench.clock.now()).is_some());
    assert_eq!(prune::due(&core, retention), None);
    set(&bench, day(9));
    assert_eq!(bench.spool().retention_now(), day(9), "never ahead of the clock");
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
    set(&bench, day(10));
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
