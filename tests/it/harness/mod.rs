//! What the tests share: a box under test, its peers, and witnesses that know nothing of the box.
pub mod http;
pub mod objects;
pub mod peers;
pub mod pki;
pub mod rig;
pub mod station;
pub mod tools;

pub use objects::Object;
// Not every test crate that includes this harness plays an archive.
#[allow(unused_imports)]
pub use peers::Archive;
pub use station::{Setup, Station};

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A port that nobody listens on. Below the range that the system hands out, so that no outgoing connection takes it while a
/// peer is down; counted up, so that two tests of one run never get the same.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = 12_000 + (start - 12_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if is_free(port) {
            return port;
        }
    }
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Waits until `done` holds; says what was waited for when it does not.
#[track_caller]
pub fn wait_until(what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < within, "waited {within:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

pub const SOON: Duration = Duration::from_secs(30);
