//! Which presentation contexts are proposed, and that only what was proposed and refused is taken for refused.
use super::archive::{Act, Archive, Rules};
use super::*;
use crate::base::clock::{Clock, Wall};
use crate::sender::casting::Conversions;
use crate::sender::{Courier, Link, Outcome, Pair};
use crate::telemetry::metrics::Metrics;
use crate::transcode::{Known, Transcoder};
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

const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG: &str = "1.2.840.10008.1.2.2";
const RLE: &str = "1.2.840.10008.1.2.5";

/// Big endian, with pixels of 32 bits: it cannot stand in a layout of another byte order.
fn wide() -> Vec<u8> {
    let mut bytes = b"\x00\x08\x00\x18UI\x00\x061.2.3\0\x00\x28\x01\x00US\x00\x02\x00\x20".to_vec();
    bytes.extend_from_slice(b"\x7F\xE0\x00\x10OW\0\0\0\0\0\x04\x01\x02\x03\x04");
    bytes
}

async fn deliver_bytes(courier: &mut Courier, job: &Job, bytes: &[u8]) -> Outcome {
    let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
    courier.deliver(job, Memory::new(bytes, 4_096), &own).await
}

fn left(archive: &Archive) -> Vec<String> {
    let seen = archive.seen();
    seen.syntaxes.iter().map(|(_, syntax)| syntax.to_string()).collect()
}

/// The next way that the destination accepts is tried, down to what is stored; and it is known before a byte was sent.
#[tokio::test]
async fn what_cannot_stand_in_one_layout_leaves_in_the_next_one_that_is_accepted() {
    let archive = Archive::start(taking(&[])).await;
    let mut thin = courier(&archive, "compress = \"deflated\"");
    let job = stored(1, CT, BIG);
    assert_eq!(deliver_bytes(&mut thin, &job, &wide()).await, CONFIRMED);
    assert_eq!(left(&archive), [BIG], "it cannot be deflated: it leaves as it is");
    assert_eq!(archive.seen().whole[0].1, wide());

    let padded = [data_set("1.2.3", 64), vec![0; 100]].concat();
    let archive = Archive::start(taking(&[IMPLICIT, DEFLATED])).await;
    let mut courier = courier(&archive, "");
    assert_eq!(
        deliver_bytes(&mut courier, &stored(1, CT, EXPLICIT), &padded).await,
        CONFIRMED
    );
    assert_eq!(left(&archive), [DEFLATED], "deflate takes any bytes");
    assert_eq!(archive.seen().connections, 1);
}

/// Without any way left it is held as what could not be converted, with each way and its reason, and no association is lost by it.
#[tokio::test]
async fn what_cannot_stand_in_any_accepted_layout_says_of_each_why_not() {
    let archive = Archive::start(taking(&[EXPLICIT, IMPLICIT, RLE])).await;
    let mut courier = courier(&archive, "");
    let outcome = deliver_bytes(&mut courier, &stored(1, CT, BIG), &wide()).await;
    let Outcome::Unconvertible { what } = outcome else {
        panic!("{outcome:?}")
    };
    for word in [EXPLICIT, IMPLICIT, RLE, "more than 16 bits", "not set up"] {
        assert!(what.contains(word), "{word}: {what}");
    }
    assert_eq!(
        deliver_bytes(&mut courier, &stored(2, CT, EXPLICIT), &data_set("1.2.3", 64)).await,
        CONFIRMED
    );
    assert_eq!(
        (archive.seen().connections, left(&archive)),
        (1, vec![EXPLICIT.to_owned()])
    );
}

/// A damaged payload is no trouble of a layout.
#[tokio::test]
async fn what_is_damaged_is_called_damaged_before_a_layout_is_blamed() {
    let archive = Archive::start(taking(&[IMPLICIT])).await;
    let mut courier = courier(&archive, "");
    let mut reader = Memory::new(&[data_set("1.2.3", 64), vec![0; 100]].concat(), 50);
    reader.corrupt = true;
    let job = stored(1, CT, EXPLICIT);
    let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
    let outcome = courier.deliver(&job, reader, &own).await;
    assert!(matches!(outcome, Outcome::Corrupt { .. }), "{outcome:?}");
    assert!(archive.seen().begun.is_empty());
}

/// What is only seen far behind the first bytes costs one association, and then the job leaves in another way.
#[tokio::test]
async fn what_breaks_off_on_the_way_is_not_tried_again_for_the_same_job() {
    let archive = Archive::start(taking(&[IMPLICIT, DEFLATED])).await;
    let mut courier = courier(&archive, "");
    let long = [data_set("1.2.3", 3 << 20), vec![0; 100]].concat();
    let job = stored(1, CT, EXPLICIT);
    let outcome = deliver_bytes(&mut courier, &job, &long).await;
    let Outcome::Interrupted(interruption) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(!interruption.fresh, "no attempt is charged: {interruption:?}");
    assert_eq!(deliver_bytes(&mut courier, &job, &long).await, CONFIRMED);
    assert_eq!(left(&archive), [IMPLICIT, DEFLATED]);
    assert_eq!(archive.seen().whole.len(), 1, "the first one was never complete");
}

/// It took explicit only, and takes implicit only now: each time that is what the others were refused for before.
#[tokio::test]
async fn what_was_refused_before_is_asked_again_before_a_job_is_held() {
    let mut archive = Archive::start(taking(&[EXPLICIT])).await;
    let mut courier = courier(&archive, "");
    let bytes = data_set("1.2.3", 64);
    let mut number = 0;
    for takes in [&[EXPLICIT][..], &[IMPLICIT], &[DEFLATED], &[EXPLICIT], &[BIG]] {
        archive.restart(taking(takes)).await;
        courier.release().await;
        for _ in 0..2 {
            number += 1;
            let outcome = deliver_bytes(&mut courier, &stored(number, CT, EXPLICIT), &bytes).await;
            assert_eq!(outcome, CONFIRMED, "{takes:?}");
            assert_eq!(left(&archive).last().map(String::as_str), Some(takes[0]));
        }
    }
    archive.restart(taking(&["1.2.3"])).await;
    courier.release().await;
    let before = archive.seen().connections;
    let outcome = deliver_bytes(&mut courier, &stored(99, CT, EXPLICIT), &bytes).await;
    assert_eq!(outcome, Outcome::NoContext { result: 4 }, "all were asked");
    let seen = archive.seen();
    assert!(seen.connections <= before + 2, "asked twice at most");
    assert!(
        seen.contexts.last().is_some_and(|asked| asked.len() == 8),
        "{:?}",
        seen.contexts.last()
    );
}

/// A line that is to be thin: what deflate makes no smaller leaves as it is stored, and what it saves is counted.
#[tokio::test]
async fn deflated_is_only_what_becomes_smaller() {
    let archive = Archive::start(taking(&[])).await;
    let (metrics, folder) = (Metrics::new(), tempfile::tempdir().unwrap());
    let scratch = folder.path().join("scratch");
    let none = "/nonexistent".into();
    let conversions = Conversions {
        transcoder: Transcoder::new(
            crate::transcode::Config::default(),
            none,
            &scratch,
            Arc::new(|| true),
            metrics.clone(),
        )
        .unwrap(),
        known: Known::new(Duration::from_secs(3_600), Clock::manual(Wall(1)), metrics.clone()),
        record: Arc::new(|_| Box::pin(async { true })),
        metrics: metrics.clone(),
    };
    let config = config("vna", archive.port, "compress = \"deflated\"\n");
    let link = Link::new(&config).unwrap().converting(conversions);
    let mut courier = Courier::new(link, &config.patience(), CancellationToken::new());
    let head = data_set("1.2.3", 0).len() + 12;
    // Below and above what is deflated before the first byte leaves; the pixels are a ramp, and then noise.
    for pixels in [40_000, 1_500_000] {
        let ramp = data_set("1.2.3", pixels);
        let mut noise = ramp.clone();
        let mut state = 5_u32;
        for byte in &mut noise[head..] {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = state.to_be_bytes()[0];
        }
        for (number, bytes) in [(1, ramp), (2, noise)] {
            let job = stored(number, CT, EXPLICIT);
            let own = [(job.sop_class.clone(), job.transfer_syntax.clone())];
            let outcome = courier.deliver(&job, Memory::new(&bytes, 64 << 10), &own).await;
            assert_eq!(outcome, CONFIRMED);
        }
    }
    assert_eq!(left(&archive), [DEFLATED, EXPLICIT, DEFLATED, EXPLICIT]);
    let count = |outcome| {
        let labels = ["vna", "layout", outcome];
        metrics.conversions_total.with_label_values(&labels).get()
    };
    assert_eq!((count("converted"), count("larger")), (2, 2));
    let saved = metrics.conversion_saved_bytes_total.with_label_values(&["vna"]).get();
    assert!((1_500_000..1_540_000).contains(&saved), "{saved}");
}
