//! Whether the answer of a flush can be believed: a program that does nothing but append and flush, on a disk that begins to
//! fail. Not the box is judged here, but the one thing it relies on (`waystation::base::flushed::confirm`): what was flushed and confirmed
//! is there when the disk is mounted anew. What was flushed and not confirmed is counted: it shows that the kernel does answer
//! flushes with success whose bytes are gone then.
use crate::failing::{self, FailingDisk};
use crate::{Order, Tally};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Disks between two judgements.
const BATCH: usize = 10;
const WRITERS: usize = 6;
/// Files that a writer begins, each after an error of the one before.
const LIVES: usize = 3;
const SHARE: f64 = 0.3;

/// What a writer takes for the disk's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Believe {
    Flushes,
    /// As the box does.
    Confirmations,
}

pub fn soak(tally: &mut Tally, order: Order) {
    if let Err(why) = failing::possible() {
        return tally.judge("flush", 1, || Err(why));
    }
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        tally.judge(&format!("flushes, {rounds} disks, seed {seed}"), rounds, || {
            run(seed, rounds, Believe::Confirmations)
        });
        done += rounds;
    }
}

/// Records of one file: how many were flushed, and how many of these, from the first on, are taken for durable.
struct Written {
    name: String,
    flushed: usize,
    durable: usize,
}

pub fn run(seed: u64, rounds: usize, believe: Believe) -> Result<String, String> {
    let (mut flushed, mut gone, mut disks, mut lost) = (0, 0, 0, Vec::new());
    for round in 0..rounds as u64 {
        let seed = seed + round;
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = FailingDisk::new(folder.path(), seed);
        let written = fail_under_writers(&disk, seed, believe);
        disk.remount();
        let before = gone;
        for file in written {
            let there = records(&disk.mount().join(&file.name));
            flushed += file.flushed;
            gone += file.flushed.saturating_sub(there);
            if there < file.durable {
                lost.push(format!("seed {seed}, {}: {there} of {}", file.name, file.durable));
            }
        }
        disks += usize::from(gone > before);
    }
    let words = format!("{flushed} flushes, {gone} gone, on {disks} of {rounds} disks");
    if lost.is_empty() {
        Ok(words)
    } else {
        Err(format!(
            "what was taken for durable is gone: {}; {words}",
            lost.join("; ")
        ))
    }
}

/// Writers that are under way when the disk begins to fail, until each has met its last error or a second is over.
fn fail_under_writers(disk: &FailingDisk, seed: u64, believe: Believe) -> Vec<Written> {
    let mut generator = StdRng::seed_from_u64(seed);
    let (stop, mount) = (AtomicBool::new(false), disk.mount());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let (stop, mount) = (&stop, &mount);
                    move || {
                        (0..LIVES)
                            .map(|life| write(mount, &format!("{writer}-{life}"), believe, stop))
                            .collect::<Vec<_>>()
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(generator.random_range(200..600)));
        disk.fail("write", SHARE);
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let written = writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("no panic"))
            .collect();
        disk.mend("write");
        written
    })
}

/// Appends and flushes until an error, or until it is told to stop.
fn write(mount: &Path, name: &str, believe: Believe, stop: &AtomicBool) -> Written {
    let mut written = Written {
        name: name.to_owned(),
        flushed: 0,
        durable: 0,
    };
    let opened = File::create(mount.join(name)).and_then(|file| Ok((file, File::open(mount)?)));
    let Ok((mut file, home)) = opened else {
        return written;
    };
    while !stop.load(Ordering::Relaxed) {
        let next = record(written.flushed);
        if file.write_all(&next).and_then(|()| file.sync_data()).is_err() {
            break;
        }
        written.flushed += 1;
        if believe == Believe::Confirmations && waystation::base::flushed::confirm(&home).is_err() {
            break;
        }
        written.durable = written.flushed;
    }
    written
}

/// The `number`-th record of a file: its number, over and over.
fn record(number: usize) -> Vec<u8> {
    (number as u64).to_le_bytes().repeat(40 + number * 7_919 % 1_000)
}

/// How many whole records a file begins with.
fn records(path: &Path) -> usize {
    let data = fs::read(path).unwrap_or_default();
    let (mut rest, mut number) = (data.as_slice(), 0);
    while let Some(next) = rest.strip_prefix(record(number).as_slice()) {
        (rest, number) = (next, number + 1);
    }
    number
}
