//! The negative controls: a box with one planted fault each (`src/base/fault.rs`), and a flush that is believed. The soak named with
//! each must find the fault; a control that passes fails the suite, for then the soak is blind.
use crate::harness::objects::{self, Object};
use crate::harness::peers::{send, try_send};
use crate::harness::rig::Rig;
use crate::harness::{Archive, SOON, Setup};
use crate::{Tally, clock, corrupt, flush, image, kill, leak, power, readonly, syscalls};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Control = (&'static str, &'static str, fn(&str) -> Result<String, String>);

/// The fault, the soak that must see it, and a short run of that soak.
const CONTROLS: [Control; 19] = [
    ("skip-commit", "soak-kill", |plant| kill::batch(7, 2, Some(plant))),
    ("ack-before-commit", "soak-kill", |plant| {
        kill::batch(7, 30, Some(plant))
    }),
    ("unlink-early", "soak-kill", |plant| kill::batch(7, 2, Some(plant))),
    ("lose-due", "soak-kill", |plant| kill::batch(7, 1, Some(plant))),
    ("settle-wrong", "soak-kill", |plant| kill::batch(7, 4, Some(plant))),
    ("skip-index-sync", "soak-power", |plant| {
        power::batch(7, "ext4", 6, Some(plant))
    }),
    ("skip-payload-sync", "soak-power", |plant| {
        power::batch(7, "ext4", 6, Some(plant))
    }),
    ("skip-directory-sync", "soak-power", |plant| {
        power::batch(7, "ext4", 20, Some(plant))
    }),
    ("retry-fsync", "soak-syscalls", |plant| {
        syscalls::first_flushes(7, Some(plant))
    }),
    ("last-flag-on-abort", "soak-corrupt", corrupt::payload_flip),
    ("ignore-status", "refusals", |plant| refusals(Some(plant))),
    ("drop-hold", "refusals", |plant| refusals(Some(plant))),
    ("overwrite-duplicate", "contents", |plant| contents(Some(plant))),
    ("edit-twice", "edits", |plant| edits(Some(plant))),
    ("swallow-panics", "panics", |plant| {
        panics(Some(&format!("{plant},panic-lane")))
    }),
    ("leak-associations", "soak-leak", |plant| {
        leak::run(7, 5_000, Some(plant))
    }),
    ("wait-for-clock", "soak-clock", |plant| {
        clock::run(7, &["+0", "-9h"], Some(plant))
    }),
    ("a flush that is believed", "soak-flush", |_| {
        flush::run(7, 20, flush::Believe::Flushes)
    }),
    ("forget-home", "soak-readonly", |plant| readonly::run(7, 1, Some(plant))),
];

pub fn soak(tally: &mut Tally) {
    if let Err(why) = image::possible() {
        return tally.judge("controls", 1, || Err(why));
    }
    // What has no soak of its own must at least be silent about a box without faults.
    for (name, clean) in [
        ("refusals", refusals as fn(Option<&str>) -> Result<String, String>),
        ("contents", contents),
        ("edits", edits),
        ("panics", panics),
        ("first flushes fail", |plant| syscalls::first_flushes(7, plant)),
    ] {
        tally.judge(&format!("{name} without a fault"), 1, || clean(None));
    }
    for (plant, by, run) in CONTROLS {
        tally.judge(&format!("{plant} is found by {by}"), 1, || {
            match catch_unwind(AssertUnwindSafe(|| run(plant))) {
                Ok(Ok(said)) => Err(format!("the fault was not seen: {said}")),
                Ok(Err(seen)) => Ok(first_line(&seen)),
                Err(panic) => Ok(panic
                    .downcast_ref::<String>()
                    .map_or_else(String::new, |text| first_line(text))),
            }
        });
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}

/// An archive that refuses each instance: every one of them is held, and none is called delivered.
fn refusals(plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(11, plant, |setup| setup);
    rig.archive
        .behave(serde_json::json!({"mode": "status", "status": 0xC000}));
    rig.station.start();
    rig.load(Some(5));
    rig.end_load();
    rig.station.wait_drained(SOON);
    let missing = rig.report()["missing_at_archive"].as_array().map_or(0, Vec::len);
    let held = rig.station.metric("jobs_held", &[]);
    if missing == 10 && held == 10.0 {
        Ok(format!("{missing} refused, {held} held"))
    } else {
        Err(format!("{missing} refused, but {held} held"))
    }
}

/// Two contents under one UID: both are kept; the first is delivered, the second held.
fn contents(plant: Option<&str>) -> Result<String, String> {
    let setup = Setup::new();
    let mut archive = Archive::up(&setup.folder_of("vna-peer"));
    archive.stop();
    let mut setup = setup.rules(r#"fn route(image, from) { to("vna"); }"#);
    if let Some(plant) = plant {
        setup = setup.environment("WAYSTATION_PLANT", plant);
    }
    let station = setup.archive("vna", archive.port, "").start();
    let first = Object::new(objects::CT);
    let mut second = first.clone();
    second.pixels[0] ^= 1;
    send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&first));
    try_send(station.setup.dicom, station.setup.path(), &[second]);
    archive.start();
    archive.wait_stored(1);
    station.wait_drained(SOON);
    let digest = objects::sha256(&first.data());
    let found: Vec<_> = archive
        .events("stored")
        .iter()
        .map(|line| line["sha256"].clone())
        .collect();
    let held = station.metric("jobs_held", &[]);
    if found == [serde_json::json!(digest)] && held == 1.0 {
        Ok("the first was delivered, the second is held".to_owned())
    } else {
        Err(format!(
            "{} delivered, {held} held, and not the first content",
            found.len()
        ))
    }
}

/// A lane that panics ends the process, with a code that makes the service manager start it again.
fn panics(plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(7, Some(plant.unwrap_or("panic-lane")), |setup| setup);
    rig.station.launch();
    rig.load(None);
    let until = std::time::Instant::now() + SOON;
    while rig.station.running() && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    if rig.station.running() {
        return Err("a box whose lane has panicked runs and delivers nothing".to_owned());
    }
    let ended = rig.station.wait_ended();
    if ended.success() {
        return Err("it ended as if all were well".to_owned());
    }
    rig.note_crash();
    rig.station.setup.plant("");
    rig.station.start();
    // The lane may have panicked before the first modality had its answer.
    rig.wait_acknowledged(1)?;
    rig.end_load();
    rig.verdict()
}

/// An edited instance carries one item of Modified Attributes and no more.
fn edits(plant: Option<&str>) -> Result<String, String> {
    let mut setup = Setup::new()
        .rules(r#"fn morph(image, from) { image.PatientID = "EDITED"; } fn route(image, from) { to("keep"); }"#)
        .folder("keep");
    if let Some(plant) = plant {
        setup = setup.environment("WAYSTATION_PLANT", plant);
    }
    let station = setup.start();
    let object = Object::new(objects::CT);
    send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&object));
    station.wait_drained(SOON);
    let found = station.folder("keep");
    let data = found.get(&object.sop).and_then(|copies| copies.first());
    let data = data.ok_or("nothing was delivered")?;
    let modified = data
        .windows(4)
        .filter(|bytes| *bytes == [0x00, 0x04, 0x50, 0x05])
        .count();
    let edited = data.windows(6).filter(|bytes| bytes == b"EDITED").count();
    if modified == 1 && edited == 1 {
        Ok("one Modified Attributes Sequence".to_owned())
    } else {
        Err(format!(
            "{modified} Modified Attributes Sequences, {edited} edited values"
        ))
    }
}
