//! Each kind of file of a spool, damaged in five ways while the box is down. The box comes up by itself, or its service manager
//! starts it again (a marker that is damaged is the one exception: it is refused in words). Whatever was acknowledged is
//! afterwards delivered whole, or its job is held, or it lies named in quarantine: never silently fewer; and a salvage has
//! left a report that is open until somebody reads it.
use crate::harness::rig::Rig;
use crate::harness::{Setup, objects};
use crate::{Order, Tally};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EACH: usize = 5;
const DAMAGES: [&str; 5] = ["flip", "truncate", "delete", "zero", "junk"];

/// A kind of file: where, how its name begins and ends, and whether an instance's own bytes are in it.
struct Kind {
    name: &'static str,
    folder: &'static str,
    begins: &'static str,
    ends: &'static str,
    payload: bool,
}

const fn index(name: &'static str, begins: &'static str, ends: &'static str) -> Kind {
    Kind {
        name,
        folder: "index",
        begins,
        ends,
        payload: false,
    }
}

const fn beside(name: &'static str, begins: &'static str) -> Kind {
    Kind {
        name,
        folder: "",
        begins,
        ends: "",
        payload: false,
    }
}

const KINDS: [Kind; 10] = [
    index("log", "", ".log"),
    index("table", "", ".sst"),
    index("manifest", "MANIFEST-", ""),
    index("current", "CURRENT", ""),
    index("options", "OPTIONS-", ""),
    index("identity", "IDENTITY", ""),
    Kind {
        name: "payload",
        folder: "payload",
        begins: "",
        ends: ".dcm",
        payload: true,
    },
    beside("marker", "waystation-spool"),
    beside("witness", "witness"),
    beside("orders", "orders"),
];

/// Generous: the machine may be busy with other things.
const READY: Duration = Duration::from_secs(120);
/// As other tests have it, and nobody reads payloads but who sends them.
const UNSCRUBBED: &str = "low_water = \"64MiB\"\ncritical = \"32MiB\"\nballast = \"4MiB\"\ncache_high_water = \"128MiB\"\nscrub_rate = \"0B\"";
/// Starts of a service manager, after which it would give up.
const STARTS: usize = 3;

/// Every case, or so many of them drawn by the seed when `order.count` is not 0; more than there are come at further seeds.
pub fn soak(tally: &mut Tally, order: Order) {
    let mut cases: Vec<(&Kind, &str)> = KINDS.iter().flat_map(|kind| DAMAGES.map(|how| (kind, how))).collect();
    if order.count > 0 {
        cases.shuffle(&mut StdRng::seed_from_u64(order.seed));
        cases = cases.into_iter().cycle().take(order.count).collect();
    }
    for (number, (kind, how)) in cases.into_iter().enumerate() {
        let seed = order.seed + number as u64;
        tally.judge(&format!("{} {how}, seed {seed}", kind.name), 1, || {
            case(seed, kind, how, None)
        });
    }
}

/// A flip may hit what stands before the data set: some more are tried then.
pub fn payload_flip(plant: &str) -> Result<String, String> {
    let kind = KINDS.iter().find(|kind| kind.payload).expect("it is in the table");
    for seed in 3..8 {
        case(seed, kind, "flip", Some(plant))?;
    }
    Ok("five flips".to_owned())
}

fn case(seed: u64, kind: &Kind, how: &str, plant: Option<&str>) -> Result<String, String> {
    // A scrub might find the damage first; a planted fault is in the sending.
    let plain = |setup: Setup| match plant {
        Some(_) => setup.spool(UNSCRUBBED),
        None => setup,
    };
    let mut rig = Rig::new(seed, plant, plain);
    rig.archive.stop();
    // The first life ends in a kill, so that the second has tables; the log of the second is alive.
    for _ in 0..2 {
        rig.station.start();
        rig.load(Some(EACH));
        while rig.loading() {
            std::thread::sleep(Duration::from_millis(20));
        }
        rig.end_load();
        rig.crash();
    }
    let spool = rig.station.setup.spool_path();
    let files = match kind.folder {
        // Its own files, not those of all folders below.
        "" => KINDS
            .iter()
            .map(|kind| spool.join(kind.begins))
            .filter(|path| path.is_file())
            .collect(),
        folder => objects::files_in(&spool.join(folder)),
    };
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let long = fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
        name.starts_with(kind.begins) && name.ends_with(kind.ends) && long
    };
    let files: Vec<PathBuf> = files.into_iter().filter(wanted).collect();
    // A short payload is verified before its command goes out, so that a fault at the data set's end shows in long ones only.
    let longest = || {
        files
            .iter()
            .max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len()))
    };
    let any = rig.generator.random_range(0..files.len().max(1));
    let victim = match plant {
        Some(_) => longest().ok_or("no such file")?,
        None => files.get(any).ok_or("no such file")?,
    };
    damage(victim, how, &mut rig.generator);
    rig.archive.start();
    let salvaged = revive(&mut rig)?;
    after(&mut rig, kind, how, salvaged)
}

fn damage(file: &Path, how: &str, generator: &mut StdRng) {
    let mut bytes = fs::read(file).expect("readable");
    let at = generator.random_range(0..bytes.len());
    match how {
        "delete" => return fs::remove_file(file).expect("removable"),
        "flip" => bytes[at] ^= 1 << generator.random_range(0..8),
        "truncate" => bytes.truncate(at),
        "zero" => {
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
        }
        _ => {
            let end = bytes.len().min(at + 512);
            generator.fill(&mut bytes[at..end]);
        }
    }
    fs::write(file, bytes).expect("writable");
}

/// Starts the box as a service manager does: again when it has ended. Answers whether it has salvaged itself.
fn revive(rig: &mut Rig) -> Result<bool, String> {
    for _ in 0..STARTS {
        rig.station.launch();
        let until = Instant::now() + READY;
        let mut quiet = 0;
        while rig.station.running() && quiet < 10 && Instant::now() < until {
            let ready = crate::harness::http::get(rig.station.setup.web, "/readyz");
            quiet = if matches!(ready, Some((200, _))) { quiet + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(50));
        }
        if rig.station.running() && quiet < 10 {
            return Err(format!("it is not ready\n{}", rig.station.log_tail()));
        }
        if rig.station.running() {
            let reported = rig.station.metric("salvage_unacknowledged", &[]) > 0.0;
            let listed = rig.station.cli(&["spool", "salvage"]);
            if reported == (listed.code == Some(0)) {
                return Err(format!("metric and reports differ: {reported}, {}", listed.out));
            }
            return Ok(reported);
        }
        let log = rig.station.log_tail();
        let last = log.lines().last().unwrap_or_default();
        // A marker that is gone, of a later format or no text: refused untouched, and a person writes it anew.
        let marker = ["not a waystation spool", "neither empty nor a spool", "newer", "marker"]
            .iter()
            .any(|word| last.contains(word));
        if marker {
            let path = rig.station.setup.spool_path().join("waystation-spool");
            fs::write(&path, "1\n").expect("writable");
        }
    }
    Err(format!("it does not come up by itself\n{}", rig.station.log_tail()))
}

fn after(rig: &mut Rig, kind: &Kind, how: &str, salvaged: bool) -> Result<String, String> {
    // What a salvage left to the rules is decided while the box takes images already.
    rig.station
        .wait_metric("jobs_held", &[("kind", "recovered")], |n| n == 0.0);
    rig.station.wait_drained(crate::harness::rig::DRAIN);
    let report = rig.report();
    let length = |name: &str| report[name].as_array().map_or(0, Vec::len);
    let held = rig.station.metric("jobs_held", &[]);
    let aside = objects::files_in(&rig.station.setup.spool_path().join("quarantine")).len();
    if length("damaged_at_archive") + length("damaged_in_folder") > 0 {
        return Err(format!("delivered damaged: {report}"));
    }
    let missing = length("missing_at_archive").max(length("missing_in_folder"));
    let named = (held as usize).max(aside);
    let words = format!("salvaged {salvaged}, {missing} missing, {held} jobs held, {aside} in quarantine");
    let allowed = usize::from(kind.payload);
    if missing > named || missing > allowed {
        return Err(format!("silently fewer: {words}: {report}"));
    }
    if kind.payload && matches!(how, "flip" | "delete" | "truncate") && missing == 0 && named == 0 {
        let sent = &report["acknowledged"];
        return Ok(format!(
            "the damage was beside the data set ({sent} delivered), {words}"
        ));
    }
    Ok(words)
}
