//! Whether the box's own clock can be right. Pure: it is shown the wall clock, the time that has passed, and what peers' clocks say.
//!
//! Certificates, retries for people and the times in images hang on it; nothing inside the box does (deadlines are monotonic).
use crate::base::clock::Wall;
use std::time::Duration;

/// A step of the wall clock against the time that has passed: more than any correction that a time service makes in daily life.
const JUMP: Duration = Duration::from_secs(60);
/// How long a jump is an alarm.
const JUMP_MEMORY: Duration = Duration::from_secs(3600);
/// The box's clock differs from the modalities' by more than this…
const PEERS_S: f64 = 600.0;
/// …when so many of them agree…
const PEERS_LEAST: usize = 3;
/// …to within this, and no other contradicts.
const AGREE_S: f64 = 300.0;
/// An image made this long before it came was sent late, or its clock is behind: only when all say so it is ours that is ahead.
const PEERS_BEHIND_S: f64 = -3_600.0;

/// Why the clock cannot be right.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Doubt {
    BeforeBuild,
    /// By how much, in seconds; above 0 it went ahead.
    Jumped(f64),
    /// Peers are ahead of the box by so many seconds (below 0: behind).
    Peers(f64),
}

impl Doubt {
    /// The label of the metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::BeforeBuild => "before_build",
            Self::Jumped(_) => "jumped",
            Self::Peers(_) => "peers",
        }
    }

    pub const WORDS: [&'static str; 3] = ["before_build", "jumped", "peers"];
}

/// Remembers what the clock said.
#[derive(Clone, Debug)]
pub struct ClockWatch {
    built: Wall,
    /// The wall clock and the time passed at the last look.
    before: Option<(Wall, Duration)>,
    jump: Option<(f64, Duration)>,
    pub jumps: u64,
}

impl ClockWatch {
    /// `last_run` is the wall clock's last known time, of the run before: a clock behind it was put back.
    #[must_use]
    pub fn new(built: Wall, last_run: Option<Wall>) -> Self {
        Self {
            built,
            before: last_run.map(|wall| (wall, Duration::ZERO)),
            jump: None,
            jumps: 0,
        }
    }

    /// A look: the wall clock, the time passed since the start of the box, and for each source that was heard of late how far its clock is ahead
    /// (seconds), by the least late of its images.
    pub fn look(&mut self, wall: Wall, passed: Duration, peers: &[f64]) -> Vec<Doubt> {
        if let Some((before, passed_before)) = self.before {
            let step = wall.seconds() - before.seconds() - passed.saturating_sub(passed_before).as_secs_f64();
            // Between two runs any time may have passed, but not less than none.
            let first = passed_before.is_zero();
            if step < -JUMP.as_secs_f64() || step > JUMP.as_secs_f64() && !first {
                self.jump = Some((step, passed));
                self.jumps += 1;
            }
        }
        // Never zero again, so that only the first look is the first.
        self.before = Some((wall, passed.max(Duration::from_micros(1))));
        let mut doubts = Vec::new();
        if wall < self.built {
            doubts.push(Doubt::BeforeBuild);
        }
        if let Some((step, at)) = self.jump
            && passed.saturating_sub(at) < JUMP_MEMORY
        {
            doubts.push(Doubt::Jumped(step));
        }
        doubts.extend(disagreement(peers).map(Doubt::Peers));
        doubts
    }
}

/// By how much the modalities are ahead of the box: all of them to the same side, and the three that tell the most, those least late,
/// agree.
fn disagreement(peers: &[f64]) -> Option<f64> {
    let mut peers = peers.to_vec();
    peers.sort_by(|a, b| b.total_cmp(a));
    let (most, least) = (*peers.first()?, *peers.last()?);
    let third = *peers.get(PEERS_LEAST - 1)?;
    if most - third > AGREE_S {
        None
    } else if least > PEERS_S {
        Some(third)
    } else if most < PEERS_BEHIND_S {
        Some(most)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: Wall = Wall(1_793_491_200_000_000);

    fn wall(seconds: i64) -> Wall {
        Wall(u64::try_from(1_793_491_200 + seconds).unwrap() * 1_000_000)
    }

    fn words(doubts: &[Doubt]) -> Vec<&'static str> {
        doubts.iter().map(Doubt::word).collect()
    }

    #[test]
    fn a_clock_before_the_build_is_wrong() {
        let mut watch = ClockWatch::new(BUILT, None);
        assert_eq!(words(&watch.look(Wall(0), Duration::ZERO, &[])), ["before_build"]);
        assert_eq!(
            words(&watch.look(wall(-1), Duration::from_secs(1), &[])),
            ["before_build", "jumped"]
        );
    }

    #[test]
    fn a_jump_is_an_alarm_for_an_hour() {
        let mut watch = ClockWatch::new(BUILT, None);
        let seconds = Duration::from_secs;
        assert!(watch.look(wall(100), seconds(100), &[]).is_empty());
        assert!(watch.look(wall(150), seconds(110), &[]).is_empty(), "a correction");
        assert_eq!(watch.look(wall(10_150), seconds(120), &[]), [Doubt::Jumped(9_990.0)]);
        assert_eq!(words(&watch.look(wall(13_000), seconds(3_000), &[])), ["jumped"]);
        assert!(watch.look(wall(13_721), seconds(3_721), &[]).is_empty());
        assert_eq!(watch.jumps, 1);
    }

    #[test]
    fn a_clock_behind_its_last_run_was_put_back_and_a_long_pause_is_none() {
        let mut back = ClockWatch::new(BUILT, Some(wall(90_000)));
        assert_eq!(back.look(wall(80_000), Duration::ZERO, &[]), [Doubt::Jumped(-10_000.0)]);
        let mut pause = ClockWatch::new(BUILT, Some(wall(90_000)));
        assert!(pause.look(wall(990_000), Duration::from_secs(2), &[]).is_empty());
    }

    #[test]
    fn three_modalities_that_agree_are_right() {
        let table: [(&[f64], Option<f64>); 9] = [
            (&[900.0, 900.0], None),
            (&[900.0, 890.0, 910.0], Some(890.0)),
            (&[900.0, 890.0, 2.0], None),
            // Images that were sent late, each by another time, are no agreement.
            (&[-7_201.0, -10_200.0, -13_201.0], None),
            (&[-7_201.0, -7_230.0, -7_205.0], Some(-7_201.0)),
            // One more that sends late changes nothing, and one that is right says that the box is.
            (&[-7_201.0, -13_201.0, -7_230.0, -7_205.0], Some(-7_201.0)),
            (&[-7_201.0, -7_230.0, -7_205.0, -5.0], None),
            (&[900.0, 2_000.0, 3_000.0], None),
            (&[], None),
        ];
        for (peers, wanted) in table {
            assert_eq!(disagreement(peers), wanted, "{peers:?}");
        }
    }
}
