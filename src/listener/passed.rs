//! Listening sockets that the service manager has opened and passes on (`LISTEN_FDS`, sd_listen_fds(3)): it may open port 104, which
//! the box may not, and it keeps them open while the box starts again, so that a peer waits instead of being refused. A socket is
//! found by its address, not by its name or place. The only door to listenfd, which turns descriptors into sockets: our own code
//! has no `unsafe`.
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// The sockets that no listener has taken yet.
#[derive(Default, Debug)]
pub struct Passed {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// What was passed and is no listening TCP socket.
    strange: Vec<String>,
}

impl Passed {
    /// Takes what was passed to this process, once. Call it while the process has one thread: it clears the variables, so that
    /// no child believes that they are for it.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut fds = ListenFd::from_env();
        let mut passed = Self::default();
        for index in 0..fds.len() {
            let taken = fds.take_tcp_listener(index);
            match taken.and_then(|socket| socket.map(usable).transpose()) {
                Ok(found) => passed.sockets.extend(found),
                Err(error) => passed.strange.push(error.to_string()),
            }
        }
        passed
    }

    /// The socket for a configured address: the one that is bound to it, or, for an unspecified IPv4 address, the one that is bound to
    /// the same port of every address of both kinds (systemd's `ListenStream=104`).
    #[must_use]
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let exact = self.sockets.iter().position(|(bound, _)| *bound == address);
        let found = exact.or_else(|| self.sockets.iter().position(|(bound, _)| covers(*bound, address)));
        found.map(|at| self.sockets.swap_remove(at).1)
    }

    /// What nobody has taken. Peers that connect there would wait for ever, so that each is worth an alarm.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let sockets = self.sockets.iter().map(|(address, _)| address.to_string());
        sockets.chain(self.strange.iter().cloned()).collect()
    }
}

fn usable(socket: TcpListener) -> io::Result<(SocketAddr, TcpListener)> {
    let address = socket.local_addr()?;
    if !socket_acceptconn(&socket)? {
        return Err(io::Error::other(format!("{address} does not listen")));
    }
    socket.set_nonblocking(true)?;
    Ok((address, socket))
}

fn covers(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let any = bound.ip().is_unspecified() && wanted.ip().is_unspecified();
    any && bound.is_ipv6() && wanted.is_ipv4() && bound.port() == wanted.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(addresses: &[&str]) -> Passed {
        let sockets = addresses.iter().map(|address| {
            let socket = TcpListener::bind(address).unwrap();
            usable(socket).unwrap()
        });
        Passed {
            sockets: sockets.collect(),
            strange: Vec::new(),
        }
    }

    #[test]
    fn a_socket_is_found_by_its_address_and_once() {
        let mut passed = passed(&["127.0.0.1:0", "127.0.0.1:0", "[::]:0"]);
        let addresses: Vec<SocketAddr> = passed.sockets.iter().map(|(address, _)| *address).collect();
        let taken = passed.take(addresses[1]).unwrap();
        assert_eq!(taken.local_addr().unwrap(), addresses[1]);
        assert!(passed.take(addresses[1]).is_none());
        let any = SocketAddr::new([0, 0, 0, 0].into(), addresses[2].port());
        let other = SocketAddr::new([127, 0, 0, 1].into(), addresses[2].port());
        assert!(passed.take(other).is_none(), "one address is not every address");
        assert!(passed.take(any).is_some());
        assert_eq!(passed.left(), [addresses[0].to_string()]);
    }
}
