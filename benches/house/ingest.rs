//! `make bench-peers`: the same instances, the same sender, against every peer and against what the machine can do.
use super::limits::{self, Log};
use super::load::{self, Budget, Measured};
use super::objects::{self, Kind};
use super::peers::Remains;
use super::table::{Table, machine, number, plus_minus, target};
use super::{params, peers, stats, usage};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is compared, in which sizes, how long.
pub struct Plan {
    pub kinds: Vec<Kind>,
    pub associations: Vec<usize>,
    pub peers: Vec<String>,
    pub rounds: usize,
    pub span: Duration,
    pub ring: Option<u64>,
}

const LIMITS: [&str; 4] = ["log", "log-new", "log-each", "loopback"];
/// A figure never writes more, so that it fits on the disk: 32 objects of 1 GB do.
const BYTES_MAX: u64 = 33 << 30;
/// Longer instances are not sent to warm up.
const WARM_MAX: u64 = 4 << 20;
/// Files of instances up to here stay as they are to the end of the run, those of longer ones without their content.
const KEPT_MAX: u64 = 64 << 10;
/// What is left of the disk at the end of a figure.
const ROOM: u64 = 4 << 30;
/// And so much is written at least: a limit's files, and a figure in them.
const LEAST_ROOM: u64 = 4 << 30;

impl Plan {
    /// As the environment says.
    pub fn asked() -> Self {
        let (folder, wanted) = (std::env::temp_dir(), ROOM + LEAST_ROOM);
        if usage::free_bytes(&folder) < wanted {
            let what = format!(
                "a folder with {} GiB free, or a GIB that leaves so many with DISK",
                wanted >> 30
            );
            params::wrong("TMPDIR", &folder.to_string_lossy(), &what);
        }
        let everybody = [&peers::everybody()[..], &LIMITS[..]].concat();
        Self {
            kinds: objects::kinds("5k,512k,32m,1g"),
            associations: params::counts("ASSOCIATIONS", "1,8,32", peers::ADMITTED),
            peers: params::chosen("PEERS", &everybody, &everybody.join(",")),
            rounds: params::count("ROUNDS", 5),
            span: params::seconds(3.0),
            ring: None,
        }
    }

    /// A look at whether everything still works, in seconds.
    pub fn smoke() -> Self {
        Self {
            kinds: vec![objects::kind("5k"), objects::kind("512k")],
            associations: vec![2],
            peers: [&peers::everybody()[..], &LIMITS[..]]
                .concat()
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            rounds: 1,
            span: Duration::from_millis(200),
            ring: Some(64 << 20),
        }
    }
}

/// The figures of one size at one concurrency, by peer, one for each round.
type Cell = BTreeMap<String, Vec<Measured>>;

/// Runs a plan and prints its tables. Answers how many instances were refused by anybody: there should be none.
pub fn run(plan: &Plan) -> u64 {
    machine();
    println!(
        "{} rounds of {:.1} s each, interleaved; medians; ± is half of the range over the median\n",
        plan.rounds,
        plan.span.as_secs_f64()
    );
    let widest = plan.associations.iter().copied().max().unwrap_or(1);
    let log = plan
        .peers
        .iter()
        .any(|name| name.starts_with("log"))
        .then(|| Log::new(widest, plan.ring));
    let mut cells: BTreeMap<(String, usize), Cell> = BTreeMap::new();
    let (mut refused, mut kept) = (0, Vec::new());
    for kind in &plan.kinds {
        for &associations in &plan.associations {
            let mut cell = Cell::new();
            for _ in 0..plan.rounds {
                for name in &plan.peers {
                    let (measured, remains) = one(name, kind, associations, plan, log.as_ref());
                    // The disk has no room for all of the long ones.
                    let emptied = |remains: Remains| {
                        if kind.size > KEPT_MAX {
                            remains.emptied()
                        } else {
                            remains
                        }
                    };
                    kept.extend(remains.map(emptied));
                    refused += measured.refused;
                    cell.entry(name.clone()).or_default().push(measured);
                }
            }
            print(kind, associations, &cell, &plan.peers);
            cells.insert((kind.name.clone(), associations), cell);
        }
    }
    targets(&cells);
    refused
}

fn one(name: &str, kind: &Kind, associations: usize, plan: &Plan, log: Option<&Log>) -> (Measured, Option<Remains>) {
    let free = usage::free_bytes(&std::env::temp_dir()).saturating_sub(ROOM);
    let budget = Budget {
        associations,
        span: plan.span,
        bytes: BYTES_MAX.min(free),
        warm_up: kind.size <= WARM_MAX,
    };
    match (name, log) {
        ("log", Some(log)) => (log.shared(kind, budget), None),
        ("log-new", Some(log)) => (log.preallocated(kind, budget), None),
        ("log-each", Some(log)) => (log.each(kind, budget), None),
        ("loopback", _) => (limits::loopback(kind, budget), None),
        _ => {
            let peer = peers::start(name);
            (load::run(&peer.target, kind, budget), Some(peer.end()))
        }
    }
}

fn column(of: &[Measured], figure: impl Fn(&Measured) -> f64) -> Vec<f64> {
    of.iter().map(figure).collect()
}

fn print(kind: &Kind, associations: usize, cell: &Cell, order: &[String]) {
    println!("### {} ({} bytes), {associations} associations\n", kind.name, kind.size);
    let head = [
        "peer",
        "inst/s",
        "±",
        "MB/s",
        "p50 ms",
        "p99 ms",
        "CPU s/GB server",
        "CPU s/GB sender",
        "peak MiB",
        "waystation / it",
    ];
    let mut table = Table::new(&head);
    let own = cell.get("waystation").map(|own| column(own, Measured::rate));
    for name in order {
        let rounds = &cell[name];
        let rates = column(rounds, Measured::rate);
        let per_gb =
            |figure: fn(&Measured) -> f64| stats::median(&column(rounds, |m| figure(m) / (m.bytes as f64 / 1e9)));
        let is_limit = LIMITS.contains(&name.as_str());
        let ratio = own.as_ref().map_or(f64::NAN, |own| stats::ratio(own, &rates));
        let of_server = |value: f64| if is_limit { "-".to_owned() } else { number(value) };
        table.row(vec![
            name.clone(),
            number(stats::median(&rates)),
            plus_minus(stats::spread(&rates)),
            number(stats::median(&column(rounds, Measured::megabytes))),
            number(stats::median(&column(rounds, |m| {
                stats::percentile(&m.answers_ms, 0.5)
            }))),
            number(stats::median(&column(rounds, |m| {
                stats::percentile(&m.answers_ms, 0.99)
            }))),
            of_server(per_gb(|m| m.server_cpu)),
            number(per_gb(|m| m.sender_cpu)),
            of_server(stats::median(&column(rounds, |m| m.peak as f64 / f64::from(1 << 20)))),
            number(ratio),
        ]);
    }
    table.print();
}

/// The lines of the table that this bench can answer.
fn targets(cells: &BTreeMap<(String, usize), Cell>) {
    let ratio = |size: &str, associations: usize, other: &str| {
        let cell = cells.get(&(size.to_owned(), associations))?;
        Some(stats::ratio(
            &column(cell.get("waystation")?, Measured::rate),
            &column(cell.get(other)?, Measured::rate),
        ))
    };
    // The limit is a log that was preallocated. What it would be in blocks that were written before is said as well.
    for (size, associations, wanted) in [("512k", 8, 0.8), ("5k", 8, 0.5), ("512k", 1, 0.6)] {
        let name = format!("durable ingest, {size}, {associations} associations, to the flushed log");
        if let Some(value) = ratio(size, associations, "log-new") {
            let name = format!("{name}, preallocated");
            target(&name, value, &format!("≥ {wanted}"), value >= wanted);
        }
        let written = [ratio(size, associations, "log"), ratio(size, associations, "log-each")];
        if let Some(value) = written.into_iter().flatten().reduce(f64::min) {
            let name = format!("{name}, the quicker of those written before");
            target(&name, value, &format!("≥ {wanted}"), value >= wanted);
        }
    }
    for (other, everywhere, at_8) in [("orthanc", 3.0, 5.0), ("storescp", 0.0, 1.0)] {
        for (size, associations) in cells.keys() {
            let wanted = if *associations == 8 { at_8 } else { everywhere };
            if let Some(value) = ratio(size, *associations, other).filter(|_| wanted > 0.0) {
                let name = format!("to {other}, {size}, {associations} associations");
                target(&name, value, &format!("≥ {wanted}"), value >= wanted);
            }
        }
    }
}
