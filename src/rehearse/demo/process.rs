//! The boxes of the demo as processes of this same binary, ended by their own ids only.
use super::plan::Layout;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// How long a box may take to become ready, or to stop.
const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// A running box. Dropped, it is killed.
pub struct Child {
    process: tokio::process::Child,
    web: SocketAddr,
}

impl Child {
    /// Starts `waystation run` on the configuration `NAME.toml` and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or did not become ready in time; its log is named.
    pub async fn start(layout: &Layout, name: &str) -> Result<Self> {
        let log_path = layout.log(name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
        let process = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg("--config")
            .arg(layout.config(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("the box cannot be started")?;
        let mut child = Self {
            process,
            web: layout.web(name),
        };
        let deadline = Instant::now() + START_DEADLINE;
        while child
            .get("/readyz")
            .await
            .is_none_or(|answer| !answer.starts_with("HTTP/1.1 200"))
        {
            if let Some(status) = child.process.try_wait()? {
                bail!("the {name} ended ({status}); see {}", log_path.display());
            }
            if Instant::now() > deadline {
                bail!("the {name} did not become ready; see {}", log_path.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(child)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The process cannot be signalled.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// SIGTERM, and waits for the drain.
    ///
    /// # Errors
    /// It did not stop in time, or not with exit code 0.
    pub async fn stop(mut self) -> Result<()> {
        let id = self
            .process
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(id) = id {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        let status = tokio::time::timeout(STOP_DEADLINE, self.process.wait())
            .await
            .context("the box does not stop")??;
        if !status.success() {
            bail!("the box ended with {status}");
        }
        Ok(())
    }

    /// How many instances for the archive wait for a person, from the box's own metrics.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub async fn held(&self) -> Result<u64> {
        let text = self.get("/metrics").await.context("the box gives no metrics")?;
        let values = text
            .lines()
            .filter(|line| line.starts_with("waystation_jobs_held{destination=\"vna\""));
        Ok(values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }

    async fn get(&self, path: &str) -> Option<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.web).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        };
        tokio::time::timeout(Duration::from_secs(5), exchange)
            .await
            .ok()
            .flatten()
    }
}
