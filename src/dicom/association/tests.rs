//! Both roles against each other and against hostile bytes, over memory and over TCP.
use super::*;
use crate::dicom::dimse::{Priority, StoreRq, StoreRsp};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

fn local(max_pdu: u32) -> Local {
    Local {
        max_pdu,
        implementation_class_uid: uid("2.25.1"),
        implementation_version: "TEST".into(),
    }
}

fn timeouts() -> Timeouts {
    let second = Duration::from_secs(1);
    Timeouts {
        association: second * 30,
        idle: second * 60,
        transfer: second * 20,
        write: second * 10,
        response: second * 40,
        release: second * 5,
    }
}

fn accept_all(request: &Request) -> Vec<Context> {
    let taken = |p: &Proposed| Context {
        id: p.id,
        abstract_syntax: p.abstract_syntax.clone(),
        result: Ok(p.transfer_syntaxes[0].clone()),
    };
    request.contexts.iter().map(taken).collect()
}

async fn acceptor<S: Stream>(mut stream: S, max_pdu: u32) -> Result<Association<S>, UlError> {
    let request = receive_request(&mut stream, &timeouts()).await?;
    let results = accept_all(&request);
    Association::accept(stream, &request, results, &local(max_pdu), timeouts()).await
}

async fn requestor<S: Stream>(stream: S, max_pdu: u32) -> Result<Association<S>, UlError> {
    let contexts = [(uid(CT), vec![uid(EXPLICIT), uid(IMPLICIT)])];
    let (calling, called) = (title("CT1"), title("BOX"));
    Association::request(stream, &calling, &called, &contexts, &local(max_pdu), timeouts()).await
}

fn store(message_id: u16) -> Command {
    Command::StoreRq(StoreRq {
        message_id,
        priority: Priority::Medium,
        sop_class: Some(uid(CT)),
        sop_instance: Some(uid("1.2.3")),
        move_originator: None,
        has_data_set: true,
    })
}

fn stored(message_id: u16) -> Command {
    Command::StoreRsp(StoreRsp {
        message_id,
        status: 0,
        sop_class: Some(uid(CT)),
        sop_instance: Some(uid("1.2.3")),
        comment: None,
    })
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill(bytes.as_mut_slice());
    bytes
}

/// Takes stores until release and answers each; what came.
async fn serve<S: Stream>(mut association: Association<S>) -> Result<Vec<Vec<u8>>, UlError> {
    let mut all = Vec::new();
    loop {
        let (context, command) = match association.next().await? {
            Event::Release => {
                association.release_reply().await?;
                return Ok(all);
            }
            Event::Malformed { .. } => panic!("a well formed command"),
            Event::Command { context, command } => (context, command),
        };
        let Command::StoreRq(request) = command else {
            panic!("a C-STORE-RQ")
        };
        let mut data = Vec::new();
        while let Some(piece) = association.data().await? {
            assert!(!piece.is_empty() && piece.len() <= crate::base::limits::CHUNK);
            data.extend_from_slice(&piece);
        }
        all.push(data);
        association.send(context, &stored(request.message_id)).await?;
    }
}

/// Sends data sets in pieces of random length and checks each answer.
async fn send_all<S: Stream>(mut association: Association<S>, all: &[Vec<u8>]) -> Result<(), UlError> {
    let context = association.accepted(&uid(CT), &uid(EXPLICIT)).unwrap();
    let mut random = StdRng::seed_from_u64(5);
    for (id, data) in (1..).zip(all) {
        association.send(context, &store(id)).await?;
        let mut writer = association.data_set(context);
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=rest.len().min(400_000)));
            writer.write(now).await?;
            rest = later;
        }
        writer.finish().await?;
        match association.next().await? {
            Event::Command { command, .. } => assert_eq!(command, stored(id)),
            other => panic!("{other:?}"),
        }
    }
    association.release().await
}

fn lengths() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 2, 58, 59, 60, 122, 131_066, 131_067, 262_132, 1_000_003];
    lengths.iter().zip(0..).map(|(n, seed)| noise(*n, seed)).collect()
}

#[tokio::test]
async fn data_sets_arrive_byte_for_byte_whatever_the_maximum_pdu() {
    for max_pdu in [0, 64, 65, 16_384, 131_072, u32::MAX] {
        let (a, b) = duplex(50_000);
        let all: Vec<Vec<u8>> = match max_pdu {
            64 | 65 => lengths().into_iter().filter(|d| d.len() < 200_000).collect(),
            _ => lengths(),
        };
        let sending = async { send_all(requestor(a, 0).await?, &all).await };
        let serving = async { serve(acceptor(b, max_pdu).await?).await };
        let (sent, came) = tokio::join!(sending, serving);
        sent.unwrap();
        assert!(came.unwrap() == all, "max PDU {max_pdu}");
    }
}

#[tokio::test]
async fn both_roles_work_over_tcp_with_eight_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let all = std::sync::Arc::new(lengths());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let all = all.clone();
        tasks.spawn(async move {
            let association = requestor(TcpStream::connect(address).await.unwrap(), 16_384)
                .await
                .unwrap();
            send_all(association, &all).await.unwrap();
        });
        let (stream, _) = listener.accept().await.unwrap();
        let expected = tasks.len();
        tasks.spawn(async move {
            let came = serve(acceptor(stream, 32_768).await.unwrap()).await.unwrap();
            assert_eq!(came.len(), 11, "task {expected}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn what_was_negotiated_is_known_to_both() {
    let (a, b) = duplex(4_096);
    let (requestor, acceptor) = tokio::join!(requestor(a, 20_000), acceptor(b, 30_000));
    let (requestor, acceptor) = (requestor.unwrap(), acceptor.unwrap());
    assert_eq!(requestor.contexts(), acceptor.contexts());
    assert_eq!(requestor.accepted(&uid(CT), &uid(EXPLICIT)), Some(1));
    assert_eq!(requestor.accepted(&uid(CT), &uid(IMPLICIT)), None);
    assert_eq!((requestor.peer().max_pdu, acceptor.peer().max_pdu), (30_000, 20_000));
    assert_eq!(acceptor.peer().calling, Some(title("CT1")));
    assert_eq!(acceptor.peer().called, Some(title("BOX")));
    assert_eq!(acceptor.peer().implementation_class_uid, "2.25.1");
    assert_eq!(acceptor.peer().implementation_version, "TEST");
}

#[tokio::test]
async fn a_rejection_arrives_with_its_words() {
    let (a, mut b) = duplex(4_096);
    let rejecting = async {
        receive_request(&mut b, &timeouts()).await.unwrap();
        reject(b, Rejection::LOCAL_LIMIT, &timeouts()).await.unwrap();
    };
    let (result, ()) = tokio::join!(requestor(a, 0), rejecting);
    match result.err() {
        Some(UlError::Rejected(rejection)) => assert_eq!(rejection, Rejection::LOCAL_LIMIT),
        other => panic!("{other:?}"),
    }
}

/// An accepted association of ours, and the raw other end.
async fn raw_peer(max_pdu: u32) -> (Association<DuplexStream>, DuplexStream) {
    let (mut raw, b) = duplex(1 << 20);
    let proposed = [(uid(CT), vec![uid(EXPLICIT)])];
    let contexts: Vec<Proposed> = proposed
        .iter()
        .map(|(class, syntaxes)| Proposed {
            id: 1,
            abstract_syntax: class.clone(),
            transfer_syntaxes: syntaxes.clone(),
        })
        .collect();
    let bytes = pdu::request(&title("CT1"), &title("BOX"), &contexts, &local(max_pdu));
    raw.write_all(&bytes).await.unwrap();
    let association = acceptor(b, 16_384).await.unwrap();
    let mut header = [0; 6];
    raw.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize];
    raw.read_exact(&mut body).await.unwrap();
    (association, raw)
}

fn fragment(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap() + 2;
    [&length.to_be_bytes()[..], &[context, control], data].concat()
}

fn p_data(fragments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fragments.len()).unwrap();
    [&[4, 0][..], &length.to_be_bytes(), fragments].concat()
}

#[tokio::test]
async fn any_fragmentation_is_put_together() {
    let (mut association, mut raw) = raw_peer(0).await;
    let command = store(1).write();
    let data = noise(300, 1);
    let mut bytes = Vec::new();
    for byte in &command {
        bytes.extend(p_data(&fragment(1, 1, &[*byte])));
    }
    // The command's end, empty fragments and the data set's start in one PDU, an empty PDU between.
    let mixed = [fragment(1, 3, b""), fragment(1, 0, b""), fragment(1, 0, &data[..100])].concat();
    bytes.extend(p_data(&mixed));
    bytes.extend(p_data(b""));
    // A PDU longer than we announced, the last fragment, and the next message's command behind it.
    let next = Command::EchoRq { message_id: 2 }.write();
    bytes.extend(p_data(
        &[
            fragment(1, 0, &data[100..200]),
            fragment(1, 2, &data[200..]),
            fragment(1, 3, &next),
        ]
        .concat(),
    ));
    let writing = async {
        for byte in bytes {
            raw.write_all(&[byte]).await.unwrap();
        }
    };
    let reading = async {
        assert!(matches!(
            association.next().await,
            Ok(Event::Command { context: 1, .. })
        ));
        let mut came = Vec::new();
        while let Some(piece) = association.data().await.unwrap() {
            came.extend_from_slice(&piece);
        }
        assert_eq!(came, data);
        assert!(association.data().await.unwrap().is_none());
        let echo = association.next().await;
        assert!(matches!(
            echo,
            Ok(Event::Command {
                command: Command::EchoRq { message_id: 2 },
                ..
            })
        ));
    };
    tokio::join!(writing, reading);
}

/// What our side says to these bytes after an accepted association: the violation and the A-ABORT on the wire.
async fn violation(bytes: &[u8]) -> (&'static str, Vec<u8>) {
    let (mut association, mut raw) = raw_peer(0).await;
    raw.write_all(bytes).await.unwrap();
    let mut result = association.next().await.map(|_| ());
    while result.is_ok() {
        result = match association.data().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => association.next().await.map(|_| ()),
            Err(error) => Err(error),
        };
    }
    let Err(UlError::Protocol(what)) = result else {
        panic!("{result:?}")
    };
    assert!(matches!(association.next().await, Err(UlError::Poisoned)));
    let mut answer = vec![0; 10];
    raw.read_exact(&mut answer).await.unwrap();
    (what, answer)
}

#[tokio::test]
async fn every_violation_is_answered_with_abort_and_its_reason() {
    let command = store(1).write();
    let begun = p_data(&fragment(1, 3, &command));
    let long_command = vec![0; crate::dicom::dimse::COMMAND_MAX + 1];
    let cases: Vec<(&str, Vec<u8>, u8)> = vec![
        (
            "a fragment on a context that was not accepted",
            p_data(&fragment(3, 3, &command)),
            6,
        ),
        ("a data set without its command", p_data(&fragment(1, 2, b"xx")), 6),
        ("a fragment longer than its PDU", p_data(&[0, 0, 0, 9, 1, 3, 0, 0]), 6),
        ("a fragment longer than its PDU", p_data(&[0, 0, 0, 1, 1, 3]), 6),
        (
            "a P-DATA PDU that ends inside a fragment's header",
            p_data(&[0, 0, 0]),
            6,
        ),
        ("a P-DATA PDU beyond every limit", vec![4, 0, 0xff, 0xff, 0xff, 0xff], 6),
        (
            "a command set that is too long",
            p_data(&fragment(1, 1, &long_command)),
            6,
        ),
        ("nothing but empty fragments", p_data(b"").repeat(300), 6),
        (
            "nothing but empty fragments",
            [begun.clone(), p_data(&fragment(1, 0, b"").repeat(300))].concat(),
            6,
        ),
        (
            "a command inside a data set",
            [begun.clone(), begun.clone()].concat(),
            6,
        ),
        (
            "release inside a message",
            [begun.clone(), pdu::release(5).to_vec()].concat(),
            2,
        ),
        (
            "release inside a message",
            [p_data(&fragment(1, 1, &command)), pdu::release(5).to_vec()].concat(),
            2,
        ),
        ("a PDU that has no place here", vec![1, 0, 0, 0, 0, 1], 2),
        ("a PDU that has no place here", vec![6, 0, 0, 0, 0, 4, 0, 0, 0, 0], 2),
        ("a PDU that has no place here", b"GET / HTTP".to_vec(), 1),
        ("a PDU with a wrong length", vec![5, 0, 0, 0, 0, 9], 6),
    ];
    for (expected, bytes, reason) in cases {
        let (what, answer) = violation(&bytes).await;
        assert_eq!(what, expected);
        assert_eq!(answer, pdu::abort(2, reason), "{expected}");
    }
}

#[tokio::test]
async fn a_data_set_on_the_wrong_context_is_a_violation() {
    let (mut raw, b) = duplex(1 << 20);
    let contexts: Vec<Proposed> = [1, 3]
        .map(|id| Proposed {
            id,
            abstract_syntax: uid(CT),
            transfer_syntaxes: vec![uid(EXPLICIT)],
        })
        .into();
    raw.write_all(&pdu::request(&title("A"), &title("B"), &contexts, &local(0)))
        .await
        .unwrap();
    let mut association = acceptor(b, 0).await.unwrap();
    raw.write_all(&p_data(
        &[fragment(1, 3, &store(1).write()), fragment(3, 2, b"xx")].concat(),
    ))
    .await
    .unwrap();
    association.next().await.unwrap();
    assert!(matches!(association.data().await, Err(UlError::Protocol(_))));
}

#[tokio::test]
async fn an_unreadable_command_is_told_and_consumed() {
    let (mut association, mut raw) = raw_peer(0).await;
    let echo = Command::EchoRq { message_id: 1 }.write();
    let bytes = [p_data(&fragment(1, 3, b"rubbish")), p_data(&fragment(1, 3, &echo))].concat();
    raw.write_all(&bytes).await.unwrap();
    assert!(matches!(association.next().await, Ok(Event::Malformed { context: 1 })));
    assert!(matches!(association.next().await, Ok(Event::Command { .. })));
}

#[tokio::test]
async fn a_peers_abort_and_its_closing_are_told_apart() {
    let (mut association, mut raw) = raw_peer(0).await;
    raw.write_all(&pdu::abort(2, 5)).await.unwrap();
    let aborted = association.next().await;
    assert!(matches!(
        aborted,
        Err(UlError::Aborted {
            source_code: 2,
            reason: 5
        })
    ));
    let (mut association, raw) = raw_peer(0).await;
    drop(raw);
    assert!(matches!(association.next().await, Err(UlError::Closed)));
}

/// All control bytes of the fragments in a stream of PDUs, and whether an A-ABORT ends it.
fn controls(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut found = Vec::new();
    let mut aborted = false;
    while bytes.len() >= 6 {
        let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
        if bytes[0] == 4 && bytes.len() >= 12 {
            found.push(bytes[11]);
        }
        aborted |= bytes[0] == 7;
        bytes = bytes.get(6 + length..).unwrap_or_default();
    }
    (found, aborted)
}

#[tokio::test]
async fn a_dropped_writer_never_sends_the_last_flag() {
    for written in [0, 1, 10_000, 300_000, 700_000] {
        let (mut association, mut raw) = raw_peer(16_384).await;
        association.send(1, &store(1)).await.unwrap();
        let mut writer = association.data_set(1);
        writer.write(&noise(written, 1)).await.unwrap();
        drop(writer);
        assert!(association.is_poisoned());
        assert!(matches!(association.next().await, Err(UlError::Poisoned)));
        assert!(matches!(association.send(1, &store(2)).await, Err(UlError::Poisoned)));
        assert!(matches!(association.data_set(1).finish().await, Err(UlError::Poisoned)));
        let mut came = Vec::new();
        let (_, read) = tokio::join!(association.abort(0, 0), raw.read_to_end(&mut came));
        read.unwrap();
        let (controls, aborted) = controls(&came);
        assert!(aborted, "{written}");
        assert!(controls.iter().all(|c| *c == 0 || *c == 3), "{controls:?}");
    }
}

#[tokio::test]
async fn a_cancelled_write_closes_without_abort_and_without_last_flag() {
    let (mut association, mut raw) = raw_peer(0).await;
    association.send(1, &store(1)).await.unwrap();
    let mut writer = association.data_set(1);
    // The peer reads nothing: the stream holds 1 MiB, then the write waits and is cancelled in the middle of a PDU.
    let late = tokio::time::timeout(Duration::from_millis(50), writer.write(&noise(3 << 20, 1))).await;
    assert!(late.is_err());
    assert!(matches!(writer.finish().await, Err(UlError::Poisoned)));
    let mut came = Vec::new();
    let (_, read) = tokio::join!(association.abort(0, 0), raw.read_to_end(&mut came));
    read.unwrap();
    let (controls, aborted) = controls(&came);
    assert!(!aborted, "an abort here would be read as data");
    assert!(controls.len() > 2 && controls[1..].iter().all(|c| *c == 0));
}

#[tokio::test]
async fn fragments_are_even_and_never_longer_than_the_peer_takes() {
    for max_pdu in [1, 7, 64, 1_000, 16_384] {
        let (mut association, mut raw) = raw_peer(max_pdu).await;
        association.send(1, &store(1)).await.unwrap();
        let mut writer = association.data_set(1);
        writer.write(&noise(5_000, 1)).await.unwrap();
        writer.finish().await.unwrap();
        drop(association);
        let mut came = Vec::new();
        raw.read_to_end(&mut came).await.unwrap();
        let mut rest = came.as_slice();
        let mut data = 0;
        while !rest.is_empty() {
            let length = u32::from_be_bytes([rest[2], rest[3], rest[4], rest[5]]);
            assert!(length <= max_pdu.max(8), "{length} of {max_pdu}");
            assert!(length.is_multiple_of(2));
            if rest[11] & 1 == 0 {
                data += length - 6;
            }
            rest = &rest[6 + length as usize..];
        }
        assert_eq!(data, 5_000);
    }
}

async fn refused(bytes: &[u8]) -> (UlError, Vec<u8>) {
    let (mut raw, mut b) = duplex(2 << 20);
    raw.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let receiving = async {
        let error = receive_request(&mut b, &timeouts()).await.unwrap_err();
        drop(b);
        error
    };
    let (error, read) = tokio::join!(receiving, raw.read_to_end(&mut answer));
    read.unwrap();
    (error, answer)
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_aborted_without_waiting_for_more() {
    for (bytes, reason) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), 1),
        (vec![0x16, 3, 1, 2, 0, 1, 0, 1], 1),
        (vec![4, 0, 0xff, 0xff, 0xff, 0xff], 2),
        (vec![1, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1], 6),
        (vec![1, 0, 0, 0, 0, 4, 0, 1, 0, 0], 6),
    ] {
        let (error, answer) = refused(&bytes).await;
        assert!(matches!(error, UlError::Protocol(_)), "{error:?}");
        assert_eq!(answer, pdu::abort(2, reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_sent_byte_by_byte_ends_with_the_deadline() {
    let (mut raw, mut b) = duplex(4_096);
    let bytes = pdu::request(&title("A"), &title("B"), &[], &local(0));
    let dripping = async {
        for byte in bytes {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if raw.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let start = tokio::time::Instant::now();
    let timeouts = timeouts();
    let result = tokio::select! {
        () = dripping => unreachable!("the deadline comes first"),
        result = receive_request(&mut b, &timeouts) => result,
    };
    assert!(matches!(result, Err(UlError::Timeout(_))));
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn every_state_has_its_deadline() {
    let start = tokio::time::Instant::now();
    let (mut association, _raw) = raw_peer(0).await;
    assert!(matches!(association.next().await, Err(UlError::Timeout(_))));
    assert_eq!(start.elapsed().as_secs(), 60, "idle");

    let start = tokio::time::Instant::now();
    let (mut association, mut raw) = raw_peer(0).await;
    raw.write_all(&p_data(&fragment(1, 1, &store(1).write())))
        .await
        .unwrap();
    assert!(matches!(association.next().await, Err(UlError::Timeout(_))));
    assert_eq!(start.elapsed().as_secs(), 20, "an unfinished command");

    let start = tokio::time::Instant::now();
    let (mut association, mut raw) = raw_peer(0).await;
    raw.write_all(&p_data(&fragment(1, 3, &store(1).write())))
        .await
        .unwrap();
    association.next().await.unwrap();
    assert!(matches!(association.data().await, Err(UlError::Timeout(_))));
    assert_eq!(start.elapsed().as_secs(), 20, "an unfinished data set");

    let start = tokio::time::Instant::now();
    let (mut association, _raw) = raw_peer(0).await;
    association.send(1, &store(1)).await.unwrap();
    let stuck = association.data_set(1).write(&noise(3 << 20, 1)).await;
    assert!(matches!(stuck, Err(UlError::Timeout(_))));
    assert_eq!(start.elapsed().as_secs(), 10, "a peer that reads nothing");

    let start = tokio::time::Instant::now();
    let (a, _b) = duplex(4_096);
    assert!(matches!(requestor(a, 0).await, Err(UlError::Timeout(_))));
    assert_eq!(
        start.elapsed().as_secs(),
        31,
        "no answer to the request, and a second for the abort"
    );

    let start = tokio::time::Instant::now();
    let (a, b) = duplex(4_096);
    let (requestor, _acceptor) = tokio::join!(requestor(a, 0), acceptor(b, 0));
    let mut requestor = requestor.unwrap();
    requestor.send(1, &Command::EchoRq { message_id: 1 }).await.unwrap();
    assert!(matches!(requestor.next().await, Err(UlError::Timeout(_))));
    assert_eq!(start.elapsed().as_secs(), 40, "no answer to a C-ECHO");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_next_command_can_be_cancelled() {
    let (mut association, mut raw) = raw_peer(0).await;
    let echo = p_data(&fragment(1, 3, &Command::EchoRq { message_id: 4 }.write()));
    for byte in echo {
        let early = tokio::time::timeout(Duration::from_millis(1), association.next()).await;
        assert!(early.is_err());
        raw.write_all(&[byte]).await.unwrap();
    }
    let event = association.next().await;
    assert!(matches!(
        event,
        Ok(Event::Command {
            command: Command::EchoRq { message_id: 4 },
            ..
        })
    ));
}

#[tokio::test]
async fn release_survives_a_collision_and_a_peer_that_just_closes() {
    let (a, b) = duplex(4_096);
    let (requestor, acceptor) = tokio::join!(requestor(a, 0), acceptor(b, 0));
    let mut acceptor = acceptor.unwrap();
    let answering = async {
        assert!(matches!(acceptor.next().await, Ok(Event::Release)));
        acceptor.wire.put(&pdu::release(5)).await.unwrap();
        acceptor.wire.put(&p_data(&fragment(1, 0, b"late"))).await.unwrap();
        acceptor.wire.put(&pdu::release(6)).await.unwrap();
    };
    let (released, ()) = tokio::join!(requestor.unwrap().release(), answering);
    released.unwrap();

    let (a, b) = duplex(4_096);
    let (requestor, acceptor) = tokio::join!(super::tests::requestor(a, 0), super::tests::acceptor(b, 0));
    drop(acceptor);
    // Writing to a peer that is gone is an error, its silence after our words is not.
    let result = requestor.unwrap().release().await;
    assert!(matches!(result, Ok(()) | Err(UlError::Closed)));
}

/// A stream that answers every read with the error that rustls gives for a missing close_notify.
#[tokio::test]
async fn a_missing_close_notify_counts_as_closed() {
    let stream = tokio_test_stream();
    let mut stream = stream;
    let result = receive_request(&mut stream, &timeouts()).await;
    assert!(matches!(result, Err(UlError::Closed)));
}

fn tokio_test_stream() -> impl Stream {
    struct Cut;
    impl AsyncRead for Cut {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no close_notify")))
        }
    }
    tokio::io::join(Cut, tokio::io::sink())
}
