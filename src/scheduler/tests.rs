//! Facts about lanes: a real spool in a temporary folder, scripted archives over TCP.
mod blocked;
mod crowd;

use super::*;
use crate::base::names::{AeTitle, SourceId, Uid};
use crate::base::units::{Share, Size};
use crate::dicom::part10::{FileMeta, PRIVATE_CREATOR_UID};
use crate::sender::tests::archive::{Act, Archive, Rules};
use crate::sender::tests::{CT, EXPLICIT, config, data_set, uid};
use crate::spool::payload::PRIVATE_LEN;
use crate::spool::{self, Arriving, Commit, Committed, NewJob, Priority, Repeat, StudyNote};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

/// A box with a spool and lanes, without a listener.
struct Bench {
    folder: tempfile::TempDir,
    spool: Spool,
    metrics: Metrics,
    drain: Drain,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = spool::Config {
            path: folder.path().join("spool"),
            low_water: Share::Bytes(1 << 20),
            critical: Size(1 << 10),
            ballast: Size(0),
            cache_high_water: Share::Bytes(1 << 20),
            ..spool::Config::default()
        };
        let metrics = Metrics::new();
        let (spool, _) = Spool::open(config, Clock::System, metrics.clone()).unwrap();
        Self {
            folder,
            spool,
            metrics,
            drain: Drain::new(),
        }
    }

    fn start(&self, destinations: &[Config]) -> Scheduler {
        let parts = Parts {
            spool: self.spool.clone(),
            clock: Clock::System,
            metrics: self.metrics.clone(),
            drain: self.drain.clone(),
            seed: 7,
            conversions: None,
            state: self.folder.path().to_owned(),
        };
        Scheduler::start(&parts, destinations).unwrap()
    }

    /// Stores instance `number` of a class for these destinations.
    async fn put(&self, number: usize, class: &str, destinations: &[&str], pixels: usize) -> Uid {
        self.put_as((number, Priority::Routine), class, destinations, pixels)
            .await
    }

    async fn put_as(
        &self,
        (number, priority): (usize, Priority),
        class: &str,
        destinations: &[&str],
        pixels: usize,
    ) -> Uid {
        let instance = uid(&format!("1.2.3.{number}"));
        let ae = AeTitle::parse("CT1").unwrap();
        let meta = FileMeta {
            sop_class: uid(class),
            sop_instance: instance.clone(),
            transfer_syntax: uid(EXPLICIT),
            source_ae: Some(ae.clone()),
            private: Some((Uid::known(PRIVATE_CREATOR_UID), vec![0; PRIVATE_LEN])),
        };
        let arriving = Arriving {
            source: SourceId::parse("ct1").unwrap(),
            calling_ae: ae.clone(),
            called_ae: ae,
            sop_class: uid(class),
            sop_instance: instance.clone(),
            transfer_syntax: uid(EXPLICIT),
            header: meta.write(),
            private_offset: meta.private_offset().unwrap(),
        };
        let mut incoming = self.spool.arrive(arriving).await.unwrap();
        incoming
            .write(data_set(instance.as_str(), pixels).into())
            .await
            .unwrap();
        let sealed = incoming.seal().await.unwrap();
        let jobs = destinations
            .iter()
            .map(|name| NewJob {
                destination: Some(DestinationId::parse(name).unwrap()),
                priority,
                plan: Vec::new(),
                due: Clock::System.now(),
                hold: None,
                quiet: None,
                group: None,
            })
            .collect();
        let commit = Commit {
            study: None,
            rule_epoch: 1,
            jobs,
            repeat: Repeat::Acknowledge,
            note: StudyNote::default(),
            aliases: Vec::new(),
            traits: Vec::new(),
        };
        let committed = self.spool.commit(sealed, commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored(_)));
        instance
    }

    async fn put_many(&self, numbers: std::ops::Range<usize>, destinations: &[&str]) -> BTreeSet<Uid> {
        let mut uids = BTreeSet::new();
        for number in numbers {
            uids.insert(self.put(number, CT, destinations, 2000).await);
        }
        uids
    }

    fn held(&self, destination: &str, kind: &str) -> i64 {
        self.metrics.jobs_held.with_label_values(&[destination, kind]).get()
    }

    fn failures(&self, destination: &str, kind: &str) -> u64 {
        self.metrics
            .lane_failures_total
            .with_label_values(&[destination, kind])
            .get()
    }

    async fn stop(&self) {
        self.drain.stop(Duration::from_secs(5)).await.unwrap();
    }

    /// The attempts that count of all jobs that can be claimed.
    async fn attempts(&self, destination: &str) -> Vec<u32> {
        let destination = DestinationId::parse(destination).unwrap();
        let leases = self.spool.claim(&destination, 1000).await;
        leases.iter().map(|lease| lease.attempts).collect()
    }
}

/// Waits for something that must become true.
async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(15), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn always(status: u16) -> Rules {
    Rules::new(move |_, _| Act::Answer(status))
}

/// Everything arrived, and nothing was sent again after its confirmation.
fn assert_delivered_once(archive: &Archive, expected: &BTreeSet<Uid>) {
    let seen = archive.seen();
    let confirmed: BTreeSet<Uid> = seen.confirmed.iter().cloned().collect();
    assert_eq!(confirmed, *expected);
    assert_eq!(seen.confirmed.len(), expected.len(), "something was confirmed twice");
}

async fn until_delivered(archive: &Archive, expected: &BTreeSet<Uid>) {
    until("all are delivered", || archive.seen().confirmed.len() >= expected.len()).await;
    // Time for a second delivery that must not come.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_delivered_once(archive, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_consumes_no_attempts_and_is_caught_up() {
    let bench = Bench::new();
    let mut archive = Archive::start(always(0)).await;
    archive.stop().await;
    let uids = bench.put_many(0..25, &["vna"]).await;
    // One failure that counts would hold the job.
    let scheduler = bench.start(&[config("vna", archive.port, "tries = 1\n")]);
    until("the breaker has opened several times", || {
        bench.failures("vna", "connect") >= 4
    })
    .await;
    let status = &scheduler.status()[0];
    assert!(
        matches!(status.state, LaneState::Down | LaneState::Probing),
        "{status:?}"
    );
    assert!(status.last_failure.as_ref().unwrap().contains("connect"));
    assert_eq!(bench.metrics.lane_open.with_label_values(&["vna"]).get(), 0);
    assert_eq!(bench.held("vna", "refused"), 0);
    bench.stop().await;
    assert_eq!(bench.attempts("vna").await, vec![0; 25]);

    let again = Bench {
        drain: Drain::new(),
        ..bench
    };
    again.start(&[config("vna", archive.port, "tries = 1\n")]);
    until("it is down again", || again.failures("vna", "connect") >= 6).await;
    archive.restart(always(0)).await;
    until_delivered(&archive, &uids).await;
    assert_eq!(again.metrics.lane_open.with_label_values(&["vna"]).get(), 1);
    again.stop().await;
    assert_eq!(archive.seen().begun.len(), 25, "nothing was begun twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn congestion_slows_the_lane_and_counts_against_nothing() {
    let bench = Bench::new();
    let congested = Arc::new(AtomicBool::new(true));
    let flag = congested.clone();
    let archive = Archive::start(Rules::new(move |_, _| match flag.load(Ordering::Relaxed) {
        true => Act::Answer(0xA700),
        false => Act::Answer(0),
    }))
    .await;
    let uids = bench.put_many(0..10, &["vna"]).await;
    let scheduler = bench.start(&[config("vna", archive.port, "tries = 1\n")]);
    until("it was refused", || archive.seen().begun.len() >= 2).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let tried = archive.seen().begun.len();
    assert!(tried <= 8, "no pause between {tried} tries");
    assert_eq!(scheduler.status()[0].state, LaneState::Slowed);
    congested.store(false, Ordering::Relaxed);
    until_delivered(&archive, &uids).await;
    assert_eq!(bench.held("vna", "refused"), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_associations_stay_within_their_number() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|_, _| Act::After(Duration::from_millis(30), 0))).await;
    let uids = bench.put_many(0..30, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "associations = 3\n")]);
    until_delivered(&archive, &uids).await;
    let seen = archive.seen();
    assert_eq!(seen.open_max, 3);
    until("idle associations are released", || archive.seen().released == 3).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_breaks_every_session_is_held_and_others_flow() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|uid, _| match uid.as_str() {
        "1.2.3.0" => Act::Abort(100),
        _ => Act::Answer(0),
    }))
    .await;
    let mut uids = bench.put_many(0..8, &["vna"]).await;
    uids.remove(&uid("1.2.3.0"));
    bench.start(&[config("vna", archive.port, "tries = 3\nassociations = 1\n")]);
    until("it is held", || bench.held("vna", "refused") == 1).await;
    until_delivered(&archive, &uids).await;
    let begun = archive.seen().begun.iter().filter(|u| u.as_str() == "1.2.3.0").count();
    assert_eq!(begun, 3, "three tries, then a person");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_breaks_every_session_gets_pauses_and_instances_their_tries() {
    let bench = Bench::new();
    let archive_ok = Arc::new(AtomicBool::new(false));
    let flag = archive_ok.clone();
    let archive = Archive::start(Rules::new(move |_, _| match flag.load(Ordering::Relaxed) {
        true => Act::Answer(0),
        false => Act::Close(100),
    }))
    .await;
    let uids = bench.put_many(0..6, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "tries = 4\nassociations = 1\n")]);
    until("the lane knows that it is sick", || bench.failures("vna", "lost") >= 4).await;
    assert_eq!(bench.held("vna", "refused"), 0);
    archive_ok.store(true, Ordering::Relaxed);
    until_delivered(&archive, &uids).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_missing_or_wrong_confirms_nothing() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|uid, nth| match (uid.as_str(), nth) {
        ("1.2.3.0", 1) => Act::Silence,
        ("1.2.3.1", 1) => Act::WrongMessage,
        ("1.2.3.2", 1) => Act::WrongInstance,
        _ => Act::Answer(0),
    }))
    .await;
    let uids = bench.put_many(0..5, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "")]);
    until_delivered(&archive, &uids).await;
    let begun = |number: usize| {
        let wanted = format!("1.2.3.{number}");
        archive.seen().begun.iter().filter(|u| u.as_str() == wanted).count()
    };
    assert_eq!((0..5).map(begun).collect::<Vec<_>>(), [2, 2, 2, 1, 1]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_class_is_parked_once_and_others_flow() {
    let bench = Bench::new();
    let refusing = Arc::new(AtomicBool::new(true));
    let flag = refusing.clone();
    let mut rules = always(0);
    rules.refuses = Arc::new(move |class| class.as_str() == CT && flag.load(Ordering::Relaxed));
    let archive = Archive::start(rules).await;
    let mut mr = BTreeSet::new();
    for number in 0..20 {
        let class = if number % 2 == 0 { CT } else { MR };
        let instance = bench.put(number, class, &["vna"], 100).await;
        if class == MR {
            mr.insert(instance);
        }
    }
    let scheduler = bench.start(&[config("vna", archive.port, "associations = 1\n")]);
    until("all of the class are parked", || bench.held("vna", "parked") == 10).await;
    until_delivered(&archive, &mr).await;
    let seen = archive.seen();
    assert!(seen.begun.iter().all(|uid| mr.contains(uid)));
    let asked = seen
        .proposed
        .iter()
        .filter(|classes| classes.contains(&uid(CT)))
        .count();
    assert_eq!(asked, 1, "the peer is asked once");
    assert_eq!(bench.metrics.contexts_parked.with_label_values(&["vna"]).get(), 1);
    assert_eq!(scheduler.status()[0].parked, [(uid(CT), uid(EXPLICIT))]);

    refusing.store(false, Ordering::Relaxed);
    assert!(scheduler.poke(&DestinationId::parse("vna").unwrap()));
    until("the pair is forgotten", || scheduler.status()[0].parked.is_empty()).await;
    mr.insert(bench.put(99, CT, &["vna"], 100).await);
    until_delivered(&archive, &mr).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_destination_down_delays_no_other() {
    let bench = Bench::new();
    let archive = Archive::start(always(0)).await;
    let mut dead = Archive::start(always(0)).await;
    dead.stop().await;
    let mute = Archive::start(Rules::new(|_, _| Act::Silence)).await;
    let uids = bench.put_many(0..20, &["dead", "mute", "vna"]).await;
    let start = Instant::now();
    bench.start(&[
        config("dead", dead.port, ""),
        config("mute", mute.port, ""),
        config("vna", archive.port, ""),
    ]);
    until("the healthy one has all", || archive.seen().confirmed.len() == 20).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_delivered_once(&archive, &uids);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_authorised_suspends_the_destination_and_holds_nothing() {
    let bench = Bench::new();
    let archive = Archive::start(always(0x0124)).await;
    bench.put_many(0..10, &["vna"]).await;
    let scheduler = bench.start(&[config("vna", archive.port, "tries = 1\n")]);
    until("it is suspended", || {
        bench.metrics.lane_suspended.with_label_values(&["vna"]).get() == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(scheduler.status()[0].suspended);
    let begun = archive.seen().begun.len();
    assert!(
        begun <= 2,
        "{begun} were sent to a destination that does not authorise us"
    );
    assert_eq!(bench.held("vna", "refused"), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_instance_is_held_after_its_tries_and_others_flow() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|uid, _| match uid.as_str() {
        "1.2.3.3" => Act::Answer(0xC123),
        "1.2.3.4" => Act::Answer(0xB000),
        "1.2.3.5" => Act::Answer(0x0111),
        _ => Act::Answer(0),
    }))
    .await;
    let mut uids = bench.put_many(0..10, &["vna"]).await;
    for number in [3, 4, 5] {
        uids.remove(&uid(&format!("1.2.3.{number}")));
    }
    bench.start(&[config("vna", archive.port, "tries = 3\n")]);
    until("two are held", || bench.held("vna", "refused") == 2).await;
    until_delivered(&archive, &uids).await;
    let begun = |wanted: &str| archive.seen().begun.iter().filter(|u| u.as_str() == wanted).count();
    assert_eq!((begun("1.2.3.3"), begun("1.2.3.4"), begun("1.2.3.5")), (3, 1, 1));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_payload_is_held_and_never_completed() {
    let bench = Bench::new();
    let archive = Archive::start(always(0)).await;
    bench.put(1, CT, &["vna"], 600_000).await;
    let good = bench.put(2, CT, &["vna"], 600_000).await;
    damage(bench.folder.path(), b"1.2.3.1\0");
    bench.start(&[config("vna", archive.port, "")]);
    until("it is held", || bench.held("vna", "corrupt") == 1).await;
    until_delivered(&archive, &BTreeSet::from([good.clone()])).await;
    let whole: Vec<Uid> = archive.seen().whole.into_iter().map(|(uid, _)| uid).collect();
    assert_eq!(whole, [good]);
    bench.stop().await;
}

/// Flips one bit near the end of the payload file that holds these bytes.
fn damage(folder: &std::path::Path, wanted: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path, wanted);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let found = bytes.len() > 600_000 && bytes.windows(wanted.len()).any(|window| window == wanted);
        if found && path.extension().is_some_and(|extension| extension == "dcm") {
            let at = 500_000;
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_finishes_what_is_in_flight_and_begins_nothing() {
    let bench = Bench::new();
    let archive = Archive::start(Rules::new(|_, _| Act::After(Duration::from_millis(400), 0))).await;
    bench.put_many(0..10, &["vna"]).await;
    bench.start(&[config("vna", archive.port, "associations = 2\n")]);
    until("two are in flight", || archive.seen().whole.len() == 2).await;
    bench.stop().await;
    let seen = archive.seen();
    assert_eq!((seen.confirmed.len(), seen.begun.len()), (2, 2));
    assert_eq!(bench.attempts("vna").await, vec![0; 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_receives_files_and_recovers_from_trouble() {
    let bench = Bench::new();
    let root = bench.folder.path().join("out");
    std::fs::write(&root, b"in the way").unwrap();
    let text = format!(
        "kind = \"folder\"\nname = \"out\"\npath = {:?}\ntemplate = \"{{SOPInstanceUID}}.dcm\"\nprobe = \"100ms\"\ntries = 1\n",
        root.display().to_string()
    );
    bench.put_many(0..5, &["out"]).await;
    bench.start(&[toml::from_str(&text).unwrap()]);
    until("it is down", || bench.failures("out", "storage") >= 2).await;
    assert_eq!(bench.held("out", "refused"), 0);
    std::fs::remove_file(&root).unwrap();
    until("all files are there", || {
        std::fs::read_dir(&root).is_ok_and(|entries| {
            let named = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("1.2.3.");
            entries
                .filter_map(Result::ok)
                .filter(|e| e.path().is_file())
                .map(named)
                .filter(|n| *n)
                .count()
                == 5
        })
    })
    .await;
    bench.stop().await;
}
