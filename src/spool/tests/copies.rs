//! One content, on the box more than once: from several sources, or after a rule was added.
use super::super::commitment::Level;
use super::committed::{NONE, evict, named, problems, told};
use super::discarded::discard;
use super::scrubbed::{flip, held};
use super::*;

fn one() -> Vec<super::super::commitment::Named> {
    vec![named("1.1")]
}

#[tokio::test]
async fn a_copy_that_has_left_speaks_for_no_delivery_of_another() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    // A rule was added, and it is sent again: to `b` alone.
    bench.store("1.1", b"x", vec![to("a"), to("b")]).await;
    bench.confirm("b").await;
    assert_eq!(evict(&bench).await, 1);
    assert_eq!(told(&bench, "2.25.1", Level::EndToEnd, one()).await, [0x0110]);
    assert_eq!(told(&bench, "2.25.2", Level::Edge, one()).await, NONE);
    bench.confirm("a").await;
    assert_eq!(told(&bench, "2.25.3", Level::EndToEnd, one()).await, NONE);
    assert_eq!(problems(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn edge_rests_on_each_payload_whose_delivery_is_open() {
    for evicted in [false, true] {
        let bench = Bench::new();
        let open = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
        bench.store("1.1", b"x", vec![to("b")]).await;
        bench.confirm("b").await;
        if evicted {
            assert_eq!(evict(&bench).await, 1);
        }
        flip(&bench, open);
        assert_eq!(
            told(&bench, "2.25.1", Level::Edge, one()).await,
            [0x0110],
            "evicted: {evicted}"
        );
        assert_eq!(held(&bench, HoldKind::Corrupt).await, 1);
    }
}

#[tokio::test]
async fn what_a_person_discarded_of_one_copy_is_promised_because_of_no_other() {
    for before in [false, true] {
        let mut bench = Bench::new();
        bench.store("1.1", b"x", vec![to("a")]).await;
        if before {
            discard(&bench, Filter::default()).await;
        }
        bench.store("1.1", b"x", vec![to("b")]).await;
        bench.confirm("b").await;
        if !before {
            discard(&bench, Filter::default()).await;
        }
        for level in [Level::Edge, Level::EndToEnd] {
            let transaction = format!("2.25.1{}", level as u8);
            assert_eq!(told(&bench, &transaction, level, one()).await, [0x0110], "{before}");
        }
        assert_eq!(evict(&bench).await, 2);
        assert_eq!(
            told(&bench, "2.25.2", Level::EndToEnd, one()).await,
            [0x0110],
            "{before}"
        );
        bench.store("1.1", b"x", vec![to("a")]).await;
        bench.confirm("a").await;
        assert_eq!(told(&bench, "2.25.3", Level::EndToEnd, one()).await, NONE, "{before}");
        assert_eq!(evict(&bench).await, 1);
        assert_eq!(told(&bench, "2.25.4", Level::EndToEnd, one()).await, NONE, "{before}");
        assert_eq!(problems(&mut bench), Vec::<String>::new());
    }
}
