//! The receiver of the relay bench: an archive over TLS that throws away what it gets, notes when the last byte of each instance
//! came, and answers at once. It is made of the box's own upper layer, so that it costs little and is the same in every run.
use super::harness::pki::Authority;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use waystation::base::names::Uid;
use waystation::dicom::association::{self, Association, Context, Event, Local, Stream, Timeouts};
use waystation::dicom::dimse::{Command, StoreRsp};
use waystation::dicom::prompt::Prompt;
use waystation::listener::tls::{self, Acceptor, ClientCertificate};
use waystation::pki::{CrlPolicy, Files};
use waystation::sender::tls as client;

/// Certificates of one run.
pub struct Trust {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Trust {
    pub fn new() -> Self {
        let folder = super::peers::folder();
        let authority = Authority::new(folder.path(), "bench-ca");
        let pair = authority.sign("receiver", "receiver");
        Self {
            ca: authority.certificate,
            certificate: pair.certificate,
            key: pair.key,
            _folder: folder,
        }
    }

    /// `tls = …` of a destination that trusts this receiver.
    pub fn destination(&self) -> String {
        format!("tls = {{ ca = {:?}, server_name = \"localhost\" }}", self.ca)
    }

    fn acceptor(&self) -> Acceptor {
        let config = tls::Config {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_certificate: ClientCertificate::None,
            client_ca: Files::default(),
            client_crl: Files::default(),
            crl_expired: CrlPolicy::Accept,
            crl_missing: CrlPolicy::Refuse,
        };
        tls::acceptor("house", &config).expect("our own certificates")
    }

    fn connector(&self) -> client::Connector {
        let config = client::Config {
            ca: self.ca.clone().into(),
            server_name: Some("localhost".to_owned()),
            ..client::Config::default()
        };
        client::connector(&config).expect("our own certificates")
    }
}

/// What has come.
#[derive(Default)]
struct Journal {
    instances: AtomicU64,
    bytes: AtomicU64,
    /// When the last byte of each came; kept when asked for.
    times: Mutex<HashMap<String, Instant>>,
    last: Mutex<Option<Instant>>,
}

pub struct Receiver {
    pub port: u16,
    journal: Arc<Journal>,
    _runtime: Runtime,
}

impl Receiver {
    pub fn start(trust: &Trust) -> Self {
        Self::serving(Some(trust.acceptor()), 1)
    }

    /// Without TLS, for peers that cannot; it lets so many operations be outstanding.
    pub fn plain(window: u16) -> Self {
        Self::serving(None, window)
    }

    fn serving(acceptor: Option<Acceptor>, window: u16) -> Self {
        let runtime = runtime();
        let journal = Arc::new(Journal::default());
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = socket.local_addr().expect("bound").port();
        let notes = journal.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (acceptor, notes) = (acceptor.clone(), notes.clone());
                // A sender that breaks off is seen by what is missing in the journal.
                tokio::spawn(async move {
                    let stream = Prompt::new(stream);
                    match acceptor {
                        None => drop(serve(stream, window, &notes).await),
                        Some(acceptor) => {
                            if let Ok((stream, _)) = acceptor.handshake(stream, Duration::from_secs(10)).await {
                                drop(serve(stream, window, &notes).await);
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            journal,
            _runtime: runtime,
        }
    }

    pub fn instances(&self) -> u64 {
        self.journal.instances.load(Ordering::Relaxed)
    }

    /// Waits until so many have come; answers when the last of them did. `None` after `within`.
    pub fn wait(&self, count: u64, within: Duration) -> Option<Instant> {
        let until = Instant::now() + within;
        while self.instances() < count {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        *self.journal.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of data sets that have come.
    pub fn bytes(&self) -> u64 {
        self.journal.bytes.load(Ordering::Relaxed)
    }

    /// When an instance came.
    pub fn came(&self, sop: &str) -> Option<Instant> {
        let times = self.journal.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.get(sop).copied()
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

async fn serve<S: Stream>(
    mut stream: S,
    window: u16,
    journal: &Journal,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let timeouts = timeouts();
    let request = association::receive_request(&mut stream, &timeouts).await?;
    let results = request.contexts.iter().map(|proposed| Context {
        id: proposed.id,
        abstract_syntax: proposed.abstract_syntax.clone(),
        result: Ok(proposed.transfer_syntaxes[0].clone()),
    });
    let local = Local {
        max_pdu: association::DEFAULT_MAX_PDU,
        implementation_class_uid: Uid::parse("1.2.826.0.1.3680043.10.3.1")?,
        implementation_version: "BENCH".to_owned(),
        window,
    };
    let mut association = Association::accept(stream, &request, results.collect(), &local, timeouts).await?;
    loop {
        match association.next().await? {
            Event::Release => return Ok(association.release_reply().await?),
            Event::Malformed { .. } => return Err("a malformed command".into()),
            Event::Command {
                context,
                command: Command::EchoRq { message_id },
            } => {
                association
                    .send(context, &Command::EchoRsp { message_id, status: 0 })
                    .await?;
            }
            Event::Command {
                context,
                command: Command::StoreRq(request),
            } => {
                take(&mut association, journal, request.sop_instance.as_ref()).await?;
                let answer = StoreRsp {
                    message_id: request.message_id,
                    status: 0,
                    sop_class: request.sop_class,
                    sop_instance: request.sop_instance,
                    comment: None,
                };
                association.send(context, &Command::StoreRsp(answer)).await?;
            }
            Event::Command { .. } => return Err("a command that is not expected".into()),
        }
    }
}

async fn take<S: Stream>(
    association: &mut Association<S>,
    journal: &Journal,
    sop: Option<&Uid>,
) -> Result<(), association::UlError> {
    let mut bytes = 0;
    while let Some(piece) = association.data().await? {
        bytes += piece.len() as u64;
    }
    let now = Instant::now();
    if let Some(sop) = sop {
        journal
            .times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sop.as_str().to_owned(), now);
    }
    *journal.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    journal.bytes.fetch_add(bytes, Ordering::Relaxed);
    journal.instances.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn timeouts() -> Timeouts {
    let long = Duration::from_secs(120);
    Timeouts {
        association: long,
        idle: long,
        transfer: long,
        write: long,
        response: long,
        release: Duration::from_secs(5),
    }
}

/// What TLS itself can do between two ends on this machine: bytes in a second through `connections` sessions of rustls, written
/// in pieces of 256 KiB and read to their end.
pub fn tls_limit(trust: &Trust, connections: usize, span: Duration) -> f64 {
    let runtime = runtime();
    let (acceptor, connector) = (trust.acceptor(), trust.connector());
    let total = Arc::new(AtomicU64::new(0));
    let seconds = runtime.block_on(async {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = socket.local_addr().expect("bound");
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let connecting = TcpStream::connect(address);
            let (out, accepted) = tokio::join!(connecting, socket.accept());
            let (out, inward) = (out.expect("loopback"), accepted.expect("loopback").0);
            let within = Duration::from_secs(10);
            let (out, inward) = tokio::join!(
                connector.connect("localhost", Prompt::new(out), within),
                acceptor.handshake(Prompt::new(inward), within)
            );
            writers.push(out.expect("a handshake"));
            readers.push(inward.expect("a handshake").0);
        }
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for mut writer in writers {
            tasks.spawn(async move {
                let piece = vec![0x5a; 256 << 10];
                while began.elapsed() < span && writer.write_all(&piece).await.is_ok() {}
                // The reader ends with the connection.
                drop(writer.shutdown().await);
            });
        }
        for mut reader in readers {
            let total = total.clone();
            tasks.spawn(async move {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    total.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        began.elapsed().as_secs_f64()
    });
    total.load(Ordering::Relaxed) as f64 / seconds
}
