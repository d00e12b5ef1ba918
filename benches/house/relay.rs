//! `make bench-relay`: in, rules, commit, out over TLS.
//!
//! * lag: one CT after the other through an idle box; from the acknowledgement at the modality to the last byte at the archive.
//! * throughput: instances come in over several associations and leave at the same time; until the last has arrived. Beside it, in the
//!   same round: the same box with its destination down (own ingest), and plain TLS between two ends.
//! * processor time for each GB: the box, against DCMTK's `storescp` and `storescu +tls` with the same instances.
//! * memory: objects of 1 GB at once, in and out.
use super::harness::tools::{self, Owned};
use super::load::{self, Budget, Measured, Sampler};
use super::objects::{self, Kind};
use super::peers::{self, Peer};
use super::receiver::{Receiver, Trust, tls_limit};
use super::table::{Table, machine, number, plus_minus, target};
use super::{params, stats, usage, wire};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Plan {
    pub kinds: Vec<Kind>,
    pub associations: usize,
    pub rounds: usize,
    pub span: Duration,
    /// Instances of the lag.
    pub lags: u64,
    /// Objects at once, and their size, of the memory.
    pub long: (usize, Kind),
    /// Which of `PARTS`.
    pub parts: Vec<String>,
}

impl Plan {
    pub fn asked() -> Self {
        Self {
            kinds: objects::kinds("5k,512k,32m"),
            associations: params::count_to("ASSOCIATIONS", 8, peers::ADMITTED),
            rounds: params::count("ROUNDS", 5),
            span: params::seconds(3.0),
            lags: 200,
            long: (16, objects::kind("1g")),
            parts: params::chosen("PARTS", &PARTS, &PARTS[..4].join(",")),
        }
    }

    pub fn smoke() -> Self {
        Self {
            kinds: vec![objects::kind("512k")],
            associations: 2,
            rounds: 1,
            span: Duration::from_millis(200),
            lags: 10,
            long: (2, objects::kind("16m")),
            parts: PARTS[..4].iter().map(|part| (*part).to_owned()).collect(),
        }
    }
}

/// What there is to measure; `convert` only when it is asked for.
const PARTS: [&str; 5] = ["lag", "throughput", "cpu", "memory", "convert"];
/// For what was acknowledged to arrive.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a plan and prints its tables; answers how many instances were lost or refused.
pub fn run(plan: &Plan) -> u64 {
    machine();
    let trust = Trust::new();
    let mut missing = 0;
    for part in &plan.parts {
        missing += match part.as_str() {
            "lag" => lag(plan, &trust),
            "throughput" => throughput(plan, &trust),
            "cpu" => processor(plan, &trust),
            "memory" => memory(plan, &trust),
            "convert" => convert(plan, &trust),
            other => unreachable!("{other} is none of PARTS"),
        };
        peers::settle();
    }
    missing
}

/// A box with the shipped rules that relays to a port.
fn relaying(port: u16, more: &str) -> Peer {
    peers::station(peers::to_archive(port, more))
}

fn budget(plan: &Plan, kind: &Kind) -> Budget {
    Budget {
        associations: plan.associations,
        span: plan.span,
        bytes: 16 << 30,
        warm_up: kind.size <= 4 << 20,
    }
}

fn lag(plan: &Plan, trust: &Trust) -> u64 {
    let kind = objects::kind("512k");
    let mut lags = Vec::new();
    let mut missing = 0;
    for _ in 0..plan.rounds {
        let receiver = Receiver::start(trust);
        let peer = relaying(receiver.port, &trust.destination());
        let mut sender =
            wire::associate(peer.target.address, "WAYSTATION", "MOD0", kind.class).expect("an association");
        let mut framed = sender.framed(&kind, 900_000, None);
        for sent in 1..=plan.lags {
            let status = sender.store(&mut framed).expect("an answer");
            let acknowledged = Instant::now();
            if status != 0 || receiver.wait(sent, PATIENCE).is_none() {
                missing += 1;
                continue;
            }
            let came = receiver.came(&framed.last_sop());
            // Whoever reads its clock later on two processors has seen the other's event already: that is no lag.
            lags.extend(came.map(|came| came.saturating_duration_since(acknowledged).as_secs_f64() * 1e3));
            // Idle again.
            std::thread::sleep(Duration::from_millis(20));
        }
        sender.release();
        peer.stop();
    }
    println!(
        "### lag from acknowledgement to arrival, idle box, 512 KiB over TLS, {} instances\n",
        lags.len()
    );
    let mut table = Table::new(&["ms", "median", "p90", "p99"]);
    let shares = [0.5, 0.9, 0.99].map(|share| number(stats::percentile(&lags, share)));
    table.row([&["lag".to_owned()], &shares[..]].concat());
    table.print();
    let median = stats::median(&lags);
    target(
        "lag, idle box, median (no round trip on loopback)",
        median,
        "≤ 5 ms",
        median <= 5.0,
    );
    println!();
    missing
}

/// A load through a box until its last instance has arrived: what was measured, and the seconds until then.
fn relayed(peer: &Peer, kind: &Kind, budget: Budget, arrived: impl Fn(u64) -> Option<Instant>) -> (Measured, bool) {
    let (began, cpu) = (Instant::now(), usage::cpu(peer.target.pid));
    let mut measured = load::run(&peer.target, kind, budget);
    let warm = if budget.warm_up { budget.associations as u64 } else { 0 };
    let last = arrived(measured.instances + warm);
    let is_whole = last.is_some();
    measured.seconds = last
        .unwrap_or_else(Instant::now)
        .saturating_duration_since(began)
        .as_secs_f64();
    measured.instances += warm;
    measured.bytes += warm * kind.size;
    measured.server_cpu = usage::cpu(peer.target.pid) - cpu;
    (measured, is_whole)
}

fn throughput(plan: &Plan, trust: &Trust) -> u64 {
    let mut missing = 0;
    for kind in &plan.kinds {
        let (mut ours, mut theirs, mut ingest, mut tls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let budget = budget(plan, kind);
            let alone = peers::start("waystation");
            ingest.push(load::run(&alone.target, kind, budget).megabytes());
            alone.stop();
            let receiver = Receiver::start(trust);
            let peer = relaying(receiver.port, &trust.destination());
            let (measured, is_whole) = relayed(&peer, kind, budget, |count| receiver.wait(count, PATIENCE));
            missing += u64::from(!is_whole) + measured.refused;
            ours.push(measured.megabytes());
            peer.stop();
            let (archive, files) = dcmtk_receiver(trust);
            let peer = relaying(archive.target.address.port(), &trust.destination());
            let (measured, is_whole) = relayed(&peer, kind, budget, |count| files.wait(count, PATIENCE));
            missing += u64::from(!is_whole) + measured.refused;
            theirs.push(measured.megabytes());
            peer.stop();
            archive.stop();
            tls.push(tls_limit(trust, plan.associations, plan.span) / 1e6);
        }
        println!("### relay of {}, {} associations in\n", kind.name, plan.associations);
        let mut table = Table::new(&["what", "inst/s", "MB/s", "±", "relay / it"]);
        for (name, figures) in [
            ("relay to our receiver over TLS", &ours),
            ("relay to storescp +tls", &theirs),
            ("own ingest", &ingest),
            ("TLS alone", &tls),
        ] {
            table.row(vec![
                name.to_owned(),
                number(stats::median(figures) * 1e6 / kind.size as f64),
                number(stats::median(figures)),
                plus_minus(stats::spread(figures)),
                number(stats::ratio(&ours, figures)),
            ]);
        }
        table.print();
        let ratio = stats::ratio(&ours, &ingest);
        target(
            &format!("relay to own ingest, {}", kind.name),
            ratio,
            "≥ 0.8",
            ratio >= 0.8,
        );
        println!();
    }
    missing
}

/// What readiness to convert costs where everything is accepted as it is: the default against `convert = false`, one after the other.
fn convert(plan: &Plan, trust: &Trust) -> u64 {
    let mut missing = 0;
    for kind in &plan.kinds {
        let (mut ready, mut never) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            for (more, figures) in [("", &mut ready), ("\nconvert = false", &mut never)] {
                let receiver = Receiver::start(trust);
                let peer = relaying(receiver.port, &(trust.destination() + more));
                let (measured, is_whole) =
                    relayed(&peer, kind, budget(plan, kind), |count| receiver.wait(count, PATIENCE));
                missing += u64::from(!is_whole) + measured.refused;
                figures.push(measured);
                peer.stop();
            }
        }
        println!("### relay of {}, all accepted as it is stored\n", kind.name);
        let mut table = Table::new(&["destination", "MB/s", "±", "CPU s/GB", "±"]);
        let speed = |all: &[Measured]| -> Vec<f64> { all.iter().map(Measured::megabytes).collect() };
        let cost = |all: &[Measured]| -> Vec<f64> {
            let cost = |one: &Measured| one.server_cpu / (one.bytes as f64 / 1e9);
            all.iter().map(cost).collect()
        };
        for (name, all) in [("ready to convert (default)", &ready), ("convert = false", &never)] {
            table.row(vec![
                name.to_owned(),
                number(stats::median(&speed(all))),
                plus_minus(stats::spread(&speed(all))),
                number(stats::median(&cost(all))),
                plus_minus(stats::spread(&cost(all))),
            ]);
        }
        table.print();
        let (faster, dearer) = (
            stats::ratio(&speed(&ready), &speed(&never)),
            stats::ratio(&cost(&ready), &cost(&never)),
        );
        println!(
            "\nthroughput {}, processor time {} of the other's\n",
            number(faster),
            number(dearer)
        );
    }
    missing
}

/// What storescp has stored.
struct Files(std::path::PathBuf);

impl Files {
    fn wait(&self, count: u64, within: Duration) -> Option<Instant> {
        let until = Instant::now() + within;
        loop {
            let found = std::fs::read_dir(&self.0).map_or(0, Iterator::count) as u64;
            if found >= count {
                return Some(Instant::now());
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// DCMTK's storescp over TLS.
fn dcmtk_receiver(trust: &Trust) -> (Peer, Files) {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let tls = [
        "+tls".to_owned(),
        path(&trust.key),
        path(&trust.certificate),
        "-ic".to_owned(),
    ];
    let peer = peers::storescp(&tls, false);
    let files = Files(peer.folder());
    (peer, files)
}

fn processor(plan: &Plan, trust: &Trust) -> u64 {
    let kind = objects::kind("512k");
    let (mut own, mut theirs, mut missing) = (Vec::new(), Vec::new(), 0);
    for _ in 0..plan.rounds {
        let budget = budget(plan, &kind);
        let receiver = Receiver::start(trust);
        let peer = relaying(receiver.port, &trust.destination());
        let (measured, is_whole) = relayed(&peer, &kind, budget, |count| receiver.wait(count, PATIENCE));
        missing += u64::from(!is_whole);
        own.push(measured.server_cpu / (measured.bytes as f64 / 1e9));
        peer.stop();
        theirs.push(dcmtk_relay(&kind, budget, trust));
    }
    println!(
        "### processor time of a relay, {}, {} associations in\n",
        kind.name, plan.associations
    );
    let mut table = Table::new(&["relay", "CPU s/GB", "±", "waystation / it"]);
    for (name, figures) in [("waystation", &own), ("storescp, then storescu +tls", &theirs)] {
        let ratio = number(stats::ratio(&own, figures));
        table.row(vec![
            name.to_owned(),
            number(stats::median(figures)),
            plus_minus(stats::spread(figures)),
            ratio,
        ]);
    }
    table.print();
    let ratio = stats::ratio(&own, &theirs);
    target("CPU per GB relayed, to storescp + storescu", ratio, "< 1", ratio < 1.0);
    println!();
    missing
}

/// What DCMTK's two tools pay for the same way: received by one, sent on by the other. Seconds for each GB.
fn dcmtk_relay(kind: &Kind, budget: Budget, trust: &Trust) -> f64 {
    let peer = peers::start("storescp");
    let measured = load::run(&peer.target, kind, budget);
    let warm = budget.associations as u64;
    let count = measured.instances + warm;
    let folder = peer.folder();
    let receiver = Receiver::start(trust);
    let mut command = Command::new(tools::program("storescu"));
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    command
        .args(["-q", "-R", "-pdu", "131072", "--max-send-pdu", "131072", "+tla", "+cf"])
        .arg(path(&trust.ca));
    command
        .args(["-aec", "ANY", "-xe", "+sd", "localhost", &receiver.port.to_string()])
        .arg(&folder);
    tools::clean(&mut command);
    let mut child = Owned(command.stdin(Stdio::null()).spawn().expect("storescu starts"));
    let until = Instant::now() + PATIENCE;
    let mut spent = 0.0;
    while child.running() && Instant::now() < until {
        spent = usage::cpu(child.0.id()).max(spent);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(receiver.instances(), count, "storescu sends what storescp has stored");
    peer.stop();
    let received = measured.bytes as f64 / 1e9;
    let sent = (count * kind.size) as f64 / 1e9;
    measured.server_cpu / received + spent / sent
}

fn memory(plan: &Plan, trust: &Trust) -> u64 {
    let (count, kind) = &plan.long;
    let receiver = Receiver::start(trust);
    let more = format!("associations = {count}\n{}", trust.destination());
    let peer = relaying(receiver.port, &more);
    let before = usage::memory(peer.target.pid);
    let sampler = Sampler::start(peer.target.pid);
    let once = Budget {
        associations: *count,
        span: Duration::ZERO,
        bytes: u64::MAX,
        warm_up: false,
    };
    let (measured, is_whole) = relayed(&peer, kind, once, |count| receiver.wait(count, PATIENCE));
    let growth = sampler.stop().saturating_sub(before) as f64 / f64::from(1 << 20);
    peer.stop();
    println!(
        "### memory, {count} objects of {} at once, in and out over TLS\n",
        kind.name
    );
    let mut table = Table::new(&["objects", "before MiB", "growth MiB", "MB/s through"]);
    let before = number(before as f64 / f64::from(1 << 20));
    table.row(vec![
        format!("{count} x {}", kind.name),
        before,
        number(growth),
        number(measured.megabytes()),
    ]);
    table.print();
    target("memory growth", growth, "≤ 128 MiB", growth <= 128.0);
    println!();
    u64::from(!is_whole) + measured.refused
}
