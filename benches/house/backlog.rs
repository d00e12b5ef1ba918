//! `make bench-backlog`: what a long queue costs.
//!
//! * start: a spool with `JOBS` instances, each with its file and its job, is filled past the wire (`spool::fill`); then the box is
//!   started on it, `ROUNDS` times with warm caches and once with cold ones (root), each ended by SIGKILL: from its start to the
//!   first association accepted, to the first C-STORE answered 0000, and to the first instance at the archive; its memory.
//! * claims: `ENTRIES` due jobs of one destination over few files; claims of eight while sixty-four are in hand, as a lane makes them;
//!   and what it costs to settle, with the size of the index before and after.
use super::harness::tools::{self, Owned};
use super::harness::{Setup, http};
use super::objects;
use super::peers;
use super::receiver::Receiver;
use super::table::{Table, machine, number, target};
use super::{params, stats, usage, wire};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use waystation::base::clock::Clock;
use waystation::base::names::{AeTitle, DestinationId, SourceId, Uid};
use waystation::base::units::{Share, Size};
use waystation::dicom::part10::{FileMeta, PRIVATE_CREATOR_UID};
use waystation::spool::fill::{Fill, fill};
use waystation::spool::payload::PRIVATE_LEN;
use waystation::spool::{Arriving, Config, Lease, NewJob, Priority, Settlement, Spool};
use waystation::telemetry::metrics::Metrics;

pub struct Plan {
    pub jobs: u64,
    pub entries: u64,
    pub claims: usize,
    pub settles: u64,
    pub rounds: usize,
}

impl Plan {
    pub fn asked() -> Self {
        let plan = Self {
            jobs: params::count("JOBS", 1_000_000) as u64,
            entries: params::count("ENTRIES", 5_000_000) as u64,
            claims: params::count("CLAIMS", 5_000),
            settles: params::count("SETTLES", 200_000) as u64,
            rounds: params::count("ROUNDS", 5),
        };
        // Claims of an empty queue are quick, and say nothing.
        let (entries, claimed) = (plan.entries_made(), (plan.claims * CLAIM) as u64);
        if claimed + IN_HAND as u64 > entries {
            let most = entries.saturating_sub(IN_HAND as u64) / CLAIM as u64;
            let wanted = format!(
                "at most {most}, {CLAIM} entries each, or more ENTRIES than {}",
                plan.entries
            );
            params::wrong("CLAIMS", &plan.claims.to_string(), &wanted);
        }
        let settled = IN_HAND as u64..=entries - claimed;
        if !settled.contains(&plan.settles) {
            let wanted = format!(
                "{IN_HAND} (one for each worker) to {}, what {} CLAIMS leave of {} ENTRIES",
                settled.end(),
                plan.claims,
                plan.entries
            );
            params::wrong("SETTLES", &plan.settles.to_string(), &wanted);
        }
        plan
    }

    /// Due entries of one file.
    fn each(&self) -> u64 {
        self.entries.div_ceil(100).clamp(1, 100)
    }

    /// Every file has the same number of them.
    fn entries_made(&self) -> u64 {
        self.entries / self.each() * self.each()
    }

    pub fn smoke() -> Self {
        Self {
            jobs: 500,
            entries: 2_000,
            claims: 50,
            settles: 400,
            rounds: 1,
        }
    }
}

/// Runs a plan and prints its tables; answers how many instances were refused or lost.
pub fn run(plan: &Plan) -> u64 {
    machine();
    start(plan) + claims(plan)
}

const DESTINATION: &str = "vna";

/// What is filled in: reports of 2 KB.
fn filling(instances: u64, jobs: u64) -> Fill {
    let kind = objects::kind("2k");
    let (head, sop) = objects::numbered(&kind, 1, 1);
    let uid = |text: &str| Uid::parse(text).expect("a UID");
    let ae = |text: &str| AeTitle::parse(text).expect("a title");
    let meta = FileMeta {
        sop_class: uid(kind.class),
        sop_instance: uid(&sop),
        transfer_syntax: uid(objects::EXPLICIT),
        source_ae: Some(ae("MOD0")),
        private: Some((Uid::known(PRIVATE_CREATOR_UID), vec![0; PRIVATE_LEN])),
    };
    let mut data_set = head;
    data_set.extend_from_slice(&kind.noise[..usize::try_from(kind.tail).expect("short")]);
    Fill {
        like: Arriving {
            source: SourceId::parse("test").expect("a name"),
            calling_ae: ae("MOD0"),
            called_ae: ae("WAYSTATION"),
            sop_class: meta.sop_class.clone(),
            sop_instance: meta.sop_instance.clone(),
            transfer_syntax: meta.transfer_syntax.clone(),
            header: meta.write(),
            private_offset: meta.private_offset().expect("a private record"),
        },
        data_set,
        instances,
        study: 20,
        job: NewJob {
            destination: Some(DestinationId::parse(DESTINATION).expect("a name")),
            priority: Priority::Routine,
            plan: Vec::new(),
            due: Clock::System.now(),
            hold: None,
            quiet: None,
            group: None,
        },
        jobs,
    }
}

fn config(path: &Path) -> Config {
    Config {
        path: path.to_owned(),
        low_water: Share::Bytes(64 << 20),
        critical: Size(32 << 20),
        ballast: Size(4 << 20),
        cache_high_water: Share::Bytes(128 << 20),
        ..Config::default()
    }
}

fn filled(path: &Path, instances: u64, jobs: u64) -> Duration {
    let began = Instant::now();
    std::fs::create_dir_all(path).expect("writable");
    fill(
        &config(path),
        &Clock::System,
        &Metrics::new(),
        &filling(instances, jobs),
    )
    .expect("filled");
    began.elapsed()
}

/// The binary to be measured; without a word that of this build.
fn binary() -> PathBuf {
    let said = std::env::var_os("BOX_BINARY").filter(|path| !path.is_empty());
    said.map_or_else(|| env!("CARGO_BIN_EXE_waystation").into(), PathBuf::from)
}

/// Figures of one start, in seconds and bytes.
struct Start {
    accept: f64,
    stored: f64,
    sent: f64,
    memory: u64,
}

fn start(plan: &Plan) -> u64 {
    let receiver = Receiver::plain(1);
    let setup = peers::to_archive(receiver.port, "");
    let took = filled(&setup.spool_path(), plan.jobs, 1);
    println!(
        "{} jobs with their files made in {:.0} s",
        plan.jobs,
        took.as_secs_f64()
    );
    let index = size_of(&setup.spool_path().join("index"));
    setup.write();
    let mut rounds: Vec<Start> = Vec::new();
    for round in 0..plan.rounds {
        rounds.push(one_start(&setup, &receiver, round as u64));
    }
    let cold = drop_caches().then(|| one_start(&setup, &receiver, 1_000));
    println!(
        "\n### start with {} jobs queued, {} rounds, each after a SIGKILL\n",
        plan.jobs, plan.rounds
    );
    let mut table = Table::new(&["figure", "median", "lowest", "highest", "cold caches"]);
    let mut row = |name: &str, of: &dyn Fn(&Start) -> f64| {
        let found: Vec<f64> = rounds.iter().map(of).collect();
        table.row(vec![
            name.to_owned(),
            number(stats::median(&found)),
            number(stats::percentile(&found, 0.0)),
            number(stats::percentile(&found, 1.0)),
            cold.as_ref().map_or("-".to_owned(), |cold| number(of(cold))),
        ]);
    };
    row("first association accepted, s", &|start| start.accept);
    row("first instance stored, s", &|start| start.stored);
    row("first instance sent, s", &|start| start.sent);
    row("memory then, MiB", &|start| start.memory as f64 / f64::from(1 << 20));
    table.print();
    println!("index: {} MiB\n", number(index as f64 / f64::from(1 << 20)));
    let accepts: Vec<f64> = rounds.iter().map(|start| start.accept).collect();
    let median = stats::median(&accepts);
    target("start to first accept", median, "≤ 2 s", median <= 2.0);
    println!();
    0
}

fn one_start(setup: &Setup, receiver: &Receiver, round: u64) -> Start {
    let before = receiver.instances();
    let kind = objects::kind("5k");
    let log = std::fs::File::create(setup.path().join("stderr.log")).expect("writable");
    let mut command = Command::new(binary());
    command.args(["run", "-c"]).arg(setup.config());
    tools::clean(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let began = Instant::now();
    let mut running = Owned(command.spawn().expect("the box starts"));
    let address = ([127, 0, 0, 1], setup.dicom).into();
    let mut sender = loop {
        match wire::associate(address, "WAYSTATION", "MOD0", kind.class) {
            Ok(sender) => break sender,
            Err(_) => {
                assert!(
                    running.running() && began.elapsed() < PATIENCE,
                    "the box ended, or does not come up"
                );
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    };
    let accept = began.elapsed().as_secs_f64();
    let mut framed = sender.framed(&kind, 5_000_000 + round, None);
    assert_eq!(sender.store(&mut framed).expect("an answer"), 0);
    let stored = began.elapsed().as_secs_f64();
    assert!(receiver.wait(before + 1, PATIENCE).is_some(), "nothing is sent");
    let sent = began.elapsed().as_secs_f64();
    let memory = usage::memory(running.0.id());
    // What people look at must be true by now: the queue as the metrics say it.
    assert!(matches!(http::get(setup.web, "/readyz"), Some((200, _))), "ready");
    drop(running);
    Start {
        accept,
        stored,
        sent,
        memory,
    }
}

const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the page cache could be emptied.
fn drop_caches() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

/// Jobs in hand, as eight workers have them.
const IN_HAND: usize = 8;
/// Entries of a claim.
const CLAIM: usize = 8;

fn claims(plan: &Plan) -> u64 {
    let folder = peers::folder();
    let path = folder.path().join("spool");
    let each = plan.each();
    let took = filled(&path, plan.entries / each, each);
    println!("{} due entries made in {:.0} s", plan.entries, took.as_secs_f64());
    let before = size_of(&path.join("index"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let began = Instant::now();
    let (spool, report) = Spool::open(config(&path), Clock::System, Metrics::new()).expect("the spool opens");
    let opened = began.elapsed().as_secs_f64();
    assert_eq!(report.queued, plan.entries_made(), "all are queued");
    let memory = usage::memory(std::process::id());
    let name = DestinationId::parse(DESTINATION).expect("a name");
    let times = runtime.block_on(measured_claims(&spool, &name, plan.claims));
    let (settled, seconds) = runtime.block_on(settle(&spool, &name, plan.settles));
    runtime.block_on(spool.close());
    let after = size_of(&path.join("index"));
    println!("\n### {} due entries of one destination\n", plan.entries);
    let mib = |bytes: u64| number(bytes as f64 / f64::from(1 << 20));
    let mut table = Table::new(&["figure", "value"]);
    for (name, value) in [
        ("open, s", number(opened)),
        ("memory of the process then, MiB", mib(memory)),
        ("claim of 8, median, ms", number(stats::median(&times))),
        ("claim of 8, p99, ms", number(stats::percentile(&times, 0.99))),
        ("claim of 8, highest, ms", number(stats::percentile(&times, 1.0))),
        (
            "settled in a second (claims included)",
            number(settled as f64 / seconds),
        ),
        (
            "all settled at this rate, s",
            number(plan.entries as f64 / (settled as f64 / seconds)),
        ),
        ("index before, MiB", mib(before)),
        ("index after settling those, MiB", mib(after)),
    ] {
        table.row(vec![name.to_owned(), value]);
    }
    table.print();
    let p99 = stats::percentile(&times, 0.99);
    target("claim p99", p99, "≤ 5 ms", p99 <= 5.0);
    println!();
    0
}

/// Claims of eight by eight workers in turn; each settles what it had before it claims again.
async fn measured_claims(spool: &Spool, name: &DestinationId, count: usize) -> Vec<f64> {
    let mut in_hand: VecDeque<Vec<Lease>> = VecDeque::new();
    let mut times = Vec::with_capacity(count);
    for turn in 0..count {
        if in_hand.len() >= IN_HAND {
            settle_all(spool, in_hand.pop_front().unwrap_or_default()).await;
        }
        let began = Instant::now();
        let leases = spool.claim_for(name, CLAIM, Some(turn % IN_HAND)).await;
        assert!(!leases.is_empty(), "nothing is due");
        times.push(began.elapsed().as_secs_f64() * 1e3);
        in_hand.push_back(leases);
    }
    for leases in in_hand {
        settle_all(spool, leases).await;
    }
    times
}

async fn settle_all(spool: &Spool, leases: Vec<Lease>) -> u64 {
    let mut settling = tokio::task::JoinSet::new();
    for lease in leases {
        let spool = spool.clone();
        settling.spawn(async move {
            let confirmed = Settlement::Confirmed {
                status: 0,
                note: String::new(),
            };
            spool.settle(lease, confirmed).await.is_ok()
        });
    }
    settling.join_all().await.into_iter().filter(|done| *done).count() as u64
}

/// Eight workers that claim and settle until so many are done.
async fn settle(spool: &Spool, name: &DestinationId, count: u64) -> (u64, f64) {
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..IN_HAND {
        let (spool, name) = (spool.clone(), name.clone());
        let share = count / IN_HAND as u64;
        workers.spawn(async move {
            let mut done = 0;
            while done < share {
                let leases = spool.claim_for(&name, 32, Some(worker)).await;
                if leases.is_empty() {
                    break;
                }
                done += settle_all(&spool, leases).await;
            }
            done
        });
    }
    let settled = workers.join_all().await.into_iter().sum();
    (settled, began.elapsed().as_secs_f64())
}
