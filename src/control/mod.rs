//! Layer 5: the local control socket, over which `waystation queue …` and `lanes` talk to the running box.
//!
//! One request a connection: a line of JSON in, a line of JSON out. The socket is mode 0600, and the kernel names the peer
//! (SO_PEERCRED): only root and the box's own user are heard, and who asked stands on the ledger. Sizes, connections and time are bounded.
//! What is shown are our ids, UIDs, names from configuration and reasons; never a data-set value but in the answers to `map` and `trace`,
//! which are asked for by value.
pub mod certificates;
pub mod client;
pub mod commitment;
mod custody;
pub mod decide;
mod ended;
mod map;
mod probe;
pub mod protocol;
pub mod server;
pub mod verbs;

use crate::base::units::Span;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub use certificates::Certificates;
pub use protocol::{Action, Filter, Request, Response};
pub use server::{Handler, Server};
pub use verbs::Verbs;

/// `[control]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The socket. By default `control.sock` below `node.state`.
    pub path: PathBuf,
    /// How long one request may take, a bulk verb over the whole queue included.
    pub deadline: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/waystation/control.sock"),
            deadline: Span::secs(120),
        }
    }
}

impl Config {
    /// Relations between keys, as sentences that begin with the key.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.path.as_os_str().len() > SOCKET_PATH_MAX {
            problems.push(format!(
                "`path` is longer than {SOCKET_PATH_MAX} bytes, which the system allows for a socket"
            ));
        }
        if self.deadline.0.is_zero() {
            problems.push("`deadline` is 0: nothing could be answered".to_owned());
        }
        problems
    }
}

/// `sun_path` has 108 bytes with its NUL, and the socket is made under a name longer by four.
const SOCKET_PATH_MAX: usize = 103;
