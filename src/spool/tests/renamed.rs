//! Two instances, and one SOP Instance UID as they leave.
use super::*;

/// A plan that renames; the real one is opaque here.
fn plan(uid: &str) -> Vec<u8> {
    [b"uid:", uid.as_bytes()].concat()
}

fn read_plan(plan: &[u8]) -> Option<Uid> {
    let text = std::str::from_utf8(plan.strip_prefix(b"uid:")?).ok()?;
    Uid::parse(text).ok()
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.spool().reads_plans(read_plan);
    bench
}

fn renamed(name: &str, uid: &str) -> NewJob {
    NewJob {
        plan: plan(uid),
        ..to(name)
    }
}

async fn conflicts(bench: &Bench) -> u64 {
    let held = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    bench.spool().count(held).await.unwrap()
}

#[tokio::test]
async fn two_instances_that_rules_give_one_uid_do_not_both_leave() {
    let mut bench = bench();
    bench.store("1.1", b"x", vec![renamed("a", "1.9"), to("b")]).await;
    let second = bench.store("1.2", b"y", vec![renamed("a", "1.9"), to("b")]).await;
    assert!(
        matches!(second, Committed::Stored(_)),
        "nothing is wrong with what came"
    );
    assert_eq!(conflicts(&bench).await, 1);
    let sent = bench.claim_one("a").await.unwrap();
    assert_eq!(sent.instance.sop_instance, Uid::known("1.1"));
    bench.spool().settle(sent, confirmed()).await.unwrap();
    assert!(bench.claim_one("a").await.is_none());
    assert_eq!(bench.spool().claim(&dest("b"), 9).await.len(), 2);
    let held = bench.spool().list(Filter::default(), None, 9).await.unwrap();
    let texts: Vec<String> = held
        .iter()
        .filter_map(|row| Some(row.hold.as_ref()?.text.clone()))
        .collect();
    assert!(texts.len() == 1 && texts[0].contains("another instance"), "{texts:?}");
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
    // Known beyond a restart, and beyond the eviction of the first.
    bench.reopen_after(|_| {});
    bench.spool().reads_plans(read_plan);
    bench.store("1.3", b"z", vec![renamed("a", "1.9")]).await;
    assert_eq!(conflicts(&bench).await, 2);
    // A person's word lets it go.
    let all = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    bench.spool().act(all, Verb::Release, "it", "", false).await.unwrap();
    assert_eq!(bench.spool().claim(&dest("a"), 9).await.len(), 2);
}

#[tokio::test]
async fn a_uid_that_an_instance_came_with_is_taken_too_whichever_was_first() {
    let bench = bench();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![renamed("a", "1.1")]).await;
    assert_eq!(conflicts(&bench).await, 1, "renamed into one that came");
    bench.store("1.3", b"z", vec![renamed("a", "1.4")]).await;
    bench.store("1.4", b"w", vec![to("a")]).await;
    assert_eq!(conflicts(&bench).await, 2, "came as one that was renamed");
    bench.store("1.5", b"v", vec![renamed("b", "1.1")]).await;
    assert_eq!(conflicts(&bench).await, 2, "at another destination nobody has it");
}

/// What a source with `repeat = "deliver"` sends, perhaps again.
async fn again(bench: &Bench, uid: &str, jobs: Vec<NewJob>) {
    let commit = Commit {
        repeat: Repeat::Deliver,
        ..decision(jobs)
    };
    let sealed = bench.sealed(uid, uid.as_bytes()).await;
    bench.spool().commit(sealed, commit).await.unwrap();
}

/// An archive has it under its own name, too: whichever came first, a rule's renaming or the rule before it.
#[tokio::test]
async fn one_that_left_renamed_and_as_it_came_has_both_names() {
    let bench = bench();
    again(&bench, "1.1", vec![to("a")]).await;
    bench.confirm("a").await;
    again(&bench, "1.1", vec![renamed("a", "1.5")]).await;
    again(&bench, "2.1", vec![renamed("a", "2.5")]).await;
    again(&bench, "2.1", vec![to("a")]).await;
    assert_eq!(conflicts(&bench).await, 0);
    again(&bench, "3.1", vec![renamed("a", "1.1")]).await;
    assert_eq!(conflicts(&bench).await, 1, "as it came, then renamed");
    again(&bench, "3.2", vec![renamed("a", "2.1")]).await;
    assert_eq!(conflicts(&bench).await, 2, "renamed, then as it came");
}

#[tokio::test]
async fn a_renaming_that_keeps_instances_apart_costs_nobody_anything() {
    let bench = bench();
    // Each gets the UID that another came with, which leaves under another name itself.
    for number in 1..5 {
        let (uid, next) = (format!("1.{number}"), format!("1.{}", number + 1));
        bench.store(&uid, uid.as_bytes(), vec![renamed("a", &next)]).await;
    }
    for number in (1..5).rev() {
        let (uid, next) = (format!("2.{number}"), format!("2.{}", number + 1));
        bench.store(&uid, uid.as_bytes(), vec![renamed("a", &next)]).await;
    }
    // The same again, as a modality does, and where it is new.
    bench
        .store("1.1", b"1.1", vec![renamed("a", "1.2"), renamed("b", "1.2")])
        .await;
    let sealed = bench.sealed("1.1", b"1.1").await;
    let again = Commit {
        repeat: Repeat::Deliver,
        ..decision(vec![renamed("a", "1.2")])
    };
    bench.spool().commit(sealed, again).await.unwrap();
    assert_eq!(conflicts(&bench).await, 0);
}

#[tokio::test]
async fn a_job_that_is_made_later_is_looked_at_too_and_a_rules_own_hold_is_told() {
    let bench = bench();
    bench.store("1.1", b"x", vec![renamed("a", "1.9")]).await;
    let rule = NewJob {
        hold: Some(HoldReason::new(HoldKind::Rule, "look at it")),
        ..renamed("a", "1.9")
    };
    bench.store("1.2", b"y", vec![rule]).await;
    let held = bench.spool().list(Filter::default(), None, 9).await.unwrap();
    let text = held
        .iter()
        .find_map(|row| Some(row.hold.as_ref()?.text.clone()))
        .unwrap();
    assert!(
        text.contains("another instance") && text.contains("look at it"),
        "{text}"
    );
    // Rerouted by a person.
    bench.store("1.3", b"z", vec![renamed("b", "1.9")]).await;
    let one = Filter {
        destination: Some(dest("b")),
        ..Filter::default()
    };
    bench
        .spool()
        .act(one, Verb::Reroute(dest("a")), "it", "", false)
        .await
        .unwrap();
    assert_eq!(conflicts(&bench).await, 2);
    // Decided anew.
    let undecided = NewJob {
        destination: None,
        hold: Some(HoldReason::new(HoldKind::Error, "a rule failed")),
        ..to("a")
    };
    bench.store("1.4", b"w", vec![undecided]).await;
    let (job, _) = bench.spool().undecided(HoldKind::Error, 9).await.unwrap().remove(0);
    bench
        .spool()
        .redecide(job, vec![renamed("a", "1.9")], 8, "it")
        .await
        .unwrap();
    assert_eq!(conflicts(&bench).await, 3);
}

#[tokio::test]
async fn a_rebuild_keeps_what_left_under_which_name_and_time_forgets_it() {
    let mut bench = bench();
    bench.store("1.1", b"x", vec![renamed("a", "1.9")]).await;
    bench.confirm("a").await;
    bench.spool.take().unwrap().close().await;
    rebuild(bench.path(), &bench.clock).unwrap();
    bench.reopen_after(|_| {});
    bench.spool().reads_plans(read_plan);
    bench.store("1.2", b"y", vec![renamed("a", "1.9")]).await;
    assert_eq!(conflicts(&bench).await, 1);
    let before = bench.clock.now().plus(Duration::from_secs(1));
    let (found, _) = super::super::leaving::FAMILY.old(&bench.spool().core, &[], before);
    assert_eq!(found.len(), 2, "by either name");
    let swept = move |txn: &mut super::super::txn::Txn<'_>| super::super::leaving::FAMILY.sweep(txn, found, before);
    bench.spool().submit(swept).await.unwrap();
    assert!(
        super::super::leaving::FAMILY
            .old(&bench.spool().core, &[], before)
            .0
            .is_empty()
    );
}

#[tokio::test]
async fn what_a_person_lets_go_has_its_uid_from_then_on() {
    let bench = bench();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.store("1.1", b"y", vec![renamed("a", "2.9")]).await;
    assert_eq!(conflicts(&bench).await, 1);
    let all = Filter {
        kind: Some(HoldKind::Conflict),
        ..Filter::default()
    };
    bench.spool().act(all, Verb::Release, "it", "", false).await.unwrap();
    bench.confirm("a").await;
    bench.store("1.2", b"z", vec![renamed("a", "2.9")]).await;
    assert_eq!(conflicts(&bench).await, 1);
    assert!(bench.claim_one("a").await.is_none());
}
