//! A payload that is read, and read again from its beginning.
use super::*;
use crate::base::limits::STRIDE;

/// Reads so many strides of the open payload.
async fn read(payload: &mut Payload, strides: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..strides {
        match payload.next().await.unwrap() {
            Some(chunk) => all.extend_from_slice(&chunk),
            None => break,
        }
    }
    all
}

/// A way of delivery may fail before it has read a byte, and after some: the next one reads all, and it is what arrived.
#[tokio::test]
async fn a_payload_is_whole_however_often_and_whenever_it_is_rewound() {
    let bench = Bench::new();
    for (number, length) in [0, 1, 5_000, STRIDE, STRIDE + 1, 3 * STRIDE - 7]
        .into_iter()
        .enumerate()
    {
        let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let id = id_of(bench.store(&format!("1.{number}"), &content, vec![to("a")]).await);
        for before in [&[][..], &[0], &[0, 0], &[1], &[1, 0], &[2, 1, 0], &[9]] {
            let mut payload = bench.spool().payload(&id).await.unwrap();
            for strides in before {
                read(&mut payload, *strides).await;
                payload.rewind();
            }
            assert_eq!(read(&mut payload, 9).await, content, "{length} after {before:?}");
            payload
                .verify()
                .unwrap_or_else(|error| panic!("{length} after {before:?}: {error}"));
        }
    }
}
