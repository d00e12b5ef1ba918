//! Two processes on one spool. The second ends at once, in words; the first, under load, does not notice. After a `kill -9` of
//! the first, two that start together settle it between them.
use crate::harness::rig::Rig;
use crate::harness::tools::{self, Owned, Ran};
use crate::harness::{http, wait_until};
use crate::{Order, Tally};
use rand::Rng;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const IN_USE: &str = "in use by another process";

pub fn soak(tally: &mut Tally, order: Order) {
    for round in 0..order.count as u64 {
        let seed = order.seed + round;
        tally.judge(&format!("two on one spool, seed {seed}"), 1, || run(seed));
    }
}

fn run(seed: u64) -> Result<String, String> {
    let mut rig = Rig::new(seed, None, |setup| setup);
    rig.station.start();
    rig.load(None);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(rig.generator.random_range(50..500)));
        for words in [vec!["run"], vec!["spool", "rebuild"]] {
            refused(&rig.station.cli(&words))?;
        }
        if !rig.station.running() {
            return Err("the first has ended".to_owned());
        }
        rig.crash();
        // Both at once: the one that has the spool serves, the other has ended.
        rig.station.launch();
        let mut rival = rival(&rig.station.setup.config());
        let web = rig.station.setup.web;
        wait_until("one of the two is ready", Duration::from_secs(20), || {
            matches!(http::get(web, "/readyz"), Some((200, _)))
        });
        wait_until("one of the two has ended", Duration::from_secs(20), || {
            rig.station.running() != rival.running()
        });
        if !rig.station.log().contains(IN_USE) {
            return Err(format!("the second ended without a word\n{}", rig.station.log_tail()));
        }
        if rival.running() {
            std::thread::sleep(Duration::from_millis(100));
            rival.kill();
            rig.note_crash();
            rig.station.start();
        }
    }
    rig.end_load();
    rig.verdict()
}

fn refused(ran: &Ran) -> Result<(), String> {
    let said = format!("{}{}", ran.out, ran.err);
    // 124: it had to be ended.
    if matches!(ran.code, Some(code) if code != 0 && code != 124) && said.contains(IN_USE) {
        Ok(())
    } else {
        Err(format!("the second process: {:?} {said}", ran.code))
    }
}

fn rival(config: &Path) -> Owned {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waystation"));
    command.args(["run", "-c"]).arg(config).stdin(Stdio::null());
    let log = std::fs::File::options()
        .append(true)
        .open(config.with_file_name("stderr.log"))
        .expect("the first has one");
    command.stdout(Stdio::null()).stderr(log);
    tools::clean(&mut command);
    Owned(command.spawn().expect("the binary under test starts"))
}
