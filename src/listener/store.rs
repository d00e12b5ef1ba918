//! One association of a modality: its commands are read, its data sets handed to `ingest`, its answers given.
//!
//! Promises: 0000 only after the commit; one bad instance is answered and the association goes on; every read and write has
//! a deadline; nothing is logged that a data set says.
use super::commitment::Exchange;
use super::config::SourceConfig;
use super::negotiate::VERIFICATION;
use crate::base::drain::Drain;
use crate::base::fault::{Plant, panic_if, planted};
use crate::base::names::{AeTitle, InstanceId, Uid};
use crate::dicom::association::{Association, Event, Stream, UlError};
use crate::dicom::commitment;
use crate::dicom::dimse::{Command, StoreRq, StoreRsp};
use crate::dicom::head::Scanner;
use crate::dicom::status;
use crate::dicom::syntax::Syntax;
use crate::ingest::{Announced, Ingest, Receiving, Refused, study_of};
use crate::spool::Repeat;
use crate::telemetry::metrics::Metrics;
use std::time::Instant;

/// What an association needs besides its peer.
pub struct Context {
    pub ingest: Ingest,
    pub metrics: Metrics,
    pub drain: Drain,
    pub source: SourceConfig,
    pub calling: AeTitle,
    pub called: AeTitle,
}

/// What an association did, for its closing log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Served {
    pub stored: u64,
    pub refused: u64,
    pub echoes: u64,
}

/// How an association ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Released,
    /// The box is stopping; the peer was told by an abort.
    Stopped,
}

/// Serves an association until it is released, fails, or the box stops.
///
/// # Errors
/// Whatever broke the association, after an abort was sent where that makes sense.
pub async fn serve<S: Stream>(
    mut association: Association<S>,
    context: &Context,
    mut exchange: Exchange,
    served: &mut Served,
) -> Result<Ended, UlError> {
    loop {
        let event = tokio::select! {
            biased;
            event = exchange.event(&mut association) => event,
            () = context.drain.stopping() => {
                association.abort(SERVICE_PROVIDER, 0).await;
                return Ok(Ended::Stopped);
            }
        };
        let answered = match event {
            Ok(Event::Release) => {
                association.release_reply().await?;
                return Ok(Ended::Released);
            }
            Ok(Event::Malformed { .. }) => Err(UlError::Protocol("the command set is not readable")),
            Ok(Event::Command { context: id, command }) => {
                answer(&mut association, (context, &mut exchange), id, command, served).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            if !matches!(error, UlError::Closed | UlError::Aborted { .. } | UlError::Io(_)) {
                association.abort(SERVICE_PROVIDER, 0).await;
            }
            return Err(error);
        }
    }
}

/// A-ABORT source 2: the upper-layer service provider.
const SERVICE_PROVIDER: u8 = 2;

async fn answer<S: Stream>(
    association: &mut Association<S>,
    (context, exchange): (&Context, &mut Exchange),
    id: u8,
    command: Command,
    served: &mut Served,
) -> Result<(), UlError> {
    let has_data_set = command.has_data_set();
    match command {
        Command::EchoRq { message_id } => {
            served.echoes += 1;
            panic_if(Plant::PanicEcho);
            association
                .send(
                    id,
                    &Command::EchoRsp {
                        message_id,
                        status: status::SUCCESS,
                    },
                )
                .await
        }
        Command::StoreRq(request) => {
            let _arriving = exchange.arriving(&context.source.name);
            store(association, context, id, request, served).await
        }
        Command::ActionRq(asked) => {
            let who = (&context.source, &context.calling, &context.called);
            exchange.request(association, who, id, asked).await
        }
        Command::EventRq(asked) => {
            let who = (&context.source, &context.calling);
            exchange.report(association, who, id, asked).await
        }
        Command::EventRsp(told) => exchange.answered(association, &told).await,
        Command::Cancel { .. } => Ok(()),
        Command::Other {
            field,
            message_id,
            class,
            ..
        } => {
            if has_data_set {
                discard(association, &mut Peek::blind(), DISCARD_MAX).await?;
            }
            let answer = Command::response_to(field, message_id, class, status::UNRECOGNIZED_OPERATION);
            association.send(id, &answer).await
        }
        // Answers to requests that this side never made.
        Command::EchoRsp { .. } | Command::StoreRsp(_) | Command::ActionRsp(_) => {
            Err(UlError::Protocol("an answer without a request"))
        }
    }
}

async fn store<S: Stream>(
    association: &mut Association<S>,
    context: &Context,
    id: u8,
    request: StoreRq,
    served: &mut Served,
) -> Result<(), UlError> {
    let began = Instant::now();
    let mut stored = None;
    let mut study = None;
    let taken = match announced(association, context, id, &request) {
        Err((status, comment)) => {
            let discarded = match request.has_data_set {
                true => discard(association, &mut Peek::blind(), DISCARD_MAX).await,
                false => Ok(()),
            };
            discarded.map(|()| (status, Some(comment)))
        }
        Ok(announced) => match receive(association, context, announced, &mut study).await {
            Ok(Ok(instance)) => {
                stored = instance;
                Ok((status::SUCCESS, None))
            }
            Ok(Err(refused)) => {
                tracing::warn!(source = %context.source.name, status = %format_args!("{:04X}", refused.status()), reason = %refused, "instance refused");
                Ok((refused.status(), Some(refused.comment())))
            }
            Err(error) => Err(error),
        },
    };
    let refused = match &taken {
        Ok((status::SUCCESS, _)) => None,
        Ok((status, _)) => Some(format!("{status:04X}")),
        Err(_) => Some("cut".to_owned()),
    };
    if let Some(word) = refused {
        served.refused += 1;
        let sop_instance = request.sop_instance.as_ref();
        context.ingest.refused(&context.source.name, study, sop_instance, &word);
    } else {
        served.stored += 1;
    }
    let (status, comment) = taken?;
    let source = context.source.name.as_str();
    context
        .metrics
        .store_answers_total
        .with_label_values(&[source, &format!("{status:04X}")])
        .inc();
    let took = began.elapsed();
    let example = stored.as_ref().map(|id| (id, context.ingest.now()));
    context.metrics.stored(source, took.as_secs_f64(), example);
    let answer = StoreRsp {
        message_id: request.message_id,
        status,
        sop_class: request.sop_class,
        sop_instance: request.sop_instance,
        comment: comment.map(str::to_owned),
    };
    association.send(id, &Command::StoreRsp(answer)).await
}

/// What the command says of the instance, or the status it deserves.
fn announced<S: Stream>(
    association: &Association<S>,
    context: &Context,
    id: u8,
    request: &StoreRq,
) -> Result<Announced, (u16, &'static str)> {
    let negotiated = association.contexts().iter().find(|context| context.id == id);
    let Some((class, Ok(transfer_syntax))) = negotiated.map(|context| (&context.abstract_syntax, &context.result))
    else {
        return Err((status::SOP_CLASS_NOT_SUPPORTED, "presentation context was not accepted"));
    };
    if !request.has_data_set {
        return Err((status::CANNOT_UNDERSTAND, "C-STORE without a data set"));
    }
    let Some(sop_class) = request.sop_class.clone() else {
        return Err((status::SOP_CLASS_NOT_SUPPORTED, "Affected SOP Class UID is not a UID"));
    };
    let Some(sop_instance) = request.sop_instance.clone() else {
        return Err((status::INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID"));
    };
    if class.as_str() == VERIFICATION || class.as_str() == commitment::CLASS || sop_class != *class {
        return Err((status::SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the context"));
    }
    Ok(Announced {
        source: context.source.name.clone(),
        calling_ae: context.calling.clone(),
        called_ae: context.called.clone(),
        sop_class,
        sop_instance,
        transfer_syntax: transfer_syntax.clone(),
        repeat: match context.source.repeat {
            super::Repeat::Acknowledge => Repeat::Acknowledge,
            super::Repeat::Deliver => Repeat::Deliver,
        },
    })
}

/// Takes the data set; answers under which id it is kept. The outer error ends the association; the inner one only this instance,
/// whose data set is read to its end. `study` learns which one it is of, as far as it can be read.
async fn receive<S: Stream>(
    association: &mut Association<S>,
    context: &Context,
    announced: Announced,
    study: &mut Option<Uid>,
) -> Result<Result<Option<InstanceId>, Refused>, UlError> {
    let mut peek = Peek::at(&announced.transfer_syntax);
    let mut receiving: Receiving = match context.ingest.begin(announced).await {
        Ok(receiving) => receiving,
        Err(refused) => {
            let discarded = discard(association, &mut peek, DISCARD_MAX).await;
            *study = peek.study();
            return discarded.map(|()| Err(refused));
        }
    };
    loop {
        let taken = match receiving.room().await {
            Err(refused) => Err(refused),
            Ok(room) => match association.data_into(room).await {
                Ok(Some(count)) => receiving.took(count),
                Ok(None) => break,
                Err(error) => {
                    *study = receiving.study();
                    return Err(error);
                }
            },
        };
        if let Err(refused) = taken {
            *study = receiving.study();
            drop(receiving);
            // A data set that never ends is not read to its end.
            let most = match refused {
                Refused::TooLong => BEYOND_MAX,
                _ => DISCARD_MAX,
            };
            discard(association, &mut Peek::blind(), most).await?;
            return Ok(Err(refused));
        }
    }
    if planted(Plant::AckBeforeCommit) {
        tokio::spawn(async move { receiving.finish().await.map(drop) });
        return Ok(Ok(None));
    }
    *study = receiving.study();
    Ok(receiving.finish().await.map(|committed| Some(committed.id())))
}

/// Looks at the head of a data set that is not taken, to know which study lacks it.
struct Peek(Option<Scanner>);

impl Peek {
    fn blind() -> Self {
        Self(None)
    }

    fn at(transfer_syntax: &Uid) -> Self {
        Self(Some(Scanner::new(Syntax::of(transfer_syntax))))
    }

    fn push(&mut self, piece: &[u8]) {
        let looking = self.0.as_mut().filter(|scanner| scanner.head().is_none());
        // What cannot be understood tells nothing.
        if looking.is_some_and(|scanner| scanner.push(piece).is_err()) {
            self.0 = None;
        }
    }

    fn study(&self) -> Option<Uid> {
        self.0.as_ref()?.head().and_then(study_of)
    }
}

/// Reads the rest of a data set that is not taken, at most so many bytes: a peer that never ends it is cut off.
async fn discard<S: Stream>(association: &mut Association<S>, peek: &mut Peek, most: u64) -> Result<(), UlError> {
    let mut left = most;
    while let Some(piece) = association.data().await? {
        peek.push(&piece);
        left = left.saturating_sub(piece.len() as u64);
        if left == 0 {
            return Err(UlError::Protocol("a refused data set does not end"));
        }
    }
    Ok(())
}

/// Bytes of a refused data set that are read, so that its status can be answered, before the association is cut instead.
const DISCARD_MAX: u64 = 8 << 30;
/// Bytes beyond `limits.max_instance` that are read for the same reason.
const BEYOND_MAX: u64 = 1 << 30;
