//! Archives that reject or abort an association in which they accept nothing: that is a refusal, and no outage.
use super::archive::{Act, Archive, Door, Rules};
use super::*;
use crate::base::clock::{Clock, Wall};
use crate::dicom::association::Rejection;
use crate::dicom::dimse::VERIFICATION;
use crate::sender::survey::{Consequence, Finding};
use crate::sender::{Courier, DownKind, Link, Outcome, Pair};
use crate::telemetry::metrics::Metrics;
use crate::transcode::Known;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
const PRIVATE: &str = "1.2.3.4.5.6";

/// What it takes, and what it does with an association in which it takes nothing.
async fn strict(takes: &'static [&'static str], empty: Door) -> Archive {
    let mut rules = Rules::new(|_, _| Act::Answer(0));
    rules.refuses = Arc::new(move |class| !takes.contains(&class.as_str()));
    rules.empty = empty;
    Archive::start(rules).await
}

fn link(archive: &Archive) -> Link {
    let config = config("vna", archive.port, "convert = false\n");
    let known = Known::new(Duration::from_secs(3_600), Clock::manual(Wall(1)), Metrics::new());
    Link::new(&config).unwrap().asking(known)
}

fn pair(class: &str) -> Pair {
    (uid(class), uid(EXPLICIT))
}

async fn deliver(courier: &mut Courier, number: u64, class: &str) -> Outcome {
    let job = Job {
        sop_class: uid(class),
        ..job(number)
    };
    let reader = Memory::new(&data_set("1.2.3", 0), 1_000);
    courier.deliver(&job, reader, &[pair(class)]).await
}

const NOTHING_TAKEN: [Door; 2] = [Door::Reject(Rejection::of(1, 1, 1)), Door::Abort];

#[tokio::test]
async fn an_association_rejected_for_its_contexts_refuses_them_and_is_no_outage() {
    for empty in NOTHING_TAKEN {
        let archive = strict(&[CT], empty).await;
        let patience = config("vna", archive.port, "").patience();
        let mut courier = Courier::new(link(&archive), &patience, CancellationToken::new());
        assert_eq!(deliver(&mut courier, 1, MR).await, Outcome::NoContext { result: 3 });
        assert_eq!(deliver(&mut courier, 2, CT).await, Outcome::Confirmed { status: 0 });
        assert_eq!(archive.seen().connections, 2, "asked once more, and that one serves");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_know_us_is_not_asked_again() {
    for (rejection, connections) in [
        (Rejection::CALLED_AE, 1),
        (Rejection::CALLING_AE, 1),
        (Rejection::of(1, 1, 1), 2),
    ] {
        let mut rules = Rules::new(|_, _| Act::Answer(0));
        rules.door = Arc::new(move || Door::Reject(rejection));
        let archive = Archive::start(rules).await;
        let patience = config("vna", archive.port, "").patience();
        let mut courier = Courier::new(link(&archive), &patience, CancellationToken::new());
        let Outcome::Down(down) = deliver(&mut courier, 1, CT).await else {
            panic!("it was rejected")
        };
        assert_eq!(down.kind, DownKind::RejectedPermanent);
        assert_eq!(archive.seen().connections, connections, "{rejection:?}");
    }
}

#[tokio::test]
async fn a_peer_without_verification_answers_a_probe_by_what_it_takes() {
    for empty in NOTHING_TAKEN {
        // What waits, although nothing was learned; what is common, although only what is refused waits.
        let archive = strict(&[PRIVATE], empty).await;
        assert!(link(&archive).probe(&[pair(MR), pair(PRIVATE)]).await.is_ok());
        assert!(link(&archive).probe(&[pair(MR)]).await.is_err());
        let archive = strict(&[CT], empty).await;
        assert!(link(&archive).probe(&[pair(PRIVATE)]).await.is_ok());
        assert!(link(&archive).probe(&[]).await.is_ok());

        // What it accepted before: one association is enough then, and no C-ECHO is sent.
        let archive = strict(&[PRIVATE], empty).await;
        let link = link(&archive);
        link.probe(&[pair(PRIVATE)]).await.unwrap();
        let before = archive.seen().connections;
        link.probe(&[pair(MR)]).await.unwrap();
        let seen = archive.seen();
        assert_eq!((seen.connections - before, seen.echoes), (1, 0));
    }
    let archive = strict(&[VERIFICATION], Door::Abort).await;
    let link = link(&archive);
    link.probe(&[pair(MR)]).await.unwrap();
    assert_eq!((archive.seen().connections, archive.seen().echoes), (1, 1));
    let verification = |pair: &Pair| pair.0.as_str() == VERIFICATION;
    assert!(
        !link
            .matrix()
            .iter()
            .any(|line| verification(&(line.class.clone(), line.syntax.clone())))
    );
}

async fn survey(link: &Link, classes: &[String]) -> Vec<Finding> {
    let stored: Vec<(Pair, bool)> = classes.iter().map(|class| (pair(class), true)).collect();
    link.survey(&stored).await.unwrap()
}

#[tokio::test]
async fn a_survey_takes_a_rejected_association_for_a_refusal_while_another_is_accepted() {
    for empty in NOTHING_TAKEN {
        let archive = strict(&[PRIVATE], empty).await;
        // More than fit in one association; the one that is taken comes last.
        let mut classes: Vec<String> = (0..200).map(|number| format!("1.2.9.{number}")).collect();
        classes.push(PRIVATE.to_owned());
        let link = link(&archive);
        let findings = survey(&link, &classes).await;
        let taken: Vec<&Uid> = findings
            .iter()
            .filter(|finding| finding.consequence == Consequence::AsStored)
            .map(|finding| &finding.class)
            .collect();
        assert_eq!(taken, [&uid(PRIVATE)]);
        assert!(
            findings[..200].iter().all(|finding| finding.result == 3),
            "each is answered for"
        );
        // Alone, what is refused is refused too, for it stands beside what is known to be accepted.
        assert_eq!(survey(&link, &[MR.to_owned()]).await[0].consequence, Consequence::Held);
    }
    let archive = strict(&[], Door::Abort).await;
    let down = link(&archive).survey(&[(pair(MR), true)]).await.unwrap_err();
    assert_eq!(
        down.kind,
        DownKind::Association,
        "nothing was accepted: nothing is known"
    );
}
