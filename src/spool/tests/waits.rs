//! Jobs that wait for their study, fail-over, share-out, and what is remembered of studies and of renamed values.
use super::*;
use crate::base::phi::Phi;
use crate::spool::model::Attempt;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn quiet(minutes: u32, at_most: u32, name: &str) -> NewJob {
    NewJob {
        quiet: Some(Quiet {
            span: MINUTE * minutes,
            at_most: MINUTE * at_most,
        }),
        ..to(name)
    }
}

fn group(kind: GroupKind, names: &[&str]) -> NewJob {
    let others = names[1..].iter().map(|name| (dest(name), name.as_bytes().to_vec()));
    NewJob {
        plan: names[0].as_bytes().to_vec(),
        group: Some(Group {
            kind,
            others: others.collect(),
        }),
        ..to(names[0])
    }
}

fn failover(minutes: u32, names: &[&str]) -> NewJob {
    let after = MINUTE * minutes;
    group(GroupKind::Failover { after }, names)
}

fn values(texts: &[&str]) -> Vec<Phi<String>> {
    texts.iter().map(|text| Phi::new((*text).to_owned())).collect()
}

impl Bench {
    /// How many jobs of a destination are due now.
    async fn due(&self, name: &str) -> usize {
        self.spool().claim(&dest(name), 100).await.len()
    }

    async fn noted(&self, uid: &str, content: &[u8], texts: &[&str], believed: Option<&[&str]>) -> Attempt {
        let mut commit = decision(vec![to("a")]);
        commit.note = StudyNote {
            values: values(texts),
            believed: believed.map(values),
        };
        let sealed = self.sealed(uid, content).await;
        self.spool().attempt(sealed, commit).await.unwrap()
    }

    async fn seen(&self) -> StudySeen {
        let seen = self.spool().study_seen(&Uid::known("1.2.9")).await.unwrap();
        seen.unwrap_or_default()
    }

    async fn take_over(&self, from: &str, minutes: u32, usable: &[&str]) -> Vec<(DestinationId, u64)> {
        let usable: Vec<DestinationId> = usable.iter().map(|name| dest(name)).collect();
        let taken = self
            .spool()
            .take_over(&dest(from), MINUTE * minutes, &usable, None)
            .await;
        taken.unwrap().moved
    }
}

#[tokio::test]
async fn what_rules_put_off_waits_longer_than_any_retry_also_after_a_restart() {
    let mut bench = Bench::new();
    let tonight = START.plus(MINUTE * 600);
    let later = NewJob {
        due: tonight,
        ..to("a")
    };
    let short = |bench: &Bench| bench.spool().puts_off(&dest("a"), MINUTE * 10);
    bench.store("1.0", b"now", vec![to("a")]).await;
    assert_eq!(bench.spool().put_off(&dest("a")), 0);
    short(&bench);
    assert_eq!(bench.due("a").await, 1);
    bench.confirm("a").await;
    bench.store("1.1", b"x", vec![later]).await;
    for _ in 0..2 {
        assert_eq!(bench.due("a").await, 0);
        assert_eq!(bench.spool().next_due(&dest("a")).await, Some(tonight));
        assert_eq!(bench.spool().put_off(&dest("a")), 1);
        bench.reopen_after(|_| {});
        short(&bench);
    }
    bench.clock.advance(MINUTE * 600);
    assert_eq!(bench.spool().put_off(&dest("a")), 0);
    assert_eq!(bench.due("a").await, 1);
}

#[tokio::test]
async fn a_job_waits_until_its_study_is_quiet_across_a_restart_and_no_longer_than_its_limit() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![quiet(10, 60, "a")]).await;
    for number in 2..4 {
        bench.clock.advance(MINUTE * 9);
        assert_eq!(bench.due("a").await, 0);
        bench
            .store(&format!("1.{number}"), b"x", vec![quiet(10, 60, "a")])
            .await;
    }
    // 18 minutes on: the first job's own ten are over, the study's are not.
    bench.clock.advance(MINUTE * 8);
    assert_eq!(bench.due("a").await, 0);
    bench.reopen_after(|_| {});
    bench.clock.advance(MINUTE);
    assert_eq!(bench.due("a").await, 0);
    let next = bench.spool().next_due(&dest("a")).await.unwrap();
    assert_eq!(
        next,
        START.plus(MINUTE * 28),
        "the lane sleeps until the study may be quiet"
    );
    bench.clock.advance(MINUTE);
    assert_eq!(bench.due("a").await, 3);
    // A study that goes on and on goes all the same after its limit.
    for number in 4..12 {
        bench.clock.advance(MINUTE * 5);
        bench.store(&format!("1.{number}"), b"x", vec![to("b")]).await;
    }
    let bench_b = bench.due("b").await;
    assert_eq!(bench_b, 8);
    bench.store("1.50", b"x", vec![quiet(10, 12, "c")]).await;
    bench.clock.advance(MINUTE * 6);
    bench.store("1.51", b"x", vec![to("b")]).await;
    bench.clock.advance(MINUTE * 5);
    assert_eq!(bench.due("c").await, 0);
    bench.clock.advance(MINUTE);
    assert_eq!(bench.due("c").await, 1);
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn jobs_that_wait_for_their_study_do_not_hide_what_is_due_behind_them() {
    let bench = Bench::new();
    for number in 0..40 {
        bench
            .store(&format!("1.{number}"), b"x", vec![quiet(10, 600, "a")])
            .await;
    }
    bench.clock.advance(MINUTE * 9);
    bench.store("1.50", b"x", vec![to("b")]).await;
    bench.clock.advance(MINUTE * 2);
    let plain = NewJob {
        due: START.plus(MINUTE * 11),
        ..to("a")
    };
    let mut commit = decision(vec![plain]);
    commit.study = Some(Uid::known("1.2.10"));
    let sealed = bench.sealed("1.60", b"y").await;
    bench.spool().commit(sealed, commit).await.unwrap();
    let leases = bench.spool().claim(&dest("a"), 8).await;
    assert_eq!(leases.len(), 1, "the one that does not wait");
    assert_eq!(leases[0].instance.sop_instance, Uid::known("1.60"));
}

#[tokio::test]
async fn a_person_ends_the_waiting_of_one_job() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![quiet(10, 60, "a")]).await;
    let all = Filter {
        destination: Some(dest("a")),
        ..Filter::default()
    };
    let acted = bench.spool().act(all, Verb::Retry, "me", "", false).await.unwrap();
    assert_eq!(acted.changed, 1);
    assert_eq!(bench.due("a").await, 1, "who lets a job go wants it to go now");
    bench.store("1.2", b"x", vec![quiet(10, 60, "b")]).await;
    let core = &bench.spool().core;
    let job = |now| {
        let db = core.db().unwrap();
        let mut due = None;
        db.scan(db::Cf::Due, &[], &[], |key, _| {
            due = keys::due_of(key).map(|(_, _, due)| due);
            true
        })
        .unwrap();
        due > Some(now)
    };
    assert!(job(START) && !job(START.plus(MINUTE * 10)));
}

#[tokio::test]
async fn the_next_of_a_group_takes_over_when_the_first_is_down_long_enough_and_gives_back_when_it_fails_itself() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![failover(15, &["a", "b", "c"])]).await;
    bench.store("1.2", b"x", vec![failover(30, &["a", "b"])]).await;
    bench.store("1.3", b"x", vec![to("a")]).await;
    assert_eq!(bench.take_over("a", 14, &["b", "c"]).await, []);
    assert_eq!(
        bench.take_over("a", 15, &["c"]).await,
        [(dest("c"), 1)],
        "b is down as well"
    );
    let lease = bench.claim_one("c").await.unwrap();
    assert_eq!(&lease.plan[..], b"c", "with the edits for the one that takes over");
    assert_eq!(bench.take_over("c", 99, &["a"]).await, [], "what is being sent stays");
    drop(lease);
    assert_eq!(bench.take_over("c", 15, &["a"]).await, [(dest("a"), 1)]);
    bench.reopen_after(|_| {});
    assert_eq!(bench.take_over("a", 15, &["b"]).await, [(dest("b"), 1)]);
    assert_eq!(bench.take_over("a", 30, &["b"]).await, [(dest("b"), 1)]);
    assert_eq!(
        (bench.due("a").await, bench.due("b").await, bench.due("c").await),
        (1, 2, 0)
    );
    // A resend has nothing to do: the group has had its one copy.
    let again = bench.store("1.1", b"x", vec![failover(15, &["a", "b", "c"])]).await;
    assert!(matches!(again, Committed::Repeat(_)));
    bench.confirm("b").await;
    bench.confirm("b").await;
    bench.confirm("a").await;
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_share_out_skips_the_suspended_and_gives_one_copy() {
    let bench = Bench::new();
    let shared = || group(GroupKind::ShareOut, &["a", "b"]);
    bench.store("1.1", b"x", vec![shared()]).await;
    bench.spool().suspend(&dest("a"), "me", "").await.unwrap();
    bench.store("1.2", b"x", vec![shared()]).await;
    // Sent again while its own destination is suspended: still one copy.
    assert!(matches!(
        bench.store("1.1", b"x", vec![shared()]).await,
        Committed::Repeat(_)
    ));
    bench.spool().suspend(&dest("b"), "me", "").await.unwrap();
    bench.store("1.3", b"x", vec![shared()]).await;
    bench.store("1.4", b"x", vec![shared(), to("b")]).await;
    for name in ["a", "b"] {
        bench.spool().resume(&dest(name), "me", "").await.unwrap();
    }
    let sent = |leases: Vec<Lease>| -> Vec<(String, Vec<u8>)> {
        let pair = |lease: &Lease| (lease.instance.sop_instance.to_string(), lease.plan.to_vec());
        leases.iter().map(pair).collect()
    };
    let (a, b) = (
        bench.spool().claim(&dest("a"), 9).await,
        bench.spool().claim(&dest("b"), 9).await,
    );
    let own = |uid: &str, plan: &[u8]| (uid.to_owned(), plan.to_vec());
    assert_eq!(sent(a), [own("1.1", b"a"), own("1.3", b"a")]);
    assert_eq!(sent(b), [own("1.2", b"b"), own("1.4", &[1, 2, 3])]);
}

#[tokio::test]
async fn the_first_instance_that_commits_gives_a_study_its_values_and_a_decision_that_believed_otherwise_is_made_again()
{
    let bench = Bench::new();
    assert!(matches!(
        bench.noted("1.1", b"x", &["123", ""], Some(&["", ""])).await,
        Attempt::Done(Committed::Stored(_))
    ));
    // Decided before the first was known.
    let overtaken = bench.noted("1.2", b"y", &["124", "A1"], Some(&["", ""])).await;
    let Attempt::Overtaken(sealed, seen) = overtaken else {
        panic!("another patient was taken in unseen");
    };
    assert_eq!(seen.values, values(&["123", ""]));
    assert_eq!(bench.seen().await.instances, 1, "nothing of it is recorded");
    let mut commit = decision(vec![to("a")]);
    commit.note = StudyNote {
        values: values(&["124", "A1"]),
        believed: Some(seen.values),
    };
    let again = bench.spool().attempt(*sealed, commit).await.unwrap();
    assert!(matches!(again, Attempt::Done(Committed::Stored(_))));
    let seen = bench.seen().await;
    assert_eq!(
        (seen.values, seen.instances, seen.bytes),
        (values(&["123", "A1"]), 2, 2)
    );
}

#[tokio::test]
async fn a_study_is_counted_once_for_each_instance_over_repeats_restarts_and_rebuilds() {
    let mut bench = Bench::new();
    bench.noted("1.1", b"x", &["123"], None).await;
    bench.noted("1.1", b"x", &["999"], None).await;
    bench.clock.advance(MINUTE);
    bench.noted("1.2", b"yy", &["999", "A1"], None).await;
    let before = bench.seen().await;
    assert_eq!((before.instances, before.bytes), (2, 3));
    assert_eq!((before.first, before.last), (START, START.plus(MINUTE)));
    bench.reopen_after(|_| {});
    assert_eq!(bench.seen().await, before);
    let clock = bench.clock.clone();
    bench.reopen_after(|path| drop(rebuild(path, &clock).unwrap()));
    assert_eq!(bench.seen().await, before, "the old index told it");
    bench.reopen_after(|path| {
        std::fs::remove_dir_all(path.join("index")).unwrap();
        rebuild(path, &clock).unwrap();
    });
    let after = bench.seen().await;
    assert_eq!(
        (after.instances, after.bytes, after.values),
        (2, 3, Vec::new()),
        "the files tell how many"
    );
    bench
        .spool()
        .remember_study(&Uid::known("1.2.9"), values(&["123"]))
        .await
        .unwrap();
    bench
        .spool()
        .remember_study(&Uid::known("1.2.9"), values(&["999", "A1"]))
        .await
        .unwrap();
    assert_eq!(
        bench.seen().await.values,
        values(&["123", "A1"]),
        "who is read first gives the value"
    );
}

#[tokio::test]
async fn the_map_answers_in_both_directions_and_outlives_a_rebuild() {
    let mut bench = Bench::new();
    let alias = |sent: &str, written: &str| Alias {
        kind: "accession",
        sent: Phi::new(sent.to_owned()),
        written: Phi::new(written.to_owned()),
    };
    let mut commit = decision(vec![to("a")]);
    commit.aliases = vec![alias("77", "RA77"), alias("77", "RB77")];
    let sealed = bench.sealed("1.1", b"x").await;
    bench.spool().commit(sealed, commit).await.unwrap();
    bench.clock.advance(MINUTE);
    let source = SourceId::parse("mr1").unwrap();
    bench
        .spool()
        .record_names(
            &source,
            8,
            vec![alias("077", "RA77"), alias("77", "RB77")],
            (InstanceId::new(1, 1), Vec::new()),
        )
        .await
        .unwrap();
    let clock = bench.clock.clone();
    bench.reopen_after(|path| drop(rebuild(path, &clock).unwrap()));
    let ask = async |kind: &'static str, value: &'static str, reverse| {
        let found = bench.spool().aliases(kind, value, reverse).await.unwrap();
        let text = |mapped: &Mapped| match reverse {
            true => mapped.written.expose().clone(),
            false => mapped.sent.expose().clone(),
        };
        found.iter().map(text).collect::<Vec<String>>()
    };
    assert_eq!(
        ask("accession", "RA77", false).await,
        ["077", "77"],
        "the last used first"
    );
    assert_eq!(ask("accession", "77", true).await, ["RB77", "RA77"]);
    assert_eq!(ask("accession", "RA7", false).await, [""; 0]);
    assert_eq!(ask("uid", "RA77", false).await, [""; 0]);
    let first = &bench.spool().aliases("accession", "RB77", false).await.unwrap()[0];
    assert_eq!((first.source.as_str(), first.rule_epoch), ("ct1", 7));
    assert_eq!((first.first, first.last), (START, START.plus(MINUTE)));
}

#[tokio::test]
async fn studies_and_renamed_values_are_forgotten_in_time() {
    let bench = Bench::new();
    bench.noted("1.1", b"x", &["123"], None).await;
    let source = SourceId::parse("ct1").unwrap();
    let alias = Alias {
        kind: "uid",
        sent: Phi::new("1".to_owned()),
        written: Phi::new("2".to_owned()),
    };
    let of_nothing_more = (InstanceId::new(1, 1), Vec::new());
    let told = bench.spool().record_names(&source, 1, vec![alias], of_nothing_more);
    told.await.unwrap();
    let core = &bench.spool().core;
    let old = START.plus(MINUTE);
    let (studies, _) = study::FAMILY.old(core, &[], old);
    let (aliases, _) = alias::FAMILY.old(core, &[], old);
    assert_eq!(
        (studies.len(), aliases.len()),
        (1, 1),
        "the instances of a study and the way back are not met"
    );
    assert_eq!(study::FAMILY.old(core, &[], START).0.len(), 0);
    bench
        .spool()
        .submit(move |txn| {
            study::FAMILY.sweep(txn, studies, old)?;
            alias::FAMILY.sweep(txn, aliases, old)
        })
        .await
        .unwrap();
    assert_eq!(bench.seen().await, StudySeen::default());
    assert!(bench.spool().aliases("uid", "2", false).await.unwrap().is_empty());
    assert!(bench.spool().aliases("uid", "1", true).await.unwrap().is_empty());
}
