//! Stops without a close, lost files, lost indexes.
use super::*;
use std::fs;

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_stop_without_close() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for n in 0..10_u8 {
        let hold = (n == 9).then(|| HoldReason::new(HoldKind::Rule, "look"));
        ids.push(id_of(
            bench
                .store(&format!("1.{n}"), &[n; 5], vec![NewJob { hold, ..to("a") }])
                .await,
        ));
    }
    bench.confirm("a").await;
    let lease = bench.claim_one("a").await.unwrap();
    let in_flight = lease.job;
    drop(lease);
    bench.reopen_after(|_| {});
    let report = &bench.report;
    assert_eq!(
        (report.instances, report.delivered, report.queued, report.held),
        (10, 1, 8, 1)
    );
    assert_eq!((report.partial, report.orphans, report.created), (0, 0, false));
    assert!(report.missing.is_empty() && report.adopted.is_empty());
    assert_eq!(
        bench.claim_one("a").await.unwrap().job,
        in_flight,
        "a crash means due again"
    );
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(read_all(bench.spool(), *id).await.unwrap(), [n as u8; 5]);
    }
    let text = bench.metrics.text();
    assert!(
        text.contains("waystation_jobs_queued{destination=\"a\",priority=\"routine\"} 8"),
        "{text}"
    );
    assert!(
        text.contains("waystation_jobs_held{destination=\"a\",kind=\"rule\"} 1"),
        "{text}"
    );
    assert!(bench.store("1.77", b"z", vec![to("b")]).await != Committed::Repeat(ids[0]));
    assert!(bench.claim_one("b").await.unwrap().job.0 > 10, "no job id twice");
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_arrival_leaves_no_file() {
    let mut bench = Bench::new();
    let mut incoming = bench.spool().arrive(arriving("1.1")).await.unwrap();
    incoming.write(Bytes::from(vec![1; 600_000])).await.unwrap();
    let path = payload::path_of(bench.path(), incoming.id());
    assert!(path.exists());
    drop(incoming);
    let sealed = bench.sealed("1.2", b"x").await;
    let sealed_path = payload::path_of(bench.path(), sealed.id());
    drop(sealed);
    for _ in 0..100 {
        if !path.exists() && !sealed_path.exists() {
            bench.reopen_after(|_| {});
            assert_eq!((bench.report.partial, bench.report.orphans), (0, 0));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the files stayed");
}

#[tokio::test]
async fn strays_are_told_apart() {
    let mut bench = Bench::new();
    let cut = InstanceId::new(1, 1);
    let mut sealed = bench.sealed("1.1", b"never committed").await;
    sealed.file.keep();
    let orphan = sealed.id();
    drop(sealed);
    let kept = id_of(bench.store("1.2", b"fine", vec![to("a")]).await);
    bench.reopen_after(|path| {
        fs::write(payload::path_of(path, cut), b"half a header").unwrap();
        fs::write(payload::path_of(path, InstanceId::new(1, 2)), b"").unwrap();
    });
    assert_eq!(
        (bench.report.partial, bench.report.orphans, bench.report.pool_cleared),
        (1, 1, 1)
    );
    assert!(!payload::path_of(bench.path(), cut).exists());
    assert!(bench.path().join(format!("orphans/{orphan}.dcm")).exists());
    assert_eq!(read_all(bench.spool(), kept).await.unwrap(), b"fine");
}

#[tokio::test]
async fn a_missing_payload_is_named_and_its_jobs_are_held() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a"), to("b")]).await);
    let cached = id_of(bench.store("1.2", b"y", vec![to("c")]).await);
    bench.confirm("c").await;
    bench.reopen_after(|path| {
        fs::remove_file(payload::path_of(path, id)).unwrap();
        fs::remove_file(payload::path_of(path, cached)).unwrap();
    });
    assert_eq!(bench.report.missing, vec![id]);
    assert!(bench.claim_one("a").await.is_none());
    let held = Filter {
        kind: Some(HoldKind::Corrupt),
        ..Filter::default()
    };
    assert_eq!(bench.spool().count(held).await.unwrap(), 2);
    assert_eq!(
        bench
            .metrics
            .quarantined_total
            .with_label_values(&["missing_payload"])
            .get(),
        1
    );
    let again = bench.store("1.1", b"x", vec![to("a")]).await;
    assert!(matches!(again, Committed::Stored(_)), "a resend is taken in");
}

#[tokio::test]
async fn one_process_at_a_time_and_no_foreign_directory() {
    let bench = Bench::new();
    let open = |path: &Path| Spool::open(config(path), Clock::System, Metrics::new()).map(|_| ());
    assert!(matches!(open(bench.path()), Err(OpenError::InUse(_))));
    assert!(matches!(fsck(bench.path(), false), Err(OpenError::InUse(_))));
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("notes.txt"), b"mine").unwrap();
    assert!(matches!(open(other.path()), Err(OpenError::NotASpool(_))));
    fs::remove_file(other.path().join("notes.txt")).unwrap();
    fs::write(other.path().join("waystation-spool"), b"99\n").unwrap();
    assert!(matches!(open(other.path()), Err(OpenError::Newer { found: 99, .. })));
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1, "untouched");
}

#[tokio::test]
async fn a_lost_index_is_never_started_empty_and_is_rebuilt_from_the_files() {
    let mut bench = Bench::new();
    let open = id_of(bench.store("1.1", b"open", vec![to("a")]).await);
    let delivered = id_of(bench.store("1.2", b"delivered", vec![to("b")]).await);
    bench.confirm("b").await;
    let rotten = id_of(bench.store("1.3", b"rotten", vec![to("a")]).await);
    bench.spool.take().unwrap().close().await;
    fs::remove_dir_all(bench.path().join("index")).unwrap();
    let opened = Spool::open(stopping(bench.path()), Clock::System, Metrics::new()).map(|_| ());
    assert!(matches!(opened, Err(OpenError::IndexMissing { payloads: 3, .. })));
    let path = payload::path_of(bench.path(), rotten);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let report = rebuild(bench.path(), &bench.clock).unwrap();
    assert_eq!((report.recovered, report.delivered), (1, 1));
    assert_eq!(report.quarantined, vec![rotten.to_string()]);
    assert!(bench.path().join(format!("quarantine/{rotten}.dcm")).exists());
    assert_eq!(fsck(bench.path(), true).unwrap().problems, Vec::<String>::new());
    bench.reopen_after(|_| {});
    assert_eq!(
        (bench.report.instances, bench.report.delivered, bench.report.held),
        (2, 1, 1)
    );
    let recovered = bench.spool().recovered(9).await.unwrap();
    let (job, instance) = &recovered[0];
    assert_eq!((instance.id, instance.rule_epoch), (open, 7));
    assert_eq!(instance.study, Some(Uid::known("1.2.9")));
    bench.spool().redecide(*job, vec![to("a")], 8, "rules").await.unwrap();
    assert_eq!(bench.claim_one("a").await.unwrap().instance.id, open);
    assert_eq!(read_all(bench.spool(), delivered).await.unwrap(), b"delivered");
    assert!(matches!(
        bench.store("1.1", b"open", vec![to("a")]).await,
        Committed::Repeat(_)
    ));
}

#[tokio::test]
async fn an_acknowledged_instance_whose_record_was_lost_is_taken_in_again() {
    let mut bench = Bench::new();
    bench.store("1.1", b"first", vec![to("a")]).await;
    bench.spool = None;
    let before = tempfile::tempdir().unwrap();
    copy(&bench.path().join("index"), before.path());
    bench.reopen_after(|_| {});
    let lost = id_of(bench.store("1.2", b"second", vec![to("a")]).await);
    let older = before.path().to_owned();
    bench.reopen_after(|path| {
        fs::remove_dir_all(path.join("index")).unwrap();
        fs::create_dir(path.join("index")).unwrap();
        copy(&older, &path.join("index"));
        // Without it a start sees only that a record is missing, not that the index has lost a batch.
        fs::remove_file(path.join("witness")).unwrap();
    });
    assert_eq!(bench.report.adopted, vec![lost]);
    let recovered = bench.spool().recovered(9).await.unwrap();
    assert_eq!(recovered[0].1.id, lost);
    assert_eq!(read_all(bench.spool(), lost).await.unwrap(), b"second");
}

/// The files of a folder into another.
pub(super) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn export_writes_readable_names_and_overwrites_nothing() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.1", b"y", vec![to("a")]).await;
    bench.store("1.2", b"z", vec![to("a")]).await;
    let out = tempfile::tempdir().unwrap();
    let filter = Filter {
        sop_instance: Some(Uid::known("1.1")),
        ..Filter::default()
    };
    assert_eq!(
        export(bench.path(), out.path(), &filter, Wanted::All).unwrap().exported,
        2
    );
    bench.spool = None;
    let copied = ["1.1.dcm", "1.1_1.dcm"].map(|name| fs::read(out.path().join("1.2.9").join(name)).unwrap());
    let mut ends = copied.map(|bytes| *bytes.last().unwrap());
    ends.sort_unstable();
    assert_eq!(ends, [b'x', b'y']);
    assert!(!out.path().join("1.2.9/1.2.dcm").exists());
}

#[tokio::test]
async fn an_export_of_what_waits_leaves_out_what_is_delivered_at_every_destination() {
    let mut bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.confirm("a").await;
    bench.store("1.2", b"y", vec![to("a"), to("b")]).await;
    bench.confirm("a").await;
    bench.store("1.3", b"z", vec![to("b")]).await;
    bench.spool = None;
    let (all, waiting) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let report = export(bench.path(), waiting.path(), &Filter::default(), Wanted::Waiting).unwrap();
    assert_eq!((report.exported, report.ended), (2, 1));
    let names = |folder: &Path| ["1.1.dcm", "1.2.dcm", "1.3.dcm"].map(|name| folder.join("1.2.9").join(name).exists());
    assert_eq!(
        names(&waiting.path().join("waiting/ct1--CT1--WAY")),
        [false, true, true]
    );
    let report = export(bench.path(), all.path(), &Filter::default(), Wanted::All).unwrap();
    assert_eq!((report.exported, report.ended), (3, 0));
    assert_eq!(names(all.path()), [true; 3]);
}

#[tokio::test]
async fn a_second_export_copies_nothing_again_and_takes_no_cut_file_for_a_copy() {
    let mut bench = Bench::new();
    let long = vec![7; 300_000];
    bench.store("1.1", b"x", vec![to("a")]).await;
    bench.store("1.2", &long, vec![to("b")]).await;
    let out = tempfile::tempdir().unwrap();
    let export = |bench: &Bench| export(bench.path(), out.path(), &Filter::default(), Wanted::All).unwrap();
    let first = export(&bench);
    assert_eq!((first.exported, first.already), (2, 0));
    // Its state letter changes; what it is does not.
    bench.confirm("a").await;
    bench.reopen_after(|_| {});
    let folder = out.path().join("1.2.9");
    let names = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let second = export(&bench);
    assert_eq!((second.exported, second.already, second.bytes), (0, 2, 0));
    assert_eq!(names(&folder), ["1.1.dcm", "1.2.dcm"]);
    // As a full disk once left it, and one whose last byte is another.
    let copy = fs::read(folder.join("1.2.dcm")).unwrap();
    fs::write(folder.join("1.2.dcm"), &copy[..200_000]).unwrap();
    let mut other = copy.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(folder.join("1.2_1.dcm"), &other).unwrap();
    let third = export(&bench);
    assert_eq!((third.exported, third.already), (1, 1));
    assert_eq!(names(&folder), ["1.1.dcm", "1.2.dcm", "1.2_1.dcm", "1.2_2.dcm"]);
    assert_eq!(fs::read(folder.join("1.2_2.dcm")).unwrap(), copy);
    assert_eq!(
        fs::read(folder.join("1.2_1.dcm")).unwrap(),
        other,
        "nothing is written over"
    );
}

#[tokio::test]
async fn a_copy_that_the_disk_refuses_leaves_nothing_behind() {
    let bench = Bench::new();
    bench.store("1.1", b"x", vec![to("a")]).await;
    let out = tempfile::tempdir().unwrap();
    // A folder stands where the unfinished copy would: it cannot be written, as on a full disk.
    let own = {
        let listed = super::super::folder::list(bench.path()).unwrap();
        let full = |id: &&InstanceId| fs::metadata(payload::path_of(bench.path(), **id)).unwrap().len() > 0;
        *listed.payloads.iter().find(full).unwrap()
    };
    let unfinished = format!("1.2.9/.waystation-{own}-{}.part", std::process::id());
    fs::create_dir_all(out.path().join(&unfinished)).unwrap();
    assert!(export(bench.path(), out.path(), &Filter::default(), Wanted::All).is_err());
    assert!(!out.path().join("1.2.9/1.1.dcm").exists());
    fs::remove_dir(out.path().join(unfinished)).unwrap();
    assert_eq!(
        export(bench.path(), out.path(), &Filter::default(), Wanted::All)
            .unwrap()
            .exported,
        1
    );
}

#[tokio::test]
async fn an_eviction_that_was_cut_is_finished_even_when_the_file_does_not_say_delivered() {
    let mut bench = Bench::new();
    let id = id_of(bench.store("1.1", b"x", vec![to("a")]).await);
    let kept = bench.path().join("kept");
    fs::copy(payload::path_of(bench.path(), id), &kept).unwrap();
    bench.confirm("a").await;
    let spool = bench.spool();
    let gone = spool.submit(|txn| super::super::cache::evict(txn, 9)).await.unwrap();
    assert_eq!(gone, vec![id]);
    bench.reopen_after(|path| fs::rename(&kept, payload::path_of(path, id)).unwrap());
    assert!(bench.report.adopted.is_empty());
    assert!(!payload::path_of(bench.path(), id).exists());
}
