//! A clock that jumps by ten years, forwards and back: under load, during an outage of the archive, and across a restart. The
//! wall clock of the box alone is moved (libfaketime; the monotonic clock stays, as it does when NTP steps). The queue drains
//! as quickly as ever and nothing is lost.
use crate::harness::rig::Rig;
use crate::{Order, Tally};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::time::{Duration, SystemTime};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const OFFSETS: [&str; 5] = ["+10y", "-10y", "+0", "-9h", "+14h"];
/// Jumps between two judgements.
const BATCH: usize = 6;

pub fn soak(tally: &mut Tally, order: Order) {
    if !Path::new(LIBRARY).exists() {
        return tally.judge("clock", 1, || Err(format!("{LIBRARY} is missing (Debian: faketime)")));
    }
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        let mut generator = StdRng::seed_from_u64(seed);
        let offsets: Vec<&str> = (0..rounds)
            .map(|_| OFFSETS[generator.random_range(0..OFFSETS.len())])
            .collect();
        tally.judge(&format!("clock, {rounds} jumps, seed {seed}"), rounds, || {
            run(seed, &offsets, None)
        });
        done += rounds;
    }
}

fn jump(file: &Path, offset: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{offset}\n")).expect("writable");
    std::fs::rename(&fresh, file).expect("renamed");
    // The library looks at the file once in each second.
    std::thread::sleep(Duration::from_millis(1_100));
}

/// The first jump is under load, the second in an outage, the third across a restart, and so on.
pub fn run(seed: u64, offsets: &[&str], plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(seed, plant, |setup| {
        let file = setup.folder_of("clock");
        setup
            .environment("LD_PRELOAD", LIBRARY)
            .environment("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy())
            .environment("FAKETIME_CACHE_DURATION", "0")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("NO_FAKE_STAT", "1")
    });
    let file = rig.station.setup.folder_of("clock");
    jump(&file, "+0");
    rig.station.start();
    rig.load(None);
    for (round, offset) in offsets.iter().enumerate() {
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(100..600)));
        match round % 3 {
            0 => jump(&file, offset),
            1 => {
                rig.archive.stop();
                std::thread::sleep(Duration::from_millis(700));
                jump(&file, offset);
                rig.archive.start();
            }
            _ => {
                rig.crash();
                jump(&file, offset);
                rig.station.start();
            }
        }
        believes(&rig, offset)?;
    }
    rig.end_load();
    // Ten years off or not, what was queued must be there within the usual time.
    let said = rig.verdict()?;
    if !rig.station.running() {
        return Err("the box has ended".to_owned());
    }
    Ok(format!("{offsets:?}; {said}"))
}

/// The box's own clock is where it was put, or the soak would show nothing. It writes the time of a reload into a metric.
fn believes(rig: &Rig, offset: &str) -> Result<(), String> {
    let years = |text: &str| {
        text.strip_suffix("10y")
            .map(|sign| if sign == "+" { 10.0 } else { -10.0 })
    };
    let wanted = years(offset).unwrap_or(0.0);
    let reloads = rig.station.metric("rules_reloads_total", &[]);
    rig.station.signal(rustix::process::Signal::HUP);
    rig.station
        .wait_metric("rules_reloads_total", &[], |count| count > reloads);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let real = now.expect("after 1970").as_secs_f64();
    let off = (rig.station.metric("rules_loaded_timestamp_seconds", &[]) - real) / (365.25 * 86_400.0);
    if (off - wanted).abs() < 0.1 {
        Ok(())
    } else {
        Err(format!("told {offset}, the box's clock is {off:.2} years off"))
    }
}
