//! The signals of the process: stop and reload. And one that would end it: a write beyond `ulimit -f`. Heard and passed over, the write
//! fails instead, and its image is refused.
use rustix::process;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the outside asks of the process.
pub(super) enum Told {
    Stop,
    Reload,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Nobody waits for it.
    _too_long: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _too_long: signal(SignalKind::from_raw(process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_write_beyond_the_limit_on_files_does_not_end_the_process() {
        let _signals = Signals::new().unwrap();
        process::kill_process(process::getpid(), process::Signal::XFSZ).unwrap();
        // As long as it may take to arrive.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
