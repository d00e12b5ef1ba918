//! Deadlines, cancellation, and what an unfinished data set leaves behind.
use super::*;

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

#[tokio::test(start_paused = true)]
async fn a_dropped_writer_never_sends_the_last_flag() {
    for written in [0, 1, 10_000, 300_000, 700_000] {
        let (mut association, mut raw) = raw_peer(16_384).await;
        association.send(1, &store(1)).await.unwrap();
        association.data_set(1).write(&noise(written, 1)).await.unwrap();
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
    let (mut association, mut raw) = raw_peer(0).await;
    raw.write_all(&p_data(&fragment(1, 3, &store(1).write())))
        .await
        .unwrap();
    association.next().await.unwrap();
    let drops = async {
        for _ in 0..12 {
            raw.write_all(&p_data(&fragment(1, 0, &[]))).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    };
    tokio::select! {
        came = association.data() => assert!(matches!(came, Err(UlError::Timeout(_)))),
        () = drops => panic!("it waited on"),
    }
    assert_eq!(start.elapsed().as_secs(), 20, "empty fragments are no progress");

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
