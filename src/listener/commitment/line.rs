//! The way back to a source over an association that it has open: who holds it, and when a report may go out over it.
use crate::base::names::{AeTitle, SourceId};
use crate::dicom::commitment::Report;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// The way back over an open association. Clones share it; it is dead when the association is gone.
#[derive(Clone)]
pub struct Line(mpsc::Sender<Outgoing>);

/// A report on its way out, and who waits for what became of it.
pub(super) struct Outgoing {
    pub report: Report,
    pub done: oneshot::Sender<u16>,
}

impl Line {
    /// Reports over the association, within `limit`; the status that the peer answered.
    ///
    /// # Errors
    /// The association is gone, or the peer does not answer: nobody knows whether it has understood.
    pub async fn report(&self, report: Report, limit: Duration) -> Result<u16, ()> {
        let (done, answered) = oneshot::channel();
        let outgoing = Outgoing { report, done };
        let said = async {
            self.0.send(outgoing).await.map_err(drop)?;
            answered.await.map_err(drop)
        };
        tokio::time::timeout(limit, said).await.map_err(drop)?
    }

    /// Whether the association is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// The open associations over which sources take reports.
#[derive(Clone, Default)]
pub struct Lines {
    open: Arc<Mutex<Vec<(SourceId, AeTitle, Line)>>>,
    opened: Arc<watch::Sender<()>>,
}

impl Lines {
    pub(super) fn add(&self, source: &SourceId, calling: &AeTitle, line: &Line) {
        let mut lines = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|(.., line)| !line.is_gone());
        lines.push((source.clone(), calling.clone(), line.clone()));
        drop(lines);
        self.opened.send_replace(());
    }

    /// Changes with each association that opens from now on: it may be open for a moment only.
    #[must_use]
    pub fn opened(&self) -> watch::Receiver<()> {
        self.opened.subscribe()
    }

    /// The newest open association of a source with this AE title.
    #[must_use]
    pub fn of(&self, source: &SourceId, calling: &AeTitle) -> Option<Line> {
        let mut lines = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|(.., line)| !line.is_gone());
        let mut found = lines.iter().rev();
        let found = found.find(|(of, title, _)| of == source && title == calling);
        found.map(|(.., line)| line.clone())
    }
}

/// Reports that wait for one association.
const MAILBOX: usize = 4;
/// How long nobody has said anything on an association before a report goes out over it: a peer that is about to ask something takes
/// what comes first for the answer (pynetdicom does, and ends the association).
const QUIET: Duration = Duration::from_millis(200);

/// A line, and what is to be said over it.
pub(super) fn open() -> (Line, Mailbox) {
    let (sender, waiting) = mpsc::channel(MAILBOX);
    let mailbox = Mailbox {
        waiting,
        from: Instant::now() + QUIET,
    };
    (Line(sender), mailbox)
}

/// The reports that wait for an association.
pub(super) struct Mailbox {
    waiting: mpsc::Receiver<Outgoing>,
    /// Not before.
    from: Instant,
}

impl Mailbox {
    /// A message of the peer's is answered: perhaps it has another one.
    pub(super) fn rest(&mut self) {
        self.from = Instant::now() + QUIET;
    }

    /// Completes when a report that somebody still waits for is to be sent now. Cancel-safe.
    pub(super) async fn next(&mut self) -> Outgoing {
        tokio::time::sleep_until(self.from).await;
        while let Some(outgoing) = self.waiting.recv().await {
            if !outgoing.done.is_closed() {
                return outgoing;
            }
        }
        // Every line is gone, and so is the association's own.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::Uid;

    #[test]
    fn an_association_that_opens_wakes_those_who_wait_for_one() {
        let lines = Lines::default();
        let (name, title) = (
            SourceId::parse("ct1").expect("a name"),
            AeTitle::parse("CT1").expect("a title"),
        );
        let opened = lines.opened();
        assert!(lines.of(&name, &title).is_none() && !opened.has_changed().expect("open"));
        let (line, _mailbox) = open();
        lines.add(&name, &title, &line);
        assert!(opened.has_changed().expect("open") && lines.of(&name, &title).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_waits_for_a_pause_and_goes_nowhere_when_nobody_waits_for_it_any_more() {
        let (line, mut mailbox) = open();
        let report = |transaction: &'static str| Report {
            transaction: Uid::known(transaction),
            retrieve_ae: None,
            committed: Vec::new(),
            failed: Vec::new(),
        };
        let say = |transaction, limit| {
            let (line, report) = (line.clone(), report(transaction));
            tokio::spawn(async move { line.report(report, Duration::from_millis(limit)).await })
        };
        let first = say("1.2.1", 650);
        let began = Instant::now();
        // The peer speaks four times, with pauses that are too short.
        for _ in 0..4 {
            let none = tokio::time::timeout(Duration::from_millis(150), mailbox.next()).await;
            assert!(none.is_err());
            mailbox.rest();
        }
        let second = say("1.2.2", 60_000);
        let outgoing = mailbox.next().await;
        assert_eq!(
            outgoing.report.transaction.as_str(),
            "1.2.2",
            "the first one is waited for no more"
        );
        assert_eq!(began.elapsed(), Duration::from_millis(800));
        outgoing.done.send(0).expect("waited for");
        assert_eq!(second.await.expect("ended"), Ok(0));
        assert_eq!(first.await.expect("ended"), Err(()));
    }
}
