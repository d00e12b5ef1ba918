//! Both roles against each other, over memory and over TCP.
mod hostile;
mod negotiation;
mod states;

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
        window: 1,
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

/// The running data set, as pieces or into rooms of random length.
async fn data_of<S: Stream>(association: &mut Association<S>, into_rooms: bool) -> Result<Vec<u8>, UlError> {
    let mut data = Vec::new();
    if into_rooms {
        let mut random = StdRng::seed_from_u64(6);
        let mut room = vec![0; 300_000];
        let mut length = 300_000;
        while let Some(count) = association.data_into(&mut room[..length]).await? {
            assert!(count > 0 && count <= length);
            data.extend_from_slice(&room[..count]);
            length = random.random_range(1..=room.len());
        }
    } else {
        while let Some(piece) = association.data().await? {
            assert!(!piece.is_empty() && piece.len() <= crate::base::limits::CHUNK);
            data.extend_from_slice(&piece);
        }
    }
    Ok(data)
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
        // Each length comes both ways: there is an odd number of them, sent twice.
        all.push(data_of(&mut association, request.message_id % 2 == 0).await?);
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

fn twice(all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    assert_eq!(all.len() % 2, 1);
    [all.clone(), all].concat()
}

#[tokio::test]
async fn data_sets_arrive_byte_for_byte_whatever_the_maximum_pdu() {
    for max_pdu in [0, 64, 65, 16_384, 131_072, u32::MAX] {
        let (a, b) = duplex(50_000);
        let all: Vec<Vec<u8>> = match max_pdu {
            64 | 65 => twice(lengths().into_iter().filter(|d| d.len() < 200_000).collect()),
            _ => twice(lengths()),
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
    let bytes = pdu::request((&title("CT1"), &title("BOX")), &contexts, &[], &local(max_pdu));
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
    for into_rooms in [false, true] {
        put_together(into_rooms).await;
    }
}

async fn put_together(into_rooms: bool) {
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
        assert_eq!(data_of(&mut association, into_rooms).await.unwrap(), data);
        assert!(association.data().await.unwrap().is_none());
        assert!(association.data_into(&mut [0]).await.unwrap().is_none());
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

#[tokio::test]
async fn release_survives_a_collision_and_late_data() {
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
}

#[tokio::test]
async fn a_peer_that_closes_instead_of_answering_has_released() {
    let (a, b) = duplex(4_096);
    let (requestor, acceptor) = tokio::join!(requestor(a, 0), acceptor(b, 0));
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
