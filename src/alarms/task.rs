//! The one task that owns the alarms: it looks every few seconds, steps the incident machine, writes down what changed, and hands
//! messages to the channels. Each channel has a task of its own with one message at a time, so that a slow one delays nobody.
//!
//! Time: what the machine counts in is *steady*, the time since the box first watched as the monotonic clock tells it, carried over
//! restarts; a jump of the wall clock neither opens nor ends anything.
use super::clock::ClockWatch;
use super::config::{Config, MAIL};
use super::deeds::Recorder;
use super::gauges::{Gauges, Moment};
use super::habits::Habits;
use super::incident::{Event, News, Pace, Stamp};
use super::judge::{Facts, judge};
use super::kind::{Kind, Severity};
use super::mail::Mailer;
use super::operator::{Ask, Trial};
use super::order::{self, Answer, Order};
use super::outbox::{Letter, Refusal};
use super::store::{self, HABITS, Memory, STATE};
use super::text::{self, Context};
use super::webhook::Poster;
use crate::base::clock::{Clock, Wall, built};
use crate::base::drain::Drain;
use crate::telemetry::metrics::Metrics;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What the alarms see of the box besides its metrics.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The last trouble of each configured destination, in words.
    pub lanes: BTreeMap<String, Option<String>>,
    /// Jobs of destinations that are not configured.
    pub strangers: BTreeMap<String, u64>,
    /// Of what is queued for each configured destination, the jobs that are not due yet.
    pub put_off: BTreeMap<String, u64>,
    /// Bytes above the low-water mark of the spool's disk; `None`: nobody has looked yet.
    pub room_bytes: Option<f64>,
    /// The rule folder is not what was loaded.
    pub rules_stale: bool,
}

/// Takes a look; may block for as long as a disk does.
pub type Look = Arc<dyn Fn() -> Sight + Send + Sync>;

/// What the alarms are made of.
pub struct Parts {
    pub config: Config,
    /// The box's name.
    pub node: String,
    /// Where the memory lies.
    pub folder: PathBuf,
    /// The configured sources: no other is missed.
    pub sources: Vec<String>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub look: Look,
    /// The custody ledger, for what operators do.
    pub recorder: Recorder,
}

/// The running alarms, for orders. Cheap to clone.
#[derive(Clone)]
pub struct Alarms {
    asks: mpsc::Sender<Ask>,
}

/// Orders that wait.
const ASKS_MAX: usize = 8;
/// A look at a disk that does not answer is given up.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
const SAVE_DEADLINE: Duration = Duration::from_secs(10);
/// Rates and the clock are written down at least this often.
const SAVE_EVERY: Duration = Duration::from_secs(600);
/// After that failed.
const SAVE_AGAIN: Duration = Duration::from_secs(60);
/// The end of a box does not wait for a mail.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

impl Alarms {
    /// Reads the memory and starts. Blocking for two small files.
    #[must_use]
    pub fn start(parts: Parts, drain: &Drain) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let watch = Watch::new(parts, drain);
        // Before the first look: a scrape right after a start must not take what is open for over.
        watch.count();
        let stop = drain.clone();
        drain.spawn("alarms", async move { watch.run(&stop, inbox).await });
        Self { asks }
    }

    /// Carries an order out.
    ///
    /// # Errors
    /// Why it was not, in words for the operator.
    pub async fn carry_out(&self, who: &str, order: Order) -> Result<Answer, String> {
        let (reply, answer) = oneshot::channel();
        let who = who.to_owned();
        let ask = Ask { who, order, reply };
        let stopping = || "the box is stopping".to_owned();
        let asked = async {
            self.asks.send(ask).await.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())?
        };
        let done = tokio::time::timeout(ANSWER_DEADLINE, asked).await;
        done.unwrap_or_else(|_| Err("the alarms did not answer in time".to_owned()))
    }
}

/// One way to people.
pub(super) struct Channel {
    pub(super) name: String,
    least: Severity,
    letters: mpsc::Sender<Letter>,
    busy: bool,
}

#[derive(Clone)]
enum Way {
    Mail(Box<Mailer>),
    Webhook(Poster),
}

impl Way {
    async fn send(&self, letter: &Letter) -> Result<(), Refusal> {
        match self {
            Self::Mail(mailer) => mailer.send(letter).await,
            Self::Webhook(poster) => poster.send(letter).await,
        }
    }
}

pub(super) struct Done {
    pub(super) channel: String,
    pub(super) number: u64,
    outcome: Result<(), Refusal>,
}

pub(super) struct Watch {
    pub(super) parts: Parts,
    zone: TimeZone,
    pub(super) memory: Memory,
    habits: Habits,
    gauges: Gauges,
    pub(super) channels: Vec<Channel>,
    done: mpsc::Receiver<Done>,
    pub(super) trials: Vec<Trial>,
    sight: Sight,
    /// Monotonic, and the steady time then.
    began: (Instant, Stamp),
    looked: Instant,
    saved: Instant,
    pub(super) dirty: bool,
}

impl Watch {
    fn new(parts: Parts, drain: &Drain) -> Self {
        let (mut memory, habits) = store::load(&parts.folder);
        let now = Instant::now();
        let wall = parts.clock.now();
        for (source, at) in habits.last.iter().filter(|(name, _)| parts.sources.contains(name)) {
            let gauge = &parts.metrics.alarms.source_last_received;
            gauge.with_label_values(&[source]).set(*at);
        }
        for source in &parts.sources {
            let gauge = parts.metrics.alarms.source_silent.with_label_values(&[source]);
            gauge.set(memory.silent.contains(source).into());
        }
        let last_run = Some(Wall(memory.wall)).filter(|wall| wall.0 > 0);
        // While the box was off, time has passed as the wall clock tells it, but never backwards.
        let steady = memory.steady + wall.0.saturating_sub(memory.wall);
        let (channels, done) = channels(&parts, drain);
        let names: Vec<&str> = channels.iter().map(|channel: &Channel| channel.name.as_str()).collect();
        memory.outbox.keep(&names);
        Self {
            zone: parts.config.zone(),
            gauges: Gauges::new(ClockWatch::new(built(), last_run), wall, parts.sources.clone()),
            memory,
            habits,
            channels,
            done,
            trials: Vec::new(),
            sight: Sight::default(),
            began: (now, steady),
            looked: now,
            saved: now,
            // A folder that takes nothing is told at once.
            dirty: true,
            parts,
        }
    }

    async fn run(mut self, drain: &Drain, mut asks: mpsc::Receiver<Ask>) {
        let mut ticks = tokio::time::interval(self.parts.config.interval.0);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drain.stopping() => break,
                Some(ask) = asks.recv() => self.carry_out(ask).await,
                Some(done) = self.done.recv() => self.attempted(done),
                _ = ticks.tick() => {
                    self.look().await;
                    self.record().await;
                }
            }
            let every = match self.parts.metrics.alarms.state_unwritten.get() {
                0 => SAVE_EVERY,
                _ => SAVE_AGAIN,
            };
            let long = self.saved.elapsed() >= every;
            if self.dirty || long {
                self.save().await;
            }
            if long {
                self.save_habits().await;
            }
            self.hand_out();
        }
        self.save().await;
        self.save_habits().await;
    }

    pub(super) fn steady(&self) -> Wall {
        Wall(self.began.1).plus(self.began.0.elapsed())
    }

    async fn look(&mut self) {
        let look = self.parts.look.clone();
        let seen = tokio::time::timeout(LOOK_DEADLINE, tokio::task::spawn_blocking(move || look())).await;
        match seen {
            Ok(Ok(sight)) => self.sight = sight,
            // What was seen before is judged; the metrics are of now.
            _ => tracing::warn!("the box's disk does not answer a look of the alarms"),
        }
        let samples = self.parts.metrics.samples();
        let at = Moment {
            wall: self.parts.clock.now(),
            passed: self.began.0.elapsed(),
            step: self.looked.elapsed(),
        };
        self.looked = Instant::now();
        let (config, zone) = (&self.parts.config, &self.zone);
        let found = self.gauges.look(
            at,
            (&samples, &self.sight),
            (&mut self.memory, &mut self.habits),
            (config, zone),
            &self.parts.metrics,
        );
        let facts = Facts {
            now: at.wall,
            samples: &samples,
            reasons: &self.sight.lanes,
            drains: &found.drains,
            full_seconds: found.full_seconds,
            silent: &found.silence.silent,
            unheard: &found.silence.unheard,
            doubts: &found.doubts,
        };
        let judged = judge(&facts, config);
        let pace = Pace {
            resolve_after: config.resolve_after.0,
            group_within: config.group_within.0,
            remind_every: config.remind_every.0,
        };
        let before = self.memory.machine.incidents.len();
        let steady = self.steady();
        let machine = &mut self.memory.machine;
        let events = machine.step(steady, &judged.conditions, &judged.unjudged, &pace);
        self.dirty |= !events.is_empty() || before != self.memory.machine.incidents.len();
        for event in &events {
            self.tell(event);
        }
        self.count();
        if found.learned {
            self.save_habits().await;
        }
    }

    /// An event becomes a log line and a message for each channel.
    fn tell(&mut self, event: &Event) {
        let incident = &event.incident;
        let (kind, severity) = (incident.kind.word(), event.severity().word());
        let title = text::title(incident);
        let (id, news) = (incident.id, order::word(event.news));
        // A macro's level is a constant: the fields are the same three times.
        match (event.news, incident.severity()) {
            (News::Resolved | News::Reminder | News::Test, _) => {
                tracing::info!(incident = id, kind, severity, title, news, "incident");
            }
            (_, Severity::Page) => tracing::error!(incident = id, kind, severity, title, news, "incident"),
            (_, Severity::Ticket) => tracing::warn!(incident = id, kind, severity, title, news, "incident"),
        }
        if event.news == News::Opened {
            self.parts
                .metrics
                .alarms
                .incidents_total
                .with_label_values(&[kind])
                .inc();
        }
        let message = text::message(event, &self.context());
        for channel in &self.channels {
            if event.severity() < channel.least {
                continue;
            }
            if let Some(lost) = self.memory.outbox.add(&channel.name, event, message.clone()) {
                self.given_up(&lost);
            }
        }
        self.dirty = true;
    }

    pub(super) fn given_up(&self, letter: &Letter) {
        tracing::error!(
            channel = letter.channel,
            incident = letter.incident,
            "a message of an incident is given up"
        );
        let counted = &self.parts.metrics.alarms.alarm_messages_total;
        counted.with_label_values(&[&letter.channel, "given_up"]).inc();
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            node: &self.parts.node,
            runbook: &self.parts.config.runbook,
            zone: &self.zone,
            wall: self.parts.clock.now(),
            steady: self.steady().0,
        }
    }

    fn count(&self) {
        let (metrics, machine) = (&self.parts.metrics, &self.memory.machine);
        for kind in Kind::ALL {
            for severity in [Severity::Ticket, Severity::Page] {
                let open = machine.incidents.iter();
                let open = open.filter(|incident| incident.kind == kind && incident.severity() == severity);
                let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
                let gauge = &metrics.alarms.incidents_open;
                gauge.with_label_values(&[kind.word(), severity.word()]).set(open);
            }
        }
        for channel in &self.channels {
            let waiting = i64::try_from(self.memory.outbox.waiting(&channel.name)).unwrap_or(i64::MAX);
            metrics
                .alarms
                .alarm_messages_waiting
                .with_label_values(&[&channel.name])
                .set(waiting);
        }
    }

    /// Gives each idle channel its next message.
    fn hand_out(&mut self) {
        let now = self.steady();
        for channel in self.channels.iter_mut().filter(|channel| !channel.busy) {
            if let Some(letter) = self.memory.outbox.next(&channel.name, now) {
                // Idle: its place is free. A channel whose task has ended is one of a box that stops.
                channel.busy = channel.letters.try_send(letter.clone()).is_ok();
            }
        }
    }

    fn attempted(&mut self, done: Done) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.name == done.channel) {
            channel.busy = false;
        }
        let result = if done.outcome.is_ok() { "delivered" } else { "failed" };
        let counted = &self.parts.metrics.alarms.alarm_messages_total;
        counted.with_label_values(&[&done.channel, result]).inc();
        let error = done.outcome.as_ref().err().map(|refusal| refusal.words.clone());
        if let Some(error) = &error {
            tracing::warn!(
                channel = done.channel,
                error,
                "a message of an incident was not taken; it is tried again"
            );
        }
        let tested = self.concludes_trial(&done, error);
        let now = self.steady();
        let outcome = if tested { Ok(()) } else { done.outcome };
        if let Some(letter) = self.memory.outbox.done(done.number, outcome, now) {
            self.given_up(&letter);
        }
        self.dirty = true;
        self.count();
    }

    async fn save(&mut self) {
        (self.memory.wall, self.memory.steady) = (self.parts.clock.now().0, self.steady().0);
        let (folder, memory) = (self.parts.folder.clone(), self.memory.clone());
        let saved = saved(move || store::save(&folder, STATE, &memory)).await;
        // The next change tries again.
        self.dirty = false;
        self.saved = Instant::now();
        let unwritten = &self.parts.metrics.alarms.state_unwritten;
        let before = unwritten.get();
        unwritten.set(i64::from(saved.is_err()));
        if let Err(error) = saved
            && before == 0
        {
            tracing::warn!(
                error,
                "the memory of the alarms cannot be written: after a restart people may be told twice; it is tried again"
            );
        }
    }

    async fn save_habits(&self) {
        let (folder, habits) = (self.parts.folder.clone(), self.habits.clone());
        if let Err(error) = saved(move || store::save(&folder, HABITS, &habits)).await {
            tracing::warn!(error, "the habits of the sources cannot be written");
        }
    }
}

async fn saved(write: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), String> {
    match tokio::time::timeout(SAVE_DEADLINE, tokio::task::spawn_blocking(write)).await {
        Ok(Ok(written)) => written.map_err(|error| error.to_string()),
        Ok(Err(_)) | Err(_) => Err("the disk does not answer".to_owned()),
    }
}

/// Starts a task for each configured channel.
fn channels(parts: &Parts, drain: &Drain) -> (Vec<Channel>, mpsc::Receiver<Done>) {
    let mail = parts.config.mail.iter().map(|mail| {
        let way = Way::Mail(Box::new(Mailer::new(mail.clone(), &parts.node)));
        (MAIL.to_owned(), mail.severity, way)
    });
    let webhooks = parts.config.webhooks.iter();
    let webhooks = webhooks.map(|hook| {
        (
            hook.name.clone(),
            hook.severity,
            Way::Webhook(Poster::new(hook.clone())),
        )
    });
    let ways: Vec<(String, Severity, Way)> = mail.chain(webhooks).collect();
    let (told, done) = mpsc::channel(ways.len().max(1));
    let start = |(name, least, way): (String, Severity, Way)| {
        let (letters, mut inbox) = mpsc::channel::<Letter>(1);
        let (told, channel, stop) = (told.clone(), name.clone(), drain.clone());
        drain.spawn("alarm channel", async move {
            while let Some(letter) = inbox.recv().await {
                let outcome = tokio::select! {
                    () = stop.stopping() => return,
                    outcome = way.send(&letter) => outcome,
                };
                let (channel, number) = (channel.clone(), letter.number);
                // Only a watch that has ended does not listen.
                let _ = told
                    .send(Done {
                        channel,
                        number,
                        outcome,
                    })
                    .await;
            }
        });
        Channel {
            name,
            least,
            letters,
            busy: false,
        }
    };
    (ways.into_iter().map(start).collect(), done)
}
