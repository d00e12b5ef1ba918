//! One instance into the spool, durably: a payload file, its flush, a synced batch. Alone, and with eight at once that share
//! flushes. `make bench`. What it measures is the disk below the temporary folder, and what the spool adds to it.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;
use waystation::base::clock::Clock;
use waystation::base::names::{AeTitle, DestinationId, SourceId, Uid};
use waystation::dicom::part10::{self, FileMeta};
use waystation::spool::payload::PRIVATE_LEN;
use waystation::spool::{Arriving, Commit, Config, NewJob, Priority, Repeat, Spool, StudyNote};
use waystation::telemetry::metrics::Metrics;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

static NUMBER: AtomicU64 = AtomicU64::new(1);

fn uid(text: &str) -> Uid {
    Uid::parse(text).expect("a UID")
}

fn arriving() -> Arriving {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let title = AeTitle::parse("BENCH").expect("a title");
    let sop_instance = uid(&format!("1.2.3.{number}"));
    let meta = FileMeta {
        sop_class: uid(CT),
        sop_instance: sop_instance.clone(),
        transfer_syntax: uid(EXPLICIT),
        source_ae: Some(title.clone()),
        private: Some((uid(part10::PRIVATE_CREATOR_UID), vec![0; PRIVATE_LEN])),
    };
    Arriving {
        source: SourceId::parse("bench").expect("a name"),
        calling_ae: title.clone(),
        called_ae: title,
        sop_class: uid(CT),
        sop_instance,
        transfer_syntax: uid(EXPLICIT),
        header: meta.write(),
        private_offset: meta.private_offset().expect("it has private information"),
    }
}

async fn store(spool: Spool, data_set: bytes::Bytes) {
    let mut incoming = spool.arrive(arriving()).await.expect("taken");
    let arrival = incoming.arrival();
    // As from a socket: in pieces.
    let mut rest = data_set;
    let mark = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    incoming
        .write(bytes::Bytes::copy_from_slice(&mark))
        .await
        .expect("written");
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(64 << 10));
        incoming.write(piece).await.expect("written");
    }
    let sealed = incoming.seal().await.expect("flushed");
    let commit = Commit {
        study: None,
        rule_epoch: 1,
        jobs: vec![NewJob {
            destination: Some(DestinationId::parse("vna").expect("a name")),
            priority: Priority::Routine,
            plan: Vec::new(),
            due: arrival,
            hold: None,
            quiet: None,
            group: None,
        }],
        repeat: Repeat::Acknowledge,
        note: StudyNote::default(),
        aliases: Vec::new(),
        traits: Vec::new(),
    };
    spool.commit(sealed, commit).await.expect("committed");
}

fn costs(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        path: folder.path().join("spool"),
        ..Config::default()
    };
    let (spool, _) = Spool::open(config, Clock::System, Metrics::new()).expect("a new spool");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = criterion.benchmark_group("store durably");
    group.sample_size(20);
    for (size, at_once) in [(5 << 10, 1), (5 << 10, 8), (512 << 10, 1), (512 << 10, 8)] {
        let data_set = bytes::Bytes::from(vec![0x5a; size]);
        group.throughput(Throughput::Elements(at_once));
        let name = BenchmarkId::new(format!("{size} bytes"), format!("{at_once} at once"));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                for _ in 0..count {
                    runtime.block_on(async {
                        let mut tasks = JoinSet::new();
                        for _ in 0..at_once {
                            tasks.spawn(store(spool.clone(), data_set.clone()));
                        }
                        while let Some(done) = tasks.join_next().await {
                            done.expect("stored");
                        }
                    });
                }
                began.elapsed()
            });
        });
    }
    group.finish();
    runtime.block_on(spool.close());
}

criterion_group!(benches, costs);
criterion_main!(benches);
