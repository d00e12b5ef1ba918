//! Reaching an archive: the association for a job, and the probe of an archive that was lost.
//!
//! A peer may reject or abort an association in which it accepts no presentation context (PS3.8 does not say which it has to do;
//! DCMTK's `dcmrecv` rejects it 1/1/1). That must not be taken for "it does not know us": what was refused then is what was
//! proposed. So whoever meets it asks once more, with what the peer is known or likely to accept beside it.
use super::casting::{Caster, Offer};
use super::ceiling::Governor;
use super::config::Dicom;
use super::dimse::{Pair, Session};
use super::outcome::{Down, DownKind, Job};
use super::survey;
use super::tls::Connector;
use super::transport::{Progress, down};
use crate::base::names::Uid;
use crate::dicom::dimse::VERIFICATION;
use std::time::Duration;

type Peer<'a> = (&'a Dicom, Option<&'a Connector>);

/// An association for a job. `pairs`: what else it is to serve.
///
/// # Errors
/// See `Down`. A peer that rejects or aborts it is asked once more, with what it is likely to accept beside; when it associates
/// then, the session says that it refuses the job's class and syntax.
pub(super) async fn for_job(
    peer: Peer<'_>,
    governor: Option<&Governor>,
    (caster, job, pairs): (&Caster, &Job, &[Pair]),
    limit: Duration,
) -> Result<(Session, Progress), Down> {
    let progress = Progress::new();
    // The job's own pair has the first right to the contexts that there are.
    let own = (job.sop_class.clone(), job.transfer_syntax.clone());
    let others = pairs.iter().filter(|pair| **pair != own).cloned();
    let asked: Vec<Pair> = std::iter::once(own.clone()).chain(others).collect();
    let narrow = || caster.offer(&asked);
    let wide = || caster.offer(std::slice::from_ref(&own)).with(likely(caster));
    let opening = async {
        let first = Session::open(peer, governor, (narrow(), caster), &progress).await;
        let (session, is_wide) = match first {
            Err(down) if down.may_be_about_contexts() => {
                let second = Session::open(peer, governor, (wide(), caster), &progress).await;
                // What it said of the job's own association says more.
                (second.map_err(|_| down)?, true)
            }
            first => (first?, false),
        };
        if session.knows(&own) {
            return Ok(session);
        }
        // All that was proposed for this job is refused. What was left out for refusals of earlier is asked before it is held.
        session.release().await;
        let offer = if is_wide { wide() } else { narrow() };
        Session::open(peer, governor, (offer, caster), &progress).await
    };
    tokio::select! {
        opened = opening => opened.map(|session| (session, progress.clone())),
        () = progress.stuck(limit) => Err(Down::new(DownKind::Association, super::STUCK)),
    }
}

/// Whether the archive answers: associates for Verification and sends a C-ECHO. Beside it stands what the archive is known to accept
/// and what waits, so that one that takes images and no Verification answers too; the accepted association counts then. One that
/// rejects or aborts even that is asked as a job would ask it, and must take leave of that association in order.
///
/// # Errors
/// See `Down`.
pub(super) async fn probe(peer: Peer<'_>, caster: &Caster, waiting: &[Pair]) -> Result<(), Down> {
    let waiting = caster.offer(waiting).pairs;
    let first = Offer::of(vec![verification()])
        .with(accepted(caster))
        .with(waiting.iter().cloned());
    match echo(peer, caster, first).await {
        Err(down) if down.may_be_about_contexts() => {
            let waiting = waiting.into_iter().take(WAITING_MAX);
            let images = likely(caster).filter(|pair| *pair != verification());
            let second = Offer::default().with(waiting).with(images);
            let session = Session::open(peer, None, (second, caster), &Progress::new()).await;
            // One that accepts an association and aborts it has answered nothing.
            session.map_err(|_| down)?.leave().await
        }
        asked => asked,
    }
}

/// The first context of the offer is that of Verification.
async fn echo(peer: Peer<'_>, caster: &Caster, offer: Offer) -> Result<(), Down> {
    let mut session = Session::open(peer, None, (offer, caster), &Progress::new()).await?;
    match session.echo().await {
        Ok(()) => {
            session.release().await;
            Ok(())
        }
        Err(error) => {
            session.abort().await;
            Err(down(&error))
        }
    }
}

pub(super) fn verification() -> Pair {
    (Uid::known(VERIFICATION), Uid::known(IMPLICIT_LITTLE_ENDIAN))
}

/// What the destination is known to accept, and a peer that rejects what it takes nothing of will therefore answer.
pub(super) fn accepted(caster: &Caster) -> impl Iterator<Item = Pair> + use<> {
    let learned = caster.matrix().into_iter();
    let accepted = learned.filter(|line| line.result == 0);
    accepted.map(|line| (line.class, line.syntax)).take(ACCEPTED_MAX)
}

/// The same, Verification, and what most sites have. At most `LIKELY_MAX`.
pub(super) fn likely(caster: &Caster) -> impl Iterator<Item = Pair> + use<> {
    std::iter::once(verification())
        .chain(accepted(caster))
        .chain(survey::usual())
}

const IMPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
/// Contexts of what is known to be accepted: any one of them is enough.
const ACCEPTED_MAX: usize = 16;
pub(super) const LIKELY_MAX: usize = 1 + ACCEPTED_MAX + survey::COMMON.len();
/// Contexts of what waits, where what is likely needs room too.
const WAITING_MAX: usize = super::PAIRS_MAX - LIKELY_MAX;
