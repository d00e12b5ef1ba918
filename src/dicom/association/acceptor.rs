//! The accepting side: the listener reads a request, judges it, and accepts or rejects.
//! Nothing here decides whom to admit.
use super::pdu::{self, INVALID_PARAMETER, NO_REASON, PROVIDER};
use super::request::{Context, Local, Rejection, Request, RoleSelection};
use super::wire::{self, First, Wire};
use super::{Association, Role, Stream, Timeouts, UlError};
use crate::base::limits::ASSOCIATE_MAX;
use tokio::time::Instant;

const WAITING: &str = "waiting for the A-ASSOCIATE-RQ";

/// Reads the A-ASSOCIATE-RQ, of at most `ASSOCIATE_MAX` bytes whatever our maximum PDU length. Whole within the
/// `association` deadline, so that a peer that sends it byte by byte gains nothing. On a malformed one an A-ABORT is
/// sent, and its arrival waited for, before the error is returned.
///
/// # Errors
/// See `UlError`.
pub async fn receive_request<S: Stream>(stream: &mut S, timeouts: &Timeouts) -> Result<Request, UlError> {
    let until = Instant::now() + timeouts.association;
    let kinds = [pdu::ASSOCIATE_RQ, pdu::ABORT];
    let (reason, error) = match wire::read_pdu(stream, &kinds, ASSOCIATE_MAX, until, WAITING).await? {
        First::Pdu(pdu::ABORT, body) => {
            let (source_code, reason) = pdu::abort_words(&body);
            return Err(UlError::Aborted { source_code, reason });
        }
        First::Pdu(_, body) => match pdu::parse_request(&body) {
            Ok(request) => return Ok(request),
            Err(pdu::Malformed) => (
                INVALID_PARAMETER,
                UlError::Protocol("the A-ASSOCIATE-RQ is not readable"),
            ),
        },
        // PS3.8 9.2.3, AA-1: whatever it is, it is answered in the words of DICOM.
        First::Other(kind, Some(dialect)) => (pdu::misplaced(kind), UlError::Foreign(dialect)),
        First::Other(kind, None) => (
            pdu::misplaced(kind),
            UlError::Protocol("the first PDU is no A-ASSOCIATE-RQ"),
        ),
        First::TooLong => (INVALID_PARAMETER, UlError::Protocol("the A-ASSOCIATE-RQ is too long")),
    };
    refuse(stream, &pdu::abort(PROVIDER, reason), timeouts, wire::LINGER).await?;
    Err(error)
}

/// A-ABORT (source 2, no reason) to a peer that speaks DICOM where it may not: on a port for TLS. Best effort, bounded.
pub async fn turn_away<S: Stream>(mut stream: S, timeouts: &Timeouts) {
    // Nobody is left to tell when it cannot be sent.
    let _lost = refuse(&mut stream, &pdu::abort(PROVIDER, NO_REASON), timeouts, wire::LINGER).await;
}

/// Answers with A-ASSOCIATE-RJ, waits (bounded by `release`) for the peer to close.
///
/// # Errors
/// See `UlError`.
pub async fn reject<S: Stream>(mut stream: S, rejection: Rejection, timeouts: &Timeouts) -> Result<(), UlError> {
    let mut wire = Wire::new(&mut stream, timeouts.write);
    wire.put(&pdu::reject(rejection)).await?;
    wire.flush().await?;
    // PS3.8 9.2, AE-8 and Sta13: the requestor closes. One that saw our end come with the PDU may take it for a lost
    // connection (pynetdicom does, one time in six).
    wire.closed_by_peer(timeouts.release).await;
    Ok(())
}

async fn refuse<S: Stream>(
    stream: &mut S,
    answer: &[u8],
    timeouts: &Timeouts,
    wait: std::time::Duration,
) -> Result<(), UlError> {
    let mut wire = Wire::new(stream, timeouts.write);
    wire.put(answer).await?;
    wire.flush().await?;
    wire.close(wait.min(timeouts.release)).await;
    Ok(())
}

impl<S: Stream> Association<S> {
    /// Acceptor: answers A-ASSOCIATE-AC with these results, and with a refusal for every unusable context of the request.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn accept(
        stream: S,
        request: &Request,
        results: Vec<Context>,
        local: &Local,
        timeouts: Timeouts,
    ) -> Result<Self, UlError> {
        Self::accept_as(stream, request, (results, Vec::new()), local, timeouts).await
    }

    /// As `accept`, and answers the peer's role selections with these; one that is left out keeps the default roles.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn accept_as(
        stream: S,
        request: &Request,
        (results, roles): (Vec<Context>, Vec<RoleSelection>),
        local: &Local,
        timeouts: Timeouts,
    ) -> Result<Self, UlError> {
        let mut wire = Wire::new(stream, timeouts.write);
        wire.put(&pdu::accept(request, &results, &roles, local)).await?;
        wire.flush().await?;
        let peer = pdu::peer_of(request);
        let mut association = Self::new(wire, Role::Acceptor, timeouts, results, peer);
        association.roles = roles;
        association.window = pdu::granted(request, local);
        Ok(association)
    }

    /// Acceptor: A-RELEASE-RP, waits for the peer to close.
    ///
    /// # Errors
    /// See `UlError`.
    pub async fn release_reply(mut self) -> Result<(), UlError> {
        self.usable()?;
        self.wire.put(&pdu::release(pdu::RELEASE_RP)).await?;
        self.wire.flush().await?;
        self.wire.close(self.timeouts.release).await;
        Ok(())
    }
}
