//! A disk that fills before a destination that is away: how long it lasts is told while it fills, and is true.
use crate::harness::peers::{send, try_send};
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, wait_until};
use crate::image::{self, Image};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

const MARKS: &str = "low_water = \"24MiB\"\ncritical = \"12MiB\"\nballast = \"8MiB\"\ncache_high_water = \"28MiB\"";
const ALARMS: &str =
    "[alarms]\ninterval = \"500ms\"\ndestination_down_after = \"1s\"\nresolve_after = \"2s\"\ntimezone = \"UTC\"\n";
/// One beat of the modality: so many images of a mebibyte.
const BEAT: Duration = Duration::from_millis(500);
const IMAGES: usize = 4;
/// A last sample nearer to the end than this says more of the beat than of the estimate.
const NEAREST: f64 = 2.5;

/// Before the disk is unmounted the box must have ended.
struct Filling {
    station: Station,
    archive: Archive,
    _disk: Image,
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.station.kill();
    }
}

fn box_on_a_small_disk() -> Filling {
    let setup = Setup::new();
    let disk = Image::new(setup.path(), "disk-spool", "ext4", (224, &["-N", "20000"]));
    let inside = disk.mount.join("spool");
    fs::create_dir(&inside).expect("an empty file system");
    symlink(&inside, setup.folder_of("spool")).expect("writable");
    let archive = Archive::down(&setup.folder_of("vna-peer"));
    let station = setup
        .spool(MARKS)
        .rules(r#"fn route(image, from) { to("vna"); }"#)
        .archive("vna", archive.port, "")
        .toml(ALARMS)
        .start();
    Filling {
        station,
        archive,
        _disk: disk,
    }
}

fn beat() -> Vec<Object> {
    let mut beat = Object::many(objects::CT, IMAGES);
    for object in &mut beat {
        object.pixels = vec![7; 1 << 20];
    }
    beat
}

#[test]
fn the_time_until_the_disk_is_full_is_told_while_it_fills_and_is_true() {
    if let Err(why) = image::possible() {
        // As for the soaks: the rates themselves are tested without a disk.
        eprintln!("not staged: {why}");
        return;
    }
    let mut filling = box_on_a_small_disk();
    let (station, archive) = (&mut filling.station, &mut filling.archive);
    let full = |station: &Station| station.metric("spool_full_seconds", &[]);
    assert_eq!(full(station), f64::INFINITY, "nothing grows");

    // At a steady rate, until the first image is refused for want of room.
    let (port, folder) = (station.setup.dicom, station.setup.path().to_owned());
    let (began, mut told, mut words) = (Instant::now(), Vec::new(), String::new());
    let refused = loop {
        let next = Instant::now() + BEAT;
        if try_send(port, &folder, &beat()).code != Some(0) {
            break Instant::now();
        }
        assert!(began.elapsed() < SOON, "it is never full: {told:?}");
        told.push((Instant::now(), full(station)));
        if told.len() % 4 == 0 {
            words = station.cli(&["alarms", "ls"]).ok().out;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    };
    let estimates: Vec<(f64, f64)> = told
        .iter()
        .map(|(at, estimate)| ((refused - *at).as_secs_f64(), *estimate))
        .filter(|(truth, estimate)| *truth > NEAREST && estimate.is_finite())
        .collect();
    assert!(estimates.len() >= 4, "{estimates:?}");
    for (truth, estimate) in &estimates {
        let factor = estimate / truth;
        assert!((0.5..=2.0).contains(&factor), "{factor}: {estimates:?}");
    }
    println!("seconds until it was full, and as they were told: {estimates:.1?}");
    assert!(words.contains("at the present rate the disk has room for"), "{words}");
    assert!(words.contains("page"), "hours are not left: {words}");
    let opened = |station: &Station, kind: &str| station.metric("incidents_total", &[("kind", kind)]);
    assert_eq!(opened(station, "destination_down"), 1.0);
    assert_eq!(
        opened(station, "disk_fills"),
        0.0,
        "it is part of the outage's incident"
    );

    // The archive is back: everything is delivered, the incident ends, and the box takes images again.
    let acknowledged = station.metric("jobs_queued", &[]);
    archive.start();
    station.wait_drained(SOON);
    wait_until("the incident is over", SOON, || {
        station.metric("incidents_open", &[("kind", "destination_down")]) == 0.0
    });
    assert_eq!(opened(station, "destination_down"), 1.0, "once");
    wait_until("the disk is not filling any more", SOON, || {
        full(station) == f64::INFINITY
    });
    send(port, &folder, &beat()[..1]);
    #[allow(clippy::cast_precision_loss)]
    let stored = archive.stored().len() as f64;
    assert!(
        acknowledged >= 8.0 && stored >= acknowledged,
        "{stored} of {acknowledged}"
    );
}
