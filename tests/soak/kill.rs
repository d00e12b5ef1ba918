//! `kill -9` at random moments under load; some lives end before the box is ready.
use crate::harness::rig::Rig;
use crate::{Order, Tally};
use rand::Rng;
use std::time::Duration;

/// Kills between two judgements; each batch has a fresh box.
const BATCH: usize = 25;

pub fn soak(tally: &mut Tally, order: Order) {
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        tally.judge(&format!("kill, {rounds} rounds, seed {seed}"), rounds, || {
            batch(seed, rounds, None)
        });
        done += rounds;
    }
}

pub fn batch(seed: u64, rounds: usize, plant: Option<&str>) -> Result<String, String> {
    let mut rig = Rig::new(seed, plant, |setup| setup);
    rig.station.start();
    rig.load(None);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(50..400)));
        rig.crash();
        if rig.generator.random_bool(0.2) {
            rig.station.launch();
        } else {
            rig.station.start();
        }
    }
    rig.station.wait_ready();
    rig.end_load();
    rig.verdict()
}
