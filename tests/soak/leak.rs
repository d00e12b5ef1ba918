//! A hundred thousand associations in a row against one process: opened, and then nothing, an echo, or half of an instance, then
//! released, aborted or cut off; the last tenth store an instance each. From a fifth to nine tenths of the way memory does not
//! grow; with what is stored the index's own buffers do, to their bound. Descriptors end where they were.
use crate::harness::objects::{Object, sha256};
use crate::harness::rig::{DRAIN, Rig};
use crate::wire::{self, Peer};
use crate::{Order, Tally};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const THREADS: usize = 8;
/// What the process may grow by between a fifth of the way and nine tenths: the allocator's pools move by some megabytes. A leak
/// of 100 bytes in each association would be 7 MB in 70,000.
const GROWTH_MAX: u64 = 6 << 20;
/// What the last tenth may take, which stores: the index keeps what is written last in memory (`spool/db.rs`: 64 MiB of tables
/// not yet written, 48 MiB of blocks).
const INDEX_MAX: u64 = (64 + 48) << 20;

pub fn soak(tally: &mut Tally, order: Order) {
    let name = format!("{} associations, seed {}", order.count, order.seed);
    tally.judge(&name, 1, || run(order.seed, order.count, None));
}

/// What the driver has seen.
struct Seen {
    journal: Mutex<File>,
    done: AtomicUsize,
    wrong: AtomicUsize,
}

/// Anonymous memory and open descriptors of the box.
fn measured(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the box runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the box runs")
        .count();
    (kib.expect("the kernel counts it") << 10, open)
}

pub fn run(seed: u64, count: usize, plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(seed, plant, |setup| setup);
    rig.station.start();
    let (pid, port) = (rig.station.pid(), rig.station.setup.dicom);
    let seen = Seen {
        journal: Mutex::new(File::create(rig.station.setup.folder_of("sent.jsonl")).expect("writable")),
        done: AtomicUsize::new(0),
        wrong: AtomicUsize::new(0),
    };
    let began = Instant::now();
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        let seen = &seen;
        let workers: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || {
                    let mut generator = StdRng::seed_from_u64(seed + number as u64);
                    let own = count / THREADS;
                    for turn in 0..own {
                        let stores = turn * 10 >= own * 9;
                        if one(&mut generator, (port, number as u8 + 1), stores, seen).is_err() {
                            seen.wrong.fetch_add(1, Ordering::Relaxed);
                        }
                        seen.done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            if seen.done.load(Ordering::Relaxed) * 10 >= count * (samples.len() + 1) {
                samples.push(measured(pid));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let rate = count as f64 / began.elapsed().as_secs_f64();
    // The last tenth came faster than the scripted archive takes it.
    rig.station
        .wait_drained(DRAIN * (3 + u32::try_from(count / 5_000).unwrap_or(u32::MAX - 3)));
    rig.station.wait_metric("associations_open", &[], |open| open == 0.0);
    samples.push(measured(pid));
    // Each a tenth; the last when all was delivered.
    let [_, early, .., quiet, _, end] = samples[..] else {
        return Err(format!("too few associations to measure: {samples:?}"));
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let numbers = format!(
        "{rate:.0} associations/s, memory {:.1} MiB at a fifth, {:.1} at nine tenths, {:.1} at the end; descriptors {}, {}, {}",
        mib(early.0),
        mib(quiet.0),
        mib(end.0),
        early.1,
        quiet.1,
        end.1
    );
    let wrong = seen.wrong.load(Ordering::Relaxed);
    if wrong > 0 {
        return Err(format!("{wrong} associations failed; {numbers}"));
    }
    let grown = quiet.0.saturating_sub(early.0);
    let indexed = end.0.saturating_sub(quiet.0);
    // At a fifth the eight associations of the moment were open, with a file each, and the pool of files made ahead was being
    // filled again; a leak of one descriptor for each association would be thousands.
    if grown > GROWTH_MAX || indexed > INDEX_MAX || end.1 > early.1 + 64 {
        return Err(format!("it grows: {numbers}"));
    }
    if !rig.station.running() || rig.station.pid() != pid {
        return Err("another process".to_owned());
    }
    Ok(format!("{numbers}; {}", rig.verdict()?))
}

fn one(generator: &mut StdRng, (port, from): (u16, u8), stores: bool, seen: &Seen) -> io::Result<()> {
    let what = if stores { 100 } else { generator.random_range(0..100) };
    if what < 5 {
        // Connected, and gone again without a request.
        return wire::connect(port, from).map(drop);
    }
    let mut peer = Peer::open(port, from)?;
    match what {
        5..50 => {}
        50..85 => answered(peer.echo()?)?,
        85..100 => {
            let object = small();
            peer.begin(&object.sop, &object.data())?;
            return match what {
                85..92 => peer.abort(),
                _ => Ok(()),
            };
        }
        _ => {
            let (object, note) = (small(), |event: &str, object: &Object, digest: &str| {
                let mut journal = seen.journal.lock().expect("no writer panics");
                let sop = &object.sop;
                writeln!(
                    journal,
                    r#"{{"event": "{event}", "sop": "{sop}", "sha256": "{digest}"}}"#
                )
            });
            let data = object.data();
            let digest = sha256(&data);
            note("attempt", &object, &digest)?;
            answered(peer.store(&object.sop, &data)?)?;
            note("acknowledged", &object, &digest)?;
        }
    }
    if generator.random_bool(0.3) {
        peer.abort()
    } else {
        peer.release()
    }
}

fn answered(status: u16) -> io::Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("answered {status:04X}")))
    }
}

fn small() -> Object {
    let mut object = Object::new(wire::CT);
    object.pixels.truncate(600);
    object
}
