//! `waystation demo`: the main job shown on this machine, in a folder of its own, and judged.
//!
//! A box with TLS to a second, archive-like receiver; CT, MR, US and SR studies from several modalities; the shipped
//! rules at work; the WAN cut under load and mended; one `kill -9` and restart. Every instance that was acknowledged is then
//! looked for at the archive and compared. It answers true only if all of it holds. Nothing outside the folder is touched,
//! every connection stays on 127.0.0.1, and only processes that it started are ended.
mod judge;
mod plan;
mod process;

use super::certificates::Authority;
use super::synthetic::Modality;
use super::wan::{Link, Wan};
use anyhow::{Context, Result, ensure};
use judge::{Ledger, Verdict};
use plan::{Layout, Part};
use process::Child;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long the demo waits for the archive to have everything after the WAN is mended.
const DRAIN_DEADLINE: Duration = Duration::from_secs(90);

/// How long the WAN is down, besides the time in which studies arrive.
const OUTAGE: Duration = Duration::from_secs(3);

/// So many instances of a round are acknowledged before the WAN is cut, or the box killed, in the midst of the rest.
const INTO_THE_LOAD: usize = 12;

/// How far a round has come.
#[derive(Clone, Default)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// One more instance was acknowledged.
    pub fn acknowledged(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes when the round is well under way; at the latest after `DRAIN_DEADLINE`.
    async fn is_running(&self) {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        while self.0.load(Ordering::Relaxed) < INTO_THE_LOAD && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Runs the demo in `folder`, which must be empty or new; `say` gets each line for people. Answers whether all of it held.
///
/// # Errors
/// The folder cannot be used, or a process cannot be started.
pub async fn run(folder: &Path, say: impl Fn(&str)) -> Result<bool> {
    let step = |text: &str| say(&format!("• {text}"));
    let began = Instant::now();
    let layout = Layout::prepare(folder).context("the demo's folder cannot be prepared")?;
    let authority = Authority::new(&layout.certificates)?;
    for name in ["box", "archive", "modality"] {
        authority.certify(name)?;
    }
    step("an archive (TLS, mutual) and a box are started");
    layout.write_archive()?;
    let archive = Child::start(&layout, "archive").await?;
    let wan = Wan::to(layout.archive_address()).await?;
    layout.write_box(wan.address())?;
    let mut the_box = Child::start(&layout, "box").await?;
    let mut ledger = Ledger::default();

    step("CT, MR, US and SR studies arrive while the WAN is up");
    send(&layout, &mut ledger, 1, &Load::default()).await?;
    wait_for_archive(&layout, &ledger).await?;

    step("the WAN is cut while the next studies arrive");
    let load = Load::default();
    let cutting = async {
        load.is_running().await;
        wan.set(Link::Cut);
    };
    let (sending, ()) = tokio::join!(send(&layout, &mut ledger, 2, &load), cutting);
    sending?;
    tokio::time::sleep(OUTAGE).await;
    let (sent, there) = (ledger.acknowledged(), judge::arrived(&layout)?.len());
    step(&format!(
        "cut for {OUTAGE:?}: {sent} acknowledged, {there} at the archive, the rest waits in the spool"
    ));

    step("kill -9 in the middle of more studies, then a restart on the same spool");
    let load = Load::default();
    let killing = async {
        load.is_running().await;
        the_box.kill().await
    };
    let (sending, killed) = tokio::join!(send(&layout, &mut ledger, 3, &load), killing);
    sending?;
    killed?;
    let cut_short = ledger.unacknowledged();
    step(&format!(
        "killed: {cut_short} instances were not acknowledged, their modalities keep them"
    ));
    the_box = Child::start(&layout, "box").await?;
    step("the modalities send again what was not acknowledged");
    send(&layout, &mut ledger, 3, &Load::default()).await?;
    ensure!(
        ledger.unacknowledged() == 0,
        "{} instances were refused after the restart",
        ledger.unacknowledged()
    );

    step("the WAN is mended, the spool drains");
    wan.set(Link::Up);
    wait_for_archive(&layout, &ledger).await?;
    let held = the_box.held().await?;
    the_box.stop().await?;
    archive.stop().await?;
    let verdict = Verdict::of(&layout, &ledger, held)?;
    ensure!(
        cut_short > 0,
        "the kill came too late to cut anything: run the demo again"
    );
    say(&format!("\n{verdict}"));
    say(&format!(
        "took {:.1} s\n\n{}",
        began.elapsed().as_secs_f64(),
        layout.further()
    ));
    Ok(verdict.holds())
}

/// Every modality sends its study of this round, all at the same time.
async fn send(layout: &Layout, ledger: &mut Ledger, round: u64, load: &Load) -> Result<()> {
    let mut sendings = tokio::task::JoinSet::new();
    for modality in Modality::ALL {
        sendings.spawn(Part::of(layout, modality, round)?.send(load.clone()));
    }
    while let Some(sending) = sendings.join_next().await {
        ledger.note(sending?);
    }
    Ok(())
}

async fn wait_for_archive(layout: &Layout, ledger: &Ledger) -> Result<()> {
    let deadline = Instant::now() + DRAIN_DEADLINE;
    loop {
        let missing = ledger.missing(&judge::arrived(layout)?);
        if missing == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{missing} instances did not reach the archive in {DRAIN_DEADLINE:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
