//! `make bench-wan`: how much of a thin, long line each sender fills: a queue of CT images, and one of small objects.
//!
//! The line is `rehearse::line` (its limits are written there). In each round, on the same line: plain TCP first, over one and
//! over eight connections, which is the limit; then the box, from a queue that was filled while its destination was suspended;
//! then the peers, from files. All send to one receiver that answers at once. A share is the bytes of data sets, over what the
//! line could have carried between the first connection and the last answer. The peers get fewer instances (`PEER_CT`,
//! `PEER_SMALL`): they are slow, and a share does not hang on the count.
use super::harness::tools::{self, Owned};
use super::harness::{self, SOON, wait_until};
use super::objects::{self, Kind};
use super::peers;
use super::receiver::Receiver;
use super::table::{Table, machine, number, plus_minus, target};
use super::{params, stats, wire};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;
use waystation::rehearse::line::{Line, Profile};
use waystation::sender::config::ASSOCIATIONS_MAX;

pub struct Plan {
    pub links: Vec<Profile>,
    /// Kinds with their count, for the box and for the peers.
    pub loads: Vec<(Kind, u64, u64)>,
    pub senders: Vec<String>,
    pub rounds: usize,
    /// `associations` of the box's destination.
    pub associations: usize,
}

/// Who sends. `window` is the box to a receiver that negotiates asynchronous operations.
const SENDERS: [&str; 7] = [
    "tcp-1",
    "tcp-8",
    "waystation",
    "waystation-window",
    "storescu",
    "dcmsend",
    "orthanc",
];

impl Plan {
    pub fn asked() -> Self {
        let count = |name, otherwise| params::count(name, otherwise) as u64;
        Self {
            links: params::words("LINKS", "100/50,20/150")
                .iter()
                .map(|text| link(text))
                .collect(),
            loads: vec![
                (objects::kind("512k"), count("CT", 2_000), count("PEER_CT", 100)),
                (objects::kind("5k"), count("SMALL", 20_000), count("PEER_SMALL", 200)),
            ],
            senders: params::chosen("PEERS", &SENDERS, &SENDERS.join(",")),
            rounds: params::count("ROUNDS", 3),
            associations: params::count_to("ASSOCIATIONS", 256, ASSOCIATIONS_MAX),
        }
    }

    pub fn smoke() -> Self {
        Self {
            links: vec![link("400/5")],
            loads: vec![(objects::kind("512k"), 8, 2), (objects::kind("5k"), 60, 4)],
            senders: params::chosen("SMOKE_PEERS", &SENDERS, &SENDERS.join(",")),
            rounds: 1,
            associations: 16,
        }
    }
}

/// More than that loopback does not carry, and the box's own patience ends before so long a trip.
const RATE_MAX: u32 = 10_000;
const TRIP_MAX: u32 = 2_000;

/// `100/50`: megabits in a second, and the round trip in milliseconds.
fn link(text: &str) -> Profile {
    let parts = text
        .split_once('/')
        .and_then(|(rate, trip)| Some((rate.parse::<u32>().ok()?, trip.parse::<u32>().ok()?)));
    let Some((rate @ 1..=RATE_MAX, trip @ ..=TRIP_MAX)) = parts else {
        let wanted = format!("MBIT/MS, parted by commas, as in 100/50,20/150, up to {RATE_MAX}/{TRIP_MAX}");
        params::wrong("LINKS", text, &wanted);
    };
    Profile {
        bits_per_second: u64::from(rate) * 1_000_000,
        round_trip: Duration::from_millis(trip.into()),
    }
}

/// What one sender came to: share of the line, seconds, connections, instances.
#[derive(Default)]
struct Figures {
    shares: Vec<f64>,
    seconds: Vec<f64>,
    open: usize,
    count: u64,
}

/// Runs a plan and prints its tables; answers how many instances were lost or refused.
pub fn run(plan: &Plan) -> u64 {
    machine();
    let mut missing = 0;
    for profile in &plan.links {
        for load in &plan.loads {
            missing += one(plan, *profile, load);
        }
    }
    missing
}

fn one(plan: &Plan, profile: Profile, (kind, own, theirs): &(Kind, u64, u64)) -> u64 {
    let mut figures: BTreeMap<usize, Figures> = BTreeMap::new();
    let mut missing = 0;
    for _ in 0..plan.rounds {
        for (at, sender) in plan.senders.iter().enumerate() {
            let found = figures.entry(at).or_default();
            let is_box = sender.starts_with("waystation");
            let count = if is_box { *own } else { *theirs };
            let window = if sender == "waystation-window" { 64 } else { 1 };
            let mut bench = Bench::new(profile, window);
            let came = match sender.as_str() {
                "tcp-1" => bench.tcp(1, kind.size * count),
                "tcp-8" => bench.tcp(8, kind.size * count),
                "waystation" | "waystation-window" => bench.station(kind, count, plan.associations),
                "storescu" | "dcmsend" => bench.dcmtk(sender, kind, count),
                "orthanc" => bench.orthanc(kind, count),
                other => unreachable!("{other} is none of SENDERS"),
            };
            let passed = bench.line.passed();
            let span = passed
                .first
                .zip(passed.last)
                .map(|(first, last)| (last - first).as_secs_f64());
            let seconds = span.unwrap_or(f64::NAN);
            found
                .shares
                .push(came as f64 * 8.0 / seconds / profile.bits_per_second as f64);
            found.seconds.push(seconds);
            found.open = found.open.max(passed.open_max);
            found.count = if sender.starts_with("tcp") { 0 } else { count };
            missing += (count * kind.size).saturating_sub(came) / kind.size;
            peers::settle();
        }
    }
    print(plan, profile, kind, &figures);
    missing
}

fn print(plan: &Plan, profile: Profile, kind: &Kind, figures: &BTreeMap<usize, Figures>) {
    let (rate, trip) = (profile.bits_per_second / 1_000_000, profile.round_trip.as_millis());
    println!(
        "### {} over {rate} Mbit/s, {trip} ms, {} rounds\n",
        kind.name, plan.rounds
    );
    let mut table = Table::new(&[
        "sender",
        "instances",
        "seconds",
        "share of the line",
        "±",
        "connections",
    ]);
    for (at, found) in figures {
        table.row(vec![
            plan.senders[*at].clone(),
            if found.count == 0 {
                "-".to_owned()
            } else {
                found.count.to_string()
            },
            number(stats::median(&found.seconds)),
            number(stats::median(&found.shares)),
            plus_minus(stats::spread(&found.shares)),
            found.open.to_string(),
        ]);
    }
    table.print();
    let wanted = if kind.size > 65_536 { 0.9 } else { 0.7 };
    let own = plan.senders.iter().position(|name| name == "waystation");
    if let Some(found) = own.and_then(|at| figures.get(&at)) {
        let share = stats::median(&found.shares);
        let name = format!("WAN share, {} over {rate}/{trip}", kind.name);
        target(&name, share, &format!("≥ {wanted}"), share >= wanted);
    }
    println!();
}

/// A line with its receiver.
struct Bench {
    line: Line,
    receiver: Receiver,
    sink: SocketAddr,
    profile: Profile,
    runtime: Runtime,
}

impl Bench {
    fn new(profile: Profile, window: u16) -> Self {
        let receiver = Receiver::plain(window);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
        let far = ([127, 0, 0, 1], receiver.port).into();
        let line = runtime.block_on(Line::to(far, profile)).expect("a port");
        let sink = runtime.block_on(sink());
        Self {
            line,
            receiver,
            sink,
            profile,
            runtime,
        }
    }

    fn port(&self) -> u16 {
        self.line.address().port()
    }

    /// As long as the worst sender can need: one instance after the other, each with four round trips, and then some.
    fn patience(&self, kind: &Kind, count: u64) -> Duration {
        let each =
            kind.size as f64 * 8.0 / self.profile.bits_per_second as f64 + 4.0 * self.profile.round_trip.as_secs_f64();
        Duration::from_secs_f64(60.0 + 2.0 * each * count as f64)
    }

    /// Waits for the receiver to have all; answers the bytes that have come.
    fn arrived(&self, kind: &Kind, count: u64) -> u64 {
        self.receiver.wait(count, self.patience(kind, count));
        // The last answer is still on its way.
        std::thread::sleep(self.profile.round_trip + Duration::from_millis(50));
        self.receiver.bytes()
    }

    /// Plain TCP: what the line carries at best. The far end answers with one byte when all has come.
    fn tcp(&mut self, connections: usize, bytes: u64) -> u64 {
        let line = self
            .runtime
            .block_on(Line::to(self.sink, self.profile))
            .expect("a port");
        let address = line.address();
        let each = usize::try_from(bytes / connections as u64).expect("it fits");
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(move || pour(address, each));
            }
        });
        self.line = line;
        (each * connections) as u64
    }

    /// The box: its queue is filled while the destination is suspended, and resumed when all is in it.
    fn station(&self, kind: &Kind, count: u64, associations: usize) -> u64 {
        let more = format!("associations = {associations}");
        let peer = peers::station(peers::to_archive(self.port(), &more));
        let station = peer.as_station().expect("a box");
        station.cli(&["queue", "suspend", "vna", "--reason", "bench"]).ok();
        fill(peer.target.address, kind, count);
        self.line.reset();
        station.cli(&["queue", "resume", "vna"]).ok();
        let came = self.arrived(kind, count);
        peer.stop();
        came
    }

    fn dcmtk(&self, program: &str, kind: &Kind, count: u64) -> u64 {
        let folder = peers::folder();
        objects::write_files(kind, folder.path(), count);
        let mut command = Command::new(tools::program(program));
        command.args(["-aec", "ANY", "--max-send-pdu", "131072", "-pdu", "131072", "+sd"]);
        if program == "storescu" {
            command.args(["-R", "-xe"]);
        }
        command.args(["127.0.0.1", &self.port().to_string()]).arg(folder.path());
        tools::clean(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let sending = Owned(command.spawn().expect("DCMTK starts"));
        let came = self.arrived(kind, count);
        drop(sending);
        came
    }

    /// Orthanc with its defaults, told to send all that it was given by its own interface.
    fn orthanc(&self, kind: &Kind, count: u64) -> u64 {
        let folder = peers::folder();
        objects::write_files(kind, &folder.path().join("files"), count);
        let http = harness::free_port();
        let storage = folder.path().join("storage");
        let config = serde_json::json!({
            "Name": "bench", "StorageDirectory": storage, "IndexDirectory": storage, "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false, "HttpPort": http, "DicomServerEnabled": false, "Plugins": [],
            "DicomModalities": {"line": ["ANY", "127.0.0.1", self.port()]}, "DicomScuTimeout": 60,
        });
        let file = folder.path().join("orthanc.json");
        std::fs::write(&file, config.to_string()).expect("writable");
        let mut command = Command::new(tools::program("Orthanc"));
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        tools::clean(&mut command);
        let serving = Owned(command.spawn().expect("Orthanc starts"));
        wait_until("Orthanc serves", SOON, || {
            matches!(harness::http::get(http, "/system"), Some((200, _)))
        });
        let ids = upload(http, &folder.path().join("files"));
        let order = serde_json::json!({"Resources": ids, "Synchronous": false});
        self.line.reset();
        post(http, "/modalities/line/store", order.to_string().as_bytes());
        let came = self.arrived(kind, count);
        drop(serving);
        came
    }
}

/// A far end for plain TCP: a length, so many bytes, and one byte as the answer.
async fn sink() -> SocketAddr {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut left = stream.read_u64().await.unwrap_or(0);
                let mut buffer = vec![0; 256 << 10];
                while left > 0 {
                    match stream.read(&mut buffer).await {
                        Ok(count @ 1..) => left = left.saturating_sub(count as u64),
                        _ => return,
                    }
                }
                // The sender waits for it; one that is gone has failed by itself.
                drop(tokio::io::AsyncWriteExt::write_all(&mut stream, b"!").await);
            });
        }
    });
    address
}

fn pour(address: SocketAddr, bytes: usize) {
    let mut stream = TcpStream::connect(address).expect("the line");
    stream.write_all(&(bytes as u64).to_be_bytes()).expect("sent");
    let piece = vec![0x5a; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now]).expect("sent");
        left -= now;
    }
    let mut answer = [0];
    stream.read_exact(&mut answer).expect("answered");
}

/// Instances of a study, of small objects and of images.
const STUDY: u64 = 20;
const FILLERS: u64 = 8;

/// Sends exactly so many instances into the box, study by study.
fn fill(address: SocketAddr, kind: &Kind, count: u64) {
    std::thread::scope(|scope| {
        for filler in 0..FILLERS {
            scope.spawn(move || {
                let mut sender = wire::associate(address, "WAYSTATION", "MOD0", kind.class).expect("an association");
                let shared = sender.framed(kind, 0, None);
                let studies = count.div_ceil(STUDY);
                for study in (filler..studies).step_by(FILLERS as usize) {
                    let mut framed = sender.framed(kind, 1_000 + study, Some(&shared));
                    for _ in study * STUDY..count.min((study + 1) * STUDY) {
                        assert_eq!(sender.store(&mut framed).expect("an answer"), 0, "the box takes it");
                    }
                }
                sender.release();
            });
        }
    });
}

fn upload(http: u16, folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("a folder");
    let one = |entry: std::io::Result<std::fs::DirEntry>| {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let answer: serde_json::Value = serde_json::from_slice(&post(http, "/instances", &bytes)).expect("JSON");
        answer["ID"].as_str().expect("an id").to_owned()
    };
    files.map(one).collect()
}

fn post(port: u16, path: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("Orthanc listens");
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let at = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(0, |at| at + 4);
    answer.split_off(at)
}
