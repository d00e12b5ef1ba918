//! The ledger read back, page by page.
use super::super::db::{Cf, Change, Db};
use super::super::{keys, recover};
use super::*;
use crate::spool::{Fact, FactKind, Lines, Noted, WantedLines};

/// Lines 1 to 40, four at each minute: every fourth is of another kind.
async fn told() -> Bench {
    let bench = Bench::new();
    for minute in 0..10 {
        let fact = |n: u64| {
            let kind = if n == 3 { FactKind::Refused } else { FactKind::Suspended };
            Fact::new(kind).text(format!("{}", minute * 4 + n + 1))
        };
        bench.spool().note((0..4).map(fact).collect()).await.unwrap();
        bench.clock.advance(Duration::from_secs(60));
    }
    bench
}

fn all() -> WantedLines {
    Arc::new(|_| true)
}

fn refused() -> WantedLines {
    Arc::new(|fact| fact.kind == FactKind::Refused)
}

const ALWAYS: (Wall, Wall) = (Wall(0), Wall(u64::MAX));

fn numbers(page: &Lines) -> Vec<u64> {
    assert!(page.lines.iter().all(|line| line.fact.text == line.number.to_string()));
    page.lines.iter().map(|line| line.number).collect()
}

#[tokio::test]
async fn the_last_lines_come_first_and_pages_follow_each_other_without_a_gap() {
    let bench = told().await;
    let (mut seen, mut before) = (Vec::new(), None);
    for _ in 0..6 {
        let page = bench.spool().lines(ALWAYS, before, all(), 7).await.unwrap();
        seen.extend(numbers(&page));
        before = page.before;
    }
    assert_eq!(seen, (1..=40).rev().collect::<Vec<u64>>());
    assert_eq!(before, None);
    // Within the lines of one moment as well, and before a line that is not there.
    for (before, first) in [
        (1, None),
        (2, Some(1)),
        (23, Some(22)),
        (24, Some(23)),
        (41, Some(40)),
        (99, Some(40)),
    ] {
        let page = bench.spool().lines(ALWAYS, Some(before), all(), 1).await.unwrap();
        assert_eq!(page.lines.first().map(|line| line.number), first, "before {before}");
    }
}

#[tokio::test]
async fn only_what_is_wanted_is_answered_and_only_of_its_time() {
    let bench = told().await;
    let page = bench.spool().lines(ALWAYS, None, refused(), 3).await.unwrap();
    assert_eq!((numbers(&page), page.before), (vec![40, 36, 32], Some(32)));
    let minute = |n: u64| START.plus(Duration::from_secs(60 * n));
    let page = bench
        .spool()
        .lines((minute(2), minute(3)), None, all(), 99)
        .await
        .unwrap();
    assert_eq!(
        numbers(&page),
        (9..=16).rev().collect::<Vec<u64>>(),
        "both ends belong to it"
    );
    let page = bench
        .spool()
        .lines((minute(2), minute(3)), Some(11), refused(), 99)
        .await
        .unwrap();
    assert_eq!((numbers(&page), page.before), (Vec::new(), None));
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_named() {
    let mut bench = told().await;
    bench.reopen_after(|root| {
        let db = Db::open(&recover::index_path(root), false).unwrap();
        let mut sixth = None;
        db.scan(Cf::Ledger, &[], &[], |key, _| {
            sixth = Some(key.to_vec());
            keys::ledger_of(key).is_none_or(|(_, number)| number < 6)
        })
        .unwrap();
        let change: Change = (Cf::Ledger, sixth.unwrap(), Some(b"?".to_vec()));
        db.write(std::iter::once(change)).unwrap();
    });
    let page = bench.spool().lines(ALWAYS, Some(8), all(), 99).await.unwrap();
    assert_eq!(
        (numbers(&page), page.unreadable.as_slice()),
        (vec![7, 5, 4, 3, 2, 1], &[6][..])
    );
}

/// The ledger as it is now: the number of its last line, and its hash.
async fn end(bench: &Bench) -> (u64, String) {
    bench.spool().ledger_end().await.unwrap()
}

async fn noted(bench: &Bench, (number, hash): &(u64, String)) -> Noted {
    bench.spool().noted(*number, hash.clone()).await.unwrap()
}

#[tokio::test]
async fn a_line_that_was_noted_elsewhere_is_found_or_it_is_said_what_stands_there() {
    let mut bench = Bench::new();
    let empty = end(&bench).await;
    assert_eq!((empty.0, noted(&bench, &empty).await), (0, Noted::Here));
    let fact = |text: &str| vec![Fact::new(FactKind::Suspended).text(text)];
    bench.spool().note(fact("a")).await.unwrap();
    let first = end(&bench).await;
    for text in ["b", "c"] {
        bench.spool().note(fact(text)).await.unwrap();
    }
    let third = end(&bench).await;
    assert_eq!(third.0, 3);
    for line in [&empty, &first, &third] {
        assert_eq!(noted(&bench, line).await, Noted::Here);
    }
    assert_eq!(noted(&bench, &(4, third.1.clone())).await, Noted::Ends(3));
    assert_eq!(noted(&bench, &(2, third.1.clone())).await, Noted::Another);
    // A salvage without the index: the witness knows up to where there were lines, and the chain goes on behind them.
    bench.reopen_after(|root| std::fs::remove_dir_all(root.join("index")).unwrap());
    assert!(bench.report.salvaged.is_some());
    assert_eq!(end(&bench).await.0, 4);
    for line in [&first, &third] {
        assert_eq!(noted(&bench, line).await, Noted::Lost);
    }
    // Without the witness it begins anew.
    bench.reopen_after(|root| {
        std::fs::remove_dir_all(root.join("index")).unwrap();
        std::fs::remove_file(root.join("witness")).unwrap();
    });
    for line in [&first, &third] {
        assert_eq!(noted(&bench, line).await, Noted::Ends(0));
    }
    bench.spool().note(fact("d")).await.unwrap();
    assert_eq!(noted(&bench, &first).await, Noted::Another);
    assert_eq!(noted(&bench, &third).await, Noted::Ends(1));
    assert_eq!(noted(&bench, &empty).await, Noted::Here);
}
