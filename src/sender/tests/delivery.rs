//! One job to an archive, and what must and must not have left.
use super::archive::{Act, Archive, Door, Rules};
use super::*;
use crate::dicom::association::Rejection;
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::path::Path;
use crate::sender::{Courier, DownKind, Link, Outcome, Pair};
use dicom_core::{Tag, VR};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn courier(port: u16, more: &str) -> Courier {
    let config = config("vna", port, more);
    Courier::new(
        Link::new(&config).unwrap(),
        &config.patience(),
        CancellationToken::new(),
    )
}

fn pairs() -> Vec<Pair> {
    vec![(uid(CT), uid(EXPLICIT))]
}

async fn deliver(courier: &mut Courier, number: u64, bytes: &[u8]) -> Outcome {
    courier.deliver(&job(number), Memory::new(bytes, 1000), &pairs()).await
}

#[tokio::test]
async fn an_instance_arrives_byte_for_byte_and_the_session_is_reused() {
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let mut courier = courier(archive.port, "");
    for number in 1..=3 {
        let bytes = data_set("1.2.3", 300_001 + usize::try_from(number).unwrap());
        let outcome = deliver(&mut courier, number, &bytes).await;
        assert_eq!(outcome, Outcome::Confirmed { status: 0 });
        assert!(archive.seen().whole.last().unwrap().1 == bytes);
    }
    courier.release().await;
    let seen = archive.seen();
    assert_eq!((seen.connections, seen.released), (1, 1));
}

#[tokio::test]
async fn every_status_word_has_its_outcome() {
    let table = [
        (0x0000, Outcome::Confirmed { status: 0 }),
        (0xB000, Outcome::Confirmed { status: 0xB000 }),
        (0xA700, Outcome::Congested { status: 0xA700 }),
        (0x0213, Outcome::Congested { status: 0x0213 }),
        (0x0124, Outcome::Unauthorised),
        (0x0111, Outcome::Duplicate),
    ];
    let refusals = [0xA900, 0xC001, 0x0122, 0xFE00, 0x1234];
    let words: Vec<u16> = table.iter().map(|(word, _)| *word).chain(refusals).collect();
    let script = words.clone();
    let archive = Archive::start(Rules::new(move |uid, _| {
        let number: usize = uid.as_str().rsplit('.').next().unwrap().parse().unwrap();
        Act::Answer(script[number])
    }))
    .await;
    let mut courier = courier(archive.port, "");
    for (number, word) in words.iter().enumerate() {
        let outcome = deliver(&mut courier, number as u64, &data_set("1.2.3", 10)).await;
        match table.get(number) {
            Some((_, expected)) => assert_eq!(outcome, *expected, "{word:04X}"),
            None => assert_eq!(
                outcome,
                Outcome::Refused {
                    why: format!("status {word:04X}H")
                }
            ),
        }
    }
    assert_eq!(archive.seen().connections, 1, "an answer of any kind keeps the session");
}

#[tokio::test]
async fn a_failed_send_never_carries_the_last_flag() {
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let mut courier = courier(archive.port, "");
    let bytes = data_set("1.2.3", 2_000_000);
    for piece in [1000, 700_000] {
        let mut corrupt = Memory::new(&bytes, piece);
        corrupt.corrupt = true;
        let outcome = courier.deliver(&job(1), corrupt, &pairs()).await;
        assert!(matches!(outcome, Outcome::Corrupt { .. }), "{outcome:?}");
        assert!(!courier.is_open(), "the association must not be used again");
        let mut broken = Memory::new(&bytes, piece);
        broken.unreadable = true;
        let outcome = courier.deliver(&job(2), broken, &pairs()).await;
        assert!(matches!(outcome, Outcome::Corrupt { .. }), "{outcome:?}");
    }
    // Cancelled in the middle: the reader never comes to its end.
    let (cancelled, proposed) = (job(3), pairs());
    let slow = courier.deliver(&cancelled, Endless, &proposed);
    assert!(tokio::time::timeout(Duration::from_millis(300), slow).await.is_err());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let seen = archive.seen();
    assert!(seen.begun.len() >= 3, "the transfers had begun: {:?}", seen.begun);
    assert!(seen.whole.is_empty(), "no data set may look complete");
    assert_eq!(seen.open, 0, "no association is left");
}

/// A payload that never ends, slowly.
struct Endless;

impl PayloadReader for Endless {
    fn length(&self) -> u64 {
        u64::MAX
    }
    async fn next(&mut self) -> Result<Option<Bytes>, ReadFault> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Some(Bytes::from_static(&[0; 50_000])))
    }
    fn rewind(&mut self) {}
    fn verify(&mut self) -> Result<(), ReadFault> {
        Ok(())
    }
}

#[tokio::test]
async fn disorder_confirms_nothing_and_ends_the_session() {
    for act in [
        Act::WrongMessage,
        Act::WrongInstance,
        Act::Nonsense,
        Act::Silence,
        Act::Abort(100_000),
        Act::Close(100_000),
        Act::Stall(100_000),
    ] {
        let archive = Archive::start(Rules::new(move |_, _| act)).await;
        let mut courier = courier(archive.port, "");
        let outcome = deliver(&mut courier, 1, &data_set("1.2.3", 30_000_000)).await;
        let Outcome::Interrupted(interruption) = outcome else {
            panic!("{act:?} gave {outcome:?}")
        };
        assert!(interruption.fresh && !interruption.stuck, "{act:?}: {interruption:?}");
        assert!(!courier.is_open(), "{act:?}");
    }
}

#[tokio::test]
async fn the_watchdog_closes_a_session_in_which_nothing_moves() {
    let archive = Archive::start(Rules::new(|_, _| Act::Silence)).await;
    let mut config = config("vna", archive.port, "");
    if let Config::Dicom(dicom) = &mut config {
        dicom.timeouts.response = crate::base::units::Span::secs(60);
        dicom.stuck = crate::base::units::Span::millis(300);
    }
    let mut courier = Courier::new(
        Link::new(&config).unwrap(),
        &config.patience(),
        CancellationToken::new(),
    );
    let outcome = deliver(&mut courier, 1, &data_set("1.2.3", 1000)).await;
    assert!(matches!(&outcome, Outcome::Interrupted(i) if i.stuck), "{outcome:?}");
    assert!(!courier.is_open());
}

#[tokio::test]
async fn what_stops_before_the_instance_is_the_lanes_trouble() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let kind = |outcome: Outcome| match outcome {
        Outcome::Down(down) => down.kind,
        other => panic!("{other:?}"),
    };
    let bytes = data_set("1.2.3", 10);
    assert_eq!(
        kind(deliver(&mut courier(port, ""), 1, &bytes).await),
        DownKind::Connect
    );
    for (door, expected) in [
        (Door::Reject(Rejection::CALLED_AE), DownKind::RejectedPermanent),
        (Door::Reject(Rejection::LOCAL_LIMIT), DownKind::RejectedTransient),
        (Door::Mute, DownKind::Association),
    ] {
        let mut rules = Rules::new(|_, _| Act::Answer(0));
        rules.door = Arc::new(move || door);
        let archive = Archive::start(rules).await;
        assert_eq!(kind(deliver(&mut courier(archive.port, ""), 1, &bytes).await), expected);
        assert!(archive.seen().begun.is_empty());
    }
}

#[tokio::test]
async fn a_refused_context_costs_no_transfer() {
    let mut rules = Rules::new(|_, _| Act::Answer(0));
    rules.refuses = Arc::new(|class| class.as_str() == CT);
    let archive = Archive::start(rules).await;
    let mut courier = courier(archive.port, "");
    let outcome = deliver(&mut courier, 1, &data_set("1.2.3", 10)).await;
    assert_eq!(outcome, Outcome::NoContext { result: 3 });
    assert!(archive.seen().begun.is_empty());
    assert!(courier.is_open(), "the other classes may go on");
}

#[tokio::test]
async fn a_session_is_renewed_after_its_batch_and_when_the_peer_hung_up() {
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let mut courier = courier(archive.port, "batch = 2\n");
    for number in 1..=5 {
        let outcome = deliver(&mut courier, number, &data_set("1.2.3", 10)).await;
        assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    }
    assert_eq!(archive.seen().connections, 3);
    let mut archive = archive;
    archive.restart(Rules::new(|_, _| Act::Answer(0))).await;
    let outcome = deliver(&mut courier, 6, &data_set("1.2.3", 10)).await;
    assert_eq!(
        outcome,
        Outcome::Confirmed { status: 0 },
        "a dead idle session costs no attempt"
    );
    assert_eq!(archive.seen().connections, 4);
}

#[tokio::test]
async fn edits_change_the_head_and_nothing_else() {
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let mut courier = courier(archive.port, "");
    let plan = Plan {
        edits: vec![Edit::Set {
            path: Path::tag(Tag(0x0010, 0x0020)),
            vr: VR::LO,
            value: b"NRT-12345 ".to_vec(),
        }],
        stamp: None,
    };
    for (pixels, piece) in [(900_000, 1000), (900_000, 7), (900_000, 1 << 20), (0, 64)] {
        let mut edited = job(1);
        edited.plan = Bytes::from(plan.encode());
        let bytes = data_set("1.2.3.1", pixels);
        let outcome = courier.deliver(&edited, Memory::new(&bytes, piece), &pairs()).await;
        assert_eq!(outcome, Outcome::Confirmed { status: 0 });
        let at = bytes.windows(5).position(|w| w == b"12345").unwrap();
        let mut expected = bytes[..at - 2].to_vec();
        expected.extend_from_slice(&10_u16.to_le_bytes());
        expected.extend_from_slice(b"NRT-12345 ");
        expected.extend_from_slice(&bytes[at + 6..]);
        assert!(archive.seen().whole.last().unwrap().1 == expected, "pieces of {piece}");
    }
    let mut corrupt = Memory::new(&data_set("1.2.3.1", 5000), 64);
    corrupt.corrupt = true;
    let mut edited = job(1);
    edited.plan = Bytes::from(plan.encode());
    let before = archive.seen().whole.len();
    let outcome = courier.deliver(&edited, corrupt, &pairs()).await;
    assert!(matches!(outcome, Outcome::Corrupt { .. }), "{outcome:?}");
    assert_eq!(archive.seen().whole.len(), before);
}

#[tokio::test]
async fn a_stop_ends_the_opening_of_a_session_at_once() {
    let mut rules = Rules::new(|_, _| Act::Answer(0));
    rules.door = Arc::new(|| Door::Mute);
    let archive = Archive::start(rules).await;
    let config = config("vna", archive.port, "");
    let stop = CancellationToken::new();
    let mut courier = Courier::new(Link::new(&config).unwrap(), &config.patience(), stop.clone());
    let (asked, bytes) = (std::time::Instant::now(), data_set("1.2.3", 10));
    stop.cancel();
    let outcome = deliver(&mut courier, 1, &bytes).await;
    assert!(matches!(&outcome, Outcome::Interrupted(i) if !i.fresh), "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn a_deflated_data_set_is_edited_and_stays_deflated() {
    use std::io::{Read, Write};
    let deflated_syntax = "1.2.840.10008.1.2.1.99";
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let mut courier = courier(archive.port, "");
    let plain = data_set("1.2.3.1", 900_000);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&plain).unwrap();
    let stored = encoder.finish().unwrap();
    let mut edited = job(1);
    edited.transfer_syntax = uid(deflated_syntax);
    let pairs = vec![(uid(CT), uid(deflated_syntax))];
    let untouched = courier.deliver(&edited, Memory::new(&stored, 999), &pairs).await;
    assert_eq!(untouched, Outcome::Confirmed { status: 0 });
    assert!(
        archive.seen().whole.last().unwrap().1 == stored,
        "without edits not a byte changes"
    );
    let plan = Plan {
        edits: vec![Edit::Set {
            path: Path::tag(Tag(0x0010, 0x0020)),
            vr: VR::LO,
            value: b"NORTH9".to_vec(),
        }],
        stamp: None,
    };
    edited.plan = Bytes::from(plan.encode());
    let outcome = courier.deliver(&edited, Memory::new(&stored, 999), &pairs).await;
    assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    let sent = archive.seen().whole.last().unwrap().1.clone();
    let mut inflated = Vec::new();
    flate2::read::DeflateDecoder::new(&sent[..])
        .read_to_end(&mut inflated)
        .unwrap();
    let mut expected = plain.clone();
    let at = plain.windows(5).position(|w| w == b"12345").unwrap();
    expected[at..at + 6].copy_from_slice(b"NORTH9");
    assert!(inflated == expected);
}
