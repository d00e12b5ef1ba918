//! Messages that are not delivered yet: bounded, on the disk with the incidents, tried again until they are too old. Pure.
use super::incident::{Event, News, Stamp};
use super::text::Text;
use crate::base::clock::Wall;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One message to one channel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Letter {
    pub number: u64,
    pub channel: String,
    pub incident: u64,
    pub news: News,
    /// When the incident began and when this was said.
    pub since: Stamp,
    pub at: Stamp,
    pub subject: String,
    pub body: String,
    pub json: serde_json::Value,
    pub due: Stamp,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Letter {
    /// The same for every attempt, different for every message.
    #[must_use]
    pub fn name(&self) -> String {
        match self.news {
            News::Opened => self.thread(),
            _ => format!("{}.{}", self.thread(), self.at),
        }
    }

    /// The same for all messages of an incident.
    #[must_use]
    pub fn thread(&self) -> String {
        format!("incident.{}.{}", self.incident, self.since)
    }
}

/// All of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outbox {
    pub letters: Vec<Letter>,
    last: u64,
}

/// Messages that wait, over all channels. What is older makes place.
pub const LETTERS_MAX: usize = 256;
/// The pauses between attempts.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// After this nobody wants to read it any more.
const TOO_OLD: Duration = Duration::from_secs(7 * 24 * 3600);

impl Outbox {
    /// Adds a message; answers one that had to make place.
    pub fn add(&mut self, channel: &str, event: &Event, text: Text) -> Option<Letter> {
        self.last += 1;
        self.letters.push(Letter {
            number: self.last,
            channel: channel.to_owned(),
            incident: event.incident.id,
            news: event.news,
            since: event.incident.since,
            at: event.at,
            subject: text.subject,
            body: text.body,
            json: text.json,
            due: event.at,
            attempts: 0,
            error: None,
        });
        (self.letters.len() > LETTERS_MAX).then(|| self.letters.remove(0))
    }

    /// The next message of a channel that is due. In order: a later one does not overtake an earlier one that waits; only a test does.
    #[must_use]
    pub fn next(&self, channel: &str, now: Wall) -> Option<&Letter> {
        let own = || self.letters.iter().filter(|letter| letter.channel == channel);
        let test = own().find(|letter| letter.news == News::Test);
        test.or_else(|| own().next()).filter(|letter| letter.due <= now.0)
    }

    /// The outcome of an attempt. Answers the message when it is given up.
    pub fn done(&mut self, number: u64, outcome: Result<(), String>, now: Wall) -> Option<Letter> {
        let index = self.letters.iter().position(|letter| letter.number == number)?;
        match outcome {
            Ok(()) => {
                self.letters.remove(index);
                None
            }
            Err(error) => {
                let letter = &mut self.letters[index];
                let pause = PAUSE_FIRST.saturating_mul(1 << letter.attempts.min(10)).min(PAUSE_MAX);
                letter.attempts += 1;
                letter.due = now.plus(pause).0;
                letter.error = Some(error);
                let too_old = now.0.saturating_sub(letter.at) > u64::try_from(TOO_OLD.as_micros()).unwrap_or(u64::MAX);
                too_old.then(|| self.letters.remove(index))
            }
        }
    }

    #[must_use]
    pub fn waiting(&self, channel: &str) -> usize {
        self.letters.iter().filter(|letter| letter.channel == channel).count()
    }

    /// Forgets what is for channels that are not there any more.
    pub fn keep(&mut self, channels: &[&str]) {
        self.letters
            .retain(|letter| channels.contains(&letter.channel.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::incident::Incident;
    use super::*;

    fn event(news: News, at: u64) -> Event {
        Event {
            news,
            at,
            incident: Incident::for_test(7, 1),
        }
    }

    fn text() -> Text {
        Text {
            subject: "s".to_owned(),
            body: "b".to_owned(),
            json: serde_json::Value::Null,
        }
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_message_is_tried_ever_more_slowly_and_given_up_after_a_week() {
        let mut outbox = Outbox::default();
        outbox.add("mail", &event(News::Opened, 0), text());
        let (mut now, mut attempts) = (0, 0);
        let lost = loop {
            match outbox.next("mail", Wall(now)) {
                None => now += SECOND,
                Some(letter) => {
                    attempts += 1;
                    let number = letter.number;
                    if let Some(lost) = outbox.done(number, Err("refused".to_owned()), Wall(now)) {
                        break lost;
                    }
                }
            }
        };
        assert!(now > 7 * 86_400 * SECOND && now < 8 * 86_400 * SECOND, "{now}");
        assert!((1_000..1_050).contains(&attempts), "{attempts}");
        assert_eq!((lost.error.as_deref(), outbox.letters.len()), (Some("refused"), 0));
    }

    #[test]
    fn channels_do_not_wait_for_each_other_and_a_test_waits_for_nobody() {
        let mut outbox = Outbox::default();
        for channel in ["mail", "pager"] {
            outbox.add(channel, &event(News::Opened, 0), text());
            outbox.add(channel, &event(News::Resolved, SECOND), text());
        }
        let first = outbox.next("mail", Wall(0)).unwrap().number;
        outbox.done(first, Err("x".to_owned()), Wall(0));
        assert_eq!(outbox.next("mail", Wall(SECOND)), None, "in order");
        assert_eq!(outbox.next("pager", Wall(0)).unwrap().news, News::Opened);
        outbox.add("mail", &event(News::Test, SECOND), text());
        assert_eq!(outbox.next("mail", Wall(SECOND)).unwrap().news, News::Test);
        outbox.keep(&["pager"]);
        assert_eq!((outbox.waiting("mail"), outbox.waiting("pager")), (0, 2));
    }

    #[test]
    fn the_oldest_makes_place() {
        let mut outbox = Outbox::default();
        for at in 0..LETTERS_MAX as u64 {
            assert!(outbox.add("mail", &event(News::Reminder, at), text()).is_none());
        }
        let lost = outbox.add("mail", &event(News::Opened, 9_999), text()).unwrap();
        assert_eq!((lost.at, outbox.letters.len()), (0, LETTERS_MAX));
    }
}
