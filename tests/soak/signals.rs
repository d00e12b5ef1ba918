//! Signals under load: SIGHUP every 20 ms, and SIGTERM (sometimes many) in the middle of it. Every stop drains within its bound
//! and ends with 0, and the next life has nothing to do twice.
use crate::harness::rig::Rig;
use crate::{Order, Tally};
use rand::Rng;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Stops between two judgements.
const BATCH: usize = 5;
/// `node.drain` of the test boxes is 10 s for each of two phases, and 5 s for the doors.
const BOUND: Duration = Duration::from_secs(26);

pub fn soak(tally: &mut Tally, order: Order) {
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        tally.judge(&format!("signals, {rounds} stops, seed {seed}"), rounds, || {
            run(seed, rounds)
        });
        done += rounds;
    }
}

fn run(seed: u64, rounds: usize) -> Result<String, String> {
    let mut rig = Rig::new(seed, None, |setup| setup);
    rig.station.start();
    rig.load(None);
    let (mut hangups, mut longest) = (0, Duration::ZERO);
    for round in 0..rounds {
        let until = Instant::now() + Duration::from_millis(rig.generator.random_range(200..1_500));
        while Instant::now() < until {
            rig.station.signal(Signal::HUP);
            hangups += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        if !rig.station.running() {
            return Err(format!("SIGHUP ended it\n{}", rig.station.log_tail()));
        }
        let began = Instant::now();
        rig.station.signal(Signal::TERM);
        if round % 2 == 1 {
            for signal in [Signal::HUP, Signal::TERM, Signal::INT].into_iter().cycle().take(30) {
                if !rig.station.running() {
                    break;
                }
                rig.station.signal(signal);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let ended = rig.station.wait_ended();
        longest = longest.max(began.elapsed());
        if ended.code() != Some(0) || longest > BOUND {
            return Err(format!("{ended} after {longest:?}\n{}", rig.station.log_tail()));
        }
        rig.station.start();
    }
    rig.end_load();
    Ok(format!(
        "{hangups} SIGHUP, longest stop {longest:.1?}; {}",
        rig.verdict()?
    ))
}
