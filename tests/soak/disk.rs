//! A full disk, in bytes and in inodes, under load: filled to the brim at random moments, sometimes with a kill and a restart
//! while it is full, and emptied again. Modalities get A700 meanwhile, delivery goes on, and the box takes instances again
//! within ten seconds of the space coming back, without a restart. The index never meets the full disk.
use crate::harness::rig::Rig;
use crate::harness::wait_until;
use crate::image::{self, Image};
use crate::{Order, Tally};
use rand::Rng;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

const MARKS: &str = "low_water = \"24MiB\"\ncritical = \"12MiB\"\nballast = \"8MiB\"\ncache_high_water = \"40MiB\"";
/// Fills between two judgements.
const BATCH: usize = 4;

pub fn soak(tally: &mut Tally, order: Order) {
    if let Err(why) = image::possible() {
        return tally.judge("disk", 1, || Err(why));
    }
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count.div_ceil(2)).min(order.count - done);
        let seed = order.seed + done as u64;
        let inodes = (done / rounds) % 2 == 1;
        let what = if inodes { "inodes" } else { "bytes" };
        tally.judge(
            &format!("disk full in {what}, {rounds} fills, seed {seed}"),
            rounds,
            || batch(seed, rounds, inodes),
        );
        done += rounds;
    }
}

struct Full {
    rig: Rig,
    disk: Option<Image>,
}

impl Drop for Full {
    fn drop(&mut self) {
        self.rig.station.kill();
        self.disk = None;
    }
}

fn full(seed: u64, inodes: bool) -> Full {
    let mut disk = None;
    let rig = Rig::new(seed, None, |setup| {
        let more: &[&str] = if inodes { &["-N", "3000"] } else { &["-N", "20000"] };
        let made = Image::new(setup.path(), "disk-spool", "ext4", (160, more));
        let inside = made.mount.join("spool");
        fs::create_dir(&inside).expect("an empty file system");
        symlink(&inside, setup.folder_of("spool")).expect("writable");
        disk = Some(made);
        setup.spool(MARKS)
    });
    Full { rig, disk }
}

fn batch(seed: u64, rounds: usize, inodes: bool) -> Result<String, String> {
    let mut full = full(seed, inodes);
    let filler = full.rig.station.setup.folder_of("disk-spool").join("filler");
    let rig = &mut full.rig;
    rig.station.start();
    rig.load(None);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(200..1_500)));
        fill(&filler, inodes);
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(500..3_000)));
        if rig.generator.random_bool(0.4) {
            rig.crash();
            rig.station.launch();
            std::thread::sleep(Duration::from_millis(rig.generator.random_range(500..2_000)));
            if !rig.station.running() {
                return Err(format!("it does not start on a full disk\n{}", rig.station.log_tail()));
            }
        }
        empty(&filler);
        let web = rig.station.setup.web;
        wait_until("the box takes instances again", Duration::from_secs(10), || {
            matches!(crate::harness::http::get(web, "/readyz"), Some((200, _)))
        });
        if rig.station.metric("gate_errors_total", &[("kind", "index_write")]) > 0.0 {
            return Err("the index met the full disk".to_owned());
        }
    }
    rig.end_load();
    rig.verdict()
}

/// Until nothing goes in any more.
fn fill(filler: &Path, inodes: bool) {
    fs::create_dir_all(filler).expect("writable");
    if inodes {
        for number in 0.. {
            if File::create(filler.join(number.to_string())).is_err() {
                return;
            }
        }
    }
    let mut file = File::create(filler.join("bytes")).expect("an inode");
    for size in [1 << 20, 4 << 10] {
        let chunk = vec![1; size];
        while file.write_all(&chunk).is_ok() {}
    }
    // A flush of what does not fit fails too, and that is the point of it.
    drop(file.sync_all());
}

fn empty(filler: &Path) {
    fs::remove_dir_all(filler).expect("removable");
}
