//! Layer 5: metrics, health and the custody of instances over HTTP, on loopback unless the site says otherwise. The only door to hyper
//! and axum.
//!
//! `routes` every path that there is, and what anybody may have (`/metrics`, `/healthz`, `/readyz`) · `auth` who a caller is and how
//! often it may ask · `custody` what the ledger tells (`/v1/…`), to callers of `[[web.callers]]` only.
//!
//! Promises: bounded connections, headers, bodies and time for each request; 404 or 405 for what is no route. Patient data only in the
//! answer to a caller whose role has it, never in a URL, a metric or a log line; every such access is on the ledger first.
pub mod auth;
mod custody;
mod routes;

use crate::base::drain::Drain;
use crate::custody::{Custody, Reconciler};
use crate::telemetry::metrics::Metrics;
use auth::{CallerConfig, Callers};
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// `[web]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where metrics and health are served, to anybody who asks: keep it on loopback.
    pub listen: SocketAddr,
    /// Who may ask for the custody of instances.
    pub callers: Vec<CallerConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            callers: Vec::new(),
        }
    }
}

impl Config {
    /// Relations between keys, as sentences that begin with the key.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = auth::check(&self.callers);
        if !self.callers.is_empty() && !self.listen.ip().is_loopback() {
            problems.push(
                "`listen` is not on loopback and there are callers: their tokens and the answers would cross the network in clear; \
                 listen on loopback and put a TLS proxy before it"
                    .to_owned(),
            );
        }
        problems
    }
}

/// Says how the box stands. Must not block.
pub type Readiness = Arc<dyn Fn() -> Standing + Send + Sync>;

/// Why peers should not come now, and what a person should look at all the same; both in constant words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Empty when the box is ready.
    pub reasons: Vec<&'static str>,
    pub notes: Vec<&'static str>,
}

/// Connections served at once; one more waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// The whole life of a connection, so that a slow reader frees its place.
const CONNECTION_LIFE: Duration = Duration::from_secs(15);
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
const HEADERS_MAX: usize = 64;
/// hyper's smallest allowed buffer: no request here has a longer head.
const BUFFER_MAX: usize = 8192;
/// After an accept error (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A bound listener that is not serving yet.
pub struct Server {
    listener: TcpListener,
    router: Router,
}

/// What the custody routes need.
#[derive(Clone)]
pub struct Desk {
    pub custody: Custody,
    pub reconciler: Reconciler,
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: Readiness,
    desk: Option<Desk>,
    callers: Arc<Callers>,
}

impl Server {
    /// Takes the port. Without a desk there are no custody routes.
    ///
    /// # Errors
    /// The address cannot be bound, or a caller's token file not be used.
    pub async fn bind(
        config: &Config,
        metrics: Metrics,
        readiness: Readiness,
        desk: Option<Desk>,
    ) -> std::io::Result<Self> {
        let callers = Arc::new(Callers::load(&config.callers).map_err(std::io::Error::other)?);
        let listener = TcpListener::bind(config.listen).await?;
        let shared = Shared {
            metrics,
            readiness,
            desk,
            callers,
        };
        Ok(Self {
            listener,
            router: routes::router(shared),
        })
    }

    /// The address in force, which differs from the configured one for port 0.
    ///
    /// # Errors
    /// The socket has no address: it was closed by the system.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the drain stops. Every connection is a task of `drain`.
    pub fn start(self, drain: &Drain) {
        let owner = drain.clone();
        drain.spawn("web", async move { self.accept(&owner).await });
    }

    async fn accept(self, drain: &Drain) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = tokio::select! {
                () = drain.stopping() => return,
                place = places.clone().acquire_owned() => place,
            };
            // The semaphore is never closed: it lives as long as this loop.
            let Ok(place) = place else { return };
            let accepted = tokio::select! {
                () = drain.stopping() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (self.router.clone(), drain.token());
                    drain.spawn_contained("web connection", async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = connection(stream, router) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "web accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One connection. A peer's mistake ends it without a word in the log: nothing is lost, and scanners would fill the disk.
async fn connection(stream: TcpStream, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ended = tokio::time::timeout(CONNECTION_LIFE, served).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Web {
        address: SocketAddr,
        sick: Arc<AtomicBool>,
        drain: Drain,
    }

    async fn web() -> Web {
        let sick = Arc::new(AtomicBool::new(false));
        let seen = sick.clone();
        let readiness: Readiness = Arc::new(move || {
            let reasons = if seen.load(Ordering::Relaxed) {
                vec!["spool gate latched"]
            } else {
                Vec::new()
            };
            Standing {
                reasons,
                notes: Vec::new(),
            }
        });
        let config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            callers: Vec::new(),
        };
        let server = Server::bind(&config, Metrics::new(), readiness, None).await.unwrap();
        let (address, drain) = (server.address().unwrap(), Drain::new());
        server.start(&drain);
        Web { address, sick, drain }
    }

    async fn ask(web: &Web, request: &str) -> String {
        let mut stream = TcpStream::connect(web.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(web: &Web, path: &str) -> String {
        ask(
            web,
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        )
        .await
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_are_served_and_nothing_else() {
        let web = web().await;
        assert!(get(&web, "/metrics").await.contains("\nwaystation_build_info{"));
        assert!(get(&web, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(&web, "/readyz").await.ends_with("{\"ready\":true,\"reasons\":[]}"));
        for path in ["/", "/metrics/x", "/../etc/passwd", "/%2e%2e/metrics"] {
            assert!(get(&web, path).await.starts_with("HTTP/1.1 404 "), "{path}");
        }
        let post = ask(
            &web,
            "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
        web.drain.stop(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_latched_gate_turns_readiness_red_and_says_why() {
        let web = web().await;
        web.sick.store(true, Ordering::Relaxed);
        let answer = get(&web, "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("spool gate latched"),
            "{answer}"
        );
        assert!(get(&web, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn an_endless_header_is_cut_off() {
        let web = web().await;
        let long = format!(
            "GET /metrics HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "a".repeat(2 * BUFFER_MAX)
        );
        let answer = ask(&web, &long).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn idle_connections_do_not_outlive_a_stop() {
        let web = web().await;
        let _idle = TcpStream::connect(web.address).await.unwrap();
        assert!(get(&web, "/healthz").await.contains("ok"));
        assert_eq!(web.drain.stop(Duration::from_secs(1)).await, Ok(()));
    }
}
