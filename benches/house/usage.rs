//! What a process and its children cost: processor time and memory, as the kernel counts them.
use std::fs;
use std::path::Path;

/// Clock ticks in a second, as proc(5) counts: the kernel has shown 100 to user space on every machine since 2.6.
const TICKS: f64 = 100.0;

/// Seconds of processor time of a process and all its children, those that have ended and were waited for included.
pub fn cpu(pid: u32) -> f64 {
    tree(pid).iter().map(|&pid| ticks_of(pid, 4)).sum::<u64>() as f64 / TICKS
}

/// Anonymous and shared memory of a process and its children, in bytes. What is mapped from files, and the page cache, is
/// the system's to take back.
pub fn memory(pid: u32) -> u64 {
    tree(pid).iter().map(|&pid| resident(pid)).sum()
}

/// Processor time of this process and its threads, without that of the peers that it has started.
pub fn own_cpu() -> f64 {
    ticks_of(std::process::id(), 2) as f64 / TICKS
}

/// A process and, below it, what it started.
fn tree(pid: u32) -> Vec<u32> {
    let (mut found, mut next) = (vec![pid], 0);
    while next < found.len() && found.len() < 1_000 {
        let pid = found[next];
        next += 1;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    found
}

/// User and system time, with those of children that were waited for: fields 14 to 17 of proc(5).
fn ticks_of(pid: u32, fields: usize) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let times = behind.split_whitespace().skip(11).take(fields);
    times.filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (kib("RssAnon:").unwrap_or(0) + kib("RssShmem:").unwrap_or(0)) << 10
}

/// Bytes free on the file system of a path.
pub fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
