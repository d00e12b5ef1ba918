//! Which presentation contexts are proposed, and that only what was proposed and refused is taken for refused.
use super::archive::{Act, Archive, Rules};
use super::*;
use crate::base::clock::{Clock, Wall};
use crate::sender::{Courier, Link, Outcome, Pair};
use crate::telemetry::metrics::Metrics;
use crate::transcode::Known;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const JPEG: &str = "1.2.840.10008.1.2.4.70";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const BASELINE: &str = "1.2.840.10008.1.2.4.50";

/// A courier that would convert, but has no codec: what it tries to convert with one is not sent.
fn courier(archive: &Archive, more: &str) -> Courier {
    let config = config("vna", archive.port, more);
    let known = Known::new(Duration::from_secs(3_600), Clock::manual(Wall(1)), Metrics::new());
    let link = Link::new(&config).unwrap().asking(known);
    Courier::new(link, &config.patience(), CancellationToken::new())
}

fn taking(syntaxes: &'static [&'static str]) -> Rules {
    let mut rules = Rules::new(|_, _| Act::Answer(0));
    rules.takes = Arc::new(move |syntax| syntaxes.is_empty() || syntaxes.contains(&syntax.as_str()));
    rules
}

fn stored(number: u64, class: &str, syntax: &str) -> Job {
    Job {
        sop_class: uid(class),
        transfer_syntax: uid(syntax),
        ..job(number)
    }
}

async fn deliver(courier: &mut Courier, job: &Job, pairs: &[Pair]) -> Outcome {
    let reader = Memory::new(&data_set("1.2.3", 0), 1_000);
    courier.deliver(job, reader, pairs).await
}

const CONFIRMED: Outcome = Outcome::Confirmed { status: 0 };

/// An association knows of a class what its first instance needed: explicit little endian, and what that can become. The next
/// instance of the class is stored in something else, which was never proposed.
#[tokio::test]
async fn what_an_association_has_not_proposed_is_proposed_by_a_new_one() {
    let archive = Archive::start(taking(&[])).await;
    let mut courier = courier(&archive, "");
    for (number, syntax) in [(1, EXPLICIT), (2, JPEG), (3, BASELINE)] {
        let job = stored(number, CT, syntax);
        let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
        assert_eq!(deliver(&mut courier, &job, &own).await, CONFIRMED, "{syntax}");
    }
    courier.release().await;
    let seen = archive.seen();
    let left: Vec<&str> = seen.syntaxes.iter().map(|(_, syntax)| syntax.as_str()).collect();
    assert_eq!(left, [EXPLICIT, JPEG, BASELINE], "each as it is stored");
    assert_eq!((seen.connections, seen.released), (3, 3), "replaced in order");
}

/// Implicit and explicit are both proposed for a class, whichever came first: one association serves both as they are stored.
#[tokio::test]
async fn what_was_proposed_for_another_serves_as_well() {
    let archive = Archive::start(taking(&[])).await;
    let mut courier = courier(&archive, "");
    for (number, syntax) in [(1, EXPLICIT), (2, IMPLICIT), (3, EXPLICIT)] {
        let job = stored(number, CT, syntax);
        let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
        assert_eq!(deliver(&mut courier, &job, &own).await, CONFIRMED, "{syntax}");
    }
    let seen = archive.seen();
    let left: Vec<&str> = seen.syntaxes.iter().map(|(_, syntax)| syntax.as_str()).collect();
    assert_eq!(left, [EXPLICIT, IMPLICIT, EXPLICIT]);
    assert_eq!(seen.connections, 1);
}

/// Forty classes in five syntaxes each, in no order: more than one association can propose.
#[tokio::test]
async fn a_crowd_of_classes_leaves_as_it_is_stored() {
    let archive = Archive::start(taking(&[])).await;
    assert!(crowd(&archive, 40).await <= 200);
}

/// What a lane has seen lately fits in one association: it is not opened again for each of them.
#[tokio::test]
async fn an_association_serves_what_it_has_proposed() {
    let archive = Archive::start(taking(&[])).await;
    assert!(crowd(&archive, 5).await < 40);
}

/// Sends 200 instances of so many classes in five syntaxes each; each must leave as it is stored. Answers how many associations
/// that took.
async fn crowd(archive: &Archive, classes: u64) -> usize {
    let mut courier = courier(archive, "");
    let syntaxes = [EXPLICIT, IMPLICIT, JPEG, JPEG_LS, BASELINE];
    let job = |number: u64| {
        let kind = (number * 37) % (classes * 5);
        let class = format!("1.2.840.10008.5.1.4.1.1.2.{}", kind / 5);
        stored(number, &class, syntaxes[usize::try_from(kind % 5).unwrap()])
    };
    let jobs: Vec<Job> = (0..200).map(job).collect();
    let pairs: Vec<Pair> = jobs
        .iter()
        .map(|job| (job.sop_class.clone(), job.transfer_syntax.clone()))
        .collect();
    for (at, job) in jobs.iter().enumerate() {
        let lately = &pairs[at.saturating_sub(31)..=at];
        assert_eq!(deliver(&mut courier, job, lately).await, CONFIRMED);
    }
    let seen = archive.seen();
    for (job, (_, syntax)) in jobs.iter().zip(&seen.syntaxes) {
        assert_eq!(*syntax, job.transfer_syntax);
    }
    assert!(seen.contexts.iter().all(|contexts| contexts.len() <= 128));
    seen.connections
}

/// What a destination has refused in an earlier association is left out for a while; the stored syntax is always asked anew.
#[tokio::test]
async fn a_refusal_of_earlier_holds_nothing_back_that_is_taken_now() {
    let mut archive = Archive::start(taking(&[IMPLICIT])).await;
    let mut courier = courier(&archive, "");
    let (image, lossy) = (stored(1, CT, JPEG), stored(2, CT, BASELINE));
    let own = |job: &Job| [(job.sop_class.clone(), job.transfer_syntax.clone())];
    let outcome = deliver(&mut courier, &image, &own(&image)).await;
    assert!(
        matches!(outcome, Outcome::Unconvertible { .. }),
        "no codec here: {outcome:?}"
    );
    let outcome = deliver(&mut courier, &lossy, &own(&lossy)).await;
    assert_eq!(outcome, Outcome::NoContext { result: 4 });
    assert!(archive.seen().begun.is_empty());
    archive.restart(taking(&[IMPLICIT, JPEG, BASELINE])).await;
    courier.release().await;
    for job in [&image, &lossy] {
        assert_eq!(deliver(&mut courier, job, &own(job)).await, CONFIRMED);
    }
    let seen = archive.seen();
    let left: Vec<&str> = seen.syntaxes.iter().map(|(_, syntax)| syntax.as_str()).collect();
    assert_eq!(left, [JPEG, BASELINE]);
}

/// Converted because it was asked for and refused, not because it was not asked for; and then again on the same association.
#[tokio::test]
async fn what_was_truly_refused_is_converted() {
    let archive = Archive::start(taking(&[IMPLICIT])).await;
    let mut courier = courier(&archive, "");
    for number in 1..=5 {
        let job = stored(number, CT, EXPLICIT);
        let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
        assert_eq!(deliver(&mut courier, &job, &own).await, CONFIRMED);
    }
    let seen = archive.seen();
    assert!(seen.syntaxes.iter().all(|(_, syntax)| syntax.as_str() == IMPLICIT));
    assert_eq!(seen.connections, 1);
    assert!(seen.contexts[0].contains(&(uid(CT), uid(EXPLICIT))), "it was asked");
}

/// A thin line: what is wanted is proposed and used, also when a session of earlier knew another way only.
#[tokio::test]
async fn what_the_site_asks_for_is_asked_of_the_destination_before_anything_else_is_sent() {
    let archive = Archive::start(taking(&[])).await;
    let mut courier = courier(&archive, "compress = \"deflated\"");
    for (number, syntax) in [(1, JPEG), (2, EXPLICIT), (3, JPEG)] {
        let job = stored(number, CT, syntax);
        let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
        assert_eq!(deliver(&mut courier, &job, &own).await, CONFIRMED, "{syntax}");
    }
    let seen = archive.seen();
    let left: Vec<&str> = seen.syntaxes.iter().map(|(_, syntax)| syntax.as_str()).collect();
    let deflated = "1.2.840.10008.1.2.1.99";
    assert_eq!(left, [JPEG, deflated, JPEG]);
}
