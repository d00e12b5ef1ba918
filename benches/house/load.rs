//! The same load for everybody: associations that each send one instance after the other for a while.
use super::objects::Kind;
use super::usage;
use super::wire::{self, Framed, Sender};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a load goes, and who pays for it there.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub called: String,
    /// Whose processor time and memory are the server's; 0 for none.
    pub pid: u32,
}

/// How much.
#[derive(Clone, Copy)]
pub struct Budget {
    pub associations: usize,
    /// No instance begins after it; every association sends one at least.
    pub span: Duration,
    /// Nor when so many bytes have been sent in all.
    pub bytes: u64,
    /// An instance each before the clock starts.
    pub warm_up: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub instances: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// From the first byte to the answer, each in milliseconds.
    pub answers_ms: Vec<f64>,
    pub server_cpu: f64,
    pub sender_cpu: f64,
    pub peak: u64,
    pub refused: u64,
}

impl Measured {
    pub fn rate(&self) -> f64 {
        self.instances as f64 / self.seconds
    }

    pub fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }
}

/// Series numbers, so that no two associations of a run ever send the same UID.
static SERIES: AtomicU64 = AtomicU64::new(1);

/// Runs a load to its end.
///
/// # Panics
/// When an association breaks: a figure over half of the load would be none.
pub fn run(target: &Target, kind: &Kind, budget: Budget) -> Measured {
    let mut shared: Option<Framed> = None;
    let mut senders: Vec<(Sender, Framed)> = Vec::with_capacity(budget.associations);
    for _ in 0..budget.associations {
        let sender = wire::associate(target.address, &target.called, "MOD0", kind.class);
        let sender = sender.unwrap_or_else(|error| panic!("{}: no association: {error}", target.called));
        let framed = sender.framed(kind, SERIES.fetch_add(1, Ordering::Relaxed), shared.as_ref());
        if shared.is_none() {
            shared = Some(sender.framed(kind, 0, Some(&framed)));
        }
        senders.push((sender, framed));
    }
    drop(shared);
    let sampler = Sampler::start(target.pid);
    let (mut out, senders) = send(target, kind, budget, senders);
    out.peak = sampler.stop();
    for (sender, _) in senders {
        sender.release();
    }
    out
}

fn send(
    target: &Target,
    kind: &Kind,
    budget: Budget,
    senders: Vec<(Sender, Framed)>,
) -> (Measured, Vec<(Sender, Framed)>) {
    let sum = Mutex::new(Measured::default());
    let sent = AtomicU64::new(0);
    let line = Barrier::new(budget.associations + 1);
    let (mut server, mut own) = (0.0, 0.0);
    let mut began = Instant::now();
    let back = std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for (mut sender, mut framed) in senders {
            if budget.warm_up {
                answered(target, &mut sender, &mut framed);
            }
            let (sum, sent, line) = (&sum, &sent, &line);
            workers.push(scope.spawn(move || {
                line.wait();
                one(target, kind, budget, &mut sender, &mut framed, sent, sum);
                (sender, framed)
            }));
        }
        (server, own, began) = (cpu(target.pid), usage::own_cpu(), Instant::now());
        line.wait();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().expect("a sender that did not panic"));
        joined.collect()
    });
    let mut out = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    out.seconds = began.elapsed().as_secs_f64();
    // While the associations are open: a child that has ended and was not waited for would not be counted.
    out.server_cpu = cpu(target.pid) - server;
    out.sender_cpu = usage::own_cpu() - own;
    (out, back)
}

fn cpu(pid: u32) -> f64 {
    if pid == 0 { 0.0 } else { usage::cpu(pid) }
}

fn answered(target: &Target, sender: &mut Sender, framed: &mut Framed) -> u16 {
    sender
        .store(framed)
        .unwrap_or_else(|error| panic!("{}: an instance was not answered: {error}", target.called))
}

/// One association's share.
#[allow(clippy::too_many_arguments)]
fn one(
    target: &Target,
    kind: &Kind,
    budget: Budget,
    sender: &mut Sender,
    framed: &mut Framed,
    sent: &AtomicU64,
    sum: &Mutex<Measured>,
) {
    let began = Instant::now();
    let (mut times, mut refused) = (Vec::with_capacity(1 << 14), 0);
    loop {
        let start = Instant::now();
        if answered(target, sender, framed) != 0 {
            refused += 1;
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
        let all = sent.fetch_add(kind.size, Ordering::Relaxed) + kind.size;
        if began.elapsed() >= budget.span || all >= budget.bytes {
            break;
        }
    }
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.instances += times.len() as u64;
    sum.bytes += times.len() as u64 * kind.size;
    sum.refused += refused;
    sum.answers_ms.append(&mut times);
}

/// The most memory that a process and its children had, looked at every 10 ms.
pub struct Sampler {
    ends: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Sampler {
    pub fn start(pid: u32) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = ends.clone();
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while pid != 0 && !seen.load(Ordering::Relaxed) {
                most = most.max(usage::memory(pid));
                std::thread::sleep(Duration::from_millis(10));
            }
            most
        });
        Self { ends, thread }
    }

    pub fn stop(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}
