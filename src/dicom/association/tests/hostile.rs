//! Peers that break the protocol: each violation is seen, answered with its reason, and costs nothing.
use super::*;

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
    raw.write_all(&pdu::request((&title("A"), &title("B")), &contexts, &[], &local(0)))
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
        assert!(matches!(error, UlError::Protocol(_) | UlError::Foreign(_)), "{error:?}");
        assert_eq!(
            matches!(error, UlError::Foreign(_)),
            bytes[0] > 7,
            "another protocol is told by name"
        );
        assert_eq!(answer, pdu::abort(2, reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_sent_byte_by_byte_ends_with_the_deadline() {
    let (mut raw, mut b) = duplex(4_096);
    let bytes = pdu::request((&title("A"), &title("B")), &[], &[], &local(0));
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
