//! A scripted archive over real TCP: it can answer, dawdle, stall, cut, lie and refuse, and it remembers what it saw.
use crate::base::names::Uid;
use crate::dicom::association::{self, Association, Context, Event, Local, Proposed, Rejection, Timeouts};
use crate::dicom::dimse::{Command, StoreRq, StoreRsp};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the archive does with one instance.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Answer(u16),
    After(Duration, u16),
    /// Aborts after so many bytes of the data set.
    Abort(usize),
    /// Closes the connection after so many bytes.
    Close(usize),
    /// Stops reading after so many bytes.
    Stall(usize),
    /// Takes everything and never answers.
    Silence,
    /// Answers success to another message.
    WrongMessage,
    /// Answers success about another instance.
    WrongInstance,
    /// Asks for release where the answer should be.
    Nonsense,
}

/// What the archive does with an association.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Door {
    Open,
    Reject(Rejection),
    /// A-ABORT instead of an answer.
    Abort,
    /// Accepts the connection and says nothing.
    Mute,
}

type Script = dyn Fn(&Uid, usize) -> Act + Send + Sync;

/// The rules of one archive.
#[derive(Clone)]
pub(crate) struct Rules {
    pub act: Arc<Script>,
    pub door: Arc<dyn Fn() -> Door + Send + Sync>,
    /// What it does with an association in which it accepts nothing.
    pub empty: Door,
    /// Associations that it grants at once; it does this with one more.
    pub most: (usize, Door),
    /// SOP classes that it refuses.
    pub refuses: Arc<dyn Fn(&Uid) -> bool + Send + Sync>,
    /// Transfer syntaxes that it takes, of every class.
    pub takes: Arc<dyn Fn(&Uid) -> bool + Send + Sync>,
    /// Operations that it lets a peer have outstanding.
    pub window: u16,
}

impl Rules {
    pub(crate) fn new(act: impl Fn(&Uid, usize) -> Act + Send + Sync + 'static) -> Self {
        Self {
            act: Arc::new(act),
            door: Arc::new(|| Door::Open),
            empty: Door::Open,
            most: (usize::MAX, Door::Open),
            refuses: Arc::new(|_| false),
            takes: Arc::new(|_| true),
            window: 1,
        }
    }
}

/// What the archive saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// C-STORE commands, in order.
    pub begun: Vec<Uid>,
    /// Data sets that came with their last-fragment flag.
    pub whole: Vec<(Uid, Vec<u8>)>,
    /// Success answered and sent.
    pub confirmed: Vec<Uid>,
    pub proposed: Vec<Vec<Uid>>,
    /// Classes and syntaxes of each association, in order.
    pub contexts: Vec<Vec<(Uid, Uid)>>,
    /// The transfer syntax of each C-STORE command's presentation context, in order.
    pub syntaxes: Vec<(Uid, Uid)>,
    pub connections: usize,
    pub echoes: usize,
    pub released: usize,
    /// Associations open now, and the most there ever were.
    pub open: usize,
    pub open_max: usize,
}

pub(crate) struct Archive {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Archive {
    pub(crate) async fn start(rules: Rules) -> Self {
        Self::start_at(0, rules, Arc::default()).await
    }

    async fn start_at(port: u16, rules: Rules, seen: Arc<Mutex<Seen>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = seen.clone();
        let accepting = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().connections += 1;
                peers.spawn(serve(stream, rules.clone(), shared.clone()));
            }
        });
        Self { port, seen, accepting }
    }

    /// Closes the port and every connection.
    pub(crate) async fn stop(&mut self) {
        self.accepting.abort();
        while !self.accepting.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Comes back on the same port, with other rules and the same memory.
    pub(crate) async fn restart(&mut self, rules: Rules) {
        self.stop().await;
        *self = Self::start_at(self.port, rules, self.seen.clone()).await;
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Counts an association as open while it lives.
struct Open(Arc<Mutex<Seen>>);

impl Open {
    fn new(seen: &Arc<Mutex<Seen>>) -> Self {
        let mut now = seen.lock().unwrap();
        now.open += 1;
        now.open_max = now.open_max.max(now.open);
        Self(seen.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

const PATIENT: Timeouts = Timeouts {
    association: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    transfer: Duration::from_secs(20),
    write: Duration::from_secs(20),
    response: Duration::from_secs(20),
    release: Duration::from_secs(1),
};

/// What each proposed context is answered.
fn judge(proposed: &[Proposed], rules: &Rules) -> Vec<Context> {
    proposed
        .iter()
        .map(|proposed| Context {
            id: proposed.id,
            abstract_syntax: proposed.abstract_syntax.clone(),
            result: match &proposed.transfer_syntaxes[0] {
                _ if (rules.refuses)(&proposed.abstract_syntax) => Err(3),
                syntax if (rules.takes)(syntax) => Ok(syntax.clone()),
                _ => Err(4),
            },
        })
        .collect()
}

async fn serve(mut stream: TcpStream, rules: Rules, seen: Arc<Mutex<Seen>>) {
    let Ok(request) = association::receive_request(&mut stream, &PATIENT).await else {
        return;
    };
    let results = judge(&request.contexts, &rules);
    let is_full = seen.lock().unwrap().open >= rules.most.0;
    let door = match (rules.door)() {
        Door::Open if is_full => rules.most.1,
        Door::Open if results.iter().all(|context| context.result.is_err()) => rules.empty,
        door => door,
    };
    match door {
        Door::Open => {}
        Door::Reject(rejection) => return drop(association::reject(stream, rejection, &PATIENT).await),
        Door::Abort => return drop(stream.write_all(&[7, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await),
        Door::Mute => return std::future::pending().await,
    }
    let proposed: Vec<(Uid, Uid)> = request
        .contexts
        .iter()
        .map(|c| (c.abstract_syntax.clone(), c.transfer_syntaxes[0].clone()))
        .collect();
    {
        let mut now = seen.lock().unwrap();
        now.proposed
            .push(proposed.iter().map(|(class, _)| class.clone()).collect());
        now.contexts.push(proposed.clone());
    }
    let local = Local {
        max_pdu: 16_384,
        implementation_class_uid: Uid::known("1.2.3"),
        implementation_version: "ARCHIVE".to_owned(),
        window: rules.window,
    };
    // Before the peer hears of it, or it could ask for one more that is not counted.
    let _open = Open::new(&seen);
    let Ok(mut association) = Association::accept(stream, &request, results, &local, PATIENT).await else {
        return;
    };
    while let Ok(event) = association.next().await {
        let (context, command) = match event {
            Event::Command { context, command } => (context, command),
            Event::Malformed { .. } => return,
            Event::Release => {
                seen.lock().unwrap().released += 1;
                return drop(association.release_reply().await);
            }
        };
        let keep = match command {
            Command::EchoRq { message_id } => {
                seen.lock().unwrap().echoes += 1;
                let answer = Command::EchoRsp { message_id, status: 0 };
                association.send(context, &answer).await.is_ok()
            }
            Command::StoreRq(request) => {
                let uid = request.sop_instance.clone().unwrap();
                let nth = {
                    let mut now = seen.lock().unwrap();
                    now.begun.push(uid.clone());
                    // Given out in order: 1, 3, 5 ...
                    let syntax = proposed[usize::from(context / 2)].1.clone();
                    now.syntaxes.push((uid.clone(), syntax));
                    now.begun.iter().filter(|begun| **begun == uid).count()
                };
                let act = (rules.act)(&uid, nth);
                match store(association, context, request, act, &seen).await {
                    Some(same) => {
                        association = same;
                        true
                    }
                    None => return,
                }
            }
            _ => false,
        };
        if !keep {
            return;
        }
    }
}

/// Takes one instance as the script says. `None` when the association is over.
async fn store(
    mut association: Association<TcpStream>,
    context: u8,
    request: StoreRq,
    act: Act,
    seen: &Arc<Mutex<Seen>>,
) -> Option<Association<TcpStream>> {
    let uid = request.sop_instance.clone().unwrap();
    let cut = match act {
        Act::Abort(at) | Act::Close(at) | Act::Stall(at) => at,
        _ => usize::MAX,
    };
    let mut data = Vec::new();
    while data.len() < cut {
        match association.data().await {
            Ok(Some(piece)) => data.extend_from_slice(&piece),
            Ok(None) => break,
            Err(_) => return None,
        }
    }
    match act {
        Act::Abort(_) => {
            association.abort(2, 0).await;
            return None;
        }
        Act::Close(_) => return None,
        Act::Stall(_) => std::future::pending().await,
        _ => {}
    }
    seen.lock().unwrap().whole.push((uid.clone(), data));
    let (status, message_id, instance) = match act {
        Act::Answer(status) => (status, request.message_id, uid.clone()),
        Act::After(wait, status) => {
            tokio::time::sleep(wait).await;
            (status, request.message_id, uid.clone())
        }
        Act::WrongMessage => (0, request.message_id.wrapping_add(7), uid.clone()),
        Act::WrongInstance => (0, request.message_id, Uid::known("1.2.3.4.5.6.7")),
        Act::Nonsense => {
            let echo = Command::EchoRsp {
                message_id: request.message_id,
                status: 0,
            };
            association.send(context, &echo).await.ok()?;
            return Some(association);
        }
        Act::Silence | Act::Abort(_) | Act::Close(_) | Act::Stall(_) => std::future::pending().await,
    };
    let answer = Command::StoreRsp(StoreRsp {
        message_id,
        status,
        sop_class: request.sop_class,
        sop_instance: Some(instance),
        comment: None,
    });
    association.send(context, &answer).await.ok()?;
    if matches!(act, Act::Answer(0) | Act::After(_, 0)) {
        seen.lock().unwrap().confirmed.push(uid);
    }
    Some(association)
}
