//! Sixty-four descriptors for the whole box, under load, while connections that say nothing and associations that do nothing
//! take all they can get. The accept loop outlives it, the spool keeps what it needs, and the good modalities get through
//! again when the others have gone: the same process, nothing lost.
use crate::harness::rig::Rig;
use crate::wire::{self, Peer};
use crate::{Order, Tally};
use rand::Rng;
use std::time::Duration;

const LIMIT: &str = "64";
const GREEDY: usize = 120;

pub fn soak(tally: &mut Tally, order: Order) {
    for round in 0..order.count as u64 {
        let seed = order.seed + round;
        let associated = round % 2 == 1;
        let who = if associated {
            "idle associations"
        } else {
            "silent connections"
        };
        tally.judge(&format!("{LIMIT} descriptors, {GREEDY} {who}, seed {seed}"), 1, || {
            run(seed, associated)
        });
    }
}

fn run(seed: u64, associated: bool) -> Result<String, String> {
    let mut rig = Rig::new(seed, None, |mut setup| {
        setup.wrapper = ["prlimit", &format!("--nofile={LIMIT}:{LIMIT}")]
            .map(str::to_owned)
            .into();
        setup
    });
    rig.station.start();
    let port = rig.station.setup.dicom;
    rig.load(None);
    rig.wait_acknowledged(5)?;
    let (mut silent, mut idle) = (Vec::new(), Vec::new());
    for number in 0..GREEDY {
        let from = 10 + (number % 200) as u8;
        if associated {
            idle.extend(Peer::open_within(port, from, Duration::from_millis(300)));
        } else {
            silent.extend(wire::connect(port, from));
        }
    }
    std::thread::sleep(Duration::from_millis(rig.generator.random_range(1_000..3_000)));
    let held = silent.len() + idle.len();
    drop((silent, idle));
    let before = rig.acknowledged();
    rig.wait_acknowledged(before + 10)?;
    rig.end_load();
    if !rig.station.running() {
        return Err(format!("the box ended\n{}", rig.station.log_tail()));
    }
    let exhausted = rig.station.log().contains("could not be accepted");
    Ok(format!("{held} taken, EMFILE seen {exhausted}; {}", rig.verdict()?))
}
