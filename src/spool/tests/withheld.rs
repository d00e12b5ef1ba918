//! An export of what waits keeps apart what a person, a rule or the box had held, and says how the rest is sent.
use super::*;
use std::fs;

const PEER: &str = "ct1--CT1--WAY/1.2.9";

fn of(uid: &'static str) -> Filter {
    Filter {
        sop_instance: Some(Uid::known(uid)),
        ..Filter::default()
    }
}

async fn act(bench: &Bench, filter: Filter, verb: Verb) {
    let acted = bench.spool().act(filter, verb, "it", "wrong patient", false).await;
    assert_eq!(acted.unwrap().changed, 1);
}

fn exported(bench: &Bench, to: &Path) -> ExportReport {
    export(bench.path(), to, &Filter::default(), Wanted::Waiting).unwrap()
}

fn lies(to: &Path, below: &str, uid: &str) -> bool {
    to.join(below).join(PEER).join(format!("{uid}.dcm")).exists()
}

fn reason(to: &Path, uid: &str) -> String {
    fs::read_to_string(to.join("held").join(PEER).join(format!("{uid}.dcm.txt"))).unwrap()
}

#[tokio::test]
async fn what_was_held_or_discarded_for_one_is_kept_apart_with_its_reason() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    bench.store("1.3", b"z", vec![to("a"), to("b")]).await;
    let by_rule = NewJob {
        hold: Some(HoldReason::new(HoldKind::Rule, "look at it")),
        ..to("a")
    };
    bench.store("1.4", b"r", vec![by_rule]).await;
    // The same UID with other content: held by the box.
    bench.store("1.1", b"other", vec![to("a")]).await;
    act(&bench, of("1.2"), Verb::Hold).await;
    let one = Filter {
        destination: Some(dest("b")),
        ..of("1.3")
    };
    act(&bench, one, Verb::Discard).await;
    bench.spool().suspend(&dest("b"), "it", "").await.unwrap();
    bench.reopen_after(|_| {});
    bench.spool = None;
    let out = tempfile::tempdir().unwrap();
    let to = out.path();
    let report = exported(&bench, to);
    assert_eq!((report.exported, report.held), (5, 4));
    assert_eq!(report.holds_known, Some(HoldsKnown::All));
    assert_eq!(report.suspended, [dest("b")]);
    assert!(lies(to, "waiting", "1.1") && !lies(to, "waiting", "1.2"));
    for (uid, said) in [
        ("1.1", "conflict: "),
        ("1.2", "operator: wrong patient (for a, held since "),
        ("1.3", "discarded by a person for b"),
        ("1.4", "rule: look at it"),
    ] {
        assert!(lies(to, "held", uid), "{uid}");
        assert!(reason(to, uid).starts_with(said), "{}", reason(to, uid));
    }
    assert!(to.join("held").join(KEPT_BACK).exists());
    let how = fs::read_to_string(to.join("waiting/ct1--CT1--WAY/send.txt")).unwrap();
    assert!(how.contains("--calling 'CT1' --called 'WAY' ."), "{how}");
    let again = exported(&bench, to);
    assert_eq!((again.exported, again.already, again.held), (0, 5, 4));
}

#[tokio::test]
async fn a_later_export_into_the_same_folder_moves_what_was_held_or_let_go_since() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    act(&bench, of("1.2"), Verb::Hold).await;
    bench.spool = None;
    let out = tempfile::tempdir().unwrap();
    let to = out.path();
    exported(&bench, to);
    assert!(lies(to, "waiting", "1.1") && lies(to, "held", "1.2"));
    bench.reopen_after(|_| {});
    act(&bench, of("1.1"), Verb::Hold).await;
    act(&bench, of("1.2"), Verb::Release).await;
    bench.spool = None;
    exported(&bench, to);
    assert!(lies(to, "held", "1.1") && !lies(to, "waiting", "1.1"));
    assert!(lies(to, "waiting", "1.2") && !lies(to, "held", "1.2"));
    assert!(!to.join("held").join(PEER).join("1.2.dcm.txt").exists());
}

#[tokio::test]
async fn without_the_index_the_list_of_orders_tells_and_without_both_all_is_taken_for_held() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", b"y", vec![to("a")]).await;
    act(&bench, of("1.2"), Verb::Hold).await;
    bench.spool = None;
    fs::remove_dir_all(bench.path().join("index")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let report = exported(&bench, out.path());
    assert_eq!((report.held, report.holds_known), (1, Some(HoldsKnown::PersonsOnly)));
    assert!(lies(out.path(), "waiting", "1.1") && lies(out.path(), "held", "1.2"));
    assert_eq!(reason(out.path(), "1.2"), "operator: wrong patient\n");
    fs::remove_file(bench.path().join("orders")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let report = exported(&bench, out.path());
    assert_eq!((report.held, report.holds_known), (2, Some(HoldsKnown::Nothing)));
    assert!(reason(out.path(), "1.1").starts_with("nobody knows"));
}

#[tokio::test]
async fn what_an_older_index_does_not_know_is_taken_for_held_without_the_list_of_orders() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.spool = None;
    let (index, older) = (bench.path().join("index"), tempfile::tempdir().unwrap());
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&index, older.path());
    bench.reopen_after(|_| {});
    bench.store("1.2", b"y", vec![to("a")]).await;
    act(&bench, of("1.2"), Verb::Hold).await;
    bench.spool = None;
    fs::remove_dir_all(&index).unwrap();
    fs::create_dir(&index).unwrap();
    copy(older.path(), &index);
    fs::remove_file(bench.path().join("orders")).unwrap();
    let out = tempfile::tempdir().unwrap();
    assert_eq!(exported(&bench, out.path()).held, 1);
    assert!(lies(out.path(), "waiting", "1.1") && lies(out.path(), "held", "1.2"));
}
