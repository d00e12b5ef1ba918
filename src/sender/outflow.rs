//! Whether what was handed to the kernel still leaves. A slow line is no dead one: the kernel takes megabytes at once and calls the
//! socket writable again only when a third of them is acknowledged, which takes minutes at 256 kbit/s.
//!
//! What is unacknowledged stands in `/proc/self/net/tcp` (`tx_queue`). It is read when somebody has waited for long, and never between.
//! Where it cannot be read nothing is seen to leave, and deadlines are those of the socket alone.
use super::transport::Progress;
use crate::dicom::association::Leaving;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What looks at this connection, and notes for the watchdog what moved. `None`: it has no addresses any more.
pub(super) fn leaving(line: &TcpStream, progress: Progress) -> Option<Leaving> {
    let (local, peer) = (line.local_addr().ok()?, line.peer_addr().ok()?);
    let seen: Mutex<Seen> = Mutex::default();
    Some(Arc::new(move || {
        let left = unacknowledged(local, peer);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if left.zip(seen.left).is_some_and(|(now, before)| now < before) {
            seen.moved = Some(Instant::now());
            progress.touch();
        }
        seen.left = left;
        seen.moved
    }))
}

#[derive(Default)]
struct Seen {
    /// Bytes at the last look.
    left: Option<u64>,
    moved: Option<Instant>,
}

/// Bytes that were written to this connection and not acknowledged by the peer.
fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let table = match local {
        SocketAddr::V4(_) => "/proc/self/net/tcp",
        SocketAddr::V6(_) => "/proc/self/net/tcp6",
    };
    let wanted = [spelt(local), spelt(peer)];
    let lines = BufReader::new(File::open(table).ok()?).lines().map_while(Result::ok);
    lines.skip(1).find_map(|line| queue(&line, &wanted))
}

/// Of a line of the table: number, local and remote address, state, queues.
fn queue(line: &str, wanted: &[String; 2]) -> Option<u64> {
    let mut words = line.split_whitespace().skip(1);
    let is_ours = wanted.iter().all(|address| words.next() == Some(address));
    let (sent, _) = words.nth(1).filter(|_| is_ours)?.split_once(':')?;
    u64::from_str_radix(sent, 16).ok()
}

/// An address as the table has it: the words of the network's bytes as this machine reads them.
fn spelt(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for word in octets.as_chunks::<4>().0 {
        // Writing to a string never fails.
        let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
    }
    format!("{text}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::time::Duration;

    #[test]
    fn the_kernels_table_is_understood() {
        let local = spelt("127.0.0.1:8080".parse().unwrap());
        let peer = spelt("127.0.0.1:53924".parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!((local.as_str(), peer.as_str()), ("0100007F:1F90", "0100007F:D2A4"));
            assert_eq!(
                spelt("[::1]:104".parse().unwrap()),
                "00000000000000000000000001000000:0068"
            );
        }
        let line = format!("   7: {local} {peer} 01 0002A0F0:00000010 01:00000014 00000000  1000  0 34 2");
        assert_eq!(queue(&line, &[local.clone(), peer.clone()]), Some(0x2_A0F0));
        assert_eq!(queue(&line, &[peer, local]), None);
        assert_eq!(queue("  sl  local_address", &[String::new(), String::new()]), None);
    }

    /// A peer that reads nothing, and then something: over a real connection.
    #[tokio::test]
    async fn what_a_slow_peer_still_takes_is_seen_and_what_stands_still_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut line = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        line.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let fill = |line: &mut TcpStream| loop {
            match line.write(&[7; 64 << 10]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        };
        // What is on its way between the two buffers comes to rest.
        for _ in 0..5 {
            fill(&mut line);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let look = leaving(&line, Progress::new()).unwrap();
        assert_eq!(look(), None, "the first look knows nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(look(), None, "nothing moves");
        let mut room = vec![0; 256 << 10];
        let mut moved = None;
        for _ in 0..200 {
            while peer.read(&mut room).is_ok_and(|count| count > 0) {}
            moved = look();
            if moved.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(moved.is_some(), "bytes have left");
    }
}
