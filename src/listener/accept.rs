//! Connections: accepted, secured, admitted, served. One task for each connection, all owned by the drain.
use super::admission::{Admission, Peer, Refusal};
use super::commitment::{Desk, Exchange, roles};
use super::config::Config;
use super::negotiate::negotiate;
use super::passed::Passed;
use super::pending::{Pending, Place};
use super::store::{self, Ended, Served};
use super::tls;
use crate::base::dialect::Dialect;
use crate::base::drain::Drain;
use crate::base::fault::{Plant, planted};
use crate::base::names::Uid;
use crate::dicom::association::{self, Association, Local, Stream, Timeouts, UlError};
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION};
use crate::dicom::prompt::Prompt;
use crate::ingest::Ingest;
use crate::pki::opening::linger;
use crate::pki::{Role, Slot};
use crate::telemetry::metrics::{IntGauge, Metrics};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What all listeners share. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    pub ingest: Ingest,
    pub admission: Admission,
    pub metrics: Metrics,
    pub drain: Drain,
    /// Connections that have not associated yet.
    pub pending: Pending,
    /// Storage commitment.
    pub desk: Desk,
}

/// A listener that is bound and not yet accepting.
pub struct Bound {
    config: Arc<Config>,
    socket: TcpListener,
    tls: Option<tls::Acceptor>,
}

/// Why a listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("listener {name}: cannot listen on {address}: {error}")]
    Socket {
        name: String,
        address: SocketAddr,
        error: io::Error,
    },
    #[error("listener {name}: {error}")]
    Tls { name: String, error: tls::TlsError },
}

impl Shared {
    #[must_use]
    pub fn new(
        (ingest, desk): (Ingest, Desk),
        admission: Admission,
        metrics: Metrics,
        drain: Drain,
        pending: Pending,
    ) -> Self {
        Self {
            ingest,
            admission,
            metrics,
            drain,
            pending,
            desk,
        }
    }
}

impl Bound {
    /// Takes the port from those that were passed, or binds it, and loads the certificates. Nothing is accepted before `start`.
    ///
    /// # Errors
    /// The port is taken or not ours to take, or a certificate or key cannot be used.
    pub fn bind(config: Config, passed: &mut Passed) -> Result<Self, BindError> {
        let name = config.name.to_string();
        let tls = config.tls.as_ref().map(|tls| tls::acceptor(&name, tls)).transpose();
        let tls = tls.map_err(|error| BindError::Tls {
            name: name.clone(),
            error,
        })?;
        let socket = match passed.take(config.address) {
            Some(socket) => TcpListener::from_std(socket),
            None => listen(config.address),
        };
        let socket = socket.map_err(|error| BindError::Socket {
            name,
            address: config.address,
            error,
        })?;
        Ok(Self {
            config: Arc::new(config),
            socket,
            tls,
        })
    }

    /// Where it listens, with the port that the system chose when the configuration says 0.
    ///
    /// # Errors
    /// The socket's own error.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Its certificates, to be watched and shown.
    #[must_use]
    pub fn certificates(&self) -> Option<&Arc<Slot>> {
        self.tls.as_ref().map(tls::Acceptor::slot)
    }

    /// Accepts until the drain stops.
    pub fn start(self, shared: Shared) {
        let drain = shared.drain.clone();
        drain.spawn("listener", async move { accept(self, shared).await });
    }
}

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// How long the accept loop waits when the system is out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// The same when a connection that said nothing yet was ended for it, so that its descriptor comes free.
const GIVEN_WAY_PAUSE: Duration = Duration::from_millis(5);

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(bound: Bound, shared: Shared) {
    let Bound { config, socket, tls } = bound;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shared.drain.stopping() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // EMFILE, ENFILE, ENOBUFS, ECONNABORTED: the listener must outlive them all.
                tracing::warn!(listener = %config.name, %error, "a connection could not be accepted");
                let pause = if shared.pending.give_way() {
                    GIVEN_WAY_PAUSE
                } else {
                    EXHAUSTED_PAUSE
                };
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        // A socket for both kinds of addresses shows an IPv4 peer in IPv6 clothes; sources are configured as what they are.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let place = shared.pending.enter();
        let connection = Connection {
            config: config.clone(),
            shared: shared.clone(),
            peer,
        };
        let tls = tls.clone();
        shared
            .drain
            .spawn_contained("association", async move { connection.run(stream, tls, place).await });
    }
}

fn refused(config: &Config, shared: &Shared, reason: &str, peer: SocketAddr) {
    shared
        .metrics
        .refusals_total
        .with_label_values(&[config.name.as_str(), reason])
        .inc();
    tracing::warn!(listener = %config.name, peer = %peer.ip(), reason, "association refused");
}

struct Connection {
    config: Arc<Config>,
    shared: Shared,
    peer: SocketAddr,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<tls::Acceptor>, place: Place) {
        let stream = Prompt::new(stream);
        let Some(acceptor) = tls else {
            return self.associate(stream, None, place).await;
        };
        let shaken = tokio::select! {
            shaken = acceptor.handshake(stream, self.config.timeouts.handshake.0) => shaken,
            () = place.lost() => return self.gave_way(),
            () = self.shared.drain.stopping() => return,
        };
        match shaken {
            Ok((stream, identity)) => self.associate(stream, identity, place).await,
            Err(refusal) => self.unshaken(refusal, place).await,
        }
    }

    /// A connection without a TLS stream: counted and said by its reason, and ended so that the peer gets its answer.
    async fn unshaken<S: Stream>(&self, refusal: tls::Refusal<S>, place: Place) {
        let tls::Refusal { failure, stream } = refusal;
        let reason = failure.reason.word();
        tracing::info!(listener = %self.config.name, peer = %self.peer.ip(), reason, error = %failure, "TLS handshake failed");
        self.tls_failed(reason);
        refused(&self.config, &self.shared, "tls", self.peer);
        let Some(stream) = stream else { return };
        let parting = async {
            if failure.reason == tls::Reason::Speaks(Dialect::Dicom) {
                association::turn_away(stream, &self.config.timeouts.upper_layer()).await;
            } else {
                linger(stream).await;
            }
        };
        tokio::select! {
            () = parting => {}
            () = place.lost() => {}
            () = self.shared.drain.stopping() => {}
        }
    }

    fn tls_failed(&self, reason: &str) {
        let labels = [Role::Listener.word(), self.config.name.as_str(), reason];
        self.shared.metrics.tls_failures_total.with_label_values(&labels).inc();
    }

    async fn associate<S: Stream>(&self, mut stream: S, identity: Option<tls::PeerIdentity>, pending: Place) {
        let timeouts = self.config.timeouts.upper_layer();
        let admitted = tokio::select! {
            admitted = self.admitted(&mut stream, identity, &pending) => admitted,
            () = pending.lost() => return self.gave_way(),
            () = self.shared.drain.stopping() => return,
        };
        drop(pending);
        let Some((request, source, _place)) = admitted else {
            return;
        };
        let listener = self.config.name.as_str();
        let metrics = &self.shared.metrics;
        metrics
            .associations_total
            .with_label_values(&[listener, source.name.as_str()])
            .inc();
        let open = metrics.associations_open.with_label_values(&[listener]);
        let _open = Open::count(open);
        if planted(Plant::LeakAssociations) {
            std::mem::forget(vec![1_u8; 4_096]);
        }
        // On the heap: a connection that says nothing must not pay for the state of one that sends images.
        Box::pin(self.serve(stream, &request, source, timeouts)).await;
    }

    /// The request of a peer that may come in. Everybody else is answered here, and stays a pending connection until it
    /// has closed: refused peers that linger cost no more places than silent ones.
    async fn admitted<S: Stream>(
        &self,
        stream: &mut S,
        identity: Option<tls::PeerIdentity>,
        pending: &Place,
    ) -> Option<(association::Request, super::SourceConfig, super::admission::Place)> {
        let timeouts = self.config.timeouts.upper_layer();
        let received = association::receive_request(&mut pending.counting(stream), &timeouts).await;
        let request = match received {
            Ok(request) => request,
            Err(error) => {
                self.failed(&error);
                return None;
            }
        };
        let peer = Peer {
            address: self.peer.ip(),
            identity,
        };
        match self.shared.admission.admit(&self.config, &peer, &request) {
            Ok((source, place)) => Some((request, source, place)),
            Err(refusal) => {
                if let Some(nearest) = self.shared.admission.nearest(&self.config, &request) {
                    tracing::info!(listener = %self.config.name, %nearest, "an AE title is not known; the nearest one that is");
                }
                self.reject(stream, refusal, &timeouts).await;
                None
            }
        }
    }

    fn gave_way(&self) {
        refused(&self.config, &self.shared, "pending_limit", self.peer);
    }

    async fn reject<S: Stream>(&self, stream: S, refusal: Refusal, timeouts: &Timeouts) {
        refused(&self.config, &self.shared, refusal.word(), self.peer);
        if let Err(error) = association::reject(stream, refusal.rejection(), timeouts).await {
            tracing::debug!(listener = %self.config.name, %error, "the rejection was not taken in order");
        }
    }

    async fn serve<S: Stream>(
        &self,
        stream: S,
        request: &association::Request,
        mut source: super::SourceConfig,
        timeouts: Timeouts,
    ) {
        // Admission has seen to it that both titles are there.
        let (Some(calling), Some(called)) = (request.calling.clone(), request.called.clone()) else {
            return;
        };
        source.is_owed = (self.shared.desk.owes)(&source.name);
        let results = negotiate(&request.contexts, &source);
        let exchange = Exchange::new(&self.shared.desk, &results, &source, &calling);
        let answers = (results, roles(&request.roles, &calling, &source));
        let local = local(&self.config);
        let association = match Association::accept_as(stream, request, answers, &local, timeouts).await {
            Ok(association) => association,
            Err(error) => return self.failed(&error),
        };
        let name = source.name.clone();
        let context = store::Context {
            ingest: self.shared.ingest.clone(),
            metrics: self.shared.metrics.clone(),
            drain: self.shared.drain.clone(),
            source,
            calling,
            called,
        };
        let mut served = Served::default();
        let ended = store::serve(association, &context, exchange, &mut served).await;
        let Served {
            stored,
            refused,
            echoes,
        } = served;
        match ended {
            Ok(Ended::Released) => {
                tracing::info!(source = %name, stored, refused, echoes, "association released");
            }
            Ok(Ended::Stopped) => {
                tracing::info!(source = %name, stored, refused, echoes, "association ended because the box stops");
            }
            Err(error) => {
                tracing::warn!(source = %name, stored, refused, echoes, %error, "association failed");
                self.failed(&error);
            }
        }
    }

    fn failed(&self, error: &UlError) {
        let listener = self.config.name.as_str();
        self.shared
            .metrics
            .association_failures_total
            .with_label_values(&[listener, failure(error)])
            .inc();
        if let UlError::Foreign(dialect) = error {
            let reason = failure(error);
            tracing::warn!(listener, peer = %self.peer.ip(), reason, %error, "the peer does not speak plain DICOM");
            if matches!(dialect, Dialect::Tls | Dialect::Ssl2) {
                self.tls_failed(reason);
            }
        }
        tracing::debug!(listener, peer = %self.peer.ip(), %error, "association ended by a failure");
    }
}

/// Counts an association as open while it lives, however it ends.
struct Open(IntGauge);

impl Open {
    fn count(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// C-STORE requests that a peer may send ahead of their answers, when it asks for that: they wait in the connection, and are
/// answered one after the other.
const WINDOW: u16 = 64;

fn local(config: &Config) -> Local {
    Local {
        // `Config::check` keeps it below 16 MiB.
        max_pdu: u32::try_from(config.max_pdu.0).unwrap_or(u32::MAX),
        implementation_class_uid: Uid::known(IMPLEMENTATION_CLASS_UID),
        implementation_version: IMPLEMENTATION_VERSION.to_owned(),
        window: WINDOW,
    }
}

/// The metric's word for a failure.
fn failure(error: &UlError) -> &'static str {
    match error {
        UlError::Closed => "closed",
        UlError::Io(_) => "io",
        UlError::Timeout(_) => "timeout",
        UlError::Protocol(_) | UlError::Foreign(Dialect::Dicom | Dialect::Unknown) => "protocol",
        UlError::Foreign(Dialect::Tls | Dialect::Ssl2) => "tls_on_plain",
        UlError::Foreign(Dialect::Http) => "plain_http",
        UlError::Foreign(Dialect::Ssh) => "plain_ssh",
        UlError::Aborted { .. } => "aborted",
        UlError::Rejected(_) => "rejected",
        UlError::Poisoned => "poisoned",
    }
}
