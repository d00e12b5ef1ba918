//! A dying disk: the block device below the spool answers EIO to reads, writes or flushes, to all of them or to some, for a
//! second or two under load. The box refuses, ends or holds what it cannot read, and is started again as a service manager would;
//! when the disk works again (mounted anew where the file system had given up), everything acknowledged is delivered.
use crate::failing::{self, FailingDisk};
use crate::harness::http;
use crate::harness::rig::{DRAIN, Rig};
use crate::{Order, Tally};
use rand::Rng;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

const KINDS: [&str; 3] = ["write", "flush", "read"];

pub fn soak(tally: &mut Tally, order: Order) {
    if let Err(why) = failing::possible() {
        return tally.judge("io", 1, || Err(why));
    }
    for number in 0..order.count {
        let seed = order.seed + number as u64;
        let kind = KINDS[number % KINDS.len()];
        let share = if (number / KINDS.len()).is_multiple_of(2) {
            1.0
        } else {
            0.3
        };
        tally.judge(&format!("EIO to {kind}, share {share}, seed {seed}"), 1, || {
            run(seed, kind, share)
        });
    }
}

/// The box's process must be gone before its disk.
struct Dying {
    rig: Rig,
    disk: Option<FailingDisk>,
}

impl Drop for Dying {
    fn drop(&mut self) {
        self.rig.station.kill();
        self.disk = None;
    }
}

fn run(seed: u64, kind: &str, share: f64) -> Result<String, String> {
    let mut disk = None;
    let rig = Rig::new(seed, None, |setup| {
        let made = FailingDisk::new(&setup.folder_of("disk"), seed);
        std::fs::create_dir(made.mount().join("spool")).expect("an empty file system");
        symlink(made.mount().join("spool"), setup.folder_of("spool")).expect("writable");
        disk = Some(made);
        setup
    });
    let mut dying = Dying { rig, disk };
    let Dying { rig, disk } = &mut dying;
    let disk = disk.as_mut().expect("made above");
    rig.station.start();
    if kind == "read" {
        // Something to read that no cache holds.
        rig.archive.stop();
        rig.load(None);
        rig.wait_acknowledged(30)?;
        rig.end_load();
        rig.crash();
        disk.remount();
        rig.station.start();
    }
    rig.load(None);
    std::thread::sleep(Duration::from_millis(rig.generator.random_range(200..1_000)));
    disk.fail(kind, share);
    if kind == "read" {
        rig.archive.start();
    }
    let span = Duration::from_millis(rig.generator.random_range(800..2_500));
    let mut restarts = rig.supervise(span);
    let failed = disk.mend(kind);
    let (more, way) = recovered(rig, disk)?;
    restarts += more;
    rig.end_load();
    rig.station.wait_drained(DRAIN);
    let held = rig.station.metric("jobs_held", &[]);
    if held > 0.0 {
        // What could not be read was held, each with its reason. The disk reads again: a person lets them go.
        let released = rig.station.cli(&["queue", "release", "--all"]);
        if released.code != Some(0) {
            return Err(format!("release: {}{}", released.out, released.err));
        }
    }
    let numbers = format!("{failed} requests failed, {restarts} restarts, {way}, {held} held and released");
    let said = if way == REBUILT { whole(rig) } else { rig.verdict() };
    let said = said.map_err(|wrong| format!("{wrong}\n{numbers}"))?;
    if failed == 0 {
        return Err(format!("no request failed: {said}"));
    }
    Ok(format!("{numbers}; {said}"))
}

const REBUILT: &str = "remounted and rebuilt";

/// A rebuild has the rules decide anew and may deliver twice; nothing else may be wrong.
fn whole(rig: &mut Rig) -> Result<String, String> {
    rig.station.wait_drained(DRAIN);
    let report = rig.report();
    let lists = [
        "missing_at_archive",
        "missing_in_folder",
        "damaged_at_archive",
        "damaged_in_folder",
    ];
    if lists.iter().all(|name| report[name] == serde_json::json!([])) {
        Ok(format!(
            "{} acknowledged, answers {}",
            report["acknowledged"], report["answers"]
        ))
    } else {
        Err(report.to_string())
    }
}

/// The box is ready again: by itself, or after its file system was mounted anew, or when a person has also done what it asks for.
fn recovered(rig: &mut Rig, disk: &mut FailingDisk) -> Result<(usize, &'static str), String> {
    let mut restarts = 0;
    let ready = |rig: &Rig| matches!(http::get(rig.station.setup.web, "/readyz"), Some((200, _)));
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        restarts += rig.supervise(Duration::from_millis(300));
        if ready(rig) && rig.station.running() {
            return Ok((restarts, "recovered by itself"));
        }
    }
    rig.crash();
    disk.remount();
    rig.station.launch();
    let until = Instant::now() + DRAIN;
    while rig.station.running() && !ready(rig) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    if rig.station.running() {
        rig.station.wait_ready();
        return Ok((restarts, "remounted"));
    }
    let log = rig.station.log_tail();
    if !log.lines().last().is_some_and(|line| line.contains("spool rebuild")) {
        return Err(format!("it ended without a way out\n{log}"));
    }
    let rebuilt = rig.station.cli(&["spool", "rebuild"]);
    if rebuilt.code != Some(0) {
        return Err(format!("rebuild: {}{}", rebuilt.out, rebuilt.err));
    }
    rig.note_crash();
    rig.station.start();
    Ok((restarts, REBUILT))
}
