//! The asking side: one request, one answer, within a deadline. Called by the command line.
use super::{Request, Response};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The longest answer: a page of a listing.
const ANSWER_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no box answers at {path}: is `waystation run` running, with this configuration? ({error})")]
    NotRunning { path: PathBuf, error: std::io::Error },
    #[error("{path} may be used by root and the box's own user only: try sudo")]
    NotAllowed { path: PathBuf },
    #[error("the box did not answer in time")]
    Deadline,
    #[error("the connection to the box broke: {0}")]
    Broken(#[from] std::io::Error),
    #[error("the box gave an answer that this version does not know")]
    Answer,
}

/// Asks the box behind `path`.
///
/// # Errors
/// See `ClientError`; an order may have been carried out when the answer was lost (the ledger says).
pub async fn ask(path: &Path, request: &Request, deadline: Duration) -> Result<Response, ClientError> {
    tokio::time::timeout(deadline, exchange(path, request))
        .await
        .map_err(|_| ClientError::Deadline)?
}

async fn exchange(path: &Path, request: &Request) -> Result<Response, ClientError> {
    let mut stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path: path.to_owned() },
        _ => ClientError::NotRunning {
            path: path.to_owned(),
            error,
        },
    })?;
    let mut line = serde_json::to_vec(request).map_err(std::io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer).await?;
    serde_json::from_str(&answer).map_err(|_| ClientError::Answer)
}
