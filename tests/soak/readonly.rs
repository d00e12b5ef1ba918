//! The spool's file system turns read-only under load, as ext4 does by itself after an error of its disk
//! (`errors=remount-ro`). Nothing is acknowledged from then on, readiness says why or the process ends in words, and it does
//! not start on such a disk. Mounted writable again, everything acknowledged is delivered. A spool whose disk is not mounted is
//! not begun anew in the empty directory below the mount point.
//!
//! A plain `mount -o remount,ro` is not possible while the box runs: the kernel refuses it as long as files are open for
//! writing, and the index always has one.
use crate::harness::rig::Rig;
use crate::harness::{http, wait_until};
use crate::image::{self, Image};
use crate::{Order, Tally};
use rand::Rng;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// Times between two judgements.
const BATCH: usize = 3;

pub fn soak(tally: &mut Tally, order: Order) {
    if let Err(why) = image::possible() {
        return tally.judge("read-only", 1, || Err(why));
    }
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        tally.judge(&format!("read-only, {rounds} times, seed {seed}"), rounds, || {
            run(seed, rounds, None)
        });
        done += rounds;
    }
}

/// The box's process must be gone before its disk.
struct Mounted {
    rig: Rig,
    disk: Option<Image>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.rig.station.kill();
        self.disk = None;
    }
}

pub fn run(seed: u64, rounds: usize, plant: Option<&str>) -> Result<String, String> {
    let mut disk = None;
    let rig = Rig::new(seed, plant, |setup| {
        let made = Image::with_options(setup.path(), "disk-spool", "errors=remount-ro");
        symlink(made.mount.join("spool"), setup.folder_of("spool")).expect("writable");
        std::fs::create_dir(made.mount.join("spool")).expect("an empty file system");
        disk = Some(made);
        setup
    });
    let mut mounted = Mounted { rig, disk };
    let Mounted { rig, disk } = &mut mounted;
    let disk = disk.as_ref().expect("made above");
    rig.station.start();
    rig.load(None);
    let (mut ended, mut red) = (0, 0);
    for _ in 0..rounds {
        let before = rig.acknowledged();
        rig.wait_acknowledged(before + 3)?;
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(50..800)));
        disk.break_read_only();
        let web = rig.station.setup.web;
        wait_until("readiness is red or the box has ended", Duration::from_secs(10), || {
            !matches!(http::get(web, "/readyz"), Some((200, _)))
        });
        // What was being acknowledged when the disk turned may still be written down by its modality.
        std::thread::sleep(Duration::from_millis(300));
        let before = rig.acknowledged();
        std::thread::sleep(Duration::from_millis(700));
        if rig.acknowledged() != before {
            return Err("instances are acknowledged on a read-only disk".to_owned());
        }
        if rig.station.running() {
            red += 1;
            rig.crash();
        } else {
            ended += 1;
            rig.note_crash();
            says(rig, "the spool failed")?;
        }
        // It does not start on such a disk, and says why.
        rig.station.launch();
        let refused = rig.station.wait_ended();
        if refused.success() {
            return Err(format!("it started on a read-only disk: {refused}"));
        }
        says(rig, "Read-only file system")?;
        disk.restore();
        rig.station.start();
    }
    unmounted(rig, disk)?;
    rig.end_load();
    Ok(format!("{ended} ended, {red} red; {}", rig.verdict()?))
}

fn says(rig: &Rig, words: &str) -> Result<(), String> {
    let tail = rig.station.log_tail();
    if tail.contains(words) {
        Ok(())
    } else {
        Err(format!("it does not say `{words}`:\n{tail}"))
    }
}

/// Without its disk the box must not begin a spool in the directory that is left.
fn unmounted(rig: &mut Rig, disk: &Image) -> Result<(), String> {
    rig.crash();
    disk.without(|mount| {
        std::fs::create_dir(mount.join("spool")).expect("an empty mount point");
        rig.station.launch();
        let until = Instant::now() + Duration::from_secs(10);
        while rig.station.running() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        if rig.station.running() {
            rig.station.kill();
            return Err("it began a spool beside its disk".to_owned());
        }
        let refused = rig.station.wait_ended();
        let begun = std::fs::read_dir(mount.join("spool")).expect("readable").count();
        std::fs::remove_dir_all(mount.join("spool")).expect("removable");
        if refused.success() || begun > 0 {
            return Err(format!("it began a spool beside its disk: {refused}, {begun} entries"));
        }
        says(rig, "is its disk mounted?")
    })?;
    rig.station.start();
    Ok(())
}
