//! Several instances in flight on one association, against an archive that answers as it likes.
use super::archive::{Act, Archive, Rules};
use super::*;
use crate::dicom::association::{self, Association, Context, Event, Local, Timeouts};
use crate::dicom::dimse::{Command, StoreRsp};
use crate::sender::{Courier, Ended, Link, Outcome, Pair};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const PATIENT: Timeouts = Timeouts {
    association: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    transfer: Duration::from_secs(20),
    write: Duration::from_secs(20),
    response: Duration::from_secs(20),
    release: Duration::from_secs(1),
};

/// Takes `count` instances before it says anything; then answers them by `answers`, which may break the rules.
async fn backwards(count: usize, answers: impl Fn(&mut Vec<StoreRsp>) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut association = accept(stream).await;
        let (mut waiting, mut on) = (Vec::new(), 0);
        while waiting.len() < count {
            let Ok(Event::Command {
                context,
                command: Command::StoreRq(request),
            }) = association.next().await
            else {
                return;
            };
            on = context;
            while association.data().await.unwrap().is_some() {}
            waiting.push(StoreRsp {
                message_id: request.message_id,
                status: 0,
                sop_class: request.sop_class,
                sop_instance: request.sop_instance,
                comment: None,
            });
        }
        answers(&mut waiting);
        for answer in waiting {
            association.send(on, &Command::StoreRsp(answer)).await.unwrap();
        }
        drop(association.next().await);
    });
    port
}

async fn accept(mut stream: TcpStream) -> Association<TcpStream> {
    // Or a reset would overtake an answer that waits for another one's acknowledgement.
    stream.set_nodelay(true).unwrap();
    let request = association::receive_request(&mut stream, &PATIENT).await.unwrap();
    assert_eq!(request.window, Some(16), "what the configuration says is asked for");
    let results = request.contexts.iter().map(|proposed| Context {
        id: proposed.id,
        abstract_syntax: proposed.abstract_syntax.clone(),
        result: Ok(proposed.transfer_syntaxes[0].clone()),
    });
    let local = Local {
        max_pdu: 16_384,
        implementation_class_uid: Uid::known("1.2.3"),
        implementation_version: "ARCHIVE".to_owned(),
        window: 3,
    };
    Association::accept(stream, &request, results.collect(), &local, PATIENT)
        .await
        .unwrap()
}

fn courier(port: u16) -> Courier {
    let config = config("vna", port, "");
    Courier::new(
        Link::new(&config).unwrap(),
        &config.patience(),
        CancellationToken::new(),
    )
}

async fn begin(courier: &mut Courier, number: u64) -> Vec<Ended> {
    let pairs: Vec<Pair> = vec![(uid(CT), uid(EXPLICIT))];
    let reader = Memory::new(&data_set("1.2.3", 5_000), 1_000);
    courier.begin(&job(number), reader, &pairs).await
}

fn ids(ended: &[Ended]) -> Vec<u64> {
    ended.iter().map(|ended| ended.job.0).collect()
}

#[tokio::test]
async fn answers_are_matched_by_message_id_in_whatever_order() {
    let mut courier = courier(backwards(3, |answers| answers.reverse()).await);
    for number in 1..=3 {
        assert!(courier.has_room(&job(number), 16));
        assert!(
            begin(&mut courier, number).await.is_empty(),
            "it has left, and its answer is not waited for"
        );
    }
    assert_eq!(courier.window(), 3);
    assert!(!courier.has_room(&job(4), 16), "no more than was negotiated");
    assert!(!courier.has_room(&job(4), 2), "nor than the caller allows");
    let mut ended = Vec::new();
    while ended.len() < 3 {
        ended.extend(courier.answers().await);
    }
    assert_eq!(ids(&ended), [3, 2, 1]);
    assert!(
        ended
            .iter()
            .all(|ended| ended.outcome == Outcome::Confirmed { status: 0 })
    );
    assert!(courier.has_room(&job(4), 16));
    courier.release().await;
}

#[tokio::test]
async fn an_answer_to_nothing_confirms_nothing() {
    let mut courier = courier(backwards(2, |answers| answers[0].message_id = 77).await);
    begin(&mut courier, 1).await;
    begin(&mut courier, 2).await;
    let ended = courier.answers().await;
    assert_eq!(ids(&ended), [1, 2], "all that was in flight is in the dark");
    for Ended { outcome, .. } in &ended {
        assert!(
            matches!(outcome, Outcome::Interrupted(interruption) if !interruption.fresh),
            "with several in flight none is to blame: {outcome:?}"
        );
    }
    assert!(!courier.is_open());
}

#[tokio::test]
async fn a_second_answer_about_the_same_message_ends_the_session() {
    let port = backwards(2, |answers| {
        answers[1].message_id = answers[0].message_id;
        answers[1].sop_instance = answers[0].sop_instance.clone();
    });
    let mut courier = courier(port.await);
    begin(&mut courier, 1).await;
    begin(&mut courier, 2).await;
    let mut ended = courier.answers().await;
    if ended.len() < 2 {
        ended.extend(courier.answers().await);
    }
    assert_eq!(
        (ended[0].job, &ended[0].outcome),
        (job(1).id, &Outcome::Confirmed { status: 0 })
    );
    let left = ended[0].left.as_ref().unwrap();
    assert_eq!(
        (&left.sop_instance, &left.syntax),
        (&uid("1.2.3.1"), &uid(EXPLICIT)),
        "known though the session is gone"
    );
    assert!(
        matches!(&ended[1], Ended { job: id, outcome: Outcome::Interrupted(_), left: None } if *id == job(2).id),
        "{ended:?}"
    );
}

#[tokio::test]
async fn an_archive_that_does_not_negotiate_gets_one_at_a_time() {
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let mut courier = courier(archive.port);
    assert!(begin(&mut courier, 1).await.is_empty());
    assert_eq!(courier.window(), 1);
    assert!(!courier.has_room(&job(2), 16));
    assert_eq!(ids(&courier.answers().await), [1]);
    assert!(courier.has_room(&job(2), 16));
    courier.release().await;
}

#[tokio::test]
async fn a_damaged_payload_among_several_is_the_only_one_that_is_called_damaged() {
    let mut courier = courier(backwards(3, |_| ()).await);
    begin(&mut courier, 1).await;
    let pairs: Vec<Pair> = vec![(uid(CT), uid(EXPLICIT))];
    let mut reader = Memory::new(&data_set("1.2.3", 50_000), 1_000);
    reader.corrupt = true;
    let ended = courier.begin(&job(2), reader, &pairs).await;
    assert_eq!(ids(&ended), [1, 2]);
    assert!(
        matches!(&ended[0].outcome, Outcome::Interrupted(interruption) if !interruption.fresh),
        "{ended:?}"
    );
    assert!(matches!(&ended[1].outcome, Outcome::Corrupt { .. }), "{ended:?}");
}

#[tokio::test]
async fn a_ceiling_holds_on_the_wire() {
    let archive = Archive::start(Rules::new(|_, _| Act::Answer(0))).await;
    let config = config("vna", archive.port, "[[ceiling]]\nrate = \"8Mbit\"\nzone = \"UTC\"\n");
    assert_eq!(config.check(), Vec::<String>::new());
    let link = Link::new(&config).unwrap();
    assert_eq!(link.ceiling(), Some(8_000_000));
    let pairs: Vec<Pair> = vec![(uid(CT), uid(EXPLICIT))];
    let began = tokio::time::Instant::now();
    let mut delivering = tokio::task::JoinSet::new();
    for number in 1..=2 {
        let (link, pairs) = (link.clone(), pairs.clone());
        let mut courier = Courier::new(link, &config.patience(), CancellationToken::new());
        delivering.spawn(async move {
            let reader = Memory::new(&data_set("1.2.3", 300_000), 10_000);
            courier.deliver(&job(number), reader, &pairs).await
        });
    }
    let outcomes = delivering.join_all().await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::Confirmed { status: 0 })
    );
    // 600 KB, and their heads, at one megabyte in a second, over both together.
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(560) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

/// Takes two instances and answers them when the third one has begun to come; then it closes, if it is to, and never reads again.
async fn answers_late(closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut association = accept(stream).await;
        let mut waiting = Vec::new();
        for number in 1..=3 {
            let Ok(Event::Command {
                context,
                command: Command::StoreRq(request),
            }) = association.next().await
            else {
                return;
            };
            if number == 3 {
                break;
            }
            while association.data().await.unwrap().is_some() {}
            let answer = StoreRsp {
                message_id: request.message_id,
                status: 0,
                sop_class: request.sop_class,
                sop_instance: request.sop_instance,
                comment: None,
            };
            waiting.push((context, answer));
        }
        for (context, answer) in waiting {
            association.send(context, &Command::StoreRsp(answer)).await.unwrap();
        }
        if !closes {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    });
    port
}

/// What was answered before an association broke off has its answer, and does not go twice.
#[tokio::test]
async fn answers_that_had_come_when_an_association_breaks_are_taken() {
    for closes in [false, true] {
        let mut courier = courier(answers_late(closes).await);
        begin(&mut courier, 1).await;
        begin(&mut courier, 2).await;
        let pairs: Vec<Pair> = vec![(uid(CT), uid(EXPLICIT))];
        // In one case more than the sockets hold, in the other it cannot be read to its end.
        let mut reader = Memory::new(
            &data_set("1.2.3.3", if closes { 30_000_000 } else { 3_000_000 }),
            1_000_000,
        );
        reader.unreadable = !closes;
        let ended = courier.begin(&job(3), reader, &pairs).await;
        assert_eq!(ids(&ended), [1, 2, 3], "{ended:?}");
        for answered in &ended[..2] {
            assert_eq!(answered.outcome, Outcome::Confirmed { status: 0 }, "{ended:?}");
            assert!(answered.left.is_some());
        }
        match closes {
            true => assert!(matches!(&ended[2].outcome, Outcome::Interrupted(_)), "{ended:?}"),
            false => assert!(matches!(&ended[2].outcome, Outcome::Corrupt { .. }), "{ended:?}"),
        }
        assert!(!courier.is_open());
    }
}
