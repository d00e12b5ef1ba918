//! A rule folder in hostile hands, under load: every 50 ms it is garbled, emptied, replaced, made huge, linked elsewhere or
//! unreadable, and SIGHUP asks for it. The set in force stays, every instance goes where the last good set says, and a good
//! folder is taken up again.
use crate::harness::rig::Rig;
use crate::harness::wait_until;
use crate::{Order, Tally};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

const GOOD: &str = r#"fn route(image, from) { to("vna"); to("keep"); }"#;
/// Changes between two judgements.
const BATCH: usize = 100;

/// Its name, and how it is made.
type Change = (&'static str, fn(&Path, &mut StdRng));

/// What is done to the folder, which `good` has just filled. None of them is a rule set.
const CHANGES: [Change; 22] = [
    ("garbage", |folder, generator| write(folder, &bytes(generator, 5_000))),
    ("text that is no rule", |folder, _| {
        write(folder, b"PatientID = 7 7 {{{")
    }),
    ("cut", |folder, generator| {
        write(folder, &GOOD.as_bytes()[..generator.random_range(1..GOOD.len())]);
    }),
    ("empty file", |folder, _| write(folder, b"")),
    ("nulls", |folder, _| write(folder, &[0; 4_096])),
    ("not UTF-8", |folder, _| {
        write(folder, b"fn route(image, from) { to(\"vna\xff\"); }")
    }),
    ("empty folder", |folder, _| empty(folder)),
    ("no folder", |folder, _| fs::remove_dir_all(folder).expect("removable")),
    ("huge", |folder, _| {
        write(folder, &b"// a long remark\n".repeat(600_000))
    }),
    ("deep", |folder, _| {
        write(folder, format!("let x = {}", "(".repeat(200_000)).as_bytes())
    }),
    ("endless", |folder, _| {
        write(folder, format!("loop {{}} {GOOD}").as_bytes())
    }),
    ("another destination", |folder, _| {
        write(folder, br#"fn route(image, from) { to("elsewhere"); }"#)
    }),
    ("no route", |folder, _| {
        write(folder, b"fn morph(image, from) { image.PatientID = \"X\"; }")
    }),
    ("outside import", |folder, _| {
        write(folder, format!("import \"/etc/passwd\" as p; {GOOD}").as_bytes())
    }),
    ("link to itself", |folder, _| linked(folder, &folder.join("main.rhai"))),
    ("endless device", |folder, _| linked(folder, Path::new("/dev/zero"))),
    ("link outside", |folder, _| linked(folder, Path::new("/etc/passwd"))),
    ("directory", |folder, _| {
        empty(folder);
        fs::create_dir(folder.join("main.rhai")).expect("writable");
    }),
    ("pipe that nobody writes", |folder, _| {
        empty(folder);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join("main.rhai"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .expect("writable");
    }),
    ("socket", |folder, _| {
        empty(folder);
        drop(UnixListener::bind(folder.join("main.rhai")).expect("writable"));
    }),
    ("a thousand files", |folder, _| {
        for number in 0..1_000 {
            fs::write(folder.join(format!("r{number}.rhai")), "fn f() { }").expect("writable");
        }
    }),
    ("file instead of folder", |folder, _| {
        fs::remove_dir_all(folder).expect("removable");
        fs::write(folder, GOOD).expect("writable");
    }),
];

pub fn soak(tally: &mut Tally, order: Order) {
    let mut done = 0;
    while done < order.count {
        let rounds = BATCH.min(order.count - done);
        let seed = order.seed + done as u64;
        tally.judge(
            &format!("{rounds} changes of the rule folder, seed {seed}"),
            rounds,
            || run(seed, rounds),
        );
        done += rounds;
    }
}

fn bytes(generator: &mut StdRng, count: usize) -> Vec<u8> {
    (0..count).map(|_| generator.random()).collect()
}

fn write(folder: &Path, text: &[u8]) {
    fs::write(folder.join("main.rhai"), text).expect("writable");
}

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).expect("removable");
    fs::create_dir(folder).expect("writable");
}

fn linked(folder: &Path, to: &Path) {
    empty(folder);
    symlink(to, folder.join("main.rhai")).expect("writable");
}

/// A set that says the same with other words: another epoch. It appears under its name whole.
fn good(folder: &Path, number: usize) {
    if folder.is_dir() {
        fs::remove_dir_all(folder).expect("removable");
    } else {
        drop(fs::remove_file(folder));
    }
    let fresh = folder.with_extension("new");
    fs::create_dir(&fresh).expect("writable");
    fs::write(fresh.join("main.rhai"), format!("// {number}\n{GOOD}")).expect("writable");
    fs::rename(&fresh, folder).expect("renamed");
}

fn run(seed: u64, rounds: usize) -> Result<String, String> {
    let mut rig = Rig::new(seed, None, |setup| setup);
    let folder = rig.station.setup.folder_of("rules");
    rig.station.start();
    rig.load(None);
    for number in 0..rounds {
        good(&folder, number);
        if rig.generator.random_bool(0.3) {
            rig.station.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(20));
        }
        let (what, change) = CHANGES[rig.generator.random_range(0..CHANGES.len())];
        change(&folder, &mut rig.generator);
        rig.station.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(50));
        if !rig.station.running() {
            return Err(format!("{what} ended it\n{}", rig.station.log_tail()));
        }
    }
    good(&folder, rounds);
    rig.station.signal(Signal::HUP);
    wait_until("the good set is in force", Duration::from_secs(15), || {
        rig.station.metric("rules_reload_failed", &[]) == 0.0
    });
    rig.end_load();
    let counted = |result| rig.station.metric("rules_reloads_total", &[("result", result)]);
    let (loaded, refused) = (counted("loaded"), counted("refused"));
    if refused < 3.0 || loaded < 2.0 {
        return Err(format!("it did not look: {loaded} loaded, {refused} refused"));
    }
    Ok(format!("{loaded} loaded, {refused} refused; {}", rig.verdict()?))
}
