//! Messages that are not delivered yet: bounded, on the disk with the incidents, tried again until they are too old. Pure.
use super::incident::{Event, News, Stamp};
use super::text::Text;
use crate::base::clock::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// Who does not have it yet, when others of the channel have it; empty: nobody has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// The channel has said of this very message that it never takes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
}

/// Why a message was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For the operator.
    pub words: String,
    /// The channel answers, and never takes this very message; it may take the next one.
    pub for_good: bool,
    /// Who does not have it, when others of the channel have it; empty: nobody has it.
    pub left: Vec<String>,
}

impl From<String> for Refusal {
    /// Of the channel, not of the message: it is down, or not configured as it should be.
    fn from(words: String) -> Self {
        Self {
            words,
            for_good: false,
            left: Vec::new(),
        }
    }
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

    /// Whether it lets messages of other incidents pass: what is wrong may be wrong with this one only.
    fn stands_aside(&self) -> bool {
        self.refused || !self.to.is_empty() || self.attempts >= PATIENCE
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
/// The same for one that was refused for good: a person has to do something first.
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_MAX: Duration = Duration::from_secs(3600);
/// A message that was tried so often stands before no other.
const PATIENCE: u32 = 4;
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
            to: Vec::new(),
            refused: false,
        });
        (self.letters.len() > LETTERS_MAX).then(|| self.letters.remove(0))
    }

    /// The next message of a channel that is due. In order: a later one does not overtake an earlier one that waits, but one that the
    /// channel refuses while it may take others; news of one incident stay in order all the same. A test waits for nobody.
    #[must_use]
    pub fn next(&self, channel: &str, now: Wall) -> Option<&Letter> {
        let own = || self.letters.iter().filter(|letter| letter.channel == channel);
        let is_due = |letter: &&Letter| letter.due <= now.0;
        let test = own().find(|letter| letter.news == News::Test && is_due(letter));
        if test.is_some() {
            return test;
        }
        let mut seen = BTreeSet::new();
        // Those who lack what others have do not keep the others waiting for what comes after it.
        let mut first_of_incident = |letter: &&Letter| seen.insert((letter.incident, letter.to.is_empty()));
        let heads: Vec<&Letter> = own().filter(|letter| first_of_incident(letter)).collect();
        let (aside, straight): (Vec<&Letter>, Vec<&Letter>) =
            heads.into_iter().partition(|letter| letter.stands_aside());
        let next = straight.into_iter().next().filter(is_due);
        next.or_else(|| aside.into_iter().find(is_due))
    }

    /// The outcome of an attempt. Answers the message when it is given up.
    pub fn done(&mut self, number: u64, outcome: Result<(), Refusal>, now: Wall) -> Option<Letter> {
        let index = self.letters.iter().position(|letter| letter.number == number)?;
        match outcome {
            Ok(()) => {
                self.letters.remove(index);
                None
            }
            Err(refusal) => {
                let letter = &mut self.letters[index];
                letter.refused |= refusal.for_good;
                let (first, longest) = if letter.refused {
                    (REFUSED_FIRST, REFUSED_MAX)
                } else {
                    (PAUSE_FIRST, PAUSE_MAX)
                };
                let pause = first.saturating_mul(1 << letter.attempts.min(10)).min(longest);
                letter.attempts += 1;
                letter.due = now.plus(pause).0;
                letter.error = Some(refusal.words);
                letter.to = refusal.left;
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
                    if let Some(lost) = outbox.done(number, Err("refused".to_owned().into()), Wall(now)) {
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
        outbox.done(first, Err("x".to_owned().into()), Wall(0));
        assert_eq!(outbox.next("mail", Wall(SECOND)), None, "in order");
        assert_eq!(outbox.next("pager", Wall(0)).unwrap().news, News::Opened);
        outbox.add("mail", &event(News::Test, SECOND), text());
        assert_eq!(outbox.next("mail", Wall(SECOND)).unwrap().news, News::Test);
        outbox.keep(&["pager"]);
        assert_eq!((outbox.waiting("mail"), outbox.waiting("pager")), (0, 2));
    }

    fn of(incident: u64, news: News, at: u64) -> Event {
        Event {
            incident: Incident::for_test(incident, 1),
            ..event(news, at)
        }
    }

    fn refused(left: &[&str]) -> Result<(), Refusal> {
        Err(Refusal {
            words: "it was answered 400".to_owned(),
            for_good: true,
            left: left.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn what_is_refused_for_good_stands_before_its_own_incident_only() {
        let mut outbox = Outbox::default();
        outbox.add("pager", &of(1, News::Opened, 0), text());
        outbox.add("pager", &of(1, News::Worse, 0), text());
        outbox.add("pager", &of(2, News::Opened, 0), text());
        assert_eq!(outbox.done(1, refused(&[]), Wall(0)), None);
        let next =
            |outbox: &Outbox, second: u64| outbox.next("pager", Wall(second * SECOND)).map(|letter| letter.number);
        assert_eq!(next(&outbox, 0), Some(3));
        // The channel is down: nothing overtakes, but what was refused may be tried.
        outbox.done(3, Err("cannot connect".to_owned().into()), Wall(0));
        assert_eq!((next(&outbox, 4), next(&outbox, 5)), (None, Some(3)));
        outbox.done(3, Ok(()), Wall(5 * SECOND));
        assert_eq!(
            (next(&outbox, 59), next(&outbox, 60)),
            (None, Some(1)),
            "a longer pause"
        );
        outbox.done(1, Ok(()), Wall(60 * SECOND));
        assert_eq!(next(&outbox, 60), Some(2), "in order");
    }

    #[test]
    fn one_that_fails_and_fails_lets_others_pass() {
        let mut outbox = Outbox::default();
        outbox.add("pager", &of(1, News::Opened, 0), text());
        outbox.add("pager", &of(2, News::Opened, 0), text());
        for _ in 0..PATIENCE {
            let first = outbox.letters[0].due;
            assert_eq!(outbox.next("pager", Wall(first)).unwrap().number, 1);
            outbox.done(1, Err("it was answered 500".to_owned().into()), Wall(first));
        }
        assert_eq!(outbox.next("pager", Wall(outbox.letters[0].at)).unwrap().number, 2);
    }

    #[test]
    fn who_is_refused_keeps_nobody_else_waiting() {
        let mut outbox = Outbox::default();
        outbox.add("mail", &of(1, News::Opened, 0), text());
        outbox.add("mail", &of(1, News::Resolved, 0), text());
        outbox.done(1, refused(&["nobody@site.example"]), Wall(0));
        assert_eq!(outbox.letters[0].to, ["nobody@site.example"]);
        assert_eq!(outbox.next("mail", Wall(0)).unwrap().number, 2);
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
