//! P-DATA through our upper layer and nothing else: a data set of 512 KiB from one end of a pipe in memory to the other. `make bench`.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use tokio::io::{DuplexStream, duplex};
use waystation::base::names::{AeTitle, Uid};
use waystation::dicom::association::{self, Association, Context, Event, Local, Timeouts};
use waystation::dicom::dimse::{Command, Priority, StoreRq, StoreRsp};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DATA_SET: usize = 512 << 10;

fn uid(text: &str) -> Uid {
    Uid::parse(text).expect("a UID")
}

fn timeouts() -> Timeouts {
    let long = Duration::from_secs(30);
    Timeouts {
        association: long,
        idle: long,
        transfer: long,
        write: long,
        response: long,
        release: long,
    }
}

fn local(max_pdu: u32) -> Local {
    Local {
        max_pdu,
        implementation_class_uid: uid("1.2.826.0.1.3680043.10.3.1"),
        implementation_version: "BENCH".to_owned(),
        window: 1,
    }
}

/// Both ends, the acceptor with this PDU length.
async fn associated(max_pdu: u32) -> (Association<DuplexStream>, Association<DuplexStream>) {
    let (near, mut far) = duplex(1 << 20);
    let (title, other) = (
        AeTitle::parse("A").expect("a title"),
        AeTitle::parse("B").expect("a title"),
    );
    let accepting = async {
        let request = association::receive_request(&mut far, &timeouts())
            .await
            .expect("a request");
        let results = request.contexts.iter().map(|proposed| Context {
            id: proposed.id,
            abstract_syntax: proposed.abstract_syntax.clone(),
            result: Ok(proposed.transfer_syntaxes[0].clone()),
        });
        let results = results.collect();
        Association::accept(far, &request, results, &local(max_pdu), timeouts()).await
    };
    let contexts = [(uid(CT), vec![uid(EXPLICIT)])];
    let local = local(association::DEFAULT_MAX_PDU);
    let requesting = Association::request(near, &title, &other, &contexts, &local, timeouts());
    let (requestor, acceptor) = tokio::join!(requesting, accepting);
    (requestor.expect("associated"), acceptor.expect("associated"))
}

async fn send(association: &mut Association<DuplexStream>, data_set: &[u8]) {
    let request = StoreRq {
        message_id: 1,
        priority: Priority::Medium,
        sop_class: Some(uid(CT)),
        sop_instance: Some(uid("1.2.3.4")),
        move_originator: None,
        has_data_set: true,
    };
    association.send(1, &Command::StoreRq(request)).await.expect("sent");
    let mut writer = association.data_set(1);
    writer.write(data_set).await.expect("sent");
    writer.finish().await.expect("sent");
    association.next().await.expect("answered");
}

async fn receive(association: &mut Association<DuplexStream>, room: &mut [u8]) -> usize {
    let Event::Command { context, .. } = association.next().await.expect("a command") else {
        panic!("no command");
    };
    let mut bytes = 0;
    while let Some(count) = association.data_into(room).await.expect("bytes") {
        bytes += count;
    }
    let answer = StoreRsp {
        message_id: 1,
        status: 0,
        sop_class: None,
        sop_instance: None,
        comment: None,
    };
    association
        .send(context, &Command::StoreRsp(answer))
        .await
        .expect("answered");
    bytes
}

fn costs(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let data_set = vec![0x5a; DATA_SET];
    let mut room = vec![0; DATA_SET];
    let mut group = criterion.benchmark_group("P-DATA, 512 KiB there and its answer back");
    group.throughput(Throughput::Bytes(DATA_SET as u64));
    for max_pdu in [16_384, 131_072] {
        let (mut requestor, mut acceptor) = runtime.block_on(associated(max_pdu));
        group.bench_function(BenchmarkId::from_parameter(max_pdu), |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                for _ in 0..count {
                    let (_, bytes) = runtime.block_on(async {
                        tokio::join!(send(&mut requestor, &data_set), receive(&mut acceptor, &mut room))
                    });
                    assert_eq!(bytes, DATA_SET);
                }
                began.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, costs);
criterion_main!(benches);
