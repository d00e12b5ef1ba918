//! A peer that closes without a word, or aborts without a reason: does it speak the other language? A wrong port or a forgotten `tls`
//! is the commonest mistake of a go-live. DCMTK and OpenSSL answer it with a closed connection and nothing else, and a box of this kind
//! answers plain DICOM on its port for TLS with an A-ABORT (source 2, no reason).
//!
//! The question is asked on a connection of its own, once for each failed attempt, and gives nothing away: towards a port that should
//! speak TLS an A-RELEASE-RQ, ten bytes without any name, which PS3.8 9.2.3 (AA-1) has answered with an A-ABORT; towards a port
//! that should speak plain DICOM a TLS hello without a name.
use super::outcome::{Down, DownKind};
use super::tls::{self, Failure, Reason};
use crate::base::dialect::Dialect;
use crate::dicom::association::UlError;
use crate::pki::opening::Opened;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A TLS handshake that failed, with the peer asked when it said nothing.
pub async fn of_handshake(failure: Failure, address: Option<SocketAddr>) -> Failure {
    let reason = match (failure.reason, address) {
        (Reason::ClosedOnHello | Reason::Silent, Some(address)) => match ask(address, &RELEASE_RQ).await {
            Some(Dialect::Dicom) => Reason::Speaks(Dialect::Dicom),
            _ => failure.reason,
        },
        (reason, _) => reason,
    };
    Failure { reason, ..failure }
}

/// A plain association request that came to nothing in a way that a port for TLS has: whether the peer speaks TLS.
pub async fn of_request(error: &UlError, address: Option<SocketAddr>) -> Option<Down> {
    let doubtful = match error {
        UlError::Closed => true,
        UlError::Io(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        UlError::Aborted { source_code, reason } => (*source_code, *reason) == NO_REASON,
        _ => false,
    };
    let (true, Some(address)) = (doubtful, address) else {
        return None;
    };
    match ask(address, &tls::hello()?).await {
        Some(Dialect::Tls) => Some(speaks(Dialect::Tls)),
        _ => None,
    }
}

/// A plain peer that spoke another protocol.
pub(super) fn speaks(dialect: Dialect) -> Down {
    let word = match dialect {
        Dialect::Tls | Dialect::Ssl2 => "tls_on_plain",
        Dialect::Http => "plain_http",
        Dialect::Ssh => "plain_ssh",
        Dialect::Dicom | Dialect::Unknown => "not_dicom",
    };
    let kind = if word == "tls_on_plain" {
        DownKind::Tls
    } else {
        DownKind::Association
    };
    let remedy = if word == "tls_on_plain" {
        "give it a [destinations.tls] table, or its plain port"
    } else {
        "compare the port"
    };
    let words = dialect.words();
    Down::because(
        kind,
        word,
        format!("the peer speaks {words} on this port, where plain DICOM is configured: {remedy}"),
    )
}

/// Says these bytes and listens to what comes first.
async fn ask(address: SocketAddr, question: &[u8]) -> Option<Dialect> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(question).await.ok()?;
        let (_, dialect) = Opened::read(stream).await.ok()?;
        Some(dialect)
    };
    timeout(ASK_MAX, asking).await.ok().flatten()
}

const RELEASE_RQ: [u8; 10] = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
/// PS3.8 9.3.8: of the service provider, reason not specified.
const NO_REASON: (u8, u8) = (2, 0);
const ASK_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    /// A port that answers every connection with these bytes after it has read something.
    async fn answering(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut said = [0; 16];
                let _count = stream.read(&mut said).await;
                let _gone = stream.write_all(bytes).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_silent_peer_is_asked_what_it_speaks() {
        let dicom = answering(b"\x07\0\0\0\0\x04\0\0\x02\x02").await;
        let failure = of_handshake(Reason::ClosedOnHello.into(), Some(dicom)).await;
        assert_eq!(failure.reason.word(), "plain_dicom");
        assert!(
            failure.to_string().contains("speaks plain DICOM on this port"),
            "{failure}"
        );
        let mute = answering(b"").await;
        let failure = of_handshake(Reason::ClosedOnHello.into(), Some(mute)).await;
        assert_eq!(failure.reason, Reason::ClosedOnHello);
        let failure = of_handshake(Reason::Expired.into(), Some(dicom)).await;
        assert_eq!(
            failure.reason,
            Reason::Expired,
            "a reason that is known is not asked for"
        );

        let tls = answering(b"\x15\x03\x03\0\x02\x02\x28").await;
        let aborted = |source_code, reason| UlError::Aborted { source_code, reason };
        for error in [UlError::Closed, aborted(2, 0)] {
            let down = of_request(&error, Some(tls)).await.unwrap();
            assert_eq!((down.kind, down.cause), (DownKind::Tls, Some("tls_on_plain")));
            assert!(of_request(&error, Some(mute)).await.is_none());
            assert!(of_request(&error, Some(dicom)).await.is_none());
        }
        for error in [aborted(0, 0), aborted(2, 6), UlError::Timeout("x")] {
            assert!(
                of_request(&error, Some(tls)).await.is_none(),
                "{error} has another cause"
            );
        }
    }
}
