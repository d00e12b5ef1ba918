//! What the requests do: the spool's operator verbs and the scheduler's lanes, in the protocol's words.
use super::certificates::Certificates;
use super::decide::Decide;
use super::protocol::{Action, Filter, Job, Lane, Release, Request, Response};
use super::server::Handler;
use crate::alarms::Alarms;
use crate::base::names::DestinationId;
use crate::custody::{Custody, Reconciler};
use crate::scheduler::{LaneState, LaneStatus, Scheduler};
use crate::spool::{self, Acted, CommitError, JobState, ReadError, Row, Spool, Verb, Waiting};
use crate::transcode::Known;
use std::sync::Arc;

/// Loads the rules again: the new epoch's words, or every problem. Blocking.
pub type Reload = Arc<dyn Fn() -> Result<String, Vec<String>> + Send + Sync>;

/// What the configuration files say by now and only a restart brings into force. Blocking.
pub type Unforced = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The parts of the box that an operator reaches.
#[derive(Clone)]
pub struct Verbs {
    pub spool: Spool,
    pub scheduler: Scheduler,
    pub reload: Reload,
    pub unforced: Unforced,
    pub decide: Decide,
    pub known: Known,
    pub alarms: Alarms,
    pub custody: Custody,
    pub reconciler: Reconciler,
    pub history: History,
    pub commitment: super::commitment::Retry,
    pub certificates: Certificates,
}

/// The rule history in the ledger's words: who, and what. Blocking.
pub type History = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// The most rows of one listing.
pub(super) const LIMIT_MAX: usize = 10_000;

impl Verbs {
    /// What the control socket calls.
    #[must_use]
    pub fn handler(self) -> Handler {
        Arc::new(move |who, request| {
            let verbs = self.clone();
            Box::pin(async move { verbs.carry_out(&who, request).await })
        })
    }

    /// One request. Each order is on the ledger with `who` before it is answered.
    pub async fn carry_out(&self, who: &str, request: Request) -> Response {
        if let Err(message) = self.names(&request) {
            return Response::Refused { message };
        }
        let done = match request {
            Request::List { filter, limit } => self.list(&filter, limit).await.map_err(|error| error.to_string()),
            Request::Show { job } => self.show(job).await,
            Request::Act {
                filter,
                action,
                reason,
                dry_run,
            } => {
                let reason = reason.unwrap_or_default();
                self.act(who, &filter, action, &reason, dry_run)
                    .await
                    .map_err(|error| error.to_string())
            }
            Request::Suspend { destination, reason } => self.suspend(who, &destination, reason, true).await,
            Request::Resume { destination } => self.suspend(who, &destination, None, false).await,
            Request::Lanes => Ok(self.lanes().await),
            Request::Certificates => self.certificates().await,
            Request::Reload { note } => self.reload(who, note).await,
            Request::Scrub { now } => self.scrub(now).await.map_err(|error| error.to_string()),
            Request::AcknowledgeSalvage => self.acknowledge(who).await.map_err(|error| error.to_string()),
            Request::Probe {
                destination,
                classes,
                known,
            } => self.probe(destination, &classes, known).await,
            Request::Alarms { order } => self
                .alarms
                .carry_out(who, order)
                .await
                .map(|said| Response::Alarms { said }),
            Request::Map { kind, value, reverse } => self.map(&kind, &value, reverse).await,
            Request::Trace {
                value,
                by,
                after,
                limit,
            } => self.trace(who, (value, by), after, limit).await,
            Request::VerifyLedger => self.verify_ledger().await,
            Request::LedgerLines { query } => self.ledger_lines(who, &query).await,
            Request::Reconcile { day, kept } => self.reconcile(day, kept).await,
            Request::Commitments => self.commitments().await,
            Request::CommitmentRetry { name } => self.commitment_retry(name).await,
            Request::CommitmentGiveUp {
                destination,
                number,
                reason,
            } => self.commitment_give_up(who, (destination, number), &reason).await,
        };
        done.unwrap_or_else(|message| Response::Refused { message })
    }

    async fn scrub(&self, now: bool) -> Result<Response, ReadError> {
        if now {
            self.spool.scrub_now();
        }
        Ok(Response::Scrub {
            status: self.spool.scrub_status(),
            damaged: self.spool.damaged(LIMIT_MAX).await?,
        })
    }

    async fn acknowledge(&self, who: &str) -> Result<Response, CommitError> {
        let count = self.spool.acknowledge_salvage(who).await?;
        self.reconciler.acknowledged().await;
        Ok(Response::Done {
            message: format!("{count} reports acknowledged"),
        })
    }

    async fn list(&self, filter: &Filter, limit: usize) -> Result<Response, ReadError> {
        let limit = limit.min(LIMIT_MAX);
        // One more than asked for says whether there is more.
        let mut rows = self.spool.list(meant(filter), None, limit + 1).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok(Response::Jobs {
            jobs: rows.iter().map(job).collect(),
            more,
        })
    }

    async fn act(
        &self,
        who: &str,
        filter: &Filter,
        action: Action,
        reason: &str,
        dry_run: bool,
    ) -> Result<Response, CommitError> {
        // Before: what the order itself ends was there.
        let told = self.not_in_the_queue(filter).await?;
        let (verb, to) = match &action {
            Action::Hold => (Verb::Hold, None),
            Action::Release { .. } => (Verb::Release, filter.destination.clone()),
            Action::Retry => (Verb::Retry, filter.destination.clone()),
            Action::Reroute { to, .. } => (Verb::Reroute(to.clone()), Some(to.clone())),
            Action::Discard => (Verb::Discard, None),
        };
        let starts = matches!(verb, Verb::Release | Verb::Retry | Verb::Reroute(_));
        if starts && !dry_run {
            // Before the jobs are back in their queue too: a lane that claims them with a refusal still in mind would hold
            // them again unasked.
            self.poke(to.as_ref());
        }
        let acted = match action {
            Action::Release { by } if !dry_run => self.release(who, filter, by, reason).await?,
            Action::Reroute { to, unedited: false } if !dry_run => self.reroute(who, filter, &to, reason).await?,
            _ => self.spool.act(meant(filter), verb, who, reason, dry_run).await?,
        };
        if starts && !dry_run {
            self.poke(to.as_ref());
        }
        Ok(Response::Acted {
            matched: acted.matched,
            changed: acted.changed,
            held: acted.held,
            told,
        })
    }

    /// What goes as it is goes first: what the rules hold again afterwards must not be let go by the same order.
    async fn release(&self, who: &str, filter: &Filter, by: Release, reason: &str) -> Result<Acted, CommitError> {
        let anew = by.anew();
        let as_it_is = spool::Filter {
            except: anew.to_vec(),
            ..meant(filter)
        };
        let mut acted = self.spool.act(as_it_is, Verb::Release, who, reason, false).await?;
        if by != Release::AsDecided {
            let decided = self.decide_anew(who, filter, anew, None).await;
            let decided = decided.map_err(|_| CommitError::GateLatched)?;
            acted.matched += decided.matched;
            acted.changed += decided.changed;
        }
        Ok(acted)
    }

    /// The rules first: what they decide for the destination is then no longer among the jobs that are moved.
    async fn reroute(
        &self,
        who: &str,
        filter: &Filter,
        to: &DestinationId,
        reason: &str,
    ) -> Result<Acted, CommitError> {
        // What is meant are the jobs that are there now, as a dry run counts them; those that the rules make of them are not met.
        let now = spool::Filter {
            made_before: Some(self.spool.next_job().await?),
            ..meant(filter)
        };
        let verb = Verb::Reroute(to.clone());
        let counted = self
            .spool
            .act(now.clone(), verb.clone(), who, reason, true)
            .await?
            .matched;
        let decided = self.decide_anew(who, filter, &[], Some(to)).await;
        let decided = decided.map_err(|_| CommitError::GateLatched)?;
        // What the rules could not decide for this destination must not go there as it is.
        let moved = spool::Filter { decided: true, ..now };
        let mut acted = self.spool.act(moved, verb, who, reason, false).await?;
        acted.matched = acted.matched.max(counted);
        acted.changed += decided.changed;
        acted.held += decided.held;
        Ok(acted)
    }

    /// A person who lets jobs go wants them tried now, and refused contexts asked for again.
    fn poke(&self, only: Option<&DestinationId>) {
        for lane in self.scheduler.status() {
            if only.is_none_or(|only| lane.destination == *only) {
                let _known = self.scheduler.poke(&lane.destination);
            }
        }
    }

    async fn suspend(
        &self,
        who: &str,
        destination: &DestinationId,
        reason: Option<String>,
        stop: bool,
    ) -> Result<Response, String> {
        self.exists(destination)?;
        let reason = reason.unwrap_or_default();
        let done = if stop {
            self.spool.suspend(destination, who, &reason).await
        } else {
            self.spool.resume(destination, who, &reason).await
        };
        done.map_err(|error| error.to_string())?;
        if !stop {
            self.poke(Some(destination));
        }
        let word = if stop { "suspended" } else { "resumed" };
        // Why, a person wrote: it stands on the ledger, and `lanes` shows it.
        tracing::warn!(%destination, who, now = word, "an order about a whole destination");
        let kept = match self.spool.keeps_orders() {
            true => "",
            false => {
                ". It is in force, but `orders` beside the index cannot be written: a salvage would not know it; the log says why"
            }
        };
        Ok(Response::Done {
            message: format!("{destination}: {word}{kept}"),
        })
    }

    /// Whether the destinations that a request names are any. Jobs of one that is not configured any more are reached by its name.
    fn names(&self, request: &Request) -> Result<(), String> {
        let (filter, to) = match request {
            Request::List { filter, .. } => (filter, None),
            Request::Act { filter, action, .. } => match action {
                Action::Reroute { to, .. } => (filter, Some(to)),
                _ => (filter, None),
            },
            _ => return Ok(()),
        };
        match &filter.destination {
            Some(name) if !self.spool.knows(name) && !self.scheduler.names().contains(name) => Err(format!(
                "there is no destination {name}, and there never was a job for one of that name: `waystation lanes` lists them"
            )),
            _ => to.map_or(Ok(()), |to| self.exists(to)),
        }
    }

    /// Whether a destination is configured; else what to do about the jobs that it may have left.
    fn exists(&self, destination: &DestinationId) -> Result<(), String> {
        let configured = self.scheduler.names();
        if configured.contains(destination) {
            return Ok(());
        }
        let strangers = self.spool.strangers(&configured);
        match strangers.iter().find(|(name, _)| name == destination) {
            None => Err(format!("there is no destination {destination}")),
            Some((_, waiting)) => Err(format!(
                "{destination} is not configured any more; {}",
                left(destination, *waiting)
            )),
        }
    }

    async fn lanes(&self) -> Response {
        let mut lanes: Vec<Lane> = Vec::new();
        for status in self.scheduler.status() {
            let mut lane = self.lane(&status);
            if let Ok(Some(fact)) = self.spool.suspension(&status.destination).await {
                let who = fact.who.as_deref().unwrap_or("the box");
                let why = if fact.text.is_empty() {
                    "no reason given"
                } else {
                    &fact.text
                };
                lane.reason = Some(format!("by {who} since {}: {why}", fact.at().iso()));
            }
            lanes.push(lane);
        }
        let strangers = self.spool.strangers(&self.scheduler.names()).into_iter();
        let strangers = strangers.map(|(destination, waiting)| Lane {
            state: "not configured".to_owned(),
            queued: waiting.queued,
            held: waiting.held,
            awaiting: waiting.awaiting,
            reason: Some(left(&destination, waiting)),
            destination: destination.to_string(),
            ..Lane::default()
        });
        Response::Lanes {
            lanes: lanes.into_iter().chain(strangers).collect(),
        }
    }

    fn lane(&self, status: &LaneStatus) -> Lane {
        let state = match status.state {
            _ if self.spool.is_suspended(&status.destination) => "suspended",
            LaneState::Up => "up",
            LaneState::Slowed => "slowed",
            LaneState::Down => "down",
            LaneState::Probing => "probing",
        };
        let at = status
            .last_failure_at
            .as_ref()
            .map_or(String::new(), |at| format!(" ({at})"));
        let waiting = self.spool.waiting(&status.destination);
        Lane {
            destination: status.destination.to_string(),
            state: state.to_owned(),
            in_flight: status.in_flight,
            queued: waiting.queued,
            held: waiting.held,
            awaiting: waiting.awaiting,
            associations: status.sessions,
            wanted: status.wanted,
            learned: self.scheduler.matrix(&status.destination).unwrap_or_default(),
            reason: status.last_failure.as_ref().map(|failure| format!("{failure}{at}")),
            parked: status
                .parked
                .iter()
                .map(|(class, syntax)| format!("{class} in {syntax}"))
                .collect(),
        }
    }

    async fn certificates(&self) -> Result<Response, String> {
        let certificates = self.certificates.clone();
        let read = tokio::task::spawn_blocking(move || certificates.status()).await;
        let slots = read.map_err(|_| "the files could not be read".to_owned())?;
        Ok(Response::Certificates { slots })
    }

    /// Certificates and rules, neither held up by the other. With a note it is a promotion of rules, and about nothing else.
    async fn reload(&self, who: &str, note: Option<String>) -> Result<Response, String> {
        if note.is_some() {
            return self.reload_rules(who, note).await;
        }
        let certificates = self.certificates.clone();
        let looked = tokio::task::spawn_blocking(move || certificates.refresh()).await;
        let (renewed, refused) = looked.map_err(|_| "the certificates could not be read".to_owned())?;
        let rules = self.reload_rules(who, None).await;
        let unforced = self.unforced.clone();
        let compared = tokio::task::spawn_blocking(move || unforced()).await;
        let unforced = compared.map_err(|_| "the configuration could not be read".to_owned())?;
        let unforced = unforced.map_or(String::new(), |changed| format!("\n{changed}"));
        match (rules, refused.is_empty()) {
            (Ok(Response::Done { message }), true) => Ok(Response::Done {
                message: format!("{message}; certificates renewed: {renewed}{unforced}"),
            }),
            (Ok(Response::Done { message }), false) => Err(format!("{message}, but:\n{}", refused.join("\n"))),
            (Err(message), false) => Err(format!("{message}\n{}", refused.join("\n"))),
            (other, _) => other,
        }
    }

    async fn reload_rules(&self, who: &str, note: Option<String>) -> Result<Response, String> {
        tracing::info!(who, "rules are loaded again on an operator's word");
        let reload = self.reload.clone();
        let loaded = tokio::task::spawn_blocking(move || reload())
            .await
            .map_err(|_| "the load was cut off".to_owned())?;
        let message = loaded.map_err(|problems| problems.join("\n"))?;
        let noted = match note {
            None => self.spool.rules_changed(who, &message).await,
            Some(note) => {
                let history = self.history.clone();
                let read = tokio::task::spawn_blocking(move || history()).await;
                let told = read.map_err(|_| "the rule history could not be read".to_owned())?;
                self.spool.promoted(who, &format!("{note}: {message}"), told).await
            }
        };
        noted.map_err(|error| format!("{message}, but it is not on the ledger: {error}"))?;
        Ok(Response::Done { message })
    }
}

/// What waits for a destination that is not configured, and what to do.
fn left(destination: &DestinationId, waiting: Waiting) -> String {
    let Waiting { queued, held, awaiting } = waiting;
    format!(
        "{queued} queued, {held} held, {awaiting} awaiting: `waystation queue reroute --destination {destination} --to NAME`, \
         `waystation queue discard --destination {destination} --reason \"...\"`, or configure it again and restart"
    )
}

pub(super) fn meant(filter: &Filter) -> spool::Filter {
    spool::Filter {
        destination: filter.destination.clone(),
        undecided: filter.undecided,
        decided: false,
        except: Vec::new(),
        state: filter.state,
        source: filter.source.clone(),
        kind: filter.kind,
        jobs: filter.jobs.clone(),
        instance: filter.instance.map(|id| id.0.to_string()),
        sop_instance: filter.sop_instance.clone(),
        study: filter.study.clone(),
        older_than: filter.older_than.map(|span| span.0),
        made_before: None,
    }
}

pub(super) fn job(row: &Row) -> Job {
    let mut job = Job {
        job: row.job.0,
        state: row.state.word().to_owned(),
        destination: row.destination.as_ref().map(ToString::to_string),
        priority: row.priority.word().to_owned(),
        attempts: row.attempts,
        arrival: row.enqueued.iso(),
        due: (row.state == JobState::Queued).then(|| row.due.iso()),
        ended: row.state.is_over().then(|| row.due.iso()),
        outcome: Some(row.outcome.clone()).filter(|outcome| !outcome.is_empty()),
        hold_kind: row.hold.as_ref().map(|hold| hold.kind.word().to_owned()),
        reason: row
            .hold
            .as_ref()
            .map(|hold| hold.text.clone())
            .or(row.discarded.clone()),
        ..Job::default()
    };
    if let Some(instance) = &row.instance {
        job.source = instance.source.to_string();
        job.calling_ae = instance.calling_ae.to_string();
        job.called_ae = instance.called_ae.to_string();
        job.instance = instance.id.to_string();
        job.sop_class = instance.sop_class.to_string();
        job.sop_instance = instance.sop_instance.to_string();
        job.study = instance.study.as_ref().map(ToString::to_string);
        job.transfer_syntax = instance.transfer_syntax.to_string();
        job.length = instance.length;
        job.arrival = instance.arrival.iso();
    }
    job
}
