//! Out of memory, under load with long objects: the box runs in a control group whose limit is drawn down to what it needs at that
//! moment and a little more, again and again, until the kernel ends it. It is started again, and nothing is lost.
use crate::harness::rig::Rig;
use crate::harness::tools;
use crate::{Order, Tally};
use rand::Rng;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Limits between two judgements.
const BATCH: usize = 5;

pub fn soak(tally: &mut Tally, order: Order) {
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        tally.judge(&format!("memory, {rounds} limits, seed {seed}"), rounds, || {
            run(seed, rounds)
        });
        done += rounds;
    }
}

/// A memory control group of version 1 or 2, made for one box.
struct Group {
    path: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Group {
    fn new() -> Result<Self, String> {
        let name = format!("waystation-soak-{}", std::process::id());
        let mut why = String::new();
        for (root, limit, usage) in [
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ] {
            let path = Path::new(root).join(&name);
            match fs::create_dir(&path) {
                Ok(()) if path.join(limit).exists() => return Ok(Self { path, limit, usage }),
                Ok(()) => drop(fs::remove_dir(&path)),
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!("no memory control group can be made (root is needed): {why}"))
    }

    /// Answers whether the limit is in force: version 1 refuses one that it cannot reach by giving back caches.
    fn set(&self, limit: Option<u64>) -> bool {
        let none = if self.limit == "memory.max" { "max" } else { "-1" };
        let text = limit.map_or_else(|| none.to_owned(), |bytes| bytes.to_string());
        fs::write(self.path.join(self.limit), text).is_ok()
    }

    /// The lowest limit that can be had, and so much above it.
    fn squeeze(&self, room: u64) {
        let mut limit = self.used();
        while limit > 4 << 20 && self.set(Some(limit)) {
            limit -= 256 << 10;
        }
        self.set(Some(limit + room));
    }

    fn used(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.usage)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Every process that starts from here is in it.
    fn wrapper(&self) -> Vec<String> {
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        ["sh", "-c", &join, "sh"].map(str::to_owned).into()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn run(seed: u64, rounds: usize) -> Result<String, String> {
    let group = Group::new()?;
    // Dropped before the group: a group with a process in it stays.
    let mut rig = Rig::new(seed, None, |mut setup| {
        setup.wrapper = group.wrapper();
        setup
    });
    rig.station.start();
    rig.load(None);
    let mut killed = 0;
    for _ in 0..rounds {
        let port = rig.station.setup.dicom.to_string();
        let mebibytes = rig.generator.random_range(8..64).to_string();
        let journal = rig.station.setup.folder_of("sent.jsonl");
        let journal = journal.to_string_lossy();
        let words = ["long", &port, "WAYSTATION", "CT1", &mebibytes, "12", &journal].map(str::to_owned);
        let sender = tools::python_serving("modality.py", &words);
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(100..600)));
        let until = Instant::now() + Duration::from_millis(rig.generator.random_range(1_500..3_000));
        while Instant::now() < until && rig.station.running() {
            group.squeeze(rig.generator.random_range(0..4 << 20));
            std::thread::sleep(Duration::from_millis(200));
        }
        if !rig.station.running() {
            killed += 1;
        }
        group.set(None);
        rig.supervise(Duration::from_millis(500));
        rig.station.wait_ready();
        drop(sender);
    }
    rig.end_load();
    if killed == 0 {
        return Err("no limit was low enough to show anything".to_owned());
    }
    Ok(format!("{killed} killed by the kernel; {}", rig.verdict()?))
}
