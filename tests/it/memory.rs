//! Memory is bounded by the number of associations, not by the length of what goes through them.
use crate::harness::peers::modality;
use crate::harness::{Archive, Setup, Station, objects};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use waystation::base::limits::ASSOCIATION_MEMORY_MAX;

/// What the box may take beside its associations: RocksDB's buffers, the allocator, the rest.
const SLACK: u64 = 64 << 20;

/// Anonymous memory of a process, in bytes. What is mapped from files is the system's to take back.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running box");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .expect("the kernel counts it");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number of kB") << 10
}

/// The most that was seen while `work` ran, above what was there before.
fn growth(station: &Station, work: impl FnOnce()) -> u64 {
    let (pid, before) = (station.pid(), anonymous(station.pid()));
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let sampler = std::thread::spawn(move || {
        let mut most = 0;
        while !seen.load(Ordering::Relaxed) {
            most = most.max(anonymous(pid));
            std::thread::sleep(Duration::from_millis(10));
        }
        most
    });
    work();
    stop.store(true, Ordering::Relaxed);
    sampler.join().expect("the box runs to the end").saturating_sub(before)
}

#[track_caller]
fn within_bound(growth: u64, associations: u64) {
    let bound = associations * ASSOCIATION_MEMORY_MAX as u64 + SLACK;
    println!("{} MiB, bound {} MiB", growth >> 20, bound >> 20);
    assert!(
        growth <= bound,
        "{} MiB for {associations} associations, bound {} MiB",
        growth >> 20,
        bound >> 20
    );
}

#[test]
fn a_multi_frame_object_of_2_gb_streams_in_and_out() {
    let setup = Setup::new();
    let archive = Archive::up(&setup.folder_of("vna-peer"));
    archive.behave(json!({"mode": "ok", "hash_only": true}));
    let rules =
        r#"fn morph(image, from) { image.PatientID = "P" + image.PatientID; } fn route(image, from) { to("vna"); }"#;
    let station = setup
        .rules(rules)
        .archive("vna", archive.port, "associations = 1")
        .start();
    let inward = growth(&station, || {
        let answer = modality("zeros", station.setup.dicom, "WAYSTATION", "CT1", &["2048", "1"]);
        assert_eq!(answer["statuses"], json!([0]));
    });
    within_bound(inward, 2);
    let outward = growth(&station, || {
        let start = std::time::Instant::now();
        while archive.stored().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(90), "{}", station.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    within_bound(outward, 1);
    let arrived = &archive.events("stored")[0];
    assert!(arrived["bytes"].as_u64() > Some(2048 << 20), "{arrived}");
}

#[test]
fn sixteen_parallel_objects_of_256_mb_take_no_more_than_sixteen_shares() {
    let station = Setup::new()
        .rules(r#"fn route(image, from) { to("keep"); hold("look"); }"#)
        .folder("keep")
        .start();
    let grown = growth(&station, || {
        let answer = modality("zeros", station.setup.dicom, "WAYSTATION", "CT1", &["256", "16"]);
        assert_eq!(answer["statuses"], json!(vec![0; 16]));
    });
    within_bound(grown, 16);
    let held = station.jobs(&["--state", "held"]);
    assert!(
        held.len() == 16 && held.iter().all(|job| job["length"].as_u64() > Some(256 << 20)),
        "{held:?}"
    );
    assert_eq!(objects::files_in(&station.setup.folder_of("keep")).len(), 0);
}
