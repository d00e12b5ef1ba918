//! A TCP stream that acknowledges at once. Used for every DICOM connection, in both roles.
//!
//! Many peers (DCMTK among them) write a PDU's head and its body apart, with Nagle's algorithm on: the body waits for the
//! acknowledgement of the head, and the kernel delays that by some 40 ms. Measured towards DCMTK's storescp: 46 ms for each
//! small instance without this. Linux takes the wish back by itself, so it is repeated whenever nothing more has come: what was
//! read so far is acknowledged then, and as long as there is more to read nobody waits for an acknowledgement. After every read
//! it would be eleven system calls and as many packets for an image of 512 KiB.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The stream. Whatever cannot be set is left: it costs time, never correctness.
#[derive(Debug)]
pub struct Prompt {
    stream: TcpStream,
    /// Something was read since the last acknowledgement.
    owes: bool,
}

impl Prompt {
    /// Takes a connected stream; small answers leave at once from now on, and so do acknowledgements.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let _slower = stream.set_nodelay(true);
        let mut prompt = Self { stream, owes: true };
        prompt.acknowledge();
        prompt
    }

    fn acknowledge(&mut self) {
        if std::mem::take(&mut self.owes) {
            let _slower = socket2::SockRef::from(&self.stream).set_tcp_quickack(true);
        }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        match poll {
            Poll::Ready(_) => self.owes = true,
            Poll::Pending => self.acknowledge(),
        }
        poll
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Twenty exchanges with a peer that writes its answer in two parts and leaves Nagle's algorithm on.
    async fn twenty_exchanges() -> io::Result<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(b"head").await?;
                stream.write_all(b"body").await?;
            }
            io::Result::Ok(())
        });
        let mut stream = Prompt::new(TcpStream::connect(address).await?);
        let began = Instant::now();
        let mut answer = [0; 8];
        for _ in 0..20 {
            stream.write_all(b"?").await?;
            stream.read_exact(&mut answer).await?;
        }
        drop(stream);
        peer.await.map_err(io::Error::other)??;
        Ok(began.elapsed())
    }

    #[tokio::test]
    async fn a_peer_that_writes_in_two_parts_is_not_kept_waiting() {
        let took = twenty_exchanges().await.expect("loopback");
        // Without quick acknowledgements each exchange takes 40 ms or more: 800 ms.
        assert!(took < Duration::from_millis(400), "{took:?}");
    }
}
