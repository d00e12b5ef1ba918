//! The socket's serving side: who is heard, how much, and for how long. What a request does is the handler's.
use super::{Config, Request, Response};
use crate::base::drain::Drain;
use std::future::Future;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Carries a request out; the text says who asked (`uid 0`).
pub type Handler = Arc<dyn Fn(String, Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// The longest request: a filter with some thousand job numbers.
pub const REQUEST_MAX: u64 = 64 << 10;
const CONNECTIONS_MAX: usize = 8;
/// For the request line to come and for the answer to be taken.
const LINE_DEADLINE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The bound socket, not serving yet. Its file is removed when this is dropped, unless another has taken its place.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// The file that is ours: its file system and its number.
    own: (u64, u64),
    deadline: Duration,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("something that is no socket lies at {0}: name another place, or move it away")]
    Taken(PathBuf),
    #[error("another process answers at {0}: a second box needs its own control.path")]
    InUse(PathBuf),
    #[error(
        "the socket {path} cannot be made: {error}; its folder must be there, and the box's user must be allowed to write to it"
    )]
    Io { path: PathBuf, error: std::io::Error },
}

impl Server {
    /// Makes the socket, mode 0600 from its first moment under its name. One that a dead process left is replaced. Blocks for the
    /// moment in which a living one answers.
    ///
    /// # Errors
    /// See `BindError`; what lies at the path is as it was.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let path = || config.path.clone();
        match std::fs::symlink_metadata(&config.path) {
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::Taken(path())),
            Ok(_) if std::os::unix::net::UnixStream::connect(&config.path).is_ok() => {
                return Err(BindError::InUse(path()));
            }
            Ok(_) | Err(_) => {}
        }
        Self::make(config).map_err(|error| BindError::Io { path: path(), error })
    }

    fn make(config: &Config) -> std::io::Result<Self> {
        let mut fresh = config.path.clone().into_os_string();
        fresh.push(".new");
        let fresh = Path::new(&fresh);
        match std::fs::remove_file(fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(fresh)?;
        std::fs::set_permissions(fresh, std::fs::Permissions::from_mode(0o600))?;
        let own = identity(fresh)?;
        std::fs::rename(fresh, &config.path)?;
        Ok(Self {
            listener,
            path: config.path.clone(),
            own,
            deadline: config.deadline.0,
        })
    }

    /// Serves until the drain stops.
    pub fn start(self, drain: &Drain, handler: Handler) {
        let owner = drain.clone();
        drain.spawn("control", async move { self.accept(&owner, handler).await });
    }

    async fn accept(self, drain: &Drain, handler: Handler) {
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
                    let (handler, deadline) = (handler.clone(), self.deadline);
                    drain.spawn_contained("control request", async move {
                        if let Err(error) = serve(stream, handler, deadline).await {
                            tracing::debug!(%error, "control connection ended early");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.own) {
            // A file that is gone already is what was wanted.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// Which file lies at a path: its file system and its number.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

async fn serve(mut stream: UnixStream, handler: Handler, deadline: Duration) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX));
    let read = tokio::time::timeout(LINE_DEADLINE, reader.read_line(&mut line)).await;
    let response = match read {
        Err(_) => refused("no request came in time"),
        Ok(Err(error)) => return Err(error),
        Ok(Ok(_)) if !allowed(uid) => refused("only root and the box's own user are heard"),
        Ok(Ok(_)) if !line.ends_with('\n') => refused("the request is cut or too long"),
        Ok(Ok(_)) => answer(&line, uid, &handler, deadline).await,
    };
    let mut text = serde_json::to_vec(&response).map_err(std::io::Error::other)?;
    text.push(b'\n');
    tokio::time::timeout(LINE_DEADLINE, writer.write_all(&text))
        .await
        .map_err(std::io::Error::other)?
}

async fn answer(line: &str, uid: u32, handler: &Handler, deadline: Duration) -> Response {
    // serde's message may quote the request: it goes back to the one who wrote it and nowhere else.
    let request: Request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return refused(&format!("not a request of this version: {error}")),
    };
    if let Err(error) = request.check() {
        return refused(&error.to_string());
    }
    match tokio::time::timeout(deadline, handler(format!("uid {uid}"), request)).await {
        Ok(response) => response,
        // Bulk verbs work in batches, each committed: what was done is on the ledger.
        Err(_) => refused("not finished within control.deadline; what was done so far stays done: ask again"),
    }
}

fn allowed(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn refused(message: &str) -> Response {
    Response::Refused {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::Span;
    use crate::control::client;

    struct Serving {
        config: Config,
        drain: Drain,
        _folder: tempfile::TempDir,
    }

    /// A socket whose handler says what it was asked, and who asked; `Reload` never answers.
    fn serving() -> Serving {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            path: folder.path().join("control.sock"),
            deadline: Span::millis(200),
        };
        let drain = Drain::new();
        let handler: Handler = Arc::new(|who, request| {
            Box::pin(async move {
                if matches!(request, Request::Reload { .. }) {
                    std::future::pending::<()>().await;
                }
                Response::Done {
                    message: format!("{who}: {request:?}"),
                }
            })
        });
        Server::bind(&config).unwrap().start(&drain, handler);
        Serving {
            config,
            drain,
            _folder: folder,
        }
    }

    async fn raw(path: &Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // The other side may close before it has read everything.
        let _cut = stream.write_all(bytes).await;
        let _cut = stream.shutdown().await;
        let mut answer = String::new();
        let _cut = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn a_request_is_answered_with_the_name_of_who_asked() {
        let serving = serving();
        let response = client::ask(&serving.config.path, &Request::Lanes, Duration::from_secs(5))
            .await
            .unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(
            response,
            Response::Done {
                message: format!("uid {uid}: Lanes")
            }
        );
        serving.drain.stop(Duration::from_secs(1)).await.unwrap();
        assert!(!serving.config.path.exists());
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_only_and_replaces_a_dead_one() {
        let serving = serving();
        let mode = std::fs::metadata(&serving.config.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let living = Server::bind(&serving.config);
        assert!(matches!(living, Err(BindError::InUse(_))), "somebody answers there");
        serving.drain.stop(Duration::from_secs(1)).await.unwrap();
        drop(std::os::unix::net::UnixListener::bind(&serving.config.path).unwrap());
        assert!(Server::bind(&serving.config).is_ok(), "nobody answers there any more");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_replaced_and_what_another_has_made_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            path: folder.path().join("control.sock"),
            deadline: Span::millis(200),
        };
        std::fs::write(&config.path, "a person's").unwrap();
        assert!(matches!(Server::bind(&config), Err(BindError::Taken(_))));
        assert_eq!(std::fs::read(&config.path).unwrap(), b"a person's");
        std::fs::remove_file(&config.path).unwrap();
        let ours = Server::bind(&config).unwrap();
        std::fs::remove_file(&config.path).unwrap();
        std::fs::write(&config.path, "another's").unwrap();
        drop(ours);
        assert!(config.path.exists());
    }

    #[tokio::test]
    async fn cut_oversized_and_unknown_requests_are_refused() {
        let serving = serving();
        for bytes in [
            b"{\"request\":\"lanes\"}".to_vec(),
            b"{}\n".to_vec(),
            b"\xff\n".to_vec(),
            vec![b'x'; 100_000],
        ] {
            let answer = raw(&serving.config.path, &bytes).await;
            assert!(!answer.contains("\"done\""), "{answer}");
        }
        let all =
            b"{\"request\":\"act\",\"filter\":{},\"action\":{\"verb\":\"retry\"},\"reason\":null,\"dry_run\":false}\n";
        assert!(raw(&serving.config.path, all).await.contains("--all"));
        assert!(
            raw(&serving.config.path, b"{\"request\":\"lanes\"}\n")
                .await
                .contains("\"done\"")
        );
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_given_up() {
        let serving = serving();
        let response = client::ask(
            &serving.config.path,
            &Request::Reload { note: None },
            Duration::from_secs(5),
        )
        .await
        .unwrap();
        assert!(matches!(response, Response::Refused { .. }), "{response:?}");
    }
}
