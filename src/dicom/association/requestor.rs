//! The requesting side: the sender, the probe and the rehearsed modality ask for an association and release it.
use super::pdu::{self, Answer, INVALID_PARAMETER, PROVIDER};
use super::request::{Context, Local, Proposed, RoleSelection};
use super::wire::{self, First, Wire};
use super::{Association, CONTEXTS_MAX, Peer, Role, Stream, Timeouts, UlError};
use crate::base::limits::ASSOCIATE_MAX;
use crate::base::names::{AeTitle, Uid};
use tokio::time::Instant;

const WAITING: &str = "waiting for the answer to the A-ASSOCIATE-RQ";
const RELEASING: &str = "waiting for the A-RELEASE-RP";

impl<S: Stream> Association<S> {
    /// Requestor: proposes `contexts` (ids are given out here: at most 128).
    ///
    /// # Errors
    /// `Rejected` with the peer's words, and the rest of `UlError`.
    ///
    /// # Panics
    /// With more than `CONTEXTS_MAX` contexts, or one without transfer syntax.
    pub async fn request(
        stream: S,
        calling: &AeTitle,
        called: &AeTitle,
        contexts: &[(Uid, Vec<Uid>)],
        local: &Local,
        timeouts: Timeouts,
    ) -> Result<Self, UlError> {
        Self::request_as(stream, (calling, called), (contexts, &[]), local, timeouts).await
    }

    /// As `request`, and proposes these roles. What the peer answered is in `role`.
    ///
    /// # Errors
    /// As `request`.
    ///
    /// # Panics
    /// As `request`.
    pub async fn request_as(
        mut stream: S,
        (calling, called): (&AeTitle, &AeTitle),
        (contexts, roles): (&[(Uid, Vec<Uid>)], &[RoleSelection]),
        local: &Local,
        timeouts: Timeouts,
    ) -> Result<Self, UlError> {
        assert!(contexts.len() <= CONTEXTS_MAX, "at most {CONTEXTS_MAX} contexts");
        assert!(
            contexts.iter().all(|c| !c.1.is_empty()),
            "every context has a transfer syntax"
        );
        let proposed: Vec<Proposed> = (1..=u8::MAX)
            .step_by(2)
            .zip(contexts)
            .map(|(id, (class, syntaxes))| Proposed {
                id,
                abstract_syntax: class.clone(),
                transfer_syntaxes: syntaxes.clone(),
            })
            .collect();
        let mut wire = Wire::new(&mut stream, timeouts.write);
        wire.put(&pdu::request((calling, called), &proposed, roles, local))
            .await?;
        wire.flush().await?;
        let answer = receive_answer(&mut stream, &timeouts).await?;
        let peer = Peer {
            called: Some(called.clone()),
            calling: Some(calling.clone()),
            max_pdu: answer.max_pdu,
            implementation_class_uid: answer.implementation_class_uid.clone(),
            implementation_version: answer.implementation_version.clone(),
        };
        let contexts = judge(proposed, &answer);
        let wire = Wire::new(stream, timeouts.write);
        let mut association = Self::new(wire, Role::Requestor, timeouts, contexts, peer);
        association.window = pdu::got(&answer, local);
        association.roles = answer.roles;
        Ok(association)
    }

    /// Requestor: A-RELEASE-RQ, waits for the reply, closes. A peer that closes instead of answering has released too.
    ///
    /// # Errors
    /// See `UlError`. Everything confirmed before stays confirmed.
    pub async fn release(mut self) -> Result<(), UlError> {
        self.usable()?;
        self.wire.put(&pdu::release(pdu::RELEASE_RQ)).await?;
        self.wire.flush().await?;
        let result = self.await_release(Instant::now() + self.timeouts.release).await;
        match result {
            // Both sides are done: nothing is waited for.
            Ok(()) | Err(UlError::Closed) => {
                self.wire.close(std::time::Duration::ZERO).await;
                Ok(())
            }
            Err(error) => {
                self.abort(0, 0).await;
                Err(error)
            }
        }
    }

    async fn await_release(&mut self, until: Instant) -> Result<(), UlError> {
        loop {
            self.wire.need(6, until, RELEASING).await?;
            let input = &self.wire.input;
            let (kind, length) = (input[0], u32::from_be_bytes([input[2], input[3], input[4], input[5]]));
            if length > super::P_DATA_MAX {
                return Err(UlError::Protocol("a PDU beyond every limit"));
            }
            let _ = self.wire.input.split_to(6);
            let words = self.pass_over(length as usize, until).await?;
            match kind {
                pdu::RELEASE_RP => return Ok(()),
                // Both asked at once (PS3.8 9.2.3, collision): the requestor answers first, then waits on.
                pdu::RELEASE_RQ => {
                    self.wire.put(&pdu::release(pdu::RELEASE_RP)).await?;
                    self.wire.flush().await?;
                }
                // What was under way when we asked for release.
                pdu::P_DATA => {}
                pdu::ABORT => {
                    let (source_code, reason) = pdu::abort_words(&words);
                    return Err(UlError::Aborted { source_code, reason });
                }
                _ => return Err(UlError::Protocol("an unexpected PDU instead of the A-RELEASE-RP")),
            }
        }
    }

    /// Consumes `count` bytes; answers the first four.
    async fn pass_over(&mut self, count: usize, until: Instant) -> Result<Vec<u8>, UlError> {
        let mut first = Vec::new();
        let mut left = count;
        while left > 0 {
            self.wire.need(1, until, RELEASING).await?;
            let piece = self.wire.input.split_to(left.min(self.wire.input.len()));
            first.extend(piece.iter().take(4 - first.len().min(4)));
            left -= piece.len();
        }
        Ok(first)
    }
}

async fn receive_answer<S: Stream>(stream: &mut S, timeouts: &Timeouts) -> Result<Answer, UlError> {
    let until = Instant::now() + timeouts.association;
    let kinds = [pdu::ASSOCIATE_AC, pdu::ASSOCIATE_RJ, pdu::ABORT];
    let received = wire::read_pdu(stream, &kinds, ASSOCIATE_MAX, until, WAITING).await;
    let (reason, error) = match received {
        Ok(First::Pdu(pdu::ASSOCIATE_RJ, body)) => return Err(UlError::Rejected(pdu::rejection(&body))),
        Ok(First::Pdu(pdu::ABORT, body)) => {
            let (source_code, reason) = pdu::abort_words(&body);
            return Err(UlError::Aborted { source_code, reason });
        }
        Ok(First::Pdu(_, body)) => match pdu::parse_answer(&body) {
            Ok(answer) => return Ok(answer),
            Err(pdu::Malformed) => {
                let error = UlError::Protocol("the A-ASSOCIATE-AC is not readable");
                (INVALID_PARAMETER, error)
            }
        },
        Ok(First::Other(kind, Some(dialect))) => (pdu::misplaced(kind), UlError::Foreign(dialect)),
        Ok(First::Other(kind, None)) => {
            let error = UlError::Protocol("the first PDU is no answer to an A-ASSOCIATE-RQ");
            (pdu::misplaced(kind), error)
        }
        Ok(First::TooLong) => {
            let error = UlError::Protocol("the A-ASSOCIATE-AC is too long");
            (INVALID_PARAMETER, error)
        }
        Err(error @ UlError::Timeout(_)) => (0, error),
        Err(error) => return Err(error),
    };
    let mut wire = Wire::new(stream, timeouts.write);
    wire.abort(PROVIDER, reason).await;
    wire.close(wire::LINGER.min(timeouts.release)).await;
    Err(error)
}

/// Our proposals with the peer's results. A context that it left out, or accepted in a syntax that was not proposed, counts
/// as refused; one accepted without naming the syntax counts as accepted when only one was proposed.
fn judge(proposed: Vec<Proposed>, answer: &Answer) -> Vec<Context> {
    let result = |context: &Proposed| {
        let (_, result, syntax) = answer.results.iter().find(|result| result.0 == context.id).ok_or(2)?;
        match (result, syntax, context.transfer_syntaxes.as_slice()) {
            (0, Some(syntax), offered) if offered.contains(syntax) => Ok(syntax.clone()),
            (0, None, [only]) => Ok(only.clone()),
            (0, _, _) => Err(2),
            (reason, _, _) => Err(*reason),
        }
    };
    proposed
        .into_iter()
        .map(|context| Context {
            result: result(&context),
            id: context.id,
            abstract_syntax: context.abstract_syntax,
        })
        .collect()
}
