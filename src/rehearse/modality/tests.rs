//! The rehearsed modality against scripted archives over TCP.
use super::*;
use crate::dicom::association::{self, Association, Context, DEFAULT_MAX_PDU, Event, Local, Rejection};
use crate::dicom::dimse::{Command, StoreRsp};
use crate::rehearse::synthetic::{self, make_study};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

type Received = Arc<Mutex<BTreeMap<Uid, Vec<u8>>>>;

/// What the archive does to the n-th C-STORE (from 0, over all associations).
type Script = fn(usize) -> Act;

enum Act {
    Answer(u16),
    /// Abort in the middle of the data set.
    Abort,
    /// Answer another message id.
    Confuse,
}

/// An archive that takes everything but MR, and what it received.
async fn archive(script: Script) -> (u16, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Received::default();
    let (all, count) = (received.clone(), Arc::new(Mutex::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, script, all.clone(), count.clone()));
        }
    });
    (port, received)
}

async fn serve(mut stream: TcpStream, script: Script, received: Received, count: Arc<Mutex<usize>>) {
    let timeouts = options(0).timeouts;
    let request = association::receive_request(&mut stream, &timeouts).await.unwrap();
    if request
        .called
        .as_ref()
        .is_some_and(|called| called.as_str() != "ARCHIVE")
    {
        return association::reject(stream, Rejection::CALLED_AE, &timeouts)
            .await
            .unwrap();
    }
    let judge = |p: &association::Proposed| Context {
        id: p.id,
        abstract_syntax: p.abstract_syntax.clone(),
        result: match p.abstract_syntax.as_str() == synthetic::Modality::Mr.sop_class() {
            true => Err(3),
            false => Ok(p.transfer_syntaxes[0].clone()),
        },
    };
    let results = request.contexts.iter().map(judge).collect();
    let local = Local {
        max_pdu: DEFAULT_MAX_PDU,
        implementation_class_uid: Uid::known("2.25.1"),
        implementation_version: "TEST".into(),
        window: 1,
    };
    let mut association = Association::accept(stream, &request, results, &local, timeouts)
        .await
        .unwrap();
    loop {
        let (context, command) = match association.next().await {
            Ok(Event::Command { context, command }) => (context, command),
            Ok(Event::Release) => return association.release_reply().await.unwrap(),
            Ok(Event::Malformed { .. }) | Err(_) => return,
        };
        let answer = match command {
            Command::EchoRq { message_id } => Command::EchoRsp { message_id, status: 0 },
            Command::StoreRq(store) => {
                let number = {
                    let mut count = lock(&count);
                    *count += 1;
                    *count - 1
                };
                let act = script(number);
                if matches!(act, Act::Abort) {
                    return association.abort(2, 0).await;
                }
                let mut data = Vec::new();
                while let Some(piece) = association.data().await.unwrap() {
                    data.extend_from_slice(&piece);
                }
                lock(&received).insert(store.sop_instance.clone().unwrap(), data);
                Command::StoreRsp(StoreRsp {
                    message_id: store.message_id + u16::from(matches!(act, Act::Confuse)),
                    status: if let Act::Answer(status) = act { status } else { 0 },
                    sop_class: store.sop_class,
                    sop_instance: store.sop_instance,
                    comment: None,
                })
            }
            other => panic!("{other:?}"),
        };
        association.send(context, &answer).await.unwrap();
    }
}

fn options(port: u16) -> Options {
    let title = |text| AeTitle::parse(text).unwrap();
    Options::new("127.0.0.1", port, title("ARCHIVE"), title("MODALITY"))
}

fn write_studies(folder: &Path, modalities: &[synthetic::Modality]) {
    for modality in modalities {
        for (name, bytes) in make_study(1, *modality, 4, 64) {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

async fn sent(script: Script, change: impl Fn(&mut Options)) -> (Summary, Received, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write_studies(folder.path(), &synthetic::Modality::ALL);
    std::fs::write(folder.path().join("notes.txt"), "not DICOM").unwrap();
    let (port, received) = archive(script).await;
    let mut options = options(port);
    options.files = vec![folder.path().into()];
    change(&mut options);
    (send(&options, |_| {}).await, received, folder)
}

#[tokio::test]
async fn everything_that_the_peer_takes_arrives_byte_for_byte() {
    let (summary, received, folder) = sent(|_| Act::Answer(0), |options| options.associations = 3).await;
    assert_eq!((summary.sent, summary.warned, summary.skipped), (12, 0, 1));
    let refused = |(_, failure): &(PathBuf, Failure)| matches!(failure, Failure::NoContext);
    assert_eq!(summary.failed.len(), 4, "MR");
    assert!(summary.failed.iter().all(refused));
    assert!(!summary.is_complete());
    let items = gather(&[folder.path().into()]).items;
    // What an export has put aside goes only when its folder is named.
    let aside = folder.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    std::fs::copy(&items[0].file, aside.join("held.dcm")).unwrap();
    std::fs::write(aside.join(crate::spool::KEPT_BACK), "look").unwrap();
    let around = gather(&[folder.path().into()]);
    assert_eq!(around.items.len(), items.len());
    assert!(matches!(&around.failed[..], [(file, Failure::KeptBack)] if *file == aside));
    assert_eq!(gather(&[aside]).items.len(), 1);
    for item in items
        .iter()
        .filter(|i| i.sop_class.as_str() != synthetic::Modality::Mr.sop_class())
    {
        let file = std::fs::read(&item.file).unwrap();
        let offset = usize::try_from(item.offset).unwrap();
        assert!(
            lock(&received)
                .get(&item.sop_instance)
                .is_some_and(|data| *data == file[offset..])
        );
    }
}

#[tokio::test]
async fn a_status_fails_its_file_and_no_other() {
    let script: Script = |number| Act::Answer([0, 0xA700, 0xB000, 0][number % 4]);
    let (summary, ..) = sent(script, |_| {}).await;
    assert_eq!((summary.sent, summary.warned), (9, 3));
    let statuses = summary
        .failed
        .iter()
        .filter(|(_, f)| matches!(f, Failure::Status(0xA700)));
    assert_eq!(statuses.count(), 3);
}

#[tokio::test]
async fn a_broken_association_costs_the_file_under_way_and_the_rest_goes_on() {
    let script: Script = |number| match number {
        2 => Act::Abort,
        5 => Act::Confuse,
        _ => Act::Answer(0),
    };
    let (summary, ..) = sent(script, |_| {}).await;
    assert_eq!(summary.sent, 10);
    let broken = |f: &Failure| matches!(f, Failure::Association(_) | Failure::WrongAnswer);
    assert_eq!(summary.failed.iter().filter(|(_, f)| broken(f)).count(), 2);
}

#[tokio::test]
async fn a_rejection_fails_every_file_with_its_words() {
    let change = |options: &mut Options| options.called = AeTitle::parse("OTHER").unwrap();
    let (summary, ..) = sent(|_| Act::Answer(0), change).await;
    assert_eq!((summary.sent, summary.failed.len()), (0, 16));
    assert!(
        summary.failed[0]
            .1
            .to_string()
            .contains("called AE title not recognized")
    );
}

#[tokio::test]
async fn echo_and_repeat_do_what_they_say() {
    let (port, _) = archive(|_| Act::Answer(0)).await;
    echo(&options(port)).await.unwrap();
    let change = |options: &mut Options| {
        options.repeat = 3;
        options.batch = 2;
    };
    let (summary, ..) = sent(|_| Act::Answer(0), change).await;
    assert_eq!((summary.sent, summary.failed.len()), (36, 12));
}
