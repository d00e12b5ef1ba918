//! The SCP: one task for each request of a source. It waits until every instance of the request has an answer at the level of
//! the source's policy, then tells the source: over the association of the request while that is open, else over one of its own,
//! again and again, until the source has understood or `retry_for` is over.
use super::{Shared, Source, Waits, named, reference};
use crate::base::clock::Wall;
use crate::base::fault::{Moment, die_at};
use crate::base::names::{AeTitle, SourceId};
use crate::dicom::commitment::{self as words, Action, Report};
use crate::dicom::status;
use crate::listener::commitment::{Config, Line, Requester};
use crate::sender::commitment::Side;
use crate::spool::CommitError;
use crate::spool::commitment::{Accepted, Answer, Demand, Judgement, Open, Patience, Progress};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Looks at what is not decided: soon at first, then more and more rarely.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(15);
/// The same while an instance has not come.
const ABSENT_MAX: Duration = Duration::from_secs(1);
/// An instance that is still coming is waited for no longer than this, whatever else comes.
const ARRIVAL_MAX: Duration = Duration::from_secs(600);
/// The first pause between two tries to tell.
const TELL_MIN: Duration = Duration::from_secs(1);
/// A source without an address may open an association at any time.
const TELL_OPEN: Duration = Duration::from_secs(2);
/// For a source to answer a report.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Between the answer to a request and the report over the same association: a source that hangs up at once, to be called back,
/// has done so by then.
const COURTESY: Duration = Duration::from_millis(300);

/// Takes a request: durable before this answers `Ok`.
pub(super) async fn request(
    shared: &Arc<Shared>,
    requester: Requester,
    action: Action,
) -> Result<(), (u16, &'static str)> {
    let Requester {
        source,
        calling,
        called,
        line,
    } = requester;
    let count = |result: &str| {
        let demands = &shared.parts.metrics.commitment.demands_total;
        demands.with_label_values(&[source.name.as_str(), result]).inc();
    };
    let Some(level) = source.commitment.policy.level() else {
        count("refused");
        return Err((words::NOT_AUTHORISED, "storage commitment is refused"));
    };
    if open_demands(shared, &source.name) >= source.commitment.max_open {
        count("refused");
        return Err((words::RESOURCE_LIMITATION, "too many requests are open"));
    }
    let demand = Demand {
        transaction: action.transaction,
        source: source.name.clone(),
        calling: calling.clone(),
        called: called.clone(),
        level,
        references: action.references.into_iter().map(named).collect(),
    };
    let (transaction, references) = (demand.transaction.clone(), demand.references.len());
    die_at(Moment::DemandHeard);
    let accepted = shared.parts.spool.demand(demand).await;
    let (id, progress, result) = match accepted {
        Ok(Accepted::Waiting(id)) => (id, Progress::Waiting, "accepted"),
        Ok(Accepted::Duplicate(id)) => (id, Progress::Decided(shared.parts.clock.now()), "duplicate"),
        Err(error) => {
            count("refused");
            tracing::error!(source = %source.name, %error, "a request for commitment could not be recorded");
            return Err(match error {
                CommitError::DiskFull => (words::RESOURCE_LIMITATION, "the disk is full"),
                CommitError::GateLatched | CommitError::Deadline | CommitError::Gone | CommitError::Damaged => {
                    (words::PROCESSING_FAILURE, "the request could not be recorded")
                }
            });
        }
    };
    die_at(Moment::DemandRecorded);
    count(result);
    tracing::info!(source = %source.name, references, result, "commitment is asked for");
    let open = Open {
        id,
        transaction,
        source: source.name,
        calling,
        called,
        level,
        at: shared.parts.clock.now(),
        references,
        progress,
    };
    follow(shared, open, Some(line));
    Ok(())
}

/// Goes on with the requests that the last life of this box has left open.
pub(super) async fn resume(shared: &Arc<Shared>) {
    let mut open = shared.parts.spool.demands().await;
    while let Err(error) = open {
        tracing::error!(%error, "the open requests for commitment cannot be read");
        tokio::select! {
            () = shared.parts.drain.stopping() => return,
            () = tokio::time::sleep(LOOK_MAX) => {}
        }
        open = shared.parts.spool.demands().await;
    }
    let mut unknown: BTreeMap<SourceId, usize> = BTreeMap::new();
    for demand in open.unwrap_or_default() {
        match shared.source_of(&demand) {
            Some((name, _)) if *name == demand.source => {}
            Some((name, _)) => {
                tracing::info!(source = %demand.source, %name, "the source of a request for commitment is not configured any more: the one that has its AE title now is told");
            }
            None => *unknown.entry(demand.source.clone()).or_default() += 1,
        }
        follow(shared, demand, None);
    }
    for (source, requests) in unknown {
        tracing::error!(%source, requests, "requests for commitment wait to be told to a source that is not configured: name it in [[sources]] again; or `waystation commitment give-up --request N --reason ...` ends each of `waystation commitment ls`");
    }
}

fn open_demands(shared: &Shared, source: &SourceId) -> usize {
    let open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.values().filter(|waits| waits.source == *source).count()
}

fn follow(shared: &Arc<Shared>, open: Open, line: Option<Line>) {
    let mut all = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
    let told_as = shared.source_of(&open).map(|(name, _)| name.clone());
    let waits = Waits {
        source: open.source.clone(),
        told_as,
        at: open.at,
    };
    all.insert(open.id, waits);
    drop(all);
    let case = Case {
        shared: shared.clone(),
        counted: None,
        open,
        line,
    };
    let drain = shared.parts.drain.clone();
    drain.spawn("commitment request", case.run());
}

/// One open request.
struct Case {
    shared: Arc<Shared>,
    open: Open,
    /// Over which it came, while that is open.
    line: Option<Line>,
    counted: Option<&'static str>,
}

/// Whether the box goes on.
enum Ended {
    Stopping,
    Over,
}

impl Case {
    async fn run(mut self) {
        let Some(decided) = self.decided().await else {
            return;
        };
        die_at(Moment::DemandDecided);
        self.count("decided");
        match self.tell(decided).await {
            // The next life goes on with it.
            Ended::Stopping | Ended::Over => {}
        }
    }

    /// Counts itself among the open ones of a state, until it ends.
    fn count(&mut self, state: &'static str) {
        let gauge = &self.shared.parts.metrics.commitment.demands_open;
        let source = self.open.source.as_str();
        if let Some(before) = self.counted.replace(state) {
            gauge.with_label_values(&[source, before]).dec();
        }
        gauge.with_label_values(&[source, state]).inc();
    }

    fn source(&self) -> Option<&Source> {
        self.shared.source_of(&self.open).map(|(_, source)| source)
    }

    /// What holds for its source. Of one that is not configured the defaults: it may be named again.
    fn config(&self) -> Config {
        self.source()
            .map_or_else(Config::default, |source| source.config.clone())
    }

    /// Waits until every instance has an answer; since when it has. `None`: there is nothing to tell any more, in this life.
    async fn decided(&mut self) -> Option<Wall> {
        if let Progress::Decided(at) = self.open.progress {
            return Some(at);
        }
        self.count("waiting");
        let (mut from, mut pause) = (0, LOOK_MIN);
        loop {
            // A time ahead was written by a clock that has been put back since: it counts from now.
            self.open.at = self.open.at.min(self.shared.parts.clock.now());
            let spool = &self.shared.parts.spool;
            // A request for a whole day may be read for minutes; the next life begins anew.
            let judged = tokio::select! {
                biased;
                judged = spool.judge(self.open.id, from, self.patience()) => judged,
                () = self.shared.parts.drain.stopping() => return None,
            };
            match judged {
                Ok(Judgement::Gone) => return None,
                Ok(Judgement::Decided { committed, failed }) => {
                    self.note(committed, failed);
                    return Some(self.shared.parts.clock.now());
                }
                Ok(Judgement::Open { at, absent }) => {
                    if at > from {
                        pause = LOOK_MIN;
                    }
                    from = at;
                    // What is known never to come is said when that is known, and not up to a look later.
                    if absent {
                        pause = pause.min(ABSENT_MAX);
                    }
                }
                // The spool says so itself; the request is durable.
                Err(_) => pause = LOOK_MAX,
            }
            self.age();
            if !self.rest(pause).await {
                return None;
            }
            pause = (pause * 3 / 2).min(LOOK_MAX);
        }
    }

    /// What is not waited for any more.
    fn patience(&self) -> Patience {
        let (config, waited) = (self.config(), self.waited());
        let found = self.shared.source_of(&self.open);
        let name = found.map_or(&self.open.source, |(name, _)| name);
        let quiet = self.shared.arrivals.quiet(name);
        let silent = quiet.is_none_or(|quiet| quiet >= config.arrives_within.0);
        let late = waited >= config.answer_within.0;
        Patience {
            no_more_arrivals: late || (waited >= config.arrives_within.0 && (silent || waited >= ARRIVAL_MAX)),
            no_more_deliveries: late,
        }
    }

    fn waited(&self) -> Duration {
        self.shared.parts.clock.now().since(self.open.at)
    }

    /// How long the oldest open request of the source has waited.
    fn age(&self) {
        let open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = open.values().filter(|waits| waits.source == self.open.source);
        let oldest = ours.map(|waits| waits.at).min();
        drop(open);
        let now = self.shared.parts.clock.now();
        let gauge = &self.shared.parts.metrics.commitment.demands_oldest_seconds;
        let gauge = gauge.with_label_values(&[self.open.source.as_str()]);
        gauge.set(oldest.map_or(0.0, |at| now.since(at).as_secs_f64()));
    }

    fn note(&self, committed: usize, failed: usize) {
        let (source, level) = (&self.open.source, self.open.level.word());
        let total = &self.shared.parts.metrics.commitment.demanded_total;
        for (result, count) in [("committed", committed), ("failed", failed)] {
            let counter = total.with_label_values(&[source.as_str(), result]);
            counter.inc_by(u64::try_from(count).unwrap_or(0));
        }
        tracing::info!(%source, level, committed, failed, "a request for commitment is decided");
    }

    /// False: the box stops.
    async fn rest(&self, pause: Duration) -> bool {
        let poked = async {
            match self.source() {
                Some(source) => source.poke.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.parts.drain.stopping() => false,
            () = poked => true,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// As `rest`, and no longer than until a source that is told only over associations of its own has opened one.
    async fn rest_or_line(&self, pause: Duration, opened: &mut watch::Receiver<()>) -> bool {
        let Some((name, source)) = self.shared.source_of(&self.open) else {
            return self.rest(pause).await;
        };
        let line = async {
            // A change first: a line that has just failed is not tried again at once.
            while opened.changed().await.is_ok() {
                if source.caller.is_none() && self.shared.lines.of(name, &self.open.calling).is_some() {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            goes_on = self.rest(pause) => goes_on,
            () = line => true,
        }
    }

    async fn tell(&mut self, decided: Wall) -> Ended {
        if self.line.is_some() && !self.rest(COURTESY).await {
            return Ended::Stopping;
        }
        let (mut pause, mut decided) = (TELL_MIN, decided);
        let mut opened = self.shared.lines.opened();
        loop {
            decided = decided.min(self.shared.parts.clock.now());
            let answer = match self.shared.parts.spool.demand_answer(self.open.id).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ended::Over,
                Err(_) => {
                    if !self.rest(LOOK_MAX).await {
                        return Ended::Stopping;
                    }
                    continue;
                }
            };
            // What opens from here on is news.
            opened.borrow_and_update();
            let drain = self.shared.parts.drain.clone();
            let said = tokio::select! {
                said = self.say(answer) => said,
                () = drain.stopping() => return Ended::Stopping,
            };
            if said.is_ok() && self.taken().await {
                die_at(Moment::ReportTaken);
                return Ended::Over;
            }
            self.age();
            let config = self.config();
            if self.shared.parts.clock.now().since(decided) >= config.retry_for.0 {
                self.give_up().await;
                return Ended::Over;
            }
            if !self.rest_or_line(pause, &mut opened).await {
                return Ended::Stopping;
            }
            let waits = self.source().is_some_and(|source| source.caller.is_none());
            pause = if waits {
                TELL_OPEN
            } else {
                (pause * 2).min(config.retry_max.0)
            };
        }
    }

    /// Tells the source once. An error leaves it untold, as far as anybody knows.
    async fn say(&mut self, answer: Answer) -> Result<(), ()> {
        let report = self.report(answer);
        let line = match self.line.take().filter(|line| !line.is_gone()) {
            Some(line) => Some(line),
            None if self.source().is_some_and(|source| source.caller.is_some()) => None,
            None => {
                let (name, _) = self.shared.source_of(&self.open).ok_or(())?;
                Some(self.shared.lines.of(name, &self.open.calling).ok_or(())?)
            }
        };
        let said = match line {
            Some(line) => line.report(report.clone(), ANSWER_MAX).await,
            None => Err(()),
        };
        let said = match said {
            Err(()) => self.call(&report).await,
            said => said,
        };
        let result = if said == Ok(status::SUCCESS) { "taken" } else { "failed" };
        let reports = &self.shared.parts.metrics.commitment.reports_total;
        reports.with_label_values(&[self.open.source.as_str(), result]).inc();
        match said {
            Ok(status::SUCCESS) => {
                die_at(Moment::ReportAnswered);
                Ok(())
            }
            Ok(status) => {
                tracing::warn!(source = %self.open.source, status = %format_args!("{status:04X}"), "the source does not take an answer about commitment");
                Err(())
            }
            Err(()) => Err(()),
        }
    }

    /// Over an association of our own.
    async fn call(&self, report: &Report) -> Result<u16, ()> {
        let source = self.source().ok_or(())?;
        let caller = source.caller.as_ref().ok_or(())?;
        let called: &AeTitle = source.config.called_ae.as_ref().unwrap_or(&self.open.calling);
        let caller = caller.titled(self.open.called.clone(), called.clone());
        let _permit = source.calls.acquire().await.map_err(drop)?;
        let said = async {
            let mut call = caller.open(Side::Provider).await?;
            let status = call.report(report).await?;
            call.release().await;
            Ok::<u16, crate::sender::commitment::CallError>(status)
        };
        said.await.map_err(|error| {
            tracing::warn!(source = %self.open.source, %error, "a source cannot be told about commitment");
        })
    }

    fn report(&self, answer: Answer) -> Report {
        let committed: Vec<_> = answer.committed.into_iter().map(reference).collect();
        let retrieve_ae = self.source().and_then(|source| source.config.retrieve_ae.clone());
        Report {
            transaction: answer.transaction,
            retrieve_ae: retrieve_ae.filter(|_| !committed.is_empty()),
            committed,
            failed: answer
                .failed
                .into_iter()
                .map(|(of, why)| (reference(of), why))
                .collect(),
        }
    }

    /// Whether it is recorded that the source knows. If not, it is told once more.
    async fn taken(&self) -> bool {
        match self.shared.parts.spool.demand_taken(self.open.id).await {
            // A person was faster.
            Ok(()) | Err(CommitError::Gone) => true,
            Err(error) => {
                tracing::error!(%error, "that a source was told could not be recorded");
                false
            }
        }
    }

    async fn give_up(&self) {
        let source = self.open.source.as_str();
        tracing::error!(
            source,
            "an answer about commitment could not be delivered for as long as it is tried: the source does not know"
        );
        let reports = &self.shared.parts.metrics.commitment.reports_total;
        reports.with_label_values(&[source, "given_up"]).inc();
        let reason = "not taken for as long as it is tried";
        if let Err(error) = self
            .shared
            .parts
            .spool
            .demand_given_up(self.open.id, "waystation", reason)
            .await
        {
            tracing::error!(%error, "the end of a request could not be recorded");
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let metrics = &self.shared.parts.metrics;
        let source = self.open.source.as_str();
        if let Some(state) = self.counted {
            let gauge = &metrics.commitment.demands_open;
            gauge.with_label_values(&[source, state]).dec();
        }
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.open.id);
        drop(open);
        self.age();
    }
}
