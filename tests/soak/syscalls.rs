//! A fault at the N-th durable system call, while two modalities send twenty instances. A box that has ended is started again
//! without faults, and must deliver everything.
//!
//! Writes are counted over all threads and to regular files only (`writes.rs`). Flushes, renames, unlinks and reads, which can
//! only be of files, are hit by strace, which kills the box or answers an error at the N-th call of one kind; there N counts the
//! calls of one thread (strace keeps a count for each), and the first thread that gets there is hit.
use crate::harness::rig::Rig;
use crate::harness::{http, tools};
use crate::writes::{self, Library};
use crate::{Order, Tally};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Each of the two modalities sends half of the script.
pub const EACH: usize = 10;
const FIRST: usize = 1;
const KILLED: [&str; 5] = ["fdatasync", "fsync", "rename", "renameat2", "unlink"];
const FAILING: [(&str, &str); 4] = [
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("renameat2", "EIO"),
    ("pread64", "EIO"),
];

/// Every point, or so many of them drawn by the seed when `order.count` is not 0.
pub fn soak(tally: &mut Tally, order: Order) {
    tools::program("strace");
    let counts = counts(order.seed);
    let library = Library::new();
    let mut points = Vec::new();
    for call in writes::CALLS {
        let count = library.count(order.seed, call);
        println!("{count} times {call} to a file in a script without faults");
        for (kind, _) in writes::KINDS {
            points.extend((1..=count).map(|n| (call, kind.to_owned(), n)));
        }
    }
    for call in KILLED {
        points.extend((1..=counts.get(call).copied().unwrap_or(0)).map(|n| (call, "signal=SIGKILL".to_owned(), n)));
    }
    for (call, error) in FAILING {
        points.extend((1..=counts.get(call).copied().unwrap_or(0)).map(|n| (call, format!("error={error}"), n)));
    }
    println!("{} points: most calls of one thread {counts:?}", points.len());
    if order.count > 0 {
        points.shuffle(&mut StdRng::seed_from_u64(order.seed));
        points.truncate(order.count);
    }
    tally.judge("the runtime's own descriptor fails", 1, || runtime_fails(order.seed));
    for (call, fault, n) in points {
        let kind = writes::KINDS.iter().find(|(kind, _)| *kind == fault);
        match kind {
            Some((kind, name)) => tally.judge(&format!("{call} {n}: {name}"), 1, || {
                library.point(order.seed, call, kind, n)
            }),
            None => tally.judge(&format!("{call}:{fault}:when={n}"), 1, || {
                point(order.seed, call, &format!("{fault}:when={n}"), None)
            }),
        }
    }
}

/// So many short writes, drawn by the seed.
pub fn short(tally: &mut Tally, order: Order) {
    let library = Library::new();
    let mut generator = StdRng::seed_from_u64(order.seed);
    for number in 0..order.count {
        let call = writes::CALLS[number % writes::CALLS.len()];
        let at = generator.random_range(1..60);
        tally.judge(&format!("{call} {at}: short write"), 1, || {
            library.point(order.seed, call, "short", at)
        });
    }
}

/// Every write fails but those to the log, the first to an event descriptor with which the runtime wakes itself: no fault of a
/// disk, but one that leaves a process without work. It must end, and its next life deliver.
fn runtime_fails(seed: u64) -> Result<String, String> {
    let mut rig = Rig::new(seed, None, |setup| setup);
    let trace = rig.station.setup.folder_of("strace");
    rig.station.start();
    rig.load(Some(EACH));
    let process = rig.station.pid().to_string();
    let mut command = Command::new(tools::program("strace"));
    command.args([
        "-f",
        "-qq",
        "-e",
        "signal=none",
        "-P",
        "anon_inode:[eventfd]",
        "-e",
        "trace=write",
    ]);
    command
        .args(["-e", "inject=write:error=ENOSPC", "-o"])
        .arg(&trace)
        .args(["-p", &process]);
    let mut tracer = tools::Owned(command.spawn().expect("strace starts"));
    let until = Instant::now() + Duration::from_secs(20);
    while rig.station.running() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    tracer.kill();
    if rig.station.running() {
        return Err(format!("it goes on without its runtime\n{}", rig.station.log_tail()));
    }
    if rig.station.wait_ended().success() {
        return Err("it ended as if all were well".to_owned());
    }
    rig.note_crash();
    rig.station.start();
    finish(&mut rig);
    rig.end_load();
    rig.verdict()
}

/// How often the busiest thread makes each call in a script without faults.
fn counts(seed: u64) -> BTreeMap<String, usize> {
    let mut rig = Rig::new(seed, None, |setup| setup);
    let trace = rig.station.setup.folder_of("strace");
    rig.station.setup.wrapper = strace(&trace, &[]);
    rig.station.start();
    rig.load(Some(EACH));
    finish(&mut rig);
    rig.verdict().expect("a script without faults");
    rig.station.kill();
    let mut threads: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (thread, call, _) in read(&trace) {
        *threads.entry((thread, call)).or_default() += 1;
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((_, call), count) in threads {
        let entry = most.entry(call).or_default();
        *entry = count.max(*entry);
    }
    most
}

/// Every flush of a thread that flushes for the first time after the start fails, once.
pub fn first_flushes(seed: u64, plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(seed, plant, |setup| setup);
    let trace = rig.station.setup.folder_of("strace");
    rig.station.start();
    let rule = format!("inject=fdatasync:error=EIO:when={FIRST}");
    let process = rig.station.pid().to_string();
    let mut command = Command::new(tools::program("strace"));
    command.args([
        "-f",
        "-qq",
        "-s",
        "0",
        "-e",
        "signal=none",
        "-e",
        "trace=fdatasync,fsync,close",
        "-e",
        &rule,
    ]);
    command.arg("-o").arg(&trace).args(["-p", &process]);
    let mut tracer = tools::Owned(command.spawn().expect("strace starts"));
    std::thread::sleep(Duration::from_millis(700));
    rig.load(Some(EACH));
    finish(&mut rig);
    rig.end_load();
    rig.station.wait_ready();
    let verdict = rig.verdict();
    tracer.kill();
    flushed_again(&trace)?;
    verdict
}

fn strace(trace: &Path, inject: &[String]) -> Vec<String> {
    let calls = "trace=pread64,fdatasync,fsync,rename,renameat2,unlink,close";
    // With -D the box keeps the process id that the harness knows.
    let mut words = vec![
        "strace",
        "-D",
        "-f",
        "-qq",
        "-s",
        "0",
        "-e",
        "signal=none",
        "-e",
        calls,
        "-o",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect::<Vec<_>>();
    words.push(trace.to_string_lossy().into_owned());
    for rule in inject {
        words.extend(["-e".to_owned(), format!("inject={rule}")]);
    }
    words
}

/// Thread, call and the whole line; the two halves of a call that another thread interrupted are put together.
fn read(trace: &Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    let (mut found, mut halves) = (Vec::new(), BTreeMap::new());
    for line in text.lines() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        let whole = match (rest.strip_suffix("<unfinished ...>"), rest.split_once("resumed>")) {
            (Some(half), _) => {
                halves.insert(thread.to_owned(), half.to_owned());
                continue;
            }
            (None, Some((_, end))) => halves.remove(thread).unwrap_or_default() + end,
            (None, None) => rest.to_owned(),
        };
        if let Some((call, _)) = whole.split_once('(') {
            found.push((thread.to_owned(), call.to_owned(), whole.clone()));
        }
    }
    found
}

/// Waits for the script's end; a box that has ended meanwhile starts again, without faults.
pub fn finish(rig: &mut Rig) {
    let until = Instant::now() + Duration::from_secs(60);
    while rig.loading() {
        if !rig.station.running() {
            restart(rig);
        }
        assert!(
            Instant::now() < until,
            "the script does not end\n{}",
            rig.station.log_tail()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    if !rig.station.running() {
        restart(rig);
    }
}

fn restart(rig: &mut Rig) {
    rig.crash();
    rig.station.setup.wrapper = Vec::new();
    rig.station.start();
}

pub fn point(seed: u64, call: &str, rule: &str, plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(seed, plant, |setup| setup);
    let trace = rig.station.setup.folder_of("strace");
    rig.station.setup.wrapper = strace(&trace, &[format!("{call}:{rule}")]);
    rig.station.launch();
    rig.load(Some(EACH));
    finish(&mut rig);
    rig.end_load();
    drained(&mut rig);
    if call == "pread64" {
        return unreadable(&mut rig);
    }
    let said = rig.verdict()?;
    flushed_again(&trace)?;
    Ok(said)
}

/// A fault may also hit while the queue drains.
pub fn drained(rig: &mut Rig) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if !rig.station.running() {
            restart(rig);
        }
        if let Some((200, body)) = http::get(rig.station.setup.web, "/metrics") {
            let scrape = http::Scrape::parse(String::from_utf8_lossy(&body).into_owned());
            let left = ["waystation_jobs_queued", "waystation_jobs_in_flight"].map(|name| scrape.sum(name, &[]));
            if left == [0.0, 0.0] {
                return;
            }
        }
        assert!(
            Instant::now() < until,
            "the queue does not drain\n{}",
            rig.station.log_tail()
        );
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// What could not be read is held for each destination that lacks it; everything else flows.
fn unreadable(rig: &mut Rig) -> Result<String, String> {
    let report = rig.report();
    let length = |name: &str| report[name].as_array().map_or(0, Vec::len);
    let missing = length("missing_at_archive") + length("missing_in_folder");
    let held = rig.station.metric("jobs_held", &[]);
    let words = format!("{missing} deliveries missing, {held} held");
    if missing as f64 <= held && length("damaged_at_archive") + length("damaged_in_folder") == 0 {
        Ok(words)
    } else {
        Err(format!("{words}: {report}"))
    }
}

/// A flush that failed is never tried again on the same file: the kernel calls the pages clean after the failure, and would
/// say yes. The descriptor must be closed first.
fn flushed_again(trace: &Path) -> Result<(), String> {
    let mut failed = BTreeSet::new();
    for (_, call, line) in read(trace) {
        let descriptor = || {
            line.split_once('(')
                .and_then(|(_, rest)| rest.split([',', ')', ' ']).next())
        };
        let Some(file) = descriptor().map(str::to_owned) else {
            continue;
        };
        match call.as_str() {
            "close" => {
                failed.remove(&file);
            }
            "fdatasync" | "fsync" if failed.contains(&file) => {
                return Err(format!("descriptor {file} was flushed again after a flush that failed"));
            }
            "fdatasync" | "fsync" if line.contains("EIO") => {
                failed.insert(file);
            }
            _ => {}
        }
    }
    Ok(())
}
