//! Power cuts under load: spool and folder destination on file systems of their own, shut down without a flush at random
//! moments, mounted again, the box started again. ext4 and xfs in turn, or the one that KIND names.
use crate::harness::rig::Rig;
use crate::image::{self, Image};
use crate::{Order, Tally};
use rand::Rng;
use std::os::unix::fs::symlink;
use std::time::Duration;

/// Cuts between two judgements; each batch has fresh file systems.
const BATCH: usize = 20;

pub fn soak(tally: &mut Tally, order: Order) {
    if let Err(why) = image::possible() {
        return tally.judge("power", 1, || Err(why));
    }
    let kinds = match std::env::var("KIND") {
        Ok(kind) if !kind.is_empty() => vec![kind],
        _ => vec!["ext4".to_owned(), "xfs".to_owned()],
    };
    let (mut done, mut batches) = (0, 0);
    while done < order.count {
        let share = order.count.div_ceil(kinds.len());
        let rounds = BATCH.min(share).min(order.count - done);
        let (seed, kind) = (order.seed + done as u64, &kinds[batches % kinds.len()]);
        tally.judge(&format!("power on {kind}, {rounds} cuts, seed {seed}"), rounds, || {
            batch(seed, kind, rounds, None)
        });
        done += rounds;
        batches += 1;
    }
}

/// The box's process must be gone before its disks, and its directory after them.
struct Powered {
    rig: Rig,
    disks: Vec<Image>,
}

impl Drop for Powered {
    fn drop(&mut self) {
        self.rig.station.kill();
        self.disks.clear();
    }
}

fn powered(seed: u64, kind: &str, plant: Option<&str>) -> Powered {
    let mut disks = Vec::new();
    let rig = Rig::new(seed, plant, |setup| {
        for (name, link) in [("disk-spool", "spool"), ("disk-keep", "keep")] {
            let disk = Image::new(setup.path(), name, kind, (700, &[]));
            let inside = disk.mount.join(link);
            std::fs::create_dir(&inside).expect("an empty file system");
            std::fs::File::open(&disk.mount)
                .and_then(|folder| folder.sync_all())
                .expect("flushed");
            symlink(&inside, setup.folder_of(link)).expect("writable");
            disks.push(disk);
        }
        setup
    });
    Powered { rig, disks }
}

pub fn batch(seed: u64, kind: &str, rounds: usize, plant: Option<&str>) -> Result<String, String> {
    let mut powered = powered(seed, kind, plant);
    powered.rig.station.start();
    powered.rig.load(None);
    for round in 0..rounds {
        let rig = &mut powered.rig;
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(50..500)));
        // Every other time the processor stops first, as it does without power. Else it goes on for a moment beside disks that are
        // gone, where the kernel answers a flush that the shutdown overtakes with success: nothing may be acknowledged on that.
        if round % 2 == 0 {
            rig.station.signal(rustix::process::Signal::STOP);
            std::thread::sleep(Duration::from_millis(5));
        }
        for disk in &powered.disks {
            disk.cut();
        }
        rig.crash();
        for disk in &powered.disks {
            disk.restore();
        }
        rig.station.start();
    }
    powered.rig.end_load();
    powered.rig.verdict()
}
