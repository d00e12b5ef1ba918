//! Each kind of file of a spool, damaged in five ways while the box is down. Whatever was acknowledged is afterwards delivered
//! whole, or its job is held, or it lies named in quarantine: never silently fewer. A box that does not start says so, names
//! the way out, and `spool rebuild` is that way.
use crate::harness::objects;
use crate::harness::rig::Rig;
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

const KINDS: [Kind; 8] = [
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
    Kind {
        name: "marker",
        folder: "",
        begins: "waystation-spool",
        ends: "",
        payload: false,
    },
];

/// Every case, or so many of them drawn by the seed when `order.count` is not 0.
pub fn soak(tally: &mut Tally, order: Order) {
    let mut cases: Vec<(&Kind, &str)> = KINDS.iter().flat_map(|kind| DAMAGES.map(|how| (kind, how))).collect();
    if order.count > 0 {
        cases.shuffle(&mut StdRng::seed_from_u64(order.seed));
        cases.truncate(order.count);
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
    let mut rig = Rig::new(seed, plant, |setup| setup);
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
    let files = objects::files_in(&spool.join(kind.folder));
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let long = fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
        name.starts_with(kind.begins) && name.ends_with(kind.ends) && long
    };
    let files: Vec<PathBuf> = files.into_iter().filter(wanted).collect();
    let victim = &files[rig.generator.random_range(0..files.len().max(1)).min(files.len() - 1)];
    damage(victim, how, &mut rig.generator);
    rig.archive.start();
    let rebuilt = revive(&mut rig)?;
    after(&mut rig, kind, how, rebuilt)
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

/// Starts the box. When it ends again it must have named the way out, which is taken; answers whether it was.
fn revive(rig: &mut Rig) -> Result<bool, String> {
    for rebuilt in [false, true] {
        rig.station.launch();
        let until = Instant::now() + Duration::from_secs(30);
        let mut quiet = 0;
        while rig.station.running() && quiet < 10 && Instant::now() < until {
            let ready = crate::harness::http::get(rig.station.setup.web, "/readyz");
            quiet = if matches!(ready, Some((200, _))) { quiet + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(50));
        }
        if rig.station.running() {
            return Ok(rebuilt);
        }
        if rebuilt {
            return Err(format!("it does not start after a rebuild\n{}", rig.station.log_tail()));
        }
        let log = rig.station.log_tail();
        let last = log.lines().last().unwrap_or_default();
        // A marker that is gone, of a later format or no text: refused untouched, and a person writes it anew.
        let marker = ["not a waystation spool", "newer", "marker"]
            .iter()
            .any(|word| last.contains(word));
        if marker {
            let path = rig.station.setup.spool_path().join("waystation-spool");
            fs::write(&path, "1\n").expect("writable");
            continue;
        }
        if !last.contains("spool rebuild") {
            return Err(format!("it ended without a way out\n{log}"));
        }
        let ran = rig.station.cli(&["spool", "rebuild"]);
        if ran.code != Some(0) {
            return Err(format!("rebuild: {}{}", ran.out, ran.err));
        }
    }
    Err("unreachable".to_owned())
}

fn after(rig: &mut Rig, kind: &Kind, how: &str, rebuilt: bool) -> Result<String, String> {
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
    let words = format!("rebuilt {rebuilt}, {missing} missing, {held} jobs held, {aside} in quarantine");
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
