//! How many associations a lane wants: pure. Called by the lane's machine; knows neither sessions nor clocks.
//!
//! While an instance is under way its association waits for the answer, so one association leaves a long line mostly empty.
//! By Little's law a full line needs as many associations as instances are answered in the time that one takes when nothing is
//! before it (`alone`): *rate × alone*. As long as every further association brings its full share, the line is not full, and
//! their number doubles. When answers take longer the more associations there are, the product stands still whatever their
//! number is, and so does the wish. The backlog bounds it: an association that has nothing to do is not opened.
//!
//! What may be at work (`Flow::room`) is the wish, one for what is urgent, one more while nobody answers, and never more than the
//! destination has granted.
use std::time::{Duration, Instant};

/// What a lane has seen of its destination lately.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Seen {
    /// Jobs in the lane's queue, those under way included.
    pub backlog: usize,
    /// Associations at work when it was measured.
    pub open: usize,
    /// What an instance takes from its first byte to its recorded answer when the line is its own.
    pub alone: Duration,
    /// Instances answered in a second, over all associations; zero while nothing is known.
    pub per_second: f64,
}

/// Associations wanted, 1 to `most`.
#[must_use]
pub fn wanted(seen: Seen, most: usize) -> usize {
    let busy = seen.per_second * seen.alone.as_secs_f64();
    let line = if seen.open == 0 || busy <= 0.0 {
        START
    } else if busy >= FULL_SHARE * as_f64(seen.open) {
        seen.open.saturating_mul(2).max(START)
    } else {
        // At most `FULL_SHARE * open` here, and so far below what a float holds exactly.
        as_usize((busy * HEADROOM).ceil()).saturating_add(SPARE)
    };
    let useful = seen.backlog.div_ceil(WORTH).max(1);
    line.min(useful).min(most).max(1)
}

/// How many jobs an association gets at once: its share of the backlog, within `most`.
#[must_use]
pub fn share(backlog: usize, wanted: usize, most: usize) -> usize {
    backlog.div_ceil(wanted.max(1)).clamp(1, most)
}

/// The lane's measure: what instances take, and how many are answered. Fed with every answer.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The shortest time for each class of length (a power of two), in this period and the one before it.
    shortest: [[Option<Duration>; CLASSES]; 2],
    period: Instant,
    /// Of the window at hand: when it began, answers, and what they would have taken alone.
    since: Instant,
    answers: u32,
    alone: Duration,
    /// Associations at work, and instances in flight on the one that was answered, added up at each answer.
    open: usize,
    together: usize,
    /// The present wish, decided once in a window of time.
    wanted: usize,
    /// Instances that a session of the lane lets be in flight.
    window: usize,
    /// The last answer, or the last time that nothing was under way; and the last answer alone.
    heard: Instant,
    answered: Option<Instant>,
    /// One when a silence has called for it since something is under way: whoever keeps silent has one of the others still.
    extra: usize,
    /// What instances took in the last window of time, on the average.
    usual: Duration,
    took: Duration,
    /// Associations that the destination grants, and until when that is believed: it refused one more.
    granted: Option<(usize, Instant)>,
}

/// One answer, as the worker saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Of the instance, in bytes.
    pub length: u64,
    /// From its payload to its record.
    pub took: Duration,
    /// Instances that its session lets be in flight.
    pub window: usize,
    /// Instances that were in flight there when the answer came, its own included.
    pub together: usize,
}

impl Flow {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            shortest: [[None; CLASSES]; 2],
            period: now,
            since: now,
            answers: 0,
            alone: Duration::ZERO,
            open: 0,
            together: 0,
            wanted: START,
            window: 1,
            heard: now,
            answered: None,
            extra: 0,
            usual: Duration::ZERO,
            took: Duration::ZERO,
            granted: None,
        }
    }

    /// An instance was answered and recorded; `open` associations, of `most`, were at work.
    pub fn answered(&mut self, answer: Answered, (open, most): (usize, usize), now: Instant) {
        if now.saturating_duration_since(self.period) > PERIOD {
            self.shortest = [[None; CLASSES], self.shortest[0]];
            self.period = now;
            // A line that is full never shows what an instance takes alone: for a moment fewer ask.
            self.wanted = (self.wanted / 4).max(START);
            self.rested(now);
        }
        self.window = answer.window.max(1);
        self.answers += 1;
        self.extra = self.extra.max(self.silences(now).min(1));
        self.heard = now;
        self.answered = Some(now);
        self.took += answer.took;
        if let Some((granted, until)) = &mut self.granted
            && now >= *until
            && open > *granted
        {
            (*granted, *until) = (open, now + GRANTED_FOR);
        }
        let alone = self.alone(answer.length, answer.took);
        self.alone += alone;
        self.open += open;
        self.together += answer.together.max(1);
        let window = now.saturating_duration_since(self.since);
        let mean = self.alone / self.answers;
        // Every association has answered about twice, or the window says more of chance than of the line.
        let enough = self.answers as usize >= 2 * open.max(1);
        if window >= WINDOW_MIN && (enough || window >= WINDOW_MAX.max(4 * mean)) {
            self.usual = self.took / self.answers;
            self.wanted = self.decided(mean, window, most);
            self.rested(now);
        }
    }

    /// What an instance of this length takes when the line is its own, as far as is known; `took` is one more of them.
    fn alone(&mut self, length: u64, took: Duration) -> Duration {
        let class = class(length);
        let known = [self.shortest[0][class], self.shortest[1][class]];
        let alone = known.into_iter().flatten().fold(took, Duration::min);
        self.shortest[0][class] = Some(self.shortest[0][class].map_or(took, |known| known.min(took)));
        alone
    }

    /// The wish that follows from a window of time, in associations. One with several instances in flight works like so many
    /// with one each; how many it really has in flight counts, not how many it may have: between two batches it has fewer.
    fn decided(&self, alone: Duration, span: Duration, most: usize) -> usize {
        let answers = f64::from(self.answers);
        let each = as_f64(self.together) / answers;
        let seen = Seen {
            backlog: usize::MAX,
            // Some were opened within the window: the mean is what its answers belong to.
            open: as_usize((as_f64(self.open) / answers).floor() * each),
            alone,
            per_second: answers / span.as_secs_f64(),
        };
        as_usize((as_f64(wanted(seen, usize::MAX)) / each).ceil()).clamp(1, most)
    }

    /// What follows is a new window, or a pause would count as slowness.
    fn rested(&mut self, now: Instant) {
        (self.since, self.answers, self.alone) = (now, 0, Duration::ZERO);
        (self.open, self.together, self.took) = (0, 0, Duration::ZERO);
        self.heard = now;
    }

    /// Nothing was under way, and something begins.
    pub fn begins(&mut self, now: Instant) {
        self.rested(now);
        self.extra = 0;
    }

    /// Whiles in which nobody answered, up to now: each calls for one association more.
    #[must_use]
    pub fn silences(&self, now: Instant) -> usize {
        let silence = now.saturating_duration_since(self.heard).as_micros();
        let each = self.usual.saturating_mul(SILENCES).max(SILENCE).as_micros();
        usize::try_from(silence / each).unwrap_or(usize::MAX)
    }

    /// The destination refused one more association while so many others work: what it grants. It is asked for one more each
    /// `GRANTED_FOR`, for it may have had other guests.
    pub fn refused_beyond(&mut self, others: usize, now: Instant) {
        self.granted = Some((others.max(1), now + GRANTED_FOR));
    }

    /// Whether the destination has answered within the last minute.
    pub fn is_answering(&self, now: Instant) -> bool {
        self.answered
            .is_some_and(|at| now.saturating_duration_since(at) < ANSWERING)
    }

    /// Associations that may be at work now, with `urgent` work or without: as many as are wanted, one for what is urgent, and one
    /// more for each while in which nobody answered, now or since something is under way. Without answers nothing is decided
    /// anew, and one long transfer would keep everything else waiting.
    pub fn room(&self, backlog: usize, most: usize, urgent: bool, now: Instant) -> usize {
        let more = self.extra.max(self.silences(now));
        let granted = match self.granted {
            Some((granted, until)) => granted + usize::from(now >= until),
            None => usize::MAX,
        };
        let wanted = self.wanted(backlog, most) + usize::from(urgent);
        wanted.saturating_add(more).min(granted).min(most).max(1)
    }

    /// The destination was lost: nothing that was seen of it counts for what comes back, but for what it grants, while that counts.
    pub fn forget(&mut self, now: Instant) {
        let granted = self.granted.filter(|(_, until)| now < *until);
        *self = Self {
            granted,
            ..Self::new(now)
        };
    }

    /// Jobs that a worker gets at once: enough that a session with a wide window does not run dry between two batches.
    #[must_use]
    pub fn batch(&self, least: usize) -> usize {
        if self.window <= 1 {
            return least;
        }
        least.max(4 * self.window).min(BATCH_MAX)
    }

    /// Associations wanted for this backlog, 1 to `most`.
    #[must_use]
    pub fn wanted(&self, backlog: usize, most: usize) -> usize {
        self.wanted.min(backlog.div_ceil(WORTH).max(1)).min(most).max(1)
    }
}

/// The length class: the position of the highest bit.
fn class(length: u64) -> usize {
    (64 - length.leading_zeros() as usize).min(CLASSES - 1)
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn as_usize(number: f64) -> usize {
    number as usize
}

/// Where a lane begins, as soon as its first association stands: the second one shows whether the line has room.
const START: usize = 2;
/// From this share of their time alone on, associations do not hinder each other yet.
const FULL_SHARE: f64 = 0.75;
/// Beyond what fills the line exactly, for what an association does between two instances. With it a full line's associations are
/// busy for two thirds of their time alone, well below `FULL_SHARE`: the wish does not swing.
const HEADROOM: f64 = 1.5;
/// So many always wait with something to send while the others wait for answers.
const SPARE: usize = 2;
/// Jobs that must wait for each association that is opened.
const WORTH: usize = 2;
const CLASSES: usize = 40;
/// Jobs that one worker may have in hand.
const BATCH_MAX: usize = 256;
/// A line's own time is looked for anew after this: routes and archives change.
const PERIOD: Duration = Duration::from_secs(600);
/// An answer is late when it takes so many times as long as they did of late, and never before `SILENCE`.
const SILENCES: u32 = 3;
/// Looked at no more often than this, so that it costs nothing.
pub const SILENCE: Duration = Duration::from_secs(5);
const ANSWERING: Duration = Duration::from_secs(60);
/// How long a refusal of one more association is believed.
const GRANTED_FOR: Duration = Duration::from_secs(30);
const WINDOW_MIN: Duration = Duration::from_millis(100);
const WINDOW_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
