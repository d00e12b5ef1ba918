//! What an archive has failed at lately, and how long that is waited for.
use super::archive::{LOOK_MAX, LOOK_MIN};
use crate::base::clock::Wall;
use crate::spool::commitment::Study;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The first pause after a failure; each further one is twice as long, up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest wait for an answer, however often one failed to come.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// What went wrong lately.
#[derive(Default)]
pub(super) struct Trouble {
    /// Requests in a row that did not get through.
    pub(super) failures: u32,
    /// How often in a row the wait was too short, since the archive last answered anything.
    pub(super) unanswered: u32,
    /// When that was last counted: requests of before were waited for by the shorter wait, and say nothing of this one.
    counted: Wall,
    pub(super) resting: Resting,
    /// Since when the oldest waits, and when that was looked at.
    pub(super) oldest: Option<(Instant, Wall)>,
}

/// Studies whose request was not taken: each is asked for again after a pause of its own, which no other waits for.
#[derive(Default)]
pub(super) struct Resting {
    pub(super) studies: BTreeMap<Study, (u32, Instant)>,
    /// Studies in a row that were not taken.
    row: u32,
}

impl Resting {
    /// The pause before the next is asked for: none after the first, then longer, for the archive may refuse them all.
    pub(super) fn refused(&mut self, study: Study, now: Instant) -> Duration {
        let failures = self
            .studies
            .get(&study)
            .map_or(0, |(failures, _)| *failures)
            .saturating_add(1);
        self.studies.insert(study, (failures, now + pause(failures)));
        self.row = self.row.saturating_add(1);
        let longer = LOOK_MIN.saturating_mul(1 << self.row.min(16)).min(LOOK_MAX);
        if self.row > 1 { longer } else { Duration::ZERO }
    }

    pub(super) fn taken(&mut self, study: &Study) {
        self.row = 0;
        self.studies.remove(study);
    }

    /// Until the next pause is over.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let pauses = self
            .studies
            .values()
            .map(|(_, until)| until.saturating_duration_since(now));
        pauses.min()
    }

    /// The one whose pause has been over for longest.
    pub(super) fn rested(&self, now: Instant) -> Option<Study> {
        let over = self.studies.iter().filter(|(_, (_, until))| *until <= now);
        over.min_by_key(|(_, (_, until))| *until).map(|(study, _)| *study)
    }
}

/// After so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    PAUSE_MIN
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(PAUSE_MAX)
}

impl Trouble {
    /// A request that was made at `asked` was accepted and not answered in time.
    pub(super) fn lapsed(&mut self, asked: Wall, now: Wall) {
        if asked >= self.counted {
            self.unanswered = self.unanswered.saturating_add(1);
            self.counted = now;
        }
    }

    /// The archive has answered something, or owes nothing: it does answer.
    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
    }
}

/// How long the next answer is waited for.
pub(super) fn patience(within: Duration, unanswered: u32) -> Duration {
    within.saturating_mul(1 << unanswered.min(16)).min(WAIT_MAX.max(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_that_is_not_taken_rests_by_itself_and_the_longest_rested_is_next() {
        let (mut resting, start) = (Resting::default(), Instant::now());
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(resting.refused([1; 16], start), Duration::ZERO, "the next at once");
        assert_eq!(resting.refused([2; 16], after(1)), LOOK_MIN * 4);
        assert_eq!(resting.rested(after(1)), None);
        assert_eq!(resting.wait(after(1)), Some(Duration::from_secs(1)));
        assert_eq!(resting.rested(after(9)), Some([1; 16]));
        resting.refused([1; 16], after(9));
        assert_eq!(resting.rested(after(9)), Some([2; 16]));
        resting.taken(&[2; 16]);
        assert_eq!(
            (resting.rested(after(12)), resting.rested(after(13))),
            (None, Some([1; 16]))
        );
        assert_eq!(
            resting.refused([3; 16], after(13)),
            Duration::ZERO,
            "one was taken meanwhile"
        );
        for _ in 0..40 {
            assert!(resting.refused([1; 16], after(20)) <= LOOK_MAX);
        }
        assert_eq!(resting.rested(after(319)), Some([3; 16]));
        resting.taken(&[3; 16]);
        assert_eq!(
            (resting.rested(after(319)), resting.rested(after(320))),
            (None, Some([1; 16]))
        );
    }

    #[test]
    fn the_wait_grows_with_each_that_was_too_short_and_an_answer_ends_that() {
        let within = Duration::from_secs(60);
        let at = |seconds: u64| Wall(seconds * 1_000_000);
        let mut trouble = Trouble::default();
        let wait = |trouble: &Trouble| patience(within, trouble.unanswered).as_secs();
        assert_eq!(wait(&trouble), 60);
        // A busy box had ten under way: one silence, not ten.
        for number in 0..10 {
            trouble.lapsed(at(number), at(60 + number));
        }
        assert_eq!(wait(&trouble), 120);
        trouble.lapsed(at(60), at(180));
        assert_eq!(wait(&trouble), 240);
        // Something is answered, whatever else is not and is asked again.
        trouble.answered();
        assert_eq!(wait(&trouble), 60);
        trouble.lapsed(at(181), at(241));
        assert_eq!(wait(&trouble), 120);
        for number in 0..40 {
            trouble.lapsed(at(1_000 + number), at(1_000 + number));
        }
        assert_eq!(wait(&trouble), 86_400, "a day at most");
        assert_eq!(patience(Duration::from_secs(100_000), 3).as_secs(), 100_000);
    }
}
