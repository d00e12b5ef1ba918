//! Facts about single instances that stand in a lane's way.
use super::*;
use crate::dicom::association::Rejection;
use crate::sender::tests::archive::Door;
use std::path::{Path, PathBuf};

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|found| found == name) {
            return Some(path);
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_cannot_be_opened_is_held_and_others_flow() {
    let bench = Bench::new();
    let archive = Archive::start(always(0)).await;
    bench.put(0, CT, &["vna"], 2000).await;
    let rows = bench.spool.list(spool::Filter::default(), None, 1).await.unwrap();
    let name = format!("{}.dcm", rows[0].instance.as_ref().unwrap().id);
    let lost = find(bench.folder.path(), &name).unwrap();
    let good = bench.put_many(1..4, &["vna"]).await;
    // Opening a link to itself fails with ELOOP: neither missing nor damaged.
    std::fs::remove_file(&lost).unwrap();
    std::os::unix::fs::symlink(&lost, &lost).unwrap();
    bench.start(&[config("vna", archive.port, "associations = 1\n")]);
    until("it is held", || bench.held("vna", "corrupt") == 1).await;
    until_delivered(&archive, &good).await;
    let held = bench.spool.list(spool::Filter::default(), None, 9).await.unwrap();
    let reasons: Vec<String> = held.into_iter().filter_map(|row| Some(row.hold?.text)).collect();
    assert_eq!(reasons, ["the payload file cannot be read (os error 40)"]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_whose_read_hangs_is_put_aside_then_held_and_others_flow() {
    let bench = Bench::new();
    let archive = Archive::start(always(0)).await;
    bench.put(0, CT, &["vna"], 2000).await;
    let rows = bench.spool.list(spool::Filter::default(), None, 1).await.unwrap();
    let hangs = bench.spool.stall(rows[0].instance.as_ref().unwrap().id).await;
    let good = bench.put_many(1..4, &["vna"]).await;
    let scheduler = bench.start(&[config("vna", archive.port, "associations = 1\n")]);
    until_delivered(&archive, &good).await;
    let told = || scheduler.status()[0].last_failure.clone().unwrap_or_default();
    assert!(told().contains("the disk did not answer in time"), "{}", told());
    until("it is held in the end", || bench.held("vna", "corrupt") == 1).await;
    let rows = bench.spool.list(spool::Filter::default(), None, 9).await.unwrap();
    let held = rows.iter().filter(|row| row.hold.is_some());
    let attempts: Vec<u32> = held.map(|row| row.attempts).collect();
    assert_eq!(attempts, [0], "it counts against nothing");
    drop(hangs);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_break_every_session_are_held_and_others_pass_them() {
    let bench = Bench::new();
    let bad = |instance: &Uid| matches!(instance.as_str(), "1.2.3.0" | "1.2.3.1" | "1.2.3.2" | "1.2.3.3");
    let archive = Archive::start(Rules::new(move |instance, _| match bad(instance) {
        true => Act::Abort(100),
        false => Act::Answer(0),
    }))
    .await;
    let mut good = bench.put_many(0..12, &["vna"]).await;
    good.retain(|instance| !bad(instance));
    bench.start(&[config("vna", archive.port, "tries = 3\nassociations = 1\n")]);
    until_delivered(&archive, &good).await;
    until("all bad ones are held", || bench.held("vna", "refused") == 4).await;
    let begun = archive.seen().begun;
    let last = |wanted: bool| begun.iter().rposition(|instance| bad(instance) == wanted);
    assert!(last(false) < last(true), "the good ones pass: {begun:?}");
    for number in 0..4 {
        let tries = begun
            .iter()
            .filter(|uid| uid.as_str() == format!("1.2.3.{number}"))
            .count();
        assert_eq!(tries, 3, "of instance {number}");
    }
    assert!(bench.failures("vna", "lost") > 0, "there were pauses");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_breaks_under_every_instance_costs_none_of_them_its_tries() {
    let bench = Bench::new();
    let broken = Arc::new(AtomicBool::new(true));
    let flag = broken.clone();
    let archive = Archive::start(Rules::new(move |_, _| match flag.load(Ordering::Relaxed) {
        true => Act::Close(100),
        false => Act::Answer(0),
    }))
    .await;
    let uids = bench.put_many(0..6, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "tries = 3\nassociations = 1\n")]);
    until("there were more tries than all have together", || {
        archive.seen().begun.len() >= 24
    })
    .await;
    assert_eq!(bench.held("vna", "refused"), 0);
    broken.store(false, Ordering::Relaxed);
    until_delivered(&archive, &uids).await;
    assert_eq!(bench.held("vna", "refused"), 0);
    bench.stop().await;
}

/// An archive that rejects an association in which it takes nothing, and takes no Verification (DCMTK's `dcmrecv` with a profile
/// without it): what it refuses is parked, first as it comes, and the rest flows, also after an outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_rejects_what_it_takes_nothing_of_gets_everything_else() {
    let bench = Bench::new();
    let strict = || {
        let mut rules = always(0);
        rules.refuses = Arc::new(|class| class.as_str() != CT);
        rules.empty = Door::Reject(Rejection::of(1, 1, 1));
        rules
    };
    let mut archive = Archive::start(strict()).await;
    bench.put(100, MR, &["vna"], 100).await;
    let scheduler = bench.start(&[config("vna", archive.port, "associations = 1\n")]);
    until("the first is parked", || bench.held("vna", "parked") == 1).await;
    assert_eq!(scheduler.status()[0].parked, [(uid(MR), uid(EXPLICIT))]);
    let mut uids = bench.put_many(0..5, &["vna"]).await;
    until_delivered(&archive, &uids).await;
    let rejected = || bench.failures("vna", "rejected_permanent");
    assert_eq!(rejected(), 0, "it was never down");

    archive.stop().await;
    uids.extend(bench.put_many(5..10, &["vna"]).await);
    until("it is down", || bench.failures("vna", "connect") >= 2).await;
    archive.restart(strict()).await;
    until_delivered(&archive, &uids).await;
    assert_eq!((rejected(), bench.held("vna", "parked")), (0, 1));
    bench.stop().await;
}
