//! Stand-in until branch `net` is merged.
use crate::dicom::association::Stream;
use serde::{Deserialize, Serialize};
use std::time::Duration;
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}
#[derive(Debug, thiserror::Error)]
#[error("TLS is not there yet")]
pub struct TlsError;
#[derive(Clone)]
pub struct Connector;
pub fn connector(_: &Config) -> Result<Connector, TlsError> {
    Err(TlsError)
}
impl Connector {
    pub async fn connect<S: Stream + 'static>(&self, _: &str, stream: S, _: Duration) -> Result<S, TlsError> {
        let _ = stream;
        Err(TlsError)
    }
}
