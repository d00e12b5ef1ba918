//! What an operator's orders do to the alarms: list, acknowledge, silence, test. Each that changes something is in the log, in the
//! memory and on the custody ledger with who gave it and why.
use super::incident::{Event, Incident, News, Taken};
use super::order::{self, Answer, ChannelRow, Listing, Order, SilenceRow};
use super::silencing::{Meant, Silence};
use super::task::{Channel, Done, Watch};
use super::text;
use crate::base::units::Span;
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

    pub(super) async fn carry_out(&mut self, ask: Ask) {
        let Ask { who, order, reply } = ask;
        let answer = match order {
            Order::Test => return self.test(reply),
            Order::List => Ok(Answer::Listing(self.listing())),
            Order::Ack { incident, reason } => self.acknowledge(who, incident, &reason),
            Order::Silence { meant, span, reason } => self.silence(who, meant, span.0, &reason),
            Order::Unsilence { meant } => self.unsilence(&who, &meant),
        };
        // What a person did is on the ledger before it is answered; where the spool takes nothing, it is done all the same.
        let recorded = self.record().await;
        let answer = answer.map(|answer| match answer {
            Answer::Done { message } if !recorded => Answer::Done {
                message: format!("{message} (the ledger cannot record it now, and is told again)"),
            },
            answer => answer,
        });
        let _ = reply.send(answer);
    }

    fn acknowledge(&mut self, who: String, id: u64, reason: &str) -> Result<Answer, String> {
        let (reason, at) = (order::reason(reason)?, self.steady().0);
        let taken = Taken {
            who: who.clone(),
            reason: reason.clone(),
            at,
        };
        let taken = self.memory.machine.take(id, taken);
        let kind = taken.ok_or_else(|| format!("there is no open incident {id}"))?.word();
        tracing::info!(incident = id, who, reason, "an incident is acknowledged");
        self.did(&who, &format!("alarms: incident {id} ({kind}) acknowledged"), &reason);
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
        let others = machine.silences.iter().filter(|silence| silence.meant != meant);
        if others.count() >= SILENCES_MAX {
            return Err("there are too many silences: end one first".to_owned());
        }
        tracing::info!(%meant, who, reason, seconds = span.as_secs(), "an alarm is silenced");
        let until = self.steady().plus(span).0;
        let what = format!("alarms: {} silenced for {}", named(&meant), Span(span));
        self.did(&who, &what, &reason);
        let machine = &mut self.memory.machine;
        machine.silences.retain(|silence| silence.meant != meant);
        let silence = Silence {
            meant,
            until,
            who,
            reason,
        };
        // A name that is misspelt would be heard of at night.
        let covers_one = machine.incidents.iter().any(|incident| silence.covers(incident));
        let hint = if covers_one { "" } else { UNMET };
        let words = format!("{} is silenced{hint}", silence.meant);
        machine.silences.push(silence);
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
        self.did(who, &format!("alarms: the silence of {} ended", named(meant)), "");
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
                error: waiting.find_map(|letter| letter.error.clone()),
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
const UNMET: &str = "; it covers nothing that is open now: is the name right?";

/// A number alone says little two years later.
fn named(meant: &Meant) -> String {
    match meant {
        Meant::Incident(id) => format!("incident {id}"),
        Meant::Kind(_) | Meant::Subject(..) => meant.to_string(),
    }
}

fn done(message: String) -> Answer {
    Answer::Done { message }
}
