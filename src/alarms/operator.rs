//! What an operator's orders do to the alarms: list, acknowledge, silence, test. Each is in the log and in the memory with who gave it
//! and why.
use super::incident::{Event, Incident, News, Taken};
use super::order::{self, Answer, ChannelRow, Listing, Order, SilenceRow};
use super::silencing::{Meant, Silence};
use super::task::{Channel, Done, Watch};
use super::text;
use std::time::Duration;
use tokio::sync::oneshot;

/// An order that waits for its answer.
pub(super) struct Ask {
    pub who: String,
    pub order: Order,
    pub reply: oneshot::Sender<Result<Answer, String>>,
}

/// A test that waits for its channels.
pub(super) struct Trial {
    open: Vec<u64>,
    rows: Vec<ChannelRow>,
    reply: oneshot::Sender<Result<Answer, String>>,
}

impl Watch {
    /// Whether it was a test's message; answers the test when it was its last.
    pub(super) fn concludes_trial(&mut self, done: &Done, error: Option<String>) -> bool {
        let Some(at) = self.trials.iter().position(|trial| trial.open.contains(&done.number)) else {
            return false;
        };
        let trial = &mut self.trials[at];
        trial.open.retain(|number| *number != done.number);
        trial.rows.push(ChannelRow {
            name: done.channel.clone(),
            waiting: 0,
            error,
        });
        if trial.open.is_empty() {
            let trial = self.trials.remove(at);
            // Whoever asked may have gone.
            let _ = trial.reply.send(Ok(Answer::Tested { channels: trial.rows }));
        }
        true
    }

    pub(super) fn carry_out(&mut self, ask: Ask) {
        let Ask { who, order, reply } = ask;
        let answer = match order {
            Order::Test => return self.test(reply),
            Order::List => Ok(Answer::Listing(self.listing())),
            Order::Ack { incident, reason } => self.acknowledge(who, incident, &reason),
            Order::Silence { meant, span, reason } => self.silence(who, meant, span.0, &reason),
            Order::Unsilence { meant } => self.unsilence(&who, &meant),
        };
        let _ = reply.send(answer);
    }

    fn acknowledge(&mut self, who: String, id: u64, reason: &str) -> Result<Answer, String> {
        let (reason, at) = (order::reason(reason)?, self.steady().0);
        tracing::info!(incident = id, who, reason, "an incident is acknowledged");
        if !self.memory.machine.take(id, Taken { who, reason, at }) {
            return Err(format!("there is no open incident {id}"));
        }
        self.dirty = true;
        Ok(done(format!(
            "incident {id} is yours: no reminders, unless it gets worse"
        )))
    }

    fn silence(&mut self, who: String, meant: Meant, span: Duration, reason: &str) -> Result<Answer, String> {
        if span.is_zero() || span > SILENCE_MAX {
            return Err("a silence lasts up to 90 days".to_owned());
        }
        let reason = order::reason(reason)?;
        let machine = &mut self.memory.machine;
        if let Meant::Incident(id) = meant
            && !machine.incidents.iter().any(|incident| incident.id == id)
        {
            return Err(format!("there is no open incident {id}"));
        }
        tracing::info!(%meant, who, reason, seconds = span.as_secs(), "an alarm is silenced");
        let until = self.steady().plus(span).0;
        let machine = &mut self.memory.machine;
        machine.silences.retain(|silence| silence.meant != meant);
        if machine.silences.len() >= SILENCES_MAX {
            return Err("there are too many silences: end one first".to_owned());
        }
        let words = format!("{meant} is silenced");
        let silence = Silence {
            meant,
            until,
            who,
            reason,
        };
        machine.silences.push(silence);
        self.dirty = true;
        Ok(done(words))
    }

    fn unsilence(&mut self, who: &str, meant: &Meant) -> Result<Answer, String> {
        let silences = &mut self.memory.machine.silences;
        let before = silences.len();
        silences.retain(|silence| silence.meant != *meant);
        if silences.len() == before {
            return Err(format!("{meant} is not silenced"));
        }
        tracing::info!(%meant, who, "a silence is ended");
        self.dirty = true;
        Ok(done(format!("{meant} is heard again")))
    }

    fn listing(&self) -> Listing {
        let context = self.context();
        let machine = &self.memory.machine;
        let row = |incident: &Incident| {
            let silenced = machine.silences.iter().any(|silence| silence.covers(incident));
            order::row(incident, silenced, &context)
        };
        let silence = |silence: &Silence| SilenceRow {
            meant: silence.meant.to_string(),
            until: context.iso(silence.until),
            who: silence.who.clone(),
            reason: silence.reason.clone(),
        };
        let channel = |channel: &Channel| {
            let mut waiting = self
                .memory
                .outbox
                .letters
                .iter()
                .filter(|letter| letter.channel == channel.name);
            ChannelRow {
                name: channel.name.clone(),
                waiting: self.memory.outbox.waiting(&channel.name),
                error: waiting.next().and_then(|letter| letter.error.clone()),
            }
        };
        Listing {
            incidents: machine.incidents.iter().map(row).collect(),
            silences: machine.silences.iter().map(silence).collect(),
            channels: self.channels.iter().map(channel).collect(),
        }
    }

    /// A message to every channel; the answer waits for them.
    fn test(&mut self, reply: oneshot::Sender<Result<Answer, String>>) {
        if self.channels.is_empty() {
            let _ = reply.send(Err(
                "nobody would be told: configure [alarms.mail] or [[alarms.webhooks]]".to_owned(),
            ));
            return;
        }
        let at = self.steady().0;
        let event = Event {
            news: News::Test,
            at,
            incident: Incident::for_test(self.memory.machine.number(), at),
        };
        let message = text::message(&event, &self.context());
        let mut open = Vec::new();
        for channel in &self.channels {
            if let Some(lost) = self.memory.outbox.add(&channel.name, &event, message.clone()) {
                self.given_up(&lost);
            }
            open.extend(self.memory.outbox.letters.last().map(|letter| letter.number));
        }
        self.trials.push(Trial {
            open,
            rows: Vec::new(),
            reply,
        });
    }
}

/// The longest silence: what nobody wants to hear of for ever is switched off in the configuration.
const SILENCE_MAX: Duration = Duration::from_secs(90 * 86_400);
const SILENCES_MAX: usize = 256;

fn done(message: String) -> Answer {
    Answer::Done { message }
}
