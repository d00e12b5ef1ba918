//! A WAN on the loopback: a relay of TCP connections that can be cut and mended, for the demo and the tests.
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the link does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Bytes flow.
    Up,
    /// Running connections are dropped, new ones are closed at once.
    Cut,
    /// Running connections stay open and nothing moves: a black hole.
    Stalled,
}

/// The relay. It ends when dropped.
pub struct Wan {
    address: SocketAddr,
    link: watch::Sender<Link>,
    task: tokio::task::JoinHandle<()>,
}

impl Wan {
    /// Starts a relay on a free loopback port to `target`.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (link, state) = watch::channel(Link::Up);
        let task = tokio::spawn(relay(listener, target, state));
        Ok(Self { address, link, task })
    }

    /// Where the near side connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

async fn relay(listener: TcpListener, target: SocketAddr, state: watch::Receiver<Link>) {
    // Owned by this task: dropping the relay drops every connection of it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((near, _)) = accepted {
                    connections.spawn(carry(near, target, state.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut state: watch::Receiver<Link>) {
    if *state.borrow() == Link::Cut {
        return;
    }
    let Ok(Ok(mut far)) = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(target)).await else {
        return;
    };
    loop {
        let link = *state.borrow_and_update();
        match link {
            Link::Cut => return,
            Link::Stalled => {
                if state.changed().await.is_err() {
                    return;
                }
            }
            Link::Up => tokio::select! {
                // A copy that is cancelled may lose what it had read: no matter, the connection is dropped or stalls for good then.
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                changed = state.changed() => if changed.is_err() { return },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_cut_link_drops_connections_and_a_mended_one_carries_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let target = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        let wan = Wan::to(target).await.expect("relay");
        let mut byte = [0];
        let mut stream = TcpStream::connect(wan.address()).await.expect("connect");
        stream.write_all(b"a").await.expect("write");
        stream.read_exact(&mut byte).await.expect("echo");
        wan.set(Link::Cut);
        assert!(matches!(stream.read(&mut byte).await, Ok(0) | Err(_)));
        let mut refused = TcpStream::connect(wan.address()).await.expect("connect");
        assert!(matches!(refused.read(&mut byte).await, Ok(0) | Err(_)));
        wan.set(Link::Up);
        let mut again = TcpStream::connect(wan.address()).await.expect("connect");
        again.write_all(b"b").await.expect("write");
        again.read_exact(&mut byte).await.expect("echo");
        assert_eq!(&byte, b"b");
    }
}
